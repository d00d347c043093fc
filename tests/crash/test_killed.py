"""A process that was killed and is still listed."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest

import voxnb
from tests.crash.child import client, question
from tests.crash.scene import ended, said, start, store_holds, until
from tests.invariants.scripted import WAIT_S, chats, scripted, sent_tokens
from voxnb import testing


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_turn_of_a_killed_process_that_its_parent_has_not_looked_for_is_not_waited_for(tmp_path):
    path = tmp_path / "store.db"
    with (
        testing.server(scripted(chat=testing.Hang(after_events=3))) as server,
        ended(start("stream", path, server.base_url, 1)) as (process,),
    ):
        process.stdout.read(1)
        process.kill()
        until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z")
        with testing.server(scripted()) as other, client(path, other.base_url) as chat:
            chat.ask(question(2)).result(WAIT_S)
            assert {state for _, state, _, _ in said(chat.store)} == {"failed", "complete"}
            store_holds(chat.store)


@pytest.mark.slow
def test_what_a_killed_process_put_into_the_models_mouth_is_no_answer(tmp_path):
    path = tmp_path / "store.db"
    with testing.server(scripted(chat=testing.Hang())) as server:
        with ended(start("prefilled", path, server.base_url)):
            until(lambda: chats(server))
        with testing.server(scripted()) as other, client(path, other.base_url) as chat:
            chat.ask(question(2)).result(WAIT_S)
            assert chat.store.turns()["state"].tolist() == ["failed", "complete"]
            store_holds(chat.store)


@pytest.mark.slow
def test_the_text_that_a_killed_process_left_is_counted_before_the_next_request_is_laid_out(tmp_path):
    """Not taken for a quarter of its bytes: base64 has three times as many tokens."""
    path = tmp_path / "store.db"
    text = " ".join(base64.b64encode(hashlib.sha256(b"%d" % n).digest()).decode() for n in range(60))
    half = testing.Hang(after_events=50, reply=text)
    with testing.server(scripted(chat=half)) as server, ended(start("stream", path, server.base_url, 1)) as (process,):
        process.stdout.read(1)
        with voxnb.ContextStore(path, read_only=True) as store:
            until(lambda: store.database.read("SELECT 1 FROM draft"))
    with testing.server(scripted()) as other, client(path, other.base_url) as chat:
        chat.ask(question(2)).result(WAIT_S)
        chat.idle().result(WAIT_S)
        calls = chat.conversation.calls()
        assert list(calls["token_error"].dropna()) == [0] * (len(calls) - 1)
        assert all(sent_tokens(request) <= chat.policy.window_tokens for request in chats(other))
        messages = chat.store.messages()
        assert set(messages["encoding"]) == {"o200k_base"}
        assert messages["tokens"][1] > len(messages["content"][1]) / 3
        store_holds(chat.store)
