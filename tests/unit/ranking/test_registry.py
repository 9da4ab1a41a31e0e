"""Trainings, aliases and the way back, in a tracking store of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ranking.compare import Comparison, judge
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.figures import learning_curves
from aiqleads.ranking.importance import importances
from aiqleads.ranking.page import page_path
from aiqleads.ranking.promote import compare_market, comparison_path, moved_since, promote_run
from aiqleads.ranking.registry import (
    Registered,
    Training,
    aliased,
    champion,
    importances_of,
    latest_training,
    log_comparison,
    log_training,
    previous_importances,
    promote,
    rollback,
)
from aiqleads.ranking.train import train_ranker
from aiqleads.settings import Settings


def train(
    settings: Settings, windows: tuple[Dataset, Dataset], iterations: int, note: str = ""
) -> Training:
    params = {"iterations": iterations, "depth": 4, "early_stopping_rounds": 10}
    trained = [train_ranker(*windows, loss, params) for loss in ("QueryRMSE", "QuerySoftMax")]
    return log_training(
        settings,
        "lucas",
        trained,
        windows,
        importances={each.loss: importances(each.scorer, windows[1].X) for each in trained},
        figures={
            "learning_curves.png": learning_curves(trained),
            "QueryRMSE/curve.png": learning_curves(trained[:1]),
        },
        note=note,
        run_key="k1",
    )


def test_from_training_to_champion_and_back(
    home_writer: Callable[..., Settings], windows: tuple[Dataset, Dataset]
) -> None:
    home = home_writer()
    for missing in (lambda: champion(home), lambda: latest_training(home, "lucas")):
        with pytest.raises(NotReady):
            missing()
    with pytest.raises(NotReady, match="no previous"):
        rollback(home)

    assert previous_importances(home, "lucas") is None
    first = train(home, windows, 15, note="a first try")
    assert shift_of(home, first)["before"].isna().all()
    assert latest_training(home, "lucas") == first
    assert set(first.models) == {"QueryRMSE", "QuerySoftMax"}
    with pytest.raises(NotReady, match="market ames"):
        latest_training(home, "ames")
    check_runs(home, first, windows)

    chosen = first.models[first.challenger]
    assert aliased(home, "challenger") == chosen
    comparison = compare_market(home, "lucas")
    assert page_path(home, "lucas").stat().st_size > 10_000
    assert {"tier", "agent", "lead", "intent", "region"} == {s.name for s in comparison.slices}
    assert moved_since(home, "lucas", chosen, None)[1] == "no earlier ranker to compare with"
    assert comparison.challenger_version == chosen.card.version
    assert comparison.champion_version == ""
    verdict = promote_run(home)
    assert verdict.promoted, verdict.reason
    assert champion(home) == chosen
    check_comparison(home, comparison)

    with pytest.raises(InvalidInput, match=r"in force is .*: compare again"):
        promote(home, chosen.run_id, comparison)
    compare_market(home, "lucas")
    assert promote_run(home).outcome == "unchanged"
    with pytest.raises(NotReady, match="no previous"):
        rollback(home)

    second = train(home, windows, 60)
    newer = second.models[second.challenger]
    assert newer.version > chosen.version
    check_importances(home, second, chosen, newer)
    comparison = compare_market(home, "lucas")
    with pytest.raises(InvalidInput, match="compare again"):
        promote(home, chosen.run_id, comparison)
    with pytest.raises(NotReady, match="has no model"):
        promote(home, second.run_id, comparison)
    forced = replace(comparison, rows=[better(row) for row in comparison.rows])
    without = replace(
        forced, champion_version="", left_out_version=chosen.card.version, note="left out"
    )
    with pytest.raises(InvalidInput, match=r"knows the champion gone, in force is"):
        promote(home, newer.run_id, replace(without, left_out_version="gone"))
    assert promote(home, newer.run_id, without).promoted
    with pytest.raises(InvalidInput, match="compare again"):  # or it would be its own previous
        promote(home, newer.run_id, without)
    assert rollback(home) == chosen
    assert promote(home, newer.run_id, forced).promoted
    assert champion(home) == newer
    assert aliased(home, "previous") == chosen

    assert rollback(home) == chosen == champion(home)
    assert rollback(home) == newer == champion(home)


def shift_of(home: Settings, training: Training) -> pd.DataFrame:
    """The table of moved importances that was logged with a training."""
    mlflow.set_tracking_uri(home.tracking_uri)
    folder = mlflow.MlflowClient().get_run(training.run_id).info.artifact_uri
    return pd.read_csv(
        mlflow.artifacts.download_artifacts(artifact_uri=f"{folder}/importance_shift.csv")
    )


def check_importances(
    home: Settings, second: Training, chosen: Registered, newer: Registered
) -> None:
    """Run over run: what moved since the training before, and since the champion."""
    old, new = (
        pd.read_csv(importances_of(home, model)).set_index("feature")["share"]
        for model in (chosen, newer)
    )
    shift = shift_of(home, second).set_index("feature")
    assert (shift["change"] - (new - old)).abs().max() < 1e-9
    previous = previous_importances(home, "lucas", skip=1)
    assert previous is not None
    assert previous["share"].tolist() == old.loc[previous["feature"]].tolist()
    assert previous_importances(home, "lucas", skip=2) is None
    moved, since = moved_since(home, "lucas", newer, chosen)
    assert since == f"against the champion ({chosen.card.loss})"
    assert moved["change"].abs().max() == pytest.approx(shift["change"].abs().max())
    assert moved_since(home, "lucas", newer, newer)[1] == "against the run before"


def better(row: object) -> object:
    """The same line, its difference to the champion lifted above 0."""
    if not row.over:  # type: ignore[attr-defined]
        return row
    over = {
        peer: {m: replace(i, mean=0.1, low=0.05, high=0.15) for m, i in metrics.items()}
        for peer, metrics in row.over.items()  # type: ignore[attr-defined]
    }
    return replace(row, over=over)  # type: ignore[type-var]


def check_runs(home: Settings, training: Training, windows: tuple[Dataset, Dataset]) -> None:
    """What a person finds in MLflow: parameters, curve, digests, tags, a loadable model."""
    mlflow.set_tracking_uri(home.tracking_uri)
    client = mlflow.MlflowClient()
    parent = client.get_run(training.run_id)
    assert parent.data.tags["note"] == "a first try"
    assert {
        "market": "lucas",
        "run_key": "k1",
        "kind": "training",
    }.items() <= parent.data.tags.items()
    assert "learning_curves.png" in {f.path for f in client.list_artifacts(training.run_id)}
    model = training.models["QueryRMSE"]
    run = client.get_run(model.run_id)
    assert run.data.tags["mlflow.parentRunId"] == training.run_id
    assert run.data.params["loss_function"] == "QueryRMSE"
    assert {d.dataset.name: d.dataset.digest for d in run.inputs.dataset_inputs} == {
        w.name: w.digest for w in windows
    }
    curve = client.get_metric_history(model.run_id, "validate_ndcg10_by_tree")
    assert len(curve) >= model.card.best_iteration + 1
    assert all(0 < point.value <= 1 for point in curve)
    assert 0 < run.data.metrics["validate_ndcg10"] <= 1
    assert {"scorer", "importances.csv", "curve.png"} <= {
        f.path for f in client.list_artifacts(model.run_id)
    }
    assert len(pd.read_csv(importances_of(home, model))) == len(model.card.features)
    assert Path(home.mlruns / "artifacts") in model.path.parents
    native = mlflow.catboost.load_model(f"models:/lead_ranker/{model.version}")
    X = windows[1].X[:200]
    assert np.asarray(native.predict(X)).tobytes() == model.scorer().score(X).tobytes()


def check_comparison(home: Settings, comparison: Comparison) -> None:
    assert Comparison.load(comparison_path(home, "lucas")) == comparison
    run_id = log_comparison(home, comparison, judge(comparison), note="looked at")
    mlflow.set_tracking_uri(home.tracking_uri)
    run = mlflow.MlflowClient().get_run(run_id)
    assert run.data.tags["verdict"] == "promoted"
    mean = comparison.row("popular lately").metrics["ndcg10"].mean
    assert run.data.metrics["popular_lately.ndcg10"] == pytest.approx(mean)


def test_features_that_say_nothing_make_no_champion(
    home_writer: Callable[..., Settings], lucas: object
) -> None:
    from aiqleads.ranking.dataset import load_dataset

    home = home_writer(signal=0.0)
    windows = tuple(load_dataset(home, lucas, name) for name in ("train", "validate"))  # type: ignore[arg-type]
    train(home, windows, 10)  # type: ignore[arg-type]
    compare_market(home, "lucas")
    verdict = promote_run(home)
    assert verdict.outcome == "refused"
    assert "the lower end" in verdict.reason
    with pytest.raises(NotReady, match="there is no champion"):
        champion(home)
