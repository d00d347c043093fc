"""The Turn handle, driven by a small client on the real background loop with a real dispatcher."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from pathlib import Path

import pytest

from voxnb.clients.turn import GRACE_S, Reply, Turn, gather
from voxnb.errors import RateLimitError, StreamBrokenError, TurnCancelledError, TurnError, VoxnbError
from voxnb.events import ChatCompletionsAPIEvents
from voxnb.runtime import loop
from voxnb.runtime.dispatch import Dispatcher
from voxnb.usage import Usage

DELTA = ChatCompletionsAPIEvents.ContentDelta.value
DONE = ChatCompletionsAPIEvents.ContentDone.value
ERROR = ChatCompletionsAPIEvents.ChatCompletionsAPIError.value

PATIENCE_S = 60.0
"""Until a test gives up: on a busy machine everything takes its time."""


class Slot:
    """A conversation: one turn at a time, in the order of asking."""

    def __init__(self):
        self.last = None


class Client:
    """Speaks scripted deltas; the steps of a real client in the order of a real client."""

    def __init__(self, deltas=("Hel", "lo"), *, slot=None, pause_s=0.0, error=None, gate=None, store_s=0.0):
        self.deltas, self.pause_s, self.error, self.gate, self.store_s = deltas, pause_s, error, gate, store_s
        self.slot = slot or Slot()
        self.partials = []
        self.dispatcher = Dispatcher(client=self, client_id="c1", known=[ChatCompletionsAPIEvents], sticky=frozenset())
        self.on = self.dispatcher.on

    def ask(self, text="", *, deltas=None):
        turn = Turn(client=self)
        previous, self.slot.last = self.slot.last, turn
        loop.submit(self._serve(turn, previous, deltas or self.deltas))
        return turn

    async def _serve(self, turn, previous, deltas):
        turn._attach(asyncio.current_task())
        emit = self.dispatcher.emit
        try:
            try:
                if previous is not None:
                    await loop.wait_async(previous._progress.stored)
                turn._start(asyncio.current_task())
                for delta in deltas:
                    if self.gate is not None:
                        await loop.wait_async(self.gate)
                    await asyncio.sleep(self.pause_s)
                    turn._push(delta)
                    emit(DELTA, {"delta": delta}, context=turn.context, turn=turn)
                if self.error is not None:
                    raise self.error
                emit(DONE, {"content": "".join(deltas)}, context=turn.context, turn=turn)
                turn._store(Reply(text="".join(deltas), finish_reason="stop"))
            except asyncio.CancelledError:
                self.dispatcher.discard(turn)
                if self.store_s:
                    await asyncio.sleep(self.store_s)
                self.partials.append(turn.partial)
                if turn.partial:
                    turn._store(Reply(text=turn.partial, finish_reason="cancelled"))
                else:
                    turn._store(error=TurnCancelledError("the turn was cancelled before anything had come"))
        except VoxnbError as error:
            emit(ERROR, {"message": str(error)}, context=turn.context, turn=turn)
            turn._store(error=error)
        self.dispatcher.barrier(turn._deliver, turn=turn)


@pytest.fixture
def client():
    made = []

    def make(*args, **options):
        made.append(Client(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.dispatcher.close()


@pytest.fixture
def gate():
    future = concurrent.futures.Future()
    yield future
    if not future.done():
        future.set_result(None)


def open_(gate):
    gate.set_result(None)


@pytest.fixture
def grace(monkeypatch):
    """``grace(turn)``: the turn is delivered, and the time passes that its failure is given to be looked at."""
    due = []
    monkeypatch.setattr(loop, "call_later", lambda delay_s, fn: due.append((delay_s, fn)))

    def passes(turn):
        turn._progress.delivered.result(PATIENCE_S)
        for delay_s, report in due:
            assert delay_s == GRACE_S
            report()

    return passes


def until(condition, *, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


# Waiting


def test_result_blocks_for_the_reply(client):
    reply = client().ask().result()
    assert (str(reply), reply.finish_reason) == ("Hello", "stop")


def test_result_works_in_other_threads_and_twice(client):
    turn = client(pause_s=0.01).ask()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: turn.result(), range(8)))
    assert {id(reply) for reply in replies} == {id(turn.result())}


def test_await_works_in_a_foreign_loop_and_for_many_tasks(client):
    turn = client(pause_s=0.01).ask()

    async def main():
        return await asyncio.gather(*(asyncio.ensure_future(turn) for _ in range(5)))

    assert [reply.text for reply in asyncio.run(main())] == ["Hello"] * 5


def test_result_works_inside_a_running_event_loop(client):
    async def cell():
        return client(pause_s=0.01).ask().result().text

    assert asyncio.run(cell()) == "Hello"


def test_iteration_starts_at_the_first_delta_every_time(client):
    turn = client(["a", "b", "c"], pause_s=0.005).ask()
    assert list(turn) == ["a", "b", "c"]
    assert list(turn) == ["a", "b", "c"]

    async def collect():
        return [delta async for delta in turn]

    assert asyncio.run(collect()) == ["a", "b", "c"]


def test_async_iteration_follows_a_running_turn(client):
    async def collect():
        return [delta async for delta in client(["a", "b", "c"], pause_s=0.01).ask()]

    assert asyncio.run(collect()) == ["a", "b", "c"]


def test_a_long_async_iteration_lets_other_tasks_run(client):
    turn = client(["x"] * 1000).ask()
    turn.result()
    steps = []

    async def other():
        while True:
            steps.append(1)
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other())
        async for _ in turn:
            pass
        task.cancel()

    asyncio.run(main())
    assert len(steps) >= 10


def test_many_readers_of_a_fast_turn_miss_nothing(client):
    turn = client([f"{n} " for n in range(5000)]).ask()
    expected = [f"{n} " for n in range(5000)]

    async def collect():
        return [delta async for delta in turn]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(list, turn) for _ in range(3)]
        readers += [pool.submit(asyncio.run, collect()) for _ in range(3)]
        assert all(reader.result(60) == expected for reader in readers)


def test_a_timeout_leaves_the_turn_running(client, gate):
    turn = client(gate=gate).ask()
    with pytest.raises(TimeoutError, match="goes on"):
        turn.result(timeout_s=0.05)
    assert turn.state == "running"
    open_(gate)
    assert turn.result(5).text == "Hello"


def test_outside_a_listener_waiting_includes_the_listeners(client):
    one, seen = client(), []
    one.on(DONE, lambda event: (time.sleep(0.1), seen.append(event.payload.content)))
    assert one.ask().result().text == "Hello"
    assert seen == ["Hello"]


def test_waiting_includes_async_listeners(client):
    one, seen = client(), []

    @one.on(DONE)
    async def late(event):
        await asyncio.sleep(0.1)
        seen.append(event.payload.content)

    list(one.ask())
    assert seen == ["Hello"]


def test_storing_never_waits_for_a_listener(client):
    one, gate = client(), threading.Event()
    one.on(DELTA, lambda event: gate.wait(10))
    turn = one.ask()
    until(lambda: turn.state == "complete")
    with pytest.raises(TimeoutError):
        turn.result(0.05)
    gate.set()
    assert turn.result(5).text == "Hello"


def test_repr_and_state_and_partial_never_wait(client, gate):
    turn = client(["x" * 100], gate=gate).ask()
    until(lambda: turn.state == "running")
    assert repr(turn) == "<Turn running>"
    assert turn.partial == ""
    open_(gate)
    turn.result()
    assert repr(turn).startswith("<Turn complete 'xxx")
    assert len(repr(turn)) < 100


def test_reading_the_replys_attributes_on_a_turn_says_where_they_are(client):
    turn = client().ask()
    with pytest.raises(AttributeError, match=r"turn\.result\(\)\.text"):
        _ = turn.text
    with pytest.raises(AttributeError, match="no 'colour'"):
        _ = turn.colour
    assert not hasattr(turn, "usage")


# The five chaining scenarios: each deadlocks where a listener waits for listeners.


def test_a_listener_blocks_on_a_chained_turn_of_the_same_client(client):
    one, got = client(), []

    def chain(event):
        if not got:
            got.append(None)
            got[0] = one.ask(deltas=["again"]).result(10).text

    one.on(DONE, chain)
    one.ask().result(10)
    assert got == ["again"]


def test_a_listener_blocks_on_its_own_turn(client):
    one, got = client(), []
    one.on(DONE, lambda event: got.append(event.turn.result(10).text))
    one.on(DONE, lambda event: got.append("".join(event.turn)))
    one.ask().result(10)
    assert got == ["Hello", "Hello"]


def test_an_async_listener_awaits_a_chained_turn(client):
    one, got = client(), []

    @one.on(DONE)
    async def chain(event):
        if event.payload.content == "Hello":
            got.append((await one.ask(deltas=["again"])).text)
            got.append((await event.turn).text)
            got.extend([delta async for delta in event.turn])

    one.ask().result(10)
    assert got == ["again", "Hello", "Hel", "lo"]


def test_two_clients_wait_on_each_others_turns(client):
    one, two, got = client(), client(), []
    turns = {}
    ready = threading.Event()

    def cross(other):
        def listener(event):
            ready.wait(10)
            got.append(turns[other].result(10).text)

        return listener

    one.on(DONE, cross("two"))
    two.on(DONE, cross("one"))
    turns["one"], turns["two"] = one.ask(deltas=["1"]), two.ask(deltas=["2"])
    ready.set()
    assert [turn.result(10).text for turn in turns.values()] == ["1", "2"]
    assert sorted(got) == ["1", "2"]


def test_a_listener_chains_through_another_client_in_the_same_conversation(client):
    one = client()
    two, got = client(slot=one.slot), []
    one.on(DONE, lambda event: got.append(two.ask(deltas=["other"]).result(10).text))
    one.ask().result(10)
    assert got == ["other"]


def test_a_thread_call_of_an_async_listener_counts_as_the_listener(client):
    one, got = client(), []

    @one.on(DONE)
    async def chain(event):
        got.append((await asyncio.to_thread(event.turn.result, 5)).text)

    one.ask().result(10)
    assert got == ["Hello"]


def test_chained_deeply_all_turns_finish(client):
    one, texts = client(), []

    def chain(event):
        texts.append(event.payload.content)
        if len(texts) < 20:
            one.ask(deltas=[str(len(texts))])

    one.on(DONE, chain)
    one.ask().result()
    until(lambda: len(texts) == 20)
    assert texts[1:] == [str(n) for n in range(1, 20)]


# Cancelling


def test_cancel_keeps_what_had_come(client, gate):
    one = client(["a", "b"], pause_s=0.01)
    turn = one.ask(deltas=["a"] + ["b"] * 1000)
    assert next(iter(turn)) == "a"
    assert turn.cancel()
    reply = turn.result(5)
    assert reply.finish_reason == "cancelled"
    assert reply.text.startswith("a")
    assert turn.state == "cancelled"
    assert not turn.cancel()


def test_cancelled_before_anything_came_it_raises(client, gate):
    turn = client(gate=gate).ask()
    turn.cancel()
    with pytest.raises(TurnCancelledError):
        turn.result(5)
    with pytest.raises(TurnCancelledError):
        list(turn)
    assert turn.state == "cancelled"


def test_a_queued_turn_can_be_cancelled_and_the_next_one_runs(client, gate):
    one = client(gate=gate)
    first, second, third = one.ask(), one.ask(), one.ask()
    second.cancel()
    with pytest.raises(TurnCancelledError):
        second.result(5)
    assert first.state == "running"
    open_(gate)
    assert third.result(5).text == "Hello"


def test_a_turn_cancelled_before_its_task_began_is_cancelled():
    turn = Turn(client=None)
    turn.cancel()

    async def serve():
        turn._start(asyncio.current_task())
        await asyncio.sleep(30)

    loop.submit(serve())
    with pytest.raises(TurnCancelledError):
        turn.result(5)


def test_cancelling_twice_does_not_interrupt_the_storing_of_the_partial(client):
    one = client(["a"] * 1000, pause_s=0.005, store_s=0.2)
    turn = one.ask()
    next(iter(turn))
    turn.cancel()
    time.sleep(0.05)
    turn.cancel()
    assert turn.result(5).finish_reason == "cancelled"


def test_cancel_never_cancels_what_other_waiters_hold(client):
    turn = client(["a"] * 1000, pause_s=0.005).ask()
    next(iter(turn))

    async def main():
        waiting = asyncio.ensure_future(turn)
        await asyncio.sleep(0.02)
        turn.cancel()
        return await waiting

    assert asyncio.run(main()).finish_reason == "cancelled"


def test_a_cancelled_awaiter_cancels_the_turn_and_gets_its_own_exception_back(client):
    one = client(["a"] * 1000, pause_s=0.005, store_s=0.1)
    turn = one.ask()
    next(iter(turn))
    caught = []

    async def awaiter():
        try:
            await turn
        except asyncio.CancelledError as error:
            caught.append(error)
            assert one.partials, "the partial is stored before the exception goes on"
            raise

    async def main():
        task = asyncio.create_task(awaiter())
        await asyncio.sleep(0.05)
        task.cancel("stop it")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert caught[0].args == ("stop it",)
    assert turn.result(1).finish_reason == "cancelled"


def test_wait_for_times_out_and_the_partial_is_kept(client):
    turn = client(["a"] * 10000, pause_s=0.005).ask()

    async def cell():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(turn, 0.1)
        return "alive"

    assert asyncio.run(cell()) == "alive"
    assert turn.result(1).text.startswith("aaa")


def test_a_shielded_turn_goes_on_after_the_timeout(client, gate):
    turn = client(gate=gate).ask()

    async def cell():
        inner = asyncio.ensure_future(turn)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(inner), 0.05)
        open_(gate)
        return (await inner).text

    assert asyncio.run(cell()) == "Hello"


def test_a_partial_that_is_slow_to_store_is_waited_for_one_second_only(client):
    turn = client(["a"] * 1000, pause_s=0.005, store_s=15.0).ask()
    next(iter(turn))

    async def cell():
        await asyncio.wait_for(turn, 0.05)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(cell())
    assert 0.9 < time.monotonic() - began < 10


def test_cancelled_async_iteration_keeps_the_partial(client):
    turn = client(["a"] * 1000, pause_s=0.005).ask()

    async def read():
        async for _ in turn:
            pass

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(), 0.05)

    asyncio.run(main())
    assert turn.state == "cancelled"


def test_breaking_out_of_an_iteration_leaves_the_turn_running(client):
    turn = client(["a", "b"], pause_s=0.02).ask()
    for _ in turn:
        break
    assert turn.result(5).text == "ab"


def test_on_cancel_undelivered_deltas_are_dropped(client):
    one, seen, gate = client(["x"] * 200000, pause_s=0.0), [], threading.Event()
    one.on(DELTA, lambda event: (seen.append(event), gate.wait(10)))
    turn = one.ask()
    until(lambda: seen and len(turn.partial) > 100)
    turn.cancel(wait_s=1)
    gate.set()
    turn.result(5)
    assert len(seen) == 1
    assert one.dispatcher.discarded > 0


def test_a_broken_stream_raises_with_the_partial(client):
    error = StreamBrokenError("the stream stopped", reply=Reply(text="Hel"))
    turn = client(["Hel"], error=error).ask()
    with pytest.raises(StreamBrokenError) as caught:
        turn.result(5)
    assert caught.value.reply.text == "Hel"
    assert turn.state == "partial"
    got = []
    with pytest.raises(StreamBrokenError):
        got.extend(turn)


def test_an_error_raised_often_does_not_grow_its_traceback(client):
    turn = client([], error=RateLimitError("slow down")).ask()
    depths = []
    for _ in range(3):
        with pytest.raises(RateLimitError) as caught:
            turn.result(5)
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


def test_a_client_task_that_dies_leaves_no_one_waiting():
    async def broken(turn):
        turn._start(asyncio.current_task())
        raise ValueError("bug")

    async def silent(turn):
        turn._start(asyncio.current_task())

    one, two = Turn(client=None), Turn(client=None)
    loop.submit(broken(one))
    loop.submit(silent(two))
    with pytest.raises(ValueError, match="bug"):
        one.result(5)
    with pytest.raises(TurnError, match="without a reply"):
        two.result(5)


def test_blocking_on_the_background_loop_is_refused(client, gate):
    turn = client(gate=gate).ask()

    async def block():
        turn.result()

    with pytest.raises(TurnError, match="await"):
        loop.submit(block()).result(5)


def test_awaiting_on_the_background_loop_works(client):
    turn = client(pause_s=0.01).ask()

    async def follow():
        return (await turn).text

    assert loop.submit(follow()).result(5) == "Hello"


# Interrupts


def drain(turn):
    for _ in turn:
        pass


def interrupt_while_waiting():
    """Interrupt the main thread once it waits for a turn, however long a busy machine takes until then."""
    main = threading.main_thread().ident

    def waits():
        frame = sys._current_frames()[main]
        names = []
        while frame is not None:
            names.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back
        return names[0] == (threading.__file__, "wait") and (loop.__file__, "block") in names

    def work():
        until(waits, limit_s=PATIENCE_S)
        signal.raise_signal(signal.SIGINT) if os.name == "nt" else os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def then_silence(one, text):
    """One delta, and a pause that only a cancellation ends."""
    yield text
    one.pause_s = 3600
    yield "never"


@pytest.mark.parametrize(
    "wait", [lambda t: t.result(), drain, lambda t: gather([t], progress=False), lambda t: t.show(wait=True)]
)
def test_an_interrupt_stores_the_partial_and_goes_on(client, wait, capsys):
    one = client()
    turn = one.ask(deltas=then_silence(one, "a"))
    next(iter(turn))
    interrupt = interrupt_while_waiting()
    with pytest.raises(KeyboardInterrupt):
        wait(turn)
    interrupt.join()
    assert turn.result(PATIENCE_S).finish_reason == "cancelled"
    assert one.partials == [turn.result().text] == ["a"]


def test_interrupting_a_silent_wait_is_noticed(client, gate):
    turn = client(gate=gate).ask()
    interrupt = interrupt_while_waiting()
    with pytest.raises(KeyboardInterrupt):
        turn.result()
    interrupt.join()
    with pytest.raises(TurnCancelledError):
        turn.result(PATIENCE_S)


@pytest.mark.parametrize(
    ("wait", "door"),
    [
        (lambda t: t.result(), "turn.py"),
        (drain, "follow.py"),
        (lambda t: gather([t], progress=False), "turn.py"),
        (lambda t: t.show(wait=True), "turn.py"),
    ],
)
def test_an_interrupts_traceback_ends_where_the_wait_begins(client, gate, capsys, wait, door):
    # A notebook parses the file of every frame before the cell ends.
    turn = client(gate=gate).ask()
    interrupt = interrupt_while_waiting()
    with pytest.raises(KeyboardInterrupt) as caught:
        wait(turn)
    interrupt.join()
    assert frames_of(caught.value) - {"test_turn.py"} == {door}


async def drain_async(turn):
    async for _ in turn:
        pass


@pytest.mark.parametrize(("wait", "door"), [(Turn._wait, "turn.py"), (drain_async, "follow.py")])
def test_a_cancelled_awaits_traceback_ends_where_the_wait_begins(client, gate, wait, door):
    turn = client(gate=gate).ask()

    async def main():
        task = asyncio.ensure_future(wait(turn))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return frames_of(caught.value)

    assert asyncio.run(main()) - {"test_turn.py"} == {door}


def frames_of(error):
    return {Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)}


def test_an_interrupt_while_only_listeners_run_keeps_the_reply(client):
    one, gate = client(), threading.Event()
    one.on(DONE, lambda event: gate.wait(10))
    turn = one.ask()
    until(lambda: turn.state == "complete")
    interrupt = interrupt_while_waiting()
    with pytest.raises(KeyboardInterrupt):
        turn.result()
    interrupt.join()
    gate.set()
    assert turn.result(PATIENCE_S).text == "Hello"


def test_ctrl_c_in_asyncio_run_ends_a_blocking_wait_inside_it(client):
    one = client()
    turn = one.ask(deltas=then_silence(one, "a"))

    async def main():
        turn.result()  # a sync call in async code: its loop cannot run the handler's cancellation

    interrupt = interrupt_while_waiting()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    interrupt.join()
    until(lambda: one.partials, limit_s=PATIENCE_S)


# A failure nobody saw


def test_a_failure_nobody_looked_at_is_reported_once_in_the_askers_context(client, capsys):
    turn = client([], error=RateLimitError("slow down")).ask()
    until(lambda: turn._seen, limit_s=GRACE_S + 5)
    assert capsys.readouterr().err == "voxnb: turn failed: RateLimitError: slow down (.result() raises it)\n"
    with pytest.raises(RateLimitError):
        turn.result()
    turn._report_unseen()  # as at exit
    assert capsys.readouterr().err == ""


def test_an_answer_that_broke_and_nobody_looked_at_is_reported_too(client, grace, capsys):
    turn = client(["Hel"], error=StreamBrokenError("connection lost", reply=Reply(text="Hel"))).ask()
    grace(turn)
    assert turn.state == "partial"
    assert capsys.readouterr().err == (
        "voxnb: turn stopped half way: StreamBrokenError: connection lost (.result() raises it)\n"
    )


@pytest.mark.parametrize(
    ("wait", "loads"), [(lambda t: t.show(wait=True), "config.load"), (lambda t: gather([t, t]), "following")]
)
def test_an_interrupt_while_what_shows_is_loaded_stops_the_turn(client, gate, monkeypatch, wait, loads):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    turn = client(["a"], gate=gate).ask()
    monkeypatch.setattr(f"voxnb.clients.turn.{loads}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wait(turn)
    assert turn.state == "cancelled"


@pytest.mark.parametrize(
    "look", [lambda t: t.result(5), list, lambda t: asyncio.run(asyncio.wait_for(t, 5)), lambda t: gather([t])]
)
def test_a_failure_that_was_waited_for_is_not_reported(client, grace, capsys, look):
    turn = client([], error=RateLimitError("slow down")).ask()
    with contextlib.suppress(RateLimitError):
        look(turn)
    grace(turn)
    assert capsys.readouterr().err == ""


def test_a_wait_that_timed_out_does_not_count_as_looking(client, gate, grace, capsys):
    turn = client(["a"], error=RateLimitError("slow down"), gate=gate).ask()
    with pytest.raises(TimeoutError):
        turn.result(0.01)
    open_(gate)
    grace(turn)
    assert "slow down" in capsys.readouterr().err


def test_a_failure_heard_by_a_listener_is_not_reported(client, grace, capsys):
    one, heard = client([], error=RateLimitError("slow down")), []
    one.on(ERROR, heard.append)
    turn = one.ask()
    until(lambda: heard)
    grace(turn)
    assert capsys.readouterr().err == ""


def test_a_cancelled_turn_is_no_failure(client, gate, grace, capsys):
    turn = client(gate=gate).ask()
    turn.cancel(wait_s=1)
    grace(turn)
    assert capsys.readouterr().err == ""


def run_script(body):
    code = textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


PREAMBLE = """
import asyncio, os, sys, time, threading
from voxnb.clients.turn import Turn, Reply
from voxnb.errors import RateLimitError
from voxnb.runtime import loop
async def fail(turn):
    turn._start(asyncio.current_task())
    turn._store(error=RateLimitError("slow down"))
    turn._deliver()
