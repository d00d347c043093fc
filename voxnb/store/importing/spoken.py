"""One message in any of the shapes that other programs write, as the API's dict.

Shapes: the API's own; LangChain's ``messages_to_dict`` (``{"type", "data"}``), its ``dumpd`` (``{"lc": 1, "type":
"constructor", "id": […], "kwargs"}``) and its plain dump (``{"type": "human", "content"}``); ShareGPT's ``{"from",
"value"}``. Source: langchain-core 1.x, ``messages/base.py``, ``load/dump.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

ALIASES: Final = {
    "human": "user", "ai": "assistant", "aimessagechunk": "assistant", "gpt": "assistant", "bot": "assistant",
    "model": "assistant", "chatgpt": "assistant", "bing": "assistant", "humanmessagechunk": "user",
    "systemmessagechunk": "system", "toolmessagechunk": "tool", "functionmessagechunk": "function",
}  # fmt: skip
"""What other programs call a role → the API's name."""

_CLASSES: Final = {
    "HumanMessage": "user", "AIMessage": "assistant", "SystemMessage": "system", "ToolMessage": "tool",
    "FunctionMessage": "function", "ChatMessage": "chat", "RemoveMessage": "remove",
}  # fmt: skip
REMOVED: Final = "remove"
"""The type of LangChain's order to take a message out again, which says nothing itself."""

_TAKEN: Final = frozenset(
    {"type", "role", "content", "name", "additional_kwargs", "tool_calls", "invalid_tool_calls", "tool_call_id",
     "tool_call_chunks", "response_metadata"}
)  # fmt: skip
_TURN_FACTS: Final = {"model_name": "model", "model": "model", "finish_reason": "finish_reason"}
"""What a LangChain answer says of itself and a turn has a column for → the column."""

_MADE_INTO_CALLS: Final = ("tool_use", "tool_call", "function_call")
"""Kinds of content blocks that LangChain holds once more as calls."""

_THOUGHTS: Final = {"reasoning": "reasoning", "thinking": "thinking"}
"""Kinds of content blocks that were thought and not said → where their text stands."""


def role_of(role: Any, roles: Mapping[str, str] | None = None) -> Any:
    """The API's name of a role; what is not known stays as it is."""
    if roles is not None and role in roles:
        return roles[role]
    if not isinstance(role, str):
        return role
    name = role.strip()
    return ALIASES.get(name.lower(), name.lower() if name.lower() in _NAMES else role)


_NAMES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def spoken(item: Any, roles: Mapping[str, str] | None, left: Callable[[str], None]) -> Any:
    """A message as the API's dict; what has none of the known shapes comes back as it is.

    Args:
        item: one message of the source.
        roles: its names of roles → the API's.
        left: told the name of each field that the API's dict has no place for.
    """
    if not isinstance(item, Mapping):
        return item
    if "role" in item and item.get("type") not in ("chat", "ChatMessageChunk"):
        role = item["role"]
        known = role_of(role, roles)
        return item if known is role or known == role else {**item, "role": known}
    if "from" in item and "value" in item:
        _tell(left, "", (name for name, held in item.items() if name not in ("from", "value") and held))
        return {"role": role_of(item["from"], roles), "content": item["value"]}
    opened = _opened(item)
    return item if opened is None else _langchain(*opened, roles, left)


def facts_of(item: Any) -> dict[str, Any]:
    """What a LangChain answer says of its turn: ``model``, ``finish_reason``."""
    opened = _opened(item) if isinstance(item, Mapping) else None
    said = opened[1].get("response_metadata") if opened is not None else None
    if not isinstance(said, Mapping):
        return {}
    return {ours: said[theirs] for theirs, ours in _TURN_FACTS.items() if isinstance(said.get(theirs), str)}


def is_removal(item: Any) -> bool:
    """Whether a value is LangChain's order to take a message out again."""
    opened = _opened(item) if isinstance(item, Mapping) and "role" not in item else None
    return opened is not None and opened[0] == REMOVED


