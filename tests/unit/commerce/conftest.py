"""A small shop in a directory of its own, with a clock that the test moves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from aiqleads.commerce import invariants, slots
from aiqleads.commerce.holds import Hold, HoldLine, Mode, place
from aiqleads.commerce.payments import InProcess, Payments, client_for, offline_payments
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.commerce.wallet import topup
from aiqleads.settings import Settings
from aiqleads.store.consents import Consent
from aiqleads.store.database import connect, open_room, upgrade
from aiqleads.store.tables import agent

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
    return lambda: create_engine(postgres.create(like=template), pool_size=12, max_overflow=0)


@pytest.fixture
def sqlite_engine(home: Settings, migrated: Path) -> Engine:
    shutil.copy(migrated, home.data / "commerce.db")
    return connect(home, "commerce")


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
            return 500, {}, self._saved[key]
        if fault == "lost before":
            raise ConnectionError("the request never arrived")
        if fault == "429":
            return 429, {}, b'{"error": {"type": "invalid_request_error", "message": "slow down"}}'
        if fault == "500 saved, not executed":
            self._saved[key] = b'{"error": {"type": "api_error", "message": "oops"}}'
            return 500, {"Stripe-Should-Retry": "false"}, self._saved[key]
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
