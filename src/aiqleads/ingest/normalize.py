"""From checked rows of a feed to homes: keys, clock, cell, region and plane coordinates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aiqleads.domain import US_PER_SECOND
from aiqleads.geo.grid import cells
from aiqleads.geo.regions import regions_by_cell, regions_by_polygon
from aiqleads.geo.utm import project
from aiqleads.ingest.draws import keys_of
from aiqleads.ingest.market import Market

PLACE = ("cell", "region", "utm_x_m", "utm_y_m")


def identity(rows: pd.DataFrame, market: Market) -> pd.Series:
    """Text that says which sale a row is about, in any file and any order.

    The feed's own key, else place (0.1 m), day, floor area and year built: a corrected
    price is the same sale. Grain: one text a row.
    """
    place = [rows[name].map("{:.6f}".format) for name in ("lon", "lat")]
    facts = [rows[name].map("{:.0f}".format) for name in ("living_area_sqft", "year_built")]
    day = rows["sold"].dt.strftime("%Y-%m-%d").fillna("-")
    known = place[0] + "|" + place[1] + "|" + day + "|" + facts[0] + "|" + facts[1]
    named = "key:" + rows["key"].astype("string")
    return market.name + "|" + named.fillna(known).astype(object)


def clock_us(local: pd.Series, timezone: str) -> pd.Series:
    """UTC microseconds (Int64, missing where the time is) of local times without a zone.

    A time that the clocks skip moves forward, one they repeat is the first of the two.
    """
    utc = local.dt.tz_localize(timezone, ambiguous=True, nonexistent="shift_forward")
    seconds = (utc.dt.tz_convert("UTC") - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    return pd.Series(seconds, local.index, dtype="Int64") * US_PER_SECOND


def place(lon: pd.Series, lat: pd.Series, market: Market, crs: str) -> pd.DataFrame:
    """Columns cell (H3 res 10), region, utm_x_m, utm_y_m for points that are all known."""
    x, y = lon.to_numpy(np.float64), lat.to_numpy(np.float64)
    cell = cells(x, y)
    if market.regions is None:
        region = regions_by_cell(cell)
    else:
        region = regions_by_polygon(x, y, market.regions.path, market.regions.id)
    easting, northing = project(x, y, crs)
    made = {"cell": cell, "region": region, "utm_x_m": easting, "utm_y_m": northing}
    return pd.DataFrame(made, index=lon.index)


def normalize(rows: pd.DataFrame, market: Market, crs: str) -> pd.DataFrame:
    """The rows plus identity, entity (uint64 key of chance), sold_market_us and PLACE.

    Rows without any place have missing PLACE columns. Same index as `rows`.
    """
    made = rows.copy()
    made["identity"] = identity(rows, market)
    made["entity"] = keys_of(made["identity"])
    made["sold_market_us"] = clock_us(rows["sold"], market.timezone)
    located = rows["lon"].notna()
    found = place(rows.loc[located, "lon"], rows.loc[located, "lat"], market, crs)
    # A missing cell must not turn the others into floats, which cannot hold 60 bits.
    found["cell"] = found["cell"].astype("Int64")
    for name in PLACE:
        made[name] = found[name].reindex(made.index)
    return made
