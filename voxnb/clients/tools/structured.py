"""Answers of a given form: a Python type as ``response_format``, and the value that an answer stands for.

An answer that is not of the form does not raise: its turn is complete and stored, its text is what the model said, and
an exception would throw away both. ``parsed`` is None then and a warning says why. So it is for a refusal and for an
answer that was cut off.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import typing
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any

from voxnb.clients.tools.running import in_thread, told
from voxnb.clients.tools.schema import (
    InvalidValueError,
    LooseSchemaError,
    Schema,
    SchemaError,
    Shape,
    boxed,
    rooted,
    strict,
)
from voxnb.errors import ParameterError

VALUE = "value"
"""The key that holds a value which is no object: a schema's root must be one."""


@dataclass(frozen=True, eq=False)
class Form:
    """The form that an answer shall have; make it with `Form.of`.

    Attributes:
        name: what the API is told it is called.
        schema: JSON schema, an object.
        strict: whether servers can hold a model to the schema; if not, the answer is only checked when it is here.
        wrapped: whether the value stands under the key ``value``.
        shape: of the whole answer.
    """

    name: str
    schema: Schema
    strict: bool
    wrapped: bool
    shape: Shape

    @classmethod
    def of(cls, kind: Any, *, parameter: str = "response_format") -> Form:
        """Make a form of a type.

        Args:
            kind: a pydantic model, dataclass, TypedDict, ``Annotated`` or any other type; of one that is no object
                (``list[City]``, ``int``) the answer holds the value under the key ``value``.
            parameter: for errors.

        Raises:
            ParameterError: no type, or one that has no JSON schema.
        """
        if inspect.isroutine(kind):
            raise _no_form(kind, "it is a function", parameter)
        try:
            shape = Shape(kind)
            schema, wrapped = rooted(shape.schema), False
            if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
                shape = Shape(boxed(kind, key=VALUE))
                schema, wrapped = rooted(shape.schema), True
        except SchemaError as error:
            raise _no_form(kind, str(error), parameter) from error
        try:
            return cls(_name_of(kind), strict(schema), True, wrapped, shape)
        except LooseSchemaError:
            return cls(_name_of(kind), schema, False, wrapped, shape)

    def to_chat(self) -> dict[str, Any]:
        """As ``response_format`` of Chat Completions."""
        return {"type": "json_schema", "json_schema": self._inner()}

    def to_responses(self) -> dict[str, Any]:
        """As ``text.format`` of Responses."""
        return {"type": "json_schema", **self._inner()}

    def _inner(self) -> dict[str, Any]:
        return {"name": self.name, "schema": rooted(self.schema), "strict": self.strict}

    def read(
        self, text: str | None, *, refusal: str | None = None, finish_reason: str | None = None
    ) -> tuple[Any, str]:
        """The value of an answer, and why there is none ("" where there is).

        Args:
            text: the answer.
            refusal: the model's refusal, if it refused.
            finish_reason: how the answer ended.
        """
        if refusal:
            return None, f"parsed is None: the model refused ({refusal})"
        try:
            value = self.shape.read(text or "")
        except InvalidValueError as error:
            if finish_reason in ("length", "max_output_tokens", "content_filter", "cancelled"):
                return None, f"parsed is None: the answer was cut off ({finish_reason}) before it was a {self.name}"
            return None, f"parsed is None: the answer is no {self.name} ({error})"
        except Exception as error:  # noqa: BLE001 - a validator is user code
            return None, f"parsed is None: reading the answer as {self.name} failed with {told(error)}"
        return (getattr(value, VALUE) if self.wrapped else value), ""

    def __repr__(self) -> str:
        return f"<Form {self.name}{' strict' if self.strict else ''}>"


def _no_form(kind: Any, reason: str, parameter: str) -> ParameterError:
    return ParameterError(
        f"{parameter} is {kind!r}, which has no JSON schema ({reason}); give a pydantic model, a dataclass or the API's "
        "dict",
        name=parameter,
    )


def is_form(value: Any) -> bool:
    """Whether a ``response_format`` is a type, not the API's dict.

    >>> is_form({"type": "json_object"}), is_form(list[int]), is_form(None)
    (False, True, False)
    """
    return value is not None and not isinstance(value, Mapping | str | bytes)


def _name_of(kind: Any) -> str:
    """A name that the API takes: ``Box[int]`` is called ``Box_int``."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    name = None if typing.get_origin(kind) else getattr(kind, "__name__", None)
    text = name or re.sub(r"[\w.]+\.(?=\w)", "", str(kind))
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", text).strip("_")[:64] or "Answer"


async def read_form(
    form: Form | None, message: Mapping[str, Any], *, finish_reason: str | None, context: Context, timeout_s: float
) -> tuple[Any, list[str]]:
    """`Form.read` off the background loop, since a type's validators are user code.

    Returns:
        The value, and warnings.
    """
    if form is None:
        return None, []
    text, refusal = message.get("content"), message.get("refusal")
    work = partial(form.read, text, refusal=refusal, finish_reason=finish_reason)
    waiter = asyncio.wrap_future(in_thread(work, context=context.copy(), name="voxnb-form"))
    if not (await asyncio.wait({waiter}, timeout=timeout_s))[0]:
        return None, [f"parsed is None: reading the answer as {form.name} did not end within {timeout_s:g} s"]
    value, reason = waiter.result()
    return value, [reason] if reason else []
