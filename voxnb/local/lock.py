"""A lock between processes: a file that the system unlocks when its holder ends, however that ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FileLock:
    """One process at a time; not between the threads of one.

    On a file system that knows no locks everybody gets it: it must only ever save work, never guard correctness.

    Args:
        path: the file, made if it is not there; it stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> bool:
        """Try to get it, without waiting.

        Returns:
            Whether it is held now.

        Raises:
            OSError: the file cannot be made.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform == "win32":
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Held by another: POSIX says the first, Windows the second. Else there are no locks here: as good as held.
            if isinstance(error, BlockingIOError | PermissionError):
                os.close(fd)
                return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Let others have it; without having it this does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
