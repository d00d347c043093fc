"""A Python function as a tool: its name, its schema, and its arguments read from what a model sends."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any, Final

from voxnb.clients.tools.docstring import Described, read_docstring
from voxnb.clients.tools.schema import (
    InvalidValueError,
    LooseSchemaError,
    Schema,
    SchemaError,
    Shape,
    field_of,
    schemas_of,
    strict,
)
from voxnb.errors import ParameterError
from voxnb.params import did_you_mean
from voxnb.wire.unicode import whole_unicode

NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Names that the API takes."""

MOST_DESCRIPTION: Final = 1024
"""Characters of a description; the API refuses longer ones."""

_WORDS: Final[Mapping[str, Any]] = {
    "str": str, "string": str, "int": int, "integer": int, "float": float, "number": float, "bool": bool,
    "boolean": bool, "list": list, "dict": dict,
}  # fmt: skip
_EMPTY: Final = inspect.Parameter.empty


class ArgumentError(Exception):
    """Arguments that do not fit the function; the text is for the model."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a tool.

    Attributes:
        name: as in the signature.
        shape: its type.
        required: whether a call must give it.
        by_position: whether it can only be given by position.
        default: what to give where the call does not and the signature has none to fall back on, in a tuple.
        shown: the signature's default as JSON, in a tuple, for the schema.
        note: what is said of it beside its type.
    """

    name: str
    shape: Shape
    required: bool
    by_position: bool = False
    default: tuple[Any] | None = None
    shown: tuple[Any] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that a model may call; make it with `Tool.of`.

    Attributes:
        name: by which the model calls it.
        description: what the model is told of it.
        parameters: JSON schema of the arguments, an object.
        strict: whether servers can hold the model to that schema: every argument must be given, and strict mode can
            express all of them.
        function: what is called.
        arguments: by name, in order.
        is_async: whether it runs on an event loop instead of in a thread of its own.
    """

    name: str
    description: str
    parameters: Schema
    strict: bool
    function: Callable[..., Any]
    arguments: Mapping[str, Argument]
    is_async: bool

    @classmethod
    def of(cls, function: Callable[..., Any], *, name: str | None = None, description: str | None = None) -> Tool:
        """Make a tool of a function, from its signature and its docstring.

        Args:
            function: a function, method, partial or object that can be called, sync or async. Every argument has a
                name; a type annotation makes the schema (none: the type of the default, else anything).
            name: instead of the function's own.
            description: instead of the docstring's text before its first section.

        Raises:
            ParameterError: it cannot be a tool; the message says why.

        >>> def weather(city: str, days: int = 1) -> str:
        ...     '''Weather of a city.
        ...
        ...     Args:
        ...         city: its name.
        ...     '''
        >>> Tool.of(weather).parameters["properties"]
        {'city': {'type': 'string', 'description': 'its name.'}, 'days': {'type': 'integer', 'default': 1}}
        """
        plain = _checked(function)
        own = name or _name_of(function, plain)
        if not NAME.fullmatch(own):
            raise _bad(
                f"the tool name {own!r} is refused by the API, which takes 1 to 64 letters, digits, _ and -; "
                "rename the function, or give voxnb.clients.tools.Tool.of(function, name=…)"
            )
        doc = read_docstring(inspect.getdoc(plain) if plain is not None else None)
        arguments = _arguments(function, plain, own, doc)
        parameters = _parameters(arguments)
        is_strict = all(a.required for a in arguments.values())
        if is_strict:
            try:
                parameters = strict(parameters)
            except LooseSchemaError:
                is_strict = False
        said = doc.text if description is None else description
        return cls(own, _shortened(said), parameters, is_strict, function, arguments, _is_async(function))

    def to_chat(self) -> dict[str, Any]:
        """As Chat Completions take it."""
        function = {**self._head(), "parameters": json.loads(json.dumps(self.parameters))}
        return {"type": "function", "function": {**function, "strict": True} if self.strict else function}

    def to_responses(self) -> dict[str, Any]:
        """As Responses take it, where leaving ``strict`` out means True."""
        return {
            "type": "function",
            **self._head(),
            "parameters": json.loads(json.dumps(self.parameters)),
            "strict": self.strict,
        }

    def _head(self) -> dict[str, Any]:
        return {"name": self.name, **({"description": self.description} if self.description else {})}

    def read(self, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call, as the function takes them: positional ones and the others.

        Args:
            given: the decoded arguments.

        Raises:
            ArgumentError: unknown, missing or of another type.
        """
        wrong = [
            f"there is no argument {name!r}{did_you_mean(name, self.arguments)}"
            for name in given
            if name not in self.arguments
        ]
        positional: list[Any] = []
        named: dict[str, Any] = {}
        skipped = False
        for name, argument in self.arguments.items():
            if name in given:
                try:
                    value = argument.shape.read(json.dumps(given[name]))
                except InvalidValueError as error:
                    wrong.append(f"{name}: {error}")
                    continue
            elif argument.default is not None:
                (value,) = argument.default
            else:
                if argument.required:
                    wrong.append(f"the argument {name!r} is missing")
                elif argument.by_position:
                    skipped = True
                continue
            if not argument.by_position:
                named[name] = value
            elif skipped:
                wrong.append(f"{name} can only be given together with the arguments before it")
            else:
                positional.append(value)
        if wrong:
            raise ArgumentError("; ".join(wrong))
        return positional, named

    def __repr__(self) -> str:
        return f"<Tool {self.name}({', '.join(self.arguments)}){' strict' if self.strict else ''}>"


