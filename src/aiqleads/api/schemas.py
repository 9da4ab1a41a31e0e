"""What goes over the wire: money in integer cents beside its currency, times in UTC."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from aiqleads.domain import ENTITLEMENTS, Intent, InteractionKind

#: visible ASCII: a database may refuse other characters (NUL, half a surrogate pair)
VISIBLE = r"^[\x21-\x7e]+$"
AgentId = Annotated[str, Field(max_length=20, pattern=VISIBLE, examples=["A0001"])]
LeadId = Annotated[str, Field(max_length=20, pattern=VISIBLE, examples=["L0001a2b3c4d"])]
HoldId = Annotated[str, Field(max_length=40, pattern=VISIBLE)]
OrderId = Annotated[str, Field(max_length=40, pattern=VISIBLE)]
AgentPath = Annotated[AgentId, Path()]
HoldPath = Annotated[HoldId, Path()]
OrderPath = Annotated[OrderId, Path()]
# PostgreSQL's text takes any character but this one.
_TEXT = r"^[^\x00]+$"
Why = Annotated[str, Field(min_length=1, max_length=500, pattern=_TEXT)]
PropertyType = Annotated[str, Field(min_length=1, max_length=40)]
Cents = Annotated[int, Field(ge=0, le=10**12, examples=[15_000_000])]


class Body(BaseModel):
    """A request's body: fields that nobody knows are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """A response's body."""

    model_config = ConfigDict(from_attributes=True)


class Problem(BaseModel):
    """An error (RFC 9457); problems of one `type` may carry members of their own."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["https://aiqleads.example/problems/lead-sold"])]
    title: Annotated[str, Field(examples=["Lead sold"])]
    status: Annotated[int, Field(examples=[409])]
    detail: Annotated[str, Field(examples=["another agent bought this lead"])]


# A call may name as many as the largest tier allows; each tier's own limit is asked later.
_BULK = max(rights.bulk for rights in ENTITLEMENTS.values())
_HOLDS = max(rights.live_holds for rights in ENTITLEMENTS.values())


# --- ranking -----------------------------------------------------------------------


class ScoreRequest(Body):
    """Feature rows in the model's column order; null is a missing value."""

    rows: Annotated[list[list[FiniteFloat | None]], Field(min_length=1, max_length=2000)]


class ScoreAnswer(Answer):
    """One score a row, higher is better; comparable within one request of one agent."""

    model_version: str
    features: list[str]
    scores: list[float]


class LeadFilters(Body):
    """What to show; prices are compared with the price as it is shown, not the exact one."""

    intent: Intent | None = None
    property_types: Annotated[list[PropertyType], Field(max_length=50)] = []
    min_price_cents: Cents | None = None
    max_price_cents: Cents | None = None
    min_beds: Annotated[int | None, Field(ge=0, le=50)] = None

    @model_validator(mode="after")
    def _ordered(self) -> LeadFilters:
        low, high = self.min_price_cents, self.max_price_cents
        if low is not None and high is not None and low > high:
            raise ValueError("min_price_cents is above max_price_cents")
        return self


class Context(Body):
    """Where the ranking is going to be shown; kept in the journal."""

    device: Literal["web", "mobile", "api"] = "api"


