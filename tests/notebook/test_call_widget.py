"""A call's widget, with pages played by hand: sound both ways, the lease, captions, sessions."""

import contextlib
import io
import itertools
import threading
import wave

import pytest

import voxnb
from tests.notebook.pages import LIMIT_S, Page
from voxnb import testing
from voxnb.events import Events, SessionEvents
from voxnb.local.realtime import tone
from voxnb.notebook.browser_sound import BrowserSound

SESSION = {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}}}
FRAME = 1_920


class Talker(Page):
    """A page with a microphone and a loudspeaker."""

    def __init__(self, widget):
        self.numbers, self.played = itertools.count(), {}
        super().__init__(widget)
        send = widget._channel._send
        widget._channel._send = lambda message, buffers=None: (self.hear(message, buffers), send(message))

    def hear(self, message, buffers):
        if message["t"] != "sound" or message.get("page") != getattr(self, "page", None):
            return
        if message["kind"] == "clear":
            self.played[message["lane"], message["generation"]] = 0
        elif message["kind"] == "audio":
            key = message["lane"], message["generation"]
            self.played[key] = self.played.get(key, 0) + len(buffers[0]) // 2

    def listen(self):
        """Take the lease, and wait until the call is there: what is said before it is lost."""
        assert "error" not in self.ask("media.take", page="one")
        self.until(lambda p: p.sections["media"]["call"]["connected"])

    def talk(self, sound, page="one"):
        for at in range(0, len(sound), FRAME):
            frame = sound[at : at + FRAME]
            self.say(frame, t="mic", page=page, seq=next(self.numbers), rate_hz=24_000, at=1.0)

    def tell_played(self, page="one"):
        for (lane, generation), samples in list(self.played.items()):
            self.say(t="played", page=page, lane=lane, generation=generation, samples=samples)


@pytest.fixture
def made():
    with contextlib.ExitStack() as stack:

        def make(replies, store=None, bridge=None, **realtime):
            server = stack.enter_context(testing.server(replies, realtime=testing.Realtime(**realtime)))
            more = {"store_context": True, "store": store, "conversation": "call"} if store else {}
            more |= {"bridge": bridge} if bridge else {}
            client = voxnb.RealtimeAPIClient(base_url=server.base_url, api_key=server.api_key, session=SESSION, **more)
            stack.callback(client.close)
            widget = client.widget()
            stack.callback(widget.close)
            page = Talker(widget)
            page.page = "one"
            return client, page.until(lambda p: "media" in p.sections)

        yield make


def lines(page):
    return [(line["who"], line["text"], line["state"]) for line in page.lines.values()]


@pytest.fixture(autouse=True)
def noted(monkeypatch):
    """Pages keep the captions they were sent."""
    take = Page.take

    def keep(page):
        message = take(page)
        page.lines = {**getattr(page, "lines", {}), **message.get("media", {}).get("put", {})}
        return message

    monkeypatch.setattr(Page, "take", keep)


def test_a_page_that_listens_begins_the_call_and_talks_with_the_model(made):
    client, page = made(["Hello Ann."], hears=["I am Ann."])
    heard = client.wait_for(SessionEvents.Interrupted)
    page.listen()
    page.talk(tone("I am Ann") + bytes(48_000))
    page.until(lambda p: ("model", "Hello Ann.", "speaking") in lines(p))
    page.until(lambda p: sum(page.played.values()) > 4_000)
    page.until(lambda p: (page.tell_played(), ("model", "Hello Ann.", "said") in lines(p))[1])
    assert not heard.done()
    assert (
        page.sections["media"]["browser"] | {"owner": "one", "lost": 0, "reordered": 0}
        == page.sections["media"]["browser"]
    )
    page.until(lambda p: len(p.sections["media"]["streams"]) == 2)
    assert {(s["way"], s["tag"], s["unit"], s["encoding"]) for s in page.sections["media"]["streams"]} == {
        ("in", "browser", "browser", "PCM16 24 kHz"),
        ("out", "browser", "browser", "PCM16 24 kHz"),
    }
    page.until(lambda p: p.sections["media"]["falls"])


