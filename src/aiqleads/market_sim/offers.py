"""What can be said of requests before anybody acts, for many requests in one go.

Which leads have arrived and not expired, what they cost, what the clock alone does to the
utility, and the luck of exploration do not depend on what agents did before. They are worked
out for some hundred requests at a time, so that a ranking costs little more than a look at
what is still free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aiqleads.domain import ENTITLEMENTS, US_PER_HOUR, US_PER_SECOND
from aiqleads.market_sim.arrivals import Requests
from aiqleads.market_sim.behavior import timely_utility
from aiqleads.market_sim.draws import F64, Stream, gumbel, normal
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.quotes import QuoteMany
from aiqleads.market_sim.world import I64, TIERS, World, shocked, taste_at

_NAMES = np.array([str(tier) for tier in TIERS])
_DELAY_US = np.array(
    [ENTITLEMENTS[tier].new_lead_delay_minutes * 60 * US_PER_SECOND for tier in TIERS],
    dtype=np.int64,
)


@dataclass(frozen=True)
class Offers:
    """Leads of the requests first, first + 1, ...: flat columns, cut by `starts`.

    starts: shape (requests + 1,). request: number of each row's request. timely: the card's
    utility without what depends on earlier steps and without the pair's hidden part.
    noise: standard Gumbel numbers of (request, lead).
    """

    first: int
    starts: I64
    request: I64
    lead: I64
    fee_cents: I64
    timely: F64
    pair: F64
    noise: F64

    def __contains__(self, number: int) -> bool:
        return self.first <= number < self.first + len(self.starts) - 1

    def rows(self, number: int) -> slice:
        """Where the rows of a request stand."""
        return slice(self.starts[number - self.first], self.starts[number - self.first + 1])


def offers_of(
    world: World,
    preset: Preset,
    requests: Requests,
    numbers: range,
    *,
    life_us: int,
    seed: int,
    quote_many: QuoteMany,
) -> Offers:
    """The offers of consecutive requests; life_us: the longest life of a lead."""
    leads, agents = world.leads, world.agents
    spans = [_span(world, requests, number, life_us) for number in numbers]
    request = np.repeat(np.arange(numbers.start, numbers.stop), [high - low for low, high in spans])
    parts = [world.pools[requests.agent[number]] for number in numbers]
    cuts = [slice(low, high) for low, high in spans]
    lead = _joined([pool.lead[cut] for pool, cut in zip(parts, cuts, strict=True)], np.int64)
    live = leads.expires_us[lead] > requests.at_us[request]
    lead, request = lead[live], request[live]

    def column(name: str) -> F64:
        columns = [getattr(pool, name)[cut] for pool, cut in zip(parts, cuts, strict=True)]
        return np.asarray(_joined(columns, np.float64)[live])

    agent, at_us = requests.agent[request], requests.at_us[request]
    age_hours = (at_us - leads.received_us[lead]) / US_PER_HOUR
    fee = quote_many(
        intent=leads.intent[lead],
        ask_price_cents=leads.ask_cents[lead],
        quality=leads.stated_quality[lead],
        age_hours=age_hours,
        max_buyers=leads.max_buyers[lead],
        tier=_NAMES[agents.tier[agent]],
    )
    fee_weight = agents.weights["fee"][agent] * np.where(
        shocked(at_us, world.start_us, preset.shock), preset.shock.fee_factor, 1.0
    )
    mood = preset.hidden.mood_sd * normal(
        seed, Stream.MOOD, requests.key[numbers.start : numbers.stop]
    )
    timely = (
        column("steady")
        + taste_at(world, agent, lead, column("home_pull"), at_us, preset)
        + timely_utility(
            age_hours, fee, agents.weights["freshness"][agent], fee_weight, preset.taste
        )
        + mood[request - numbers.start]
    )
    return Offers(
        first=numbers.start,
        starts=np.searchsorted(request, np.arange(numbers.start, numbers.stop + 1)),
        request=request,
        lead=lead,
        fee_cents=fee,
        timely=timely,
        pair=column("pair"),
        noise=gumbel(seed, Stream.SLATE, requests.key[request], leads.key[lead]),
    )


def _span(world: World, requests: Requests, number: int, life_us: int) -> tuple[int, int]:
    """Rows of the agent's pool that have arrived, by the tier's delay, and may still live."""
    agent, at_us = requests.agent[number], requests.at_us[number]
    newest = at_us - _DELAY_US[world.agents.tier[agent]]
    received, pool = world.leads.received_us, world.pools[agent].lead
    # leads are numbered by arrival
    low, high = pool.searchsorted(
        [received.searchsorted(at_us - life_us), received.searchsorted(newest, side="right")]
    )
    return int(low), int(high)


def _joined(parts: list[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts])
