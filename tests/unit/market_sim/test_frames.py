"""What had arrived by a moment, delivered once or twice, of agents, bots and rivals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.market_sim.frames import event_frames
from aiqleads.market_sim.presets import load_preset

EVERYTHING = load_preset("adversarial").model_copy(
    update={
        "requests": load_preset("calm").requests.model_copy(
            update={"map_share": 0.3, "per_day": (0.3, 0.4, 0.6)}
        ),
        "bots": load_preset("adversarial").bots.model_copy(update={"share": 0.2}),
        "rivals": load_preset("adversarial").rivals.model_copy(update={"per_lead": 0.3}),
    }
)


@pytest.fixture(scope="module")
def tables(frames_of: Callable[..., Any]) -> dict[str, pd.DataFrame]:
    return frames_of(EVERYTHING)


def test_a_second_delivery_repeats_the_first_and_comes_later(
    tables: dict[str, pd.DataFrame],
) -> None:
    steps = tables["interactions"]
    content = [name for name in steps.columns if name != "arrived_market_us"]
    again = steps[steps["event_id"].duplicated()]
    share = len(again) / steps["event_id"].nunique()
    assert share == pytest.approx(EVERYTHING.arrival.duplicate_share, abs=0.02)
    both = again.merge(steps.drop_duplicates("event_id"), on="event_id", suffixes=("", "_first"))
    assert (both["arrived_market_us"] > both["arrived_market_us_first"]).all()
    for name in set(content) - {"event_id"}:
        assert (both[name] == both[f"{name}_first"]).all()
    assert steps["event_id"].value_counts().max() == 2


def test_no_event_arrives_before_its_ranking(tables: dict[str, pd.DataFrame]) -> None:
    steps = tables["interactions"]
    of_agents = steps[steps["request_id"] != ""]
    both = of_agents.merge(tables["rankings"], on="request_id", suffixes=("", "_ranked"))
    assert len(both) == len(of_agents)
    assert (both["arrived_market_us"] >= both["arrived_market_us_ranked"]).all()
    assert (both["agent_id"] == both["agent_id_ranked"]).all()


def test_rivals_buy_outside_of_rankings_and_are_no_agents(
    tables: dict[str, pd.DataFrame],
) -> None:
    steps = tables["interactions"]
    rivals = steps[steps["request_id"] == ""]
    assert len(rivals) > 20
    assert set(rivals["kind"]) == {"purchase"}
    assert rivals["agent_id"].str.fullmatch(r"X\d{4}").all()
    assert not rivals["agent_id"].isin(tables["agents_truth"]["agent_id"]).any()
    assert (rivals["price_cents"] > 0).all()


def test_bots_have_rankings_and_no_truth(tables: dict[str, pd.DataFrame]) -> None:
    truth = tables["agents_truth"]
    bots = set(truth.loc[truth["bot"], "agent_id"])
    ranked = tables["rankings"]
    of_bots = ranked["agent_id"].isin(bots)
    assert of_bots.any()
    assert set(tables["oracle"]["request_id"]) == set(ranked.loc[~of_bots, "request_id"])
    assert set(tables["impressions"]["request_id"]) == set(ranked["request_id"])
    assert tables["oracle"].notna().all().all()
    steps = tables["interactions"]
    assert set(steps.loc[steps["agent_id"].isin(bots), "kind"]) == {"view"}


def test_rankings_say_their_surface(tables: dict[str, pd.DataFrame]) -> None:
    share = (tables["rankings"]["surface"] == "map").mean()
    assert share == pytest.approx(0.3, abs=0.08)
    assert set(tables["rankings"]["surface"]) == {"list", "map"}


def test_a_publish_in_the_middle_sees_what_had_arrived_and_no_more(
    market_of: Callable[..., Any], tables: dict[str, pd.DataFrame]
) -> None:
    market = market_of(EVERYTHING)
    noon = market.world.start_us + 9 * US_PER_DAY + US_PER_DAY // 2
    market.run_until(noon)
    early = event_frames(
        market.world, market.requests, market.log, EVERYTHING, until_us=noon, seed=market.seed
    )
    for name in ("rankings", "interactions"):
        whole = tables[name]
        arrived = whole[whole["arrived_market_us"] < noon].reset_index(drop=True)
        assert 0 < len(arrived) < len(whole)
        pd.testing.assert_frame_equal(early[name], arrived)
    for name in ("impressions", "oracle"):
        assert set(early[name]["request_id"]) <= set(early["rankings"]["request_id"])
        same = tables[name].head(len(early[name]))
        pd.testing.assert_frame_equal(early[name], same)
