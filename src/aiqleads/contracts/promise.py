"""One column of a frame as it is promised: its meaning, unit, grain and bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import pandera.pandas as pa


@dataclass(frozen=True)
class Promise:
    """What a frame promises of one column.

    dtype: pandas name. unit: of the stored number ("" for words). grain: what one value
    is about. low, high: both included. longest: of a word, in characters. The texts of its
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


def schema(
    promises: Iterable[Promise], checks: Iterable[pa.Check] = (), unique: str | None = None
) -> pa.DataFrameSchema:
    """A frame of exactly these columns in this order (`checks` look at whole rows)."""
    return pa.DataFrameSchema(
        {each.name: each.column() for each in promises},
        checks=list(checks),
        unique=[unique] if unique else None,
        strict=True,
        ordered=True,
    )


def failures(frame: pd.DataFrame, promised: pa.DataFrameSchema) -> pd.DataFrame:
    """What breaks the promise: columns index (null for the frame as a whole), column, rule.

    One row for each pair of index and rule; empty when all holds.
    """
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
