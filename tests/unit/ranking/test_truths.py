"""The machinery of tests/benchmarks/truths on a tiny log; real data only where it is shared."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.benchmarks.truths import generators, letor, movielens, pairs, renthop, twostage

TESTS = Path(__file__).resolve().parents[2]
SHARED = TESTS.parents[1] / "shared" / "data"
USERS, ITEMS, START_S = 60, 80, 880_000_000


def made_log(seed: int = 5) -> movielens.Log:
    """People who walk through a shelf of ten items after another, in sessions, out of order."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, USERS + 1):
        at = START_S + int(rng.integers(0, 5_000_000))
        shelf, count = int(rng.integers(0, 8)), int(rng.integers(20, 40))
        line: list[int] = []
        while len(line) < count:
            fresh = [i for i in range(shelf * 10, shelf * 10 + 10) if i not in line]
            line += rng.permutation(fresh)[: int(rng.integers(4, 9))].tolist()
            shelf = (shelf + 1) % 8
        for item in line[:count]:
            at += int(rng.choice([0, 20, 200, 5_000], p=[0.4, 0.4, 0.15, 0.05]))
            rows.append((user, item + 1, int(rng.integers(1, 6)), at))
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    index = pd.RangeIndex(1, ITEMS + 1)
    year = pd.Series(1_950.0 + np.arange(ITEMS) % 47, index=index).where(index != 7)
    genres = pd.Series([("Drama War", "Comedy", "")[i % 3] for i in range(ITEMS)], index=index)
    return movielens.log_of(table.sample(frac=1, random_state=1), year, genres)


@pytest.fixture(scope="module")
def log() -> movielens.Log:
    return made_log()


@pytest.fixture(scope="module")
def windows(log: movielens.Log) -> twostage.Ladder:
    return twostage.ladder(log, "user", pool=30)


def test_each_line_is_cut_by_fifths_and_nothing_of_the_test_is_known(log: movielens.Log) -> None:
    cuts = movielens.cuts_by_user(log, 4)
    test = cuts[-1]
    assert (test.until - test.known == (log.length * 0.2).astype(int)).all()
    assert (test.until == log.length).all()
    for earlier, later in itertools.pairwise(cuts):
        assert (earlier.until == later.known).all()
        assert earlier.clock_us.max() < later.clock_us.min()
    view = movielens.view(log, test)
    assert view.rated.sum() + view.sought.sum() == len(log.user)
    assert not (view.rated.astype(bool) & view.sought).any()
    # a line is in the order of time, and a request comes just after what is known
    assert (np.diff(log.at_s)[np.diff(log.user) == 0] >= 0).all()
    last = np.array([view.at_s[view.line(user)].max() for user in range(USERS)])
    assert (test.as_of_us == (last + 1) * movielens.US).all()
    user, item, sought = pairs.everything(view)
    assert len(user) == USERS * ITEMS - len(view.user)
    assert sought.sum() == view.sought.sum()
    assert not view.rated[user, item].any()


def test_one_moment_for_all_leaves_nothing_later_known(log: movielens.Log) -> None:
    cuts = movielens.cuts_by_time(log, 3)
    for cut in cuts:
        view = movielens.view(log, cut)
        moment = np.unique(cut.as_of_us)
        assert len(moment) == 1
        assert (view.at_s * movielens.US < moment).all()
        assert set(cut.users) <= set(np.flatnonzero(cut.known))
    assert cuts[-1].known.sum() == pytest.approx(0.8 * len(log.user), abs=60)


def test_no_candidate_and_no_feature_reads_what_comes_after_the_cut(log: movielens.Log) -> None:
    cut = movielens.cuts_by_user(log, 2)[0]
    after = log.place >= cut.known[log.user]
    other = replace(
        log,
        item=np.where(after, (log.item + 11) % ITEMS, log.item),
        rating=np.where(after, 6 - log.rating, log.rating),
        at_s=np.where(after, log.at_s + 777, log.at_s),
    )
    one = pairs.pairs_of(movielens.view(log, cut), pool=30)
    two = pairs.pairs_of(movielens.view(other, cut), pool=30)
    np.testing.assert_array_equal(one.item, two.item)
    np.testing.assert_array_equal(one.data.X, two.data.X)
    assert (one.data.label != two.data.label).any()


def test_calendar_counts_are_those_of_the_days_before_the_request(log: movielens.Log) -> None:
    view = movielens.view(log, movielens.cuts_by_user(log, 1)[0])
    rng = np.random.default_rng(2)
    user, item = rng.integers(0, USERS, 50), rng.integers(0, ITEMS, 50)
    as_of = view.cut.as_of_us[user]
    told = pairs.counted(view, item, as_of)
    for row in range(50):
        at = view.at_s[view.item == item[row]] * movielens.US
        before = at[at < as_of[row]]
        week = before >= as_of[row] - 7 * 86_400 * movielens.US
        assert told["ratings_ever"][row] == len(before)
        assert told["ratings_week"][row] == week.sum()
    week = generators.lately(view, 7)[user, item]
    np.testing.assert_array_equal(week, told["ratings_week"])


