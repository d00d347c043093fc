"""OpenAI's fine-tuning JSON Lines: one conversation per line, ``{"messages": […], "tools": […]}``.

Only complete turns go in: a model should not learn from an answer that was cut off. Keys and content parts that
the format does not take are left out and reported.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from voxnb.messages import ANSWER_ROLES
from voxnb.store import ledger
from voxnb.store.columns import rows_of
from voxnb.store.exporting.contents import header, turns
from voxnb.store.exporting.sink import Sink

KEYS: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "weight"})
LINE_KEYS: Final = ("tools", "parallel_tool_calls", "functions")
"""What may stand in a line beside its messages, and is in the metadata of one that was imported."""
SAYS: Final = ("content", "refusal", "tool_calls", "function_call")
"""Of these an answer has one."""
PARTS: Final = frozenset({"text", "image_url", "refusal"})
NO_PLACE: Final = "ids, names, times, models, states and costs: the format has no place for them"


class FineTuning(Sink):
    """Instructions and messages of complete turns, with the tools of the newest request."""

    carries = frozenset({"instructions"})

    def add(self, c: sqlite3.Connection, conversation: int, name: str) -> None:
        """Write one conversation's line."""
        self.remarks.add(NO_PLACE)
        head = header(c, conversation)
        messages = [self._message(said["message"], f"{name}, instructions") for said in head["instructions"]]
        answered = begun = whole = False
        for turn in turns(c, conversation):
            place = f"{name}, turn {turn['seq']}"
            state = "redacted" if turn["redacted_at"] is not None else turn["state"]
            if state != "complete":
                self.remarks.add(f"{state} turns: not an example to learn from", place)
                continue
            self.count(turn)
            said = [self._message(m["message"], place) for m in turn["messages"]]
            if begun and said and (said[0]["role"] in ANSWER_ROLES or not whole):
                self.remarks.add("where turns begin that only answer, or follow an unanswered one", place)
            begun, whole = True, any(m["role"] in ANSWER_ROLES for m in said)
            answered = answered or any(m["role"] == "assistant" for m in said)
            messages += said
        if not answered:
            self.remarks.add("conversations without an answer: fine-tuning will refuse their lines", name)
        # A line that was imported has its tools in the metadata: nothing was asked with them here.
        beside = {key: head["metadata"][key] for key in LINE_KEYS if head["metadata"].get(key) not in (None, [])}
        for key in head["metadata"]:
            if key not in (*LINE_KEYS, "imported"):
                self.remarks.add(f"{key[:60]!r} of the metadata", name)
        if tools := _tools(c, conversation):
            beside["tools"] = tools
        line = {"messages": messages, **beside}
        self.put(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")

    def _message(self, message: Mapping[str, Any], place: str) -> dict[str, Any]:
        for key in message:
            if key not in KEYS:
                self.remarks.add(f"the key {key!r} of messages", place)
        out = {key: value for key, value in message.items() if key in KEYS}
        content = out.get("content")
        if isinstance(content, list):
            kept = [part for part in content if part.get("type") in PARTS]
            for part in content:
                if part.get("type") not in PARTS:
                    self.remarks.add(f"content parts of type {part.get('type')!r}", place)
            out["content"] = kept or ""
        if out["role"] == "assistant" and not any(out.get(key) for key in SAYS):
            self.remarks.add("answers of which nothing is left: fine-tuning will refuse their lines", place)
        return out


def _tools(c: sqlite3.Connection, conversation: int) -> list[Any] | None:
    """The tools of the conversation's newest request that had any."""
    rows = c.execute(
        f"SELECT plan FROM call WHERE id IN ({rows_of('call', '?1')}) AND plan IS NOT NULL ORDER BY id DESC",
        (conversation,),
    )
    for (plan,) in rows:
        text = ledger.get_value(c, json.loads(plan).get("tools"))
        tools = json.loads(text).get("tools") if text else None
        if tools:
            return list(tools)
    return None
