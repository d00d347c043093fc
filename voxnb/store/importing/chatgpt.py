"""ChatGPT's data export, ``conversations.json``: each conversation is a tree of messages, and the node it stands at.

Rule 1: what is imported is the path from the root to the current node. Branches beside it (questions that were edited,
answers that were made again) are counted in the report.
Rule 2: nodes that say nothing are passed over without a word; hidden ones that do say something are noted. Custom instructions
become the conversation's instructions, reasoning goes where it never counts as said.
Rule 3: pictures and files are not in the export: their place is marked in the text. What a content says beside its text,
and what is kept as JSON because its kind has no text, is in the report (see `chatgpt_contents`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voxnb.store.importing.chatgpt_contents import pointers, told
from voxnb.store.importing.clock import seconds_of
from voxnb.store.importing.draft import Draft, Reading, shaped
from voxnb.store.importing.lines import json_items, opened

NO_TREE: Final = "no conversation tree (expected a mapping)"
MARKED: Final = "pictures and files that are not in the export: their place is marked in the text"
AS_JSON: Final = "contents of kind {}, which have no text: kept in it as JSON"
BESIDE: Final = "{} beside the text of contents"
TAKEN: Final = frozenset(
    {"mapping", "current_node", "title", "conversation_id", "id", "create_time", "update_time", "default_model_slug"}
)
"""What of a conversation has a place of its own; the rest is its metadata."""

SOURCES: Final = ("citations", "content_references", "search_result_groups")
CITED: Final = "lists of the sources that answers cite"
ATTACHED: Final = "attached files that are not in the export"
THOUGHTS: Final = "reasoning that no answer followed"


def chatgpt_drafts(path: Path, reading: Reading) -> Iterator[Draft]:
    """Drafts of the file, one conversation in memory at a time."""
    with opened(path) as file:
        for place, value in json_items(file, reading, noun="conversation"):
            # Some versions wrap the list.
            inner = value.get("conversations") if isinstance(value, Mapping) else None
            for n, item in enumerate(inner if isinstance(inner, list) else [value]):
                where = place if inner is None else f"conversation {n + 1}"
                draft = None
                with shaped(reading, where):
                    draft = _draft(item, where, reading)
                if draft is not None:
                    yield draft


def _draft(value: Any, place: str, reading: Reading) -> Draft | None:
    mapping = value.get("mapping") if isinstance(value, Mapping) else None
    if not isinstance(mapping, Mapping):
        reading.skipped.add(NO_TREE, place)
        return None
    title = value.get("title") if isinstance(value.get("title"), str) else None
    if title:
        place = f"{place} {title[:60]!r}"
    path = _path(mapping, value.get("current_node"), reading, place)
    teller = _Teller(reading, place)
    for node in path:
        if isinstance(message := node.get("message"), Mapping):
            teller.add(message)
    teller.end()
    on_path = {node.get("id") for node in path}
    beside = sum(_says_something(node) and key not in on_path for key, node in mapping.items())
    reading.skipped.add("messages of other branches (edited questions, repeated answers)", place, count=beside)
    model = value.get("default_model_slug")
    metadata = {name: held for name, held in value.items() if name not in TAKEN and held not in (None, "", [], {})}
    updated = seconds_of(value.get("update_time"))
    return Draft(
        place,
        teller.messages,
        key=next((str(value[key]) for key in ("conversation_id", "id") if value.get(key)), None),
        key_is_global=True,
        name=title,
        title=title,
        model=model if isinstance(model, str) and model != "auto" else None,
        metadata=metadata if updated is None else {**metadata, "update_time": updated},
        created_at=seconds_of(value.get("create_time")),
        times=teller.times,
        facts=teller.facts,
    )


def _path(mapping: Mapping[str, Any], current: Any, reading: Reading, place: str) -> list[Mapping[str, Any]]:
    """The nodes from the root to the current one; where none is named, to the last that came."""
    if not isinstance(current, str) or current not in mapping:
        leaves = [key for key, node in mapping.items() if isinstance(node, Mapping) and not node.get("children")]
        timed = {key: seconds_of((mapping[key].get("message") or {}).get("create_time")) or 0.0 for key in leaves}
        current = max(leaves, key=lambda key: timed[key], default=None)
        if mapping:
            reading.remarks.add("no current node: the newest branch was taken", place)
    path: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    while isinstance(current, str) and current not in seen and isinstance(mapping.get(current), Mapping):
        seen.add(current)
        path.append({**mapping[current], "id": current})
        current = mapping[current].get("parent")
    path.reverse()
    return path


def _says_something(node: Any) -> bool:
    message = node.get("message") if isinstance(node, Mapping) else None
    if not isinstance(message, Mapping) or _role(message) not in ("user", "assistant"):
        return False
    return bool(told(message.get("content")).text) and not _hidden(message)


def _role(message: Mapping[str, Any]) -> Any:
    author = message.get("author")
    return author.get("role") if isinstance(author, Mapping) else None


def _metadata(message: Mapping[str, Any]) -> Mapping[str, Any]:
    found = message.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _hidden(message: Mapping[str, Any]) -> bool:
    return _metadata(message).get("is_visually_hidden_from_conversation") is True or message.get("weight") == 0


class _Teller:
    """Puts a conversation together message by message."""

    def __init__(self, reading: Reading, place: str) -> None:
        self._reading = reading
        self._place = place
        self.messages: list[dict[str, Any]] = []
        self.times: list[float | None] = []
        self.facts: dict[int, dict[str, Any]] = {}
        self._reasoning: list[str] = []
        self._call: int | None = None  # index of the message whose call waits for its result

    def add(self, message: Mapping[str, Any]) -> None:
        """The next node's message."""
        content, role = message.get("content"), _role(message)
        kind = content.get("content_type") if isinstance(content, Mapping) else None
        if kind in ("user_editable_context", "model_editable_context"):
            self._say("system", self._text(content), message)
        elif kind in ("thoughts", "reasoning_recap"):
            self._reasoning.append(self._text(content))
        elif _hidden(message) or role == "system":
            if text := told(content).text:
                self._reading.skipped.add("hidden messages", f"{self._place}: {text[:40]!r}")
        elif role == "tool":
            self._result(content, message)
        elif role == "assistant" and message.get("recipient", "all") not in ("all", None):
            self._called(content, message)
        elif role in ("user", "assistant"):
            self._note_beside(content, message)
            self._say(role, self._text(content), message)
        else:
            self._reading.skipped.add("messages of an unknown author", f"{self._place}: {role!r}")

    def end(self) -> None:
        """After the last message."""
        if any(self._reasoning):
            self._reading.skipped.add(THOUGHTS, f"{self._place}: {' '.join(self._reasoning)[:40]!r}")

    def _say(self, role: str, content: str, message: Mapping[str, Any]) -> None:
        self._close_call()
        if not content:
            return
        said: dict[str, Any] = {"role": role, "content": content}
        if role == "assistant":
            self._think(said)
        self._put(said, message)

    def _put(self, said: dict[str, Any], message: Mapping[str, Any]) -> None:
        model = _metadata(message).get("model_slug")
        if isinstance(model, str) and said["role"] == "assistant":
            self.facts[len(self.messages)] = {"model": model}
        self.messages.append(said)
        self.times.append(seconds_of(message.get("create_time")))

    def _think(self, said: dict[str, Any]) -> None:
        if any(self._reasoning):
            said["reasoning_content"] = "\n".join(filter(None, self._reasoning))
        self._reasoning = []

    # -- tools --------------------------------------------------------------------------------

    def _called(self, content: Any, message: Mapping[str, Any]) -> None:
        self._close_call()
        function = {"name": str(message["recipient"])[:64], "arguments": self._text(content)}
        call = {"id": str(message.get("id") or f"call-{len(self.messages)}"), "type": "function", "function": function}
        said: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
        self._think(said)
        self._call = len(self.messages)
        self._put(said, message)

    def _result(self, content: Any, message: Mapping[str, Any]) -> None:
        last = self.messages[-1] if self.messages else {}
        if last.get("role") == "tool":
            # One call may be answered in several steps.
            last["content"] = "\n".join(filter(None, (last["content"], self._text(content))))
        elif self._call is not None:
            call_id = self.messages[self._call]["tool_calls"][0]["id"]
            self._put({"role": "tool", "tool_call_id": call_id, "content": self._text(content)}, message)
            self._call = None
        elif text := told(content).text:
            self._reading.skipped.add("what tools said without being called", f"{self._place}: {text[:40]!r}")

    def _close_call(self) -> None:
        """A call whose result the export does not hold is kept as a text: the API takes no call without a result."""
        if self._call is None:
            return
        said = self.messages[self._call]
        function = said.pop("tool_calls")[0]["function"]
        said["content"] = f"[{function['name']}]\n{function['arguments']}"
        self._reading.remarks.add("calls of tools whose result is not in the export, kept as text", self._place)
        self._call = None

    # -- content ------------------------------------------------------------------------------

    def _text(self, content: Any) -> str:
        """What a content says; whatever of it is no text is noted."""
        found = told(content)
        self._reading.remarks.add(MARKED, self._place, count=found.marked)
        for kind in found.as_json:
            self._reading.remarks.add(AS_JSON.format(kind[:60]), self._place)
        for name in found.beside:
            self._reading.skipped.add(BESIDE.format(name[:60]), self._place)
        return found.text

    def _note_beside(self, content: Any, message: Mapping[str, Any]) -> None:
        """Note the sources that a message cites, and the files it names and its content does not point at."""
        self._reading.skipped.add(CITED, self._place, count=sum(bool(_metadata(message).get(name)) for name in SOURCES))
        held = _metadata(message).get("attachments")
        marked = " ".join(pointers(content))
        for file in held if isinstance(held, list) else ():
            if isinstance(file, Mapping) and not (file.get("id") and str(file["id"]) in marked):
                self._reading.skipped.add(ATTACHED, f"{self._place}: {file.get('name') or file.get('id')}"[:200])