async def forever(turn):
    turn._start(asyncio.current_task())
    turn._push("a")
    await asyncio.sleep(100)
"""


def test_a_script_that_ends_at_once_still_tells_of_the_failure():
    done = run_script(PREAMBLE + "turn = Turn(client=None)\nloop.submit(fail(turn)).result()\n")
    assert (done.returncode, done.stderr) == (
        0,
        "voxnb: turn failed: RateLimitError: slow down (.result() raises it)\n",
    )


def test_a_script_with_a_running_turn_exits_cleanly_and_soon():
    began = time.monotonic()
    done = run_script(PREAMBLE + "turn = Turn(client=None)\nloop.submit(forever(turn))\nnext(iter(turn))\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_forked_child_an_inherited_turn_is_refused_and_new_ones_work():
    done = run_script(
        PREAMBLE
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads
async def work(turn):
    turn._start(asyncio.current_task())
    turn._store(Reply(text="child"))
    turn._deliver()
old = Turn(client=None); loop.submit(forever(old)); next(iter(old))
pid = os.fork()
if pid == 0:
    try:
        old.result(5)
    except Exception as error:
        print(type(error).__name__, flush=True)
    new = Turn(client=None); loop.submit(work(new)); print(new.result(5), flush=True)
    sys.exit(0)
os.waitpid(pid, 0)
time.sleep(0.05)
old.cancel()
try:
    old.result(5)
except Exception as error:
    print("parent", type(error).__name__)
"""
    )
    assert done.stdout.split() == ["TurnError", "child", "parent", "TurnCancelledError"], done.stderr
    assert done.stderr == ""


