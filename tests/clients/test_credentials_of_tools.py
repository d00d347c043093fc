"""Credentials of remote tools go to the model's service, and into nothing that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

import voxnb
from voxnb import errors, testing

SECRETS = ("tok-4711", "bearer-4712", "key-4713", "query-4714", "pass-4715", "domain-4716", "list-4717", "mark-4718")
MCP = {
    "type": "mcp",
    "server_label": "wiki",
    "server_url": "https://ann:pass-4715@wiki.example/mcp?key=query-4714&lang=en#mark-4718",
    "authorization": "tok-4711",
    "headers": {"Authorization": "Bearer bearer-4712", "X-Api-Key": "key-4713", "More": ["list-4717"]},
}
SHELL = {
    "type": "shell",
    "environment": {
        "type": "container_auto",
        "network_policy": {"type": "allowlist", "domain_secrets": [{"domain": "a.example", "value": "domain-4716"}]},
    },
}
# A function may take an argument of such a name: its schema is no secret.
FUNCTION = {
    "type": "function",
    "name": "call",
    "parameters": {"type": "object", "properties": {"headers": {"type": "object"}}, "description": "tok of yours"},
}
TOOLS = [MCP, SHELL, FUNCTION]


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)


def client(server, **more):
    given = {"store": "talk.db", "store_context": True, "conversation": "wiki", **more}
    return voxnb.ResponsesAPIClient(model="gpt-4o-mini", base_url=server.base_url, api_key=server.api_key, **given)


def found_in(*paths):
    data = b"".join(Path(path).read_bytes() for path in paths)
    return [secret for secret in SECRETS if secret.encode() in data]


def test_they_reach_the_service_and_neither_store_nor_trace_nor_tape():
    with testing.server("Forty-two.") as server, voxnb.tape("talk.tape"):
        with client(server, trace=True) as chat:
            chat.create_responses(input="What is in it?", tools=TOOLS).result()
            chat.trace.close()
            request = chat.conversation.explain(1).request
            assert chat.store.verify()
            chat.store.close()
        assert server.requests[-1].json["tools"] == TOOLS
    kept = [path for path in Path().rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} >= {".db", ".jsonl", ".tape"}
    assert found_in(*kept) == []
    assert request["tools"][0]["server_url"] == "https://…@wiki.example/mcp?key=…&lang=…#…"
    assert request["tools"][2] == FUNCTION


def test_a_server_that_quotes_them_is_quoted_without_them():
    words = "401 from the tool server with {authorization}, {headers} at {server_url}".format(**MCP)
    refused = testing.Status(424, body={"error": {"message": words, "type": "external_connector_error"}})
    with testing.server(refused) as server, voxnb.tape("talk.tape"), client(server, trace=True) as chat:
        with pytest.raises(errors.APIStatusError) as caught:
            chat.create_responses(input="What is in it?", tools=TOOLS).result()
        chat.store.close()
    assert [secret for secret in SECRETS[:5] if secret in f"{caught.value} {caught.value.body}"] == []
    assert not set(found_in(*(path for path in Path().rglob("*") if path.is_file()))) & set(SECRETS[:5])


def test_a_key_in_the_body_of_whatever_shape_is_in_neither_trace_nor_tape_nor_error():
    source = {
        "type": "azure_search",
        "parameters": {"index_name": "wiki", "authentication": {"type": "api_key", "key": "key-4713"}},
    }
    extra = {"data_sources": [source], "api_key": "tok-4711"}
    refused = testing.Status(400, body={"error": {"message": "the api_key tok-4711 and key-4713 are wrong"}})
    with testing.server(refused) as server, voxnb.tape("talk.tape"):
        with (
            voxnb.chat("m", base_url=server.base_url, store=":memory:", trace=True) as chat,
            pytest.raises(errors.BadRequestError, match="the api_key … and … are wrong"),
        ):
            chat.ask("Hi", **extra).result()
        assert {name: server.requests[-1].json[name] for name in extra} == extra
    kept = [path for path in Path().rglob("*") if path.suffix in (".jsonl", ".tape")]
    assert len(kept) == 2
    assert found_in(*kept) == []
    assert all(b"azure_search" in path.read_bytes() and b"wiki" in path.read_bytes() for path in kept)


def test_a_tape_answers_whatever_the_credentials_are_now():
    for token in ("tok-4711", "tok-of-next-week"):
        with (
            testing.server("Forty-two.") as server,
            voxnb.tape("talk.tape") as tape,
            client(server, store=":memory:") as chat,
        ):
            chat.create_responses(input="What is in it?", tools=[{**MCP, "authorization": token}]).result()
    assert tape.recorded == 0, "the second time"


def test_asking_again_lets_the_tool_in_again():
    with testing.server(["One.", "Two."]) as server, client(server) as chat:
        chat.create_responses(input="What is in it?", tools=TOOLS).result()
        chat.conversation.retry().result()
        assert server.requests[-1].json["tools"] == TOOLS


def test_a_client_that_never_had_them_says_so_and_asks_nothing():
    with testing.server(["One.", "Two."]) as server:
        with client(server) as chat:
            chat.create_responses(input="What is in it?", tools=TOOLS).result()
        asked = len(server.requests)
        with client(server) as other, pytest.raises(errors.ParameterError, match="'wiki' had credentials, which are"):
            other.conversation.retry()
        assert len(server.requests) == asked
