"""``voxnb demo`` as a person runs it: its lines, its exit codes, Ctrl-C, and wrong input."""

import os
import signal
import subprocess
import sys

import pytest

import voxnb
from voxnb import testing
from voxnb.cli import main
from voxnb.demo import load_script


def answer(request):
    if "running summary" in request.messages[0]["content"]:
        return "Mara Lindqvist of Velo Nord has 11,930 riders. The report is due on 28 March."
    return f"I heard: {request.messages[-1]['content'][:40]}; I keep it in mind for the report that you will write."


@pytest.fixture
def server():
    with testing.server(answer) as server:
        yield server


def demo(server, store, *more):
    return main(["demo", "--base-url", server.base_url, "--model", "gpt-4o-mini", "--store", str(store), *more])


def test_the_demo_shows_replies_bars_folds_facts_and_the_verdict(server, tmp_path, capsys):
    assert demo(server, tmp_path / "s.db") == 0
    out = capsys.readouterr().out
    assert "35  you    Thanks. What is left to do before Friday 28 March?" in out
    assert "model  I heard: Hi, I am Mara Lindqvist" in out
    assert "of 1,400: instructions" in out
    assert "reserved 96" in out
    assert out.count("    fold ") >= 3
    assert "│ Mara Lindqvist of Velo Nord has 11,930 riders." in out
    assert "riders-clean" in out
    assert "all holds: 1 conversation, 35 turns" in out
    assert f"database: {tmp_path / 's.db'}" in out
    for table in ("turns", "summaries", "coverage", "calls"):
        assert f"── {table}: " in out


def test_a_demo_that_was_stopped_goes_on_where_it_was(server, tmp_path, capsys):
    assert demo(server, tmp_path / "s.db", "--lines", "3") == 0
    asked = len([r for r in server.requests if r.path.endswith("/chat/completions")])
    assert demo(server, tmp_path / "s.db", "--lines", "5") == 0
    out = capsys.readouterr().out
    assert "resumed after line 3 of 5" in out
    assert len([r for r in server.requests if r.path.endswith("/chat/completions")]) == asked + 2
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert list(store) == ["demo"]
        assert len(store["demo"]) == 5


def test_a_line_said_again_after_half_an_answer_is_one_line_of_the_script(tmp_path, capsys):
    # What a process killed in the middle of a reply leaves behind, once the next one has asked again.
    line = load_script().turns[0]["user"]
    with testing.server([testing.Drop(after_events=3, reply=["Half ", "an ", "answer."]), "Whole."]) as server:
        with voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=tmp_path / "s.db", conversation="demo") as chat:
            with pytest.raises(voxnb.errors.StreamBrokenError):
                chat.ask(line).result()
            chat.ask(line).result()
        assert demo(server, tmp_path / "s.db", "--lines", "3") == 0
    assert "resumed after line 1 of 3" in capsys.readouterr().out
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert list(store) == ["demo"]
        assert list(store["demo"].turns()["state"]) == ["partial", "complete", "complete", "complete"]


def test_a_finished_demo_starts_a_new_conversation(server, tmp_path, capsys):
    for _ in range(2):
        assert demo(server, tmp_path / "s.db", "--lines", "2") == 0
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert list(store) == ["demo", "demo-2"]


def test_a_conversation_of_the_users_own_that_is_called_demo_is_left_alone(server, tmp_path, capsys):
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        store.append("demo", [{"role": "user", "content": "Mine."}, {"role": "assistant", "content": "Yours."}])
    for _ in range(2):
        assert demo(server, tmp_path / "s.db", "--lines", "2") == 0
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert {name: len(store[name]) for name in store} == {"demo": 1, "demo-2": 2, "demo-3": 2}


@pytest.mark.slow
def test_ctrl_c_leaves_a_store_that_holds_and_says_how_to_go_on(tmp_path):
    with testing.server(lambda request: testing.Paced(answer(request), delay_s=0.3)) as server:
        command = [sys.executable, "-m", "voxnb", "demo", "--base-url", server.base_url, "--model", "gpt-4o-mini"]
        with subprocess.Popen(
            [*command, "--store", str(tmp_path / "s.db")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENAI_API_KEY": ""},
        ) as process:
            server.wait_for(5, timeout_s=60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.endswith("\n"), "what stopped it is told on a line of its own"
    assert "run it again to go on" in err
    assert "Traceback" not in err
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert store.verify()
        assert len(store["demo"]) >= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--lines", "0"], "is no count"),
        (["demo", "--lines", "x"], "is no count"),
        (["dmo"], "invalid choice"),
        (["demo", "--bse-url", "x"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments_are_told_on_standard_error(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_a_server_without_a_model_is_refused_before_anything_is_shown(server, tmp_path, capsys):
    assert main(["demo", "--base-url", server.base_url, "--store", str(tmp_path / "s.db")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--model" in err


def test_a_model_without_a_server_is_openais_and_needs_a_key(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(["demo", "--model", "gpt-4o-mini", "--store", str(tmp_path / "s.db")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "OPENAI_API_KEY" in err


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert voxnb.__version__ in capsys.readouterr().out


def test_a_missing_key_and_a_bad_address_exit_with_2_and_say_what_to_do(tmp_path, capsys):
    store = ["--store", str(tmp_path / "s.db")]
    assert main(["demo", "--base-url", "https://api.openai.com/v1", *store]) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert main(["demo", "--base-url", "ftp://example.org", *store]) == 2
    assert "ftp" in capsys.readouterr().err


def test_a_server_that_is_not_there_exits_with_1_and_the_store_is_sound(tmp_path, capsys):
    with testing.server("x") as gone:
        address = gone.base_url
    assert main(["demo", "--base-url", address, "--model", "m", "--store", str(tmp_path / "s.db")]) == 1
    captured = capsys.readouterr()
    assert "voxnb: APIConnectionError: " in captured.err
    assert "Traceback" not in captured.err
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert store.verify()


def test_a_store_that_is_another_programs_exits_with_1(server, tmp_path, capsys):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 100)
    assert demo(server, path) == 1
    assert "is not a SQLite database" in capsys.readouterr().err
    assert path.read_text().startswith("dear diary")
