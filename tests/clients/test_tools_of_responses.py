"""Tools and forms over the Responses API: the same loop, spoken in items."""

import asyncio
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import BaseModel

import voxnb
from tests.invariants.scripted import WAIT_S
from voxnb import OpenAI
from voxnb.errors import InternalServerError, ParameterError

EVENTS = OpenAI.ResponsesAPIEvents
REFUSED = 500
KEY = "sk-test"


@contextlib.contextmanager
def service(*replies):
    """A server that answers ``/responses`` in order, unstreamed; ``asked`` are the bodies that came."""
    waiting, asked = list(replies), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            body = json.dumps({} if reply == REFUSED else response(len(asked), reply)).encode()
            self.send_response(500 if reply == REFUSED else 200)
            self.send_header("x-should-retry", "false")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.asked, server.base_url = asked, f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()


def response(n, reply):
    reply = {"content": reply} if isinstance(reply, str) else reply
    output = []
    if reply.get("content"):
        part = {"type": "output_text", "text": reply["content"], "annotations": []}
        output.append(
            {"type": "message", "id": f"msg_{n}", "role": "assistant", "status": "completed", "content": [part]}
        )
    for k, call in enumerate(reply.get("tool_calls", ())):
        arguments = json.dumps(call["arguments"])
        output.append(
            {"type": "function_call", "id": f"fc_{n}_{k}", "call_id": f"call_{n}_{k}", "name": call["name"],
             "arguments": arguments, "status": "completed"}
        )  # fmt: skip
    cut = reply.get("finish_reason") == "length"
    return {
        "id": f"resp_{n}", "object": "response", "model": "gpt-4o", "output": output,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
    }  # fmt: skip


def weather(city: str) -> dict:
    """Weather of a city."""
    return {"city": city, "degrees": 3}


async def distance(a: str, b: str = "Ulm") -> float:
    """Kilometres between two cities."""
    await asyncio.sleep(0)
    return 90.5


LOOK = {
    "content": "Let me look.",
    "tool_calls": [
        {"name": "weather", "arguments": {"city": "Ulm"}},
        {"name": "distance", "arguments": {"a": "Bonn"}},
    ],
}


def client(server, **parameters):
    given = {"base_url": server.base_url, "api_key": KEY, "model": "gpt-4o", "timeout_s": WAIT_S}
    return voxnb.ResponsesAPIClient(**{**given, **parameters})


def asked(server):
    return server.asked


def kinds(body):
    return [item.get("type", "message") for item in body["input"]]


@pytest.mark.parametrize("memory", [True, False])
def test_a_tool_loop_is_one_turn_of_items(memory):
    more = {"store_context": True, "store": ":memory:"} if memory else {}
    with service(LOOK, "3 degrees, 90 km.", "Bye.") as server, client(server, **more) as chat:
        turn = chat.ask("How is Ulm?", tools=[weather, distance], run_tools=True, instructions="Be brief.")
        reply = turn.result(WAIT_S)
        assert (reply.text, reply.tool_calls) == ("3 degrees, 90 km.", ())
        assert turn.partial == "Let me look.\n\n3 degrees, 90 km."
        assert [(r.name, r.result) for r in reply.tool_runs] == [
            ("weather", '{"city": "Ulm", "degrees": 3}'),
            ("distance", "90.5"),
        ]
        first, second = asked(server)
        assert [(t["type"], t["name"], t["strict"]) for t in first["tools"]] == [
            ("function", "weather", True),
            ("function", "distance", False),
        ]
        assert first["instructions"] == second["instructions"] == "Be brief."
        outputs = [i for i in second["input"] if i.get("type") == "function_call_output"]
        called = [i["call_id"] for i in second["input"] if i.get("type") == "function_call"]
        assert [o["call_id"] for o in outputs] == called
        assert [o["output"] for o in outputs] == ['{"city": "Ulm", "degrees": 3}', "90.5"]
        if memory:
            chat.ask("Bye").result(WAIT_S)
            assert len(chat.conversation) == 2
            assert chat.store.verify()


