"""Clients race for leads and for the last place under their limits; a judge hears what all
were told.

    race_commerce.py [attempts] [limit races] [databases]

attempts: holds and purchases on few leads with few slots, for each database (sqlite,
postgresql; given as one word with a comma). limit races: clients that compete for the last
places of one agent (live holds, leads or cents in a span of time, the wallet); one is counted
where calls overlapped, somebody won and somebody was refused.

The shop's clock is moved by each call, so that holds expire all the time. Several processes
with several threads call the public functions; the judge (commerce_recorder.py) has nothing
but their answers, and the invariants are asked at the end of each round. A naive shop, which
looks first and changes then, runs the same races and must be caught (`ok` is false where it
is not). Finished rounds are kept: a run that was killed goes on. Progress on stderr, a JSON
object as last line.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import pickle
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from commerce_recorder import End, Grant, Told, judge, most_at_once
from commerce_shops import DATABASES, Shops, add_agents, agreed, fill_wallets, forked, price, shops
from naive_shop import NaiveShop
from rounds import Rounds
from sqlalchemy import Engine, select

from aiqleads.commerce import caps, checkout, holds, invariants, slots, wallet
from aiqleads.commerce.holds import Hold, HoldLine
from aiqleads.commerce.payments import offline_payments
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.domain import ENTITLEMENTS, Tier
from aiqleads.errors import Refused
from aiqleads.settings import Settings
from aiqleads.store.caps import Cap
from aiqleads.store.database import connect, reader
from aiqleads.store.tables import lead_slot

#: (processes, threads of each): one SQLite file has a group commit in each process
CLIENTS = {"sqlite": (2, 12), "postgresql": (4, 1)}
HOT_ROUND, LIMIT_ROUND = 20_000, 2_000
NOW = 1_790_000_000_000_000
SECOND = 1_000_000
MONTH = 32 * 86_400 * SECOND
#: by so much each call moves the shop's clock: a cool-down is over after 90 of them
TICK = 20 * SECOND
#: of a round of the control, and how many it may take until it is caught
CONTROL_ATTEMPTS, CONTROL_CONTESTS, CONTROL_ROUNDS = 300, 32, 20
WALLET_CENTS = 1_000_000
_SHOWN = 5


class RealShop:
    """The public functions."""

    place = staticmethod(holds.place)
    release = staticmethod(holds.release)
    pay_by_wallet = staticmethod(checkout.pay_by_wallet)


SHOPS = {"real": RealShop, "naive": NaiveShop}


class Tickets:
    """Numbers from 0, each given once, to whichever client asks first."""

    def __init__(self) -> None:
        self._next = mp.get_context("fork").Value("q", 0)

    def take(self) -> int:
        with self._next.get_lock():
            number = int(self._next.value)
            self._next.value = number + 1
        return number

    @property
    def seen(self) -> int:
        return int(self._next.value)


@dataclass
class Record:
    """What one client, or all of them, did and was told."""

    told: Told = field(default_factory=Told)
    attempts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    calls: list[Call] = field(default_factory=list)

    def __iadd__(self, other: Record) -> Record:
        self.told += other.told
        self.attempts += other.attempts
        self.outcomes += other.outcomes
        self.calls += other.calls
        return self


@dataclass(frozen=True, slots=True)
class Call:
    """One contestant in a limit race; cents: of the order where it won."""

    race: int
    won: bool
    refused: bool
    cents: int
    began_ns: int
    done_ns: int


@dataclass
class Client:
    """One thread that calls the shop and writes down what it is told."""

    engine: Engine
    shop: Any
    random: random.Random
    record: Record = field(default_factory=Record)

    def place(
        self, who: str, lines: Sequence[HoldLine], mode: str, now: int, *, exclusive: bool = False
    ) -> tuple[Hold | None, str]:
        """A hold, or none and why not."""
        began, made, told = time.monotonic_ns(), None, "held"
        try:
            made = self.shop.place(self.engine, who, lines, mode, now, exclusive=exclusive)
        except Refused as no:
            told = no.kind
        done = time.monotonic_ns()
        self.record.attempts += 1
        self.record.outcomes[told] += 1
        for item in made.items if made is not None else ():
            slot = (item.lead_id, item.slot, item.token)
            times = (now, item.granted_us, item.expires_us, began, done)
            self.record.told.grants.append(Grant(*slot, who, exclusive, *times))
        return made, told

    def buy(self, who: str, held: Hold, now: int) -> tuple[int | None, str]:
        """What an order cost, or none and why not."""
        began = time.monotonic_ns()
        self.record.attempts += 1
        try:
            order = self.shop.pay_by_wallet(self.engine, who, [held.hold_id], now)
        except Refused as no:
            self.record.outcomes[no.kind] += 1
            return None, no.kind
        done = time.monotonic_ns()
        self.record.outcomes["bought"] += 1
        for item in order.items:
            key = (item.lead_id, item.slot, item.token)
            end = End(key, who, "sold", now, began, done, order.order_id)
            self.record.told.ends.append(end)
        return order.amount_cents, "bought"

    def release(self, who: str, held: Hold, now: int) -> None:
        """Gives each lead of a hold back, one call a lead; no attempt of its own."""
        for item in held.items:
            began = time.monotonic_ns()
            given = self.shop.release(self.engine, who, held.hold_id, now, lead_id=item.lead_id)
            done = time.monotonic_ns()
            if given:
                key = (item.lead_id, item.slot, item.token)
                self.record.told.ends.append(End(key, who, "released", now, began, done))


Play = Callable[[Client, Tickets, list[Any]], None]


def run_clients(settings: Settings, database: str, shop: str, seed: str, play: Play) -> Record:
    """All clients of a round at once; what they did, together.

    play: what a client does until the tickets are used up; the list is shared by the
    threads of one process.
    """
    processes, threads = CLIENTS[database]
    tickets = Tickets()

    def process(number: int) -> None:
        engine, shelf, made = connect(settings, "commerce"), [], SHOPS[shop]()
        clients = [
            Client(engine, made, random.Random(f"{seed}-{number}-{thread}"))
            for thread in range(threads)
        ]
        failures: list[BaseException] = []

        def thread(client: Client) -> None:
            try:
                play(client, tickets, shelf)
            except BaseException as problem:
                failures.append(problem)

        running = [threading.Thread(target=thread, args=(client,)) for client in clients]
        for each in running:
            each.start()
        for each in running:
            each.join()
        engine.dispose()
        if failures:
            raise failures[0]
        whole = Record()
        for client in clients:
            whole += client.record
        (settings.home / f"told-{number}").write_bytes(pickle.dumps(whole))

    forked(processes, process)
    record = Record()
    for number in range(processes):
        record += pickle.loads((settings.home / f"told-{number}").read_bytes())
    return record


# --- the hot leads -----------------------------------------------------------------

AGENTS = [(f"A{i:03}", "enterprise" if i % 2 else "pro") for i in range(40)]
#: leads that are wanted at one time, and for how many calls each of them leads the row
WANTED, CALLS = 6, 60
#: holds of a bulk, chances of a call, and what becomes of a hold
_EXCLUSIVE, _BULK, _SHELF = 0.10, 0.10, 0.12
_BUY, _RELEASE, _KEEP = 0.08, 0.30, 0.55


def hot_round(made: Shops, database: str, shop: str, number: int, attempts: int) -> dict[str, Any]:
    """A fresh shop, `attempts` holds and purchases of leads that all clients want."""
    draw = random.Random(f"hot-{number}")
    buyers = {f"L{i:05}": draw.choice((1, 1, 2, 3)) for i in range(attempts // CALLS + WANTED + 1)}
    leads = list(buyers)
    with made.shop() as settings:
        engine = connect(settings, "commerce")
        add_agents(engine, AGENTS)
        slots.ensure(engine, buyers.items())
        engine.dispose()
        fill_wallets(settings, [who for who, _ in AGENTS], WALLET_CENTS, NOW)

        def play(client: Client, tickets: Tickets, shelf: list[tuple[str, Hold]]) -> None:
            while (ticket := tickets.take()) < attempts:
                hot_call(client, tickets, shelf, ticket, leads)

        began = time.perf_counter()
        record = run_clients(settings, database, shop, f"hot-{number}", play)
        seconds = time.perf_counter() - began
        found = judge(record.told, buyers)
        broken = settle(settings, record, NOW + 2 * attempts * TICK)
    return {
        "round": number,
        "attempts": record.attempts,
        "double_holds": len(found["double_holds"]),
        "double_sales": len(found["double_sales"]),
        "contradictions": len(found["contradictions"]),
        "held": len(record.told.grants),
        "sold": len(record.told.sold),
        "outcomes": dict(record.outcomes.most_common()),
        "broken": broken,
        "offenders": [each for of in found.values() for each in of[:_SHOWN]],
        "seconds": round(seconds, 2),
    }


def hot_call(
    client: Client, tickets: Tickets, shelf: list[tuple[str, Hold]], ticket: int, leads: list[str]
) -> None:
    """One turn of a client: a hold and what becomes of it, or a hold left by another thread."""
    draw, now = client.random, NOW + ticket * TICK
    chance = draw.random()
    if chance < _SHELF and shelf:
        # Left on the shelf half the time: two clients then buy or release one hold.
        who, held = draw.choice(shelf)
        if draw.random() < 0.5:
            client.buy(who, held, now)
        else:
            client.release(who, held, now)
        if draw.random() < 0.5:
            shelf[:] = [each for each in shelf if each[1] is not held]
        return
    first = ticket // CALLS
    wanted = leads[first : first + WANTED]
    exclusive = chance > 1 - _EXCLUSIVE
    bulk = 1 - _EXCLUSIVE - _BULK < chance <= 1 - _EXCLUSIVE
    chosen = draw.sample(wanted, draw.randint(2, 4) if bulk else 1)
    mode = draw.choice(("all_or_nothing", "best_effort"))
    # The life of the lead ends the hold, after some ten to a hundred calls of all clients.
    lines = [
        HoldLine(
            lead,
            price(100 + 10 * ticket % 400),
            now + draw.randint(10, 100) * TICK,
            # Clients' clocks are apart: found when the one that is furthest ahead has passed.
            agreed(lead, now + 100 * TICK),
        )
        for lead in chosen
    ]
    who, _ = draw.choice(AGENTS)
    held, _ = client.place(who, lines, mode, now, exclusive=exclusive)
    if held is None:
        return
    fate, later = draw.random(), NOW + tickets.seen * TICK
    if fate < _BUY:
        client.buy(who, held, later)
    elif fate < _RELEASE:
        client.release(who, held, later)
    elif fate < _KEEP:
        shelf.append((who, held))
        del shelf[:-20]


# --- the last place under a limit --------------------------------------------------

#: clients in one race; all but one, or one alone, can win
CONTESTANTS = 3
KINDS = ("live_holds", "leads", "spend", "wallet")
_OF_KIND = 100
_SPANS = ("hour", "day", "week", "month")
_REFUSALS = {
    "live_holds": "hold-limit-reached",
    "leads": "purchase-limit-reached",
    "spend": "purchase-limit-reached",
    "wallet": "insufficient-credits",
}
_SPEND_CENTS = 10_000


@dataclass(frozen=True)
class Race:
    """The race that a ticket is for. room: how many of its contestants may win."""

    number: int
    kind: str
    agent: int
    turn: int

    @classmethod
    def of(cls, number: int) -> Race:
        turn, agent = divmod(number // len(KINDS), _OF_KIND)
        return cls(number, KINDS[number % len(KINDS)], agent, turn)

    @property
    def room(self) -> int:
        return 1 + self.agent % (CONTESTANTS - 1)

    @property
    def who(self) -> str:
        return ("basic" if self.kind == "live_holds" else self.kind) + f"-{self.agent}"

    @property
    def now(self) -> int:
        """Live holds race at one moment; a span of time has passed before the next turn."""
        return NOW if self.kind == "live_holds" else NOW + self.turn * MONTH

    @property
    def cents(self) -> int:
        """Price of one lead, so that `room` of them fit and the next does not."""
        if self.kind == "spend":
            return _SPEND_CENTS // self.room - 100
        if self.kind == "wallet":
            # After each turn the winners have spent this share of what was left.
            share, left = 6 if self.room == 1 else 4, WALLET_CENTS
            for _ in range(self.turn):
                left -= self.room * (left * share // 10)
            return max(1, left * share // 10)
        return 200


def limit_round(made: Shops, database: str, shop: str, number: int, races: int) -> dict[str, Any]:
    """A fresh shop whose agents have place for one or two more, `races` times."""
    agents = sorted({(Race.of(i).who, Race.of(i).kind) for i in range(races)})
    base = {who: 10 - Race.of(i).room for i in range(races) for who in [Race.of(i).who]}
    buyers = {lead_of(race, i): 1 for race in range(races) for i in range(CONTESTANTS)}
    with made.shop() as settings:
        engine = connect(settings, "commerce")
        add_agents(
            engine, [(w, Tier.BASIC if kind == "live_holds" else Tier.PRO) for w, kind in agents]
        )
        fill_wallets(
            settings, [who for who, kind in agents if kind != "live_holds"], WALLET_CENTS, NOW
        )
        before = set_up(engine, agents, base, buyers, shop)
        engine.dispose()

        def play(client: Client, tickets: Tickets, _: list[Any]) -> None:
            kept: list[tuple[str, Hold]] = []
            while (ticket := tickets.take()) < races * CONTESTANTS:
                limit_call(client, Race.of(ticket // CONTESTANTS), ticket % CONTESTANTS, kept)

        began = time.perf_counter()
        record = run_clients(settings, database, shop, f"limit-{number}", play)
        seconds = time.perf_counter() - began
        record.told += before
        overrun = overruns(record, settings)
        broken = settle(settings, record, NOW)
    contested = real_races(record.calls)
    return {
        "round": number,
        "races": len(contested),
        "by_limit": dict(Counter(Race.of(race).kind for race in contested)),
        "contests": races,
        "attempts": record.attempts,
        "overruns": len(overrun),
        "outcomes": dict(record.outcomes.most_common()),
        "broken": broken,
        "offenders": overrun[:_SHOWN],
        "seconds": round(seconds, 2),
    }


def lead_of(race: int, contestant: int) -> str:
    return f"R{race}-{contestant}"


def set_up(
    engine: Engine, agents: Sequence[tuple[str, str]], base: dict[str, int], buyers: Any, shop: str
) -> Told:
    """Slots, caps, and holds that leave the agents of `live_holds` little room."""
    fixed = {f"B{who[6:]}-{i}": 1 for who, kind in agents if kind == "live_holds" for i in range(9)}
    slots.ensure(engine, {**buyers, **fixed}.items())
    client = Client(engine, RealShop, random.Random(0))
    for who, kind in agents:
        at = int(who.rpartition("-")[2])
        room, per = 1 + at % (CONTESTANTS - 1), _SPANS[at % len(_SPANS)]
        if kind == "live_holds":
            lines = [
                HoldLine(f"B{who[6:]}-{i}", price(200), consent=agreed("B", NOW))
                for i in range(base[who])
            ]
            for some in (lines[:5], lines[5:]):
                client.place(who, some, "all_or_nothing", NOW)
        elif kind != "wallet":
            cap = Cap(kind, per, room if kind == "leads" else _SPEND_CENTS)
            caps.put(engine, who, [cap], caps.Filters())
    return client.record.told


def limit_call(client: Client, race: Race, contestant: int, kept: list[tuple[str, Hold]]) -> None:
    """One contestant's try; what it won by holding it gives back two tries later."""
    lead = lead_of(race.number, contestant)
    line = HoldLine(lead, price(race.cents), consent=agreed(lead, race.now))
    began = time.monotonic_ns()
    held, told = client.place(race.who, [line], "all_or_nothing", race.now)
    cents = 0
    if race.kind == "live_holds":
        if held is not None:
            kept.append((race.who, held))
    elif held is not None:
        began = time.monotonic_ns()
        bought, told = client.buy(race.who, held, race.now)
        cents = bought or 0
    done = time.monotonic_ns()
    won, refused = told in ("held", "bought"), told == _REFUSALS[race.kind]
    client.record.calls.append(Call(race.number, won, refused, cents, began, done))
    if len(kept) > 2:
        who, over = kept.pop(0)
        client.release(who, over, NOW)


