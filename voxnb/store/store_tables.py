"""The reading half of `ContextStore`: its tables, searches and SQL, all as DataFrames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from voxnb.errors import ParameterError
from voxnb.params import did_you_mean, nearest
from voxnb.store import ledger, tables
from voxnb.store.database import Database

if TYPE_CHECKING:
    import pandas as pd


class StoreTables:
    """What a store can be asked.

    Attributes:
        database: the file.
    """

    database: Database

    # -- tables -------------------------------------------------------------------------------

    def _table(self, table: str, conversation: Any, **filters: Any) -> pd.DataFrame:
        for name in filters:
            if name not in tables.Filters.__annotations__:
                raise ParameterError(
                    f"unknown filter {name!r}{did_you_mean(name, tables.Filters.__annotations__)}; "
                    f"{table}() takes {', '.join(tables.Filters.__annotations__)}",
                    name=name,
                    nearest=nearest(name, tables.Filters.__annotations__),
                )
        row_id = self._row_id(conversation)
        frame: pd.DataFrame = getattr(tables, table)(self.database, conversation=row_id, **filters)
        return frame

    def _row_id(self, conversation: Any) -> int | None:
        """Row of a conversation by name, id or object; 0, which no row has, for one in which nothing was said yet."""
        if conversation is None:
            return None
        with self.database.reader() as c:
            if isinstance(conversation, str):
                return ledger.need(c, conversation).id
            row = ledger.find(c, getattr(conversation, "id", conversation))
            return row.id if row is not None else 0

    @tables.documented
    def conversations(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Conversations of the store."""
        return self._table("conversations", conversation, **filters)

    @tables.documented
    def turns(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Turns: number, state, what was asked and answered, tokens, what covers it."""
        return self._table("turns", conversation, **filters)

    @tables.documented
    def messages(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Messages, in order, with their token counts and content hashes."""
        return self._table("messages", conversation, **filters)

    @tables.documented
    def summaries(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Summaries with their rounds, prompts, models and tokens."""
        return self._table("summaries", conversation, **filters)

    @tables.documented
    def coverage(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """The coverage ledger: which turns each summary was made from."""
        return self._table("coverage", conversation, **filters)

    @tables.documented
    def calls(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Calls to models, with estimated and reported tokens."""
        return self._table("calls", conversation, **filters)

    @tables.documented
    def events(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Events that were kept."""
        return self._table("events", conversation, **filters)

    @tables.documented
    def media(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Media streams of spoken conversations."""
        return self._table("media", conversation, **filters)

    @tables.documented
    def prompts(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Saved prompts with their versions."""
        return self._table("prompts", conversation, **filters)

    @tables.documented
    def notes(self, conversation: Any = None, **filters: Any) -> pd.DataFrame:
        """Notes on conversations, turns and summaries."""
        return self._table("notes", conversation, **filters)

    def stamp(self) -> tuple[int, int]:
        """A value that is another one after every change of the store, seen from the same thread; for views."""
        return self.database.stamp()

    # -- looking ------------------------------------------------------------------------------

    def search(self, text: str, /, *, conversation: Any = None, **options: Any) -> pd.DataFrame:
        """Messages that hold the words, newest first.

        Args:
            text: words; ``"a phrase"`` in quotes, ``begin*`` for a prefix. Nothing in it is an operator.
            conversation: only in this one.
            **options: ``limit``, ``rank=True`` (best first), ``since``, ``until``.
        """
        from voxnb.store import search

        row_id = self._row_id(conversation)
        return search.search(self.database, text, conversation=row_id, **options)

    def sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] = (), /) -> pd.DataFrame:
        """Any SELECT on the tables, as a DataFrame; writing is refused.

        ``message_fts`` is the search index; in a read-only store it lacks the newest messages, which `search` finds.
        """
        from voxnb.store import search

        return search.sql(self.database, query, params)
