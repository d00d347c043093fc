"""The client as a media unit: what it hears goes to the model, what the model says is played, and who speaks interrupts.

Rule 1: the bridge settles the audio formats: PCM at 24 kHz, or G.711 where a telephone speaks it, so that nothing is
converted. What the user's own session settings say of formats wins.
Rule 2: when the user begins to speak, what still waits is thrown away, the server is told how much of each answer was
heard (what nobody heard is deleted), and what still comes of that response is dropped. Listeners hear of everything
that comes, all the same. Sessions that say ``interrupt_response: false`` are not interrupted.
Rule 3: heard is what the ears of any unit that has some have heard; a recorder counts where there is nobody else.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any, Final

from voxnb.audio.formats import ALAW_8K, PCM_24K, ULAW_8K, AudioFormat, Frame, audio_format
from voxnb.clients.realtime.hearing import Sound
from voxnb.clients.realtime.overseen import OverseenUnit
from voxnb.clients.realtime.waterfall import Waterfall
from voxnb.errors import AudioError
from voxnb.media.clock import Clock
from voxnb.media.stream import Stream
from voxnb.media.unit import MediaUnit
from voxnb.wire.realtime.command import check_command
from voxnb.wire.realtime.item import Item, cut
from voxnb.wire.realtime.session import RealtimeSession, Received

WIRE_FORMATS: Final[Mapping[AudioFormat, Mapping[str, Any]]] = {
    PCM_24K: {"type": "audio/pcm", "rate": 24_000},
    ULAW_8K: {"type": "audio/pcmu"},
    ALAW_8K: {"type": "audio/pcma"},
}
"""What the Realtime API speaks."""

KEPT_SPOKEN: Final = 64
"""Answers of which it is still asked how much was heard."""

SOON_S: Final = 0.05


class VoiceUnit(OverseenUnit):
    """What of the realtime client gives and takes audio; lives on the media loop."""

    _state: RealtimeSession

    def _begin_voice(self, *, barge_in: bool, session: Mapping[str, Any], clock: Clock | None = None) -> None:
        OverseenUnit.__init__(self, clock=clock)
        self._barge_in = barge_in
        self._forms: dict[str, AudioFormat] = {"input": PCM_24K, "output": PCM_24K}
        self._settled: set[str] = set()
        self._told_config: Mapping[str, Any] | None = None
        self._told_form = PCM_24K
        self._note_formats(session)
        self._spoken: dict[tuple[str, int], float] = {}  # (item, content) → milliseconds heard by streams that ended
        self._played: set[tuple[str, int]] = set()  # of these, what somebody was there to hear
        self._cut_off: set[str] = set()  # responses of which nothing more is played
        self._unheard_ms = 0.0
        self._sounding: str | None = None  # the response whose sound came last
        self._framed: str | None = None  # the response whose first frame went out last
        self._first: str | None = None  # a response whose first frame has not gone out
        self._waterfall = Waterfall()

    def heard_so_far(self) -> Mapping[str, float]:
        """Item → milliseconds heard, of the answers that have not wholly sounded; on the media loop."""
        return self._heard_so_far()

    # -- what the client does -----------------------------------------------------------------

    def _put(self, command: dict[str, Any]) -> None:
        raise NotImplementedError

    def _append(self, sound: Sound) -> None:
        raise NotImplementedError

    def _told_interrupted(self, facts: dict[str, Any]) -> None:
        raise NotImplementedError

    def _spoken_settled(self, item: Item, heard_ms: float) -> None:
        """How much of an answer was heard is known for good."""

    # -- verbs, in VoxEngine's words ------------------------------------------------------------

    def send_media_to(
        self,
        media_unit: MediaUnit,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        tag: str = "",
        encoding: str | None = None,
        custom_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """Let a unit hear the model, until `stop_media_to` or until one of them is closed.

        Args:
            media_unit: who hears: a call, a `Recorder`, a `Speaker` …
            parameters: VoxEngine's spelling: ``{"tag": …, "encoding": …, "customParameters": …}``.
            tag: names one of several streams to a unit.
            encoding: how audio is written where it leaves on a socket; not given: what both ends speak.
            custom_parameters: extra data for the target.

        Raises:
            AudioError: an unknown encoding; this unit or the other is closed.
            ParameterError: it is no media unit; an unknown parameter.
        """
        super().send_media_to(media_unit, parameters, tag=tag, encoding=encoding, custom_parameters=custom_parameters)

    def stop_media_to(
        self, media_unit: MediaUnit, parameters: Mapping[str, Any] | None = None, /, *, tag: str = ""
    ) -> None:
        """End what `send_media_to` began; nothing happens where nothing flows.

        Args:
            media_unit: who heard.
            parameters: ``{"tag": …}``.
            tag: only the stream of this name; not given: all streams to this unit.

        Raises:
            ParameterError: it is no media unit; an unknown parameter.
        """
        super().stop_media_to(media_unit, parameters, tag=tag)

    # One line each, so that editors see them; `voxengine.METHODS` is the table.
    sendMediaTo = send_media_to  # noqa: N815 - VoxEngine's spelling
    stopMediaTo = stop_media_to  # noqa: N815 - VoxEngine's spelling

    # -- formats --------------------------------------------------------------------------------

    def _note_formats(self, session: Mapping[str, Any]) -> None:
        """What the settings of a session say of formats holds."""
        audio = session.get("audio")
        for side in self._forms:
            told = audio.get(side) if isinstance(audio, Mapping) else None
            form = told.get("format") if isinstance(told, Mapping) else None
            if form is None:
                continue
            try:
                self._forms[side] = audio_format(form)
            except AudioError:
                continue  # the server will say what is wrong with it
            self._settled.add(side)

    def _form_of_output(self) -> AudioFormat:
        """The format in which sound comes now: what the server last said, not what it was asked for."""
        config = self._state.config
        if config is self._told_config:
            return self._told_form
        audio = config.get("audio")
        told = audio.get("output") if isinstance(audio, Mapping) else None
        form = told.get("format") if isinstance(told, Mapping) else None
        self._told_config, self._told_form = config, PCM_24K
        if form is not None:
            with contextlib.suppress(AudioError):
                self._told_form = audio_format(form)
        return self._told_form

    def _settle(self, side: str, wanted: AudioFormat) -> AudioFormat:
        """The format of one side; the first who is connected decides."""
        if side not in self._settled:
            self._settled.add(side)
            if wanted in WIRE_FORMATS and wanted != self._forms[side]:
                self._forms[side] = wanted
                change = {"audio": {side: {"format": dict(WIRE_FORMATS[wanted])}}}
                self._put(check_command("session.update", {"session": change}))
        return self._forms[side]

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        if wanted is None and self._forms["input"].is_g711:
            wanted = self._forms["input"]  # the telephone that is heard is the one that hears
        return self._settle("output", wanted if wanted is not None and wanted.is_g711 else PCM_24K)

    def _takes(self, offered: AudioFormat, wanted: AudioFormat | None) -> AudioFormat:
        del wanted
        return self._settle("input", offered if offered.is_g711 else PCM_24K)

    # -- in -------------------------------------------------------------------------------------

    def _heard(self, stream: Stream, frame: Frame) -> None:
        data, form = frame.data, frame.format
        if stream.is_muted:
            data = form.silence * (len(data) // form.sample_bytes)
        self._show_sound("in", stream.tag, data, form)
        self._append(Sound(data, form.duration_ms(len(data)), self._clock.now()))

    def goes_out(self, sound: Sound) -> None:
        """What the user said is sent."""
        self._waterfall.appended(sound.audio_ms, now=sound.at_s)

    # -- out ------------------------------------------------------------------------------------

    def _voice(self, kind: str, event: Mapping[str, Any], received: Received) -> None:
        """Act on an event of the session that was taken in."""
        if kind == "response.output_audio.delta":
            self._speak(received)
        elif kind == "response.output_audio.done":
            for stream in self._outgoing.values():
                stream.finish(event["item_id"], content_index=event.get("content_index") or 0)
            self._wait_until_heard(event["item_id"], event.get("content_index") or 0)
        elif kind == "input_audio_buffer.speech_started":
            if self._barge_in and self._may_interrupt():
                self._interrupt()
        elif kind == "input_audio_buffer.speech_stopped":
            facts = {"audio_end_ms": event["audio_end_ms"], "silence_ms": self._silence_ms()}
            self._waterfall.stopped(event["item_id"], now=self._clock.now(), **facts)
        elif kind == "input_audio_buffer.committed":
            self._waterfall.committed(event["item_id"], now=self._clock.now())
        elif kind == "response.created":
            self._waterfall.created(event["response"]["id"], now=self._clock.now())
        elif kind == "response.done":
            self._response_over(event["response"]["id"])

    def _speak(self, received: Received) -> None:
        """Play a piece of the model's sound."""
        response_id, form = received.response_id, self._form_of_output()
        self._show_sound("out", received.item_id, received.audio, form)
        key = (received.item_id, received.content_index)
        if key not in self._spoken:
            self._spoken[key] = 0.0
            while len(self._spoken) > KEPT_SPOKEN:
                oldest = next(iter(self._spoken))
                del self._spoken[oldest]
                self._played.discard(oldest)
        if response_id in self._cut_off:
            return
        if response_id != self._sounding:
            self._sounding = response_id
            self._waterfall.reached("first_delta", response_id, now=self._clock.now())
        streams = tuple(self._outgoing.values())
        if not streams:
            self._unheard_ms += form.duration_ms(len(received.audio))
            return
        if self._first is None and response_id != self._framed:
            self._first = response_id
        self._played.add(key)
        item_id, index = key
        for stream in streams:
            stream.push(received.audio, form=form, item_id=item_id, content_index=index, response_id=response_id)

    def _sounded(self, stream: Stream, at_s: float, length_s: float) -> None:
        if self._first is not None:
            response_id = self._framed = self._first
            self._first = None
            now = self._clock.now()
            self._waterfall.reached("first_frame", response_id, now=now)
            # A frame may go out a little after it was due, and nobody hears it before that.
            self._waterfall.reached("first_heard", response_id, now=max(now, at_s) + stream.sink.delay_ms / 1000)
        super()._sounded(stream, at_s, length_s)

    def _response_over(self, response_id: str) -> None:
        """Nothing more comes of a response: what of it was begun is whole."""
        self._cut_off.discard(response_id)
        response = self._state.responses.get(response_id)
        if response and any(item.type == "function_call" for item in self._state.responses.items_of(response)):
            self._waterfall.called(response_id)
        if self._first == response_id and not any(stream.is_playing for stream in self._outgoing.values()):
            self._first = None
        for item_id, content_index in list(self._spoken):
            item = self._state.item(item_id)
            if item is not None and item.response_id == response_id and not item.parts[content_index].audio_done:
                for stream in self._outgoing.values():
                    stream.finish(item_id, content_index=content_index)
                self._wait_until_heard(item_id, content_index)

    # -- heard ----------------------------------------------------------------------------------

    def _ears(self) -> list[Stream]:
        streams = list(self._outgoing.values())
        return [stream for stream in streams if stream.sink.audible] or streams

    def _heard_ms(self, item_id: str, content_index: int = 0) -> float:
        """How much of an answer was heard by now."""
        now_ms = [stream.heard_ms(item_id, content_index=content_index) for stream in self._ears()]
        return max([self._spoken.get((item_id, content_index), 0.0), *now_ms])

    def _fed(self, stream: Stream) -> None:
        """A unit hears us no more: what it has heard stays heard."""
        for item_id, content_index in self._spoken:
            heard_ms = stream.heard_ms(item_id, content_index=content_index)
            if heard_ms > self._spoken[item_id, content_index] and (stream.sink.audible or not self._outgoing):
                self._spoken[item_id, content_index] = heard_ms

    def _wait_until_heard(self, item_id: str, content_index: int) -> None:
        """Come back until what was said has sounded."""
        item = self._state.item(item_id)
        if item is None or (item_id, content_index) not in self._spoken:
            return
        playing = [stream.playout.waiting_ms for stream in self._ears() if stream.is_playing]
        heard_ms = self._heard_ms(item_id, content_index)
        if playing and heard_ms < item.received_ms(content_index):
            when_s = self._clock.now() + max(min(playing) / 1000, SOON_S)
            self._clock.call_at(when_s, self._wait_until_heard, item_id, content_index)
            return
        self._settle_spoken(item, content_index)

    def _is_for_ears(self, key: tuple[str, int]) -> bool:
        """Whether somebody hears an answer, or did before they hung up; else it is only read, and counts as it is."""
        return bool(self._outgoing) or key in self._played

    def _settle_spoken(self, item: Item, content_index: int, heard_ms: float | None = None) -> None:
        key = (item.id, content_index)
        if key not in self._spoken:
            return
        if heard_ms is None:
            heard_ms = self._heard_ms(*key) if self._is_for_ears(key) else item.received_ms(content_index)
        del self._spoken[key]
        self._played.discard(key)
        self._spoken_settled(item, heard_ms)

    @property
    def _is_playing(self) -> bool:
        """Whether somebody still hears something."""
        return any(stream.is_playing for stream in self._ears())

    def _heard_so_far(self) -> dict[str, float]:
        """Item → milliseconds heard, of the answers that had not wholly sounded."""
        return {key[0]: self._heard_ms(*key) for key in self._spoken if self._is_for_ears(key)}

    def _session_over(self, session: RealtimeSession) -> None:
        """A session ended or is left: what was heard of it is known for good."""
        for item_id, content_index in list(self._spoken):
            item = session.item(item_id)
            if item is not None:
                self._settle_spoken(item, content_index)
        self._spoken.clear()
        self._played.clear()
        self._first = None
        self._waterfall.restart()

    # -- interruption ---------------------------------------------------------------------------

    def _turn_detection(self) -> Mapping[str, Any]:
        audio = self._state.config.get("audio")
        told = audio.get("input") if isinstance(audio, Mapping) else None
        found = told.get("turn_detection") if isinstance(told, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _may_interrupt(self) -> bool:
        return self._turn_detection().get("interrupt_response") is not False

    def _silence_ms(self) -> float:
        silence = self._turn_detection().get("silence_duration_ms")
        return float(silence) if isinstance(silence, int | float) else 0.0

    def _interrupt(self) -> None:
        """The user speaks: stop, tell the server what was heard, and drop what still comes."""
        active = self._state.active_response
        heard: dict[tuple[str, int], float] = {}
        open_items = [key for key in self._spoken if self._is_open(*key)]
        for key in open_items:
            heard[key] = self._heard_ms(*key) if self._outgoing else math.inf
        for stream in list(self._outgoing.values()):
            stream.interrupt()
            stream.playout.refuse([] if active is None else [active])
        if active is not None:
            self._cut_off.add(active)
        self._first = None
        cuts = []
        for (item_id, content_index), counted_ms in heard.items():
            item = self._state.item(item_id)
            if item is None:
                continue
            if item.response_id is not None:
                self._waterfall.interrupted(item.response_id)
            received_ms = item.received_ms(content_index)
            heard_ms = min(counted_ms, received_ms)
            decided = cut(item, heard_ms=heard_ms, content_index=content_index)
            facts = {"item_id": item_id, "content_index": content_index, "heard_ms": int(heard_ms)}
            facts |= {"received_ms": received_ms, "decision": decided.kind}
            cuts.append({**facts, "response_id": item.response_id, "text": item.text})
            if decided.command is not None:
                self._put(decided.command)
            self._settle_spoken(item, content_index, heard_ms)
        if cuts or active is not None:
            self._told_interrupted({"response_id": active, "items": cuts})

    def _is_open(self, item_id: str, content_index: int) -> bool:
        """Whether an answer had not wholly sounded."""
        item = self._state.item(item_id)
        if item is None:
            return False
        part = item.parts.get(content_index)
        whole = part is not None and (part.audio_done or item.done)
        return not whole or self._heard_ms(item_id, content_index) < item.received_ms(content_index)
