"""Folding: take the oldest turns, have them summarised, check the answer, commit by compare-and-swap.

Rule 1: a fold never touches the chat. What it raises ends here, as a `SummaryFailed`
event and a warning on the next reply.
Rule 2: it is one call per chunk to `summary_model` (one more where the answer was cut), within `FOLD_TIMEOUT_S`.
Rule 3: a request that needs room waits for the fold that runs and for none that waits, and is laid out again before
another is begun. A model that failed the last time gets `AGAIN_S`, and one that is still at it then is given up.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.ends import current_task, or_undone, settled
from voxnb.clients.fold_facts import cost_usd, failure_of, folded_payload, job_payload, stored_payload
from voxnb.clients.writer import LEAST_EXTRACT_TOKENS, SummaryWriter, check_saving, write_extract
from voxnb.errors import SummaryError
from voxnb.events import ContextEvents
from voxnb.memory import summary as memory
from voxnb.memory.past import FENCE_TOKENS
from voxnb.memory.plan import Fold, Layout, choose_fold, choose_forced_fold
from voxnb.store import ending
from voxnb.store import folding as ledger
from voxnb.store.folding import Choose, FoldJob, Written
from voxnb.store.owner import this_process
from voxnb.store.planner import Planner
from voxnb.taping.tape import settled_mark

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient
    from voxnb.store.rows import CallRecord, ConversationRow

FOLD_TIMEOUT_S: Final = 60.0
"""A summary that takes longer is given up; the lease of the fold outlives it."""

AGAIN_S: Final = 10.0
"""So long a request that needs room waits for a model that failed the last time."""

SWAP_TRIES: Final = 4
"""How often a fold is planned again because somebody else changed the conversation meanwhile."""

MORE_ROOM: Final = 2
"""A cut or empty answer is asked for once more with this much more room."""

OVERHEAD_TOKENS: Final = 200
"""Headings, marks and the closing line of a fold's request, generously."""

LEAST_SUMMARY_TOKENS: Final = 16
"""A summary model with less room for what it is shown is of no use."""

NOT_WAITED_FOR: Final = "the summary model had failed before and was still at it when a request needed the room"

VERBATIM: Final = "; the turns are still sent verbatim"
"""What a failed fold means, as long as the next request fits."""


