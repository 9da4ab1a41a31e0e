"""Short write transactions that answer "busy" instead of failing, and insert-if-missing.

SQLite has one writer, and each commit costs a wait for the disk. So the threads of a process
take turns in one transaction after another, each in a savepoint of its own, and those that
wait for their turn share a commit. Nobody is told anything before it is on the disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, RootTransaction, Table, pool
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree

from aiqleads.store import outages
from aiqleads.store.outages import busy as _busy
from aiqleads.store.pool import Pool
from aiqleads.store.prepared import Prepared

#: how long a thread waits for its turn, as long as SQLite itself waits for another process
_TURN_SECONDS = 30.0
#: a commit is not put off for longer, nor shared by more
_LONGEST_SECONDS, _MOST = 0.005, 256


@dataclass
class _Shared:
    """One transaction of the database, and who waits for its commit."""

    connection: Connection
    transaction: RootTransaction
    began: float
    size: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    problem: BaseException | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Takes back what one thread wrote when it fails, and nothing of the others'."""
        driver: Any = self.connection.connection.driver_connection
        driver.execute("SAVEPOINT turn")
        try:
            yield
        except BaseException:
            if driver.in_transaction:
                driver.execute("ROLLBACK TO turn")
            raise
        finally:
            if driver.in_transaction:
                driver.execute("RELEASE turn")

    def end(self) -> None:
        """Commits; where that fails nothing of it was written, which all are told."""
        try:
            if self.problem is None:
                self.transaction.commit()
        except BaseException as problem:
            self.problem = problem
        finally:
            if self.problem is not None:
                self.connection.invalidate()  # what state it is in, nobody can say
            self.connection.close()
            self.over.set()

    def check(self) -> None:
        """Some faults (a full disk) make SQLite roll all of a transaction back by itself."""
        driver: Any = self.connection.connection.dbapi_connection
        if driver is None or not driver.in_transaction:
            self.problem = _busy()

    @property
    def is_due(self) -> bool:
        full = self.size >= _MOST or time.monotonic() - self.began >= _LONGEST_SECONDS
        return full or self.problem is not None


class _Queue:
    """The threads of one process that write to one SQLite file.

    SQLite's own wait is a sleep and retry, under which threads starve each other.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting = 0
        self._open: _Shared | None = None

    @contextmanager
    def writing(self, engine: Engine) -> Iterator[Connection]:
        """A turn in the open transaction; left when that is committed, or was not."""
        shared = self._enter(engine)
        try:
            with shared.turn():
                yield shared.connection
        finally:
            # Who was refused waits too: what it was refused for may not be on the disk yet.
            self._leave(shared)

    def _enter(self, engine: Engine) -> _Shared:
        with self._guard:
            self._waiting += 1
        mine = self._turn.acquire(timeout=_TURN_SECONDS)
        with self._guard:
            self._waiting -= 1
        if not mine:
            self._give_up()
            raise _busy()
        try:
            if self._open is None:
                self._open = _begin(engine)
            return self._open
        except BaseException:
            self._turn.release()
            raise

    def _leave(self, shared: _Shared) -> None:
        shared.size += 1
        shared.check()
        self._commit_if_due()
        self._turn.release()
        shared.over.wait()
        if shared.problem is not None:
            raise shared.problem

    def _give_up(self) -> None:
        """Whoever had the turn last may have left the commit to the one that goes now."""
        if self._turn.acquire(blocking=False):
            self._commit_if_due()
            self._turn.release()

    def _commit_if_due(self) -> None:
        """Ends the open transaction unless somebody else will who waits for a turn in it."""
        if self._open is not None and (not self._waiting or self._open.is_due):
            self._open.end()
            self._open = None


def _begin(engine: Engine) -> _Shared:
    connection = engine.connect()
    try:
        return _Shared(connection, connection.begin(), time.monotonic())
    except BaseException:
        connection.close()
        raise


_guard = threading.Lock()
_queues: WeakKeyDictionary[pool.Pool, _Queue] = WeakKeyDictionary()


def _queue(engine: Engine) -> _Queue:
    with _guard:
        return _queues.setdefault(engine.pool, _Queue())


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back on any exception.

    On SQLite it shares its commit with those of other threads. A database that stays locked
    longer than its timeout is `Refused("busy")`, HTTP 503 with `retry_after` seconds: nothing
    was written and the caller may try again. So is one that cannot be reached, or whose answer
    to the commit was lost: then all was written, or nothing. Not to be nested: the inner one
    would wait for the outer one's turn.
    """
    sqlite_file = engine.dialect.name == "sqlite"
    with (
        _telling(engine),
        _queue(engine).writing(engine) if sqlite_file else engine.begin() as connection,
    ):
        yield connection


def call(engine: Engine, statement: str, given: Sequence[Any]) -> Any:
    """The first row of one statement of PostgreSQL's that is a transaction by itself.

    The bare driver runs it, which takes a third of the time that SQLAlchemy takes for the
    same. None for no row. Refused as `writing` is.
    """
    ours, taken = cast(Pool, engine.pool), None
    errors: Any = engine.dialect.loaded_dbapi
    try:
        taken = ours.take()
        driver: Any = taken.driver_connection
        return driver.execute(statement, given).fetchone()
    except errors.Error as problem:
        if taken is not None:
            taken.invalidate(problem)
        if (refused := outages.told(problem)) is None:
            raise
        raise refused from problem
    finally:
        if taken is not None:
            ours.give(taken)


@contextmanager
def _telling(engine: Engine) -> Iterator[None]:
    """Faults that pass by themselves are `Refused("busy")`, those of the bare driver too."""
    driver: Any = engine.dialect.loaded_dbapi
    try:
        yield
    except (DBAPIError, NoneFree, driver.Error) as problem:
        if (refused := outages.told(problem)) is None:
            raise
        raise refused from problem


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts the rows whose key is not there yet; returns how many were new."""
    if not rows:
        return 0
    return _missing(connection.dialect.name, table, tuple(rows[0])).many(connection, rows)


@cache
def _missing(dialect: str, table: Table, columns: tuple[str, ...]) -> Prepared:
    kind: Any = {"postgresql": postgresql, "sqlite": sqlite}[dialect]
    return Prepared(kind.insert(table).on_conflict_do_nothing(), columns=columns)
