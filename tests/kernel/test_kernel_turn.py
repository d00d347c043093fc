"""Turns in a real kernel: interrupts, cells, displays, saved notebooks."""

import pytest
from nbclient.exceptions import CellExecutionError

from tests.kernel.real_kernel import HERE, ROOT, Kernel, execute, notebook

SETUP = f"import sys, asyncio, time; sys.path[:0] = [{str(HERE)!r}, {str(ROOT)!r}]; from slow_client import SlowClient, Events"

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client's own: an event loop policy of Python 3.14, a pending-deprecation of its sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def shared():
    kernel = Kernel(SETUP)
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(shared):
    assert shared.run("chat = SlowClient()").status == "ok"
    yield shared
    assert shared.run("print('alive')").stdout == "alive\n"


WAITS = {
    "result": "turn = chat.ask(); turn.result()",
    "iteration": "turn = chat.ask()\nfor delta in turn: pass",
    "display": "turn = chat.ask(); turn",
    "display of a call": "chat.ask()",
    "show": "turn = chat.ask(); turn.show(wait=True)",
    "await": "turn = chat.ask(); await turn",
    "async iteration": "turn = chat.ask()\nasync for delta in turn: pass",
    "result in an async cell": "await asyncio.sleep(0); turn = chat.ask(); turn.result()",
    "display in an async cell": "await asyncio.sleep(0); turn = chat.ask(); turn",
    "asyncio.gather": "await asyncio.gather(chat.ask(), asyncio.sleep(100))",
    "voxnb.gather": "from voxnb.clients.turn import gather; gather([chat.ask(), chat.ask()], progress=False)",
    "sync wait in a task": "async def helper():\n    chat.ask().result()\nawait asyncio.gather(helper(), asyncio.sleep(100))",
}


@pytest.mark.parametrize("wait", WAITS)
def test_interrupt_ends_every_wait_within_a_second_and_keeps_the_partial(kernel, wait):
    cell = kernel.run(WAITS[wait], interrupt_after_s=0.6)
    assert cell.ename in ("KeyboardInterrupt", "CancelledError")
    assert cell.status == "error"
    stored = kernel.run("print(len(chat.stored), chat.stored[0][1], chat.stored[0][0][:9])")
    assert stored.stdout in ("1 cancelled word word\n", "2 cancelled word word\n")
    cell.assert_interrupted_within(1)


def test_interrupt_while_nothing_comes_is_noticed(kernel):
    for code in ("turn = SlowClient(pause_s=100).ask(); await turn", "SlowClient(pause_s=100).ask().result()"):
        cell = kernel.run(code, interrupt_after_s=0.4)
        assert cell.ename in ("KeyboardInterrupt", "CancelledError")
        cell.assert_interrupted_within(1)


def test_wait_for_in_a_cell_times_out_and_the_kernel_lives(kernel):
    cell = kernel.run("await asyncio.wait_for(chat.ask(), 1)")
    assert cell.ename == "TimeoutError"
    assert kernel.run("print(chat.stored[0][1])").stdout == "cancelled\n"


def test_result_with_a_timeout_leaves_the_turn_running(kernel):
    cell = kernel.run("turn = chat.ask(); turn.result(timeout_s=0.3)")
    assert cell.ename == "TimeoutError"
    assert kernel.run("print(turn.state); turn.cancel(wait_s=1); print(turn.state)").stdout == "running\ncancelled\n"


def test_a_shown_turn_streams_safe_html_and_keeps_the_cell_busy_until_delivered(kernel):
    kernel.run(
        "chat = SlowClient(pause_s=0.1)\ndone = []\nchat.on(Events.ContentDone, lambda e: (time.sleep(0.3), done.append(1)))"
    )
    cell = kernel.run("chat.ask('**bold** and <script>alert(1)</script> ![p](https://evil.example/p.png)')")
    assert kernel.run("print(done)").stdout == "[1]\n"
    assert cell.status == "ok"
    first, *updates = cell.displays
    assert first[0] == "display_data"
    assert {kind for kind, _, _ in updates} == {"update_display_data"}
    assert len({transient["display_id"] for _, _, transient in cell.displays}) == 1
    assert 2 <= len(updates) <= 10
    for _, data, _ in cell.displays:
        assert set(data) == {"text/plain", "text/html"}
        assert "<script" not in data["text/html"]
        assert "<img" not in data["text/html"]
    final = updates[-1][1]
    assert "<strong>bold</strong>" in final["text/html"]
    assert "streaming" not in final["text/html"]
    assert final["text/plain"].startswith("**bold** and <script>")


def test_a_shown_turn_that_fails_makes_the_cell_fail(kernel):
    cell = kernel.run("SlowClient(pause_s=0, error='slow down').ask('a b')")
    assert (cell.status, cell.ename) == ("error", "RateLimitError")
    shown = [data["text/html"] for _, data, _ in cell.displays if "text/html" in data]
    assert "RateLimitError: slow down" in shown[-1]


