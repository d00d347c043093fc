"""voxnb: a Jupyter workbench for conversations with OpenAI-style models.

VoxEngine's OpenAI module in Python, with a memory that loses nothing: every turn is
kept in SQLite, every summary says what it was made from, every request can be
rebuilt.

>>> import voxnb
>>> with voxnb.testing.server(["It is a data set of flowers."]) as server:
...     with voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as chat:
...         reply = chat.ask("What is iris?").result()
>>> print(reply)
It is a data set of flowers.

Names are imported on first use: ``import voxnb`` itself loads no pandas, no openai
and no widgets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from voxnb import errors as errors
    from voxnb import local as local
    from voxnb import media as media
    from voxnb import testing as testing
    from voxnb import voxengine as voxengine
    from voxnb.clients.chat import ChatCompletionsAPIClient as ChatCompletionsAPIClient
    from voxnb.clients.chat import chat as chat
    from voxnb.clients.realtime.client import RealtimeAPIClient as RealtimeAPIClient
    from voxnb.clients.reply import Reply as Reply
    from voxnb.clients.responses import ResponsesAPIClient as ResponsesAPIClient
    from voxnb.clients.turn import Turn as Turn
    from voxnb.clients.turn import gather as gather
    from voxnb.errors import VoxnbError as VoxnbError
    from voxnb.events import ContextEvents as ContextEvents
    from voxnb.events import Event as Event
    from voxnb.events import SessionEvents as SessionEvents
    from voxnb.memory.policy import ContextPolicy as ContextPolicy
    from voxnb.notebook.doctor import doctor as doctor
    from voxnb.params import DEFAULT_SUMMARY_PROMPT as DEFAULT_SUMMARY_PROMPT
    from voxnb.runtime.nested import allow_nested_loops as allow_nested_loops
    from voxnb.store.context_store import ContextStore as ContextStore
    from voxnb.store.conversation import Conversation as Conversation
    from voxnb.taping.tape import tape as tape
    from voxnb.voxengine import OpenAI as OpenAI
    from voxnb.wire.realtime.policy import SessionPolicy as SessionPolicy

_NAMES = {
    "ChatCompletionsAPIClient": "voxnb.clients.chat",
    "ContextEvents": "voxnb.events",
    "ContextPolicy": "voxnb.memory.policy",
    "ContextStore": "voxnb.store.context_store",
    "Conversation": "voxnb.store.conversation",
    "DEFAULT_SUMMARY_PROMPT": "voxnb.params",
    "Event": "voxnb.events",
    "OpenAI": "voxnb.voxengine",
    "RealtimeAPIClient": "voxnb.clients.realtime.client",
    "Reply": "voxnb.clients.reply",
    "ResponsesAPIClient": "voxnb.clients.responses",
    "SessionEvents": "voxnb.events",
    "SessionPolicy": "voxnb.wire.realtime.policy",
    "Turn": "voxnb.clients.turn",
    "VoxnbError": "voxnb.errors",
    "allow_nested_loops": "voxnb.runtime.nested",
    "chat": "voxnb.clients.chat",
    "doctor": "voxnb.notebook.doctor",
    "errors": "voxnb",
    "gather": "voxnb.clients.turn",
    "local": "voxnb",
    "media": "voxnb",
    "tape": "voxnb.taping.tape",
    "testing": "voxnb",
    "voxengine": "voxnb",
}
"""Public name → module it comes from; a name from ``voxnb`` itself is a submodule."""

_HEAVY: Final = {"RealtimeAPIClient": "numpy", "doctor": "anywidget", "media": "numpy"}
"""Public name → heavy package that its module imports."""

__all__ = [
    "DEFAULT_SUMMARY_PROMPT",
    "ChatCompletionsAPIClient",
    "ContextEvents",
    "ContextPolicy",
    "ContextStore",
    "Conversation",
    "Event",
    "OpenAI",
    "RealtimeAPIClient",
    "Reply",
    "ResponsesAPIClient",
    "SessionEvents",
    "SessionPolicy",
    "Turn",
    "VoxnbError",
    "allow_nested_loops",
    "chat",
    "doctor",
    "errors",
    "gather",
    "local",
    "media",
    "tape",
    "testing",
    "voxengine",
]


def __getattr__(name: str) -> Any:
    home = _NAMES.get(name)
    if home is None:
        from voxnb.params import did_you_mean

        raise AttributeError(f"module 'voxnb' has no {name!r}{did_you_mean(name, __all__)}")
    if name in _HEAVY:
        from voxnb.runtime.packages import import_apart

        import_apart(_HEAVY[name])
    value = (
        importlib.import_module(f"voxnb.{name}") if home == "voxnb" else getattr(importlib.import_module(home), name)
    )
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext voxnb``: the cell magic ``%%vox``.

    Args:
        shell: IPython's.
    """
    from voxnb.notebook import magics

    magics.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext voxnb``."""
    from voxnb.notebook import magics

    magics.unload(shell)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
