"""Rankers that know the true chances: two that sort by them, and one that also looks ahead.

`SortByTruth` orders each request for itself, by relevance or by expected fee. A slot that is
sold to one agent is lost for all others, though, and a month's budget that is spent on one
lead is not there for a better one. `DynamicOracle` orders the candidates by

    P(look, where a map decides it) * P(purchase | look) * (fee * (P(kept) - mu_a) - lambda_l)

with lambda_l, in cents, the price of one of lead l's free slots, and mu_a the price of one
cent of agent a's budget of the month. Leads whose worth is not above 0 are left out: their
slots are worth more to somebody else. A returned purchase earns nothing and uses slot and
budget all the same. These are bid prices (Talluri and van Ryzin, "An analysis of bid-price
controls for network revenue management", Management Science 44, 1998).

Once a day the prices are found anew from the requests still to come within a horizon, each
ranked under the prices in force, round after round until they settle:

- a slot's price is what the requests to come would lose by its sale. The expected purchases
  before a request make the number of slots sold by then a Poisson number; the request loses
  something only if just the last slot would have been left, and then the worth of the lead
  in its place less what moves up into it. A lead has one to three slots, so luck decides
  which of them sell, and the fluid linear program, whose duals know no luck, prices worse;
- a budget's price is the dual of the month's budget, by subgradient steps (as in Balseiro,
  Lu and Mirrokni, "The best of many worlds: dual mirror descent for online allocation
  problems", Operations Research 71, 2023).

The forecast knows the schedule of requests, the arrivals of leads and all tastes; of rivals
it knows how often they come to a lead, not when.

What it is not: the optimum. It looks one sale ahead, takes attention under a cascade for its
mean, and freezes demand and appetite as they stand in the morning. It is a strong reference
that nobody without the truth can follow, and no proof of what is possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from aiqleads.domain import US_PER_DAY
from aiqleads.market_sim import attention, behavior, oracle
from aiqleads.market_sim.draws import F64
from aiqleads.market_sim.play import Play
from aiqleads.market_sim.policy import Answer, Asked
from aiqleads.market_sim.rivals import expected_attempts
from aiqleads.market_sim.world import I64

VARIANT = "oracle"

_FIRST_ROUNDS, _ROUNDS = 16, 4  # from nothing, and from yesterday's prices
_DAMPING = 0.5  # share of the old price that stays, lest prices swing
_BUDGET_STEP = 0.2  # of a budget's price, for an expected excess of 100 %


class SortByTruth:
    """Each request for itself: the most relevant first, or the highest expected kept fee."""

    def __init__(self, play: Play, by: Literal["relevance", "fee"]) -> None:
        self._play, self._by = play, by

    def rank(self, asked: Asked) -> Answer:
        """Best first; nothing is drawn."""
        chance = self._play.truth(asked)
        if self._by == "relevance":
            worth = oracle.graded_value(chance, self._play.preset.gains)
        else:
            worth = chance.purchase * (1.0 - chance.back) * asked.fee_cents
        order = np.argsort(-worth, kind="stable")[: self._play.preset.policy.shown]
        return Answer(order, np.ones(len(order)), f"truth-by-{self._by}-1", VARIANT)


class DynamicOracle:
    """Orders by expected fee net of what slots and budgets are worth to the requests to come.

    play: the market in which it ranks, as its `ranker`. until_us: end of the period whose
    revenue counts, the market's own end where None. horizon_days: how far ahead requests
    are foreseen. `slot_price` (cents, by lead and by how many slots are free, one first) and
    `budget_price` (by agent and month) are the prices now in force.
    """

    def __init__(
        self, play: Play, *, until_us: int | None = None, horizon_days: float = 30.0
    ) -> None:
        self._play = play
        self._until_us = play.end_us if until_us is None else until_us
        self._horizon_us = int(horizon_days * US_PER_DAY)
        self._day = -1
        most = int(play.world.leads.max_buyers.max())
        self.slot_price = np.zeros((len(play.world.leads), most))
        self.budget_price: dict[tuple[int, int], float] = {}

    def rank(self, asked: Asked) -> Answer:
        """Best first, without those that are worth more elsewhere; nothing is drawn."""
        day = (asked.at_us - self._play.world.start_us) // US_PER_DAY
        if day != self._day:
            self._find_prices(asked)
            self._day = day
        worth = self.worth(asked)
        order = np.argsort(-worth, kind="stable")[: self._play.preset.policy.shown]
        order = order[worth[order] > 0.0]
        return Answer(order, np.ones(len(order)), "dynamic-oracle-1", VARIANT)

    def worth(self, asked: Asked) -> F64:
        """Expected cents of each candidate, net of the prices of slot and budget; shape (n,)."""
        play, chance = self._play, self._play.truth(asked)
        price = self.budget_price.get((asked.agent, play.floor.month(asked.at_us)), 0.0)
        slot = self.slot_price[asked.lead, play.floor.free[asked.lead] - 1]
        net = asked.fee_cents * (1.0 - chance.back - price) - slot
        if asked.surface == "map":
            return np.asarray(_nearness(play, asked.agent, asked.lead) * chance.purchase * net)
        return np.asarray(chance.purchase * net)

    def _find_prices(self, asked: Asked) -> None:
        """Rounds of ranking what is to come under the prices, and pricing what it would lose."""
        coming = _foresee(self._play, asked, min(self._until_us, asked.at_us + self._horizon_us))
        slot = self.slot_price[coming.lead_ids]
        budget = np.array([self.budget_price.get(key, 0.0) for key in coming.budget_keys])
        for _ in range(_ROUNDS if self._day >= 0 else _FIRST_ROUNDS):
            lost, spent = coming.under(slot, budget)
            slot = _DAMPING * slot + (1.0 - _DAMPING) * lost
            excess = np.clip(spent / coming.left - 1.0, -1.0, 1.0)
            budget = np.clip(budget + _BUDGET_STEP * excess, 0.0, 1.0)
        self.slot_price[coming.lead_ids] = slot
        self.budget_price = dict(zip(coming.budget_keys, budget.tolist(), strict=True))


@dataclass(frozen=True)
class _Coming:
    """The requests to come as rows of (request, lead): flat columns, requests in order.

    lead, budget, pair: numbers into lead_ids, budget_keys and the pairs of agent and lead.
    chance, again: P(look by the map) * P(purchase), for a lead that the agent has not viewed
    and one that it has; view: P(view) likewise, not viewed. rivals: expected number of those
    who come first. curve: which row of `looks`, P(look) by position, the request follows;
    one column more than is shown, of zeros. free: slots, by lead. left: cents of each
    agent's month.
    """

    request: I64
    lead: I64
    budget: I64
    pair: I64
    fee: F64
    kept: F64
    chance: F64
    again: F64
    view: F64
    rivals: F64
    curve: I64
    looks: F64
    lead_ids: I64
    free: I64
    budget_keys: list[tuple[int, int]]
    left: F64

    def under(self, slot: F64, budget: F64) -> tuple[F64, F64]:
        """What a sale would cost later, and what is spent, were all ranked by these prices.

        slot: shape (leads, most slots). First result: expected cents lost by the sale of one
        slot where 1, 2, .. are free, same shape. Second: cents of each budget.
        """
        paid = self.fee * (self.kept - budget[self.budget])
        worth = self.chance * (paid - slot[self.lead, self.free[self.lead] - 1])
        rows, place = self._ranked(worth)
        bought, look = self._bought(rows, place)
        chance = bought / np.maximum(look, 1e-12)  # given a look
        # Without this lead all those below move up by one place.
        value = chance * np.maximum(paid - slot[self.lead, self.free[self.lead] - 1], 0.0)[rows]
        step = self.looks[self.curve[rows], np.maximum(place - 1, 0)] - look
        moves_up = np.where(place > 0, step, 0.0) * value
        below = _sum_after(moves_up, self.request[rows])
        loss = np.maximum(bought * paid[rows] - below, 0.0)
        # In the order of time, lead by lead: who came before.
        order = np.lexsort((self.request[rows], self.lead[rows]))
        lead = self.lead[rows][order]
        before = _sum_before(bought[order], lead) + self.rivals[rows][order]
        lost = np.zeros_like(slot)
        only = np.exp(-before)  # P(just this many sold)
        there = np.zeros(len(order))
        for sold in range(slot.shape[1]):
            lost[:, sold] = np.bincount(lead, weights=loss[order] * only, minlength=len(lost))
            there += np.where(sold < self.free[lead], only, 0.0)
            only = only * before / (sold + 1)
        fee = self.fee[rows][order]
        spent = np.bincount(
            self.budget[rows][order], weights=bought[order] * there * fee, minlength=len(self.left)
        )
        return lost, spent.astype(np.float64)

    def _ranked(self, worth: F64) -> tuple[I64, I64]:
        """The rows that are shown, request by request and best first, and their places from 0."""
        rows = np.flatnonzero(worth > 0.0)
        request, gain = self.request[rows], worth[rows]
        rows = rows[np.argsort(request - gain / (1.0 + gain.max(initial=0.0)))]
        request = self.request[rows]
        place = np.arange(len(rows)) - np.searchsorted(request, request)
        shown = place < self.looks.shape[1] - 1
        return rows[shown], place[shown]

    def _bought(self, rows: I64, place: I64) -> tuple[F64, F64]:
        """Expected purchases of the shown rows while slots last, and P(look)."""
        look, pair = self.looks[self.curve[rows], place], self.pair[rows]
        # Of the views of a lead that its agent will have, one is the first.
        views = np.bincount(pair, weights=look * self.view[rows], minlength=1)[pair]
        first = -np.expm1(-views) / np.maximum(views, 1e-12)
        bought = look * (first * self.chance[rows] + (1.0 - first) * self.again[rows])
        # And nobody buys a lead twice.
        total = np.bincount(pair, weights=bought, minlength=1)[pair]
        return bought * (-np.expm1(-total) / np.maximum(total, 1e-12)), look


def _sum_before(values: F64, group: I64) -> F64:
    """Sum of what stands before each value in its group; groups stand together."""
    running = np.cumsum(values) - values
    return np.asarray(running - running[np.searchsorted(group, group)])


def _sum_after(values: F64, group: I64) -> F64:
    """Sum of what stands after each value in its group; groups stand together."""
    return _sum_before(values[::-1], -group[::-1])[::-1]


def _foresee(play: Play, asked: Asked, until_us: int) -> _Coming:
    """The requests from this one on until a moment, as far as the calendar tells."""
    world, preset, requests, floor = play.world, play.preset, play.requests, play.floor
    last = int(np.searchsorted(requests.at_us, until_us))
    offers = play.offers(range(asked.number, max(last, asked.number + 1)))
    agent = requests.agent[offers.request]
    rows = np.flatnonzero(
        (floor.free[offers.lead] > 0) & ~floor.owned[agent, offers.lead] & ~world.agents.bot[agent]
    )
    request, lead, agent = offers.request[rows], offers.lead[rows], agent[rows]
    at_us = requests.at_us[request]
    weight, taste = world.agents.weights["demand"][agent], preset.taste
    demand, viewed = floor.demand_now(lead, asked.at_us), floor.viewed[agent, lead]
    appetite = np.array(
        [floor.recent_purchases(each, asked.at_us) for each in range(len(world.agents))]
    )[agent]
    lasting = offers.timely[rows] + offers.pair[rows]
    appeal, quality = world.leads.appeal[lead], world.leads.quality[lead]
    fresh, again = (
        behavior.chances(
            lasting + behavior.state_utility(demand, seen_before, appetite, weight, taste),
            appeal, quality, preset,
        )
        for seen_before in (viewed, np.ones(len(rows), dtype=np.bool_))
    )  # fmt: skip
    on_map = requests.on_map[request]
    seen = np.where(on_map, _nearness(play, agent, lead), 1.0)
    months = np.unique(at_us, return_inverse=True)
    month = np.array([floor.month(int(at)) for at in months[0]], dtype=np.int64)[months[1]]
    lead_ids, lead_row = np.unique(lead, return_inverse=True)
    codes, budget = np.unique(agent * 10_000 + month, return_inverse=True)
    keys = [(int(code) // 10_000, int(code) % 10_000) for code in codes]
    usual = float(fresh.view.mean()) if len(rows) else 0.0
    shown, rule = preset.policy.shown, preset.examination
    return _Coming(
        request=request,
        lead=lead_row,
        budget=budget,
        pair=np.unique(agent * len(world.leads) + lead, return_inverse=True)[1],
        fee=offers.fee_cents[rows].astype(np.float64),
        kept=1.0 - fresh.back,
        chance=seen * fresh.purchase,
        again=seen * again.purchase,
        view=seen * fresh.view,
        rivals=_rivals_until(play, lead, at_us, asked.at_us),
        curve=np.where(on_map, 2, requests.mobile[request].astype(np.int64)),
        looks=np.stack(
            [
                attention.usual(shown, "desktop", usual, rule),
                attention.usual(shown, "mobile", usual, rule),
                np.ones(shown),
            ]
        )
        @ np.eye(shown, shown + 1),
        lead_ids=lead_ids,
        free=floor.free[lead_ids],
        budget_keys=keys,
        left=np.array([float(max(floor.month_left(*key), 1)) for key in keys]),
    )


def _rivals_until(play: Play, lead: I64, at_us: I64, now_us: int) -> F64:
    """Expected number of rivals who come to each lead from now until then."""
    fading_us = play.preset.rivals.fading_days * US_PER_DAY
    received = play.world.leads.received_us[lead]
    already = np.exp(-np.maximum(now_us - received, 0) / fading_us)
    then = np.exp(-np.maximum(at_us - received, 0) / fading_us)
    return np.asarray(expected_attempts(play.world, play.preset)[lead] * (already - then))


def _nearness(play: Play, agent: I64 | int, lead: I64) -> F64:
    """P(look) on a map by the distance from its centre alone; neighbours are not foreseen."""
    agents, leads = play.world.agents, play.world.leads
    away = np.hypot(
        leads.x_m[lead] - agents.home_x_m[agent], leads.y_m[lead] - agents.home_y_m[agent]
    )
    return np.asarray(np.exp(-away / play.preset.examination.map_reach_m))
