"""Each invariant catches the fault that it is there for: planted, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from aiqleads.commerce import invariants
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet


@pytest.fixture
def busy_shop(shop):
    """Something of everything: sold by wallet and by card, held, expired, declined."""
    shop.add_leads("L1", "L2", "L3", "L4", buyers=2)
    shop.fill_wallet("A1", 20_000)
    held = shop.hold("A2", "L1")
    shop.later(61)
    held = shop.hold("A1", "L1")
    pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now)
    held = shop.hold("A2", "L2")
    pay_by_card(shop.engine, shop.payments, "A2", [held.hold_id], "pm_card_visa", shop.now)
    shop.hold("A1", "L3")
    return shop


def plant(shop, *statements: str) -> None:
    with shop.engine.connect() as connection:
        connection.exec_driver_sql("commit")
        for pragma in ("foreign_keys=off", "ignore_check_constraints=on"):
            connection.exec_driver_sql(f"pragma {pragma}")
        for statement in statements:
            connection.execute(text(statement))
    shop.engine.dispose()


def failing(shop) -> set[str]:
    found = invariants.check(shop.engine, shop.payments, shop.now)
    assert all(f.offenders for f in found.values() if not f.ok)
    return {name for name, f in found.items() if not f.ok}


def test_a_sound_shop_passes_them_all(busy_shop) -> None:
    assert failing(busy_shop) == set()
    without = invariants.check(busy_shop.engine, None, busy_shop.now)
    assert list(without) == list(invariants.ABOUT)
    assert {name for name, f in without.items() if f.ok is None} == {"P2", "P3", "P4", "P6"}


def test_stripe_out_of_reach_is_no_finding(busy_shop, line) -> None:
    line.faults = ["lost before"] * 9
    found = invariants.check(busy_shop.engine, busy_shop.payments, busy_shop.now)
    assert {name for name, f in found.items() if f.ok is None} == {"P2", "P3", "P4", "P6"}


def test_an_empty_shop_passes_them_all(shop) -> None:
    assert failing(shop) == set()


DROP = [
    f"drop trigger {table}_no_{verb}" for table in ("txn", "entry") for verb in ("update", "delete")
]
ENDPOINT = "insert into delivery_endpoint values ('A1', 'csv', 'k', x'00', 1, 1)"
SOLD_L1 = "lead_id = 'L1' and state = 'sold'"


# Planted past triggers and checks, which SQLite can be told to leave out.
@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("name", "statements"),
    [
        ("L1", ["insert into txn values ('empty', '', 1)"]),
        ("L1", [*DROP, "delete from entry where account_id = 'revenue'"]),
        ("L2", DROP[:1]),
        ("L4", [*DROP, "update entry set amount_cents = 90000 where txn_id like 'wallet:%'"]),
        ("S1", ["delete from lead_slot where lead_id = 'L2'"]),
        ("S1", ["update order_item set consent_sellers = 0 where lead_id = 'L2'"]),
        ("S1", ["update order_item set consent_id = 'U', consent_sellers = 1"]),
        ("C1", ["update order_item set consent_id = null where lead_id = 'L1'"]),
        ("C1", ["update order_item set consent_checked_us = 1 where lead_id = 'L2'"]),
        (
            "S2",
            [
                "insert into orders select 'o2', agent_id, state, pay_with, amount_cents, "
                "currency, created_us, deadline_us, settled_us, failure "
                "from orders where agent_id = 'A1'",
                "insert into order_item select 'o2', lead_id, slot, token, price_cents, "
                "consent_id, consent_proof, consent_sellers, consent_checked_us "
                "from order_item where lead_id = 'L1'",
            ],
        ),
        ("S4", ["update orders set state = 'canceled' where agent_id = 'A1'"]),
        ("S4", [f"update lead_slot set state = 'closed', order_id = null where {SOLD_L1}"]),
        ("S4", ["update lead_slot set state = 'sold', order_id = 'ord_no' where lead_id = 'L3'"]),
        ("S4", ["delete from order_item"]),
        ("H1", ["update hold_item set granted_us = granted_us - 3600000000 where token = 2"]),
        ("H2", ["update hold_item set ended_us = ended_us + 9000000000 where ended_how = 'sold'"]),
        ("H4", ["update lead_slot set token = token - 1 where lead_id = 'L3' and slot = 1"]),
        ("H4", [f"update lead_slot set token = token + 1 where {SOLD_L1}"]),
        ("H5", ["update hold set asked = asked + 1"]),
        (
            "H6",
            [
                "insert into lead_slot select 'X' || value, 1, 'held', 'A1', 'h', "
                "(select max(held_until_us) from lead_slot), 1, null, 0 "
                f"from ({' union '.join(f'select {n} as value' for n in range(51))})"
            ],
        ),
        (
            "P1",
            [
                "insert into payment_attempt select 'p2', order_id, agent_id, purpose, 'i2', "
                "payment_method, amount_cents, currency, null, state, failure, created_us, 0 "
                "from payment_attempt where order_id is not null"
            ],
        ),
        ("P2", [*DROP, "delete from entry where txn_id like 'capture:%'"]),
        (
            "P3",
            [
                *DROP,
                "update entry set amount_cents = amount_cents + 1 where txn_id like 'capture:%'",
            ],
        ),
        (
            "P5",
            [
                "update payment_attempt set state = 'open', created_us = 1",
                "update orders set deadline_us = 1",
            ],
        ),
        ("P5", ["update orders set state = 'pending' where pay_with = 'card'"]),
        ("P6", ["update payment_attempt set state = 'open' where purpose = 'topup'"]),
        ("D1", [ENDPOINT, "update outbox set state = 'dead'"]),
        ("D1", [ENDPOINT, "update outbox set state = 'delivered', delivered_us = null"]),
        ("D1", [ENDPOINT, "update outbox set state = 'delivered', delivered_us = 1"]),
        ("D1", [ENDPOINT, "update outbox set next_try_us = next_try_us - 100000000000"]),
        ("D1", [ENDPOINT, "update outbox set state = 'lost'"]),
        ("D2", ["delete from outbox where lead_id = 'L1'"]),
        ("D2", ["update outbox set agent_id = 'A2' where agent_id = 'A1'"]),
        ("D2", ["update outbox set kind = 'lead.seen'"]),
        ("D2", ["update outbox set order_id = 'ord_no' where lead_id = 'L2'"]),
        ("D2", ["update orders set state = 'canceled' where agent_id = 'A1'"]),
    ],
)
def test_a_planted_fault_is_named(busy_shop, name: str, statements: list[str]) -> None:
    plant(busy_shop, *statements)
    assert name in failing(busy_shop)


# Planted past triggers and checks, which SQLite can be told to leave out.
@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_an_authorisation_that_outlives_its_order_is_named(busy_shop) -> None:
    shop = busy_shop
    shop.add_leads("L9")
    held = shop.hold("A1", "L9")
    order = pay_by_card(
        shop.engine,
        shop.payments,
        "A1",
        [held.hold_id],
        "pm_card_authenticationRequired",
        shop.now,
    )
    shop.standin.authenticate(shop.standin.intents()[-1]["id"], succeed=True)
    plant(
        shop,
        f"update orders set state = 'expired' where order_id = '{order.order_id}'",
        f"update payment_attempt set state = 'voided' where order_id = '{order.order_id}'",
    )
    assert failing(shop) == {"P4"}


def test_two_payments_with_money_for_one_order_are_named(busy_shop) -> None:
    shop = busy_shop
    first = next(i for i in shop.standin.intents() if i["metadata"].get("order"))
    shop.payments.pay(
        key="twice",
        amount_cents=5_000,
        currency="USD",
        payment_method="pm_card_visa",
        attempt_id=first["metadata"]["attempt"],
        order_id=first["metadata"]["order"],
        capture=True,
    )
    assert failing(shop) == {"P1", "P2", "P6"}


def test_the_documentation_lists_every_invariant() -> None:
    page = (Path(__file__).parents[3] / "docs" / "commerce.md").read_text()
    for name, about in invariants.ABOUT.items():
        assert f"| {name} | {about} |" in page
