"""What the shop relies on at Stripe: one list, for the stand-in and for Stripe itself.

Each entry names the page of docs.stripe.com that says so. What only the stand-in lets one do
(a buyer who authenticates, a bank that decides) is tested with it alone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.contract.stripe_api import buying

from aiqleads.commerce.payments import CardDeclined, NotAccepted

INTENTS, REFUNDS = "/v1/payment_intents", "/v1/refunds"
DECLINED, POOR = "pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"
AUTHENTICATE, DISPUTED = "pm_card_authenticationRequired", "pm_card_createDispute"


def refused(answer: httpx.Response, status: int, kind: str, code: str | None) -> Any:
    """The error of an answer, once it is seen to be this one ("Errors", API reference)."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["type"], error.get("code")) == (kind, code)
    assert error["message"]
    return error


def within(seconds: float, ask: Callable[[], Any]) -> Any:
    """What is asked for, once it is there: Stripe makes some things a moment later."""
    until = time.monotonic() + seconds
    while not (found := ask()) and time.monotonic() < until:
        time.sleep(0.5)
    assert found
    return found


# --- PaymentIntents ----------------------------------------------------------------


def test_manual_capture_reserves_and_then_takes_once(api: Any) -> None:
    """ "Place a hold on a payment method"."""
    made = api.pay(capture_method="manual")
    assert (made["object"], made["status"]) == ("payment_intent", "requires_capture")
    assert (made["amount_capturable"], made["amount_received"]) == (5_000, 0)
    taken = api.post(f"{INTENTS}/{made['id']}/capture")
    assert (taken["status"], taken["amount_received"]) == ("succeeded", 5_000)
    assert taken["amount_capturable"] == 0
    for step in ("capture", "cancel", "confirm"):
        again = api.ask("POST", f"{INTENTS}/{made['id']}/{step}")
        code = "payment_intent_unexpected_state"
        error = refused(again, 400, "invalid_request_error", code)
        assert error["payment_intent"]["status"] == "succeeded"


def test_less_than_was_reserved_may_be_taken_and_no_more(api: Any) -> None:
    """ "Capture a PaymentIntent"."""
    made = api.pay(capture_method="manual")
    path = f"{INTENTS}/{made['id']}/capture"
    much = api.ask("POST", path, {"amount_to_capture": 5_001})
    refused(much, 400, "invalid_request_error", "amount_too_large")
    taken = api.post(path, {"amount_to_capture": 4_000})
    assert (taken["status"], taken["amount_received"]) == ("succeeded", 4_000)


def test_a_cancelled_reservation_takes_nothing(api: Any) -> None:
    """ "Cancel a PaymentIntent"."""
    made = api.pay(capture_method="manual")
    over = api.post(f"{INTENTS}/{made['id']}/cancel")
    assert (over["status"], over["amount_received"], over["amount_capturable"]) == (
        "canceled",
        0,
        0,
    )
    for step in ("capture", "cancel"):
        answer = api.ask("POST", f"{INTENTS}/{made['id']}/{step}")
        refused(answer, 400, "invalid_request_error", "payment_intent_unexpected_state")


def test_automatic_capture_takes_at_once_and_keeps_what_was_said(api: Any) -> None:
    """ "The PaymentIntent object", "Metadata"."""
    made = api.pay(**{"metadata[order]": "ord_1"})
    assert (made["status"], made["amount_received"]) == ("succeeded", 5_000)
    found = api.get(f"{INTENTS}/{made['id']}")
    assert found["metadata"] == made["metadata"]
    assert found["metadata"]["order"] == "ord_1"
    assert (found["currency"], found["livemode"]) == ("usd", False)


def test_a_payment_waits_until_it_is_confirmed(api: Any) -> None:
    """ "PaymentIntent lifecycle"."""
    made = api.pay(confirm=None, payment_method=None)
    assert made["status"] == "requires_payment_method"
    done = api.post(f"{INTENTS}/{made['id']}/confirm", {"payment_method": "pm_card_visa"})
    assert done["status"] == "succeeded"


@pytest.mark.parametrize(
    ("card", "decline_code"), [(DECLINED, "generic_decline"), (POOR, "insufficient_funds")]
)
def test_a_decline_names_its_reason_and_its_payment(api: Any, card: str, decline_code: str) -> None:
    """ "Declines", "Testing"."""
    answer = api.ask("POST", INTENTS, buying(payment_method=card))
    error = refused(answer, 402, "card_error", "card_declined")
    assert error["decline_code"] == decline_code
    found = api.get(f"{INTENTS}/{error['payment_intent']['id']}")
    assert (found["status"], found["amount_received"]) == ("requires_payment_method", 0)
    assert found["last_payment_error"]["decline_code"] == decline_code


