"""What a server's refusal means: typed errors with what to do next, requests that were too long, when to try again."""

from __future__ import annotations

import email.utils
import math
import random
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from voxnb.clients.address import Endpoint
from voxnb.errors import APIConnectionError, APIStatusError, VoxnbError, status_error
from voxnb.runtime.hiding import hide, hide_in_text
from voxnb.wire.unicode import whole_unicode

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 8.0
LONGEST_RETRY_AFTER_S: Final = 120.0
"""A server that asks for more is not waited for: the error says how long it wants."""

RETRIED_STATUSES: Final = frozenset({408, 409, 429})
"""Beside everything of 500 and above."""

_SHOWN_CHARACTERS: Final = 300

_OVERFLOW_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_OVERFLOW_STATUSES: Final = frozenset({400, 413, 422, 500})

# The words of OpenAI, Azure, vLLM, SGLang, llama.cpp, llama-cpp-python, Ollama, LM Studio, TGI, Mistral, Anthropic
# and Gemini, as their servers and their users' reports have them.
_TOO_LONG: Final = re.compile(
    r"maximum context length|exceed the configured limit of|longer than the maximum model length"
    r"|exceeds the available context size|longer than the context length|exceeded max context length"
    r"|length exceeds the context length|context length of only|longer than the model's context length"
    r"|`inputs` must have less than|`max_new_tokens` must be <=|prompt is too long:"
    r"|exceeds the maximum number of tokens allowed|exceed context window of",
    re.IGNORECASE,
)
_N: Final = r"([\d,]+)"
_LIMIT: Final = re.compile(
    rf'"n_ctx":\s*{_N}|maximum context length (?:is |of )?\(?{_N}|configured limit of {_N}'
    rf"|maximum model length of {_N}|available context size \({_N}|context length of only {_N}"
    rf"|model's context length \({_N}|must have less than {_N}|must be <= {_N}|{_N} maximum context length"
    rf"|tokens > {_N} maximum|tokens allowed \(?{_N}|context window of {_N}",
    re.IGNORECASE,
)
# The prompt's own tokens first; sums that contain the reserved output only where nothing else is told.
_SENT: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf'"n_prompt_tokens":\s*{_N}',
        rf"\({_N} (?:in|of|from) (?:the |your )?(?:input )?(?:messages|prompt|text)",
        rf"prompt contains (?:at least )?{_N} (?:input )?tokens",
        rf"request has {_N} (?:input )?tokens",
        rf": {_N} tokens from the input",
        rf"resulted in {_N} tokens",
        rf"(?:request|input|input length) \({_N} tokens\)",
        rf"\(length {_N}\)",
        rf"keep the first {_N} tokens",
        rf"Given: {_N}",
        rf"too long: {_N} tokens",
        rf"token count \(?{_N}",
        rf"Requested tokens \({_N}",
        rf"requested (?:about |a total of )?{_N} tokens",
    )
)

_NAMED: Final = re.compile(
    r"\bwith id\b.+\bnot found\b|\bno such \w+ object\b|'[a-z]{2,10}_\w+' not found", re.IGNORECASE
)
"""How the service says that an item, a response, a conversation or a file is not there."""

_STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "account_deactivated": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "unavailable_error": 503,
    "overloaded_error": 503,
}


def overflow_of(error: BaseException) -> tuple[int | None, int | None] | None:
    """Whether an error says that the request was too long for the model, and by what numbers.

    Args:
        error: anything; only a refusal by the server can say so.

    Returns:
        None where it says no such thing; else ``(limit_tokens, sent_tokens)``, each None where it is not told. Tokens
        sent are the prompt's where the server tells them apart from the output asked for.
    """
    if not isinstance(error, APIStatusError) or "context_limit_tokens" not in vars(error):  # set by `refusal` alone
        return None
    return error.context_limit_tokens, error.context_sent_tokens


