"""Tools of remote (MCP) servers: which there are is listed as soon as a client names the server.

Nobody is called: what a server has is what `Manner.remote_tools` says of its label.

Source: OpenAI Realtime API reference, `mcp_list_tools.*`; the guide "Realtime with tools".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from voxnb.local.realtime.items import Conversation, Item
from voxnb.local.realtime.manner import Manner


class Session(Protocol):
    """What is needed of a session."""

    conversation: Conversation
    manner: Manner
    new_id: Callable[[str], str]

    def send(self, kind: str, /, **fields: Any) -> None:
        """Send a server event."""


class RemoteServers:
    """The servers that a session has asked for their tools.

    Args:
        session: whose.
        tell: tells of an item of the conversation.
    """

    def __init__(self, session: Session, *, tell: Callable[[str, Item], None]) -> None:
        self._session = session
        self._tell = tell
        self._listed: set[str] = set()

    def list(self, tools: Sequence[Mapping[str, Any]] | None, /) -> None:
        """Have those among the tools that are new here list theirs."""
        for tool in tools or ():
            label = tool.get("server_label", "")
            if tool["type"] == "mcp" and label not in self._listed:
                self._listed.add(label)
                self._list_one(label, allowed=tool.get("allowed_tools"))

    def _list_one(self, label: str, *, allowed: Any) -> None:
        session = self._session
        found = session.manner.remote_tools.get(label)
        tools = [{"input_schema": {"type": "object", "properties": {}}, **tool} for tool in found or ()]
        if isinstance(allowed, list):
            tools = [tool for tool in tools if tool["name"] in allowed]
        item = Item({"id": session.new_id("mcpl"), "type": "mcp_list_tools", "server_label": label, "tools": []})
        session.send("mcp_list_tools.in_progress", item_id=item.id)
        session.conversation.add(item)
        self._tell("conversation.item.added", item)
        item.data["tools"] = tools
        self._tell("conversation.item.done", item)
        session.send(f"mcp_list_tools.{'failed' if found is None else 'completed'}", item_id=item.id)