def real_races(calls: Sequence[Call]) -> list[int]:
    """Races in which calls overlapped, somebody won and somebody met the limit."""
    grouped: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        grouped[call.race].append(call)
    return [
        race
        for race, each in grouped.items()
        if any(call.won for call in each)
        and any(call.refused for call in each)
        and most_at_once((call.began_ns, call.done_ns) for call in each) > 1
    ]


def overruns(record: Record, settings: Settings) -> list[str]:
    """Limits that what was told goes beyond."""
    released = {end.key: end.began_ns for end in record.told.ends if end.how == "released"}
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for grant in record.told.grants:
        if grant.agent_id.startswith("basic"):
            until = released.get(grant.key, sys.maxsize)
            spans[grant.agent_id].append((grant.done_ns, until))
    allowed = ENTITLEMENTS[Tier.BASIC].live_holds
    found = [
        f"{who} held {most} leads at once, {allowed} are allowed"
        for who, held in spans.items()
        if (most := most_at_once(held)) > allowed
    ]
    orders: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    spent: Counter[str] = Counter()
    for call in record.calls:
        race = Race.of(call.race)
        if call.won and call.cents:
            orders[race.who, race.kind, race.turn].append(call.cents)
            spent[race.who] += call.cents
    for (who, kind, turn), cents in orders.items():
        room = 1 + int(who.rpartition("-")[2]) % (CONTESTANTS - 1)
        if kind == "leads" and len(cents) > room:
            found.append(f"{who} bought {len(cents)} leads in turn {turn}, its cap is {room}")
        if kind == "spend" and sum(cents) > _SPEND_CENTS:
            found.append(f"{who} spent {sum(cents)} in turn {turn}, its cap is {_SPEND_CENTS}")
    engine = connect(settings, "commerce")
    for who, cents_spent in spent.items():
        if cents_spent > WALLET_CENTS:
            found.append(f"{who} spent {cents_spent} of {WALLET_CENTS}")
        if wallet.balance(engine, who) != WALLET_CENTS - cents_spent:
            found.append(f"{who} was told that it spent {cents_spent}; its balance differs")
    engine.dispose()
    return found


