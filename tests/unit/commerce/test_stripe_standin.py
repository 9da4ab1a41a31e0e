"""The stand-in answers as Stripe's documents say, and loudly to what it does not know."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from urllib.parse import urlencode

import pytest
import stripe

from aiqleads.commerce.stripe_standin import AUTHORISATION_SECONDS, StandIn, sign

KEY = {"Authorization": "Bearer sk_test_1"}
BUY = {
    "amount": "5000",
    "currency": "usd",
    "capture_method": "manual",
    "confirm": "true",
    "payment_method": "pm_card_visa",
    "metadata[order]": "o1",
}


class Api:
    def __init__(self, path) -> None:
        self.now = 1_790_000_000.0
        self.standin = StandIn(path, clock=lambda: self.now)

    def call(self, method: str, path: str, params=None, key=None, headers=KEY):
        encoded = urlencode(params or {})
        if method == "GET" and encoded:
            path, encoded = f"{path}?{encoded}", ""
        headers = {**headers, **({"Idempotency-Key": key} if key else {})}
        status, answered, body = self.standin.handle(method, path, headers, encoded.encode())
        self.replayed = answered.get("Idempotent-Replayed") == "true"
        return status, json.loads(body)

    def post(self, path: str, params=None, key=None):
        return self.call("POST", f"/v1/payment_intents{path}", params, key)


@pytest.fixture
def api(tmp_path) -> Api:
    return Api(tmp_path / "stripe.db")


def test_manual_capture_reserves_then_takes(api: Api) -> None:
    status, made = api.post("", BUY)
    assert (status, made["status"], made["amount_capturable"]) == (200, "requires_capture", 5000)
    assert made["metadata"] == {"order": "o1"}
    status, taken = api.post(f"/{made['id']}/capture", {"amount_to_capture": "4000"})
    assert (status, taken["status"], taken["amount_received"]) == (200, "succeeded", 4000)
    status, again = api.post(f"/{made['id']}/capture")
    assert (status, again["error"]["code"]) == (400, "payment_intent_unexpected_state")
    status, no = api.post(f"/{made['id']}/cancel")
    assert (status, no["error"]["payment_intent"]["status"]) == (400, "succeeded")


def test_automatic_capture_and_confirmation_apart(api: Api) -> None:
    made = api.post("", {"amount": "5000", "currency": "usd"})[1]
    assert made["status"] == "requires_payment_method"
    assert api.post(f"/{made['id']}/confirm")[0] == 400
    paid = api.post(f"/{made['id']}/confirm", {"payment_method": "pm_card_visa"})[1]
    assert (paid["status"], paid["amount_received"]) == ("succeeded", 5000)
    assert api.post(f"/{made['id']}/confirm")[1]["error"]["code"].endswith("unexpected_state")


def test_a_cancelled_intent_gives_back_and_takes_nothing(api: Api) -> None:
    made = api.post("", BUY)[1]
    gone = api.post(f"/{made['id']}/cancel", {"cancellation_reason": "abandoned"})[1]
    assert (gone["status"], gone["amount_capturable"]) == ("canceled", 0)
    assert gone["cancellation_reason"] == "abandoned"
    assert api.post(f"/{made['id']}/capture")[0] == 400


def test_an_authorisation_lapses_after_seven_days(api: Api) -> None:
    made = api.post("", BUY)[1]
    api.now += AUTHORISATION_SECONDS + 1
    status, now = api.call("GET", f"/v1/payment_intents/{made['id']}")
    assert (status, now["status"], now["cancellation_reason"]) == (200, "canceled", "automatic")


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
def test_a_decline_is_a_402_card_error(api: Api, method: str, code: str) -> None:
    status, no = api.post("", {**BUY, "payment_method": method}, key="k")
    assert (status, no["error"]["type"], no["error"]["decline_code"]) == (402, "card_error", code)
    assert no["error"]["payment_intent"]["status"] == "requires_payment_method"
    assert api.post("", {**BUY, "payment_method": method}, key="k") == (402, no)
    assert api.replayed


@pytest.mark.parametrize(
    ("succeed", "status"), [(True, "requires_capture"), (False, "requires_payment_method")]
)
def test_the_bank_may_ask_for_the_buyer(api: Api, succeed: bool, status: str) -> None:
    made = api.post("", {**BUY, "payment_method": "pm_card_authenticationRequired"})[1]
    assert made["status"] == "requires_action"
    assert made["next_action"] == {"type": "use_stripe_sdk"}
    assert api.standin.authenticate(made["id"], succeed=succeed)["status"] == status
    assert api.call("GET", f"/v1/payment_intents/{made['id']}")[1]["status"] == status


def test_a_key_is_one_answer(api: Api) -> None:
    first = api.post("", BUY, key="k")
    assert not api.replayed
    assert api.post("", BUY, key="k") == first
    assert api.replayed
    status, no = api.post("", {**BUY, "amount": "6000"}, key="k")
    assert (status, no["error"]["type"]) == (400, "idempotency_error")
    assert len(api.standin.intents()) == 1


def test_what_fails_validation_is_not_saved(api: Api) -> None:
    assert api.post("", {**BUY, "amount": "x"}, key="k")[0] == 400
    assert api.post("", BUY, key="k")[0] == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"colour": "red"}, "parameter_unknown"),
        ({"amount": "49"}, "amount_too_small"),
        ({"amount": ""}, "parameter_missing"),
        ({"amount": "-5"}, "parameter_invalid_integer"),
        ({"currency": "eur"}, None),
        ({"capture_method": "later"}, None),
        ({"payment_method_types[0]": "sepa_debit"}, None),
        ({"payment_method": "pm_nonsense"}, "resource_missing"),
    ],
)
def test_a_wrong_parameter_is_loud(api: Api, change: dict[str, str], code: str | None) -> None:
    status, no = api.post("", {**BUY, **change})
    assert (status, no["error"]["type"]) == (400, "invalid_request_error")
    assert no["error"].get("code") == code


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("GET", "/v1/charges", None),
        ("DELETE", "/v1/payment_intents", None),
        ("POST", "/v1/payment_intents/pi_1/explode", None),
        ("GET", "/v1/payment_intents/pi_unknown", None),
        ("GET", "/v1/payment_intents", {"starting_after": "pi_unknown"}),
    ],
)
def test_an_unknown_route_or_thing_is_a_404(api: Api, method: str, path: str, params) -> None:
    assert api.call(method, path, params)[0] == 404


def test_other_wrong_requests(api: Api) -> None:
    made = api.post("", BUY)[1]
    assert api.post(f"/{made['id']}/capture", {"amount_to_capture": "5001"})[0] == 400
    assert api.post(f"/{made['id']}/cancel", {"cancellation_reason": "whim"})[0] == 400
    assert api.call("GET", "/v1/payment_intents", {"limit": "101"})[0] == 400
    for headers in ({}, {"Authorization": "Bearer sk_live_1"}, {"Authorization": "Basic x"}):
        assert api.call("GET", "/v1/payment_intents", headers=headers)[0] == 401
    assert api.standin.handle("POST", "/v1/payment_intents", KEY, b"\xff=%")[0] == 400
    assert api.standin.handle("POST", "/v1/payment_intents", KEY, b"no form")[0] == 400


def test_the_list_is_newest_first_in_pages(api: Api) -> None:
    made = []
    for _ in range(5):
        made.append(api.post("", BUY)[1]["id"])
        api.now += 10
    first = api.call("GET", "/v1/payment_intents", {"limit": "2"})[1]
    assert [i["id"] for i in first["data"]] == made[:2:-1]
    assert first["has_more"]
    rest = api.call("GET", "/v1/payment_intents", {"limit": "3", "starting_after": made[3]})[1]
    assert [i["id"] for i in rest["data"]] == made[2::-1]
    assert not rest["has_more"]
    window = {"created[gte]": "1790000010", "created[lte]": "1790000020"}
    inside = api.call("GET", "/v1/payment_intents", window)[1]
    assert [i["id"] for i in inside["data"]] == made[2:0:-1]


def test_two_openings_share_one_state(api: Api, tmp_path) -> None:
    made = api.post("", BUY, key="k")[1]
    other = StandIn(tmp_path / "stripe.db")
    assert [i["id"] for i in other.intents()] == [made["id"]]
    assert other.webhook_secret == api.standin.webhook_secret


def test_a_signature_is_what_the_sdk_checks(api: Api) -> None:
    api.post("", BUY)
    body, header = api.standin.webhook(api.standin.events()[0])
    assert stripe.WebhookSignature.verify_header(body, header, api.standin.webhook_secret)
    digest = hmac.new(b"s", b"5.x", sha256).hexdigest()
    assert sign(b"x", "s", 5) == f"t=5,v1={digest}"
