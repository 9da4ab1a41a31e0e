"""What an agent does with a ranking: looks, clicks, holds, buys, returns.

A position is looked at with a chance that depends on the position and the device alone
(the position-based model). What is looked at is viewed, held, bought and returned with
logistic chances in the utility that docs/simulated-market.md writes out. Whether each step
would be taken is drawn for the (request, lead) pair and not for the position, so every lead
of a slate has its potential outcome, shown above or below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiqleads.market_sim.draws import F64, U64, Stream, uniform
from aiqleads.market_sim.presets import Examination, Preset

Device = Literal["desktop", "mobile"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Moment:
    """What changes with time, for the candidates of one request; arrays of shape (n,).

    demand: views by any agent, fading over `demand_days`. viewed: 1 where this agent has
    viewed the lead before. mood and recent_purchases are the request's own.
    """

    age_hours: F64
    fee_cents: NDArray[np.int64]
    demand: F64
    viewed: F64
    mood: float
    recent_purchases: int


@dataclass(frozen=True)
class Chances:
    """Conditional chances of the steps, shape (n,): given looked at, viewed, held, bought."""

    view: F64
    hold: F64
    buy: F64
    back: F64

    @property
    def purchase(self) -> F64:
        """P(purchase | looked at)."""
        return np.asarray(self.view * self.hold * self.buy)

    def of(self, rows: NDArray[np.int64]) -> Chances:
        """The chances of some of the leads."""
        return Chances(self.view[rows], self.hold[rows], self.buy[rows], self.back[rows])


@dataclass(frozen=True)
class Would:
    """Potential outcomes of each lead, shape (n,), were it looked at; each implies the last."""

    view: Bools
    hold: Bools
    buy: Bools
    back: Bools


def looks_at(positions: NDArray[np.int64], device: Device, rule: Examination) -> F64:
    """P(looks at the position), positions from 1: position ** -exponent of the device."""
    exponent = rule.desktop_exponent if device == "desktop" else rule.mobile_exponent
    return np.asarray(positions.astype(np.float64) ** -exponent)


def passing_utility(moment: Moment, weights: dict[str, float], preset: Preset) -> F64:
    """The part of the utility that changes with time, shape (n,)."""
    taste = preset.taste
    fresh = np.exp(-moment.age_hours / taste.freshness_hours)
    fee = np.log(moment.fee_cents / taste.fee_reference_cents)
    return np.asarray(
        weights["freshness"] * fresh
        - weights["fee"] * fee
        + weights["demand"] * np.log1p(moment.demand)
        + taste.already_viewed * moment.viewed
        + taste.recent_purchase * moment.recent_purchases
        + moment.mood
    )


def chances(
    card: F64, appeal: F64, quality: F64, affordable: NDArray[np.bool_], preset: Preset
) -> Chances:
    """Chances from the card's utility and from what a click adds to it (`appeal`).

    quality: relative to what is usual, as in `world.Leads`; shapes as they broadcast.
    Nobody holds what the month's budget cannot pay: there `hold` is 0.
    """
    funnel, returns = preset.funnel, preset.returns
    details = card + appeal
    return Chances(
        view=_logistic(funnel.view, card),
        hold=_logistic(funnel.hold, details) * affordable,
        buy=_logistic(funnel.buy, details),
        back=_logistic((returns.intercept, returns.quality_slope), quality),
    )


def _logistic(line: tuple[float, float], x: F64) -> F64:
    return np.asarray(1.0 / (1.0 + np.exp(-(line[0] + line[1] * x))))


def would(seed: int, request: U64, lead: U64, chance: Chances) -> Would:
    """Draws the potential outcomes of a request's leads; keys of shape () and (n,)."""
    view = uniform(seed, Stream.VIEW, request, lead) < chance.view
    hold = view & (uniform(seed, Stream.HOLD, request, lead) < chance.hold)
    buy = hold & (uniform(seed, Stream.BUY, request, lead) < chance.buy)
    return Would(view, hold, buy, buy & (uniform(seed, Stream.RETURN, request, lead) < chance.back))
