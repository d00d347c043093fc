"""`voxnb serve-local`: the embedded model for other programs, until somebody stops it."""

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from .conftest import command, environment

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]


def models(base_url, key):
    request = urllib.request.Request(f"{base_url}/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as answered:
        return [model["id"] for model in json.load(answered)["data"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_who_has_the_key_until_it_is_stopped(number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        command("serve-local", "--json", "--port", port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        facts = json.loads(process.stdout.readline())
        assert facts["base_url"] == f"http://127.0.0.1:{port}/v1"
        assert models(facts["base_url"], facts["api_key"]) == [facts["model"]]
        with pytest.raises(urllib.error.HTTPError) as refused:
            chat = urllib.request.Request(f"{facts['base_url']}/chat/completions", data=b"{}")
            urllib.request.urlopen(chat, timeout=30)
        refused.value.close()
        assert refused.value.code == 401
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"", b"")
    with socket.socket() as after:
        assert after.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_and_a_file_that_is_no_model_are_told(piped, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = piped("serve-local", "--port", taken.getsockname()[1])
    assert (done.returncode, done.stdout) == (1, "")
    assert "did not start" in done.stderr
    (tmp_path / "x.gguf").write_text("no model")
    done = piped("serve-local", "--model-path", tmp_path / "x.gguf")
    assert done.returncode == 1
    assert "x.gguf" in done.stderr
    assert "Traceback" not in done.stderr
