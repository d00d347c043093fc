"""How requests end badly: errors as users get them, and work that must not be left half done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from voxnb.clients.reply import Reply
from voxnb.errors import (
    APIResponseValidationError,
    ContextOverflowError,
    StreamBrokenError,
    ToolRoundsError,
    TurnError,
    VoxnbError,
)
from voxnb.memory.plan import Layout
from voxnb.store import ending
from voxnb.store.owner import this_process
from voxnb.store.place import empty_log

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient


T = TypeVar("T")


def error_payload(error: BaseException) -> dict[str, Any]:
    """What `ChatCompletionsAPIError` carries."""
    out: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    for name in ("status_code", "code", "param", "request_id", "retry_after_s"):
        value = getattr(error, name, None)
        if value is not None:
            out[name] = value
    return out


NOTHING: Final = {"role": "assistant", "content": None}
"""The message of a reply of which nothing is kept."""

CANCELLED: Final = "the turn was cancelled before anything of the reply had come"


def as_voxnb_error(error: Exception) -> VoxnbError:
    """The error as users get it; one that is not voxnb's is a fault of voxnb, and says so."""
    if isinstance(error, VoxnbError):
        return error
    wrapped = TurnError(f"voxnb failed with {type(error).__name__}: {error}; the turn is closed, please report this")
    wrapped.__cause__ = error
    return wrapped


def check_answered(choices: Sequence[Mapping[str, Any]], *, host: str, stray: str, whole: bool) -> None:
    """Whether what came is an answer, and all of it.

    Args:
        choices: what came.
        host: of whom.
        stray: the first line that was no event of the stream, without keys; or "".
        whole: whether it came to its end.

    Raises:
        APIResponseValidationError: it is none.
        StreamBrokenError: it stopped.
    """
    if stray and not choices:
        raise APIResponseValidationError(
            f"{host} answered with an event stream that holds {stray!r}; that is not a model API: check base_url, and "
            "whether a login page or a proxy stands before it",
            host=host,
            first_line=stray,
        )
    if not whole:
        raise StreamBrokenError(
            f"{host} ended its answer before it was complete; if it does so again, look whether base_url is an "
            "OpenAI-style server",
            host=host,
        )
    if not any(choice["index"] == 0 for choice in choices):
        raise APIResponseValidationError(
            f"{host} ended its answer without saying anything; check the model's name and base_url",
            host=host,
            first_line="",
        )


def ended(error: VoxnbError, kept: Mapping[str, Any] | None, reply: Callable[..., Reply]) -> VoxnbError:
    """The error of a request, with the reply as far as it had come.

    Args:
        error: what went wrong.
        kept: what is kept of the reply, or None.
        reply: makes a `Reply` of a message.
    """
    broken = isinstance(error, StreamBrokenError)
    if kept is None and not broken:
        return error
    came = reply(message=kept or NOTHING)
    if isinstance(error, ToolRoundsError):
        error.reply = came
        return error
    what = str(error) if broken else f"the answer stopped half way ({error})"
    where = "what had come is in .reply" if kept else "no text had come"
    out = StreamBrokenError(
        f"{what}; {where}, ask again{'' if came.turn is None else ' with retry()'}",
        host=getattr(error, "host", ""),
        retries=getattr(error, "retries", 0),
        reply=came,
    )
    out.__cause__ = error
    return out


def current_task() -> asyncio.Task[Any]:
    """The task that runs this."""
    task = asyncio.current_task()
    assert task is not None
    return task


async def settled(work: Coroutine[Any, Any, T]) -> T:
    """Await something that must not be left half done: a cancellation goes on only when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        raise


async def or_undone(work: Coroutine[Any, Any, T | None], undo: Callable[[T], Coroutine[Any, Any, object]]) -> T | None:
    """Await something that may take hold of something: who is cancelled meanwhile lets go of it again."""
    task = asyncio.ensure_future(work)

    async def undone() -> None:
        held = await task
        if held is not None:
            await undo(held)

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await settled(undone())
        raise


async def write_late(client: TextClient) -> None:
    """Close the turns whose end could not be written when it came, unless somebody else has closed them.

    Those of a client that was closed meanwhile are among them: clients of one store share the list.

    Raises:
        StoreError: it still cannot be written.
    """
    waiting, owner = client.unwritten, this_process()
    while waiting:
        late = turn_id, work = waiting[0]

        def still_open(c: Any, turn_id: int = turn_id, work: Callable[[Any], object] = work) -> None:
            if ending.is_running(c, turn_id=turn_id, owner=owner):
                work(c)

        await settled(client.write(still_open, durable=True))
        if late in waiting:  # another client may have been here meanwhile
            waiting.remove(late)


async def leave_store(client: TextClient) -> None:
    """Write what waits, then the log into the file: the store stays open, and who copies its file now has all in it.

    Raises:
        StoreError: it cannot be written.
    """
    await write_late(client)
    if client.remembers and not client.store.database.memory:
        await asyncio.wrap_future(client.store.database.perform(empty_log))


def overflow(layout: Layout, *, folds: bool = True) -> ContextOverflowError:
    """The error of a request that no fold can make fit, with the tokens of each part.

    Args:
        layout: the request.
        folds: whether earlier turns could have been folded.
    """
    limits = layout.limits
    parts = {name: layout.tokens[name] for name in ("instructions", "tools", "pinned", "current turn")}
    parts["reserve"] = limits.reserve_output_tokens
    fits_folded = layout.least_tokens <= limits.hard_tokens
    if fits_folded:  # no summary is short enough, or turns still run elsewhere
        parts |= {"summary": layout.tokens["summary"], "earlier turns": layout.tokens["tail"]}
    listed = ", ".join(f"{name} {n:,}" for name, n in parts.items() if n)
    largest = max(parts, key=lambda name: parts[name])
    advice = {
        "current turn": "shorten the message (ask(attach=…) cuts tables and says so)",
        "pinned": "unpin turns",
        "instructions": "shorten the instructions",
        "tools": "send fewer tools",
        "reserve": "reserve less for the reply (max_tokens, reserve_output_tokens)",
        "summary": "shorten the message",
        "earlier turns": "wait for the turns that still run elsewhere",
    }[largest]
    if fits_folded and not folds:
        advice = "give the client a summary_model, so that earlier turns are folded,"
    return ContextOverflowError(
        f"the request cannot fit {limits.window_tokens:,} tokens: {listed}; {advice} or use a larger window_tokens",
        window_tokens=limits.window_tokens,
        parts=parts,
    )
