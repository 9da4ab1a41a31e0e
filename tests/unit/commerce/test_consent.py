"""C1: nothing is sold without a consent that holds at that moment, whoever takes it back when."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select, update

from aiqleads.commerce import consent, invariants
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.consent import Register, settle
from aiqleads.commerce.reconcile import drive, receive_webhook, sweep
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store import consents as notes
from aiqleads.store.tables import consent as consent_table
from aiqleads.store.tables import match_key, order_item, orders, submission, suppression

DAY = 24 * 60
ADA, PHONE = "ada.reed@example.com", "(419) 555-0123"


def buy(people, who: str, *leads: str, card: str | None = None, **more: Any):
    held = people.hold(who, *leads)
    return pay(people, who, held.hold_id, card, **more)


def pay(people, who: str, hold_id: str, card: str | None, register: Any = None):
    shop, ask = people.shop, register or people.register
    if card is None:
        return pay_by_wallet(shop.engine, who, [hold_id], shop.now, register=ask)
    return pay_by_card(shop.engine, shop.payments, who, [hold_id], card, shop.now, register=ask)


def noted(shop) -> list[Any]:
    with shop.engine.connect() as connection:
        return connection.execute(select(order_item).order_by(order_item.c.lead_id)).all()


def sold(shop) -> list[str]:
    with shop.engine.connect() as connection:
        rows = connection.execute(select(orders.c.state)).scalars().all()
    return sorted(state for state in rows if state in ("committed", "paid", "uncollected"))


def write_down(people, kind: str, *contacts: str) -> None:
    """The first half of a suppression, as of an operator's process that died right after it."""
    digests, _ = consent._digests(people.vault, contacts)
    with people.engine.begin() as connection:
        notes.note(connection, kind, digests, "asked", "k_1", people.shop.now)


@pytest.mark.parametrize("card", [None, "pm_card_visa"])
def test_a_sale_notes_the_consent_that_was_found_just_before(people, card) -> None:
    shop = people.shop
    people.add("L1", ADA, sellers=2)
    shop.add_leads("L1", buyers=2)
    shop.fill_wallet("A1", 10_000)
    held = people.hold("A1", "L1")
    shop.later(7)
    order = pay(people, "A1", held.hold_id, card)
    assert order.state == "paid"
    row = noted(shop)[0]
    assert (row.consent_id, row.consent_proof, row.consent_sellers, row.consent_checked_us) == (
        "UL1",
        "certificate L1",
        2,
        shop.now,
    )
    people.assert_sound()


def test_without_any_consent_nothing_is_held_or_sold(people) -> None:
    shop = people.shop
    people.add("L1", ADA, sellers=None)
    shop.add_leads("L1")
    shop.fill_wallet("A1", 10_000)
    with pytest.raises(Refused) as no:
        people.hold("A1", "L1")
    assert no.value.kind == "suppressed"
    # A caller that asked nobody, neither at the hold nor now, sells nothing either.
    held = shop.hold("A1", "L1")
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("update hold_item set consent_id = null")
    with pytest.raises(Refused, match="no consent"):
        pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now)
    with pytest.raises(Refused, match="may not be sold to you"):
        pay_by_card(shop.engine, shop.payments, "A1", [held.hold_id], "pm_card_visa", shop.now)
    assert sold(shop) == []
    shop.assert_sound()


@pytest.mark.parametrize("card", [None, "pm_card_visa"])
@pytest.mark.parametrize("kind", ["suppressed", "revoked"])
def test_what_was_written_down_after_the_hold_stops_the_checkout(people, kind, card) -> None:
    shop = people.shop
    people.add("L1", ADA, came=60_000_000)
    people.add("L2", "tom@example.com")
    shop.add_leads("L1", "L2", buyers=3)
    shop.fill_wallet("A1", 20_000)
    held = people.hold("A1", "L1", "L2")
    write_down(people, kind, ADA)
    with pytest.raises(Refused) as no:
        pay(people, "A1", held.hold_id, card)
    assert (no.value.kind, no.value.extra["lead_id"]) == ("suppressed", "L1")
    assert sold(shop) == []
    people.assert_sound()


