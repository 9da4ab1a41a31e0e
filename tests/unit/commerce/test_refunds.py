"""Money that goes back: refunds, disputes, what is owed, and what the ledger says of it."""

from __future__ import annotations

import pytest

from aiqleads.commerce import debts, refunds, wallet
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.reconcile import receive_webhook, sweep
from aiqleads.commerce.returns import ask as give_back
from aiqleads.commerce.returns import notices
from aiqleads.commerce.stripe_standin import AUTHORISATION_SECONDS
from aiqleads.errors import Refused
from aiqleads.store import ledger, orders
from aiqleads.store.database import reader


def bought(shop, *leads: str, card: str | None = "pm_card_visa", who: str = "A1"):
    """An order of the leads, paid by card (or out of the wallet)."""
    shop.add_leads(*leads)
    held = shop.hold(who, *leads)
    if card is None:
        return pay_by_wallet(shop.engine, who, [held.hold_id], shop.now)
    return pay_by_card(shop.engine, shop.payments, who, [held.hold_id], card, shop.now)


def state_of(shop, order) -> str:
    with reader(shop.engine).connect() as connection:
        return orders.get(connection, order.order_id).state


def account(shop, name: str) -> int:
    with reader(shop.engine).connect() as connection:
        return ledger.debit_balance(connection, name)


def give(shop, order, cents=None, key=None):
    return refunds.ask(
        shop.engine, shop.payments, order.order_id, cents, "k_ops", "asked", shop.now, key=key
    )


def heal(shop):
    return sweep(shop.engine, shop.payments, shop.now)


def test_a_card_order_is_refunded_in_parts_to_its_card(shop) -> None:
    order = bought(shop, "L1")
    assert give(shop, order, 2_000).state == "succeeded"
    assert state_of(shop, order) == "partially_refunded"
    assert give(shop, order).amount_cents == 3_000
    assert state_of(shop, order) == "refunded"
    assert account(shop, "stripe_clearing") == 0
    assert account(shop, "refunds") == 5_000
    heal(shop)
    # The fee of the charge was Stripe's to keep.
    assert account(shop, "stripe_clearing") == -175
    shop.assert_sound()


def test_no_more_goes_back_than_came(shop) -> None:
    order = bought(shop, "L1")
    give(shop, order, 4_000)
    with pytest.raises(Refused) as no:
        give(shop, order, 2_000)
    assert no.value.kind == "refund-too-large"
    assert (no.value.extra["value"], no.value.extra["used"]) == (5_000, 4_000)
    assert no.value.extra["fits"] == 1_000
    give(shop, order, 1_000)
    with pytest.raises(Refused) as no:
        give(shop, order)
    assert no.value.kind == "not-paid"


def test_a_repeated_request_is_one_refund(shop) -> None:
    order = bought(shop, "L1")
    first = give(shop, order, 1_000, key="k")
    assert give(shop, order, 1_000, key="k").refund_id == first.refund_id
    assert account(shop, "refunds") == 1_000
    assert len(refunds.listing(shop.engine, order.order_id)) == 1


def test_a_wallet_order_goes_back_to_the_wallet(shop) -> None:
    shop.fill_wallet("A1", 8_000)
    order = bought(shop, "L1", card=None)
    assert give(shop, order).state == "succeeded"
    assert wallet.balance(shop.engine, "A1") == 8_000
    assert state_of(shop, order) == "refunded"
    shop.assert_sound()


def test_what_was_returned_is_not_refunded_as_well(shop) -> None:
    order = bought(shop, "L1", "L2")
    give_back(shop.engine, "A1", order.order_id, "L1", "disconnected_number", "rang", shop.now)
    with pytest.raises(Refused, match="went back already"):
        give(shop, order, 6_000)
    give(shop, order, 5_000)
    with pytest.raises(Refused) as no:
        give_back(shop.engine, "A1", order.order_id, "L2", "disconnected_number", "x", shop.now)
    assert no.value.kind == "already-refunded"
    shop.assert_sound()


@pytest.mark.parametrize("fault", ["lost before", "lost after", "500 saved", "429"])
def test_a_refund_whose_answer_was_lost_is_made_once(shop, line, fault: str) -> None:
    order = bought(shop, "L1")
    line.faults = [fault] * (1 if "saved" in fault else 3)
    made = give(shop, order, 1_500)
    line.faults = []
    shop.later(1)
    heal(shop)
    assert [each.state for each in refunds.listing(shop.engine, order.order_id)] == ["succeeded"]
    assert account(shop, "refunds") == 1_500
    assert made.amount_cents == 1_500
    shop.assert_sound()


def test_a_refund_that_stripe_refuses_fails_and_can_be_asked_again(shop) -> None:
    order = bought(shop, "L1", card="pm_card_createDispute")
    made = give(shop, order, 1_000)
    assert made.state == "failed"
    assert "charged back" in (made.failure or "")
    assert account(shop, "refunds") == 0


def test_a_refund_made_at_stripe_is_found(shop) -> None:
    order = bought(shop, "L1")
    intent = shop.standin.intents()[0]["id"]
    shop.payments.refund(key="x", intent_id=intent, amount_cents=700, refund_id="by hand")
    assert heal(shop).recorded
    assert state_of(shop, order) == "partially_refunded"
    found = refunds.listing(shop.engine, order.order_id)
    assert [(each.amount_cents, each.asked_by) for each in found] == [(700, "stripe")]
    assert heal(shop).recorded == 0
    shop.assert_sound()


