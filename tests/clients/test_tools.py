"""Tools over real HTTP: functions in, one turn out, whatever the model, the tools or the user do meanwhile."""

import asyncio
import contextlib
import contextvars
import json
import subprocess
import sys
import textwrap
import threading
import time

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import voxnb
from tests.invariants.scripted import WAIT_S, client, everything, in_turn, talking
from voxnb import OpenAI, testing
from voxnb.errors import (
    ConversationError,
    InternalServerError,
    ParameterError,
    ToolRoundsError,
    TurnCancelledError,
    VoxnbError,
)
from voxnb.testing import Status

EVENTS = OpenAI.ChatCompletionsAPIEvents
REFUSED = Status(500, headers={"x-should-retry": "false"})


def weather(city: str) -> dict:
    """Weather of a city.

    Args:
        city: its name
    """
    return {"city": city, "degrees": 3}


async def distance(a: str, b: str = "Ulm") -> float:
    """Kilometres between two cities."""
    await asyncio.sleep(0)
    return 90.5


def calling(*calls, text=None):
    """A reply that calls tools: names, or (name, arguments)."""
    made = [(c, {}) if isinstance(c, str) else c for c in calls]
    return {"content": text, "tool_calls": [{"name": name, "arguments": given} for name, given in made]}


LOOK = calling(("weather", {"city": "Ulm"}), ("distance", {"a": "Bonn"}), text="Let me look.")


def roles(request):
    return [m["role"] for m in request.messages]


def chats(server):
    return [r for r in server.requests if r.path.endswith("/chat/completions")]


def stored(chat):
    return list(chat.conversation.messages()["role"])


# -- one turn ---------------------------------------------------------------------------------


def test_a_tool_loop_is_one_turn():
    with talking(in_turn(LOOK, "3 degrees, 90 km.", "Bye.")) as (server, chat):
        turn = chat.ask("How is Ulm?", tools=[weather, distance], run_tools=True)
        reply = turn.result(WAIT_S)
        assert (reply.text, reply.tool_calls, reply.finish_reason) == ("3 degrees, 90 km.", (), "stop")
        assert turn.partial == "Let me look.\n\n3 degrees, 90 km."
        assert [(r.name, r.arguments, r.result, r.error, r.round) for r in reply.tool_runs] == [
            ("weather", {"city": "Ulm"}, '{"city": "Ulm", "degrees": 3}', None, 1),
            ("distance", {"a": "Bonn"}, "90.5", None, 1),
        ]
        assert (turn.number, turn.state) == (1, "complete")
        chat.ask("Bye").result(WAIT_S)
        assert stored(chat) == ["user", "assistant", "tool", "tool", "assistant", "user", "assistant"]
        assert list(chat.store.turns()["state"]) == ["complete", "complete"]
        assert list(chat.store.calls()["status"]) == ["complete"] * 3
        assert chat.store.verify()
        first, second, third = chats(server)
    assert [t["function"]["name"] for t in first.json["tools"]] == ["weather", "distance"]
    assert first.json["tools"] == second.json["tools"]
    assert "tools" not in third.json
    assert "run_tools" not in first.json
    assert roles(second) == ["user", "assistant", "tool", "tool"]
    assert [m["tool_call_id"] for m in second.messages[2:]] == [c["id"] for c in second.messages[1]["tool_calls"]]
    assert roles(third) == ["user", "assistant", "tool", "tool", "assistant", "user"]


def test_without_memory_the_loop_is_kept_in_the_request():
    with testing.server(in_turn(LOOK, calling(("weather", {"city": "Bonn"})), "Cold.")) as server:
        with voxnb.ChatCompletionsAPIClient(
            model="gpt-4o", base_url=server.base_url, api_key=server.api_key, instructions="Be brief."
        ) as chat:
            turn = chat.ask("How is it?", tools=[weather, distance], run_tools=True)
            reply = turn.result(WAIT_S)
        assert reply.text == "Cold."
        assert [(r.name, r.round) for r in reply.tool_runs] == [("weather", 1), ("distance", 1), ("weather", 2)]
        assert turn.partial == "Let me look.\n\nCold."
        assert [roles(r) for r in chats(server)] == [
            ["system", "user"],
            ["system", "user", "assistant", "tool", "tool"],
            ["system", "user", "assistant", "tool", "tool", "assistant", "tool"],
        ]


