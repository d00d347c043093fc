"""The command line: ``voxnb demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from voxnb import __version__
from voxnb.errors import CredentialsError, ParameterError, VoxnbError

OK, PROBLEM, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors go to standard error.

    Returns:
        0 if all went well, 1 if something failed, 2 for wrong arguments, 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return USAGE
    try:
        return _demo(options)
    except KeyboardInterrupt:
        print("\nstopped; what was said is stored, run it again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; nothing more can be written, not even at exit.
        sys.stderr.close()
        return OK
    except (CredentialsError, ParameterError) as error:
        print(f"voxnb: {error}", file=sys.stderr)
        return USAGE
    except VoxnbError as error:
        print(f"voxnb: {type(error).__name__}: {error}", file=sys.stderr)
        return PROBLEM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voxnb", description="Conversations with OpenAI-style models, with a memory that loses nothing."
    )
    parser.add_argument("--version", action="version", version=f"voxnb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="play a scripted conversation that folds while you watch; needs no key",
        description="Play a scripted conversation under a small token budget: replies stream, the oldest turns are "
        "folded into summaries, and at the end come the tables and the verdict of verify(). Ctrl-C is safe: the next "
        "run goes on where this one stopped.",
    )
    demo.add_argument("--base-url", default="local", help="an OpenAI-compatible server (default: the embedded model)")
    demo.add_argument("--model", help="model there; the key is taken from OPENAI_API_KEY")
    demo.add_argument("--store", metavar="PATH", help="SQLite file (default: VOXNB_STORE or .voxnb/store.db)")
    demo.add_argument("--lines", type=_count, metavar="N", help="play only the first N lines")
    return parser


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines; give 1 or more")
    return number


def _demo(options: argparse.Namespace) -> int:
    from voxnb import demo

    holds = demo.run(base_url=options.base_url, model=options.model, store=options.store, lines=options.lines)
    return OK if holds else PROBLEM


if __name__ == "__main__":
    sys.exit(main())
