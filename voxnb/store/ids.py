"""Public ids: sortable by time, unique across machines."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from itertools import count, islice
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, lower case: sorts as it counts, no letter that looks like a digit."""

_PAIRS: Final = [a + b for a in ALPHABET for b in ALPHABET]

CHANCE_BITS: Final = 77
"""Of an id, those below the milliseconds."""

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A new id: ``prefix``, a dash, 48 bits of milliseconds and 77 of chance, base 32.

    Ids made one after another in a process sort in that order, also within a millisecond.

    >>> a, b = new_id("t"), new_id("t")
    >>> a < b, len(a), a[:2]
    (True, 27, 't-')
    """
    return written(prefix, _number(1))


def new_ids(prefix: str, count: int) -> list[str]:
    """So many new ids at once, in order; all but the first cost next to nothing.

    >>> len(set(new_ids("e", 3)))
    3
    """
    return list(islice(following(prefix, _number(count), 0), count))


def _number(taken: int) -> int:
    """The number of the next id, where so many from it on are taken."""
    global _last  # noqa: PLW0603 - the order within a process needs one place
    now = time.time_ns() // 1_000_000
    with _lock:
        # Within a millisecond they count on from the first one's chance, which costs a look into the system's.
        if now > _last >> CHANCE_BITS:
            value = now << CHANCE_BITS | (int.from_bytes(os.urandom(10), "big") >> 3)
        else:
            value = _last + 1
        _last = value + taken - 1
    return value


def _in_child() -> None:
    """A fork draws its own chance, and the parent's lock may be held by a thread that it does not have."""
    global _last, _lock
    _last, _lock = 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def written(prefix: str, value: int) -> str:
    """An id by its number of 125 bits; numbers sort as their ids do."""
    # Two digits at a time, of two halves that are small numbers: several ids are made per turn.
    pair, high, low = _PAIRS, value >> 60, value & 0xFFF_FFFF_FFFF_FFFF
    return (
        f"{prefix}-{ALPHABET[high >> 60]}{pair[high >> 50 & 1023]}{pair[high >> 40 & 1023]}{pair[high >> 30 & 1023]}"
        f"{pair[high >> 20 & 1023]}{pair[high >> 10 & 1023]}{pair[high & 1023]}{pair[low >> 50]}{pair[low >> 40 & 1023]}"
        f"{pair[low >> 30 & 1023]}{pair[low >> 20 & 1023]}{pair[low >> 10 & 1023]}{pair[low & 1023]}"
    )


def derived_number(seconds: float | None, *facts: str) -> int:
    """The number of an id that the same facts always get: a time (0 where it is not known) and a hash.

    >>> written("k", derived_number(0, "a file", "its line")) == written("k", derived_number(0, "a file", "its line"))
    True
    """
    said = hashlib.blake2b("\0".join(facts).encode("utf-8", "surrogatepass"), digest_size=10).digest()
    milliseconds = max(0, min(int((seconds or 0.0) * 1000), (1 << 48) - 1))
    return (milliseconds << CHANCE_BITS) | (int.from_bytes(said, "big") >> 3)


def following(prefix: str, number: int, first: int) -> Iterator[str]:
    """The ids of the numbers after a derived one, from the ``first``-th on, with the same time: a conversation's turns.

    >>> ids = following("t", derived_number(0, "a conversation"), 1)
    >>> next(ids) != next(ids)
    True
    """
    mask = (1 << CHANCE_BITS) - 1
    begin, stem = number & ~mask, ""
    for n in count(first):
        value = begin | ((number + n) & mask)
        tail = value & 0xFFFFF
        # All but the last four digits change once in a million.
        if not stem or not tail:
            stem = written(prefix, value)[:-4]
        yield f"{stem}{_PAIRS[tail >> 10]}{_PAIRS[tail & 1023]}"
