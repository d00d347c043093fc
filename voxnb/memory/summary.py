"""Summaries: what the summary model is asked, and whether its answer is accepted.

Rule 1: the previous summary is always an input of the next, and every turn that a fold
covers is in the transcript, tool results included.
Rule 2: an answer is checked before anything changes. `accept` returns what will be stored or raises.
Rule 3: what was said is data: it stands between marks, and the closing line repeats the task after it, since
models otherwise answer the last message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voxnb.errors import SummaryError
from voxnb.memory.plan import PastTurn, Said

PREVIOUS: Final = "{{previous_summary}}"
MESSAGES: Final = "{{messages}}"
NO_PREVIOUS: Final = "none"

CLOSING: Final = (
    "Write the updated summary now. Write only the summary: do not answer the messages, and add nothing they do not say."
)

REPEATED_LINES: Final = 3
"""As often as this in a row, a line is a model that does not stop."""

_NEAR_MISS: Final = re.compile(r"\{\{?\s*(previous[_ ]?summary|messages?|conversation|history)\s*\}?\}", re.IGNORECASE)
_THINKING: Final = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"[.!?。！？…][\"')\]»”]*(?=\s|$)|\n")
_NUMBER: Final = re.compile(r"(?<![\w.])\d[\d,.:/-]*\d|(?<![\w.])\d")
_RULE: Final = re.compile(r"\b(?:always|never|must(?: not)?|do not|don't)\b", re.IGNORECASE)
_FACT: Final = re.compile(r"\d|(?<!^)(?<![.!?]\s)\b[A-ZÀ-ÖØ-Þ][\w-]+|[/\\_]\w|@", re.MULTILINE)


# -- the request ------------------------------------------------------------------------------


def transcript(turns: Iterable[PastTurn]) -> Iterator[str]:
    """The turns as lines a summary model can read: each message once, tool calls with their results."""
    for turn in turns:
        names: dict[str, str] = {}
        for said in turn.messages:
            yield from _lines(said, names)
        if turn.state == "partial":
            yield "(the assistant's reply was cut off here)"


def _lines(said: Said, names: dict[str, str]) -> Iterator[str]:
    extra = said.extra or {}
    who = {"user": "User", "assistant": "Assistant", "system": "System", "developer": "Developer"}.get(said.role)
    if said.role in ("tool", "function"):
        name = names.get(str(extra.get("tool_call_id"))) or extra.get("name") or "tool"
        yield f"Result of {name}: {said.text}"
        return
    others = [p for p in (extra.get("content") or ()) if p.get("type") not in ("text", None)]
    text = said.text + "".join(f" [{_part_name(p)}]" for p in others)
    if text.strip():
        yield f"{who or said.role}{' ' + str(extra['name']) if extra.get('name') else ''}: {text.strip()}"
    if extra.get("refusal"):
        yield f"Assistant refused: {extra['refusal']}"
    for call in extra.get("tool_calls") or ():
        function = call.get("function") or call.get("custom") or {}
        name = str(function.get("name") or "tool")
        names[str(call.get("id"))] = name
        arguments = function.get("arguments", function.get("input", ""))
        yield f"Assistant called {name}({arguments if isinstance(arguments, str) else json.dumps(arguments)})"


def _part_name(part: Mapping[str, Any]) -> str:
    kind = str(part["type"])
    return {"image_url": "image", "input_image": "image", "input_audio": "audio"}.get(kind, kind)


def prompt_warnings(prompt: str) -> list[str]:
    """Placeholders that look meant and are not: ``{messages}``, ``{{ history }}``."""
    out = []
    for match in _NEAR_MISS.finditer(prompt):
        if match.group() not in (PREVIOUS, MESSAGES):
            meant = MESSAGES if match.group(1).lower().startswith(("message", "conv", "hist")) else PREVIOUS
            out.append(f"summary_prompt has {match.group()!r}, which is kept as it stands; did you mean {meant!r}?")
    return out


def request_messages(prompt: str, *, previous: str | None, lines: str, mark: str) -> list[dict[str, str]]:
    """The messages of a fold's call.

    Args:
        prompt: the instruction. With `PREVIOUS` or `MESSAGES` in it, these are filled in, literally and once each,
            and a missing one has its section appended; without, both go into the user message.
        previous: the previous summary's text, or None.
        lines: the transcript.
        mark: random text that fences both.
    """
    previous_section = f"### Previous summary\n[{mark}]\n{(previous or NO_PREVIOUS).replace(mark, '')}\n[/{mark}]"
    message_section = f"### Messages to summarize\n[{mark}]\n{lines.replace(mark, '')}\n[/{mark}]"
    if PREVIOUS not in prompt and MESSAGES not in prompt:
        user = f"{previous_section}\n\n{message_section}\n\n{CLOSING}"
        return [{"role": "system", "content": prompt}, {"role": "user", "content": user}]
    # One pass: what is filled in may itself hold the other placeholder.
    parts = re.split(f"({re.escape(PREVIOUS)}|{re.escape(MESSAGES)})", prompt)
    fill = {PREVIOUS: previous or NO_PREVIOUS, MESSAGES: lines}
    filled = "".join(fill.get(part, part) for part in parts)
    if PREVIOUS not in prompt:
        filled += "\n\n" + previous_section
    if MESSAGES not in prompt:
        filled += "\n\n" + message_section
    return [{"role": "system", "content": filled}, {"role": "user", "content": CLOSING}]


def chunks(lines: Iterable[str], *, limit_tokens: int, count: Callable[[str], int]) -> list[str]:
    """The transcript in pieces that fit the summary model; a line that alone is too long is cut into pieces."""
    out: list[str] = []
    held: list[str] = []
    held_tokens = 0
    for line in lines:
        for piece in _pieces(line, limit_tokens=limit_tokens, count=count):
            tokens = count(piece) + 1
            if held and held_tokens + tokens > limit_tokens:
                out.append("\n".join(held))
                held, held_tokens = [], 0
            held.append(piece)
            held_tokens += tokens
    if held:
        out.append("\n".join(held))
    return out


def _pieces(line: str, *, limit_tokens: int, count: Callable[[str], int]) -> Iterator[str]:
    if count(line) < limit_tokens:
        yield line
        return
    half = len(line) // 2
    if not half:
        yield line
        return
    # Cut at a space near the middle where there is one, so that no number is torn.
    space = line.rfind(" ", half - 200 if half > 200 else 0, half)
    middle = space if space > 0 else half
    yield from _pieces(line[:middle], limit_tokens=limit_tokens, count=count)
    yield from _pieces(line[middle:], limit_tokens=limit_tokens, count=count)


# -- the answer -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """A summary that may be stored.

    Attributes:
        text: as it will be stored.
        quality: ``full``, or ``cut`` where it ended at the length limit.
        flags: doubts that do not refuse it: ``answers_last_message``, ``invented_rule``, ``unsupported_number``.
    """

    text: str
    quality: str
    flags: tuple[str, ...]


def accept(
    answer: str,
    *,
    cut: bool,
    source: str,
    previous: str | None,
    last_user: str,
    max_tokens: int,
    replaced_tokens: int,
    count: Callable[[str], int],
) -> Accepted:
    """Check a summary model's answer.

    Args:
        answer: its text.
        cut: whether it ended at its length limit.
        source: the transcript it was shown.
        previous: the previous summary, or None.
        last_user: the last user message it was shown.
        max_tokens: the summary's own budget.
        replaced_tokens: previous summary and folded turns together: it must be shorter.
        count: text → tokens.

    Raises:
        SummaryError: empty, one line repeated, or not shorter than what it replaces.
    """
    text = _THINKING.sub("", answer).strip()
    if not text:
        raise SummaryError("the summary model wrote nothing", reason="empty", text=answer)
    text, repeating = _without_repetition(text)
    if repeating and (count(text) < 8 or ("\n" not in text and len(text) < 80)):
        raise SummaryError("the summary model repeated one line until its limit", reason="repeating", text=answer)
    quality = "full"
    if cut or repeating or count(text) > max_tokens:
        text = cut_at_sentence(text, limit_tokens=max_tokens, count=count)
        quality = "cut"
    if not text:
        raise SummaryError(
            f"the summary has no whole sentence within {max_tokens:,} tokens; "
            "raise summary_max_tokens or take another summary_model",
            reason="long",
            text=answer,
        )
    if count(text) >= replaced_tokens:
        raise SummaryError(
            f"the summary has {count(text):,} tokens and replaces {replaced_tokens:,}: nothing would be saved",
            reason="growing",
            text=answer,
        )
    return Accepted(text, quality, tuple(_flags(text, source=source, previous=previous, last_user=last_user)))


def _without_repetition(text: str) -> tuple[str, bool]:
    """The text up to where one line begins to repeat, and whether it does."""
    lines = text.split("\n")
    seen: dict[str, int] = {}
    for n, line in enumerate(lines):
        key = line.strip().casefold()
        if not key:
            continue
        seen[key] = seen.get(key, 0) + 1
        if seen[key] >= REPEATED_LINES:
            first = next(i for i, other in enumerate(lines) if other.strip().casefold() == key)
            return "\n".join(lines[: first + 1]).strip(), n > 0
    # The same within one long line.
    match = re.search(r"(.{12,200}?)\1{3,}", text, re.DOTALL)
    if match:
        return text[: match.start() + len(match.group(1))].strip(), True
    return text, False


def cut_at_sentence(text: str, *, limit_tokens: int, count: Callable[[str], int]) -> str:
    """The longest run of whole sentences (or lines) within a token limit; "" if there is none."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if text and (not ends or ends[-1] != len(text)) and not _open_ended(text) and count(text) <= limit_tokens:
        return text
    low, high = 0, len(ends)
    while low < high:  # the longest prefix that fits: counts grow with length
        middle = (low + high + 1) // 2
        if count(text[: ends[middle - 1]]) <= limit_tokens:
            low = middle
        else:
            high = middle - 1
    return text[: ends[low - 1]].strip() if low else ""


