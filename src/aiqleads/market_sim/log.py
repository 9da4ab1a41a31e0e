"""What a played market leaves behind: rankings as shown, and the steps that followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiqleads.market_sim.draws import F64
from aiqleads.market_sim.world import I64


class Kind(IntEnum):
    """Steps in the order in which they are taken at one and the same microsecond."""

    VIEW = 0
    HOLD = 1
    RELEASE = 2
    PURCHASE = 3
    RETURN = 4


@dataclass(frozen=True)
class Shown:
    """Columns over the leads of rankings, shape (n,), with what the true model says of them.

    Of a bot's rankings nothing is true: relevance, p_purchase, p_return and score_known are
    NaN there and would_purchase is False.
    """

    lead: I64
    propensity: F64
    fee_cents: I64
    relevance: F64
    p_purchase: F64
    p_return: F64
    would_purchase: NDArray[np.bool_]
    score_known: F64

    def part(self, rows: slice) -> Shown:
        """Some of the rows."""
        return Shown(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


@dataclass(frozen=True)
class Answered:
    """Columns over rankings, shape (k,).

    number: of the request in the schedule. count: leads shown. shown_value: relevance of
    the first ten; best_value: of the ten best of all candidates; 0 for bots.
    """

    number: I64
    count: I64
    model_version: NDArray[np.object_]
    variant: NDArray[np.object_]
    shown_value: F64
    best_value: F64


class Slates(Mapping[int, Shown]):
    """Rankings by the number of their request, kept in blocks of columns."""

    def __init__(self) -> None:
        self._answered: list[Answered] = []
        self._shown: list[Shown] = []
        self._place: dict[int, tuple[int, int, int]] = {}  # block, first row, last row

    def append(self, answered: Answered, shown: Shown) -> None:
        """Adds rankings that follow those already there."""
        ends = np.cumsum(answered.count).tolist()
        block = len(self._shown)
        starts = [0, *ends[:-1]]
        for number, low, high in zip(answered.number.tolist(), starts, ends, strict=True):
            self._place[number] = (block, low, high)
        self._answered.append(answered)
        self._shown.append(shown)

    def __getitem__(self, number: int) -> Shown:
        block, low, high = self._place[number]
        return self._shown[block].part(slice(low, high))

    def __iter__(self) -> Iterator[int]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)

    def answered(self, name: str) -> NDArray[Any]:
        """One column of `Answered`, of all rankings."""
        return np.concatenate([_EMPTY[name], *(getattr(block, name) for block in self._answered)])

    def shown(self, name: str) -> NDArray[Any]:
        """One column of `Shown`, of all leads of all rankings."""
        return np.concatenate([_EMPTY[name], *(getattr(block, name) for block in self._shown)])


_EMPTY: dict[str, NDArray[Any]] = {
    name: np.zeros(0, dtype=kind)
    for kind, names in {
        np.int64: ("number", "count", "lead", "fee_cents"),
        np.float64: ("shown_value", "best_value", "propensity", "relevance", "p_purchase",
                     "p_return", "score_known"),
        np.bool_: ("would_purchase",),
        np.object_: ("model_version", "variant"),
    }.items()
    for name in names
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """One lead of a ranking that the agent looked at and will view, and what would follow."""

    request: int
    position: int
    agent: int
    lead: int
    fee_cents: int
    would_hold: bool
    would_buy: bool
    would_return: bool
    hold_after_us: int
    close_share: float
    return_after_us: int


@dataclass(frozen=True, slots=True)
class RivalPurchase:
    """A slot that went to somebody outside of every ranking."""

    at_us: int
    lead: int
    rival: int
    fee_cents: int


@dataclass
class Log:
    """What happened: rankings, steps as (at_us, kind, look), and what rivals took."""

    slates: Slates = field(default_factory=Slates)
    steps: list[tuple[int, Kind, Look]] = field(default_factory=list)
    rivals: list[RivalPurchase] = field(default_factory=list)
    refused_holds: int = 0