class RecommendationRequest(Body):
    """Asks for an agent's ranking."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"agent_id": "A0001", "k": 10, "filters": {"intent": "sell"}}]
        },
    )

    agent_id: AgentId
    k: Annotated[int, Field(ge=1, le=100)] = 10
    filters: LeadFilters = LeadFilters()
    context: Context = Context()


class PriceLine(Answer):
    """One step of a price: `factor` multiplies what the lines above it made."""

    name: str
    factor: float
    about: str


class Price(Answer):
    """What an agent pays for a lead; `lines` explain it where one lead is asked about."""

    total_cents: int
    currency: str
    lines: list[PriceLine] = []


class Reason(Answer):
    """Why a lead stands where it stands: a feature, and whether it speaks for the lead."""

    feature: str
    direction: Literal["up", "down"]
    text: str


class LeadCard(Answer):
    """A lead before it is bought: facts are rounded, the place is a cell shared by five or more."""

    lead_id: str
    intent: Intent
    property_type: str
    ask_price_about_cents: int
    currency: str
    beds: int | None
    baths: float | None
    living_area_about_sqft: int | None
    built_about: int | None
    quality: float
    max_buyers: int
    cell: Annotated[str | None, Field(description="H3 cell; null where too few leads share one")]
    received: str
    available_until: str


class RecommendedLead(LeadCard):
    """One lead of a ranking."""

    position: int
    score: float
    price: Price
    reasons: Annotated[list[Reason], Field(max_length=3)]


class RecommendationAnswer(Answer):
    """A ranking, best first; fewer than k leads where fewer can be bought."""

    request_id: str
    model_version: str
    snapshot_version: str
    variant: str
    as_of: Annotated[str, Field(description="the market clock, which stands still in a sample")]
    candidates: Annotated[
        int | None,
        Field(
            description="leads that passed the filters; null where an agent filters, because "
            "counts of a few leads at a known distance would tell where one is"
        ),
    ]
    rings: Annotated[
        int | None,
        Field(
            description="how far around the territory leads were looked for; null as `candidates`"
        ),
    ]
    items: list[RecommendedLead]
    notice: str


class InteractionEvent(Body):
    """What an agent did; holds and purchases are recorded by the shop and not reported."""

    event_id: Annotated[str, Field(max_length=50, pattern=VISIBLE)]
    lead_id: LeadId
    kind: Literal[InteractionKind.VIEW] = InteractionKind.VIEW
    request_id: Annotated[str | None, Field(max_length=80, pattern=VISIBLE)] = None
    at_us: Annotated[
        int | None,
        Field(description="wall clock, microseconds since the epoch, UTC; absent: now"),
    ] = None


class InteractionRequest(Body):
    """A batch of events of one agent; an event sent again is counted once."""

    agent_id: AgentId
    events: Annotated[list[InteractionEvent], Field(min_length=1, max_length=1000)]


class InteractionAnswer(Answer):
    """How many events were new, and how many were known already."""

    stored: int
    known: int


class LeadQuery(LeadFilters):
    """A search: filters, a box, and where the last page ended."""

    bbox: Annotated[
        str | None,
        Field(
            description="west,south,east,north in degrees; a lead is inside when the middle of "
            "the cell that is shown of it is",
            pattern=r"^-?\d{1,3}(\.\d+)?(,-?\d{1,3}(\.\d+)?){3}$",
            max_length=100,
            examples=["-83.7,41.5,-83.4,41.8"],
        ),
    ] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(max_length=200)] = None


class FoundLead(LeadCard):
    """A lead found by a search."""

    price: Price
    available: bool


class LeadPage(Answer):
    """A page of leads, newest first; `next_cursor` is null on the last one."""

    items: list[FoundLead]
    next_cursor: str | None
    snapshot_version: str
    notice: str


class Contact(Answer):
    """Who the person behind a lead is, '' for what is not known; `invented`: nobody is."""

    name: str
    email: str
    phone: str
    address: str
    unit: str
    city: str
    state: str
    zip: str
    invented: bool
    do_not_call: Annotated[
        Literal["listed", "not_listed", "unknown"],
        Field(description="by the do-not-call list that the operator took in last"),
    ]


class ConsentProof(Answer):
    """What the person agreed to; `sellers`: to how many agents it may be sold."""

    text: str
    text_version: str
    channel: str
    given_at: str
    source: str
    proof: Annotated[str, Field(description="certificate, or the source's own id")]
    sellers: int
    revoked_at: str | None


class CallingHours(Answer):
    """When the person may be telephoned: `from` to `until`, local time in each of the zones.

    `opens_at` and `closes_at` are of the window that is open, else of the next one.
    """

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    time_zones: list[str]
    from_: Annotated[str, Field(alias="from", examples=["08:00"])]
    until: Annotated[str, Field(examples=["21:00"])]
    open_now: bool
    opens_at: str
    closes_at: str


class Place(Answer):
    """Exactly where a lead is, degrees WGS 84; `precision` says how well that is known."""

    lon: float | None
    lat: float | None
    precision: str


class LeadAnswer(Answer):
    """One lead; all from `contact` on is for an agent who bought it, and for nobody else."""

    lead_id: str
    purchased: bool
    available: bool
    card: LeadCard | None
    price: Price | None
    contact: Contact | None = None
    place: Place | None = None
    facts: dict[str, Any] | None = None
    answers: Annotated[
        dict[str, Any] | None, Field(description="what else the person said, word for word")
    ] = None
    consents: Annotated[list[ConsentProof] | None, Field(description="newest first")] = None
    calling: CallingHours | None = None
    invented: str | None = None
    notice: str


# --- the shop ----------------------------------------------------------------------


class HoldRequest(Body):
    """Leads to hold, all of them or as many as can be."""

    lead_ids: Annotated[list[LeadId], Field(min_length=1, max_length=_BULK)]
    mode: Literal["all_or_nothing", "best_effort"] = "all_or_nothing"
    exclusive: Annotated[
        bool,
        Field(description="every slot of each lead, at the price of a lead that is yours alone"),
    ] = False


class HeldLead(Answer):
    """A lead in a hold, with its frozen price."""

    lead_id: str
    price_cents: int
    currency: str
    price_lines: list[PriceLine]
    expires_at: str


class HoldAnswer(Answer):
    """A hold: each of these leads is the agent's to buy until its `expires_at`.

    The hold's own is that of the lead that ends first. An exclusive one keeps every slot of
    each lead.
    """

    hold_id: str
    expires_at: str
    total_cents: int
    items: list[HeldLead]
    refused: Annotated[
        list[dict[str, Any]], Field(description="with best_effort: why a lead was not held")
    ] = []
    exclusive: bool = False
    server_time: str


class CartAnswer(Answer):
    """An agent's live holds; count down from `server_time`."""

    holds: list[HoldAnswer]
    total_cents: int
    currency: str
    server_time: str


