from __future__ import annotations

import h3
import numpy as np

from aiqleads.geo import grid
from aiqleads.geo.privacy import WITHHELD, coarsen


def _children(cell: str, resolution: int) -> np.ndarray:
    return np.array([h3.str_to_int(c) for c in sorted(h3.cell_to_children(cell, resolution))])


RES_6 = h3.latlng_to_cell(41.65, -83.54, 6)


def test_five_leads_of_one_small_cell_show_it() -> None:
    res_9 = sorted(h3.cell_to_children(RES_6, 9))[0]
    leads = _children(res_9, 10)[[0, 1, 2, 3, 3]]
    assert set(coarsen(leads)) == {h3.str_to_int(res_9)}


def test_four_leads_are_shown_in_no_smaller_cell_than_five_share() -> None:
    res_8 = sorted(h3.cell_to_children(RES_6, 8))[0]
    first, second = sorted(h3.cell_to_children(res_8, 9))[:2]
    leads = np.concatenate([_children(first, 10)[:4], _children(second, 10)[:1]])
    assert set(coarsen(leads)) == {h3.str_to_int(res_8)}


def test_the_two_beside_a_shown_group_do_not_stand_alone() -> None:
    # Five share a res-9 cell, two more its res-8 parent: alone they would be two.
    res_8 = sorted(h3.cell_to_children(RES_6, 8))[0]
    first, second = sorted(h3.cell_to_children(res_8, 9))[:2]
    leads = np.concatenate([_children(first, 10)[:5], _children(second, 10)[:2]])
    shown = coarsen(leads)
    assert set(shown) == {h3.str_to_int(RES_6)}


def test_fewer_than_k_leads_in_all_are_withheld() -> None:
    leads = _children(RES_6, 10)[:4]
    assert set(coarsen(leads)) == {WITHHELD}
    assert set(coarsen(leads, k=4)) == {grid.parent(leads, 9)[0]}


def test_no_lead_is_no_cell() -> None:
    assert coarsen(np.array([], np.int64)).shape == (0,)
