"""Arbitrary events and commands in arbitrary order: told apart, never a crash, and the laws hold."""

from __future__ import annotations

import base64
import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tests.wire.realtime.talk import Talk
from tests.wire.realtime.test_session import state
from voxnb.errors import ParameterError, RemoteProtocolError
from voxnb.wire.realtime.names import BETA_TYPES, COMMANDS, SERVER_EVENTS, session_of
from voxnb.wire.realtime.session import RealtimeSession

IDS = st.sampled_from(["a", "b", "c", "root"])
JUNK = st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.text(max_size=3) | st.lists(IDS, max_size=2)
SOUND = st.binary(max_size=6).map(lambda b: base64.b64encode(b).decode()) | st.text(max_size=4)
PART = st.fixed_dictionaries({}, optional={"type": st.sampled_from(["audio", "text"]) | JUNK, "text": JUNK, "transcript": JUNK})  # fmt: skip
ITEM = st.fixed_dictionaries(
    {"id": IDS},
    optional={
        "type": st.sampled_from(["message", "function_call"]) | JUNK,
        "role": st.sampled_from(["user", "assistant"]) | JUNK,
        "status": st.sampled_from(["in_progress", "completed"]) | JUNK,
        "content": st.lists(PART | JUNK, max_size=2) | JUNK,
        "arguments": JUNK,
        "name": JUNK,
        "call_id": JUNK,
    },
)
RESPONSE = st.fixed_dictionaries(
    {"id": IDS},
    optional={
        "status": st.sampled_from(["completed", "cancelled", "failed", "incomplete"]) | JUNK,
        "conversation_id": st.none() | IDS,
        "usage": st.fixed_dictionaries({}, optional={"total_tokens": JUNK}) | JUNK,
        "status_details": st.fixed_dictionaries({}, optional={"reason": JUNK, "error": JUNK}) | JUNK,
    },
)
ERROR = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from(["conversation_already_has_active_response", "invalid_value"]) | JUNK,
        "event_id": st.sampled_from([f"event_voxnb_{n}" for n in range(1, 6)]) | JUNK,
        "message": JUNK | st.just("Audio content of 5ms is already shorter than 7ms"),
    },
)
SESSION = st.dictionaries(
    st.sampled_from(
        ["audio", "voice", "modalities", "input_audio_format", "turn_detection", "expires_at", "id", "tools"]
    ),
    JUNK | st.just("pcm16") | st.dictionaries(st.sampled_from(["input", "output", "format", "type"]), JUNK, max_size=2),
)
FIELDS = {
    "item_id": IDS | JUNK,
    "response_id": IDS | JUNK,
    "output_index": st.integers(0, 2) | JUNK,
    "content_index": st.integers(0, 1) | JUNK,
    "previous_item_id": IDS | JUNK,
    "audio_start_ms": st.integers(0, 9) | JUNK,
    "audio_end_ms": st.integers(0, 9) | JUNK,
    "delta": SOUND | JUNK,
    "transcript": JUNK,
    "text": JUNK,
    "arguments": JUNK,
    "call_id": JUNK,
    "name": JUNK,
    "part": PART | JUNK,
    "item": ITEM | JUNK,
    "response": RESPONSE | JUNK,
    "session": SESSION | JUNK,
    "error": ERROR | JUNK,
}
TYPES = st.sampled_from(sorted([*SERVER_EVENTS, *BETA_TYPES, "conversation.item.created", "unheard.of"]))
EVENTS = TYPES.flatmap(lambda kind: st.fixed_dictionaries({"type": st.just(kind)}, optional=FIELDS)) | JUNK
COMMAND = st.sampled_from(sorted(COMMANDS)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.fixed_dictionaries({}, optional={**FIELDS, "audio": JUNK}))
)


