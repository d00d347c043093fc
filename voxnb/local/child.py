"""The process of the embedded model: llama.cpp's server, until its standard input closes.

Run as ``python -m voxnb.local.child`` with one line of JSON on standard input
(``path n_ctx_tokens slots threads api_key name``); answers with one line of JSON
(``address``). It lives in a process of its own because inside a kernel's process it crashes at exit, and it ends when
standard input closes, which the system does for a parent that was killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


def serve(settings: dict[str, Any]) -> Any:
    """Load the model and start the server on a free loopback port."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = settings["slots"]
    # llama.cpp shares its context among the slots.
    params.n_ctx = settings["n_ctx_tokens"] * settings["slots"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.endpoint_slots = False
    params.ui = False
    params.cors_origins = ""
    params.api_keys = [settings["api_key"]]
    params.model_alias = {settings["name"]}
    return xllamacpp.Server(params)


def main() -> None:
    """See the module's text."""
    settings = json.loads(sys.stdin.readline())
    # Answers go through a copy of standard output: the library may print on the original.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = serve(settings)
    answers.write(json.dumps({"address": server.listening_address}) + "\n")
    answers.flush()
    threading.Thread(target=_until_stdin_closes, daemon=True).start()
    threading.Event().wait()


def _until_stdin_closes() -> None:
    sys.stdin.read()
    # Its destructor waits for connections that nobody will end.
    os._exit(0)


if __name__ == "__main__":
    main()
