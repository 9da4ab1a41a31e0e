"""Bad lines, webhooks and the sweep: each payment comes to one right end."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import select, update

from aiqleads.commerce import orders, refunds
from aiqleads.commerce.checkout import pay_by_card
from aiqleads.commerce.holds import cart, release
from aiqleads.commerce.payments import Payments, client_for, open_payments
from aiqleads.commerce.reconcile import drive, receive_webhook, sweep
from aiqleads.commerce.stripe_standin import sign
from aiqleads.commerce.wallet import balance, topup
from aiqleads.errors import InvalidInput, NotReady, Refused
from aiqleads.settings import Settings
from aiqleads.store.tables import payment_attempt


def pay(shop, hold, method: str = "pm_card_visa", key: str | None = "k"):
    return pay_by_card(
        shop.engine, shop.payments, hold.agent_id, [hold.hold_id], method, shop.now, key=key
    )


def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("fault", ["lost before", "lost after", "429"])
@pytest.mark.parametrize("at", range(4))
def test_one_fault_anywhere_is_not_even_noticed(shop, line, fault: str, at: int) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    line.faults = ["none"] * at + [fault]
    assert pay(shop, held).state == "paid"
    assert len(shop.standin.intents()) == 1
    shop.assert_sound()


@pytest.mark.parametrize("fault", ["lost before", "lost after", "429"])
@pytest.mark.parametrize("at", range(4))
def test_a_dead_line_is_told_and_healed_by_the_sweep(shop, line, fault: str, at: int) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    line.faults = ["none"] * at + [fault] * 20
    try:
        told = pay(shop, held).state
    except Refused as unknown:
        told = (unknown.kind, unknown.status, "order_id" in unknown.extra)
    stored = orders.listing(shop.engine, "A1")[0].state
    assert (told, stored) in [
        ("committed", "committed"),
        (("payment-outcome-unknown", 202, True), "pending"),
    ]
    assert sweep(shop.engine, shop.payments, shop.now).waiting == 1
    line.faults = []
    assert sweep(shop.engine, shop.payments, shop.now).waiting == 0
    assert orders.listing(shop.engine, "A1")[0].state == "paid"
    assert len(shop.standin.intents()) == 1
    shop.assert_sound()


def test_a_saved_500_that_was_executed_is_found_in_the_list(shop, line) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    line.faults = ["500 saved"]
    assert pay(shop, held).state == "paid"
    assert len(shop.standin.intents()) == 1
    shop.assert_sound()


def test_a_saved_500_that_was_not_executed_is_tried_under_another_key(shop, line) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    line.faults = ["500 saved, not executed"]
    assert refused(lambda: pay(shop, held)).kind == "payment-outcome-unknown"
    assert sweep(shop.engine, shop.payments, shop.now).healed == 1
    assert pay(shop, held).state == "paid"
    assert len(shop.standin.intents()) == 1
    shop.assert_sound()


def test_a_saved_500_that_was_not_executed_expires(shop, line) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    line.faults = ["500 saved, not executed"]
    assert refused(lambda: pay(shop, held)).kind == "payment-outcome-unknown"
    shop.later(60)
    assert sweep(shop.engine, shop.payments, shop.now).healed == 1
    assert refused(lambda: pay(shop, held)).kind == "hold-expired"
    assert shop.standin.intents() == []
    shop.assert_sound()


def test_a_payment_made_unseen_is_voided_after_the_deadline(shop, line) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    line.faults = ["lost after"] * 3 + ["lost before"] * 10
    assert refused(lambda: pay(shop, held)).kind == "payment-outcome-unknown"
    line.faults = []
    shop.later(60)
    swept = sweep(shop.engine, shop.payments, shop.now)
    assert (swept.adopted, swept.healed) == (1, 1)
    assert [i["status"] for i in shop.standin.intents()] == ["canceled"]
    assert orders.listing(shop.engine, "A1")[0].state == "canceled"
    shop.assert_sound()


def test_a_stray_reservation_is_cancelled(shop) -> None:
    shop.add_leads("L1")
    order = pay(shop, shop.hold("A1", "L1"))
    attempt = shop.standin.intents()[0]["metadata"]["attempt"]
    shop.payments.pay(
        key="other",
        amount_cents=5_000,
        currency="USD",
        payment_method="pm_card_visa",
        attempt_id=attempt,
        order_id=order.order_id,
        capture=False,
    )
    shop.payments.pay(
        key="foreign",
        amount_cents=5_000,
        currency="USD",
        payment_method="pm_card_visa",
        attempt_id="somebody_elses",
        order_id=None,
        capture=False,
    )
    assert sweep(shop.engine, shop.payments, shop.now).strays == 1
    assert [i["status"] for i in shop.standin.intents()] == [
        "succeeded",
        "canceled",
        "requires_capture",
    ]
    shop.assert_sound()


def test_a_sweep_tells_what_it_drives_and_survives_a_dead_line(shop, line) -> None:
    shop.add_leads("L1")
    pay(shop, shop.hold("A1", "L1"), "pm_card_authenticationRequired")
    told: list[str] = []
    line.faults = ["lost before"] * 20
    assert sweep(shop.engine, shop.payments, shop.now, progress=told.append).waiting == 1
    assert len(told) == 1


@pytest.mark.parametrize("fault", ["lost before", "lost after", "429", "500 saved"])
def test_a_topup_on_a_bad_line_is_credited_once(shop, line, fault: str) -> None:
    line.faults = [fault] * 20 if fault != "500 saved" else [fault]
    with contextlib.suppress(Refused):
        topup(shop.engine, shop.payments, "A1", 5_000, "pm_card_visa", shop.now, key="k")
    line.faults = []
    sweep(shop.engine, shop.payments, shop.now)
    sweep(shop.engine, shop.payments, shop.now)
    assert balance(shop.engine, "A1") == 5_000
    shop.assert_sound()


def test_a_cancel_whose_answer_is_lost_is_looked_up(shop, line) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    # declined, looked at, looked at again, then the cancel
    line.faults = ["none", "none", "none", "none", *["lost after"] * 3]
    assert refused(lambda: pay(shop, held, "pm_card_chargeDeclined")).kind == "card-declined"
    assert [i["status"] for i in shop.standin.intents()] == ["canceled"]
    shop.assert_sound()


# --- webhooks ----------------------------------------------------------------------


def test_a_webhook_finishes_an_order_and_may_come_again(shop) -> None:
    shop.add_leads("L1")
    order = pay(shop, shop.hold("A1", "L1"), "pm_card_authenticationRequired")
    shop.standin.authenticate(shop.standin.intents()[0]["id"], succeed=True)
    body, signature = shop.standin.webhook(shop.standin.events()[-1])
    for _ in range(2):
        answer = receive_webhook(shop.engine, shop.payments, body, signature, shop.now)
        assert answer == "driven"
    assert orders.get(shop.engine, "A1", order.order_id).state == "paid"
    shop.assert_sound()


def test_a_lying_payload_moves_nothing(shop) -> None:
    shop.add_leads("L1")
    order = pay(shop, shop.hold("A1", "L1"), "pm_card_authenticationRequired")
    event = shop.standin.events()[-1]
    event["type"], event["data"]["object"]["status"] = "payment_intent.succeeded", "succeeded"
    body, signature = shop.standin.webhook(event)
    assert receive_webhook(shop.engine, shop.payments, body, signature, shop.now) == "driven"
    assert orders.get(shop.engine, "A1", order.order_id).state == "requires_action"


@pytest.mark.parametrize(
    ("shift", "holds"), [(0, True), (-299, True), (299, True), (-302, False), (302, False)]
)
def test_a_signature_is_good_for_five_minutes_either_way(shop, shift: int, holds: bool) -> None:
    body = (
        b'{"id": "evt_1", "type": "customer.created", "data": {"object": {"object": "customer"}}}'
    )
    signature = sign(body, shop.standin.webhook_secret, shop.now // 1_000_000 + shift)
    if holds:
        answer = receive_webhook(shop.engine, shop.payments, body, signature, shop.now)
        assert answer == "ignored"
    else:
        no = refused(lambda: receive_webhook(shop.engine, shop.payments, body, signature, shop.now))
        assert (no.kind, no.status) == ("webhook-signature", 400)


@pytest.mark.parametrize("signature", [None, "", "t=1", "nonsense", "t=x,v1=y", "t=5,v1=00"])
def test_a_forged_webhook_is_refused(shop, signature: str | None) -> None:
    for body in (b"{}", b"\xff\xfe"):
        no = refused(
            lambda b=body: receive_webhook(shop.engine, shop.payments, b, signature, shop.now)
        )
        assert no.status == 400


def test_a_changed_body_is_refused(shop) -> None:
    shop.fill_wallet("A1", 1_000)
    body, signature = shop.standin.webhook(shop.standin.events()[-1])
    changed = body.replace(b"succeeded", b"succeedeD")
    assert (
        refused(
            lambda: receive_webhook(shop.engine, shop.payments, changed, signature, shop.now)
        ).status
        == 400
    )


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{}", b'{"data": {"object": 3}}'])
def test_a_signed_body_that_is_no_event_is_bad_input(shop, body: bytes) -> None:
    signature = sign(body, shop.standin.webhook_secret, shop.now // 1_000_000)
    with pytest.raises(InvalidInput):
        receive_webhook(shop.engine, shop.payments, body, signature, shop.now)


def test_webhooks_of_unknown_payments_are_ignored(shop, line) -> None:
    shop.payments.pay(
        key="foreign",
        amount_cents=5_000,
        currency="USD",
        payment_method="pm_card_visa",
        attempt_id="somebody_elses",
        order_id=None,
        capture=True,
    )
    event = shop.standin.events()[-1]
    body, signature = shop.standin.webhook(event)
    assert receive_webhook(shop.engine, shop.payments, body, signature, shop.now) == "ignored"
    event["data"]["object"]["id"] = "pi_unknown"
    body, signature = shop.standin.webhook(event)
    assert receive_webhook(shop.engine, shop.payments, body, signature, shop.now) == "ignored"
    line.faults = ["lost before"] * 9
    assert receive_webhook(shop.engine, shop.payments, body, signature, shop.now) == "waiting"


# --- the door ----------------------------------------------------------------------


def test_settings_choose_the_door(home: Settings) -> None:
    assert open_payments(home).standin is not None
    live = open_payments(
        Settings(
            home=home.home, stripe_secret_key="sk_test_1", stripe_api_base="http://127.0.0.1:9"
        )
    )
    assert live.standin is None
    with pytest.raises(NotReady, match="SECRET_KEY"):
        open_payments(Settings(home=home.home, stripe_api_base="http://127.0.0.1:9"))
    with pytest.raises(NotReady, match="WEBHOOK_SECRET"):
        live.verify(b"{}", "t=1,v1=0", 1.0)


def test_a_refused_key_is_no_decision_about_the_payment(shop) -> None:
    from aiqleads.commerce.payments import InProcess

    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    good = shop.payments
    shop.payments = Payments(client_for("sk_live_wrong", http_client=InProcess(shop.standin)), None)
    assert refused(lambda: pay(shop, held)).kind == "payment-outcome-unknown"
    shop.payments = good
    assert pay(shop, held).state == "paid"


def test_driving_a_finished_or_wallet_order_does_nothing(shop) -> None:
    shop.add_leads("L1")
    order = pay(shop, shop.hold("A1", "L1"))
    events = len(shop.standin.events())
    assert drive(shop.engine, shop.payments, order.order_id, shop.now).state == "paid"
    assert len(shop.standin.events()) == events


def test_a_sweep_goes_on_behind_a_payment_that_waits(shop, line) -> None:
    """The first payment's capture finds no line, the second one's does."""
    for number, lead in enumerate(("L1", "L2")):
        shop.add_leads(lead)
        line.faults = ["none"] * 3 + ["lost before"] * 20
        held = shop.hold("A1", lead)
        assert pay(shop, held, key=f"k{number}").state == "committed"
        shop.later(1)
    line.faults = ["none", *["lost before"] * 3]  # the listing, and then the first payment
    assert sweep(shop.engine, shop.payments, shop.now).waiting == 1
    states = {order.state for order in orders.listing(shop.engine, "A1")}
    assert states == {"committed", "paid"}
    line.faults = []
    sweep(shop.engine, shop.payments, shop.now)
    shop.assert_sound()


def _committed(shop, line, *leads: str) -> None:
    """A card payment of each lead that waits for its capture, the oldest first."""
    for lead in leads:
        shop.add_leads(lead)
        line.faults = ["none"] * 3 + ["lost before"] * 20
        assert pay(shop, shop.hold("A1", lead), key=lead).state == "committed"
        shop.later(1)
    line.faults = []


def _states(shop) -> list[str]:
    """The agent's orders, the oldest first."""
    return [order.state for order in orders.listing(shop.engine, "A1")][::-1]


