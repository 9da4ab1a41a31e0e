"""Rankers, baselines and oracles on one held-out window, and the gate to promotion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.errors import ContractBroken, InvalidInput, NotReady
from aiqleads.ranking.baselines import BASELINES
from aiqleads.ranking.dataset import Dataset, Truth
from aiqleads.ranking.evaluate import (
    RESAMPLES,
    Interval,
    mrr,
    ndcg_at,
    paired_bootstrap,
    revenue_at,
)
from aiqleads.ranking.scorer import Scorer

Floats = NDArray[np.float64]
PerRequest = dict[str, dict[str, Floats]]

TOP = 10
#: metric -> its unit
METRICS = {"ndcg10": "0 to 1", "mrr": "0 to 1", "revenue10": "USD a request"}
#: a slice counts for the gate from so many requests on
SLICE_REQUESTS = 200
#: intervals draw whole agents: drawn from one, all draws are alike and the interval is a point
FEWEST_AGENTS = 2
#: what no challenger may fall below in any slice
SLICE_PEER = "popular lately"


@dataclass(frozen=True)
class Row:
    """One ranker's line: metric -> interval, and baseline -> metric -> interval of the difference.

    kind: "model", "champion", "baseline" or "oracle".
    """

    name: str
    kind: str
    metrics: dict[str, Interval]
    over: dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Slice:
    """The challenger against `SLICE_PEER` among some of the requests, NDCG@10."""

    name: str
    value: str
    n: int
    challenger: float
    peer: float
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """What was measured, enough to judge and to show.

    challenger: name of its row. challenger_version, champion_version: of the scorers.
    requests: of the window; each interval has its own n, since a metric is not defined for
    every request. note: what a reader must know, empty when nothing. left_out_version: of a
    champion that could not be measured, else empty.
    """

    market: str
    window: str
    since_market_us: int
    until_market_us: int
    requests: int
    agents: int
    truth: str
    challenger: str
    challenger_version: str
    champion_version: str
    rows: list[Row]
    slices: list[Slice]
    resamples: int
    seed: int
    dataset_digest: str
    note: str = ""
    left_out_version: str = ""

    def row(self, name: str) -> Row:
        """The line of that name; InvalidInput when there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise InvalidInput(f"the comparison has no line {name!r}")

    @property
    def baselines(self) -> list[Row]:
        """The lines of the baselines."""
        return [row for row in self.rows if row.kind == "baseline"]

    def table(self) -> pd.DataFrame:
        """One line a ranker: each metric with its 95 % interval, best NDCG@10 first."""
        lines = [
            {"ranker": row.name, "kind": row.kind}
            | {
                f"{metric} ({unit})": _shown(row.metrics[metric])
                for metric, unit in METRICS.items()
            }
            for row in sorted(self.rows, key=lambda row: -row.metrics["ndcg10"].mean)
        ]
        return pd.DataFrame(lines).set_index("ranker")

    def differences(self, metric: str = "ndcg10") -> pd.DataFrame:
        """One line a ranker, one column a baseline: differences with 95 % intervals."""
        lines = {
            row.name: {name: _shown(over[metric], sign=True) for name, over in row.over.items()}
            for row in self.rows
            if row.over
        }
        return pd.DataFrame.from_dict(lines, orient="index").rename_axis("ranker")

    def slice_table(self) -> pd.DataFrame:
        """One line a slice: requests, both NDCG@10, the difference with its 95 % interval."""
        lines = [
            {
                "slice": f"{each.name} = {each.value}",
                "requests": each.n,
                self.challenger: round(each.challenger, 4),
                SLICE_PEER: round(each.peer, 4),
                "difference": _shown(each.difference, sign=True),
                "counts for the gate": each.n >= SLICE_REQUESTS,
            }
            for each in self.slices
        ]
        return pd.DataFrame(lines)

    def save(self, path: Path) -> Path:
        """Writes the comparison as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Reads what `save` wrote; NotReady without the file, ContractBroken for another."""
        if not path.is_file():
            raise NotReady(f"{path} does not exist yet: aiqleads compare")
        try:
            return _comparison(json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise ContractBroken(f"{path} is not a comparison: {error}") from error


@dataclass(frozen=True)
class Verdict:
    """What the gate says; `reason` names the number that decided."""

    outcome: Literal["promoted", "refused", "unchanged"]
    reason: str
    challenger: str
    reference: str
    difference: Interval

    @property
    def promoted(self) -> bool:
        """Whether the challenger becomes the champion."""
        return self.outcome == "promoted"


def compare(
    dataset: Dataset,
    truth: Truth,
    models: Mapping[str, Scorer],
    challenger: str,
    champion: Scorer | None = None,
    *,
    market: str = "",
    slices: Mapping[str, NDArray[np.object_]] | None = None,
    seed: int = 7,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Measures models, the champion, the baselines and the oracles on one window.

    models: name -> scorer, `challenger` being one of them. slices: name -> value of each
    request (G,). Intervals are percentile bootstraps over requests, whole agents drawn at a
    time, with the same draws for all lines. A champion that reads a feature which the frame
    no longer has is left out and `note` says so. Slices of a single agent are left out. Raises
    InvalidInput for an unknown challenger, for a model that learned from requests of the window,
    as after a change of the split, and for a window of one agent or without a value of a metric.
    """
    if challenger not in models:
        raise InvalidInput(f"no model {challenger!r}; there are {', '.join(models)}")
    since_us = int(dataset.at_market_us.min())
    if seen := [n for n, each in models.items() if each.card.trained_until_market_us > since_us]:
        raise InvalidInput(f"{', '.join(seen)} learned from requests of this window: train again")
    note = left_out = ""
    if champion is not None and (gone := sorted(set(champion.features) - set(dataset.features))):
        note = f"the champion reads {', '.join(gone)}, which the feature frame no longer has"
        left_out, champion = champion.version, None
    scores = {
        name: scorer.score(dataset.columns(scorer.features)) for name, scorer in models.items()
    }
    kinds = dict.fromkeys(scores, "model")
    if champion is not None:
        scores["champion"] = champion.score(dataset.columns(champion.features))
    scores |= {name: baseline(dataset) for name, baseline in BASELINES.items()}
    scores |= truth.oracles
    kinds |= {"champion": "champion"} | dict.fromkeys(BASELINES, "baseline")
    measured = measure(scores, dataset, truth, seed)
    _check_measured(measured[challenger], dataset)

    def interval(a: Floats, b: Floats | float = 0.0) -> Interval:
        return paired_bootstrap(a, b, dataset.agent_id, resamples=resamples, seed=seed)

    peers = [*BASELINES, *(["champion"] if champion is not None else [])]
    rows = [
        Row(
            name=name,
            kind=kinds.get(name, "oracle"),
            metrics={metric: interval(values) for metric, values in mine.items()},
            over={
                peer: {m: interval(mine[m], measured[peer][m]) for m in METRICS}
                for peer in peers
                if kinds.get(name) in {"model", "champion"} and peer != name
            },
        )
        for name, mine in measured.items()
    ]
    return Comparison(
        market=market,
        window=dataset.name,
        since_market_us=since_us,
        until_market_us=int(dataset.at_market_us.max()) + 1,
        requests=len(dataset.sizes),
        agents=len(set(dataset.agent_id)),
        truth=truth.source,
        challenger=challenger,
        challenger_version=models[challenger].version,
        champion_version=champion.version if champion is not None else "",
        rows=rows,
        slices=_slices(
            measured[challenger], measured[SLICE_PEER], dataset, slices or {}, seed, resamples
        ),
        resamples=resamples,
        seed=seed,
        dataset_digest=dataset.digest,
        note=note,
        left_out_version=left_out,
    )


def measure(
    scores: Mapping[str, Floats], dataset: Dataset, truth: Truth, seed: int = 7
) -> PerRequest:
    """Name -> metric -> value of each request (G,), NaN where a metric is not defined.

    Ties are broken by one draw for each row, the same for all names.
    """
    tie = np.random.default_rng(seed).random(len(dataset))
    sizes = dataset.sizes
    return {
        name: {
            "ndcg10": ndcg_at(TOP, truth.relevance, score, sizes, tie),
            "mrr": mrr(truth.hit, score, sizes, tie),
            "revenue10": revenue_at(TOP, truth.revenue_usd, score, sizes, tie),
        }
        for name, score in scores.items()
    }


def judge(comparison: Comparison) -> Verdict:
    """The gate: who may become champion.

    The challenger must beat the champion, or, for the first champion, the best baseline:
    the lower end of the 95 % interval of the difference in NDCG@10 lies above 0. And in no
    slice of at least `SLICE_REQUESTS` requests may it lie significantly below `SLICE_PEER`.
    """
    challenger = comparison.row(comparison.challenger)
    first = not comparison.champion_version
    best = max(comparison.baselines, key=lambda row: row.metrics["ndcg10"].mean)
    reference = best.name if first else "champion"
    difference = challenger.over[reference]["ndcg10"]

    def verdict(outcome: Literal["promoted", "refused", "unchanged"], reason: str) -> Verdict:
        return Verdict(outcome, reason, challenger.name, reference, difference)

    if comparison.challenger_version == comparison.champion_version:
        return verdict("unchanged", f"{comparison.challenger_version} is the champion already")
    against = f"{'the best baseline, ' + best.name if first else 'the champion'}"
    figures = f"NDCG@10 {_shown(difference, sign=True)} against {against}"
    if difference.low <= 0:
        return verdict("refused", f"{figures}: the lower end {difference.low:+.4f} is not above 0")
    for each in comparison.slices:
        if each.n >= SLICE_REQUESTS and each.difference.high < 0:
            return verdict(
                "refused",
                f"in the slice {each.name} = {each.value} ({each.n} requests) NDCG@10 lies "
                f"{_shown(each.difference, sign=True)} below {SLICE_PEER}: the upper end "
                f"{each.difference.high:+.4f} is below 0",
            )
    return verdict("promoted", f"{figures}: the lower end {difference.low:+.4f} is above 0")


def _check_measured(challenger: Mapping[str, Floats], dataset: Dataset) -> None:
    """Refuses a window that no interval can be drawn from, and says why."""
    for metric, values in challenger.items():
        told = ~np.isnan(values)
        if not told.any():
            raise InvalidInput(
                f"{metric} is not defined for any request of the window: "
                f"nothing in it {'would be bought' if metric == 'mrr' else 'is worth anything'}"
            )
        if len(set(dataset.agent_id[told])) < FEWEST_AGENTS:
            raise InvalidInput(
                f"all requests of the window with a value of {metric} are of one agent: "
                f"intervals draw whole agents and need at least {FEWEST_AGENTS}"
            )


def _slices(
    challenger: dict[str, Floats],
    peer: dict[str, Floats],
    dataset: Dataset,
    slices: Mapping[str, NDArray[np.object_]],
    seed: int,
    resamples: int,
) -> list[Slice]:
    found = []
    for name, values in slices.items():
        for value in sorted(set(values.tolist())):
            kept = values == value
            a, b = challenger["ndcg10"][kept], peer["ndcg10"][kept]
            if len(set(dataset.agent_id[kept][~np.isnan(a)])) < FEWEST_AGENTS:
                continue
            difference = paired_bootstrap(
                a, b, dataset.agent_id[kept], resamples=resamples, seed=seed
            )
            found.append(
                Slice(
                    name=name,
                    value=str(value),
                    n=difference.n,
                    challenger=float(np.nanmean(a)),
                    peer=float(np.nanmean(b)),
                    difference=difference,
                )
            )
    return found


def _shown(interval: Interval, *, sign: bool = False) -> str:
    form = "+.4f" if sign else ".4f"
    return f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _comparison(content: dict[str, Any]) -> Comparison:
    rows = [
        Row(
            name=row["name"],
            kind=row["kind"],
            metrics={m: Interval(**i) for m, i in row["metrics"].items()},
            over={
                peer: {m: Interval(**i) for m, i in metrics.items()}
                for peer, metrics in row["over"].items()
            },
        )
        for row in content["rows"]
    ]
    slices = [
        Slice(**{**each, "difference": Interval(**each["difference"])})
        for each in content["slices"]
    ]
    return Comparison(**{**content, "rows": rows, "slices": slices})
