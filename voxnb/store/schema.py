"""The tables, as numbered migrations; what a file says about itself.

The physical tables are narrower than the DataFrames: integer keys inside, a text
stored once. Public ids (``uid``) are sortable and global; a message's is its turn's
with its position.

Rule 1: migrations only add; what can be derived again (an index) may be made anew. A migration is frozen SQL and
calls no living code.
Rule 2: a turn belongs to a *branch* (a line of turns). A conversation points at its current
branch; undo, retry and fork make a new branch whose *lineage* names the stretches it shares.
Nothing is moved or copied, and loading a path is one indexed query.
Rule 3: ``turn``, ``message``, ``summary``, ``coverage`` rows are never deleted but by delete(); their words are never
changed but by redact().
Rule 4: the search index forgets and rewords by triggers; what is new it takes in when it is told to (`fresh.index_all`):
a trigger that names it costs every message as much as three look-ups, and most messages are not taken in at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlite_utils.migrations import Migrations

APPLICATION_ID: Final = 0x766F786E
"""``voxn`` in ASCII: how a file says that it is ours (PRAGMA application_id)."""

MAX_SEQ: Final = 1 << 53
"""Last seq of a branch's own stretch: open ended."""

M001: Final = """
CREATE TABLE value (                     -- long texts, once each: instructions, prompts, tools, parameters
  id INTEGER PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  text TEXT NOT NULL
);
CREATE TABLE conversation (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  title TEXT,
  api TEXT NOT NULL DEFAULT 'chat',
  model TEXT,
  parent INTEGER REFERENCES conversation(id),
  fork_seq INTEGER,
  branch INTEGER NOT NULL,
  last_seq INTEGER NOT NULL DEFAULT 0,   -- last turn of the current branch, inherited ones included
  instructions INTEGER REFERENCES value(id),
  head INTEGER REFERENCES summary(id),   -- newest summary of the current branch
  folded_to INTEGER NOT NULL DEFAULT 0,  -- turns up to here are covered by head (or were never answered)
  pin_version INTEGER NOT NULL DEFAULT 0,
  fold_failures INTEGER NOT NULL DEFAULT 0,
  fold_after_seq INTEGER NOT NULL DEFAULT 0, -- breaker: no background fold before this turn
  fold_owner TEXT,
  fold_lease_until REAL,
  metadata TEXT NOT NULL DEFAULT '{}',
  created_at REAL NOT NULL,
  last_turn_at REAL
);
CREATE INDEX conversation_last ON conversation(last_turn_at);
CREATE TABLE branch (
  id INTEGER PRIMARY KEY,
  conversation INTEGER NOT NULL REFERENCES conversation(id),
  created_at REAL NOT NULL
);
CREATE INDEX branch_conversation ON branch(conversation);
CREATE TABLE lineage (                   -- stretches of a branch's path, and the branch that owns each
  branch INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  source INTEGER NOT NULL,
  PRIMARY KEY (branch, first_seq)
) WITHOUT ROWID;
CREATE INDEX lineage_source ON lineage(source);
CREATE TABLE turn (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  branch INTEGER NOT NULL REFERENCES branch(id),
  seq INTEGER NOT NULL,
  state TEXT NOT NULL,
  tokens INTEGER NOT NULL DEFAULT 0,
  hash TEXT,                             -- of its messages' hashes, in order
  model TEXT,
  finish_reason TEXT,
  error TEXT,
  owner TEXT,
  lease_until REAL,
  cost_usd REAL,
  first_token_ms REAL,
  duration_ms REAL,
  created_at REAL NOT NULL,
  UNIQUE (branch, seq)
);
CREATE INDEX turn_open ON turn(branch, seq) WHERE state IN ('queued', 'running');
CREATE TABLE draft (                     -- the reply of a running turn so far, written with the lease
  turn INTEGER PRIMARY KEY REFERENCES turn(id),
  message TEXT NOT NULL
);
CREATE TABLE message (
  id INTEGER PRIMARY KEY,
  turn INTEGER NOT NULL REFERENCES turn(id),
  position INTEGER NOT NULL,
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  extra TEXT,                            -- JSON of what role and text do not say; content parts included
  tokens INTEGER NOT NULL,
  features TEXT,                         -- JSON list of small counts for calibration
  encoding TEXT NOT NULL,
  hash TEXT NOT NULL,
  created_at REAL NOT NULL,
  UNIQUE (turn, position)
);
CREATE VIRTUAL TABLE message_fts USING fts5(
  text, content='message', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
);
CREATE TABLE summary (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  conversation INTEGER NOT NULL REFERENCES conversation(id),
  round INTEGER NOT NULL,
  previous INTEGER REFERENCES summary(id),
  mark TEXT NOT NULL,                    -- the fence round it in a request
  kind TEXT,                             -- trial, stale; NULL = live or superseded, which the heads tell
  text TEXT NOT NULL,
  tokens INTEGER NOT NULL,               -- of the fenced message
  features TEXT,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  turn_count INTEGER NOT NULL,
  prompt INTEGER REFERENCES value(id),
  prompt_name TEXT,
  prompt_version INTEGER,
  request INTEGER REFERENCES value(id),  -- parameters of the call, without messages
  model TEXT NOT NULL,
  reason TEXT NOT NULL,
  quality TEXT NOT NULL DEFAULT 'full',
  flags TEXT NOT NULL DEFAULT '[]',
  tokens_before INTEGER NOT NULL,
  tokens_after INTEGER NOT NULL,
  cost_usd REAL,
  duration_ms REAL,
  created_at REAL NOT NULL
);
CREATE INDEX summary_conversation ON summary(conversation);
CREATE TABLE coverage (                  -- exactly what the summary model was shown
  summary INTEGER NOT NULL REFERENCES summary(id),
  seq INTEGER NOT NULL,
  turn INTEGER NOT NULL REFERENCES turn(id),
  hash TEXT NOT NULL,
  PRIMARY KEY (summary, seq)
) WITHOUT ROWID;
CREATE INDEX coverage_turn ON coverage(turn);
CREATE TABLE pin (                       -- turns, or single messages, kept verbatim when folded
  id INTEGER PRIMARY KEY,
  conversation INTEGER NOT NULL REFERENCES conversation(id),
  turn INTEGER NOT NULL REFERENCES turn(id),
  position INTEGER,                      -- NULL: the whole turn; else the message said there
  added INTEGER NOT NULL,                -- pin_version from which it counts
  removed INTEGER                        -- pin_version from which it no longer does
);
CREATE INDEX pin_conversation ON pin(conversation);
CREATE TABLE call (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL,
  conversation INTEGER REFERENCES conversation(id),
  turn INTEGER REFERENCES turn(id),
  summary INTEGER REFERENCES summary(id),
  purpose TEXT NOT NULL,
  model TEXT,
  base_url_host TEXT,
  request_id TEXT,
  estimated_prompt_tokens INTEGER,
  prompt_tokens INTEGER,
  completion_tokens INTEGER,
  cached_tokens INTEGER,
  cost_usd REAL,
  retries INTEGER NOT NULL DEFAULT 0,
  first_token_ms REAL,
  duration_ms REAL,
  status TEXT NOT NULL,
  error TEXT,
  plan TEXT,                             -- JSON of constant size: what the request was made of
  created_at REAL NOT NULL
);
CREATE INDEX call_turn ON call(turn);
CREATE INDEX call_conversation ON call(conversation);
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL,
  conversation INTEGER REFERENCES conversation(id),
  turn INTEGER REFERENCES turn(id),
  seq INTEGER NOT NULL,
  name TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at REAL NOT NULL
);
CREATE INDEX event_conversation ON event(conversation);
CREATE INDEX event_turn ON event(turn);
CREATE TABLE prompt (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  value INTEGER NOT NULL REFERENCES value(id),
  created_at REAL NOT NULL,
  UNIQUE (name, version)
);
CREATE TABLE note (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  target TEXT NOT NULL,
  label TEXT,
  text TEXT NOT NULL,
  created_at REAL NOT NULL
);
CREATE INDEX note_target ON note(target);
CREATE TABLE media (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  conversation INTEGER REFERENCES conversation(id),
  turn INTEGER REFERENCES turn(id),
  direction TEXT NOT NULL,
  tag TEXT,
  encoding TEXT,
  sample_rate_hz INTEGER,
  duration_ms REAL,
  bytes INTEGER,
  path TEXT,
  created_at REAL NOT NULL
);
CREATE INDEX media_conversation ON media(conversation);
CREATE TABLE calibration (               -- how a server's token counts relate to ours
  host TEXT NOT NULL,
  model TEXT NOT NULL,
  state TEXT NOT NULL,
  updated_at REAL NOT NULL,
  PRIMARY KEY (host, model)
) WITHOUT ROWID;
"""

