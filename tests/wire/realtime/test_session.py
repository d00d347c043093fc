"""One realtime session: what may go out, what came, and what is out of order."""

from __future__ import annotations

import copy

import pytest

from tests.wire.realtime.talk import PCM_200_MS, Talk
from voxnb.errors import ParameterError, ProtocolError, RemoteProtocolError
from voxnb.events import RealtimeAPIEvents
from voxnb.wire.realtime.names import COMMANDS, SERVER_EVENTS
from voxnb.wire.realtime.session import RealtimeSession


@pytest.fixture
def talk():
    return Talk()


@pytest.fixture
def session(talk):
    made = RealtimeSession()
    made.receive(talk.created())
    return made


def hear(session, events):
    return [session.receive(event) for event in events]


def sent(*received):
    return [command["type"] for one in received for command in one.send]


def test_a_whole_spoken_turn_is_taken_in_without_an_oddity(session, talk):
    events = [*talk.user("u1"), *talk.spoken("r1", "a1", "Hello Ann.")]
    found = hear(session, events)
    assert [p for f in found for p in f.problems if "previous_item_id" not in p] == []
    assert [i.id for i in session.items] == ["u1", "a1"]
    spoken = session.item("a1")
    assert (spoken.text, spoken.received_ms(), spoken.done) == ("Hello Ann.", 1000, True)
    assert sum(len(f.audio) for f in found) == 5 * len(PCM_200_MS)
    assert {(f.item_id, f.response_id) for f in found if f.audio} == {("a1", "r1")}
    assert session.context_tokens == 120
    assert session.active_response is None


def test_every_constant_of_the_reference_is_an_event_that_it_knows():
    wire = {e.wire_type for e in RealtimeAPIEvents} - {None}
    assert wire <= SERVER_EVENTS
    assert {"response.output_audio.delta", "conversation.created"} <= SERVER_EVENTS - wire


def test_commands_before_the_session_go_out_in_order_once_it_is_there(talk):
    session = RealtimeSession()
    asked = ["session.update", "conversation.item.create", "response.create", "input_audio_buffer.clear"]
    fields = {"session.update": {"session": {}}, "conversation.item.create": {"item": {"type": "message"}}}
    assert [session.command(kind, fields.get(kind)) for kind in asked] == [()] * 4
    assert session.waiting == 4
    assert sent(session.receive(talk.created())) == asked
    assert session.waiting == 0


def test_nothing_but_an_error_comes_before_the_session(talk):
    session = RealtimeSession()
    with pytest.raises(RemoteProtocolError, match=r"before session\.created"):
        session.receive(talk.event("rate_limits.updated", rate_limits=[]))
    refused = session.receive(talk.error("invalid_api_key"))
    assert (refused.severity, session.ready) == ("fatal", False)
    session.receive(talk.created())
    with pytest.raises(RemoteProtocolError, match="a second time") as caught:
        session.receive(talk.created())
    assert (caught.value.event_type, isinstance(caught.value, ProtocolError)) == ("session.created", True)


def test_a_response_after_a_tools_result_waits_for_the_one_that_runs(session, talk):
    hear(session, talk.begin("r1", "a1"))
    output = {"item": {"type": "function_call_output", "call_id": "c", "output": "4"}}
    assert [c["type"] for c in session.command("conversation.item.create", output)] == ["conversation.item.create"]
    assert session.command("response.create", {"event_id": "mine"}) == ()
    assert session.command("response.create") == ()
    done = session.receive(talk.done("r1"))
    assert [c["event_id"] for c in done.send] == ["mine"]
    assert session.requested == "mine"
    hear(session, talk.begin("r2", "a2"))
    assert session.requested is None
    assert sent(session.receive(talk.done("r2"))) == ["response.create"]


def test_a_response_that_lost_the_race_is_asked_for_again_after_the_other(session, talk):
    (mine,) = session.command("response.create")
    hear(session, talk.begin("vad", "a1"))
    lost = session.receive(talk.error("conversation_already_has_active_response", event_id=mine["event_id"]))
    assert (lost.severity, lost.refused, lost.send) == ("benign", mine, ())
    assert session.receive(talk.done("vad")).send == (mine,)


def test_a_race_lost_without_an_id_is_understood_too(session, talk):
    (mine,) = session.command("response.create")
    lost = session.receive(talk.error("conversation_already_has_active_response"))
    # Nothing is active as far as is known here: the other response has ended already.
    assert lost.send == (mine,)


def test_a_response_is_not_asked_for_without_end(session, talk):
    (mine,) = session.command("response.create")
    error = "conversation_already_has_active_response"
    again = [bool(session.receive(talk.error(error, event_id=mine["event_id"])).send) for _ in range(6)]
    assert again == [True, True, True, False, False, False]


def test_a_refused_response_lets_the_next_one_go(session, talk):
    (first,) = session.command("response.create", {"response": {"voice": "nobody"}})
    assert session.command("response.create") == ()
    refused = session.receive(talk.error("invalid_value", event_id=first["event_id"]))
    assert (refused.severity, sent(refused)) == ("ordinary", ["response.create"])