def test_a_sweep_goes_on_behind_an_answer_that_makes_no_sense(shop, line) -> None:
    _committed(shop, line, "L1", "L2", "L3")
    line.faults = ["none", "garbled"]
    swept = sweep(shop.engine, shop.payments, shop.now)
    assert (swept.healed, swept.waiting, swept.failed) == (2, 1, 0)
    assert _states(shop) == ["committed", "paid", "paid"]
    swept = sweep(shop.engine, shop.payments, shop.now)
    assert (swept.healed, swept.waiting) == (1, 0)
    shop.assert_sound()


@pytest.mark.parametrize(("named", "told"), [("pi_none", (1, 0)), (None, (0, 1))])
def test_a_sweep_goes_on_behind_a_broken_row(shop, line, named: str | None, told) -> None:
    _committed(shop, line, "L1", "L2")
    (_, broken), intent = orders.listing(shop.engine, "A1"), payment_attempt.c.payment_intent
    which = payment_attempt.c.order_id == broken.order_id
    with shop.engine.begin() as connection:
        was = connection.execute(select(intent).where(which)).scalar_one()
        connection.execute(update(payment_attempt).where(which).values(payment_intent=named))
    shop.later(3 * 24 * 60)  # no listing tells which it was
    for healed in (1, 0):
        swept = sweep(shop.engine, shop.payments, shop.now)
        assert (swept.healed, swept.waiting, swept.failed) == (healed, *told)
    assert _states(shop) == ["committed", "paid"]
    with shop.engine.begin() as connection:
        connection.execute(update(payment_attempt).where(which).values(payment_intent=was))
    assert sweep(shop.engine, shop.payments, shop.now).healed == 1
    shop.assert_sound()


