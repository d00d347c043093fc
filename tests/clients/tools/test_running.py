"""Tools run: in threads and on the listeners' loop, at once, in time, and whatever they do becomes a result."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import time

import pytest

from voxnb.clients.tools.result import Limit
from voxnb.clients.tools.running import TOOL_OF, Call, Runner, ToolRun
from voxnb.clients.tools.toolbox import Toolbox
from voxnb.events import ChatCompletionsAPIEvents as Events
from voxnb.runtime import loop
from voxnb.runtime.dispatch import Dispatcher


@pytest.fixture
def dispatcher():
    made = Dispatcher(client=None, client_id="c1", known=(Events,))
    yield made
    made.close()


@pytest.fixture
def run(dispatcher):
    """Run calls given as ``(name, arguments)`` with these functions as tools."""

    def run(functions, *calls, **more):
        context = more.pop("context", None) or contextvars.copy_context()
        runner = Runner(toolbox=Toolbox(functions), start=dispatcher.run, context=context, **more)
        made = [Call(f"call_{n}", name, arguments) for n, (name, arguments) in enumerate(calls)]
        return loop.submit(runner.run(made))

    return run


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def test_a_call_gives_a_record(run):
    (made,) = run([add], ("add", '{"a": 2}')).result(10)
    assert (made.name, made.arguments, made.result, made.error) == ("add", {"a": 2}, "3", None)
    assert (made.round, made.call_id) == (1, "call_0")
    assert 0 <= made.duration_ms < 10_000
    assert repr(made).startswith('<ToolRun add({"a": 2}) → 3 (')


def boom():
    raise ValueError("no such city: " + "x" * 2000)


def leave():
    sys.exit("bye")


def interrupt():
    raise KeyboardInterrupt


async def aleave():
    raise SystemExit(3)


async def acancelled():
    raise asyncio.CancelledError


class HostileError(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


def hostile():
    raise HostileError


def half():
    raise ValueError("half a pair: \ud83d")


def opaque():
    return object()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("add", "{", "the arguments are no JSON"),
        ("add", '{"a": "two"}', "a: Input should be a valid integer"),
        ("add", "", "the argument 'a' is missing"),
        ("ad", '{"a": 2}', "there is no tool 'ad'; did you mean 'add'?"),
        ("", "", "there is no tool ''"),
        ("boom", "", "ValueError: no such city: xxx"),
        ("leave", "", "SystemExit: bye"),
        ("aleave", "", "SystemExit: 3"),
        ("acancelled", "", "CancelledError"),
        ("interrupt", "", "KeyboardInterrupt"),
        ("hostile", "", "HostileError"),
        ("half", "", "ValueError: half a pair: \ufffd"),
        ("opaque", "", "the tool returned a object"),
    ],
)
def test_whatever_goes_wrong_is_a_result_for_the_model(run, capfd, name, arguments, words):
    tools = [add, boom, leave, aleave, acancelled, interrupt, hostile, half, opaque]
    bad, good = run(tools, (name, arguments), ("add", '{"a": 2}')).result(10)
    assert words in bad.error
    assert len(bad.error) <= 500
    assert bad.result == f"Error: {bad.error}"
    assert "Traceback" not in bad.result
    assert good.result == "3"
    assert capfd.readouterr().err == ""


def test_keys_are_taken_out_of_errors(run):
    def connect():
        raise ConnectionError("refused sk-secret-1234")

    (made,) = run([connect], ("connect", ""), hide=lambda text: text.replace("sk-secret-1234", "…")).result(10)
    assert made.result == "Error: ConnectionError: refused …"


def test_a_password_in_a_url_is_taken_out_of_errors(run):
    def connect():
        raise ConnectionError("cannot reach postgres://ann:s3cret@db.example/x")

    (made,) = run([connect], ("connect", "")).result(10)
    assert made.result == "Error: ConnectionError: cannot reach postgres://…@db.example/x"


def test_calls_run_at_the_same_time_and_results_keep_their_order(run):
    together = threading.Barrier(3)

    def meet(n: int) -> int:
        together.wait(10)
        time.sleep(0.02 * (3 - n))
        return n

    made = run([meet], *(("meet", f'{{"n": {n}}}') for n in range(3))).result(20)
    assert [one.result for one in made] == ["0", "1", "2"]


def test_async_calls_run_at_the_same_time(run):
    waiting, all_here = [], asyncio.Event()

    async def meet(n: int) -> int:
        waiting.append(n)
        if len(waiting) == 3:
            all_here.set()
        await all_here.wait()
        return n

    made = run([meet], *(("meet", f'{{"n": {n}}}') for n in range(3))).result(20)
    assert [one.result for one in made] == ["0", "1", "2"]


def test_sync_tools_have_a_daemon_thread_and_async_ones_the_listeners(run, dispatcher):
    seen = {}

    def sync_tool():
        seen["sync"] = threading.current_thread()

    async def async_tool():
        seen["async"] = threading.current_thread()
        seen["loop"] = asyncio.get_running_loop()

    heard = threading.Event()

    def listener(event):
        seen["listener"] = threading.current_thread()
        heard.set()

    run([sync_tool, async_tool], ("sync_tool", ""), ("async_tool", "")).result(10)
    dispatcher.add(Events.ContentDone, listener)
    dispatcher.emit(Events.ContentDone.value, {}, context=None)
    assert heard.wait(10)
    assert seen["sync"].daemon
    assert seen["sync"].name == "voxnb-tool-sync_tool"
    assert seen["async"] is seen["listener"]
    assert seen["async"].name.startswith("voxnb-listeners")


def test_the_loop_of_async_tools_stays_the_same_from_call_to_call(run):
    seen = []

    async def tool():
        seen.append(asyncio.get_running_loop())

    run([tool], ("tool", "")).result(10)
    run([tool], ("tool", "")).result(10)
    assert seen[0] is seen[1]


def test_a_plain_function_that_returns_a_coroutine_is_awaited(run):
    async def inner(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    @functools.wraps(inner)
    def outer(n):
        return inner(n)

    outer.__wrapped__ = None
    del outer.__wrapped__
    outer.__annotations__ = {"n": int}
    (made,) = run([outer], ("inner", '{"n": 1}')).result(10)
    assert made.result == "2"


def test_a_sync_tool_that_hangs_is_abandoned_and_the_others_are_kept(run):
    release = threading.Event()

    def hang():
        release.wait(30)

    slow, quick = run([hang, add], ("hang", ""), ("add", '{"a": 1}'), timeout_s=0.1).result(10)
    release.set()
    assert quick.result == "2"
    assert "did not end within 0.1 s and was abandoned; it may still be running" in slow.error


def test_an_async_tool_that_hangs_is_cancelled(run):
    ended = threading.Event()

    async def hang():
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    (slow,) = run([hang], ("hang", ""), timeout_s=0.1).result(10)
    assert slow.error == "the tool hang did not end within 0.1 s and was cancelled"
    assert ended.wait(10)


def test_cancelling_cancels_async_tools_and_abandons_sync_ones(run):
    began, ended, release = threading.Barrier(3), threading.Event(), threading.Event()

    async def ahang():
        began.wait(10)
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    def hang():
        began.wait(10)
        release.wait(30)

    future = run([hang, ahang], ("hang", ""), ("ahang", ""))
    began.wait(10)
    future.cancel()
    assert ended.wait(10)
    release.set()


def test_tools_run_in_a_copy_of_the_callers_context(run):
    where = contextvars.ContextVar("where", default="nowhere")
    seen = []

    def tool():
        seen.append((where.get(), TOOL_OF.get()))
        where.set("changed")

    async def atool():
        seen.append((where.get(), TOOL_OF.get()))
        where.set("changed")

    where.set("cell 3")
    context = contextvars.copy_context()
    run([tool, atool], ("tool", ""), ("atool", ""), ("tool", ""), context=context, turn="the turn").result(10)
    assert seen == [("cell 3", "the turn")] * 3
    assert context[where] == "cell 3"


def test_arguments_are_checked_off_the_background_loop(run):
    from typing import Annotated

    from pydantic import AfterValidator

    seen = []

    def note(value):
        seen.append(loop.on_loop())
        return value

    def tool(x):
        return x

    tool.__annotations__["x"] = Annotated[int, AfterValidator(note)]

    async def atool(x): ...

    atool.__annotations__["x"] = Annotated[int, AfterValidator(note)]
    run([tool, atool], ("tool", '{"x": 1}'), ("atool", '{"x": 1}')).result(10)
    assert seen == [False, False]


def test_results_of_one_reply_share_the_limit(run):
    def long() -> str:
        return "word " * 10_000

    limit = Limit(tokens=400, count=lambda text: len(text.split()))
    made = run([long], ("long", ""), ("long", ""), limit=limit).result(10)
    assert all(150 <= len(one.result.split()) <= 200 for one in made)
    assert all("characters shown]" in one.result for one in made)


def test_an_async_tool_starts_elsewhere_while_a_listener_waits_for_it(run, dispatcher):
    """A listener may block on a turn whose tools need the listeners' loop."""
    results = []

    async def tool() -> str:
        return threading.current_thread().name

    def listener(event):
        results.extend(loop.wait(run([tool], ("tool", ""), timeout_s=20), timeout_s=20))

    heard = dispatcher.wait_for(Events.ContentDone)
    dispatcher.add(Events.ContentDone, listener)
    dispatcher.emit(Events.ContentDone.value, {}, context=None)
    heard.result(10)
    for _ in range(1000):
        if results:
            break
        time.sleep(0.01)
    assert [one.error for one in results] == [None]
    assert results[0].result.endswith("-apart")


def test_a_tool_that_a_listener_keeps_from_starting_ends_in_time(run, dispatcher):
    release = threading.Event()
    blocking = threading.Event()

    def listener(event):
        blocking.set()
        release.wait(20)

    async def tool(): ...

    dispatcher.add(Events.ContentDone, listener)
    dispatcher.emit(Events.ContentDone.value, {}, context=None)
    assert blocking.wait(10)
    (made,) = run([tool], ("tool", ""), timeout_s=0.1).result(10)
    release.set()
    assert "could not start (a listener holds the thread) within 0.1 s" in made.error


def test_a_tool_of_a_closed_client_is_an_error(run, dispatcher):
    async def tool(): ...

    dispatcher.close()
    (made,) = run([tool], ("tool", "")).result(10)
    assert "the client was closed" in made.error


def test_a_record_says_what_went_wrong():
    assert repr(ToolRun("f", "{", "Error: x", error="x")) == "<ToolRun f({) → error: x (from the store)>"
