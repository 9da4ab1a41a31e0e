"""Plays the market: requests and what follows from them, in the order of time.

One heap holds the steps that are still to come (views, attempts to hold, purchases,
releases, returns), so that a ranking sees the supply as it stands at its own moment: a held
slot is hidden until it is released, a sold one for ever.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiqleads.domain import ENTITLEMENTS, US_PER_DAY, US_PER_HOUR, US_PER_SECOND
from aiqleads.market_sim import behavior, oracle, policy
from aiqleads.market_sim.arrivals import Requests
from aiqleads.market_sim.draws import F64, Stream, exponential, gumbel, normal, uniform
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.world import I64, TIERS, World

_WEEK_US = 7 * US_PER_DAY
_TOP = 10
_RIGHTS = tuple(ENTITLEMENTS[tier] for tier in TIERS)

Progress = Callable[[int, int], None]


class QuoteMany(Protocol):
    """The price list: what `commerce.pricing.quote_many` promises."""

    def __call__(
        self,
        *,
        intent: NDArray[np.str_],
        ask_price_cents: ArrayLike,
        quality: ArrayLike,
        age_hours: ArrayLike,
        max_buyers: ArrayLike,
        tier: str,
    ) -> I64:
        """Lead fees in cents, shape (n,)."""
        ...


class Kind(IntEnum):
    """Steps in the order in which they are taken at one and the same microsecond."""

    VIEW = 0
    HOLD = 1
    RELEASE = 2
    PURCHASE = 3
    RETURN = 4


@dataclass(frozen=True)
class Slate:
    """One ranking as shown, with what the true model says of it; arrays of shape (shown,)."""

    lead: I64
    propensity: F64
    fee_cents: I64
    relevance: F64
    p_purchase: F64
    p_return: F64
    would_purchase: NDArray[np.bool_]
    score_known: F64
    shown_value: float  # relevance of the first ten
    best_value: float  # of the ten best of all candidates


@dataclass(frozen=True)
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


@dataclass
class Log:
    """What happened: a slate for each request, and steps as (at_us, kind, look)."""

    slates: dict[int, Slate] = field(default_factory=dict)
    steps: list[tuple[int, Kind, Look]] = field(default_factory=list)
    refused_holds: int = 0


class Floor:
    """The state of the market at one moment: free slots, who owns what, budgets, demand."""

    def __init__(self, world: World, preset: Preset, months: I64) -> None:
        leads, agents = len(world.leads), len(world.agents)
        self.world, self.preset, self.months = world, preset, months
        self.free = world.leads.max_buyers.copy()
        self.owned = np.zeros((agents, leads), dtype=np.bool_)  # held now, or bought
        self.viewed = np.zeros((agents, leads), dtype=np.bool_)
        self.live_holds = np.zeros(agents, dtype=np.int64)
        self.spent = np.zeros((agents, len(months)), dtype=np.int64)
        self.bought_at: list[list[int]] = [[] for _ in range(agents)]
        self.demand = np.zeros(leads)
        self.demand_at = np.zeros(leads, dtype=np.int64)
        self.demand_us = preset.taste.demand_days * US_PER_DAY
        self.life_us = int((world.leads.expires_us - world.leads.received_us).max())

    def budget_left(self, agent: int, at_us: int) -> int:
        """What the agent may still spend in the local month of `at_us`, cents."""
        month = bisect_right(self.months, at_us) - 1
        return int(self.world.agents.monthly_budget_cents[agent] - self.spent[agent, month])

    def spend(self, agent: int, at_us: int, cents: int) -> None:
        """Takes a purchase out of the budget of its own month."""
        self.spent[agent, bisect_right(self.months, at_us) - 1] += cents

    def candidates(self, agent: int, at_us: int) -> I64:
        """Positions in the agent's pool of the leads on offer, shape (n,)."""
        pool, leads = self.world.pools[agent], self.world.leads
        tier = _RIGHTS[self.world.agents.tier[agent]]
        newest = at_us - tier.new_lead_delay_minutes * 60 * US_PER_SECOND
        low = int(np.searchsorted(pool.received_us, at_us - self.life_us, side="left"))
        high = int(np.searchsorted(pool.received_us, newest, side="right"))
        rows = np.arange(low, high)
        lead = pool.lead[low:high]
        live = (leads.expires_us[lead] > at_us) & (self.free[lead] > 0) & ~self.owned[agent, lead]
        return np.asarray(rows[live], dtype=np.int64)

    def demand_now(self, lead: I64, at_us: int) -> F64:
        """Views of each lead, fading with age, shape of `lead`."""
        faded = np.exp((self.demand_at[lead] - at_us) / self.demand_us)
        return np.asarray(self.demand[lead] * faded)

    def note_view(self, agent: int, lead: int, at_us: int) -> None:
        """Remembers a view for the demand and for the agent."""
        self.demand[lead] = self.demand_now(np.array([lead]), at_us)[0] + 1.0
        self.demand_at[lead] = at_us
        self.viewed[agent, lead] = True

    def may_hold(self, look: Look, at_us: int) -> bool:
        """Whether a slot, the tier's limit and the budget allow this hold."""
        limit = _RIGHTS[self.world.agents.tier[look.agent]].live_holds
        return bool(
            at_us < self.world.leads.expires_us[look.lead]
            and self.free[look.lead] > 0
            and not self.owned[look.agent, look.lead]
            and self.live_holds[look.agent] < limit
            and look.fee_cents <= self.budget_left(look.agent, at_us)
        )

    def take(self, look: Look) -> None:
        """A slot goes to the agent."""
        self.free[look.lead] -= 1
        self.owned[look.agent, look.lead] = True
        self.live_holds[look.agent] += 1

    def give_back(self, look: Look) -> None:
        """A held slot is free again."""
        self.free[look.lead] += 1
        self.owned[look.agent, look.lead] = False
        self.live_holds[look.agent] -= 1


