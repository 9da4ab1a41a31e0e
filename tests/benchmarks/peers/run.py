"""The peers of bench_ranking.py, run in an environment of their own: arrays in, scores out.

    python run.py ARRAYS.npz OUT [--arms lightgbm,xgboost,als,bpr,item_knn,ease] [--threads 1]

Nothing of the product is imported but `aiqleads.ranking.evaluate` (numpy alone), so that a
peer chooses its configuration by the very metric the product chooses by. Every arm tries the
configurations of its list, keeps the best by mean NDCG@10 of the validate window's observed
labels, and writes its scores of the test window to OUT/<arm>.npy; trees are fitted once more
to both windows (OUT/<arm>_all.npy). OUT/peers.json says what was tried. The truth of the
simulated market is not among the arrays.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from aiqleads.ranking.evaluate import ndcg_at

TOP = 10
#: worth of a row by its label: nothing, view, hold, purchase
GAINS = (0.0, 1.0, 3.0, 7.0)
ROUNDS, PATIENCE = 400, 30
US_PER_DAY = 86_400_000_000
#: a collaborative peer learns again after so many days, from all that had arrived by then
REFIT_DAYS = {"validate": 28, "test": 7}
#: leads that nobody touched for so long have left the market
LEAD_DAYS = 45

Arrays = Mapping[str, Any]
Configuration = dict[str, Any]
Predict = Callable[[np.ndarray], np.ndarray]

#: the first of each list is the library's usual choice; the others span what is usually tuned,
#: the library's own correction of position bias among them
LIGHTGBM: tuple[Configuration, ...] = (
    {"learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 20, "truncation": 10},
    {"learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 100, "truncation": 30, "l2": 10},
    {"learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 100, "truncation": 30, "l2": 1},
    {"learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 100, "truncation": 30}
    | {"columns": 0.5, "l2": 10},
    {"learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 100, "truncation": 30}
    | {"columns": 0.5, "l2": 10, "positions": True},
)
XGBOOST: tuple[Configuration, ...] = (
    {"eta": 0.1, "max_depth": 6, "min_child_weight": 1, "pairs": 10},
    {"eta": 0.05, "max_depth": 4, "min_child_weight": 5, "pairs": 10, "l2": 10},
    {"eta": 0.1, "max_depth": 3, "min_child_weight": 5, "pairs": 20, "columns": 0.5, "l2": 5},
    {"eta": 0.1, "max_depth": 4, "min_child_weight": 5, "pairs": 10, "columns": 0.5, "l2": 10}
    | {"positions": True},
)
COLLABORATIVE: dict[str, tuple[Configuration, ...]] = {
    "als": tuple({"factors": f, "l2": r} for f in (16, 32) for r in (1.0, 10.0)),
    "bpr": tuple({"factors": f, "l2": r} for f in (16, 32) for r in (0.001, 0.01)),
    "item_knn": tuple({"neighbours": k} for k in (3, 10, 30, 100)),
    "ease": tuple({"l2": r} for r in (1.0, 3.0, 10.0, 100.0)),
}


@dataclass(frozen=True)
class Tried:
    """A configuration's scores of the validate and the test window, and how it did."""

    configuration: Configuration
    validate_ndcg: float
    test: np.ndarray
    trees: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arrays", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arms", default="lightgbm,xgboost,als,bpr,item_knn,ease")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--chosen", type=Path, help="a peers.json: its choice, tried alone")
    given = parser.parse_args()
    with np.load(given.arrays) as file:
        arrays = dict(file)
    given.out.mkdir(parents=True, exist_ok=True)
    said = {}
    chosen = json.loads(given.chosen.read_text()) if given.chosen else {}
    for arm in given.arms.split(","):
        started = time.perf_counter()
        listed = CONFIGURATIONS[arm] if arm not in chosen else (chosen[arm]["chosen"],)
        tried = run(arm, arrays, listed, given.threads, given.seed)
        best = max(tried, key=lambda each: each.validate_ndcg)
        np.save(given.out / f"{arm}.npy", best.test)
        if arm not in COLLABORATIVE:
            both = again(arm, arrays, best, given.threads, given.seed)
            np.save(given.out / f"{arm}_all.npy", both)
        said[arm] = {
            "seconds": round(time.perf_counter() - started, 1),
            "chosen": best.configuration,
            "trees": best.trees,
            "tried": [[each.configuration, round(each.validate_ndcg, 5)] for each in tried],
        }
        print(json.dumps({arm: said[arm]}), flush=True)
    (given.out / "peers.json").write_text(json.dumps(said, indent=1) + "\n")
    return 0


