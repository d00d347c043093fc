"""What items of the Responses API cost in tokens beside the message they belong to.

The message's own content and tool calls are counted there, so that no text is counted twice. Of the rest:

- reasoning: what its encrypted text can hold, by its length (nobody but the service knows); without it nothing, since
  it is not sent back. Kept apart as media, so that reported usage corrects it.
- searches, MCP calls and lists, shells and patches that the service ran: their JSON text without ids.
- code: its text, the logs it wrote, its pictures as images.
- a generated picture: an image of its size, and the prompt it was made of.
- a compaction: like reasoning. A reference: nothing, its content is not known here.

What is unknown is counted by its JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from voxnb.memory.parts import image_tokens
from voxnb.memory.tally import Tally

ENCRYPTED_CHARS_PER_TOKEN: Final = 6
"""Base64 holds 3 bytes in 4 characters, and a token of English text is about 4.5 bytes."""

ITEM_TOKENS: Final = 5
"""Marks of one item, as of a tool call."""

_UNSEEN: Final = frozenset({"id", "status", "call_id", "container_id", "type", "created_by"})


def add_items(tally: Tally, message: Mapping[str, Any]) -> None:
    """Add what a message's ``items`` cost beside the message."""
    items = message.get("items")
    if not isinstance(items, list | tuple) or (message.get("role") != "assistant" and message.get("content")):
        return
    said = {call.get("id") for call in message.get("tool_calls") or () if isinstance(call, Mapping)}
    for item in items:
        if not isinstance(item, Mapping):
            tally.json(item)
        elif item.get("type", "message") != "message" and not {item.get("call_id"), item.get("id")} & said:
            _add(tally, item)


def _add(tally: Tally, item: Mapping[str, Any]) -> None:
    kind = item.get("type")
    if kind == "item_reference":
        return
    if kind in ("reasoning", "compaction"):
        encrypted = item.get("encrypted_content")
        if isinstance(encrypted, str) and encrypted:
            tally.add_media(-(-len(encrypted) // ENCRYPTED_CHARS_PER_TOKEN))
        return
    tally.marks(ITEM_TOKENS)
    if kind == "image_generation_call":
        if isinstance(result := item.get("result"), str) and result:
            url = f"data:image/{item.get('output_format') or 'png'};base64,{result}"
            tally.add_media(image_tokens(url, model=tally.model))
        if isinstance(prompt := item.get("revised_prompt"), str):
            tally.text(prompt)
    elif kind == "code_interpreter_call":
        if isinstance(code := item.get("code"), str):
            tally.text(code)
        _add_outputs(tally, item.get("outputs"))
    else:
        tally.json({k: v for k, v in item.items() if k not in _UNSEEN and v is not None})


def _add_outputs(tally: Tally, outputs: Any) -> None:
    for output in outputs if isinstance(outputs, list | tuple) else ():
        if not isinstance(output, Mapping):
            tally.json(output)
        elif output.get("type") == "image":
            url = output.get("url")
            tally.add_media(image_tokens(url if isinstance(url, str) else "", model=tally.model))
        else:
            logs = output.get("logs")
            tally.text(logs) if isinstance(logs, str) else tally.json(output)
