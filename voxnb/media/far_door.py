"""The door of a media server whose calls live in the bridge process: its two halves, and those of a call.

`FarDoor` and `FarCall` are in the kernel, `ServedDoor` and `ServedCall` over there. Who calls is told here and answered
here; sound stays there, where the other end of it lives there too.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

from voxnb.errors import BridgeError
from voxnb.events import WebSocketEvents
from voxnb.media.call import Call, CallFacts
from voxnb.media.clock import LOOP, Timer
from voxnb.media.crossing import Far, Near, side_of
from voxnb.media.door import NOTHING, Door, Plan, is_signed, tls
from voxnb.media.guard import Signature, TwilioSignature
from voxnb.media.socket_call import SocketCall
from voxnb.runtime import bridge, loop
from voxnb.runtime.channel import MOST_EVENT_BYTES, Channel

SERVED: Final = "voxnb.media.far_door:ServedDoor"

ASK_S: Final = 5.0
"""How long the process may take to answer; it is never held up by what cells do."""

TELL_S: Final = 1.0
"""How often the numbers are told without being asked for."""

_numbers = itertools.count(-1, -1)
"""Of calls: the kernel numbers what it makes upwards, the bridge process downwards."""


class FarDoor:
    """Has the bridge process listen.

    Args:
        plan: how.
        arrived: called with each new call.
        gone: called where the process ends by itself.
        signature: asked about each handshake; over there where it is Twilio's, else a busy kernel takes its time.

    Raises:
        AudioError, ParameterError: see `Door`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        arrived: Callable[[FarCall], object],
        gone: Callable[[BridgeError], object],
        signature: Signature | None,
    ) -> None:
        tls(plan.certificate, plan.certificate_key)  # what cannot be read is told here
        self.plan = plan
        self._arrived = arrived
        self._gone = gone
        self._signature = signature
        self._calls: dict[int, FarCall] = {}
        self._bridge: Any = None
        self._known = {"calls": 0, "sockets": 0, "calls_taken": 0, "refused": 0, **NOTHING}

    async def listen(self, port: int) -> int:
        """See `Door.listen`.

        Raises:
            BridgeError: the process cannot be started.
            NotSupportedError, AudioError: see `Door.listen`.
        """
        self._bridge = bridge.shared()
        self._near = Near.of(self._bridge)
        own = self._signature if isinstance(self._signature, TwilioSignature) else None
        self._number = self._bridge.make(self, SERVED, self.plan, own, self._signature is not None)
        try:
            taken: int = await self._bridge.channel.ask(self._number, "listen", port)
        except BaseException:
            await self._bridge.release(self._number)
            raise
        return taken

    @property
    def calls(self) -> tuple[FarCall, ...]:
        """The calls that go on now."""
        return tuple(self._calls.values())

    def token(self, valid_s: float) -> str:
        """See `Door.token`."""
        return str(self._ask("token", valid_s))

    def statistics(self) -> dict[str, int]:
        """See `Door.statistics`; after the end what was known last."""
        if self._bridge is not None:
            with contextlib.suppress(BridgeError):  # it has just ended
                self._known = dict(self._ask("statistics"))
        return dict(self._known)

    def _ask(self, method: str, *args: Any) -> Any:
        if self._bridge is None:
            raise BridgeError("the bridge process of this server is gone; make a new server")
        return loop.wait(loop.submit(self._bridge.channel.ask(self._number, method, *args)), timeout_s=ASK_S)

    async def shut(self) -> None:
        """See `Door.shut`."""
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            self._known = await bridge.channel.ask(self._number, "shut")
            for call in self.calls:
                call.over()
            await bridge.release(self._number)

    # -- told by the other half -----------------------------------------------------------------

    def arrived(self, number: int, known: CallFacts) -> None:
        """A call has begun."""
        call = FarCall(self._near, number, known, ended=self._ended)
        self._near.bridge.channel.objects[number] = _FarCallPort(call)
        self._calls[number] = call
        self._known["calls_taken"] += 1
        self._arrived(call)

    def _ended(self, number: int) -> None:
        self._calls.pop(number, None)
        self._near.bridge.channel.objects.pop(number, None)

    def known(self, numbers: dict[str, int], of_calls: Mapping[str, dict[str, Any]]) -> None:
        """The numbers of the door and, by id, of its calls, told from time to time: a process may be killed."""
        self._known = numbers
        for call in self.calls:
            call.last_known(of_calls.get(call.id))

    async def is_signed(self, headers: list[tuple[str, str]], path: str) -> bool:
        """Whether a handshake is signed by who it should be."""
        from websockets.datastructures import Headers

        return self._signature is None or await is_signed(self._signature, Headers(headers), path)

    def lost(self, error: BridgeError) -> None:
        """The process has ended: nobody listens any more."""
        self._bridge = None
        self._known |= {"calls": 0, "sockets": 0}
        self._gone(error)


