"""The one door to MLflow: trainings as nested runs, models with versions and aliases.

A training is a parent run with one child a ranker. Each child carries its scorer's
directory (artifact `scorer`, all that serving needs) and a version of the registered model
`lead_ranker`. The aliases `champion`, `challenger` and `previous` say which is which.
"""

from __future__ import annotations

import fcntl
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature
from mlflow.types.schema import Schema, TensorSpec

from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ranking.compare import Comparison, Verdict, judge
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.scorer import Card, Scorer
from aiqleads.ranking.train import Trained, best_of
from aiqleads.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

EXPERIMENT = "lead_ranker"
MODEL = "lead_ranker"
SCORER_ARTIFACT = "scorer"
Alias = Literal["champion", "challenger", "previous"]


@dataclass(frozen=True)
class Registered:
    """A version of the registered model, and where its scorer's directory lies."""

    version: int
    run_id: str
    path: Path
    card: Card

    def scorer(self) -> Scorer:
        """The ranker itself."""
        return Scorer.load(self.path)


@dataclass(frozen=True)
class Training:
    """A finished training: its parent run, and loss -> registered model."""

    run_id: str
    challenger: str
    models: dict[str, Registered]


def log_training(
    settings: Settings,
    market: str,
    trained: Sequence[Trained],
    windows: Sequence[Dataset],
    *,
    importances: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure] | None = None,
    note: str = "",
    run_key: str = "",
) -> Training:
    """Logs a training and gives the alias `challenger` to the ranker best on validate.

    windows: the datasets it read, logged with their digests. importances: loss -> table.
    figures: file name -> figure of the parent run; "<loss>/<name>" puts one on that child.
    """
    chosen = best_of(trained)
    shown = dict(figures or {})
    with _tracking(settings) as experiment:
        tags = {"market": market, "note": note, "run_key": run_key}
        with mlflow.start_run(
            experiment_id=experiment,
            run_name=f"train {market}",
            tags=tags | {"kind": "training", "challenger": chosen.loss},
        ) as parent:
            _log_inputs(settings, windows)
            for name, figure in shown.items():
                if "/" not in name:
                    mlflow.log_figure(figure, name)
            models = {
                each.loss: _log_ranker(
                    settings,
                    each,
                    windows,
                    importances[each.loss],
                    {
                        name.partition("/")[2]: figure
                        for name, figure in shown.items()
                        if name.startswith(f"{each.loss}/")
                    },
                    tags | {"kind": "ranker", "loss": each.loss},
                    experiment,
                )
                for each in trained
            }
        client = MlflowClient()
        client.set_registered_model_alias(MODEL, "challenger", str(models[chosen.loss].version))
        return Training(parent.info.run_id, chosen.loss, models)


