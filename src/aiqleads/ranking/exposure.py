"""Who is seen: impressions of groups of leads against what their relevance merits.

A group's merit share is its share of the relevance of what could have been shown, and its
exposure the share of impressions it got (Singh and Joachims 2018, "Fairness of exposure in
rankings", KDD; over many requests together as in Biega, Gummadi and Weikum 2018, "Equity
of attention", SIGIR). Exposure far below merit starves a group's sellers and buyers, and the
next ranker learns from a log in which the group hardly stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiqleads.errors import InvalidInput
from aiqleads.ranking.evaluate import ranks

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

TOP = 10
#: share of its merit share that a group must reach
FLOOR = 0.8
#: what rounding may take from a share that stands just at the floor
_HAIR = 1e-9


@dataclass(frozen=True)
class Exposure:
    """What one group got and what it merits.

    offered: rows that could be shown. impressions: rows among the first k. share: of all
    impressions. merit_share: of all relevance, each request weighing as much as the places
    it hands out.
    """

    group: str
    offered: int
    impressions: int
    share: float
    merit_share: float

    @property
    def ratio(self) -> float:
        """Share over merit share; NaN for a group without merit."""
        return self.share / self.merit_share if self.merit_share > 0 else float("nan")

    def below(self, floor: float = FLOOR) -> bool:
        """Whether the group gets less than `floor` of its merit share."""
        return self.share < floor * self.merit_share - _HAIR


def exposures(
    group: NDArray[np.object_],
    merit: ArrayLike,
    position: ArrayLike,
    sizes: Counts,
    k: int = TOP,
) -> list[Exposure]:
    """Exposure of each group in the first k of every request, most merit first.

    group, merit, position: (n,), merit not negative, position from 1 within its request.
    sizes: rows per request. Requests in which nothing has merit are left out: any order of
    them is as good. Raises InvalidInput for a negative merit or when no request is left.
    """
    place = _Places(group, merit, sizes, k)
    shown = (np.asarray(position) <= k) & place.counted
    impressions = np.bincount(place.code[shown], minlength=len(place.names))
    offered = np.bincount(place.code[place.counted], minlength=len(place.names))
    found = [
        Exposure(name, int(rows), int(got), float(got / place.slots), float(due / place.slots))
        for name, rows, got, due in zip(place.names, offered, impressions, place.due, strict=True)
    ]
    return sorted(found, key=lambda each: (-each.merit_share, each.group))


def with_floor(
    score: ArrayLike,
    merit: ArrayLike,
    group: NDArray[np.object_],
    sizes: Counts,
    *,
    k: int = TOP,
    floor: float = FLOOR,
    tie: ArrayLike | None = None,
) -> Counts:
    """Positions (n,), from 1, in which every group gets `floor` of its merit share, if it can.

    score, merit, group: (n,); sizes: rows per request, summing to n; the floor is kept over
    all these requests together, and a place is whole, so what is due is rounded up. What
    stands among the first k is changed by swaps within a request: a lead of a group with
    places to spare leaves, the best lead of a group below its floor that stands outside comes
    in. The swaps chosen move leads the fewest ranks in total (shortest augmenting paths of
    the flow from groups to places, Ahuja, Magnanti and Orlin 1993, ch. 9), so that a group
    can also be served by way of a third. All else keeps its order: those who stay above k
    among themselves, then those who came in, then the rest. Where no order meets the floor as
    many places as possible go to groups below it. Raises InvalidInput for a floor outside 0..1
    and as `exposures`.
    """
    if not 0 <= floor <= 1:
        raise InvalidInput(f"a floor is a share from 0 to 1, not {floor}")
    place = _Places(group, merit, sizes, k)
    rank = ranks(score, sizes, tie)
    swaps = _Swaps(place, rank, k)
    # a hair below, so that 0.8 * 5 / 4 is one place and not two
    need = np.ceil(floor * place.due - _HAIR).astype(np.int64)
    count = np.bincount(place.code[swaps.shown & place.counted], minlength=len(need))
    while (below := count < need).any():
        path = swaps.cheapest_path(sources=count > need, targets=below)
        if path is None:
            break
        for leaves, enters in pairwise(path):
            swaps.swap(leaves, enters)
        count[path[0]] -= 1
        count[path[-1]] += 1
    order = np.lexsort((rank, ~swaps.shown, place.request))
    position = np.empty(len(rank), dtype=np.int64)
    position[order] = np.arange(len(rank)) - np.repeat(place.start, sizes) + 1
    return position


class _Places:
    """Groups as numbers, and the places that each of them merits."""

    def __init__(self, group: NDArray[np.object_], merit: ArrayLike, sizes: Counts, k: int) -> None:
        worth = np.asarray(merit, dtype=np.float64)
        if len(group) != len(worth) or int(np.sum(sizes)) != len(worth):
            raise InvalidInput("groups, merits and sizes of requests do not fit")
        if k < 1 or not (worth >= 0).all():
            raise InvalidInput("merit must be a number that is not negative, and k at least 1")
        names, code = np.unique(group.astype(str), return_inverse=True)
        self.names: list[str] = names.tolist()
        self.code: NDArray[Any] = code
        self.start = np.cumsum(sizes) - sizes
        self.request = np.repeat(np.arange(len(sizes)), sizes)
        total = np.add.reduceat(worth, self.start)
        handed = np.where(total > 0, np.minimum(sizes, k), 0)
        self.slots = int(handed.sum())
        if not self.slots:
            raise InvalidInput("nothing has any merit: there is no exposure to compare")
        self.counted = (total > 0)[self.request]
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = np.where(total > 0, handed / total, 0.0)
        self.due: Floats = np.bincount(
            code, weights=worth * rate[self.request], minlength=len(names)
        ).astype(np.float64)


class _Swaps:
    """Which swaps within a request are open, and what each costs in ranks.

    For each request and group: the lowest lead that is shown (it would leave) and the highest
    that is not (it would come in). An edge from group h to group g is the cheapest swap of any
    request that takes a place from h and gives it to g. A swap of the first order costs more
    than nothing, so there is no cycle of negative cost, and augmenting along shortest paths
    never makes one.
    """

    def __init__(self, place: _Places, rank: Counts, k: int) -> None:
        self._place, self._rank = place, rank
        self.shown: NDArray[np.bool_] = rank <= k
        cells = (len(place.start), len(place.names))
        self._leaves, self._enters = np.full(cells, -np.inf), np.full(cells, np.inf)
        at, code = place.request, place.code
        for rows, extreme, ends in (
            (self.shown & place.counted, np.maximum, self._leaves),
            (~self.shown & place.counted, np.minimum, self._enters),
        ):
            extreme.at(ends, (at[rows], code[rows]), rank[rows].astype(np.float64))
        self._cost = np.full((cells[1], cells[1]), np.inf)
        self._via = np.full((cells[1], cells[1]), -1)
        for h in range(cells[1]):
            self._refresh(h, np.arange(cells[1]))

    def cheapest_path(
        self, sources: NDArray[np.bool_], targets: NDArray[np.bool_]
    ) -> Sequence[int] | None:
        """Groups from one that can spare a place to one that lacks it (Bellman and Ford)."""
        distance = np.where(sources, 0.0, np.inf)
        before = np.full(len(distance), -1)
        changed = True
        while changed:
            changed = False
            for h in np.flatnonzero(np.isfinite(distance)):
                reached = distance[h] + self._cost[h]
                if (better := reached < distance).any():
                    distance[better], before[better] = reached[better], h
                    changed = True
        reached = np.where(targets, distance, np.inf)
        goal = int(np.argmin(reached))
        if not np.isfinite(reached[goal]):
            return None
        path = [goal]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def swap(self, leaves: int, enters: int) -> None:
        """Makes the cheapest swap between two groups and looks at its request anew."""
        request = int(self._via[leaves, enters])
        rows = self._rows(request)
        self.shown[self._end(rows, leaves, shown=True)] = False
        self.shown[self._end(rows, enters, shown=False)] = True
        for g in (leaves, enters):
            stay, out = self._end(rows, g, shown=True), self._end(rows, g, shown=False)
            self._leaves[request, g] = -np.inf if stay < 0 else self._rank[stay]
            self._enters[request, g] = np.inf if out < 0 else self._rank[out]
        self._reprice(request)

    def _reprice(self, request: int) -> None:
        cost = self._enters[request][None, :] - self._leaves[request][:, None]
        np.fill_diagonal(cost, np.inf)
        stale = (self._via == request) & (cost != self._cost)
        better = cost < self._cost
        self._cost[better], self._via[better] = cost[better], request
        for h in np.flatnonzero(stale.any(axis=1)):
            self._refresh(int(h), np.flatnonzero(stale[h]))

    def _refresh(self, h: int, others: NDArray[np.integer[Any]]) -> None:
        costs = self._enters[:, others] - self._leaves[:, [h]]
        via = np.argmin(costs, axis=0)
        self._via[h, others] = via
        self._cost[h, others] = costs[via, np.arange(len(others))]
        self._cost[h, h] = np.inf

    def _rows(self, request: int) -> slice:
        start = int(self._place.start[request])
        ends = self._place.start
        return slice(start, int(ends[request + 1]) if request + 1 < len(ends) else len(self._rank))

    def _end(self, rows: slice, group: int, *, shown: bool) -> int:
        """The lowest shown or the highest hidden row of a group in a request; -1 for none."""
        mine = rows.start + np.flatnonzero(
            (self._place.code[rows] == group) & (self.shown[rows] == shown)
        )
        if not len(mine):
            return -1
        pick = np.argmax if shown else np.argmin
        return int(mine[pick(self._rank[mine])])