def test_what_the_page_has_played_is_what_an_interruption_counts(made):
    client, page = made(["A long answer of very many words. " * 8, "Yes?"])
    interrupted = client.wait_for(SessionEvents.Interrupted)
    page.listen()
    page.talk(tone("Talk to me") + bytes(48_000))
    page.until(lambda p: sum(page.played.values()) > 12_000)
    (key,) = page.played
    page.say(t="played", page="one", lane=key[0], generation=key[1], samples=12_000)
    page.talk(tone("Stop it now"))
    (item,) = interrupted.result(LIMIT_S).payload["items"]
    assert item["heard_ms"] == 500
    page.until(lambda p: any(line["state"] == "interrupted" for line in p.lines.values()))
    line = next(line for line in page.lines.values() if line["state"] == "interrupted")
    assert line["heard_ms"] == 500
    assert line["received_ms"] > 500
    assert set(line["shape"]) - {"0"}


def test_the_lease_is_one_pages_and_the_other_is_not_heard(made):
    _, page = made(["Hello."])
    page.ask("media.take", page="one")
    page.ask("media.take", page="two")
    page.until(lambda p: p.sections["media"]["browser"]["owner"] == "two")
    page.talk(tone("I am one"), page="one")
    page.ask("media.leave", page="one")
    page.talk(tone("two"), page="two")
    page.until(lambda p: p.sections["media"]["browser"]["frames"] > 0)
    assert page.sections["media"]["browser"]["owner"] == "two"
    page.ask("media.leave", page="two")
    page.until(lambda p: p.sections["media"]["browser"]["owner"] is None)


def test_a_page_that_falls_silent_loses_the_lease(made, monkeypatch):
    monkeypatch.setattr("voxnb.notebook.browser_sound.GONE_S", 0.05)
    _, page = made(["Hello."])
    page.ask("media.take", page="one")
    page.until(lambda p: p.sections["media"]["browser"]["why"] == "the page that listened is gone")
    assert page.sections["media"]["browser"]["owner"] is None


def test_a_page_that_takes_the_lease_while_the_one_before_is_given_up_keeps_it(monkeypatch):
    class Call:
        def send_media_to(self, unit, *, tag):
            pass

        stop_media_to = send_media_to

    sound = BrowserSound(Call(), tell=lambda *_: None, changed=lambda: None)
    monkeypatch.setattr(sound, "unit", Call())
    sound.owner, sound._at_s = "one", float("-inf")
    looking = threading.Thread(target=sound._watch)
    reset = sound._reset

    def looked_after():
        looking.start()
        looking.join(0.05)
        reset()

    monkeypatch.setattr(sound, "_reset", looked_after)
    sound.take("two")
    looking.join(LIMIT_S)
    assert sound.owner == "two"
    sound.owner = None


def test_a_front_end_that_drops_buffers_is_told_what_to_do_instead(made):
    _, page = made(["Hello."])
    page.ask("media.take", page="one")
    page.say(t="mic", page="one", seq=0, rate_hz=24_000)
    page.until(lambda p: "no binary data" in p.sections["media"]["browser"]["why"])


def test_gaps_and_disorder_are_counted(made):
    _, page = made(["Hello."])
    page.ask("media.take", page="one")
    for number in (7, 8, 10, 9):
        page.say(bytes(FRAME), t="mic", page="one", seq=number, rate_hz=24_000)
    page.until(lambda p: p.sections["media"]["browser"]["frames"] == 4)
    facts = page.sections["media"]["browser"]
    assert (facts["lost"], facts["reordered"]) == (1, 1)
    page.say(t="hello")
    page.until(lambda p: p.sections["media"]["dropped_ms"] == 40)  # and the page says so


def test_who_has_no_microphone_writes_and_reads(made):
    _, page = made(lambda request: f"You wrote {request.text}.")
    assert "nothing to say" in page.ask("media.say", text=" ")["error"]
    page.ask("media.say", text="hello")
    page.until(lambda p: any("You wrote hello." in text for _, text, _ in lines(p)))