def latest_training(settings: Settings, market: str) -> Training:
    """The newest finished training of a market; NotReady when there is none."""
    with _tracking(settings) as experiment:
        client = MlflowClient()
        found = client.search_runs(
            [experiment],
            f"tags.kind = 'training' and tags.market = '{market}' "
            "and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not found:
            raise NotReady(f"nothing was trained on market {market} yet: aiqleads run train_ranker")
        parent = found[0]
        children = client.search_runs(
            [experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
        )
        models = {
            run.data.tags["loss"]: _registered(_version_of(client, run.info.run_id))
            for run in sorted(children, key=lambda run: run.info.start_time)
        }
        return Training(parent.info.run_id, parent.data.tags["challenger"], models)


def log_comparison(
    settings: Settings,
    comparison: Comparison,
    verdict: Verdict,
    *,
    figures: Mapping[str, Figure] | None = None,
    note: str = "",
    run_key: str = "",
) -> str:
    """Logs a comparison as a run of its own, its verdict among the tags; returns the run's id."""
    with _tracking(settings) as experiment:
        tags = {
            "kind": "comparison",
            "market": comparison.market,
            "note": note,
            "run_key": run_key,
            "verdict": verdict.outcome,
            "reason": verdict.reason,
        }
        with mlflow.start_run(
            experiment_id=experiment, run_name=f"compare {comparison.market}", tags=tags
        ) as run:
            now = int(time.time() * 1000)
            metrics = [
                Metric(f"{_slug(row.name)}.{metric}", interval.mean, now, 0)
                for row in comparison.rows
                for metric, interval in row.metrics.items()
            ]
            MlflowClient().log_batch(run.info.run_id, metrics=metrics)
            for name, figure in (figures or {}).items():
                mlflow.log_figure(figure, name)
            with tempfile.TemporaryDirectory() as folder:
                mlflow.log_artifact(str(comparison.save(Path(folder) / "comparison.json")))
            return str(run.info.run_id)


def holder(settings: Settings, alias: Alias) -> Registered | None:
    """The model that an alias names, or None."""
    with _tracking(settings):
        found = _aliased(MlflowClient(), alias)
        return None if found is None else _registered(found)


def aliased(settings: Settings, alias: Alias) -> Registered:
    """The model that an alias names; NotReady when there is none."""
    found = holder(settings, alias)
    if found is None:
        raise NotReady(f"there is no {alias} yet: aiqleads run train_ranker, then compare")
    return found


def champion(settings: Settings) -> Registered:
    """The model in force; NotReady when none was promoted."""
    return aliased(settings, "champion")


def promote(settings: Settings, run_id: str, comparison: Comparison) -> Verdict:
    """Makes a run's model the champion if the gate lets it; the one before becomes `previous`.

    run_id: of a ranker's run. The verdict is returned either way, and tagged on the model's
    version. Raises InvalidInput when the comparison is of another model or of another
    champion than the one in force, NotReady for a run without a model.
    """
    with _tracking(settings):
        client = MlflowClient()
        version = _version_of(client, run_id)
        challenger, before = _registered(version), _aliased(client, "champion")
        if comparison.challenger_version != challenger.card.version:
            raise InvalidInput(
                f"the comparison is of {comparison.challenger_version}, run {run_id} made "
                f"{challenger.card.version}: compare again"
            )
        in_force = _registered(before).card.version if before else ""
        if comparison.champion_version != in_force and not comparison.note:
            raise InvalidInput(
                f"the comparison knows the champion {comparison.champion_version or '(none)'}, "
                f"in force is {in_force or '(none)'}: compare again"
            )
        verdict = judge(comparison)
        client.set_model_version_tag(MODEL, version.version, "verdict", verdict.outcome)
        client.set_model_version_tag(MODEL, version.version, "reason", verdict.reason)
        if verdict.promoted:
            if before:
                client.set_registered_model_alias(MODEL, "previous", before.version)
            client.set_registered_model_alias(MODEL, "champion", version.version)
        return verdict


def rollback(settings: Settings) -> Registered:
    """Champion and previous change places; returns the champion now.

    Raises NotReady when no other model was champion before.
    """
    with _tracking(settings):
        client = MlflowClient()
        now, before = _aliased(client, "champion"), _aliased(client, "previous")
        if now is None or before is None:
            raise NotReady("there is no previous champion to go back to")
        client.set_registered_model_alias(MODEL, "champion", before.version)
        client.set_registered_model_alias(MODEL, "previous", now.version)
        return _registered(before)


def importances_of(settings: Settings, registered: Registered) -> Path:
    """The CSV of feature importances that was logged with a model."""
    with _tracking(settings):
        return _artifact(registered.run_id, "importances.csv")


class _Window(MetaDataset):
    """A window as MLflow notes it: where it came from, its digest, its size, no rows."""

    def __init__(self, source: DatasetSource, window: Dataset) -> None:
        self._size = {"rows": len(window), "requests": len(window.sizes)}
        super().__init__(source, name=window.name, digest=window.digest)

    @property
    def profile(self) -> dict[str, int]:
        return self._size


def _log_ranker(
    settings: Settings,
    trained: Trained,
    windows: Sequence[Dataset],
    importances: pd.DataFrame,
    figures: Mapping[str, Figure],
    tags: dict[str, str],
    experiment: str,
) -> Registered:
    """One child run: parameters, curve, importances, scorer, a version of the model."""
    client = MlflowClient()
    with mlflow.start_run(
        nested=True, experiment_id=experiment, run_name=trained.loss, tags=tags
    ) as run:
        run_id = run.info.run_id
        _log_inputs(settings, windows)
        now = int(time.time() * 1000)
        metrics = [
            Metric("validate_ndcg10_by_tree", float(value), now, tree)
            for tree, value in enumerate(trained.curve, start=1)
        ]
        figures_now = {
            "validate_ndcg10": trained.validate_mean,
            "trees": trained.scorer.card.best_iteration + 1,
            "seconds": trained.seconds,
        }
        metrics += [Metric(name, float(value), now, 0) for name, value in figures_now.items()]
        client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(name, str(value)) for name, value in trained.params.items()],
            tags=[RunTag("scorer_version", trained.scorer.version)],
        )
        for name, figure in figures.items():
            mlflow.log_figure(figure, name)
        with tempfile.TemporaryDirectory() as folder:
            trained.scorer.save(Path(folder) / SCORER_ARTIFACT)
            importances.to_csv(Path(folder) / "importances.csv", index=False)
            mlflow.log_artifacts(folder)
        info = mlflow.catboost.log_model(
            trained.scorer.model,
            name="model",
            signature=_signature(len(trained.scorer.features)),
            pip_requirements=[f"{name}=={version(name)}" for name in ("catboost", "numpy")],
        )
        made = client.create_model_version(
            MODEL,
            info.model_uri,
            run_id=run_id,
            model_id=info.model_id,
            tags={"loss": trained.loss, "scorer_version": trained.scorer.version},
        )
        return _registered(made)


