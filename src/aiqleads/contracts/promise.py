"""One column of a frame as it is promised: its meaning, unit, grain and bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Promise:
    """What a frame promises of one column.

    dtype: pandas name. unit: of the stored number ("" for words). grain: what one value
    is about. low, high: both included. longest: of a word, in characters. reso: its name in the
    RESO Data Dictionary 2.0, where that has one. The texts of its
    rules name the column, so that a rule is known by its text alone.
    """

    name: str
    dtype: str
    unit: str
    grain: str
    about: str
    required: bool = False
    low: float | None = None
    high: float | None = None
    among: tuple[str, ...] = ()
    longest: int | None = None
    reso: str = ""

    @property
    def bounds(self) -> str:
        """The range as words, e.g. 'from 0 to 50 rooms'."""
        ends = [("from", self.low), ("to", self.high)]
        said = " ".join(f"{word} {end:,.12g}" for word, end in ends if end is not None)
        return f"{said} {self.unit}".strip()

    def column(self) -> pa.Column:
        """The promise in pandera's terms; unit and grain go along as metadata."""
        checks = []
        if self.low is not None or self.high is not None:
            low = -float("inf") if self.low is None else self.low
            high = float("inf") if self.high is None else self.high
            checks.append(pa.Check.in_range(low, high, error=f"{self.name}: {self.bounds}"))
        if self.among:
            words = ", ".join(self.among)
            checks.append(pa.Check.isin(self.among, error=f"{self.name}: one of {words}"))
        if self.longest is not None:
            said = f"{self.name}: at most {self.longest} characters"
            checks.append(pa.Check.str_length(max_value=self.longest, error=said))
        return pa.Column(
            self.dtype,
            checks,
            nullable=not self.required,
            description=self.about,
            metadata={"unit": self.unit, "grain": self.grain},
        )


#: under which a schema carries what it was made of
_PROMISES = "promises"


def schema(
    promises: Iterable[Promise], checks: Iterable[pa.Check] = (), unique: str | None = None
) -> pa.DataFrameSchema:
    """A frame of exactly these columns in this order (`checks` look at whole rows)."""
    promises = tuple(promises)
    return pa.DataFrameSchema(
        {each.name: each.column() for each in promises},
        checks=list(checks),
        unique=[unique] if unique else None,
        strict=True,
        ordered=True,
        metadata={_PROMISES: tuple(promises)},
    )


def failures(frame: pd.DataFrame, promised: pa.DataFrameSchema) -> pd.DataFrame:
    """What breaks the promise: columns index (null for the frame as a whole), column, rule.

    One row for each pair of index and rule; empty when all holds. pandera only looks at
    the rows that a quicker look over the columns finds suspicious.
    """
    suspects = _suspects(frame, promised)
    if suspects is not None:
        if not suspects.any():
            return pd.DataFrame({"index": [], "column": [], "rule": []})
        frame = frame[suspects]
    try:
        promised.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as broken:
        cases = broken.failure_cases
    else:
        return pd.DataFrame({"index": [], "column": [], "rule": []})
    rule = cases["check"].astype(str)
    missing = rule == "not_nullable"
    rule = rule.mask(missing, cases["column"].astype(str) + ": present")
    # Checks of whole rows are reported once for each of the row's columns.
    whole = cases["schema_context"] == "DataFrameSchema"
    column = cases["column"].astype(str).mask(whole, rule.str.split(":").str[0])
    found = pd.DataFrame({"index": cases["index"], "column": column, "rule": rule})
    return found.drop_duplicates(["index", "rule"], ignore_index=True)


def _suspects(frame: pd.DataFrame, promised: pa.DataFrameSchema) -> NDArray[np.bool_] | None:
    """Rows that may break a rule, (n,); None where the frame as a whole may be another one.

    Every rule that a row alone can break is looked at; of a rule that relates rows
    (unique) only whether it holds.
    """
    promises: tuple[Promise, ...] = (promised.metadata or {}).get(_PROMISES, ())
    if not promises or list(frame.columns) != [each.name for each in promises]:
        return None
    if any(not frame[name].is_unique for name in promised.unique or ()):
        return None
    found = np.zeros(len(frame), dtype=bool)
    for each in promises:
        odd = _odd(frame[each.name], each)
        if odd is None:
            return None
        found |= odd
    for check in promised.checks:
        held = check._check_fn(frame)
        found |= ~np.asarray(held, dtype=bool)
    return found


def _odd(column: pd.Series[Any], promise: Promise) -> NDArray[np.bool_] | None:
    """Values that break their promise; None where the column is of another type."""
    if promise.dtype == "str":
        return _odd_texts(column, promise)
    if str(column.dtype) != promise.dtype:
        return None
    missing = column.isna().to_numpy()
    odd = missing if promise.required else np.zeros(len(column), dtype=bool)
    if promise.low is not None or promise.high is not None:
        low = -np.inf if promise.low is None else promise.low
        high = np.inf if promise.high is None else promise.high
        odd = odd | ~(column.between(low, high).to_numpy(dtype=bool, na_value=False) | missing)
    return odd


def _odd_texts(column: pd.Series[Any], promise: Promise) -> NDArray[np.bool_] | None:
    if column.dtype != object:
        return None
    values = column.tolist()
    types = set(map(type, values))
    if not types <= {str, type(None)}:
        missing = column.isna().to_numpy()
        if set(map(type, column[~missing].tolist())) - {str}:
            return None
    else:
        missing = np.zeros(len(values), dtype=bool)
        if type(None) in types:
            missing = np.fromiter((value is None for value in values), bool, len(values))
    odd = missing.copy() if promise.required else np.zeros(len(values), dtype=bool)
    known = column[~missing] if missing.any() else column
    if promise.among:
        odd[~missing] |= ~known.isin(promise.among).to_numpy()
    if promise.longest is not None:
        lengths = np.fromiter(map(len, known.tolist()), np.int64, len(known))
        odd[~missing] |= lengths > promise.longest
    return odd
