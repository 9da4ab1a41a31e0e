"""An agent's ranking: candidates, scores, the best k that can still be bought, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiqleads.errors import NotReady
from aiqleads.features.crosses import cross_matrix
from aiqleads.ranking.scorer import Scorer
from aiqleads.recommend.candidates import Filters, Rows, near
from aiqleads.recommend.reasons import Reason, reasons
from aiqleads.recommend.snapshot import AgentRow, Snapshot

#: of these leads, the ones that this agent cannot buy now
Availability = Callable[[Sequence[str]], set[str]]
#: candidates wanted for each item shown, so that the model has something to choose from
POOL = 20


@dataclass(frozen=True)
class Item:
    """One lead of a ranking; `row` is its place in the snapshot, `position` counts from 1."""

    lead_id: str
    row: int
    position: int
    score: float
    reasons: tuple[Reason, ...]


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


def recommend(
    snapshot: Snapshot,
    scorer: Scorer,
    availability: Availability,
    agent_id: str,
    k: int,
    filters: Filters,
    now_market_us: int,
) -> Recommendation:
    """The k best leads that this agent can buy now, best first; fewer when there are fewer.

    Availability is asked last and never cached; a lead that is gone makes room for the next
    best. Equal scores are ordered by lead_id. UnknownName for an agent that the snapshot
    does not know.
    """
    agent = snapshot.agent(agent_id)
    found = near(snapshot, agent, k * POOL, filters, now_market_us)
    X = feature_matrix(snapshot, agent, found.rows, scorer.features)
    scores = scorer.score(X)
    order = np.lexsort((snapshot.lead_rank[found.rows], -scores))
    chosen, withheld = _available(snapshot, availability, found.rows, order, k)
    why = reasons(scorer.features, scorer.contributions(X[chosen]))
    items = tuple(
        Item(snapshot.lead_id(row), row, position, float(scores[at]), because)
        for position, (at, row, because) in enumerate(
            zip(chosen, found.rows[chosen].tolist(), why, strict=True), start=1
        )
    )
    return Recommendation(agent, items, len(found.rows), found.rings, withheld)


def _available(
    snapshot: Snapshot, availability: Availability, rows: Rows, order: NDArray[np.intp], k: int
) -> tuple[list[int], tuple[str, ...]]:
    """The first k of `order` that can be bought, and the ids of those passed over."""
    chosen: list[int] = []
    withheld: list[str] = []
    for start in range(0, len(order), 2 * k):
        batch = order[start : start + 2 * k].tolist()
        ids = [snapshot.lead_id(int(rows[at])) for at in batch]
        gone = availability(ids)
        for at, lead_id in zip(batch, ids, strict=True):
            if lead_id in gone:
                withheld.append(lead_id)
            else:
                chosen.append(at)
            if len(chosen) == k:
                return chosen, tuple(withheld)
    return chosen, tuple(withheld)
