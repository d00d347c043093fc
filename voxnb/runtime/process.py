"""Whether another process of this machine still lives."""

from __future__ import annotations

from pathlib import Path


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
