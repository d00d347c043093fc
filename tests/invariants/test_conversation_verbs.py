"""The verbs of a conversation: what they show is what was sent, what they change is a pointer, and nothing goes."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

import voxnb
from tests.invariants.scripted import (
    TELLER,
    WAIT_S,
    Held,
    answer,
    chats,
    client,
    everything,
    folds,
    in_turn,
    say,
    scripted,
    sent_tokens,
    shown,
    small,
    spoken,
    summarise,
    summary_of,
    talking,
    told,
)
from voxnb import errors, testing
from voxnb.testing import Drop, Status

REFUSED = Status(500, headers={"x-should-retry": "false"})
CALLS = {"tool_calls": [{"id": "a", "name": "look", "arguments": {}}, {"id": "b", "name": "look", "arguments": {}}]}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def results(reply, *texts):
    return [
        {"role": "tool", "tool_call_id": call["id"], "content": text}
        for call, text in zip(reply.tool_calls, texts, strict=True)
    ]


def tags_of(store, conversation):
    return [min(told(turn[0][1]), default=None) for turn in spoken(store, conversation)]


# -- plan and explain -------------------------------------------------------------------------


def test_what_is_planned_is_what_is_sent():
    with talking(instructions="Be brief.") as (server, chat):
        for tag in range(1, 16):
            text = f"Tell me of #{tag}, " + "please " * 12
            plan = chat.conversation.plan(text)
            reply = chat.ask(text).result(WAIT_S)
            sent = chats(server)[-1]
            assert plan.messages == sent.messages
            assert plan.total_tokens == sum(plan.tokens.values()) == sent_tokens(sent) == reply.usage.prompt_tokens
            assert reply.plan.messages == plan.messages
            chat.idle().result(WAIT_S)
        assert chat.conversation.summary() is not None
        kinds = list(chat.conversation.plan("x").df["kind"])
        assert kinds[:2] == ["instructions", "summary"]
        assert kinds[-1] == "current"


def test_a_tool_result_is_planned_into_its_turn():
    with talking(scripted(in_turn("Well.", CALLS, "Done.", "And so.", "On."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        reply = chat.ask("Two").result(WAIT_S)
        messages = results(reply, "x", "y")
        plan = chat.conversation.plan(messages)
        chat.create_chat_completions(messages=messages).result(WAIT_S)
        assert plan.messages == chats(server)[-1].messages
        assert [i.seq for i in plan.layout.items if i.kind == "current"] == [2, 2, 2, 2]
        with pytest.raises(errors.MessageError, match="no call waits"):
            chat.conversation.plan(messages)
        history = [dict(m) for m in chats(server)[-1].messages] + [{"role": "assistant", "content": "Done."}]
        history += [{"role": "user", "content": "Three"}]
        plan = chat.conversation.plan(history)
        chat.create_chat_completions(messages=history).result(WAIT_S)
        assert plan.messages == chats(server)[-1].messages == history


def test_a_plan_of_nothing_new_shows_what_is_there():
    with talking(instructions="Be brief.") as (_, chat):
        assert [m["content"] for m in chat.conversation.plan().messages] == ["Be brief."]
        assert [m["role"] for m in chat.conversation.plan("Hello").messages] == ["system", "user"]
        say(chat, 1)
        assert [m["role"] for m in chat.conversation.plan().messages] == ["system", "user", "assistant"]
        assert "next request" in repr(chat.conversation.plan())
        assert len(chat.conversation) == 1


def test_every_past_request_is_rebuilt_whatever_happened_since():
    """Folds, an unfold, an undo, a fork, pins, new instructions, a tool loop, a failed turn, a cut one, a retry."""
    script = in_turn(
        *[answer] * 4, CALLS, answer, REFUSED, Drop(after_events=6, reply="One two three four five."), *[answer] * 40
    )
    with talking(scripted(script), instructions="Be brief.", max_retries=0) as (server, chat):
        sent: dict[str, Any] = {}

        def asked(turn):
            try:
                turn.result(WAIT_S)
            except errors.APIError:
                pass
            sent[turn.id] = chats(server)[-1].messages
            chat.idle().result(WAIT_S)
            return turn

        def ask(tag, **request):
            return asked(chat.ask(f"Tell me of #{tag}, " + "please " * 12, **request))

        for tag in range(1, 5):
            ask(tag)
        chat.conversation.pin(2)
        reply = ask(5, tools=TOOLS, temperature=0.5).result(WAIT_S)
        asked(chat.create_chat_completions(messages=results(reply, "x", "y"), tools=TOOLS))
        ask(6)
        ask(7)
        system = {"role": "system", "content": "Be kind."}
        rule = {"role": "developer", "content": "In French."}
        asked(chat.create_chat_completions(messages=[system, {"role": "user", "content": "And #8."}, rule]))
        for tag in range(9, 14):
            ask(tag)
        chat.conversation.unfold()
        ask(14)
        asked(chat.conversation.retry())
        chat.conversation.unpin(2)
        chat.conversation.undo(3)
        ask(15)
        fork = chat.conversation.fork(4, name="fork")
        with client(server, store=chat.store, conversation="fork", instructions="Be odd.") as other:
            for tag in range(20, 26):
                asked(other.ask(f"Tell me of #{tag}, " + "please " * 12))
                other.idle().result(WAIT_S)
        for tag in range(16, 22):
            ask(tag)
        chat.conversation.fold(-2).result(WAIT_S)

        seen = 0
        for conversation in (chat.conversation, fork):
            for number in range(1, len(conversation) + 1):
                turn_id = conversation.turns()["turn_id"].iloc[number - 1]
                plan = conversation.explain(number)
                assert plan.exact, f"{conversation.name} {number}"
                assert plan.messages == sent[turn_id], f"{conversation.name} {number}"
                seen += 1
        assert seen == len(chat.conversation) + len(fork) > 20
        with_tools = chat.conversation.explain(5)
        assert with_tools.request["tools"] == TOOLS
        verdict = chat.store.verify()
        assert verdict, verdict
        assert verdict.requests >= 28


def test_a_plan_that_no_longer_holds_says_so(tmp_path):
    with talking(store=str(tmp_path / "store.db")) as (_, chat):
        say(chat, 1, 2, 3)
        chat.store.database.write(lambda c: c.execute("UPDATE message SET text = 'forged' WHERE id = 1")).result()
        assert chat.conversation.explain(3).exact is False
        assert "NOT the request" in repr(chat.conversation.explain(3))
        verdict = chat.store.verify()
        assert not verdict
        assert any("message 0 is not what was stored" in p for p in verdict.problems)
        assert sum("does not give the request" in p for p in verdict.problems) == 3


def test_a_summary_shows_what_it_was_made_of():
    with talking() as (server, chat):
        say(chat, *range(1, 12))
        for n, request in enumerate(folds(server)):
            summary = chat.conversation.summary(n)
            plan = chat.conversation.explain(summary)
            assert [without_marks(m) for m in plan.messages] == [without_marks(m) for m in request.messages]
            assert set(summary.turns) == told(shown(request).split("### Messages to summarize")[1])


def without_marks(message):
    return {**message, "content": re.sub(r"\[/?\w{8}\]", "[]", message["content"])}


def test_an_appended_turn_has_no_request_to_explain():
    with talking() as (_, chat):
        talk = chat.store.append("old", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        with pytest.raises(errors.ConversationError, match="was not asked of a model here"):
            talk.explain(1)


# -- naming turns -----------------------------------------------------------------------------


def test_a_turn_has_many_names():
    with talking("Well.") as (_, chat):
        turns = [chat.ask(text) for text in ("One", "Two", "Three")]
        replies = [turn.result(WAIT_S) for turn in turns]
        frame = chat.conversation.turns()
        names = [2, -2, turns[1], replies[1], turns[1].id, frame["seq"].iloc[1], frame["turn_id"].iloc[1]]
        assert [chat.conversation.number_of(name) for name in names] == [2] * len(names)
        assert chat.conversation.explain(replies[1]).seq == 2


@pytest.mark.parametrize("name", ["number", "negative", "id", "turn", "reply"])
def test_fold_and_fork_and_pin_take_any_name(name):
    with talking() as (_, chat):
        turns = [chat.ask(f"Tell me of #{tag}, " + "please " * 8) for tag in range(1, 6)]
        replies = [turn.result(WAIT_S) for turn in turns]
        named = {"number": 3, "negative": -3, "id": turns[2].id, "turn": turns[2], "reply": replies[2]}[name]
        chat.conversation.pin(named)
        assert len(chat.conversation.fork(named, name="f")) == 3
        assert chat.conversation.fold(named).result(WAIT_S).turns == [1, 2, 3]
        assert chat.conversation.unpin(named) is True
        assert chat.conversation.unpin(named) is False
        assert chat.store.verify()


def test_an_undone_turn_is_no_longer_named():
    with talking("Well.") as (_, chat):
        turns = [chat.ask(text) for text in ("One", "Two")]
        voxnb.gather(turns)
        chat.conversation.undo()
        with pytest.raises(errors.ConversationError, match="not on the current path"):
            chat.conversation.pin(turns[1])


@pytest.mark.parametrize("verb", ["explain", "receipt", "undo", "unfold", "fork", "pin", "unpin", "rename", "delete"])
def test_a_verb_before_the_first_turn_says_that_there_is_none(verb):
    arguments = {"pin": [1], "unpin": [1], "rename": ["lilies"]}.get(verb, [])
    with (
        talking(conversation="iris") as (_, chat),
        pytest.raises(errors.UnknownConversationError, match="'iris' has no turn yet"),
    ):
        getattr(chat.conversation, verb)(*arguments)


# -- fold and unfold --------------------------------------------------------------------------


def test_fold_without_a_number_keeps_the_newest_turns():
    with talking(policy=small(keep_last_turns=2, window_tokens=4_000, fold_at_tokens=3_000)) as (_, chat):
        say(chat, *range(1, 8))
        summary = chat.conversation.fold().result(WAIT_S)
        assert summary.turns == [1, 2, 3, 4, 5]
        assert summary.reason == "asked for"
        assert chat.conversation.fold().result(WAIT_S) is None
        assert [chat.conversation.summary(n).round for n in (-1, 0)] == [1, 1]


def test_unfold_sends_the_turns_again_and_keeps_the_summary():
    with talking(policy=small(window_tokens=4_000, fold_at_tokens=3_000)) as (server, chat):
        say(chat, *range(1, 9))
        before = chat.conversation.plan("x").messages
        first = chat.conversation.fold(3).result(WAIT_S)
        middle = chat.conversation.plan("x").messages
        second = chat.conversation.fold(5).result(WAIT_S)
        assert second.turns == [4, 5]
        assert second.previous.id == first.id
        assert "-They spoke of #1..#3." in second.diff()
        taken = chat.conversation.unfold()
        assert taken.id == second.id
        assert chat.conversation.plan("x").messages == middle
        assert chat.conversation.unfold().id == first.id
        assert chat.conversation.plan("x").messages == before
        assert chat.conversation.unfold() is None
        assert len(chat.store.summaries()) == 2
        third = chat.conversation.fold(4).result(WAIT_S)
        assert (third.round, third.turns) == (1, [1, 2, 3, 4])
        say(chat, 9)
        assert told(summary_of(chats(server)[-1])) == {1, 2, 3, 4}
        assert chat.store.verify()


# -- undo and retry ---------------------------------------------------------------------------


def test_undo_moves_a_pointer():
    with talking() as (server, chat):
        say(chat, *range(1, 10))
        folded = chat.conversation.summary().last_seq
        said = everything(chat.store)
        assert chat.conversation.undo(9 - folded + 1) is chat.conversation
        after = everything(chat.store)
        for table in ("turn", "message", "summary", "coverage", "call"):
            assert after[table] == said[table], table
        assert len(chat.conversation) == folded - 1
        summary = chat.conversation.summary()
        assert summary is None or summary.last_seq < folded
        say(chat, 30)
        assert tags_of(chat.store, chat.conversation) == [*range(1, folded), 30]
        assert chats(server)[-1].messages[-1]["content"].startswith("Tell me of #30")
        assert chat.store.verify()


def test_a_turn_that_is_undone_while_it_waits_for_room_is_not_asked_with_what_came_instead():
    slowly = Held(summarise)
    with talking(scripted(fold=slowly)) as (server, chat):
        tag = 0
        while not slowly.asked.is_set():
            tag += 1
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
        asked = len(chats(server))
        turn = chat.ask("And of #99, " + "please " * 500)
        while len(chat.conversation) == tag:
            assert turn.state in ("queued", "running")
        chat.conversation.undo()
        chat.store.append(chat.conversation.id, [{"role": "user", "content": "Of #100."}])
        slowly.release.set()
        with pytest.raises(errors.TurnError, match=rf"turn {tag + 1} of .* was taken back"):
            turn.result(WAIT_S)
        assert len(chats(server)) == asked
        assert len(chat.store.search("#99")) == 1
        assert chat.ask("On.").result(WAIT_S).finish_reason == "stop"
        assert chat.store.verify()


def test_a_turn_that_is_undone_while_its_tools_run_goes_no_further():
    def look() -> str:
        chat.conversation.undo(2)
        chat.store.append(chat.conversation.id, [{"role": "user", "content": "Another"}])
        return "seen"

    with talking(scripted(in_turn("Well.", {"tool_calls": [{"name": "look"}]}, "Done."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.TurnError, match=r"turn 2 of .* was taken back"):
            chat.ask("Two", tools=[look], run_tools=True).result(WAIT_S)
        assert len(chats(server)) == 2
        assert chat.store.verify()


def test_undo_of_everything_begins_again():
    with talking(instructions="Be brief.") as (server, chat):
        say(chat, 1, 2, 3)
        chat.conversation.undo(3)
        assert len(chat.conversation) == 0
        say(chat, 4)
        assert [m["role"] for m in chats(server)[-1].messages] == ["system", "user"]
        assert tags_of(chat.store, chat.conversation) == [4]
        assert chat.store.verify()


def test_retry_of_a_failed_turn():
    with talking(scripted(in_turn("Well.", REFUSED, "At last."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.InternalServerError):
            chat.ask("Two", temperature=0.5, tools=TOOLS).result(WAIT_S)
        assert chat.conversation.retry().result(WAIT_S).text == "At last."
        assert chats(server)[-1].json == chats(server)[-2].json, "the same request, its parameters and tools too"
        assert list(chat.conversation.turns()["state"].astype(str)) == ["complete", "complete"]
        assert list(chat.store.turns()["state"].astype(str)) == ["complete", "failed", "complete"]
        assert chat.store.verify()


def test_retry_of_a_complete_turn_keeps_both_answers():
    with talking(scripted(in_turn("Well.", "First.", "Second."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        turn = chat.ask("Two")
        turn.result(WAIT_S)
        again = chat.conversation.retry()
        assert again.result(WAIT_S).text == "Second."
        assert (again.number, again.id == turn.id) == (2, False)
        assert chats(server)[-1].messages == chats(server)[-2].messages
        assert [t[-1][1] for t in spoken(chat.store, chat.conversation)] == ["Well.", "Second."]
        assert [t for (t,) in chat.store.database.read("SELECT text FROM message WHERE role = 'assistant'")] == [
            "Well.",
            "First.",
            "Second.",
        ]
        assert chat.store.verify()


def test_retry_of_a_tool_loop_asks_from_its_results():
    with talking(scripted(in_turn("Well.", CALLS, "First.", "Second."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        reply = chat.ask("Two", tools=TOOLS).result(WAIT_S)
        chat.create_chat_completions(messages=results(reply, "x", "y"), tools=TOOLS).result(WAIT_S)
        assert chat.conversation.retry().result(WAIT_S).text == "Second."
        assert chats(server)[-1].json == chats(server)[-2].json
        assert [len(t) for t in spoken(chat.store, chat.conversation)] == [2, 5]
        assert chat.store.verify()


def test_retry_of_a_turn_that_waits_for_results_asks_from_its_question():
    with talking(scripted(in_turn("Well.", CALLS, "No tools."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        chat.ask("Two", tools=TOOLS).result(WAIT_S)
        assert chat.conversation.retry().result(WAIT_S).text == "No tools."
        assert [m["content"] for m in chats(server)[-1].messages] == ["One", "Well.", "Two"]


def test_retry_of_half_an_answer():
    half = Drop(after_events=4, reply="One two three four.")
    with talking(scripted(in_turn("Well.", half, "Whole."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.StreamBrokenError):
            chat.ask("Two").result(WAIT_S)
        assert chat.conversation.retry().result(WAIT_S).text == "Whole."
        assert [m["content"] for m in chats(server)[-1].messages] == ["One", "Well.", "Two"]


def test_retry_keeps_a_rule_where_it_was_said():
    """A system message at the front of the turn is not taken for new instructions."""
    with talking(scripted("Well."), instructions="Be brief.") as (server, chat):
        history = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Hm."}]
        history += [{"role": "system", "content": "In French."}, {"role": "user", "content": "Two"}]
        chat.create_chat_completions(messages=history).result(WAIT_S)
        chat.conversation.retry().result(WAIT_S)
        assert chats(server)[-1].messages == [{"role": "system", "content": "Be brief."}, *history]
        assert chats(server)[-1].messages == chats(server)[-2].messages
        assert len(chat.conversation) == 2


def test_retry_that_fails_too_loses_nothing():
    with talking(scripted(in_turn("Well.", "First.", REFUSED, "Second."))) as (_, chat):
        chat.ask("One").result(WAIT_S)
        chat.ask("Two").result(WAIT_S)
        with pytest.raises(errors.InternalServerError):
            chat.conversation.retry().result(WAIT_S)
        assert chat.conversation.retry().result(WAIT_S).text == "Second."
        assert len(chat.conversation) == 2
        assert len(chat.store.turns()) == 4
        assert chat.store.verify()


def test_retry_waits_its_turn():
    began, release = threading.Event(), threading.Event()

    def slowly(request):
        began.set()
        release.wait(WAIT_S)
        return "First."

    with talking(scripted(in_turn("Well.", slowly, "Second."))) as (_, chat):
        chat.ask("One").result(WAIT_S)
        running = chat.ask("Two")
        assert began.wait(WAIT_S)
        again = chat.conversation.retry()
        assert again.state == "queued"
        release.set()
        assert [r.text for r in voxnb.gather([running, again])] == ["First.", "Second."]
        assert [t[-1][1] for t in spoken(chat.store, chat.conversation)] == ["Well.", "Second."]
        assert chat.store.verify()


def test_retry_of_a_turn_that_is_no_longer_last_is_refused():
    began, release = threading.Event(), threading.Event()

    def reply(request):
        if request.text == "Two":
            began.set()
            release.wait(WAIT_S)
        return "Well."

    with talking(scripted(reply)) as (_, chat):
        chat.ask("One").result(WAIT_S)
        two = chat.ask("Two")
        assert began.wait(WAIT_S)
        three, again = chat.ask("Three"), chat.conversation.retry()
        release.set()
        voxnb.gather([two, three])
        with pytest.raises(errors.ConversationError, match="no longer the last"):
            again.result(WAIT_S)
        assert len(chat.conversation) == 3
        assert chat.store.verify()


# -- fork -------------------------------------------------------------------------------------


def test_a_fork_shares_turns_and_summaries_and_then_goes_its_own_way():
    with talking() as (server, chat):
        say(chat, *range(1, 13))
        made = len(folds(server))
        calls_before = len(server.requests)
        fork = chat.conversation.fork(10, name="other")
        assert len(server.requests) == calls_before
        summary = fork.summary()
        assert summary.last_seq <= 10
        assert summary.id in set(chat.store.summaries(chat.conversation)["summary_id"])
        with client(server, store=chat.store, conversation="other") as other:
            say(other, 31)
            assert told(summary_of(chats(server)[-1])) == set(range(1, summary.last_seq + 1))
            say(chat, 13)
            say(other, *range(32, 40))
            say(chat, *range(14, 20))
            other.conversation.pin(2)
            other.conversation.undo(2)
        assert tags_of(chat.store, chat.conversation) == list(range(1, 20))
        assert tags_of(chat.store, "other") == [*range(1, 11), *range(31, 38)]
        assert len(folds(server)) > made + 2
        assert not chat.conversation.turns()["pinned"].any()
        assert fork.turns()["pinned"].sum() == 1
        assert not set(range(31, 40)) & told(chat.conversation.summary().text)
        assert not set(range(11, 20)) & told(fork.summary().text)
        assert chat.store.verify()


def rows(store):
    return {table: len(found) for table, found in everything(store).items() if not table.startswith("message_fts")}


def test_a_fork_has_no_empty_name():
    with talking() as (_, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.ConversationError, match="cannot be empty"):
            chat.conversation.fork(name="")


def test_a_fork_costs_the_same_whatever_the_length():
    grown = []
    for turns in (5, 60):
        store = voxnb.ContextStore(":memory:")
        history = [{"role": role, "content": f"{role} {n}"} for n in range(turns) for role in ("user", "assistant")]
        talk = store.append("long", history)
        talk.undo(1)
        before = rows(store)
        talk.fork(name="fork")
        after = rows(store)
        grown.append({t: after[t] - before[t] for t in after if after[t] != before[t]})
    assert grown[0] == grown[1]
    assert set(grown[0]) == {"conversation", "branch", "lineage"}


def test_forks_of_forks_and_at_any_turn():
    with talking() as (server, chat):
        say(chat, *range(1, 7))
        first = chat.conversation.fork(4)
        second = first.fork(3)
        third = chat.conversation.fork(0, name="empty")
        assert [len(c) for c in (first, second, third)] == [4, 3, 0]
        assert first.name.endswith("-2")
        assert second.name.endswith("-2-2")
        with client(server, store=chat.store, conversation=second.name) as other:
            say(other, 50)
        with client(server, store=chat.store, conversation="empty") as other:
            say(other, 60)
        assert tags_of(chat.store, second) == [1, 2, 3, 50]
        assert tags_of(chat.store, third) == [60]
        assert tags_of(chat.store, first) == [1, 2, 3, 4]
        frame = chat.store.conversations().set_index("name")
        assert frame.loc[second.name, "parent_id"] == first.id
        assert frame.loc[second.name, "fork_seq"] == 3
        assert chat.store.verify()


def test_a_fork_in_the_middle_of_a_tool_loop_has_its_own_copy():
    """Both conversations may get results; neither sees the other's."""
    with talking(scripted(in_turn("Well.", CALLS, "Mine.", "Yours.", "So."))) as (server, chat):
        chat.ask("One").result(WAIT_S)
        reply = chat.ask("Two").result(WAIT_S)
        fork = chat.conversation.fork(name="other")
        chat.create_chat_completions(messages=results(reply, "mine", "mine too")).result(WAIT_S)
        assert [len(t) for t in spoken(chat.store, fork)] == [2, 2]
        with client(server, store=chat.store, conversation="other") as other:
            other.create_chat_completions(messages=results(reply, "yours", "yours too")).result(WAIT_S)
            other.ask("Three").result(WAIT_S)
        texts = [[m[1] for m in turn] for turn in spoken(chat.store, fork)]
        assert texts == [["One", "Well."], ["Two", "", "yours", "yours too", "Yours."], ["Three", "So."]]
        assert [m[1] for m in spoken(chat.store, chat.conversation)[1]] == ["Two", "", "mine", "mine too", "Mine."]
        assert chat.conversation.explain(2).exact
        assert fork.explain(2).exact
        assert chat.store.verify()


