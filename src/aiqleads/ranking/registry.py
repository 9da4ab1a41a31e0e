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
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature
from mlflow.types.schema import Schema, TensorSpec

from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ranking.compare import Comparison, Verdict
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.importance import importance_shift
from aiqleads.ranking.scorer import Card, Scorer
from aiqleads.ranking.slices import gate
from aiqleads.ranking.train import Trained, best_of
from aiqleads.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

EXPERIMENT = "lead_ranker"
MODEL = "lead_ranker"
SCORER_ARTIFACT = "scorer"
IMPORTANCES_ARTIFACT = "importances.csv"
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
    sweep_run: str = "",
) -> Training:
    """Logs a training and gives the alias `challenger` to the ranker best on validate.

    windows: the datasets it read, logged with their digests. importances: loss -> table.
    figures: file name -> figure of the parent run; "<loss>/<name>" puts one on that child.
    sweep_run: the sweep that found one of the rankers. How the challenger's importances moved
    since the training before is logged with the parent (`importance_shift.csv`).
    """
    chosen = best_of(trained)
    shown = dict(figures or {})
    shift = importance_shift(previous_importances(settings, market), importances[chosen.loss])
    with _tracking(settings) as experiment:
        tags = {"market": market, "note": note, "run_key": run_key}
        tags |= {"sweep_run": sweep_run} if sweep_run else {}
        with mlflow.start_run(
            experiment_id=experiment,
            run_name=f"train {market}",
            tags=tags | {"kind": "training", "challenger": chosen.loss},
        ) as parent:
            _log_inputs(settings, windows)
            mlflow.log_text(shift.to_csv(index=False), "importance_shift.csv")
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
        found = _trainings(experiment, market, most=1)
        if not found:
            raise NotReady(f"nothing was trained on market {market} yet: aiqleads run train_ranker")
        return _training(experiment, found[0])


def previous_importances(settings: Settings, market: str, skip: int = 0) -> pd.DataFrame | None:
    """Importances of the newest training's challenger, or of one `skip` trainings before.

    None where there are not so many trainings.
    """
    with _tracking(settings) as experiment:
        found = _trainings(experiment, market, most=skip + 1)
        if len(found) <= skip:
            return None
        training = _training(experiment, found[skip])
        return _importances(training.models[training.challenger])


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
        known = comparison.champion_version or comparison.left_out_version
        if known != in_force:
            raise InvalidInput(
                f"the comparison knows the champion {known or '(none)'}, "
                f"in force is {in_force or '(none)'}: compare again"
            )
        verdict = gate(comparison)
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
        return _artifact(registered.run_id, IMPORTANCES_ARTIFACT)


def open_sweep(
    settings: Settings,
    market: str,
    key: str,
    windows: Sequence[Dataset],
    note: str = "",
    run_key: str = "",
) -> str:
    """The parent run of a sweep, made on the first call for its key, running again; its id."""
    with _tracking(settings) as experiment:
        client = MlflowClient()
        known = client.search_runs(
            [experiment], f"tags.kind = 'sweep' and tags.sweep = '{key}'", max_results=1
        )
        if known:
            run_id = str(known[0].info.run_id)
        else:
            tags = {"kind": "sweep", "sweep": key, "market": market}
            with mlflow.start_run(
                experiment_id=experiment, run_name=f"sweep {market}", tags=tags
            ) as run:
                _log_inputs(settings, windows)
                run_id = str(run.info.run_id)
        client.update_run(run_id, status="RUNNING")
        client.log_batch(run_id, tags=[RunTag("note", note), RunTag("run_key", run_key)])
        return run_id


def begin_trial(
    settings: Settings, sweep_run: str, number: int, drawn: Mapping[str, object]
) -> str:
    """A run nested in a sweep's, running, with the trial's parameters; returns its id."""
    with _tracking(settings) as experiment:
        client = MlflowClient()
        market = client.get_run(sweep_run).data.tags["market"]
        tags = {
            "mlflow.parentRunId": sweep_run,
            "kind": "trial",
            "trial": str(number),
            "market": market,
        }
        run = client.create_run(experiment, tags=tags, run_name=f"trial {number}")
        client.log_batch(
            run.info.run_id, params=[Param(name, str(value)) for name, value in drawn.items()]
        )
        return str(run.info.run_id)


def end_trial(settings: Settings, run_id: str, trained: Trained) -> None:
    """Curve and figures of a trial, which is finished with them; its ranker is not kept."""
    with _tracking(settings):
        client = MlflowClient()
        client.log_batch(run_id, metrics=_metrics(trained))
        client.set_terminated(run_id, "FINISHED")


def fail_trial(settings: Settings, run_id: str) -> None:
    """Marks a trial's run as failed."""
    with _tracking(settings):
        MlflowClient().set_terminated(run_id, "FAILED")


def fail_running_trials(settings: Settings, sweep_run: str) -> None:
    """Marks the runs of a sweep as failed that are still running, of processes that are not."""
    with _tracking(settings) as experiment:
        client = MlflowClient()
        nested = f"tags.mlflow.parentRunId = '{sweep_run}' and attributes.status = 'RUNNING'"
        for run in client.search_runs([experiment], nested):
            client.set_terminated(run.info.run_id, "FAILED")


def close_sweep(
    settings: Settings, run_id: str, best: float, params: Mapping[str, object], trials: int
) -> None:
    """A sweep's outcome: how many trials, the best figure, and the parameters that gave it."""
    with _tracking(settings):
        client = MlflowClient()
        now = int(time.time() * 1000)
        figures = {"best_validate_ndcg10": best, "trials": trials}
        client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), now, trials) for name, value in figures.items()],
            # tags, since a sweep that goes on may find better ones and a Param is for ever
            tags=[RunTag(f"best.{name}", str(value)) for name, value in params.items()],
        )
        client.set_terminated(run_id, "FINISHED")


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
        client.log_batch(
            run_id,
            metrics=_metrics(trained),
            params=[Param(name, str(value)) for name, value in trained.params.items()],
            tags=[RunTag("scorer_version", trained.scorer.version)],
        )
        for name, figure in figures.items():
            mlflow.log_figure(figure, name)
        with tempfile.TemporaryDirectory() as folder:
            trained.scorer.save(Path(folder) / SCORER_ARTIFACT)
            importances.to_csv(Path(folder) / IMPORTANCES_ARTIFACT, index=False)
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


def _metrics(trained: Trained) -> list[Metric]:
    """NDCG@10 after each tree, and the figures of the whole."""
    now = int(time.time() * 1000)
    figures = {
        "validate_ndcg10": trained.validate_mean,
        "trees": trained.scorer.card.best_iteration + 1,
        "seconds": trained.seconds,
    }
    curve = [
        Metric("validate_ndcg10_by_tree", float(value), now, tree)
        for tree, value in enumerate(trained.curve, start=1)
    ]
    return curve + [Metric(name, float(value), now, 0) for name, value in figures.items()]


def _trainings(experiment: str, market: str, most: int) -> list[Run]:
    """Finished trainings of a market, newest first."""
    return list(
        MlflowClient().search_runs(
            [experiment],
            f"tags.kind = 'training' and tags.market = '{market}' "
            "and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=most,
        )
    )


def _training(experiment: str, parent: Run) -> Training:
    client = MlflowClient()
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    models = {
        run.data.tags["loss"]: _registered(_version_of(client, run.info.run_id))
        for run in sorted(children, key=lambda run: run.info.start_time)
    }
    return Training(parent.info.run_id, parent.data.tags["challenger"], models)


def _importances(registered: Registered) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(_artifact(registered.run_id, IMPORTANCES_ARTIFACT))


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
