"""The same payments with Stripe's SDK over a real socket."""

from __future__ import annotations

import http.client

import pytest

from aiqleads.commerce import invariants, slots
from aiqleads.commerce.checkout import pay_by_card
from aiqleads.commerce.holds import HoldLine, place
from aiqleads.commerce.payments import open_payments
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.commerce.stripe_server import serve
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.errors import Refused
from aiqleads.settings import Settings
from aiqleads.store.consents import Consent
from aiqleads.store.database import open_room
from aiqleads.store.tables import agent

NOW = 1_790_000_000_000_000
AGREED = Consent("U1", "certificate", 2, NOW)


@pytest.fixture
def engine(home: Settings):
    engine = open_room(home, "commerce")
    with engine.begin() as connection:
        row = {"agent_id": "A1", "name": "A1", "tier": "pro", "market": "m", "created_us": 0}
        connection.execute(agent.insert().values(**row, version=0))
    slots.ensure(engine, [("L1", 1), ("L2", 1)])
    yield engine
    engine.dispose()


def test_card_checkout_over_a_socket(home: Settings, engine) -> None:
    standin = StandIn(home.data / "elsewhere.db", clock=lambda: NOW / 1e6)
    price = Quote(5_000, "USD", (PriceLine("base", 5_000, "a lead"),))
    with serve(standin) as address:
        payments = open_payments(
            Settings(home=home.home, stripe_secret_key="sk_test_1", stripe_api_base=address)
        )
        held = place(engine, "A1", [HoldLine("L1", price, consent=AGREED)], "all_or_nothing", NOW)
        order = pay_by_card(engine, payments, "A1", [held.hold_id], "pm_card_visa", NOW)
        assert order.state == "paid"
        held = place(engine, "A1", [HoldLine("L2", price, consent=AGREED)], "all_or_nothing", NOW)
        with pytest.raises(Refused) as no:
            pay_by_card(engine, payments, "A1", [held.hold_id], "pm_card_chargeDeclined", NOW)
        assert no.value.extra["decline_code"] == "generic_decline"
        found = invariants.check(engine, payments, NOW)
        assert all(finding.ok for finding in found.values())
    assert [i["status"] for i in standin.intents()] == ["succeeded", "canceled"]


def test_the_server_is_loud_and_closes(home: Settings) -> None:
    with serve(StandIn(home.data / "elsewhere.db")) as address:
        host = address.removeprefix("http://")
        line = http.client.HTTPConnection(host, timeout=5)
        line.request("DELETE", "/v1/everything", headers={"Authorization": "Bearer sk_test_1"})
        assert line.getresponse().status == 404
        line.close()
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection(host, timeout=5).request("GET", "/")