class FarCall(Call):
    """A call in the bridge process.

    Args:
        near: the way there.
        number: its own.
        known: what its start said.
        ended: told when it is over.
    """

    def __init__(self, near: Near, number: int, known: CallFacts, *, ended: Callable[[int], None]) -> None:
        super().__init__(known)
        self._far = Far(near, number)
        self._channel = near.bridge.channel
        self._number = number
        self._told_end = ended
        self._numbers: dict[str, Any] = {}

    def statistics(self) -> dict[str, Any]:
        """What came, and what became of it; after the end the last of it."""
        if not self.closed and not loop.on_loop():
            with contextlib.suppress(BridgeError):  # it has just ended
                told = loop.wait(loop.submit(self._channel.ask(self._number, "statistics")), timeout_s=ASK_S)
                self._numbers = told or self._numbers
        return dict(self._numbers)

    def _hang_up(self) -> None:
        self._channel.do(self._number, "hang_up")

    def _send(self, text: str) -> None:
        self._channel.do(self._number, "send", text)

    def tell(self, name: str, payload: dict[str, Any]) -> None:
        """An event for its listeners."""
        self._dispatcher.emit(name, payload, context=None)

    def last_known(self, numbers: dict[str, Any] | None) -> None:
        """What came so far, where that is told."""
        self._numbers = numbers or self._numbers

    def over(self, numbers: dict[str, Any] | None = None) -> None:
        """It has ended."""
        if self.closed:
            return
        self.last_known(numbers)
        self._end_media()
        self._over.set_result(None)
        self._dispatcher.close()
        self._told_end(self._number)


class _FarCallPort:
    """What the other half of a call may call."""

    def __init__(self, call: FarCall) -> None:
        self.emit = call.tell
        self.over = call.over
        self._call = call

    def lost(self, error: BridgeError) -> None:
        """The process has ended."""
        facts = {"code": 1006, "reason": error.message.partition("\n")[0], "wasClean": False}
        self._call.tell(WebSocketEvents.Close.value, facts)
        self._call.over()


# -- in the bridge process ----------------------------------------------------------------------


class ServedDoor:
    """Listens for a kernel.

    Args:
        channel: to it.
        number: of this object and of its `FarDoor`.
        plan: how.
        signature: checks handshakes.
        asks_signature: the kernel checks them, where there is none.
    """

    def __init__(
        self,
        channel: Channel,
        number: int,
        plan: Plan,
        signature: TwilioSignature | None,
        asks_signature: bool,  # noqa: FBT001 - off the wire
    ) -> None:
        self._channel = channel
        self._number = number
        asked = self._is_signed if asks_signature else None
        self._door = Door(plan, arrived=self._arrived, signature=signature or asked)
        self.token, self.statistics = self._door.token, self._door.statistics
        self._timer: Timer | None = None

    async def listen(self, port: int) -> int:
        """See `Door.listen`."""
        taken = await self._door.listen(port)
        self._tell()
        return taken

    def _tell(self) -> None:
        self._timer = LOOP.call_at(LOOP.now() + TELL_S, self._tell)
        of_calls = {call.id: call.statistics() for call in self._door.calls}
        self._channel.do(self._number, "known", self.statistics(), of_calls, most_bytes=MOST_EVENT_BYTES)

    async def _is_signed(self, headers: Mapping[str, str], path: str) -> bool:
        told = list(getattr(headers, "raw_items", headers.items)())
        return bool(await self._channel.ask(self._number, "is_signed", told, path))

    async def shut(self) -> dict[str, int]:
        """End it all; the last numbers."""
        if self._timer is not None:
            self._timer.cancel()
        await self._door.shut()
        return self._door.statistics()

    lost = shut

    def _arrived(self, call: SocketCall) -> None:
        number = next(_numbers)
        self._channel.objects[number] = ServedCall(self._channel, number, call)
        side_of(self._channel).units[number] = call
        self._channel.do(self._number, "arrived", number, call.known)


class ServedCall:
    """A call whose listeners are in the kernel; it takes the place of the call's dispatcher."""

    def __init__(self, channel: Channel, number: int, call: SocketCall) -> None:
        self._channel = channel
        self._number = number
        self._call = call
        call.told_by(self)
        self.hang_up, self.send, self.statistics = call._hang_up, call._send, call.statistics

    def emit(self, name: str, payload: dict[str, Any], *, context: Any) -> None:
        """An event of the call."""
        del context
        self._channel.do(self._number, "emit", name, payload, most_bytes=MOST_EVENT_BYTES)

    def close(self) -> None:
        """The call is over."""
        self._channel.do(self._number, "over", self._call.statistics())
        self._channel.objects.pop(self._number, None)
        side_of(self._channel).units.pop(self._number, None)

    def lost(self) -> None:
        """The kernel is gone; the door ends its calls."""
