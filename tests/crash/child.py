"""Programs that talk and come to an end: ``python -m tests.crash.child <program> <arguments>``."""

from __future__ import annotations

import itertools
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import voxnb
from tests.invariants.scripted import MODEL, TELLER, WAIT_S, small

TALK = "talk"
"""The conversation everybody speaks in."""


def client(path: str | Path, base_url: str, **parameters: Any) -> voxnb.ChatCompletionsAPIClient:
    """A chat in that conversation of that file, under a small budget."""
    given = {"policy": small(), "summary_model": TELLER, "timeout_s": WAIT_S, **parameters}
    return voxnb.chat(MODEL, conversation=TALK, store=str(path), base_url=base_url, api_key="test", **given)


def question(tag: int) -> str:
    """What is said about a tag."""
    return f"Tell me of #{tag}, " + "please " * 12


# -- talking ----------------------------------------------------------------------------------


def stream(path: str, base_url: str, tag: str) -> None:
    """One turn, printed as it comes."""
    for delta in client(path, base_url).ask(question(int(tag))):
        print(delta, end="", flush=True)


def prefilled(path: str, base_url: str) -> None:
    """A request that ends with words put into the model's mouth."""
    said = [{"role": "user", "content": question(1)}, {"role": "assistant", "content": "It is"}]
    client(path, base_url).create_chat_completions(messages=said).result()


# -- no room ----------------------------------------------------------------------------------


def limited(path: str, base_url: str, room_bytes: str) -> None:
    """Talk until no file may grow any more, then with room again; says what happened."""
    with client(path, base_url, policy=small(window_tokens=100_000, fold_at_tokens=90_000)) as chat:
        chat.ask(question(1)).result(WAIT_S)
        largest = max(Path(path + ending).stat().st_size for ending in ("", "-wal"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + int(room_bytes), resource.RLIM_INFINITY))
        error = talk_on(chat, first_tag=2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(type(error).__name__, type(error.__cause__).__module__)
        print(chat.ask(question(999)).result(WAIT_S))


def talk_on(chat: voxnb.ChatCompletionsAPIClient, *, first_tag: int) -> voxnb.VoxnbError:
    """Say long things until something goes wrong."""
    for tag in itertools.count(first_tag):
        try:
            chat.ask(question(tag) + "and more " * 500).result(WAIT_S)
        except voxnb.VoxnbError as error:
            return error
    raise AssertionError("unreachable: one counts for ever")


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    programs: dict[str, Callable[..., None]] = {"stream": stream, "prefilled": prefilled, "limited": limited}
    programs[program](*arguments)
