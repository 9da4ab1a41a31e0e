"""Many rows in one statement, by columns: no row becomes an object on its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Table, insert

_Key = TypeVar("_Key")

#: keys in one IN (...)
MANY = 900


def parts(keys: Iterable[_Key], many: int = MANY) -> Iterator[list[_Key]]:
    """The keys in pieces that a statement can hold."""
    every = list(keys)
    return (every[at : at + many] for at in range(0, len(every), many))


def insert_columns(
    connection: Connection, table: Table, columns: Mapping[str, Sequence[Any]]
) -> None:
    """Inserts rows given as columns of one length; values are what the driver takes."""
    names = tuple(columns)
    text, order = _statement(table, names, connection.dialect)
    rows: Any
    if order is None:
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        rows = list(zip(*(columns[name] for name in order), strict=True))
    if rows:
        connection.exec_driver_sql(text, rows)


@lru_cache(maxsize=64)
def _statement(
    table: Table, names: tuple[str, ...], dialect: Dialect
) -> tuple[str, tuple[str, ...] | None]:
    """INSERT as the driver wants it; the order of its places, None where they have names."""
    compiled = insert(table).compile(dialect=dialect, column_keys=list(names))
    order = compiled.positiontup
    return str(compiled), tuple(order) if order else None
