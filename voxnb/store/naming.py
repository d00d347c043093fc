"""How a turn is named by users: by number, id, `Turn` or `Reply`."""

from __future__ import annotations

import operator
import sqlite3
from typing import Any

from voxnb.errors import ConversationError
from voxnb.store import paths
from voxnb.store.rows import ConversationRow


def turn_on_path(c: sqlite3.Connection, row: ConversationRow, which: Any) -> tuple[int, int]:
    """(seq, row id) of a turn of a conversation's current path.

    Raises:
        ConversationError: it is none.
    """
    if hasattr(which, "__index__") and not isinstance(which, bool):  # also the numbers of a DataFrame
        which = operator.index(which)
        seq = which if which > 0 else row.last_seq + 1 + which
        turn = paths.turn_at(c, row.branch, seq) if 0 < seq <= row.last_seq else None
        if turn is None:
            raise ConversationError(f"there is no turn {which}; {row.name!r} has {row.last_seq}")
        return turn.seq, turn.id
    uid, seq, key, _ = _by_id(c, row, which)
    on_path = paths.turn_at(c, row.branch, seq)
    if on_path is None or on_path.id != key:
        raise ConversationError(f"turn {uid!r} is not on the current path of {row.name!r} (undone, or of another)")
    return seq, key


def turn_of(c: sqlite3.Connection, row: ConversationRow, which: Any) -> int:
    """Row id of a turn of a conversation: of its path, or one by id that was undone or asked again.

    Raises:
        ConversationError: it is none.
    """
    if not (hasattr(which, "__index__") and not isinstance(which, bool)):
        _, _, key, owner = _by_id(c, row, which)
        if owner == row.id:
            return key
    return turn_on_path(c, row, which)[1]


def _by_id(c: sqlite3.Connection, row: ConversationRow, which: Any) -> tuple[Any, int, int, int]:
    uid = which if isinstance(which, str) else getattr(which, "turn", None) or getattr(which, "id", None)
    found = c.execute(
        "SELECT t.seq, t.id, b.conversation FROM turn t JOIN branch b ON b.id = t.branch WHERE t.uid = ?", (uid,)
    ).fetchone()
    if found is None:
        raise ConversationError(f"{which!r} is no turn of {row.name!r}; name it by number, id, Turn or Reply")
    return uid, int(found[0]), int(found[1]), int(found[2])
