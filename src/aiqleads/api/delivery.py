"""Routes by which an agent has what it bought sent to its own system, or fetches it as a file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from aiqleads.api import schemas
from aiqleads.api.auth import OrderReader, Reader, Receiver
from aiqleads.api.cursors import decode, encode
from aiqleads.api.once import Once, json_answer
from aiqleads.api.ranking import disclosed
from aiqleads.api.state import ServiceState, State
from aiqleads.commerce import endpoints, reports
from aiqleads.commerce.disclosure import Disclosure
from aiqleads.commerce.lead_table import as_csv
from aiqleads.domain import moment
from aiqleads.store.outbox import Event

router = APIRouter(tags=["delivery"])
DeliveryPath = Annotated[str, Path(max_length=120, pattern=schemas.VISIBLE)]


@router.get(
    "/v1/leads.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def leads_csv(
    caller: Reader,
    state: State,
    since: Annotated[date | None, Query(description="first day of orders (UTC)")] = None,
    until: Annotated[date | None, Query(description="last day of orders (UTC)")] = None,
) -> Response:
    """Every lead that the agent bought, with its person, a line each, oldest first."""
    found = reports.lines(state.commerce, caller.agent, *reports.days_us(since, until))

    def people(lead_ids: Sequence[str]) -> dict[str, Disclosure]:
        return disclosed(state, lead_ids)

    name = f'attachment; filename="leads-{caller.agent}.csv"'
    headers = {"Content-Disposition": name, "Cache-Control": "no-store"}
    return StreamingResponse(as_csv(found, people), media_type="text/csv", headers=headers)


@router.get("/v1/delivery")
def get_delivery(caller: OrderReader, state: State) -> schemas.DeliveryAnswer:
    """Where the agent's leads are sent."""
    found = endpoints.view(state.commerce, state.vault, caller.agent, state.now_us())
    return _endpoint(state, found)


@router.put("/v1/delivery", response_model=schemas.DeliveryAnswer)
def put_delivery(
    caller: Receiver, once: Once, body: schemas.DeliveryRequest, state: State
) -> Response:
    """Sets where the agent's leads are sent from now on; a webhook's secret is shown once."""

    def work() -> Response:
        made = endpoints.put(
            state.commerce,
            state.vault,
            caller.agent,
            body.channel,
            body.url or body.address or "",
            state.now_us(),
            private=state.settings.private_webhooks,
            new_secret=body.new_secret,
            backlog=body.backlog,
            key=once.seed,
        )
        return json_answer(_endpoint(state, made), 200)

    return once.run(state, caller.agent, work, secret=True)


@router.delete("/v1/delivery", response_model=schemas.DeliveryRemoved)
def remove_delivery(caller: Receiver, once: Once, state: State) -> Response:
    """Sends nothing any more; what waits is given up, and the address and secrets forgotten."""

    def work() -> Response:
        ended = endpoints.remove(state.commerce, state.vault, caller.agent, state.now_us())
        return json_answer(schemas.DeliveryRemoved(given_up=ended), 200)

    return once.run(state, caller.agent, work)


@router.post("/v1/delivery/test", status_code=202, response_model=schemas.DeliveryEvent)
def test_delivery(caller: Receiver, once: Once, state: State) -> Response:
    """Sends an event without a lead, on the same way as all others."""

    def work() -> Response:
        made = endpoints.try_out(state.commerce, caller.agent, state.now_us(), key=once.seed)
        return json_answer(_event(made), 202)

    return once.run(state, caller.agent, work)


@router.get("/v1/deliveries")
def list_deliveries(
    caller: OrderReader,
    state: State,
    only: Annotated[Literal["waiting", "delivered", "dead"] | None, Query(alias="state")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> schemas.DeliveryPage:
    """What was to be sent to the agent's system and what became of it, newest first."""
    before = decode(cursor) if cursor else None
    found = endpoints.listing(state.commerce, caller.agent, limit + 1, state=only, before=before)
    page = found[:limit]
    more = len(found) > limit
    return schemas.DeliveryPage(
        items=[_event(each) for each in page],
        next_cursor=encode(page[-1].created_us, page[-1].event_id) if more else None,
    )


@router.post(
    "/v1/deliveries/{delivery_id}/retry", status_code=202, response_model=schemas.DeliveryEvent
)
def retry_delivery(
    caller: Receiver, once: Once, delivery_id: DeliveryPath, state: State
) -> Response:
    """Sends an event again now, under its id; an operator's key may for any agent."""
    who = caller.agent_id

    def work() -> Response:
        made = endpoints.retry(state.commerce, who, delivery_id, state.now_us())
        return json_answer(_event(made), 202)

    return once.run(state, who or f"operator:{caller.key_id}", work)


def _endpoint(state: ServiceState, found: endpoints.View) -> schemas.DeliveryAnswer:
    until_us = found.previous_until_us
    return schemas.DeliveryAnswer(
        channel=found.channel,
        url=found.address if found.channel == "webhook" else None,
        address=found.address if found.channel == "email" else None,
        secret=found.secret,
        previous_secret_until=None if until_us is None else moment(until_us),
        events=dict(found.events),
        created_at=moment(found.created_us),
        changed_at=moment(found.changed_us),
        notice=_notice(state, found.channel),
    )


def _notice(state: ServiceState, channel: str) -> str:
    if channel == "csv":
        return "Files are written to a folder of the operator's."
    if channel == "email" and state.settings.smtp_host is None:
        return "No mail server is set: mails are written to a folder and are not sent."
    return ""


def _event(event: Event) -> schemas.DeliveryEvent:
    def when(us: int | None) -> str | None:
        return None if us is None else moment(us)

    return schemas.DeliveryEvent.model_validate(
        {
            "delivery_id": event.event_id,
            "kind": event.kind,
            "order_id": event.order_id,
            "lead_id": event.lead_id,
            "state": event.state,
            "attempts": event.attempts,
            "created_at": moment(event.created_us),
            "next_try_at": when(event.next_try_us if event.state == "waiting" else None),
            "last_try_at": when(event.last_try_us),
            "last_status": event.last_status,
            "failure": event.failure,
            "delivered_at": when(event.delivered_us),
        }
    )
