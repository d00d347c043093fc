"""What requests cost: by a price of one's own, by the list of the genai-prices package, and unknown where it is not known."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import genai_prices
import pandas as pd
import pytest

import voxnb
from tests.invariants.scripted import MODEL, TELLER, WAIT_S, client, say, scripted, talking
from voxnb import errors, testing
from voxnb.clients import price as module
from voxnb.clients.price import Prices
from voxnb.notebook.receipt import receipt_lines
from voxnb.testing.service import prompt_tokens, too_long
from voxnb.usage import Usage, money

OPENAI = "https://api.openai.com/v1"
OWN = {MODEL: {"prompt": 2.0, "completion": 10.0, "cached": 0.5}, TELLER: {"prompt": 1.0, "completion": 4.0}}
NOW = time.time()


def reported(prompt, completion, **more):
    """A ``usage`` block as the service sends it."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def cost_of(usage, model=MODEL, *, prices=None, base_url=OPENAI, at=NOW, **more):
    return Prices(prices, base_url=base_url).cost_usd(usage, models=(model,), at=at, **more)


# -- by a price of one's own ------------------------------------------------------------------


def test_a_price_of_ones_own_is_in_the_reply_and_in_every_table():
    usage = reported(1000, 100, prompt_tokens_details={"cached_tokens": 400})
    with talking("Well.", manner={"usage": lambda _: usage}, prices=OWN, policy=None) as (_, chat):
        reply = chat.ask("One").result(WAIT_S)
        cost = (600 * 2.0 + 400 * 0.5 + 100 * 10.0) / 1e6
        assert reply.cost_usd == reply.receipt.cost_usd == pytest.approx(cost)
        assert f"cost={money(cost)}" in repr(reply)
        chat.ask("Two").result(WAIT_S)
        assert list(chat.store.calls()["cost_usd"]) == pytest.approx([cost, cost])
        assert list(chat.store.turns()["cost_usd"]) == pytest.approx([cost, cost])
        assert chat.store.conversations()["cost_usd"].item() == pytest.approx(2 * cost)
        taken = chat.statistics()
        assert (taken.cost_usd, taken.unpriced) == (pytest.approx(2 * cost), 0)
        assert list(taken.df["cost_usd"]) == pytest.approx([cost, cost])
        assert money(2 * cost) in repr(taken)


def test_folds_have_their_price_too():
    with talking(scripted(), prices=OWN) as (_, chat):
        say(chat, *range(1, 9))
        calls, summaries = chat.store.calls(), chat.store.summaries()
        folds = calls[calls["purpose"] == "fold"]
        assert len(folds)
        expected = (folds["prompt_tokens"] * 1.0 + folds["completion_tokens"] * 4.0) / 1e6
        assert list(folds["cost_usd"]) == pytest.approx(list(expected))
        assert summaries["cost_usd"].sum() == pytest.approx(expected.sum())
        taken = chat.statistics()
        assert taken.fold_cost_usd == pytest.approx(expected.sum())
        assert taken.cost_usd == pytest.approx(calls["cost_usd"].sum()) == chat.store.conversations()["cost_usd"].item()


def test_what_another_client_writes_for_a_conversation_is_counted_in_both():
    with testing.server(scripted()) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key}
        with voxnb.ChatCompletionsAPIClient(**given, model=TELLER, prices=OWN) as teller:
            with client(server, prices=OWN, summary_client=teller) as chat:
                say(chat, *range(1, 9))
                taken, calls = chat.statistics(), chat.store.calls()
        folds = calls[calls["purpose"] == "fold"]
        assert taken.folds == len(folds) > 0
        assert taken.fold_cost_usd == pytest.approx(folds["cost_usd"].sum()) == teller.statistics().cost_usd
        assert taken.cost_usd == pytest.approx(calls["cost_usd"].sum())
        assert taken.fold_tokens == folds["prompt_tokens"].sum() + folds["completion_tokens"].sum()
        assert (taken.requests, teller.statistics().requests) == (len(calls), len(folds))