def test_without_run_tools_functions_are_schemas_and_the_calls_are_the_callers():
    with talking(in_turn(calling(("weather", {"city": "Ulm"})), "Cold.")) as (server, chat):
        reply = chat.ask("How is Ulm?", tools=[weather]).result(WAIT_S)
        assert [c["function"]["name"] for c in reply.tool_calls] == ["weather"]
        assert reply.tool_runs == ()
        result = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "3"}
        reply = chat.create_chat_completions(messages=[result], tools=[weather]).result(WAIT_S)
        assert reply.text == "Cold."
        assert len(chat.conversation) == 1


def test_tools_of_the_client_are_those_of_every_request():
    with talking(in_turn(LOOK, "Cold."), tools=[weather, distance], run_tools=True) as (server, chat):
        assert chat.ask("How is Ulm?").result(WAIT_S).text == "Cold."
        chat.ask("No tools now.", tools=[]).result(WAIT_S)
        one, two, three = chats(server)
    assert len(one.json["tools"]) == len(two.json["tools"]) == 2
    assert "tools" not in three.json


def test_voxengines_spelling_is_taken():
    with talking(in_turn(LOOK, "Cold.")) as (_, chat):
        body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [weather, distance], "runTools": True}
        reply = chat.createChatCompletions({**body, "maxToolRounds": 2, "toolTimeoutS": 5}).result(WAIT_S)
        assert len(reply.tool_runs) == 2


def test_a_reply_that_also_calls_another_tool_goes_to_the_caller():
    raw = {"type": "function", "function": {"name": "raw", "parameters": {"type": "object", "properties": {}}}}
    ran = []

    def mine():
        ran.append(1)

    with talking(in_turn(calling("mine"), calling("mine", "raw"), "Done.")) as (server, chat):
        reply = chat.ask("Hi", tools=[mine, raw], run_tools=True).result(WAIT_S)
        assert [c["function"]["name"] for c in reply.tool_calls] == ["mine", "raw"]
        assert (len(ran), len(reply.tool_runs)) == (1, 1)
        results = [{"role": "tool", "tool_call_id": c["id"], "content": "x"} for c in reply.tool_calls]
        assert chat.create_chat_completions(messages=results).result(WAIT_S).text == "Done."
        assert len(chat.conversation) == 1
        assert chat.store.verify()


def test_events_of_all_rounds_come_in_order():
    with talking(in_turn(LOOK, "Cold.")) as (_, chat):
        heard = []
        chat.on(EVENTS.ContentDone, lambda e: heard.append(("text", e.payload.content)))
        chat.on(EVENTS.FunctionToolCallArgumentsDone, lambda e: heard.append(("call", e.payload.name)))
        chat.on(voxnb.ContextEvents.ContextPlanned, lambda e: heard.append(("plan", e.payload.turn)))
        chat.ask("How is Ulm?", tools=[weather, distance], run_tools=True).result(WAIT_S)
    assert heard == [
        ("plan", 1), ("text", "Let me look."), ("call", "weather"), ("call", "distance"), ("plan", 1), ("text", "Cold."),
    ]  # fmt: skip


def test_tools_run_in_the_context_of_the_cell_that_asked():
    where = contextvars.ContextVar("where", default="nowhere")
    seen = []

    def sync_tool():
        seen.append(where.get())

    async def async_tool():
        seen.append(where.get())

    with talking(in_turn(calling("sync_tool", "async_tool"), "Done.")) as (_, chat):
        where.set("cell 7")
        turn = chat.ask("Hi", tools=[sync_tool, async_tool], run_tools=True)
        where.set("cell 8")
        turn.result(WAIT_S)
    assert seen == ["cell 7", "cell 7"]


