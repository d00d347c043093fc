"""The tables of one conversation: those of its store, filtered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxnb.runtime import config
from voxnb.store import ledger, pages, tables

if TYPE_CHECKING:
    import pandas as pd

    from voxnb.store.context_store import ContextStore
    from voxnb.store.pages import Page


class ConversationTables:
    """What a conversation can be asked; every table takes the store's filters (``since, until, limit, columns``).

    Attributes:
        store: its store.
        id: public id.
    """

    store: ContextStore
    id: str

    @tables.documented
    def turns(self, **filters: Any) -> pd.DataFrame:
        """Its turns, inherited ones of a fork included."""
        return self.store.turns(self, **filters)

    @tables.documented
    def messages(self, **filters: Any) -> pd.DataFrame:
        """Its messages."""
        return self.store.messages(self, **filters)

    @tables.documented
    def summaries(self, **filters: Any) -> pd.DataFrame:
        """Its summaries."""
        return self.store.summaries(self, **filters)

    @tables.documented
    def coverage(self, **filters: Any) -> pd.DataFrame:
        """Which turns each of its summaries was made from."""
        return self.store.coverage(self, **filters)

    @tables.documented
    def calls(self, **filters: Any) -> pd.DataFrame:
        """Calls made for it."""
        return self.store.calls(self, **filters)

    @tables.documented
    def events(self, **filters: Any) -> pd.DataFrame:
        """Events that were kept of it."""
        return self.store.events(self, **filters)

    @tables.documented
    def media(self, **filters: Any) -> pd.DataFrame:
        """Its media streams."""
        return self.store.media(self, **filters)

    @tables.documented
    def prompts(self, **filters: Any) -> pd.DataFrame:
        """The saved prompts that its summaries were made with."""
        return self.store.prompts(self, **filters)

    @tables.documented
    def notes(self, **filters: Any) -> pd.DataFrame:
        """Notes on it, its turns and its summaries."""
        return self.store.notes(self, **filters)

    def plot_tokens(self, *, last: int = 60) -> Any:
        """What its requests were made of, turn by turn: a picture with its numbers, and the lines at which it folds and ends.

        Args:
            last: how many turns.

        Returns:
            A figure, shown by a cell's last line; ``.df`` has the numbers, ``.svg`` the picture, ``.chart`` altair's chart
            (extra ``[plots]``).

        Raises:
            ParameterError: `last` is no count.
        """
        return config.load("plot_tokens")(self, last=last)

    def plot_folds(self) -> Any:
        """What each fold kept and saved; see `plot_tokens`."""
        return config.load("plot_folds")(self)

    def plot_latency(self, *, last: int = 60) -> Any:
        """How long it took, turn by turn; of a call, from the user's last word to the first sound. See `plot_tokens`.

        Args:
            last: how many turns.
        """
        return config.load("plot_latency")(self, last=last)

    def search(self, text: str, /, **options: Any) -> pd.DataFrame:
        """Search in it; see `ContextStore.search`."""
        return self.store.search(text, conversation=self, **options)

    def page(self, *, before: int | None = None, limit: int = 30) -> Page:
        """Some turns of its path, oldest first, with all their messages; for views.

        Args:
            before: only turns with a smaller number; None for the newest.
            limit: at most so many.
        """
        with self.store.database.snapshot() as c:
            row = ledger.find(c, self.id)
            return pages.EMPTY if row is None else pages.page(c, row, before=before, limit=limit)
