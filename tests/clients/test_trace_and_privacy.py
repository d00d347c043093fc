"""trace, privacy, statistics: what is noted about a client's traffic, where, and what never is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import voxnb
from tests.invariants.scripted import MODEL, TELLER, WAIT_S, client, say, scripted, talking
from voxnb import ContextEvents, errors, testing
from voxnb.events import WebSocketEvents

KEY = "sk-very-secret-key-0123456789"
SECRET = "Xylophone42"


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    """A project's folder of its own: traces go there."""
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)


def traced(chat):
    chat.trace.close()
    return [json.loads(line) for line in Path(chat.trace).read_text().splitlines()]


def test_a_trace_has_every_message_in_both_directions_and_no_key():
    with talking(scripted(), trace=True, api_key=KEY) as (server, chat):
        say(chat, *range(1, 9))
        assert chat.statistics().folds
        with pytest.raises(errors.MessageError):
            chat.ask()
        found = traced(chat)
        text = Path(chat.trace).read_text()
    sent = [line for line in found if line["direction"] == "sent" and line["method"] == "POST"]
    assert [line["message"] for line in sent] == [json.loads(r.body) for r in server.requests if r.method == "POST"]
    assert {line["message"]["model"] for line in sent} == {MODEL, TELLER}, "folds are traffic, too"
    chunks = [line["message"] for line in found if line["direction"] == "received" and "message" in line]
    assert sum(c == "[DONE]" for c in chunks) == len(sent)
    assert KEY not in text
    assert [line["at"] for line in found] == sorted(line["at"] for line in found)


def test_a_key_that_a_function_gives_is_in_no_line_of_the_trace():
    key = "Plain-Words-For-A-Key-77"
    with talking("Well.", trace=True, api_key=lambda: key) as (_, chat):
        chat.ask(f"What is {key}?").result(WAIT_S)
        found = traced(chat)
        assert key not in Path(chat.trace).read_text()
    assert [line for line in found if line.get("path") == "/chat/completions"]


def test_a_key_that_a_function_gives_only_the_second_time_is_in_no_line_of_the_trace():
    key, given = "Plain-Words-For-A-Key-77", iter([None, "Plain-Words-For-A-Key-77"])
    with talking("Well.", trace=True, api_key=lambda: next(given, key)) as (_, chat):
        with pytest.raises(errors.CredentialsError):
            chat.ask(f"What is {key}?").result(WAIT_S)
        chat.ask(f"What is {key}?").result(WAIT_S)
        assert key not in Path(chat.trace).read_text()


def test_a_stand_in_for_a_key_is_a_word_like_any_other():
    told = testing.Status(400, body={"error": {"message": "tool_choice none needs no tools"}})
    with talking(told, trace=True, api_key="none") as (_, chat):
        with pytest.raises(errors.BadRequestError, match="tool_choice none needs"):
            chat.ask("none of it").result(WAIT_S)
        (sent,) = [line["message"] for line in traced(chat) if line.get("path") == "/chat/completions"]
    assert sent["messages"] == [{"role": "user", "content": "none of it"}]


def test_refusals_and_repeats_are_in_the_trace():
    refused = testing.Status(429, headers={"Retry-After": "0"})
    replies = iter([refused, "Well."])
    with talking(lambda _: next(replies), trace=True) as (_, chat):
        chat.ask("One").result(WAIT_S)
        found = traced(chat)
    posts = [line for line in found if line.get("path") == "/chat/completions"]
    assert [line.get("attempt", 0) for line in posts] == [0, 1]
    assert [line["status"] for line in found if line.get("error")] == [429]


def refused(status, body, kind="application/json"):
    return testing.Status(status, headers={"content-type": kind, "Retry-After": "0"}, body=body)


