"""Server-sent events: bytes as they arrive, the ``data`` payloads that are complete.

Source: WHATWG HTML, "Server-sent events", parsing and interpreting an event stream. Differences, both for
servers of the field: what follows the last blank line is not thrown away (`SSEReader.close` returns it), and an
empty payload is none.
"""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""How long one event may grow before the stream is taken for something else."""

_OTHER_FIELDS: Final = ("event", "id", "retry")
_STRAY_CHARACTERS: Final = 200


class SSEReader:
    r"""Cuts a byte stream into event payloads, however the blocks fall.

    Line ends may be ``\n``, ``\r\n`` or ``\r``, mixed; UTF-8 may be split anywhere (bytes that are not UTF-8 become
    U+FFFD); comments and the fields ``event``, ``id`` and ``retry`` are passed over; several ``data`` lines of one
    event are joined by ``\n``. ``[DONE]`` is a payload like any other.

    >>> reader = SSEReader()
    >>> reader.feed(b'data: {"a"')
    []
    >>> reader.feed(b': 1}\r\n\r\n: keep-alive\n\ndata: [DO')
    ['{"a": 1}']
    >>> reader.close()
    ['[DO']

    Attributes:
        stray: the first line that is no field of an event stream (such as the start of a login page), at most 200
            characters; ``""`` while there is none.
    """

    __slots__ = ("_after_return", "_at_start", "_buffer", "_max_bytes", "stray")

    def __init__(self, *, max_bytes: int = MAX_EVENT_BYTES) -> None:
        """Start at the beginning of a stream.

        Args:
            max_bytes: the longest event that is waited for.
        """
        self._max_bytes = max_bytes
        self._buffer = bytearray()  # the event that has begun
        self._after_return = False  # the last block ended in \r; a \n at the start of the next belongs to it
        self._at_start = True
        self.stray = ""

    def feed(self, data: bytes) -> list[str]:
        """Take the next block.

        Args:
            data: any number of bytes.

        Returns:
            The payloads that this block completed, in order.

        Raises:
            ValueError: one event is longer than `max_bytes`.
        """
        if self._after_return or b"\r" in data:
            data = self._with_newlines(data)
        buffer = self._buffer
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            if not (buffer.endswith(b"\n") and data.startswith(b"\n")):
                self._keep(data)
                return []
            end = 1
        whole = data[:end]
        if buffer:
            whole = bytes(buffer) + whole
            buffer.clear()
        self._keep(data[end:])
        return self._payloads(whole)

    def close(self) -> list[str]:
        """End the stream: the payload of an event that no blank line ended, if there is one.

        A server may leave the last blank line out. Where the connection broke instead, the payload may be half a
        one: do not ask for it.

        Returns:
            At most one payload.
        """
        rest = bytes(self._buffer)
        self._buffer.clear()
        return self._payloads(rest) if rest else []

    def _keep(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self._max_bytes:
            self._buffer.clear()
            raise ValueError(
                f"one event of the stream is longer than {self._max_bytes} bytes; this is no stream of chat chunks"
            )

    def _with_newlines(self, data: bytes) -> bytes:
        if not data:
            return data
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
        self._after_return = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _payloads(self, whole: bytes) -> list[str]:
        text = whole.decode("utf-8", "replace")
        if self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        found = []
        for event in text.split("\n\n"):
            # One data line, as every provider sends it, is the case to be fast in.
            payload = event[6:] if event.startswith("data: ") and "\n" not in event else self._lines(event)
            if payload:
                found.append(payload)
        return found

    def _lines(self, event: str) -> str:
        values = []
        for line in event.split("\n"):
            name, _, value = line.partition(":")
            if name == "data":
                values.append(value.removeprefix(" "))
            elif name and name not in _OTHER_FIELDS and not self.stray:
                self.stray = line[:_STRAY_CHARACTERS]
        return "\n".join(values)
