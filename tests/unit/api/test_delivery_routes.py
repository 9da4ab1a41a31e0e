"""What a buyer sees of a lead, and where it lets it be sent, over HTTP."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from aiqleads.store.tables import idempotency

IsProblem = Callable[[Any, int, str], dict[str, Any]]
HOOK = {"channel": "webhook", "url": "https://crm.example/hook?token=hush"}


@pytest.fixture
def sold(shop: Any) -> tuple[str, str]:
    """(order, lead) that A0003 bought."""
    lead = shop.lead(max_buyers=2)
    shop.top_up("A0003")
    return shop.buy("A0003", lead).json()["order_id"], lead


# --- what the buyer gets -----------------------------------------------------------


def test_the_buyer_and_only_the_buyer_sees_the_person(shop: Any, sold: tuple[str, str]) -> None:
    path = f"/v1/leads/{sold[1]}"
    mine = shop.ask("GET", path).json()
    assert mine["contact"]["name"].startswith("Person ")
    assert mine["contact"]["invented"] is True
    assert mine["contact"]["do_not_call"] == "unknown"
    assert mine["calling"]["time_zones"] == ["America/New_York"]
    assert (mine["calling"]["from"], mine["calling"]["until"]) == ("08:00", "21:00")
    assert mine["answers"] == {}
    assert [each["proof"] for each in mine["consents"]] == [f"certificate {sold[1]}"]
    for other in ("A0001", None):
        card = shop.ask("GET", path, agent=other).json()
        kept = ("contact", "place", "facts", "answers", "consents", "calling", "invented")
        assert {name: card[name] for name in kept} == dict.fromkeys(kept)
        assert mine["contact"]["name"] not in str(card)


def test_all_that_was_bought_as_a_file(shop: Any, sold: tuple[str, str]) -> None:
    answer = shop.ask("GET", "/v1/leads.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["cache-control"] == "no-store"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["order_id"], row["lead_id"]) == sold
    contact = shop.ask("GET", f"/v1/leads/{sold[1]}").json()["contact"]
    assert {name: row[name] for name in ("name", "email", "phone")} == {
        name: contact[name] for name in ("name", "email", "phone")
    }
    assert row["invented"] == "yes"
    others = shop.ask("GET", "/v1/leads.csv", agent="A0001").text
    assert len(others.splitlines()) == 1
    day = "2026-01-01"  # of the orders: the test's clock stands there
    assert sold[1] in shop.ask("GET", f"/v1/leads.csv?since={day}&until={day}").text
    assert sold[1] not in shop.ask("GET", "/v1/leads.csv?since=2026-01-02").text


def test_a_file_of_leads_needs_an_agent(shop: Any, is_problem: IsProblem) -> None:
    is_problem(shop.ask("GET", "/v1/leads.csv", agent=None), 403, "access-denied")


# --- where it is sent --------------------------------------------------------------


def test_a_secret_is_shown_once_and_lies_readable_nowhere(shop: Any, is_problem: IsProblem) -> None:
    is_problem(shop.ask("GET", "/v1/delivery"), 404, "not-found")
    made = shop.ask("PUT", "/v1/delivery", HOOK, once="put")
    assert made.status_code == 200
    secret = made.json()["secret"]
    assert secret.startswith("whsec_")
    again = shop.ask("PUT", "/v1/delivery", HOOK, once="put")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == made.json()
    seen = shop.ask("GET", "/v1/delivery").json()
    assert (seen["secret"], seen["url"], seen["address"]) == (None, HOOK["url"], None)
    assert shop.ask("PUT", "/v1/delivery", HOOK).json()["secret"] is None
    newer = shop.ask("PUT", "/v1/delivery", {**HOOK, "new_secret": True}).json()
    assert newer["secret"] not in (None, secret)
    assert newer["previous_secret_until"] == "2026-01-02T00:00:00Z"
    with shop.state.commerce.connect() as connection:
        stored = b"".join(connection.scalars(select(idempotency.c.body)))
    for word in (secret, newer["secret"], "hush", "crm.example"):
        assert word.encode() not in stored


def test_an_answer_whose_key_is_gone_is_not_made_up(shop: Any, is_problem: IsProblem) -> None:
    shop.ask("PUT", "/v1/delivery", HOOK, once="put")
    shop.state.vault.destroy(["answers:A0003"], 1)
    is_problem(shop.ask("PUT", "/v1/delivery", HOOK, once="put"), 503, "not-ready")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"channel": "fax"},
        {"channel": "webhook"},
        {"channel": "webhook", "url": "http://crm.example/"},
        {"channel": "webhook", "url": "https://127.0.0.1/"},
        {"channel": "webhook", "url": "https://169.254.169.254/latest"},
        {"channel": "webhook", "url": "https://localhost:8443/"},
        {"channel": "webhook", "url": "https://a:b@crm.example/"},
        {"channel": "webhook", "url": "https://crm.example/", "address": "a@b.example"},
        {"channel": "email"},
        {"channel": "email", "address": "a@b.example\nBcc: c@d.example"},
        {"channel": "email", "url": "https://crm.example/"},
        {"channel": "csv", "url": "https://crm.example/"},
        {"channel": "csv", "path": "/etc"},
    ],
)
def test_what_cannot_be_an_endpoint_is_refused(
    shop: Any, is_problem: IsProblem, body: dict[str, Any]
) -> None:
    is_problem(shop.ask("PUT", "/v1/delivery", body), 422, "invalid-input")
    is_problem(shop.ask("GET", "/v1/delivery"), 404, "not-found")


def test_mails_and_files_say_that_they_do_not_leave(shop: Any) -> None:
    body = {"channel": "email", "address": "agent@crm.example"}
    mail = shop.ask("PUT", "/v1/delivery", body).json()
    assert (mail["address"], mail["secret"]) == ("agent@crm.example", None)
    assert "not sent" in mail["notice"]
    assert "folder" in shop.ask("PUT", "/v1/delivery", {"channel": "csv"}).json()["notice"]
    assert shop.ask("PUT", "/v1/delivery", HOOK).json()["notice"] == ""


def test_deliveries_are_listed_retried_and_given_up(
    shop: Any, is_problem: IsProblem, sold: tuple[str, str]
) -> None:
    (waits,) = shop.ask("GET", "/v1/deliveries").json()["items"]
    assert (waits["order_id"], waits["lead_id"], waits["state"]) == (*sold, "waiting")
    assert waits["next_try_at"] == waits["created_at"]
    path = f"/v1/deliveries/{waits['delivery_id']}/retry"
    is_problem(shop.ask("POST", path), 409, "no-delivery-endpoint")
    is_problem(shop.ask("POST", "/v1/delivery/test"), 409, "no-delivery-endpoint")
    assert shop.ask("PUT", "/v1/delivery", HOOK).json()["events"] == {"dead": 1}
    shop.now_us += 1_000_000
    tested = shop.ask("POST", "/v1/delivery/test", once="t")
    assert (tested.status_code, tested.json()["kind"]) == (202, "delivery.test")
    assert shop.ask("POST", "/v1/delivery/test", once="t").json() == tested.json()
    retried = shop.ask("POST", path)
    assert (retried.status_code, retried.json()["state"]) == (202, "waiting")
    is_problem(shop.ask("POST", path, agent="A0001"), 404, "not-found")
    assert shop.ask("POST", path, agent=None).status_code == 202  # an operator
    first = shop.ask("GET", "/v1/deliveries?limit=1").json()
    rest = shop.ask("GET", f"/v1/deliveries?limit=1&cursor={first['next_cursor']}").json()
    assert [each["kind"] for each in first["items"] + rest["items"]] == [
        "delivery.test",
        "lead.sold",
    ]
    assert rest["next_cursor"] is None
    assert shop.ask("DELETE", "/v1/delivery", once="d").json() == {"given_up": 2}
    assert shop.ask("DELETE", "/v1/delivery", once="d").json() == {"given_up": 2}
    assert shop.ask("DELETE", "/v1/delivery").json() == {"given_up": 0}
    dead = shop.ask("GET", "/v1/deliveries?state=dead").json()["items"]
    assert {each["failure"] for each in dead} == {"endpoint-removed"}
    assert shop.ask("GET", "/v1/deliveries?state=waiting").json()["items"] == []
    is_problem(shop.ask("GET", "/v1/deliveries?state=lost"), 422, "invalid-input")
    assert shop.ask("GET", "/v1/deliveries", agent="A0001").json()["items"] == []
    assert shop.ask("GET", "/v1/admin/invariants", agent=None).json()["ok"] is True


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/delivery"),
        ("DELETE", "/v1/delivery"),
        ("POST", "/v1/delivery/test"),
        ("POST", "/v1/deliveries/evt_1/retry"),
    ],
)
def test_each_change_needs_an_idempotency_key(
    shop: Any, is_problem: IsProblem, method: str, path: str
) -> None:
    answer = shop.ask(method, path, HOOK if method == "PUT" else None, once=None)
    is_problem(answer, 400, "idempotency-key-required")
