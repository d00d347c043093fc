"""A media unit: anything that gives or takes audio, in VoxEngine's verbs.

``source.send_media_to(target)`` is one way; `send_media_between` connects both ways. The verbs may be called from
any thread and return at once; audio moves on the media loop. Units of this package override the hooks, which all
run there and must not block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voxnb.audio.formats import DEFAULT, PCM_24K, AudioFormat, Frame, audio_format
from voxnb.audio.media import LONGEST_TAG, is_tag
from voxnb.audio.silence import Ended
from voxnb.errors import AudioError, ParameterError
from voxnb.media.clock import LOOP, Clock
from voxnb.media.sound import Sound
from voxnb.media.stream import Sink, Stream
from voxnb.params import did_you_mean, snake_case

if TYPE_CHECKING:
    from voxnb.media.crossing import Far

SEND: Final = ("tag", "encoding", "custom_parameters")
"""Parameters of `MediaUnit.send_media_to`; VoxEngine's `SendMediaParameters`."""


class _Voice(NamedTuple):
    """One tag of a source: the stream whose audio counts, where several have the tag, and its sound."""

    stream: Stream
    sound: Sound


class Recipe(NamedTuple):
    """What a unit is made of, to be made again in the bridge process.

    Attributes:
        kind: its class, as ``module:name``.
        given, made_of: arguments of that.
        keeps: the process lives as long as it.
        shell: what is told in return; see `voxnb.media.crossing.Shell`.
    """

    kind: str
    given: tuple[Any, ...]
    made_of: dict[str, Any]
    keeps: bool
    shell: Any


