"""Redacting: a turn's words taken out of everything that holds them, while its place in the conversation stays.

Rule 1: the turn keeps its id, number, role, state, token counts and content hashes, so that what was made of it can still
be accounted for. Its words are gone: from it, from copies of it, and from what quotes it without being a turn of its own.
Rule 2: a summary that was shown the words may quote them, and so may every later one of its chain: their text is blanked
too, and they are ``stale``. A head among them moves back to the newest summary that never saw the words: the turns
after it are sent verbatim again, without the redacted one, and folded anew when they are too many.
Rule 3: a redacted turn is never sent: it is a `Drop` with the reason ``redacted``. Sending a placeholder instead would have
the model answer to it, and would tear tool calls from their results.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voxnb.errors import ConversationError
from voxnb.memory.past import REDACTED, UNDER_WAY
from voxnb.messages import content_text
from voxnb.runtime import config
from voxnb.runtime.trace import SHORT_CHARS, TRACES, traces_holding
from voxnb.store import erase
from voxnb.store.database import Database
from voxnb.store.ending import close_expired
from voxnb.store.report import counted
from voxnb.store.rows import ConversationRow

FAMILY: Final = (
    "WITH RECURSIVE family (id) AS (VALUES (?) "
    "UNION SELECT s.conversation FROM family f JOIN branch b ON b.conversation = f.id JOIN lineage l ON l.branch = b.id "
    "JOIN branch s ON s.id = l.source "
    "UNION SELECT b.conversation FROM family f JOIN branch s ON s.conversation = f.id JOIN lineage l ON l.source = s.id "
    "JOIN branch b ON b.id = l.branch) SELECT id FROM family ORDER BY id"
)
"""Conversations that share turns with one, and those that share with them."""

COPIES: Final = (
    "SELECT DISTINCT o.id, o.state FROM turn t JOIN message m ON m.turn = t.id JOIN branch b ON b.conversation IN ({family}) "
    "JOIN turn o ON o.branch = b.id AND o.seq = t.seq JOIN message c ON c.turn = o.id AND c.position = m.position "
    "WHERE t.id = ? AND c.hash = m.hash"
)
"""The turn, and what says the same at its place elsewhere: what was asked again, and copies of turns that still grew."""

INSTRUCTIONS: Final = (
    "SELECT DISTINCT k.name, v.text FROM conversation k JOIN value v ON v.id = k.instructions OR v.id IN "
    "(SELECT json_extract(plan, '$.instructions') FROM call WHERE conversation = k.id) WHERE k.id IN ({family}) ORDER BY k.id"
)
"""The instructions of conversations, and those that they had when something was asked."""

SAW: Final = (
    "WITH RECURSIVE saw (id) AS (SELECT v.summary FROM turn t CROSS JOIN coverage v ON v.turn = t.id WHERE t.redacted_at IS NOT NULL "
    "UNION SELECT s.id FROM saw JOIN summary s ON s.previous = saw.id) "
    "SELECT s.id FROM saw JOIN summary s ON s.id = saw.id WHERE s.kind IS NOT 'stale' OR s.text != ?"
)
"""Summaries that were shown a redacted turn, or made from one that was, and still have their text."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What a redaction took out, and what it cannot reach.

    Attributes:
        turns: ids of the turns that were blanked: the turn, and what said the same in its place on other paths.
        messages: how many messages that were.
        summaries: ids of the summaries that are stale now, their text blanked.
        unfolded: names of conversations whose summary was among them.
        notes: how many notes on these were blanked.
        elsewhere: what may still hold the words and is not this store's to change: recordings, traces, copies,
            names, instructions.
    """

    turns: tuple[str, ...]
    messages: int
    summaries: tuple[str, ...]
    unfolded: tuple[str, ...]
    notes: int
    elsewhere: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{counted(len(self.turns), 'turn')} with {counted(self.messages, 'message')} made blank"]
        if self.summaries:
            parts.append(f"{counted(len(self.summaries), 'summary')} that saw them made stale and blank")
        if self.unfolded:
            parts.append(f"earlier summaries are in use in {', '.join(map(repr, self.unfolded))}")
        if self.notes:
            parts.append(f"{counted(self.notes, 'note')} on them made blank")
        return "\n".join(["; ".join(parts), *(f"- not covered: {place}" for place in self.elsewhere)])

    def __repr__(self) -> str:
        return f"<Redaction: {self}>"


def redact(database: Database, row: ConversationRow, turn_id: int, *, now: float) -> Redaction:
    """Redact a turn for good: also out of the index, free pages and the write-ahead log.

    Raises:
        ConversationError: the turn, or one that says the same in its place, still runs.
        StoreBusyError: another process reads, so that the log could not be emptied; the words are out of the tables.
    """

    def work(c: sqlite3.Connection) -> Redaction:
        return blank(c, row, turn_id, now=now, path=database.path)

    return erase.for_good(database, work, what=f"the turn of {row.name!r} is redacted")


def blank(c: sqlite3.Connection, row: ConversationRow, turn_id: int, *, now: float, path: str) -> Redaction:
    """Take the words out of the tables; called inside a transaction."""
    close_expired(c, row, now=now)
    family = family_of(c, turn_id)
    turns = _alike(c, turn_id, family)
    words = words_of(_said(c, turns))
    elsewhere = [
        *_recordings(c, turns),
        *_traces(c, turns, path),
        *_named(c, family, words),
        *(f"the copy {name!r}" for name in copies_beside(path)),
    ]
    stale, unfolded, notes = _blank_all(c, turns, family, words, now=now)
    erase.sweep_values(c)
    c.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")
    uids, summaries = (
        tuple(uid for (uid,) in c.execute(f"SELECT uid FROM {table} WHERE id IN ({_list(keys)}) ORDER BY id"))
        for table, keys in (("turn", turns), ("summary", stale))
    )
    (messages,) = c.execute(f"SELECT count(*) FROM message WHERE turn IN ({_list(turns)})").fetchone()
    return Redaction(uids, messages, summaries, tuple(unfolded), notes, tuple(elsewhere))


def blank_again(c: sqlite3.Connection, turn_id: int, *, words: frozenset[str], now: float) -> None:
    """Take out what came in anew of a turn that is redacted; called inside a transaction."""
    family = family_of(c, turn_id)
    _blank_all(c, _alike(c, turn_id, family), family, words, now=now)
    erase.sweep_values(c)
    c.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")


def family_of(c: sqlite3.Connection, turn_id: int) -> list[int]:
    """Rows of the conversations that may share a turn."""
    (owner,) = c.execute(
        "SELECT b.conversation FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = ?", (turn_id,)
    ).fetchone()
    return [key for (key,) in c.execute(FAMILY, (owner,))]


def _blank_all(
    c: sqlite3.Connection, turns: list[int], family: list[int], words: frozenset[str], *, now: float
) -> tuple[list[int], list[str], int]:
    (since,) = c.execute(f"SELECT min(created_at) FROM turn WHERE id IN ({_list(turns)})").fetchone()
    _blank_turns(c, turns, now=now)
    stale, unfolded = forget_summaries(c)
    _blank_quotes(c, family, words, since=since)
    notes = c.execute(
        f"UPDATE note SET text = ? WHERE text != ? AND target IN (SELECT uid FROM turn WHERE id IN ({_list(turns)}) "
        f"UNION ALL SELECT uid FROM summary WHERE id IN ({_list(stale)}))",
        (REDACTED, REDACTED),
    ).rowcount
    return stale, unfolded, notes


def _alike(c: sqlite3.Connection, turn_id: int, family: Iterable[int]) -> list[int]:
    """The turn and its copies.

    Raises:
        ConversationError: one of them still runs.
    """
    found: dict[int, None] = {turn_id: None}
    waiting = [turn_id]
    while waiting:
        for key, _ in c.execute(COPIES.format(family=_list(family)), (waiting.pop(),)).fetchall():
            if key not in found:
                found[key] = None
                waiting.append(key)
    for uid, seq, state in c.execute(f"SELECT uid, seq, state FROM turn WHERE id IN ({_list(found)})"):
        if state in UNDER_WAY:
            raise ConversationError(f"turn {seq} ({uid}) is still {state}; wait for it or cancel() it, then redact it")
    return sorted(found)


def _blank_turns(c: sqlite3.Connection, turns: Iterable[int], *, now: float) -> None:
    keys = _list(turns)
    c.execute(
        f"UPDATE message SET text = ?, extra = NULL, features = NULL WHERE turn IN ({keys}) "
        "AND (text != ? OR extra IS NOT NULL OR features IS NOT NULL)",
        (REDACTED, REDACTED),
    )
    c.execute(
        f"UPDATE turn SET error = CASE WHEN error IS NULL THEN NULL ELSE ? END, redacted_at = coalesce(redacted_at, ?) "
        f"WHERE id IN ({keys})",
        (REDACTED, now),
    )
    c.execute(f"DELETE FROM draft WHERE turn IN ({keys})")
    c.execute(f"UPDATE event SET payload = '{{}}' WHERE turn IN ({keys})")
    # The body of its requests may quote it (a prediction, a user's name): what no other request sent goes.
    c.execute(
        "UPDATE call SET error = CASE WHEN error IS NULL THEN NULL ELSE ? END, "
        f"plan = json_set(plan, '$.parameters', NULL, '$.tools', NULL) WHERE turn IN ({keys})",
        (REDACTED,),
    )


def forget_summaries(c: sqlite3.Connection) -> tuple[list[int], list[str]]:
    """Blank every summary that saw a redacted turn, and move heads back before them.

    Returns:
        Rows of the summaries, and the names of conversations whose head moved.
    """
    stale = [key for (key,) in c.execute(SAW, (REDACTED,)).fetchall()]
    if not stale:
        return [], []
    keys = _list(stale)
    heads = c.execute(f"SELECT id, name, head FROM conversation WHERE head IN ({keys})").fetchall()
    c.execute(f"UPDATE summary SET text = ?, kind = 'stale', features = NULL WHERE id IN ({keys})", (REDACTED,))
    c.execute(f"UPDATE call SET error = ? WHERE error IS NOT NULL AND summary IN ({keys})", (REDACTED,))
    for key, _, head in heads:
        kept, last_seq = head, 0
        while kept is not None:
            kind, last_seq, previous = c.execute(
                "SELECT kind, last_seq, previous FROM summary WHERE id = ?", (kept,)
            ).fetchone()
            if kind != "stale":
                break
            kept, last_seq = previous, 0
        c.execute(
            "UPDATE conversation SET head = ?, folded_to = ?, fold_after_seq = 0, fold_owner = NULL, fold_lease_until = NULL "
            "WHERE id = ?",
            (kept, last_seq, key),
        )
    return stale, [name for _, name, _ in heads]


# -- what may quote a turn --------------------------------------------------------------------


def _said(c: sqlite3.Connection, turns: Iterable[int]) -> Iterator[str]:
    for text, extra in c.execute(f"SELECT text, extra FROM message WHERE turn IN ({_list(turns)})"):
        yield text
        yield from _texts(json.loads(extra or "null"))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """The words by which a quotation is known: those of four letters or more, and all with a digit."""
    return frozenset(
        word
        for text in texts
        for word in re.findall(r"\w+", text.lower())
        if (len(word) >= 4 or any(letter.isdigit() for letter in word)) and word != "redacted"
    )


def _blank_quotes(c: sqlite3.Connection, family: Iterable[int], words: frozenset[str], *, since: float) -> None:
    """Blank errors and events since the turn that share a word with it: a server's refusal quotes what it refused."""
    keys = _list(family)
    turns = f"SELECT t.id, t.error FROM turn t JOIN branch b ON b.id = t.branch WHERE b.conversation IN ({keys}) AND t.error IS NOT NULL AND t.created_at >= ?"
    rows = {
        "UPDATE turn SET error = ? WHERE id = ?": turns,
        "UPDATE call SET error = ? WHERE id = ?": "SELECT id, error FROM call WHERE error IS NOT NULL "
        f"AND conversation IN ({keys}) AND created_at >= ?",
        "UPDATE event SET payload = json_object('redacted', ?) WHERE id = ?": "SELECT id, payload FROM event "
        f"WHERE payload != '{{}}' AND conversation IN ({keys}) AND created_at >= ?",
    }
    for update, select in rows.items():
        doomed = [key for key, text in c.execute(select, (since,)).fetchall() if not words.isdisjoint(words_of([text]))]
        c.executemany(update, [(REDACTED, key) for key in doomed])
    c.executemany(
        "UPDATE conversation SET title = NULL WHERE id = ?",
        [
            (key,)
            for key, title in c.execute(
                f"SELECT id, title FROM conversation WHERE id IN ({keys}) AND title IS NOT NULL"
            ).fetchall()
            if not words.isdisjoint(words_of([title]))
        ],
    )


