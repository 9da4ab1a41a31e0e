"""One run of the intake: what it works with, how batches begin, go on and end.

A batch grows by chunks, each in a transaction of its own with the batch's counts. What
else must outlive a kill stands in `unfinished.json` beside the market's frames: which
batches the run has touched and which frames are older than the store. The next run goes
on from there: a payload whose batch is named there is not a new batch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from sqlalchemy import Connection, Engine

from aiqleads.contracts import lead_feed, listing_feed, sale_feed, series_feed
from aiqleads.errors import InvalidInput
from aiqleads.geo.utm import find_crs
from aiqleads.ingest.feeds import Feed, Options, feed_options
from aiqleads.ingest.ids import BUYERS, REPEATS
from aiqleads.ingest.market import Market, remember_market, remembered_crs
from aiqleads.ingest.payload import Payload
from aiqleads.ingest.prices import UsualPrices
from aiqleads.ingest.raw import keep_raw
from aiqleads.ingest.source import Source
from aiqleads.ingest.sources import source_named
from aiqleads.settings import Settings
from aiqleads.store import batches as store
from aiqleads.store import sources
from aiqleads.store.database import open_room, reader
from aiqleads.store.frames import market_dir, store_frame
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

CONTRACTS = {
    "lead": lead_feed.CONTRACT_VERSION,
    "listing": listing_feed.CONTRACT_VERSION,
    "sale": sale_feed.CONTRACT_VERSION,
    "series": series_feed.CONTRACT_VERSION,
}


@dataclass(frozen=True)
class Counts:
    """What became of input rows that held; incomplete ones are inside accepted."""

    accepted: int = 0
    incomplete: int = 0
    updated: int = 0
    duplicates: int = 0

    @property
    def rows(self) -> int:
        """How many rows they are."""
        return self.accepted + self.updated + self.duplicates


@dataclass(frozen=True)
class Open:
    """The batches of one payload that is being taken in.

    ids: source -> batch; a source of sales has two more for the people it invents.
    rows_read: records that earlier runs took in. number: the payload's how-manieth batch.
    """

    ids: dict[str, str]
    rows_read: int
    number: int


@dataclass
class Run:
    """What every step of one `ingest` works with. now_us: wall clock, UTC microseconds."""

    settings: Settings
    engine: Engine
    vault: Vault
    source: Source
    market: Market
    options: Options
    now_us: int
    seconds: dict[str, float] = field(default_factory=dict)
    prices: UsualPrices | None = None
    _crs: str | None = None

    @property
    def feed(self) -> Feed:
        """What a parser is told."""
        return Feed(self.market, self.options, self.now_us)

    @property
    def cost_cents(self) -> int:
        """Of one accepted lead."""
        stated = self.options.cost_cents
        return self.source.cost_cents if stated is None else stated

    @property
    def invents(self) -> bool:
        """Whether the rows stand in for people."""
        return self.source.kind == "sale" and self.market.leads.stand_in

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds the seconds of what is done inside to those of that step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + taken

    def crs(self, lon: pd.Series, lat: pd.Series) -> str:
        """The market's plane system: stated, the one its leads are in, or found from these.

        InvalidInput where none is known and no point is, or where the market file now
        says another one than before.
        """
        if self._crs is None:
            stored, stated = remembered_crs(self.settings, self.market.name), self.market.crs
            if stated is not None and stored not in (None, stated):
                raise InvalidInput(
                    f"market {self.market.name} is stored in {stored}, its file now says "
                    f"{stated}: give the market another name"
                )
            known = lon.between(-180, 180) & lat.between(-90, 90)
            self._crs = stated or stored or find_crs(lon[known].to_numpy(), lat[known].to_numpy())
        return self._crs

    def remember(self) -> None:
        """Keeps the market beside its frames, with the plane system as far as it is known."""
        crs = self._crs or remembered_crs(self.settings, self.market.name) or self.market.crs
        remember_market(self.settings, self.market.model_copy(update={"crs": crs}))


@contextmanager
def opened_run(
    settings: Settings,
    source: str,
    market: Market,
    options: Options | None = None,
    now_us: int | None = None,
    seconds: dict[str, float] | None = None,
) -> Iterator[Run]:
    """A run with its rooms open. options: default the feed file's; now_us: the machine's.

    UnknownName for the source; Refused `source-paused` where it is paused or stopped.
    """
    known = source_named(source)
    chosen = options or feed_options(settings).get(source) or Options()
    at_us = time.time_ns() // 1000 if now_us is None else now_us
    engine, vault = open_room(settings, "leads"), Vault.open(settings)
    try:
        with reader(engine).connect() as connection:
            sources.require_active(connection, source)
        taken = {} if seconds is None else seconds
        yield Run(settings, engine, vault, known, market, chosen, at_us, taken)
    finally:
        vault.close()
        engine.dispose()


class Unfinished:
    """Batches that a run has touched, and frames that the store is ahead of."""

    def __init__(self, settings: Settings, market: str) -> None:
        """What the last run left behind, if it was killed."""
        self._file = market_dir(settings, market) / "unfinished.json"
        left = _read(self._file)
        self.before = frozenset(left.get("batches", ()))
        self._batches: list[str] = []
        self.frames: list[str] = list(left.get("frames", ()))

    def add(self, batch_ids: Sequence[str], frames: Sequence[str]) -> None:
        """Notes, before anything of them is stored, what is about to change."""
        self._batches += batch_ids
        self.frames = list(dict.fromkeys([*self.frames, *frames]))
        part = self._file.with_suffix(".part")
        left = {"batches": sorted({*self.before, *self._batches}), "frames": self.frames}
        with part.open("w", encoding="utf-8") as out:
            json.dump(left, out)
            out.flush()
            os.fsync(out.fileno())
        part.replace(self._file)

    def bring_up(self, run: Run) -> None:
        """Writes the frames as the store has them now; then nothing is left to be done."""
        for name in self.frames:
            store_frame(run.settings, run.engine, run.market.name, name)
        self._file.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def frames_of(run: Run) -> tuple[str, ...]:
    """The frames that a run's rows change."""
    if run.source.kind == "lead":
        return ("leads", "submissions")
    if run.source.kind == "sale":
        return ("sales", "leads", "submissions")
    return ()


