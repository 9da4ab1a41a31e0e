"""Metrics on cases worked out by hand, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from catboost.utils import eval_metric
from sklearn.metrics import ndcg_score

from aiqleads.errors import InvalidInput
from aiqleads.ranking.evaluate import mrr, ndcg_at, paired_bootstrap, ranks, revenue_at

SIZES = np.array([3, 2])


def test_ranks_start_anew_with_each_request_and_missing_scores_go_last() -> None:
    score = [0.1, np.nan, 0.9, -1.0, -np.inf]
    assert ranks(score, SIZES).tolist() == [2, 3, 1, 1, 2]


def test_ties_are_broken_by_what_the_caller_draws_not_by_the_rows_order() -> None:
    assert ranks([0.0, 0.0, 0.0, 1.0, 1.0], SIZES, [3, 1, 2, 9, 8]).tolist() == [3, 1, 2, 2, 1]


@pytest.mark.parametrize("sizes", [[3, 3], [5, 0], [4]])
def test_sizes_that_do_not_fit_are_refused(sizes: list[int]) -> None:
    with pytest.raises(InvalidInput, match="sizes of requests"):
        ranks(np.zeros(5), np.array(sizes))


def test_ndcg_by_hand() -> None:
    # first request: gains 3, 0, 1 shown in the order 0, 3, 1
    relevance, score = [3.0, 0.0, 1.0, 0.0, 0.0], [2.0, 3.0, 1.0, 1.0, 0.0]
    reached = 3 / np.log2(3) + 1 / np.log2(4)
    ideal = 3 / np.log2(2) + 1 / np.log2(3)
    found = ndcg_at(10, relevance, score, SIZES)
    assert found[0] == pytest.approx(reached / ideal)
    assert np.isnan(found[1]), "no positive: no order is better than another"
    assert ndcg_at(1, relevance, score, SIZES)[0] == 0


def test_ndcg_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    relevance, score = rng.random((40, 30)) ** 3, rng.normal(size=(40, 30))
    for k in (1, 5, 10, 30):
        ours = ndcg_at(k, relevance.ravel(), score.ravel(), np.full(40, 30))
        theirs = [ndcg_score(r[None], s[None], k=k) for r, s in zip(relevance, score, strict=True)]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_ndcg_is_catboosts_where_nothing_ties_and_every_request_has_a_positive() -> None:
    rng = np.random.default_rng(6)
    sizes = rng.integers(2, 40, 200)
    relevance = rng.choice([0.0, 1.0, 3.0, 7.0], p=[0.8, 0.1, 0.05, 0.05], size=sizes.sum())
    relevance[np.cumsum(sizes) - 1] = 1.0
    score, group = rng.normal(size=sizes.sum()), np.repeat(np.arange(200), sizes)
    theirs = eval_metric(relevance, score, "NDCG:top=10;type=Base", group_id=group)[0]
    assert ndcg_at(10, relevance, score, sizes).mean() == pytest.approx(theirs, rel=1e-12)


def test_mrr_and_revenue_by_hand() -> None:
    score = [0.3, 0.2, 0.1, 0.5, 0.6]
    assert mrr([0, 0, 1, 0, 1], score, SIZES).tolist() == [1 / 3, 1.0]
    assert np.isnan(mrr([0, 0, 0, 0, 1], score, SIZES)[0])
    assert revenue_at(2, [1.0, 2.0, 4.0, 8.0, 16.0], score, SIZES).tolist() == [3.0, 24.0]


def test_bootstrap_agrees_with_the_textbook_error_and_leaves_out_what_is_not_defined() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(1.0, 1.0, 2000), rng.normal(0.5, 1.0, 2000)
    a[:100] = np.nan
    found = paired_bootstrap(a, b, seed=5)
    difference = (a - b)[100:]
    error = difference.std() / np.sqrt(1900)
    assert (found.n, found.mean) == (1900, pytest.approx(difference.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert found == paired_bootstrap(a, b, seed=5)
    assert found != paired_bootstrap(a, b, seed=6)


def test_requests_of_one_agent_count_less_than_independent_ones() -> None:
    rng = np.random.default_rng(3)
    agent = np.repeat(np.arange(50), 40)
    values = rng.normal(size=50)[agent] + 0.1 * rng.normal(size=2000)
    alone, together = paired_bootstrap(values), paired_bootstrap(values, clusters=agent)
    assert alone.mean == pytest.approx(together.mean)
    assert together.high - together.low > 4 * (alone.high - alone.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    agent = np.repeat(np.arange(60), 5)
    hits = 0
    for trial in range(200):
        values = 0.3 + 0.5 * rng.normal(size=60)[agent] + rng.normal(size=300)
        found = paired_bootstrap(values, clusters=agent, resamples=400, seed=trial)
        hits += found.low <= 0.3 <= found.high
    assert 176 <= hits <= 199, "95 % of 200, three standard errors either way"


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to compare"):
        paired_bootstrap([np.nan, np.nan])
