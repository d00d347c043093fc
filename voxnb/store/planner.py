"""How a conversation's requests are counted and laid out: policy, window, encoding and calibration together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import MessageError
from voxnb.memory import plan, summary, tokens, window
from voxnb.memory.calibration import Calibration
from voxnb.memory.plan import CUT_OFF, Layout, PastTurn, Said, Snapshot, Weigh
from voxnb.memory.policy import DEFAULT_WINDOW_TOKENS, NO_LIMITS, ContextPolicy, Limits
from voxnb.messages import Message, digest, goes_on, group_turns, unpaired
from voxnb.runtime import encodings
from voxnb.store.rows import Counted
from voxnb.store.views import Plan, Summary

if TYPE_CHECKING:
    from voxnb.store.explain import Shown

ONE_SYSTEM_MESSAGE: Final = ("gemma", "mistral", "mixtral", "codestral")
"""Model families whose chat template takes system text only at the start, if at all."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Message → counts, as they are stored.

    Attributes:
        count: text → tokens.
        encoding: its name, stored beside every count.
        model: whose rules for images apply.
    """

    count: Callable[[str], int]
    encoding: str
    model: str | None = None

    def __call__(self, message: Message) -> Counted:
        """Count a message, whole: overhead, name, tool calls and parts included."""
        counted = tokens.count_message(message.to_dict(), self.count, model=self.model)
        return Counted(message, counted.tokens, tuple(counted.features), self.encoding, message.content_hash)

    def text_message(self, role: str, text: str) -> Counted:
        """Count a plain message."""
        return self(Message(role, text, {}))


class Once:
    """A measure with a memory: a message is counted once per request.

    Attributes:
        encoding: of the measure.
    """

    def __init__(self, measure: Measure) -> None:
        self.encoding = measure.encoding
        self._measure = measure
        self._counts: dict[int, Counted] = {}

    def __call__(self, message: Message) -> Counted:
        """Count a message."""
        found = self._counts.get(id(message))
        if found is None or found.message is not message:
            found = self._counts[id(message)] = self._measure(message)
        return found


@dataclass(frozen=True, slots=True)
class Planner:
    """What turns a snapshot into a request.

    Attributes:
        limits: the policy's numbers for the model's window.
        measure: how messages are counted.
        calibration: how the server counts, or None where our encoding is its own.
        conversation: whose requests these are.
        summary_role: role of the summary's message.
        tools_tokens: what tools and response format cost, in our encoding.
        parameters: the body without messages and tools, for plans.
        instructions: the client's own.
        instructions_said: they were said to the conversation before; what it has now is what was said last.
    """

    limits: Limits
    measure: Measure
    calibration: Calibration | None = None
    conversation: str = ""
    summary_role: str = "system"
    tools_tokens: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    instructions: tuple[Message, ...] = ()
    instructions_said: bool = False

    def lay_out(self, snapshot: Snapshot) -> Layout:
        """The next request."""
        known, prefix = self.calibration, ""
        fixed, tools_tokens = tokens.PRIMER_TOKENS, self.tools_tokens
        if known is not None:
            prefix = prefix_of(snapshot, self.tools_tokens)
            fixed = known.fixed_tokens(conversation=self.conversation, prefix=prefix)
            tools_tokens = known.weigh_tools(tools_tokens)
        return plan.assemble(
            snapshot,
            limits=self.limits,
            weigh=self.weigh,
            fixed_tokens=fixed,
            tools_tokens=tools_tokens,
            own_tools_tokens=self.tools_tokens,
            summary_role=self.summary_role,
            cut_off=(_cut_off_tokens(self.measure.count), None),
            prefix=prefix,
        )

    @property
    def weigh(self) -> Weigh:
        """Stored counts → the server's tokens."""
        return unscaled if self.calibration is None else self.calibration.weigh

    def empty_snapshot(self, current: PastTurn | None) -> Snapshot:
        """A conversation in which nothing was said yet."""
        return Snapshot((), None, (), (), current, 0)

    def with_instructions(self, snapshot: Snapshot, instructions: tuple[Said, ...]) -> Snapshot:
        """The same with other instructions."""
        return replace(snapshot, instructions=instructions)

    def with_new(self, snapshot: Snapshot, messages: Sequence[Message], *, after: int) -> Snapshot:
        """The same with messages that would be said next, as the journal would place them.

        Args:
            snapshot: the conversation between two turns.
            messages: at least one.
            after: last turn that they come after.

        Raises:
            MessageError: a tool result that no call waits for.
        """
        tail = [turn for turn in snapshot.tail if turn.seq <= after]
        waiting = plan.open_tool_calls(tail[-1].messages) if tail else []
        if goes_on(messages, open_ids=waiting):
            orphans, _ = unpaired(messages, open_ids=waiting)
            if orphans or not waiting:
                index = orphans[0][0] if orphans else 0
                raise MessageError(f"message {index} is a tool result, and no call waits for it", index=index)
            open_turn = tail.pop()
            groups, seq, held = [list(messages)], open_turn.seq, open_turn.messages
        else:
            groups, seq, held = list(group_turns(messages)), after + 1, ()
        for number, group in enumerate(groups, seq):
            first = len(held)
            said = tuple(self.measure(m).said(n) for n, m in enumerate(group, first))
            tail.append(PastTurn(0, "", number, "complete", (*held, *said)))
            held = ()
        current = tail.pop()._replace(state="running")
        return replace(snapshot, tail=tuple(tail), current=current)

    def explain_summary(self, made: Summary, shown: Shown, previous: str | None) -> Plan:
        """What the summary model was shown."""
        lines = "\n".join(summary.transcript(shown.turns))
        messages = summary.request_messages(made.prompt or "", previous=previous, lines=lines, mark=shown.mark)
        items = tuple(
            plan.Item("summary request", None, dict(m), self.measure.text_message(m["role"], m["content"]).tokens, why)
            for m, why in zip(messages, ("summary prompt", "previous summary and messages"), strict=True)
        )
        counts = {"summary": sum(item.tokens for item in items)}
        title = f"summary {made.round}, as its model was asked" + (
            f" in {shown.requests} requests" if shown.requests > 1 else ""
        )
        return Plan(Layout(items, (), counts, NO_LIMITS), made.request, title=title)

    def fenced_counts(self, text: str, *, mark: str, last_seq: int) -> Counted:
        """Counts of the message that will carry a summary."""
        return self.measure.text_message(self.summary_role, plan.fence(text, mark=mark, last_seq=last_seq))


