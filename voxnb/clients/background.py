"""An answer that the service works on in the background: asked for until it is there, stopped where the turn is.

The service takes such a request, answers ``queued``, and goes on whether or not anybody listens. A stream that breaks
then loses nothing: the answer is fetched by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import APIError, APIResponseValidationError

if TYPE_CHECKING:
    from voxnb.clients.streaming import Streaming

FIRST_WAIT_S: Final = 0.25
LONGEST_WAIT_S: Final = 5.0
STOP_S: Final = 2.0
"""How long a turn that is cancelled waits until the service has taken note."""


async def fetch(streaming: Streaming, answer_id: str) -> None:
    """Ask for an answer until the service has ended it, and let the reader have it.

    Raises:
        APIError: the service knows no such answer, or cannot be reached (after the retries).
        asyncio.CancelledError: the turn was cancelled; the service was told to stop.
    """
    client, path = streaming.client, f"{streaming.dialect.path}/{answer_id}"
    wait_s, told = FIRST_WAIT_S, None
    try:
        while True:
            found = await client.transport.get(path)
            if found is None:
                raise APIResponseValidationError(
                    f"{client.host} no longer knows the response {answer_id!r} that it worked on in the background; "
                    "ask again with retry()",
                    host=client.host,
                    first_line="",
                )
            if found.get("status") != told:
                told = found.get("status")
                streaming.take(found)
            if streaming.reader.error is not None or streaming.dialect.pending(streaming.reader) is None:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, LONGEST_WAIT_S)
    except asyncio.CancelledError:
        await stop(streaming, answer_id)
        raise


async def stop(streaming: Streaming, answer_id: str) -> None:
    """Tell the service that nobody waits any more; best effort."""
    work: Any = streaming.client.transport.post(f"{streaming.dialect.path}/{answer_id}/cancel", {}, max_retries=0)
    with contextlib.suppress(APIError, TimeoutError):
        async with asyncio.timeout(STOP_S):
            await work
