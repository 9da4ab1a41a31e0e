# ruff: noqa: E402  (the soak folder is found by a line above the imports)
"""Holds, checkouts and bulks of a busy shop, against the same writes made by hand.

    python tests/benchmarks/bench_commerce.py [--rounds 7] [--calls 300] [--only a,b]

Blocks of the shop's public function and of its peer take turns on one database; the figure is
the median of the ratios of neighbours. The peer writes the same rows with the bare driver, and
asks nothing first. PostgreSQL is a private instance that waits for the disk at each commit.
JSON lines on stdout, progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import pickle
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from sqlalchemy import Engine, event, make_url

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "soak"))

import feed_payloads
from commerce_recorder import most_at_once
from commerce_shops import add_agents, agreed, fill_wallets, forked, price, shops

from aiqleads.commerce import checkout, holds, slots
from aiqleads.commerce.holds import HoldLine
from aiqleads.errors import Refused
from aiqleads.ingest.market import load_market
from aiqleads.settings import Settings
from aiqleads.store.database import connect
from aiqleads.store.transactions import writing

NOW, DAY = 1_790_000_000_000_000, 86_400_000_000
AGENTS, CENTS, WALLET_CENTS = 400, 200, 1_000_000
SQLITE, POSTGRESQL = "sqlite", "postgresql"
#: processes of one client each; SQLite's one process has so many threads
PROCESSES, THREADS, WARM, ROWS = 4, 64, 30, 150
#: the bulk: of so many hot leads so many are asked for at once, by so many clients
HOT, BULK, BUYERS, BULK_CLIENTS = 60, 50, 3, 4
LISTINGS = 100_000
BY_HAND = "the same rows written by the bare driver"
Call = Callable[[], Any]
#: makes a client's calls, in its own process and before the clock starts
Client = Callable[[int], Sequence[Call]]


@dataclass(frozen=True)
class Block:
    """The seconds of each call, and of all of them from the first to the last."""

    latencies: tuple[float, ...]
    seconds: float

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p95_ms(self) -> float:
        return 1_000 * sorted(self.latencies)[int(0.95 * len(self.latencies))]


@dataclass
class Shop:
    """An open shop and the number of its next block, whose leads nobody has touched."""

    settings: Settings
    rounds: int
    calls: int
    blocks: int = field(default=0)

    @cached_property
    def engine(self) -> Engine:
        """Of this process, for its threads."""
        return connect(self.settings, "commerce")

    def next(self, clients: int) -> int:
        """Makes slots for a block; its number. A day lies between two blocks.

        PostgreSQL's statistics are brought up to date, as its daemon does within a minute.
        """
        self.blocks += 1
        engine = connect(self.settings, "commerce")
        names = [self.lead(self.blocks, i, n) for i in range(clients) for n in range(self.calls)]
        slots.ensure(engine, dict.fromkeys(names, BUYERS).items())
        with engine.connect() as connection:
            connection.exec_driver_sql("analyze")
            connection.commit()
        engine.dispose()
        return self.blocks

    def lead(self, block: int, client: int, number: int) -> str:
        return f"L{block}-{client}-{number}"

    def driver(self) -> Any:
        """The bare driver on this shop's database, one connection."""
        url = make_url(self.settings.url("commerce"))
        if url.get_backend_name() == SQLITE:
            made = sqlite3.connect(str(url.database), timeout=60, isolation_level=None)
            made.execute("pragma synchronous=full")
            made.execute("pragma foreign_keys=on")
            return made
        return psycopg.connect(
            host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--only", default="hold,purchase,bulk,commit,ingest")
    given = parser.parse_args()
    only = given.only.split(",")
    for database in (POSTGRESQL, SQLITE):
        for part in (hold, purchase, bulk):
            if part.__name__ in only:
                with opened(database, given.rounds, given.calls) as shop:
                    part(shop, database)
    if "commit" in only:
        for mode, goal in (("NORMAL", 5.0), ("FULL", 20.0)):
            commit(mode, goal, given.rounds)
    if "ingest" in only:
        while_ingesting(given.rounds)
    return 0


@contextmanager
def opened(database: str, rounds: int, calls: int) -> Iterator[Shop]:
    """An empty shop with enterprise agents who have money."""
    with shops(database, durable=True) as made, made.shop() as settings:
        engine = connect(settings, "commerce")
        agents = [f"A{i}" for i in range(AGENTS)]
        add_agents(engine, [(who, "enterprise") for who in agents])
        engine.dispose()
        yield Shop(settings, rounds, calls)


# --- blocks ----------------------------------------------------------------------------


def clients(count: int, client: Client, *, forking: bool) -> Block:
    """All clients make their calls at once, each in a process or (SQLite) a thread."""
    context = mp.get_context("fork")
    ready: Any = context.Barrier(count) if forking else threading.Barrier(count)
    with tempfile.TemporaryDirectory() as folder:

        def run(number: int) -> None:
            calls = client(number)
            for call in calls[:WARM]:
                call()
            ready.wait()
            spans = []
            for call in calls[WARM:]:
                began = time.perf_counter()
                call()
                spans.append((began, time.perf_counter()))
            (Path(folder) / str(number)).write_bytes(pickle.dumps(spans))

        if forking:
            forked(count, run)
        else:
            threaded(count, run)
        spans = [
            span
            for number in range(count)
            for span in pickle.loads((Path(folder) / str(number)).read_bytes())
        ]
    seconds = max(end for _, end in spans) - min(start for start, _ in spans)
    return Block(tuple(end - start for start, end in spans), seconds)


def threaded(count: int, work: Callable[[int], Any]) -> None:
    """Runs work(number) in so many threads at once."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def compared(
    name: str, rounds: int, ours: Callable[[], Block], peer: Callable[[], Block], about: str,
    goal: float,
) -> tuple[list[Block], list[Block]]:  # fmt: skip
    """Blocks of both in turns; the ratio of their rates as a line."""
    mine: list[Block] = []
    other: list[Block] = []
    ours()  # makes the accounts that both post to
    for number in range(rounds):
        pair = [(mine, ours), (other, peer)]
        for blocks, run in pair if number % 2 else reversed(pair):
            blocks.append(run())
        say(f"{name}: {mine[-1].rate:.0f}/s, {about}: {other[-1].rate:.0f}/s")
    ratio = statistics.median(a.rate / b.rate for a, b in zip(mine, other, strict=True))
    line(
        name, median(each.rate for each in mine), "/s", peer=about,
        peer_value=median(each.rate for each in other), ratio=ratio, goal=f">= {goal} of the peer",
        ok=ratio >= goal, n=sum(len(each.latencies) for each in mine),
    )  # fmt: skip
    return mine, other


# --- a hold ----------------------------------------------------------------------------


def hold(shop: Shop, database: str) -> None:
    """Agent's row, slot and history in one transaction; the peer updates the two rows."""
    count = PROCESSES if database == POSTGRESQL else 1

    def ours() -> Block:
        block = shop.next(count)
        return clients(count, partial(holding, shop, block), forking=True)

    def peer() -> Block:
        block = shop.next(count)
        return clients(count, partial(updating, shop, block, database), forking=True)

    about = "its two rows updated by the bare driver"
    goal = 0.8 if database == POSTGRESQL else 0.2
    mine, other = compared(f"commerce.hold.{database}", shop.rounds, ours, peer, about, goal)
    ratio = statistics.median(a.p95_ms / b.p95_ms for a, b in zip(mine, other, strict=True))
    line(
        f"commerce.hold_p95.{database}", median(each.p95_ms for each in mine), "ms", peer=about,
        peer_value=median(each.p95_ms for each in other), ratio=ratio,
        goal="<= 1.5 of the peer" if database == POSTGRESQL else "",
        ok=ratio <= 1.5 if database == POSTGRESQL else None,
        n=sum(len(each.latencies) for each in mine),
    )  # fmt: skip


def holding(shop: Shop, block: int, client: int) -> list[Call]:
    engine, now = connect(shop.settings, "commerce"), NOW + block * DAY

    def one(number: int) -> Any:
        lead = shop.lead(block, client, number)
        lines = [HoldLine(lead, price(CENTS), consent=agreed(lead, now))]
        return holds.place(engine, agent(client, number), lines, "all_or_nothing", now)

    return [partial(one, number) for number in range(shop.calls)]


def updating(shop: Shop, block: int, database: str, client: int) -> list[Call]:
    driver, now = shop.driver(), NOW + block * DAY
    bump, take = (each.replace("?", "?" if database == SQLITE else "%s") for each in (_BUMP, _TAKE))

    def one(number: int) -> None:
        who, lead = agent(client, number), shop.lead(block, client, number)
        driver.execute("begin immediate" if database == SQLITE else "begin")
        driver.execute(bump, (who,))
        taken = driver.execute(take, (who, f"hld-{lead}", now + DAY, now, lead))
        assert taken.rowcount == 1
        driver.execute("commit")

    return [partial(one, number) for number in range(shop.calls)]


_BUMP = "update agent set version = version + 1 where agent_id = ?"
_TAKE = (
    "update lead_slot set state = 'held', agent_id = ?, hold_id = ?, held_until_us = ?,"
    " token = token + 1, changed_us = ? where lead_id = ? and slot = 1 and state = 'free'"
)


def agent(client: int, number: int) -> str:
    """Clients have agents of their own."""
    return f"A{(client + PROCESSES * number) % AGENTS}"


# --- a purchase out of the wallet --------------------------------------------------------


def purchase(shop: Shop, database: str) -> None:
    """A held lead is paid out of the wallet; the peer writes the same rows and asks nothing."""
    count = PROCESSES if database == POSTGRESQL else 1
    fill_wallets(shop.settings, [f"A{i}" for i in range(AGENTS)], WALLET_CENTS, NOW)

    def ours() -> Block:
        block = shop.next(count)
        return clients(count, partial(buying, shop, block), forking=True)

    def peer() -> Block:
        block = shop.next(count)
        return clients(count, partial(selling, shop, block, database), forking=True)

    compared(f"commerce.purchase.{database}", shop.rounds, ours, peer, BY_HAND, 0.3)


def buying(shop: Shop, block: int, client: int) -> list[Call]:
    engine, now = connect(shop.settings, "commerce"), NOW + block * DAY
    held = [call() for call in holding(shop, block, client)]

    def one(number: int) -> Any:
        who = agent(client, number)
        return checkout.pay_by_wallet(engine, who, [held[number].hold_id], now + 1)

    return [partial(one, number) for number in range(shop.calls)]


def selling(shop: Shop, block: int, database: str, client: int) -> list[Call]:
    driver, now = shop.driver(), NOW + block * DAY
    held = [call() for call in holding(shop, block, client)]
    statements = [each.replace("?", "%s") if database == POSTGRESQL else each for each in _SALE]

    def one(number: int) -> None:
        hold_id, item = held[number].hold_id, held[number].items[0]
        who, order = agent(client, number), f"ord-{hold_id}"
        wallet, posted = f"wallet:{who}", f"wallet:{order}"
        key = (item.lead_id, item.slot, item.token)
        consent = item.consent
        given = (
            (who,), (order, *key), (now + 1, *key),
            (order, who, CENTS, now, now),
            (order, *key, CENTS, consent.submission_id, consent.proof, consent.sellers, now),
            (f"evt-{order}", who, order, item.lead_id, now, now),
            (posted, order, now), (posted, wallet, "debit", CENTS),
            (posted, "revenue", "credit", CENTS),
        )  # fmt: skip
        driver.execute("begin immediate" if database == SQLITE else "begin")
        for statement, values in zip(statements, given, strict=True):
            driver.execute(statement, values)
        driver.execute("commit")

    return [partial(one, number) for number in range(shop.calls)]


_KEY = "where lead_id = ? and slot = ? and token = ?"
_ENTRY = "insert into entry (txn_id, account_id, direction, amount_cents, currency)"
_SALE = (
    _BUMP,
    f"update lead_slot set state = 'sold', order_id = ?, held_until_us = null {_KEY}",
    f"update hold_item set ended_us = ?, ended_how = 'sold' {_KEY}",
    "insert into orders (order_id, agent_id, state, pay_with, amount_cents, currency, created_us,"
    " settled_us) values (?, ?, 'paid', 'wallet', ?, 'USD', ?, ?)",
    "insert into order_item (order_id, lead_id, slot, token, price_cents, consent_id,"
    " consent_proof, consent_sellers, consent_checked_us) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "insert into outbox (event_id, agent_id, kind, order_id, lead_id, created_us, next_try_us,"
    " state, attempts) values (?, ?, 'lead.sold', ?, ?, ?, ?, 'waiting', 0)",
    "insert into txn (txn_id, about, created_us) values (?, ?, ?)",
    f"{_ENTRY} values (?, ?, ?, ?, 'USD')",
    f"{_ENTRY} values (?, ?, ?, ?, 'USD')",
)


# --- a bulk of hot leads -----------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One bulk: what was held and refused, and when the call and the release began and ended."""

    held: tuple[str, ...]
    refused: tuple[str, ...]
    began_ns: int
    done_ns: int
    released_ns: int


def bulk(shop: Shop, database: str) -> None:
    """Everybody asks for most of the same leads at once, and gives them back."""
    engine = connect(shop.settings, "commerce")
    slots.ensure(engine, {f"H{i}": BUYERS for i in range(HOT)}.items())
    engine.dispose()
    turns = AGENTS // BULK_CLIENTS
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        client = partial(bulk_client, shop, turns, out)
        if database == POSTGRESQL:
            forked(BULK_CLIENTS, client)
        else:
            threaded(BULK_CLIENTS, client)
        found = [pickle.loads((out / str(i)).read_bytes()) for i in range(BULK_CLIENTS)]
    outcomes: Counter[str] = sum((each["outcomes"] for each in found), Counter())
    asked = [one for each in found for one in each["asked"]]
    latencies = sorted((one.done_ns - one.began_ns) / 1e6 for one in asked)
    wrong = unfounded(asked)
    p95 = latencies[int(0.95 * len(latencies))]
    say(f"bulk on {database}: {dict(outcomes)}")
    n = len(latencies)
    line(f"commerce.bulk_p95.{database}", p95, "ms", goal="< 200 ms", ok=p95 < 200, n=n)
    line(
        f"commerce.bulk_unfounded_refusals.{database}", wrong, "leads", goal="0", ok=wrong == 0,
        n=sum(len(one.refused) for one in asked),
    )  # fmt: skip
    busy = outcomes["busy"]
    line(f"commerce.bulk_deadlocks.{database}", busy, "calls", goal="0", ok=busy == 0, n=n)


def bulk_client(shop: Shop, turns: int, out: Path, client: int) -> None:
    engine, draw = shop.engine, Random(client)
    asked, outcomes = [], Counter()
    for turn in range(turns):
        who, now = f"A{client * turns + turn}", NOW
        leads = draw.sample([f"H{i}" for i in range(HOT)], BULK)
        lines = [HoldLine(lead, price(CENTS), consent=agreed(lead, now)) for lead in leads]
        began, held, refused = time.monotonic_ns(), None, ()
        try:
            held = holds.place(engine, who, lines, "best_effort", now)
            refused = tuple(each["lead_id"] for each in held.refused)
            outcomes["held"] += 1
        except Refused as no:
            outcomes[no.kind] += 1
            refused = tuple(each["lead_id"] for each in no.extra.get("items", ()))
        done = time.monotonic_ns()
        if held is not None:
            holds.release(engine, who, held.hold_id, now)
        got = tuple(item.lead_id for item in held.items) if held is not None else ()
        asked.append(Asked(got, refused, began, done, time.monotonic_ns()))
    (out / str(client)).write_bytes(pickle.dumps({"asked": asked, "outcomes": outcomes}))


def unfounded(asked: Sequence[Asked]) -> int:
    """Refusals of a lead of which fewer holds than slots can have been there at the time."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for one in asked:
        for lead in one.held:
            spans[lead].append((one.began_ns, one.released_ns))
    count = 0
    for one in asked:
        for lead in one.refused:
            inside = [
                (max(a, one.began_ns), min(b, one.done_ns) + 1)
                for a, b in spans[lead]
                if a <= one.done_ns and b >= one.began_ns
            ]
            count += most_at_once(inside) < BUYERS
    return count


# --- SQLite's shared commits --------------------------------------------------------------


def commit(mode: str, goal: float, rounds: int) -> None:
    """One row updated by each of 64 threads, commits shared; the peer commits row by row."""
    with shops(SQLITE) as made, made.shop() as settings:
        engine = counters(settings, mode)
        name, about = f"commerce.shared_commit.{mode.lower()}", f"{THREADS} connections of sqlite3"
        raw = partial(alone, settings, mode)
        mine, _ = compared(
            name, rounds, partial(clients, THREADS, partial(sharing, engine), forking=False),
            partial(clients, THREADS, raw, forking=False), about, goal,
        )  # fmt: skip
        single = median(clients(1, raw, forking=False).rate for _ in range(rounds))
        line(f"{name}.one_connection", single, "/s of sqlite3 alone on the file", n=rounds)
        p95 = median(each.p95_ms for each in mine)
        line(f"{name}.p95", p95, "ms", goal="< 20 ms", ok=p95 < 20, n=len(mine))
        engine.dispose()


def counters(settings: Settings, mode: str = "FULL") -> Engine:
    """The shop's engine, with a row for each thread to count in."""
    engine = connect(settings, "commerce")
    with engine.begin() as connection:
        connection.exec_driver_sql("create table counter (number int primary key, value int)")
        for number in range(THREADS):
            connection.exec_driver_sql("insert into counter values (?, 0)", (number,))
    engine.dispose()

    @event.listens_for(engine, "connect")
    def _set(connection: Any, _record: Any) -> None:
        connection.execute(f"pragma synchronous={mode}")

    return engine


def sharing(engine: Engine, client: int) -> list[Call]:
    def one() -> None:
        with writing(engine) as connection:
            connection.exec_driver_sql(_COUNT, (client,))

    return [one] * ROWS


def alone(settings: Settings, mode: str, client: int) -> list[Call]:
    path = str(make_url(settings.url("commerce")).database)
    made = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    made.execute(f"pragma synchronous={mode}")

    def one() -> None:
        made.execute("begin immediate")
        made.execute(_COUNT, (client,))
        made.execute("commit")

    return [one] * ROWS


_COUNT = "update counter set value = value + 1 where number = ?"


def while_ingesting(rounds: int) -> None:
    """One row by each of 64 threads while another process ingests 100,000 listings at home."""
    with shops(SQLITE) as made, made.shop() as settings:
        engine = counters(settings)
        path = feed_payloads.redfin(settings.home / "listings.csv", LISTINGS)
        market = load_market("lucas", settings).name
        command = [sys.executable, str(HERE / "bench_feeds.py"), "redfin", str(path), market]
        blocks = []
        with subprocess.Popen([*command, str(settings.home)], stdout=subprocess.DEVNULL) as feed:
            while feed.poll() is None:
                blocks.append(clients(THREADS, partial(sharing, engine), forking=False))
        if feed.returncode:
            raise RuntimeError(f"the ingest ended with {feed.returncode}")
        latencies = Block(tuple(each for block in blocks for each in block.latencies), 1.0)
        p95, n = latencies.p95_ms, len(latencies.latencies)
        line(
            "commerce.shared_commit.p95_while_ingesting",
            p95,
            "ms",
            goal="< 20 ms",
            ok=p95 < 20,
            n=n,
        )
        engine.dispose()


# --- what is printed ----------------------------------------------------------------------


def line(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str = "",
    peer_value: float | None = None,
    ratio: float | None = None,
    goal: str = "",
    ok: bool | None = None,
    n: int = 0,
) -> None:
    """One line of a bench."""
    told = {
        "name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value,
        "ratio": ratio, "goal": goal, "ok": ok, "n": n,
    }  # fmt: skip
    print(json.dumps(told), flush=True)


def median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
