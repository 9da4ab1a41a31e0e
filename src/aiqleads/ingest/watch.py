"""Watches the schema of every feed: each part of a payload against the batches before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

import pandas as pd
from sqlalchemy import Connection

from aiqleads.contracts.schema_drift import Baseline, Finding, compare
from aiqleads.contracts.schema_profile import Profile, profile
from aiqleads.ingest.payload import RAGGED
from aiqleads.ingest.trees import flatten, sampled
from aiqleads.store.schema import (
    History,
    Kept,
    adopt,
    all_opened,
    drop,
    history,
    keep,
    keep_findings,
    opened,
    past_of,
)

#: rows that close a profile; microseconds after which ENOUGH rows do
FULL, PATIENCE_US, ENOUGH = 500, 15 * 60 * 1_000_000, 50
#: the only column of a chunk of trees (records of JSON or XML, mails, pages)
_RECORD = "record"


def check(
    connection: Connection,
    market: str,
    source: str,
    batch_id: str,
    part: int,
    given: pd.DataFrame,
    columns: Mapping[str, str],
    now_us: int,
    *,
    required: Collection[str] = (),
) -> list[Finding]:
    """What changed in the schema of a part of a batch; keeps its profile and the findings.

    connection: a transaction on the leads room. part: the part's number in its batch, from 0
    or 1 up by one. given: the rows of a chunk as they came, of a table or of trees. columns:
    kind of each column's values (number, text, date, empty). required: columns without
    which the source cannot be read; severity 'break' is theirs alone.

    The baseline are the earlier batches, never other parts of the same one, which may be
    sorted. The first batch of a source has none: nothing is found, its profiles are kept. A
    part of FULL rows is a profile of its own; smaller ones gather until FULL rows are
    there, or PATIENCE_US went by with ENOUGH. Of ENOUGH rows on a part is judged at once as
    well, and a table's header always.
    """
    now = _profile(given, columns)
    if not now.rows:
        return []
    wanted = frozenset(required)
    adopt(connection, market, source)
    waiting = _still_open(connection, market, source, now, now_us)
    baseline = _baseline(history(connection, market, source, besides=batch_id))
    found: list[Finding] = []
    if now.header or now.rows >= ENOUGH:
        large = now.rows >= ENOUGH
        found = compare(baseline, now, wanted, now_us, statistics=large)
    kept = Kept(batch_id, part, now_us, now.rows >= FULL, now, _severities(found), required=wanted)
    if not kept.closed and waiting is not None:
        kept, more = _gathered(waiting, kept, baseline, now_us)
        found = _first_of_each(found + more)
    keep(connection, market, source, _pruned(kept))
    keep_findings(connection, market, source, batch_id, part, found, now_us)
    return found


def broken(findings: Iterable[Finding]) -> str:
    """Why a source cannot be read any more, in words; '' where nothing breaks it."""
    breaks = (each for each in findings if each.severity == "break")
    return "; ".join(f"{each.column}: {each.detail}" for each in breaks)


def close_waiting(connection: Connection, now_us: int) -> dict[tuple[str, str], list[Finding]]:
    """Closes and judges what has gathered for PATIENCE_US: (market, source) -> findings."""
    found = {}
    for market, source in all_opened(connection, now_us - PATIENCE_US):
        waiting = opened(connection, market, source)
        if waiting is not None and waiting.profile.rows >= ENOUGH:
            found[market, source] = _close(connection, market, source, waiting, now_us)
    return found


def _profile(given: pd.DataFrame, columns: Mapping[str, str]) -> Profile:
    """Of a table all columns; of trees the scalar fields, under dotted names, of a sample."""
    if list(given.columns) != [_RECORD]:
        table = given
        if RAGGED in given.columns:
            table = given[given[RAGGED].isna()].drop(columns=RAGGED)
        return profile(table, columns)
    picked = sampled(given[_RECORD].tolist())
    fields = pd.DataFrame.from_records([flatten(record) for record in picked])
    # A source leaves out of `columns` what must not be looked at, such as a key in the body.
    fields = fields[[name for name in fields if name in columns or not columns]]
    seen = profile(fields.astype(object), columns, header=False)
    return Profile(len(given), False, seen.columns)


def _still_open(
    connection: Connection, market: str, source: str, now: Profile, now_us: int
) -> Kept | None:
    """The open profile that the part may join; one that has waited or differs is closed."""
    waiting = opened(connection, market, source)
    if waiting is None:
        return None
    alike = not now.header or now.columns.keys() == waiting.profile.columns.keys()
    patient = waiting.at_us + PATIENCE_US > now_us or waiting.profile.rows < ENOUGH
    if alike and patient and waiting.profile.header == now.header:
        return waiting
    if waiting.profile.rows >= ENOUGH:
        _close(connection, market, source, waiting, now_us)
    else:
        drop(connection, market, source, waiting.batch_id, waiting.part)
    return None


def _close(
    connection: Connection, market: str, source: str, waiting: Kept, now_us: int
) -> list[Finding]:
    """Judges a profile that gathered rows and makes it part of the baseline."""
    baseline = _baseline(history(connection, market, source, besides=waiting.batch_id))
    found = compare(baseline, waiting.profile, waiting.required, waiting.at_us)
    drifted = {**waiting.drifted, **_severities(found)}
    closed = Kept(**{**vars(waiting), "closed": True, "drifted": drifted})
    keep(connection, market, source, _pruned(closed))
    keep_findings(connection, market, source, waiting.batch_id, waiting.part, found, now_us)
    return found


def _gathered(
    waiting: Kept, kept: Kept, baseline: Baseline, now_us: int
) -> tuple[Kept, list[Finding]]:
    """The open profile with one more part, judged where that fills it."""
    both = waiting.profile.merged(kept.profile)
    full = both.rows >= FULL
    found = compare(baseline, both, kept.required, now_us) if full else []
    drifted = {**waiting.drifted, **kept.drifted, **_severities(found)}
    made = Kept(
        waiting.batch_id, waiting.part, waiting.at_us, full, both, drifted,
        required=kept.required,
    )  # fmt: skip
    return made, found


def _pruned(kept: Kept) -> Kept:
    return Kept(**{**vars(kept), "profile": kept.profile.closed()}) if kept.closed else kept


def _severities(found: list[Finding]) -> dict[str, str]:
    severities: dict[str, str] = {}
    for finding in found:
        if severities.get(finding.column) != "break":
            severities[finding.column] = finding.severity
    return severities


def _first_of_each(found: list[Finding]) -> list[Finding]:
    return list({(each.column, each.kind): each for each in reversed(found)}.values())[::-1]


@lru_cache(maxsize=16)
def _baseline(found: History) -> Baseline:
    """The baseline of stored profiles; the same ones serve every part of a batch."""
    return Baseline.of(past_of(found))
