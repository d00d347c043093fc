"""A process of the embedded model: llama.cpp's server, or another of ours, until its standard input closes.

In a process of its own, because inside a kernel's process it crashes at exit. It ends
when its standard input closes, which the system does even for a parent that was
killed, so it outlives nobody (while it loads it cannot look: then it ends when it has loaded).

Run by path, not as a module, so that it needs nothing of what the parent has done to find voxnb. It reads one line of
JSON (path, name, n_ctx_tokens, slots, threads, port, api_key, sampling, log, log_bytes, sys_path), which keeps the key
out of the process list, and answers with one line of JSON (port, n_ctx_tokens, slots). The rest of what it says goes to the log, which is its
standard error. Another server is named by ``serve``, as ``module:function``: it gets the settings and returns the facts.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pkgutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, NoReturn

CACHE_MIB: Final = 256
"""Memory for the contexts of earlier requests; llama.cpp's own default is 8 GiB."""

HTTP_THREADS: Final = 32
"""A connection holds one, idle ones too: fewer would let a client's pool lock out the next client."""

LOG_LOOK_S: Final = 2.0

_server: Any = None


def serve(settings: dict[str, Any]) -> Any:
    """Load the model and start the server.

    Args:
        settings: see the module's text; port 0 is any free one.

    Raises:
        RuntimeError: the model cannot be loaded, or the port is taken; the log says which.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = settings["port"]
    params.n_threads_http = HTTP_THREADS
    params.api_keys = [settings["api_key"]]
    # Another page in the same browser must not even see that there is a server.
    params.cors_origins, params.cors_methods, params.cors_headers, params.cors_credentials = "", "", "", False
    params.endpoint_slots = False
    params.ui = False
    params.n_parallel = settings["slots"]
    # llama.cpp divides its context among the slots.
    params.n_ctx = settings["n_ctx_tokens"] * settings["slots"]
    params.cache_ram_mib = CACHE_MIB
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    for name, value in settings["sampling"].items():
        setattr(params.sampling, name, value)
    return xllamacpp.Server(params)


def facts(address: str, api_key: str) -> dict[str, Any]:
    """What the running server says of itself; asking it proves that it answers."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("GET", "/props", headers={"Authorization": f"Bearer {api_key}"})
        props = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return {
        "port": int(port),
        "n_ctx_tokens": props["default_generation_settings"]["n_ctx"],
        "slots": props["total_slots"],
    }


def main() -> NoReturn:
    """See the module's text."""
    # An interrupt in the terminal or the notebook is for the parent, who decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(_line(0))
    sys.path[:] = settings["sys_path"]
    # The answer goes through a copy of standard output: the library may print on the original.
    answer = os.dup(1)
    os.dup2(2, 1)
    log = Path(settings["log"])
    threading.Thread(target=_end_with_stdin, args=(log,), daemon=True).start()
    threading.Thread(target=_bound_log, args=(log, settings["log_bytes"]), daemon=True).start()
    try:
        told = _other(settings) if settings.get("serve") else _llama(settings)
    except (RuntimeError, ImportError) as error:  # its reasons are in the log already; a traceback would push them out
        sys.exit(f"{type(error).__name__}: {error}")
    os.write(answer, json.dumps(told).encode() + b"\n")
    os.close(answer)
    while True:  # the server has threads of its own
        time.sleep(3_600)


def _llama(settings: dict[str, Any]) -> dict[str, Any]:
    global _server  # noqa: PLW0603 - it serves for as long as somebody holds it
    _server = serve(settings)
    return facts(_server.listening_address, settings["api_key"])


def _other(settings: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = pkgutil.resolve_name(settings["serve"])(settings)
    return told


def _line(fd: int) -> bytes:
    """One line, and not a byte more, which a buffered reader would take."""
    out = bytearray()
    while byte := os.read(fd, 1):
        if byte == b"\n":
            break
        out += byte
    return bytes(out)


def _end_with_stdin(log: Path) -> None:
    while os.read(0, 4096):
        pass
    with contextlib.suppress(OSError):  # on Windows: it is open; else nothing went wrong that it could tell
        log.unlink(missing_ok=True)
    # At once: the server's destructor would wait for connections that nobody will end.
    os._exit(0)


def _bound_log(path: Path, most_bytes: int) -> None:
    """Keep the later half of the log when it has grown too long. Standard error is open for appending, so that it may shrink."""
    while True:
        time.sleep(LOG_LOOK_S)
        if os.fstat(2).st_size > most_bytes:
            kept = path.read_bytes()[-(most_bytes // 2) :]
            os.ftruncate(2, 0)
            os.write(2, kept)


if __name__ == "__main__":
    main()