# gather


def test_gather_keeps_errors_in_place_and_tells_its_progress(client):
    good, bad = client(pause_s=0.02), client([], error=RateLimitError("slow down"))
    calls = []
    results = gather([good.ask(), bad.ask(), good.ask()], progress=lambda done, total: calls.append((done, total)))
    assert [str(results[0]), type(results[1]), str(results[2])] == ["Hello", RateLimitError, "Hello"]
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_gather_takes_one_turn_too(client):
    assert [str(reply) for reply in gather(client().ask())] == ["Hello"]


def test_gather_shows_a_bar_when_asked(client, capsys):
    pytest.importorskip("tqdm")
    gather([client().ask()], progress=True)
    assert "1/1" in capsys.readouterr().err


def test_gather_is_silent_in_scripts_and_takes_nothing_else_than_turns(client, capsys):
    assert gather([]) == []
    gather([client().ask(), client().ask()])
    assert capsys.readouterr().err == ""
    with pytest.raises(TypeError, match="ask"):
        gather(["Hello"])
    with pytest.raises(TypeError, match="gather takes turns, got 5"):
        gather(5)


# The reply


def test_a_reply_is_a_value():
    reply = Reply(text="Hi", usage=Usage(3, 4), finish_reason="stop", turn="t1", plan_source=lambda: "the plan")
    assert str(reply) == f"{reply}" == "Hi"
    assert reply == Reply(text="Hi", usage=Usage(3, 4), finish_reason="stop", turn="t1")
    assert repr(reply) == "<Reply 'Hi' finish_reason='stop' tokens=7>"
    assert reply.plan == "the plan"
    assert len({reply, reply}) == 1
    copy = pickle.loads(pickle.dumps(reply))
    assert copy == reply
    with pytest.raises(TurnError, match="no plan"):
        _ = copy.plan
    with pytest.raises(AttributeError):
        reply.text = "x"


