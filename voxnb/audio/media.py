"""The JSON of media sockets: Voximplant's messages and Twilio's, read into one set of values and written in either shape.

What is read is never trusted: anything that is not a message comes out as `Broken`, with a reason; nothing raises.

========================  =========================================  ==========================================
in                        Voximplant                                 Twilio
========================  =========================================  ==========================================
begin                     ``start`` with ``mediaFormat``, ``tag?``   ``connected``, then ``start``, ``streamSid``
sound                     ``media``: ``tag? chunk timestamp``        ``media``: ``track chunk timestamp``
end                       ``stop`` with ``tag?``, ``mediaInfo?``     ``stop``
numbers                   numbers, from 0                            strings of digits, from 1
the application's own     ``customEvent``                            –
what was played           –                                          ``mark`` comes back
throw away                –                                          ``clear``
========================  =========================================  ==========================================

Source: Voximplant's WebSocket guide and format guide; Twilio's Media Streams messages.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeGuard

from voxnb.audio.formats import DEFAULT, AudioFormat, audio_format
from voxnb.errors import AudioError

_NO_TAG: Final = re.compile(r"[\x00-\x1f\ud800-\udfff]")
_DECODE: Final = json.JSONDecoder().raw_decode

LONGEST_TAG: Final = 128
LARGEST_NUMBER: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Connected:
    """Twilio's greeting."""


@dataclass(frozen=True, slots=True)
class Start:
    """A stream begins.

    Attributes:
        tag: its name among several of the socket, or "".
        form: how its sound is written.
        custom_parameters: what the sender said of it.
        stream_id: Twilio's ``streamSid``, or None: then it is Voximplant's shape.
        facts: what else the message said (``callSid``, ``accountSid``, ``tracks``).
    """

    tag: str
    form: AudioFormat
    custom_parameters: dict[str, Any]
    stream_id: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Media(NamedTuple):
    """A packet of sound.

    Attributes:
        tag: its stream.
        payload: as it was written; not empty.
        chunk: number of the packet within its stream, or None.
    """

    tag: str
    payload: bytes
    chunk: int | None


@dataclass(frozen=True, slots=True)
class Stop:
    """A stream ends."""

    tag: str


@dataclass(frozen=True, slots=True)
class Mark:
    """All that was sent before the mark of this name was played, or thrown away."""

    name: str


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key was pressed."""

    digit: str


@dataclass(frozen=True, slots=True)
class Custom:
    """A message of the application's own."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """No message of the protocol, and why."""

    reason: str


Message = Connected | Start | Media | Stop | Mark | Dtmf | Custom | Broken


class _NoMessage(Exception):  # noqa: N818 - never leaves this module
    """Why something is no message."""


def is_tag(tag: Any, /) -> TypeGuard[str]:
    r"""Whether it can name a stream: a line of Unicode text, and not a long one.

    >>> is_tag("agent"), is_tag("two\nlines"), is_tag("half of a pair \ud800"), is_tag(7)
    (True, False, False, False)
    """
    return isinstance(tag, str) and len(tag) <= LONGEST_TAG and not _NO_TAG.search(tag)


def read(text: str, /) -> Message:
    r"""Understand a message of either shape.

    Args:
        text: one text frame of the socket.

    >>> read('{"event": "media", "media": {"chunk": "7", "payload": "AAE="}}')
    Media(tag='', payload=b'\x00\x01', chunk=7)
    >>> read("nonsense")
    Broken(reason='no JSON')
    """
    try:
        fields = parsed(text)
    except (ValueError, RecursionError):
        return Broken("no JSON")
    if not isinstance(fields, dict):
        return Broken("no JSON object")
    event = fields.get("event")
    try:
        if event == "media":
            return _media(fields)
        if event == "start":
            return _start(fields)
        if event == "stop":
            return Stop(_tag(_inner(fields, "stop")))
        if event == "mark":
            return Mark(_text(_inner(fields, "mark").get("name"), name="mark.name"))
        if event == "dtmf":
            return Dtmf(_text(_inner(fields, "dtmf").get("digit"), name="dtmf.digit"))
    except _NoMessage as error:
        return Broken(str(error))
    if event == "connected":
        return Connected()
    if event is None and fields:
        return Custom(fields)
    return Broken(f"no event {str(event)[:40]!r}")


def parsed(text: str) -> Any:
    """`json.loads`, in two thirds of the time where a text begins and ends with its value, as machines write it."""
    try:
        value, end = _DECODE(text)
    except ValueError:
        end = -1
    return value if end == len(text) else json.loads(text)


