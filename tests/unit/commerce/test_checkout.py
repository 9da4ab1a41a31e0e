"""Buying: wallet and card, and every way in which it does not happen."""

from __future__ import annotations

import pytest

from aiqleads.commerce import orders, reconcile
from aiqleads.commerce.checkout import PAYMENT_WINDOW_US, pay_by_card, pay_by_wallet
from aiqleads.commerce.holds import cart, release
from aiqleads.commerce.wallet import balance, topup, view
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store import ledger


def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def statuses(shop) -> list[str]:
    return [intent["status"] for intent in shop.standin.intents()]


def card(shop, hold, method: str = "pm_card_visa", key: str | None = None):
    return pay_by_card(
        shop.engine, shop.payments, hold.agent_id, [hold.hold_id], method, shop.now, key=key
    )


# --- wallet ------------------------------------------------------------------------


def test_a_wallet_purchase_is_one_paid_order(shop) -> None:
    shop.add_leads("L1", "L2", buyers=2)
    shop.fill_wallet("A1", 20_000)
    shop.later(1)
    one, two = shop.hold("A1", "L1"), shop.hold("A1", "L2", cents=3_000)
    order = pay_by_wallet(shop.engine, "A1", [one.hold_id, two.hold_id], shop.now)
    assert (order.state, order.pay_with, order.amount_cents) == ("paid", "wallet", 8_000)
    assert [item.lead_id for item in order.items] == ["L1", "L2"]
    assert balance(shop.engine, "A1") == 12_000
    assert orders.get(shop.engine, "A1", order.order_id) == order
    assert orders.bought(shop.engine, "A1") == {"L1", "L2"}
    assert orders.bought(shop.engine, "A1", ["L2", "L3"]) == {"L2"}
    assert orders.bought(shop.engine, "A2", ["L2"]) == set()
    assert cart(shop.engine, "A1", shop.now).holds == ()
    assert refused(lambda: shop.hold("A1", "L1")).extra["yours"]
    assert [p.cents for p in view(shop.engine, "A1").postings] == [-8_000, 20_000]
    with shop.engine.connect() as connection:
        assert ledger.total_cents(connection) == 0
    shop.assert_sound()


def test_too_little_credit_buys_nothing(shop) -> None:
    shop.add_leads("L1")
    shop.fill_wallet("A1", 1_000)
    held = shop.hold("A1", "L1")
    no = refused(lambda: pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now))
    assert (no.kind, no.status, no.extra["missing_cents"]) == ("insufficient-credits", 402, 4_000)
    assert {k: no.extra[k] for k in ("limit", "value", "used")} == {
        "limit": "wallet_cents",
        "value": 1_000,
        "used": 5_000,
    }
    assert orders.listing(shop.engine, "A1") == []
    assert cart(shop.engine, "A1", shop.now).holds == (held,)
    shop.assert_sound()


def test_an_expired_or_given_back_hold_cannot_be_bought(shop) -> None:
    shop.add_leads("L1", "L2")
    shop.fill_wallet("A1", 20_000)
    held, gone = shop.hold("A1", "L1"), shop.hold("A1", "L2")
    release(shop.engine, "A1", gone.hold_id, shop.now)
    no = refused(lambda: pay_by_wallet(shop.engine, "A1", [gone.hold_id], shop.now))
    assert (no.kind, no.extra["hold_ids"]) == ("hold-expired", [gone.hold_id])
    shop.later(60)
    no = refused(lambda: pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now))
    assert (no.kind, no.extra["lead_ids"]) == ("hold-expired", ["L1"])
    assert balance(shop.engine, "A1") == 20_000


def test_a_hold_taken_over_is_lost_to_its_first_holder(shop) -> None:
    shop.add_leads("L1")
    shop.fill_wallet("A1", 20_000)
    held = shop.hold("A1", "L1")
    shop.later(60)
    shop.hold("A2", "L1")
    shop.later(-30)  # a worker whose clock is behind still cannot sell under the old token
    no = refused(lambda: pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now))
    assert no.kind == "hold-expired"


@pytest.mark.parametrize("ids", [[], ["twice", "twice"]])
def test_holds_are_named_once(shop, ids: list[str]) -> None:
    with pytest.raises(InvalidInput):
        pay_by_wallet(shop.engine, "A1", ids, shop.now)


def test_nobody_buys_another_agents_hold(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    with pytest.raises(UnknownName):
        pay_by_wallet(shop.engine, "A2", [held.hold_id], shop.now)
    with pytest.raises(UnknownName):
        pay_by_card(shop.engine, shop.payments, "A2", [held.hold_id], "pm_card_visa", shop.now)


def test_the_same_key_buys_once(shop) -> None:
    shop.add_leads("L1")
    shop.fill_wallet("A1", 20_000)
    held = shop.hold("A1", "L1")
    first = pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now, key="k")
    assert pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now + 5, key="k") == first
    assert balance(shop.engine, "A1") == 15_000


