"""The background loop: contexts, waiting, exit, fork."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from voxnb.errors import TurnError
from voxnb.runtime import loop

variable = contextvars.ContextVar("variable", default=None)


def run_script(body, *, timeout_s=60):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_tasks_and_callbacks_run_on_one_daemon_thread_in_an_empty_context():
    variable.set("cell")

    async def look():
        child = asyncio.create_task(look_again())
        return threading.current_thread(), loop.on_loop(), variable.get(), await child

    async def look_again():
        return variable.get()

    thread, on_loop, value, inner = loop.submit(look()).result(5)
    assert (thread.daemon, on_loop, value, inner) == (True, True, None, None)
    seen, done = [], threading.Event()
    loop.call_soon(lambda: (seen.append((threading.current_thread(), variable.get())), done.set()))
    assert done.wait(5)
    loop.call_later(0.01, lambda: (seen.append((threading.current_thread(), variable.get())), done.clear()))
    deadline = time.monotonic() + 5
    while done.is_set():
        assert time.monotonic() < deadline
    assert seen == [(thread, None)] * 2
    assert not loop.on_loop()


def test_cancelling_the_future_cancels_the_task():
    seen, started = [], threading.Event()

    async def long():
        try:
            started.set()
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    future = loop.submit(long())
    started.wait(5)
    future.cancel()
    deadline = time.monotonic() + 5
    while not seen:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_wait_gives_the_result_or_the_exception_or_a_timeout():
    async def give():
        return 5

    async def fail():
        raise ValueError("no")

    assert loop.wait(loop.submit(give())) == 5
    with pytest.raises(ValueError, match="no"):
        loop.wait(loop.submit(fail()))
    future = concurrent.futures.Future()
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        loop.wait(future, timeout_s=0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(loop.wait_async(future, timeout_s=0.01))
    future.set_result(6)
    assert loop.wait(future, timeout_s=0) == 6
    assert asyncio.run(loop.wait_async(future)) == 6


def test_a_timeout_error_of_the_future_itself_passes_through():
    async def fail():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        loop.wait(loop.submit(fail()), timeout_s=5)


def test_completion_wakes_at_once_not_at_the_next_slice(monkeypatch):
    monkeypatch.setattr(loop, "SLICE_S", 10)

    async def once(delay_s):
        await asyncio.sleep(delay_s)

    async def main():
        await loop.wait_async(loop.submit(once(0.02)))

    for wait in (lambda: loop.wait(loop.submit(once(0.02))), lambda: asyncio.run(main())):
        began = time.perf_counter()
        wait()
        assert time.perf_counter() - began < 5


def test_waiting_on_the_loop_is_refused_unless_it_is_done():
    future, done = concurrent.futures.Future(), concurrent.futures.Future()
    done.set_result(1)

    async def block(what):
        return loop.wait(what)

    with pytest.raises(TurnError, match="use 'await'"):
        loop.submit(block(future)).result(5)
    assert loop.submit(block(done)).result(5) == 1


def test_a_waiter_whose_loop_was_closed_harms_no_one():
    future = concurrent.futures.Future()

    async def main():
        task = asyncio.create_task(loop.wait_async(future))
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(main())
    future.set_result(1)
    assert loop.wait(future) == 1


def test_blocking_calls_of_the_loop_use_daemon_threads_and_no_executor():
    async def resolve():
        running = asyncio.get_running_loop()
        await running.getaddrinfo("localhost", 80)
        threads = await asyncio.gather(
            *(asyncio.to_thread(lambda: (time.sleep(0.01), threading.current_thread())[1]) for _ in range(30))
        )
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return set(threads)

    threads = loop.submit(resolve()).result(20)
    assert all(thread.daemon and thread.name.startswith("voxnb-worker") for thread in threads)
    assert 1 <= len(threads) <= 8


def test_a_coroutine_that_exits_does_not_end_the_loop(capsys):
    async def leave():
        sys.exit(1)

    async def stay():
        return 1

    with pytest.raises(SystemExit):
        loop.submit(leave()).result(5)
    assert loop.submit(stay()).result(5) == 1
    assert "SystemExit" in capsys.readouterr().err


def test_an_interrupt_while_a_coroutine_is_handed_over_cancels_it_on_the_loop(monkeypatch):
    running, interrupt_told, ended = threading.Event(), threading.Event(), concurrent.futures.Future()

    async def work():
        running.set()
        interrupt_told.wait(5)  # the interrupt comes in the middle of a step
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            ended.set_result((type(error), loop.on_loop()))
            raise

    hand_over = asyncio.run_coroutine_threadsafe

    def interrupted(coro, to):
        hand_over(coro, to)
        assert running.wait(5)
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.submit(work())
    interrupt_told.set()
    assert ended.result(5) == (asyncio.CancelledError, True)


def test_a_coroutine_that_an_interrupt_kept_from_the_loop_is_closed(monkeypatch):
    def interrupted(coro, to):
        raise KeyboardInterrupt

    async def nothing():
        """Never runs."""

    work = nothing()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
        loop.submit(work)
    loop.submit(asyncio.sleep(0.01)).result(5)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


def test_many_threads_starting_it_at_once_get_one_loop():
    done = run_script("""
        import threading
        from voxnb.runtime import loop
        seen, barrier = [], threading.Barrier(20)
        async def where():
            return threading.current_thread()
        def start():
            barrier.wait()
            seen.append(loop.submit(where()).result(10))
        threads = [threading.Thread(target=start) for _ in range(20)]
        [t.start() for t in threads]; [t.join() for t in threads]
        assert len(seen) == 20 and len(set(seen)) == 1
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_starts_no_thread():
    done = run_script(
        "import threading; from voxnb.runtime import loop, dispatch; assert threading.active_count() == 1"
    )
    assert (done.returncode, done.stderr) == (0, "")


