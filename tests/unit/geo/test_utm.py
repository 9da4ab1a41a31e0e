from __future__ import annotations

import numpy as np
import pytest

from aiqleads.errors import InvalidInput
from aiqleads.geo.utm import area_of_use, find_crs, project


@pytest.mark.parametrize(
    ("lon", "lat", "crs"),
    [
        (-83.54, 41.65, "EPSG:32617"),
        (-121.4, 38.6, "EPSG:32610"),
        (151.2, -33.9, "EPSG:32756"),
        (180.0, 10.0, "EPSG:32601"),
        (-180.0, 10.0, "EPSG:32601"),
    ],
)
def test_the_zone_is_found_from_the_points(lon: float, lat: float, crs: str) -> None:
    assert find_crs(np.array([lon]), np.array([lat])) == crs


def test_no_point_has_no_zone() -> None:
    with pytest.raises(InvalidInput, match="no place"):
        find_crs(np.array([]), np.array([]))


def test_distances_in_the_zone_are_metres_on_the_ground() -> None:
    # 0.0045 degrees are about 500 m to the north and 374 m to the east at 41.65 north.
    x, y = project(
        np.array([-83.54, -83.54, -83.5355]), np.array([41.65, 41.6545, 41.65]), "EPSG:32617"
    )
    assert np.hypot(x[1] - x[0], y[1] - y[0]) == pytest.approx(499.7, abs=1.0)
    assert np.hypot(x[2] - x[0], y[2] - y[0]) == pytest.approx(374.8, abs=1.0)


def test_a_point_on_the_central_meridian_has_the_false_easting() -> None:
    x, y = project(np.array([-81.0]), np.array([0.0]), "EPSG:32617")
    assert (x[0], y[0]) == (pytest.approx(500_000), pytest.approx(0, abs=1e-6))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2263", "no such thing"])
def test_a_system_that_is_no_plane_in_metres_is_refused(crs: str) -> None:
    with pytest.raises(InvalidInput):
        project(np.array([0.0]), np.array([0.0]), crs)


def test_swapped_coordinates_lie_outside_the_zone() -> None:
    west, south, east, north = area_of_use("EPSG:32617")
    assert west < -83.54 < east
    assert south < 41.65 < north
    assert not west < 41.65 < east


def test_a_system_of_ones_own_may_be_used_anywhere() -> None:
    own = "+proj=tmerc +lat_0=0 +lon_0=-83 +units=m +ellps=WGS84 +type=crs"
    assert area_of_use(own) == (-180.0, -90.0, 180.0, 90.0)
