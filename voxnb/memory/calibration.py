"""How many tokens a server with another tokenizer will count, learned from the usage it reports.

A request's count is taken as a sum: a constant, something per message, and our own tokens split by what
tokenizers treat differently (`Features`). English prose differs by 0-20 %, but a table of numbers by 80 % where every
digit is a token, and Korean by 300 % in a small vocabulary: one factor for all cannot serve. The weights start at what
the model's family is known for and follow the reports (a Kalman filter: linear regression that forgets slowly).

Rule 1: a request that extends an earlier one, whose count was reported, costs that count and the weighed
new part.
Rule 2: a report that no tokenizer would give (a prompt cut by the server, a count without the cached
part) teaches nothing.

Measured with the tokenizers of SmolLM2, Llama 3, Qwen, Mistral 7B, Mistral Nemo and cl100k against counts of o200k,
worst of 25 conversations each: English prose after three calls within 4 % (SmolLM2: 2 %); the call that pastes a table
of numbers 3 %, JSON 3 % (Mistral 7B: 9 %), Python 6 % (14 %), long addresses 19 %; the call after any of these 2 %.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from voxnb.memory.tally import Features
from voxnb.memory.tokens import MESSAGE_TOKENS, PRIMER_TOKENS
from voxnb.memory.window import base_name

MARGIN: Final = 0.10
"""Of the hard limit, kept free where counts are estimates."""

ANCHORS: Final = 16
"""Conversations whose last request is remembered."""

NONE: Final = Features()


class RequestCounts(NamedTuple):
    """A request as the sum of its messages' stored counts.

    Attributes:
        messages: how many.
        tokens: ours, of the messages alone.
        features: of the messages, added up.
        tools_tokens: ours, of tools and response format.
    """

    messages: int = 0
    tokens: int = 0
    features: Features = NONE
    tools_tokens: int = 0

    @classmethod
    def of(cls, counted: Iterable[tuple[int, Sequence[int] | None]], *, tools_tokens: int = 0) -> RequestCounts:
        """Add up (tokens, features) of every message that is sent.

        >>> RequestCounts.of([(10, None), (20, (3, 1, 0, 0))])
        RequestCounts(messages=2, tokens=30, features=Features(numeric=3, split=1, wide=0, media=0), tools_tokens=0)
        """
        messages = tokens = 0
        total = [0, 0, 0, 0]
        for own, counts in counted:
            messages += 1
            tokens += own
            for n, value in enumerate((counts or ())[:4]):
                total[n] += value
        return cls(messages, tokens, Features(*total), tools_tokens)

    @property
    def known(self) -> float:
        """Tokens that weigh the same everywhere."""
        return PRIMER_TOKENS + self.features.numeric

    @property
    def vector(self) -> tuple[float, ...]:
        """What each weight is multiplied with; see `WEIGHTS`."""
        f = self.features
        return (
            1.0,
            self.messages,
            self.tokens - f.numeric - f.media,
            f.split,
            f.wide,
            f.media,
            self.tools_tokens,
        )


WEIGHTS: Final = ("request", "message", "text", "split", "wide", "media", "tools")
"""Names of the weights: tokens per request and per message beside ours; per token of text, per token more where
digits are single, per byte beyond ASCII, per token of media, per token of tools."""

_SIZE: Final = len(WEIGHTS)
_TEXT, _WIDE = WEIGHTS.index("text"), WEIGHTS.index("wide")


class Prior(NamedTuple):
    """What is believed of a tokenizer before its first report: mean of each weight, and how sure that is."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]


# Fitted on prose, code, tables and eight scripts, counted by the tokenizers named above; request and message allow for
# what chat templates add (role marks, a default system message).
_SPREAD: Final = (12.0, 1.0, 0.08, 0.1, 0.15, 1.0, 0.5)
PRIORS: Final = {
    "ours": Prior((0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0), (4.0, 0.2, 0.02, 0.05, 0.02, 0.3, 0.2)),
    "grouped": Prior((5.0, 0.5, 1.02, 0.0, 0.1, 1.0, 1.0), _SPREAD),
    "single": Prior((5.0, 0.5, 1.02, 1.0, 0.1, 1.0, 1.0), _SPREAD),
    "single-small": Prior((5.0, 0.5, 1.06, 1.0, 0.25, 1.0, 1.0), _SPREAD),
    # SmolLM2's template leaves tool calls and tool schemas out.
    "single-bare": Prior((5.0, 0.5, 1.06, 1.0, 0.25, 0.0, 0.0), _SPREAD),
    # Most open models split digits; to believe it wrongly costs an early fold, not to believe it a cut prompt.
    "unknown": Prior((5.0, 0.5, 1.06, 1.0, 0.25, 1.0, 1.0), (12.0, 1.0, 0.1, 0.25, 0.2, 1.0, 0.5)),
}
"""Kinds of tokenizers: OpenAI's; digits in threes; digits single, in a large or a small vocabulary, without tools."""