# Exit


def test_exit_hooks_run_newest_first_while_the_loop_still_works():
    done = run_script("""
        import asyncio
        from voxnb.runtime import loop
        async def say(text):
            await asyncio.sleep(0.01)
            await asyncio.to_thread(print, text, flush=True)
        async def hook():
            await say("coroutine hook")
        def broken():
            raise ValueError("hook trouble")
        loop.submit(say("start")).result()
        loop.at_exit(lambda: loop.wait(loop.submit(say("oldest"))))
        loop.at_exit(lambda: print("last", flush=True), last=True)
        loop.at_exit(broken)
        loop.at_exit(hook)
        loop.at_exit(lambda: print("removed"))()
        print("end of script", flush=True)
    """)
    assert done.stdout.split("\n") == ["start", "end of script", "coroutine hook", "oldest", "last", ""]
    assert done.stderr == "voxnb: at exit, broken raised ValueError: hook trouble\n"
    assert done.returncode == 0


def test_a_hook_that_never_ends_is_given_up():
    began = time.monotonic()
    done = run_script("""
        import asyncio
        from voxnb.runtime import loop
        loop.EXIT_S = 0.5
        async def stuck():
            await asyncio.sleep(1000)
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    pass
        loop.submit(stubborn())
        loop.at_exit(stuck)
        loop.at_exit(lambda: print("next", flush=True))
    """)
    assert time.monotonic() - began < 12
    assert done.stdout == "next\n"
    assert "stuck" in done.stderr
    assert done.returncode == 0


def test_tasks_are_cancelled_at_exit_and_may_clean_up():
    done = run_script("""
        import asyncio, threading
        from voxnb.runtime import loop
        started = threading.Event()
        async def work():
            try:
                started.set()
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(0.05)
                print("stored", flush=True)
        loop.submit(work())
        started.wait()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stored\n", "")


def test_nothing_can_be_started_after_the_end():
    done = run_script("""
        import atexit
        def last():
            async def work():
                pass
            try:
                loop.submit(work())
            except Exception as error:
                print(type(error).__name__, flush=True)
        atexit.register(last)
        from voxnb.runtime import loop
        async def first():
            pass
        loop.submit(first()).result()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "TurnError\n", "")


# Fork


def test_a_forked_child_gets_its_own_loop_and_leaves_the_parents_alone():
    done = run_script("""
        import asyncio, os, sys, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from voxnb.runtime import loop
        async def where():
            await asyncio.sleep(0.01)
            return os.getpid()
        loop.at_exit(lambda: print("hook of", "parent" if os.getpid() == parent else "child", flush=True))
        parent = os.getpid()
        assert loop.submit(where()).result(5) == parent
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                assert not loop.on_loop()
                assert loop.submit(where()).result(5) == os.getpid()
                import gc; gc.collect()
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            assert loop.submit(where()).result(5) == parent
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hook of parent\n", "")


def test_multiprocessing_children_work():
    done = run_script("""
        import asyncio, multiprocessing, os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from voxnb.runtime import loop
        async def where():
            return os.getpid()
        def child(_):
            return loop.submit(where()).result(5) == os.getpid()
        if __name__ == "__main__":
            loop.submit(where()).result(5)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(child, range(4)) == [True] * 4
    """)
    assert (done.returncode, done.stderr) == (0, "")
