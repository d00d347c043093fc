"""Listeners: order, context, ownership, stickiness, failure; on real listener threads."""

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import time
import warnings
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxnb.errors import ClientClosedError
from voxnb.events import ChatCompletionsAPIEvents, ContextEvents, Event, RealtimeAPIEvents
from voxnb.runtime import cells, lane, loop
from voxnb.runtime.dispatch import Dispatcher, in_listener

DELTA = ChatCompletionsAPIEvents.ContentDelta
DONE = ChatCompletionsAPIEvents.ContentDone
CHUNK = ChatCompletionsAPIEvents.Chunk
ERROR = ChatCompletionsAPIEvents.ChatCompletionsAPIError
INFO = ChatCompletionsAPIEvents.ConnectorInformation

variable = contextvars.ContextVar("variable", default="none")


class Client:
    pass


@pytest.fixture
def dispatcher():
    one = Dispatcher(
        client=Client(), client_id="c1", known=[ChatCompletionsAPIEvents, ContextEvents], sticky=frozenset([INFO.value])
    )
    yield one
    one.close()


def emit(dispatcher, name, payload=None, *, context=None, turn=None):
    dispatcher.emit(name.value, payload or {}, context=context, turn=turn)


def settle(dispatcher, **options):
    """Wait for everything emitted before."""
    done = threading.Event()
    loop.call_soon(dispatcher.barrier, done.set) if not options else loop.call_soon(
        lambda: dispatcher.barrier(done.set, **options)
    )
    assert done.wait(10), "the barrier was never passed"