# --- both --------------------------------------------------------------------------


def settle(settings: Settings, record: Record, now_us: int) -> list[str]:
    """What the database says against the answers, and the invariants that do not hold."""
    engine = connect(settings, "commerce")
    told = {(*end.key, end.order_id, end.agent_id) for end in record.told.sold}
    columns = ("lead_id", "slot", "token", "order_id", "agent_id")
    query = select(*(lead_slot.c[name] for name in columns)).where(lead_slot.c.state == "sold")
    with reader(engine).connect() as connection:
        stored = {tuple(row) for row in connection.execute(query)}
    broken = [f"told sold, is not: {each}" for each in sorted(told - stored)[:_SHOWN]]
    broken += [f"sold, nobody was told: {each}" for each in sorted(stored - told)[:_SHOWN]]
    payments = offline_payments(StandIn(settings.data / "stripe_standin.db"))
    for name, finding in invariants.check(engine, payments, now_us).items():
        if not finding.ok:
            broken.append(f"{name}: {finding.about}: {', '.join(finding.offenders)}")
    engine.dispose()
    return broken


def hot(
    made: Shops, database: str, shop: str, attempts: int, most: int = HOT_ROUND
) -> dict[str, Any]:
    """most: attempts of a round."""
    # A turn may find nothing left to do: a few more turns than attempts.
    size = min(attempts + attempts // 20, most)
    rounds = Rounds(f"race-{shop}-{database}-hot-{size}")
    while rounds.total("attempts") < attempts:
        rounds.add(hot_round(made, database, shop, len(rounds.done), size))
        show(f"{shop} on {database}", rounds, "attempts", attempts)
    return summary(rounds, ("attempts", "double_holds", "double_sales", "contradictions",
                            "held", "sold"))  # fmt: skip


def limit(
    made: Shops,
    database: str,
    shop: str,
    wanted: int,
    most: int = LIMIT_ROUND,
    counted: str = "races",
) -> dict[str, Any]:
    """most: contests of a round. counted: contests, whoever won, or those that were races."""
    size = min(max(wanted, 32), most)
    rounds = Rounds(f"race-{shop}-{database}-limit-{size}")
    while rounds.total(counted) < wanted:
        rounds.add(limit_round(made, database, shop, len(rounds.done), size))
        show(f"{shop} on {database}", rounds, counted, wanted)
    by_limit: Counter[str] = Counter()
    for done in rounds.done:
        by_limit.update(done["by_limit"])
    told = summary(rounds, ("races", "contests", "attempts", "overruns"))
    return {**told, "by_limit": dict(by_limit)}


def show(name: str, rounds: Rounds, counted: str, wanted: int) -> None:
    last, done = rounds.done[-1], rounds.total(counted)
    rate = round(last["attempts"] / last["seconds"])
    bad = [*last["broken"], *last["offenders"]][:1] or ""
    so_far = f"{name}: {done} of {wanted} {counted}"
    print(f"{so_far}, {rate} calls/s {bad}", file=sys.stderr, flush=True)


def summary(rounds: Rounds, names: Sequence[str]) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    for done in rounds.done:
        outcomes.update(done["outcomes"])
    return {
        **{name: rounds.total(name) for name in names},
        "rounds": len(rounds.done),
        "outcomes": dict(outcomes.most_common()),
        "broken": [each for done in rounds.done for each in done["broken"]][:_SHOWN],
        "offenders": [each for done in rounds.done for each in done["offenders"]][:_SHOWN],
        "seconds": round(rounds.total("seconds"), 1),
        "attempts_per_second": round(rounds.total("attempts") / rounds.total("seconds")),
    }


def is_clean(told: dict[str, Any]) -> bool:
    names = ("double_holds", "double_sales", "contradictions", "overruns", "broken")
    return not any(told.get(name) for name in names)


def main(
    attempts: int = 1_000_000, races: int = 100_000, databases: str = ",".join(DATABASES)
) -> int:
    result: dict[str, Any] = {"name": "commerce.races"}
    ok = True
    for database in databases.split(","):
        with shops(database) as made:
            hot_told = hot(made, database, "real", attempts)
            limit_told = limit(made, database, "real", races)
            caught = control(made, database)
        result[database] = {"hot": hot_told, "limits": limit_told, "control": caught}
        ok = ok and is_clean(hot_told) and is_clean(limit_told) and all(caught.values())
    told = [result[d][part] for d in databases.split(",") for part in ("hot", "limits")]
    result["seconds"] = round(sum(each["seconds"] for each in told), 1)
    result["ok"] = ok
    print(json.dumps(result))
    return int(not ok)


def control(made: Shops, database: str) -> dict[str, int]:
    """What the naive shop was caught at; it runs until each offence was seen."""
    caught: dict[str, int] = {}
    for rounds in range(1, CONTROL_ROUNDS + 1):
        attempts, contests = rounds * CONTROL_ATTEMPTS, rounds * CONTROL_CONTESTS
        told = hot(made, database, "naive", attempts, CONTROL_ATTEMPTS)
        told |= limit(made, database, "naive", contests, CONTROL_CONTESTS, "contests")
        caught = {name: told[name] for name in ("double_holds", "double_sales", "overruns")}
        if all(caught.values()):
            break
    return caught


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), *sys.argv[3:]))