def test_a_bank_that_asks_waits_for_the_buyer(api: Any) -> None:
    """ "3D Secure authentication"."""
    made = api.pay(payment_method=AUTHENTICATE, capture_method="manual")
    assert (made["status"], made["amount_capturable"]) == ("requires_action", 0)
    assert made["next_action"]["type"] == "use_stripe_sdk"
    assert made["client_secret"].startswith(f"{made['id']}_secret_")
    assert api.post(f"{INTENTS}/{made['id']}/cancel")["status"] == "canceled"


def test_a_bank_that_asks_where_nobody_is_declines(api: Any) -> None:
    """ "Charge a saved payment method later"."""
    answer = api.ask("POST", INTENTS, buying(payment_method=AUTHENTICATE, off_session="true"))
    error = refused(answer, 402, "card_error", "authentication_required")
    found = api.get(f"{INTENTS}/{error['payment_intent']['id']}")
    assert found["status"] == "requires_payment_method"


# --- what is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"amount": None}, "parameter_missing", "amount"),
        ({"amount": "much"}, "parameter_invalid_integer", "amount"),
        ({"amount": 10}, "amount_too_small", "amount"),
        ({"color": "red"}, "parameter_unknown", "color"),
        ({"payment_method": "pm_none"}, "resource_missing", "payment_method"),
    ],
)
def test_a_wrong_parameter_is_named(api: Any, more: dict[str, Any], code: str, param: str) -> None:
    """ "Error codes"."""
    answer = api.ask("POST", INTENTS, buying(**more))
    assert refused(answer, 400, "invalid_request_error", code)["param"] == param


def test_what_is_not_there_is_a_404(api: Any) -> None:
    """ "Errors": also a route that nobody knows."""
    missing = api.ask("GET", f"{INTENTS}/pi_none")
    refused(missing, 404, "invalid_request_error", "resource_missing")
    assert api.ask("GET", "/v1/leads_for_sale").status_code == 404


@pytest.mark.parametrize("key", ["", "nonsense"])
def test_without_a_key_nothing_is_answered(api: Any, key: str) -> None:
    """ "Authentication"."""
    answer = api.ask("GET", INTENTS, key=key)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"


# --- idempotency -------------------------------------------------------------------