def run(
    arm: str, arrays: Arrays, listed: Sequence[Configuration], threads: int, seed: int
) -> list[Tried]:
    """Each configuration of one arm, in the order of the list."""
    if arm in COLLABORATIVE:
        return [
            collaborative(arm, arrays, configuration, threads, seed) for configuration in listed
        ]
    learn = LEARNERS[arm]
    train, validate = answered(arrays, "train"), answered(arrays, "validate", shuffled=True)
    tried = []
    for configuration in listed:
        predict, trees = learn(train, validate, ROUNDS, configuration, threads, seed)
        ndcg = judge(arrays, predict(arrays["X_validate"]))
        tried.append(Tried(configuration, ndcg, predict(arrays["X_test"]), trees))
    return tried


def again(arm: str, arrays: Arrays, best: Tried, threads: int, seed: int) -> np.ndarray:
    """Scores of the test window by the best configuration, fitted to both windows at once."""
    learn = LEARNERS[arm]
    train, validate = answered(arrays, "train"), answered(arrays, "validate")
    both = Answered(
        *(
            np.concatenate(each)
            for each in zip(vars(train).values(), vars(validate).values(), strict=True)
        )
    )
    predict, _ = learn(both, None, best.trees, best.configuration, threads, seed)
    return predict(arrays["X_test"])


def judge(arrays: Arrays, score: np.ndarray) -> float:
    """Mean NDCG@10 of the validate window's observed labels, ties broken by chance."""
    gain = np.asarray(GAINS)[arrays["label_validate"]]
    tie = np.random.default_rng(7).random(len(gain))
    return float(np.nanmean(ndcg_at(TOP, gain, score, arrays["sizes_validate"], tie)))


@dataclass(frozen=True)
class Answered:
    """The requests of a window in which the agent did something; `label`, `position`: (n,)."""

    X: np.ndarray
    label: np.ndarray
    position: np.ndarray
    sizes: np.ndarray


def answered(arrays: Arrays, window: str, *, shuffled: bool = False) -> Answered:
    """The others say nothing of order, and libraries count them as an NDCG of 1 (or 0).

    shuffled: rows of a request in random order. They lie in the order shown, by which the
    libraries break ties: few-leaved first trees would measure as the policy that showed them.
    """
    sizes, label = arrays[f"sizes_{window}"], arrays[f"label_{window}"]
    kept = np.add.reduceat(label > 0, np.cumsum(sizes) - sizes) > 0
    rows = np.flatnonzero(np.repeat(kept, sizes))
    if shuffled:
        request = np.repeat(np.arange(int(kept.sum())), sizes[kept])
        rows = rows[np.lexsort([np.random.default_rng(7).random(len(rows)), request])]
    return Answered(
        arrays[f"X_{window}"][rows],
        label[rows].astype(np.int32),
        arrays[f"position_{window}"][rows].astype(np.int32),
        sizes[kept],
    )


def lightgbm(
    learned: Answered,
    judged: Answered | None,
    rounds: int,
    configuration: Configuration,
    threads: int,
    seed: int,
) -> tuple[Predict, int]:
    """LambdaMART (lambdarank) and its trees, stopped by NDCG@10 of `judged` if there is one."""
    import lightgbm as lgb

    # Without positions LightGBM corrects for nothing; with them it learns a bias for each
    # (Yang et al., "Can clicks be both labels and features?", SIGIR 2022, as it documents).
    positions = learned.position - 1 if configuration.get("positions") else None
    train = lgb.Dataset(learned.X, learned.label, group=learned.sizes, position=positions)
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [TOP],
        "label_gain": list(GAINS),
        "lambdarank_truncation_level": configuration["truncation"],
        "learning_rate": configuration["learning_rate"],
        "num_leaves": configuration["num_leaves"],
        "min_data_in_leaf": configuration["min_data_in_leaf"],
        "feature_fraction": configuration.get("columns", 1.0),
        "lambda_l2": configuration.get("l2", 0.0),
        "num_threads": threads,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    stop = {}
    if judged is not None:
        against = lgb.Dataset(judged.X, judged.label, group=judged.sizes, reference=train)
        early = lgb.early_stopping(PATIENCE, verbose=False)
        stop = {"valid_sets": [against], "callbacks": [early]}
    booster = lgb.train(parameters, train, rounds, **stop)
    trees = booster.best_iteration if judged is not None else rounds
    return lambda X: np.asarray(booster.predict(X, num_iteration=trees, num_threads=threads)), trees


