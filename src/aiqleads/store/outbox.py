"""Statements on what agents' own systems are told; each runs in a transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from aiqleads.store.tables import delivery_endpoint, outbox
from aiqleads.store.transactions import insert_missing


@dataclass(frozen=True)
class Event:
    """Something to tell an agent. state: waiting, delivered, or dead (failure says why).

    order_id and lead_id, or notice_id: what it is about. next_try_us: when it may be sent.
    last_status: of the HTTP answer to the last try, None without one.
    """

    event_id: str
    agent_id: str
    kind: str
    order_id: str | None
    lead_id: str | None
    notice_id: str | None
    created_us: int
    next_try_us: int
    state: str = "waiting"
    attempts: int = 0
    last_try_us: int | None = None
    last_status: int | None = None
    failure: str | None = None
    delivered_us: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where an agent is told; `sealed` holds the address and the secrets."""

    agent_id: str
    channel: str
    key_id: str
    sealed: bytes
    created_us: int
    changed_us: int


def add(connection: Connection, events: Sequence[Event]) -> None:
    """Writes events; one that is there already stays as it is."""
    insert_missing(connection, outbox, [vars(event) for event in events])


def find(connection: Connection, event_id: str) -> Event | None:
    """An event by its id, or None."""
    query = select(outbox).where(outbox.c.event_id == event_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Event(**row)


def listing(
    connection: Connection,
    agent_id: str,
    limit: int,
    *,
    state: str | None = None,
    before: tuple[int, str] | None = None,
) -> list[Event]:
    """An agent's events, newest first; `before` is (created_us, event_id) of a page's last."""
    query = select(outbox).where(outbox.c.agent_id == agent_id)
    if state is not None:
        query = query.where(outbox.c.state == state)
    if before is not None:
        created_us, event_id = before
        query = query.where(
            (outbox.c.created_us < created_us)
            | ((outbox.c.created_us == created_us) & (outbox.c.event_id < event_id))
        )
    query = query.order_by(outbox.c.created_us.desc(), outbox.c.event_id.desc()).limit(limit)
    return [Event(**row) for row in connection.execute(query).mappings()]


def counts(connection: Connection, agent_id: str) -> dict[str, int]:
    """How many events of the agent are in each state; states without any are absent."""
    query = select(outbox.c.state, func.count()).where(outbox.c.agent_id == agent_id)
    rows = connection.execute(query.group_by(outbox.c.state))
    return {state: int(count) for state, count in rows}


def _due(now_us: int) -> ColumnElement[bool]:
    return (outbox.c.state == "waiting") & (outbox.c.next_try_us <= now_us)


def due_agents(connection: Connection, now_us: int) -> list[str]:
    """Agents with an endpoint for whom something may be sent now."""
    query = (
        select(delivery_endpoint.c.agent_id)
        .where(
            select(outbox.c.event_id)
            .where(outbox.c.agent_id == delivery_endpoint.c.agent_id, _due(now_us))
            .exists()
        )
        .order_by(delivery_endpoint.c.agent_id)
    )
    return list(connection.scalars(query))


def due(connection: Connection, agent_id: str, now_us: int, limit: int) -> list[Event]:
    """What may be sent to an agent now, the one that waits longest first."""
    query = (
        select(outbox)
        .where(outbox.c.agent_id == agent_id, _due(now_us))
        .order_by(outbox.c.next_try_us, outbox.c.event_id)
        .limit(limit)
    )
    return [Event(**row) for row in connection.execute(query).mappings()]


def delivered(connection: Connection, event: Event, status: int | None, now_us: int) -> bool:
    """Notes that an event arrived; False when it does not wait any more."""
    return _tried(
        connection,
        event,
        now_us,
        state="delivered",
        last_status=status,
        failure=None,
        delivered_us=now_us,
    )


def failed(
    connection: Connection,
    event: Event,
    failure: str,
    status: int | None,
    now_us: int,
    next_try_us: int | None,
) -> bool:
    """Notes a try that came to nothing; dead without a next one. False as `delivered`."""
    return _tried(
        connection,
        event,
        now_us,
        state="waiting" if next_try_us is not None else "dead",
        next_try_us=event.next_try_us if next_try_us is None else next_try_us,
        last_status=status,
        failure=failure,
    )


def _tried(connection: Connection, event: Event, now_us: int, **values: object) -> bool:
    which = (outbox.c.event_id == event.event_id, outbox.c.state == "waiting")
    noted = {"attempts": outbox.c.attempts + 1, "last_try_us": now_us, **values}
    return connection.execute(update(outbox).where(*which).values(noted)).rowcount == 1


def again(connection: Connection, event_id: str, now_us: int) -> None:
    """Lets an event have its turn now, with all its tries, whatever became of it before."""
    values = {"state": "waiting", "attempts": 0, "next_try_us": now_us, "failure": None}
    connection.execute(update(outbox).where(outbox.c.event_id == event_id).values(values))


def revive(connection: Connection, agent_id: str, now_us: int) -> int:
    """Lets all that is dead of an agent have its turn now; how many there were."""
    dead = (outbox.c.agent_id == agent_id) & (outbox.c.state == "dead")
    values = {"state": "waiting", "attempts": 0, "next_try_us": now_us, "failure": None}
    return connection.execute(update(outbox).where(dead).values(values)).rowcount


def give_up(connection: Connection, agent_id: str, failure: str) -> int:
    """Ends all that waits for an agent, for this reason; how many there were."""
    waiting = (outbox.c.agent_id == agent_id) & (outbox.c.state == "waiting")
    ended = connection.execute(update(outbox).where(waiting).values(state="dead", failure=failure))
    return ended.rowcount


def endpoint(connection: Connection, agent_id: str) -> Endpoint | None:
    """Where an agent is told, or None."""
    query = select(delivery_endpoint).where(delivery_endpoint.c.agent_id == agent_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Endpoint(**row)


def put_endpoint(connection: Connection, made: Endpoint) -> None:
    """Keeps an endpoint, in the place of the agent's one before."""
    remove_endpoint(connection, made.agent_id)
    connection.execute(insert(delivery_endpoint).values(**vars(made)))


def remove_endpoint(connection: Connection, agent_id: str) -> bool:
    """Forgets an agent's endpoint; False when there was none."""
    mine = delivery_endpoint.c.agent_id == agent_id
    return connection.execute(delete(delivery_endpoint).where(mine)).rowcount == 1
