"""The command line. A command calls methods of `Conversation` and `ContextStore` and prints what they give."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from voxnb.cli.output import give_up, lenient, say_error
from voxnb.cli.parser import build
from voxnb.errors import CredentialsError, ParameterError, VoxnbError
from voxnb.terminal.words import in_shell

OK: Final = 0
PROBLEM: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors go to standard error.

    Returns:
        0 if all went well (also where the reader of a pipe has seen enough), 1 if something failed or `verify` found
        problems, 2 for wrong arguments, 130 after Ctrl-C.
    """
    parser = build()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return USAGE
    if sys.stdout is None:  # type: ignore[unreachable,unused-ignore]  # closed before the start
        say_error("standard output is closed, so nothing can be shown; send it to /dev/null to run all the same")
        return PROBLEM
    lenient(sys.stdout)
    lenient(sys.stderr)
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        say_error(options.when_stopped)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        give_up(sys.stdout)
        return OK
    except (CredentialsError, ParameterError) as error:
        say_error(in_shell(str(error)))
        return USAGE
    except VoxnbError as error:
        kind = "" if type(error) is VoxnbError else f"{type(error).__name__}: "
        say_error(kind + in_shell(str(error)))
        return PROBLEM
    except OSError as error:
        # The store's and the network's have names of their own: this is the output's.
        give_up(sys.stdout)
        say_error(f"cannot write to standard output: {error.strerror or error}")
        return PROBLEM
