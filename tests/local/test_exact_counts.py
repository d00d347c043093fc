"""Near its limit the embedded model is asked how it counts, and what it says is believed before anything is sent."""

from __future__ import annotations

import pytest

import voxnb
from voxnb.clients.knowledge import NEAR_LIMIT, Knowledge

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

POLICY = voxnb.ContextPolicy(
    window_tokens=600, reserve_output_tokens=40, fold_at_tokens=450, keep_last_turns=2, summary_max_tokens=80
)


def test_the_exact_count_is_asked_for_near_the_limit_only_and_equals_what_is_then_reported(monkeypatch):
    asked = []
    exact = Knowledge.exact_tokens

    async def noted(self, layout, **how):
        found = await exact(self, layout, **how)
        asked.append((layout.total_tokens / layout.limits.hard_tokens, found))
        return found

    monkeypatch.setattr(Knowledge, "exact_tokens", noted)
    with voxnb.chat(base_url="local", store=":memory:", policy=POLICY) as chat:
        for n in range(6):
            chat.ask(f"Fact {n}: " + "the harbour line has eleven stations, " * 7, max_tokens=16).result()
        reported = [int(n) for n in chat.store.calls().query("purpose == 'turn'")["prompt_tokens"]]
        assert chat.store.verify()
    assert len(asked) == len(reported) == 6
    near = [(found, told) for (share, found), told in zip(asked, reported, strict=True) if share >= NEAR_LIMIT]
    assert near
    assert all(found is None for share, found in asked if share < NEAR_LIMIT)
    # Where the count was more than there is room for, what was sent in the end is shorter than what was counted.
    assert all(told <= found for found, told in near)


def test_a_count_beyond_the_room_folds_before_it_is_sent(monkeypatch):
    """As if the model counted half as much again: the request is planned anew, and the call that was not made is gone."""
    exact = Knowledge.exact_tokens
    told = []

    async def more(self, layout, **how):
        found = await exact(self, layout, **how)
        if found is not None and not told:
            told.append(found)
            return layout.limits.hard_tokens + 1
        return found

    monkeypatch.setattr(Knowledge, "exact_tokens", more)
    with voxnb.chat(base_url="local", store=":memory:", policy=POLICY) as chat:
        for n in range(6):
            chat.ask(f"Fact {n}: " + "the harbour line has eleven stations, " * 7, max_tokens=16).result()
            if told:
                break
        assert told
        chat.idle().result()
        calls = chat.store.calls().query("purpose == 'turn'")
        assert len(calls) == len(chat.conversation.turns())
        assert chat.conversation.row().folded_to > 0
        assert chat.store.verify()


def test_nothing_is_refused_by_an_estimate_that_the_model_itself_does_not_confirm():
    """A text of one repeated ideograph is some 4,700 tokens by estimate, and 2,600 by count."""
    policy = voxnb.ContextPolicy(window_tokens=4_096)
    with voxnb.chat(base_url="local", store=":memory:", policy=policy) as chat:
        assert chat.ask("字" * 2_600, max_tokens=8).result().usage.prompt_tokens < 3_000
        with pytest.raises(voxnb.errors.ContextOverflowError):
            chat.ask("字" * 5_600, max_tokens=8).result()
        assert chat.store.verify()
