"""Reads a chunk of a table by a section of the market file: our columns from theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from aiqleads.contracts.series_feed import PROMISES as SERIES
from aiqleads.errors import InvalidInput
from aiqleads.ingest import columns
from aiqleads.ingest.columns import Problem
from aiqleads.ingest.market import UNITS, ListingsFeed, Market, PeopleFeed, SalesFeed
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.people import read_state, read_zip
from aiqleads.ingest.terms import status, without_unit


class Mapped:
    """One chunk under one section: its values in the contract's units, and the problems.

    given: their columns, by row number. theirs: our name -> their column(s), known to be
    there. problems: grow with each column that is read; a row of another width than the
    header's is one from the start. A reader gives None for what the section says nothing of.
    """

    def __init__(
        self, chunk: Chunk, market: Market, section: SalesFeed | ListingsFeed | PeopleFeed
    ) -> None:
        self.market = market
        self.given = chunk.rows.drop(columns=RAGGED, errors="ignore")
        self._section, theirs = section, section.columns
        self.theirs = {ours: (x,) if isinstance(x, str) else tuple(x) for ours, x in theirs.items()}
        self.problems: list[Problem] = columns.ragged_problems(chunk.rows, chunk.ragged)
        self._name, self._first = chunk.payload.name, chunk.first_row == 1
        self._nothing: frozenset[str] = frozenset()
        self._constants: Mapping[str, str | float] = {}
        self._values: Mapping[str, Mapping[str, str]] = {}
        if not isinstance(section, SalesFeed):
            self._nothing = frozenset(word.lower() for word in section.nothing)
            self._constants, self._values = section.constants, section.values
        wanted = {name: ours for ours, names in self.theirs.items() for name in names}
        columns.require_columns(self._name, self.given.columns, wanted, f"market {market.name}")

    @property
    def index(self) -> pd.Index:
        """Row numbers of the chunk."""
        return self.given.index

    def number(self, ours: str, name: str) -> pd.Series | None:
        """float64: money in cents, areas in square feet, the rest as it stands."""
        times = self._section.factor(ours) if ours in UNITS else 1.0
        if ours in self._constants:
            return pd.Series(float(self._constants[ours]) * times, self.index)
        if ours not in self.theirs:
            return None
        value, problems = columns.number(self._one(ours), name)
        self._note(ours, "number", problems)
        missing = self._section.missing.get(ours, ())
        value = value.mask(value.isin(missing)) if missing else value
        return value if times == 1.0 else value * times

    def text(self, ours: str, *, whole: bool = False) -> pd.Series | None:
        """Their texts joined by a space; whole: missing where one of several is."""
        if ours in self._constants:
            return pd.Series(str(self._constants[ours]), self.index, dtype=object)
        if ours not in self.theirs:
            return None
        parts = [self.given[name] for name in self.theirs[ours]]
        made = joined_text(parts, self._nothing, whole=whole)
        words = self._values.get(ours)
        return made if words is None else each_text(made, lambda said: words.get(said, said))

    def word(self, ours: str, default: str) -> pd.Series | str:
        """As text, with a default where nothing is said."""
        made = self.text(ours)
        return default if made is None else made.fillna(default)

    def baths(self) -> pd.Series | None:
        """Baths plus half of the half baths; a home that has only half baths has those."""
        baths, half = self.number("baths", "baths"), self.number("half_baths", "half_baths")
        if half is None:
            return baths
        if baths is None:
            return half * 0.5
        total = baths.fillna(0) + half.fillna(0) * 0.5
        return total.where(baths.notna() | (half > 0))

    def day(self, ours: str, name: str, written: str) -> pd.Series | None:
        """Local days, datetime64[ns] without a zone."""
        if ours not in self.theirs:
            return None
        value, problems = columns.date(self._when(ours), name, written, self.market.timezone)
        self._note(ours, f"date like {written}", problems)
        return value

    def moment(self, ours: str, name: str, written: str) -> pd.Series | None:
        """Int64 microseconds UTC; times without a zone are the market's."""
        if ours not in self.theirs:
            return None
        value, problems = columns.moment(self._when(ours), name, self.market.timezone, written)
        self._note(ours, f"time like {written}", problems)
        return value

    def _one(self, ours: str) -> pd.Series:
        if len(self.theirs[ours]) > 1:
            raise InvalidInput(f"market {self.market.name}: {ours} is a number: map one column")
        column = self.given[self.theirs[ours][0]]
        if self._nothing and column.dtype == object:
            return columns.text(column, self._nothing)
        return column

    def _when(self, ours: str) -> pd.Series:
        """The column itself where it holds times, else its text."""
        column = self.given[self.theirs[ours][0]]
        if len(self.theirs[ours]) == 1 and pd.api.types.is_datetime64_any_dtype(column):
            return column
        said = self.text(ours, whole=True)
        return column if said is None else said

    def _note(self, ours: str, what: str, problems: list[Problem]) -> None:
        """Keeps problems; where most values of a payload's start are wrong, it is refused."""
        if self._first and problems:
            names = " ".join(self.theirs[ours])
            filled = columns.filled(self.given[self.theirs[ours][0]])
            columns.refuse_mostly_wrong(
                self._name, f"{names!r} (our {ours})", what, filled, problems
            )
        self.problems += problems


