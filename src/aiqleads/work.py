"""The one background process: parses pushes, publishes, heals payments, delivers what was sold.

Every step may be cut off by a kill and done again: a push is waiting until what it holds is
stored, taking it in again changes nothing, a snapshot is in force or not, a sweep of
payments starts wherever they stand, and what was sent but not noted is sent again under its
id. A duty that fails, because the database is away say, keeps no other from its turn and is
tried again. One worker runs per home.
"""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import structlog
from sqlalchemy import Engine

from aiqleads.commerce import accruals, recharge
from aiqleads.commerce.consent import Register, settle
from aiqleads.commerce.delivery import Courier
from aiqleads.commerce.payments import Payments, open_payments
from aiqleads.commerce.reconcile import sweep
from aiqleads.errors import AIQLeadsError, InvalidInput, NotReady, Refused, why
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.feeds import Options, feed_options
from aiqleads.ingest.market import Market, load_market
from aiqleads.ingest.meta_answers import fetch
from aiqleads.ingest.payload import Payload, payload_of
from aiqleads.ingest.sources.meta_leads import leadgen_ids
from aiqleads.ingest.watch import broken, close_waiting
from aiqleads.recommend.publish import publish
from aiqleads.recommend.snapshot import Manifest, current_version, directory
from aiqleads.settings import Settings
from aiqleads.store import batches, consents, inbox, sources
from aiqleads.store.database import open_room, reader
from aiqleads.store.frames import frame_path
from aiqleads.store.inbox import Push
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rhythm:
    """How often each duty is done, in seconds; at_once: pushes that are parsed together."""

    interval: float = 1.0
    publish_every: float = 5.0
    sweep_every: float = 60.0
    settle_every: float = 60.0
    watch_every: float = 60.0
    deliver_every: float = 1.0
    beat_every: float = 5.0
    after_fault: float = 30.0
    at_once: int = 200


@dataclass(frozen=True)
class Done:
    """What was done. pushes: parsed; put_off: to be tried again; failed: given up.

    published: versions of snapshots. payments: brought to their end. delivered: events that
    arrived at agents' systems; undelivered: those given up. faults: duties, and payments, that
    failed and will be tried again.
    """

    pushes: int = 0
    put_off: int = 0
    failed: int = 0
    published: tuple[str, ...] = ()
    payments: int = 0
    delivered: int = 0
    undelivered: int = 0
    faults: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(
            self.pushes + other.pushes,
            self.put_off + other.put_off,
            self.failed + other.failed,
            self.published + other.published,
            self.payments + other.payments,
            self.delivered + other.delivered,
            self.undelivered + other.undelivered,
            self.faults + other.faults,
        )


@dataclass
class _Desk:
    """What the worker holds while it runs; `due`: when each duty comes next (monotonic s)."""

    settings: Settings
    vault: Vault
    leads: Engine
    commerce: Engine
    payments: Payments
    courier: Courier
    rhythm: Rhythm
    now_us: Callable[[], int]
    due: dict[str, float] = field(default_factory=dict)
    #: what could not be published, so that it is not tried for ever
    refused: str = ""

    def is_due(self, duty: str, every: float) -> bool:
        """Whether a duty's turn has come; its next one comes `every` seconds later."""
        now = time.monotonic()
        if now < self.due.get(duty, 0.0):
            return False
        self.due[duty] = now + every
        return True

    def beat(self, *, at_once: bool = False) -> None:
        """Says that the worker is alive; who cannot say so goes on working."""
        if not self.is_due("beat", self.rhythm.beat_every) and not at_once:
            return
        try:
            inbox.beat(self.vault, inbox.WORKER, self.now_us())
        except Refused as error:
            log.warning("no_heartbeat", why=error.detail)


