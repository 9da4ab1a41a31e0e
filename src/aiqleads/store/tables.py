"""Every SQL table, in three rooms that no transaction spans.

`leads` holds what was ingested; `vault` the data keys and pushed bodies; `commerce`
agents, API keys, holds and money. Embedded they are SQLite files, on PostgreSQL one
database. Amounts are integer
minor units beside an ISO currency. Times are int64 microseconds since the epoch, UTC:
`*_market_us` on the market clock, every other `*_us` on the wall clock.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
leads_metadata = MetaData(naming_convention=_NAMES)
commerce_metadata = MetaData(naming_convention=_NAMES)
vault_metadata = MetaData(naming_convention=_NAMES)

# --- leads -------------------------------------------------------------------------

# One payload of a source taken into a market. It grows chunk by chunk, each in its own
# transaction, so that a run that was killed goes on where it stood.
batch = Table(
    "batch",
    leads_metadata,
    Column("batch_id", String(80), primary_key=True),
    Column("source", String(40), nullable=False),
    Column("market", String(40), nullable=False),
    Column("path", Text, nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("contract_version", String(20), nullable=False),
    Column("state", String(8), nullable=False),  # open, done, stopped (by schema drift)
    Column("rows_read", Integer, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("incomplete", Integer, nullable=False),
    Column("updated", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("cost_cents", BigInteger, nullable=False),
    Column("ingested_us", BigInteger, nullable=False),
    Column("recalled_us", BigInteger),
    Column("recall_reason", Text),
    CheckConstraint("rows_read = accepted + updated + duplicates + quarantined", name="sum"),
    CheckConstraint("state in ('open','done','stopped')", name="state"),
    Index("ix_batch_payload", "market", "source", "payload_sha256"),
)

# waits: why the lead is not on offer ('' for one that is): no place, no price, no consent,
# analysis only. merged_into: the lead of the same wish that it gave way to. A lead that waits
# or was merged is in no frame. estimated: columns that the person did
# not give and that were filled from the area; invented: columns that nobody gave.
lead = Table(
    "lead",
    leads_metadata,
    Column("lead_id", String(20), primary_key=True),
    Column("person_id", String(20), nullable=False),  # the first lead of the same person
    Column("market", String(40), nullable=False),
    Column("source", String(40), nullable=False),
    Column("source_key", String(120), nullable=False),
    Column("batch_id", String(80), ForeignKey("batch.batch_id"), nullable=False),
    Column("intent", String(8), nullable=False),
    Column("property_type", String(40), nullable=False),
    Column("timeline", String(40), nullable=False),
    Column("financing", String(40), nullable=False),
    Column("received_market_us", BigInteger, nullable=False),
    Column("expires_market_us", BigInteger, nullable=False),
    Column("ask_price_cents", BigInteger),
    Column("currency", String(3), nullable=False),
    Column("beds", Float),
    Column("baths", Float),
    Column("living_area_sqft", Float),
    Column("lot_area_sqft", Float),
    Column("garage_area_sqft", Float),
    Column("rooms", Float),
    Column("year_built", Float),
    Column("zip", String(5)),
    Column("lon", Float),
    Column("lat", Float),
    Column("place_precision", String(10), nullable=False),  # point, zip, city, area, none
    Column("cell", BigInteger),
    Column("region", String(40)),
    Column("utm_x_m", Float),
    Column("utm_y_m", Float),
    Column("max_buyers", Integer, nullable=False),
    Column("submissions", Integer, nullable=False),
    Column("quality", Float, nullable=False),
    Column("quality_reasons", Text, nullable=False),
    Column("fraud", Float, nullable=False),  # 0 nothing odd .. 1
    Column("fraud_reasons", Text, nullable=False),
    Column("waits", String(40), nullable=False),
    Column("merged_into", String(20)),
    Column("estimated", Text, nullable=False),
    Column("invented", Text, nullable=False),
    CheckConstraint("(cell is null) = (place_precision = 'none')", name="place"),
    UniqueConstraint("source", "source_key"),
    Index("ix_lead_market_received", "market", "received_market_us"),
    Index("ix_lead_batch", "batch_id"),
    Index("ix_lead_person", "person_id"),
)

# Everything that people sent: a lead is one or several submissions of one person about one
# wish. contact: the person's name, e-mail, phone, address and answers as JSON, sealed with
# the data key `key_id`. rule: '' for the submission that made its lead, else why it joined.
submission = Table(
    "submission",
    leads_metadata,
    Column("submission_id", String(20), primary_key=True),
    Column("lead_id", String(20), ForeignKey("lead.lead_id"), nullable=False),
    Column("source", String(40), nullable=False),
    Column("source_key", String(120), nullable=False),
    Column("batch_id", String(80), ForeignKey("batch.batch_id"), nullable=False),
    Column("row_number", Integer, nullable=False),
    Column("received_market_us", BigInteger, nullable=False),
    Column("arrived_us", BigInteger, nullable=False),
    Column("key_id", String(80), nullable=False),
    Column("contact", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),  # keyed digest of all it says
    Column("invented", Boolean, nullable=False),
    Column("rule", String(60), nullable=False),
    UniqueConstraint("source", "source_key"),
    Index("ix_submission_lead", "lead_id"),
    Index("ix_submission_batch", "batch_id"),
)

# What a person agreed to, one row a submission; C1: without one, no sale.
consent = Table(
    "consent",
    leads_metadata,
    Column("submission_id", String(20), ForeignKey("submission.submission_id"), primary_key=True),
    Column("text", Text, nullable=False),
    Column("text_version", String(40), nullable=False),
    Column("channel", String(40), nullable=False),
    Column("given_us", BigInteger, nullable=False),
    Column("source", String(40), nullable=False),
    Column("proof", String(200), nullable=False),  # certificate or the source's own id
    Column("sellers", Integer, nullable=False),  # to how many agents it may be sold
    Column("revoked_us", BigInteger),
    Index("ix_consent_revoked", "revoked_us"),
)

# Keyed digests by which submissions of one person find each other; no contact is readable.
match_key = Table(
    "match_key",
    leads_metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("submission_id", String(20), ForeignKey("submission.submission_id"), primary_key=True),
    Index("ix_match_key_submission", "submission_id"),
)

# Two submissions that were found to be of one person: why, how sure, and whether a person
# took it back. same_wish: also one enquiry, so that both are one lead.
link = Table(
    "link",
    leads_metadata,
    Column("a", String(20), ForeignKey("submission.submission_id"), primary_key=True),
    Column("b", String(20), ForeignKey("submission.submission_id"), primary_key=True),
    Column("weight", Float, nullable=False),  # log2 of the odds
    Column("probability", Float, nullable=False),
    Column("same_wish", Boolean, nullable=False),
    Column("explanation", Text, nullable=False),  # JSON: comparison -> level, weight; no values
    Column("undone_us", BigInteger),
    CheckConstraint("a < b", name="order"),
    Index("ix_link_b", "b"),
)

sale = Table(
    "sale",
    leads_metadata,
    Column("sale_id", String(20), primary_key=True),
    Column("market", String(40), nullable=False),
    Column("source", String(40), nullable=False),
    Column("batch_id", String(80), ForeignKey("batch.batch_id"), nullable=False),
    Column("sold_market_us", BigInteger),
    Column("price_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("property_type", String(40), nullable=False),
    Column("beds", Float),
    Column("baths", Float),
    Column("living_area_sqft", Float),
    Column("lot_area_sqft", Float),
    Column("garage_area_sqft", Float),
    Column("rooms", Float),
    Column("year_built", Float),
    Column("lon", Float),
    Column("lat", Float),
    Column("cell", BigInteger),
    Column("region", String(40)),
    Column("utm_x_m", Float),
    Column("utm_y_m", Float),
    Column("content", LargeBinary, nullable=False),  # digest of all it says
    Index("ix_sale_market", "market", "sale_id"),
)

# A home on offer, as a portal or an exchange says. home_id: the same home in any source;
# repeat_of: the listing that offered the home first, where this one repeats it.
listing = Table(
    "listing",
    leads_metadata,
    Column("listing_id", String(20), primary_key=True),
    Column("market", String(40), nullable=False),
    Column("source", String(40), nullable=False),
    Column("source_key", String(200), nullable=False),
    Column("batch_id", String(80), ForeignKey("batch.batch_id"), nullable=False),
    Column("home_id", String(20)),
    Column("repeat_of", String(20)),
    Column("status", String(40), nullable=False),
    Column("offer", String(8), nullable=False),  # sale, rent
    Column("list_price_cents", BigInteger),
    Column("close_price_cents", BigInteger),
    Column("currency", String(3), nullable=False),
    Column("listed_us", BigInteger),
    Column("closed_us", BigInteger),
    Column("modified_us", BigInteger),
    Column("property_type", String(60), nullable=False),
    Column("address", Text),
    Column("unit", String(20)),
    Column("city", String(80)),
    Column("state", String(2)),
    Column("zip", String(5)),
    Column("mls_id", String(60)),
    Column("agent_key", String(80)),
    Column("demand", String(10)),  # low, medium, high, where a source tells
    Column("beds", Float),
    Column("baths", Float),
    Column("living_area_sqft", Float),
    Column("lot_area_sqft", Float),
    Column("year_built", Float),
    Column("days_on_market", Float),
    Column("lon", Float),
    Column("lat", Float),
    Column("place_precision", String(10), nullable=False),
    Column("cell", BigInteger),
    Column("region", String(40)),
    Column("url", Text),
    Column("content", LargeBinary, nullable=False),  # digest of all it says
    UniqueConstraint("market", "source", "source_key"),
    Index("ix_listing_home", "home_id"),
    Index("ix_listing_batch", "batch_id"),
)

series_point = Table(
    "series_point",
    leads_metadata,
    Column("source", String(40), primary_key=True),
    Column("region_type", String(20), primary_key=True),
    Column("region", String(120), primary_key=True),
    Column("metric", String(60), primary_key=True),
    Column("period", String(10), primary_key=True),  # first day, ISO
    Column("frequency", String(8), nullable=False),  # month, quarter, year
    Column("value", Float, nullable=False),
    Column("unit", String(20), nullable=False),
    Column("batch_id", String(80), ForeignKey("batch.batch_id"), nullable=False),
)

# row, value: sealed with the payload's data key, as they may hold a person's details.
quarantine = Table(
    "quarantine",
    leads_metadata,
    Column("batch_id", String(80), ForeignKey("batch.batch_id"), primary_key=True),
    Column("row_number", Integer, primary_key=True),
    Column("rule", String(120), primary_key=True),
    Column("row_hash", String(64), nullable=False),
    Column("source", String(40), nullable=False),
    Column("column", String(60), nullable=False),
    Column("value", LargeBinary),
    Column("row", LargeBinary, nullable=False),
    Column("key_id", String(80), nullable=False),
    Column("contract_version", String(20), nullable=False),
    Column("replayed_batch_id", String(80)),
    Index("ix_quarantine_rule", "rule"),
)

# Raw payloads as they came, sealed, under data/raw.
payload = Table(
    "payload",
    leads_metadata,
    Column("payload_sha256", String(64), primary_key=True),
    Column("source", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("kept_at", Text, nullable=False),  # path below data/
    Column("key_id", String(80), nullable=False),
    Column("received_us", BigInteger, nullable=False),
)

# What the columns of a part of a batch looked like: the baseline for those that follow.
schema_profile = Table(
    "schema_profile",
    leads_metadata,
    Column("market", String(40), primary_key=True),
    Column("source", String(40), primary_key=True),
    Column("batch_id", String(80), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("closed", Boolean, nullable=False),  # false: gathers rows of small batches still
    Column("at_us", BigInteger, nullable=False),
    Column("profile", Text, nullable=False),  # JSON
    Index("ix_schema_profile_at", "market", "source", "at_us"),
)

schema_finding = Table(
    "schema_finding",
    leads_metadata,
    Column("market", String(40), primary_key=True),
    Column("source", String(40), primary_key=True),
    Column("batch_id", String(80), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("column", String(120), primary_key=True),
    Column("kind", String(20), primary_key=True),  # new, missing, renamed, retyped, nulls, ..
    Column("severity", String(8), nullable=False),  # warn, break
    Column("detail", Text, nullable=False),
    Column("p_value", Float),
    Column("at_us", BigInteger, nullable=False),
)

# Sources that an operator paused or that schema drift stopped; no row: active.
source_state = Table(
    "source_state",
    leads_metadata,
    Column("source", String(40), primary_key=True),
    Column("state", String(8), nullable=False),  # active, paused, stopped
    Column("reason", Text, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    CheckConstraint("state in ('active','paused','stopped')", name="state"),
)

# Where a pull stands: what the host said last, and the page to go on from.
pull_state = Table(
    "pull_state",
    leads_metadata,
    Column("source", String(40), primary_key=True),
    Column("url", Text, primary_key=True),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("next_url", Text),
    Column("pages", Integer, nullable=False),
    Column("pulled_us", BigInteger, nullable=False),
)

# People who are not to be sold, by the keyed digest of an e-mail or a phone as `match_key`
# has it. suppressed: whatever they agreed to; revoked: what they agreed to until since_us.
suppression = Table(
    "suppression",
    leads_metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("kind", String(10), primary_key=True),
    Column("since_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noted_by", String(60), nullable=False),
    Column("lifted_us", BigInteger),
    Column("lifted_by", String(60)),
    CheckConstraint("kind in ('suppressed','revoked')", name="kind"),
    Index("ix_suppression_since", "since_us"),
    Index("ix_suppression_lifted", "lifted_us"),
)

# --- vault -------------------------------------------------------------------------
# Apart from the leads so that a copy of those holds no key, and so that a push never
# waits for an ingest: every transaction in this room is short.

# wrapped: the key under the settings' key; none once it was destroyed, for good.
data_key = Table(
    "data_key",
    vault_metadata,
    Column("key_id", String(80), primary_key=True),
    Column("wrapped", LargeBinary),
    Column("created_us", BigInteger, nullable=False),
    Column("destroyed_us", BigInteger),
)

# Bodies that were pushed; `delivery` is the sender's name of it, else the body's digest.
pushed = Table(
    "pushed",
    vault_metadata,
    Column("source", String(40), primary_key=True),
    Column("delivery", String(120), primary_key=True),
    Column("market", String(40), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("media_type", String(80), nullable=False),
    Column("body", LargeBinary, nullable=False),  # sealed
    Column("key_id", String(80), nullable=False),
    Column("state", String(8), nullable=False),  # waiting, done, failed
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before_us", BigInteger, nullable=False, default=0),
    Column("failure", Text),
    Column("batch_id", String(80)),
    Column("done_us", BigInteger),
    CheckConstraint("state in ('waiting','done','failed')", name="state"),
    Index("ix_pushed_state", "state", "received_us"),
)

# Who works in the background, and when it was last seen.
heartbeat = Table(
    "heartbeat",
    vault_metadata,
    Column("worker", String(40), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
)

# --- commerce ----------------------------------------------------------------------

agent = Table(
    "agent",
    commerce_metadata,
    Column("agent_id", String(20), primary_key=True),
    Column("name", String(120), nullable=False),
    Column("tier", String(12), nullable=False),
    Column("market", String(40), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    # Locked first by every hold and checkout of the agent: limits are checked under it.
    Column("version", BigInteger, nullable=False, default=0),
)

# A seat: somebody who acts for an agent's account and shares its wallet and limits.
member = Table(
    "member",
    commerce_metadata,
    Column("member_id", String(40), primary_key=True),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("name", String(120), nullable=False),
    Column("role", String(10), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("removed_us", BigInteger),
    CheckConstraint("role in ('admin','buyer','viewer')", name="role"),
    Index("ix_member_agent", "agent_id"),
)

api_key = Table(
    "api_key",
    commerce_metadata,
    Column("key_id", String(20), primary_key=True),
    Column("key_sha256", String(64), nullable=False, unique=True),
    Column("agent_id", String(20), ForeignKey("agent.agent_id")),  # none: an operator's key
    Column("member_id", String(40), ForeignKey("member.member_id")),  # none: the account's own
    Column("scopes", Text, nullable=False),  # space separated
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
)

# What an agent has bound itself to: at most so many leads, or cents, in a span of time.
agent_cap = Table(
    "agent_cap",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("measure", String(8), primary_key=True),  # leads, spend (cents)
    Column("per", String(8), primary_key=True),  # hour, day, week, month
    Column("most", BigInteger, nullable=False),
    CheckConstraint("measure in ('leads','spend')", name="measure"),
    CheckConstraint("per in ('hour','day','week','month')", name="per"),
    CheckConstraint("most >= 0", name="most"),
)

# Which leads the agent lets itself hold; a JSON object, see commerce.caps.
agent_filter = Table(
    "agent_filter",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("content", Text, nullable=False),
)

lead_slot = Table(
    "lead_slot",
    commerce_metadata,
    Column("lead_id", String(20), primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("state", String(8), nullable=False),
    Column("agent_id", String(20), ForeignKey("agent.agent_id")),
    Column("hold_id", String(40)),
    Column("held_until_us", BigInteger),
    Column("token", BigInteger, nullable=False, default=0),
    Column("order_id", String(40)),
    # Time of the last change: the next grant starts no earlier, whoever's clock is behind.
    Column("changed_us", BigInteger, nullable=False, default=0),
    # blocked: kept empty for an exclusive hold, under its token; closed: never sold any more.
    CheckConstraint("state in ('free','held','blocked','sold','closed')", name="state"),
    CheckConstraint("(state in ('held','blocked','sold')) = (agent_id is not null)", name="owner"),
    CheckConstraint("(state = 'sold') = (order_id is not null)", name="order"),
    Index(
        "uq_lead_slot_owner",
        "lead_id",
        "agent_id",
        unique=True,
        sqlite_where=text("state in ('held','sold')"),
        postgresql_where=text("state in ('held','sold')"),
    ),
    # With the time: holds that are long over are not looked at to count the live ones.
    Index("ix_lead_slot_agent", "agent_id", "state", "held_until_us"),
    Index("ix_lead_slot_hold", "hold_id"),
)

hold = Table(
    "hold",
    commerce_metadata,
    Column("hold_id", String(40), primary_key=True),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("mode", String(14), nullable=False),  # all_or_nothing, best_effort
    Column("asked", Integer, nullable=False),  # leads asked for
    Column("exclusive", Boolean, nullable=False, default=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),  # the first of its leads' ends
    Column("extended_us", BigInteger),  # a card payment extends a hold once
    Index("ix_hold_agent", "agent_id", "expires_us"),
)

# The frozen price of each held lead, when its hold was granted, and how it ended.
hold_item = Table(
    "hold_item",
    commerce_metadata,
    Column("hold_id", String(40), ForeignKey("hold.hold_id"), primary_key=True),
    Column("lead_id", String(20), primary_key=True),
    Column("slot", Integer, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("price_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("price_lines", Text, nullable=False),  # JSON
    Column("granted_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("ended_how", String(12)),  # released, expired, sold, closed
    # The consent that was found when it was held, see order_item.
    Column("consent_id", String(20)),
    Column("consent_proof", String(200)),
    Column("consent_sellers", Integer),
    Column("consent_checked_us", BigInteger),
    UniqueConstraint("lead_id", "slot", "token"),
)

orders = Table(
    "orders",
    commerce_metadata,
    Column("order_id", String(40), primary_key=True),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("state", String(20), nullable=False),
    Column("pay_with", String(12), nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("deadline_us", BigInteger),  # until when a card payment may commit the sale
    Column("settled_us", BigInteger),
    Column("failure", String(60)),
    Index("ix_orders_agent", "agent_id", "created_us"),
)

order_item = Table(
    "order_item",
    commerce_metadata,
    Column("order_id", String(40), ForeignKey("orders.order_id"), primary_key=True),
    Column("lead_id", String(20), primary_key=True),
    Column("slot", Integer, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("price_cents", BigInteger, nullable=False),
    # What the sale rests on, asked of the room `leads` just before it: the submission that
    # came with the consent, its proof, to how many agents it goes. None until it is sold.
    Column("consent_id", String(20)),
    Column("consent_proof", String(200)),
    Column("consent_sellers", Integer),
    Column("consent_checked_us", BigInteger),
    Index("ix_order_item_lead", "lead_id"),
    Index("ix_order_item_consent", "consent_id"),
)

payment_attempt = Table(
    "payment_attempt",
    commerce_metadata,
    Column("attempt_id", String(40), primary_key=True),
    Column("order_id", String(40), ForeignKey("orders.order_id")),  # none: a top-up
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("purpose", String(10), nullable=False),  # order, topup, recharge (by itself)
    # Stored before the first call, so that a retry after a crash is the same payment.
    Column("idempotency_prefix", String(60), nullable=False, unique=True),
    Column("payment_method", String(60), nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("payment_intent", String(60), unique=True),
    # Raised once Stripe keeps an error under a key that made nothing.
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("state", String(20), nullable=False),  # open, captured, voided, uncollected
    Column("failure", String(60)),
    Column("created_us", BigInteger, nullable=False),
    Index("ix_payment_attempt_state", "state"),
    Index("ix_payment_attempt_order", "order_id"),
)

# What an operator found out about an agent; a market may ask for it.
agent_licence = Table(
    "agent_licence",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("state", String(2), primary_key=True),
    Column("number", String(40), nullable=False),
    Column("expires_us", BigInteger),
    Column("noted_by", String(80), nullable=False),
    Column("noted_us", BigInteger, nullable=False),
)

# A lead that its buyer gives back: the money comes back as credit, the knowledge does not.
lead_return = Table(
    "lead_return",
    commerce_metadata,
    Column("return_id", String(40), primary_key=True),
    Column("order_id", String(40), ForeignKey("orders.order_id"), nullable=False),
    Column("lead_id", String(20), nullable=False),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("reason", String(30), nullable=False),
    Column("evidence", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("credit_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("asked_us", BigInteger, nullable=False),
    Column("decided_us", BigInteger),
    Column("decided_by", String(60)),  # rule, or the operator's key
    Column("note", Text),
    CheckConstraint("state in ('waiting','credited','refused')", name="state"),
    CheckConstraint("credit_cents > 0", name="credit"),
    UniqueConstraint("order_id", "lead_id"),
    Index("ix_lead_return_agent", "agent_id", "asked_us"),
    Index("ix_lead_return_state", "state", "asked_us"),
)

# Money that goes back: of an order, or (found at Stripe only) of a top-up.
refund = Table(
    "refund",
    commerce_metadata,
    Column("refund_id", String(60), primary_key=True),  # ours, or Stripe's for one made there
    Column("order_id", String(40), ForeignKey("orders.order_id")),
    Column("attempt_id", String(40), ForeignKey("payment_attempt.attempt_id")),  # none: to wallet
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("state", String(10), nullable=False),
    Column("stripe_id", String(60), unique=True),
    Column("tries", Integer, nullable=False, server_default="0"),  # as of a payment attempt
    Column("asked_by", String(60), nullable=False),
    Column("reason", Text, nullable=False),
    Column("failure", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("settled_us", BigInteger),
    CheckConstraint("state in ('open','succeeded','failed')", name="state"),
    CheckConstraint("amount_cents > 0", name="amount"),
    Index("ix_refund_order", "order_id"),
    Index("ix_refund_state", "state"),
)

# A buyer's bank takes a payment back; the bank decides.
dispute = Table(
    "dispute",
    commerce_metadata,
    Column("dispute_id", String(60), primary_key=True),  # Stripe's
    Column("attempt_id", String(40), ForeignKey("payment_attempt.attempt_id"), nullable=False),
    Column("order_id", String(40), ForeignKey("orders.order_id")),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("state", String(6), nullable=False),
    Column("reason", String(60), nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    CheckConstraint("state in ('open','won','lost')", name="state"),
    Index("ix_dispute_state", "state"),
)

# Up to when something of the outside world was read.
bookmark = Table(
    "bookmark",
    commerce_metadata,
    Column("name", String(40), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
)

# A wallet that tops itself up. paused: why it no longer does ('' while it does).
auto_recharge = Table(
    "auto_recharge",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("below_cents", BigInteger, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("daily_most_cents", BigInteger, nullable=False),
    Column("payment_method", String(60), nullable=False),
    Column("paused", String(60), nullable=False),
)

# Time that was bought for a hold.
hold_extension = Table(
    "hold_extension",
    commerce_metadata,
    Column("extension_id", String(40), primary_key=True),
    Column("hold_id", String(40), ForeignKey("hold.hold_id"), nullable=False),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("hours", Integer, nullable=False),
    Column("price_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("ix_hold_extension_hold", "hold_id"),
)

# Who changed what; appended in the transaction that keeps the request's answer.
audit = Table(
    "audit",
    commerce_metadata,
    Column("audit_id", String(40), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("agent_id", String(20)),  # none: an operator acted
    Column("member_id", String(40)),
    Column("key_id", String(20), nullable=False),
    Column("action", String(200), nullable=False),  # POST /v1/checkout
    Column("status", Integer, nullable=False),
    Index("ix_audit_agent", "agent_id", "at_us"),
    Index("ix_audit_at", "at_us"),
)

# What an agent is told, written in the transaction of its cause.
notice = Table(
    "notice",
    commerce_metadata,
    Column("notice_id", String(120), primary_key=True),  # natural key: lead-invalid:L1:A1
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("lead_id", String(20)),
    Column("detail", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("ix_notice_agent", "agent_id", "created_us"),
)

account = Table(
    "account",
    commerce_metadata,
    Column("account_id", String(60), primary_key=True),  # wallet:A0001, revenue, ...
    Column("kind", String(16), nullable=False),
    Column("currency", String(3), nullable=False),
)

txn = Table(
    "txn",
    commerce_metadata,
    Column("txn_id", String(80), primary_key=True),  # natural key: capture:pi_x, wallet:ord_x
    Column("about", String(120), nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

entry = Table(
    "entry",
    commerce_metadata,
    Column("txn_id", String(80), ForeignKey("txn.txn_id"), primary_key=True),
    Column("account_id", String(60), ForeignKey("account.account_id"), primary_key=True),
    Column("direction", String(6), primary_key=True),  # debit, credit
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    CheckConstraint("direction in ('debit','credit')", name="direction"),
    CheckConstraint("amount_cents > 0", name="positive"),
    Index("ix_entry_account", "account_id"),
)

idempotency = Table(
    "idempotency",
    commerce_metadata,
    Column("scope", String(60), primary_key=True),  # the key's agent
    Column("idempotency_key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("status", Integer),  # none while the first request runs
    Column("media_type", String(60)),
    Column("body", LargeBinary),
    Column("created_us", BigInteger, nullable=False),
)

webhook_inbox = Table(
    "webhook_inbox",
    commerce_metadata,
    Column("event_id", String(80), primary_key=True),
    Column("kind", String(80), nullable=False),
    Column("payment_intent", String(60)),
    Column("received_us", BigInteger, nullable=False),
)

interaction = Table(
    "interaction",
    commerce_metadata,
    Column("event_id", String(80), primary_key=True),
    Column("agent_id", String(20), nullable=False),
    Column("lead_id", String(20), nullable=False),
    Column("request_id", String(80)),
    Column("kind", String(10), nullable=False),
    Column("at_market_us", BigInteger, nullable=False),
    Column("arrived_us", BigInteger, nullable=False),
    Index("ix_interaction_agent", "agent_id", "at_market_us"),
)

# The people whom an agent knows already, as digests that are keyed and the agent's own: two
# agents' rows cannot be compared, nor any with a lead's. An answer comes of those alone that
# were there a day before the lead was.
agent_contact = Table(
    "agent_contact",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("digest", LargeBinary(16), primary_key=True),
    Column("uploaded_us", BigInteger, nullable=False),
)

# How many an agent uploaded on a day (UTC); deleting contacts gives nothing back.
contact_day = Table(
    "contact_day",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("day_us", BigInteger, primary_key=True),
    Column("uploaded", Integer, nullable=False),
)

# Leads of which an agent was told that it knows the person.
duplicate_answer = Table(
    "duplicate_answer",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("lead_id", String(20), primary_key=True),
    Column("answered_us", BigInteger, nullable=False),
    Index("ix_duplicate_answer_time", "agent_id", "answered_us"),
)

# What is to be told to an agent's own system, written in the transaction of its cause. It
# holds no contact: what is sent is made when it is sent. event_id never changes, however often
# it is sent. failure: why it is dead, or why the last try came to nothing.
outbox = Table(
    "outbox",
    commerce_metadata,
    Column("event_id", String(120), primary_key=True),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("kind", String(60), nullable=False),  # lead.sold, refund, notice.<kind>, delivery.test
    Column("order_id", String(40)),
    Column("lead_id", String(20)),
    Column("notice_id", String(120)),
    Column("created_us", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_try_us", BigInteger, nullable=False),
    Column("last_try_us", BigInteger),
    Column("last_status", Integer),  # of the HTTP answer, none without one
    Column("failure", String(60)),
    Column("delivered_us", BigInteger),
    CheckConstraint("state in ('waiting','delivered','dead')", name="state"),
    CheckConstraint("state <> 'dead' or failure is not null", name="reason"),
    CheckConstraint("state <> 'delivered' or delivered_us is not null", name="delivered"),
    UniqueConstraint("order_id", "lead_id", "kind"),
    Index("ix_outbox_due", "agent_id", "state", "next_try_us"),
    Index("ix_outbox_agent", "agent_id", "created_us"),
)

# Where an agent's own system is told; address and secrets are sealed.
delivery_endpoint = Table(
    "delivery_endpoint",
    commerce_metadata,
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), primary_key=True),
    Column("channel", String(10), nullable=False),
    Column("key_id", String(80), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    CheckConstraint("channel in ('webhook','email','csv')", name="channel"),
)

# Keyed digests of the numbers of the do-not-call list that was taken in last; the row with an
# empty digest says of which day it is, also when it names nobody.
do_not_call = Table(
    "do_not_call",
    commerce_metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("as_of_us", BigInteger, nullable=False),
)