def _open_ended(text: str) -> bool:
    """Whether the text stops in the middle of a sentence."""
    return not re.search(r"[.!?。！？…\"')\]»”:]\s*$", text)


def _flags(text: str, *, source: str, previous: str | None, last_user: str) -> Iterator[str]:
    known = f"{source}\n{previous or ''}"
    if _answers(text, last_user):
        yield "answers_last_message"
    if any(_RULE.search(line) and not _RULE.search(known) for line in text.split("\n")):
        yield "invented_rule"
    numbers = {_plain(n) for n in _NUMBER.findall(known)}
    if any(_plain(n) not in numbers and len(_plain(n)) > 1 for n in _NUMBER.findall(text)):
        yield "unsupported_number"


def _answers(text: str, last_user: str) -> bool:
    """Whether the text talks to the user instead of about the conversation."""
    opening = text[:80].casefold()
    if re.match(r"(sure|certainly|of course|great|i'm sorry|i am sorry|sorry|as an ai|here is the answer|yes,|no,)", opening):
        return True
    return bool(last_user.strip().endswith("?") and re.match(r"(you can|you should|to do this|i (can|will|would)\b)", opening))


def _plain(number: str) -> str:
    return number.replace(",", "").rstrip(".:/-")


# -- without a model --------------------------------------------------------------------------


