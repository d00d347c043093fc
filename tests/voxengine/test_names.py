"""The tables of VoxEngine's names are the reference's, and the classes have what the tables say."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import pytest

from tests.voxengine import reference
from voxnb import params
from voxnb.events import BetaRealtimeAPIEvents, RealtimeAPIEvents
from voxnb.params import camel_case, snake_case
from voxnb.voxengine import METHODS, OpenAI
from voxnb.voxengine.names import BETA_RENAMES, PARAMETERS, Method, columns

HERE = list(METHODS)
PARAMETER_CLASSES = {
    "ChatCompletionsAPIClient": "ChatParameters",
    "RealtimeAPIClient": "RealtimeParameters",
    "ResponsesAPIClient": "ResponsesParameters",
}
ROWS = [pytest.param(name, method, id=f"{name}.{method.voxengine}") for name in HERE for method in METHODS[name]]


def values(text):
    """``"event, callback?"`` → the names, and which of them may be left out."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    return [n.rstrip("?") for n in names], [n.rstrip("?") for n in names if n.endswith("?")]


# -- methods ----------------------------------------------------------------------------------


def test_the_table_has_every_method_of_the_reference_and_no_other():
    def written(method):
        loose = method.parameters.rstrip("?") if method.voxengine in reference.CALLED_WITHOUT else method.parameters
        return f"{method.voxengine}({loose})"

    assert {name: [written(m) for m in methods] for name, methods in METHODS.items()} == reference.METHODS


def test_voxnbs_names_are_voxengines_in_pythons_spelling():
    assert [m for methods in METHODS.values() for m in methods if snake_case(m.voxengine) != m.voxnb] == []


def aliases(cls):
    """``(their name, ours)`` of every line ``theirs = ours`` in the bodies of a class and its bases of voxnb."""
    for base in cls.__mro__:
        if base.__module__.startswith("voxnb"):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            for node in body.body:
                if (
                    isinstance(node, ast.Assign)
                    and isinstance(node.value, ast.Name)
                    and isinstance(node.targets[0], ast.Name)
                ):
                    yield node.targets[0].id, node.value.id


@pytest.mark.parametrize("name", HERE)
def test_the_alias_lines_of_a_class_are_those_of_the_table(name):
    said = {(theirs, ours) for theirs, ours in aliases(getattr(OpenAI, name)) if re.match("[a-z]+[A-Z]", theirs)}
    assert said == {(m.voxengine, m.voxnb) for m in METHODS[name] if m.voxengine != m.voxnb}


@pytest.mark.parametrize("name", HERE)
def test_a_class_has_no_other_name_in_voxengines_spelling(name):
    public = {n for n in vars(getattr(OpenAI, name)) if re.match("[a-z]+[A-Z]", n)}
    assert public <= {m.voxengine for m in METHODS[name]}


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_both_names_are_one_function(name, method):
    cls = getattr(OpenAI, name)
    assert getattr(cls, method.voxengine) is getattr(cls, method.voxnb)


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_a_method_takes_what_the_reference_documents(name, method):
    signature = inspect.signature(getattr(getattr(OpenAI, name), method.voxnb))
    taken, optional = values(method.parameters)
    signature.bind(None, *taken)
    signature.bind(None, *[n for n in taken if n not in optional])
    ours = [p.name for p in signature.parameters.values()][1:]
    assert ours[: len(taken)] == [snake_case(n) for n in taken]


# -- parameters -------------------------------------------------------------------------------


def test_the_table_has_every_parameter_of_the_reference_with_its_default():
    def as_text(default):
        names = {reference.REQUIRED: "required", reference.NOT_STATED: "none"}
        return names.get(default, str(default))

    stated = {n: [(k, as_text(v)) for k, v in given.items()] for n, given in reference.PARAMETERS.items()}
    assert {name: [tuple(p) for p in given] for name, given in PARAMETERS.items()} == stated


@pytest.mark.parametrize("name", HERE)
def test_the_parameter_class_has_them_with_the_documented_defaults(name):
    ours = params.defaults(getattr(params, PARAMETER_CLASSES[name]))
    for theirs, default in reference.PARAMETERS[name].items():
        assert camel_case(snake_case(theirs)) == theirs
        value = ours[snake_case(theirs)]
        if theirs == "summaryModel":
            assert (value, params.DEFAULT_SUMMARY_MODEL) == (
                None,
                default,
            )  # None: the documented one, on OpenAI's host
        elif default in (reference.REQUIRED, reference.NOT_STATED, "documented text"):
            assert value is None
        else:
            assert default in (value, getattr(value, "name", None))  # of an enum VoxEngine's name


@pytest.mark.parametrize("name", HERE)
def test_a_client_and_its_factory_show_every_parameter(name):
    ours = set(params.defaults(getattr(params, PARAMETER_CLASSES[name])))
    assert set(inspect.signature(getattr(OpenAI, name)).parameters) == {"parameters", *ours}
    factory = getattr(OpenAI, f"create{name}")
    assert set(inspect.signature(factory).parameters) == {"parameters", *map(camel_case, ours)}
    for theirs in reference.PARAMETERS[name]:
        assert re.search(rf"^ +{theirs} = .+: .{{10,}}$", inspect.getdoc(factory), re.MULTILINE), theirs


# -- what became of Beta ----------------------------------------------------------------------

EVENT_RENAMES = {
    r.beta.removeprefix("RealtimeAPIEvents."): re.findall(r"\.(\w+)", r.now)
    for r in BETA_RENAMES
    if r.beta.startswith("RealtimeAPIEvents.")
}


def test_every_event_of_beta_is_called_the_same_now_or_is_in_the_table():
    same = set(BetaRealtimeAPIEvents.__members__) & set(RealtimeAPIEvents.__members__)
    assert set(BetaRealtimeAPIEvents.__members__) - same == set(EVENT_RENAMES)
    assert {n for now in EVENT_RENAMES.values() for n in now} <= set(RealtimeAPIEvents.__members__)


def test_every_method_of_beta_is_in_the_table_with_the_one_object_it_takes_now():
    rows = {r.beta.partition("(")[0]: r for r in BETA_RENAMES if "(" in r.beta}
    assert {name: r.beta.partition("(")[2][:-1] for name, r in rows.items()} == reference.BETA_METHODS
    now = {m.voxengine for m in METHODS["RealtimeAPIClient"]}
    for name, row in rows.items():
        assert name in now
        fields = re.fullmatch(rf"{name}\(\{{(.+)\}}\)", row.now)[1].split(", ")
        assert set(fields) >= {snake_case(n) for n in reference.BETA_METHODS[name].split(", ")}


def test_the_columns_of_the_table_are_straight():
    lines = columns(BETA_RENAMES).splitlines()
    assert len(lines) == len(BETA_RENAMES)
    assert len({line.index("→") for line in lines}) == 1
    assert max(map(len, lines)) < 160


def test_a_method_reads_as_three_values():
    assert Method("close", "", "close") == ("close", "", "close")
