"""Prices of places: what they do to sales, and that the order of scores is kept without them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from aiqleads.recommend.allocation import (
    Chances,
    Demand,
    as_score,
    fit_chances,
    solve,
    worth,
)


def everybody_wants_one(places: float = 1.0, fee: float = 5_000.0) -> Demand:
    """Four agents, four leads: all like lead 0 best, and each likes another nearly as well."""
    agent, lead = (part.ravel() for part in np.indices((4, 4)))
    chance = np.where(lead == 0, 0.30, np.where(lead == agent, 0.25, 0.05))
    return Demand(
        page=agent,
        agent=agent,
        lead=lead,
        chance=chance,
        fee_cents=np.full(16, fee),
        requests=np.full(16, 3.0),
        places=np.full(4, places),
        budget_cents=np.full(4, 1e9),
    )


def test_a_lead_that_all_want_has_a_price_and_the_others_none() -> None:
    prices = solve(everybody_wants_one(), 1.0, 4, usual_fee_cents=5_000.0, share=1.0)
    assert prices.slot_cents[0] > 500
    assert (prices.slot_cents[1:] < prices.slot_cents[0] / 5).all()
    assert (prices.budget == 0).all()


def test_where_places_abound_nothing_has_a_price() -> None:
    prices = solve(everybody_wants_one(places=50.0), 1.0, 4, usual_fee_cents=5_000.0)
    assert (prices.slot_cents == 0).all()
    assert prices.offered.tolist() == [4, 4, 4, 4]


def test_prices_bring_forecast_sales_down_to_the_places_and_revenue_up() -> None:
    rng = np.random.default_rng(3)
    agents, leads, each = 120, 300, 80
    agent = np.repeat(np.arange(agents), each)
    lead = np.concatenate([rng.choice(leads, each, replace=False) for _ in range(agents)])
    liked = rng.normal(size=leads)
    chance = Chances(-4.0, 0.8, 0.55).of(liked[lead] + rng.normal(size=len(lead)))
    places = rng.integers(1, 4, leads).astype(float)
    demand = Demand(
        page=agent,
        agent=agent,
        lead=lead,
        chance=chance,
        fee_cents=np.full(len(lead), 4_000.0),
        requests=np.full(len(lead), 2.5),
        places=places,
        budget_cents=np.full(agents, 1e9),
    )
    plain = solve(demand, 0.55, 30, usual_fee_cents=4_000.0, share=0.0)
    priced = solve(demand, 0.55, 30, usual_fee_cents=4_000.0, share=1.0)
    over = np.maximum(plain.sold - places, 0).sum()
    assert np.maximum(priced.sold - places, 0).sum() < 0.1 * over
    assert np.minimum(priced.sold, places).sum() > 1.1 * np.minimum(plain.sold, places).sum()


def test_a_budget_that_is_too_small_has_a_price_below_one() -> None:
    demand = everybody_wants_one(places=50.0)
    poor = Demand(**{**vars(demand), "budget_cents": np.array([100.0, 1e9, 1e9, 1e9])})
    prices = solve(poor, 1.0, 4, usual_fee_cents=5_000.0)
    assert 0.3 < prices.budget[0] < 1
    assert (prices.budget[1:] == 0).all()


def test_an_agent_buys_a_lead_once_however_often_it_asks() -> None:
    one = everybody_wants_one(places=50.0)
    often = Demand(**{**vars(one), "requests": np.full(16, 1e6)})
    assert solve(often, 1.0, 4, usual_fee_cents=5_000.0).sold.max() <= 4.0
    twice = Demand(
        **{name: np.concatenate([values, values]) for name, values in vars(often).items()
           if name not in ("pair", "places", "budget_cents", "page")},
        page=np.concatenate([one.page, one.page + 4]),
        pair=np.tile(np.arange(16), 2),
        places=one.places,
        budget_cents=one.budget_cents,
    )  # fmt: skip
    assert solve(twice, 1.0, 4, usual_fee_cents=5_000.0).sold.max() <= 4.0


def test_sorting_by_worth_is_the_best_page() -> None:
    rng = np.random.default_rng(5)
    chance, fee = rng.uniform(0.01, 0.3, 5), rng.uniform(2_000, 6_000, 5)
    value = worth(chance, fee, rng.uniform(0, 2_000, 5), 0.2, 4_000.0, share=1.0)
    looks = Chances(0.0, 1.0, 0.7).looks(np.arange(1, 6))
    best = max(permutations(range(5)), key=lambda page: float(value[list(page)] @ looks))
    assert list(best) == np.argsort(-value).tolist()


def test_without_a_share_of_its_own_money_a_lead_stands_by_its_score() -> None:
    scores = np.random.default_rng(1).normal(size=50)
    chance = Chances(-3.0, 0.7, 0.5).of(scores)
    fee, slot = np.linspace(1_000, 9_000, 50), np.linspace(5_000, 0, 50)
    value = as_score(worth(chance, fee, slot, 0.5, 4_000.0, share=0.0))
    np.testing.assert_array_equal(np.argsort(value), np.argsort(scores))
    assert np.isfinite(as_score(np.array([-5.0, 0.0, 1.0]))).all()


def test_chances_are_found_again_in_a_log_of_impressions() -> None:
    rng = np.random.default_rng(2)
    n, true = 120_000, Chances(-3.5, 0.9, 0.6)
    scores, places = rng.normal(2.0, 1.3, n), rng.integers(1, 31, n)
    looked = rng.random(n) < true.looks(places)
    bought = looked & (rng.random(n) < true.of(scores))
    opened = bought | (looked & (rng.random(n) < np.exp(-2.0 + 0.4 * (scores - 2.0))))
    found = fit_chances(scores, places, opened, bought)
    assert found.attention == pytest.approx(true.attention, abs=0.05)
    assert found.slope == pytest.approx(true.slope, rel=0.1)
    assert found.of(np.array([2.0]))[0] == pytest.approx(true.of(np.array([2.0]))[0], rel=0.1)


def test_without_a_log_there_is_a_prior_and_it_keeps_the_order() -> None:
    none = np.zeros(0)
    found = fit_chances(none, none.astype(int), none.astype(bool), none.astype(bool))
    assert found == Chances(pytest.approx(np.log(0.02)), 1.0, 0.5)
    rng = np.random.default_rng(0)
    scores, places = rng.normal(size=5_000), np.tile(np.arange(1, 11), 500)
    against = rng.random(5_000) < 0.1 * (scores < 0)
    assert fit_chances(scores, places, against, against).slope > 0
    chance = found.of(np.array([-50.0, 0.0, 50.0]))
    assert (np.diff(chance) > 0).all()
    assert 0 < chance[0] < chance[2] <= 1
