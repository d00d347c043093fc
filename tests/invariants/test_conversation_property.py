"""Random conversations, checked from outside: by the requests that the server met, against a list kept by hand."""

from __future__ import annotations

import contextlib
import copy
import itertools
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

import voxnb
from tests.invariants.scripted import (
    TELLER,
    WAIT_S,
    client,
    orphans,
    sent_tokens,
    shown,
    summarise,
    summary_of,
    told,
)
from voxnb import testing
from voxnb.errors import APIError, ContextOverflowError, ConversationError, SummaryError
from voxnb.testing import Drop, Status, service

RESERVE = 60
CUT = " [the reply was cut off here]"
FENCE = 80
"""What a summary's marks and heading cost at most, with a few tokens of text."""

REFUSED = Status(500, headers={"x-should-retry": "false"})


@dataclass
class Spoken:
    """A turn as the test knows it."""

    tag: int
    messages: list[dict[str, Any]]
    state: str = "complete"
    pinned: bool = False


@dataclass
class Talk:
    """One conversation: its client, and what was said on its path."""

    chat: voxnb.ChatCompletionsAPIClient
    turns: list[Spoken] = field(default_factory=list)


class World:
    """A file, a server, and conversations that share turns."""

    def __init__(self, path: str, policy: dict[str, Any]) -> None:
        self.path = path
        self.policy = voxnb.ContextPolicy(reserve_output_tokens=RESERVE, **policy)
        self.tags = itertools.count(1)
        self.answers: list[Any] = []
        self.teller: Any = summarise
        self.shown: set[int] = set()
        self.seen = 0
        self.refused: list[str] = []
        self.server = testing.Server(self.reply)
        self.talks = [Talk(self.client("first", instructions="Be brief."))]

    def client(self, name: str, **more: Any) -> voxnb.ChatCompletionsAPIClient:
        return client(
            self.server, store=self.path, conversation=name, policy=self.policy, max_retries=0, **more
        )  # fmt: skip

    def reply(self, request: testing.Request) -> Any:
        if request.model == TELLER:
            self.shown |= told(shown(request))
            return self.teller(request) if callable(self.teller) else self.teller
        return self.answers.pop(0)

    def close(self) -> None:
        for talk in self.talks:
            talk.chat.close()
        self.talks[0].chat.store.close()
        self.server.close()
        assert self.server.errors == []

    # -- what is done ---------------------------------------------------------------------------

    def send(
        self, talk: Talk, turn: Spoken, messages: list[dict[str, Any]], answer: Any, *, earlier: Sequence[Any] = ()
    ) -> voxnb.Reply | None:
        """One request; the turn is brought up to date with what came."""
        self.answers = [answer]
        before = [t for t in talk.turns if t is not turn]
        # What a first request brings is no answer, whoever is said to have said it.
        answered = any(m["role"] == "assistant" for m in turn.messages)
        turn.messages += messages
        asked = list(turn.messages)
        reply = None
        try:
            reply = talk.chat.create_chat_completions(messages=[*earlier, *messages]).result(WAIT_S)
        except ContextOverflowError as error:
            assert sum(error.parts.values()) + FENCE > self.policy.window_tokens
            turn.state = "partial" if answered else "failed"
        except APIError as error:
            kept = getattr(error, "reply", None)
            if kept is not None and kept.text:
                turn.messages.append({"role": "assistant", "content": kept.text})
            turn.state = "partial" if answered or (kept is not None and kept.text) else "failed"
            assert getattr(error, "status_code", 500) == 500, f"the service refused: {error}"
        else:
            turn.state = "complete"
            calls = [dict(call) for call in reply.tool_calls]
            turn.messages.append(
                {"role": "assistant", "content": reply.text or None, **({"tool_calls": calls} if calls else {})}
            )
        self.check(talk, before, asked)
        talk.chat.idle().result(WAIT_S)
        return reply

    def ask(self, talk: Talk, words: int, answer: Any, *, system: bool = False) -> tuple[Spoken, voxnb.Reply | None]:
        tag = next(self.tags)
        turn = Spoken(tag, [])
        talk.turns.append(turn)
        said = [{"role": "user", "content": f"#{tag} " + "say " * words}]
        if system:
            said.append({"role": "system", "content": f"Rule {tag}: stay calm."})
        return turn, self.send(talk, turn, said, answer(tag) if callable(answer) else answer)

    def told(self, talk: Talk, shape: str, *, live: bool) -> None:
        """A turn from elsewhere in which results do not follow their calls, stored or asked with."""
        tag = next(self.tags)
        said = [{"role": "user", "content": f"#{tag} as told"}, *mingled(shape)]
        turn = Spoken(tag, [])
        talk.turns.append(turn)
        if live:  # a list that holds an answer is the whole conversation
            earlier = [m for t in talk.turns if t.state != "failed" for m in t.messages]
            self.send(talk, turn, said, text(tag), earlier=earlier)
            return
        turn.messages += [*said, {"role": "assistant", "content": f"Told {tag}."}]
        talk.chat.store.append(talk.chat.conversation.id, turn.messages)

    def loop(self, talk: Talk, rounds: list[int], *, backwards: bool, end: Any, between: str = "") -> None:
        """A tool loop: in each round so many calls at once, their results in either order, and what is said between."""

        def calls(number: int, many: int) -> dict[str, Any]:
            made = [{"id": f"c{number}_{n}", "name": "look", "arguments": {"n": n}} for n in range(many)]
            return {"content": f"Looking {number}." if number % 2 else None, "tool_calls": made}

        turn, reply = self.ask(talk, 3, calls(0, rounds[0]))
        for number, many in enumerate([*rounds[1:], None], 1):
            if reply is None or not reply.tool_calls:
                return
            results = [
                {"role": "tool", "tool_call_id": call["id"], "content": f"found {turn.tag} {call['id']}"}
                for call in reply.tool_calls
            ]
            if backwards:
                results.reverse()
            for n, role in enumerate(between):
                at = min(2 * n, len(results) - 1)
                if at or role != "s":  # leading ones are the conversation's instructions
                    results.insert(at, SAID[role])
            reply = self.send(talk, turn, results, end if many is None else calls(number, many))

    # -- what is seen ---------------------------------------------------------------------------

    def check(self, talk: Talk, before: list[Spoken], asked: list[dict[str, Any]]) -> None:
        """Every request that came since the last look."""
        fresh = self.server.requests[self.seen :]
        self.seen = len(self.server.requests)
        for request in fresh:
            if request.model == TELLER:
                continue
            assert service.objection(request, None) is None
            assert orphans(request.messages) == []
            assert sent_tokens(request) + RESERVE <= self.policy.window_tokens
            self.check_past(request, before)
            self.check_end(request, asked)
        self.check_ledger(talk)

    def check_past(self, request: testing.Request, before: list[Spoken]) -> None:
        """Each earlier turn is there once, or covered by the summary that is sent, or was never answered."""
        summary = next((m["content"] for m in request.messages if "between the marks" in str(m["content"])), "")
        found = re.search(r"\(turns? (?:1 to )?(\d+)\)", summary)
        covered = int(found[1]) if found else 0
        past = [m for m in request.messages if m["content"] != summary]
        for number, old in enumerate(before, 1):
            wanted = sendable(old)
            at = [n for n, m in enumerate(past) if m["content"] == old.messages[0]["content"] and m["role"] == "user"]
            if number <= covered and not old.pinned:
                assert at == [], f"turn {number} is covered and sent"
                rules = [m for m in wanted if m["role"] == "system"] if old.state != "failed" else []
                assert all(rule in past for rule in rules)
            elif old.state == "failed":
                assert at == [], f"turn {number} was never answered and is sent"
            else:
                assert len(at) == 1, f"turn {number} is sent {len(at)} times"
                assert past[at[0] : at[0] + len(wanted)] == wanted, f"turn {number} is not as it was said"

    def check_end(self, request: testing.Request, asked: list[dict[str, Any]]) -> None:
        """The current turn stands at the end, whole; its results directly behind their calls."""
        texts = [m["content"] for m in in_pairs(asked)]
        assert [m["content"] for m in request.messages[-len(texts) :]] == texts
        assert request.messages[0] == {"role": "system", "content": "Be brief."}

    def check_ledger(self, talk: Talk) -> None:
        """What the head covers are turns that a summary model was shown, or an extract was made of."""
        conversation = talk.chat.conversation
        summary = conversation.summary() if conversation.exists else None
        last = summary.last_seq if summary else 0
        listed, by_model = set(), True
        while summary is not None:
            listed |= set(summary.turns)
            by_model = by_model and summary.model != "extract"
            summary = summary.previous
        answered = {n for n, t in enumerate(talk.turns[:last], 1) if t.state != "failed"}
        assert listed == answered
        if by_model:
            assert {talk.turns[n - 1].tag for n in answered} <= self.shown

    def check_all(self) -> None:
        """The store's own proof, every past request, and the file opened again."""
        store = self.talks[0].chat.store
        verdict = store.verify()
        assert verdict, verdict
        for talk in self.talks:
            conversation = talk.chat.conversation
            if not conversation.exists:
                continue
            assert len(conversation) == len(talk.turns)
            frame = conversation.turns()
            assert list(frame["state"].astype(str)) == [t.state for t in talk.turns]
            asked = set(conversation.calls()["turn_id"].dropna())
            for number, turn_id in enumerate(frame["turn_id"], 1):
                if turn_id in asked:
                    assert conversation.explain(number).exact, f"turn {number}"
        for talk in self.talks:
            if talk.chat.conversation.exists:
                again = voxnb.ContextStore(self.path, read_only=True)
                assert (
                    again[talk.chat.conversation.id].plan("Next?").messages
                    == talk.chat.conversation.plan("Next?").messages
                )
                again.close()