def _opened(item: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Type and fields of a LangChain message, in whichever shape it stands; None for anything else."""
    if item.get("type") == "constructor" and isinstance(item.get("kwargs"), Mapping):
        name = str((item.get("id") or [""])[-1]).removesuffix("Chunk")
        return _CLASSES.get(name, name), item["kwargs"]
    if isinstance(item.get("data"), Mapping) and isinstance(item.get("type"), str):
        return item["type"], item["data"]
    if isinstance(item.get("type"), str) and "content" in item:
        return item["type"], item
    return None


def is_langchain(item: Any) -> bool:
    """Whether a value is a LangChain message, in any of its shapes."""
    if not isinstance(item, Mapping) or "role" in item or not isinstance(item.get("type"), str):
        return False
    if item["type"] == "constructor":
        return "kwargs" in item
    known = (
        item["type"].lower() in ALIASES
        or item["type"].lower() in _NAMES
        or item["type"] in ("chat", "ChatMessageChunk", REMOVED)
    )
    return known and ("content" in item or isinstance(item.get("data"), Mapping))


def _langchain(
    kind: str, data: Mapping[str, Any], roles: Mapping[str, str] | None, left: Callable[[str], None]
) -> dict[str, Any]:
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
    if thought := _thought(data.get("content")):
        out["reasoning_content"] = thought
    if more.get("refusal"):
        out["refusal"] = more["refusal"]
    if data.get("tool_call_id") is not None:
        out["tool_call_id"] = data["tool_call_id"]
    _tell_left(data, more, out, left)
    return out


def _tell_left(
    data: Mapping[str, Any], more: Mapping[str, Any], out: Mapping[str, Any], left: Callable[[str], None]
) -> None:
    """Tell the fields of a LangChain message that its dict does not hold."""
    _tell(left, "", (name for name, held in data.items() if name not in _TAKEN and held))
    _tell(left, "additional_kwargs.", (name for name, held in more.items() if held and name not in out))
    if isinstance(said := data.get("response_metadata"), Mapping):
        _tell(left, "response_metadata.", (name for name, held in said.items() if held and name not in _TURN_FACTS))
    broken = (call for call in data.get("invalid_tool_calls") or () if isinstance(call, Mapping))
    _tell(left, "invalid_tool_calls.", ("error" for call in broken if call.get("error")))
    blocks = _blocks(data.get("content"))
    if "tool_calls" not in out:
        kinds = (block.get("type") for block in blocks)
        _tell(left, "content parts of type ", (kind for kind in kinds if kind in _MADE_INTO_CALLS))
    for block in blocks:
        if (kind := block.get("type")) in _THOUGHTS:
            _tell(
                left,
                f"{kind}.",
                (k for k, held in block.items() if held and k not in ("type", "index", _THOUGHTS[kind])),
            )


def _tell(left: Callable[[str], None], before: str, names: Iterable[Any]) -> None:
    for name in names:
        left(f"{before}{name}"[:80])


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
    parts: list[dict[str, Any]] = []
    for block in content:
        if isinstance(block, str):
            parts.append({"type": "text", "text": block})
        elif isinstance(block, Mapping) and block.get("type") not in (*_MADE_INTO_CALLS, *_THOUGHTS):
            parts.append(_part(block))
    if all(part.get("type") == "text" and set(part) <= {"type", "text", "index"} for part in parts):
        # The pieces of a streamed answer, which LangChain puts together as they are.
        return "".join(str(part.get("text") or "") for part in parts)
    return parts


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _thought(content: Any) -> str:
    """What the blocks of a content say of the model's reasoning."""
    texts = (block.get(_THOUGHTS.get(str(block.get("type")), "")) for block in _blocks(content))
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block as the API's part: LangChain has words of its own for pictures, sounds and files; others stay as they are."""
    kind, mime = block.get("type"), str(block.get("mime_type") or "")
    data = block.get("base64") or (block.get("data") if block.get("source_type") == "base64" else None)
    if kind == "image" and (data or block.get("url")):
        return {
            "type": "image_url",
            "image_url": {"url": block.get("url") or f"data:{mime or 'image/png'};base64,{data}"},
        }
    if kind == "audio" and data:
        form = {"mpeg": "mp3", "x-wav": "wav"}.get(mime.rpartition("/")[2], mime.rpartition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": data, "format": form or "wav"}}
    if kind == "file" and data:
        name = block.get("filename") or (block.get("extras") or {}).get("filename") or "file"
        held = {"filename": str(name), "file_data": f"data:{mime or 'application/octet-stream'};base64,{data}"}
        return {"type": "file", "file": held}
    return dict(block)
