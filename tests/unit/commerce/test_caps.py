"""Limits that agents set themselves: what goes beyond one is refused, and told how."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from aiqleads.commerce import caps
from aiqleads.commerce.caps import Filters
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.holds import cart
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store.caps import Cap

HOUR = 60


def buy(shop, who: str, *leads: str, cents: int = 5_000):
    held = shop.hold(who, *leads, cents=cents)
    return pay_by_wallet(shop.engine, who, [held.hold_id], shop.now)


def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


@pytest.fixture
def rich(shop):
    shop.add_leads(*(f"L{n}" for n in range(12)))
    shop.fill_wallet("A1", 900_000)
    return shop


def limit(shop, *given: Cap, **filters) -> None:
    caps.put(shop.engine, "A1", given, Filters.parse(filters))


def test_a_number_of_leads_in_an_hour(rich) -> None:
    limit(rich, Cap("leads", "hour", 2))
    buy(rich, "A1", "L0")
    rich.later(20)
    buy(rich, "A1", "L1")
    rich.later(10)
    no = refused(lambda: buy(rich, "A1", "L2"))
    assert (no.kind, no.status) == ("purchase-limit-reached", 403)
    assert {k: no.extra[k] for k in ("limit", "value", "used", "fits")} == {
        "limit": "leads_per_hour",
        "value": 2,
        "used": 2,
        "fits": 0,
    }
    assert no.extra["retry_after"] == 30 * 60 + 1
    rich.later(31)
    left = cart(rich.engine, "A1", rich.now).holds[0]  # what was refused is still held
    assert pay_by_wallet(rich.engine, "A1", [left.hold_id], rich.now).state == "paid"
    rich.assert_sound()


def test_an_order_that_is_too_large_is_told_what_fits(rich) -> None:
    limit(rich, Cap("spend", "day", 12_000))
    no = refused(lambda: buy(rich, "A1", "L0", "L1", "L2", cents=5_000))
    assert (no.extra["limit"], no.extra["value"], no.extra["used"]) == ("spend_per_day", 12_000, 0)
    assert no.extra["fits"] == 2
    assert no.extra["fitting_lead_ids"] == ["L0", "L1"]
    assert "retry_after" not in no.extra  # as a whole it never fits


def test_when_the_whole_order_will_fit(rich) -> None:
    limit(rich, Cap("leads", "week", 3))
    for lead_id in ("L0", "L1", "L2"):
        buy(rich, "A1", lead_id)
        rich.later(HOUR)
    no = refused(lambda: buy(rich, "A1", "L3", "L4"))
    # Two places are free when the second of the three is a week old.
    assert no.extra["retry_after"] == 7 * 24 * 3600 - 2 * 3600 + 1


def test_of_two_caps_the_one_that_frees_last_is_named(rich) -> None:
    limit(rich, Cap("leads", "hour", 1), Cap("spend", "day", 5_000))
    buy(rich, "A1", "L0")
    no = refused(lambda: buy(rich, "A1", "L1"))
    assert (no.extra["limit"], no.extra["retry_after"]) == ("spend_per_day", 24 * 3600 + 1)
    rich.now += no.extra["retry_after"] * 1_000_000
    assert buy(rich, "A1", "L2").state == "paid"


def test_a_month_is_the_calendars(rich) -> None:
    limit(rich, Cap("spend", "month", 6_000))
    buy(rich, "A1", "L0")
    no = refused(lambda: buy(rich, "A1", "L1"))
    frees = datetime.fromtimestamp(rich.now // 1_000_000 + no.extra["retry_after"], UTC)
    assert (frees.day, frees.hour, frees.minute) == (1, 0, 0)
    rich.now += no.extra["retry_after"] * 1_000_000
    assert buy(rich, "A1", "L2").state == "paid"


def test_a_card_payment_under_way_counts(rich) -> None:
    limit(rich, Cap("leads", "day", 1))
    held = rich.hold("A1", "L0")
    waits = pay_by_card(
        rich.engine, rich.payments, "A1", [held.hold_id], "pm_card_authenticationRequired", rich.now
    )
    assert waits.state == "requires_action"
    assert refused(lambda: buy(rich, "A1", "L1")).extra["used"] == 1


def test_what_was_declined_does_not_count(rich) -> None:
    limit(rich, Cap("leads", "day", 1))
    held = rich.hold("A1", "L0")
    with pytest.raises(Refused, match="declined"):
        pay_by_card(
            rich.engine, rich.payments, "A1", [held.hold_id], "pm_card_chargeDeclined", rich.now
        )
    assert buy(rich, "A1", "L1").state == "paid"


def test_requests_at_once_stay_within_a_cap(rich) -> None:
    limit(rich, Cap("leads", "day", 3))
    held = [rich.hold("A1", f"L{n}").hold_id for n in range(10)]

    def pay(hold_id: str) -> str:
        try:
            return pay_by_wallet(rich.engine, "A1", [hold_id], rich.now).state
        except Refused as no:
            return no.kind

    with ThreadPoolExecutor(8) as pool:
        told = sorted(pool.map(pay, held))
    assert told == ["paid"] * 3 + ["purchase-limit-reached"] * 7
    rich.assert_sound()


def test_the_use_of_each_cap_is_shown(rich) -> None:
    limit(rich, Cap("spend", "month", 50_000), Cap("leads", "hour", 9), intents=["sell"])
    bought_at = rich.now
    buy(rich, "A1", "L0", cents=4_000)
    found = caps.view(rich.engine, "A1", rich.now)
    assert [(use.cap.name, use.used) for use in found.caps] == [
        ("leads_per_hour", 1),
        ("spend_per_month", 4_000),
    ]
    assert found.caps[0].frees_us == bought_at + 3_600_000_001
    assert found.filters == Filters(intents=("sell",))
    caps.put(rich.engine, "A1", [], Filters())
    assert caps.view(rich.engine, "A1", rich.now) == caps.Limits((), Filters())


@pytest.mark.parametrize(
    ("filters", "limit"),
    [
        ({"intents": ["buy"]}, "intents"),
        ({"property_types": ["condo"]}, "property_types"),
        ({"max_price_cents": 4_999}, "max_price_cents"),
    ],
)
def test_a_lead_outside_the_filters_is_refused(filters: dict, limit: str) -> None:
    made = Filters.parse(filters)
    with pytest.raises(Refused) as caught:
        caps.check_lead(made, "L1", "sell", "house", 5_000)
    assert caught.value.kind == "outside-filters"
    assert caught.value.extra["limit"] == limit
    caps.check_lead(Filters(), "L1", "sell", "house", 5_000)


@pytest.mark.parametrize(
    "given",
    [
        [Cap("leads", "day", 1), Cap("leads", "day", 2)],
        [Cap("leads", "year", 1)],
        [Cap("calls", "day", 1)],
        [Cap("leads", "day", -1)],
    ],
)
def test_a_cap_that_cannot_be_is_refused(shop, given: list[Cap]) -> None:
    with pytest.raises(InvalidInput):
        caps.put(shop.engine, "A1", given, Filters())
    assert caps.view(shop.engine, "A1", shop.now).caps == ()


def test_filters_that_cannot_be_are_refused(shop) -> None:
    for wrong in ({"intents": ["rent"]}, {"max_price_cents": 0}):
        with pytest.raises(InvalidInput):
            Filters.parse(wrong)
    with pytest.raises(UnknownName):
        caps.put(shop.engine, "Z9", [], Filters())


def test_a_card_is_asked_for_the_caps_before_its_bank_hears_of_it(rich) -> None:
    limit(rich, Cap("leads", "day", 1))
    buy(rich, "A1", "L0")
    held = rich.hold("A1", "L1")
    seen = len(rich.standin.intents())
    no = refused(
        lambda: pay_by_card(
            rich.engine, rich.payments, "A1", [held.hold_id], "pm_card_visa", rich.now
        )
    )
    assert (no.kind, no.extra["limit"]) == ("purchase-limit-reached", "leads_per_day")
    assert len(rich.standin.intents()) == seen
