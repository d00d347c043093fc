"""`Tape`: what a notebook asked and was answered, replayed where it is known and recorded where it is not."""

from __future__ import annotations

import contextlib
import hashlib
import html
import itertools
import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from voxnb.errors import ParameterError, TapeError, TapeMissError
from voxnb.params import did_you_mean
from voxnb.runtime import config, loop
from voxnb.taping import block
from voxnb.taping.aside import aside
from voxnb.taping.asked import Asked, differences, nearest
from voxnb.taping.block import Exchange, Step
from voxnb.taping.redact import Redact, Redactor

MODES: Final = ("auto", "replay", "record")
VARIABLE: Final = "VOXNB_TAPE"
OFF: Final = "off"
PACES: Final = ("fast", "real")
FIRST_LINE: Final = "voxnb tape 1"
_ABOUT: Final = (
    "# What models were asked and what they answered; made by voxnb.tape(). Keys are not in it, prompts are.\n"
)
_SHOWN_DIFFERENCES: Final = 6

Mode = Literal["auto", "replay", "record"]
Pace = Literal["fast", "real"]


class Unfinished(Protocol):
    """A recording that goes on, such as a session."""

    def finish(self) -> None:
        """Put on the tape what there is."""


class Tape:
    """A tape that runs; made by `voxnb.tape`.

    Attributes:
        path: the file.
        mode: ``auto``, ``replay`` or ``record``; ``off`` where ``VOXNB_TAPE`` says so.
        pace: ``fast`` or ``real``.
        replayed: exchanges answered from the tape so far.
        recorded: exchanges put on it so far.
        hide: text → text as it may stand on the tape.
    """

    def __init__(self, path: Path, *, mode: str, pace: Pace, redact: Redact) -> None:
        self.path, self.mode, self.pace = path, mode, pace
        self.number = next(_numbers)
        self.replayed = self.recorded = 0
        self.hide = Redactor(redact)
        self._lock = threading.RLock()
        self._known: list[Exchange] = []
        self._next: dict[str, deque[Exchange]] = {}
        self._last: dict[str, Exchange] = {}
        self._read_bytes = 0
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        # A new recording takes the old one's place when it is whole: an interrupted one leaves the old as it was.
        self._file = aside(path) if mode == "record" else path
        if mode == "replay" and not path.exists():
            raise TapeError(
                f"there is no tape {str(path)!r}; record it with voxnb.tape({path.name!r}), or look at the folder: "
                f"paths begin at {str(Path.cwd())!r}",
                path=str(path),
            )
        self._read()
        self._forget_exit = loop.at_exit(self.stop)

    # -- reading ------------------------------------------------------------------------------

    def _read(self) -> None:
        """Take in what the file holds beyond what was read; another process may write to it, too.

        Raises:
            TapeError: the file cannot be read.
        """
        if self.mode in ("record", OFF) or not self.path.exists():
            return
        name = str(self.path)
        try:
            data = self.path.read_bytes()
            text = data.decode("utf-8").replace("\r\n", "\n")  # as git writes it on Windows
        except (OSError, UnicodeDecodeError) as error:
            raise TapeError(f"the tape {name!r} cannot be read ({error})", path=name) from error
        first, _, rest = text.partition("\n")
        if text and first.strip() != FIRST_LINE:
            raise TapeError(
                f"{name!r} is no tape: it begins with {first[:60]!r}, not with {FIRST_LINE!r}; name another file",
                path=name,
                line=1,
            )
        found, _ = block.read(f"\n{rest}", path=name)
        # What this process recorded is known already, wherever the lines of another one came between.
        known = Counter(exchange.asked.label for exchange in self._known)
        for exchange in found:
            if known[exchange.asked.label] > 0:
                known[exchange.asked.label] -= 1
            else:
                self._add(exchange)
        self._read_bytes = len(data)

    def _add(self, exchange: Exchange) -> None:
        self._known.append(exchange)
        self._next.setdefault(exchange.asked.label, deque()).append(exchange)

    def _has_grown(self) -> bool:
        with contextlib.suppress(OSError):
            return self.mode in MODES[:2] and self._file.stat().st_size != self._read_bytes
        return False

    # -- replaying and recording --------------------------------------------------------------

    def take(self, asked: Asked) -> Exchange | None:
        """The next answer to a request.

        Args:
            asked: the request.

        Returns:
            What is on the tape, each exchange once, in order; None where it is to be asked and recorded.

        Raises:
            TapeMissError: it is not on the tape, and the mode is ``replay``.
        """
        with self._lock:
            found = self._take(asked.label)
            if found is None and self._has_grown():
                self._read()
                found = self._take(asked.label)
            if found is None and asked.repeats:
                return self._last.get(asked.label)
        if found is None and self.mode == "replay":
            raise self.miss(asked)
        return found

    def _take(self, label: str) -> Exchange | None:
        waiting = self._next.get(label)
        if not waiting:
            return None
        self.replayed += 1
        found = self._last[label] = waiting.popleft()
        return found

    def record(self, exchange: Exchange) -> None:
        """Put an exchange on the tape, at its end, in one write.

        Raises:
            TapeError: it cannot be written.
        """
        with self._lock:
            text = block.write(exchange, [known.asked for known in self._known])
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("ab") as file:
                    head = f"{FIRST_LINE}\n{_ABOUT}" if file.tell() == 0 else ""
                    # What another process wrote in between is read before the next miss.
                    self._read_bytes += file.write(f"{head}\n{text}".encode())
                    file.flush()
            except OSError as error:
                raise TapeError(
                    f"the tape {str(self._file)!r} cannot be written ({error})", path=str(self._file)
                ) from error
            self._known.append(exchange)
            self._last[exchange.asked.label] = exchange
            self.recorded += 1

    def miss(self, asked: Asked, *, because: str = "") -> TapeMissError:
        """The error for a request that is not on the tape.

        Args:
            asked: the request.
            because: why it cannot be asked now, where the mode would allow that.
        """
        known = [exchange.asked for exchange in self._known]
        at = nearest(asked, known)
        same = sum(other.label == asked.label for other in known)
        differs: tuple[tuple[str, str, str], ...] = ()
        if same:
            told = f"it is there {'once' if same == 1 else f'{same} times'}, and was asked once more"
        elif at is None:
            told = "the tape has nothing of the kind" if known else "the tape is empty"
        else:
            differs = differences(asked, known[at])
            told = f"the nearest (line {self._known[at].line}) differs in\n{_told(differs)}"
        why = f"; it could not be asked: {because}" if because else ""
        how = "" if because else f'\nto add it: voxnb.tape({self.path.name!r}, mode="auto"), with a key'
        return TapeMissError(
            f"{asked.line} is not on the tape {str(self.path)!r}{why}\n{told}{how}",
            path=str(self.path),
            request=asked.line,
            nearest=self._known[at].line if at is not None else None,
            differences=differs,
        )

    def miss_command(
        self, command: Mapping[str, Any], left: Sequence[Mapping[str, Any]], *, line: int
    ) -> TapeMissError:
        """The error for a command that a session on the tape does not have.

        Args:
            command: what the client said.
            left: what it is expected to say.
            line: where the session begins.
        """
        asked = Asked("REALTIME", str(command.get("type")), command)
        of_type = [Asked("REALTIME", str(one.get("type")), one) for one in left]
        at = nearest(asked, of_type)
        differs = () if at is None else differences(asked, of_type[at])
        waiting = ", ".join(dict.fromkeys(one.path for one in of_type)) or "nothing more"
        told = _told(differs) if differs else f"the session at line {line} expects {waiting}"
        return TapeMissError(
            f"{asked.path} is not on the tape {str(self.path)!r} at this place of the session (line {line})\n{told}",
            path=str(self.path),
            request=asked.path,
            nearest=line,
            differences=differs,
        )

    def hold(self, recording: Unfinished) -> None:
        """Let a recording be finished by `stop` if it still goes on then."""
        self._open.add(recording)

    # -- its end ------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether requests go through it."""
        return self in _running

    @property
    def unused(self) -> tuple[str, ...]:
        """What is on the tape and was not asked for, one line each: a notebook that changed leaves some behind."""
        with self._lock:
            left = [exchange for waiting in self._next.values() for exchange in waiting]
        return tuple(f"line {e.line}: {e.asked.line}" for e in sorted(left, key=lambda e: e.line))

    def stop(self) -> None:
        """End the tape: from now on requests go out as usual. A second call does nothing."""
        self._stop(keep=True)

    def _stop(self, *, keep: bool) -> None:
        with _lock:
            was_running = self in _running
            if was_running:
                _running.remove(self)
        if not was_running:
            return
        self._forget_exit()
        for recording in list(self._open):
            recording.finish()
        if self.mode == "record":
            with self._lock:
                if not keep:
                    self._file.unlink(missing_ok=True)
                elif self._file.exists():
                    self._file.replace(self.path)
                self._file = self.path if keep else Path(os.devnull)  # for an answer that still comes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(keep=error is None)

    def __repr__(self) -> str:
        unused = len(self.unused)
        left = f", {unused} not asked for" if unused and not self.running else ""
        state = "" if self.running else ", stopped"
        if self.mode == OFF:
            return f"<Tape {self.path.name!r}, off by {VARIABLE}>"
        return (
            f"<Tape {self.path.name!r}, {self.mode}{state}: {self.replayed} replayed, {self.recorded} recorded{left}>"
        )

    def _repr_html_(self) -> str:
        return f"<p><small>{html.escape(repr(self)[1:-1])}</small></p>"


