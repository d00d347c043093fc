"""Who writes summaries: a model by its request, or, without one, the lines that hold facts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import SummaryError
from voxnb.memory import summary as memory
from voxnb.memory import tokens
from voxnb.memory.calibration import RequestCounts
from voxnb.memory.past import FENCE_TOKENS
from voxnb.store.folding import FoldJob, Written
from voxnb.store.planner import Planner
from voxnb.taping.tape import settled_mark

if TYPE_CHECKING:
    from voxnb.clients.streaming import Answer
    from voxnb.clients.text import TextClient
    from voxnb.store.rows import CallRecord, Counted


LEAST_EXTRACT_TOKENS: Final = 8
"""Below this not even an extract holds a line."""


NOTHING_KEPT: Final = "(nothing of it could be kept)"


class SummaryWriter:
    """Who writes summaries: a client's transport, a model and its request; for the client whose turns they stand for."""

    def __init__(
        self, client: TextClient, *, owner: TextClient, model: str, window_tokens: int, request: Mapping[str, Any]
    ) -> None:
        self.client = client
        self.owner = owner
        self.model = model
        self.window_tokens = window_tokens
        self.request = request

    def body(self, messages: list[dict[str, str]], *, max_tokens: int) -> dict[str, Any]:
        """The request's body; what the user gave in ``summary_request`` wins."""
        # OpenAI's newer models refuse max_tokens, other servers know nothing else.
        limits = self.client.DIALECT.limits
        limit = limits[0] if self.client.endpoint.is_openai else limits[-1]
        body: dict[str, Any] = {"model": self.model, limit: max_tokens, **self.client.fold_sampling, **self.request}
        return {**body, "messages": messages}

    async def ask(self, body: dict[str, Any], *, purpose: str, calls: list[CallRecord]) -> Answer:
        """One call, streamed so that silence is noticed; also one that fails is added to ``calls``."""
        measure, knowledge = self.client.measure_of(self.model), self.client.knowledge
        counted = [measure.text_message(m["role"], m["content"]) for m in body["messages"]]
        sent = RequestCounts.of((c.tokens, c.features) for c in counted)
        learned = knowledge.calibration(self.model)
        estimated = tokens.PRIMER_TOKENS + sent.tokens if learned is None else learned.estimate(sent)
        answer = await self.client.complete(
            body, purpose=purpose, estimated_tokens=estimated, calls=calls, counters=self.owner.counters
        )
        if answer.usage is not None and answer.usage.prompt_tokens is not None:
            mark = secrets.token_hex(4)
            knowledge.learn_fold(sent, answer.usage.prompt_tokens, model=self.model, mark=mark)
        return answer


def check_saving(job: FoldJob, planner: Planner, text: str, *, mark: str) -> tuple[Counted, int]:
    """The counts and the weight of a summary as it is sent, which must be less than that of what it replaces."""
    counted = planner.fenced_counts(text, mark=mark, last_seq=job.fold.last_seq)
    weight = planner.weigh(counted.tokens, counted.features)
    if weight >= job.fold.folded_tokens:
        first, last = job.conversation.folded_to + 1, job.fold.last_seq
        whose = f"turn {last}" if first == last else f"turns {first}-{last}"
        raise SummaryError(
            f"{'the' if text else 'even an empty'} summary takes {weight:,} tokens with the lines around it, what it would "
            f"replace ({whose}{' and the summary before' if job.previous else ''}) {job.fold.folded_tokens:,}: the request "
            "would grow; fold more turns at once, or when more was said",
            reason="growing",
            text=text,
        )
    return counted, weight


def write_extract(job: FoldJob, planner: Planner, *, most_tokens: int | None = None) -> Written:
    """A summary without a model.

    Args:
        job: what it stands for.
        planner: how it is counted.
        most_tokens: of the fenced message, as the server counts; default what it replaces, and the policy's limit.
    """
    most = most_tokens if most_tokens is not None else max(job.fold.folded_tokens - 1, FENCE_TOKENS)
    limit = planner.limits.summary_max_tokens
    mark = settled_mark(memory.transcript(job.fold.turns), otherwise=partial(secrets.token_hex, 4))
    while True:
        text = memory.extract(
            job.fold.turns,
            previous=job.previous.text if job.previous else None,
            limit_tokens=limit,
            count=planner.measure.count,
        )
        text = text or NOTHING_KEPT
        counted = planner.fenced_counts(text, mark=mark, last_seq=job.fold.last_seq)
        weight = planner.weigh(counted.tokens, counted.features)
        if weight <= most or limit < LEAST_EXTRACT_TOKENS:
            break
        limit = min(limit * 3 // 4, max(limit - (weight - most), 0))
    return Written(
        text=text,
        mark=mark,
        tokens=counted.tokens,
        features=counted.features,
        encoding=counted.encoding,
        weight=weight,
        prompt="",
        prompt_name=None,
        prompt_version=None,
        request={},
        model="extract",
        quality="full",
        flags=(),
        duration_ms=0.0,
        cost_usd=0.0,
        calls=(),
    )
