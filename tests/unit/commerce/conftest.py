"""A small shop in a directory of its own, with a clock that the test moves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, create_engine

from aiqleads.commerce import consent, invariants, slots
from aiqleads.commerce.consent import Register
from aiqleads.commerce.holds import Hold, HoldLine, Mode, place
from aiqleads.commerce.payments import InProcess, Payments, client_for, offline_payments
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.commerce.returns import notices
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.commerce.wallet import topup
from aiqleads.ingest.reach import contact_keys
from aiqleads.settings import Settings
from aiqleads.store import tables
from aiqleads.store.consents import Consent
from aiqleads.store.database import connect, open_room, upgrade
from aiqleads.store.leads import put_consents
from aiqleads.store.pool import Pool
from aiqleads.store.tables import agent
from aiqleads.store.vault import Vault

MINUTE = 60_000_000


@dataclass
class Shop:
    engine: Engine
    standin: StandIn
    payments: Payments
    now: int = 1_790_000_000_000_000

    def add_agent(self, agent_id: str, tier: str = "pro") -> None:
        with self.engine.begin() as connection:
            connection.execute(
                agent.insert().values(
                    agent_id=agent_id, name=agent_id, tier=tier, market="m", created_us=0, version=0
                )
            )

    def add_leads(self, *leads: str, buyers: int = 1) -> None:
        slots.ensure(self.engine, [(lead_id, buyers) for lead_id in leads])

    def line(self, lead_id: str, cents: int = 5_000, ends_us: int | None = None) -> HoldLine:
        price = Quote(cents, "USD", (PriceLine("base", cents, "a lead"),))
        return HoldLine(lead_id, price, ends_us, self.agreed(lead_id))

    def agreed(self, lead_id: str, sellers: int = 99) -> Consent:
        """A consent of the lead's invented person, found just now."""
        return Consent(f"U{lead_id}"[:20], f"certificate {lead_id}", sellers, self.now)

    def hold(
        self, who: str, *leads: str, mode: Mode = "all_or_nothing", cents: int = 5_000
    ) -> Hold:
        return place(self.engine, who, [self.line(x, cents) for x in leads], mode, self.now)

    def fill_wallet(self, who: str, cents: int) -> None:
        topup(self.engine, self.payments, who, cents, "pm_card_visa", self.now)

    def later(self, minutes: float) -> None:
        self.now += int(minutes * MINUTE)

    def assert_sound(self) -> None:
        found = invariants.check(self.engine, self.payments, self.now)
        assert {name: f.offenders for name, f in found.items() if not f.ok} == {}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty commerce database, migrated once and copied by each test."""
    settings = Settings(home=tmp_path_factory.mktemp("migrated"))
    open_room(settings, "commerce").dispose()
    return settings.data / "commerce.db"


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Any) -> Callable[[], Engine]:
    """Makes engines of empty commerce databases, migrated once and copied by each test."""
    template = postgres.create()
    engine = create_engine(template)
    upgrade(engine, "commerce")
    engine.dispose()
    options: Any = {"poolclass": Pool, "pool_size": 12, "max_overflow": 0}
    return lambda: create_engine(postgres.create(like=template), **options)


@pytest.fixture
def sqlite_engine(home: Settings, migrated: Path) -> Engine:
    shutil.copy(migrated, home.data / "commerce.db")
    return connect(home, "commerce")


@dataclass
class People:
    """The room `leads` beside a shop: who is behind its leads, and what they agreed to."""

    engine: Engine
    vault: Vault
    shop: Shop

    def add(
        self,
        lead_id: str,
        *contacts: str,
        sellers: int | None = 3,
        person: str = "",
        came: int = 0,
        given: int | None = None,
    ) -> None:
        """A lead of one submission. sellers: None for no consent. came, given: us before now."""
        rows = {
            "lead": {"lead_id": lead_id, "person_id": person or lead_id, "source_key": lead_id},
            "submission": {"submission_id": f"U{lead_id}", "source_key": lead_id},
        }
        body = {"email" if "@" in each else "phone": each for each in contacts}
        sealed = self.vault.seal(["k"], [f"U{lead_id}"], [json.dumps(body).encode()])[0]
        same = {"batch_id": "b", "lead_id": lead_id, "arrived_us": self.shop.now - came,
                "contact": sealed, "key_id": "k", "max_buyers": sellers or 1}  # fmt: skip
        with self.engine.begin() as connection:
            for name, row in rows.items():
                table = tables.leads_metadata.tables[name]
                connection.execute(table.insert().values(filled(table, {**same, **row})))
            for digest in self.vault.match(x for each in contacts for x in contact_keys(each)):
                connection.execute(
                    tables.match_key.insert().values(digest=digest, submission_id=f"U{lead_id}")
                )
        if sellers is not None:
            self.agree(lead_id, sellers, self.shop.now - (came if given is None else given))

    def agree(self, lead_id: str, sellers: int, given_us: int) -> None:
        row = {"submission_id": f"U{lead_id}", "proof": f"certificate {lead_id}",
               "sellers": sellers, "given_us": given_us, "revoked_us": None}  # fmt: skip
        with self.engine.begin() as connection:
            row = filled(tables.consent, row)
            put_consents(connection, {name: [value] for name, value in row.items()})

    @property
    def register(self) -> Register:
        return Register(self.engine)

    def hold(self, who: str, *leads: str) -> Hold:
        """A hold as the service places it: with what is found of the leads' consents."""
        found = self.register.check(leads, self.shop.now)
        lines = [replace(self.shop.line(each), consent=found[each]) for each in leads]
        return place(self.shop.engine, who, lines, "all_or_nothing", self.shop.now)

    def stop(self, *contacts: str, **more: Any) -> consent.Stopped:
        rooms = (self.engine, self.shop.engine, self.vault)
        return consent.suppress(*rooms, contacts, "asked", "k_1", self.shop.now, **more)

    def revoke(self, **whom: Any) -> consent.Stopped:
        rooms = (self.engine, self.shop.engine, self.vault)
        return consent.revoke(*rooms, "asked", "k_1", self.shop.now, **whom)

    def told(self, who: str) -> list[tuple[str, str | None]]:
        return [(each.kind, each.lead_id) for each in notices(self.shop.engine, who)]

    def assert_sound(self) -> None:
        shop = self.shop
        found = invariants.check(shop.engine, shop.payments, shop.now, leads=self.engine)
        assert {name: f.offenders for name, f in found.items() if not f.ok} == {}


