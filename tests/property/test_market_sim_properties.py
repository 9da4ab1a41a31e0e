"""What must hold for any seed, any entity and any score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aiqleads.market_sim.attention import cascade, on_map
from aiqleads.market_sim.draws import (
    Stream,
    exponential,
    gumbel,
    keys_of,
    normal,
    pick,
    poisson,
    uniform,
    uniforms,
)
from aiqleads.market_sim.policy import draw_slate
from aiqleads.market_sim.presets import load_preset
from aiqleads.market_sim.relevance import expected_gain

seeds = st.integers(0, 2**63)
streams = st.sampled_from(Stream)
names = st.lists(st.text(max_size=12), min_size=1, max_size=30, unique=True)
scores = arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(-50, 50, allow_nan=False))


@settings(deadline=None, max_examples=60)
@given(seeds, streams, names)
def test_a_draw_lies_inside_and_belongs_to_its_entity(
    seed: int, stream: Stream, entities: list[str]
) -> None:
    keys = keys_of(entities)
    drawn = uniform(seed, stream, keys)
    assert ((drawn > 0) & (drawn < 1)).all()
    assert (drawn[::-1] == uniform(seed, stream, keys[::-1])).all()
    assert drawn[-1] == uniform(seed, stream, keys[-1])[0]
    for transformed in (normal, exponential, gumbel):
        assert np.isfinite(transformed(seed, stream, keys)).all()


@settings(deadline=None, max_examples=60)
@given(seeds, names, names)
def test_pairs_are_drawn_alike_one_by_one_and_as_a_table(
    seed: int, rows: list[str], columns: list[str]
) -> None:
    left, right = keys_of(rows), keys_of(columns)
    table = uniform(seed, Stream.PAIR, left[:, None], right[None, :])
    assert table.shape == (len(rows), len(columns))
    assert (table[0] == uniform(seed, Stream.PAIR, left[0], right)).all()


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_draws_of_neighbours_and_streams_are_unrelated(seed: int) -> None:
    days = np.arange(50_000, dtype=np.uint64)
    one, other = uniform(seed, Stream.VIEW, days), uniform(seed, Stream.HOLD, days)
    assert one.mean() == pytest.approx(0.5, abs=0.01)
    assert one.var() == pytest.approx(1 / 12, rel=0.02)
    for pair in ((one, other), (one[1:], one[:-1]), (one, uniform(seed + 1, Stream.VIEW, days))):
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.02
    assert normal(seed, Stream.VIEW, days).std() == pytest.approx(1.0, abs=0.02)
    assert exponential(seed, Stream.VIEW, days).mean() == pytest.approx(1.0, abs=0.02)
    assert gumbel(seed, Stream.VIEW, days).mean() == pytest.approx(0.5772, abs=0.02)


def test_classes_are_picked_by_their_shares() -> None:
    luck = uniform(3, Stream.TIER, np.arange(50_000, dtype=np.uint64))
    counts = np.bincount(pick([5, 3.5, 1.5], luck), minlength=3) / 50_000
    assert counts == pytest.approx([0.5, 0.35, 0.15], abs=0.01)
    assert pick([1.0, 0.0], np.array([1.0])).tolist() == [1]


@settings(deadline=None, max_examples=60)
@given(scores, seeds, st.integers(1, 40))
def test_a_slate_is_an_order_with_exact_propensities(
    logits: np.ndarray, seed: int, shown: int
) -> None:
    noise = gumbel(seed, Stream.SLATE, np.arange(len(logits), dtype=np.uint64))
    order, propensity = draw_slate(logits, noise, shown)
    assert len(order) == len(propensity) == min(shown, len(logits))
    assert len(set(order.tolist())) == len(order)
    assert ((propensity > 0) & (propensity <= 1)).all()
    left = set(range(len(logits)))
    for row, chance in zip(order.tolist(), propensity, strict=True):
        rest = np.array(sorted(left))
        exact = 1 / np.exp(logits[rest] - logits[row]).sum()
        assert chance == pytest.approx(exact, rel=1e-6)
        left.remove(row)


@settings(deadline=None, max_examples=40)
@given(seeds, st.lists(streams, min_size=1, max_size=6), names)
def test_many_streams_at_once_are_the_streams_one_by_one(
    seed: int, several: list[Stream], entities: list[str]
) -> None:
    keys = keys_of(entities)
    table = uniforms(seed, tuple(several), keys[0], keys)
    assert table.shape == (len(several), len(keys))
    for row, stream in zip(table, several, strict=True):
        assert (row == uniform(seed, stream, keys[0], keys)).all()


@pytest.mark.parametrize("mean", [0.0, 0.3, 2.0, 9.0])
def test_poisson_numbers_have_their_mean_and_variance(mean: float) -> None:
    luck = uniform(5, Stream.REQUESTS, np.arange(40_000, dtype=np.uint64))
    counts = poisson(np.full(40_000, mean), luck, 40)
    assert counts.mean() == pytest.approx(mean, abs=0.06)
    assert counts.var() == pytest.approx(mean, rel=0.05, abs=0.001)
    assert poisson(np.full(3, 30.0), np.array([0.1, 0.5, 0.9]), 4).tolist() == [4, 4, 4]


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.float64, (4, 12), elements=st.floats(0, 1)))
def test_relevance_lies_between_nothing_and_a_purchase_and_returns_cost(chance: np.ndarray) -> None:
    gains = load_preset("calm").gains.in_order
    value = expected_gain(*chance, gains)
    assert ((value >= -1e-12) & (value <= max(gains) + 1e-12)).all()
    kept = expected_gain(chance[0], chance[1], chance[2], 0 * chance[3], gains)
    assert (value <= kept + 1e-12).all()


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.float64, (2, 20), elements=st.floats(0, 1, exclude_max=True)))
def test_a_cascade_is_a_beginning_of_the_list(numbers: np.ndarray) -> None:
    rule = load_preset("adversarial").examination
    looks = cascade(numbers[0], numbers[1] < 0.2, "desktop", rule)
    assert looks[0]
    assert looks.sum() == np.argmin(np.append(looks, False))


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.float64, (2, 15), elements=st.floats(-9000, 9000)))
def test_a_map_knows_no_order(places: np.ndarray) -> None:
    rule = load_preset("cold_start").examination
    looks = on_map(*places, (0.0, 0.0), rule)
    assert ((looks >= 0) & (looks <= 1)).all()
    assert on_map(*places[:, ::-1], (0.0, 0.0), rule) == pytest.approx(looks[::-1])
