"""Nested loops: only when asked for, once, with the package that works, and refused where it would break."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from voxnb import errors
from voxnb.runtime.nested import NEWER, NOTICE, OLDER, choose

BOTH = {NEWER, OLDER}

# Each line runs in a new process: what is patched there stays there.
PRELUDE = """
import asyncio, sys
{before}
import voxnb
from voxnb import testing

async def pasted(chat):
    await asyncio.sleep(0)
    deltas = [delta async for delta in chat.ask("two")]
    return "".join(deltas), (await chat.ask("three")).text

async def cell():
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with testing.server(lambda request: f"You said {{request.text}}.") as server:
        with voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key=server.api_key, store=":memory:") as chat:
            heard = []
            chat.on(voxnb.OpenAI.ChatCompletionsAPIEvents.ContentDone, lambda e: heard.append(e.payload.content))
            print(chat.ask("one").result())
            try:
                asyncio.run(asyncio.sleep(0))
            except RuntimeError as error:
                print(error)
            voxnb.allow_nested_loops()
            voxnb.allow_nested_loops()
            print(*asyncio.run(pasted(chat)))
            print(loop.run_until_complete(asyncio.sleep(0, "run_until_complete")))
            print(chat.ask("four").result(), (await chat.ask("five")).text)
            print(asyncio.current_task() is task, asyncio.get_running_loop() is loop, *heard)
            print(len(chat.store.turns()), bool(chat.store.verify()))

asyncio.new_event_loop().run_until_complete(cell())
print("package", "nest_asyncio2" if hasattr(asyncio, "_nest_asyncio2") else "nest_asyncio")
"""

EXPECTED = """\
You said one.
asyncio.run() cannot be called from a running event loop
{notice}
You said two. You said three.
run_until_complete
You said four. You said five.
True True You said one. You said two. You said three. You said four. You said five.
5 True
package {package}
"""


def notice_of(package):
    return NOTICE.format(package=package.replace("_", "-"))


def python(code, root, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("before", "package"),
    [("", NEWER), (f"sys.modules[{NEWER!r}] = None", OLDER)],
    ids=["with nest-asyncio2", "without it"],
)
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="nest-asyncio is refused there")
@pytest.mark.slow
def test_a_pasted_script_runs_and_the_background_loop_keeps_working(before, package, root):
    code = PRELUDE.format(before=before)
    done = python(code, root, "-W", "ignore::RuntimeWarning")
    assert done.stdout == EXPECTED.format(package=package, notice=notice_of(package)), done.stderr
    assert "Error" not in done.stderr


def test_a_script_without_a_running_loop_is_prepared_for_one(root):
    code = """
import asyncio, voxnb
voxnb.allow_nested_loops()
async def inner():
    return "inner"
async def main():
    return asyncio.run(inner())
print(asyncio.run(main()))
"""
    done = python(code, root)
    assert done.stdout == f"{notice_of(NEWER)}\ninner\n", done.stderr


def test_what_another_library_has_patched_is_patched_by_the_same_package(root):
    code = (
        "import asyncio, nest_asyncio\n"
        "async def main():\n"
        "    nest_asyncio.apply()\n"
        "    import voxnb\n"
        "    voxnb.allow_nested_loops()\n"
        "    print(asyncio.run(asyncio.sleep(0, 'ran')), hasattr(asyncio, '_nest_asyncio2'))\n"
        "asyncio.new_event_loop().run_until_complete(main())"
    )
    done = python(code, root)
    assert done.stdout == "ran False\n", done.stderr


def test_a_loop_that_is_not_asyncios_is_refused_by_name_and_nothing_is_patched(root):
    code = """
import asyncio, voxnb
from voxnb import errors

class Loop(asyncio.AbstractEventLoop):
    def close(self):
        print("closed")

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return Loop()

run = asyncio.run
asyncio.set_event_loop_policy(Policy())
for running in (None, Loop()):
    asyncio._set_running_loop(running)
    try:
        voxnb.allow_nested_loops()
    except errors.NotSupportedError as error:
        print(error.name, error.instead, error)
print(asyncio.run is run, hasattr(asyncio, "_nest_patched"))
"""
    done = python(code, root, "-W", "ignore::DeprecationWarning")
    said = (
        "allow_nested_loops await the event loop is __main__.Loop, which cannot be entered while it runs; write "
        "'await main()' in place of 'asyncio.run(main())', or use asyncio's own loop (leave uvloop.install() out)\n"
    )
    assert done.stdout == "closed\n" + said + said + "True False\n", done.stderr


def test_nothing_is_patched_until_it_is_asked_for(root):
    code = "import asyncio, voxnb; voxnb.allow_nested_loops; print(hasattr(asyncio, '_nest_patched'))"
    assert python(code, root).stdout == "False\n"


# -- which package ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "importable", "patched", "chosen"),
    [
        ((3, 11), BOTH, None, NEWER),
        ((3, 11), {OLDER}, None, OLDER),
        ((3, 13), {OLDER}, None, OLDER),
        ((3, 14), BOTH, None, NEWER),
        ((3, 14), {NEWER}, None, NEWER),
        ((3, 12), BOTH, OLDER, OLDER),
        ((3, 12), {OLDER}, NEWER, NEWER),
        ((3, 15), BOTH, NEWER, NEWER),
    ],
)
def test_the_newer_package_is_preferred_and_patches_are_not_mixed(python, importable, patched, chosen):
    assert choose(python=python, importable=importable, patched=patched) == chosen


@pytest.mark.parametrize(
    ("python", "importable", "patched", "words"),
    [
        ((3, 14), {OLDER}, None, r"current_task\(\) return None on Python 3.14, .*; install nest-asyncio2, or write"),
        ((3, 15), {OLDER}, None, "on Python 3.15"),
        ((3, 14), BOTH, OLDER, "was patched by nest-asyncio in this process: .* restart the kernel"),
        ((3, 11), set(), None, "neither nest-asyncio2 nor nest-asyncio is installed; install nest-asyncio2"),
    ],
)
def test_what_would_break_is_refused_with_the_reason(python, importable, patched, words):
    with pytest.raises(errors.NotSupportedError, match=words) as caught:
        choose(python=python, importable=importable, patched=patched)
    assert (caught.value.name, caught.value.instead) == ("allow_nested_loops", "nest-asyncio2")
    assert pickle.loads(pickle.dumps(caught.value)).instead == "nest-asyncio2"
