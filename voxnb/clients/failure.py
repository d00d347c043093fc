"""Why no answer came, in words that say what to check; and causes without keys."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from voxnb.clients.address import Endpoint
from voxnb.errors import APIConnectionError, APIError, APIStatusError, APITimeoutError
from voxnb.runtime.hiding import hide, hide_in_text
from voxnb.runtime.trace import Trace

SECRET_HEADERS: Final = ("authorization", "api-key", "x-api-key", "proxy-authorization", "cookie")
_DEEPEST: Final = 50

E = TypeVar("E", bound=BaseException)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything it came from: causes, contexts and the members of groups, each once."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _DEEPEST:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [e for e in (found.__cause__, found.__context__) if e is not None]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions


def clean_cause(error: E, secrets: Iterable[str]) -> E:
    """Take keys out of an exception of the SDK and out of all it came from, so that it may be kept and shown.

    Removed are the credentials in the headers of every request, keys in texts and bodies, and the tracebacks: their
    frames hold the key as a local variable, which verbose tracebacks print.

    Args:
        error: the exception; it is changed.
        secrets: texts that are removed wherever they stand.
    """
    hidden = tuple(secrets)
    for found in causes(error):
        found.__traceback__ = None
        found.args = tuple(hide_in_text(a, hidden) if isinstance(a, str) else a for a in found.args)
        for name in ("message", "body"):
            if name in vars(found):
                setattr(found, name, hide(vars(found)[name], hidden))
        response = _attribute(found, "response")
        answers = [] if response is None else [response, *(_attribute(response, "history") or ())]
        for request in (_attribute(holder, "request") for holder in (found, *answers)):
            for header in SECRET_HEADERS if request is not None else ():
                request.headers.pop(header, None)
    return error


def _attribute(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except RuntimeError:  # a request or response that was never set
        return None


def counted(error: APIError, retries: int) -> APIError:
    """The error with the number of retries, which is known only at the end."""
    error.message = error.message.removesuffix(_after(error.retries)) + _after(retries)
    error.args, error.retries = (error.message,), retries
    return error


def _after(retries: int) -> str:
    return f" (after {retries} {'retry' if retries == 1 else 'retries'})" if retries else ""


def trace_failure(trace: Trace, number: int, error: APIError) -> None:
    """Note what came in place of an answer: the server's own words, where it said any."""
    facts: dict[str, Any] = {"status": error.status_code} if isinstance(error, APIStatusError) else {}
    answer = getattr(error.__cause__, "response", None)  # of the SDK's error, which has read it
    if answer is not None and answer.is_stream_consumed and answer.content:
        trace.received(number, answer.content, **facts, error=str(error))
    else:
        trace.answered(number, **facts, error=str(error))


def silence(endpoint: Endpoint, wait_s: float) -> APITimeoutError:
    """The error for too long a silence; not repeated, since a server that is still at work would get the same again."""
    words = f"{endpoint.host} sent nothing for {wait_s:g} s; raise timeout_s if it may take longer"
    return APITimeoutError(words, host=endpoint.host, passing=False)


def timeout_error(error: BaseException, endpoint: Endpoint, *, connect_s: float, read_s: float) -> APITimeoutError:
    """The error for a time limit of the HTTP library.

    Args:
        error: the SDK's exception.
        endpoint: who was asked.
        connect_s: how long a connection was waited for.
        read_s: how long an answer was waited for.
    """
    if {type(e).__name__ for e in causes(error)} & {"ConnectTimeout", "PoolTimeout"}:
        words = f"{endpoint.host} took no connection within {connect_s:g} s; check base_url and the network"
        return APITimeoutError(words, host=endpoint.host)
    return silence(endpoint, read_s)


def connection_error(error: BaseException, endpoint: Endpoint) -> APIConnectionError:
    """The error for an answer that did not come, saying what to check.

    Args:
        error: the exception of the SDK or the HTTP library.
        endpoint: who was asked.
    """
    text, passing = _failure(error, endpoint)
    return APIConnectionError(text, host=endpoint.host, passing=passing)


def _failure(error: BaseException, endpoint: Endpoint) -> tuple[str, bool]:
    """Text, and whether repeating the request may help."""
    host, found = endpoint.host, list(causes(error))
    if any(isinstance(e, ConnectionRefusedError) for e in found):
        return f"nothing listens at {host} (connection refused); {_whom_to_start(endpoint)}", True
    if any(isinstance(e, socket.gaierror) for e in found):
        name = urlsplit(endpoint.base_url).hostname
        return f"no host {name!r} was found; check base_url and the network", True
    for problem in (e for e in found if isinstance(e, ssl.SSLError)):
        return _tls_failure(problem, host), False
    numbers = {e.errno for e in found if isinstance(e, OSError)}
    if numbers & {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}:
        return f"{host} cannot be reached; check the network (VPN, firewall)", True
    kinds = {type(e).__name__ for e in found}
    words = words_of(error)
    if "ProxyError" in kinds:
        return f"the proxy on the way to {host} refused ({words}); check HTTPS_PROXY and NO_PROXY", True
    if kinds & {"LocalProtocolError", "UnsupportedProtocol", "InvalidURL", "TooManyRedirects"}:
        return f"the request to {host} cannot be made ({words}); check base_url", False
    if "RemoteProtocolError" in kinds or any(isinstance(e, ConnectionResetError) for e in found):
        return f"{host} closed the connection without an answer ({words})", True
    return f"the connection to {host} failed ({words})", True


def words_of(error: BaseException) -> str:
    """What the library beneath says of a failure; its own words where there is none."""
    return next((str(e) for e in list(causes(error))[1:] if str(e)), "") or str(error) or type(error).__name__


def _whom_to_start(endpoint: Endpoint) -> str:
    if endpoint.is_local:
        return "the embedded model has ended; make a new client"
    if endpoint.host.endswith(":11434"):
        return "start Ollama (`ollama serve`), or set OLLAMA_HOST"
    return f"check that the server runs and that {endpoint.base_url} is its address"


def _tls_failure(problem: ssl.SSLError, host: str) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {host} is not trusted ({problem.verify_message}); where the network replaces "
            "certificates, set SSL_CERT_FILE to your organisation's"
        )
    if "WRONG_VERSION_NUMBER" in str(problem) or "RECORD_LAYER" in str(problem):
        return f"{host} does not speak TLS; if it is your own server, write http:// in base_url"
    return f"no secure connection to {host} ({problem.reason or problem})"


def names_a_key(headers: Mapping[str, str]) -> bool:
    """Whether one of them carries a credential."""
    return any(name.lower() in SECRET_HEADERS for name in headers)
