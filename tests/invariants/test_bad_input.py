"""What is wrong with a request is said before anything is sent, and the stored conversation stays as it was."""

from __future__ import annotations

import math

import pytest

import voxnb
from tests.invariants.scripted import (
    MODEL,
    TELLER,
    WAIT_S,
    chats,
    client,
    everything,
    say,
    sent_tokens,
    small,
    talking,
)
from voxnb import ContextPolicy, errors, local, testing

ONE = {"role": "user", "content": "One"}


def test_no_key_and_no_address_names_what_needs_none():
    with pytest.raises(errors.CredentialsError, match=r'base_url="local"') as caught:
        voxnb.chat(MODEL, store=":memory:")
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "ollama" in str(caught.value)


def test_a_misspelt_parameter_is_told_the_nearest():
    for given, meant in (
        ({"sumary_model": "x"}, "summary_model"),
        ({"storeContent": True}, "store_context"),
        ({"baseURL": "http://x"}, "base_url"),
        ({"instruction": "x"}, "instructions"),
    ):
        with pytest.raises(errors.ParameterError, match=f"did you mean '{meant}'") as caught:
            voxnb.ChatCompletionsAPIClient(given)
        assert caught.value.nearest[0] == meant
    with pytest.raises(errors.ParameterError, match="both spellings"):
        voxnb.ChatCompletionsAPIClient({"summaryModel": "a"}, summary_model="b")


@pytest.mark.parametrize("said", [[ONE], "One"])
def test_what_is_said_in_place_of_the_dict_is_told_where_it_belongs(said):
    with (
        talking(["Well."]) as (_, chat),
        pytest.raises(errors.ParameterError, match=r"create_chat_completions\(messages=") as told,
    ):
        chat.createChatCompletions(said)
    assert "ask('…')" in str(told.value)
    with (
        voxnb.ResponsesAPIClient(model="m", base_url="http://127.0.0.1:9/v1") as client,
        pytest.raises(errors.ParameterError, match=r"create_responses\(input="),
    ):
        client.create_responses(said)


def test_a_served_model_in_place_of_its_address_is_told_what_to_write():
    model = local.Model("some.gguf")
    with pytest.raises(errors.ParameterError, match=r"chat\(m\.name, base_url=m\.base_url, api_key=m\.api_key\)"):
        voxnb.chat(base_url=model, store=":memory:")


@pytest.mark.parametrize(
    "given",
    [
        {"timeout_s": 0},
        {"timeout_s": math.nan},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_parallel": 0},
        {"store_context": "yes"},
        {"if_exists": "maybe"},
        {"summary_prompt": 3},
        {"summary_prompt": "  "},
        {"policy": {"window_tokens": 100}},
        {"metadata": [1]},
        {"metadata": {"a": object()}},
        {"summary_request": {"temperature": math.nan}},
        {"summary_client": "gpt-4o"},
        {"api_key": 7},
        {"trace": True, "privacy": True},
        {"on_web_socket_close": "f"},
        {"conversation": 3},
        {"conversation": ""},
        {"policy": {}},
        {"store": 5},
    ],
    ids=lambda given: "+".join(given),
)
def test_a_parameter_out_of_its_range_is_refused_with_its_name(given):
    with testing.server() as server, pytest.raises(errors.ParameterError) as caught:
        client(server, **given)
    assert caught.value.name in given


def test_a_memory_needs_to_be_switched_on():
    with testing.server() as server:
        given = {"base_url": server.base_url, "model": MODEL}
        with pytest.raises(errors.ParameterError, match="store_context=True"):
            voxnb.ChatCompletionsAPIClient(given, conversation="iris")
        with voxnb.ChatCompletionsAPIClient(given) as bare:
            for use in (lambda: bare.conversation, lambda: bare.store):
                with pytest.raises(errors.ConversationError, match="store_context=True"):
                    use()


