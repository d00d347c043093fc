"""The embedded model with its real weights: what it serves, and that its process lives exactly as long as it should."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import voxnb
from tests.local.tiny import call, until
from voxnb.errors import APIConnectionError, LocalModelError
from voxnb.local import Model, child, model, process, serve_default, weights
from voxnb.local.served import RESTARTS

# The first test that needs the weights may fetch them.
pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes and signals")
HELLO = [{"role": "user", "content": "Say hello."}]
LONG = [{"role": "user", "content": "Tell me everything about bicycles."}]


@pytest.fixture(scope="module")
def served():
    with Model() as it:
        yield it


def ask(it, messages=HELLO, *, path="/v1/chat/completions", **more):
    return call(it.base_url, path, {"messages": messages, "max_tokens": 8, **more}, key=it.api_key)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def port_of(it):
    return int(it.base_url.split(":")[2].split("/")[0])


# -- what it serves ---------------------------------------------------------------------------


def test_it_answers_chat_completions_and_responses(served):
    status, _, said = ask(served)
    assert status == 200
    assert said["choices"][0]["message"]["content"].strip()
    assert said["model"] == served.name == "SmolLM2-135M-Instruct"
    status, _, said = call(
        served.base_url, "/v1/responses", {"input": "Say hello.", "max_output_tokens": 8}, key=served.api_key
    )
    assert status == 200
    assert said["object"] == "response"
    assert said["usage"]["output_tokens"] == 8


@pytest.mark.parametrize(
    "messages",
    [
        HELLO,
        [{"role": "system", "content": "Be terse."}, *HELLO, {"role": "assistant", "content": "Hello."}, *LONG],
        [
            {"role": "user", "content": "12,480 <|im_end|> наïve 東京 🙂"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
            {"role": "tool", "tool_call_id": "a", "content": "42"},
        ],
    ],
    ids=["one line", "a conversation", "tools and special text"],
)  # fmt: skip
def test_it_counts_a_request_exactly(served, messages):
    _, _, counted = ask(served, messages, path="/v1/chat/completions/input_tokens")
    _, _, said = ask(served, messages, max_tokens=1)
    assert counted["input_tokens"] == said["usage"]["prompt_tokens"]


def test_its_window_is_what_was_asked_for_and_a_longer_request_is_refused_with_numbers(served):
    assert served.n_ctx_tokens == 4096
    _, _, props = call(served.base_url, "/props", key=served.api_key)
    assert (props["default_generation_settings"]["n_ctx"], props["total_slots"]) == (4096, 2)
    status, _, refused = ask(served, [{"role": "user", "content": "word " * 5000}])
    assert status == 400
    error = refused["error"]
    assert error["type"] == "exceed_context_size_error"
    assert error["n_ctx"] == 4096
    assert error["n_prompt_tokens"] > 5000


def test_nobody_without_the_key_gets_an_answer(served):
    for key in (None, "wrong"):
        for path, body in (("/v1/chat/completions", {"messages": HELLO}), ("/v1/models", None), ("/props", None)):
            assert call(served.base_url, path, body, key=key)[0] == 401
    assert served.api_key not in repr(served)
    assert served.api_key not in served.log.read_text()
    assert len(Model("x.gguf").api_key) >= 32
    assert Model("x.gguf").api_key != Model("x.gguf").api_key


@posix
def test_the_key_is_not_in_the_process_list_and_the_log_is_the_users_own(served):
    assert served.log.stat().st_mode & 0o077 == 0
    if Path("/proc").is_dir():
        for secret in ("cmdline", "environ"):
            assert served.api_key.encode() not in Path(f"/proc/{served.pid}/{secret}").read_bytes()


def test_pages_in_a_browser_get_nothing_and_slots_and_pages_are_off(served):
    origin = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    _, headers, _ = call(served.base_url, "/v1/chat/completions", method="OPTIONS", headers=origin)
    assert not headers["Access-Control-Allow-Origin"]
    assert not headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Credentials"] != "true"
    assert call(served.base_url, "/", key=served.api_key)[0] == 404
    assert call(served.base_url, "/slots", key=served.api_key)[0] == 501


def test_it_listens_on_loopback_only(served):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: tells which address this machine has outside
        outside = probe.getsockname()[0]
    if outside.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError):
        socket.create_connection((outside, port_of(served)), timeout=5)


def test_what_the_log_keeps_holds_no_text_of_requests(served):
    ask(served, [{"role": "user", "content": "My secret is xylophone-4711."}])
    assert "xylophone" not in served.log.read_text()


def test_more_requests_than_slots_wait_their_turn(served):
    with ThreadPoolExecutor(6) as pool:
        assert [status for status, _, _ in pool.map(lambda _: ask(served), range(6))] == [200] * 6


def test_a_request_that_says_nothing_is_served_with_smollm2s_own_sampling(served):
    _, _, props = call(served.base_url, "/props", key=served.api_key)
    used = props["default_generation_settings"]["params"]
    assert {name: round(used[name], 3) for name in model.CHAT_SAMPLING} == model.CHAT_SAMPLING


def test_summaries_end_by_themselves(served):
    from voxnb.memory.summary import request_messages
    from voxnb.params import DEFAULT_SUMMARY_PROMPT

    script = json.loads((Path(__file__).resolve().parents[2] / "data" / "demo" / "conversation.json").read_text())
    lines = [f"User: {turn['user']}\nAssistant: Noted." for turn in script["turns"]]
    previous = None
    for start in (0, 6, 12):
        text = "\n".join(lines[start : start + 6])
        messages = request_messages(DEFAULT_SUMMARY_PROMPT, previous=previous, lines=text, mark="0badcafe")
        _, _, said = ask(served, messages, **{"max_tokens": 256, **served.summary_sampling})
        choice = said["choices"][0]
        assert choice["finish_reason"] == "stop", choice["message"]["content"]
        previous = choice["message"]["content"]
        assert previous.strip()


# -- its life ---------------------------------------------------------------------------------


def test_the_default_is_one_server_per_process():
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: serve_default(), range(4)))
    try:
        assert len(set(map(id, found))) == 1
        assert len({it.base_url for it in found}) == 1
        assert found[0].name == "SmolLM2-135M-Instruct"
    finally:
        found[0].close()


def test_nothing_runs_before_the_first_use_and_nothing_after_close():
    it = Model()
    assert (it.is_running, it.pid, it.log) == (False, None, None)
    assert "not running" in repr(it)
    port = port_of(it)
    log = it.log
    assert it.is_running
    assert log.exists()
    it.close()
    it.close()
    assert not it.is_running
    assert not answers(port)
    assert not log.exists()
    assert ask(it)[0] == 200, "a later use starts it again"
    it.close()


@posix
def test_a_server_that_died_is_started_again_under_the_same_address_and_key(served):
    url, key, pid = served.base_url, served.api_key, served.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: served.pid not in (pid, None))
    assert served.base_url == url
    assert call(url, "/v1/chat/completions", {"messages": HELLO, "max_tokens": 4}, key=key)[0] == 200


@posix
def test_a_server_that_keeps_dying_stays_down_until_somebody_asks():
    with Model() as it:
        url = it.base_url
        for _ in range(RESTARTS):
            pid = it.pid
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: it.pid not in (pid, None))
        os.kill(it.pid, signal.SIGKILL)
        until(lambda: not it.is_running)
        assert it._run is None
        assert it.base_url == url
        assert it.is_running


@posix
def test_where_its_port_was_taken_meanwhile_it_starts_on_another():
    with Model() as it:
        old, run = port_of(it), it._run
        it._lock.acquire()  # whoever restarts it must wait
        try:
            os.kill(it.pid, signal.SIGKILL)
            until(lambda: not answers(old))
            with socket.create_server(("127.0.0.1", old)):
                it._lock.release()
                until(lambda: it._run is not run and it.is_running)
                assert port_of(it) != old
                assert ask(it)[0] == 200
                it._lock.acquire()
        finally:
            it._lock.release()


@posix
def test_a_death_during_a_request_is_a_connection_error_and_the_next_request_is_served(served):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(served), timeout=30)
    body = json.dumps({"messages": LONG, "max_tokens": 2000, "stream": True, "ignore_eos": True})
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {served.api_key}"})
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data:")
    pid = served.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()
    until(lambda: served.pid not in (pid, None))
    assert ask(served)[0] == 200


@posix
def test_a_chat_goes_on_after_the_server_died_in_the_middle_of_a_reply(tmp_path):
    with voxnb.chat(base_url="local", store=tmp_path / "s.db", conversation="c") as chat:
        assert chat.ask("Say hello.", max_tokens=8).result(120).usage.prompt_tokens > 0
        turn = chat.ask("Tell me everything about bicycles.", max_tokens=2000, ignore_eos=True)
        next(iter(turn))
        it = serve_default()
        pid = it.pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(APIConnectionError):
            turn.result(120)
        until(lambda: it.pid not in (pid, None))
        assert chat.ask("Say hello again.", max_tokens=8).result(120).text
        assert chat.store.verify()
    serve_default().close()


# -- and its end ------------------------------------------------------------------------------

PARENT = """
import os, signal, sys
from voxnb.local import Model
from voxnb.local.served import RESTARTS
it = Model()
print(it.base_url.split(":")[2].split("/")[0], it.api_key, flush=True)
"""


def parent(program, **options):
    """A process with a served model: it, the model's port and key."""
    started = subprocess.Popen(
        [sys.executable, "-c", PARENT + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    port, key = started.stdout.readline().split()
    return started, int(port), key


def test_it_ends_with_the_interpreter():
    process_, port, _ = parent("")
    with process_:
        assert process_.wait(20) == 0
    assert not answers(port)


def test_it_ends_when_its_parent_is_killed():
    process_, port, _ = parent("print(it.log, flush=True); sys.stdin.read()")
    with process_:
        assert answers(port)
        log = process_.stdout.readline().strip()
        assert Path(log).exists()
        process_.kill()
        process_.wait()
        until(lambda: not answers(port))
    until(lambda: not Path(log).exists())


@posix
def test_it_ends_when_its_parent_is_killed_while_a_forked_copy_lives_on():
    process_, port, _ = parent("if os.fork() == 0: print('forked', flush=True)\nsys.stdin.read()")
    with process_:
        assert process_.stdout.readline() == "forked\n"
        assert answers(port)
        process_.kill()
        process_.wait()
        until(lambda: not answers(port))
        process_.stdin.close()  # lets the copy end


@posix
def test_a_forked_copy_neither_closes_nor_uses_the_parents_server():
    program = """
import warnings; warnings.simplefilter("error")
pid = os.fork()
if pid == 0:
    assert not it.is_running and it.pid is None
    it.close()
    it.start()
    print("copy", it.base_url.split(":")[2].split("/")[0], flush=True)
    sys.exit(0)
_, status = os.waitpid(pid, 0)
print("parent", it.is_running, status, flush=True)
sys.stdin.read()
"""
    process_, port, key = parent(program)
    with process_:
        _, theirs = process_.stdout.readline().split()
        assert int(theirs) != port
        assert process_.stdout.readline() == "parent True 0\n"
        until(lambda: not answers(int(theirs)))
        body = {"messages": HELLO, "max_tokens": 4}
        assert call(f"http://127.0.0.1:{port}/v1", "/v1/chat/completions", body, key=key)[0] == 200
        process_.stdin.close()


@posix
def test_an_interrupt_of_the_whole_group_does_not_reach_it():
    process_, port, key = parent("signal.signal(2, lambda *_: print('heard', flush=True))\nprint('on', flush=True)\n"
                                 "sys.stdin.read()", start_new_session=True)  # fmt: skip
    with process_:
        assert process_.stdout.readline() == "on\n"
        os.killpg(process_.pid, signal.SIGINT)
        assert process_.stdout.readline() == "heard\n"
        body = {"messages": HELLO, "max_tokens": 4}
        assert call(f"http://127.0.0.1:{port}/v1", "/v1/chat/completions", body, key=key)[0] == 200
        process_.stdin.close()


@posix
def test_the_log_stays_short(tmp_path):
    log = tmp_path / "server.log"
    settings = model.Settings(
        path=str(weights.fetch()), name="m", n_ctx_tokens=512, slots=1, threads=1, api_key="k", port=0
    )
    first = {f: getattr(settings, f) for f in settings.__slots__}
    first |= {"log": str(log), "log_bytes": 8_000, "sys_path": [p for p in sys.path if p]}
    with log.open("ab") as out, subprocess.Popen(
        [sys.executable, "-P", child.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out
    ) as running:  # fmt: skip
        running.stdin.write(json.dumps(first).encode() + b"\n")
        running.stdin.flush()
        said = json.loads(running.stdout.readline())
        assert said["n_ctx_tokens"] == 512
        grown = 0
        while grown <= 8_000:
            body = {"messages": HELLO, "max_tokens": 1}
            assert call(f"http://127.0.0.1:{said['port']}/v1", "/v1/chat/completions", body, key="k")[0] == 200
            if log.stat().st_size < grown:
                break
            grown = log.stat().st_size
        until(lambda: log.stat().st_size <= 8_000)
        assert log.stat().st_size > 0
        running.stdin.close()
        assert running.wait(10) == 0


# -- what goes wrong --------------------------------------------------------------------------


def test_a_broken_model_file_is_an_error_with_the_end_of_the_log(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(weights.fetch().read_bytes()[:1_000_000])
    with pytest.raises(LocalModelError, match=r"did not start[\s\S]*failed to load model") as caught:
        Model(path).start()
    assert caught.value.exit_code == 1
    assert Path(caught.value.log).is_file()
    Path(caught.value.log).unlink()


def test_a_file_that_is_no_model_is_refused_before_a_process_is_started(tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"<!doctype html>")
    with pytest.raises(LocalModelError, match=r"path names .* no GGUF file"):
        Model(path).start()
    monkeypatch.setenv("VOXNB_LOCAL_MODEL", str(path))
    with pytest.raises(LocalModelError, match=r"VOXNB_LOCAL_MODEL names .* no GGUF file"):
        serve_default()


def test_any_gguf_file_is_served_under_its_own_name_and_with_llama_cpps_own_sampling(tmp_path, monkeypatch):
    path = tmp_path / "mine.gguf"
    path.symlink_to(weights.fetch())
    monkeypatch.setenv("VOXNB_LOCAL_MODEL", str(path))
    with Model(n_ctx_tokens=1024, slots=1, threads=1) as it:
        assert ask(it)[2]["model"] == it.name == "mine"
        assert it.n_ctx_tokens == 1024
        _, _, props = call(it.base_url, "/props", key=it.api_key)
        assert props["default_generation_settings"]["params"]["repeat_penalty"] == 1.0
        assert it.summary_sampling == model.OTHER_SUMMARY_SAMPLING


def test_without_xllamacpp_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(LocalModelError, match=r"voxnb\[local\]"):
        Model().start()


@pytest.mark.parametrize(
    "settings",
    [
        {"n_ctx_tokens": 10},
        {"n_ctx_tokens": "4096"},
        {"slots": 0},
        {"slots": True},
        {"threads": 0},
        {"threads": 1.5},
        {"port": "8080"},
        {"path": 5},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(LocalModelError, match="expected"):
        Model(**settings)


def test_a_log_goes_to_the_temporary_folder_where_the_cache_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VOXNB_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fd, path = process.new_log()
    os.close(fd)
    assert path.parent == tmp_path


def test_starting_does_not_end_with_the_thread_that_asked_for_it():
    it = Model()
    thread = threading.Thread(target=it.start)
    thread.start()
    thread.join()
    assert ask(it)[0] == 200
    it.close()