def xgboost(
    learned: Answered,
    judged: Answered | None,
    rounds: int,
    configuration: Configuration,
    threads: int,
    seed: int,
) -> tuple[Predict, int]:
    """rank:ndcg and its trees, stopped likewise; its gain is 2 ** label - 1, as GAINS."""
    import xgboost as xgb

    def matrix(window: Answered, reference: Any = None) -> Any:
        made = xgb.QuantileDMatrix(
            window.X, window.label, ref=reference, nthread=threads, max_bin=256
        )
        made.set_group(window.sizes)
        return made

    train = matrix(learned)
    parameters = {
        "objective": "rank:ndcg",
        "eval_metric": f"ndcg@{TOP}",
        "lambdarank_pair_method": "topk",
        "lambdarank_num_pair_per_sample": configuration["pairs"],
        # rows lie in the order shown, from which XGBoost takes the positions
        "lambdarank_unbiased": bool(configuration.get("positions")),
        "eta": configuration["eta"],
        "max_depth": configuration["max_depth"],
        "min_child_weight": configuration["min_child_weight"],
        "colsample_bytree": configuration.get("columns", 1.0),
        "reg_lambda": configuration.get("l2", 1.0),
        "tree_method": "hist",
        "nthread": threads,
        "seed": seed,
        "verbosity": 0,
    }
    stop = {}
    if judged is not None:
        stop = {"evals": [(matrix(judged, train), "validate")], "early_stopping_rounds": PATIENCE}
    booster = xgb.train(parameters, train, rounds, verbose_eval=False, **stop)
    trees = booster.best_iteration + 1 if judged is not None else rounds
    return lambda X: np.asarray(booster.inplace_predict(X, iteration_range=(0, trees))), trees


LEARNERS = {"lightgbm": lightgbm, "xgboost": xgboost}
CONFIGURATIONS = {"lightgbm": LIGHTGBM, "xgboost": XGBOOST, **COLLABORATIVE}


def collaborative(
    arm: str, arrays: Arrays, configuration: Configuration, threads: int, seed: int
) -> Tried:
    """A recommender of agents x items, learned again and again as the log grows.

    Leads live for days, so ids alone would know next to nothing. An agent's view, hold or
    purchase therefore counts for the lead and for its tokens (area, price decile, intent,
    bedrooms), and a lead's score is its own plus the mean of its tokens'.
    """
    scores = {}
    for window in ("validate", "test"):
        parts = []
        for matrix, columns, rows in refits(arrays, window):
            factor = SCORES[arm](matrix, configuration, threads, seed)
            parts.append(items_score(factor, columns, arrays, window, rows))
        scores[window] = np.concatenate(parts)
    return Tried(configuration, judge(arrays, scores["validate"]), scores["test"])


def refits(
    arrays: Arrays, window: str
) -> Iterator[tuple[sparse.csr_matrix, np.ndarray, np.ndarray]]:
    """For each stretch of a window: agents x items so far, item -> column or -1, its rows.

    Items are tokens first, then leads. Gains of an agent and an item are summed and damped
    by a logarithm.
    """
    at, sizes = arrays[f"at_{window}"], arrays[f"sizes_{window}"]
    tokens, agents = arrays["tokens"], int(arrays["agents"])
    first_lead = int(tokens.max()) + 1
    step = REFIT_DAYS[window] * US_PER_DAY
    stretch = (at - at[0]) // step
    for number in np.unique(stretch):
        now = at[0] + number * step
        rows = np.flatnonzero(np.repeat(stretch == number, sizes))
        known = arrays["log_known"] < now
        agent, lead = arrays["log_agent"][known], arrays["log_lead"][known]
        gain, seen = np.asarray(GAINS)[arrays["log_label"][known]], arrays["log_known"][known]
        alive = seen >= now - LEAD_DAYS * US_PER_DAY
        item = np.concatenate([tokens[lead].ravel(), first_lead + lead[alive]])
        who = np.concatenate([np.repeat(agent, tokens.shape[1]), agent[alive]])
        worth = np.concatenate([np.repeat(gain, tokens.shape[1]), gain[alive]])
        used, column = np.unique(item, return_inverse=True)
        columns = np.full(first_lead + len(tokens), -1)
        columns[used] = np.arange(len(used))
        matrix = sparse.csr_matrix((worth, (who, column)), shape=(agents, len(used)))
        matrix.sum_duplicates()
        matrix.data = np.log1p(matrix.data)
        yield matrix, columns, rows


