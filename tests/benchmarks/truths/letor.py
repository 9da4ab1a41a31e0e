"""LETOR smoke: the ranker reads what other people's rankers read, and learns something.

201 training and 50 test queries in SVMlight form with group sizes, relevance 0 to 4, as
they come with a peer's examples. It shows that the door fits, not how good the ranker is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_svmlight_file

from aiqleads.ranking.dataset import GAINS, Dataset, dataset_of
from aiqleads.ranking.evaluate import ndcg_at
from aiqleads.ranking.train import TOP, train_ranker

Floats = NDArray[np.float64]

COLUMNS = 301
#: the last queries stop the training
JUDGED = 41


def read(folder: Path, name: str) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Rows (n, 301), relevance (n,) and rows per query (G,) of a file."""
    path = folder / f"lightgbm_rank.{name}"
    rows, relevance = load_svmlight_file(str(path), n_features=COLUMNS, zero_based=True)
    sizes = np.loadtxt(f"{path}.query", dtype=np.int64)
    return rows.toarray(), relevance, sizes


def dataset(name: str, X: Floats, relevance: Floats, sizes: NDArray[np.int64], at: int) -> Dataset:
    """Queries as requests; relevance above the project's highest label counts as that."""
    query = np.repeat(np.arange(len(sizes)), sizes)
    frame = pd.DataFrame(
        {
            "request_id": [f"Q{each:05d}" for each in query],
            "agent_id": "nobody",
            "lead_id": [f"D{each:06d}" for each in range(len(query))],
            "position": pd.Series(query).groupby(query).cumcount().to_numpy(np.int32) + 1,
            "at_market_us": at,
            "label": np.minimum(relevance, len(GAINS) - 1).astype(np.int8),
            "price_cents": 0,
        }
    )
    told = pd.DataFrame(X, columns=[f"f{each:03d}" for each in range(X.shape[1])])
    return dataset_of(pd.concat([frame, told], axis=1), name, "letor")


def measured(folder: Path, seeds: tuple[int, ...] = (1, 2, 3, 4, 5)) -> tuple[Floats, Floats]:
    """NDCG@10 of each test query by the ranker and by chance, each the mean over seeds."""
    X, relevance, sizes = read(folder, "train")
    first = int(sizes[:-JUDGED].sum())
    train = dataset("train", X[:first], relevance[:first], sizes[:-JUDGED], 0)
    validate = dataset("validate", X[first:], relevance[first:], sizes[-JUDGED:], 1)
    X, relevance, sizes = read(folder, "test")
    ours, chance = [], []
    for seed in seeds:
        tie = np.random.default_rng(seed).random(len(relevance))
        found = train_ranker(train, validate, "QueryRMSE", {"random_seed": seed})
        score = found.scorer.score(X.astype(np.float32))
        ours.append(ndcg_at(TOP, relevance, score, sizes, tie))
        chance.append(ndcg_at(TOP, relevance, tie, sizes))
    return np.mean(ours, axis=0), np.mean(chance, axis=0)
