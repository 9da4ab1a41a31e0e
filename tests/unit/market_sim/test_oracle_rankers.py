"""Rankers that know the truth, on a market with few slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.market_sim.log import Kind, Log
from aiqleads.market_sim.oracle import graded_value
from aiqleads.market_sim.oracle_rankers import DynamicOracle, SortByTruth
from aiqleads.market_sim.play import Play
from aiqleads.market_sim.policy import Answer, Asked
from aiqleads.market_sim.presets import Preset, load_preset

Market = Callable[..., Play]


@pytest.fixture(scope="module")
def few(leads: pd.DataFrame) -> pd.DataFrame:
    """A sixth of the leads, each for one buyer."""
    return leads.iloc[::6].assign(max_buyers=1)


def eager(name: str = "calm") -> Preset:
    preset = load_preset(name)
    funnel = preset.funnel.model_copy(update={"hold": (-0.5, 0.75), "buy": (0.5, 0.5)})
    asks = preset.requests.model_copy(update={"per_day": (0.6, 0.8, 1.0)})
    rich = preset.agents.model_copy(update={"monthly_budget_cents": (90_000, 90_000, 90_000)})
    return preset.model_copy(update={"funnel": funnel, "requests": asks, "agents": rich})


def revenue(log: Log) -> int:
    return sum(
        look.fee_cents
        for _, kind, look in log.steps
        if kind is Kind.PURCHASE and not look.would_return
    )


@pytest.mark.parametrize("by", ["relevance", "fee"])
def test_sorting_by_the_truth_puts_the_best_of_the_request_first(
    market_of: Market, by: Any
) -> None:
    preset = eager()
    market = market_of(preset, days=5)

    class Watched:
        def rank(self, asked: Asked) -> Answer:
            answer = SortByTruth(market, by).rank(asked)
            chance = market.truth(asked)
            fee = chance.purchase * (1 - chance.back) * asked.fee_cents
            worth = graded_value(chance, preset.gains) if by == "relevance" else fee
            assert (np.diff(worth[answer.order]) <= 0).all()
            assert worth[answer.order[0]] == worth.max()
            assert len(answer.order) == min(30, len(worth))
            assert (answer.propensity == 1.0).all()
            return answer

    market.ranker = Watched()
    market.run_until(market.end_us)
    assert len(market.log.slates) > 20


def test_slots_cost_something_where_many_want_few(market_of: Market, few: pd.DataFrame) -> None:
    def prices(frame: pd.DataFrame) -> np.ndarray:
        market = market_of(eager(), days=12, frame=frame, agents=40)
        market.ranker = oracle = DynamicOracle(market)
        market.run_until(market.world.start_us + US_PER_DAY)
        wanted = oracle.slot_price[:, -1] > 0
        assert wanted.any()
        return oracle.slot_price

    scarce, plenty = prices(few), prices(few.assign(max_buyers=9))
    assert scarce.shape[1] == 1
    assert scarce[:, 0].max() > 500
    # With nine slots the ninth last is worth next to nothing, and the last one the most.
    assert (np.diff(plenty, axis=1) <= 1e-9).mean() > 0.9
    assert plenty[:, -1].mean() < 0.1 * scarce[:, 0].mean()


def test_what_is_worth_more_to_others_is_left_out(market_of: Market, few: pd.DataFrame) -> None:
    market = market_of(eager(), days=3, frame=few)
    oracle = DynamicOracle(market)

    class Dear:
        def rank(self, asked: Asked) -> Answer:
            oracle.rank(asked)  # the day's prices
            oracle.slot_price[asked.lead[::2]] = 1_000_000.0
            answer = oracle.rank(asked)
            worth = oracle.worth(asked)
            assert (worth[answer.order] > 0).all()
            assert (np.diff(worth[answer.order]) <= 0).all()
            assert not (answer.order % 2 == 0).any()
            return answer

    market.ranker = Dear()
    market.run_until(market.end_us)
    assert len(market.log.slates) > 5


def test_looking_ahead_earns_more_where_slots_are_few(market_of: Market, few: pd.DataFrame) -> None:
    earned = {"ahead": 0, "fee": 0, "relevance": 0}
    for seed in (1, 2, 3):
        for name in earned:
            market = market_of(eager(), days=25, frame=few, agents=60, seed=seed)
            market.ranker = (
                DynamicOracle(market) if name == "ahead" else SortByTruth(market, name)  # type: ignore[arg-type]
            )
            market.run_until(market.end_us)
            earned[name] += revenue(market.log)
    assert earned["ahead"] > earned["fee"]
    assert earned["ahead"] > earned["relevance"]


@pytest.mark.parametrize("name", ["adversarial", "cold_start", "price_shock"])
def test_it_ranks_under_every_kind_of_attention(market_of: Market, name: str) -> None:
    market = market_of(eager(name), days=6)
    market.ranker = DynamicOracle(market, horizon_days=5.0)
    market.run_until(market.end_us)
    assert len(market.log.slates) > 20
    assert revenue(market.log) > 0


def test_it_is_the_same_whenever_it_is_asked(market_of: Market, few: pd.DataFrame) -> None:
    logs = []
    for _ in range(2):
        market = market_of(eager(), days=8, frame=few)
        market.ranker = DynamicOracle(market)
        market.run_until(market.end_us)
        logs.append(market.log.steps)
    assert logs[0] == logs[1]
