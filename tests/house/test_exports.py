"""What `voxnb` offers is what it lists, and each of it says what it is."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from itertools import pairwise

import pytest

import voxnb

# The names that documentation and notebooks rely on.
FIXED = {
    "ChatCompletionsAPIClient", "ContextEvents", "ContextPolicy", "ContextStore", "DEFAULT_SUMMARY_PROMPT", "OpenAI",
    "VoxnbError", "chat", "errors", "gather",
}  # fmt: skip
OFFERED = tuple(getattr(voxnb, "__all__", ()))


def attribute_docs(tree):
    """Names assigned in a module or class body and followed by a string, as editors read them."""
    documented = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for assignment, text in pairwise(body):
            if (
                isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                targets = getattr(assignment, "targets", None) or [getattr(assignment, "target", None)]
                documented |= {t.id for t in targets if isinstance(t, ast.Name)}
    return documented


def test_the_fixed_names_are_offered():
    assert set(OFFERED) >= FIXED


def test_of_the_errors_only_the_base_and_the_module_are_at_the_top():
    errors = {n for n in OFFERED if isinstance(getattr(voxnb, n), type) and issubclass(getattr(voxnb, n), Exception)}
    assert errors == {"VoxnbError"}


def test_the_list_is_without_doubles():
    assert len(set(OFFERED)) == len(OFFERED)


def test_dir_shows_the_list_and_nothing_else_that_is_public():
    assert {n for n in dir(voxnb) if not n.startswith("_")} == set(OFFERED)


def test_type_checkers_and_editors_see_every_name(modules):
    seen = {n for i in modules["voxnb"].imports if i.kind == "typing" for n in i.names}
    assert set(OFFERED) - seen == set()


@pytest.mark.parametrize("name", OFFERED)
def test_a_public_name_resolves_and_stays_the_same(name):
    assert getattr(voxnb, name) is getattr(voxnb, name)


@pytest.mark.parametrize("name", [n for n in OFFERED if not n.startswith("_")])
def test_a_public_name_has_a_docstring(name, modules):
    value = getattr(voxnb, name)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        assert (inspect.getdoc(value) or "").strip(), f"voxnb.{name} has no docstring"
        return
    documented = set().union(*(attribute_docs(m.tree) for m in modules.values()))
    own = inspect.getdoc(value) not in (None, inspect.getdoc(type(value)))
    assert name in documented or own, f"voxnb.{name} is a constant without a docstring below it"


def public_callables():
    """``(name, function, takes self)`` of everything a user may call by a public name."""
    for name in OFFERED:
        value = getattr(voxnb, name)
        if inspect.isfunction(value):
            yield name, value, False
        elif inspect.isclass(value) and value.__module__.startswith("voxnb"):
            for attribute, raw in vars(value).items():
                inner = getattr(raw, "__func__", raw)
                made = attribute == "__init__" and not dataclasses.is_dataclass(value)  # a value's fields are its own
                if inspect.isfunction(inner) and (made or not attribute.startswith("_")):
                    yield f"{name}.{attribute}", inner, not isinstance(raw, staticmethod)


def test_public_functions_take_at_most_two_positional_arguments():
    many = []
    for name, function, takes_self in public_callables():
        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
        positional = [
            k for k in kinds if k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        if len(positional) - takes_self > 2:
            many.append(name)
    assert many == []


def test_public_functions_say_what_they_are():
    assert [
        name for name, function, _ in public_callables() if name[-8:] != "__init__" and not inspect.getdoc(function)
    ] == []


def test_an_unknown_name_raises_and_names_the_nearest():
    with pytest.raises(AttributeError, match="chat"):
        _ = voxnb.chatt


def test_star_import_brings_the_list():
    space: dict[str, object] = {}
    exec("from voxnb import *", space)
    assert set(OFFERED) <= set(space)


def test_the_modules_of_the_package_can_all_be_imported(modules):
    for name in modules:
        if not name.endswith("__main__"):
            importlib.import_module(name)


def test_the_list_of_a_module_names_what_is_there(modules):
    for name in modules:
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        missing = [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)]
        assert missing == [], name
