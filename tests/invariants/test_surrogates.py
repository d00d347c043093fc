"""Half an emoji: from a server, the answer is kept and the chat goes on; from a user, it is said where it stands."""

import json
import threading

import pandas as pd
import pytest

import voxnb
from tests.clients import responses_events
from voxnb import testing
from voxnb.clients import exchange
from voxnb.errors import MessageError, ParameterError, StoreError
from voxnb.store import ending

HALF = "half \ud83d"
WHOLE = "half \ufffd"
CALL = {"index": 0, "id": "t", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
CHAT = [
    {"choices": [{"index": 0, "delta": {"content": "Important."}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"reasoning": "Hm.", "tool_calls": [CALL]}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"x": "y"}},
]
CHAT = [{"id": "c", "model": "m", "service_tier": "a", "system_fingerprint": "f", **chunk} for chunk in CHAT]
KINDS = {"type", "object", "role", "status"}


def streamed(events):
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return testing.Status(200, {"content-type": "text/event-stream"}, body.encode())


def halved(value, key, *, inside=False):
    """The same with half an emoji at the end of every text that stands under a key."""
    if isinstance(value, dict):
        return {k: halved(v, key, inside=k == key) for k, v in value.items()}
    if isinstance(value, list):
        return [halved(v, key, inside=inside) for v in value]
    return f"{value}\ud83d" if inside and isinstance(value, str) else value


def keys(value):
    if isinstance(value, dict):
        return {k for k, v in value.items() if isinstance(v, str)} - KINDS | set().union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def test_an_emoji_cut_between_two_chunks_is_stored_whole_and_a_lone_half_is_replaced():
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "hi \ud83d"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "\ude00 bye \ud83d"}, "finish_reason": "stop"}]},
    ]
    with (
        testing.server([streamed(chunks), "Well."]) as server,
        voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as chat,
    ):
        assert chat.ask("One").result(30).text == "hi \U0001f600 bye \ufffd"
        assert str(chat.ask("Two").result(30)) == "Well."
        turns = chat.store.turns()
        assert turns["state"].astype(str).tolist() == ["complete", "complete"]
        assert turns["reply_text"][0] == "hi \U0001f600 bye \ufffd"
        assert [m["role"] for m in server.requests[-1].messages] == ["user", "assistant", "user"]
        assert chat.store.verify()


