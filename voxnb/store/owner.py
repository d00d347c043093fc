"""Who runs a turn: a process's name that others can check for life.

A lease says how long nobody else may touch a running turn. On the same machine one
need not wait for it: a process that is gone will not come back.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Final

LEASE_S: Final = 30.0
"""How long a running turn is left alone after its last sign of life."""

RENEW_S: Final = 2.0
"""How often a running turn renews its lease and writes its draft: what a killed process can lose."""

FOLD_LEASE_S: Final = 90.0
"""Outlives a fold's own timeout, so that it needs no renewal."""


def process_start(pid: int) -> str:
    """When a process began, in the kernel's ticks; "" where that cannot be seen or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command's name may hold spaces and brackets; the fields are counted after its last one.
    fields = stat.rsplit(")", 1)[-1].split()
    # Killed, and its parent has not looked yet: it is still listed, and will never run again.
    return "" if fields[0] in ("Z", "X") else fields[19]


@lru_cache(maxsize=4)
def _own(pid: int) -> str:
    return f"{socket.gethostname()}|{pid}|{process_start(pid)}"


def this_process() -> str:
    """This process as an owner; another value after a fork."""
    return _own(os.getpid())


def is_gone(owner: str | None) -> bool:
    """Whether the owner has certainly ended: it lived on this machine and its process is no more."""
    if not owner:
        return True
    host, pid, start = [*owner.split("|"), "", ""][:3]
    if host != socket.gethostname() or not start or not pid.isdigit():
        return False
    return process_start(int(pid)) != start
