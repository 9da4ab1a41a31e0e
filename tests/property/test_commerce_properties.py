"""What is true of every price and of every sequence of holds, releases and purchases."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiqleads.commerce import availability, holds, invariants, orders, slots, wallet
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.payments import offline_payments
from aiqleads.commerce.pricing import PRICES, PriceLine, Quote, quote, quote_many
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.domain import COOL_DOWN_MINUTES, ENTITLEMENTS, Intent, Tier
from aiqleads.errors import AIQLeadsError, Refused
from aiqleads.settings import Settings
from aiqleads.store.consents import Consent
from aiqleads.store.database import connect, open_room
from aiqleads.store.tables import agent

LEADS = st.fixed_dictionaries(
    {
        "intent": st.sampled_from([str(i) for i in Intent]),
        "ask_price_cents": st.integers(0, 10**9),
        "quality": st.floats(0, 1),
        "age_hours": st.floats(0, 2_000),
        "max_buyers": st.integers(1, 6),
        "tier": st.sampled_from([str(t) for t in Tier]),
    }
)


@given(st.lists(LEADS, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_many_prices_are_the_single_prices(leads: list[dict]) -> None:
    columns = {name: np.array([lead[name] for lead in leads]) for name in leads[0]}
    assert quote_many(**columns).tolist() == [quote(**lead).total_cents for lead in leads]


@given(LEADS)
@settings(max_examples=100, deadline=None)
def test_a_price_is_bounded_and_explained(lead: dict) -> None:
    price = quote(**lead)
    assert PRICES.floor_cents <= price.total_cents <= PRICES.cap_cents
    assert abs(math.prod(x.factor for x in price.lines) - price.total_cents) <= 0.5 + 1e-6


@given(LEADS, st.floats(0, 500))
@settings(max_examples=60, deadline=None)
def test_waiting_never_makes_a_lead_dearer(lead: dict, hours: float) -> None:
    older = {**lead, "age_hours": lead["age_hours"] + hours}
    assert quote(**older).total_cents <= quote(**lead).total_cents


AGENTS = ("A1", "A2", "A3")
PLACES = {"L1": 1, "L2": 2, "L3": 3}
MINUTE = 60_000_000
COOL_DOWN = COOL_DOWN_MINUTES * MINUTE
HOLD_TIME = ENTITLEMENTS[Tier.BASIC].hold_minutes * MINUTE
_store = Path(tempfile.mkdtemp(prefix="aiqleads-commerce-")) / "empty"


def _empty_store() -> Path:
    home = Settings(home=_store)
    if not (home.data / "commerce.db").exists():
        open_room(home, "commerce").dispose()
    return home.data / "commerce.db"


class Shop(RuleBasedStateMachine):
    """Three agents, three leads, a clock; a plain model says who may hold what."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Settings(home=Path(tempfile.mkdtemp(dir=_store.parent)))
        self.home.data.mkdir()
        shutil.copy(_empty_store(), self.home.data / "commerce.db")
        self.engine = connect(self.home, "commerce")
        self.now = 1_790_000_000_000_000
        standin = StandIn(self.home.data / "standin.db", clock=lambda: self.now / 1e6)
        self.payments = offline_payments(standin)
        with self.engine.begin() as connection:
            for name in AGENTS:
                row = {"agent_id": name, "name": name, "tier": "basic", "market": "m"}
                connection.execute(agent.insert().values(**row, created_us=0, version=0))
        slots.ensure(self.engine, PLACES.items())
        wallet.topup(self.engine, self.payments, "A1", 500_000, "pm_card_visa", self.now)
        self.held: dict[tuple[str, str], tuple[str, int]] = {}  # (agent, lead): hold, until
        self.sold: set[tuple[str, str]] = set()
        self.exclusive: set[str] = set()
        self.sold_whole: set[str] = set()
        self.began: dict[tuple[str, str], int] = {}
        self.used: dict[tuple[str, str], int] = {}
        self.ended: dict[tuple[str, str], int] = {}

    def teardown(self) -> None:
        self.engine.dispose()
        shutil.rmtree(self.home.home)

    def live(self) -> dict[tuple[str, str], str]:
        return {pair: hold for pair, (hold, until) in self.held.items() if until > self.now}

    def room(self, who: str, lead: str) -> bool:
        taken = [a for a, x in [*self.live(), *self.sold] if x == lead]
        whole = lead in self.whole()
        return who not in taken and not whole and len(taken) < PLACES[lead] and self.may(who, lead)

    def whole(self) -> set[str]:
        """Leads that somebody has for himself."""
        mine = {lead for (_, lead), hold in self.live().items() if hold in self.exclusive}
        return mine | self.sold_whole

    def may(self, who: str, lead: str) -> bool:
        """Whether the agent has let the lead be long enough, and has time for it left."""
        rested = self.now >= self.ended.get((who, lead), -(10**18)) + COOL_DOWN
        return rested and self.used.get((who, lead), 0) < HOLD_TIME

    def over(self, pair: tuple[str, str], at: int) -> None:
        began = self.began.pop(pair, None)
        if began is not None:
            self.used[pair] = self.used.get(pair, 0) + at - began
            self.ended[pair] = at

    @rule(who=st.sampled_from(AGENTS), leads=st.sets(st.sampled_from(list(PLACES)), min_size=1),
          best=st.booleans(), alone=st.booleans())  # fmt: skip
    def hold(self, who: str, leads: set[str], best: bool, alone: bool) -> None:
        price = Quote(2_500, "USD", (PriceLine("base", 2_500, "a lead"),))
        lines = [
            holds.HoldLine(lead, price, consent=Consent(f"U{lead}", "x", PLACES[lead], self.now))
            for lead in leads
        ]
        touched = {lead for _, lead in [*self.live(), *self.sold]}
        can = {x for x in leads if self.room(who, x) and not (alone and x in touched)}
        mode = "best_effort" if best else "all_or_nothing"
        try:
            held = holds.place(self.engine, who, lines, mode, self.now, exclusive=alone)
            got = {item.lead_id for item in held.items}
            for item in held.items:
                self.held[who, item.lead_id] = (held.hold_id, item.expires_us)
                self.began[who, item.lead_id] = self.now
                assert item.expires_us - self.now == HOLD_TIME - self.used.get(
                    (who, item.lead_id), 0
                )
            if alone:
                self.exclusive.add(held.hold_id)
        except Refused:
            got = set()
        assert got == (can if best or can == leads else set())

    @rule(minutes=st.sampled_from([1, 7, 15, 40]))
    def wait(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        for pair, (_, until) in self.held.items():
            if until <= self.now:
                self.over(pair, until)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        who, lead = data.draw(st.sampled_from(sorted(self.live())))
        hold_id, _ = self.held.pop((who, lead))
        self.over((who, lead), self.now)
        assert holds.release(self.engine, who, hold_id, self.now, lead_id=lead) == 1

    @precondition(lambda self: self.held)
    @rule(data=st.data(), card=st.booleans())
    def buy(self, data: st.DataObject, card: bool) -> None:
        who, lead = data.draw(st.sampled_from(sorted(self.held)))
        hold_id = self.held[who, lead][0]
        mine = {p for p, (h, _) in self.held.items() if h == hold_id and p not in self.sold}
        try:
            if card:
                pay_by_card(self.engine, self.payments, who, [hold_id], "pm_card_visa", self.now)
            else:
                pay_by_wallet(self.engine, who, [hold_id], self.now)
        except AIQLeadsError as no:
            broke = not card and who != "A1" and no.kind == "insufficient-credits"
            assert broke or not mine <= set(self.live()) or not mine
        else:
            assert mine <= set(self.live())
            self.sold |= mine
            if hold_id in self.exclusive:
                self.sold_whole |= {lead for _, lead in mine}
            self.held = {p: h for p, h in self.held.items() if p not in mine}

    @invariant()
    def the_shop_agrees_with_the_model(self) -> None:
        for who in AGENTS:
            cart = holds.cart(self.engine, who, self.now)
            mine = {(who, item.lead_id) for held in cart.holds for item in held.items}
            assert mine == {pair for pair in self.live() if pair[0] == who}
            assert {(who, x) for x in orders.bought(self.engine, who)} == {
                pair for pair in self.sold if pair[0] == who
            }
            gone = availability.unavailable(self.engine, None, self.now, who)
            assert gone == {lead for lead in PLACES if not self.room(who, lead)}

    @invariant()
    def every_invariant_holds(self) -> None:
        found = invariants.check(self.engine, self.payments, self.now)
        assert {name: f.offenders for name, f in found.items() if not f.ok} == {}


TestShop = Shop.TestCase
TestShop.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
