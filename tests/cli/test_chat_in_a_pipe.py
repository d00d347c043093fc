"""`voxnb chat` between pipes: one message in, a plain reply out, and an exit status that says how it went."""

import os
import signal
import subprocess

import pytest

import voxnb

from .conftest import HOSTILE, command, environment

pytestmark = pytest.mark.slow


def chat(server, store, *more):
    return ("chat", "--base-url", server.base_url, "--model", "m", "--store", store, *more)


def asked(server):
    return [r.messages[-1]["content"] for r in server.requests if r.path.endswith("/chat/completions")]


def test_all_that_is_piped_is_one_message_and_only_the_reply_comes_out(piped, server, tmp_path):
    done = piped(*chat(server, tmp_path / "s.db"), said="\ufeff/etc is\r\na folder 北京\n\n")
    assert done.stdout == "You said: /etc is\r\na folder 北京\n"
    assert done.returncode == 0
    assert asked(server) == ["/etc is\r\na folder 北京"]


def test_a_pipe_gets_the_text_as_the_model_wrote_it(piped, server, tmp_path):
    assert piped(*chat(server, tmp_path / "s.db"), said="hostile").stdout == HOSTILE + "\n"


def test_lines_are_messages_and_commands_and_the_first_error_ends_it(piped, server, tmp_path):
    said = "one\n\ntwo \\\r\nthree\n//four\n/context\n/cotext\nfive\n"
    done = piped(*chat(server, tmp_path / "s.db", "--lines"), said=said)
    assert done.returncode == 1
    assert done.stdout.startswith("You said: one\nYou said: two \nthree\nYou said: /four\n")
    assert "item  kind" in done.stdout
    assert "did you mean '/context'?" in done.stderr
    assert asked(server) == ["one", "two \nthree", "/four"]


def test_a_command_that_takes_nothing_says_so(piped, server, tmp_path):
    done = piped(*chat(server, tmp_path / "s.db", "--lines"), said="one\n/context 3\n")
    assert (done.returncode, done.stdout) == (1, "You said: one\n")
    assert "/context takes nothing, not '3'" in done.stderr


def test_what_a_locale_lacks_is_shown_as_an_escape(piped, server, tmp_path):
    done = piped(*chat(server, tmp_path / "s.db"), said="hostile", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert r"\u5317\u4eac" in done.stdout
    assert piped(*chat(server, tmp_path / "s.db"), said="北京", LC_ALL="C").stdout == "You said: 北京\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [("", "nothing to say"), (" \n\n", "nothing to say"), (b"\xff\xfe\0h", "not utf-8 text (byte 0xff at 0)")],
)
def test_what_is_no_message_is_refused_and_nothing_is_asked(piped, server, tmp_path, said, words):
    done = piped(*chat(server, tmp_path / "s.db"), said=said)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert asked(server) == []
    assert not (tmp_path / "s.db").exists()


def test_without_a_key_the_error_says_what_needs_none(piped, tmp_path):
    done = piped("chat", "--model", "gpt-4o-mini", "--store", tmp_path / "s.db", said="Hi")
    assert done.returncode == 2
    assert "--base-url local" in done.stderr
    assert "--base-url ollama" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr


def test_without_a_model_the_error_names_the_option(piped, server, tmp_path):
    done = piped("chat", "--base-url", server.base_url, "--store", tmp_path / "s.db", said="Hi")
    assert done.returncode == 2
    assert "--model" in done.stderr


def test_ctrl_c_ends_with_130_and_keeps_what_had_come(server, tmp_path):
    with subprocess.Popen(
        command(*chat(server, tmp_path / "s.db")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        process.stdin.write(b"slow one")
        process.stdin.close()
        process.stdin = None
        assert os.read(process.stdout.fileno(), 4) == b"one "
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert store.turns("chat")["state"].tolist() == ["partial"]
        assert store.verify()


@pytest.mark.parametrize("arguments", [("show", "iris"), ("conversations", "--json")])
def test_a_reader_that_goes_away_is_no_error(store, arguments):
    with subprocess.Popen(
        command(*arguments, "--store", store),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_an_output_that_is_full_or_closed_is_told(store):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("show", "iris", "--store", store),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert b"voxnb: cannot write to standard output: No space left" in done.stderr
    assert b"Traceback" not in done.stderr
    line = " ".join(map(str, command("show", "iris", "--store", store))) + " >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, env=environment(), check=False)
    assert done.returncode == 1
    assert b"standard output is closed" in done.stderr
