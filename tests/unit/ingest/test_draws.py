from __future__ import annotations

import numpy as np
from scipy import stats

from aiqleads.ingest import draws

KEYS = draws.keys_of(f"row {at}" for at in range(20_000))


def test_a_draw_belongs_to_its_key_and_stream() -> None:
    shuffled = np.random.default_rng(1).permutation(len(KEYS))
    whole = draws.uniform(KEYS, "lag")
    np.testing.assert_array_equal(draws.uniform(KEYS[shuffled], "lag"), whole[shuffled])
    np.testing.assert_array_equal(draws.uniform(KEYS[:7], "lag"), whole[:7])
    assert abs(np.corrcoef(whole, draws.uniform(KEYS, "ask"))[0, 1]) < 0.03


def test_draws_do_not_change_from_release_to_release() -> None:
    keys = draws.keys_of(["a", "b"])
    assert keys.tolist() == [4681665781835383343, 9543904841865449333]
    assert draws.whole(keys, "lag", 35, 98).tolist() == [95, 72]
    assert draws.uniform(keys, "lag").tolist() == [0.9475099284783892, 0.5933321289944197]


def test_uniform_and_normal_draws_are_so_distributed() -> None:
    assert stats.kstest(draws.uniform(KEYS, "u"), "uniform").pvalue > 1e-3
    assert stats.kstest(draws.normal(KEYS, "n"), "norm").pvalue > 1e-3


def test_whole_numbers_take_both_ends() -> None:
    drawn = draws.whole(KEYS, "w", 35, 98)
    assert (drawn.min(), drawn.max()) == (35, 98)


def test_choices_follow_their_shares() -> None:
    counts = np.bincount(draws.choice(KEYS, "c", (0.2, 0.3, 0.5))) / len(KEYS)
    np.testing.assert_allclose(counts, (0.2, 0.3, 0.5), atol=0.02)
