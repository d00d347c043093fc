"""Who may come in: one-time tokens, origins, signatures, and how much one peer may send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from voxnb.errors import ParameterError

MOST_TOKENS: Final = 1_000
"""Tokens that wait for their call; the oldest gives way."""

Signature = Callable[[Mapping[str, str], str], bool]
"""Headers and path with query of a handshake → whether it is signed by who it should be."""


def is_loopback(host: str, /) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a peer may do.

    Attributes:
        message_bytes: largest message; a larger one ends the socket with code 1009.
        messages_per_s: on average; twice as many for a moment.
        bytes_per_s: likewise.
        idle_s: longest silence of a socket.
        session_s: longest life of a socket.
        calls: calls at once, over all sockets.
        sockets: sockets at once, those without a call included.
    """

    message_bytes: int = 1 << 20
    messages_per_s: float = 1_000
    bytes_per_s: float = 4 << 20
    idle_s: float = 60
    session_s: float = 4 * 3600
    calls: int = 200
    sockets: int = 250

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ParameterError(f"limit {name} is {value!r}; it must be a number above 0", name=name)


class Rate:
    """How fast one peer sends, against what it may.

    Args:
        limits: see there.
        now_s: the clock.
    """

    def __init__(self, limits: Limits, /, *, now_s: float) -> None:
        self._limits = limits
        self._at_s = now_s
        self._messages = 0.0
        self._bytes = 0.0

    def add(self, size_bytes: int, /, *, now_s: float) -> bool:
        """A message came; whether the peer keeps to its limits."""
        limits, passed_s = self._limits, now_s - self._at_s
        self._at_s = now_s
        messages, size = self._messages - passed_s * limits.messages_per_s, self._bytes - passed_s * limits.bytes_per_s
        messages = self._messages = messages + 1 if messages > 0 else 1.0
        size = self._bytes = size + size_bytes if size > 0 else size_bytes
        return messages <= 2 * limits.messages_per_s and size <= 2 * limits.bytes_per_s


class Refusal(NamedTuple):
    """Why a handshake is refused."""

    status: int
    reason: str


class Guard:
    """The door of a media server.

    Args:
        origins: of pages that may connect (``https://example.com``); a program sends none and needs none.
        needs_token: whether a handshake must bring a token that `token` made.
    """

    def __init__(self, *, origins: Iterable[str] = (), needs_token: bool = False) -> None:
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self.needs_token = needs_token
        self._tokens: dict[str, float] = {}
        self._lock = threading.Lock()  # addresses are made in any thread, calls come on the media loop

    def token(self, *, valid_s: float, now_s: float) -> str:
        """A new token, for one handshake."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._tokens = {digest: until_s for digest, until_s in self._tokens.items() if until_s > now_s}
            while len(self._tokens) >= MOST_TOKENS:
                del self._tokens[next(iter(self._tokens))]
            self._tokens[_digest(token)] = now_s + valid_s
        return token

    def refuses(self, path: str, headers: Mapping[str, str], /, *, now_s: float) -> Refusal | None:
        """Whether a handshake is refused; a token that was good is used up.

        Args:
            path: with its query.
            headers: of the request; read without regard to case.
            now_s: the clock.
        """
        origin = headers.get("Origin")
        if origin is not None and origin.rstrip("/").lower() not in self.origins:
            return Refusal(403, "this origin may not connect; name it in origins=")
        if self.needs_token:
            given = parse_qs(urlsplit(path).query).get("token", [""])[0]
            with self._lock:
                until_s = self._tokens.pop(_digest(given), None)
            if until_s is None or until_s < now_s:
                return Refusal(401, "the token is missing, used up or too old; make a new address")
        return None


def _digest(token: str) -> str:
    # Looked up by its hash: how long that takes says nothing of the token.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class TwilioSignature:
    """The check that `twilio_signature` makes; the bridge process can do it by itself.

    Attributes:
        auth_token: of the account.
        url: the address that Twilio was given, up to its path.
    """

    auth_token: str = field(repr=False)
    url: str

    def __call__(self, headers: Mapping[str, str], path: str) -> bool:
        """Whether a handshake is signed."""
        mac = hmac.new(self.auth_token.encode(), (self.url.rstrip("/") + path).encode(), hashlib.sha1)
        given = headers.get("X-Twilio-Signature") or ""
        return hmac.compare_digest(base64.b64encode(mac.digest()), given.encode("utf-8", "surrogatepass"))


def twilio_signature(auth_token: str, /, *, url: str) -> TwilioSignature:
    """The check of Twilio's ``X-Twilio-Signature`` for `MediaServer(signature=…)`.

    Args:
        auth_token: of the account.
        url: the address that Twilio was given, up to its path: ``wss://example.com``.

    Source: Twilio, "Validating signatures": base64 of HMAC-SHA1 over the whole address.

    >>> check = twilio_signature("12345", url="wss://example.com")
    >>> check({"X-Twilio-Signature": "nonsense"}, "/media")
    False
    """
    return TwilioSignature(auth_token, url)
