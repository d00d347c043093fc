"""Where requests go: base URLs taken apart and checked, and `Endpoint`, an address with what may be sent to it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from voxnb.errors import ParameterError
from voxnb.params import did_you_mean

OPENAI_URL: Final = "https://api.openai.com/v1"
OLLAMA_PORT: Final = 11434
NAMED_SERVERS: Final = ("local", "ollama")
"""What `base_url` may be beside a URL."""

AZURE_HOSTS: Final = (".openai.azure.com", ".openai.azure.us", ".services.ai.azure.com", ".cognitiveservices.azure.com")
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
METHOD_PATHS: Final = ("/chat/completions", "/responses", "/realtime")
"""Addresses of one method, which portals show to be copied; the base ends before them."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, and what is sent with every request to it.

    Made by `resolve_endpoint`; nothing that is secret is in its repr.

    Attributes:
        base_url: what paths such as ``/chat/completions`` are appended to; no slash at its end.
        host: host and, where it is not the scheme's own, port; for tables and messages.
        api_key: the key or a function that returns it (called for every request); None sends none.
        key_source: where the key comes from (``api_key``, ``OPENAI_API_KEY``, ``openai_client``), "" without one.
        project: OpenAI project.
        organization: OpenAI organization.
        api_version: Azure's; where it is given, requests go to ``/deployments/<model>`` with the header ``api-key``.
        is_openai: OpenAI itself.
        is_local: the embedded model (``base_url="local"``).
        bearer: with `api_version`: the key is an Entra ID token and goes into ``Authorization``.
        headers: sent with every request.
        query: sent with every request.
    """

    base_url: str
    host: str
    api_key: str | Callable[[], Any] | None = field(default=None, repr=False)
    key_source: str = ""
    project: str | None = None
    organization: str | None = None
    api_version: str | None = None
    is_openai: bool = False
    is_local: bool = False
    bearer: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @property
    def root(self) -> str:
        """The base URL without a trailing ``/v1``: where a server keeps what is not OpenAI's."""
        return self.base_url.removesuffix("/v1")

    @property
    def deployment(self) -> str | None:
        """The deployment that an address of Azure's names."""
        found = re.search(r"/deployments/([^/]+)", self.base_url)
        return unquote(found[1]) if found else None

    @property
    def is_loopback(self) -> bool:
        """Whether requests stay on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


@dataclass(frozen=True, slots=True)
class Address:
    """A checked base URL, taken apart; what is sent is put together from it, never from the text that was given.

    Attributes:
        scheme: ``http`` or ``https``.
        hostname: lower case, no brackets.
        port: the port that is used.
        path: without a slash at its end; "" for a server that keeps everything at its root.
        api_version: the query's ``api-version``, or None.
    """

    scheme: str
    hostname: str
    port: int
    path: str
    api_version: str | None = None

    @property
    def origin(self) -> tuple[str, int]:
        """Host and port: what a key belongs to."""
        return self.hostname.removesuffix("."), self.port

    @property
    def host(self) -> str:
        """Host and port as people write them."""
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def is_openai(self) -> bool:
        """OpenAI's own host, or one of its regions (``eu.api.openai.com``)."""
        return f".{self.origin[0]}".endswith(".api.openai.com")

    @property
    def is_azure(self) -> bool:
        """A host of Azure OpenAI."""
        return self.origin[0].endswith(AZURE_HOSTS)

    def url(self, path: str | None = None) -> str:
        """The URL, with another path if one is given."""
        return f"{self.scheme}://{self.host}{self.path if path is None else path}"


def is_loopback(hostname: str) -> bool:
    """Whether a host name or address is this machine.

    >>> [is_loopback(h) for h in ("localhost", "127.0.0.9", "::1", "10.0.0.1", "localhost.example.com")]
    [True, True, True, False, False]
    """
    name = hostname.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def parse_address(text: str, *, name: str = "base_url") -> Address:
    """Check a base URL and take it apart.

    The standard path ``/v1`` is appended only where the URL has no path; the path of a method
    (``…/chat/completions``) is taken off.

    Args:
        text: the URL.
        name: the parameter or variable it came from, for the message.

    Raises:
        ParameterError: it is no http or https URL, holds a user name or key, a query other than ``api-version``,
            blanks, or a port that is none; the message says what to write.

    >>> parse_address("http://127.0.0.1:8000").url()
    'http://127.0.0.1:8000/v1'
    >>> parse_address("https://models.example.com/inference/").url()
    'https://models.example.com/inference'
    """
    _refuse_odd_text(text, name)
    try:
        parts = urlsplit(text)
        hostname, port = parts.hostname or "", parts.port
    except ValueError:  # its text quotes what it stumbled over, which may be a password
        raise _bad(name, f"is {_shown(text)}, which is no URL; write 'https://host:port/v1'") from None
    _refuse_odd_parts(parts, hostname, name)
    path = parts.path.rstrip("/")
    for method in METHOD_PATHS:
        path = path.removesuffix(method)
    if not parts.path.rstrip("/"):
        path = "/v1"
    return Address(
        scheme=parts.scheme,
        hostname=hostname,
        port=port or DEFAULT_PORTS[parts.scheme],
        path=path,
        api_version=dict(parse_qsl(parts.query)).get("api-version"),
    )


