"""Zones count every row once and never fewer than k together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiqleads.geo.grid import areas_km2, cells, parent, resolution_of
from aiqleads.geo.zones import RESOLUTIONS, zones


def _town(n: int, spread: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cells(-83.55 + rng.normal(0, spread, n), 41.65 + rng.normal(0, spread, n))


@given(n=st.integers(0, 120), spread=st.sampled_from([0.002, 0.03, 0.3]), seed=st.integers(0, 50))
def test_every_row_is_in_one_zone_of_k_or_in_none(n: int, spread: float, seed: int) -> None:
    found, withheld = zones(_town(n, spread, seed), k=5)
    rows = np.concatenate([zone.rows for zone in found]) if found else np.empty(0, int)
    assert len(np.unique(rows)) == len(rows) == n - withheld
    assert all(len(zone.rows) >= 5 for zone in found)


def test_zones_do_not_overlap_and_hold_the_tiles_of_their_rows() -> None:
    stored = _town(400, 0.05)
    found, _ = zones(stored)
    tiles = [tile for zone in found for tile in zone.tiles]
    assert len(set(tiles)) == len(tiles)
    assert {int(r) for zone in found for r in resolution_of(np.array([zone.cell]))} > {8}
    for zone in found:
        assert set(parent(stored[zone.rows], RESOLUTIONS[0]).tolist()) <= set(zone.tiles)
        assert zone.area_km2 == pytest.approx(areas_km2(np.array(zone.tiles)).sum())


def test_coarse_zones_come_first_and_their_outline_is_lon_lat() -> None:
    found, _ = zones(_town(400, 0.05))
    resolutions = [int(resolution_of(np.array([zone.cell]))[0]) for zone in found]
    assert resolutions == sorted(resolutions)
    ring = found[-1].geometry["coordinates"][0]
    lon, lat = ring[0] if isinstance(ring[0][0], float) else ring[0][0]
    assert -85 < lon < -82
    assert 40 < lat < 43
