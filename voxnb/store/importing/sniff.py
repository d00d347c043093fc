"""What a file is, by its first bytes and its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from voxnb.errors import StoreError, StoreFormatError
from voxnb.store.importing.chats import list_of
from voxnb.store.importing.draft import Reading
from voxnb.store.importing.lines import json_items, json_lines, opened, stands_in_lines
from voxnb.store.importing.packed import is_packed, plain_path
from voxnb.store.importing.spoken import is_langchain

WHOLE_FILES: Final = {"llm": b"SQLite format 3\0", "parquet": b"PAR1"}
"""Formats that are not read from the first byte to the last, and how they begin."""
PEEK_BYTES: Final = 4096
LOOKED_AT: Final = 20


def format_of(path: Path, *, max_item_bytes: int) -> str:
    """The format's name, as `import_conversations` takes it.

    Raises:
        StoreFormatError: it is none that is known.
        StoreError: it cannot be read.
    """
    with opened(path) as file:
        head = file.read(PEEK_BYTES)
    for name, magic in WHOLE_FILES.items():
        if head.startswith(magic):
            check_unpacked(path, name)
            return name
    begins, suffix = head.lstrip()[:1], plain_path(path).suffix.lower()
    if begins in (b"{", b"["):
        found = _of_values(path, max_item_bytes)
        # A first line that is broken says nothing; the name may.
        found = found or ("openai" if suffix in (".jsonl", ".ndjson") else None)
    elif not begins:
        # An empty file has no conversation, in whatever format its name says.
        found = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".db": "llm"}.get(suffix, "openai")
    elif suffix in (".csv", ".tsv") or re.search(rb"[,;\t]", head.splitlines()[0]):
        found = "csv"
    else:
        found = "openai" if suffix in (".jsonl", ".ndjson") else None
    if found is None:
        raise StoreFormatError(
            f"cannot tell what {str(path)!r} is; say format=…: jsonl (voxnb's own), openai, chatgpt, langchain, llm, csv, "
            "parquet, qmsum",
            path=str(path),
        )
    return found


def check_unpacked(path: Path, name: str) -> None:
    """Whether a file of a format can be read as it lies there.

    Raises:
        StoreFormatError: it is packed, and the format is not read in order.
        StoreError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            packed = is_packed(file.read(8))
    except OSError as error:
        raise StoreError(f"cannot read {str(path)!r}: {error.strerror or error}", path=str(path)) from error
    if packed:
        raise StoreFormatError(
            f"{str(path)!r} is packed, and a file of format {name!r} cannot be read so; unpack it", path=str(path)
        )


def _of_values(path: Path, max_item_bytes: int) -> str | None:
    """The format of the first value that has one, of the first few."""
    reading = Reading("", "", "", max_item_bytes=max_item_bytes)
    in_lines = stands_in_lines(path, max_item_bytes)
    with opened(path) as file:
        found: Iterator[tuple[Any, Any]] = (
            json_lines(file, reading) if in_lines else json_items(file, reading, noun="item")
        )
        values = [value for _, value in islice(found, LOOKED_AT)]
    if not values and not reading.skipped.all():
        return "openai"  # an empty list has no conversation, like an empty file
    return next((kind for value in values if (kind := _of_value(value)) is not None), None)


def _of_value(first: Any) -> str | None:
    if isinstance(first, list):
        return "langchain" if any(is_langchain(item) for item in first) else "openai"
    if not isinstance(first, Mapping):
        return None
    if "voxnb" in first:
        return "jsonl"
    if isinstance(first.get("mapping"), Mapping):
        return "chatgpt"
    if "meeting_transcripts" in first:
        return "qmsum"
    if is_langchain(first):
        return "langchain"
    key = list_of(first)
    if key is not None:
        return "langchain" if any(is_langchain(item) for item in first[key]) else "openai"
    if "role" in first or {"from", "value"} <= set(first):
        return "openai"
    return None
