"""The settings of a configured client of the openai package.

The package is not imported: a client that was given has imported it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.errors import ParameterError

_CLIENTS: Final = frozenset({"OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI"})
_AZURE: Final = frozenset({"AzureOpenAI", "AsyncAzureOpenAI"})
_OWN_HTTP: Final = frozenset({"SyncHttpxClientWrapper", "AsyncHttpxClientWrapper"})
_AZURE_KEYLESS: Final = "<missing API key>"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client of the openai package is configured with.

    Attributes:
        base_url: its address.
        api_key: its key, or its function that returns one.
        organization: its organization.
        project: its project.
        api_version: Azure's.
        bearer: the key is an Entra ID token.
        headers: its own default headers.
        query: its own default query.
    """

    base_url: str
    api_key: str | Callable[[], Any] | None = field(repr=False)
    organization: str | None
    project: str | None
    api_version: str | None
    bearer: bool
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)


def settings_of(client: Any) -> Settings:
    """Read the settings of an ``OpenAI``, ``AsyncOpenAI``, ``AzureOpenAI`` or ``AsyncAzureOpenAI``.

    Its connections are not shared: they belong to another event loop. With them stay its ``http_client`` (proxies,
    certificates), its time limit and its retries.

    Args:
        client: the configured client.

    Raises:
        ParameterError: it is something else, or authenticates in a way that cannot be taken over.
    """
    kinds = {c.__name__ for c in type(client).__mro__ if c.__module__.split(".")[0] == "openai"}
    if not kinds & _CLIENTS:
        raise _bad(f"is {type(client).__name__}, expected a client such as openai.OpenAI(…)")
    if getattr(client, "workload_identity", None) is not None or getattr(client, "_provider", None) is not None:
        raise _bad("authenticates by a workload identity or provider; pass base_url=… and api_key=<function> instead")
    if type(getattr(client, "_client", None)).__name__ not in _OWN_HTTP:
        warnings.warn(
            "openai_client has an http_client of its own, which belongs to another event loop: its proxies and "
            "certificates are not adopted; HTTPS_PROXY and SSL_CERT_FILE are obeyed",
            stacklevel=2,
        )
    is_azure = bool(kinds & _AZURE)
    token = _first(client, "_azure_ad_token_provider", "_azure_ad_token") if is_azure else None
    key = token or _first(client, "_api_key_provider", "api_key")
    return Settings(
        base_url=str(client.base_url),
        api_key=None if key == _AZURE_KEYLESS else key,
        organization=client.organization,
        project=client.project,
        api_version=_first(client, "_api_version") if is_azure else None,
        bearer=token is not None,
        headers=_texts(getattr(client, "_custom_headers", {})),
        query={k: v for k, v in _texts(client.default_query).items() if k != "api-version" or not is_azure},
    )


def _first(client: Any, *names: str) -> Any:
    return next((v for n in names if (v := getattr(client, n, None)) is not None), None)


def _texts(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Without what the SDK uses to leave a header out."""
    return {k: v for k, v in mapping.items() if isinstance(v, str)}


def _bad(what: str) -> ParameterError:
    return ParameterError(f"openai_client {what}", name="openai_client")
