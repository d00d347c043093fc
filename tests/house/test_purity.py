"""The spine and the pure rooms decide; they do nothing: no clock, no chance, no file, no socket, no thread."""

from __future__ import annotations

import ast
import re
import sys

PURE_ROOMS = ("wire", "memory", "audio", "evidence")
SPINE = ("errors", "events", "params", "messages", "usage")

IMPURE = {
    "waits": (
        "asyncio",
        "concurrent",
        "contextvars",
        "multiprocessing",
        "queue",
        "selectors",
        "subprocess",
        "threading",
    ),
    "reaches out": ("socket", "ssl", "http", "urllib", "openai", "httpx", "httpx2", "requests", "websockets", "anyio"),
    "asks the clock or chance": ("time", "random", "secrets", "uuid"),
    "touches files": ("os", "sys", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "sqlite3", "sqlite_utils"),
    "acts on the process": ("atexit", "logging", "signal", "nest_asyncio", "nest_asyncio2"),
    "shows": ("IPython", "ipywidgets", "pandas", "tqdm"),
    "is heavy": ("tiktoken", "xllamacpp"),
}
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval"})
CLOCKS = frozenset({"now", "utcnow", "today"})


def pure(modules):
    return [m for m in modules.values() if m.room in PURE_ROOMS or m.room in SPINE]


def calls(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call)]


def test_pure_modules_import_nothing_that_acts(modules):
    acting = [
        f"{i}, which {what}"
        for m in pure(modules)
        for i in m.imports
        for what, packages in IMPURE.items()
        if i.target.split(".")[0] in packages
    ]
    assert acting == []


def test_the_spine_is_standard_library_only(modules):
    foreign = [
        str(i)
        for m in pure(modules)
        if m.room in SPINE
        for i in m.imports
        if i.target.split(".")[0] not in sys.stdlib_module_names | {"voxnb"}
    ]
    assert foreign == []


def test_pure_modules_open_and_print_nothing(modules):
    acting = [
        f"{m.name}:{call.lineno} calls {call.func.id}()"
        for m in pure(modules)
        for call in calls(m.tree)
        if isinstance(call.func, ast.Name) and call.func.id in IMPURE_CALLS
    ]
    assert acting == []


def test_pure_modules_ask_no_clock(modules):
    asking = [
        f"{m.name}:{call.lineno} calls {ast.unparse(call.func)}()"
        for m in pure(modules)
        for call in calls(m.tree)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in CLOCKS
        and ast.unparse(call.func.value).split(".")[-1] in ("datetime", "date")
    ]
    assert asking == []


def test_pure_modules_keep_no_state_between_calls(modules):
    stateful = [
        f"{m.name}:{node.lineno} says global {', '.join(node.names)}"
        for m in pure(modules)
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Global)
    ]
    assert stateful == []


def test_the_random_numbers_of_a_user_who_seeded_them_stay_the_same(modules):
    drawing = [
        f"{m.name}:{call.lineno} calls {ast.unparse(call.func)}()"
        for m in modules.values()
        for call in calls(m.tree)
        if re.fullmatch(r"random\.[a-z]\w*|np\.random\.(?!default_rng)\w+", ast.unparse(call.func))
    ]
    assert drawing == []


def test_there_is_something_to_be_pure(modules):
    assert {m.room for m in pure(modules)} >= {*SPINE, "wire", "memory"}
