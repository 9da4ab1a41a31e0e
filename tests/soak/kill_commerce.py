"""kill -9 of shopping processes, and of the database's own: what was acknowledged stays.

    kill_commerce.py [kills] [databases]

Two workers shop at a time, with several threads each: holds, purchases out of the wallet and
by card at the offline stand-in (over its file or over HTTP), top-ups, releases. A worker tells
the harness of a call before it begins and after it returned. At random moments one is killed
with SIGKILL, or, on PostgreSQL, one of the database's sessions or the postmaster. Then a
sweep heals, while the other worker shops on, and the harness asks: is everything there that
was acknowledged, does every invariant hold, is any transaction half done? The next worker
repeats what the dead one had begun, under the same keys. A hasty worker, which acknowledges
before the call returned, is killed as well and must be caught (`ok` is false where it is not).

Finished rounds (a fresh shop, some kills) are kept: a run that was killed goes on. Progress on
stderr, a JSON object as last line.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from commerce_shops import (
    DATABASES,
    Shops,
    add_agents,
    agreed,
    asked,
    begin,
    fill_wallets,
    price,
    shops,
)
from rounds import Rounds
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from aiqleads.commerce import invariants, slots
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.holds import HoldLine, place, release
from aiqleads.commerce.ids import new_id
from aiqleads.commerce.payments import Payments, client_for, offline_payments
from aiqleads.commerce.reconcile import sweep
from aiqleads.commerce.stripe_server import serve
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.commerce.wallet import topup
from aiqleads.domain import US_PER_HOUR
from aiqleads.errors import AIQLeadsError
from aiqleads.settings import Settings
from aiqleads.store import ledger
from aiqleads.store.database import connect, reader
from aiqleads.store.orders import OPEN
from aiqleads.store.tables import (
    entry,
    hold_item,
    lead_slot,
    order_item,
    orders,
    payment_attempt,
)

AGENTS = [(f"A{i}", "enterprise") for i in range(6)]
LEADS = {f"L{i:04}": 1 + i % 3 for i in range(1_500)}
THREADS = 3
KILLS_OF_ROUND = 20
#: of a round of the control, and how many it may take until it is caught
CONTROL_KILLS, CONTROL_ROUNDS = 5, 20
#: a worker lives for as long as this at most, seconds
LIFE_S = 0.6
CARDS = ("pm_card_visa",) * 6 + ("pm_card_chargeDeclined", "pm_card_authenticationRequired")
#: when the longest hold is over, and with it every deadline
PAST_ALL_US = 30 * US_PER_HOUR
#: an acknowledged order may have gone on to these
_LATER = {
    "paid": {"paid"},
    "committed": {"committed", "paid", "uncollected"},
}
_SHOWN = 5


def now_us() -> int:
    return time.time_ns() // 1_000


def standin_of(settings: Settings) -> StandIn:
    return StandIn(settings.data / "stripe_standin.db")


# --- the worker --------------------------------------------------------------------


@dataclass
class Worker:
    """A process that shops until it is killed; tells through a pipe, whole lines at a time."""

    settings: Settings
    engine: Engine
    payments: Payments
    seed: str
    pipe: int
    hasty: bool = False

    def tell(self, **said: Any) -> None:
        os.write(self.pipe, json.dumps(said).encode() + b"\n")

    def run(self, unfinished: Sequence[dict[str, Any]]) -> None:
        """As `aiqleads work` starts: a sweep; then what a dead worker had begun; then on."""
        self._try(lambda: sweep(self.engine, self.payments, now_us()))
        for request in unfinished:
            self._try(lambda request=request: self._pay(request))  # type: ignore[misc]
        threads = [
            threading.Thread(target=self._shop, args=(random.Random(f"{self.seed}-{i}"),))
            for i in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _shop(self, draw: random.Random) -> None:
        number = 0
        while True:
            number += 1
            self._try(lambda: self._visit(draw, f"{self.seed}-{draw.random()}"))

    def _try(self, call: Any) -> None:
        """A refusal is an answer; a database that is gone is none, and comes back."""
        try:
            call()
        except AIQLeadsError:
            pass
        except DBAPIError:
            time.sleep(0.05)

    def _visit(self, draw: random.Random, key: str) -> None:
        who = draw.choice(AGENTS)[0]
        chance = draw.random()
        if chance < 0.06:
            made = topup(self.engine, self.payments, who, 5_000, draw.choice(CARDS), now_us())
            if made.state == "captured":
                self.tell(kind="topup", attempt_id=made.attempt_id)
            return
        if chance < 0.08:
            sweep(self.engine, self.payments, now_us())
            return
        some = draw.sample(list(LEADS), draw.randint(1, 3))
        lines = [
            HoldLine(lead_id, price(100), consent=agreed(lead_id, now_us())) for lead_id in some
        ]
        held = place(
            self.engine, who, lines, "best_effort", now_us(), exclusive=draw.random() < 0.1
        )
        keys = [(item.lead_id, item.slot, item.token) for item in held.items]
        self.tell(kind="hold", items=keys)
        if chance < 0.5:
            self._pay({"who": who, "hold_id": held.hold_id, "key": key, "card": None})
        elif chance < 0.8:
            card = draw.choice(CARDS)
            self._pay({"who": who, "hold_id": held.hold_id, "key": key, "card": card})
        elif chance < 0.9 and release(self.engine, who, held.hold_id, now_us()) == len(keys):
            self.tell(kind="release", items=keys)

    def _pay(self, request: dict[str, Any]) -> None:
        """Buys a hold; what is acknowledged is what a client would have been told."""
        self.tell(kind="begin", request=request)
        if self.hasty:
            self._acknowledge_unseen(request)
        who, holds, key, card = request["who"], [request["hold_id"]], request["key"], None
        try:
            if request["card"] is None:
                order = pay_by_wallet(self.engine, who, holds, now_us(), key=key)
            else:
                card = request["card"]
                order = pay_by_card(self.engine, self.payments, who, holds, card, now_us(), key=key)
        except AIQLeadsError as no:
            self.tell(kind="refused", key=key, why=no.kind)
            return
        items = [(item.lead_id, item.slot, item.token) for item in order.items]
        self.tell(
            kind="order", key=key, order_id=order.order_id, state=order.state, agent_id=who,
            items=items, cents=order.amount_cents, road="card" if card else "wallet",
        )  # fmt: skip
        if order.state == "requires_action":
            self._authenticate(order.order_id)

    def _acknowledge_unseen(self, request: dict[str, Any]) -> None:
        """The control's fault: an order that is as good as paid, and is not."""
        if request["card"] is None:
            who, key = request["who"], request["key"]
            order_id = new_id("ord", who, key)
            self.tell(kind="order", key=key, order_id=order_id, state="paid", agent_id=who,
                      items=[], cents=0, road="wallet")  # fmt: skip
            time.sleep(0.15)

    def _authenticate(self, order_id: str) -> None:
        """The buyer passes the bank's check, and nobody tells the shop: the sweep finds out."""
        standin = standin_of(self.settings)
        for intent in standin.intents():
            waits = intent["status"] == "requires_action"
            if waits and intent["metadata"].get("order") == order_id:
                standin.authenticate(intent["id"], succeed=True)