def test_going_back_into_a_tool_loop_leaves_the_old_path_as_it_was():
    with talking(scripted(in_turn("Well.", CALLS, "Never mind.", "Done."))) as (_, chat):
        chat.ask("One").result(WAIT_S)
        reply = chat.ask("Two").result(WAIT_S)
        chat.ask("Three").result(WAIT_S)
        old = chat.conversation.explain(3).messages
        chat.conversation.undo()
        chat.create_chat_completions(messages=results(reply, "x", "y")).result(WAIT_S)
        assert [len(t) for t in spoken(chat.store, chat.conversation)] == [2, 5]
        assert old[-1]["content"] == "Three"
        assert chat.store.verify()


def test_a_running_turn_is_not_forked():
    began, release = threading.Event(), threading.Event()

    def reply(request):
        began.set()
        release.wait(WAIT_S)
        return "Well."

    with talking(scripted(reply)) as (_, chat):
        turn = chat.ask("One")
        assert began.wait(WAIT_S)
        with pytest.raises(errors.ConversationError, match="still running"):
            chat.conversation.fork(name="early")
        release.set()
        turn.result(WAIT_S)
        assert "early" not in chat.store
        assert len(chat.conversation.fork(name="early")) == 1


def test_verbs_of_a_fork_with_a_client_stay_in_the_fork():
    with talking(policy=small(window_tokens=4_000, fold_at_tokens=3_000)) as (server, chat):
        say(chat, *range(1, 7))
        fork = chat.conversation.fork(5, name="other")
        with pytest.raises(errors.ConversationError, match="client="):
            fork.retry()
        assert fork.fold(3, client=chat).result(WAIT_S).turns == [1, 2, 3]
        assert chat.conversation.summary() is None
        reply = fork.retry(client=chat).result(WAIT_S)
        assert reply.text
        assert chats(server)[-1].messages[-1]["content"].startswith("Tell me of #5")
        assert (len(fork), len(chat.conversation)) == (5, 6)
        assert chat.conversation.id != fork.id
        say(chat, 7)
        assert tags_of(chat.store, chat.conversation) == list(range(1, 8))
        assert chat.store.verify()


