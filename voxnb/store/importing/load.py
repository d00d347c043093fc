"""`import_conversations`: what a source is, and who reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voxnb.errors import ParameterError
from voxnb.messages import ROLES
from voxnb.params import did_you_mean, nearest
from voxnb.runtime import config
from voxnb.runtime.progress import Progress, following
from voxnb.store.database import Database
from voxnb.store.importing import chats, tabular
from voxnb.store.importing.chatgpt import chatgpt_drafts
from voxnb.store.importing.draft import MAX_ITEM_BYTES, Reading
from voxnb.store.importing.lines import opened
from voxnb.store.importing.llm_logs import llm_drafts
from voxnb.store.importing.own import own_batches
from voxnb.store.importing.packed import plain_path
from voxnb.store.importing.pipeline import Writable, batches, run
from voxnb.store.importing.qmsum import qmsum_drafts
from voxnb.store.importing.sniff import WHOLE_FILES, check_unpacked, format_of
from voxnb.store.place import check_name
from voxnb.store.report import ImportReport

Roles = Mapping[str, str] | None
Columns = Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What the user said of a source.

    Attributes:
        columns: our names → the source's.
        roles: the source's names of roles → the API's.
        copy: give new ids.
    """

    columns: Columns = None
    roles: Roles = None
    copy: bool = False


def load(
    db: Database,
    source: Any,
    /,
    *,
    format: str | None = None,  # noqa: A002 - the word users know from pandas
    columns: Columns = None,
    roles: Roles = None,
    copy: bool = False,
    max_item_bytes: int = MAX_ITEM_BYTES,
    progress: Progress = None,
) -> ImportReport:
    """Import a source; see `ContextStore.import_conversations`."""
    if not isinstance(columns, Mapping | None):
        raise ParameterError(f"columns is {columns!r}, expected a mapping like {{'content': 'text'}}", name="columns")
    how = How(columns=columns, roles=_checked_roles(roles), copy=copy)
    named = _format(format)
    if isinstance(max_item_bytes, bool) or not isinstance(max_item_bytes, int) or max_item_bytes < 1:
        raise ParameterError(f"max_item_bytes is {max_item_bytes!r}, expected a number of bytes", name="max_item_bytes")
    if isinstance(source, str | os.PathLike):
        path = config.expanded(source)
        check_name(str(path))
        name = named or format_of(path, max_item_bytes=max_item_bytes)
        if name in WHOLE_FILES:
            check_unpacked(path, name)
        inner = plain_path(path)
        reading = Reading(name, str(path), inner.stem, max_item_bytes=max_item_bytes)
        _check_use(name, how)
        found, title = READERS[name](path, reading, how), path.name
        # How much a packed file holds is known at its end.
        total, unit = path.stat().st_size if inner == path else 0, "B"
    else:
        reading, found = _values(source, named, how)
        title, total, unit = reading.source, len(source) if hasattr(source, "__len__") else 0, "row"
    with following(progress, title=title, total=total, unit=unit, after_s=1.0) as step:
        return run(db, found, reading, step)


def _checked_roles(roles: Any) -> Roles:
    """The user's names of roles.

    Raises:
        ParameterError: no mapping, or to a role that is none; the nearest is named.
    """
    if roles is None:
        return None
    if not isinstance(roles, Mapping):
        raise ParameterError(f"roles is {roles!r}, expected a mapping like {{'agent': 'assistant'}}", name="roles")
    for theirs, ours in roles.items():
        if ours not in ROLES:
            raise ParameterError(
                f"roles says that {theirs!r} is {ours!r}, which is no role{did_you_mean(str(ours), ROLES)}; there are "
                f"{', '.join(ROLES)}",
                name="roles",
                nearest=nearest(str(ours), ROLES),
            )
    return roles


def _check_use(name: str, how: How) -> None:
    """Refuse what would be ignored.

    Raises:
        ParameterError: columns for a file without columns, or roles where the format has its own.
    """
    if how.columns and name not in WITH_COLUMNS:
        raise ParameterError(f"columns= is for rows; a file of format {name!r} has none", name="columns")
    if how.roles and name not in WITH_ROLES:
        raise ParameterError(f"roles= has no use here: format {name!r} has roles of its own", name="roles")
    if how.copy and name == "jsonl":
        raise ParameterError("copy= has no use here: voxnb's own lines keep their ids", name="copy")


def _format(given: str | None) -> str | None:
    if given is None:
        return None
    name = str(given).lower().removeprefix(".")
    if name not in READERS:
        raise ParameterError(
            f"format={given!r} is none that can be read{did_you_mean(name, READERS)}; known are {', '.join(READERS)}",
            name="format",
            nearest=nearest(name, READERS),
        )
    return name


def _values(source: Any, named: str | None, how: How) -> tuple[Reading, Iterator[Writable]]:
    """What is not in a file: a DataFrame, one conversation, or an iterable of rows or conversations."""
    if hasattr(source, "itertuples") and hasattr(source, "columns"):
        reading = Reading("rows", "a DataFrame", "frame")
        drafts = tabular.frame_drafts(source, reading, columns=how.columns, roles=how.roles)
    elif isinstance(source, bytes | bytearray) or not isinstance(source, Iterable) or hasattr(source, "database"):
        hint = "; merge() unites stores" if hasattr(source, "database") else ""
        raise ParameterError(
            f"source is {type(source).__name__}, expected a path, a DataFrame or an iterable of dicts{hint}",
            name="source",
        )
    else:
        reading = Reading(named or "openai", "an iterable", "imported")
        items = [source] if isinstance(source, Mapping) else source
        drafts = tabular.dict_drafts(items, reading, columns=how.columns, roles=how.roles, noun="item")
    return reading, batches(drafts, reading, copy=how.copy)


# -- readers of files -------------------------------------------------------------------------


def _own(path: Path, reading: Reading, _: How) -> Iterator[Writable]:
    with opened(path) as file:
        yield from own_batches(file, reading)


def _chats(path: Path, reading: Reading, how: How) -> Iterator[Writable]:
    return batches(chats.drafts(path, reading, roles=how.roles), reading, copy=how.copy)


def _csv(path: Path, reading: Reading, how: How) -> Iterator[Writable]:
    return batches(tabular.csv_drafts(path, reading, columns=how.columns, roles=how.roles), reading, copy=how.copy)


def _parquet(path: Path, reading: Reading, how: How) -> Iterator[Writable]:
    return batches(tabular.parquet_drafts(path, reading, columns=how.columns, roles=how.roles), reading, copy=how.copy)


def _chatgpt(path: Path, reading: Reading, how: How) -> Iterator[Writable]:
    return batches(chatgpt_drafts(path, reading), reading, copy=how.copy)


def _llm(path: Path, reading: Reading, how: How) -> Iterator[Writable]:
    return batches(llm_drafts(path, reading), reading, copy=how.copy)


def _qmsum(path: Path, reading: Reading, how: How) -> Iterator[Writable]:
    return batches(qmsum_drafts(path, reading), reading, copy=how.copy)


WITH_COLUMNS: Final = frozenset({"csv", "parquet"})
WITH_ROLES: Final = frozenset({"csv", "parquet", "openai", "langchain"})
READERS: Final[dict[str, Callable[[Path, Reading, How], Iterator[Writable]]]] = {
    "jsonl": _own,
    "openai": _chats,
    "chatgpt": _chatgpt,
    "langchain": _chats,
    "llm": _llm,
    "csv": _csv,
    "parquet": _parquet,
    "qmsum": _qmsum,
}
"""Format → what reads a file of it."""
