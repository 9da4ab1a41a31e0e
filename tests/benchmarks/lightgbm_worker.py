"""LightGBM behind two pipes, in the peers' environment: fits when told to, scores at once.

    PEERS/bin/python lightgbm_worker.py [--threads 1] [--seed 7]

A closed loop asks for a page thousands of times, so the model stays in memory. Each order is a
line of JSON on stdin: {"do": "fit", "arrays": NPZ} answers with a line {"version", "trees",
"chosen"}; {"do": "score", "rows": n, "columns": F, "judged": bool} is followed by n * F float32
(by rows) and answers with n float64, of the model before it learned from the validate window
where "judged" says so. The first fit tries every configuration and keeps the best by NDCG@10
of the validate window, the following ones keep it.

arrays: X_w (n, F), label_w (n,), sizes_w (G,) for w in train and validate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

#: worth of a row by its label: nothing, view, hold, purchase
GAINS = [0.0, 1.0, 3.0, 7.0]
ROUNDS, PATIENCE = 400, 30
CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 20},
    {"learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 100},
    {
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_data_in_leaf": 100,
        "lambdarank_truncation_level": 30,
        "lambda_l2": 10.0,
    },
    {
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 100,
        "lambdarank_truncation_level": 30,
        "feature_fraction": 0.5,
        "lambda_l2": 10.0,
    },
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    boosters: dict[bool, lgb.Booster] = {}
    tried = CONFIGURATIONS
    while line := sys.stdin.buffer.readline():
        order = json.loads(line)
        if order["do"] == "fit":
            with np.load(order["arrays"]) as file:
                arrays = dict(file)
            fitted = [fit(arrays, each, given.threads, given.seed) for each in tried]
            best = max(range(len(fitted)), key=lambda n: fitted[n][1])
            tried, trees = (tried[best],), max(fitted[best][0].best_iteration, 1)
            whole = again(arrays, tried[0], trees, given.threads, given.seed)
            boosters = {True: fitted[best][0], False: whole}
            version = hashlib.sha256(whole.model_to_string().encode()).hexdigest()[:12]
            said = {"version": version, "trees": trees, "chosen": tried[0]}
            answer(json.dumps(said).encode() + b"\n")
        else:
            rows, columns = order["rows"], order["columns"]
            X = np.frombuffer(sys.stdin.buffer.read(rows * columns * 4), dtype=np.float32)
            if not boosters:
                raise SystemExit("asked to score before a fit")
            scores = boosters[order["judged"]].predict(
                X.reshape(rows, columns), num_threads=given.threads
            )
            answer(np.asarray(scores, dtype=np.float64).tobytes())
    return 0


def answer(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def fit(
    arrays: Mapping[str, Any], configuration: Mapping[str, Any], threads: int, seed: int
) -> tuple[lgb.Booster, float]:
    """LambdaMART (lambdarank) stopped by NDCG@10 of the validate window; that figure too."""
    train = lgb.Dataset(**answered(arrays, "train", shuffled=False), free_raw_data=False)
    judged = lgb.Dataset(**answered(arrays, "validate", shuffled=True), reference=train)
    stop = lgb.early_stopping(PATIENCE, verbose=False)
    booster = lgb.train(
        parameters(configuration, threads, seed),
        train,
        ROUNDS,
        valid_sets=[judged],
        callbacks=[stop],
    )
    return booster, float(booster.best_score["valid_0"]["ndcg@10"])


def again(
    arrays: Mapping[str, Any], configuration: Mapping[str, Any], trees: int, threads: int, seed: int
) -> lgb.Booster:
    """The same on both windows, with as many trees as the validate window chose."""
    parts = [answered(arrays, window, shuffled=False) for window in ("train", "validate")]
    both = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return lgb.train(parameters(configuration, threads, seed), lgb.Dataset(**both), trees)


def parameters(configuration: Mapping[str, Any], threads: int, seed: int) -> dict[str, Any]:
    """The library's parameters of a configuration."""
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "label_gain": GAINS,
        "lambdarank_truncation_level": 10,
        **configuration,
        "num_threads": threads,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }


def answered(arrays: Mapping[str, Any], window: str, *, shuffled: bool) -> dict[str, Any]:
    """Rows, labels and sizes of the requests in which the agent did something.

    The others say nothing of order, and the library counts them as 1. shuffled: in random
    order within a request; they lie in the order shown, by which the library breaks ties.
    """
    sizes, label = arrays[f"sizes_{window}"], arrays[f"label_{window}"]
    kept = np.add.reduceat(label > 0, np.cumsum(sizes) - sizes) > 0
    rows = np.flatnonzero(np.repeat(kept, sizes))
    if shuffled:
        request = np.repeat(np.arange(int(kept.sum())), sizes[kept])
        rows = rows[np.lexsort([np.random.default_rng(7).random(len(rows)), request])]
    return {
        "data": arrays[f"X_{window}"][rows],
        "label": label[rows].astype(np.int32),
        "group": sizes[kept],
    }


if __name__ == "__main__":
    sys.exit(main())
