"""Public ids: sortable by time, unique across machines."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, lower case: sorts as it counts, no letter that looks like a digit."""

_PAIRS: Final = [a + b for a in ALPHABET for b in ALPHABET]
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A new id: ``prefix``, a dash, 48 bits of milliseconds and 77 of chance, base 32.

    Ids made one after another in a process sort in that order, also within a millisecond.

    >>> a, b = new_id("t"), new_id("t")
    >>> a < b, len(a), a[:2]
    (True, 27, 't-')
    """
    global _last  # noqa: PLW0603 - the order within a process needs one place
    value = (time.time_ns() // 1_000_000 << 77) | (int.from_bytes(os.urandom(10), "big") >> 3)
    with _lock:
        value = max(value, _last + 1)
        _last = value
    return written(prefix, value)


def written(prefix: str, value: int) -> str:
    """An id by its number of 125 bits; numbers sort as their ids do."""
    # Two digits at a time: several ids are made per turn.
    digits = "".join([_PAIRS[value >> shift & 1023] for shift in range(110, -1, -10)])
    return f"{prefix}-{ALPHABET[value >> 120]}{digits}"


CHANCE_BITS: Final = 77
"""Of an id, those below the milliseconds."""


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
