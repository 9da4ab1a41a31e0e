from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiqleads.commerce import holds, idempotency, reconcile
from aiqleads.commerce.payments import NotAccepted, OutcomeUnknown
from aiqleads.errors import Refused

IsProblem = Callable[[Any, int, str], dict[str, Any]]
MINUTE_US = 60_000_000


def test_a_hold_is_bought_out_of_the_wallet(shop: Any) -> None:
    lead = shop.lead(max_buyers=1)
    shop.top_up("A0003", 20_000)
    held = shop.hold("A0003", lead).json()
    assert held["items"][0]["lead_id"] == lead
    assert held["items"][0]["price_lines"]
    cart = shop.ask("GET", "/v1/cart").json()
    assert [one["hold_id"] for one in cart["holds"]] == [held["hold_id"]]
    assert cart["total_cents"] == held["total_cents"]
    answer = shop.ask("POST", "/v1/checkout", {"hold_ids": [held["hold_id"]]})
    order = answer.json()
    assert answer.status_code == 201
    assert (order["state"], order["amount_cents"]) == ("paid", held["total_cents"])
    assert shop.ask("GET", "/v1/cart").json()["holds"] == []
    wallet = shop.ask("GET", "/v1/wallet").json()
    assert wallet["balance_cents"] == 20_000 - order["amount_cents"]
    assert len(wallet["postings"]) == 2
    assert shop.ask("GET", f"/v1/orders/{order['order_id']}").json() == order
    found = shop.ask("GET", "/v1/admin/invariants", agent=None).json()
    assert found["ok"] is True
    assert found["ledger_total_cents"] == 0


def test_an_exclusive_hold_costs_what_an_exclusive_lead_costs(shop: Any) -> None:
    lead = shop.lead(max_buyers=2)
    body = {"lead_ids": [lead], "exclusive": True}
    held = shop.ask("POST", "/v1/cart/holds", body).json()
    assert held["exclusive"] is True
    assert held["items"][0]["expires_at"] == held["expires_at"]
    lines = {line["name"]: line for line in held["items"][0]["price_lines"]}
    assert lines["exclusivity"]["about"] == "yours alone"
    shared = shop.ask("GET", f"/v1/leads/{lead}").json()["price"]["total_cents"]
    assert held["total_cents"] > shared
    assert shop.ask("GET", "/v1/cart").json()["holds"][0]["exclusive"] is True
    assert shop.hold("A0001", lead).json()["type"].endswith("lead-already-held")