def _refuse_odd_text(text: str, name: str) -> None:
    if not text.strip():
        raise _bad(name, "is empty; leave it out for OpenAI, or write 'http://host:port/v1', 'local' or 'ollama'")
    # Parsers disagree about blanks, control characters and backslashes: the host that is checked must be the one asked.
    if re.search(r"[\s\\\x00-\x1f\x7f]", text):
        clean = re.sub(r"[\s\\\x00-\x1f\x7f]+", "", text)
        raise _bad(name, f"is {_shown(text)} and holds blanks or backslashes; write {_shown(clean)}")
    if "://" in text:
        return
    close = did_you_mean(text.lower(), NAMED_SERVERS)
    if close and ":" not in text and "/" not in text:
        raise _bad(name, f"is {text!r}{close}")
    bare = text.lstrip("/")
    machine = bare.partition(":")[0].partition("/")[0]
    scheme = "http" if is_loopback(machine) or _is_private(machine) else "https"
    raise _bad(name, f"is {_shown(text)} and has no scheme; write {_shown(f'{scheme}://{bare}')}")


def _refuse_odd_parts(parts: SplitResult, hostname: str, name: str) -> None:
    tail = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.username is not None or parts.password is not None:
        raise _bad(name, f"holds a user name or key before '@'; pass api_key=… and write '{parts.scheme}://{tail}'")
    if parts.scheme not in DEFAULT_PORTS:
        scheme = "http" if parts.scheme == "ws" else "https"
        raise _bad(name, f"has the scheme {parts.scheme!r}; write '{scheme}://{tail}'")
    if not hostname or not re.fullmatch(r"[^\s/?#@\[\]<>^|%]+", hostname):
        raise _bad(name, f"is '{parts.scheme}://{tail}' and names no host; write '{parts.scheme}://host:port/v1'")
    if parts.fragment or {k for k, _ in parse_qsl(parts.query, keep_blank_values=True)} - {"api-version"}:
        # The query is not shown: some providers take keys there.
        raise _bad(name, f"has a query or fragment; write '{parts.scheme}://{tail}' and pass api_key=… for a key")


def _shown(text: str) -> str:
    """A URL for a message: all before the last '@' and the query left out, at most 200 characters."""
    clean = re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1", text, flags=re.IGNORECASE | re.DOTALL)
    return repr(re.sub(r"[?#].*", "", clean, flags=re.DOTALL)[:200])


def _is_private(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_private
    except ValueError:
        return False


def _bad(name: str, what: str) -> ParameterError:
    return ParameterError(f"{name} {what}", name=name)


def ollama_address(host: str | None) -> Address:
    """Where Ollama listens: the value of ``OLLAMA_HOST``, read as Ollama reads it.

    Args:
        host: ``host``, ``host:port``, ``:port`` or a URL; None or "" is the default.

    Raises:
        ParameterError: it is none of these.

    Source: Ollama, ``envconfig.Host``; an address that means "all interfaces" to the server is asked on loopback.

    >>> ollama_address("0.0.0.0").url()
    'http://127.0.0.1:11434/v1'
    """
    text = (host or "").strip().strip("\"'") or f"127.0.0.1:{OLLAMA_PORT}"
    scheme, mark, rest = text.rpartition("://")
    rest, slash, path = rest.partition("/")
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"  # a bare IPv6 address
    if rest.startswith(":"):
        rest = f"127.0.0.1{rest}"
    # A scheme brings its own port, a bare name Ollama's.
    if not mark and not re.search(r":\d+$", rest):
        rest = f"{rest}:{OLLAMA_PORT}"
    found = parse_address(f"{scheme or 'http'}://{rest}{slash}{path}", name="OLLAMA_HOST")
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server binds to, not what we bind to
    return Address(
        scheme=found.scheme,
        hostname=loopback.get(found.hostname, found.hostname),
        port=found.port,
        path=found.path if found.path.endswith("/v1") else f"{found.path}/v1",
    )
