"""What other memories get wrong, one test or more for each: R1 to R17."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import voxnb
from tests.invariants.scripted import (
    MODEL,
    TELLER,
    WAIT_S,
    chats,
    client,
    everything,
    folds,
    in_turn,
    orphans,
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
from voxnb import testing
from voxnb.store.request import request_hash
from voxnb.testing import Status

LIMIT = 700
"""What a request may have under `small()`: the window less the reserve."""


def test_a_turn_leaves_the_context_only_after_the_summariser_was_shown_it():
    """R1."""
    with talking() as (server, chat):
        say(chat, *range(1, 25))
        turns = chat.store.turns()
    assert turns["covered_by"].notna().sum() >= 15
    seen: set[int] = set()
    waiting = {r.number: r for r in folds(server)}
    for request in chats(server):
        for number in [n for n in waiting if n < request.number]:
            seen |= told(shown(waiting.pop(number)))
        asked = max(told(request.text))
        verbatim = told("\n".join(m["content"] for m in request.messages if m["role"] == "user"))
        assert set(range(1, asked)) <= verbatim | seen


def test_each_summary_is_an_input_of_the_next():
    """R2."""
    with talking(scripted(fold=in_turn("First: the ship is blue.", "Second: the ship is blue.", "Third."))) as (
        server,
        chat,
    ):
        say(chat, *range(1, 25))
        chain = [chat.conversation.summary(n).text for n in range(3)]
    assert chain == ["First: the ship is blue.", "Second: the ship is blue.", "Third."]
    asked = [shown(r) for r in folds(server)]
    assert "none" in asked[0]
    assert "First: the ship is blue." in asked[1]
    assert "Second: the ship is blue." in asked[2]


def test_coverage_lists_exactly_the_turns_of_the_request_that_was_sent():
    """R3."""
    with talking() as (server, chat):
        say(chat, *range(1, 25))
        coverage, summaries = chat.store.coverage(), chat.store.summaries()
    assert len(summaries) == len(folds(server)) >= 3
    for request, summary in zip(folds(server), summaries["summary_id"], strict=True):
        listed = set(coverage.loc[coverage["summary_id"] == summary, "seq"])
        lines = shown(request).split("### Messages to summarize")[1]
        assert listed == told(lines)


def test_coverage_is_right_where_the_summariser_reads_in_chunks():
    """R3: every chunk is a request of its own."""
    with testing.server(scripted()) as server:
        teller = voxnb.ChatCompletionsAPIClient(
            base_url=server.base_url,
            api_key=server.api_key,
            model=TELLER,
            policy=voxnb.ContextPolicy(window_tokens=900),
        )
        policy = small(window_tokens=2_000, fold_at_tokens=1_000, summary_max_tokens=100, keep_last_turns=1)
        with teller, client(server, policy=policy, summary_client=teller) as chat:
            say(chat, *range(1, 31))
            coverage, summaries = chat.store.coverage(), chat.store.summaries()
            assert chat.store.verify()
    parts = folds(server)
    assert len(parts) > len(summaries) > 0, "no fold was cut into chunks"
    assert all(sent_tokens(r) + 100 <= 900 for r in parts)
    assert set(coverage["seq"]) <= set().union(*(told(shown(r)) for r in parts))


def test_a_summariser_that_fails_leaves_the_conversation_as_it_was():
    """R4: and reading never changes anything."""
    with talking(scripted(fold=Status(500, headers={"x-should-retry": "false"}))) as (_, chat):
        say(chat, *range(1, 5))
        with pytest.raises(voxnb.errors.SummaryError):
            chat.conversation.fold(2).result(WAIT_S)
        said = ("turn", "message", "message_fts_data", "summary", "coverage", "pin", "branch", "lineage")
        before = everything(chat.store)
        with pytest.raises(voxnb.errors.SummaryError):
            chat.conversation.fold(2).result(WAIT_S)
        after = everything(chat.store)
        assert {t: after[t] for t in said} == {t: before[t] for t in said}
        assert chat.conversation.row()[:12] == chat.conversation.row()[:12]
        chat.conversation.plan("next")
        chat.conversation.explain(2)
        chat.store.search("please")
        chat.store.verify()
        for table in ("conversations", "turns", "messages", "summaries", "coverage", "calls", "events"):
            getattr(chat.store, table)(limit=1)
        assert everything(chat.store) == after


def test_summarising_deletes_nothing():
    """R5."""
    with talking() as (_, chat):
        say(chat, *range(1, 21))
        assert chat.conversation.summary().last_seq >= 14
        said = [turn[0][1] for turn in spoken(chat.store, chat.conversation)]
    assert [max(told(text)) for text in said] == list(range(1, 21))


def test_what_is_asked_now_is_sent_whole_however_long():
    """R6."""
    with talking() as (server, chat):
        say(chat, *range(1, 7))
        long = "And now #7: " + "a fairly long story " * 145
        chat.ask(long).result(WAIT_S)
        assert chat.store.verify()
    request = chats(server)[-1]
    assert request.messages[-1] == {"role": "user", "content": long}
    assert sent_tokens(request) <= LIMIT


def test_there_is_one_chain_of_summaries_and_it_stays_short():
    """R7."""
    with talking(scripted(fold=lambda r: summarise(r) + " They also said many other things." * 30)) as (server, chat):
        say(chat, *range(1, 41))
        frame, limit = chat.store.summaries(), chat.planner().limits.summary_max_tokens
        assert chat.store.verify()
    assert len(frame) >= 5
    assert list(frame["state"]).count("live") == 1
    assert list(frame["round"]) == list(range(1, len(frame) + 1))
    assert list(frame["previous_id"])[1:] == list(frame["summary_id"])[:-1]
    assert frame["tokens"].max() <= limit + 72
    assert all(summary_of(r) is None or len(summary_of(r)) < 1_000 for r in chats(server))


FOLD_STATEMENTS = [
    "INSERT ON summary",
    "INSERT ON coverage",
    "UPDATE OF head ON conversation",
    "INSERT ON call WHEN NEW.purpose = 'fold'",
    "UPDATE OF prompt_tokens ON call WHEN NEW.purpose = 'fold'",
    "INSERT ON event WHEN NEW.name LIKE '%SummaryFolded'",
]


@pytest.mark.parametrize("statement", FOLD_STATEMENTS)
def test_a_fold_that_breaks_in_the_middle_of_its_commit_changes_nothing(tmp_path, statement):
    """R8: all of it is one transaction; the kill tests stop the process itself."""
    path = tmp_path / "store.db"
    timing, _, when = statement.partition(" WHEN ")
    with talking(store=str(path), policy=small(fold_at_tokens=600)) as (_, chat):
        say(chat, 1, 2, 3, 4)
        other = sqlite3.connect(path)
        where = f"WHEN {when}" if when else ""
        other.execute(f"CREATE TRIGGER stop BEFORE {timing} {where} BEGIN SELECT RAISE(ABORT, 'stopped'); END")
        other.commit()
        before = everything(chat.store, "conversation", "calibration")
        with pytest.raises(voxnb.errors.StoreError):
            chat.conversation.fold(2).result(WAIT_S)
        assert everything(chat.store, "conversation", "calibration") == before
        assert chat.conversation.summary() is None
        other.execute("DROP TRIGGER stop")
        other.commit()
        other.close()
        assert chat.conversation.fold(2).result(WAIT_S).turns == [1, 2]
        assert chat.store.verify()


def test_limits_of_reading_never_limit_what_is_kept():
    """R9."""
    with talking() as (_, chat):
        for tag in range(1, 16):
            chat.store.turns(limit=2)
            chat.store.messages(chat.conversation.id if tag > 1 else None, limit=1)
            say(chat, tag)
        assert len(chat.store.turns()) == 15
        assert len(chat.store.turns(limit=2)) == 2
        assert chat.store.verify()


def parallel_tools(request):
    """Two calls at a time until their results are there."""
    if any(m["role"] == "tool" for m in request.messages[-1:]):
        return f"It is {request.messages[-1]['content']} in {telling_of(request)}."
    n = request.number
    return {
        "content": None,
        "tool_calls": [
            {"id": f"a{n}", "name": "weather", "arguments": {"city": "Ulm"}},
            {"id": f"b{n}", "name": "weather", "arguments": {"city": "Rom"}},
        ],
    }


def telling_of(request):
    return " ".join(f"#{t}" for t in sorted(told(request.text)))


def results(reply, *texts):
    return [
        {"role": "tool", "tool_call_id": call["id"], "content": text}
        for call, text in zip(reply.tool_calls, texts, strict=True)
    ]


@pytest.mark.parametrize("keep_last_turns", [0, 1, 3])
def test_parallel_tool_calls_are_never_torn_from_their_results(keep_last_turns):
    """R10, R11: whatever the cut; the server refuses orphans."""
    with talking(scripted(parallel_tools), policy=small(keep_last_turns=keep_last_turns)) as (server, chat):
        for tag in range(1, 12):
            reply = chat.ask(f"The weather, #{tag}?").result(WAIT_S)
            messages = list(reversed(results(reply, f"sunny {tag}", f"rainy {tag}")))
            chat.create_chat_completions(messages=messages).result(WAIT_S)
            chat.idle().result(WAIT_S)
        assert chat.store.verify()
        assert len(chat.store.summaries()) >= 2
    assert [orphans(r.messages) for r in chats(server)] == [[] for _ in chats(server)]


def test_a_question_instead_of_the_results_leaves_no_orphan():
    """R10: the calls without a result are dropped, and the plan says so."""
    with talking(scripted(in_turn(parallel_tools, "As you like."))) as (server, chat):
        chat.ask("The weather, #1?").result(WAIT_S)
        reply = chat.ask("Never mind. #2").result(WAIT_S)
        assert (1, "2 tool call(s) without a result") in reply.plan.dropped
    assert orphans(chats(server)[-1].messages) == []


def test_calls_that_are_taken_out_of_a_message_are_not_counted():
    """The estimate is the service's count before and after, also where the words beside the calls stay."""
    made = [{"id": name, "name": "look", "arguments": {"at": "the sky " * 8}} for name in "abc"]
    asked = {"content": "Let me look.", "tool_calls": made}
    with talking(scripted(in_turn(asked, "As you like.")), policy=small(window_tokens=9_000)) as (_, chat):
        chat.ask("The weather?").result(WAIT_S)
        for words in ("Never mind.", "Tell me of rain.", "And of snow."):
            chat.ask(words).result(WAIT_S)
        assert list(chat.conversation.calls()["token_error"]) == [0, 0, 0, 0]


