"""In which order commands go out: none before the session is there, one response at a time.

Rule 1: what is asked for before the session is ready goes out when it is, in order.
Rule 2: a `response.create` of the conversation waits while a response is active or asked for; then it goes out. So a
tool's result may be followed by one at once.
Rule 3: one that lost the race against a response of the server's own waits again, `MOST_TRIES` times.
Rule 4: what is asked for out of band (``conversation: "none"``) waits for nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from voxnb.wire.realtime.refusal import ACTIVE_RESPONSE

MOST_TRIES: Final = 4
"""How often one `response.create` is sent before it is given up."""

KEPT_SENT: Final = 512
"""How many commands are remembered, so that a refusal can be told from which."""

Command = dict[str, Any]


class Sequence:
    """The commands of one session, on their way out.

    Attributes:
        ready: the session is there.
        active: id of the conversation's response under way, or None.
        requested: event id of a `response.create` that was sent and not answered, or None.
    """

    def __init__(self) -> None:
        self.ready = False
        self.active: str | None = None
        self.requested: str | None = None
        self._early: list[Command] = []
        self._held: deque[Command] = deque()
        self._sent: dict[str, Command] = {}
        self._tries: dict[str, int] = {}

    @property
    def held(self) -> int:
        """How many `response.create` wait for a response to end."""
        return len(self._held)

    @property
    def early(self) -> int:
        """How many commands wait for the session."""
        return len(self._early)

    @property
    def unanswered(self) -> tuple[Command, ...]:
        """The `response.create` of the conversation that no response has answered, oldest first."""
        asked = None if self.requested is None else self._sent.get(self.requested)
        return (*(() if asked is None else (asked,)), *self._held)

    @property
    def unsent(self) -> tuple[Command, ...]:
        """What waits for a session that is not there yet."""
        return tuple(self._early)

    def put(self, command: Command) -> tuple[Command, ...]:
        """Take a command in.

        Returns:
            What is to be sent now.
        """
        if not self.ready:
            self._early.append(command)
            return ()
        return self._out([command])

    def opened(self) -> tuple[Command, ...]:
        """The session is there; what waited for it."""
        self.ready = True
        early, self._early = self._early, []
        return self._out(early)

    def begun(self, response_id: str) -> None:
        """A response of the conversation has begun."""
        self.active = response_id
        self.requested = None

    def ended(self, response_id: str) -> tuple[Command, ...]:
        """A response has ended; what waited for that."""
        if self.active == response_id:
            self.active = None
        return self._release()

    def refused(self, error: Mapping[str, Any]) -> tuple[Command | None, tuple[Command, ...]]:
        """A command was refused.

        Returns:
            The command, where it is known, and what is to be sent now.
        """
        event_id, code = error.get("event_id"), error.get("code")
        told = event_id if isinstance(event_id, str) else None
        if told is None and code == ACTIVE_RESPONSE:
            told = self.requested
        command = self._sent.pop(told, None) if told is not None else None
        if command is None or told is None:
            return None, ()
        if command["type"] == "response.create":
            if self.requested == told:
                self.requested = None
            if code == ACTIVE_RESPONSE and self._tries.get(told, 0) < MOST_TRIES:
                self._held.appendleft(command)
        return command, self._release()

    def forget_requested(self) -> tuple[Command, ...]:
        """Wait no longer for the answer to a `response.create` that never came; what waited for it."""
        self.requested = None
        return self._release()

    def _out(self, commands: list[Command]) -> tuple[Command, ...]:
        now: list[Command] = []
        for command in commands:
            if _is_in_conversation(command):
                self._held.append(command)
                now.extend(self._release())
            else:
                self._note(command)
                now.append(command)
        return tuple(now)

    def _release(self) -> tuple[Command, ...]:
        if not self._held or self.active is not None or self.requested is not None:
            return ()
        command = self._held.popleft()
        self._note(command)
        event_id = command["event_id"]
        self.requested = event_id
        self._tries[event_id] = self._tries.get(event_id, 0) + 1
        return (command,)

    def _note(self, command: Command) -> None:
        self._sent[command["event_id"]] = command
        while len(self._sent) > KEPT_SENT:
            oldest = next(iter(self._sent))
            del self._sent[oldest]
            self._tries.pop(oldest, None)


def _is_in_conversation(command: Mapping[str, Any]) -> bool:
    """Whether a command asks for a response in the conversation."""
    if command["type"] != "response.create":
        return False
    asked = command.get("response")
    return not (isinstance(asked, Mapping) and asked.get("conversation") == "none")
