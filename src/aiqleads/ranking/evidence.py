"""What a comparison's figures rest on: reliability by decile, the worst misses, who is seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.features.catalog import FEATURES
from aiqleads.ranking.dataset import Dataset, Truth
from aiqleads.ranking.evaluate import ndcg_at, ranks
from aiqleads.ranking.exposure import TOP, Exposure, exposures, with_floor
from aiqleads.ranking.scorer import Scorer

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]

_MISSES = 6
_FACTS = 4
#: labels as words for what an agent did at most
_DID = {1: "opened", 2: "held", 3: "bought"}


@dataclass(frozen=True)
class Decile:
    """Rows that the ranker put into one tenth of their request, 1 on top.

    view, hold, purchase: shares of rows that came at least so far, as observed. relevance:
    mean true worth, None where only labels are known.
    """

    decile: int
    rows: int
    view: float
    hold: float
    purchase: float
    relevance: float | None


@dataclass(frozen=True)
class Fact:
    """One feature of two leads in words, one that spoke for the lead that stood on top."""

    words: str
    on_top: str
    taken: str


@dataclass(frozen=True)
class Miss:
    """A request in which the ranker put what the agent took far down.

    did: opened, held or bought. position, of: where the lead taken stood. lost: observed
    NDCG@10 that the request fell short of 1. worth_on_top, worth_taken: true relevance of
    the lead on top and of the one taken, None where it is not known.
    """

    request_id: str
    at_market_us: int
    did: str
    position: int
    of: int
    lost: float
    worth_on_top: float | None
    worth_taken: float | None
    facts: list[Fact]


@dataclass(frozen=True)
class Found:
    """Requests with a purchase, and the share whose first one stood in the first 1, 3, 10."""

    requests: int
    first: float
    first_three: float
    first_ten: float


@dataclass(frozen=True)
class Floor:
    """What keeping every area at the floor would change: NDCG@10 before and after, and who
    is still below (empty where the floor can be met)."""

    before: float
    after: float
    still_below: list[str]


@dataclass(frozen=True)
class Evidence:
    """All of it, for one challenger on one window.

    importance: `importance_shift` against the newest earlier ranker, `against` saying which.
    correlations: how features go with the market's context, empty where none is offered.
    """

    calibration: list[Decile]
    found: Found | None
    misses: list[Miss]
    exposure: list[Exposure]
    floor: Floor | None
    importance: pd.DataFrame
    against: str
    correlations: pd.DataFrame = field(default_factory=pd.DataFrame)


def gather(
    scorer: Scorer,
    dataset: Dataset,
    truth: Truth,
    area: NDArray[np.object_],
    importance: pd.DataFrame,
    against: str,
    *,
    currency: str = "",
    seed: int = 7,
) -> Evidence:
    """Looks at one ranker's order of a window from all sides.

    area: of each row (n,). Ties are broken as in `compare.measure` with the same seed.
    """
    tie = np.random.default_rng(seed).random(len(dataset))
    score = scorer.score(dataset.columns(scorer.features))
    position = ranks(score, dataset.sizes, tie)
    shares = exposures(area, truth.relevance, position, dataset.sizes)
    return Evidence(
        calibration=calibration(position, dataset, truth),
        found=bought_within(position, dataset),
        misses=worst_misses(scorer, score, position, dataset, truth, tie, currency),
        exposure=shares,
        floor=_floor(score, area, dataset, truth, tie, shares),
        importance=importance,
        against=against,
    )


def calibration(position: Ranks, dataset: Dataset, truth: Truth) -> list[Decile]:
    """Observed rates, and true relevance, by tenth of the ranker's order within a request."""
    size = np.repeat(dataset.sizes, dataset.sizes)
    tenth = np.ceil(10 * (position - 0.5) / size).astype(int)
    found = []
    for decile in range(1, 11):
        mine = tenth == decile
        if not mine.any():
            continue
        label = dataset.label[mine]
        known = truth.source == "oracle"
        found.append(
            Decile(
                decile=decile,
                rows=int(mine.sum()),
                view=float((label >= 1).mean()),
                hold=float((label >= 2).mean()),
                purchase=float((label >= 3).mean()),
                relevance=float(truth.relevance[mine].mean()) if known else None,
            )
        )
    return found


def bought_within(position: Ranks, dataset: Dataset) -> Found | None:
    """Where the best placed purchase of each request stands; None without any purchase."""
    bought = dataset.label == 3
    far = np.iinfo(np.int64).max
    starts = np.cumsum(dataset.sizes) - dataset.sizes
    first = np.minimum.reduceat(np.where(bought, position, far), starts)
    first = first[first < far]
    if not len(first):
        return None
    return Found(len(first), *(float((first <= k).mean()) for k in (1, 3, 10)))


