"""Servers that refuse, fail, talk nonsense, stop half way or say nothing: the right error, and a conversation unharmed."""

from __future__ import annotations

import json
import socket
import time

import pytest

import voxnb
from tests.invariants.scripted import MODEL, WAIT_S, chats, client, in_turn, scripted, small, spoken, talking
from voxnb import OpenAI, errors, testing
from voxnb.clients import refusal, streaming
from voxnb.testing import Chunks, Drop, Hang, Paced, Status

AT_ONCE = {"Retry-After": "0"}
EVENTS = OpenAI.ChatCompletionsAPIEvents


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    """Back-off in milliseconds; how long it is in the end is the transport's own test."""
    monkeypatch.setattr(refusal, "FIRST_WAIT_S", 0.01)


def chunk(content=None, finish=None, **delta):
    if content is not None:
        delta["content"] = content
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def assert_unharmed(server, chat, *, state, said=("One", "Two", "Three")):
    """The turn is stored as it ended, the next one works, the proof holds."""
    turns = chat.store.turns()
    assert list(turns["state"].astype(str)) == ["complete", state]
    assert turns["error"].notna().iloc[1]
    assert turns["user_text"].iloc[1] == "Two"
    calls = chat.store.calls()
    assert list(calls["status"].astype(str)) == ["complete", state]
    assert calls["error"].iloc[1]
    assert chat.ask("Three").result(WAIT_S).text == "Well."
    last = [m["content"] for m in chats(server)[-1].messages]
    assert last[:2] == ["One", "Well."]
    assert last[-1] == "Three"
    assert ("Two" in last) == (state == "partial")
    assert [t[0][1] for t in spoken(chat.store, chat.conversation)] == list(said)
    assert chat.store.verify()


STATUSES = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    422: errors.UnprocessableEntityError,
    429: errors.RateLimitError,
    500: errors.InternalServerError,
    503: errors.InternalServerError,
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_refusal_is_the_error_of_its_status(status):
    retried = status in (409, 429, 500, 503)
    refused = Status(status, headers=AT_ONCE)
    with talking(in_turn("Well.", *[refused] * (2 if retried else 1), "Well."), max_retries=1) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(STATUSES[status]) as caught:
            chat.ask("Two").result(WAIT_S)
        assert caught.value.status_code == status
        assert caught.value.retries == (1 if retried else 0)
        assert len(chats(server)) == (3 if retried else 2)
        assert server.api_key not in str(caught.value)
        assert chat.store.calls()["retries"].iloc[1] == caught.value.retries
        assert_unharmed(server, chat, state="failed")


