"""What a new session is told, so that it goes on where an old one ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from voxnb.wire.realtime.command import check_command
from voxnb.wire.realtime.replay import items_of
from voxnb.wire.realtime.session import RealtimeSession

RESTORED: Final = "voxnb_"
"""How the ids of items begin that a new session is told."""

TOLD_AGAIN: Final = frozenset({"session.update", "response.create", "response.cancel", "input_audio_buffer.append"})
"""Commands that waited for the old session and are not simply sent to the new one: they are part of what it is told
anyway, or mean nothing there."""


def settings_for(old: RealtimeSession, *, kind: str) -> dict[str, Any]:
    """The settings of a new session: all that was asked for, and what form answers have.

    Seeded with text alone, models answer in text; so it is said that they speak.

    Args:
        old: the session that it follows.
        kind: ``realtime`` or ``transcription``.
    """
    wanted = old.settings.wanted
    if kind == "transcription":
        return {**wanted, "type": kind}
    modalities = old.config.get("output_modalities") or ["audio"]
    return {"output_modalities": modalities, **wanted, "type": kind}


def succeed(
    old: RealtimeSession,
    *,
    messages: Sequence[Mapping[str, Any]],
    kind: str,
    number: int,
    unsent: Sequence[Mapping[str, Any]] = (),
    is_lost: bool = False,
) -> tuple[RealtimeSession, int]:
    """A new session that is told the settings and the conversation of an old one as soon as it is there.

    Args:
        old: the session that it follows.
        messages: the conversation as chat messages, without leading instructions.
        kind: ``realtime`` or ``transcription``.
        number: of the new session among the client's: its items are named by it.
        unsent: commands that the old session was never sent.
        is_lost: the old one is gone: say again what it did not confirm, and ask again for the answers that it owed.

    Returns:
        The session, and how many items it is told.
    """
    new = RealtimeSession(numbered=old.numbered)
    new.command("session.update", {"session": settings_for(old, kind=kind)})
    items = items_of(messages, anchor=True) if kind != "transcription" else []
    for n, item in enumerate(items):
        new.command("conversation.item.create", {"item": {**item, "id": f"{RESTORED}{number}_{n}"}})
    new.open_calls = open_calls(old)
    waiting = {command["event_id"] for command in unsent}
    lost = [command for command in old.items.unconfirmed if is_lost and command["event_id"] not in waiting]
    for command in _without_old_places([*lost, *unsent]):
        if command["type"] not in TOLD_AGAIN:
            new.put(command)
    if is_lost:
        for command in owed(old):
            new.put(dict(command))
    return new, len(items)


def catch_up(
    new: RealtimeSession, old: RealtimeSession, *, items: Iterable[Mapping[str, Any]], kind: str, number: int
) -> list[dict[str, Any]]:
    """What a session that was prepared beside an old one is told when it takes its place.

    Args:
        new: it.
        old: the session that it follows.
        items: that were said since it was prepared.
        kind: ``realtime`` or ``transcription``.
        number: as for `succeed`.

    Returns:
        What is to be sent to it: settings that have changed, the items, and those that the old one has not confirmed.
    """
    send: list[dict[str, Any]] = []
    settings = settings_for(old, kind=kind)
    if settings != new.settings.wanted:
        send += new.command("session.update", {"session": settings})
    for n, item in enumerate(items):
        send += new.command("conversation.item.create", {"item": {**item, "id": f"{RESTORED}{number}_since_{n}"}})
    new.open_calls |= open_calls(old)
    for command in _without_old_places(old.items.unconfirmed):
        command.pop("event_id")  # the new session has given out the same
        send += new.put(command)
    return send


def _without_old_places(commands: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Commands for a session that has none of the old one's items: what was to stand behind one of those comes last."""
    out = [dict(command) for command in commands]
    known = {"root", *(item["id"] for command in out if "id" in (item := command.get("item") or {}))}
    for command in out:
        if command.get("previous_item_id") not in known:
            command.pop("previous_item_id", None)
    return out


def begin_with(
    early: RealtimeSession, *, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], kind: str
) -> RealtimeSession:
    """A first session that is told a conversation before anything else that was asked for.

    Args:
        early: what was asked for before there was one.
        messages: the conversation as chat messages, without leading instructions.
        settings: come before those that were asked for.
        kind: ``realtime`` or ``transcription``.
    """
    new = RealtimeSession(numbered=early.numbered)
    commands = list(early.unsent)
    items = items_of(messages) if kind != "transcription" else []
    if items:
        settings = {"output_modalities": ["audio"], **settings}
    if settings:
        new.command("session.update", {"session": {"type": kind, **settings}})
    while commands and commands[0]["type"] == "session.update":
        new.put(dict(commands.pop(0)))
    for n, item in enumerate(items):
        new.command("conversation.item.create", {"item": {**item, "id": f"{RESTORED}0_{n}"}})
    for command in commands:
        new.put(dict(command))
    return new


def open_calls(old: RealtimeSession) -> dict[str, dict[str, Any]]:
    """Id → call of the model's that a session has not been given a result for, to be told with that."""
    given = {item.call_id for item in old.items if item.type == "function_call_output"}
    asked = [item for item in old.items if item.type == "function_call" and item.call_id not in given]
    calls = {
        item.call_id: {"type": item.type, "call_id": item.call_id, "name": item.name, "arguments": item.arguments}
        for item in asked
        if item.call_id
    }
    return {**old.open_calls, **calls}


def owed(old: RealtimeSession) -> list[dict[str, Any]]:
    """The requests for answers that a session ended without giving."""
    asked = [dict(command) for command in old.unanswered]
    if old.active_response is not None:
        return [check_command("response.create"), *asked]
    last = old.items.last
    automatic = last is not None and last.role == "user" and not last.is_restored and creates_responses(old.config)
    return asked or ([check_command("response.create")] if automatic else [])


def creates_responses(config: Mapping[str, Any]) -> bool:
    """Whether a session answers by itself when the user has spoken."""
    audio = config.get("audio")
    told = audio.get("input") if isinstance(audio, Mapping) else None
    detection = told.get("turn_detection") if isinstance(told, Mapping) else None
    return isinstance(detection, Mapping) and detection.get("create_response", True) is not False