def until(condition, *, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


# Order


def test_listeners_are_called_in_registration_order_one_event_at_a_time(dispatcher):
    seen = []
    for n in range(3):
        dispatcher.add(DELTA, lambda event, n=n: seen.append((event.payload.delta, n)))
    for n in range(50):
        emit(dispatcher, DELTA, {"delta": n})
    settle(dispatcher)
    assert seen == [(n, m) for n in range(50) for m in range(3)]
    assert dispatcher.delivered == 50


def test_an_event_is_what_voxengine_hands_out(dispatcher):
    seen = []
    dispatcher.add(DELTA, seen.append)
    turn = object()
    emit(dispatcher, DELTA, {"delta": "Hi"}, turn=turn)
    settle(dispatcher)
    (event,) = seen
    assert isinstance(event, Event)
    assert (event.name, event.id, event.data.customEvent, event.late) == (DELTA.value, "c1", "ContentDelta", False)
    assert type(event.name) is str
    assert event.data.payload.delta == event.payload["delta"] == "Hi"
    assert isinstance(event.client, Client)
    assert event.turn is turn


def test_async_listeners_start_in_order_and_do_not_hold_up_the_next_event(dispatcher):
    seen, gate = [], []

    @dispatcher.on(DELTA)
    async def slow(event):
        seen.append(f"start {event.payload.delta}")
        gate.append(asyncio.Event())
        await gate[0].wait()
        seen.append(f"end {event.payload.delta}")

    dispatcher.add(DELTA, lambda event: seen.append(f"sync {event.payload.delta}"))
    dispatcher.add(DONE, lambda event: gate[0].set())
    for n in range(2):
        emit(dispatcher, DELTA, {"delta": n})
    emit(dispatcher, DONE)
    settle(dispatcher)
    assert seen == ["start 0", "sync 0", "start 1", "sync 1", "end 0", "end 1"]


def test_a_task_that_a_sync_listener_returns_is_part_of_the_event(dispatcher):
    seen = []

    async def work():
        await asyncio.sleep(0.02)
        seen.append("worked")

    dispatcher.add(DELTA, lambda event: asyncio.create_task(work()))
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert seen == ["worked"]


def test_something_awaitable_that_is_no_coroutine_is_left_alone(dispatcher):
    class Handle:
        def __await__(self):
            raise AssertionError("nobody asked for this")

    dispatcher.add(DELTA, lambda event: Handle())
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert dispatcher.failures == []


def test_nothing_on_the_io_path_waits_for_a_listener(dispatcher):
    gate = threading.Event()
    dispatcher.add(DELTA, lambda event: gate.wait(10))
    began = time.perf_counter()
    for _ in range(10_000):
        emit(dispatcher, DELTA)
    assert time.perf_counter() - began < 9
    assert dispatcher.queued >= 9_998
    gate.set()
    settle(dispatcher)
    assert (dispatcher.queued, dispatcher.delivered) == (0, 10_000)


def test_the_listener_thread_is_one_daemon_thread_and_starts_with_the_first_event(dispatcher):
    before = {t for t in threading.enumerate() if t.name.startswith("voxnb-listeners-c1")}
    threads = set()
    dispatcher.add(DELTA, lambda event: threads.add(threading.current_thread()))
    assert {t for t in threading.enumerate() if t.name.startswith("voxnb-listeners-c1")} == before
    for _ in range(3):
        emit(dispatcher, DELTA)
        settle(dispatcher)
    assert len(threads) == 1
    assert threads.pop().daemon


def test_no_executor_is_used(dispatcher):
    dispatcher.add(DELTA, lambda event: None)
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert not [t for t in threading.enumerate() if "ThreadPool" in t.name or t.name.startswith("asyncio_")]


# The event is built for listeners only


def test_without_a_listener_the_event_is_never_built(dispatcher, monkeypatch):
    def never(*_, **__):
        raise AssertionError("built")

    monkeypatch.setattr(lane, "Delivery", never)
    monkeypatch.setattr("voxnb.runtime.dispatch.Delivery", never)
    emit(dispatcher, DELTA)
    assert dispatcher.queued == 0


def test_wanted_names_what_has_a_listener_now(dispatcher):
    assert dispatcher.wanted == frozenset()
    dispatcher.add(DELTA, print)
    handle = dispatcher.wait_for(DONE, timeout_s=0)
    before = dispatcher.wanted
    assert before == {DELTA.value, DONE.value}
    with pytest.raises(TimeoutError):
        handle.result()
    dispatcher.remove(DELTA)
    assert dispatcher.wanted == frozenset()
    assert before == {DELTA.value, DONE.value}


def test_two_who_begin_to_watch_at_once_both_see(dispatcher):
    class Gate:
        """The lock, for which the first has to wait until the second has it behind it."""

        def __enter__(self):
            if waiting:
                waiting.pop()()
            return lock.__enter__()

        def __exit__(self, *facts):
            return lock.__exit__(*facts)

    seen, lock = [], dispatcher._lock
    waiting = [lambda: dispatcher.watch(lambda *_: seen.append("second"))]
    dispatcher._lock = Gate()
    end = dispatcher.watch(lambda *_: seen.append("first"))
    emit(dispatcher, DELTA)
    assert sorted(seen) == ["first", "second"]
    end()
    emit(dispatcher, DELTA)
    assert sorted(seen) == ["first", "second", "second"]


def test_a_listener_added_after_the_request_gets_what_follows(dispatcher):
    seen = []
    dispatcher.add(DONE, print)
    emit(dispatcher, DELTA, {"delta": 1})
    dispatcher.add(DELTA, lambda event: seen.append(event.payload.delta))
    emit(dispatcher, DELTA, {"delta": 2})
    settle(dispatcher)
    assert seen == [2]


# Registration


def test_a_callback_that_cannot_be_called_is_a_type_error_at_once(dispatcher):
    with pytest.raises(TypeError, match="ContentDelta is 'print'"):
        dispatcher.add(DELTA, "print")
    with pytest.raises(TypeError, match="give a constant"):
        dispatcher.add(None, print)

    def generator(event):
        yield event

    with pytest.raises(TypeError, match="yield"):
        dispatcher.add(DELTA, generator)


def test_an_unknown_event_warns_with_the_nearest_name_at_the_users_line(dispatcher):
    with pytest.warns(UserWarning, match=r"did you mean 'OpenAI\.ChatCompletionsAPI\.ContentDelta'") as caught:
        dispatcher.add("OpenAI.ChatCompletionsAPI.ContentDleta", print)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"did you mean 'OpenAI\.ChatCompletionsAPI\.ContentDone'") as caught:
        dispatcher.on("ContentDone", print)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="not an event of this client"):
        dispatcher.add(RealtimeAPIEvents.SessionCreated, print)
    assert "OpenAI.ChatCompletionsAPI.ContentDleta" in dispatcher.wanted


def test_on_is_a_decorator_and_a_call(dispatcher):
    seen = []

    @dispatcher.on(DELTA)
    def listener(event):
        seen.append("decorated")

    assert dispatcher.on(DELTA, seen.append) == seen.append
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert seen[0] == "decorated"
    assert len(seen) == 2
    listener(None)


