"""The peers on MovieLens, in the environment of tests/benchmarks/peers: arrays in, scores out.

    python peers_run.py ARRAYS.npz OUT.npz ARM

ARM lightgbm or xgboost: the same candidates and features as the project's rankers; ARRAYS
holds X_w, label_w, position_w, sizes_w of the windows train, validate and test. The
configurations of the peers' own lists are tried with one seed, the best by NDCG@10 of the
validate window is trained with all. ARM als, bpr or item_knn: ARRAYS holds known_w (U, I), and
every configuration's scores come back for both windows, for the caller to choose by validate.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers import run as library

#: of the configuration that is kept
SEEDS = (1, 2, 3, 4, 5)
COLLABORATIVE: dict[str, list[dict[str, Any]]] = {
    "als": [{"factors": f, "l2": r} for f in (16, 32) for r in (1.0, 10.0, 50.0)],
    "bpr": [{"factors": f, "l2": r} for f in (16, 32) for r in (0.01, 0.05)],
    "item_knn": [{"neighbours": k} for k in (20, 50, 100, 200, 400)],
}


def main() -> int:
    path, out, arm = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    with np.load(path) as file:
        arrays = dict(file)
    made = collaborative(arm, arrays) if arm in COLLABORATIVE else learned(arm, arrays)
    partial = out.with_suffix(".partial.npz")
    np.savez(partial, **made)
    partial.replace(out)
    return 0


def learned(arm: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """test: (seeds, n) scores of the chosen configuration; said: what was tried, as JSON."""
    # Positions shown, which some configurations learn from, this log does not have.
    listed = [each for each in library.CONFIGURATIONS[arm] if not each.get("positions")]
    tried = library.run(arm, arrays, listed, 1, SEEDS[0])
    best = max(tried, key=lambda each: each.validate_ndcg)
    train = library.answered(arrays, "train")
    validate = library.answered(arrays, "validate", shuffled=True)

    def by(seed: int) -> np.ndarray:
        learn = library.LEARNERS[arm]
        predict, _ = learn(train, validate, library.ROUNDS, best.configuration, 1, seed)
        return predict(arrays["X_test"])

    # without a draw of columns these libraries come to the same trees by any seed
    again = [by(seed) for seed in (SEEDS[1:] if "columns" in best.configuration else ())]
    said = {
        "chosen": best.configuration,
        "trees": best.trees,
        "tried": [[each.configuration, round(each.validate_ndcg, 5)] for each in tried],
    }
    return {"test": np.array([best.test, *again]), "said": json.dumps(said)}


def collaborative(arm: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """validate, test: (configurations, U, I) float32; said: the configurations, as JSON."""
    made: dict[str, Any] = {"said": json.dumps(COLLABORATIVE[arm])}
    for window in ("validate", "test"):
        known = sparse.csr_matrix(arrays[f"known_{window}"].astype(np.float64))
        users, items = known.shape
        pairs = np.repeat(np.arange(users), items), np.tile(np.arange(items), users)
        made[window] = np.array(
            [
                library.SCORES[arm](known, each, 1, SEEDS[0])(*pairs).reshape(users, items)
                for each in COLLABORATIVE[arm]
            ],
            dtype=np.float32,
        )
    return made


if __name__ == "__main__":
    raise SystemExit(main())