def test_a_price_holds_for_the_models_name_as_it_was_asked_for_and_as_it_answers():
    for name in (MODEL, "served-as"):
        chunk = {"id": "x", "object": "chat.completion.chunk", "model": "served-as", "usage": reported(10, 10)}
        choice = {"index": 0, "delta": {"content": "Hm."}, "finish_reason": "stop"}
        reply = testing.Chunks([{**chunk, "choices": [choice]}])
        with talking(reply, prices={name: {"prompt": 1, "completion": 1}}) as (_, chat):
            assert chat.ask("One").result(WAIT_S).cost_usd == pytest.approx(20 / 1e6)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(100, 10), (100 * 2 + 10 * 8)),
        (Usage(100, 10, audio_prompt_tokens=60), (40 * 2 + 60 * 20 + 10 * 8)),
        (
            Usage(100, 10, 50, audio_prompt_tokens=60, audio_cached_tokens=20),
            (10 * 2 + 30 * 1 + 40 * 20 + 20 * 20 + 80),
        ),
        (Usage(100, 10, audio_completion_tokens=4), None),
        (Usage(100, 10, 200), None),
        (Usage(100), None),
        (Usage(completion_tokens=3), None),
    ],
    ids=[
        "text",
        "sound",
        "cached sound",
        "no price for spoken words",
        "parts beyond the whole",
        "half told",
        "no prompt",
    ],
)
def test_parts_are_charged_once(usage, cost):
    own = {"m": {"prompt": 2, "completion": 8, "cached": 1, "audio_prompt": 20}}
    found = cost_of(usage, "m", prices=own)
    assert found == (None if cost is None else pytest.approx(cost / 1e6))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cheap", "prices is str, expected a dict"),
        ({"m": 3}, "prices['m'] is 3, expected a dict"),
        ({"m": {"prompt": 1}}, "prices['m'] has no completion"),
        ({"m": {"prompt": 1, "completion": 1, "cahced": 1}}, "unknown part 'cahced'; did you mean 'cached'?"),
        ({"m": {"prompt": -1, "completion": 1}}, "['prompt'] is -1, expected USD per million tokens"),
        ({"m": {"prompt": float("nan"), "completion": 1}}, "is nan"),
        ({"m": {"prompt": True, "completion": 1}}, "is True"),
        ({"m": {"prompt": "1", "completion": 1}}, "is '1'"),
    ],
)
def test_prices_that_are_none_are_refused_when_the_client_is_made(given, words):
    with testing.server() as server, pytest.raises(errors.ParameterError) as caught:
        client(server, prices=given)
    assert words in str(caught.value)
    assert caught.value.name == "prices"


# -- by the list ------------------------------------------------------------------------------

CHAT = reported(
    1200, 300, prompt_tokens_details={"cached_tokens": 200}, completion_tokens_details={"reasoning_tokens": 100}
)
SPOKEN = reported(
    1200, 300, prompt_tokens_details={"audio_tokens": 700}, completion_tokens_details={"audio_tokens": 200}
)
RESPONSE = {"input_tokens": 1200, "output_tokens": 300, "input_tokens_details": {"cached_tokens": 200}}
REALTIME = {
    "input_tokens": 1200,
    "output_tokens": 300,
    "input_token_details": {
        "text_tokens": 500, "audio_tokens": 700, "cached_tokens": 300,
        "cached_tokens_details": {"text_tokens": 100, "audio_tokens": 200},
    },
    "output_token_details": {"text_tokens": 100, "audio_tokens": 200},
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "usage", "flavour"),
    [
        ("gpt-4o-mini", CHAT, "chat"),
        ("gpt-4o-mini-2024-07-18", CHAT, "chat"),
        ("gpt-5", CHAT, "chat"),
        ("gpt-audio", SPOKEN, "chat"),
        ("gpt-5", RESPONSE, "responses"),
        ("gpt-realtime", REALTIME, "realtime"),
    ],
)
@pytest.mark.parametrize("at", [NOW, datetime(2025, 9, 1, tzinfo=UTC).timestamp()], ids=["now", "2025"])
def test_the_numbers_are_the_packages_own(model, usage, flavour, at):
    answer = {"model": model, "usage": usage}
    told = genai_prices.extract_usage(
        {"response": answer, "model": model} if flavour == "realtime" else answer,
        provider_id="openai",
        api_flavor=flavour,
    )
    theirs = told.calc_price(genai_request_timestamp=datetime.fromtimestamp(at, UTC))
    assert cost_of(Usage.from_dict(usage), model, at=at) == pytest.approx(float(theirs.total_price), rel=1e-12)
    assert theirs.total_price > 0


