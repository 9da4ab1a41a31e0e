"""Seats, licences, the audit log, money that goes back, time that is bought, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from aiqleads.commerce.consent import Register
from aiqleads.store.database import reader
from aiqleads.store.tables import idempotency

IsProblem = Callable[[Any, int, str], dict[str, Any]]
AGENT = "A0003"


def seat(shop: Any, role: str = "buyer", once: str = "new") -> Any:
    return shop.ask("POST", "/v1/members", {"name": "Jo", "role": role}, once=once)


def test_a_member_buys_out_of_the_accounts_wallet_and_is_named(shop: Any) -> None:
    made = seat(shop).json()
    shop.top_up(AGENT)
    lead = shop.lead()
    held = shop.ask("POST", "/v1/cart/holds", {"lead_ids": [lead]}, key=made["key"])
    paid = shop.ask("POST", "/v1/checkout", {"hold_ids": [held.json()["hold_id"]]}, key=made["key"])
    assert paid.status_code == 201
    assert shop.ask("GET", "/v1/orders").json()["items"][0]["order_id"] == paid.json()["order_id"]
    acts = shop.ask("GET", "/v1/audit").json()["items"]
    assert {(one["action"], one["member_id"], one["status"]) for one in acts} == {
        ("POST /v1/checkout", made["member_id"], 201),
        ("POST /v1/cart/holds", made["member_id"], 201),
        ("POST /v1/wallet/topups", None, 201),
        ("POST /v1/members", None, 201),
    }


@pytest.mark.parametrize(
    ("role", "may"),
    [("viewer", {"cart": 403, "wallet": 403}), ("buyer", {"cart": 200, "wallet": 403}),
     ("admin", {"cart": 200, "wallet": 200})],
)  # fmt: skip
def test_a_role_is_what_its_member_may_do(shop: Any, role: str, may: dict[str, int]) -> None:
    key = seat(shop, role).json()["key"]
    assert shop.ask("GET", "/v1/orders", key=key).status_code == 200
    assert shop.ask("GET", "/v1/cart", key=key).status_code == may["cart"]
    assert shop.ask("GET", "/v1/members", key=key).status_code == may["wallet"]


def test_a_members_key_lies_nowhere_in_the_clear(shop: Any) -> None:
    first = seat(shop, once="k").json()
    again = seat(shop, once="k")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first
    with reader(shop.state.commerce).connect() as connection:
        kept = connection.execute(select(idempotency.c.body)).scalars().all()
    assert not any(first["key"].encode() in (body or b"") for body in kept)


def test_a_removed_members_key_ends(shop: Any, is_problem: IsProblem) -> None:
    made = seat(shop).json()
    assert shop.ask("DELETE", f"/v1/members/{made['member_id']}").status_code == 204
    shop.now_us += 6_000_000
    is_problem(shop.ask("GET", "/v1/cart", key=made["key"]), 401, "access-denied")
    assert shop.ask("GET", "/v1/members").json()["items"] == []
    is_problem(shop.ask("DELETE", f"/v1/members/{made['member_id']}"), 404, "not-found")


def test_a_tier_has_so_many_seats(shop: Any, is_problem: IsProblem) -> None:
    seats = shop.ask("GET", "/v1/members").json()["seats"]
    for _ in range(seats):
        assert seat(shop).status_code == 201
    no = is_problem(seat(shop), 403, "seat-limit-reached")
    assert (no["limit"], no["value"], no["used"]) == ("seats", seats, seats)


def test_another_account_sees_neither_members_nor_acts(shop: Any, is_problem: IsProblem) -> None:
    made = seat(shop).json()
    assert shop.ask("GET", "/v1/members", agent="A0001").json()["items"] == []
    assert shop.ask("GET", "/v1/audit", agent="A0001").json()["items"] == []
    is_problem(
        shop.ask("DELETE", f"/v1/members/{made['member_id']}", agent="A0001"), 404, "not-found"
    )


def test_the_audit_log_is_paged_and_shows_operators_everything(shop: Any) -> None:
    for _ in range(3):
        shop.ask("POST", "/v1/admin/reconcile", agent=None)
    shop.top_up(AGENT)
    seen, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = shop.ask("GET", "/v1/admin/audit", agent=None, params=params).json()
        seen += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert [one["action"] for one in seen].count("POST /v1/admin/reconcile") == 3
    assert {one["agent_id"] for one in seen} == {None, AGENT}
    assert len({one["audit_id"] for one in seen}) == len(seen) == 4


def test_an_operator_refunds_an_order_and_its_buyer_sees_it(
    shop: Any, is_problem: IsProblem
) -> None:
    shop.top_up(AGENT)
    order = shop.buy(AGENT, shop.lead()).json()
    path = f"/v1/orders/{order['order_id']}/refunds"
    half = order["amount_cents"] // 2
    made = shop.ask("POST", path, {"amount_cents": half, "reason": "goodwill"}, agent=None)
    assert (made.status_code, made.json()["state"]) == (201, "succeeded")
    assert shop.ask("GET", path).json()["items"] == [made.json()]
    assert shop.ask("GET", f"/v1/orders/{order['order_id']}").json()["state"] == (
        "partially_refunded"
    )
    no = is_problem(
        shop.ask("POST", path, {"amount_cents": 10**6, "reason": "x"}, agent=None),
        409,
        "refund-too-large",
    )
    assert no["used"] == half
    is_problem(shop.ask("GET", path, agent="A0001"), 404, "not-found")
    assert shop.ask("GET", f"/v1/orders/{order['order_id']}/receipt").status_code == 200


def test_a_hold_is_made_longer_over_http(shop: Any, is_problem: IsProblem) -> None:
    shop.top_up(AGENT)
    held = shop.hold(AGENT, shop.lead()).json()
    path = f"/v1/cart/holds/{held['hold_id']}"
    hours = shop.ask("GET", "/v1/limits").json()["tier"]["extension_hours"]
    made = shop.ask("PATCH", path, {"hours": hours[0]})
    assert made.status_code == 200, made.text
    assert made.json()["hold"]["expires_at"] > held["expires_at"]
    assert shop.ask("GET", "/v1/cart").json()["holds"][0] == made.json()["hold"]
    is_problem(shop.ask("PATCH", path, {"hours": 1}), 403, "extension-not-allowed")
    is_problem(shop.ask("PATCH", "/v1/cart/holds/hld_x", {"hours": 24}), 409, "hold-expired")


def test_a_wallet_that_tops_itself_up_pays_for_what_is_bought(
    shop: Any, is_problem: IsProblem
) -> None:
    is_problem(shop.ask("GET", "/v1/wallet/auto-recharge"), 404, "not-found")
    rule = {
        "below_cents": 1, "amount_cents": 50_000, "daily_most_cents": 50_000,
        "payment_method": "pm_card_visa",
    }  # fmt: skip
    answer = shop.ask("PUT", "/v1/wallet/auto-recharge", rule)
    assert answer.json() == {**rule, "paused": ""}
    paid = shop.buy(AGENT, shop.lead())
    assert paid.status_code == 201
    balance = shop.ask("GET", "/v1/wallet").json()["balance_cents"]
    assert balance == 50_000 - paid.json()["amount_cents"]
    assert shop.ask("DELETE", "/v1/wallet/auto-recharge").status_code == 204
    is_problem(shop.ask("GET", "/v1/wallet/auto-recharge"), 404, "not-found")


def test_a_dispute_is_listed_and_reconcile_can_be_asked_for(shop: Any) -> None:
    held = shop.hold(AGENT, shop.lead()).json()
    body = {"hold_ids": [held["hold_id"]], "pay_with": "pm_card_createDispute"}
    order = shop.ask("POST", "/v1/checkout", body).json()
    assert shop.ask("POST", "/v1/admin/reconcile", agent=None).json()["recorded"] >= 1
    found = shop.ask("GET", "/v1/admin/disputes", agent=None).json()["items"]
    assert [(one["order_id"], one["state"]) for one in found] == [(order["order_id"], "open")]
    assert shop.ask("GET", f"/v1/orders/{order['order_id']}").json()["state"] == "disputed"
    assert shop.ask("GET", "/v1/admin/invariants", agent=None).json()["ok"]


def test_a_market_may_ask_for_a_licence_of_the_leads_state(
    shop: Any, is_problem: IsProblem
) -> None:
    """An operator notes it; until then nothing of the market can be held."""
    path, first = "/v1/admin/agents/A0003/licences", shop.lead()
    own = {"licences": [], "asked_for": None}
    assert shop.ask("GET", "/v1/licences").json() == own
    market = shop.state.snapshot.manifest.market
    shop.state.register = Register(shop.state.leads, {market: "OH"})
    assert shop.ask("GET", "/v1/licences").json() == {**own, "asked_for": "OH"}
    refused = is_problem(shop.hold("A0003", first), 403, "licence-required")
    assert (refused["lead_id"], refused["state"]) == (first, "OH")
    noted = {"state": "OH", "number": "SAL.2004012345", "expires_on": "2199-12-31"}
    put = shop.ask("PUT", path, {"licences": [noted]}, agent=None)
    assert put.json() == {"licences": [noted], "asked_for": "OH"}
    assert shop.ask("GET", path, agent=None).json() == put.json()
    assert shop.ask("GET", "/v1/licences").json() == put.json()
    assert shop.hold("A0003", first).status_code == 201
    other = shop.lead(3)
    partly = shop.hold("A0006", other, mode="best_effort")
    is_problem(partly, 403, "licence-required")
    acts = shop.ask("GET", "/v1/admin/audit", agent=None).json()["items"]
    assert f"PUT {path}" in [each["action"] for each in acts]
    is_problem(shop.ask("PUT", path.replace("A0003", "Ax"), {"licences": []}, agent=None), 404,
               "not-found")  # fmt: skip
    for wrong in ({"state": "Ohio"}, {"expires_on": "9999-12-31"}, {"number": ""}):
        body = {"licences": [noted | wrong]}
        is_problem(shop.ask("PUT", path, body, agent=None), 422, "invalid-input")