def play(
    world: World,
    preset: Preset,
    requests: Requests,
    *,
    months: I64,
    end_us: int,
    seed: int,
    quote_many: QuoteMany,
    progress: Progress | None = None,
) -> Log:
    """Runs every request and every step that falls before `end_us`; a Log of all of it.

    months: local month starts (`arrivals.month_starts`). progress: called with requests
    done and requests in all.
    """
    floor, log = Floor(world, preset, months), Log()
    coming: list[tuple[int, int, int, Look]] = []

    def push(at_us: int, kind: Kind, look: Look) -> None:
        if at_us < end_us:
            heapq.heappush(coming, (at_us, look.request << 8 | look.position, int(kind), look))

    def advance(until_us: int) -> None:
        while coming and coming[0][0] <= until_us:
            at_us, _, kind, look = heapq.heappop(coming)
            _take_step(floor, log, at_us, Kind(kind), look, push)

    for number in range(len(requests)):
        at_us = int(requests.at_us[number])
        advance(at_us)
        slate, looks = _answer(floor, requests, number, seed, quote_many)
        if slate is not None:
            log.slates[number] = slate
            for view_us, look in looks:
                push(view_us, Kind.VIEW, look)
        if progress is not None:
            progress(number + 1, len(requests))
    advance(end_us)
    return log


def _take_step(
    floor: Floor,
    log: Log,
    at_us: int,
    kind: Kind,
    look: Look,
    push: Callable[[int, Kind, Look], None],
) -> None:
    """One step changes the floor, is logged, and calls for the next one."""
    if kind is Kind.HOLD and not floor.may_hold(look, at_us):
        log.refused_holds += 1
        return
    log.steps.append((at_us, kind, look))
    if kind is Kind.VIEW:
        floor.note_view(look.agent, look.lead, at_us)
        if look.would_hold:
            push(at_us + look.hold_after_us, Kind.HOLD, look)
    elif kind is Kind.HOLD:
        floor.take(look)
        close_us = at_us + _time_to_decide(floor, look, at_us)
        # Nothing else can spend this month's last cents while the agent decides.
        if look.would_buy and look.fee_cents <= floor.budget_left(look.agent, close_us):
            floor.spend(look.agent, close_us, look.fee_cents)
            push(close_us, Kind.PURCHASE, look)
        else:
            push(close_us, Kind.RELEASE, look)
    elif kind is Kind.RELEASE:
        floor.give_back(look)
    elif kind is Kind.PURCHASE:
        floor.live_holds[look.agent] -= 1
        floor.bought_at[look.agent].append(at_us)
        if look.would_return:
            push(at_us + look.return_after_us, Kind.RETURN, look)


def _time_to_decide(floor: Floor, look: Look, at_us: int) -> int:
    """From hold to purchase or release: within the tier's hold time and the lead's life."""
    rights = _RIGHTS[floor.world.agents.tier[look.agent]]
    hold_us: int = rights.hold_minutes * 60 * US_PER_SECOND
    left_us = int(floor.world.leads.expires_us[look.lead]) - at_us - 1
    return min(int(look.close_share * hold_us), hold_us, left_us)


