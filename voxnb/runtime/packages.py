"""Heavy packages, imported where an interrupt cannot cut them in two.

pandas and numpy do not survive it: who imports the half that was left gets an AttributeError, or a process whose
import lock nobody releases, in which every other thread then hangs at its next import. Signals reach the main thread
only, so these are imported on a thread of their own. What is interrupted is the wait; the import ends behind it.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import sys
import threading
from types import FrameType
from typing import Final

from voxnb.runtime import loop

_IMPORTLIB: Final = "<frozen importlib._bootstrap>"


def import_apart(*names: str) -> None:
    """Have modules imported, so that the ``import`` of the next line is a look-up.

    Elsewhere than on the main thread, and while that imports something already, nothing is done: that ``import`` does it.

    Args:
        names: full names of modules.

    Raises:
        Exception: whatever importing one of them raises.
        KeyboardInterrupt, asyncio.CancelledError: see `loop.block`; the import goes on.
    """
    if all(map(_is_ready, names)) or threading.current_thread() is not threading.main_thread() or _importing():
        return
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def work() -> None:
        try:
            for name in names:
                importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            done.set_exception(error)
        else:
            done.set_result(None)

    try:
        # No daemon: a process that ends in the middle of C code's start could crash.
        threading.Thread(target=work, name="voxnb-import").start()
    except RuntimeError:  # Python 3.12 starts no thread while it closes
        return
    loop.wait(done)


def _is_ready(name: str) -> bool:
    """Whether a module is imported to its end."""
    module = sys.modules.get(name)
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


def _importing() -> bool:
    """Whether the caller runs inside an import: another thread could need what it has locked."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - no other way tells
    while frame is not None:
        # `from voxnb import chat` asks the package for the name, and has nothing locked then.
        if frame.f_code.co_filename == _IMPORTLIB and frame.f_code.co_name != "_handle_fromlist":
            return True
        frame = frame.f_back
    return False
