"""Plays the market: requests and what follows from them, in the order of time.

One heap holds the steps that are still to come (views, attempts to hold, purchases,
releases, returns), so that a ranking sees the supply as it stands at its own moment: a held
slot is hidden until it is released, a sold one for ever. Who ranks may be replaced between
two stretches of time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY, US_PER_HOUR, US_PER_SECOND
from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.market_sim import attention, behavior, oracle
from aiqleads.market_sim.arrivals import Requests
from aiqleads.market_sim.draws import F64, Stream, uniforms
from aiqleads.market_sim.floor import Floor
from aiqleads.market_sim.log import Answered, Kind, Log, Look, RivalPurchase, Shown
from aiqleads.market_sim.offers import Offers, offers_of
from aiqleads.market_sim.policy import Answer, Asked, LoggingPolicy, Ranker
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.quotes import QuoteMany
from aiqleads.market_sim.rivals import attempts
from aiqleads.market_sim.world import I64, World

Progress = Callable[[int, int], None]

_TOP = 10
_BATCH = 256  # requests whose offers are worked out together
_LUCK = (Stream.EXAMINE, Stream.TRUST, Stream.VIEW, Stream.HOLD, Stream.BUY, Stream.RETURN)
_DELAYS = (Stream.VIEW_DELAY, Stream.HOLD_DELAY, Stream.CLOSE_DELAY, Stream.RETURN_DELAY)


@dataclass(frozen=True)
class _Case:
    """A request with what only the simulator knows of its candidates: their card's utility."""

    asked: Asked
    card: F64
    pair: F64


@dataclass(frozen=True)
class _Done:
    """A case, its answer, and what would be bought of it."""

    case: _Case
    answer: Answer
    would_buy: NDArray[np.bool_]


