"""What of a sale is not the shop's own: the source's share and the tax, and what stays.

Both are posted apart from the sale, by the worker: what is owed for an order follows from what
of its money was kept, so it is computed anew whenever that changed (a refund, a return, a lost
dispute) and the difference to what stands in the ledger is posted. A price includes its tax.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from sqlalchemy import Connection, Engine, or_, select, union

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import UnknownName
from aiqleads.ingest.feeds import feed_options
from aiqleads.ingest.market import load_market
from aiqleads.settings import Settings
from aiqleads.store import consents, holds, ledger, orders, refunds
from aiqleads.store.bulk import parts
from aiqleads.store.database import reader
from aiqleads.store.ledger import Leg
from aiqleads.store.orders import SETTLED, Order
from aiqleads.store.tables import agent, dispute, entry, lead_return, refund
from aiqleads.store.tables import orders as order_table
from aiqleads.store.transactions import writing

SOURCE_SHARE, TAX, TAX_PAYABLE = "source_share", "tax", "tax_payable"
_BOOKMARK = "accruals"
#: what was settled shortly before the last reading is looked at again
_SLACK_US = US_PER_DAY
#: the buyer's bank took all of it back
_GONE = "lost"
UNKNOWN_SOURCE = "unknown"


def payable_to(source: str) -> str:
    """Account of what a source is owed."""
    return f"payable:{source}"


@dataclass(frozen=True)
class Terms:
    """What is owed of what was kept. shares: by source, of the price; taxes: by market.

    A tax rate of 0.0625 means that 6.25 of each 106.25 are tax.
    """

    shares: Mapping[str, Fraction]
    taxes: Mapping[str, Fraction]


@dataclass(frozen=True)
class Kept:
    """A lead of an order: where it came from, its price, and what of that was kept; cents."""

    lead_id: str
    source: str
    price_cents: int
    kept_cents: int


@dataclass(frozen=True)
class Margin:
    """What the leads of one source brought in a span of time, cents of one currency.

    margin_cents: kept, less the source's share and the tax.
    """

    source: str
    currency: str
    leads: int
    sold_cents: int
    kept_cents: int
    share_cents: int
    tax_cents: int

    @property
    def margin_cents(self) -> int:
        """What stays with the shop, before Stripe's fees."""
        return self.kept_cents - self.share_cents - self.tax_cents


def terms_of(settings: Settings, markets: Iterable[str]) -> Terms:
    """The terms that the feed file and the files of these markets state.

    InvalidInput for a file that cannot be read; a market without a file has no tax.
    """
    options = feed_options(settings)
    shares = {name: Fraction(each.share) for name, each in options.items() if each.share}
    taxes = {}
    for name in markets:
        with contextlib.suppress(UnknownName):
            taxes[name] = Fraction(load_market(name, settings).sales_tax)
    return Terms(shares, taxes)


def markets_of(commerce: Engine) -> list[str]:
    """Where the shop's agents are."""
    with reader(commerce).connect() as connection:
        return list(connection.execute(select(agent.c.market).distinct()).scalars())


def accrue(commerce: Engine, leads: Engine, terms: Terms, now_us: int) -> int:
    """Posts what changed since the last call; returns for how many orders. Safe to repeat."""
    with reader(commerce).connect() as connection:
        since_us = refunds.read_until(connection, _BOOKMARK) - _SLACK_US
        changed = _changed(connection, since_us)
    posted = 0
    for some in parts(changed):
        with reader(commerce).connect() as connection:
            found = [orders.get(connection, order_id) for order_id in some]
        sources = _sources(leads, found)
        for order in found:
            with writing(commerce) as connection:
                holds.lock_agent(connection, order.agent_id)
                posted += _post(connection, order.order_id, sources, terms, now_us)
    with writing(commerce) as connection:
        refunds.mark(connection, _BOOKMARK, now_us)
    return posted


def _changed(connection: Connection, since_us: int) -> list[str]:
    """Orders whose money came, went back or was taken back since then."""
    settled = select(order_table.c.order_id).where(order_table.c.settled_us >= since_us)
    back = select(refund.c.order_id).where(refund.c.settled_us >= since_us)
    returned = select(lead_return.c.order_id).where(lead_return.c.decided_us >= since_us)
    disputed = select(dispute.c.order_id).where(
        or_(dispute.c.opened_us >= since_us, dispute.c.closed_us >= since_us)
    )
    either = union(settled, back, returned, disputed).subquery()
    query = (
        select(order_table.c.order_id)
        .where(order_table.c.order_id.in_(select(either)), order_table.c.state.in_(SETTLED))
        .order_by(order_table.c.order_id)
    )
    return list(connection.execute(query).scalars())