def test_an_interrupted_display_shows_what_had_come(kernel):
    cell = kernel.run("chat.ask()", interrupt_after_s=0.5)
    assert "interrupted" in cell.displays[-1][1]["text/html"]
    assert cell.displays[-1][1]["text/plain"].startswith("word word")


def test_show_without_waiting_ends_the_cell_and_goes_on_painting_there(kernel):
    cell = kernel.run("turn = chat.ask(); turn.show()", cell_id="shows", limit_s=40)  # the turn takes 50 s
    assert cell.displays[0][0] == "display_data"
    later = kernel.run("time.sleep(0.5); turn.cancel(wait_s=1); time.sleep(0.3)", cell_id="waits")
    assert later.displays == []
    assert "word" in later.late_displays[-1]["text/html"]
    assert "cancelled" in later.late_displays[-1]["text/html"]


def test_listeners_print_in_the_cell_that_made_the_request(kernel):
    kernel.run("chat.on(Events.ContentDone, lambda e: print('heard', e.payload.content))", cell_id="listeners")
    first = kernel.run("turn = chat.ask('one two three'); turn.result()", cell_id="asks")
    assert first.stdout == "heard one two three\n"
    started = kernel.run("turn = chat.ask('a b c d')", cell_id="starts")
    other = kernel.run("turn.result(); time.sleep(0.4)", cell_id="waits")
    assert started.stdout + other.stdout == ""
    assert other.late == "heard a b c d\n"


def test_running_a_cell_again_replaces_its_listeners(kernel):
    register = "chat.on(Events.ContentDone, lambda e: print('heard'))\nchat.on(Events.ContentDelta, lambda e: None)"
    for _ in range(3):
        kernel.run(register, cell_id="a")
    kernel.run(register, cell_id="b")
    assert kernel.run("chat.ask('x').result()", cell_id="c").stdout == "heard\nheard\n"


def test_an_exit_in_a_listener_harms_nothing_and_is_reported_in_the_cell(kernel):
    kernel.run(
        "chat.on(Events.ContentDone, lambda e: sys.exit(1))\n"
        "@chat.on(Events.ContentDone)\nasync def leave(e):\n    await asyncio.sleep(0.01); raise KeyboardInterrupt"
    )
    cell = kernel.run("print(chat.ask('x').result())")
    assert cell.status == "ok"
    assert cell.stdout == "x \n"
    assert "SystemExit: 1" in cell.stderr
    assert "KeyboardInterrupt" in cell.stderr
    assert kernel.run("print(chat.ask('y').result())").stdout == "y \n"


def test_a_failure_nobody_looked_at_is_reported_in_its_cell(kernel):
    started = kernel.run("turn = SlowClient(pause_s=0.1, error='slow down').ask('a')")
    other = kernel.run("time.sleep(1.2)")
    assert started.stderr + other.stderr == ""
    assert "turn failed: RateLimitError: slow down" in other.late


def test_chaining_from_listeners_works_in_cells(kernel):
    kernel.run(
        "got = []\ndef chain(event):\n"
        "    if len(got) < 2:\n        got.append(1); got.append(str(chat.ask('again').result()))\n"
        "chat.on(Events.ContentDone, chain)"
    )
    assert kernel.run("chat.ask('x').result()\nprint(got)").stdout == "[1, 'again ']\n"
    assert kernel.run("got.clear(); await chat.ask('x')\nprint(got)").stdout == "[1, 'again ']\n"


def test_in_a_notebook_run_by_nbclient_listener_output_and_the_reply_are_saved():
    made = execute(
        notebook(
            SETUP + "\nchat = SlowClient(pause_s=0.02)",
            "chat.on(Events.ContentDelta, lambda e: print('delta', e.payload.delta))",
            "chat.ask('one **two**')",
            "reply = chat.ask('three').result()",
            "reply",
            "reply = await chat.ask('four')",
        )
    )
    shown, replied = made.cells[2], made.cells[4]
    texts = ["".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream") for cell in made.cells]
    assert texts == ["", "", "delta one\ndelta **two**\n", "delta three\n", "", "delta four\n"]
    (display,) = (o for o in shown.outputs if o.output_type == "display_data")
    assert "<strong>two</strong>" in display.data["text/html"]
    assert display.data["text/plain"] == "one **two** "
    assert set(replied.outputs[0].data) == {"text/plain", "text/html"}
    assert replied.outputs[0].data["text/plain"] == "three "
    assert "text/markdown" not in str(made)


def test_a_turn_that_fails_stops_run_all():
    with pytest.raises(CellExecutionError, match="slow down"):
        execute(notebook(SETUP, "SlowClient(pause_s=0, error='slow down').ask('a')", "print('never')"))