@pytest.mark.parametrize("road", ["request", "webhook", "sweep"])
def test_a_card_that_was_authorised_meanwhile_is_voided(people, road: str) -> None:
    shop = people.shop
    people.add("L1", ADA, came=60_000_000)
    shop.add_leads("L1", buyers=3)
    order = buy(people, "A1", "L1", card="pm_card_authenticationRequired")
    assert order.state == "requires_action"
    shop.standin.authenticate(shop.standin.intents()[0]["id"], succeed=True)
    write_down(people, "revoked", ADA)
    if road == "request":
        drive(shop.engine, shop.payments, order.order_id, shop.now, register=people.register)
    elif road == "sweep":
        sweep(shop.engine, shop.payments, shop.now, register=people.register)
    else:
        body, signature = shop.standin.webhook(shop.standin.events()[-1])
        told = receive_webhook(
            shop.engine, shop.payments, body, signature, shop.now, register=people.register
        )
        assert told == "driven"
    with shop.engine.connect() as connection:
        row = connection.execute(select(orders)).one()
    assert (row.state, row.failure) == ("canceled", "consent-ended")
    assert sold(shop) == []
    people.assert_sound()


def test_a_suppression_closes_what_is_unsold_and_tells_everybody(people) -> None:
    shop = people.shop
    people.add("L1", ADA, PHONE)
    shop.add_leads("L1", buyers=3)
    shop.add_agent("A3")
    shop.fill_wallet("A1", 10_000)
    buy(people, "A1", "L1")
    people.hold("A2", "L1")
    done = people.stop("419.555.0123", "nobody@example.com", "no contact")
    assert (done.contacts, done.anew, done.unreadable) == (2, 2, 1)
    assert (done.leads, done.closed, done.holders, done.buyers) == (1, 1, 1, 1)
    assert people.told("A1") == [("do-not-contact", "L1")]
    assert people.told("A2") == [("hold-ended", "L1")]
    assert people.told("A3") == []
    again = people.stop("+1 419 555 0123")
    assert (again.anew, again.closed, again.holders, again.buyers) == (0, 0, 0, 0)
    with pytest.raises(Refused):
        people.hold("A3", "L1")
    with pytest.raises(Refused):
        shop.hold("A3", "L1")  # also where nobody asks: no slot is left
    people.assert_sound()


def test_no_contact_is_stored_or_told(people) -> None:
    people.add("L1", ADA)
    people.stop(ADA, PHONE)
    people.revoke(contact=ADA)
    with people.engine.connect() as connection:
        rows = connection.execute(select(suppression)).all()
    assert len(rows) == 3
    assert all(len(row.digest) == 16 for row in rows)
    texts = [value for row in rows for value in row if isinstance(value, str)]
    assert not [text for text in texts if "ada" in text.lower()]
    assert notes.Counts(2, 1, 0) == consent.counts(people.engine)


class Between(Register):
    """Does something after the consents were asked for and before the sale."""

    def __init__(self, people, act) -> None:
        super().__init__(people.engine)
        self._act = act

    def check(self, lead_ids: Sequence[str], now_us: int) -> dict[str, notes.Consent]:
        found = super().check(lead_ids, now_us)
        act, self._act = self._act, lambda: None
        act()
        return found


@pytest.mark.parametrize("card", [None, "pm_card_visa"])
def test_a_suppression_between_the_question_and_the_sale_wins(people, card) -> None:
    shop = people.shop
    people.add("L1", ADA)
    shop.add_leads("L1", buyers=2)
    shop.fill_wallet("A1", 10_000)
    held = people.hold("A1", "L1")
    register = Between(people, lambda: people.stop(ADA))
    with pytest.raises(Refused) as no:
        pay(people, "A1", held.hold_id, card, register)
    assert no.value.kind in ("hold-expired", "suppressed")
    assert sold(shop) == []
    assert people.told("A1") == [("hold-ended", "L1")]
    people.assert_sound()


@pytest.mark.parametrize("buyers", [1, 2])
def test_a_sale_that_was_there_first_stands_and_its_buyer_is_told(people, buyers: int) -> None:
    shop = people.shop
    people.add("L1", ADA, came=60_000_000)
    shop.add_leads("L1", buyers=buyers)
    shop.fill_wallet("A1", 10_000)
    held = people.hold("A1", "L1")
    register = Between(people, lambda: write_down(people, "suppressed", ADA))
    assert pay(people, "A1", held.hold_id, None, register).state == "paid"
    assert people.told("A1") == []
    assert settle(people.engine, shop.engine, shop.now) == 1
    assert people.told("A1") == [("do-not-contact", "L1")]
    assert settle(people.engine, shop.engine, shop.now) == 0
    with pytest.raises(Refused):
        shop.hold("A2", "L1")
    people.assert_sound()