def test_over_http_it_is_the_price_of_the_model_that_answered(monkeypatch):
    with talking("Well.", manner={"usage": lambda _: CHAT}) as (_, chat):
        monkeypatch.setattr(chat, "prices", Prices(None, base_url=OPENAI))
        reply = chat.ask("One").result(WAIT_S)
        theirs = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=1200, cache_read_tokens=200, output_tokens=300), MODEL, provider_id="openai"
        )
        assert reply.cost_usd == pytest.approx(float(theirs.total_price))
        assert chat.store.calls()["cost_usd"].item() == pytest.approx(float(theirs.total_price))
        assert f"cost {money(reply.cost_usd)}" in receipt_lines(reply.receipt)[0]


def test_a_service_tier_has_its_own_price_or_none():
    plain, flex, priority = (cost_of(Usage(1000, 100), "gpt-5", tier=t) for t in ("default", "flex", "priority"))
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=1000, output_tokens=100),
        "gpt-5",
        provider_id="openai",
        price_context={"service_tier": "flex"},
    )
    assert flex == pytest.approx(float(theirs.total_price))
    assert flex < plain < priority
    assert cost_of(Usage(1000, 100), "gpt-5", tier="of-next-year") is None
    assert cost_of(Usage(1000, 100), "gpt-4o-audio-preview", tier="flex") is None, "it is in no list"


def test_searches_of_the_service_are_charged_and_what_is_charged_by_the_minute_is_unknown():
    plain = cost_of(Usage(1000, 100), "gpt-5")
    searched = cost_of(Usage(1000, 100), "gpt-5", items=[{"type": "web_search_call"}] * 2 + [{"type": "message"}])
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=1000, output_tokens=100, web_searches=2), "gpt-5", provider_id="openai"
    )
    assert searched == pytest.approx(float(theirs.total_price))
    assert searched > plain
    assert cost_of(Usage(1000, 100), "gpt-5", items=[{"type": "code_interpreter_call"}]) is None


@pytest.mark.parametrize(
    ("usage", "model", "base_url"),
    [
        (Usage(10, 10), "no-such-model", OPENAI),
        (Usage(10, 10), None, OPENAI),
        (Usage(10, 10), MODEL, "http://127.0.0.1:8080/v1"),
        (Usage(10, 10), MODEL, "https://models.example.com/v1"),
        (Usage(), MODEL, OPENAI),
        (Usage(10), MODEL, OPENAI),
        (Usage(10, 10, 900), MODEL, OPENAI),
        (Usage(10, 10, audio_completion_tokens=5), MODEL, OPENAI),
        (Usage(10, 10), "text-embedding-3-small", OPENAI),
    ],
    ids=[
        "unknown model", "no model", "own machine", "another host", "no usage", "half a usage", "more cached than read",
        "sound of a model without it", "nothing to be paid for writing",
    ],
)  # fmt: skip
def test_unknown_is_none_and_never_0(usage, model, base_url):
    assert cost_of(usage, model, base_url=base_url) is None


def test_the_list_is_not_read_where_there_is_nothing_to_price(monkeypatch):
    # The first request may be interrupted before it is read, and its end would wait for that on the loop.
    read = []
    monkeypatch.setattr(module, "_package", lambda: read.append(1))
    assert cost_of(Usage()) is None
    assert not read