@pytest.mark.parametrize(
    "numbers",
    [
        {"window_tokens": 1_000, "reserve_output_tokens": 1_000},
        {"window_tokens": 1_000, "fold_at_tokens": 950},
        {"fold_at_tokens": 500, "fold_to_tokens": 500},
        {"fold_at_tokens": 500, "summary_max_tokens": 300},
        {"fold_at_turns": 3, "keep_last_turns": 4},
        {"window_tokens": 0},
        {"window_tokens": -5},
        {"window_tokens": 1_000.5},
        {"keep_last_turns": -1},
        {"summary_role": "tool"},
        {"background": None},
        {"count": 3},
    ],
    ids=str,
)
def test_a_budget_that_cannot_hold_together_fails_where_it_is_made(numbers):
    with pytest.raises(errors.BudgetError) as caught:
        ContextPolicy(**numbers)
    assert any(name in str(caught.value) for name in numbers)


def test_a_budget_that_does_not_fit_the_models_window_fails_before_the_call():
    policy = ContextPolicy(fold_at_tokens=4_000)
    with testing.server(models=["m"], window_tokens=2_000) as server, client(server, policy=policy) as chat:
        with pytest.raises(errors.BudgetError, match="fold_at_tokens is 4,000"):
            chat.ask("One", model="m").result(WAIT_S)
        assert chats(server) == []
        with pytest.raises(errors.BudgetError, match="reserve_output_tokens is 9,000"):
            chat.ask("One", model="m", max_tokens=9_000).result(WAIT_S)


BAD_LISTS = {
    "a text": ("Hello", "expected a list"),
    "one message": (ONE, "expected a list"),
    "bytes": (b"Hello", "expected a list"),
    "nothing": (None, "expected a list"),
    "a number in it": ([3], "message 0 is int"),
    "no role": ([{"content": "x"}], "role None"),
    "another role": ([ONE, {"role": "human", "content": "x"}], "message 1 has role 'human'"),
    "no content": ([{"role": "user"}], "no content"),
    "bytes inside": ([{"role": "user", "content": b"x"}], "attach="),
    "bytes in a part": ([{"role": "user", "content": [{"type": "image", "data": b"x"}]}], "attach="),
    "not a number": ([{"role": "user", "content": "x", "score": math.nan}], "nan"),
    "infinite": ([{"role": "user", "content": [{"type": "x", "n": math.inf}]}], "inf"),
    "a set": ([{"role": "user", "content": "x", "tags": {1}}], "set"),
    "half a character": ([{"role": "user", "content": "\ud800"}], "not Unicode"),
    "a number as text": ([{"role": "user", "content": 3}], "content of type int"),
    "a part without type": ([{"role": "user", "content": [{"text": "x"}]}], "part 0 without a type"),
    "a result of no call": ([{"role": "tool", "content": "x"}], "no tool_call_id"),
    "calls by the user": ([{"role": "user", "content": "x", "tool_calls": [{"id": "a"}]}], "only the assistant"),
    "a call without id": ([ONE, {"role": "assistant", "tool_calls": [{"function": {}}]}], "without an id"),
}


@pytest.mark.parametrize("what", BAD_LISTS)
def test_a_message_list_that_is_none_is_refused_at_once(what):
    messages, words = BAD_LISTS[what]
    with talking("Well.") as (server, chat):
        chat.ask("Zero").result(WAIT_S)
        before = everything(chat.store)
        with pytest.raises(errors.MessageError, match=words):
            chat.create_chat_completions(messages=messages)
        if what not in ("a text", "nothing"):  # plan() takes a text, and nothing shows what is there
            with pytest.raises(errors.MessageError, match=words):
                chat.conversation.plan(messages)
        assert everything(chat.store) == before
        assert len(chats(server)) == 1


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "tool", "tool_call_id": "a", "content": "x"}], "no assistant message called"),
        ([ONE, {"role": "tool", "tool_call_id": "a", "content": "x"}], "message 1 is the result of 'a'"),
        ([{"role": "system", "content": "Be brief."}], "no message but instructions"),
    ],
)
def test_a_list_that_does_not_pair_is_refused_before_the_call(messages, words):
    with talking("Well.") as (server, chat):
        chat.ask("Zero").result(WAIT_S)
        before = everything(chat.store)
        with pytest.raises(errors.MessageError, match=words):
            chat.create_chat_completions(messages=messages).result(WAIT_S)
        assert everything(chat.store) == before
        assert len(chats(server)) == 1
        assert chat.ask("One").result(WAIT_S).text == "Well."


