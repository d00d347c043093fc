"""The chat widget, with pages played by hand: what it tells, what can be wished for, and that it leaves nothing behind."""

import gc
import json
import re
import subprocess
import sys
import weakref
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

import voxnb
from tests.notebook.pages import Page
from voxnb import testing
from voxnb.audio.wav import header
from voxnb.notebook.live import LiveText
from voxnb.notebook.transcript import marks

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x08\x02\0\0\0Km)\xdc"
WAV = header(4_800, rate_hz=24_000, channels=1) + bytes(4_800)


@pytest.fixture
def chat():
    replies = lambda request: f"You said {request.text}."  # noqa: E731
    with testing.server(replies) as server:
        with voxnb.chat(
            "gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", conversation="iris"
        ) as made:
            made.server = server
            yield made


@pytest.fixture
def page(chat):
    widget = chat.widget()
    yield Page(widget)
    widget.close()


def test_a_page_gets_the_head_and_the_turns(chat, page):
    chat.ask("Hi").result()
    (turn,) = page.shown(lambda shown: [t["state"] for t in shown] == ["complete"])
    assert page.sections["head"]["name"] == "iris"
    assert page.sections["head"]["own"] is None
    assert turn["said"] == [{"role": "user", "text": "Hi", "parts": ""}]
    assert "You said Hi." in turn["answer"]


def test_what_is_asked_on_the_page_is_asked_and_a_reply_under_way_is_streamed(chat, page):
    assert "error" not in page.ask("chat.ask", text="Which plot?")
    page.shown(lambda shown: [t["state"] for t in shown] == ["complete"])
    assert len(chat.conversation) == 1
    assert chat.server.requests[-1].text == "Which plot?"


def test_an_answer_that_is_stored_is_not_shown_a_second_time_as_under_way(chat, page):
    turn = chat.ask("Hi")
    turn.result()
    tab = page.widget._tabs[0]
    late = SimpleNamespace(id=turn.id, stored=Future(), partial="You said Hi.", on_news=lambda _: None)
    tab._running = [(late, LiveText())]  # as it is between the store's commit and the turn's own notice of it
    told = tab.compose(full=True)
    assert (told["busy"], "live" in told) == (False, False)
    assert "You said Hi." in told["put"][turn.id]["answer"]


def test_files_keep_their_names_and_no_path_gets_out_of_the_folder(chat, page):
    answer = page.ask("chat.ask", b"a,b\n1,2\n", b"x = 1\n", text="See", files=["../../etc/t.csv", ".."])
    assert "error" not in answer
    page.shown(lambda shown: [t["state"] for t in shown] == ["complete"])
    said = json.dumps(chat.server.requests[-1].messages[-1])
    assert "t.csv" in said
    assert "etc" not in said
    assert "pasted" in said


@pytest.mark.parametrize(
    ("verb", "args", "told"),
    [
        ("chat.ask", {"text": "  "}, "nothing to say"),
        ("chat.ask", {}, "nothing to say"),
        ("chat.ask", {"text": 7}, "nothing to say"),
        ("chat.edit", {"turn": 99, "text": "x"}, "no turn yet"),
        ("chat.edit", {"turn": 1, "text": ""}, "nothing to say"),
        ("chat.retry", {}, "turn"),
        ("open", {"name": "no such"}, "no such"),
        ("nonsense", {}, "no 'nonsense'"),
        (None, {}, "no None"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_answered_with_the_reason(page, verb, args, told):
    answer = page.ask(verb, **args)
    assert told in answer["error"]


def test_an_edit_goes_on_in_a_fork_and_back(chat, page):
    for text in ("one", "two", "three"):
        chat.ask(text).result()
    answer = page.ask("chat.edit", turn=2, text="else")
    assert answer["value"] == "iris-2"
    page.shown(
        lambda shown: [t["said"][0]["text"] for t in shown] == ["one", "else"] and shown[-1]["state"] == "complete"
    )
    assert page.sections["head"]["own"] == "iris"
    assert len(chat.conversation) == 3
    page.ask("open")
    page.until(lambda p: p.sections["head"].get("own", "") is None)
    assert len(page.shown(lambda shown: len(shown) == 3)) == 3


def test_an_edit_takes_along_what_was_attached_or_says_that_it_cannot(chat, page):
    chat.ask("What is it?", attach=[PNG, WAV]).result()
    page.ask("chat.edit", turn=1, text="What colour is it?")
    page.shown(lambda shown: [t["state"] for t in shown] == ["complete"] and "colour" in shown[0]["said"][0]["text"])
    before, after = (request.messages[-1]["content"] for request in chat.server.requests[-2:])
    assert [part["type"] for part in after] == ["text", "image_url", "input_audio"]
    assert after[1:] == before[1:]
    at_an_address = [
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
        {"type": "text", "text": "?"},
    ]
    page.ask("open")
    chat.create_chat_completions(messages=[{"role": "user", "content": at_an_address}]).result()
    assert "turn 2 has a part (image_url)" in page.ask("chat.edit", turn=2, text="else")["error"]
    assert len(chat.store) == 2


def test_an_edit_of_more_than_is_shown_loses_nothing(chat, page):
    chat.ask("Read this: " + "word " * 5_000).result()
    (shown,) = page.shown(lambda shown: [t["state"] for t in shown] == ["complete"])
    text = shown["said"][0]["text"]
    assert "turn 1 is longer than what is shown of it" in page.ask("chat.edit", turn=1, text=f"Now: {text}")["error"]
    assert len(chat.store) == 1
    page.ask("chat.edit", turn=1, text="Something else?")
    assert len(chat.store) == 2


def test_stop_stops_what_runs_without_waiting_for_a_patch():
    with testing.server([testing.Paced("word " * 500, chunk_delay_s=0.05)]) as server:
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=":memory:") as chat:
            widget = chat.widget()
            page = Page(widget)
            turn = chat.ask("Hi")
            page.until(lambda p: "word" in p.sections.get("chat", {}).get("live", {}).get("tail", ""))
            page.say(t="stop")
            assert turn.result(60).finish_reason == "cancelled"
            (shown,) = page.shown(lambda shown: [t["state"] for t in shown] == ["partial"])
            assert "stopped" in shown["marks"]
            widget.close()


def test_a_turn_that_was_stopped_before_anything_came_was_stopped_and_did_not_fail():
    with testing.server([testing.Paced("Hi", delay_s=60)]) as server:
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=":memory:") as chat:
            asked = chat.ask("Hi")
            server.wait_for(1)
            asked.cancel(wait_s=60)
            (turn,) = chat.conversation.page().turns
            assert (turn.state, marks(turn)) == ("failed", ["stopped"])


def test_older_turns_come_on_demand(chat, page):
    chat.ask("first").result()
    for n in range(32):
        chat.store.append("iris", [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}])
    assert len(page.shown(lambda shown: len(shown) == 30)) == 30
    page.ask("chat.earlier")
    assert len(page.shown(lambda shown: len(shown) > 30)) == 33


