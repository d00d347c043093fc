"""The file that a new recording is written to until it is whole, beside the tape whose place it takes."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from voxnb.errors import TapeError
from voxnb.runtime.process import process_start


def aside(path: Path) -> Path:
    """This process's file beside a tape; what killed processes left there is removed.

    Raises:
        TapeError: it cannot be removed.
    """
    mine = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        # Its number may have been that of a process before it.
        mine.unlink(missing_ok=True)
        for other in path.parent.glob(f"{glob.escape(path.name)}.*.new"):
            found = re.fullmatch(r"\.([0-9]+)\.new", other.name.removeprefix(path.name))
            # Where one's own process cannot be seen, no other can.
            if found and process_start(os.getpid()) and not process_start(int(found[1])):
                other.unlink(missing_ok=True)
    except OSError as error:
        raise TapeError(
            f"cannot clear what is left beside {str(path)!r} ({error}); remove it", path=str(path)
        ) from error
    return mine
