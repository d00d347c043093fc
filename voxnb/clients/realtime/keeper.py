"""A session that goes on: begun, begun again when it is lost, replaced before it ends.

Rule 1: one session is the current one. A new one is prepared beside it and takes its place at once, in one step of the
loop: no command and no sound goes to both or to none.
Rule 2: a loss that comes again by itself (a message that is too long, a key that is refused) is not tried again.
Rule 3: commands wait for the next session; what the user says does for the first one (`Hearing`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.realtime.hearing import Hearing, Sound
from voxnb.clients.realtime.link import Ended, Link
from voxnb.clients.realtime.socket import CLOSE_S, OPEN_S, Socket, dial
from voxnb.clients.realtime.taped import open_taped
from voxnb.clients.realtime.watchdog import Moves, Patience, Watchdog
from voxnb.clients.refusal import chance, payload_refusal, wait_before_retry
from voxnb.errors import APIError, APIStatusError, APITimeoutError, BridgeError, VoxnbError
from voxnb.params import RealtimeAPIClientType
from voxnb.wire.realtime.heir import catch_up, succeed
from voxnb.wire.realtime.policy import SHORT_LIFE_S, SessionPolicy
from voxnb.wire.realtime.refusal import may_reconnect
from voxnb.wire.realtime.session import RealtimeSession, Received

if TYPE_CHECKING:
    from voxnb.clients.realtime.told import Told

SETTLE_S: Final = 5.0
"""How long a prepared session may take to confirm what it was told."""

GROWTH: Final = 1.25
"""A session that began long is not long because of what was said in it."""


class Keeper:
    """The sessions of one client, one after the other.

    Args:
        client: whose; it is told what comes and what happens.
        kind: conversation or transcription.
        model: of the sessions.
        policy: how long to try, and when to replace.

    Attributes:
        state: the current session's; of the coming one while there is none.
        link: the current session, or None.
        over: how the last one ended, once none will follow.
        sessions: how many were begun.
        reconnects: how many followed another.
        hearing: the way of what the user says.
        began_at: when the current one began, UNIX seconds.
    """

    error: BridgeError | None = None
    """A `Distant` may have one; here no process can end by itself."""

    def __init__(self, client: Told, *, kind: RealtimeAPIClientType, model: str | None, policy: SessionPolicy) -> None:
        self._client = client
        self._kind = kind
        self._model = model
        self._policy = policy
        self.state = RealtimeSession()
        self.link: Link | None = None
        self._coming: Link | None = None  # takes commands from when its session does, a little before it is current
        self.over: Ended | None = None
        self.sessions = 0
        self.reconnects = 0
        self.hearing = Hearing(goes_out=client.goes_out)
        self.began_at = 0.0
        self.first_context_tokens = 0
        self._reading: asyncio.Task[Ended] | None = None
        self._refusals: dict[int, APIStatusError] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving: set[asyncio.Task[Any]] = set()  # left sessions that end: soon, so nobody cancels that
        self._moves = Moves()
        self._short_lived = 0  # losses, each soon after the one before
        self._replacing = False
        self._patience = Patience()
        self._watchdog = Watchdog(current=lambda: self.link, tell=self._tell_given_up, host=client.host)
        self._closing = False

    # -- the first ------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Begin the first session; repeats what fails in passing.

        Raises:
            APIError: see `RealtimeAPIClient.connect`.
        """
        self.hearing.awaits = True
        try:
            await self._client.prepare()
            self.state = await self._client.first_session(self.state)
            self._install(*await self._begin_first())
        finally:
            if self.link is None:
                self.hearing.lost()

    async def _begin_first(self) -> tuple[Link, asyncio.Task[Ended]]:
        attempt = 0
        while True:
            try:
                return await self._begin(self.state)
            except APIError as error:
                may = attempt < self._client.max_retries
                wait_s = wait_before_retry(error, attempt=attempt + 1) if may else None
                if wait_s is None:
                    error.retries = attempt
                    raise
            attempt += 1
            await asyncio.sleep(wait_s)

    async def _begin(self, state: RealtimeSession) -> tuple[Link, asyncio.Task[Ended]]:
        """Open a socket and wait for the session."""
        client = self._client
        endpoint, timeout_s = client.endpoint, client.connect_s or OPEN_S
        try:
            async with asyncio.timeout(timeout_s):
                socket = await open_taped(
                    {"model": self._model, "type": self._kind.value},
                    host=client.host,
                    private=client.private,
                    live=partial(dial, client.transport, kind=self._kind, model=self._model, timeout_s=timeout_s),
                )
                return await self._greet(socket, state)
        except TimeoutError:
            raise APITimeoutError(
                f"{endpoint.host} took longer than {timeout_s:g} s to begin a session; check base_url, or raise timeout_s",
                host=endpoint.host,
            ) from None

    async def _greet(self, socket: Socket, state: RealtimeSession) -> tuple[Link, asyncio.Task[Ended]]:
        client = self._client
        if self.sessions == 0:
            client.tell_open()
        self.sessions += 1
        link = Link(socket, session=state, on_received=self._received, on_wrong=client.wrong, trace=client.trace)
        self._coming = link if state is self.state else self._coming
        reading = asyncio.ensure_future(link.run())
        try:
            await self._ready(link, reading)
        except BaseException:
            self._coming = None if self._coming is link else self._coming
            await socket.close()
            reading.cancel()
            await asyncio.wait({reading})
            raise
        return link, reading

    async def _ready(self, link: Link, reading: asyncio.Task[Ended]) -> None:
        both: set[asyncio.Future[Any]] = {reading, link.ready}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        refusal = self._refusals.pop(id(link), None)
        if link.ready.done():
            link.ready.result()
            return
        if refusal is not None:
            raise refusal
        raise reading.result().too_soon(self._client.endpoint.host, "a session began")

    def _install(self, link: Link, reading: asyncio.Task[Ended]) -> None:
        """Make a session the current one."""
        self.state, self.link, self._reading, self._coming = link.session, link, reading, None
        self.hearing.begin(link)
        self.began_at, self.first_context_tokens = time.time(), 0
        reading.add_done_callback(lambda task: self._ended(link, task))
        self._watchdog.look(link)  # what was asked for before went out with the first event
        self.moved()
        self._watch_expiry()

    def _received(self, link: Link, received: Received) -> None:
        if not link.ready.done():
            if link.session.ready:
                link.ready.set_result(None)
            elif received.severity is not None:
                endpoint = self._client.endpoint
                refused = payload_refusal(received.events[0], endpoint=endpoint, model=self._model)
                if refused is not None:
                    self._refusals[id(link)] = refused
                    if received.severity == "fatal":
                        link.ready.set_exception(refused)
        self._client.received(link, received, is_current=link.session is self.state)
        if received.audio:
            return  # nobody waits for more sound
        self.moved()
        if link is self.link:
            self._watchdog.look(link)
        if received.events[-1]["type"] == "response.done":
            self._look_at_age()

    def moved(self) -> None:
        """Something happened: whoever waits for a boundary looks again."""
        self._moves.made()

    # -- what goes out ----------------------------------------------------------------------------

    def put(self, command: dict[str, Any]) -> None:
        """Ask the current session, or the coming one."""
        send, link = self.state.put(command), self.link or self._coming
        if link is not None:
            link.send(send)
            self._watchdog.look(link)

    def append(self, sound: Sound) -> None:
        """Send what the user says."""
        self.hearing.add(sound, link=self.link)

    def _tell_given_up(self, error: APIError) -> None:
        self._client.tell_failure(error)
        self.moved()

    # -- a loss -----------------------------------------------------------------------------------

    def _ended(self, link: Link, task: asyncio.Task[Ended]) -> None:
        """A connection ended, and nobody here asked for it."""
        if task.cancelled() or self._closing or link is not self.link:
            return
        fault = task.exception()
        ended = task.result() if fault is None else Ended(1006, f"voxnb failed with {fault!r}", was_clean=False)
        self._client.count(link)
        self.link = None
        self.hearing.lost()
        may = self._policy.attempts > 0 and self.reconnects < self._policy.most_reconnects
        if not (may and fault is None and may_reconnect(ended.code)) or link.session.refusal is not None:
            self._give_up(replace(ended, refusal=link.session.refusal))
            return
        old, unsent, messages = link.session, link.unsent(), self._client.spoken_messages(link.session)
        self.state, items = succeed(
            old, messages=messages, kind=self._kind.value, number=self.sessions, unsent=unsent, is_lost=True
        )
        self._client.session_lost(ended)
        tried = self._short_lived if time.time() - self.began_at < SHORT_LIFE_S else 0
        self._short_lived = tried + 1
        self._run(self._recover(ended, old, items, tried=tried))

    async def _recover(self, ended: Ended, old: RealtimeSession, items: int, *, tried: int) -> None:
        for attempt in range(1, self._policy.attempts + 1):
            await asyncio.sleep(self._policy.wait_s(tried + attempt, spread=chance()))
            try:
                await self._client.far_end_is_up()
                link, reading = await self._begin(self.state)
            except VoxnbError as error:  # no key is had any more, among others: whoever waits is told
                self._client.tell_failure(error)
                if wait_before_retry(error, attempt=1) is None:
                    break
                # What was told to a session that began and failed is told to the next one.
                if self.state.ready:
                    break
            else:
                self.reconnects += 1
                self._install(link, reading)
                facts = {"reason": "lost", "attempt": attempt, "items": items, "previous": old.id}
                self._client.session_followed("SessionRestored", {**facts, "session": self.state.id})
                return
        self._give_up(ended)

    def _give_up(self, ended: Ended) -> None:
        self.over = ended
        self._client.session_over(ended)

    # -- a replacement ----------------------------------------------------------------------------

    def _watch_expiry(self) -> None:
        """Look again when the current session nears its end, also where nobody speaks."""
        expires_at = self.state.expires_at
        if expires_at is None or self._policy.expiry_margin_s == 0:
            return
        due_s = expires_at - self._policy.margin_s(began_at=self.began_at, expires_at=expires_at) - time.time()
        if due_s > 0:
            self._watchdog.wake(due_s, self._look_at_age)

    def _look_at_age(self) -> None:
        """Whether the current session is to be replaced now."""
        state = self.state
        self.first_context_tokens = self.first_context_tokens or state.context_tokens
        now, ends = time.time(), state.expires_at
        grown = state.context_tokens > GROWTH * self.first_context_tokens
        if self._policy.expires(now=now, began_at=self.began_at, expires_at=ends):
            reason = "expiring"
        elif self._client.shortens and grown and self._policy.is_long(state.context_tokens):
            reason = "long"
        else:
            return
        if self.reconnects < self._policy.most_reconnects and not self._replacing and self.link is not None:
            self._run(self._replace_quietly(reason))

    async def _replace_quietly(self, reason: str) -> None:
        try:
            await self.replace(reason)
        except VoxnbError as error:  # the session goes on until it ends; then it is begun again
            self._client.tell_failure(error)

    async def replace(self, reason: str) -> bool:
        """Prepare a new session, and let it take the current one's place between two turns.

        Args:
            reason: for the event.

        Returns:
            False where the current session ended first, or is being replaced already.

        Raises:
            APIError: no new session could be begun.
        """
        old = self.link
        if old is None or self._replacing:
            return False
        self._replacing = True
        try:
            return bool(await self._run(self._replace(old, reason)))
        except asyncio.CancelledError:
            if not self._closing:
                raise
            return False
        finally:
            self._replacing = False

    async def _replace(self, old: Link, reason: str) -> bool:
        await self.boundary(old.session)
        if self.link is not old:
            return False
        known, messages, shortened = await self._client.conversation_messages(old.session, reason)
        if self.link is not old:
            return False
        state, items = succeed(old.session, messages=messages, kind=self._kind.value, number=self.sessions)
        link, reading = await self._begin(state)
        try:
            await self._told(link, reading)
            await self.boundary(old.session)
        except BaseException:
            await link.socket.close()
            raise
        if self.link is not old:
            await link.close(drain_s=0, within_s=CLOSE_S)
            return False
        if reading.done():
            raise reading.result().too_soon(self._client.endpoint.host, "its session took over")
        self._take_over(old, link, reading, known=known)
        facts = {"reason": reason, "items": items, "shortened": shortened}
        self.reconnects += 1
        self._client.session_followed("SessionReplaced", {**facts, "previous": old.session.id, "session": state.id})
        self._run(self._leave(old), self._leaving)
        return True

    def _take_over(self, old: Link, link: Link, reading: asyncio.Task[Ended], *, known: frozenset[str]) -> None:
        """One step: what was said meanwhile is told, and everything goes to the new session from here on."""
        self._client.session_leaves(old.session)
        since = self._client.items_since(old.session, known)
        link.send(catch_up(link.session, old.session, items=since, kind=self._kind.value, number=self.sessions))
        self._install(link, reading)

    async def _told(self, link: Link, reading: asyncio.Task[Ended]) -> None:
        """Wait until a prepared session has confirmed what it was told, or has ended."""
        deadline, session = time.monotonic() + SETTLE_S, link.session
        reading.add_done_callback(lambda _: self.moved())
        while (session.items.expected or session.waiting) and not reading.done() and time.monotonic() < deadline:
            await self._moves.next(deadline - time.monotonic())

    async def boundary(self, session: RealtimeSession) -> None:
        """Wait until nobody speaks, nothing is owed and nothing sounds, or the session is over."""
        while self.link is not None and self.state is session and not self._client.is_between_turns():
            if self._patience.is_over(session.items, is_quiet=self._client.is_quiet()):
                return
            await self._moves.next(1.0)

    async def _leave(self, link: Link) -> None:
        self._client.count(link)
        await link.close(drain_s=CLOSE_S, within_s=CLOSE_S)

    # -- the end ----------------------------------------------------------------------------------

    def _run(self, work: Any, among: set[asyncio.Task[Any]] | None = None) -> asyncio.Task[Any]:
        tasks = self._tasks if among is None else among
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def close(self, *, drain_s: float) -> None:
        """End it all, in bounded time."""
        self._closing = True
        self._watchdog.rest()
        for task in list(self._tasks):
            task.cancel()
        if ending := self._tasks | self._leaving:
            await asyncio.wait(ending, timeout=CLOSE_S)
        link, self.link = self.link, None
        if link is not None:
            await link.close(drain_s=drain_s, within_s=CLOSE_S)
            self._client.count(link)
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait({self._reading})