def refusal(
    status_code: int,
    *,
    body: Any,
    headers: Mapping[str, str],
    endpoint: Endpoint,
    url: str = "",
    model: str | None = None,
    secrets: Iterable[str] = (),
    said: str | None = None,
) -> APIStatusError:
    """The error for an HTTP status of 300 and above.

    Args:
        status_code: HTTP status.
        body: the decoded JSON, or the text of anything else.
        headers: of the answer, lower case.
        endpoint: who answered.
        url: what was asked.
        model: the request's model.
        secrets: texts that are removed wherever they stand.
        said: how it was told, where not by the status.
    """
    hidden = tuple(secrets)
    found = whole_unicode(hide(_inner(body), hidden))
    told = _told(found) or _moved(status_code, headers, hidden)
    facts: dict[str, Any] = {
        "host": endpoint.host,
        "status_code": status_code,
        "request_id": headers.get("x-request-id") or headers.get("apim-request-id"),
        "code": _said(found, "code"),
        "param": _said(found, "param") or _checked_field(found)[0],
        "type": _said(found, "type"),
        "body": found,
        "retry_after_s": retry_after_s(headers),
        "should_retry": {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower()),
    }
    overflow = _overflow(found, status_code)
    if overflow is not None:
        facts["context_limit_tokens"], facts["context_sent_tokens"] = overflow
        text = _overflow_text(endpoint, model, overflow)
    else:
        status = said or f"HTTP {status_code}"
        wait_s = facts["retry_after_s"]
        text = _status_text(
            status_code, status=status, endpoint=endpoint, url=url, model=model, code=facts["code"], wait_s=wait_s
        )
        if (
            status_code == 404
            and _NAMED.search(told)
            and not (model and re.search(rf"(?<![\w-]){re.escape(model)}(?![\w-])", told))
        ):
            text = f"{endpoint.host} does not have what the request names ({status})"
    if told and facts["param"] and facts["param"] not in told:
        told = f"{told} (parameter {facts['param']!r})"
    return status_error(status_code)(f"{text}: {told}" if told else text, **facts)


def payload_refusal(
    payload: Mapping[str, Any], *, endpoint: Endpoint, model: str | None = None, secrets: Iterable[str] = ()
) -> APIStatusError | None:
    """The error in a body that came with status 200, in a stream or alone; None where the body is none.

    Args:
        payload: one decoded ``data:`` of a stream, or a whole answer.
        endpoint: who answered.
        model: the request's model.
        secrets: texts that are removed wherever they stand.
    """
    is_error = bool(payload.get("error")) or payload.get("object") == "error" or payload.get("type") == "error"
    if not is_error or payload.get("choices"):
        return None
    inner = _inner(payload)
    facts = inner if isinstance(inner, Mapping) else {}
    status_code = next((s for k in ("code", "status", "status_code") if (s := _status(facts.get(k)))), None)
    said = "told inside an answer" if status_code is None else f"error {status_code} inside an answer"
    if status_code is None:
        status_code = next(
            (_STATUS_OF_TYPE[t] for k in ("code", "type") if (t := str(facts.get(k))) in _STATUS_OF_TYPE), 500
        )
        if _overflow(inner, 400) is not None:
            status_code = 400
    return refusal(status_code, body=payload, headers={}, endpoint=endpoint, model=model, secrets=secrets, said=said)


def _status(value: Any) -> int | None:
    number = int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else 0
    return number if 400 <= number < 600 else None


def _inner(body: Any) -> Any:
    """``{"error": X}`` → X, as the openai package has it."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]  # Gemini's
    return body["error"] if isinstance(body, Mapping) and body.get("error") else body


def _told(body: Any) -> str:
    """The server's own words, on one line."""
    if isinstance(body, Mapping):
        said = _checked_field(body)[1] or body.get("message") or body.get("detail") or body.get("error_description")
        text = said if isinstance(said, str) else str(dict(body)) if body else ""
    else:
        text = _heading(body) if isinstance(body, str) else str(body) if body else ""
    return " ".join(text.split())[:_SHOWN_CHARACTERS]


def _heading(text: str) -> str:
    """The title of a page, the first line of anything else."""
    title = re.search(r"<title[^>]*>([^<]+)", text, re.IGNORECASE)
    return title[1] if title else first_line(text)


def first_line(text: str, *, most: int = 200) -> str:
    """The first line of an answer that holds something, at most `most` characters.

    >>> first_line("  <!DOCTYPE html>  <html>")
    '<!DOCTYPE html> <html>'
    """
    return next((" ".join(line.split())[:most] for line in text.splitlines() if line.strip()), "")


def _said(body: Any, key: str) -> str | None:
    """A word of the error's body, on one line, or None where it has none there."""
    value = body.get(key) if isinstance(body, Mapping) else None
    return None if value is None else " ".join(str(value).split())[:_SHOWN_CHARACTERS]


def _checked_field(body: Any) -> tuple[str | None, str | None]:
    """Where and what of the first objection of a FastAPI server, which lists them under ``detail``."""
    listed = body.get("detail") if isinstance(body, Mapping) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    if not isinstance(first, Mapping) or not isinstance(first.get("loc"), list):
        return None, None
    where = ".".join(str(step) for step in first["loc"] if step != "body")
    return where[:_SHOWN_CHARACTERS] or None, _said(first, "msg")


def _overflow(body: Any, status_code: int) -> tuple[int | None, int | None] | None:
    facts = body if isinstance(body, Mapping) else {}
    text = _words(body)
    known = not _OVERFLOW_CODES.isdisjoint({str(facts.get("code")), str(facts.get("type"))})
    known = known or any(code in text for code in _OVERFLOW_CODES)
    if not known and not (status_code in _OVERFLOW_STATUSES and _TOO_LONG.search(text)):
        return None
    limit, sent = _number(facts.get("n_ctx")), _number(facts.get("n_prompt_tokens"))
    return limit or _first(_LIMIT, text), sent or next((n for p in _SENT if (n := _first(p, text))), None)