class ReleaseAnswer(Answer):
    """How many leads a release gave back."""

    hold_id: str
    released: int


class Cap(Body):
    """At most so many leads, or cents, in a span of time."""

    measure: Annotated[Literal["leads", "spend"], Field(description="spend is in cents")]
    per: Annotated[
        Literal["hour", "day", "week", "month"],
        Field(description="back from now; a month is the calendar's (UTC)"),
    ]
    most: Annotated[int, Field(ge=0, le=10**12)]


class HoldFilters(Body):
    """Which leads an agent lets itself hold; what is left out asks for nothing."""

    intents: list[Intent] = []
    property_types: Annotated[list[str], Field(max_length=100)] = []
    max_price_cents: Annotated[
        int | None, Field(gt=0, le=10**9, description="of the lead's own price")
    ] = None


class LimitsRequest(Body):
    """The agent's own limits, in the place of all that it had."""

    caps: Annotated[list[Cap], Field(max_length=8)] = []
    filters: HoldFilters = HoldFilters()


class CapUse(Answer):
    """A cap of the agent's own and what is used of it."""

    measure: str
    per: str
    most: int
    used: int
    frees_at: Annotated[str | None, Field(description="when some of that is free again")]


class TierLimits(Answer):
    """What the agent's tier allows."""

    tier: str
    hold_minutes: int
    live_holds: int
    live_holds_used: int
    bulk: int
    new_lead_delay_minutes: int
    price_factor: float
    requests_per_minute: int
    cool_down_minutes: int
    seats: int
    extension_hours: list[int]


class LimitsAnswer(Answer):
    """What an agent may do: by its tier, and by what it has set itself."""

    tier: TierLimits
    caps: list[CapUse]
    filters: HoldFilters


class CheckoutRequest(Body):
    """Holds to buy, paid from the wallet or by a card's payment method."""

    hold_ids: Annotated[list[HoldId], Field(min_length=1, max_length=_HOLDS)]
    pay_with: Annotated[
        str,
        Field(
            pattern=r"^(wallet|pm_[A-Za-z0-9_]{1,56})$",
            examples=["wallet", "pm_card_visa"],
            description="`wallet`, or a Stripe payment method",
        ),
    ] = "wallet"


class OrderItem(Answer):
    """A lead in an order."""

    lead_id: str
    price_cents: int


class OrderAnswer(Answer):
    """An order; `client_secret` only while the card's bank asks for authentication."""

    order_id: str
    state: str
    pay_with: str
    amount_cents: int
    currency: str
    created_at: str
    settled_at: str | None
    failure: str | None
    items: list[OrderItem]
    client_secret: str | None = None


