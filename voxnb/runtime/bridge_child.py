"""The bridge process: it makes what it is told to, and ends when its parent does.

Run by path, not as a module, so that it needs nothing of what the parent has done to find voxnb. Its one argument is
the descriptor of a socket pair; the first line on it is JSON (``sys_path``), the rest is a `Channel`. The system closes
the other end even for a parent that was killed; where a forked copy of the parent still holds it, the parent's id tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import pkgutil
import signal
import socket
import sys
import threading
from typing import Any, Final

END_S: Final = 0.25
"""How long what lives here may take to end once the parent is gone."""

LOOK_S: Final = 1.0
"""How often the parent is looked for."""


class Maker:
    """Makes and drops what lives here.

    Args:
        channel: to the parent.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def make(self, number: int, maker: str, *args: Any) -> None:
        """An object of a number, by the name of what makes it."""
        from voxnb.errors import BridgeError
        from voxnb.runtime.channel import MAKER

        try:
            self._channel.objects[number] = pkgutil.resolve_name(maker)(self._channel, number, *args)
        except Exception as error:  # noqa: BLE001 - whoever is waiting for it is told
            why = f"{maker} failed in the bridge process: {type(error).__name__}: {error}"
            self._channel.objects[number] = _NeverMade(why)
            self._channel.do(MAKER, "never_made", number, BridgeError(why))
            return
        gc.collect()
        gc.freeze()  # what was loaded for it stays: no pause needs to look at it again

    def drop(self, number: int) -> None:
        """The parent needs it no more."""
        self._channel.objects.pop(number, None)

    def lost(self) -> None:
        """Nothing of its own to end."""


class _NeverMade:
    """In the place of what could not be made: whatever is asked of it says why."""

    def __init__(self, why: str) -> None:
        self.why = why

    def lost(self) -> None:
        """Nothing of its own to end."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(self.why)


def main() -> None:
    """See the module's text."""
    # An interrupt in the terminal or the notebook is for the parent, who decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as pair:
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = pair.recv(1)
            if not byte:
                return
            line += byte
        sys.path[:] = json.loads(line)["sys_path"]
        from voxnb.runtime import loop

        loop.submit(_serve(pair.dup())).add_done_callback(lambda _: os._exit(0))
        threading.Event().wait()


async def _serve(pair: socket.socket) -> None:
    """Serve until the parent is gone, then end what lives here."""
    from voxnb.runtime import config, loop
    from voxnb.runtime.channel import MAKER, Channel

    gone = asyncio.Event()
    channel = Channel(on_end=gone.set)
    channel.objects[MAKER] = Maker(channel)
    config.report_to(lambda text: loop.call_soon(channel.do, MAKER, "report", text))
    parent = os.getppid()
    pair.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: channel, sock=pair)
    while os.getppid() == parent and not gone.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await gone.wait()
    ends = [one.lost() for number, one in channel.objects.items() if number != MAKER]
    tasks = [asyncio.ensure_future(end) for end in ends if asyncio.iscoroutine(end)]
    if tasks:
        await asyncio.wait(tasks, timeout=END_S)


if __name__ == "__main__":
    main()
