"""Routes that sell: holds, checkout, orders, the wallet, Stripe's webhook.

Plain functions, which the framework runs in threads: each waits for the database, and a card
payment for Stripe as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, StreamingResponse

from aiqleads.api import schemas
from aiqleads.api.auth import Caller, Depositor, Holder, Operator, OrderReader
from aiqleads.api.cursors import decode, encode
from aiqleads.api.once import Once, json_answer, note
from aiqleads.api.problems import MEDIA_TYPE
from aiqleads.api.ranking import offered_row, quote_of
from aiqleads.api.receipts import receipt_page
from aiqleads.api.state import ServiceState, State
from aiqleads.commerce import (
    caps,
    checkout,
    contacts,
    extensions,
    holds,
    licences,
    orders,
    recharge,
    reports,
    returns,
    slots,
    wallet,
)
from aiqleads.commerce.reconcile import receive_webhook
from aiqleads.domain import COOL_DOWN_MINUTES, ENTITLEMENTS, moment
from aiqleads.errors import Refused, UnknownName
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.store import agents
from aiqleads.store.caps import Cap
from aiqleads.store.database import reader
from aiqleads.store.holds import Item
from aiqleads.store.orders import Order
from aiqleads.store.returns import Return

router = APIRouter(tags=["shop"])
_UNKNOWN = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


@router.post("/v1/cart/holds", status_code=201, response_model=schemas.HoldAnswer)
def place_hold(caller: Holder, once: Once, body: schemas.HoldRequest, state: State) -> Response:
    """Holds leads at today's price, for as long as the agent's tier allows."""

    def work() -> Response:
        lines, buyers, absent = _asked(caller, body, state)
        slots.ensure(state.commerce, buyers)
        now_us = state.now_us()
        held = holds.place(
            state.commerce,
            caller.agent,
            lines,
            body.mode,
            now_us,
            key=once.seed,
            exclusive=body.exclusive,
        )
        held = replace(held, refused=(*held.refused, *absent))
        return json_answer(_hold(held, now_us), 201)

    return once.run(state, caller.agent, work)


def _asked(
    caller: Caller, body: schemas.HoldRequest, state: ServiceState
) -> tuple[list[holds.HoldLine], list[tuple[str, int]], list[dict[str, Any]]]:
    """The leads with their prices, with their buyers, and what best_effort does without.

    UnknownName for a lead that is not on offer, Refused `lead-withheld` or `suppressed` for
    one that may not be sold now, `licence-required` for one that takes a licence which the
    agent has not, `outside-filters` for one that it has ruled out and `duplicate-for-buyer` for
    one whose person it knows; with best_effort only when none is left.
    """
    snapshot, now_us = state.snapshot, state.now_us()
    now_market_us = snapshot.market_now_us(now_us)
    sellable = state.register.look(body.lead_ids, now_us)
    unlicensed = _unlicensed(state, caller.agent, body.lead_ids, now_us)
    wanted = caps.filters_of(state.commerce, caller.agent)
    lines, buyers, absent = [], [], []
    for lead_id in body.lead_ids:
        try:
            row, tier = offered_row(state, snapshot, caller, lead_id)
            if lead_id in sellable.problems:
                raise sellable.problems[lead_id]
            if lead_id in unlicensed:
                raise unlicensed[lead_id]
            price = quote_of(snapshot, row, tier, now_market_us, exclusive=body.exclusive)
            columns, manifest = snapshot.columns, snapshot.manifest
            caps.check_lead(
                wanted,
                lead_id,
                manifest.intents[int(columns["intent"][row])],
                manifest.property_types[int(columns["property_type"][row])],
                price.total_cents,
            )
        except (UnknownName, Refused) as problem:
            absent.append(holds.told(lead_id, problem))
            busy = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            if busy or body.mode != "best_effort" or len(absent) == len(body.lead_ids):
                raise
            continue
        agreed = sellable.consents[lead_id]
        lines.append(holds.HoldLine(lead_id, price, _ends_us(snapshot, row), agreed))
        buyers.append((lead_id, int(snapshot.columns["max_buyers"][row])))
    known = _known(state, caller.agent, [line.lead_id for line in lines], now_us)
    if known and (body.mode != "best_effort" or len(absent) + len(known) == len(body.lead_ids)):
        raise contacts.duplicate(known)
    absent.extend(holds.told(lead_id, contacts.duplicate([lead_id])) for lead_id in known)
    gone = {each["lead_id"] for each in absent}
    lines = [line for line in lines if line.lead_id not in gone]
    return lines, [each for each in buyers if each[0] not in gone], absent


def _unlicensed(
    state: ServiceState, agent_id: str, lead_ids: Sequence[str], now_us: int
) -> dict[str, Refused]:
    """Those of the leads that take a licence which the agent has not, each with its refusal."""
    wanted = state.register.states(lead_ids)
    if not wanted:
        return {}
    with reader(state.commerce).connect() as connection:
        return licences.lacking(connection, agent_id, wanted, now_us)


def _known(state: ServiceState, agent_id: str, lead_ids: Sequence[str], now_us: int) -> list[str]:
    """Those of the leads whose person the agent is told that it knows."""
    return contacts.answer(state.leads, state.commerce, state.vault, agent_id, lead_ids, now_us)


def _ends_us(snapshot: Snapshot, row: int) -> int | None:
    """End of a lead's life on the wall clock; a market whose clock stands still has none."""
    wall = snapshot.manifest.clock == "wall"
    return int(snapshot.columns["expires_market_us"][row]) if wall else None


