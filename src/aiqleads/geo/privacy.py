"""What may be shown of where a lead is before it is bought: a cell of at least k leads.

Cells are fixed (H3), nothing is jittered, and a lead's shown cell is a parent of its
stored one. The rule of k holds for the set of leads that carry the SAME shown cell, not
just for the cell: if five of seven leads show a small cell and two its parent, the two
would stand alone in the rest of the parent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiqleads.geo.grid import Cells, parent

#: shown instead of a cell where even the coarsest one holds fewer than k leads
WITHHELD = 0
RESOLUTIONS = (9, 8, 7, 6)


def _sharing(cells: Cells) -> Cells:
    """How many of the leads share each lead's cell."""
    _, back, counts = np.unique(cells, return_inverse=True, return_counts=True)
    return counts[back]


def coarsen(cells: Cells, k: int = 5, resolutions: Sequence[int] = RESOLUTIONS) -> Cells:
    """The cell to show for each lead, shape (n,), int64, in the order given.

    cells: stored cells (res 10) of the leads that one answer is about, after filtering.
    Each lead gets the finest of `resolutions` (given from fine to coarse) at which at
    least k leads share the shown cell. Leads that are left over take the smallest group
    of their coarsest cell along; where there is none, they are WITHHELD.
    """
    cells = np.asarray(cells, np.int64)
    shown = np.full(cells.shape, WITHHELD, np.int64)
    for resolution in resolutions:
        waiting = np.flatnonzero(shown == WITHHELD)
        candidates = parent(cells[waiting], resolution)
        counts = _sharing(candidates)
        shown[waiting[counts >= k]] = candidates[counts >= k]
    coarsest = resolutions[-1]
    top = parent(cells, coarsest)
    for cell in np.unique(top[shown == WITHHELD]):
        inside = top == cell
        group, counts = np.unique(shown[inside & (shown != WITHHELD)], return_counts=True)
        if group.size:
            smallest = group[np.argmin(counts)]
            shown[inside & ((shown == WITHHELD) | (shown == smallest))] = cell
    return shown
