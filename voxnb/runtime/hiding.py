"""Keys taken out of texts that are kept or shown, and credentials out of requests that are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

HIDDEN: Final = "…"
"""What stands where a credential was."""

_KEPT_CHARACTERS: Final = 4_000
_KEY_SHAPES: Final = re.compile(
    # In JSON the letter before a key may be that of an escape: a line's end.
    r"(?:\b|(?<=\\[nrtbf]))(?:(?:sk-|ek_)[A-Za-z0-9_*.-]{3,}|(?:Bearer|api-key:)\s+[^\s\"',]{4,})",
    re.IGNORECASE,
)


def hide(value: Any, secrets: Iterable[str]) -> Any:
    """A copy of a decoded body without keys: the given ones, and whatever looks like one; long texts are cut."""
    hidden = tuple(secrets)
    if isinstance(value, str):
        return hide_in_text(value, hidden)[:_KEPT_CHARACTERS]
    if isinstance(value, Mapping):
        return {k: hide(v, hidden) for k, v in value.items()}
    if isinstance(value, list):
        return [hide(v, hidden) for v in value]
    return value


def hide_in_text(text: str, secrets: Iterable[str]) -> str:
    """The text with every key in it replaced by dots.

    >>> hide_in_text("Incorrect API key provided: sk-ab***yz.", ())
    'Incorrect API key provided: …'
    """
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, HIDDEN)
    return _KEY_SHAPES.sub(HIDDEN, text)


def without_credentials(message: Any) -> Any:
    """A request, or what a server says of one, without credentials: its own, of remote tools, of Azure's data sources.

    Returns:
        The message itself where there is nothing to hide, else a copy.

    >>> without_credentials({"tools": [{"type": "mcp", "server_url": "https://a.example/mcp", "authorization": "t"}]})
    {'tools': [{'type': 'mcp', 'server_url': 'https://a.example/mcp', 'authorization': '…'}]}
    """
    if not isinstance(message, Mapping):
        return message
    found = {name: without_credentials(message[name]) for name in ("session", "response") if name in message}
    found |= {name: _bare(message[name], _kind("", name), []) for name in _OTHERS if name in message}
    tools = message.get("tools")
    if isinstance(tools, list | tuple):
        found["tools"] = [bare_tool(tool) for tool in tools]
        if all(bare is tool for bare, tool in zip(found["tools"], tools, strict=True)):
            del found["tools"]
    return message if all(found[name] is message[name] for name in found) else {**message, **found}


def credentials_in(message: Any) -> list[str]:
    """The credentials that a request carries, to be hidden where a server quotes them.

    >>> credentials_in({"tools": [{"type": "mcp", "headers": {"Authorization": "Bearer one"}, "server_url": "https://a/?k=two"}]})
    ['Bearer one', 'one', 'two']
    """
    found: list[str] = []
    tools = message.get("tools") if isinstance(message, Mapping) else None
    for tool in tools if isinstance(tools, list | tuple) else ():
        if _is_remote(tool):
            _bare(tool, "", found)
    for name in _OTHERS if isinstance(message, Mapping) else ():
        _bare(message.get(name), _kind("", name), found)
    return found


def bare_tool(tool: Any) -> Any:
    """A tool without its credentials; the tool itself where it has none."""
    bare = _bare(tool, "", []) if _is_remote(tool) else tool
    return tool if bare == tool else bare


def is_bare(tool: Any) -> bool:
    """Whether it is a tool as `bare_tool` leaves it, without the credentials that it had."""
    return _is_remote(tool) and (HIDDEN in str(tool.get("server_url")) or repr(HIDDEN) in repr(tool))


def _is_remote(tool: Any) -> bool:
    """Whether it is one that the service calls; the schema of a function may have fields of the same names."""
    return isinstance(tool, Mapping) and tool.get("type") not in (None, "function", "custom")


def _bare(value: Any, name: str, found: list[str]) -> Any:
    """A value under a name without its credentials, which are added to what is found."""
    if isinstance(value, Mapping):
        return {k: _bare(v, _kind(name, k), found) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_bare(inner, name, found) for inner in value]
    if not isinstance(value, str) or name not in (_HEADERS, "server_url"):
        return value
    if name == "server_url":
        return _bare_url(value, found)
    found.append(value)
    if " " in value:  # "Bearer …"
        found.append(value.rpartition(" ")[2])
    return HIDDEN


_HEADERS: Final = "headers"
"""All that is under this name is a credential; others are treated as if they stood there."""

_SECRET: Final = frozenset({"authorization", "authentication", "api_key", "apiKey", "api-key"})
_OTHERS: Final = (*sorted(_SECRET), "data_sources")
"""What of a body, beside its tools, may hold them: some gateways take a key there, Azure the keys of data sources."""


def _kind(parent: str, name: str) -> str:
    is_secret = (
        (parent == _HEADERS and name != "type") or name in _SECRET or (parent == "domain_secrets" and name == "value")
    )
    return _HEADERS if is_secret else name


def _bare_url(url: str, found: list[str]) -> str:
    """An address without user, password, fragment and the values of its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        found.append(url)
        return HIDDEN
    user, at, host = parts.netloc.rpartition("@")
    values = re.findall(r"=([^&]+)", parts.query) or [parts.query]
    found += [part for part in (*user.split(":")[1:], *values, parts.fragment) if part]
    query = re.sub(r"(?<==)[^&]+", HIDDEN, parts.query)
    if query and "=" not in query:
        query = HIDDEN
    fragment = HIDDEN if parts.fragment else ""
    return urlunsplit(parts._replace(netloc=f"{HIDDEN if user else ''}{at}{host}", query=query, fragment=fragment))
