"""A conversation that goes on with a model of another encoding: its past is counted as that model counts."""

from __future__ import annotations

import pytest

from tests.invariants.scripted import TELLER, WAIT_S, chats, client, talking
from voxnb import ContextPolicy, testing
from voxnb.store.planner import Measure

JAPANESE = "東京の天気は今日も晴れで、気温は摂氏二十三度でした。" * 8
"""A half more tokens in the older encoding."""

OLD, NEW = "gpt-4", "gpt-4o"
ROOMY = ContextPolicy(window_tokens=8_000, reserve_output_tokens=100)


def answer(request: testing.Request) -> str:
    """A short summary, or a long answer."""
    return "気温は二十三度。" if request.model == TELLER and "要約" in str(request.messages[0]) else JAPANESE


def assert_counted_exactly(chat) -> None:
    calls = chat.store.calls(columns=["purpose", "estimated_prompt_tokens", "prompt_tokens"])
    asked = calls[calls["purpose"] == "turn"]
    assert list(asked["estimated_prompt_tokens"]) == list(asked["prompt_tokens"])
    assert chat.store.verify()


def test_whichever_model_is_asked_the_estimate_is_what_it_reports():
    with talking(answer, policy=ROOMY, instructions=JAPANESE) as (_, chat):
        for model in (NEW, NEW, OLD, OLD, NEW, OLD):
            plan = chat.conversation.plan(JAPANESE) if model == chat.planner_model() else None
            reply = chat.ask(JAPANESE, model=model).result(WAIT_S)
            assert plan is None or sum(plan.tokens.values()) == reply.usage.prompt_tokens
        chat.store.append(chat.conversation.id, [{"role": "user", "content": JAPANESE}])
        chat.ask(JAPANESE, model=OLD).result(WAIT_S)
        assert_counted_exactly(chat)


def test_a_past_request_is_explained_as_its_own_model_counted():
    with talking(answer, policy=ROOMY) as (_, chat):
        for model in (OLD, NEW, OLD, NEW):
            chat.ask(JAPANESE, model=model).result(WAIT_S)
        plans = [chat.conversation.explain(turn) for turn in range(1, 5)]
        assert all(plan.exact for plan in plans)
        assert {plan.tokens["overhead"] for plan in plans} == {plans[0].tokens["overhead"]}


def test_forks_that_share_turns_go_on_with_a_model_of_their_own():
    with talking(answer, policy=ROOMY) as (server, chat):
        chat.ask(JAPANESE, model=NEW).result(WAIT_S)
        chat.conversation.pin(1)
        fork = chat.conversation.fork(name="older")
        with client(server, policy=ROOMY, store=chat.store, conversation=fork.id) as other:
            for _ in range(2):
                other.ask(JAPANESE, model=OLD).result(WAIT_S)
                chat.ask(JAPANESE, model=NEW).result(WAIT_S)
        assert_counted_exactly(chat)


def test_what_comes_in_the_place_of_a_deleted_conversation_is_counted_too(tmp_path):
    with talking(answer, policy=ROOMY, conversation="one") as (server, chat):
        chat.ask(JAPANESE, model=NEW).result(WAIT_S)
        exported = chat.conversation.export(tmp_path / "one.jsonl")
        chat.conversation.delete()
        chat.ask(JAPANESE, model=OLD).result(WAIT_S)
        chat.ask(JAPANESE, model=OLD).result(WAIT_S)
        chat.conversation.delete()
        chat.store.import_conversations(exported)
        with client(server, policy=ROOMY, store=chat.store, conversation="one") as other:
            other.ask(JAPANESE, model=OLD).result(WAIT_S)
        assert_counted_exactly(chat)


@pytest.mark.parametrize("change", ["pin", "unfold", "redact"])
def test_what_is_sent_again_of_folded_turns_is_counted_as_the_next_model_counts(change):
    with talking(answer, policy=ROOMY, summary_prompt="要約", summary_model=TELLER) as (_, chat):
        for model in (OLD, OLD, NEW, NEW):
            chat.ask(JAPANESE, model=model).result(WAIT_S)
        chat.conversation.fold(2).result(WAIT_S)
        for _ in range(2):
            chat.ask(JAPANESE, model=NEW).result(WAIT_S)
        {
            "pin": lambda: chat.conversation.pin(1),
            "unfold": chat.conversation.unfold,
            "redact": lambda: chat.conversation.redact(1),
        }[change]()
        for _ in range(2):
            chat.ask(JAPANESE, model=NEW).result(WAIT_S)
        assert_counted_exactly(chat)