def test_the_identical_callable_is_called_once(dispatcher):
    seen = []

    class Listener:
        def method(self, event):
            seen.append("method")

    one, other = Listener(), Listener()

    def function(event):
        seen.append("function")

    for _ in range(2):
        dispatcher.add(DELTA, function)
        dispatcher.add(DELTA, one.method)
        dispatcher.add(DELTA, seen.append)
    dispatcher.add(DELTA, other.method)
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert len(seen) == 4
    assert seen.count("method") == 2


def test_equal_but_not_identical_callables_are_both_called(dispatcher):
    seen = []

    class Equal:
        def __eq__(self, other):
            return True

        __hash__ = None

        def __call__(self, event):
            seen.append(1)

    dispatcher.add(DELTA, Equal())
    dispatcher.add(DELTA, Equal())
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert seen == [1, 1]


def test_removing_takes_one_or_all_and_nothing_queued_comes_any_more(dispatcher):
    seen, gate = [], threading.Event()

    def first(event):
        gate.wait(10)
        seen.append("first")
        dispatcher.remove(DELTA, second)

    def second(event):
        seen.append("second")

    def third(event):
        seen.append("third")

    for listener in (first, second, third):
        dispatcher.add(DELTA, listener)
    emit(dispatcher, DELTA)
    emit(dispatcher, DELTA)
    gate.set()
    settle(dispatcher)
    assert seen == ["first", "third", "first", "third"]
    dispatcher.remove(DELTA)
    dispatcher.remove(DELTA, second)
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert len(seen) == 4


# Context


def test_listeners_run_in_a_copy_of_the_requests_context(dispatcher):
    seen = []

    def listener(event):
        seen.append(variable.get())
        variable.set("changed")

    dispatcher.add(DELTA, listener)
    request = contextvars.copy_context()
    request.run(variable.set, "request")
    emit(dispatcher, DELTA, context=request)
    emit(dispatcher, DELTA, context=request)
    settle(dispatcher)
    assert seen == ["request", "request"]
    assert request[variable] == "request"


def test_async_listeners_keep_the_requests_context_over_awaits(dispatcher):
    seen = []

    @dispatcher.on(DELTA)
    async def listener(event):
        await asyncio.sleep(0.01)
        seen.append(variable.get())

    request = contextvars.copy_context()
    request.run(variable.set, "request")
    emit(dispatcher, DELTA, context=request)
    settle(dispatcher)
    assert seen == ["request"]


def test_an_event_without_a_request_runs_where_the_listener_was_registered(dispatcher):
    seen = []
    here = contextvars.copy_context()
    here.run(variable.set, "registering")
    here.run(dispatcher.add, DELTA, lambda event: seen.append(variable.get()))
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert seen == ["registering"]


def test_in_listener_is_true_in_listeners_and_what_they_start(dispatcher):
    seen = {}

    @dispatcher.on(DELTA)
    async def listener(event):
        seen["async"] = in_listener()
        seen["task"] = await asyncio.create_task(told(), context=contextvars.Context())
        seen["thread"] = await asyncio.to_thread(in_listener)

    async def told():
        return in_listener()

    dispatcher.add(DELTA, lambda event: seen.update(sync=in_listener()))
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert seen == {"async": True, "sync": True, "task": True, "thread": True}
    assert not in_listener()


# Ownership


class Shell:
    """What of IPython's shell tells the running cell."""

    kernel = None

    def __init__(self):
        self.parent = {}

    def get_parent(self):
        return self.parent

    def run(self, cell_id, execution):
        metadata = {} if cell_id is None else {"cellId": cell_id}
        self.parent = {"header": {"msg_id": execution}, "metadata": metadata}


@pytest.fixture
def shell(monkeypatch):
    one = Shell()
    monkeypatch.setattr(cells, "shell", lambda: one)
    return one


def heard(dispatcher):
    seen = []
    for registrations in dispatcher._listeners.values():
        seen += [r.callback.__name__ for r in registrations]
    return seen


def named(name):
    def listener(event):
        pass

    listener.__name__ = name
    return listener