def sendable(turn: Spoken) -> list[dict[str, Any]]:
    """A past turn as it must be sent: calls without results taken out, a cut reply marked."""
    answered = {m["tool_call_id"] for m in turn.messages if m["role"] == "tool"}
    out = []
    for message in copy.deepcopy(turn.messages):
        if message.get("tool_calls"):
            message["tool_calls"] = [c for c in message["tool_calls"] if c["id"] in answered]
            if not message["tool_calls"]:
                del message["tool_calls"]
                if not message["content"]:
                    continue
        out.append(message)
    if turn.state == "partial" and out[-1]["role"] == "assistant" and out[-1]["content"]:
        out[-1]["content"] += CUT
    return in_pairs(out)


def in_pairs(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with every result directly behind the message that called; a turn's ids differ."""
    left = [m for m in messages if m["role"] == "tool"]
    out = []
    for message in messages:
        if message["role"] != "tool":
            called = {call["id"] for call in message.get("tool_calls") or ()}
            out += [message, *(m for m in left if m["tool_call_id"] in called)]
    assert len(out) == len(messages)
    return out


SAID = {
    "u": {"role": "user", "content": "Are you there?"},
    "s": {"role": "system", "content": "Mind the step."},
    "a": {"role": "assistant", "content": "One moment."},
}


def mingled(shape: str) -> list[dict[str, Any]]:
    """Messages by a shape: ``1`` calls one, ``2`` calls two at once, ``r`` is the oldest result left, ``R`` the newest.

    What is left at the end comes then. The other letters are those of `SAID`.
    """
    out, waiting, made = [], [], itertools.count()
    for letter in shape:
        if letter in "12":
            ids = [f"m{next(made)}" for _ in range(int(letter))]
            waiting += ids
            calls = [{"id": i, "type": "function", "function": {"name": "look", "arguments": "{}"}} for i in ids]
            out.append({"role": "assistant", "content": None, "tool_calls": calls})
        elif letter in SAID:
            if letter == "a" or waiting or not out:  # else a new turn would begin there
                out.append(SAID[letter])
        elif waiting:
            out.append(result(waiting.pop(0 if letter == "r" else -1)))
    return [*out, *map(result, waiting)]


def result(call: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": f"found {call}"}


def text(tag: int) -> str:
    return f"Answer {tag}. " + "so " * 25


HALF = Drop(after_events=6, reply="This is the beginning of an answer that will not end.")
TOOL_HALF = Drop(after_events=4, reply={"tool_calls": [{"id": "x1", "name": "look", "arguments": {"a": "b" * 40}}]})

steps = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 60)),
    st.tuples(st.just("ask"), st.integers(1, 60)),
    st.tuples(st.just("long"), st.integers(150, 420)),
    st.tuples(st.just("system"), st.integers(1, 10)),
    st.tuples(
        st.just("tools"), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.booleans(),
        st.sampled_from(["Found.", REFUSED, HALF, {"tool_calls": [{"id": "left", "name": "look", "arguments": {}}]}]),
        st.text("us", max_size=2),
    ),
    st.tuples(st.just("told"), st.text("12rRusa", min_size=2, max_size=8), st.booleans()),
    st.tuples(st.just("fault"), st.sampled_from([REFUSED, HALF, TOOL_HALF, Drop(after_bytes=0)])),
    st.tuples(st.just("pin"), st.integers(0, 30)),
    st.tuples(st.just("unpin"), st.integers(0, 30)),
    st.tuples(st.just("fork"), st.integers(0, 30)),
    st.tuples(st.just("other")),
    st.tuples(st.just("undo"), st.integers(1, 3)),
    st.tuples(st.just("retry"), st.sampled_from(["Again.", REFUSED])),
    st.tuples(st.just("fold"), st.integers(0, 30)),
    st.tuples(st.just("unfold")),
    st.tuples(st.just("teller"), st.sampled_from(["works", "fails", "empty", "long", "repeats"])),
)  # fmt: skip

