"""Whom an agent knows already: told where it may be, and nothing to whoever guesses."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import event, select

from aiqleads.commerce import contacts
from aiqleads.commerce.contacts import RULES, Rules, contacts_in
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store.tables import agent_contact, match_key, submission

MINUTE, DAY = 60_000_000, 24 * 60
AHEAD = RULES.hours_before * 60
ADA, PHONE = "ada.reed@example.com", "+1 419 555 0123"


def upload(people, who: str, *given: str) -> contacts.Upload:
    return contacts.upload(people.shop.engine, people.vault, who, given, people.shop.now)


def answer(people, who: str, *leads: str) -> list[str]:
    rooms = (people.engine, people.shop.engine, people.vault)
    return contacts.answer(*rooms, who, leads, people.shop.now)


@pytest.mark.parametrize(
    "written",
    [
        "ada.reed@example.com",
        " Ada.Reed+homes@EXAMPLE.com ",
        "mailto:ada.reed@example.com",
        "Ada <ada.reed@example.com>",
        "(419) 555-0123",
        "4195550123",
        "1-419-555-0123",
        "p:+14195550123",
        "4195550123.0",
        "+1 419.555.0123",
    ],
)
def test_a_contact_is_known_however_it_is_written(people, written: str) -> None:
    upload(people, "A1", written)
    people.shop.later(AHEAD)
    people.add("L1", ADA, PHONE)
    people.add("L2", "tom@example.com", "+14195550124")
    assert answer(people, "A1", "L1", "L2") == ["L1"]
    assert answer(people, "A2", "L1", "L2") == []


def test_a_contact_counts_from_a_day_before_the_lead_came(people) -> None:
    upload(people, "A1", ADA)
    people.shop.later(AHEAD)
    people.add("L1", ADA)
    people.add("L2", ADA, came=1)  # a microsecond too early
    assert answer(people, "A1", "L1", "L2") == ["L1"]


def test_a_lead_that_is_sent_again_answers_no_guess(people) -> None:
    """The person asks anew a day after the guess: the lead is as old as its first coming."""
    people.add("L1", ADA, came=MINUTE)
    upload(people, "A1", ADA)
    people.shop.later(AHEAD + 1)
    with people.engine.begin() as connection:
        row = connection.execute(select(submission)).mappings().one()
        anew = {"submission_id": "anew", "source_key": "anew", "arrived_us": people.shop.now}
        connection.execute(submission.insert().values({**row, **anew}))
    assert answer(people, "A1", "L1") == []
    people.add("L2", ADA)
    assert answer(people, "A1", "L1", "L2") == ["L2"]


def test_uploading_again_keeps_the_time_and_deleting_loses_it(people) -> None:
    upload(people, "A1", ADA)
    people.shop.later(AHEAD)
    assert upload(people, "A1", ADA.upper(), PHONE) == contacts.Upload(1, 1, 0, 2)
    people.add("L1", ADA)
    people.add("L2", PHONE)
    assert answer(people, "A1", "L1", "L2") == ["L1"]
    assert contacts.forget(people.shop.engine, "A1") == 2
    assert contacts.forget(people.shop.engine, "A1") == 0
    upload(people, "A1", ADA)
    assert answer(people, "A1", "L1") == []


def test_the_person_is_known_by_what_it_sent_elsewhere(people) -> None:
    upload(people, "A1", PHONE)
    people.shop.later(AHEAD)
    people.add("L1", ADA, person="P")
    people.add("L2", PHONE, person="P", came=90 * DAY * MINUTE)
    assert answer(people, "A1", "L1", "L2") == ["L1"]


def test_who_was_bought_as_another_lead_is_known(people) -> None:
    shop = people.shop
    people.add("L1", ADA, person="P")
    people.add("L2", PHONE, person="P")
    shop.add_leads("L1", "L2")
    shop.fill_wallet("A1", 20_000)
    held = people.hold("A1", "L1")
    assert answer(people, "A1", "L2") == []
    from aiqleads.commerce.checkout import pay_by_wallet

    pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now, register=people.register)
    assert answer(people, "A1", "L1", "L2") == ["L2"]
    assert answer(people, "A2", "L2") == []


def test_what_is_stored_is_the_agents_own_and_no_leads(people) -> None:
    upload(people, "A1", ADA, PHONE)
    upload(people, "A2", ADA, PHONE)
    people.add("L1", ADA, PHONE)
    with people.shop.engine.connect() as connection:
        stored = list(connection.scalars(select(agent_contact.c.digest)))
    with people.engine.connect() as connection:
        of_lead = list(connection.scalars(select(match_key.c.digest)))
    assert len({*stored, *of_lead}) == 6
    assert {len(digest) for digest in stored} == {16}


def test_an_upload_has_a_limit_that_deleting_does_not_lift(people, monkeypatch) -> None:
    shop = people.shop
    monkeypatch.setattr(
        contacts, "RULES", Rules("1", 24, uploads_per_day=3, stored=5, answers_per_day=9)
    )
    made = upload(people, "A1", "a@example.com", "b@example.com", "A@example.com", "?")
    assert made == contacts.Upload(2, 0, 1, 2)
    contacts.forget(shop.engine, "A1")
    with pytest.raises(Refused) as no:
        upload(people, "A1", "c@example.com", "d@example.com")
    assert no.value.kind == "contact-limit-reached"
    told = no.value.extra
    assert (told["limit"], told["value"], told["used"], told["fits"]) == (
        "contacts_per_day",
        3,
        2,
        1,
    )
    assert 0 < told["retry_after"] <= 86_400
    assert upload(people, "A1", "c@example.com").stored == 1
    used = contacts.use(shop.engine, "A1", shop.now)
    assert (used.stored, used.uploaded_today, used.answered_today) == (1, 3, 0)
    shop.now += told["retry_after"] * 1_000_000
    upload(people, "A1", "d@example.com", "e@example.com", "f@example.com")
    shop.later(DAY)
    with pytest.raises(Refused) as no:
        upload(people, "A1", "g@example.com", "h@example.com")
    assert (no.value.extra["limit"], no.value.extra["fits"]) == ("contacts_stored", 1)
    with pytest.raises(UnknownName):
        upload(people, "A9", "a@example.com")


def test_so_many_answers_a_day_and_then_none(people, monkeypatch) -> None:
    shop = people.shop
    monkeypatch.setattr(contacts, "RULES", Rules("1", 24, 99, 99, answers_per_day=2))
    given = [f"p{n}@example.com" for n in range(4)]
    upload(people, "A1", *given)
    shop.now += (AHEAD * MINUTE) - shop.now % (DAY * MINUTE)  # at midnight
    shop.later(DAY)
    leads = [f"L{n}" for n in range(4)]
    for lead, contact in zip(leads, given, strict=True):
        people.add(lead, contact)
    assert answer(people, "A1", *leads[:3]) == leads[:2]
    assert answer(people, "A1", "L2", "L3") == []
    assert answer(people, "A1", *leads) == leads[:2]  # told before, told again
    assert contacts.use(shop.engine, "A1", shop.now).answered_today == 2
    shop.later(DAY)
    assert answer(people, "A1", *leads) == leads


def test_answers_at_once_stay_within_the_day(people, monkeypatch) -> None:
    monkeypatch.setattr(contacts, "RULES", Rules("1", 24, 99, 99, answers_per_day=3))
    given = [f"p{n}@example.com" for n in range(8)]
    upload(people, "A1", *given)
    people.shop.later(AHEAD)
    for n, contact in enumerate(given):
        people.add(f"L{n}", contact)
    gate, told = threading.Barrier(8), []

    def ask(n: int) -> None:
        gate.wait(60)
        told.extend(answer(people, "A1", f"L{n}"))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(told) == 3


class Log:
    """The statements that two rooms are sent, with how many values each was given."""

    def __init__(self, *engines: Any) -> None:
        self.seen: list[tuple[str, int]] = []
        for engine in engines:
            event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _c, _cursor, statement, parameters, _context, _many) -> None:
        self.seen.append((statement, len(parameters)))

    def taken(self) -> list[tuple[str, int]]:
        seen, self.seen = self.seen, []
        return seen


def test_guessing_asks_the_databases_the_same_whoever_is_right(people, monkeypatch) -> None:
    """The true contact among guesses, uploaded for a lead on offer; and beyond the day's cap."""
    monkeypatch.setattr(contacts, "RULES", Rules("1", 24, 99, 99, answers_per_day=1))
    people.add("L1", ADA, PHONE, came=MINUTE)
    guesses = [f"guess{n}@example.com" for n in range(20)]
    upload(people, "A1", *guesses, ADA, PHONE)
    upload(people, "A2", *guesses, "x@example.com", "+14195550177")
    log = Log(people.engine, people.shop.engine)
    right = (answer(people, "A1", "L1"), log.taken())
    wrong = (answer(people, "A2", "L1"), log.taken())
    assert right == wrong
    assert right[0] == []
    people.shop.later(AHEAD)
    people.add("L2", ADA)
    people.add("L3", PHONE)
    assert answer(people, "A1", "L2") == ["L2"]
    log.taken()
    beyond = (answer(people, "A1", "L3"), log.taken())
    assert beyond == (answer(people, "A2", "L3"), log.taken())
    assert beyond[0] == []


def test_a_list_is_read_with_and_without_a_heading() -> None:
    text = "Name,E-Mail,Mobile phone,Id\nAda,ada@example.com,(419) 555-0123,4195550199\nTom,,,1\n"
    assert contacts_in(text) == ["ada@example.com", "(419) 555-0123"]
    assert contacts_in("Ada,ada@example.com\nTom,4195550123\n") == ["ada@example.com", "4195550123"]
    assert contacts_in("ada@example.com\n\n+1 419 555 0123\n") == [
        "ada@example.com",
        "+1 419 555 0123",
    ]
    assert contacts_in("email\n") == contacts_in("") == contacts_in("12\nabc") == []


@pytest.mark.parametrize(
    "change",
    [{"hours_before": 0}, {"stored": 1.5}, {"answers_per_day": -1}, {"more": 1}, {"version": None}],
)
def test_figures_that_cannot_be_are_refused_at_start(change: dict[str, Any]) -> None:
    raw = {**vars(RULES), **change}
    if raw["version"] is None:
        del raw["version"]
    with pytest.raises(InvalidInput, match=r"contacts\.toml"):
        Rules.parse(raw)
