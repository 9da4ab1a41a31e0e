"""Sales: what homes were sold for, and the leads that are invented beside them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pandera.pandas as pa
from sqlalchemy import Connection

from aiqleads.contracts.sale_feed import FeedLimits, feed_schema
from aiqleads.geo.utm import area_of_use
from aiqleads.ingest import keep_leads
from aiqleads.ingest.batches import Counts, Open, Run
from aiqleads.ingest.content import digests, verdict
from aiqleads.ingest.ids import BUYERS, REPEATS, named
from aiqleads.ingest.normalize import normalize, plain
from aiqleads.ingest.standin import invented_leads
from aiqleads.store import homes as store
from aiqleads.store.tables import sale as sale_table

_FACTS = (
    "sold_market_us",
    "price_cents",
    "property_type",
    "beds",
    "baths",
    "living_area_sqft",
    "lot_area_sqft",
    "garage_area_sqft",
    "rooms",
    "year_built",
    "lon",
    "lat",
)


def schema(run: Run, rows: pd.DataFrame) -> pa.DataFrameSchema:
    """The contract of sales as it holds for this market."""
    market = run.market
    limits = FeedLimits(
        market=market.name,
        currency=market.currency,
        min_price=market.leads.min_price,
        dated=market.sales is not None and "sold" in market.sales.columns,
        bounds=area_of_use(run.crs(rows["lon"], rows["lat"])),
    )
    return _schema(limits)


_schema = lru_cache(maxsize=8)(feed_schema)


def normalized(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Homes sold, indexed by row number; see `normalize`."""
    return normalize(rows, run.market, run.crs(rows["lon"], rows["lat"]))


def invented(run: Run, homes: pd.DataFrame) -> pd.DataFrame | None:
    """The submissions that stand in for people beside these sales, each sale once."""
    if not run.invents or homes.empty:
        return None
    last = homes[~homes["identity"].duplicated(keep="last")]
    crs = run.crs(homes["lon"], homes["lat"])
    return invented_leads(last, run.market, run.source.name, crs)


def keep(
    connection: Connection,
    run: Run,
    opened: Open,
    homes: pd.DataFrame,
    people: pd.DataFrame | None,
) -> dict[str, Counts]:
    """Stores a chunk's sales and the leads invented beside them.

    A row counts by its sale; the people invented as a whole count in batches of their own.
    """
    with run.step("store"):
        own = _put(connection, run, opened, homes)
    counts = {run.source.name: own}
    if people is not None:
        made = keep_leads.keep(connection, run, opened, people)
        counts |= {source: made.get(source, Counts()) for source in (BUYERS, REPEATS)}
    return counts


def _put(connection: Connection, run: Run, opened: Open, homes: pd.DataFrame) -> Counts:
    ids = named("S", homes["identity"].tolist())
    content = digests(homes[list(_FACTS)])
    found = verdict(ids, content, store.stored_sales(connection, dict.fromkeys(ids)))
    news = homes.iloc[found.last]
    columns = {name: plain(news[name]) for name in (*_FACTS, "cell", "region")}
    columns |= {name: plain(news[name]) for name in ("utm_x_m", "utm_y_m")}
    columns["sale_id"] = [ids[at] for at in found.last.tolist()]
    columns["content"] = [content[at] for at in found.last.tolist()]
    columns["price_cents"] = news["price_cents"].round().astype("int64").tolist()
    for name, value in (
        ("market", run.market.name),
        ("source", run.source.name),
        ("batch_id", opened.ids[run.source.name]),
        ("currency", run.market.currency),
    ):
        columns[name] = [value] * len(news)
    columns = {each.name: columns[each.name] for each in sale_table.columns}
    renewed = [who for who, new in zip(columns["sale_id"], found.fresh, strict=True) if not new]
    store.put_sales(connection, columns, renewed)
    accepted = ~found.updated & ~found.duplicates
    unplaced = homes["cell"].isna().to_numpy()
    return Counts(
        accepted=int(accepted.sum()),
        incomplete=int((accepted & unplaced).sum()),
        updated=int(found.updated.sum()),
        duplicates=int(np.sum(found.duplicates)),
    )