def test_a_file_is_heard_as_if_somebody_spoke(made):
    _, page = made(["Hello Ann."], hears=["I am Ann."])
    spoken = io.BytesIO()
    with wave.open(spoken, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes(tone("I am Ann"))
    assert "no sound" in page.ask("media.play", b"", name="a.wav")["error"]
    assert "AudioError" in page.ask("media.play", b"no audio", name="../../a.wav")["error"]
    assert "error" not in page.ask("media.play", spoken.getvalue(), name="a.wav")
    page.until(lambda p: any("Hello Ann." in text for _, text, _ in lines(p)))


def test_a_session_is_muted_and_heard_again(made):
    client, page = made(["Hello."])
    client.connect().result()
    other = voxnb.RealtimeAPIClient(base_url="http://127.0.0.1:9", api_key="k")
    other.send_media_to(client, tag="line")  # another model's voice
    page.until(lambda p: any(s["tag"] == "line" for s in p.sections["media"]["streams"]))
    assert [s["direction"] for one in (client, other) for s in one.statistics().streams] == ["in", "out"]
    (key,) = [s["key"] for s in page.sections["media"]["streams"]]
    for is_muted, state in ((True, "muted"), (False, "silent")):
        assert "error" not in page.ask("media.mute", key=key)
        page.until(lambda p: [s["state"] for s in p.sections["media"]["streams"]] == [state])
        assert [stream.is_muted for stream in client.streams] == [is_muted]
    assert "no session" in page.ask("media.mute", key="nonsense")["error"]
    other.close()


@pytest.mark.parametrize("bridge", [None, "process"])
def test_what_is_said_in_a_muted_session_reaches_nobody(made, bridge):
    client, page = made(["Hello Ann."], bridge=bridge)
    heard = client.wait_for(client.EVENTS.InputAudioBufferSpeechStarted)
    client.connect().result()
    page.listen()
    page.talk(bytes(FRAME))
    page.until(lambda p: [s["way"] for s in p.sections["media"]["streams"]].count("in") == 1)
    (key,) = [s["key"] for s in page.sections["media"]["streams"] if s["way"] == "in"]
    assert "error" not in page.ask("media.mute", key=key)
    page.until(lambda p: "muted" in [s["state"] for s in p.sections["media"]["streams"]])
    page.talk(tone("I am Ann") + bytes(48_000))
    page.until(lambda p: max(s["duration_ms"] for s in p.sections["media"]["streams"] if s["way"] == "in") > 1_000)
    assert not heard.done()
    assert page.sections["media"]["level"] == 0
    assert "error" not in page.ask("media.mute", key=key)
    page.until(lambda p: "muted" not in [s["state"] for s in p.sections["media"]["streams"]])
    page.talk(tone("I am Ann") + bytes(48_000))
    heard.result(LIMIT_S)


def test_hanging_up_ends_the_call_and_leaves_what_was_said(made):
    client, page = made(["<script>alert(1)</script>"])
    ended = client.wait_for("WebSocket.Close")
    page.ask("media.say", text="hello")
    page.until(lambda p: any("<script>" in text for _, text, _ in lines(p)))
    page.ask("media.hang_up")
    ended.result(LIMIT_S)
    page.until(lambda p: p.sections["head"].get("closed"))
    assert "&lt;script&gt;" in page.widget.static_html()
    assert "<script" not in page.widget.static_html()


def test_a_remembered_call_is_read_as_turns(made):
    with voxnb.ContextStore(":memory:") as store:
        client, page = made(["Hello Ann."], store=store, hears=["I am Ann."])
        page.ask("show", tab="read")
        page.listen()
        page.talk(tone("I am Ann") + bytes(48_000))
        page.until(lambda p: sum(p.played.values()) > 4_000)
        page.until(lambda p: (p.tell_played(), "Hello Ann." in (p.sections.get("read", {}).get("html") or ""))[1])
        assert "I am Ann." in page.sections["read"]["html"]
        client.close()


def test_the_panel_of_a_chat_shows_the_call_that_speaks_in_its_conversation(made):
    with voxnb.ContextStore(":memory:") as store, testing.server(["Yes."]) as typed:
        chat = voxnb.chat("m", base_url=typed.base_url, api_key="k", store=store, conversation="call")
        widget = chat.widget()
        panel = Talker(widget)
        panel.page = "one"
        panel.until(lambda p: p.sections["head"].get("tabs") == ["chat", "context", "events"])
        client, _ = made(["Hello Ann."], store=store, hears=["I am Ann."])
        panel.until(lambda p: p.sections["head"].get("tabs") == ["chat", "context", "events", "media"])
        panel.ask("show", tab="media")
        panel.until(lambda p: "media" in p.sections)
        panel.listen()
        assert client.connected
        panel.talk(tone("I am Ann") + bytes(48_000))
        panel.until(lambda p: sum(p.played.values()) > 4_000)
        panel.until(lambda p: (p.tell_played(), ("model", "Hello Ann.", "said") in lines(p))[1])
        panel.shown(lambda shown: any("Hello Ann." in str(turn) for turn in shown))
        widget.go(chat.conversation.fork(name="else"))
        panel.ask("media.hang_up")
        panel.until(lambda p: p.sections["media"]["call"]["closed"])
        assert panel.sections["head"]["tabs"][-1] == "media", "what was said there can still be read"
        assert not panel.sections["head"]["closed"], "the chat goes on"
        again, _ = made(["Good evening."], store=store)
        widget.go(chat.conversation)
        panel.until(lambda p: not p.sections["media"]["call"]["closed"])
        panel.ask("media.say", text="hello")
        panel.until(lambda p: any("Good evening." in text for _, text, _ in lines(p)))
        assert again.connected
        for one in (widget, client, again, chat):
            one.close()


def test_a_call_in_the_bridge_process_is_shown_as_one_of_this_process(made):
    client, page = made(["Hello Ann."], hears=["I am Ann."], bridge="process")
    client.connect().result()  # a page that listens is not silent while the process starts
    page.listen()
    page.talk(tone("I am Ann") + bytes(48_000))
    page.until(lambda p: sum(p.played.values()) > 4_000)
    page.until(lambda p: (p.tell_played(), ("model", "Hello Ann.", "said") in lines(p))[1])
    page.until(lambda p: len(p.sections["media"]["streams"]) == 2)
    page.until(lambda p: p.sections["media"]["falls"])
    (line,) = [line for line in page.lines.values() if line["who"] == "model"]
    assert set(line["shape"]) - {"0"}, "the sound of the other process is seen here"
    assert line["heard_ms"] == line["received_ms"] > 0
    facts = page.sections["media"]["browser"]
    assert (facts["owner"], facts["lost"], facts["reordered"]) == ("one", 0, 0)
    page.ask("media.hang_up")
    page.until(lambda p: p.sections["head"].get("closed"))


def test_a_call_that_cannot_begin_says_why(made):
    client = voxnb.RealtimeAPIClient(base_url="http://127.0.0.1:9", api_key="k", max_retries=0)
    widget = client.widget()
    page = Page(widget)
    page.ask("media.take", page="one")
    page.until(lambda p: "Error" in p.sections.get("media", {}).get("note", ""))
    page.until(lambda p: p.sections["media"]["browser"]["owner"] is None)
    widget.close()
    client.close()


def test_what_goes_wrong_in_a_call_is_told_until_the_next_answer(made):
    _, page = made([500, "Hello Ann."])
    page.ask("media.say", text="hello")
    page.until(lambda p: p.sections["media"]["note"] == "server_error: The response failed with status 500.")
    page.ask("media.say", text="once more")
    page.until(lambda p: any("Hello Ann." in text for _, text, _ in lines(p)))
    page.until(lambda p: p.sections["media"]["note"] == "")


def test_what_the_server_refuses_in_a_call_is_told(made):
    client, page = made(["Hello."])
    client.connect().result(LIMIT_S)
    client.conversation_item_delete(item_id="nobody_said_this")
    page.until(lambda p: "nobody_said_this" in p.sections["media"]["note"])


def test_media_sessions_are_told_of_on_the_client(made):
    client, page = made(["Hello Ann."])
    began = client.wait_for(Events.WebSocketMediaStarted)
    page.listen()
    page.talk(tone("I am Ann") + bytes(48_000))
    assert began.result(LIMIT_S).payload["tag"] == "browser"
