"""Client parameters: the documented names in both spellings, their defaults, and errors that name what was meant."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.errors import ParameterError
from voxnb.params import (
    DEFAULT_SUMMARY_MODEL,
    DEFAULT_SUMMARY_PROMPT,
    ChatParameters,
    camel_case,
    defaults,
    did_you_mean,
    documentation,
    nearest,
    snake_case,
    spelled,
    takes,
)

NAMES = [f.name for f in dataclasses.fields(ChatParameters)]

# VoxEngine's name, ours, the documented default, and a value.
DOCUMENTED = [
    ("apiKey", "api_key", None, "sk-x"),
    ("storeContext", "store_context", False, True),
    ("baseUrl", "base_url", None, "https://example.com/v1"),
    ("project", "project", None, "proj_1"),
    ("summaryModel", "summary_model", None, "gpt-4o-mini"),
    ("summaryPrompt", "summary_prompt", None, "Summarise."),
    ("statistics", "statistics", False, True),
    ("trace", "trace", False, True),
    ("privacy", "privacy", False, True),
    ("onWebSocketClose", "on_web_socket_close", None, print),
]


# -- what is documented -----------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours", "default", "value"), DOCUMENTED, ids=[row[0] for row in DOCUMENTED])
def test_a_documented_parameter_is_taken_in_both_spellings(theirs, ours, default, value):
    assert getattr(ChatParameters(), ours) == default
    assert getattr(ChatParameters.parse({theirs: value}), ours) == value
    assert getattr(ChatParameters.parse({ours: value}), ours) == value
    assert ChatParameters.parse({theirs: value}) == ChatParameters.parse({ours: value})


def test_the_documented_summary_model_is_the_default_one():
    assert DEFAULT_SUMMARY_MODEL == "gpt-4o"


def test_the_default_summary_prompt_is_the_documented_text_to_the_letter():
    digest = hashlib.sha256(DEFAULT_SUMMARY_PROMPT.encode()).hexdigest()
    assert digest == "9a54d8096eafcff6e4d2b45b075ff94831655b64781d35340d54d1c759533e25"
    lines = DEFAULT_SUMMARY_PROMPT.split("\n")
    assert lines[0] == "You are maintaining a running summary of an ongoing conversation."
    assert lines[-1] == "- Maintain a neutral and factual tone"
    assert [n for n, line in enumerate(lines) if not line] == [1, 5, 7]
    assert len([line for line in lines if line]) == 12
    assert all(line == line.strip() for line in lines)


def test_the_default_summary_prompt_has_no_placeholder():
    assert "{" not in DEFAULT_SUMMARY_PROMPT


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_line_of_documentation(name):
    assert re.search(rf"^ *{name}: ", inspect.getdoc(ChatParameters), re.MULTILINE), name


def test_defaults_for_tables_are_the_defaults():
    table = defaults(ChatParameters)
    assert list(table) == NAMES
    for name, value in table.items():
        assert getattr(ChatParameters(), name) == value
    assert (table["max_retries"], table["max_parallel"], table["if_exists"]) == (2, 8, "append")
    assert table["metadata"] == {}


def test_the_line_of_a_parameter_may_go_on_in_the_next():
    @dataclasses.dataclass
    class Given:
        """A class.

        Attributes:
            one: what it is,
                and more.
            two: short: it has a colon.

        Something else:
            three: not a field.
        """

        one: int = 1
        two: str = "2"
        four: int = 4

    assert documentation(Given) == {"one": "what it is, and more.", "two": "short: it has a colon.", "four": ""}

    @dataclasses.dataclass
    class More(Given):
        """Another.

        Attributes:
            two: something else.
        """

        five: int = 5

    given = {"one": "what it is, and more.", "two": "something else.", "four": "", "five": ""}
    assert documentation(More) == given
    Given.__doc__ = None  # as with -OO
    assert documentation(Given) == dict.fromkeys(("one", "two", "four"), "")


def test_a_function_that_passes_parameters_on_shows_them_all_and_is_not_wrapped():
    def passes(model=None, /, *, store=None, **parameters):
        """Says what it does.

        Args:
            model: a model.
        """
        return model, store, parameters

    shown = takes(ChatParameters, changed={"store_context": True})(passes)
    assert shown is passes
    assert shown("m", store=1, baseUrl="x") == ("m", 1, {"baseUrl": "x"})
    found = inspect.signature(shown).parameters
    assert list(found) == ["model", "store", *(n for n in NAMES if n not in ("model", "store"))]
    assert {n: p.default for n, p in found.items()} == {
        "model": None,
        "store": None,
        **{n: value for n, value in defaults(ChatParameters).items() if n not in ("model", "store")},
        "store_context": True,
    }
    assert "    store_context = True: keep the conversation" in inspect.getdoc(shown)
    assert inspect.getdoc(shown).startswith("Says what it does.\n")


def test_a_function_shows_them_in_voxengines_spelling_too_and_without_docstrings():
    def passes(parameters=None, /, **given):
        return parameters, given

    takes(ChatParameters, spelled=camel_case)(passes)
    assert set(inspect.signature(passes).parameters) == {"parameters", *map(camel_case, NAMES)}
    assert "\n    maxRetries = 2: " in passes.__doc__


# -- spelling ---------------------------------------------------------------------------------

snake_names = st.from_regex(r"[a-z]{2,6}(_[a-z]{2,6}){0,4}", fullmatch=True)


@given(snake_names)
def test_camel_and_snake_are_each_others_inverse(name):
    assert snake_case(camel_case(name)) == name
    assert "_" not in camel_case(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_comes_back_from_camel_case(name):
    assert snake_case(camel_case(name)) == name


@given(st.lists(snake_names, unique=True, min_size=1), st.data())
def test_either_spelling_gives_the_same(names, data):
    written = {data.draw(st.sampled_from([n, camel_case(n)])): n for n in names}
    assert spelled(written, names) == {n: n for n in names}


MISSPELT = [
    ("apikey", "api_key"),
    ("API_KEY", "api_key"),
    ("ApiKey", "api_key"),
    ("baseURL", "base_url"),
    ("base_uri", "base_url"),
    ("sumaryModel", "summary_model"),
    ("summaryprompt", "summary_prompt"),
    ("store_contxt", "store_context"),
    ("StoreContext", "store_context"),
    ("statistic", "statistics"),
    ("max_retry", "max_retries"),
    ("instruction", "instructions"),
    ("timeout", "timeout_s"),
    ("conversations", "conversation"),
]


@pytest.mark.parametrize(("written", "meant"), MISSPELT, ids=[row[0] for row in MISSPELT])
def test_a_misspelt_name_suggests_the_nearest(written, meant):
    with pytest.raises(ParameterError, match=f"unknown parameter '{written}'; did you mean '{meant}'") as caught:
        ChatParameters.parse({written: "x"})
    assert caught.value.name == written
    assert caught.value.nearest[0] == meant


def test_a_name_like_nothing_suggests_nothing():
    with pytest.raises(ParameterError, match=r"^unknown parameter 'qqq'$") as caught:
        ChatParameters.parse({"qqq": 1})
    assert caught.value.nearest == ()


def test_a_name_that_is_no_text_is_unknown():
    with pytest.raises(ParameterError, match="unknown parameter 3"):
        ChatParameters.parse({3: "x"})


@pytest.mark.parametrize(("theirs", "ours"), [row[:2] for row in DOCUMENTED if row[0] != row[1]])
def test_one_parameter_in_both_spellings_is_an_error(theirs, ours):
    for given_names in ((theirs, ours), (ours, theirs)):
        with pytest.raises(ParameterError, match="both spellings; keep one"):
            ChatParameters.parse(dict.fromkeys(given_names))


def test_the_value_of_an_unknown_name_is_not_shown():
    with pytest.raises(ParameterError) as caught:
        ChatParameters.parse({"apikey": "sk-secret"})
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "model", ["model"], 3])
def test_parameters_that_are_no_dict_are_refused(value):
    with pytest.raises(ParameterError, match=f"the parameters are {type(value).__name__}, expected a dict"):
        ChatParameters.parse(value)


def test_nearest_names_come_best_first():
    assert nearest("modle", ["project", "model", "models"]) == ("model", "models")
    assert did_you_mean("xyz", ["model"]) == ""


# -- values -----------------------------------------------------------------------------------

WRONG = [
    ("store_context", 1, "store_context is 1 .int., expected bool"),
    ("store_context", None, "expected bool"),
    ("statistics", "yes", "statistics is 'yes'"),
    ("trace", "true", "trace is 'true'"),
    ("privacy", 0, "privacy is 0"),
    ("base_url", 80, "base_url is 80 .int., expected str or None"),
    ("project", b"p", "project is b'p'"),
    ("summary_model", object, "summary_model is"),
    ("summary_prompt", 5, "summary_prompt is int, expected str or a saved Prompt"),
    ("summary_prompt", SimpleNamespace(text=None), "summary_prompt is SimpleNamespace"),
    ("model", ["gpt"], "model is"),
    ("instructions", {"role": "system"}, "instructions is"),
    ("conversation", 3, "conversation is 3"),
    ("api_version", 2024, "api_version is 2024"),
    ("api_key", 12345, "api_key must be a string or a function"),
    ("on_web_socket_close", "f", "on_web_socket_close must be callable"),
    ("if_exists", "replace", "if_exists is 'replace', expected 'append', 'reuse' or 'fail'"),
    ("if_exists", None, "if_exists is None"),
    ("timeout_s", 0, "timeout_s is 0, expected seconds above 0"),
    ("timeout_s", -1.5, "timeout_s is -1.5"),
    ("timeout_s", math.nan, "timeout_s is nan"),
    ("timeout_s", "60", "timeout_s is '60'"),
    ("timeout_s", True, "timeout_s is True"),
    ("max_retries", -1, "max_retries is -1, expected a whole number, 0 or more"),
    ("max_retries", "2", "max_retries is '2'"),
    ("max_retries", 1.5, "max_retries is 1.5"),
    ("max_retries", None, "max_retries is None"),
    ("max_parallel", 0, "max_parallel is 0, expected a whole number, 1 or more"),
    ("max_parallel", True, "max_parallel is True"),
    ("summary_request", [("a", 1)], "summary_request is list, expected a dict"),
    ("metadata", "x", "metadata is str, expected a dict"),
]


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_a_wrong_value_is_refused_by_name(name, value, reason):
    for spelling in {name, camel_case(name)}:
        with pytest.raises(ParameterError, match=reason) as caught:
            ChatParameters.parse({spelling: value})
        assert caught.value.name == name


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from([*NAMES, *map(camel_case, NAMES), "x"]), anything | st.just(print)))
def test_any_values_are_taken_or_refused_as_parameters(values):
    try:
        made = ChatParameters.parse(values)
    except ParameterError:
        return
    for name, value in values.items():
        assert getattr(made, snake_case(name)) is value


def test_a_key_is_never_in_a_message_or_a_repr():
    secret = ["sk-secret"]
    with pytest.raises(ParameterError) as caught:
        ChatParameters(api_key=secret)
    assert "sk-secret" not in str(caught.value)
    assert "sk-secret" not in repr(ChatParameters(api_key="sk-secret", openai_client="sk-secret"))


def test_a_key_may_be_a_function():
    assert ChatParameters.parse({"apiKey": lambda: "sk-x"}).api_key() == "sk-x"


def test_a_saved_prompt_is_a_summary_prompt():
    prompt = SimpleNamespace(text="Summarise.", name="short", version=2)
    assert ChatParameters(summary_prompt=prompt).summary_prompt is prompt


def test_a_trace_contradicts_privacy():
    with pytest.raises(ParameterError, match="trace and privacy contradict"):
        ChatParameters(trace=True, privacy=True)


def test_parameters_are_a_value_that_does_not_change():
    made = ChatParameters(model="m")
    assert made == ChatParameters(model="m")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.model = "other"
    assert ChatParameters().metadata is not ChatParameters().metadata
