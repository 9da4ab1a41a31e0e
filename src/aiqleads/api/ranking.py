"""Routes that rank and show leads; nothing here sells."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Response

from aiqleads.api import schemas
from aiqleads.api.auth import Caller, Operator, Reader, Teller
from aiqleads.api.cursors import decode, encode
from aiqleads.api.state import ServiceState, State
from aiqleads.commerce.availability import unavailable
from aiqleads.commerce.disclosure import Disclosure, as_json, disclose
from aiqleads.commerce.orders import bought
from aiqleads.commerce.pricing import Quote, quote, quote_many
from aiqleads.domain import US_PER_DAY, US_PER_HOUR, US_PER_SECOND, Tier, moment
from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.geo.grid import centers
from aiqleads.geo.privacy import WITHHELD
from aiqleads.monitoring import metrics
from aiqleads.recommend.candidates import Filters, Rows, offered
from aiqleads.recommend.cards import card, shown_quality, shown_received
from aiqleads.recommend.recommend import Recommendation, recommend
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.store import agents, interactions

VARIANT = "champion"
#: events older than this are refused, and clocks may run ahead by as much as the second figure
OLDEST_EVENT_US = 14 * US_PER_DAY
CLOCK_SKEW_US = 300 * US_PER_SECOND

router = APIRouter(tags=["ranking"])


@router.post("/v1/score")
async def score(body: schemas.ScoreRequest, state: State, _caller: Operator) -> schemas.ScoreAnswer:
    """Scores feature rows: stateless inference, for checks of the model in service."""
    width = len(state.scorer.features)
    for number, row in enumerate(body.rows):
        if len(row) != width:
            raise InvalidInput(f"row {number} has {len(row)} values, the model takes {width}")
    with np.errstate(over="ignore"):
        X = np.array(body.rows, dtype=np.float32, order="F")  # None becomes NaN
    if np.isinf(X).any():
        raise InvalidInput("a value is beyond what the model's 32-bit numbers hold")
    return schemas.ScoreAnswer(
        model_version=state.scorer.version,
        features=list(state.scorer.features),
        scores=state.scorer.score(X).tolist(),
    )


@router.post("/v1/recommendations", response_model=schemas.RecommendationAnswer)
async def recommendations(
    body: schemas.RecommendationRequest, state: State, caller: Reader
) -> Response:
    """Ranks the leads that an agent can buy now; the best k, each with three reasons."""
    agent_id = caller.acts_for(body.agent_id)
    now_us, snapshot = state.now_us(), state.snapshot
    now_market_us = snapshot.market_now_us(now_us)
    ranking = recommend(
        snapshot,
        state.scorer,
        lambda lead_ids: unavailable(state.commerce, lead_ids, now_us, agent_id),
        agent_id,
        body.k,
        filters_of(body.filters),
        now_market_us,
    )
    rows = np.array([item.row for item in ranking.items], dtype=np.int64)
    prices = prices_of(snapshot, rows, ranking.agent.tier, now_market_us)
    # With filters that single a lead out, the counts would tell how far from home it lies.
    counted = caller.agent_id is None or body.filters == schemas.LeadFilters()
    answer = schemas.RecommendationAnswer(
        request_id=f"r_{uuid.uuid4().hex}",
        model_version=state.scorer.version,
        snapshot_version=snapshot.version,
        variant=VARIANT,
        as_of=moment(now_market_us),
        candidates=ranking.candidates if counted else None,
        rings=ranking.rings if counted else None,
        items=[
            schemas.RecommendedLead(
                **vars(card(snapshot, item.row)),
                position=item.position,
                score=item.score,
                price=schemas.Price(total_cents=cents, currency=snapshot.manifest.currency),
                reasons=[schemas.Reason.model_validate(one) for one in item.reasons],
            )
            for item, cents in zip(ranking.items, prices, strict=True)
        ],
        notice=snapshot.manifest.notice,
    )
    _record(state, body, ranking, answer, now_us, now_market_us)
    # Written here, so that the framework does not check every item a second time.
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post("/v1/interactions", status_code=202)
def report_interactions(
    body: schemas.InteractionRequest, state: State, caller: Teller
) -> schemas.InteractionAnswer:
    """Takes a batch of events; an event that was sent before is counted once."""
    agent_id = caller.acts_for(body.agent_id)
    now_us, snapshot = state.now_us(), state.snapshot
    snapshot.agent(agent_id)
    now_market_us = snapshot.market_now_us(now_us)
    events = []
    for event in body.events:
        snapshot.lead_row(event.lead_id)
        ago_us = now_us - event.at_us if event.at_us is not None else 0
        if not -CLOCK_SKEW_US <= ago_us <= OLDEST_EVENT_US:
            raise InvalidInput(f"the event '{event.event_id}' lies in the future or too far back")
        events.append(
            interactions.Interaction(
                event_id=event.event_id,
                agent_id=agent_id,
                lead_id=event.lead_id,
                request_id=event.request_id,
                kind=event.kind,
                at_market_us=now_market_us - max(ago_us, 0),
            )
        )
    stored = interactions.record(state.commerce, events, now_us)
    return schemas.InteractionAnswer(stored=stored, known=len(events) - stored)


@router.get("/v1/leads")
def search(
    query: Annotated[schemas.LeadQuery, Query()], state: State, caller: Reader
) -> schemas.LeadPage:
    """Leads on offer, newest hour first, as far as the caller's tier may see them by now."""
    now_us, snapshot = state.now_us(), state.snapshot
    now_market_us = snapshot.market_now_us(now_us)
    tier = tier_of(state, snapshot, caller)
    everything = np.arange(snapshot.manifest.leads, dtype=np.int64)
    rows = offered(snapshot, everything, filters_of(query), tier, now_market_us)
    rows = _within(snapshot, rows, query.bbox)
    received = shown_received(snapshot.columns["received_market_us"][rows])
    rows = rows[np.lexsort((snapshot.lead_rank[rows], -received))]
    rows = _after(snapshot, rows, query.cursor)
    page = rows[: query.limit]
    ids = [snapshot.lead_id(row) for row in page.tolist()]
    gone = unavailable(state.commerce, ids, now_us, caller.agent_id)
    prices = prices_of(snapshot, page, tier, now_market_us)
    return schemas.LeadPage(
        items=[
            schemas.FoundLead(
                **vars(card(snapshot, row)),
                price=schemas.Price(total_cents=cents, currency=snapshot.manifest.currency),
                available=lead_id not in gone,
            )
            for row, lead_id, cents in zip(page.tolist(), ids, prices, strict=True)
        ],
        next_cursor=_cursor(snapshot, int(page[-1])) if len(rows) > len(page) else None,
        snapshot_version=snapshot.version,
        notice=snapshot.manifest.notice,
    )


