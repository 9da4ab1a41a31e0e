from __future__ import annotations

import h3
import numpy as np
import pytest

from aiqleads.geo import grid

TOLEDO = (-83.5379, 41.6528)  # lon, lat; the other way round it lies in the Antarctic Ocean


def test_a_point_is_taken_as_lon_lat() -> None:
    cell = grid.cells(np.array([TOLEDO[0]]), np.array([TOLEDO[1]]))
    assert grid.names(cell) == [h3.latlng_to_cell(TOLEDO[1], TOLEDO[0], 10)]
    assert cell.dtype == np.int64
    swapped = grid.cells(np.array([TOLEDO[1]]), np.array([TOLEDO[0]]))
    assert swapped[0] != cell[0]


def test_centers_come_back_as_lon_lat_in_the_order_given() -> None:
    lon, lat = np.array([-83.5, -121.4, -83.5]), np.array([41.6, 38.6, 41.6])
    middle = grid.centers(grid.cells(lon, lat))
    np.testing.assert_allclose(middle[0], lon, atol=2e-3)
    np.testing.assert_allclose(middle[1], lat, atol=2e-3)


def test_a_place_without_coordinates_has_no_cell() -> None:
    with pytest.raises(ValueError, match="no cell"):
        grid.cells(np.array([np.nan]), np.array([41.0]))


def test_the_parent_is_of_the_stored_cell_even_where_the_point_lies_in_another() -> None:
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(-83.9, -83.2, 2000), rng.uniform(41.4, 41.8, 2000)
    stored = grid.cells(lon, lat)
    by_parent = grid.parent(stored, 8)
    direct = grid.cells(lon, lat, 8)
    share = (by_parent != direct).mean()
    assert 0.01 < share < 0.15
    assert grid.names(by_parent[:50]) == [
        h3.cell_to_parent(name, 8) for name in grid.names(stored[:50])
    ]


def test_a_cell_has_no_finer_parent() -> None:
    cell = grid.cells(np.array([-83.5]), np.array([41.6]), 8)
    assert grid.parent(cell, 8)[0] == cell[0]
    with pytest.raises(ValueError, match="coarser"):
        grid.parent(cell, 9)


def test_areas_are_each_cell_s_own() -> None:
    cells = grid.cells(np.array([-83.5, -70.0]), np.array([41.6, 8.0]), 6)
    expected = [h3.cell_area(name, unit="km^2") for name in grid.names(cells)]
    np.testing.assert_allclose(grid.areas_km2(cells), expected)
    assert grid.areas_km2(cells)[0] != grid.areas_km2(cells)[1]


def test_empty_arrays_stay_empty() -> None:
    none = grid.cells(np.array([]), np.array([]))
    assert grid.parent(none, 6).shape == (0,)
    assert grid.centers(none)[0].shape == (0,)
    assert grid.areas_km2(none).shape == (0,)