def test_the_next_turn_waits_until_the_loop_has_ended():
    release, began = threading.Event(), threading.Event()

    def slow():
        began.set()
        release.wait(WAIT_S)

    with talking(in_turn(calling("slow"), "First.", "Second.")) as (server, chat):
        first = chat.ask("One", tools=[slow], run_tools=True)
        second = chat.ask("Two")
        assert began.wait(WAIT_S)
        release.set()
        assert [first.result(WAIT_S).text, second.result(WAIT_S).text] == ["First.", "Second."]
        assert stored(chat) == ["user", "assistant", "tool", "assistant", "user", "assistant"]


# -- bad models, bad tools --------------------------------------------------------------------


def boom():
    raise RuntimeError("no such table")


def opaque():
    return object()


def leave():
    sys.exit(3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("wether", {"city": "Ulm"}), "there is no tool 'wether'; did you mean 'weather'?"),
        (("weather", '{"city": '), "the arguments are no JSON"),
        (("weather", {"town": "Ulm"}), "there is no argument 'town'; the argument 'city' is missing"),
        (("boom", {}), "RuntimeError: no such table"),
        (("leave", {}), "SystemExit: 3"),
        (("opaque", {}), "which JSON has no form for"),
    ],
)
@pytest.mark.parametrize("memory", [True, False])
def test_what_goes_wrong_is_told_to_the_model(call, words, memory):
    with testing.server(in_turn(calling(call), "I see.")) as server:
        with voxnb.ChatCompletionsAPIClient(
            model="gpt-4o", base_url=server.base_url, api_key=server.api_key, store_context=memory,
            **({"store": ":memory:"} if memory else {}),
        ) as chat:  # fmt: skip
            reply = chat.ask("Hi", tools=[weather, boom, opaque, leave], run_tools=True).result(WAIT_S)
            assert reply.text == "I see."
            (run,) = reply.tool_runs
            assert words in run.error
        told = chats(server)[1].messages[-1]
        assert told["content"] == run.result == f"Error: {run.error}"


def test_a_tool_that_hangs_is_given_up_and_the_turn_goes_on():
    release = threading.Event()

    def hang():
        release.wait(WAIT_S)

    async def ahang():
        await asyncio.sleep(WAIT_S)

    with talking(in_turn(calling("hang", "ahang"), "Never mind.")) as (_, chat):
        reply = chat.ask("Hi", tools=[hang, ahang], run_tools=True, tool_timeout_s=0.1).result(WAIT_S)
        release.set()
    assert reply.text == "Never mind."
    assert "abandoned" in reply.tool_runs[0].error
    assert "cancelled" in reply.tool_runs[1].error


def test_the_key_of_the_client_is_not_told_to_the_model():
    with talking(in_turn(calling("fetch"), "Ok.")) as (server, chat):

        def fetch():
            raise RuntimeError(f"401 for {server.api_key}")

        reply = chat.ask("Hi", tools=[fetch], run_tools=True).result(WAIT_S)
        assert server.api_key not in reply.tool_runs[0].result
        assert server.api_key not in json.dumps(chats(server)[1].json)


def test_a_table_comes_as_csv_within_the_room_that_is_left():
    def table() -> pd.DataFrame:
        return pd.DataFrame({"n": range(5000)})

    with talking(in_turn(calling("table", "table"), "Many.")) as (server, chat):
        reply = chat.ask("Hi", tools=[table], run_tools=True).result(WAIT_S)
        told = chats(server)[1].messages[-2:]
    assert reply.text == "Many."
    assert all("Table of 5,000 rows × 1 column, rows 1-" in m["content"] for m in told)