_FAMILIES: Final = (
    (r"smollm3|llama-?(3|4)|meta-llama-[34]|deepseek-(v3|chat|reasoner)|phi-?4|glm-?4|gpt-oss|gpt-\d", "grouped"),
    (r"qwen|qwq|gemma|gemini|nemo|ministral|pixtral|mistral-(small|medium|large)|magistral", "single"),
    (r"smollm", "single-bare"),
    (r"llama-?2|codellama|tinyllama|vicuna|mistral|mixtral|phi-?3|starcoder", "single-small"),
)
"""Where the tokenizer's pattern is known: ``\\p{N}{1,3}`` groups digits, ``\\p{N}`` splits them.

Source: the tokenizers themselves (mistral-common, llama-models, dashscope, SmolLM2's GGUF), llama.cpp's vocabularies.
"""

_OURS: Final = re.compile(r"(gpt-[345](\.\d)?|gpt-35|o[134]|chatgpt|codex|computer-use|gpt-audio)(\b|o\b)")

NOISE_TOKENS: Final = 1.5
NOISE_SHARE: Final = 0.04
"""How far texts of one kind scatter around their weight."""

DRIFT_TEXT: Final = 0.01
DRIFT_WIDE: Final = 0.005
"""How much the weights of text may wander between two calls: conversations change their subject and language."""

FEWEST: Final = 0.75
MOST: Final = 8.0
"""Reported tokens per token of ours, the marks of messages apart: outside of these no tokenizer is believed."""

_LIMITS: Final = ((-50.0, 5_000.0), (-4.0, 40.0), (0.3, 6.0), (-0.5, 2.0), (-0.5, 1.5), (0.0, 20.0), (0.0, 4.0))


