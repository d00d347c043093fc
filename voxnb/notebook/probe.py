"""What the page of a notebook says of itself, asked while the cell runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anywidget

from voxnb.notebook.panel import let_pages_choose, module

WAIT_S: Final = 4.0
"""How long a page may take to load the probe and answer."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page said.

    Attributes:
        application: the front end and its version.
        secure: whether it is a secure context (https or localhost): without it there is no microphone.
        devices: whether it has the interface for microphones.
        worklet: whether it can play and record sound.
        allowed: whether the frame it stands in allows the microphone; None where it does not tell.
        permission: ``granted``, ``denied``, ``prompt`` or ``unknown``.
        beside: its messages come while a cell runs, on a shell of their own.
        sent: eight bytes arrived in the kernel.
        intact: and came back as they were; None where the answer was not confirmed.
        round_trip_ms: to the kernel and back.
    """

    application: str
    secure: bool
    devices: bool
    worklet: bool
    allowed: bool | None
    permission: str
    beside: bool
    sent: bool
    intact: bool | None
    round_trip_ms: float | None


class _Probe(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]  # anywidget comes without types here
    _esm = module("probe.js")

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, Any] = {}
        self.done = threading.Event()
        self.on_msg(self._on_message)
        let_pages_choose(self)

    def _on_message(self, _widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        if not isinstance(content, Mapping):
            return
        if content.get("t") == "report":
            beside = threading.current_thread() is not threading.main_thread()
            sent = [bytes(b) for b in buffers]
            self.facts |= {**content, "beside": beside, "sent": [len(b) for b in sent] == [8]}
            self.send({"t": "answer"}, buffers=sent)
        elif content.get("t") == "done":
            self.facts |= content
            self.done.set()


def ask_page(*, wait_s: float = WAIT_S) -> Page | None:
    """Ask the page that shows this cell; None where none answers while the cell runs.

    Args:
        wait_s: the longest wait.
    """
    probe = _Probe()
    try:
        probe.done.wait(wait_s)
        said = dict(probe.facts)
    finally:
        probe.close()
    if not said:
        return None
    allowed, round_trip = said.get("allowed"), said.get("round_trip_ms")
    return Page(
        application=str(said.get("application") or "another page")[:80],
        secure=said.get("secure") is True,
        devices=said.get("devices") is True,
        worklet=said.get("worklet") is True,
        allowed=allowed if isinstance(allowed, bool) else None,
        permission=str(said.get("permission") or "unknown")[:20],
        beside=said["beside"],
        sent=said["sent"],
        intact=said.get("intact"),
        round_trip_ms=float(round_trip) if isinstance(round_trip, int | float) else None,
    )
