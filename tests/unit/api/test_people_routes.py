"""Suppression, revocation and "already mine" over HTTP; the guesser learns nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select, update

from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.commerce import contacts
from aiqleads.recommend import publish
from aiqleads.settings import Settings
from aiqleads.store import agents
from aiqleads.store import leads as store
from aiqleads.store.tables import idempotency, submission

IsProblem = Callable[[Any, int, str], dict[str, Any]]
HOUR_US = 3_600_000_000
# Ids of a request, an audit entry, a key.
_DRAWN = re.compile(rb'"(r|aud|k)_[0-9a-f]+"')
AHEAD_US = contacts.RULES.hours_before * HOUR_US


def person(shop: Any, lead: str) -> dict[str, Any]:
    return store.lead_contact(shop.state.leads, shop.state.vault, lead)


def arrive(shop: Any, lead: str, at_us: int) -> None:
    with shop.state.leads.begin() as connection:
        mine = update(submission).where(submission.c.lead_id == lead)
        connection.execute(mine.values(arrived_us=at_us))


def put(shop: Any, agent: str, *given: str, **more: Any) -> Any:
    return shop.ask("PUT", "/v1/contacts", {"contacts": given}, agent=agent, **more)


def test_an_agent_is_told_that_it_knows_a_person(shop: Any, is_problem: IsProblem) -> None:
    lead, other = shop.lead(3), shop.lead(2)
    sent = put(shop, "A0003", person(shop, lead)["email"].upper(), "nobody")
    assert sent.json() == {"added": 1, "known": 0, "unreadable": 1, "stored": 1}
    arrive(shop, lead, shop.now_us + AHEAD_US)
    shop.now_us += 2 * AHEAD_US
    refused = is_problem(shop.hold("A0003", lead), 409, "duplicate-for-buyer")
    assert refused["lead_ids"] == [lead]
    is_problem(shop.hold("A0003", lead, other), 409, "duplicate-for-buyer")
    some = shop.hold("A0003", lead, other, mode="best_effort").json()
    assert [item["lead_id"] for item in some["items"]] == [other]
    assert [(each["lead_id"], each["kind"]) for each in some["refused"]] == [
        (lead, "duplicate-for-buyer")
    ]
    assert shop.hold("A0006", lead).status_code == 201
    shown = shop.ask("GET", "/v1/contacts").json()
    assert (shown["stored"], shown["answered_today"]) == (1, 1)
    assert shop.ask("DELETE", "/v1/contacts").json() == {"deleted": 1}
    assert shop.hold("A0003", lead).status_code == 201


def test_contacts_come_as_csv_too(shop: Any, is_problem: IsProblem) -> None:
    def send(body: bytes, kind: str = "text/csv") -> Any:
        return shop.ask("PUT", "/v1/contacts", content=body, headers={"Content-Type": kind})

    answer = send(b"\xef\xbb\xbfname,email\nAda,ada@example.com\nTom,tom@example.com\n")
    assert answer.json() == {"added": 2, "known": 0, "unreadable": 0, "stored": 2}
    assert send(b"email\nada@example.com", "text/csv; charset=utf-8").json()["known"] == 1
    is_problem(send(b"email\n"), 422, "invalid-input")
    is_problem(send(b"\xff\xfe"), 422, "invalid-input")
    is_problem(send(b"a@example.com\n" * 10_001), 422, "invalid-input")
    is_problem(send(b"{}", "application/xml"), 422, "invalid-input")
    is_problem(send(b"{", "application/json"), 400, "malformed-json")
    is_problem(send(b'{"contacts": []}', "application/json"), 422, "invalid-input")
    broken = is_problem(put(shop, "A0003", "x" * 301), 422, "invalid-input")
    assert "xxx" not in str(broken)


def test_an_upload_beyond_the_day_says_how_many_fit(
    shop: Any, is_problem: IsProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, "RULES", contacts.Rules("1", 24, 1, 9, 9))
    refused = is_problem(
        put(shop, "A0003", "a@b.example", "c@d.example"), 403, "contact-limit-reached"
    )
    assert (refused["limit"], refused["value"], refused["used"], refused["fits"]) == (
        "contacts_per_day",
        1,
        0,
        1,
    )
    assert refused["retry_after"] > 0


def test_no_digest_from_which_a_contact_could_be_guessed_is_kept(shop: Any) -> None:
    put(shop, "A0003", "+14195550101", once="k")
    again = put(shop, "A0003", "+14195550101", once="k")
    assert again.headers["Idempotent-Replayed"] == "true"
    with shop.state.commerce.connect() as connection:
        rows = connection.execute(select(idempotency.c.request_sha256)).scalars().all()
    assert [len(each) for each in rows] == [32]  # keyed, where all others are a plain SHA-256


class World:
    """A copy of the served market with its own clock, and a log of all statements."""

    def __init__(self, served: Settings, home: Any, true_contact: bool) -> None:
        shutil.copytree(served.home, home)
        settings = Settings(home=home)
        self.state = ServiceState.open(settings, home / "scorer")
        self.now_us = 1_767_225_600_000_000
        self.state.now_us = lambda: self.now_us
        self.client = TestClient(create_app(self.state), raise_server_exceptions=False)
        self.log: list[tuple[str, int]] = []
        self.answers: list[tuple[int, bytes]] = []
        for engine in (self.state.leads, self.state.commerce):
            event.listen(engine, "before_cursor_execute", self._note)
        self.true_contact = true_contact

    def _note(self, _c, _cursor, statement, parameters, _context, _many) -> None:
        self.log.append((statement, len(parameters)))

    def ask(self, key: str, method: str, path: str, body: Any, once: str) -> Any:
        self.now_us += 1  # what happens at one moment has no order
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": once}
        answer = self.client.request(method, path, json=body, headers=headers)
        self.answers.append((answer.status_code, answer.content))
        return answer


def guess(world: World, key: str, lead: str) -> None:
    """The script: uploads guesses for a lead on offer, at once and day by day, and holds it."""
    true = store.lead_contact(world.state.leads, world.state.vault, lead)
    world.log.clear()
    for day in range(4):
        tries = [f"guess{day}.{n}@example.com" for n in range(30)]
        # In the one world the true contact is among the guesses, in the other it is not.
        tries[7] = true["email"] if world.true_contact else f"wrong{day}@example.com"
        if world.true_contact and day:
            tries[7] = f"again{day}@example.com"
        world.ask(key, "PUT", "/v1/contacts", {"contacts": tries}, f"put{day}")
        body = {"lead_ids": [lead]}
        held = world.ask(key, "POST", "/v1/cart/holds", body, f"hold{day}").json()
        world.ask(key, "POST", "/v1/cart/holds", {**body, "mode": "best_effort"}, f"more{day}")
        world.ask(key, "GET", "/v1/contacts", None, "")
        world.ask(key, "GET", "/v1/cart", None, "")
        world.ask(key, "DELETE", f"/v1/cart/holds/{held['hold_id']}", None, f"del{day}")
        world.now_us += 2 * AHEAD_US


def test_the_guesser_learns_nothing(served: Settings, tmp_path: Any) -> None:
    """Byte for byte the same answers, and statement for statement the same questions."""
    worlds = [World(served, tmp_path / name, true) for name, true in (("w1", True), ("w2", False))]
    snapshot = worlds[0].state.snapshot
    rows = range(snapshot.manifest.leads)
    old = next(
        row
        for row in rows
        if snapshot.columns["received_market_us"][row]
        < snapshot.manifest.as_of_market_us - 12 * HOUR_US
    )
    lead = snapshot.lead_id(old)
    for world in worlds:
        with world.state.leads.begin() as connection:
            mine = update(submission).where(submission.c.lead_id == lead)
            connection.execute(mine.values(arrived_us=world.now_us - HOUR_US))
        key = agents.create_key(world.state.commerce, "A0003", agents.AGENT_SCOPES, 0)[0]
        guess(world, key, lead)
    first, second = worlds
    assert first.answers == second.answers
    assert [status for status, _ in first.answers] == [200, 201, 409, 200, 200, 200] * 4
    assert first.log == second.log
    assert len(first.log) > 100
    for world in worlds:
        world.state.close()


def seen(answer: Any) -> tuple[int, dict[str, str], bytes]:
    """All of an answer that could tell something; what is drawn anew each time is blanked."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, _DRAWN.sub(rb'"\1_"', answer.content)


