"""Pushed bodies, sealed, from their 202 until they are parsed; in the room `vault`.

A delivery is kept once, whoever sends it again. A body that was parsed is wiped with its
key: what it held is in the store, and sealed among the raw payloads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Engine, func, select, update

from aiqleads.domain import US_PER_HOUR, US_PER_SECOND
from aiqleads.errors import InvalidInput
from aiqleads.store.database import reader
from aiqleads.store.tables import data_key, heartbeat, pushed
from aiqleads.store.transactions import insert_missing, writing
from aiqleads.store.vault import Vault

#: the duty of the background process as a whole
WORKER = "work"
#: tries until a push counts as failed: about four hours with the pauses between
ATTEMPTS = 14
_FIRST_PAUSE_US, _LONGEST_PAUSE_US = 5 * US_PER_SECOND, US_PER_HOUR
_REASON = 300


@dataclass(frozen=True)
class Push:
    """A body as it came. delivery: its name, unique in the source. received_us: wall clock."""

    source: str
    delivery: str
    market: str
    received_us: int
    media_type: str
    body: bytes = field(repr=False)
    attempts: int = 0


@dataclass(frozen=True)
class Waiting:
    """What is in the inbox; oldest_us: when the one that waits longest came, if any does."""

    waiting: int = 0
    failed: int = 0
    oldest_us: int | None = None


def put(vault: Vault, push: Push) -> bool:
    """Keeps a push sealed; committed when this returns. False: it was there already."""
    same = (pushed.c.source == push.source) & (pushed.c.delivery == push.delivery)
    with reader(vault.engine).connect() as connection:
        if connection.scalar(select(func.count()).where(same)):
            return False
    key_id = _key_id(push)
    (sealed,) = vault.seal([key_id], [_name(push)], [push.body])
    row = {
        "source": push.source,
        "delivery": push.delivery,
        "market": push.market,
        "received_us": push.received_us,
        "media_type": push.media_type[:80],
        "body": sealed,
        "key_id": key_id,
        "state": "waiting",
        "attempts": 0,
        "not_before_us": 0,
    }
    with writing(vault.engine) as connection:
        return insert_missing(connection, pushed, [row]) == 1


def waiting(
    vault: Vault, now_us: int, *, limit: int = 500, without: Collection[str] = ()
) -> list[Push]:
    """Pushes whose turn it is, oldest first; not those of the sources in `without`."""
    turn = (pushed.c.state == "waiting") & (pushed.c.not_before_us <= now_us)
    query = select(pushed).where(turn & pushed.c.source.not_in(sorted(without)))
    ordered = query.order_by(pushed.c.received_us, pushed.c.source, pushed.c.delivery).limit(limit)
    with reader(vault.engine).connect() as connection:
        rows = connection.execute(ordered).all()
    found = []
    for row in rows:
        push = Push(row.source, row.delivery, row.market, row.received_us, row.media_type, b"")
        (body,) = vault.unseal([row.key_id], [_name(push)], [row.body])
        if body is None:
            raise InvalidInput(f"the key of the push {row.source}/{row.delivery} was destroyed")
        found.append(
            Push(
                row.source,
                row.delivery,
                row.market,
                row.received_us,
                row.media_type,
                body,
                row.attempts,
            )
        )
    return found


def done(vault: Vault, push: Push, batch_id: str, now_us: int) -> None:
    """A push was parsed and what it held is stored: its body and key are wiped."""
    with writing(vault.engine) as connection:
        values = {"state": "done", "done_us": now_us, "batch_id": batch_id, "body": b""}
        connection.execute(update(pushed).where(_is(push)).values(**values, failure=None))
        key = data_key.c.key_id == _key_id(push)
        connection.execute(update(data_key).where(key).values(wrapped=None, destroyed_us=now_us))


def failed(vault: Vault, push: Push, reason: str, now_us: int) -> str:
    """A push could not be parsed this time; the state it has now: waiting or failed.

    Pauses double from seconds to an hour. reason: never anything of the body.
    """
    attempts = push.attempts + 1
    state = "failed" if attempts >= ATTEMPTS else "waiting"
    pause_us = min(_FIRST_PAUSE_US << min(attempts - 1, 20), _LONGEST_PAUSE_US)
    values = {
        "state": state,
        "attempts": attempts,
        "not_before_us": now_us + pause_us,
        "failure": reason[:_REASON],
    }
    with writing(vault.engine) as connection:
        connection.execute(update(pushed).where(_is(push)).values(**values))
    return state


def try_again(vault: Vault, source: str) -> int:
    """Lets every push of a source that failed, or pauses after a failure, have its turn now."""
    stuck = (pushed.c.state == "failed") | (pushed.c.not_before_us > 0)
    mine = (pushed.c.source == source) & (pushed.c.state != "done") & stuck
    with writing(vault.engine) as connection:
        change = update(pushed).where(mine).values(state="waiting", attempts=0, not_before_us=0)
        return connection.execute(change).rowcount


def counts(vault_engine: Engine) -> dict[str, Waiting]:
    """What waits and what failed, by source; sources without either are absent."""
    query = (
        select(pushed.c.source, pushed.c.state, func.count(), func.min(pushed.c.received_us))
        .where(pushed.c.state != "done")
        .group_by(pushed.c.source, pushed.c.state)
        .order_by(pushed.c.source)
    )
    found: dict[str, Waiting] = {}
    with reader(vault_engine).connect() as connection:
        for source, state, count, oldest_us in connection.execute(query):
            now = found.get(source, Waiting())
            if state == "waiting":
                found[source] = Waiting(count, now.failed, oldest_us)
            else:
                found[source] = Waiting(now.waiting, count, now.oldest_us)
    return found


# --- who works on it ---------------------------------------------------------------


def beat(vault: Vault, worker: str, now_us: int, detail: str = "") -> None:
    """Says that a duty of the background process is alive, and where it stands."""
    row = {"worker": worker, "at_us": now_us, "detail": detail}
    with writing(vault.engine) as connection:
        if not insert_missing(connection, heartbeat, [row]):
            mine = update(heartbeat).where(heartbeat.c.worker == worker)
            connection.execute(mine.values(at_us=now_us, detail=detail))


def last_beat(vault_engine: Engine, worker: str) -> tuple[int, str] | None:
    """When (wall clock) a duty was last seen, and what it said; None: never."""
    query = select(heartbeat.c.at_us, heartbeat.c.detail).where(heartbeat.c.worker == worker)
    with reader(vault_engine).connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else (row.at_us, row.detail)


def _is(push: Push) -> ColumnElement[bool]:
    same = (pushed.c.source == push.source) & (pushed.c.delivery == push.delivery)
    return same & (pushed.c.state != "done")


def _name(push: Push) -> str:
    return f"pushed/{push.source}/{push.delivery}"


def _key_id(push: Push) -> str:
    return f"push:{hashlib.sha256(_name(push).encode()).hexdigest()}"