@pytest.mark.parametrize("key", sorted({*keys(CHAT), "finish_reason"}))
def test_a_half_in_whatever_a_chat_answer_says_loses_nothing_of_it(key):
    with (
        testing.server([streamed(halved(CHAT, key)), "Well."]) as server,
        voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as chat,
    ):
        reply = chat.ask("One").result(30)
        assert reply.text.startswith("Important.")
        said = [{"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "1"}]
        assert chat.create_chat_completions(messages=said).result(30).text == "Well."
        assert chat.store.turns()["state"].astype(str).tolist() == ["complete"]
        assert chat.store.verify()
        json.dumps([reply.message, reply.id, reply.finish_reason], ensure_ascii=False).encode()


@pytest.mark.parametrize("key", ["id", "name", "arguments"])
def test_a_tool_is_run_and_answered_whatever_halves_its_call_has(key):
    def look(at: str) -> str:
        """Look.

        Args:
            at: where
        """
        return "seen"

    with (
        testing.server([streamed(halved(CHAT, key)), "Well."]) as server,
        voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as chat,
    ):
        assert chat.ask("One", tools=[look], run_tools=True).result(30).text.endswith("Well.")
        called, answered = server.requests[-1].messages[-2:]
        assert called["tool_calls"][0]["id"] == answered["tool_call_id"]
        assert chat.store.verify()


@pytest.mark.parametrize("key", sorted(keys(responses_events.everything())))
def test_a_half_in_whatever_a_response_says_loses_nothing_of_it(key):
    events = halved(responses_events.everything(), key)
    whole = testing.Status(200, {"content-type": "application/json"}, json.dumps(events[-1]["response"]).encode())
    for said in (streamed(events), whole):
        with (
            testing.server([said]) as server,
            voxnb.ResponsesAPIClient(model="m", base_url=server.base_url, store_context=True, store=":memory:") as chat,
        ):
            reply = chat.create_responses(input="One").result(30)
            assert reply.text.startswith("It")
            assert chat.store.turns()["state"].astype(str).tolist() == ["complete"]
            assert chat.store.verify()


def test_what_came_so_far_is_kept_where_it_ends_in_half_an_emoji(monkeypatch):
    """The sign of life of a turn that runs, which carries it."""
    renew, came = ending.renew, threading.Event()

    def noted(c, *, draft, **more):
        renew(c, draft=draft, **more)
        if draft is not None:
            came.set()

    monkeypatch.setattr(exchange, "RENEW_S", 0.01)
    monkeypatch.setattr(ending, "renew", noted)
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": HALF}, "finish_reason": None}]})
    half = testing.Chunks([f"data: {chunk}\n\n".encode()])
    with (
        testing.server([testing.Hang(after_events=1, reply=half)]) as server,
        voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as chat,
    ):
        turn = chat.ask("One")
        assert came.wait(30)
        assert WHOLE in chat.store.database.read("SELECT message FROM draft")[0][0]
        turn.cancel()


def test_a_half_in_a_refusal_is_no_half_in_the_error_or_in_the_store():
    told = {"error": {"message": HALF, "code": HALF, "param": HALF, "type": HALF}}
    headers = {"content-type": "application/json", "x-request-id": "r\xed\xa0\xbd"}
    refused = testing.Status(400, headers, json.dumps(told).encode())
    with (
        testing.server([refused, streamed([told]), "Well."]) as server,
        voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:", max_retries=0) as chat,
    ):
        for _ in range(2):
            with pytest.raises(voxnb.errors.APIStatusError, match=WHOLE) as caught:
                chat.ask("One").result(30)
            assert (caught.value.code, caught.value.param, caught.value.type) == (WHOLE,) * 3
        assert chat.ask("Two").result(30).text == "Well."
        assert chat.store.turns()["state"].astype(str).tolist() == ["failed", "failed", "complete"]
        assert chat.store.verify()


@pytest.mark.parametrize(
    "request_part",
    [
        {"model": HALF},
        {"metadata": {"a": HALF}},
        {"metadata": {HALF: "a"}},
        {"user": HALF},
        {"stop": [HALF]},
        {"tools": [{"type": "function", "function": {"name": "f", "description": HALF, "parameters": {}}}]},
    ],
)
def test_half_an_emoji_in_a_request_is_refused_by_name_before_anything_is_stored(request_part):
    (name,) = request_part
    with voxnb.chat("m", base_url="http://127.0.0.1:9/v1", store=":memory:") as chat:
        with pytest.raises(ParameterError, match=f"^{name} cannot be written as JSON.*surrogates"):
            chat.ask("One", **request_part)
        with pytest.raises(MessageError, match="lone surrogate"):
            chat.ask("One", attach=pd.DataFrame({"a": [HALF]}, dtype=object))
        assert not chat.conversation.exists
    for name in ("metadata", "summary_prompt"):
        with pytest.raises(ParameterError, match=f"^{name} cannot"):
            voxnb.chat(
                "m",
                base_url="http://127.0.0.1:9/v1",
                store=":memory:",
                **{name: {"metadata": {"a": HALF}}.get(name, HALF)},
            )


def test_half_an_emoji_in_a_name_is_said_to_be_no_text():
    hello = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    with voxnb.ContextStore(":memory:") as store:
        talk = store.append("iris", hello)
        for name in (
            lambda: store[HALF],
            lambda: store.append(HALF, hello),
            lambda: talk.rename(HALF),
            lambda: talk.fork(name=HALF),
            lambda: store.turns(conversation=HALF),
            lambda: voxnb.chat("m", base_url="http://127.0.0.1:9/v1", store=store, conversation=HALF),
        ):
            with pytest.raises(ParameterError, match="is not Unicode at character 5"):
                name()
        assert list(store) == ["iris"]


@pytest.mark.parametrize("name", [HALF, "nul\0.db"])
def test_a_path_that_can_be_none_is_refused_as_one(tmp_path, name):
    path = str(tmp_path / name)
    with voxnb.ContextStore(":memory:") as store:
        for use in (
            lambda: voxnb.ContextStore(path),
            lambda: voxnb.chat("m", base_url="http://127.0.0.1:9/v1", store=path),
            lambda: store.backup(path),
            lambda: store.export_conversations(path + ".jsonl"),
        ):
            with pytest.raises(StoreError, match=r"can be no file's path.*choose another"):
                use()
    assert list(tmp_path.iterdir()) == []
