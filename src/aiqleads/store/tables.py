"""Every SQL table, in two rooms that no transaction spans.

`leads` holds what was ingested; `commerce` holds agents, keys, holds and money.
Embedded they are two SQLite files, on PostgreSQL one database. Amounts are integer
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

# --- leads -------------------------------------------------------------------------

batch = Table(
    "batch",
    leads_metadata,
    Column("batch_id", String(40), primary_key=True),
    Column("source", String(40), nullable=False),
    Column("market", String(40), nullable=False),
    Column("path", Text, nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("payload_columns", Text, nullable=False),  # JSON: name -> kind of its values
    Column("contract_version", String(20), nullable=False),
    Column("rows_read", Integer, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("incomplete", Integer, nullable=False),
    Column("updated", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("ingested_us", BigInteger, nullable=False),
    CheckConstraint("rows_read = accepted + updated + duplicates + quarantined", name="sum"),
    Index("ix_batch_payload", "market", "source", "payload_sha256"),
)

# A lead without any place waits (place_precision 'none') and is in no frame.
lead = Table(
    "lead",
    leads_metadata,
    Column("lead_id", String(20), primary_key=True),
    Column("market", String(40), nullable=False),
    Column("source", String(40), nullable=False),
    Column("source_key", String(80), nullable=False),
    Column("batch_id", String(40), ForeignKey("batch.batch_id"), nullable=False),
    Column("intent", String(8), nullable=False),
    Column("property_type", String(40), nullable=False),
    Column("received_market_us", BigInteger, nullable=False),
    Column("expires_market_us", BigInteger, nullable=False),
    Column("ask_price_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("beds", Float),
    Column("baths", Float),
    Column("living_area_sqft", Float),
    Column("lot_area_sqft", Float),
    Column("garage_area_sqft", Float),
    Column("rooms", Float),
    Column("year_built", Float),
    Column("lon", Float),
    Column("lat", Float),
    Column("place_precision", String(10), nullable=False),
    Column("cell", BigInteger),
    Column("region", String(40)),
    Column("utm_x_m", Float),
    Column("utm_y_m", Float),
    Column("max_buyers", Integer, nullable=False),
    Column("submissions", Integer, nullable=False),
    Column("quality", Float, nullable=False),
    Column("quality_reasons", Text, nullable=False),
    Column("invented", Text, nullable=False),
    CheckConstraint("(cell is null) = (place_precision = 'none')", name="place"),
    UniqueConstraint("source", "source_key"),
    Index("ix_lead_market_received", "market", "received_market_us"),
)

lead_contact = Table(
    "lead_contact",
    leads_metadata,
    Column("lead_id", String(20), ForeignKey("lead.lead_id"), primary_key=True),
    Column("name", String(120), nullable=False),
    Column("email", String(254), nullable=False),
    Column("phone", String(20), nullable=False),
    Column("invented", Boolean, nullable=False),
)

# One row for each repeat that was folded into a lead, so that a merge can be read back.
lead_duplicate = Table(
    "lead_duplicate",
    leads_metadata,
    Column("source", String(40), primary_key=True),
    Column("source_key", String(80), primary_key=True),
    Column("lead_id", String(20), ForeignKey("lead.lead_id"), nullable=False),
    Column("batch_id", String(40), nullable=False),
    Column("rule", String(60), nullable=False),
    Column("received_market_us", BigInteger, nullable=False),
    Index("ix_lead_duplicate_lead", "lead_id"),
)

quarantine = Table(
    "quarantine",
    leads_metadata,
    Column("batch_id", String(40), ForeignKey("batch.batch_id"), primary_key=True),
    Column("row_number", Integer, primary_key=True),
    Column("rule", String(80), primary_key=True),
    Column("row_hash", String(64), nullable=False),
    Column("source", String(40), nullable=False),
    Column("column", String(60), nullable=False),
    Column("value", Text),
    Column("row_json", Text, nullable=False),
    Column("contract_version", String(20), nullable=False),
    Index("ix_quarantine_rule", "rule"),
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

api_key = Table(
    "api_key",
    commerce_metadata,
    Column("key_id", String(20), primary_key=True),
    Column("key_sha256", String(64), nullable=False, unique=True),
    Column("agent_id", String(20), ForeignKey("agent.agent_id")),  # none: an operator's key
    Column("scopes", Text, nullable=False),  # space separated
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
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
    CheckConstraint("state in ('free','held','sold','closed')", name="state"),
    CheckConstraint("(state in ('held','sold')) = (agent_id is not null)", name="owner"),
    CheckConstraint("(state = 'sold') = (order_id is not null)", name="order"),
    UniqueConstraint("lead_id", "agent_id"),
    Index("ix_lead_slot_agent", "agent_id", "state"),
    Index("ix_lead_slot_hold", "hold_id"),
)

hold = Table(
    "hold",
    commerce_metadata,
    Column("hold_id", String(40), primary_key=True),
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("mode", String(14), nullable=False),  # all_or_nothing, best_effort
    Column("asked", Integer, nullable=False),  # leads asked for
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
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
    Column("ended_us", BigInteger),
    Column("ended_how", String(12)),  # released, expired, sold
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
    Index("ix_order_item_lead", "lead_id"),
)

payment_attempt = Table(
    "payment_attempt",
    commerce_metadata,
    Column("attempt_id", String(40), primary_key=True),
    Column("order_id", String(40), ForeignKey("orders.order_id")),  # none: a top-up
    Column("agent_id", String(20), ForeignKey("agent.agent_id"), nullable=False),
    Column("purpose", String(10), nullable=False),  # order, topup
    # Stored before the first call, so that a retry after a crash is the same payment.
    Column("idempotency_prefix", String(60), nullable=False, unique=True),
    Column("payment_method", String(60), nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("payment_intent", String(60), unique=True),
    Column("state", String(20), nullable=False),  # open, captured, voided, uncollected
    Column("failure", String(60)),
    Column("created_us", BigInteger, nullable=False),
    Index("ix_payment_attempt_state", "state"),
    Index("ix_payment_attempt_order", "order_id"),
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
