"""llm's newest logs: a thread points at the last of a chain of messages, each made of parts; turns say what a call added."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from voxnb.store.importing.clock import seconds_of
from voxnb.store.importing.draft import Draft, shaped
from voxnb.store.importing.llm_parts import Log, attached, call_of


def thread_drafts(log: Log) -> Iterator[Draft]:
    """A conversation per thread."""
    for row in log.rows("threads", "1 ORDER BY rowid"):
        draft = None
        with shaped(log.reading, f"thread {row['id']}"):
            draft = _thread(log, row)
        if draft is not None:
            yield draft
    known = {row["id"] for row in log.rows("threads")}
    for turn in log.rows("turns"):
        if turn.get("thread_id") not in known:
            log.reading.skipped.add("turns whose thread has no row", f"turn {turn.get('id')}")


def _thread(log: Log, thread: Mapping[str, Any]) -> Draft | None:
    place = f"thread {thread['id']}"
    chain = _chain(log, thread.get("tip_message_hash"), place)
    if not chain:
        log.reading.skipped.add("threads without a message", place)
        return None
    turns = {row["tip_message_hash"]: row for row in log.rows("turns", "thread_id = ? ORDER BY rowid", thread["id"])}
    begun = seconds_of(thread.get("datetime_utc"))
    messages: list[dict[str, Any]] = []
    times: list[float | None] = []
    facts: dict[int, dict[str, Any]] = {}
    open_calls: list[tuple[str, str]] = []
    waiting = 0
    for row in chain:
        said = _said(log, row, open_calls, place)
        messages += said
        times += [None] * len(said)
        turn = turns.pop(row["hash"], None)
        if turn is not None:
            log.untaken(turn, f"{place}, turn {turn.get('id')}")
            at = seconds_of(turn.get("datetime_utc"))
            # The turn's time is that of all it added.
            times[waiting:] = [at] * (len(times) - waiting)
            known = {"model": turn.get("resolved_model") or turn.get("model"), "duration_ms": turn.get("duration_ms")}
            if messages:
                facts[len(messages) - 1] = {name: value for name, value in known.items() if value is not None}
            waiting = len(messages)
    log.reading.skipped.add("answers that were tried again or left behind", place, count=len(turns))
    metadata = {"forked_from": thread["forked_from"]} if thread.get("forked_from") else {}
    return Draft(
        place,
        messages,
        key=thread["id"],
        key_is_global=True,
        name=thread.get("name"),
        title=thread.get("name"),
        model=next((held["model"] for held in facts.values() if "model" in held), None),
        metadata=metadata,
        created_at=begun or next((at for at in times if at is not None), None),
        times=times,
        facts=facts,
    )


def _chain(log: Log, tip: Any, place: str) -> list[dict[str, Any]]:
    """The messages up to a tip, oldest first."""
    chain: list[dict[str, Any]] = []
    seen: set[Any] = set()
    while tip is not None and tip not in seen:
        seen.add(tip)
        row = next(log.rows("messages", "hash = ?", tip), None)
        if row is None:
            log.reading.remarks.add("chains whose beginning is missing", place)
            break
        chain.append(row)
        tip = row.get("parent_hash")
    chain.reverse()
    return chain


def _said(log: Log, row: Mapping[str, Any], open_calls: list[tuple[str, str]], place: str) -> list[dict[str, Any]]:
    """The API's messages of one message: results of several tools are one there and several here."""
    texts: list[str] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    reasoning: list[str] = []
    for n, held in enumerate(log.rows("parts", "message_hash = ? ORDER BY position", row["hash"])):
        payload = _payload(log, held)
        kind = held.get("type")
        if kind == "text":
            texts.append(payload.get("text") or "")
            parts.append({"type": "text", "text": texts[-1]})
        elif kind == "reasoning":
            reasoning.append(payload.get("text") or "")
        elif payload.get("server_executed"):
            log.reading.skipped.add("tools that the provider ran by itself", f"{place}: {held.get('tool_name')}")
        elif kind == "tool_call":
            call = call_of(payload, f"{row['hash']}.{n}")
            calls.append(call)
            open_calls.append((call["function"]["name"], call["id"]))
        elif kind == "tool_result":
            said = payload.get("output") or payload.get("exception") or ""
            results.append({"role": "tool", "tool_call_id": _answered(payload, open_calls), "content": str(said)})
        elif kind == "attachment":
            key = (payload.get("attachment") or {}).get("id")
            found = next(log.rows("attachments", "id = ?", key), payload.get("attachment") or {})
            parts.append(attached(found, log.reading, place))
        else:
            log.reading.skipped.add("parts of an unknown type", f"{place}: {kind!r}")
    out: list[dict[str, Any]] = list(results)
    if parts or calls or not results:
        plain = len(texts) == len(parts)
        message: dict[str, Any] = {"role": row["role"], "content": "".join(texts) if plain else parts}
        if calls:
            message |= {"tool_calls": calls, "content": message["content"] or None}
        if any(reasoning):
            message["reasoning_content"] = "\n".join(reasoning)
        out.append(message)
    return out


def _payload(log: Log, held: Mapping[str, Any]) -> dict[str, Any]:
    """A part as llm wrote it, its text put together from fragments where it borrows some."""
    try:
        payload = json.loads(held.get("payload") or "{}")
    except ValueError:
        payload = {}
    if held.get("text") is not None:
        payload["text"] = held["text"]
    pieces = payload.pop("text_ref", None)
    if pieces is not None:
        payload["text"] = "".join(
            piece["literal"] if "literal" in piece else log.fragment(piece.get("fragment")) for piece in pieces
        )
    return {"name": held.get("tool_name"), **payload}


def _answered(payload: Mapping[str, Any], open_calls: list[tuple[str, str]]) -> str:
    wanted, name = payload.get("tool_call_id"), payload.get("name")
    for n, (called, call_id) in enumerate(open_calls):
        if call_id == wanted or (wanted is None and called == name):
            del open_calls[n]
            return call_id
    return str(wanted or name)
