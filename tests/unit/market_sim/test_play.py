"""What must hold in every log, seen on a market that is scarce enough to try it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import ENTITLEMENTS, US_PER_DAY, US_PER_SECOND
from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.market_sim.arrivals import month_starts
from aiqleads.market_sim.log import Kind
from aiqleads.market_sim.oracle import graded_value
from aiqleads.market_sim.play import Play
from aiqleads.market_sim.policy import Answer, Asked
from aiqleads.market_sim.presets import Bots, Preset, Rivals, Shock, load_preset
from aiqleads.market_sim.world import TIERS

#: eager agents and few leads: slots, limits and budgets all bind
EAGER = {"view": (1.0, 0.5), "hold": (1.0, 0.5), "buy": (0.5, 0.5)}


@pytest.fixture(scope="module")
def scarce(play_market: Callable[..., Any], leads: pd.DataFrame) -> Any:
    calm = load_preset("calm")
    eager = calm.model_copy(update={"funnel": calm.funnel.model_copy(update=EAGER)})
    return play_market(eager, agents=60, days=25, frame=leads.iloc[::3])


def test_no_slot_is_ever_given_twice(scarce: Any) -> None:
    world, _, log = scarce
    taken: Counter[int] = Counter()
    for _, kind, look in log.steps:
        if kind is Kind.HOLD:
            taken[look.lead] += 1
        elif kind is Kind.RELEASE:
            taken[look.lead] -= 1
        assert 0 <= taken[look.lead] <= world.leads.max_buyers[look.lead]
    sold = Counter(look.lead for _, kind, look in log.steps if kind is Kind.PURCHASE)
    assert any(sold[lead] == world.leads.max_buyers[lead] for lead in sold)
    assert log.refused_holds > 0


def test_nobody_is_shown_what_the_months_budget_cannot_pay(scarce: Any) -> None:
    world, requests, log = scarce
    months = month_starts(dt.date(2001, 1, 1), int(requests.at_us.max()) + 1, "America/New_York")
    spent: Counter[tuple[int, int]] = Counter()
    steps = iter(log.steps)
    step = next(steps, None)
    full = 0
    for number, slate in log.slates.items():
        while step is not None and step[0] <= requests.at_us[number]:
            if step[1] is Kind.PURCHASE:
                month = int(np.searchsorted(months, step[0], side="right"))
                spent[step[2].agent, month] += step[2].fee_cents
            step = next(steps, None)
        agent = int(requests.agent[number])
        month = int(np.searchsorted(months, requests.at_us[number], side="right"))
        left = world.agents.monthly_budget_cents[agent] - spent[agent, month]
        assert (slate.fee_cents <= left).all()
        full += left < 3000 + 1500
    assert full > 0


def test_a_lead_is_shown_only_while_it_is_on_offer(scarce: Any) -> None:
    world, requests, log = scarce
    for number, slate in log.slates.items():
        at_us, agent = requests.at_us[number], requests.agent[number]
        wait = ENTITLEMENTS[TIERS[world.agents.tier[agent]]].new_lead_delay_minutes
        seen_from = world.leads.received_us[slate.lead] + wait * 60 * US_PER_SECOND
        assert (seen_from <= at_us).all()
        assert (at_us < world.leads.expires_us[slate.lead]).all()
        assert len(set(slate.lead)) == len(slate.lead) <= 30


def test_nobody_is_shown_what_has_no_free_slot_or_is_already_theirs(scarce: Any) -> None:
    world, requests, log = scarce
    taken: Counter[int] = Counter()
    owned: dict[int, set[int]] = defaultdict(set)
    steps = iter(log.steps)
    step = next(steps)
    for number, slate in log.slates.items():
        while step is not None and step[0] <= requests.at_us[number]:
            _, kind, look = step
            if kind is Kind.HOLD:
                taken[look.lead] += 1
                owned[look.agent].add(look.lead)
            elif kind is Kind.RELEASE:
                taken[look.lead] -= 1
                owned[look.agent].discard(look.lead)
            step = next(steps, None)
        left = world.leads.max_buyers[slate.lead] - [taken[lead] for lead in slate.lead]
        assert (left > 0).all()
        assert not owned[requests.agent[number]] & set(slate.lead.tolist())


def test_leads_come_from_the_farm_area_and_its_ring(scarce: Any) -> None:
    world, requests, log = scarce
    for number, slate in log.slates.items():
        assert np.isin(slate.lead, world.agents.offered[requests.agent[number]]).all()
    inside = [
        np.isin(world.leads.cell[slate.lead], world.agents.territory[requests.agent[number]])
        for number, slate in log.slates.items()
    ]
    assert 0.3 < np.concatenate(inside).mean() < 1.0


def test_no_purchase_goes_over_a_months_budget(scarce: Any) -> None:
    world, requests, log = scarce
    ends = int(requests.at_us.max()) + 1
    months = month_starts(dt.date(2001, 1, 1), ends, "America/New_York")
    spent: Counter[tuple[int, int]] = Counter()
    for at_us, kind, look in log.steps:
        if kind is Kind.PURCHASE:
            spent[look.agent, int(np.searchsorted(months, at_us, side="right"))] += look.fee_cents
    budgets = world.agents.monthly_budget_cents
    assert all(cents <= budgets[agent] for (agent, _), cents in spent.items())
    assert max(cents / budgets[agent] for (agent, _), cents in spent.items()) > 0.9


def test_steps_follow_each_other(scarce: Any) -> None:
    _, requests, log = scarce
    done: dict[tuple[int, int], list[Kind]] = defaultdict(list)
    last: dict[tuple[int, int], int] = {}
    for at_us, kind, look in log.steps:
        pair = (look.request, look.lead)
        assert at_us >= last.get(pair, requests.at_us[look.request])
        last[pair] = at_us
        done[pair].append(kind)
    allowed = {
        (Kind.VIEW,),
        (Kind.VIEW, Kind.HOLD),
        (Kind.VIEW, Kind.HOLD, Kind.RELEASE),
        (Kind.VIEW, Kind.HOLD, Kind.PURCHASE),
        (Kind.VIEW, Kind.HOLD, Kind.PURCHASE, Kind.RETURN),
    }
    assert {tuple(kinds) for kinds in done.values()} <= allowed
    assert sum(kinds[-1] is Kind.RETURN for kinds in done.values()) > 0


def test_a_purchase_that_happened_would_have_happened(scarce: Any) -> None:
    # Potential outcomes and the log are drawn with the same luck.
    _, _, log = scarce
    for _, kind, look in log.steps:
        if kind is Kind.PURCHASE:
            slate = log.slates[look.request]
            assert slate.would_purchase[look.position - 1]
            assert slate.p_purchase[look.position - 1] > 0


def test_holds_end_within_the_tiers_time(scarce: Any) -> None:
    world, _, log = scarce
    held: dict[tuple[int, int], int] = {}
    for at_us, kind, look in log.steps:
        if kind is Kind.HOLD:
            held[look.request, look.lead] = at_us
        elif kind in (Kind.RELEASE, Kind.PURCHASE):
            rights = ENTITLEMENTS[TIERS[world.agents.tier[look.agent]]]
            assert at_us - held[look.request, look.lead] <= rights.hold_minutes * 60_000_000
            assert at_us < world.leads.expires_us[look.lead]


def test_purchases_dampen_what_an_agent_asks_for_next(play_market: Callable[..., Any]) -> None:
    calm = load_preset("calm")
    eager = calm.model_copy(update={"funnel": calm.funnel.model_copy(update=EAGER)})
    sated = calm.taste.model_copy(update={"recent_purchase": -2.0})
    unmoved = calm.taste.model_copy(update={"recent_purchase": 0.0})
    bought = [
        sum(kind is Kind.PURCHASE for _, kind, _ in log.steps)
        for _, _, log in (
            play_market(eager.model_copy(update={"taste": taste})) for taste in (sated, unmoved)
        )
    ]
    assert bought[0] < bought[1]


def test_random_orders_show_that_attention_falls_with_the_position(
    play_market: Callable[..., Any],
) -> None:
    calm = load_preset("calm")
    random = calm.policy.model_copy(update={"random_share": 1.0})
    _, _, log = play_market(calm.model_copy(update={"policy": random}), agents=120, days=28)
    views = Counter(look.position for _, kind, look in log.steps if kind is Kind.VIEW)
    shown = Counter(n for s in log.slates.values() for n in range(1, len(s.lead) + 1))
    top = sum(views[n] for n in range(1, 4)) / sum(shown[n] for n in range(1, 4))
    deep = sum(views[n] for n in range(11, 31)) / sum(shown[n] for n in range(11, 31))
    # By the examination model alone: means of p^-0.55 and p^-0.85 over 1-3 and over 11-30,
    # a ratio of about 5.6.
    assert 3.0 < top / deep < 9.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("calm", "5905ff710ae1061e"),
        ("adversarial", "2a4a2828defb4347"),
        ("cold_start", "469b2595228c4838"),
        ("exhausted_supply", "f31abec236796475"),
        ("strong_position_bias", "a272fce55079fbf3"),
    ],
)
def test_the_log_of_a_seed_is_frozen(
    play_market: Callable[..., Any], name: str, expected: str
) -> None:
    # Whoever changes what agents do raises presets.BEHAVIOUR_VERSION together with this.
    world, requests, log = play_market(load_preset(name), agents=12, days=12, seed=1)
    text = hashlib.sha256()
    for number, slate in log.slates.items():
        text.update(f"{requests.ids[number]} {world.leads.ids[slate.lead].tolist()}".encode())
    for _, kind, look in log.steps:
        text.update(f"{look.request} {look.lead} {kind.name}".encode())
    for bought in log.rivals:
        text.update(f"{bought.at_us} {bought.lead} {bought.rival}".encode())
    assert text.hexdigest()[:16] == expected


def with_rivals(per_lead: float = 2.0) -> Preset:
    return load_preset("calm").model_copy(
        update={"rivals": Rivals(count=5, per_lead=per_lead, liking=1.0, fading_days=2.0)}
    )


def test_rivals_take_free_slots_and_no_others(play_market: Callable[..., Any]) -> None:
    world, requests, log = play_market(with_rivals(), agents=40, days=25)
    assert len(log.rivals) > 50
    events = [(bought.at_us, -1, bought.lead, 1) for bought in log.rivals]
    change = {Kind.HOLD: 1, Kind.RELEASE: -1}
    events += [
        (at, n, look.lead, change[kind])
        for n, (at, kind, look) in enumerate(log.steps)
        if kind in change
    ]
    taken: Counter[int] = Counter()
    shown = iter(sorted(log.slates))
    number = next(shown)
    for at_us, _, lead, places in sorted(events):
        while number is not None and requests.at_us[number] < at_us:
            left = log.slates[number].lead
            assert all(taken[one] < world.leads.max_buyers[one] for one in left.tolist())
            number = next(shown, None)
        taken[lead] += places
        assert 0 <= taken[lead] <= world.leads.max_buyers[lead]
    pairs = [(bought.lead, bought.rival) for bought in log.rivals]
    assert len(set(pairs)) == len(pairs)
    assert {rival for _, rival in pairs} == {1, 2, 3, 4, 5}


def test_rivals_like_good_and_fresh_leads(play_market: Callable[..., Any]) -> None:
    world, _, log = play_market(with_rivals(0.4), agents=2, days=25)
    lead = np.array([bought.lead for bought in log.rivals])
    at_us = np.array([bought.at_us for bought in log.rivals])
    age_days = (at_us - world.leads.received_us[lead]) / US_PER_DAY
    assert np.median(age_days) < 3
    assert world.leads.quality[lead].mean() > world.leads.quality.mean() + 0.3


def test_a_bot_opens_and_never_holds_and_nothing_is_true_of_its_rankings(
    play_market: Callable[..., Any],
) -> None:
    bots = Bots(share=0.4, requests_per_day=2.0, looks=1.0, opens=0.5)
    world, requests, log = play_market(load_preset("calm").model_copy(update={"bots": bots}))
    of_bot = {n: bool(world.agents.bot[requests.agent[n]]) for n in log.slates}
    views = Counter(look.request for _, kind, look in log.steps if kind is Kind.VIEW)
    shown = sum(len(log.slates[n].lead) for n, bot in of_bot.items() if bot)
    opened = sum(count for n, count in views.items() if of_bot[n])
    assert opened / shown == pytest.approx(0.5, abs=0.05)
    assert all(not of_bot[look.request] for _, kind, look in log.steps if kind is Kind.HOLD)
    for number, slate in log.slates.items():
        assert np.isnan(slate.relevance).all() == of_bot[number]
        assert not (of_bot[number] and slate.would_purchase.any())


def test_a_map_is_looked_at_from_its_centre(play_market: Callable[..., Any]) -> None:
    calm = load_preset("calm")
    maps = calm.model_copy(
        update={"requests": calm.requests.model_copy(update={"map_share": 0.5}),
                "policy": calm.policy.model_copy(update={"random_share": 1.0})}
    )  # fmt: skip
    world, requests, log = play_market(maps, agents=120, days=28)
    viewed = {(look.request, look.lead) for _, kind, look in log.steps if kind is Kind.VIEW}
    first: dict[bool, list[float]] = {True: [], False: []}
    near: dict[bool, list[float]] = {True: [], False: []}
    for number, slate in log.slates.items():
        agent = requests.agent[number]
        away = np.hypot(
            world.leads.x_m[slate.lead] - world.agents.home_x_m[agent],
            world.leads.y_m[slate.lead] - world.agents.home_y_m[agent],
        )
        seen = np.array([(number, int(lead)) in viewed for lead in slate.lead])
        on_map = bool(requests.on_map[number])
        first[on_map].append(seen[:3].mean() - seen[10:].mean() if len(seen) > 10 else 0.0)
        if (away < 1500).any() and (away > 4000).any():
            near[on_map].append(seen[away < 1500].mean() - seen[away > 4000].mean())
    assert np.mean(first[False]) > 0.08
    assert np.mean(near[True]) > np.mean(near[False]) + 0.03
    assert abs(np.mean(first[True])) < 0.04  # by the position there is nothing to see


def test_a_shock_takes_from_the_budgets(play_market: Callable[..., Any]) -> None:
    calm = load_preset("calm")
    eager = calm.model_copy(update={"funnel": calm.funnel.model_copy(update=EAGER)})
    poor = eager.model_copy(update={"shock": Shock(from_day=0, budget_factor=0.5)})
    world, requests, log = play_market(poor, agents=60, days=25)
    months = month_starts(dt.date(2001, 1, 1), int(requests.at_us.max()) + 1, "America/New_York")
    spent: Counter[tuple[int, int]] = Counter()
    for at_us, kind, look in log.steps:
        month = int(np.searchsorted(months, at_us, side="right"))
        if kind is Kind.PURCHASE and months[month - 1] >= world.start_us:
            spent[look.agent, month] += look.fee_cents
    use = [cents / world.agents.monthly_budget_cents[agent] for (agent, _), cents in spent.items()]
    assert 0.4 < max(use) <= 0.5


class Newest:
    """A ranker as somebody else would write one."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def rank(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        order = np.arange(len(asked.lead))[::-1][:5]
        return Answer(order, np.ones(len(order)), "newest-1", "test")