@router.get("/v1/cart")
def cart(caller: Holder, state: State) -> schemas.CartAnswer:
    """What the agent holds now."""
    found = holds.cart(state.commerce, caller.agent, state.now_us())
    return schemas.CartAnswer(
        holds=[_hold(one, found.now_us) for one in found.holds],
        total_cents=found.total_cents,
        currency=state.snapshot.manifest.currency,
        server_time=moment(found.now_us),
    )


@router.delete("/v1/cart/holds/{hold_id}", response_model=schemas.ReleaseAnswer)
def release_hold(caller: Holder, once: Once, hold_id: schemas.HoldPath, state: State) -> Response:
    """Gives a hold back; safe to repeat."""

    def work() -> Response:
        count = holds.release(state.commerce, caller.agent, hold_id, state.now_us())
        return json_answer(schemas.ReleaseAnswer(hold_id=hold_id, released=count), 200)

    return once.run(state, caller.agent, work)


@router.post(
    "/v1/checkout",
    status_code=201,
    response_model=schemas.OrderAnswer,
    responses={
        202: {
            "model": schemas.OrderAnswer,
            "description": "The card's bank asks for authentication; or, as a problem "
            "`payment-outcome-unknown`, nobody knows yet: look at the order (Location), or send "
            "the same request again.",
            "content": _UNKNOWN,
        }
    },
)
def check_out(caller: Holder, once: Once, body: schemas.CheckoutRequest, state: State) -> Response:
    """Buys what is held: by wallet in one transaction, or by card in the order hold,
    authorise, sell, capture."""

    def work() -> Response:
        now_us, agent_id, seed = state.now_us(), caller.agent, once.seed
        if body.pay_with == "wallet":
            order = _pay_by_wallet(state, agent_id, body.hold_ids, now_us, seed)
        else:
            order = checkout.pay_by_card(
                state.commerce,
                state.payments,
                agent_id,
                body.hold_ids,
                body.pay_with,
                now_us,
                key=seed,
                register=state.register,
            )
        waits = order.state in ("pending", "requires_action")
        return json_answer(_order(order), 202 if waits else 201)

    return once.run(state, caller.agent, work)


def _pay_by_wallet(
    state: ServiceState, agent_id: str, hold_ids: Sequence[str], now_us: int, key: str
) -> Order:
    """Out of the wallet, which may top itself up first."""

    def pay() -> Order:
        return checkout.pay_by_wallet(
            state.commerce, agent_id, hold_ids, now_us, key=key, register=state.register
        )

    try:
        return pay()
    except Refused as no:
        needed = no.extra.get("needed_cents")
        if needed is None:
            raise
        if not recharge.recharge(
            state.commerce, state.payments, agent_id, now_us, needed_cents=needed
        ):
            if back := recharge.held_back(state.commerce, agent_id, now_us):
                no.extra["auto_recharge"] = back
            raise
    return pay()


