"""``voxnb demo``: a scripted conversation under a budget so small that it folds while one watches.

Plain lines on any output; on a terminal the reply streams in place and parts are
coloured. What is shown comes from the same events and tables that users have.
"""

from __future__ import annotations

import json
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TextIO

from voxnb.clients.chat import ChatCompletionsAPIClient, chat
from voxnb.errors import ParameterError, SummaryError, VoxnbError
from voxnb.events import ContextEvents, Event
from voxnb.memory.policy import ContextPolicy
from voxnb.store.context_store import ContextStore
from voxnb.terminal.budget import fold_line, token_bar
from voxnb.terminal.screen import Screen, Span

NAME: Final = "demo"
SCRIPT: Final = "conversation.json"

POLICY: Final = ContextPolicy(
    window_tokens=1_400,
    reserve_output_tokens=96,
    fold_at_tokens=560,
    fold_to_tokens=260,
    keep_last_turns=3,
    summary_max_tokens=128,
)
"""Folds every six to eight short turns: small enough to watch, large enough for a 135M model to keep the thread."""

REPLY_TOKENS: Final = 32
"""Short replies: the demo is about what is remembered."""


@dataclass(frozen=True, slots=True)
class Script:
    """The conversation that is played.

    Attributes:
        title: one line.
        instructions: of the conversation.
        turns: the user's lines, some with a tool's result.
        facts: what they plant.
    """

    title: str
    instructions: str
    turns: Sequence[Mapping[str, Any]]
    facts: Sequence[Mapping[str, Any]]


def load_script() -> Script:
    """The script that comes with voxnb, installed or in a checkout.

    Raises:
        VoxnbError: it is not there.
    """
    packaged = resources.files("voxnb") / "data" / "demo" / SCRIPT
    beside = Path(__file__).resolve().parents[1] / "data" / "demo" / SCRIPT
    for place in (packaged, beside):
        if place.is_file():
            data = json.loads(place.read_text(encoding="utf-8"))
            return Script(data["title"], data["instructions"], data["turns"], data["facts"])
    raise VoxnbError(f"the demo's script {SCRIPT!r} is not installed; install voxnb again")


# -- what a summary keeps ---------------------------------------------------------------------


def plain(text: str) -> str:
    """A text as facts are looked up in it: NFKC, case folded, no commas in numbers, single spaces."""
    text = re.sub(r"(?<=\d),(?=\d)", "", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.split())


def says(text: str, alternatives: Iterable[str]) -> bool:
    """Whether a text states one of the alternatives, as a word of its own."""
    held = plain(text)
    return any(re.search(rf"(?<!\w){re.escape(plain(a))}(?!\w)", held) for a in alternatives)


# -- playing ----------------------------------------------------------------------------------


