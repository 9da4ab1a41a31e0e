"""Whether features know the future: computed again from a log that has none.

For some moments the log is cut, file by file, to the rows that had arrived by then. What
the whole log says of a moment must be what the cut one says, bit by bit; a feature for
which it is not reads something that was not known, and is reported by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aiqleads.errors import NotReady
from aiqleads.features.build import build_frame
from aiqleads.features.catalog import FEATURE_NAMES
from aiqleads.settings import Settings

#: frames that are cut, and the column that says when a row was there; agents declare
#: themselves and stay whole
_ARRIVAL = {
    "leads": "received_market_us",
    "submissions": "received_market_us",
    "sales": "sold_market_us",
    "events/rankings": "arrived_market_us",
    "events/interactions": "arrived_market_us",
}
_KEYS = ["request_id", "agent_id", "lead_id"]


@dataclass(frozen=True)
class Recheck:
    """What was computed again. leaks: feature -> rows in which its bits differ."""

    moments: int = 0
    requests: int = 0
    rows: int = 0
    leaks: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Recheck) -> Recheck:
        """Both together; their moments must not be the same ones."""
        leaks = Counter(self.leaks) + Counter(other.leaks)
        return Recheck(
            self.moments + other.moments,
            self.requests + other.requests,
            self.rows + other.rows,
            dict(leaks),
        )


def logged_moments(
    settings: Settings, market: str, moments: int, requests: int, seed: int
) -> pd.DataFrame:
    """A spine of moments of the log: request_id, agent_id, lead_id, as_of_us.

    Rankings in the order of time are cut into runs of `requests`; `moments` runs are drawn
    by the seed. Each run is asked about at the time of its last ranking, with every lead
    that its rankings showed. Raises NotReady where the log has fewer runs.
    """
    events = settings.data / "core" / market / "events"
    columns = ["request_id", "agent_id", "at_market_us", "arrived_market_us"]
    asked = pd.read_parquet(events / "rankings.parquet", columns=columns)
    asked = asked.sort_values(["at_market_us", "request_id", "arrived_market_us"])
    asked = asked.drop_duplicates("request_id", ignore_index=True)
    runs = len(asked) // requests
    if runs < moments:
        raise NotReady(f"{market!r} has {runs} runs of {requests} rankings, fewer than {moments}")
    run = np.arange(len(asked)) // requests
    drawn = np.random.default_rng(seed).choice(runs, size=moments, replace=False)
    chosen = asked[np.isin(run, drawn)].assign(run=run[np.isin(run, drawn)])
    as_of = chosen.groupby("run")["at_market_us"].transform("max")
    shown = pd.read_parquet(events / "impressions.parquet", columns=["request_id", "lead_id"])
    spine = chosen.assign(as_of_us=as_of).merge(shown.drop_duplicates(), on="request_id")
    return spine[[*_KEYS, "as_of_us"]]


def cut_log(settings: Settings, market: str, as_of_us: int, home: Path) -> Settings:
    """Writes the frames as they stood before `as_of_us` into an empty home.

    What was not there is not in the files: leads by receipt, sales by date, events by their
    arrival, what a ranking showed by the arrival of the ranking.
    """
    core, target = settings.data / "core" / market, home / "data" / "core" / market
    (target / "events").mkdir(parents=True)
    for name, column in _ARRIVAL.items():
        path = core / f"{name}.parquet"
        if path.is_file():
            kept = pq.read_table(path, filters=[(column, "<", as_of_us)])
            pq.write_table(kept, target / f"{name}.parquet")
    pq.write_table(pq.read_table(core / "agents.parquet"), target / "agents.parquet")
    known = pq.read_table(target / "events/rankings.parquet", columns=["request_id"])
    shown = pd.read_parquet(core / "events/impressions.parquet")
    shown = shown[shown["request_id"].isin(known["request_id"].to_pylist())]
    shown.to_parquet(target / "events/impressions.parquet", index=False)
    return Settings(home=home)


def recheck(settings: Settings, market: str, spine: pd.DataFrame) -> Recheck:
    """Computes a spine from the whole log and from one cut at each of its moments.

    spine: as `logged_moments` gives it. From the whole log every row is asked about once
    more at the end of time, so that the future is there to be read by whoever reads it.
    """
    end_us = _end_us(settings, market)
    later = spine.assign(as_of_us=end_us)
    whole = build_frame(settings, market, pd.concat([spine, later], ignore_index=True))
    whole = whole.iloc[: len(spine)]
    leaks: Counter[str] = Counter()
    for as_of_us, rows in _by_moment(spine):
        with TemporaryDirectory(prefix="aiqleads-cut-") as scratch:
            cut = cut_log(settings, market, as_of_us, Path(scratch))
            again = build_frame(cut, market, spine.iloc[rows])
        leaks.update(_differing(whole.iloc[rows], again))
    return Recheck(
        spine["as_of_us"].nunique(), spine["request_id"].nunique(), len(spine), dict(leaks)
    )


def _end_us(settings: Settings, market: str) -> int:
    ends = [0]
    for name, column in _ARRIVAL.items():
        path = settings.data / "core" / market / f"{name}.parquet"
        if path.is_file():
            values = pd.read_parquet(path, columns=[column])[column].dropna()
            ends.append(int(values.max()) if len(values) else 0)
    return max(ends) + 1


def _by_moment(spine: pd.DataFrame) -> Iterator[tuple[int, NDArray[np.int64]]]:
    moments = spine["as_of_us"].to_numpy(np.int64)
    for as_of_us in np.unique(moments).tolist():
        yield as_of_us, np.flatnonzero(moments == as_of_us)


def _differing(left: pd.DataFrame, right: pd.DataFrame) -> dict[str, int]:
    """Features whose bits differ, and in how many rows; NaN is one value."""
    names = list(FEATURE_NAMES)
    unlike = (_bits(left[names]) != _bits(right[names])).sum(axis=0)
    return {name: int(rows) for name, rows in zip(names, unlike, strict=True) if rows}


def _bits(frame: pd.DataFrame) -> NDArray[np.uint32]:
    values = frame.to_numpy(dtype=np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32)