@dataclass
class Life:
    """A running worker as the harness sees it."""

    pid: int
    pipe: int
    rest: bytes = b""
    begun: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        settings: Settings,
        seed: str,
        address: str,
        unfinished: Sequence[dict[str, Any]],
        *,
        hasty: bool,
    ) -> Life:
        """address: of the stand-in's HTTP server; empty for the road over its file."""
        mine, theirs = os.pipe()

        def work() -> None:
            os.close(mine)
            payments = offline_payments(standin_of(settings))
            if address:
                secret = payments.standin.webhook_secret if payments.standin else None
                payments = Payments(client_for("sk_test_x", api_base=address), secret)
            engine = connect(settings, "commerce")
            Worker(settings, engine, payments, seed, theirs, hasty).run(unfinished)

        pid = begin(work)
        os.close(theirs)
        os.set_blocking(mine, False)
        return cls(pid, mine)

    def kill(self) -> None:
        """SIGKILL, and nothing else."""
        os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code != -signal.SIGKILL:
            raise RuntimeError(f"a worker had ended by itself, with {code}")

    def heard(self) -> list[dict[str, Any]]:
        """What it has told since it was last asked; a line that a kill cut off is not told."""
        while True:
            try:
                read = os.read(self.pipe, 1 << 16)
            except BlockingIOError:
                break
            if not read:
                break
            self.rest += read
        *lines, self.rest = self.rest.split(b"\n")
        said = [json.loads(line) for line in lines]
        for each in said:
            if each["kind"] == "begin":
                self.begun[each["request"]["key"]] = each["request"]
            else:
                self.begun.pop(each.get("key", ""), None)
        return said

    def close(self) -> None:
        os.close(self.pipe)


