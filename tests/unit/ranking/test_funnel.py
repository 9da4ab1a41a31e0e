"""Attention told apart from appeal, and the ranker that is made of a funnel's steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.ranking import funnel
from aiqleads.ranking.dataset import Dataset, dataset_of
from aiqleads.ranking.evaluate import ndcg_at
from aiqleads.ranking.examination import LEAST, Examination, learn_examination
from aiqleads.ranking.scorer import ADDITIVE_TO, Scorer
from aiqleads.ranking.train import FUNNEL, Trained, best_of, train_ranker

SMALL = {"iterations": 60, "depth": 3, "early_stopping_rounds": 10, "rsm": 1.0}
SHOWN = 30


def shown_by_a_policy(
    requests: int, seed: int, exponents: tuple[float, float] = (0.5, 1.0), first_day: int = 0
) -> tuple[Dataset, np.ndarray]:
    """Requests of a policy that goes by `a` and by `b`, and what the agents like, (n,), not `b`.

    The agents look at position p with chance p ** -exponent of their device, or, on the map,
    exp(-distance from home), whatever the position.
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    n = requests * SHOWN
    request = np.repeat(np.arange(requests), SHOWN)
    a, b, noise = rng.normal(size=(3, n))
    km = rng.exponential(1.0, n)
    appeal = 0.6 * a - 0.3 * km
    shown_first = 0.5 * a + b + 0.7 * noise
    order = np.lexsort([-shown_first, request])
    a, b, km, appeal = a[order], b[order], km[order], appeal[order]
    position = np.tile(np.arange(1, SHOWN + 1), requests)
    device = np.where(np.arange(requests) % 2 == 0, "desktop", "mobile")[request]
    surface = np.where(np.arange(requests) % 5 == 0, "map", "list")[request]
    exponent = np.where(device == "desktop", *exponents)
    look = np.where(surface == "map", np.exp(-km), position**-exponent)
    looked = rng.random(n) < look
    view = looked & (rng.random(n) < 1 / (1 + np.exp(1.5 - appeal)))
    bought = view & (rng.random(n) < 1 / (1 + np.exp(1.0 - 0.8 * appeal)))
    frame = pd.DataFrame(
        {
            "request_id": [f"R{i:06d}" for i in request],
            "agent_id": [f"A{i % 40:03d}" for i in request],
            "lead_id": [f"L{i:07d}" for i in range(n)],
            "position": position,
            "at_market_us": (first_day + request // 50) * US_PER_DAY,
            "label": np.where(bought, 3, view),
            "price_cents": 4000,
            "device": device,
            "surface": surface,
            "a": a,
            "b": b,
            "home_distance_km2": km**2,
        }
    )
    return dataset_of(frame, "w"), np.exp(appeal)


@pytest.fixture(scope="module")
def biased() -> tuple[Dataset, Dataset]:
    """Train and validate of one policy."""
    return shown_by_a_policy(1200, 1)[0], shown_by_a_policy(500, 2, first_day=100)[0]


@pytest.fixture(scope="module")
def fitted(biased: tuple[Dataset, Dataset]) -> Trained:
    return train_ranker(*biased, FUNNEL, SMALL)


def test_a_request_knows_its_shelf_and_no_feature_does(biased: tuple[Dataset, Dataset]) -> None:
    train = biased[0]
    assert train.features == ("a", "b", "home_distance_km2")
    assert set(train.shelf) == {f"{d}/{s}" for d in ("desktop", "mobile") for s in ("list", "map")}
    half = np.arange(len(train.sizes)) % 2 == 0
    assert set(train.where(half).shelf) == {"desktop/list", "desktop/map"}
    assert train.where(half).digest != replace(train, shelf=train.shelf).where(~half).digest


def test_attention_is_told_apart_from_appeal(biased: tuple[Dataset, Dataset]) -> None:
    train = biased[0]
    found = learn_examination(train)
    log = found.log_attention(train)
    assert log.max() == 0.0
    assert log.min() >= -LEAST
    rows = {
        name: (np.repeat(train.shelf, train.sizes) == name)
        for name in ("desktop/list", "mobile/list")
    }
    for name, exponent in {"desktop/list": 0.5, "mobile/list": 1.0}.items():
        tenth = log[rows[name] & (train.position == 10)]
        assert tenth[0] == pytest.approx(-exponent * np.log(10), abs=0.35), name
    km = np.sqrt(train.column("home_distance_km2"))
    on_map = np.char.endswith(np.repeat(train.shelf, train.sizes).astype(str), "map") & (km < 2)
    slope = np.polyfit(km[on_map], log[on_map], 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.35)


def test_a_log_without_places_has_no_attention(biased: tuple[Dataset, Dataset]) -> None:
    train = biased[0]
    rng = np.random.default_rng(4)
    mixed = replace(
        train,
        label=rng.permutation(train.label),
        shelf=np.full(len(train.sizes), "", dtype=object),
    )
    assert np.abs(learn_examination(mixed).log_attention(mixed)).max() < 0.25
    assert not Examination({}).log_attention(train).any()


def test_the_funnel_finds_the_appeal_where_a_naive_ranker_learns_the_policy(
    biased: tuple[Dataset, Dataset], fitted: Trained
) -> None:
    test, appeal = shown_by_a_policy(400, 3, first_day=200)

    def reached(trained: Trained) -> float:
        return float(np.nanmean(ndcg_at(10, appeal, trained.scorer.score(test.X), test.sizes)))

    naive = train_ranker(*biased, "QueryRMSE", SMALL)
    assert reached(fitted) > reached(naive)
    assert best_of([naive, fitted]) is fitted
    # the score is the log of what a lead is worth, up to a constant
    slope = np.polyfit(fitted.scorer.score(test.X), np.log(appeal), 1)[0]
    assert 0.5 < slope < 1.5


def test_the_funnel_is_one_model_that_repeats_itself_and_survives_its_file(
    biased: tuple[Dataset, Dataset], fitted: Trained, tmp_path: Path
) -> None:
    assert train_ranker(*biased, FUNNEL, SMALL).scorer.version == fitted.scorer.version
    X = biased[1].X.copy()
    X[::7, 1] = np.nan
    fitted.scorer.save(tmp_path / "scorer")
    again = Scorer.load(tmp_path / "scorer")
    assert again.version == fitted.scorer.version
    score = fitted.scorer.score(X)
    assert score.tobytes() == again.score(X).tobytes()
    assert score[5:25].tobytes() == fitted.scorer.score(X[5:25]).tobytes()
    parts = again.contributions(X[:50])
    np.testing.assert_allclose(parts.sum(axis=1) + again.base, score[:50], atol=ADDITIVE_TO)
    card = fitted.scorer.card
    assert (card.loss, len(fitted.curve)) == (FUNNEL, card.best_iteration + 1)
    assert card.trained_until_market_us == biased[1].at_market_us.max() + 1


def test_the_kept_figures_are_of_the_model_that_had_not_seen_the_validate_window(
    biased: tuple[Dataset, Dataset], fitted: Trained
) -> None:
    train, validate = biased
    assert fitted.curve[-1] == pytest.approx(fitted.validate_mean, abs=1e-9)
    chosen = funnel.fit_funnel(
        train,
        validate,
        fitted.examination,
        {**fitted.params, "loss_function": "Poisson", "logging_level": "Silent"}
        | {"allow_writing_files": False},
    )
    assert set(chosen.trees) == set(funnel.PARTS)
    assert fitted.scorer.model.tree_count_ == sum(chosen.trees.values())
    before = chosen.merged().predict(validate.X)
    assert np.abs(before - fitted.scorer.score(validate.X)).max() > 1e-3


@pytest.mark.slow
def test_a_page_of_twenty_is_scored_and_explained_within_a_request(
    biased: tuple[Dataset, Dataset], fitted: Trained
) -> None:
    page = np.asfortranarray(biased[1].X[:20])
    taken = []
    for _ in range(5):
        started = process_time()
        fitted.scorer.score(page)
        taken.append(process_time() - started)
    assert min(taken) < 0.010
