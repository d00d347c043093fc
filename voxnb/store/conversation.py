"""`Conversation`: the verbs over one conversation. Widgets, magics and the command line only call these."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxnb.errors import ConversationError, UnknownConversationError
from voxnb.messages import parse_messages, split_instructions
from voxnb.store import counts, ending, erase, explain, folding, history, ledger, naming, pins, receipt, redact
from voxnb.store.conversation_tables import ConversationTables
from voxnb.store.ids import new_id
from voxnb.store.planner import Planner, measure_for
from voxnb.store.report import counted
from voxnb.store.rows import ConversationRow, checked_name
from voxnb.store.schema import MAX_SEQ
from voxnb.store.views import Plan, Summary, load_summary

if TYPE_CHECKING:
    from voxnb.store.context_store import ContextStore
    from voxnb.store.receipt import Receipt
    from voxnb.store.redact import Redaction
    from voxnb.store.report import ExportReport


class Conversation(ConversationTables):
    """One conversation of a store: its turns, its summaries, and what can be done with them.

    From ``chat.conversation`` or ``store["name"]``. Verbs that call a model (`fold`, `retry`) need the client it came
    from, or one passed in; the rest work on the store alone. Turns are named by number (1, -1), id, `Turn` or `Reply`.

    Attributes:
        store: its store.
        id: public id.
        client: the client it came from, or None.
    """

    def __init__(self, store: ContextStore, *, uid: str, name: str, client: Any = None) -> None:
        self.store = store
        self.id = uid
        self.client = client
        self._name = name

    # -- facts --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name in the store."""
        row = self._find()
        return row.name if row else self._name

    @property
    def exists(self) -> bool:
        """Whether it has been written: a conversation's row comes with its first turn."""
        return self._find() is not None

    def _find(self) -> ConversationRow | None:
        with self.store.database.reader() as c:
            return ledger.find(c, self.id)

    def row(self) -> ConversationRow:
        """Its row as it is now.

        Raises:
            UnknownConversationError: nothing was said yet, or it was deleted.
        """
        with self.store.database.reader() as c:
            return self._row(c)

    def _row(self, c: Any) -> ConversationRow:
        row = ledger.find(c, self.id)
        if row is None:
            said = f"the conversation {self._name!r} has no turn yet, or was deleted; ask something"
            raise UnknownConversationError(said, name=self._name)
        return row

    def __len__(self) -> int:
        row = self._find()
        return row.last_seq if row else 0

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        if state := self.store.database.unusable():
            return f"<Conversation {self._name!r}, store {state}>"
        row = self._find()
        if row is None:
            return f"<Conversation {self._name!r}, nothing said yet>"
        folded = f", {row.folded_to} folded" if row.folded_to else ""
        return f"<Conversation {row.name!r}: {counted(row.last_seq, 'turn')}{folded}, {row.uid}>"

    # -- looking ------------------------------------------------------------------------------

    def plan(self, messages: Iterable[Mapping[str, Any]] | str | None = None, /) -> Plan:
        """What would be sent next; nothing is sent or stored.

        Args:
            messages: what would be asked; None shows the part that is there already.

        Raises:
            HistoryConflictError: the messages contradict the stored history.
            MessageError: not a message list, or a tool result that no call waits for.
        """
        new = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        leading, rest = split_instructions(parse_messages(new or []))
        ending.close_left(self.store.database, self.id, now=time.time())
        with self.store.database.snapshot() as c:
            planner = self._planner()
            row = ledger.find(c, self.id)
            snapshot = counts.load(c, row, measure=planner.measure) if row else planner.empty_snapshot(None)
            if rest and row is not None:
                fresh = history.new_messages(c, row, rest)
                snapshot = planner.with_new(snapshot, fresh.messages, after=fresh.after)
            elif rest:
                snapshot = planner.with_new(snapshot, rest, after=0)
            wanted = leading or (planner.instructions if row is None or not planner.instructions_said else ())
            if wanted:
                instructions = tuple(planner.measure(m).said(n) for n, m in enumerate(wanted))
                snapshot = planner.with_instructions(snapshot, instructions)
            return Plan(planner.lay_out(snapshot), planner.parameters, tools=None)

    def explain(self, which: Any = -1, /) -> Plan:
        """The request of a past turn, rebuilt exactly and checked by its hash; or what a summary was shown.

        Args:
            which: a turn, or a `Summary`.

        Raises:
            ConversationError: the turn was not asked of a model here (it was imported or appended).
        """
        if isinstance(which, Summary):
            return self._explain_summary(which)
        with self.store.database.snapshot() as c:
            seq, turn_id = self._turn(c, which)
            call = explain.last_call(c, turn_id)
            if call is None:
                raise ConversationError(f"turn {seq} was not asked of a model here; it was appended or never sent")
            rebuilt = explain.rebuild(c, call, measure_for=measure_for)
        return Plan(
            rebuilt.layout,
            rebuilt.parameters,
            tools=rebuilt.tools,
            seq=seq,
            exact=rebuilt.exact,
            api=rebuilt.api,
            redacted=rebuilt.redacted,
        )

    def _explain_summary(self, summary: Summary) -> Plan:
        with self.store.database.snapshot() as c:
            shown = explain.shown(c, summary.row_id)
            previous = summary.previous
            return self._planner().explain_summary(summary, shown, previous.text if previous else None)

    def summary(self, n: int = -1, /) -> Summary | None:
        """The n-th summary of the chain, -1 the one that is sent; None if nothing was folded, ConversationError for another n."""
        chain: list[int] = []
        row = self._find()
        with self.store.database.snapshot() as c:
            head = row.head if row else None
            while head is not None:
                chain.append(head)
                (head,) = c.execute("SELECT previous FROM summary WHERE id = ?", (head,)).fetchone()
        chain.reverse()
        try:
            return load_summary(self.store, chain[n])
        except (IndexError, TypeError):
            if n in (-1, 0):
                return None
            raise ConversationError(
                f"there are {counted(len(chain), 'summary')}, none is number {n!r}; -1 is the newest"
            ) from None

    def receipt(self, which: Any = -1, /) -> Receipt:
        """What a turn took (tokens as reported, money where prices are known, time, folds), and what is left for the next.

        Args:
            which: a turn.

        Raises:
            ConversationError: there is no such turn.
        """
        plan = self.plan()
        with self.store.database.snapshot() as c:
            seq, turn_id = self._turn(c, which)
            return receipt.of_turn(c, self._row(c), seq=seq, turn_id=turn_id, plan=plan)

    # -- folding ------------------------------------------------------------------------------

    def fold(self, through: Any = None, *, client: Any = None) -> Any:
        """Fold now: all turns up to ``through``, or all but the newest `keep_last_turns`.

        Returns at once; wait with ``.result()`` or ``await``. The result is the new `Summary`, or None if there was
        nothing to fold.

        Args:
            through: the last turn to fold.
            client: the client whose summary model writes; default the one this came from.

        Raises:
            ConversationError: there is no client.
            SummaryError: (on waiting) the summary was not accepted, or the request would not become shorter by it (then
                ``.reason`` is "growing"); the conversation is as it was.
        """
        return self._need_client(client, "fold").fold_conversation(self, through=through)

    def unfold(self) -> Summary | None:
        """Take the newest summary back: its turns are sent verbatim again. The summary stays in the store.

        Returns:
            The summary that was taken back, or None.
        """
        row_id = self.row().id
        undone = self.store.database.write(lambda c: folding.unfold(c, row_id), durable=True).result()
        return None if undone is None else load_summary(self.store, undone)

    # -- going on ----------------------------------------------------------------------------

    def ask(self, text: str | None = None, /, *, attach: Any = (), client: Any = None, **request: Any) -> Any:
        """Say something in this conversation, as the client's ``ask`` does; returns a `Turn`.

        ``client`` is who asks, by default the one this came from; a fork has none.
        """
        return self._need_client(client, "ask").ask_conversation(self, text, attach=attach, **request)

    # -- going back ---------------------------------------------------------------------------

    def undo(self, n: int = 1, /) -> Conversation:
        """Go back before the last ``n`` turns, which stay in the store; the next turn takes their place.

        One of them that still waits for room or its tools ends with a TurnError; fewer than ``n`` are a ConversationError.
        """

        def work(c: Any) -> None:
            row = self._row(c)
            if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= row.last_seq:
                raise ConversationError(f"cannot undo {n!r} of {counted(row.last_seq, 'turn')}")
            ledger.move(c, row, seq=row.last_seq - n, now=time.time())

        self.store.database.write(work, durable=True).result()
        return self

    def retry(self, *, client: Any = None) -> Any:
        """Ask the last turn again; the earlier answer stays stored. Returns a `Turn`; ConversationError if there is none."""
        return self._need_client(client, "retry").retry_turn(self)

    def fork(self, at: Any = -1, *, name: str | None = None) -> Conversation:
        """A new conversation that shares this one up to and including turn ``at``; takes constant time.

        Args:
            at: last shared turn; 0 shares nothing.
            name: of the fork; default the name with a number.

        Raises:
            ConversationExistsError: the name is taken.
            ConversationError: there is no such turn, it still runs, or the name is empty.
        """
        uid, now = new_id("k"), time.time()

        def work(c: Any) -> str:
            row = self._row(c)
            ending.close_expired(c, row, now=now)
            seq = 0 if isinstance(at, int) and at == 0 else self._turn(c, at)[0]
            fork_name = _free_name(c, row.name) if name is None else name
            fork = ledger.create(c, uid=uid, name=fork_name, now=now, model=row.model, parent=row.id, fork_seq=seq)
            ledger.adopt(c, fork, row, seq=seq)
            return fork_name

        chosen = self.store.database.write(work, durable=True).result()
        return Conversation(self.store, uid=uid, name=chosen, client=None)

    # -- keeping ------------------------------------------------------------------------------

    def pin(self, turn: Any, /) -> None:
        """Keep a turn verbatim in every request, also once it is folded."""
        self.store.database.write(
            lambda c: pins.add_pin(c, self._row(c), self._turn(c, turn)[1], position=None), durable=True
        ).result()

    def unpin(self, turn: Any, /) -> bool:
        """No longer keep a turn verbatim; False if it was not pinned."""
        return self.store.database.write(
            lambda c: pins.remove_pin(c, self._row(c), self._turn(c, turn)[1]), durable=True
        ).result()

    def rename(self, name: str, /) -> None:
        """Give it another name.

        Raises:
            ConversationError: the name is taken or empty.
        """
        checked_name(name)

        def work(c: Any) -> None:
            row = self._row(c)
            other = ledger.find(c, name)
            if other is not None and other.id != row.id:
                raise ConversationError(f"the name {name!r} is taken by {other.uid}; choose another")
            c.execute("UPDATE conversation SET name = ? WHERE id = ?", (name, row.id))

        self.store.database.write(work, durable=True).result()
        self._name = name
        if self.client is not None:
            self.client.renamed(self)

    def export(self, path: str | Path, /, **options: Any) -> ExportReport:
        """Write it to a file: ``.jsonl`` (everything), ``.csv``, ``.parquet``, ``.md``, ``.html``.

        Args:
            path: where to; the suffix says the format.
            **options: ``format`` (also ``"openai"``: fine-tuning JSONL), ``overwrite``; see
                `ContextStore.export_conversations`.

        Returns:
            What was written and what was left out; usable as the path.
        """
        return self.store.export_conversations(path, conversations=[self.row().uid], **options)

    def redact(self, turn: Any, /) -> Redaction:
        """Take a turn's words out for good, everywhere: its place, id, hashes and token counts stay.

        Also from every fork that shares the turn, from what was asked again in its place, and from summaries that saw it:
        these are ``stale`` and blank, an earlier one is in use again. The turn is not sent any more (a drop, "redacted"),
        and requests that carried it cannot be rebuilt. A short text can be guessed from its hash. Rewrites the file.

        Args:
            turn: by number, id, `Turn` or `Reply`; by id also one that was undone.

        Returns:
            What was blanked, and what may still hold the words.

        Raises:
            ConversationError: there is no such turn, or it still runs.
            StoreBusyError: the words are out, but a reader of another process keeps the log: close it, then checkpoint().
        """
        row = self.row()
        with self.store.database.reader() as c:
            turn_id = naming.turn_of(c, row, turn)
        return redact.redact(self.store.database, row, turn_id, now=time.time())

    def delete(self, *, forks: bool = False) -> list[str]:
        """Delete it for good: rows, search entries and free pages; the file is rewritten.

        Backups, traces, tapes and recordings are not touched; `redact` names what of them may hold a turn's words.

        Args:
            forks: also delete conversations that share turns with it; without, they are named in the error.

        Returns:
            The names that were deleted.

        Raises:
            ConversationError: others share turns with it.
            StoreBusyError: it is deleted, but a reader of another process keeps the log: close it, then checkpoint().
        """
        return erase.erase(self.store.database, self.row(), forks=forks)

    # -- naming turns -------------------------------------------------------------------------

    def number_of(self, turn: Any, /) -> int:
        """The number of a turn, from 1: of -1, an id, a `Turn` or a `Reply`.

        Raises:
            ConversationError: it is no turn of this conversation's path.
        """
        with self.store.database.reader() as c:
            return self._turn(c, turn)[0]

    def _turn(self, c: Any, which: Any) -> tuple[int, int]:
        """(seq, row id) of a turn named by number, id, `Turn` or `Reply`."""
        return naming.turn_on_path(c, self._row(c), which)

    def _need_client(self, client: Any, verb: str) -> Any:
        client = client if client is not None else self.client
        if client is None:
            raise ConversationError(
                f"{verb}() calls a model and this conversation came from the store alone; "
                f"pass client=… or use voxnb.chat(conversation={self._name!r}).conversation"
            )
        if not hasattr(client, "ask_conversation"):
            raise ConversationError(f"client is {client!r}, expected a client, as voxnb.chat() makes it")
        return client

    def _planner(self) -> Planner:
        if self.client is not None:
            planner: Planner = self.client.planner()
            return planner
        row = self._find()
        return self.store.planner(row.model if row else None)


def _free_name(c: Any, name: str) -> str:
    for n in range(2, MAX_SEQ):
        candidate = f"{name}-{n}"
        if ledger.find(c, candidate) is None:
            return candidate
    raise AssertionError("unreachable: a free number exists")
