"""Training of one ranker on observed labels, stopped and judged by the next window.

Nothing here knows the simulated market's truth: labels are what agents were seen to do. Since
they saw most of what stood on top, rankers are judged by labels weighed with the attention
that their places drew (`examination`): by the raw ones, whoever learned the old order wins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from catboost import CatBoost, Pool
from numpy.typing import NDArray

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.ranking import funnel
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.evaluate import Floats, weighed_ndcg_at
from aiqleads.ranking.examination import Examination, learn_examination
from aiqleads.ranking.scorer import Card, Scorer

FUNNEL = "Funnel"
#: name of a ranker -> CatBoost's loss
LOSSES = {
    # 3 permutations a tree instead of 10: the same NDCG@10 for 60 % of the time
    "YetiRank": "YetiRank:mode=NDCG;top=10;permutations=3",
    "QuerySoftMax": "QuerySoftMax",
    "QueryRMSE": "QueryRMSE",
    # three models in one, see `funnel`
    FUNNEL: "Poisson",
}
TOP = 10
#: openings without a single hold from which on an agent is not learned from
IDLE_OPENINGS = 40
#: a label counts at most so many times for having been seen at a place of little attention
#: (clipped as usual: unclipped, a few labels at the bottom decide)
MOST_WEIGHT = 20.0
#: points at which the funnel's curve is measured; between them it is drawn straight
_CURVE_POINTS = 12
#: linear gain as in `evaluate.ndcg_at`; the training window is not scored, it would cost time
_STOP_BY = f"NDCG:top={TOP};type=Base;denominator=LogPosition;hints=skip_train~true"

DEFAULTS: dict[str, Any] = {
    "iterations": 250,
    "depth": 6,
    "learning_rate": 0.1,
    "early_stopping_rounds": 30,
    "random_seed": 7,
}


@dataclass(frozen=True)
class Trained:
    """A ranker and how it came about.

    params: as given to CatBoost. curve: NDCG@10 on the validate window after each tree, of
    raw labels for a single loss, weighed by attention for the funnel, whose parts grow side
    by side; its last is the kept one. validate_ndcg: per request (G,), of labels weighed by
    attention (`evaluate.weighed_ndcg_at`), idle openers left out. judged: the model that this
    is of, which has not learned from the validate window; the scorer itself where that has
    not either. examination: the attention learned from the train window.
    """

    scorer: Scorer
    judged: Scorer
    loss: str
    params: dict[str, Any]
    curve: NDArray[np.float64]
    validate_ndcg: NDArray[np.float64]
    seconds: float
    examination: Examination = field(default_factory=lambda: Examination({}))

    @property
    def validate_mean(self) -> float:
        """Mean weighed NDCG@10 on the validate window, by which rankers are chosen."""
        return float(np.nanmean(self.validate_ndcg))


def train_ranker(
    train: Dataset,
    validate: Dataset,
    loss: str,
    params: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Trained:
    """Fits CatBoost on `train`, as many trees as are best for `validate`.

    loss: a key of `LOSSES`. params: CatBoost's, over `DEFAULTS` (for the funnel, over
    `funnel.DEFAULTS`). A single loss keeps the trees up to its best NDCG@10 on `validate`. The
    funnel's parts are stopped by their likelihood, judged, and then fitted once more on both
    windows with as many trees; `validate_ndcg` is of the model before. The result depends on
    the data, the parameters and `random_seed`; scores of another thread count may differ in
    the last bits. Raises UnknownName for another loss, InvalidInput when the windows overlap,
    have other features, or hold no answered request.
    """
    if loss not in LOSSES:
        raise UnknownName(f"no loss {loss!r}; there are {', '.join(LOSSES)}")
    if train.features != validate.features:
        raise InvalidInput("train and validate windows have different features")
    if train.at_market_us.max() >= validate.at_market_us.min():
        raise InvalidInput("the validate window starts before the train window ends")
    if not (train.label > 0).any() or not (validate.label > 0).any():
        raise InvalidInput("no agent answered any request of the train or the validate window")
    chosen = {**DEFAULTS, **(funnel.DEFAULTS if loss == FUNNEL else {}), **(params or {})}
    started = time.perf_counter()
    whole = {"train": train.digest, "validate": validate.digest}
    train, validate = without_idle_openers(train), without_idle_openers(validate)
    examination = learn_examination(train, chosen["random_seed"], threads)
    given = {
        **chosen,
        "thread_count": threads,
        "allow_writing_files": False,
        "logging_level": "Silent",
    }
    judge = _Judge.of(validate, examination, chosen["random_seed"])
    fit = _fit_funnel if loss == FUNNEL else _fit_single
    fitted = fit(train, validate, loss, given, judge)
    card = Card(
        name="lead_ranker",
        features=train.features,
        loss=loss,
        best_iteration=fitted.best_iteration,
        trained_until_market_us=fitted.until_us,
        data=whole,
    )
    scorer = Scorer(fitted.model, card)
    return Trained(
        scorer=scorer,
        judged=scorer if fitted.judged is fitted.model else Scorer(fitted.judged, card),
        loss=loss,
        params={**chosen, "loss_function": LOSSES[loss], "thread_count": threads},
        curve=fitted.curve,
        validate_ndcg=fitted.validate_ndcg,
        seconds=time.perf_counter() - started,
        examination=examination,
    )


def without_idle_openers(dataset: Dataset) -> Dataset:
    """The requests of agents who are after leads, as far as the window tells.

    Left out is who opened at least `IDLE_OPENINGS` leads and held none: of those who open with
    a purpose, about one in five is held. Programs that collect what they can see look so. In a
    log without any holds nobody does.
    """
    agents, number = np.unique(dataset.agent_id.astype(str), return_inverse=True)
    row = np.repeat(number, dataset.sizes)
    opened = np.bincount(row, weights=dataset.label > 0, minlength=len(agents))
    held = np.bincount(row, weights=dataset.label > 1, minlength=len(agents))
    idle = (opened >= IDLE_OPENINGS) & (held == 0) & held.any()
    return dataset.where(~idle[number]) if idle.any() else dataset


def best_of(trained: Sequence[Trained]) -> Trained:
    """The ranker to challenge with: best `validate_mean`, the first on a tie."""
    return max(trained, key=lambda each: each.validate_mean)


@dataclass(frozen=True)
class _Judge:
    """The validate window with what its labels weigh."""

    dataset: Dataset
    examination: Examination
    gain: Floats
    tie: Floats

    @classmethod
    def of(cls, validate: Dataset, examination: Examination, seed: int) -> _Judge:
        weight = np.minimum(np.exp(-examination.log_attention(validate)), MOST_WEIGHT)
        # Ties fall by chance, not in the order of the policy that showed the rows.
        tie = np.random.default_rng(seed).random(len(validate))
        return cls(validate, examination, validate.gain * weight, tie)

    def ndcg(self, score: Floats) -> Floats:
        """NDCG@10 of each request of the window (G,), weighed."""
        return weighed_ndcg_at(TOP, self.gain, score, self.dataset.sizes, self.tie)


@dataclass(frozen=True)
class _Fitted:
    model: CatBoost
    judged: CatBoost
    best_iteration: int
    until_us: int
    curve: Floats
    validate_ndcg: Floats


def _fit_single(
    train: Dataset, validate: Dataset, loss: str, given: Mapping[str, Any], judge: _Judge
) -> _Fitted:
    model = CatBoost({**given, "loss_function": LOSSES[loss], "eval_metric": _STOP_BY})
    # A request without any answer has no order to learn. CatBoost would also count it as
    # NDCG 1 when it decides where to stop.
    model.fit(_pool(train.answered()), eval_set=_pool(validate.answered()), use_best_model=True)
    curve = next(iter(model.get_evals_result()["validation"].values()))
    return _Fitted(
        model=model,
        judged=model,
        best_iteration=int(model.get_best_iteration() or 0),
        until_us=int(train.at_market_us.max()) + 1,
        curve=np.asarray(curve, dtype=np.float64),
        validate_ndcg=judge.ndcg(_raw(model, validate)),
    )


def _fit_funnel(
    train: Dataset, validate: Dataset, loss: str, given: Mapping[str, Any], judge: _Judge
) -> _Fitted:
    chosen = funnel.fit_funnel(train, validate, judge.examination, given)
    last = max(chosen.trees.values())
    shares = np.linspace(0.0, 1.0, _CURVE_POINTS + 1)[1:]
    scores = chosen.growing(validate, shares)
    curve = [float(np.nanmean(judge.ndcg(score))) for score in scores]
    whole = funnel.refit_funnel(chosen, [train, validate], judge.examination, given)
    judged = chosen.merged()
    return _Fitted(
        model=whole.merged(),
        judged=judged,
        best_iteration=last - 1,
        until_us=int(validate.at_market_us.max()) + 1,
        curve=np.interp(np.arange(1, last + 1), shares * last, curve),
        validate_ndcg=judge.ndcg(_raw(judged, validate)),
    )


def _raw(model: CatBoost, dataset: Dataset) -> Floats:
    return np.asarray(
        model.predict(dataset.X, prediction_type="RawFormulaVal", thread_count=1),
        dtype=np.float64,
    )


def _pool(dataset: Dataset) -> Pool:
    return Pool(
        dataset.X,
        dataset.gain,
        group_id=dataset.group,
        feature_names=list(dataset.features),
    )