def _inner(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = fields.get(name, {})
    if not isinstance(inner, dict):
        raise _NoMessage(f"{name} is no object")
    return inner


def _text(value: Any, *, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise _NoMessage(f"{name} is no text")
    return value


def _tag(inner: Mapping[str, Any]) -> str:
    tag = inner.get("tag")
    if tag is None:
        return ""
    if not is_tag(tag):
        raise _NoMessage("tag is no short text")
    return tag


def _number(value: Any, *, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST_NUMBER:
        raise _NoMessage(f"{name} is no count")
    return value


def _media(fields: Mapping[str, Any]) -> Media:
    inner = _inner(fields, "media")
    payload = inner.get("payload")
    if not isinstance(payload, str) or not payload:
        raise _NoMessage("media.payload is no text")
    try:
        data = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError as error:
        raise _NoMessage("media.payload is no base64") from error
    if not data:
        raise _NoMessage("media.payload is empty")
    chunk = inner.get("chunk")
    return Media(_tag(inner), data, None if chunk is None else _number(chunk, name="media.chunk"))


def _start(fields: Mapping[str, Any]) -> Start:
    inner = _inner(fields, "start")
    said = inner.get("mediaFormat")
    try:
        form = DEFAULT if said is None else audio_format(said)
    except AudioError as error:
        raise _NoMessage(str(error)) from error
    stream_id = inner.get("streamSid", fields.get("streamSid"))
    if stream_id is not None and not isinstance(stream_id, str):
        raise _NoMessage("streamSid is no text")
    known = ("tag", "mediaFormat", "customParameters", "streamSid")
    facts = {name: value for name, value in inner.items() if name not in known}
    return Start(_tag(inner), form, custom_parameters(inner.get("customParameters")), stream_id, facts)


def custom_parameters(said: Any, /) -> dict[str, Any]:
    """What a sender said of a stream, as an object or as the JSON text of one.

    >>> custom_parameters('{"test": "123"}'), custom_parameters("hello"), custom_parameters(None)
    ({'test': '123'}, {'value': 'hello'}, {})
    """
    if isinstance(said, str):
        try:
            parsed = json.loads(said)
        except (ValueError, RecursionError):
            parsed = None
        said = parsed if isinstance(parsed, dict) else said
    if said is None:
        return {}
    return dict(said) if isinstance(said, Mapping) else {"value": said}


# -- written ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Outgoing:
    """What was written of one stream."""

    chunk: int = 0
    samples: int = 0
    size_bytes: int = 0


class VoximplantWriter:
    """Messages to Voximplant: a stream begins with `start`; nothing can be thrown away again, nothing comes back."""

    shape: Final = "voximplant"
    can_clear: Final = False

    def __init__(self) -> None:
        self._sequence = -1
        self._streams: dict[str, _Outgoing] = {}

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def start(self, tag: str, form: AudioFormat, /, *, parameters: Mapping[str, Any]) -> list[str]:
        """A stream begins."""
        self._streams[tag] = _Outgoing()
        inner: dict[str, Any] = {"mediaFormat": {"encoding": form.encoding, "sampleRate": form.rate_hz}}
        if tag:
            inner["tag"] = tag
        if parameters:
            inner["customParameters"] = dict(parameters)
        return [_json({"event": "start", "sequenceNumber": self._next(), "start": inner})]

    def media(self, tag: str, payload: bytes, /, *, samples: int) -> str:
        """A packet of a stream."""
        stream = self._streams[tag]
        stream.chunk += 1
        at, stream.samples = stream.samples, stream.samples + samples
        stream.size_bytes += len(payload)
        named = f'"tag":{_json(tag)},' if tag else ""
        return (
            f'{{"event":"media","sequenceNumber":{self._next()},"media":{{{named}"chunk":{stream.chunk},'
            f'"timestamp":{at},"payload":"{_base64(payload)}"}}}}'
        )

    def stop(self, tag: str, /, *, duration_s: float) -> list[str]:
        """A stream ends."""
        stream = self._streams.pop(tag)
        inner: dict[str, Any] = {"mediaInfo": {"bytesSent": stream.size_bytes, "duration": int(duration_s)}}
        if tag:
            inner["tag"] = tag
        return [_json({"event": "stop", "sequenceNumber": self._next(), "stop": inner})]

    def mark(self, _name: str, /) -> list[str]:
        """Nothing: there are no marks."""
        return []

    def clear(self) -> list[str]:
        """Nothing: what was sent is played."""
        return []


class TwilioWriter:
    """Messages to Twilio: sound of one stream, marks that come back, and `clear`."""

    shape: Final = "twilio"
    can_clear: Final = True

    def __init__(self, stream_id: str, /) -> None:
        self._id = _json(stream_id)

    def start(self, _tag: str, _form: AudioFormat, /, *, parameters: Mapping[str, Any]) -> list[str]:
        """Nothing: the stream is there."""
        del parameters
        return []

    def media(self, _tag: str, payload: bytes, /, *, samples: int) -> str:
        """A packet."""
        del samples
        return f'{{"event":"media","streamSid":{self._id},"media":{{"payload":"{_base64(payload)}"}}}}'

    def stop(self, _tag: str, /, *, duration_s: float) -> list[str]:
        """Nothing: the stream is Twilio's."""
        del duration_s
        return []

    def mark(self, name: str, /) -> list[str]:
        """A mark, which comes back when all before it was played."""
        return [f'{{"event":"mark","streamSid":{self._id},"mark":{{"name":{_json(name)}}}}}']

    def clear(self) -> list[str]:
        """Throw away what was sent and not played; all marks come back."""
        return [f'{{"event":"clear","streamSid":{self._id}}}']


Writer = VoximplantWriter | TwilioWriter


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
