"""The one way in: payload -> contract -> homes -> leads -> one transaction -> frames."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine

from aiqleads.contracts.frames import FRAMES
from aiqleads.contracts.promise import failures
from aiqleads.contracts.quarantine import Reject, rejects
from aiqleads.contracts.sale_feed import CONTRACT_VERSION, FeedLimits, feed_schema
from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.geo.utm import area_of_use, find_crs
from aiqleads.ingest.deduplicate import WINDOW_US, find_repeats
from aiqleads.ingest.market import Market, remember_market, remembered_crs
from aiqleads.ingest.normalize import normalize
from aiqleads.ingest.payload import Payload, read_payload
from aiqleads.ingest.raw import keep_raw
from aiqleads.ingest.score import score
from aiqleads.ingest.sources import Source, source_named
from aiqleads.ingest.sources.parsed import Parsed
from aiqleads.ingest.standin import BUYERS, REPEATS, buyer_leads, named, repeat_leads, seller_leads
from aiqleads.settings import Settings
from aiqleads.store import leads as store
from aiqleads.store.database import open_room
from aiqleads.store.frames import (
    frame_path,
    leads_frame,
    market_lock,
    read_frame,
    submissions_frame,
    write_frame,
)
from aiqleads.store.tables import lead as lead_table

#: (what is being done, steps done, steps in all)
Progress = Callable[[str, int, int], None]
_STEPS = ("read", "check", "normalise", "leads", "store", "frames")


@dataclass(frozen=True)
class BatchCount:
    """One batch: rows_read = accepted + updated + duplicates + quarantined.

    incomplete is inside accepted: leads without any place, which wait.
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
    """What became of the payloads' rows; one input row is one sale and one seller's lead.

    The counts are of the payloads alone, and rows_read = accepted + updated + duplicates
    + quarantined. Simulated buyers and planted repeats are batches of their own, and only
    in `batches`, where the same sum holds for each. reasons: rows by broken rule (a row
    may break several). schema_changes: what is new, gone or retyped in the payloads'
    columns. leads: leads of the market in store after it, incomplete ones left out.
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
    batches: tuple[BatchCount, ...]
    leads: int
    seconds: float


@dataclass(frozen=True)
class _Checked:
    """A payload after the contract: good rows, and the rejects with their reasons."""

    payload: Payload
    good: pd.DataFrame
    rejected: list[Reject]
    columns: dict[str, str]
    crs: str


def ingest(
    settings: Settings,
    source: str,
    paths: Sequence[Path],
    market: Market,
    progress: Progress | None = None,
    *,
    now_us: int | None = None,
) -> IngestReport:
    """Takes payloads of a source into a market; the same payload again adds no lead.

    paths: files, each a payload; none means the market file's own [sales] path. now_us:
    wall clock, UTC microseconds (default: the machine's). UnknownName for the source,
    InvalidInput for a file that cannot be read, ContractBroken for one that is not what
    the market file says; then nothing of that payload is stored, nor of a later one.
    """
    started = time.perf_counter()
    known = source_named(source)
    files = [Path(path) for path in paths] or _own_path(market)
    at_us = time.time_ns() // 1000 if now_us is None else now_us
    engine = open_room(settings, "leads")
    parts = []
    try:
        with market_lock(settings, market.name):
            try:
                for number, file in enumerate(files):
                    steps = _Steps(progress, number, len(files))
                    parts.append(_ingest_one(settings, engine, known, file, market, at_us, steps))
            finally:  # a payload that is refused leaves those before it whole
                if parts:
                    steps.next("frames")
                    leads = _write_lead_frames(settings, engine, market.name)
    finally:
        engine.dispose()
    return _report(known, market, parts, leads, time.perf_counter() - started)


class _Steps:
    """Tells the caller where the work is."""

    def __init__(self, progress: Progress | None, file: int, files: int) -> None:
        self._progress, self._done = progress, file * len(_STEPS)
        self._all = files * len(_STEPS)

    def next(self, step: str) -> None:
        if self._progress is not None:
            self._progress(step, self._done + _STEPS.index(step), self._all)


def _own_path(market: Market) -> list[Path]:
    if market.sales.path is None:
        raise InvalidInput(f"market {market.name} has no [sales] path: name a file")
    return [market.sales.path]


_Part = tuple[list[BatchCount], list[Reject], list[str]]


def _ingest_one(
    settings: Settings,
    engine: Engine,
    source: Source,
    path: Path,
    market: Market,
    now_us: int,
    steps: _Steps,
) -> _Part:
    steps.next("read")
    payload = read_payload(path)
    parsed = source.parse(payload, market)
    steps.next("check")
    checked = _check(settings, payload, parsed, market)
    steps.next("normalise")
    homes = normalize(checked.good, market, checked.crs)
    again = homes["identity"].duplicated()
    steps.next("leads")
    people = _people(homes[~again], market, source.name, checked.crs)
    steps.next("store")
    keep_raw(settings, source.name, payload, now_us)
    with engine.begin() as connection:
        changes = _schema_changes(connection, market.name, source.name, checked.columns)
        same = homes.loc[again, "identity"]
        counts = _store(connection, checked, people, same, market, source.name, now_us)
    remember_market(settings, market.model_copy(update={"crs": checked.crs}))
    _add_sales(settings, market.name, homes[~again])
    return counts, checked.rejected, changes


def _check(settings: Settings, payload: Payload, parsed: Parsed, market: Market) -> _Checked:
    """Splits the rows by the contract; a payload without one good row is refused."""
    rows = parsed.rows.drop(index=parsed.problems["index"].unique().tolist())
    crs = _crs(settings, market, rows)
    limits = FeedLimits(
        market=market.name,
        currency=market.currency,
        min_price=market.leads.min_price,
        dated="sold" in market.sales.columns,
        bounds=area_of_use(crs),
    )
    broken = failures(rows, feed_schema(limits))
    if broken["index"].isna().any():
        raise ContractBroken(f"{payload.path}: {broken['rule'].iloc[0]}; nothing was stored")
    found = rejects(pd.concat(_with_values(parsed, broken, rows)), payload.rows)
    good = rows.drop(index=broken["index"].unique().tolist())
    if good.empty:
        rule, count = Counter(each.rule for each in found).most_common(1)[0]
        raise ContractBroken(
            f"{payload.path}: no row holds; {count:,} of {len(parsed.rows):,} break "
            f"{rule!r}; nothing was stored"
        )
    return _Checked(payload, good, found, parsed.columns, crs)


def _with_values(parsed: Parsed, broken: pd.DataFrame, rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Both kinds of problems, each with the value that stood there."""
    places = zip(broken["index"], broken["column"], strict=True)
    values = [rows.at[index, column] for index, column in places]
    both = [parsed.problems, broken.assign(value=pd.Series(values, broken.index, dtype=object))]
    return [each for each in both if len(each)] or both[:1]


def _crs(settings: Settings, market: Market, rows: pd.DataFrame) -> str:
    """The market's coordinate system: stated, the one its leads are stored in, or found."""
    stored = remembered_crs(settings, market.name)
    if market.crs is not None and stored not in (None, market.crs):
        raise InvalidInput(
            f"market {market.name} is stored in {stored}, its file now says {market.crs}: "
            "give the market another name"
        )
    if crs := market.crs or stored:
        return crs
    lon, lat = rows["lon"], rows["lat"]
    known = lon.between(-180, 180) & lat.between(-90, 90)
    return find_crs(lon[known].to_numpy(), lat[known].to_numpy())


def _people(homes: pd.DataFrame, market: Market, source: str, crs: str) -> dict[str, pd.DataFrame]:
    """Scored leads by source (sellers, simulated buyers, planted repeats), by lead_id."""
    sellers = seller_leads(homes, market, source)
    buyers = buyer_leads(sellers, market, crs)
    repeats = repeat_leads(pd.concat([sellers, buyers], ignore_index=True), market, crs)
    made = {source: sellers, BUYERS: buyers, REPEATS: repeats}
    return {name: leads.join(score(leads)).set_index("lead_id") for name, leads in made.items()}


def _repeats(connection: Connection, everyone: pd.DataFrame, market: str) -> pd.DataFrame:
    """Columns of (lead_id), rule (None for one known before), by the repeat's lead_id."""
    keys = everyone["source_key"]
    before = store.stored_repeats(connection, keys)
    known = keys[keys.isin(list(before))].map(before)
    stored = store.stored_leads(connection, everyone.index)
    open_ = everyone.drop(index=known.index)
    open_ = open_.assign(stored=open_.index.isin(list(stored)))
    times = open_["received_market_us"]
    around = store.people_between(
        connection, market, int(times.min()) - WINDOW_US, int(times.max()) + WINDOW_US
    )
    others = pd.DataFrame([each for each in around if each["lead_id"] not in open_.index])
    if len(others):
        others = others.set_index("lead_id").assign(stored=True)
        open_ = pd.concat([open_, others])
    found = find_repeats(open_).set_index("label")
    return pd.concat([found, pd.DataFrame({"of": known, "rule": None})])


def _store(
    connection: Connection,
    checked: _Checked,
    people: dict[str, pd.DataFrame],
    same_rows: pd.Series,
    market: Market,
    source: str,
    now_us: int,
) -> list[BatchCount]:
    """Writes the three batches of a payload; their repeats are looked for together."""
    everyone = pd.concat(people.values())
    repeats = _repeats(connection, everyone, market.name)
    stored = store.stored_leads(connection, everyone.index)
    counts, folded = [], []
    for name, leads in people.items():
        first = name == source
        rejected = checked.rejected if first else []
        number = store.next_batch_number(connection, market.name, name, checked.payload.sha256)
        batch_id = f"{name}-{checked.payload.sha256[:12]}-{number:03d}"
        again = leads.index.isin(repeats.index)
        old = leads.index.isin(list(stored)) & ~again
        fresh = leads[~again & ~old]
        count = BatchCount(
            batch_id=batch_id,
            source=name,
            rows_read=len(checked.payload.rows) if first else len(leads),
            accepted=len(fresh),
            incomplete=int((fresh["place_precision"] == "none").sum()),
            updated=int(old.sum()),
            duplicates=int(again.sum()) + (len(same_rows) if first else 0),
            quarantined=len({each.row_number for each in rejected}),
        )
        store.add_batch(connection, _batch_row(count, checked, market.name, now_us, first))
        store.put_leads(connection, _rows(fresh, batch_id), _rows(leads[old], batch_id))
        if first:
            _quarantine(connection, checked, market.name, source, batch_id)
            folded += _same_rows(same_rows, leads, source, batch_id)
        folded += _folded(leads[again], repeats, batch_id)
        counts.append(count)
    store.add_repeats(connection, folded)
    return counts


def _batch_row(
    count: BatchCount, checked: _Checked, market: str, now_us: int, first: bool
) -> dict[str, Any]:
    return {
        **asdict(count),
        "market": market,
        "path": str(checked.payload.path),
        "payload_sha256": checked.payload.sha256,
        "payload_columns": json.dumps(checked.columns if first else {}),
        "contract_version": CONTRACT_VERSION,
        "ingested_us": now_us,
    }


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as Python values for the database; what is missing is None."""
    plain = rows.astype(object)
    plain = plain.where(plain.notna(), None)
    names = [str(name) for name in plain.columns]
    return [dict(zip(names, row, strict=True)) for row in plain.itertuples(index=False, name=None)]


def _rows(leads: pd.DataFrame, batch_id: str) -> list[dict[str, Any]]:
    """Leads and their contacts as rows of the tables; NaN becomes NULL."""
    wanted = [each.name for each in lead_table.columns if each.name in leads.columns]
    plain = leads.reset_index()[["lead_id", *wanted, "name", "email", "phone"]]
    return _records(plain.assign(batch_id=batch_id))


def _quarantine(
    connection: Connection, checked: _Checked, market: str, source: str, batch_id: str
) -> None:
    rows = [
        {
            **asdict(each),
            "batch_id": batch_id,
            "source": source,
            "contract_version": CONTRACT_VERSION,
        }
        for each in checked.rejected
    ]
    store.put_quarantine(connection, market, source, checked.payload.sha256, rows)


def _same_rows(
    identities: pd.Series, leads: pd.DataFrame, source: str, batch_id: str
) -> list[dict[str, Any]]:
    """Rows that name a sale which the payload holds already, numbered."""
    ids = dict(zip(leads["source_key"], leads.index, strict=True))
    received = leads["received_market_us"]
    keys = pd.Series(named("K", identities), identities.index)
    numbers = keys.groupby(keys).cumcount() + 2
    return [
        {
            "source": source,
            "source_key": f"{key}#{number}",
            "lead_id": ids[key],
            "batch_id": batch_id,
            "rule": store.SAME_ROW,
            "received_market_us": int(received[ids[key]]),
        }
        for key, number in zip(keys, numbers, strict=True)
    ]


def _folded(again: pd.DataFrame, repeats: pd.DataFrame, batch_id: str) -> list[dict[str, Any]]:
    """Rows of `lead_duplicate`; a repeat that was known before is there already."""
    found = again.join(repeats[repeats["rule"].notna()], how="inner")
    columns = ["source", "source_key", "of", "rule", "received_market_us"]
    return _records(found[columns].rename(columns={"of": "lead_id"}).assign(batch_id=batch_id))


def _schema_changes(
    connection: Connection, market: str, source: str, columns: dict[str, str]
) -> list[str]:
    """What differs from the columns of the source's last payload, in words."""
    last = store.last_columns(connection, market, source)
    if last is None:
        return []
    before: dict[str, str] = json.loads(last)
    new = [f"new column {name!r}" for name in columns if name not in before]
    gone = [f"column {name!r} is gone" for name in before if name not in columns]
    other = [
        f"column {name!r} was {before[name]}, is {kind}"
        for name, kind in columns.items()
        if name in before and before[name] != kind
    ]
    return [*new, *gone, *other]


def _add_sales(settings: Settings, market: str, homes: pd.DataFrame) -> None:
    """Puts the payload's sales into the market's frame; the newest of one sale stays."""
    placed = homes[homes["cell"].notna()]
    columns = [each.name for each in FRAMES["sales"]]
    sales = placed.assign(sale_id=named("S", placed["identity"]))[columns]
    if frame_path(settings, market, "sales").is_file():
        sales = pd.concat([read_frame(settings, market, "sales"), sales])
        sales = sales.drop_duplicates("sale_id", keep="last")
    whole = {"price_cents": "int64", "cell": "int64", "sold_market_us": "Int64"}
    sales = sales.astype(whole).sort_values("sale_id", ignore_index=True)
    write_frame(settings, market, "sales", sales)


def _write_lead_frames(settings: Settings, engine: Engine, market: str) -> int:
    leads = leads_frame(engine, market)
    write_frame(settings, market, "submissions", submissions_frame(engine, market))
    write_frame(settings, market, "leads", leads)
    return len(leads)


def _report(
    source: Source, market: Market, parts: list[_Part], leads: int, seconds: float
) -> IngestReport:
    batches = [count for counts, _, _ in parts for count in counts]
    own = [count for count in batches if count.source == source.name]
    reasons = Counter(each.rule for _, rejected, _ in parts for each in rejected)
    return IngestReport(
        source=source.name,
        market=market.name,
        rows_read=sum(count.rows_read for count in own),
        accepted=sum(count.accepted for count in own),
        incomplete=sum(count.incomplete for count in own),
        updated=sum(count.updated for count in own),
        duplicates=sum(count.duplicates for count in own),
        quarantined=sum(count.quarantined for count in own),
        reasons=dict(reasons.most_common()),
        schema_changes=tuple(change for _, _, changes in parts for change in changes),
        batches=tuple(batches),
        leads=leads,
        seconds=round(seconds, 3),
    )