class ReturnRequest(Body):
    """A bought lead that is given back for credit."""

    lead_id: LeadId
    reason: Annotated[
        str,
        Field(min_length=1, max_length=30, pattern=_TEXT, examples=["disconnected_number"]),
    ]
    evidence: Annotated[
        str, Field(min_length=1, max_length=2000, pattern=_TEXT, description="what happened")
    ]


class ReturnAnswer(Answer):
    """A return: credited at once, or waiting for an operator."""

    return_id: str
    order_id: str
    lead_id: str
    reason: str
    evidence: str
    state: str
    credit_cents: int
    currency: str
    asked_at: str
    decided_at: str | None
    note: str | None


class ReturnList(Answer):
    """Returns, oldest first."""

    items: list[ReturnAnswer]


class ReturnDecision(Body):
    """An operator's word on a return; the note is what the buyer is told."""

    credit: bool
    note: Why


class Notice(Answer):
    """Something that the agent is told about a lead."""

    notice_id: str
    kind: str
    lead_id: str | None
    detail: str
    created_at: str


class NoticeList(Answer):
    """What the agent was told lately, newest first."""

    items: list[Notice]


class SpendMonth(Answer):
    """What was bought in a calendar month (UTC), and what of that came back since."""

    month: Annotated[str, Field(examples=["2026-11"])]
    currency: str
    leads: int
    spent_cents: int
    returned: int
    credited_cents: int
    net_cents: int


class SpendAnswer(Answer):
    """An agent's spend by month, newest first."""

    months: list[SpendMonth]


class OrderPage(Answer):
    """An agent's orders, newest first."""

    items: list[OrderAnswer]
    next_cursor: str | None


class Posting(Answer):
    """One movement of a wallet; cents are negative where it paid."""

    txn_id: str
    about: str
    cents: int
    created_at: str


class WalletAnswer(Answer):
    """An agent's credit, what it owes apart from it, and its newest movements."""

    agent_id: str
    balance_cents: int
    receivable_cents: int
    currency: str
    postings: list[Posting]
    payments: Annotated[str, Field(description="which Stripe takes the money")]


class TopUpRequest(Body):
    """Credit to buy with a card."""

    amount_cents: Annotated[int, Field(ge=1, le=10**9, examples=[50_000])]
    payment_method: Annotated[
        str, Field(pattern=r"^pm_[A-Za-z0-9_]{1,56}$", examples=["pm_card_visa"])
    ]


class WebhookAnswer(Answer):
    """What became of a webhook; each is a success to Stripe."""

    outcome: Literal["driven", "waiting", "ignored"]


class TopUpAnswer(Answer):
    """A top-up; `client_secret` only while the card's bank asks for authentication."""

    topup_id: str
    state: str
    amount_cents: int
    currency: str
    balance_cents: int
    client_secret: str | None = None


# --- feeds -------------------------------------------------------------------------


class PushAnswer(Answer):
    """A body that is kept; it is parsed outside of this service."""

    delivery: Annotated[str, Field(description="The sender's name of it, with a digest.")]
    status: Literal["accepted", "already-accepted"]


# --- operations --------------------------------------------------------------------


class Finding(Answer):
    """One invariant: whether it holds (null: could not be asked), and its first offenders."""

    ok: bool | None
    about: str
    offenders: list[str]


class InvariantsAnswer(Answer):
    """Every invariant by name; `ok` where none is broken and the ledger sums to 0."""

    ok: bool
    ledger_total_cents: int
    invariants: dict[str, Finding]


class ProcessAnswer(Answer):
    """The worker that answered: its memory, and the top-level modules that it has loaded."""

    pid: int
    rss_bytes: int
    model_version: str
    snapshot_version: str
    modules: list[str]


# --- money that goes back ----------------------------------------------------------


class RefundRequest(Body):
    """What to give back of an order; without an amount all that is left."""

    amount_cents: Annotated[int | None, Field(ge=1, le=10**9, examples=[2_500])] = None
    reason: Why