def test_a_hold_that_slipped_in_is_ended_by_the_worker(people) -> None:
    shop = people.shop
    people.add("L1", ADA)
    people.stop(ADA)  # before anybody made slots
    shop.add_leads("L1", buyers=2)
    shop.hold("A1", "L1")  # as a request that had asked a moment before
    assert settle(people.engine, shop.engine, shop.now) == 1
    assert people.told("A1") == [("hold-ended", "L1")]
    with pytest.raises(Refused):
        pay(people, "A1", shop.hold("A1", "L1").hold_id, None)


def test_leads_that_come_later_are_found_by_their_contact(people) -> None:
    shop = people.shop
    people.stop(ADA)
    people.revoke(contact=PHONE)
    shop.later(DAY)
    people.add("L1", "Ada.Reed+news@EXAMPLE.com")
    people.add("L2", PHONE, given=2 * DAY * 60_000_000)  # agreed before it was taken back
    people.add("L3", PHONE, person="P3")  # agreed anew since
    people.add("L4", "tom@example.com")
    found = people.register.look(["L1", "L2", "L3", "L4", "L9"], shop.now)
    assert sorted(found.consents) == ["L3", "L4"]
    assert {each.kind for each in found.problems.values()} == {"suppressed"}
    with people.engine.connect() as connection:
        assert notes.stopped_leads(connection) == {"L1", "L2"}


def test_a_person_is_stopped_as_a_whole(people) -> None:
    """Another lead of the person counts, though it came without the contact that is named."""
    people.add("L1", ADA, person="P")
    people.add("L2", PHONE, person="P")
    people.add("L3", "tom@example.com")
    assert people.stop(ADA).leads == 2
    assert sorted(people.register.look(["L1", "L2", "L3"], 1).consents) == ["L3"]


def test_a_consent_is_revoked_by_a_lead(people) -> None:
    shop = people.shop
    people.add("L1", ADA, PHONE, person="P", came=60_000_000)
    people.add("L2", ADA, person="P", came=60_000_000)
    shop.add_leads("L1", "L2")
    done = people.revoke(lead_id="L1")
    assert (done.contacts, done.leads, done.closed) == (2, 2, 2)
    with people.engine.connect() as connection:
        assert set(connection.scalars(select(consent_table.c.revoked_us))) == {shop.now}
    # The same submission, sent again as it was, agrees to nothing new; a later one does.
    people.agree("L1", 3, shop.now - 1)
    assert "L1" not in people.register.look(["L1"], shop.now).consents
    shop.later(1)
    people.agree("L1", 3, shop.now)
    assert "L1" in people.register.look(["L1"], shop.now).consents


def test_a_person_whose_key_was_destroyed_can_still_revoke(people) -> None:
    people.add("L1", ADA)
    people.vault.destroy(["k"], 1)
    done = people.revoke(lead_id="L1")
    assert (done.contacts, done.leads) == (0, 1)
    assert "L1" in people.register.look(["L1"], people.shop.now).problems
    # The same submission comes in again: what was revoked stays so, though no contact says it.
    people.agree("L1", 3, people.shop.now - 1)
    assert "L1" in people.register.look(["L1"], people.shop.now).problems


@pytest.mark.parametrize("whom", [{}, {"lead_id": "L1", "contact": ADA}, {"contact": "nobody"}])
def test_a_revocation_names_one_person(people, whom: dict[str, str]) -> None:
    people.add("L1", ADA)
    with pytest.raises(InvalidInput):
        people.revoke(**whom)
    with pytest.raises(UnknownName):
        people.revoke(lead_id="L9")
    with pytest.raises(InvalidInput):
        people.stop("nobody")


def test_lifting_sells_other_leads_again_and_no_closed_slot(people) -> None:
    shop = people.shop
    people.add("L1", ADA)
    people.add("L2", ADA, person="L1")
    shop.add_leads("L1")
    people.stop(ADA)
    shop.later(1)
    lifted = consent.lift(people.engine, people.vault, [ADA, PHONE, "?"], "k_2", shop.now)
    assert (lifted.contacts, lifted.lifted, lifted.unreadable) == (2, 1, 1)
    with people.engine.connect() as connection:
        assert notes.last_change_us(connection) == shop.now
    shop.add_leads("L2")
    assert people.hold("A1", "L2").items
    with pytest.raises(Refused) as no:
        people.hold("A1", "L1")
    assert no.value.kind == "lead-sold"
    assert people.stop(ADA).anew == 1
    assert consent.counts(people.engine) == notes.Counts(1, 0, 0)