@router.patch("/v1/cart/holds/{hold_id}", response_model=schemas.ExtensionAnswer)
def extend_hold(
    caller: Holder, once: Once, hold_id: schemas.HoldPath, body: schemas.ExtendRequest, state: State
) -> Response:
    """Lets a hold run longer, for a price out of the wallet."""

    def work() -> Response:
        now_us, agent_id = state.now_us(), caller.agent
        held = _held_by(state, agent_id, hold_id, now_us)
        lives = {item.lead_id: _life_of(state.snapshot, item.lead_id) for item in held.items}
        made = extensions.extend(
            state.commerce, agent_id, hold_id, body.hours, lives, now_us, key=once.seed
        )
        answer = schemas.ExtensionAnswer(
            extension_id=made.extension_id,
            hours=made.hours,
            price_cents=made.price_cents,
            currency=made.currency,
            hold=_hold(_held_by(state, agent_id, hold_id, now_us), now_us),
        )
        return json_answer(answer, 200)

    return once.run(state, caller.agent, work)


def _held_by(state: ServiceState, agent_id: str, hold_id: str, now_us: int) -> holds.Hold:
    """A live hold of the agent; Refused `hold-expired` where it has none of this name."""
    for held in holds.cart(state.commerce, agent_id, now_us).holds:
        if held.hold_id == hold_id:
            return held
    raise Refused("hold-expired", "you hold nothing under this id", hold_ids=[hold_id])


def _life_of(snapshot: Snapshot, lead_id: str) -> int | None:
    """End of a lead's life; of one that is off the market by now it is now."""
    try:
        return _ends_us(snapshot, snapshot.lead_row(lead_id))
    except UnknownName:
        return 1