def test_a_refusal_of_other_status_is_one_too():
    with talking(in_turn("Well.", 418, "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIStatusError) as caught:
            chat.ask("Two").result(WAIT_S)
        assert caught.value.status_code == 418
        assert_unharmed(server, chat, state="failed")


def test_a_rate_limit_is_waited_for_as_the_server_asks():
    with talking(in_turn("Well.", Status(429, headers={"Retry-After": "0.2"}), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        began = time.monotonic()
        assert chat.ask("Two").result(WAIT_S).text == "Well."
        assert time.monotonic() - began >= 0.2
        assert list(chat.store.calls()["retries"]) == [0, 1]
        assert len(chat.conversation) == 2
        assert chat.store.verify()


def test_a_rate_limit_of_minutes_is_told_at_once():
    with talking(in_turn("Well.", Status(429, headers={"Retry-After": "300"}), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.RateLimitError) as caught:
            chat.ask("Two").result(WAIT_S)
        assert caught.value.retry_after_s == 300
        assert_unharmed(server, chat, state="failed")


@pytest.mark.parametrize("facts", [{"code": "x"}, {"code": {}, "type": ["x"]}])
def test_an_error_inside_an_answer_is_not_given_a_status_that_nobody_sent(facts):
    told = {"error": {"message": "boom", **facts}}
    for reply in (Status(200, body=told), Chunks([chunk("Wel"), told])):
        with talking(in_turn("Well.", reply)) as (_, chat):
            chat.ask("One").result(WAIT_S)
            with pytest.raises(errors.APIError, match="told inside an answer") as caught:
                chat.ask("Two").result(WAIT_S)
            assert "boom" in str(caught.value)
            assert "HTTP" not in str(caught.value)


def test_too_long_by_a_count_that_cannot_be_of_this_request_is_told_and_not_believed():
    words = "This model's maximum context length is 8192 tokens. However, your messages resulted in 90000 tokens."
    refusal = Status(400, body={"error": {"message": words, "code": "context_length_exceeded"}})
    with talking(in_turn("Well.", refusal, "Fine.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIStatusError, match="90,000 tokens, room for 8,192"):
            chat.ask("Two").result(WAIT_S)
        assert chat.ask("Three").result(WAIT_S).text == "Fine."
        assert len(chats(server)) == 3
        assert chat.store.verify()


@pytest.mark.parametrize("policy", [{}, {"policy": None}])
@pytest.mark.parametrize(("limit", "sent"), [(-5, -5), (0, 0), (0, 12), (3, 0), (1, 2), (9, 20), (12, 9)])
def test_a_window_that_no_model_has_is_told_and_not_believed(limit, sent, policy):
    words = f"This model's maximum context length is {limit} tokens. However, your messages resulted in {sent} tokens."
    refusal = Status(400, body={"error": {"message": words, "code": "context_length_exceeded"}})
    with talking(in_turn("Well.", *[refusal] * 6, "Fine."), **policy) as (server, chat):
        chat.ask("One").result(WAIT_S)
        while len(chats(server)) < 7:
            with pytest.raises(errors.BadRequestError, match=f"is {limit} tokens"):
                chat.ask("Two").result(WAIT_S)
        assert chat.ask("Three").result(WAIT_S).text == "Fine."
        assert chat.store.verify()


def test_a_rate_limit_of_hours_says_how_long():
    with (
        talking(Status(429, headers={"Retry-After": "3600"})) as (_, chat),
        pytest.raises(errors.RateLimitError, match="in 3,600 s"),
    ):
        chat.ask("One").result(WAIT_S)


def test_a_used_up_quota_is_not_asked_again():
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota", "type": "x"}}
    with talking(in_turn("Well.", Status(429, headers=AT_ONCE, body=body), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.RateLimitError, match="quota") as caught:
            chat.ask("Two").result(WAIT_S)
        assert (caught.value.code, caught.value.retries) == ("insufficient_quota", 0)
        assert_unharmed(server, chat, state="failed")


NONSENSE = {
    "a login page": Status(200, headers={"content-type": "text/html"}, body="<html><title>Sign in</title>"),
    "plain text": Status(200, headers={"content-type": "text/plain"}, body="OK"),
    "nothing": b"",
    "an empty document": Status(200, headers={"content-type": "application/json"}, body=b""),
    "half a document": Status(200, headers={"content-type": "application/json"}, body=b'{"choices": [{"mess'),
    "another document": Status(200, headers={"content-type": "application/json"}, body={"hello": "world"}),
    "a list": Status(200, headers={"content-type": "application/json"}, body=b"[1, 2]"),
    "a stream of something else": Chunks([b"data: <html>\n\n"]),
    "a chunk that is none": Chunks([{"choices": "no"}]),
    "an end without an answer": Chunks([], done=True),
    "chunks without a choice": Chunks([{**chunk(), "choices": []}], done=True),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_said_to_be_nonsense(what):
    with talking(in_turn("Well.", NONSENSE[what], "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIResponseValidationError) as caught:
            chat.ask("Two").result(WAIT_S)
        assert "base_url" in str(caught.value)
        assert len(chats(server)) == 2, "the same question would get the same nonsense"
        assert_unharmed(server, chat, state="failed")


@pytest.mark.parametrize(
    "broken",
    [Drop(), Drop(reset=True), Drop(after_events=0), Drop(after_events=1), Chunks([], done=False)],
    ids=["no status line", "reset", "headers only", "no text", "an empty stream"],
)
def test_what_breaks_before_the_first_text_is_asked_again(broken):
    with talking(in_turn("Well.", broken, "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        assert chat.ask("Two").result(WAIT_S).text == "Well."
        assert len(chats(server)) == 3
        assert chats(server)[1].json == chats(server)[2].json
        assert list(chat.store.calls()["retries"]) == [0, 1]
        assert [len(t) for t in spoken(chat.store, chat.conversation)] == [2, 2]
        assert chat.store.verify()


def test_what_always_breaks_is_a_connection_error():
    with talking(in_turn("Well.", *[Drop()] * 3, "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIConnectionError) as caught:
            chat.ask("Two").result(WAIT_S)
        assert caught.value.retries == 2
        assert len(chats(server)) == 4
        assert_unharmed(server, chat, state="failed")


HALVES = {
    "cut": Drop(after_events=4, reply="One two three four."),
    "reset": Drop(after_events=4, reply="One two three four.", reset=True),
    "no end": Chunks([chunk("One two"), chunk(" three")], done=False),
    "garbage": Chunks([chunk("One two"), chunk(" three"), b"data: {nonsense\n\n"]),
    "an error": Chunks([chunk("One two"), chunk(" three"), {"error": {"message": "overloaded", "code": 503}}]),
}


@pytest.mark.parametrize("what", HALVES)
def test_half_an_answer_is_kept_and_never_asked_for_again(what):
    with talking(in_turn("Well.", HALVES[what], "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        turn = chat.ask("Two")
        with pytest.raises(errors.StreamBrokenError) as caught:
            turn.result(WAIT_S)
        assert turn.state == "partial"
        assert caught.value.reply.text == turn.partial == "One two three"
        assert caught.value.reply.turn == turn.id
        assert isinstance(caught.value.__cause__, errors.APIError)
        assert len(chats(server)) == 2
        assert spoken(chat.store, chat.conversation)[1][1][1] == "One two three"
        assert_unharmed(server, chat, state="partial")
    assert [m["content"] for m in chats(server)[2].messages][3] == "One two three [the reply was cut off here]"


WHOLE = [chunk("One two"), chunk(" three"), chunk(finish="stop")]
AFTER_THE_END = {
    "usage that is none": ({**chunk(), "choices": [], "usage": [1]}, "usage that is none and was passed over: [1]"),
    "choices that are none": ({**chunk(), "choices": "x"}, "after the end of the reply (choices"),
    "a negative index": ({"id": "x", "choices": [{"index": -1, "delta": {}}]}, "is -1"),
    "a text that is none": (chunk(5), "content of a chat chunk"),
    "half a chunk": (b'data: {"id": "x", "cho\n\n', "after the end of the reply"),
    "half a chunk and no empty line": (b'data: {"id": "x", "cho', "after the end of the reply"),
    "a page": (b"data: <html>\n\n", "'<html>'"),
}


@pytest.mark.parametrize("what", AFTER_THE_END)
@pytest.mark.parametrize("done", [True, False], ids=["[DONE]", "no [DONE]"])
def test_what_cannot_be_read_after_the_end_loses_no_reply(what, done):
    broken, words = AFTER_THE_END[what]
    with talking(in_turn(Chunks([*WHOLE, broken], done=done), "Well.")) as (server, chat):
        turn = chat.ask("One")
        reply = turn.result(WAIT_S)
        assert (reply.text, reply.finish_reason, turn.state) == ("One two three", "stop", "complete")
        [warning] = reply.warnings
        assert words in warning
        assert chat.ask("Two").result(WAIT_S).warnings == ()
        assert list(chat.store.turns()["state"].astype(str)) == ["complete", "complete"]
        assert chat.store.verify()
    assert len(chats(server)) == 2


def test_a_connection_that_breaks_after_the_end_loses_no_reply():
    broken = Drop(after_events=3, reply=Chunks([*WHOLE, {**chunk(), "choices": [], "usage": {}}]))
    with talking(in_turn(broken, "Well.")) as (server, chat):
        reply = chat.ask("One").result(WAIT_S)
        assert (reply.text, reply.finish_reason) == ("One two three", "stop")
        assert "after the end of the reply the answer of" in reply.warnings[0]
        assert chat.store.verify()
    assert len(chats(server)) == 1


def test_a_server_that_forgets_to_end_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(streaming, "END_WAIT_S", 0.05)
    with talking(in_turn(Hang(after_events=3, reply=Chunks(WHOLE)), "Well.")) as (server, chat):
        began = time.monotonic()
        reply = chat.ask("One").result(WAIT_S)
        assert time.monotonic() - began < WAIT_S / 4, "the longest silence is four times as long"
        assert (reply.text, reply.finish_reason) == ("One two three", "stop")
        assert "after the end of the reply" in reply.warnings[0]
        assert chat.ask("Two").result(WAIT_S).warnings == ()
    assert len(chats(server)) == 2


def test_of_several_choices_none_is_forgotten_because_one_has_ended(monkeypatch):
    monkeypatch.setattr(streaming, "END_WAIT_S", 0.01)
    other = {**chunk("Hm."), "choices": [{"index": 1, "delta": {"content": "Hm."}, "finish_reason": "stop"}]}
    with testing.server(Paced(Chunks([*WHOLE, other], done=False), chunk_delay_s=0.1)) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key, "model": MODEL, "timeout_s": WAIT_S}
        with voxnb.ChatCompletionsAPIClient(given) as bare:
            chunks = []
            bare.on(EVENTS.ContentDone, lambda event: chunks.append(event.payload.content))
            reply = bare.ask("One", n=2).result(WAIT_S)
    assert (reply.text, reply.warnings, chunks) == ("One two three", (), ["One two three", "Hm."])


def test_without_a_memory_it_is_the_same():
    broken = Chunks([*WHOLE, {**chunk(), "choices": [], "usage": [1]}])
    with testing.server(broken) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key, "model": MODEL}
        with voxnb.ChatCompletionsAPIClient(given) as bare:
            reply = bare.ask("One").result(WAIT_S)
    assert (reply.text, len(reply.warnings)) == ("One two three", 1)


LATE = {"error": {"message": "The log is full.", "type": "server_error"}}


@pytest.mark.parametrize("with_memory", [True, False])
def test_an_error_after_the_end_of_a_reply_is_told_and_the_reply_stays_whole(with_memory):
    told = Chunks([*WHOLE, LATE], done=False)
    with talking(lambda _: told) as (server, chat):
        asked = (
            chat if with_memory else voxnb.ChatCompletionsAPIClient(base_url=server.base_url, api_key="k", model="m")
        )
        heard = []
        asked.on(voxnb.OpenAI.ChatCompletionsAPIEvents.ChatCompletionsAPIError, heard.append)
        reply = asked.ask("One").result(WAIT_S)
        assert (reply.text, reply.finish_reason, len(chats(server))) == ("One two three", "stop", 1)
        assert "after the end of the reply" in reply.warnings[0]
        assert "The log is full." in reply.warnings[0]
        assert [event.payload.message for event in heard]
        if with_memory:
            assert chat.store.turns()["state"].tolist() == ["complete"]
        else:
            asked.close()


def test_an_error_after_an_end_without_a_word_is_one():
    with talking(in_turn("Well.", Chunks([chunk(finish="stop"), LATE], done=False), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIError, match="The log is full"):
            chat.ask("Two").result(WAIT_S)
        assert_unharmed(server, chat, state="failed")


def test_an_answer_that_has_no_first_choice_is_none():
    other = {**chunk("Hm."), "choices": [{"index": 1, "delta": {"content": "Hm."}, "finish_reason": "stop"}]}
    with talking(in_turn("Well.", Chunks([other]), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIResponseValidationError):
            chat.ask("Two").result(WAIT_S)
        assert_unharmed(server, chat, state="failed")


NO_TEXT = {
    "in the first bytes": Drop(after_bytes=10),
    "in the first event": Drop(after_bytes=80, reset=True),
    "after the first event": Drop(after_events=1),
    "an end that is none": Chunks([chunk(role="assistant")], done=False),
}


@pytest.mark.parametrize("what", NO_TEXT)
def test_an_answer_that_always_breaks_before_its_text_is_told_like_one_that_breaks_after_it(what):
    with talking(in_turn("Well.", *[NO_TEXT[what]] * 3, "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        turn = chat.ask("Two")
        with pytest.raises(errors.StreamBrokenError) as caught:
            turn.result(WAIT_S)
        error = caught.value
        assert (error.retries, len(chats(server))) == (2, 4)
        assert (error.reply.text, error.reply.turn, error.reply.says_something) == ("", turn.id, False)
        assert "(after 2 retries); no text had come" in str(error)
        assert turn.state == "failed"
        assert_unharmed(server, chat, state="failed")


def test_repeats_of_both_kinds_are_counted_together():
    with talking(in_turn("Well.", Drop(), Drop(after_events=1), Drop(), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIConnectionError, match=r"\(after 2 retries\)") as caught:
            chat.ask("Two").result(WAIT_S)
        assert (caught.value.retries, len(chats(server))) == (2, 4)


def test_a_rate_limit_told_inside_an_answer_is_waited_for_too():
    limit = {"error": {"message": "Rate limit reached.", "type": "requests", "code": "rate_limit_exceeded"}}
    with talking(in_turn("Well.", Chunks([limit]), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        assert chat.ask("Two").result(WAIT_S).text == "Well."
        assert list(chat.store.calls()["retries"]) == [0, 1]
    assert len(chats(server)) == 3


def test_half_a_tool_call_is_not_kept():
    call = {"tool_calls": [{"id": "a", "name": "look", "arguments": {"where": "everywhere, " * 9}}]}
    with talking(in_turn("Well.", Drop(after_events=5, reply=call), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.APIConnectionError):
            chat.ask("Two").result(WAIT_S)
        assert len(chats(server)) == 2, "its beginning was heard by listeners"
        assert_unharmed(server, chat, state="failed")


def test_text_before_half_a_tool_call_is_kept():
    call = {"content": "I look", "tool_calls": [{"id": "a", "name": "look", "arguments": {"where": "far, " * 9}}]}
    with talking(in_turn("Well.", Drop(after_events=6, reply=call), "Well.")) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.StreamBrokenError) as caught:
            chat.ask("Two").result(WAIT_S)
        assert (caught.value.reply.text, caught.value.reply.tool_calls) == ("I look", ())
        assert_unharmed(server, chat, state="partial")


def test_what_was_said_is_stored_before_the_server_is_asked_for_its_window():
    """A server that takes the connection and says nothing: the script ends meanwhile, and loses no word."""
    with socket.create_server(("127.0.0.1", 0)) as silent, voxnb.ContextStore(":memory:") as store:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with voxnb.chat("any-model", base_url=url, store=store, conversation="iris") as chat:
            turn = chat.ask("Remember me.")
            silent.accept()[0].close()
            with pytest.raises(TimeoutError):
                turn.result(0.2)
            assert chat.conversation.exists
            assert [t[0][1] for t in spoken(store, chat.conversation)] == ["Remember me."]
            turn.cancel()
            with pytest.raises(errors.TurnCancelledError):
                turn.result(WAIT_S)
        assert list(store.turns()["state"].astype(str)) == ["failed"]
        assert store.verify()


def test_silence_is_not_waited_for_longer_than_said():
    with talking(in_turn("Well.", Hang(), "Well."), timeout_s=0.3) as (server, chat):
        chat.ask("One").result(WAIT_S)
        began = time.monotonic()
        with pytest.raises(errors.APITimeoutError, match="timeout_s"):
            chat.ask("Two").result(WAIT_S)
        assert time.monotonic() - began < 8
        assert len(chats(server)) == 2
        assert_unharmed(server, chat, state="failed")


def test_silence_in_the_middle_keeps_what_came():
    with talking(in_turn("Well.", Hang(after_events=3, reply="One two three."), "Well."), timeout_s=0.3) as (
        server,
        chat,
    ):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.StreamBrokenError) as caught:
            chat.ask("Two").result(WAIT_S)
        assert isinstance(caught.value.__cause__, errors.APITimeoutError)
        assert caught.value.reply.text == "One two"
        assert_unharmed(server, chat, state="partial")


def test_a_slow_answer_is_an_answer():
    with talking(Paced("One two three four.", delay_s=0.6, chunk_delay_s=0.6), timeout_s=2.0) as (_, chat):
        assert chat.ask("One").result(WAIT_S).text == "One two three four."


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with voxnb.chat(MODEL, base_url=f"http://127.0.0.1:{port}/v1", store=":memory:", policy=small()) as chat:
        with pytest.raises(errors.APIConnectionError, match=f"nothing listens at 127.0.0.1:{port}") as caught:
            chat.ask("One").result(WAIT_S)
        assert caught.value.retries == 2
        assert list(chat.store.turns()["state"].astype(str)) == ["failed"]
        assert chat.store.verify()


COMPLETE = {
    "unstreamed": lambda r: Status(
        200,
        headers={"content-type": "application/json"},
        body={"id": "x", "model": MODEL, "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hm."}}]},
    ),
    "no finish reason": Chunks([chunk("Hm."), b"data: [DONE]\n\n"], done=False),
    "no [DONE]": Chunks([chunk("Hm."), chunk(finish="stop")], done=False),
    "dropped after the end": Chunks([chunk("Hm.", finish="stop")], done=False),
    "comments and pings": Chunks([b": ping\n\n", chunk("H"), b":\n\n", b"event: x\ndata: {}\n\n", chunk("m.", "stop")]),
}


@pytest.mark.parametrize("how", COMPLETE)
def test_servers_that_end_in_their_own_way(how):
    with talking(COMPLETE[how]) as (server, chat):
        turn = chat.ask("One")
        assert turn.result(WAIT_S).text == "Hm."
        assert turn.state == "complete"
        assert len(chats(server)) == 1
        assert spoken(chat.store, chat.conversation) == [[("user", "One", None), ("assistant", "Hm.", None)]]


def test_an_empty_answer_is_an_answer():
    """A list that holds it is recognised, and it is sent as an empty text."""
    with talking(in_turn("", "Well.", "Well.")) as (server, chat):
        reply = chat.ask("One").result(WAIT_S)
        assert (reply.text, reply.finish_reason) == ("", "stop")
        chat.ask("Two").result(WAIT_S)
        history = [{"role": "user", "content": "One"}, dict(reply.message)]
        history += [{"role": "user", "content": "Two"}, {"role": "assistant", "content": "Well."}]
        chat.create_chat_completions(messages=[*history, {"role": "user", "content": "Three"}]).result(WAIT_S)
        assert len(chat.conversation) == 3
        assert chat.store.verify()
    assert chats(server)[1].messages[1] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("tokens", [2**63, 2**64, 10**400])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_usage_that_is_no_count_loses_no_reply(api, tokens):
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": tokens}}
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well."}]}
    whole = {
        "id": "r",
        "status": "completed",
        "output": [message],
        "usage": {"input_tokens": tokens, "output_tokens": 1},
    }
    ends = {
        "chat": {**chunk("Well.", "stop"), "usage": usage},
        "responses": {"type": "response.completed", "response": whole},
    }
    kind = {"chat": voxnb.ChatCompletionsAPIClient, "responses": voxnb.ResponsesAPIClient}[api]
    with (
        testing.server(lambda _: Chunks([ends[api]])) as server,
        kind(model="gpt-4o", base_url=server.base_url, store=":memory:", store_context=True) as chat,
    ):
        assert chat.ask("Hi").result(WAIT_S).text == "Well."
        assert chat.store.turns().state.tolist() == ["complete"]
        assert chat.store.calls().prompt_tokens.isna().all()
        assert chat.store.calls().completion_tokens.tolist() == [1]
        assert chat.statistics().df.completion_tokens.tolist() == [1]
        assert chat.store.verify()


def test_what_providers_add_is_kept_and_not_sent_back():
    answer = {"content": "Four.", "reasoning_content": "Two and two.", "annotations": [{"type": "x"}]}
    with talking(in_turn(answer, {"refusal": "I will not."}, "Well.")) as (server, chat):
        assert chat.ask("One").result(WAIT_S).message["reasoning_content"] == "Two and two."
        refused = chat.ask("Two").result(WAIT_S)
        assert (refused.text, refused.refusal) == ("", "I will not.")
        chat.ask("Three").result(WAIT_S)
        assert chat.store.verify()
        assert "Two and two." in json.dumps(chat.store.database.read("SELECT extra FROM message"))
    sent = chats(server)[-1].messages
    assert sent[1] == {"role": "assistant", "content": "Four."}
    assert sent[3]["refusal"] == "I will not."


def test_of_several_choices_the_first_is_remembered():
    answer = {"choices": [{"message": "First."}, {"message": "Second."}]}
    with talking(in_turn(answer, "Well.")) as (server, chat):
        assert chat.ask("One", n=2).result(WAIT_S).text == "First."
        chat.ask("Two").result(WAIT_S)
        assert [m["content"] for m in chats(server)[1].messages] == ["One", "First.", "Two"]


def test_an_answer_cut_by_its_length_is_whole_but_says_so():
    with talking("One two three four five six seven.") as (_, chat):
        reply = chat.ask("One", max_tokens=4).result(WAIT_S)
        assert reply.finish_reason == "length"
        assert chat.store.turns()["finish_reason"].iloc[0] == "length"
        assert chat.store.turns()["state"].iloc[0] == "complete"


def test_the_error_event_carries_what_the_error_does():
    body = {"error": {"message": "Slow down", "code": "rate_limit_exceeded", "type": "requests"}}
    heard = []
    with talking(Status(429, headers={"Retry-After": "0"}, body=body), max_retries=0) as (_, chat):
        chat.on(EVENTS.ChatCompletionsAPIError, lambda e: heard.append(e.payload))
        with pytest.raises(errors.RateLimitError):
            chat.ask("One").result(WAIT_S)
        kept = chat.store.events()
        assert list(kept["name"]) == [EVENTS.ChatCompletionsAPIError.value]
        assert json.loads(kept["payload"].iloc[0])["type"] == "RateLimitError"
    (payload,) = heard
    assert payload["type"] == "RateLimitError"
    assert payload["status_code"] == 429
    assert payload["code"] == "rate_limit_exceeded"
    assert payload["retry_after_s"] == 0


def test_what_a_refused_request_put_into_the_models_mouth_is_in_no_later_request():
    with talking(in_turn(Status(400), "Well."), max_retries=0) as (server, chat):
        begun = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "I begin"}]
        with pytest.raises(errors.BadRequestError):
            chat.create_chat_completions(messages=begun).result(WAIT_S)
        assert chat.ask("Two").result(WAIT_S).text == "Well."
        assert [m["content"] for m in chats(server)[-1].messages] == ["Two"]
        assert list(chat.store.turns()["state"].astype(str)) == ["failed", "complete"]
        assert chat.store.verify()


def test_the_same_errors_without_a_memory():
    replies = [Status(401), NONSENSE["a login page"], HALVES["cut"], Drop(after_events=1), "Well."]
    with testing.server(in_turn(*replies)) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key, "model": MODEL}
        with voxnb.ChatCompletionsAPIClient(given) as bare:
            for kind in (errors.AuthenticationError, errors.APIResponseValidationError, errors.StreamBrokenError):
                with pytest.raises(kind):
                    bare.ask("One").result(WAIT_S)
            assert bare.ask("One").result(WAIT_S).text == "Well."
        assert len(server.requests) == 5


def test_keys_are_in_no_error_and_no_table():
    key = "sk-verysecret-0123456789"
    body = {"error": {"message": f"Incorrect API key provided: {key}."}}
    with testing.server(scripted(Status(401, body=body))) as server, client(server, api_key=key) as chat:
        with pytest.raises(errors.AuthenticationError) as caught:
            chat.ask("One").result(WAIT_S)
        shown = [str(caught.value), repr(caught.value), repr(vars(caught.value)), repr(chat)]
        shown += [frame.to_csv() for frame in (chat.store.turns(), chat.store.calls(), chat.store.events())]
        cause = caught.value.__cause__
        shown += [repr(dict(cause.request.headers))] if hasattr(cause, "request") else []
    assert not [text for text in shown if "verysecret" in text]
