"""Chat messages as items of the Responses API, and items as chat messages.

Inside voxnb a conversation is a list of chat messages. What their shape cannot say of an item stands beside it in the
message's ``"items"``, as it is sent back.

Rule 1: a message's items are sent as long as they say what the message says; a text that was changed, cut off or
blanked, and a tool call that was taken out, win over them.
Rule 2: ``to_input(from_input(x))`` is `sendable` of ``x``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from voxnb.errors import MessageError
from voxnb.messages import content_text, json_value
from voxnb.wire.answer import as_tool_call, message_of, open_calls, text_of
from voxnb.wire.choice import copied
from voxnb.wire.item import ASKED, CALLS, OUTPUTS, as_input, call_id_of, is_answer, kind_of, sendable
from voxnb.wire.parts import to_chat_content, to_content

ITEMS: Final = "items"
"""The key of a message that holds the items it came as."""

CALL_KINDS: Final = {"function": "function_call", "custom": "custom_tool_call"}
"""Types of a chat message's tool calls, and of the items that they are."""

_STEMS: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


def from_input(value: Any) -> list[dict[str, Any]]:
    """What a caller gives as ``input``, as chat messages.

    Consecutive items of the model (reasoning, messages, calls) are one assistant message; an output of a call is a
    tool message. Chat messages in the list stay as they are. `parse_messages` checks the result.

    Args:
        value: a text, a list of items and messages (dicts or SDK objects), or None for nothing.

    Raises:
        MessageError: neither text nor list, or an item that is none; names the index.

    >>> from_input("Hi")
    [{'role': 'user', 'content': 'Hi'}]
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if (
        isinstance(value, Mapping | bytes | bytearray)
        or hasattr(value, "model_dump")
        or not isinstance(value, Iterable)
    ):
        raise MessageError(
            f"input is {type(value).__name__}, expected a text or a list of items like "
            '{"role": "user", "content": "Hi"}',
            index=None,
        )
    reading = _Reading()
    for index, given in enumerate(value):
        reading.take(given, index)
    reading.close()
    return reading.messages


class _Reading:
    """Input items on their way to messages."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._group: list[dict[str, Any]] = []
        self._outputs: dict[str, str] = {}

    def take(self, given: Any, index: int) -> None:
        item = json_value(given, index=index)
        kind = kind_of(item) if isinstance(item, dict) else None
        if kind is None:
            raise MessageError(
                f"input item {index} is {_shown(item)}, expected a message with role and content, or an item with type",
                index=index,
            )
        if _is_chat(item):
            self.close()
            self._outputs.update(_outputs(item))
            self.messages.append(item)
        elif is_answer(item):
            if kind == "message" and not item.get("id") and any(kind_of(i) == "message" for i in self._group):
                self.close()
            self._group.append(as_input(item))
        else:
            self.close()
            self._caller(as_input(item), kind)

    def close(self) -> None:
        """End the assistant message that is being gathered."""
        if self._group:
            message = message_of(self._group)
            self._outputs.update(_outputs(message))
            self._keep(message, self._group)
            self._group = []

    def _caller(self, item: dict[str, Any], kind: str) -> None:
        self._keep(_callers_message(item, kind), [item])

    def _keep(self, message: dict[str, Any], items: list[dict[str, Any]]) -> None:
        if _converted(message, self._outputs) != items:
            message[ITEMS] = items
        self.messages.append(message)


