"""What a streamed chunk costs: voxnb's clients beside the openai SDK's own iteration.

A server in another process sends a prepared answer as fast as the socket takes it; nobody listens to events. Runs where
voxnb is installed:

    python tests/bench/bench_stream.py
    python tests/bench/bench_stream.py --chunks 1000 --rounds 3

The target is at most half of the SDK's time per chunk, with and without memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import voxnb

MODEL = "gpt-4o-mini"
KEY = "sk-bench"
TARGET = 0.5
WORDS = ("The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "while", "nobody", "is", "looking")


def answer(chunks: int) -> bytes:
    """A whole HTTP answer: every event an HTTP chunk of its own, as the service sends it."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    frame = {
        "id": "chatcmpl-BenchBenchBenchBenchBenchBenc",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }

    def choice(delta: dict[str, str], finish: str | None = None) -> dict[str, object]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    events: list[dict[str, object]] = [{**frame, "choices": [choice({"role": "assistant", "content": ""})]}]
    events += [{**frame, "choices": [choice({"content": f" {WORDS[n % len(WORDS)]}"})]} for n in range(chunks - 3)]
    events += [{**frame, "choices": [choice({}, "stop")]}]
    usage = {"prompt_tokens": 12, "completion_tokens": chunks, "total_tokens": chunks + 12}
    events += [{**frame, "choices": [], "usage": usage}]
    lines = [f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode() for event in events] + [
        b"data: [DONE]\n\n"
    ]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"


def serve(chunks: int) -> None:
    """Answer every request with the same bytes, connections in threads; prints the port first."""
    listener = socket.create_server(("127.0.0.1", 0))
    body = answer(chunks)
    print(listener.getsockname()[1], flush=True)

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while request := read_request(connection):
                asked = request.startswith(b"POST")  # else for the model's window, which this server does not tell
                connection.sendall(body if asked else b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    while True:
        threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()


def read_request(connection: socket.socket) -> bytes:
    """One HTTP request, or nothing where the connection ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (block := connection.recv(65_536)):
            return b""
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head + body


def with_sdk(base_url: str) -> tuple[Callable[[], int], Callable[[], None]]:
    """The SDK's own async iteration, one client for all requests."""
    import openai

    loop = asyncio.new_event_loop()
    client = openai.AsyncOpenAI(api_key=KEY, base_url=base_url, max_retries=0)

    async def ask() -> int:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Go."}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return len("".join([c.choices[0].delta.content or "" async for c in stream if c.choices]))

    def close() -> None:
        loop.run_until_complete(client.close())
        loop.close()

    return lambda: loop.run_until_complete(ask()), close


def with_voxnb(base_url: str, store: Path | None) -> tuple[Callable[[], int], Callable[[], None]]:
    """A client; with a store each request is a turn of its own conversation."""
    if store is None:
        client = voxnb.ChatCompletionsAPIClient(api_key=KEY, base_url=base_url, model=MODEL)
        body = {"messages": [{"role": "user", "content": "Go."}]}
        return lambda: len(client.create_chat_completions(body).result().text), client.close
    clients: list[voxnb.ChatCompletionsAPIClient] = []

    def ask() -> int:
        clients.append(voxnb.chat(MODEL, api_key=KEY, base_url=base_url, store=store, max_parallel=1))
        return len(clients[-1].ask("Go.").result().text)

    def close() -> None:
        for client in clients:
            client.close()

    return ask, close


def main() -> int:
    """Run, print, and end with 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=5_000, help="chunks per answer")
    parser.add_argument("--rounds", type=int, default=9, help="answers per client")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.chunks)
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", f"--chunks={given.chunks}"], stdout=subprocess.PIPE, text=True
    )
    folder = tempfile.TemporaryDirectory(prefix="voxnb-bench-")
    try:
        assert server.stdout is not None
        base_url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("voxnb", "openai", "httpx2"))
        print(
            f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {versions}"
        )
        kinds = {
            "openai SDK, async for": with_sdk(base_url),
            "voxnb, without memory": with_voxnb(base_url, None),
            "voxnb, with memory": with_voxnb(base_url, Path(folder.name) / "bench.db"),
        }
        took: dict[str, list[float]] = {name: [] for name in kinds}
        for n in range(given.rounds + 1):
            lengths = set()
            for name, (ask, _) in kinds.items():
                began = time.perf_counter()
                lengths.add(ask())
                if n:  # the first connects and imports
                    took[name].append((time.perf_counter() - began) / given.chunks * 1e6)
            assert len(lengths) == 1, lengths
        for _, close in kinds.values():
            close()
    finally:
        server.kill()
        server.wait()
        folder.cleanup()
    sdk = statistics.median(next(iter(took.values())))
    print(f"\n{given.chunks:,} chunks, microseconds a chunk    median      best   / SDK   target {TARGET:g}")
    reached = True
    for name, times in took.items():
        ratio = statistics.median(times) / sdk
        good = "" if name.startswith("openai") else ("reached" if ratio <= TARGET else "MISSED")
        reached &= good != "MISSED"
        print(f"  {name:<30}{statistics.median(times):>16.1f} {min(times):>9.1f} {ratio:>7.2f}   {good}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
