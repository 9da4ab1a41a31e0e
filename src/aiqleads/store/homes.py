"""Sales, listings and market series in the room `leads`, written and read by columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, select, tuple_, update

from aiqleads.store.bulk import insert_columns, parts
from aiqleads.store.database import reader
from aiqleads.store.tables import listing, sale, series_point

Columns = Mapping[str, Sequence[Any]]

_READ_ROWS = 50_000


def stored_sales(connection: Connection, sale_ids: Iterable[str]) -> dict[str, bytes]:
    """Digest of what is stored of each sale; those that are not are left out."""
    found: dict[str, bytes] = {}
    columns = (sale.c.sale_id, sale.c.content)
    for some in parts(sale_ids):
        rows = connection.execute(select(*columns).where(sale.c.sale_id.in_(some)))
        found.update((of, content) for of, content in rows)
    return found


def put_sales(connection: Connection, rows: Columns, renewed: Iterable[str]) -> None:
    """Stores sales; the `renewed` among them are there already and give way."""
    for some in parts(renewed):
        connection.execute(delete(sale).where(sale.c.sale_id.in_(some)))
    insert_columns(connection, sale, rows)


def sale_columns(engine: Engine, market: str, names: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Columns of the placed sales of a market, by sale_id, some thousand rows at a time."""
    query = select(*(sale.c[name] for name in names)).where(sale.c.market == market)
    query = query.where(sale.c.cell.is_not(None)).order_by(sale.c.sale_id)
    with reader(engine).connect() as connection:
        answer = connection.execution_options(stream_results=True).execute(query)
        for rows in answer.partitions(_READ_ROWS):
            yield [list(column) for column in zip(*rows, strict=True)]


def sale_prices(connection: Connection, market: str) -> Iterator[Sequence[Any]]:
    """(region, price_cents) of the sales of a market, some thousand at a time."""
    query = select(sale.c.region, sale.c.price_cents).where(sale.c.market == market)
    yield from connection.execute(query).partitions(_READ_ROWS)


def asked_prices(connection: Connection, market: str) -> Iterator[Sequence[Any]]:
    """(zip, list_price_cents) of the homes for sale in a market, some thousand at a time."""
    query = select(listing.c.zip, listing.c.list_price_cents).where(listing.c.market == market)
    query = query.where(listing.c.offer == "sale", listing.c.list_price_cents.is_not(None))
    yield from connection.execute(query.where(listing.c.zip.is_not(None))).partitions(_READ_ROWS)


def stored_listings(connection: Connection, listing_ids: Iterable[str]) -> dict[str, bytes]:
    """Digest of what is stored of each listing; those that are not are left out."""
    found: dict[str, bytes] = {}
    columns = (listing.c.listing_id, listing.c.content)
    for some in parts(listing_ids):
        rows = connection.execute(select(*columns).where(listing.c.listing_id.in_(some)))
        found.update((of, content) for of, content in rows)
    return found


def put_listings(connection: Connection, rows: Columns, renewed: Iterable[str]) -> None:
    """Stores listings; the `renewed` among them are there already and give way."""
    for some in parts(renewed):
        connection.execute(delete(listing).where(listing.c.listing_id.in_(some)))
    insert_columns(connection, listing, rows)


#: what names a point of a source
POINT = ("region_type", "region", "metric", "period")


def stored_points(
    connection: Connection, source: str, keys: Iterable[tuple[str, str]], first: str, last: str
) -> dict[tuple[str, str, str, str], tuple[float, str, str]]:
    """Points of (region_type, region) pairs from one period to another: value, unit, frequency."""
    of = series_point.c
    query = select(*(of[name] for name in POINT), of.value, of.unit, of.frequency)
    query = query.where(of.source == source, of.period.between(first, last))
    found: dict[tuple[str, str, str, str], tuple[float, str, str]] = {}
    for some in parts(keys, 400):
        rows = connection.execute(query.where(tuple_(of.region_type, of.region).in_(some)))
        found.update(((row[0], row[1], row[2], row[3]), (row[4], row[5], row[6])) for row in rows)
    return found


def add_points(connection: Connection, rows: Columns) -> None:
    """Inserts points of series; columns: all of the table."""
    insert_columns(connection, series_point, rows)


def renew_points(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Brings stored points up to date; rows: all columns of the table."""
    if not rows:
        return
    of = series_point.c
    changing = ("value", "unit", "frequency", "batch_id")
    same = [of[name] == bindparam(f"of_{name}") for name in ("source", *POINT)]
    statement = update(series_point).where(*same)
    statement = statement.values({name: bindparam(f"new_{name}") for name in changing})
    given = [
        {f"of_{name}": row[name] for name in ("source", *POINT)}
        | {f"new_{name}": row[name] for name in changing}
        for row in rows
    ]
    connection.execute(statement, given)
