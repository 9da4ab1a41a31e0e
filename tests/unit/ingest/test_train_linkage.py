"""The offline training, and that splink scores pairs as the linkage does."""

from __future__ import annotations

import json
import runpy
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.ingest import train_linkage
from aiqleads.ingest.comparisons import LEVELS, Model, compare, name_shares, trained_model, weigh
from aiqleads.ingest.identity import identities

CASES = runpy.run_path(str(Path(__file__).parents[2] / "linkage_cases.py"))
MODEL = Path(train_linkage.__file__).with_name("linkage_model.json")


def test_splink_gives_every_pair_the_same_weight() -> None:
    told = json.loads(MODEL.read_text(encoding="utf-8"))
    independent = deepcopy(told)
    for levels in independent["comparisons"].values():
        for level in levels:
            level["weight"] = float(np.log2(level["m"] / level["u"]))
    prior = told["probability_two_random_records_match"]
    independent |= {"prior": float(np.log2(prior / (1 - prior))), "rarity": {"first": 1, "last": 1}}
    people = identities(CASES["submissions"](5, 60, 1.0).iloc[:120])
    shares = {
        f"tf_{name}": [name_shares()[name].get(word, 0.0) for word in getattr(people, name)]
        for name in ("first", "last")
    }
    splink = train_linkage.linker(people, pd.DataFrame({"person": 0, **shares}), told)
    found = splink.inference.predict(threshold_match_probability=0).as_pandas_dataframe()
    i, j = found["row_l"].to_numpy(), found["row_r"].to_numpy()
    # splink takes a name's frequency from its own column, so that swapped names are apart.
    compared = compare(people, i, j)
    straight = (compared.levels["first"] != 0) | (people.first[i] == people.first[j])
    straight &= (compared.levels["last"] != 0) | (people.last[i] == people.last[j])
    ours = Model.of(independent).prior + np.sum(
        list(weigh(compared, Model.of(independent)).values()), axis=0
    )
    assert straight.sum() > 6_000
    theirs = found["match_weight"].to_numpy()
    np.testing.assert_allclose(ours[straight], theirs[straight], atol=1e-4)


@pytest.mark.slow
def test_training_learns_what_speaks_for_one_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_linkage, "SAMPLED_PAIRS", 3e4)
    labelled, out = tmp_path / "labelled.parquet", tmp_path / "model.json"
    CASES["main"]([str(labelled), "3", "250"])
    train_linkage.main([str(labelled), str(out)])
    told = json.loads(out.read_text(encoding="utf-8"))
    model = Model.of(told)
    assert told.keys() == json.loads(MODEL.read_text(encoding="utf-8")).keys()
    for name in ("first", "last", "email", "phone"):
        assert model.weights[name][0] > model.weights[name][len(LEVELS[name]) - 1]
    assert model.threshold >= 0
    assert model.about.endswith("people")


def test_the_correction_leaves_what_the_data_never_shows() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    moved = train_linkage.regression(features, np.array([True, True, False]), np.zeros(3))
    assert moved[0] > 0
    assert moved[1] == 0


def test_weights_of_the_package_were_trained_with_splink() -> None:
    told = json.loads(MODEL.read_text(encoding="utf-8"))
    exact = told["comparisons"]["email"][0]
    assert exact["m"] > 1_000 * exact["u"]
    assert trained_model().about.startswith(told["trained"])