def test_any_ranker_can_stand_behind_the_door(market_of: Callable[..., Play]) -> None:
    newest = Newest()
    market = market_of(load_preset("calm"), ranker=newest)
    market.run_until(market.end_us)
    slates = market.log.slates
    assert set(slates.answered("model_version")) == {"newest-1"}
    assert set(slates.answered("variant")) == {"test"}
    assert len(newest.asked) == len(slates)
    for asked in newest.asked:
        slate = slates[asked.number]
        assert (slate.lead == asked.lead[::-1][:5]).all()
        assert (slate.fee_cents == asked.fee_cents[::-1][:5]).all()
        assert asked.request_id == market.requests.ids[asked.number]
        assert asked.agent_id == market.world.agents.ids[asked.agent]
        assert (asked.lead_ids == market.world.leads.ids[asked.lead]).all()
        assert (asked.fee_cents <= asked.budget_left_cents).all()
        assert len(asked.noise) == len(asked.lead)
        assert (np.diff(asked.lead) > 0).all()


def test_day_by_day_is_the_same_market(
    market_of: Callable[..., Play], play_market: Callable[..., Any]
) -> None:
    preset = with_rivals(0.5)
    _, _, whole = play_market(preset)
    market = market_of(preset)
    for day in range(1, 21):
        market.run_until(market.world.start_us + day * US_PER_DAY)
        assert all(at < market.now_us for at, _, _ in market.log.steps)
    assert market.log.steps == whole.steps
    assert market.log.rivals == whole.rivals
    assert market.log.refused_holds == whole.refused_holds
    assert list(market.log.slates) == list(whole.slates)
    for column in ("lead", "relevance", "score_known", "propensity"):
        assert (market.log.slates.shown(column) == whole.slates.shown(column)).all()