def read_object(text: str) -> dict[str, Any]:
    r"""The arguments that a model sent, decoded; nothing at all stands for none.

    Raises:
        ArgumentError: no JSON, or no object.

    >>> read_object('{"city": "Ulm"}'), read_object("")
    ({'city': 'Ulm'}, {})
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"the arguments are no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ArgumentError(f"the arguments are {type(value).__name__} in JSON, expected an object")
    return typing.cast("dict[str, Any]", whole_unicode(value))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# -- what a function is -----------------------------------------------------------------------


def _bad(message: str) -> ParameterError:
    return ParameterError(message, name="tools")


def _checked(function: Any) -> Any:
    """The plain function whose annotations and docstring count.

    Raises:
        ParameterError: nothing that can be a tool.
    """
    if isinstance(function, type):
        raise _bad(
            f"the tool {function.__name__} is a class; give a function that makes one, or response_format="
            f"{function.__name__} for an answer of that form"
        )
    if not callable(function):
        raise _bad(f"a tool is {function!r}, which cannot be called; give a function")
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not (inspect.isroutine(plain) or isinstance(plain, functools.partial)):
        plain = type(plain).__call__
    plain = plain.__func__ if isinstance(plain, MethodType) else plain
    plain = inspect.unwrap(plain)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise _bad(f"the tool {_shown(function)} is a generator function; return a list instead of yielding")
    return plain


def _name_of(function: Any, plain: Any) -> str:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__name__", None) or type(inner).__name__
    if name == "<lambda>" or getattr(plain, "__name__", "") == "<lambda>":
        raise _bad("a lambda has no name to call it by; use def, or voxnb.clients.tools.Tool.of(function, name=…)")
    return str(name)


def _shown(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_DESCRIPTION else text[: MOST_DESCRIPTION - 1] + "…"


def _signature(function: Any, name: str) -> dict[str, inspect.Parameter]:
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise _bad(f"the tool {name} has no signature that Python can read; wrap it in a def") from error
    for known in parameters.values():
        if known.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            stars = "*" if known.kind is inspect.Parameter.VAR_POSITIONAL else "**"
            raise _bad(
                f"the tool {name} takes {stars}{known.name}, for which a schema has no form; name its arguments "
                "(a list or a dict may be one of them)"
            )
    if isinstance(function, functools.partial):  # what is bound already is not the model's to give
        parameters = {k: v for k, v in parameters.items() if k not in function.keywords}
    first = next(iter(parameters), None)
    in_class = "." in getattr(function, "__qualname__", "").rpartition("<locals>.")[2]
    if first in ("self", "cls") and inspect.isfunction(function) and in_class:
        raise _bad(f"the tool {_shown(function)} is a method without its object; give object.{name}")
    return parameters


def _hints(plain: Any, parameters: Mapping[str, inspect.Parameter], name: str) -> dict[str, Any]:
    """The annotations of the arguments, with names resolved."""

    def shim() -> None:
        """Carries annotations alone: one of the return value that cannot be resolved must not matter."""

    shim.__annotations__ = {k: p.annotation for k, p in parameters.items() if p.annotation is not _EMPTY}
    space = getattr(plain, "__globals__", {})
    try:
        return typing.get_type_hints(shim, globalns=space, localns=_closed_over(plain) or None, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise _bad(
            f"the annotations of the tool {name} cannot be resolved ({error}); define their types where the function's "
            "module (or the notebook) sees them"
        ) from error


def _closed_over(plain: Any) -> dict[str, Any]:
    """What a function sees of those around it; a name that is assigned after it was made is not there yet."""
    cells = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=False) if inspect.isfunction(plain) else ()
    known: dict[str, Any] = {}
    for name, cell in cells:
        with contextlib.suppress(ValueError):
            known[name] = cell.cell_contents
    return known


def _arguments(function: Any, plain: Any, name: str, doc: Described) -> dict[str, Argument]:
    parameters = _signature(function, name)
    hints = _hints(plain, parameters, name)
    out: dict[str, Argument] = {}
    for key, known in parameters.items():
        default, shown = known.default, None
        kind = hints.get(key, _EMPTY)
        if kind is _EMPTY:
            kind = _guessed(default, doc.types.get(key, ""))
        if field_of(default) is not None:  # city: str = Field("Ulm", description="…")
            kind, default = typing.Annotated[kind, default], _EMPTY
        try:
            shape = Shape(kind)
        except SchemaError as error:
            raise _bad(
                f"the argument {key!r} of the tool {name} has no JSON schema ({error}); use text, numbers, lists, "
                "dicts, dataclasses, TypedDicts, enums or pydantic models"
            ) from error
        supplied = shape.default if default is _EMPTY else None
        if default is not _EMPTY and default is not None:
            shown = _as_json(shape, default)
        out[key] = Argument(
            name=key,
            shape=shape,
            required=default is _EMPTY and supplied is None,
            by_position=known.kind is inspect.Parameter.POSITIONAL_ONLY,
            default=supplied,
            shown=shown,
            note=_note(kind) or doc.arguments.get(key, ""),
        )
    return out


def _guessed(default: Any, words: str) -> Any:
    """The type of an argument without annotation: its default's, or what the docstring calls it, else anything."""
    found = _WORDS.get(words.partition(",")[0].strip())
    if found is None and type(default) in (str, int, float, bool):
        found = type(default)
    return Any if found is None else found


def _as_json(shape: Shape, default: Any) -> tuple[Any] | None:
    """The default as JSON, in a tuple, or None where JSON has no form for it."""
    try:
        value = shape.write(default)
        json.dumps(value, allow_nan=False)
    except Exception:  # noqa: BLE001 - a default of another type is the function's own business
        return None
    return (value,)


def _note(kind: Any) -> str:
    """What ``Annotated[…, "text"]`` (or PEP 727's ``Doc``) says of an argument."""
    for said in getattr(kind, "__metadata__", ()):
        text = said if isinstance(said, str) else getattr(said, "documentation", None)
        if isinstance(text, str):
            return text
    return ""


def _parameters(arguments: Mapping[str, Argument]) -> Schema:
    made, shared = schemas_of({name: a.shape for name, a in arguments.items()})
    properties: dict[str, Schema] = {}
    for name, argument in arguments.items():
        schema = properties[name] = made[name]
        if argument.note:
            schema.setdefault("description", argument.note)
        if argument.shown is not None:
            (schema["default"],) = argument.shown
    out: Schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name, a in arguments.items() if a.required],
        "additionalProperties": False,
    }
    return {**out, "$defs": shared} if shared else out
