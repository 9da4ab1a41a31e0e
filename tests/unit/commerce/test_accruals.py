"""What sources and taxes are owed follows from what was kept, whatever became of an order."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from sqlalchemy import update

from aiqleads.commerce import accruals, refunds
from aiqleads.commerce.accruals import Margin, Terms
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.returns import ask as give_back
from aiqleads.commerce.returns import decide
from aiqleads.errors import InvalidInput
from aiqleads.ingest.feeds import Options
from aiqleads.store import ledger
from aiqleads.store.tables import submission

TERMS = Terms({"acme": Fraction("0.25"), "zeta": Fraction("0.1")}, {"m": Fraction("0.25")})


def sell(people, *leads: str, card: str | None = None):
    """An order of A1; L1 and L2 are acme's, L3 is zeta's, all 5,000 cents."""
    shop = people.shop
    for number, lead in enumerate(leads):
        people.add(lead, f"{lead.lower()}-{number}@example.com")
        source = "zeta" if lead == "L3" else "acme"
        with people.engine.begin() as connection:
            mine = submission.c.submission_id == f"U{lead}"
            connection.execute(update(submission).where(mine).values(source=source))
    shop.add_leads(*leads)
    held = people.hold("A1", *leads)
    if card is not None:
        return pay_by_card(shop.engine, shop.payments, "A1", [held.hold_id], card, shop.now)
    shop.fill_wallet("A1", 5_000 * len(leads))
    return pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now)


def accrue(people) -> int:
    return accruals.accrue(people.shop.engine, people.engine, TERMS, people.shop.now)


def owed(people, *accounts: str) -> list[int]:
    with people.shop.engine.connect() as connection:
        return [ledger.credit_balance(connection, name) for name in accounts]


ACCOUNTS = ("payable:acme", "payable:zeta", "tax_payable")


@pytest.fixture(autouse=True)
def markets(people) -> None:
    with people.shop.engine.begin() as connection:
        connection.exec_driver_sql("update agent set market = 'm'")


@pytest.mark.parametrize("card", [None, "pm_card_visa"])
def test_each_source_gets_its_share_and_the_state_its_tax_once(people, card) -> None:
    sell(people, "L1", "L2", "L3", card=card)
    assert accrue(people) == 1
    # A quarter of 10,000, a tenth of 5,000; a fifth of each price is tax at a rate of a quarter.
    assert owed(people, *ACCOUNTS) == [2_500, 500, 3_000]
    people.shop.later(1)
    assert accrue(people) == 0
    assert owed(people, *ACCOUNTS) == [2_500, 500, 3_000]
    people.shop.assert_sound()


def test_a_refund_takes_its_part_of_everything_and_a_failed_one_nothing(people) -> None:
    order = sell(people, "L1", "L3", card="pm_card_visa")
    accrue(people)
    shop = people.shop
    refunds.ask(shop.engine, shop.payments, order.order_id, 2_000, "k_1", "asked", shop.now)
    shop.later(1)
    assert accrue(people) == 1
    assert owed(people, *ACCOUNTS) == [1_000, 400, 1_600]
    refunds.ask(shop.engine, shop.payments, order.order_id, None, "k_1", "asked", shop.now)
    shop.later(1)
    accrue(people)
    assert owed(people, *ACCOUNTS) == [0, 0, 0]
    shop.assert_sound()


def test_a_lead_given_back_costs_its_own_source_alone(people) -> None:
    order = sell(people, "L1", "L3")
    accrue(people)
    shop = people.shop
    made = give_back(shop.engine, "A1", order.order_id, "L3", "not_the_person", "a hotel", shop.now)
    decide(shop.engine, made.return_id, credit=True, by="k_1", note="so it is", now_us=shop.now)
    shop.later(1)
    assert accrue(people) == 1
    assert owed(people, *ACCOUNTS) == [1_250, 0, 1_000]
    margins = accruals.margins(shop.engine, people.engine, TERMS)
    assert margins == [
        Margin("acme", "USD", 1, 5_000, 5_000, 1_250, 1_000),
        Margin("zeta", "USD", 1, 5_000, 0, 0, 0),
    ]
    assert [each.margin_cents for each in margins] == [2_750, 0]
    shop.assert_sound()


def test_a_lost_dispute_leaves_nothing_to_share(people) -> None:
    order = sell(people, "L1", card="pm_card_visa")
    accrue(people)
    assert owed(people, "payable:acme") == [1_250]
    with people.shop.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into dispute (dispute_id, attempt_id, order_id, agent_id, amount_cents,"
            " currency, state, reason, opened_us, closed_us)"
            " select 'dp_1', attempt_id, order_id, agent_id, amount_cents, currency, 'lost',"
            f" 'fraudulent', {people.shop.now}, {people.shop.now} from payment_attempt"
            f" where order_id = '{order.order_id}'"
        )
        connection.exec_driver_sql("update orders set state = 'lost'")
    accrue(people)
    assert owed(people, "payable:acme", "tax_payable") == [0, 0]


def test_without_terms_nothing_is_posted(people) -> None:
    sell(people, "L1")
    nothing = Terms({}, {})
    assert accruals.accrue(people.shop.engine, people.engine, nothing, people.shop.now) == 0
    assert [each.margin_cents for each in accruals.margins(
        people.shop.engine, people.engine, nothing
    )] == [5_000]  # fmt: skip


def test_terms_are_read_from_the_feed_file_and_checked(home) -> None:
    home.feeds_file.parent.mkdir(parents=True, exist_ok=True)
    home.feeds_file.write_text("[leads_csv]\nshare = 0.3\n[meta_leads]\n")
    terms = accruals.terms_of(home, ["lucas", "nowhere"])
    assert terms.shares["leads_csv"] == Fraction("0.3")
    assert terms.taxes == {"lucas": 0}
    assert Options(share=Decimal("0.3")).share == Decimal("0.3")
    home.feeds_file.write_text("[leads_csv]\nshare = 1.5\n")
    with pytest.raises(InvalidInput, match="share: Input should be less than 1"):
        accruals.terms_of(home, ["lucas"])
