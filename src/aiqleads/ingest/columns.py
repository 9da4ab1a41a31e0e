"""Columns of a table: values as a source writes them -> values as a contract wants them.

Each reader takes one column and the contract's name for it and gives (series, problems):
what stood there and could not be read is missing in the series and a problem of its row.
Readers look at each distinct text once, so a column costs well under a microsecond a row.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.contracts.promise import Promise
from aiqleads.errors import ContractBroken
from aiqleads.ingest.payload import RAGGED

#: (row number, column of the contract, rule, what stood there)
Problem = tuple[int, str, str, object]
Read = tuple[pd.Series, list[Problem]]

#: ways to write nothing, in lower case
NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
_LONGEST_NOTHING = max(map(len, NOTHING))
# Dates written as whole numbers lose their leading zero: 000104 becomes 104.
_DIGITS = {"%y%m%d": 6, "%Y%m%d": 8, "%m%d%y": 6, "%m%d%Y": 8}
_ZONED = re.compile(r"(?:[zZ]|[+-]\d\d:?\d\d)$")
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_MONEY = re.compile(
    r"(?P<sign>-?)(?:US)?\s?\$?\s?(?P<figure>[0-9][0-9,]*\.?[0-9]*|\.[0-9]+)\s?(?P<times>[KMB]?)"
    r"(?:\s?USD)?(?:\s?/\s?mo(?:nth)?\.?)?",
    re.IGNORECASE,
)
_THOUSANDS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}


# -- whole rows -------------------------------------------------------------------------


def contract_frame(
    promises: Sequence[Promise], columns: Mapping[str, object], index: pd.Index
) -> pd.DataFrame:
    """Exactly the contract's columns, in its order and dtypes, on `index`.

    columns: a series, an array, a list or one value for all rows, by the contract's names;
    one that is not given is missing throughout (False for a bool). KeyError for a name
    that the contract does not know.
    """
    names = {promise.name for promise in promises}
    if unknown := sorted(set(columns) - names):
        raise KeyError(f"not in the contract: {', '.join(unknown)}")
    made = {each.name: _promised(each.dtype, columns.get(each.name), index) for each in promises}
    return pd.DataFrame(made, index=index)


_MISSING: dict[str, object] = {"float64": np.nan, "datetime64[ns]": pd.NaT, "Int64": pd.NA}


def _promised(dtype: str, value: object, index: pd.Index) -> pd.Series:
    wanted = "object" if dtype == "str" else dtype
    if value is None:
        value = False if dtype == "bool" else _MISSING.get(dtype)
    if value is None:  # pandas would make NaN of it
        value = np.full(len(index), None, dtype=object)
    if isinstance(value, pd.Series):
        series = value if value.index.equals(index) else value.reindex(index)
    elif isinstance(value, str) or np.isscalar(value) or value is pd.NA:
        return pd.Series(value, index, dtype=wanted)
    else:
        series = pd.Series(value, index)
    if series.dtype == wanted:
        return series
    series = series.astype(cast("Any", wanted))
    return series.where(series.notna(), None) if dtype == "str" else series


def problem_frame(problems: Iterable[Problem]) -> pd.DataFrame:
    """Problems as `Parsed` wants them: columns index, column, rule, value."""
    return pd.DataFrame(list(problems), columns=["index", "column", "rule", "value"])


def ragged_problems(rows: pd.DataFrame, ragged: Iterable[int]) -> list[Problem]:
    """One problem for each row with more or fewer fields than the header."""
    width = rows.shape[1] - (RAGGED in rows.columns)
    rule = f"{RAGGED}: as many as the header's {width}"
    return [(number, RAGGED, rule, None) for number in ragged]


def require_columns(name: str, have: Iterable[object], wanted: Mapping[str, str], who: str) -> None:
    """ContractBroken where a column is missing, with a guess at what it is called now.

    name: of the payload. wanted: theirs -> ours. who: needs them ("market x").
    """
    names = [str(each) for each in have]
    missing = [theirs for theirs in wanted if theirs not in names]
    if missing:
        said = ", ".join(f"{each!r} (our {wanted[each]}){_guess(each, names)}" for each in missing)
        raise ContractBroken(
            f"{name}: {who} needs the column {said}; nothing was stored", missing=missing
        )


def _guess(name: str, have: Sequence[str]) -> str:
    lower = {each.lower(): each for each in have}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f", perhaps {lower[near[0]]!r}" if near else ""


def refuse_mostly_wrong(
    payload: str, about: str, what: str, filled: int, problems: Sequence[Problem]
) -> None:
    """ContractBroken where more than half of a column's values could not be read.

    One wrong value is its row's fault; where most are wrong the column is another one.
    filled: how many values it has. about: the column, in words. what: ought to be there.
    """
    if len(problems) * 2 > filled:
        raise ContractBroken(
            f"{payload}: {len(problems):,} of {filled:,} values of {about} are no {what}, "
            f"e.g. {problems[0][3]!r}; nothing was stored"
        )


# -- one column -------------------------------------------------------------------------


def text(column: pd.Series, extra: frozenset[str] = frozenset()) -> pd.Series:
    """Texts without spaces around them, None where nothing is said; never a problem.

    extra: further ways to write nothing, in lower case. Whole numbers come without a
    decimal point, bytes are read as UTF-8.
    """
    nothing = NOTHING | extra
    most = max(map(len, nothing))
    values = [
        (said if len(said := value.strip()) > most or said.lower() not in nothing else None)
        if value.__class__ is str
        else _plain(value, nothing, most)
        for value in column.tolist()
    ]
    return pd.Series(values, column.index, dtype=object)


def _plain(
    value: object, nothing: frozenset[str] = NOTHING, most: int = _LONGEST_NOTHING
) -> str | None:
    if value.__class__ is not str:
        if value is None or value is pd.NA or value is pd.NaT or value != value:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        said = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    else:
        said = value
    said = said.strip()
    return None if len(said) <= most and said.lower() in nothing else said


def filled(column: pd.Series) -> int:
    """How many values of a column say something."""
    if column.dtype != object:
        return int(column.notna().sum())
    return sum(_plain(value) is not None for value in column.tolist())


def number(column: pd.Series, name: str) -> Read:
    """float64: plain decimal notation; infinities are no numbers."""
    return _numbers(column, name, "number", _finite)


def grouped_number(column: pd.Series, name: str) -> Read:
    """float64: as `number`, and `302,265`."""
    return _numbers(column, name, "number", _grouped)


def money(column: pd.Series, name: str) -> Read:
    """float64 in cents of amounts in dollars: `1250.5`, `$302,265`, `$160K`, `$1,950/mo`."""
    dollars, problems = _numbers(column, name, "sum of money", _dollars)
    return dollars * 100.0, problems


def percent(column: pd.Series, name: str) -> Read:
    """float64 shares of texts like `-1.6%`; numbers without the sign are taken as shares."""
    return _numbers(column, name, "percentage", _share)


def _numbers(column: pd.Series, name: str, what: str, slow: Callable[[str], float | None]) -> Read:
    """Reads plain numbers at once, and each distinct other text by `slow`."""
    values, open_ = _plain_numbers(column)
    if not open_.any():
        return pd.Series(values, column.index), []
    problems: list[Problem] = []
    known: dict[str, float | None] = {}
    at = np.flatnonzero(open_)
    rows = column.index
    for position, value in zip(at.tolist(), column.iloc[at].tolist(), strict=True):
        said = _plain(value)
        if said is None:
            continue
        if said not in known:
            known[said] = slow(said)
        read = known[said]
        if read is None:
            problems.append((rows[position], name, f"{name}: a {what}", said))
        else:
            values[position] = read
    return pd.Series(values, column.index), problems


def _plain_numbers(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values of a column, and where something else than a plain number stands."""
    nothing = np.full(len(column), np.nan)
    if pd.api.types.is_datetime64_any_dtype(column):
        return nothing, column.notna().to_numpy()
    if column.dtype != object:
        values = np.array(pd.to_numeric(column, errors="coerce").astype("float64"))
        infinite = np.isinf(values)
        values[infinite] = np.nan
        return values, infinite
    written = column.tolist()
    try:
        # Nearly every column: texts alone, each a number or empty.
        together = "".join(written)
        if "_" in together or not together.isascii():  # Python reads 1_000 and other digits
            raise ValueError
        values = np.array([float(value) if value else np.nan for value in written])
    except (TypeError, ValueError):
        values, open_ = nothing, column.notna().to_numpy()
        for at, value in enumerate(written):
            if value.__class__ is float:
                values[at], open_[at] = value, False
        infinite = np.isinf(values)
        values[infinite] = np.nan
        return values, open_ | infinite
    infinite = np.isinf(values)
    values[infinite] = np.nan
    return values, infinite


