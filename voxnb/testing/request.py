"""A request as the server met it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Request:
    """One recorded request.

    Attributes:
        number: order of arrival, from 1 (the moment its body was there).
        method: ``"POST"`` or ``"GET"``.
        path: the path without the query, such as ``/v1/chat/completions``.
        query: the query, decoded (``{"api-version": "2024-10-21"}``).
        headers: all headers under lower-case names.
        body: the raw body.
        json: the decoded body, or None where it is not JSON.
        arrived_s: monotonic clock at the arrival, in seconds.
        has_key: whether an ``authorization`` or ``api-key`` header came with it.
        outcome: ``"open"``, then ``"answered"``, ``"dropped"`` (as scripted) or ``"disconnected"`` (the other
            side went, or the server was closed, before the answer was out).
    """

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    json: Any
    arrived_s: float
    has_key: bool
    outcome: str = "open"
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the body, those of a Responses request as chat messages; empty where there are none."""
        body = self.json if isinstance(self.json, dict) else {}
        if "messages" not in body and "input" in body:
            from voxnb.wire.items import from_input

            leading = [{"role": "system", "content": self.instructions}] if self.instructions else []
            return [*leading, *from_input(body["input"])]
        found = body.get("messages")
        return found if isinstance(found, list) else []

    @property
    def input(self) -> Any:
        """The ``input`` of a Responses request, or None."""
        return self.json.get("input") if isinstance(self.json, dict) else None

    @property
    def instructions(self) -> str | None:
        """The ``instructions`` of a Responses request, or None."""
        found = self.json.get("instructions") if isinstance(self.json, dict) else None
        return found if isinstance(found, str) else None

    @property
    def model(self) -> str:
        """The model that was asked for, or ``""``."""
        found = self.json.get("model") if isinstance(self.json, dict) else None
        return found if isinstance(found, str) else ""

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for."""
        return isinstance(self.json, dict) and self.json.get("stream") is True

    @property
    def text(self) -> str:
        """The text of the last user message, or ``""``; parts that are not text are left out."""
        for message in reversed(self.messages):
            if isinstance(message, dict) and message.get("role") == "user":
                return text_of(message.get("content"))
        return ""

    def wait(self, *, timeout_s: float = 10.0) -> str:
        """Wait until the server is done with this request.

        Args:
            timeout_s: the longest wait, in seconds.

        Returns:
            The outcome.

        Raises:
            TimeoutError: it is still open.
        """
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"request {self.number} is still open after {timeout_s} s")
        return self.outcome

    def _end(self, outcome: str) -> None:
        self.outcome = outcome
        self._ended.set()

    def __repr__(self) -> str:
        return f"<Request {self.number} {self.method} {self.path} {self.outcome}>"


def text_of(content: Any) -> str:
    """The text of a message's content: the string, or its text parts joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (p.get("text") for p in content if isinstance(p, dict))
    return "".join(p for p in parts if isinstance(p, str))
