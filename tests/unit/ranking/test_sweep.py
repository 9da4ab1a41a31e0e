"""The sweep: its budget, its runs, and how it goes on after it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import mlflow
import numpy as np
import optuna
import pytest

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.ingest.market import load_market
from aiqleads.ranking import registry
from aiqleads.ranking import sweep as module
from aiqleads.ranking.dataset import Dataset, load_dataset
from aiqleads.ranking.importance import importances
from aiqleads.ranking.registry import log_training
from aiqleads.ranking.sweep import Sweep, sweep, with_best
from aiqleads.ranking.train import Trained, without_idle_openers
from aiqleads.settings import Settings

FAST = {"iterations": 12, "early_stopping_rounds": 5}
#: without what the wall clock decides
FIGURES = ["ndcg10", "trees", "depth", "learning_rate", "l2_leaf_reg", "rsm", "label_gains"]

SWEEPING = """
import sys
from pathlib import Path
from aiqleads.settings import Settings
from aiqleads.ingest.market import load_market
from aiqleads.ranking.dataset import load_dataset
from aiqleads.ranking.sweep import sweep
settings = Settings(home=Path(sys.argv[1]))
market = load_market("lucas", settings)
train, validate = (load_dataset(settings, market, w) for w in ("train", "validate"))
sweep(settings, "lucas", train, validate, trials=500, losses=["QueryRMSE"],
      params={"iterations": 12, "early_stopping_rounds": 5})
