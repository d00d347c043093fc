"""A request without memory: sent as it is, and nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from voxnb.clients.ends import (
    CANCELLED,
    as_voxnb_error,
    broken,
    current_task,
)
from voxnb.clients.streaming import Streaming
from voxnb.clients.turn import Turn
from voxnb.errors import (
    TurnCancelledError,
)

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient


class Passing:
    """A request without memory: the messages go as they are, nothing is stored."""

    def __init__(self, client: TextClient, turn: Turn, body: Mapping[str, Any]) -> None:
        self.client = client
        self.turn = turn
        self.body = body

    async def run(self) -> None:
        """Send, stream, end the turn."""
        streaming = Streaming(self.client, self.turn, model=self.body.get("model"))
        try:
            async with self.client.slots:
                self.turn._start(current_task())  # noqa: SLF001 - the client drives its turns
                await streaming.run(self.body)
        except asyncio.CancelledError:
            self._cancelled(streaming)
            raise
        except Exception as caught:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            error = as_voxnb_error(caught)
            self.client.tell_error(error, self.turn)
            kept = streaming.kept
            self.turn._store(  # noqa: SLF001 - the client drives its turns
                error=broken(error, streaming.reply(turn_id=None, message=kept)) if kept else error
            )
        else:
            self.turn._store(streaming.reply(turn_id=None))  # noqa: SLF001 - the client drives its turns
        self.client.deliver(self.turn)

    def _cancelled(self, streaming: Streaming) -> None:
        kept = streaming.kept
        if kept is not None:
            reply = streaming.reply(turn_id=None, finish_reason="cancelled", message=kept)
            self.turn._store(reply)  # noqa: SLF001 - the client drives its turns
        else:
            self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001 - the client drives its turns
        self.client.dispatcher.discard(self.turn)
        self.client.deliver(self.turn)
