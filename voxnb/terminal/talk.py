"""A chat in a terminal: lines are messages or commands, replies stream, Ctrl-C stops one and keeps what had come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from voxnb.clients.chat import ChatCompletionsAPIClient
from voxnb.clients.reply import Reply, call_line
from voxnb.clients.turn import Turn
from voxnb.errors import ConversationError, TurnCancelledError, VoxnbError
from voxnb.events import ContextEvents, Event
from voxnb.params import did_you_mean
from voxnb.store.conversation import Conversation
from voxnb.store.views import Summary
from voxnb.terminal import commands
from voxnb.terminal.budget import fold_line, folded
from voxnb.terminal.prompt import CONTINUED
from voxnb.terminal.screen import Screen, Span
from voxnb.terminal.words import in_shell

NOTICE, PROBLEM = "36", "33"
"""Colours of what is told beside the replies."""

PAST_TURNS: Final = 200
"""How many earlier messages the arrow keys bring back."""


class Reader(Protocol):
    """Where messages come from."""

    def read(self) -> str:
        """The next one; EOFError at the end."""

    def tell(self, line: str) -> bool:
        """Show a line while somebody types; False if nobody does."""


class Lines:
    """Messages from a file or a pipe, one a line; a backslash at its end continues it in the next."""

    def __init__(self, text: str) -> None:
        self._lines: Iterator[str] = iter(text.replace("\r\n", "\n").split("\n"))

    def read(self) -> str:
        """The next message."""
        said: list[str] = []
        for line in self._lines:
            said.append(line.removesuffix(CONTINUED))
            if not line.endswith(CONTINUED):
                break
        if not said:
            raise EOFError
        return "\n".join(said)

    def tell(self, _line: str) -> bool:
        """Nobody is told."""
        return False


class Talk:
    """One chat, from its first line to its last.

    Args:
        client: who answers, with its conversation.
        screen: where replies and answers to commands go.
        aside: where problems go, which may be the same.
        request: goes with every message (``max_tokens``, ``temperature`` …).
        reopen: makes the same client for another conversation, named by its id.

    Attributes:
        client: the one that answers now; another after a fork.
        screen: as given.
        leaving: set to end the chat after this line.
    """

    def __init__(
        self,
        client: ChatCompletionsAPIClient,
        *,
        screen: Screen,
        aside: Screen,
        request: Mapping[str, Any],
        reopen: Callable[[str], ChatCompletionsAPIClient],
    ) -> None:
        self.screen = screen
        self._aside = aside
        self.leaving = False
        self._request = request
        self._reopen = reopen
        self._reader: Reader | None = None
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._waiting: list[tuple[Span, ...]] = []
        self.client = client
        self._listen()

    @property
    def conversation(self) -> Conversation:
        """What is spoken in."""
        return self.client.conversation

    # -- reading ------------------------------------------------------------------------------

    def run(self, reader: Reader, *, strict: bool = False) -> None:
        """Read and answer until the input ends or the person leaves.

        Args:
            reader: where the messages come from.
            strict: end at the first error instead of going on after it.

        Raises:
            VoxnbError: with ``strict``, whatever a line met.
            KeyboardInterrupt: with ``strict``.
        """
        self._reader = reader
        while not self.leaving:
            self._show_waiting()
            try:
                line = reader.read()
            except EOFError:
                return
            except KeyboardInterrupt:
                continue  # the line is cleared
            try:
                self.take(line)
            except KeyboardInterrupt:
                if strict:
                    raise
                self.tell("stopped")
            except VoxnbError as error:
                if strict:
                    raise
                self.problem(str(error))

    def take(self, line: str) -> None:
        """A message, or a command: ``/name …``; ``//`` begins a message with a slash.

        Raises:
            VoxnbError: whatever it met.
        """
        if not line.strip():
            return
        if line.startswith("/") and not line.startswith("//"):
            self._obey(line[1:])
        else:
            self.say(line.removeprefix("/"))

    def _obey(self, line: str) -> None:
        name, _, argument = line.strip().partition(" ")
        command = commands.COMMANDS.get(commands.ALSO.get(name, name))
        if command is None:
            known = (*commands.COMMANDS, *commands.ALSO)
            hint = did_you_mean(name, known).replace("mean '", "mean '/")
            raise ConversationError(f"there is no command /{name}{hint or '; see /help'} (to say it, begin with //)")
        if argument.strip() and not command.takes:
            raise ConversationError(f"/{name} takes nothing, not {argument.strip()!r}; see /help")
        command.run(self, argument.strip())

    # -- answering ----------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Say something and stream the reply.

        Raises:
            VoxnbError: whatever the request met.
        """
        self.stream(lambda: self.client.ask(text, **self._request))

    def stream(self, ask: Callable[[], Turn]) -> None:
        """Show a turn as it comes; Ctrl-C stops it, and what had come is kept."""
        turn: Turn | None = None
        written = False
        try:
            turn = ask()
            for delta in turn:
                self.screen.write(delta)
                written = True
        except KeyboardInterrupt:
            if turn is not None:
                turn.cancel(wait_s=1.0)
            if turn is None or not self.screen.live:
                raise
        finally:
            if written:
                self.screen.end()
        self._close(turn, written=written)

    def _close(self, turn: Turn, *, written: bool) -> None:
        try:
            reply = turn.result()
        except TurnCancelledError:
            self.tell("stopped before anything had come; the question is kept, /retry asks it again")
            return
        for line in beside_text(reply, written=written):
            self.screen.line((line, NOTICE))
        if not (written or reply.refusal or reply.tool_calls):
            self.tell("the reply is empty")
        if reply.finish_reason == "cancelled":
            number = "" if turn.number is None else f" as turn {turn.number}"
            self.tell(f"stopped; what had come is kept{number}")
        elif reply.finish_reason == "length":
            self.tell("the reply was cut at its token limit")
        for warning in reply.warnings:
            self.problem(warning)

    # -- telling ------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """A remark beside the replies; on a terminal alone."""
        if self.screen.live:
            self.screen.line((f"· {text}", NOTICE))

    def problem(self, text: str) -> None:
        """A remark on what went wrong."""
        text = in_shell(text)
        self._aside.line((f"! {text}" if self.screen.live else f"voxnb: {text}", PROBLEM))

    def _listen(self) -> None:
        self.client.on(ContextEvents.SummaryFolded, self._on_folded)
        self.client.on(ContextEvents.SummaryFailed, self._on_fold_failed)

    def _on_folded(self, event: Event) -> None:
        self._tell_fold(event.payload["summary_id"], event.payload)

    def _on_fold_failed(self, event: Event) -> None:
        self._tell_aside((f"! no summary: {event.payload['message']}", PROBLEM))

    def tell_summary(self, summary: Summary) -> None:
        """A fold that was asked for, once."""
        self._tell_fold(summary.id, folded(summary))

    def _tell_fold(self, summary_id: str, facts: Mapping[str, Any]) -> None:
        with self._lock:
            if summary_id in self._told:
                return
            self._told.add(summary_id)
        self._tell_aside((f"· {fold_line(facts)}", NOTICE))

    def _tell_aside(self, *spans: Span) -> None:
        """From any thread: above the prompt, or before the next one; never into a reply."""
        if not self.screen.live:
            return
        with self._lock:
            if self._reader is None or not self._reader.tell(self.screen.rendered(*spans)):
                self._waiting.append(spans)

    def _show_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for spans in waiting:
            self.screen.line(*spans)

    # -- its conversation ---------------------------------------------------------------------

    def go_to(self, conversation: Conversation) -> None:
        """Go on in another conversation of the store."""
        before, self.client = self.client, self._reopen(conversation.id)
        self._listen()
        before.close()

    def close(self) -> None:
        """Let running folds end, tell them, and close the client."""
        self.client.close()
        self._show_waiting()

    def past(self) -> list[str]:
        """What was said in this store lately, oldest first, without repeats in a row."""
        said: list[str] = []
        for text in self.client.store.turns(limit=PAST_TURNS, columns=["user_text"])["user_text"].dropna():
            if text and (not said or said[-1] != text):
                said.append(text)
        return said


def beside_text(reply: Reply, *, written: bool) -> Iterable[str]:
    """What a reply holds besides its text."""
    if reply.refusal and not written:
        yield f"refused: {reply.refusal}"
    for call in reply.tool_calls:
        yield f"tool call: {call_line(call)}"
