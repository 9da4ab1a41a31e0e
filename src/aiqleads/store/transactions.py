"""Short write transactions that answer "busy" instead of failing, and insert-if-missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import Pool

from aiqleads.errors import Refused

# PostgreSQL: lock timeout, deadlock, serialisation failure.
_CONTENTION = {"55P03", "40P01", "40001"}
#: how long a thread waits for its turn, as long as SQLite itself waits for another process
_TURN_SECONDS = 30.0
_guard = threading.Lock()
_turns: WeakKeyDictionary[Pool, threading.Lock] = WeakKeyDictionary()


def _turn(engine: Engine) -> threading.Lock:
    """The lock by which the threads of one process queue for SQLite's single writer.

    SQLite's own wait is a sleep and retry, under which threads starve each other.
    """
    with _guard:
        return _turns.setdefault(engine.pool, threading.Lock())


def _is_contention(problem: DBAPIError) -> bool:
    text = str(problem.orig)
    if isinstance(problem, OperationalError) and ("is locked" in text or "is busy" in text):
        return True
    return getattr(problem.orig, "sqlstate", None) in _CONTENTION


def _busy() -> Refused:
    detail = "the database is busy; nothing was changed"
    return Refused("busy", detail, status=503, retry_after=1)


@contextmanager
def _queued(engine: Engine) -> Iterator[None]:
    if engine.dialect.name != "sqlite":
        yield
        return
    turn = _turn(engine)
    if not turn.acquire(timeout=_TURN_SECONDS):
        raise _busy()
    try:
        yield
    finally:
        turn.release()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back on any exception.

    A database that stays locked longer than its timeout is `Refused("busy")`, HTTP 503
    with `retry_after` seconds: nothing was written and the caller may try again. Not to be
    nested: the inner one would wait for the outer one's turn.
    """
    try:
        with _queued(engine), engine.begin() as connection:
            yield connection
    except DBAPIError as problem:
        if not _is_contention(problem):
            raise
        raise _busy() from problem


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts the rows whose key is not there yet; returns how many were new."""
    if not rows:
        return 0
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    if len(rows) == 1:
        return connection.execute(make(table).values(rows[0]).on_conflict_do_nothing()).rowcount
    statement = make(table).on_conflict_do_nothing()
    return connection.execute(statement, [dict(row) for row in rows]).rowcount
