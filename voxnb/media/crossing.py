"""How sound crosses between the kernel and the bridge process, and how units of both are connected.

A unit that lives in the bridge process has a shell here, whose `MediaUnit._far` says where it is. Two such units are
connected over there, and nothing of theirs crosses; a unit that is fresh and knows how (`MediaUnit._recipe`) moves there
when it is first connected with one, and stays there until it is closed or the process ends. Where one lives here, each side has a stand-in: an `Outlet` that
hears in the place of the far one and sends what it hears across, and an `Inlet` that gives what comes across.

Rule 1: who paces and who knows what was heard is the side of the source. A target that counts what it plays reports it
across; of any other the source's deadlines are the evidence.
Rule 2: a frame carries when it sounds, on the clock that both processes share.
Rule 3: sound that cannot cross in time is dropped and counted; everything else waits.
"""

from __future__ import annotations

import itertools
import pickle
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from voxnb.audio.formats import AudioFormat, audio_format
from voxnb.errors import ParameterError
from voxnb.media.stand_in import Face, Inlet, Outlet, StandIn
from voxnb.media.stream import Sink
from voxnb.media.unit import MediaUnit
from voxnb.runtime import loop
from voxnb.runtime.bridge import Bridge
from voxnb.runtime.channel import Channel

SIDE: Final = "voxnb.media.crossing:Side"
MOVED: Final = "voxnb.media.crossing:made_again"


@dataclass(frozen=True, slots=True)
class Far:
    """Where a unit is that is not here.

    Attributes:
        side: the way to it.
        number: its own.
    """

    side: Near
    number: int

    def do(self, method: str, /, *args: Any) -> None:
        """Call a method of the unit over there."""
        self.side.bridge.channel.do(self.number, method, *args)

    async def ask(self, method: str, /, *args: Any) -> Any:
        """The same, and what it returns."""
        return await self.side.bridge.channel.ask(self.number, method, *args)

    def check(self, custom_parameters: Any) -> None:
        """Refuse what cannot cross.

        Raises:
            ParameterError: it cannot.
        """
        try:
            pickle.dumps(custom_parameters)
        except Exception as error:
            raise ParameterError(
                f"custom_parameters cannot cross to the bridge process ({error}); send what JSON can say",
                name="custom_parameters",
            ) from error

    def leave(self) -> None:
        """The unit is closed here: it is closed over there, too, and forgotten on both sides."""
        bridge = self.side.bridge
        if self.number in bridge.channel.objects:
            self.side.tell("leave", self.number)
            loop.submit(bridge.release(self.number))

    def wish(self, tag: str, encoding: str | None, custom_parameters: Mapping[str, Any] | None) -> Wish:
        """What was asked for, as it crosses."""
        return Wish(tag, encoding, None if custom_parameters is None else dict(custom_parameters))


class Wish(NamedTuple):
    """What `send_media_to` was asked for."""

    tag: str
    encoding: str | None
    custom_parameters: Mapping[str, Any] | None

    @property
    def wanted(self) -> AudioFormat | None:
        """The format that the encoding means."""
        return None if self.encoding is None else audio_format(self.encoding)


class Side:
    """One end's units and stand-ins.

    Args:
        channel: to the other end.
        number: of this object and of its counterpart.

    Attributes:
        units: number → unit that lives here and is known over there.
    """

    def __init__(self, channel: Channel, number: int) -> None:
        self.units: dict[int, MediaUnit] = {}
        self._channel = channel
        self._own = number
        self._aims: dict[int, tuple[MediaUnit, Wish, Face]] = {}
        self._stand_ins: dict[int, StandIn] = {}
        _here[channel] = self

    def tell(self, method: str, /, *args: Any, most_bytes: int | None = None) -> bool:
        """Call a method of the other side."""
        return self._channel.do(self._own, method, *args, most_bytes=most_bytes)

    def forget(self, number: int) -> None:
        """A crossing is over."""
        self._stand_ins.pop(number, None)
        self._aims.pop(number, None)

    # -- called from the other side ---------------------------------------------------------------

    def join(self, source: int, target: int, wish: Wish) -> None:
        """Connect two units that both live here."""
        one, other = self.units.get(source), self.units.get(target)
        if one is not None and other is not None:
            one._connect(other, wish.tag, wish.encoding, wish.wanted, wish.custom_parameters)

    def unjoin(self, source: int, target: int, tag: str) -> None:
        """Part them."""
        one, other = self.units.get(source), self.units.get(target)
        if one is not None and other is not None:
            one._disconnect(other, tag)

    def tap(self, number: int, source: int, wish: Wish, face: Face, sink: Sink) -> None:
        """Let a unit of the other side hear one that lives here."""
        unit = self.units.get(source)
        if unit is None:
            self.tell("end", number)
            return
        self.lead(number, unit, wish, face, sink=sink)

    def aim(self, number: int, target: int, wish: Wish, face: Face) -> None:
        """Sound for a unit that lives here will come."""
        unit = self.units.get(target)
        if unit is not None:
            self._aims[number] = (unit, wish, face)

    def begin(self, number: int, form: AudioFormat) -> None:
        """It comes, in this format."""
        if number not in self._aims:
            self.tell("stop", number)
            return
        target, wish, face = self._aims[number]
        inlet = Inlet(self, number, face, form=form)
        self._stand_ins[number] = inlet
        inlet._connect(target, wish.tag, wish.encoding, wish.wanted, wish.custom_parameters)
        if not inlet._outgoing:
            self.tell("stop", number)
            self.forget(number)

    def frame(self, number: int, data: bytes, due_s: float) -> None:
        """A frame."""
        inlet = self._stand_ins.get(number)
        if isinstance(inlet, Inlet):
            inlet.give(data, due_s)

    def clear(self, number: int, generation: int) -> None:
        """What was sent and not played is void."""
        inlet = self._stand_ins.get(number)
        if isinstance(inlet, Inlet):
            inlet.void(generation)

    def counted(self, number: int, samples: int, generation: int) -> None:
        """What the other side's unit has played."""
        outlet = self._stand_ins.get(number)
        if isinstance(outlet, Outlet):
            outlet.counted(samples, generation)

    def end(self, number: int) -> None:
        """Nothing more comes, or nobody over there hears any more."""
        stand_in = self._stand_ins.get(number)
        self.forget(number)
        if stand_in is not None:
            stand_in._end_media()

    stop = end

    def leave(self, number: int) -> None:
        """A unit that has moved here is needed no more."""
        unit: Any = self.units.pop(number, None)
        if unit is not None:
            unit.close()

    def wipe(self, number: int, tag: str | None) -> None:
        """``clear_media_buffer`` of a unit that lives here."""
        unit = self.units.get(number)
        if unit is not None:
            unit._clear(tag)

    # -- for this side ------------------------------------------------------------------------------

    def lead(self, number: int, source: MediaUnit, wish: Wish, face: Face, *, sink: Sink) -> None:
        """Let what a unit here gives go across."""
        outlet = Outlet(self, number, face, sink=sink)
        self._stand_ins[number] = outlet
        source._connect(outlet, wish.tag, wish.encoding, wish.wanted, wish.custom_parameters)

    def end_all(self) -> None:
        """Nothing crosses any more."""
        for stand_in in list(self._stand_ins.values()):
            stand_in._end_media()
        self._stand_ins.clear()
        self._aims.clear()

    def lost(self, error: Exception | None = None) -> None:
        """The other end is gone."""
        del error
        _here.pop(self._channel, None)
        self.end_all()