"""


Two = tuple[Settings, Dataset, Dataset]


@pytest.fixture(scope="module")
def two(
    tmp_path_factory: pytest.TempPathFactory, windows: tuple[Dataset, Dataset]
) -> tuple[Settings, Dataset, Dataset]:
    """One home for all, since to make its tracking store takes seconds, and two windows.

    Each test has a seed of its own, and with it a study.
    """
    home = Settings(home=tmp_path_factory.mktemp("swept"))
    for window in windows:
        (home.home / window.source).write_bytes(b"")
    return home, *windows


def small(two: Two, seed: int, **how: object) -> Sweep:
    home, train, validate = two
    return sweep(  # type: ignore[arg-type]
        home, "lucas", train, validate, losses=["QueryRMSE"], params=FAST, seed=seed, **how
    )


def run_of(home: Settings, run_id: str) -> mlflow.entities.Run:
    mlflow.set_tracking_uri(home.tracking_uri)
    return mlflow.MlflowClient().get_run(run_id)


def trials_of(home: Settings, sweep_run: str) -> list[mlflow.entities.Run]:
    mlflow.set_tracking_uri(home.tracking_uri)
    client = mlflow.MlflowClient()
    (experiment,) = (e for e in client.search_experiments() if e.name == "lead_ranker")
    nested = f"tags.mlflow.parentRunId = '{sweep_run}' and tags.kind = 'trial'"
    return list(client.search_runs([experiment.experiment_id], nested))


def test_trials_are_nested_runs_and_the_best_is_theirs(two: Two) -> None:
    found = small(two, 1, trials=3, note="a first look")
    assert len(found.trials) == found.fresh == 3
    assert found.best.validate_mean == found.trials["ndcg10"][0] == found.trials["ndcg10"].max()
    assert found.best.params["depth"] == found.trials["depth"][0]
    parent = run_of(two[0], found.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["note"] == "a first look"
    assert parent.data.tags["best.depth"] == str(found.best.params["depth"])
    assert parent.data.metrics["best_validate_ndcg10"] == found.best.validate_mean
    assert {d.dataset.name for d in parent.inputs.dataset_inputs} == {"train", "validate"}
    nested = trials_of(two[0], found.run_id)
    assert {run.info.status for run in nested} == {"FINISHED"}
    assert {run.data.metrics["validate_ndcg10"] for run in nested} == set(found.trials["ndcg10"])
    client = mlflow.MlflowClient()
    assert all(not client.list_artifacts(run.info.run_id) for run in nested)


def test_a_second_call_goes_on_and_a_finished_one_is_only_read(two: Two) -> None:
    first = small(two, 2, trials=2)
    more = small(two, 2, trials=3)
    assert (more.key, more.run_id, more.fresh) == (first.key, first.run_id, 1)
    again = small(two, 2, trials=3)
    assert again.fresh == 0
    assert again.trials.equals(more.trials)
    # the best may be another process's: it is made again, and is the same
    assert again.best.scorer.version == more.best.scorer.version
    assert len(trials_of(two[0], first.run_id)) == 3
    assert small(two, 3, trials=1).key != first.key


def test_seconds_are_a_budget_over_all_calls(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()  # a trial looks at the clock twice: each takes one second
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    found = small(two, 4, seconds=2.5)
    assert found.trials["seconds"].tolist() == [1.0, 1.0]
    assert small(two, 4, seconds=2.5).fresh == 0
    assert small(two, 4, seconds=3.0).fresh == 1
    assert small(two, 4, seconds=1_000.0, trials=3).fresh == 0
    assert small(two, 5, seconds=0.001).fresh == 1  # one trial always runs


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({}, "needs a budget"),
        ({"trials": -1}, "budget"),
        ({"seconds": -0.5}, "budget"),
        ({"seconds": float("nan")}, "budget"),
        ({"trials": 3, "seconds": float("inf")}, "budget"),
    ],
)
def test_a_budget_that_is_none_is_refused(
    budget: dict[str, float], words: str, windows: tuple[Dataset, Dataset], home: Settings
) -> None:
    with pytest.raises(InvalidInput, match=words):
        sweep(home, "lucas", *windows, **budget)  # type: ignore[arg-type]
    assert not (home.mlruns / "optuna.db").exists()


def test_an_unknown_loss_is_refused(windows: tuple[Dataset, Dataset], home: Settings) -> None:
    with pytest.raises(UnknownName, match="no loss Guess"):
        sweep(home, "lucas", *windows, trials=1, losses=["Guess"])


def test_a_trial_that_breaks_is_failed_and_its_sweep_can_go_on(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Trained:
        raise MemoryError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(module, "train_ranker", broken)
        with pytest.raises(MemoryError):
            small(two, 6, trials=2)
    found = small(two, 6, trials=2)
    assert len(found.trials) == 2
    states = sorted(run.info.status for run in trials_of(two[0], found.run_id))
    assert states == ["FAILED", "FINISHED", "FINISHED"]


@pytest.mark.parametrize("where", ["begin_trial", "end_trial"])
def test_a_process_that_ends_between_tracking_and_study_leaves_no_loose_trial(
    two: Two, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for the end of the process: nothing after it is done."""

    done = getattr(registry, where)

    def killed(*given: object) -> None:
        done(*given)
        raise Killed

    seed = {"begin_trial": 10, "end_trial": 11}[where]
    with monkeypatch.context() as patched:
        patched.setattr(registry, where, killed)
        patched.setattr(registry, "fail_trial", lambda *_: None)
        patched.setattr(optuna.Study, "tell", lambda *_, **__: None)
        with pytest.raises(Killed):
            small(two, seed, trials=1)
    found = small(two, seed, trials=1)
    states = sorted(run.info.status for run in trials_of(two[0], found.run_id))
    assert states == ["FAILED", "FINISHED"]


