"""Half an emoji from a server: the answer is kept, the turn is closed, the chat goes on."""

import json

import voxnb
from voxnb import testing


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
