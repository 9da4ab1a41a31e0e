"""Transactions of many threads on one SQLite file: shared commits, each atomic by itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from aiqleads.errors import Refused
from aiqleads.settings import Settings
from aiqleads.store import transactions
from aiqleads.store.database import connect
from aiqleads.store.transactions import writing


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(Settings(home=tmp_path), "commerce")
    with engine.begin() as connection:
        connection.execute(text("create table thing (name text primary key)"))
    yield engine
    engine.dispose()


def names(engine: Engine) -> set[str]:
    """What is on the disk, as another program would read it."""
    with sqlite3.connect(str(engine.url.database)) as other:
        return {row[0] for row in other.execute("select name from thing")}


def add(engine: Engine, name: str) -> None:
    with writing(engine) as connection:
        connection.execute(text("insert into thing values (:name)"), {"name": name})


def together(*works: Any) -> list[BaseException | None]:
    """Runs each in a thread of its own; what each raised."""
    raised: list[BaseException | None] = [None] * len(works)

    def run(number: int) -> None:
        try:
            works[number]()
        except BaseException as problem:
            raised[number] = problem

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


class Gate:
    """A transaction that waits inside its turn until others queue behind it."""

    def __init__(self, engine: Engine, waiting: int) -> None:
        self._engine, self._waiting = engine, waiting
        self.entered = threading.Event()

    def __call__(self) -> None:
        queue = transactions._queue(self._engine)
        with writing(self._engine) as connection:
            connection.execute(text("insert into thing values ('gate')"))
            self.entered.set()
            while queue._waiting < self._waiting:
                pass


def behind(gate: Gate, work: Any) -> Any:
    def run() -> None:
        gate.entered.wait()
        work()

    return run


@pytest.fixture
def commits(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(transactions, "_LONGEST_SECONDS", 60.0)
    counted: list[int] = []
    event.listen(engine, "commit", lambda _connection: counted.append(1))
    return counted


def test_those_who_wait_share_a_commit(engine: Engine, commits: list[int]) -> None:
    gate = Gate(engine, waiting=5)
    works = [behind(gate, lambda n=n: add(engine, f"n{n}")) for n in range(5)]
    assert together(gate, *works) == [None] * 6
    assert names(engine) == {"gate", *(f"n{n}" for n in range(5))}
    assert len(commits) == 1


def test_one_alone_commits_at_once(engine: Engine, commits: list[int]) -> None:
    add(engine, "a")
    assert names(engine) == {"a"}
    assert len(commits) == 1


def test_what_fails_takes_back_its_own_rows_alone(engine: Engine, commits: list[int]) -> None:
    gate = Gate(engine, waiting=2)

    def fails() -> None:
        with writing(engine) as connection:
            connection.execute(text("insert into thing values ('lost')"))
            raise ValueError("no")

    raised = together(gate, behind(gate, fails), behind(gate, lambda: add(engine, "kept")))
    assert [type(problem) for problem in raised] == [type(None), ValueError, type(None)]
    assert names(engine) == {"gate", "kept"}
    assert len(commits) == 1


def test_nobody_is_told_before_the_commit(
    engine: Engine, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[set[str]] = []
    gate = Gate(engine, waiting=3)

    def adds(name: str) -> Any:
        def run() -> None:
            add(engine, name)
            on_disk.append(names(engine))

        return behind(gate, run)

    together(gate, *(adds(name) for name in "abc"))
    assert on_disk == [{"gate", "a", "b", "c"}] * 3


def test_a_commit_that_fails_fails_for_all_who_share_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, waiting=2)
    monkeypatch.setattr(transactions, "_LONGEST_SECONDS", 60.0)

    @event.listens_for(engine, "commit")
    def _full(_connection: Any) -> None:
        raise OSError("the disk is full")

    raised = together(gate, *(behind(gate, lambda n=n: add(engine, n)) for n in "ab"))
    assert [type(problem) for problem in raised] == [OSError] * 3
    event.remove(engine, "commit", _full)
    assert names(engine) == set()
    add(engine, "later")
    assert names(engine) == {"later"}


def test_a_transaction_that_the_database_took_back_is_nobodys(
    engine: Engine, commits: list[int]
) -> None:
    gate = Gate(engine, waiting=1)

    def spoils() -> None:
        with writing(engine) as connection:
            # As SQLite does by itself on a full disk.
            connection.exec_driver_sql("rollback")

    raised = together(gate, behind(gate, spoils))
    assert isinstance(raised[0], Refused)
    assert raised[1] is not None
    assert names(engine) == set()
    add(engine, "later")
    assert names(engine) == {"later"}


def test_who_gives_up_waiting_leaves_no_commit_behind(
    engine: Engine, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_TURN_SECONDS", 0.05)
    entered = threading.Event()
    done = threading.Event()

    def slow() -> None:
        with writing(engine) as connection:
            connection.execute(text("insert into thing values ('slow')"))
            entered.set()
            done.wait(10)

    def hasty() -> None:
        entered.wait()
        try:
            add(engine, "hasty")
        finally:
            done.set()

    raised = together(slow, hasty)
    assert raised[0] is None
    assert isinstance(raised[1], Refused)
    assert raised[1].status == 503
    assert names(engine) == {"slow"}