def extract(
    turns: Sequence[PastTurn], *, previous: str | None, limit_tokens: int, count: Callable[[str], int]
) -> str:
    """A summary without a model: the lines that hold names, numbers and dates, newest first, within a budget.

    User lines and tool results are taken; the previous summary gives its own lines after them. The result is in the
    order in which things were said.

    Returns:
        At least one line, also where nothing holds a fact; "" only if the budget holds not even a cut line.
    """
    lines = [(f"User: {said.text}" if said.role == "user" else f"Result: {said.text}").strip()
             for turn in turns for said in turn.messages
             if said.role in ("user", "tool", "function") and said.text.strip()]  # fmt: skip
    old = [line for line in (previous or "").split("\n") if line.strip()]
    pool = [*old, *(one_line(line) for line in lines)]
    with_fact = [(n, line) for n, line in enumerate(pool) if n < len(old) or _FACT.search(line.split(": ", 1)[-1])]
    chosen: dict[int, str] = {}
    left = limit_tokens
    for n, line in reversed(with_fact or list(enumerate(pool))):
        cost = count(line) + 1
        if cost <= left:
            chosen[n] = line
            left -= cost
        elif not chosen:
            short = shorten(line, limit_tokens=left, count=count)
            if short:
                chosen[n] = short
                left = 0
    return "\n".join(chosen[n] for n in sorted(chosen))


def one_line(text: str, *, limit_chars: int = 400) -> str:
    """White space folded, and the middle left out where it is long."""
    text = " ".join(text.split())
    if len(text) <= limit_chars:
        return text
    return text[: limit_chars * 2 // 3] + " … " + text[-limit_chars // 3 :]


def shorten(text: str, *, limit_tokens: int, count: Callable[[str], int]) -> str:
    """The start of a text within a token limit, marked as shortened; "" if nothing fits."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[:middle] + " …") <= limit_tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + " …" if low else ""
