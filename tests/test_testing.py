"""The scripted loopback server, met by the OpenAI SDK and by bare sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading

import openai
import pytest

from voxnb import testing
from voxnb.testing import Chunks, Drop, Hang, Paced, Status

USER = [{"role": "user", "content": "Hello there"}]
WAIT_S = 10


def client_of(server, **settings):
    settings = {"api_key": server.api_key, "max_retries": 0, "timeout": WAIT_S, **settings}
    return openai.OpenAI(base_url=server.base_url, **settings)


def ask(server, messages=USER, **request):
    with client_of(server) as client:
        return client.chat.completions.create(model="gpt-4o-mini", messages=messages, **request)


def stream(server, messages=USER, **request):
    with client_of(server) as client:
        return list(client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True, **request))


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def post(server, body, path="/v1/chat/completions", headers=None):
    """One POST by the standard library: (status, headers, body)."""
    connection = http.client.HTTPConnection(server.origin.removeprefix("http://"), timeout=WAIT_S)
    try:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, raw, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def body_of(messages=USER, **request):
    return {"model": "gpt-4o-mini", "messages": messages, **request}


def refusal(server, body):
    status, _, raw = post(server, body)
    return status, json.loads(raw)["error"]


class TestReplies:
    def test_a_text_is_answered_whole_and_streamed(self):
        with testing.server("Hello, Ann.\nHow are you? ") as server:
            assert ask(server).choices[0].message.content == "Hello, Ann.\nHow are you? "
            chunks = stream(server)
        assert text_of(chunks) == "Hello, Ann.\nHow are you? "
        assert len(chunks) > 5
        assert [c.choices[0].finish_reason for c in chunks][-1] == "stop"

    def test_replies_come_in_order_and_the_last_repeats(self):
        with testing.server(["one", "two"]) as server:
            assert [ask(server).choices[0].message.content for _ in range(3)] == ["one", "two", "two"]

    def test_replies_may_come_from_a_generator(self):
        with testing.server(str(i) for i in range(9)) as server:
            assert [ask(server).choices[0].message.content for _ in range(2)] == ["0", "1"]

    def test_a_function_sees_the_request(self):
        with testing.server(lambda request: request.text.upper()) as server:
            assert ask(server).choices[0].message.content == "HELLO THERE"

    def test_no_reply_at_all_is_refused(self):
        with pytest.raises(ValueError, match="at least one"):
            testing.server([])

    def test_a_message_keeps_what_it_says(self):
        message = {"content": "Yes.", "reasoning_content": "Hm, well."}
        with testing.server([message]) as server:
            assert ask(server).choices[0].message.reasoning_content == "Hm, well."
            deltas = [c.choices[0].delta for c in stream(server)]
        assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "Hm, well."

    @pytest.mark.parametrize("streamed", [False, True])
    def test_tool_calls_arrive_whole(self, streamed):
        calls = [{"name": "weather", "arguments": {"city": "Zürich", "days": 3}}, {"name": "now"}]
        with testing.server([{"tool_calls": calls}]) as server, client_of(server) as client:
            if streamed:
                with client.chat.completions.stream(model="gpt-4o", messages=USER) as running:
                    choice = running.get_final_completion().choices[0]
            else:
                choice = client.chat.completions.create(model="gpt-4o", messages=USER).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        assert [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls] == [
            ("weather", {"city": "Zürich", "days": 3}),
            ("now", {}),
        ]
        assert len({c.id for c in choice.message.tool_calls}) == 2

    def test_a_refusal_is_streamed_as_one(self):
        with testing.server({"refusal": "No, sorry."}) as server:
            deltas = [c.choices[0].delta for c in stream(server)]
        assert "".join(d.refusal or "" for d in deltas) == "No, sorry."

    def test_several_choices_take_turns_in_a_stream(self):
        reply = {"choices": ["a b", {"message": {"content": "x y"}, "finish_reason": "length"}]}
        with testing.server(reply) as server:
            whole = ask(server, n=2)
            chunks = stream(server, n=2)
        assert [(c.message.content, c.finish_reason) for c in whole.choices] == [("a b", "stop"), ("x y", "length")]
        assert [c.choices[0].index for c in chunks] == [0, 1] * 4

    def test_n_asks_for_the_same_text_n_times(self):
        with testing.server("Hi") as server:
            assert [c.message.content for c in ask(server, n=3).choices] == ["Hi"] * 3

    def test_logprobs_come_when_asked_for(self):
        with testing.server("Hello there") as server:
            tokens = [
                t.token
                for c in stream(server, logprobs=True)
                if c.choices[0].logprobs
                for t in c.choices[0].logprobs.content
            ]
            assert tokens == ["Hello", " there"]
            assert [t.token for t in ask(server, logprobs=True).choices[0].logprobs.content] == tokens
            assert ask(server).choices[0].logprobs is None

    def test_the_requests_own_limit_cuts_the_text(self):
        with testing.server("one two three four five six seven eight") as server:
            choice = ask(server, max_completion_tokens=3).choices[0]
        assert choice.finish_reason == "length"
        assert "one two three four".startswith(choice.message.content)
        assert choice.message.content

    @pytest.mark.parametrize("text", ["没有空格的句子" * 40, "x" * 400, "no " * 10 + "x" * 400])
    def test_a_word_longer_than_the_limit_is_cut_within(self, text):
        with testing.server(text) as server:
            answer = ask(server, max_tokens=20)
        assert answer.choices[0].finish_reason == "length"
        assert text.startswith(answer.choices[0].message.content)
        assert answer.usage.completion_tokens == 20

    def test_chunks_go_out_as_they_are(self):
        chunk = {"choices": [{"index": 0, "delta": {"content": "x"}}], "strange": True}
        with testing.server([[chunk, b": comment\n\n"]]) as server:
            _, headers, raw = post(server, body_of(stream=True))
        assert (
            raw
            == b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"strange":true}\n\n: comment\n\ndata: [DONE]\n\n'
        )
        assert headers["content-type"].startswith("text/event-stream")

    def test_chunks_may_end_without_done(self):
        with testing.server(Chunks([b"data: {}\n\n"], done=False)) as server:
            assert post(server, body_of(stream=True))[2] == b"data: {}\n\n"

    def test_an_unstreamed_request_gets_the_chunks_folded(self):
        with testing.server([["Hel", "lo"]]) as server:
            assert ask(server).choices[0].message.content == "Hello"
            assert text_of(stream(server)) == "Hello"

    def test_a_generator_holds_the_stream_where_it_waits(self):
        gate = threading.Event()

        def reply(request):
            yield "first"
            assert gate.wait(WAIT_S)
            yield " second"

        with testing.server(reply) as server, client_of(server) as client:
            running = client.chat.completions.create(model="gpt-4o", messages=USER, stream=True)
            assert next(running).choices[0].delta.content == "first"
            gate.set()
            assert text_of(running) == " second"

    def test_usage_comes_when_asked_for_and_counts_both_sides(self):
        with testing.server("Hello there, Ann.") as server:
            whole = ask(server).usage
            told = stream(server, stream_options={"include_usage": True})
            untold = stream(server)
        assert told[-1].choices == []
        assert told[-1].usage == whole
        assert [c.usage for c in told[:-1]] == [None] * (len(told) - 1)
        assert untold[-1].choices
        assert whole.total_tokens == whole.prompt_tokens + whole.completion_tokens
        assert 0 < whole.completion_tokens < whole.prompt_tokens < 20

    def test_usage_is_what_the_test_says(self):
        with testing.server("Hi", usage=lambda request: {"prompt_tokens": 7 * request.number}) as server:
            assert [ask(server).usage.prompt_tokens for _ in range(2)] == [7, 14]
        with testing.server("Hi", usage=False) as server:
            assert ask(server).usage is None
            assert stream(server, stream_options={"include_usage": True})[-1].choices

    def test_what_is_no_reply_fails_the_test(self):
        with pytest.raises(TypeError, match="cannot be"), testing.server([None]) as server:
            assert post(server, body_of())[0] == 500

    def test_an_error_in_a_function_fails_the_test(self):
        server = testing.server(lambda _: 1 / 0)
        status, error = refusal(server, body_of())
        assert (status, error["message"]) == (500, "the scripted reply failed: ZeroDivisionError: division by zero")
        with pytest.raises(ZeroDivisionError), server:
            assert len(server.errors) == 1

    def test_an_error_in_a_stream_cuts_it_and_fails_the_test(self):
        def reply(request):
            yield "half"
            raise KeyError("oops")

        with pytest.raises(KeyError), testing.server(reply) as server, pytest.raises(openai.APIConnectionError):
            stream(server)


class TestFaults:
    def test_a_status_is_the_services_own_error(self):
        with testing.server(429) as server, pytest.raises(openai.RateLimitError) as caught:
            ask(server)
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.request_id == "req_00000001"

    def test_a_status_takes_headers_and_a_body(self):
        with testing.server(Status(503, {"Retry-After": "0"}, {"error": {"message": "busy"}})) as server:
            status, headers, raw = post(server, body_of())
        assert (status, headers["retry-after"], json.loads(raw)) == (503, "0", {"error": {"message": "busy"}})

    def test_retries_meet_the_next_reply(self):
        with testing.server([Status(429, {"Retry-After": "0.001"}), 500, "Hi"]) as server:
            with client_of(server, max_retries=2) as client:
                answer = client.chat.completions.create(
                    model="gpt-4o", messages=USER, extra_headers={"x-stainless-retry": "1"}
                )
            assert answer.choices[0].message.content == "Hi"
            assert len(server.requests) == 3

    def test_raw_bytes_are_the_body(self):
        with testing.server([b"<html>Sign in</html>", b"", b"data: {garbage\n\n", b'{"a": 1}']) as server:
            answers = [post(server, body_of(stream=True)) for _ in range(4)]
        assert [(s, h.get_content_type(), b) for s, h, b in answers] == [
            (200, "text/html", b"<html>Sign in</html>"),
            (200, "text/plain", b""),
            (200, "text/event-stream", b"data: {garbage\n\n"),
            (200, "application/json", b'{"a": 1}'),
        ]

    def test_a_drop_before_anything_is_no_answer(self):
        with testing.server(Drop()) as server, pytest.raises(http.client.RemoteDisconnected):
            post(server, body_of())

    def test_a_drop_after_bytes_sends_exactly_those(self):
        with testing.server([Drop(after_bytes=10, reply="Hello"), Drop(after_bytes=10, reply="Hello")]) as server:
            for streamed in (True, False):
                with pytest.raises(http.client.IncompleteRead) as caught:
                    post(server, body_of(stream=streamed))
                assert len(caught.value.partial) == 10
            assert [r.wait() for r in server.requests] == ["dropped", "dropped"]

    def test_half_a_stream_ends_in_a_connection_error(self):
        with testing.server(Drop(after_events=3, reply="one two three four")) as server, client_of(server) as client:
            running = client.chat.completions.create(model="gpt-4o", messages=USER, stream=True)
            texts = []
            with pytest.raises(openai.APIConnectionError):
                texts.extend(c.choices[0].delta.content for c in running)
        assert texts == ["", "one", " two"]

    def test_a_reset_is_one(self):
        with testing.server(Drop(after_bytes=0, reset=True)) as server, pytest.raises(ConnectionResetError):
            post(server, body_of())

    def test_a_hang_before_the_first_byte_times_out(self):
        with testing.server(Hang()) as server, pytest.raises(openai.APITimeoutError), client_of(server) as client:
            client.chat.completions.create(model="gpt-4o", messages=USER, timeout=0.2)

    def test_a_hang_in_the_stream_gives_what_came_before_and_sees_the_other_side_go(self):
        with testing.server(Hang(after_events=2, reply="one two")) as server, client_of(server) as client:
            running = client.chat.completions.create(model="gpt-4o", messages=USER, stream=True)
            assert [next(running).choices[0].delta.content for _ in range(2)] == ["", "one"]
            request = server.requests[0]
            assert request.outcome == "open"
            running.close()
            assert request.wait(timeout_s=WAIT_S) == "disconnected"

    def test_headers_may_come_and_then_nothing(self):
        with testing.server(Hang(after_events=0)) as server, client_of(server) as client:
            running = client.chat.completions.create(model="gpt-4o", messages=USER, stream=True)
            assert running.response.status_code == 200
            running.close()

    def test_a_paced_stream_comes_in_pieces(self):
        with testing.server([Paced("a b c", chunk_delay_s=0.02)], delay_s=5) as server, socket_to(server) as bare:
            bare.sendall(raw_request(body_of(stream=True)))
            received = []
            while not received or b"[DONE]" not in received[-1]:
                received.append(bare.recv(65_536))
        assert len(received) >= 5

    def test_a_paced_stream_notices_that_nobody_listens(self):
        with testing.server("word " * 1000, chunk_delay_s=30) as server:
            with socket_to(server) as bare:
                bare.sendall(raw_request(body_of(stream=True)))
                assert bare.recv(65_536).startswith(b"HTTP/1.1 200 OK")
            assert server.requests[0].wait(timeout_s=WAIT_S) == "disconnected"


def socket_to(server):
    host, port = server.origin.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def raw_request(body, head="POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"):
    raw = json.dumps(body).encode()
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


ASKS = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
]}  # fmt: skip


def result(call):
    return {"role": "tool", "tool_call_id": call, "content": "1"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("messages", "words"),
        [
            ([], "Invalid 'messages': empty array"),
            ("hi", "Invalid type for 'messages': expected an array of objects, but got a string"),
            (["hi"], "Invalid type for 'messages[0]'"),
            ([{"content": "x"}], "Missing required parameter: 'messages[0].role'"),
            ([{"role": "robot", "content": "x"}], "Invalid value: 'robot'. Supported values are: 'system'"),
            ([{"role": "user", "content": None}], "Invalid value for 'content': expected a string, got null."),
            ([{"role": "user", "content": 5}], "Invalid type for 'messages[0].content'"),
            ([{"role": "assistant"}], "Invalid value for 'content'"),
            (
                [{"role": "assistant", "content": "x", "tool_calls": []}],
                "Invalid 'messages[0].tool_calls': empty array",
            ),
            ([*USER, result("a")], "messages with role 'tool' must be a response to a preceeding message"),
            ([*USER, ASKS, result("a"), result("c")], "messages with role 'tool' must be a response"),
            ([*USER, ASKS, result("a"), *USER], "did not have response messages: b"),
            ([*USER, ASKS, result("a")], "did not have response messages: b"),
            ([*USER, ASKS], "did not have response messages: a, b"),
            ([*USER, ASKS, *USER, result("a"), result("b")], "did not have response messages: a, b"),
            ([*USER, ASKS, {"role": "tool", "content": "1"}], "Missing parameter 'tool_call_id'"),
        ],
    )
    def test_a_broken_message_list_is_refused_as_the_service_does(self, messages, words):
        with testing.server("Hi") as server:
            status, error = refusal(server, body_of(messages))
        assert status == 400
        assert words in error["message"]
        assert error["type"] == "invalid_request_error"

    def test_parallel_calls_may_be_answered_in_any_order(self):
        with testing.server("Hi") as server:
            assert ask(server, [*USER, ASKS, result("b"), result("a"), *USER]).choices

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            (b"{", 400, "could not parse the JSON"),
            (b'{"model": "m", "messages": NaN}', 400, "could not parse the JSON"),
            (b"[]", 400, "could not parse the JSON"),
            ({"messages": USER}, 400, "you must provide a model parameter"),
            ({"model": "m"}, 400, "Missing required parameter: 'messages'"),
            (body_of(stream_options={"include_usage": True}), 400, "only allowed when 'stream' is enabled"),
        ],
    )
    def test_a_broken_body_is_refused(self, body, status, words):
        with testing.server("Hi") as server:
            found, error = refusal(server, body)
        assert found == status
        assert words in error["message"]

    def test_a_refused_request_is_recorded_and_uses_up_no_reply(self):
        with testing.server(["one", "two"]) as server:
            refusal(server, body_of([]))
            assert ask(server).choices[0].message.content == "one"
            assert [r.number for r in server.requests] == [1, 2]

    def test_a_request_beyond_the_window_is_refused_with_the_numbers(self):
        with testing.server("Hi", window_tokens=50) as server:
            assert ask(server).choices
            status, error = refusal(server, body_of([{"role": "user", "content": "word " * 100}]))
        assert (status, error["code"]) == (400, "context_length_exceeded")
        assert "maximum context length is 50 tokens" in error["message"]

    def test_keys_are_checked_when_the_test_says_so(self):
        with testing.server("Hi", require_key=True) as server:
            assert ask(server).choices
            status, error = refusal(server, body_of())
            assert (status, error["message"]) == (401, "You didn't provide an API key.")
            with pytest.raises(openai.AuthenticationError), client_of(server, api_key="wrong") as client:
                client.chat.completions.create(model="gpt-4o", messages=USER)

    def test_unknown_models_are_refused_where_models_are_named(self):
        with testing.server("Hi", models=["tiny"]) as server, pytest.raises(openai.NotFoundError) as caught:
            ask(server)
        assert caught.value.code == "model_not_found"


class TestAddresses:
    def test_the_models_are_listed_with_their_window(self):
        with testing.server("Hi", models=["tiny"], window_tokens=2048) as server, client_of(server) as client:
            (model,) = client.models.list()
            assert (model.id, model.max_model_len) == ("tiny", 2048)
            assert client.models.retrieve("tiny").id == "tiny"
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("huge")

    @pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions", "/openai/v1/chat/completions"])
    def test_the_base_may_have_any_of_the_usual_prefixes(self, path):
        with testing.server("Hi") as server:
            assert post(server, body_of(), path)[0] == 200
            assert server.requests[0].path == path

    def test_azure_deployments_are_served(self):
        with testing.server("Hi", require_key=True) as server:
            client = openai.AzureOpenAI(azure_endpoint=server.origin, api_version="2024-10-21", api_key=server.api_key)
            with client:
                answer = client.chat.completions.create(model="my-gpt", messages=USER)
            assert (answer.model, server.requests[0].query) == ("my-gpt", {"api-version": "2024-10-21"})
            assert server.requests[0].path == "/openai/deployments/my-gpt/chat/completions"
            assert post(server, body_of(), "/openai/deployments/my-gpt/chat/completions")[0] == 404

    @pytest.mark.parametrize(
        ("path", "words"),
        [("/v1/responses/resp_1/cancel", "Response with id"), ("/v1/nothing", "Invalid URL (POST /v1/nothing)")],
    )
    def test_other_addresses_are_not_found(self, path, words):
        with testing.server("Hi") as server:
            status, _, raw = post(server, body_of(), path)
        assert status == 404
        assert words in json.loads(raw)["error"]["message"]


class TestRequests:
    def test_everything_of_a_request_is_recorded(self):
        with testing.server("Hi") as server:
            post(server, body_of(stream=True), "/v1/chat/completions?x=1", {"Authorization": "Bearer k", "X-Own": "y"})
            request = server.requests[0]
        assert (request.number, request.method, request.path, request.query) == (
            1, "POST", "/v1/chat/completions", {"x": "1"},
        )  # fmt: skip
        assert (request.model, request.stream, request.text) == ("gpt-4o-mini", True, "Hello there")
        assert (request.headers["authorization"], request.headers["x-own"], request.has_key) == ("Bearer k", "y", True)
        assert json.loads(request.body) == request.json == body_of(stream=True)
        assert request.messages == USER
        assert "Bearer" not in repr(request)

    def test_the_text_of_a_request_is_that_of_its_last_user_message(self):
        parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
        with testing.server("Hi") as server:
            ask(server, [*USER, {"role": "user", "content": parts}, {"role": "assistant", "content": "b"}])
            assert server.requests[0].text == "a"

    def test_requests_can_be_waited_for(self):
        with testing.server("Hi") as server:
            with pytest.raises(TimeoutError, match="0 of 1"):
                server.wait_for(1, timeout_s=0.01)
            asking = threading.Thread(target=ask, args=(server,))
            asking.start()
            assert server.wait_for(1)[0].wait() == "answered"
            asking.join()

    def test_many_at_once_are_numbered_in_the_order_of_arrival(self):
        with testing.server(lambda request: request.text) as server:
            texts = [f"question {i}" for i in range(24)]
            found = {}

            def one(text):
                found[text] = ask(server, [{"role": "user", "content": text}]).choices[0].message.content

            threads = [threading.Thread(target=one, args=(t,)) for t in texts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert found == {t: t for t in texts}
            assert [r.number for r in server.requests] == list(range(1, 25))
            arrivals = [r.arrived_s for r in server.requests]
            assert arrivals == sorted(arrivals)


class TestConnections:
    def test_one_connection_takes_many_requests(self):
        with testing.server("Hi") as server:
            connection = http.client.HTTPConnection(server.origin.removeprefix("http://"), timeout=WAIT_S)
            for streamed in (True, False, True):
                connection.request("POST", "/v1/chat/completions", json.dumps(body_of(stream=streamed)))
                assert connection.getresponse().read()
                assert connection.sock is not None
            connection.close()

    def test_a_body_in_chunks_is_read(self):
        with testing.server("Hi") as server:
            connection = http.client.HTTPConnection(server.origin.removeprefix("http://"), timeout=WAIT_S)
            raw = json.dumps(body_of()).encode()
            connection.request("POST", "/v1/chat/completions", iter([raw[:7], raw[7:]]), encode_chunked=True)
            assert connection.getresponse().status == 200
            connection.close()

    def test_close_ends_what_hangs_and_may_be_called_twice(self):
        server = testing.server(Hang())
        with socket_to(server) as bare:
            bare.sendall(raw_request(body_of()))
            request = server.wait_for(1)[0]
            server.close()
            assert bare.recv(1) == b""
        assert request.wait() == "disconnected"
        server.close()
        assert "closed" in repr(server)
        with pytest.raises(OSError):
            socket_to(server)

    def test_garbage_instead_of_a_request_harms_nobody(self):
        with testing.server("Hi") as server:
            with socket_to(server) as bare:
                bare.sendall(b"\x16\x03\x01 not http\r\n\r\n")
                assert b"400" in bare.recv(65_536)
            with socket_to(server) as bare:
                bare.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: nine\r\n\r\n")
                assert bare.recv(65_536) == b""
            assert ask(server).choices
