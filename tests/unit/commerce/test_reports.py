"""What an agent has bought: lines as CSV, months, receipts."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from aiqleads.commerce import reports, returns
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.errors import Refused, UnknownName

DAY = 24 * 60


@pytest.fixture
def bought(shop: Any) -> Any:
    """Two leads in one month, one of them given back, and one in the next month."""
    shop.add_leads("L1", "L2", "L3", "L4", buyers=2)
    shop.fill_wallet("A1", 100_000)
    first = shop.hold("A1", "L1", "L2", cents=4_250)
    shop.first = pay_by_wallet(shop.engine, "A1", [first.hold_id], shop.now)
    returns.ask(shop.engine, "A1", shop.first.order_id, "L2", "denies_enquiring", "x", shop.now)
    shop.later(31 * DAY)
    second = shop.hold("A1", "L3", cents=3_000)
    shop.second = pay_by_wallet(shop.engine, "A1", [second.hold_id], shop.now)
    other = shop.hold("A1", "L4")
    shop.waits = pay_by_card(
        shop.engine,
        shop.payments,
        "A1",
        [other.hold_id],
        "pm_card_authenticationRequired",
        shop.now,
    )
    return shop


def test_every_lead_bought_is_a_line_of_the_csv(bought: Any) -> None:
    text = "".join(reports.as_csv(reports.lines(bought.engine, "A1")))
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == reports.COLUMNS
    assert [(row["lead_id"], row["price"], row["returned"], row["credited"]) for row in rows] == [
        ("L1", "42.50", "", "0.00"),
        ("L2", "42.50", "credited", "42.50"),
        ("L3", "30.00", "", "0.00"),
    ]
    assert rows[0]["ordered_at"].endswith("Z")
    assert {row["currency"] for row in rows} == {"USD"}


def test_lines_of_a_span_and_of_nobody_else(bought: Any) -> None:
    at = bought.second.created_us
    since = reports.lines(bought.engine, "A1", since_us=at)
    assert [line.lead_id for line in since] == ["L3"]
    assert [line.lead_id for line in reports.lines(bought.engine, "A1", 0, at)] == ["L1", "L2"]
    assert reports.lines(bought.engine, "A2") == []


def test_months_tell_what_was_spent_and_what_came_back(bought: Any) -> None:
    newest, oldest = reports.spend(bought.engine, "A1")
    assert newest.month > oldest.month
    assert (newest.leads, newest.spent_cents, newest.net_cents) == (1, 3_000, 3_000)
    assert (oldest.leads, oldest.spent_cents) == (2, 8_500)
    assert (oldest.returned, oldest.credited_cents, oldest.net_cents) == (1, 4_250, 4_250)


def test_a_receipt_sums_up_and_explains(bought: Any) -> None:
    made = reports.receipt(bought.engine, "A1", bought.first.order_id)
    assert (made.total_cents, made.credited_cents, made.currency) == (8_500, 4_250, "USD")
    assert [line.price_lines[0]["name"] for line in made.lines] == ["base", "base"]
    assert (made.buyer, made.pay_with) == ("A1", "wallet")


def test_there_is_no_receipt_for_what_is_not_paid_or_not_ones_own(bought: Any) -> None:
    with pytest.raises(Refused, match="requires_action"):
        reports.receipt(bought.engine, "A1", bought.waits.order_id)
    for who, order_id in (("A2", bought.first.order_id), ("A1", "ord_none")):
        with pytest.raises(UnknownName):
            reports.receipt(bought.engine, who, order_id)
