"""What a new session is told: everything that was asked for, each command under an id of its own."""

from __future__ import annotations

import pytest

from tests.wire.realtime.talk import Talk
from voxnb.wire.realtime.heir import begin_with, catch_up, succeed
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
    second, items = succeed(first, messages=SAID, kind="realtime", number=1, unsent=waiting, is_lost=True)
    out = opened(second)
    assert out[0]["session"]["audio"] == {"input": {**TRANSCRIPTION, **DETECTION}}
    assert [command["type"] for command in out[1:]] == ["conversation.item.create"] * (items + 1) + ["response.create"]
    assert out[-2]["item"] == item


def said(text, **more):
    return {"item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **more}}


def added(talk, item_id, command):
    """The server's word that an item is in the conversation."""
    return talk.event("conversation.item.added", item={**command["item"], "id": item_id}, previous_item_id=None)


def test_an_item_that_a_lost_session_did_not_confirm_is_told_to_the_next_one():
    talk, first = Talk(), RealtimeSession()
    first.receive(talk.created())
    kept, late = (first.command("conversation.item.create", said(text)) for text in ("Kept.", "Late."))
    first.receive(added(talk, "i1", kept[0]))
    assert first.items.unconfirmed == late
    second, _ = succeed(first, messages=[], kind="realtime", number=1, is_lost=True)
    assert [command["item"] for command in opened(second)[1:]] == [late[0]["item"]]


@pytest.mark.parametrize("is_lost", [True, False])
def test_the_place_behind_an_item_of_the_old_session_is_the_end_of_the_new_one(is_lost):
    talk, first = Talk(), RealtimeSession()
    first.receive(talk.created())
    (kept,) = first.command("conversation.item.create", said("Kept."))
    first.receive(added(talk, "i1", kept))
    places = ("i1", "mine", "root")
    first.command("conversation.item.create", said("Mine.", id="mine"))
    for place in places:
        first.command("conversation.item.create", {**said(f"Behind {place}."), "previous_item_id": place})
    second, _ = succeed(first, messages=[], kind="realtime", number=1, is_lost=is_lost)
    out = opened(second)
    if not is_lost:
        out = catch_up(second, first, items=[], kind="realtime", number=1)
    told = [(c["item"]["content"][0]["text"], c.get("previous_item_id")) for c in out if "item" in c]
    assert told == [("Mine.", None), ("Behind i1.", None), ("Behind mine.", "mine"), ("Behind root.", "root")]


@pytest.mark.parametrize("own", [{}, {"id": "mine"}])
def test_an_item_is_confirmed_by_its_id_or_else_by_its_likeness(own):
    talk, session = Talk(), RealtimeSession()
    session.receive(talk.created())
    result = {"item": {"type": "function_call_output", "call_id": "c1", "output": "4"}}
    other = session.command("conversation.item.create", result)
    (command,) = session.command("conversation.item.create", said("Hi.", **own))
    for event in talk.user("spoken", "Hello?"):
        session.receive(event)
    assert session.items.unconfirmed == (*other, command), "what was spoken confirms nothing"
    session.receive(added(talk, own.get("id", "i1"), command))
    assert session.items.unconfirmed == other
    session.receive(talk.error("invalid_value", event_id=other[0]["event_id"]))
    assert session.items.unconfirmed == ()


def test_a_session_that_takes_over_is_told_what_the_old_one_was_asked_for_meanwhile():
    old = early()
    opened(old)
    new, _ = succeed(old, messages=SAID, kind="realtime", number=1)
    told = opened(new)
    assert catch_up(new, old, items=[], kind="realtime", number=1) == []
    old.command("session.update", {"session": {"type": "realtime", "instructions": "Be brief."}})
    (late,) = old.command("conversation.item.create", said("Late."))
    since = [{"type": "message", "role": "user", "content": []}]
    update, item, again = catch_up(new, old, items=since, kind="realtime", number=1)
    assert update["session"] == {**told[0]["session"], "instructions": "Be brief."}
    assert (item["item"]["id"], again["item"]) == ("voxnb_1_since_0", late["item"])
    assert len({command["event_id"] for command in (*told, update, item, again)}) == len(told) + 3
