"""`Tab`: one part of a widget, on the kernel's side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Verb: TypeAlias = Callable[[Mapping[str, Any], Sequence[bytes]], Any]


class Tab:
    """What a tab shows, and what can be done in it.

    Attributes:
        name: of the section in a patch, and of the tab.
        verbs: name → what it does; it gets the page's message and buffers, and its value is the answer.
    """

    name: str
    verbs: Mapping[str, Verb]

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """What is new since the last call, or with ``full`` all of it; None for nothing."""
        raise NotImplementedError

    def is_live(self) -> bool:
        """Whether numbers in it change by themselves."""
        return False

    def close(self) -> None:
        """The widget ends; a second call does nothing."""


class Sent:
    """What the pages have, by key: so that only what changed is sent again."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def news(self, items: Mapping[str, Any], *, full: bool) -> dict[str, Any]:
        """Those of the items that are new or differ; what is no longer among them is forgotten."""
        told = {key: json.dumps(item, sort_keys=True, default=str) for key, item in items.items()}
        known = {} if full else self._known
        self._known = told
        return {key: items[key] for key, text in told.items() if known.get(key) != text}
