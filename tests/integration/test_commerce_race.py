"""Two processes on one database file: each lead has one winner, and the money adds up.

The same harness runs a shop that first looks and then sells; it must be caught overselling,
or the harness would prove nothing.
"""

from __future__ import annotations

import multiprocessing as mp
import random
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from aiqleads.commerce import invariants, slots, wallet
from aiqleads.commerce.checkout import pay_by_wallet
from aiqleads.commerce.holds import HoldLine, place
from aiqleads.commerce.payments import open_payments
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.errors import Refused
from aiqleads.settings import Settings
from aiqleads.store import ledger
from aiqleads.store.consents import Consent
from aiqleads.store.database import connect, open_room
from aiqleads.store.tables import agent, lead_slot

LEADS = [f"L{i:03}" for i in range(250)]
PRICE = Quote(2_000, "USD", (PriceLine("base", 2_000, "a lead"),))


def _now_us() -> int:
    return time.time_ns() // 1_000


def _sell(home: Path, who: str, gate: Any, told: Any) -> None:
    """Holds and buys each lead in turn, both processes starting each at one moment."""
    engine = connect(Settings(home=home), "commerce")
    outcomes: dict[str, Any] = {}
    for lead in LEADS:
        gate.wait(60)
        try:
            agreed = Consent(f"U{lead}", "certificate", 1, _now_us())
            line = HoldLine(lead, PRICE, consent=agreed)
            held = place(engine, who, [line], "all_or_nothing", _now_us())
            order = pay_by_wallet(engine, who, [held.hold_id], _now_us())
            outcomes[lead] = ("won", order.order_id)
        except Refused as no:
            outcomes[lead] = (no.kind, no.extra.get("retry_after"))
    told.put((who, outcomes))
    engine.dispose()


def _sell_naively(home: Path, who: str, gate: Any, told: Any) -> None:
    """The control: looks whether a lead is free, then marks it, as two steps."""
    engine = connect(Settings(home=home), "commerce")
    outcomes: dict[str, Any] = {}
    for lead in LEADS[:60]:
        gate.wait(60)
        with engine.connect() as connection:
            state = connection.execute(
                select(lead_slot.c.state).where(lead_slot.c.lead_id == lead)
            ).scalar_one()
        time.sleep(random.random() / 500)
        if state == "free":
            with engine.begin() as connection:
                connection.execute(
                    update(lead_slot)
                    .where(lead_slot.c.lead_id == lead)
                    .values(state="sold", agent_id=who, order_id=f"o-{who}")
                )
            outcomes[lead] = ("won", None)
    told.put((who, outcomes))
    engine.dispose()


def _race(home: Path, seller: Any) -> dict[str, dict[str, Any]]:
    context = mp.get_context("spawn")
    gate, told = context.Barrier(2), context.Queue()
    racers = [
        context.Process(target=seller, args=(home, who, gate, told), daemon=True)
        for who in ("A1", "A2")
    ]
    for racer in racers:
        racer.start()
    outcomes = dict(told.get(timeout=200) for _ in racers)
    for racer in racers:
        racer.join(30)
    return outcomes


@pytest.fixture
def shop(home: Settings):
    engine = open_room(home, "commerce")
    with engine.begin() as connection:
        for name in ("A1", "A2"):
            row = {"agent_id": name, "name": name, "tier": "enterprise", "market": "m"}
            connection.execute(agent.insert().values(**row, created_us=0, version=0))
    slots.ensure(engine, [(lead, 1) for lead in LEADS])
    yield engine
    engine.dispose()


@pytest.mark.slow
def test_each_lead_has_exactly_one_winner(home: Settings, shop) -> None:
    payments = open_payments(home)
    for who in ("A1", "A2"):
        wallet.topup(shop, payments, who, 1_000_000, "pm_card_visa", _now_us())
    outcomes = _race(home.home, _sell)
    for lead in LEADS:
        kinds = sorted(outcomes[who][lead][0] for who in ("A1", "A2"))
        assert kinds in (["lead-already-held", "won"], ["lead-sold", "won"]), lead
        for kind, wait in (outcomes[who][lead] for who in ("A1", "A2")):
            assert kind != "lead-already-held" or wait >= 1
    spent = 2 * 1_000_000 - sum(wallet.balance(shop, who) for who in ("A1", "A2"))
    assert spent == len(LEADS) * PRICE.total_cents
    with shop.connect() as connection:
        assert ledger.total_cents(connection) == 0
    found = invariants.check(shop, payments, _now_us())
    assert all(finding.ok for finding in found.values())


@pytest.mark.slow
def test_the_race_catches_a_shop_that_looks_first(home: Settings, shop) -> None:
    outcomes = _race(home.home, _sell_naively)
    twice = [lead for lead in LEADS if lead in outcomes["A1"] and lead in outcomes["A2"]]
    assert twice, "the harness would not have seen an oversold lead"
