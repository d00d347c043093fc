"""Keys taken out of texts that are kept or shown, and credentials out of requests that are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

HIDDEN: Final = "…"
"""What stands where a credential was."""

_KEPT_CHARACTERS: Final = 4_000
_KEY_SHAPES: Final = re.compile(r"\bsk-[A-Za-z0-9_*.-]{3,}|\b(?:Bearer|api-key:)\s+[^\s\"',]{4,}", re.IGNORECASE)


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
            text = text.replace(secret, "…")
    return _KEY_SHAPES.sub("…", text)


def without_credentials(message: Any) -> Any:
    """A request, or what a server says of one, whose remote tools (MCP servers, containers) carry no credentials.

    Returns:
        The message itself where there is nothing to hide, else a copy.

    >>> without_credentials({"tools": [{"type": "mcp", "server_url": "https://a.example/mcp", "authorization": "t"}]})
    {'tools': [{'type': 'mcp', 'server_url': 'https://a.example/mcp', 'authorization': '…'}]}
    """
    if not isinstance(message, Mapping):
        return message
    found = {name: without_credentials(message[name]) for name in ("session", "response") if name in message}
    tools = message.get("tools")
    if isinstance(tools, list | tuple):
        found["tools"] = [bare_tool(tool) for tool in tools]
        if all(bare is tool for bare, tool in zip(found["tools"], tools, strict=True)):
            del found["tools"]
    return message if all(found[name] is message[name] for name in found) else {**message, **found}


def credentials_in(message: Any) -> list[str]:
    """The credentials that the tools of a request carry, to be hidden where a server quotes them.

    >>> credentials_in({"tools": [{"type": "mcp", "headers": {"Authorization": "Bearer one"}, "server_url": "https://a/?k=two"}]})
    ['Bearer one', 'one', 'two']
    """
    tools = message.get("tools") if isinstance(message, Mapping) else None
    if not isinstance(tools, list | tuple):
        return []
    return [text for tool in tools if bare_tool(tool) is not tool for text in _credentials(tool, "")]


def _credentials(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            hidden = name == "headers" or _is_secret(name, key)
            yield from _credentials(inner, "headers" if hidden else key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _credentials(inner, name)
    elif isinstance(value, str) and name == "headers":
        yield value
        if " " in value:  # "Bearer …"
            yield value.rpartition(" ")[2]
    elif isinstance(value, str) and name == "server_url":
        user, _, address = value.partition("://")[2].rpartition("@")
        yield from (part for part in user.split(":")[1:] if part)
        yield from re.findall(r"=([^&#]+)", address)


def bare_tool(tool: Any) -> Any:
    """A tool without its credentials; the tool itself where it has none."""
    if not isinstance(tool, Mapping) or tool.get("type") in (None, "function", "custom"):
        return tool  # the schema of a function may have fields of these names
    bare = _bare(tool, "")
    return tool if bare == tool else bare


def is_bare(tool: Any) -> bool:
    """Whether it is a tool as `bare_tool` leaves it, without the credentials that it had."""
    if not isinstance(tool, Mapping) or tool.get("type") in (None, "function", "custom"):
        return False
    return HIDDEN in str(tool.get("server_url")) or repr(HIDDEN) in repr(tool)


def _bare(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        within = name if name == "headers" else ""
        return {
            k: HIDDEN if isinstance(v, str) and _is_secret(name, k) else _bare(v, within or k) for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [_bare(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    return _bare_url(value) if name == "server_url" else HIDDEN if name == "headers" else value


def _is_secret(parent: str, name: str) -> bool:
    return name == "authorization" or (parent == "domain_secrets" and name == "value")


def _bare_url(url: str) -> str:
    """An address without user, password, fragment and the values of its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    user, at, host = parts.netloc.rpartition("@")
    query = re.sub(r"(?<==)[^&]+", HIDDEN, parts.query)
    if query and "=" not in query:
        query = HIDDEN
    fragment = HIDDEN if parts.fragment else ""
    return urlunsplit(parts._replace(netloc=f"{HIDDEN if user else ''}{at}{host}", query=query, fragment=fragment))
