"""Listings: homes on offer as portals and exchanges say, placed as well as they can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from aiqleads.geo.grid import cells
from aiqleads.ingest.batches import Counts, Open, Run
from aiqleads.ingest.content import digests, verdict
from aiqleads.ingest.ids import named
from aiqleads.ingest.market import Market
from aiqleads.ingest.normalize import midnights_us, plain, regions
from aiqleads.ingest.people import city_point, zip_points
from aiqleads.ingest.same_home import same_homes
from aiqleads.store import homes as store
from aiqleads.store.tables import listing as listing_table


def normalized(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Columns of table `listing` (home and repeat come with the store), by row number."""
    market = run.market
    made = rows.drop(columns=["key", "listed", "closed"])
    made["digest"] = digests(rows)
    made["source_key"] = rows["key"]
    prefix = f"{market.name}|{run.source.name}|"
    made["listing_id"] = named("H", [prefix + key for key in rows["key"].tolist()])
    for name in ("listed", "closed"):
        made[f"{name}_us"] = midnights_us(rows[name], market.timezone)
    for name in ("list_price_cents", "close_price_cents"):
        made[name] = rows[name].round().astype("Int64")
    _place(made, market)
    return made


def _place(made: pd.DataFrame, market: Market) -> None:
    """Points with their precision (point, zip, city, none), cell and region, in place."""
    lon, lat = made["lon"].to_numpy(copy=True), made["lat"].to_numpy(copy=True)
    nowhere = (lon == 0) & (lat == 0)  # what software writes for "not known"
    lon[nowhere] = lat[nowhere] = np.nan
    precision = np.where(np.isnan(lon), "none", "point").astype(object)
    known: list[list[str | None]] = [made[name].tolist() for name in ("zip", "city", "state")]
    for at in np.flatnonzero(np.isnan(lon)).tolist():
        code, city, state = (column[at] for column in known)
        point, how = (zip_points().get(code) if code else None), "zip"
        if point is None and city:
            point, how = city_point(city, state, market.timezone), "city"
        if point is not None:
            (lon[at], lat[at]), precision[at] = point, how
    there = ~np.isnan(lon)
    found = cells(lon[there], lat[there])
    cell, region = np.full(len(lon), None, dtype=object), np.full(len(lon), None, dtype=object)
    cell[there], region[there] = found.tolist(), regions(lon[there], lat[there], found, market)
    made["lon"], made["lat"] = lon, lat
    made["place_precision"], made["region"] = precision, region
    made["cell"] = pd.array(cell, dtype="Int64")


def keep(connection: Connection, run: Run, opened: Open, homes: pd.DataFrame) -> dict[str, Counts]:
    """Stores a chunk's listings; a row counts by its listing."""
    ids, content = homes["listing_id"].tolist(), homes["digest"].tolist()
    with run.step("store"):
        found = verdict(ids, content, store.stored_listings(connection, dict.fromkeys(ids)))
    news = homes.iloc[found.last]
    with run.step("link"):
        columns: dict[str, list[Any]] = {**same_homes(connection, run.market.name, news)}
    with run.step("store"):
        columns |= {
            each.name: plain(news[each.name])
            for each in listing_table.columns
            if each.name in news.columns
        }
        for name, value in (
            ("market", run.market.name),
            ("source", run.source.name),
            ("batch_id", opened.ids[run.source.name]),
            ("currency", run.market.currency),
        ):
            columns[name] = [value] * len(news)
        columns["content"] = news["digest"].tolist()
        columns = {each.name: columns[each.name] for each in listing_table.columns}
        renewed = [who for who, new in zip(news["listing_id"], found.fresh, strict=True) if not new]
        store.put_listings(connection, columns, renewed)
    accepted = ~found.updated & ~found.duplicates
    nowhere = (homes["place_precision"] == "none").to_numpy()
    counts = Counts(
        accepted=int(accepted.sum()),
        incomplete=int((accepted & nowhere).sum()),
        updated=int(found.updated.sum()),
        duplicates=int(found.duplicates.sum()),
    )
    return {run.source.name: counts}
