"""Parts of a message's content: the chat completions' spelling and the Responses API's, each made of the other.

Source: openai-python ``types/chat/chat_completion_content_part_param.py``, ``types/responses/response_input_*_param.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TEXTS: Final = frozenset({"text", "input_text", "output_text"})
"""How a part of plain text calls itself."""

_ECHOES: Final = frozenset({"logprobs", "parsed"})
"""What an answer's text says of itself; it costs room and tells the model nothing."""


def to_part(part: Any, *, role: str) -> Any:
    """A part as the Responses API takes it, whichever spelling it came in.

    >>> to_part({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, role="user")
    {'type': 'input_image', 'image_url': 'https://example.com/a.png', 'detail': 'auto'}
    """
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        return part
    kind = part.get("type")
    rest = {k: v for k, v in part.items() if k != "type" and v is not None}
    if kind in TEXTS:
        if role == "assistant":
            rest = {k: v for k, v in rest.items() if k not in _ECHOES}
            return {"type": "output_text", "annotations": [], **rest}
        return {"type": "input_text", **{k: v for k, v in rest.items() if k not in {*_ECHOES, "annotations"}}}
    if kind == "image_url" and isinstance(image := rest.pop("image_url", None), Mapping | str):
        inner = {"url": image} if isinstance(image, str) else {k: v for k, v in image.items() if v is not None}
        return {"type": "input_image", "image_url": inner.pop("url", ""), "detail": "auto", **inner, **rest}
    if kind == "input_image":
        return {"type": kind, "detail": "auto", **rest}
    if kind == "file" and isinstance(file := rest.pop("file", None), Mapping):
        return {"type": "input_file", **{k: v for k, v in file.items() if v is not None}, **rest}
    return {"type": kind, **rest}


def to_chat_part(part: Any) -> Any:
    """A part as chat completions spell it; one that they have no word for stays as it is.

    >>> to_chat_part({"type": "input_text", "text": "Hi"})
    {'type': 'text', 'text': 'Hi'}
    """
    if not isinstance(part, Mapping):
        return part
    kind = part.get("type")
    rest = {k: v for k, v in part.items() if k != "type" and v is not None}
    if kind in TEXTS:
        return {"type": "text", **{k: v for k, v in rest.items() if k not in {*_ECHOES, "annotations"}}}
    if kind == "input_image" and isinstance(url := rest.pop("image_url", None), str) and "file_id" not in rest:
        detail = rest.pop("detail", "auto")
        return {"type": "image_url", "image_url": {"url": url} if detail == "auto" else {"url": url, "detail": detail}}
    if kind == "input_file" and not {"file_url", "detail"} & set(rest):
        return {"type": "file", "file": {k: v for k, v in rest.items() if k in ("file_id", "filename", "file_data")}}
    return {k: v for k, v in part.items() if v is not None}


def to_content(content: Any, *, role: str) -> Any:
    """A message's content as the Responses API takes it."""
    return [to_part(p, role=role) for p in content] if isinstance(content, list | tuple) else content


def to_chat_content(content: Any) -> Any:
    """A message's content as chat completions spell it."""
    return [to_chat_part(p) for p in content] if isinstance(content, list | tuple) else content