def look_around(world: World, key: str, leads: list[str]) -> list[Any]:
    """Everything an agent can look at: the list, the feed, cards with prices, its own account."""
    feed = {"agent_id": "A0003", "k": 40}
    asked = [
        ("GET", "/v1/leads?limit=100", None),
        ("POST", "/v1/recommendations", feed),
        *(("GET", f"/v1/leads/{lead}", None) for lead in leads),
        *(("GET", f"/v1/{own}", None) for own in
          ("contacts", "cart", "limits", "wallet", "notices", "deliveries", "orders", "audit")),
    ]  # fmt: skip
    answers = [seen(world.ask(key, *each, "")) for each in asked]
    assert {status for status, _, _ in answers} == {200}
    return answers


def guess_and_look(world: World, keys: dict[str, str], leads: list[str]) -> list[Any]:
    """Guesses for the first lead: while it is free, while a rival holds it, and once it is sold."""
    mine, rival = keys["A0003"], keys["A0006"]
    true = store.lead_contact(world.state.leads, world.state.vault, leads[0])
    if not world.true_contact:
        true = {"email": "nobody@example.com", "phone": "+1 419 555 0199"}
    answers = look_around(world, mine, leads)
    asks = {
        "one": {"lead_ids": leads[:1]},
        "alone": {"lead_ids": leads[:1], "exclusive": True},
        "many": {"lead_ids": leads},
        "some": {"lead_ids": leads, "mode": "best_effort"},
    }
    for day, name in enumerate(("free", "held", "sold")):
        if name == "held":
            held = world.ask(rival, "POST", "/v1/cart/holds", asks["one"], "rival").json()
        if name == "sold":
            buy = {"hold_ids": [held["hold_id"]], "pay_with": "pm_card_visa"}
            assert world.ask(rival, "POST", "/v1/checkout", buy, "buys").status_code == 201
        tries = [f"guess{day}@example.com", true["email"], true["phone"], "no contact"]
        world.log.clear()
        for once in ("put", "put", "more"):  # as new, replayed, and known
            body = {"contacts": tries}
            answers.append(seen(world.ask(mine, "PUT", "/v1/contacts", body, f"{once}{day}")))
        for how, ask in asks.items():
            once = f"{how}{day}"
            answer = world.ask(mine, "POST", "/v1/cart/holds", ask, once)
            answers.append(seen(answer))
            if answer.status_code == 201:
                gone = f"/v1/cart/holds/{answer.json()['hold_id']}"
                answers.append(seen(world.ask(mine, "DELETE", gone, None, f"del{once}")))
        answers += look_around(world, mine, leads)
        answers.append(list(world.log))
        world.now_us += HOUR_US  # beyond the cool-down, within a rival's hold
    return answers


