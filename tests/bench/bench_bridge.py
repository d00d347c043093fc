"""What a bridge between µ-law telephones and a realtime session costs, and how much later it makes the sound.

Telephones and a realtime server that says back what it hears run in one process, pinned to the first core; the bridge
under test runs in another, pinned to the second. The server answers each 20 ms packet with a delta of its own, which is
four to twelve times harder than the service. Runs where voxnb is installed:

    python tests/bench/bench_bridge.py
    python tests/bench/bench_bridge.py --sessions 1 40 --seconds 5 --bridges relay passthrough
    python tests/bench/bench_bridge.py --pipecat PYTHON          # an interpreter that has pipecat-ai
    python tests/bench/bench_bridge.py --busy --sessions 1 5     # with a Python loop in the bridge's main thread

Bridges: `relay` moves base64 from socket to socket with the same library and does nothing else; `passthrough` and
`transcode` are `MediaServer` and `RealtimeAPIClient` at 8 kHz µ-law and at 24 kHz; `process` and `process-transcode` are
the same with ``bridge="process"``; `pipecat` is its Twilio serializer and realtime service at 24 kHz. They do not do the
same: voxnb also keeps a ledger of what was heard and paces; pipecat also runs its pipeline; the relay does nothing of
this. The far ends use voxnb's way past the library's queues (`voxnb.media.express`): they shall not be what is measured.

- ``round_ms``: from the sound at one telephone to the sound back at it, with the 20 ms of its packet; a tone's onset.
- ``added_p99_ms``: what of it the bridge adds at worst, over every packet, without the packet's own 20 ms.
- ``cpu_us``: processor time per pair of packets (one in, one out) of the bridge.
- ``cpu``, ``peer_cpu``: what of its core the bridge used, and the far ends of theirs. Whoever is at the end of its core
  (95 % under ``chrt``: the kernel gives no more) only tells that it is, with whatever delay a queue then has.
- ``sessions_per_core``: sessions of 50 pairs per second that this leaves room for.
- ``load``: how many programs wanted a processor in the last minute. On a machine that has other work the delays are
  those of that work; ``chrt -r 5`` before the command (as root) puts all the contenders before it, and makes each packet
  dearer, since it finds the caches full of other things.

Of several rounds the one with the smallest delay is told: what is worse comes from outside.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from voxnb.audio import g711
from voxnb.media.express import ExpressClient, ExpressServer

FRAME_S = 0.02
BURST_EVERY = 25  # packets: two bursts a second
HERE = Path(__file__).resolve().parent


# -- the far ends ---------------------------------------------------------------------------------


class Echo:
    """One session of a realtime server that says back, packet by packet, what it hears."""

    def __init__(self, socket):
        self.socket = socket
        self.number = 0
        self.speaking = False
        audio = {
            "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None},
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy"},
        }
        self.session = {
            "type": "realtime", "object": "realtime.session", "id": "sess_1", "model": "bench",
            "output_modalities": ["audio"], "audio": audio,
        }  # fmt: skip
        self.say("session.created", session=self.session)

    def say(self, kind, **fields):
        """Send an event."""
        self.number += 1
        self.socket.say(json.dumps({"type": kind, "event_id": f"e{self.number}", **fields}))

    def hear(self, text):
        """A command came."""
        event = json.loads(text)
        if event["type"] == "session.update":
            for side in ("input", "output"):
                self.session["audio"][side].update((event["session"].get("audio") or {}).get(side) or {})
            self.say("session.updated", session=self.session)
        elif event["type"] == "input_audio_buffer.append":
            place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
            if not self.speaking:
                self.speaking = True
                self.begin(place)
            self.say("response.output_audio.delta", **place, delta=event["audio"])

    def begin(self, place):
        """What comes before the first sound."""
        response = {
            "id": "resp_1", "object": "realtime.response", "status": "in_progress", "output": [],
            "conversation_id": "conv_1", "output_modalities": ["audio"],
        }  # fmt: skip
        item = {"id": "item_1", "object": "realtime.item", "type": "message", "role": "assistant", "content": []}
        shown = {**item, "status": "in_progress"}
        self.say("response.created", response=response)
        self.say("response.output_item.added", response_id="resp_1", output_index=0, item=shown)
        self.say("conversation.item.added", previous_item_id=None, item=shown)
        self.say("response.content_part.added", **place, part={"type": "audio", "transcript": ""})


async def echo(socket):
    """Serve a connection."""
    with contextlib.suppress(ConnectionClosed):
        await socket.each(Echo(socket).hear)


TONE = g711.encode((16_000 * np.sin(2 * np.pi * 1000 * np.arange(160) / 8000)).astype("<i2").tobytes(), "ulaw")
LOUD_B64, QUIET_B64 = base64.b64encode(TONE).decode(), base64.b64encode(b"\xff" * 160).decode()
LEVELS = np.abs(np.frombuffer(g711.decode(bytes(range(256)), "ulaw"), "<i2").astype(np.int32))
SOFT = bytes(np.flatnonzero(LEVELS <= 6000).tolist())
"""The bytes that are no part of a tone."""


class Phone:
    """A telephone in Twilio's messages: 20 ms of near silence, and a tone twice a second."""

    def __init__(self, url, number):
        self.url, self.number = url, number
        self.sid = f"MZ{number}"
        self.bursts = []  # when one was sent
        self.onsets = []  # when one was heard
        self.frames_in = 0
        self._loud_before = False

    async def call(self):
        """Connect, and begin the stream."""
        self.socket = await connect(self.url, compression=None, max_size=1 << 24, create_connection=ExpressClient)
        media = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        inner = {"streamSid": self.sid, "callSid": f"CA{self.number}", "accountSid": "AC", "tracks": ["inbound"],
                 "customParameters": {}, "mediaFormat": media}  # fmt: skip
        self.socket.say(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        self.socket.say(json.dumps({"event": "start", "sequenceNumber": "1", "streamSid": self.sid, "start": inner}))
        self.reading = asyncio.ensure_future(self.socket.each(self._hear))

    def speak(self, n):
        """Send a packet."""
        loud = n % BURST_EVERY == BURST_EVERY - 1
        if loud:
            self.bursts.append(time.perf_counter())
        self.socket.say(
            f'{{"event":"media","sequenceNumber":"{n + 2}","media":{{"track":"inbound","chunk":"{n + 1}",'
            f'"timestamp":"{n * 20}","payload":"{LOUD_B64 if loud else QUIET_B64}"}},"streamSid":"{self.sid}"}}'
        )

    def _hear(self, text):
        event = json.loads(text)
        if event["event"] == "mark":
            self.socket.say(json.dumps({"event": "mark", "streamSid": self.sid, "mark": event["mark"]}))
        if event["event"] != "media":
            return
        data = base64.b64decode(event["media"]["payload"])
        self.frames_in += len(data) / 160
        if not data.translate(None, SOFT):
            self._loud_before = False
            return
        loud = np.flatnonzero(LEVELS[np.frombuffer(data, np.uint8)] > 6000)
        if not self._loud_before:
            self.onsets.append(time.perf_counter() + loud[0] / 8000)
        self._loud_before = bool(loud[-1] > len(data) - 12)

    async def hang_up(self):
        """End the call."""
        await self.socket.close()
        await asyncio.wait({self.reading})
        self.reading.exception()

    def round_ms(self):
        """Of each burst: from its sound to its return, with the packet that it had to fill first."""
        out = []
        heard = list(self.onsets)
        for sent in self.bursts:
            while heard and heard[0] < sent:
                heard.pop(0)
            if heard and heard[0] - sent < 0.5:
                out.append((heard.pop(0) - sent + FRAME_S) * 1000)
        return out


async def talk(phones, packets):
    """All speak: each at a millisecond of its own within the 20 ms, all of a millisecond at one wake-up."""
    slots = [[phone for phone in phones if phone.number * 7919 % 20 == ms] for ms in range(20)]
    began = time.perf_counter()
    for n in range(packets):
        for ms, slot in enumerate(slots):
            if slot:
                await asyncio.sleep(max(0.0, began + n * FRAME_S + ms / 1000 - time.perf_counter()))
                for phone in slot:
                    phone.speak(n)


async def measure(sessions, seconds, bridge, pid, *, settle_s):
    """One run against a bridge that listens."""
    phones = [Phone(bridge, n) for n in range(sessions)]
    packets = int(seconds / FRAME_S)
    await asyncio.gather(*(phone.call() for phone in phones))
    await asyncio.sleep(settle_s + sessions * 0.02)
    before, own = processor_s(pid), time.process_time()
    await talk(phones, packets)
    used, own = processor_s(pid) - before, time.process_time() - own
    await asyncio.sleep(0.5)
    await asyncio.gather(*(phone.hang_up() for phone in phones))
    rounds = sorted(ms for phone in phones for ms in phone.round_ms())
    frames = sum(phone.frames_in for phone in phones)
    if not rounds or frames < 0.5 * sessions * packets:
        return {"failed": f"{frames:.0f} of {sessions * packets} packets came back"}
    pair_us = used * 1e6 / (sessions * packets)
    return {
        "round_ms": round(statistics.median(rounds), 1),
        "round_p99_ms": round(rounds[int(len(rounds) * 0.99)], 1),
        "added_p50_ms": round(statistics.median(rounds) - 20, 1),
        "added_p99_ms": round(rounds[int(len(rounds) * 0.99)] - 20, 1),
        "cpu_us": round(pair_us),
        "cpu": f"{used / seconds:.0%}",
        "sessions_per_core": round(1e6 / (pair_us * 50)),
        "rss_mb": round(memory_mb(pid)),
        "returned": round(frames / (sessions * packets), 3),
        "peer_cpu": f"{own / seconds:.0%}",
    }


def processor_s(pid):
    """Processor time of a process and of its children that live."""
    total = 0.0
    for one in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def family(pid):
    """A process and its descendants."""
    out = [pid]
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in tasks.read_text().split():
                out += family(int(child))
    return out


def memory_mb(pid):
    """Resident memory of a family."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
    return total / 1024


# -- bridges --------------------------------------------------------------------------------------


async def relay(upstream):
    """The floor: the same library, base64 from socket to socket."""

    async def call(phone):
        async with connect(upstream, compression=None, max_size=None) as far:
            g711 = {"format": {"type": "audio/pcmu"}}
            await far.send(
                json.dumps({"type": "session.update", "session": {"audio": {"input": g711, "output": g711}}})
            )
            sid = None

            async def back():
                async for text in far:
                    event = json.loads(text)
                    if event["type"] == "response.output_audio.delta":
                        await phone.send(
                            f'{{"event":"media","streamSid":"{sid}","media":{{"payload":"{event["delta"]}"}}}}'
                        )

            reader = asyncio.ensure_future(back())
            try:
                async for text in phone:
                    event = json.loads(text)
                    if event["event"] == "media":
                        await far.send(f'{{"type":"input_audio_buffer.append","audio":"{event["media"]["payload"]}"}}')
                    elif event["event"] == "start":
                        sid = event["start"]["streamSid"]
            finally:
                reader.cancel()

    server = await serve(call, "127.0.0.1", 0, compression=None)
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Future()


def voxnb_bridge(upstream, *, wide, busy, bridge):
    """`MediaServer` and one `RealtimeAPIClient` per call."""
    import voxnb
    from voxnb.media import MediaServer, send_media_between

    def answer(call):
        session = {}
        if wide:
            pcm = {"format": {"type": "audio/pcm", "rate": 24000}}
            session = {"audio": {"input": pcm, "output": pcm}}
        known = {"base_url": upstream, "api_key": "sk-bench"}
        client = voxnb.RealtimeAPIClient(**known, session=session, barge_in=False, bridge=bridge)
        send_media_between(call, client)
        client.connect()
        clients.append(client)

    clients = []
    server = MediaServer(bridge=bridge)
    server.on_call(answer)
    print(server.url, flush=True)
    if busy:
        number = 0
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # a cell is no more than a cell under chrt either
        while True:
            number = (number * 1_103_515_245 + 12_345) % (1 << 31)
    threading.Event().wait()


# -- the run --------------------------------------------------------------------------------------


def command(name, upstream, options):
    """How a bridge is started."""
    if name == "pipecat":
        return [options.pipecat, str(HERE / "bridge_pipecat.py"), upstream]
    busy = ["--busy"] if options.busy else []
    return [sys.executable, __file__, "--serve", name, "--upstream", upstream, *busy]


async def bench(options):
    """Every bridge at every number of sessions, in turns."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    far = await serve(echo, "127.0.0.1", 0, compression=None, max_size=1 << 24, create_connection=ExpressServer)
    upstream = f"ws://127.0.0.1:{far.sockets[0].getsockname()[1]}"
    rows = []
    for sessions in options.sessions:
        for name in options.bridges:
            runs = []
            for _ in range(options.rounds):
                process = await asyncio.create_subprocess_exec(
                    *command(name, upstream, options),
                    stdout=subprocess.PIPE,
                    stderr=None if options.verbose else subprocess.DEVNULL,
                    preexec_fn=lambda: os.sched_setaffinity(0, cores[-1:]),
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                )
                try:
                    url = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
                    runs.append(await measure(sessions, options.seconds, url, process.pid, settle_s=options.settle))
                finally:
                    process.kill()
                    await process.wait()
            good = sorted((run for run in runs if "failed" not in run), key=lambda run: run["round_p99_ms"])
            row = {"bridge": name, "sessions": sessions, **(good[0] if good else runs[0])}
            row["load"] = round(os.getloadavg()[0], 1)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 10, 40, 100])
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--settle", type=float, default=2, help="seconds before the first packet")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bridges", nargs="+", default=["relay", "passthrough", "process", "transcode"])
    parser.add_argument("--pipecat", metavar="PYTHON", help="an interpreter that has pipecat-ai")
    parser.add_argument("--busy", action="store_true", help="a Python loop in the main thread of voxnb's bridges")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--serve")
    parser.add_argument("--upstream")
    options = parser.parse_args()
    if options.serve == "relay":
        asyncio.run(relay(options.upstream))
    elif options.serve:
        http = options.upstream.replace("ws://", "http://") + "/v1"
        bridge = "process" if options.serve.startswith("process") else "loop"
        voxnb_bridge(http, wide=options.serve.endswith("transcode"), busy=options.busy, bridge=bridge)
    else:
        if options.pipecat:
            options.bridges.append("pipecat")
        versions = {name: importlib.metadata.version(name) for name in ("voxnb", "websockets", "numpy")}
        print(json.dumps({"python": platform.python_version(), "cores": os.cpu_count(), **versions}))
        asyncio.run(bench(options))


if __name__ == "__main__":
    main()
