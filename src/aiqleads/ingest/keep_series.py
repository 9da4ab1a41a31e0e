"""Market series: figures of a region in a period, the newest word on each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from aiqleads.ingest.batches import Counts, Open, Run
from aiqleads.store import homes as store
from aiqleads.store.tables import series_point


def normalized(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Points with their period as an ISO day; several a row number."""
    codes, days = pd.factorize(rows["period"])
    written = np.datetime_as_string(np.asarray(days, "datetime64[D]")).astype(object)
    made = rows.copy()
    made["period"] = written[codes] if len(days) else written
    return made


def keep(
    connection: Connection, run: Run, opened: Open, points: pd.DataFrame, held: pd.Index
) -> dict[str, Counts]:
    """Stores a chunk's points; a row of the payload counts by what is new in it.

    held: numbers of the rows that keep the contract. One without a figure tells nothing:
    it is incomplete, and a duplicate when its payload comes again.
    """
    with run.step("store"):
        keys = list(zip(*(points[name].tolist() for name in store.POINT), strict=True))
        said = list(
            zip(*(points[name].tolist() for name in ("value", "unit", "frequency")), strict=True)
        )
        known = _known(connection, run, points)
        fresh, changed = _sorted_out(keys, said, known)
        batch_id = opened.ids[run.source.name]
        rows = [_row(run, batch_id, keys[at], said[at]) for at in fresh.values()]
        columns = {each.name: [row[each.name] for row in rows] for each in series_point.columns}
        store.add_points(connection, columns)
        store.renew_points(
            connection, [_row(run, batch_id, keys[at], said[at]) for at in changed.values()]
        )
    return {run.source.name: _counted(points, keys, said, known, held, opened.number)}


Key = tuple[str, str, str, str]
Said = tuple[float, str, str]


def _known(connection: Connection, run: Run, points: pd.DataFrame) -> dict[Key, Said]:
    if not len(points):
        return {}
    regions = dict.fromkeys(zip(points["region_type"], points["region"], strict=True))
    first, last = points["period"].min(), points["period"].max()
    return store.stored_points(connection, run.source.name, regions, first, last)


def _sorted_out(
    keys: list[Key], said: list[Said], known: dict[Key, Said]
) -> tuple[dict[Key, int], dict[Key, int]]:
    """Positions of new and of changed points; the last row of a point has the say."""
    last = {key: at for at, key in enumerate(keys)}
    fresh = {key: at for key, at in last.items() if key not in known}
    changed = {key: at for key, at in last.items() if key in known and known[key] != said[at]}
    return fresh, changed


def _row(run: Run, batch_id: str, key: Key, said: Said) -> dict[str, Any]:
    named = dict(zip(store.POINT, key, strict=True))
    value, unit, frequency = said
    return {
        "source": run.source.name,
        **named,
        "value": value,
        "unit": unit,
        "frequency": frequency,
        "batch_id": batch_id,
    }


def _counted(
    points: pd.DataFrame,
    keys: list[Key],
    said: list[Said],
    known: dict[Key, Said],
    held: pd.Index,
    number: int,
) -> Counts:
    before = dict(known)
    state = dict.fromkeys(held.tolist(), "")
    worth = {"": 0, "same": 1, "updated": 2, "new": 3}
    for row, key, now in zip(points.index.tolist(), keys, said, strict=True):
        old = before.get(key)
        found = "new" if old is None else "same" if old == now else "updated"
        before[key] = now
        if worth[found] > worth[state[row]]:
            state[row] = found
    told = list(state.values())
    empty = told.count("")
    again = number > 1
    return Counts(
        accepted=told.count("new") + (0 if again else empty),
        incomplete=0 if again else empty,
        updated=told.count("updated"),
        duplicates=told.count("same") + (empty if again else 0),
    )
