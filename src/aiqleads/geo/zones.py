"""Zones: areas that rows share when each is shown by its coarsened cell (geo/privacy.py).

A coarse zone is what is left of its cell once the finer zones inside it are cut out, so
zones do not overlap, every row is counted once, and no zone counts fewer than k rows:
neither a figure nor the difference of two of them singles a row out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from h3.api import basic_int as h3
from numpy.typing import NDArray

from aiqleads.geo.grid import Cells, areas_km2, resolution_of
from aiqleads.geo.privacy import WITHHELD, coarsen

#: from fine (about 0.7 km2) to coarse (about 36 km2)
RESOLUTIONS = (8, 7, 6)


@dataclass(frozen=True)
class Zone:
    """One area.

    cell: the H3 cell that its rows show. tiles: the cells of the finest resolution that it
    covers. rows: positions (0-based) of its rows, (m,).
    """

    cell: int
    tiles: tuple[int, ...]
    rows: NDArray[np.intp]

    @property
    def area_km2(self) -> float:
        """Sum over the tiles, whose areas differ."""
        return float(areas_km2(np.asarray(self.tiles, np.int64)).sum())

    @property
    def geometry(self) -> dict[str, Any]:
        """The outline as a GeoJSON geometry, lon/lat."""
        return outline(self.tiles)


def zones(cells: Cells, k: int = 5) -> tuple[list[Zone], int]:
    """The zones of some rows, coarse ones first, and how many rows are in none.

    cells: (n,) the rows' stored H3 cells. Rows are in no zone where even the coarsest cell
    holds fewer than k of them.
    """
    shown = coarsen(cells, k, RESOLUTIONS)
    names = np.unique(shown[shown != WITHHELD])
    found: list[Zone] = []
    taken: set[int] = set()
    for cell in names[np.argsort(-resolution_of(names), kind="stable")].tolist():
        tiles = tuple(t for t in h3.cell_to_children(cell, RESOLUTIONS[0]) if t not in taken)
        taken.update(tiles)
        found.append(Zone(cell, tiles, np.flatnonzero(shown == cell)))
    return found[::-1], int(np.count_nonzero(shown == WITHHELD))


def outline(cells: tuple[int, ...]) -> dict[str, Any]:
    """The joint outline of H3 cells of one resolution: a GeoJSON geometry, lon/lat."""
    return dict(h3.cells_to_geo(list(cells)))