@router.get("/v1/leads/{lead_id}")
def lead(
    lead_id: Annotated[schemas.LeadId, Path()], state: State, caller: Reader
) -> schemas.LeadAnswer:
    """One lead: a card before the purchase, the person and the exact place after it."""
    now_us, snapshot = state.now_us(), state.snapshot
    buyer = caller.agent_id
    mine = buyer is not None and lead_id in bought(state.commerce, buyer, [lead_id])
    try:
        row, tier = offered_row(state, snapshot, caller, lead_id)
    except UnknownName:
        if not mine:
            raise
        shown, price = None, None  # off the market by now, but it stays its buyer's
    else:
        shown = schemas.LeadCard.model_validate(card(snapshot, row))
        price = schemas.Price.model_validate(
            quote_of(snapshot, row, tier, snapshot.market_now_us(now_us))
        )
    gone = unavailable(state.commerce, [lead_id], now_us, buyer)
    answer = schemas.LeadAnswer(
        lead_id=lead_id,
        purchased=mine,
        available=shown is not None and lead_id not in gone,
        card=shown,
        price=price,
        notice=snapshot.manifest.notice,
    )
    return answer.model_copy(update=_shown(state, lead_id)) if mine else answer


def filters_of(body: schemas.LeadFilters) -> Filters:
    """The filters of a request's body or query."""
    return Filters(
        intent=body.intent,
        property_types=frozenset(body.property_types),
        min_price_cents=body.min_price_cents,
        max_price_cents=body.max_price_cents,
        min_beds=body.min_beds,
    )


def tier_of(state: ServiceState, snapshot: Snapshot, caller: Caller) -> Tier:
    """The tier that decides what the caller sees and pays; an operator sees all.

    The snapshot's word counts, so that a ranking and a hold quote one price; an agent who
    joined after it was published is looked up.
    """
    if caller.agent_id is None:
        return Tier.ENTERPRISE
    try:
        return snapshot.agent(caller.agent_id).tier
    except UnknownName:
        return agents.get(state.commerce, caller.agent_id).tier


def offered_row(
    state: ServiceState, snapshot: Snapshot, caller: Caller, lead_id: str
) -> tuple[int, Tier]:
    """Place of a lead that the caller may see by now, and the caller's tier; else UnknownName."""
    row, tier = snapshot.lead_row(lead_id), tier_of(state, snapshot, caller)
    now_market_us = snapshot.market_now_us(state.now_us())
    if not len(offered(snapshot, np.array([row]), Filters(), tier, now_market_us)):
        raise UnknownName(f"no lead '{lead_id}' is on offer")
    return row, tier


def quote_of(
    snapshot: Snapshot, row: int, tier: Tier, now_market_us: int, *, exclusive: bool = False
) -> Quote:
    """The price of one lead, made of what is shown: its lines give nothing else away.

    exclusive: of a lead that is sold to this agent alone, whatever the number of its slots.
    """
    columns, manifest = snapshot.columns, snapshot.manifest
    return quote(
        intent=manifest.intents[int(columns["intent"][row])],
        ask_price_cents=int(columns["shown_price_cents"][row]),
        quality=float(shown_quality(columns["quality"][row])),
        age_hours=float(now_market_us - shown_received(columns["received_market_us"][row]))
        / US_PER_HOUR,
        max_buyers=1 if exclusive else int(columns["max_buyers"][row]),
        tier=tier,
        demand=float(columns["demand"][row]) if "demand" in columns else 1.0,
    )


