"""A running turn as pages get it, and the canvas that gives way where no page speaks."""

import pytest

import voxnb
from tests.notebook.pages import Page
from voxnb import testing
from voxnb.clients.reply import Reply
from voxnb.clients.turn import Turn
from voxnb.notebook import live
from voxnb.notebook.live import LiveCanvas, LiveText
from voxnb.notebook.panel import WIDGET
from voxnb.runtime import loop


def test_a_page_gets_each_finished_block_once_and_the_tail_every_time():
    text = LiveText()
    text.show("One.\n\nTw", "writing,")
    first = text.take(full=True)
    assert (first["from"], first["blocks"], first["tail"]) == (0, ["<p>One.</p>\n"], "<p>Tw</p>\n")
    text.show("One.\n\nTwo.\n\nThr", "writing,")
    second = text.take(full=False)
    assert (second["from"], second["blocks"], second["tail"]) == (1, ["<p>Two.</p>\n"], "<p>Thr</p>\n")
    assert text.take(full=False)["blocks"] == []


def test_a_page_that_comes_late_gets_the_newest_blocks_and_goes_on_from_there():
    text = LiveText()
    text.show("x\n\n" * 500, "writing,")
    assert text.take(full=True)["from"] == 0
    again = text.take(full=True)
    assert (again["from"], len(again["blocks"])) == (0, live.MOST_AGAIN)
    text.show("x\n\n" * 501, "writing,")
    assert len(text.take(full=False)["blocks"]) == 1


def test_model_text_is_cleaned_on_its_way():
    text = LiveText()
    text.show("<script>alert(1)</script> ![p](https://evil.example/p.png)\x1b\n\n<img src=x>", "writing,")
    sent = text.take(full=True)
    assert "<script" not in str(sent)
    assert "<img" not in str(sent)
    assert "\x1b" not in str(sent)


@pytest.fixture
def shown(monkeypatch):
    """What would have been displayed: (bundle, whether it replaces)."""
    import IPython.display

    out = []
    monkeypatch.setattr(
        IPython.display, "display", lambda bundle, *, update=False, **_: out.append((dict(bundle), update))
    )
    return out


def test_the_output_is_shown_once_with_the_widget_and_ends_as_html_alone(shown):
    turn = Turn(client=None)
    canvas = LiveCanvas(turn)
    canvas.paint("", "waiting for the reply …")
    canvas._panel._channel.receive({"t": "hello"})
    for n in range(5):
        canvas.paint("x" * n, "streaming …")
    loop.call_soon(turn._store, Reply(text="**done**"))
    loop.call_soon(turn._deliver)
    turn.result(30)
    canvas.finish(turn, turn.result(), "")
    (first, again), (last, replaces) = shown
    assert set(first) == {"text/plain", "text/html", WIDGET}
    assert "waiting" in first["text/html"]
    assert (again, replaces) == (False, True)
    assert set(last) == {"text/plain", "text/html"}
    assert "<strong>done</strong>" in last["text/html"]


def test_where_no_page_speaks_the_html_itself_is_painted(shown, monkeypatch):
    monkeypatch.setattr(live, "HELLO_S", 0.0)
    canvas = LiveCanvas(Turn(client=None))
    canvas.paint("", "waiting for the reply …")
    canvas.paint("some text", "streaming …")
    canvas.paint("some more text", "streaming …")
    assert [WIDGET in bundle for bundle, _ in shown] == [True, False, False]
    assert "some more text" in shown[-1][0]["text/html"]


def test_stop_cancels_the_turn_without_waiting_for_anything(shown):
    turn = Turn(client=None)
    canvas = LiveCanvas(turn)
    canvas.paint("", "waiting for the reply …")
    canvas._panel._on_message(None, {"t": "stop"}, [])
    assert turn.cancelling
    canvas._end_panel()


def test_where_no_output_is_replaced_the_widget_keeps_the_end():
    with testing.server(["**Yes** <script>alert(1)</script>"]) as server:
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=":memory:") as chat:
            page = Page(chat.ask("Hi")._display_())  # what marimo asks for
            while "end" not in (patch := page.take()):
                assert "live" in patch
            assert "<strong>Yes</strong>" in patch["end"]
            assert "tokens in" in patch["end"]
            assert "<script" not in patch["end"]
            page.say(t="hello")
            assert page.take()["end"] == patch["end"], "a page that comes back"
            page.widget.close()