def test_a_sweep_goes_on_behind_a_busy_database(shop, line) -> None:
    """The first commit of the sweep is refused, and no other."""
    _committed(shop, line, "L1", "L2")
    commit = shop.engine.dialect.do_commit
    refusals = ["database is locked"]

    def refuse(connection) -> None:
        if refusals:
            raise locked(shop.engine.dialect.name, refusals.pop())
        commit(connection)

    shop.engine.dialect.do_commit = refuse
    swept = sweep(shop.engine, shop.payments, shop.now)
    assert (swept.healed, swept.waiting, swept.failed) == (1, 1, 0)
    assert _states(shop) == ["committed", "paid"]
    assert sweep(shop.engine, shop.payments, shop.now).healed == 1
    shop.assert_sound()


def locked(dialect: str, text: str) -> Exception:
    if dialect == "sqlite":
        return sqlite3.OperationalError(text)
    return psycopg.errors.SerializationFailure(text)


def test_refunds_and_fees_are_read_behind_one_that_fails(shop, line) -> None:
    shop.add_leads("L1", "L2")
    made = [pay(shop, shop.hold("A1", lead), key=lead) for lead in ("L1", "L2")]
    for order in made:
        line.faults = ["garbled"] * 2
        given = (shop.engine, shop.payments, order.order_id, None, "ops", "x", shop.now)
        assert refunds.ask(*given, key="r").state == "open"
    line.faults = ["none", "garbled", "garbled"]
    swept = sweep(shop.engine, shop.payments, shop.now)
    assert (swept.healed, swept.waiting) == (1, 1)
    assert sweep(shop.engine, shop.payments, shop.now).healed == 1
    assert _states(shop) == ["refunded", "refunded"]
    shop.assert_sound()


