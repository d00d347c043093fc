"""The context window, as each kind of server tells it."""

from __future__ import annotations

import asyncio
import time

import pytest

from voxnb import testing
from voxnb.clients import window
from voxnb.clients.address import Endpoint
from voxnb.clients.endpoint import resolve_endpoint
from voxnb.clients.sdk import Transport
from voxnb.clients.window import discover_window
from voxnb.params import ChatParameters


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(window, "_known", {})


def pages(wire, table):
    """An answer function that serves a table of paths; a value that is callable gets the request."""

    async def answer(asked, _writer):
        found = table.get(asked.target.partition("?")[0])
        if callable(found):
            found = found(asked)
        return wire.http("404 Not Found", {"error": "no"}) if found is None else wire.http(body=found)

    return answer


def discover(wire, table, model="m", *, times=1):
    """What is found against such a server, and which paths were asked."""

    async def main():
        async with wire.server(pages(wire, table)) as server:
            transport = Transport(resolve_endpoint(ChatParameters(base_url=server.base_url), {}))
            found = [await discover_window(transport, model) for _ in range(times)]
            await transport.aclose()
            return found, [a.target for a in server.asked]

    found, asked = asyncio.run(main())
    return (found[0] if times == 1 else found), asked


def models(*entries, **more):
    return {"/v1/models": {"object": "list", "data": [dict(e) for e in entries]}, **more}


def test_vllm_tells_it_in_the_list_of_models(wire):
    listed = models(
        {"id": "other", "owned_by": "vllm", "max_model_len": 4096},
        {"id": "m", "owned_by": "vllm", "max_model_len": 32768},
    )
    assert discover(wire, listed) == (32768, ["/v1/models"])
    assert discover(wire, listed, model="nobody")[0] is None


def test_the_only_model_answers_for_every_name(wire):
    assert discover(wire, models({"id": "served", "owned_by": "vllm", "max_model_len": 2048}), model="alias")[0] == 2048


@pytest.mark.parametrize("name", ["context_length", "context_window", "max_context_length", "loaded_context_length"])
def test_hosted_providers_have_fields_of_their_own(wire, name):
    assert discover(wire, models({"id": "m", "owned_by": "x", name: 131072}))[0] == 131072


def test_llama_cpp_tells_the_size_of_a_slot_in_its_list(wire):
    entry = {
        "id": "file.gguf",
        "aliases": ["m"],
        "owned_by": "llamacpp",
        "meta": {"n_ctx": 4096, "n_ctx_train": 131072},
    }
    assert discover(wire, models(entry, {"id": "n"})) == (4096, ["/v1/models"])


