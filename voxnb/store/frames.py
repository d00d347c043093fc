"""Rows as DataFrames with fixed dtypes, and points in time as users write them.

A column has the same dtype whether it holds a million rows or none: texts are ``str``,
counts ``Int64``, measures ``Float64``, times ``datetime64[us, UTC]``; a categorical is for a closed set.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import ParameterError
from voxnb.messages import ROLES
from voxnb.runtime.marked import marked
from voxnb.runtime.packages import import_apart

if TYPE_CHECKING:
    import pandas as pd

TURN_STATES: Final = ("queued", "running", "complete", "partial", "failed")
SUMMARY_STATES: Final = ("live", "superseded", "trial", "stale")
PURPOSES: Final = ("turn", "fold", "trial", "judge")

Kind = str | tuple[str, ...]
"""A column's type: ``str``, ``Int64``, ``Float64``, ``bool``, ``time`` (UNIX seconds), or the values of a categorical."""

ROLE: Final[Kind] = ROLES

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def frame(columns: Mapping[str, Kind], rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """A DataFrame of rows as SQLite gives them.

    Args:
        columns: name → type, in order.
        rows: one sequence per row, in the order of the columns.

    >>> frame({"n": "Int64", "said": "str"}, [(1, "Hi"), (None, "Ho")])["n"].isna().tolist()
    [False, True]
    """
    import_apart("pandas")
    import pandas as pd

    values: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(columns)
    data = {name: _array(kind, column) for (name, kind), column in zip(columns.items(), values, strict=True)}
    return marked(pd.DataFrame(data, columns=pd.Index(list(columns), dtype="str")))


def _array(kind: Kind, values: Sequence[Any]) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(kind, tuple):
        # A value that a newer program wrote is shown, not swallowed.
        unknown = dict.fromkeys(v for v in values if v is not None and v not in kind)
        return pd.Categorical(list(values), categories=pd.Index([*kind, *unknown], dtype="str"))
    if kind == "time":
        return times(values)
    if kind == "bool":
        return np.array(values, dtype=bool)
    if kind == "str":
        return pd.array(list(values), dtype="str")
    missing = np.fromiter((v is None for v in values), dtype=bool, count=len(values))
    if kind == "Int64":
        counts = [0 if v is None else v for v in values] if missing.any() else values
        return pd.arrays.IntegerArray(np.array(counts, dtype=np.int64), missing)
    return pd.arrays.FloatingArray(np.array([0.0 if v is None else v for v in values], dtype=np.float64), missing)


def times(seconds: Sequence[float | None]) -> pd.DatetimeIndex:
    """UNIX seconds as UTC timestamps of whole microseconds; None becomes NaT."""
    import numpy as np
    import pandas as pd

    known = np.array(seconds, dtype=np.float64)
    missing = np.isnan(known)
    microseconds = np.where(missing, 0.0, known * 1e6).round().astype(np.int64).astype("datetime64[us]")
    microseconds[missing] = np.datetime64("NaT", "us")
    return pd.DatetimeIndex(microseconds).tz_localize("UTC")


def moment(value: Any, *, name: str) -> float:
    """A point in time as UNIX seconds.

    Args:
        value: a datetime, date (its midnight), ISO text or pandas Timestamp; without a zone it is UTC.
        name: of the parameter, for the error.

    Raises:
        ParameterError: it is none of these.

    >>> moment("1970-01-02", name="since")
    86400.0
    """
    found = value
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found.strip())
        except ValueError as error:
            raise _no_moment(value, name) from error
    if isinstance(found, date) and not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day, tzinfo=UTC)
    # pandas' NaT is a datetime that equals nothing.
    if not isinstance(found, datetime) or found != found:  # noqa: PLR0124 - see above
        raise _no_moment(value, name)
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return float((found - _EPOCH).total_seconds())


def _no_moment(value: Any, name: str) -> ParameterError:
    return ParameterError(
        f"{name} is {value!r}, expected a datetime, a date or ISO text like '2026-07-31T12:00'; without a zone it is UTC",
        name=name,
    )


def window(since: Any, until: Any, *, column: str) -> tuple[list[str], dict[str, float]]:
    """SQL conditions and their parameters for ``since <= column < until``.

    Raises:
        ParameterError: not points in time, or the wrong way round.
    """
    params = {
        name: moment(value, name=name) for name, value in (("since", since), ("until", until)) if value is not None
    }
    if len(params) == 2 and params["since"] > params["until"]:
        raise ParameterError(f"since ({since!r}) is after until ({until!r}); swap them", name="since")
    conditions = [f"{column} {sign} :{name}" for name, sign in (("since", ">="), ("until", "<")) if name in params]
    return conditions, params


def row_limit(value: Any) -> int:
    """A ``limit`` as SQLite takes it; None is no limit.

    Raises:
        ParameterError: not a whole number of 0 or more.
    """
    if value is None:
        return -1
    try:
        limit = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        limit = -1
    if not 0 <= limit < 1 << 63:
        raise ParameterError(f"limit is {value!r}, expected a whole number of rows, or None for all", name="limit")
    return limit