class MediaUnit:
    """Base of everything that gives or takes audio.

    Args:
        clock: time and the media loop; tests bring their own.

    Attributes:
        sink: how this unit plays what it hears.
    """

    sink: Sink = Sink()

    _far: Far | None = None
    """Where it is, if it lives in the bridge process and this is its shell."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or LOOP
        self._outgoing: dict[tuple[int, str], Stream] = {}
        self._incoming: dict[tuple[int, str], Stream] = {}
        self._tagged: dict[str, _Voice] = {}
        self._media_over = False

    # -- verbs --------------------------------------------------------------------------------

    def send_media_to(
        self,
        unit: MediaUnit,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        tag: str = "",
        encoding: str | None = None,
        custom_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """Let a unit hear this one, until `stop_media_to` or until one of them is closed.

        Args:
            unit: who hears.
            parameters: VoxEngine's spelling: ``{"tag": …, "encoding": …, "customParameters": …}``.
            tag: names one of several streams to a unit.
            encoding: how audio is written where it leaves on a socket: ``PCM8``, ``PCM16``, ``ULAW``, ``ALAW``,
                ``OPUS`` or their other spellings. Not given: what both ends speak, or the target's choice.
            custom_parameters: extra data for the target, in its start message or event.

        Raises:
            AudioError: an unknown encoding; this unit or the other is closed.
            ParameterError: `unit` is no media unit, or is this one; an unknown parameter.
        """
        given = _given(parameters, {"tag": tag, "encoding": encoding, "custom_parameters": custom_parameters}, SEND)
        _check(self, unit)
        tag = _tag(given["tag"])
        extra = given["custom_parameters"]
        if extra is not None and not isinstance(extra, Mapping):
            raise ParameterError(f"custom_parameters is a mapping, not {extra!r}", name="custom_parameters")
        name = given["encoding"]
        wanted = None if name is None else audio_format(name)
        far = self._far or unit._far
        if far is not None:
            far.check(extra)
        for end in (self, unit):
            if end._media_over:
                raise AudioError(f"{end!r} is closed; make a new one")
        self._clock.call_soon(self._connect, unit, tag, name, wanted, extra)

    def stop_media_to(self, unit: MediaUnit, parameters: Mapping[str, Any] | None = None, /, *, tag: str = "") -> None:
        """End what `send_media_to` began; nothing happens where nothing flows.

        Args:
            unit: who heard.
            parameters: ``{"tag": …}``.
            tag: only the stream of this name; not given: all streams to this unit.

        Raises:
            ParameterError: `unit` is no media unit; an unknown parameter.
        """
        given = _given(parameters, {"tag": tag}, SEND)
        _check(self, unit)
        self._clock.call_soon(self._disconnect, unit, _tag(given["tag"]))

    def clear_media_buffer(self, parameters: Mapping[str, Any] | None = None, /, *, tag: str | None = None) -> None:
        """Throw away what this unit has given and nobody has heard yet.

        Args:
            parameters: ``{"tag": …}``.
            tag: only the streams of this name; None: all.

        Raises:
            ParameterError: an unknown parameter, or what is no tag.
        """
        given = _given(parameters, {"tag": tag}, ("tag",))
        self._clock.call_soon(self._clear, None if given["tag"] is None else _tag(given["tag"]))

    sendMediaTo = send_media_to  # noqa: N815 - VoxEngine's spelling
    stopMediaTo = stop_media_to  # noqa: N815 - as above
    clearMediaBuffer = clear_media_buffer  # noqa: N815 - as above

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that this unit gives and hears, as they are now."""
        return (*self._outgoing.values(), *self._incoming.values())

    # -- hooks --------------------------------------------------------------------------------

    @property
    def _kind_of_unit(self) -> str:
        """What statistics call it."""
        return type(self).__name__

    def _recipe(self) -> Recipe | None:
        """What it is made of, where it may still move into the bridge process; see `voxnb.media.moving`."""
        return None

    def _moved(self) -> None:
        """It will live there: let go of what is held here."""

    def _as_port(self, done: Callable[[Exception | None], object]) -> Any:
        """What the shell of this unit may call, in the bridge process; `done` is told when it has played to its end."""
        del done
        return self

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        """How this unit writes what it gives.

        Args:
            wanted: the encoding that was asked for, or None.
        """
        del wanted
        return PCM_24K

    def _takes(self, offered: AudioFormat, wanted: AudioFormat | None) -> AudioFormat:
        """How this unit wants to hear what is offered; never Opus, which its unit makes itself."""
        del wanted
        return DEFAULT if offered.coding == "opus" else offered

    def _ready(self, stream: Stream) -> bool:
        """Whether we have room for more of a stream whose source does not keep to real time."""
        del stream
        return True

    def _opened(self, stream: Stream) -> None:
        """Somebody begins to send us a stream."""

    def _heard(self, stream: Stream, frame: Frame) -> None:
        """A frame of a stream arrives."""

    def _cleared(self, stream: Stream) -> None:
        """What a stream sent us and we have not played is void."""

    def _closed(self, stream: Stream) -> None:
        """Nothing more of a stream comes."""

    def _feeds(self, stream: Stream) -> None:
        """We begin to send a stream."""

    def _fed(self, stream: Stream) -> None:
        """We send a stream no more."""

    @property
    def _is_fresh(self) -> bool:
        """Whether it has been connected with nothing here, on the clock of everything that is not under test."""
        return self._clock is LOOP and not self._media_over and not self.streams

    def _media_started(self, facts: dict[str, Any]) -> None:
        """Our sound begins: ``tag``, ``encoding``, ``customParameters``, where there are any."""

    def _media_ended(self, facts: dict[str, Any]) -> None:
        """Our sound has ended: ``tag`` if there is one, ``mediaInfo`` (``duration``), ``utterance_s``."""

    # -- streams, on the media loop -----------------------------------------------------------

    def _connect(
        self,
        unit: MediaUnit,
        tag: str,
        encoding: str | None,
        wanted: AudioFormat | None,
        custom_parameters: Mapping[str, Any] | None,
    ) -> None:
        far = self._far or unit._far
        if far is not None:
            far.side.connect(self, unit, far.wish(tag, encoding, custom_parameters))
            return
        if self._media_over or unit._media_over:
            return
        form_in = self._offers(wanted)
        form = unit._takes(form_in, wanted)
        known = self._outgoing.get((id(unit), tag))
        if known is not None:
            if known.form == form and known.form_in == form_in and known.custom_parameters == (custom_parameters or {}):
                return
            self._part(known)
        stream = Stream(
            self,
            unit,
            tag=tag,
            encoding=encoding,
            custom_parameters=custom_parameters,
            form_in=form_in,
            form=form,
            clock=self._clock,
        )
        self._outgoing[id(unit), tag] = stream
        unit._incoming[id(self), tag] = stream
        stream._open()
        self._listen_to(stream)
        unit._opened(stream)
        self._feeds(stream)

    def _disconnect(self, unit: MediaUnit, tag: str) -> None:
        far = self._far or unit._far
        if far is not None:
            far.side.disconnect(self, unit, tag)
            return
        for stream in [s for s in self._outgoing.values() if s.target is unit and tag in ("", s.tag)]:
            self._part(stream)

    def _part(self, stream: Stream) -> None:
        """End one of our streams."""
        source, target = stream.source, stream.target
        if source._outgoing.pop((id(target), stream.tag), None) is None:
            return
        target._incoming.pop((id(source), stream.tag), None)
        stream._shut()
        source._sound_over(stream)
        source._fed(stream)
        target._closed(stream)

    def _clear(self, tag: str | None) -> None:
        if self._far is not None:
            self._far.side.tell("wipe", self._far.number, tag)
        for stream in [s for s in self._outgoing.values() if tag is None or s.tag == tag]:
            stream.clear()

    def _end_media(self) -> None:
        """This unit is closed: end all its streams, for good."""
        self._media_over = True
        for stream in (*self._outgoing.values(), *self._incoming.values()):
            self._part(stream)

    # -- sound and silence --------------------------------------------------------------------

    def _listen_to(self, stream: Stream) -> None:
        """We begin to send a stream: the first of its tag is the one whose sound is told."""
        tag = stream.tag
        if tag not in self._tagged:
            sound = Sound(self._clock, began=lambda: self._tell_start(tag), ended=lambda end: self._tell_end(tag, end))
            self._tagged[tag] = _Voice(stream, sound)

    def _sounded(self, stream: Stream, at_s: float, length_s: float) -> None:
        voice = self._tagged.get(stream.tag)
        if voice is not None and voice.stream is stream:
            voice.sound.sounded(at_s, length_s=length_s)

    def _sound_cut(self, stream: Stream, at_s: float) -> None:
        voice = self._tagged.get(stream.tag)
        if voice is not None and voice.stream is stream:
            voice.sound.cut(at_s)

    def _sound_over(self, stream: Stream) -> None:
        """A stream stops: its sound ends, or another stream of the tag takes over."""
        voice = self._tagged.get(stream.tag)
        if voice is None or voice.stream is not stream:
            return
        heir = next((s for s in self._outgoing.values() if s.tag == stream.tag), None)
        if heir is not None:
            self._tagged[stream.tag] = voice._replace(stream=heir)
            return
        voice.sound.stop()
        del self._tagged[stream.tag]

    def _tell_start(self, tag: str) -> None:
        stream = self._tagged[tag].stream
        facts: dict[str, Any] = {"encoding": stream.encoding or stream.form.encoding}
        if tag:
            facts["tag"] = tag
        if stream.custom_parameters:
            facts["customParameters"] = dict(stream.custom_parameters)
        self._media_started(facts)

    def _tell_end(self, tag: str, ended: Ended) -> None:
        facts: dict[str, Any] = {"mediaInfo": {"duration": ended.duration_s}, "utterance_s": ended.utterance_s}
        if tag:
            facts["tag"] = tag
        self._media_ended(facts)


