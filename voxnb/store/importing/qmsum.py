"""Meetings as QMSum has them: a transcript of many speakers. Everybody is a user with a name; nobody is the model.

Source: github.com/Yale-LILY/QMSum (MIT), one JSON object per meeting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voxnb.store.importing.draft import Draft, Reading
from voxnb.store.importing.lines import json_items, json_lines, opened, stands_in_lines

BESIDE: Final = ("topic_list", "general_query_list", "specific_query_list")


def qmsum_drafts(path: Path, reading: Reading) -> Iterator[Draft]:
    """A draft per meeting; questions and reference summaries go into the metadata."""
    in_lines = stands_in_lines(path, reading.max_item_bytes)
    with opened(path) as file:
        found: Iterator[tuple[str, Any]] = (
            ((f"line {number}", value) for number, value in json_lines(file, reading))
            if in_lines
            else json_items(file, reading, noun="meeting")
        )
        for number, (place, value) in enumerate(found):
            said = value.get("meeting_transcripts") if isinstance(value, Mapping) else None
            if not isinstance(said, list):
                reading.skipped.add("no meeting_transcripts", place)
                continue
            messages = [_message(item) for item in said if isinstance(item, Mapping)]
            beside = {name: value[name] for name in BESIDE if name in value}
            name = reading.stem if not number else None
            yield Draft(place, messages, name=name, metadata=beside, each_is_a_turn=True)


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    # The API takes a name of letters, digits, dashes and underscores.
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", str(item.get("speaker") or "")).strip("_")[:64]
    message = {"role": "user", "content": str(item.get("content") or "")}
    return {**message, "name": name} if name else message
