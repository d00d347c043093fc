"""One request from begin to end: sent, streamed, stored.

`Exchange` is the stateful kind (the conversation is in the store); `Passing` sends
what it was given. Both stream the same way and end in the same `Turn`; how an
`Exchange` ends is in `closing`.

Rule 1: what the user said is committed before the call; whatever then happens, the
turn is closed with what had come.
Rule 2: requests are repeated before the first text, never after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from voxnb.clients.closing import Closing
from voxnb.clients.ends import CANCELLED, as_voxnb_error, current_task, settled, write_late
from voxnb.clients.tools.structured import read_form
from voxnb.errors import APIError, StoreError, TurnCancelledError, VoxnbError
from voxnb.events import ContextEvents
from voxnb.runtime.hiding import without_credentials
from voxnb.store import ending
from voxnb.store.journal import Ask, Begun, Reused
from voxnb.store.owner import RENEW_S, this_process
from voxnb.store.planner import Once, Planner
from voxnb.wire.unicode import whole_unicode


class Exchange(Closing):
    """A request with memory; see the module's rules."""

    async def run(self) -> None:
        """Wait for the conversation's turn, begin, stream, store; then let the listeners run."""
        try:
            async with self.client.conversation_lock(self.conversation):
                self.turn._start(current_task())  # noqa: SLF001 - the client drives its turns
                await self._locked()
        except asyncio.CancelledError:
            if not self._stored:
                await settled(self._cancelled())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            failure = as_voxnb_error(error)
            if not self._stored:
                self.turn._store(error=failure)  # noqa: SLF001 - the client drives its turns
            self.client.tell_error(failure, self.turn)
        finally:
            self.client.deliver(self.turn)

    async def _locked(self) -> None:
        await self.client.settle_folds()
        with contextlib.suppress(StoreError):  # the turn that begins now will tell
            await write_late(self.client)
        if self.client.knowledge.is_known(self.model):
            await self.client.fold_due(await self.room.learn(self.parameters), context=self.turn.context)
        # Asking the server for its window may take long: what was said is stored before (rule 1).
        begun = await settled(self._begin(self._ask(self.room.planner)))
        if isinstance(begun, Reused):
            going_on = await self._reuse(begun)
            if going_on is None:
                return
            begun = going_on
        if begun.recognised and self.client.warn_once("resent"):
            self.warnings.append(
                f"{begun.recognised} of the messages were stored already and were not added again; "
                "with storeContext send only what is new"
            )
        keeping = asyncio.ensure_future(self._keep_alive(begun.turn.id))
        try:
            begun, ask = await self._planned(begun)
            begun = self.begun = await self.room.fit(begun, ask)
            self._tell_plan(begun)
            await self._converse(begun, ask)
            await self._read_form(self.streaming.reader.message)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await settled(self._failed(as_voxnb_error(error)))
            raise
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
        try:
            await settled(self._complete())
        except VoxnbError:
            raise
        except Exception as error:
            await settled(self._failed(as_voxnb_error(error)))
            raise

    async def _converse(self, begun: Begun, ask: Ask) -> None:
        """What is sent and received in the turn: here one request and its reply."""
        await self._send(begun, ask)

    async def _read_form(self, message: Mapping[str, Any]) -> None:
        self.parsed, warnings = await read_form(
            self.extras.form,
            message,
            finish_reason=self.streaming.reader.finish_reason,
            context=self.turn.context,
            timeout_s=self.extras.timeout_s,
        )
        self.warnings += warnings

    async def _planned(self, begun: Begun) -> tuple[Begun, Ask]:
        """The turn with its plan, which it has already where the window was known when it began."""
        if self.room.planner is not None:
            return begun, self._ask(self.room.planner)
        ask = self._ask(await self.room.learn(self.parameters))
        return await self.room.plan_again(begun, ask), ask

    async def _begin(self, ask: Ask) -> Begun | Reused:
        cursor, path = self.client.reuse_cursor, self.client.reuse_path
        self._said_before = self.client.instructions_said
        begun = await self.client.begin(ask, own=self.is_own)
        if isinstance(begun, Begun):
            self.begun = begun
            if self.is_own and cursor is not None and (path := begun.left or path) is not None:
                self._repeated = (cursor, path)
            self.turn.id, self.turn.number = begun.turn.uid, begun.turn.seq
        return begun

    def _ask(self, planner: Planner | None) -> Ask:
        """What the store is asked; without a planner the turn is stored and not planned yet."""
        client, own = self.client, self.is_own
        return Ask(
            ref=client.conversation_ref if own else self.conversation.id,
            uid=self.conversation.id,
            name=client.conversation_name if own else self.conversation.name,
            must_be_new=client.must_be_new and own,
            model=self.model,
            metadata=client.metadata,
            messages=self.messages,
            measure=Once(planner.measure if planner else client.measure_of(self.model)),
            instructions=client.instructions if own else (),
            instructions_said=client.instructions_said,
            parameters=self.parameters,
            tools=without_credentials(self.tools),
            lay_out=planner.lay_out if planner else None,
            owner=this_process(),
            host=client.host,
            api=self.dialect.api,
            held_by=self.held_by,
            whole=self.dialect.is_whole(self.parameters),
            reuse_after=client.reuse_cursor if own and self.again is None else None,
            reuse_path=client.reuse_path if own and self.again is None else None,
            again=self.again,
        )

    def _tell_plan(self, begun: Begun) -> None:
        """`ContextPlanned`."""
        layout = begun.layout
        payload = {
            "conversation": begun.conversation.uid,
            "turn": begun.turn.seq,
            "tokens": dict(layout.tokens),
            "total_tokens": layout.total_tokens,
            "window_tokens": layout.limits.window_tokens,
            "reserve_tokens": layout.limits.reserve_output_tokens,
            "fold_at_tokens": layout.limits.fold_at_tokens,
            "dropped": [{"turn": d.seq, "reason": d.reason} for d in layout.drops],
        }
        self._emit(ContextEvents.ContextPlanned, payload)

    async def _send(self, begun: Begun, ask: Ask) -> None:
        """Stream the reply; a server that says "too long" is believed, once."""
        begun = self.begun = await self.room.counted(begun, ask)
        for attempt in (1, 2):
            layout = begun.layout
            body = self.dialect.write({**self.parameters, **(self.tools or {})}, layout.messages, layout.leading)
            try:
                async with self.client.slots:
                    await self.streaming.run(body)
            except APIError as error:
                limit = self.client.knowledge.learn_overflow(error, begun.layout, model=self.model)
                if attempt == 2 or limit is None or self.streaming.chunks:
                    raise
                await self._close_call(begun, error)
                begun = self.begun = await self.room.fit_again(begun, ask)
            else:
                return

    async def _close_call(self, begun: Begun, error: VoxnbError) -> None:
        record = self.streaming.record(
            purpose="turn", estimated_tokens=begun.layout.total_tokens, status="failed", error=str(error)
        )
        call_id = begun.call_id
        assert call_id is not None
        await self.client.write(lambda c: ending.end_call(c, call_id, record))

    async def _keep_alive(self, turn_id: int) -> None:
        """Renew the lease and write the draft, so that a killed process loses at most `RENEW_S` of text."""
        owner, written = this_process(), 0
        while True:
            await asyncio.sleep(RENEW_S)
            reader, now = self.streaming.reader, time.time()
            text = reader.message.get("content") or ""
            written = written if len(text) >= written else 0  # the next reply of a tool loop
            is_new = len(text) > written and not reader.complete  # one that is whole is stored as it is
            draft = {"role": "assistant", "content": whole_unicode(text)} if is_new else None
            written = len(text)
            with contextlib.suppress(VoxnbError):  # the reply's own commit will tell what is wrong with the store
                await self.client.write(partial(ending.renew, turn_id=turn_id, owner=owner, draft=draft, now=now))

    # -- ends ---------------------------------------------------------------------------------

    async def _cancelled(self) -> None:
        """Close the turn as far as it had come."""
        if self.begun is None:
            await self._keep_unasked()
            self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001 - the client drives its turns
        else:
            await self._end_cancelled(self.streaming.kept)
        self._stored = True
        self.client.dispatcher.discard(self.turn)

    async def _end_cancelled(self, came: Mapping[str, Any] | None) -> None:
        try:
            state = "partial" if came or await self._has_answered() else "failed"
            await self._finish(state, "cancelled", events=[])
        except VoxnbError as error:  # no room, say: what had come is with it
            self.turn._store(error=error)  # noqa: SLF001 - the client drives its turns
            return
        said = came or (None if self.tools_run is None else self.tools_run.said)
        if said is not None:
            self.turn._store(self._reply(finish_reason="cancelled", message=said))  # noqa: SLF001 - the client drives its turns
        else:
            self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001 - the client drives its turns

    async def _keep_unasked(self) -> None:
        """Keep what the user said where the client was closed while the turn still waited for its place.

        A person who cancels a turn that waits takes it back; one whose script ends does not.
        """
        if not self.client.closing or self.again is not None or (self.is_own and self.client.reuse_cursor is not None):
            return
        with contextlib.suppress(VoxnbError):  # it answers, or contradicts, what is not stored: nothing to add it to
            if isinstance(await self._begin(self._ask(None)), Begun):
                await self._finish("failed", "cancelled", events=[])

    async def _reuse(self, reused: Reused) -> Begun | None:
        """Answer from the store, with the events that a fresh answer would have raised.

        Returns:
            None: the turn has its reply. (A turn that goes on after it: see `Rounds`.)
        """
        self._say_again(reused)
        await self._end_reused(reused)
        return None

    def _say_again(self, reused: Reused) -> None:
        self.turn.id, self.turn.number = reused.turn.uid, reused.turn.seq
        self.client.reuse_cursor = reused.cursor
        said, reason = reused.message, reused.finish_reason or "stop"
        reader = self.streaming.reader = self.dialect.read(self.client.wanted, {})
        events = reader.feed_completion(
            self.dialect.replay(reused.reply_id or reused.turn.uid, reused.model, said, reason)
        )
        self.streaming._push(reader.text_delta)  # noqa: SLF001 - the client drives its turns
        self.streaming._emit([*events, *reader.finish()])  # noqa: SLF001 - the client drives its turns

    async def _end_reused(self, reused: Reused) -> None:
        await self._read_form(self.streaming.reader.message)
        reply = self.streaming.reply(turn_id=reused.turn.uid, warnings=self.warnings)
        reply = replace(self._completed(reply, reused.turn.uid, reused=True), id=reused.reply_id)
        self._stored = True
        self.turn._store(reply)  # noqa: SLF001 - the client drives its turns
