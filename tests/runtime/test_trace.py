"""A trace: whole messages with times, no key, bounded, and never in the way."""

from __future__ import annotations

import json
import stat

import pytest

from voxnb.runtime import trace as module
from voxnb.runtime.trace import Trace


def without_key(text):
    return text.replace("sk-secret", "…")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def trace(tmp_path):
    made = Trace(tmp_path / "deep" / "trace.jsonl", hide=without_key)
    yield made
    made.close()


def test_each_message_is_a_line_with_its_time_and_direction(trace):
    trace.sent(1, {"model": "m", "messages": []}, method="POST", path="/chat/completions")
    trace.answered(1, status=200)
    trace.received(1, b'{"choices": [{"delta": {"content": "\xd7\xa9\xf0\x9f\x98\x80"}}]}')
    trace.received(1, "[DONE]")
    found = lines(trace.path)
    assert [(line["direction"], line["request"]) for line in found] == [("sent", 1)] + [("received", 1)] * 3
    assert found[0]["message"] == {"model": "m", "messages": []}
    assert found[2]["message"]["choices"][0]["delta"]["content"] == "ש😀"
    assert found[3]["message"] == "[DONE]"
    assert all(line["at"].endswith("Z") for line in found)


def test_keys_are_not_in_it_wherever_they_stand(trace):
    trace.sent(1, {"a": "my key is sk-secret"}, method="POST", path="/sk-secret")
    trace.received(1, b"not JSON: sk-secret \xff")
    trace.answered(1, error="the key sk-secret is wrong")
    assert b"sk-secret" not in trace.path.read_bytes()
    assert len(lines(trace.path)) == 3


def test_only_its_owner_may_read_it(trace):
    trace.answered(1, status=200)
    assert stat.S_IMODE(trace.path.stat().st_mode) == 0o600


def test_it_is_bounded_and_keeps_the_newest(trace, monkeypatch):
    monkeypatch.setattr(module, "MOST_FILE_BYTES", 2_000)
    for n in range(100):
        trace.received(n, {"text": "x" * 100})
    files = sorted(trace.path.parent.iterdir())
    assert [f.name for f in files] == ["trace.jsonl", "trace.jsonl.1", "trace.jsonl.2", "trace.jsonl.3"]
    assert all(f.stat().st_size <= 2_000 for f in files)
    numbers = [line["request"] for f in reversed(files) for line in lines(f)]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 99


def test_a_message_beyond_the_limit_is_cut_and_says_so(trace, monkeypatch):
    monkeypatch.setattr(module, "MOST_LINE_BYTES", 1_000)
    trace.received(1, {"text": "ß" * 2_000})
    (line,) = lines(trace.path)
    assert line["cut_to_bytes"] <= 500 < line["of_bytes"]
    assert line["text"].startswith('{"at":')


def test_what_json_cannot_hold_is_noted_all_the_same(trace):
    trace.sent(1, {"a": object()}, method="POST", path="/x")
    loop = []
    loop.append(loop)
    trace.sent(2, loop, method="POST", path="/x")
    first, second = lines(trace.path)
    assert "object object" in first["message"]["a"]
    assert "cannot be written" in second["error"]


def test_trouble_with_the_file_is_told_once_and_ends_the_trace(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    trace = Trace(tmp_path / "file" / "trace.jsonl", hide=str)
    trace.answered(1, status=200)
    trace.answered(2, status=200)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the trace" in said
    assert "the client goes on" in said


def test_in_a_notebook_it_is_a_link(trace, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert '<a href="deep/trace.jsonl"' in trace._repr_html_()
    assert str(trace) == str(trace.path)
