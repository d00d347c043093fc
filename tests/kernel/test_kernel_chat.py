"""The chat client in a real kernel, against a real server and a file that is read from outside."""

import sqlite3
import time
from contextlib import closing

import pytest

from tests.kernel.real_kernel import ROOT, Kernel, execute, notebook
from voxnb import testing

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client's own: an event loop policy of Python 3.14, a pending-deprecation of its sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ENDLESS = ["word "] * 1000
UNSAFE = "**bold** <script>alert(1)</script> ![p](https://evil.example/p.png) [x](javascript:alert(1))"


def reply(request):
    if request.text == "endless":
        return testing.Paced(ENDLESS, chunk_delay_s=0.05)
    if request.text == "silent":
        return testing.Hang()
    if request.text == "wrong":
        return 400
    text = UNSAFE if request.text == "unsafe" else f"You said {request.text}."
    return testing.Paced([word + " " for word in text.split(" ")], chunk_delay_s=0.02)


@pytest.fixture(scope="module")
def server():
    with testing.server(reply) as running:
        yield running


def setup(server, store):
    return (
        f"import sys, asyncio, time; sys.path.insert(0, {str(ROOT)!r})\nimport voxnb\n"
        "Events = voxnb.OpenAI.ChatCompletionsAPIEvents\n"
        "def new_chat(name):\n"
        f"    return voxnb.chat('gpt-4o-mini', base_url={server.base_url!r}, api_key={server.api_key!r},"
        f" store={str(store)!r}, conversation=name)\n"
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("kernel") / "store.db"


@pytest.fixture(scope="module")
def shared(server, store):
    kernel = Kernel(setup(server, store))
    try:
        assert kernel.run("new_chat('first').ask('x').result();").status == "ok"  # the first turn imports and loads
        yield kernel
    finally:
        kernel.close()


@pytest.fixture
def kernel(shared, request):
    cell = shared.run(f"chat = new_chat({request.node.name!r})")
    assert (cell.status, cell.stderr) == ("ok", "")
    yield shared
    assert shared.run("print('alive')").stdout == "alive\n"


def stored(store, conversation):
    """The turns of a conversation as another process sees them: (state, finish reason, reply)."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as c:
        return c.execute(
            "SELECT t.state, t.finish_reason, m.text FROM turn t JOIN branch b ON b.id = t.branch"
            " JOIN conversation k ON k.id = b.conversation"
            " LEFT JOIN message m ON m.turn = t.id AND m.role = 'assistant' WHERE k.name = ? ORDER BY t.seq",
            (conversation,),
        ).fetchall()


def asked(server, text):
    """Tells whether a request that is not there yet has come; it is the last one then."""
    known = len(server.requests)
    return lambda: any(request.text == text for request in server.requests[known:])


WAITS = {
    "result": "chat.ask('endless').result()",
    "await": "await chat.ask('endless')",
    "iteration": "for delta in chat.ask('endless'): pass",
    "async iteration": "async for delta in chat.ask('endless'): pass",
    "display": "chat.ask('endless')",
    "gather": "voxnb.gather([chat.ask('endless')], progress=False)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_interrupt_ends_the_cell_within_a_second_and_the_partial_is_in_the_file(kernel, store, server, request, wait):
    cell = kernel.run(WAITS[wait], interrupt_after_s=0.4, begun=asked(server, "endless"))
    ((state, finish_reason, text),) = stored(store, request.node.name)  # at once: nothing else has run in the kernel
    assert cell.ename in ("KeyboardInterrupt", "CancelledError")
    assert cell.status == "error"
    assert (state, finish_reason) == ("partial", "cancelled")
    assert text.startswith("word word")
    assert server.requests[-1].wait(timeout_s=5) == "disconnected"
    cell.assert_interrupted_within(1)


def test_after_an_interrupt_the_conversation_goes_on(kernel, store, server, request):
    kernel.run("chat.ask('endless').result()", interrupt_after_s=0.3, begun=asked(server, "endless"))
    assert kernel.run("print(chat.ask('more').result())").stdout == "You said more. \n"
    assert [state for state, _, _ in stored(store, request.node.name)] == ["partial", "complete"]


def test_interrupt_while_the_server_is_silent_is_noticed(kernel, store, server, request):
    cell = kernel.run("chat.ask('silent').result()", interrupt_after_s=0.3, begun=asked(server, "silent"))
    assert cell.ename == "KeyboardInterrupt"
    ((state, _, text),) = stored(store, request.node.name)
    assert (state, text) == ("failed", None)
    cell.assert_interrupted_within(1)


def test_wait_for_in_a_cell_times_out_stores_the_partial_and_the_kernel_lives(kernel, store, request):
    cell = kernel.run("await asyncio.wait_for(chat.ask('endless'), 1)")
    assert cell.ename == "TimeoutError"
    ((state, finish_reason, text),) = stored(store, request.node.name)
    assert (state, finish_reason) == ("partial", "cancelled")
    assert text.startswith("word word")


def test_a_turn_as_the_last_expression_streams_and_the_cell_ends_with_the_reply(kernel, store, request):
    kernel.run("done = []\nchat.on(Events.ContentDone, lambda event: (time.sleep(0.2), done.append(1)))")
    cell = kernel.run("chat.ask('one two three four five six seven eight nine ten')")
    assert kernel.run("print(done)").stdout == "[1]\n"
    assert cell.status == "ok"
    kinds = [kind for kind, _, _ in cell.displays]
    assert kinds == ["display_data", *["update_display_data"] * (len(kinds) - 1)]
    assert len({transient["display_id"] for _, _, transient in cell.displays}) == 1
    texts = [data["text/plain"] for _, data, _ in cell.displays]
    assert len(set(texts)) >= 3
    assert texts[-1] == "You said one two three four five six seven eight nine ten. "
    assert stored(store, request.node.name) == [("complete", "stop", texts[-1])]


def test_what_is_shown_is_safe_html_and_text(kernel):
    for code in ("chat.ask('unsafe')", "chat.ask('unsafe').result()"):
        cell = kernel.run(code)
        for _, data, _ in cell.displays:
            assert set(data) == {"text/plain", "text/html"}
            assert "<script" not in data["text/html"]
            assert "<img" not in data["text/html"]
            assert 'href="javascript' not in data["text/html"]
        assert "<strong>bold</strong>" in cell.displays[-1][1]["text/html"]
        assert cell.displays[-1][1]["text/plain"].startswith("**bold** <script>")


def test_a_turn_that_the_server_refuses_makes_the_cell_fail_and_is_kept(kernel, store, request):
    cell = kernel.run("chat.ask('wrong')")
    assert (cell.status, cell.ename) == ("error", "BadRequestError")
    assert [state for state, _, _ in stored(store, request.node.name)] == ["failed"]


def test_an_exit_in_a_listener_harms_nothing_and_is_reported_in_the_cell(kernel, store, request):
    kernel.run(
        "chat.on(Events.ContentDelta, lambda event: sys.exit(1))\n"
        "@chat.on(Events.ContentDone)\nasync def leave(event):\n    raise KeyboardInterrupt"
    )
    cell = kernel.run("print(chat.ask('x').result())")
    assert (cell.status, cell.stdout) == ("ok", "You said x. \n")
    assert "SystemExit: 1" in cell.stderr
    assert "KeyboardInterrupt" in cell.stderr
    assert kernel.run("print(chat.ask('y').result())").stdout == "You said y. \n"
    assert [state for state, _, _ in stored(store, request.node.name)] == ["complete", "complete"]


def test_a_listener_prints_in_the_cell_that_asked(kernel):
    kernel.run("chat.on(Events.ContentDone, lambda event: print('heard', event.payload.content))", cell_id="listens")
    assert kernel.run("reply = chat.ask('a').result()", cell_id="asks").stdout == "heard You said a. \n"
    started = kernel.run("turn = chat.ask('b')", cell_id="starts")
    other = kernel.run("reply = turn.result(); time.sleep(0.3)", cell_id="waits")
    assert started.stdout + other.stdout == ""
    assert other.late == "heard You said b. \n"


def test_chaining_from_a_listener_works_in_cells(kernel, store, request):
    kernel.run(
        "got = []\ndef chain(event):\n"
        "    if event.payload.content.startswith('You said first'):\n"
        "        got.append(str(chat.ask('second').result()))\n"
        "chat.on(Events.ContentDone, chain)"
    )
    assert kernel.run("await chat.ask('first')\nprint(got)").stdout == "['You said second. ']\n"
    kernel.run("got.clear()")
    assert kernel.run("chat.ask('first').result()\nprint(got)").stdout == "['You said second. ']\n"
    assert [text.split()[2] for _, _, text in stored(store, request.node.name)] == [
        "first.",
        "second.",
        "first.",
        "second.",
    ]


def test_shutting_a_kernel_down_while_a_turn_streams_keeps_the_partial(server, tmp_path):
    path = tmp_path / "store.db"
    kernel = Kernel(setup(server, path))
    try:
        kernel.run(
            "chat = new_chat('left'); turn = chat.ask('endless')\nwhile len(turn.partial) < 20: time.sleep(0.01)"
        )
        kernel.client.shutdown()
        deadline = time.monotonic() + 20
        while kernel.manager.is_alive():
            assert time.monotonic() < deadline, "the kernel did not end"
            time.sleep(0.05)
    finally:
        kernel.close()
    ((state, finish_reason, text),) = stored(path, "left")
    assert (state, finish_reason) == ("partial", "cancelled")
    assert text.startswith("word word")


def test_a_notebook_run_by_nbclient_saves_replies_and_listener_output_with_their_cells(server, tmp_path):
    made = execute(
        notebook(
            setup(server, tmp_path / "store.db") + "chat = new_chat('saved')",
            "chat.on(Events.ContentDone, lambda event: print('heard', event.payload.content));",
            "chat.ask('one')",
            "reply = chat.ask('two').result()\nreply",
            "reply = await chat.ask('three')",
        )
    )
    texts = ["".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream") for cell in made.cells]
    assert texts == ["", "", "heard You said one. \n", "heard You said two. \n", "heard You said three. \n"]
    (display,) = (o for o in made.cells[2].outputs if o.output_type == "display_data")
    (result,) = (o for o in made.cells[3].outputs if o.output_type == "execute_result")
    assert (display.data["text/plain"], result.data["text/plain"]) == ("You said one. ", "You said two. ")
    assert server.api_key not in "".join(str(cell.outputs) for cell in made.cells)
