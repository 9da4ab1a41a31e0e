"""Who ranks in a closed loop: models behind the product's own path, and what is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aiqleads.market_sim.policy import Answer, Asked
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.train import FUNNEL, train_ranker
from aiqleads.recommend.explore import Exploration
from aiqleads.recommend.recommend import Scores, rank_candidates
from aiqleads.recommend.snapshot import Snapshot

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Learned:
    """A model, and one of its kind that has not learned from the window that stopped it.

    What scores mean in purchases is read off the second: of rows that a model has learned,
    its scores tell too much.
    """

    scorer: Scores
    judged: Scores


#: fits a model on one window, stopped by the next; called again at every retraining
Learner = Callable[[Dataset, Dataset], Learned]

#: what follows the model: nothing, the product's allocation, diversity and exploration, or
#: (of the oracle alone) the truth
Kind = Literal["plain", "re-ranked", "oracle"]


@dataclass(frozen=True)
class Arm:
    """One way of answering requests. learner: None for the oracle."""

    name: str
    kind: Kind
    learner: Learner | None = None


@dataclass(frozen=True)
class PopularLately:
    """Most opened by all agents in the last seven days first; nothing is learned."""

    features: tuple[str, ...] = ("lead_views_7d",)
    version: str = "popular-lately"

    def score(self, X: NDArray[np.floating[Any]]) -> F64:
        """The views, (n,)."""
        return np.asarray(X[:, 0], dtype=np.float64)


def popular_lately(_train: Dataset, _validate: Dataset) -> Learned:
    """The learner of `PopularLately`."""
    return Learned(PopularLately(), PopularLately())


def ours(loss: str = FUNNEL, threads: int = 1) -> Learner:
    """The product's own ranker with its defaults."""

    def learn(train: Dataset, validate: Dataset) -> Learned:
        trained = train_ranker(train, validate, loss, threads=threads)
        return Learned(trained.scorer, trained.judged)

    return learn


@dataclass(frozen=True)
class Drawing:
    """How much is drawn: a share of the requests, at a temperature of the scores."""

    share: float
    temperature: float


class ServedRanker:
    """Answers requests as the service does: snapshot, features, crosses, scores, page.

    What the simulator says is on offer and affordable is what the service's availability
    would say; leads that the snapshot does not know are not shown.
    priced: with the allocation that the snapshot carries, and without near duplicates.
    """

    def __init__(
        self, snapshot: Snapshot, scorer: Scores, shown: int, *, priced: bool, drawing: Drawing
    ) -> None:
        self._snapshot, self._scorer, self._shown = snapshot, scorer, shown
        self._priced, self._drawing = priced, drawing
        self._row = {snapshot.lead_id(row): row for row in range(snapshot.manifest.leads)}

    def rank(self, asked: Asked) -> Answer:
        """A page of the candidates that the snapshot knows; none when it knows none."""
        rows = np.array([self._row.get(name, -1) for name in asked.lead_ids], dtype=np.int64)
        known = np.flatnonzero(rows >= 0)
        if not len(known):
            return Answer(np.empty(0, np.int64), np.empty(0), self._scorer.version, "none")
        rows = rows[known]
        drawn = self._priced and _share_of(asked.request_id) < self._drawing.share
        page = rank_candidates(
            self._snapshot,
            self._scorer,
            _all_available,
            self._snapshot.agent(asked.agent_id),
            rows,
            self._shown,
            fees=(lambda _rows: asked.fee_cents[known]) if self._priced else None,
            exploration=self._exploration(asked, known, rows) if drawn else None,
            apart=self._priced,
        )
        variant = "drawn" if drawn else "sorted"
        return Answer(known[page.at], page.propensity, self._scorer.version, variant)

    def _exploration(
        self, asked: Asked, known: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Exploration:
        order = np.argsort(rows)
        noise = asked.noise[known]

        def of(wanted: NDArray[np.int64]) -> F64:
            return noise[order[np.searchsorted(rows, wanted, sorter=order)]]

        return Exploration(self._drawing.temperature, of)


def _all_available(_lead_ids: Sequence[str]) -> set[str]:
    return set()


def _share_of(request_id: str) -> float:
    """A number in [0, 1) that belongs to the request, for whether it is drawn."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