def joined_text(
    parts: Sequence[pd.Series], nothing: frozenset[str] = frozenset(), *, whole: bool = True
) -> pd.Series:
    """Texts of several columns with a space between; whole: None where one is missing."""
    said = [columns.text(part, nothing) for part in parts]
    if len(said) == 1:
        return said[0]
    joined = []
    for values in zip(*said, strict=True):
        filled = [value for value in values if value is not None]
        gap = not filled or (whole and len(filled) < len(values))
        joined.append(None if gap else " ".join(filled))
    return pd.Series(joined, parts[0].index, dtype=object)


def each_text(column: pd.Series, read: Callable[[str], str | None]) -> pd.Series:
    """A column of texts (None where nothing is) with `read` called once a distinct text."""
    codes, distinct = pd.factorize(column)
    values = np.array([*map(read, distinct), None], dtype=object)
    return pd.Series(values[codes], column.index, dtype=object)


def known_status(word: str) -> str:
    """RESO's StandardStatus; a word that nobody knows stays, and its row breaks the contract."""
    try:
        return status(word) or word
    except ValueError:
        return word


def states(column: pd.Series, name: str = "state") -> columns.Read:
    """Two letters of the US Postal Service from codes and names in any case."""
    return _checked(column, name, read_state, f"{name}: a US state")


def zips(column: pd.Series, name: str = "zip") -> columns.Read:
    """Five digits of `77006`, `77006-1234`, `z95838`, `43604.0`, `2134` (a zero was lost)."""
    return _checked(column, name, lambda said: read_zip(said)[0], f"{name}: a US ZIP")


def _checked(
    column: pd.Series, name: str, read: Callable[[str], str | None], rule: str
) -> columns.Read:
    made = each_text(column, read)
    bad = np.flatnonzero((made.isna() & column.notna()).to_numpy())
    return made, [(column.index[at], name, rule, column.iloc[at]) for at in bad.tolist()]


def street_and_unit(address: pd.Series) -> tuple[pd.Series, pd.Series]:
    """`1534 Nevada St Unit B` -> `1534 Nevada St` and `B`; None where there is no unit."""
    parts = [without_unit(said) for said in address]
    street = pd.Series([part[0] for part in parts], address.index, dtype=object)
    return street, pd.Series([part[1] for part in parts], address.index, dtype=object)


def long_rows(
    index: pd.Index,
    region_type: pd.Series | str,
    region: pd.Series,
    period: pd.Series,
    frequency: str,
    figures: Sequence[tuple[str, str, pd.Series]],
) -> pd.DataFrame:
    """A table with a column a metric as the contract of series: a row a filled figure.

    figures: (metric, unit, values by row number). Rows keep their number, in their order.
    """
    values = np.full((len(index), len(figures)), np.nan)
    for at, (_, _, figure) in enumerate(figures):
        values[:, at] = figure
    row, metric = np.nonzero(~np.isnan(values))
    names = np.array([each[0] for each in figures], dtype=object)
    units = np.array([each[1] for each in figures], dtype=object)
    kinds = np.full(len(index), region_type, dtype=object)
    if isinstance(region_type, pd.Series):
        kinds = region_type.to_numpy(dtype=object)
    made = {
        "region_type": kinds[row],
        "region": region.to_numpy(dtype=object)[row],
        "metric": names[metric],
        "period": period.to_numpy()[row],
        "frequency": frequency,
        "value": values[row, metric],
        "unit": units[metric],
    }
    return columns.contract_frame(SERIES, made, index[row])
