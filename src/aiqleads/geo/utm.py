"""Plane coordinates in metres: a market's own UTM zone, stated or found from its points."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from aiqleads.errors import InvalidInput

Floats = NDArray[np.float64]

#: how far outside its zone a market may reach: a county can straddle a zone's edge
ZONE_MARGIN_DEG = 1.0


def find_crs(lon: Floats, lat: Floats) -> str:
    """EPSG code of the UTM zone (WGS 84) of the points' median; degrees.

    Zone = floor((lon + 180) / 6) + 1; 326zz north of the equator, 327zz south of it.
    InvalidInput without a single point.
    """
    if not len(lon):
        raise InvalidInput("no place is known, so no UTM zone can be found")
    x, y = float(np.median(lon)), float(np.median(lat))
    zone = int((x + 180) // 6) % 60 + 1
    return f"EPSG:{(32600 if y >= 0 else 32700) + zone}"


@lru_cache(maxsize=16)
def _system(crs: str) -> CRS:
    try:
        system = CRS.from_user_input(crs)
    except CRSError as error:
        raise InvalidInput(f"unknown coordinate system {crs!r}") from error
    units = {axis.unit_name for axis in system.axis_info}
    if not system.is_projected or units != {"metre"}:
        raise InvalidInput(f"{crs} is not a plane system in metres")
    return system


def project(lon: Floats, lat: Floats, crs: str) -> tuple[Floats, Floats]:
    """(x, y) in metres of points in degrees WGS 84, shape (n,) each."""
    transformer = Transformer.from_crs("EPSG:4326", _system(crs), always_xy=True)
    x, y = transformer.transform(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def area_of_use(crs: str) -> tuple[float, float, float, float]:
    """(west, south, east, north) in degrees where the system may be used, with a margin.

    A point outside is not of this market; swapped coordinates are caught by it.
    """
    area = _system(crs).area_of_use
    if area is None:
        return (-180.0, -90.0, 180.0, 90.0)
    margin = ZONE_MARGIN_DEG
    return (area.west - margin, area.south - margin, area.east + margin, area.north + margin)
