"""What goes out in either interface's own form."""

import voxnb
from tests.invariants.scripted import WAIT_S
from voxnb import testing

SOUND = {"id": "audio_1", "transcript": "Hello Ann.", "data": "AAAA", "expires_at": 1}


def test_of_a_spoken_answer_the_id_goes_back_and_all_of_it_is_kept():
    """As the service takes it; the sound would be paid for again."""
    spoken = {"role": "assistant", "content": None, "audio": SOUND}
    with testing.server([spoken, "Well."]) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key, "store": ":memory:"}
        with voxnb.chat("gpt-4o-audio-preview", **given) as chat:
            assert chat.ask("Say hello.").result(WAIT_S).message["audio"] == SOUND
            chat.ask("Again?").result(WAIT_S)
            plan = chat.conversation.explain(2)
            assert plan.exact
            assert chat.conversation.turns()["reply_text"].tolist() == ["Hello Ann.", "Well."]
            assert chat.store.search("ann")["snippet"].tolist() == ["Hello [Ann]."]
            assert chat.store.verify()
        assert server.requests[-1].messages[1]["audio"] == {"id": "audio_1"}
        assert server.requests[-1].messages == plan.request["messages"]
