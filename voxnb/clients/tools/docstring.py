"""What a docstring says of a function and of its arguments: Google's style, NumPy's and reST's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_ARGUMENTS: Final = frozenset(
    {"args", "arguments", "parameters", "params", "other parameters", "keyword args", "keyword arguments"}
)
_SECTIONS: Final = _ARGUMENTS | {
    "attention", "attributes", "caution", "danger", "error", "example", "examples", "hint", "important", "methods",
    "note", "notes", "raises", "receives", "references", "return", "returns", "see also", "tip", "todo", "warning",
    "warnings", "warns", "yield", "yields",
}  # fmt: skip
_GOOGLE_HEADING: Final = re.compile(r"([A-Za-z ]+):\s*")
_GOOGLE_ENTRY: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\((.*?)\))?\s*:(?!:)\s*(.*)")
_NUMPY_ENTRY: Final = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::\s*(.*))?")
_FIELD: Final = re.compile(r":(\w+)((?:\s+[^\s:]+)*)\s*:\s*(.*)")


@dataclass(frozen=True, slots=True)
class Described:
    """A docstring taken apart.

    Attributes:
        text: what stands before the first section.
        arguments: name → what is said of it.
        types: name → its type in words, where the docstring gives one.
    """

    text: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


def read_docstring(doc: str | None) -> Described:
    """Take a docstring apart.

    >>> said = read_docstring('''Weather of a city.
    ...
    ...     Args:
    ...         city (str): Its name,
    ...             in English.
    ...     ''')
    >>> said.text, said.arguments, said.types
    ('Weather of a city.', {'city': 'Its name, in English.'}, {'city': 'str'})
    """
    lines = inspect.cleandoc(doc or "").splitlines()
    text: list[str] = []
    arguments: dict[str, str] = {}
    types: dict[str, str] = {}

    def note(name: str, kind: str | None, words: Iterable[str]) -> None:
        said = " ".join(" ".join(words).split())
        if said:
            arguments[name.lstrip("*")] = said
        if kind and kind.strip():
            types[name.lstrip("*")] = kind.strip()

    at, in_text = 0, True
    while at < len(lines):
        heading, skip = _heading(lines, at)
        if heading is not None:
            in_text = False
            end = _section_end(lines, at + skip, numpy=skip == 2)
            if heading in _ARGUMENTS:
                entries = _numpy_entries if skip == 2 else _google_entries
                for name, kind, words in entries(lines[at + skip : end]):
                    note(name, kind, words)
            at = end
            continue
        if found := _FIELD.match(lines[at]):
            in_text = False
            end = at + 1
            while end < len(lines) and lines[end][:1] in (" ", "\t"):
                end += 1
            words = [found[3], *lines[at + 1 : end]]
            names = found[2].split()
            if found[1] in ("param", "parameter", "arg", "argument", "key", "keyword") and names:
                note(names[-1], " ".join(names[:-1]), words)
            elif found[1] == "type" and names:
                types[names[-1]] = " ".join(" ".join(words).split())
            at = end
            continue
        if in_text:
            text.append(lines[at])
        at += 1
    return Described("\n".join(text).strip(), arguments, types)


def _heading(lines: list[str], at: int) -> tuple[str | None, int]:
    """The section that begins here, in small letters, and how many lines its heading has."""
    line = lines[at]
    below = lines[at + 1].strip() if at + 1 < len(lines) else ""
    name = line.strip().lower()
    if name in _SECTIONS and len(below) >= 3 and set(below) == {"-"}:
        return name, 2
    found = _GOOGLE_HEADING.fullmatch(line)
    if found and found[1].strip().lower() in _SECTIONS and line[:1] not in (" ", "\t"):
        return found[1].strip().lower(), 1
    return None, 0


def _section_end(lines: list[str], at: int, *, numpy: bool) -> int:
    """Where the next section begins; Google's also ends where the indentation does."""
    while at < len(lines):
        if _heading(lines, at)[0] is not None or _FIELD.match(lines[at]):
            return at
        if not numpy and lines[at].strip() and lines[at][:1] not in (" ", "\t"):
            return at
        at += 1
    return at


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _google_entries(lines: list[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    outer = min((_depth(line) for line in lines if line.strip()), default=0)
    entry: tuple[str, str | None, list[str]] | None = None
    for line in lines:
        found = _GOOGLE_ENTRY.fullmatch(line.strip()) if line.strip() and _depth(line) == outer else None
        if found:
            if entry:
                yield entry
            entry = (found[1], found[2], [found[3]])
        elif entry:
            entry[2].append(line)
    if entry:
        yield entry


def _numpy_entries(lines: list[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    names: list[str] = []
    kind: str | None = None
    words: list[str] = []
    for line in [*lines, "end"]:
        if not line.strip() or _depth(line):
            words.append(line)
            continue
        yield from ((name, kind, words) for name in names)
        found = _NUMPY_ENTRY.fullmatch(line)
        names = [n.strip() for n in found[1].split(",")] if found else []
        kind, words = (found[2] if found else None), []
