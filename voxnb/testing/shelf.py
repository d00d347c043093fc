"""What the server keeps between Responses requests: responses by id, conversations, responses in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.testing.replies import Status
from voxnb.testing.service import refuse

_OVER: Final = ("completed", "incomplete", "failed", "cancelled")


@dataclass
class Kept:
    """One response.

    Attributes:
        body: as it will be in the end.
        context: the items that led to it, and its own.
        status: what is told of it now; in the background every look takes it one step further.
    """

    body: dict[str, Any]
    context: list[Any]
    status: str

    def told(self) -> dict[str, Any]:
        """The body as it is told now."""
        if self.status == self.body["status"]:
            return self.body
        return {**self.body, "status": self.status, "output": [], "usage": None, "incomplete_details": None}


@dataclass
class Shelf:
    """What is kept; every method may be called from several threads.

    Attributes:
        reasoned: id of an item that came of reasoning → id of the reasoning, for the items of all answers.
        items: ids of the items that were kept (``store`` true).
    """

    reasoned: dict[str, str] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)
    _responses: dict[str, Kept] = field(default_factory=dict)
    _conversations: dict[str, list[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> dict[str, Any]:
        """A new, empty conversation."""
        with self._lock:
            name = f"conv_{len(self._conversations) + 1:08d}"
            self._conversations[name] = []
        return {"id": name, "object": "conversation", "created_at": 1_700_000_000, "metadata": {}}

    def history(self, body: Mapping[str, Any]) -> list[Any] | Status:
        """The items that the server holds for a request, or the refusal where it holds none of that name."""
        with self._lock:
            previous = body.get("previous_response_id")
            if previous is not None:
                kept = self._responses.get(previous) if isinstance(previous, str) else None
                if kept is None:
                    words = f"Previous response with id '{previous}' not found."
                    return refuse(words, param="previous_response_id", code="previous_response_not_found")
                return list(kept.context)
            name = conversation_id(body)
            if name is None:
                return []
            if name not in self._conversations:
                return refuse(f"Conversation with id '{name}' not found.", status=404)
            return list(self._conversations[name])

    def keep(self, body: Mapping[str, Any], response: dict[str, Any], *, asked: Iterable[Any], status: str) -> None:
        """Keep a response where the request says so, and which of its items came of reasoning in any case.

        Args:
            body: the request's.
            response: the answer, whole.
            asked: history and input of the request.
            status: what is told of it at first.
        """
        with self._lock:
            thought: str | None = None
            for item in response["output"]:
                if item.get("type") == "reasoning":
                    thought = item["id"]
                elif thought and isinstance(item.get("id"), str):
                    self.reasoned[item["id"]] = thought
            if body.get("store") is False:
                return
            context = [*asked, *response["output"]]
            self.items |= {i["id"] for i in context if isinstance(i, Mapping) and isinstance(i.get("id"), str)}
            self._responses[response["id"]] = Kept(response, context, status)
            name = conversation_id(body)
            if name is not None:
                self._conversations[name] = context

    def look(self, name: str) -> Status:
        """``GET /responses/<id>``: the response; one in the background goes on with every look."""
        with self._lock:
            kept = self._responses.get(name)
            if kept is None:
                return _not_found(name)
            if kept.status == "queued":
                kept.status = "in_progress"
            elif kept.status == "in_progress":
                kept.status = kept.body["status"]
            return Status(200, body=kept.told())

    def finish(self, name: str) -> None:
        """End a response in the background, unless it was cancelled."""
        with self._lock:
            kept = self._responses.get(name)
            if kept is not None:
                kept.status = kept.body["status"]

    def cancel(self, name: str) -> Status:
        """``POST /responses/<id>/cancel``."""
        with self._lock:
            kept = self._responses.get(name)
            if kept is None:
                return _not_found(name)
            if not kept.body.get("background"):
                return refuse("Only responses created with background=true can be cancelled.")
            if kept.status not in _OVER:
                kept.status = "cancelled"
                kept.body = {**kept.body, "status": "cancelled", "output": [], "usage": None}
            return Status(200, body=kept.told())

    def delete(self, name: str) -> Status:
        """``DELETE /responses/<id>``."""
        with self._lock:
            if self._responses.pop(name, None) is None:
                return _not_found(name)
            return Status(200, body={"id": name, "object": "response.deleted", "deleted": True})


def conversation_id(body: Mapping[str, Any]) -> str | None:
    """The conversation that a request names, or None."""
    given = body.get("conversation")
    name = given.get("id") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else None


def _not_found(name: str) -> Status:
    return refuse(f"Response with id '{name}' not found.", status=404)