def test_what_runs_out_of_band_waits_for_nothing(session, talk):
    hear(session, talk.begin("r1", "a1"))
    assert len(session.command("response.create", {"response": {"conversation": "none"}})) == 1
    hear(session, talk.begin("r2", "a2", conversation=None))
    assert session.active_response == "r1"
    session.receive(talk.done("r2"))
    assert session.active_response == "r1"


def test_a_second_response_of_the_conversation_is_out_of_order(session, talk):
    hear(session, talk.begin("r1", "a1"))
    with pytest.raises(RemoteProtocolError, match="while 'r1' is active"):
        session.receive(talk.begin("r2", "a2")[0])
    assert session.active_response == "r1"


@pytest.mark.parametrize(
    "broken",
    [
        lambda t: t.done("never"),
        lambda t: t.sound("r1", "nothing"),
        lambda t: t.sound("never", "a1"),
        lambda t: {**t.sound("r1", "a1"), "delta": "no base64!"},
        lambda t: {**t.sound("r1", "a1"), "delta": None},
        lambda t: t.event("response.output_text.delta", response_id="r1", item_id="a1", content_index=-1, delta="x"),
        lambda t: t.event("response.done", response={"id": "r1", "status": "perhaps"}),
        lambda t: t.event("response.done", response=[]),
        lambda t: t.event("conversation.item.deleted", item_id="nothing"),
        lambda t: t.event("conversation.item.truncated", item_id="u1", content_index=0, audio_end_ms=10),
        lambda t: t.event("conversation.item.truncated", item_id="a1", content_index=0, audio_end_ms=-1),
        lambda t: t.event("conversation.item.added", item={"id": "u1"}, previous_item_id=None),
        lambda t: t.event("conversation.item.done", item={"id": "nothing"}),
        lambda t: t.event("input_audio_buffer.speech_stopped", item_id="x", audio_end_ms=1),
        lambda t: t.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None),
        lambda t: t.event("conversation.item.input_audio_transcription.delta", item_id="nothing", delta="x"),
        lambda t: t.event("conversation.item.input_audio_transcription.delta", item_id="a1", delta="x"),
        lambda t: t.event("response.output_item.added", response_id="r1", output_index=0, item={"id": "z"}),
        lambda t: t.event("response.output_item.added", response_id="r1", output_index=1, item={"id": "a1"}),
        lambda t: {"type": 7},
        lambda t: {"event_id": "e"},
        lambda t: ["session.updated"],
        lambda t: None,
    ],
)
def test_what_is_out_of_order_or_shape_is_told_and_changes_nothing(broken, session, talk):
    hear(session, [*talk.user("u1"), *talk.begin("r1", "a1"), talk.sound("r1", "a1")])
    before = state(session)
    with pytest.raises(RemoteProtocolError, match="it was not taken in"):
        session.receive(broken(talk))
    assert state(session) == before
    found = hear(session, talk.finish("r1", "a1", "On it goes."))
    assert [p for f in found for p in f.problems] == []


def state(session):
    """Everything a session knows, as a value."""
    return copy.deepcopy(
        {
            "items": {i.id: i for i in session.items._items.values()},
            "order": session.items._order,
            "responses": session.responses._known,
            "sequence": vars(session._sequence),
            "settings": vars(session.settings),
            "rest": (session.id, session.config, session.expires_at, session.speech_item, session.context_tokens),
        }
    )


def test_deltas_after_the_end_are_out_of_order(session, talk):
    hear(session, talk.spoken("r1", "a1", "Hi."))
    for late in (talk.sound("r1", "a1"), talk.words("r1", "a1", "x"), talk.done("r1")):
        with pytest.raises(RemoteProtocolError, match="has ended"):
            session.receive(late)


@pytest.mark.parametrize("previous", [None, "gone"])
def test_where_the_service_is_sloppy_it_is_noted_and_taken_in(previous, session, talk):
    hear(session, talk.user("u1"))
    item = {"id": "u2", "type": "message", "role": "user", "content": []}
    found = session.receive(talk.event("conversation.item.added", item=item, previous_item_id=previous))
    assert len(found.problems) == 1
    assert session.problems == 1
    assert [i.id for i in session.items] == ["u1", "u2"]


def test_a_part_that_was_not_announced_is_taken_in(session, talk):
    hear(session, talk.begin("r1", "a1")[:3])
    found = session.receive(talk.sound("r1", "a1"))
    assert found.problems == ["response.output_audio.delta without response.content_part.added"]
    assert session.item("a1").received_ms() == 200


def test_half_a_sample_is_cut_off_and_noted(session, talk):
    hear(session, talk.begin("r1", "a1"))
    found = session.receive(talk.sound("r1", "a1", pcm=bytes(9_601)))
    assert (len(found.audio), len(found.problems)) == (9_600, 1)


def test_g711_is_counted_in_its_own_bytes(talk):
    session = RealtimeSession()
    session.receive(talk.created(audio={"output": {"format": {"type": "audio/pcmu"}}}))
    hear(session, talk.begin("r1", "a1"))
    session.receive(talk.sound("r1", "a1", pcm=bytes(801)))
    assert session.item("a1").received_ms() == 100


