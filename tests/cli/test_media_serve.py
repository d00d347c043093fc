"""`voxnb media-serve`: telephone services call, are heard, recorded and told of, until somebody stops it."""

import json
import signal
import subprocess
import wave

import pytest

from tests.media.phone import Phone

from .conftest import command, environment

pytestmark = pytest.mark.slow

SPEECH = bytes(range(1, 161))


@pytest.mark.parametrize(
    ("number", "bridge"), [(signal.SIGINT, "loop"), (signal.SIGTERM, "loop"), (signal.SIGINT, "process")]
)
def test_a_caller_hears_itself_and_is_recorded_until_it_is_stopped(number, bridge, tmp_path):
    with subprocess.Popen(
        command("media-serve", "--json", "--echo", "--record", tmp_path / "calls", "--bridge", bridge),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        facts = json.loads(process.stdout.readline())
        assert facts["addresses"] == []
        phone = Phone(facts["url"], shape="voximplant")
        phone.start(tag="a", custom={"k": "v"})
        began = json.loads(process.stdout.readline())
        assert (began["event"], began["tag"], began["custom_parameters"]) == ("began", "a", {"k": "v"})
        chunk = 0
        while not phone.heard():  # until the echo has been connected
            chunk += 1
            phone.say(SPEECH, chunk=chunk, tag="a")
            with phone.changed:
                phone.changed.wait(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    ended = json.loads(out.splitlines()[-1])
    assert (process.returncode, err) == (0, b"")
    assert (ended["event"], ended["call"], ended["lost"]) == ("ended", began["call"], 0)
    with wave.open(ended["recording"]) as file:
        assert any(file.readframes(file.getnframes()))


def test_what_cannot_be_served_is_told(piped, tmp_path):
    (tmp_path / "x.wav").write_text("no sound")
    for arguments, told in (
        (["--play", tmp_path / "x.wav"], "no audio"),
        (["--certificate", tmp_path / "none.pem"], "cannot be used"),
        (["--host", "256.256.256.256"], "cannot listen"),
        (["--record", tmp_path / "x.wav"], "no call can be recorded"),
    ):
        done = piped("media-serve", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert told in done.stderr
    for arguments, told in ((["--origin", "example.com"], "is no origin"), (["--addresses", "2000"], "at most 1000")):
        done = piped("media-serve", *arguments)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert told in done.stderr