def test_long_results_of_many_rounds_do_not_overflow_a_small_window():
    def read(page: int) -> str:
        return "word " * 5000

    def script(request):
        return "Long." if request.json.get("tool_choice") == "none" else calling(("read", {"page": 1}))

    with talking(script) as (_, chat):
        reply = chat.ask("Hi", tools=[read], run_tools=True).result(WAIT_S)
        assert reply.text == "Long."
        assert "characters shown]" in reply.tool_runs[0].result
        assert "no room for more results in the context window" in reply.tool_runs[-1].result
        assert 2 < len(reply.tool_runs) < 8
        assert chat.store.verify()


# -- the limit --------------------------------------------------------------------------------


def endless(request):
    return "Enough." if request.json.get("tool_choice") == "none" else calling(("weather", {"city": "Ulm"}))


@pytest.mark.parametrize("memory", [True, False])
def test_after_the_last_round_the_model_must_answer(memory):
    more = {"store_context": True, "store": ":memory:"} if memory else {}
    with testing.server(endless) as server:
        with voxnb.ChatCompletionsAPIClient(
            model="gpt-4o", base_url=server.base_url, api_key=server.api_key, **more
        ) as chat:
            reply = chat.ask("Hi", tools=[weather], run_tools=True, max_tool_rounds=2).result(WAIT_S)
            if memory:
                assert chat.store.verify()
        assert reply.text == "Enough."
        assert [r.error is None for r in reply.tool_runs] == [True, True, False]
        assert "the limit of 2 rounds of tool calls is reached" in reply.tool_runs[2].result
        asked = chats(server)
        assert [r.json.get("tool_choice") for r in asked] == [None, None, None, "none"]
        assert roles(asked[3])[-2:] == ["assistant", "tool"]


def test_a_server_that_calls_even_then_ends_the_turn_with_an_error():
    with talking(in_turn(*[calling(("weather", {"city": "Ulm"}), text="Hm.")] * 4, "Fine.")) as (server, chat):
        turn = chat.ask("Hi", tools=[weather], run_tools=True, max_tool_rounds=2)
        with pytest.raises(ToolRoundsError, match="called tools again after 2 rounds") as raised:
            turn.result(WAIT_S)
        assert raised.value.rounds == 2
        assert raised.value.reply.text == "Hm."
        assert len(raised.value.reply.tool_runs) == 3
        assert turn.state == "partial"
        chat.ask("And now?").result(WAIT_S)
        sent = chats(server)[-1]
        calls = [c["id"] for m in sent.messages for c in m.get("tool_calls", ())]
        assert calls == [m["tool_call_id"] for m in sent.messages if m["role"] == "tool"]
        assert len(calls) == 3
        assert chat.store.verify()


def test_a_forced_call_is_forced_once():
    with talking(in_turn(calling(("weather", {"city": "Ulm"})), "Cold.")) as (server, chat):
        chat.ask("Hi", tools=[weather], run_tools=True, tool_choice="required").result(WAIT_S)
        assert [r.json.get("tool_choice") for r in chats(server)] == ["required", None]


# -- ends in the middle -----------------------------------------------------------------------