def send_media_between(unit1: MediaUnit, unit2: MediaUnit, /) -> None:
    """Let two units hear each other; VoxEngine's ``sendMediaBetween``.

    Raises:
        AudioError: one of them is closed.
        ParameterError: one of them is no media unit, or both are the same.
    """
    _check(unit1, unit2)
    unit1.send_media_to(unit2)
    unit2.send_media_to(unit1)


def _check(source: Any, unit: Any) -> None:
    for end in (source, unit):
        if not isinstance(end, MediaUnit):
            raise ParameterError(
                f"{end!r} is no media unit; use a call, an AudioFile, a Recorder, a Microphone, a Speaker or a client",
                name="unit",
            )
    if source is unit:
        raise ParameterError(f"{unit!r} cannot send to itself; put another unit between", name="unit")


def _tag(tag: Any) -> str:
    if tag is None:
        return ""
    if not is_tag(tag):
        raise ParameterError(f"a tag is a line of at most {LONGEST_TAG} characters, not {tag!r}", name="tag")
    return tag


def _given(parameters: Any, keywords: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """The keywords, with what VoxEngine's parameter object says in their place."""
    if parameters is None:
        return keywords
    if not isinstance(parameters, Mapping):
        raise ParameterError(f"parameters are a mapping such as {{'tag': 'a'}}, not {parameters!r}", name="parameters")
    given = dict(keywords)
    for name, value in parameters.items():
        own = snake_case(str(name))
        if own not in known:
            raise ParameterError(f"there is no parameter {name!r}{did_you_mean(str(name), known)}", name=str(name))
        given[own] = value
    return given
