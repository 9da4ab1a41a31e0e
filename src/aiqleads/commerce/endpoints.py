"""Where an agent's own system is told of what it bought, and what became of each event.

An agent has one endpoint: a webhook, an e-mail address, or a folder of CSV files. Address and
secrets are sealed together in the vault under a key that lasts as long as they do.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection, Engine

from aiqleads.commerce import letters, webhooks
from aiqleads.commerce.events import TEST
from aiqleads.commerce.ids import new_id
from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store import holds
from aiqleads.store import outbox as rows
from aiqleads.store.database import reader
from aiqleads.store.outbox import Endpoint, Event
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

Channel = Literal["webhook", "email", "csv"]
#: how long the secret before goes on signing, beside a new one
OVERLAP_US = US_PER_DAY
BEFORE, REMOVED = "before-endpoint", "endpoint-removed"


@dataclass(frozen=True)
class Target:
    """An opened endpoint. address: a URL, an e-mail address, or '' for files.

    secret: signs webhooks; '' for other channels. previous: the one before it, which signs
    beside it until previous_until_us. shown_for: digest of the request that made the secret.
    """

    channel: str
    address: str = field(repr=False)
    secret: str = field(default="", repr=False)
    previous: str = field(default="", repr=False)
    previous_until_us: int = 0
    shown_for: str = ""

    def secrets(self, now_us: int) -> list[str]:
        """What signs now, the newest first."""
        return [self.secret, *([self.previous] if now_us < self.previous_until_us else [])]


@dataclass(frozen=True)
class View:
    """An endpoint as its agent sees it. secret: only for the request that made it.

    events: how many are in each state. previous_until_us: None without a secret before.
    """

    channel: str
    address: str = field(repr=False)
    created_us: int
    changed_us: int
    events: Mapping[str, int]
    previous_until_us: int | None = None
    secret: str | None = field(default=None, repr=False)


def put(
    engine: Engine,
    vault: Vault,
    agent_id: str,
    channel: Channel,
    address: str,
    now_us: int,
    *,
    private: bool,
    new_secret: bool = False,
    backlog: bool = False,
    key: str | None = None,
) -> View:
    """Sets where the agent is told from now on, in the place of what was set before.

    A webhook's first secret is made here, a later one with new_secret; the one before signs
    beside it for a day. What waited before there was an endpoint is given up (it can be sent
    by hand), unless `backlog` asks for all that is not delivered. private: as in
    `webhooks.check_url`. key: as in `holds.place`; a repeat is shown the same secret.

    InvalidInput for an address that cannot be, Refused `busy` 503 where another request
    changed the endpoint meanwhile.
    """
    address, seed = _checked(channel, address, private=private), _digest(key)
    with reader(engine).connect() as connection:
        before = rows.endpoint(connection, agent_id)
    old = None if before is None else opened(vault, before)
    made = _target(old, channel, address, seed, now_us, new_secret=new_secret)
    key_id = f"endpoint:{agent_id}:{uuid.uuid4().hex}"
    (sealed,) = vault.seal([key_id], [_name(agent_id)], [json.dumps(vars(made)).encode()])
    created_us = now_us if before is None else before.created_us
    kept = Endpoint(agent_id, channel, key_id, sealed, created_us, now_us)
    try:
        with writing(engine) as connection:
            holds.lock_agent(connection, agent_id)
            if rows.endpoint(connection, agent_id) != before:
                detail = "another request changed the endpoint; nothing was changed"
                raise Refused("busy", detail, status=503, retry_after=1)
            rows.put_endpoint(connection, kept)
            if backlog:
                rows.revive(connection, agent_id, now_us)
            elif before is None:
                rows.give_up(connection, agent_id, BEFORE)
            view = _view(connection, kept, made, now_us)
    except BaseException:
        vault.destroy([key_id], now_us)
        raise
    if before is not None:
        vault.destroy([before.key_id], now_us)
    shown = made.secret if made.secret and made.shown_for == seed else None
    return View(**{**vars(view), "secret": shown})


def _checked(channel: Channel, address: str, *, private: bool) -> str:
    if channel == "webhook":
        webhooks.check_url(address, private=private)
    elif channel == "email":
        letters.check_address(address)
    elif address:
        raise InvalidInput("CSV files have no address")
    return address


def _target(
    old: Target | None, channel: str, address: str, seed: str, now_us: int, *, new_secret: bool
) -> Target:
    if channel != "webhook":
        return Target(channel, address)
    if old is None or not old.secret:
        return Target(channel, address, webhooks.new_secret(), shown_for=seed)
    if not new_secret or old.shown_for == seed:
        return Target(**{**vars(old), "address": address})
    return Target(
        channel, address, webhooks.new_secret(), old.secret, now_us + OVERLAP_US, shown_for=seed
    )


def _digest(key: str | None) -> str:
    return hashlib.sha256((key or uuid.uuid4().hex).encode()).hexdigest()


def _name(agent_id: str) -> str:
    return f"endpoint/{agent_id}"


def opened(vault: Vault, endpoint: Endpoint) -> Target | None:
    """Address and secrets of an endpoint; None where its key was destroyed."""
    (text,) = vault.unseal([endpoint.key_id], [_name(endpoint.agent_id)], [endpoint.sealed])
    return None if text is None else Target(**json.loads(text))


def view(engine: Engine, vault: Vault, agent_id: str, now_us: int) -> View:
    """The agent's endpoint, without its secret; UnknownName when there is none."""
    with reader(engine).connect() as connection:
        found = rows.endpoint(connection, agent_id)
        target = None if found is None else opened(vault, found)
        if found is None or target is None:
            raise UnknownName("no endpoint is set")
        return _view(connection, found, target, now_us)


