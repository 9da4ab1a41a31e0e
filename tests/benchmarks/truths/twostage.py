"""The second stage: the project's ranker on the candidates of MovieLens, and their judgement.

`ladder` gives the windows of a protocol. With `back` = 1 the whole ladder moves one cut into
the past, and what is then called the test is the validation by which every choice was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aiqleads.ranking.dataset import Dataset, dataset_of
from aiqleads.ranking.evaluate import ndcg_at
from aiqleads.ranking.train import TOP, train_ranker

from . import movielens
from .movielens import Floats, Log, View
from .pairs import POOL, Pairs, everything, pairs_of

PROTOCOLS = {"user": movielens.cuts_by_user, "time": movielens.cuts_by_time}
#: two cuts to train on, one that stops the training, one to test
STEPS = 4
SEEDS = (1, 2, 3, 4, 5)
#: protocol -> loss and parameters over the project's defaults, chosen on earlier cuts. By time
#: there are some 200 requests to learn from and not 1,900: smaller trees, and a loss that looks
#: at the top of the page only
RANKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "user": (
        "QueryRMSE",
        {"learning_rate": 0.05, "rsm": 0.5, "iterations": 500, "early_stopping_rounds": 40},
    ),
    "time": (
        "YetiRank",
        {"learning_rate": 0.03, "rsm": 0.5, "iterations": 800, "early_stopping_rounds": 80}
        | {"depth": 4},
    ),
}


@dataclass(frozen=True)
class Ladder:
    """The windows of one protocol: what trains, what stops the training, what is tested."""

    train: Dataset
    validate: Pairs
    test: Pairs


def ladder(log: Log, protocol: str, back: int = 0, pool: int = POOL) -> Ladder:
    """Windows from the cuts of a protocol; every generator learns anew at every cut."""
    cuts = PROTOCOLS[protocol](log, STEPS + back)[:STEPS]
    *early, validate, test = (pairs_of(movielens.view(log, cut), pool) for cut in cuts)
    return Ladder(joined([each.data for each in early]), validate, test)


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Requests of several windows as one."""
    return dataset_of(pd.concat([_frame(part) for part in parts]), "train", parts[0].source)


def _frame(data: Dataset) -> pd.DataFrame:
    by_request = {
        name: np.repeat(getattr(data, name), data.sizes)
        for name in ("request_id", "agent_id", "at_market_us")
    }
    by_row = {name: getattr(data, name) for name in ("lead_id", "position", "label", "price_cents")}
    keys = pd.DataFrame({**by_request, **by_row})
    return pd.concat([keys, pd.DataFrame(data.X, columns=list(data.features))], axis=1)


def trained(windows: Ladder, protocol: str, seed: int, threads: int = 1) -> tuple[Floats, int]:
    """Scores of the test rows by one ranker of the project, and its trees."""
    loss, params = RANKERS[protocol]
    params = {**params, "random_seed": seed}
    found = train_ranker(windows.train, windows.validate.data, loss, params, threads)
    return found.scorer.score(windows.test.data.X), found.scorer.card.best_iteration + 1


def together(scores: Sequence[Floats]) -> Floats:
    """Rankers of several seeds as one: the mean of their scores, which share a scale."""
    return np.asarray(np.mean(scores, axis=0))


def judged(view: View, score: Floats) -> Floats:
    """NDCG@10 of each user, (G,): over all items not rated, those without a score last.

    score: (U, I), NaN for what is no candidate. Ties fall by a fixed draw.
    """
    user, item, sought = everything(view)
    sizes = np.bincount(user)[view.cut.users]
    tie = np.random.default_rng(0).random(len(user))
    return ndcg_at(TOP, sought.astype(float), score[user, item], sizes, tie)
