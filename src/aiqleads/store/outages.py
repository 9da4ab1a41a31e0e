"""Faults of a database that pass by themselves are told as `busy`, HTTP 503.

A lock that is not given, a server that restarts, a session that was ended, a full disk. The
transaction is not there; or all of it is, where the answer to its commit was lost. Never a part.
"""

from __future__ import annotations

import select
from typing import Any

import structlog
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as NoneFree

from aiqleads.errors import Refused

log = structlog.get_logger(__name__)

# PostgreSQL: lock timeout, deadlock, serialisation failure.
_CONTENTION = {"55P03", "40P01", "40001"}
# PostgreSQL's classes: connection, too few resources, an operator's intervention.
_OUTAGES = ("08", "53", "57")
_SQLITE_OUTAGES = ("disk I/O error", "disk is full", "unable to open database")
_RETRY_AFTER_S = 2


def busy() -> Refused:
    """Somebody else's transaction stood in the way for too long."""
    detail = "the database is busy; nothing was changed"
    return Refused("busy", detail, status=503, retry_after=1)


def unreachable() -> Refused:
    """No answer came; if it was the answer to a commit, nobody knows here what became of it."""
    detail = "the database cannot be reached now; send the same request again"
    return Refused("busy", detail, status=503, retry_after=_RETRY_AFTER_S)


def told(problem: Exception) -> Refused | None:
    """What a fault that passes is to whoever asked; None for one of another kind.

    problem: SQLAlchemy's, or the driver's own.
    """
    if isinstance(problem, NoneFree):
        return busy()  # every connection of the process is in use
    lost = isinstance(problem, DBAPIError) and problem.connection_invalidated
    cause = problem.orig if isinstance(problem, DBAPIError) else problem
    if _is_contention(cause):
        return busy()
    if not lost and not _is_outage(cause):
        return None
    # The type alone: a message may carry values of a row.
    log.warning("database_unreachable", error=type(cause).__name__)
    return unreachable()


def _is_contention(cause: BaseException | None) -> bool:
    text = str(cause)
    if _is_operational(cause) and ("is locked" in text or "is busy" in text):
        return True
    return getattr(cause, "sqlstate", None) in _CONTENTION


def _is_outage(cause: BaseException | None) -> bool:
    if not _is_operational(cause):
        return False
    code = getattr(cause, "sqlstate", "")
    if code is None:
        return True  # it was not the server that spoke: it could not be reached
    return code.startswith(_OUTAGES) or any(each in str(cause) for each in _SQLITE_OUTAGES)


def _is_operational(cause: BaseException | None) -> bool:
    """Whether it is what PEP 249 calls so, in whichever driver."""
    return any(each.__name__ == "OperationalError" for each in type(cause).__mro__)


def tell(engine: Engine) -> None:
    """Makes every fault of this engine that passes a `Refused("busy")`, reading or writing."""

    @event.listens_for(engine, "handle_error")
    def _tell(context: ExceptionContext) -> Refused | None:
        problem = context.sqlalchemy_exception
        return told(problem) if isinstance(problem, DBAPIError) else None


def renew(engine: Engine) -> None:
    """Makes the pool give out no session that has ended, at no cost worth naming.

    Nothing comes on a session that nobody uses but the word that it is over (or that a setting
    changed): one on which something has come is replaced, and so are those opened before it.
    """

    @event.listens_for(engine, "checkout")
    def _renew(driver: Any, _record: Any, _proxy: Any) -> None:
        if has_ended(driver):
            raise InvalidatePoolError("the session has ended")


def has_ended(driver: Any) -> bool:
    """Whether a session of PostgreSQL that nobody uses is over, or may be."""
    if driver.closed:
        return True
    asked = select.poll()
    asked.register(driver.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(asked.poll(0))