def test_running_a_cell_again_replaces_its_listeners(dispatcher, shell):
    shell.run("a", "1")
    dispatcher.add(DELTA, named("a1 delta"))
    dispatcher.add(DONE, named("a1 done"))
    shell.run("b", "2")
    dispatcher.add(DELTA, named("b2 delta"))
    assert heard(dispatcher) == ["a1 delta", "b2 delta", "a1 done"]
    shell.run("a", "3")
    dispatcher.add(DELTA, named("a3 delta"))
    dispatcher.add(DELTA, named("a3 delta too"))
    assert heard(dispatcher) == ["b2 delta", "a3 delta", "a3 delta too"]


def test_a_late_registration_of_an_old_execution_takes_nothing_away(dispatcher, shell):
    shell.run("a", "1")
    dispatcher.add(DELTA, named("a1"))
    shell.run("a", "2")
    dispatcher.add(DELTA, named("a2"))
    shell.run("a", "1")
    dispatcher.add(DELTA, named("a1 late"))
    assert heard(dispatcher) == ["a2", "a1 late"]


def test_a_callable_of_two_cells_stays_until_both_gave_it_up(dispatcher, shell):
    shared = named("shared")
    shell.run("a", "1")
    dispatcher.add(DELTA, shared)
    shell.run("b", "2")
    dispatcher.add(DELTA, shared)
    assert heard(dispatcher) == ["shared"]
    shell.run("a", "3")
    dispatcher.add(DONE, named("other"))
    assert heard(dispatcher) == ["shared", "other"]
    shell.run("b", "4")
    dispatcher.add(DONE, named("last"))
    assert heard(dispatcher) == ["other", "last"]


def test_without_a_cell_id_only_the_identical_callable_is_not_added_twice(dispatcher, shell):
    same = named("same")
    for execution in ("1", "2"):
        shell.run(None, execution)
        dispatcher.add(DELTA, same)
        dispatcher.add(DELTA, named("lambda"))
    assert heard(dispatcher) == ["same", "lambda", "lambda"]


def test_two_clients_do_not_share_a_cells_listeners(dispatcher, shell):
    other = Dispatcher(client=None, client_id="c2", known=[ChatCompletionsAPIEvents], sticky=frozenset())
    shell.run("a", "1")
    dispatcher.add(DELTA, named("one"))
    shell.run("a", "2")
    other.add(DELTA, named("two"))
    assert heard(dispatcher) == ["one"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.sampled_from("xyz")), max_size=25))
def test_after_any_history_each_cells_newest_execution_is_what_is_heard(history):
    dispatcher = Dispatcher(client=None, client_id="c", known=[ChatCompletionsAPIEvents], sticky=frozenset())
    one = Shell()
    listeners = {name: named(name) for name in "xyz"}
    executions = dict.fromkeys("ab", 0)
    held = {"a": set(), "b": set()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "shell", lambda: one)
        for cell, again, name in history:
            if again == 0:
                executions[cell] += 1
            one.run(cell, str(executions[cell]))
            fresh = (cell, executions[cell]) not in held
            if fresh:
                held[cell] = set()
                held[cell, executions[cell]] = True
            held[cell].add(name)
            dispatcher.add(DELTA, listeners[name])
    assert sorted(heard(dispatcher)) == sorted(held["a"] | held["b"])


# Stickiness


def test_a_sticky_event_reaches_later_listeners_at_once_and_says_late(dispatcher):
    seen = []
    payload = {"session": {"id": "s"}}
    emit(dispatcher, INFO, payload)
    payload["session"]["id"] = "changed by the owner"
    dispatcher.add(
        INFO,
        lambda event: (
            seen.append((event.late, event.payload["session"]["id"])),
            event.payload.session.clear(),
            event.payload["session"].clear(),
        ),
    )
    dispatcher.add(INFO, lambda event: seen.append((event.late, event.payload["session"]["id"])))
    settle(dispatcher)
    assert seen == [(True, "s"), (True, "s")]


def test_a_sticky_event_comes_exactly_once_to_everyone_however_they_race(dispatcher):
    counts = [0] * 200
    stop = threading.Event()

    def register():
        for n in range(200):
            dispatcher.add(INFO, lambda event, n=n: counts.__setitem__(n, counts[n] + 1))
            if n == 100:
                stop.set()

    thread = threading.Thread(target=register)
    thread.start()
    stop.wait(10)
    emit(dispatcher, INFO)
    thread.join()
    settle(dispatcher)
    assert counts == [1] * 200


