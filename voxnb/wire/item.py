"""One item of the Responses API: what kinds there are, and how each is sent back.

Rule 1: what the service returns and does not take back is left out: nulls, token probabilities, a ``status`` that is
not asked for.
Rule 2: reasoning goes back encrypted or not at all; without it, what came of it must not name its id (the service
then asks for the reasoning), so the id goes too, or the item where it cannot be without.

Source: openai-python ``types/responses/response_input_item_param.py``, ``response_output_item.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from voxnb.wire.parts import to_content

OUTPUTS: Final = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "tool_search_call": "tool_search_output",
}
"""Calls that the caller answers, and the items that answer them."""

CALLS: Final = {output: call for call, output in OUTPUTS.items()}

ASKED: Final = frozenset({"mcp_approval_response", "compaction_trigger", "additional_tools", "configuration_update"})
"""Items without a role that only the caller makes."""

NOISE: Final = frozenset({"created_by", "parsed", "parsed_arguments"})
"""What an item holds when it is returned, and no input item has."""

NULLABLE: Final = {"image_generation_call": ("result",), "code_interpreter_call": ("code", "outputs")}
"""Keys that must be there and may be null."""

STATUS_ASKED: Final = frozenset(
    {
        "message",
        "file_search_call",
        "computer_call",
        "web_search_call",
        "image_generation_call",
        "code_interpreter_call",
        "local_shell_call",
        "apply_patch_call",
        "apply_patch_call_output",
        "program_output",
    }
)
"""Items whose ``status`` must be sent back; of others it is left out."""

_STATUSES: Final = ("in_progress", "completed", "incomplete")
_SEARCHES: Final = frozenset({"web_search_call", "file_search_call", "code_interpreter_call"})


def kind_of(item: Mapping[str, Any]) -> str | None:
    """The item's type; messages and references may leave it out. None for what is no item."""
    kind = item.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(item.get("role"), str):
        return "message"
    return "item_reference" if isinstance(item.get("id"), str) and set(item) <= {"id", "type"} else None


def call_id_of(item: Mapping[str, Any]) -> str | None:
    """Which call an item is or answers, or None."""
    found = item.get("call_id")
    if not found and item.get("type") == "local_shell_call_output":
        found = item.get("id")
    return found if isinstance(found, str) and found else None


def as_input(item: Mapping[str, Any]) -> dict[str, Any]:
    """One item as it is sent (rule 1); a message as short as it can be said.

    >>> as_input({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gA", "status": None})
    {'type': 'reasoning', 'id': 'rs_1', 'summary': [], 'encrypted_content': 'gA'}
    """
    kind = kind_of(item)
    nulls = dict.fromkeys(NULLABLE.get(kind or "", ()))
    kept = {**nulls, **{k: v for k, v in item.items() if k not in NOISE and v is not None}}
    if "async_" in kept:  # the SDK's spelling of a key that Python reserves
        kept["async"] = kept.pop("async_")
    if kind == "message":
        return _message(kept)
    if kind not in STATUS_ASKED:
        kept.pop("status", None)
    if kind == "item_reference":
        kept["type"] = kind
    if isinstance(kept.get("output"), list) and kind in ("function_call_output", "custom_tool_call_output"):
        kept["output"] = to_content(kept["output"], role="user")
    return kept


def _message(kept: dict[str, Any]) -> dict[str, Any]:
    role = str(kept.get("role") or "assistant")
    content = to_content(kept.get("content", "" if role == "assistant" else None), role=role)
    more = {k: v for k, v in kept.items() if k not in ("type", "role", "content", "status", "id")}
    if role != "assistant" or not kept.get("id"):
        return {"role": role, "content": content, **more}
    if isinstance(content, str):
        content = to_content([content], role=role)
    status = kept.get("status") if kept.get("status") in _STATUSES[1:] else _STATUSES[2 if kept.get("status") else 1]
    return {"type": "message", "id": kept["id"], "role": role, "status": status, "content": content, **more}


def is_answer(item: Mapping[str, Any]) -> bool:
    """Whether the model said it (and not the caller)."""
    kind = kind_of(item)
    return item.get("role") == "assistant" if kind == "message" else kind not in CALLS and kind not in ASKED


def sendable(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A list of items as the service takes it (rules 1 and 2).

    Reasoning that nothing follows is left out too: the service asks for what came of it.
    """
    out: list[dict[str, Any]] = []
    orphaned = False  # the reasoning behind what comes now is not sent
    for given in items:
        item = as_input(given)
        kind = kind_of(item)
        if kind == "reasoning":
            orphaned = not item.get("encrypted_content")
            if not orphaned:
                out.append(item)
            continue
        if not is_answer(item):
            orphaned = False
            _drop_last_reasoning(out)
        elif orphaned:
            if kind in _SEARCHES:
                continue
            if kind == "message":
                item = _message({k: v for k, v in item.items() if k != "id"})
            elif kind in OUTPUTS and kind not in STATUS_ASKED:
                item.pop("id", None)
        out.append(item)
    _drop_last_reasoning(out)
    return out


def _drop_last_reasoning(items: list[dict[str, Any]]) -> None:
    while items and items[-1].get("type") == "reasoning":
        items.pop()
