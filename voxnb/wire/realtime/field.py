"""Fields of what a peer sent, each checked before it is used."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from voxnb.errors import RemoteProtocolError


def wrong(event: Any, what: str) -> RemoteProtocolError:
    """The error of an event that is out of order or shape.

    Args:
        event: what came.
        what: what is wrong with it, to follow its type.
    """
    known = event if isinstance(event, Mapping) else {}
    kind, event_id = known.get("type"), known.get("event_id")
    named = kind if isinstance(kind, str) else ""
    return RemoteProtocolError(
        f"the server sent {named[:80] or 'something without a type'!r} {what}; it was not taken in",
        event_type=named,
        event_id=event_id if isinstance(event_id, str) else None,
    )


def text(event: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """A field that must be a text, and not an empty one unless ``empty``."""
    value = event.get(name)
    if isinstance(value, str) and (value or empty):
        return value
    raise wrong(event, f"whose {name} is {_shown(value)}, expected a text")


def optional_text(event: Mapping[str, Any], name: str) -> str | None:
    """A field that is a text, or absent or null."""
    return None if event.get(name) is None else text(event, name, empty=True)


def whole(event: Mapping[str, Any], name: str) -> int:
    """A field that must be a whole number, 0 or more."""
    value = event.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise wrong(event, f"whose {name} is {_shown(value)}, expected a whole number of 0 or more")


def mapping(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that must be an object."""
    value = event.get(name)
    if isinstance(value, Mapping):
        return value
    raise wrong(event, f"whose {name} is {_shown(value)}, expected an object")


def id_of(event: Mapping[str, Any], name: str) -> str:
    """The id of an object in a field."""
    value = mapping(event, name).get("id")
    if isinstance(value, str) and value:
        return value
    raise wrong(event, f"whose {name}.id is {_shown(value)}, expected a text")


def audio(event: Mapping[str, Any], name: str) -> bytes:
    """A field that must be base64."""
    given = text(event, name, empty=True)
    try:
        return binascii.a2b_base64(given, strict_mode=True)
    except (binascii.Error, ValueError):
        raise wrong(event, f"whose {name} is no base64") from None


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, str | int | float | bool):
        shown = repr(value)
        return shown if len(shown) <= 40 else shown[:37] + "..."
    return "a list" if isinstance(value, list | tuple) else "an object"