def _finite(said: str) -> float | None:
    """A number in plain decimal notation; Python's own `1_000` and other digits are none."""
    if not _PLAIN.fullmatch(said):
        return None
    value = float(said)
    return value if np.isfinite(value) else None


def _grouped(said: str) -> float | None:
    if _GROUPED.fullmatch(said):
        return float(said.replace(",", ""))
    return _finite(said)


def _dollars(said: str) -> float | None:
    found = _MONEY.fullmatch(said)
    if found is None:
        return _finite(said)
    figure = _grouped(found["figure"])
    if figure is None:
        return None
    amount = figure * _THOUSANDS[found["times"].upper()]
    return -amount if found["sign"] else amount


def _share(said: str) -> float | None:
    if not said.endswith("%"):
        return _finite(said)
    value = _grouped(said[:-1].strip())
    return None if value is None else value / 100


def date(column: pd.Series, name: str, written: str = "%Y-%m-%d", timezone: str = "UTC") -> Read:
    """datetime64[ns] at midnight, without a zone; written: as in strptime, or `ISO8601`.

    A column that holds times already keeps their day; times with a zone become local to
    `timezone` first.
    """
    times, problems = _times(column, name, written, timezone, "date")
    if times.dt.tz is not None:
        times = times.dt.tz_convert(timezone).dt.tz_localize(None)
    return times.astype("datetime64[ns]").dt.normalize(), problems