# -- pins -------------------------------------------------------------------------------------


def test_a_pinned_turn_is_sent_verbatim_before_and_after_it_is_folded():
    with talking() as (server, chat):
        say(chat, 1, 2, 3)
        chat.conversation.pin(2)
        chat.conversation.pin(2)
        for tag in range(4, 14):
            say(chat, tag)
            texts = [m["content"] for m in chats(server)[-1].messages]
            assert sum(t.startswith("Tell me of #2,") for t in texts) == 1
            assert sum(t.startswith("Noted #2:") for t in texts) == 1
        assert chat.conversation.summary().last_seq > 2
        kinds = [(i.kind, i.seq, i.why) for i in chat.conversation.plan("x").layout.items[:2]]
        assert kinds == [("pinned", 2, "pinned turn")] * 2
        frame = chat.conversation.turns()
        assert list(frame.loc[frame["pinned"], "seq"]) == [2]
        assert chat.conversation.unpin(2)
        say(chat, 14)
        assert not [m for m in chats(server)[-1].messages if m["content"].startswith("Tell me of #2,")]
        assert chat.store.verify()


def test_pinning_what_is_folded_brings_it_back():
    with talking() as (server, chat):
        say(chat, *range(1, 12))
        assert chat.conversation.summary().last_seq >= 3
        chat.conversation.pin(3)
        say(chat, 12)
        assert [m for m in chats(server)[-1].messages if m["content"].startswith("Tell me of #3,")]
        assert all(chat.conversation.explain(n).exact for n in range(1, 13))
        assert chat.store.verify()


