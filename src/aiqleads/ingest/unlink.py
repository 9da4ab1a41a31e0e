"""Takes a link between two submissions back, in the store and in the market's frames."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import select

from aiqleads.errors import UnknownName
from aiqleads.ingest.linkage import undo
from aiqleads.settings import Settings
from aiqleads.store.database import open_room, reader
from aiqleads.store.frames import market_lock, store_frame
from aiqleads.store.tables import lead, submission
from aiqleads.store.transactions import writing


@dataclass(frozen=True)
class Unlinked:
    """Which lead each of the two submissions belongs to now."""

    a: str
    b: str


def undo_link(settings: Settings, a: str, b: str, *, now_us: int | None = None) -> Unlinked:
    """The two submissions stay apart from now on; the frames say so too.

    now_us: wall clock (default: the machine's). UnknownName where the two are not linked.
    """
    at_us = time.time_ns() // 1000 if now_us is None else now_us
    engine = open_room(settings, "leads")
    where = (
        select(submission.c.submission_id, submission.c.lead_id, lead.c.market)
        .join(lead)
        .where(submission.c.submission_id.in_((a, b)))
    )
    try:
        with reader(engine).connect() as connection:
            markets = {row.market for row in connection.execute(where)}
        if not markets:
            raise UnknownName(f"no submissions {a!r} and {b!r}")
        market = min(markets)
        with market_lock(settings, market):
            with writing(engine) as connection:
                undo(connection, a, b, at_us)
                now = {row.submission_id: row.lead_id for row in connection.execute(where)}
            for frame in ("leads", "submissions"):
                store_frame(settings, engine, market, frame)
    finally:
        engine.dispose()
    return Unlinked(now[a], now[b])
