"""The search for hyper-parameters: trials by Optuna, each an MLflow run under one sweep.

Trials are proposed by the tree-structured Parzen estimator (Bergstra et al. 2011) and judged
by the mean NDCG@10 on the validate window, of observed labels weighed with the attention that
their places drew (`Trained.validate_mean`), never by the simulated market's truth. The study
lies in `mlruns/optuna.db`, so a sweep whose process was killed goes on where it stood: finished
trials count, one that was running is marked as failed and tried again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import structlog
from numpy.typing import NDArray
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.ranking import funnel, registry
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.train import DEFAULTS, LOSSES, Trained, train_ranker
from aiqleads.settings import Settings

log = structlog.get_logger(__name__)

#: raised whenever `_suggested` draws something else: older studies then stay apart
SPACE_VERSION = 2
#: what an opened, a held and a bought lead is worth to training; judged is always by 1, 3, 7
LABEL_GAINS = ("1,3,7", "1,2,3", "1,2,10", "1,5,15")
#: losses that learn from the validate window in the end, whose labels keep their usual worth
_USUAL_GAINS = frozenset({"Funnel"})
#: trials drawn at random before the estimator has something to estimate from
_AT_RANDOM = 6


@dataclass(frozen=True)
class Sweep:
    """A finished search.

    run_id: of its parent run in MLflow. trials: one row a finished trial, best first: trial,
    ndcg10, seconds, trees and the parameters. best: the ranker of the best trial, with its
    `params`. fresh: trials of this call; the others were finished before.
    """

    key: str
    run_id: str
    trials: pd.DataFrame
    best: Trained
    fresh: int


@dataclass(frozen=True)
class _Budget:
    trials: int
    seconds: float

    def __post_init__(self) -> None:
        if self.trials < 0 or not math.isfinite(self.seconds) or self.seconds < 0:
            raise InvalidInput(
                f"a sweep has a budget of trials and of seconds, not {self.trials} and "
                f"{self.seconds}; 0 is without limit"
            )
        if not self.trials and not self.seconds:
            raise InvalidInput("a sweep needs a budget: a number of trials, or of seconds")

    def allows(self, finished: Sequence[FrozenTrial]) -> bool:
        """Whether one more trial fits, if it takes as long as those before it did."""
        if self.trials and len(finished) >= self.trials:
            return False
        taken = [float(trial.user_attrs["seconds"]) for trial in finished]
        return not self.seconds or not taken or sum(taken) + float(np.mean(taken)) <= self.seconds


class _Revalued(Dataset):
    """A window whose labels are worth something else to training."""

    gains: NDArray[np.float64]

    @classmethod
    def of(cls, window: Dataset, gains: NDArray[np.float64]) -> _Revalued:
        made = cls(**vars(window))
        object.__setattr__(made, "gains", gains)
        return made

    @property
    def gain(self) -> NDArray[np.float64]:
        """What each row is worth to training, (n,)."""
        return self.gains[self.label]

    def where(self, kept: NDArray[np.bool_]) -> Dataset:
        """The requests that `kept` (G,) marks, worth the same."""
        return _Revalued.of(super().where(kept), self.gains)


def sweep(
    settings: Settings,
    market: str,
    train: Dataset,
    validate: Dataset,
    *,
    trials: int = 0,
    seconds: float = 0.0,
    losses: Sequence[str] = tuple(LOSSES),
    params: Mapping[str, Any] | None = None,
    seed: int = 7,
    threads: int = 1,
    note: str = "",
    run_key: str = "",
) -> Sweep:
    """Searches until `trials` are finished or `seconds` are used up, whichever is first.

    A limit of 0 does not limit, and one of the two must. Both count over all calls with the
    same market, windows, losses, `params`, seed and threads: those share one study. The first
    trial always runs; a further one starts only if one of mean length still fits. params: held
    fixed in all trials, e.g. the most trees and when to stop. With one thread the same trials
    come in the same order with the same figures, killed in between or not. Raises InvalidInput
    without a budget, or while another process runs the same sweep; UnknownName for a loss.
    """
    budget = _Budget(trials, seconds)
    if unknown := [loss for loss in losses if loss not in LOSSES]:
        raise UnknownName(f"no loss {', '.join(unknown)}; there are {', '.join(LOSSES)}")
    # Each loss keeps its own defaults beneath: the funnel has other ones than the rest.
    fixed = {"random_seed": seed, **(params or {})}
    key = _key(market, train, validate, losses, fixed, seed, threads)
    with _study(settings, f"{market}-{key}", seed) as study:
        run_id = registry.open_sweep(settings, market, key, (train, validate), note, run_key)
        _give_up_interrupted(settings, study, run_id)
        fresh = 0
        best: Trained | None = None
        while budget.allows(_finished(study)):
            # A sampler that goes on from where a killed process stood would need its inner
            # state; seeded by the number of finished trials it draws the same either way.
            study.sampler = _sampler(seed, len(_finished(study)))
            trial = study.ask()
            drawn = _suggested(trial, losses)
            with _noted(settings, study, trial, run_id, drawn) as note_result:
                ranker = _fit(drawn, train, validate, fixed, threads)
                note_result(ranker)
            fresh += 1
            best = ranker if study.best_trial.number == trial.number else best
        if best is None:  # found by a process before this one: made again from its parameters
            best = _fit(study.best_trial.params, train, validate, fixed, threads)
        table = _table(_finished(study))
        registry.close_sweep(settings, run_id, study.best_value, best.params, len(table))
        return Sweep(key, run_id, table, best, fresh)


def with_best(trained: Sequence[Trained], best: Trained) -> list[Trained]:
    """The rankers of a training, the sweep's best in the place of its loss's if it is better.

    Better by the mean NDCG@10 on the validate window, as `best_of` chooses.
    """
    kept = [each for each in trained if each.loss != best.loss]
    rival = next((each for each in trained if each.loss == best.loss), None)
    return [*kept, rival if rival and rival.validate_mean >= best.validate_mean else best]


@contextmanager
def _noted(
    settings: Settings, study: optuna.Study, trial: Trial, sweep_run: str, drawn: Mapping[str, Any]
) -> Iterator[Callable[[Trained], None]]:
    """Keeps study and tracking in step: running, then finished with a result, or failed.

    The study is told last, so whatever it counts as finished is whole in the tracking too.
    """
    started = time.monotonic()
    run_id = registry.begin_trial(settings, sweep_run, trial.number, drawn)
    trial.set_user_attr("run_id", run_id)

    def finished(ranker: Trained) -> None:
        registry.end_trial(settings, run_id, ranker)
        trial.set_user_attr("trees", ranker.scorer.card.best_iteration + 1)
        trial.set_user_attr("seconds", time.monotonic() - started)
        study.tell(trial, ranker.validate_mean)
        log.info(
            "trial is finished",
            trial=trial.number,
            ndcg10=round(ranker.validate_mean, 4),
            best=round(study.best_value, 4),
        )

    try:
        yield finished
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        registry.fail_trial(settings, run_id)
        raise


def _suggested(trial: Trial, losses: Sequence[str]) -> dict[str, Any]:
    """What is searched, and in which range; names are CatBoost's."""
    drawn = {
        "loss": trial.suggest_categorical("loss", list(losses)),
        "depth": trial.suggest_int("depth", 4, 8),
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
        "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 1.0, 30.0, log=True),
        "random_strength": trial.suggest_float("random_strength", 0.01, 10.0, log=True),
        "rsm": trial.suggest_float("rsm", 0.3, 1.0),
    }
    if drawn["loss"] not in _USUAL_GAINS:
        drawn["label_gains"] = trial.suggest_categorical("label_gains", LABEL_GAINS)
    return drawn