TOLD = {"error": {"message": f"Incorrect key {KEY}, sorry.", "type": "t", "param": "model", "code": "c"}}
PAGE = "<html><title>Sign in</title>" + "<p>and so on</p>" * 20 + "</html>"
NO_ANSWERS = {
    "a refusal": (refused(400, TOLD), {"status": 400}, "Incorrect key …, sorry."),
    "a failure": (refused(503, TOLD), {"status": 503}, "Incorrect key …, sorry."),
    "a failure as a page": (refused(502, PAGE, "text/html"), {"status": 502}, PAGE),
    "a page": (refused(200, PAGE, "text/html"), {}, PAGE),
    "half a document": (refused(200, '{"choices": [{"mess'), {}, '{"choices": [{"mess'),
    "a stream of a page": (refused(200, PAGE + "\n\n", "text/event-stream"), {"stray": True}, "<html><title>Sign in"),
    "half an event": (testing.Drop(after_bytes=60), {"incomplete": True}, '{"id":"chatcmpl'),
}


@pytest.mark.parametrize("what", NO_ANSWERS)
def test_what_comes_in_place_of_an_answer_is_in_the_trace_without_keys(what):
    reply, facts, words = NO_ANSWERS[what]
    with talking(reply, trace=True, api_key=KEY, max_retries=1) as (server, chat):
        with pytest.raises(errors.APIError):
            chat.ask("One").result(WAIT_S)
        found = traced(chat)
        text = Path(chat.trace).read_text()
        posts = [r for r in server.requests if r.method == "POST"]
    numbers = {line["request"] for line in found if line.get("path") == "/chat/completions"}
    assert len(numbers) == len(posts)
    came = [line for line in found if line["direction"] == "received" and "message" in line]
    for number in numbers:
        [line] = [line for line in came if line["request"] == number]
        said = line["message"]
        assert (said["error"]["message"] if isinstance(said, dict) and "error" in said else str(said)).startswith(words)
        assert {key: line[key] for key in facts} == facts
    assert KEY not in text


def test_a_page_without_end_is_cut_in_the_trace():
    page = refused(200, "x" * 100_000, "text/plain")
    with talking(page, trace=True) as (_, chat):
        with pytest.raises(errors.APIResponseValidationError):
            chat.ask("One").result(WAIT_S)
        [line] = [line for line in traced(chat) if "cut_to_bytes" in line]
    assert line["message"] == "x" * line["cut_to_bytes"]


def test_where_the_trace_is_is_told_by_the_created_event_also_to_late_listeners():
    heard = []
    with talking("Well.", trace=True, statistics=True) as (_, chat):
        chat.ask("One").result(WAIT_S)
        chat.on(WebSocketEvents.Created, heard.append)
        chat.ask("Two").result(WAIT_S)
        assert heard[0].late
        payload = heard[0].payload
        assert payload.websocket == chat.web_socket_id()
        assert Path(payload.trace) == chat.trace.path
        assert (chat.trace.path.parent / ".gitignore").read_text() == "*\n"
        statistics = Path(payload.statisticsUrl.removeprefix("file://"))
        assert not statistics.exists()
    assert json.loads(statistics.read_text())["requests"] == 2


def test_without_trace_and_statistics_no_file_is_written(tmp_path):
    with talking("Well.") as (_, chat):
        chat.ask("One").result(WAIT_S)
        assert chat.trace is None
    assert not (tmp_path / "voxnb-traces").exists()
    assert not (tmp_path / ".voxnb" / "statistics").exists()


def test_trace_and_privacy_contradict_each_other():
    with testing.server() as server, pytest.raises(errors.ParameterError, match="contradict"):
        client(server, trace=True, privacy=True)


def test_a_private_client_stores_in_memory_unless_it_is_told_where(tmp_path):
    with testing.server("Well.") as server:
        with client(server, privacy=True, store=None) as chat:
            chat.ask(SECRET).result(WAIT_S)
            assert chat.store.path == ":memory:"
        with client(server, privacy=True, store=tmp_path / "mine.db") as chat:
            chat.ask(SECRET).result(WAIT_S)
            assert chat.store.path == str(tmp_path / "mine.db")
            assert list(chat.conversation.turns()["user_text"]) == [SECRET]
            chat.store.close()


def test_a_private_client_keeps_no_events():
    with talking(scripted(), privacy=True) as (_, chat):
        say(chat, *range(1, 9))
        assert len(chat.conversation.summaries())
        assert len(chat.store.events()) == 0
    with talking(scripted()) as (_, chat):
        say(chat, *range(1, 9))
        assert len(chat.store.events())


