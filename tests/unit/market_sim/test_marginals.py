"""Whether the frozen presets are plausible: rates judged by bands chosen before a run."""

from __future__ import annotations

import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import load_market
from aiqleads.market_sim.marginals import RATES, Marginals, implausible, marginals
from aiqleads.market_sim.presets import preset_names
from aiqleads.market_sim.simulate import simulate
from aiqleads.settings import Settings


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with the sample market's leads."""
    home = Settings(home=tmp_path_factory.mktemp("sample"))
    ingest(home, "sales_csv", [], load_market("lucas", home))
    return home


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_the_presets_are_plausible_on_the_sample(sample: Settings, name: str) -> None:
    # Half of the agents, and the bands are of a whole run: slots last longer, so the share of
    # leads that sell out is the one rate that is not judged here.
    report = simulate(sample, load_market("lucas", sample), name, agents=60, days=None, seed=7)
    assert report.frozen
    assert set(report.implausible) <= {"sold_out_share"}
    # What a learned ranker can win: the logged order is better than chance and far from the best.
    figures = report.oracle
    assert figures.ndcg_random < figures.ndcg_logged < figures.ndcg_known < 1.0


def test_a_rate_outside_of_its_band_is_named() -> None:
    rates = dict.fromkeys(RATES, 0.5)
    bands = {"late_share": (0.0, 0.1), "map_share": (0.5, 0.5)}
    assert implausible(Marginals(**rates), bands) == {"late_share": (0.5, 0.0, 0.1)}


def test_rates_are_counted_by_hand() -> None:
    day, month = US_PER_DAY, 30 * US_PER_DAY
    shown = pd.DataFrame({"request_id": ["a", "a", "b"], "lead_id": ["x", "y", "x"]})
    steps = pd.DataFrame(
        {
            "event_id": ["1", "2", "3", "4", "5", "6", "1"],
            "request_id": ["a", "a", "a", "a", "a", "", "a"],
            "agent_id": ["A", "A", "A", "A", "A", "X0001", "A"],
            "lead_id": ["x", "y", "x", "x", "x", "y", "x"],
            "kind": ["view", "view", "hold", "purchase", "return", "purchase", "view"],
            "at_market_us": [day, day, day, day, 2 * day, day, day],
            "arrived_market_us": [day, day + 3_600_000_000, day, day, 2 * day, day, day + 1],
            "price_cents": [0, 0, 0, 4000, 0, 9000, 0],
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
        rankings=pd.DataFrame(
            {"request_id": ["a", "b"], "agent_id": ["A", "B"], "surface": ["list", "map"]}
        ),
        agents_truth=pd.DataFrame({"agent_id": ["A", "B"], "bot": [False, True]}),
        impressions=shown,
        interactions=steps,
        months=pd.Series([0, month, 2 * month]).to_numpy(),
        start_us=0,
        end_us=2 * month,
    )
    assert found.views_per_impression == pytest.approx(2 / 3)
    assert found.holds_per_view == found.purchases_per_request == 0.5
    assert found.purchases_per_hold == found.returns_per_purchase == 1.0
    assert found.late_share == pytest.approx(1 / 6)
    assert found.sold_out_share == 1.0  # y by a rival; z was never shown
    assert found.budget_use == pytest.approx(4000 / (4500 + 4500 + 9000))  # B joined too late
    assert found.tight_months_share == pytest.approx(1 / 3)
    assert found.mean_fee_cents == 4000
    assert found.duplicate_share == pytest.approx(1 / 6)
    assert found.map_share == found.bot_request_share == found.rival_purchase_share == 0.5
