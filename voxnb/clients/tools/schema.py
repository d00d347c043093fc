"""Python types as JSON schemas and JSON as their values: the one door to pydantic, which is imported on use.

Rule 1: a schema says no more than the type: titles that pydantic makes up of names are left out.
Rule 2: *strict* is what OpenAI's servers can hold a model to: every object closed, every property required. What that
cannot say (a dict with free keys, a tuple, "anything") makes a schema loose, never wrong: `LooseSchemaError` says where.
What it may not say though it is true (a pattern with a look-ahead, unique items) is left out, and checked on arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from voxnb.runtime.packages import import_apart

Schema = dict[str, Any]

MOST_ERRORS: Final = 5
"""Broken places that are named at once."""

_MAPS: Final = ("properties", "$defs", "patternProperties", "dependentSchemas")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames")

_UNSAID: Final = (
    "default", "discriminator", "examples", "deprecated", "readOnly", "writeOnly", "uniqueItems", "minLength", "maxLength",
    "minProperties", "maxProperties", "contentEncoding", "contentMediaType", "contentSchema", "$comment",
)  # fmt: skip
"""Keywords that a strict schema may not hold and that change nothing when they are checked on arrival."""

_LOOSE: Final = ("patternProperties", "prefixItems", "not", "if", "dependentSchemas", "contains", "propertyNames")
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)  # fmt: skip


class SchemaError(Exception):
    """A type that has no JSON schema."""


class LooseSchemaError(Exception):
    """A schema that strict mode cannot express."""


class InvalidValueError(Exception):
    """JSON that is not of the type; the text says where and why."""


class Shape:
    """A type, as something that JSON is checked against.

    Args:
        kind: any type that pydantic knows: builtins, dataclasses, TypedDicts, enums, models, ``Annotated`` …

    Raises:
        SchemaError: it is none of them.
    """

    def __init__(self, kind: Any) -> None:
        import_apart("pydantic")
        import pydantic

        try:
            self.adapter = pydantic.TypeAdapter(kind)
            self.schema: Schema = tidy(self.adapter.json_schema())
        except (pydantic.PydanticUserError, TypeError, NameError, RecursionError) as error:
            raise SchemaError(_first_sentence(error)) from error

    def read(self, text: str) -> Any:
        """The value that a JSON text stands for.

        Raises:
            InvalidValueError: it is not of the type.
        """
        import pydantic

        try:
            return self.adapter.validate_json(text)
        except pydantic.ValidationError as error:
            raise InvalidValueError(explain(error)) from error

    def write(self, value: Any) -> Any:
        """A value of the type as JSON knows it."""
        return self.adapter.dump_python(value, mode="json", warnings=False)

    @property
    def default(self) -> tuple[Any] | None:
        """The default that the type itself carries (``Annotated[int, Field(default=3)]``), in a tuple."""
        found = self.adapter.get_default_value()
        return None if found is None else (found.value,)


def schemas_of(shapes: Mapping[str, Shape]) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """The schemas of several types, and the definitions that they share."""
    import pydantic

    made, shared = pydantic.TypeAdapter.json_schemas(
        [(name, "validation", shape.adapter) for name, shape in shapes.items()]
    )
    return {name: tidy(made[name, "validation"]) for name in shapes}, tidy(shared).get("$defs", {})


def field_of(value: Any) -> Any:
    """The value if it is a pydantic ``Field(…)``, else None."""
    if type(value).__module__.partition(".")[0] != "pydantic":
        return None
    from pydantic.fields import FieldInfo

    return value if isinstance(value, FieldInfo) else None


def explain(error: Any) -> str:
    """A pydantic ``ValidationError`` in one line: where, and what is wrong there."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else str(e["msg"]) for e in found[:MOST_ERRORS]]
    more = f" (and {len(found) - MOST_ERRORS} more)" if len(found) > MOST_ERRORS else ""
    return "; ".join(said) + more


def _first_sentence(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0].strip()


