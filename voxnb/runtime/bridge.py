"""The bridge process, seen from the kernel: started with its first user, ended with its last, and never outliving us.

Sockets, sessions and paced sound that live in it go on while a cell holds the interpreter here. There is one, shared by
everything that asks for it: what is in the same process reaches each other without crossing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from typing import IO, Any, Final

from voxnb.errors import BridgeError, NotSupportedError, ParameterError
from voxnb.runtime import bridge_child, config, loop
from voxnb.runtime.channel import MAKER, Channel

STOP_S: Final = 1.0
"""How long the process may take to end by itself."""

SHOWN_BYTES: Final = 2_000
"""The end of its last words, for an error."""


def is_asked(bridge: Any) -> bool:
    """Whether ``bridge=`` asks for the process.

    Raises:
        ParameterError: it is neither ``loop`` nor ``process``.
    """
    if bridge not in ("loop", "process"):
        raise ParameterError(f"bridge is {bridge!r}, expected 'loop' or 'process'", name="bridge")
    return bool(bridge == "process")


class Bridge:
    """One run of the process; lives on the background loop.

    Raises:
        BridgeError: it cannot be started.
        NotSupportedError: this system has no socket pairs that a process can inherit.
    """

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise NotSupportedError(
                'bridge="process" needs a system with inherited sockets, which Windows is not; leave bridge out',
                name='bridge="process"',
                instead='bridge="loop"',
            )
        self.channel = Channel(on_end=self._ended)
        self.channel.objects[MAKER] = self
        self.error: BridgeError | None = None
        self.owner = os.getpid()
        self._numbers = itertools.count(MAKER + 1)
        self._users: set[int] = set()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                # By path and with -P: neither the working directory nor the parent's sys.path decides what runs.
                [sys.executable, "-P", bridge_child.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs.fileno(),),
                # Interrupts of the terminal or the notebook go to whole groups; this one is not meant.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            ours.close()
            self._log.close()
            raise BridgeError(f"the bridge process could not be started ({error})") from error
        finally:
            theirs.close()
        ours.sendall(json.dumps({"sys_path": [p for p in sys.path if p]}).encode() + b"\n")
        ours.setblocking(False)
        self._opening = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(lambda: self.channel, sock=ours)
        )
        self._closing: asyncio.Future[None] | None = None
        # The last user may have left a moment ago: the interpreter waits for the end that it began.
        self._no_exit_hook = loop.at_exit(self.close, last=True)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def make(self, here: Any, maker: str, /, *args: Any, uses: bool = True) -> int:
        """Have an object made over there, with one here as its counterpart.

        Args:
            here: whose methods the other one may call; ``lost(error)`` is called when the process ends by itself.
            maker: ``module:function`` over there; called with the channel, the number and `args`.
            *args: what pickle takes.
            uses: keep the process alive until `release`.

        Returns:
            The number of both.
        """
        number = next(self._numbers)
        self.channel.objects[number] = here
        if uses:
            self._users.add(number)
        self.channel.do(MAKER, "make", number, maker, *args)
        return number

    def number(self, here: Any) -> int:
        """A number for an object that the other end knows how to make."""
        number = next(self._numbers)
        self.channel.objects[number] = here
        return number

    def report(self, text: str) -> None:
        """The process has something to tell."""
        config.report(text)

    async def never_made(self, number: int, error: BridgeError) -> None:
        """What was to be made over there could not be."""
        one = self.channel.objects.get(number)
        if one is not None:
            one.lost(error)
            await self.release(number)

    async def release(self, number: int) -> None:
        """An object is needed no more; with its last user the process ends."""
        self.channel.objects.pop(number, None)
        self.channel.do(MAKER, "drop", number)
        self._users.discard(number)
        if not self._users:
            await self.close()

    async def close(self) -> None:
        """End the process and wait until it has ended; closing twice waits for the same end."""
        global _shared  # noqa: PLW0603 - the one bridge of this process
        if _shared is self:
            _shared = None  # at once: who asks from here on gets one that stays
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        with contextlib.suppress(OSError):
            await self._opening
        self._users.clear()
        objects, self.channel.objects = self.channel.objects, {}
        self.channel.close()
        try:
            await asyncio.to_thread(self._process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._over()
        objects.pop(MAKER, None)
        for one in objects.values():
            one.lost(BridgeError("the bridge process ended with its last client"))

    def _ended(self) -> None:
        """The other end is gone: by `close`, or by itself."""
        global _shared  # noqa: PLW0603 - as above
        if _shared is self:
            _shared = None
        objects, self.channel.objects = self.channel.objects, {}
        objects.pop(MAKER, None)
        if not objects:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S / 2)  # its socket is closed: it has ended, or is about to
        self._process.kill()
        self._process.wait()
        self.error = self._failure()
        self._over()
        for one in objects.values():
            one.lost(self.error)

    def _over(self) -> None:
        self._log.close()
        self._no_exit_hook()

    def _failure(self) -> BridgeError:
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - SHOWN_BYTES))
        words = self._log.read().decode("utf-8", "replace").strip()
        said = f"; its last words:\n{words}" if words else ""
        return BridgeError(
            f"the bridge process ended ({how}); calls in it are over, make new clients{said}", exit_code=code
        )


_shared: Bridge | None = None


def shared() -> Bridge:
    """The bridge process of this kernel, started where there is none; on the background loop.

    Raises:
        BridgeError, NotSupportedError: see `Bridge`.
    """
    global _shared  # noqa: PLW0603 - the one bridge of this process
    if _shared is None or _shared.owner != os.getpid():
        _shared = Bridge()
    return _shared