@pytest.mark.timeout(280)
def test_a_killed_sweep_goes_on_as_if_it_had_not_been(
    home_writer: Callable[..., Settings], two: Two
) -> None:
    home = home_writer()
    market = load_market("lucas", home)
    train, validate = (load_dataset(home, market, name) for name in ("train", "validate"))
    with subprocess.Popen(
        [sys.executable, "-c", SWEEPING, str(home.home)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        done = 0
        while done < 2:
            line = process.stdout.readline()
            assert line, "the sweep ended by itself"
            done += "trial is finished" in line
        time.sleep(0.1)  # into the third trial
        process.send_signal(signal.SIGKILL)
    (settings_of_straight, *_), windows = two, (train, validate)
    found = small((home, *windows), 7, trials=5)
    assert 0 < found.fresh <= 3
    states = [run.info.status for run in trials_of(home, found.run_id)]
    assert "RUNNING" not in states
    assert states.count("FINISHED") == 5

    straight = small((settings_of_straight, *windows), 7, trials=5)
    assert (straight.key, straight.fresh) == (found.key, 5)
    for name in FIGURES:
        assert found.trials[name].tolist() == straight.trials[name].tolist(), name
    assert found.best.scorer.version == straight.best.scorer.version


def test_two_processes_cannot_run_one_sweep(two: Two) -> None:
    key = small(two, 8, trials=1).key
    with module._study(two[0], f"lucas-{key}", 8), pytest.raises(InvalidInput, match="another"):
        small(two, 8, trials=2)


def test_the_label_gains_reach_training_and_not_the_measure(
    windows: tuple[Dataset, Dataset],
) -> None:
    worth = np.array([0.0, 1.0, 5.0, 15.0])
    revalued = module._Revalued.of(windows[0], worth)
    answered = revalued.answered()
    assert set(answered.gain) <= set(worth)
    assert (answered.gain == worth[answered.label]).all()
    assert answered.digest == windows[0].answered().digest
    assert len(answered.sizes) == len(windows[0].answered().sizes)

    drawn = {"loss": "QueryRMSE", "depth": 4, "learning_rate": 0.1}
    plain, steep = (
        module._fit({**drawn, "label_gains": gains}, *windows, FAST, threads=1)
        for gains in ("1,3,7", "1,2,10")
    )
    assert plain.scorer.version != steep.scorer.version
    assert steep.params["label_gains"] == "1,2,10"


def test_the_label_gains_hold_when_idle_openers_are_left_out(
    windows: tuple[Dataset, Dataset],
) -> None:
    train, validate = windows
    # One agent opens all that it sees, the others hold now and then what they bought before.
    idle = np.repeat(train.agent_id == train.agent_id[0], train.sizes)
    label = np.where(train.label == 3, 2, train.label)
    label = np.where(idle, 1, label).astype(np.int8)
    train = replace(train, label=label)
    assert len(without_idle_openers(train).sizes) < len(train.sizes)
    drawn = {"loss": "QueryRMSE", "depth": 4, "learning_rate": 0.1}
    plain, steep = (
        module._fit({**drawn, "label_gains": gains}, train, validate, FAST, threads=1)
        for gains in ("1,3,7", "1,5,15")
    )
    assert plain.scorer.version != steep.scorer.version


def test_a_funnel_is_searched_with_the_funnels_own_defaults(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, train, validate = two
    given: list[dict[str, object]] = []

    def fits(
        _train: Dataset, _validate: Dataset, _loss: str, params: object, _threads: int
    ) -> None:
        given.append(dict(params))  # type: ignore[call-overload]
        raise RuntimeError("seen")

    monkeypatch.setattr(module, "train_ranker", fits)
    with pytest.raises(RuntimeError, match="seen"):
        sweep(home, "lucas", train, validate, trials=1, losses=["Funnel"], seed=77)
    assert "iterations" not in given[0], "it would take the place of the funnel's own"


def test_the_best_takes_the_place_of_its_loss_only_if_it_is_better(trained: Trained) -> None:
    other = replace(trained, loss="YetiRank")
    better = replace(trained, validate_ndcg=trained.validate_ndcg + 0.01)
    assert with_best([trained, other], better) == [other, better]
    worse = replace(trained, validate_ndcg=trained.validate_ndcg - 0.01)
    assert with_best([trained, other], worse) == [other, trained]
    assert with_best([other], better) == [other, better]


def test_a_training_says_which_sweep_it_took_its_ranker_from(two: Two) -> None:
    home, train, validate = two
    found = small(two, 9, trials=1)
    training = log_training(
        home,
        "lucas",
        [found.best],
        (train, validate),
        importances={found.best.loss: importances(found.best.scorer, validate.X)},
        sweep_run=found.run_id,
    )
    assert run_of(home, training.run_id).data.tags["sweep_run"] == found.run_id
    assert training.models["QueryRMSE"].card.version == found.best.scorer.version
