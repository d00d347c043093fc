"""The line that a person types: edited, completed, remembered, over several lines where wanted.

prompt_toolkit does it, which every notebook has (IPython is built on it): bracketed paste, so that a pasted text is one
message whatever line breaks are in it, and lines that appear above the prompt while somebody types.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

CONTINUED: Final = "\\"
"""At the end of a line: the message goes on in the next."""


class Prompt:
    """Reads what a person types.

    Args:
        message: the prompt, as it is written (colours included).
        commands: name → what it does, completed behind a slash.
        paths: those commands that take a path, which is completed too.
        past: gives what was typed before, oldest first; called once, at the first prompt.
    """

    def __init__(
        self,
        message: str,
        *,
        commands: Mapping[str, str],
        paths: Iterable[str],
        past: Callable[[], Iterable[str]],
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            ANSI(message),
            multiline=True,
            key_bindings=_keys(),
            completer=_Commands(commands, frozenset(paths)),
            complete_while_typing=False,
            history=_Past(past),
            prompt_continuation="  ",
            mouse_support=False,
        )
        self._lock = threading.Lock()
        self._reading = False

    def read(self) -> str:
        """The next message; blocks.

        Raises:
            EOFError: Ctrl-D on an empty line.
            KeyboardInterrupt: Ctrl-C.
        """
        # Whatever is printed meanwhile appears above the prompt; the escape sequences in it are our own colours.
        with patch_stdout(raw=True):
            with self._lock:
                self._reading = True
            try:
                return self._session.prompt()
            finally:
                with self._lock:
                    self._reading = False

    def tell(self, line: str) -> bool:
        """Show a line above the prompt; from any thread.

        Returns:
            False if nobody is at the prompt now, and nothing was shown.
        """
        with self._lock:
            if self._reading:
                print(line, file=sys.stdout, flush=True)
            return self._reading


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith(CONTINUED):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    # Not Ctrl-J as well: what is typed while a reply streams reaches the prompt with line feeds for Enter.
    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


class _Commands(Completer):
    def __init__(self, commands: Mapping[str, str], paths: frozenset[str]) -> None:
        self._commands = commands
        self._paths = paths
        self._path_completer = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        if not space:
            for known, what in self._commands.items():
                if known.startswith(name):
                    yield Completion(known, start_position=-len(name), display=f"/{known}", display_meta=what)
        elif name in self._paths:
            yield from self._path_completer.get_completions(Document(argument), complete_event)


class _Past(History):
    """What was said before, from the store: nothing is written anywhere else."""

    def __init__(self, past: Callable[[], Iterable[str]]) -> None:
        super().__init__()
        self._past = past

    def load_history_strings(self) -> Iterable[str]:
        return list(self._past())[::-1]

    def store_string(self, string: str) -> None:
        """It is stored as a turn, by the conversation."""


def fits(stdin: Any, stdout: Any) -> bool:
    """Whether a person sits there: both are terminals."""
    return bool(stdin and stdout and stdin.isatty() and stdout.isatty())