@router.get("/v1/orders")
def list_orders(
    caller: OrderReader,
    state: State,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> schemas.OrderPage:
    """The agent's orders, newest first."""
    before = decode(cursor) if cursor else None
    found = orders.listing(state.commerce, caller.agent, limit=limit + 1, before=before)
    page = found[:limit]
    more = len(found) > limit
    return schemas.OrderPage(
        items=[_order(order) for order in page],
        next_cursor=encode(page[-1].created_us, page[-1].order_id) if more else None,
    )


@router.get(
    "/v1/orders.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def orders_csv(
    caller: OrderReader,
    state: State,
    since: Annotated[date | None, Query(description="first day (UTC)")] = None,
    until: Annotated[date | None, Query(description="last day (UTC)")] = None,
) -> Response:
    """Every lead that the agent bought, a line each, oldest first."""
    found = reports.lines(state.commerce, caller.agent, *reports.days_us(since, until))
    name = f'attachment; filename="orders-{caller.agent}.csv"'
    headers = {"Content-Disposition": name}
    return StreamingResponse(reports.as_csv(found), media_type="text/csv", headers=headers)


@router.get("/v1/spend")
def get_spend(caller: OrderReader, state: State) -> schemas.SpendAnswer:
    """What the agent bought and got back, by month."""
    found = reports.spend(state.commerce, caller.agent)
    return schemas.SpendAnswer(months=[schemas.SpendMonth.model_validate(one) for one in found])


@router.get("/v1/orders/{order_id}/receipt", response_class=HTMLResponse)
def get_receipt(caller: OrderReader, order_id: schemas.OrderPath, state: State) -> Response:
    """A paid order as a page to keep or print."""
    found = reports.receipt(state.commerce, caller.agent, order_id)
    notices = [text for text in (state.payments_notice, state.snapshot.manifest.notice) if text]
    return HTMLResponse(receipt_page(found, notices))


@router.get("/v1/orders/{order_id}")
def get_order(
    caller: OrderReader, order_id: schemas.OrderPath, state: State
) -> schemas.OrderAnswer:
    """One order of the agent."""
    return _order(orders.get(state.commerce, caller.agent, order_id))


@router.post(
    "/v1/orders/{order_id}/returns",
    status_code=201,
    response_model=schemas.ReturnAnswer,
    responses={202: {"model": schemas.ReturnAnswer, "description": "An operator decides."}},
)
def give_back(
    caller: Holder,
    once: Once,
    order_id: schemas.OrderPath,
    body: schemas.ReturnRequest,
    state: State,
) -> Response:
    """Gives a bought lead back for credit; the order stays as it is."""

    def work() -> Response:
        made = returns.ask(
            state.commerce,
            caller.agent,
            order_id,
            body.lead_id,
            body.reason,
            body.evidence,
            state.now_us(),
            key=once.seed,
        )
        return json_answer(_return(made), 201 if made.state == "credited" else 202)

    return once.run(state, caller.agent, work)


@router.get("/v1/orders/{order_id}/returns")
def list_returns(
    caller: OrderReader, order_id: schemas.OrderPath, state: State
) -> schemas.ReturnList:
    """What of an order was given back."""
    found = returns.of_order(state.commerce, caller.agent, order_id)
    return schemas.ReturnList(items=[_return(each) for each in found])


@router.get("/v1/notices")
def list_notices(caller: OrderReader, state: State) -> schemas.NoticeList:
    """What the agent was told: of leads that others report, holds that ended, returns."""
    return schemas.NoticeList(
        items=[
            schemas.Notice(
                notice_id=each.notice_id,
                kind=each.kind,
                lead_id=each.lead_id,
                detail=each.detail,
                created_at=moment(each.created_us),
            )
            for each in returns.notices(state.commerce, caller.agent)
        ]
    )


@router.get("/v1/admin/returns")
def waiting_returns(_caller: Operator, state: State) -> schemas.ReturnList:
    """Returns that wait for an operator, oldest first."""
    return schemas.ReturnList(items=[_return(each) for each in returns.waiting(state.commerce)])


@router.post("/v1/admin/returns/{return_id}", response_model=schemas.ReturnAnswer)
def decide_return(
    caller: Operator,
    once: Once,
    return_id: Annotated[str, Path(max_length=40, pattern=schemas.VISIBLE)],
    body: schemas.ReturnDecision,
    state: State,
) -> Response:
    """Credits a return that waits, or refuses it; the buyer is told the note."""

    def work() -> Response:
        made = returns.decide(
            state.commerce,
            return_id,
            credit=body.credit,
            by=caller.key_id,
            note=body.note,
            now_us=state.now_us(),
        )
        return json_answer(_return(made), 200)

    return once.run(state, caller.key_id, work)


def _return(made: Return) -> schemas.ReturnAnswer:
    return schemas.ReturnAnswer(
        return_id=made.return_id,
        order_id=made.order_id,
        lead_id=made.lead_id,
        reason=made.reason,
        evidence=made.evidence,
        state=made.state,
        credit_cents=made.credit_cents,
        currency=made.currency,
        asked_at=moment(made.asked_us),
        decided_at=None if made.decided_us is None else moment(made.decided_us),
        note=made.note,
    )


@router.get("/v1/limits")
def get_limits(caller: OrderReader, state: State) -> schemas.LimitsAnswer:
    """What the agent may do: by its tier, and by what it has set itself."""
    return _limits(state, caller.agent)


@router.put("/v1/limits")
def put_limits(
    caller: Depositor, body: schemas.LimitsRequest, state: State
) -> schemas.LimitsAnswer:
    """Replaces the agent's own caps and filters."""
    made = [Cap(one.measure, one.per, one.most) for one in body.caps]
    filters = caps.Filters.parse(body.filters.model_dump(mode="json"))
    caps.put(state.commerce, caller.agent, made, filters)
    note(state, caller, "PUT /v1/limits")
    return _limits(state, caller.agent)


def _limits(state: ServiceState, agent_id: str) -> schemas.LimitsAnswer:
    now_us = state.now_us()
    found = caps.view(state.commerce, agent_id, now_us)
    tier = agents.get(state.commerce, agent_id).tier
    live = sum(len(held.items) for held in holds.cart(state.commerce, agent_id, now_us).holds)
    return schemas.LimitsAnswer(
        tier=schemas.TierLimits(
            tier=tier,
            live_holds_used=live,
            cool_down_minutes=COOL_DOWN_MINUTES,
            **vars(ENTITLEMENTS[tier]),
        ),
        caps=[
            schemas.CapUse(
                measure=use.cap.measure,
                per=use.cap.per,
                most=use.cap.most,
                used=use.used,
                frees_at=None if use.frees_us is None else moment(use.frees_us),
            )
            for use in found.caps
        ],
        filters=schemas.HoldFilters.model_validate(vars(found.filters)),
    )


@router.get("/v1/wallet")
def get_wallet(caller: OrderReader, state: State) -> schemas.WalletAnswer:
    """The agent's credit and its newest movements."""
    found = wallet.view(state.commerce, caller.agent)
    return schemas.WalletAnswer(
        agent_id=found.agent_id,
        balance_cents=found.balance_cents,
        receivable_cents=found.receivable_cents,
        currency=found.currency,
        postings=[
            schemas.Posting(
                txn_id=one.txn_id,
                about=one.about,
                cents=one.cents,
                created_at=moment(one.created_us),
            )
            for one in found.postings
        ],
        payments=state.payments_notice,
    )


@router.post(
    "/v1/wallet/topups",
    status_code=201,
    response_model=schemas.TopUpAnswer,
    responses={
        202: {
            "model": schemas.TopUpAnswer,
            "description": "Not paid yet; or, as a problem `payment-outcome-unknown`, nobody "
            "knows: send the same request again.",
            "content": _UNKNOWN,
        }
    },
)
def top_up(caller: Depositor, once: Once, body: schemas.TopUpRequest, state: State) -> Response:
    """Buys credit by card."""

    def work() -> Response:
        made = wallet.topup(
            state.commerce,
            state.payments,
            caller.agent,
            body.amount_cents,
            body.payment_method,
            state.now_us(),
            key=once.seed,
        )
        answer = schemas.TopUpAnswer(
            topup_id=made.attempt_id,
            state=made.state,
            amount_cents=made.amount_cents,
            currency=made.currency,
            balance_cents=wallet.balance(state.commerce, caller.agent),
            client_secret=made.client_secret,
        )
        return json_answer(answer, 201 if made.state == "captured" else 202)

    return once.run(state, caller.agent, work)


@router.post("/v1/stripe/webhook")
async def take_webhook(
    request: Request,
    state: State,
    signature: Annotated[str | None, Header(alias="Stripe-Signature", max_length=2000)] = None,
) -> schemas.WebhookAnswer:
    """Takes Stripe's webhooks: signed over the raw body, and only then believed."""
    body = await request.body()
    outcome = await run_in_threadpool(
        receive_webhook,
        state.commerce,
        state.payments,
        body,
        signature,
        state.now_us(),
        register=state.register,
    )
    return schemas.WebhookAnswer.model_validate({"outcome": outcome})


def _hold(held: holds.Hold, now_us: int) -> schemas.HoldAnswer:
    return schemas.HoldAnswer(
        hold_id=held.hold_id,
        expires_at=moment(held.expires_us),
        total_cents=held.total_cents,
        items=[_held(item) for item in held.items],
        refused=list(held.refused),
        exclusive=held.exclusive,
        server_time=moment(now_us),
    )


def _held(item: Item) -> schemas.HeldLead:
    return schemas.HeldLead(
        lead_id=item.lead_id,
        price_cents=item.price_cents,
        currency=item.currency,
        price_lines=[schemas.PriceLine.model_validate(dict(line)) for line in item.price_lines],
        expires_at=moment(item.expires_us),
    )


def _order(order: Order) -> schemas.OrderAnswer:
    return schemas.OrderAnswer(
        order_id=order.order_id,
        state=order.state,
        pay_with=order.pay_with,
        amount_cents=order.amount_cents,
        currency=order.currency,
        created_at=moment(order.created_us),
        settled_at=moment(order.settled_us) if order.settled_us is not None else None,
        failure=order.failure,
        items=[schemas.OrderItem.model_validate(item) for item in order.items],
        client_secret=order.client_secret,
    )
