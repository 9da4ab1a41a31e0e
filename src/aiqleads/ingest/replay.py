"""Rows in quarantine, tried again with today's parsers and contracts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aiqleads.errors import ContractBroken
from aiqleads.ingest.batches import Run, Unfinished, begin_replay, count, opened_run
from aiqleads.ingest.chunks import Ready, keep, prepare
from aiqleads.ingest.market import load_market
from aiqleads.ingest.payload import Chunk, Payload
from aiqleads.ingest.raw import open_raw
from aiqleads.settings import Settings
from aiqleads.store import batches as store
from aiqleads.store.database import open_room, reader
from aiqleads.store.frames import market_lock
from aiqleads.store.transactions import writing


@dataclass(frozen=True)
class Replayed:
    """What became of the rows of quarantine: tried = held + those that break a rule still.

    batches: the new ones that hold them, by the batch that they are from.
    """

    tried: int
    held: int
    batches: dict[str, list[str]]


def replay(
    settings: Settings, batch_id: str | None = None, *, now_us: int | None = None
) -> Replayed:
    """Tries the rows of one batch's quarantine, or of all; those that hold are taken in.

    They are read from the payload as it was kept. now_us: wall clock (default: the
    machine's). UnknownName for the batch; Refused for a source that is paused.
    """
    engine = open_room(settings, "leads")
    try:
        with reader(engine).connect() as connection:
            if batch_id is not None:
                store.find(connection, batch_id)
            waiting = store.quarantined_rows(connection, batch_id)
            of = {name: store.find(connection, name) for name in waiting}
    finally:
        engine.dispose()
    tried, held, made = 0, 0, {}
    for name, rows in waiting.items():
        market = load_market(of[name].market, settings)
        with (
            opened_run(settings, of[name].source, market, now_us=now_us) as run,
            market_lock(settings, market.name),
        ):
            into, taken = _replay_batch(run, of[name], set(rows))
        tried, held = tried + len(rows), held + taken
        if into:
            made[name] = into
    return Replayed(tried, held, made)


def _replay_batch(run: Run, batch: store.Batch, rows: set[int]) -> tuple[list[str], int]:
    """The new batches (one a chunk that holds such rows) and how many rows went in."""
    unfinished = Unfinished(run.settings, run.market.name)
    into, taken = [], 0
    with reader(run.engine).connect() as connection:
        sha256, source = batch.payload_sha256, run.source.name
        payload = open_raw(run.settings, run.vault, connection, sha256, source)
    for chunk in payload.chunks(run.source.records):
        wanted = chunk.rows.index[chunk.rows.index.isin(list(rows))]
        if not len(wanted):
            continue
        try:
            ready = prepare(run, _only(chunk, wanted.to_numpy()))
        except ContractBroken:  # not one of them can be read yet
            continue
        if len(ready.held):
            into.append(_store(run, batch, payload, ready, unfinished))
            taken += len(ready.held)
    if unfinished.frames:
        unfinished.bring_up(run)
    return into, taken


def _only(chunk: Chunk, numbers: np.ndarray) -> Chunk:
    """Some rows of a chunk, never taken for a payload's start: most of those hold."""
    inside = chunk.rows.index.isin(numbers)
    return replace(
        chunk,
        first_row=max(2, int(numbers[0])),
        rows=chunk.rows[inside],
        spans=chunk.spans[inside],
        ragged=tuple(each for each in chunk.ragged if each in set(numbers.tolist())),
    )


def _store(
    run: Run, batch: store.Batch, payload: Payload, ready: Ready, unfinished: Unfinished
) -> str:
    """One transaction: the rows, their batch, and the word that they went in."""
    with writing(run.engine) as connection:
        opened = begin_replay(connection, run, payload, unfinished)
        count(connection, run, opened, keep(connection, run, opened, ready), 0)
        store.end(connection, opened.ids.values(), "done")
        own = opened.ids[run.source.name]
        store.replayed(connection, batch.batch_id, ready.held.tolist(), own)
    return own
