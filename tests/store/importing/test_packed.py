"""Packed files are read like plain ones; what cannot be unpacked is named, and the store is whole."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import sqlite3
import zipfile
from contextlib import closing

import pandas as pd
import pytest

from voxnb import ContextStore
from voxnb.errors import StoreError, StoreFormatError

WAYS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def chats(count=3):
    said = (
        {"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"{n + 1}"}]}
        for n in range(count)
    )
    return "".join(json.dumps(one) + "\n" for one in said).encode()


def rows():
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["conversation", "role", "content"])
    writer.writerows([["a", "user", "Hello, you;"], ["a", "assistant", "Hi."], ["b", "user", "Bye."]])
    return out.getvalue().encode()


@pytest.fixture
def store():
    with ContextStore(":memory:") as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("chats.jsonl", chats(), (3, "openai", ())),
        ("rows.csv", rows(), (2, "csv", ())),
        ("rows.tsv", rows().replace(b",", b"\t"), (2, "csv", ())),
    ],
    ids=["lines", "csv", "tsv"],
)
def test_a_packed_file_is_read_like_a_plain_one(tmp_path, store, way, name, content, found):
    plain, packed = tmp_path / name, tmp_path / f"{name}.{way}"
    plain.write_bytes(content)
    packed.write_bytes(WAYS[way](content))
    report = store.import_conversations(packed)
    assert (report.conversations, report.format, report.skipped) == found
    assert store.import_conversations(plain).known == found[0], "it is the same"
    assert store.verify()


def test_our_own_lines_come_back_exactly_from_a_packed_file(tmp_path, store):
    store.append("iris", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    store.export_conversations(tmp_path / "all.jsonl")
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress((tmp_path / "all.jsonl").read_bytes()))
    with ContextStore(":memory:") as other:
        other.import_conversations(tmp_path / "all.jsonl.gz")
        pd.testing.assert_frame_equal(other.turns(), store.turns())


@pytest.mark.parametrize("name", ["chats.jsonl", "chats.csv", "chats", "chats.jsonl.gz"])
def test_the_first_bytes_decide_and_not_the_name(tmp_path, store, name):
    path = tmp_path / name
    path.write_bytes(chats() if name.endswith(".gz") else gzip.compress(chats()))
    assert store.import_conversations(path).conversations == 3


def test_members_one_after_the_other_are_one_file(tmp_path, store):
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(gzip.compress(chats(5)[: len(chats(2))]) + gzip.compress(chats(5)[len(chats(2)) :]))
    assert store.import_conversations(path).conversations == 5


def test_utf_16_inside_is_recoded(tmp_path, store):
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(gzip.compress(chats(2).decode().encode("utf-16")))
    assert store.import_conversations(path).conversations == 2


@pytest.mark.parametrize("way", WAYS)
def test_half_a_packed_file_keeps_whole_conversations_and_says_so(tmp_path, store, way):
    content = "".join(
        json.dumps({"messages": [{"role": "user", "content": f"{n} {'x' * (n % 97)}"}, {"role": "assistant", "content": "y"}]}) + "\n"
        for n in range(5_000)
    ).encode()  # fmt: skip
    packed = WAYS[way](content)
    path = tmp_path / f"chats.jsonl.{way}"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(StoreFormatError, match="packed and broken") as caught:
        store.import_conversations(path)
    assert caught.value.path == str(path)
    assert set(store.turns(columns=["state"])["state"]) <= {"complete"}
    assert len(store) < 5_000
    assert store.verify()
    path.write_bytes(packed)
    store.import_conversations(path)
    assert len(store) == 5_000


def test_a_packed_file_with_flipped_bits_is_an_error(tmp_path, store):
    packed = bytearray(gzip.compress(chats(500)))
    packed[-6] ^= 0xFF
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(packed)
    with pytest.raises(StoreError):
        store.import_conversations(path)
    assert store.verify()


def test_an_archive_is_named_with_what_to_do(tmp_path, store):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations.json", "[]")
    with pytest.raises(StoreFormatError, match=r"a zip archive .* conversations.json"):
        store.import_conversations(path)
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    with pytest.raises(StoreFormatError, match="packed with zstd; unpack it"):
        store.import_conversations(path, format="openai")


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", ["llm", "parquet"])
def test_a_packed_database_is_to_be_unpacked(tmp_path, store, kind, named):
    plain = tmp_path / "plain"
    if kind == "llm":
        with closing(sqlite3.connect(plain)) as made, made:
            made.execute("CREATE TABLE conversations (id TEXT)")
        made.close()
    else:
        pd.DataFrame({"role": ["user"], "content": ["x"]}).to_parquet(plain)
    path = tmp_path / "packed.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(StoreFormatError, match=r"is packed, .*unpack it"):
        store.import_conversations(path, format=kind if named else None)


def test_progress_of_a_packed_file_has_no_total_that_it_passes(tmp_path, store):
    path, seen = tmp_path / "chats.jsonl.gz", []
    path.write_bytes(gzip.compress(chats(500)))
    store.import_conversations(path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == len(chats(500))
    assert all(done <= total or not total for done, total in seen)
