"""What a panel sees of a call's sound, and does to it: watchers of all that is heard and said, and muted streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeAlias

from voxnb.audio.formats import AudioFormat
from voxnb.errors import TurnError
from voxnb.media.unit import MediaUnit

SoundWatcher: TypeAlias = Callable[[str, str, bytes, AudioFormat], object]


class OverseenUnit(MediaUnit):
    """A unit whose sound can be watched, and in which streams can be muted."""

    _sound_watchers: tuple[SoundWatcher, ...] = ()

    def watch_sound(self, watcher: SoundWatcher, /) -> Callable[[], None]:
        """Let a function see all sound from now on; returns what ends it.

        It is called on the media loop with ``"in"``, the stream's tag, the bytes and their format, or with ``"out"``, the
        item's id and so on, as it comes from the model; it must be quick. Sound of a session in the bridge process
        crosses as long as somebody watches.
        """
        self._sound_watchers = (*self._sound_watchers, watcher)
        self._watch_afar()

        def end() -> None:
            self._sound_watchers = tuple(one for one in self._sound_watchers if one is not watcher)
            self._watch_afar()

        return end

    def _watch_afar(self) -> None:
        if self._far is not None:
            with contextlib.suppress(TurnError):  # the interpreter ends, and with it what is watched
                self._clock.call_soon(self._far.do, "tell_sound", bool(self._sound_watchers))

    def _show_sound(self, direction: str, key: str, data: bytes, form: AudioFormat) -> None:
        for watcher in self._sound_watchers:
            watcher(direction, key, data, form)

    def mute(self, unit: str, tag: str, /, *, muted: bool = True) -> None:
        """Let the model hear silence in the place of what a unit gives, or hear it again; the stream goes on.

        Args:
            unit: what `statistics` calls the unit.
            tag: of the stream.
            muted: whether from now on it is not heard.
        """
        self._clock.call_soon(self._mute, unit, tag, muted)

    def _mute(self, unit: str, tag: str, is_muted: bool) -> None:  # noqa: FBT001 - off the wire, where it is far
        if self._far is not None:
            self._far.do("_mute", unit, tag, is_muted)
        for stream in self._incoming.values():
            if (stream.source._kind_of_unit, stream.tag) == (unit, tag):  # noqa: SLF001 - units are each other's parts
                stream.is_muted = is_muted