def no_orphans(request):
    calls = [c["id"] for m in request.messages for c in m.get("tool_calls", ())]
    return calls == [m["tool_call_id"] for m in request.messages if m["role"] == "tool"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_cancelled_while_tools_run_the_turn_is_partial_and_no_call_is_left_open(kind):
    began, ended, release = threading.Event(), threading.Event(), threading.Event()

    def hang():
        began.set()
        release.wait(WAIT_S)

    async def ahang():
        began.set()
        try:
            await asyncio.sleep(WAIT_S)
        finally:
            ended.set()

    tool, name = (hang, "hang") if kind == "sync" else (ahang, "ahang")
    with talking(in_turn(calling(name, text="Let me look."), "Fine.")) as (server, chat):
        turn = chat.ask("Hi", tools=[tool], run_tools=True)
        assert began.wait(WAIT_S)
        turn.cancel()
        reply = turn.result(WAIT_S)
        assert (reply.finish_reason, reply.text, reply.tool_calls) == ("cancelled", "Let me look.", ())
        assert turn.state == "cancelled"
        if kind == "async":
            assert ended.wait(WAIT_S)
        release.set()
        assert list(chat.store.turns()["state"]) == ["partial"]
        assert chat.ask("And now?").result(WAIT_S).text == "Fine."
        assert no_orphans(chats(server)[-1])
        assert stored(chat)[:2] == ["user", "assistant"]
        assert chat.store.verify()


def test_cancelled_in_the_next_request_what_the_tools_did_is_kept():
    with talking(in_turn(LOOK, testing.Hang(after_events=2, reply="It is cold there."), "Fine.")) as (server, chat):
        turn = chat.ask("Hi", tools=[weather, distance], run_tools=True)
        for _ in turn:
            if turn.partial.startswith("Let me look.\n\n"):
                break
        turn.cancel()
        reply = turn.result(WAIT_S)
        assert reply.finish_reason == "cancelled"
        assert len(reply.tool_runs) == 2
        assert stored(chat) == ["user", "assistant", "tool", "tool", "assistant"]
        chat.ask("And now?").result(WAIT_S)
        assert no_orphans(chats(server)[-1])
        assert "[the reply was cut off here]" in chats(server)[-1].messages[-2]["content"]
        assert chat.store.verify()


def test_cancelled_without_memory_what_was_said_is_given():
    began, release = threading.Event(), threading.Event()

    def hang():
        began.set()
        release.wait(WAIT_S)

    with testing.server(calling("hang", text="Let me look.")) as server:
        with voxnb.ChatCompletionsAPIClient(model="gpt-4o", base_url=server.base_url, api_key=server.api_key) as chat:
            turn = chat.ask("Hi", tools=[hang], run_tools=True)
            assert began.wait(WAIT_S)
            turn.cancel()
            assert turn.result(WAIT_S).text == "Let me look."
            release.set()


def test_a_server_that_fails_between_rounds_leaves_a_partial_turn_that_can_be_asked_again():
    ran = []

    def count() -> int:
        ran.append(1)
        return len(ran)

    with talking(in_turn(calling("count"), REFUSED, "One.", "Two.")) as (server, chat):
        turn = chat.ask("Hi", tools=[count], run_tools=True)
        with pytest.raises(InternalServerError):
            turn.result(WAIT_S)
        assert list(chat.store.turns()["state"]) == ["partial"]
        assert chat.conversation.retry().result(WAIT_S).text == "One."
        assert ran == [1], "the tools had run: only the reply is asked for again"
        assert stored(chat) == ["user", "assistant", "tool", "assistant"]
        assert chat.store.verify()


def test_asking_again_runs_the_same_functions():
    ran = []

    def count() -> int:
        ran.append(1)
        return len(ran)

    with talking(in_turn(REFUSED, calling("count"), "One.")) as (server, chat):
        with pytest.raises(InternalServerError):
            chat.ask("Hi", tools=[count], run_tools=True).result(WAIT_S)
        reply = chat.conversation.retry().result(WAIT_S)
        assert (reply.text, [r.result for r in reply.tool_runs]) == ("One.", ["1"])


@pytest.mark.slow
def test_the_process_is_killed_while_a_tool_runs(tmp_path):
    path = tmp_path / "store.db"
    code = """
        import os, sys, voxnb
        def die(): os._exit(9)
        chat = voxnb.chat("gpt-4o-mini", base_url=sys.argv[1], api_key=sys.argv[2], store=sys.argv[3], conversation="c")
        chat.ask("Hi", tools=[die], run_tools=True).result(20)
    """
    with testing.server(in_turn(calling("die", text="Let me look."), "Fine.")) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), server.base_url, server.api_key, str(path)],
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 9
        with client(server, store=str(path), conversation="c") as chat:
            assert chat.ask("And now?").result(WAIT_S).text == "Fine."
            assert list(chat.store.turns()["state"]) == ["partial", "complete"]
            assert chats(server)[-1].messages[1]["content"].startswith("Let me look.")
            assert no_orphans(chats(server)[-1])
            assert chat.store.verify()


