"""Where rows come from: CSV, Parquet, DataFrames, iterables of dicts; read in pieces, with the place of each."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from voxnb.errors import StoreError, StoreFormatError
from voxnb.runtime.packages import import_apart
from voxnb.store.columns import MESSAGES
from voxnb.store.importing.chats import as_draft, list_of
from voxnb.store.importing.draft import Draft, Reading, shaped
from voxnb.store.importing.lines import NOT_UTF8, opened, whole_lines
from voxnb.store.importing.rows import COLUMNS, Waiting, find_columns, refuse_twins

BATCH_ROWS: Final = 2_000
UNTAKEN: Final = "columns that a message has no place for"
MADE_ANEW: Final = "columns of our own table that are made anew (ids, counts, hashes)"
Names = Mapping[str, str] | None


def csv_drafts(path: Path, reading: Reading, *, columns: Names, roles: Names) -> Iterator[Draft]:
    """Drafts of a comma-, semicolon- or tab-separated file with a line of column names.

    Raises:
        ParameterError: see `rows.find_columns`.
        StoreFormatError: it has no line of column names.
    """
    waiting = Waiting(reading, roles)
    with opened(path) as file:
        for place, row in _csv_rows(file, reading, columns):
            waiting.add(place, row)
    yield from waiting.drafts()


def _csv_rows(file: IO[bytes], reading: Reading, columns: Names) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # One limit for the process; a longer field would end the reading with an error that names neither.
    csv.field_size_limit(max(csv.field_size_limit(), reading.max_item_bytes))
    source = _Lines(file, reading)
    first = next((line for line in source if line.strip()), None)
    said = re.fullmatch(r'sep=([^\w\s"]|\t)\s*', first or "", re.IGNORECASE)  # how spreadsheets are told
    if said:
        first = next((line for line in source if line.strip()), None)
    if first is None:
        return
    delimiter = said[1] if said else max(",;\t", key=first.count)
    try:
        names = next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error as error:
        raise StoreFormatError(
            f"{reading.source!r} has no line of column names: {error}", path=reading.source
        ) from error
    taken = find_columns(names, columns)
    _untaken(names, taken, reading)
    found = {ours: names.index(theirs) for ours, theirs in taken.items()}
    reader = csv.reader(source, delimiter=delimiter)
    while True:
        place = f"line {source.number + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            reading.skipped.add("rows that are not CSV", f"{place}: {error}"[:200])
            continue
        if row is None:
            return
        if not row:
            continue
        if source.ended:  # it was read for the end of a quoted field, and there is none
            what = "a quoted field that never ends: the file is cut off, or a quotation mark is missing"
            reading.remarks.add(what, f"from {place} to the end")
        if len(row) != len(names):
            reading.skipped.add("rows with another number of fields", f"{place}: {len(row)}, expected {len(names)}")
            continue
        yield place, {ours: _field(row[at], ours, place, reading) for ours, at in found.items()}


class _Lines:
    """The text of a file's lines, with their number; bytes that are not UTF-8 marked for `_field`."""

    def __init__(self, file: IO[bytes], reading: Reading) -> None:
        self._lines = whole_lines(file, reading)
        self.number = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            self.number, line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        return line.decode("utf-8", "surrogateescape")


def _field(text: str, ours: str, place: str, reading: Reading) -> str | None:
    if not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
        reading.remarks.add(NOT_UTF8, place)
        text = text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    # An empty field is a text only where texts stand.
    return text if text or ours == "content" else None


def parquet_drafts(path: Path, reading: Reading, *, columns: Names, roles: Names) -> Iterator[Draft]:
    """Drafts of a Parquet file: a row per message, or a row per conversation with its list of messages.

    Raises:
        ParameterError: see `rows.find_columns`.
        StoreError: pyarrow is missing.
        StoreFormatError: it is damaged.
    """
    try:
        import_apart("pyarrow", "pyarrow.parquet")
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise StoreError(
            "reading Parquet needs pyarrow; install it with pip install 'voxnb[parquet]'", path=str(path)
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=BATCH_ROWS) for row in batch.to_pylist())
            yield from dict_drafts(
                rows, reading, columns=columns, roles=roles, noun="row", have=file.schema_arrow.names
            )
    except pa.ArrowException as error:
        raise StoreFormatError(f"{str(path)!r} is no Parquet file that can be read: {error}", path=str(path)) from error
    except OSError as error:
        raise StoreFormatError(f"cannot read {str(path)!r}: {error}", path=str(path)) from error


