"""What a marketplace would do without a model, as functions of the feature columns.

Each returns a score (n,), higher first, missing values last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aiqleads.ranking.dataset import Dataset

Baseline = Callable[[Dataset], NDArray[np.float64]]


def random_order(dataset: Dataset, seed: int = 0) -> NDArray[np.float64]:
    """A draw of its own for each lead of each request, the same on every call.

    The seed enters with the requests' names, so that adding a request moves no other.
    """
    draws = []
    for request, size in zip(dataset.request_id, dataset.sizes, strict=True):
        digest = hashlib.blake2b(f"{seed}/{request}".encode(), digest_size=8).digest()
        draws.append(np.random.default_rng(int.from_bytes(digest, "big")).random(size))
    return np.concatenate(draws)


def newest(dataset: Dataset) -> NDArray[np.float64]:
    """Newest enquiry first."""
    return -_column(dataset, "hours_since_received")


def nearest(dataset: Dataset) -> NDArray[np.float64]:
    """Nearest to the agent's declared home first."""
    return -_column(dataset, "home_distance_km2")


def popular_lately(dataset: Dataset) -> NDArray[np.float64]:
    """Most opened by all agents in the last seven days first."""
    return _column(dataset, "lead_views_7d")


BASELINES: dict[str, Baseline] = {
    "random": random_order,
    "newest": newest,
    "nearest": nearest,
    "popular lately": popular_lately,
}


def _column(dataset: Dataset, feature: str) -> NDArray[np.float64]:
    return dataset.column(feature).astype(np.float64)
