"""A module over 400 lines or a function over 60 is a sign that two subjects share a room."""

from __future__ import annotations

import ast
import re

MODULE_LINES = 400
FUNCTION_LINES = 60

# What may be longer, and why. A name that is no longer too long must leave the table.
LONG_MODULES = {
    "voxnb.events": "tables of names and wire types: one line per event, nothing to split by subject",
    "voxnb.errors": "one tree: every exception with the facts it carries, nothing to split by subject",
}
LONG_FUNCTIONS: dict[str, str] = {}

FORBIDDEN_NAMES = re.compile(r"(?:^|_)(?:utils?|helpers?|common|managers?|misc)(?:_|$)")
FORBIDDEN_CLASSES = re.compile(r"(?:Util|Utils|Helper|Helpers|Manager)$")


def functions(module):
    """(qualified name, node) of every function in a module, inner ones too."""

    def walk(node, prefix):
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}.{child.name}"
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, child
            yield from walk(child, name)

    return walk(module.tree, module.name)


def length(function):
    """Lines of a function without its decorators and its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        text = function.body[0]
        lines -= text.end_lineno - text.lineno + 1
    return lines


def test_no_module_is_too_long(modules):
    long = {m.name: m.lines for m in modules.values() if m.lines > MODULE_LINES}
    assert {n: v for n, v in long.items() if n not in LONG_MODULES} == {}
    assert set(LONG_MODULES) <= set(long), "short again: take it out of LONG_MODULES"


def test_no_function_is_too_long(modules):
    sizes = {name: length(node) for m in modules.values() for name, node in functions(m)}
    long = {n: v for n, v in sizes.items() if v > FUNCTION_LINES}
    assert {n: v for n, v in long.items() if n not in LONG_FUNCTIONS} == {}
    assert set(LONG_FUNCTIONS) <= set(long), "short again: take it out of LONG_FUNCTIONS"


def test_no_room_is_a_lumber_room(modules):
    named = [m.name for m in modules.values() for part in m.name.split(".") if FORBIDDEN_NAMES.search(part)]
    assert named == []


def test_no_class_is_named_for_helping(modules):
    named = [
        f"{m.name}.{node.name}"
        for m in modules.values()
        for node in ast.walk(m.tree)
        if isinstance(node, ast.ClassDef) and FORBIDDEN_CLASSES.search(node.name)
    ]
    assert named == []


def test_a_docstring_does_not_count_as_length():
    function = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n').body[0]
    assert length(function) == 2