def _answer(
    floor: Floor, requests: Requests, number: int, seed: int, quote_many: QuoteMany
) -> tuple[Slate | None, list[tuple[int, Look]]]:
    """Ranks the candidates of a request and draws what the agent will do with them."""
    world, preset = floor.world, floor.preset
    agent, at_us = int(requests.agent[number]), int(requests.at_us[number])
    rows = floor.candidates(agent, at_us)
    if not len(rows):
        return None, []
    pool, leads = world.pools[agent], world.leads
    lead = pool.lead[rows]
    age_hours = (at_us - leads.received_us[lead]) / US_PER_HOUR
    fee = quote_many(
        intent=leads.intent[lead],
        ask_price_cents=leads.ask_cents[lead],
        quality=leads.stated_quality[lead],
        age_hours=age_hours,
        max_buyers=leads.max_buyers[lead],
        tier=str(TIERS[world.agents.tier[agent]]),
    )
    request_key = requests.key[number]
    passing = behavior.passing_utility(
        behavior.Moment(
            age_hours=age_hours,
            fee_cents=fee,
            demand=floor.demand_now(lead, at_us),
            viewed=floor.viewed[agent, lead].astype(np.float64),
            mood=preset.hidden.mood_sd * float(normal(seed, Stream.MOOD, request_key)[0]),
            recent_purchases=_recent(floor.bought_at[agent], at_us),
        ),
        {name: float(weight[agent]) for name, weight in world.agents.weights.items()},
        preset,
    )
    affordable = fee <= floor.budget_left(agent, at_us)
    quality = leads.quality[lead]
    chance = behavior.chances(
        pool.fixed[rows] + passing, leads.appeal[lead], quality, affordable, preset
    )
    value = oracle.graded_value(chance, preset.gains)

    noise = gumbel(seed, Stream.SLATE, request_key, leads.key[lead])
    logits = np.zeros(len(rows))
    if not requests.random[number]:
        hand = policy.hand_scores(age_hours, pool.near[rows], pool.in_band[rows], preset.policy)
        logits = hand / preset.policy.temperature
    top, propensity = policy.draw_slate(logits, noise, preset.policy.shown)

    chance = chance.of(top)
    would = behavior.would(seed, request_key, leads.key[lead[top]], chance)
    slate = Slate(
        lead=lead[top],
        propensity=propensity,
        fee_cents=fee[top],
        relevance=value[top],
        p_purchase=chance.purchase,
        p_return=chance.back,
        would_purchase=would.buy,
        score_known=oracle.without_hidden(
            (pool.known[rows] + passing)[top], quality[top], affordable[top], preset
        ),
        shown_value=float(value[top[:_TOP]].sum()),
        best_value=float(np.sort(value)[-_TOP:].sum()),
    )
    return slate, _looks(floor, requests, number, slate, would, seed)


def _recent(times: list[int], at_us: int) -> int:
    return len(times) - bisect_right(times, at_us - _WEEK_US)


def _looks(
    floor: Floor,
    requests: Requests,
    number: int,
    slate: Slate,
    would: behavior.Would,
    seed: int,
) -> list[tuple[int, Look]]:
    """The views that this ranking will have, with the times and the luck of what follows."""
    preset, delays = floor.preset, floor.preset.delays
    agent, at_us = int(requests.agent[number]), int(requests.at_us[number])
    request_key, lead_key = requests.key[number], floor.world.leads.key[slate.lead]
    positions = np.arange(1, len(slate.lead) + 1)
    device: behavior.Device = "mobile" if requests.mobile[number] else "desktop"
    looks_at = behavior.looks_at(positions, device, preset.examination)
    seen = uniform(seed, Stream.EXAMINE, request_key, lead_key) < looks_at
    at = np.flatnonzero(seen & would.view)
    if not len(at):
        return []
    pair = (request_key, lead_key[at])
    reading = positions[at] * delays.read_seconds_per_position
    view_s = reading + delays.view_seconds_mean * exponential(seed, Stream.VIEW_DELAY, *pair)
    hold_s = 1.0 + delays.hold_seconds_mean * exponential(seed, Stream.HOLD_DELAY, *pair)
    close = delays.close_share_of_hold * exponential(seed, Stream.CLOSE_DELAY, *pair)
    return_days = np.minimum(
        preset.returns.delay_days_mean * exponential(seed, Stream.RETURN_DELAY, *pair),
        preset.returns.delay_days_max,
    )
    return [
        (
            at_us + int(view_s[n] * US_PER_SECOND),
            Look(
                request=number,
                position=int(positions[row]),
                agent=agent,
                lead=int(slate.lead[row]),
                fee_cents=int(slate.fee_cents[row]),
                would_hold=bool(would.hold[row]),
                would_buy=bool(would.buy[row]),
                would_return=bool(would.back[row]),
                hold_after_us=int(hold_s[n] * US_PER_SECOND),
                close_share=float(close[n]),
                return_after_us=US_PER_HOUR + int(return_days[n] * US_PER_DAY),
            ),
        )
        for n, row in enumerate(at)
    ]