def _callers_message(item: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The message that an item of the caller makes."""
    if kind in CALLS:
        output = item.get("output", item.get("tools"))
        if isinstance(output, list) and kind in ("function_call_output", "custom_tool_call_output"):
            content = to_chat_content(output)
        elif kind == "computer_call_output" and isinstance(output, Mapping):
            content = [{"type": "image_url", "image_url": {"url": text_of(output.get("image_url"))}}]
        else:
            content = text_of(output)
        return {"role": "tool", "tool_call_id": call_id_of(item) or text_of(item.get("id")), "content": content}
    if kind in ASKED:
        return {"role": "user", "content": ""}
    more = {k: v for k, v in item.items() if k not in ("role", "content")}
    return {"role": item["role"], "content": to_chat_content(item["content"]), **more}


def to_input(messages: Iterable[Mapping[str, Any]], *, answers: bool = False) -> list[dict[str, Any]]:
    """Chat messages as input items.

    A tool's result becomes the output item of its call's kind. ``name`` of a message has no place there and is left
    out.

    Args:
        messages: in order, as they are sent (or stored).
        answers: give assistant messages as a response's ``output`` holds them: with ids, status and all reasoning.

    >>> to_input([{"role": "user", "content": "Hi"}])
    [{'role': 'user', 'content': 'Hi'}]
    """
    outputs: dict[str, str] = {}
    out: list[dict[str, Any]] = []
    for message in messages:
        out += _faithful(message) or _converted(message, outputs)
        outputs.update(_outputs(message))
    return [_answer(item, n) for n, item in enumerate(out)] if answers else sendable(out)


def to_body(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], *, leading: int = 0) -> dict[str, Any]:
    """A request's body with the messages as its ``input``.

    Tools, ``tool_choice`` and ``response_format`` in the spelling of chat completions are put into this interface's.

    Args:
        body: the rest of it; not changed.
        messages: chat messages.
        leading: how many of them are the conversation's instructions. Where they are texts, they become
            ``instructions``, beside those that the body has.
    """
    out = dict(body)
    first = list(messages[:leading])
    if first and all(isinstance(m.get("content"), str) for m in first) and not any(ITEMS in m for m in first):
        texts = [m["content"] for m in first]
        out["instructions"] = "\n\n".join([*texts, out["instructions"]] if out.get("instructions") else texts)
        messages = messages[leading:]
    # llama.cpp takes an assistant's message for one only where its type is said; the service does not mind.
    said = [{"type": "message", **item} if item.get("role") == "assistant" else item for item in to_input(messages)]
    if said:  # nothing is said where a prompt that the service keeps says all
        out["input"] = said
    if isinstance(tools := out.get("tools"), list | tuple):
        out["tools"] = [_flat(tool) for tool in tools]
    if isinstance(choice := out.get("tool_choice"), Mapping):
        out["tool_choice"] = _flat(choice)
    if isinstance(wanted := out.pop("response_format", None), Mapping):
        text = out.get("text")
        out["text"] = {**(text if isinstance(text, Mapping) else {}), "format": _flat(wanted)}
    return out


def chat_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as chat completions take it: without items, and of sound that the service made and keeps its id alone."""
    sent = without_items(message)
    audio = sent.get("audio")
    return {**sent, "audio": {"id": audio["id"]}} if isinstance(audio, Mapping) and audio.get("id") else sent


def without_items(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as chat completions take it: without items, and never with nothing in it.

    >>> without_items({"role": "assistant", "content": None, "items": [{"type": "web_search_call", "id": "ws_1"}]})
    {'role': 'assistant', 'content': ''}
    """
    out = {k: v for k, v in message.items() if k != ITEMS}
    if ITEMS in message and out.get("content") is None and not (out.get("tool_calls") or out.get("refusal")):
        out["content"] = ""
    return out


def _is_chat(item: Mapping[str, Any]) -> bool:
    """Whether a message is one of chat completions, or one of ours: an item never has these keys."""
    return "role" in item and (item["role"] in ("tool", "function") or "tool_calls" in item or ITEMS in item)


def _outputs(message: Mapping[str, Any]) -> dict[str, str]:
    """Ids of a message's calls → the type of the item that answers each."""
    return {
        call["id"]: OUTPUTS.get(CALL_KINDS.get(call["type"], str(call["type"])), "function_call_output")
        for call in message.get("tool_calls") or ()
        if isinstance(call, Mapping) and isinstance(call.get("id"), str) and isinstance(call.get("type"), str)
    }


def _faithful(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The message's items without the calls it no longer has, or none where they say something else (rule 1)."""
    items = message.get(ITEMS)
    if not isinstance(items, list | tuple) or not items or not all(isinstance(i, Mapping) for i in items):
        return []
    if message.get("role") != "assistant":
        kind = kind_of(items[0]) or ""
        has_role = kind in CALLS or kind in ASKED or (items[0].get("role") == message.get("role"))
        said = _callers_message(as_input(items[0]), kind) if len(items) == 1 and has_role else {}
        same = all(said.get(k) == message.get(k) for k in ("role", "content", "tool_call_id"))
        return [copied(dict(items[0]))] if same else []
    said = message_of(items)
    if any((said.get(k) or None) != (message.get(k) or None) for k in ("content", "refusal")):
        return []
    calls = {call["id"]: call for call in message.get("tool_calls") or ()}
    known = {call["id"]: call for call in said.get("tool_calls") or ()}
    if any(call != known.get(identity) for identity, call in calls.items()):
        return []
    gone = [item for item in open_calls(items) if (call := as_tool_call(item)) is None or call["id"] not in calls]
    return [copied(dict(item)) for item in items if not any(item is call for call in gone)]


def _converted(message: Mapping[str, Any], outputs: Mapping[str, str]) -> list[dict[str, Any]]:
    """A message as items by its chat shape alone."""
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function"):
        identity = str(message.get("tool_call_id") or f"call_{message.get('name') or ''}")
        return [_output(outputs.get(identity, "function_call_output"), identity, content)]
    if role != "assistant":
        more = {"phase": message["phase"]} if "phase" in message else {}
        return [{"role": role, "content": to_content("" if content is None else content, role=str(role)), **more}]
    calls = [item for call in message.get("tool_calls") or () if (item := _call(call))]
    if isinstance(legacy := message.get("function_call"), Mapping):
        calls.append({"type": "function_call", "call_id": f"call_{legacy.get('name') or ''}", **legacy})
    if content is None and isinstance(audio := message.get("audio"), Mapping):
        content = audio.get("transcript")
    if refusal := message.get("refusal"):
        said = to_content([content] if isinstance(content, str) and content else content or [], role="assistant")
        content = [*said, {"type": "refusal", "refusal": refusal}]
    if not content and calls:
        return calls
    more = {"phase": message["phase"]} if message.get("phase") else {}
    return [{"role": "assistant", "content": to_content(content or "", role="assistant"), **more}, *calls]


def _call(call: Any) -> dict[str, Any] | None:
    if not isinstance(call, Mapping):
        return None
    kind = str(call.get("type") or "function")
    name = CALL_KINDS.get(kind, kind)
    inner = call.get(kind)
    return {"type": name, "call_id": call.get("id"), **(copied(dict(inner)) if isinstance(inner, Mapping) else {})}


def _output(kind: str, call_id: str, content: Any) -> dict[str, Any]:
    if kind in ("function_call_output", "custom_tool_call_output"):
        output = "" if content is None else to_content(content, role="user")
        return {"type": kind, "call_id": call_id, "output": output}
    text = content_text(content)
    if kind == "computer_call_output":
        parts = [to_content([p], role="user")[0] for p in content] if isinstance(content, list | tuple) else []
        seen = next((p for p in parts if isinstance(p, Mapping) and p.get("type") == "input_image"), {})
        shot = {k: seen[k] for k in ("image_url", "file_id") if k in seen}
        return {"type": kind, "call_id": call_id, "output": {"type": "computer_screenshot", **shot}}
    if kind == "local_shell_call_output":
        return {"type": kind, "id": call_id, "output": text}
    if kind == "shell_call_output":
        ended = {"stdout": text, "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
        return {"type": kind, "call_id": call_id, "output": [ended]}
    if kind == "apply_patch_call_output":
        return {"type": kind, "call_id": call_id, "status": "completed", "output": text}
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def _answer(item: Mapping[str, Any], n: int) -> dict[str, Any]:
    """An item as a response's output holds it."""
    kind = kind_of(item) or "message"
    out = {"id": f"{_STEMS.get(kind, kind)}_{n}", "type": kind, "status": "completed", **copied(dict(item))}
    if kind == "message" and isinstance(out.get("content"), str):
        out["content"] = to_content([out["content"]] if out["content"] else [], role="assistant")
    return out


def _flat(tool: Any) -> Any:
    """A tool, a choice or a format of chat completions, its inner object laid flat; any other as it is."""
    if isinstance(tool, Mapping) and isinstance(kind := tool.get("type"), str):
        inner = tool.get(kind)
        if isinstance(inner, Mapping) and kind in ("function", "custom", "json_schema"):
            return {"type": kind, **{k: v for k, v in tool.items() if k not in ("type", kind)}, **inner}
    return tool


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