def items_score(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    columns: np.ndarray,
    arrays: Arrays,
    window: str,
    rows: np.ndarray,
) -> np.ndarray:
    """A lead's own score plus the mean of its tokens'; what nobody touched counts 0."""
    tokens = arrays["tokens"]
    lead = arrays[f"lead_{window}"][rows]
    agent = np.repeat(arrays[f"agent_{window}"], arrays[f"sizes_{window}"])[rows]

    def of(item: np.ndarray) -> np.ndarray:
        column = columns[item]
        return np.where(column >= 0, score(agent, np.maximum(column, 0)), 0.0)

    pseudo = np.mean([of(tokens[lead, each]) for each in range(tokens.shape[1])], axis=0)
    return np.asarray(of(int(tokens.max()) + 1 + lead) + pseudo)


def _factors(model: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda agent, item: np.einsum("ij,ij->i", users[agent], items[item])


def als(
    matrix: sparse.csr_matrix, configuration: Configuration, threads: int, seed: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Implicit ALS (Hu, Koren and Volinsky 2008)."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=configuration["factors"],
        regularization=configuration["l2"],
        iterations=10,
        num_threads=threads,
        random_state=seed,
        use_gpu=False,
    )
    model.fit(matrix.astype(np.float32), show_progress=False)
    return _factors(model)


def bpr(
    matrix: sparse.csr_matrix, configuration: Configuration, threads: int, seed: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Bayesian personalised ranking (Rendle et al. 2009)."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=configuration["factors"],
        regularization=configuration["l2"],
        iterations=50,
        learning_rate=0.05,
        num_threads=threads,
        random_state=seed,
        use_gpu=False,
    )
    model.fit(matrix.astype(np.float32), show_progress=False)
    return _factors(model)


def item_knn(
    matrix: sparse.csr_matrix, configuration: Configuration, threads: int, seed: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Items like those the agent chose, by cosine (Sarwar et al. 2001)."""
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    unit = matrix @ sparse.diags(1.0 / np.maximum(length, 1e-12))
    like = np.asarray((unit.T @ unit).todense())
    np.fill_diagonal(like, 0.0)
    keep = min(configuration["neighbours"], len(like) - 1)
    least = -np.partition(-like, keep, axis=1)[:, keep]
    like[like < least[:, None]] = 0.0
    scores = np.asarray(matrix @ like.T)
    return lambda agent, item: scores[agent, item]


def ease(
    matrix: sparse.csr_matrix, configuration: Configuration, threads: int, seed: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Embarrassingly shallow autoencoder (Steck 2019), solved on the agents' side.

    With A the agents' Gram matrix, (X'X + l2)^-1 = (I - X'(XX' + l2)^-1 X) / l2 (Woodbury), so
    120 agents cost a 120 x 120 inverse however many items there are.
    """
    X, l2 = np.asarray(matrix.todense()), configuration["l2"]
    inner = np.linalg.solve(X @ X.T + l2 * np.eye(len(X)), X)
    diagonal = (1.0 - np.einsum("ij,ij->j", X, inner)) / l2
    # X B with B = I - P / diag(P), whose diagonal is 0; X P = inner
    scores = X - inner / diagonal
    return lambda agent, item: scores[agent, item]


SCORES = {"als": als, "bpr": bpr, "item_knn": item_knn, "ease": ease}

if __name__ == "__main__":
    raise SystemExit(main())
