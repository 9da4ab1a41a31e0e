"""The verdict on drift: quiet on ordinary weeks, loud on a real shift, and clear about why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.monitoring.drift import ITEM_COLUMNS, Rules, judge, report_page

FEATURES = tuple(f"f{i}" for i in range(12))
#: f0 carries a third of it
IMPORTANCE = {name: 1.0 / (i + 1) for i, name in enumerate(FEATURES)}
CLOCKS, AGENTS, ITEMS = 26, 20, 8


def _weeks(
    seed: int, clocks: Sequence[int], wander: float = 0.0, agents: int = AGENTS
) -> pd.DataFrame:
    """Pages of several clocks: agents differ, and each clock moves every feature a little.

    Each agent keeps its own taste; a clock's common move has a standard deviation of a tenth
    of the rows' and follows the one before as far as `wander` says. The last two features
    are a skewed number and a category.
    """
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(agents, len(FEATURES)))
    moves = np.zeros((max(clocks) + 1, len(FEATURES)))
    for clock in range(len(moves)):
        fresh = 0.14 * rng.normal(size=len(FEATURES))
        before = moves[clock - 1] if clock else fresh
        moves[clock] = wander * before + np.sqrt(1 - wander**2) * fresh
    clock = np.repeat(np.asarray(clocks), agents * ITEMS)
    agent = np.tile(np.repeat(np.arange(agents), ITEMS), len(clocks))
    values = moves[clock] + taste[agent] + rng.normal(size=(len(clock), len(FEATURES)))
    values[:, -2] = np.exp(values[:, -2])
    values[:, -1] = np.floor(np.abs(values[:, -1]) * 2).clip(0, 3)
    frame = pd.DataFrame(values, columns=list(FEATURES))
    return frame.assign(
        clock_us=clock,
        agent_id=[f"A{a}" for a in agent],
        lead_id="L1",
        request_id=[f"r{c}-{a}" for c, a in zip(clock, agent, strict=True)],
        position=np.tile(np.arange(1, ITEMS + 1), len(clocks) * agents),
        score=values[:, :4] @ np.array([1.0, 0.5, 0.3, 0.2]),
    )


def _both(seed: int, clocks: int = CLOCKS, **more: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = _weeks(seed, range(clocks + 1), **more)
    return frame[frame["clock_us"] < clocks], frame[frame["clock_us"] == clocks]


def _moved(frame: pd.DataFrame, column: str, sd: float) -> pd.DataFrame:
    return frame.assign(**{column: frame[column] + sd * frame[column].std()})


@pytest.mark.parametrize("wander", [0.0, 0.9])
def test_ordinary_weeks_rarely_alarm(wander: float) -> None:
    alarms = [judge(*_both(seed, wander=wander), IMPORTANCE).alert for seed in range(60)]
    assert sum(alarms) <= 6  # 5 % of 60 is 3; more than 6 has a chance below 4 %


def test_a_shift_by_half_a_standard_deviation_is_found_and_named() -> None:
    found = []
    for seed in range(20):
        reference, current = _both(seed)
        verdict = judge(reference, _moved(current, "f0", 0.5), IMPORTANCE)
        found.append(verdict.alert and "f0" in verdict.drifted)
    assert sum(found) >= 16


def test_the_reasons_name_the_column_its_direction_and_size() -> None:
    reference, current = _both(1)
    verdict = judge(reference, _moved(current, "f1", -1.0), IMPORTANCE)
    assert verdict.alert
    sentence = next(reason for reason in verdict.reasons if reason.startswith("f1 "))
    assert "down by" in sentence
    assert "16.1% of importance" in sentence
    moved = next(c for c in verdict.columns if c.column == "f1")
    assert moved.shift == pytest.approx(-1.0, abs=0.35)
    assert moved.q_value <= 0.05 < moved.effect
    assert verdict.columns[0].column == "score"
    assert list(verdict.table["column"])[1] == "f0"


def test_an_unimportant_feature_is_named_but_does_not_alert() -> None:
    reference, current = _both(2)
    weights = {**IMPORTANCE, "f9": 0.001}
    verdict = judge(reference, _moved(current, "f9", 2.0), weights)
    assert verdict.drifted == ("f9",)
    assert not verdict.alert
    assert "below the 5%" in verdict.reasons[-1]


def test_drifted_scores_alert_by_themselves() -> None:
    reference, current = _both(3)
    verdict = judge(reference, _moved(current, "score", 1.5), IMPORTANCE)
    assert verdict.alert
    assert "the ranker's output" in verdict.reasons[0]


def test_a_category_that_moves_is_found_and_new_levels_count() -> None:
    reference, current = _both(4)
    verdict = judge(reference, current.assign(f11=9.0), {**IMPORTANCE, "f11": 1.0})
    moved = next(c for c in verdict.columns if c.column == "f11")
    assert moved.kind == "category"
    assert moved.effect == pytest.approx(1.0, abs=0.01)
    assert moved.drifted
    assert any("categories moved" in reason for reason in verdict.reasons)


def test_values_that_go_missing_are_found() -> None:
    reference, current = _both(5)
    gone = np.random.default_rng(0).random(len(current)) < 0.4
    verdict = judge(reference, current.assign(f0=current["f0"].mask(gone)), IMPORTANCE)
    moved = next(c for c in verdict.columns if c.column == "f0")
    assert moved.effect == pytest.approx(0.4, abs=0.1)
    assert moved.drifted


def test_a_feature_without_any_value_left_is_named_so_and_the_page_is_made(
    tmp_path: Path,
) -> None:
    reference, current = _both(0)
    current = current.assign(f0=np.nan)
    verdict = judge(reference, current, IMPORTANCE)
    assert verdict.alert
    (reason,) = (each for each in verdict.reasons if each.startswith("f0 "))
    assert "not one value is left" in reason
    assert "nan" not in reason
    page = report_page(reference, current, verdict, tmp_path / "drift.html")
    text = page.read_text(encoding="utf-8")
    assert "not one value is left" in text
    assert "without a chart: f0." in text


def test_a_wider_spread_is_found_though_the_middle_stays() -> None:
    reference, current = _both(6)
    middle = current["f0"].mean()
    verdict = judge(reference, current.assign(f0=middle + 3 * (current["f0"] - middle)), IMPORTANCE)
    assert "f0" in verdict.drifted


def test_columns_that_never_change_do_not_drift() -> None:
    reference, current = _both(7)
    still = {"f0": 1.0, "f1": np.nan}
    verdict = judge(reference.assign(**still), current.assign(**still), IMPORTANCE)
    values = {c.column: c.p_value for c in verdict.columns}
    assert values["f0"] == values["f1"] == 1.0


def test_agents_who_ask_more_often_or_only_some_of_them_are_no_drift() -> None:
    reference, current = _both(8)
    few = current[current["agent_id"].isin(["A1", "A2", "A3"])]
    often = pd.concat([few, few[few["agent_id"] == "A1"].assign(request_id="again")])
    verdict = judge(reference, often, IMPORTANCE)
    assert not verdict.alert
    assert verdict.matched
    assert verdict.agents == 3
    assert verdict.rows_reference == CLOCKS * 3 * ITEMS


def test_shorter_pages_are_compared_with_the_top_of_the_reference() -> None:
    reference, current = _both(9)
    verdict = judge(reference, current[current["position"] <= 3], IMPORTANCE)
    assert verdict.rows_reference == CLOCKS * AGENTS * 3


def test_strangers_are_compared_with_everybody_and_it_says_so() -> None:
    reference, current = _both(10)
    verdict = judge(reference, current.assign(agent_id="B" + current["agent_id"]), IMPORTANCE)
    assert not verdict.matched
    assert "new to the reference" in verdict.reasons[-1]
    assert verdict.rows_reference == len(reference)


def test_with_few_clocks_each_page_is_one_observation() -> None:
    reference, current = _both(11, clocks=3)
    calm = judge(reference, current, IMPORTANCE)
    assert not calm.alert
    assert "only 3 reference clocks" in calm.reasons[-1]
    shifted = _moved(current, "f0", 2.0).assign(f11=9.0)
    loud = judge(reference, shifted, {**IMPORTANCE, "f11": 1.0})
    assert {"f0", "f11"} <= set(loud.drifted)


def test_stricter_rules_call_less_drift() -> None:
    reference, current = _both(12)
    shifted = _moved(current, "f0", 0.8)
    assert judge(reference, shifted, IMPORTANCE).alert
    assert not judge(reference, shifted, IMPORTANCE, Rules(effect_floor=0.9)).alert


def test_frames_that_cannot_be_compared_are_refused() -> None:
    reference, current = _both(13)
    with pytest.raises(ContractBroken, match="current rankings have no column f3"):
        judge(reference, current.drop(columns="f3"), IMPORTANCE)
    with pytest.raises(ContractBroken, match=ITEM_COLUMNS[0]):
        judge(reference.drop(columns=ITEM_COLUMNS[0]), current, IMPORTANCE)
    with pytest.raises(InvalidInput, match="no current rankings"):
        judge(reference, current.iloc[:0], IMPORTANCE)


@pytest.mark.slow
def test_the_report_carries_our_verdict_and_no_address_to_load_from(tmp_path: Path) -> None:
    reference, current = _both(1)
    shifted = _moved(current, "f1", -1.0)
    verdict = judge(reference, shifted, IMPORTANCE)
    path = report_page(reference, shifted, verdict, tmp_path / "drift" / "report.html", sample=500)
    text = path.read_text()
    assert path.stat().st_size < 12_000_000
    assert "against past clocks, q-value" in text
    assert 'src="http' not in text
    assert '<link rel="stylesheet" href="http' not in text
