"""What an agent does with a lead that is looked at: views, holds, buys, returns.

Each step has a logistic chance in the utility that docs/simulated-market.md writes out.
Whether a step would be taken is drawn for the (request, lead) pair and not for the position,
so every lead of a slate has its potential outcome, shown above or below. What is looked at
at all is the business of `market_sim.attention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aiqleads.market_sim.draws import F64, U64, Stream, uniforms
from aiqleads.market_sim.presets import Pair, Preset, Taste

Bools = NDArray[np.bool_]

_STEPS = (Stream.VIEW, Stream.HOLD, Stream.BUY, Stream.RETURN)


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


@dataclass(frozen=True)
class Would:
    """Potential outcomes of each lead, shape (n,), were it looked at; each implies the last."""

    view: Bools
    hold: Bools
    buy: Bools
    back: Bools


def timely_utility(
    age_hours: F64,
    fee_cents: NDArray[np.int64],
    freshness_weight: F64,
    fee_weight: F64,
    taste: Taste,
) -> F64:
    """The part that follows from the clock alone: freshness and the fee; shape (n,)."""
    fresh = np.exp(-age_hours / taste.freshness_hours)
    fee = np.log(fee_cents / taste.fee_reference_cents)
    return np.asarray(freshness_weight * fresh - fee_weight * fee)


def state_utility(
    demand: F64,
    viewed: Bools,
    recent_purchases: NDArray[np.int64] | int,
    demand_weight: F64 | float,
    taste: Taste,
) -> F64:
    """The part that follows from what happened: shape (n,).

    demand: views of each lead by any agent, fading over `demand_days`. viewed: by this
    agent. recent_purchases: of this agent in the past seven days.
    """
    crowd = demand_weight * np.log1p(demand) + taste.already_viewed * viewed
    return np.asarray(crowd + taste.recent_purchase * recent_purchases)


def chances(card: F64, appeal: F64, quality: F64, preset: Preset) -> Chances:
    """Chances from the card's utility and from what a click adds to it (`appeal`).

    quality: relative to what is usual, as in `world.Leads`; shapes as they broadcast.
    """
    funnel, returns = preset.funnel, preset.returns
    intercept, slope = _lines(
        funnel.view, funnel.hold, funnel.buy, (returns.intercept, returns.quality_slope)
    )
    details = card + appeal
    line = np.empty((4, *details.shape))
    line[0], line[1], line[2], line[3] = card, details, details, quality
    shape = (4, *(1 for _ in details.shape))
    line *= slope.reshape(shape)
    line += intercept.reshape(shape)
    np.exp(np.negative(line, out=line), out=line)
    line += 1.0
    return Chances(*np.reciprocal(line, out=line))


@cache
def _lines(*lines: Pair) -> tuple[F64, F64]:
    """Intercepts and slopes of the steps."""
    both = np.array(lines)
    return both[:, 0], both[:, 1]


def would(seed: int, request: U64, lead: U64, chance: Chances) -> Would:
    """Draws the potential outcomes of a request's leads; keys of shape () and (n,)."""
    return outcomes(uniforms(seed, _STEPS, request, lead), chance)


def outcomes(luck: F64, chance: Chances) -> Would:
    """Potential outcomes from uniform numbers of the four steps, shape (4, n)."""
    view = luck[0] < chance.view
    hold = view & (luck[1] < chance.hold)
    buy = hold & (luck[2] < chance.buy)
    return Would(view, hold, buy, buy & (luck[3] < chance.back))