def _sources(leads: Engine, found: Iterable[Order]) -> dict[str, str]:
    """The source of each sale, by the submission whose consent it rests on."""
    proofs = {item.consent.submission_id for order in found for item in order.items if item.consent}
    with reader(leads).connect() as connection:
        return consents.sources_of(connection, sorted(proofs))


def kept(connection: Connection, order: Order, sources: Mapping[str, str]) -> list[Kept]:
    """What is left of the price of each lead: credits for the lead itself are taken off it,
    refunds of the order off all of them in proportion."""
    credited = _credited(connection, order.order_id)
    back = refunds.refunded_cents(connection, order.order_id, "succeeded")
    share = Fraction(0) if order.state == _GONE else 1 - Fraction(back, order.amount_cents)
    return [
        Kept(
            item.lead_id,
            sources.get(item.consent.submission_id if item.consent else "", UNKNOWN_SOURCE),
            item.price_cents,
            max(0, round(item.price_cents * share) - credited[item.lead_id]),
        )
        for item in order.items
    ]


def _credited(connection: Connection, order_id: str) -> Counter[str]:
    query = select(lead_return.c.lead_id, lead_return.c.credit_cents).where(
        lead_return.c.order_id == order_id, lead_return.c.state == "credited"
    )
    return Counter({row.lead_id: row.credit_cents for row in connection.execute(query)})


def _owed(found: Iterable[Kept], market: str, terms: Terms) -> Counter[str]:
    """Credits by account that should stand for an order, cents."""
    owed: Counter[str] = Counter()
    rate = terms.taxes.get(market, Fraction(0))
    for each in found:
        share = round(each.kept_cents * terms.shares.get(each.source, Fraction(0)))
        owed[payable_to(each.source)] += share
        owed[TAX_PAYABLE] += round(each.kept_cents * rate / (1 + rate))
    return owed


def _post(
    connection: Connection, order_id: str, sources: Mapping[str, str], terms: Terms, now_us: int
) -> bool:
    """Posts the difference to what stands; the agent's row is locked."""
    order = orders.get(connection, order_id)
    market = connection.execute(
        select(agent.c.market).where(agent.c.agent_id == order.agent_id)
    ).scalar_one()
    owed = _owed(kept(connection, order, sources), market, terms)
    stands, times = _posted(connection, order_id)
    change = {name: owed[name] - stands[name] for name in {*owed, *stands}}
    legs = []
    for name, cents in sorted(change.items()):
        if cents:
            legs += [Leg(TAX if name == TAX_PAYABLE else SOURCE_SHARE, cents), Leg(name, -cents)]
    if not legs:
        return False
    about = f"share and tax of {order_id}"
    key = f"accrual:{order_id}:{times}"
    return ledger.post(connection, key, about, _merged(legs), order.currency, now_us)


def _merged(legs: Iterable[Leg]) -> list[Leg]:
    """One leg an account; those that come to nothing are left out."""
    sums: Counter[str] = Counter()
    for leg in legs:
        sums[leg.account_id] += leg.cents
    return [Leg(name, cents) for name, cents in sorted(sums.items()) if cents]


def _posted(connection: Connection, order_id: str) -> tuple[Counter[str], int]:
    """Credits by account that stand for an order, and by how many postings."""
    query = select(entry).where(entry.c.txn_id.startswith(f"accrual:{order_id}:", autoescape=True))
    rows = connection.execute(query).all()
    stands: Counter[str] = Counter()
    for row in rows:
        if row.account_id not in (TAX, SOURCE_SHARE):
            signed = row.amount_cents if row.direction == "credit" else -row.amount_cents
            stands[row.account_id] += signed
    return stands, len({row.txn_id for row in rows})


def margins(
    commerce: Engine, leads: Engine, terms: Terms, since_us: int = 0, until_us: int | None = None
) -> list[Margin]:
    """What each source brought by orders of [since, until) whose money came, by its name."""
    bounds = [order_table.c.created_us >= since_us, order_table.c.state.in_(SETTLED)]
    if until_us is not None:
        bounds.append(order_table.c.created_us < until_us)
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    with reader(commerce).connect() as connection:
        query = select(order_table.c.order_id, agent.c.market).join(
            agent, agent.c.agent_id == order_table.c.agent_id
        )
        rows = connection.execute(query.where(*bounds))
        markets = {row.order_id: row.market for row in rows}
        found = [orders.get(connection, order_id) for order_id in markets]
        sources = _sources(leads, found)
        for order in found:
            for each in kept(connection, order, sources):
                owed = _owed([each], markets[order.order_id], terms)
                sums[each.source, order.currency].update(
                    leads=1,
                    sold=each.price_cents,
                    kept=each.kept_cents,
                    share=owed[payable_to(each.source)],
                    tax=owed[TAX_PAYABLE],
                )
    return [
        Margin(source, money, *(of[name] for name in ("leads", "sold", "kept", "share", "tax")))
        for (source, money), of in sorted(sums.items())
    ]
