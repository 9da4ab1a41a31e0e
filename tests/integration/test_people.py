"""From a pushed form to a refusal: contacts as a feed writes them, an agent's list, a request
to be left alone, and the worker that publishes and tidies up."""

from __future__ import annotations

import datetime as dt
import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient
from sqlalchemy import select

from aiqleads import cli
from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState, wall_now_us
from aiqleads.commerce import contacts, holds, slots
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.commerce.returns import notices
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.settings import Settings
from aiqleads.store import agents, inbox
from aiqleads.store.inbox import Push
from aiqleads.store.tables import consent, lead, submission
from aiqleads.work import work

LIVE = runpy.run_path(str(Path(__file__).parents[1] / "live_market.py"))
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def live_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home: Path = tmp_path_factory.mktemp("live")
    LIVE["build"](home, dt.datetime.now(dt.UTC), rows=300)
    return home


class Town:
    """A live market that is served, pushed to and worked on."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.state = ServiceState.open(self.settings, home / "scorer")
        self._client = TestClient(create_app(self.state), raise_server_exceptions=False)
        # A tier that sees a lead at once.
        self.agent = max(
            agents.all_agents(self.state.commerce), key=lambda one: one.tier.code
        ).agent_id
        self._sent = 0

    def ask(self, agent: str | None, method: str, path: str, body: Any = None) -> Any:
        self._sent += 1
        scopes = agents.AGENT_SCOPES if agent else tuple(agents.SCOPES)
        key = agents.create_key(self.state.commerce, agent, scopes, 0)[0]
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"k{self._sent}"}
        return self._client.request(method, path, json=body, headers=headers)

    def push(self, number: int, **answers: str) -> str:
        """Pushes a person's form and works it off; the lead that it made."""
        told = json.loads(LIVE["google_lead"](number))
        for cell in told["user_column_data"]:
            cell["string_value"] = answers.get(cell["column_id"], cell["string_value"])
        now_us, body = wall_now_us(), json.dumps(told).encode()
        name = f"{number}:{now_us}"
        push = Push("google_leads", name, LIVE["NAME"], now_us, "application/json", body)
        inbox.put(self.state.vault, push)
        work(self.settings, once=True)
        with self.state.leads.connect() as connection:
            rows = select(submission.c.lead_id).where(submission.c.source == "google_leads")
            newest = rows.order_by(submission.c.arrived_us.desc()).limit(1)
            return str(connection.execute(newest).scalar_one())

    def offered(self, lead_id: str) -> bool:
        try:
            Snapshot.load(self.settings).lead_row(lead_id)
        except Exception:
            return False
        return True


@pytest.fixture
def town(live_template: Path, tmp_path: Path) -> Iterator[Town]:
    shutil.copytree(live_template, tmp_path / "live")
    made = Town(tmp_path / "live")
    yield made
    made.state.close()


@pytest.fixture
def say(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Any]]:
    monkeypatch.setenv("AIQLEADS_HOME", str(town.settings.home))

    def run(*words: str) -> Any:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["aiqleads", *words, "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().out
        return json.loads(said) if said else ended.value.code

    yield run
    structlog.reset_defaults()


def test_an_agents_list_knows_a_pushed_person(town: Town) -> None:
    before_us = wall_now_us() - 25 * HOUR_US
    vault, commerce = town.state.vault, town.state.commerce
    contacts.upload(commerce, vault, town.agent, ["Person.500@example.com"], before_us)
    lead_id = town.push(500, EMAIL="PERSON.500+forms@Example.COM", PHONE_NUMBER="p:+14195550150")
    assert town.offered(lead_id)
    refused = town.ask(town.agent, "POST", "/v1/cart/holds", {"lead_ids": [lead_id]})
    assert (refused.status_code, refused.json()["lead_ids"]) == (409, [lead_id])
    assert refused.json()["type"].endswith("/duplicate-for-buyer")
    # Written again after an upload: the lead came when it first came.
    guessed = town.push(501)
    with town.state.leads.connect() as connection:
        mine = select(submission.c.arrived_us).where(submission.c.lead_id == guessed)
        came_us = connection.execute(mine).scalar_one()
    late_us = came_us - contacts.RULES.hours_before * HOUR_US + 1
    contacts.upload(commerce, vault, town.agent, ["(419) 555-0101"], late_us)
    assert town.push(501, PHONE_NUMBER="419-555-0101", POSTAL_CODE="43606") == guessed
    held = town.ask(town.agent, "POST", "/v1/cart/holds", {"lead_ids": [guessed]})
    assert held.status_code == 201, held.text


def test_a_list_of_people_is_suppressed_by_the_command(
    town: Town, say: Callable[..., Any], tmp_path: Path
) -> None:
    lead_id, spared = town.push(600), town.push(601)
    held = town.ask(town.agent, "POST", "/v1/cart/holds", {"lead_ids": [lead_id]})
    assert held.status_code == 201, held.text
    file = tmp_path / "gone.csv"
    file.write_text("name,phone,email\nAda,,Person.600@Example.com\nTom,no,\n")
    done = say("suppress", "--file", str(file), "--reason", "asked us")
    assert (done["contacts"], done["unreadable"], done["leads"]) == (1, 1, 1)
    assert (done["closed"], done["holders"]) == (1, 1)
    told = notices(town.state.commerce, town.agent)
    assert [(each.kind, each.lead_id) for each in told] == [("hold-ended", lead_id)]
    assert town.offered(lead_id)  # until the next snapshot, which the worker makes
    work(town.settings, once=True)
    assert not town.offered(lead_id)
    assert town.offered(spared)
    # The person writes to another form: the lead is stored and never offered.
    later = town.push(
        602, EMAIL="person.600@example.com", FULL_NAME="Somebody Else", POSTAL_CODE="43615"
    )
    assert not town.offered(later)
    lifted = say("suppress", "--file", str(file), "--lift")
    assert lifted["lifted"] == 1
    assert say("invariants")["C1"] is True
    assert say("suppress", "--file", str(tmp_path / "none.csv")) == 2


def test_the_worker_ends_holds_that_slipped_in(town: Town) -> None:
    lead_id = town.push(700)
    town.ask(
        None,
        "POST",
        "/v1/admin/suppressions",
        {"contacts": ["person.700@example.com"], "reason": "asked"},
    )
    slots.ensure(town.state.commerce, [(lead_id, 3)])
    line = holds.HoldLine(lead_id, Quote(5_000, "USD", (PriceLine("base", 5_000, "a lead"),)))
    holds.place(town.state.commerce, town.agent, [line], "all_or_nothing", wall_now_us())
    work(town.settings, once=True)
    assert holds.cart(town.state.commerce, town.agent, wall_now_us()).holds == ()
    told = notices(town.state.commerce, town.agent)
    assert [each.kind for each in told] == ["hold-ended"]


def test_every_lead_on_offer_has_a_consent(town: Town) -> None:
    """Of the sample as well: invented people have consents that say so."""
    town.push(800)
    with town.state.leads.connect() as connection:
        on_offer = set(connection.scalars(select(lead.c.lead_id).where(lead.c.waits == "",
                                                   lead.c.merged_into.is_(None))))  # fmt: skip
        agreed = select(submission.c.lead_id).join(
            consent, consent.c.submission_id == submission.c.submission_id
        )
        agreed_to = set(connection.scalars(agreed))
    assert on_offer <= agreed_to
    assert town.state.register.look(sorted(on_offer), wall_now_us()).problems == {}