class RefundAnswer(Answer):
    """A refund; `open` while Stripe has given no answer, `failed` with its reason."""

    refund_id: str
    order_id: str
    amount_cents: int
    currency: str
    state: Literal["open", "succeeded", "failed"]
    reason: str
    failure: str | None
    asked_at: str


class RefundList(Answer):
    """Refunds of an order, oldest first."""

    items: list[RefundAnswer]


class MarginAnswer(Answer):
    """What the leads of one source brought; kept is sold less refunds and credits."""

    source: str
    currency: str
    leads: int
    sold_cents: int
    kept_cents: int
    share_cents: int
    tax_cents: int
    margin_cents: int


class MarginList(Answer):
    """Sources by name; `unknown` for sales from before consents were noted."""

    items: list[MarginAnswer]


class DisputeAnswer(Answer):
    """A payment that its buyer's bank took back; `order_id` is null for a top-up."""

    dispute_id: str
    order_id: str | None
    agent_id: str
    amount_cents: int
    currency: str
    state: Literal["open", "won", "lost"]
    reason: str
    opened_at: str
    closed_at: str | None


class DisputeList(Answer):
    """Disputes, newest first."""

    items: list[DisputeAnswer]


class OrderState(Answer):
    """An order and the state that it is in now."""

    order_id: str
    state: str


class ReconcileAnswer(Answer):
    """What a sweep of the payments did."""

    healed: int
    adopted: int
    strays: int
    waiting: int
    recorded: int
    failed: int


class AutoRecharge(Body):
    """When and by how much a wallet tops itself up."""

    below_cents: Annotated[int, Field(ge=1, le=10**9, examples=[10_000])]
    amount_cents: Annotated[int, Field(ge=1, le=10**9, examples=[50_000])]
    daily_most_cents: Annotated[int, Field(ge=1, le=10**9, examples=[100_000])]
    payment_method: Annotated[
        str, Field(pattern=r"^pm_[A-Za-z0-9_]{1,56}$", examples=["pm_card_visa"])
    ]


class AutoRechargeAnswer(Answer):
    """The rule in force; `paused` says why it no longer tops up, '' while it does."""

    below_cents: int
    amount_cents: int
    daily_most_cents: int
    payment_method: str
    paused: str


class ExtendRequest(Body):
    """How many hours longer a hold shall run; the tier says which may be bought."""

    hours: Annotated[int, Field(ge=1, le=10_000, examples=[24])]


class ExtensionAnswer(Answer):
    """Bought time, what it cost, and the hold as it is now."""

    extension_id: str
    hours: int
    price_cents: int
    currency: str
    hold: HoldAnswer


# --- licences ----------------------------------------------------------------------


class Licence(Body):
    """A licence to deal in homes, as it was looked up."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)

    state: Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["TX"])]
    number: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f]+$")]
    expires_on: Annotated[
        date | None,
        Field(ge=date(1900, 1, 1), le=date(2199, 12, 31), description="last day (UTC)"),
    ] = None


class LicenceRequest(Body):
    """All licences of an agent; what was noted before and is not among them ends."""

    licences: Annotated[list[Licence], Field(max_length=60)]


class LicenceList(Answer):
    """Licences that are noted of an agent, by state."""

    licences: list[Licence]
    asked_for: Annotated[
        str | None,
        Field(
            description="state whose licence the leads of the agent's market take, unless their "
            "ZIP lies in another; null where none is asked for"
        ),
    ]


# --- seats and the audit log -------------------------------------------------------


class MemberRequest(Body):
    """Somebody who shall act for the account."""

    name: Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f]+$")]
    role: Literal["admin", "buyer", "viewer"]


class MemberAnswer(Answer):
    """Who has a seat; `key` only in the answer that made it."""

    member_id: str
    name: str
    role: str
    created_at: str
    key: str | None = None


class MemberList(Answer):
    """Members, oldest first, and how many seats the tier has."""

    items: list[MemberAnswer]
    seats: int


class ActAnswer(Answer):
    """A change that was asked for: by whom, when, and how it was answered."""

    audit_id: str
    at: str
    agent_id: str | None
    member_id: str | None
    key_id: str
    action: str
    status: int


class ActPage(Answer):
    """Acts, newest first."""

    items: list[ActAnswer]
    next_cursor: str | None


# --- people ------------------------------------------------------------------------

#: contacts of one request
MOST_CONTACTS = 10_000
ContactText = Annotated[str, Field(min_length=1, max_length=300, examples=["ada@example.com"])]


class ContactList(Body):
    """E-mails and phones, one a text, as people write them."""

    contacts: Annotated[list[ContactText], Field(min_length=1, max_length=MOST_CONTACTS)]


class UploadAnswer(Answer):
    """What came of an upload; no contact comes back, ever."""

    added: int
    known: Annotated[int, Field(description="were in the list before; they keep their time")]
    unreadable: Annotated[int, Field(description="neither an e-mail nor a phone")]
    stored: int


class ContactsAnswer(Answer):
    """An agent's contacts in figures."""

    stored: int
    stored_limit: int
    uploaded_today: int
    uploads_per_day: int
    answered_today: Annotated[int, Field(description="leads whose person the agent was told")]
    answers_per_day: int
    hours_before: Annotated[
        int, Field(description="a contact counts for leads that came so long after it")
    ]
    frees_at: Annotated[str, Field(description="when the day's figures start again")]


