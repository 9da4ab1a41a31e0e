"""Time that is bought for a hold."""

from __future__ import annotations

import pytest

from aiqleads.commerce import wallet
from aiqleads.commerce.checkout import pay_by_wallet
from aiqleads.commerce.extensions import extend
from aiqleads.commerce.holds import cart, place
from aiqleads.commerce.pricing import PRICES
from aiqleads.domain import moment
from aiqleads.errors import Refused, UnknownName

HOUR = 3_600_000_000


def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


@pytest.fixture
def held(shop):
    shop.add_leads("L1", "L2")
    shop.fill_wallet("A1", 50_000)
    return shop.hold("A1", "L1", "L2", cents=10_000)


def longer(shop, hold, hours=24, ends=None, key=None):
    return extend(shop.engine, hold.agent_id, hold.hold_id, hours, ends or {}, shop.now, key=key)


def test_a_hold_runs_longer_and_its_price_is_a_share_of_what_it_holds(shop, held) -> None:
    made = longer(shop, held)
    assert made.until_us == held.expires_us + 24 * HOUR
    assert made.price_cents == round(20_000 * PRICES.extension_share_per_day)
    assert wallet.balance(shop.engine, "A1") == 50_000 - made.price_cents
    shop.later(60 * 24)
    assert {item.lead_id for item in cart(shop.engine, "A1", shop.now).holds[0].items} == {
        "L1",
        "L2",
    }
    assert pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now).state == "paid"
    shop.assert_sound()


def test_another_agent_waits_until_the_bought_time_is_over(shop, held) -> None:
    longer(shop, held)
    shop.later(60 * 24)
    no = refused(lambda: shop.hold("A2", "L1"))
    assert no.kind == "lead-already-held"
    shop.later(61)
    shop.hold("A2", "L1")
    shop.assert_sound()


def test_a_repeated_request_is_charged_once(shop, held) -> None:
    first = longer(shop, held, key="k")
    assert longer(shop, held, key="k") == first
    assert wallet.balance(shop.engine, "A1") == 50_000 - first.price_cents


def test_hours_are_the_tiers_and_so_many_in_all(shop, held) -> None:
    no = refused(lambda: longer(shop, held, 5))
    assert (no.kind, no.status, no.extra["limit"]) == (
        "extension-not-allowed",
        403,
        "extension_hours",
    )
    longer(shop, held, 24)
    no = refused(lambda: longer(shop, held, 72))
    assert (no.extra["value"], no.extra["used"], no.extra["fits"]) == ([24, 72], 24, [24])
    shop.add_agent("B1", "basic")
    shop.add_leads("L3")
    assert refused(lambda: longer(shop, shop.hold("B1", "L3"))).extra["value"] == []


def test_no_hold_outlives_its_lead_and_nothing_is_charged(shop, held) -> None:
    no = refused(lambda: longer(shop, held, ends={"L1": shop.now + 2 * HOUR, "L2": None}))
    assert (no.kind, no.extra["lead_ids"]) == ("lead-expires-before", ["L1"])
    assert (no.extra["limit"], no.extra["value"]) == ("lead_life", moment(shop.now + 2 * HOUR))
    assert wallet.balance(shop.engine, "A1") == 50_000


def test_what_is_over_or_another_agents_is_not_made_longer(shop, held) -> None:
    with pytest.raises(UnknownName):
        extend(shop.engine, "A2", held.hold_id, 24, {}, shop.now)
    shop.later(61)
    assert refused(lambda: longer(shop, held)).kind == "hold-expired"


def test_it_is_paid_out_of_the_wallet_or_not_had(shop) -> None:
    shop.add_leads("L1")
    hold = shop.hold("A1", "L1", cents=10_000)
    no = refused(lambda: longer(shop, hold))
    assert (no.kind, no.status) == ("insufficient-credits", 402)
    assert cart(shop.engine, "A1", shop.now).holds[0].expires_us == hold.expires_us


def test_an_exclusive_hold_keeps_all_its_slots_longer(shop) -> None:
    shop.add_leads("L1", buyers=3)
    shop.fill_wallet("A1", 50_000)
    hold = place(shop.engine, "A1", [shop.line("L1")], "all_or_nothing", shop.now, exclusive=True)
    longer(shop, hold)
    shop.later(60 * 20)
    assert refused(lambda: shop.hold("A2", "L1")).kind == "lead-already-held"
    pay_by_wallet(shop.engine, "A1", [hold.hold_id], shop.now)
    shop.assert_sound()
