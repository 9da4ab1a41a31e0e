"""Training of one ranker on observed labels, stopped by its NDCG@10 on the next window.

Nothing here knows the simulated market's truth: labels are what agents were seen to do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from catboost import CatBoost, Pool
from numpy.typing import NDArray

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.evaluate import ndcg_at
from aiqleads.ranking.scorer import Card, Scorer

#: name of a ranker -> CatBoost's loss
LOSSES = {
    # 3 permutations a tree instead of 10: the same NDCG@10 for 60 % of the time
    "YetiRank": "YetiRank:mode=NDCG;top=10;permutations=3",
    "QuerySoftMax": "QuerySoftMax",
    "QueryRMSE": "QueryRMSE",
}
TOP = 10
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

    params: as given to CatBoost. curve: NDCG@10 on the validate window after each tree,
    requests without any answer left out. validate_ndcg: per request (G,), by our own metric.
    """

    scorer: Scorer
    loss: str
    params: dict[str, Any]
    curve: NDArray[np.float64]
    validate_ndcg: NDArray[np.float64]
    seconds: float

    @property
    def validate_mean(self) -> float:
        """Mean NDCG@10 on the validate window, by which rankers of one training are chosen."""
        return float(np.nanmean(self.validate_ndcg))


def train_ranker(
    train: Dataset,
    validate: Dataset,
    loss: str,
    params: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Trained:
    """Fits CatBoost on `train` and keeps the trees up to the best NDCG@10 on `validate`.

    loss: a key of `LOSSES`. params: CatBoost's, over `DEFAULTS`. The result depends on the
    data, the parameters and `random_seed`; scores of another thread count may differ in the
    last bits. Raises UnknownName for another loss, InvalidInput when the windows overlap,
    have other features, or hold no answered request.
    """
    if loss not in LOSSES:
        raise UnknownName(f"no loss {loss!r}; there are {', '.join(LOSSES)}")
    if train.features != validate.features:
        raise InvalidInput("train and validate windows have different features")
    if train.at_market_us.max() >= validate.at_market_us.min():
        raise InvalidInput("the validate window starts before the train window ends")
    # A request without any answer has no order to learn. CatBoost would also count it as
    # NDCG 1 when it decides where to stop.
    learned, judged = train.answered(), validate.answered()
    if not len(learned) or not len(judged):
        raise InvalidInput("no agent answered any request of the train or the validate window")
    chosen = {**DEFAULTS, **(params or {})}
    started = time.perf_counter()
    model = CatBoost(
        {
            **chosen,
            "loss_function": LOSSES[loss],
            "eval_metric": _STOP_BY,
            "thread_count": threads,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }
    )
    model.fit(_pool(learned), eval_set=_pool(judged), use_best_model=True)
    curve = next(iter(model.get_evals_result()["validation"].values()))
    card = Card(
        name="lead_ranker",
        features=train.features,
        loss=loss,
        best_iteration=int(model.get_best_iteration() or 0),
        trained_until_market_us=int(train.at_market_us.max()) + 1,
        data={"train": train.digest, "validate": validate.digest},
    )
    scorer = Scorer(model, card)
    # Ties fall by chance, not in the order of the policy that showed the rows.
    tie = np.random.default_rng(chosen["random_seed"]).random(len(validate))
    return Trained(
        scorer=scorer,
        loss=loss,
        params={**chosen, "loss_function": LOSSES[loss], "thread_count": threads},
        curve=np.asarray(curve, dtype=np.float64),
        validate_ndcg=ndcg_at(TOP, validate.gain, scorer.score(validate.X), validate.sizes, tie),
        seconds=time.perf_counter() - started,
    )


def best_of(trained: Sequence[Trained]) -> Trained:
    """The ranker to challenge with: best mean NDCG@10 on the validate window, first on a tie."""
    return max(trained, key=lambda each: each.validate_mean)


def _pool(dataset: Dataset) -> Pool:
    return Pool(
        dataset.X,
        dataset.gain,
        group_id=dataset.group,
        feature_names=list(dataset.features),
    )