def test_a_pinned_half_answer_is_counted_as_it_is_sent():
    half = Drop(after_events=6, reply="One two three four five six.")
    with talking(scripted(in_turn(half, *[answer] * 30))) as (server, chat):
        with pytest.raises(errors.StreamBrokenError):
            chat.ask("Tell me of #1.").result(WAIT_S)
        chat.conversation.pin(1)
        say(chat, *range(2, 14))
        assert chat.conversation.summary().last_seq > 1
        plan = chat.conversation.plan("Next?")
        assert plan.messages[1]["content"].endswith("[the reply was cut off here]")
        chat.ask("Next?").result(WAIT_S)
        assert plan.total_tokens == sent_tokens(chats(server)[-1])
        assert chat.store.verify()


def test_a_pinned_tool_loop_stays_whole():
    with talking(scripted(in_turn(CALLS, *[answer] * 30))) as (server, chat):
        reply = chat.ask("Look at #1.").result(WAIT_S)
        chat.create_chat_completions(messages=results(reply, "x", "y")).result(WAIT_S)
        chat.conversation.pin(1)
        say(chat, *range(2, 14))
        assert chat.conversation.summary().last_seq > 1
        assert [m["role"] for m in chats(server)[-1].messages[:5]] == ["user", "assistant", "tool", "tool", "assistant"]