def frame_drafts(frame: Any, reading: Reading, *, columns: Names, roles: Names) -> Iterator[Draft]:
    """Drafts of a DataFrame: a row per message, or a row per conversation with its list of messages.

    Raises:
        ParameterError: see `rows.find_columns`.
    """
    have = list(frame.columns)
    rows = (dict(zip(have, values, strict=True)) for values in frame.itertuples(index=False, name=None))
    yield from dict_drafts(rows, reading, columns=columns, roles=roles, noun="row", have=have)


def dict_drafts(
    items: Iterable[Any],
    reading: Reading,
    *,
    columns: Names,
    roles: Names,
    noun: str,
    have: Iterable[Any] | None = None,
) -> Iterator[Draft]:
    """Drafts of dicts: rows of messages, and whole conversations (anything with a list of messages).

    Args:
        items: in order.
        reading: of the import.
        columns: our names → the items'.
        roles: their names of roles → the API's.
        noun: what an item is, for places.
        have: the columns, where every item has the same.
    """
    waiting = Waiting(reading, roles)
    names = None if have is None else list(have)
    lists = [name for name in ("messages", "conversations") if name in (names or ())]
    refuse_twins(names or (), lists)
    found = None if names is None or lists else find_columns(names, columns)
    if names is not None and found is not None:
        _untaken(names, found, reading)
    known: dict[tuple[Any, ...], dict[str, str]] = {}
    told: set[str] = set()
    for number, item in enumerate(items, 1):
        reading.done, place = number, f"{noun} {number}"
        value = _lists(item)
        if isinstance(value, list) or (isinstance(value, Mapping) and list_of(value)):
            draft = None
            with shaped(reading, place):
                draft = as_draft(value, place, reading, roles=roles)
            if draft is not None:
                yield draft
        elif not isinstance(value, Mapping):
            reading.skipped.add("neither a dict nor a list of dicts", f"{place}: {type(item).__name__}")
        else:
            taken = found or _columns_of(tuple(value), known, columns, reading, told)
            waiting.add(place, {ours: value.get(theirs) for ours, theirs in taken.items()})
    yield from waiting.drafts()


def _columns_of(
    keys: tuple[Any, ...],
    known: dict[tuple[Any, ...], dict[str, str]],
    columns: Names,
    reading: Reading,
    told: set[Any],
) -> dict[str, str]:
    """The columns of a dict: each may lack what it does not need (a call of tools has no content)."""
    if keys not in known:
        given = {ours: theirs for ours, theirs in (columns or {}).items() if ours not in COLUMNS or theirs in keys}
        # Only the first has to have all that was said: a misspelt column is in none.
        known[keys] = find_columns(keys, given if known else columns, needed=())
        told.update(_untaken([name for name in keys if name not in told], known[keys], reading))
    return known[keys]


def _untaken(names: Iterable[Any], taken: Mapping[str, Any], reading: Reading) -> list[Any]:
    """Note the columns that are none of a message's, and give them back."""
    theirs = set(taken.values())
    have = list(names)
    left = [name for name in have if name not in theirs]
    made_anew = MESSAGES.columns if set(have).issuperset(MESSAGES.columns) else ()
    for name in left:
        if name in made_anew:
            reading.remarks.add(MADE_ANEW, name)
        else:
            reading.skipped.add(UNTAKEN, str(name)[:60] or "one without a name")
    return left


def _lists(item: Any) -> Any:
    """An item whose lists are lists: pandas and Parquet bring arrays."""
    if not isinstance(item, Mapping):
        return item
    return {
        name: value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value
        for name, value in item.items()
    }
