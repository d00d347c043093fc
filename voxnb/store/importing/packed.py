"""Files that are packed: gzip, bzip2 and xz are unpacked on the way, whatever they are called; others are named."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from voxnb.errors import StoreFormatError

PIECE_BYTES: Final = 1 << 20
SUFFIXES: Final = (".gz", ".bz2", ".xz")
_GZIP: Final = b"\x1f\x8b"
_BZIP2: Final = b"BZh"
_XZ: Final = b"\xfd7zXZ\0"
_OTHERS: Final = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet)",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}
_LONGEST: Final = 6


def plain_path(path: Path) -> Path:
    """The name that the file has unpacked.

    >>> plain_path(Path("chats.jsonl.gz")).name
    'chats.jsonl'
    """
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def is_packed(head: bytes) -> bool:
    """Whether a file that begins so is unpacked on the way."""
    return head.startswith((_GZIP, _BZIP2, _XZ))


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file to read from, unpacked.

    Raises:
        StoreFormatError: it is packed in another way, or breaks off.
        OSError: it cannot be read.
    """
    import bz2
    import gzip
    import lzma
    import zlib

    with path.open("rb", buffering=PIECE_BYTES) as file:
        head = file.read(_LONGEST)
        file.seek(0)
        other = next((what for magic, what in _OTHERS.items() if head.startswith(magic)), None)
        if other is not None:
            raise StoreFormatError(
                f"{str(path)!r} is {other}; unpack it, and import the file in it (in ChatGPT's export it is "
                "conversations.json), or save it as CSV",
                path=str(path),
            )
        if not is_packed(head):
            yield file
            return
        way: Any = gzip if head.startswith(_GZIP) else bz2 if head.startswith(_BZIP2) else lzma
        try:
            with way.open(file, "rb") as inner, io.BufferedReader(inner, PIECE_BYTES) as found:
                yield found
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise StoreFormatError(
                f"{str(path)!r} is packed and broken ({error}); what came before is imported, get the rest from a whole copy",
                path=str(path),
            ) from error