def test_judged_counts_all_items_and_puts_what_is_no_candidate_last(log: movielens.Log) -> None:
    view = movielens.view(log, movielens.cuts_by_user(log, 1)[0])
    assert twostage.judged(view, view.sought.astype(float)) == pytest.approx(np.ones(USERS))
    assert twostage.judged(view, -view.sought.astype(float)).max() == 0
    # whatever has a score stands before what has none
    least = np.where(view.sought, -1.0, np.nan)
    assert twostage.judged(view, least) == pytest.approx(np.ones(USERS))
    assert twostage.judged(view, np.where(view.sought, np.nan, 1.0)).max() == 0


@pytest.mark.slow
def test_the_ranker_of_the_project_learns_the_walk(
    windows: twostage.Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("QueryRMSE", {"iterations": 30, "depth": 3})
    monkeypatch.setattr(twostage, "RANKERS", {"user": small})
    view, data = windows.test.view, windows.test.data
    assert windows.train.at_market_us.max() < windows.validate.data.at_market_us.min()
    assert len(windows.train.sizes) == 2 * USERS
    scores = [twostage.trained(windows, "user", seed)[0] for seed in (1, 2)]
    popular = np.nanmean(twostage.judged(view, generators.popularity(view)))
    for score in (*scores, twostage.together(scores)):
        assert len(score) == len(data)
        assert np.nanmean(twostage.judged(view, windows.test.full(score))) > popular + 0.1


def test_files_that_were_not_measured_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / movielens.INSIDE
    folder.mkdir(parents=True)
    for name in movielens.FILES:
        (folder / name).write_text("something else")
    with pytest.raises(ValueError, match="not the file that was measured"):
        movielens.fetched(tmp_path)
    pinned = movielens.REQUIREMENTS.read_text()
    assert pinned.count("==") == pinned.count("--hash=sha256:") == 1


def test_concordance_is_the_share_of_ordered_pairs_and_agents_can_be_weighed() -> None:
    rng = np.random.default_rng(4)
    level, score = rng.integers(0, 3, 60), rng.integers(0, 8, 60).astype(float)
    agent = rng.integers(0, 9, 60)
    right = pairs_ = 0.0
    for i in range(60):
        for j in range(60):
            if level[i] > level[j]:
                pairs_ += 1
                right += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
    found = renthop.concordance(level, score, agent, 9)
    assert found.value == pytest.approx(right / pairs_)
    assert renthop.concordance(level, level.astype(float), agent, 9).value == 1
    assert renthop.concordance(level, -score, agent, 9).value == pytest.approx(1 - found.value)
    # drawing some agents twice and others never is the same as copying and dropping rows
    weights = np.array([2, 1, 1, 0, 1, 1, 1, 1, 1])
    drawn = np.repeat(np.arange(60), weights[agent])
    again = renthop.concordance(level[drawn], score[drawn], agent[drawn], 9)
    assert found.weighed(weights[None, :].astype(float))[0] == pytest.approx(again.value)


def test_agents_of_a_split_are_on_one_side() -> None:
    agent = np.array([f"m{i % 13}" for i in range(50)], dtype=object)
    zero = np.zeros(50, dtype=np.int64)
    flats = renthop.Flats(zero, agent, zero, zero.astype(float), (), np.zeros((50, 0), np.float32))
    for train, test in renthop.splits(flats, 5):
        assert not set(agent[train]) & set(agent[test])
        assert len(train) + len(test) == 50


@pytest.mark.shared_data
@pytest.mark.slow
def test_real_flats_get_the_projects_features_and_are_ordered_by_demand(tmp_path: Path) -> None:
    table = SHARED / "interest" / "renthop_b1.csv"
    flats = renthop.taken_in(table, TESTS / "data" / "markets" / "renthop.toml", tmp_path)
    assert len(flats.level) == 569
    assert {"log_ask_price", "beds", "area_leads_30d", "centre_distance_km"} <= set(flats.features)
    assert np.isfinite(flats.X[:, flats.features.index("price_beside_near")]).mean() > 0.9
    chosen = renthop.splits(flats, 3)
    scores = [renthop.learned(flats, train, test) for train, test in chosen]
    found = renthop.compared(flats, scores, [test for _, test in chosen])
    assert found["C"]["ranker"] > 0.6
    assert found["price ascending"].low < found["price ascending"].mean


@pytest.mark.shared_data
@pytest.mark.slow
def test_the_ranker_learns_from_a_letor_file() -> None:
    ours, chance = letor.measured(SHARED / "ltr", seeds=(1,))
    assert np.nanmean(ours) > np.nanmean(chance) + 0.05
