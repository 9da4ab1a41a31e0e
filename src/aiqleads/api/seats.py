"""Routes of an account: its members, its licences, and who changed what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse

from aiqleads.api import schemas
from aiqleads.api.auth import Depositor, Operator, OrderReader
from aiqleads.api.cursors import decode, encode
from aiqleads.api.once import Once, note
from aiqleads.api.state import ServiceState, State
from aiqleads.commerce import licences
from aiqleads.commerce.ids import new_id
from aiqleads.domain import ENTITLEMENTS, US_PER_DAY, day_of, midnight_us, moment
from aiqleads.store import agents, audit, members
from aiqleads.store.audit import Act
from aiqleads.store.licences import Licence
from aiqleads.store.members import Member

router = APIRouter(tags=["account"])


@router.get("/v1/members")
def list_members(caller: Depositor, state: State) -> schemas.MemberList:
    """Who has a seat of the account."""
    found = members.of_agent(state.commerce, caller.agent)
    tier = agents.get(state.commerce, caller.agent).tier
    return schemas.MemberList(items=[_member(one) for one in found], seats=ENTITLEMENTS[tier].seats)


@router.post("/v1/members", status_code=201, response_model=schemas.MemberAnswer)
def add_member(
    caller: Depositor, once: Once, body: schemas.MemberRequest, state: State
) -> Response:
    """Gives somebody a seat and a key; the key is in this answer alone."""

    def work() -> Response:
        member_id = new_id("mem", caller.agent, once.seed)
        made, key = members.add(
            state.commerce, caller.agent, body.name, body.role, state.now_us(), member_id
        )
        answer = _member(made).model_copy(update={"key": key})
        return JSONResponse(answer.model_dump(mode="json"), 201)

    return once.run(state, caller.agent, work, secret=True)


@router.delete("/v1/members/{member_id}", status_code=204)
def remove_member(
    caller: Depositor,
    once: Once,
    member_id: Annotated[str, Path(max_length=40, pattern=schemas.VISIBLE)],
    state: State,
) -> Response:
    """Takes a seat away; its keys end within seconds."""

    def work() -> Response:
        members.remove(state.commerce, caller.agent, member_id, state.now_us())
        return Response(status_code=204)

    return once.run(state, caller.agent, work)


def _member(one: Member) -> schemas.MemberAnswer:
    return schemas.MemberAnswer(
        member_id=one.member_id,
        name=one.name,
        role=one.role,
        created_at=moment(one.created_us),
    )


@router.get("/v1/licences")
def own_licences(caller: OrderReader, state: State) -> schemas.LicenceList:
    """Which licences are noted of the account, and which its market asks for."""
    return _licences(state, caller.agent)


@router.get("/v1/admin/agents/{agent_id}/licences")
def licences_of(
    _caller: Operator, agent_id: schemas.AgentPath, state: State
) -> schemas.LicenceList:
    """Which licences are noted of an agent, and which its market asks for."""
    return _licences(state, agent_id)


@router.put("/v1/admin/agents/{agent_id}/licences")
def put_licences(
    caller: Operator, agent_id: schemas.AgentPath, body: schemas.LicenceRequest, state: State
) -> schemas.LicenceList:
    """Notes which licences an agent holds, in the place of those that were noted."""
    made = [Licence(one.state, one.number, _ends_us(one)) for one in body.licences]
    licences.put(state.commerce, agent_id, made, caller.key_id, state.now_us())
    note(state, caller, f"PUT /v1/admin/agents/{agent_id}/licences")
    return _licences(state, agent_id)


def _ends_us(one: schemas.Licence) -> int | None:
    return None if one.expires_on is None else midnight_us(one.expires_on) + US_PER_DAY


def _licences(state: ServiceState, agent_id: str) -> schemas.LicenceList:
    market = agents.get(state.commerce, agent_id).market
    found = [
        schemas.Licence(
            state=one.state,
            number=one.number,
            expires_on=None if one.expires_us is None else day_of(one.expires_us - US_PER_DAY),
        )
        for one in licences.of_agent(state.commerce, agent_id)
    ]
    return schemas.LicenceList(licences=found, asked_for=state.register.licensed.get(market))


_Limit = Annotated[int, Query(ge=1, le=100)]
_Cursor = Annotated[str | None, Query(max_length=200)]


@router.get("/v1/audit")
def own_acts(
    caller: Depositor, state: State, limit: _Limit = 50, cursor: _Cursor = None
) -> schemas.ActPage:
    """What the account's members and keys changed, newest first."""
    return _page(state, caller.agent, limit, cursor)


@router.get("/v1/admin/audit")
def all_acts(
    _caller: Operator, state: State, limit: _Limit = 50, cursor: _Cursor = None
) -> schemas.ActPage:
    """What anybody changed, operators too, newest first."""
    return _page(state, None, limit, cursor)


def _page(
    state: ServiceState, agent_id: str | None, limit: int, cursor: str | None
) -> schemas.ActPage:
    before = decode(cursor) if cursor else None
    found = audit.listing(state.commerce, agent_id, limit=limit + 1, before=before)
    page = found[:limit]
    return schemas.ActPage(
        items=[_act(one) for one in page],
        next_cursor=encode(page[-1].at_us, page[-1].audit_id) if len(found) > limit else None,
    )


def _act(one: Act) -> schemas.ActAnswer:
    facts = {name: value for name, value in vars(one).items() if name != "at_us"}
    return schemas.ActAnswer(**facts, at=moment(one.at_us))
