"""A session's socket that a tape listens to, and one that plays a session from a tape.

Rule 1: what the server said comes when what the client had said before it has been said again, in whatever order of
its own the client says it; sound counts by its length, and is not waited for where none is coming.
Rule 2: what depends on the moment (a cancel, a truncation, a cleared buffer) is neither waited for nor compared.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from voxnb.clients.realtime.socket import Socket
from voxnb.clients.taped import check_may_be_taped
from voxnb.errors import APIError, CredentialsError, TapeError
from voxnb.runtime import config
from voxnb.taping.asked import COMMAND_VOLATILE, Asked, cleaned, command_key
from voxnb.taping.block import Exchange, Step
from voxnb.taping.tape import Tape, running
from voxnb.wire.unicode import whole_unicode

PATH: Final = "/realtime"
APPEND: Final = "input_audio_buffer.append"
OF_THE_MOMENT: Final = frozenset(
    {
        "response.cancel",
        "conversation.item.truncate",
        "input_audio_buffer.clear",
        "input_audio_buffer.commit",
        "output_audio_buffer.clear",
    }
)
SILENT_S: Final = 0.5
"""No sound for so long is no sound any more."""

BYTES_PER_MS: Final[Mapping[str, int]] = {"audio/pcm": 48, "audio/pcmu": 8, "audio/pcma": 8}
MISS_CODE: Final = 4404


async def open_taped(
    facts: Mapping[str, Any], *, host: str, private: bool, live: Callable[[], Awaitable[Socket]]
) -> Socket:
    """The socket of a session: from the tape that runs, else the server's, recorded.

    Args:
        facts: what the session is asked for by (``model``, ``type``).
        host: who would be asked, for messages.
        private: whether the client is.
        live: opens the server's.

    Raises:
        TapeMissError: no such session is left on the tape, and the server cannot be asked.
        TapeError: the client is private.
        APIError: see `Socket.open`.
    """
    tape = running()
    if tape is None:
        return await live()
    check_may_be_taped(tape, private=private)
    asked = Asked("REALTIME", PATH, dict(facts))
    found = tape.take(asked)
    if found is not None:
        return PlayedSocket(tape, found, host=host)
    try:
        return RecordedSocket(await live(), tape=tape, asked=asked)
    except CredentialsError as error:
        raise tape.miss(asked, because=str(error)) from error


class _Sound:
    """How long a client's audio is, in the format that the session has."""

    def __init__(self) -> None:
        self._per_ms = BYTES_PER_MS["audio/pcm"]

    def told(self, message: Mapping[str, Any]) -> None:
        """A session.update, from whichever side."""
        given = ((message.get("session") or {}).get("audio") or {}).get("input") or {}
        self._per_ms = BYTES_PER_MS.get((given.get("format") or {}).get("type", ""), self._per_ms)

    def length_ms(self, append: Mapping[str, Any]) -> int:
        """Of an `APPEND`, in whole milliseconds."""
        return round(len(append.get("audio", "")) * 3 / 4 / self._per_ms)


class RecordedSocket(Socket):
    """The server's socket, heard by a tape; the session is put on it when it ends.

    Args:
        socket: the server's.
        tape: where to.
        asked: what the session was asked for by.
    """

    def __init__(self, socket: Socket, *, tape: Tape, asked: Asked) -> None:
        super().__init__(socket.connection)
        self._tape, self._asked = tape, asked
        self._steps: list[Step] = []
        self._sound = _Sound()
        self._at = time.monotonic()
        self._is_done = False
        tape.hold(self)

    async def send(self, text: str) -> None:
        """See `Socket.send`."""
        command = json.loads(text)
        last = self._steps[-1] if self._steps else None
        if command.get("type") == APPEND:
            ms = self._sound.length_ms(command)
            if last is not None and last.kind == "sound":
                self._steps[-1] = Step("sound", last.wait_ms + ms)
            else:
                self._steps.append(Step("sound", ms))
        else:
            self._sound.told(command)
            self._steps.append(Step("said", 0, cleaned(command, hide=self._tape.hide, without=COMMAND_VOLATILE)))
        await super().send(text)

    def send_now(self, text: str) -> bool:
        """Not here: it is put on the tape first."""
        del text
        return False

    async def each(self, take: Callable[[str | bytes], object]) -> None:
        """See `Socket.each`."""

        def noted(message: str | bytes) -> None:
            now = time.monotonic()
            self._steps.append(Step("came", round((now - self._at) * 1000), _event(message)))
            self._at = now
            take(message)

        await super().each(noted)
        self.finish()

    async def close(self, *, within_s: float = 0.15) -> None:
        """See `Socket.close`."""
        self.finish(open_still=True)
        await super().close(within_s=within_s)

    def finish(self, *, open_still: bool = False) -> None:
        """Put the session on the tape; a second call does nothing."""
        began = any(
            isinstance(step.value, dict) and step.value.get("type") == "session.created" for step in self._steps
        )
        if self._is_done or not began:
            return
        self._is_done = True
        is_open = open_still or self.connection.protocol.close_rcvd is None
        came = [n for n, step in enumerate(self._steps) if step.kind == "came"]
        steps = list(self._steps)
        for n, value in zip(came, self._tape.hide.events(steps[n].value for n in came), strict=True):
            steps[n] = Step("came", steps[n].wait_ms, value)
        reason = "" if is_open else self._tape.hide(self.close_reason)
        try:
            self._tape.record(Exchange(self._asked, 0 if is_open else self.close_code, reason, steps))
        except TapeError as error:
            config.report(str(error))