def _told(differs: Sequence[tuple[str, str, str]]) -> str:
    lines = [f"  {field}: {old!r} on the tape, {new!r} asked" for field, old, new in differs[:_SHOWN_DIFFERENCES]]
    if len(differs) > _SHOWN_DIFFERENCES:
        lines.append(f"  and {len(differs) - _SHOWN_DIFFERENCES} more")
    return "\n".join(lines)


_lock = threading.Lock()
_numbers = itertools.count(1)
_running: list[Tape] = []


def tape(path: str | os.PathLike[str], mode: Mode = "auto", *, pace: Pace = "fast", redact: Redact = None) -> Tape:
    r"""Answer requests from a tape, and put on it what is not there yet: ``Restart & Run All`` without a key.

    It holds from this cell on for every client of the process, until ``.stop()`` or the end of its ``with`` block. A request
    is found by its method, path and body (not by server, key, ``user`` or ``metadata``); equal ones are answered in the order
    in which they were recorded. Clients must be made as they were then: which server it is decides how context is counted. The file is text, made to be read, diffed and committed: **no header and no key is in it,
    your prompts are**. Running the cell again begins the tape again. While it runs, a request waits for the summary that is
    being written, so that each run sends the same; answers that were cut off or failed in passing are not kept. Give clients
    ``store=":memory:"`` (or ``if_exists="reuse"``), else a second run says its turns after those of the first.

    Args:
        path: the file; commit it beside the notebook.
        mode: ``auto`` replays what is there and records what is not; ``replay`` never calls out: what is not there is a
            `TapeMissError` that shows the nearest; ``record`` asks everything anew and replaces the file at the end.
            The environment variable ``VOXNB_TAPE`` (one of these, or ``off``) goes before it.
        pace: ``fast``, or ``real``: pieces come as slowly as they came.
        redact: a function that takes and returns a text, or texts to hide, on top of keys and of what the environment
            calls a key, token, secret or password. Requests are compared after it.

    Returns:
        The tape: ``.replayed``, ``.recorded``, ``.unused``, ``.stop()``.

    Raises:
        ParameterError: an unknown mode or pace.
        TapeError: the file is no tape, or ``replay`` finds none.

    >>> import tempfile, voxnb
    >>> path = tempfile.mkdtemp() + "/talk.tape"
    >>> with voxnb.testing.server(["Flowers."]) as server, voxnb.tape(path):
    ...     with voxnb.chat("m", base_url=server.base_url, store=":memory:") as chat:
    ...         print(chat.ask("What is iris?").result())
    Flowers.
    >>> with voxnb.tape(path, mode="replay"), voxnb.chat("m", store=":memory:") as chat:  # no key, no server
    ...     print(chat.ask("What is iris?").result())
    Flowers.
    """
    found = _chosen_mode(mode)
    if pace not in PACES:
        raise ParameterError(
            f"pace is {pace!r}; expected one of {', '.join(PACES)}{did_you_mean(str(pace), PACES)}", name="pace"
        )
    file = config.expanded(path).absolute()
    if "\0" in str(file):
        raise ParameterError(f"the path {str(path)!r} has a NUL character, which no file's name can hold", name="path")
    with _lock:
        again = [other for other in _running if other.path == file]
    for other in again:
        other.stop()
    made = Tape(file, mode=found, pace=pace, redact=redact)
    with _lock:
        _running.append(made)
    return made


