"""What a request may hold, checked before anything is stored or sent; what a question is; the instruction for summaries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

from voxnb.errors import ParameterError
from voxnb.memory.summary import prompt_warnings
from voxnb.messages import Message, canonical, parse_message
from voxnb.params import DEFAULT_SUMMARY_PROMPT

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "model": (str,),
    "tools": (list, tuple),
    "functions": (list, tuple),
    "stream_options": (Mapping,),
    "response_format": (Mapping,),
    "text": (Mapping,),
    "metadata": (Mapping,),
}
"""Parts of a body that voxnb itself reads; of the rest the server decides."""

_WORDS: Final[Mapping[Any, str]] = {str: "a str", list: "a list of dicts", Mapping: "a dict"}

_NOT_BODY: Final[Mapping[str, str]] = {
    "extra_headers": "give the client openai_client=AsyncOpenAI(default_headers=…), whose headers it takes over",
    "extra_query": "give the client openai_client=AsyncOpenAI(default_query=…), whose query it takes over",
    "timeout": "give the client timeout_s=…, and .result(timeout_s) for the longest wait",
}
"""What the openai package takes beside a request's body → what to use here."""


class SummaryPrompt:
    """The instruction for summaries: literal text, or a saved prompt with its name and version."""

    def __init__(self, given: Any) -> None:
        self.text: str = DEFAULT_SUMMARY_PROMPT if given is None else str(getattr(given, "text", given))
        self.name: str | None = getattr(given, "name", None)
        self.version: int | None = getattr(given, "version", None)
        if not self.text.strip():
            raise ParameterError(
                "summary_prompt is empty; leave it out for the documented default", name="summary_prompt"
            )
        check_json({"summary_prompt": self.text})
        for text in prompt_warnings(self.text):
            warnings.warn(text, stacklevel=5)


def as_body(given: Mapping[str, Any]) -> dict[str, Any]:
    """A request in the openai package's spelling as a body: ``extra_body`` goes into it and wins.

    Raises:
        ParameterError: what is no part of a body, with what to use instead; an ``extra_body`` that is no dict.

    >>> as_body({"model": "m", "extra_body": {"top_k": 5}})
    {'model': 'm', 'top_k': 5}
    """
    body = dict(given)
    extra = body.pop("extra_body", None)
    for name, instead in _NOT_BODY.items():
        if body.get(name) is not None:
            raise ParameterError(f"{name} is no part of a request here; {instead}", name=name)
        body.pop(name, None)
    if not isinstance(extra, Mapping | None):
        raise ParameterError(f"extra_body is {extra!r} ({type(extra).__name__}), expected a dict", name="extra_body")
    return {**body, **(extra or {})}


def as_request(parameters: Any, given: Mapping[str, Any], *, call: str, says: str) -> dict[str, Any]:
    """What a method was given, as one dict and as keywords, as a body.

    Args:
        parameters: the dict, or None.
        given: the keywords, which win.
        call: name of the method.
        says: the key of the body that takes what is said.

    Raises:
        ParameterError: ``parameters`` is no dict: what to write instead; see `as_body`.
    """
    if not isinstance(parameters, Mapping | None):
        raise ParameterError(
            f"{call}() takes a dict or keywords, got {parameters!r:.60} ({type(parameters).__name__}); write "
            f"{call}({says}=[…]), or ask('…') to say one thing",
            name=says,
        )
    return as_body({**(parameters or {}), **given})


def check_body(body: Mapping[str, Any]) -> None:
    """A request of the wrong kind, or that JSON has no form for, fails before anything is stored.

    Raises:
        ParameterError: a part that voxnb reads is of another type than the API's; or NaN, bytes, an object.
    """
    for name, kinds in _KINDS.items():
        value = body.get(name)
        if value is not None and not isinstance(value, kinds):
            raise ParameterError(
                f"{name} is {value!r} ({type(value).__name__}), expected {_WORDS[kinds[0]]}", name=name
            )
    for name in ("tools", "functions"):
        for n, tool in enumerate(body.get(name) or ()):
            if not isinstance(tool, Mapping):
                raise ParameterError(f"{name}[{n}] is {tool!r} ({type(tool).__name__}), expected a dict", name=name)
    check_json(body)


def check_json(body: Mapping[str, Any]) -> None:
    """See `check_body`.

    Raises:
        ParameterError: NaN, bytes, an object of some class, text that is not Unicode.
    """
    for name, value in body.items():
        try:
            canonical(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError(
                f"{name} cannot be written as JSON ({error}); give text, finite numbers, lists and dicts", name=name
            ) from error


def question(
    text: str | None, attach: Any, given: Mapping[str, Any], *, render: Callable[[Any], list[dict[str, Any]]], call: str
) -> Message:
    """What `ask` says, with what goes with it, as a message.

    Args:
        text: what the user says.
        attach: as `ask` takes it.
        given: the rest of the request.
        render: what is attached → parts of a message.
        call: name of the method that takes messages.

    Raises:
        ParameterError: the request has messages of its own.
        MessageError: neither text nor attachment.
    """
    for name in ("messages", "input"):
        if given.get(name) is not None:
            raise ParameterError(
                f"ask() says one thing, {name}= belongs to {call}(…); give the text first: ask('…')", name=name
            )
    content: Any = text
    if attach is not None and not (isinstance(attach, list | tuple) and not attach):
        content = [*([{"type": "text", "text": text}] if text is not None else []), *render(attach)]
    return parse_message({"role": "user", "content": content})
