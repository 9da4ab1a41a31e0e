"""The shop behind boundaries that fail: each commit and each call to Stripe is a crossing.

A case is a scenario with faults at some of its crossings, which are counted by running it once
without any. After a case the shop is healed as the worker does it, one sweep a minute later, and
then everything must be right: see `verdict`. A case that is run again by its client, under the
same keys, must change nothing that it was told.
"""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import stripe
from sqlalchemy import Connection, Engine, create_engine, select

from aiqleads.commerce import (
    extensions,
    holds,
    invariants,
    recharge,
    refunds,
    returns,
    slots,
    wallet,
)
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.ids import new_id
from aiqleads.commerce.payments import InProcess, Payments, client_for, offline_payments
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.commerce.reconcile import receive_webhook, sweep
from aiqleads.commerce.stripe_standin import AUTHORISATION_SECONDS, StandIn
from aiqleads.errors import AIQLeadsError
from aiqleads.settings import Settings
from aiqleads.store import orders
from aiqleads.store import refunds as refund_rows
from aiqleads.store.consents import Consent
from aiqleads.store.database import connect, open_room, reader, upgrade
from aiqleads.store.orders import SOLD
from aiqleads.store.tables import agent, lead_return, notice, outbox, refund

NOW = 1_790_000_000_000_000
MINUTE = 60_000_000
PRICE = Quote(5_000, "USD", (PriceLine("base", 5_000, "a lead"),))


def line_of(lead: str, now_us: int) -> holds.HoldLine:
    """A lead to hold, with its price and its consent."""
    return holds.HoldLine(lead, PRICE, consent=Consent(f"s-{lead}", "proof", 9, now_us))


COMMIT_FAULTS = ("dies before", "dies after", "busy")
#: the session with the database ends, and with it the answer to the commit
SERVER_FAULTS = ("gone before", "gone after")
CALL_FAULTS = (
    "dies before", "dies after", "lost before", "lost after", "lost before, for long",
    "lost after, for long", "500 saved", "500 saved, not executed", "429", "429, for long", "409",
    "slow", "swept meanwhile",
)  # fmt: skip


class Died(BaseException):
    """The process is gone: nothing in the code under test may catch this."""


