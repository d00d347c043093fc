"""Commands that talk to a model: chat and demo."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from voxnb.cli import arguments, output
from voxnb.errors import ParameterError, VoxnbError

if TYPE_CHECKING:
    from voxnb.clients.chat import ChatCompletionsAPIClient
    from voxnb.memory.policy import ContextPolicy
    from voxnb.terminal.talk import Talk

NAME: Final = "chat"
"""The conversation of who names none."""

POLICY: Final = ("window_tokens", "fold_at_tokens", "keep_last_turns")

CHAT_EPILOG: Final = """\
examples:
  voxnb chat --base-url local
  voxnb chat --model gpt-4o-mini --conversation iris --instructions "You are terse."
  voxnb chat --model llama3.2 --base-url ollama
  echo "Hi" | voxnb chat --base-url local
  voxnb chat --base-url local < question.txt > answer.txt

In a terminal: Enter sends, Alt-Enter or \\ at the end of a line begins a new one, the arrow keys bring back what was
said before. Ctrl-C stops the running reply (what had come is kept) or clears the line, Ctrl-D leaves. /help lists the
commands (/context, /fold, /fork, /undo …); a line that begins with // says a slash.

From a pipe: all of it is one message, whatever is in it, and only the reply is printed. With --lines each line is a
message or a command, as if it were typed.