# --- top-ups that nobody came back for ----------------------------------------------


@pytest.mark.parametrize("minutes", [1, 61, 3 * 24 * 60])
def test_an_abandoned_topup_that_was_captured_is_credited_once(shop, line, minutes: int) -> None:
    line.faults = ["lost after"] * 20
    assert refused(lambda: fill(shop)).kind == "payment-outcome-unknown"
    assert [intent["status"] for intent in shop.standin.intents()] == ["succeeded"]
    assert balance(shop.engine, "A1") == 0
    line.faults = []
    shop.later(minutes)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: sweep(shop.engine, shop.payments, shop.now), range(4)))
    assert balance(shop.engine, "A1") == 5_000
    assert fill(shop).state == "captured"
    assert balance(shop.engine, "A1") == 5_000
    shop.assert_sound()


@pytest.mark.parametrize("by", ["sweep", "webhook"])
def test_a_topup_that_was_given_up_and_then_captured_is_credited_once(shop, line, by: str) -> None:
    """Its request was on its way for longer than anybody waits."""
    line.faults = ["lost before"] * 20
    assert refused(lambda: fill(shop)).kind == "payment-outcome-unknown"
    line.faults = []
    shop.later(61)
    assert sweep(shop.engine, shop.payments, shop.now).healed == 1
    _arrives_late(shop, refused(lambda: fill(shop)).extra["topup_id"])
    if by == "webhook":
        (event,) = [e for e in shop.standin.events() if e["type"] == "payment_intent.succeeded"]
        body, signature = shop.standin.webhook(event, shop.now // 1_000_000)
        receive_webhook(shop.engine, shop.payments, body, signature, shop.now)
        assert balance(shop.engine, "A1") == 5_000
    for _ in range(2):
        sweep(shop.engine, shop.payments, shop.now)
    assert balance(shop.engine, "A1") == 5_000
    assert fill(shop).state == "captured"
    shop.assert_sound()


def fill(shop):
    return topup(shop.engine, shop.payments, "A1", 5_000, "pm_card_visa", shop.now, key="k")


def _arrives_late(shop, topup_id: str) -> None:
    shop.payments.pay(
        key=topup_id,
        amount_cents=5_000,
        currency="USD",
        payment_method="pm_card_visa",
        attempt_id=topup_id,
        order_id=None,
        capture=True,
    )


def test_a_payment_does_not_sell_what_its_buyer_holds_anew(shop) -> None:
    """The old hold is gone, and the new one has another token and another price."""
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    assert pay(shop, held, "pm_card_authenticationRequired").state == "requires_action"
    release(shop.engine, "A1", held.hold_id, shop.now)
    intent = shop.standin.intents()[0]["id"]
    shop.standin.authenticate(intent, succeed=True)
    shop.later(31)
    anew = shop.hold("A1", "L1", cents=9_000)
    sweep(shop.engine, shop.payments, shop.now)
    assert shop.standin.intents()[0]["status"] == "canceled"
    assert orders.listing(shop.engine, "A1")[0].state == "canceled"
    assert cart(shop.engine, "A1", shop.now).holds[0].hold_id == anew.hold_id
    shop.assert_sound()
