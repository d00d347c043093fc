"""A turn painted in a cell or on a terminal."""

import threading
import time

import pytest

from voxnb.clients.turn import Reply, Turn
from voxnb.errors import RateLimitError, StreamBrokenError
from voxnb.notebook import paint
from voxnb.runtime import loop

# Painting: a turn driven by hand


class Recorder:
    """A canvas that notes when it was painted."""

    def __init__(self, *, paint_s=0.0):
        self.paints, self.ending, self.paint_s = [], None, paint_s

    def paint(self, text, status):
        self.paints.append((time.monotonic(), text, status))
        time.sleep(self.paint_s)

    def finish(self, turn, reply, status):
        self.ending = (turn.partial, reply, status)


def painted(turn, canvas):
    thread = threading.Thread(target=paint.paint_quietly, args=(turn, canvas))
    thread.start()
    return thread


def until(condition, *, limit_s=30.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def end(turn, reply=None, error=None):
    loop.call_soon(turn._store, reply, error)
    loop.call_soon(turn._deliver)


def test_the_first_text_is_painted_at_once_and_a_burst_is_not_left_unpainted(monkeypatch):
    monkeypatch.setattr(paint, "PAINTS_PER_S", 0.5)
    turn, canvas = Turn(client=None), Recorder()
    thread = painted(turn, canvas)
    until(lambda: canvas.paints)
    assert canvas.paints[0][1:] == ("", "waiting for the reply …")
    began = time.monotonic()
    loop.call_soon(turn._push, "a")
    until(lambda: len(canvas.paints) == 2)
    assert canvas.paints[1][0] - began < 2, "before its turn would come"
    for _ in range(3):
        loop.call_soon(turn._push, "b")
    until(lambda: canvas.paints[-1][1] == "abbb")  # no further delta is needed for the trailing paint
    end(turn, Reply(text="abbb"))
    thread.join(5)
    assert canvas.ending[0] == "abbb"


def test_while_tools_run_it_is_said_which(monkeypatch):
    monkeypatch.setattr(paint, "WAIT_S", 0.01)
    turn, canvas = Turn(client=None), Recorder()
    thread = painted(turn, canvas)
    loop.call_soon(turn._push, "Let me look.")
    until(lambda: canvas.paints[-1][1:] == ("Let me look.", "writing …"))
    turn.tools_running = ("rides", "weather", "rides")
    until(lambda: canvas.paints[-1][1:] == ("Let me look.", "running rides, weather, 0 s …"))
    turn.tools_running = ()
    loop.call_soon(turn._push, " Fewer.")
    until(lambda: canvas.paints[-1][1:] == ("Let me look. Fewer.", "writing …"))
    end(turn, Reply(text="Let me look. Fewer."))
    thread.join(5)


def test_there_are_at_most_twenty_paints_a_second():
    turn, canvas = Turn(client=None), Recorder()
    thread = painted(turn, canvas)
    began = time.monotonic()
    while time.monotonic() - began < 1:
        loop.call_soon(turn._push, "x")
        time.sleep(0.001)
    end(turn, Reply(text="x"))
    thread.join(5)
    assert 3 <= len(canvas.paints) <= 23
    gaps = [later[0] - earlier[0] for earlier, later in zip(canvas.paints[1:], canvas.paints[2:-1], strict=False)]
    assert min(gaps) > 0.045


def test_slow_paints_take_a_small_share_of_the_time():
    turn, canvas = Turn(client=None), Recorder(paint_s=0.04)
    thread = painted(turn, canvas)
    began = time.monotonic()
    while time.monotonic() - began < 1:
        loop.call_soon(turn._push, "x")
        time.sleep(0.002)
    end(turn, Reply(text="x"))
    thread.join(5)
    assert len(canvas.paints) <= 7


def test_the_end_is_painted_at_once_even_after_a_paint():
    turn, canvas = Turn(client=None), Recorder(paint_s=0.3)
    loop.call_soon(turn._push, "x")
    thread = painted(turn, canvas)
    until(lambda: len(canvas.paints) == 2)
    began = time.monotonic()
    end(turn, Reply(text="x"))
    thread.join(5)
    assert time.monotonic() - began < 4
    assert canvas.ending[1].text == "x"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RateLimitError("slow down"), "RateLimitError: slow down"),
        (StreamBrokenError("it broke"), "StreamBrokenError: it broke"),
    ],
)
def test_a_failure_is_painted_below_what_had_come(error, status):
    turn, canvas = Turn(client=None), Recorder()
    loop.call_soon(turn._push, "part")
    end(turn, None, error)
    paint.paint_until_end(turn, canvas)
    assert canvas.ending == ("part", None, status)


def test_a_canvas_that_breaks_does_not_harm_the_turn():
    class Broken(Recorder):
        def paint(self, text, status):
            raise ValueError("closed")

    turn = Turn(client=None)
    painted(turn, Broken()).join(5)
    end(turn, Reply(text="fine"))
    assert turn.result(5).text == "fine"


# On a terminal


def test_on_a_terminal_the_text_streams_without_control_characters(capsys):
    turn = Turn(client=None)
    loop.call_soon(turn._push, "Hel\x1b[2J")
    loop.call_soon(turn._push, "lo")
    end(turn, Reply(text="Hello"))
    turn.show(wait=True)
    assert capsys.readouterr().out == "Hel[2Jlo\n"


def test_on_a_terminal_a_reply_without_deltas_and_a_failure_are_shown(capsys):
    turn = Turn(client=None)
    end(turn, Reply(tool_calls=({"id": "1", "function": {"name": "f", "arguments": "{}"}},)))
    turn.show(wait=True)
    assert capsys.readouterr().out == "Tool call: f({})\n"
    failed = Turn(client=None)
    end(failed, None, RateLimitError("slow down"))
    with pytest.raises(RateLimitError):
        failed.show(wait=True)
    assert capsys.readouterr().out == " [RateLimitError: slow down]\n"


def test_show_returns_at_once_and_paints_in_the_background(capsys):
    turn = Turn(client=None)
    assert turn.show() is None
    loop.call_soon(turn._push, "later")
    end(turn, Reply(text="later"))
    turn.result(5)
    until(lambda: not any(t.name == "voxnb-painter" for t in threading.enumerate()))
    assert capsys.readouterr().out == "later\n"


def test_the_repr_bundle_of_a_turn_never_waits():
    assert Turn(client=None)._repr_mimebundle_() == {"text/plain": "<Turn queued>"}
