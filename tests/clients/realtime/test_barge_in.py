"""Who speaks interrupts: over a real socket, against the local server, it is told what the telephone really played."""

from __future__ import annotations

import concurrent.futures
import random

import numpy as np

from tests.clients.realtime.peer import WAIT_S
from tests.clients.realtime.test_whole_calls import Timed
from tests.media.phone import VirtualPhone, media_of, start_of
from voxnb.audio import g711
from voxnb.local.realtime import RealtimeServer, Script
from voxnb.runtime import loop
from voxnb.testing.clock import VirtualClock

ROUNDS = 200
FRAME_MS = 20
STEP_S = 0.25
SMEAR_MS = 3
"""By the filters of the way, at either end of a sound."""

SPEECH = g711.encode((8_000 * np.sin(np.arange(1_600) / 2)).astype("<i2").tobytes(), "ulaw")
SILENCE = bytes([255]) * 2_400
DETECTION = {"type": "server_vad", "silence_duration_ms": 200, "prefix_padding_ms": 0}


class StandingServer(RealtimeServer):
    """The local server with its sessions on a clock that a test moves."""

    def __init__(self, clock, brain):
        self.moved = clock
        super().__init__(brain, seed=4)

    def clock(self):
        return self.moved.now()

    def work(self):
        """Let the session do what is due by now."""
        done = concurrent.futures.Future()

        def tick():
            for connection in list(self._open):
                connection._advance()
            done.set_result(None)

        self.call(tick)
        done.result(WAIT_S)


class Interrupter:
    """Talks with a model through a telephone, in virtual time, and never lets it finish.

    Attributes:
        lengths_ms: of the items of each answer.
        played_ms: how much of each the telephone had played when it was interrupted.
    """

    def __init__(self, clock, server, call, seed):
        self.clock, self.server, self.call = clock, server, call
        self.chance = random.Random(seed)
        self.phone = VirtualPhone(clock)
        self.chunk = self.noted = 0
        self.lengths_ms, self.played_ms = [], []

    def answer(self, _view):
        """One item or two; the first is above zero, the second below."""
        lengths_ms = [self.chance.randrange(100, 2_000) for _ in range(self.chance.choice([1, 2]))]
        self.lengths_ms.append(lengths_ms)
        levels = [np.full(24 * ms, 8_000 - 16_000 * n, "<i2") for n, ms in enumerate(lengths_ms)]
        return {"output": [{"transcript": f"Item {n}.", "audio": level.tobytes()} for n, level in enumerate(levels)]}

    def begin(self):
        self.phone.say(start_of("twilio"))
        (line,) = self.phone.calls
        line.send_media_to(self.call)
        self.call.send_media_to(line)

    def say(self, sound):
        for at in range(0, len(sound), 160):
            self.phone.say(media_of("twilio", sound[at : at + 160], chunk=self.chunk))
            self.chunk += 1

    async def settle(self):
        """Nothing is on its way any more: the server has what was said, has done what was due, and that is here."""
        link = self.call._keeper.link
        for _ in range(2):  # a pong may overtake what the server says to the messages that came with the ping
            await link.outbox.emptied()
            await (await link.socket.connection.ping())
            self.server.work()
            await (await link.socket.connection.ping())

    async def rounds(self, count):
        self.begin()
        for _ in range(count + 1):
            self.say(SPEECH)
            await self.settle()
            self.note_played()
            self.say(SILENCE)
            await self.settle()
            left_s = self.chance.uniform(0.0, sum(self.lengths_ms[-1]) / 1000 + 0.1)
            while left_s > 0:
                self.clock.advance(min(left_s, STEP_S))
                left_s -= STEP_S
                await self.settle()

    def note_played(self):
        """What was played since the last time; the telephone was told to forget the rest."""
        whole = self.phone.heard()
        heard = np.frombuffer(g711.decode(whole[self.noted :], "ulaw"), "<i2")
        self.noted = len(whole)
        self.played_ms.append([int((heard > 4_000).sum()) / 8, int((heard < -4_000).sum()) / 8])


def cuts_of(recording):
    """Of each answer in order: what was said of its items, ``None``, ``"delete"`` or milliseconds."""
    items, cuts = {}, {}
    for event in recording.sent:
        if event["type"] == "response.created":
            items[event["response"]["id"]] = []
        elif event["type"] == "response.output_item.added":
            items[event["response_id"]].append(event["item"]["id"])
    for event in recording.received:
        if event["type"] == "conversation.item.truncate":
            assert cuts.setdefault(event["item_id"], event["audio_end_ms"]) is event["audio_end_ms"], "said twice"
        elif event["type"] == "conversation.item.delete":
            assert cuts.setdefault(event["item_id"], "delete") == "delete", "said twice"
    return [[cuts.get(item_id) for item_id in made] for made in items.values()]


def test_over_200_random_interruptions_the_cut_is_within_a_frame_of_what_was_played():
    clock = VirtualClock()
    brain = Script(lambda view: caller.answer(view))
    with StandingServer(clock, brain) as server:
        session = {"audio": {"input": {"turn_detection": DETECTION}}}
        with Timed(clock, base_url=server.base_url, api_key=server.api_key, session=session) as call:
            caller = Interrupter(clock, server, call, seed=11)
            loop.submit(caller.rounds(ROUNDS)).result(WAIT_S * 4)
            assert call.statistics().refused_events == 0
        (recording,) = server.sessions
    assert recording.problems == []
    assert [event for event in recording.sent if event["type"] == "error"] == []
    answers = list(zip(caller.lengths_ms, cuts_of(recording), caller.played_ms[1:], strict=False))[:ROUNDS]
    kinds = []
    for lengths_ms, cuts, played_ms in answers:
        for n, (length_ms, cut) in enumerate(zip(lengths_ms, cuts, strict=False)):
            kinds.append((len(lengths_ms), n, type(cut)))
            if cut is None:
                assert played_ms[n] >= length_ms - 100 - FRAME_MS, "what is not cut was heard"
            else:
                assert abs((0 if cut == "delete" else cut) - played_ms[n]) <= FRAME_MS + SMEAR_MS
                assert cut == "delete" or cut <= length_ms
        assert all(ms == 0 for ms in played_ms[len(cuts) :]), "what was never made was never heard"
    assert len(answers) == ROUNDS
    assert {(1, 0, int), (2, 0, int), (2, 1, int), (2, 1, str), (2, 0, type(None))} <= set(kinds)