@pytest.mark.parametrize("memory", [True, False])
def test_where_the_service_has_the_history_only_the_results_are_sent(memory):
    more = {"store_context": True, "store": ":memory:"} if memory else {}
    with service("Hello.", LOOK, "Cold.") as server, client(server, **more) as chat:
        chat.ask("Hello").result(WAIT_S)
        turn = chat.ask("Hi", tools=[weather, distance], run_tools=True, previous_response_id="resp_0")
        assert turn.result(WAIT_S).text == "Cold."
        first, second = asked(server)[-2:]
        assert first["previous_response_id"] == "resp_0"
        assert second["previous_response_id"] not in ("resp_0", None)
        assert kinds(second) == ["function_call_output", "function_call_output"]
        if memory:
            assert len(chat.conversation) == 2
            assert chat.store.verify()


def test_events_of_all_rounds_come_in_order():
    with service(LOOK, "Cold.") as server, client(server, store_context=True, store=":memory:") as chat:
        heard = []
        chat.on(EVENTS.ResponseTextDone, lambda e: heard.append(e.payload.text))
        chat.on(EVENTS.ResponseFunctionCallArgumentsDone, lambda e: heard.append(e.payload.arguments))
        chat.on(EVENTS.ResponseCompleted, lambda e: heard.append("completed"))
        chat.ask("Hi", tools=[weather, distance], run_tools=True).result(WAIT_S)
    assert [h if h[0] != "{" else json.loads(h) for h in heard] == [
        "Let me look.", {"city": "Ulm"}, {"a": "Bonn"}, "completed", "Cold.", "completed",
    ]  # fmt: skip


def test_a_repeated_run_replays_the_loop(tmp_path):
    ran = []

    def count() -> int:
        ran.append(1)
        return len(ran)

    given = {"store_context": True, "store": str(tmp_path / "s.db"), "conversation": "c", "if_exists": "reuse"}
    with service({"tool_calls": [{"name": "count", "arguments": {}}]}, "One.", "Never.") as server:
        for reused in (False, True):
            with client(server, **given) as chat:
                reply = chat.ask("Hi", tools=[count], run_tools=True).result(WAIT_S)
                assert (reply.text, reply.reused, [r.result for r in reply.tool_runs]) == ("One.", reused, ["1"])
    assert ran == [1]


def test_a_server_that_fails_between_rounds_leaves_a_turn_that_can_be_asked_again():
    with service(LOOK, REFUSED, "Cold.") as server:
        with client(server, store_context=True, store=":memory:") as chat:
            with pytest.raises(InternalServerError):
                chat.ask("Hi", tools=[weather, distance], run_tools=True).result(WAIT_S)
            assert list(chat.store.turns()["state"]) == ["partial"]
            assert chat.conversation.retry().result(WAIT_S).text == "Cold."
            assert kinds(asked(server)[-1]).count("function_call_output") == 2
            assert chat.store.verify()


class Flower(BaseModel):
    name: str
    petals: int


@pytest.mark.parametrize("name", ["text_format", "response_format"])
def test_a_type_is_the_form_of_the_answer(name):
    with service('{"name": "iris", "petals": 3}', "three") as server, client(server) as chat:
        reply = chat.ask("An iris?", **{name: Flower}, text={"verbosity": "low"}).result(WAIT_S)
        assert reply.parsed == Flower(name="iris", petals=3)
        sent = asked(server)[0]["text"]
        assert (sent["verbosity"], sent["format"]["type"], sent["format"]["name"]) == ("low", "json_schema", "Flower")
        assert sent["format"]["strict"] is True
        assert name not in asked(server)[0]
        wrong = chat.ask("Again?", text_format=Flower).result(WAIT_S)
        assert wrong.parsed is None
        assert "the answer is no Flower" in wrong.warnings[0]


def test_an_incomplete_answer_says_that_it_was_cut():
    with service({"content": '{"name": "ir', "finish_reason": "length"}) as server, client(server) as chat:
        reply = chat.ask("An iris?", text_format=Flower).result(WAIT_S)
    assert reply.parsed is None
    assert "was cut off" in reply.warnings[0]


def test_text_format_must_be_a_type():
    with service("Hi.") as server, client(server) as chat:
        with pytest.raises(ParameterError, match="text_format is 'json'"):
            chat.ask("Hi", text_format="json")
