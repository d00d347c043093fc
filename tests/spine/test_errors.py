"""Errors are one tree, say what they know as attributes, and travel between processes unchanged."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import openai
import pytest

from voxnb import errors
from voxnb.errors import (
    APIStatusError,
    HistoryConflictError,
    InternalServerError,
    MessageError,
    ParameterError,
    RateLimitError,
    StreamBrokenError,
    UnknownConversationError,
    VoxnbError,
    status_error,
)

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, VoxnbError)]


def drawn_tree():
    """Name → (parent, built-in base) as the module's docstring draws them."""
    out, path = {}, {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    (?P<in>[│├└─ ]*)(?P<name>\w+Error)(?:\((?P<builtin>\w+)\))?(?:\s|$)", line)
        if match:
            depth = len(match["in"]) // 4
            path[depth] = match["name"]
            out[match["name"]] = (path.get(depth - 1), match["builtin"])
    return out


def test_the_tree_in_the_docstring_is_the_tree():
    built = {}
    for cls in CLASSES:
        own = [base.__name__ for base in cls.__bases__]
        parent = next((name for name in own if hasattr(errors, name)), None)
        builtin = next((name for name in own if not hasattr(errors, name) and name != "Exception"), None)
        built[cls.__name__] = (parent, builtin)
    assert drawn_tree() == built


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_error_ends_in_error_and_says_what_it_is(cls):
    assert cls.__name__.endswith("Error")
    assert issubclass(cls, VoxnbError)
    assert inspect.getdoc(cls).endswith(".") or "Attributes:" in inspect.getdoc(cls)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_keeps_its_type_message_and_facts_on_the_way_to_another_process(cls, travel):
    error = cls("the window has 5 tokens", status_code=418, parts={"tools": 3}, nearest=("a", "b"))
    again = travel(error)
    assert type(again) is cls
    assert str(again) == "the window has 5 tokens"
    assert again.args == error.args
    assert (again.status_code, again.parts, again.nearest) == (418, {"tools": 3}, ("a", "b"))


def test_a_note_travels_too():
    error = ParameterError("unknown", name="x")
    error.add_note("seen in cell 3")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["seen in cell 3"]


def test_an_error_that_is_also_a_key_error_shows_its_message_without_quotes():
    error = UnknownConversationError("no conversation 'iris'", name="iris")
    assert str(error) == "no conversation 'iris'"
    with pytest.raises(KeyError):
        raise error


def test_wrong_input_can_be_caught_as_a_value_error():
    for cls in (ParameterError, MessageError, errors.BudgetError, errors.ContextOverflowError, errors.AudioError):
        assert issubclass(cls, ValueError), cls


@pytest.mark.parametrize("name", [c.__name__ for c in CLASSES if issubclass(c, errors.APIError)])
def test_what_the_sdk_also_has_is_called_and_related_alike_there(name):
    theirs = getattr(openai, name, None)
    if theirs is None:
        assert name in ("StreamBrokenError", "TapeMissError")
        return
    ours = getattr(errors, name)
    ancestors = [c.__name__ for c in ours.__mro__ if issubclass(c, errors.APIError)]
    assert [c.__name__ for c in theirs.__mro__ if issubclass(c, openai.APIError)] == ancestors


@pytest.mark.parametrize("name", [c.__name__ for c in APIStatusError.__subclasses__()])
def test_a_status_has_the_class_the_sdk_gives_it(name):
    status_code = getattr(getattr(openai, name), "status_code", 500)
    assert status_error(status_code) is getattr(errors, name)


def test_a_status_without_a_class_of_its_own_is_the_general_one():
    assert status_error(418) is APIStatusError
    assert status_error(302) is APIStatusError
    assert {status_error(n) for n in (500, 502, 503, 529, 599)} == {InternalServerError}


def test_facts_that_were_not_given_say_so_instead_of_failing():
    assert MessageError("m").index is None
    assert ParameterError("m", name="x").nearest == ()
    assert StreamBrokenError("m").reply is None
    assert (StreamBrokenError("m").host, StreamBrokenError("m").retries) == ("", 0)
    error = RateLimitError("m", status_code=429)
    assert (error.retry_after_s, error.request_id, error.code, error.body) == (None, None, None, None)


def test_facts_of_one_error_are_not_those_of_the_next():
    HistoryConflictError("m", index=4)
    assert not hasattr(HistoryConflictError("m"), "index")
