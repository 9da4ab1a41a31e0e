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

from aiqleads.domain import ENTITLEMENTS, US_PER_SECOND
from aiqleads.market_sim.arrivals import month_starts
from aiqleads.market_sim.play import Kind
from aiqleads.market_sim.presets import load_preset
from aiqleads.market_sim.world import TIERS

#: eager agents and few leads: slots, limits and budgets all bind
EAGER = {"view": [1.0, 0.5], "hold": [1.0, 0.5], "buy": [0.5, 0.5]}


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


def test_the_log_of_a_seed_is_frozen(play_market: Callable[..., Any]) -> None:
    # Whoever changes what agents do raises presets.BEHAVIOUR_VERSION together with this.
    world, requests, log = play_market(load_preset("calm"), agents=12, days=12, seed=1)
    text = hashlib.sha256()
    for number, slate in log.slates.items():
        text.update(f"{requests.ids[number]} {world.leads.ids[slate.lead].tolist()}".encode())
    for _, kind, look in log.steps:
        text.update(f"{look.request} {look.lead} {kind.name}".encode())
    assert text.hexdigest()[:16] == "b1484e9c4a7dc8a3"