policies = st.fixed_dictionaries(
    {
        "window_tokens": st.integers(420, 900),
        "fold_at_tokens": st.integers(200, 340),
        "keep_last_turns": st.integers(0, 3),
        "background": st.booleans(),
    }
)

TELLERS = {
    "works": summarise,
    "fails": REFUSED,
    "empty": "",
    "long": lambda r: summarise(r) + " And a lot more was said. They went on and on about it all." * 40,
    "repeats": "the same line\n" * 50,
}


def play(world: World, at: int, step: tuple[Any, ...]) -> int:
    """One step in the conversation at hand; which one is at hand afterwards."""
    talk, (what, *more) = world.talks[at], step
    turns, conversation = talk.turns, talk.chat.conversation
    if what in ("ask", "long"):
        world.ask(talk, more[0], text)
    elif what == "system":
        world.ask(talk, more[0], text, system=True)
    elif what == "tools":
        world.loop(talk, more[0], backwards=more[1], end=more[2], between=more[3])
    elif what == "told":
        world.told(talk, more[0], live=more[1])
    elif what == "fault":
        world.ask(talk, 5, more[0])
    elif what == "teller":
        world.teller = TELLERS[more[0]]
    elif what == "other":
        return (at + 1) % len(world.talks)
    elif not turns:
        return at
    elif what in ("pin", "unpin"):
        n = more[0] % len(turns)
        if what == "unpin" or sum(t.pinned for t in turns) < 2:
            getattr(conversation, what)(n + 1)
            turns[n].pinned = what == "pin"
    elif what == "fork" and len(world.talks) < 3:
        n = more[0] % (len(turns) + 1)
        name = f"fork-{len(world.talks)}"
        conversation.fork(n, name=name)
        world.talks.append(Talk(world.client(name), copy.deepcopy(turns[:n])))
        return len(world.talks) - 1
    elif what == "undo":
        n = min(more[0], len(turns))
        conversation.undo(n)
        del turns[-n:]
    elif what == "retry":
        retry(world, talk, more[0])
    elif what == "fold":
        with contextlib.suppress(SummaryError):
            conversation.fold(more[0] % len(turns) + 1).result(WAIT_S)
        world.check_ledger(talk)
    elif what == "unfold":
        conversation.unfold()
        world.check_ledger(talk)
    return at