class ForgetAnswer(Answer):
    """How many contacts were deleted."""

    deleted: int


class SuppressionRequest(ContactList):
    """People who are not to be sold any more."""

    reason: Why


class RevocationRequest(Body):
    """A person who takes a consent back: named by one of the two."""

    lead_id: LeadId | None = None
    contact: ContactText | None = None
    reason: Why


class StoppedAnswer(Answer):
    """What came of a suppression or a revocation."""

    contacts: Annotated[int, Field(description="that could be read")]
    anew: Annotated[int, Field(description="of these, not noted before")]
    unreadable: int
    leads: Annotated[int, Field(description="in store of these people")]
    closed: Annotated[int, Field(description="leads with slots that were still to be sold")]
    holders: Annotated[int, Field(description="agents whose hold ended")]
    buyers: Annotated[int, Field(description="agents told not to contact the person any more")]


class LiftedAnswer(Answer):
    """What came of lifting suppressions."""

    contacts: int
    lifted: int
    unreadable: int


class SuppressionCounts(Answer):
    """How many contacts are noted."""

    suppressed: int
    revoked: int
    lifted: int


# --- delivery ----------------------------------------------------------------------


class DeliveryRequest(Body):
    """Where leads that the agent bought are sent: a webhook, an e-mail address, or files."""

    channel: Literal["webhook", "email", "csv"]
    url: Annotated[str | None, Field(max_length=2000, description="of a webhook, https")] = None
    address: Annotated[str | None, Field(max_length=254, description="e-mail address")] = None
    new_secret: Annotated[
        bool,
        Field(description="a new signing secret; the one before signs beside it for a day"),
    ] = False
    backlog: Annotated[bool, Field(description="also sends what was not delivered until now")] = (
        False
    )

    @model_validator(mode="after")
    def _fits(self) -> DeliveryRequest:
        if (self.channel == "webhook") != (self.url is not None):
            raise ValueError("a webhook needs a url, and nothing else has one")
        if (self.channel == "email") != (self.address is not None):
            raise ValueError("an e-mail needs an address, and nothing else has one")
        return self


class DeliveryAnswer(Answer):
    """Where leads are sent. `secret` is shown once, to the request that made it."""

    channel: str
    url: str | None
    address: str | None
    secret: str | None
    previous_secret_until: str | None
    events: Annotated[dict[str, int], Field(description="how many are in each state")]
    created_at: str
    changed_at: str
    notice: Annotated[str, Field(description="what of this does not leave the service")]


class DeliveryRemoved(Answer):
    """How many events that waited are given up."""

    given_up: int


class DeliveryEvent(Answer):
    """Something to tell an agent's system; `delivery_id` is the webhook's `webhook-id`."""

    delivery_id: str
    kind: str
    order_id: str | None
    lead_id: str | None
    state: Literal["waiting", "delivered", "dead"]
    attempts: int
    created_at: str
    next_try_at: str | None
    last_try_at: str | None
    last_status: Annotated[int | None, Field(description="of the last HTTP answer")]
    failure: str | None
    delivered_at: str | None


class DeliveryPage(Answer):
    """An agent's events, newest first."""

    items: list[DeliveryEvent]
    next_cursor: str | None
