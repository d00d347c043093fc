"""A tape answers what is on it and records what is not; without it on, nothing changes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

import voxnb
from voxnb import testing
from voxnb.errors import (
    APIStatusError,
    BadRequestError,
    CredentialsError,
    ParameterError,
    RateLimitError,
    TapeError,
    TapeMissError,
)

NOWHERE = "http://127.0.0.1:9/v1"
POLICY = voxnb.ContextPolicy(window_tokens=4000, fold_at_tokens=300, keep_last_turns=1, summary_max_tokens=100)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("VOXNB_TAPE", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path / "talk.tape"


def chat(base_url=NOWHERE, **more):
    return voxnb.chat("m", base_url=base_url, store=":memory:", **more)


def ask(base_url, *texts, **more):
    with chat(base_url, **more) as one:
        return [str(one.ask(text).result()) for text in texts]


def test_what_was_recorded_is_replayed_without_a_server(path):
    with testing.server(["Flowers.", "Ships."]) as server:
        with voxnb.tape(path) as tape:
            first = ask(server.base_url, "Iris?", "Titanic?")
            recorded = tape.recorded
        asked = len(server.requests)
    with voxnb.tape(path, mode="replay") as tape:
        assert ask(NOWHERE, "Iris?", "Titanic?") == first == ["Flowers.", "Ships."]
    assert asked == recorded == tape.replayed
    assert tape.unused == ()


def test_a_second_run_in_auto_mode_calls_nobody(path):
    with testing.server(["Flowers."]) as server, voxnb.tape(path):
        ask(server.base_url, "Iris?")
    size = path.stat().st_size
    with testing.server([500]) as server:
        with voxnb.tape(path) as tape:
            assert ask(server.base_url, "Iris?") == ["Flowers."]
        assert server.requests == []
    assert (tape.recorded, path.stat().st_size) == (0, size)


def test_equal_requests_are_answered_in_the_order_in_which_they_were_recorded(path):
    def three(base_url):
        with voxnb.ChatCompletionsAPIClient(base_url=base_url) as one:
            return [
                str(one.create_chat_completions(model="m", messages=[{"role": "user", "content": "Roll."}]).result())
                for _ in range(3)
            ]

    with testing.server(["4", "1", "6"]) as server, voxnb.tape(path):
        assert three(server.base_url) == ["4", "1", "6"]
    with voxnb.tape(path, mode="replay"):
        assert three(NOWHERE) == ["4", "1", "6"]
        with pytest.raises(TapeMissError, match="3 times, and was asked once more"):
            three(NOWHERE)


def test_what_is_not_on_the_tape_is_an_error_that_shows_the_nearest(path):
    with testing.server("Flowers.") as server, voxnb.tape(path):
        ask(server.base_url, "What is iris?")
    with voxnb.tape(path, mode="replay"), pytest.raises(TapeMissError, match="What is Iris") as caught:
        ask(NOWHERE, "What is Iris?")
    error = caught.value
    assert error.path == str(path)
    assert error.request == "POST /chat/completions"
    assert error.differences == (("messages.0.content", "What is iris?", "What is Iris?"),)
    assert path.read_text().split("\n")[error.nearest - 1].startswith("=== ")


def test_replay_never_calls_out_even_with_a_server_there(path):
    with testing.server("Flowers.") as server:
        with voxnb.tape(path):
            ask(server.base_url, "Iris?")
        asked = len(server.requests)
        with voxnb.tape(path, mode="replay"), pytest.raises(TapeMissError):
            ask(server.base_url, "Something else?")
        assert len(server.requests) == asked


def test_auto_without_a_key_says_that_it_is_neither_on_the_tape_nor_can_be_asked(path):
    with (
        voxnb.tape(path),
        voxnb.chat("m", store=":memory:") as one,
        pytest.raises(TapeMissError, match="no key") as caught,
    ):
        one.ask("Iris?").result()
    assert isinstance(caught.value.__cause__, CredentialsError)


def test_a_client_without_a_key_is_refused_as_before_once_the_tape_has_stopped(path):
    with voxnb.tape(path):
        one = voxnb.chat("m", store=":memory:")
    with one, pytest.raises(CredentialsError, match="no key"):
        one.ask("Iris?").result()


def test_a_request_is_found_whoever_asks_and_wherever(path):
    with testing.server("Flowers.") as server, voxnb.tape(path):
        with chat(server.base_url, api_key="sk-one") as one:
            one.ask("Iris?", user="ann", metadata={"a": "b"}).result()
    with voxnb.tape(path, mode="replay"), chat(api_key="sk-two") as one:
        assert str(one.ask("Iris?", user="bob").result()) == "Flowers."


def test_folds_are_on_the_tape_and_happen_at_the_same_place(path):
    def answer(request):
        return "The user asks about iris." if "summar" in request.text.lower() else "Yes."

    def talk(base_url):
        with chat(base_url, policy=POLICY, instructions="Be terse.") as one:
            for n in range(8):
                one.ask(f"Question {n}: " + "word " * 60).result()
            one.idle().result()
            calls = one.conversation.calls()
            return list(calls["purpose"]), len(one.conversation.summaries())

    with testing.server(answer) as server, voxnb.tape(path):
        then = talk(server.base_url)
    for _ in range(3):
        with voxnb.tape(path, mode="replay") as tape:
            now = talk(NOWHERE)
        assert (sorted(now[0]), now[1], tape.unused) == (sorted(then[0]), then[1], ())
    assert then[1] > 1


def test_a_tool_loop_is_replayed_with_the_tools_run_anew(path):
    ran = []

    def rows(name: str) -> int:
        """Count rows.

        Args:
            name: of the table.
        """
        ran.append(name)
        return 150

    script = [{"tool_calls": [{"name": "rows", "arguments": {"name": "iris"}}]}, "150 rows."]
    with testing.server(script) as server, voxnb.tape(path):
        assert ask(server.base_url, "How many?", tools=[rows], run_tools=True) == ["150 rows."]
    with voxnb.tape(path, mode="replay"):
        assert ask(NOWHERE, "How many?", tools=[rows], run_tools=True) == ["150 rows."]
    assert ran == ["iris", "iris"]


def test_responses_are_taped_too_and_padding_is_left_out(path):
    def talk(base_url):
        with voxnb.ResponsesAPIClient(base_url=base_url, model="m", store_context=True, store=":memory:") as one:
            return [str(one.ask(text).result()) for text in ("Iris?", "Titanic?")]

    with testing.server(["Flowers.", "Ships."]) as server, voxnb.tape(path):
        talk(server.base_url)
    assert "obfuscation" not in path.read_text()
    with voxnb.tape(path, mode="replay"):
        assert talk(NOWHERE) == ["Flowers.", "Ships."]


def test_a_refusal_of_the_request_is_kept_and_one_of_the_moment_is_not(path):
    refusal = testing.Status(400, body={"error": {"message": "temperature is out of range", "code": "bad_value"}})
    with testing.server([refusal]) as server, voxnb.tape(path), pytest.raises(BadRequestError):
        ask(server.base_url, "Iris?", max_retries=0)
    with voxnb.tape(path, mode="replay"), pytest.raises(BadRequestError, match="out of range") as caught:
        ask(NOWHERE, "Iris?")
    assert caught.value.code == "bad_value"
    for status, kind in ((429, RateLimitError), (401, APIStatusError)):
        with testing.server([status]) as server, voxnb.tape(path) as tape, pytest.raises(kind):
            ask(server.base_url, f"{status}?", max_retries=0)
        assert tape.recorded <= 1, "the window question alone"
        assert f"{status}?" not in path.read_text()


def test_a_retry_leaves_only_the_answer(path):
    with testing.server([503, "Flowers."]) as server, voxnb.tape(path):
        assert ask(server.base_url, "Iris?") == ["Flowers."]
    with voxnb.tape(path, mode="replay"):
        assert ask(NOWHERE, "Iris?") == ["Flowers."]


def test_an_answer_that_was_cut_off_is_not_kept(path):
    with testing.server([testing.Hang()]) as server, voxnb.tape(path):
        with chat(server.base_url) as one:
            turn = one.ask("Long?")
            turn.cancel()
            turn.state
    assert "Long?" not in (path.read_text() if path.exists() else "")


def test_a_private_client_is_not_recorded_and_says_so(path):
    with testing.server("Secret.") as server, voxnb.tape(path):
        with chat(server.base_url, privacy=True) as one, pytest.raises(TapeError, match="private"):
            one.ask("Iris?").result()
        assert server.requests == []
    assert not path.exists()


def test_no_key_no_header_and_no_address_is_on_the_tape(path, monkeypatch):
    monkeypatch.setenv("SOME_PASSWORD", "hunter2-hunter2")
    key = "sk-test-0123456789abcdef"
    with testing.server(f"Your key is {key}.") as server, voxnb.tape(path, redact=["Ada"]):
        ask(server.base_url, f"I am Ada, {key}, hunter2-hunter2", api_key=key)
        port = server.base_url.split(":")[2].partition("/")[0]
    text = path.read_text()
    for secret in (key, "hunter2", "Ada", "0123456789abcdef", port, "uthorization", "x-request", "Bearer"):
        assert secret not in text
    with voxnb.tape(path, mode="replay", redact=["Ada"]):
        assert "…" in ask(NOWHERE, f"I am Ada, {key}, hunter2-hunter2")[0]


def test_the_environment_has_the_last_word_on_the_mode(path, monkeypatch):
    with testing.server("Flowers.") as server, voxnb.tape(path):
        ask(server.base_url, "Iris?")
    monkeypatch.setenv("VOXNB_TAPE", "replay")
    with voxnb.tape(path, mode="record") as tape:
        assert (tape.mode, ask(NOWHERE, "Iris?")) == ("replay", ["Flowers."])
    monkeypatch.setenv("VOXNB_TAPE", "off")
    with testing.server("New.") as server, voxnb.tape(path) as tape:
        assert ask(server.base_url, "Iris?") == ["New."]
        assert "off by VOXNB_TAPE" in repr(tape)
    monkeypatch.setenv("VOXNB_TAPE", "repaly")
    with pytest.raises(ParameterError, match=r"VOXNB_TAPE is 'repaly'.*did you mean 'replay'"):
        voxnb.tape(path)


@pytest.mark.parametrize(("given", "word"), [({"mode": "rec"}, "record"), ({"pace": "slow"}, "fast")])
def test_a_mode_that_is_none_names_those_that_are(path, given, word):
    with pytest.raises(ParameterError, match=word):
        voxnb.tape(path, **given)


def test_record_replaces_the_tape_when_it_is_whole(path):
    with testing.server(["Old.", "New."]) as server:
        with voxnb.tape(path):
            ask(server.base_url, "Iris?")
        old = path.read_text()
        tape = voxnb.tape(path, mode="record")
        ask(server.base_url, "Iris?")
        assert path.read_text() == old, "an interrupted recording leaves the old one"
        tape.stop()
    assert "New." in path.read_text()
    assert "Old." not in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["talk.tape"]


@pytest.mark.parametrize("kept", [True, False])
def test_an_answer_that_still_comes_when_a_recording_ends_is_on_the_tape_or_nowhere(path, kept):
    answer = testing.Paced("One two three four five six.", chunk_delay_s=0.05)
    with testing.server([answer]) as server, chat(server.base_url) as one:
        with contextlib.suppress(ZeroDivisionError), voxnb.tape(path, mode="record"):
            turn = one.ask("Count.")
            next(iter(turn))
            assert kept or 1 / 0
        turn.result()
    assert [file.name for file in path.parent.iterdir()] == ([path.name] if kept else [])
    assert not kept or "Count." in path.read_text()


def test_a_tape_that_is_none_or_not_there_is_named(path):
    with pytest.raises(TapeError, match="there is no tape"):
        voxnb.tape(path, mode="replay")
    path.write_text("{}\n")
    with pytest.raises(TapeError, match="is no tape"):
        voxnb.tape(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TapeError, match="cannot be read"):
        voxnb.tape(path)
    with pytest.raises(ParameterError, match="NUL"):
        voxnb.tape("talk\0.tape")


def test_running_the_cell_again_begins_the_tape_again(path):
    with testing.server(["Flowers."]) as server, voxnb.tape(path):
        ask(server.base_url, "Iris?")
    first = voxnb.tape(path, mode="replay")
    ask(NOWHERE, "Iris?")
    second = voxnb.tape(path, mode="replay")
    assert (first.running, second.running) == (False, True)
    ask(NOWHERE, "Iris?")
    second.stop()
    second.stop()
    assert repr(second).endswith("stopped: 2 replayed, 0 recorded>")


@pytest.mark.slow
def test_two_processes_write_one_tape_and_read_each_other(path):
    code = (
        "import sys, voxnb\n"
        "with voxnb.tape(sys.argv[1]):\n"
        "    for n in range(8):\n"
        "        with voxnb.chat('m', base_url=sys.argv[2], store=':memory:') as c:\n"
        "            c.ask(f'{sys.argv[3]} {n}?').result()\n"
    )
    with testing.server(lambda request: f"to {request.text}") as server:
        with voxnb.tape(path) as tape:
            ask(server.base_url, "mine?")
            done = [
                subprocess.Popen([sys.executable, "-c", code, str(path), server.base_url, who], stderr=subprocess.PIPE)
                for who in ("a", "b")
            ]
            assert [(p.communicate(timeout=60)[1], p.returncode) for p in done] == [(b"", 0)] * 2
            asked = len(server.requests)
            assert ask(server.base_url, "a 3?", "b 7?")[0] == "to a 3?"
            assert len(server.requests) == asked + 1, "the second follows the first, and that is new"
            assert tape.replayed >= 1
    with voxnb.tape(path, mode="replay"):
        for who in ("a", "b"):
            for n in range(8):
                assert ask(NOWHERE, f"{who} {n}?") == [f"to {who} {n}?"]


def test_pieces_come_in_real_time_where_that_is_asked_for(path):
    body = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    end = {**body, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    with testing.server("Hi") as server, voxnb.tape(path):
        ask(server.base_url, "Iris?")
    lines = path.read_text().split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith("=== ") and "chat" in line)
    came = [n for n in range(at, len(lines)) if lines[n].startswith("+")]
    lines[came[0] : came[-1] + 1] = [f"+0 {json.dumps(body)}", f"+400 {json.dumps(end)}", "+0 [DONE]"]
    path.write_text("\n".join(lines))
    for pace, least, most in (("real", 400, 5000), ("fast", 0, 399)):
        with voxnb.tape(path, mode="replay", pace=pace), chat() as one:
            one.ask("Iris?").result()
            assert least <= one.conversation.turns()["duration_ms"].iloc[0] <= most


def test_a_tape_may_be_edited_by_hand(path):
    with testing.server("Flowers.") as server, voxnb.tape(path):
        ask(server.base_url, "Iris?")
    path.write_text(path.read_text().replace("Flowers", "Petals").replace("Iris?", "Rose?"))
    with voxnb.tape(path, mode="replay"):
        assert ask(NOWHERE, "Rose?") == ["Petals."]


def test_a_tape_that_git_gave_the_line_ends_of_windows_is_read(path):
    with testing.server("Flowers.") as server, voxnb.tape(path):
        ask(server.base_url, "Iris?")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with testing.server("Petals.") as server, voxnb.tape(path):
        assert ask(server.base_url, "Iris?", "Rose?") == ["Flowers.", "Petals."]
    with voxnb.tape(path, mode="replay"):
        assert ask(NOWHERE, "Iris?", "Rose?") == ["Flowers.", "Petals."]


def test_clients_of_other_threads_go_through_it_too(path):
    with testing.server(lambda request: request.text.upper()) as server:
        with voxnb.tape(path), chat(server.base_url, if_exists="append") as _:
            threads = [threading.Thread(target=ask, args=(server.base_url, f"t{n}")) for n in range(8)]
            [t.start() for t in threads]
            [t.join() for t in threads]
    with voxnb.tape(path, mode="replay"):
        assert [ask(NOWHERE, f"t{n}") for n in range(8)] == [[f"T{n}"] for n in range(8)]


def test_the_embedded_model_is_not_started_for_what_is_on_the_tape(path, monkeypatch):
    def talk():
        with voxnb.chat(base_url="local", store=":memory:") as one:
            return str(one.ask("Iris?").result())

    with testing.server("Flowers.") as server:
        served = SimpleNamespace(base_url=server.base_url, api_key="k" * 24)
        monkeypatch.setattr("voxnb.local.model.serve_default", lambda: served)
        with voxnb.tape(path):
            talk()
    monkeypatch.setattr("voxnb.local.model.serve_default", _never)
    monkeypatch.setattr("voxnb.local.model.Model.start", _never)
    with voxnb.tape(path, mode="replay"):
        assert talk() == "Flowers."


def _never(*_):
    raise AssertionError("it was started")


def test_a_tape_that_cannot_be_written_costs_no_answer(path, capfd):
    folder = path.parent / "tapes"
    with testing.server("Flowers.") as server, voxnb.tape(folder / "talk.tape"):
        folder.write_text("in the way")
        assert ask(server.base_url, "Iris?") == ["Flowers."]
    assert "cannot be written" in capfd.readouterr().err


def test_a_key_that_a_server_quotes_is_not_on_the_tape(path):
    key = "an-odd-key-98765"
    with testing.server([f"Your key is {key}."]) as server, voxnb.tape(path):
        with voxnb.chat("m", base_url=server.base_url, api_key=key, store=":memory:") as one:
            assert key in str(one.ask("Which key do I use?").result())
    assert key not in path.read_text()
    with (
        voxnb.tape(path, mode="replay"),
        voxnb.chat("m", base_url=server.base_url, api_key=key, store=":memory:") as one,
    ):
        assert str(one.ask("Which key do I use?").result()) == "Your key is …."


def test_what_a_killed_recorder_left_is_not_in_the_next_recording(path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [path.with_name(f"{path.name}.{pid}.new") for pid in (os.getpid(), gone.pid)]
    # A recorder that still runs, another tape's, and no recorder's at all.
    others = [
        path.with_name(name) for name in (f"{path.name}.{os.getppid()}.new", f"x{left[1].name}", f"{path.name}.a.new")
    ]
    for file in (*left, *others):
        file.write_text("half a tape")
    with testing.server(["One."]) as server, voxnb.tape(path, mode="record"):
        assert not left[1].exists()
        ask(server.base_url, "First?")
    with voxnb.tape(path, mode="replay"):
        ask(NOWHERE, "First?")
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in others)


def test_a_new_recording_that_is_interrupted_leaves_the_old_one(path):
    with testing.server(["One.", "Two."]) as server:
        with voxnb.tape(path, mode="record"):
            ask(server.base_url, "First?", "Second?")
        old = path.read_bytes()
        with pytest.raises(KeyboardInterrupt), voxnb.tape(path, mode="record"):
            ask(server.base_url, "First?")
            raise KeyboardInterrupt
    assert path.read_bytes() == old
    assert list(path.parent.glob("*.new")) == []