def test_the_guesser_sees_the_same_market(served: Settings, tmp_path: Any) -> None:
    """Status, headers, size and every byte of the list, the feed, prices, refusals and counts."""
    told = []
    for name, is_true in (("w1", True), ("w2", False)):
        world = World(served, tmp_path / name, is_true)
        columns, manifest = world.state.snapshot.columns, world.state.snapshot.manifest
        old = columns["received_market_us"] < manifest.as_of_market_us - 12 * HOUR_US
        rows = np.flatnonzero(old & (columns["max_buyers"] == 1))[:3]
        leads = [world.state.snapshot.lead_id(int(row)) for row in rows]
        with world.state.leads.begin() as connection:
            connection.execute(update(submission).values(arrived_us=world.now_us - HOUR_US))
        keys = {
            agent: agents.create_key(world.state.commerce, agent, agents.AGENT_SCOPES, 0)[0]
            for agent in ("A0003", "A0006")
        }
        told.append(guess_and_look(world, keys, leads))
        world.state.close()
    first, second = told
    assert first == second
    kinds = {
        json.loads(each[2])["type"].rpartition("/")[2]
        for each in first
        if isinstance(each, tuple) and each[0] == 409
    }
    assert kinds == {"hold-cooldown", "lead-already-held", "lead-sold", "bulk-conflict"}


