"""Statements of the hot path: compiled once for each database, then given to the driver as text.

To build a statement, to find its compiled form and to wrap its rows costs SQLAlchemy several
times what the database needs for a hold. A `Prepared` does the first two once and leaves the
third out: its rows are named tuples of the driver's own values, so that a flag may be 0 or 1.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.exc import DBAPIError

from aiqleads.store import outages

Given = Mapping[str, Any]


@dataclass
class _Text:
    """What the driver gets. names: in the order of its places, None where it takes names.

    values: of what the statement itself compares with. row: makes a row of its columns.
    """

    sql: str
    names: tuple[str, ...] | None
    values: dict[str, Any]
    row: Callable[[Any], Any] | None = None

    def fill(self, given: Given) -> Any:
        everything = {**self.values, **given}
        if self.names is None:
            return everything
        return tuple(everything[name] for name in self.names)


class Prepared:
    """A Core statement whose values are named by `bindparam`, run on a connection.

    lists: names of the parameters that are sequences, for `in_(bindparam(.., expanding=True))`.
    columns: of an insert, which are given; all for none named. Each method raises DBAPIError
    where `Connection.execute` would, and Refused `busy` for a fault that passes.
    """

    def __init__(
        self,
        statement: Executable,
        *,
        lists: Sequence[str] = (),
        columns: Sequence[str] | None = None,
    ) -> None:
        self._statement: Any = statement
        self._lists, self._columns = tuple(lists), columns
        self._texts: dict[tuple[str, tuple[int, ...]], _Text] = {}

    def rows(self, connection: Connection, given: Given) -> list[Any]:
        """Everything that comes back, as named tuples."""
        text, filled = self._filled(connection.dialect, given)
        with _Driver(connection, text.sql) as driver:
            cursor = driver.execute(text.sql, filled)
            text.row = text.row or _row_of(cursor.description)
            return [text.row(each) for each in cursor.fetchall()]

    def one(self, connection: Connection, given: Given) -> Any:
        """The first row, or None where none comes back."""
        found = self.rows(connection, given)
        return found[0] if found else None

    def run(self, connection: Connection, given: Given) -> int:
        """How many rows it changed."""
        text, filled = self._filled(connection.dialect, given)
        with _Driver(connection, text.sql) as driver:
            return int(driver.execute(text.sql, filled).rowcount)

    def many(self, connection: Connection, rows: Sequence[Given]) -> int:
        """Runs a statement without lists once for each of the rows; how many it changed."""
        if not rows:
            return 0
        text = self._text(connection.dialect, ())
        with _Driver(connection, text.sql) as driver:
            cursor = driver.cursor()
            cursor.executemany(text.sql, [text.fill(row) for row in rows])
            return int(cursor.rowcount)

    def text(self, dialect: Dialect, lists: Given) -> str:
        """What the driver of a database gets, for lists of these lengths."""
        return self._text(dialect, tuple(len(lists[name]) for name in self._lists)).sql

    def _filled(self, dialect: Dialect, given: Given) -> tuple[_Text, Any]:
        if not self._lists:
            text = self._text(dialect, ())
            return text, text.fill(given)
        text = self._text(dialect, tuple(len(given[name]) for name in self._lists))
        each = {f"{name}_{i}": v for name in self._lists for i, v in enumerate(given[name], 1)}
        return text, text.fill({**given, **each})

    def _text(self, dialect: Dialect, lengths: tuple[int, ...]) -> _Text:
        key = (dialect.name, lengths)
        if key not in self._texts:
            self._texts[key] = self._compile(dialect, lengths)
        return self._texts[key]

    def _compile(self, dialect: Dialect, lengths: tuple[int, ...]) -> _Text:
        sized = dict(zip(self._lists, ([None] * n for n in lengths), strict=True))
        made = self._statement.compile(dialect=dialect, column_keys=self._columns)
        state = made.construct_expanded_state(made.construct_params(sized, _check=False))
        names = state.positiontup
        # A value that is asked for has no default: to leave it out is an error.
        asked = {name for name, bind in made.binds.items() if bind.required}
        asked |= {f"{name}_{i}" for name, each in sized.items() for i in range(1, len(each) + 1)}
        known = {name: value for name, value in state.parameters.items() if name not in asked}
        known |= {each.key: each.default.arg for each in made.insert_prefetch}
        return _Text(state.statement, None if names is None else tuple(names), known)


def _row_of(description: Sequence[Any]) -> Callable[[Any], Any]:
    """What makes a named tuple of a row with these columns."""
    named: Any = collections.namedtuple
    return named("Row", [column[0] for column in description])._make  # type: ignore[no-any-return]


class _Driver:
    """The driver's own connection, in the transaction of SQLAlchemy's, and its errors as theirs."""

    def __init__(self, connection: Connection, sql: str) -> None:
        self._connection, self._sql = connection, sql

    def __enter__(self) -> Any:
        if not self._connection.in_transaction():
            self._connection.begin()
        return self._connection.connection.driver_connection

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        dialect = self._connection.dialect
        dbapi: Any = dialect.dbapi
        if not isinstance(problem, dbapi.Error):
            return
        lost = dialect.is_disconnect(problem, self._connection.connection, None)
        if lost:
            self._connection.invalidate(problem)
        told = DBAPIError.instance(
            self._sql,
            None,
            problem,
            dbapi.Error,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=dialect,
        )
        raise outages.told(told) or told from problem
