"""Which server a client speaks to, and which key may go there.

`resolve_endpoint` holds every rule about keys and addresses:

- ``api_key``, else ``OPENAI_API_KEY``, which goes only to api.openai.com or to the host and port of
  ``OPENAI_BASE_URL``; to any other server goes the key that was passed, or none.
- ``OPENAI_PROJECT_ID``, ``OPENAI_ORG_ID`` and ``OPENAI_CUSTOM_HEADERS`` go where ``OPENAI_API_KEY`` may go.
- A key never travels over plain http to another machine.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from voxnb.clients.address import (
    NAMED_SERVERS,
    OPENAI_URL,
    Address,
    Endpoint,
    is_loopback,
    ollama_address,
    parse_address,
)
from voxnb.clients.adopted import settings_of
from voxnb.errors import CredentialsError, ParameterError
from voxnb.params import ChatParameters
from voxnb.runtime import config
from voxnb.taping.tape import running

__all__ = [
    "PLACEHOLDERS",
    "Endpoint",
    "Resolved",
    "check_key",
    "current_key",
    "embedded",
    "own_headers_only",
    "resolve",
    "resolve_endpoint",
]

Key = str | Callable[[], Any]
Resolved = tuple[Endpoint, Any, Callable[[], Endpoint] | None]
"""See `resolve`."""

NO_KEY: Final = (
    'no key: pass api_key="sk-…" or set OPENAI_API_KEY; without a key, base_url="local" runs the embedded model '
    'and base_url="ollama" asks the Ollama on this machine'
)

PLACEHOLDERS: Final = frozenset(
    {"", "-", "x", "xxx", "none", "null", "na", "n/a", "empty", "dummy", "fake", "unused", "no-key", "nokey"}
    | {"not-needed", "not-used", "no-key-required", "sk-no-key-required", "ollama", "lm-studio", "vllm", "local"}
)
"""Stand-ins that people write where a library insists on a key: no secrets, so they may travel in the clear."""

_SECRET_HEADERS: Final = frozenset({"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"})


def resolve_endpoint(parameters: ChatParameters, environ: Mapping[str, str]) -> Endpoint:
    """Decide where requests go and what is sent with them.

    ``base_url="local"`` starts the embedded model if it does not run yet, which may take a while: call this from the
    user's thread, not on the background loop.

    Args:
        parameters: the client's.
        environ: the environment (``os.environ``).

    Returns:
        The endpoint; a key that a function returns is not asked for yet.

    Raises:
        CredentialsError: no key and no ``base_url``, a key that is none, or one that would travel unprotected.
        ParameterError: an address that is none, or settings that contradict each other.
        LocalModelError: the embedded model cannot be started.

    >>> resolve_endpoint(ChatParameters(base_url="http://127.0.0.1:8000"), {"OPENAI_API_KEY": "sk-1"}).base_url
    'http://127.0.0.1:8000/v1'
    """
    if parameters.openai_client is not None:
        return _adopted(parameters)
    if parameters.base_url == "local":
        return embedded(config.load("local")())
    address = _address(parameters.base_url, environ)
    trusted = _is_trusted(address, parameters.base_url, environ)
    key, source = _key(parameters, environ if trusted else {})
    key = check_key(key, source=source, address=address)
    if not key and address.is_openai:
        raise CredentialsError(NO_KEY if source == "" else f"{source} is empty; {NO_KEY}")
    return Endpoint(
        host=address.host,
        api_key=key or None,
        key_source=source if key else "",
        project=parameters.project or (environ.get("OPENAI_PROJECT_ID") or None if trusted else None),
        organization=(environ.get("OPENAI_ORG_ID") or None) if trusted else None,
        is_openai=address.is_openai,
        **_azure(address, parameters, environ),
        headers=_custom_headers(environ, has_key=bool(key)) if trusted else {},
    )


def resolve(
    parameters: ChatParameters, environ: Mapping[str, str], *, embedded_later: Callable[[], Endpoint] | None = None
) -> Resolved:
    """Decide where a client's requests go; where a tape runs as late as can be, since it may need no key and no model.

    Args:
        parameters: the client's.
        environ: the environment.
        embedded_later: starts the embedded default, where that is not the embedded model.

    Returns:
        The endpoint; what serves it there, if that is the embedded default; and, where deciding was put off, a function
        that decides (and may raise what `resolve_endpoint` does), for the first request that is not on the tape.

    Raises:
        CredentialsError: see `resolve_endpoint`.
        ParameterError: see `resolve_endpoint`.
        LocalModelError: see `resolve_endpoint`.
    """

    def later() -> Endpoint:
        return resolve_endpoint(parameters, environ)

    if running() is None:
        endpoint = later()
        return endpoint, config.load("local")() if endpoint.is_local else None, None
    adopted = parameters.openai_client is not None
    if parameters.base_url == "local" and not adopted:
        endpoint = Endpoint("http://127.0.0.1/v1", "local", is_local=True)
        return endpoint, config.load("local_model")(), embedded_later or later
    address = None if adopted else _address(parameters.base_url, environ)
    if address is None or not address.is_openai or _key(parameters, environ)[0]:
        return later(), None, None
    return Endpoint(address.url(), address.host, project=parameters.project, is_openai=True), None, later


def _address(base_url: str | None, environ: Mapping[str, str]) -> Address:
    if base_url == "ollama":
        return ollama_address(environ.get("OLLAMA_HOST"))
    if base_url is not None:
        return parse_address(base_url)
    text = environ.get("OPENAI_BASE_URL") or OPENAI_URL
    if text in NAMED_SERVERS:
        raise ParameterError(
            f"OPENAI_BASE_URL is {text!r}; write a URL there, and pass base_url={text!r} for this server",
            name="OPENAI_BASE_URL",
        )
    return parse_address(text, name="OPENAI_BASE_URL")


def _is_trusted(address: Address, base_url: str | None, environ: Mapping[str, str]) -> bool:
    """Whether the environment's key is meant for this server."""
    if base_url == "ollama":
        return False
    if base_url is None or address.is_openai:
        return True
    named = environ.get("OPENAI_BASE_URL")
    if not named:
        return False
    try:
        return parse_address(named).origin == address.origin
    except ParameterError:
        return False  # a bad OPENAI_BASE_URL vouches for nobody; it was not asked for here


