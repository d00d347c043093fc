"""Half an emoji: from a server, the answer is kept and the chat goes on; from a user, it is said where it stands."""

import json

import pandas as pd
import pytest

import voxnb
from voxnb import testing
from voxnb.errors import MessageError, ParameterError, StoreError

HALF = "half \ud83d"


def test_an_emoji_cut_between_two_chunks_is_stored_whole_and_a_lone_half_is_replaced():
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "hi \ud83d"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "\ude00 bye \ud83d"}, "finish_reason": "stop"}]},
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    broken = testing.Status(200, {"content-type": "text/event-stream"}, body.encode())
    with (
        testing.server([broken, "Well."]) as server,
        voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as chat,
    ):
        assert chat.ask("One").result(30).text == "hi \U0001f600 bye \ufffd"
        assert str(chat.ask("Two").result(30)) == "Well."
        turns = chat.store.turns()
        assert turns["state"].astype(str).tolist() == ["complete", "complete"]
        assert turns["reply_text"][0] == "hi \U0001f600 bye \ufffd"
        assert [m["role"] for m in server.requests[-1].messages] == ["user", "assistant", "user"]
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