def test_of_parallel_calls_all_results_come_together():
    calls = {"tool_calls": [{"id": "a", "name": "look"}, {"id": "b", "name": "look"}]}
    with talking(lambda r: calls if r.number == 1 else "Well.") as (server, chat):
        chat.ask("Zero").result(WAIT_S)
        half = [{"role": "tool", "tool_call_id": "b", "content": "x"}]
        for messages, words in (
            (half, "'a' has no result; send the results of all calls together"),
            ([{"role": "tool", "tool_call_id": "c", "content": "x"}], "waiting are 'a', 'b'"),
        ):
            with pytest.raises(errors.MessageError, match=words):
                chat.create_chat_completions(messages=messages).result(WAIT_S)
        both = [*half, {"role": "tool", "tool_call_id": "a", "content": "y"}]
        assert chat.create_chat_completions(messages=both).result(WAIT_S).text == "Well."
        assert len(chat.conversation) == 1
        assert chat.store.verify()


def test_a_request_that_is_no_json_is_refused_at_once():
    with talking("Well.") as (server, chat):
        for name, value in (("temperature", math.nan), ("user", b"me"), ("metadata", {"a": {1}}), ("stop", object())):
            with pytest.raises(errors.ParameterError, match=f"{name} cannot be written as JSON"):
                chat.ask("One", **{name: value})
        with pytest.raises(errors.ParameterError, match="no model"), client(server, model=None) as chat:
            chat._parameters = chat._parameters.__class__(base_url=server.base_url)
            chat.ask("One")
        assert chats(server) == []


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"tools": 5}, "tools is 5"),
        ({"tools": ["weather"]}, "tools\\[0\\] is 'weather'"),
        ({"functions": {"name": "f"}}, "expected a list"),
        ({"stream_options": 5}, "stream_options is 5"),
        ({"response_format": "json"}, "response_format is 'json'"),
        ({"model": 5}, "model is 5"),
        ({"metadata": [1]}, "metadata is"),
    ],
    ids=lambda given: "+".join(given) if isinstance(given, dict) else "",
)
def test_a_part_of_the_wrong_kind_is_refused_with_its_name(given, what):
    with talking("Well.") as (server, chat):
        with pytest.raises(errors.ParameterError, match=what) as caught:
            chat.ask("One", **given)
        assert caught.value.name in given
        assert chats(server) == []
        assert not chat.conversation.exists


def test_a_misspelt_policy_is_told_the_nearest():
    with pytest.raises(errors.ParameterError, match="no 'windw_tokens'; did you mean 'window_tokens'") as caught:
        ContextPolicy(windw_tokens=5)
    assert caught.value.nearest[0] == "window_tokens"


def test_nothing_said_is_refused():
    with talking("Well.") as (server, chat):
        for ask in (lambda: chat.ask(), lambda: chat.ask(b"x"), lambda: chat.ask(3), lambda: chat.ask(math.nan)):
            with pytest.raises(errors.MessageError):
                ask()
        with pytest.raises(errors.ParameterError, match="messages is empty"):
            chat.create_chat_completions(messages=[])
        assert chats(server) == []
        assert not chat.conversation.exists