def test_a_turn_that_another_process_closed_meanwhile_is_an_error_and_stays_closed():
    with talking(in_turn(calling("usurp"), "Fine.")) as (_, chat):

        def usurp():
            chat.store.database.write(
                lambda c: c.execute("UPDATE turn SET state = 'partial', owner = NULL, lease_until = NULL")
            ).result(WAIT_S)

        turn = chat.ask("Hi", tools=[usurp], run_tools=True)
        with pytest.raises(VoxnbError, match="another process closed this turn"):
            turn.result(WAIT_S)
        assert list(chat.store.turns()["state"]) == ["partial"]
        assert chat.ask("And now?").result(WAIT_S).text == "Fine."
        assert chat.store.verify()


def test_closing_the_client_ends_the_loop():
    began, release = threading.Event(), threading.Event()

    def hang():
        began.set()
        release.wait(WAIT_S)

    with talking(in_turn(calling("hang"), "Fine.")) as (_, chat):
        turn = chat.ask("Hi", tools=[hang], run_tools=True)
        assert began.wait(WAIT_S)
        chat.close()
        release.set()
        assert turn.state == "cancelled"
        assert turn.result(WAIT_S).finish_reason == "cancelled"


# -- again ------------------------------------------------------------------------------------


def test_a_repeated_run_replays_the_loop_and_runs_no_tool(tmp_path):
    ran = []

    def count(n: int) -> int:
        ran.append(n)
        if n == 2:
            raise ValueError("no")
        return n

    script = in_turn(calling(("count", {"n": 1}), text="First."), calling(("count", {"n": 2})), "Done.", "Bye.")

    def run(server):
        heard = []
        given = {"store": str(tmp_path / "s.db"), "conversation": "c", "if_exists": "reuse"}
        with client(server, **given) as chat:
            chat.on(EVENTS.ContentDone, lambda e: heard.append(e.payload.content))
            chat.on(EVENTS.FunctionToolCallArgumentsDone, lambda e: heard.append(e.payload.arguments))
            turn = chat.ask("Hi", tools=[count], run_tools=True)
            replies = [turn.result(WAIT_S), chat.ask("Bye").result(WAIT_S)]
            return turn.partial, replies, heard, everything(chat.store)

    with testing.server(script) as server:
        text, (reply, bye), heard, file = run(server)
        asked = len(server.requests)
        again_text, (again, bye_again), heard_again, file_again = run(server)
        assert len(server.requests) == asked
    assert ran == [1, 2]
    assert (again.reused, bye_again.reused) == (True, True)
    assert (again_text, again.text, heard_again, file_again) == (text, reply.text, heard, file)
    assert text == "First.\n\nDone."
    assert [(r.name, r.arguments, r.result, r.error, r.round) for r in again.tool_runs] == [
        (r.name, r.arguments, r.result, r.error, r.round) for r in reply.tool_runs
    ]
    assert [r.error for r in again.tool_runs] == [None, "ValueError: no"]
    assert all(run.duration_ms > 0 for run in reply.tool_runs)
    assert [run.duration_ms for run in again.tool_runs] == [None, None], "they did not run now"
    assert "(from the store)" in repr(again.tool_runs[0])


