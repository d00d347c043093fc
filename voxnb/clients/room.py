"""Room for a request: laid out by what is known of the server, folded until it fits, counted exactly near the limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.ends import overflow
from voxnb.clients.turn import Turn
from voxnb.store import ledger, paths
from voxnb.store.journal import Ask, Begun
from voxnb.store.planner import Planner
from voxnb.store.request import check_on_path, plan_call

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient
    from voxnb.store.conversation import Conversation


OTHERS_WAIT_S: Final = 30.0
"""How long a request that does not fit waits for turns that other processes have under way; then their lease is over."""

OTHERS_LOOK_S: Final = 0.05

MAKE_ROOM_TRIES: Final = 6
"""Forced folds before a request is given up: each covers at least one turn more, several run only in chunks."""


class Room:
    """The planning of one turn's requests.

    Attributes:
        planner: how they are laid out; None until it is known what the server takes.
    """

    def __init__(
        self,
        client: TextClient,
        turn: Turn,
        *,
        conversation: Conversation,
        model: str | None,
        tools: Mapping[str, Any] | None,
    ) -> None:
        self.client = client
        self.turn = turn
        self.conversation = conversation
        self.model = model
        self.tools = tools
        self.planner: Planner | None = None

    async def learn(self, parameters: Mapping[str, Any]) -> Planner:
        """The planner, by what is known now."""
        self.planner = await self.client.current_planner(parameters, self.tools, conversation=self.conversation.id)
        return self.planner

    async def fit(self, begun: Begun, ask: Ask) -> Begun:
        """Fold until the request fits.

        Raises:
            ContextOverflowError: what cannot be folded does not fit.
        """
        planner = self.planner
        assert planner is not None
        since_s = time.monotonic()
        tries = 0
        while tries < MAKE_ROOM_TRIES:
            if begun.call_id is not None:
                return begun
            if begun.layout.least_tokens > planner.limits.hard_tokens or not self.client.folds:
                break
            # A background fold may be about to make the room.
            before = (begun.conversation.head, begun.conversation.folded_to)
            await self.client.folder.make_room(
                begun.conversation, planner, begun.layout, context=self.turn.context, since_s=since_s
            )
            begun = await self.plan_again(begun, ask)
            moved = (begun.conversation.head, begun.conversation.folded_to) != before
            # What comes after a turn that still runs elsewhere cannot be folded before it ends; then it can.
            if any(drop.reason.startswith("still running") for drop in begun.layout.drops):
                if time.monotonic() - since_s > OTHERS_WAIT_S:
                    break
                await asyncio.sleep(0 if moved else OTHERS_LOOK_S)
            elif moved:
                tries += 1
            elif begun.call_id is None:
                break
        if begun.call_id is None:
            begun = await self._counted_less(begun, ask)
        if begun.call_id is not None:
            return begun
        raise overflow(begun.layout, folds=self.client.folds)

    async def plan_again(self, begun: Begun, ask: Ask) -> Begun:
        """The turn's request laid out as its conversation stands now, whether it fits or not.

        Raises:
            TurnError: the turn was taken back.
        """
        now = time.time()

        def work(c: Any) -> Begun:
            # Others may have given other instructions since: those are for what is asked after this.
            row = ledger.by_id(c, begun.conversation.id)._replace(instructions=begun.conversation.instructions)
            check_on_path(c, row, begun.turn)
            current = paths.whole_turn(c, begun.turn.id)
            layout, call_id = plan_call(c, row, begun.turn, current, ask, now=now)
            return replace(begun, conversation=row, call_id=call_id, layout=layout)

        return await self.client.write(work)

    async def fit_again(self, begun: Begun, ask: Ask) -> Begun:
        """Plan and fit with what was learned of the server since."""
        planner = await self.learn(ask.parameters)
        again = replace(ask, lay_out=planner.lay_out)
        return await self.fit(await self.plan_again(begun, again), again)

    async def counted(self, begun: Begun, ask: Ask) -> Begun:
        """Near the limit, ask a server that counts exactly; plan again where it counts more than there is room for."""
        exact = await self._exact_tokens(begun)
        if exact is None:
            return begun
        self._count(begun, exact)
        if exact <= begun.layout.limits.hard_tokens:
            return begun
        call_id = begun.call_id
        await self.client.write(lambda c: c.execute("DELETE FROM call WHERE id = ?", (call_id,)))  # it was never made
        return await self.fit_again(begun, ask)

    async def _counted_less(self, begun: Begun, ask: Ask) -> Begun:
        """Before a request is refused by an estimate, the same; plan again where it counts less."""
        exact = await self._exact_tokens(begun)
        if exact is None or exact > begun.layout.limits.hard_tokens:
            return begun
        self._count(begun, exact)
        planner = await self.learn(ask.parameters)
        return await self.plan_again(begun, replace(ask, lay_out=planner.lay_out))

    async def _exact_tokens(self, begun: Begun) -> int | None:
        return await self.client.knowledge.exact_tokens(begun.layout, model=self.model, tools=self.tools)

    def _count(self, begun: Begun, exact_tokens: int) -> None:
        self.client.knowledge.learn(
            begun.layout, model=self.model, reported_tokens=exact_tokens, conversation=begun.conversation.uid
        )
