"""Who runs a turn: a process's name that others can check for life.

A lease says how long nobody else may touch a running turn. On the same machine one
need not wait for it: a process that is gone will not come back.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from typing import Final

from voxnb.runtime.process import process_start

LEASE_S: Final = 30.0
"""How long a running turn is left alone after its last sign of life."""

RENEW_S: Final = 2.0
"""How often a running turn renews its lease and writes its draft: what a killed process can lose."""

FOLD_LEASE_S: Final = 90.0
"""Outlives a fold's own timeout, so that it needs no renewal."""


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