class Play:
    """A market in play, from the beginning of its period on.

    months: local month starts (`arrivals.month_starts`). ranker: the logging policy unless
    another is given; it may be replaced between two calls of `run_until`.
    """

    def __init__(
        self,
        world: World,
        preset: Preset,
        requests: Requests,
        *,
        months: I64,
        end_us: int,
        seed: int,
        quote_many: QuoteMany,
        ranker: Ranker | None = None,
    ) -> None:
        self.world, self.preset, self.requests = world, preset, requests
        self.end_us, self.seed, self.quote_many = end_us, seed, quote_many
        self.ranker: Ranker = ranker or LoggingPolicy(world, requests, preset, seed)
        self.floor, self.log = Floor(world, preset, months), Log()
        self.now_us = world.start_us
        self._coming: list[tuple[int, int, int, Look]] = []
        self._attempts = attempts(world, preset, seed, quote_many)
        self._attempt_at: list[int] = self._attempts.at_us.tolist()
        self._next_attempt, self._next_request = 0, 0
        self._life_us = int((world.leads.expires_us - world.leads.received_us).max())
        self._offers: Offers | None = None
        self._case: _Case | None = None
        self._done: list[_Done] = []
        self._demand_weight: list[float] = world.agents.weights["demand"].tolist()
        shown, rule = preset.policy.shown, preset.examination
        self._looks = {
            device: attention.by_position(shown, device, rule) for device in ("desktop", "mobile")
        }
        self._trust = attention.trusted(shown, rule)

    def run_until(self, until_us: int, progress: Progress | None = None) -> None:
        """Plays every request and step before `until_us` (and before the end).

        progress: called with requests done and requests in all.
        """
        until_us = min(until_us, self.end_us)
        last = int(np.searchsorted(self.requests.at_us, until_us))
        for number in range(self._next_request, last):
            self._advance(int(self.requests.at_us[number]))
            self._serve(number)
            self._next_request = number + 1
            if len(self._done) >= _BATCH:
                self._settle()
            if progress is not None:
                progress(number + 1, len(self.requests))
        self._advance(until_us - 1)
        self._settle()
        self.now_us = max(self.now_us, until_us)

    def truth(self, asked: Asked) -> behavior.Chances:
        """True chances of the candidates of the request that is being answered, shape (n,).

        Nobody but an oracle may ask. Raises InvalidInput for any other request.
        """
        if self._case is None or self._case.asked is not asked:
            raise InvalidInput("the truth is known of the request that is being answered only")
        leads = self.world.leads
        return behavior.chances(
            self._case.card, leads.appeal[asked.lead], leads.quality[asked.lead], self.preset
        )

    def offers(self, numbers: range) -> Offers:
        """Leads of consecutive requests as far as they follow from the calendar alone."""
        return offers_of(
            self.world, self.preset, self.requests, numbers,
            life_us=self._life_us, seed=self.seed, quote_many=self.quote_many,
        )  # fmt: skip

    @property
    def next_request(self) -> int:
        """Number of the first request that is not answered yet."""
        return self._next_request

    def _serve(self, number: int) -> None:
        """Answers one request and lets what follows from it come."""
        case = self._case = self._case_of(number)
        if case is None:
            return
        answer = self.ranker.rank(case.asked)
        _check(answer, len(case.asked.lead), self.preset.policy.shown)
        if not len(answer.order):
            return
        would_buy, looks = self._follow(case, answer.order)
        self._done.append(_Done(case, answer, would_buy))
        for at_us, look in looks:
            self._push(at_us, Kind.VIEW, look)

    def _case_of(self, number: int) -> _Case | None:
        """The candidates of a request: on offer, and within the month's budget."""
        if self._offers is None or number not in self._offers:
            last = min(number + _BATCH, len(self.requests))
            self._offers = self.offers(range(number, last))
        requests, offers, floor = self.requests, self._offers, self.floor
        agent, at_us = int(requests.agent[number]), int(requests.at_us[number])
        left = floor.budget_left(agent, at_us)
        rows = offers.rows(number)
        lead, fee = offers.lead[rows], offers.fee_cents[rows]
        kept = np.flatnonzero(floor.on_offer(agent, lead) & (fee <= left))
        if not len(kept):
            return None
        lead = lead[kept]
        card = offers.timely[rows][kept] + behavior.state_utility(
            floor.demand_now(lead, at_us),
            floor.viewed[agent, lead],
            floor.recent_purchases(agent, at_us),
            self._demand_weight[agent],
            self.preset.taste,
        )
        pair = offers.pair[rows][kept]
        asked = Asked(
            number=number,
            request_id=requests.ids[number],
            agent=agent,
            agent_id=self.world.agents.ids[agent],
            at_us=at_us,
            device="mobile" if requests.mobile[number] else "desktop",
            surface="map" if requests.on_map[number] else "list",
            lead=lead,
            lead_ids=self.world.leads.ids[lead],
            fee_cents=fee[kept],
            budget_left_cents=left,
            noise=offers.noise[rows][kept],
        )
        return _Case(asked, card + pair, pair)

    def _follow(self, case: _Case, order: I64) -> tuple[NDArray[np.bool_], list[tuple[int, Look]]]:
        """What would be bought of the shown leads, and the views that the ranking will have."""
        asked, leads = case.asked, self.world.leads
        lead = asked.lead[order]
        luck = uniforms(self.seed, _LUCK, self.requests.key[asked.number], leads.key[lead])
        if self.world.agents.bot[asked.agent]:
            bots = self.preset.bots
            would = None
            views = (luck[0] < bots.looks) & (luck[2] < bots.opens)
        else:
            chance = behavior.chances(
                case.card[order], leads.appeal[lead], leads.quality[lead], self.preset
            )
            would = behavior.outcomes(luck[2:], chance)
            views = self._views(asked, lead, luck, would.view)
        at = np.flatnonzero(views)
        nothing = np.zeros(len(lead), dtype=np.bool_)
        if would is None:
            would = behavior.Would(nothing, nothing, nothing, nothing)
        return would.buy, self._looks_of(asked, order, at, would) if len(at) else []

    def _views(
        self, asked: Asked, lead: I64, luck: F64, pleases: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which of the shown leads are looked at and opened, shape (shown,)."""
        rule, count = self.preset.examination, len(lead)
        if asked.surface == "map":
            agents, leads = self.world.agents, self.world.leads
            centre = (agents.home_x_m[asked.agent], agents.home_y_m[asked.agent])
            looks = luck[0] < attention.on_map(leads.x_m[lead], leads.y_m[lead], centre, rule)
            return np.asarray(looks & pleases)
        opens = pleases | (luck[1] < self._trust[:count])
        if rule.kind == "cascade":
            looks = attention.cascade(luck[0], opens, asked.device, rule)
            return np.asarray(looks & opens)
        return np.asarray((luck[0] < self._looks[asked.device][:count]) & opens)

    def _looks_of(
        self, asked: Asked, order: I64, at: I64, would: behavior.Would
    ) -> list[tuple[int, Look]]:
        """The views at the places `at` of a ranking, with the times and luck of what follows."""
        delays, returns = self.preset.delays, self.preset.returns
        chosen = order[at]
        lead_key = self.world.leads.key[asked.lead[chosen]]
        waits = uniforms(self.seed, _DELAYS, self.requests.key[asked.number], lead_key)
        view, hold, close, back = -np.log(waits)
        view_s = (at + 1) * delays.read_seconds_per_position + delays.view_seconds_mean * view
        hold_s = 1.0 + delays.hold_seconds_mean * hold
        days = np.minimum(returns.delay_days_mean * back, returns.delay_days_max)
        rows = zip(
            (asked.at_us + (view_s * US_PER_SECOND).astype(np.int64)).tolist(),
            (at + 1).tolist(),
            asked.lead[chosen].tolist(),
            asked.fee_cents[chosen].tolist(),
            would.hold[at].tolist(),
            would.buy[at].tolist(),
            would.back[at].tolist(),
            (hold_s * US_PER_SECOND).astype(np.int64).tolist(),
            (delays.close_share_of_hold * close).tolist(),
            (US_PER_HOUR + (days * US_PER_DAY).astype(np.int64)).tolist(),
            strict=True,
        )
        return [
            (
                at_us,
                Look(
                    request=asked.number, position=position, agent=asked.agent, lead=lead,
                    fee_cents=fee, would_hold=holds, would_buy=buys, would_return=returns_it,
                    hold_after_us=hold_us, close_share=share, return_after_us=return_us,
                ),
            )
            for at_us, position, lead, fee, holds, buys, returns_it, hold_us, share, return_us
            in rows
        ]  # fmt: skip

    def _push(self, at_us: int, kind: Kind, look: Look) -> None:
        if at_us < self.end_us:
            turn = look.request << 8 | look.position
            heapq.heappush(self._coming, (at_us, turn, int(kind), look))

    def _advance(self, until_us: int) -> None:
        """Takes every step up to and including `until_us`; rivals first where times are equal."""
        coming = self._coming
        while True:
            step_at = coming[0][0] if coming else until_us + 1
            rival_at = (
                self._attempt_at[self._next_attempt]
                if self._next_attempt < len(self._attempt_at)
                else until_us + 1
            )
            if min(step_at, rival_at) > until_us:
                return
            if rival_at <= step_at:
                self._rival_comes(rival_at)
            else:
                at_us, _, kind, look = heapq.heappop(coming)
                self._take_step(at_us, Kind(kind), look)

    def _rival_comes(self, at_us: int) -> None:
        row, tried = self._next_attempt, self._attempts
        self._next_attempt += 1
        lead = int(tried.lead[row])
        if self.floor.free[lead] > 0:
            self.floor.free[lead] -= 1
            self.log.rivals.append(
                RivalPurchase(at_us, lead, int(tried.rival[row]), int(tried.fee_cents[row]))
            )

    def _take_step(self, at_us: int, kind: Kind, look: Look) -> None:
        """One step changes the floor, is logged, and calls for the next one."""
        floor = self.floor
        if kind is Kind.HOLD and not floor.may_hold(look, at_us):
            self.log.refused_holds += 1
            return
        self.log.steps.append((at_us, kind, look))
        if kind is Kind.VIEW:
            floor.note_view(look, at_us)
            if look.would_hold:
                self._push(at_us + look.hold_after_us, Kind.HOLD, look)
        elif kind is Kind.HOLD:
            floor.take(look)
            close_us = at_us + floor.time_to_decide(look, at_us)
            # Nothing else can spend this month's last cents while the agent decides.
            if look.would_buy and look.fee_cents <= floor.budget_left(look.agent, close_us):
                floor.spend(look.agent, close_us, look.fee_cents)
                self._push(close_us, Kind.PURCHASE, look)
            else:
                self._push(close_us, Kind.RELEASE, look)
        elif kind is Kind.RELEASE:
            floor.give_back(look)
        elif kind is Kind.PURCHASE:
            floor.buy(look, at_us)
            if look.would_return:
                self._push(at_us + look.return_after_us, Kind.RETURN, look)

    def _settle(self) -> None:
        """Moves answered requests into the log, with the truth worked out for all at once."""
        if self._done:
            self.log.slates.append(*_settled(self._done, self.world, self.preset))
            self._done = []


def _check(answer: Answer, candidates: int, shown: int) -> None:
    """Raises ContractBroken for an answer that is no ranking of the candidates."""
    order = answer.order
    if len(order) > shown or len(order) != len(answer.propensity):
        raise ContractBroken(f"a ranking of {len(order)} leads where {shown} are shown")
    if len(order) and (
        order.min() < 0 or order.max() >= candidates or np.bincount(order).max() > 1
    ):
        raise ContractBroken("a ranking names a candidate twice, or one that is not there")


def _settled(done: list[_Done], world: World, preset: Preset) -> tuple[Answered, Shown]:
    """Columns of some answered requests: truth of all candidates, then of those shown."""
    leads = world.leads
    sizes = np.array([len(each.case.card) for each in done])
    counts = np.array([len(each.answer.order) for each in done])
    offset = np.cumsum(sizes) - sizes
    at = np.concatenate([each.answer.order + base for each, base in zip(done, offset, strict=True)])
    lead = np.concatenate([each.case.asked.lead for each in done])
    card = np.concatenate([each.case.card for each in done])
    pair = np.concatenate([each.case.pair for each in done])
    chance = behavior.chances(card, leads.appeal[lead], leads.quality[lead], preset)
    value = oracle.graded_value(chance, preset.gains)
    fee = np.concatenate([each.case.asked.fee_cents for each in done])
    agent = np.array([each.case.asked.agent for each in done])
    person = ~world.agents.bot[agent]
    of_person = np.repeat(person, counts)

    def true_of(column: F64) -> F64:
        return np.where(of_person, column, np.nan)

    answered = Answered(
        number=np.array([each.case.asked.number for each in done]),
        count=counts,
        model_version=np.array([each.answer.model_version for each in done], dtype=object),
        variant=np.array([each.answer.variant for each in done], dtype=object),
        shown_value=person * _top_sums(value[at], counts, best=False),
        best_value=person * _top_sums(value, sizes, best=True),
    )
    shown = Shown(
        lead=lead[at],
        propensity=np.concatenate([each.answer.propensity for each in done]),
        fee_cents=fee[at],
        relevance=true_of(value[at]),
        p_purchase=true_of(chance.purchase[at]),
        p_return=true_of(chance.back[at]),
        would_purchase=np.concatenate([each.would_buy for each in done]),
        score_known=true_of(
            oracle.without_hidden((card - pair)[at], leads.quality[lead[at]], preset)
        ),
    )
    return answered, shown


def _top_sums(values: F64, counts: I64, *, best: bool) -> F64:
    """Sum of the first ten (or of the ten largest) of each group, shape of `counts`."""
    group = np.repeat(np.arange(len(counts)), counts)
    if best:
        values = values[np.lexsort((-values, group))]
    place = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = values * (place < _TOP)
    return np.bincount(group, weights=kept, minlength=len(counts)).astype(np.float64)


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

    months and progress as in `Play`.
    """
    market = Play(
        world, preset, requests, months=months, end_us=end_us, seed=seed, quote_many=quote_many
    )
    market.run_until(end_us, progress)
    return market.log
