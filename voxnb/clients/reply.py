"""`Reply`: what came back for a turn, as a value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import TurnError
from voxnb.runtime import config
from voxnb.store import receipt
from voxnb.store.receipt import Receipt
from voxnb.usage import Usage, money
from voxnb.wire.produced import Produced, produced

if TYPE_CHECKING:
    from voxnb.clients.tools.running import ToolRun

_CONTROLS: Final = {n: None for n in (*range(32), *range(127, 160)) if n not in (9, 10)}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer of one turn; ``str(reply)`` is its text.

    Attributes:
        text: the assistant's text; "" where it only called tools.
        message: the assistant message in the API's shape.
        tool_calls: the calls of that message, in order.
        refusal: the model's refusal, or None.
        parsed: the text as the value that ``response_format`` asked for (an instance of the type, or the decoded JSON);
            None where the answer is none, and then `warnings` say why.
        usage: tokens as the server reported them, of all requests of the turn (a tool loop has several; ``calls()`` tells
            them apart).
        cost_usd: what they cost, or None where a price is not known.
        finish_reason: the API's (``stop``, ``length``, ``tool_calls`` …), ``cancelled``, or None where the
            server gave none.
        id: the service's id of the answer (``chatcmpl-…``, ``resp_…``), of the last one of a tool loop: what
            ``previous_response_id`` takes. None where the server gave none, or the store that answered does not know it.
        turn: id of the turn, or None where nothing is stored.
        warnings: what should be known about this reply, one sentence each.
        tool_runs: what `run_tools` ran for it, in order: ``name``, ``arguments``, ``result``, ``error``, ``duration_ms``.
        reused: True where the store answered and no call was made.
        plan_source: makes `plan`.
        receipt_source: makes `receipt`.
    """

    text: str = ""
    message: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    refusal: str | None = None
    parsed: Any = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    finish_reason: str | None = None
    id: str | None = None
    turn: str | None = None
    warnings: tuple[str, ...] = ()
    tool_runs: tuple[ToolRun, ...] = ()
    reused: bool = False
    plan_source: Callable[[], Any] | None = field(default=None, repr=False, compare=False)
    receipt_source: Callable[[], Receipt] | None = field(default=None, repr=False, compare=False)

    @property
    def plan(self) -> Any:
        """What was sent and why: the `Plan` of this turn, rebuilt from the store.

        Raises:
            TurnError: the reply belongs to no stored turn.
        """
        if self.plan_source is None:
            raise TurnError(
                "this reply has no plan: its request was made without storeContext, or the reply was copied"
            )
        return self.plan_source()

    @property
    def receipt(self) -> Receipt:
        """What the turn took: tokens as reported, money where prices are known, time, folds, and what is left for the next.

        Raises:
            VoxnbError: it is stored, and the store cannot be read any more.
        """
        return receipt.of_usage(self.usage, self.cost_usd) if self.receipt_source is None else self.receipt_source()

    @property
    def says_something(self) -> bool:
        """Whether there is a text, a refusal or a tool call in it; not so of an answer that broke before its first word."""
        return bool(self.text or self.refusal or self.tool_calls)

    @property
    def produced(self) -> tuple[Produced, ...]:
        """What the answer holds beside its text: images (``.data``), files, and what the service's own tools did."""
        return produced(self.message.get("items") or ())

    def __str__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return hash((self.turn, self.text))

    def __repr__(self) -> str:
        parts = [repr(shorten(self.text))]
        if self.refusal:
            parts.append(f"refusal={shorten(self.refusal)!r}")
        if self.tool_calls:
            parts.append(f"tool_calls={len(self.tool_calls)}")
        if self.tool_runs:
            parts.append(f"tool_runs={len(self.tool_runs)}")
        parts += [f"[{thing.label}]" for thing in self.produced]
        parts.append(f"finish_reason={self.finish_reason!r}")
        if self.usage.total_tokens is not None:
            parts.append(f"tokens={self.usage.total_tokens}")
        if self.cost_usd is not None:
            parts.append(f"cost={money(self.cost_usd)}")
        parts.extend(f"warning: {text}" for text in self.warnings)
        return f"<Reply {' '.join(parts)}>"

    def __getstate__(self) -> dict[str, Any]:
        # Plan and receipt are made by a live store, which no other process has.
        return {**self.__dict__, "plan_source": None, "receipt_source": None}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's signature
        return {"text/plain": reply_plain(self), "text/html": config.load("show_reply")(self)}


def reply_plain(reply: Reply) -> str:
    """All that a reply says (text, refusal, tool calls, warnings) as text without control characters."""
    parts = [f"Tool run: {run_line(run)}" for run in reply.tool_runs]
    if reply.text:
        parts.append(reply.text)
    if reply.refusal:
        parts.append(f"Refused: {reply.refusal}")
    parts.extend(f"Tool call: {call_line(call)}" for call in reply.tool_calls)
    parts.extend(f"[{thing.label}]" for thing in reply.produced)
    parts.extend(f"Note: {text}" for text in reply.warnings)
    return plain("\n".join(parts))


def call_line(call: Mapping[str, Any]) -> str:
    """A tool call as one would write it.

    >>> call_line({"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}})
    'weather({"city": "Ulm"})'
    """
    called = call.get("function") or call.get("custom") or {}
    return f"{called.get('name', call.get('type', 'tool'))}({called.get('arguments', called.get('input', ''))})"


def run_line(run: ToolRun) -> str:
    """A tool that ran, in one line: its call and the start of its result."""
    given = run.arguments if isinstance(run.arguments, str) else json.dumps(run.arguments, ensure_ascii=False)
    return f"{run.name}({given}) → {shorten(run.result, limit=200)}"


def plain(text: str) -> str:
    """The text without control characters (they would drive the terminal), tabs and line breaks kept."""
    return text.translate(_CONTROLS)


def shorten(text: str, *, limit: int = 60) -> str:
    """The text in one line, at most so many characters long."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"