class Player:
    """Plays a script against a client and shows what happens."""

    def __init__(self, client: ChatCompletionsAPIClient, script: Script, screen: Screen) -> None:
        self.client = client
        self.script = script
        self.screen = screen
        self.planned: Mapping[str, Any] | None = None
        self.folds: list[tuple[str, Mapping[str, Any]]] = []
        client.on(ContextEvents.ContextPlanned, self._on_planned)
        for name in (ContextEvents.SummaryFolded, ContextEvents.SummaryFailed):
            client.on(name, self._on_fold)

    def _on_planned(self, event: Event) -> None:
        self.planned = event.payload

    def _on_fold(self, event: Event) -> None:
        self.folds.append((event.name, event.payload))

    def play(self) -> None:
        """The lines that are not stored yet, one by one."""
        done = stored_lines(self.client.store, self.client.conversation.id, self.script) or 0
        if done:
            self.screen.line(f"    resumed after line {done} of {len(self.script.turns)}")
        for number, turn in enumerate(self.script.turns[done:], start=done + 1):
            self.screen.line()
            self.screen.line((f"{number:>2}", "2"), f"  you    {turn['user']}")
            if "tool" in turn:
                self._append_tool(turn)
            else:
                self._ask(turn["user"])
            self.client.idle().result()
            self._show_folds()

    def _ask(self, text: str) -> None:
        self.screen.write("    model  ")
        turn = self.client.ask(text, max_tokens=REPLY_TOKENS)
        try:
            if self.screen.live:
                for delta in turn:
                    self.screen.write(" ".join(delta.split("\n")))
            else:
                self.screen.write(" ".join(turn.result().text.split()))
        finally:  # what stops it is told on a line of its own
            self.screen.end()
        reply = turn.result()
        if self.planned is not None:
            self.screen.line(*_bar(self.screen, self.planned))
        for warning in reply.warnings:
            self.screen.line(f"    ! {warning}")

    def _append_tool(self, turn: Mapping[str, Any]) -> None:
        """A tool call with its result and answer, as data: the embedded model calls no tools."""
        tool = turn["tool"]
        arguments = json.dumps(tool["arguments"])
        call = {"id": tool["call_id"], "type": "function", "function": {"name": tool["name"], "arguments": arguments}}
        self.client.store.append(
            self.client.conversation.id,
            [
                {"role": "user", "content": turn["user"]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": tool["call_id"], "content": tool["result"]},
                {"role": "assistant", "content": "Here is the result of the query."},
            ],
        )
        self.screen.line(f"    tool   {tool['name']}({arguments})")
        self.screen.block(tool["result"])

    def _show_folds(self) -> None:
        folds, self.folds = self.folds, []
        for name, fold in folds:
            if name == ContextEvents.SummaryFailed.value:
                self.screen.line((f"    fold refused: {fold['message']}", "33"))
                continue
            self.screen.line((f"    {fold_line(fold)}", "1;36"))
            self.screen.block(fold["text"])

    # -- the end ------------------------------------------------------------------------------

    def report(self) -> bool:
        """Tables, facts, path and verdict; whether everything holds."""
        conversation, store = self.client.conversation, self.client.store
        self._show_tables(store, conversation.id)
        self._show_facts()
        verdict = store.verify()
        self.screen.head("verify()")
        self.screen.line(str(verdict))
        self.screen.line(f"database: {store.path}")
        self.screen.line(f'in Python: voxnb.ContextStore({store.path!r})["{conversation.name}"]')
        return bool(verdict)

    def _show_tables(self, store: ContextStore, conversation: str) -> None:
        shown = {
            "turns": ["seq", "state", "user_text", "reply_text", "tokens", "covered_by"],
            "summaries": ["round", "first_seq", "last_seq", "tokens_before", "tokens_after", "model", "quality"],
            "coverage": ["summary_id", "seq", "content_hash"],
            "calls": [
                "purpose",
                "estimated_prompt_tokens",
                "prompt_tokens",
                "token_error",
                "completion_tokens",
                "duration_ms",
            ],
        }
        import pandas as pd

        with pd.option_context(
            "display.max_colwidth", 28, "display.width", self.screen.width, "display.max_columns", 20
        ):
            for table, columns in shown.items():
                frame = getattr(store, table)(conversation)
                self.screen.head(f"{table}: {len(frame):,} rows, these are the first")
                self.screen.line(str(frame[columns].head(5)))

    def _show_facts(self) -> None:
        """Which planted facts each summary still states."""
        conversation = self.client.conversation
        chain = []
        summary = conversation.summary()
        while summary is not None:
            chain.append(summary)
            summary = summary.previous
        chain.reverse()
        if not chain:
            return
        self.screen.head("planted facts, summary by summary (x kept, . lost, blank not said yet)")
        kept = covered = 0
        for fact in self.script.facts:
            marks = "".join(
                " " if fact["planted_in"] > s.last_seq else "x" if says(s.text, fact["text"]) else "." for s in chain
            )
            note = f"  corrected by {fact['superseded_by']}" if fact.get("superseded_by") else ""
            self.screen.line(f"    {fact['id']:<22}{marks}  {fact['text'][0]}{note}")
            if fact["planted_in"] <= chain[-1].last_seq and not fact.get("superseded_by"):
                covered += 1
                kept += marks[-1] == "x"
        self.screen.line(
            f"    the last summary states {kept} of {covered} facts; all {covered} are in the store, word for word"
        )


def _bar(screen: Screen, payload: Mapping[str, Any]) -> list[Span]:
    """The budget of a request, from its `ContextPlanned` event."""
    names = ("total_tokens", "window_tokens", "reserve_tokens")
    return token_bar(screen, payload["tokens"], **{name: payload[name] for name in names})


def stored_lines(store: ContextStore, conversation: str, script: Script) -> int | None:
    """How many of the script's lines a conversation holds already, answered; None where it is about something else."""
    if conversation not in store:
        return 0
    turns = store.turns(conversation, columns=["user_text", "state", "live"])
    answered = turns["user_text"][turns["live"] & turns["state"].isin(["complete", "partial"])]
    said = [line for line, _ in groupby(answered)]  # a line whose answer a kill cut in two is said again
    wanted = [turn["user"] for turn in script.turns]
    return len(said) if said[: len(wanted)] == wanted[: len(said)] else None


def free_name(store: ContextStore, script: Script) -> str:
    """The conversation to go on with: the newest demo that was not played to its end, else a new name."""
    number = 1
    while True:
        name = NAME if number == 1 else f"{NAME}-{number}"
        done = stored_lines(store, name, script)
        if done is not None and done < len(script.turns):
            return name
        number += 1


def run(
    *,
    base_url: str | None = None,
    model: str | None = None,
    store: str | None = None,
    lines: int | None = None,
    out: TextIO | None = None,
    client: Callable[..., ChatCompletionsAPIClient] = chat,
) -> bool:
    """Play the demo.

    Args:
        base_url: the server; default the embedded model, or OpenAI's where a model is named.
        model: its model.
        store: path of the store; default the project's.
        lines: play only the first ones.
        out: where to write; default standard output.
        client: makes the client.

    Returns:
        Whether `verify` holds at the end.

    Raises:
        ParameterError: no model, and the server is not the embedded one.
        VoxnbError: whatever the model's server or the store met.
        KeyboardInterrupt: Ctrl-C; what was said is stored, the next run goes on there.
    """
    screen = Screen(out or sys.stdout)
    script = load_script()
    if lines is not None:
        script = Script(script.title, script.instructions, script.turns[:lines], script.facts)
    began = time.monotonic()
    held = ContextStore.shared(store)
    name = free_name(held, script)
    named = (model,) if model else ()
    base_url = base_url or (None if model else "local")
    with client(
        *named, base_url=base_url, conversation=name, store=held, policy=POLICY, instructions=script.instructions
    ) as talk:
        if model is None and base_url != "local":
            raise ParameterError(f'no model: say which one at {base_url!r}, with --model (model="…")', name="model")
        screen.head(f"voxnb demo: {script.title}")
        screen.line(f"    {talk!r}")
        screen.line(
            f"    budget {POLICY.window_tokens:,} tokens, folds at {POLICY.fold_at_tokens:,} to {POLICY.fold_to_tokens:,}"
        )
        player = Player(talk, script, screen)
        player.play()
        if talk.conversation.summary() is None and lines is None:
            try:
                talk.conversation.fold().result()
            except SummaryError as error:
                screen.line(f"    fold refused: {error}")
        verdict = player.report()
    screen.line(f"took {time.monotonic() - began:.0f} s")
    return verdict
