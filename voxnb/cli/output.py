"""What commands print: JSON for machines, or lines on a screen; and the store that a reading command opens."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import StoreError
from voxnb.runtime import config

if TYPE_CHECKING:
    import pandas as pd

    from voxnb.store.context_store import ContextStore
    from voxnb.terminal.screen import Screen

_NOT_BARE: Final = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)
"""What stands escaped in our JSON: it could act on a terminal, or has no encoding."""

JSON_COLUMNS: Final = frozenset({"metadata", "parts", "tool_calls"})
"""Columns whose text is JSON: given as what it says."""


# -- for machines -----------------------------------------------------------------------------


def print_json(value: Any) -> None:
    """One JSON document in one line, whatever the locale."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text = _NOT_BARE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    print(text)


def print_rows(frame: pd.DataFrame) -> None:
    """A table as JSON Lines: one object per row, with the names of its columns."""
    for row in records(frame):
        print_json(row)


def records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a table as JSON has them: NA is None, times are ISO 8601 in UTC."""
    names = list(frame.columns)
    for values in frame.itertuples(index=False, name=None):
        row = dict(zip(names, map(json_value, values), strict=True))
        yield {k: json.loads(v) if k in JSON_COLUMNS and isinstance(v, str) else v for k, v in row.items()}


def json_value(value: Any) -> Any:
    """One cell as JSON has it."""
    import pandas as pd

    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.tz_convert("UTC").tz_localize(None).isoformat(timespec="microseconds") + "Z"
    return value.item() if hasattr(value, "item") else value


# -- for people -------------------------------------------------------------------------------


def screen() -> Screen:
    """Standard output."""
    from voxnb.terminal.screen import Screen

    return Screen(sys.stdout)


def say_error(text: str) -> None:
    """A line on standard error; on a terminal nothing in it acts."""
    if sys.stderr is None:  # type: ignore[unreachable,unused-ignore]  # closed before the start
        return
    from voxnb.terminal.text import printable

    print(f"voxnb: {printable(text) if sys.stderr.isatty() else text}", file=sys.stderr, flush=True)


def cell(value: Any) -> str:
    """A cell of a table as a person reads it: numbers with commas, times in the local zone, NA as nothing."""
    import pandas as pd

    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime().astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{value:,}"


def table(frame: pd.DataFrame, shown: Mapping[str, str], *, flexible: tuple[str, ...] = ()) -> None:
    """Some columns of a table, under other heads; nothing where it is empty.

    Args:
        frame: the table.
        shown: column → head.
        flexible: heads of columns that may be cut.
    """
    if frame.empty:
        return
    right = tuple(head for name, head in shown.items() if str(frame[name].dtype) == "Int64")
    rows = [[cell(value) for value in row] for row in frame[list(shown)].itertuples(index=False, name=None)]
    screen().table(tuple(shown.values()), rows, right=right, flexible=flexible)


def lenient(stream: Any) -> None:
    """Let a stream write every text: what its encoding lacks is shown as an escape."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def give_up(stream: Any) -> None:
    """Nothing more can be written to a stream, not even what it holds back until the interpreter's end."""
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)


# -- stores -----------------------------------------------------------------------------------


def reading(options: Any) -> ContextStore:
    """The store of a reading command, opened without the right to write.

    Raises:
        StoreError: there is none; it says where it looked.
    """
    from voxnb.store.context_store import ContextStore, default_path

    file = config.expanded(options.store or default_path()).absolute()
    if not file.exists() or (file.is_file() and not file.stat().st_size):
        raise StoreError(
            f"there is no store at {str(file)!r} ({_named_by(options, os.environ)}); `voxnb chat` or `voxnb demo` makes "
            "one, --store PATH names another",
            path=str(file),
        )
    return ContextStore(file, read_only=True)


def _named_by(options: Any, environ: Mapping[str, str]) -> str:
    if options.store:
        return "named by --store"
    return "named by VOXNB_STORE" if environ.get("VOXNB_STORE") else "the default of this folder's project"


def writing(options: Any) -> ContextStore:
    """The store of a writing command; made if it is not there."""
    from voxnb.store.context_store import ContextStore

    return ContextStore(options.store or None)
