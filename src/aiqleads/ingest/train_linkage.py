"""Trains the linkage's weights from submissions whose people are known; run offline.

`python -m aiqleads.ingest.train_linkage LABELLED.parquet OUT.json`

LABELLED: the columns that the linkage reads and `person`.

1. splink on DuckDB estimates m from the label and u by random sampling. The levels are
   those of `comparisons`, which DuckDB calls as functions, so that training and use cannot
   say different things of a pair.
2. log2(m / u) takes comparisons for independent, and candidates for random pairs; neither
   holds, as a household has its home, surname and phone in common at once. A logistic
   regression over the candidate pairs corrects the weights: it starts at splink's, with
   the penalty PENALTY on leaving them (a Gaussian prior around them), so that a level that
   the data hardly shows keeps splink's weight.
3. The threshold is the least sum of weights at which THRESHOLD_PRECISION of the linked
   pairs are right, but no less than even odds.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from duckdb.func import PythonUDFType
from duckdb.sqltypes import BIGINT, TINYINT
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from splink import Linker
from splink.backends.duckdb import DuckDBAPI

from aiqleads.ingest.blocking import FULL, keys_of
from aiqleads.ingest.comparisons import LEVELS, NULL, Compared, Model, compare, weigh
from aiqleads.ingest.identity import Identities, identities

FLOORS = {"first": 0.002, "last": 0.001}
SAMPLED_PAIRS = 4e6
SEED = 20_261_123
THRESHOLD_PRECISION = 0.997
PENALTY = 1.0
_LEAST = 1e-7  # of a level that the data never shows
#: numbers of the plan that are kept for fiction: area codes by the lines 555-0100 to 0199
_FICTION_NUMBERS = 780 * 100


def splink_settings(told: dict[str, Any] | None = None) -> dict[str, Any]:
    """splink's settings for the levels of `comparisons`; told: a trained linkage_model.json."""
    comparisons = []
    for name, labels in LEVELS.items():
        levels: list[dict[str, Any]] = [
            {"sql_condition": f"{name}_level(row_l, row_r) = {NULL}", "is_null_level": True}
        ]
        for number, label in enumerate(labels):
            level: dict[str, Any] = {
                "sql_condition": f"{name}_level(row_l, row_r) = {number}",
                "label_for_charts": label,
            }
            if number == 0 and name in FLOORS:
                level |= {
                    "tf_adjustment_column": name,
                    "tf_minimum_u_value": FLOORS[name],
                    "disable_tf_exact_match_detection": True,
                }
            if told:
                m_and_u = told["comparisons"][name][number]
                level |= {"m_probability": m_and_u["m"], "u_probability": m_and_u["u"]}
            levels.append(level)
        comparisons.append({"output_column_name": name, "comparison_levels": levels})
    return {
        "link_type": "dedupe_only",
        "unique_id_column_name": "row",
        "comparisons": comparisons,
        "blocking_rules_to_generate_predictions": ["l.block = r.block"],
        "additional_columns_to_retain": ["person"],
        "probability_two_random_records_match": told["probability_two_random_records_match"]
        if told
        else 1e-4,
    }


