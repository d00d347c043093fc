"""What the store and listeners are told of a fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voxnb.errors import APIError, SummaryError, VoxnbError
from voxnb.store.folding import FoldJob, Written
from voxnb.store.rows import CallRecord


def failure_of(error: Exception, *, within_s: float) -> SummaryError:
    """Why no summary came."""
    if isinstance(error, SummaryError):
        return error
    if isinstance(error, TimeoutError):
        why = f"the summary model took longer than {within_s:g} s"
    elif isinstance(error, APIError):
        why = f"the summary model could not be asked: {error}"
    else:
        why = str(error) if isinstance(error, VoxnbError) else f"{type(error).__name__}: {error}"
    return SummaryError(why, reason="call")


def cost_usd(calls: Sequence[CallRecord]) -> float | None:
    """What they cost together, or None where that of one of them is not known."""
    known = [call.cost_usd for call in calls if call.cost_usd is not None]
    return sum(known) if len(known) == len(calls) else None


def job_payload(job: FoldJob) -> dict[str, Any]:
    """What `SummaryStarted` says."""
    fold = job.fold
    return {
        "conversation": job.conversation.uid,
        "reason": fold.reason,
        "turns": [turn.seq for turn in fold.turns],
        "first_seq": job.conversation.folded_to + 1,
        "last_seq": fold.last_seq,
        "tokens_before": fold.tokens_before,
        "round": (job.previous.round if job.previous else 0) + 1,
    }


def folded_payload(job: FoldJob, written: Written) -> dict[str, Any]:
    """What `SummaryFolded` says."""
    return {
        **job_payload(job),
        "tokens_after": job.fold.tokens_before - job.fold.folded_tokens + written.weight,
        "text": written.text,
        "model": written.model,
        "quality": written.quality,
        "flags": list(written.flags),
        "duration_ms": written.duration_ms,
    }


def stored_payload(job: FoldJob, written: Written) -> dict[str, Any]:
    """The event as it is kept: the text stands in the summary's row already."""
    return {k: v for k, v in folded_payload(job, written).items() if k != "text"}
