"""A request without memory: sent as it is, with its tool rounds kept in the request, and nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from voxnb.clients.ends import (
    CANCELLED,
    as_voxnb_error,
    current_task,
    ended,
)
from voxnb.clients.reply import Reply
from voxnb.clients.streaming import Streaming
from voxnb.clients.tools.loop import ToolLoop, limit_for
from voxnb.clients.tools.request import Extras
from voxnb.clients.tools.running import Call
from voxnb.clients.tools.structured import read_form
from voxnb.clients.turn import Turn
from voxnb.errors import TurnCancelledError
from voxnb.memory.past import SDK_KEYS
from voxnb.messages import Message

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient


class Passing:
    """A request without memory: the messages go as they are, nothing is stored."""

    def __init__(
        self,
        client: TextClient,
        turn: Turn,
        body: Mapping[str, Any],
        messages: Sequence[Message],
        *,
        leading: int,
        extras: Extras,
    ) -> None:
        self.client = client
        self.turn = turn
        self.body = dict(body)
        self.messages = [m.to_dict() for m in messages]
        self.leading = leading
        self.form = extras.form
        self.timeout_s = extras.timeout_s
        self.tools = ToolLoop(client, turn, extras)
        self.streaming = Streaming(client, turn, model=self.body.get("model"))
        self.remarks: list[str] = []

    async def run(self) -> None:
        """Send, stream, run tools and send again, end the turn."""
        try:
            await self._send()
            while calls := self.tools.calls(self.streaming.reader.message):
                await self._go_on(calls)
                await self._send()
            message = self.streaming.reader.message
            parsed, warnings = await read_form(
                self.form,
                message,
                finish_reason=self.streaming.reader.finish_reason,
                context=self.turn.context,
                timeout_s=self.timeout_s,
            )
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except Exception as caught:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            error = as_voxnb_error(caught)
            self.client.tell_error(error, self.turn)
            self.turn._store(error=ended(error, self.streaming.kept, self._reply))  # noqa: SLF001 - the client drives its turns
        else:
            reply = self._reply(warnings=[*self.remarks, *warnings])
            self.turn._store(reply if self.form is None else replace(reply, parsed=parsed))  # noqa: SLF001 - as above
        self.client.deliver(self.turn)

    async def _send(self) -> None:
        async with self.client.slots:
            self.turn._start(current_task())  # noqa: SLF001 - the client drives its turns
            await self.streaming.run(self.client.DIALECT.write(self.body, self.messages, self.leading))
        self.remarks += self.streaming.reader.remarks

    async def _go_on(self, calls: Sequence[Call]) -> None:
        """Run what a reply calls; reply and results go into the next request."""
        self.tools.check()
        reader, client = self.streaming.reader, self.client
        message = {k: v for k, v in reader.message.items() if k not in SDK_KEYS}
        # From now on what comes is another reply: this one is whole.
        self.streaming = self.streaming.following()
        count = client.measure_of(self.body.get("model")).count
        limit = limit_for(calls, window_share=client.knowledge.attachment_tokens(), count=count)
        results = [m.to_dict() for m in await self.tools.answer(message, calls, limit=limit)]
        self.body = self.tools.next(self.body)
        if client.DIALECT.held and self.body.get("previous_response_id") is not None:
            self.body["previous_response_id"] = reader.id  # the server knows the rest
            self.messages = results
        else:
            self.messages = [*self.messages, message, *results]
        self.streaming = self.streaming.following(lead=self.tools.lead)

    def _reply(
        self,
        *,
        warnings: Sequence[str] = (),
        finish_reason: str | None = None,
        message: Mapping[str, Any] | None = None,
    ) -> Reply:
        reply = self.streaming.reply(turn_id=None, warnings=warnings, finish_reason=finish_reason, message=message)
        return replace(reply, tool_runs=tuple(self.tools.runs))

    def _cancelled(self) -> None:
        kept = self.streaming.kept or self.tools.said
        if kept is not None:
            self.turn._store(self._reply(finish_reason="cancelled", message=kept))  # noqa: SLF001 - the client drives its turns
        else:
            self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001 - the client drives its turns
        self.client.dispatcher.discard(self.turn)
        self.client.deliver(self.turn)