class AnyOrder(RuleBasedStateMachine):
    """Anything may come and anything be asked; only the named errors are raised, and an error changes nothing."""

    def __init__(self):
        super().__init__()
        self.session = RealtimeSession()
        self.out = []

    @rule(event=EVENTS)
    def hear(self, event):
        before = state(self.session)
        try:
            found = self.session.receive(event)
        except RemoteProtocolError:
            assert repr(state(self.session)) == repr(before)  # by repr: a NaN is not equal to itself
        else:
            assert found.events
            self.out += found.send

    @rule()
    def begin(self):
        with contextlib.suppress(RemoteProtocolError):
            self.out += self.session.receive(Talk().created()).send

    @rule(response=IDS, item=IDS)
    def speak(self, response, item):
        for event in Talk().begin(response, item):
            with contextlib.suppress(RemoteProtocolError):
                self.session.receive(event)

    @rule(response=IDS)
    def end(self, response):
        with contextlib.suppress(RemoteProtocolError):
            self.out += self.session.receive(Talk().done(response)).send

    @rule(command=COMMAND)
    def ask(self, command):
        active = self.session.active_response
        try:
            now = self.session.command(*command)
        except ParameterError:
            return
        self.out += now
        spoken = command[1].get("response")
        beside = isinstance(spoken, dict) and spoken.get("conversation") == "none"
        assert not (active and not beside and [c for c in now if c["type"] == "response.create"])

    @invariant()
    def nothing_goes_out_before_the_session(self):
        assert self.session.ready or not self.out

    @invariant()
    def the_order_names_what_is_in_the_conversation(self):
        there = {i.id for i in self.session.items._items.values() if i.added and not i.deleted}
        assert {i.id for i in self.session.items} == there
        assert len(self.session.items) == len(there)

    @invariant()
    def one_response_of_the_conversation_runs(self):
        running = [r for r in self.session.responses._known.values() if r.in_conversation and r.status == "in_progress"]
        assert len(running) <= 1
        assert self.session.active_response == (running[0].id if running else None)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


class Legal(RuleBasedStateMachine):
    """A server in order, with turns that interleave as the service's do, is never found wrong."""

    items = Bundle("items")

    def __init__(self):
        super().__init__()
        self.talk, self.session, self.n = Talk(), RealtimeSession(), 0
        self.running = None
        self.problems = []
        self.hear([self.talk.created()])

    def hear(self, events):
        for event in events:
            self.problems += self.session.receive(event).problems

    def number(self):
        self.n += 1
        return self.n

    @rule(target=items)
    def speak(self):
        item = f"u{self.number()}"
        first = len(self.session.items) == 0
        self.hear(self.talk.user(item))
        assert first or self.session.item(item).done
        return item

    @rule()
    def answer(self):
        if self.running is None:
            n = self.number()
            self.running = (f"r{n}", f"a{n}")
            self.hear(self.talk.begin(*self.running))

    @rule(n=st.integers(1, 3))
    def sound(self, n):
        if self.running:
            self.hear([self.talk.sound(*self.running) for _ in range(n)])
            self.hear([self.talk.words(*self.running, "word ")])

    @rule(status=st.sampled_from(["completed", "cancelled"]))
    def finish(self, status):
        if self.running:
            response, item = self.running
            self.hear(self.talk.finish(response, item, "Said.") if status == "completed" else [self.talk.done(response, status)])  # fmt: skip
            self.running = None

    @rule(item=items)
    def transcribe(self, item):
        if self.session.item(item).transcription == "none":
            kind = "conversation.item.input_audio_transcription.completed"
            self.hear([self.talk.event(kind, item_id=item, content_index=0, transcript="Heard.")])

    @invariant()
    def nothing_is_odd(self):
        # The first item of all has no predecessor, and a deleted one may be named by none of these.
        assert [p for p in self.problems if "without previous_item_id" not in p] == []


Legal.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestLegal = Legal.TestCase


@given(SESSION)
def test_settings_of_any_shape_can_be_read_and_reading_them_twice_changes_nothing(session):
    once = session_of(session)
    assert repr(session_of(once)) == repr(once)