def test_orders_come_newest_first_in_pages(shop) -> None:
    shop.add_leads("L1", "L2", "L3")
    shop.fill_wallet("A1", 20_000)
    made = []
    for lead in ("L1", "L2", "L3"):
        held = shop.hold("A1", lead)
        made.append(pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now).order_id)
        shop.later(1)
    page = orders.listing(shop.engine, "A1", limit=2)
    assert [o.order_id for o in page] == made[:0:-1]
    rest = orders.listing(
        shop.engine, "A1", limit=2, before=(page[-1].created_us, page[-1].order_id)
    )
    assert [o.order_id for o in rest] == made[:1]
    with pytest.raises(UnknownName):
        orders.get(shop.engine, "A2", made[0])


# --- top-ups -----------------------------------------------------------------------


def test_a_topup_credits_the_wallet_once(shop) -> None:
    first = topup(shop.engine, shop.payments, "A1", 5_000, "pm_card_visa", shop.now, key="k")
    again = topup(shop.engine, shop.payments, "A1", 5_000, "pm_card_visa", shop.now, key="k")
    assert first == again
    assert first.state == "captured"
    assert balance(shop.engine, "A1") == 5_000
    assert len(shop.standin.intents()) == 1
    shop.assert_sound()


@pytest.mark.parametrize("cents", [499, 1_000_001, -5])
def test_a_topup_has_bounds(shop, cents: int) -> None:
    with pytest.raises(InvalidInput):
        topup(shop.engine, shop.payments, "A1", cents, "pm_card_visa", shop.now)


def test_a_declined_topup_leaves_nothing(shop) -> None:
    def pay():
        return topup(
            shop.engine, shop.payments, "A1", 5_000, "pm_card_chargeDeclined", shop.now, key="k"
        )

    assert refused(pay).extra["decline_code"] == "generic_decline"
    assert refused(pay).status == 402  # the repeat says the same
    assert balance(shop.engine, "A1") == 0
    assert statuses(shop) == ["canceled"]
    with pytest.raises(InvalidInput, match="payment method"):
        topup(shop.engine, shop.payments, "A1", 5_000, "pm_nonsense", shop.now)
    shop.assert_sound()


def test_a_topup_waits_for_the_buyers_bank(shop) -> None:
    open_one = topup(
        shop.engine, shop.payments, "A1", 5_000, "pm_card_authenticationRequired", shop.now
    )
    assert (open_one.state, balance(shop.engine, "A1")) == ("open", 0)
    assert open_one.client_secret
    shop.standin.authenticate(shop.standin.intents()[0]["id"], succeed=True)
    assert reconcile.sweep(shop.engine, shop.payments, shop.now).healed == 1
    assert balance(shop.engine, "A1") == 5_000
    shop.assert_sound()


def test_a_topup_that_nobody_authenticates_ends(shop) -> None:
    open_one = topup(
        shop.engine, shop.payments, "A1", 5_000, "pm_card_authenticationRequired", shop.now
    )
    shop.later(61)
    driven = reconcile.drive_topup(shop.engine, shop.payments, open_one.attempt_id, shop.now)
    assert (driven.state, driven.failure) == ("voided", "deadline-passed")
    assert refused(driven.raise_if_failed).kind == "hold-expired"
    assert statuses(shop) == ["canceled"]
    with pytest.raises(InvalidInput):
        reconcile.drive_topup(shop.engine, shop.payments, "top_none", shop.now)


# --- card --------------------------------------------------------------------------


def test_a_card_purchase_reserves_sells_and_captures(shop) -> None:
    shop.add_leads("L1")
    order = card(shop, shop.hold("A1", "L1"))
    assert (order.state, order.pay_with, order.settled_us) == ("paid", "card", shop.now)
    assert [e["type"] for e in shop.standin.events()] == [
        "payment_intent.created",
        "payment_intent.amount_capturable_updated",
        "payment_intent.succeeded",
    ]
    assert orders.bought(shop.engine, "A1") == {"L1"}
    shop.assert_sound()


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
def test_a_declined_card_buys_nothing_and_keeps_the_hold(shop, method: str, code: str) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    no = refused(lambda: card(shop, held, method))
    assert (no.kind, no.status, no.extra["decline_code"]) == ("card-declined", 402, code)
    failed = orders.get(shop.engine, "A1", no.extra["order_id"])
    assert (failed.state, failed.failure) == ("failed", code)
    assert statuses(shop) == ["canceled"]
    assert card(shop, held).state == "paid"  # with another card, the hold is still there
    shop.assert_sound()