def test_the_repr_of_a_reply_is_short_and_tells_its_warnings():
    reply = Reply(text="word " * 1000, warnings=("the summary failed: no key",))
    assert len(repr(reply)) < 160
    assert "warning: the summary failed" in repr(reply)


# Cost and context


def test_a_turn_remembers_the_context_it_was_made_in():
    variable = contextvars.ContextVar("variable")
    variable.set("cell 1")
    turn = Turn(client=None)
    variable.set("cell 2")
    assert turn.context[variable] == "cell 1"


def test_the_clients_task_runs_in_an_empty_context():
    variable = contextvars.ContextVar("variable", default=None)
    variable.set("cell")

    async def look():
        return variable.get()

    assert loop.submit(look()).result(5) is None


def test_turns_that_are_done_are_collected(client):
    one = client()
    before = sum(type(o) is Turn for o in gc.get_objects())  # not isinstance: that asks dead proxies
    for _ in range(50):
        one.ask().result()
    one.slot.last = None
    gc.collect()
    assert sum(type(o) is Turn for o in gc.get_objects()) - before <= 2


def test_a_pushed_delta_costs_about_an_append():
    turn, calls = Turn(client=None), []
    sys.setprofile(lambda _frame, event, function: calls.append((event, function)))
    try:
        for _ in range(1_000):
            turn._push("x")
    finally:
        sys.setprofile(None)
    assert len(calls) <= 8_000, "at most four calls a delta, however much has come"
    assert turn.partial == "x" * 1_000
