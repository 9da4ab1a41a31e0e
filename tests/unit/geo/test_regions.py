from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aiqleads.errors import InvalidInput
from aiqleads.geo.grid import cells
from aiqleads.geo.regions import OUTSIDE, regions_by_cell, regions_by_polygon


def _square(name: str, west: float, south: float, side: float) -> dict[str, object]:
    ring = [
        [west, south],
        [west + side, south],
        [west + side, south + side],
        [west, south + side],
        [west, south],
    ]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": {"zip": name}, "geometry": geometry}


@pytest.fixture
def polygons(tmp_path: Path) -> Path:
    path = tmp_path / "regions.geojson"
    features = [_square("43604", -84, 41, 1), _square("inner", -83.6, 41.4, 0.3)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_a_point_gets_the_first_polygon_that_holds_it(polygons: Path) -> None:
    lon, lat = np.array([-83.5, -83.9, 41.5]), np.array([41.5, 41.9, -83.5])
    assert regions_by_polygon(lon, lat, polygons, "zip") == ["43604", "43604", OUTSIDE]


def test_without_polygons_a_region_is_a_res_6_cell() -> None:
    (name,) = regions_by_cell(cells(np.array([-83.54]), np.array([41.65])))
    assert len(name) == 15
    assert name.startswith("86")


@pytest.mark.parametrize("text", ["no json", "[]", '{"features": [{"properties": {}}]}'])
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.geojson"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="GeoJSON") as caught:
        regions_by_polygon(np.array([0.0]), np.array([0.0]), path, "zip")
    assert "\n" not in caught.value.detail
