"""Stateless habits and stateful code give the same conversation; lists that contradict it are refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import voxnb
from tests.invariants.scripted import (
    MODEL,
    TELLER,
    WAIT_S,
    chats,
    client,
    everything,
    in_turn,
    scripted,
    small,
    spoken,
    talking,
)
from voxnb import testing
from voxnb.errors import APIError, HistoryConflictError, MessageError
from voxnb.messages import Message
from voxnb.store import ledger
from voxnb.store.planner import default_planner
from voxnb.testing import Drop, Status

REFUSED = Status(500, headers={"x-should-retry": "false"})
HALF = Drop(after_events=6, reply="This is the beginning of an answer that will not end.")
ROOMY = {"policy": voxnb.ContextPolicy(window_tokens=16_000)}


class Server(testing.Server):
    """Answers with the number of the request; fails where it is told to."""

    def __init__(self) -> None:
        self.faults: list[Any] = []
        self.calls = 0
        super().__init__(self.reply)

    def reply(self, request: testing.Request) -> Any:
        if request.model == TELLER:
            return "They spoke."
        if self.faults:
            return self.faults.pop(0)
        if self.calls:
            n, self.calls = self.calls, 0
            made = [{"name": "look", "arguments": {"n": k}} for k in range(n)]
            return {"content": f"I look, {request.number}." if n % 2 else None, "tool_calls": made}
        return f"Answer {request.number} to {len(request.text)} characters."


def in_parts(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


class Stateless:
    """Resends the whole list each time, the system message first; after a failure the same list again."""

    def __init__(self, chat: voxnb.ChatCompletionsAPIClient) -> None:
        self.chat = chat
        self.history: list[dict[str, Any]] = []

    def send(self, system: str | None, new: list[dict[str, Any]], *, fault: bool) -> voxnb.Reply:
        self.history += new
        leading = [{"role": "system", "content": system}] if system else []
        if fault:
            with contextlib.suppress(APIError):
                self.chat.create_chat_completions(messages=leading + self.history).result(WAIT_S)
        reply = self.chat.create_chat_completions(messages=leading + self.history).result(WAIT_S)
        self.history.append(dict(reply.message))
        return reply


class Stateful:
    """Sends what is new, a system message where it is another one; after a failure asks again.

    Half an answer is asked for again by retry(), but for the first one: a list with no answer in it is new.
    """

    def __init__(self, chat: voxnb.ChatCompletionsAPIClient) -> None:
        self.chat = chat
        self.system: str | None = None
        self.answered = False

    def send(self, system: str | None, new: list[dict[str, Any]], *, fault: bool) -> voxnb.Reply:
        leading = [{"role": "system", "content": system}] if system and system != self.system else []
        self.system = system or self.system
        state = None
        if fault:
            try:
                self.chat.create_chat_completions(messages=leading + new).result(WAIT_S)
            except APIError:
                state = self.chat.store.turns(self.chat.conversation)["state"].iloc[-1]
        again, self.answered = state == "partial" and self.answered, True
        if again:
            return self.chat.conversation.retry().result(WAIT_S)
        return self.chat.create_chat_completions(messages=leading + new).result(WAIT_S)


exchanges = st.fixed_dictionaries(
    {
        "system": st.sampled_from([None, "Be brief.", "Be kind."]),
        "user": st.text(min_size=1, max_size=20).filter(str.isprintable),
        "parts": st.booleans(),
        "rule": st.booleans(),
        "twice": st.booleans(),
        "rounds": st.lists(st.integers(1, 3), max_size=2),
        "faults": st.lists(st.sampled_from([None, None, None, REFUSED, HALF]), min_size=3, max_size=3),
    }
)


def play(habit: Any, server: Server, script: list[dict[str, Any]]) -> None:
    """The same exchanges, by whichever habit."""

    def send(new: list[dict[str, Any]], fault: Any, calls: int) -> voxnb.Reply:
        server.faults = [fault] if fault is not None else []
        server.calls = calls
        return habit.send(step["system"], new, fault=fault is not None)

    for step in script:
        user = {"role": "user", "content": step["user"]}
        new = [in_parts(user) if step["parts"] else user]
        new += [{"role": "user", "content": "and also"}] * step["twice"]
        new += [{"role": "developer", "content": "From here on in French."}] * step["rule"]
        calls = [*step["rounds"], 0]
        reply = send(new, step["faults"][0], calls[0])
        for n, many in enumerate(calls[1:], 1):
            results = [
                {"role": "tool", "tool_call_id": c["id"], "content": f"{c['function']['arguments']} found"}
                for c in reply.tool_calls
            ]
            reply = send(results, step["faults"][n], many)


def plain(**changes: Any) -> dict[str, Any]:
    none: dict[str, Any] = {"system": None, "user": "Hello", "parts": False, "rule": False, "twice": False}
    return {**none, "rounds": [], "faults": [None] * 3, **changes}


@settings(max_examples=20)
@given(st.lists(exchanges, min_size=1, max_size=6))
@example([plain(system="Be brief."), plain(user="Hello"), plain(system="Be kind.", rounds=[2, 1]), plain()])
@example([plain(), plain(rounds=[2], faults=[None, REFUSED, None]), plain(faults=[HALF, None, None]), plain(rule=True)])
@example([plain(faults=[REFUSED, None, None]), plain(faults=[REFUSED, None, None], parts=True), plain(twice=True)])
def test_resending_the_list_and_sending_what_is_new_store_the_same(script):
    said, sent, instructions = [], [], []
    for habit in (Stateless, Stateful):
        server = Server()
        with server, client(server, max_retries=0, **ROOMY) as chat:
            play(habit(chat), server, script)
            said.append((spoken(chat.store, chat.conversation), list(chat.conversation.turns()["state"].astype(str))))
            sent.append([r.messages for r in chats(server)])
            instructions.append(chat.conversation.plan().messages[:1])
            assert chat.store.verify()
    assert said[0] == said[1]
    assert sent[0] == sent[1]
    assert instructions[0] == instructions[1]


def test_it_is_the_same_when_it_is_folded():
    script = [plain(user=f"This is question {n}, " + "please " * 12, rounds=[n % 3] * (n % 3 > 0)) for n in range(14)]
    said = []
    for habit in (Stateless, Stateful):
        server = Server()
        with server, client(server) as chat:
            play(habit(chat), server, script)
            chat.idle().result(WAIT_S)
            said.append(spoken(chat.store, chat.conversation))
            assert len(chat.store.summaries()) > 0
            assert chat.store.verify()
    shapes = [[[(role, len(text)) for role, text, _ in turn] for turn in habit] for habit in said]
    assert shapes[0] == shapes[1]


def told(chat, *texts):
    """A stored conversation, and the list that a stateless program would hold."""
    history = []
    for text in texts:
        history.append({"role": "user", "content": text})
        history.append(dict(chat.ask(text).result(WAIT_S).message))
    return history


def test_recognised_messages_are_told_once():
    with talking(scripted("Well.")) as (_, chat):
        history = told(chat, "One", "Two")
        first = chat.create_chat_completions(messages=[*history, {"role": "user", "content": "Three"}]).result(WAIT_S)
        history += [{"role": "user", "content": "Three"}, dict(first.message), {"role": "user", "content": "Four"}]
        second = chat.create_chat_completions(messages=history).result(WAIT_S)
        assert len(chat.conversation) == 4
    assert [w for w in first.warnings if "stored already" in w] == [
        "4 of the messages were stored already and were not added again; with storeContext send only what is new"
    ]
    assert second.warnings == ()


CONTRADICTIONS = {
    "another question": lambda h: h[2].update(content="Too"),
    "another answer": lambda h: h[1].update(content="Ill."),
    "an answer left out": lambda h: h.pop(3),
    "a turn left out": lambda h: [h.pop(2), h.pop(2)],
    "an earlier point": lambda h: [h.pop(), h.pop()],
    "a rule in between": lambda h: h.insert(2, {"role": "system", "content": "x"}),
}


@pytest.mark.parametrize("change", CONTRADICTIONS)
def test_a_list_that_contradicts_what_is_stored_is_refused_and_fork_is_named(change):
    with talking(scripted("Well.")) as (server, chat):
        history = told(chat, "One", "Two", "Three")
        CONTRADICTIONS[change](history)
        before, asked = everything(chat.store), len(server.requests)
        with pytest.raises(HistoryConflictError, match=r"fork\(at=\d+, name=") as caught:
            chat.create_chat_completions(messages=[*history, {"role": "user", "content": "New"}]).result(WAIT_S)
        assert everything(chat.store) == before
        assert len(server.requests) == asked
        assert 0 < caught.value.index <= 5
        assert chat.ask("Four").result(WAIT_S).text == "Well."
        assert len(chat.conversation) == 4


def test_the_fork_that_the_error_names_takes_the_list():
    with talking(scripted("Well.")) as (server, chat):
        history = told(chat, "One", "Two", "Three")[:2]
        with pytest.raises(HistoryConflictError, match=r"fork\(at=1, "):
            chat.create_chat_completions(messages=[*history, {"role": "user", "content": "Other"}]).result(WAIT_S)
        chat.conversation.fork(at=1, name="other")
        with client(server, store=chat.store, conversation="other") as other:
            other.create_chat_completions(messages=[*history, {"role": "user", "content": "Other"}]).result(WAIT_S)
            assert [turn[0][1] for turn in spoken(chat.store, "other")] == ["One", "Other"]
        assert chats(server)[-1].messages == [*plain_of(history), {"role": "user", "content": "Other"}]


def plain_of(history):
    return [{"role": m["role"], "content": m["content"]} for m in history]


def test_a_list_with_nothing_new_is_refused():
    with talking(scripted("Well.")) as (server, chat):
        history = told(chat, "One", "Two")
        with pytest.raises(MessageError, match="nothing that is not stored already"):
            chat.create_chat_completions(messages=history).result(WAIT_S)
        assert len(chats(server)) == 2


def test_a_whole_conversation_is_taken_over_from_elsewhere():
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "found"},
        {"role": "assistant", "content": "Found."},
        {"role": "user", "content": "Two"},
        {"role": "assistant", "content": "Well."},
        {"role": "user", "content": "Three"},
    ]  # fmt: skip
    with talking(scripted("Indeed.")) as (server, chat):
        chat.create_chat_completions(messages=history).result(WAIT_S)
        assert chats(server)[0].messages == history
        assert [len(turn) for turn in spoken(chat.store, chat.conversation)] == [4, 2, 2]
        history += [{"role": "assistant", "content": "Indeed."}, {"role": "user", "content": "Four"}]
        chat.create_chat_completions(messages=history).result(WAIT_S)
        assert chats(server)[1].messages == history
        assert len(chat.conversation) == 4
        assert chat.store.verify()


def test_instructions_are_versions():
    """Equal ones change nothing, others replace them from then on, none means the last ones."""
    with talking(scripted("Well."), instructions="First.") as (server, chat):

        def said(*system):
            messages = [*({"role": "system", "content": s} for s in system), {"role": "user", "content": "Hi"}]
            chat.create_chat_completions(messages=messages).result(WAIT_S)
            return [m["content"] for m in chats(server)[-1].messages if m["role"] == "system"]

        assert said() == ["First."]
        assert said("First.") == ["First."]
        assert said("Second.", "Third.") == ["Second.", "Third."]
        assert said() == ["Second.", "Third."]
        assert chat.conversation.explain(2).messages[0]["content"] == "First."
        assert chat.conversation.explain(1).exact
        assert chat.conversation.plan("x").messages[0]["content"] == "Second."
        with client(server, store=chat.store, conversation=chat.conversation.id) as again:
            again.ask("Hi").result(WAIT_S)
            assert chats(server)[-1].messages[1]["content"] == "Third."
        with client(server, store=chat.store, conversation=chat.conversation.id, instructions="Fourth.") as again:
            planned = again.conversation.plan("Hi").messages
            again.ask("Hi").result(WAIT_S)
            assert chats(server)[-1].messages == planned
            assert planned[0]["content"] == "Fourth."
        assert said() == ["Fourth."]


def first_of(request):
    return request.messages[0]["content"]


def test_each_client_says_its_own_instructions_once_whichever_was_made_first():
    """Two that were made before anything was said, and ask in turn: each with its first request, none a second time."""
    with talking(scripted("Well."), conversation="iris", instructions="First.") as (server, chat):
        with client(server, store=chat.store, conversation="iris", instructions="Second.") as other:
            for who in (chat, other, chat, other):
                who.ask("Hi").result(WAIT_S)
        assert [first_of(r) for r in chats(server)] == ["First.", "Second.", "Second.", "Second."]
        assert chat.conversation.explain(1).messages[0]["content"] == "First."
        assert chat.store.verify()


def test_a_request_goes_with_its_own_instructions_where_others_are_given_while_it_waits(monkeypatch):
    """Between its beginning and its plan the server is asked for its window; another process speaks meanwhile."""
    more = {"policy": None, "conversation": "iris", "instructions": "First."}
    with talking(scripted("Well."), **more) as (server, chat):
        ask_server = chat.knowledge.discover

        async def discover(model):
            if (row := chat.conversation.row()).last_seq == 1:
                said = default_planner(MODEL).measure(Message.from_dict({"role": "system", "content": "Second."}))
                await chat.write(lambda c: ledger.set_instructions(c, row, [said]))
            await ask_server(model)

        monkeypatch.setattr(chat.knowledge, "discover", discover)
        for _ in range(2):
            chat.ask("Hi").result(WAIT_S)
        assert [first_of(r) for r in chats(server)] == ["First.", "Second."]
        assert chat.store.verify()


def test_instructions_of_a_request_that_never_went_out_are_not_the_conversation_s():
    """One that is too long, in the middle of a conversation or at its beginning, is as if it had not been said."""
    with talking(scripted("Well."), instructions="First.") as (server, chat):
        too_long = [{"role": "system", "content": "s " * 3_000}, {"role": "user", "content": "Hi"}]
        for _ in range(2):
            with pytest.raises(voxnb.errors.ContextOverflowError):
                chat.create_chat_completions(messages=too_long).result(WAIT_S)
            assert chat.conversation.plan("Hi").messages[0] == {"role": "system", "content": "First."}
            chat.ask("Hi").result(WAIT_S)
            assert chats(server)[-1].messages[0] == {"role": "system", "content": "First."}
        with client(server, store=chat.store, conversation=chat.conversation.id) as again:
            again.ask("Hi").result(WAIT_S)
        assert chats(server)[-1].messages[0] == {"role": "system", "content": "First."}
        assert [r.messages[0]["content"] for r in chats(server)] == ["First."] * 3
        assert chat.store.verify()


def test_instructions_of_a_request_that_went_out_and_failed_are_the_conversation_s():
    with talking(scripted(in_turn(testing.Status(400), "Well."))) as (server, chat):
        said = [{"role": "system", "content": "First."}, {"role": "user", "content": "Hi"}]
        with pytest.raises(voxnb.errors.BadRequestError):
            chat.create_chat_completions(messages=said).result(WAIT_S)
        chat.ask("Hi").result(WAIT_S)
    assert chats(server)[-1].messages[0] == {"role": "system", "content": "First."}


def test_without_a_memory_messages_go_as_they_are():
    with testing.server("Well.") as server:
        quiet = {"base_url": server.base_url, "api_key": server.api_key, "model": MODEL}
        messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
        with voxnb.ChatCompletionsAPIClient(quiet) as bare:
            bare.create_chat_completions(messages=messages).result(WAIT_S)
            bare.create_chat_completions({"messages": messages}).result(WAIT_S)
    assert [r.messages for r in server.requests] == [messages, messages]


def test_a_resent_list_costs_no_second_budget():
    """The list is longer than the window; what is sent is not."""
    with talking(policy=small()) as (server, chat):
        habit = Stateless(chat)
        for n in range(20):
            habit.send("Be brief.", [{"role": "user", "content": f"#{n} " + "please " * 20}], fault=False)
            chat.idle().result(WAIT_S)
        assert chat.store.verify()
        assert len(chat.conversation) == 20
    assert len(habit.history) == 40
    assert len(chats(server)[-1].messages) < 20
