"""An interrupt that comes while a turn is being started: it ends as any interrupted turn does."""

import asyncio
import threading

import pytest

import voxnb
from voxnb import testing

WAIT_S = 10


@pytest.mark.parametrize("asked", [True, False], ids=["when the server was asked", "at once"])
def test_an_interrupt_in_ask_ends_the_turn_and_the_chat_goes_on(monkeypatch, tmp_path, asked):
    came, hand_over = threading.Event(), asyncio.run_coroutine_threadsafe

    def reply(request):
        came.set()
        return testing.Hang() if request.text == "first" else "Here."

    def interrupted(coro, loop):
        hand_over(coro, loop)
        if asked:
            assert came.wait(WAIT_S)
        raise KeyboardInterrupt

    with testing.server(reply) as server, voxnb.ContextStore(tmp_path / "store.db") as store:
        with voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=store, conversation="talk") as chat:
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
                chat.ask("first")
            assert chat.ask("second").result(WAIT_S).text == "Here."
        states = dict(store.turns(columns=["user_text", "state"]).itertuples(index=False, name=None))
        assert store.verify()
    assert states.pop("second") == "complete"
    assert set(states.values()) <= {"failed"}
    assert bool(states) or not asked
