"""A scripted reply as the service's JSON: a whole completion, and the same as chunks."""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from voxnb.testing import service
from voxnb.testing.request import Request, text_of

Usage: TypeAlias = bool | Mapping[str, Any] | Callable[[Request], Mapping[str, Any]]

_PIECES: Final = re.compile(r"\s*\S+|\s+")
_FINGERPRINT: Final = "fp_voxnb"


def completion(reply: Mapping[str, Any] | str, request: Request, usage: Usage) -> dict[str, Any]:
    """The unstreamed answer: a text, a message or a completion made whole."""
    given = reply if isinstance(reply, Mapping) else {}
    if "choices" in given:
        choices = [_choice(c, i, request) for i, c in enumerate(given["choices"])]
    else:
        wanted = request.json.get("n")
        choices = [_choice(reply, i, request) for i in range(wanted if isinstance(wanted, int) else 1)]
    whole = {
        **head(request),
        "object": "chat.completion",
        **{k: v for k, v in given.items() if "choices" in given},
        "choices": choices,
    }
    counted = given.get("usage") if "choices" in given else None
    return {**whole, "usage": counted or count(choices, request, usage)}


def head(request: Request) -> dict[str, Any]:
    """What every completion and chunk begins with."""
    return {
        "id": f"chatcmpl-{request.number:08d}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": service.deployment_of(request) or request.model,
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
    }


def _choice(given: Mapping[str, Any] | str, index: int, request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {"content": given} if isinstance(given, str) else dict(given)
    if isinstance(found.get("message"), Mapping | str):
        inner = found.pop("message")
        found = {**({"content": inner} if isinstance(inner, str) else inner), **found}
    finish, logprobs = found.pop("finish_reason", None), found.pop("logprobs", None)
    found.pop("index", None)
    message = {"role": "assistant", "content": None, "refusal": None, **found}
    if message.get("tool_calls"):
        message["tool_calls"] = [_call(c, i, request) for i, c in enumerate(message["tool_calls"])]
    finish = finish or _cut(message, request) or ("tool_calls" if message.get("tool_calls") else "stop")
    if logprobs is None and request.json.get("logprobs") is True:
        logprobs = {
            "content": [_token(p) for p in pieces(text_of(message["content"]))] or None,
            "refusal": [_token(p) for p in pieces(message["refusal"] or "")] or None,
        }
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def _call(given: Mapping[str, Any], position: int, request: Request) -> dict[str, Any]:
    if "function" in given or "custom" in given:
        return {"id": f"call_{request.number}_{position}", "type": "function", **given}
    arguments = given.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    name = given.get("id", f"call_{request.number}_{position}")
    return {"id": name, "type": "function", "function": {"name": given["name"], "arguments": text}}


def _cut(message: dict[str, Any], request: Request) -> str | None:
    """Cut the text at the request's own limit, as a model would; "length" where something was cut."""
    limit = request.json.get("max_completion_tokens") or request.json.get("max_tokens")
    if not isinstance(limit, int) or not isinstance(message["content"], str):
        return None
    kept, _ = cut(message["content"], limit, request.model)
    if kept == message["content"]:
        return None
    message["content"] = kept
    return "length"


def cut(text: str, limit_tokens: int, model: str) -> tuple[str, int]:
    """As much of a text as a limit has room for, and its tokens: whole words, and of one too long its beginning."""
    kept, used = "", 0
    for piece in pieces(text):
        tokens = service.count_text(piece, model)
        if used + tokens > limit_tokens:
            room = limit_tokens - used
            fits = bisect_right(range(len(piece)), room, key=lambda n: service.count_text(piece[:n], model)) - 1
            return kept + piece[: max(0, fits)], limit_tokens
        kept, used = kept + piece, used + tokens
    return kept, used


def count(choices: Iterable[Mapping[str, Any]], request: Request, usage: Usage) -> dict[str, Any] | None:
    """The usage block, or None where the server was told to report none."""
    if usage is False:
        return None
    if usage is not True:
        return dict(usage(request) if callable(usage) else usage)
    prompt, written = service.prompt_tokens(request), sum(_written(c["message"], request) for c in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _written(message: Mapping[str, Any], request: Request) -> int:
    texts = [text_of(message.get("content")), message.get("refusal"), message.get("reasoning_content")]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or call.get("custom") or {}
        texts += [function.get("name"), function.get("arguments", function.get("input"))]
    return sum(service.count_text(t, request.model) for t in texts if isinstance(t, str) and t)


def usage_wanted(request: Request) -> bool:
    """Whether the request asks for a usage chunk."""
    options = request.json.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True


def chunks(whole: Mapping[str, Any], request: Request) -> Iterator[dict[str, Any]]:
    """A completion as the stream that the service would have sent: choices in turn, then the usage if asked for."""
    told = usage_wanted(request)
    base = {**{k: v for k, v in whole.items() if k not in ("choices", "usage")}, "object": "chat.completion.chunk"}
    tail: dict[str, Any] = {"usage": None} if told else {}
    for row in zip_longest(*(list(_deltas(c)) for c in whole["choices"])):
        for choice, step in zip(whole["choices"], row, strict=True):
            if step is None:
                continue
            delta, logprobs, finish = step
            entry = {"index": choice["index"], "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            yield {**base, "choices": [entry], **tail}
    if told and whole.get("usage") is not None:
        yield {**base, "choices": [], "usage": whole["usage"]}


def _deltas(choice: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Any, str | None]]:
    message = choice["message"]
    logprobs = choice["logprobs"] or {}
    calls = message.get("tool_calls") or ()
    first = {"role": message["role"], "content": None if calls and not message["content"] else "", "refusal": None}
    yield first, None, None
    for key, value in message.items():
        if key in ("role", "tool_calls") or value is None:
            continue
        if key == "content" and not isinstance(value, str):
            yield {key: value}, None, None
        elif key in ("content", "refusal"):
            yield from _texts(key, value, logprobs.get(key))
        elif isinstance(value, str):
            yield from (({key: p}, None, None) for p in pieces(value))
        else:
            yield {key: value}, None, None
    for index, call in enumerate(calls):
        yield from (({"tool_calls": [d]}, None, None) for d in _call_deltas(call, index))
    yield {}, None, choice["finish_reason"]


def _texts(key: str, text: str, tokens: list[Any] | None) -> Iterator[tuple[dict[str, Any], Any, None]]:
    parts = pieces(text)
    other = "refusal" if key == "content" else "content"
    groups: list[list[Any] | None] = [[t] for t in tokens or ()]
    if tokens and len(tokens) != len(parts):  # the script's own tokens: all of them with the first piece
        groups = [list(tokens), *[None] * (len(parts) - 1)]
    for part, group in zip_longest(parts, groups):
        if part is not None:
            yield {key: part}, {key: group, other: None} if group else None, None


def _call_deltas(call: Mapping[str, Any], index: int) -> Iterator[dict[str, Any]]:
    kind = "custom" if "custom" in call else "function"
    field = "input" if kind == "custom" else "arguments"
    yield {"index": index, **call, kind: {**call[kind], field: ""}}
    for piece in re.findall(r".{1,12}", call[kind].get(field) or "", re.DOTALL):
        yield {"index": index, kind: {field: piece}}


def _token(piece: str) -> dict[str, Any]:
    return {"token": piece, "logprob": -0.25, "bytes": list(piece.encode()), "top_logprobs": []}


def pieces(text: str) -> list[str]:
    """A text cut before its spaces, roughly as tokens are.

    >>> pieces("Hello there,  Ann ")
    ['Hello', ' there,', '  Ann', ' ']
    """
    return _PIECES.findall(text)