# -- names ------------------------------------------------------------------------------------


def test_rename_keeps_the_client_and_the_order_of_turns():
    began, release = threading.Event(), threading.Event()

    def reply(request):
        if request.text == "Two":
            began.set()
            release.wait(WAIT_S)
        return "Well."

    with talking(scripted(reply), conversation="iris") as (server, chat):
        chat.ask("One").result(WAIT_S)
        chat.conversation.rename("lilies")
        assert chat.conversation.name == "lilies"
        assert "'lilies'" in repr(chat)
        assert "iris" not in chat.store
        two = chat.ask("Two")
        assert began.wait(WAIT_S)
        with client(server, store=chat.store, conversation="lilies") as late:
            three = late.ask("Three")
            with pytest.raises(TimeoutError):
                three.result(0.1)
            assert three.state == "queued"
            release.set()
            voxnb.gather([two, three])
        assert [t[0][1] for t in spoken(chat.store, "lilies")] == ["One", "Two", "Three"]
        other = chat.store.append("roses", [{"role": "user", "content": "x"}])
        with pytest.raises(errors.ConversationError, match="taken"):
            other.rename("lilies")
        other.rename("roses")


def test_a_conversation_is_found_by_name_and_id_and_as_the_latest():
    with talking("Well.", conversation="iris") as (server, chat):
        assert repr(chat.conversation) == "<Conversation 'iris', nothing said yet>"
        assert not chat.conversation.exists
        chat.ask("One").result(WAIT_S)
        assert chat.store["iris"].id == chat.store[chat.conversation.id].id == chat.store.latest().id
        with client(server, store=chat.store, conversation=chat.conversation.id) as again:
            again.ask("Two").result(WAIT_S)
        assert len(chat.conversation) == 2
        assert list(chat.store) == ["iris"]


