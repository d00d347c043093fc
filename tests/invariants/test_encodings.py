"""A conversation that goes on with a model of another encoding: its past is counted as that model counts."""

from __future__ import annotations

import pytest

from tests.invariants.scripted import TELLER, WAIT_S, chats, client, talking
from voxnb import ContextPolicy, testing

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