class Anchor(NamedTuple):
    """A request whose count was reported.

    Attributes:
        conversation: whose it was.
        prefix: what it began with; a later request with the same prefix extends it.
        counts: its own.
        reported_tokens: the server's.
    """

    conversation: str
    prefix: str
    counts: RequestCounts
    reported_tokens: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a server's counting; a value: `observe` returns the next one.

    Attributes:
        weights: see `WEIGHTS`.
        spread: covariance of the weights, row by row.
        anchors: last reported request of each conversation, newest first.
        reports: how many reports were taken in.

    >>> c = Calibration.for_model("SmolLM2-135M-Instruct")
    >>> sent = RequestCounts(messages=2, tokens=400)
    >>> c.estimate(sent), c.observe(sent, 460, conversation="c1").estimate(sent, conversation="c1")
    (433, 460)
    """

    weights: tuple[float, ...] = PRIORS["unknown"].mean
    spread: tuple[float, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    reports: int = 0

    def __post_init__(self) -> None:
        if not self.spread:
            object.__setattr__(self, "spread", _diagonal(PRIORS["unknown"].spread))

    @classmethod
    def for_model(cls, model: str | None) -> Calibration:
        """Before the first report, by what the model's name tells of its tokenizer."""
        prior = PRIORS[kind_of(model)]
        return cls(prior.mean, _diagonal(prior.spread))

    # -- weighing -----------------------------------------------------------------------------

    def weigh(self, tokens: int, counts: Sequence[int] | None = None) -> int:
        """What one message adds to a request, by its stored counts.

        Args:
            tokens: as stored.
            counts: features as stored, or None.
        """
        _, message, text, split, wide, media, _ = self.weights
        f = NONE if counts is None else Features(*counts[:4])
        own = message + text * (tokens - f.numeric - f.media) + f.numeric
        return max(0, round(own + split * f.split + wide * f.wide + media * f.media))

    def weigh_tools(self, tokens: int) -> int:
        """What tools and response format add."""
        return max(0, round(self.weights[-1] * tokens))

    def fixed_tokens(self, *, conversation: str = "", prefix: str = "") -> int:
        """What a request costs beside its messages and tools, the primer of the reply included.

        Where the request extends a reported one, also what the weights missed there; it may be negative.
        """
        return round(self.weights[0] + PRIMER_TOKENS + self._missed(conversation, prefix))

    def estimate(self, sent: RequestCounts, *, conversation: str = "", prefix: str = "") -> int:
        """Tokens the server will report for a request.

        Args:
            sent: the sum of its messages' counts.
            conversation: id of the conversation.
            prefix: a text that stays the same exactly as long as requests only grow at their end (of
                instructions, tools, summary, pins and first verbatim turn).
        """
        return max(0, round(self._sum(sent) + self._missed(conversation, prefix)))

    def _sum(self, sent: RequestCounts) -> float:
        return sent.known + _dot(self.weights, sent.vector)

    def _missed(self, conversation: str, prefix: str) -> float:
        for anchor in self.anchors:
            if anchor.conversation == conversation:
                return anchor.reported_tokens - self._sum(anchor.counts) if anchor.prefix == prefix else 0.0
        return 0.0

    # -- learning -----------------------------------------------------------------------------

    def observe(
        self, sent: RequestCounts, reported_tokens: int, *, conversation: str = "", prefix: str = ""
    ) -> Calibration:
        """Take a reported prompt count in.

        Args:
            sent: as for `estimate`.
            reported_tokens: ``usage.prompt_tokens``, or the number in a "too long" error.
            conversation: as for `estimate`.
            prefix: as for `estimate`.

        Returns:
            The calibration afterwards; the same one where the report is not `plausible`.
        """
        if not plausible(sent, reported_tokens):
            return self
        step, seen = sent.vector, reported_tokens - sent.known
        last = next((a for a in self.anchors if a.conversation == conversation), None)
        if last is not None and last.prefix == prefix:
            grown = seen - (last.reported_tokens - last.counts.known)
            step = tuple(a - b for a, b in zip(step, last.counts.vector, strict=True))
            if grown < 0 < step[_TEXT]:
                return self  # longer and yet cheaper: the server cut it, or counts without its cache
            seen = grown
        anchor = Anchor(conversation, prefix, sent, reported_tokens)
        others = tuple(a for a in self.anchors if a.conversation != conversation)
        return replace(self._learn(step, seen), anchors=(anchor, *others)[:ANCHORS], reports=self.reports + 1)

    def _learn(self, step: tuple[float, ...], seen: float) -> Calibration:
        """One step of the filter: `seen` tokens for `step`."""
        cov = [list(self.spread[n * _SIZE : (n + 1) * _SIZE]) for n in range(_SIZE)]
        cov[_TEXT][_TEXT] += DRIFT_TEXT**2
        cov[_WIDE][_WIDE] += DRIFT_WIDE**2
        size = abs(step[2]) + abs(step[3]) + 0.3 * abs(step[4]) + abs(step[5]) + 0.3 * abs(step[6])
        shared = [_dot(row, step) for row in cov]
        scatter = _dot(shared, step) + NOISE_TOKENS**2 + (NOISE_SHARE * size) ** 2
        gain = [value / scatter for value in shared]
        error = seen - _dot(self.weights, step)
        weights = tuple(
            min(high, max(low, weight + part * error))
            for weight, part, (low, high) in zip(self.weights, gain, _LIMITS, strict=True)
        )
        spread = tuple(cov[i][j] - gain[i] * shared[j] for i in range(_SIZE) for j in range(_SIZE))
        return replace(self, weights=weights, spread=spread)

    # -- keeping ------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; a few hundred bytes, and some 60 more per conversation remembered."""
        return {
            "weights": [_short(value) for value in self.weights],
            "spread": [_short(value) for value in self.spread],
            "anchors": [
                [*a[:2], a.reported_tokens, *a.counts[:2], *a.counts.features, a.counts.tools_tokens]
                for a in self.anchors
            ],
            "reports": self.reports,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            ValueError: it is not one; start again with `for_model`.
        """
        try:
            weights, spread = tuple(map(float, data["weights"])), tuple(map(float, data["spread"]))
            anchors = tuple(
                Anchor(
                    str(a[0]),
                    str(a[1]),
                    RequestCounts(int(a[3]), int(a[4]), Features(*map(int, a[5:9])), int(a[9])),
                    int(a[2]),
                )
                for a in data["anchors"]
            )
            reports = int(data["reports"])
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"stored calibration cannot be read ({error!r})") from error
        if len(weights) != _SIZE or len(spread) != _SIZE * _SIZE:
            raise ValueError(f"stored calibration has {len(weights)} weights, expected {_SIZE}")
        return cls(weights, spread, anchors, reports)


def kind_of(model: str | None) -> str:
    """Which of `PRIORS` a model's name points to.

    >>> kind_of("qwen2.5:7b"), kind_of("meta-llama/Llama-3.1-8B-Instruct"), kind_of("my-model"), kind_of("gpt-4o")
    ('single', 'grouped', 'unknown', 'ours')
    """
    name = base_name(model)
    if _OURS.match(name):
        return "ours"
    return next((kind for pattern, kind in _FAMILIES if re.search(pattern, name)), "unknown")


def plausible(sent: RequestCounts, reported_tokens: int) -> bool:
    """Whether any tokenizer could count so; far fewer than were sent means that the server cut the prompt.

    >>> plausible(RequestCounts(messages=10, tokens=6000), 2048)
    False
    """
    text = sent.tokens - sent.features.media - MESSAGE_TOKENS * sent.messages
    most = MOST * (sent.tokens + sent.tools_tokens) + sent.features.split + sent.features.wide + 2_000
    return FEWEST * text <= reported_tokens <= most


def _diagonal(spread: Sequence[float]) -> tuple[float, ...]:
    return tuple(value**2 if i == j else 0.0 for i, value in enumerate(spread) for j in range(_SIZE))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _short(value: float) -> float:
    return float(f"{value:.6g}")
