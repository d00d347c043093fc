"""What an answer holds beside its text: images, files, and what the service's own tools did, each with a line to show.

Only what is shown is read here; the items themselves are stored and sent back as they came.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.wire.item import kind_of

_KINDS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)
"""First bytes of the images that are shown. No SVG: it is a document, and may run what it likes."""

_MOST_CHARS: Final = 120


@dataclass(frozen=True, slots=True)
class Produced:
    """One thing beside the text.

    Attributes:
        kind: the item's type, or ``file``.
        label: one line that says what it is.
        media_type: of `data`.
        data: an image's bytes; None for everything else.
    """

    kind: str
    label: str
    media_type: str | None = None
    data: bytes | None = field(default=None, repr=False)


def produced(items: Iterable[Any]) -> tuple[Produced, ...]:
    """What the items of an answer produced, in order; messages, reasoning and calls for the caller's tools are not in it.

    >>> produced([{"type": "web_search_call", "action": {"type": "search", "query": "iris"}}])[0].label
    'searched the web: iris'
    """
    out: list[Produced] = []
    for item in items:
        if isinstance(item, Mapping):
            out += _READERS.get(str(kind_of(item)), _other)(item)
    return tuple(out)


def _image(item: Mapping[str, Any]) -> list[Produced]:
    kind = "image_generation_call"
    try:
        data = base64.b64decode(str(item.get("result") or ""), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    media_type = next((name for start, name in _KINDS if data.startswith(start)), None)
    if media_type == "image/webp" and data[8:12] != b"WEBP":
        media_type = None
    if media_type is None:
        return [Produced(kind, f"an image ({_words(item.get('status')) or 'not there'})")]
    return [
        Produced(kind, f"an image, {media_type.removeprefix('image/').upper()}, {_size(len(data))}", media_type, data)
    ]


def _search(item: Mapping[str, Any]) -> list[Produced]:
    action = item.get("action")
    asked = action if isinstance(action, Mapping) else item
    words = asked.get("query") or asked.get("queries") or asked.get("url") or ""
    where = "the web" if item["type"] == "web_search_call" else "files"
    return [Produced(item["type"], f"searched {where}: {_words(words)}")]


def _code(item: Mapping[str, Any]) -> list[Produced]:
    logs = [output.get("logs") for output in _dicts(item.get("outputs"))]
    said = _words(" ".join(str(text) for text in logs if text))
    return [Produced(item["type"], f"ran code: {_words(item.get('code'))}{f' → {said}' if said else ''}")]


def _mcp(item: Mapping[str, Any]) -> list[Produced]:
    what = f"called {_words(item.get('server_label'))}.{_words(item.get('name'))}({_words(item.get('arguments'))})"
    outcome = item.get("error") or item.get("output")
    return [Produced(item["type"], what + (f" → {_words(outcome)}" if outcome else ""))]


def _message(item: Mapping[str, Any]) -> list[Produced]:
    notes = [note for part in _dicts(item.get("content")) for note in _dicts(part.get("annotations"))]
    names = [n.get("filename") or n.get("file_id") for n in notes if "file" in str(n.get("type"))]
    return [Produced("file", f"a file: {label}") for label in dict.fromkeys(_words(name) for name in names if name)]


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _nothing(_item: Mapping[str, Any]) -> list[Produced]:
    return []


def _other(item: Mapping[str, Any]) -> list[Produced]:
    return [Produced(str(item.get("type")), _words(str(item.get("type")).replace("_", " ")))]


_READERS: Final = {
    "message": _message,
    "reasoning": _nothing,
    "function_call": _nothing,
    "custom_tool_call": _nothing,
    "image_generation_call": _image,
    "web_search_call": _search,
    "file_search_call": _search,
    "code_interpreter_call": _code,
    "mcp_call": _mcp,
}


def _words(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    line = " ".join(text[: 4 * _MOST_CHARS].split())
    return line if len(line) <= _MOST_CHARS else line[: _MOST_CHARS - 1] + "…"


def _size(size_bytes: int) -> str:
    return f"{size_bytes:,} bytes" if size_bytes < 10_000 else f"{size_bytes / 1_000:,.0f} kB"
