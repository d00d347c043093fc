"""Telephones for tests: they play what they are sent as a telephone does, and know what was really heard.

`Earpiece` is the loudspeaker with its buffer. `VirtualPhone` speaks to a `Line` on a clock that a test moves;
`Phone` speaks to a real server over a real socket.
"""

from __future__ import annotations

import base64
import json
import threading
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from voxnb.audio.formats import ULAW_8K, audio_format
from voxnb.media.line import Line


class Earpiece:
    """Plays what it is given, one piece after the other; a piece that comes late leaves a gap."""

    def __init__(self, form=ULAW_8K):
        self.form = form
        self.pieces = []  # (when it begins, data) of what has not sounded to its end
        self.sounded = bytearray()
        self.ends_s = 0.0

    def give(self, data, *, now_s):
        begins_s = max(now_s, self.ends_s)
        self.pieces.append((begins_s, data))
        self.ends_s = begins_s + self.form.duration_ms(len(data)) / 1000

    def clear(self, *, now_s):
        self.sounded, self.pieces = bytearray(self.heard(now_s=now_s)), []
        self.ends_s = now_s

    def _heard(self, begins_s, data, now_s):
        samples = max(0, int((now_s - begins_s) * self.form.rate_hz + 1e-6))
        return data[: min(samples, len(data) // self.form.sample_bytes) * self.form.sample_bytes]

    def heard(self, *, now_s):
        """All that has sounded."""
        while self.pieces:
            begins_s, data = self.pieces[0]
            part = self._heard(begins_s, data, now_s)
            if len(part) < len(data) // self.form.sample_bytes * self.form.sample_bytes:
                return bytes(self.sounded) + part  # they play one after the other
            self.sounded += part
            del self.pieces[0]
        return bytes(self.sounded)


def start_of(shape, *, encoding="ULAW", rate_hz=8000, tag=None, custom=None):
    """A start message."""
    if shape == "twilio":
        inner = {
            "streamSid": "MZ1", "accountSid": "AC1", "callSid": "CA1", "tracks": ["inbound"],
            "customParameters": custom or {},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }  # fmt: skip
        return json.dumps({"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": inner})
    inner = {"mediaFormat": {"encoding": encoding, "sampleRate": rate_hz}}
    if tag is not None:
        inner["tag"] = tag
    if custom is not None:
        inner["customParameters"] = custom
    return json.dumps({"event": "start", "sequenceNumber": 0, "start": inner})


def media_of(shape, data, *, chunk, tag=None):
    """A media message."""
    payload = base64.b64encode(data).decode()
    if shape == "twilio":
        inner = {"track": "inbound", "chunk": str(chunk), "timestamp": str(chunk * 20), "payload": payload}
        return json.dumps({"event": "media", "sequenceNumber": str(chunk + 1), "streamSid": "MZ1", "media": inner})
    inner = {"chunk": chunk, "timestamp": chunk * 160, "payload": payload}
    if tag is not None:
        inner["tag"] = tag
    return json.dumps({"event": "media", "sequenceNumber": chunk, "media": inner})


def stop_of(shape, *, tag=None):
    if shape == "twilio":
        stop = {"accountSid": "AC1", "callSid": "CA1"}
        return json.dumps({"event": "stop", "sequenceNumber": "9", "streamSid": "MZ1", "stop": stop})
    return json.dumps({"event": "stop", "sequenceNumber": 9, "stop": {} if tag is None else {"tag": tag}})


class VirtualPhone:
    """A telephone service at the other end of a `Line`, on a test's clock."""

    def __init__(self, clock, *, shape="twilio", latency_s=0.0, admit=None):
        self.clock, self.shape, self.latency_s = clock, shape, latency_s
        self.calls = []
        self.sent = []
        self.closed = None
        self.full = False
        self.ears = {}
        self.marks = []
        self.line = Line(self, clock=clock, remote="test", admit=admit or self._admit)

    def _admit(self, line, start):
        from voxnb.media.socket_call import SocketCall

        call = SocketCall(line, start, call_id=f"call-{len(self.calls)}")
        self.calls.append(call)
        return call

    # -- what the line needs of a socket --------------------------------------------------------

    def send(self, *texts):
        if self.full:
            return False
        for text in texts:
            if self.latency_s:
                self.clock.call_at(self.clock.now() + self.latency_s, self._take, json.loads(text))
            else:
                self._take(json.loads(text))
        return True

    def close(self, code, reason):
        self.closed = (code, reason)

    # -- the service ------------------------------------------------------------------------------

    def say(self, text):
        self.line.receive(text)

    def _take(self, message):
        self.sent.append(message)
        now_s = self.clock.now()
        event = message.get("event")
        inner = message.get(event, {}) if event else {}
        tag = inner.get("tag", "") if isinstance(inner, dict) else ""
        if event == "start":
            self.ears[tag] = Earpiece(audio_format(inner["mediaFormat"]))
        elif event == "media":
            ear = self.ears.setdefault(tag, Earpiece())
            if ear.form.coding != "opus":
                ear.give(base64.b64decode(inner["payload"]), now_s=now_s)
        elif event == "mark":
            self.marks.append(inner["name"])
            self.clock.call_at(max(now_s, self.ears[""].ends_s), self._mark, inner["name"])
        elif event == "clear":
            self.ears.setdefault("", Earpiece()).clear(now_s=now_s)
            for one in list(self.marks):
                self._mark(one)

    def _mark(self, name):
        """It was played, or thrown away: either way it comes back, once."""
        if name in self.marks:
            self.marks.remove(name)
            text = json.dumps({"event": "mark", "sequenceNumber": "5", "streamSid": "MZ1", "mark": {"name": name}})
            if self.latency_s:
                self.clock.call_at(self.clock.now() + self.latency_s, self.say, text)
            else:
                self.say(text)

    def heard(self, tag=""):
        return self.ears[tag].heard(now_s=self.clock.now()) if tag in self.ears else b""


def dial(url, **options):
    """An open socket; the library wants a ``with``, and these live longer than one."""
    return connect(url, open_timeout=30, **options).__enter__()


class Phone:
    """A real socket to a real server."""

    def __init__(self, url, *, shape="twilio", **options):
        self.shape = shape
        self.socket = dial(url, **options)
        self.messages = []
        self.came_at = []  # seconds of the monotonic clock, one per message
        self.changed = threading.Condition()
        self.over = False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        try:
            for text in self.socket:
                with self.changed:
                    self.messages.append(json.loads(text))
                    self.came_at.append(time.monotonic())
                    self.changed.notify_all()
        except ConnectionClosed:
            pass
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def start(self, **options):
        self.socket.send(start_of(self.shape, **options))

    def say(self, data, *, chunk, tag=None):
        self.socket.send(media_of(self.shape, data, chunk=chunk, tag=tag))

    def stop(self, **options):
        self.socket.send(stop_of(self.shape, **options))

    def until(self, found, timeout_s=30):
        """Wait until something holds of the messages that came."""
        end = time.monotonic() + timeout_s
        with self.changed:
            while not found(self.messages):
                left = end - time.monotonic()
                if left <= 0 or (self.over and not found(self.messages)):
                    raise AssertionError(f"it did not come: {self.messages[-3:]}")
                self.changed.wait(left)
        return self.messages

    def heard(self):
        media = [m["media"]["payload"] for m in self.messages if m.get("event") == "media"]
        return b"".join(base64.b64decode(payload) for payload in media)

    def wait_over(self):
        self.reader.join(30)
        assert self.over
        return self.socket.close_code

    def close(self):
        self.socket.close()
        self.reader.join(30)
