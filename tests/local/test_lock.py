"""A lock between processes."""

from __future__ import annotations

import subprocess
import sys

from voxnb.local.lock import FileLock

HOLD = (
    "import sys; from pathlib import Path; from voxnb.local.lock import FileLock; "
    "print(FileLock(Path(sys.argv[1])).acquire(), flush=True); sys.stdin.read()"
)


def test_one_at_a_time_and_a_killed_holder_holds_nothing(tmp_path, root):
    path = tmp_path / "x.lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    with other:
        assert other.stdout.readline() == "True\n"
        lock = FileLock(path)
        assert not lock.acquire()
        other.kill()
        other.wait()
        assert lock.acquire()
    lock.release()
    lock.release()
    assert FileLock(path).acquire()
