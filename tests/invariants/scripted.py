"""A model by script, and what can be seen of a conversation from outside: its requests and its file."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import voxnb
from voxnb import testing
from voxnb.testing.service import prompt_tokens

MODEL = "gpt-4o-mini"
TELLER = "gpt-4o"
"""The model that writes summaries; whatever is asked of it is a fold."""

WAIT_S = 20

_TAG = re.compile(r"#(\d+)(?:\.\.#(\d+))?\b")


def told(text: str) -> set[int]:
    """The tags of a text: ``#7``, and ``#2..#5`` for all of them.

    >>> sorted(told("#7 and #2..#4"))
    [2, 3, 4, 7]
    """
    found: set[int] = set()
    for first, last in _TAG.findall(text):
        found.update(range(int(first), int(last or first) + 1))
    return found


def telling(tags: set[int]) -> str:
    """The shortest text with these tags.

    >>> telling({1, 2, 3, 7})
    '#1..#3, #7'
    """
    runs: list[list[int]] = []
    for tag in sorted(tags):
        if runs and tag == runs[-1][-1] + 1:
            runs[-1].append(tag)
        else:
            runs.append([tag])
    return ", ".join(f"#{run[0]}" if len(run) == 1 else f"#{run[0]}..#{run[-1]}" for run in runs)


def shown(request: testing.Request) -> str:
    """All that a request says."""
    return "\n".join(testing.request.text_of(m.get("content")) for m in request.messages)


class Held:
    """An answer that waits until it is released.

    Attributes:
        asked: set once somebody waits for it.
        release: lets it go.
    """

    def __init__(self, reply: Callable[[testing.Request], str]) -> None:
        self.reply = reply
        self.asked, self.release = threading.Event(), threading.Event()

    def __call__(self, request: testing.Request) -> str:
        self.asked.set()
        assert self.release.wait(WAIT_S)
        return self.reply(request)


def summarise(request: testing.Request) -> str:
    """A summary that names every tag it was shown."""
    return f"They spoke of {telling(told(shown(request)))}."


def answer(request: testing.Request) -> str:
    """An answer of some length that repeats the tags of the question."""
    return f"Noted {telling(told(request.text))}: " + "and so it goes on " * 4


def scripted(chat: Any = answer, fold: Any = summarise) -> Callable[[testing.Request], Any]:
    """What the server answers: chats by one function (or reply), folds by another."""

    def reply(request: testing.Request) -> Any:
        which = fold if request.model == TELLER else chat
        return which(request) if callable(which) else which

    return reply


def in_turn(*replies: Any) -> Callable[[testing.Request], Any]:
    """One reply after the other, the last one again and again; functions are asked."""
    waiting = list(replies)

    def reply(request: testing.Request) -> Any:
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return found(request) if callable(found) else found

    return reply


def small(**changes: Any) -> voxnb.ContextPolicy:
    """A budget under which a conversation of a dozen turns is folded several times."""
    numbers = {"window_tokens": 800, "reserve_output_tokens": 100, "fold_at_tokens": 300, "keep_last_turns": 2}
    return voxnb.ContextPolicy(**{**numbers, **changes})


def client(server: testing.Server, **parameters: Any) -> voxnb.ChatCompletionsAPIClient:
    """A chat with this server; its store is in memory, its budget `small`, its summaries are the teller's."""
    given = {
        "base_url": server.base_url,
        "api_key": server.api_key,
        "store": ":memory:",
        "policy": small(),
        "summary_model": TELLER,
        "timeout_s": WAIT_S,
    }
    return voxnb.chat(MODEL, **{**given, **parameters})


@contextlib.contextmanager
def talking(
    replies: Any = None, *, manner: dict[str, Any] | None = None, **parameters: Any
) -> Iterator[tuple[testing.Server, voxnb.ChatCompletionsAPIClient]]:
    """A server and one client of it."""
    script = scripted() if replies is None else replies
    with testing.server(script, **(manner or {})) as server, client(server, **parameters) as chat:
        yield server, chat


def say(chat: voxnb.ChatCompletionsAPIClient, *tags: int, words: int = 12) -> list[voxnb.Reply]:
    """Ask about each tag in turn; each time the fold that follows is waited for."""
    replies = []
    for tag in tags:
        replies.append(chat.ask(f"Tell me of #{tag}, " + "please " * words).result(WAIT_S))
        chat.idle().result(WAIT_S)
    return replies


def chats(server: testing.Server) -> list[testing.Request]:
    """The requests of turns, in order of arrival."""
    return [r for r in server.requests if r.method == "POST" and r.model != TELLER]


def folds(server: testing.Server) -> list[testing.Request]:
    """The requests to the summary model."""
    return [r for r in server.requests if r.model == TELLER]


def summary_of(request: testing.Request) -> str | None:
    """The text between the marks of a request's summary, or None if it carries none."""
    found = [
        m["content"]
        for m in request.messages
        if isinstance(m.get("content"), str) and m["content"].startswith("Summary of the earlier conversation")
    ]
    assert len(found) <= 1, "more than one summary in a request"
    return re.search(r"\n\[\w+\]\n(.*)\n\[/\w+\]$", found[0], re.DOTALL)[1] if found else None


def orphans(messages: list[dict[str, Any]]) -> list[str]:
    """Ids of tool results without their call before them, and of calls without a result."""
    waiting: list[str] = []
    found: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] in waiting:
                waiting.remove(message["tool_call_id"])
            else:
                found.append(message["tool_call_id"])
        else:
            found += waiting
            waiting = [call["id"] for call in message.get("tool_calls") or ()]
    return found + waiting


def sent_tokens(request: testing.Request) -> int:
    """The prompt as the service counts it."""
    return prompt_tokens(request)


def everything(store: voxnb.ContextStore, *but: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every physical table, but for the named ones: equal where nothing changed."""
    names = store.database.read("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    rows = {name: store.database.read(f"SELECT * FROM {name}") for (name,) in names if name not in but}
    return {name: sorted(found, key=repr) for name, found in rows.items()}


def spoken(store: voxnb.ContextStore, conversation: Any) -> list[list[tuple[str, str, Any]]]:
    """A conversation's turns as (role, text, tool calls or call id) without ids of ours."""
    frame = store.messages(conversation)
    out: dict[int, list[tuple[str, str, Any]]] = {}
    for row in frame.itertuples():
        calls = row.tool_calls if isinstance(row.tool_calls, str) else None
        out.setdefault(row.turn_seq, []).append(
            (row.role, row.content, calls or (row.tool_call_id if isinstance(row.tool_call_id, str) else None))
        )
    return [out[n] for n in sorted(out)]
