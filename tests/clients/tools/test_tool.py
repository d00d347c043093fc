"""From functions to schemas, and from a model's arguments to the function's."""

import dataclasses
import datetime as dt
import enum
import functools
import json
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from voxnb.clients.tools.tool import ArgumentError, Tool, read_object
from voxnb.clients.tools.toolbox import Toolbox
from voxnb.errors import ParameterError


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class City(BaseModel):
    """A city."""

    title: str
    near: "list[City]" = []


class Span(TypedDict, total=False):
    start: int
    end: int


def properties(function):
    return Tool.of(function).parameters["properties"]


def test_a_signature_and_a_docstring_become_the_schema():
    def weather(city: str, days: int = 3, unit: Literal["C", "F"] = "C") -> str:
        """Weather of a city.

        Args:
            city: its name
            days: how many
        """

    assert Tool.of(weather).to_chat() == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "its name"},
                    "days": {"type": "integer", "default": 3, "description": "how many"},
                    "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }


def test_both_wire_shapes_say_the_same():
    def add(a: float, b: float) -> float:
        """Add."""

    tool = Tool.of(add)
    chat, responses = tool.to_chat(), tool.to_responses()
    assert chat["function"] == {k: v for k, v in responses.items() if k != "type"}
    assert responses["strict"] is True


def test_responses_are_told_that_a_schema_is_not_strict_because_there_it_is_the_default():
    def f(a: int = 1) -> int: ...

    assert Tool.of(f).to_responses()["strict"] is False
    assert "strict" not in Tool.of(f).to_chat()["function"]


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, {"type": "string"}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045 - as people write it
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),  # noqa: UP007 - as people write it
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (
            Annotated[int, Field(ge=0, description="so many")],
            {"type": "integer", "minimum": 0, "description": "so many"},
        ),
        (dt.date, {"type": "string", "format": "date"}),
        (Any, {}),
    ],
)
def test_types_have_their_schema(kind, schema):
    def f(x): ...

    f.__annotations__["x"] = kind
    assert properties(f)["x"] == schema


@pytest.mark.parametrize("kind", [Color, Point, City, Span])
def test_types_with_a_name_are_defined_once(kind):
    def f(x, y): ...

    f.__annotations__.update(x=kind, y=kind)
    tool = Tool.of(f)
    assert tool.parameters["properties"]["x"] == {"$ref": f"#/$defs/{kind.__name__}"}
    assert kind.__name__ in tool.parameters["$defs"]
    assert tool.strict


def test_a_property_called_title_is_kept_and_made_up_titles_are_not():
    def f(city: City): ...

    assert list(Tool.of(f).parameters["$defs"]["City"]["properties"]) == ["title", "near"]
    assert '"title": "' not in json.dumps(Tool.of(f).parameters)


def test_a_field_as_default_describes_the_argument_and_fills_it_in():
    def f(city: str = Field("Ulm", description="a name"), n: int = Field(gt=0)):
        return city, n

    tool = Tool.of(f)
    assert tool.parameters["properties"]["city"] == {"type": "string", "default": "Ulm", "description": "a name"}
    assert tool.parameters["required"] == ["n"]
    positional, named = tool.read({"n": 2})
    assert f(*positional, **named) == ("Ulm", 2)
    with pytest.raises(ArgumentError, match="greater than 0"):
        tool.read({"n": 0})


def test_arguments_without_annotation_are_what_default_or_docstring_make_them():
    def f(a, b=3, c=None, d=True):
        """F.

        Args:
            a (int): first
        """

    assert properties(f) == {
        "a": {"type": "integer", "description": "first"},
        "b": {"type": "integer", "default": 3},
        "c": {},
        "d": {"type": "boolean", "default": True},
    }


def test_a_default_that_json_cannot_hold_is_left_to_the_function():
    marker = object()

    def f(x: Any = marker, y: float = float("nan")):
        return x is marker

    assert "default" not in properties(f)["x"]
    assert "default" not in properties(f)["y"]
    assert Tool.of(f).read({}) == ([], {})


# -- what can be a tool -----------------------------------------------------------------------


class Shop:
    """A shop."""

    def price(self, item: str) -> float:
        """Price of an item."""
        return 1.0 * len(item)

    @staticmethod
    def rate(currency: str) -> float: ...

    @classmethod
    def open(cls, day: str) -> bool: ...

    def __call__(self, item: str) -> int:
        """Buy an item."""

    async def later(self, item: str) -> int: ...


