"""Leads that only an agent with a licence of their state may have, where a market asks for it.

A market's file says `licence = true`. A lead's state is that of its ZIP, else the market's. An
operator notes the licences that an agent holds; they are asked for at the hold and once more at
the checkout, since one may have run out between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Engine

from aiqleads.domain import moment
from aiqleads.errors import InvalidInput, Refused
from aiqleads.geo.states import state_of
from aiqleads.ingest.market import remembered_markets
from aiqleads.settings import Settings
from aiqleads.store import agents, holds
from aiqleads.store import licences as rows
from aiqleads.store.database import reader
from aiqleads.store.leads import market_and_zip
from aiqleads.store.licences import Licence
from aiqleads.store.transactions import writing

#: by market that asks for a licence: its state
Asking = Mapping[str, str]


def asking(settings: Settings) -> dict[str, str]:
    """The markets that ask for a licence, each with its state."""
    return {
        market.name: market.state
        for market in remembered_markets(settings)
        if market.licence and market.state
    }


def states(connection: Connection, asks: Asking, lead_ids: Sequence[str]) -> dict[str, str]:
    """By lead of a market that asks: the state whose licence it takes. In the room `leads`."""
    found = market_and_zip(connection, lead_ids)
    return {
        lead_id: state_of(zip_code or "") or asks[market]
        for lead_id, (market, zip_code) in found.items()
        if market in asks
    }


def lacking(
    connection: Connection, agent_id: str, wanted: Mapping[str, str], now_us: int
) -> dict[str, Refused]:
    """By lead that the agent may not have: why not. wanted: of `states`; now_us: wall clock."""
    if not wanted:
        return {}
    known = {each.state: each for each in rows.of_agent(connection, agent_id)}
    return {
        lead_id: _refused(lead_id, state, known.get(state))
        for lead_id, state in wanted.items()
        if state not in known or not known[state].is_valid(now_us)
    }


def check(connection: Connection, agent_id: str, wanted: Mapping[str, str], now_us: int) -> None:
    """Refused `licence-required` 403 (lead_id, state, expired_at) for the first one lacking."""
    if found := lacking(connection, agent_id, wanted, now_us):
        raise found[min(found)]


def _refused(lead_id: str, state: str, known: Licence | None) -> Refused:
    ended = None if known is None or known.expires_us is None else moment(known.expires_us)
    why = "none is noted of you" if ended is None else f"yours ended at {ended}"
    detail = f"the lead {lead_id} takes a licence of {state}, and {why}"
    return Refused(
        "licence-required", detail, status=403, lead_id=lead_id, state=state, expired_at=ended
    )


def of_agent(commerce: Engine, agent_id: str) -> list[Licence]:
    """What is noted of an agent, by state; UnknownName for a stranger."""
    agents.get(commerce, agent_id)
    with reader(commerce).connect() as connection:
        return rows.of_agent(connection, agent_id)


def put(
    commerce: Engine, agent_id: str, licences: Sequence[Licence], by: str, now_us: int
) -> list[Licence]:
    """Notes an agent's licences in the place of those that were noted; safe to repeat.

    by: the operator's key. What the agent holds stays held; its checkout asks anew.
    InvalidInput for a state that is named twice, UnknownName for a stranger.
    """
    if len({each.state for each in licences}) < len(licences):
        raise InvalidInput("a state is named twice")
    with writing(commerce) as connection:
        holds.lock_agent(connection, agent_id)
        rows.replace(connection, agent_id, licences, by, now_us)
        return rows.of_agent(connection, agent_id)
