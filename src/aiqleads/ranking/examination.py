"""How much attention a place in a ranking draws by itself, learned from the log alone.

A lead that nobody looked at was not refused. With views taken as

    rate of views = attention(place, shelf) * exp(f(features))

(examination times appeal: Richardson, Dominowska and Ragno 2007; estimated by regression as
in Wang et al., "Position bias estimation for unbiased learning to rank in personal search",
WSDM 2018), the two factors are told apart because the policies that showed the leads did not
put equal leads at equal places. A shelf is a device and a surface ("desktop/list"). On a list

    log attention = -a ln(position) - b (position - 1) / 10

which holds a power law and a constant chance of going on as its two ends; on a map position
says nothing, and log attention = -c * km from the agent's home. What is learned is used in
training only: a score is of a lead that is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from catboost import CatBoost, Pool
from numpy.typing import NDArray

from aiqleads.ranking.dataset import Dataset

Floats = NDArray[np.float64]

#: no row counts as less attended to than exp(-LEAST) of the first place: labels under it
#: would weigh more than they tell
LEAST = 4.0
_ROUNDS = 3
_REQUESTS = 2_500
_NEWTON_STEPS = 12
#: pull of each coefficient to 0, in views: a shelf with a handful of views learns nothing
_RIDGE = 20.0
_PILOT: dict[str, Any] = {
    "loss_function": "Poisson",
    "iterations": 50,
    "learning_rate": 0.15,
    "depth": 4,
    "rsm": 0.33,
    "bootstrap_type": "Bernoulli",
    "subsample": 0.5,
    "allow_writing_files": False,
    "logging_level": "Silent",
}


@dataclass(frozen=True)
class Examination:
    """Coefficients of each shelf's terms; a shelf that was not learned from has none."""

    shelves: Mapping[str, tuple[float, ...]]

    def log_attention(self, dataset: Dataset) -> Floats:
        """Log of each row's attention (n,), 0 at the first place of a list, at least -LEAST."""
        found = np.zeros(len(dataset))
        for shelf, rows in _rows_by_shelf(dataset).items():
            if shelf in self.shelves:
                found[rows] = _terms(dataset, shelf)[rows] @ np.array(self.shelves[shelf])
        return np.asarray(np.clip(found, -LEAST, None))


def learn_examination(dataset: Dataset, seed: int = 7, threads: int = 1) -> Examination:
    """Fits attention and appeal in turn, `_ROUNDS` times, to what was opened and what was not.

    The appeal is a small gradient boosting of the features (Poisson, with the attention as
    its offset); each shelf's attention a Poisson regression with the appeal as its offset.
    A few thousand requests, evenly spaced, tell as much as all.
    """
    every = max(1, len(dataset.sizes) // _REQUESTS)
    dataset = dataset.where(np.arange(len(dataset.sizes)) % every == 0)
    opened = (dataset.label > 0).astype(np.float64)
    shelves = _rows_by_shelf(dataset)
    terms = {shelf: _terms(dataset, shelf)[rows] for shelf, rows in shelves.items()}
    found = Examination({})
    pool = Pool(dataset.X, opened)
    for _ in range(_ROUNDS):
        offset = found.log_attention(dataset)
        pool.set_baseline(offset)
        pilot = CatBoost({**_PILOT, "random_seed": seed, "thread_count": threads})
        pilot.fit(pool)
        appeal = pilot.predict(dataset.X, thread_count=threads)
        found = Examination(
            {
                shelf: _poisson(terms[shelf], opened[rows], appeal[rows])
                for shelf, rows in shelves.items()
            }
        )
    return found


def _rows_by_shelf(dataset: Dataset) -> dict[str, NDArray[np.bool_]]:
    shelf = np.repeat(dataset.shelf, dataset.sizes)
    return {str(name): shelf == name for name in np.unique(dataset.shelf.astype(str))}


def _terms(dataset: Dataset, shelf: str) -> Floats:
    """What attention may depend on, (n, terms), 0 where it is highest."""
    if shelf.endswith("map"):
        if "home_distance_km2" not in dataset.features:
            return np.zeros((len(dataset), 1))
        square = np.nan_to_num(dataset.column("home_distance_km2").astype(np.float64))
        return np.asarray(np.sqrt(square)[:, None])
    position = dataset.position.astype(np.float64)
    return np.column_stack([np.log(position), (position - 1.0) / 10.0])


def _poisson(terms: Floats, opened: Floats, appeal: Floats) -> tuple[float, ...]:
    """Coefficients of `terms` in log E[opened] = intercept + terms @ b + appeal, by Newton."""
    columns = np.column_stack([np.ones(len(terms)), terms])
    pull = np.diag([1e-6] + [_RIDGE] * terms.shape[1])
    b = np.zeros(columns.shape[1])
    for _ in range(_NEWTON_STEPS):
        rate = np.exp(np.clip(columns @ b + appeal, -30.0, 3.0))
        slope = columns.T @ (opened - rate) - pull @ b
        curvature = (columns * rate[:, None]).T @ columns + pull
        b = b + np.clip(np.linalg.solve(curvature, slope), -1.0, 1.0)
    return tuple(float(each) for each in b[1:])
