"""What help, tooltips and completion show of a client: every parameter, and the names that are for users."""

from __future__ import annotations

import contextlib
import inspect
import pydoc
import re

import pytest

import voxnb
from voxnb import params, testing
from voxnb.voxengine import METHODS, OpenAI

CLIENTS = list(METHODS)


@pytest.fixture
def server():
    with testing.server("Hello.") as running:
        yield running


def made(name, server):
    if name == "RealtimeAPIClient":  # not entered: that would connect
        given = {"base_url": server.base_url, "api_key": server.api_key, "store_context": True, "store": ":memory:"}
        return contextlib.closing(voxnb.RealtimeAPIClient(given))
    return getattr(OpenAI, name)(base_url=server.base_url, api_key=server.api_key, store_context=True, store=":memory:")


def test_help_of_chat_lists_every_parameter_with_default_and_a_line():
    text = pydoc.plain(pydoc.render_doc(voxnb.chat))
    signature, _, body = text.partition("A chat with a memory")
    given = {**params.defaults(params.ChatParameters), "store_context": True}
    for name, default in given.items():
        assert re.search(rf"\b{name}: '[^']+' = |\b{name}=", signature), name
        listed = rf"^ +{name} = {re.escape(repr(default))}: .{{8,}}$"
        explained = rf"^ +{name}: .{{8,}}$"
        assert re.search(listed, body, re.MULTILINE) or re.search(explained, body, re.MULTILINE), name


def test_chat_takes_what_its_signature_shows(server):
    shown = inspect.signature(voxnb.chat).parameters
    given = {n: p.default for n, p in shown.items() if p.kind is p.KEYWORD_ONLY}
    given |= {"base_url": server.base_url, "api_key": server.api_key, "store": ":memory:"}
    with voxnb.chat("gpt-4o", **given) as chat:
        assert str(chat.ask("Hi").result(10)) == "Hello."


@pytest.mark.parametrize("name", CLIENTS)
def test_completion_shows_the_names_for_users_once_and_nothing_internal(name, server):
    with made(name, server) as client:
        shown = [n for n in dir(client) if not n.startswith("_")]
        assert len(shown) == len(set(shown))
        assert [n for n in shown if n != n.lower()] == []
        text = set() if name == "RealtimeAPIClient" else {"ask"}
        assert set(shown) >= {m.voxnb for m in METHODS[name]} | text | {
            "conversation",
            "store",
            "on",
            "wait_for",
            "idle",
            "statistics",
        }
        assert not set(shown) & {
            "begin",
            "complete",
            "learned",
            "tell_error",
            "deliver",
            "slots",
            "transport",
            "dispatcher",
        }
        assert {"__enter__", "__repr__"} <= set(dir(client))
        for n in shown:
            value = inspect.getattr_static(type(client), n, None)
            assert hasattr(client, n), n
            if value is not None:
                assert inspect.getdoc(value), n


def test_the_names_that_the_readme_uses_of_a_client_are_shown(root, server):
    readme = (root / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\b(?:chat|client|lab|again|bot)\.([a-z_]+)\(", readme))
    assert used >= {"ask", "on", "close"}
    with made("ChatCompletionsAPIClient", server) as client:
        assert used <= set(dir(client))
