"""Where a search has to look: stretches of message rows, newest first.

A word may be in every message while only few of them are wanted: those of a time, or of a path whose messages lie
among a million others. Walking the word's list would read them all. So the rows that can be wanted are told
beforehand, from small indexes, as a few stretches of row ids.

Rule: a stretch may hold rows that are not wanted (the statement looks at each), and never lacks one that is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

LAST_ROW: Final = (1 << 63) - 1
BLOCK_BITS: Final = 10
"""A zone is 1,024 message rows."""

CLOSE_ROWS: Final = 2_000
"""Stretches nearer than this are walked as one: another look into the index costs as much."""

MOST_STRETCHES: Final = 32
COUNTED_TURNS: Final = 20_000
"""A shared part of a path with more turns is not measured; what follows it in its branch is looked at in vain."""

Stretch = tuple[int, int]
"""First and last message row."""

EVERYWHERE: Final[tuple[Stretch, ...]] = ((0, LAST_ROW),)

PARTS: Final = (
    "SELECT l.first_seq, l.last_seq, l.source, l.source = p.branch, b.conversation FROM conversation p "
    "JOIN lineage l ON l.branch = p.branch JOIN branch b ON b.id = l.source WHERE p.id = ? ORDER BY l.first_seq"
)

# The first message of a turn is written with the turn, so that it comes after those of earlier turns of its branch.
FIRST_ROW: Final = "SELECT min(m.id) FROM message m WHERE m.turn = (SELECT id FROM turn WHERE branch = ? AND seq >= ? ORDER BY seq LIMIT 1)"

# Its last one may come late: a reply, while others have begun.
NEWEST_ROW: Final = (
    "SELECT max(m.id) FROM turn t JOIN message m ON m.turn = t.id WHERE t.branch = ? AND t.seq BETWEEN ? AND ?"
)

ZONES: Final = "SELECT block FROM message_zone WHERE until_at > :since AND since_at < :until ORDER BY block DESC"


def of_path(c: sqlite3.Connection, conversation: int) -> tuple[list[int], list[Stretch]]:
    """Whose messages a conversation's path is made of, and where they are; nothing if there is none."""
    owners: dict[int, None] = {}
    found: list[Stretch] = []
    for first_seq, last_seq, source, own, owner in c.execute(PARTS, (conversation,)).fetchall():
        (first,) = c.execute(FIRST_ROW, (source, first_seq)).fetchone()
        if first is None:
            continue  # nothing was said in it yet
        last = LAST_ROW
        if not own and last_seq - first_seq < COUNTED_TURNS:
            (last,) = c.execute(NEWEST_ROW, (source, first_seq, last_seq)).fetchone()
        owners[owner] = None
        found.append((first, first - 1 if last is None else last))
    return list(owners), joined(found)


def of_time(c: sqlite3.Connection, since: float | None, until: float | None) -> list[Stretch]:
    """Where messages of a time are."""
    bounds = {"since": -float("inf") if since is None else since, "until": float("inf") if until is None else until}
    blocks = (block for (block,) in c.execute(ZONES, bounds).fetchall())
    return joined((block << BLOCK_BITS, (block + 1 << BLOCK_BITS) - 1) for block in blocks)


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same rows in few stretches, newest first.

    >>> joined([(1, 10), (11, 20), (9_000, 9_500), (9_100, 9_200)])
    [(9000, 9500), (1, 20)]
    """
    out: list[Stretch] = []
    for first, last in sorted(stretches):
        if out and first - out[-1][1] < CLOSE_ROWS:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    if len(out) > MOST_STRETCHES:
        # The oldest ones as one: the newest are the likelier ones.
        rest = out[: len(out) - MOST_STRETCHES + 1]
        out[: len(rest)] = [(rest[0][0], rest[-1][1])]
    return out[::-1]


def both(one: Iterable[Stretch], other: Iterable[Stretch]) -> list[Stretch]:
    """Rows that are in both, newest first.

    >>> both([(50, 90), (1, 30)], [(20, 60)])
    [(50, 60), (20, 30)]
    """
    others = list(other)
    cut = ((max(a, c), min(b, d)) for a, b in one for c, d in others)
    return sorted((s for s in cut if s[0] <= s[1]), reverse=True)