class Folder:
    """The folds of one client's conversation, one at a time."""

    def __init__(self, client: TextClient) -> None:
        self.client = client
        self.lock = asyncio.Lock()
        self._waiting: set[int] = set()  # conversations with a background fold that waits,
        self._running: dict[int, tuple[asyncio.Task[Any], float]] = {}  # with one that runs, since when,
        self._needy: set[int] = set()  # with a request that needs room
        self.warnings: dict[str, str] = {}
        self._failed_at = float("-inf")

    # -- deciding -----------------------------------------------------------------------------

    async def in_background(self, row: ConversationRow, planner: Planner, *, context: Context) -> None:
        """Fold if the thresholds say so; whatever goes wrong is told by event and warning."""

        def choose(snapshot: Any) -> Fold | None:
            return choose_fold(snapshot, limits=planner.limits, weigh=planner.weigh)

        if row.id in self._waiting:
            return  # that one will look at what there is by then
        self._waiting.add(row.id)
        try:
            await self.lock.acquire()
        finally:
            self._waiting.discard(row.id)
        self._running[row.id] = current_task(), time.monotonic()
        try:
            if row.id not in self._needy:
                await self._fold(row, planner, choose=choose, forced=False, context=context)
        except SummaryError:
            return  # told by SummaryFailed
        except Exception as error:  # noqa: BLE001 - rule 1: the chat goes on, whatever it is
            self.warn(error)
        finally:
            del self._running[row.id]
            self.lock.release()

    async def make_room(
        self, row: ConversationRow, planner: Planner, layout: Layout, *, context: Context, since_s: float
    ) -> None:
        """Fold what a request that does not fit needs, by extract where no model does it.

        The caller lays the request out again and looks whether it fits now, also where others have folded meanwhile and
        nothing is done here. A summary model that has failed since the request came, or so often that it rests, is not
        waited for again.

        Args:
            row: the conversation.
            planner: of the request.
            layout: of the request, which does not fit.
            context: of the cell that asked.
            since_s: monotonic clock when the request came, in seconds.
        """
        moved = False

        def choose(snapshot: Any) -> Fold | None:
            nonlocal moved
            moved = snapshot.folded_to != row.folded_to
            limits, weigh = planner.limits, planner.weigh
            return None if moved else choose_forced_fold(snapshot, limits=limits, weigh=weigh, layout=layout)

        resting = await self.client.write(lambda c: ledger.is_resting(c, row.id))
        self._needy.add(row.id)
        try:
            if row.fold_failures and (running := self._running.get(row.id)) is not None:
                task, began_s = running
                await asyncio.wait({task}, timeout=max(0.0, began_s + AGAIN_S - time.monotonic()))
                resting = task.cancel() or resting
                await asyncio.wait({task})
            if not resting:
                async with self.lock:
                    resting = self._failed_at >= since_s
                    within_s = min(AGAIN_S, FOLD_TIMEOUT_S) if row.fold_failures else None
                    if not resting and await self._fold(
                        row, planner, choose=choose, forced=True, context=context, within_s=within_s
                    ):
                        return
        except SummaryError:
            resting = True
        finally:
            self._needy.discard(row.id)
        if resting and not moved:
            uid = await self.extract(row, planner, choose=choose, context=context)
            if uid is not None:
                self._warn_extract(uid)
                return
        if not moved:
            await self.squeeze(row, planner, layout, context=context)

    # -- doing --------------------------------------------------------------------------------

    async def fold(
        self, row: ConversationRow, planner: Planner, *, choose: Choose, forced: bool, context: Context
    ) -> str | None:
        """One fold, planned again where the swap is lost.

        Returns:
            Public id of the summary; None if there was nothing to fold or another process folds.

        Raises:
            SummaryError: no acceptable summary came.
        """
        async with self.lock:
            return await self._fold(row, planner, choose=choose, forced=forced, context=context)

    async def _fold(
        self, row: ConversationRow, planner: Planner, *, choose: Choose, forced: bool, context: Context,
        within_s: float | None = None,
    ) -> str | None:  # fmt: skip
        within_s = within_s or FOLD_TIMEOUT_S
        for _ in range(SWAP_TRIES):
            job = await self._take(row, planner, choose=choose, forced=forced)
            if job is None:
                return None
            self._emit(ContextEvents.SummaryStarted, job_payload(job), context)
            calls: list[CallRecord] = []
            try:
                async with asyncio.timeout(within_s):
                    written = await self._write(job, planner, calls)
            except asyncio.CancelledError:
                if forced or row.id not in self._needy:
                    await settled(self._release(job, calls))
                else:
                    await settled(self._failed(job, SummaryError(NOT_WAITED_FOR, reason="call"), calls, context))
                raise
            except Exception as error:  # rule 1: whatever it is, it is a summary that did not come
                wrapped = failure_of(error, within_s=within_s)
                raise await self._failed(job, wrapped, calls, context, cause=error) from error
            summary_id = await settled(self._commit(job, written, context))
            if summary_id is not None:
                return summary_id
        return None

    async def extract(
        self, row: ConversationRow, planner: Planner, *, choose: Choose, context: Context, limit_tokens: int | None = None
    ) -> str | None:  # fmt: skip
        """The same without a model: the lines that hold facts."""
        async with self.lock:
            for _ in range(SWAP_TRIES):
                job = await self._take(row, planner, choose=choose, forced=True)
                if job is None:
                    return None
                written = write_extract(job, planner, most_tokens=limit_tokens)
                if written.weight >= job.fold.folded_tokens:  # it would make no room, and say less than the turns
                    await self._release(job, [])
                    return None
                summary_id = await settled(self._commit(job, written, context))
                if summary_id is not None:
                    return summary_id
            return None

    async def squeeze(self, row: ConversationRow, planner: Planner, layout: Layout, *, context: Context) -> None:
        """Where all that can be folded is and the summary itself is too long: shorten it."""
        room = ledger.squeeze(layout)
        if layout.tokens["summary"] <= 0 or layout.tokens["tail"] > 0 or room < FENCE_TOKENS + LEAST_EXTRACT_TOKENS:
            return

        def choose(snapshot: Any) -> Fold | None:
            if snapshot.summary is None:
                return None
            weight = planner.weigh(snapshot.summary.tokens, snapshot.summary.features)
            reason = f"the summary leaves the request no room ({room:,} tokens)"
            return Fold((), snapshot.folded_to, reason, weight, weight)

        await self.extract(row, planner, choose=choose, context=context, limit_tokens=room)

    async def _take(self, row: ConversationRow, planner: Planner, *, choose: Choose, forced: bool) -> FoldJob | None:
        owner, now, measure = this_process(), time.time(), planner.measure
        taking = self.client.write(
            lambda c: ledger.take(c, row.id, choose=choose, owner=owner, now=now, forced=forced, measure=measure)
        )
        return await or_undone(taking, lambda job: self._release(job, []))

    async def _commit(self, job: FoldJob, written: Written, context: Context) -> str | None:
        now = time.time()

        def work(c: Any) -> str | None:
            summary_id = ledger.commit(c, job, written, now=now)
            if summary_id is not None:
                told = [(ContextEvents.SummaryFolded.value, stored_payload(job, written))]
                ending.add_events(c, job.conversation.id, None, self.client.kept(told), now=now)
            return summary_id

        summary_id = await self.client.write(work, durable=True)
        if summary_id is not None:
            told = folded_payload(job, written)
            self.client.counters.folded(tokens_before=told["tokens_before"], tokens_after=told["tokens_after"])
            self._emit(ContextEvents.SummaryFolded, {**told, "summary_id": summary_id}, context)
        return summary_id

    async def _failed(
        self, job: FoldJob, wrapped: SummaryError, calls: list[CallRecord], context: Context,
        *, cause: BaseException | None = None,
    ) -> SummaryError:  # fmt: skip
        """Note the failure, tell it, and give what is to be raised."""
        self._failed_at = time.monotonic()
        if calls and calls[-1].error == asyncio.CancelledError.__name__:
            calls[-1] = calls[-1]._replace(error=str(wrapped))
        payload = {"reason": wrapped.reason, "message": str(wrapped), "text": wrapped.text[:2000]}
        now = time.time()
        told = self.client.kept([(ContextEvents.SummaryFailed.value, payload)])
        blamed = bool(calls) or wrapped.reason != "growing"  # turns too short for any summary say nothing of the model
        failures = await self.client.write(
            lambda c: ledger.fail(c, job, calls=calls, events=told, now=now, blamed=blamed)
        )
        self.client.counters.fold_failed()
        self.warn(wrapped, cause=cause)
        self._emit(ContextEvents.SummaryFailed, {**payload, "failures": failures}, context)
        return wrapped

    async def _release(self, job: FoldJob, calls: list[CallRecord]) -> None:
        await self.client.write(lambda c: ledger.release(c, job, calls=calls, now=time.time()))

    def warn(self, error: BaseException, *, cause: BaseException | None = None) -> None:
        """Keep a failure for the next reply, once per cause."""
        why = cause or error
        key = f"{getattr(why, 'reason', '')} {type(why).__name__} {getattr(why, 'status_code', '')}"
        self.warnings.setdefault(
            key,
            f"folding failed ({error}){VERBATIM}. See conversation.events(), conversation.calls() and summary_model.",
        )

    def _warn_extract(self, uid: str) -> None:
        """Say that lines stand for the turns now; what waits to be told of the failure must not say the opposite."""
        ((last_seq,),) = self.client.store.database.read("SELECT last_seq FROM summary WHERE uid = ?", (uid,))
        self.warnings = {key: text.replace(VERBATIM, "") for key, text in self.warnings.items()}
        self.warnings["extract"] = (
            f"to make room without a summary model, turns 1-{last_seq} are sent as an extract of their lines with "
            "names, numbers and dates; conversation.fold() asks the summary model again, unfold() takes it back"
        )

    def take_warnings(self) -> dict[str, str]:
        """Failures since the last reply, by cause."""
        out, self.warnings = self.warnings, {}
        return out

    def _emit(self, name: ContextEvents, payload: Mapping[str, Any], context: Context) -> None:
        self.client.dispatcher.emit(name.value, dict(payload), context=context)

    # -- the summary model --------------------------------------------------------------------

    async def _write(self, job: FoldJob, planner: Planner, calls: list[CallRecord]) -> Written:
        """Ask the summary model, chunk by chunk, and check what it says."""
        client = self.client
        writer = await client.summary_writer()
        prompt = client.summary_prompt
        limits, count = planner.limits, planner.measure.count
        previous = job.previous.text if job.previous else None
        began = time.monotonic()
        room = writer.window_tokens - MORE_ROOM * limits.summary_max_tokens - OVERHEAD_TOKENS
        room -= count(prompt.text) + limits.summary_max_tokens
        if room < LEAST_SUMMARY_TOKENS:
            raise SummaryError(
                f"summary_prompt and summary leave no room in the window of {writer.model!r} "
                f"({writer.window_tokens:,} tokens); shorten the prompt or take another summary_model",
                reason="call",
            )
        last_user = next(
            (s.text for t in reversed(job.fold.turns) for s in reversed(t.messages) if s.role == "user"), ""
        )
        quality, text = "full", previous
        mark = settled_mark(
            [str(text), *memory.transcript(job.fold.turns)], otherwise=partial(secrets.token_hex, 4)
        )  # one for the request and for the summary, so that both can be rebuilt
        check_saving(job, planner, "", mark=mark)  # what no summary can save needs no call
        flags, request = list[str](), dict[str, Any]()
        for lines in memory.chunks(memory.transcript(job.fold.turns), limit_tokens=room, count=count):
            accepted, request = await self._ask(
                writer,
                prompt.text,
                lines,
                previous=text,
                last_user=last_user,
                planner=planner,
                calls=calls,
                # The embedded model is so small that it copies the marks into its summary.
                mark="" if writer.client.endpoint.is_local else mark,
            )
            text = accepted.text
            quality = "cut" if "cut" in (quality, accepted.quality) else "full"
            flags += [flag for flag in accepted.flags if flag not in flags]
        if not text:
            raise SummaryError("the turns to fold say nothing", reason="empty")
        counted, weight = check_saving(job, planner, text, mark=mark)
        return Written(
            text=text,
            mark=mark,
            tokens=counted.tokens,
            features=counted.features,
            encoding=counted.encoding,
            weight=weight,
            prompt=prompt.text,
            prompt_name=prompt.name,
            prompt_version=prompt.version,
            request=request,
            model=writer.model,
            quality=quality,
            flags=flags,
            duration_ms=(time.monotonic() - began) * 1000,
            cost_usd=cost_usd(calls),
            calls=calls,
        )

    async def _ask(
        self, writer: SummaryWriter, prompt: str, lines: str, *, previous: str | None, last_user: str,
        planner: Planner, calls: list[CallRecord], mark: str,
    ) -> tuple[memory.Accepted, dict[str, Any]]:  # fmt: skip
        """One chunk: ask, check, and ask once more with more room where the answer was cut or empty."""
        limits, count = planner.limits, planner.measure.count
        messages = memory.request_messages(prompt, previous=previous, lines=lines, mark=mark)
        replaced = count(lines) + count(previous or "")
        for attempt in (1, MORE_ROOM):
            body = writer.body(messages, max_tokens=attempt * limits.summary_max_tokens)
            answer = await writer.ask(body, purpose="fold", calls=calls)
            cut = answer.finish_reason == "length"
            message = answer.message or {}
            instead = message.get("refusal") or message.get("tool_calls")
            if instead and not answer.text.strip():
                did = "refused" if message.get("refusal") else "called a tool instead of writing"
                raise SummaryError(f"the summary model {did}: {str(instead)[:200]}", reason="empty", text=str(instead))
            if attempt == 1 and (cut or not answer.text.strip()):
                continue
            accepted = memory.accept(
                answer.text,
                cut=cut,
                source=lines,
                previous=previous,
                last_user=last_user,
                max_tokens=limits.summary_max_tokens,
                replaced_tokens=replaced,
                count=count,
                prompt=prompt,
            )
            return accepted, {k: v for k, v in body.items() if k != "messages"}
        raise AssertionError("unreachable: the second attempt returns or raises")
