"""Pictures of a conversation: still, safe, readable without the picture, and drawn with or without altair."""

from __future__ import annotations

import base64
import re
import wave
import xml.etree.ElementTree as ET

import pytest

import voxnb
from voxnb import testing
from voxnb.clients.realtime.waterfall import STEPS, table_of
from voxnb.errors import NotSupportedError, ParameterError
from voxnb.media.file import AudioFile
from voxnb.notebook.svg import draw, ticks
from voxnb.store.conversation import Conversation

NAME = '</title><script>alert(1)</script> & "iris"'
SVG = "{http://www.w3.org/2000/svg}"


def answer(request):
    return "A summary." if "summar" in request.text.lower() else "Yes, " + "indeed " * 20


@pytest.fixture(scope="module")
def folded():
    policy = voxnb.ContextPolicy(window_tokens=900, fold_at_tokens=300, keep_last_turns=1, summary_max_tokens=100)
    with (
        testing.server(answer) as server,
        voxnb.chat(
            "m", base_url=server.base_url, store=":memory:", policy=policy, instructions="Be terse.", conversation=NAME
        ) as one,
    ):
        for _ in range(8):
            one.ask("Question " + "word " * 60).result()
            one.idle().result()
        yield one.conversation


@pytest.fixture
def empty():
    with voxnb.ContextStore(":memory:") as store:
        yield Conversation(store, uid="k-none", name="none")


@pytest.fixture(params=["altair", "plain"])
def drawn(request, monkeypatch):
    if request.param == "plain":
        real = __import__("importlib.util").util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "altair" else real(name))
    return request.param


def picture(figure):
    """The SVG that is in the page."""
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', figure._repr_html_())
    return base64.b64decode(data).decode()


PLOTS = ("plot_tokens", "plot_folds", "plot_latency")


