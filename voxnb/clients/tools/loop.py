"""The tool loop of one turn: which calls are answered here, with what, and when it is enough.

Rule 1: the calls of a reply are answered together or not at all: if one of them is not a function of the request (one of
the API's dicts, a custom tool), the reply goes to the caller, who answers all of them.
Rule 2: after `max_rounds` replies with calls, or where the window has no room for more results, the next calls get
results that say so, and the model is asked once more with ``tool_choice="none"``. A server that calls even then ends the
turn with `ToolRoundsError`.
Rule 3: a ``tool_choice`` that forces a call holds for the first reply only: it would force one for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.tools.request import Extras
from voxnb.clients.tools.result import LIMIT_TOKENS, Limit
from voxnb.clients.tools.running import TOOL_OF, Call, Runner, ToolRun
from voxnb.clients.tools.tool import ArgumentError, read_object
from voxnb.errors import ConversationError, ToolRoundsError
from voxnb.memory.past import UNDER_WAY
from voxnb.messages import Message

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient
    from voxnb.clients.turn import Turn


LEAST_TOKENS: Final = 64
"""Of a result: less says nothing."""


class ToolLoop:
    """What was called in a turn, and what comes next; see the module's rules.

    Attributes:
        runs: what ran, in order.
        number: replies whose calls were answered.
        said: the newest of these replies without its calls, or None.
        stopped: why the model was told to answer without tools, or None.
    """

    def __init__(self, client: TextClient, turn: Turn, extras: Extras, *, conversation: Any = None) -> None:
        self.runs: list[ToolRun] = []
        self.number = 0
        self.said: dict[str, Any] | None = None
        self.stopped: str | None = None
        self._client = client
        self._turn = turn
        self._extras = extras
        self._conversation = conversation

    def calls(self, message: Mapping[str, Any]) -> list[Call]:
        """The calls of a reply that are answered here; none where the turn ends with it."""
        made = message.get("tool_calls") or ()
        if not self._extras.run or not made:
            return []
        calls = [_call(call) for call in made]
        if any(call is None or not self._extras.toolbox.runs(call.name) for call in calls):
            return []
        return [call for call in calls if call is not None]

    def check(self) -> None:
        """Whether calls may be answered once more.

        Raises:
            ToolRoundsError: the model was told to stop, and called again.
        """
        if self.stopped is not None:
            rounds = self.number - 1
            raise ToolRoundsError(
                f"the model called tools again after {rounds} rounds and one request without them ({self.stopped}); raise "
                "max_tool_rounds, or say in the instructions when to stop",
                rounds=rounds,
            )

    async def answer(self, message: Mapping[str, Any], calls: Sequence[Call], *, limit: Limit) -> list[Message]:
        """Run the calls of a reply (or say that it is enough).

        Args:
            message: the reply.
            calls: see `calls`.
            limit: of their results together.

        Returns:
            The results as messages, in the order of the calls.
        """
        self._note(message)
        if self.number > self._extras.max_rounds:
            self.stopped = f"the limit of {self._extras.max_rounds} rounds of tool calls is reached"
        elif limit.tokens < LEAST_TOKENS * len(calls):
            self.stopped = "there is no room for more results in the context window"
        if self.stopped is not None:
            error = f"{self.stopped}; answer without tools"
            made = [ToolRun(c.name, _arguments(c), f"Error: {error}", error, 0.0, self.number, c.id) for c in calls]
        else:
            runner = Runner(
                toolbox=self._extras.toolbox,
                start=self._client.dispatcher.run,
                context=self._turn.context,
                timeout_s=self._extras.timeout_s,
                limit=limit,
                hide=self._client.transport.hide,
                turn=(self._turn, self._conversation),
            )
            self._turn.tools_running = tuple(call.name for call in calls)
            try:
                made = await runner.run(calls, number=self.number)
            finally:
                self._turn.tools_running = ()
        self.runs += made
        return [Message("tool", run.result, {"tool_call_id": run.call_id}) for run in made]

    def replay(self, message: Mapping[str, Any], calls: Sequence[Call], results: Sequence[Mapping[str, Any]]) -> None:
        """Note the calls of a stored reply with the results that they had."""
        self._note(message)
        told = {r.get("tool_call_id"): str(r.get("content") or "") for r in results}
        for call in calls:
            result = told.get(call.id, "")
            error = result.removeprefix("Error: ") if result.startswith("Error: ") else None
            self.runs.append(ToolRun(call.name, _arguments(call), result, error, None, self.number, call.id))

    def _note(self, message: Mapping[str, Any]) -> None:
        self.number += 1
        self.said = {k: v for k, v in message.items() if k != "tool_calls"}

    def next(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of the next request of the turn."""
        choice = parameters.get("tool_choice")
        forced = choice is not None and choice not in ("auto", "none")
        out = {k: v for k, v in parameters.items() if not (forced and k == "tool_choice")}
        return {**out, "tool_choice": "none"} if self.stopped is not None else out

    @property
    def lead(self) -> str:
        """What stands in the turn's text between what was said before and what comes."""
        return "\n\n" if self._turn.partial else ""


def limit_for(calls: Sequence[Call], *, window_share: int, count: Callable[[str], int]) -> Limit:
    """The limit of the results of a reply where it is not known how much room the window has left.

    Args:
        calls: of the reply.
        window_share: tokens that may be spent at once.
        count: tokens of a text.
    """
    return Limit(tokens=max(LEAST_TOKENS * len(calls), min(LIMIT_TOKENS, window_share)), count=count)


def check_not_inside(conversation: Any) -> None:
    """A tool may not speak in the conversation whose turn waits for it.

    Raises:
        ConversationError: it would wait for itself.
    """
    inside = TOOL_OF.get()
    if inside is None:
        return
    turn, where = inside
    if where is not None and where.id == conversation.id and turn.state in UNDER_WAY:
        raise ConversationError(
            "a tool cannot ask in the conversation that waits for its result; ask a client without memory, in another "
            "conversation, or in a fork"
        )


def _call(call: Mapping[str, Any]) -> Call | None:
    """A call of a function, or None for one of another kind."""
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(name := function.get("name"), str):
        return None
    arguments = function.get("arguments")
    return Call(str(call.get("id") or ""), name, arguments if isinstance(arguments, str) else "")


def _arguments(call: Call) -> Any:
    try:
        return read_object(call.arguments)
    except ArgumentError:
        return call.arguments
