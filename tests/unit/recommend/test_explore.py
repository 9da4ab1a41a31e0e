"""Drawn pages: the logged chance is the chance, and near duplicates do not come twice."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from aiqleads.recommend.diversity import ALONE, TOP, set_aside, twins
from aiqleads.recommend.explore import draw


def gumbels(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).gumbel(size=n)


def test_without_noise_the_order_is_that_of_the_scores() -> None:
    page = draw(np.array([1.0, 3.0, 3.0, 2.0]), None, 1.0, 3, tie=np.array([0, 2, 1, 3]))
    assert page.order.tolist() == [2, 1, 3]
    assert page.propensity.tolist() == [1.0, 1.0, 1.0]


def test_an_empty_page_is_a_page() -> None:
    for noise in (None, np.zeros(0)):
        page = draw(np.zeros(0), noise, 1.0, 5, twin=np.zeros(0, np.int64))
        assert page.order.tolist() == page.propensity.tolist() == []


@pytest.mark.parametrize("twin", [None, np.array([0, 0, ALONE, ALONE])])
def test_logged_chances_are_how_often_pages_come(twin: np.ndarray | None) -> None:
    scores, temperature, runs = np.array([1.0, 0.8, 0.0, -0.5]), 0.7, 20_000
    seen: Counter[tuple[int, ...]] = Counter()
    said: dict[tuple[int, ...], float] = {}
    for seed in range(runs):
        page = draw(scores, gumbels(seed, 4), temperature, 4, twin=twin)
        order = tuple(page.order.tolist())
        seen[order] += 1
        said[order] = float(page.propensity.prod())
    assert sum(said.values()) == pytest.approx(1.0, abs=0.01)
    for order, count in seen.items():
        spread = 4 * np.sqrt(said[order] * (1 - said[order]) / runs)
        assert count / runs == pytest.approx(said[order], abs=spread + 1e-4)
    if twin is None:
        assert set(seen) == set(permutations(range(4)))
    else:
        assert all(order[3] in (0, 1) for order in seen), "one of the two comes last"


def test_chances_of_leads_far_behind_are_numbers() -> None:
    """Whose weight is too small for a float is drawn by what is left beside it all the same."""
    page = draw(np.array([0.0, -5.0, -900.0, -901.0]), np.zeros(4), 1.0, 4)
    assert page.propensity == pytest.approx(
        [1 / (1 + np.exp(-5)), 1.0, 1 / (1 + np.exp(-1)), 1.0], abs=1e-12
    )
    twin = np.array([ALONE, ALONE, 7, 7])
    page = draw(np.array([0.0, -5.0, -900.0, -901.0]), np.zeros(4), 1.0, 4, twin=twin)
    assert page.propensity == pytest.approx(
        [1 / (1 + np.exp(-5)), 1.0, 1 / (1 + np.exp(-1)), 1.0], abs=1e-12
    )


def test_a_higher_temperature_is_more_even() -> None:
    scores = np.array([2.0, 0.0, 0.0])
    first = [
        np.mean([draw(scores, gumbels(seed, 3), t, 1).order[0] == 0 for seed in range(2_000)])
        for t in (0.3, 1.0, 10.0)
    ]
    assert first[0] > 0.99 > first[1] > 0.7 > first[2] > 0.3


def test_of_a_group_one_comes_to_the_first_ten_and_the_rest_when_nothing_is_left() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        n = int(rng.integers(1, 40))
        twin = np.where(rng.random(n) < 0.5, rng.integers(0, 5, n), ALONE)
        noise = rng.gumbel(size=n) if rng.random() < 0.5 else None
        page = draw(rng.normal(size=n), noise, 1.0, n, twin=twin)
        assert sorted(page.order.tolist()) == list(range(n))
        alone = int((twin == ALONE).sum()) + len(np.unique(twin[twin != ALONE]))
        top = twin[page.order[: min(TOP, alone)]]
        groups = top[top != ALONE]
        assert len(groups) == len(np.unique(groups))
        assert ((page.propensity > 0) & (page.propensity <= 1)).all()


def test_what_is_set_aside_belongs_to_the_first_ten() -> None:
    twin = np.full(30, ALONE)
    twin[[0, 12]] = 1  # the second waits for the first of the page
    twin[[20, 25]] = 2  # this pair begins after the tenth place
    kept, aside = set_aside(np.arange(30), twin)
    assert aside.tolist() == [12]
    assert kept.tolist() == [n for n in range(30) if n != 12]


def test_two_offers_of_one_home_are_twins_and_two_neighbours_are_not() -> None:
    x = np.array([0.0, 20.0, 35.0, 500.0, 500.0, 900.0, 900.0, 1300.0, 1301.0])
    price = np.array([100, 102, 150, 80, 80, 90, 90, 70, 200]) * 1_000_00
    area = np.array([1500, 1510, 1510, 1200, np.nan, 900, 900, 600, 1400])
    sells = np.array([1, 1, 1, 1, 1, 0, 1, 1, 1], dtype=bool)
    group = twins(x, np.zeros(9), price, area, sells)
    assert group[0] == group[1] != ALONE, "one home, located in two ways"
    assert group[2] == ALONE, "next door, at another price"
    assert group[3] == group[4] != ALONE, "one point, whatever is known of its size"
    assert group[5] == group[6] == ALONE, "who buys has no home to share"
    assert group[7] == group[8] != ALONE, "one building"


def test_twins_are_found_across_squares_and_over_steps() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-2_000, 2_000, (2, 400))
    price, area = np.full(400, 10_000_000), np.full(400, 1_500.0)
    group = twins(x, y, price, area, np.ones(400, dtype=bool))
    near = np.hypot(x[:, None] - x[None, :], y[:, None] - y[None, :]) <= 40.0
    for one, other in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        assert group[one] == group[other] != ALONE
    lonely = near.sum(axis=1) == 1
    assert (group[lonely] == ALONE).all()
    assert twins(x[:0], y[:0], price[:0], area[:0], np.zeros(0, bool)).tolist() == []
