"""The one way in: payloads -> chunks -> contract -> links -> one transaction each -> frames."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiqleads.contracts.schema_drift import Finding
from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.ingest import watch
from aiqleads.ingest.batches import Open, Run, Unfinished, begin, opened_run, resumable, resume
from aiqleads.ingest.chunks import OnDrift, prepare, store_chunk
from aiqleads.ingest.columns import kinds
from aiqleads.ingest.feeds import Options
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import CHUNK_ROWS, Chunk, Payload, open_payload
from aiqleads.ingest.pull import pages
from aiqleads.ingest.source import Source
from aiqleads.settings import Settings
from aiqleads.store import batches as store
from aiqleads.store import sources
from aiqleads.store.database import reader
from aiqleads.store.frames import market_lock
from aiqleads.store.leads import count_on_offer
from aiqleads.store.transactions import writing

#: (what is being done, steps done, steps in all)
Progress = Callable[[str, int, int], None]
_STEPS = ("read", "check", "normalise", "leads", "store", "frames")
#: a row of a wide table of series gives hundreds of points
_SERIES_ROWS = 500


@dataclass(frozen=True)
class BatchCount:
    """One batch: rows_read = accepted + updated + duplicates + quarantined.

    incomplete is inside accepted: leads that wait, listings and sales without a place,
    rows of series without a figure.
    """

    batch_id: str
    source: str
    rows_read: int
    accepted: int
    incomplete: int
    updated: int
    duplicates: int
    quarantined: int


@dataclass(frozen=True)
class IngestReport:
    """What became of the payloads' rows.

    The counts are of the payloads alone, and rows_read = accepted + updated + duplicates
    + quarantined; a payload that an earlier run began counts as a whole. Invented buyers
    and planted repeats are batches of their own, and only in `batches`, where the same sum
    holds for each. reasons: rows by broken rule (a row may break several).
    schema_changes: what changed in the payloads' columns, in words. stopped: why the
    source was stopped and the rest not stored, '' where it was not. leads: leads of the
    market on offer after it.
    """

    source: str
    market: str
    rows_read: int
    accepted: int
    incomplete: int
    updated: int
    duplicates: int
    quarantined: int
    reasons: dict[str, int]
    schema_changes: tuple[str, ...]
    stopped: str
    batches: tuple[BatchCount, ...]
    leads: int
    seconds: float


@dataclass
class _Taken:
    """What a run has taken in so far."""

    batch_ids: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    stopped: str = ""


def ingest(
    settings: Settings,
    source: str,
    payloads: Iterable[Path | Payload | str],
    market: Market,
    progress: Progress | None = None,
    *,
    options: Options | None = None,
    on_drift: OnDrift = "stop",
    now_us: int | None = None,
    seconds_by_step: dict[str, float] | None = None,
) -> IngestReport:
    """Takes payloads of a source into a market; the same payload again adds nothing.

    payloads: files, addresses to pull from (https://..), or payloads; none means the
    market file's own path. options: what the operator says of the source (default: the
    feed file's). on_drift: whether a change of the feed's schema that makes it unreadable
    stops the source, or is accepted as what is normal from now on. now_us: wall clock, UTC
    microseconds (default: the machine's). seconds_by_step: collects where the time went.

    UnknownName for the source, Refused `source-paused`, InvalidInput for a payload that
    cannot be read, ContractBroken for one that is not what the market file says; then
    nothing of that payload is stored, nor of a later one. Where a payload breaks in the
    middle, what came before stays, in a batch that is `stopped`.
    """
    started = time.perf_counter()
    with opened_run(settings, source, market, options, now_us, seconds_by_step) as run:
        given = list(payloads) or _own_path(run.source, market)
        with market_lock(settings, market.name):
            taken = _take_all(run, given, _Steps(progress, len(given)), on_drift)
        return _report(run, taken, time.perf_counter() - started)


class _Steps:
    """Tells the caller where the work is; the steps of a payload come again chunk by chunk."""

    def __init__(self, progress: Progress | None, payloads: int) -> None:
        self._progress, self._all = progress, payloads * len(_STEPS)
        self._payload = 0

    def at(self, step: str) -> None:
        """The step that begins now."""
        if self._progress is not None:
            done = self._payload * len(_STEPS) + _STEPS.index(step)
            self._progress(step, min(done, self._all - 1), self._all)

    def next_payload(self) -> None:
        """The payload before is done."""
        self._payload += 1


def _own_path(source: Source, market: Market) -> list[Path]:
    """The file that the market file names for such a source; InvalidInput where it names none."""
    section = getattr(market, source.section) if source.section else None
    if section is None or section.path is None:
        said = f": market {market.name} has no [{source.section}] path" if source.section else ""
        raise InvalidInput(f"name a file of {source.name}{said}")
    return [section.path]


def _take_all(
    run: Run, given: Sequence[Path | Payload | str], steps: _Steps, on_drift: OnDrift
) -> _Taken:
    """Takes one payload after the other in, then brings the frames up to the store."""
    unfinished = Unfinished(run.settings, run.market.name)
    taken = _Taken()
    try:
        for payload in _payloads(run, given, steps):
            _take_in(run, payload, unfinished, steps, on_drift, taken)
            if taken.stopped:
                break
            steps.next_payload()
    finally:  # a payload that is refused leaves those before it whole
        if taken.batch_ids or unfinished.frames:
            steps.at("frames")
            with run.step("frames"):
                unfinished.bring_up(run)
    return taken


def _payloads(run: Run, given: Sequence[Path | Payload | str], steps: _Steps) -> Iterator[Payload]:
    for each in given:
        steps.at("read")
        if isinstance(each, Payload):
            yield each
        elif isinstance(each, str):
            yield from pages(run.settings, run.source.name, each, run.options, run.now_us)
        else:
            yield open_payload(each)


def _take_in(
    run: Run,
    payload: Payload,
    unfinished: Unfinished,
    steps: _Steps,
    on_drift: OnDrift,
    taken: _Taken,
) -> None:
    """All chunks of one payload, from the one after the last that was stored."""
    _check_format(run, payload)
    opened = resumable(run, payload, unfinished)
    if opened is not None:
        resume(run, opened, unfinished)
        taken.batch_ids += opened.ids.values()
    most = _SERIES_ROWS if run.source.kind == "series" else CHUNK_ROWS
    skip = opened.rows_read if opened is not None else 0
    parts = payload.chunks(run.source.records, most, skip)
    try:
        while (chunk := _next(run, parts, steps)) is not None:
            ready = prepare(run, chunk)
            steps.at("leads")
            if opened is None:
                opened = _begin(run, payload, unfinished, taken)
            steps.at("store")
            part = (chunk.first_row - 1) // most + 1
            stored = store_chunk(run, opened, ready, part, on_drift)
            taken.findings += stored.findings
            if stored.stopped:
                taken.stopped = stored.stopped
                return
    except InvalidInput as problem:
        if opened is not None:
            with writing(run.engine) as connection:
                store.end(connection, opened.ids.values(), "stopped")
        elif isinstance(problem, ContractBroken):
            _note_break(run, payload, most, problem)
        raise
    if opened is None:
        opened = _begin(run, payload, unfinished, taken)
    with writing(run.engine) as connection:
        store.end(connection, opened.ids.values(), "done")


def _begin(run: Run, payload: Payload, unfinished: Unfinished, taken: _Taken) -> Open:
    """A batch, once a payload has shown that it is of this feed."""
    run.remember()
    with run.step("raw"):
        opened = begin(run, payload, unfinished)
    taken.batch_ids += opened.ids.values()
    return opened


def _next(run: Run, parts: Iterator[Chunk], steps: _Steps) -> Chunk | None:
    with run.step("read"):
        chunk = next(parts, None)
    if chunk is not None:
        steps.at("check")
        steps.at("normalise")
    return chunk


def _check_format(run: Run, payload: Payload) -> None:
    if payload.format not in run.source.formats:
        raise InvalidInput(
            f"{payload.name} is {payload.format}; the source {run.source.name} takes "
            f"{', '.join(run.source.formats)}"
        )


def _note_break(run: Run, payload: Payload, most: int, problem: ContractBroken) -> None:
    """A feed that was read before and now lacks a column it needs: the source is stopped."""
    missing = problem.extra.get("missing")
    if not missing:
        return
    chunk = next(payload.chunks(run.source.records, most))
    batch_id = f"{run.source.name}-{payload.sha256[:12]}-refused"
    with writing(run.engine) as connection:
        findings = watch.check(
            connection,
            run.market.name,
            run.source.name,
            batch_id,
            1,
            chunk.rows,
            kinds(chunk.rows),
            run.now_us,
            required=frozenset(missing),
        )
        if reason := watch.broken(findings):
            sources.stop(connection, run.source.name, reason, run.now_us)


def _report(run: Run, taken: _Taken, seconds: float) -> IngestReport:
    names = BatchCount.__dataclass_fields__
    with reader(run.engine).connect() as connection:
        rows = [vars(store.find(connection, batch_id)) for batch_id in taken.batch_ids]
    counted = [BatchCount(**{name: row[name] for name in names}) for row in rows]
    own = [each for each in counted if each.source == run.source.name]
    changes = Counter(f"{each.column}: {each.detail}" for each in taken.findings)
    return IngestReport(
        source=run.source.name,
        market=run.market.name,
        rows_read=sum(each.rows_read for each in own),
        accepted=sum(each.accepted for each in own),
        incomplete=sum(each.incomplete for each in own),
        updated=sum(each.updated for each in own),
        duplicates=sum(each.duplicates for each in own),
        quarantined=sum(each.quarantined for each in own),
        reasons=store.quarantine_counts(run.engine, [each.batch_id for each in own]),
        schema_changes=tuple(changes),
        stopped=taken.stopped,
        batches=tuple(counted),
        leads=count_on_offer(run.engine, run.market.name),
        seconds=round(seconds, 3),
    )
