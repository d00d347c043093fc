"""What a plan and a summary look like to a person: values with a table, a repr, and nothing to wait for."""

from __future__ import annotations

import difflib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxnb.memory.plan import Layout
from voxnb.runtime import config
from voxnb.runtime.marked import marked
from voxnb.runtime.packages import import_apart
from voxnb.store.explain import SPEAKS_FOR_ITSELF
from voxnb.wire.items import chat_message, to_body

if TYPE_CHECKING:
    import pandas as pd

    from voxnb.store.context_store import ContextStore

SHOWN_CHARS = 60
_NAMED = "the service adds what it names"


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, laid out: what would be sent, or what was.

    Attributes:
        layout: items, drops and tokens per part.
        parameters: the body beside messages and tools.
        tools: tools and response format, or None.
        seq: number of the turn it belongs to, or None.
        api: the interface it goes over.
        exact: for a past request, whether its hash is the one stored when it was sent; None for a future one.
        redacted: whether it is not, because words that it carried were redacted since.
        title: what it is called where it is shown, if it is neither the next request nor a turn's.
    """

    layout: Layout
    parameters: Mapping[str, Any]
    tools: Any = None
    seq: int | None = None
    exact: bool | None = None
    api: str = "chat"
    redacted: bool = False
    title: str | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages, as voxnb keeps them; `request` has them as they go over the wire."""
        return self.layout.messages

    @property
    def request(self) -> dict[str, Any]:
        """The whole body, as it goes over the wire (but for what streaming adds)."""
        rest = {**self.parameters, **(self.tools or {})}
        if self.api == "responses":
            return to_body(rest, self.messages, leading=self.layout.leading)
        return {**rest, "messages": [chat_message(m) for m in self.messages]}

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens per part; their sum is the estimate of the whole request."""
        return dict(self.layout.tokens)

    @property
    def total_tokens(self) -> int:
        """The whole request."""
        return self.layout.total_tokens

    @property
    def dropped(self) -> list[tuple[int, str]]:
        """Earlier turns (or parts of one) that are not sent, with the reason."""
        return [(d.seq, d.reason) for d in self.layout.drops]

    @property
    def df(self) -> pd.DataFrame:
        """One row per message: ``item, kind, turn, role, tokens, why, content``.

        At the end, with item NA, drops and what the service adds to the messages: the ``prompt``, earlier answer or
        conversation that the request names.
        """
        import_apart("pandas")
        import pandas as pd

        rows: list[tuple[Any, ...]] = [
            (n, item.kind, item.seq, item.message["role"], item.tokens, item.why, _content(item.message))
            for n, item in enumerate(self.layout.items)
        ]
        rows += [(None, "dropped", d.seq, None, 0, d.reason, None) for d in self.layout.drops]
        rows += [(None, name, None, None, None, _NAMED, content) for name, content in self._named()]
        frame = pd.DataFrame(rows, columns=["item", "kind", "turn", "role", "tokens", "why", "content"])
        integers = {"item": "Int64", "turn": "Int64", "tokens": "Int64"}
        return marked(frame.astype({**integers, "kind": "str", "role": "str", "why": "str", "content": "str"}))

    def _named(self) -> list[tuple[str, str]]:
        """What stands for words in the request, by parameter."""
        given = ((name, self.parameters.get(name)) for name in SPEAKS_FOR_ITSELF)
        return [(n, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for n, v in given if v]

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {n:,}" for name, n in self.layout.tokens.items() if n)
        which = self.title or ("next request" if self.seq is None else f"turn {self.seq}")
        proof = {None: "", True: ", rebuilt exactly", False: ", NOT the request that was sent"}[self.exact]
        if self.redacted:
            proof = ", not what was sent: redacted since"
        lines = [f"<Plan {which}: {self.total_tokens:,} tokens ({parts}){proof}>"]
        for item in self.layout.items:
            where = "" if item.seq is None else f" {item.seq}"
            lines.append(f"  {item.kind + where:<16}{item.message['role']:<10}{item.tokens:>6}  {_short(item.message)}")
        lines += [f"  {'dropped ' + str(d.seq):<16}{d.reason}" for d in self.layout.drops]
        lines += [f"  {name:<16} {_cut(content)}" for name, content in self._named()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        title = repr(self).split("\n", 1)[0].strip("<>")
        return str(config.load("table_html")(self.df.drop(columns="item"), title=title, whole=True))


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
    if message.get("tool_calls"):
        text += json.dumps(message["tool_calls"], ensure_ascii=False)
    return text


def _short(message: Mapping[str, Any]) -> str:
    return _cut(_content(message))


def _cut(content: str) -> str:
    text = " ".join(content.split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """One stored summary and what it was made from.

    Attributes:
        id: public id.
        text: as it is sent.
        round: 1 for the first of a conversation.
        first_seq: first turn that was newly shown.
        last_seq: last turn it stands for.
        turn_count: turns newly shown.
        prompt: the instruction that made it.
        request: parameters of the call.
        model: who wrote it; ``extract`` is the deterministic one.
        reason: why it was made.
        quality: ``full`` or ``cut``.
        flags: doubts.
        tokens: of the message that carries it.
        tokens_before: summary and tail before.
        tokens_after: and after.
        cost_usd: None where unknown.
        duration_ms: of its calls.
    """

    store: ContextStore
    row_id: int
    id: str
    text: str
    round: int
    first_seq: int
    last_seq: int
    turn_count: int
    prompt: str | None
    request: Mapping[str, Any]
    model: str
    reason: str
    quality: str
    flags: tuple[str, ...]
    tokens: int
    tokens_before: int
    tokens_after: int
    cost_usd: float | None
    duration_ms: float | None

    @property
    def previous(self) -> Summary | None:
        """The summary that went into this one."""
        rows = self.store.database.read("SELECT previous FROM summary WHERE id = ?", (self.row_id,))
        return load_summary(self.store, rows[0][0]) if rows and rows[0][0] is not None else None

    @property
    def turns(self) -> list[int]:
        """Numbers of the turns it was newly shown."""
        return [
            seq
            for (seq,) in self.store.database.read(
                "SELECT seq FROM coverage WHERE summary = ? ORDER BY seq", (self.row_id,)
            )
        ]

    def diff(self, other: Summary | None = None) -> str:
        """A line diff against another summary, by default the previous one."""
        other = other or self.previous
        before = other.text.splitlines() if other else []
        name = f"round {other.round}" if other else "nothing"
        return "\n".join(difflib.unified_diff(before, self.text.splitlines(), name, f"round {self.round}", lineterm=""))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        doubts = f", {', '.join(self.flags)}" if self.flags else ""
        return (
            f"<Summary {self.id}: round {self.round}, turns {self.first_seq}-{self.last_seq} by {self.model}, "
            f"{self.tokens_before:,} → {self.tokens_after:,} tokens, {self.quality}{doubts}>\n{self.text}"
        )

    def _repr_html_(self) -> str:
        head, _, _ = repr(self).partition("\n")
        text = config.load("safe_html")(self.text)
        return str(
            config.load("framed")(f"<p><b>{html.escape(head.strip('<>'))}</b></p><blockquote>{text}</blockquote>")
        )


def load_summary(store: ContextStore, row_id: int) -> Summary:
    """A summary by row."""
    with store.database.reader() as c:
        row = c.execute(
            "SELECT s.id, s.uid, s.text, s.round, s.first_seq, s.last_seq, s.turn_count, p.text, r.text, s.model, "
            "s.reason, s.quality, s.flags, s.tokens, s.tokens_before, s.tokens_after, s.cost_usd, s.duration_ms "
            "FROM summary s LEFT JOIN value p ON p.id = s.prompt LEFT JOIN value r ON r.id = s.request WHERE s.id = ?",
            (row_id,),
        ).fetchone()
        facts = (*row[:8], json.loads(row[8] or "{}"), *row[9:12], tuple(json.loads(row[12])), *row[13:])
        summary = Summary(store, *facts)
        # What is no text or no count shows here, while the store is at hand to say which row has it.
        html.escape(repr(summary) + summary.text)
        return summary
