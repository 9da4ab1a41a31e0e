"""Whether the frozen preset is plausible: rates judged by bands that were chosen before a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import load_market
from aiqleads.market_sim.marginals import marginals
from aiqleads.market_sim.simulate import simulate
from aiqleads.settings import Settings

#: lowest and highest rate that a marketplace of this kind would plausibly show
BANDS = {
    "views_per_impression": (0.03, 0.09),
    "holds_per_view": (0.12, 0.35),
    "purchases_per_hold": (0.40, 0.75),
    "purchases_per_request": (0.12, 0.45),
    "returns_per_purchase": (0.02, 0.12),
    "late_share": (0.03, 0.07),
    "sold_out_share": (0.02, 0.20),
    "budget_use": (0.15, 0.60),
    "tight_months_share": (0.02, 0.25),
    "mean_fee_cents": (3_000.0, 11_000.0),
}


@pytest.mark.slow
def test_calm_on_the_sample_is_plausible(tmp_path: Path) -> None:
    home = Settings(home=tmp_path)
    market = load_market("lucas", home)
    ingest(home, "sales_csv", [], market)
    report = simulate(home, market, "calm", agents=120, days=270, seed=7)
    assert report.frozen
    rates = asdict(report.marginals)
    assert set(rates) == set(BANDS)
    outside = {
        name: rate for name, rate in rates.items() if not BANDS[name][0] <= rate <= BANDS[name][1]
    }
    assert not outside
    # What a learned ranker can win: the logged order is better than chance and far from the best.
    figures = report.oracle
    assert figures.ndcg_random < figures.ndcg_logged < figures.ndcg_known < 1.0


def test_rates_are_counted_by_hand() -> None:
    day, month = US_PER_DAY, 30 * US_PER_DAY
    shown = pd.DataFrame({"request_id": ["a", "a", "b"], "lead_id": ["x", "y", "x"]})
    steps = pd.DataFrame(
        {
            "agent_id": "A",
            "lead_id": ["x", "y", "x", "x", "x"],
            "kind": ["view", "view", "hold", "purchase", "return"],
            "at_market_us": [day, day, day, day, 2 * day],
            "arrived_market_us": [day, day + 3_600_000_000, day, day, 2 * day],
            "price_cents": [0, 0, 0, 4000, 0],
        }
    )
    found = marginals(
        leads=pd.DataFrame(
            {"lead_id": ["x", "y", "z"], "expires_market_us": day * 9, "max_buyers": [1, 1, 1]}
        ),
        agents=pd.DataFrame(
            {
                "agent_id": ["A", "B"],
                "joined_market_us": [0, day],
                "monthly_budget_cents": [4500, 9000],
            }
        ),
        rankings=pd.DataFrame({"request_id": ["a", "b"]}),
        impressions=shown,
        interactions=steps,
        months=pd.Series([0, month, 2 * month]).to_numpy(),
        start_us=0,
        end_us=2 * month,
    )
    assert found.views_per_impression == pytest.approx(2 / 3)
    assert found.holds_per_view == found.purchases_per_request == 0.5
    assert found.purchases_per_hold == found.returns_per_purchase == 1.0
    assert found.late_share == pytest.approx(1 / 5)
    assert found.sold_out_share == 0.5  # z was never shown
    assert found.budget_use == pytest.approx(4000 / (4500 + 4500 + 9000))  # B joined too late
    assert found.tight_months_share == pytest.approx(1 / 3)
    assert found.mean_fee_cents == 4000
