"""A script pasted into a cell, after `voxnb.allow_nested_loops()`."""

import sys

import pytest

from tests.kernel.real_kernel import ROOT, Kernel
from voxnb import testing

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client's own: an event loop policy of Python 3.14, a pending-deprecation of its sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SCRIPT = """
async def main():
    async for delta in chat.ask("one"):
        print(delta, end="")
    print((await chat.ask("two")).text)

asyncio.run(main())
"""


def reply(request):
    return testing.Paced(["You ", "said ", f"{request.text}. "], chunk_delay_s=0.1)


# What each package prints where a message comes in between. nest-asyncio 1.6 may leave it without an answer: the cell, and
# all that comes after it, go on.
TOLD = {"nest_asyncio2": "", "nest_asyncio": "cannot enter context"}
HIDE = {"nest_asyncio2": "", "nest_asyncio": "sys.modules['nest_asyncio2'] = None"}


@pytest.mark.parametrize("package", ["nest_asyncio2", "nest_asyncio"])
def test_a_pasted_script_runs_in_a_cell_and_everything_else_goes_on(tmp_path, package):
    pytest.importorskip(package)
    if package == "nest_asyncio" and sys.version_info >= (3, 14):
        pytest.skip("nest-asyncio breaks every request on this Python, and is refused")
    with testing.server(reply) as server:
        kernel = Kernel(
            f"import sys, asyncio; sys.path.insert(0, {str(ROOT)!r})\nimport voxnb\n"
            f"chat = voxnb.chat('gpt-4o-mini', base_url={server.base_url!r}, api_key={server.api_key!r},"
            f" store={str(tmp_path / 'store.db')!r})"
        )
        try:
            assert kernel.run("chat.ask('zero').result()").stdout == ""
            refused = kernel.run(
                "pasted = asyncio.sleep(0)\ntry:\n    asyncio.run(pasted)\nfinally:\n    pasted.close()"
            )
            assert refused.ename == "RuntimeError"
            told = kernel.run(f"{HIDE[package]}\nvoxnb.allow_nested_loops()\nvoxnb.allow_nested_loops()")
            assert told.stdout.startswith(f"asyncio is patched by {package.replace('_', '-')}, for this whole process")
            assert told.stdout.count("\n") == 1
            patched = kernel.run("from voxnb.runtime.nested import patched_by; print(patched_by())")
            assert patched.stdout == f"{package}\n"

            completions = []

            def complete():
                # A message that arrives while the nested loop runs: what breaks where loops are nested badly.
                if not completions and server.requests[-1].text == "two":
                    completions.append(kernel.client.complete("cha", 3))
                return bool(completions)

            cell = kernel.run(SCRIPT, begun=complete)
            assert (cell.status, cell.stdout) == ("ok", "You said one. You said two. \n")
            assert completions
            assert cell.stderr == "" or (TOLD[package] and TOLD[package] in cell.stderr)
            if package == "nest_asyncio2":
                (answer,) = cell.replies or [kernel.client.get_shell_msg(timeout=20)]
                assert "chat" in answer["content"]["matches"], "the completion was answered, too"
            assert kernel.run("print(chat.ask('three').result())").stdout == "You said three. \n"
            assert kernel.run("print(await chat.ask('four'))").stdout == "You said four. \n"
            last = kernel.run("print(len(chat.store.turns()), chat.store.verify())")
            assert last.stdout.startswith("5 all holds")
            assert last.stderr == "" or TOLD[package]
        finally:
            kernel.close()