def test_a_message_that_alone_is_too_long_names_the_parts():
    with talking(instructions="Be brief. " * 10) as (server, chat):
        say(chat, *range(1, 9))
        before, asked = everything(chat.store), len(server.requests)
        turn = chat.ask("far too long " * 400)
        with pytest.raises(errors.ContextOverflowError, match="current turn") as caught:
            turn.result(WAIT_S)
        error = caught.value
        assert len(server.requests) == asked, "nothing was asked of any model"
        assert error.window_tokens == 800
        assert error.parts["current turn"] > 1_200
        assert error.parts["reserve"] == 100
        assert 25 <= error.parts["instructions"] <= 40
        assert turn.state == "failed"
        after = everything(chat.store)
        kept = [(t[0], t[4]) for t in before["turn"]]
        assert [(t[0], t[4]) for t in after["turn"]][: len(kept)] == kept
        assert (after["summary"], after["coverage"], after["pin"]) == (
            before["summary"],
            before["coverage"],
            before["pin"],
        )
        assert list(chat.store.turns()["state"].astype(str))[-1] == "failed"
        assert len(say(chat, 9)) == 1
        assert all("far too long" not in str(m) for m in chats(server)[-1].messages)
        assert chat.store.verify()


def test_pinned_turns_that_fill_the_window_are_named():
    with talking() as (server, chat):
        say(chat, 1, 2, 3, 4, words=60)
        for turn in (1, 2, 3, 4):
            chat.conversation.pin(turn)
        with pytest.raises(errors.ContextOverflowError, match="pinned") as caught:
            chat.ask("and this one " * 80).result(WAIT_S)
        assert caught.value.parts["pinned"] > 300
        chat.conversation.unpin(1)
        chat.conversation.unpin(2)
        chat.ask("and this one " * 80).result(WAIT_S)
        assert chat.store.verify()


def test_tools_count_and_are_named():
    tools = [
        {"type": "function", "function": {"name": f"look_{n}", "description": "look at it " * 30, "parameters": {}}}
        for n in range(20)
    ]
    with talking() as (server, chat):
        with pytest.raises(errors.ContextOverflowError, match="send fewer tools") as caught:
            chat.ask("One", tools=tools).result(WAIT_S)
        assert caught.value.parts["tools"] > 1_000
        chat.ask("One", tools=tools[:5]).result(WAIT_S)
        assert sent_tokens(chats(server)[0]) == chat.store.calls()["estimated_prompt_tokens"].iloc[-1]


def test_the_replys_own_limit_is_reserved():
    with talking(policy=small(reserve_output_tokens=None, fold_at_tokens=None)) as (server, chat):
        with pytest.raises(errors.ContextOverflowError) as caught:
            chat.ask("some words " * 100, max_tokens=700).result(WAIT_S)
        assert caught.value.parts["reserve"] == 700
        chat.ask("some words " * 100, max_tokens=100).result(WAIT_S)
        assert chat.store.verify()


def test_an_unknown_conversation_names_the_nearest():
    with talking("Well.", conversation="iris") as (_, chat):
        chat.ask("One").result(WAIT_S)
        with pytest.raises(errors.UnknownConversationError, match="did you mean 'iris'") as caught:
            chat.store["irsi"]
        assert isinstance(caught.value, KeyError)
        assert caught.value.nearest == ("iris",)


@pytest.mark.parametrize("which", [0, 4, -4, "t-none", None, 1.5, True, "iris"])
def test_a_turn_that_is_none_is_said_to_be_none(which):
    with talking("Well.", conversation="iris") as (_, chat):
        for text in ("One", "Two", "Three"):
            chat.ask(text).result(WAIT_S)
        for verb in (chat.conversation.pin, chat.conversation.explain, chat.conversation.number_of):
            with pytest.raises(errors.ConversationError, match="iris"):
                verb(which)
        assert len(chat.conversation) == 3


def test_verbs_with_numbers_out_of_range_change_nothing():
    with talking("Well.", conversation="iris") as (_, chat):
        for text in ("One", "Two"):
            chat.ask(text).result(WAIT_S)
        before = everything(chat.store)
        for verb in (
            lambda c: c.undo(3),
            lambda c: c.undo(0),
            lambda c: c.undo("1"),
            lambda c: c.fork(5),
            lambda c: c.fork(1, name="iris"),
            lambda c: c.fold(3),
            lambda c: c.rename(" "),
            lambda c: c.summary(4),
        ):
            with pytest.raises(errors.ConversationError):
                verb(chat.conversation)
        assert everything(chat.store) == before


