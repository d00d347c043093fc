"""Arguments that several commands take, and what may stand in them."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any


def store_option(parser: argparse.ArgumentParser) -> None:
    """``--store``."""
    parser.add_argument("--store", metavar="PATH", help="the SQLite file (default: VOXNB_STORE or .voxnb/store.db)")


def bridge_option(parser: argparse.ArgumentParser) -> None:
    """``--bridge``, of what can live in the bridge process."""
    parser.add_argument(
        "--bridge",
        choices=("loop", "process"),
        default="loop",
        help="where sound is moved: in this process, or in one of its own that nothing else can hold up (default: loop)",
    )


def json_option(parser: argparse.ArgumentParser, *, what: str) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help=f"for machines: {what}")


def window_options(parser: argparse.ArgumentParser) -> None:
    """``--since``, ``--until`` and ``--limit``."""
    parser.add_argument(
        "--since", metavar="TIME", help="only from this moment on, as 2026-07-31 or 2026-07-31T12:00 (UTC)"
    )
    parser.add_argument("--until", metavar="TIME", help="only before this moment")
    parser.add_argument("--limit", type=count, metavar="N", help="only the newest N")


def window(options: Any) -> dict[str, Any]:
    """The same as arguments of a table."""
    return {"since": options.since, "until": options.until, "limit": options.limit}


def count(text: str) -> int:
    """A whole number of 1 or more."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give a whole number of 1 or more")
    return number


def temperature(text: str) -> float:
    """A number of 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no temperature; give a number of 0 or more")
    return number


def port(text: str) -> int:
    """A TCP port, or 0 for a free one."""
    if not text.isdecimal() or not 0 <= int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 1 to 65535, or 0 for a free one")
    return int(text)


def turn(text: str) -> int | str:
    """A turn by number or id."""
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def turns(text: str) -> tuple[int, int | None]:
    """``a-b``, ``a-`` or ``a``: first and last turn; None is the newest.

    >>> turns("3"), turns("2-5"), turns("4-")
    ((3, 3), (2, 5), (4, None))
    """
    found = re.fullmatch(r"(\d+)(?:(-)(\d*))?", text.strip())
    first, last = (int(found[1]), int(found[3]) if found[3] else None) if found else (0, None)
    if found and not found[2]:
        last = first
    if first < 1 or (last is not None and last < first):
        raise argparse.ArgumentTypeError(f"{text!r} names no turns; write 3, 2-5 or 4-")
    return first, last


def pairs(text: str) -> dict[str, str]:
    """``a=b,c=d``; a comma in a name is no end where no ``=`` follows.

    >>> pairs("role=author,content=body"), pairs("content=said, and how")
    ({'role': 'author', 'content': 'body'}, {'content': 'said, and how'})
    """
    found: dict[str, str] = {}
    for piece in re.split(r",(?=[^,=]+=)", text):
        name, sign, value = piece.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise argparse.ArgumentTypeError(f"{piece!r} is no pair; write NAME=NAME, several with commas")
        found[name.strip()] = value.strip()
    return found