def test_older_llama_cpp_tells_it_among_its_properties(wire):
    entry = {"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 131072}}
    props = {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 2}
    assert discover(wire, models(entry, **{"/props": props})) == (2048, ["/v1/models", "/props"])
    assert discover(wire, models(entry, **{"/v1/props": props}))[0] == 2048
    assert discover(wire, models(entry))[0] is None
    assert discover(wire, models(entry, **{"/props": {"default_generation_settings": {"n_ctx": 0}}}))[0] is None


OLLAMA = {"id": "llama3.2:latest", "object": "model", "owned_by": "library"}


def test_ollama_tells_the_window_of_a_loaded_model(wire):
    running = {
        "models": [{"name": "x:latest", "context_length": 1024}, {"name": "llama3.2:latest", "context_length": 32768}]
    }
    found = discover(wire, models(OLLAMA, **{"/api/ps": running}), model="llama3.2")
    assert found == (32768, ["/v1/models", "/api/ps"])


def test_ollama_tells_what_the_model_asks_for_before_it_is_loaded(wire):
    def show(asked):
        assert asked.json == {"model": "llama3.2"}
        return {
            "parameters": 'stop                           "<|eot_id|>"\nnum_ctx                        8192',
            "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
        }

    table = models(OLLAMA, **{"/api/ps": {"models": []}, "/api/show": show})
    assert discover(wire, table, model="llama3.2") == (8192, ["/v1/models", "/api/ps", "/api/show"])


def test_ollama_never_gives_more_than_the_model_was_trained_for(wire):
    shown = {"parameters": "num_ctx 8192", "model_info": {"x.context_length": 2048}}
    assert discover(wire, models(OLLAMA, **{"/api/ps": {}, "/api/show": shown}))[0] == 2048
    assert (
        discover(wire, models(OLLAMA, **{"/api/ps": {}, "/api/show": {"model_info": {"x.context_length": 2048}}}))[0]
        == 2048
    )


def test_ollamas_default_is_assumed_until_the_model_is_loaded(wire):
    loaded = []

    def running(_asked):
        loaded.append(1)
        return {"models": [{"model": "llama3.2:latest", "context_length": 262144}] if len(loaded) == 3 else []}

    table = models(OLLAMA, **{"/api/ps": running, "/api/show": {"model_info": {"llama.context_length": 131072}}})
    found, _ = discover(wire, table, model="llama3.2", times=5)
    assert found == [4096, 4096, 262144, 262144, 262144]
    assert len(loaded) == 3, "asked until it was final, not after"


def test_a_model_that_ollama_has_elsewhere_has_all_it_was_trained_for(wire):
    shown = {"remote_host": "https://ollama.com:443", "model_info": {"x.context_length": 262144}}
    assert discover(wire, models(OLLAMA, **{"/api/ps": {"models": []}, "/api/show": shown}))[0] == 262144


def test_a_gateway_with_colons_in_its_names_is_no_ollama(wire):
    listed = models({"id": "anthropic.claude:1", "owned_by": "bedrock"}, {"id": "meta.llama:0", "owned_by": "bedrock"})
    assert discover(wire, listed) == (None, ["/v1/models", "/api/ps"])


def test_a_server_is_asked_once_for_each_model(wire):
    entries = models({"id": "m", "max_model_len": 2048}, {"id": "n", "max_model_len": 4096})

    async def main():
        async with wire.server(pages(wire, entries)) as server:
            endpoint = resolve_endpoint(ChatParameters(base_url=server.base_url), {})
            first, second = Transport(endpoint), Transport(endpoint)
            found = [await discover_window(t, m) for t in (first, second) for m in ("m", "n", "m")]
            await first.aclose()
            await second.aclose()
            return found, len(server.asked)

    assert asyncio.run(main()) == ([2048, 4096, 2048] * 2, 2)


def test_a_server_that_does_not_tell_is_not_asked_again(wire):
    assert discover(wire, {}, times=3) == ([None, None, None], ["/v1/models"])
    assert discover(wire, models({"id": "m"}), times=3) == ([None, None, None], ["/v1/models"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": {"id": "m"}},
        {"data": [None, 3, "m", ["m"]]},
        {"data": [{"id": "m", "max_model_len": "2048"}]},
        {"data": [{"id": "m", "max_model_len": True, "meta": [], "context_length": -1}]},
        {"data": [{"id": "m", "owned_by": None, "meta": {"n_ctx": 0}, "max_model_len": 0}]},
    ],
)
def test_odd_answers_tell_nothing(wire, body):
    assert discover(wire, {"/v1/models": body})[0] is None


@pytest.mark.parametrize("body", [{"models": None}, {"models": [None, {"name": "m", "context_length": None}]}])
def test_odd_answers_of_ollama_end_at_its_default(wire, body):
    table = models(OLLAMA, **{"/api/ps": body, "/api/show": {"parameters": 5, "model_info": None}})
    assert discover(wire, table)[0] == 4096


@pytest.mark.parametrize("status", ["401 No", "429 No", "500 No"])
def test_refusals_are_no_errors_and_are_not_remembered(wire, status):
    async def main():
        listed = wire.http(body={"data": [{"id": "m", "max_model_len": 2048}]})
        async with wire.server(wire.http(status, {}), listed) as server:
            transport = Transport(resolve_endpoint(ChatParameters(base_url=server.base_url), {}))
            found = [await discover_window(transport, "m") for _ in range(2)]
            await transport.aclose()
            return found, len(server.asked)

    assert asyncio.run(main()) == ([None, 2048], 2)


def test_a_login_page_and_a_dropped_connection_are_no_errors(wire):
    async def main(answer):
        async with wire.server(answer) as server:
            transport = Transport(resolve_endpoint(ChatParameters(base_url=server.base_url), {}))
            found = await discover_window(transport, "m")
            await transport.aclose()
            return found

    assert asyncio.run(main(wire.http(body="<html>", kind="text/html"))) is None
    assert asyncio.run(main(wire.drop)) is None


def test_a_server_that_hangs_costs_a_limited_time(wire, monkeypatch):
    monkeypatch.setattr(window, "LONGEST_S", 0.2)

    async def hang(_asked, _writer):
        await asyncio.sleep(3600)

    async def main():
        async with wire.server(hang) as server:
            transport = Transport(resolve_endpoint(ChatParameters(base_url=server.base_url), {}))
            began = time.monotonic()
            found = await discover_window(transport, "m")
            await transport.aclose()
            return found, time.monotonic() - began

    found, took_s = asyncio.run(main())
    assert found is None
    assert took_s < 3


def test_cancelling_the_question_is_not_swallowed(wire):
    async def hang(_asked, _writer):
        await asyncio.sleep(3600)

    async def main():
        async with wire.server(hang) as server:
            transport = Transport(resolve_endpoint(ChatParameters(base_url=server.base_url), {}))
            task = asyncio.ensure_future(discover_window(transport, "m"))
            await server.arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("facts", [{"is_openai": True}, {"api_version": "v"}])
def test_openai_and_azure_are_not_asked(wire, facts):
    async def main():
        async with wire.server(wire.http(body={"data": [{"id": "m", "max_model_len": 5000}]})) as server:
            transport = Transport(Endpoint(server.base_url, "h", **facts))
            found = await discover_window(transport, "m")
            await transport.aclose()
            return found, server.asked

    assert asyncio.run(main()) == (None, [])


def test_the_test_server_tells_its_window():
    with testing.server("Hi.", models=["gpt-x"], window_tokens=3000) as server:

        async def main():
            transport = Transport(resolve_endpoint(ChatParameters(base_url=server.base_url), {}))
            found = await discover_window(transport, "gpt-x")
            await transport.aclose()
            return found

        assert asyncio.run(main()) == 3000
        assert [r.path for r in server.requests] == ["/v1/models"]
