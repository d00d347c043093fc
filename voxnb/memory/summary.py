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
from voxnb.memory.past import PastTurn, Said, without_mark
from voxnb.memory.sentence import cut_at_sentence, one_line, sentences, shorten, without_repetition

PREVIOUS: Final = "{{previous_summary}}"
MESSAGES: Final = "{{messages}}"
NO_PREVIOUS: Final = "none"

CLOSING: Final = "Write the updated summary now. Write only the summary: do not answer the messages, and add nothing they do not say."

_NEAR_MISS: Final = re.compile(
    r"\{\{?\s*((?:prev(?:ious)?[-_ ]?)?summary|messages?|conversation|transcript|(?:chat[-_ ]?)?history)\s*\}?\}",
    re.IGNORECASE,
)
_THINKING: Final = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
# Some chat templates open the thinking for the model: only its end is in the answer.
_THINKING_END: Final = re.compile(r"\A(?:(?!<think).)*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FRAME: Final = re.compile(
    r"\s*(?:\[/?[0-9a-z]{6,12}\]|none|(?:#+ *|the )(?:new |updated |previous |next )*(?:summary|messages?)"
    r"(?: of the [\w ]{3,30}| to summari[sz]e)?(?: (?:was|is|are))?)\s*[.:]*\s*\Z",
    re.IGNORECASE,
)
"""A line that is a mark, a heading of the request (or a free version of one), or the word for "no summary yet"."""

_NUMBER: Final = re.compile(r"(?<![\w.])\d[\d,.:/-]*\d|(?<![\w.])\d")
_ANY_NUMBER: Final = re.compile(r"\d[\d,.:/-]*\d|\d")
_RULE: Final = re.compile(r"\b(?:always|never|must(?: not)?|do not|don't)\b", re.IGNORECASE)
_OPENING: Final = re.compile(
    r"(?:sure|certainly|of course|i'm sorry|i am sorry|as an ai)\b|(?:great|sorry|yes|no)[,!.]|here is the answer"
)
_ADVICE: Final = re.compile(r"you can\b|you should\b|to do this\b|i (?:can|will|would)\b")
_FACT: Final = re.compile(r"\d|[/\\_]\w|@")
_NAME: Final = re.compile(r"[^\W\d_][\w-]+")


LEAST_SAID_TOKENS: Final = 8
LEAST_LINE_CHARS: Final = 80
"""What is left of an answer that only repeated itself must say at least this much."""


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
    text = " ".join(
        [said.text.strip(), *(_part(p) for p in extra.get("content") or () if not isinstance(p.get("text"), str))]
    ).strip()
    if said.role in ("tool", "function"):
        name = names.get(str(extra.get("tool_call_id"))) or extra.get("name") or "tool"
        yield f"Result of {name}: {text}"
        return
    if not text and isinstance(audio := extra.get("audio"), Mapping):
        text = str(audio.get("transcript") or "[audio]")
    if text:
        yield f"{who or said.role}{' ' + str(extra['name']) if extra.get('name') else ''}: {text}"
    if extra.get("refusal"):
        yield f"Assistant refused: {extra['refusal']}"
    legacy = extra.get("function_call")
    for call in (*(extra.get("tool_calls") or ()), *([{"function": legacy}] if isinstance(legacy, Mapping) else [])):
        function = call.get("function") or call.get("custom") or {}
        name = str(function.get("name") or "tool")
        names[str(call.get("id"))] = name
        arguments = function.get("arguments", function.get("input", ""))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        yield f"Assistant called {name}({arguments})"


def _part(part: Mapping[str, Any]) -> str:
    """What stands for a part that has no text: what it says in words, else what it is."""
    kind = str(part.get("type"))
    held = part.get(kind)
    if kind == "refusal":
        return f"(refused: {held})"
    if isinstance(part.get("transcript"), str):
        return str(part["transcript"])
    name = held.get("filename") if isinstance(held, Mapping) else part.get("filename")
    shown = {"image_url": "image", "input_image": "image", "input_audio": "audio", "input_file": "file"}.get(kind, kind)
    return f"[{shown} {name}]" if isinstance(name, str) else f"[{shown}]"


def prompt_warnings(prompt: str) -> list[str]:
    """Placeholders that look meant and are not: ``{messages}``, ``{{ history }}``."""
    out = []
    for match in _NEAR_MISS.finditer(prompt):
        if match.group() not in (PREVIOUS, MESSAGES):
            meant = (
                MESSAGES
                if match.group(1).lower().startswith(("message", "conv", "trans", "hist", "chat"))
                else PREVIOUS
            )
            out.append(f"summary_prompt has {match.group()!r}, which is kept as it stands; did you mean {meant!r}?")
    return out