def filled(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """The row's own columns, and something of its kind in each other that must not be null."""
    blank = {str: "", int: 0, float: 0.0, bytes: b"", bool: False}
    made = {c.name: blank[c.type.python_type] for c in table.columns if not c.nullable}
    known = {name: value for name, value in row.items() if name in table.columns}
    if table.name == "lead":
        made |= {"place_precision": "none", "cell": None}
    return {**made, **known}


@pytest.fixture(scope="session")
def migrated_leads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(home=tmp_path_factory.mktemp("migrated_leads"))
    open_room(settings, "leads").dispose()
    return settings.data / "leads.db"


@pytest.fixture(scope="session")
def migrated_leads_postgres(postgres: Any) -> Callable[[], Engine]:
    template = postgres.create()
    engine = create_engine(template)
    upgrade(engine, "leads")
    engine.dispose()
    return lambda: create_engine(postgres.create(like=template))


@pytest.fixture
def people(shop: Shop, home: Settings, request: pytest.FixtureRequest) -> Iterator[People]:
    """The shop's people, in the same kind of database."""
    if shop.engine.dialect.name == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_leads"), home.data / "leads.db")
        engine = connect(home, "leads")
    else:
        engine = request.getfixturevalue("migrated_leads_postgres")()
    with engine.begin() as connection:
        row = filled(tables.batch, {"batch_id": "b", "state": "done"})
        connection.execute(tables.batch.insert().values(row))
    made = People(engine, Vault.open(home), shop)
    yield made
    made.vault.close()
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, home: Settings) -> Iterator[Shop]:
    """The shop on each of the databases."""
    home.data.mkdir()
    if request.param == "sqlite":
        engine: Engine = request.getfixturevalue("sqlite_engine")
    else:
        engine = request.getfixturevalue("migrated_postgres")()
    clock: list[Shop] = []
    standin = StandIn(
        home.data / "stripe_standin.db", clock=lambda: clock[0].now / 1e6 if clock else 0.0
    )
    made = Shop(engine, standin, offline_payments(standin))
    clock.append(made)
    made.add_agent("A1")
    made.add_agent("A2")
    yield made
    engine.dispose()


class Flaky:
    """A stand-in behind a bad line: `faults` are used up, one for each request."""

    def __init__(self, standin: StandIn) -> None:
        self.standin = standin
        self.faults: list[str] = []
        self.seen: list[str] = []
        self._saved: dict[str, bytes] = {}

    def handle(self, method, path, headers, body):
        self.seen.append(f"{method} {path.split('?')[0]}")
        key = headers.get("Idempotency-Key")
        fault = self.faults.pop(0) if self.faults else "none"
        if key in self._saved:
            return 500, {"Idempotent-Replayed": "true"}, self._saved[key]
        if fault == "lost before":
            raise ConnectionError("the request never arrived")
        if fault == "429":
            return 429, {}, b'{"error": {"type": "invalid_request_error", "message": "slow down"}}'
        if fault == "500 saved, not executed":
            self._saved[key] = b'{"error": {"type": "api_error", "message": "oops"}}'
            return 500, {"Stripe-Should-Retry": "false"}, self._saved[key]
        if fault == "garbled":
            return 200, {}, b'{"object": "payment_intent", "id": "pi_none"}'
        answer = self.standin.handle(method, path, headers, body)
        if fault == "lost after":
            raise ConnectionError("the answer never arrived")
        if fault == "500 saved":
            self._saved[key] = b'{"error": {"type": "api_error", "message": "oops"}}'
            return 500, {"Stripe-Should-Retry": "false"}, self._saved[key]
        return answer


@pytest.fixture
def line(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """The shop's road to the stand-in, on which faults can be ordered."""
    flaky = Flaky(shop.standin)
    monkeypatch.setattr("stripe.HTTPClient.INITIAL_DELAY", 0.0)
    monkeypatch.setattr("stripe.HTTPClient.MAX_DELAY", 0.0)
    client = client_for("sk_test_x", http_client=InProcess(flaky))  # type: ignore[arg-type]
    shop.payments = Payments(
        client, shop.standin.webhook_secret, standin=shop.standin, sleep=lambda _: None
    )
    return flaky