# turn.redacted_at: when a turn's words were taken out; its ids, hashes and counts stay.
M002: Final = """
ALTER TABLE turn ADD COLUMN redacted_at REAL;
CREATE INDEX turn_redacted ON turn(id) WHERE redacted_at IS NOT NULL;
DROP TABLE message_fts;
CREATE VIEW message_words AS             -- what is searched: the words, and whose they are (k7: of conversation row 7)
  SELECT m.id AS id, m.text AS text, 'k' || b.conversation AS owner
  FROM message m JOIN turn t ON t.id = m.turn JOIN branch b ON b.id = t.branch;
CREATE VIRTUAL TABLE message_fts USING fts5(
  text, owner, content='message_words', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
);
INSERT INTO message_fts (rowid, text, owner) SELECT id, text, owner FROM message_words WHERE text != '' ORDER BY id;
INSERT INTO message_fts (message_fts, rank) VALUES ('rank', 'bm25(1.0, 0.0)');
CREATE TRIGGER message_indexed AFTER INSERT ON message WHEN new.text != '' BEGIN
  INSERT INTO message_fts (rowid, text, owner) SELECT new.id, new.text, 'k' || b.conversation
    FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = new.turn; END;
CREATE TRIGGER message_forgotten AFTER DELETE ON message WHEN old.text != '' BEGIN
  INSERT INTO message_fts (message_fts, rowid, text, owner) SELECT 'delete', old.id, old.text, 'k' || b.conversation
    FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = old.turn; END;
CREATE TRIGGER message_reworded AFTER UPDATE OF text ON message BEGIN
  INSERT INTO message_fts (message_fts, rowid, text, owner) SELECT 'delete', old.id, old.text, 'k' || b.conversation
    FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = old.turn AND old.text != ''; INSERT INTO message_fts
    (rowid, text, owner) SELECT new.id, new.text, 'k' || b.conversation
    FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = new.turn AND new.text != ''; END;
CREATE TABLE message_zone (              -- which times each 1,024 message rows hold, rounded outwards to hours
  block INTEGER PRIMARY KEY,             -- message.id >> 10
  since_at REAL NOT NULL,
  until_at REAL NOT NULL
);
INSERT INTO message_zone SELECT id >> 10, (CAST(min(created_at) / 3600 AS INTEGER) - 1) * 3600.0,
  (CAST(max(created_at) / 3600 AS INTEGER) + 1) * 3600.0 FROM message GROUP BY id >> 10;
CREATE TRIGGER message_zoned AFTER INSERT ON message WHEN NOT EXISTS (SELECT 1 FROM message_zone
  WHERE block = new.id >> 10 AND new.created_at >= since_at AND new.created_at < until_at) BEGIN
  INSERT INTO message_zone VALUES (new.id >> 10, (CAST(new.created_at / 3600 AS INTEGER) - 1) * 3600.0,
    (CAST(new.created_at / 3600 AS INTEGER) + 1) * 3600.0) ON CONFLICT (block) DO UPDATE
    SET since_at = min(since_at, excluded.since_at), until_at = max(until_at, excluded.until_at); END;
"""

