"""A store with a conversation in it, a scripted server, and the command as a person runs it: in a pipe or a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

import voxnb
from voxnb import testing

PATIENCE_S = 60
CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_=>78]|\x1b\([A-Z0-9]|\x1b[^a-zA-Z]*$"
)
# Without colours the space behind it is a movement of the cursor.
PROMPT = r"(?m)^> ?\Z"

# The child takes the terminal for its own, so that Ctrl-C in it is an interrupt.
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)

HOSTILE = (
    "red \x1b[31mRED\x1b]52;c;cm0gLXJm\x07 \x1b]0;title\x07 over\rwritten \b\b\u202egnirts 北京 \x9b31m<|endoftext|>"
)


def answer(request):
    last = request.messages[-1]["content"]
    if "running summary" in request.messages[0]["content"]:
        return "Ann works on irises, 150 of them."
    if last.startswith("hostile"):
        return HOSTILE
    if last.startswith("slow"):
        return testing.Hang(after_events=4, reply=["one ", "two ", "three ", "four ", "five "])
    return f"You said: {last}"


@pytest.fixture
def server():
    with testing.server(answer) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    """Three turns, the third with a tool, under one summary."""
    path = tmp_path / "s.db"
    call = {"id": "c1", "type": "function", "function": {"name": "count", "arguments": '{"of": "iris"}'}}
    with testing.server(answer) as server:
        with voxnb.chat("m", base_url=server.base_url, conversation="iris", store=path) as chat:
            chat.ask("I am Ann, and I work on petals." + " They are many, and each is of another length." * 3).result()
            chat.ask(HOSTILE).result()
            chat.store.append(
                "iris",
                [
                    {"role": "user", "content": "How many?"},
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c1", "content": "150"},
                    {"role": "assistant", "content": "There are 150."},
                ],
            )
            chat.conversation.fold(1).result()
            chat.ask("Thanks.").result()
            chat.store.close()
    return path


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES", "TERM")}
    return {**kept, "OPENAI_API_KEY": "", "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **more}


def command(*arguments):
    return [sys.executable, "-W", "error", "-m", "voxnb", *map(str, arguments)]


@pytest.fixture
def piped():
    """Run the command with a text (or bytes) piped in; its standard output and error as text."""

    def run(*arguments, said="", **more):
        data = said.encode() if isinstance(said, str) else said
        done = subprocess.run(
            command(*arguments),
            input=data,
            capture_output=True,
            env=environment(**more),
            timeout=PATIENCE_S,
            check=False,
        )
        done.stdout, done.stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return done

    return run


class Terminal:
    """A command in a pseudo-terminal.

    Attributes:
        raw: everything it wrote.
    """

    def __init__(self, arguments, *, columns=100, **more):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *command(*arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=environment(**more),
        )
        os.close(theirs)
        self.raw = ""
        self._seen = 0

    def type(self, text):
        os.write(self._ours, text.encode())

    def send(self, line):
        """A line, once the prompt waits for it."""
        self.expect(PROMPT)
        self.type(line + "\r")

    def leave(self):
        """Ctrl-D at the prompt; its exit status."""
        self.expect(PROMPT)
        self.type("\x04")
        return self.end()

    @property
    def text(self):
        return CONTROL.sub("", self.raw).replace("\r", "").replace("\b", "")

    def expect(self, pattern):
        """Wait until what it writes from now on matches; gives the match."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = re.compile(pattern).search(self.text, self._seen)
            if found:
                self._seen = found.end()
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"no {pattern!r} in\n{self.text[self._seen :]}\nafter\n{self.text[: self._seen]}")

    def _read(self, timeout_s):
        if not select.select([self._ours], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # it has ended
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def end(self):
        """Its exit status, once it has ended."""
        while self._read(PATIENCE_S):
            pass
        return self.process.wait(timeout=PATIENCE_S)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal():
    """Start a command in a terminal."""
    opened = []

    def start(*arguments, **more):
        opened.append(Terminal(arguments, **more))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