@lru_cache(maxsize=16)
def _cut_off_tokens(count: Callable[[str], int]) -> int:
    return count(CUT_OFF)


def prefix_of(snapshot: Snapshot, tools_tokens: int) -> str:
    """A text that stays the same as long as requests only grow at their end."""
    said = [s.text for s in snapshot.instructions]
    pins = [turn.id for turn in snapshot.pins]
    return digest(repr((said, tools_tokens, pins, snapshot.folded_to, snapshot.summary and snapshot.summary.uid)))


def measure_for(model: str | None, *, count: Callable[[str], int] | None = None) -> Measure:
    """Counting for a model: its own encoding where it has one of OpenAI's, or the policy's ``count``."""
    if count is not None:
        return Measure(count, "custom", model)
    choice = encodings.encoding_for(model)
    return Measure(encodings.counter(choice.name), choice.name, model)


def summary_role_for(model: str | None, policy: ContextPolicy) -> str:
    """The role that carries the summary."""
    if policy.summary_role is not None:
        return policy.summary_role
    name = (model or "").lower()
    return "user" if any(family in name for family in ONE_SYSTEM_MESSAGE) else "system"


def default_planner(model: str | None) -> Planner:
    """For a store without a client: the known window, uncalibrated counts."""
    policy = ContextPolicy()
    limits = policy.limits(window.known_window(model) or DEFAULT_WINDOW_TOKENS)
    return Planner(limits, measure_for(model), summary_role=summary_role_for(model, policy))


def unscaled(count: int, features: tuple[int, ...] | None) -> int:  # noqa: ARG001 - it has the shape of a `Weigh`
    """Our encoding is the server's."""
    return count