# -- schemas as plain dicts -------------------------------------------------------------------


def _inner(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every schema directly inside of one, and where it is."""
    for key in _MAPS:
        held = schema.get(key)
        if isinstance(held, dict):
            for name in list(held):
                if isinstance(held[name], dict):
                    yield f"{key}.{name}", held[name]
    for key in _LISTS:
        held = schema.get(key)
        if isinstance(held, list):
            for n, item in enumerate(held):
                if isinstance(item, dict):
                    yield f"{key}.{n}", item
    for key in _SINGLE:
        held = schema.get(key)
        if isinstance(held, dict):
            yield key, held


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def tidy(schema: Mapping[str, Any]) -> Schema:
    """A copy without the titles.

    >>> tidy({"title": "Box", "type": "object", "properties": {"title": {"title": "Title", "type": "string"}}})
    {'type': 'object', 'properties': {'title': {'type': 'string'}}}
    """
    out: Schema = _copied(dict(schema))

    def clean(one: Schema) -> None:
        if isinstance(one.get("title"), str):
            del one["title"]
        for _, inner in _inner(one):
            clean(inner)

    clean(out)
    return out


def strict(schema: Mapping[str, Any]) -> Schema:
    """A copy that strict mode takes.

    Raises:
        LooseSchemaError: there is none.

    >>> strict({"type": "object", "properties": {"a": {"type": "integer", "default": 1}}})
    {'type': 'object', 'properties': {'a': {'type': 'integer'}}, 'additionalProperties': False, 'required': ['a']}
    """
    out: Schema = _copied(dict(schema))
    _tighten(out, "")
    return out


def _tighten(schema: Schema, where: str) -> None:
    here = where or "the whole"
    for key in _LOOSE:
        if key in schema:
            raise LooseSchemaError(f"{here} uses {key!r}")
    if "oneOf" in schema:
        schema["anyOf"] = schema.pop("oneOf")
    if "allOf" in schema:
        only, *others = schema.pop("allOf")
        if others:
            raise LooseSchemaError(f"{here} must be of several types at once")
        schema.update({**only, **schema})
    _leave_out(schema)
    if "$ref" in schema and len(schema) > 1 + ("$defs" in schema):  # a reference may have nothing beside it
        schema["anyOf"] = [{"$ref": schema.pop("$ref")}]
    _close(schema, here)
    for at, inner in _inner(schema):
        _tighten(inner, f"{where}.{at}" if where else at)


def _leave_out(schema: Schema) -> None:
    """What strict mode does not take and what is checked on arrival anyway."""
    for key in _UNSAID:
        schema.pop(key, None)
    if schema.get("format", "date") not in _FORMATS:
        del schema["format"]
    if "(?" in str(schema.get("pattern", "")):
        del schema["pattern"]


def _close(schema: Schema, here: str) -> None:
    """Close an object, or find that the schema leaves something open."""
    if schema.get("type") == "object":
        if not isinstance(schema.get("properties"), dict) or schema.get("additionalProperties") not in (None, False):
            raise LooseSchemaError(f"{here} is an object with free keys")
        schema["additionalProperties"] = False
        schema["required"] = list(schema["properties"])
    elif schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        raise LooseSchemaError(f"{here} is a list of anything")
    elif not any(key in schema for key in ("type", "anyOf", "$ref", "enum", "const")):
        raise LooseSchemaError(f"{here} may be anything")


def rooted(schema: Mapping[str, Any]) -> Schema:
    """A copy whose root is no reference: a type that holds itself is defined once and named at the root."""
    out: Schema = _copied(dict(schema))
    if "$ref" in out:
        name = str(out.pop("$ref")).removeprefix("#/$defs/")
        out = {**_copied(out["$defs"][name]), **out}
    return out


def boxed(kind: Any, *, key: str) -> Any:
    """A model with one field of a type."""
    import_apart("pydantic")
    import pydantic

    fields: dict[str, Any] = {key: (kind, ...)}
    return pydantic.create_model("Answer", **fields)