@pytest.mark.parametrize("plot", PLOTS)
def test_a_picture_is_still_safe_and_says_its_numbers_without_itself(folded, drawn, plot):
    figure = getattr(folded, plot)()
    page = figure._repr_html_()
    root = ET.fromstring(picture(figure))
    assert root.tag == f"{SVG}svg"
    assert not [e.tag for e in root.iter() if e.tag.endswith(("script", "foreignObject", "a"))]
    assert re.search(r"https?://(?!www\.w3\.org)", picture(figure)) is None
    frame = '<div class="voxnb-reply tex2jax_ignore mathjax_ignore">'
    assert page.startswith(frame), "no TeX is typeset in it"
    stripped = re.sub(r"<img[^>]*>", "", page.removeprefix(frame).removesuffix("</div>"))
    assert set(re.findall(r"<(\w+)", stripped)) <= {
        "p", "strong", "details", "summary", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert re.findall(r"<\w+ [^>]*>", stripped) == [], "no attribute is needed"
    assert "<script" not in page
    assert len(page) < 100_000
    for word in figure.summary.replace("'", "").split()[:3]:
        assert word in stripped


def test_the_context_is_what_explain_says(folded):
    figure = folded.plot_tokens()
    for row in figure.df.to_dict("records"):
        plan = folded.explain(row["turn"])
        assert row["total"] == plan.total_tokens
        assert {k: v for k, v in plan.tokens.items() if v} == {
            k: v for k, v in row.items() if v and k not in ("turn", "total")
        }
    assert len(figure.df) == 8
    assert "folds at 300; window 900" in figure.summary
    assert folded.plot_tokens(last=3).df["turn"].tolist() == [6, 7, 8]


def test_the_folds_are_the_summaries(folded):
    figure = folded.plot_folds()
    saved = (figure.df["tokens_before"] - figure.df["tokens_after"]).sum()
    assert f"saved {saved:,} tokens" in figure.summary
    assert len(figure.df) == len(folded.summaries()) > 1


def test_the_latency_is_the_turns(folded):
    figure = folded.plot_latency()
    assert figure.df["duration_ms"].tolist() == folded.turns()["duration_ms"].tolist()
    assert "first token after" in figure.summary


def test_the_latency_of_a_call_goes_from_the_last_word_to_the_first_sound(folded):
    reached = {f"{step}_ms": 100.0 * n for n, step in enumerate(STEPS)}
    rows = [
        {"item_id": "i", "response_id": "r", "interrupted": False, **reached},
        {"item_id": "j", "response_id": "s", "interrupted": True, **{k: 2 * v for k, v in reached.items()}},
        {
            "item_id": "k",
            "response_id": "t",
            "interrupted": True,
            **reached,
            "created_ms": None,
            "first_heard_ms": None,
        },
    ]

    class Call:
        def waterfall(self):
            return table_of(rows)

    spoken = Conversation(folded.store, uid=folded.id, name=folded.name, client=Call())
    figure = spoken.plot_latency()
    assert "3 spoken answers, first sound heard after 900 ms (median)" in figure.summary
    parts = {part.name: list(part.heights) for part in figure._bars.parts}
    assert [sum(bar) for bar in zip(*parts.values(), strict=True)] == [600, 1200, 500], (
        "steps that were not seen add nothing"
    )
    assert spoken.plot_latency(last=1).df["response_id"].tolist() == ["t"]


def test_a_real_call_has_its_answers_in_the_picture(tmp_path):
    spoken = tmp_path / "hello.wav"
    with wave.open(str(spoken), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes((b"\x00\x20" * 12 + b"\x00\xe0" * 12) * 1000 + bytes(48_000))
    with (
        testing.server(["I heard you."], realtime=testing.Realtime(hears="Hello.")) as server,
        voxnb.RealtimeAPIClient(base_url=server.base_url, store_context=True, store=":memory:") as one,
    ):
        done = one.wait_for(voxnb.OpenAI.RealtimeAPIEvents.ResponseDone)
        file = AudioFile(spoken)
        file.send_media_to(one)
        done.result(30)
        file.close()
        figure = one.conversation.plot_latency()
    assert "1 spoken answer, first sound" in figure.summary
    assert figure.df["first_delta_ms"].iloc[0] > 0


@pytest.mark.parametrize("plot", PLOTS)
def test_a_conversation_without_a_turn_has_a_sentence_in_place_of_empty_axes(empty, drawn, plot):
    figure = getattr(empty, plot)()
    assert figure.summary.startswith("no ")
    assert figure._repr_html_().endswith(f"</strong>: {figure.summary}</p></div>")
    assert len(figure.df) == 0
    ET.fromstring(figure.svg)


def test_turns_that_never_were_a_request_are_counted(empty):
    told = empty.store.append("told", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    assert told.plot_tokens().summary == "no request yet; 1 turn stored without one"


def test_altair_is_to_go_on_with_and_its_absence_names_the_extra(folded, monkeypatch):
    chart = folded.plot_tokens().chart
    assert chart.to_dict()["title"] == f"Context of {NAME!r} by turn"
    monkeypatch.setitem(__import__("sys").modules, "altair", None)
    with pytest.raises(NotSupportedError, match=r"voxnb\[plots\]"):
        _ = folded.plot_tokens().chart


@pytest.mark.parametrize("last", [0, -1, True, "3", 2.5])
def test_how_many_turns_is_a_count(folded, last):
    for plot in (folded.plot_tokens, folded.plot_latency):
        with pytest.raises(ParameterError, match="last"):
            plot(last=last)


def test_names_that_would_overlap_are_left_out_and_bars_stay_inside(folded):
    from voxnb.notebook.figure import Bars, Part

    many = Bars("many", "turn", "tokens", [f"turn {n}" for n in range(200)], [Part("x", "#000000", range(200))])
    root = ET.fromstring(draw(many))
    names = [e for e in root.iter(f"{SVG}text") if (e.text or "").startswith("turn ")]
    assert 5 < len(names) < 20
    wide = float(root.attrib["width"])
    for bar in root.iter(f"{SVG}rect"):
        assert 0 <= float(bar.attrib.get("x", 0)) <= wide
        assert float(bar.attrib["height"]) >= 0


@pytest.mark.parametrize("most", [0, 0.3, 1, 7, 99, 100, 101, 12_345, 1e9])
def test_an_axis_has_few_round_numbers_and_reaches_the_top(most):
    scale = ticks(most)
    assert 2 <= len(scale) <= 7
    assert scale[0] == 0
    assert scale[-1] >= most
