"""`ContextStore`: conversations in one SQLite file, as tables, by name, from any thread."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from voxnb.errors import UnknownConversationError
from voxnb.messages import group_turns, parse_messages, split_instructions
from voxnb.runtime import config, packages
from voxnb.store import ledger
from voxnb.store.database import MEMORY, Database
from voxnb.store.ids import new_id
from voxnb.store.importing.draft import MAX_ITEM_BYTES
from voxnb.store.journal import append_turn
from voxnb.store.place import empty_log
from voxnb.store.report import counted
from voxnb.store.store_tables import StoreTables
from voxnb.store.trouble import mapped
from voxnb.store.verify import Verdict, verify

if TYPE_CHECKING:
    from voxnb.runtime.progress import Progress
    from voxnb.store.conversation import Conversation
    from voxnb.store.merging.report import Merge
    from voxnb.store.planner import Planner
    from voxnb.store.prompts import Prompt
    from voxnb.store.report import ExportReport, ImportReport


class ContextStore(StoreTables):
    """Conversations in SQLite: every turn, every summary with what it was made from, every call.

    Usable from any thread and from several processes at once. ``store["name"]`` is a conversation; the tables are
    methods that give DataFrames.

    Args:
        path: the file; default ``VOXNB_STORE``, else ``.voxnb/store.db`` at the project root (the nearest parent with
            ``.git`` or ``pyproject.toml``, else the working directory). ``":memory:"`` keeps nothing.
        read_only: open an existing file without the right to write.

    Raises:
        StoreFormatError: another program's database, damaged, or newer than this voxnb.
        StoreReadOnlyError: not writable, or read-only and not there.

    >>> store = ContextStore(":memory:")
    >>> _ = store.append("iris", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    >>> store["iris"].turns()[["seq", "user_text", "reply_text"]].values.tolist()
    [[1, 'Hi', 'Hello.']]
    """

    def __init__(self, path: str | Path | None = None, *, read_only: bool = False) -> None:
        file = default_path() if path is None else path
        if str(file) != MEMORY:
            file = config.expanded(file).absolute()
            if not read_only and file.parent.name == config.FOLDER:
                with mapped(str(file)):
                    ignore_in_git(file.parent)
        self.database = Database(file, read_only=read_only)
        self.unwritten: list[tuple[int, Callable[[Any], object]]] = []
        """Ends of turns that there was no room for when they came: row, and what writes it; for whoever asks next."""

    # -- one instance per file, for clients that name a path ----------------------------------

    _shared: ClassVar[weakref.WeakValueDictionary[tuple[int, str], ContextStore]] = weakref.WeakValueDictionary()
    _shared_lock = threading.Lock()

    @classmethod
    def shared(cls, path: str | Path | None = None) -> ContextStore:
        """The store of a path that this process has open already, else a new one; also where its file was replaced."""
        if path is not None and str(path) == MEMORY:
            return cls(MEMORY)
        file = str(config.expanded(default_path() if path is None else path).absolute())
        with cls._shared_lock:
            key = (os.getpid(), file)
            store = cls._shared.get(key)
            if store is None or store.database.unusable():
                store = cls._shared[key] = cls(file)
            return store

    # -- facts --------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The file, or ``:memory:``."""
        return self.database.path

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self.database.read_only

    def __repr__(self) -> str:
        if state := self.database.unusable():
            return f"<ContextStore {self.path!r}, {state}>"
        conversations, turns = len(self), self.database.read("SELECT count(*) FROM turn")[0][0]
        mode = ", read-only" if self.read_only else ""
        return f"<ContextStore {self.path!r}: {counted(conversations, 'conversation')}, {counted(turns, 'turn')}{mode}>"

    def __len__(self) -> int:
        return int(self.database.read("SELECT count(*) FROM conversation")[0][0])

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    # -- conversations ------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Conversation:
        """A conversation by name or id.

        Raises:
            UnknownConversationError: there is none; the message names the nearest.
        """
        from voxnb.store.conversation import Conversation

        if not isinstance(name, str):
            raise UnknownConversationError(
                f"there is no conversation {name!r}: name it by its name or id, or take latest()", name=str(name)
            )
        with self.database.reader() as c:
            row = ledger.need(c, name)
        return Conversation(self, uid=row.uid, name=row.name)

    def __contains__(self, name: object) -> bool:
        with self.database.reader() as c:
            return isinstance(name, str) and ledger.find(c, name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def _names(self) -> list[str]:
        return [name for (name,) in self.database.read("SELECT name FROM conversation ORDER BY id")]

    def _ipython_key_completions_(self) -> list[str]:
        return self._names()

    def latest(self) -> Conversation:
        """The conversation that was spoken in last.

        Raises:
            UnknownConversationError: the store is empty.
        """
        rows = self.database.read("SELECT uid FROM conversation ORDER BY last_turn_at DESC, id DESC LIMIT 1")
        if not rows:
            raise UnknownConversationError("the store has no conversation yet; ask something first", name="latest")
        return self[rows[0][0]]

    def widget(self) -> Any:
        """A panel of the conversations for notebooks: search, read, compare two, fork, export, delete (it asks first).

        Where no widgets are, it is a table as text. It can be shown several times, and ends with ``close()``.
        """
        packages.import_apart("anywidget")
        return config.load("store_widget")(self)

    def append(self, conversation: str, messages: Iterable[Mapping[str, Any]], /) -> Conversation:
        """Add messages without a model: history from elsewhere, one turn per user message and its answers.

        Args:
            conversation: name or id; made if it is not there.
            messages: dicts as in a request. Leading system messages become the instructions.

        Raises:
            MessageError: not a message list.
        """
        from voxnb.store.conversation import Conversation

        instructions, rest = split_instructions(parse_messages(messages))
        measure = self.planner(None).measure
        counted = {id(m): measure(m) for m in (*instructions, *rest)}
        now = time.time()

        def work(c: Any) -> tuple[str, str]:
            row = ledger.find(c, conversation)
            if row is None:
                row = ledger.create(c, uid=new_id("k"), name=conversation, now=now)
            if instructions:
                row = ledger.set_instructions(c, row, [counted[id(m)] for m in instructions])
            groups = list(group_turns(rest))
            for n, group in enumerate(groups, start=1):
                last = n == len(groups)
                row = append_turn(c, row, group, measure=lambda m: counted[id(m)], now=now, may_go_on=last)
            return row.uid, row.name

        uid, name = self.database.write(work, durable=True).result()
        return Conversation(self, uid=uid, name=name)

    def import_conversations(
        self,
        source: Any,
        /,
        *,
        format: str | None = None,  # noqa: A002 - the word users know from pandas
        columns: Mapping[str, str] | None = None,
        roles: Mapping[str, str] | None = None,
        copy: bool = False,
        max_item_bytes: int = MAX_ITEM_BYTES,
        progress: Progress = None,
    ) -> ImportReport:
        """Bring conversations in from elsewhere; each is stored whole or not at all.

        Files are read in pieces, so memory is bounded by the longest conversation. What is in the store already is
        recognised (by the source's ids, else by what was said) and not doubled; turns that a newer export added to it are.
        An interrupt keeps what is stored; importing again goes on from there.

        Args:
            source: a path (gzip, bzip2 and xz are unpacked), a DataFrame with a row per message, or an iterable of dicts (a
                row per message, or ``{"messages": […]}`` per conversation).
            format: ``jsonl`` (our own), ``openai`` (chat and fine-tuning JSONL), ``chatgpt`` (``conversations.json``),
                ``langchain``, ``llm`` (``logs.db``), ``csv``, ``parquet``, ``qmsum``; None looks at the file.
            columns: for rows, our names → the source's: ``conversation``, ``role``, ``content``, ``created_at``, ``model``,
                ``name``, ``title``, ``tool_calls``, ``tool_call_id``, ``parts``, ``reasoning``, ``refusal``.
            roles: the source's names of roles → ``user``, ``assistant``, ``system`` …
            copy: import what is known already once more, under new ids.
            max_item_bytes: longer lines are passed over and reported.
            progress: None shows a bar where somebody can see it; or a bool, or a function of (done, total).

        Returns:
            How much was added, and what was skipped (messages, fields, columns), with line numbers.

        Raises:
            ParameterError: an unknown format, or columns that are not there; the message names the nearest.
            StoreFormatError: the file is nothing that is known.
            StoreError: it cannot be read, or the store cannot be written.

        >>> store = ContextStore(":memory:")
        >>> rows = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
        >>> store.import_conversations([{"id": "7", "title": "iris", "messages": rows}])
        imported 1 conversation, 1 turn, 2 messages from 'an iterable' (openai)
        >>> store.import_conversations([{"id": "7", "title": "iris", "messages": rows}]).known
        1
        """
        from voxnb.store.importing.load import load

        return load(
            self.database,
            source,
            format=format,
            columns=columns,
            roles=roles,
            copy=copy,
            max_item_bytes=max_item_bytes,
            progress=progress,
        )

    def export_conversations(
        self,
        path: str | Path,
        /,
        *,
        conversations: Iterable[Any] | None = None,
        format: str | None = None,  # noqa: A002 - the word users know from pandas
        overwrite: bool = False,
        progress: Progress = None,
    ) -> ExportReport:
        """Write conversations to one file, which appears whole or not at all.

        Args:
            path: where to; the suffix says the format.
            conversations: names, ids or `Conversation` objects; None for all.
            format: ``jsonl`` (everything; what `import_conversations` reads back exactly), ``openai`` (fine-tuning
                JSONL), ``csv`` or ``parquet`` (a row per message), ``md`` or ``html`` (to read).
            overwrite: replace a file that is there.
            progress: None shows a bar where somebody can see it; or a bool, or a function of (done, total).

        Returns:
            How much was written, and what the format has no place for; usable as the path.

        Raises:
            ParameterError: an unknown format.
            UnknownConversationError: there is no such conversation.
            StoreError: the file is there, or cannot be written; for Parquet also that pyarrow is missing.

        >>> import tempfile, pathlib
        >>> store = ContextStore(":memory:")
        >>> _ = store.append("iris", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = store.export_conversations(pathlib.Path(folder) / "all.jsonl")
        >>> report.conversations, report.turns, report.left_out
        (1, 1, ())
        """
        from voxnb.store.exporting.export import export

        return export(
            self.database, path, conversations=conversations, format=format, overwrite=overwrite, progress=progress
        )

    def planner(self, model: str | None, /) -> Planner:
        """How requests are counted and laid out where no client says it."""
        from voxnb.store.planner import default_planner

        return default_planner(model)

    # -- the proof, and doors for others ------------------------------------------------------

    def verify(self) -> Verdict:
        """Check that nothing is lost: truthy when all holds, else see ``.problems``."""
        with self.database.snapshot() as c:
            return verify(c)

    @property
    def db(self) -> Any:
        """A read-only ``sqlite_utils.Database`` of this thread."""
        packages.import_apart("sqlite_utils")
        from sqlite_utils import Database as SqliteUtilsDatabase

        with self.database.reader() as c:
            return SqliteUtilsDatabase(c, recursive_triggers=False, execute_plugins=False)

    # -- prompts and notes --------------------------------------------------------------------

    def save_prompt(self, name: str, text: str, /) -> Prompt:
        """Save a prompt; another text under the same name is its next version."""
        from voxnb.store import prompts

        return prompts.save_prompt(self.database, name, text)

    def prompt(self, name: str, /) -> Prompt:
        """A saved prompt: ``"name"`` is the newest, ``"name@3"`` the third."""
        from voxnb.store import prompts

        return prompts.get_prompt(self.database, name)

    def note(self, target: Any, text: str, /, *, label: str | None = None) -> None:
        """Write a note on a conversation, a turn or a summary (its id, or the object)."""
        from voxnb.store import prompts

        prompts.note(self.database, getattr(target, "id", target), text, label=label)

    # -- the file -----------------------------------------------------------------------------

    def backup(self, path: str | Path, /) -> Path:
        """Copy the store, while it is in use, to a new file with mode 0600.

        Raises:
            StoreError: the file exists, or there is no room for it; no half of it is left behind.
            StoreGoneError: the store's own file was removed or replaced, and nothing has it open any more.
        """
        return self.database.backup(config.expanded(path).absolute())

    def merge(self, path: str | Path, /) -> Merge:
        """Unite with another store by global ids: what is new there is added here, the other file is only read.

        Conversations, turns with every course they took, summaries, calls, events, prompts, notes, pins. A conversation
        that went on differently in both keeps its course here; the other's becomes a fork. Merging again adds nothing. All
        of it or, on an error or an interrupt, nothing.

        Returns:
            What was new, what was here, and names and versions that had to change.

        Raises:
            StoreError: there is no such file, or it is this store.
            StoreFormatError: it is no store, or of a newer voxnb.
        """
        from voxnb.store.merging import merge

        return merge.merge(self.database, path)

    def compact(self) -> bool:
        """Rewrite the file without free pages (needs room for a copy) and empty the log; False if a reader prevents it."""
        from voxnb.store import erase

        def job(c: Any) -> bool:
            erase.rewrite(c)
            return empty_log(c)

        return self.database.perform(job).result()

    def checkpoint(self) -> bool:
        """Write the log back into the file and empty it; False if a reader prevents it for a second."""
        return self.database.perform(empty_log).result()

    def close(self) -> None:
        """Finish waiting writes and close the file; a second call does nothing."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def default_path() -> Path | str:
    """Where a store is kept that nobody named."""
    named = config.default_store_path()
    return named if named is not None else config.project_root() / config.FOLDER / "store.db"


def ignore_in_git(folder: Path) -> None:
    """Make the folder with a ``.gitignore`` of its own: conversations do not belong into a repository."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="utf-8") as file:
        file.write("*\n")