def test_methods_partials_and_objects_are_tools():
    shop = Shop()

    def search(index: dict, query: str, limit: int = 3):
        """Search."""

    bound = functools.partial(search, {}, limit=5)
    tools = [Tool.of(f) for f in (shop.price, Shop.rate, Shop.open, shop, shop.later, bound)]
    assert [(t.name, list(t.arguments), t.is_async) for t in tools] == [
        ("price", ["item"], False),
        ("rate", ["currency"], False),
        ("open", ["day"], False),
        ("Shop", ["item"], False),
        ("later", ["item"], True),
        ("search", ["query"], False),
    ]
    assert [t.description for t in (tools[0], tools[3], tools[5])] == ["Price of an item.", "Buy an item.", "Search."]


def test_async_functions_are_told_from_others_through_a_partial():
    async def fetch(url: str): ...

    assert Tool.of(functools.partial(fetch)).is_async
    assert Tool.of(fetch).is_async


def test_a_decorated_function_is_what_it_wraps():
    def inner(city: str) -> str:
        """Weather."""

    @functools.wraps(inner)
    def outer(*args, **kwargs):
        return inner(*args, **kwargs)

    tool = Tool.of(outer)
    assert (tool.name, list(tool.arguments), tool.description) == ("inner", ["city"], "Weather.")


def test_arguments_by_position_alone_are_given_by_position():
    def f(a: int, b: int = 2, /, c: int = 3):
        return a, b, c

    tool = Tool.of(f)
    for sent, result in (({"a": 1}, (1, 2, 3)), ({"a": 1, "b": 5, "c": 6}, (1, 5, 6)), ({"a": 1, "c": 4}, (1, 2, 4))):
        positional, named = tool.read(sent)
        assert f(*positional, **named) == result


def test_the_name_and_the_description_can_be_given():
    tool = Tool.of(lambda city: city, name="echo", description="Says it again.")
    assert tool.to_chat()["function"]["name"] == "echo"
    assert tool.to_chat()["function"]["description"] == "Says it again."


def variadic(*words: str): ...
def keywords(**options: int): ...
def generator(n: int):
    yield n


async def stream(n: int):
    yield n


def größe(x: int): ...
def undefined(x: "Nowhere"): ...  # noqa: F821
def socket_of(x: type(print)): ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (variadic, r"takes \*words, for which a schema has no form"),
        (keywords, r"takes \*\*options"),
        (generator, "is a generator function; return a list"),
        (stream, "is a generator function"),
        (lambda x: x, "a lambda has no name"),
        (größe, "'größe' is refused by the API"),
        (undefined, "annotations of the tool undefined cannot be resolved.*Nowhere"),
        (socket_of, "argument 'x' of the tool socket_of has no JSON schema"),
        (Shop.price, "is a method without its object; give object.price"),
        (City, "the tool City is a class"),
        (42, r"tools\[0\] is 42 \(int\), expected a function or one of the API's dicts"),
        (print, r"takes \*args"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_the_reason(function, words):
    with pytest.raises(ParameterError, match=words) as raised:
        Toolbox([function])
    assert raised.value.name == "tools"


def test_an_unresolvable_return_type_does_not_matter():
    def f(x: int) -> "Nowhere": ...  # noqa: F821

    assert Tool.of(f).strict


def test_a_long_description_is_cut_to_what_the_api_takes():
    def f(): ...

    f.__doc__ = "x" * 5000
    assert len(Tool.of(f).description) == 1024


# -- strictness -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [dict, dict[str, int], Any, list, tuple[int, str]])
def test_what_strict_mode_cannot_say_is_not_strict(kind):
    def f(x): ...

    f.__annotations__["x"] = kind
    tool = Tool.of(f)
    assert not tool.strict
    assert "strict" not in tool.to_chat()["function"]


def test_a_strict_schema_closes_every_object_and_asks_for_every_property():
    class Cat(BaseModel):
        kind: Literal["cat"]

    class Dog(BaseModel):
        kind: Literal["dog"]
        age: int = 3

    def f(pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]], tags: set[str], where: Point | None): ...

    tool = Tool.of(f)
    assert tool.strict
    text = json.dumps(tool.parameters)
    assert not any(word in text for word in ("oneOf", "discriminator", "default", "uniqueItems"))

    def objects(schema):
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for value in schema.values():
                yield from objects(value)
        if isinstance(schema, list):
            for value in schema:
                yield from objects(value)

    found = list(objects(tool.parameters))
    assert len(found) == 4
    assert all(s["additionalProperties"] is False and s["required"] == list(s["properties"]) for s in found)


def test_a_reference_has_nothing_beside_it_in_a_strict_schema():
    def f(color: Annotated[Color, "of the sky"]): ...

    assert Tool.of(f).parameters["properties"]["color"] == {
        "anyOf": [{"$ref": "#/$defs/Color"}],
        "description": "of the sky",
    }


def test_a_function_without_arguments_is_strict():
    def now() -> str: ...

    assert Tool.of(now).to_chat()["function"]["parameters"] == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


# -- arguments --------------------------------------------------------------------------------