# --- what must be true -------------------------------------------------------------


def look(
    settings: Settings, told: Sequence[dict[str, Any]], later_us: int = 0
) -> dict[str, list[str]]:
    """Heals, then lists acknowledged things that are not there (`lost`), transactions that are
    half done (`half`) and invariants that do not hold (`broken`). Runs in a process of its own.

    later_us: so much later than now, when every deadline is over and nothing may be open.
    """
    engine, payments = connect(settings, "commerce"), offline_payments(standin_of(settings))
    now = now_us() + later_us
    sweep(engine, payments, now)
    again = sweep(engine, payments, now) if later_us else None
    broken = [
        f"{name}: {finding.about}: {', '.join(finding.offenders)}"
        for name, finding in invariants.check(engine, payments, now).items()
        if not finding.ok
    ]
    with one_moment(engine).connect() as connection:
        if ledger.total_cents(connection):
            broken.append("the ledger does not sum to 0")
        if again is not None:
            broken += [f"after a second sweep: {again}"] if again.waiting or again.healed else []
            is_open = orders.c.state.in_((*OPEN, "committed"))
            left = connection.execute(select(orders.c.order_id, orders.c.state).where(is_open))
            broken += [f"{order_id} is still {state}" for order_id, state in left]
        found = {"lost": lost(connection, told), "half": half(connection), "broken": broken}
    engine.dispose()
    return found


def one_moment(engine: Engine) -> Engine:
    """A reader whose questions all see the same moment: a worker shops on meanwhile."""
    if engine.dialect.name == "sqlite":
        return reader(engine)
    return reader(engine).execution_options(isolation_level="REPEATABLE READ")


def lost(connection: Connection, told: Sequence[dict[str, Any]]) -> list[str]:
    """Acknowledged orders, top-ups, holds and releases that the database does not have."""
    of = {kind: [each for each in told if each["kind"] == kind] for kind in _ASKED}
    return [offence for kind, ask in _ASKED.items() for offence in ask(connection, of[kind])]


