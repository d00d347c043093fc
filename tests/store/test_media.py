"""What sounded is a row of the media table, of its conversation and its turn."""

from __future__ import annotations

import pytest

from tests.store.builder import Builder
from voxnb.errors import ParameterError
from voxnb.store import tables
from voxnb.store.database import Database
from voxnb.store.media import MediaRow, record_media

ROW = MediaRow(
    direction="out",
    tag="agent",
    encoding="PCM16",
    sample_rate_hz=16_000,
    duration_ms=1520.5,
    size_bytes=48_656,
    path="call.wav",
)


@pytest.fixture
def build():
    database = Database(":memory:")
    yield Builder(database)
    database.close()


def test_a_stream_is_a_row_of_its_conversation_and_turn(build):
    conversation = build.conversation("call")
    turn = build.turn(conversation, "Hello?")
    uid = record_media(build.db, ROW, conversation_id="k-call", turn_id=build.uid("turn", turn))
    row = tables.media(build.db).iloc[0]
    assert row.media_id == uid
    assert (row.conversation_id, row.turn_id) == ("k-call", build.uid("turn", turn))
    assert (row.direction, row.tag, row.encoding, row.sample_rate_hz) == ("out", "agent", "PCM16", 16_000)
    assert (row.duration_ms, row.bytes, row.path) == (1520.5, 48_656, "call.wav")


def test_a_call_without_a_conversation_is_kept_too(build):
    record_media(build.db, ROW, conversation_id=None)
    assert tables.media(build.db).conversation_id.isna().all()


def test_a_stranger_is_refused_and_nothing_is_written(build):
    with pytest.raises(ParameterError, match="there is no conversation 'k-none'"):
        record_media(build.db, ROW, conversation_id="k-none")
    with pytest.raises(ParameterError, match="there is no turn"):
        record_media(build.db, ROW, conversation_id=None, turn_id="t-none")
    assert len(tables.media(build.db)) == 0


def test_a_direction_is_in_or_out():
    with pytest.raises(ParameterError, match="'in' or 'out'"):
        MediaRow(direction="up", tag=None, encoding=None, sample_rate_hz=None, duration_ms=None, size_bytes=None)
