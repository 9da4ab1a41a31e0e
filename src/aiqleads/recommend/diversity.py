"""No two leads about one and the same home, or of one building, among the first ten.

Two leads of people who sell are near duplicates when their homes stand

- at one point (no farther apart than `SAME_POINT_M`): one home twice, or one building; or
- within `SAME_HOME_M`, with asking prices within `SAME_PRICE` of each other and living areas
  within `SAME_SIZE`: one home whose address was written or located in two ways.

What is near a near duplicate belongs to the same group. People who buy have no home to
share: two of them are two customers, wherever they look. Groups are numbered when a snapshot
is made; the numbers say nothing of places and are not shown to anybody.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

#: places of a page that hold no two of a group
TOP = 10
SAME_POINT_M = 5.0
SAME_HOME_M = 40.0
SAME_PRICE = 0.05
SAME_SIZE = 0.05
#: the number of a lead that is alone
ALONE = -1


def twins(x_m: F64, y_m: F64, price_cents: I64, area_sqft: F64, sells: NDArray[np.bool_]) -> I64:
    """Numbers of the groups of near duplicates, (n,); `ALONE` for a lead without any.

    x_m, y_m: metres. area_sqft: NaN where not known, which equals nothing. sells: whether the
    person sells a home. The numbers follow the order of the rows.
    """
    n = len(x_m)
    one, other = _near(x_m, y_m, np.flatnonzero(sells & np.isfinite(x_m) & np.isfinite(y_m)))
    apart = np.hypot(x_m[one] - x_m[other], y_m[one] - y_m[other])
    alike = _within(price_cents[one], price_cents[other], SAME_PRICE)
    alike &= _within(area_sqft[one], area_sqft[other], SAME_SIZE)
    same = (apart <= SAME_POINT_M) | ((apart <= SAME_HOME_M) & alike)
    group = _joined(n, one[same], other[same])
    _, number, count = np.unique(group, return_inverse=True, return_counts=True)
    return np.where(count[number] > 1, number, ALONE).astype(np.int64)


def set_aside(order: I64, twin: I64) -> tuple[I64, I64]:
    """Takes near duplicates of the first ten out of an order: the order without them, and they.

    order: candidates, best first. twin: their groups by candidate. Of each group the first
    stays. Both results keep the order; groups that only begin after the tenth stay whole.
    """
    group = twin[order]
    grouped = np.flatnonzero(group != ALONE)
    again = np.ones(len(grouped), dtype=np.bool_)
    again[np.unique(group[grouped], return_index=True)[1]] = False
    repeat = np.zeros(len(order), dtype=np.bool_)
    repeat[grouped[again]] = True
    top = group[~repeat][:TOP]
    repeat &= np.isin(group, top[top != ALONE])
    return order[~repeat], order[repeat]


def _near(x_m: F64, y_m: F64, rows: I64) -> tuple[I64, I64]:
    """Pairs of rows that may lie within `SAME_HOME_M`: those of neighbouring squares."""
    column, line = (np.floor(v[rows] / SAME_HOME_M).astype(np.int64) for v in (x_m, y_m))
    key = column * (1 << 32) + line
    order = np.argsort(key, kind="stable")
    key, rows = key[order], rows[order]
    ones, others = [], []
    # Half of the eight neighbours: a pair is found once, from one of its two squares.
    for step in (0, 1, 1 << 32, (1 << 32) + 1, (1 << 32) - 1):
        low = np.searchsorted(key, key + step, side="left")
        high = np.searchsorted(key, key + step, side="right")
        if step == 0:
            low = np.arange(len(key)) + 1
        count = np.maximum(high - low, 0)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        ones.append(np.repeat(rows, count))
        others.append(rows[np.repeat(low, count) + within])
    return np.concatenate(ones), np.concatenate(others)


def _within(
    a: NDArray[np.float64] | I64, b: NDArray[np.float64] | I64, share: float
) -> NDArray[np.bool_]:
    return np.asarray(np.abs(a - b) <= share * np.minimum(a, b))


def _joined(n: int, one: I64, other: I64) -> I64:
    """The smallest row that each row is joined with, over any number of steps."""
    group = np.arange(n, dtype=np.int64)
    while True:
        low = np.minimum(group[one], group[other])
        before = group.copy()
        np.minimum.at(group, one, low)
        np.minimum.at(group, other, low)
        group = group[group]
        if np.array_equal(before, group):
            return group
