from __future__ import annotations

import h3
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aiqleads.geo import grid
from aiqleads.geo.privacy import WITHHELD, coarsen
from aiqleads.geo.utm import find_crs, project

degrees = st.floats(-180, 180), st.floats(-89, 89)


@given(st.lists(st.tuples(*degrees), min_size=1, max_size=20), st.integers(0, 10))
def test_parents_by_bits_are_h3_s_own(points: list[tuple[float, float]], resolution: int) -> None:
    lon, lat = np.array(points).T
    stored = grid.cells(lon, lat)
    expected = [h3.cell_to_parent(name, resolution) for name in grid.names(stored)]
    assert grid.names(grid.parent(stored, resolution)) == expected
    assert set(grid.resolution_of(grid.parent(stored, resolution))) == {resolution}


@given(st.floats(-179.9, 179.9), st.floats(-79, 79))
def test_a_point_lies_near_the_middle_of_its_own_zone(lon: float, lat: float) -> None:
    point = np.array([lon]), np.array([lat])
    x, _ = project(*point, find_crs(*point))
    assert 160_000 < x[0] < 840_000  # three degrees to either side of 500 km


toledo = st.tuples(st.floats(-83.9, -83.2), st.floats(41.4, 41.8))


@given(st.lists(toledo, max_size=60), st.integers(2, 8))
def test_every_shown_cell_is_shared_by_k_and_holds_its_leads(
    points: list[tuple[float, float]], k: int
) -> None:
    lon, lat = np.array(points, dtype=float).reshape(-1, 2).T
    stored = grid.cells(lon, lat)
    shown = coarsen(stored, k=k)
    for cell, count in zip(*np.unique(shown, return_counts=True), strict=True):
        if cell == WITHHELD:
            continue
        assert count >= k
        resolution = int(grid.resolution_of(np.array([cell]))[0])
        assert 6 <= resolution <= 9
        assert set(grid.parent(stored[shown == cell], resolution)) == {cell}


@given(st.lists(toledo, max_size=60), st.integers(2, 8))
def test_a_lead_is_withheld_only_where_fewer_than_k_share_the_coarsest_cell(
    points: list[tuple[float, float]], k: int
) -> None:
    lon, lat = np.array(points, dtype=float).reshape(-1, 2).T
    stored = grid.cells(lon, lat)
    shown, top = coarsen(stored, k=k), grid.parent(stored, 6)
    for cell in np.unique(top):
        assert (shown[top == cell] == WITHHELD).all() == ((top == cell).sum() < k)
        assert len(set(shown[top == cell] == WITHHELD)) == 1


@given(st.lists(toledo, min_size=1, max_size=40), st.randoms())
def test_the_order_of_leads_does_not_matter(
    points: list[tuple[float, float]], random: object
) -> None:
    lon, lat = np.array(points, dtype=float).T
    stored = grid.cells(lon, lat)
    order = np.arange(len(stored))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(coarsen(stored)[order], coarsen(stored[order]))
