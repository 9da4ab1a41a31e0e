"""The connections of one process to one room."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from aiqleads.store import outages

#: kept ready for single statements; the others are for everything else
_READY = 2


class Pool(QueuePool):
    """Connections of one process; where none comes free in time, the database is busy.

    A few that are taken for a single statement stay out, in the driver's autocommit mode: to
    come and go takes a third of the time that PostgreSQL needs for a whole hold.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ready: list[PoolProxiedConnection] = []

    def connect(self) -> PoolProxiedConnection:
        """One of the connections."""
        try:
            return super().connect()
        except NoneFree as problem:
            raise outages.busy() from problem

    def take(self) -> PoolProxiedConnection:
        """One in autocommit mode, which `give` takes back; the driver's errors as they are."""
        while (kept := self._pop()) is not None:
            if not outages.has_ended(kept.driver_connection):
                return kept
            kept.invalidate()
        taken = self.connect()
        _set_autocommit(taken, on=True)
        return taken

    def give(self, taken: PoolProxiedConnection) -> None:
        """What `take` gave, whatever became of it."""
        if taken.is_valid and len(self._ready) < _READY:
            self._ready.append(taken)
        else:
            _let_go(taken)

    def dispose(self) -> None:
        """Closes every connection that nobody has."""
        while (kept := self._pop()) is not None:
            _let_go(kept)
        super().dispose()

    def _pop(self) -> PoolProxiedConnection | None:
        try:
            return self._ready.pop()
        except IndexError:  # another thread was faster, or there is none
            return None


def _let_go(taken: PoolProxiedConnection) -> None:
    if taken.is_valid:
        _set_autocommit(taken, on=False)
    taken.close()


def _set_autocommit(taken: PoolProxiedConnection, *, on: bool) -> None:
    driver: Any = taken.driver_connection
    driver.autocommit = on
