"""``%%vox`` in a real kernel: one turn a cell, variables filled in, mistakes told in a line, completion and help."""

import json

import pytest

from tests.kernel.real_kernel import ROOT, Kernel
from voxnb import testing

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client's own: an event loop policy of Python 3.14, a pending-deprecation of its sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def world():
    def answer(request):
        return 400 if "refuse" in request.text else f"**You said:** {request.text}"

    with testing.server(answer) as server:
        kernel = Kernel(
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n%load_ext voxnb\nimport voxnb, pandas as pd\n"
            f"base_url = {server.base_url!r}\nn, name, table = 7, 'iris', pd.DataFrame({{'a': [1, 2]}})"
        )
        yield kernel, server
        kernel.close()


@pytest.fixture
def run(world):
    kernel, _ = world
    return kernel.run


def said(cell):
    return [data["text/plain"] for _, data, _ in cell.displays][-1]


def test_without_a_client_it_says_how_to_come_by_one(run):
    cell = run("%%vox\nHello")
    assert (cell.status, cell.ename) == ("error", None)
    assert "voxnb.chat(" in cell.stderr
    assert cell.stderr.count("\n") <= 1


def test_a_cell_is_a_turn_with_its_variables_filled_in_and_its_braces_kept(run, world):
    _, server = world
    assert run("chat = voxnb.chat('m', base_url=base_url, store=':memory:')").status == "ok"
    cell = run('%%vox --as answer\n{{name}} has {{n}} rows? {"json": {}} {x} {{ n }}')
    assert cell.status == "ok"
    assert server.requests[-1].text == 'iris has 7 rows? {"json": {}} {x} {{ n }}'
    assert "You said: iris has 7" in said(cell).replace("*", "")
    assert all("text/markdown" not in data for _, data, _ in cell.displays)
    assert run("print(type(answer).__name__, len(chat.conversation))").stdout == "Reply 1\n"


def test_the_next_cell_goes_on_with_the_same_client(run):
    assert run("%%vox chat\nAnd again").status == "ok"
    assert run("print(len(chat.conversation))").stdout == "2\n"
    assert run("%%vox --raw\n{{nobody}} stays").status == "ok"
    assert run("print(len(chat.conversation))").stdout == "3\n"


def test_options_make_a_client_once(run, world):
    _, server = world
    for text in ("one", "two"):
        assert run(f"%%vox --model x --base-url {server.base_url} --conversation magic\n{text}").status == "ok"
    assert server.requests[-1].messages[0]["content"] == "one"
    assert server.requests[-1].model == "x"


def test_a_table_is_attached_and_options_go_with_the_request(run, world):
    _, server = world
    assert run("%%vox chat --attach table --max-tokens 5 --temperature 0\nWhat is odd?").status == "ok"
    body = json.loads(server.requests[-1].body)
    assert body["temperature"] == 0
    assert 5 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert "a\n" in str(body["messages"][-1]["content"]).replace("\\n", "\n")


def test_the_longest_reply_is_told_to_a_responses_client_by_its_own_name(run, world):
    _, server = world
    run("r = voxnb.ResponsesAPIClient(model='m', base_url=base_url, api_key='k', store_context=True, store=':memory:')")
    assert run("%%vox r --max-tokens 20\nHello").status == "ok"
    assert json.loads(server.requests[-1].body)["max_output_tokens"] == 20
    assert run("r.close()\n_ = None").status == "ok"


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("%%vox\n{{nmae}}?", "there is no variable 'nmae' for {{nmae}}; did you mean 'name'?"),
        ("%%vox\n{{table}}?", "--attach table"),
        ("%%vox --temprature 1\nx", "did you mean '--temperature'?"),
        ("%%vox caht\nx", "did you mean 'chat'?"),
        ("%%vox name\nx", "is str, expected a client"),
        ("%%vox --max-tokens many\nx", "invalid int value: 'many'"),
        ("%%vox chat --model m\nx", "is a client already"),
        ("%%vox --instructions 'open\nx", "No closing quotation"),
        ("%%vox --as 2x\nx", "is no name of a variable"),
        ("%%vox --as for\nx", "is no name of a variable"),
        ("%%vox\n \n", "says nothing"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_fails_the_cell(run, cell, told):
    found = run(cell)
    assert found.status == "error"
    assert told in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stderr.count("\n") <= 1


def test_an_error_of_the_server_keeps_its_name_and_is_one_line(run):
    cell = run("%%vox chat\nrefuse this")
    assert (cell.status, cell.ename) == ("error", "BadRequestError")
    assert cell.traceback == ["BadRequestError: " + cell.evalue]


def test_completion_knows_options_clients_conversations_and_variables(world):
    kernel, _ = world

    def complete(code):
        message = kernel.client.complete(code, len(code), reply=True, timeout=20)
        return message["content"]["matches"]

    options = complete("%%vox --")
    assert {"--model", "--max-tokens", "--attach"} <= set(options)
    assert not {"--abs", "--all"} & set(options), "options, and no names of Python's with dashes"
    assert complete("%%vox c") == ["chat"]
    assert complete("%%vox --attach ta") == ["table"]
    assert complete("%%vox --base-url ") == ["local", "ollama"]
    assert complete("%%vo") == ["%%vox"]
    assert "name" in complete("%%vox\nHow many {{na")
    assert not {"len", "import"} & set(complete("%%vox\nHow many {{")), "variables, and nothing of Python's"
    assert "len" in complete("x = {{le")


def test_help_lists_the_options_with_examples(world):
    kernel, _ = world
    found = kernel.client.inspect("%%vox", 5, reply=True, timeout=20)["content"]["data"]["text/plain"]
    for word in ("usage: %%vox [CLIENT]", "--attach NAME", "--as NAME", "{{name}}", "Examples:", "--raw"):
        assert word in found
    assert kernel.run("%unload_ext voxnb\n%reload_ext voxnb").status == "ok"
    assert kernel.run("%%vox chat\nstill there").status == "ok"