# -- delete -----------------------------------------------------------------------------------

SECRET = "xylophonemarmalade"


def files(path):
    return {p.name: p.read_bytes() for p in Path(path).parent.iterdir() if p.is_file()}


def test_what_is_deleted_is_in_no_file(tmp_path):
    path = tmp_path / "store.db"
    with talking(scripted(lambda r: f"I heard {SECRET}.", lambda r: f"Of {SECRET}."), store=str(path)) as (_, chat):
        chat.store.append("keep", [{"role": "user", "content": "kept words"}])
        for tag in range(1, 12):
            chat.ask(f"#{tag} {SECRET} " + "please " * 12, user=f"u-{SECRET}").result(WAIT_S)
        chat.idle().result(WAIT_S)
        assert chat.conversation.summary() is not None
        chat.store.note(chat.conversation, f"about {SECRET}")
        assert SECRET.encode() in b"".join(files(path).values())
        assert chat.conversation.delete() == [chat.conversation_name]
        assert SECRET.encode() not in b"".join(files(path).values())
        assert len(chat.store.search(SECRET)) == 0
        assert len(chat.store.search("kept")) == 1
        assert list(chat.store) == ["keep"]
        assert chat.store.verify()
        with pytest.raises(errors.UnknownConversationError):
            chat.conversation.delete()
        chat.ask("Hello again").result(WAIT_S)
        assert [len(t) for t in spoken(chat.store, chat.conversation)] == [2]
        chat.store.close()


