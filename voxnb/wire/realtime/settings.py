"""What a session was asked to be: the updates that were sent and not refused, so that a new session can be made the same.

Source: OpenAI API reference, ``session.update``: a field that is absent stays, null or an empty value clears it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Settings:
    """The updates of a session, and what they come to."""

    def __init__(self) -> None:
        self._settled: dict[str, Any] = {}
        self._open: dict[str, Mapping[str, Any]] = {}

    @property
    def wanted(self) -> dict[str, Any]:
        """The ``session`` of one update that asks for all of it; empty where nothing was asked for."""
        asked = dict(self._settled)
        for update in self._open.values():
            asked = merged(asked, update)
        return asked

    def asked(self, event_id: str, session: Mapping[str, Any]) -> None:
        """An update goes out."""
        self._open[event_id] = session

    def refused(self, event_id: str) -> None:
        """An update was refused: it changed nothing."""
        self._open.pop(event_id, None)

    def accepted(self) -> None:
        """The server has confirmed an update: the oldest of those under way."""
        if self._open:
            self._settled = merged(self._settled, self._open.pop(next(iter(self._open))))


def merged(settings: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Settings after an update: objects are merged, everything else is replaced.

    An object of another ``type`` (semantic instead of server VAD) replaces the old one.

    >>> merged({"audio": {"input": {"format": 1}}}, {"audio": {"input": {"turn_detection": None}}})
    {'audio': {'input': {'format': 1, 'turn_detection': None}}}
    >>> merged({"td": {"type": "server_vad", "threshold": 0.5}}, {"td": {"type": "semantic_vad"}})
    {'td': {'type': 'semantic_vad'}}
    """
    out = dict(settings)
    for name, new in update.items():
        old = out.get(name)
        same = isinstance(old, Mapping) and isinstance(new, Mapping) and new.get("type", old.get("type")) == old.get("type")  # fmt: skip
        out[name] = merged(old, new) if same else new  # type: ignore[arg-type]  # same says that both are objects
    return out
