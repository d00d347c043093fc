"""Benchmarks are programs, not tests: those that need a peer's packages are not even imported."""

from __future__ import annotations

collect_ignore = ["bridge_pipecat.py"]
