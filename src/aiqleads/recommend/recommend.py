"""An agent's ranking: candidates, scores, the best k that can still be bought, and why.

Where a snapshot carries prices of places (see `allocation`) and the caller quotes fees, leads
are ordered by what a look at them is worth to the market, not by score alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiqleads.errors import NotReady
from aiqleads.features.crosses import cross_matrix
from aiqleads.ranking.scorer import Scorer
from aiqleads.recommend import allocation
from aiqleads.recommend.candidates import Filters, Rows, near
from aiqleads.recommend.diversity import set_aside
from aiqleads.recommend.explore import Exploration, draw
from aiqleads.recommend.reasons import FEW_ARE_OFFERED, Reason, reasons
from aiqleads.recommend.snapshot import AgentRow, Snapshot

F64 = NDArray[np.float64]

#: of these leads, the ones that this agent cannot buy now
Availability = Callable[[Sequence[str]], set[str]]
#: fees that this agent would pay for leads (places in the snapshot), cents
Fees = Callable[[Rows], NDArray[np.int64]]
#: candidates wanted for each item shown, so that the model has something to choose from
POOL = 20


class Scores(Protocol):
    """What ranking needs of a model."""

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of X, in order."""
        ...

    @property
    def version(self) -> str:
        """Name of the model."""
        ...

    def score(self, X: NDArray[np.floating[Any]]) -> F64:
        """Scores of the rows, (n,), higher is better."""
        ...


@dataclass(frozen=True)
class Item:
    """One lead of a ranking; `row` is its place in the snapshot, `position` counts from 1.

    propensity: chance of the lead at this place given those above; 1.0 where nothing was
    drawn. placed: why it stands higher than its score alone would put it, if it does.
    """

    lead_id: str
    row: int
    position: int
    score: float
    reasons: tuple[Reason, ...]
    propensity: float = 1.0
    placed: Reason | None = None


@dataclass(frozen=True)
class Recommendation:
    """A ranking for one agent.

    candidates: leads that passed the filters. rings: how far around the territory they were
    looked for. withheld: ranked above the last item shown, but not available any more.
    """

    agent: AgentRow
    items: tuple[Item, ...]
    candidates: int
    rings: int
    withheld: tuple[str, ...]


def check_features(scorer: Scorer, snapshot: Snapshot) -> None:
    """Refuses (NotReady) a model that reads a column which the snapshot does not have.

    More columns, or another order, do no harm: a champion stays in force when a feature is
    added and the ranker that reads it does not beat the champion.
    """
    missing = sorted(set(scorer.features) - set(snapshot.manifest.features))
    if missing:
        raise NotReady(
            f"the model reads {', '.join(missing)}, which the snapshot {snapshot.version} does "
            "not have: publish one with the features that the model was trained on"
        )


def feature_matrix(
    snapshot: Snapshot, agent: AgentRow, rows: Rows, features: tuple[str, ...] | None = None
) -> NDArray[np.float32]:
    """The model's input for an agent and these leads: (len(rows), F) float32, column-major.

    features: the columns, in this order; by default all of the snapshot's: the leads'
    features, the agent's (the same in each row), then the crosses.
    """
    manifest, columns = snapshot.manifest, snapshot.columns
    lead_count, agent_count = len(manifest.lead_features), len(manifest.agent_features)
    out = np.empty((len(rows), len(manifest.features)), dtype=np.float32, order="F")
    lead_features, lead_ingredients = columns["lead_features"], columns["lead_ingredients"]
    for j in range(lead_count):
        out[:, j] = lead_features[rows, j]
    out[:, lead_count : lead_count + agent_count] = columns["agent_features"][agent.row]
    lead = {name: lead_ingredients[rows, j] for j, name in enumerate(manifest.lead_ingredients)}
    lead |= snapshot.history(agent, rows)
    values = columns["agent_ingredients"][agent.row]
    own = {name: float(values[j]) for j, name in enumerate(manifest.agent_ingredients)}
    out[:, lead_count + agent_count :] = cross_matrix(own, lead)
    if features is None or features == manifest.features:
        return out
    return np.asfortranarray(out[:, [manifest.features.index(name) for name in features]])


@dataclass(frozen=True)
class Ranked:
    """A page before it is explained; arrays of shape (m,), best first.

    at: positions into the candidates. scores: the model's, of all candidates (n,). moved: where
    the prices of others' places moved a lead up. withheld: ids that are not available.
    """

    at: NDArray[np.int64]
    propensity: F64
    scores: F64
    moved: NDArray[np.bool_]
    withheld: tuple[str, ...]