def test_of_several_consents_the_one_for_most_agents_counts(people) -> None:
    people.add("L1", ADA, sellers=1)
    people.add("L2", ADA, sellers=3)
    with people.engine.begin() as connection:
        connection.execute(update(submission).values(lead_id="L1"))
    found = people.register.look(["L1", "L2"], 9)
    assert found.consents["L1"] == notes.Consent("UL2", "certificate L2", 3, 9)
    assert found.problems["L2"].kind == "suppressed"  # merged: nothing is left of it


@pytest.mark.parametrize("card", [None, "pm_card_visa"])
def test_fewer_agents_buy_than_there_are_slots_where_the_person_says_so(people, card) -> None:
    shop = people.shop
    people.add("L1", ADA, sellers=1)
    shop.add_leads("L1", buyers=3)
    for who in ("A1", "A2"):
        shop.fill_wallet(who, 10_000)
    first, second = people.hold("A1", "L1"), people.hold("A2", "L1")
    pay(people, "A1", first.hold_id, card)
    with pytest.raises(Refused) as no:
        pay(people, "A2", second.hold_id, card)
    assert no.value.kind == "lead-sold"
    if card is None:  # of a card's order only the ending is kept
        figures = [no.value.extra[name] for name in ("limit", "value", "used")]
        assert figures == ["consent_sellers", 1, 1]
    assert len(sold(shop)) == 1
    people.assert_sound()


def test_checkouts_at_once_stay_within_the_consent(people) -> None:
    shop = people.shop
    agents = [f"B{n}" for n in range(6)]
    for who in agents:
        shop.add_agent(who)
        shop.fill_wallet(who, 100_000)
    leads = [f"L{n}" for n in range(4)]
    for lead in leads:
        people.add(lead, f"{lead}@example.com", sellers=2)
    shop.add_leads(*leads, buyers=6)
    held = {(who, lead): people.hold(who, lead) for who in agents for lead in leads}
    gate = threading.Barrier(len(agents))
    faults: list[BaseException] = []

    def run(who: str) -> None:
        for lead in leads:
            gate.wait(60)
            for _ in range(20):
                try:
                    pay(people, who, held[who, lead].hold_id, None)
                except Refused as no:
                    if no.kind == "busy":
                        continue
                    if no.kind != "lead-sold":
                        faults.append(no)
                break

    threads = [threading.Thread(target=run, args=(who,)) for who in agents]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert faults == []
    assert [row.lead_id for row in noted(shop)] == [lead for lead in leads for _ in range(2)]
    people.assert_sound()


def test_a_consent_that_moves_to_another_lead_keeps_its_number(people) -> None:
    """A lead is merged into another after it was sold: its consent is used up all the same."""
    shop = people.shop
    people.add("L1", ADA, sellers=None)
    people.add("L2", ADA, sellers=1, person="L1")
    shop.add_leads("L1", "L2")
    shop.fill_wallet("A1", 10_000)
    shop.fill_wallet("A2", 10_000)
    buy(people, "A1", "L2")
    with people.engine.begin() as connection:
        connection.execute(update(submission).values(lead_id="L1"))
    with pytest.raises(Refused) as no:
        buy(people, "A2", "L1")
    assert no.value.kind == "lead-sold"
    people.assert_sound()


def test_a_sale_on_a_consent_that_was_gone_is_an_offence(people) -> None:
    shop = people.shop
    people.add("L1", ADA)
    people.add("L2", PHONE)
    shop.add_leads("L1", "L2")
    shop.fill_wallet("A1", 20_000)
    buy(people, "A1", "L1", "L2")
    with people.engine.begin() as connection:
        long_ago = shop.now - invariants.REVOKED_SLACK_US - 1
        gone = update(consent_table).where(consent_table.c.submission_id == "UL1")
        connection.execute(gone.values(revoked_us=long_ago))
    found = invariants.check(shop.engine, None, shop.now, leads=people.engine)
    assert found["C1"].offenders == ("L1",)
    with people.engine.begin() as connection:
        for table in (consent_table, match_key, submission):
            connection.execute(table.delete().where(table.c.submission_id == "UL2"))
    found = invariants.check(shop.engine, None, shop.now, leads=people.engine)
    assert found["C1"].offenders == ("L1", "L2")