def test_a_conversation_of_the_store_alone_asks_for_a_client():
    with talking("Well.", conversation="iris") as (server, chat):
        chat.ask("One").result(WAIT_S)
        alone = chat.store["iris"]
        for verb in (alone.fold, alone.retry):
            with pytest.raises(errors.ConversationError, match="client="):
                verb()
            with pytest.raises(errors.ConversationError, match="client is 'gpt-4o', expected a client"):
                verb(client="gpt-4o")
        with client(server) as elsewhere, pytest.raises(errors.ConversationError, match="this client's store"):
            alone.retry(client=elsewhere)
        assert alone.retry(client=chat).result(WAIT_S).text == "Well."


def test_a_closed_client_says_so():
    with talking("Well.") as (server, chat):
        chat.ask("One").result(WAIT_S)
        chat.close()
        chat.close()
        for use in (
            lambda: chat.ask("Two"),
            lambda: chat.create_chat_completions(messages=[ONE]),
            lambda: chat.conversation.retry(),
            lambda: chat.conversation.fold(),
        ):
            with pytest.raises(errors.ClientClosedError, match="make a new one"):
                use()
        assert "closed" in repr(chat)
        assert len(chat.conversation) == 1
        assert len(chats(server)) == 1


def test_a_closed_store_says_so():
    with talking("Well.") as (server, chat):
        chat.ask("One").result(WAIT_S)
        chat.store.close()
        with pytest.raises(errors.StoreError, match="closed"):
            chat.ask("Two").result(WAIT_S)
        assert len(chats(server)) == 1


def test_a_store_that_may_not_be_written_is_said_before_the_call(tmp_path):
    path = tmp_path / "store.db"
    with talking("Well.", store=str(path), conversation="iris") as (server, chat):
        chat.ask("One").result(WAIT_S)
        chat.store.close()
        reader = voxnb.ContextStore(path, read_only=True)
        with client(server, store=reader, conversation="iris") as chat:
            with pytest.raises(errors.StoreReadOnlyError, match="read-only"):
                chat.ask("Two").result(WAIT_S)
            assert len(chat.conversation) == 1
            assert "One" in str(chat.conversation.plan("Two").messages)
        assert len(chats(server)) == 1
        reader.close()


def test_a_summary_prompt_with_a_near_miss_warns():
    with testing.server() as server, pytest.warns(UserWarning, match=r"did you mean '\{\{messages\}\}'"):
        client(server, summary_prompt="Sum up { messages }").close()


def test_a_full_window_of_the_summary_model_is_a_failed_fold():
    with testing.server("Well.") as server:
        teller = voxnb.ChatCompletionsAPIClient(
            base_url=server.base_url, model=TELLER, policy=ContextPolicy(window_tokens=300)
        )
        with teller, client(server, summary_client=teller) as chat:
            chat.ask("One").result(WAIT_S)
            with pytest.raises(errors.SummaryError, match="leave no room in the window"):
                chat.conversation.fold(1).result(WAIT_S)
            assert chat.ask("Two").result(WAIT_S).text == "Well."


@pytest.mark.parametrize("name", ["messages", "input"])
def test_ask_takes_a_text_and_names_the_method_that_takes_messages(name):
    with talking() as (server, chat):
        with pytest.raises(errors.ParameterError, match=r"create_chat_completions\(…\)") as caught:
            chat.ask("One", **{name: [ONE]})
        assert caught.value.name == name
        assert server.requests == []
        assert len(chat.conversation) == 0
    with testing.server("Well.") as server, pytest.raises(errors.ParameterError, match=r"create_responses\(…\)"):
        voxnb.ResponsesAPIClient(base_url=server.base_url, model=MODEL).ask(**{name: [ONE]})


