"""What a content of ChatGPT's export says, of whatever kind: its text, and what stands in it beside the text.

Rule 1: there is no list of kinds, because new ones come every month. What carries text is that text; what carries none is
kept as its JSON, named by its kind; pointers to pictures, sound and files are marked.
Rule 2: fields beside a text are named, so that the import can report them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

TEXT_FIELDS: Final = ("text", "result", "content", "output_str", "summary")
"""Where a content without parts has its text, by rank."""

CONTEXT_FIELDS: Final = ("user_profile", "user_instructions", "model_set_context")
"""What the user told ChatGPT of themselves, and how to answer; what the model noted of them."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a content says.

    Attributes:
        text: all that can be read.
        marked: how many pictures, recordings and files are only marked in the text.
        as_json: kinds of what stands in the text as JSON, because no text was found in it.
        beside: fields that stand beside the text and are not in it, as ``kind.field``.
    """

    text: str
    marked: int = 0
    as_json: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def told(content: Any) -> Told:
    """What a content says; a bare text or list counts as its parts.

    >>> told({"content_type": "system_error", "name": "Err", "text": "no"})
    Told(text='no', marked=0, as_json=(), beside=('system_error.name',))
    >>> told({"content_type": "widget", "rows": [1, 2]}).text
    '[widget: {"rows": [1, 2]}]'
    """
    if not isinstance(content, Mapping):
        content = {"parts": content if isinstance(content, list) else [content]}
    kind = str(content.get("content_type") or "content")
    fields = {name: held for name, held in content.items() if name != "content_type" and _holds(held)}
    parts, thoughts = fields.get("parts"), fields.get("thoughts")
    if isinstance(parts, list):
        taken, said = ["parts"], [_part(part) for part in parts]
    elif isinstance(thoughts, list):
        taken, said = ["thoughts"], [_thought(thought) for thought in thoughts]
    elif context := [name for name in CONTEXT_FIELDS if name in fields]:
        taken, said = context, [Told("\n\n".join(str(fields[name]) for name in context))]
    else:
        found = next((name for name in TEXT_FIELDS if isinstance(fields.get(name), str)), None)
        if found is None:
            return _raw(kind, fields) if fields else Told("")
        taken, said = [found], [Told(fields[found])]
    return Told(
        "\n".join(filter(None, (one.text for one in said))),
        sum(one.marked for one in said),
        tuple(name for one in said for name in one.as_json),
        (*(f"{kind}.{name}" for name in fields if name not in taken), *(name for one in said for name in one.beside)),
    )


def pointers(value: Any) -> Iterator[str]:
    """Every pointer to a picture, recording or file, however deep it stands."""
    if isinstance(value, Mapping):
        for name, held in value.items():
            if name == "asset_pointer" and isinstance(held, str):
                yield held
            else:
                yield from pointers(held)
    elif isinstance(value, list):
        for held in value:
            yield from pointers(held)


def _part(part: Any) -> Told:
    if isinstance(part, str):
        return Told(part)
    if not _holds(part):
        return Told("")
    if not isinstance(part, Mapping):
        return Told(json.dumps(part, ensure_ascii=False), as_json=(type(part).__name__,))
    kind = str(part.get("content_type") or "part")
    if isinstance(part.get("text"), str):  # a transcript of what was spoken, with the direction it went
        rest = (name for name, held in part.items() if name not in ("content_type", "text") and _holds(held))
        return Told(part["text"], beside=tuple(f"{kind}.{name}" for name in rest))
    if found := list(pointers(part)):
        name = "file" if kind == "part" else kind.removesuffix("_asset_pointer").replace("_", " ")
        return Told("\n".join(f"[{name}: {pointer}]" for pointer in found), marked=len(found))
    return _raw(kind, part)


def _thought(thought: Any) -> Told:
    if isinstance(thought, Mapping) and isinstance(text := thought.get("content") or thought.get("summary"), str):
        return Told(text)
    return _part(thought)


def _raw(kind: str, value: Mapping[str, Any]) -> Told:
    held = {name: item for name, item in value.items() if name != "content_type"}
    return Told(f"[{kind}: {json.dumps(held, ensure_ascii=False)}]", as_json=(kind,)) if held else Told("")


def _holds(value: Any) -> bool:
    """Whether a field says something; 0 and False do."""
    return value is not None and value not in ("", [], {})