# The index takes messages in when 32 have come together, or a long one has: those after its last row are not in it yet.
M003: Final = """
DROP TRIGGER message_indexed;
CREATE TRIGGER message_indexed AFTER INSERT ON message WHEN new.text != '' AND (length(new.text) > 2000
  OR new.id > 31 + (SELECT coalesce(max(id), 0) FROM message_fts_docsize)) BEGIN
  INSERT INTO message_fts (rowid, text, owner) SELECT id, text, owner FROM message_words
    WHERE id > (SELECT coalesce(max(id), 0) FROM message_fts_docsize) AND text != '' ORDER BY id; END;
DROP TRIGGER message_forgotten;
CREATE TRIGGER message_forgotten AFTER DELETE ON message WHEN EXISTS (SELECT 1 FROM message_fts_docsize
  WHERE id = old.id) BEGIN
  INSERT INTO message_fts (message_fts, rowid, text, owner) SELECT 'delete', old.id, old.text, 'k' || b.conversation
    FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = old.turn; END;
DROP TRIGGER message_reworded;
CREATE TRIGGER message_reworded AFTER UPDATE OF text ON message
  WHEN old.id <= (SELECT coalesce(max(id), 0) FROM message_fts_docsize) BEGIN
  INSERT INTO message_fts (message_fts, rowid, text, owner) SELECT 'delete', old.id, old.text, 'k' || b.conversation
    FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = old.turn AND old.text != ''; INSERT INTO message_fts
    (rowid, text, owner) SELECT new.id, new.text, 'k' || b.conversation
    FROM turn t JOIN branch b ON b.id = t.branch WHERE t.id = new.turn AND new.text != ''; END;
"""

