"""Which order a page takes: by score, or drawn so that others than the favourites are seen too.

A drawn page follows the Plackett-Luce model (Plackett, "The analysis of permutations", 1975):
place after place, one of the candidates that are left is drawn, each with a chance in
proportion to exp(score / temperature). Sorting score / temperature + Gumbel noise is such a
draw (Yellott, 1977), and the chance of each lead at its place, given those above it, is
known exactly: the propensity that off-policy estimates divide by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiqleads.recommend.diversity import TOP, set_aside

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Exploration:
    """How one request is drawn.

    temperature: in the units of the scores, above 0; higher is more even. noise: standard
    Gumbel numbers of some leads (places in the snapshot), of this request's own.
    """

    temperature: float
    noise: Callable[[I64], F64]


@dataclass(frozen=True)
class Page:
    """Candidates in the order shown, best first, and the chance of each at its place.

    order: (m,) positions into the candidates. propensity: (m,), given those above; 1.0 where
    nothing was drawn.
    """

    order: I64
    propensity: F64


def draw(
    scores: F64,
    noise: F64 | None,
    temperature: float,
    shown: int,
    *,
    twin: I64 | None = None,
    tie: NDArray[np.integer] | None = None,
) -> Page:
    """The first `shown` of the candidates, drawn; by score where `noise` is None.

    scores, noise: (n,). twin: (n,) numbers of groups of near duplicates, negative where a lead
    has none: of a group, one at most comes to the first `TOP` places, and the others follow
    when nothing else is left, by score. tie: (n,), lower first among equals.
    """
    tie = np.arange(len(scores)) if tie is None else tie
    logits = scores if noise is None else scores / temperature
    keys = logits if noise is None else logits + noise
    order = np.lexsort((tie, -keys)).astype(np.int64)
    waiting = np.empty(0, dtype=np.int64)
    if twin is not None:
        order, waiting = set_aside(order, twin)
        waiting = waiting[np.lexsort((tie[waiting], -scores[waiting]))]
    page = np.concatenate([order, waiting])[:shown]
    chance = np.ones(len(page))
    if noise is not None:
        drawn = min(shown, len(order))
        chance[:drawn] = _chances(logits, order, waiting, twin)[:drawn]
    return Page(page, chance)


def _chances(logits: F64, order: I64, waiting: I64, twin: I64 | None) -> F64:
    """Chance of each of `order` at its place: its weight over those that could still come.

    A lead that waits could come until the place of its group's first, that place included:
    with memoryless clocks instead of Gumbel numbers (Yellott) this is plain to see.
    """
    if not len(order):
        return np.zeros(0)
    until = np.arange(len(order))
    if len(waiting) and twin is not None:
        first = {int(twin[at]): place for place, at in reversed(list(enumerate(order[:TOP])))}
        until = np.concatenate([until, [first[int(twin[at])] for at in waiting]])
    # Sums of weights as logarithms: far behind the first, a weight itself is 0 as a float.
    leaves = np.full(len(order), -np.inf)
    np.logaddexp.at(leaves, until, logits[np.concatenate([order, waiting])])
    left = np.logaddexp.accumulate(leaves[::-1])[::-1]
    # rounding may leave the last draw's weight a hair above its own sum
    return np.asarray(np.minimum(np.exp(logits[order] - left), 1.0))
