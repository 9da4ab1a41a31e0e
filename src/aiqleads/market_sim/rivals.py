"""Buyers that no ranking ever sees: they come to good, fresh leads and take slots.

A lead draws a Poisson number of attempts, of mean

    per_lead * exp(liking * (quality + appeal - overpriced))

each at an exponential time after its arrival. An attempt takes a slot if one is free then.
Who they are (X0001, X0002, ...) is drawn as well; none of them buys a lead twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiqleads.domain import US_PER_DAY, US_PER_HOUR, Tier
from aiqleads.market_sim.draws import F64, Stream, exponential, poisson, uniform
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.quotes import QuoteMany
from aiqleads.market_sim.world import I64, World, overpriced

_MOST = 12
_TIER = Tier.BASIC  # nobody's subscriber pays the full price


@dataclass(frozen=True)
class Attempts:
    """Columns of all attempts, shape (n,), in the order of time; lead: index in world.leads.

    rival: from 1 to the preset's count. fee_cents: what the shop asks for it at that moment.
    """

    at_us: I64
    lead: I64
    rival: I64
    fee_cents: I64

    def __len__(self) -> int:
        return len(self.at_us)


def rival_id(rival: int) -> str:
    """X0001 for the first one."""
    return f"X{rival:04d}"


def expected_attempts(world: World, preset: Preset) -> F64:
    """Mean number of attempts over the whole life of each lead, shape (len(leads),)."""
    leads = world.leads
    good = np.clip(leads.quality + leads.appeal - overpriced(leads), -2.0, 2.0)
    return np.asarray(preset.rivals.per_lead * np.exp(preset.rivals.liking * good))


def attempts(world: World, preset: Preset, seed: int, quote_many: QuoteMany) -> Attempts:
    """Every attempt within a lead's life and after the beginning of the period."""
    leads, rule = world.leads, preset.rivals
    if rule.count == 0 or rule.per_lead == 0:
        none = np.zeros(0, dtype=np.int64)
        return Attempts(none, none, none, none)
    luck = uniform(seed, Stream.RIVAL_COUNT, leads.key)
    counts = poisson(expected_attempts(world, preset), luck, _MOST)
    lead = np.repeat(np.arange(len(leads)), counts)
    nth = (np.arange(len(lead)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.uint64)
    who = (leads.key[lead], nth)
    days = rule.fading_days * exponential(seed, Stream.RIVAL_TIME, *who)
    at_us = leads.received_us[lead] + (days * US_PER_DAY).astype(np.int64)
    rival = 1 + (rule.count * uniform(seed, Stream.RIVAL, *who)).astype(np.int64)
    order = np.lexsort((nth, lead, at_us))
    order = order[(at_us >= world.start_us)[order] & (at_us < leads.expires_us[lead])[order]]
    _, first = np.unique(lead[order] * 10_000 + rival[order], return_index=True)
    order = order[np.sort(first)]
    lead, at_us = lead[order], at_us[order]
    fee = quote_many(
        intent=leads.intent[lead],
        ask_price_cents=leads.ask_cents[lead],
        quality=leads.stated_quality[lead],
        age_hours=(at_us - leads.received_us[lead]) / US_PER_HOUR,
        max_buyers=leads.max_buyers[lead],
        tier=np.full(len(lead), str(_TIER)),
    )
    return Attempts(at_us, lead, rival[order], fee)