def test_a_server_of_ones_own_costs_nobody_knows_what():
    with talking("Well.") as (_, chat):
        reply = chat.ask("One").result(WAIT_S)
        assert reply.cost_usd is None
        assert reply.receipt.cost_usd is None
        assert "cost" not in repr(reply)
        assert chat.store.calls()["cost_usd"].item() is pd.NA
        assert chat.store.turns()["cost_usd"].item() is pd.NA
        assert (chat.statistics().cost_usd, chat.statistics().unpriced) == (None, 1)
        assert "cost unknown" in receipt_lines(reply.receipt)[0]


def test_without_the_package_the_cost_is_unknown_and_nothing_else_changes(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    monkeypatch.setattr(module, "_package", module._package.__wrapped__)
    assert cost_of(Usage(10, 10)) is None
    assert cost_of(Usage(10, 10), "m", prices={"m": {"prompt": 1, "completion": 1}}) == pytest.approx(20 / 1e6)


# -- several requests of one turn -------------------------------------------------------------


def look(where: str) -> str:
    """What is there."""
    return f"a view of {where}"


CALL = {"content": None, "tool_calls": [{"name": "look", "arguments": {"where": "the north"}}]}


def usages(*each):
    waiting = list(each)
    return lambda _: waiting.pop(0)


EACH = (reported(100, 10, prompt_tokens_details={"cached_tokens": 20}), reported(150, 30), reported(180, 5))


@pytest.mark.parametrize("kind", ["chat", "chat without memory", "responses", "responses without memory"])
def test_the_usage_and_the_cost_of_a_tool_loop_are_those_of_all_its_requests(kind):
    replies, memory = iter([CALL, CALL, "Nothing."]), "without" not in kind
    make = voxnb.ChatCompletionsAPIClient if kind.startswith("chat") else voxnb.ResponsesAPIClient
    with testing.server(lambda _: next(replies), usage=usages(*EACH)) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key, "model": MODEL, "prices": OWN}
        with make(**given, store_context=memory, **({"store": ":memory:"} if memory else {})) as chat:
            reply = chat.ask("Look.", tools=[look], run_tools=True).result(WAIT_S)
            assert len(reply.tool_runs) == 2
            assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (430, 45)
            assert reply.usage.cached_tokens == 20
            cost = (410 * 2.0 + 20 * 0.5 + 45 * 10.0) / 1e6
            assert reply.cost_usd == reply.receipt.cost_usd == pytest.approx(cost)
            assert reply.receipt.prompt_tokens == 430
            if memory:
                calls = chat.store.calls()
                assert list(calls["prompt_tokens"]) == [100, 150, 180]
                assert calls["cost_usd"].sum() == pytest.approx(cost)
                assert chat.store.turns()["cost_usd"].item() == pytest.approx(cost)


def test_where_one_request_tells_no_usage_the_sum_is_unknown():
    replies, each = iter([CALL, "Nothing."]), usages(reported(100, 10), {})
    with testing.server(lambda _: next(replies), usage=each) as server, client(server, prices=OWN) as chat:
        reply = chat.ask("Look.", tools=[look], run_tools=True).result(WAIT_S)
        assert (reply.usage.total_tokens, reply.cost_usd, reply.receipt.cost_usd) == (None, None, None)
        assert reply.receipt.prompt_tokens is None


def test_a_refused_request_of_a_turn_is_no_reason_not_to_know_what_it_took():
    def reply(request):
        tokens = prompt_tokens(request)
        return "Well." if tokens < 3000 else too_long(tokens, 3000)

    policy = voxnb.ContextPolicy(window_tokens=20_000, fold_at_tokens=16_000)
    with talking(scripted(reply), prices=OWN, policy=policy) as (_, chat):
        for _ in range(6):
            last = chat.ask("and so on " * 200).result(WAIT_S)
        calls = chat.store.calls()
        assert "failed" in set(calls["status"].astype(str))
        assert last.receipt.cost_usd == last.cost_usd
        assert last.cost_usd > 0