def test_only_what_changed_is_sent_again(chat, page):
    for text in ("one", "two", "three"):
        chat.ask(text).result()
    page.shown(lambda shown: len(shown) == 3 and all(t["state"] == "complete" for t in shown))
    chat.conversation.pin(1)
    page.until(lambda p: any("pinned" in t["marks"] for t in p.sections["chat"]["put"].values()))
    assert len(page.sections["chat"]["put"]) == 1


def test_nothing_that_was_said_is_in_the_state_that_a_notebook_saves(chat, page):
    chat.ask("a secret word").result()
    page.shown(lambda shown: len(shown) == 1)
    state = json.dumps(
        {k: v for k, v in page.widget.get_state().items() if isinstance(v, str | int | float | bool | None)}
    )
    assert "secret" not in state
    assert len(state) < 100_000


def test_the_text_that_stands_in_for_it_has_no_script_and_no_style(chat, page):
    chat.ask("<script>alert(1)</script>").result()
    bundle = page.widget._bundle()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<script" not in bundle["text/html"]
    assert "style" not in bundle["text/html"]
    assert "&lt;script&gt;alert(1)" in bundle["text/html"]
    assert re.search(r"<small>20\d\d-\d\d-\d\d \d\d:\d\d", bundle["text/html"]), "it is read on another day"


def test_a_closed_client_is_told_and_the_conversation_can_still_be_read():
    with testing.server(["Hello."]) as server:
        with voxnb.ContextStore(":memory:") as store:
            chat = voxnb.chat("m", base_url=server.base_url, api_key="k", store=store)
            widget = chat.widget()
            page = Page(widget)
            chat.ask("Hi").result()
            chat.close()
            page.until(lambda p: p.sections["head"].get("closed"))
            assert "closed" in page.ask("chat.ask", text="More")["error"]
            assert len(page.shown(lambda shown: len(shown) == 1)) == 1
            widget.close()


def test_a_closed_widget_lets_everything_go(chat):
    widget = chat.widget()
    page = Page(widget)
    page.take()
    widget.close()
    widget.close()
    assert chat._watchers == []
    widget._channel._thread.join(60)
    gone = weakref.ref(widget)
    del widget, page
    gc.collect()
    assert gone() is None


def test_a_client_without_a_memory_has_no_widget():
    client = voxnb.ChatCompletionsAPIClient(model="m", api_key="k")
    with pytest.raises(voxnb.errors.ConversationError, match="keeps no conversation"):
        client.widget()
    client.close()


def test_of_a_private_conversation_nothing_stays_in_the_notebook(chat):
    with voxnb.chat("gpt-4o-mini", base_url=chat.server.base_url, api_key="k", privacy=True) as private:
        widget = private.widget()
        private.ask("Xylophone").result()
        page = Page(widget)
        (turn,) = page.shown(lambda shown: [t["state"] for t in shown] == ["complete"])
        assert "Xylophone" in turn["answer"]
        bundle = widget._bundle()
        widget.close()
    assert "private" in bundle["text/html"]
    assert "Xylophone" not in json.dumps(dict(bundle))


@pytest.mark.slow
def test_a_script_that_leaves_its_widget_open_ends_without_a_word():
    script = (
        "import voxnb\nchat = voxnb.chat('m', base_url='http://127.0.0.1:9', store=':memory:')\nshown = chat.widget()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