def moment(column: pd.Series, name: str, timezone: str, written: str = "ISO8601") -> Read:
    """Int64 microseconds UTC; times without a zone are those of `timezone`.

    A time that the clocks skip moves forward, one they repeat is the first of the two.
    """
    times, problems = _times(column, name, written, timezone, "time")
    if times.dt.tz is None:
        times = _local(pd.DatetimeIndex(times), timezone).to_series(times.index)
    plain = times.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]")
    us = pd.Series(plain.to_numpy().view("int64"), column.index).astype("Int64")
    return us.mask(plain.isna()), problems


def _times(column: pd.Series, name: str, written: str, timezone: str, what: str) -> Read:
    """Times in `timezone`, each distinct text read once; typed times as they are."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column, []
    said = text(column)
    if written in _DIGITS:
        said = said.str.zfill(_DIGITS[written])
    codes, distinct = pd.factorize(said)
    times = _read_times(np.asarray(distinct, dtype=object), written, timezone)[codes]
    made = pd.Series(times, column.index).mask(codes < 0)
    problems: list[Problem] = []
    rule = f"{name}: a {what}" + ("" if written == "ISO8601" else f" like {written}")
    for at in np.flatnonzero((made.isna() & said.notna()).to_numpy()).tolist():
        value = column.iloc[at]
        if isinstance(value, dt.date):  # a workbook's cell among texts
            made.iloc[at] = _local(pd.DatetimeIndex([value]), timezone)[0]
        else:
            problems.append((column.index[at], name, rule, said.iloc[at]))
    return made, problems


def _read_times(said: NDArray[np.object_], written: str, timezone: str) -> pd.DatetimeIndex:
    """Texts as times in `timezone`; those that say their own zone are taken by it."""
    if written == "ISO8601":
        zoned = np.array([_ZONED.search(each) is not None for each in said], dtype=bool)
    else:
        zoned = np.full(len(said), "%z" in written)
    made = pd.DatetimeIndex([pd.NaT] * (len(said) + 1)).tz_localize(timezone).to_series()
    for rows, utc in ((zoned, True), (~zoned, False)):
        if rows.any():
            read = pd.to_datetime(said[rows], format=written, errors="coerce", utc=utc)
            local = read.tz_convert(timezone) if utc else _local(read, timezone)
            made.iloc[np.flatnonzero(rows)] = local
    return pd.DatetimeIndex(made)


def _local(times: pd.DatetimeIndex, timezone: str) -> pd.DatetimeIndex:
    first = np.ones(len(times), dtype=bool)
    return times.tz_localize(timezone, ambiguous=first, nonexistent="shift_forward")


# -- kinds of columns -------------------------------------------------------------------


def kind(column: pd.Series) -> str:
    """What most of a column's values are: number, date or text; else empty.

    Texts are judged by 200 of them, spread evenly: one odd value is not another column.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    if column.dtype != object:
        if not column.notna().any():
            return "empty"
        return "number" if pd.api.types.is_numeric_dtype(column) else "text"
    values = column.tolist()
    said = [word for value in values[:: len(values) // 200 or 1] if (word := _plain(value))]
    if not said:
        said = [word for value in values if (word := _plain(value))][:200]
    numbers = sum(_finite(word) is not None for word in said)
    return ("number" if numbers * 2 > len(said) else "text") if said else "empty"


def kinds(rows: pd.DataFrame) -> dict[str, str]:
    """Kind of each column of a table, RAGGED left out."""
    return {str(name): kind(column) for name, column in rows.items() if name != RAGGED}