def _event(message: str | bytes) -> Any:
    try:
        return whole_unicode(json.loads(message))
    except (ValueError, RecursionError):
        return whole_unicode(" ".join(str(message).split()))


class PlayedSocket(Socket):
    """A session from a tape.

    Args:
        tape: which.
        found: the session.
        host: who would have been asked.
    """

    def __init__(self, tape: Tape, found: Exchange, *, host: str) -> None:
        super().__init__(None)
        self._tape, self._found, self._host = tape, found, host
        self._keys = {
            n: command_key(step.value)
            for n, step in enumerate(found.steps)
            if step.kind == "said" and step.value.get("type") not in OF_THE_MOMENT
        }
        self._open = dict(self._keys)
        self._sound = _Sound()
        self._heard_ms = 0
        self._heard_at = time.monotonic()
        self._changed = asyncio.Event()
        self._missed: APIError | None = None
        self._missed_id: str | None = None
        self._code, self._reason, self._is_over = 1006, "", False

    def send_now(self, text: str) -> bool:
        """Not here: it is looked for on the tape first."""
        del text
        return False

    async def send(self, text: str) -> None:
        """Say something; it is looked for on the tape."""
        command = json.loads(text)
        self.bytes_sent += len(text)
        if command.get("type") == APPEND:
            self._heard_ms += self._sound.length_ms(command)
            self._heard_at = time.monotonic()
        else:
            self._sound.told(command)
            self._find(command)
        self._changed.set()

    def _find(self, command: Mapping[str, Any]) -> None:
        if command.get("type") in OF_THE_MOMENT or self._missed is not None:
            return
        kept = cleaned(command, hide=self._tape.hide, without=COMMAND_VOLATILE)
        wanted = command_key(kept)
        at = next((n for n, key in self._open.items() if key == wanted), None)
        if at is not None:
            del self._open[at]
            return
        left = [step for n, step in enumerate(self._found.steps) if n in self._open]
        self._missed = self._tape.miss_command(kept, [step.value for step in left], line=self._found.line)
        self._missed_id = command.get("event_id")
        config.report(str(self._missed))  # whoever waits for an answer does not wait for an error

    async def each(self, take: Callable[[str | bytes], object]) -> None:
        """See `Socket.each`."""
        async for message in self._messages():
            take(message)

    async def _messages(self) -> AsyncIterator[str]:
        """What the server said then, in its turn; a command that is not on the tape is an error event and the end."""
        until_ms = 0
        for n, step in enumerate(self._found.steps):
            if step.kind == "said" and n in self._keys:
                await self._until(partial(self._is_said, n))
            elif step.kind == "sound":
                until_ms += step.wait_ms
                await self._until(partial(self._is_heard, until_ms), or_silent_ms=step.wait_ms)
            elif step.kind == "came":
                if self._tape.pace == "real":
                    await self._until(lambda: False, most_s=step.wait_ms / 1000)
                else:
                    await asyncio.sleep(0)
                if not self._stopped:
                    text = json.dumps(step.value) if not isinstance(step.value, str) else step.value
                    yield text
            if self._stopped:
                break
        if not self._stopped and not self._found.status:
            await self._until(lambda: False)
        if self._missed is not None:
            yield json.dumps(self._error_event(self._missed))
            self._code, self._reason = MISS_CODE, str(self._missed).partition("\n")[0]
        elif not self._is_over:
            self._code, self._reason = self._found.status, self._found.kind

    def _is_said(self, position: int) -> bool:
        return position not in self._open

    def _is_heard(self, until_ms: float) -> bool:
        return self._heard_ms >= until_ms

    @property
    def _stopped(self) -> bool:
        return self._is_over or self._missed is not None

    async def _until(
        self, met: Callable[[], bool], *, most_s: float | None = None, or_silent_ms: float | None = None
    ) -> None:
        """Wait for something that the client does, an end, or so long."""
        began = time.monotonic()
        while not (met() or self._stopped):
            self._changed.clear()
            wait_s: float | None = None
            if most_s is not None:
                wait_s = began + most_s - time.monotonic()
            elif or_silent_ms is not None:
                # Nobody speaks (no microphone, another front end): what was said then took its time.
                still_s = or_silent_ms / 1000 if self._tape.pace == "real" else SILENT_S
                wait_s = max(began, self._heard_at) + still_s - time.monotonic()
            if wait_s is not None and wait_s <= 0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _error_event(self, missed: APIError) -> dict[str, Any]:
        error = {
            "type": "invalid_request_error",
            "code": "not_on_the_tape",
            "message": str(missed),
            "param": None,
            "event_id": self._missed_id,
        }
        return {"type": "error", "event_id": "event_tape", "error": error}

    @property
    def close_code(self) -> int:
        """See `Socket.close_code`."""
        return self._code

    @property
    def close_reason(self) -> str:
        """See `Socket.close_reason`."""
        return self._reason

    @property
    def was_clean(self) -> bool:
        """See `Socket.was_clean`."""
        return self._code != 1006

    async def close(self, *, within_s: float = 0.15) -> None:  # noqa: ARG002 - there is nobody to wait for
        """End the session."""
        self._is_over = True
        self._code = 1000
        self._changed.set()