_here: dict[Channel, Side] = {}


def side_of(channel: Channel) -> Side:
    """The side of a channel's end, in the bridge process."""
    return _here[channel]


def made_again(channel: Channel, number: int, kind: str, given: tuple[Any, ...], made_of: Mapping[str, Any]) -> Any:
    """A unit that has moved, in the bridge process."""
    unit: MediaUnit = pkgutil.resolve_name(kind)(*given, **made_of)
    side_of(channel).units[number] = unit
    return unit._as_port(lambda error: channel.do(number, "done", error))


class Shell:
    """What a unit that has moved is told by the one over there.

    Args:
        done: called when that has played to its end, with the error if it could not.
        lost: called when the process is gone, with the error or None where it was ended.
    """

    def __init__(self, *, done: Callable[[Any], None], lost: Callable[[Any], None]) -> None:
        self.done = done
        self.lost = lost


class Near(Side):
    """The kernel's side: it knows which units live over there."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        number = bridge.make(self, SIDE, uses=False)
        super().__init__(bridge.channel, number)
        self._links: dict[tuple[int, int, str], tuple[int, Wish]] = {}
        self._crossings = itertools.count(1)

    @classmethod
    def of(cls, bridge: Bridge) -> Near:
        """The one of a bridge."""
        found = _here.get(bridge.channel)
        return found if isinstance(found, Near) else cls(bridge)

    def move(self, unit: MediaUnit) -> None:
        """Have a unit live over there, if it can still move: what it is made of is made again, and it is the shell."""
        recipe = unit._recipe()
        if recipe is None:
            return
        unit._moved()  # first: a sound device is opened by one of both at a time
        number = self.bridge.make(recipe.shell, MOVED, recipe.kind, recipe.given, recipe.made_of, uses=recipe.keeps)
        unit._far = Far(self, number)

    def connect(self, source: MediaUnit, target: MediaUnit, wish: Wish) -> None:
        """``send_media_to`` where one of the two is over there, or both are."""
        if source._media_over or target._media_over:
            return
        for unit in (source, target):
            if unit._far is None:
                self.move(unit)
        far_source, far_target = source._far, target._far
        if far_source is not None and far_target is not None:
            self.tell("join", far_source.number, far_target.number, wish)
            return
        key = (id(source), id(target), wish.tag)
        known = self._links.get(key)
        if known is not None:
            if known[1] == wish and known[0] in (*self._stand_ins, *self._aims):
                return
            self.disconnect(source, target, wish.tag)
        number = next(self._crossings)
        self._links[key] = (number, wish)
        if far_source is not None:
            self._aims[number] = (target, wish, Face.of(source))
            self.tell("tap", number, far_source.number, wish, Face.of(target), target.sink)
        elif far_target is not None:
            self.tell("aim", number, far_target.number, wish, Face.of(source))
            self.lead(number, source, wish, Face.of(target), sink=target.sink)

    def disconnect(self, source: MediaUnit, target: MediaUnit, tag: str) -> None:
        """``stop_media_to``, likewise."""
        if source._far is not None and target._far is not None:
            self.tell("unjoin", source._far.number, target._far.number, tag)
            return
        for key in [k for k in self._links if k[:2] == (id(source), id(target)) and tag in ("", k[2])]:
            number, _ = self._links.pop(key)
            if number in self._aims and number not in self._stand_ins:
                self.tell("end", number)  # it had not begun
            self.end(number)

    def forget(self, number: int) -> None:
        """A crossing is over."""
        super().forget(number)
        self._links = {key: link for key, link in self._links.items() if link[0] != number}
