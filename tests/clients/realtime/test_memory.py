"""What is said in a call becomes turns of a conversation, like any other; a chat goes on in a call and back."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

import voxnb
from tests.clients.realtime.peer import KEY, WAIT_S, Peer, greet
from tests.clients.realtime.test_going_on import FAR, ask, said, session
from tests.clients.realtime.test_voice import Ear
from voxnb import ContextStore, SessionEvents, SessionPolicy, errors, testing
from voxnb.clients.realtime import told as client_told
from voxnb.clients.realtime.memory import CallMemory
from voxnb.events import ContextEvents, RealtimeAPIEvents, WebSocketEvents
from voxnb.media.clock import LOOP
from voxnb.media.stream import Sink

SPOKEN = "conversation.item.input_audio_transcription"


@pytest.fixture
def store():
    with ContextStore(":memory:") as made:
        yield made


def call(server, store, **given):
    return voxnb.RealtimeAPIClient(
        **{
            "base_url": server.base_url,
            "api_key": KEY,
            "max_retries": 0,
            "store_context": True,
            "store": store,
            "conversation": "call",
            **given,
        }
    )


def turns(store):
    rows = store.turns().to_dict("records")
    return [(r["seq"], r["state"], r["user_text"], r["reply_text"], r["finish_reason"]) for r in rows]


def speaking(*scenes, transcription=True):
    """Behaviour: begin, then play scenes; each is a function of the connection."""

    async def behave(connection):
        told = {"transcription": {"model": "m"}} if transcription else {}
        await connection.begin(expires_at=FAR, audio={"input": told})
        await connection.next("response.create")
        for scene in scenes:
            await scene(connection)
        await connection.until_closed()

    return behave


def heard(item_id, text):
    async def scene(connection):
        kind = f"{SPOKEN}.completed" if text is not None else f"{SPOKEN}.failed"
        fields = {"transcript": text} if text is not None else {"error": {"message": "?"}}
        await connection.send(connection.talk.event(kind, item_id=item_id, content_index=0, **fields))

    return scene


def user(item_id):
    async def scene(connection):
        await connection.send(*connection.talk.user(item_id))

    return scene


def spoken(n, text, *, deltas=1):
    async def scene(connection):
        await connection.send(*connection.talk.spoken(f"r{n}", f"a{n}", text, deltas=deltas))

    return scene


def done_after(one, n):
    """An event that is set after n responses."""
    end, seen = threading.Event(), []

    def note(event):
        seen.append(event)
        if len(seen) == n:
            end.set()

    one.on(RealtimeAPIEvents.ResponseDone, note)
    return end


def sounded(one):
    """Wait until nothing that was said waits to be heard."""
    end = time.monotonic() + WAIT_S
    while any(stream["depth_ms"] for stream in one.statistics().streams):
        assert time.monotonic() < end
        time.sleep(0.005)


def play(store, *scenes, transcription=True, **given):
    """Play scenes to a client; what the store has when it is closed."""
    with Peer(speaking(*scenes, transcription=transcription)) as peer:
        one = call(peer, store, **given)
        end = done_after(one, sum(1 for s in scenes if s.__qualname__.startswith("spoken")))
        one.connect().result(WAIT_S)
        one.response_create()
        assert end.wait(WAIT_S)
        one.close()
        return one


def test_what_is_said_after_an_answer_that_failed_is_kept_while_that_is_being_written(tmp_path):
    gate = threading.Event()
    with testing.server([500, "Fine."], realtime=True) as server, ContextStore(tmp_path / "calls.db") as store:
        one = call(server, store, session={"output_modalities": ["text"]})
        one.connect().result(WAIT_S)
        store.database.perform(lambda _: gate.wait(WAIT_S))
        for text in ("One?", "Two?"):
            ask(one, text)
        gate.set()
        one.close()
        assert [(state, asked) for _, state, asked, _, _ in turns(store)] == [("failed", "One?"), ("complete", "Two?")]
        assert turns(store)[1][3] == "Fine."


def test_spoken_turns_are_turns_like_any_other(store):
    scenes = [user("u1"), heard("u1", "I am Ann."), spoken(1, "Hello Ann."), user("u2"), spoken(2, "You are Ann."), heard("u2", "Who am I?")]  # fmt: skip
    play(store, *scenes, instructions="Be brief.")
    assert turns(store) == [
        (1, "complete", "I am Ann.", "Hello Ann.", "stop"),
        (2, "complete", "Who am I?", "You are Ann.", "stop"),
    ]
    assert store.verify(), store.verify()
    (row,) = store.conversations().to_dict("records")
    assert (row["name"], row["api"], row["model"], row["turn_count"]) == ("call", "realtime", "gpt-realtime", 2)
    calls = store.calls().to_dict("records")
    assert [(c["purpose"], c["prompt_tokens"], c["completion_tokens"], c["request_id"]) for c in calls] == [
        ("turn", 100, 20, "r1"),
        ("turn", 100, 20, "r2"),
    ]
    conversation = store["call"]
    plan = conversation.explain(2)
    assert plan.exact
    assert [m["content"] for m in plan.messages] == ["Be brief.", "Who am I?"]
    assert plan.dropped == [(1, "this turn and all before it: the server has them (session)")]
    assert [m["content"] for m in conversation.plan("Bye").messages] == [
        "Be brief.", "I am Ann.", "Hello Ann.", "Who am I?", "You are Ann.", "Bye",
    ]  # fmt: skip


def test_a_transcript_that_fails_or_never_comes_leaves_a_word(store):
    play(store, user("u1"), heard("u1", None), spoken(1, "Pardon?"))
    play(store, user("u2"), spoken(2, "Pardon?"), transcription=False)
    assert [t[2] for t in turns(store)] == ["[speech without a transcript]"] * 2
    assert store.verify()


def test_half_an_emoji_of_the_server_loses_no_turn_and_no_later_session(store):
    with Peer(
        [speaking(user("u1"), heard("u1", "Hi \ud83d."), spoken(1, "Hello \ud83d\ude00 \ud800.")), greet]
    ) as peer:
        one = call(peer, store)
        end = done_after(one, 1)
        one.connect().result(WAIT_S)
        one.response_create()
        assert end.wait(WAIT_S)
        assert one.rollover().result(WAIT_S) is True
        one.close()
    assert [(t[1], t[2], t[3]) for t in turns(store)] == [("complete", "Hi \ufffd.", "Hello \U0001f600 \ufffd.")]


def test_an_agent_that_speaks_first_begins_a_turn(store):
    play(store, spoken(1, "Good morning."), user("u1"), heard("u1", "Morning."), spoken(2, "How may I help?"))
    assert [(t[1], t[3]) for t in turns(store)] == [("complete", "Good morning."), ("complete", "How may I help?")]
    assert store.verify()


def test_an_interrupted_answer_is_kept_as_it_was_heard_and_beside_it_as_it_was_made(store):
    gate = threading.Event()
    words = " ".join(f"w{n}" for n in range(200))

    async def half(connection):
        talk = connection.talk
        await connection.send(*talk.begin("r1", "a1"), talk.words("r1", "a1", words))
        await connection.send(*(talk.sound("r1", "a1", pcm=bytes(96_000)) for _ in range(10)))  # 20 s
        await asyncio.to_thread(gate.wait, WAIT_S)
        started, *rest = talk.user("u2")
        await connection.send(started, talk.done("r1", "cancelled", status_details={"reason": "turn_detected"}), *rest)

    half.__qualname__ = "spoken_half"
    scenes = [user("u1"), heard("u1", "Count."), half, heard("u2", "Stop."), spoken(2, "Sorry.")]
    with Peer(speaking(*scenes)) as peer:
        one = call(peer, store)
        ear = Attentive(LOOP)
        one.send_media_to(ear)
        interrupted = one.wait_for(SessionEvents.Interrupted)
        both = done_after(one, 2)
        one.connect().result(WAIT_S)
        one.response_create()
        assert ear.attentive.wait(WAIT_S)
        gate.set()
        told = interrupted.result(WAIT_S).payload
        assert both.wait(WAIT_S)
        sounded(one)
        one.close()
        sent = [e for e in peer.connections[0].received if e["type"] == "conversation.item.truncate"]
    (item,) = told["items"]
    assert [e["audio_end_ms"] for e in sent] == [item["heard_ms"]]
    assert item["heard_ms"] >= 480
    state, said, reply, reason = turns(store)[0][1:]
    assert (state, said, reason) == ("partial", "Count.", "interrupted")
    assert words.startswith(reply)
    assert 3 <= len(reply.split()) < 200
    (kept,) = store.events().query("name == @SessionEvents.Interrupted.value").to_dict("records")
    facts = json.loads(kept["payload"])
    assert (facts["generated"], facts["heard"], facts["received_ms"]) == (words, reply, 20_000)
    assert turns(store)[1][2:] == ("Stop.", "Sorry.", "stop")
    assert store.verify(), store.verify()


class Attentive(Ear):
    """Tells when it has heard half a second."""

    def __init__(self, clock):
        super().__init__(clock)
        self.attentive = threading.Event()

    def _heard(self, stream, frame):
        super()._heard(stream, frame)
        if len(self.frames) >= 25:
            self.attentive.set()


WORDS = " ".join(f"w{n}" for n in range(200))


async def long_answer(connection):
    """All the words of an answer and twenty seconds of its sound; it is not ended."""
    talk = connection.talk
    await connection.send(*talk.begin("r1", "a1"), talk.words("r1", "a1", WORDS))
    await connection.send(*(talk.sound("r1", "a1", pcm=bytes(96_000)) for _ in range(10)))


def assert_cut_as_heard(store):
    """The one turn has of `WORDS` what was heard."""
    ((_, state, said, reply, reason),) = turns(store)
    assert (state, said, reason) == ("partial", "Count.", "interrupted")
    assert WORDS.startswith(reply)
    assert 3 <= len(reply.split()) < 200
    assert store.verify(), store.verify()


SERVER_LEAVES = {
    "the server": (1012, SessionEvents.SessionLost),
    "the server and comes back": (1012, SessionEvents.SessionRestored),
    "the server, twice": (1012, SessionEvents.SessionRestored),
    "the server for good": (1008, WebSocketEvents.Close),
}


@pytest.mark.parametrize("bridge", ["loop", pytest.param("process", marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole answer", "answer under way"])
@pytest.mark.parametrize("who", ["we", "the caller", *SERVER_LEAVES])
def test_who_hangs_up_in_an_answer_leaves_what_was_heard(store, who, is_whole, bridge):
    scenes = [long_answer, lambda it: it.send(*it.talk.finish("r1", "a1", WORDS))]
    # Who is called again after a loss greets and says nothing more.
    with Peer([speaking(user("u1"), heard("u1", "Count."), *scenes[: 1 + is_whole]), greet]) as peer:
        one, ear = call(peer, store, bridge=bridge), Attentive(LOOP)
        one.send_media_to(ear)
        one.connect().result(WAIT_S)
        one.response_create()
        assert ear.attentive.wait(WAIT_S)
        if who == "the caller":
            one.stop_media_to(ear)
        elif who != "we":
            code, told = SERVER_LEAVES[who]
            for n in range(2 if who.endswith("twice") else 1):
                over = one.wait_for(told)
                peer.do(peer.connections[n].socket.close(code, "gone"))
                over.result(WAIT_S)
        one.close()
    assert_cut_as_heard(store)


def test_an_answer_of_which_nothing_was_heard_joins_what_is_said_next(store):
    async def unheard(connection):
        talk = connection.talk
        await connection.send(*talk.begin("r1", "a1"), talk.words("r1", "a1", "never heard"))
        await connection.send(talk.user("u2")[0], talk.done("r1", "cancelled"), *talk.user("u2")[1:])

    play(store, user("u1"), heard("u1", "Wait."), unheard, heard("u2", "Go on."), spoken(2, "Going on."))
    rows = turns(store)
    assert [(r[1], r[3]) for r in rows] == [("complete", "Going on.")] or [r[3] for r in rows] == ["never heard", "Going on."]  # fmt: skip
    assert store.verify()


def test_a_whole_answer_that_nobody_heard_before_the_end_is_told_as_that(store):
    async def whole_answer(connection):
        await long_answer(connection)
        await connection.send(*connection.talk.finish("r1", "a1", WORDS))

    with Peer(speaking(user("u1"), heard("u1", "Count."), whole_answer)) as peer, call(peer, store) as one:
        late = Ear(LOOP)
        late.sink = Sink(delay_ms=60_000)
        one.send_media_to(late)
        end = done_after(one, 1)
        one.response_create()
        assert end.wait(WAIT_S)
    (row,) = store.turns().to_dict("records")
    assert (row["state"], row["user_text"], row["error"]) == ("failed", "Count.", "nothing of the answer was heard")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def tool_turn(connection):
    """The model calls a tool, is given its result, and answers when it is asked to."""
    await connection.send(*connection.talk.call_add())
    output = await connection.next("conversation.item.create")
    item = {"id": "o1", **output["item"]}
    await connection.send(connection.talk.event("conversation.item.added", item=item, previous_item_id="f_c1"))
    connection.talk.last_item = "o1"
    await connection.next("response.create")
    await connection.send(*connection.talk.spoken("r2", "a2", f"It is {item['output']}.", deltas=1))


tool_turn.__qualname__ = "spoken_tool_turn"


def test_tools_are_run_and_the_turn_has_calls_and_results(store):
    async def behave(connection):
        await connection.begin(expires_at=FAR)
        await connection.next("response.create")
        item = {"id": "u1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "2 + 3?"}]}
        await connection.send(connection.talk.event("conversation.item.added", item=item, previous_item_id=None))
        await tool_turn(connection)
        await connection.until_closed()

    with Peer(behave) as peer:
        one = call(peer, store, tools=[add], run_tools=True)
        both = done_after(one, 2)
        done = one.wait_for(RealtimeAPIEvents.ResponseOutputAudioTranscriptDone)
        one.connect().result(WAIT_S)
        one.response_create()
        assert done.result(WAIT_S).payload.transcript == "It is 5."
        assert both.wait(WAIT_S)
        one.close()
        schema = next(e for e in peer.connections[0].received if e.get("session", {}).get("tools"))["session"]["tools"]
    assert (schema[0]["type"], schema[0]["name"], "strict" in schema[0]) == ("function", "add", False)
    assert [(run.name, run.arguments, run.result) for run in one.tool_runs] == [("add", {"a": 2, "b": 3}, "5")]
    messages = store.messages().to_dict("records")
    assert [(m["role"], m["content"]) for m in messages] == [
        ("user", "2 + 3?"), ("assistant", ""), ("tool", "5"), ("assistant", "It is 5."),
    ]  # fmt: skip
    assert len(turns(store)) == 1
    assert store.verify(), store.verify()


def test_tools_run_without_a_memory_too():
    async def behave(connection):
        await connection.begin(expires_at=FAR)
        await connection.next("response.create")
        await tool_turn(connection)
        await connection.until_closed()

    with Peer(behave) as peer:
        one = voxnb.RealtimeAPIClient(base_url=peer.base_url, api_key=KEY, tools=[add], run_tools=True)
        done = one.wait_for(RealtimeAPIEvents.ResponseOutputAudioTranscriptDone)
        one.connect().result(WAIT_S)
        one.response_create()
        assert done.result(WAIT_S).payload.transcript == "It is 5."
        with pytest.raises(errors.ConversationError):
            _ = one.conversation
        one.close()


def test_a_chat_goes_on_in_a_call_and_the_call_in_a_chat(store):
    with testing.server(["Nice to meet you.", "You are Ann, and you like iris."]) as server:
        given = {"base_url": server.base_url, "store": store, "conversation": "call"}
        with voxnb.chat("gpt-4o-mini", instructions="Be brief.", **given) as chat:
            chat.ask("I am Ann.").result(WAIT_S)
        with Peer(speaking(user("u1"), heard("u1", "I like iris."), spoken(1, "Noted."))) as peer:
            one = call(peer, store)
            done = one.wait_for(RealtimeAPIEvents.ResponseDone)
            one.connect().result(WAIT_S)
            one.response_create()
            done.result(WAIT_S)
            one.close()
            told = peer.connections[0].received
        assert told[0]["session"]["instructions"] == "Be brief."
        assert told[0]["session"]["output_modalities"] == ["audio"]
        items = [e["item"] for e in told if e["type"] == "conversation.item.create"]
        assert [(i["role"], i["content"][0]["text"]) for i in items] == [("user", "I am Ann."), ("assistant", "Nice to meet you.")]  # fmt: skip
        with voxnb.chat("gpt-4o-mini", **given) as chat:
            assert "iris" in str(chat.ask("What do you know of me?").result(WAIT_S))
        sent = [m["content"] for m in server.requests[-1].messages]
    assert sent == ["Be brief.", "I am Ann.", "Nice to meet you.", "I like iris.", "Noted.", "What do you know of me?"]
    assert len(turns(store)) == 3
    assert store.verify(), store.verify()


def test_a_session_is_replaced_in_time_whatever_becomes_of_the_summary(store, monkeypatch):
    from tests.clients.realtime.test_going_on import session

    monkeypatch.setattr("voxnb.clients.realtime.memory.SHORTEN_S", 0.1)
    with testing.server(lambda _request: testing.Hang()) as teller, Peer([session(1), session(2)]) as peer:
        writer = voxnb.chat("gpt-4o-mini", base_url=teller.base_url, store=":memory:")
        policy = voxnb.ContextPolicy(window_tokens=32_768, fold_at_tokens=2_000, keep_last_turns=1)
        one = call(peer, store, summary_client=writer, policy=policy, session_policy=SessionPolicy(most_tokens=None))
        one.connect().result(WAIT_S)
        for n in range(4):
            ask(one, f"Question {n}, and some more words so that there is something to sum up. " * 9)
        one._keeper._policy = SessionPolicy(most_tokens=10)
        one._keeper.first_context_tokens = 1
        replaced = one.wait_for(SessionEvents.SessionReplaced)
        ask(one, "The last one?")
        facts = replaced.result(WAIT_S).payload
        assert (facts.reason, facts.shortened) == ("long", False)
        one.close()
        writer.close()
    said = [e["item"]["content"][0]["text"] for e in peer.connections[1].received if "item" in e]
    assert len([text for text in said if text.startswith("Question")]) == 4


@pytest.mark.parametrize("meanwhile", [[], ["What did I say meanwhile?"]])
def test_a_long_call_goes_on_in_a_new_session_with_a_summary(store, meanwhile, monkeypatch):
    from tests.clients.realtime.test_going_on import session

    monkeypatch.setattr(client_told, "WRITTEN_S", 0.0)  # who is only long waits for a slow store

    def sum_up(request):
        for text in meanwhile:  # whoever is called does not wait for a summary
            ask(one, text)
        return "Ann asked several things and was answered."

    with testing.server(sum_up) as teller:
        writer = voxnb.chat("gpt-4o-mini", base_url=teller.base_url, store=":memory:")
        with Peer([session(1), session(2)]) as peer:
            policy = voxnb.ContextPolicy(window_tokens=32_768, fold_at_tokens=2_000, keep_last_turns=1)
            one = call(
                peer, store, summary_client=writer, policy=policy, session_policy=SessionPolicy(most_tokens=None)
            )
            one.connect().result(WAIT_S)
            for n in range(4):
                ask(one, f"Question {n}, and some more words so that there is something to sum up, indeed a lot of them? " * 6)  # fmt: skip
            folded = one.wait_for(ContextEvents.SummaryFolded)
            one._keeper._policy = SessionPolicy(most_tokens=10)
            one._keeper.first_context_tokens = 1
            replaced = one.wait_for(SessionEvents.SessionReplaced)
            ask(one, "The last one?")
            facts = replaced.result(WAIT_S).payload
            assert (facts.reason, facts.shortened) == ("long", True)
            assert folded.result(WAIT_S).payload.text.startswith("Ann asked several things")
            ask(one, "And now?")
            told = [e["item"] for e in peer.connections[1].received if e["type"] == "conversation.item.create"]
            one.close()
        writer.close()
    first = told[0]
    assert (first["role"], "Ann asked several things" in first["content"][0]["text"]) == ("system", True)
    texts = [i["content"][0]["text"] for i in told]
    assert texts[1:3] == ["The last one?", "Answer 5."]
    assert [texts.count(text) for text in meanwhile] == [1] * len(meanwhile)
    assert len(turns(store)) == 6 + len(meanwhile)
    assert store["call"].summary() is not None
    assert store.verify(), store.verify()


def test_a_store_that_is_removed_in_a_call_ends_neither_the_call_nor_its_memory_of_itself(tmp_path, capsys):
    with Peer([session(1), session(2)]) as peer:
        one = call(peer, tmp_path / "s.db")
        one.connect().result(WAIT_S)
        ask(one, "First?")
        assert one.rollover().result(WAIT_S) is True
        for file in tmp_path.glob("s.db*"):
            file.unlink()
        assert one.rollover().result(WAIT_S) is True
        ask(one, "Second?")
        assert one.rollover().result(WAIT_S) is True
        one.close()
        texts = [text for role, text in said(peer.connections[3]) if role == "user"]
    assert texts == ["First?", "Second?"]
    assert "was removed while it was open" in capsys.readouterr().err


def test_a_turn_that_cannot_be_written_is_told_to_every_later_session(store, monkeypatch, capsys):
    async def full(memory, ask):
        raise errors.StoreFullError("no room")

    with Peer([session(1), session(2)]) as peer:
        one = call(peer, store)
        one.connect().result(WAIT_S)
        with monkeypatch.context() as while_full:
            while_full.setattr(CallMemory, "begin", full)
            ask(one, "First?")
            assert one.rollover().result(WAIT_S) is True
        ask(one, "Second?")
        assert one.rollover().result(WAIT_S) is True
        one.close()
        texts = [[text for role, text in said(each) if role == "user"] for each in peer.connections]
    assert texts == [["First?"], ["First?", "Second?"], ["First?", "Second?"]]
    assert [row[2] for row in turns(store)] == ["Second?"]
    assert "could not be stored (StoreFullError: no room)" in capsys.readouterr().err


def test_what_was_written_is_in_the_store_while_the_call_goes_on(store):
    with Peer(speaking(user("u1"), heard("u1", "Hello?"), spoken(1, "Yes."))) as peer:
        one = call(peer, store)
        done = one.wait_for(RealtimeAPIEvents.ResponseDone)
        one.connect().result(WAIT_S)
        one.response_create()
        done.result(WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while turns(store)[:1] != [(1, "complete", "Hello?", "Yes.", "stop")]:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        one.close()


def test_a_private_call_keeps_no_events(store):
    play(store, user("u1"), heard("u1", "My secret."), spoken(1, "Kept."), privacy=True)
    assert turns(store)[0][2] == "My secret."
    assert len(store.events()) == 0


def test_parameters_of_the_memory_need_one():
    for name, value in {"conversation": "call", "summary_model": "gpt-4o", "metadata": {"a": 1}}.items():
        with pytest.raises(errors.ParameterError, match="needs store_context=True"):
            voxnb.RealtimeAPIClient(api_key=KEY, **{name: value})
    with pytest.raises(errors.ParameterError, match="not for calls"):
        voxnb.RealtimeAPIClient(api_key=KEY, store_context=True, if_exists="reuse")
