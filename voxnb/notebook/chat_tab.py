"""The Chat tab: history, composer, Stop, retry, edit and fork, attachments."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.reply import plain
from voxnb.clients.turn import Turn
from voxnb.errors import ConversationError, ParameterError
from voxnb.memory.past import UNDER_WAY
from voxnb.notebook.live import LiveText
from voxnb.notebook.tab import Sent, Tab
from voxnb.notebook.transcript import MOST_SAID, answer_html, facts, marks, parts_html, said_text, user_messages
from voxnb.store.pages import ShownTurn

if TYPE_CHECKING:
    from voxnb.store.conversation import Conversation

PAGE_TURNS: Final = 30
MOST_TURNS: Final = 300
"""Turns that a page shows at once; older ones are in the tables."""

BEGUN: Final = {"state": "running"}

MOST_ATTACHED_BYTES: Final = 32 * 1024 * 1024


class ChatTab(Tab):
    """What was said, and saying more.

    Args:
        client: who asks.
        talk: the conversation that is shown now.
        go: shows another conversation.
        poke: called, from any thread, when there is something new: in the tabs that it is given, or in any.
    """

    name = "chat"

    def __init__(
        self,
        client: Any,
        *,
        talk: Callable[[], Conversation],
        go: Callable[[Conversation], object],
        poke: Callable[..., None],
    ) -> None:
        self._client, self._talk, self._go, self._poke = client, talk, go, poke
        self._sent = Sent()
        self._limit = PAGE_TURNS
        self._running: list[tuple[Turn, LiveText]] = []
        self._told: dict[str, Any] = {}
        self._end_watch = client.watch_turns(self._on_turn)
        self.verbs = {
            "ask": self._ask,
            "stop": self._stop,
            "retry": lambda _message, _buffers: self._started(self._talk().retry(client=client)),
            "edit": self._edit,
            "earlier": self._earlier,
        }

    def close(self) -> None:
        """Watch no more turns; a second call does nothing."""
        self._end_watch()

    # -- turns under way ----------------------------------------------------------------------

    def _on_turn(self, turn: Turn) -> None:
        self._running.append((turn, LiveText()))
        turn.on_news(self._on_news)
        turn.stored.add_done_callback(lambda _: self._poke())
        self._poke()

    def _on_news(self) -> None:
        self._poke(self.name)

    def _live(self) -> tuple[Turn, LiveText] | None:
        """The oldest turn that is not stored yet; the others wait for it."""
        self._running = [(turn, text) for turn, text in self._running if not turn.stored.done()]
        return self._running[0] if self._running else None

    def stop(self) -> None:
        """Stop what runs; returns at once."""
        for turn, _ in tuple(self._running):
            turn.cancel()

    # -- what is shown ------------------------------------------------------------------------

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """Turns that changed, and of the one under way what is new."""
        live = self._live()
        page = self._talk().page(limit=self._limit)
        items = {turn.id: _item(turn) for turn in page.turns}
        if live is not None and items.get(str(live[0].id), BEGUN)["state"] not in UNDER_WAY:
            live = None  # stored since: its answer stands in the page, and not a second time below it
        order = list(items)
        told = {
            "order": order,
            "count": page.turn_count,
            "busy": live is not None,
            "more": page.turn_count > len(order),
        }
        news = self._sent.news(items, full=full)
        out: dict[str, Any] = {}
        if full or news or told != self._told:
            self._told = told
            out = {**told, "put": news}
        if live is not None:
            turn, text = live
            so_far = turn.partial
            text.show(so_far, "writing," if so_far else "waiting for the reply,")
            out["live"] = {"turn": turn.id, **text.take(full=full)}
            turn.on_news(self._on_news)
        return out or None

    # -- what can be done ---------------------------------------------------------------------

    def _ask(self, message: Mapping[str, Any], buffers: Sequence[bytes]) -> None:
        self._say(self._talk(), _text(message), message.get("files") or (), buffers)

    def _say(self, talk: Conversation, text: str, names: Sequence[Any], buffers: Sequence[bytes]) -> None:
        if not text.strip() and not buffers:
            raise ParameterError("there is nothing to say; write something, or attach a file", name="text")
        if sum(map(len, buffers)) > MOST_ATTACHED_BYTES:
            raise ParameterError(f"attachments have more than {MOST_ATTACHED_BYTES:,} bytes together", name="files")
        with tempfile.TemporaryDirectory(prefix="voxnb-") as folder:
            paths = [_written(Path(folder), n, names, data) for n, data in enumerate(buffers)]
            self._started(talk.ask(text if text.strip() else None, attach=paths, client=self._client))

    def _started(self, turn: Turn) -> None:
        turn.mark_seen()  # what becomes of it is shown here

    def _stop(self, _message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        self.stop()

    def _edit(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> str:
        """Say something else in a turn's place, with what was attached: in a fork, so that both courses stay."""
        talk = self._talk()
        text = _text(message)
        if not text.strip():
            raise ParameterError("there is nothing to say; write something", name="text")
        number = talk.number_of(message.get("turn"))
        said = user_messages(talk.page(before=number + 1, limit=1).turns[0])
        if any((mark := said_text(one)[MOST_SAID:]) and mark in text for one in said):
            raise ConversationError(
                f"turn {number} is longer than what is shown of it, and an edit would lose the rest; ask in a cell"
            )
        attached = _attached(said, number)
        fork = talk.fork(at=number - 1)
        self._go(fork)
        self._say(fork, text, [name for name, _ in attached], [data for _, data in attached])
        return fork.name

    def _earlier(self, _message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        if self._limit >= MOST_TURNS:
            raise ConversationError(
                f"no more than {MOST_TURNS} turns are shown here; conversation.turns() has them all"
            )
        self._limit = min(MOST_TURNS, self._limit + PAGE_TURNS)


def _item(turn: ShownTurn) -> dict[str, Any]:
    said = user_messages(turn)
    return {
        "seq": turn.seq,
        "state": turn.state,
        "said": [{"role": str(m.get("role")), "text": said_text(m), "parts": parts_html(m)} for m in said],
        "answer": answer_html(turn.messages) if turn.state not in UNDER_WAY else "",
        "marks": marks(turn),
        "facts": facts(turn),
        "error": plain(turn.error) if turn.error and turn.error != "cancelled" else "",
    }


def _text(message: Mapping[str, Any]) -> str:
    text = message.get("text")
    return text if isinstance(text, str) else ""


def _attached(said: Sequence[Mapping[str, Any]], number: int) -> list[tuple[str, bytes]]:
    """Names and bytes of the pictures, the sound and the files in what was said in a turn.

    Raises:
        ConversationError: something that is not in the message itself, such as a picture at an address.
    """
    found = []
    for part in (part for one in said if isinstance(one.get("content"), list | tuple) for part in one["content"]):
        if isinstance(part.get("text"), str):
            continue
        value = part.get(str(part.get("type")))
        value = value if isinstance(value, Mapping) else {"url": value}
        data = str(value.get("url") or value.get("data") or value.get("file_data") or "")
        try:
            found.append(
                (str(value.get("filename") or ""), base64.b64decode(data.rpartition("base64,")[2], validate=True))
            )
        except ValueError:
            found.append(("", b""))
        if not found[-1][1]:
            raise ConversationError(
                f"turn {number} has a part ({part.get('type')}) whose bytes are not in it, and an edit would lose it; ask in a cell"
            )
    return found


def _written(folder: Path, number: int, names: Sequence[Any], data: bytes) -> Path:
    """A file as it came, under its own name: the model is told it."""
    given = names[number] if number < len(names) else None
    name = Path(str(given).replace("\\", "/")).name if given else ""
    place = folder / str(number)
    place.mkdir()
    path = place / (name if name not in ("", ".", "..") else "pasted")
    path.write_bytes(data)
    return path
