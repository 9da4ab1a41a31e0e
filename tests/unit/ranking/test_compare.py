"""The comparison and its gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import ContractBroken, InvalidInput, NotReady
from aiqleads.ranking.baselines import BASELINES
from aiqleads.ranking.compare import METRICS, Comparison, Slice, compare, judge, measure
from aiqleads.ranking.dataset import Dataset, Truth, dataset_of
from aiqleads.ranking.evaluate import Interval
from aiqleads.ranking.figures import (
    comparison_intervals,
    difference_intervals,
    importance_bars,
    learning_curves,
)
from aiqleads.ranking.importance import importances
from aiqleads.ranking.scorer import Scorer
from aiqleads.ranking.train import Trained, train_ranker


@pytest.fixture(scope="module")
def held_out(frames: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[Dataset, Truth]:
    frame, oracle = frames
    at = np.sort(frame["at_market_us"].unique())
    kept = frame["at_market_us"] >= at[2 * len(at) // 3]
    rows = oracle[kept]
    test = dataset_of(frame[kept], "test")
    return test, Truth(
        source="oracle",
        relevance=rows["relevance"].to_numpy(),
        hit=rows["would_purchase"].to_numpy(),
        revenue_usd=(rows["p_purchase"] * 0.95).to_numpy() * test.price_cents / 100,
        oracles={"full oracle": rows["score_full"].to_numpy()},
    )


@pytest.fixture(scope="module")
def weak(windows: tuple[Dataset, Dataset]) -> Scorer:
    """A ranker that learned from labels thrown together: nothing."""
    rng = np.random.default_rng(0)
    lost = [replace(window, label=rng.permutation(window.label)) for window in windows]
    return train_ranker(lost[0], lost[1], "QueryRMSE", {"iterations": 3, "depth": 2}).scorer


@pytest.fixture(scope="module")
def compared(held_out: tuple[Dataset, Truth], trained: Trained, weak: Scorer) -> Comparison:
    test, truth = held_out
    tier = np.array(["basic", "pro"], dtype=object)[np.arange(len(test.sizes)) % 2]
    models = {"QueryRMSE": trained.scorer, "lost": weak}
    return compare(test, truth, models, "QueryRMSE", market="lucas", slices={"tier": tier})


def test_every_ranker_has_a_line_with_intervals_and_differences(compared: Comparison) -> None:
    names = {row.name for row in compared.rows}
    assert names == {"QueryRMSE", "lost", *BASELINES, "full oracle"}
    for row in compared.rows:
        for metric in METRICS:
            interval = row.metrics[metric]
            assert interval.low <= interval.mean <= interval.high
            assert interval.n <= compared.requests
        assert set(row.over) == (set(BASELINES) if row.kind == "model" else set())
    oracle, model = compared.row("full oracle"), compared.row("QueryRMSE")
    assert oracle.metrics["ndcg10"].mean == pytest.approx(1)
    for name in BASELINES:
        assert model.over[name]["ndcg10"].low > 0
        difference = model.metrics["ndcg10"].mean - compared.row(name).metrics["ndcg10"].mean
        assert model.over[name]["ndcg10"].mean == pytest.approx(difference)
    with pytest.raises(InvalidInput, match="no line"):
        compared.row("guess")


def test_tables_show_each_line_with_units(compared: Comparison) -> None:
    table = compared.table()
    assert table.index[0] == "full oracle"
    assert "revenue10 (USD a request)" in table.columns
    assert set(compared.differences("mrr").columns) == set(BASELINES)
    slices = compared.slice_table()
    assert slices["requests"].sum() == compared.requests
    assert not slices["counts for the gate"].any()


def test_a_comparison_is_read_back_as_it_was_written(compared: Comparison, tmp_path: Path) -> None:
    path = compared.save(tmp_path / "deep" / "comparison.json")
    assert Comparison.load(path) == compared
    path.write_text("[]")
    with pytest.raises(ContractBroken, match="is not a comparison"):
        Comparison.load(path)
    with pytest.raises(NotReady, match="aiqleads compare"):
        Comparison.load(tmp_path / "none.json")


def test_the_first_champion_must_beat_the_best_baseline(compared: Comparison) -> None:
    verdict = judge(compared)
    best = max(compared.baselines, key=lambda row: row.metrics["ndcg10"].mean).name
    assert verdict.promoted
    assert verdict.reference == best
    assert f"{verdict.difference.low:+.4f} is above 0" in verdict.reason

    refused = judge(replace(compared, challenger="lost"))
    assert (refused.outcome, refused.promoted) == ("refused", False)
    assert f"{refused.difference.low:+.4f} is not above 0" in refused.reason


def test_a_challenger_must_beat_the_champion_and_equals_are_left_alone(
    held_out: tuple[Dataset, Truth], trained: Trained, weak: Scorer
) -> None:
    test, truth = held_out
    better = judge(compare(test, truth, {"new": trained.scorer}, "new", weak))
    assert (better.outcome, better.reference) == ("promoted", "champion")
    worse = judge(compare(test, truth, {"new": weak}, "new", trained.scorer))
    assert worse.outcome == "refused"
    assert "against the champion" in worse.reason
    same = judge(compare(test, truth, {"new": weak}, "new", weak))
    assert same.outcome == "unchanged"
    assert weak.version in same.reason


@pytest.mark.parametrize(
    ("n", "high", "outcome"),
    [(200, -0.01, "refused"), (199, -0.01, "promoted"), (200, 0.01, "promoted")],
)
def test_a_large_slice_that_falls_below_popular_lately_refuses(
    compared: Comparison, n: int, high: float, outcome: str
) -> None:
    below = Slice("tier", "pro", n, 0.4, 0.5, Interval(-0.1, -0.2, high, n))
    verdict = judge(replace(compared, slices=[below]))
    assert verdict.outcome == outcome
    if outcome == "refused":
        assert "tier = pro (200 requests)" in verdict.reason
        assert "-0.0100 is below 0" in verdict.reason


def test_a_champion_that_reads_features_which_are_gone_is_left_out_and_said_so(
    held_out: tuple[Dataset, Truth], trained: Trained, weak: Scorer
) -> None:
    test, truth = held_out
    renamed = tuple("old_" + name if name == "quality" else name for name in weak.features)
    old = Scorer(weak.model, replace(weak.card, features=renamed))
    found = compare(test, truth, {"new": trained.scorer}, "new", old)
    assert "old_quality" in found.note
    assert found.left_out_version == old.version
    assert (found.champion_version, judge(found).reference) == ("", judge(found).reference)
    assert judge(found).reference in BASELINES


def test_an_unknown_challenger_is_refused(
    held_out: tuple[Dataset, Truth], trained: Trained
) -> None:
    with pytest.raises(InvalidInput, match="no model 'other'"):
        compare(*held_out, {"new": trained.scorer}, "other")


def test_a_model_that_learned_from_the_window_is_not_measured(
    held_out: tuple[Dataset, Truth], trained: Trained
) -> None:
    test, truth = held_out
    until = int(test.at_market_us.min()) + 1
    card = replace(trained.scorer.card, trained_until_market_us=until)
    with pytest.raises(InvalidInput, match="new learned from requests of this window"):
        compare(test, truth, {"new": Scorer(trained.scorer.model, card)}, "new")


def test_slices_are_resampled_as_often_as_the_rest(
    held_out: tuple[Dataset, Truth], trained: Trained
) -> None:
    test, truth = held_out
    everyone = {"all": np.full(len(test.sizes), "yes", dtype=object)}
    models = {"new": trained.scorer}
    found = compare(test, truth, models, "new", slices=everyone, resamples=40)
    assert found.slices[0].difference == found.row("new").over["popular lately"]["ndcg10"]


def test_a_constant_score_measures_as_a_random_one_not_as_the_order_that_was_shown(
    held_out: tuple[Dataset, Truth],
) -> None:
    test, truth = held_out
    by_position = replace(truth, relevance=1.0 / test.position)
    measured = measure({"flat": np.zeros(len(test)), "shown": -test.position}, test, by_position)
    assert np.nanmean(measured["shown"]["ndcg10"]) == pytest.approx(1)
    assert np.nanmean(measured["flat"]["ndcg10"]) < 0.6


def test_one_agent_is_no_sample_of_agents(
    held_out: tuple[Dataset, Truth], trained: Trained
) -> None:
    """Whole agents are drawn: of one there is nothing to draw, and no interval."""
    test, truth = held_out
    models = {"new": trained.scorer}
    tier = np.where(test.agent_id == test.agent_id[0], "alone", "many").astype(object)
    found = compare(test, truth, models, "new", slices={"tier": tier}, resamples=40)
    assert [each.value for each in found.slices] == ["many"]
    alone = replace(test, agent_id=np.full(len(test.sizes), "A", dtype=object))
    with pytest.raises(InvalidInput, match="one agent"):
        compare(alone, truth, models, "new", resamples=40)


def test_a_window_in_which_nothing_would_be_bought_says_which_figure_fails(
    held_out: tuple[Dataset, Truth], trained: Trained
) -> None:
    test, truth = held_out
    nothing = replace(truth, hit=np.zeros(len(test), dtype=bool))
    with pytest.raises(InvalidInput, match=r"mrr is not defined for any request of the window"):
        compare(test, nothing, {"new": trained.scorer}, "new", resamples=40)


def test_figures_are_titled_and_say_what_their_axes_are(
    compared: Comparison, trained: Trained, windows: tuple[Dataset, Dataset]
) -> None:
    table = importances(trained.scorer, windows[1].X)
    drawn = {
        "curves": learning_curves([trained]),
        "bars": importance_bars(table, "What QueryRMSE leans on"),
        "intervals": comparison_intervals(compared),
        "differences": difference_intervals(compared),
    }
    for name, figure in drawn.items():
        assert figure.get_suptitle() or figure.axes[0].get_title(), name
        assert all(axes.get_xlabel() for axes in figure.axes), name
