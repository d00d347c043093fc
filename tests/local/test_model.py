"""The embedded model's process: it answers, ends with its parent, and comes back after a crash."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import voxnb
from voxnb.errors import LocalModelError
from voxnb.local.model import Model, serve_default

pytestmark = pytest.mark.local


def post(model, path, body, *, key=None):
    request = urllib.request.Request(
        model.base_url + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key or model.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def alive(pid):
    try:
        state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_dead(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


@pytest.fixture(scope="module")
def model():
    with Model() as model:
        yield model


def test_it_answers_chat_completions_and_responses(model):
    said = post(model, "/chat/completions", {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8})
    assert said["choices"][0]["message"]["content"].strip()
    assert said["usage"]["prompt_tokens"] > 0
    answered = post(model, "/responses", {"input": "Say hello.", "max_output_tokens": 8})
    assert answered["object"] == "response"


def test_it_counts_tokens_exactly_as_it_reports_them(model):
    messages = [{"role": "user", "content": "How many tokens is this?"}]
    counted = post(model, "/chat/completions/input_tokens", {"messages": messages})
    said = post(model, "/chat/completions", {"messages": messages, "max_tokens": 1})
    assert counted["input_tokens"] == said["usage"]["prompt_tokens"]


def test_another_key_is_refused(model):
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(model, "/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, key="wrong")
    assert refused.value.code == 401
    refused.value.close()
    assert model.api_key not in repr(model)


def test_a_crashed_server_is_started_again_on_next_use(model):
    first = model._process.pid
    os.kill(first, signal.SIGKILL)
    assert wait_until_dead(first) or model._process.poll() is not None
    said = post(model, "/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    assert said["choices"]
    assert model._process.pid != first


def test_close_ends_the_process_and_a_second_close_does_nothing():
    model = Model()
    model.start()
    pid = model._process.pid
    model.close()
    model.close()
    assert wait_until_dead(pid)
    assert not model.is_running


def test_it_ends_when_its_parent_is_killed():
    program = (
        "import sys\nfrom voxnb.local.model import Model\nm = Model(); m.start()\n"
        "print(m._process.pid, flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
        parent.wait()
    assert wait_until_dead(child)


def test_the_default_is_one_server_per_process():
    assert serve_default() is serve_default()
    assert serve_default().name == "SmolLM2-135M-Instruct"


def test_a_chat_speaks_with_it_without_a_key(tmp_path):
    with voxnb.chat(base_url="local", store=tmp_path / "s.db", conversation="c") as chat:
        reply = chat.ask("Say hello.", max_tokens=8).result(120)
        assert reply.text
        assert reply.usage.prompt_tokens
        assert "local" in repr(chat)
        assert chat.store.calls()["base_url_host"].tolist() == ["local"]
        assert chat.store.verify()


def test_a_file_that_is_no_gguf_is_refused_before_a_process_is_started(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"<!doctype html>")
    with pytest.raises(LocalModelError, match="no GGUF file"):
        Model(path).start()


def test_a_broken_gguf_is_an_error_with_the_end_of_the_log(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(LocalModelError, match="did not start"):
        Model(path).start()


@pytest.mark.parametrize("settings", [{"n_ctx_tokens": 10}, {"slots": 0}, {"threads": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(LocalModelError, match="expected"):
        Model(**settings)
