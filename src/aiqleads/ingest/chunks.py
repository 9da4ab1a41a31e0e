"""One chunk of a payload: parsed, checked, normalised, then stored in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import pandas as pd
import pandera.pandas as pa
from sqlalchemy import Connection

from aiqleads.contracts import lead_feed, listing_feed, series_feed
from aiqleads.contracts.promise import failures
from aiqleads.contracts.quarantine import Reject
from aiqleads.contracts.schema_drift import Finding
from aiqleads.errors import ContractBroken
from aiqleads.ingest import (
    keep_leads,
    keep_listings,
    keep_sales,
    keep_series,
    people,
    rejected,
    watch,
)
from aiqleads.ingest.batches import Counts, Open, Run, count
from aiqleads.ingest.payload import Chunk
from aiqleads.ingest.source import Parsed
from aiqleads.store import batches as store
from aiqleads.store import schema as drift
from aiqleads.store import sources
from aiqleads.store.transactions import writing

OnDrift = Literal["stop", "accept"]


@dataclass(frozen=True)
class Ready:
    """A chunk after all that needs no database.

    held: numbers of the rows that keep the contract. rows: those, normalised. invented:
    the submissions that stand in for people beside them, if any do.
    """

    chunk: Chunk
    parsed: Parsed
    held: pd.Index
    rows: pd.DataFrame
    rejects: list[Reject]
    invented: pd.DataFrame | None


def prepare(run: Run, chunk: Chunk) -> Ready:
    """Parses and checks a chunk; ContractBroken where it is not of this feed at all."""
    with run.step("parse"):
        parsed = run.source.parse(chunk, run.feed)
    return check(run, chunk, parsed)


def check(run: Run, chunk: Chunk, parsed: Parsed) -> Ready:
    """Splits parsed rows by the contract and normalises those that hold."""
    rows = parsed.rows.drop(index=parsed.problems["index"].unique().tolist(), errors="ignore")
    if run.source.kind == "lead":
        with run.step("normalise"):
            rows = people.clean(rows, run.market)
    with run.step("contract"):
        broken = failures(rows, _contract(run, rows))
        if broken["index"].isna().any():
            raise ContractBroken(
                f"{chunk.payload.name}: {broken['rule'].iloc[0]}; nothing was stored"
            )
        rejects = rejected.found_in(chunk, parsed, broken, rows)
        rejects += rejected.unread(chunk, parsed) if run.source.kind != "series" else []
        good = rows.drop(index=broken["index"].unique().tolist())
    bad = {each.row_number for each in rejects}
    held = chunk.rows.index[~chunk.rows.index.isin(list(bad))]
    with run.step("normalise"):
        normal, invented = _normalized(run, good)
    return Ready(chunk, parsed, held, normal, rejects, invented)


def _contract(run: Run, rows: pd.DataFrame) -> pa.DataFrameSchema:
    if run.source.kind == "sale":
        return keep_sales.schema(run, rows)
    if run.source.kind == "lead":
        return _lead_schema(not keep_leads.only_analysed(run))
    return _listing_schema() if run.source.kind == "listing" else _series_schema()


@cache
def _lead_schema(reachable: bool) -> pa.DataFrameSchema:
    return lead_feed.feed_schema(reachable=reachable)


_listing_schema = cache(listing_feed.feed_schema)
_series_schema = cache(series_feed.feed_schema)


def _normalized(run: Run, good: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    match run.source.kind:
        case "sale":
            homes = keep_sales.normalized(run, good)
            return homes, keep_sales.invented(run, homes)
        case "lead":
            return keep_leads.normalized(run, good), None
        case "listing":
            return keep_listings.normalized(run, good), None
        case "series":
            return keep_series.normalized(run, good), None


@dataclass(frozen=True)
class Stored:
    """What came of a chunk: what changed in the feed's schema, and why it stops here, or ''."""

    findings: list[Finding]
    stopped: str = ""


def store_chunk(run: Run, opened: Open, ready: Ready, part: int, on_drift: OnDrift) -> Stored:
    """Everything about a chunk in one transaction.

    Where the schema changed so that the source cannot be read, none of its rows are
    stored: the batch and the source are stopped.
    """
    chunk, own = ready.chunk, opened.ids[run.source.name]
    with writing(run.engine) as connection:
        with run.step("drift"):
            findings = watch.check(
                connection,
                run.market.name,
                run.source.name,
                own,
                part,
                chunk.rows,
                ready.parsed.columns,
                run.now_us,
                required=required_columns(run),
            )
            if on_drift == "accept" and findings:
                drift.accept(connection, run.market.name, run.source.name)
        reason = watch.broken(findings)
        if reason and on_drift == "stop":
            store.end(connection, opened.ids.values(), "stopped")
            sources.stop(connection, run.source.name, reason, run.now_us)
            return Stored(findings, reason)
        counts = keep(connection, run, opened, ready)
        numbers = (int(chunk.rows.index[0]), int(chunk.rows.index[-1]))
        with run.step("store"):
            sha256 = chunk.payload.sha256
            rejected.keep_rejects(connection, run, own, sha256, ready.rejects, numbers)
            bad = len(chunk.rows) - len(ready.held)
            count(connection, run, opened, counts, bad)
    return Stored(findings)


def keep(connection: Connection, run: Run, opened: Open, ready: Ready) -> dict[str, Counts]:
    """Stores the rows that hold, in the caller's transaction; counts by source."""
    match run.source.kind:
        case "sale":
            return keep_sales.keep(connection, run, opened, ready.rows, ready.invented)
        case "lead":
            return keep_leads.keep(connection, run, opened, ready.rows)
        case "listing":
            return keep_listings.keep(connection, run, opened, ready.rows)
        case "series":
            return keep_series.keep(connection, run, opened, ready.rows, ready.held)


def required_columns(run: Run) -> frozenset[str]:
    """Columns of the feed without which it cannot be read, as the market file maps them."""
    if not run.source.needed:
        return frozenset()
    theirs = getattr(run.market, run.source.section).columns
    names = [theirs[ours] for ours in run.source.needed if ours in theirs]
    return frozenset(
        each for name in names for each in ((name,) if isinstance(name, str) else name)
    )
