"""The commands of a chat. Each calls one verb of `Conversation` or `ContextStore` and shows what it gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import ConversationError
from voxnb.terminal.budget import show_plan, turns_named
from voxnb.terminal.text import clip, one_line

if TYPE_CHECKING:
    from voxnb.terminal.talk import Talk

SHOWN_HITS: Final = 20


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        run: takes the chat and what stands behind the name.
        takes: what stands there, for the help.
        what: what it does, in a few words.
    """

    run: Callable[[Talk, str], None]
    takes: str
    what: str


def context(talk: Talk, _argument: str) -> None:
    """What would be sent with the next message."""
    show_plan(talk.screen, talk.conversation.plan())


def fold(talk: Talk, argument: str) -> None:
    """Fold now; a turn's number folds up to it."""
    through = whole(argument, "fold") if argument else None
    summary = talk.conversation.fold(through).result()
    if summary is None:
        talk.tell("nothing to fold: only the newest turns are left, which stay verbatim")
    else:
        talk.tell_summary(summary)


def unfold(talk: Talk, _argument: str) -> None:
    """Take the newest summary back."""
    summary = talk.conversation.unfold()
    if summary is None:
        talk.tell("there is no summary to take back")
    else:
        which = turns_named(summary.first_seq, summary.last_seq)
        talk.tell(f"{which} sent verbatim again; the summary stays in the store")


def fork(talk: Talk, argument: str) -> None:
    """Go on in a copy."""
    found = re.fullmatch(r"(?P<name>.*?)(?:\s*\bat\s+(?P<at>-?\d+))?", argument, re.DOTALL)
    assert found is not None  # both parts may be empty
    at = -1 if found["at"] is None else int(found["at"])
    before = talk.conversation
    other = before.fork(at=at, name=found["name"].strip() or None)
    talk.go_to(other)
    shared = turns_named(1, len(other)) if len(other) else "no turn"
    talk.tell(f"now in {other.name!r}, which shares {shared} with {before.name!r}")


def undo(talk: Talk, argument: str) -> None:
    """Go back before the last turn, or the last so many."""
    count = whole(argument, "undo") if argument else 1
    conversation = talk.conversation
    last = len(conversation)
    conversation.undo(count)
    which = turns_named(last - count + 1, last)
    talk.tell(f"{which} taken out of the context, and still in the store")


def retry(talk: Talk, _argument: str) -> None:
    """Ask the last turn again."""
    talk.stream(talk.conversation.retry)


def summary(talk: Talk, _argument: str) -> None:
    """The summary that is sent."""
    found = talk.conversation.summary()
    if found is None:
        talk.tell("nothing was folded yet; everything is sent verbatim")
        return
    talk.screen.line((repr(found).partition("\n")[0].strip("<>"), "1"))
    talk.screen.block(found.text)


def pin(talk: Talk, argument: str) -> None:
    """Keep a turn verbatim."""
    turn = whole(argument, "pin")
    talk.conversation.pin(turn)
    talk.tell(f"turn {talk.conversation.number_of(turn)} stays verbatim in every request")


def unpin(talk: Talk, argument: str) -> None:
    """No longer keep it."""
    turn = whole(argument, "unpin")
    was = talk.conversation.unpin(turn)
    number = talk.conversation.number_of(turn)
    talk.tell(f"turn {number} is no longer pinned" if was else f"turn {number} was not pinned")


def search(talk: Talk, argument: str) -> None:
    """Messages of this conversation that hold the words."""
    if not argument:
        raise ConversationError("what shall I look for? /search words")
    found = talk.conversation.search(argument, limit=SHOWN_HITS)
    rows = [[str(row.turn_seq), str(row.role), str(row.snippet)] for row in found.itertuples(index=False)]
    if rows:
        talk.screen.table(("turn", "role", "text"), rows, right=("turn",), flexible=("text",))
    else:
        talk.tell("nothing found in this conversation")


def export(talk: Talk, argument: str) -> None:
    """Write the conversation to a file."""
    if not argument:
        raise ConversationError(
            "where to? /export path, whose suffix says the format (.jsonl, .csv, .parquet, .md, .html)"
        )
    talk.tell(str(talk.conversation.export(argument)))


def show_help(talk: Talk, _argument: str) -> None:
    """What can be typed."""
    rows = [[f"/{name} {command.takes}".rstrip(), command.what] for name, command in COMMANDS.items()]
    rows += [[typed, what] for typed, what in KEYS.items()]
    wide = max(len(typed) for typed, _ in rows)
    for typed, what in rows:
        talk.screen.line(
            (f"  {typed:<{wide}}", "1"), f"  {clip(one_line(what), max(10, talk.screen.columns - wide - 4))}"
        )


def leave(talk: Talk, _argument: str) -> None:
    """End the chat."""
    talk.leaving = True


def whole(argument: str, command: str) -> int:
    """The number of a turn, or of turns.

    Raises:
        ConversationError: it is none.
    """
    try:
        return int(argument)
    except ValueError:
        raise ConversationError(f"/{command} takes a number, not {argument!r}; see /help") from None


COMMANDS: Final[Mapping[str, Command]] = {
    "context": Command(context, "", "what the next request holds, and what it costs"),
    "fold": Command(fold, "[N]", "make a summary now, of the turns up to N"),
    "unfold": Command(unfold, "", "take the newest summary back"),
    "summary": Command(summary, "", "show the summary that is sent"),
    "fork": Command(fork, "[NAME] [at N]", "go on in a copy that shares the turns up to N"),
    "undo": Command(undo, "[N]", "take the last turn (or the last N) out of the context"),
    "retry": Command(retry, "", "ask the last turn again"),
    "pin": Command(pin, "N", "keep turn N verbatim"),
    "unpin": Command(unpin, "N", "no longer keep it"),
    "search": Command(search, "WORDS", "messages of this conversation that hold the words"),
    "export": Command(export, "PATH", "write the conversation to a file; its suffix says how (.jsonl, .csv, .md …)"),
    "help": Command(show_help, "", "this list"),
    "quit": Command(leave, "", "leave (Ctrl-D does too)"),
}

ALSO: Final[Mapping[str, str]] = {"exit": "quit", "q": "quit", "?": "help", "h": "help"}
"""Other names for some of them."""

PATHS: Final = ("export",)
"""Commands whose argument is a path."""

KEYS: Final[Mapping[str, str]] = {
    "//text": "say a message that begins with a slash",
    "Alt-Enter": "a new line in the message; so does \\ before Enter",
    "Ctrl-C": "stop the running reply, or clear the line",
    "Ctrl-D": "leave",
}
"""What else the help lists."""


def meanings() -> dict[str, Any]:
    """Name → what it does, for completion."""
    return {name: command.what for name, command in COMMANDS.items()}