def test_a_sticky_event_keeps_its_order_with_what_follows(dispatcher):
    seen = []
    emit(dispatcher, INFO, {"n": 1})
    dispatcher.add(INFO, lambda event: seen.append((event.payload.n, event.late)))
    emit(dispatcher, INFO, {"n": 2})
    settle(dispatcher)
    assert seen == [(1, True), (2, False)]


def test_a_sticky_event_reaches_listeners_that_come_after_the_close_and_their_thread_ends(dispatcher):
    emit(dispatcher, INFO, {"n": 1})
    dispatcher.close()
    seen, told = [], threading.Event()

    def listener(event):
        seen.append((event.payload.n, event.late, threading.current_thread()))
        told.set()

    dispatcher.add(INFO, listener)
    assert told.wait(10)
    ((n, late, thread),) = seen
    assert (n, late) == (1, True)
    thread.join(10)
    assert not thread.is_alive()


def test_a_sticky_event_is_kept_until_the_one_that_ends_it():
    sticky = frozenset({INFO.value})
    dispatcher = Dispatcher(
        client="c", client_id="c1", known=[ChatCompletionsAPIEvents], sticky=sticky, ends={DELTA.value: INFO.value}
    )
    seen = []
    emit(dispatcher, INFO, {"n": 1})
    dispatcher.add(INFO, lambda event: seen.append(("first", event.late)))
    emit(dispatcher, DELTA)
    dispatcher.add(INFO, lambda event: seen.append(("second", event.late)))
    emit(dispatcher, INFO, {"n": 2})
    settle(dispatcher)
    dispatcher.close()
    assert seen == [("first", True), ("first", False), ("second", False)]


# Failure


def test_a_listener_that_raises_is_reported_in_its_cell_and_stops_nothing(dispatcher, capsys):
    seen = []

    def broken(event):
        raise ValueError("no\nsuch luck")

    dispatcher.add(DELTA, broken)
    dispatcher.add(DELTA, lambda event: seen.append(1))
    emit(dispatcher, DELTA)
    settle(dispatcher)
    err = capsys.readouterr().err
    assert err.startswith("voxnb: listener ")
    assert "broken of ContentDelta raised ValueError: no such luck (" in err
    assert err.count("\n") == 1
    assert f"{__file__}:" in err
    assert seen == [1]
    (failure,) = dispatcher.failures
    assert (failure.event, failure.callback, str(failure.error)) == (DELTA.value, broken, "no\nsuch luck")


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), RecursionError("deep")]
)
def test_no_base_exception_leaves_a_listener(dispatcher, capsys, error):
    seen = []

    def broken(event):
        raise error

    dispatcher.add(DELTA, broken)
    dispatcher.add(DELTA, lambda event: seen.append(1))
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert type(error).__name__ in capsys.readouterr().err
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert seen == [1, 1]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("bad")])
def test_an_async_listener_that_raises_is_reported_and_the_thread_lives(dispatcher, capsys, error):
    seen = []

    @dispatcher.on(DELTA)
    async def broken(event):
        await asyncio.sleep(0.01)
        raise error

    dispatcher.add(DONE, lambda event: seen.append(1))
    emit(dispatcher, DELTA)
    settle(dispatcher)
    emit(dispatcher, DONE)
    settle(dispatcher)
    assert type(error).__name__ in capsys.readouterr().err
    assert seen == [1]


def test_a_task_of_user_code_that_exits_does_not_end_the_thread(dispatcher, capsys):
    seen, kept = [], []

    async def leave():
        sys.exit(1)

    def listener(event):
        kept.append(asyncio.create_task(leave()))

    dispatcher.add(DELTA, listener)
    dispatcher.add(DONE, lambda event: seen.append(1))
    emit(dispatcher, DELTA)
    settle(dispatcher)
    time.sleep(0.05)
    emit(dispatcher, DONE)
    settle(dispatcher)
    assert seen == [1]
    assert "SystemExit" in capsys.readouterr().err
    with contextlib.suppress(SystemExit):
        kept[0].exception()


