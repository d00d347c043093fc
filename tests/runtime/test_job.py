"""Coroutines of the user's on the listeners' loop."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context

import pytest

from voxnb.errors import TurnError
from voxnb.events import ChatCompletionsAPIEvents
from voxnb.runtime import loop
from voxnb.runtime.dispatch import Dispatcher, in_listener
from voxnb.runtime.job import Job

DONE = ChatCompletionsAPIEvents.ContentDone.value


@pytest.fixture
def dispatcher():
    made = Dispatcher(client=None, client_id="c1", known=(ChatCompletionsAPIEvents,))
    yield made
    made.close()


def test_a_job_starts_the_thread_where_there_is_none(dispatcher):
    async def work():
        return threading.current_thread().name, in_listener()

    job = dispatcher.run(work, context=copy_context())
    assert job.future.result(10) == ("voxnb-listeners-c1", True)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_job_raises_ends_in_its_future_and_the_thread_goes_on(dispatcher, capfd, error):
    async def work():
        raise error

    async def fine():
        return 1

    assert dispatcher.run(work, context=copy_context()).future.exception(10) is error
    assert dispatcher.run(fine, context=copy_context()).future.result(10) == 1
    assert capfd.readouterr().err == ""


def test_a_job_starts_in_order_with_the_events(dispatcher):
    order: list[str] = []
    gate, all_done = threading.Event(), threading.Event()

    def listener(event):
        gate.wait(10)
        order.append(event.payload.name)
        if len(order) == 4:
            all_done.set()

    async def work():
        order.append("job")

    dispatcher.add(DONE, listener)
    dispatcher.emit(DONE, {"name": "a"}, context=None)
    dispatcher.emit(DONE, {"name": "b"}, context=None)
    dispatcher.run(work, context=copy_context())
    dispatcher.emit(DONE, {"name": "c"}, context=None)
    gate.set()
    assert all_done.wait(10)
    assert order == ["a", "b", "job", "c"]


def test_a_job_behind_a_listener_that_waits_for_it_starts_elsewhere(dispatcher):
    names: list[str] = []
    done, queued = threading.Event(), threading.Event()

    async def work():
        names.append(threading.current_thread().name)
        done.set()

    def listener(event):
        queued.wait(10)
        assert loop.block(done, timeout_s=10)

    dispatcher.add(DONE, listener)
    dispatcher.emit(DONE, {}, context=None)
    job = dispatcher.run(work, context=copy_context())
    queued.set()
    job.future.result(10)
    assert names == ["voxnb-listeners-c1-apart"]


def test_a_job_that_was_cancelled_before_it_started_never_runs(dispatcher):
    gate, began = threading.Event(), threading.Event()
    ran = []

    def listener(event):
        began.set()
        gate.wait(10)

    async def work():
        ran.append(1)

    async def after():
        return "after"

    dispatcher.add(DONE, listener)
    dispatcher.emit(DONE, {}, context=None)
    assert began.wait(10)
    job = dispatcher.run(work, context=copy_context())
    job.cancel()
    gate.set()
    assert dispatcher.run(after, context=copy_context()).future.result(10) == "after"
    assert job.future.cancelled()
    assert ran == []


def test_a_running_job_is_cancelled_from_any_thread(dispatcher):
    began, ended = threading.Event(), threading.Event()

    async def work():
        began.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    job = dispatcher.run(work, context=copy_context())
    assert began.wait(10)
    job.cancel()
    assert ended.wait(10)
    assert isinstance(job.future.exception(10), TurnError)
    job.cancel()


def test_closing_ends_running_jobs(dispatcher):
    began = threading.Event()

    async def work():
        began.set()
        await asyncio.sleep(30)

    job = dispatcher.run(work, context=copy_context())
    assert began.wait(10)
    dispatcher.close()
    assert isinstance(job.future.exception(10), TurnError)
    late = dispatcher.run(work, context=copy_context())
    assert "closed" in str(late.future.exception(10))


def test_a_job_that_is_cancelled_the_moment_it_begins_to_run_is_cancelled(monkeypatch):
    async def work():
        await asyncio.sleep(3_600)

    job = Job(work, context=copy_context())
    begin = job.future.set_running_or_notify_cancel

    def cancelled_then():
        begun = begin()
        job.cancel()
        return begun

    monkeypatch.setattr(job.future, "set_running_or_notify_cancel", cancelled_then)
    job.start_apart(name="voxnb-apart")
    with pytest.raises(TurnError, match="cancelled"):
        job.future.result(10)