def _fit(
    drawn: Mapping[str, Any],
    train: Dataset,
    validate: Dataset,
    fixed: Mapping[str, Any],
    threads: int,
) -> Trained:
    """The ranker of a trial's parameters; the same with one thread whenever it is made."""
    own = dict(drawn)
    loss, gains = own.pop("loss"), own.pop("label_gains", LABEL_GAINS[0])
    worth = np.array([0.0, *map(float, gains.split(","))])
    ranker = train_ranker(_Revalued.of(train, worth), validate, loss, {**fixed, **own}, threads)
    return replace(ranker, params={**ranker.params, "label_gains": gains})


def _give_up_interrupted(settings: Settings, study: optuna.Study, sweep_run: str) -> None:
    """Trials of a process that is no more have failed; the next trial draws the same again.

    A trial can have finished in the tracking and not in the study, and be running in the
    tracking without the study knowing its run: both are failed.
    """
    registry.fail_running_trials(settings, sweep_run)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if run_id := trial.user_attrs.get("run_id"):
            registry.fail_trial(settings, run_id)
        log.warning("a trial was interrupted and will be tried again", trial=trial.number)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _table(finished: Sequence[FrozenTrial]) -> pd.DataFrame:
    rows = [
        {
            "trial": trial.number,
            "ndcg10": trial.value,
            "seconds": trial.user_attrs["seconds"],
            "trees": trial.user_attrs["trees"],
            **trial.params,
        }
        for trial in finished
    ]
    table = pd.DataFrame(rows).sort_values(["ndcg10", "trial"], ascending=[False, True])
    return table.reset_index(drop=True)


def _sampler(seed: int, done: int) -> TPESampler:
    drawn = np.random.SeedSequence([seed, done]).generate_state(1)
    return TPESampler(n_startup_trials=_AT_RANDOM, seed=int(drawn[0]))


def _key(
    market: str,
    train: Dataset,
    validate: Dataset,
    losses: Sequence[str],
    fixed: Mapping[str, Any],
    seed: int,
    threads: int,
) -> str:
    """12 hex digits of all that decides what a trial with given parameters would give."""
    named = [LOSSES[loss] for loss in losses]
    parts = [SPACE_VERSION, market, train.digest, validate.digest, named, seed, threads]
    defaults = [sorted(each.items()) for each in (DEFAULTS, funnel.DEFAULTS)]
    text = json.dumps([parts, defaults, sorted(fixed.items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def _study(settings: Settings, name: str, seed: int) -> Iterator[optuna.Study]:
    """The study of that name, for this process alone; the lock goes with the process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings.mlruns.mkdir(parents=True, exist_ok=True)
    with (settings.mlruns / f".sweep-{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(f"the sweep {name} is running in another process") from error
        yield _opened(settings, name, seed)


def _opened(settings: Settings, name: str, seed: int) -> optuna.Study:
    """Two processes that make the database at once would break each other: one by one."""
    with (settings.mlruns / ".optuna.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        storage = optuna.storages.RDBStorage(f"sqlite:///{settings.mlruns / 'optuna.db'}")
        return optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=_sampler(seed, 0),
        )