def resumable(run: Run, payload: Payload, unfinished: Unfinished) -> Open | None:
    """The batch of a payload that an earlier run did not bring to its end."""
    with run.engine.connect() as connection:
        last = store.newest(connection, run.market.name, run.source.name, payload.sha256)
    if last is None or (last.state == "done" and last.batch_id not in unfinished.before):
        return None
    number = int(last.batch_id.rpartition("-")[2])
    return Open(_ids(run, payload.sha256, f"-{number:03d}"), last.rows_read, number)


def begin(run: Run, payload: Payload, unfinished: Unfinished) -> Open:
    """A new batch (of a stand-in: three) that has read nothing, and the payload kept."""
    with writing(run.engine) as connection:
        market, source = run.market.name, run.source.name
        number = store.next_number(connection, market, source, payload.sha256)
        opened = Open(_ids(run, payload.sha256, f"-{number:03d}"), 0, number)
        unfinished.add(list(opened.ids.values()), frames_of(run))
        keep_raw(connection, run.vault, run.settings, source, payload, run.now_us)
        path = str(payload.path or payload.name)
        store.begin(connection, _rows(run, opened, path, payload.sha256))
    return opened


def begin_replay(
    connection: Connection, run: Run, payload: Payload, unfinished: Unfinished
) -> Open:
    """A batch for rows of a payload that hold by now, in the caller's transaction."""
    sha256 = payload.sha256
    number = store.next_number(connection, run.market.name, run.source.name, sha256)
    opened = Open(_ids(run, sha256, f"{store.REPLAY}{number:03d}"), 0, number)
    unfinished.add(list(opened.ids.values()), frames_of(run))
    store.begin(connection, _rows(run, opened, payload.name, sha256))
    return opened


def resume(run: Run, opened: Open, unfinished: Unfinished) -> None:
    """The batches are open again."""
    unfinished.add(list(opened.ids.values()), frames_of(run))
    with writing(run.engine) as connection:
        store.end(connection, opened.ids.values(), "open")


def count(
    connection: Connection, run: Run, opened: Open, counts: dict[str, Counts], quarantined: int
) -> None:
    """Adds a chunk's rows to the batches that they are of."""
    for source, of in {run.source.name: Counts(), **counts}.items():
        own = source == run.source.name
        bad = quarantined if own else 0
        numbers = {**vars(of), "rows_read": of.rows + bad, "quarantined": bad}
        cost = run.cost_cents * of.accepted if own and run.source.kind == "lead" else 0
        store.count(connection, opened.ids[source], numbers, cost)


def _ids(run: Run, sha256: str, end: str) -> dict[str, str]:
    names = [run.source.name, *((BUYERS, REPEATS) if run.invents else ())]
    return {name: f"{name}-{sha256[:12]}{end}" for name in names}


def _rows(run: Run, opened: Open, path: str, sha256: str) -> list[dict[str, object]]:
    return [
        {
            "batch_id": batch_id,
            "source": source,
            "market": run.market.name,
            "path": path,
            "payload_sha256": sha256,
            "contract_version": CONTRACTS[run.source.kind],
            "ingested_us": run.now_us,
        }
        for source, batch_id in opened.ids.items()
    ]
