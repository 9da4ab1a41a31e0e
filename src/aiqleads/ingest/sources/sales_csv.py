"""Source `sales_csv`: any table of home sales, read as a market file says."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from aiqleads.contracts.sale_feed import PROMISES
from aiqleads.errors import ContractBroken
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import RAGGED, Payload
from aiqleads.ingest.sources.parsed import Parsed

_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
#: ours in the market file -> column of the contract
_NUMBERS = {
    "price": "price_cents",
    "lon": "lon",
    "lat": "lat",
    "beds": "beds",
    "baths": "baths",
    "half_baths": "half_baths",
    "living_area": "living_area_sqft",
    "lot_area": "lot_area_sqft",
    "garage_area": "garage_area_sqft",
    "rooms": "rooms",
    "year_built": "year_built",
}
# Dates written as whole numbers lose their leading zero: 000104 becomes 104.
_DIGITS = {"%y%m%d": 6, "%Y%m%d": 8, "%m%d%y": 6, "%m%d%Y": 8}

Problem = tuple[int, str, str, object]


def parse(payload: Payload, market: Market) -> Parsed:
    """Renames, converts to the contract's units, and notes what could not be read.

    ContractBroken where a column of the market file is missing, or where most values of
    one are of the wrong kind: then the payload is not this feed, and nothing is taken.
    """
    given = payload.rows.drop(columns=RAGGED, errors="ignore")
    _require_columns(payload, market, given)
    fields = f"{RAGGED}: as many as the header's {given.shape[1]}"
    problems: list[Problem] = [(number, RAGGED, fields, None) for number in payload.ragged]
    rows = pd.DataFrame(index=given.index)
    for ours, name in _NUMBERS.items():
        if ours in market.sales.columns:
            rows[name] = _numbers(payload, market, ours, problems)
    half = rows.pop("half_baths") if "half_baths" in rows else None
    if half is not None:
        rows["baths"] = _with_half_baths(rows.get("baths"), half)
    rows["sold"] = _dates(payload, market, problems)
    rows["key"] = _texts(given, market, "key", None)
    rows["property_type"] = _texts(given, market, "property_type", market.sales.property_type)
    return Parsed(
        rows=_contract_columns(rows),
        problems=pd.DataFrame(problems, columns=["index", "column", "rule", "value"]),
        columns={str(name): _kind(column) for name, column in given.items()},
    )


def _theirs(market: Market, ours: str) -> tuple[str, ...]:
    theirs = market.sales.columns[ours]
    return (theirs,) if isinstance(theirs, str) else theirs


def _require_columns(payload: Payload, market: Market, given: pd.DataFrame) -> None:
    have = [str(name) for name in given.columns]
    wanted = {name: ours for ours in market.sales.columns for name in _theirs(market, ours)}
    missing = [(ours, name) for name, ours in wanted.items() if name not in have]
    if not missing:
        return
    said = ", ".join(f"{name!r} (our {ours}){_guess(name, have)}" for ours, name in missing)
    raise ContractBroken(
        f"{payload.path}: market {market.name} needs the column {said}; nothing was stored",
        missing=[name for _, name in missing],
    )


def _guess(name: str, have: Sequence[str]) -> str:
    lower = {each.lower(): each for each in have}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f", perhaps {lower[near[0]]!r}" if near else ""


def _stripped(column: pd.Series) -> pd.Series:
    """The column with texts stripped and the ways to write nothing made missing."""
    if column.dtype != object:
        return column
    column = column.map(lambda x: x.decode("utf-8", "replace") if isinstance(x, bytes) else x)
    text = column.where(column.isna(), column.astype(str).str.strip())
    return text.mask(text.str.lower().isin(_NOTHING))


def _unread(
    payload: Payload, raw: pd.Series, read: pd.Series, about: str, what: str
) -> list[tuple[int, object]]:
    """(row number, value) of what stood there but could not be read.

    One wrong value is its row's fault; where most are wrong the column is not what the
    market file says, and ContractBroken is raised.
    """
    filled = raw.drop(list(payload.ragged)).dropna()
    bad = filled[read.reindex(filled.index).isna()]
    if len(bad) * 2 > len(filled):
        raise ContractBroken(
            f"{payload.path}: {len(bad):,} of {len(filled):,} values of {about} are no {what}, "
            f"e.g. {bad.iloc[0]!r}; nothing was stored"
        )
    return list(zip(bad.index.tolist(), bad.tolist(), strict=True))


def _numbers(payload: Payload, market: Market, ours: str, problems: list[Problem]) -> pd.Series:
    """One column as float64 in the contract's unit."""
    theirs = " ".join(_theirs(market, ours))
    raw = _stripped(payload.rows[theirs])
    is_date = pd.api.types.is_datetime64_any_dtype(raw)
    number = pd.Series(np.nan, raw.index) if is_date else pd.to_numeric(raw, errors="coerce")
    number = number.astype("float64").replace([np.inf, -np.inf], np.nan)
    name = _NUMBERS[ours]
    bad = _unread(payload, raw, number, f"{theirs!r} (our {ours})", "number")
    problems += [(row, name, f"{name}: a number", value) for row, value in bad]
    number = number.mask(number.isin(market.sales.missing.get(ours, ())))
    if ours == "price" or ours.endswith("_area"):
        number = number * market.sales.factor(ours)
    return number


