"""One message in any of the shapes that other programs write, as the API's dict.

Shapes: the API's own; LangChain's ``messages_to_dict`` (``{"type", "data"}``), its ``dumpd`` (``{"lc": 1, "type":
"constructor", "id": […], "kwargs"}``) and its plain dump (``{"type": "human", "content"}``); ShareGPT's ``{"from",
"value"}``. Source: langchain-core 1.x, ``messages/base.py``, ``load/dump.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from voxnb.messages import content_text

ALIASES: Final = {
    "human": "user", "ai": "assistant", "aimessagechunk": "assistant", "gpt": "assistant", "bot": "assistant",
    "model": "assistant", "chatgpt": "assistant", "bing": "assistant", "humanmessagechunk": "user",
    "systemmessagechunk": "system", "toolmessagechunk": "tool", "functionmessagechunk": "function",
}  # fmt: skip
"""What other programs call a role → the API's name."""

_CLASSES: Final = {
    "HumanMessage": "user", "AIMessage": "assistant", "SystemMessage": "system", "ToolMessage": "tool",
    "FunctionMessage": "function", "ChatMessage": "chat",
}  # fmt: skip


def role_of(role: Any, roles: Mapping[str, str] | None = None) -> Any:
    """The API's name of a role; what is not known stays as it is."""
    if roles is not None and role in roles:
        return roles[role]
    if not isinstance(role, str):
        return role
    name = role.strip()
    return ALIASES.get(name.lower(), name.lower() if name.lower() in _NAMES else role)


_NAMES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def spoken(item: Any, roles: Mapping[str, str] | None = None) -> Any:
    """A message as the API's dict; what has none of the known shapes comes back as it is.

    Args:
        item: one message of the source.
        roles: its names of roles → the API's.
    """
    if not isinstance(item, Mapping):
        return item
    if "role" in item and item.get("type") not in ("chat", "ChatMessageChunk"):
        role = item["role"]
        known = role_of(role, roles)
        return item if known is role or known == role else {**item, "role": known}
    if "from" in item and "value" in item:
        return {"role": role_of(item["from"], roles), "content": item["value"]}
    if item.get("type") == "constructor" and isinstance(item.get("kwargs"), Mapping):
        name = str((item.get("id") or [""])[-1]).removesuffix("Chunk")
        return _langchain(_CLASSES.get(name, name), item["kwargs"], roles)
    if isinstance(item.get("data"), Mapping) and isinstance(item.get("type"), str):
        return _langchain(item["type"], item["data"], roles)
    if isinstance(item.get("type"), str) and "content" in item:
        return _langchain(item["type"], item, roles)
    return item


def is_langchain(item: Any) -> bool:
    """Whether a value is a LangChain message, in any of its shapes."""
    if not isinstance(item, Mapping) or "role" in item or not isinstance(item.get("type"), str):
        return False
    if item["type"] == "constructor":
        return "kwargs" in item
    known = (
        item["type"].lower() in ALIASES
        or item["type"].lower() in _NAMES
        or item["type"] in ("chat", "ChatMessageChunk")
    )
    return known and ("content" in item or isinstance(item.get("data"), Mapping))


def _langchain(kind: str, data: Mapping[str, Any], roles: Mapping[str, str] | None) -> dict[str, Any]:
    role = data.get("role") if kind in ("chat", "ChatMessage", "ChatMessageChunk") else kind
    out: dict[str, Any] = {"role": role_of(role, roles), "content": _content(data.get("content"))}
    given = data.get("additional_kwargs")
    more = given if isinstance(given, Mapping) else {}
    if data.get("name"):
        out["name"] = data["name"]
    calls = [_call(call, valid=True) for call in data.get("tool_calls") or ()]
    calls += [_call(call, valid=False) for call in data.get("invalid_tool_calls") or ()]
    calls = calls or list(more.get("tool_calls") or ())
    if calls:
        out["tool_calls"] = calls
        out["content"] = out["content"] or None
    elif more.get("function_call"):
        out["function_call"] = more["function_call"]
    if more.get("refusal"):
        out["refusal"] = more["refusal"]
    if data.get("tool_call_id") is not None:
        out["tool_call_id"] = data["tool_call_id"]
    return out


def _call(call: Any, *, valid: bool) -> Any:
    if not isinstance(call, Mapping) or "name" not in call:
        return call
    said = call.get("args")
    # The arguments of a call that could not be parsed are a text already, broken as they are.
    arguments = json.dumps(said, ensure_ascii=False) if valid and not isinstance(said, str) else str(said or "")
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {"name": call["name"] or "", "arguments": arguments},
    }


def _content(content: Any) -> Any:
    """Blocks of text and pictures as the API's parts; calls of tools in the content stand beside it already."""
    if not isinstance(content, list):
        return content
    parts: list[Any] = []
    for block in content:
        if isinstance(block, str):
            parts.append({"type": "text", "text": block})
        elif isinstance(block, Mapping) and block.get("type") not in ("tool_use", "tool_call", "function_call"):
            parts.append(dict(block))
    if all(
        isinstance(part, Mapping) and part.get("type") == "text" and set(part) <= {"type", "text", "index"}
        for part in parts
    ):
        return content_text(parts)
    return parts