def worst_misses(
    scorer: Scorer,
    score: Floats,
    position: Ranks,
    dataset: Dataset,
    truth: Truth,
    tie: Floats,
    currency: str = "",
    most: int = _MISSES,
) -> list[Miss]:
    """Requests in which what the agent took stood furthest down, one an agent.

    Taken is what the agent did most with: bought before held before opened; of several the
    one that stood highest. For each it is told what stood on top instead, and by which
    features the ranker preferred it: those whose contributions to the two scores differ most.
    """
    ndcg = ndcg_at(TOP, dataset.gain, score, dataset.sizes, tie)
    starts = np.cumsum(dataset.sizes) - dataset.sizes
    furthest = np.maximum.reduceat(dataset.label, starts).astype(np.int64)
    best = dataset.label == furthest[dataset.group]
    place = np.minimum.reduceat(np.where(best, position, np.iinfo(np.int64).max), starts)
    known = truth.source == "oracle"
    found: list[Miss] = []
    agents: set[str] = set()
    for request in np.lexsort((-place, -furthest)).tolist():
        if len(found) == most or not furthest[request]:
            break
        if place[request] == 1 or (agent := str(dataset.agent_id[request])) in agents:
            continue
        agents.add(agent)
        rows = np.arange(starts[request], starts[request] + dataset.sizes[request])
        top, taken = (int(rows[position[rows] == wanted][0]) for wanted in (1, int(place[request])))
        found.append(
            Miss(
                request_id=str(dataset.request_id[request]),
                at_market_us=int(dataset.at_market_us[request]),
                did=_DID[int(furthest[request])],
                position=int(place[request]),
                of=len(rows),
                lost=float(1 - ndcg[request]),
                worth_on_top=float(truth.relevance[top]) if known else None,
                worth_taken=float(truth.relevance[taken]) if known else None,
                facts=_facts(scorer, dataset, top, taken, currency),
            )
        )
    return found


def told(name: str, value: float, currency: str = "") -> str:
    """A feature's value in plain words, its logarithm or square undone."""
    if math.isnan(value):
        return "not known"
    if name == "is_seller":
        return "seller" if value else "buyer"
    unit = _UNITS.get(name, "")
    return _WORDS[unit](value, currency) if unit in _WORDS else f"{value:,.3g} {unit}".strip()


def _facts(scorer: Scorer, dataset: Dataset, top: int, taken: int, currency: str) -> list[Fact]:
    """The features that spoke most for the lead on top, those that have words for it."""
    pair = dataset.columns(scorer.features)[[top, taken]]
    contributions = scorer.contributions(pair)
    ahead = contributions[0] - contributions[1]
    facts: list[Fact] = []
    for column in np.argsort(-ahead, kind="stable").tolist():
        name = scorer.features[column]
        if len(facts) == _FACTS or ahead[column] <= 0:
            break
        if words := _REASONS.get(name):
            on_top, taken_value = (told(name, float(value), currency) for value in pair[:, column])
            facts.append(Fact(words, on_top, taken_value))
    return facts


def _floor(
    score: Floats,
    area: NDArray[np.object_],
    dataset: Dataset,
    truth: Truth,
    tie: Floats,
    shares: Sequence[Exposure],
) -> Floor | None:
    """What the floor would cost; None where every area is above it already."""
    if not any(each.below() for each in shares):
        return None
    position = with_floor(score, truth.relevance, area, dataset.sizes, tie=tie)
    after = exposures(area, truth.relevance, position, dataset.sizes)
    plain, floored = (
        float(np.nanmean(ndcg_at(TOP, truth.relevance, by, dataset.sizes, tie)))
        for by in (score, -position)
    )
    return Floor(plain, floored, [each.group for each in after if each.below()])


def _time(hours: float, _: str) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"


def _difference(log_ratio: float, _: str) -> str:
    return f"{100 * (math.exp(log_ratio) - 1):+.0f} %"


def _counted(unit: str) -> Callable[[float, str], str]:
    return lambda value, _: f"{value:,.0f} {unit[:-1] if round(value) == 1 else unit}"


_WORDS: dict[str, Callable[[float, str], str]] = {
    "ln currency": lambda value, currency: f"{math.exp(value):,.0f} {currency}".strip(),
    "currency": lambda value, currency: f"{value:,.0f} {currency}".strip(),
    "ln sqft": lambda value, _: f"{math.exp(value):,.0f} sq ft",
    "ln ratio": _difference,
    "ratio": lambda value, _: f"{value:.2f}",
    "share": lambda value, _: f"{100 * value:.0f} %",
    "0 to 1": lambda value, _: f"{value:.2f}",
    "hours": _time,
    "km": lambda value, _: f"{value:.1f} km",
    "km2": lambda value, _: f"{math.sqrt(max(value, 0)):.1f} km",  # stored as its square
    "1/positions": lambda value, _: f"{value:.1f}",
    "year": lambda value, _: f"{value:.0f}",
    **{
        unit: _counted(unit)
        for unit in ("rooms", "agents", "forms", "openings", "holds", "leads", "sales", "rankings")
    },
}
_UNITS: dict[str, str] = {each.name: each.unit for each in FEATURES}
_REASONS: dict[str, Any] = {each.name: each.reason for each in FEATURES}
