"""What a new session is told: everything that was asked for, each command under an id of its own."""

from __future__ import annotations

from tests.wire.realtime.talk import Talk
from voxnb.wire.realtime.heir import begin_with, succeed
from voxnb.wire.realtime.session import RealtimeSession

DETECTION = {"turn_detection": {"type": "server_vad"}}
TRANSCRIPTION = {"transcription": {"model": "m"}}
SAID = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


def early():
    """A session that was asked for things before it was there."""
    session = RealtimeSession()
    session.command("session.update", {"session": {"type": "realtime", "audio": {"input": DETECTION}}})
    session.command("response.create")
    return session


def opened(session):
    """What goes out when the session is there."""
    out = session.receive(Talk().created()).send
    assert len({command["event_id"] for command in out}) == len(out), "ids tell refusals apart"
    return out


def test_a_first_session_is_told_what_the_client_needs_and_what_was_asked_for():
    session = begin_with(early(), messages=SAID, settings={"audio": {"input": TRANSCRIPTION}}, kind="realtime")
    assert [command["type"] for command in opened(session)] == [
        "session.update", "session.update", "conversation.item.create", "conversation.item.create", "response.create",
    ]  # fmt: skip
    assert session.settings.wanted["audio"] == {"input": {**TRANSCRIPTION, **DETECTION}}


def test_a_session_that_follows_is_told_all_of_it_again():
    first = begin_with(early(), messages=[], settings={"audio": {"input": TRANSCRIPTION}}, kind="realtime")
    opened(first)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Bye."}]}
    waiting = first.command("conversation.item.create", {"item": item})
    second, items = succeed(first, messages=SAID, kind="realtime", number=1, unsent=waiting, ask_again=True)
    out = opened(second)
    assert out[0]["session"]["audio"] == {"input": {**TRANSCRIPTION, **DETECTION}}
    assert [command["type"] for command in out[1:]] == ["conversation.item.create"] * (items + 1) + ["response.create"]
    assert out[-2]["item"] == item