def test_an_unknown_payment_method_is_bad_input(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    with pytest.raises(InvalidInput):
        card(shop, held, "pm_nonsense", key="k")
    with pytest.raises(InvalidInput):
        card(shop, held, "pm_nonsense", key="k")
    assert statuses(shop) == []
    shop.assert_sound()


def test_a_card_that_asks_for_authentication_is_paid_after_it(shop) -> None:
    shop.add_leads("L1")
    waiting = card(shop, shop.hold("A1", "L1"), "pm_card_authenticationRequired")
    assert waiting.state == "requires_action"
    assert waiting.client_secret
    assert orders.bought(shop.engine, "A1") == set()
    shop.standin.authenticate(shop.standin.intents()[0]["id"], succeed=True)
    paid = reconcile.drive(shop.engine, shop.payments, waiting.order_id, shop.now)
    assert (paid.state, paid.client_secret) == ("paid", None)
    shop.assert_sound()


def test_a_failed_authentication_fails_the_order(shop) -> None:
    shop.add_leads("L1")
    waiting = card(shop, shop.hold("A1", "L1"), "pm_card_authenticationRequired")
    shop.standin.authenticate(shop.standin.intents()[0]["id"], succeed=False)
    ended = reconcile.drive(shop.engine, shop.payments, waiting.order_id, shop.now)
    assert (ended.state, ended.failure) == ("failed", "payment_intent_authentication_failure")
    shop.assert_sound()


def test_a_buyer_who_walks_away_is_expired_and_voided(shop) -> None:
    shop.add_agent("B", tier="basic")
    shop.add_leads("L1")
    held = shop.hold("B", "L1")
    shop.later(14)
    waiting = card(shop, held, "pm_card_authenticationRequired")
    assert waiting.deadline_us == shop.now + PAYMENT_WINDOW_US  # the hold was extended, once
    shop.later(10)
    again = card(shop, held, "pm_card_authenticationRequired")
    assert again.deadline_us == waiting.deadline_us
    shop.later(5)
    assert shop.hold("A1", "L1")
    swept = reconcile.sweep(shop.engine, shop.payments, shop.now)
    assert swept.healed == 2
    ended = orders.get(shop.engine, "B", waiting.order_id)
    assert (ended.state, ended.failure) == ("expired", "deadline-passed")
    assert statuses(shop) == ["canceled", "canceled"]
    shop.assert_sound()


def test_a_lost_hold_voids_the_authorisation(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    waiting = card(shop, held, "pm_card_authenticationRequired")
    release(shop.engine, "A1", held.hold_id, shop.now)
    shop.hold("A2", "L1")
    shop.standin.authenticate(shop.standin.intents()[0]["id"], succeed=True)
    lost = reconcile.drive(shop.engine, shop.payments, waiting.order_id, shop.now)
    assert (lost.state, lost.failure) == ("canceled", "hold-lost")
    assert shop.standin.intents()[0]["status"] == "canceled"
    assert shop.standin.intents()[0]["amount_received"] == 0
    shop.assert_sound()


def test_one_hold_paid_twice_at_once_sells_once(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    first = card(shop, held, "pm_card_authenticationRequired", key="one")
    second = card(shop, held, "pm_card_visa", key="two")
    assert second.state == "paid"
    shop.standin.authenticate(shop.standin.intents()[0]["id"], succeed=True)
    no = refused(lambda: card(shop, held, "pm_card_authenticationRequired", key="one"))
    assert (no.kind, no.extra["order_id"]) == ("hold-expired", first.order_id)
    assert sorted(statuses(shop)) == ["canceled", "succeeded"]
    shop.assert_sound()


def test_a_payment_cancelled_at_stripe_ends_the_order(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    card(shop, held, "pm_card_authenticationRequired", key="k")
    shop.payments.cancel(shop.standin.intents()[0]["id"])
    no = refused(lambda: card(shop, held, "pm_card_authenticationRequired", key="k"))
    assert no.kind == "payment-canceled"
    shop.assert_sound()


def test_a_capture_refused_for_good_is_owed(shop, line) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    # made, looked at, sold; then the line is dead while the capture is due
    line.faults = ["none", "none", *["lost before"] * 12]
    committed = card(shop, held)
    assert committed.state == "committed"
    assert orders.bought(shop.engine, "A1") == {"L1"}
    line.faults = []
    shop.later(8 * 24 * 60)  # the bank's reservation lapses
    owed = reconcile.drive(shop.engine, shop.payments, committed.order_id, shop.now)
    assert owed.state == "uncollected"
    assert view(shop.engine, "A1").receivable_cents == 5_000
    shop.assert_sound()


def test_a_wallet_is_spent_to_the_last_cent(shop) -> None:
    shop.add_leads("L1")
    shop.fill_wallet("A1", 5_000)
    held = shop.hold("A1", "L1")
    assert pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now).state == "paid"
    assert balance(shop.engine, "A1") == 0
    shop.assert_sound()