@pytest.mark.parametrize("before_the_end", [False, True], ids=["while they run", "when all have run"])
def test_the_same_failure_again_and_again_prints_two_lines(dispatcher, capsys, before_the_end):
    turn = object()
    dispatcher.add(DELTA, lambda event: 1 / 0)
    for _ in range(1000):
        emit(dispatcher, DELTA, turn=turn)
    if before_the_end:
        until(lambda: dispatcher.delivered == 1000)
    settle(dispatcher, turn=turn)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "failed 1000 times" in lines[1]
    assert dispatcher.failures[0].count == 1000
    emit(dispatcher, DELTA, turn=object())
    settle(dispatcher)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_failures_are_told_to_the_client_for_its_event_log():
    told = []
    dispatcher = Dispatcher(
        client=None,
        client_id="c",
        known=[ChatCompletionsAPIEvents],
        sticky=frozenset(),
        on_failure=lambda f: told.append((f.event, loop.on_loop())),
    )
    dispatcher.add(DELTA, lambda event: 1 / 0)
    emit(dispatcher, DELTA)
    settle(dispatcher)
    until(lambda: told)
    assert told == [(DELTA.value, True)]
    dispatcher.close()


def test_an_error_that_cannot_be_written_is_reported_all_the_same(dispatcher, capsys):
    class AwkwardError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def broken(event):
        raise AwkwardError

    dispatcher.add(DELTA, broken)
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert "AwkwardError" in capsys.readouterr().err


# wait_for


def test_wait_for_gives_the_next_event_blocking_or_awaited(dispatcher):
    handle = dispatcher.wait_for(DONE)
    assert not handle.done()
    loop.call_soon(lambda: emit(dispatcher, DONE, {"content": "x"}))
    assert handle.result(5).payload.content == "x"

    async def main():
        waiting = dispatcher.wait_for(DONE, timeout_s=5)
        loop.call_soon(lambda: emit(dispatcher, DONE, {"content": "y"}))
        return (await waiting).payload.content

    assert asyncio.run(main()) == "y"
    assert dispatcher.wanted == frozenset()


def test_wait_for_works_inside_a_listener(dispatcher):
    seen = []

    def listener(event):
        handle = dispatcher.wait_for(DONE)
        loop.call_soon(lambda: emit(dispatcher, DONE, {"content": "x"}))
        seen.append(handle.result(5).payload.content)

    dispatcher.add(DELTA, listener)
    emit(dispatcher, DELTA)
    settle(dispatcher)
    assert seen == ["x"]


def test_wait_for_a_sticky_event_that_happened_is_done(dispatcher):
    emit(dispatcher, INFO, {"n": 1})
    handle = dispatcher.wait_for(INFO)
    assert handle.done()
    assert handle.result().late