def test_a_repeated_run_answers_calls_that_waited_for_the_caller(tmp_path):
    given = {"store": str(tmp_path / "s.db"), "conversation": "c", "if_exists": "reuse"}
    with testing.server(in_turn(calling(("weather", {"city": "Ulm"})), "Cold.", "Never.")) as server:
        with client(server, **given) as chat:
            assert chat.ask("Hi", tools=[weather]).result(WAIT_S).tool_calls
        with client(server, **given) as chat:
            reply = chat.ask("Hi", tools=[weather], run_tools=True).result(WAIT_S)
            assert (reply.text, reply.reused, len(reply.tool_runs)) == ("Cold.", False, 1)
            assert stored(chat) == ["user", "assistant", "tool", "assistant"]
            assert chat.store.verify()
        with client(server, **given) as chat:
            reply = chat.ask("Hi", tools=[weather], run_tools=True).result(WAIT_S)
            assert (reply.text, reply.reused, len(reply.tool_runs)) == ("Cold.", True, 1)
        assert len(chats(server)) == 2


def test_a_changed_function_is_another_request(tmp_path):
    given = {"store": str(tmp_path / "s.db"), "conversation": "c", "if_exists": "reuse"}

    def make(kind):
        def look(x): ...

        look.__annotations__["x"] = kind
        return look

    with testing.server(["One.", "Two."]) as server:
        for kind, text in ((int, "One."), (int, "One."), (str, "Two.")):
            with client(server, **given) as chat:
                assert chat.ask("Hi", tools=[make(kind)], run_tools=True).result(WAIT_S).text == text


# -- tools and other turns --------------------------------------------------------------------


def test_a_tool_may_ask_another_conversation_and_not_its_own():
    with testing.server(
        lambda r: "Bee." if "Name" in r.text else "It was a bee." if "tool" in roles(r) else calling("ask")
    ) as server:
        with client(server) as chat, client(server, store=chat.store) as other:
            refused = []

            def ask() -> str:
                try:
                    chat.ask("Name an insect.")
                except ConversationError as error:
                    refused.append(str(error))
                return str(other.ask("Name an insect.").result(WAIT_S))

            reply = chat.ask("Hi", tools=[ask], run_tools=True).result(WAIT_S)
            assert reply.tool_runs[0].result == "Bee."
            assert "cannot ask in the conversation that waits for its result" in refused[0]
            assert len(chat.conversation) == 1
            chat.ask("Name it.").result(WAIT_S)