def _signature(width: int) -> ModelSignature:
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width))]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1,))]),
    )


def _log_inputs(settings: Settings, windows: Sequence[Dataset]) -> None:
    for window in windows:
        with warnings.catch_warnings():  # it knows one kind of local source by two names
            warnings.simplefilter("ignore", UserWarning)
            source = resolve_dataset_source(str(settings.home / window.source))
        mlflow.log_input(_Window(source, window), context=window.name)


def _aliased(client: MlflowClient, alias: Alias) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(MODEL, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _version_of(client: MlflowClient, run_id: str) -> ModelVersion:
    found = client.search_model_versions(f"name = '{MODEL}' and run_id = '{run_id}'")
    if not found:
        raise NotReady(f"run {run_id} has no model")
    return found[0]


def _registered(found: ModelVersion) -> Registered:
    run_id = str(found.run_id)
    path = _artifact(run_id, SCORER_ARTIFACT)
    return Registered(int(found.version), run_id, path, Scorer.load(path).card)


def _artifact(run_id: str, name: str) -> Path:
    """A run's artifact as a local path: where it lies, or a copy if that is not on this machine."""
    folder = MlflowClient().get_run(run_id).info.artifact_uri
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{folder}/{name}"))


def _slug(name: str) -> str:
    return name.replace(" ", "_")


@contextmanager
def _tracking(settings: Settings) -> Iterator[str]:
    """Points MLflow at this home's store and yields the experiment's id.

    The first call makes the database (about 3 s), the experiment, with its artifacts beside
    the database, and the registered model: behind a lock, since two processes that do so at
    once break each other.
    """
    before: Any = mlflow.get_tracking_uri()
    settings.mlruns.mkdir(parents=True, exist_ok=True)
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # type: ignore[no-untyped-call]
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(settings.tracking_uri)
    try:
        with (settings.mlruns / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            experiment = _prepared(settings)
        yield experiment
    finally:
        mlflow.set_tracking_uri(before)


def _prepared(settings: Settings) -> str:
    client = MlflowClient()
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return str(known.experiment_id)
    with suppress(MlflowException):  # made already by a process that was stopped here
        client.create_registered_model(MODEL, description="Ranks leads for an agent.")
    return str(
        client.create_experiment(
            EXPERIMENT, artifact_location=(settings.mlruns / "artifacts").resolve().as_uri()
        )
    )
