"""Types as the form of an answer."""

import dataclasses
import json
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from voxnb.clients.tools.structured import Form, is_form
from voxnb.errors import ParameterError


class Step(BaseModel):
    """One step."""

    text: str
    minutes: int = Field(default=5, ge=0)


class Recipe(BaseModel):
    name: str
    steps: list[Step]
    level: Literal["easy", "hard"] | None = None


class Tree(BaseModel):
    word: str
    inner: "list[Tree]"


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Span(TypedDict):
    start: int


def test_a_model_becomes_a_strict_schema_of_both_interfaces():
    form = Form.of(Recipe)
    chat = form.to_chat()
    assert chat["type"] == "json_schema"
    assert (chat["json_schema"]["name"], chat["json_schema"]["strict"]) == ("Recipe", True)
    schema = chat["json_schema"]["schema"]
    assert schema["required"] == ["name", "steps", "level"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Step"]["required"] == ["text", "minutes"]
    assert form.to_responses() == {"type": "json_schema", **chat["json_schema"]}


def test_its_schema_is_the_one_the_openai_package_sends():
    from openai.lib._pydantic import to_strict_json_schema

    from voxnb.clients.tools.schema import tidy

    class Plain(BaseModel):
        name: str
        tags: list[str]
        where: Point | None

    theirs = tidy(to_strict_json_schema(Plain))
    assert Form.of(Plain).to_chat()["json_schema"]["schema"] == theirs


@pytest.mark.parametrize(
    ("kind", "answer", "value", "name"),
    [
        (Recipe, '{"name": "Tea", "steps": []}', Recipe(name="Tea", steps=[]), "Recipe"),
        (Point, '{"x": 1, "y": 2}', Point(1, 2), "Point"),
        (Span, '{"start": 3}', {"start": 3}, "Span"),
        (Tree, '{"word": "a", "inner": []}', Tree(word="a", inner=[]), "Tree"),
        (list[Point], '{"value": [{"x": 1, "y": 2}]}', [Point(1, 2)], "list_Point"),
        (int, '{"value": 3}', 3, "int"),
        (Point | Span, '{"value": {"start": 1}}', {"start": 1}, "Point_Span"),
        (Annotated[Point, "where"], '{"x": 1, "y": 2}', Point(1, 2), "Point"),
        (Literal["yes", "no"], '{"value": "no"}', "no", "Literal_yes_no"),
    ],
)
def test_an_answer_becomes_a_value_of_the_type(kind, answer, value, name):
    form = Form.of(kind)
    assert form.read(answer) == (value, "")
    assert form.name == name
    assert form.to_chat()["json_schema"]["schema"]["type"] == "object"


def test_a_type_that_holds_itself_has_an_object_at_the_root():
    schema = Form.of(Tree).to_chat()["json_schema"]["schema"]
    assert "$ref" not in schema
    assert schema["properties"]["inner"]["items"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["additionalProperties"] is False


def test_what_strict_mode_cannot_say_is_checked_on_arrival_only():
    class Bag(BaseModel):
        counts: dict[str, int]

    form = Form.of(Bag)
    assert form.to_chat()["json_schema"]["strict"] is False
    assert form.read('{"counts": {"a": 1}}') == (Bag(counts={"a": 1}), "")
    assert form.read('{"counts": {"a": "x"}}')[0] is None


@pytest.mark.parametrize(
    ("text", "facts", "words"),
    [
        ("Sure! Tea is", {}, "the answer is no Recipe"),
        ("", {}, "the answer is no Recipe"),
        (None, {}, "the answer is no Recipe"),
        ('{"name": "Tea"}', {}, "steps: Field required"),
        ('{"name": "Te', {"finish_reason": "length"}, r"was cut off \(length\)"),
        (None, {"refusal": "I cannot."}, r"the model refused \(I cannot.\)"),
    ],
)
def test_an_answer_of_another_form_is_none_with_the_reason(text, facts, words):
    import re

    value, reason = Form.of(Recipe).read(text, **facts)
    assert value is None
    assert re.search(words, reason)


def test_a_validator_that_fails_in_its_own_way_is_a_reason_too():
    class Odd(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def odd(cls, n):
            raise KeyError("table")

    value, reason = Form.of(Odd).read('{"n": 1}')
    assert value is None
    assert "KeyError: 'table'" in reason


@pytest.mark.parametrize("kind", [print, 3, object(), lambda x: x])
def test_what_is_no_type_is_refused(kind):
    with pytest.raises(ParameterError, match=r"response_format is .* no JSON schema") as raised:
        Form.of(kind)
    assert raised.value.name == "response_format"


def test_dicts_are_the_apis_own():
    assert not is_form({"type": "json_object"})
    assert not is_form(None)
    assert is_form(Recipe)


@given(st.builds(Recipe, name=st.text(st.characters(exclude_categories=["Cs"])), steps=st.lists(
    st.builds(Step, text=st.text(st.characters(exclude_categories=["Cs"]), max_size=5), minutes=st.integers(0, 99)),
    max_size=3), level=st.sampled_from([None, "easy", "hard"])))  # fmt: skip
def test_any_value_survives_the_way_through_an_answer(value):
    assert Form.of(Recipe).read(json.dumps(value.model_dump(mode="json"))) == (value, "")
