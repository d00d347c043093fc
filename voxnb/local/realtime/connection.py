"""One WebSocket of the local Realtime server: bytes, frames and time for a `Session`.

The WebSocket protocol is the sans-I/O one of the ``websockets`` package, so that every byte is ours to send or to hold back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from websockets.exceptions import ProtocolError as FrameError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from voxnb.local.realtime.chaos import Chaos, Spoiler
from voxnb.local.realtime.effect import Abort, Close, Effect, Hear, Send, SendRaw, Think
from voxnb.local.realtime.posting import Post, answered
from voxnb.local.realtime.recording import Recording
from voxnb.local.realtime.session import Session

if TYPE_CHECKING:
    from voxnb.local.realtime.server import RealtimeServer

MESSAGE_BYTES: Final = 24 * 1024 * 1024
"""Longest message taken: an `input_audio_buffer.append` of 15 MiB is 20 MiB of base64."""

WAITING_BYTES: Final = 8 * 1024 * 1024
"""Most that waits for a client that does not read; then the session stands still until it does."""

CLOSE_S: Final = 1.0
"""How long a close frame waits for its answer."""

OPEN_S: Final = 10.0
"""How long a client may take for its handshake."""


class Connection(asyncio.Protocol):
    """One client of the server, from its handshake to its end.

    Args:
        server: whose client it is.
    """

    def __init__(self, server: RealtimeServer) -> None:
        self._server = server
        self._websocket = ServerProtocol(max_size=MESSAGE_BYTES)
        self._transport: asyncio.Transport | None = None
        self._post: Post | None = None
        self._session: Session | None = None
        self._recording: Recording | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fragments: list[bytes] = []
        self._is_paused = False
        self._is_closing = False  # by us
        self._spoiler: Spoiler | None = None
        self._lagging: deque[tuple[float, bytes | str]] = deque()
        self._lag_timer: asyncio.TimerHandle | None = None
        self._thinking: dict[str, threading.Event] = {}

    # -- asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WAITING_BYTES)
        self._server.arrived(self)
        self._timer = self._loop.call_later(OPEN_S, self.abort)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._post is None and self._session is None and data.startswith(b"POST "):
            self._post = Post()
        if self._post is not None:
            self._posted(self._post, data)
            return
        self._websocket.receive_data(data)
        self._events()
        pace_bytes_s = self._chaos.read_bytes_s
        if pace_bytes_s is not None and self._transport is not None:
            self._transport.pause_reading()
            self._loop.call_later(len(data) / pace_bytes_s, self._read_on)

    def _posted(self, post: Post, data: bytes) -> None:
        """Answer a request that is no handshake."""
        assert self._transport is not None
        try:
            request = post.feed(data)
        except ValueError:
            self.abort()
            return
        if request is not None:
            parts = urlsplit(request.path)
            self._transport.write(
                answered(*self._server.posted(parts.path, headers=request.headers, body=request.body))
            )
            self._transport.close()

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The client's last byte."""
        self._websocket.receive_eof()
        self._events()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The end, whoever made it."""
        del error
        self._stop()
        if self._recording is not None:
            frame = self._websocket.close_rcvd
            self._recording.end(frame.code if frame is not None else None)
        self._transport = None
        self._server.left(self)

    def pause_writing(self) -> None:
        """The client does not read: time stands still for its session."""
        self._is_paused = True
        self._schedule()

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_paused = False
        self._advance()

    # -- the protocol -----------------------------------------------------------------------------

    @property
    def _chaos(self) -> Chaos:
        return self._server.manner.chaos

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._server.loop

    def _events(self) -> None:
        for event in self._websocket.events_received():
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()

    def _handshake(self, request: Request) -> None:
        assert self._timer is not None
        self._timer.cancel()
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query))
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        refusal = self._server.objection(parts.path, query=query, headers=headers)
        if refusal is not None:
            status, more, body = refusal
            answer = self._websocket.reject(status, body)
            for name, value in more.items():
                with contextlib.suppress(KeyError):
                    del answer.headers[name]
                answer.headers[name] = value
            self._websocket.send_response(answer)
            return
        answer = self._websocket.accept(request)
        if answer.status_code == 101 and "realtime" in headers.get("sec-websocket-protocol", ""):
            answer.headers["Sec-WebSocket-Protocol"] = "realtime"  # what browsers offer beside their key
        self._websocket.send_response(answer)
        if answer.status_code == 101:
            self._open(query, headers)

    def _open(self, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self._session = self._server.new_session(query, headers)
        self._recording = self._server.record(self._session.config["type"], query)
        if self._chaos != Chaos():
            self._spoiler = Spoiler(self._chaos, self._server.chance)
        self._run()
        self._schedule()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return  # pings and the close are answered by the protocol
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        message, self._fragments = b"".join(self._fragments), []
        if self._session is None or self._recording is None:
            return
        self._recording.took(message)
        self._session.receive(message, now_s=self._server.clock())
        self._run()
        self._schedule()

    def _flush(self) -> None:
        transport = self._transport
        if transport is None:
            return
        for data in self._websocket.data_to_send():
            if self._chaos.ignores_close and self._websocket.close_rcvd is not None and not self._is_closing:
                continue
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
        if self._websocket.state is State.CLOSED and (self._is_closing or not self._chaos.ignores_close):
            transport.close()

    # -- time -------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._session is None or self._is_paused or self._transport is None:
            return
        due_s = self._session.due_s()
        if due_s is not None:
            self._timer = self._loop.call_later(max(0.0, due_s - self._server.clock()), self._advance)

    def _advance(self) -> None:
        if self._session is None:
            return
        self._session.tick(self._server.clock())
        self._run()
        self._flush()
        self._schedule()

    # -- what the session wants -------------------------------------------------------------------

    def _run(self) -> None:
        assert self._session is not None
        # A quick brain answers at once, which may bring more to do.
        while effects := self._session.take():
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        assert self._session is not None
        assert self._recording is not None
        if isinstance(effect, Send):
            self._send(effect.event)
        elif isinstance(effect, SendRaw):
            self._put(effect.message)
        elif isinstance(effect, Think):
            self._think(effect)
        elif isinstance(effect, Hear):
            self._hear(effect)
        elif isinstance(effect, Close):
            self._close(effect.code, effect.reason)
        elif isinstance(effect, Abort):
            self._is_closing = True
            self._flush()
            self._websocket.receive_eof()  # nothing more is read
            if self._transport is not None:
                self._transport.close()

    def _send(self, event: dict[str, Any]) -> None:
        assert self._recording is not None
        if self._websocket.state is not State.OPEN:
            return
        self._recording.sent_event(event)
        for spoiled in self._spoiler.spoiled(event) if self._spoiler is not None else [event]:
            self._put(json.dumps(spoiled, ensure_ascii=False, separators=(",", ":")))

    def _put(self, message: str | bytes) -> None:
        lag_s = self._spoiler.lag_s() if self._spoiler is not None else 0.0
        if not lag_s and not self._lagging:
            self._write(message)
            return
        soonest_s = self._lagging[-1][0] if self._lagging else 0.0
        self._lagging.append((max(soonest_s, self._loop.time() + lag_s), message))
        if self._lag_timer is None:
            self._lag_timer = self._loop.call_at(self._lagging[0][0], self._catch_up)

    def _catch_up(self) -> None:
        self._lag_timer = None
        while self._lagging and self._lagging[0][0] <= self._loop.time():
            self._write(self._lagging.popleft()[1])
        self._flush()
        if self._lagging:
            self._lag_timer = self._loop.call_at(self._lagging[0][0], self._catch_up)

    def _write(self, message: str | bytes) -> None:
        if self._websocket.state is not State.OPEN:
            return
        if isinstance(message, str):
            self._websocket.send_text(message.encode())
        else:
            self._websocket.send_binary(message)

    def _close(self, code: int, reason: str) -> None:
        self._is_closing = True
        while self._lagging:
            self._write(self._lagging.popleft()[1])
        if self._websocket.state is State.OPEN:
            with contextlib.suppress(FrameError):
                self._websocket.send_close(code, reason)
        self._flush()
        self._loop.call_later(CLOSE_S, self.abort)

    def _think(self, effect: Think) -> None:
        brain, session = self._server.brain, self._session
        assert session is not None
        if brain.is_quick:
            try:
                parts = list(brain.answer(effect.view))
            except Exception as error:  # noqa: BLE001 - a test's own function failed: the test is told, the client sees a failure
                parts = [self._server.failed(error)]
            session.supply(effect.response_id, parts, now_s=self._server.clock())
            return
        stopped = self._thinking[effect.response_id] = threading.Event()
        threading.Thread(
            target=self._think_slowly, args=(effect, stopped), name="voxnb-realtime-brain", daemon=True
        ).start()

    def _think_slowly(self, effect: Think, stopped: threading.Event) -> None:
        """In a thread of its own: part by part, as long as somebody waits for it."""
        try:
            for part in self._server.brain.answer(effect.view):
                if stopped.is_set():
                    return
                self._server.call(self._supply, effect.response_id, [part], False)
        except Exception as error:  # noqa: BLE001 - as above
            self._server.call(self._supply, effect.response_id, [self._server.failed(error)], True)
        else:
            self._server.call(self._supply, effect.response_id, [], True)

    def _supply(self, response_id: str, parts: list[Any], is_last: bool) -> None:  # noqa: FBT001 - called through the loop
        if self._session is None:
            return
        self._session.supply(response_id, parts, now_s=self._server.clock(), is_last=is_last)
        if is_last:
            self._thinking.pop(response_id, None)
        elif not self._session.is_open(response_id):  # cancelled: nobody waits for the rest
            self._thinking[response_id].set()
        self._run()
        self._flush()
        self._schedule()

    def _hear(self, effect: Hear) -> None:
        if self._server.brain.is_quick:
            self._transcribed(effect, *self._understood(effect))
        else:
            threading.Thread(
                target=lambda: self._server.call(self._transcribed, effect, *self._understood(effect)),
                name="voxnb-realtime-ears",
                daemon=True,
            ).start()

    def _understood(self, effect: Hear) -> tuple[str | None, str]:
        try:
            text = self._server.brain.transcribe(effect.heard)
        except Exception as error:  # noqa: BLE001 - as above
            self._server.failed(error)
            return None, f"{type(error).__name__}: {error}"
        return text, "The audio could not be transcribed."

    def _transcribed(self, effect: Hear, text: str | None, failure: str) -> None:
        if self._session is None:
            return
        self._session.transcribed(effect.heard.item_id, text, now_s=self._server.clock(), failure=failure)
        self._run()
        self._flush()
        self._schedule()

    # -- its end ----------------------------------------------------------------------------------

    def close(self, code: int = 1001, reason: str = "") -> None:
        """Say good-bye, and break the connection if that is not answered within `CLOSE_S`."""
        self._stop()
        if self._websocket.close_rcvd is not None:  # what chaos left unanswered
            self.abort()
        else:
            self._close(code, reason)

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _stop(self) -> None:
        self._session = None
        for stopped in self._thinking.values():
            stopped.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