# What every turn had to keep up and few questions need: the index and the zones take messages in where they are told to;
# conversations are few enough to be sorted; calls and events of a conversation are found by its turns (see `columns.rows_of`).
M004: Final = """
DROP TRIGGER message_indexed;
DROP TRIGGER message_zoned;
DROP INDEX conversation_last;
DROP INDEX call_conversation;
CREATE INDEX call_loose ON call(conversation) WHERE turn IS NULL;
DROP INDEX event_conversation;
CREATE INDEX event_loose ON event(conversation) WHERE turn IS NULL;
"""

STEPS: Final = (
    ("m001_conversations", M001),
    ("m002_redaction_and_search", M002),
    ("m003_index_many_at_once", M003),
    ("m004_index_when_told", M004),
)
"""Name and SQL of each migration, in order; the file's ``user_version`` counts the applied ones."""

VERSION: Final = len(STEPS)


def migrations() -> Migrations:
    """The steps as sqlite-utils migrations."""
    from sqlite_utils.migrations import Migrations

    steps = Migrations("voxnb")
    for number, (name, sql) in enumerate(STEPS, start=1):
        steps(name=name)(_step(sql, number))
    return steps


def _step(sql: str, number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - sqlite-utils' own protocol
    def step(db) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a sqlite_utils.Database
        # One statement at a time: executescript() would commit the transaction the step runs in.
        for statement in statements(sql):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")

    step.__name__ = f"step_{number}"
    return step


def statements(sql: str) -> list[str]:
    r"""Cut a migration at the semicolons that end a line.

    >>> statements("CREATE TABLE a(b);\nCREATE TABLE c(d);\n")
    ['CREATE TABLE a(b)', 'CREATE TABLE c(d)']
    """
    return [part.strip() for part in sql.split(";\n") if part.strip()]
