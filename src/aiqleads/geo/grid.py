"""H3 cells as int64 arrays. One convention: a parent is the parent of the STORED cell.

A lead's cell is stored at resolution 10 when it is ingested. A point's own res-8 cell is
not always the res-8 parent of its res-10 cell (children stick out of their parents), so
coarser cells are only ever made by `parent`. H3 takes (lat, lng); everything here takes
(lon, lat), as files and GeoJSON do, and turns it around in one place.
"""

from __future__ import annotations

import numpy as np
from h3.api import basic_int as h3
from numpy.typing import NDArray

STORED_RESOLUTION = 10
REGION_RESOLUTION = 6

Cells = NDArray[np.int64]
Floats = NDArray[np.float64]

# An H3 index keeps its resolution in bits 52-55 and one base-7 digit of three bits for
# each resolution 1..15 below; digits finer than the resolution are 7.
# https://h3geo.org/docs/core-library/h3Indexing/
_RESOLUTION_SHIFT = 52
_FINEST = 15


def cells(lon: Floats, lat: Floats, resolution: int = STORED_RESOLUTION) -> Cells:
    """H3 cell of each point, shape (n,), int64; degrees WGS 84. NaN gives ValueError."""
    lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ValueError("a point without coordinates has no cell")
    find = h3.latlng_to_cell
    pairs = zip(lat.tolist(), lon.tolist(), strict=True)
    return np.fromiter((find(y, x, resolution) for y, x in pairs), np.int64, len(lon))


def resolution_of(cells: Cells) -> NDArray[np.int64]:
    """Resolution 0..15 of each cell."""
    return (np.asarray(cells, np.int64) >> _RESOLUTION_SHIFT) & 0xF


def parent(cells: Cells, resolution: int) -> Cells:
    """Parent of each cell at a coarser (or the same) resolution, by bit arithmetic.

    Same shape; equal to `h3.cell_to_parent`. ValueError where a cell is coarser already.
    """
    cells = np.asarray(cells, np.int64)
    if cells.size and int(resolution_of(cells).min()) < resolution:
        raise ValueError(f"a cell is coarser than resolution {resolution} already")
    unused = (1 << (3 * (_FINEST - resolution))) - 1
    kept = cells & ~np.int64(0xF << _RESOLUTION_SHIFT)
    return kept | np.int64(resolution << _RESOLUTION_SHIFT) | np.int64(unused)


def centers(cells: Cells) -> tuple[Floats, Floats]:
    """(lon, lat) of the middle of each cell, degrees, shape (n,) each."""
    unique, back = np.unique(np.asarray(cells, np.int64), return_inverse=True)
    points = np.array([h3.cell_to_latlng(int(cell)) for cell in unique], np.float64).reshape(-1, 2)
    return points[back, 1], points[back, 0]


def names(cells: Cells) -> list[str]:
    """The usual hexadecimal writing of each cell, e.g. '862ab2c5fffffff'."""
    return [format(cell, "x") for cell in np.asarray(cells, np.int64).tolist()]


def areas_km2(cells: Cells) -> Floats:
    """Each cell's own area; H3 areas differ by a third across the United States."""
    unique, back = np.unique(np.asarray(cells, np.int64), return_inverse=True)
    area = np.array([h3.cell_area(int(cell), unit="km^2") for cell in unique], np.float64)
    return area[back]
