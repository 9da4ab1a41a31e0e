"""The funnel ranker: what a lead is worth once it is looked at, from views, holds and purchases.

Three gradient boostings of the same features, each a rate with a log link (Poisson):

    opened    openings of a lead shown, attention taken out
    worth     its worth (`Dataset.gain`), attention taken out
    followed  worth of a lead that was opened

ln P(opened) + ln E[worth | opened] and ln E[worth] are two estimates of one number: the first
leans on the many openings, the second makes no assumption on how the steps hang together. The
score is their mean, the log of the expected worth up to a constant, and as a weighted sum of
trees it is one CatBoost model like any other. Attention (`examination`) enters as an offset in
training only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from catboost import CatBoost, Pool, sum_models
from numpy.typing import NDArray

from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.examination import Examination

Floats = NDArray[np.float64]

PARTS = ("opened", "worth", "followed")
_WEIGHTS = (0.5, 0.5, 0.5)
#: over `train.DEFAULTS`: many shallow trees on samples of rows and features, since few rows
#: have an answer and what decides is close to a sum
DEFAULTS: dict[str, Any] = {
    "iterations": 800,
    "depth": 5,
    "learning_rate": 0.08,
    "rsm": 0.33,
    "bootstrap_type": "Bernoulli",
    "subsample": 0.5,
    # one Newton step a leaf: as good as CatBoost's ten gradient steps and half the time
    "leaf_estimation_method": "Newton",
    "leaf_estimation_iterations": 1,
    "early_stopping_rounds": 30,
}


@dataclass(frozen=True)
class Funnel:
    """A fitted funnel: its parts by name, each with the trees that the validate window chose."""

    parts: Mapping[str, CatBoost]

    @property
    def trees(self) -> dict[str, int]:
        """Trees of each part."""
        return {name: int(part.tree_count_) for name, part in self.parts.items()}

    def growing(self, dataset: Dataset, shares: Floats) -> list[Floats]:
        """Scores (n,) of models that have these shares of each part's trees, rising."""
        scores = []
        for share in shares:
            score = np.zeros(len(dataset))
            for weight, name in zip(_WEIGHTS, PARTS, strict=True):
                part = self.parts[name]
                trees = max(1, round(share * part.tree_count_))
                raw = part.predict(
                    dataset.X, prediction_type="RawFormulaVal", ntree_end=trees, thread_count=1
                )
                score += weight * np.asarray(raw, dtype=np.float64)
            scores.append(score)
        return scores

    def merged(self) -> CatBoost:
        """The one model whose raw score is the weighted sum of the parts'."""
        return sum_models([self.parts[name] for name in PARTS], weights=list(_WEIGHTS))


def fit_funnel(
    train: Dataset, validate: Dataset, examination: Examination, params: Mapping[str, Any]
) -> Funnel:
    """Fits each part on `train` and stops it by its likelihood on `validate`.

    params: CatBoost's, threads and seed among them. Raises CatBoost's own error when a window
    has no opened lead.
    """
    parts = {}
    for name in PARTS:
        model = CatBoost({**params, "loss_function": "Poisson"})
        model.fit(
            _pool(name, train, examination),
            eval_set=_pool(name, validate, examination),
            use_best_model=True,
        )
        parts[name] = model
    return Funnel(parts)


def refit_funnel(
    chosen: Funnel, windows: list[Dataset], examination: Examination, params: Mapping[str, Any]
) -> Funnel:
    """Fits the parts again on all windows, each with the trees that were chosen before."""
    fixed = {k: v for k, v in params.items() if k != "early_stopping_rounds"}
    parts = {}
    for name, trees in chosen.trees.items():
        model = CatBoost({**fixed, "loss_function": "Poisson", "iterations": max(trees, 1)})
        X, target, offset = (
            np.concatenate(each)
            for each in zip(*(_arrays(name, each, examination) for each in windows), strict=True)
        )
        model.fit(Pool(X, target, baseline=offset, feature_names=list(windows[0].features)))
        parts[name] = model
    return Funnel(parts)


def _pool(part: str, dataset: Dataset, examination: Examination) -> Pool:
    X, target, offset = _arrays(part, dataset, examination)
    return Pool(X, target, baseline=offset, feature_names=list(dataset.features))


def _arrays(
    part: str, dataset: Dataset, examination: Examination
) -> tuple[NDArray[np.float32], Floats, Floats]:
    """Rows, target and log offset of one part."""
    opened = dataset.label > 0
    if part == "followed":
        return dataset.X[opened], dataset.gain[opened], np.zeros(int(opened.sum()))
    target = opened.astype(np.float64) if part == "opened" else dataset.gain
    return dataset.X, target, examination.log_attention(dataset)
