"""Routes about people: whom an agent knows already, who is not to be sold, what was revoked.

What is sent here tells who somebody is. Nothing of it is stored or logged but as keyed
digests: not even the digest by which a request that is sent again is known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from aiqleads.api import schemas
from aiqleads.api.auth import Holder, Operator
from aiqleads.api.once import Once, OneAnswer, json_answer
from aiqleads.api.state import ServiceState, State
from aiqleads.commerce import consent, contacts
from aiqleads.commerce.contacts import RULES
from aiqleads.domain import moment
from aiqleads.errors import InvalidInput

router = APIRouter(tags=["people"])
_CSV = "text/csv"
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": schemas.ContactList.model_json_schema()},
            _CSV: {"schema": {"type": "string", "examples": ["email,phone\nada@example.com,\n"]}},
        },
    }
}


async def _contacts_sent(request: Request) -> list[str]:
    """The contacts of a JSON body or of a CSV."""
    body = await request.body()
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type == _CSV:
        try:
            found = contacts.contacts_in(body.decode("utf-8-sig"))
        except UnicodeDecodeError as problem:
            raise InvalidInput("the CSV is not UTF-8") from problem
        if not 0 < len(found) <= schemas.MOST_CONTACTS:
            most = schemas.MOST_CONTACTS
            raise InvalidInput(f"{len(found)} contacts; send 1 to {most} at a time")
        return found
    if media_type != "application/json":
        raise InvalidInput("the body must be application/json or text/csv")
    try:
        return schemas.ContactList.model_validate_json(body).contacts
    except ValidationError as problem:
        faults = problem.errors(include_input=False, include_url=False, include_context=False)
        located = [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        raise RequestValidationError(located) from problem


Sent = Annotated[list[str], Depends(_contacts_sent)]


def _keyed(once: OneAnswer, state: ServiceState) -> OneAnswer:
    """The same request, known by a keyed digest: from a plain one a phone could be guessed."""
    return replace(once, digest=state.vault.match([once.digest])[0].hex())


# --- an agent's own people ---------------------------------------------------------


@router.put("/v1/contacts", response_model=schemas.UploadAnswer, openapi_extra=_UPLOAD)
def put_contacts(caller: Holder, once: Once, sent: Sent, state: State) -> Response:
    """Adds e-mails and phones of people whom the agent knows already; send many in turns."""

    def work() -> Response:
        made = contacts.upload(state.commerce, state.vault, caller.agent, sent, state.now_us())
        return json_answer(schemas.UploadAnswer.model_validate(made))

    return _keyed(once, state).run(state, caller.agent, work)


@router.get("/v1/contacts")
def get_contacts(caller: Holder, state: State) -> schemas.ContactsAnswer:
    """How many contacts the agent has uploaded, and what is used of the day; no contact."""
    found = contacts.use(state.commerce, caller.agent, state.now_us())
    return schemas.ContactsAnswer(
        stored=found.stored,
        stored_limit=RULES.stored,
        uploaded_today=found.uploaded_today,
        uploads_per_day=RULES.uploads_per_day,
        answered_today=found.answered_today,
        answers_per_day=RULES.answers_per_day,
        hours_before=RULES.hours_before,
        frees_at=moment(found.frees_us),
    )


@router.delete("/v1/contacts", response_model=schemas.ForgetAnswer)
def delete_contacts(caller: Holder, once: Once, state: State) -> Response:
    """Forgets every contact of the agent."""

    def work() -> Response:
        return json_answer(
            schemas.ForgetAnswer(deleted=contacts.forget(state.commerce, caller.agent))
        )

    return once.run(state, caller.agent, work)


# --- people who are not to be sold -------------------------------------------------


@router.get("/v1/admin/suppressions")
def count_suppressions(_caller: Operator, state: State) -> schemas.SuppressionCounts:
    """How many contacts are suppressed, revoked, lifted; no contact."""
    return schemas.SuppressionCounts.model_validate(consent.counts(state.leads))


@router.post("/v1/admin/suppressions", response_model=schemas.StoppedAnswer)
def add_suppressions(
    caller: Operator, once: Once, body: schemas.SuppressionRequest, state: State
) -> Response:
    """Sells nobody with one of these e-mails or phones any more, now or later."""

    def work() -> Response:
        found = consent.suppress(
            state.leads,
            state.commerce,
            state.vault,
            body.contacts,
            body.reason,
            caller.key_id,
            state.now_us(),
        )
        return json_answer(schemas.StoppedAnswer.model_validate(found))

    return _keyed(once, state).run(state, caller.key_id, work)


@router.delete("/v1/admin/suppressions", response_model=schemas.LiftedAnswer)
def lift_suppressions(
    caller: Operator, once: Once, body: schemas.ContactList, state: State
) -> Response:
    """Ends suppressions; what they closed stays closed."""

    def work() -> Response:
        found = consent.lift(state.leads, state.vault, body.contacts, caller.key_id, state.now_us())
        return json_answer(schemas.LiftedAnswer.model_validate(found))

    return _keyed(once, state).run(state, caller.key_id, work)


@router.post("/v1/admin/consents/revoke", response_model=schemas.StoppedAnswer)
def revoke_consent(
    caller: Operator, once: Once, body: schemas.RevocationRequest, state: State
) -> Response:
    """Takes back all that a person agreed to until now, named by a lead or by a contact."""

    def work() -> Response:
        found = consent.revoke(
            state.leads,
            state.commerce,
            state.vault,
            body.reason,
            caller.key_id,
            state.now_us(),
            lead_id=body.lead_id,
            contact=body.contact,
        )
        return json_answer(schemas.StoppedAnswer.model_validate(found))

    return _keyed(once, state).run(state, caller.key_id, work)
