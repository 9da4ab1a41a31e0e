"""What holds of metrics and intervals for any requests and any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aiqleads.ranking.evaluate import mrr, ndcg_at, paired_bootstrap, ranks, revenue_at

Case = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Sizes of requests, relevances with many zeros and ties, scores with missing ones."""
    sizes = np.array(draw(st.lists(st.integers(1, 12), min_size=1, max_size=8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = int(sizes.sum())
    relevance = rng.integers(0, 4, n) * rng.random(n).round(1)
    score = rng.normal(size=n).round(draw(st.integers(0, 3)))
    score[rng.random(n) < 0.1] = np.nan
    return sizes, relevance, score


@settings(deadline=None)
@given(cases())
def test_ranks_are_a_permutation_of_each_request(case: Case) -> None:
    sizes, _, score = case
    position = ranks(score, sizes)
    for part, size in zip(np.split(position, np.cumsum(sizes)[:-1]), sizes, strict=True):
        assert sorted(part) == list(range(1, size + 1))


@settings(deadline=None)
@given(cases(), st.integers(1, 15))
def test_ndcg_lies_between_0_and_1_and_the_truth_reaches_1(case: Case, k: int) -> None:
    sizes, relevance, score = case
    found = ndcg_at(k, relevance, score, sizes)
    positive = np.add.reduceat(relevance, np.cumsum(sizes) - sizes) > 0
    assert (np.isnan(found) == ~positive).all()
    assert ((found[positive] >= 0) & (found[positive] <= 1 + 1e-12)).all()
    np.testing.assert_allclose(ndcg_at(k, relevance, relevance, sizes)[positive], 1)


@settings(deadline=None)
@given(cases(), st.floats(0.1, 10), st.floats(-5, 5))
def test_only_the_order_of_scores_counts(case: Case, scale: float, shift: float) -> None:
    sizes, relevance, score = case
    tie = np.arange(len(score))[::-1]
    moved = np.round(score, 3) * scale + shift
    for metric in (ndcg_at, revenue_at):
        a = metric(5, relevance, np.round(score, 3), sizes, tie)
        np.testing.assert_array_equal(a, metric(5, relevance, moved, sizes, tie))


@settings(deadline=None)
@given(cases())
def test_requests_do_not_see_each_other(case: Case) -> None:
    sizes, relevance, score = case
    whole = mrr(relevance > 0, score, sizes)
    ends = np.cumsum(sizes)
    for i, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        own = slice(end - size, end)
        alone = mrr(relevance[own] > 0, score[own], np.array([size]))
        np.testing.assert_array_equal(alone[0], whole[i])


@settings(deadline=None)
@given(cases())
def test_revenue_grows_with_k_up_to_all_of_it(case: Case) -> None:
    sizes, worth, score = case
    found = np.array([revenue_at(k, worth, score, sizes) for k in (1, 3, 12)])
    assert (np.diff(found, axis=0) >= -1e-12).all()
    np.testing.assert_allclose(found[-1], np.add.reduceat(worth, np.cumsum(sizes) - sizes))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 9))
def test_an_interval_holds_its_mean_and_turns_with_its_sides(
    seed: int, requests: int, agents: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, requests))
    agent = rng.integers(0, agents, requests)
    there = paired_bootstrap(a, b, agent, resamples=200, seed=1)
    back = paired_bootstrap(b, a, agent, resamples=200, seed=1)
    assert there.low <= there.high
    assert back.mean == pytest.approx(-there.mean)
    assert back.low == pytest.approx(-there.high)
    nothing = paired_bootstrap(a, a, agent, resamples=200, seed=1)
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)