def test_a_suppressed_person_is_sold_no_more(shop: Any, is_problem: IsProblem) -> None:
    lead = shop.lead(3)
    who = person(shop, lead)
    shop.top_up("A0003")
    shop.top_up("A0006")
    assert shop.buy("A0003", lead).status_code == 201
    held = shop.hold("A0006", lead).json()
    body = {"contacts": [who["email"]], "reason": "called us"}
    done = shop.ask("POST", "/v1/admin/suppressions", body, agent=None).json()
    assert done == {
        "contacts": 1,
        "anew": 1,
        "unreadable": 0,
        "leads": 1,
        "closed": 1,
        "holders": 1,
        "buyers": 1,
    }
    gone = shop.ask("POST", "/v1/checkout", {"hold_ids": [held["hold_id"]]}, agent="A0006")
    is_problem(gone, 409, "hold-expired")
    is_problem(shop.hold("A0001", lead), 409, "suppressed")
    kinds = [
        [each["kind"] for each in shop.ask("GET", "/v1/notices", agent=who).json()["items"]]
        for who in ("A0003", "A0006")
    ]
    assert kinds == [["do-not-contact"], ["hold-ended"]]
    shown = shop.ask("GET", "/v1/admin/suppressions", agent=None).json()
    assert shown == {"suppressed": 1, "revoked": 0, "lifted": 0}
    assert lead in publish._withheld(shop.state.settings)
    lifted = shop.ask(
        "DELETE", "/v1/admin/suppressions", {"contacts": body["contacts"]}, agent=None
    )
    assert lifted.json() == {"contacts": 1, "lifted": 1, "unreadable": 0}
    is_problem(shop.hold("A0001", lead), 409, "lead-sold")
    assert shop.ask("GET", "/v1/admin/invariants", agent=None).json()["ok"] is True


@pytest.mark.parametrize("by", ["lead_id", "contact"])
def test_a_consent_is_revoked_by_an_operator(shop: Any, is_problem: IsProblem, by: str) -> None:
    lead = shop.lead(2)
    held = shop.hold("A0003", lead).json()
    shop.top_up("A0003")
    whom = lead if by == "lead_id" else person(shop, lead)["email"]
    done = shop.ask(
        "POST", "/v1/admin/consents/revoke", {by: whom, "reason": "by letter"}, agent=None
    )
    assert (done.json()["leads"], done.json()["holders"]) == (1, 1)
    bill = {"hold_ids": [held["hold_id"]], "pay_with": "pm_card_visa"}
    is_problem(shop.ask("POST", "/v1/checkout", bill), 409, "hold-expired")
    is_problem(shop.hold("A0006", lead), 409, "suppressed")
    path = "/v1/admin/consents/revoke"
    is_problem(
        shop.ask("POST", path, {"lead_id": "Lx", "reason": "x"}, agent=None), 404, "not-found"
    )
    is_problem(shop.ask("POST", path, {"reason": "x"}, agent=None), 422, "invalid-input")
    is_problem(
        shop.ask("POST", path, {"contact": "nobody", "reason": "x"}, agent=None),
        422,
        "invalid-input",
    )


def test_a_lead_without_consent_is_neither_held_nor_bought(
    shop: Any, is_problem: IsProblem
) -> None:
    lead = shop.lead(2)
    held = shop.hold("A0003", lead).json()
    shop.top_up("A0003")
    with shop.state.leads.begin() as connection:
        store.drop_consents(connection, [f"U{lead}"])
    for way in ("wallet", "pm_card_visa"):
        bill = {"hold_ids": [held["hold_id"]], "pay_with": way}
        is_problem(shop.ask("POST", "/v1/checkout", bill), 409, "suppressed")
    is_problem(shop.hold("A0006", lead), 409, "suppressed")
    assert shop.ask("GET", "/v1/orders").json()["items"] == []
