"""Parts of the requests and of the leads, and the gate that leaves none of them behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

from aiqleads.ingest.market import Market
from aiqleads.ranking.compare import (
    FEWEST_AGENTS,
    SLICE_PEER,
    SLICE_REQUESTS,
    TOP,
    Comparison,
    Slice,
    Verdict,
    judge,
)
from aiqleads.ranking.dataset import Dataset, Truth, tiers
from aiqleads.ranking.evaluate import RESAMPLES, Interval, ndcg_at, paired_bootstrap
from aiqleads.settings import Settings

Floats = NDArray[np.float64]
Names = NDArray[np.object_]

#: share of false alarms among the slices that are called worse
FALSE_DISCOVERY_RATE = 0.05
#: regions with fewer leads than this in the window are one slice together
REGION_LEADS = 200
ELSEWHERE = "other areas"


@dataclass(frozen=True)
class Judged:
    """A slice with its p-values. q_value: after Benjamini-Hochberg; NaN where too small."""

    slice: Slice
    p_value: float
    q_value: float

    @property
    def counts(self) -> bool:
        """Whether it is large enough for the gate."""
        return self.slice.n >= SLICE_REQUESTS

    @property
    def worse(self) -> bool:
        """Whether the challenger is significantly below the peer in it."""
        return self.slice.difference.mean < 0 and self.q_value <= FALSE_DISCOVERY_RATE


def p_value(interval: Interval) -> float:
    """Two-sided p-value of "no difference" from a 95 % interval (Altman and Bland 2011, BMJ).

    The half of the interval that lies towards 0 gives the standard error, so that p < 0.05
    just where the interval leaves 0 out, however lopsided it is.
    """
    towards = interval.high - interval.mean if interval.mean < 0 else interval.mean - interval.low
    if interval.mean == 0:
        return 1.0
    if towards <= 0:
        return 0.0
    z = abs(interval.mean) / (towards / NormalDist().inv_cdf(0.975))
    return float(2 * stats.norm.sf(z))


def judge_slices(slices: Sequence[Slice]) -> list[Judged]:
    """Slices with p-values, corrected over those that count (Benjamini and Hochberg 1995)."""
    raw = np.array([p_value(each.difference) for each in slices])
    counts = np.array([each.n >= SLICE_REQUESTS for each in slices], dtype=bool)
    adjusted = np.full(len(slices), np.nan)
    if counts.any():
        adjusted[counts] = stats.false_discovery_control(raw[counts])
    return [
        Judged(each, float(p), float(q)) for each, p, q in zip(slices, raw, adjusted, strict=True)
    ]


def gate(comparison: Comparison) -> Verdict:
    """Who may become champion: better over all, and significantly worse in no slice.

    Over all as `compare.judge` says. A slice of at least `SLICE_REQUESTS` requests refuses
    when the challenger lies below `SLICE_PEER` in it with a p-value that stays at or under
    `FALSE_DISCOVERY_RATE` after the correction for having looked at so many slices.
    """
    verdict = judge(replace(comparison, slices=[]))
    worse = [each for each in judge_slices(comparison.slices) if each.worse]
    if not verdict.promoted or not worse:
        return verdict
    first = min(worse, key=lambda each: each.q_value)
    found, difference = first.slice, first.slice.difference
    reason = (
        f"in the slice {found.name} = {found.value} ({found.n} requests) NDCG@10 "
        f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] against "
        f"{SLICE_PEER}: p = {_p(first.q_value)} after Benjamini-Hochberg over "
        f"{sum(each.n >= SLICE_REQUESTS for each in comparison.slices)} slices"
    )
    return replace(verdict, outcome="refused", reason=reason)


def slice_table(comparison: Comparison) -> pd.DataFrame:
    """One line a slice, worst difference first, with p-values before and after correction."""
    lines = [
        {
            "slice": f"{each.slice.name} = {each.slice.value}",
            "requests": each.slice.n,
            comparison.challenger: round(each.slice.challenger, 4),
            SLICE_PEER: round(each.slice.peer, 4),
            "difference": round(each.slice.difference.mean, 4),
            "from": round(each.slice.difference.low, 4),
            "to": round(each.slice.difference.high, 4),
            "p": _p(each.p_value),
            "p adjusted": _p(each.q_value) if each.counts else "too few to count",
            "worse": each.worse,
        }
        for each in sorted(
            judge_slices(comparison.slices), key=lambda each: each.slice.difference.mean
        )
    ]
    return pd.DataFrame(lines)


def of_requests(settings: Settings, market: Market, dataset: Dataset) -> dict[str, Names]:
    """Slices of the requests, name -> value of each request (G,).

    tier of the agent; agent "cold" who did nothing in 90 days and "known" else; device and
    surface where the log of rankings tells them.
    """
    first = np.cumsum(dataset.sizes) - dataset.sizes
    done = dataset.column("agent_engagement_90d")[first]
    return {
        "tier": tiers(settings, market, dataset),
        "agent": np.where(np.nan_to_num(done) > 0, "known", "cold").astype(object),
        **_shelves(dataset),
    }


def of_leads(settings: Settings, market: Market, dataset: Dataset) -> dict[str, Names]:
    """Slices of the leads, name -> value of each row (n,).

    lead "cold" that nobody has opened yet; intent; region (`areas`).
    """
    sells, opened = dataset.column("is_seller"), dataset.column("lead_viewers")
    return {
        "lead": np.where(np.nan_to_num(opened) > 0, "known", "cold").astype(object),
        "intent": np.where(sells > 0, "sellers", "buyers").astype(object),
        "region": areas(settings, market, dataset),
    }


def areas(
    settings: Settings, market: Market, dataset: Dataset, at_least: int = REGION_LEADS
) -> Names:
    """Region of each row's lead (n,); regions of fewer than `at_least` leads are `ELSEWHERE`.

    Regions are those of the market's file, or H3 res-6 cells of about 36 km2, so none is a
    place at which a lead could be found.
    """
    path = settings.data / "core" / market.name / "leads.parquet"
    if not path.is_file():
        return np.full(len(dataset), ELSEWHERE, dtype=object)
    known = pq.read_table(path, columns=["lead_id", "region"]).to_pandas()
    region = pd.Series(dataset.lead_id).map(known.set_index("lead_id")["region"])
    leads = pd.Series(dataset.lead_id).groupby(region.to_numpy()).nunique()
    kept = region.isin(leads[leads >= at_least].index)
    return region.where(kept, ELSEWHERE).to_numpy(dtype=object)


def among_leads(
    slices: Mapping[str, Names],
    challenger: Floats,
    peer: Floats,
    dataset: Dataset,
    truth: Truth,
    *,
    seed: int = 7,
    resamples: int = RESAMPLES,
) -> list[Slice]:
    """The challenger against the peer among some of each request's leads, NDCG@10.

    slices: name -> value of each row (n,). challenger, peer: scores (n,). What is measured is
    how the leads of one value are ordered among themselves; a request with fewer than two of
    them has no order and is left out. Intervals draw whole agents; what only one agent was
    shown is left out.
    """
    tie = np.random.default_rng(seed).random(len(dataset))
    found = []
    for name, values in slices.items():
        for value in sorted(set(values.tolist())):
            mine = values == value
            count = np.add.reduceat(mine, np.cumsum(dataset.sizes) - dataset.sizes, dtype=np.int64)
            rows, asked = mine & (count > 1)[dataset.group], count > 1
            if not truth.relevance[rows].any():
                continue
            a, b = (
                ndcg_at(TOP, truth.relevance[rows], score[rows], count[asked], tie[rows])
                for score in (challenger, peer)
            )
            agents = dataset.agent_id[asked]
            if len(set(agents[~np.isnan(a)])) < FEWEST_AGENTS:
                continue
            difference = paired_bootstrap(a, b, agents, resamples=resamples, seed=seed)
            means = float(np.nanmean(a)), float(np.nanmean(b))
            found.append(Slice(name, str(value), difference.n, *means, difference))
    return found


def _shelves(dataset: Dataset) -> dict[str, Names]:
    """Device and surface out of "device/surface", those that any request tells."""
    parts = pd.Series(dataset.shelf, dtype=str).str.partition("/")
    told = {
        name: parts[column].to_numpy(object) for column, name in ((0, "device"), (2, "surface"))
    }
    return {
        name: np.where(values == "", "unknown", values).astype(object)
        for name, values in told.items()
        if (values != "").any()
    }


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
