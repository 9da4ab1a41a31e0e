"""The stored frames as Ibis tables, cut down to the columns that features may read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h3
import ibis
import ibis.expr.types as ir
import pandas as pd

from aiqleads.errors import NotReady
from aiqleads.settings import Settings

#: What a feature may know of a lead. The sale behind a sample lead, its expiry, its source
#: keys and its contact are not here, so no expression can reach them.
LEAD_COLUMNS = {
    "lead_id": "string",
    "intent": "string",
    "received_market_us": "int64",
    "ask_price_cents": "float64",
    "beds": "float64",
    "living_area_sqft": "float64",
    "lot_area_sqft": "float64",
    "year_built": "float64",
    "quality": "float64",
    "max_buyers": "float64",
    "cell": "int64",
    "utm_x_m": "float64",
    "utm_y_m": "float64",
}
SALE_COLUMNS = {
    "sold_market_us": "int64",
    "price_cents": "float64",
    "living_area_sqft": "float64",
    "cell": "int64",
}
AGENT_COLUMNS = {
    "agent_id": "string",
    "tier": "string",
    "home_x_m": "float64",
    "home_y_m": "float64",
    "territory": "array<int64>",
    "price_low_cents": "float64",
    "price_high_cents": "float64",
    "monthly_budget_cents": "float64",
    "joined_market_us": "int64",
}
RANKING_COLUMNS = {
    "request_id": "string",
    "agent_id": "string",
    "at_market_us": "int64",
    "arrived_market_us": "int64",
}
IMPRESSION_COLUMNS = {
    "request_id": "string",
    "lead_id": "string",
    "position": "int32",
    "price_cents": "int64",
}
INTERACTION_COLUMNS = {
    "event_id": "string",
    "request_id": "string",
    "agent_id": "string",
    "lead_id": "string",
    "kind": "string",
    "at_market_us": "int64",
    "arrived_market_us": "int64",
    "price_cents": "float64",
}

SUBMISSION_COLUMNS = {"lead_id": "string", "received_market_us": "int64"}

#: resolution of an area (about 5 km2), and of a neighbourhood's seven cells (the same in sum)
AREA_RES, NEAR_RES = 7, 8


@dataclass(frozen=True)
class Tables:
    """Frames of one market; leads and sales carry their `area` (H3 res 7) and `near` (res 8).

    rings: `near` and each `touched` cell of its ring of seven.
    """

    engine: ibis.BaseBackend
    leads: ir.Table
    sales: ir.Table
    agents: ir.Table
    rankings: ir.Table
    impressions: ir.Table
    interactions: ir.Table
    submissions: ir.Table
    rings: ir.Table

    def keep(self, table: ir.Table) -> ir.Table:
        """The table, computed once and held by the engine, so that no query grows large."""
        return keep(self.engine, table)

    def drop(self, *kept: ir.Table) -> None:
        """Gives back the memory of tables that `keep` made."""
        for table in kept:
            self.engine.drop_table(table.op().name)


def keep(engine: ibis.BaseBackend, table: ir.Table) -> ir.Table:
    """The table, computed once and held by an engine."""
    return engine.create_table(ibis.util.gen_name("kept"), table, temp=True)


@contextmanager
def connect() -> Iterator[ibis.BaseBackend]:
    """An engine of its own: two threads, 1 GB, UTC; what does not fit goes to a temp file."""
    with tempfile.TemporaryDirectory(prefix="aiqleads-features-") as spill:
        engine = ibis.duckdb.connect(threads=2, memory_limit="1GB", temp_directory=spill)
        engine.raw_sql("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        engine.raw_sql("SET enable_progress_bar = false")  # it would draw into notebooks
        # Joins stand in the order that fits. The engine's own choice joins cells of one moment
        # with each other first, since all of them share its time: twenty times the rows.
        engine.raw_sql("SET disabled_optimizers = 'join_order'")
        try:
            yield engine
        finally:
            engine.disconnect()


def parent_cell(cell: ir.IntegerValue, resolution: int) -> ir.IntegerValue:
    """The H3 cell of a coarser resolution that holds `cell`, by bits, on any engine.

    An index keeps its resolution in bits 52 to 55 and three bits a level below them, all
    ones where a level is not used (h3geo.org, "H3Index Representations").
    """
    unused = (1 << 3 * (15 - resolution)) - 1
    kept = (1 << 60) - 1 - (15 << 52)
    return (cell & kept) | ((resolution << 52) | unused)


@contextmanager
def open_tables(settings: Settings, market: str) -> Iterator[Tables]:
    """A market's frames, while the context lasts; events nobody has logged are empty tables.

    Raises NotReady where the leads or the agents are missing.
    """
    core = settings.data / "core" / market
    for name, how in (("leads", "ingest a source"), ("agents", "run the simulated market")):
        if not (core / f"{name}.parquet").is_file():
            raise NotReady(f"{core / name}.parquet is missing: {how} for {market!r} first")
    with connect() as engine:
        yield _tables(engine, core)


def _tables(engine: ibis.BaseBackend, core: Path) -> Tables:
    def read(name: str, columns: dict[str, str]) -> ir.Table:
        return _read(engine, core / f"{name}.parquet", columns)

    sales = read("sales", SALE_COLUMNS)
    leads = keep(engine, _with_cells(read("leads", LEAD_COLUMNS)))
    impressions = read("events/impressions", IMPRESSION_COLUMNS)
    # A page that was logged twice shows a lead once.
    once = impressions.group_by(["request_id", "lead_id"]).agg(
        position=impressions.position.min(), price_cents=impressions.price_cents.min()
    )
    tables = Tables(
        engine=engine,
        leads=leads,
        sales=keep(engine, _with_cells(sales.filter(sales.sold_market_us.notnull()))),
        agents=keep(engine, read("agents", AGENT_COLUMNS)),
        rankings=keep(engine, _once(read("events/rankings", RANKING_COLUMNS), "request_id")),
        impressions=keep(engine, once),
        interactions=keep(
            engine, _once(read("events/interactions", INTERACTION_COLUMNS), "event_id")
        ),
        submissions=keep(engine, read("submissions", SUBMISSION_COLUMNS)),
        rings=_rings(engine, engine.to_pandas(leads.select("near").distinct())["near"]),
    )
    # What was read is kept; the files' other columns are out of reach from here on.
    for view in engine.list_tables(like="ibis_read_parquet"):
        engine.drop_view(view)
    return tables


def _read(engine: ibis.BaseBackend, path: Path, columns: dict[str, str]) -> ir.Table:
    """The named columns in the named types; a cell that does not fit its type is missing."""
    if not path.is_file():
        return ibis.memtable([], schema=ibis.schema(columns))
    table = engine.read_parquet(path)
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise NotReady(f"{path} has no {', '.join(lacking)}: write it with this release")
    return table.select(**{name: _typed(table[name], kind) for name, kind in columns.items()})


def _typed(column: ir.Column, kind: str) -> ir.Column:
    return column if column.type() == ibis.dtype(kind) else column.try_cast(kind)


def _once(table: ir.Table, key: str) -> ir.Table:
    """Repeats of one event count once, from the first arrival."""
    turn = ibis.row_number().over(group_by=key, order_by="arrived_market_us")
    return table.mutate(turn=turn).filter(ibis._.turn == 0).drop("turn")


def _with_cells(table: ir.Table) -> ir.Table:
    return table.mutate(
        area=parent_cell(table.cell, AREA_RES), near=parent_cell(table.cell, NEAR_RES)
    )


def _rings(engine: ibis.BaseBackend, cells: Iterable[int]) -> ir.Table:
    pairs = [
        (int(cell), h3.str_to_int(touched))
        for cell in cells
        for touched in h3.grid_disk(h3.int_to_str(int(cell)), 1)
    ]
    frame = pd.DataFrame(pairs, columns=["near", "touched"], dtype="int64")
    return keep(engine, ibis.memtable(frame, schema={"near": "int64", "touched": "int64"}))