def _with_half_baths(baths: pd.Series | None, half: pd.Series) -> pd.Series:
    """Baths plus half of the half baths; a home that has only half baths has those."""
    if baths is None:
        return half * 0.5
    total = baths.fillna(0) + half.fillna(0) * 0.5
    return total.where(baths.notna() | (half > 0))


def _as_text(column: pd.Series) -> pd.Series:
    """Whole numbers without a decimal point, everything else as it is written."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    column = _stripped(column.astype(object))
    return column.where(column.isna(), column.astype(str))


def _texts(given: pd.DataFrame, market: Market, ours: str, default: str | None) -> pd.Series:
    if ours not in market.sales.columns:
        return pd.Series(default, given.index, dtype=object)
    parts = [_as_text(given[name]) for name in _theirs(market, ours)]
    text = parts[0]
    for part in parts[1:]:
        text = text + " " + part
    return text if default is None else text.fillna(default)


def _dates(payload: Payload, market: Market, problems: list[Problem]) -> pd.Series:
    """Local day of each sale, without a zone; all missing where the feed has no dates."""
    given = payload.rows
    if "sold" not in market.sales.columns:
        return pd.Series(pd.NaT, given.index, dtype="datetime64[ns]")
    theirs = _theirs(market, "sold")
    if len(theirs) == 1 and pd.api.types.is_datetime64_any_dtype(given[theirs[0]]):
        return _local_days(given[theirs[0]], market.timezone)
    text = _texts(given, market, "sold", None)
    written = str(market.sales.date_format)
    if written in _DIGITS:
        text = text.str.zfill(_DIGITS[written])
    day = pd.to_datetime(text, format=written, errors="coerce")
    what = f"date like {written}"
    bad = _unread(payload, text, day, f"{' '.join(theirs)!r} (our sold)", what)
    problems += [(row, "sold", f"sold: a {what}", value) for row, value in bad]
    return day.astype("datetime64[ns]").dt.normalize()


def _local_days(moment: pd.Series, timezone: str) -> pd.Series:
    """Days of a column that holds times already; times with a zone become local first."""
    if moment.dt.tz is not None:
        moment = moment.dt.tz_convert(timezone).dt.tz_localize(None)
    day: pd.Series = moment.astype("datetime64[ns]").dt.normalize()
    return day


def _contract_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Exactly the contract's columns, in its order; one that the feed lacks is missing."""
    made = {}
    for promise in PROMISES:
        if promise.name in rows:
            made[promise.name] = rows[promise.name]
        else:
            made[promise.name] = pd.Series(np.nan, rows.index, dtype="float64")
    return pd.DataFrame(made, index=rows.index)


def _kind(column: pd.Series) -> str:
    """Kind of a column's values: number, date, text or empty."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    filled = _stripped(column).dropna()
    if filled.empty:
        return "empty"
    if pd.api.types.is_numeric_dtype(filled):
        return "number"
    return "number" if pd.to_numeric(filled, errors="coerce").notna().all() else "text"