def test_a_summary_that_a_client_of_the_other_model_made_is_counted_again():
    with talking(answer, policy=ROOMY, model=OLD, summary_prompt="要約", summary_model=TELLER) as (_, chat):
        for n in range(5):
            chat.ask(JAPANESE, model=NEW).result(WAIT_S)
            if n == 2:
                chat.conversation.fold(2).result(WAIT_S)
        assert_counted_exactly(chat)


def test_turns_that_a_later_import_adds_are_counted_again():
    said = [{"role": "user", "content": JAPANESE}, {"role": "assistant", "content": JAPANESE}]
    with talking(answer, policy=ROOMY, summary_prompt="要約", summary_model=TELLER) as (server, chat):
        chat.store.import_conversations([{"id": "x", "title": "x", "model": NEW, "messages": said * 3}])
        given = {"model": NEW, "summary_prompt": "要約", "summary_model": TELLER, "store": chat.store}
        with client(server, policy=ROOMY, conversation="x", **given) as other:
            other.conversation.fold(1).result(WAIT_S)
            chat.store.import_conversations([{"id": "x", "title": "x", "model": OLD, "messages": said * 5}])
            other.ask(JAPANESE).result(WAIT_S)
        assert_counted_exactly(chat)


def test_a_turn_whose_results_go_to_another_model_is_counted_as_that_counts():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = [{"role": "user", "content": JAPANESE}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    with talking(answer, policy=ROOMY) as (_, chat):
        chat.ask(JAPANESE, model=NEW).result(WAIT_S)
        chat.store.append(chat.conversation.id, asked)
        result = [{"role": "tool", "tool_call_id": "c1", "content": JAPANESE}]
        chat.create_chat_completions(messages=result, model=OLD).result(WAIT_S)
        for _ in range(2):
            chat.ask(JAPANESE, model=OLD).result(WAIT_S)
        assert_counted_exactly(chat)


@pytest.mark.parametrize("after_a_fold", [False, True])
def test_no_request_exceeds_its_budget_when_the_next_model_counts_more(after_a_fold):
    policy = ContextPolicy(window_tokens=1_600, reserve_output_tokens=100, fold_at_tokens=1_400, keep_last_turns=1)
    with talking(answer, policy=policy, summary_prompt="要約", summary_model=TELLER) as (server, chat):
        for _ in range(4 if after_a_fold else 2):
            chat.ask(JAPANESE, model=NEW).result(WAIT_S)
            chat.idle().result(WAIT_S)
        assert (chat.conversation.summary() is not None) == after_a_fold
        for _ in range(3):
            chat.ask(JAPANESE, model=OLD).result(WAIT_S)
            chat.idle().result(WAIT_S)
        sent = [testing.service.prompt_tokens(r) for r in chats(server) if r.model == OLD]
        assert max(sent) <= 1_500
        assert_counted_exactly(chat)


def test_a_summary_of_the_same_encoding_is_not_counted_a_second_time(monkeypatch):
    counted = []
    with talking(answer, policy=ROOMY, summary_prompt="要約", summary_model=TELLER) as (_, chat):
        for _ in range(4):
            chat.ask(JAPANESE, model=NEW).result(WAIT_S)
        chat.conversation.fold(2).result(WAIT_S)
        measure = Measure.__call__
        monkeypatch.setattr(Measure, "__call__", lambda self, m: (counted.append(m.text), measure(self, m))[1])
        chat.ask("また明日", model=NEW).result(WAIT_S)
        assert [text for text in counted if "気温は二十三度。" in text] == []
        chat.ask("また明日", model=OLD).result(WAIT_S)
        assert [text for text in counted if "気温は二十三度。" in text] != []
        monkeypatch.undo()
        assert_counted_exactly(chat)
