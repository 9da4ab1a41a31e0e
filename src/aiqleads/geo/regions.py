"""Named areas of a market: polygons of a GeoJSON file, or H3 cells where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from aiqleads.errors import InvalidInput
from aiqleads.geo.grid import REGION_RESOLUTION, Cells, names, parent

#: region of a place that no polygon holds
OUTSIDE = "outside"


def regions_by_cell(cells: Cells) -> list[str]:
    """Name of the H3 res-6 cell (about 36 km2) that each stored cell belongs to."""
    return names(parent(cells, REGION_RESOLUTION))


def regions_by_polygon(
    lon: NDArray[np.float64], lat: NDArray[np.float64], path: Path, id_property: str
) -> list[str]:
    """Name of the polygon that holds each point (degrees WGS 84), or OUTSIDE.

    path: GeoJSON FeatureCollection; id_property: the property that names a region. Where
    polygons overlap the first of the file wins. InvalidInput for a file that is not so.
    """
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        shapes = [
            (str(each["properties"][id_property]), shapely.geometry.shape(each["geometry"]))
            for each in features
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"regions {path}: not a GeoJSON FeatureCollection whose features have the "
            f"property {id_property!r} ({type(error).__name__}: {error})"
        ) from error
    found = np.full(len(lon), OUTSIDE, dtype=object)
    for name, polygon in reversed(shapes):
        shapely.prepare(polygon)
        found[shapely.contains_xy(polygon, lon, lat)] = name
    return [str(name) for name in found]