def retry(world: World, talk: Talk, answer: Any) -> None:
    """The last turn again, without its last answer."""
    old = talk.turns.pop()
    said = copy.deepcopy(old.messages)
    while said[-1]["role"] == "assistant":
        said.pop()
    world.answers = [answer]
    turn = Spoken(old.tag, list(said))
    before = list(talk.turns)
    talk.turns.append(turn)
    try:
        reply = talk.chat.conversation.retry().result(WAIT_S)
    except (APIError, ContextOverflowError):
        turn.state = "partial" if any(m["role"] == "assistant" for m in said) else "failed"
    else:
        turn.messages.append({"role": "assistant", "content": reply.text})
    world.check(talk, before, said)
    talk.chat.idle().result(WAIT_S)


@settings(max_examples=25)
@given(policies, st.lists(steps, min_size=4, max_size=22))
@example(
    {"window_tokens": 500, "fold_at_tokens": 240, "keep_last_turns": 1, "background": True},
    [("ask", 40)] * 6 + [("fork", 4), ("ask", 30), ("other",), ("undo", 3), ("ask", 60), ("unfold",), ("long", 300)],
)
@example(
    {"window_tokens": 700, "fold_at_tokens": 300, "keep_last_turns": 2, "background": True},
    [("tools", [2, 1, 3], True, "Found.", "us"), ("system", 4), ("pin", 0)] * 3
    + [("teller", "fails"), ("ask", 60), ("ask", 60), ("long", 250), ("retry", "Again."), ("long", 300)],
)
@example(
    {"window_tokens": 420, "fold_at_tokens": 200, "keep_last_turns": 0, "background": False},
    [("ask", 30)] * 3 + [("system", 1), ("retry", REFUSED), ("fault", TOOL_HALF), ("ask", 60), ("ask", 60)],
)
@example(
    {"window_tokens": 900, "fold_at_tokens": 340, "keep_last_turns": 2, "background": True},
    [("told", shape, live) for shape in ("1ur", "11rr", "1ar", "1sr", "2rur", "12RurR") for live in (True, False)]
    + [("fold", 5), ("ask", 20), ("retry", "Again.")],
)
@example(
    {"window_tokens": 420, "fold_at_tokens": 200, "keep_last_turns": 1, "background": True},
    [("ask", 1), ("long", 203), ("pin", 2), ("told", "11", True), ("told", "11", True), ("ask", 20)],
)
def test_no_request_loses_repeats_or_tears_a_turn(policy, script):
    with tempfile.TemporaryDirectory() as folder:
        world = World(str(Path(folder) / "store.db"), policy)
        try:
            at = 0
            world.ask(world.talks[0], 4, text)
            for step in script:
                at = play(world, at, step)
            world.check_all()
        finally:
            world.close()


def test_a_client_of_the_store_alone_sees_the_same():
    """The examples above compare plans by a fresh store; here also tables by two stores on one file."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(str(Path(folder) / "store.db"), {"window_tokens": 500, "fold_at_tokens": 240})
        try:
            for _ in range(9):
                world.ask(world.talks[0], 40, text)
            other = voxnb.ContextStore(world.path, read_only=True)
            for table in ("conversations", "turns", "messages", "summaries", "coverage", "calls", "events"):
                mine, theirs = getattr(world.talks[0].chat.store, table)(), getattr(other, table)()
                assert mine.equals(theirs), table
            assert summary_of(world.server.requests[-1]) is not None or len(other.summaries())
            other.close()
        finally:
            world.close()


def test_verbs_on_what_is_not_there_say_so():
    with testing.server() as server, client(server) as chat:
        for verb in ("unfold", "undo", "retry"):
            try:
                getattr(chat.conversation, verb)()
            except ConversationError as error:
                assert "no turn yet" in str(error)
            else:
                raise AssertionError(verb)