The key is taken from OPENAI_API_KEY, which goes to api.openai.com or the host of OPENAI_BASE_URL and nowhere else.
"""


def add(commands: Any) -> None:
    """Add them to the parser."""
    p = commands.add_parser(
        "chat",
        help="talk to a model, with a memory",
        description="Talk to a model. The conversation is kept in the store and goes on where it was.",
        epilog=CHAT_EPILOG,
    )
    p.add_argument("--model", help="the model; the embedded one needs none")
    p.add_argument(
        "--base-url", metavar="URL", help='an OpenAI-compatible server, "local" (the embedded model) or "ollama"'
    )
    p.add_argument("--conversation", metavar="NAME", help=f"name or id (default: {NAME}); made if it is not there")
    p.add_argument("--new", action="store_true", help="a new conversation; with a NAME that must not be taken")
    p.add_argument("--instructions", metavar="TEXT", help="what the model is told first, from now on")
    p.add_argument(
        "--summary-model", metavar="M", help="who writes the summaries (default: gpt-4o at OpenAI, else the model)"
    )
    p.add_argument("--max-tokens", type=arguments.count, metavar="N", help="longest reply")
    p.add_argument("--temperature", type=arguments.temperature, metavar="T", help="of the replies")
    p.add_argument("--window-tokens", type=arguments.count, metavar="N", help="most that a request may hold")
    p.add_argument("--fold-at-tokens", type=arguments.count, metavar="N", help="fold the oldest turns beyond this")
    p.add_argument("--keep-last-turns", type=arguments.count, metavar="N", help="never fold the newest N")
    p.add_argument("--lines", action="store_true", help="from a pipe: each line is a message or a command")
    arguments.store_option(p)
    p.set_defaults(run=chat)

    p = commands.add_parser(
        "demo",
        help="play a scripted conversation that folds while you watch; needs no key",
        description="Play a scripted conversation under a small token budget: replies stream, the oldest turns are "
        "folded into summaries, and at the end come the tables and the verdict of verify(). Ctrl-C is safe: the next "
        "run goes on where this one stopped.",
    )
    p.add_argument(
        "--base-url",
        metavar="URL",
        help="an OpenAI-compatible server (default: the embedded model; with --model OpenAI's)",
    )
    p.add_argument("--model", help="model there; the key is taken from OPENAI_API_KEY")
    p.add_argument("--lines", type=arguments.count, metavar="N", help="play only the first N lines")
    arguments.store_option(p)
    p.set_defaults(run=demo, when_stopped="stopped; what was said is stored, run it again to go on")


def demo(options: argparse.Namespace) -> int:
    """``voxnb demo``."""
    from voxnb import demo as played

    holds = played.run(base_url=options.base_url, model=options.model, store=options.store, lines=options.lines)
    return 0 if holds else 1


# -- chat -------------------------------------------------------------------------------------


def chat(options: argparse.Namespace) -> int:
    """``voxnb chat``."""
    from voxnb.terminal import prompt
    from voxnb.terminal.screen import Screen
    from voxnb.terminal.talk import Talk

    typed = prompt.fits(sys.stdin, sys.stdout)
    # Before anything is opened: a pipe without text asks nothing.
    text = "" if typed else _piped()
    client = _client(options, None)
    screen = Screen(sys.stdout)
    talk = Talk(
        client,
        screen=screen,
        aside=screen if typed or sys.stderr is None else Screen(sys.stderr),
        request={
            name: getattr(options, name) for name in ("max_tokens", "temperature") if getattr(options, name) is not None
        },
        reopen=lambda uid: _client(options, uid),
    )
    try:
        if typed:
            _typed(talk)
        else:
            _answer(talk, text, lines=options.lines)
    finally:
        talk.close()
    return 0


def _client(options: argparse.Namespace, uid: str | None) -> ChatCompletionsAPIClient:
    """The client of these options, in its own conversation or in the one with that id."""
    import voxnb.clients.chat as clients

    new = options.new and uid is None
    named = options.conversation or (None if options.new else NAME)
    given: dict[str, Any] = {
        "base_url": options.base_url,
        "conversation": uid or named,
        "store": options.store,
        "instructions": options.instructions,
        "summary_model": options.summary_model,
        "if_exists": "fail" if new else None,
        "policy": _policy(options),
    }
    client = clients.chat(options.model, **{name: value for name, value in given.items() if value is not None})
    if client.planner_model() is None:
        client.close()
        raise ParameterError("no model: name one with --model, such as --model gpt-4o-mini", name="model")
    return client


def _policy(options: argparse.Namespace) -> ContextPolicy | None:
    from voxnb.memory.policy import ContextPolicy

    given = {name: getattr(options, name) for name in POLICY if getattr(options, name) is not None}
    return ContextPolicy(**given) if given else None


def _typed(talk: Talk) -> None:
    """With a person at a terminal."""
    from voxnb.terminal import commands
    from voxnb.terminal.prompt import Prompt

    client, screen = talk.client, talk.screen
    state = f"goes on after turn {len(talk.conversation)}" if talk.conversation.exists else "new"
    screen.line((f"{talk.conversation.name}", "1"), f" ({state}) · {client.planner_model()} at {client.host}")
    screen.line(("/help lists the commands, Ctrl-D leaves", "2"))
    talk.run(
        Prompt(
            screen.rendered(("> ", "1;32")),
            commands=commands.meanings(),
            paths=commands.PATHS,
            past=talk.past,
        )
    )


def _answer(talk: Talk, text: str, *, lines: bool) -> None:
    """With a pipe."""
    from voxnb.terminal.talk import Lines

    if lines:
        talk.run(Lines(text), strict=True)
    else:
        talk.say(text)


def _piped() -> str:
    """All that comes on standard input, as text.

    Raises:
        VoxnbError: nothing came, or something else than text.
    """
    stream: Any = sys.stdin
    if stream is None:
        raise VoxnbError("standard input is closed; type in a terminal, or pipe a message in")
    if stream.isatty():
        output.say_error("standard output is no terminal: type a message, then Ctrl-D")
    read: Callable[[], bytes] = stream.buffer.read
    data = read()
    try:
        text = data.decode(stream.encoding or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise VoxnbError(
            f"standard input is not {error.encoding} text (byte {data[error.start]:#04x} at {error.start:,}); convert it first"
        ) from error
    if not text.strip():
        raise VoxnbError("standard input is empty: there is nothing to say")
    return text.rstrip("\r\n")
