from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import ndcg_score

from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.market_sim import behavior, oracle
from aiqleads.market_sim.draws import keys_of
from aiqleads.market_sim.policy import draw_slate, hand_scores
from aiqleads.market_sim.presets import load_preset

CALM = load_preset("calm")


def chances_of(card: Any, appeal: Any = 0.0, quality: float = 0.0) -> behavior.Chances:
    card = np.asarray(card, dtype=np.float64)
    return behavior.chances(card, np.full(card.shape, appeal), np.full(card.shape, quality), CALM)


def test_chances_rise_with_the_utility_and_details_count_after_the_click_only() -> None:
    plain, liked = chances_of([-1.0, 0.0, 1.0]), chances_of([-1.0, 0.0, 1.0], appeal=1.0)
    assert (np.diff(plain.purchase) > 0).all()
    assert (plain.view == liked.view).all()
    assert (plain.hold < liked.hold).all()
    assert (plain.buy < liked.buy).all()


def test_a_poor_lead_comes_back_more_often() -> None:
    assert chances_of([0.0], quality=-2.0).back > 2 * chances_of([0.0], quality=1.0).back


def test_potential_outcomes_happen_as_often_as_the_chances_say() -> None:
    lead = keys_of(f"L{n}" for n in range(40_000))
    chance = chances_of(np.full(40_000, 0.8))
    would = behavior.would(1, keys_of(["R"])[0], lead, chance)
    assert would.view.mean() == pytest.approx(chance.view[0], abs=0.01)
    assert would.buy.mean() == pytest.approx(chance.purchase[0], abs=0.01)
    assert would.back.sum() / would.buy.sum() == pytest.approx(chance.back[0], abs=0.02)
    assert not (would.buy & ~would.hold).any()
    assert not (would.hold & ~would.view).any()


def test_every_part_of_the_passing_utility_pulls_its_way() -> None:
    one = np.ones(1)

    def clock(age_hours: float = 24.0, fee: int = 6000) -> float:
        return float(
            behavior.timely_utility(age_hours * one, np.array([fee]), one, 0.5 * one, CALM.taste)[0]
        )

    def state(demand: float = 1.0, viewed: bool = False, recent: int = 0) -> float:
        seen = np.array([viewed])
        return float(behavior.state_utility(demand * one, seen, recent, 0.3, CALM.taste)[0])

    assert clock(age_hours=1.0) > clock()
    assert clock(fee=9000) < clock()
    assert state(demand=5.0) > state()
    assert state(viewed=True) < state()
    assert state(recent=3) < state()


def test_relevance_is_the_expected_gain_of_an_examined_lead() -> None:
    chance = chances_of([-0.5, 0.5])
    lead = keys_of(f"L{n}" for n in range(60_000))
    for n in range(2):
        same = behavior.Chances(*(np.full(60_000, getattr(chance, step)[n])
                                  for step in ("view", "hold", "buy", "back")))  # fmt: skip
        would = behavior.would(2, keys_of([f"R{n}"])[0], lead, same)
        label = np.where(would.view, 1, 0) + np.where(would.hold, 1, 0) + np.where(would.buy, 1, 0)
        label = np.where(would.back, 0, label)
        gained = (2.0**label - 1).mean()
        assert oracle.graded_value(chance, CALM.gains)[n] == pytest.approx(gained, rel=0.03)


def test_without_hidden_is_the_mean_over_the_hidden_draws() -> None:
    rng = np.random.default_rng(0)
    pair = CALM.hidden.pair_sd * rng.normal(size=200_000)
    appeal = CALM.hidden.appeal_sd * rng.normal(size=200_000)
    zero = np.zeros(200_000)
    chance = behavior.chances(0.4 + pair, appeal, zero, CALM)
    sampled = oracle.graded_value(chance, CALM.gains).mean()
    found = oracle.without_hidden(np.array([0.4]), np.zeros(1), CALM)
    assert found[0] == pytest.approx(sampled, rel=0.01)


