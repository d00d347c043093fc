"""What the service says about a Responses request before any model sees it: refusals, with its own words.

Source: error bodies of api.openai.com, the published request reference, openai-python
``types/responses/response_create_params.py`` and ``response_input_item_param.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from voxnb.testing import service
from voxnb.testing.replies import Status
from voxnb.testing.request import Request
from voxnb.testing.service import refuse
from voxnb.testing.shelf import Shelf, conversation_id

PARAMETERS: Final = frozenset(
    [
        "access_programs",
        "background",
        "background_options",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
"""What a request may hold."""

MOVED: Final = {
    "messages": "input",
    "functions": "tools",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
"""Parameters of chat completions, and where the Responses API has them."""

ITEMS: Final = {
    "additional_tools": ("role tools", "id"),
    "apply_patch_call": ("call_id operation status", "caller id"),
    "apply_patch_call_output": ("call_id status", "caller id output"),
    "code_interpreter_call": ("code container_id id outputs status", ""),
    "compaction": ("encrypted_content", "id"),
    "compaction_trigger": ("", "id"),
    "computer_call": ("call_id id pending_safety_checks status", "action actions"),
    "computer_call_output": ("call_id output", "acknowledged_safety_checks id status"),
    "configuration_update": ("", "id reasoning text"),
    "custom_tool_call": ("call_id input name", "async caller id namespace"),
    "custom_tool_call_output": ("call_id output", "caller id"),
    "file_search_call": ("id queries status", "results"),
    "function_call": ("arguments call_id name", "async caller id namespace status"),
    "function_call_output": ("output", "call_id caller id name namespace status"),
    "image_generation_call": (
        "id result status",
        "action background error output_format quality revised_prompt size svg_usage",
    ),
    "item_reference": ("id", ""),
    "local_shell_call": ("action call_id id status", ""),
    "local_shell_call_output": ("id output", "status"),
    "mcp_approval_request": ("arguments id name server_label", ""),
    "mcp_approval_response": ("approval_request_id approve", "id reason"),
    "mcp_call": ("arguments id name server_label", "approval_request_id error output status"),
    "mcp_list_tools": ("id server_label tools", "error"),
    "message": ("content role", "id phase status"),
    "program": ("call_id code fingerprint id", ""),
    "program_output": ("call_id id result status", ""),
    "reasoning": ("id summary", "content encrypted_content status"),
    "shell_call": ("action call_id", "caller environment id status"),
    "shell_call_output": ("call_id output", "caller id max_output_length status"),
    "tool_search_call": ("arguments", "call_id execution id status"),
    "tool_search_output": ("tools", "call_id execution id status"),
    "web_search_call": ("action id status", ""),
}
"""Keys of an input item beside its type: those it must have, and those it may have."""

PARTS: Final = {
    "user": ("input_text", "input_image", "input_file", "input_audio"),
    "assistant": ("output_text", "refusal"),
}
"""Types of the parts of a message; those of the user for every other role."""

CALLS: Final = {
    "function_call": ("function_call_output", "function call"),
    "custom_tool_call": ("custom_tool_call_output", "custom tool call"),
    "computer_call": ("computer_call_output", "computer call"),
    "shell_call": ("shell_call_output", "shell call"),
    "apply_patch_call": ("apply_patch_call_output", "apply patch call"),
}
"""Calls that must be answered: the item that does it, and the service's word for the call."""

LEAST_TOKENS: Final = 16


def objection(request: Request, models: Sequence[str] | None, shelf: Shelf) -> Status | None:
    """Why the service would not take this Responses request, or None."""
    body = request.json
    found = service.bad_model(request, models, may_lack=isinstance(body, dict) and body.get("prompt") is not None)
    if found is not None:
        return found
    found = _bad_parameters(body)
    if found is not None:
        return found
    history = shelf.history(body)
    if isinstance(history, Status):
        return history
    given = body.get("input")
    if given is None:
        return None
    return _bad_input(given) or _bad_company([*history, *items_of(given)], len(history), shelf)


