"""What a client may ask for, checked before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxnb.errors import ParameterError
from voxnb.wire.realtime.names import COMMANDS


def check_command(kind: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A client event from its type and its fields.

    Args:
        kind: the type of a client event.
        parameters: its fields without ``type``.

    Raises:
        ParameterError: no such command, or a field that it must have is missing or of another kind.

    >>> check_command("conversation.item.delete", {"item_id": "i"})
    {'type': 'conversation.item.delete', 'item_id': 'i'}
    """
    given = {} if parameters is None else parameters
    if kind not in COMMANDS:
        raise ParameterError(f"{kind!r} is no client event of the Realtime API", name="type")
    if not isinstance(given, Mapping):
        raise ParameterError(f"the parameters of {kind} are {type(given).__name__}, expected a dict", name="parameters")
    for name in COMMANDS[kind]:
        if given.get(name) is None:
            raise ParameterError(f"{kind} needs {name!r}", name=name)
    for name in ("session", "item", "response"):
        if given.get(name) is not None and not isinstance(given[name], Mapping):
            found = type(given[name]).__name__
            raise ParameterError(f"{name} of {kind} is {found}, expected a dict", name=name)
    if given.get("type", kind) != kind:
        raise ParameterError(f"the type of {kind} is {given['type']!r}; leave it out", name="type")
    event_id = given.get("event_id")
    if event_id is not None and (not isinstance(event_id, str) or not event_id):
        raise ParameterError(f"event_id of {kind} is {event_id!r}, expected a text", name="event_id")
    return {"type": kind, **given}
