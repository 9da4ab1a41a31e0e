"""The scorer: the training library's scores, its directory, its reasons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catboost import Pool

from aiqleads.errors import ContractBroken, InvalidInput, NotReady
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.scorer import ADDITIVE_TO, Card, Scorer, top_reasons
from aiqleads.ranking.train import Trained


def test_scores_are_the_training_librarys_bit_for_bit_missing_values_included(
    scorer_path: Path, trained: Trained, windows: tuple[Dataset, Dataset]
) -> None:
    X = windows[1].X[:1000]
    assert np.isnan(X).any()
    rows = pd.DataFrame(np.ascontiguousarray(X), columns=list(trained.scorer.features))
    library = trained.scorer.model.predict(Pool(rows))
    served = Scorer.load(scorer_path)
    assert served.score(X).tobytes() == library.tobytes()
    assert served.score(np.ascontiguousarray(X)).tobytes() == library.tobytes(), "any memory order"
    assert served.score(X.astype(np.float64)).tobytes() == library.tobytes(), "any width of float"
    one_by_one = np.concatenate([served.score(X[i : i + 1]) for i in range(50)])
    assert one_by_one.tobytes() == library[:50].tobytes(), "a row's score is its own"


def test_rows_of_only_missing_or_unbounded_values_have_a_score(trained: Trained) -> None:
    width = len(trained.scorer.features)
    X = np.vstack([np.full(width, np.nan), np.full(width, np.inf), np.full(width, -np.inf)])
    assert np.isfinite(trained.scorer.score(X)).all()
    assert trained.scorer.score(np.zeros((0, width))).shape == (0,)
    assert trained.scorer.contributions(np.zeros((0, width))).shape == (0, width)


def test_contributions_add_up_to_the_score(
    trained: Trained, windows: tuple[Dataset, Dataset]
) -> None:
    X = windows[1].X[:300]
    parts = trained.scorer.contributions(X)
    assert parts.shape == X.shape
    np.testing.assert_allclose(
        parts.sum(axis=1) + trained.scorer.base, trained.scorer.score(X), atol=ADDITIVE_TO, rtol=0
    )


def test_top_reasons_are_the_largest_contributions_first_column_first_on_a_tie() -> None:
    parts = np.array([[0.1, -0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    assert top_reasons(parts, 3).tolist() == [[1, 3, 0], [0, 1, 2]]


@pytest.mark.parametrize("shape", [(3, 5), (7,), (2, 3, 4)])
def test_another_width_is_refused(trained: Trained, shape: tuple[int, ...]) -> None:
    for method in (trained.scorer.score, trained.scorer.contributions):
        with pytest.raises(InvalidInput, match="expected rows of"):
            method(np.zeros(shape))


def test_equal_trainings_have_equal_files_and_saving_again_changes_nothing(
    scorer_path: Path, tmp_path: Path, trained: Trained
) -> None:
    loaded = Scorer.load(scorer_path)
    assert (loaded.version, loaded.card) == (trained.scorer.version, trained.scorer.card)
    loaded.save(tmp_path / "again")
    for name in ("model.cbm", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (scorer_path / name).read_bytes()
    trained.scorer.save(scorer_path)
    assert Scorer.load(scorer_path).version == loaded.version


def test_a_directory_that_is_no_scorer_is_refused(scorer_path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"model\.json is missing"):
        Scorer.load(tmp_path)
    card = json.loads((scorer_path / "model.json").read_text())

    (scorer_path / "model.json").write_text("{")
    with pytest.raises(ContractBroken, match="cannot be read"):
        Scorer.load(scorer_path)
    (scorer_path / "model.json").write_text(json.dumps({**card, "features": card["features"][1:]}))
    with pytest.raises(ContractBroken, match="its card names"):
        Scorer.load(scorer_path)
    (scorer_path / "model.json").write_text(json.dumps({**card, "model_sha256": "0" * 64}))
    with pytest.raises(ContractBroken, match="is not the model"):
        Scorer.load(scorer_path)


def test_a_card_says_where_the_model_came_from(
    trained: Trained, windows: tuple[Dataset, Dataset]
) -> None:
    card: Card = trained.scorer.card
    assert card.features == windows[0].features
    assert card.data == {"train": windows[0].digest, "validate": windows[1].digest}
    assert windows[0].at_market_us.max() < card.trained_until_market_us
    assert card.trained_until_market_us <= windows[1].at_market_us.min()
    assert card.version == card.model_sha256[:12]


def test_serving_needs_no_training_library_beyond_catboost() -> None:
    heavy = ["mlflow", "sklearn", "evidently", "ibis", "duckdb", "matplotlib", "papermill"]
    code = (
        "import sys; import aiqleads.ranking.scorer; "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
