"""What was heard is what the sink played of each item, and an interruption says exactly that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from voxnb.audio.formats import PCM_8K, PCM_24K, ULAW_8K
from voxnb.audio.playout import KEPT_ITEMS, MOST_MARKS, OVERDUE_MS, SKEW_MS, Delete, Nothing, Playout, Truncate
from voxnb.errors import AudioError

FRAME_S = 0.02


def audio(ms, form=PCM_24K, value=b"\x01"):
    return value * (form.rate_hz * ms // 1000 * form.sample_bytes)


def play(playout, *, ms, at_s=0.0, pad=False):
    """Hand whole frames to a sink that plays them one after the other; when the last one ends."""
    for i in range(ms // 20):
        assert playout.take(playout.form.frame_samples, due_s=at_s + i * FRAME_S, pad=pad)
    return at_s + ms / 1000


# -- the buffer ---------------------------------------------------------------------------------


def test_what_is_queued_is_given_in_frames_of_the_same_bytes():
    playout = Playout(ULAW_8K)
    data = bytes(range(256)) * 5
    playout.queue(data[:300])
    playout.queue(data[300:])
    assert b"".join(playout.take(160) for _ in range(8)) == data
    assert playout.take(160) == b""
    assert playout.waiting_ms == 0


def test_less_than_a_frame_stays_until_it_is_filled_up():
    playout = Playout(PCM_8K)
    playout.queue(audio(10, PCM_8K), item_id="a")
    assert playout.take(160) == b""
    assert playout.take(160, pad=True) == audio(10, PCM_8K) + bytes(160)
    assert playout.counters.padded_samples == 80
    playout.clock(99)
    playout.counted(10_000, generation=0)
    assert playout.heard_ms("a") == 10  # the padding is nobody's


def test_nothing_is_padded_out_of_nothing():
    assert Playout(PCM_8K).take(160, pad=True) == b""


def test_what_does_not_fit_is_dropped_and_counted():
    playout = Playout(PCM_8K, limit_ms=50)
    assert playout.queue(audio(40, PCM_8K)) == 320
    assert playout.queue(audio(40, PCM_8K)) == 80
    assert (playout.waiting_ms, playout.counters.overflow_samples) == (50, 240)


def test_half_a_sample_is_refused():
    with pytest.raises(AudioError):
        Playout(PCM_8K).queue(b"abc")


# -- evidence -----------------------------------------------------------------------------------


def test_a_frame_is_heard_as_it_sounds_not_when_it_is_sent():
    playout = Playout(PCM_24K)
    playout.queue(audio(400), item_id="a")
    play(playout, ms=400, at_s=10.0)
    assert playout.heard_ms("a") == 0
    playout.clock(10.123)
    assert playout.heard_ms("a") == pytest.approx(123, abs=0.1)
    playout.clock(9.0)
    assert playout.heard_ms("a") == pytest.approx(123, abs=0.1)
    playout.clock(99.0)
    assert playout.heard_ms("a") == 400


def test_the_second_item_is_not_heard_while_the_first_one_plays():
    playout = Playout(PCM_24K)
    playout.queue(audio(1000), item_id="a")
    playout.queue(audio(1000), item_id="b")
    play(playout, ms=2000)
    playout.clock(0.6)
    assert (playout.heard_ms("a"), playout.heard_ms("b")) == (600, 0)
    playout.clock(1.3)
    assert (playout.heard_ms("a"), playout.heard_ms("b")) == (1000, pytest.approx(300, abs=0.1))


def test_a_pause_between_frames_is_no_audio_heard():
    playout = Playout(PCM_24K)
    playout.queue(audio(40), item_id="a")
    play(playout, ms=20, at_s=1.0)
    play(playout, ms=20, at_s=5.0)
    playout.clock(4.9)
    assert playout.heard_ms("a") == 20
    playout.clock(5.01)
    assert playout.heard_ms("a") == pytest.approx(30, abs=0.1)


def test_a_sink_that_plays_later_is_believed_later():
    playout = Playout(PCM_24K, sink_delay_ms=80)
    playout.queue(audio(400), item_id="a")
    play(playout, ms=400, at_s=10.0)
    playout.clock(10.2)
    assert playout.heard_ms("a") == pytest.approx(120, abs=0.1)


def test_a_mark_says_what_was_played_and_the_clock_does_not_pass_the_next_one():
    playout = Playout(ULAW_8K)
    playout.queue(audio(400, ULAW_8K), item_id="a")
    play(playout, ms=100)
    first = playout.mark()
    play(playout, ms=100, at_s=0.1)
    second = playout.mark()
    playout.clock(0.3)
    assert playout.heard_ms("a") == 100
    assert playout.marked(first)
    playout.clock(0.3)
    assert playout.heard_ms("a") == 200
    assert playout.marked(second)
    assert not playout.marked(second)
    assert playout.counters.marks_ignored == 1


def test_marks_that_a_clear_sends_back_are_no_evidence():
    playout = Playout(ULAW_8K)
    playout.queue(audio(1000, ULAW_8K), item_id="a")
    play(playout, ms=500)
    marks = [playout.mark()]
    playout.clock(0.1)
    assert playout.interrupt() == [Truncate("a", 0, 100)]
    assert not any(playout.marked(mark) for mark in marks)
    assert playout.heard_ms("a") == 100


def test_marks_that_never_come_back_hold_the_clock_up_for_a_while_only():
    playout = Playout(ULAW_8K)
    playout.queue(audio(60_000, ULAW_8K), item_id="a")
    for number in range(600):
        play(playout, ms=100, at_s=number / 10)
        playout.mark()
        assert len(playout._marks) <= MOST_MARKS
    playout.clock(60.0)
    assert playout.heard_ms("a") >= 60_000 - OVERDUE_MS - 100
    playout.clock(60.0 + OVERDUE_MS / 1000)
    assert playout.heard_ms("a") >= 60_000 - OVERDUE_MS - 100


@pytest.mark.parametrize("name", ["", "0", "0:", ":1", "a:b", "0:999", "٠:٠", "0:-1", "9" * 5000 + ":1"])
def test_a_strangers_mark_is_no_evidence(name):
    playout = Playout(ULAW_8K)
    playout.queue(audio(100, ULAW_8K), item_id="a")
    play(playout, ms=100)
    assert not playout.marked(name)
    assert playout.heard == 0


def test_a_counter_of_the_sink_is_believed_for_its_generation_only():
    playout = Playout(PCM_24K)
    playout.queue(audio(400), item_id="a", response_id="r1")
    play(playout, ms=400)
    playout.counted(4800, generation=0)
    assert playout.heard_ms("a") == 200
    assert playout.interrupt() == [Truncate("a", 0, 200)]
    playout.queue(audio(400), item_id="b", response_id="r2")
    play(playout, ms=400)
    playout.counted(9600, generation=0)  # sent before the sink had heard of the clear
    assert playout.heard_ms("b") == 0
    playout.counted(2400, generation=1)
    assert playout.heard_ms("b") == 100
    playout.counted(10**9, generation=1)
    assert playout.heard_ms("b") == 400


# -- interruptions --------------------------------------------------------------------------------


def test_an_interruption_tells_each_item_its_own_fate():
    playout = Playout(PCM_24K)
    for item in ("a", "b", "c"):
        playout.queue(audio(1000), item_id=item, response_id="r1")
        playout.finish(item)
    play(playout, ms=3000)
    playout.clock(1.5)
    assert playout.interrupt() == [Truncate("b", 0, 500), Delete("c")]
    assert playout.waiting_ms == 0
    assert playout.interrupt() == []


def test_what_comes_late_of_an_interrupted_response_is_dropped():
    playout = Playout(PCM_24K)
    playout.queue(audio(100), item_id="a", response_id="r1")
    playout.interrupt()
    assert playout.queue(audio(100), item_id="a", response_id="r1") == 0
    assert playout.queue(audio(100), item_id="b", response_id="r1") == 0
    assert playout.queue(audio(100), item_id="c", response_id="r2") == 2400
    assert playout.counters.refused_samples == 4800


def test_the_end_of_a_finished_item_is_left_alone():
    playout = Playout(PCM_24K)
    playout.queue(audio(1000), item_id="a")
    playout.finish("a")
    play(playout, ms=1000)
    playout.clock(0.91)
    assert playout.interrupt() == [Nothing("a")]
    assert SKEW_MS == 100


def test_an_item_that_still_grows_is_cut_even_at_its_end():
    playout = Playout(PCM_24K)
    playout.queue(audio(1000), item_id="a")
    play(playout, ms=1000)
    playout.clock(5.0)
    assert playout.interrupt() == [Truncate("a", 0, 1000)]


def test_a_second_content_that_nobody_heard_is_cut_at_its_start():
    playout = Playout(PCM_24K)
    playout.queue(audio(200), item_id="a")
    playout.queue(audio(200), item_id="a", content_index=1)
    play(playout, ms=400)
    playout.clock(0.1)
    assert playout.interrupt() == [Truncate("a", 0, 100), Truncate("a", 1, 0)]


def test_a_sink_that_cannot_be_cleared_still_plays_what_it_was_given():
    playout = Playout(PCM_24K, sink_clears=False)
    playout.queue(audio(1000), item_id="a")
    play(playout, ms=200)
    playout.clock(0.16)
    assert playout.interrupt() == [Truncate("a", 0, 200)]


def test_what_a_clear_threw_away_is_told_at_the_next_interruption():
    playout = Playout(PCM_24K)
    playout.queue(audio(500), item_id="a", response_id="r1")
    playout.finish("a")
    play(playout, ms=100)
    playout.clock(0.1)
    assert playout.clear() == 400
    playout.queue(audio(500), item_id="b", response_id="r1")
    play(playout, ms=100, at_s=1.0)
    playout.clock(1.1)
    assert playout.interrupt() == [Truncate("a", 0, 100), Truncate("b", 0, 100)]


def test_audio_of_no_item_asks_for_no_decision():
    playout = Playout(PCM_24K)
    playout.queue(audio(500))
    play(playout, ms=100)
    assert playout.interrupt() == []
    assert playout.waiting_ms == 0


def test_the_ledger_stays_small_over_a_long_call():
    playout = Playout(ULAW_8K)
    for number in range(5 * KEPT_ITEMS):
        playout.queue(audio(20, ULAW_8K), item_id=f"i{number}", response_id=f"r{number}")
        playout.finish(f"i{number}")
        play(playout, ms=20, at_s=number * FRAME_S)
        playout.clock((number + 1) * FRAME_S)
    assert len(playout._items) <= KEPT_ITEMS
    assert len(playout.spans()) <= 1
    assert len(playout._clock.runs) <= 2


# -- whatever happens -----------------------------------------------------------------------------


class Call(RuleBasedStateMachine):
    """A model that speaks, a telephone that plays, a caller who interrupts; beside it the plain truth, sample by sample."""

    open_items = Bundle("open_items")

    @initialize(clears=st.booleans(), evidence=st.sampled_from(["clock", "counter", "mark"]))
    def begin(self, clears, evidence):
        self.playout = Playout(ULAW_8K, sink_clears=clears, limit_ms=5000)
        self.evidence = evidence if clears else "clock"
        self.now_s = 10.0
        self.items = 0
        self.device: list[tuple[str | None, int]] = []  # handed over, not yet sounded: (item, sample)
        self.ends_s = 10.0  # when the device runs dry
        self.truth: dict[str, int] = {}  # item → samples that have sounded
        self.kept: list[tuple[str, int, int]] = []  # the buffer: (item, first sample, count)
        self.received: dict[str, int] = {}
        self.response: dict[str, str] = {}
        self.dead: set[str] = set()
        self.decided: list = []
        self.settled: set[str] = set()
        self.marks: list[tuple[str, int]] = []
        self.sounded = 0  # since the last clear

    @rule(target=open_items, new_response=st.booleans())
    def new_item(self, new_response):
        self.items += 1
        item = f"i{self.items}"
        self.response[item] = f"r{self.items if new_response else max(1, self.items - 1)}"
        self.received[item] = self.truth[item] = 0
        return item

    @rule(item=open_items, samples=st.integers(0, 1200))
    def speak(self, item, samples):
        taken = self.playout.queue(b"x" * samples, item_id=item, response_id=self.response[item])
        first = self.received[item]
        self.received[item] += samples
        if self.response[item] in self.dead:
            assert taken == 0
        if taken:
            self.kept.append((item, first, taken))

    @rule(item=consumes(open_items))
    def end_item(self, item):
        self.playout.finish(item)

    @rule(frames=st.integers(1, 20), pad=st.booleans())
    def send(self, frames, pad):
        for _ in range(frames):
            due_s = max(self.ends_s, self.now_s)
            data = self.playout.take(160, due_s=due_s, pad=pad)
            if not data:
                return
            assert len(data) == 160
            real = []
            while self.kept and len(real) < 160:
                item, first, count = self.kept.pop(0)
                used = min(count, 160 - len(real))
                real += [(item, first + n) for n in range(used)]
                if used < count:
                    self.kept.insert(0, (item, first + used, count - used))
            assert data == b"x" * len(real) + b"\xff" * (160 - len(real))
            self.device += real + [(None, 0)] * (160 - len(real))
            self.ends_s = due_s + FRAME_S
            if self.evidence == "mark":
                self.marks.append((self.playout.mark(), self.sounded + len(self.device)))

    @rule(ms=st.integers(0, 400))
    def time_passes(self, ms):
        self.now_s += ms / 1000
        left = max(0, round((self.ends_s - self.now_s) * 8000))
        while len(self.device) > left:
            item, sample = self.device.pop(0)
            self.sounded += 1
            if item is not None:
                self.truth[item] = sample + 1
        self.look()

    def look(self):
        if self.evidence == "counter":
            self.playout.counted(self.sounded, generation=self.playout.generation)
        else:
            while self.marks and self.marks[0][1] <= self.sounded:
                assert self.playout.marked(self.marks.pop(0)[0])
            self.playout.clock(self.now_s)

    def void(self):
        if self.playout.sink_clears:
            self.device.clear()
            self.ends_s = self.now_s
        self.kept.clear()
        self.sounded = 0
        stale, self.marks = self.marks, []
        for name, _ in stale:  # the service sends them all back
            assert not self.playout.marked(name)

    @rule()
    def clear(self):
        self.look()
        self.playout.clear()
        self.void()

    @rule()
    def interrupt(self):
        self.look()
        playing = {item for item, _, _ in self.kept}
        if self.playout.sink_clears:  # otherwise what it was handed will be heard, and nothing of it is to be decided
            playing |= {item for item, _ in self.device if item}
        decisions = self.playout.interrupt()
        for item in {d.item_id for d in decisions}:
            self.dead.add(self.response[item])
        if not self.playout.sink_clears:
            for item, sample in self.device:  # it cannot be stopped any more
                if item is not None:
                    self.truth[item] = max(self.truth[item], sample + 1)
        told = {d.item_id: d for d in decisions}
        assert len(told) == len(decisions)
        assert playing <= set(told) | self.settled  # what cannot be stopped still sounds after it was settled
        self.settled |= set(told)
        for item, decision in told.items():
            heard, received = self.truth[item], self.received[item]
            if isinstance(decision, Delete):
                assert heard < 8, "less than a millisecond"
            elif isinstance(decision, Truncate):
                assert 0 < decision.audio_end_ms <= received // 8
                assert decision.audio_end_ms == heard // 8
            else:
                assert received - heard <= SKEW_MS * 8
        self.decided += [d.item_id for d in decisions if isinstance(d, Truncate)]
        assert len(set(self.decided)) == len(self.decided), "an item is truncated once at most"
        self.void()

    @invariant()
    def the_books_balance(self):
        if not hasattr(self, "playout"):
            return
        playout = self.playout
        assert playout.heard <= playout.sent
        assert playout.waiting_samples == sum(count for _, _, count in self.kept) <= 40_000
        for item, received in self.received.items():
            assert playout.heard_ms(item) <= playout.received_ms(item) == received / 8


TestCall = Call.TestCase


@given(cuts=st.lists(st.integers(1, 700), min_size=1, max_size=20), heard_ms=st.integers(0, 4000))
def test_the_cut_of_the_deltas_changes_no_decision(cuts, heard_ms):
    def outcome(pieces):
        playout = Playout(ULAW_8K)
        for size in pieces:
            playout.queue(b"x" * size, item_id="a")
        playout.finish("a")
        at_s = 0.0
        while playout.take(160, due_s=at_s, pad=True):
            at_s += FRAME_S
        playout.clock(heard_ms / 1000)
        return playout.interrupt()

    assert outcome(cuts) == outcome([sum(cuts)])