def _lost_orders(connection: Connection, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    states = dict(connection.execute(select(orders.c.order_id, orders.c.state)).all())
    sold = select(lead_slot.c.lead_id, lead_slot.c.slot, lead_slot.c.token, lead_slot.c.agent_id,
                  lead_slot.c.order_id).where(lead_slot.c.state == "sold")  # fmt: skip
    there = {tuple(row) for row in connection.execute(sold)}
    items = {
        tuple(row)
        for row in connection.execute(
            select(order_item.c.order_id, order_item.c.lead_id, order_item.c.token)
        )
    }
    for each in told:
        order_id, state = each["order_id"], each["state"]
        if order_id not in states:
            yield f"order {order_id} ({state}) is gone"
        elif state in _LATER:
            if states[order_id] not in _LATER[state]:
                yield f"order {order_id} was {state}, is {states[order_id]}"
            for lead_id, slot, token in each["items"]:
                if (lead_id, slot, token, each["agent_id"], order_id) not in there:
                    yield f"{lead_id}/{slot} is not sold by {order_id}"
                if (order_id, lead_id, token) not in items:
                    yield f"{lead_id} is not in {order_id}"


def _lost_topups(connection: Connection, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    captured = payment_attempt.c.state == "captured"
    there = set(connection.scalars(select(payment_attempt.c.attempt_id).where(captured)))
    yield from (f"{each['attempt_id']} is gone" for each in told if each["attempt_id"] not in there)


def _lost_holds(connection: Connection, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    query = select(hold_item.c.lead_id, hold_item.c.slot, hold_item.c.token)
    there = {tuple(row) for row in connection.execute(query)}
    for key in (tuple(key) for each in told for key in each["items"]):
        if key not in there:
            yield f"the hold of {key} is gone"


def _lost_releases(connection: Connection, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    query = select(hold_item.c.lead_id, hold_item.c.slot, hold_item.c.token).where(
        hold_item.c.ended_how == "released"
    )
    there = {tuple(row) for row in connection.execute(query)}
    for key in (tuple(key) for each in told for key in each["items"]):
        if key not in there:
            yield f"the release of {key} is gone"


_ASKED = {
    "order": _lost_orders,
    "topup": _lost_topups,
    "hold": _lost_holds,
    "release": _lost_releases,
}


def half(connection: Connection) -> list[str]:
    """Paid orders and their ledger transactions, each without the other or not to the cent."""
    query = (
        select(orders.c.order_id, orders.c.pay_with, orders.c.amount_cents)
        .add_columns(payment_attempt.c.payment_intent)
        .outerjoin(payment_attempt, payment_attempt.c.order_id == orders.c.order_id)
        .where(orders.c.state == "paid")
    )
    wanted = {
        f"wallet:{row.order_id}" if row.pay_with == "wallet" else f"capture:{row.payment_intent}":
        row.amount_cents
        for row in connection.execute(query)
    }  # fmt: skip
    sales = select(entry.c.txn_id, entry.c.amount_cents).where(
        entry.c.account_id == ledger.REVENUE, ~entry.c.txn_id.like("uncollected:%")
    )
    posted = dict(connection.execute(sales).all())
    return [
        f"{name}: {wanted.get(name)} cents ordered, {posted.get(name)} posted"
        for name in sorted(wanted.keys() | posted.keys())
        if wanted.get(name) != posted.get(name)
    ]


# --- the rounds --------------------------------------------------------------------


@contextmanager
def stripe(settings: Settings) -> Iterator[str]:
    """The stand-in's HTTP server in a process of its own, which outlives the workers."""
    mine, theirs = os.pipe()

    def run() -> None:
        with serve(standin_of(settings)) as address, Path(os.devnull).open("w") as sys.stderr:
            # A client that is killed is a connection reset, told at length.
            os.write(theirs, address.encode())
            signal.pause()

    pid = begin(run)
    try:
        yield os.read(mine, 200).decode()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(mine)
        os.close(theirs)


def set_up(settings: Settings) -> None:
    engine = connect(settings, "commerce")
    add_agents(engine, AGENTS)
    slots.ensure(engine, LEADS.items())
    engine.dispose()
    fill_wallets(settings, [who for who, _ in AGENTS], 1_000_000, now_us())


def kill_round(made: Shops, number: int, kills: int, *, hasty: bool = False) -> dict[str, Any]:
    """A fresh shop, and `kills` kills in it."""
    draw = random.Random(f"kill-{number}")
    began, told, killed = time.perf_counter(), [], Counter[str]()
    found: dict[str, list[str]] = {"lost": [], "half": [], "broken": []}

    def note(answer: dict[str, list[str]]) -> None:
        for name, offences in answer.items():
            found[name] += offences

    with made.shop() as settings:
        asked(lambda: set_up(settings))
        with stripe(settings) as address:

            def worker(unfinished: Sequence[dict[str, Any]] = ()) -> Life:
                seed = f"{number}-{draw.random()}"
                road = draw.choice(("", address))
                return Life.start(settings, seed, road, unfinished, hasty=hasty)

            lives = [worker(), worker()]
            while sum(killed.values()) < kills:
                time.sleep(draw.uniform(0.0, LIFE_S / 2))
                victim = draw.choice(_victims(made))
                at = draw.randrange(len(lives))
                killed[_kill(made, victim, lives[at])] += 1
                new = [each for life in lives for each in life.heard()]
                told += new
                note(asked(lambda new=new: look(settings, new)))  # type: ignore[misc]
                if victim == "worker":
                    lives[at].close()
                    lives[at] = worker(list(lives[at].begun.values()))
            for life in lives:
                life.kill()
                told += life.heard()
                life.close()
                killed["worker"] += 1
            note(asked(lambda: look(settings, told)))
            note(asked(lambda: look(settings, told, later_us=PAST_ALL_US)))
    sales = [each for each in told if each["kind"] == "order" and each["state"] in _LATER]
    return {
        "round": number,
        "kills": sum(killed.values()),
        "killed": dict(killed),
        "acknowledged": dict(Counter(each["kind"] for each in told)),
        "sales": len(sales),
        "by": dict(Counter(each["road"] for each in sales)),
        **{name: len(offences) for name, offences in found.items()},
        "offenders": [each for offences in found.values() for each in offences[:_SHOWN]],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _victims(made: Shops) -> Sequence[str]:
    return ("worker",) if made.server is None else ("worker",) * 6 + ("session", "postmaster")


def _kill(made: Shops, victim: str, life: Life) -> str:
    if victim == "worker" or made.server is None:
        life.kill()
    elif victim == "postmaster":
        made.server.crash()
    else:
        sessions = made.server.backends()
        if not sessions:
            return _kill(made, "postmaster", life)
        os.kill(sessions[0], signal.SIGKILL)
        made.server.wait()
    return victim


def main(kills: int = 500, databases: str = ",".join(DATABASES)) -> int:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    result: dict[str, Any] = {"name": "commerce.kills"}
    names = databases.split(",")
    for database in names:
        wanted = -(-kills // len(names))
        with shops(database) as made:
            result[database] = killing(made, database, wanted)
            result[database]["control"] = {"lost": control(made, database)}
    parts = [result[database] for database in names]
    result["kills"] = sum(part["kills"] for part in parts)
    result["seconds"] = round(sum(part["seconds"] for part in parts), 1)
    clean = not any(part[name] for part in parts for name in ("lost", "half", "broken"))
    result["ok"] = clean and all(part["control"]["lost"] for part in parts)
    print(json.dumps(result))
    return int(not result["ok"])


def control(made: Shops, database: str) -> int:
    """Acknowledged sales that the hasty worker lost; it is killed until it was caught."""
    lost = 0
    for rounds in range(1, CONTROL_ROUNDS + 1):
        kills = rounds * CONTROL_KILLS
        lost = killing(made, database, kills, CONTROL_KILLS, hasty=True)["lost"]
        if lost:
            break
    return lost


def killing(
    made: Shops, database: str, kills: int, most: int = KILLS_OF_ROUND, *, hasty: bool = False
) -> dict[str, Any]:
    """Rounds until there were so many kills, and what all of them found.

    most: kills of a round.
    """
    size = min(most, kills)
    who = "hasty" if hasty else "real"
    rounds = Rounds(f"kill-{who}-{database}-{size}")
    while rounds.total("kills") < kills:
        # The last two of a round are those of the workers still there.
        rounds.add(kill_round(made, len(rounds.done), max(1, size - 2), hasty=hasty))
        last = rounds.done[-1]
        done = f"{who} on {database}: {rounds.total('kills')} of {kills} kills"
        more = f"{last['sales']} sales in {last['seconds']} s"
        print(f"{done}, {more} {last['offenders'][:1] or ''}", file=sys.stderr, flush=True)
    return summary(rounds)


def summary(rounds: Rounds) -> dict[str, Any]:
    counted = {name: Counter[str]() for name in ("killed", "acknowledged", "by")}
    for done in rounds.done:
        for name, counts in counted.items():
            counts.update(done[name])
    names = ("kills", "sales", "lost", "half", "broken")
    return {
        **{name: rounds.total(name) for name in names},
        **{name: dict(counts) for name, counts in counted.items()},
        "rounds": len(rounds.done),
        "offenders": [each for done in rounds.done for each in done["offenders"]][:_SHOWN],
        "seconds": round(rounds.total("seconds"), 1),
    }


if __name__ == "__main__":
    numbers, words = sys.argv[1:2], sys.argv[2:]
    sys.exit(main(*map(int, numbers), *words))
