"""``voxnb serve-local``: the embedded model for other programs, in the foreground."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from voxnb.cli import arguments, output
from voxnb.errors import LocalModelError

if TYPE_CHECKING:
    from voxnb.local.model import Model

LOOK_S: Final = 0.5
"""How often it is looked whether the server still lives."""


def add(commands: Any) -> None:
    """Add it to the parser."""
    p = commands.add_parser(
        "serve-local",
        help="serve the embedded model to other programs",
        description="Serve the embedded model (or a .gguf file) with an OpenAI-compatible API on this machine, until Ctrl-C. "
        "Prints the address and a key that is made anew each time; requests without the key are refused.",
        epilog="examples:\n  voxnb serve-local\n  voxnb serve-local --port 8080 --model-path zephyr.gguf",
    )
    p.add_argument("--port", type=arguments.port, default=0, metavar="N", help="of 127.0.0.1 (default: a free one)")
    p.add_argument("--model-path", metavar="FILE", help="a .gguf file (default: VOXNB_LOCAL_MODEL or the small model)")
    arguments.json_option(p, what="one document with base_url, api_key and model, once it answers")
    p.set_defaults(run=serve)


def serve(options: Any) -> int:
    """``voxnb serve-local``."""
    from voxnb.local import Model

    model = Model(options.model_path, port=options.port)
    try:
        facts = {"base_url": model.base_url, "api_key": model.api_key, "model": model.name}
        with asked_to_stop() as stop:
            if options.json:
                output.print_json(facts)
                sys.stdout.flush()
            else:
                screen = output.screen()
                for name, value in facts.items():
                    screen.line(f"{name:<8}  {value}")
            _wait(model, stop, told=not options.json)
    finally:
        model.close()
    return 0


@contextlib.contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, and TERM, which is what a service manager says: both are the ordinary end."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(model: Model, stop: threading.Event, *, told: bool) -> None:
    """Until somebody stops it.

    Raises:
        LocalModelError: the server died too often to be started again.
    """
    if told:
        output.say_error("serving; Ctrl-C stops it")
    while not stop.wait(LOOK_S):
        if not model.is_running and model.log is None:
            raise LocalModelError(
                "the embedded model's server ended and was not started again; its log is in the cache folder"
            )
    if told:
        output.say_error("stopped")
