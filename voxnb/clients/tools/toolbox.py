"""The tools of one request: functions and the API's own dicts, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from voxnb.clients.tools.tool import Tool
from voxnb.errors import ParameterError
from voxnb.params import did_you_mean


class Toolbox:
    """What a request's ``tools`` hold.

    Args:
        given: functions, `Tool` values and the API's dicts.

    Raises:
        ParameterError: not a list, a function that cannot be a tool, or two tools of one name.

    Attributes:
        functions: name → the tools that can be run here.
        known: every name there is.
    """

    def __init__(self, given: Sequence[Callable[..., Any] | Tool | Mapping[str, Any]] | None) -> None:
        if given is None:
            given = ()
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Sequence):
            raise ParameterError(
                f"tools is {given!r} ({type(given).__name__}), expected a list of functions (or of the API's dicts)",
                name="tools",
            )
        self._all: list[Tool | Mapping[str, Any]] = []
        self.functions: dict[str, Tool] = {}
        self.known: list[str] = []
        for n, one in enumerate(given):
            if not (callable(one) or isinstance(one, Tool | Mapping)):
                raise ParameterError(
                    f"tools[{n}] is {one!r} ({type(one).__name__}), expected a function or one of the API's dicts",
                    name="tools",
                )
            tool = one if isinstance(one, Tool | Mapping) else Tool.of(one)
            name = tool.name if isinstance(tool, Tool) else name_of_dict(tool)
            if name in self.known and (isinstance(tool, Tool) or name in self.functions):
                raise ParameterError(f"two tools are called {name!r}; a model could not tell them apart", name="tools")
            if name is not None:
                self.known.append(name)
            if isinstance(tool, Tool):
                self.functions[tool.name] = tool
            self._all.append(tool)

    def to_chat(self) -> list[dict[str, Any]]:
        """As Chat Completions take them; dicts as they were given."""
        return [t.to_chat() if isinstance(t, Tool) else dict(t) for t in self._all]

    def to_responses(self) -> list[dict[str, Any]]:
        """As Responses take them; dicts as they were given."""
        return [t.to_responses() if isinstance(t, Tool) else dict(t) for t in self._all]

    def runs(self, name: str) -> bool:
        """Whether a call of this name is answered here: by a function, or by an error where nothing has the name."""
        return name in self.functions or name not in self.known

    def missing(self, name: str) -> str:
        """What a model is told that calls a tool which is not there."""
        there = ", ".join(map(repr, self.functions)) or "none"
        return f"there is no tool {name!r}{did_you_mean(name, self.functions)} (there are: {there})"

    def __bool__(self) -> bool:
        return bool(self._all)

    def __repr__(self) -> str:
        return f"<Toolbox {', '.join(self.known)}>"


def name_of_dict(tool: Mapping[str, Any]) -> str | None:
    """The name in one of the API's dicts, or None for built-in tools.

    >>> name_of_dict({"type": "function", "function": {"name": "f"}}), name_of_dict({"type": "function", "name": "g"})
    ('f', 'g')
    """
    inner = tool.get("function") or tool.get("custom") or tool
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else None
