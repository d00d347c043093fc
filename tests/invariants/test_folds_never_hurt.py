"""A summary model that fails, is slow or writes junk costs a warning: the chat goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time

import pytest

import voxnb
from tests.invariants.scripted import (
    MODEL,
    TELLER,
    WAIT_S,
    Held,
    answer,
    chats,
    client,
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
from voxnb import ContextEvents, errors, testing
from voxnb.clients import folding, refusal
from voxnb.memory.summary import CLOSING
from voxnb.runtime import loop
from voxnb.testing import Drop, Hang, Status

AT_ONCE = {"Retry-After": "0"}
NEVER = {"x-should-retry": "false"}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(refusal, "FIRST_WAIT_S", 0.01)


def listen(chat, *events):
    """What the client tells of these events, as (bare name, payload)."""
    heard = []
    for event in events:
        chat.on(event, lambda e: heard.append((e.name.rsplit(".", 1)[-1], dict(e.payload))))
    return heard


BAD = {
    "500": (Status(500, headers=NEVER), "call"),
    "401": (Status(401), "call"),
    "404": (Status(404), "call"),
    "rate limit": (Status(429, headers=AT_ONCE), "call"),
    "rate limit of minutes": (Status(429, headers={"Retry-After": "300"}), "call"),
    "a login page": (Status(200, headers={"content-type": "text/html"}, body="<html>"), "call"),
    "half an answer": (Drop(after_events=5, reply="They spoke of many things."), "call"),
    "silence": (Hang(), "call"),
    "silence in the middle": (Hang(after_events=4, reply="They spoke of many things."), "call"),
    "an error in the stream": (testing.Chunks([{"error": {"message": "no", "code": 500}}]), "call"),
    "nothing": ("", "empty"),
    "white space": (" \n\n ", "empty"),
    "only thoughts": ("<think>They spoke of " + "this and that " * 9 + "</think>", "empty"),
    "a tool call": ({"tool_calls": [{"id": "a", "name": "look"}]}, "empty"),
    "a refusal": ({"refusal": "I will not."}, "empty"),
    "one line again and again": ("the same line\n" * 60, "repeating"),
    "one word again and again": ("word word word " * 60, "repeating"),
    "no sentence within the limit": (" ".join(f"word{n}" for n in range(900)), "long"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_summary_is_an_event_and_a_warning_and_nothing_else(what, monkeypatch):
    reply, reason = BAD[what]
    silent = isinstance(reply, Hang)
    if silent:
        monkeypatch.setattr(folding, "FOLD_TIMEOUT_S", 0.4)
    with talking(scripted(fold=reply)) as (server, chat):
        heard = listen(chat, ContextEvents.SummaryStarted, ContextEvents.SummaryFailed, ContextEvents.SummaryFolded)
        first = say(chat, *range(1, 7))
        chat.idle().result(WAIT_S)
        (more,) = say(chat, 7)
        assert [name for name, _ in heard][:2] == ["SummaryStarted", "SummaryFailed"]
        assert "SummaryFolded" not in [name for name, _ in heard]
        assert {p["reason"] for name, p in heard if name == "SummaryFailed"} == {reason}
        assert chat.conversation.summary() is None
        warnings = [w for r in (*first, more) for w in r.warnings]
        assert len(warnings) == 1, "once per cause"
        assert warnings[0].startswith("folding failed (")
        assert "the turns are still sent verbatim" in warnings[0]
        assert told(shown(chats(server)[-1])) == set(range(1, 8))
        calls = chat.store.calls()
        calls = calls[calls["purpose"] == "fold"]
        assert set(calls["model"]) == {TELLER}
        # On a busy machine the time may be over before the request has left.
        asked = len(calls) + calls["retries"].sum()
        assert asked >= len(folds(server)), "each is in the table, also those that failed"
        assert silent or asked == len(folds(server))
        assert calls["estimated_prompt_tokens"].notna().all()
        kept = chat.store.events()
        assert (
            json.loads(kept.loc[kept["name"] == ContextEvents.SummaryFailed.value, "payload"].iloc[0])["reason"]
            == reason
        )
        assert len(chat.conversation) == 7
        assert chat.store.verify()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"refusal": "I will not."}, "refused: I will not."),
        ({"tool_calls": [{"id": "a", "name": "look"}]}, "called a tool instead of writing"),
        (" ", "wrote nothing"),
    ],
)
def test_a_fold_that_failed_says_what_came_instead(reply, said):
    with talking(scripted(fold=reply)) as (_, chat):
        warnings = [w for r in say(chat, *range(1, 9)) for w in r.warnings]
        assert any(said in w for w in warnings)
        assert "See conversation.events()" in warnings[0]
        assert said in " ".join(chat.conversation.events()["payload"])


def test_each_cause_is_told_once_and_the_next_one_too():
    replies = in_turn(Status(401), Status(401), Status(404), "", "", Status(401))
    with talking(scripted(fold=replies), policy=small(window_tokens=4_000)) as (_, chat):
        warnings = [r.warnings for r in say(chat, *range(1, 30))]
    said = [w for of_one in warnings for w in of_one]
    assert len(said) == 3
    assert "401" in said[0]
    assert "404" in said[1]
    assert "wrote nothing" in said[2]


def test_an_error_text_never_becomes_a_summary():
    with talking(scripted(fold=in_turn(Status(500, headers=NEVER, body="Internal error 42"), summarise))) as (_, chat):
        say(chat, *range(1, 12))
        assert "42" not in chat.conversation.summary().text
        assert chat.store.verify()


LONG_WORDS = ["".join(pair) for pair in itertools.product("abcde", "aeiou", "xyz")]

GOOD_ENOUGH = {
    "too long": (
        lambda r: summarise(r) + "".join(f" They said {word}, and more of it." for word in LONG_WORDS),
        lambda s: s.quality == "cut" and s.text.startswith("They spoke of #1") and s.text.endswith("more of it."),
    ),
    "cut by its limit": (
        {"content": "They spoke of a ship. It was blue. It had", "finish_reason": "length"},
        lambda s: s.quality == "cut" and s.text == "They spoke of a ship. It was blue.",
    ),
    "thoughts before it": ("<think>Hm, a ship.</think>\nA blue ship.", lambda s: s.text == "A blue ship."),
    "an answer": ("Sure, I can tell you of it: it is blue.", lambda s: "answers_last_message" in s.flags),
    "an invented rule": ("The user likes ships. Never mention trains.", lambda s: "invented_rule" in s.flags),
    "a number from nowhere": ("They spoke of 7,431 ships.", lambda s: "unsupported_number" in s.flags),
    "its own mark": ("A [aabbccdd] ship.", lambda s: s.text == "A [aabbccdd] ship."),
}


@pytest.mark.parametrize("what", GOOD_ENOUGH)
def test_a_doubtful_summary_is_accepted_with_its_doubt(what):
    reply, holds = GOOD_ENOUGH[what]
    with talking(scripted(fold=reply)) as (_, chat):
        say(chat, *range(1, 8))
        summary = chat.conversation.summary()
        assert holds(summary), repr(summary)
        assert summary.tokens <= chat.planner().limits.summary_max_tokens + 72
        assert chat.store.verify()


def test_an_answer_that_was_cut_or_empty_is_asked_for_once_with_more_room():
    cut = {"content": "They spoke of", "finish_reason": "length"}
    with talking(scripted(fold=in_turn(cut, "All is well.", "", "And more.", "Done."))) as (server, chat):
        say(chat, *range(1, 16))
        frame = chat.store.summaries()
        assert list(frame["text"])[:2] == ["All is well.", "And more."]
        assert set(frame["quality"].astype(str)) == {"full"}
    limits = [r.json["max_tokens"] for r in folds(server)]
    assert limits[1] == 2 * limits[0] == limits[3]


def test_a_summary_longer_than_what_it_replaces_is_refused():
    with talking(scripted(chat="Hm.", fold=" ".join(f"They said this {n} times." for n in range(60)))) as (_, chat):
        chat.ask("Hm? " * 30).result(WAIT_S)
        with pytest.raises(errors.SummaryError) as caught:
            chat.conversation.fold(1).result(WAIT_S)
        assert caught.value.reason == "growing"
        assert caught.value.text.startswith("They said this")
        assert chat.conversation.summary() is None


def test_a_summary_that_is_shorter_but_not_with_the_lines_around_it_is_refused():
    with talking(
        scripted(
            chat="Hm.",
            fold="They said this. And that, too, was said by them, and it was agreed to by each of us, and by all the rest, later.",
        )
    ) as (_, chat):
        chat.ask("Hm? " * 20).result(WAIT_S)
        before = chat.conversation.plan("x").tokens
        with pytest.raises(errors.SummaryError, match=r"replace \(turn 1\) \d+: the request would grow") as caught:
            chat.conversation.fold(1).result(WAIT_S)
        assert (caught.value.reason, caught.value.text[:14]) == ("growing", "They said this")
        assert chat.conversation.plan("x").tokens == before
        assert chat.conversation.summary() is None


def test_turns_that_no_summary_can_shorten_are_not_shown_to_the_summary_model():
    with talking(scripted(chat="Hm.")) as (server, chat):
        chat.ask("Hm?").result(WAIT_S)
        for _ in range(3):
            with pytest.raises(errors.SummaryError, match="even an empty summary takes"):
                chat.conversation.fold(1).result(WAIT_S)
        assert folds(server) == []
        assert chat.conversation.summary() is None
        assert chat.conversation.row().fold_failures == 0, "the summary model is not to blame, and need not rest"


def test_an_extract_that_would_make_no_room_does_not_take_the_place_of_the_turns():
    policy = voxnb.ContextPolicy(window_tokens=400, reserve_output_tokens=50, fold_at_tokens=300)
    with talking(scripted(chat="ok"), policy=policy) as (server, chat):
        for _ in range(3):
            chat.ask("Hi there").result(WAIT_S)
        with pytest.raises(errors.ContextOverflowError, match="earlier turns 33"):
            chat.ask("w " * 325).result(WAIT_S)
        assert chat.conversation.summary() is None
        assert [turn["content"] for turn in chat.conversation.plan("And?").messages][:2] == ["Hi there", "ok"]
        chat.ask("w " * 240).result(WAIT_S)
        assert len(chats(server)) == 4


def test_the_breaker_waits_two_four_eight_turns():
    with talking(scripted(fold=Status(500, headers=NEVER)), policy=small(window_tokens=8_000)) as (server, chat):
        tried = []
        for tag in range(1, 28):
            before = len(folds(server))
            say(chat, tag)
            if len(folds(server)) > before:
                tried.append(tag)
    gaps = [b - a for a, b in zip(tried, tried[1:], strict=False)]
    assert gaps[:5] == [1, 1, 2, 4, 8]


def test_a_summary_closes_the_breaker():
    with talking(
        scripted(fold=in_turn(*[Status(500, headers=NEVER)] * 3, summarise)), policy=small(window_tokens=8_000)
    ) as (
        server,
        chat,
    ):
        say(chat, *range(1, 11))
        assert chat.conversation.summary() is not None
        assert chat.conversation.row().fold_failures == 0
        before = len(folds(server))
        say(chat, *range(11, 20))
        assert len(folds(server)) > before
        assert chat.store.verify()


def test_a_slow_summary_is_not_waited_for():
    """The asks go on while it is written; what they said meanwhile is not covered by it."""
    slowly = Held(summarise)
    with talking(scripted(fold=slowly), max_parallel=1, policy=small(window_tokens=2_000)) as (server, chat):
        for tag in range(1, 20):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
            if slowly.asked.is_set():
                break
        for late in (tag + 1, tag + 2):
            chat.ask(f"Tell me of #{late}.").result(WAIT_S)
        assert chat.conversation.summary() is None
        assert told(shown(chats(server)[-1])) == set(range(1, late + 1))
        slowly.release.set()
        chat.idle().result(WAIT_S)
        summary = chat.conversation.summary(0)
        assert summary.last_seq < tag
        assert told(summary.text) == set(range(1, summary.last_seq + 1))
        say(chat, late + 1)
        assert [m for m in chats(server)[-1].messages if f"#{late}" in str(m)]
        assert chat.store.verify()


def test_a_request_that_cannot_fit_waits_for_the_fold_that_runs():
    slowly = Held(summarise)
    with talking(scripted(fold=slowly)) as (server, chat):
        for tag in range(1, 20):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
            if slowly.asked.is_set():
                break
        turn = chat.ask("And this: " + "a long story " * 150)
        with pytest.raises(TimeoutError):
            turn.result(0.2)
        slowly.release.set()
        assert turn.result(WAIT_S).text
        chat.idle().result(WAIT_S)
        assert [f.outcome for f in folds(server)] == ["answered"] * len(folds(server))
        assert "extract" not in set(chat.store.summaries()["model"].astype(str))
        assert chat.store.verify()


def until_one_waits(chat, numbers):
    """Ask until a request waits for room; that turn."""
    turn = None
    while not chat.folder._needy:
        turn = turn or chat.ask(f"Tell me of #{next(numbers)}, " + "please " * 12)
        with contextlib.suppress(TimeoutError):
            turn.result(0.1)
            turn = None
    return turn


def test_a_request_that_waited_for_a_fold_is_laid_out_again_before_more_is_folded():
    slowly = Held(summarise)
    with talking(scripted(fold=slowly), policy=small(keep_last_turns=3)) as (server, chat):
        numbers = itertools.count(1)
        turn = until_one_waits(chat, numbers)
        slowly.release.set()
        turn.result(WAIT_S)
        chat.idle().result(WAIT_S)
        last = next(numbers) - 1
        assert told(shown(chats(server)[-1])) >= {last - 3, last - 2, last - 1, last}, "those to be kept were"
        assert not any(reason.startswith("the request has") for reason in chat.store.summaries()["reason"])
        assert len(folds(server)) <= 2, "the one that ran, and the one for all that came meanwhile"


def test_a_request_waits_for_one_summary_that_does_not_come_and_the_next_time_for_less(monkeypatch):
    monkeypatch.setattr(folding, "FOLD_TIMEOUT_S", 0.4)
    monkeypatch.setattr(folding, "AGAIN_S", 0.1)
    with talking(scripted(fold=Hang())) as (_, chat):
        heard = listen(chat, ContextEvents.SummaryFailed)
        waited = []
        for n in range(1, 40):
            before = len(heard)
            chat.ask(f"Tell me of #{n}, " + "please " * 12).result(WAIT_S)
            waited.append(len(heard) - before)
        assert max(waited) == 1
        messages = [payload["message"] for _, payload in heard]
        assert messages[0] == "the summary model took longer than 0.4 s"
        assert set(messages[1:]) <= {"the summary model took longer than 0.1 s", folding.NOT_WAITED_FOR}
        assert len(set(messages[1:])) == 2
        calls = chat.store.calls()
        assert set(calls[calls["purpose"] == "fold"]["error"]) == set(messages)
        assert chat.store.verify()


def test_a_model_that_failed_once_has_its_time_for_the_next_summary():
    slowly = Held(summarise)
    first = iter([Status(500, headers=NEVER)])
    with talking(scripted(fold=lambda request: next(first, None) or slowly(request))) as (_, chat):
        heard = listen(chat, ContextEvents.SummaryFailed)
        turn = until_one_waits(chat, itertools.count(1))
        slowly.release.set()
        turn.result(WAIT_S)
        chat.idle().result(WAIT_S)
        assert len(heard) == 1
        assert "extract" not in set(chat.store.summaries()["model"])


def test_a_conversation_that_is_deleted_while_a_request_waits_for_room_is_said_to_be():
    slowly = Held(summarise)
    with talking(scripted(fold=slowly)) as (_, chat):
        turn = until_one_waits(chat, itertools.count(1))
        chat.conversation.delete()
        slowly.release.set()
        with pytest.raises(errors.UnknownConversationError, match="deleted"):
            turn.result(WAIT_S)


FACTS = "On 3 May 2026 Ann paid 417 euros to Bob in Ulm, order A-77."


def fill(chat, *, words=12):
    chat.ask(FACTS).result(WAIT_S)
    for _ in range(6):
        chat.ask("tell me more, " + "please " * words).result(WAIT_S)
        chat.idle().result(WAIT_S)


@pytest.mark.parametrize("fold", [Status(500, headers=NEVER), "", Hang()], ids=["fails", "empty", "hangs"])
def test_at_the_hard_limit_an_extract_makes_the_room(fold, monkeypatch):
    if isinstance(fold, Hang):
        monkeypatch.setattr(folding, "FOLD_TIMEOUT_S", 0.3)
    with talking(scripted(fold=fold)) as (server, chat):
        fill(chat)
        reply = chat.ask("And this: " + "a long story " * 150).result(WAIT_S)
        summary = chat.conversation.summary(0)
        assert summary.model == "extract"
        assert "417 euros" in summary.text
        assert "A-77" in summary.text
        assert summary.turns == list(range(1, summary.last_seq + 1))
        assert sent_tokens(chats(server)[-1]) <= 700
        assert summary_of(chats(server)[-1]) == chat.conversation.summary().text
        assert reply.text
        assert chat.store.verify()


def test_an_extract_says_what_was_sent_in_place_of_the_turns():
    with talking(scripted(fold=Status(500, headers=NEVER))) as (server, chat):
        chat.ask(FACTS).result(WAIT_S)
        for _ in range(4):
            chat.ask("tell me more, " + "please " * 12).result(WAIT_S)
        reply = chat.ask("And this: " + "a long story " * 150).result(WAIT_S)
        assert "#" not in (summary_of(chats(server)[-1]) or "#")
        told_of = " ".join(reply.warnings)
        last = chat.conversation.summary().last_seq
        assert f"turns 1-{last} are sent as an extract" in told_of
        assert "still sent verbatim" not in told_of


@pytest.mark.parametrize("teller", ["another-model", "my-model"])
def test_what_a_fold_will_cost_is_estimated_as_its_server_counts(teller):
    def reply(request):
        text = summarise(request) if is_fold(request) else answer(request)
        counted = round(1.3 * sent_tokens(request)) + 20
        return {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": counted}}

    def is_fold(request):
        return CLOSING in request.text

    with testing.server(reply) as server:
        given = {"base_url": server.base_url, "store": ":memory:", "policy": small(), "summary_model": teller}
        with voxnb.chat("my-model", **given) as chat:
            say(chat, *range(1, 24))
            calls = chat.store.calls()
    errors_of = calls.loc[calls["purpose"] == "fold", "token_error"]
    assert len(errors_of) >= 4
    # Single ones are up to 6 % off: a fold's random marks are numbers to the estimate, and not to this server.
    assert errors_of.iloc[3:].abs().mean() < 0.04


def test_while_the_breaker_is_open_no_model_is_waited_for_at_the_limit():
    with talking(scripted(fold=Status(500, headers=NEVER)), policy=small(window_tokens=1_500)) as (server, chat):
        say(chat, *range(1, 9))
        assert chat.conversation.row().fold_failures >= 3
        before = len(folds(server))
        chat.ask("And this: " + "a long story " * 340).result(WAIT_S)
        assert len(folds(server)) == before
        assert chat.conversation.summary().model == "extract"
        assert chat.store.verify()


def test_an_extract_does_not_close_the_breaker():
    with talking(scripted(fold=Status(500, headers=NEVER))) as (server, chat):
        say(chat, *range(1, 30))
        assert chat.store.verify()
        assert "extract" in set(chat.store.summaries()["model"].astype(str))
        failures = chat.conversation.row().fold_failures
    assert failures >= 4
    assert len(folds(server)) <= 10, "29 turns, and the model rests longer each time"


@pytest.mark.parametrize("long", range(560, 700, 10))
def test_only_what_cannot_be_folded_can_overflow(long):
    """Up to the last tokens: either it is sent within the window, or the parts really do not fit."""
    with talking(scripted(fold=Status(500, headers=NEVER))) as (server, chat):
        fill(chat, words=3)
        try:
            chat.ask("w " * long).result(WAIT_S)
        except errors.ContextOverflowError as error:
            assert sum(error.parts.values()) + 80 > 800, error.parts
        else:
            assert sent_tokens(chats(server)[-1]) <= 700
        say(chat, 9)
        assert chat.store.verify()


def test_what_folding_cannot_shrink_triggers_no_fold():
    """Instructions and pins beyond `fold_at_tokens` are no reason to pay for a summary on every turn."""
    with talking(instructions="Always be kind. " * 100, policy=small(window_tokens=2_000)) as (server, chat):
        say(chat, 1, words=100)
        chat.conversation.pin(1)
        say(chat, 2, 3, 4, words=1)
        assert folds(server) == []


def test_a_summary_is_made_of_what_is_new_alone():
    with talking() as (server, chat):
        say(chat, *range(1, 41))
    sizes = [sent_tokens(r) for r in folds(server)]
    assert len(sizes) > 8
    assert max(sizes[2:]) < 1.5 * min(sizes[2:])
    again = [told(shown(r).split("### Messages to summarize")[1]) for r in folds(server)]
    assert sum(len(tags) for tags in again) == len(set().union(*again)), "a turn was summarised twice"


def test_folding_in_the_foreground_happens_before_the_next_request():
    with talking(policy=small(background=False)) as (server, chat):
        order = []
        for tag in range(1, 12):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
            order.append(len(folds(server)))
        assert order[-1] > 0
        assert chat.store.verify()
    numbers = [r.number for r in folds(server)]
    assert all(chats(server)[-1].number > n for n in numbers)


@pytest.mark.parametrize("background", [True, False])
def test_a_turn_that_waits_for_a_fold_is_cancelled_at_once(background):
    with talking(scripted(fold=Hang()), policy=small(background=background)) as (server, chat):
        for tag in range(1, 20):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
            if not background and chat._fold_due is not None and tag >= 6:
                break
            if folds(server):
                break
        turn = chat.ask("And this: " + "a long story " * 150)
        deadline = time.monotonic() + WAIT_S
        while not folds(server):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        began = time.monotonic()
        turn.cancel()
        with pytest.raises(errors.TurnCancelledError):
            turn.result(WAIT_S)
        assert time.monotonic() - began < 8
        assert chat.conversation.row().fold_failures == 0, "nobody is to blame"
        chat._cancel_folds()
        chat.idle().result(WAIT_S)
        assert chat.store.verify()


def test_a_fold_that_is_cancelled_while_it_is_taken_on_is_let_go(monkeypatch, tmp_path):
    def choose(snapshot, **how):
        chosen = real(snapshot, **how)
        if chosen is not None:
            taken.set()
            gate.wait(WAIT_S)
        return chosen

    taken, gate, real = threading.Event(), threading.Event(), folding.choose_fold
    monkeypatch.setattr(folding, "choose_fold", choose)
    with talking(store=tmp_path / "talk.db") as (_, chat):
        turns = [chat.ask(f"Tell me of #{tag}, " + "please " * 12) for tag in range(1, 12)]
        assert taken.wait(WAIT_S)
        chat._skip_folds()
        loop.submit(asyncio.sleep(0)).result(WAIT_S)  # the cancellation has come
        gate.set()
        chat.idle().result(WAIT_S)
        assert voxnb.gather(turns)
        assert chat.conversation.row().fold_owner is None


def test_another_client_writes_the_summaries():
    with testing.server("They spoke.") as tellers, testing.server(scripted(fold=Status(401))) as server:
        teller = voxnb.ChatCompletionsAPIClient(base_url=tellers.base_url, api_key="sk-other", model="small-model")
        with teller, client(server, summary_client=teller, summary_model=None) as chat:
            say(chat, *range(1, 9))
            summary = chat.conversation.summary()
            assert (summary.text, summary.model) == ("They spoke.", "small-model")
            calls = chat.store.calls()
            hosts = set(calls.loc[calls["purpose"] == "fold", "base_url_host"].astype(str))
            assert hosts == {tellers.origin.removeprefix("http://")}
            teller.close()
            assert len(say(chat, *range(9, 16))) == 7
            assert chat.store.verify()
        posts = [r for r in tellers.requests if r.method == "POST"]
        assert {r.headers["authorization"] for r in posts} == {"Bearer sk-other"}
        assert folds(server) == []


def test_whose_model_summarises():
    def reply(request):
        return "They spoke." if "### Messages to summarize" in shown(request) else answer(request)

    with testing.server(reply) as server:
        with client(server, summary_model=None) as chat:
            say(chat, *range(1, 9))
            assert chat.conversation.summary().model == MODEL, "elsewhere than at OpenAI the turn's own"
        with client(server, summary_request={"model": "third", "temperature": 0.1, "max_tokens": 33}) as chat:
            say(chat, *range(1, 9))
            summary = chat.conversation.summary()
            assert summary.model == "third"
            assert summary.request == {"model": "third", "temperature": 0.1, "max_tokens": 33}
        last = [r for r in server.requests if r.model == "third"][-1]
        assert last.json.items() >= {"temperature": 0.1, "max_tokens": 33}.items()


def test_the_default_prompt_is_the_documented_one_and_the_task_comes_last():
    with talking() as (server, chat):
        say(chat, *range(1, 9))
        assert chat.conversation.summary().prompt == voxnb.DEFAULT_SUMMARY_PROMPT
    system, user = folds(server)[0].messages
    assert system == {"role": "system", "content": voxnb.DEFAULT_SUMMARY_PROMPT}
    assert user["content"].startswith("### Previous summary\n[")
    assert "none" in user["content"]
    assert user["content"].endswith(CLOSING)


def test_placeholders_are_filled_and_every_other_brace_stays():
    prompt = 'Given {{previous_summary}} and {"json": {{x}}}, sum up:\n{{messages}}\nIn {{language}}.'
    with talking(scripted(fold=in_turn("It says {{messages}}.", "Then.", "Well.")), summary_prompt=prompt) as (
        server,
        chat,
    ):
        say(chat, *range(1, 14))
        assert chat.conversation.summary().prompt == prompt
    first, second = folds(server)[0].messages, folds(server)[1].messages
    assert first[0]["content"].startswith('Given none and {"json": {{x}}}, sum up:\nUser: Tell me of #1')
    assert first[0]["content"].endswith("In {{language}}.")
    assert second[0]["content"].startswith("Given It says {{messages}}. and {"), (
        "what is filled in is not filled in again"
    )
    assert first[1] == {"role": "user", "content": CLOSING}


def test_a_placeholder_that_is_missing_has_its_section_appended():
    with talking(summary_prompt="Sum up {{messages}} briefly.") as (server, chat):
        say(chat, *range(1, 9))
    text = folds(server)[0].messages[0]["content"]
    assert text.index("briefly.") < text.index("### Previous summary")


def test_a_saved_prompt_is_named_by_its_version():
    with talking("Hm.") as (server, chat):
        prompt = chat.store.save_prompt("brief", "Sum up in a line.")
        with client(server, store=chat.store, summary_prompt=prompt) as other:
            say(other, *range(1, 30))
            frame = chat.store.summaries()
    assert set(frame["prompt_name"].astype(str)) == {"brief"}
    assert set(frame["prompt_version"]) == {1}


# -- windows ----------------------------------------------------------------------------------


def test_a_server_that_says_too_long_is_believed():
    """One forced fold, one repeat; afterwards its window is kept to."""
    policy = small(window_tokens=None, fold_at_tokens=380, reserve_output_tokens=20)
    with talking(manner={}, policy=policy) as (server, chat):
        say(chat, *range(1, 8), words=4)
        server._window_tokens = 520
        before = len(chats(server))
        reply = chat.ask("And now #8: " + "a story " * 150).result(WAIT_S)
        assert reply.text
        assert len(chats(server)) == before + 2
        calls = chat.store.calls()
        turns = calls[calls["purpose"] == "turn"]
        assert list(turns["status"].astype(str))[-2:] == ["failed", "complete"]
        assert chat.planner().limits.window_tokens == 520
        say(chat, *range(9, 16), words=20)
        assert sent_tokens(chats(server)[-1]) <= 520
        assert len(chats(server)) == before + 2 + 7
        assert chat.store.verify()


def too_long(words):
    return Status(400, body={"error": {"message": words, "type": "invalid_request_error", "code": None}})


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 500 tokens, however you requested 640 tokens (620 in the messages).",
        "the request exceeds the available context size",
        "maximum context length is 9999999 tokens",
    ],
)
def test_a_server_that_goes_on_saying_so_gets_one_repeat(words):
    policy = voxnb.ContextPolicy(fold_at_tokens=400, reserve_output_tokens=50, keep_last_turns=1)
    refuse = threading.Event()
    with talking(scripted(chat=lambda r: too_long(words) if refuse.is_set() else answer(r)), policy=policy) as (
        server,
        chat,
    ):
        say(chat, *range(1, 7))
        refuse.set()
        before = len(chats(server))
        with pytest.raises(errors.BadRequestError):
            chat.ask("And this: " + "a story " * 60).result(WAIT_S)
        assert len(chats(server)) == before + 2
        first, second = chats(server)[-2:]
        assert sent_tokens(second) < sent_tokens(first)
        refuse.clear()
        say(chat, 8)
        assert chat.store.verify()


def test_a_prompt_that_was_cut_is_told():
    """Ollama cuts silently; the reported tokens give it away."""
    manner = {"usage": lambda r: {"prompt_tokens": min(300, sent_tokens(r)), "completion_tokens": 9, "total_tokens": 0}}
    with talking(manner=manner, policy=small(window_tokens=4_000, fold_at_tokens=3_000)) as (_, chat):
        heard = listen(chat, ContextEvents.PromptCut)
        quiet = say(chat, 1, 2, words=20)
        loud = chat.ask("a long story " * 400).result(WAIT_S)
        assert [w for r in quiet for w in r.warnings] == []
        assert "the server cut the prompt" in loud.warnings[0]
        assert "window_tokens=300" in loud.warnings[0]
        assert "the server cut" in repr(loud)
        ((name, payload),) = heard
        assert name == "PromptCut"
        assert payload["reported_tokens"] == 300
        assert payload["estimated_tokens"] > 1_200
        assert ContextEvents.PromptCut.value in set(chat.store.events()["name"])


def test_the_window_is_asked_of_the_server():
    policy = voxnb.ContextPolicy(reserve_output_tokens=100)
    with (
        testing.server(scripted(), models=["m", TELLER], window_tokens=900) as server,
        client(server, policy=policy) as chat,
    ):
        for tag in range(1, 25):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12, model="m").result(WAIT_S)
        chat.idle().result(WAIT_S)
        frame = chat.store.calls()
        assert set(frame.loc[frame["purpose"] == "turn", "status"].astype(str)) == {"complete"}, "never too long"
        assert max(sent_tokens(r) for r in chats(server)) <= 800
        assert len(chat.store.summaries()) > 0
        assert chat.store.verify()
    assert [r.path for r in server.requests if r.method == "GET"].count("/v1/models") <= 2


def test_a_window_nobody_knows_is_assumed_and_told_once():
    with testing.server("Well.") as server, client(server, policy=None, summary_model="m") as chat:
        warnings = [chat.ask("Hello", model="m").result(WAIT_S).warnings for _ in range(3)]
    assert [len(w) for w in warnings] == [1, 0, 0]
    assert "8,192 tokens are assumed" in warnings[0][0]


# -- others meanwhile -------------------------------------------------------------------------


def test_what_is_undone_while_a_summary_is_written_is_not_covered_by_it():
    begun, release = threading.Event(), threading.Event()

    def slowly(request):
        if not begun.is_set():
            begun.set()
            assert release.wait(WAIT_S)
        return summarise(request)

    with talking(scripted(fold=slowly)) as (_, chat):
        for tag in range(1, 20):
            chat.ask(f"Tell me of #{tag}, " + "please " * 12).result(WAIT_S)
            if begun.is_set():
                break
        chat.conversation.undo(tag - 2)
        release.set()
        chat.idle().result(WAIT_S)
        assert chat.conversation.summary() is None
        assert len(chat.store.summaries()) == 0
        assert len(chat.conversation) == 2
        calls = chat.store.calls()
        assert (calls["purpose"] == "fold").sum() == 1, "it was paid for"
        say(chat, *range(30, 40))
        assert chat.store.verify()


def test_two_clients_of_one_conversation_cover_each_turn_once(tmp_path):
    with testing.server(scripted()) as server:
        store = voxnb.ContextStore(tmp_path / "store.db")
        with (
            client(server, store=store, conversation="iris") as one,
            client(server, store=store, conversation="iris") as two,
        ):
            for tag in range(1, 31, 2):
                turns = [one.ask(f"Tell me of #{tag}, " + "so " * 12), two.ask(f"Tell me of #{tag + 1}, " + "so " * 12)]
                voxnb.gather(turns)
            one.idle().result(WAIT_S)
            two.idle().result(WAIT_S)
            covered = list(store.coverage()["seq"])
            assert len(covered) == len(set(covered)) > 15
            assert sorted(t for turn in spoken(store, "iris") for t in told(turn[0][1])) == list(range(1, 31))
            assert list(store.summaries()["state"].astype(str)).count("live") == 1
            assert store.verify()
        store.close()


def test_a_fold_that_was_asked_for_tells_its_failure():
    with talking(scripted(fold=in_turn("", "", "All is well."))) as (_, chat):
        say(chat, 1, 2, 3)
        with pytest.raises(errors.SummaryError, match="wrote nothing") as caught:
            chat.conversation.fold(2).result(WAIT_S)
        assert caught.value.reason == "empty"
        assert chat.conversation.fold(2).result(WAIT_S).text == "All is well."
        assert chat.conversation.fold(2).result(WAIT_S) is None, "nothing is left to fold"


def test_the_events_of_a_fold_say_what_it_did():
    with talking() as (_, chat):
        heard = listen(chat, ContextEvents.ContextPlanned, ContextEvents.SummaryStarted, ContextEvents.SummaryFolded)
        say(chat, *range(1, 9))
        summary = chat.conversation.summary(0)
    names = [name for name, _ in heard]
    started, folded = names.index("SummaryStarted"), names.index("SummaryFolded")
    assert folded == started + 1
    assert heard[started][1]["turns"] == heard[folded][1]["turns"] == summary.turns
    told_of = heard[folded][1]
    assert (told_of["text"], told_of["model"], told_of["summary_id"]) == (summary.text, TELLER, summary.id)
    assert (told_of["tokens_before"], told_of["tokens_after"]) == (summary.tokens_before, summary.tokens_after)
    assert told_of["tokens_after"] < told_of["tokens_before"] - 37, "an eighth of fold_at_tokens at least"
    planned = heard[0][1]
    assert sum(planned["tokens"].values()) == planned["total_tokens"]
    assert planned["window_tokens"] == 800


@pytest.mark.parametrize("reported", ["digits in threes", "a cheap image"])
def test_a_server_that_counts_otherwise_cut_nothing(reported):
    """What images cost and how digits are split is not known of every server."""
    table = "\n".join(f"{n / 7:.6f},{n / 11:.6f}" for n in range(200))
    image = {"type": "image_url", "image_url": {"url": "https://pictures.example/bicycle.png"}}
    words = [{"type": "text", "text": "What is it?"}]
    said = table if reported == "digits in threes" else [*words, image]
    manner = {"usage": lambda r: {"prompt_tokens": sent_tokens(r) if isinstance(said, str) else 95}}
    with talking(manner=manner, policy=small(window_tokens=60_000, fold_at_tokens=50_000)) as (_, chat):
        reply = chat.create_chat_completions(messages=[{"role": "user", "content": said}]).result(WAIT_S)
        assert reply.warnings == ()