def _key(parameters: ChatParameters, environ: Mapping[str, str]) -> tuple[Key | None, str]:
    if parameters.api_key is not None:
        return parameters.api_key, "api_key"
    if "OPENAI_API_KEY" in environ:
        return environ["OPENAI_API_KEY"], "OPENAI_API_KEY"
    return None, ""


def check_key(key: Key | None, *, source: str, address: Address | None = None) -> Key | None:
    """Check a key without ever quoting it: its characters, and the way it would travel.

    Args:
        key: the key, a function that returns it, or None.
        source: where it comes from, for the message.
        address: where it would go; None leaves that check out.

    Returns:
        The key without blanks around it (files end in a line break).

    Raises:
        CredentialsError: it holds what no header can carry, or would go over plain http to another machine.
    """
    if isinstance(key, str):
        key = key.strip()
        odd = next((i for i, c in enumerate(key) if not "!" <= c <= "~"), None)
        if odd is not None:
            raise CredentialsError(
                f"{source} holds a character at position {odd} that no key has (a blank, a line break, or one that is "
                "not ASCII); copy the key again, alone"
            )
    secret = key is not None and not (isinstance(key, str) and key.lower() in PLACEHOLDERS)
    if secret and address is not None and address.scheme == "http" and not is_loopback(address.hostname):
        raise CredentialsError(
            f"the key ({source}) would travel unprotected to {address.url()}; write https://, open a tunnel to "
            "localhost, or leave the key out if this server needs none"
        )
    return key


async def current_key(endpoint: Endpoint) -> str:
    """The key of the next request: the one there is, or what the user's function returns now; "" for none.

    Raises:
        CredentialsError: the function raised, or returned no key.
    """
    given, source = endpoint.api_key, endpoint.key_source
    if not callable(given):
        return given or ""
    try:
        found = given() if inspect.iscoroutinefunction(given) else await asyncio.to_thread(given)
        if inspect.isawaitable(found):
            found = await found
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # a function of the user's: what it raises must not end the loop
        raise CredentialsError(f"the function given as {source} raised {type(error).__name__}") from error
    if not isinstance(found, str) or not found.strip():
        raise CredentialsError(f"the function given as {source} returned {type(found).__name__}, expected a key")
    return str(check_key(found, source=source))


