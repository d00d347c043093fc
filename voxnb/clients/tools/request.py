"""What a request may hold beyond the API's body: functions, the wish to run them, and a type for the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from voxnb.clients.tools.structured import Form, is_form
from voxnb.clients.tools.toolbox import Toolbox
from voxnb.errors import ParameterError
from voxnb.messages import canonical
from voxnb.params import ChatParameters, camel_case
from voxnb.runtime.hiding import bare_tool, is_bare

MOST_REMEMBERED: Final = 64
"""Tool sets and forms that a client knows again by their schemas; the oldest goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """The part of a request that stays here.

    Attributes:
        toolbox: its tools.
        run: whether the functions among them are run.
        max_rounds: replies whose calls are run.
        timeout_s: how long a tool may take.
        form: the type of the answer, or None.
    """

    toolbox: Toolbox
    run: bool = False
    max_rounds: int = 8
    timeout_s: float = 60.0
    form: Form | None = None


class ExtrasDesk:
    """Takes a client's requests apart, with its parameters as defaults.

    What a request held is remembered by what of it is stored (schemas, and remote tools without their credentials), so
    that asking a turn again runs the same functions and is let in by the same servers.

    Raises:
        ParameterError: see `Toolbox`.
    """

    def __init__(self, parameters: ChatParameters, *, api: str) -> None:
        p = parameters
        self._api = api
        self._defaults = Extras(
            toolbox=Toolbox(p.tools), run=p.run_tools, max_rounds=p.max_tool_rounds, timeout_s=p.tool_timeout_s
        )
        self._known: dict[str, Extras] = {}
        if p.tools:
            self._remember({"tools": self._wire(self._defaults.toolbox)}, self._defaults)

    def take(self, body: dict[str, Any], *, again: bool = False) -> Extras:
        """Take what stays here out of a body, and put in its place what the API takes.

        Args:
            body: changed in place.
            again: it is a stored request, which holds schemas alone and no credentials.

        Raises:
            ParameterError: a function that cannot be a tool, a type without a schema, a setting out of range; a stored
                request whose credentials this client has not seen.
        """
        if again:
            return self._again(body)
        default = self._defaults
        told = _own(body, "run_tools")
        rounds = _checked("max_tool_rounds", _own(body, "max_tool_rounds"), default.max_rounds, whole=True)
        timeout_s = _checked("tool_timeout_s", _own(body, "tool_timeout_s"), default.timeout_s, whole=False)
        toolbox = Toolbox(body["tools"]) if "tools" in body else default.toolbox
        if told is not None and not isinstance(told, bool):
            raise ParameterError(f"run_tools is {told!r}, expected True or False", name="run_tools")
        if told and not toolbox.functions:
            raise ParameterError(
                "run_tools=True and no function is among the tools; give functions, whose calls can be run",
                name="run_tools",
            )
        if toolbox:
            body["tools"] = self._wire(toolbox)
        elif "tools" in body:
            del body["tools"]  # the API refuses an empty list
        run = bool(default.run if told is None else told) and bool(toolbox.functions)
        extras = Extras(toolbox=toolbox, run=run, max_rounds=int(rounds), timeout_s=timeout_s, form=self._form(body))
        if toolbox.functions or extras.form is not None or _bare_tools(body) != body.get("tools"):
            self._remember(body, extras)
        return extras

    def _again(self, body: dict[str, Any]) -> Extras:
        known = self._known.get(_key(body))
        if known is not None and known.toolbox:
            body["tools"] = self._wire(known.toolbox)
        elif bare := [tool for tool in body.get("tools") or () if is_bare(tool)]:
            name = bare[0].get("server_label", bare[0]["type"])
            raise ParameterError(
                f"the tool {name!r} had credentials, which are not stored; ask again with tools=[…]", name="tools"
            )
        return known or Extras(toolbox=Toolbox(()))

    def _wire(self, toolbox: Toolbox) -> list[dict[str, Any]]:
        return toolbox.to_chat() if self._api == "chat" else toolbox.to_responses()

    def _form(self, body: dict[str, Any]) -> Form | None:
        """The type of the answer, if one is given; its schema takes its place."""
        for name in ("response_format", "text_format"):
            kind = _own(body, name) if name == "text_format" else body.get(name)
            if not is_form(kind):
                if name == "text_format" and kind is not None:
                    raise ParameterError(f"text_format is {kind!r}, expected a type", name=name)
                continue
            form = Form.of(kind, parameter=name)
            body.pop(name, None)
            if self._api == "chat":
                body["response_format"] = form.to_chat()
            else:
                body["text"] = {**(body.get("text") or {}), "format": form.to_responses()}
            return form
        return None

    def _remember(self, body: Mapping[str, Any], extras: Extras) -> None:
        try:
            key = _key(body)
        except (TypeError, ValueError, RecursionError):
            return  # a dict that JSON has no form for, which is refused in a moment
        self._known.pop(key, None)
        self._known[key] = extras
        while len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]


def _key(body: Mapping[str, Any]) -> str:
    text = body.get("text")
    form = text.get("format") if isinstance(text, Mapping) else body.get("response_format")
    return canonical([_bare_tools(body), form])


def _bare_tools(body: Mapping[str, Any]) -> list[Any] | None:
    tools = body.get("tools")
    return None if tools is None else [bare_tool(tool) for tool in tools]


def _own(body: dict[str, Any], name: str) -> Any:
    """Take a setting out of a body, in either spelling."""
    values = [body.pop(key) for key in (name, camel_case(name)) if key in body]
    return values[0] if values else None


def _checked(name: str, given: Any, default: float, *, whole: bool) -> float:
    """A number above zero."""
    if given is None:
        return default
    kinds = int if whole else (int, float)
    if isinstance(given, bool) or not isinstance(given, kinds) or not given > 0:
        what = "a whole number, 1 or more" if whole else "seconds above 0"
        raise ParameterError(f"{name} is {given!r}, expected {what}", name=name)
    return float(given)