def _words(body: Any) -> str:
    if isinstance(body, Mapping):
        return str(body.get("message") or body.get("detail") or "")
    return body if isinstance(body, str) else ""


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    digits = next((g.replace(",", "") for g in found.groups() if g), "") if found else ""
    return _number(int(digits)) if digits else None


def _overflow_text(endpoint: Endpoint, model: str | None, overflow: tuple[int | None, int | None]) -> str:
    limit, sent = (None if n is None else f"{n:,}" for n in overflow)
    numbers = f" ({sent or 'too many'} tokens, room for {limit})" if limit else f" ({sent} tokens)" if sent else ""
    return f"{endpoint.host} refused a request that is too long for {model or 'the model'}{numbers}"


def _status_text(
    status_code: int, *, status: str, endpoint: Endpoint, url: str, model: str | None, code: str | None,
    wait_s: float | None,
) -> str:  # fmt: skip
    host = endpoint.host
    if status_code == 401:
        if endpoint.key_source:
            return f"{host} refused the key from {endpoint.key_source} ({status}); check that it belongs to this server"
        return (
            f"{host} wants a key and none was sent ({status}); pass api_key=… (OPENAI_API_KEY goes only to "
            "api.openai.com and to the host of OPENAI_BASE_URL)"
        )
    if status_code == 403:
        return f"{host} does not allow this ({status}); check what the key, the project and the region may use"
    if status_code == 404:
        if model:
            pull = f"; `ollama pull {model}` gets it there" if endpoint.host.endswith(":11434") else ""
            return f"{host} has no model {model!r}, or nothing at {url or endpoint.base_url} ({status}){pull}"
        return f"{host} has nothing at {url or endpoint.base_url} ({status}); check base_url, which mostly ends in /v1"
    if status_code == 429:
        if code == "insufficient_quota":
            return f"the quota at {host} is used up ({status}); repeating does not help, check the plan and its billing"
        if wait_s is not None and wait_s > LONGEST_RETRY_AFTER_S:
            return f"{host} limits the rate ({status}); it asks to come again in {wait_s:,.0f} s, too long to wait here"
        return f"{host} limits the rate ({status}); wait, lower max_parallel, or raise max_retries"
    if 300 <= status_code < 400:
        return f"{host} sent the request elsewhere ({status}); write the address it moved to as base_url"
    return f"{host} failed ({status})" if status_code >= 500 else f"{host} refused the request ({status})"


def _moved(status_code: int, headers: Mapping[str, str], hidden: tuple[str, ...]) -> str:
    """Where a redirect leads, without its query, which may hold what nobody should read."""
    where = headers.get("location", "") if 300 <= status_code < 400 else ""
    return hide_in_text(where.partition("?")[0], hidden)[:_SHOWN_CHARACTERS]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date.

    Returns:
        Seconds from now, never below 0; None where it does not say, or says no number.
    """
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[name]) * factor
        except (KeyError, ValueError):
            continue
        if math.isfinite(wait_s):
            return max(0.0, wait_s)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def wait_before_retry(error: VoxnbError, *, attempt: int) -> float | None:
    """How long to wait before a request is repeated; None where repeating is no use.

    The caller counts the attempts and knows whether anything of an answer has come already.

    Args:
        error: why it failed.
        attempt: 1 for the first repeat.

    Returns:
        Seconds: what the server asks for (up to two minutes), else 0.5, 1, 2, 4, 8 with up to a quarter taken off at
        random, so that many clients do not come back together.
    """
    if isinstance(error, APIStatusError):
        asked = getattr(error, "retry_after_s", None)
        if asked is not None and asked > LONGEST_RETRY_AFTER_S:
            return None
        if not _is_passing(error):
            return None
        if asked is not None:
            return float(asked)
    elif not isinstance(error, APIConnectionError) or not getattr(error, "passing", True):
        return None
    wait_s: float = min(FIRST_WAIT_S * 2.0 ** min(attempt - 1, 10), LONGEST_WAIT_S)
    return wait_s * (1 - 0.25 * chance())


_chance = random.Random()  # noqa: S311 - spreads retries, protects nothing


def chance() -> float:
    """A number from 0 to 1; the generator of the module `random` is the user's, who may have seeded it."""
    return _chance.random()


def _is_passing(error: APIStatusError) -> bool:
    """Whether a refusal may be gone when the request is repeated."""
    said = getattr(error, "should_retry", None)
    if said is not None:
        return bool(said)
    if error.code == "insufficient_quota" or overflow_of(error) is not None:
        return False
    return error.status_code in RETRIED_STATUSES or error.status_code >= 500
