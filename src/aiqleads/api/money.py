"""Routes of money that goes back or comes by itself: refunds, disputes, auto-recharge."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from aiqleads.api import schemas
from aiqleads.api.auth import Depositor, Operator, OrderReader
from aiqleads.api.once import Once, note
from aiqleads.api.state import State
from aiqleads.commerce import accruals, debts, orders, recharge, refunds, reports
from aiqleads.commerce.reconcile import sweep
from aiqleads.domain import moment
from aiqleads.store import refunds as rows
from aiqleads.store.database import reader
from aiqleads.store.refunds import Refund

router = APIRouter(tags=["money"])


@router.post(
    "/v1/orders/{order_id}/refunds",
    status_code=201,
    response_model=schemas.RefundAnswer,
    responses={202: {"model": schemas.RefundAnswer, "description": "Stripe has not answered."}},
)
def refund_order(
    caller: Operator,
    once: Once,
    order_id: schemas.OrderPath,
    body: schemas.RefundRequest,
    state: State,
) -> Response:
    """Gives money of an order back to where it came from; its leads stay sold."""

    def work() -> Response:
        made = refunds.ask(
            state.commerce,
            state.payments,
            order_id,
            body.amount_cents,
            caller.key_id,
            body.reason,
            state.now_us(),
            key=once.seed,
        )
        status = 202 if made.state == "open" else 201
        return JSONResponse(_refund(made).model_dump(mode="json"), status)

    return once.run(state, caller.key_id, work)


@router.get("/v1/orders/{order_id}/refunds")
def list_refunds(
    caller: OrderReader, order_id: schemas.OrderPath, state: State
) -> schemas.RefundList:
    """What of an order went back to its card or wallet."""
    orders.get(state.commerce, caller.agent, order_id)
    found = refunds.listing(state.commerce, order_id)
    return schemas.RefundList(items=[_refund(made) for made in found])


def _refund(made: Refund) -> schemas.RefundAnswer:
    return schemas.RefundAnswer(
        refund_id=made.refund_id,
        order_id=made.order_id or "",
        amount_cents=made.amount_cents,
        currency=made.currency,
        state=made.state,
        reason=made.reason,
        failure=made.failure,
        asked_at=moment(made.created_us),
    )


@router.get("/v1/admin/margins")
def list_margins(
    _caller: Operator,
    state: State,
    since: Annotated[date | None, Query(description="first day (UTC)")] = None,
    until: Annotated[date | None, Query(description="last day (UTC)")] = None,
) -> schemas.MarginList:
    """What the leads of each source brought, less its share and the tax."""
    terms = accruals.terms_of(state.settings, accruals.markets_of(state.commerce))
    span = reports.days_us(since, until)
    found = accruals.margins(state.commerce, state.leads, terms, *span)
    return schemas.MarginList(items=[schemas.MarginAnswer.model_validate(one) for one in found])


@router.get("/v1/admin/disputes")
def list_disputes(_caller: Operator, state: State) -> schemas.DisputeList:
    """Payments that buyers' banks took back, newest first."""
    with reader(state.commerce).connect() as connection:
        found = rows.disputes(connection)
    return schemas.DisputeList(
        items=[
            schemas.DisputeAnswer(
                dispute_id=each.dispute_id,
                order_id=each.order_id,
                agent_id=each.agent_id,
                amount_cents=each.amount_cents,
                currency=each.currency,
                state=each.state,
                reason=each.reason,
                opened_at=moment(each.opened_us),
                closed_at=None if each.closed_us is None else moment(each.closed_us),
            )
            for each in found
        ]
    )


@router.post("/v1/admin/orders/{order_id}/write-off", response_model=schemas.OrderState)
def write_off(caller: Operator, once: Once, order_id: schemas.OrderPath, state: State) -> Response:
    """Gives up the money of an order that could not be collected."""

    def work() -> Response:
        made = debts.write_off(state.commerce, order_id, state.now_us())
        answer = schemas.OrderState(order_id=made.order_id, state=made.state)
        return JSONResponse(answer.model_dump(mode="json"))

    return once.run(state, caller.key_id, work)


@router.post("/v1/admin/reconcile", response_model=schemas.ReconcileAnswer)
def reconcile(caller: Operator, once: Once, state: State) -> Response:
    """Brings every open payment to its end now, as the worker does each minute."""

    def work() -> Response:
        found = sweep(state.commerce, state.payments, state.now_us(), register=state.register)
        return JSONResponse(schemas.ReconcileAnswer.model_validate(found).model_dump())

    return once.run(state, caller.key_id, work)


@router.get("/v1/wallet/auto-recharge")
def get_auto_recharge(caller: OrderReader, state: State) -> schemas.AutoRechargeAnswer:
    """When and by how much the wallet tops itself up; 404 where it does not."""
    found = recharge.get(state.commerce, caller.agent)
    return schemas.AutoRechargeAnswer.model_validate(found)


@router.put("/v1/wallet/auto-recharge")
def put_auto_recharge(
    caller: Depositor, body: schemas.AutoRecharge, state: State
) -> schemas.AutoRechargeAnswer:
    """Lets the wallet top itself up; sets anew what was paused."""
    recharge.put(state.commerce, caller.agent, recharge.Rule(**body.model_dump()))
    note(state, caller, "PUT /v1/wallet/auto-recharge")
    return get_auto_recharge(caller, state)


@router.delete("/v1/wallet/auto-recharge", status_code=204)
def drop_auto_recharge(caller: Depositor, once: Once, state: State) -> Response:
    """Ends it."""

    def work() -> Response:
        recharge.drop(state.commerce, caller.agent)
        return Response(status_code=204)

    return once.run(state, caller.agent, work)
