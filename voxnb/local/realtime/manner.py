"""How a local Realtime server behaves where the protocol leaves it open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.local.realtime.chaos import Chaos
from voxnb.local.realtime.hearing import Detector, energy
from voxnb.local.realtime.speaking import DELTA_MS

SESSION_S: Final = 3_600
"""Length of a session, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a server behaves where the protocol leaves it open.

    Attributes:
        speed: how much faster than it sounds audio leaves.
        delta_ms: length of an audio delta, in milliseconds.
        session_s: length of a session, in seconds.
        detector: makes a speech detector from a threshold.
        transcription_ms: how long a user's words take to be written down.
        thinking_ms: how long the model thinks before every answer.
        chaos: what goes wrong.
        has_rate_limits: whether `rate_limits.updated` is told.
        remote_tools: label of a remote (MCP) server → its tools, ``{"name": …, "description": …}``; others are out of reach.
    """

    speed: float = 4.0
    delta_ms: int = DELTA_MS
    session_s: float = SESSION_S
    detector: Callable[[float], Detector] = energy
    transcription_ms: float = 40.0
    thinking_ms: float = 0.0
    chaos: Chaos = field(default_factory=Chaos)
    has_rate_limits: bool = True
    remote_tools: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