def test_a_refund_that_the_bank_sends_back_is_undone(shop) -> None:
    order = bought(shop, "L1", card="pm_card_refundFail")
    made = give(shop, order)
    assert made.stripe_id is not None
    shop.standin.fail_refund(made.stripe_id)
    heal(shop)
    assert state_of(shop, order) == "paid"
    assert refunds.listing(shop.engine, order.order_id)[0].state == "failed"
    assert account(shop, "refunds") == 0
    shop.assert_sound()


def test_a_refund_that_came_back_before_it_was_known_is_told_to_nobody(shop, line) -> None:
    order = bought(shop, "L1", card="pm_card_refundFail")
    line.faults = ["lost after"] * 9
    assert give(shop, order).state == "open"
    line.faults = []
    (sent,) = shop.payments.refunds_of(shop.standin.intents()[0]["id"])
    shop.standin.fail_refund(sent.stripe_id)
    shop.later(61)  # by now it is looked for, before its key is used again
    for _ in range(2):
        heal(shop)
    assert [each.state for each in refunds.listing(shop.engine, order.order_id)] == ["failed"]
    assert (state_of(shop, order), account(shop, "refunds")) == ("paid", 0)
    assert notices(shop.engine, "A1") == []
    shop.assert_sound()


@pytest.mark.parametrize("won", [True, False])
def test_a_disputed_order_is_won_or_lost(shop, won: bool) -> None:
    order = bought(shop, "L1", card="pm_card_createDispute")
    heal(shop)
    assert state_of(shop, order) == "disputed"
    assert account(shop, "disputes") == 5_000
    assert account(shop, "stripe_clearing") == -175 - 1_500
    shop.standin.close_dispute(shop.standin.disputes()[0]["id"], won=won)
    heal(shop)
    assert state_of(shop, order) == ("won" if won else "lost")
    assert account(shop, "disputes") == 0
    assert account(shop, "chargebacks") == (0 if won else 5_000)
    shop.assert_sound()


def test_a_webhook_of_a_dispute_moves_its_order_at_once_and_once(shop) -> None:
    order = bought(shop, "L1", card="pm_card_createDispute")
    event = next(e for e in shop.standin.events() if e["type"] == "charge.dispute.created")
    for _ in range(2):
        body, signature = shop.standin.webhook(event)
        told = receive_webhook(shop.engine, shop.payments, body, signature, shop.now)
        assert told == "driven"
    assert state_of(shop, order) == "disputed"
    shop.assert_sound()


def test_a_disputed_top_up_that_was_spent_is_owed_and_freezes_buying(shop) -> None:
    wallet.topup(shop.engine, shop.payments, "A1", 6_000, "pm_card_createDispute", shop.now)
    bought(shop, "L1", card=None)
    heal(shop)
    seen = wallet.view(shop.engine, "A1")
    assert (seen.balance_cents, seen.receivable_cents) == (0, 5_000)
    shop.add_leads("L2")
    held = shop.hold("A1", "L2")
    for pay in (
        lambda: pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now),
        lambda: pay_by_card(
            shop.engine, shop.payments, "A1", [held.hold_id], "pm_card_visa", shop.now
        ),
    ):
        with pytest.raises(Refused) as no:
            pay()
        assert (no.value.kind, no.value.extra["owed_cents"]) == ("account-frozen", 5_000)
    shop.fill_wallet("A1", 12_000)
    seen = wallet.view(shop.engine, "A1")
    assert (seen.balance_cents, seen.receivable_cents) == (7_000, 0)
    pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now)
    shop.assert_sound()


def test_a_disputed_top_up_that_is_won_pays_what_was_owed(shop) -> None:
    wallet.topup(shop.engine, shop.payments, "A1", 6_000, "pm_card_createDispute", shop.now)
    bought(shop, "L1", card=None)
    heal(shop)
    shop.standin.close_dispute(shop.standin.disputes()[0]["id"], won=True)
    heal(shop)
    seen = wallet.view(shop.engine, "A1")
    assert (seen.balance_cents, seen.receivable_cents) == (1_000, 0)
    shop.assert_sound()


def uncollected(shop, line):
    """An order whose authorisation lapsed before its capture came through."""
    shop.add_leads("L9")
    held = shop.hold("A1", "L9")
    line.faults = ["none"] * 3 + ["lost before"] * 9
    order = pay_by_card(shop.engine, shop.payments, "A1", [held.hold_id], "pm_card_visa", shop.now)
    line.faults = []
    assert order.state == "committed"
    shop.now += (AUTHORISATION_SECONDS + 60) * 1_000_000
    heal(shop)
    assert state_of(shop, order) == "uncollected"
    return order


def test_an_uncollected_order_is_paid_by_the_next_top_up(shop, line) -> None:
    order = uncollected(shop, line)
    shop.fill_wallet("A1", 4_000)
    assert state_of(shop, order) == "uncollected"
    shop.fill_wallet("A1", 2_000)
    assert state_of(shop, order) == "paid"
    seen = wallet.view(shop.engine, "A1")
    assert (seen.balance_cents, seen.receivable_cents) == (1_000, 0)
    # It was paid out of the wallet in the end, and goes back there.
    give(shop, order)
    assert wallet.balance(shop.engine, "A1") == 6_000
    shop.assert_sound()


def test_an_uncollected_order_can_be_written_off(shop, line) -> None:
    order = uncollected(shop, line)
    assert debts.write_off(shop.engine, order.order_id, shop.now).state == "written_off"
    assert (account(shop, "bad_debt"), account(shop, "receivable:A1")) == (5_000, 0)
    with pytest.raises(Refused) as no:
        debts.write_off(shop.engine, order.order_id, shop.now)
    assert no.value.kind == "not-uncollected"
    shop.assert_sound()