def _named(c: sqlite3.Connection, family: Iterable[int], words: frozenset[str]) -> Iterator[str]:
    for name, metadata in c.execute(f"SELECT name, metadata FROM conversation WHERE id IN ({_list(family)})"):
        if not words.isdisjoint(words_of([name])):
            yield f"the name {name!r} shares a word with it; rename() it if it should not"
        if not words.isdisjoint(words_of(_texts(json.loads(metadata)))):
            yield f"the metadata of {name!r} share a word with it"
    for name, text in c.execute(INSTRUCTIONS.format(family=_list(family))):
        if not words.isdisjoint(words_of(content_text(message.get("content")) for message, *_ in json.loads(text))):
            yield f"instructions of {name!r} share a word with it; give others if they should not"


def _recordings(c: sqlite3.Connection, turns: Iterable[int]) -> list[str]:
    rows = c.execute(f"SELECT path FROM media WHERE path IS NOT NULL AND turn IN ({_list(turns)}) ORDER BY id")
    return [f"the recording {path!r}" for (path,) in rows]


def _traces(c: sqlite3.Connection, turns: Iterable[int], path: str) -> list[str]:
    """Traces of clients in the store's project and in this one: later requests carried the words, too."""
    (since,) = c.execute(f"SELECT min(created_at) FROM turn WHERE id IN ({_list(turns)})").fetchone()
    rows = c.execute(f"SELECT text, extra FROM message WHERE text != ? AND turn IN ({_list(turns)})", (REDACTED,))
    texts: list[str] = []
    for text, extra in rows:
        # A short text of its own may be everything that was said; in the extra it is a kind or a name.
        texts += [text, *(held for held in _texts(json.loads(extra or "null")) if len(held) >= SHORT_CHARS)]
    home = Path(path).parent
    projects = [home.parent] if home.name == config.FOLDER else []
    folders = [project / TRACES for project in dict.fromkeys([*projects, config.project_root()])]
    return [f"the trace {name!r}" for name in traces_holding(folders, texts, since=since)]


def copies_beside(path: str) -> list[str]:
    """Copies of a store that were made before its schema changed; other backups are known to who made them."""
    file = Path(path)
    return sorted(str(copy) for copy in file.parent.glob(f"{_literal(file.stem)}.v*.backup*"))


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _list(keys: Iterable[int]) -> str:
    return ", ".join(str(int(key)) for key in keys)
