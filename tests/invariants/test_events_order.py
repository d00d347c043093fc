"""What listeners hear of a turn and when; who waits for whom; and how it all ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import threading
import time

import pytest

import voxnb
from tests.invariants.scripted import (
    MODEL,
    WAIT_S,
    Held,
    answer,
    chats,
    client,
    folds,
    in_turn,
    say,
    scripted,
    small,
    spoken,
    summarise,
    talking,
)
from voxnb import ContextEvents, OpenAI, errors, testing
from voxnb.testing import Drop, Hang, Paced, Status

EVENTS = OpenAI.ChatCompletionsAPIEvents


def bare(event):
    return event.name.rsplit(".", 1)[-1]


def listen(chat, *but):
    """Every event of the client, in the order in which it is heard, as (bare name, payload)."""
    heard = []
    for event in (*EVENTS, *ContextEvents):
        if event not in but:
            chat.on(event, lambda e: heard.append((bare(e), e.payload)))
    return heard


def bare_client(server, **more):
    return voxnb.ChatCompletionsAPIClient(base_url=server.base_url, api_key=server.api_key, model=MODEL, **more)


@pytest.fixture(params=["stateless", "stateful"])
def make(request):
    """A client of a server, without and with a memory."""
    return bare_client if request.param == "stateless" else client


LOOK = {"tool_calls": [{"id": "a", "name": "look", "arguments": {"x": 1}}, {"id": "b", "name": "see", "arguments": {}}]}


def test_a_text_is_heard_in_the_documented_order(make):
    with testing.server("One two three.") as server, make(server) as chat:
        heard = listen(chat)
        chat.ask("Hello").result(WAIT_S)
    names = [n for n, _ in heard]
    assert names[0] == "ConnectorInformation"
    names = [n for n in names[1:] if n != "ContextPlanned"]
    of_texts = ["Chunk", "Content", "ContentDelta"] * 4
    assert names == [*of_texts, "Chunk", "ContentDone", "Chunk"], "the finish reason, what it closes, the usage"
    payloads = dict(heard)
    assert payloads["ContentDone"] == {"content": "One two three.", "parsed": None}
    deltas = [p for n, p in heard if n == "ContentDelta"]
    assert [d["delta"] for d in deltas] == ["", "One", " two", " three."], "the first chunk brings the role"
    assert [d["snapshot"] for d in deltas] == ["", "One", "One two", "One two three."]
    chunk = payloads["Chunk"]
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["usage"]["prompt_tokens"] == 8


def test_tool_calls_are_heard_one_after_the_other(make):
    with testing.server([LOOK]) as server, make(server) as chat:
        heard = listen(chat, EVENTS.Chunk, EVENTS.ConnectorInformation, ContextEvents.ContextPlanned)
        reply = chat.ask("Hello").result(WAIT_S)
    order = [(n.removeprefix("FunctionToolCallArguments"), p["index"]) for n, p in heard]
    assert list(dict.fromkeys(order)) == [("Delta", 0), ("Done", 0), ("Delta", 1), ("Done", 1)]
    done = [p for n, p in heard if n.endswith("Done")]
    assert done[0] == {"name": "look", "index": 0, "arguments": '{"x": 1}', "parsed_arguments": {"x": 1}}
    assert "ContentDone" not in [n for n, _ in heard], "there is no text"
    assert [c["id"] for c in reply.tool_calls] == ["a", "b"]


def test_a_refusal_and_its_probabilities_are_heard(make):
    with testing.server([{"refusal": "I will not."}]) as server, make(server) as chat:
        heard = listen(chat, EVENTS.Chunk)
        chat.ask("Hello", logprobs=True).result(WAIT_S)
    names = [n for n, _ in heard if "Refusal" in n]
    assert names[:2] == ["RefusalDelta", "LogProbsRefusalDelta"]
    assert names[-2:] == ["RefusalDone", "LogProbsRefusalDone"]
    assert dict(heard)["RefusalDone"] == {"refusal": "I will not."}


def test_an_unstreamed_answer_is_heard_as_if_streamed(make):
    body = {"id": "x", "model": MODEL, "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hm."}}]}
    reply = Status(200, headers={"content-type": "application/json"}, body=body)
    with testing.server([reply]) as server, make(server) as chat:
        heard = listen(chat, EVENTS.ConnectorInformation, ContextEvents.ContextPlanned)
        turn = chat.ask("Hello")
        assert list(turn) == ["Hm."]
    assert [n for n, _ in heard] == ["Chunk", "Content", "ContentDelta", "ContentDone"]


def test_a_failure_is_heard_last(make):
    half = Drop(after_events=4, reply="One two three four.")
    with testing.server([half]) as server, make(server) as chat:
        heard = listen(chat)
        with pytest.raises(errors.StreamBrokenError):
            chat.ask("Hello").result(WAIT_S)
    names = [n for n, _ in heard]
    assert names[-1] == "ChatCompletionsAPIError"
    assert "ContentDone" not in names
    assert heard[-1][1]["message"]


def test_what_a_server_adds_between_the_chunks_is_unknown():
    chunks = testing.Chunks(["Well", {"type": "ping", "at": 3}, "."])
    with talking(chunks) as (_, chat):
        heard = []
        chat.on(EVENTS.Unknown, lambda event: heard.append(dict(event.payload)))
        assert chat.ask("One").result(WAIT_S).text == "Well."
    assert heard == [{"type": "ping", "at": 3}]


def test_the_plan_is_heard_before_the_first_chunk_and_the_fold_after_the_last():
    with talking() as (_, chat):
        heard = listen(chat, EVENTS.Content, EVENTS.ContentDelta, EVENTS.ConnectorInformation)
        say(chat, *range(1, 8))
    names = [n for n, _ in heard]
    per_turn = "|".join(names).split("ContextPlanned|")[1:]
    assert len(per_turn) == 7
    assert all(part.startswith("Chunk|") for part in per_turn)
    folded = [part for part in per_turn if "SummaryStarted" in part]
    assert folded
    assert all(part.strip("|").endswith("SummaryStarted|SummaryFolded") for part in folded)


def test_payloads_belong_to_their_listeners():
    with talking("One two.") as (_, chat):

        def spoil(event):
            if isinstance(event.payload, dict):
                event.payload.clear()

        for event in EVENTS:
            chat.on(event, spoil)
        reply = chat.ask("Hello").result(WAIT_S)
        assert (reply.text, reply.usage.prompt_tokens) == ("One two.", 8)
        assert spoken(chat.store, chat.conversation)[0][1][1] == "One two."


def test_kept_events_are_counted_not_repeated():
    with talking(in_turn("One two three.", LOOK)) as (_, chat):
        chat.ask("Hello").result(WAIT_S)
        chat.ask("Hello").result(WAIT_S)
        frame = chat.store.events()
    kept = [
        (name.rsplit(".", 1)[-1], json.loads(payload))
        for name, payload in zip(frame["name"], frame["payload"], strict=True)
    ]
    assert kept[:2] == [("Chunk", {"count": 6}), ("ContentDone", {"characters": 14})]
    assert kept[2][0] == "Chunk"
    assert kept[3:] == [
        ("FunctionToolCallArgumentsDone", {"index": 0, "id": "a"}),
        ("FunctionToolCallArgumentsDone", {"index": 1, "id": "b"}),
    ]


# -- waiting ----------------------------------------------------------------------------------


def test_a_turn_is_waited_for_in_every_way(make):
    with testing.server("One two three.") as server, make(server) as chat:
        assert chat.ask("a").result(WAIT_S).text == "One two three."
        assert list(chat.ask("b")) == ["One", " two", " three."]

        async def awaited():
            reply = await chat.ask("c")
            deltas = [delta async for delta in chat.ask("d")]
            many = await asyncio.gather(*(chat.ask(text) for text in "efg"))
            return reply.text, deltas, [r.text for r in many]

        assert asyncio.run(awaited()) == ("One two three.", ["One", " two", " three."], ["One two three."] * 3)
        turn = chat.ask("h")
        assert list(turn) == list(turn) == ["One", " two", " three."], "every iteration starts at the first"
        assert turn.result(WAIT_S) is turn.result(WAIT_S)


def test_without_a_memory_requests_run_side_by_side():
    gate = threading.Barrier(4, timeout=WAIT_S)

    def reply(request):
        gate.wait()
        return request.text

    with testing.server(reply) as server, bare_client(server) as chat:
        replies = voxnb.gather([chat.ask(text) for text in ("a", "b", "c", "d")])
    assert [r.text for r in replies] == ["a", "b", "c", "d"]


def test_no_more_than_max_parallel_run_side_by_side():
    running, most = 0, 0
    lock = threading.Lock()

    def reply(request):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return "x"

    with testing.server(reply) as server, bare_client(server, max_parallel=2) as chat:
        voxnb.gather([chat.ask(str(n)) for n in range(7)])
    assert most == 2


def test_with_a_memory_one_turn_runs_at_a_time_in_the_order_of_asking():
    open_now, most = set(), []
    lock = threading.Lock()

    def reply(request):
        with lock:
            open_now.add(request.number)
            most.append(len(open_now))
        time.sleep(0.01)
        with lock:
            open_now.discard(request.number)
        return f"Re {request.text}"

    with testing.server(scripted(reply)) as server:
        store = voxnb.ContextStore(":memory:")
        policy = {"policy": small(window_tokens=4_000, fold_at_tokens=3_000)}
        with client(server, store=store, conversation="iris", **policy) as one:
            with client(server, store=store, conversation="iris", **policy) as two:
                turns = [(one, two)[n % 2].ask(f"Q{n}") for n in range(8)]
                voxnb.gather(turns)
        assert most == [1] * 8
        assert [t[0][1] for t in spoken(store, "iris")] == [f"Q{n}" for n in range(8)]
        assert [len(r.messages) for r in chats(server)] == [2 * n + 1 for n in range(8)]
        assert store.verify()


def test_other_conversations_do_not_wait():
    gate = threading.Barrier(2, timeout=WAIT_S)

    def reply(request):
        gate.wait()
        return "x"

    with testing.server(scripted(reply)) as server:
        store = voxnb.ContextStore(":memory:")
        with client(server, store=store, conversation="a") as one, client(server, store=store, conversation="b") as two:
            assert [r.text for r in voxnb.gather([one.ask("1"), two.ask("2")])] == ["x", "x"]


def test_chaining_from_content_done_works_as_in_voxengine():
    with talking(in_turn("First.", "Second.", "Third.")) as (server, chat):
        replies = []

        def chain(event):
            if event.payload.content == "First.":
                replies.append(chat.ask("Two"))
            elif event.payload.content == "Second.":
                replies.append(chat.ask("Three").result(WAIT_S))

        chat.on(EVENTS.ContentDone, chain)
        chat.ask("One").result(WAIT_S)
        assert replies[0].result(WAIT_S).text == "Second."
        assert replies[1].text == "Third."
        assert [t[0][1] for t in spoken(chat.store, chat.conversation)] == ["One", "Two", "Three"]


# -- cancelling -------------------------------------------------------------------------------


def test_a_cancelled_turn_keeps_what_had_come(make):
    slow = Paced("One two three four five six.", chunk_delay_s=0.05)
    with testing.server([slow, "Well."]) as server, make(server) as chat:
        turn = chat.ask("Hello")
        for delta in turn:
            if "two" in delta:
                break
        assert turn.cancel() is True
        reply = turn.result(WAIT_S)
        assert reply.finish_reason == "cancelled"
        assert reply.text.startswith("One two")
        assert reply.text == turn.partial
        assert turn.state == "cancelled"
        assert turn.cancel() is False
        assert chat.ask("And?").result(WAIT_S).text == "Well."
        if make is client:
            assert list(chat.store.turns()["state"].astype(str)) == ["partial", "complete"]
            assert server.requests[-1].messages[1]["content"] == reply.text + " [the reply was cut off here]"
            assert chat.store.verify()


def test_a_turn_cancelled_before_anything_came_is_failed(make):
    with testing.server(in_turn(Hang(), "Well.")) as server, make(server) as chat:
        turn = chat.ask("Hello")
        server.wait_for(1)
        turn.cancel()
        with pytest.raises(errors.TurnCancelledError):
            turn.result(WAIT_S)
        assert turn.state == "cancelled"
        assert chat.ask("And?").result(WAIT_S).text == "Well."
        assert [m["content"] for m in server.requests[-1].messages] == ["And?"]
        if make is client:
            assert list(chat.store.turns()["state"].astype(str)) == ["failed", "complete"]
            assert chat.store.verify()


def test_a_queued_turn_can_be_cancelled():
    with talking(in_turn(Hang(after_events=3, reply="One two three."), "Well.")) as (server, chat):
        first, second, third = chat.ask("a"), chat.ask("b"), chat.ask("c")
        for delta in first:
            if "two" in delta:
                break
        second.cancel()
        with pytest.raises(errors.TurnCancelledError):
            second.result(WAIT_S)
        first.cancel()
        assert first.result(WAIT_S).text == "One two"
        assert third.result(WAIT_S).text == "Well."
        assert [t[0][1] for t in spoken(chat.store, chat.conversation)] == ["a", "c"]


def test_a_cancelled_turn_whose_end_cannot_be_stored_says_so_and_has_what_had_come(monkeypatch):
    def full(work, *, durable=False):
        failing = concurrent.futures.Future()
        failing.set_exception(errors.StoreFullError("there is no room", path="x"))
        return failing

    with talking(in_turn(Hang(after_events=3, reply="One two three."), "Well.")) as (_, chat):
        turn = chat.ask("Hello")
        for delta in turn:
            if "two" in delta:
                break
        with monkeypatch.context() as disk:
            disk.setattr(chat.store.database, "write", full)
            turn.cancel()
            with pytest.raises(errors.StoreFullError) as raised:
                turn.result(WAIT_S)
        assert raised.value.reply.text == "One two"
        assert chat.ask("And?").result(WAIT_S).text == "Well."
        assert list(chat.store.turns()["state"].astype(str)) == ["partial", "complete"]


def test_a_time_limit_leaves_the_turn_running():
    release = threading.Event()

    def reply(request):
        release.wait(WAIT_S)
        return "Well."

    with talking(scripted(reply)) as (_, chat):
        turn = chat.ask("Hello")
        with pytest.raises(TimeoutError, match="it goes on"):
            turn.result(0.05)
        release.set()
        assert turn.result(WAIT_S).text == "Well."


# -- the end ----------------------------------------------------------------------------------


def test_closing_in_the_middle_of_a_stream_keeps_the_partial():
    with testing.server(Hang(after_events=4, reply="One two three four.")) as server:
        store = voxnb.ContextStore(":memory:")
        chat = client(server, store=store, conversation="iris")
        turn = chat.ask("Hello")
        for delta in turn:
            if "three" in delta:
                break
        queued = chat.ask("And then?")
        began = time.monotonic()
        chat.close()
        assert time.monotonic() - began < 8
        assert turn.result(WAIT_S).text == "One two three"
        with pytest.raises((errors.TurnCancelledError, errors.ClientClosedError)):
            queued.result(WAIT_S)
        assert spoken(store, "iris")[0][1][1] == "One two three"
        assert list(store.turns()["state"].astype(str)) == ["partial", "failed"]
        assert list(store.turns()["user_text"]) == ["Hello", "And then?"], "what waited for its place is kept, too"
        assert store.verify()
        assert store.verify()


def test_closing_waits_for_a_fold_and_commits_it(capsys):
    slowly = Held(summarise)
    with testing.server(scripted(fold=slowly)) as server:
        store = voxnb.ContextStore(":memory:")
        chat = client(server, store=store)
        for tag in range(1, 12):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
            if slowly.asked.is_set():
                break
        closing = threading.Thread(target=chat.close)
        closing.start()
        with pytest.raises(errors.ClientClosedError):
            while True:
                chat.ask("Too late").result(WAIT_S)
        assert closing.is_alive()
        slowly.release.set()
        closing.join(WAIT_S)
        assert not closing.is_alive()
        assert len(store.summaries()) >= 1
        assert store.verify()
    assert capsys.readouterr().err.count("\n") <= 1


def test_closing_gives_a_fold_up_that_does_not_end(monkeypatch, capsys):
    from voxnb.clients import base as module

    monkeypatch.setattr(module, "FOLD_WAIT_S", 0.2)
    with testing.server(scripted(fold=Hang())) as server:
        store = voxnb.ContextStore(":memory:")
        chat = client(server, store=store)
        for tag in range(1, 12):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
            if folds(server):
                break
        began = time.monotonic()
        chat.close()
        assert time.monotonic() - began < 8
        assert len(store.summaries()) == 0
        with client(server, store=store, conversation=store.latest().id) as again:
            assert again.conversation.row().fold_lease_until is None, "nobody has to wait for it"
        assert store.verify()
    assert capsys.readouterr().err == "voxnb: waiting for a running summary, Ctrl-C skips it\n"


def test_the_close_is_an_event_and_a_callback_and_late_listeners_hear_it():
    closes = []
    with testing.server("Well.") as server:
        chat = bare_client(server, on_web_socket_close=closes.append)
        with chat:
            chat.ask("Hello").result(WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while not closes and time.monotonic() < deadline:
            time.sleep(0.005)
        (payload,) = closes
        assert payload["code"] == 1000
        assert payload["wasClean"] is True
        chat.close()
        assert len(closes) == 1
        with pytest.raises(errors.ClientClosedError):
            chat.ask("Again")


def test_an_async_client_closes_itself():
    async def talk(server):
        async with client(server) as chat:
            text = (await chat.ask("Hello")).text
            store = chat.store
        with pytest.raises(errors.ClientClosedError):
            chat.ask("Again")
        return text, len(store.turns())

    with testing.server("Well.") as server:
        assert asyncio.run(talk(server)) == ("Well.", 1)


@pytest.mark.parametrize("usage", [True, False], ids=["usage follows", "nothing follows"])
def test_closing_when_the_answer_is_done_stores_it_whole(usage):
    """As a scenario does that terminates on ContentDone: the end of the stream, and storing, come after it."""
    with testing.server("Well.", chunk_delay_s=0.05, usage=usage) as server, voxnb.ContextStore(":memory:") as store:
        chat = client(server, store=store)
        chat.on(EVENTS.ContentDone, lambda event: chat.close())
        assert chat.ask("One").result(WAIT_S).text == "Well."
        assert list(store.turns()["state"].astype(str)) == ["complete"]
        assert store.verify()


def test_closing_from_a_listener_does_not_hang():
    with testing.server(scripted(answer)) as server:
        chat = client(server)
        chat.on(EVENTS.ContentDone, lambda _: chat.close())
        chat.ask("Hello #1").result(WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while "closed" not in repr(chat):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        chat.close()
        assert list(chat.store.turns()["state"].astype(str)) == ["complete"]


def test_idle_waits_for_turns_and_folds():
    release = threading.Event()

    def slowly(request):
        release.wait(WAIT_S)
        return summarise(request)

    with talking(scripted(fold=slowly)) as (_, chat):
        for tag in range(1, 8):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12)
        handle = chat.idle()
        with pytest.raises(TimeoutError):
            handle.result(0.3)
        assert not handle.done()
        release.set()
        handle.result(WAIT_S)
        assert len(chat.store.summaries()) > 0

        async def awaited():
            await chat.idle()
            return True

        assert asyncio.run(awaited())