def test_wait_for_times_out_and_is_forgotten(dispatcher):
    with pytest.raises(TimeoutError, match=r"no ContentDone came within 0\.01 s"):
        dispatcher.wait_for(DONE, timeout_s=0.01).result()

    async def main():
        await dispatcher.wait_for(DONE, timeout_s=0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    handle = dispatcher.wait_for(DONE)
    with pytest.raises(TimeoutError):
        handle.result(timeout_s=0.01)
    assert dispatcher.wanted == {DONE.value}
    emit(dispatcher, DONE)
    assert handle.done()


def test_closing_ends_every_wait(dispatcher):
    handle = dispatcher.wait_for(DONE)
    dispatcher.close()
    dispatcher.close()
    with pytest.raises(ClientClosedError):
        handle.result(1)
    with pytest.raises(ClientClosedError):
        dispatcher.wait_for(DONE).result(1)


# Barrier, discard, close


def test_the_barrier_is_passed_at_once_where_there_is_nothing_to_wait_for(dispatcher):
    calls = []
    dispatcher.barrier(lambda: calls.append(1))
    assert calls == [1]
    dispatcher.add(DELTA, lambda event: None)
    emit(dispatcher, DELTA)
    settle(dispatcher)
    until(lambda: dispatcher._lane._idle)
    dispatcher.barrier(lambda: calls.append(2))
    assert calls == [1, 2]


def test_the_barrier_of_a_turn_does_not_wait_for_another_turns_async_listener(dispatcher):
    gate = []
    one, two = object(), object()

    @dispatcher.on(DELTA)
    async def listener(event):
        if event.turn is one:
            gate.append(asyncio.Event())
            await gate[0].wait()

    dispatcher.add(DONE, lambda event: gate[0].set())
    emit(dispatcher, DELTA, turn=one)
    emit(dispatcher, DELTA, turn=two)
    settle(dispatcher, turn=two)
    passed = threading.Event()
    dispatcher.barrier(passed.set, turn=one)
    assert not passed.wait(0.05)
    emit(dispatcher, DONE)
    assert passed.wait(5)


def test_the_barrier_calls_back_on_the_background_loop(dispatcher):
    where = []
    dispatcher.add(DELTA, lambda event: time.sleep(0.02))
    emit(dispatcher, DELTA)
    done = threading.Event()
    dispatcher.barrier(lambda: (where.append(loop.on_loop()), done.set()))
    assert done.wait(5)
    assert where == [True]


def test_discard_drops_the_deltas_of_one_turn_only(dispatcher):
    seen, gate = [], threading.Event()
    one, two = object(), object()

    def listener(event):
        gate.wait(10)
        seen.append((event.data.customEvent, event.turn is one))

    for name in (DELTA, CHUNK, DONE, ERROR):
        dispatcher.add(name, listener)
    emit(dispatcher, ERROR, turn=two)
    for turn in (one, two):
        for name in (CHUNK, DELTA, DONE):
            emit(dispatcher, name, turn=turn)
    until(lambda: dispatcher.queued == 6)
    dispatcher.discard(one)
    gate.set()
    settle(dispatcher)
    assert seen == [
        ("ChatCompletionsAPIError", False),
        ("ContentDone", True),
        ("Chunk", False),
        ("ContentDelta", False),
        ("ContentDone", False),
    ]
    assert dispatcher.discarded == 2


def test_close_runs_what_is_queued_and_ends_the_thread(dispatcher):
    seen = []

    @dispatcher.on(DELTA)
    async def listener(event):
        await asyncio.sleep(0.02)
        seen.append(event.payload.n)

    for n in range(3):
        emit(dispatcher, DELTA, {"n": n})
    thread = dispatcher._lane._thread
    dispatcher.close()
    emit(dispatcher, DELTA, {"n": 99})
    thread.join(5)
    assert not thread.is_alive()
    assert seen == [0, 1, 2]


def test_close_does_not_wait_for_ever_for_an_async_listener(dispatcher):
    @dispatcher.on(DELTA)
    async def listener(event):
        await asyncio.sleep(100)

    emit(dispatcher, DELTA)
    thread = dispatcher._lane._thread
    dispatcher.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_barrier_behind_a_listener_that_will_not_end_is_passed_when_the_client_is_closed(dispatcher, monkeypatch):
    async def stubborn(event):
        running.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3_600)

    monkeypatch.setattr(lane, "CLOSE_S", 0.05)
    running, passed, turn = threading.Event(), threading.Event(), object()
    dispatcher.add(DONE, stubborn)
    emit(dispatcher, DONE, turn=turn)
    assert running.wait(10)
    dispatcher.barrier(passed.set, turn=turn)
    dispatcher.close()
    assert passed.wait(10)


def test_a_barrier_on_a_closed_dispatcher_is_passed_in_the_end(dispatcher):
    @dispatcher.on(DELTA)
    async def listener(event):
        await asyncio.sleep(100)

    emit(dispatcher, DELTA)
    done = threading.Event()
    dispatcher.barrier(done.set)
    dispatcher.close()
    assert done.wait(5)
    again = threading.Event()
    dispatcher.barrier(again.set)
    assert again.is_set()


def test_a_client_that_is_dropped_without_close_leaves_no_thread():
    client = Client()
    client.dispatcher = Dispatcher(
        client=client,
        client_id="dropped",
        known=[ChatCompletionsAPIEvents],
        sticky=frozenset(),
        on_failure=lambda failure, client=client: None,
    )
    client.dispatcher.add(DELTA, lambda event, client=client: 1 / 0)
    emit(client.dispatcher, DELTA)
    settle(client.dispatcher)
    thread = client.dispatcher._lane._thread
    gone = weakref.ref(client)
    del client
    until(lambda: (gc.collect(), gone() is None)[1])
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_forked_child_listeners_are_gone_and_new_ones_work(dispatcher):
    gate = threading.Event()
    dispatcher.add(DELTA, lambda event: gate.wait(10))
    emit(dispatcher, DELTA)
    with dispatcher._lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            heard_in_child = threading.Event()
            assert dispatcher.wanted == frozenset()
            dispatcher.add(DELTA, lambda event: heard_in_child.set())
            emit(dispatcher, DELTA)
            code = 0 if heard_in_child.wait(5) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.set()
    settle(dispatcher)
    assert dispatcher.delivered == 1
