"""Connections that are kept ready for single statements, on a private PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text

from aiqleads.errors import Refused
from aiqleads.settings import Settings
from aiqleads.store.database import connect
from aiqleads.store.pool import Pool
from aiqleads.store.transactions import call

PID = "select pg_backend_pid()"


@pytest.fixture
def address(postgres: Any) -> str:
    return str(postgres.create())


@pytest.fixture
def engine(address: str) -> Iterator[Engine]:
    made = connect(Settings(database_url=address), "commerce")
    yield made
    made.dispose()


def end(address: str, pid: int) -> None:
    with psycopg.connect(address.replace("+psycopg", "")) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", (pid,))


def sessions(address: str) -> int:
    with psycopg.connect(address.replace("+psycopg", "")) as other:
        query = "select count(*) from pg_stat_activity where datname = current_database()"
        row = other.execute(query).fetchone()
        return int(row[0]) - 1 if row else 0


def test_a_statement_is_a_transaction_by_itself_on_a_connection_that_stays(engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("create table t (n int)"))
    first = call(engine, "with new as (insert into t values (%s)) select pg_backend_pid()", (7,))
    assert call(engine, PID, ()) == first
    with engine.connect() as connection:
        assert connection.scalar(text("select n from t")) == 7
        # A transaction of SQLAlchemy's has a connection of its own, and is one.
        connection.execute(text("insert into t values (8)"))
        assert connection.scalar(text(PID)) != first[0]
        connection.rollback()
        assert connection.scalar(text("select count(*) from t")) == 1


def test_no_row_is_none_and_an_error_is_the_drivers(engine) -> None:
    assert call(engine, "select 1 where false", ()) is None
    with pytest.raises(psycopg.errors.UndefinedTable):
        call(engine, "select * from nothing", ())
    assert call(engine, "select 2", ()) == (2,)


def test_a_session_that_ended_while_nobody_asked_is_replaced(engine, address) -> None:
    (pid,) = call(engine, PID, ())
    end(address, pid)
    assert call(engine, PID, ()) != (pid,)


def test_one_that_ends_under_a_statement_is_busy_and_the_next_works(engine) -> None:
    with pytest.raises(Refused) as no:
        call(engine, "select pg_terminate_backend(pg_backend_pid())", ())
    assert (no.value.kind, no.value.status) == ("busy", 503)
    assert call(engine, "select 2", ()) == (2,)


def test_few_are_kept_and_none_after_the_end(engine, address) -> None:
    pool = engine.pool
    taken = [pool.take() for _ in range(6)]
    assert sessions(address) == 6
    for each in taken:
        pool.give(each)
    with engine.connect() as connection:
        assert connection.scalar(text("select 1")) == 1
        with pytest.raises(Exception, match="relation"):
            connection.execute(text("select * from nothing"))
        # In a transaction, not in the driver's autocommit: what failed ended it.
        with pytest.raises(Exception, match="aborted"):
            connection.execute(text("select 1"))
    engine.dispose()
    assert sessions(address) == 0


def test_where_no_connection_is_free_the_database_is_busy(address) -> None:
    made = create_engine(address, poolclass=Pool, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with made.connect(), pytest.raises(Refused) as no:
        call(made, "select 1", ())
    assert no.value.kind == "busy"
    made.dispose()