def test_items_stand_where_the_server_says(session, talk):
    hear(session, [*talk.user("u1"), *talk.spoken("r1", "a1", "Hi."), *talk.user("u2")])
    summary = {"id": "s1", "type": "message", "role": "system", "content": [{"type": "input_text", "text": "So far."}]}
    session.receive(talk.event("conversation.item.added", item=summary, previous_item_id="root"))
    session.receive(talk.event("conversation.item.deleted", item_id="u1"))
    between = {"id": "m1", "type": "message", "role": "user", "content": []}
    session.receive(talk.event("conversation.item.added", item=between, previous_item_id="a1"))
    assert [i.id for i in session.items] == ["s1", "a1", "m1", "u2"]
    assert session.item("u1").deleted
    with pytest.raises(RemoteProtocolError, match="was deleted"):
        session.receive(talk.event("conversation.item.deleted", item_id="u1"))


def test_what_the_user_said_comes_any_time_after_it_was_committed(session, talk):
    hear(session, talk.user("u1"))
    at = {"item_id": "u1", "content_index": 0}
    kind = "conversation.item.input_audio_transcription"
    hear(session, [talk.event(f"{kind}.delta", delta="He", **at), *talk.begin("r1", "a1")])
    session.receive(talk.event(f"{kind}.completed", transcript="Hello.", **at))
    assert (session.item("u1").text, session.item("u1").transcription) == ("Hello.", "completed")
    with pytest.raises(RemoteProtocolError, match="transcription has ended"):
        session.receive(talk.event(f"{kind}.failed", error={}, **at))


def test_what_the_beta_called_otherwise_means_the_same(session, talk):
    hear(session, talk.begin("r1", "a1"))
    delta = session.receive({**talk.sound("r1", "a1"), "type": "response.audio.delta"})
    assert (delta.events[0]["type"], len(delta.audio)) == ("response.output_audio.delta", 9_600)
    item = {"id": "u9", "type": "message", "role": "user", "status": "completed", "content": []}
    made = session.receive(talk.event("conversation.item.created", item=item, previous_item_id="a1"))
    assert [e["type"] for e in made.events] == ["conversation.item.added", "conversation.item.done"]
    assert session.item("u9").done
    again = session.receive(talk.event("conversation.item.created", item=item, previous_item_id="a1"))
    assert (again.known, [e["type"] for e in again.events]) == (False, ["conversation.item.created"])


def test_what_is_not_known_is_passed_on(session, talk):
    event = talk.event("response.telepathy.delta", thought="?")
    found = session.receive(event)
    assert (found.known, found.events) == (False, (event,))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("conversation.item.create", {}, "needs 'item'"),
        ("conversation.item.truncate", {"item_id": "i", "content_index": 0}, "needs 'audio_end_ms'"),
        ("session.update", {"session": []}, "expected a dict"),
        ("response.create", {"type": "response.cancel"}, "leave it out"),
        ("response.create", {"event_id": 7}, "expected a text"),
        ("response.make", {}, "no client event"),
        ("response.create", [], "expected a dict"),
    ],
)
def test_a_command_that_cannot_be_is_refused_here(kind, fields, said, session):
    with pytest.raises(ParameterError, match=said):
        session.command(kind, fields)


def test_every_command_goes_out_with_an_id_of_its_own(session):
    fields = {"session": {}, "audio": "", "item": {}, "item_id": "i", "content_index": 0, "audio_end_ms": 1}
    out = [c for kind, names in COMMANDS.items() for c in session.command(kind, {n: fields[n] for n in names})]
    assert [c["type"] for c in out] == list(COMMANDS)
    assert len({c["event_id"] for c in out}) == len(COMMANDS)


def test_what_was_asked_for_is_known_without_what_was_refused(session, talk):
    session.command("session.update", {"session": {"instructions": "Be kind.", "tools": [1]}})
    (bad,) = session.command("session.update", {"session": {"voice": "nobody", "tools": [2]}})
    session.receive(talk.event("session.updated", session={"id": "sess_1"}))
    session.receive(talk.error("invalid_value", event_id=bad["event_id"]))
    session.command("session.update", {"session": {"turn_detection": None}})
    wanted = {"instructions": "Be kind.", "tools": [1], "audio": {"input": {"turn_detection": None}}}
    assert session.settings.wanted == wanted


def test_a_cut_beyond_the_end_counts_as_heard(session, talk):
    hear(session, talk.spoken("r1", "a1", "Hi."))
    asked = {"item_id": "a1", "content_index": 0, "audio_end_ms": 990}
    (cut,) = session.command("conversation.item.truncate", asked)
    text = "Audio content of 915ms is already shorter than 990ms"
    refused = session.receive(talk.error(None, event_id=cut["event_id"], message=text))
    assert (refused.severity, session.item("a1").truncated_ms) == ("benign", 915)


def test_a_response_that_never_came_is_given_up(session):
    session.command("response.create")
    assert session.command("response.create") == ()
    assert [c["type"] for c in session.give_up_requested()] == ["response.create"]
