"""Tools in a real kernel: what they print lands in the cell that asked, Interrupt ends them, the cell shows what ran."""

import pytest

from tests.kernel.real_kernel import ROOT, Kernel
from voxnb import testing

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client's own: an event loop policy of Python 3.14, a pending-deprecation of its sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SETUP = """
import sys, asyncio, threading, time
sys.path.insert(0, {root!r})
import voxnb
chat = voxnb.chat("gpt-4o-mini", base_url={url!r}, api_key={key!r}, store=":memory:")
gate = threading.Event()
def look():
    gate.wait(20)
    print("sync tool")
    return 1
async def alook():
    while not gate.is_set():
        await asyncio.sleep(0.01)
    print("async tool")
    return 2
def hang():
    time.sleep(60)
chat.ask("warm up").result();
"""


def reply(request):
    if request.messages[-1]["role"] == "tool" or request.text == "warm up":
        return "Seen."
    names = ["hang"] if request.text == "hang" else ["look", "alook"]
    return {"content": "Let me look.", "tool_calls": [{"name": name, "arguments": {}} for name in names]}


@pytest.fixture(scope="module")
def kernel():
    with testing.server(reply) as server:
        running = Kernel(SETUP.format(root=str(ROOT), url=server.base_url, key=server.api_key))
        try:
            yield running
        finally:
            running.close()


def test_what_tools_print_lands_in_the_cell_that_asked(kernel):
    asked = kernel.run("turn = chat.ask('look', tools=[look, alook], run_tools=True)", cell_id="a")
    waited = kernel.run("gate.set(); print('waiting'); turn.result().tool_runs[1].result", cell_id="b")
    assert (asked.status, waited.status) == ("ok", "ok")
    assert waited.stdout == "waiting\n"
    assert sorted((asked.stdout + waited.late).split()) == ["async", "sync", "tool", "tool"]


def test_the_cell_shows_all_that_was_said_and_what_ran(kernel):
    cell = kernel.run("gate.set(); chat.ask('look', tools=[look, alook], run_tools=True)", cell_id="c")
    assert cell.status == "ok"
    last = cell.displays[-1][1]["text/html"]
    assert "<details><summary>2 tool calls: look, alook</summary>" in last
    assert "Let me look." in last
    assert "Seen." in last


def test_interrupt_ends_a_turn_whose_tool_hangs(kernel):
    cell = kernel.run("chat.ask('hang', tools=[hang], run_tools=True).result()", cell_id="d", interrupt_after_s=1)
    assert (cell.status, cell.ename) == ("error", "KeyboardInterrupt")
    after = kernel.run("print(chat.store.turns()['state'].iloc[-1])")
    assert after.stdout == "partial\n"
