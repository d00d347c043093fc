"""A trace: everything that a client sends and receives, as JSON Lines with times, in files of bounded size.

Rule 1: a trace is for diagnosis and never in the way. What goes wrong while it is written is told once; then there is
no trace any more, and the conversation goes on.
Rule 2: keys are not in it, nor the credentials of remote tools. What was said is, word for word.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from voxnb.runtime import config
from voxnb.runtime.hiding import hide_in_text, without_credentials

MOST_FILE_BYTES: Final = 16 * 1024 * 1024
"""A file that has reached this size is put aside and a new one is begun."""

KEPT_FILES: Final = 3
"""Files that are kept aside; the oldest goes."""

MOST_LINE_BYTES: Final = 4 * 1024 * 1024
"""A longer message is cut in the trace, and says so."""

TRACES: Final = "voxnb-traces"
"""Where traces lie, at the project's root: of a hidden folder Jupyter's server shows nothing, so that no link led there."""

SHORT_CHARS: Final = 12
_CUT: Final = b'"cut_to_bytes":'


def traces_holding(folders: Iterable[Path], texts: Iterable[str], *, since: float) -> list[str]:
    """Paths of the traces that hold one of the texts, or may: a line of theirs was cut, or they cannot be read.

    Args:
        folders: where traces lie; one that is not there has none.
        texts: as they were said; one of less than `SHORT_CHARS` counts only where it is all that was said.
        since: UNIX seconds; a trace that ended before is not read.
    """
    needles = [_CUT, *dict.fromkeys(needle for text in texts if text for needle in _needles(text))]
    found = [path for folder in folders for path in sorted(folder.glob("*.jsonl*")) if _holds(path, needles, since)]
    return [str(path) for path in found]


def _needles(text: str) -> Iterator[bytes]:
    """A text as a trace has it: where it held a key, that is hidden there."""
    quoted = json.dumps(text, ensure_ascii=False)
    for held in (quoted, hide_in_text(quoted, ())):
        yield (held if len(text) < SHORT_CHARS else held[1:-1]).encode("utf-8", "replace")


def _holds(path: Path, needles: Iterable[bytes], since: float) -> bool:
    try:
        # A second less: file systems' clocks are coarse.
        if path.stat().st_mtime < since - 1:
            return False
        held = path.read_bytes()
    except FileNotFoundError:  # put aside or removed meanwhile
        return False
    except OSError:
        return True
    return any(needle in held for needle in needles)


class Trace:
    """The trace of one client; ``print(path)`` or, in a notebook, a link to it.

    Each line is an object: ``at`` (UTC), ``direction`` (``sent`` or ``received``), ``request`` (a number, counted per
    client), and what was said: ``method``, ``path`` and ``message``, or ``status``, or ``message``, or ``error``.

    Args:
        path: the newest file; ``….1`` is the one before it.
        hide: takes keys out of a text.
    """

    def __init__(self, path: Path, *, hide: Callable[[str], str]) -> None:
        self.path = path
        self._hide = hide
        self._file: IO[bytes] | None = None
        self._size_bytes = 0
        self._broken = False
        self._lock = threading.Lock()

    def sent(self, request: int, message: Any, *, method: str, path: str, attempt: int = 0) -> None:
        """Note what went out."""
        again = {"attempt": attempt} if attempt else {}
        self._write("sent", request, {**again, "method": method, "path": path, "message": message})

    def received(self, request: int, message: bytes | str | Mapping[str, Any], **facts: Any) -> None:
        """Note what came: one message of a stream, or a whole document."""
        found: Any = message
        if isinstance(message, bytes | str):
            try:
                found = json.loads(message)
            except (ValueError, RecursionError):
                found = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
        self._write("received", request, {**facts, "message": found})

    def answered(self, request: int, **facts: Any) -> None:
        """Note how an answer began, or what came in place of one."""
        self._write("received", request, facts)

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def _write(self, direction: str, request: int, facts: Mapping[str, Any]) -> None:
        if self._broken:
            return
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = {"at": at, "direction": direction, "request": request}
        if "message" in facts:
            facts = {**facts, "message": without_credentials(facts["message"])}
        try:
            text = json.dumps({**head, **facts}, ensure_ascii=False, separators=(",", ":"), default=str)
        except (ValueError, RecursionError) as error:
            text = json.dumps({**head, "error": f"cannot be written as JSON: {error}"})
        line = self._hide(text).encode("utf-8", "replace")
        if len(line) > MOST_LINE_BYTES:
            start = line[: MOST_LINE_BYTES // 2].decode("utf-8", "ignore")
            line = json.dumps(
                {**head, "cut_to_bytes": len(start.encode()), "of_bytes": len(line), "text": start}
            ).encode()
        with self._lock:
            try:
                self._append(line + b"\n")
            except OSError as error:
                self._broken = True
                config.report(f"the trace {str(self.path)!r} ends here ({error.strerror or error}); the client goes on")

    def _append(self, line: bytes) -> None:
        if self._file is not None and self._size_bytes + len(line) > MOST_FILE_BYTES:
            self._file.close()
            self._file = None
            for n in range(KEPT_FILES, 0, -1):
                older = self.path if n == 1 else self._aside(n - 1)
                with contextlib.suppress(FileNotFoundError):
                    older.replace(self._aside(n))
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab", buffering=0)
            self._size_bytes = os.fstat(descriptor).st_size
        self._file.write(line)
        self._size_bytes += len(line)

    def _aside(self, n: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{n}")

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<Trace {str(self.path)!r}>"

    def _repr_html_(self) -> str:
        # Relative to the working directory, which is where a notebook's links begin.
        link = os.path.relpath(self.path)
        return f'trace: <a href="{html.escape(link)}" target="_blank">{html.escape(link)}</a>'