def test_a_listener_may_wait_for_a_turn_whose_async_tool_needs_the_listeners_loop():
    with talking(in_turn(calling(("distance", {"a": "Bonn"}), text="Let me look."), "90 km.")) as (_, chat):
        got = []
        chat.on(EVENTS.Content, lambda e: got or got.append(e.turn.result(WAIT_S).text))
        turn = chat.ask("Hi", tools=[distance], run_tools=True, tool_timeout_s=WAIT_S)
        assert turn.result(WAIT_S).text == "90 km."
        assert got == ["90 km."]


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"run_tools": True}, "run_tools=True and no function is among the tools"),
        ({"run_tools": True, "tools": [{"type": "function", "function": {"name": "f"}}]}, "no function is among"),
        ({"run_tools": "yes", "tools": [weather]}, "run_tools is 'yes'"),
        ({"max_tool_rounds": 0, "tools": [weather]}, "max_tool_rounds is 0, expected a whole number"),
        ({"tool_timeout_s": -1, "tools": [weather]}, "tool_timeout_s is -1, expected seconds above 0"),
        ({"tools": [lambda x: x]}, "a lambda has no name"),
        ({"tools": weather}, "expected a list of functions"),
        ({"tools": [weather, weather]}, "two tools are called 'weather'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_stored(request_, words):
    with talking("Hi.") as (server, chat):
        with pytest.raises(ParameterError, match=words):
            chat.ask("Hi", **request_)
        assert not chat.conversation.exists
        assert chats(server) == []


def test_tools_of_a_client_are_checked_when_it_is_made():
    with testing.server("Hi.") as server:
        with pytest.raises(ParameterError, match="a lambda has no name"):
            client(server, tools=[lambda: 1])
        with pytest.raises(ParameterError, match="max_tool_rounds is 0"):
            client(server, max_tool_rounds=0)


def test_a_failed_turn_that_nobody_waits_for_reports_and_nothing_hangs():
    with talking(in_turn(calling("boom"), REFUSED)) as (_, chat):
        turn = chat.ask("Hi", tools=[boom], run_tools=True)
        deadline = time.monotonic() + WAIT_S
        while turn.state in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(InternalServerError):
            turn.result(WAIT_S)


def test_cancelled_before_the_first_reply_there_is_nothing():
    with talking(testing.Hang()) as (_, chat):
        turn = chat.ask("Hi", tools=[weather], run_tools=True)
        while turn.state == "queued":
            time.sleep(0.005)
        turn.cancel()
        with pytest.raises(TurnCancelledError):
            turn.result(WAIT_S)


# -- shown ------------------------------------------------------------------------------------


def test_a_reply_shows_what_ran_folded_and_harmless():
    from voxnb.clients.reply import reply_plain
    from voxnb.notebook.render import reply_html

    def evil() -> str:
        return "<script>alert(1)</script>\x1b[31m" + "x" * 5000

    with talking(in_turn(calling("evil", "boom"), "Done.")) as (_, chat):
        reply = chat.ask("Hi", tools=[evil, boom], run_tools=True).result(WAIT_S)
    markup = reply_html(reply)
    assert "<details><summary>2 tool calls, 1 failed: evil, boom</summary>" in markup
    assert "<script" not in markup
    assert "\x1b" not in markup
    assert len(markup) < 6000
    assert "Tool run: evil({}) →" in reply_plain(reply)
    assert "tool_runs=2" in repr(reply)


def test_a_dict_that_json_has_no_form_for_is_refused_beside_functions_too():
    with talking("Hi.") as (_, chat), pytest.raises(ParameterError, match="tools cannot be written as JSON"):
        chat.ask("Hi", tools=[weather, {"type": "function", "function": {"name": "f", "x": float("nan")}}])


# -- the law ----------------------------------------------------------------------------------

CALLS = st.sampled_from(
    [("good", {"n": 1}), ("agood", {"n": 2}), ("good", {}), ("nowhere", {}), ("bad", {}), ("abad", {}), ("good", "{")]
)


@settings(max_examples=12)
@given(
    turns=st.lists(st.lists(st.lists(CALLS, min_size=1, max_size=3), max_size=3), min_size=1, max_size=3),
    fails=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_whatever_is_called_and_whenever_it_fails_no_request_has_an_orphan(turns, fails):
    def good(n: int) -> int:
        return n

    async def agood(n: int) -> int:
        return n

    def bad():
        raise ValueError

    async def abad():
        raise ValueError

    script = []
    for rounds in turns:
        script += [calling(*calls, text="Hm.") for calls in rounds] + ["Done."]
    # A request may fail in the middle of a loop; the turn is then over, and its script goes on with the next one.
    replies = [REFUSED if failing else one for one, failing in zip(script, [*fails, *[False] * 99], strict=False)]
    with talking(in_turn(*replies, "The end.")) as (server, chat):
        for _ in (*turns, "one more"):
            with contextlib.suppress(InternalServerError):
                chat.ask("Question", tools=[good, agood, bad, abad], run_tools=True).result(WAIT_S)
        assert all(no_orphans(r) for r in chats(server))
        assert len(chat.store.turns()) == len(turns) + 1
        assert set(chat.store.turns()["state"]) <= {"complete", "partial", "failed"}
        assert chat.store.verify()


def test_while_its_tools_run_a_turn_says_which():
    seen = []

    def note(text: str) -> str:
        """Note it."""
        seen.append(turn.tools_running)
        return text

    with talking(in_turn(calling(("note", {"text": "a"}), ("note", {"text": "b"})), "Done.")) as (_, chat):
        turn = chat.ask("Note.", tools=[note], run_tools=True)
        turn.result(WAIT_S)
    assert seen == [("note", "note")] * 2
    assert turn.tools_running == ()
