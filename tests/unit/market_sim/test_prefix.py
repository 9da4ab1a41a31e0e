"""Luck by name: no log depends on when it ends, on the order of rows or on who else is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from aiqleads.market_sim.presets import Preset, load_preset, preset_names


def busy(name: str) -> Preset:
    """The preset with its mechanisms moved into the first days, where a small market has any."""
    preset = load_preset(name)
    shock = preset.shock.model_copy(update={"from_day": 4})
    drift = preset.drift.model_copy(update={"from_day": 2, "over_days": 9})
    return preset.model_copy(update={"shock": shock, "drift": drift})


@pytest.mark.parametrize("name", preset_names())
def test_a_shorter_period_is_the_beginning_of_a_longer_one(
    play_market: Callable[..., Any], name: str
) -> None:
    _, _, short = play_market(busy(name), days=8)
    _, _, long = play_market(busy(name), days=12)
    assert long.steps[: len(short.steps)] == short.steps
    assert long.rivals[: len(short.rivals)] == short.rivals
    assert list(long.slates)[: len(short.slates)] == list(short.slates)
    for column in ("lead", "propensity", "fee_cents", "relevance", "score_known"):
        one, other = short.slates.shown(column), long.slates.shown(column)
        pd.testing.assert_series_equal(pd.Series(one), pd.Series(other[: len(one)]))


def test_what_had_arrived_early_is_the_beginning_of_what_arrived_late(
    frames_of: Callable[..., Any],
) -> None:
    short, long = (frames_of(busy("adversarial"), days=days) for days in (8, 12))
    for name in ("rankings", "interactions", "impressions", "oracle"):
        pd.testing.assert_frame_equal(short[name], long[name].head(len(short[name])))


def test_the_order_of_the_leads_changes_nothing(
    frames_of: Callable[..., Any], leads: pd.DataFrame
) -> None:
    shuffled = leads.sample(frac=1, random_state=4)
    one, other = (
        frames_of(busy("adversarial"), days=6, frame=frame) for frame in (leads, shuffled)
    )
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name])


def test_rivals_come_whoever_the_agents_are(play_market: Callable[..., Any]) -> None:
    preset = busy("exhausted_supply")
    _, _, few = play_market(preset, agents=1, days=8)
    _, _, none = play_market(preset, agents=2, days=8)
    assert len(few.rivals) > 30
    # Attempts are the same; a slot that an agent took is one that a rival did not.
    assert {(r.at_us, r.lead, r.rival) for r in none.rivals} <= {
        (r.at_us, r.lead, r.rival) for r in few.rivals
    }
