"""A process that was killed and is still listed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.crash.child import client, question
from tests.crash.scene import ended, said, start, store_holds, until
from tests.invariants.scripted import WAIT_S, scripted
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