def prices_of(snapshot: Snapshot, rows: Rows, tier: Tier, now_market_us: int) -> list[int]:
    """Prices of a page in cents, the same as `quote_of` gives one by one."""
    if not len(rows):
        return []
    columns = snapshot.columns
    intents = np.array(snapshot.manifest.intents)
    prices: list[int] = quote_many(
        intent=intents[columns["intent"][rows]],
        ask_price_cents=columns["shown_price_cents"][rows],
        quality=shown_quality(columns["quality"][rows]),
        age_hours=(now_market_us - shown_received(columns["received_market_us"][rows]))
        / US_PER_HOUR,
        max_buyers=columns["max_buyers"][rows],
        tier=tier,
        demand=columns["demand"][rows] if "demand" in columns else 1.0,
    ).tolist()
    return prices


def disclosed(state: ServiceState, lead_ids: Sequence[str]) -> dict[str, Disclosure]:
    """What only the buyer of each lead sees; whether the caller is that is not asked here."""
    manifest = state.snapshot.manifest
    zones = {manifest.market: manifest.timezone}
    return disclose(state.leads, state.commerce, state.vault, lead_ids, state.now_us(), zones.get)


def _shown(state: ServiceState, lead_id: str) -> dict[str, Any]:
    found = disclosed(state, [lead_id]).get(lead_id)
    if found is None:
        raise UnknownName(f"no lead {lead_id!r}")
    said = as_json(found)
    return {
        "contact": schemas.Contact(**said["contact"]),
        "place": schemas.Place(**said["place"]),
        "facts": said["facts"],
        "answers": said["answers"],
        "consents": [schemas.ConsentProof(**each) for each in said["consents"]],
        "calling": schemas.CallingHours(**said["calling"]),
        "invented": said["invented"],
    }


def _record(
    state: ServiceState,
    body: schemas.RecommendationRequest,
    ranking: Recommendation,
    answer: schemas.RecommendationAnswer,
    now_us: int,
    now_market_us: int,
) -> None:
    """The journal's line and the metrics of one ranking."""
    state.journal.append(
        {
            "request_id": answer.request_id,
            "agent_id": body.agent_id,
            "at_us": now_us,
            "at_market_us": now_market_us,
            "model_version": answer.model_version,
            "snapshot_version": answer.snapshot_version,
            "variant": answer.variant,
            "device": body.context.device,
            "k": body.k,
            "filters": body.filters.model_dump(mode="json", exclude_defaults=True),
            "candidates": ranking.candidates,
            "withheld": list(ranking.withheld),
            "items": [
                {
                    "lead_id": item.lead_id,
                    "position": item.position,
                    "score": item.score,
                    "price_cents": item.price.total_cents,
                }
                for item in answer.items
            ],
        },
        now_us,
    )
    metrics.RANKED.labels(answer.variant).inc()
    metrics.CANDIDATES.observe(ranking.candidates)
    metrics.SHOWN.inc(len(answer.items))
    metrics.WITHHELD.inc(len(ranking.withheld))


def _within(snapshot: Snapshot, rows: Rows, bbox: str | None) -> Rows:
    """Those whose shown cell has its middle in the box; a withheld place is in no box."""
    if bbox is None:
        return rows
    west, south, east, north = (float(part) for part in bbox.split(","))
    if not (west <= east and south <= north):
        raise InvalidInput("bbox is west,south,east,north")
    shown = snapshot.columns["shown_cell"][rows]
    rows, shown = rows[shown != WITHHELD], shown[shown != WITHHELD]
    if not len(rows):
        return rows
    lon, lat = centers(shown)
    inside: Rows = rows[(west <= lon) & (lon <= east) & (south <= lat) & (lat <= north)]
    return inside


def _cursor(snapshot: Snapshot, row: int) -> str:
    received_us = int(shown_received(snapshot.columns["received_market_us"][row]))
    return encode(received_us, snapshot.lead_id(row))


def _after(snapshot: Snapshot, rows: Rows, cursor: str | None) -> Rows:
    """What follows the cursor's lead, also where that lead itself is gone by now."""
    if cursor is None:
        return rows
    received_us, lead_id = decode(cursor)
    received = shown_received(snapshot.columns["received_market_us"][rows]).tolist()
    last = (-received_us, lead_id)
    later = [
        (-us, snapshot.lead_id(row)) > last for us, row in zip(received, rows.tolist(), strict=True)
    ]
    return np.asarray(rows[np.array(later, dtype=bool)], dtype=np.int64)