def test_a_ranker_may_be_replaced_between_two_days(
    market_of: Callable[..., Play], play_market: Callable[..., Any]
) -> None:
    _, _, whole = play_market(load_preset("calm"))
    market = market_of(load_preset("calm"))
    half = market.world.start_us + 10 * US_PER_DAY
    market.run_until(half)
    market.ranker = Newest()
    market.run_until(market.end_us)
    late = market.requests.at_us[market.log.slates.answered("number")] >= half
    versions = market.log.slates.answered("model_version")
    assert set(versions[late]) == {"newest-1"}
    assert set(versions[~late]) == {"hand-1"}
    before = [step for step in whole.steps if step[0] < half]
    assert market.log.steps[: len(before)] == before


@pytest.mark.parametrize(
    "order", [[0, 0], [-1], [10_000], list(range(31))], ids=["twice", "below", "beyond", "too long"]
)
def test_an_answer_that_is_no_ranking_is_refused(
    market_of: Callable[..., Play], order: list[int]
) -> None:
    class Wrong:
        def rank(self, asked: Asked) -> Answer:
            return Answer(np.array(order), np.ones(len(order)), "wrong-1", "test")

    market = market_of(load_preset("calm"), ranker=Wrong())
    with pytest.raises(ContractBroken, match="ranking"):
        market.run_until(market.end_us)


def test_an_empty_answer_shows_nothing(market_of: Callable[..., Play]) -> None:
    class Silent:
        def rank(self, asked: Asked) -> Answer:
            return Answer(np.zeros(0, dtype=np.int64), np.zeros(0), "silent-1", "test")

    market = market_of(load_preset("calm"), ranker=Silent())
    market.run_until(market.end_us)
    assert len(market.log.slates) == len(market.log.steps) == 0


def test_the_truth_is_of_the_request_in_hand_only(market_of: Callable[..., Play]) -> None:
    preset = load_preset("calm")

    class Knowing(Newest):
        def rank(self, asked: Asked) -> Answer:
            self.truth = market.truth(asked)
            if self.asked:
                with pytest.raises(InvalidInput, match="being answered"):
                    market.truth(self.asked[-1])
            return super().rank(asked)

    knowing = Knowing()
    market = market_of(preset, ranker=knowing, days=4)
    market.run_until(market.end_us)
    last = knowing.asked[-1]
    slate = market.log.slates[last.number]
    assert (graded_value(knowing.truth, preset.gains)[::-1][:5] == slate.relevance).all()
    assert (knowing.truth.purchase[::-1][:5] == slate.p_purchase).all()