def test_an_agent_sets_its_own_limits(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead()
    wanted = {
        "caps": [{"measure": "leads", "per": "day", "most": 1}],
        "filters": {"max_price_cents": 1},
    }
    set_ = shop.ask("PUT", "/v1/limits", wanted, once=None)
    assert set_.status_code == 200
    assert set_.json()["caps"] == [
        {"measure": "leads", "per": "day", "most": 1, "used": 0, "frees_at": None}
    ]
    refused = is_problem(shop.hold("A0003", lead), 403, "outside-filters")
    assert (refused["limit"], refused["value"]) == ("max_price_cents", 1)
    kind = shop.ask("GET", f"/v1/leads/{lead}").json()["card"]["property_type"]
    other = next(
        one["lead_id"]
        for one in shop.ask("GET", "/v1/leads?limit=100").json()["items"]
        if one["property_type"] != kind
    )
    shop.ask("PUT", "/v1/limits", {"filters": {"property_types": [kind]}}, once=None)
    partly = shop.hold("A0003", lead, other, mode="best_effort").json()
    (line,) = partly["refused"]
    assert (line["lead_id"], line["kind"]) == (other, "outside-filters")
    assert (line["limit"], line["value"]) == ("property_types", [kind])
    assert line["used"] != kind
    shop.ask("DELETE", f"/v1/cart/holds/{partly['hold_id']}")
    shop.now_us += 31 * MINUTE_US
    shop.ask("PUT", "/v1/limits", {"caps": wanted["caps"]}, once=None)
    shop.top_up("A0003", 20_000)
    assert shop.buy("A0003", lead).status_code == 201
    shown = shop.ask("GET", "/v1/limits").json()
    assert shown["caps"][0]["used"] == 1
    assert shown["caps"][0]["frees_at"] is not None
    assert shown["tier"]["live_holds_used"] == 0
    assert shown["filters"] == {"intents": [], "property_types": [], "max_price_cents": None}


def test_a_cap_of_an_agent_refuses_a_checkout(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead()
    caps = {"caps": [{"measure": "spend", "per": "month", "most": 5}]}
    shop.ask("PUT", "/v1/limits", caps, once=None)
    shop.top_up("A0003", 20_000)
    refused = is_problem(shop.buy("A0003", lead), 403, "purchase-limit-reached")
    assert (refused["limit"], refused["value"], refused["used"]) == ("spend_per_month", 5, 0)
    assert refused["fitting_lead_ids"] == []
    assert shop.ask("GET", "/v1/wallet").json()["balance_cents"] == 20_000


@pytest.mark.parametrize(
    "body",
    [
        {"caps": [{"measure": "leads", "per": "year", "most": 1}]},
        {"caps": [{"measure": "leads", "per": "day", "most": -1}]},
        {"caps": [{"measure": "leads", "per": "day", "most": 1}] * 2},
        {"filters": {"intents": ["rent"]}},
        {"budget": 1},
    ],
)
def test_limits_that_cannot_be_are_refused(shop: Any, is_problem: IsProblem, body: Any) -> None:
    is_problem(shop.ask("PUT", "/v1/limits", body, once=None), 422, "invalid-input")
    assert shop.ask("GET", "/v1/limits").json()["caps"] == []


def test_a_lead_is_given_back_over_http(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead()
    shop.top_up("A0003", 20_000)
    order = shop.buy("A0003", lead).json()
    path = f"/v1/orders/{order['order_id']}/returns"
    body = {"lead_id": lead, "reason": "duplicate", "evidence": "bought in May"}
    waits = shop.ask("POST", path, body)
    assert (waits.status_code, waits.json()["state"]) == (202, "waiting")
    is_problem(shop.ask("POST", path, body), 409, "already-returned")
    is_problem(shop.ask("GET", "/v1/admin/returns"), 403, "access-denied")
    listed = shop.ask("GET", "/v1/admin/returns", agent=None).json()["items"]
    assert [one["return_id"] for one in listed] == [waits.json()["return_id"]]
    decide = f"/v1/admin/returns/{listed[0]['return_id']}"
    word = {"credit": False, "note": "another person"}
    assert shop.ask("POST", decide, word, agent=None).json()["state"] == "refused"
    assert shop.ask("GET", path).json()["items"][0]["note"] == "another person"
    told = shop.ask("GET", "/v1/notices").json()["items"]
    assert [one["kind"] for one in told] == ["return-refused"]


def test_a_return_that_a_rule_decides_is_credit_at_once(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead()
    shop.top_up("A0003", 20_000)
    order = shop.buy("A0003", lead).json()
    path = f"/v1/orders/{order['order_id']}/returns"
    body = {"lead_id": lead, "reason": "disconnected_number", "evidence": "called twice"}
    assert shop.ask("POST", path, body).status_code == 201
    assert shop.ask("GET", "/v1/wallet").json()["balance_cents"] == 20_000
    is_problem(shop.ask("POST", path, {**body, "reason": "dear"}), 422, "invalid-input")
    assert shop.ask("GET", "/v1/admin/invariants", agent=None).json()["ok"] is True


def test_orders_are_taken_home(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead()
    shop.top_up("A0003", 20_000)
    order = shop.buy("A0003", lead).json()
    sheet = shop.ask("GET", "/v1/orders.csv")
    assert sheet.headers["content-type"].startswith("text/csv")
    assert "orders-A0003.csv" in sheet.headers["content-disposition"]
    assert sheet.text.splitlines()[1].split(",")[4] == lead
    day = order["created_at"][:10]
    assert shop.ask("GET", f"/v1/orders.csv?since={day}&until={day}").text == sheet.text
    assert len(shop.ask("GET", "/v1/orders.csv?until=2001-01-01").text.splitlines()) == 1
    is_problem(shop.ask("GET", "/v1/orders.csv?since=May"), 422, "invalid-input")
    assert shop.ask("GET", "/v1/spend").json()["months"][0]["leads"] == 1
    page = shop.ask("GET", f"/v1/orders/{order['order_id']}/receipt")
    assert page.headers["content-type"].startswith("text/html")
    for text in (order["order_id"], lead, "Total paid", "no money moves"):
        assert text in page.text
    is_problem(shop.ask("GET", "/v1/orders/ord_x/receipt"), 404, "not-found")


def test_a_hold_is_bought_by_card(shop: Any) -> None:
    held = shop.hold("A0003", shop.lead()).json()
    body = {"hold_ids": [held["hold_id"]], "pay_with": "pm_card_visa"}
    answer = shop.ask("POST", "/v1/checkout", body)
    assert answer.status_code == 201
    assert answer.json()["state"] == "paid"
    assert answer.json()["pay_with"] == "card"


def test_a_card_that_asks_for_authentication_waits(shop: Any) -> None:
    held = shop.hold("A0003", shop.lead()).json()
    body = {"hold_ids": [held["hold_id"]], "pay_with": "pm_card_authenticationRequired"}
    answer = shop.ask("POST", "/v1/checkout", body)
    assert answer.status_code == 202
    assert answer.json()["state"] == "requires_action"
    assert answer.json()["client_secret"]


def test_a_declined_card_is_402_and_sells_nothing(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead()
    held = shop.hold("A0003", lead).json()
    body = {"hold_ids": [held["hold_id"]], "pay_with": "pm_card_chargeDeclined"}
    refused = is_problem(shop.ask("POST", "/v1/checkout", body), 402, "card-declined")
    assert refused["decline_code"]
    assert shop.ask("GET", f"/v1/leads/{lead}").json()["contact"] is None


def test_without_credit_nothing_is_sold(shop: Any, is_problem: IsProblem) -> None:
    held = shop.hold("A0003", shop.lead()).json()
    refused = is_problem(
        shop.ask("POST", "/v1/checkout", {"hold_ids": [held["hold_id"]]}),
        402,
        "insufficient-credits",
    )
    assert refused["missing_cents"] == held["total_cents"]


def test_the_second_agent_is_told_who_was_first(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead(max_buyers=1)
    assert shop.hold("A0003", lead).status_code == 201
    second = shop.hold("A0006", lead)
    assert is_problem(second, 409, "lead-already-held")["retry_after"] > 0
    assert int(second.headers["Retry-After"]) > 0
    shop.now_us += 25 * 60 * MINUTE_US
    assert shop.hold("A0006", lead).status_code == 201, "the first hold has expired"


def test_a_hold_of_many_is_all_or_as_many_as_can_be(shop: Any, is_problem: IsProblem) -> None:
    page = shop.ask("GET", "/v1/leads?limit=100", agent="A0003").json()["items"]
    first, second = [item["lead_id"] for item in page if item["max_buyers"] == 1][:2]
    shop.hold("A0006", first)
    conflict = shop.hold("A0003", first, second)
    assert len(is_problem(conflict, 409, "bulk-conflict")["items"]) == 1
    some = shop.hold("A0003", first, second, mode="best_effort").json()
    assert [item["lead_id"] for item in some["items"]] == [second]
    assert some["refused"][0]["lead_id"] == first


def test_a_released_hold_is_free_for_others(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead(max_buyers=1)
    hold_id = shop.hold("A0003", lead).json()["hold_id"]
    is_problem(shop.ask("DELETE", f"/v1/cart/holds/{hold_id}", agent="A0006"), 404, "not-found")
    answer = shop.ask("DELETE", f"/v1/cart/holds/{hold_id}").json()
    assert answer == {"hold_id": hold_id, "released": 1}
    assert shop.ask("DELETE", f"/v1/cart/holds/{hold_id}").json() == answer
    assert shop.hold("A0006", lead).status_code == 201


def test_orders_come_in_pages_and_are_the_agents_own(shop: Any, is_problem: IsProblem) -> None:
    shop.top_up("A0003", 500_000)
    page = shop.ask("GET", "/v1/leads?limit=5").json()["items"]
    made = []
    for item in page:
        shop.now_us += MINUTE_US
        made.append(shop.buy("A0003", item["lead_id"]).json()["order_id"])
    seen: list[str] = []
    cursor = ""
    while True:
        found = shop.ask("GET", f"/v1/orders?limit=2{cursor}").json()
        seen += [order["order_id"] for order in found["items"]]
        if found["next_cursor"] is None:
            break
        cursor = f"&cursor={found['next_cursor']}"
    assert seen == made[::-1]
    is_problem(shop.ask("GET", f"/v1/orders/{made[0]}", agent="A0006"), 404, "not-found")
    assert shop.ask("GET", "/v1/orders", agent="A0006").json()["items"] == []
    is_problem(shop.ask("GET", "/v1/orders?cursor=x"), 422, "invalid-input")


WRITES = [
    ("POST", "/v1/cart/holds", {"lead_ids": ["L00001"]}),
    ("DELETE", "/v1/cart/holds/hld_1", None),
    ("POST", "/v1/checkout", {"hold_ids": ["hld_1"]}),
    ("POST", "/v1/wallet/topups", {"amount_cents": 1000, "payment_method": "pm_card_visa"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_write_needs_an_idempotency_key(
    shop: Any, is_problem: IsProblem, method: str, path: str, body: Any
) -> None:
    is_problem(shop.ask(method, path, body, once=None), 400, "idempotency-key-required")
    is_problem(shop.ask(method, path, body, once=""), 400, "idempotency-key-required")
    is_problem(shop.ask(method, path, body, once="x" * 256), 422, "invalid-input")


def test_the_same_key_has_the_same_answer(shop: Any, is_problem: IsProblem) -> None:
    topup = {"amount_cents": 5_000, "payment_method": "pm_card_visa"}
    first = shop.ask("POST", "/v1/wallet/topups", topup, once="t")
    again = shop.ask("POST", "/v1/wallet/topups", topup, once="t")
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert shop.ask("GET", "/v1/wallet").json()["balance_cents"] == 5_000
    other = {**topup, "amount_cents": 6_000}
    is_problem(shop.ask("POST", "/v1/wallet/topups", other, once="t"), 422, "idempotency-mismatch")
    shop.ask("POST", "/v1/wallet/topups", topup, once="t", agent="A0006")
    assert shop.ask("GET", "/v1/wallet", agent="A0006").json()["balance_cents"] == 5_000


def test_a_refusal_is_replayed_as_well(shop: Any, is_problem: IsProblem) -> None:
    body = {"hold_ids": ["hld_none"]}
    first = shop.ask("POST", "/v1/checkout", body, once="c")
    is_problem(first, 404, "not-found")
    again = shop.ask("POST", "/v1/checkout", body, once="c")
    assert is_problem(again, 404, "not-found") == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_running_request_is_not_run_twice(shop: Any, is_problem: IsProblem) -> None:
    body = {"amount_cents": 5_000, "payment_method": "pm_card_visa"}
    sent = json.dumps(body).encode()
    digest = hashlib.sha256(b"POST /v1/wallet/topups\n" + sent).hexdigest()
    idempotency.begin(shop.state.commerce, "A0003", "t", digest, shop.now_us)
    headers = {
        "Authorization": f"Bearer {shop.key('A0003')}",
        "Idempotency-Key": "t",
        "Content-Type": "application/json",
    }
    answer = shop.client.post("/v1/wallet/topups", content=sent, headers=headers)
    is_problem(answer, 409, "idempotency-in-progress")
    assert answer.headers["Retry-After"] == "1"


def test_a_fault_of_ours_may_be_tried_again(
    shop: Any, is_problem: IsProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead, place = shop.lead(), holds.place

    def broken(*_args: Any, **_more: Any) -> Any:
        raise ZeroDivisionError("a secret of the database")

    monkeypatch.setattr(holds, "place", broken)
    body = {"lead_ids": [lead]}
    answer = shop.ask("POST", "/v1/cart/holds", body, once="h")
    is_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    monkeypatch.setattr(holds, "place", place)
    assert shop.ask("POST", "/v1/cart/holds", body, once="h").status_code == 201


def test_a_webhook_needs_its_signature(shop: Any, is_problem: IsProblem) -> None:
    event = json.dumps(
        {
            "id": "evt_1",
            "object": "event",
            "type": "payment_intent.succeeded",
            "data": {"object": {"object": "payment_intent", "id": "pi_none"}},
        }
    )

    def send(body: str, signature: str | None) -> Any:
        headers = {"Stripe-Signature": signature} if signature else {}
        return shop.client.post("/v1/stripe/webhook", content=body, headers=headers)

    shop.now_us = time.time_ns() // 1000
    at = str(shop.now_us // 1_000_000)
    secret = shop.state.payments.standin.webhook_secret
    sign = hmac.new(secret.encode(), f"{at}.{event}".encode(), hashlib.sha256).hexdigest()
    is_problem(send(event, None), 400, "webhook-signature")
    is_problem(send(event, f"t={at},v1={'0' * 64}"), 400, "webhook-signature")
    is_problem(send(event + " ", f"t={at},v1={sign}"), 400, "webhook-signature")
    assert send(event, f"t={at},v1={sign}").json() == {"outcome": "ignored"}


@pytest.mark.parametrize(
    ("path", "body", "agent"),
    [
        (
            "/v1/orders/ord_1/returns",
            {"lead_id": "L1", "reason": "duplicate", "evidence": "\0"},
            "A0003",
        ),
        ("/v1/orders/ord_1/returns", {"lead_id": "L1", "reason": "\0", "evidence": "x"}, "A0003"),
        ("/v1/admin/returns/ret_1", {"credit": True, "note": "\0"}, None),
        ("/v1/orders/ord_1/refunds", {"reason": "\0"}, None),
    ],
)
def test_a_character_that_no_database_keeps_is_refused(
    shop: Any, is_problem: IsProblem, path: str, body: Any, agent: str | None
) -> None:
    is_problem(shop.ask("POST", path, body, agent=agent), 422, "invalid-input")


@pytest.mark.parametrize("what", ["topup", "checkout"])
def test_a_payment_that_stripe_does_not_know_yet_is_not_called_refused(
    shop: Any, is_problem: IsProblem, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It was made, and the next look at it is told that there is no such thing."""
    topup = {"amount_cents": 5_000, "payment_method": "pm_card_visa"}
    path, body = ("/v1/wallet/topups", topup) if what == "topup" else ("/v1/checkout", _card(shop))

    def unknown(*_args: Any, **_more: Any) -> Any:
        raise NotAccepted("no such payment_intent")

    with monkeypatch.context() as broken:
        broken.setattr(shop.state.payments, "retrieve", unknown)
        is_problem(shop.ask("POST", path, body, once="p"), 202, "payment-outcome-unknown")
    assert shop.ask("POST", path, body, once="p").status_code == 201
    (intent,) = shop.state.payments.standin.intents()
    assert intent["status"] == "succeeded"


def test_an_operator_cannot_buy(shop: Any, is_problem: IsProblem) -> None:
    is_problem(shop.ask("GET", "/v1/cart", agent=None), 403, "access-denied")
    body = {"lead_ids": [shop.lead()]}
    is_problem(shop.ask("POST", "/v1/cart/holds", body, agent=None), 403, "access-denied")


@pytest.mark.parametrize("signature", ["t=1,v1=\xe9", "\xe9", "t=\xb2,v1=0", "t=" + "9" * 1_900])
def test_a_garbled_signature_is_refused(shop: Any, is_problem: IsProblem, signature: str) -> None:
    headers = {"Stripe-Signature": signature.encode("latin-1")}
    answer = shop.client.post("/v1/stripe/webhook", content=b"{}", headers=headers)
    is_problem(answer, 400, "webhook-signature")


def _card(shop: Any) -> dict[str, Any]:
    held = shop.hold("A0003", shop.lead()).json()
    return {"hold_ids": [held["hold_id"]], "pay_with": "pm_card_visa"}


def test_an_unknown_outcome_is_told_and_the_same_request_settles_it(
    shop: Any, is_problem: IsProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = _card(shop)

    def silent(*_args: Any, **_more: Any) -> Any:
        raise OutcomeUnknown("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(shop.state.payments, "retrieve", silent)
        told = shop.ask("POST", "/v1/checkout", body, once="c")
        problem = is_problem(told, 202, "payment-outcome-unknown")
        assert told.headers["Location"] == f"/v1/orders/{problem['order_id']}"
        assert int(told.headers["Retry-After"]) > 0
        assert shop.ask("GET", told.headers["Location"]).json()["state"] == "pending"
        is_problem(shop.ask("POST", "/v1/checkout", body, once="c"), 202, "payment-outcome-unknown")
    paid = shop.ask("POST", "/v1/checkout", body, once="c")
    assert (paid.status_code, paid.json()["state"]) == (201, "paid")
    assert paid.json()["order_id"] == problem["order_id"]
    again = shop.ask("POST", "/v1/checkout", body, once="c")
    assert (again.content, again.headers["Idempotent-Replayed"]) == (paid.content, "true")
    assert len(shop.state.payments.standin.intents()) == 1
    document = shop.client.get("/openapi.json").json()["paths"]["/v1/checkout"]["post"]
    kinds = {"application/json", "application/problem+json"}
    assert set(document["responses"]["202"]["content"]) == kinds


def _busy(*_args: Any, **_more: Any) -> Any:
    raise Refused("busy", "the database is busy; nothing was changed", status=503, retry_after=1)


@pytest.mark.parametrize("what", ["topup", "checkout"])
def test_a_payment_that_was_begun_is_never_called_unchanged(
    shop: Any, is_problem: IsProblem, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    topup = {"amount_cents": 5_000, "payment_method": "pm_card_visa"}
    path, body = ("/v1/wallet/topups", topup) if what == "topup" else ("/v1/checkout", _card(shop))
    with monkeypatch.context() as broken:
        broken.setattr(reconcile, "writing", _busy)
        is_problem(shop.ask("POST", path, body, once="p"), 202, "payment-outcome-unknown")
    assert shop.ask("POST", path, body, once="p").status_code == 201
    (intent,) = shop.state.payments.standin.intents()
    assert intent["status"] == "succeeded"
    assert shop.ask("GET", "/v1/admin/invariants", agent=None).json()["ok"] is True


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    topup = {"amount_cents": 5_000, "payment_method": "pm_card_visa"}
    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "finish", _busy)
        first = shop.ask("POST", "/v1/wallet/topups", topup, once="t")
    assert first.status_code == 201
    shop.now_us += 2 * MINUTE_US
    again = shop.ask("POST", "/v1/wallet/topups", topup, once="t")
    assert again.json()["topup_id"] == first.json()["topup_id"]
    assert shop.ask("GET", "/v1/wallet").json()["balance_cents"] == 5_000


def test_a_release_whose_answer_could_not_be_kept_is_told_the_same_again(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = [shop.state.snapshot.lead_id(row) for row in (1, 2)]
    path = f"/v1/cart/holds/{shop.hold('A0003', *leads).json()['hold_id']}"
    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "finish", _busy)
        first = shop.ask("DELETE", path, once="r")
    assert first.json()["released"] == 2
    shop.now_us += 2 * MINUTE_US
    again = shop.ask("DELETE", path, once="r")
    assert (again.status_code, again.json()) == (200, first.json())
    assert shop.ask("DELETE", path, once="r").headers["Idempotent-Replayed"] == "true"


def test_best_effort_does_without_a_lead_that_is_not_on_offer(
    shop: Any, is_problem: IsProblem
) -> None:
    lead = shop.lead()
    is_problem(shop.hold("A0003", lead, "L9"), 404, "not-found")
    is_problem(shop.hold("A0003", "L8", "L9", mode="best_effort"), 404, "not-found")
    held = shop.hold("A0003", "L9", lead, mode="best_effort")
    assert held.status_code == 201
    assert [item["lead_id"] for item in held.json()["items"]] == [lead]
    assert [(one["lead_id"], one["kind"]) for one in held.json()["refused"]] == [
        ("L9", "not-found")
    ]