def items_of(given: Any) -> list[Any]:
    """The input as a list of items."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return list(given) if isinstance(given, list) else []


def _bad_parameters(body: Mapping[str, Any]) -> Status | None:
    for name in body:
        if name in MOVED:
            words = (
                f"In the Responses API, this parameter has moved to '{MOVED[name]}'. Try again with the new parameter."
            )
            return refuse(f"Unsupported parameter: '{name}'. {words}", param=name, code="unsupported_parameter")
        if name not in PARAMETERS:
            return _unknown(name)
    options = body.get("stream_options")
    for name in options if isinstance(options, Mapping) else ():
        if name != "include_obfuscation":
            return _unknown(f"stream_options.{name}")
    limit = body.get("max_output_tokens")
    if isinstance(limit, int) and limit < LEAST_TOKENS:
        words = f"Expected a value >= {LEAST_TOKENS}, but got {limit} instead."
        name = "max_output_tokens"
        return refuse(
            f"Invalid '{name}': integer below minimum value. {words}", param=name, code="integer_below_min_value"
        )
    if body.get("background") and body.get("store") is False:
        return refuse("Background mode requires store=true.", param="background")
    if body.get("previous_response_id") is not None and conversation_id(body) is not None:
        words = "Ensure you are only providing one of: 'previous_response_id' or 'conversation'."
        return refuse(f"Mutually exclusive parameters: {words}", code="mutually_exclusive_parameters")
    if not body.get("input") and not any(body.get(k) for k in ("previous_response_id", "prompt", "conversation")):
        words = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided."
        return refuse(words, param="input", code="missing_required_parameter")
    return None


def _bad_input(given: Any) -> Status | None:
    if isinstance(given, str):
        return None
    if not isinstance(given, list):
        return _wrong_type("input", "one of a string or array of input items", given)
    for index, item in enumerate(given):
        found = _bad_item(item, f"input[{index}]")
        if found is not None:
            return found
    return None


def _bad_item(item: Any, where: str) -> Status | None:
    if not isinstance(item, Mapping):
        return _wrong_type(where, "an input item", item)
    kind = item.get("type") or ("message" if "role" in item else "item_reference" if set(item) == {"id"} else None)
    if kind is None:
        return _missing(f"{where}.type")
    if kind not in ITEMS:
        return _invalid(f"{where}.type", kind, ITEMS)
    needed, allowed = (keys.split() for keys in ITEMS[kind])
    for name, value in item.items():
        if name != "type" and name not in needed and name not in allowed:
            return _unknown(f"{where}.{name}")
        if name == "status" and value is None:
            return _wrong_type(f"{where}.status", "one of 'in_progress', 'completed', or 'incomplete'", value)
    for name in needed:
        if name not in item:
            return _missing(f"{where}.{name}")
    return _bad_message(item, where) if kind == "message" else _bad_texts(item, where)


def _bad_message(item: Mapping[str, Any], where: str) -> Status | None:
    role, content = item["role"], item["content"]
    if role not in ("assistant", "system", "developer", "user"):
        return _invalid(f"{where}.role", role, ("assistant", "system", "developer", "user"))
    if isinstance(content, str):
        return None
    if not isinstance(content, list):
        return _wrong_type(f"{where}.content", "one of an array of objects or string", content)
    kinds = PARTS["assistant" if role == "assistant" else "user"]
    for position, part in enumerate(content):
        inside = f"{where}.content[{position}]"
        if not isinstance(part, Mapping):
            return _wrong_type(inside, "an object", part)
        if part.get("type") not in kinds:
            return _invalid(f"{inside}.type", part.get("type"), kinds)
    return None


def _bad_texts(item: Mapping[str, Any], where: str) -> Status | None:
    """Arguments and results that are no text."""
    kind = item.get("type")
    for name in ("arguments", "call_id", "encrypted_content", "name"):
        value = item.get(name)
        if value is not None and not isinstance(value, str) and kind != "tool_search_call":
            return _wrong_type(f"{where}.{name}", "a string", value)
    if kind == "function_call_output" and not isinstance(item["output"], str | list):
        return _wrong_type(f"{where}.output", "one of a string or array of objects", item["output"])
    return None


def _bad_company(items: Sequence[Any], known: int, shelf: Shelf) -> Status | None:
    """Items that may not stand together: calls without results, results without calls, reasoning on its own."""
    for item, following in pairwise([*items, {}]):
        if item.get("type") == "reasoning" and not _follows(following):
            words = f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
            return refuse(words, param="input")
    found = _bad_ids(items, known, shelf) or _bad_pairs(items)
    if found is not None:
        return found
    here = {i.get("id") for i in items}
    for item in items[known:]:
        thought = shelf.reasoned.get(str(item.get("id")))
        if thought is not None and thought not in here and item.get("type") != "item_reference":
            what = f"Item '{item['id']}' of type '{item.get('type', 'message')}'"
            words = f"{what} was provided without its required 'reasoning' item: '{thought}'."
            return refuse(words, param="input")
    return None


def _follows(item: Mapping[str, Any]) -> bool:
    kind = item.get("type") or ("message" if "role" in item else None)
    return item.get("role") == "assistant" if kind == "message" else kind is not None and not kind.endswith("_output")


def _bad_ids(items: Iterable[Any], known: int, shelf: Shelf) -> Status | None:
    seen: set[str] = set()
    for number, item in enumerate(items):
        name, kind = item.get("id"), item.get("type")
        if not isinstance(name, str):
            continue
        if name in seen:
            words = f"Duplicate item found with id {name}. Remove duplicate items from your input and try again."
            return refuse(words, param="input")
        seen.add(name)
        bare = kind in ("item_reference", None) and "role" not in item
        if number < known or not (bare or (kind == "reasoning" and not item.get("encrypted_content"))):
            continue
        if name not in shelf.items:
            words = f"Item with id '{name}' not found."
            if kind == "reasoning":
                words += " Items are not persisted when `store` is set to false. Try again with `store` set to true, "
                words += "or remove this item from your input."
            return refuse(words, status=404, param="input")
    return None


def _bad_pairs(items: Sequence[Any]) -> Status | None:
    calls = {kind: {i.get("call_id") for i in items if i.get("type") == kind} for kind in CALLS}
    answers = {kind: {i.get("call_id") for i in items if i.get("type") == out} for kind, (out, _) in CALLS.items()}
    references = any(i.get("type") == "item_reference" for i in items)
    for kind, (output, words) in CALLS.items():
        for item in items:
            name = item.get("call_id")
            if item.get("type") == kind and name not in answers[kind]:
                return refuse(f"No tool output found for {words} {name}.", param="input")
            if item.get("type") == output and name not in calls[kind] and not references:
                return refuse(f"No tool call found for {words} output with call_id {name}.", param="input")
    return None


def _unknown(where: str) -> Status:
    return refuse(f"Unknown parameter: '{where}'.", param=where, code="unknown_parameter")


def _missing(where: str) -> Status:
    return refuse(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")


def _invalid(where: str, value: Any, values: Iterable[str]) -> Status:
    *most, last = (f"'{v}'" for v in values)
    words = f"Supported values are: {', '.join(most)}{',' if len(most) > 1 else ''} and {last}."
    return refuse(f"Invalid value: '{value}'. {words}", param=where, code="invalid_value")


def _wrong_type(where: str, expected: str, value: Any) -> Status:
    words = f"Invalid type for '{where}': expected {expected}, but got {service.kind(value)} instead."
    return refuse(words, param=where, code="invalid_type")


def too_long() -> Status:
    """The refusal of a request that does not fit the window."""
    words = "Your input exceeds the context window of this model. Please adjust your input and try again."
    return refuse(words, param="input", code="context_length_exceeded")