def _view(connection: Connection, found: Endpoint, target: Target, now_us: int) -> View:
    return View(
        found.channel,
        target.address,
        found.created_us,
        found.changed_us,
        rows.counts(connection, found.agent_id),
        target.previous_until_us if now_us < target.previous_until_us else None,
    )


def remove(engine: Engine, vault: Vault, agent_id: str, now_us: int) -> int:
    """Forgets the endpoint with its secrets; how many events that waited are given up.

    Safe to repeat.
    """
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        found = rows.endpoint(connection, agent_id)
        if found is None:
            return 0
        rows.remove_endpoint(connection, agent_id)
        ended = rows.give_up(connection, agent_id, REMOVED)
    vault.destroy([found.key_id], now_us)
    return ended


def try_out(engine: Engine, agent_id: str, now_us: int, *, key: str | None = None) -> Event:
    """Puts an event into the outbox that says nothing but that it arrived.

    key: as in `holds.place`. Refused `no-delivery-endpoint` 409.
    """
    event_id = new_id("evt", agent_id, None if key is None else f"{TEST}|{key}")
    made = Event(event_id, agent_id, TEST, None, None, None, now_us, now_us)
    with writing(engine) as connection:
        _check_endpoint(connection, agent_id)
        rows.add(connection, [made])
        return rows.find(connection, event_id) or made


def retry(engine: Engine, agent_id: str | None, event_id: str, now_us: int) -> Event:
    """Lets an event be sent again now, under its id, also one that arrived.

    agent_id: whose it is; None for an operator, who may for anybody. UnknownName for another's
    event, Refused `no-delivery-endpoint` 409.
    """
    with writing(engine) as connection:
        found = rows.find(connection, event_id)
        if found is None or agent_id not in (None, found.agent_id):
            raise UnknownName(f"no delivery {event_id!r}")
        _check_endpoint(connection, found.agent_id)
        rows.again(connection, event_id, now_us)
        return rows.find(connection, event_id) or found


def _check_endpoint(connection: Connection, agent_id: str) -> None:
    if rows.endpoint(connection, agent_id) is None:
        raise Refused("no-delivery-endpoint", "no endpoint is set: PUT /v1/delivery sets one")


def listing(
    engine: Engine,
    agent_id: str,
    limit: int,
    *,
    state: str | None = None,
    before: tuple[int, str] | None = None,
) -> list[Event]:
    """The agent's events, newest first; before: as in `orders.listing`."""
    with reader(engine).connect() as connection:
        return rows.listing(connection, agent_id, limit, state=state, before=before)