def _azure(address: Address, parameters: ChatParameters, environ: Mapping[str, str]) -> dict[str, Any]:
    """Base URL, version and query for Azure's two interfaces; for everybody else the address as it is.

    With a version: ``/openai/deployments/<model>``. Without: ``/openai/v1``, which needs none.
    """
    asked = parameters.api_version or address.api_version
    if asked and address.is_openai:
        raise ParameterError(
            f"api_version={asked!r} is Azure's and {address.url()!r} is OpenAI, which must not get Azure's key; name the "
            "resource with base_url='https://….openai.azure.com'",
            name="api_version",
        )
    path = address.path.removesuffix("/v1").rstrip("/")
    if not asked and not (address.is_azure and (path in ("", "/openai") or "/deployments/" in path)):
        return {"base_url": address.url()}
    if address.path.endswith("/openai/v1"):
        return {"base_url": address.url(), "query": {"api-version": asked} if asked else {}}
    version = asked or environ.get("OPENAI_API_VERSION")
    if "/deployments/" in path:
        if not version:
            raise ParameterError(
                f"base_url {address.url()!r} names a deployment, which needs api_version='…'; or write "
                f"{address.url('/openai/v1')!r}, which needs none, and the deployment as model",
                name="api_version",
            )
        return {"base_url": address.url(path), "api_version": version}
    if not path.endswith("/openai"):
        path = f"{path}/openai"
    if version:
        return {"base_url": address.url(path), "api_version": version}
    return {"base_url": address.url(f"{path}/v1")}


def _custom_headers(environ: Mapping[str, str], *, has_key: bool) -> dict[str, str]:
    """``OPENAI_CUSTOM_HEADERS``, one ``name: value`` a line; its credentials only where no key is sent."""
    out = {}
    for line in environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        name, colon, value = line.partition(":")
        if colon and name.strip() and not (has_key and name.strip().lower() in _SECRET_HEADERS):
            out[name.strip()] = value.strip()
    return out


def embedded(served: Any, /) -> Endpoint:
    """Where the embedded default listens.

    Args:
        served: it, with ``base_url`` and ``api_key``; started if it does not run.

    Raises:
        LocalModelError: it cannot be started.
    """
    address = parse_address(served.base_url)
    key = check_key(served.api_key, source="the embedded model", address=address)
    return Endpoint(
        base_url=address.url(), host=address.host, api_key=key, key_source="the embedded model", is_local=True
    )


def _adopted(parameters: ChatParameters) -> Endpoint:
    """What a configured client of the openai package has set."""
    for name in ("api_key", "base_url", "api_version"):
        if getattr(parameters, name) is not None:
            raise ParameterError(
                f"{name} and openai_client contradict each other: the client brings its own; leave one out", name=name
            )
    found = settings_of(parameters.openai_client)
    address = parse_address(found.base_url, name="openai_client.base_url")
    key = check_key(found.api_key, source="openai_client", address=address)
    if address.is_openai and not key and not found.headers:
        raise CredentialsError(f"openai_client has no key; {NO_KEY}")
    return Endpoint(
        base_url=found.base_url.rstrip("/"),
        host=address.host,
        api_key=key or None,
        key_source="openai_client" if key else "",
        project=parameters.project or found.project,
        organization=found.organization,
        api_version=found.api_version,
        is_openai=address.is_openai,
        bearer=found.bearer,
        headers=dict(found.headers),
        query=dict(found.query),
    )


def own_headers_only(kind: Any, own: Mapping[str, str]) -> Any:
    """The SDK's client class without the headers of ``OPENAI_CUSTOM_HEADERS``.

    It sends them, credentials among them, to every server; here `resolve_endpoint` decides.
    """
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    ambient = {line.partition(":")[0].strip().lower() for line in lines if ":" in line}
    if not ambient:
        return kind

    def default_headers(self: Any) -> dict[str, Any]:
        found = kind.default_headers.fget(self)
        return {k: v for k, v in found.items() if k.lower() not in ambient} | dict(own)

    # The class keeps its name: it is part of the User-Agent.
    return type(kind.__name__, (kind,), {"default_headers": property(default_headers)})
