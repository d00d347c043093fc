"""Restart & Run All: what was asked before is answered from the store, until something differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import voxnb
from tests.invariants.scripted import WAIT_S, chats, client, everything, scripted, small, spoken
from voxnb import OpenAI, testing
from voxnb.errors import APIError, ContextOverflowError, ConversationExistsError
from voxnb.testing import Drop, Status

REFUSED = Status(500, headers={"x-should-retry": "false"})
EVENTS = OpenAI.ChatCompletionsAPIEvents


@pytest.fixture
def server():
    with testing.server(scripted(lambda r: f"Answer {r.number}.")) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


def notebook(server, path, **parameters: Any):
    """A client as a cell makes it, by name."""
    given = {"store": path, "conversation": "iris", "if_exists": "reuse", "policy": None, **parameters}
    return client(server, **{k: v for k, v in given.items() if v is not None})


def run(chat, *texts, **request):
    replies = [chat.ask(text, **request).result(WAIT_S) for text in texts]
    chat.idle().result(WAIT_S)
    return replies


def test_running_all_again_makes_no_call_and_changes_nothing(server, path):
    with notebook(server, path, instructions="Be brief.") as chat:
        first = run(chat, "One", "Two", "Three")
        before = everything(chat.store)
    asked = len(server.requests)
    with notebook(server, path, instructions="Be brief.") as chat:
        second = run(chat, "One", "Two", "Three")
        assert everything(chat.store) == before
    assert len(server.requests) == asked
    assert [r.text for r in second] == [r.text for r in first]
    assert [r.turn for r in second] == [r.turn for r in first]
    assert [r.reused for r in first] == [False] * 3
    assert [r.reused for r in second] == [True] * 3
    assert [r.finish_reason for r in second] == ["stop"] * 3
    assert second[2].plan.exact


def test_the_file_itself_is_byte_for_byte_the_same(server, path):
    with notebook(server, path) as chat:
        run(chat, "One", "Two")
        chat.store.close()
    before = Path(path).read_bytes()
    with notebook(server, path) as chat:
        run(chat, "One", "Two")
        chat.store.close()
    assert Path(path).read_bytes() == before


def test_what_follows_the_old_end_is_asked(server, path):
    with notebook(server, path) as chat:
        run(chat, "One", "Two")
    with notebook(server, path) as chat:
        replies = run(chat, "One", "Two", "Three", "Four")
        assert [r.reused for r in replies] == [True, True, False, False]
        assert [t[0][1] for t in spoken(chat.store, "iris")] == ["One", "Two", "Three", "Four"]
        assert chat.store.verify()
    assert [m["content"] for m in chats(server)[2].messages] == ["One", "Answer 1.", "Two", "Answer 2.", "Three"]


def test_the_first_request_that_differs_branches(server, path):
    with notebook(server, path) as chat:
        run(chat, "One", "Two", "Three")
    with notebook(server, path) as chat:
        replies = run(chat, "One", "Zwei", "Three")
        assert [r.reused for r in replies] == [True, False, False], "after a branch nothing is the same any more"
        assert [t[0][1] for t in spoken(chat.store, "iris")] == ["One", "Zwei", "Three"]
        assert [m["content"] for m in chats(server)[-1].messages] == ["One", "Answer 1.", "Zwei", "Answer 4.", "Three"]
        texts = chat.store.database.read("SELECT text FROM message WHERE role = 'user' ORDER BY id")
        assert [t for (t,) in texts] == ["One", "Two", "Three", "Zwei", "Three"], "the old turns stay in the store"
        assert chat.store.verify()


@pytest.mark.parametrize(
    ("change", "request_change"),
    [
        ({"model": "gpt-4o-mini"}, {"temperature": 0.5}),
        ({}, {"model": "gpt-4.1"}),
        ({"instructions": "Be long."}, {}),
        ({}, {"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}]}),
        ({}, {"response_format": {"type": "json_object"}}),
    ],
)
def test_another_request_is_another_request(server, path, change, request_change):
    with notebook(server, path, instructions="Be brief.") as chat:
        run(chat, "One")
    change.pop("model", None)
    with notebook(server, path, **{"instructions": "Be brief.", **change}) as chat:
        assert [r.reused for r in run(chat, "One", **request_change)] == [False]
        assert len(chat.conversation) == 1


def test_no_instructions_means_the_last_ones(server, path):
    with notebook(server, path, instructions="Be brief.") as chat:
        run(chat, "One")
    with notebook(server, path) as chat:
        assert [r.reused for r in run(chat, "One")] == [True]


def tool_server(request):
    if request.messages[-1]["role"] == "tool":
        return f"It is {request.messages[-1]['content']}."
    if "tool" in request.text:
        return {"content": None, "tool_calls": [{"id": "a", "name": "look", "arguments": {}}]}
    return f"Answer {request.number}."


def tool_run(chat, result):
    replies = run(chat, "A tool please")
    call = replies[0].tool_calls[0]["id"]
    message = {"role": "tool", "tool_call_id": call, "content": result}
    replies.append(chat.create_chat_completions(messages=[message]).result(WAIT_S))
    return [*replies, *run(chat, "And then?")]


def test_tool_loops_are_repeated_too(path):
    with testing.server(scripted(tool_server)) as server:
        with notebook(server, path) as chat:
            first = tool_run(chat, "31")
            before = everything(chat.store)
        with notebook(server, path) as chat:
            second = tool_run(chat, "31")
            assert everything(chat.store) == before
        assert len(server.requests) == 3
    assert [r.text for r in second] == [r.text for r in first] == ["", "It is 31.", "Answer 3."]
    assert [r.finish_reason for r in second] == ["tool_calls", "stop", "stop"]
    assert second[0].tool_calls == first[0].tool_calls


def test_another_tool_result_branches_within_the_turn(path):
    with testing.server(scripted(tool_server)) as server:
        with notebook(server, path) as chat:
            tool_run(chat, "31")
        with notebook(server, path) as chat:
            replies = tool_run(chat, "32")
            assert [r.reused for r in replies] == [True, False, False]
            assert [[m[1] for m in t] for t in spoken(chat.store, "iris")] == [
                ["A tool please", "", "32", "It is 32."],
                ["And then?", "Answer 5."],
            ]
            assert chat.store.verify()
            assert chat.conversation.explain(1).exact
        assert [m["role"] for m in server.requests[-2].messages] == ["user", "assistant", "tool"]


def test_whole_lists_are_repeated_too(server, path):
    def session(chat):
        history: list[Any] = []
        replies = []
        for text in ("One", "Two", "Three"):
            history.append({"role": "user", "content": text})
            system = {"role": "system", "content": "Be brief."}
            replies.append(chat.create_chat_completions(messages=[system, *history]).result(WAIT_S))
            history.append(dict(replies[-1].message))
        return replies

    with notebook(server, path) as chat:
        session(chat)
        before = everything(chat.store)
    with notebook(server, path) as chat:
        assert [r.reused for r in session(chat)] == [True] * 3
        assert everything(chat.store) == before
    assert len(server.requests) == 3


def test_a_turn_that_failed_is_passed_over(path):
    """The cell was run again until it worked: Run All runs it once."""
    with testing.server(scripted(lambda r: REFUSED if r.number == 2 else f"Answer {r.number}.")) as server:
        with notebook(server, path) as chat:
            run(chat, "One")
            with pytest.raises(APIError):
                run(chat, "Two")
            run(chat, "Two", "Three")
            before = everything(chat.store)
        with notebook(server, path) as chat:
            assert [r.text for r in run(chat, "One", "Two", "Three")] == ["Answer 1.", "Answer 3.", "Answer 4."]
            assert everything(chat.store) == before
        assert len(server.requests) == 4


def test_after_a_request_that_always_fails_the_rest_is_still_answered_from_the_store(path):
    """A cell that shows how an error is caught must not make every run ask all that follows."""

    def cells(chat):
        for text in ("One", "fail", "fail again", "Two", "Three"):
            try:
                yield chat.ask(text).result(WAIT_S).reused
            except (APIError, ContextOverflowError):
                yield None

    def answer(request):
        return REFUSED if "fail" in str(request.messages[-1]["content"]) else f"Answer {request.number}."

    with testing.server(scripted(answer)) as server:
        with notebook(server, path) as chat:
            assert list(cells(chat)) == [False, None, None, False, False]
            before = spoken(chat.store, "iris")
        for _ in range(3):
            asked = len(server.requests)
            with notebook(server, path) as chat:
                assert list(cells(chat)) == [True, None, None, True, True]
                assert spoken(chat.store, "iris") == before
                assert chat.store.verify()
            assert len(server.requests) - asked == 2, "what failed is tried again, and nothing else"
        with notebook(server, path, policy=voxnb.ContextPolicy(window_tokens=600)) as chat:
            assert run(chat, "One")[0].reused
            with pytest.raises(ContextOverflowError):
                chat.ask("too much " * 1000).result(WAIT_S)
            assert [r.reused for r in run(chat, "Two", "Three", "Four")] == [True, True, False]
            assert [t[0][1] for t in spoken(chat.store, "iris")] == [*(t[0][1] for t in before), "Four"]


def test_what_is_asked_after_a_failure_in_a_repeated_run_follows_it_and_a_retry_asks_it_again(path):
    broken = [False]

    def answer(request):
        return REFUSED if broken[0] else f"Answer {request.number}."

    with testing.server(scripted(answer)) as server:
        with notebook(server, path) as chat:
            run(chat, "One", "Two", "Three")
        broken[0] = True
        with notebook(server, path) as chat:
            run(chat, "One")
            for ask in (lambda: chat.ask("Zwei"), chat.conversation.retry):
                with pytest.raises(APIError):
                    ask().result(WAIT_S)
            broken[0] = False
            assert chat.conversation.retry().result(WAIT_S).text == f"Answer {len(server.requests)}."
            assert [r.reused for r in run(chat, "Three")] == [False], "another turn is before it now"
            assert [t[0][1] for t in spoken(chat.store, "iris")] == ["One", "Zwei", "Three"]
            assert chat.store.verify()


def test_half_an_answer_is_asked_for_again(path):
    half = Drop(after_events=6, reply="This is the beginning of an answer that will not end.")
    with testing.server(scripted(lambda r: half if r.number == 2 else f"Answer {r.number}.")) as server:
        with notebook(server, path) as chat:
            run(chat, "One")
            with pytest.raises(APIError):
                run(chat, "Two")
        with notebook(server, path) as chat:
            assert [r.reused for r in run(chat, "One", "Two")] == [True, False]
            assert [t[-1][1] for t in spoken(chat.store, "iris")] == ["Answer 1.", "Answer 3."]
            assert chat.store.verify()


def test_listeners_hear_a_repeated_answer_as_the_first_time(server, path):
    heard: list[list[tuple[str, Any]]] = []
    for _ in range(2):
        with notebook(server, path) as chat:
            heard.append([])
            for event in (EVENTS.ContentDelta, EVENTS.ContentDone):
                chat.on(event, lambda e, to=heard[-1]: to.append((e.name, e.payload.get("content"))))
            turn = chat.ask("One")
            assert "".join(turn) == "Answer 1."
    assert [n for n, _ in heard[0]][-1] == heard[1][-1][0] == EVENTS.ContentDone
    assert heard[0][-1] == heard[1][-1]


def test_requests_that_queue_are_repeated_in_order(server, path):
    with notebook(server, path) as chat:
        voxnb.gather([chat.ask(text) for text in ("One", "Two", "Three")])
    with notebook(server, path) as chat:
        replies = voxnb.gather([chat.ask(text) for text in ("One", "Two", "Three", "Four")])
        assert [r.reused for r in replies] == [True, True, True, False]
        assert len(chat.conversation) == 4


def test_a_branch_before_what_is_folded_takes_the_summary_back(path):
    with testing.server(scripted()) as server:
        texts = [f"Tell me of #{n}, " + "please " * 15 for n in range(1, 13)]
        with notebook(server, path, policy=small()) as chat:
            for text in texts:
                run(chat, text)
            assert chat.conversation.summary().last_seq > 4
            before = everything(chat.store)
        with notebook(server, path, policy=small()) as chat:
            assert all(r.reused for r in run(chat, *texts))
            assert everything(chat.store) == before
        with notebook(server, path, policy=small()) as chat:
            replies = run(chat, *texts[:2], "Something else")
            assert [r.reused for r in replies] == [True, True, False]
            assert chat.conversation.summary() is None
            assert chat.store.verify()
        assert [m["content"] for m in chats(server)[-1].messages if m["role"] == "user"] == [
            *texts[:2],
            "Something else",
        ]


def test_append_is_the_default_and_adds(server, path):
    for _ in range(2):
        with notebook(server, path, if_exists=None) as chat:
            run(chat, "One")
    assert [t[0][1] for t in spoken(chat.store, "iris")] == ["One", "One"]


def test_fail_refuses_what_exists_and_makes_what_does_not(server, path):
    with notebook(server, path, if_exists="fail") as chat:
        with notebook(server, path, if_exists="fail") as late:
            run(chat, "One", "Two")
            with pytest.raises(ConversationExistsError, match="iris"):
                run(late, "One")
        assert len(chat.conversation) == 2
    with pytest.raises(ConversationExistsError, match="choose another name"):
        notebook(server, path, if_exists="fail")


def test_the_client_says_new_or_resumed(server, path):
    with notebook(server, path) as chat:
        assert "'iris', new" in repr(chat)
        run(chat, "One")
        assert "new, 1 turn" in repr(chat)
    with notebook(server, path) as chat:
        assert "resumed, 1 turn" in repr(chat)


@settings(max_examples=15)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_exactly_the_common_beginning_is_repeated(first, second):
    with testing.server(scripted(lambda r: f"Answer {r.number}.")) as server:
        store = voxnb.ContextStore(":memory:")
        with notebook(server, store) as chat:
            run(chat, *first)
        with notebook(server, store) as chat:
            replies = run(chat, *second)
        common = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
        common = min(len(first), len(second)) if common is None else common
        assert [r.reused for r in replies] == [n < common for n in range(len(second))]
        kept = second if common < len(second) else first
        assert [t[0][1] for t in spoken(store, "iris")] == kept
        assert store.verify()


def test_a_notebook_with_retries_runs_again_without_a_call_and_a_new_retry_is_one(server, path):
    def cells(chat):
        run(chat, "One", "Two")
        again = [chat.conversation.retry().result(WAIT_S) for _ in range(2)]
        return [*again, *run(chat, "Three")]

    with notebook(server, path) as chat:
        first = cells(chat)
        before = everything(chat.store)
    asked = len(server.requests)
    for _ in range(2):
        with notebook(server, path) as chat:
            second = cells(chat)
            assert everything(chat.store) == before
        assert len(server.requests) == asked
        assert [r.text for r in second] == [first[1].text, *(r.text for r in first[1:])]
        assert [r.reused for r in second] == [True] * 3
    with notebook(server, path) as chat:
        cells(chat)
        fresh = chat.conversation.retry().result(WAIT_S)
        assert not fresh.reused
        assert len(chat.conversation) == 3
    assert len(server.requests) == asked + 1


def test_a_failed_turn_that_was_retried_runs_again_without_a_call(path):
    broken = [REFUSED, "Well.", "Fine."]
    with testing.server(lambda r: broken.pop(0) if broken else "More.") as server:
        for _ in range(3):
            with notebook(server, path) as chat:
                turn = chat.ask("One")
                if len(chat.store.turns()) <= 1 and broken:
                    with pytest.raises(APIError):
                        turn.result(WAIT_S)
                else:
                    turn.result(WAIT_S)
                assert chat.conversation.retry().result(WAIT_S).text == "Well."
                assert chat.ask("Two").result(WAIT_S).text == "Fine."
        assert len(server.requests) == 3