def request_messages(prompt: str, *, previous: str | None, lines: str, mark: str) -> list[dict[str, str]]:
    """The messages of a fold's call.

    Args:
        prompt: the instruction. With `PREVIOUS` or `MESSAGES` in it, these are filled in, literally and once each,
            and a missing one has its section appended; without, both go into the user message.
        previous: the previous summary's text, or None.
        lines: the transcript.
        mark: random text that fences both; "" leaves the fence out, for models so small that they copy it.
    """
    opened, closed = (f"[{mark}]\n", f"\n[/{mark}]") if mark else ("", "")
    previous_section = f"### Previous summary\n{opened}{without_mark(previous or NO_PREVIOUS, mark=mark)}{closed}"
    message_section = f"### Messages to summarize\n{opened}{without_mark(lines, mark=mark)}{closed}"
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
    prompt: str = "",
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
        prompt: the instruction; lines that the answer copied from it are left out.

    Raises:
        SummaryError: empty, one line repeated, no whole sentence within the budget, or not shorter than what it
            replaces.
    """
    text = _without_frame(_without_thinking(answer), prompt=prompt)
    if not re.search(r"\w", text):
        raise SummaryError("the summary model wrote nothing", reason="empty", text=answer)
    # A line that was ended is whole, whatever it ends with.
    text = text.strip() + ("\n" if text.rstrip(" \t").endswith("\n") else "")
    text, repeating = without_repetition(text)
    nothing_else = count(text) < LEAST_SAID_TOKENS or ("\n" not in text.strip() and len(text) < LEAST_LINE_CHARS)
    quality = "full"
    if cut or repeating or count(text.strip()) > max_tokens:
        text = cut_at_sentence(text, limit_tokens=max_tokens, count=count)
        quality = "cut"
    text = text.strip()
    if repeating and (nothing_else or not text):
        raise SummaryError(
            "the summary model repeated itself and said next to nothing else", reason="repeating", text=answer
        )
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


def _without_frame(answer: str, *, prompt: str) -> str:
    """The answer without lines of the request's own frame: its headings, its marks, its instruction.

    Small models copy them; a "summary" of nothing else must not cover turns.
    """
    frame = {line.strip().casefold() for line in f"{prompt}\n{CLOSING}".split("\n") if line.strip()}
    lines = answer.split("\n")
    kept = [line for line in lines if line.strip().casefold() not in frame and not _FRAME.match(line)]
    return answer if len(kept) == len(lines) else "\n".join(kept)


def _without_thinking(answer: str) -> str:
    """The answer without what a reasoning model thought first, also where that never ended."""
    text = answer
    while match := _THINKING.match(text) or _THINKING_END.match(text):
        text = text[match.end() :]
    return text


def _flags(text: str, *, source: str, previous: str | None, last_user: str) -> Iterator[str]:
    known = f"{source}\n{previous or ''}"
    if _answers(text, last_user):
        yield "answers_last_message"
    if any(_RULE.search(line) and not _RULE.search(known) for line in text.split("\n")):
        yield "invented_rule"
    numbers = {_plain(n) for n in _ANY_NUMBER.findall(known)} | set(re.findall(r"\d+", known))
    if any(_plain(n) not in numbers and len(_plain(n)) > 1 for n in _NUMBER.findall(text)):
        yield "unsupported_number"


def _answers(text: str, last_user: str) -> bool:
    """Whether the text talks to the user instead of about the conversation."""
    opening = text[:80].casefold().replace("’", "'")
    asked = last_user.strip().endswith(("?", "？", "؟"))
    return bool(_OPENING.match(opening) or (asked and _ADVICE.match(opening)))


def _plain(number: str) -> str:
    return number.replace(",", "").rstrip(".:/-")


# -- without a model --------------------------------------------------------------------------


def extract(turns: Sequence[PastTurn], *, previous: str | None, limit_tokens: int, count: Callable[[str], int]) -> str:
    """A summary without a model: the lines that hold names, numbers and dates, newest first, within a budget.

    User lines and tool results are taken (the assistant's where there are none); the previous summary gives its own
    sentences after them. The result is in the order in which things were said.

    Returns:
        At least one line, also where nothing holds a fact; "" only if nothing was said or the budget holds not even a
        cut line.
    """
    shown = [line for turn in turns for line in transcript([turn])]
    said = [line for line in shown if line.startswith(("User", "Result of "))] or shown
    old = sentences(previous or "")
    pool = [*old, *map(one_line, said)]
    with_fact = [(n, line) for n, line in enumerate(pool) if n < len(old) or _holds_fact(line.split(": ", 1)[-1])]
    chosen: dict[int, str] = {}
    left = limit_tokens
    for n, line in reversed(with_fact or list(enumerate(pool))):
        if chosen and len(line.split()) >= left:
            continue  # a word is a token at least: most lines that do not fit need not be counted to tell
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


def _holds_fact(text: str) -> bool:
    """Whether a line holds a number, a path, an address or a name.

    A name is a capital after the first word of a sentence; in scripts without capitals nothing tells it, so that every
    line of theirs may hold one.
    """
    if _FACT.search(text):
        return True
    for match in _NAME.finditer(text):
        first = match.group()[0]
        inside = text[: match.start()].rstrip()
        if not (first.islower() or first.isupper()) or (first.isupper() and inside and inside[-1] not in ".!?"):
            return True
    return False