def test_arguments_come_as_what_the_signature_says():
    def f(p: Point, c: Color, city: City, day: dt.date, n: float, tags: set[str]): ...

    sent = {"p": {"x": 1}, "c": "red", "city": {"title": "Ulm"}, "day": "2026-01-02", "n": 1, "tags": ["a", "a"]}
    _, named = Tool.of(f).read(sent)
    assert named == {
        "p": Point(1),
        "c": Color.RED,
        "city": City(title="Ulm"),
        "day": dt.date(2026, 1, 2),
        "n": 1.0,
        "tags": {"a"},
    }


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({}, "the argument 'city' is missing"),
        ({"cty": "Ulm"}, "no argument 'cty'; did you mean 'city'"),
        ({"city": 3}, "city: Input should be a valid string"),
        ({"city": "Ulm", "days": "many"}, "days: Input should be a valid integer"),
        ({"city": "Ulm", "at": {"x": "left"}}, "at: x: Input should be a valid integer"),
    ],
)
def test_broken_arguments_are_explained_to_the_model(sent, words):
    def weather(city: str, days: int = 1, at: Point | None = None): ...

    with pytest.raises(ArgumentError) as raised:
        Tool.of(weather).read(sent)
    assert words in str(raised.value).replace("Point.", "")


@pytest.mark.parametrize("text", ["{", '{"a": NaN}', "[1]", '"x"', "{'a': 1}", "[" * 100_000, "null"])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ArgumentError, match="the arguments are"):
        read_object(text)


def test_half_a_surrogate_pair_in_the_arguments_does_not_break_the_call():
    def f(x: str): ...

    _, named = Tool.of(f).read(read_object('{"x": "\\ud83d"}'))
    assert named == {"x": "\ufffd"}


KINDS = st.sampled_from(
    [int, float, bool, str, list[int], dict[str, str], int | None, Color, Point, Literal["a", 1], City, Span]
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kinds=st.lists(KINDS, min_size=1, max_size=4))
def test_any_value_of_the_signature_survives_the_way_through_json(data, kinds):
    names = [f"a{n}" for n in range(len(kinds))]
    space: dict[str, Any] = {}
    exec(f"def f({', '.join(names)}): return ({', '.join(names)},)", space)
    space["f"].__annotations__ = dict(zip(names, kinds, strict=True))
    tool = Tool.of(space["f"])
    values = [data.draw(_values(kind)) for kind in kinds]
    sent = {n: tool.arguments[n].shape.write(v) for n, v in zip(names, values, strict=True)}
    positional, named = tool.read(read_object(json.dumps(sent)))
    assert space["f"](*positional, **named) == tuple(values)


def _values(kind):
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind is Point:
        return st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))
    if kind is City:
        return st.builds(City, title=text, near=st.lists(st.builds(City, title=text, near=st.just([])), max_size=2))
    if kind is Span:
        return st.fixed_dictionaries({}, optional={"start": st.integers(), "end": st.integers()})
    if kind is str:
        return text
    if kind == dict[str, str]:
        return st.dictionaries(text, text, max_size=3)
    return st.from_type(kind)


def test_a_function_may_use_what_is_made_after_it():
    def rides(station: str) -> str:
        """Rides."""
        return station + later

    tool = Tool.of(rides)
    later = "!"
    assert list(tool.to_chat()["function"]["parameters"]["properties"]) == ["station"]
    assert tool.function("North") == "North!"


# -- toolboxes --------------------------------------------------------------------------------


def test_a_toolbox_holds_functions_and_dicts_side_by_side():
    raw = {"type": "function", "function": {"name": "raw", "parameters": {}}}
    box = Toolbox([Shop().price, raw, {"type": "web_search"}])
    assert [t.get("function", t).get("name") for t in box.to_chat()] == ["price", "raw", None]
    assert box.to_chat()[1] == raw
    assert (box.runs("price"), box.runs("raw"), box.runs("nowhere")) == (True, False, True)
    assert box.missing("prize") == "there is no tool 'prize'; did you mean 'price'? (there are: 'price')"


@pytest.mark.parametrize("other", [Shop().price, {"type": "function", "name": "price"}])
def test_two_tools_of_one_name_are_refused(other):
    with pytest.raises(ParameterError, match="two tools are called 'price'"):
        Toolbox([Shop().price, other])


@pytest.mark.parametrize("given", [Shop().price, "price", {"type": "function"}, 3])
def test_tools_are_a_list(given):
    with pytest.raises(ParameterError, match="expected a list of functions"):
        Toolbox(given)


def test_what_goes_out_is_nobodys_but_the_requests():
    tool = Tool.of(Shop().price)
    tool.to_chat()["function"]["parameters"]["properties"].clear()
    assert list(tool.to_chat()["function"]["parameters"]["properties"]) == ["item"]