def user(text):
    return {"role": "user", "content": text}


def calling(*ids):
    calls = [{"id": i, "type": "function", "function": {"name": "look", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "tool_calls": calls}


def result(call):
    return {"role": "tool", "tool_call_id": call, "content": f"found {call}"}


DONE = {"role": "assistant", "content": "Done."}

MINGLED = {
    "a user between": [user("u"), calling("a"), user("wait"), result("a"), DONE],
    "two calls, two results": [user("u"), calling("a"), calling("b"), result("a"), result("b"), DONE],
    "an answer between": [user("u"), calling("a"), {"role": "assistant", "content": "One moment."}, result("a"), DONE],
    "a rule between": [user("u"), calling("a"), {"role": "system", "content": "Be kind."}, result("a"), DONE],
    "parallel and split": [user("u"), calling("a", "b"), result("b"), user("wait"), result("a"), DONE],
}


@pytest.mark.parametrize("said", MINGLED.values(), ids=MINGLED)
@pytest.mark.parametrize("kind", [voxnb.ChatCompletionsAPIClient, voxnb.ResponsesAPIClient])
@pytest.mark.parametrize("way", ["append", "import", "ask", "tell"])
def test_results_are_sent_behind_their_calls_whatever_was_said_between(said, kind, way):
    """R10: in either interface, and nothing is lost; the store keeps the order in which it was said."""
    with testing.server("Fine.") as server:
        store = voxnb.ContextStore(":memory:")
        if way == "append":
            store.append("talk", said)
        elif way == "import":
            store.import_conversations([{"messages": said}])
        name = store.latest().name if way in ("append", "import") else "talk"
        with kind(
            model=MODEL, base_url=server.base_url, store=store, store_context=True, conversation=name, max_retries=0
        ) as chat:
            asks = chat.create_chat_completions if hasattr(chat, "create_chat_completions") else chat.create_responses
            body = "messages" if hasattr(chat, "create_chat_completions") else "input"
            if way == "ask":  # the turn that asks is the mingled one
                asks(**{body: said[:-1]}).result(WAIT_S)
            elif way == "tell":
                asks(**{body: [*said, user("And now?")]}).result(WAIT_S)
            assert chat.ask("Next?").result(WAIT_S).text == "Fine."
        sent = server.requests[-1].messages[: len(said)]
        assert orphans(sent) == []
        assert [m.get("content") for m in sent if m["role"] in ("user", "system")] == [
            m["content"] for m in said if m["role"] in ("user", "system")
        ]
        assert [m["tool_call_id"] for m in sent if m["role"] == "tool"] == [
            m["tool_call_id"] for m in said if m["role"] == "tool"
        ]
        stored = store.messages(name)
        assert list(stored["role"][: len(said)]) == [m["role"] for m in said]
        assert store.verify()


def test_results_that_come_with_other_words_before_them_still_answer_their_calls():
    with talking(scripted(in_turn(parallel_tools, "As you like."))) as (server, chat):
        reply = chat.ask("The weather, #1?").result(WAIT_S)
        first, second = results(reply, "sunny", "rainy")
        chat.create_chat_completions(messages=[user("Quick!"), second, user("Please."), first]).result(WAIT_S)
        assert list(chat.conversation.turns()["state"]) == ["complete"]
        sent = [m["content"] for m in chats(server)[-1].messages[-4:]]
        assert sent == ["rainy", "sunny", "Quick!", "Please."]
        assert chat.store.verify()


def test_a_result_that_nothing_waits_for_is_refused_with_what_became_of_its_call():
    with talking(scripted(in_turn(parallel_tools, "As you like."))) as (_, chat):
        late = results(chat.ask("The weather, #1?").result(WAIT_S), "sunny", "rainy")
        chat.ask("Never mind. #2").result(WAIT_S)
        for message, words in (
            (
                late[0],
                r"which turn 1 called: the conversation went on without it; go back with conversation\.undo\(1\)",
            ),
            ({**late[0], "tool_call_id": "none"}, "which no assistant message called"),
        ):
            with pytest.raises(voxnb.errors.MessageError, match=words):
                chat.create_chat_completions(messages=[message]).result(WAIT_S)
        chat.conversation.undo(1)
        chat.create_chat_completions(messages=late).result(WAIT_S)
        with pytest.raises(voxnb.errors.MessageError, match="which turn 1 called and has a result of"):
            chat.create_chat_completions(messages=late[:1]).result(WAIT_S)


def test_a_result_that_comes_twice_is_said_to_and_where_it_stands_in_what_was_given():
    with talking(scripted(in_turn(parallel_tools, "As you like."))) as (_, chat):
        asked = [user("The weather, #1?")]
        reply = chat.create_chat_completions(messages=asked).result(WAIT_S)
        first, second = results(reply, "sunny", "rainy")
        for told, at in ([first, first, second], 1), ([*asked, reply.message, first, second, first], 4):
            with pytest.raises(voxnb.errors.MessageError, match=f"^message {at} answers .* a second time") as caught:
                chat.create_chat_completions(messages=told).result(WAIT_S)
            assert caught.value.index == at
        chat.create_chat_completions(messages=[first, second]).result(WAIT_S)
        assert chat.store.verify()


def test_a_request_that_once_went_out_as_it_was_said_is_rebuilt_like_that():
    said = MINGLED["a user between"][:-1]
    with talking("Fine.") as (_, chat):
        chat.create_chat_completions(messages=said).result(WAIT_S)
        plan = json.loads(chat.store.database.read("SELECT plan FROM call")[0][0])
        as_said = [{"content": None, **m} for m in said]
        parameters = chat.conversation.explain(1).parameters
        old = {**plan, "v": 1, "hash": request_hash(as_said, parameters, None, version=1)}
        chat.store.database.write(lambda c: c.execute("UPDATE call SET plan = ?", (json.dumps(old),))).result()
        assert chat.conversation.explain(1).exact
        assert chat.conversation.explain(1).messages == as_said
        assert chat.store.verify()


def test_the_hash_of_a_request_is_made_of_its_messages_hashes_and_was_once_made_of_their_words():
    with talking(["Fine.", "Good."]) as (_, chat):
        for text in ("Hi", "and 東京?"):
            chat.ask(text).result(WAIT_S)
        ((call, text),) = chat.store.database.read("SELECT id, plan FROM call ORDER BY id DESC LIMIT 1")
        plan, asked = json.loads(text), chat.conversation.explain(2)
        assert plan["hash"] == request_hash(asked.messages, asked.parameters, None)
        old = {**plan, "v": 2, "hash": request_hash(asked.messages, asked.parameters, None, version=2)}
        assert old["hash"] != plan["hash"]
        for told, exact in ((old, True), ({**old, "v": 3}, False)):
            row = json.dumps(told), call
            chat.store.database.write(
                lambda c, row=row: c.execute("UPDATE call SET plan = ? WHERE id = ?", row)
            ).result()
            assert chat.conversation.explain(2).exact == exact


def test_what_only_a_tool_said_reaches_the_summariser_once():
    """R12, R13: with the tool's name and arguments."""
    with talking(scripted(parallel_tools)) as (server, chat):
        reply = chat.ask("The weather, #1?" + " It is for the picnic by the river." * 10).result(WAIT_S)
        messages = results(reply, "31 degrees at 4 pm", "hail")
        chat.create_chat_completions(messages=messages).result(WAIT_S)
        chat.conversation.fold(1).result(WAIT_S)
    lines = shown(folds(server)[-1]).split("### Messages to summarize")[1]
    assert 'called weather({"city": "Ulm"})' in lines
    assert lines.count("Result of weather: 31 degrees at 4 pm") == 1
    assert lines.count("hail") == 2, "once as the result, once in the answer"


def test_instructions_are_kept_whatever_their_role_and_place():
    """R13: leading ones before everything, later ones where they were said and after their turn is folded."""
    with talking() as (server, chat):
        first = [{"role": "developer", "content": "Always rhyme."}, {"role": "user", "content": "Hello #1."}]
        chat.create_chat_completions(messages=first).result(WAIT_S)
        later = [{"role": "user", "content": "Well #2."}, {"role": "developer", "content": "From now on in French."}]
        chat.create_chat_completions(messages=later).result(WAIT_S)
        say(chat, *range(3, 20))
        assert chat.conversation.summary().last_seq > 2
        assert chat.store.verify()
    last = chats(server)[-1].messages
    assert last[0] == {"role": "developer", "content": "Always rhyme."}
    assert {"role": "developer", "content": "From now on in French."} in last
    assert all("Always rhyme." not in shown(r) for r in folds(server))


PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_every_kind_of_content_is_counted_and_shown():
    """R13: texts in parts are text, pictures have their price and are named to the summariser."""
    parts = [
        {"type": "text", "text": "Look at #1:"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "text", "text": "What is it?"},
    ]
    with talking(policy=small(window_tokens=8_000, fold_at_tokens=6_000)) as (server, chat):
        chat.create_chat_completions(messages=[{"role": "user", "content": parts}]).result(WAIT_S)
        tokens = chat.store.messages()["tokens"].iloc[0]
        assert chats(server)[0].messages[0]["content"] == parts
        chat.conversation.fold(1).result(WAIT_S)
        assert len(chat.store.search("Look")) == 1
    assert 2_833 < tokens < 2_860, "what this model asks for a picture of low detail, and the words"
    assert "User: Look at #1:\nWhat is it? [image]" in shown(folds(server)[0])


def test_the_file_grows_with_what_is_said_and_not_faster():
    """R14."""
    policy = small(window_tokens=8_000, fold_at_tokens=2_000)
    sizes = []
    with talking(lambda r: "incomprehensibilities " * 27, policy=policy) as (_, chat):
        for n in range(120):
            chat.ask(f"{n} " + "said " * 120).result(WAIT_S)
            if n + 1 in (30, 60, 120):
                ((size,),) = chat.store.database.read(
                    "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
                )
                sizes.append(size)
    text = 60 * 1_200
    assert sizes[2] - sizes[1] < 5 * text
    assert sizes[2] - sizes[1] < 2.5 * (sizes[1] - sizes[0])


def test_a_turn_reads_by_index_alone(monkeypatch):
    """R15: no statement of a turn or a fold scans what grows with the conversations."""
    statements: set[str] = set()
    connect = sqlite3.connect

    def traced(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(statements.add)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    with talking(instructions="Be brief.") as (_, chat):
        say(chat, *range(1, 12))
        chat.conversation.pin(3)
        assert chat.conversation.summary() is not None
        statements.clear()
        say(chat, *range(12, 18))
        asked = {s for s in statements if re.match(r"\s*(SELECT|UPDATE|INSERT|DELETE|WITH)", s)}
        assert len(asked) > 20
        grows = "turn|message|summary|coverage|call|event|value|lineage|pin|draft|branch|conversation"
        scans = {}
        for statement in asked:
            if "message_fts" in statement:
                continue
            plan = [row[-1] for row in chat.store.database.read(f"EXPLAIN QUERY PLAN {statement}")]
            if any(re.match(rf"SCAN ({grows}|[a-z])\b(?! USING (COVERING )?INDEX)", step) for step in plan):
                scans[statement] = plan
    assert scans == {}


def test_text_that_looks_like_a_special_token_is_text():
    """R16."""
    texts = ["<|endoftext|>", "a <|im_start|>system<|im_end|> b", "<|fim_prefix|>" * 40]
    with talking(lambda r: r.text) as (server, chat):
        for text in texts:
            reply = chat.ask(text).result(WAIT_S)
            assert reply.text == text
            assert reply.usage.prompt_tokens == reply.plan.total_tokens == sent_tokens(chats(server)[-1])


@pytest.mark.slow
def test_it_counts_without_a_network(tmp_path):
    """R17: a fresh process that may open no connection but to this machine."""
    program = textwrap.dedent(
        """
        import socket, json
        real = socket.socket.connect
        def connect(self, address):
            if not (isinstance(address, tuple) and address[0] == "127.0.0.1"):
                raise OSError("no network")
            return real(self, address)
        socket.socket.connect = connect
        socket.getaddrinfo_real = socket.getaddrinfo
        def getaddrinfo(host, *rest, **more):
            if host not in ("127.0.0.1", "localhost"):
                raise OSError("no network")
            return socket.getaddrinfo_real(host, *rest, **more)
        socket.getaddrinfo = getaddrinfo
        import voxnb
        from voxnb import testing
        with testing.server("Well.") as server:
            with voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as chat:
                reply = chat.ask("Grüße aus Köln").result(20)
                encoding = chat.store.messages()["encoding"].iloc[0]
        print(json.dumps([reply.usage.prompt_tokens, reply.plan.total_tokens, encoding]))
        """
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TIKTOKEN_CACHE_DIR": str(tmp_path / "none")}
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=Path(voxnb.__file__).parent.parent,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [9 + 3, 12, "o200k_base"]


def test_a_model_of_unknown_tokenizer_is_said_to_be_estimated():
    """R17: and its estimates learn from what the server reports."""
    heavy = {"usage": lambda r: {"prompt_tokens": round(1.3 * sent_tokens(r)) + 9, "completion_tokens": 5}}
    with talking(scripted(), manner=heavy, policy=small(window_tokens=4_000, fold_at_tokens=3_000)) as (_, chat):
        for tag in range(1, 7):
            chat.ask(f"Tell me of #{tag}, " + "more words " * 20, model="some-model").result(WAIT_S)
        frame = chat.store.calls()
    errors = frame["token_error"].abs()
    assert errors.iloc[3:].max() < 0.05
    assert errors.iloc[0] > errors.iloc[-1]
    assert MODEL not in set(frame["model"])