def work(
    settings: Settings,
    *,
    once: bool = False,
    stop: threading.Event | None = None,
    rhythm: Rhythm | None = None,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Done:
    """Works until `stop` is set; once: until nothing is left whose turn it is.

    now_us: the wall clock. Refused `busy` where another worker runs under this home.
    """
    stop, rhythm = stop or threading.Event(), rhythm or Rhythm()
    total = Done()
    with _desk(settings, rhythm, now_us) as desk:
        log.info("work_begins", home=str(settings.home))
        while not stop.is_set():
            desk.beat()
            parsed = _tried("parse", lambda: _parse(desk))
            last = once and not parsed.pushes
            total += parsed + _others(desk, last=last)
            if last:
                break
            if not parsed.pushes:
                stop.wait(rhythm.interval)
        desk.beat(at_once=True)
    log.info("work_ends", pushes=total.pushes, failed=total.failed)
    return total


def _others(desk: _Desk, *, last: bool) -> Done:
    """Every duty but the parsing. last: the worker ends after this, so nothing is put off."""
    duties: dict[str, Callable[[], Done]] = {
        "watch": lambda: _watch(desk),
        "settle": lambda: _settle(desk),
        "publish": lambda: _publish(desk, at_once=last),
        "sweep": lambda: _heal(desk),
        "accrue": lambda: _accrue(desk),
        "recharge": lambda: _recharge(desk),
        "deliver": lambda: _deliver(desk, to_the_end=last),
    }
    return sum((_tried(name, duty) for name, duty in duties.items()), Done())


def _tried(name: str, duty: Callable[[], Done]) -> Done:
    """What a duty did; one that fails is logged, and its turn comes again."""
    try:
        return duty()
    except Exception as error:
        log.error("duty_failed", duty=name, why=why(error))
        return Done(faults=1)


@contextmanager
def _desk(settings: Settings, rhythm: Rhythm, now_us: Callable[[], int]) -> Iterator[_Desk]:
    settings.data.mkdir(parents=True, exist_ok=True)
    with (settings.data / "work.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            detail = f"another `aiqleads work` runs under {settings.home}"
            raise Refused("busy", detail) from error
        vault = Vault.open(settings)
        leads, commerce = open_room(settings, "leads"), open_room(settings, "commerce")
        payments = open_payments(settings)
        courier = Courier(settings, leads, commerce, vault, _time_zones(settings), now_us)
        try:
            yield _Desk(settings, vault, leads, commerce, payments, courier, rhythm, now_us)
        finally:
            courier.close()
            commerce.dispose()
            leads.dispose()
            vault.close()


# --- pushes ------------------------------------------------------------------------


def _parse(desk: _Desk) -> Done:
    """Takes in the pushes whose turn it is, those of one source and market together."""
    with reader(desk.leads).connect() as connection:
        states = sources.all_states(connection)
    closed = [name for name, now in states.items() if now.state != "active"]
    limit = desk.rhythm.at_once
    waiting = inbox.waiting(desk.vault, desk.now_us(), limit=limit, without=closed)
    groups: dict[tuple[str, str], list[Push]] = {}
    for push in waiting:
        groups.setdefault((push.source, push.market), []).append(push)
    done = Done()
    for (source, market), pushes in groups.items():
        done += _take(desk, source, market, pushes)
        desk.beat()
    return done


def _take(desk: _Desk, source: str, market_name: str, pushes: Sequence[Push]) -> Done:
    """Takes in pushes of one source; where they fail together, each alone."""
    try:
        options = feed_options(desk.settings).get(source, Options())
        market = load_market(market_name, desk.settings)
    except AIQLeadsError as error:
        return sum((_fail(desk, push, error.detail) for push in pushes), Done())
    done, opened = Done(), []
    for push in pushes:
        try:
            opened.append(_opened(push, options))
        except AIQLeadsError as error:
            done += _fail(desk, push, error.detail)
    return done + _ingest(desk, source, market, options, opened)


@dataclass(frozen=True)
class _Opened:
    """A push with the payload that it is; missing: why it is not all of it."""

    push: Push
    payload: Payload
    missing: str = ""


def _opened(push: Push, options: Options) -> _Opened:
    """The payload of a push: its body, or of a notification what it tells to fetch."""
    name = f"push-{push.delivery}"
    ids = leadgen_ids(push.body) if push.source == "meta_leads" else []
    if not ids:
        return _Opened(push, payload_of(push.body, name))
    answers = fetch(ids, options)
    missing = ", ".join(sorted(set(answers.missing)))
    if not answers.found:
        raise NotReady(f"no lead of the notification could be fetched: {missing}")
    body = json.dumps({"data": answers.found}, ensure_ascii=False).encode()
    return _Opened(push, payload_of(body, name), missing)


def _ingest(
    desk: _Desk, source: str, market: Market, options: Options, opened: Sequence[_Opened]
) -> Done:
    if not opened:
        return Done()
    payloads = [each.payload for each in opened]
    try:
        ingest(desk.settings, source, payloads, market, now_us=desk.now_us(), options=options)
    except Refused as error:
        # Paused meanwhile, or the database is busy: no fault of the pushes, which wait on.
        log.info("pushes_wait", source=source, pushes=len(opened), kind=error.kind)
        return Done()
    except Exception as error:
        if len(opened) > 1:
            alone = (_ingest(desk, source, market, options, [each]) for each in opened)
            return sum(alone, Done())
        return _fail(desk, opened[0].push, why(error))
    return sum((_finish(desk, source, market, each) for each in opened), Done())


def _finish(desk: _Desk, source: str, market: Market, taken: _Opened) -> Done:
    """Notes what became of a push that was taken in."""
    with reader(desk.leads).connect() as connection:
        batch = batches.newest(connection, market.name, source, taken.payload.sha256)
    if batch is None or batch.state != "done":
        # Its source was stopped by a changed schema: the rest waits until it is resumed.
        return Done()
    if taken.missing:
        return _fail(desk, taken.push, f"not all leads could be fetched: {taken.missing}")
    inbox.done(desk.vault, taken.push, batch.batch_id, desk.now_us())
    return Done(pushes=1)


def _fail(desk: _Desk, push: Push, reason: str) -> Done:
    state = inbox.failed(desk.vault, push, reason, desk.now_us())
    log.warning(
        "push_not_parsed", source=push.source, delivery=push.delivery, reason=reason, state=state
    )
    return Done(failed=1) if state == "failed" else Done(put_off=1)


def _watch(desk: _Desk) -> Done:
    """Judges the schema of small pushes that have gathered long enough; a break stops."""
    if not desk.is_due("watch", desk.rhythm.watch_every):
        return Done()
    now_us = desk.now_us()
    with writing(desk.leads) as connection:
        for (market, source), findings in close_waiting(connection, now_us).items():
            for each in findings:
                log.warning("schema_changed", market=market, source=source, **vars(each))
            if reason := broken(findings):
                sources.stop(connection, source, reason, now_us)
    return Done()


# --- the snapshot ------------------------------------------------------------------


def _publish(desk: _Desk, *, at_once: bool) -> Done:
    """Publishes the market that is served when its leads, agents or sources have changed."""
    if not at_once and not desk.is_due("publish", desk.rhythm.publish_every):
        return Done()
    market = _served(desk.settings)
    if market is None:
        return Done()
    # Taken before anything is read: what changes meanwhile is published the next time.
    mark = _mark(desk, market)
    duty = f"publish:{market.name}"[:40]
    before = inbox.last_beat(desk.vault.engine, duty)
    if mark in (desk.refused, before[1] if before else None):
        return Done()
    as_of_us = market.as_of_us or desk.now_us()
    try:
        version = publish(desk.settings, market.name, as_of_us)
    except Refused:
        raise  # the database is busy: no fault of what was to be published
    except AIQLeadsError as error:
        desk.refused = mark
        log.warning("not_published", market=market.name, reason=error.detail)
        return Done()
    except Exception as error:
        desk.due["publish"] = time.monotonic() + desk.rhythm.after_fault
        log.error("publish_failed", market=market.name, why=why(error))
        return Done()
    inbox.beat(desk.vault, duty, desk.now_us(), mark)
    desk.due["publish"] = time.monotonic() + desk.rhythm.publish_every
    return Done(published=(version,))


def _served(settings: Settings) -> Market | None:
    """The market in force; before the first snapshot, a live one that pushes come into.

    One market is served at a time, and a push into another must not take its place.
    """
    try:
        path = directory(settings) / current_version(settings) / "manifest.json"
        return load_market(Manifest.from_json(path.read_text()).market, settings)
    except NotReady:
        pushed = {each.market for each in feed_options(settings).values() if each.market}
        return next(filter(None, (_live(settings, name) for name in sorted(pushed))), None)
    except (InvalidInput, OSError):
        return None


def _live(settings: Settings, name: str) -> Market | None:
    """A market with a wall clock that has leads and agents; None for any other."""
    try:
        market = load_market(name, settings)
    except InvalidInput:
        return None
    frames = [frame_path(settings, market.name, each) for each in ("leads", "agents")]
    return market if market.clock == "wall" and all(each.is_file() for each in frames) else None


def _mark(desk: _Desk, market: Market) -> str:
    """What a snapshot depends on, in short: it changes when one would differ."""
    parts = []
    for name in ("leads", "agents"):
        path = frame_path(desk.settings, market.name, name)
        stat = path.stat() if path.is_file() else None
        parts.append(f"{stat.st_mtime_ns}-{stat.st_size}" if stat else "none")
    with reader(desk.leads).connect() as connection:
        parts.append(str(sources.last_change_us(connection)))
        parts.append(str(consents.last_change_us(connection)))
    return " ".join(parts)


# --- consents and payments ---------------------------------------------------------


def _settle(desk: _Desk) -> Done:
    """Closes what is still open of people who are not to be sold, and tells their buyers."""
    if not desk.is_due("settle", desk.rhythm.settle_every):
        return Done()
    if found := settle(desk.leads, desk.commerce, desk.now_us()):
        log.info("consents_settled", leads=found)
    return Done()


def _accrue(desk: _Desk) -> Done:
    """Posts what sources and taxes are owed of the sales since the last time."""
    if not desk.is_due("accrue", desk.rhythm.settle_every):
        return Done()
    terms = accruals.terms_of(desk.settings, accruals.markets_of(desk.commerce))
    if found := accruals.accrue(desk.commerce, desk.leads, terms, desk.now_us()):
        log.info("accrued", orders=found)
    return Done()


def _heal(desk: _Desk) -> Done:
    """Brings open payments to their end."""
    if not desk.is_due("sweep", desk.rhythm.sweep_every):
        return Done()
    found = sweep(
        desk.commerce,
        desk.payments,
        desk.now_us(),
        progress=lambda _attempt: desk.beat(),
        register=Register(desk.leads),
    )
    return Done(payments=found.healed + found.strays, faults=found.failed)


def _recharge(desk: _Desk) -> Done:
    """Fills the wallets that ask for it."""
    if desk.is_due("recharge", desk.rhythm.sweep_every):
        recharge.run(desk.commerce, desk.payments, desk.now_us())
    return Done()


# --- delivery ----------------------------------------------------------------------


def _time_zones(settings: Settings) -> Callable[[str], str | None]:
    """Time zone of a market by its name, None for one that nobody knows any more."""

    @lru_cache
    def timezone_of(market: str) -> str | None:
        try:
            return load_market(market, settings).timezone
        except InvalidInput:
            return None

    return timezone_of


def _deliver(desk: _Desk, *, to_the_end: bool) -> Done:
    """Begins what is due to be sent; it goes on in threads, unless it is waited for here."""
    if not to_the_end and not desk.is_due("deliver", desk.rhythm.deliver_every):
        return Done()
    while desk.courier.start() and to_the_end:
        desk.courier.drain()
        desk.beat()
    found = desk.courier.taken()
    return Done(delivered=found.arrived, undelivered=found.dead)