@pytest.mark.parametrize("given", [{"temperature": 0.2}, {"maxTokens": 100}])
def test_what_belongs_to_a_request_is_not_a_parameter_of_the_client(given):
    with pytest.raises(errors.ParameterError, match=r"of a request: ask\(…, \w+=…\)"):
        voxnb.chat(MODEL, base_url="http://127.0.0.1:9/v1", store=":memory:", **given)


def test_a_filter_that_no_table_has_is_told_the_nearest():
    with talking("Well.") as (_, chat):
        chat.ask("One").result(WAIT_S)
        for table in (chat.store.turns, chat.conversation.messages):
            with pytest.raises(errors.ParameterError, match="did you mean 'columns'") as caught:
                table(column=["role"])
            assert caught.value.nearest[0] == "columns"


def test_a_list_that_ends_early_says_so_and_not_that_it_differs():
    with talking("Well.") as (server, chat):
        for text in ("One", "Two", "Three"):
            chat.ask(text).result(WAIT_S)
        sent = chats(server)[-1].messages
        with pytest.raises(errors.HistoryConflictError, match="the messages end before turn 2"):
            chat.create_chat_completions(messages=sent[:2]).result(WAIT_S)
        assert len(chat.conversation) == 3


def test_a_list_that_was_answered_is_said_to_be_and_what_to_do_then():
    """A cell of the stateless habit, run twice."""
    said = [{"role": r, "content": c} for r, c in (("user", "One"), ("assistant", "Hm."), ("user", "Two"))]
    with talking("Well.") as (_, chat):
        chat.create_chat_completions(messages=said).result(WAIT_S)
        words = r"has the answer of turn 2.*conversation\.retry\(\) asks again, conversation\.undo\(1\).*\"reuse\""
        with pytest.raises(errors.HistoryConflictError, match=words) as caught:
            chat.create_chat_completions(messages=said).result(WAIT_S)
        assert caught.value.index == 3
        chat.ask("Three").result(WAIT_S)
        with pytest.raises(errors.HistoryConflictError, match=r"answer of turn 2: they were sent before; .*undo\(2\)"):
            chat.create_chat_completions(messages=said).result(WAIT_S)
        with pytest.raises(errors.HistoryConflictError, match="message 3 differs from turn 2"):
            chat.create_chat_completions(messages=[*said, {"role": "user", "content": "?"}]).result(WAIT_S)
        chat.conversation.undo(2)
        assert chat.create_chat_completions(messages=said).result(WAIT_S).text == "Well."
        assert chat.store.verify()


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (lambda text: len(text) / 4, r"gave 1.0 \(float\) for 4 characters, expected a whole number"),
        (lambda text: -1, "gave -1"),
        (lambda text: None, "gave None"),
        (lambda text: 1 << 63, "gave 9223372036854775808"),
        (lambda text: 1 / 0, r"raised ZeroDivisionError \(division by zero\)"),
    ],
)
def test_a_count_that_gives_no_number_of_tokens_is_refused_before_it_is_in_the_store(count, reason):
    with talking(["Well.", "Well."], policy=ContextPolicy(window_tokens=1_000)) as (server, chat):
        chat.ask("One").result(WAIT_S)
        before = everything(chat.store)
        given = {"store": chat.store, "conversation": chat.conversation.id, "max_retries": 0}
        with client(server, policy=ContextPolicy(window_tokens=1_000, count=count), **given) as other:
            with pytest.raises(errors.BudgetError, match=reason):
                other.ask("Two").result(WAIT_S)
        assert everything(chat.store) == before
        assert chat.ask("Two").result(WAIT_S).text == "Well."


def test_a_count_may_give_any_whole_number():
    numpy = pytest.importorskip("numpy")
    counting = ContextPolicy(window_tokens=1_000, count=lambda text: numpy.int64(len(text)))
    with talking(["Well.", "Well."], policy=counting) as (_, chat):
        chat.ask("One").result(WAIT_S)
        chat.ask("Two").result(WAIT_S)
        assert chat.store.verify()
