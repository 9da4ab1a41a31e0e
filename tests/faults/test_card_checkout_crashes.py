"""A process may die at any step of a payment; whoever drives next brings it to a right end.

The steps at which something durable happens are the commits to the database and the calls
to Stripe. A crash is planted before each of them and after each call, one at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from aiqleads.commerce import invariants, orders, reconcile, slots, wallet
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.holds import Hold, HoldLine, place, release
from aiqleads.commerce.payments import InProcess, Payments, client_for, offline_payments
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.errors import AIQLeadsError
from aiqleads.settings import Settings
from aiqleads.store.consents import Consent
from aiqleads.store.database import connect, open_room
from aiqleads.store.tables import agent

NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000
#: more than any scenario has; each is run until its crash no longer happens
MOST_STEPS = 40


class Crash(BaseException):
    """The process is gone: nothing in the code under test may catch this."""


@dataclass
class World:
    engine: Engine
    standin: StandIn
    payments: Payments
    hold: Hold
    step: int = 0
    crash_at: int = -1

    def durable(self, *_: object) -> None:
        """Called before each commit, and before and after each call to Stripe."""
        self.step += 1
        if self.step == self.crash_at:
            raise Crash

    def handle(self, method, path, headers, body):
        self.durable()
        answer = self.standin.handle(method, path, headers, body)
        self.durable()
        return answer


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(home=tmp_path_factory.mktemp("migrated"))
    open_room(settings, "commerce").dispose()
    return settings.data / "commerce.db"


def make_world(path: Path, store: Path) -> World:
    settings = Settings(home=path)
    settings.data.mkdir(parents=True)
    shutil.copy(store, settings.data / "commerce.db")
    engine = connect(settings, "commerce")
    standin = StandIn(settings.data / "stripe_standin.db", clock=lambda: NOW / 1e6)
    with engine.begin() as connection:
        for name in ("A1", "A2"):
            row = {"agent_id": name, "name": name, "tier": "pro", "market": "m", "created_us": 0}
            connection.execute(agent.insert().values(**row, version=0))
    slots.ensure(engine, [("L1", 1), ("L2", 2)])
    price = Quote(5_000, "USD", (PriceLine("base", 5_000, "a lead"),))
    agreed = Consent("U1", "certificate", 2, NOW)
    lines = [HoldLine(name, price, consent=agreed) for name in ("L1", "L2")]
    held = place(engine, "A1", lines, "all_or_nothing", NOW)
    world = World(engine, standin, offline_payments(standin), held)
    wallet.topup(engine, world.payments, "A1", 20_000, "pm_card_visa", NOW)
    client = client_for("sk_test_x", http_client=InProcess(world))  # type: ignore[arg-type]
    world.payments = Payments(client, standin.webhook_secret, standin=standin)
    event.listen(engine, "commit", world.durable)
    return world


def by_card(world: World, method: str) -> None:
    pay_by_card(world.engine, world.payments, "A1", [world.hold.hold_id], method, NOW, key="order")


def by_wallet(world: World) -> None:
    pay_by_wallet(world.engine, "A1", [world.hold.hold_id], NOW, key="order")


def authenticated(world: World) -> None:
    """Asked by the bank, passed, then the webhook arrives."""
    by_card(world, "pm_card_authenticationRequired")
    intent = world.standin.intents()[-1]
    if intent["status"] == "requires_action":
        world.standin.authenticate(intent["id"], succeed=True)
    body, signature = world.standin.webhook(world.standin.events()[-1], NOW // 1_000_000)
    reconcile.receive_webhook(world.engine, world.payments, body, signature, NOW)


def lost(world: World) -> None:
    """Asked by the bank; the hold is given back meanwhile; then the bank says yes."""
    by_card(world, "pm_card_authenticationRequired")
    release(world.engine, "A1", world.hold.hold_id, NOW)
    intent = world.standin.intents()[-1]
    if intent["status"] == "requires_action":
        world.standin.authenticate(intent["id"], succeed=True)
    reconcile.sweep(world.engine, world.payments, NOW)


SCENARIOS = {
    "paid": (lambda w: by_card(w, "pm_card_visa"), {"paid"}),
    "declined": (lambda w: by_card(w, "pm_card_chargeDeclined"), {"failed"}),
    "authenticated": (authenticated, {"paid", "expired"}),
    "lost": (lost, {"canceled", "expired"}),
    "topup": (lambda w: wallet.topup(w.engine, w.payments, "A1", 7_000, "pm_card_visa", NOW), None),
    "wallet": (by_wallet, {"paid"}),
}


@pytest.fixture
def worlds(tmp_path: Path, migrated_store: Path) -> Iterator[list[World]]:
    made: list[World] = []

    def one(crash_at: int) -> World:
        world = make_world(tmp_path / str(crash_at), migrated_store)
        world.crash_at = crash_at
        made.append(world)
        return world

    yield one  # type: ignore[misc]
    for world in made:
        world.engine.dispose()


def run(world: World, scenario) -> bool:
    """True if the planted crash happened."""
    try:
        scenario(world)
    except Crash:
        return True
    except AIQLeadsError:
        return False
    return False


def assert_sound(world: World, now_us: int) -> None:
    found = invariants.check(world.engine, world.payments, now_us)
    assert {name: f.offenders for name, f in found.items() if not f.ok} == {}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_at_any_step_heals(worlds, name: str) -> None:
    scenario, ends = SCENARIOS[name]
    crashes = 0
    for crash_at in range(1, MOST_STEPS):
        world = worlds(crash_at)
        if not run(world, scenario):
            break
        crashes += 1
        world.crash_at = -1
        # Nobody comes back for it: the sweep alone, now and when the deadline has passed.
        reconcile.sweep(world.engine, world.payments, NOW)
        assert_sound(world, NOW)
        for later in (2 * HOUR, 3 * HOUR):
            swept = reconcile.sweep(world.engine, world.payments, NOW + later)
        assert swept.waiting == swept.healed == 0
        assert_sound(world, NOW + 50 * HOUR)
        made = orders.listing(world.engine, "A1")
        assert len(made) <= 1
        if made and ends is not None:
            assert made[0].state in ends | {"expired"}
            sold = made[0].state == "paid"
            assert orders.bought(world.engine, "A1") == ({"L1", "L2"} if sold else set())
    else:
        pytest.fail("a scenario never ended")
    assert crashes >= (1 if name == "wallet" else 5)


@pytest.mark.parametrize("name", ["paid", "declined", "wallet"])
def test_the_same_request_again_goes_on_after_a_crash(worlds, name: str) -> None:
    scenario, ends = SCENARIOS[name]
    for crash_at in range(1, MOST_STEPS):
        world = worlds(crash_at)
        crashed = run(world, scenario)
        world.crash_at = -1
        run(world, scenario)
        assert [o.state for o in orders.listing(world.engine, "A1")] == list(ends)
        assert len(world.standin.intents()) == (1 if name == "wallet" else 2)  # one is the top-up
        assert_sound(world, NOW)
        if not crashed:
            break