def test_a_key_is_one_payment(api: Any) -> None:
    """ "Idempotent requests": the first answer again, and the header that says so."""
    once, wanted = uuid.uuid4().hex, buying()
    first = api.ask("POST", INTENTS, wanted, once=once)
    again = api.ask("POST", INTENTS, wanted, once=once)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["id"] == first.json()["id"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_key_is_for_one_request(api: Any) -> None:
    """ "Idempotent requests": other parameters under it are an error, and change nothing."""
    once, wanted = uuid.uuid4().hex, buying()
    assert api.ask("POST", INTENTS, wanted, once=once).status_code == 200
    other = api.ask("POST", INTENTS, {**wanted, "amount": 6_000}, once=once)
    assert other.status_code == 400
    assert other.json()["error"]["type"] == "idempotency_error"


def test_a_decline_is_kept_under_its_key(api: Any) -> None:
    """ "Idempotent requests": whatever the first answer was."""
    once, wanted = uuid.uuid4().hex, buying(payment_method=DECLINED)
    first, again = (api.ask("POST", INTENTS, wanted, once=once) for _ in range(2))
    assert (first.status_code, again.status_code) == (402, 402)
    ids = {each.json()["error"]["payment_intent"]["id"] for each in (first, again)}
    assert len(ids) == 1


def test_what_failed_validation_is_not_kept_under_its_key(api: Any) -> None:
    """ "Idempotent requests": nothing was executed, so nothing is saved."""
    once, wanted = uuid.uuid4().hex, buying()
    assert api.ask("POST", INTENTS, {**wanted, "color": "red"}, once=once).status_code == 400
    assert api.ask("POST", INTENTS, wanted, once=once).status_code == 200


# --- listings ----------------------------------------------------------------------


def test_a_listing_is_current_newest_first_and_in_pages(api: Any) -> None:
    """ "Pagination", "List all PaymentIntents"."""
    made = [api.pay(confirm=None, payment_method=None) for _ in range(3)]
    since = {"created[gte]": made[0]["created"]}
    first = api.get(INTENTS, limit=2, **since)
    assert (first["object"], first["has_more"], len(first["data"])) == ("list", True, 2)
    rest = api.get(INTENTS, limit=100, starting_after=first["data"][-1]["id"], **since)
    seen = [each["id"] for each in first["data"] + rest["data"]]
    assert len(set(seen)) == len(seen)
    created = [each["created"] for each in first["data"] + rest["data"]]
    assert created == sorted(created, reverse=True)
    assert {each["id"] for each in made} <= set(seen)
    later = {"created[gte]": made[-1]["created"] + 3_600}
    assert api.get(INTENTS, limit=1, **later)["data"] == []


# --- refunds, disputes, the balance ------------------------------------------------


def test_no_more_is_refunded_than_was_taken(api: Any) -> None:
    """ "Create a refund"."""
    paid = api.pay()["id"]
    part = api.post(REFUNDS, {"payment_intent": paid, "amount": 2_000, "metadata[refund]": "r1"})
    assert (part["object"], part["amount"], part["status"]) == ("refund", 2_000, "succeeded")
    assert (part["payment_intent"], part["metadata"]) == (paid, {"refund": "r1"})
    much = api.ask("POST", REFUNDS, {"payment_intent": paid, "amount": 3_001})
    assert (much.status_code, much.json()["error"]["type"]) == (400, "invalid_request_error")
    assert api.post(REFUNDS, {"payment_intent": paid})["amount"] == 3_000
    over = api.ask("POST", REFUNDS, {"payment_intent": paid})
    refused(over, 400, "invalid_request_error", "charge_already_refunded")
    listed = api.get(REFUNDS, payment_intent=paid)["data"]
    assert [each["amount"] for each in listed] == [3_000, 2_000]


def test_what_was_not_taken_is_not_refunded(api: Any) -> None:
    """ "Create a refund"."""
    reserved = api.pay(capture_method="manual")["id"]
    api.post(f"{INTENTS}/{reserved}/cancel")
    answer = api.ask("POST", REFUNDS, {"payment_intent": reserved})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_the_balance_tells_what_moved_and_for_what(api: Any) -> None:
    """ "The balance transaction object", "Expanding responses"."""
    paid = api.pay()
    sent = api.post(REFUNDS, {"payment_intent": paid["id"], "amount": 1_000})

    def moved() -> dict[str, Any]:
        since = {"created[gte]": paid["created"] - 60, "expand[0]": "data.source"}
        listed = api.get("/v1/balance_transactions", limit=100, **since)["data"]
        mine = [each for each in listed if each["source"].get("payment_intent") == paid["id"]]
        return {each["source"]["object"]: each for each in mine}

    found = within(60, lambda: len(moved()) == 2 and moved())
    charge, refund = found["charge"], found["refund"]
    assert charge["type"] in ("charge", "payment")
    assert charge["amount"] == 5_000
    assert 0 < charge["fee"] < 5_000
    assert charge["net"] == charge["amount"] - charge["fee"]
    assert (refund["amount"], refund["source"]["id"]) == (-1_000, sent["id"])


def test_a_dispute_takes_the_money_and_ends_refunds(api: Any) -> None:
    """ "How disputes work", "Testing"."""
    paid = api.pay(payment_method=DISPUTED)["id"]

    def opened() -> list[Any]:
        return list(api.get("/v1/disputes", payment_intent=paid)["data"])

    (made,) = within(60, opened)
    assert (made["object"], made["amount"], made["payment_intent"]) == ("dispute", 5_000, paid)
    assert made["status"] in ("needs_response", "warning_needs_response", "under_review")
    found = api.get(f"/v1/disputes/{made['id']}")
    assert (found["id"], found["reason"]) == (made["id"], "fraudulent")
    answer = api.ask("POST", REFUNDS, {"payment_intent": paid})
    refused(answer, 400, "invalid_request_error", "charge_disputed")


# --- through the shop's own door ---------------------------------------------------


def test_the_shops_door_reads_all_of_it(api: Any) -> None:
    """The SDK and `payments`, over the same line."""
    door, attempt = api.payments, uuid.uuid4().hex
    same: dict[str, Any] = {"amount_cents": 5_000, "currency": "USD", "order_id": "ord_1"}
    wanted = {**same, "key": f"k{attempt}", "attempt_id": attempt, "capture": False}
    made = door.pay(**wanted, payment_method="pm_card_visa")
    assert (made.status, made.attempt_id, made.order_id) == ("requires_capture", attempt, "ord_1")
    assert door.pay(**wanted, payment_method="pm_card_visa").intent_id == made.intent_id
    assert door.find(attempt, int(time.time()) - 600).intent_id == made.intent_id
    assert door.capture(made.intent_id).received_cents == 5_000
    with pytest.raises(NotAccepted):
        door.cancel(made.intent_id)
    back = {"intent_id": made.intent_id, "refund_id": f"ref_{attempt}"}
    sent = door.refund(key=f"r{attempt}", amount_cents=1_500, **back)
    assert (sent.status, sent.refund_id) == ("succeeded", f"ref_{attempt}")
    assert [each.stripe_id for each in door.refunds_of(made.intent_id)] == [sent.stripe_id]
    wanted |= {"key": f"d{attempt}", "attempt_id": f"d{attempt}"}
    with pytest.raises(CardDeclined) as no:
        door.pay(**wanted, payment_method=DECLINED)
    assert no.value.extra["decline_code"] == "generic_decline"
    assert door.retrieve(no.value.intent_id).status == "requires_payment_method"
