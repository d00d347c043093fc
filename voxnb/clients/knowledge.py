"""What a client has learned of the server it asks: the window, and how its counts relate to ours."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import APIError, BudgetError
from voxnb.memory import tokens
from voxnb.memory.calibration import MARGIN, MOST, Calibration, RequestCounts, kind_of
from voxnb.memory.plan import Layout
from voxnb.memory.policy import DEFAULT_WINDOW_TOKENS, Limits
from voxnb.memory.window import known_input_limit, known_window
from voxnb.store.planner import Measure, Planner, summary_role_for
from voxnb.store.rows import dump

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient

BELIEVED_SHARE: Final = 0.8
"""What remains of a window that turned out to be smaller, where nobody says how small."""

LEAST_WINDOW_TOKENS: Final = 64
"""No model has less: a server that says so, or that refuses what is that short, is not believed."""

NEAR_LIMIT: Final = 0.8
"""From this share of the hard limit on, the embedded model is asked for its own count (5 to 8 ms)."""

ATTACHMENT_SHARE: Final = 4
"""An attached table takes at most a quarter of the window."""

ASKS_FOR_USAGE: Final = {"include_usage": True}
"""The ``stream_options`` that voxnb adds to a request that has none."""


class Knowledge:
    """Windows by model, calibration by model, and what the server does not take; one per client."""

    def __init__(self, client: TextClient) -> None:
        self._client = client
        self._windows: dict[str, int | None] = {}
        self._learned: dict[str, int] = {}
        self._calibrations: dict[str, Calibration] = {}
        self._warnings: list[str] = []
        self.last_model: str | None = None
        self._takes_stream_options = True

    # -- what it takes ------------------------------------------------------------------------

    def without_refused(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A body without what voxnb adds to it and the server has refused."""
        if not self._takes_stream_options and body.get("stream_options") == ASKS_FOR_USAGE:
            return {k: v for k, v in body.items() if k != "stream_options"}
        return body

    def learn_refused(self, error: APIError, sent: Mapping[str, Any]) -> bool:
        """Whether the server refuses what voxnb added: some that are compatible otherwise do not know the field."""
        names_it = "stream_options" in f"{getattr(error, 'param', None)} {error.message}"
        is_ours = sent.get("stream_options") == ASKS_FOR_USAGE
        refused = names_it and is_ours and getattr(error, "status_code", None) in (400, 422)
        self._takes_stream_options &= not refused
        return refused

    # -- the window ---------------------------------------------------------------------------

    async def discover(self, model: str | None) -> None:
        """Ask the server for its window; final answers are remembered by `discover_window` itself."""
        name = model or ""
        if self._client.policy.window_tokens is not None or self._client.endpoint.is_openai:
            return
        from voxnb.clients.window import discover_window

        self._windows[name] = await discover_window(self._client.transport, name)

    def is_known(self, model: str | None) -> bool:
        """Whether the server was asked already, or need not be."""
        return (
            self._client.policy.window_tokens is not None
            or self._client.endpoint.is_openai
            or (model or "") in self._windows
        )

    def window_tokens(self, model: str | None) -> int:
        """Tokens a whole request to this model may have."""
        name = model or ""
        if name in self._learned:
            return self._learned[name]
        found = self._windows.get(name) or known_window(model)
        if found is None:
            found = self._client.policy.window_tokens
        if found is None:
            whose = repr(model) if model else "the prompt's model"
            self._warnings.append(
                f"the context window of {whose} is not known; {DEFAULT_WINDOW_TOKENS:,} tokens are assumed, "
                "set policy=ContextPolicy(window_tokens=…)"
            )
            found = DEFAULT_WINDOW_TOKENS
        return found

    def learn_overflow(self, error: APIError, layout: Layout, *, model: str | None) -> int | None:
        """Believe a server that says "too long"; the window it has, or None where it says nothing that can be believed."""
        from voxnb.clients.sdk import overflow_of

        found = overflow_of(error)
        if found is None:
            return None
        limit, sent = found
        believed = self.learn(layout, model=model, reported_tokens=sent) is not None
        # Where our counts do not follow the server's, the limit is told in ours: less than what was too much.
        reserve_tokens = layout.limits.reserve_output_tokens
        ours = layout.total_tokens + reserve_tokens
        less = max(int(ours * BELIEVED_SHARE), reserve_tokens + LEAST_WINDOW_TOKENS)
        if sent and sent > MOST * ours and not believed:
            return None  # no count of this request: what the server says stands, and teaches nothing
        if sent and limit and not believed:
            limit = int(limit * min(1.0, layout.total_tokens / sent))
        elif limit is None or (sent is None and limit > less):
            limit = less if less < ours else 0
        if limit < LEAST_WINDOW_TOKENS:
            return None
        self._learned[model or ""] = limit
        return limit

    async def exact_tokens(self, layout: Layout, *, model: str | None, tools: Mapping[str, Any] | None) -> int | None:
        """What the embedded model counts for a request that is near its limit; None for other requests and servers."""
        if not self._client.endpoint.is_local or layout.total_tokens < NEAR_LIMIT * layout.limits.hard_tokens:
            return None
        body = {"model": model, "messages": layout.messages, **(tools or {})}
        try:
            found = await self._client.transport.post("/chat/completions/input_tokens", body, max_retries=0)
        except APIError:
            return None  # the request itself will tell what is wrong
        exact = found.get("input_tokens")
        return exact if isinstance(exact, int) else None

    def attachment_tokens(self) -> int:
        """How long an attached table may be."""
        window = self.window_tokens(self._client.planner_model())
        return max(256, min(window, self._client.policy.window_tokens or window) // ATTACHMENT_SHARE)

    # -- planning -----------------------------------------------------------------------------

    def planner(
        self,
        parameters: Mapping[str, Any],
        request_tools: Mapping[str, Any] | None,
        *,
        conversation: str | None = None,
    ) -> Planner:
        """How a request with these parameters is counted and laid out.

        Raises:
            BudgetError: the policy does not fit this model's window.
        """
        client = self._client
        model = parameters.get("model")
        measure = client.measure_of(model)
        learned = self.calibration(model)
        window = self.window_tokens(model)
        margin = 0.0 if learned is None or kind_of(model) == "ours" else MARGIN
        limits = self._limits(model, window, reserve_tokens=_limit(parameters, client.DIALECT.limits), margin=margin)
        input_limit = known_input_limit(model)
        if input_limit is not None and limits.hard_tokens > input_limit:
            limits = replace(limits, hard_tokens=input_limit)
        return Planner(
            limits=limits,
            measure=measure,
            calibration=learned,
            conversation=conversation or client.conversation.id,
            summary_role=summary_role_for(model, client.policy),
            tools_tokens=_tools_tokens(request_tools or {}, measure),
            parameters=dict(parameters),
            instructions=tuple(client.instructions),
            instructions_said=client.instructions_said,
        )

    def _limits(self, model: str | None, window: int, *, reserve_tokens: int | None, margin: float) -> Limits:
        policy = self._client.policy
        try:
            return policy.limits(window, reserve_output_tokens=reserve_tokens, margin=margin)
        except BudgetError:
            if (model or "") not in self._learned:
                raise
        # The server's word is newer than the policy's: what follows from its window instead.
        policy = replace(policy, window_tokens=None, fold_at_tokens=None, fold_to_tokens=None, summary_max_tokens=None)
        return policy.limits(window, reserve_output_tokens=reserve_tokens, margin=margin)

    def is_exact(self, model: str | None) -> bool:
        """Whether our encoding is the server's."""
        from voxnb.runtime.encodings import encoding_for

        return encoding_for(model).exact and self._client.endpoint.is_openai

    # -- calibration --------------------------------------------------------------------------

    def calibration(self, model: str | None) -> Calibration | None:
        """What is known of how the server counts; None where our own count is to be believed."""
        own = self.is_exact(model) or self._client.measure_of(model).encoding == "custom"
        return None if own else self._calibration(model)

    def _calibration(self, model: str | None) -> Calibration:
        name = model or ""
        found = self._calibrations.get(name)
        if found is None:
            found = self._stored(name) if self._client.remembers else Calibration.for_model(model)
            self._calibrations[name] = found
        return found

    def learn_fold(self, sent: RequestCounts, reported_tokens: int, *, model: str, mark: str) -> None:
        """Take the reported usage of a fold into account; unlike turns, no fold extends another.

        Args:
            sent: what was asked.
            reported_tokens: what the server counted.
            model: who was asked.
            mark: a text that no other fold has.
        """
        known = self.calibration(model)
        if known is None:
            return
        after = self._calibrations[model] = known.observe(sent, reported_tokens, conversation="fold", prefix=mark)
        if after is not known and self._client.remembers:
            self._client.store.database.write(self._keep(model, after))

    def _stored(self, model: str) -> Calibration:
        rows = self._client.store.database.read(
            "SELECT state FROM calibration WHERE host = ? AND model = ?", (self._client.host, model)
        )
        if rows:
            with contextlib.suppress(ValueError):  # of an older kind: start again
                return Calibration.from_dict(json.loads(rows[0][0]))
        return Calibration.for_model(model)

    def learn(
        self, layout: Layout, *, model: str | None, reported_tokens: int | None, conversation: str | None = None
    ) -> Callable[[Any], None] | None:
        """Take a call's reported usage into account.

        Returns:
            What to write into the store, or None.
        """
        if (
            reported_tokens is None
            or not layout.counted
            or self._client.policy.count is not None
            or self.is_exact(model)
        ):
            return None
        sent = RequestCounts.of(layout.counted, tools_tokens=layout.tools_tokens)
        before = self._calibration(model)
        uid = conversation or self._client.conversation.id
        after = before.observe(sent, reported_tokens, conversation=uid, prefix=layout.prefix)
        if after is before:
            return None
        self._calibrations[model or ""] = after
        return self._keep(model or "", after)

    def _keep(self, model: str, calibration: Calibration) -> Callable[[Any], None]:
        row = (self._client.host, model, dump(calibration.to_dict()), time.time())

        def work(c: Any) -> None:
            c.execute("INSERT OR REPLACE INTO calibration (host, model, state, updated_at) VALUES (?, ?, ?, ?)", row)

        return work

    def take_warnings(self) -> list[str]:
        """What should be said once."""
        out, self._warnings = self._warnings, []
        return out


def _tools_tokens(extra: Mapping[str, Any], measure: Measure) -> int:
    """What tools and response format add to the prompt."""
    out = tokens.response_format_tokens(_mapping(extra.get("response_format")), measure.count)
    for name in ("tools", "functions"):
        if extra.get(name):
            out += tokens.tools_tokens(extra[name], measure.count, model=measure.model)
    return out


def _mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _limit(parameters: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The request's own limit of the reply."""
    for name in names:
        value = parameters.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
