"""The parser: every command with its options, its help and its examples."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any, Final, NoReturn

from voxnb import __version__
from voxnb.cli import calling, checking, moving, phoning, reading, serving, talking
from voxnb.params import did_you_mean

HELP_COLUMNS: Final = 78

EXAMPLES: Final = """\
examples:
  voxnb chat --base-url local                 talk to the embedded model; no key, no account
  voxnb chat --model gpt-4o-mini              with a key in OPENAI_API_KEY
  echo "Hi" | voxnb chat --base-url local     one message, one reply
  voxnb conversations                         what the store holds
  voxnb explain chat 3                        exactly what was sent with turn 3
  voxnb doctor                                what works here, and what mends what does not
  voxnb search "red bicycle" --json           for other programs

The store is the file in VOXNB_STORE, else .voxnb/store.db at the project's root; --store PATH names another.
Exit status: 0 all went well, 1 something failed or verify found problems, 2 wrong arguments, 130 Ctrl-C.
"""


class Parser(argparse.ArgumentParser):
    """argparse, which names the nearest command for one that it does not know."""

    def __init__(self, **options: Any) -> None:
        # The description is wrapped here, so that the examples below the options may stay as they are.
        options["description"] = textwrap.fill(options["description"], HELP_COLUMNS)
        super().__init__(**{"formatter_class": _formatter, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Say what was wrong, and leave with 2."""
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong and "did you mean" not in message and "maybe you meant" not in message:
            message += did_you_mean(wrong[1], [name.strip(" '") for name in wrong[2].split(",")])
        super().error(message)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26)


def build() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="voxnb",
        description="Conversations with OpenAI-style models, with a memory that loses nothing.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"voxnb {__version__}")
    parser.set_defaults(when_stopped="stopped")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for room in (talking, calling, reading, moving, serving, phoning, checking):
        room.add(commands)
    return parser