def test_propensities_are_the_exact_chances_of_plackett_and_luce() -> None:
    logits = np.array([0.3, -0.2, 1.1, 0.0])
    weight = np.exp(logits)
    rng = np.random.default_rng(3)
    counts = dict.fromkeys(permutations(range(4), 3), 0)
    draws = 20_000
    for _ in range(draws):
        order, propensity = draw_slate(logits, rng.gumbel(size=4), 3)
        counts[tuple(order.tolist())] += 1
        left = weight.sum() - np.concatenate([[0], np.cumsum(weight[order])[:-1]])
        assert propensity == pytest.approx(weight[order] / left)
    for order, count in counts.items():
        chance, left = 1.0, weight.sum()
        for row in order:
            chance *= weight[row] / left
            left -= weight[row]
        assert count / draws == pytest.approx(chance, abs=4 * (chance / draws) ** 0.5)


def test_the_hand_score_likes_new_near_and_fitting_leads() -> None:
    score = hand_scores(
        np.array([1.0, 100.0, 1.0, 1.0]),
        np.array([0.9, 0.9, 0.1, 0.9]),
        np.array([True, True, True, False]),
        CALM.policy,
    )
    assert (score[0] > score[1:]).all()


def test_ndcg_is_that_of_the_textbook(frames_of: Callable[..., Any]) -> None:
    tables = frames_of(CALM, days=6)
    truth, shown = tables["oracle"], tables["impressions"]
    figures = oracle.full_oracle(shown, truth)
    scores = [
        ndcg_score([part["relevance"]], [-shown.loc[part.index, "position"]], k=10)
        for _, part in truth.groupby("request_id")
        if len(part) > 1
    ]
    lone = int((truth["request_id"].value_counts() == 1).sum())
    expected = (np.sum(scores) + lone) / (len(scores) + lone)
    assert figures.ndcg_logged == pytest.approx(expected)
    assert figures.ndcg_full == pytest.approx(1.0)
    assert figures.ndcg_random < figures.ndcg_logged < figures.ndcg_known < 1.0
    assert figures.revenue_logged_cents < figures.revenue_full_cents


def test_more_hidden_variance_lowers_the_ceiling(frames_of: Callable[..., Any]) -> None:
    def ceiling(pair_sd: float) -> float:
        hidden = CALM.hidden.model_copy(update={"pair_sd": pair_sd, "appeal_sd": 0.0})
        tables = frames_of(CALM.model_copy(update={"hidden": hidden}), days=8)
        return oracle.full_oracle(tables["impressions"], tables["oracle"]).ndcg_known

    assert ceiling(0.0) == pytest.approx(1.0)
    assert ceiling(0.4) > ceiling(1.2)


def hand_made() -> tuple[pd.DataFrame, pd.DataFrame]:
    shown = pd.DataFrame(
        {
            "request_id": ["a", "a", "b"],
            "lead_id": ["x", "y", "x"],
            "position": [1, 2, 1],
            "price_cents": [1000, 2000, 1000],
        }
    )
    truth = shown[["request_id", "lead_id"]].assign(
        relevance=[0.0, 1.0, 0.0], p_purchase=[0.0, 0.5, 0.0], p_return=[0.0, 0.1, 0.0],
        score_full=[0.0, 1.0, 0.0], score_known=[0.0, 1.0, 0.0],
    )  # fmt: skip
    return shown, truth


def test_a_request_without_value_is_left_out_and_counted_out() -> None:
    figures = oracle.full_oracle(*hand_made(), k=1)
    assert figures.requests == 1
    assert figures.ndcg_logged == 0.0
    assert figures.ndcg_random == 0.5
    assert figures.revenue_full_cents == pytest.approx(2000 * 0.5 * 0.9 / 2)


def test_the_order_of_the_rows_changes_nothing(frames_of: Callable[..., Any]) -> None:
    tables = frames_of(CALM, days=6)
    shuffled = tables["impressions"].sample(frac=1, random_state=1)
    again = oracle.full_oracle(shuffled, tables["oracle"].sample(frac=1, random_state=2))
    figures = oracle.full_oracle(tables["impressions"], tables["oracle"])
    assert dataclasses.asdict(again) == pytest.approx(dataclasses.asdict(figures))


def test_requests_without_truth_are_left_out() -> None:
    shown, truth = hand_made()
    figures = oracle.full_oracle(shown, truth.head(2), k=1)
    assert figures.requests == 1
    assert figures.revenue_full_cents == pytest.approx(2000 * 0.5 * 0.9)


def test_frames_of_different_requests_are_refused() -> None:
    shown, truth = hand_made()
    with pytest.raises(ContractBroken):
        oracle.full_oracle(shown, truth.tail(2))
    with pytest.raises(InvalidInput):
        oracle.full_oracle(shown, truth, k=0)
