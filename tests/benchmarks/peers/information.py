"""The information oracle: what the features tell about the true relevance, and no more.

A model of the same columns, fitted to the simulated market's own expected relevance instead
of to what agents were seen to do. It knows no hidden part and no future, but it has no noise
to learn through: what a ranker of these features could reach with endless observed data. It
is fitted across: each request is scored by a model of all other folds' requests, those of the
test window among them. So it has seen the same agents and leads in other requests, which makes
it a stronger reference than any ranker trained on the past can be, by design.

It reads the truth, so it lives here and not in the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from catboost import CatBoost, Pool
from numpy.typing import NDArray

from aiqleads.ranking.dataset import Dataset

FOLDS = 2
_PARAMETERS = {
    "loss_function": "RMSE",
    "iterations": 300,
    "depth": 6,
    "learning_rate": 0.15,
    "rsm": 0.4,
    "allow_writing_files": False,
    "logging_level": "Silent",
}


def information_oracle(
    windows: Sequence[Dataset],
    relevance: Sequence[NDArray[np.float64]],
    *,
    seed: int,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Scores of the last window's rows (n,), each from a model that did not see its request.

    relevance: true expected relevance of each window's rows. The folds are of whole requests,
    drawn at random.
    """
    rng = np.random.default_rng(seed)
    fold = [np.repeat(rng.integers(0, FOLDS, len(w.sizes)), w.sizes) for w in windows]
    scores = np.zeros(len(windows[-1]))
    for number in range(FOLDS):
        X = np.concatenate([w.X[f != number] for w, f in zip(windows, fold, strict=True)])
        y = np.concatenate([r[f != number] for r, f in zip(relevance, fold, strict=True)])
        model = CatBoost({**_PARAMETERS, "random_seed": seed, "thread_count": threads})
        model.fit(Pool(X, y))
        mine = fold[-1] == number
        scores[mine] = model.predict(windows[-1].X[mine], thread_count=threads)
    return scores
