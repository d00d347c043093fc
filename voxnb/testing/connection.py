"""One connection: the standard library parses, the writing is ours for control of every byte."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, cast

from voxnb.testing.rendering import Answer
from voxnb.testing.replies import Drop, Hang
from voxnb.testing.request import Request

_BLOCK_BYTES: Final = 65_536


class _GoneError(ConnectionError):
    """The other side closed the connection, or the server did."""


class Connection(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other, until it ends."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(
        self,
        connection: socket.socket,
        address: Any,
        *,
        record: Callable[..., Request],
        answer: Callable[[Request], Answer],
        closing: threading.Event,
        failed: Callable[[BaseException], Answer],
    ) -> None:
        """Serve until the connection ends; returns only then.

        Args:
            connection: the accepted socket; the caller closes it.
            address: the other side's address.
            record: takes a request down.
            answer: finds the answer to a recorded request.
            closing: set when the server is being closed.
            failed: is told of an exception in a scripted stream.
        """
        self._record, self._find, self._closing, self._failed = record, answer, closing, failed
        # The base class keeps the server for its subclasses only; ours needs the four functions above.
        super().__init__(connection, address, cast("Any", None))

    def do_POST(self) -> None:
        """Answer one request, whatever its method."""
        self._handle()

    do_GET = do_PUT = do_DELETE = do_PATCH = do_POST  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: tests read `Server.requests`."""

    def _handle(self) -> None:
        headers = {k.lower(): v for k, v in self.headers.items()}
        request = self._record(self.command, self.path, headers=headers, body=self._read_body())
        outcome = "disconnected"
        try:
            outcome = self._send(self._find(request), request)
        except OSError:  # the other side went, or the server was closed: the outcome says so
            self.close_connection = True
        finally:
            request._end(outcome)  # noqa: SLF001 - the request's other half

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer: Answer, request: Request) -> str:
        self._pause(answer.delay_s)
        cut = answer.cut
        if cut is not None and cut.after_events is None and cut.after_bytes == 0:
            return self._cut(cut)
        headers = {"x-request-id": f"req_{request.number:08d}", **answer.headers}
        frames: Iterable[bytes] = answer.frames
        if answer.streamed:
            headers["transfer-encoding"] = "chunked"
        else:
            frames = list(answer.frames)
            headers["content-length"] = str(sum(map(len, frames)))
        self.connection.sendall(_head(answer.status, headers))
        if cut is not None:
            self._write(_first(frames, cut), answer)
            return self._cut(cut)
        self._write(frames, answer)
        if answer.streamed:
            self.connection.sendall(b"0\r\n\r\n")
        return "answered"

    def _write(self, frames: Iterable[bytes], answer: Answer) -> None:
        # A list that needs no pauses leaves in large blocks, each event still its own HTTP chunk.
        at_once = isinstance(frames, list) and not answer.chunk_delay_s
        block = bytearray()
        try:
            for number, frame in enumerate(frames):
                if number and answer.chunk_delay_s:
                    self._pause(answer.chunk_delay_s)
                if frame:
                    block += b"%x\r\n%b\r\n" % (len(frame), frame) if answer.streamed else frame
                if block and (not at_once or len(block) >= _BLOCK_BYTES):
                    self.connection.sendall(block)
                    block.clear()
            self.connection.sendall(block)
        except OSError:
            raise
        except Exception as error:
            # A test's generator failed: the test is told, the client sees half a stream.
            self._failed(error)
            raise _GoneError from error
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        # Something to read before the time is over: the end of the connection (the other side went, or close()
        # shut the socket), or the next request, which waits.
        until_s = time.monotonic() + seconds
        self.connection.settimeout(seconds)
        try:
            if not self.connection.recv(1, socket.MSG_PEEK):
                raise _GoneError
        except TimeoutError:
            return
        finally:
            self.connection.settimeout(None)
        if self._closing.wait(until_s - time.monotonic()):
            raise _GoneError

    def _cut(self, cut: Drop | Hang) -> str:
        self.close_connection = True
        if not isinstance(cut, Drop):
            while self.connection.recv(_BLOCK_BYTES):
                pass  # whatever else comes is not answered
            return "disconnected"
        if cut.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        return "dropped"


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Scripted"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _first(frames: Iterable[bytes], cut: Drop | Hang) -> Iterator[bytes]:
    """The frames up to the cut, the last one shortened."""
    if cut.after_events is not None:
        for number, frame in enumerate(frames):
            if number == cut.after_events:
                return
            yield frame
        return
    left = cut.after_bytes
    for frame in frames:
        yield frame[:left]
        left -= len(frame)
        if left <= 0:
            return
