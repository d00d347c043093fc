"""The Context tab, with a page played by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import voxnb
from tests.notebook.pages import Page
from voxnb import testing
from voxnb.notebook.context_tab import request_of, word_diff

POLICY = voxnb.ContextPolicy(window_tokens=1400, fold_at_tokens=900, keep_last_turns=1, summary_max_tokens=100)


def answer(request):
    return "A summary." if "summary" in str(request.messages[0]).lower() else "Noted, " + "some more words " * 20


@pytest.fixture
def chat():
    with testing.server(answer) as server:
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=":memory:", policy=POLICY) as made:
            for n in range(4):
                made.ask(f"Question {n} about the iris data").result()
            yield made


@pytest.fixture
def page(chat):
    widget = chat.widget()
    page = Page(widget)
    page.ask("show", tab="context")
    yield page.until(lambda p: "context" in p.sections)
    widget.close()


def test_the_bar_is_the_plans_own_numbers(chat, page):
    bar, plan = page.sections["context"]["bar"], chat.conversation.plan()
    assert bar["total"] == plan.total_tokens == sum(bar["tokens"].values())
    assert (bar["window"], bar["fold_at"]) == (1400, 900)
    assert bar["reducible"] == plan.tokens["summary"] + plan.tokens["tail"]
    assert bar["fold_mark"] == bar["total"] - bar["reducible"] + 900


def test_turns_are_pinned_folded_and_unfolded_and_the_page_sees_it(chat, page):
    def places(p):
        return [turn["place"] for turn in p.sections["context"]["turns"]]

    page.ask("context.pin", turn=1)
    page.until(lambda p: places(p)[0] == "pinned")
    page.ask("context.fold", turn=2)
    page.until(lambda p: places(p) == ["pinned", "covered", "verbatim", "verbatim"])
    page.until(lambda p: p.sections["context"]["note"] == "")
    (made,) = page.sections["context"]["chain"]
    assert (made["turns"], made["text"]) == ([1, 2], "A summary.")
    page.ask("context.unfold")
    page.until(lambda p: places(p)[1] == "verbatim" and p.sections["context"]["chain"] == [])
    assert page.ask("context.unpin", turn=1)["value"] is True


def test_a_past_request_and_a_dry_run_are_told_message_by_message(chat, page):
    past = page.ask("context.explain", turn=2)["value"]
    assert past["exact"] is True
    assert [item["role"] for item in past["items"]] == ["user", "assistant", "user"]
    tried = page.ask("context.try", text="What of virginica?")["value"]
    assert (tried["exact"], tried["items"][-1]["text"]) == (None, "What of virginica?")
    assert len(chat.conversation) == 4
    assert "error" in page.ask("context.explain", turn=99)


def test_a_request_tells_the_tools_that_were_called_and_is_not_cut_in_silence():
    call = {"id": "c1", "type": "function", "function": {"name": "rides", "arguments": '{"station": "North"}'}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    said = [
        {"role": "user", "content": [{"type": "text", "text": "y " * 3_000}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "410"},
        {"role": "assistant", "content": "z" * 30_000},
    ]
    with voxnb.ContextStore(":memory:") as store:
        items = request_of(store.append("x", said).plan())["items"]
    asked, called, result, answered = (item["text"] for item in items)
    assert asked == "y " * 3_000 + "\n[image_url]"
    assert json.loads(called) == call
    assert result == "410"
    assert answered.endswith("z … (30,000 characters)")


def test_every_turn_can_be_reached(page, chat):
    for n in range(4, 70):
        chat.conversation.ask(f"Question {n}", client=chat).result()
    page.until(lambda p: p.sections["context"]["count"] == 70)
    assert [turn["seq"] for turn in page.sections["context"]["turns"]] == list(range(11, 71))
    page.ask("context.earlier")
    page.until(lambda p: p.sections["context"]["turns"][0]["seq"] == 1)
    assert page.sections["context"]["most"] > 70


@given(st.text("ab \n.", max_size=40), st.text("ab \n.", max_size=40))
def test_a_word_diff_holds_both_texts(before, after):
    pieces = word_diff(before, after)
    assert "".join(text for kind, text in pieces if kind != "new") == before
    assert "".join(text for kind, text in pieces if kind != "gone") == after