@dataclass
class World:
    """A shop with its Stripe, a clock, and a plan: crossing -> fault."""

    engine: Engine
    reopen: Callable[[], Engine]
    standin: StandIn
    payments: Payments
    now: int = NOW
    plan: dict[int, str] = field(default_factory=dict)
    crossings: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    faults_of_ours: list[str] = field(default_factory=list)
    is_healing: bool = False
    #: calls whose path ends so never arrive
    dead: str = ""
    _for_long: str = ""
    _saved: dict[str, bytes] = field(default_factory=dict)

    # --- the boundaries -------------------------------------------------------------

    def watch(self) -> None:
        """Puts the plan between the engine and its database."""
        dialect: Any = self.engine.dialect
        commit = dialect.do_commit

        def committed(connection: Any) -> None:
            fault = self._cross("commit")
            if fault == "dies before":
                raise Died
            if fault == "busy":
                raise _busy(dialect.name)
            if fault == "gone before":
                _gone(connection)
            commit(connection)
            if fault == "dies after":
                raise Died
            if fault == "gone after":
                _gone(connection)

        dialect.do_commit = committed

    def handle(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        """The stand-in behind the plan; what a socket would do, this does."""
        if self.dead and path.endswith(self.dead):
            raise ConnectionError("the request never arrived")
        fault = self._cross(f"{method} {path.split('?')[0].split('/')[2]}")
        if fault.endswith("for long"):
            self._for_long = fault
        key = headers.get("Idempotency-Key")
        if key in self._saved:
            kept = {"Stripe-Should-Retry": "false", "Idempotent-Replayed": "true"}
            return 500, kept, self._saved[key]
        kind = fault.removesuffix(", for long")
        if kind == "dies before":
            raise Died
        if kind == "lost before":
            raise ConnectionError("the request never arrived")
        if kind == "429":
            return 429, {}, _error("invalid_request_error", "slow down")
        if kind == "409":
            return 409, {"Stripe-Should-Retry": "true"}, _error("idempotency_error", "in use")
        if kind == "swept meanwhile":
            sweep(self.engine, offline_payments(self.standin), self.now)
        if kind == "500 saved, not executed":
            return self._oops(key)
        answer = self.standin.handle(method, path, headers, body)
        if kind == "dies after":
            raise Died
        if kind == "lost after":
            raise ConnectionError("the answer never arrived")
        if kind == "500 saved":
            return self._oops(key)
        if kind == "slow":
            self.now += 20 * MINUTE
        return answer

    def _oops(self, key: str | None) -> Any:
        body = _error("api_error", "oops")
        if key is not None:
            self._saved[key] = body
        return 500, {"Stripe-Should-Retry": "false"}, body

    def _cross(self, name: str) -> str:
        if self.is_healing:
            return ""
        self.crossings.append(name)
        fault = self.plan.get(len(self.crossings), "")
        if not fault and name != "commit":
            return self._for_long
        return fault

    # --- what clients do ------------------------------------------------------------

    def ask(self, key: str, call: Callable[[], Any]) -> Any:
        """A request under a key; notes what its client is told. None where it was refused."""
        try:
            made = call()
        except AIQLeadsError as no:
            self.told[key] = no.kind
            if no.status == 500:
                self.faults_of_ours.append(f"{key}: {no.kind}")
            return None
        except Exception as fault:  # what the service would answer with a 500
            self.faults_of_ours.append(f"{key}: {fault!r}")
            return None
        self.told[key] = getattr(made, "state", "done")
        return made

    def hold(self, who: str, *leads: str, key: str = "", exclusive: bool = False) -> str:
        """Holds leads; the id is the key's, whatever became of the answer."""
        key = key or f"hold {who} {leads}"
        lines = [line_of(lead, self.now) for lead in leads]
        self.ask(
            key,
            lambda: holds.place(
                self.engine, who, lines, "all_or_nothing", self.now, key=key, exclusive=exclusive
            ),
        )
        return new_id("hld", who, key)

    def card(self, who: str, hold_id: str, method: str = "pm_card_visa", key: str = "buy") -> Any:
        """Buys a hold by card."""
        return self.ask(
            key,
            lambda: pay_by_card(
                self.engine, self.payments, who, [hold_id], method, self.now, key=key
            ),
        )

    def spend(self, who: str, hold_id: str, key: str = "buy") -> Any:
        """Buys a hold out of the wallet."""
        return self.ask(key, lambda: pay_by_wallet(self.engine, who, [hold_id], self.now, key=key))

    def fill(self, who: str, cents: int, method: str = "pm_card_visa", key: str = "fill") -> Any:
        """Tops a wallet up."""
        return self.ask(
            key,
            lambda: wallet.topup(self.engine, self.payments, who, cents, method, self.now, key=key),
        )

    def refund(self, cents: int | None, key: str, of: str = "buy", who: str = "A1") -> Any:
        """Refunds the order that was made under the key `of`."""
        order_id = new_id("ord", who, of)
        return self.ask(
            key,
            lambda: refunds.ask(
                self.engine, self.payments, order_id, cents, "ops", "x", self.now, key=key
            ),
        )

    def authenticate(self, *, succeed: bool = True) -> None:
        """What buyers do at their banks."""
        for intent in self.standin.intents():
            if intent["status"] == "requires_action":
                self.standin.authenticate(intent["id"], succeed=succeed)

    def deliver(self, events: list[Any] | None = None, secret: str | None = None) -> None:
        """Stripe's webhooks, each signed now."""
        for event in self.standin.events() if events is None else events:
            body, signature = self.standin.webhook(event, self.now // 1_000_000)
            if secret is not None:
                signature = signature[:-1] + ("0" if signature[-1] != "0" else "1")
            self.ask(
                f"webhook {event['id']} {secret}",
                lambda body=body, signature=signature: receive_webhook(
                    self.engine, self.payments, body, signature, self.now
                ),
            )

    def sweep(self) -> None:
        """What the worker does each minute; a fault of it is tried again by the next."""
        made = self.ask("sweep", lambda: sweep(self.engine, self.payments, self.now))
        if made is not None and made.failed:
            self.faults_of_ours.append(f"sweep: {made.failed} failed")

    # --- afterwards -----------------------------------------------------------------

    def restart(self) -> None:
        """A new process on the same files."""
        self.engine.dispose()
        self.engine = self.reopen()
        self.watch()

    def heal(self) -> None:
        """A minute later, on a line that holds: one sweep."""
        self.is_healing, self._for_long, self.now = True, "", self.now + MINUTE
        failed = sweep(self.engine, self.payments, self.now).failed
        if failed:
            self.faults_of_ours.append(f"healing: {failed} failed")
        self.is_healing = False

    def verdict(self) -> list[str]:
        """What is wrong, in words: nothing, one hopes."""
        self.is_healing = True
        found = invariants.check(self.engine, self.payments, self.now)
        wrong = [f"{name}: {f.offenders}" for name, f in found.items() if not f.ok]
        with reader(self.engine).connect() as connection:
            unsettled = orders.open_attempts(connection)
            wrong += [f"refund {r.refund_id} is open" for r in refund_rows.opened(connection)]
            wrong += _wrongly_told(connection)
            told = {
                key: orders.find(connection, new_id("ord", "A1", key))
                or orders.find(connection, new_id("ord", "A2", key))
                for key in self.told
                if key.startswith("buy")
            }
        for attempt in unsettled:
            intent = attempt.payment_intent
            status = self.payments.retrieve(intent).status if intent else "unknown"
            if status != "requires_action":
                wrong.append(f"payment {attempt.attempt_id} is open, {status} at Stripe")
        for key, order in told.items():
            sold = order is not None and order.state in SOLD
            if self.told[key] in SOLD and not sold:
                wrong.append(f"{key} was told {self.told[key]}, and is not sold")
            if self.told[key] in _REFUSED and sold:
                wrong.append(f"{key} was told {self.told[key]}, and is sold")
        self.is_healing = False
        return wrong + self.faults_of_ours

    def close(self) -> None:
        self.engine.dispose()


def _wrongly_told(connection: Connection) -> list[str]:
    """Refunds and credited returns whose buyer was not told, or was told twice."""
    of_order = (refund.c.state == "succeeded", refund.c.order_id.is_not(None))
    back = list(connection.scalars(select(refund.c.refund_id).where(*of_order)))
    credited = lead_return.c.state == "credited"
    back += connection.scalars(select(lead_return.c.return_id).where(credited))
    told = select(outbox.c.notice_id).join(notice, notice.c.notice_id == outbox.c.notice_id)
    events = Counter(connection.scalars(told.where(outbox.c.kind == "refund")))
    often = [f"{each} was told {n} times" for each, n in events.items() if n > 1]
    return often + [f"{each} was not told" for each in back if f"refund:{each}" not in events]


#: what tells a client that nothing was sold
_REFUSED = ("card-declined", "hold-expired", "insufficient-credits", "payment-canceled")


def _busy(dialect: str) -> Exception:
    if dialect == "sqlite":
        return sqlite3.OperationalError("database is locked")
    return psycopg.errors.SerializationFailure("could not serialize access")


def _gone(connection: Any) -> None:
    """The session ends, as the driver tells it."""
    connection.dbapi_connection.close()
    connection.dbapi_connection.execute("select 1")


def _error(kind: str, message: str) -> bytes:
    return f'{{"error": {{"type": "{kind}", "message": "{message}"}}}}'.encode()


# --- scenarios ---------------------------------------------------------------------


def by_wallet(w: World) -> None:
    w.fill("A1", 20_000)
    w.spend("A1", w.hold("A1", "L1", "L2"))


def by_card(w: World) -> None:
    w.card("A1", w.hold("A1", "L1", "L2"))


def declined(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_chargeDeclined")


def unusable(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_nobodys")


def authenticated(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_authenticationRequired")
    w.authenticate()
    w.deliver()


def not_authenticated(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_authenticationRequired")
    w.authenticate(succeed=False)
    w.deliver()


def abandoned(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_authenticationRequired")
    w.now += 90 * MINUTE
    w.sweep()
    w.hold("A2", "L1")


def lost_to_a_rival(w: World) -> None:
    hold_id = w.hold("A1", "L1")
    w.card("A1", hold_id, "pm_card_authenticationRequired")
    w.ask("release", lambda: holds.release(w.engine, "A1", hold_id, w.now))
    w.spend("A2", w.hold("A2", "L1"), key="buy 2")
    w.authenticate()
    w.sweep()


def alone(w: World) -> None:
    w.card("A1", w.hold("A1", "L2", exclusive=True))
    w.hold("A2", "L2")


def topped_up(w: World) -> None:
    w.fill("A1", 9_000, "pm_card_authenticationRequired")
    w.authenticate()
    w.deliver()
    w.fill("A1", 1_000, "pm_card_chargeDeclined", key="fill 2")


def given_back(w: World) -> None:
    w.card("A1", w.hold("A1", "L1", "L2"))
    order_id = new_id("ord", "A1", "buy")
    w.ask(
        "return",
        lambda: returns.ask(
            w.engine, "A1", order_id, "L1", "disconnected_number", "rang", w.now, key="return"
        ),
    )


def refunded(w: World) -> None:
    w.card("A1", w.hold("A1", "L1", "L2"))
    w.refund(3_000, "refund 1")
    w.refund(None, "refund 2")


def refund_sent_back(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_refundFail")
    w.refund(None, "refund 1")
    at_bank = offline_payments(w.standin)
    for intent in w.standin.intents():
        for made in at_bank.refunds_of(intent["id"]):
            if made.status == "succeeded":
                w.standin.fail_refund(made.stripe_id)
    w.sweep()


def refunded_to_the_wallet(w: World) -> None:
    w.fill("A1", 6_000)
    w.spend("A1", w.hold("A1", "L1"))
    w.refund(2_000, "refund 1")


def disputed(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_createDispute")
    w.deliver()
    for each in w.standin.disputes():
        if each["status"] == "needs_response":
            w.standin.close_dispute(each["id"], won=False)
    w.deliver()


def disputed_top_up(w: World) -> None:
    w.fill("A1", 6_000, "pm_card_createDispute")
    w.spend("A1", w.hold("A1", "L1"))
    w.sweep()
    w.spend("A1", w.hold("A1", "L2"), key="buy 2")
    w.fill("A1", 11_000, key="fill 2")
    w.spend("A1", w.hold("A1", "L2"), key="buy 3")


def recharged(w: World) -> None:
    rule = recharge.Rule(1_000, 5_000, 5_000, "pm_card_visa")
    w.ask("rule", lambda: recharge.put(w.engine, "A1", rule))
    w.ask("run", lambda: recharge.run(w.engine, w.payments, w.now))
    w.spend("A1", w.hold("A1", "L1"))
    w.ask("run again", lambda: recharge.run(w.engine, w.payments, w.now))


def recharge_refused(w: World) -> None:
    rule = recharge.Rule(1_000, 5_000, 5_000, "pm_card_authenticationRequired")
    w.ask("rule", lambda: recharge.put(w.engine, "A1", rule))
    w.ask("run", lambda: recharge.run(w.engine, w.payments, w.now))


def made_longer(w: World) -> None:
    w.fill("A1", 20_000)
    hold_id = w.hold("A1", "L1", "L2")
    w.ask("extend", lambda: extensions.extend(w.engine, "A1", hold_id, 24, {}, w.now, key="extend"))
    w.now += 10 * 60 * MINUTE
    w.spend("A1", hold_id)


def lapsed(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_authenticationRequired")
    w.authenticate()
    w.now += (AUTHORISATION_SECONDS + 60) * 1_000_000
    w.sweep()


def webhooks_twice_and_backwards(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_authenticationRequired")
    w.authenticate()
    events = w.standin.events()
    w.deliver([*events[::-1], *events])


def webhooks_forged_and_late(w: World) -> None:
    w.card("A1", w.hold("A1", "L1"), "pm_card_authenticationRequired")
    w.deliver(secret="forged")
    w.authenticate()
    w.now += 5 * MINUTE
    w.deliver()


SCENARIOS: dict[str, Callable[[World], None]] = {
    each.__name__: each
    for each in (
        by_wallet, by_card, declined, unusable, authenticated, not_authenticated, abandoned,
        lost_to_a_rival, alone, topped_up, given_back, refunded, refund_sent_back,
        refunded_to_the_wallet, disputed, disputed_top_up, recharged, recharge_refused,
        made_longer, lapsed, webhooks_twice_and_backwards, webhooks_forged_and_late,
    )
}  # fmt: skip


# --- cases -------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A scenario and its faults: ((crossing, fault), ...)."""

    scenario: str
    faults: tuple[tuple[int, str], ...]

    @property
    def name(self) -> str:
        return f"{self.scenario}: " + ", ".join(f"{fault} at {at}" for at, fault in self.faults)


class Worlds:
    """Makes worlds, each on a copy of one empty migrated store.

    make_engine: gives the engines of fresh databases (see `postgres_engines`); None for
    SQLite files in `folder`.
    """

    def __init__(self, folder: Path, make_engine: Callable[[], Callable[[], Engine]] | None = None):
        self._folder = folder
        self._make_engine = make_engine
        self._numbers = itertools.count()
        stripe.HTTPClient.INITIAL_DELAY = stripe.HTTPClient.MAX_DELAY = 0.0  # type: ignore[misc]
        self._empty = folder / "empty"
        open_room(Settings(home=self._empty), "commerce").dispose()

    def faults_at(self, crossing: str) -> tuple[str, ...]:
        """What can go wrong at a crossing."""
        if crossing != "commit":
            return CALL_FAULTS
        return COMMIT_FAULTS if self._make_engine is None else COMMIT_FAULTS + SERVER_FAULTS

    def make(self) -> World:
        """A new world: two agents, one with credit; a lead with one slot and one with two."""
        home = Settings(home=self._folder / f"w{next(self._numbers)}")
        home.data.mkdir(parents=True)
        if self._make_engine is None:
            shutil.copy(Settings(home=self._empty).data / "commerce.db", home.data / "commerce.db")

            def reopen() -> Engine:
                return connect(home, "commerce")
        else:
            reopen = self._make_engine()
        clock: list[World] = []
        standin = StandIn(
            home.data / "standin.db", clock=lambda: (clock[0].now if clock else NOW) / 1e6
        )
        engine = reopen()
        with engine.begin() as connection:
            for name in ("A1", "A2"):
                row = {"agent_id": name, "name": name, "tier": "pro", "market": "m"}
                connection.execute(agent.insert().values(**row, created_us=0, version=0))
        slots.ensure(engine, [("L1", 1), ("L2", 2)])
        wallet.topup(engine, offline_payments(standin), "A2", 50_000, "pm_card_visa", NOW)
        world = World(engine, reopen, standin, offline_payments(standin))
        clock.append(world)
        client = client_for("sk_test_x", http_client=InProcess(world))  # type: ignore[arg-type]
        world.payments = Payments(
            client, standin.webhook_secret, standin=standin, sleep=lambda _: None
        )
        world.watch()
        return world

    def crossings(self, scenario: str) -> list[str]:
        """The crossings of a scenario without a fault, in order; it must end well."""
        world = self.make()
        SCENARIOS[scenario](world)
        made = list(world.crossings)
        world.heal()
        if wrong := world.verdict():
            raise AssertionError(f"{scenario} without a fault: {wrong}")
        self.remove(world)
        return made

    def run(self, case: Case) -> list[str]:
        """Runs a case; what is wrong after healing, and after its client asked again."""
        world = self.make()
        world.plan = dict(case.faults)
        try:
            SCENARIOS[case.scenario](world)
        except Died:
            world.restart()
        world.plan = {}
        world.heal()
        wrong = world.verdict()
        told = dict(world.told)
        SCENARIOS[case.scenario](world)
        world.heal()
        wrong += [f"asked again: {each}" for each in world.verdict()]
        wrong += [
            f"{key} was {told[key]} and is {world.told[key]}"
            for key in told
            if key.startswith("buy") and told[key] in SOLD and world.told[key] not in SOLD
        ]
        self.remove(world)
        return wrong

    def remove(self, world: World) -> None:
        """Ends a world."""
        world.close()
        shutil.rmtree(world.standin.path.parent.parent)


def postgres_engines(server: Any) -> Callable[[], Callable[[], Engine]]:
    """Makes a migrated database in a private PostgreSQL at each call; gives its engines."""
    template = server.create()
    first = create_engine(template)
    upgrade(first, "commerce")
    first.dispose()

    def fresh() -> Callable[[], Engine]:
        address = server.create(like=template)
        return lambda: connect(Settings(database_url=address), "commerce")

    return fresh


def single(worlds: Worlds) -> Iterator[Case]:
    """Every crossing of every scenario x every fault that can happen there."""
    for scenario in SCENARIOS:
        for at, name in enumerate(worlds.crossings(scenario), 1):
            for fault in worlds.faults_at(name):
                yield Case(scenario, ((at, fault),))


def of_server(case: Case) -> Iterator[Case]:
    """Where a commit was busy, the same commit with a session that ends; else nothing."""
    ((at, fault),) = case.faults
    if fault == "busy":
        yield from (Case(case.scenario, ((at, gone),)) for gone in SERVER_FAULTS)


def pairs(cases: list[Case], count: int, seed: int) -> Iterator[Case]:
    """Two faults of one scenario at different crossings, drawn at random without repeats."""
    draw, seen = random.Random(seed), set()
    by_scenario: dict[str, list[tuple[int, str]]] = {}
    for case in cases:
        by_scenario.setdefault(case.scenario, []).extend(case.faults)
    names = sorted(by_scenario)
    while len(seen) < count:
        scenario = draw.choice(names)
        first, second = sorted(draw.sample(by_scenario[scenario], 2))
        case = Case(scenario, (first, second))
        if first[0] != second[0] and case not in seen:
            seen.add(case)
            yield case