def _chosen_mode(mode: str) -> str:
    named = os.environ.get(VARIABLE, "").strip().lower()
    for name, value, known in ((VARIABLE, named, (*MODES, OFF)), ("mode", mode, MODES)):
        if value not in known and (value or name == "mode"):
            raise ParameterError(
                f"{name} is {value!r}; expected one of {', '.join(known)}{did_you_mean(str(value), known)}", name=name
            )
    return named or mode


def running() -> Tape | None:
    """The tape that requests go through now, the newest; None without one."""
    with _lock:
        return next((one for one in reversed(_running) if one.mode != OFF), None)


def tape_number() -> int:
    """A number that no other tape of this process has; 0 without one."""
    tape = running()
    return 0 if tape is None else tape.number


def settled_mark(lines: Iterable[str], *, otherwise: Callable[[], str]) -> str:
    """A mark that fences a text: drawn as usual, but while a tape runs the same on each run.

    Args:
        lines: what is fenced; read only then.
        otherwise: draws one.
    """
    if running() is None:
        return otherwise()
    return hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def refused(status_code: int) -> bool:
    """Whether a refusal belongs on a tape: the server's last word on the request, not on the moment or on the key."""
    return 400 <= status_code < 500 and status_code not in (401, 403, 408, 409, 425, 429)


__all__ = ["Asked", "Exchange", "Step", "Tape", "refused", "running", "settled_mark", "tape"]
