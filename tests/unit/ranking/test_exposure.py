"""Exposure by group, and the floor that re-ranking keeps."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiqleads.errors import InvalidInput
from aiqleads.ranking.evaluate import ranks
from aiqleads.ranking.exposure import Exposure, exposures, with_floor


def test_shares_of_impressions_stand_against_shares_of_relevance() -> None:
    group = np.array(["north", "north", "south", "south", "north", "south"], dtype=object)
    found = exposures(group, [3, 1, 2, 2, 0, 0], [1, 2, 3, 4, 1, 2], np.array([4, 2]), k=2)
    assert [each.group for each in found] == ["north", "south"]
    north, south = found
    # the second request has no merit at all and counts for nobody
    assert (north.offered, north.impressions, north.share, north.merit_share) == (2, 2, 1.0, 0.5)
    assert (south.impressions, south.ratio, south.below()) == (0, 0.0, True)
    assert not north.below()


def test_each_request_weighs_as_much_as_the_places_it_hands_out() -> None:
    group = np.array(["a", "b", "a", "b"], dtype=object)
    a, b = exposures(group, [100, 0, 1, 1], [1, 2, 1, 2], np.array([2, 2]), k=1)
    assert (a.merit_share, b.merit_share) == (0.75, 0.25)
    assert (a.share, b.share) == (1.0, 0.0)


def test_a_group_that_the_score_leaves_out_gets_its_places_and_the_rest_keeps_its_order() -> None:
    score = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0])
    group = np.array(["a"] * 5 + ["b"] * 3, dtype=object)
    position = with_floor(score, np.ones(8), group, np.array([8]), k=4, floor=0.8)
    # due 4 * 3/8 = 1.5, a floor of 1.2, so two places: the two best of b for the two last of a
    assert position.tolist() == [1, 2, 5, 6, 7, 3, 4, 8]


def test_a_group_is_served_by_way_of_a_third() -> None:
    # b can only come in where c stands, and c only where a has places to spare
    group = np.array(["c", "b", "a", "c", "a"], dtype=object)
    merit = np.array([1.0, 1.0, 0.5, 1.0, 0.5])
    sizes = np.array([2, 2, 1])
    position = with_floor([2, 1, 2, 1, 1], merit, group, sizes, k=1, floor=0.6)
    assert position.tolist() == [2, 1, 2, 1, 1]


def test_ties_fall_as_the_given_draw_says() -> None:
    group = np.array(["a", "a"], dtype=object)
    assert with_floor([1, 1], [1, 1], group, np.array([2]), tie=[1, 0]).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("merit", "floor", "k"),
    [([-1.0, 1.0], 0.8, 1), ([np.nan, 1.0], 0.8, 1), ([1.0, 1.0], 1.2, 1), ([1.0, 1.0], 0.5, 0)],
)
def test_what_makes_no_sense_is_refused(merit: list[float], floor: float, k: int) -> None:
    group = np.array(["a", "b"], dtype=object)
    with pytest.raises(InvalidInput):
        with_floor([2, 1], merit, group, np.array([2]), k=k, floor=floor)


def test_without_any_merit_there_is_nothing_to_compare() -> None:
    with pytest.raises(InvalidInput, match="merit"):
        exposures(np.array(["a"], dtype=object), [0], [1], np.array([1]))
    with pytest.raises(InvalidInput, match="do not fit"):
        exposures(np.array(["a"], dtype=object), [0, 1], [1, 2], np.array([2]))


@st.composite
def markets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    sizes = np.array(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    n = int(sizes.sum())
    group = np.array(draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n)), dtype=object)
    merit = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=float)
    score = np.array(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), dtype=float)
    if not merit.any():
        merit[0] = 1.0
    return score, merit, group, sizes, draw(st.integers(1, 3))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markets(), st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_the_floor_is_met_where_any_choice_meets_it_by_the_smallest_moves(
    market: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], floor: float
) -> None:
    score, merit, group, sizes, k = market
    position = with_floor(score, merit, group, sizes, k=k, floor=floor)
    base = ranks(score, sizes)
    starts = np.cumsum(sizes) - sizes
    for start, size in zip(starts, sizes, strict=True):
        rows = slice(start, start + size)
        assert sorted(position[rows]) == list(range(1, size + 1))
        for inside in (position[rows] <= k, position[rows] > k):
            kept = np.flatnonzero(inside)
            by_position = kept[np.argsort(position[rows][kept])]
            assert (np.diff(base[rows][by_position]) > 0).all()  # the order is kept

    before = {e.group: e for e in exposures(group, merit, base, sizes, k)}
    after = {e.group: e for e in exposures(group, merit, position, sizes, k)}
    slots = sum(e.impressions for e in after.values())
    need = {g: int(np.ceil(floor * e.merit_share * slots - 1e-6)) for g, e in after.items()}
    lacking = sum(max(need[g] - e.impressions, 0) for g, e in after.items())
    if all(before[g].impressions >= need[g] for g in need):
        assert (position == base).all()

    least, fewest = np.inf, np.inf
    counted = [
        range(s, s + z) for s, z in zip(starts, sizes, strict=True) if merit[s : s + z].any()
    ]
    for choice in product(*(combinations(rows, min(k, len(rows))) for rows in counted)):
        chosen = [row for rows in choice for row in rows]
        got = {g: int((group[chosen] == g).sum()) for g in need}
        short = sum(max(need[g] - got[g], 0) for g in need)
        moved = int(base[chosen].sum())
        if (short, moved) < (least, fewest):
            least, fewest = short, moved
    assert lacking == least
    shown = np.concatenate([[r for r in rows if position[r] <= k] for rows in counted]).astype(int)
    assert int(base[shown].sum()) == fewest


@pytest.mark.parametrize(("got", "merits", "of"), [(4, 5, 6), (8, 10, 12), (12, 15, 19)])
def test_just_at_the_floor_is_not_below_it(got: int, merits: int, of: int) -> None:
    assert not Exposure("north", 10, got, got / of, merits / of).below(0.8)
    assert Exposure("north", 10, got - 1, (got - 1) / of, merits / of).below(0.8)