def linker(people: Identities, frame: pd.DataFrame, told: dict[str, Any] | None = None) -> Linker:
    """splink over submissions; frame: columns of its own beside row, first and last."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    for name in LEVELS:
        connection.create_function(
            f"{name}_level",
            _level_function(people, name),
            [BIGINT, BIGINT],
            TINYINT,
            type=PythonUDFType.ARROW,
        )
    table = frame.assign(row=np.arange(len(people)), first=people.first, last=people.last)
    table["block"] = 0
    for name in ("first", "last"):
        table[name] = table[name].where(table[name] != "", None)
    database = DuckDBAPI(connection=connection)
    return Linker(database.register(table), splink_settings(told), log_level="ERROR")


def _level_function(people: Identities, name: str) -> Any:
    def level(i: pa.Array, j: pa.Array) -> pa.Array:
        ends = (each.to_numpy(zero_copy_only=False).astype(np.int64) for each in (i, j))
        return pa.array(compare(people, *ends).levels[name])

    return level


def trained(labelled: pd.DataFrame) -> dict[str, Any]:
    """What linkage_model.json says."""
    people, person = identities(labelled), labelled["person"].to_numpy(object)
    splink = linker(people, pd.DataFrame({"person": person}))
    splink.training.estimate_u_using_random_sampling(max_pairs=SAMPLED_PAIRS, seed=SEED)
    splink.training.estimate_m_from_label_column("person")
    told = splink.misc.save_model_to_json()
    everyone = len(people) * (len(people) - 1) / 2
    made: dict[str, Any] = {
        "trained": datetime.now(UTC).date().isoformat(),
        "about": f"{len(people)} invented submissions of {labelled['person'].nunique()} people",
        "probability_two_random_records_match": _matching(labelled["person"]) / everyone,
        "floors": FLOORS,
        "rarity": dict.fromkeys(FLOORS, 1.0),
        "threshold": 0.0,
        "comparisons": {each["output_column_name"]: _levels(each) for each in told["comparisons"]},
    }
    _not_in_the_data(made["comparisons"]["phone"])
    _correct(made, people, person)
    return made


def _not_in_the_data(phone: list[dict[str, float]]) -> None:
    """The labelled people write for some months only, and none has a number of fiction."""
    exact, _, late, fiction, *_ = phone
    late["m"] = fiction["m"] = exact["m"]
    fiction["u"] = 1 / _FICTION_NUMBERS


def _matching(person: pd.Series) -> int:
    size = person.value_counts()
    return int((size * (size - 1) // 2).sum())


def _levels(comparison: dict[str, Any]) -> list[dict[str, float]]:
    rows = [row for row in comparison["comparison_levels"] if not row.get("is_null_level")]
    return [
        {x: max(float(row.get(f"{x}_probability") or 0.0), _LEAST) for x in ("m", "u")}
        for row in rows
    ]


def _correct(made: dict[str, Any], people: Identities, person: NDArray[np.object_]) -> None:
    """Weights, prior and threshold from the pairs that share a key."""
    for levels in made["comparisons"].values():
        for level in levels:
            level["weight"] = float(np.log2(level["m"] / level["u"]))
    prior = made["probability_two_random_records_match"]
    made["prior"] = float(np.log2(prior / (1 - prior)))
    i, j = _candidates(people)
    compared = compare(people, i, j)
    right = person[i] == person[j]
    model = Model.of(made)
    weights = weigh(compared, model)
    features, places = _features(compared, weights, model)
    start = made["prior"] + np.sum(list(weights.values()), axis=0)
    free = ~compared.vetoed
    moved = regression(features[free], right[free], start[free] * np.log(2)) / np.log(2)
    for (name, number), by in zip(places, moved, strict=True):
        if number >= 0:
            made["comparisons"][name][number]["weight"] += float(by)
        elif name == "prior":
            made["prior"] += float(by)
        else:
            made["rarity"][name] += float(by)
    for levels in made["comparisons"].values():
        for level in levels:
            level["weight"] = round(level["weight"], 3)
    made["threshold"] = _threshold(Model.of(made), compared, right)


def _candidates(people: Identities) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    blocks: dict[str, list[int]] = {}
    for row, keys in enumerate(keys_of(people)):
        for key in keys:
            blocks.setdefault(key, []).append(row)
    found = {
        ends for rows in blocks.values() if len(rows) <= FULL for ends in combinations(rows, 2)
    }
    ends = np.array(sorted(found), np.int64)
    return ends[:, 0], ends[:, 1]


def _features(
    compared: Compared, weights: dict[str, NDArray[np.float64]], model: Model
) -> tuple[NDArray[np.float64], list[tuple[str, int]]]:
    """What the correction may move: one column a level, a name's rarity and the prior."""
    columns: list[NDArray[np.float64]] = [np.ones(len(compared.vetoed))]
    places = [("prior", NULL)]
    for name, level in compared.levels.items():
        for number in range(len(LEVELS[name])):
            columns.append((level == number).astype(np.float64))
            places.append((name, number))
        if name in model.shares:
            exact = level == 0
            columns.append(np.where(exact, weights[name] - model.weights[name][0], 0.0))
            places.append((name, NULL))
    return np.column_stack(columns), places


def regression(
    features: NDArray[np.float64], right: NDArray[np.bool_], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients (k,) of a logistic regression with a ridge.

    features (n, k); right (n,); start (n,): log odds (natural) before any correction.
    """
    sign = np.where(right, 1.0, -1.0)

    def loss(moved: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (start + features @ moved)
        slope = features.T @ (-sign * expit(-margin)) + PENALTY * moved
        return float(np.logaddexp(0, -margin).sum() + PENALTY * (moved @ moved) / 2), slope

    best = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(best.x, np.float64)


def _threshold(model: Model, compared: Compared, right: NDArray[np.bool_]) -> float:
    total = model.prior + np.sum(list(weigh(compared, model).values()), axis=0)
    free = ~compared.vetoed
    total, right = total[free], right[free]
    order = np.argsort(-total)
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(precision >= THRESHOLD_PRECISION)
    return round(max(float(total[order][enough[-1]]), 0.0), 2)


def main(arguments: list[str]) -> int:
    """Reads the labelled table, writes the model."""
    labelled, out = map(Path, arguments)
    made = trained(pd.read_parquet(labelled))
    out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