def test_a_private_client_is_in_no_log_and_no_report(caplog, capfd):
    """Listeners and servers may quote what was said; the SDK logs whole requests at level DEBUG."""

    def quoting(event):
        raise ValueError(f"cannot parse {event.payload.content}")

    def run(*, privacy):
        caplog.clear()
        with testing.server(lambda r: 400 if "no" in r.text else r.text) as server:
            with client(server, privacy=privacy, max_retries=0) as chat:
                chat.on(voxnb.OpenAI.ChatCompletionsAPIEvents.ContentDone, quoting)
                chat.ask(SECRET).result(WAIT_S)
                chat.idle().result(WAIT_S)
        return caplog.text + capfd.readouterr().err

    with caplog.at_level(logging.DEBUG):
        assert SECRET in run(privacy=False)
        private = run(privacy=True)
    assert SECRET not in private
    assert "ValueError" in private, "that it failed is said"


@pytest.mark.parametrize("private", [False, True])
def test_who_writes_a_private_clients_summaries_logs_none_of_it_either(caplog, private):
    """A client of its own asks for them; of a private one the SDK's log has no line, at whatever level."""
    with caplog.at_level(logging.DEBUG), testing.server(scripted(fold=f"They spoke of {SECRET}.")) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key, "privacy": private}
        with voxnb.ChatCompletionsAPIClient(given, model=TELLER) as teller:
            with client(server, privacy=private, summary_client=teller) as chat:
                say(chat, *range(1, 9))
                assert SECRET in chat.conversation.summary().text
                with pytest.raises(errors.VoxnbError):
                    chat.conversation.fold(through=99).result(WAIT_S)
    assert any(record.name.startswith("openai") for record in caplog.records) == (not private)
    assert SECRET not in caplog.text


def test_statistics_count_requests_repeats_bytes_and_waiting():
    with talking(scripted(), api_key=KEY) as (server, chat):
        say(chat, *range(1, 9))
        taken = chat.statistics()
        posts = [r for r in server.requests if r.method == "POST"]
        assert taken.requests == len(posts)
        assert taken.bytes_sent == sum(int(r.headers["content-length"]) for r in posts)
        assert taken.bytes_received > taken.bytes_sent / 10
        assert taken.events > taken.requests
        assert taken.first_token_ms >= taken.first_event_ms > 0
        assert taken.tokens_per_s > 0
        assert taken.folds == len(chat.conversation.summaries())
        assert taken.saved_tokens > 0
        assert taken.cost_usd is None
        assert list(taken.df["purpose"].unique()) == ["turn", "fold"]
        assert int(taken.df["prompt_tokens"].sum()) == taken.prompt_tokens
        assert int(chat.store.calls()["prompt_tokens"].sum()) == taken.prompt_tokens


def test_statistics_without_memory_and_of_failures():
    with testing.server(iter(["Well.", 400])) as server:
        with voxnb.ChatCompletionsAPIClient(base_url=server.base_url, api_key=KEY, model=MODEL) as bare:
            bare.ask("One").result(WAIT_S)
            with pytest.raises(errors.APIStatusError):
                bare.ask("Two").result(WAIT_S)
            taken = bare.statistics()
    assert (taken.requests, taken.failures) == (2, 1)
    assert "failed" in repr(taken)


def test_a_fold_that_fails_is_counted():
    with talking(scripted(fold=""), policy=voxnb.ContextPolicy(window_tokens=4000, fold_at_tokens=300)) as (_, chat):
        failed = chat.wait_for(ContextEvents.SummaryFailed, timeout_s=WAIT_S)
        say(chat, *range(1, 9))
        assert failed.result().payload.reason == "empty"
        assert (
            chat.statistics().folds_failed == len(chat.store.events().query("name.str.endswith('SummaryFailed')")) > 0
        )


def test_a_private_client_takes_no_summary_client_that_is_not(tmp_path):
    with testing.server("Well.") as server:
        given = {"base_url": server.base_url, "api_key": "k", "model": "m"}
        with (
            voxnb.ChatCompletionsAPIClient(**given, trace=True) as teller,
            pytest.raises(errors.ParameterError, match="summary_client") as caught,
        ):
            voxnb.ChatCompletionsAPIClient(**given, privacy=True, store_context=True, summary_client=teller)
        assert caught.value.name == "summary_client"
