"""Transport: what goes over the wire, what is tried again, what an error says, and what it never holds."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings

import pytest

import voxnb
from voxnb import errors, testing
from voxnb.clients import refusal, sdk
from voxnb.clients.endpoint import Endpoint, resolve_endpoint
from voxnb.clients.failure import causes
from voxnb.clients.sdk import Transport, overflow_of
from voxnb.params import ChatParameters
from voxnb.runtime import loop as background

KEY = "sk-voxnb-0123456789abcdef"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Grüße, 世界"}], "stream": True}
PATH = "/chat/completions"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(refusal, "FIRST_WAIT_S", 0.001)


def transport_to(server, *, key=KEY, timeout_s=None, max_retries=2, environ=None, **given):
    parameters = ChatParameters(api_key=key, base_url=server.base_url, **given)
    return Transport(resolve_endpoint(parameters, environ or {}), timeout_s=timeout_s, max_retries=max_retries)


async def read(transport, body=BODY, **given):
    async with transport.stream(PATH, body, **given) as stream:
        return stream, b"".join([data async for data in stream])


def ask(wire, *answers, body=BODY, on_retry=None, **given):
    """One request against a scripted server: the server, and what came of it (an error is returned)."""

    async def main():
        async with wire.server(*answers) as server:
            transport = transport_to(server, **given)
            try:
                return server, await read(transport, body, on_retry=on_retry)
            except errors.VoxnbError as error:
                return server, error
            finally:
                await transport.aclose()

    return asyncio.run(main())


# -- what is sent and what comes back --------------------------------------------------------------


def test_bytes_of_a_stream_come_up_untouched(wire):
    body = 'data: {"a": "世界"}\r\n\r\n: comment\n\ndata: [DONE]\n\n'.encode()
    server, (stream, data) = ask(
        wire, wire.http(body=body, kind="text/event-stream; charset=utf-8", x_request_id="req-1")
    )
    assert data == body
    assert (stream.status, stream.content_type, stream.is_streamed) == (200, "text/event-stream", True)
    assert (stream.request_id, stream.retries, stream.headers["x-request-id"]) == ("req-1", 0, "req-1")
    asked = server.asked[0]
    assert (asked.method, asked.target, asked.json) == ("POST", "/v1/chat/completions", BODY)
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"


def test_pieces_come_up_when_they_arrive_not_when_the_answer_ends(wire):
    async def slowly(_asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await seen[piece].wait()
        return b"0\r\n\r\n"

    seen = {}

    async def main():
        seen.update({p: asyncio.Event() for p in (b"data: 1\n\n", b"data: 2\n\n")})
        async with wire.server(slowly) as server:
            transport = transport_to(server)
            got = []
            async with transport.stream(PATH, BODY) as stream:
                async for data in stream:
                    got.append(data)
                    seen[data].set()  # the server sends the next piece only now
            await transport.aclose()
            return got

    assert asyncio.run(asyncio.wait_for(main(), 10)) == [b"data: 1\n\n", b"data: 2\n\n"]


def test_a_json_answer_is_an_unstreamed_answer(wire):
    _, (stream, data) = ask(wire, wire.http(body={"choices": []}, kind="application/json; charset=utf-8"))
    assert not stream.is_streamed
    assert json.loads(data) == {"choices": []}


def test_compressed_answers_are_unpacked(wire):
    _, (_, data) = ask(
        wire, wire.http(body=gzip.compress(b"data: x\n\n"), kind="text/event-stream", content_encoding="gzip")
    )
    assert data == b"data: x\n\n"


def test_no_key_sends_no_authorization(wire, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: blue\nAuthorization: Bearer other")
    server, _ = ask(wire, wire.http(body=[{}]), key=None, environ=dict(os.environ))
    headers = server.asked[0].headers
    assert not {"authorization", "api-key", "openai-organization", "openai-project", "x-team"} & set(headers)
    assert headers["user-agent"].startswith("AsyncOpenAI/")


def test_project_organization_and_headers_of_the_endpoint_are_sent(wire):
    async def main():
        async with wire.server(wire.http(body=[{}])) as server:
            endpoint = Endpoint(
                server.base_url, "h", api_key=KEY, project="proj", organization="org", headers={"X-Team": "blue"}
            )
            transport = Transport(endpoint)
            await read(transport)
            await transport.aclose()
            return server.asked[0].headers

    headers = asyncio.run(main())
    assert (headers["openai-project"], headers["openai-organization"], headers["x-team"]) == ("proj", "org", "blue")


def test_azure_requests_go_to_the_deployment_with_its_own_header(wire):
    server, _ = ask(wire, wire.http(body=[{}]), body={**BODY, "model": "my gpt"}, api_version="2024-10-21")
    asked = server.asked[0]
    assert asked.target == "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"
    assert asked.headers["api-key"] == KEY
    assert "authorization" not in asked.headers


def test_azure_without_a_key_sends_none(wire, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", KEY)
    server, _ = ask(wire, wire.http(body=[{}]), key=None, api_version="2024-10-21", environ=dict(os.environ))
    assert not {"authorization", "api-key"} & set(server.asked[0].headers)


def test_a_key_function_is_asked_before_every_attempt(wire):
    keys = iter(["sk-one", "sk-two"])
    server, _ = ask(wire, wire.http("503 X", {}), wire.http(body=[{}]), key=lambda: next(keys))
    assert [a.headers["authorization"] for a in server.asked] == ["Bearer sk-one", "Bearer sk-two"]


def test_a_blocking_key_function_does_not_stop_the_loop(wire):
    def slow():
        assert not ticked.wait(0), "asked too early to tell"
        assert ticked.wait(5), "the loop stood still while the key was fetched"
        return KEY

    import threading

    ticked = threading.Event()

    async def main():
        async with wire.server(wire.http(body=[{}])) as server:
            transport = transport_to(server, key=slow)
            await transport.prepare()
            task = asyncio.ensure_future(read(transport))
            asyncio.get_running_loop().call_later(0.05, ticked.set)
            await task
            await transport.aclose()

    asyncio.run(main())


def test_an_async_key_function_is_awaited(wire):
    async def key():
        await asyncio.sleep(0)
        return "sk-async"

    server, _ = ask(wire, wire.http(body=[{}]), key=key)
    assert server.asked[0].headers["authorization"] == "Bearer sk-async"


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: 1 / 0, "raised ZeroDivisionError"),
        (lambda: sys.exit(3), "raised SystemExit"),
        (lambda: None, "returned NoneType, expected a key"),
        (lambda: "  ", "returned str, expected a key"),
        (lambda: "sk bad", "position 2"),
    ],
)
def test_a_key_function_that_fails_is_a_credentials_error(wire, function, says):
    server, error = ask(wire, wire.http(body=[{}]), key=function)
    assert type(error) is errors.CredentialsError
    assert says in str(error)
    assert server.asked == []


def test_post_and_get_return_json_objects(wire):
    async def main():
        async with wire.server(wire.http(body={"n": 1})) as server:
            transport = transport_to(server)
            posted = await transport.post("/x/y", {"a": 1})
            got = await transport.get("/models")
            at_root = await transport.get("/props", at_root=True)
            await transport.aclose()
            return server.asked, posted, got, at_root

    asked, *found = asyncio.run(main())
    assert found == [{"n": 1}] * 3
    assert [(a.method, a.target) for a in asked] == [("POST", "/v1/x/y"), ("GET", "/v1/models"), ("GET", "/props")]
    assert all(a.headers["authorization"] == f"Bearer {KEY}" for a in asked)


@pytest.mark.parametrize("status", ["404 Not Found", "405 No", "501 No"])
def test_get_is_none_where_the_server_has_nothing(wire, status):
    async def main():
        async with wire.server(wire.http(status, "<html>", kind="text/html")) as server:
            transport = transport_to(server)
            found = await transport.get("/props", at_root=True)
            await transport.aclose()
            return found

    assert asyncio.run(main()) is None


@pytest.mark.parametrize("body", [b"[1]", b"3", b"{", b"\xff\xfe"])
def test_post_refuses_what_is_no_json_object(wire, body):
    async def main():
        async with wire.server(wire.http(body=body)) as server:
            transport = transport_to(server)
            with pytest.raises(errors.APIResponseValidationError):
                await transport.post(PATH, BODY)
            await transport.aclose()

    asyncio.run(main())


def test_post_raises_an_error_that_was_sent_with_status_200(wire):
    async def main():
        async with wire.server(wire.http(body={"error": {"message": "no", "code": 400}})) as server:
            transport = transport_to(server)
            with pytest.raises(errors.BadRequestError, match="no"):
                await transport.post(PATH, BODY)
            await transport.aclose()

    asyncio.run(main())


def test_a_request_that_json_cannot_hold_is_a_parameter_error(wire):
    for value in (float("nan"), {1, 2}, "\ud800"):
        server, error = ask(wire, wire.http(body=[{}]), body={**BODY, "x": value})
        assert type(error) is errors.ParameterError, value
        assert "cannot be written as JSON" in str(error)
        assert server.asked == []


# -- other things than the API ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "line"),
    [
        ("text/html", "<!DOCTYPE html>\n<title>Sign in</title>", "<!DOCTYPE html>"),
        ("text/plain", "  \n\n  hello \nworld", "hello"),
        ("", "", ""),
        ("", "data: {}\n\n", "data: {}"),
        ("application/json", "", ""),
        ("application/octet-stream", b"\x00\xff" * 300, None),
    ],
)
def test_another_content_type_is_an_error_with_its_first_line(wire, kind, body, line):
    server, error = ask(wire, wire.http(body=body, kind=kind))
    assert type(error) is errors.APIResponseValidationError
    assert len(error.first_line) <= 200
    if line is not None:
        assert error.first_line == line
        assert line in str(error)
    assert "base_url" in str(error)
    assert len(server.asked) == 1, "a page does not become an API by asking again"


def test_a_redirect_is_not_followed_and_named_without_what_its_address_carries(wire):
    moved = wire.http("302 Found", b"", location="/login?state=secret-state")
    server, error = ask(wire, moved, wire.http(body="<html>", kind="text/html"))
    assert "sent the request elsewhere (HTTP 302)" in str(error)
    assert str(error).endswith(": /login")
    assert "secret-state" not in str(error)
    assert len(server.asked) == 1, "the key goes to the host that was named, to no other"


def test_an_endless_page_is_not_read_to_its_end(wire):
    async def endless(_asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>\n")
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

    _, error = ask(wire, endless)
    assert error.first_line == "<html>"


def test_a_stream_without_a_byte_is_asked_for_again(wire):
    empty = wire.http(body=b"", kind="text/event-stream")
    server, (stream, data) = ask(wire, empty, wire.http(body=[{"a": 1}]))
    assert (stream.retries, len(server.asked)) == (1, 2)
    assert b'"a": 1' in data
    _, error = ask(wire, empty)
    assert type(error) is errors.APIConnectionError
    assert error.retries == 2


# -- retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["408 X", "409 X", "429 X", "500 X", "502 X", "503 X", "529 X"])
def test_passing_refusals_are_tried_again_and_told(wire, status):
    told = []
    server, (stream, _) = ask(wire, wire.http(status, {}), wire.http(body=[{}]), on_retry=lambda *a: told.append(a))
    assert (stream.retries, len(server.asked)) == (1, 2)
    ((attempt, error, wait_s),) = told
    assert (attempt, error.status_code) == (1, int(status[:3]))
    assert 0 < wait_s < 0.1
    assert [a.headers["x-stainless-retry-count"] for a in server.asked] == ["0", "1"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_final_refusals_are_not_tried_again(wire, status):
    body = {"error": {"message": "no", "type": "t", "code": "c", "param": "messages[2].role"}}
    server, error = ask(wire, wire.http(f"{status} X", body))
    assert len(server.asked) == 1
    assert isinstance(error, errors.status_error(status))
    assert (error.status_code, error.retries, error.code, error.body["message"]) == (status, 0, "c", "no")
    assert (error.param, error.type) == ("messages[2].role", "t")
    assert "no (parameter 'messages[2].role')" in str(error)
    assert error.host == f"127.0.0.1:{server.port}"


def test_retries_are_bounded_and_counted(wire):
    told = []
    server, error = ask(wire, wire.http("500 X", {}), max_retries=3, on_retry=lambda *a: told.append(a[0]))
    assert type(error) is errors.InternalServerError
    assert (len(server.asked), error.retries, told) == (4, 3, [1, 2, 3])
    assert "after 3 retries" in str(error)
    assert str(error) == error.args[0]
    server, error = ask(wire, wire.http("500 X", {}), max_retries=0)
    assert (len(server.asked), error.retries) == (1, 0)


def test_retry_after_is_obeyed(wire):
    told = []
    ask(
        wire,
        wire.http("429 X", {}, retry_after="0.02"),
        wire.http("503 X", {}, retry_after_ms="30"),
        wire.http("429 X", {}, retry_after="Fri, 01 Jan 2021 00:00:00 GMT"),
        wire.http("429 X", {}, retry_after="soon"),
        wire.http(body=[{}]),
        max_retries=4,
        on_retry=lambda *a: told.append(a[2]),
    )
    assert told[:3] == [0.02, 0.03, 0.0]
    assert 0 < told[3] < 0.1


def test_a_server_that_wants_more_than_two_minutes_is_not_waited_for(wire):
    server, error = ask(wire, wire.http("429 X", {}, retry_after="3600"))
    assert type(error) is errors.RateLimitError
    assert (error.retry_after_s, len(server.asked)) == (3600.0, 1)


def test_a_used_up_quota_is_not_tried_again(wire):
    server, error = ask(wire, wire.http("429 X", {"error": {"message": "quota", "code": "insufficient_quota"}}))
    assert len(server.asked) == 1
    assert "billing" in str(error)


@pytest.mark.parametrize(("said", "times"), [("true", 2), ("false", 1)])
def test_a_server_that_says_whether_to_retry_is_believed(wire, said, times):
    status = "400 X" if said == "true" else "500 X"
    server, _ = ask(wire, wire.http(status, {}, x_should_retry=said), wire.http(body=[{}]))
    assert len(server.asked) == times


def test_a_dropped_connection_is_tried_again(wire):
    server, (stream, _) = ask(wire, wire.drop, wire.http(body=[{}]))
    assert (stream.retries, len(server.asked)) == (1, 2)


def test_headers_without_a_body_are_tried_again(wire):
    async def headers_only(_asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    server, (stream, _) = ask(wire, headers_only, wire.http(body=[{}]))
    assert (stream.retries, len(server.asked)) == (1, 2)


def test_nothing_is_tried_again_after_the_first_byte(wire):
    async def half(_asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await writer.drain()

    told = []
    server, error = ask(wire, half, wire.http(body=[{}]), on_retry=lambda *a: told.append(a))
    assert type(error) is errors.StreamBrokenError
    assert (len(server.asked), told, error.host) == (1, [], f"127.0.0.1:{server.port}")
    assert "half way" in str(error)


def test_garbage_after_the_first_byte_is_a_broken_stream(wire):
    body = wire.http(
        body=gzip.compress(b"data: x\n\n" * 9)[:-9] + b"garbage!!", kind="text/event-stream", content_encoding="gzip"
    )
    _, error = ask(wire, body)
    assert isinstance(error, errors.APIConnectionError)


def test_an_answer_that_is_no_http_is_a_connection_error(wire):
    async def other(_asked, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    server, error = ask(wire, other, max_retries=1)
    assert type(error) is errors.APIConnectionError
    assert f"127.0.0.1:{server.port}" in str(error)


# -- time ------------------------------------------------------------------------------------------


async def _hang(_asked, _writer):
    await asyncio.sleep(3600)


def _streaming(*steps):
    async def answer(_asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for step in steps:
            if isinstance(step, bytes):
                writer.write(b"%x\r\n%s\r\n" % (len(step), step))
                await writer.drain()
            else:
                await asyncio.sleep(step)
        return b"0\r\n\r\n"

    return answer


@pytest.mark.parametrize("answer", [_hang, _streaming(3600.0)], ids=["no headers", "headers only"])
def test_silence_before_the_first_byte_ends_in_a_timeout_and_is_not_repeated(wire, answer):
    began = time.monotonic()
    server, error = ask(wire, answer, timeout_s=0.1)
    assert type(error) is errors.APITimeoutError
    assert time.monotonic() - began < 8
    assert len(server.asked) == 1
    assert "0.1 s" in str(error)
    assert "timeout_s" in str(error)


def test_silence_after_the_first_byte_ends_in_a_timeout(wire):
    _, error = ask(wire, _streaming(b"data: 1\n\n", 3600.0), timeout_s=0.1)
    assert type(error) is errors.APITimeoutError


def test_the_limit_is_on_silence_not_on_the_whole_answer(wire):
    _, (_, data) = ask(wire, _streaming(*[b"data: 1\n\n", 0.05] * 6), timeout_s=0.2)
    assert data == b"data: 1\n\n" * 6


def test_by_default_the_limit_is_shorter_after_the_first_byte(wire, monkeypatch):
    assert (sdk.FIRST_BYTE_S, sdk.SILENCE_S) == (600, 60)
    monkeypatch.setattr(sdk, "SILENCE_S", 0.1)
    _, (_, data) = ask(wire, _streaming(0.3, b"data: 1\n\n"))
    assert data == b"data: 1\n\n"
    _, error = ask(wire, _streaming(b"data: 1\n\n", 3600.0))
    assert type(error) is errors.APITimeoutError
    assert "0.1 s" in str(error)


@pytest.mark.parametrize("where", ["asking", "waiting to retry", "reading"])
def test_it_can_be_cancelled_at_any_point(wire, where, monkeypatch):
    answer = {"asking": _hang, "reading": _streaming(b"data: 1\n\n", 3600.0)}.get(where) or wire.http("500 X", {})
    monkeypatch.setattr(refusal, "FIRST_WAIT_S", 8.0 if where == "waiting to retry" else 0.001)

    async def main():
        there = asyncio.Event()

        async def work(transport):
            async with transport.stream(PATH, BODY, on_retry=lambda *_: there.set()) as stream:
                async for _ in stream:
                    there.set()

        async with wire.server(answer) as server:
            transport = transport_to(server)
            task = asyncio.ensure_future(work(transport))
            await (server.arrived if where == "asking" else there).wait()
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await transport.aclose()
            return time.monotonic() - began

    assert asyncio.run(main()) < 1


# -- errors that help ------------------------------------------------------------------------------


def refused_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def failing(base_url, *, key=None, environ=None, max_retries=0, **given):
    async def main():
        transport = Transport(
            resolve_endpoint(ChatParameters(api_key=key, base_url=base_url, **given), environ or {}),
            max_retries=max_retries,
        )
        with pytest.raises(errors.APIError) as caught:
            await read(transport)
        await transport.aclose()
        return caught.value

    return asyncio.run(main())


def test_a_refused_connection_names_the_address_and_what_to_check():
    port = refused_port()
    error = failing(f"http://localhost:{port}", max_retries=1)
    assert type(error) is errors.APIConnectionError
    assert f"localhost:{port}" in str(error)
    assert "check that the server runs" in str(error)
    assert error.retries == 1


def test_a_refused_ollama_names_the_command_that_starts_it(monkeypatch):
    monkeypatch.setattr("voxnb.clients.address.OLLAMA_PORT", 11434)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 11434)) == 0:
            pytest.skip("an Ollama runs here")
    assert "ollama serve" in str(failing("ollama"))


def test_an_unknown_host_is_named():
    error = failing("https://no-such-host.invalid")
    assert "no host 'no-such-host.invalid'" in str(error)


def test_tls_to_a_plain_server_says_to_write_http():
    async def plain(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def main():
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await asyncio.to_thread(failing, f"https://127.0.0.1:{port}", max_retries=2)
        finally:
            server.close()

    error = asyncio.run(main())
    assert "write http://" in str(error)
    assert error.retries == 0, "asking again does not teach the server TLS"


def test_401_names_where_the_key_came_from_and_none_of_its_characters(wire):
    words = f"Incorrect API key provided: {KEY}. Or was it sk-vox*****cdef?"
    for source, given in (("api_key", {}), ("OPENAI_API_KEY", {"key": None})):

        async def main(given=given):
            async with wire.server(
                wire.http("401 No", {"error": {"message": words, "code": "invalid_api_key"}})
            ) as server:
                environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.base_url}
                transport = transport_to(server, environ=environ, **given)
                with pytest.raises(errors.AuthenticationError) as caught:
                    await read(transport)
                await transport.aclose()
                return caught.value

        error = asyncio.run(main())
        assert f"the key from {source}" in str(error)
        assert "0123456789" not in str(error)
        assert "cdef" not in str(error)
        assert "cdef" not in repr(error.body)


def test_401_without_a_key_says_that_none_was_sent(wire):
    _, error = ask(wire, wire.http("401 No", {"error": {"message": "You didn't provide an API key."}}), key=None)
    assert "none was sent" in str(error)
    assert "api_key=" in str(error)


def test_404_names_the_model_and_the_address(wire):
    server, error = ask(
        wire,
        wire.http("404 No", {"error": {"message": "gone", "code": "model_not_found"}}),
        body={**BODY, "model": "gpt-9"},
    )
    assert type(error) is errors.NotFoundError
    assert "no model 'gpt-9'" in str(error)
    assert f"127.0.0.1:{server.port}/v1/chat/completions" in str(error)


def test_facts_of_a_refusal_are_attributes_and_survive_pickling(wire):
    _, error = ask(
        wire,
        wire.http("429 X", {"error": {"message": "slow down"}}, retry_after="1", x_request_id="r-7"),
        max_retries=0,
    )
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.status_code, copy.request_id, copy.retry_after_s) == (429, "r-7", 1.0)
    assert "slow down" in str(copy)


@pytest.mark.parametrize(
    "body", ["<html><head><title>502 Bad Gateway</title></head></html>", "", "null", '"x"', "[]", "{"]
)
def test_any_body_of_a_refusal_makes_a_readable_error(wire, body):
    _, error = ask(wire, wire.http("502 Bad", body, kind="text/html"), max_retries=0)
    assert type(error) is errors.InternalServerError
    assert "HTTP 502" in str(error)
    assert len(str(error)) < 300


OVERFLOWS = [
    ("OpenAI", "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce the length of the messages.", (8192, 9001)),
    ("OpenAI", "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300005 tokens. Please reduce the length of the messages.", (272000, 300005)),
    ("vLLM", "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the messages, 10000 in the completion). Please reduce the length of the messages or completion.", (16384, 112946)),
    ("vLLM", "This model's maximum context length is 2048 tokens. However, your request has 2100 input tokens. Please reduce the length of the input messages.", (2048, 2100)),
    ("vLLM", "'max_tokens' or 'max_completion_tokens' is too large: 3000. This model's maximum context length is 4096 tokens and your request has 1500 input tokens (3000 > 4096 - 1500).", (4096, 1500)),
    ("vLLM", "This model's maximum context length is 2048 tokens. However, you requested 200 output tokens and your prompt contains at least 1849 input tokens, for a total of at least 2049 tokens. Please reduce the length of the input prompt or the number of requested output tokens.", (2048, 1849)),
    ("vLLM", "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that …", (4096, 5000)),
    ("SGLang", "The input (10002 tokens) is longer than the model's context length (8192 tokens).", (8192, 10002)),
    ("SGLang", "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9000 tokens: 8500 tokens from the input messages and 500 tokens for the completion.", (8192, 8500)),
    ("llama.cpp", "request (5021 tokens) exceeds the available context size (4096 tokens), try increasing it", (4096, 5021)),
    ("llama-cpp-python", "Requested tokens (2285) exceed context window of 2048", (2048, 2285)),
    ("Ollama", "the prompt is longer than the context length currently available to the model; shorten the prompt or adjust the context length in settings", (None, None)),
    ("Ollama", "input length (9533 tokens) exceeds the model's maximum context length (2048 tokens)", (2048, 9533)),
    ("Ollama", '{"error":{"code":400,"message":"request exceeds","type":"exceed_context_size_error","n_prompt_tokens":14429,"n_ctx":8192}}', (8192, 14429)),
    ("LM Studio", "Trying to keep the first 50785 tokens when context the overflows. However, the model is loaded with context length of only 45217 tokens, which is not enough.", (45217, 50785)),
    ("TGI", "Input validation error: `inputs` must have less than 99999 tokens. Given: 100500", (99999, 100500)),
    ("Mistral", "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", (32768, 40000)),
    ("Anthropic", "prompt is too long: 210000 tokens > 200000 maximum", (200000, 210000)),
    ("Gemini", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", (1048576, 1200000)),
    ("OpenRouter", "This endpoint's maximum context length is 32,768 tokens. However, you requested about 40,000 tokens (38,000 of text input, 2,000 in the output).", (32768, 38000)),
]  # fmt: skip


@pytest.mark.parametrize(("server_kind", "words", "numbers"), OVERFLOWS)
def test_every_servers_way_to_say_too_long_is_understood(wire, server_kind, words, numbers):
    _, error = ask(
        wire, wire.http("400 Bad", {"error": {"message": words, "type": "invalid_request_error", "code": 400}})
    )
    assert type(error) is errors.BadRequestError
    assert overflow_of(error) == numbers
    assert (error.context_limit_tokens, error.context_sent_tokens) == numbers
    assert "too long for m" in str(error)


def test_numbers_beside_the_words_are_taken(wire):
    body = {
        "error": {
            "code": 400,
            "message": "too big",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 1407,
            "n_ctx": 256,
        }
    }
    _, error = ask(wire, wire.http("400 Bad", body))
    assert overflow_of(error) == (256, 1407)
    body["error"]["code"] = 500
    server, error = ask(wire, wire.http("500 Bad", body))
    assert overflow_of(error) == (256, 1407)
    assert len(server.asked) == 1, "too long stays too long"


def test_a_server_that_lists_what_it_checked_names_the_parameter(wire):
    detail = [{"loc": ["body", "messages", 2, "role"], "msg": "field required", "type": "value_error.missing"}]
    _, error = ask(wire, wire.http("422 Unprocessable", {"detail": detail}))
    assert type(error) is errors.UnprocessableEntityError
    assert error.param == "messages.2.role"
    assert str(error).endswith("field required (parameter 'messages.2.role')")


def test_a_code_is_enough_and_other_refusals_are_none(wire):
    _, error = ask(
        wire,
        wire.http("400 Bad", {"error": {"message": "Please reduce the length.", "code": "context_length_exceeded"}}),
    )
    assert overflow_of(error) == (None, None)
    _, error = ask(wire, wire.http("400 Bad", {"error": {"message": "temperature must be at most 2", "code": None}}))
    assert overflow_of(error) is None
    _, error = ask(
        wire,
        wire.http("429 X", {"error": {"message": "Request too large: Limit 30000, Requested 40000 tokens"}}),
        max_retries=0,
    )
    assert overflow_of(error) is None
    assert overflow_of(ValueError("maximum context length is 5 tokens")) is None


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "x", "type": "server_error", "code": None}}, errors.InternalServerError),
        ({"error": {"message": "x", "type": "rate_limit_error"}}, errors.RateLimitError),
        ({"error": {"message": "x", "code": 503, "type": "unavailable_error"}}, errors.InternalServerError),
        ({"object": "error", "message": "x", "type": "BadRequestError", "code": 400}, errors.BadRequestError),
        ({"type": "error", "error": {"message": "x", "type": "invalid_request_error"}}, errors.BadRequestError),
        ({"error": "this model's maximum context length is 10 tokens"}, errors.BadRequestError),
        ({"error": "no"}, errors.InternalServerError),
        ({"choices": [{"delta": {}}], "error": None}, None),
        ({"choices": [], "usage": {}}, None),
    ],
)
def test_errors_inside_a_stream_are_told_from_chunks(payload, kind):
    transport = Transport(Endpoint("http://127.0.0.1:9/v1", "127.0.0.1:9"))
    found = transport.payload_error(payload, model="m")
    assert (found is None) if kind is None else (type(found) is kind and "127.0.0.1:9" in str(found))


# -- what an error never holds ---------------------------------------------------------------------


def leaks(error, needle):
    """Every place of an exception and its causes where a text can be found."""
    found = []
    for cause in causes(error):
        places = {"str": str(cause), "repr": repr(cause), "args": repr(cause.args), "dict": repr(vars(cause))}
        for holder in (cause, getattr(cause, "response", None)):
            request = getattr(holder, "request", None) if holder is not None else None
            if request is not None:
                places[f"headers of {type(holder).__name__}"] = repr(request.headers.raw)
        frames = traceback.StackSummary.extract(traceback.walk_tb(cause.__traceback__), capture_locals=True)
        places["locals"] = "".join(str(f.locals) for f in frames if "/openai/" in f.filename or "/http" in f.filename)
        found += [(type(cause).__name__, name) for name, text in places.items() if needle in text]
    return found


def answer_401(wire):
    return wire.http("401 No", {"error": {"message": f"bad key {KEY}"}})


@pytest.mark.parametrize("api_version", [None, "2024-10-21"], ids=["OpenAI", "Azure"])
@pytest.mark.parametrize("key", [KEY, lambda: KEY], ids=["text", "function"])
@pytest.mark.parametrize("trouble", ["401", "500", "drop", "refused", "timeout", "half", "page", "redirect"])
def test_no_error_holds_the_key(wire, trouble, key, api_version):
    async def redirect(asked, _writer):
        if "next" in asked.target:
            return wire.http("401 No", {"error": {"message": f"bad key {KEY}"}})
        return wire.http("307 X", b"", location="/v1/next")

    answer = {
        "401": answer_401(wire),
        "500": wire.http("500 X", KEY, kind="text/plain"),
        "drop": wire.drop,
        "refused": wire.drop,
        "timeout": _hang,
        "half": _streaming(b"data: 1\n\n", 3600.0),
        "page": wire.http(body=f"<html>{KEY}", kind="text/html"),
        "redirect": redirect,
    }[trouble]

    async def main():
        async with wire.server(answer) as server:
            if trouble == "refused":
                server.port = refused_port()
            transport = transport_to(server, key=key, api_version=api_version, timeout_s=0.2, max_retries=1)
            try:
                await read(transport)
            except errors.VoxnbError as error:
                return repr(transport), error
            finally:
                await transport.aclose()

    shown, error = asyncio.run(main())
    assert isinstance(error, errors.APIError)
    assert leaks(error, KEY) == []
    assert KEY not in shown


def test_the_check_for_leaks_finds_them(wire):
    import httpx2
    import openai

    request = httpx2.Request("POST", "http://h/", headers={"Authorization": f"Bearer {KEY}"})
    error = errors.APIError("x")
    error.__cause__ = openai.APIConnectionError(request=request)
    assert leaks(error, KEY)


def test_the_cause_of_a_refusal_is_the_sdks_exception(wire):
    import openai

    _, error = ask(wire, wire.http("400 Bad", {"error": {"message": "no"}}))
    assert type(error.__cause__) is openai.BadRequestError
    assert "authorization" not in error.__cause__.request.headers
    assert error.__cause__.response.status_code == 400


# -- life ------------------------------------------------------------------------------------------


def test_connections_are_kept_between_requests(wire):
    async def main():
        async with wire.server(wire.http(body=[{}])) as server:
            transport = transport_to(server)
            for _ in range(3):
                await read(transport)
            await transport.aclose()
            return server.connections

    assert asyncio.run(main()) == 1


def test_closing_is_idempotent_and_final(wire):
    async def main():
        async with wire.server(wire.http(body=[{}])) as server:
            transport = transport_to(server)
            await read(transport)
            await transport.aclose()
            await transport.aclose()
            with pytest.raises(errors.ClientClosedError):
                await read(transport)
            assert "closed" in repr(transport)

    asyncio.run(main())


def test_many_first_requests_share_one_client(wire):
    async def main():
        async with wire.server(wire.http(body=[{}])) as server:
            transport = transport_to(server)
            await asyncio.gather(*(read(transport) for _ in range(8)))
            clients = {id(await transport._sdk()) for _ in range(3)}
            await transport.aclose()
            return len(server.asked), len(clients)

    assert asyncio.run(main()) == (8, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_both_processes_go_on_with_connections_of_their_own():
    with testing.server("Hello.") as server:
        transport = transport_to(server)

        def ask_here():
            return background.submit(read(transport)).result(10)[1]

        assert b"Hello" in ask_here()
        inherited = transport._client
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
            child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                own = ask_here()
                kept = transport._abandoned[-1] is inherited and not inherited.is_closed()
                os.write(writing, b"ok" if b"Hello" in own and kept else b"no")
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        assert os.read(reading, 2) == b"ok"
        os.close(reading)
        assert b"Hello" in ask_here()
        assert transport._client is inherited
        background.submit(transport.aclose()).result(10)


def test_it_works_on_the_background_loop(wire):
    async def main():
        async with wire.server(wire.http(body=[{"a": 1}])) as server:
            transport = transport_to(server)
            found = await read(transport)
            await transport.aclose()
            return found[1]

    assert background.submit(main()).result(10) == b'data: {"a": 1}\n\n'


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(wire, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{refused_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    _, (_, data) = ask(wire, wire.http(body=[{}]))
    assert data


def test_importing_the_module_does_not_import_openai():
    code = "import sys, voxnb.clients.sdk, voxnb.clients.window, voxnb.clients.attach; print([m for m in ('openai', 'httpx2', 'pandas', 'PIL', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- settings of a configured client ---------------------------------------------------------------


def adopted(client, **given):
    return resolve_endpoint(ChatParameters(openai_client=client, **given), {"OPENAI_API_KEY": "sk-environment"})


@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"])
def test_a_configured_client_is_adopted(wire, kind):
    import openai

    async def main():
        async with wire.server(wire.http(body=[{}])) as server:
            client = getattr(openai, kind)(
                api_key=KEY, base_url=server.base_url, project="p", organization="o",
                default_headers={"X-Team": "blue"}, default_query={"tenant": "7"},
            )  # fmt: skip
            transport = Transport(None, openai_client=client)
            await read(transport)
            await transport.aclose()
            return transport.endpoint, server.asked[0]

    endpoint, asked = asyncio.run(main())
    assert endpoint.key_source == "openai_client"
    assert asked.target == "/v1/chat/completions?tenant=7"
    found = [asked.headers[h] for h in ("authorization", "openai-project", "openai-organization", "x-team")]
    assert found == [f"Bearer {KEY}", "p", "o", "blue"]
    assert KEY not in repr(endpoint)


@pytest.mark.parametrize("kind", ["AzureOpenAI", "AsyncAzureOpenAI"])
@pytest.mark.parametrize(
    ("given", "target", "header"),
    [
        ({"api_key": KEY}, "/openai/deployments/m/chat/completions?api-version=v7", ("api-key", KEY)),
        ({"api_key": KEY, "azure_deployment": "d"}, "/openai/deployments/d/chat/completions?api-version=v7", ("api-key", KEY)),
        ({"azure_ad_token": "tok"}, "/openai/deployments/m/chat/completions?api-version=v7", ("authorization", "Bearer tok")),
        ({"azure_ad_token_provider": lambda: "tok"}, "/openai/deployments/m/chat/completions?api-version=v7", ("authorization", "Bearer tok")),
    ],
)  # fmt: skip
def test_a_configured_azure_client_is_adopted(wire, kind, given, target, header):
    import openai

    async def main():
        async with wire.server(wire.http(body=[{}])) as server:
            endpoint = f"http://127.0.0.1:{server.port}"
            client = getattr(openai, kind)(azure_endpoint=endpoint, api_version="v7", **given)
            transport = Transport(adopted(client))
            await read(transport)
            await transport.aclose()
            return server.asked[0]

    asked = asyncio.run(main())
    assert asked.target == target
    assert asked.headers[header[0]] == header[1]
    assert ("api-key" in asked.headers) != ("authorization" in asked.headers)


def test_a_configured_client_with_a_key_function_is_adopted(wire):
    import openai

    async def key():
        return "sk-called"

    client = openai.AsyncOpenAI(api_key=key, base_url="http://127.0.0.1:9/v1")
    endpoint = adopted(client)
    assert endpoint.api_key is key
    assert openai.OpenAI(api_key=lambda: "sk", base_url="http://127.0.0.1:9/v1") is not None


def test_other_objects_are_no_configured_clients():
    import openai

    for thing in (object(), openai, "https://api.openai.com/v1", {"api_key": KEY}):
        with pytest.raises(errors.ParameterError, match="openai_client is"):
            adopted(thing)


def test_a_client_is_not_mixed_with_other_settings():
    import openai

    client = openai.OpenAI(api_key=KEY)
    for given in ({"api_key": "x"}, {"base_url": "local"}, {"api_version": "v"}):
        with pytest.raises(errors.ParameterError, match="contradict"):
            adopted(client, **given)
    assert adopted(client, project="mine").project == "mine"


def test_an_adopted_key_does_not_travel_in_the_clear():
    import openai

    with pytest.raises(errors.CredentialsError, match="unprotected"):
        adopted(openai.OpenAI(api_key=KEY, base_url="http://10.1.2.3:8000/v1"))
    assert adopted(openai.OpenAI(api_key="EMPTY", base_url="http://10.1.2.3:8000/v1")).api_key == "EMPTY"


def test_an_http_client_that_cannot_be_adopted_is_told():
    import openai

    with openai.DefaultHttpxClient() as http_client:
        client = openai.OpenAI(api_key=KEY, http_client=http_client)
        with pytest.warns(UserWarning, match="proxies and certificates are not adopted"):
            adopted(client)


def knows_no_stream_options(request):
    """A compatible server of the strict kind."""
    if "stream_options" in request.json:
        refused = {
            "type": "extra_forbidden",
            "loc": ["body", "stream_options"],
            "msg": "Extra inputs are not permitted",
        }
        return testing.Status(422, body={"detail": [refused]})
    return "Well."


def test_what_voxnb_adds_is_left_out_for_a_server_that_refuses_it():
    with testing.server(knows_no_stream_options) as server:
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=":memory:") as chat:
            assert [str(chat.ask(text).result()) for text in ("One", "Two")] == ["Well.", "Well."]
            assert (chat.statistics().requests, chat.statistics().retries) == (2, 0)
    asked = [r.json.get("stream_options") for r in server.requests if r.method == "POST"]
    assert asked == [{"include_usage": True}, None, None]


def test_several_requests_at_once_learn_it_together():
    together = threading.Barrier(3, timeout=20)

    def reply(request):
        if "stream_options" in request.json:
            together.wait()
        return knows_no_stream_options(request)

    with testing.server(reply) as server:
        with voxnb.ChatCompletionsAPIClient(model="m", base_url=server.base_url, api_key="k") as client:
            turns = [client.ask(text) for text in ("One", "Two", "Three")]
            assert [str(reply) for reply in voxnb.gather(turns)] == ["Well."] * 3


def test_stream_options_of_the_callers_are_sent_as_they_are():
    with testing.server(knows_no_stream_options) as server:
        with voxnb.ChatCompletionsAPIClient(model="m", base_url=server.base_url, api_key="k") as client:
            for none in (None, {}):
                assert str(client.ask("One", stream_options=none).result()) == "Well."
            with pytest.raises(errors.UnprocessableEntityError) as caught:
                client.ask("One", stream_options={"include_usage": False}).result()
    assert "stream_options" in caught.value.param
    asked = [r.json.get("stream_options") for r in server.requests if r.method == "POST"]
    assert asked == [None, None, {"include_usage": False}]