def recommend(
    snapshot: Snapshot,
    scorer: Scorer,
    availability: Availability,
    agent_id: str,
    k: int,
    filters: Filters,
    now_market_us: int,
    *,
    fees: Fees | None = None,
    exploration: Exploration | None = None,
) -> Recommendation:
    """The k best leads that this agent can buy now, best first; fewer when there are fewer.

    Availability is asked last and never cached; a lead that is gone makes room for the next
    best. Equal scores are ordered by lead_id. fees: with it, and a snapshot that carries prices
    for this model, places are allocated (`allocation.worth`). exploration: with it the page is
    drawn. UnknownName for an agent that the snapshot does not know.
    """
    agent = snapshot.agent(agent_id)
    found = near(snapshot, agent, k * POOL, filters, now_market_us)
    X = feature_matrix(snapshot, agent, found.rows, scorer.features)
    page = rank_scored(
        snapshot,
        scorer.version,
        availability,
        agent,
        found.rows,
        scorer.score(X),
        k,
        fees=fees,
        exploration=exploration,
    )
    why = reasons(scorer.features, scorer.contributions(X[page.at]))
    items = tuple(
        Item(
            snapshot.lead_id(row),
            row,
            position,
            float(page.scores[at]),
            because,
            float(page.propensity[position - 1]),
            FEW_ARE_OFFERED if page.moved[position - 1] else None,
        )
        for position, (at, row, because) in enumerate(
            zip(page.at.tolist(), found.rows[page.at].tolist(), why, strict=True), start=1
        )
    )
    return Recommendation(agent, items, len(found.rows), found.rings, page.withheld)


def rank_candidates(
    snapshot: Snapshot,
    scorer: Scores,
    availability: Availability,
    agent: AgentRow,
    rows: Rows,
    k: int,
    *,
    fees: Fees | None = None,
    exploration: Exploration | None = None,
    apart: bool = True,
) -> Ranked:
    """The k best of these leads for an agent, as `recommend` orders them, without reasons.

    apart: whether near duplicates are kept apart.
    """
    scores = scorer.score(feature_matrix(snapshot, agent, rows, scorer.features))
    return rank_scored(
        snapshot,
        scorer.version,
        availability,
        agent,
        rows,
        scores,
        k,
        fees=fees,
        exploration=exploration,
        apart=apart,
    )


def rank_scored(
    snapshot: Snapshot,
    model_version: str,
    availability: Availability,
    agent: AgentRow,
    rows: Rows,
    scores: F64,
    k: int,
    *,
    fees: Fees | None = None,
    exploration: Exploration | None = None,
    apart: bool = True,
) -> Ranked:
    """The same for scores, (len(rows),), that a model has already given."""
    values, unpriced = _values(snapshot, model_version, agent, rows, scores, fees)
    tie = np.asarray(snapshot.lead_rank[rows])
    grouped = apart and "twin" in snapshot.columns
    twin = np.asarray(snapshot.columns["twin"][rows]) if grouped else None
    order = np.lexsort((tie, -values)).astype(np.int64)
    # A draw is over all that is available; else only as many are asked about as are needed.
    batch = 2 * k if exploration is None else max(len(order), 1)
    open_, withheld = _available(snapshot, availability, rows, order, k, twin, batch)
    noise = None if exploration is None else exploration.noise(rows[open_])
    drawn = draw(
        values[open_],
        noise,
        1.0 if exploration is None else exploration.temperature,
        k,
        twin=None if twin is None else twin[open_],
        tie=tie[open_],
    )
    at = open_[drawn.order]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    last = int(place[at].max()) if len(at) == k else len(order)
    return Ranked(
        at,
        drawn.propensity,
        scores,
        _moved(at, values, unpriced),
        tuple(snapshot.lead_id(int(rows[one])) for one in withheld if place[one] < last),
    )


def _values(
    snapshot: Snapshot,
    model_version: str,
    agent: AgentRow,
    rows: Rows,
    scores: F64,
    fees: Fees | None,
) -> tuple[F64, F64]:
    """What leads are ordered by, and what it would be were no place wanted by others."""
    priced = snapshot.manifest.allocation
    if fees is None or priced is None or priced.model_version != model_version:
        return scores, scores
    chance = priced.chances.of(scores)
    fee = fees(rows)
    budget = float(snapshot.columns["budget_price"][agent.row])
    slot = np.asarray(snapshot.columns["slot_price_cents"][rows])
    usual, share = priced.usual_fee_cents, priced.share
    own, free = (
        allocation.as_score(allocation.worth(chance, fee, price, budget, usual, share))
        for price in (slot, np.zeros(len(rows)))
    )
    return own, free


def _moved(at: NDArray[np.int64], values: F64, unpriced: F64) -> NDArray[np.bool_]:
    """Which of the shown leads passed another one only because its places are wanted more."""
    if values is unpriced:
        return np.zeros(len(at), dtype=np.bool_)
    before = np.argsort(np.argsort(-unpriced, kind="stable"), kind="stable")
    after = np.argsort(np.argsort(-values, kind="stable"), kind="stable")
    return np.asarray(after[at] < before[at])


def _available(
    snapshot: Snapshot,
    availability: Availability,
    rows: Rows,
    order: NDArray[np.int64],
    k: int,
    twin: NDArray[np.int64] | None,
    batch: int,
) -> tuple[NDArray[np.int64], list[int]]:
    """As many of `order` that can be bought as a page of k needs, and those passed over."""
    open_: list[int] = []
    withheld: list[int] = []
    for start in range(0, len(order), batch):
        asked = order[start : start + batch].tolist()
        ids = [snapshot.lead_id(int(rows[at])) for at in asked]
        gone = availability(ids)
        open_ += [at for at, lead_id in zip(asked, ids, strict=True) if lead_id not in gone]
        withheld += [at for at, lead_id in zip(asked, ids, strict=True) if lead_id in gone]
        kept = np.array(open_, dtype=np.int64)
        if twin is not None:
            kept, _ = set_aside(kept, twin)
        if len(kept) >= k:
            break
    return np.array(open_, dtype=np.int64), withheld
