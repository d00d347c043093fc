"""Lines and JSON values of a file, one at a time, whatever is in it: nothing is read whole, nothing raises but the disk.

Rule 1: an item longer than `Reading.max_item_bytes` is passed over in pieces, and noted.
Rule 2: bytes that are not UTF-8 are read as Windows-1252, which has a letter for nearly every byte, and noted. A file that
begins as UTF-16 is read as that.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from voxnb.errors import StoreError
from voxnb.store.importing.draft import Reading
from voxnb.store.importing.packed import PIECE_BYTES, unpacked

TOO_LONG: Final = "longer than the limit (raise it with max_item_bytes=…)"
NOT_UTF8: Final = "bytes that are not UTF-8, read as Windows-1252"
NOT_JSON: Final = "not JSON"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, to read bytes of UTF-8 from; what is packed is unpacked, and UTF-16 recoded, on the way.

    Raises:
        StoreFormatError: see `packed.unpacked`.
        StoreError: it cannot be opened or read.
    """
    try:
        with unpacked(path) as file:
            head = file.read(4)
            file.seek(0)
            if head.startswith(codecs.BOM_UTF8):
                file.seek(len(codecs.BOM_UTF8))
            if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                recoded = codecs.EncodedFile(file, "utf-8", "utf-16", errors="replace")
                yield io.BufferedReader(_Raw(recoded), PIECE_BYTES)
            else:
                yield file
    except OSError as error:
        raise StoreError(f"cannot read {str(path)!r}: {error.strerror or error}", path=str(path)) from error


class _Raw(io.RawIOBase):
    """A recoding stream as one that can be buffered."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self._source = source
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            self._held = self._source.read(len(buffer))
        taken, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def lines(file: IO[bytes], reading: Reading) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes without the end) of every line that is not blank."""
    for number, line in whole_lines(file, reading):
        if said := line.strip():
            yield number, said


def whole_lines(file: IO[bytes], reading: Reading) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes) of every line that is not too long."""
    limit = reading.max_item_bytes
    number = 0
    while line := file.readline(limit + 1):
        number += 1
        reading.done += len(line)
        if len(line) > limit and not line.endswith(b"\n"):
            while (rest := file.readline(PIECE_BYTES)) and not rest.endswith(b"\n"):
                reading.done += len(rest)
            reading.skipped.add(TOO_LONG, f"line {number}")
            continue
        yield number, line


def text_of(raw: bytes, place: str, reading: Reading) -> str:
    """Bytes as text; see rule 2."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        reading.remarks.add(NOT_UTF8, place)
        return raw.decode("cp1252", "replace")


def json_lines(file: IO[bytes], reading: Reading) -> Iterator[tuple[int, Any]]:
    """(line number, value) of a JSON Lines file; a line that is no JSON is noted and passed over."""
    for number, line in lines(file, reading):
        try:
            # Decoded here: json would guess UTF-16 from a few bytes, and refuse a mark at a line's start.
            value = json.loads(text_of(line, f"line {number}", reading))
        except (ValueError, RecursionError) as error:
            reading.skipped.add(NOT_JSON, f"line {number}: {error}"[:200])
            continue
        yield number, value


def stands_in_lines(path: Path, max_line_bytes: int) -> bool:
    """Whether every line of a JSON file is a value of its own; else it is one array, or one value over many lines."""
    with opened(path) as file:
        first, second = b"", b""
        for line in iter(lambda: file.readline(max_line_bytes), b""):
            if first and line.strip():
                second = line.strip()
                break
            first = first or line.strip()
    if first.startswith(b"["):
        return second.startswith(b"[") and first.endswith(b"]")
    # An object that is laid out over lines breaks after a bracket or a comma; a line that is merely broken does not.
    return not first.startswith(b"{") or not second or first[-1:] not in b"{[,"


# -- values that span lines -------------------------------------------------------------------


class _Scanner:
    """JSON values out of a file that is read in pieces."""

    def __init__(self, file: IO[bytes], reading: Reading) -> None:
        self._file = file
        self._reading = reading
        self._decode = json.JSONDecoder().raw_decode
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._at = 0
        self._ended = False

    def _more(self, size: int) -> bool:
        """Read on; False at the end."""
        if self._ended:
            return False
        raw = self._file.read(size)
        self._reading.done += len(raw)
        self._ended = len(raw) < size
        text = self._bytes.decode(raw, final=self._ended)
        if "\ufffd" in text and "\ufffd".encode() not in raw:
            self._reading.remarks.add("bytes that are not UTF-8, replaced")
        self._text, self._at = self._text[self._at :] + text, 0
        return True

    def peek(self) -> str:
        """The next character that is not blank, or "" at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more(PIECE_BYTES):
                return ""

    def skip(self) -> None:
        """Go past the character that was peeked at."""
        self._at += 1

    def value(self) -> Any:
        """The next value.

        Raises:
            ValueError: it is no JSON, or cut off, or longer than the limit.
        """
        self.peek()
        size = PIECE_BYTES
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                # What is wrong may only be that the rest is not here yet: twice as much each time, up to the limit.
                if len(self._text) - self._at > self._reading.max_item_bytes:
                    raise ValueError(TOO_LONG) from error
                if isinstance(error, RecursionError) or not self._more(size):
                    raise ValueError(str(error)) from error
                size *= 2
                continue
            if end == len(self._text) and self._more(size):
                continue  # a number may go on
            self._at = end
            return value


def json_items(file: IO[bytes], reading: Reading, *, noun: str) -> Iterator[tuple[str, Any]]:
    """(place, value) of a JSON file: the items of an array, or the values one after another.

    After something that is no JSON nothing more is read: where the next item begins cannot be known.

    Args:
        file: at its start.
        reading: of the import.
        noun: what an item is, for places.
    """
    scanner = _Scanner(file, reading)
    is_array = scanner.peek() == "["
    if is_array:
        scanner.skip()
    number = 0
    while (character := scanner.peek()) not in ("", "]" if is_array else ""):
        if character == ",":
            scanner.skip()
            continue
        number += 1
        try:
            value = scanner.value()
        except ValueError as error:
            reading.skipped.add(f"{NOT_JSON}, and nothing after it was read", f"{noun} {number}: {error}"[:200])
            return
        yield f"{noun} {number}", value
    if is_array and character == "":
        reading.remarks.add("the file ends before its array does: it was cut off", f"after {noun} {number}")