def test_after_a_delete_the_client_begins_again_with_its_instructions():
    with talking("Well.", instructions="Be brief.") as (server, chat):
        chat.ask("One").result(WAIT_S)
        chat.conversation.delete()
        assert [m["content"] for m in chat.conversation.plan("Two").messages] == ["Be brief.", "Two"]
        chat.ask("Two").result(WAIT_S)
        assert [m["content"] for m in chats(server)[-1].messages] == ["Be brief.", "Two"]
        assert len(chat.conversation) == 1
        assert chat.store.verify()


def test_forks_are_named_before_they_are_deleted():
    with talking() as (server, chat):
        say(chat, *range(1, 6))
        first = chat.conversation.fork(3, name="first")
        first.fork(2, name="second")
        before = everything(chat.store)
        with pytest.raises(errors.ConversationError, match="'first', 'second'"):
            chat.conversation.delete()
        assert everything(chat.store) == before
        assert chat.store["second"].delete() == ["second"]
        assert set(chat.conversation.delete(forks=True)) == {chat.conversation_name, "first"}
        assert list(chat.store) == []
        assert chat.store.verify()
        left = {t: n for t, n in rows(chat.store).items() if n and not t.startswith(("sqlite_", "_sqlite", "calib"))}
        assert set(left) <= {"prompt", "schema_migrations", "meta"}, left
        say(chat, 9)
        assert len(chats(server)) == 6


def test_a_fork_that_shares_nothing_survives_with_its_summary():
    with talking() as (server, chat):
        say(chat, 1, 2)
        chat.conversation.fork(0, name="other")
        with client(server, store=chat.store, conversation="other") as other:
            say(other, *range(20, 32))
            planned = other.conversation.plan("x").messages
            assert other.conversation.summary() is not None
            chat.conversation.delete()
            assert other.conversation.plan("x").messages == planned
            say(other, 40)
            assert summary_of(chats(server)[-1]) is not None
        assert list(chat.store) == ["other"]
        assert chat.store.verify()


