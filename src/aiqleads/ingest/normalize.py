"""From checked rows of a feed to homes: keys, clock, cell, region and plane coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
    named = rows["key"].notna().to_numpy()
    made = np.empty(len(rows), dtype=object)
    made[named] = [f"{market.name}|key:{key}" for key in rows.loc[named, "key"]]
    known = rows[~named]
    facts = zip(
        *(known[name].tolist() for name in ("lon", "lat")),
        known["sold"].dt.strftime("%Y-%m-%d").fillna("-").tolist(),
        *(known[name].tolist() for name in ("living_area_sqft", "year_built")),
        strict=True,
    )
    made[~named] = [
        f"{market.name}|{lon:.6f}|{lat:.6f}|{day}|{area:.0f}|{built:.0f}"
        for lon, lat, day, area, built in facts
    ]
    return pd.Series(made, rows.index, dtype=object)


def clock_us(local: pd.Series, timezone: str) -> pd.Series:
    """UTC microseconds (Int64, missing where the time is) of local times without a zone.

    A time that the clocks skip moves forward, one they repeat is the first of the two.
    """
    first = np.ones(len(local), dtype=bool)
    utc = local.dt.tz_localize(timezone, ambiguous=first, nonexistent="shift_forward")
    seconds = (utc.dt.tz_convert("UTC") - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    return pd.Series(seconds, local.index, dtype="Int64") * US_PER_SECOND


def midnights_us(days: pd.Series, timezone: str) -> pd.Series:
    """`clock_us` of a column of days, of which each distinct one is turned once."""
    codes, distinct = pd.factorize(days, use_na_sentinel=False)
    turned = clock_us(pd.Series(distinct, dtype="datetime64[ns]"), timezone)
    return pd.Series(turned.array.take(codes), days.index)


def place(lon: pd.Series, lat: pd.Series, market: Market, crs: str) -> pd.DataFrame:
    """Columns cell (H3 res 10), region, utm_x_m, utm_y_m for points that are all known."""
    x, y = lon.to_numpy(np.float64), lat.to_numpy(np.float64)
    cell = cells(x, y)
    easting, northing = project(x, y, crs)
    made = {
        "cell": cell,
        "region": regions(x, y, cell, market),
        "utm_x_m": easting,
        "utm_y_m": northing,
    }
    return pd.DataFrame(made, index=lon.index)


def regions(
    x: NDArray[np.float64], y: NDArray[np.float64], cell: NDArray[np.int64], market: Market
) -> list[str]:
    """Region of each point: the market's polygon that holds it, else its res-6 cell."""
    if market.regions is None:
        return regions_by_cell(cell)
    return regions_by_polygon(x, y, market.regions.path, market.regions.id)


def located(rows: pd.DataFrame, market: Market, crs: str | None) -> pd.DataFrame:
    """The PLACE columns of rows with lon and lat; missing where there is no point.

    Points beyond the reach of the plane system have no plane coordinates.
    """
    there = rows["lon"].notna().to_numpy() & rows["lat"].notna().to_numpy()
    made: dict[str, Any] = {name: np.full(len(rows), np.nan) for name in ("utm_x_m", "utm_y_m")}
    # A missing cell must not turn the others into floats, which cannot hold 60 bits.
    cell = np.full(len(rows), None, dtype=object)
    region = np.full(len(rows), None, dtype=object)
    if there.any():
        found = place(rows.loc[there, "lon"], rows.loc[there, "lat"], market, str(crs))
        cell[there], region[there] = found["cell"].tolist(), found["region"].tolist()
        for name in ("utm_x_m", "utm_y_m"):
            inside = found[name].to_numpy()
            made[name][there] = np.where(np.isfinite(inside), inside, np.nan)
    index = rows.index
    return pd.DataFrame(
        {
            "cell": pd.array(cell, dtype="Int64"),
            "region": pd.Series(region, index, dtype=object),
            "utm_x_m": made["utm_x_m"],
            "utm_y_m": made["utm_y_m"],
        },
        index=index,
    )


def normalize(rows: pd.DataFrame, market: Market, crs: str) -> pd.DataFrame:
    """The rows plus identity, entity (uint64 key of chance), sold_market_us and PLACE.

    Rows without any place have missing PLACE columns. Same index as `rows`.
    """
    made = rows.copy()
    made["identity"] = identity(rows, market)
    made["entity"] = keys_of(made["identity"])
    made["sold_market_us"] = midnights_us(rows["sold"], market.timezone)
    found = located(rows, market, crs)
    for name in PLACE:
        made[name] = found[name]
    return made


def plain(column: pd.Series) -> list[Any]:
    """The values as Python's own, None where one is missing: what the database takes."""
    if column.dtype.kind == "f" and isinstance(column.dtype, np.dtype):
        values = column.to_numpy()
        made: list[Any] = values.tolist()
        for at in np.flatnonzero(np.isnan(values)).tolist():
            made[at] = None
        return made
    if column.dtype == object:
        return [None if value is None or value != value else value for value in column.tolist()]
    if isinstance(column.dtype, np.dtype):
        return list(column.tolist())
    return list(column.astype(object).where(column.notna(), None).tolist())