def test_a_fork_of_a_fork_that_no_longer_shares_is_named_too():
    with talking() as (server, chat):
        say(chat, *range(1, 5))
        middle = chat.conversation.fork(2, name="middle")
        with client(server, store=chat.store, conversation="middle") as other:
            middle.undo(2)
            say(other, 10, 11)
        middle.fork(2, name="late")
        with pytest.raises(errors.ConversationError, match=r"'middle'.*'late'"):
            chat.conversation.delete()
        assert set(chat.conversation.delete(forks=True)) == {chat.conversation_name, "middle", "late"}
        assert chat.store.verify()


def test_summaries_by_number():
    with talking() as (_, chat):
        assert chat.conversation.summary() is None
        say(chat, *range(1, 20))
        count = len(chat.store.summaries())
        chain = [chat.conversation.summary(n) for n in range(count)]
        assert [s.round for s in chain] == list(range(1, count + 1))
        assert chat.conversation.summary(-1).id == chain[-1].id
        assert [s.model for s in chain] == [TELLER] * count
        assert [s.first_seq for s in chain[1:]] == [s.last_seq + 1 for s in chain[:-1]]
        with pytest.raises(errors.ConversationError, match=f"there are {count} summaries"):
            chat.conversation.summary(count)


@pytest.mark.parametrize("number", ["x", 99, 1.5])
def test_a_summary_that_is_not_there_is_named(number):
    with talking() as (_, chat):
        say(chat, *range(1, 12))
        with pytest.raises(errors.ConversationError, match=f"none is number {number!r}"):
            chat.conversation.summary(number)


def test_the_request_of_a_summary_is_called_by_its_name():
    with talking() as (_, chat):
        say(chat, *range(1, 12))
        plan = chat.conversation.explain(chat.conversation.summary(0))
        assert repr(plan).startswith("<Plan summary 1, as its model was asked: ")
        assert "summary 1, as its model was asked" in plan._repr_html_()


def test_the_request_of_a_summary_is_rebuilt_as_it_was_sent():
    with talking() as (server, chat):
        say(chat, *range(1, 16))
        asked = folds(server)
        assert len(asked) >= 2
        for n, request in enumerate(asked):
            assert chat.conversation.explain(chat.conversation.summary(n)).messages == request.messages


@pytest.mark.parametrize("name", [5, None, b"x"])
def test_a_name_that_is_none_is_refused(name):
    with talking("Well.") as (_, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.ConversationError, match="expected a str"):
            chat.conversation.rename(name)
        with pytest.raises(errors.ConversationError, match="expected a str"):
            chat.store.append(name, [{"role": "user", "content": "Two"}])
        with pytest.raises(errors.UnknownConversationError, match="no conversation"):
            chat.store[name]


def test_what_else_a_reply_says_is_in_the_table_of_messages():
    replies = [{"refusal": "I will not."}, {"content": "Well.", "reasoning_content": "Hm, hm."}]
    with talking(scripted(in_turn(*replies))) as (_, chat):
        chat.ask("One").result(WAIT_S)
        chat.ask("Two").result(WAIT_S)
        said = chat.conversation.messages(columns=["role", "content", "refusal", "reasoning"])
        said = said[said["role"] == "assistant"]
        assert said["refusal"].to_list()[0] == "I will not."
        assert said["reasoning"].to_list()[1] == "Hm, hm."
        assert said[["refusal", "reasoning"]].isna().sum().sum() == 2


def test_a_conversation_goes_on_in_another_process_of_the_same_file(tmp_path):
    path = str(tmp_path / "store.db")
    with testing.server(scripted()) as server:
        with client(server, store=path, conversation="iris", instructions="Be brief.") as chat:
            say(chat, *range(1, 10))
            planned = chat.conversation.plan("Next").messages
            chat.store.close()
        with client(server, store=path, conversation="iris") as chat:
            assert chat.conversation.plan("Next").messages == planned
            chat.ask("Next").result(WAIT_S)
            assert chats(server)[-1].messages == planned
            assert chat.store.verify()
            chat.store.close()


def test_the_answer_of_a_conversation_that_was_deleted_meanwhile_is_on_the_error():
    gone = []

    def answer(request):
        gone.extend(held[0].conversation.delete())
        return "Too late."

    with talking(answer) as (_, chat):
        held = [chat]
        with pytest.raises(errors.UnknownConversationError, match="deleted meanwhile") as caught:
            chat.ask("Hello").result(WAIT_S)
        assert len(gone) == 1
        assert caught.value.reply.text == "Too late."
        assert chat.store.search("Hello").empty
        assert chat.store.verify()
