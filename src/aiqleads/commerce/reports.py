"""What an agent has bought, line by line, by month, and as a receipt."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Engine, and_, select

from aiqleads.domain import US_PER_DAY, US_PER_SECOND, midnight_us, moment
from aiqleads.errors import Refused, UnknownName
from aiqleads.store.database import reader
from aiqleads.store.orders import SETTLED, SOLD
from aiqleads.store.tables import agent, hold_item, lead_return, order_item, orders

COLUMNS = (
    "order_id",
    "ordered_at",
    "state",
    "pay_with",
    "lead_id",
    "price",
    "currency",
    "returned",
    "credited",
)
# What a spreadsheet takes for a formula; a telephone number is none.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d\s().-]*$)")


@dataclass(frozen=True)
class Line:
    """One lead of an order. returned: state of its return, empty without one."""

    order_id: str
    created_us: int
    state: str
    pay_with: str
    lead_id: str
    price_cents: int
    currency: str
    returned: str
    price_lines: tuple[Mapping[str, Any], ...] = ()

    @property
    def credited_cents(self) -> int:
        """What of its price came back."""
        return self.price_cents if self.returned == "credited" else 0


@dataclass(frozen=True)
class Month:
    """What was bought in a calendar month (UTC), and what of that came back since."""

    month: str
    currency: str
    leads: int
    spent_cents: int
    returned: int
    credited_cents: int

    @property
    def net_cents(self) -> int:
        """Spent less credited."""
        return self.spent_cents - self.credited_cents


@dataclass(frozen=True)
class Receipt:
    """A paid order as its buyer keeps it."""

    order_id: str
    buyer_id: str
    buyer: str
    pay_with: str
    created_us: int
    settled_us: int | None
    lines: tuple[Line, ...]

    @property
    def currency(self) -> str:
        """Of all lines."""
        return self.lines[0].currency

    @property
    def total_cents(self) -> int:
        """Sum of the prices."""
        return sum(line.price_cents for line in self.lines)

    @property
    def credited_cents(self) -> int:
        """What came back for leads that were given back."""
        return sum(line.credited_cents for line in self.lines)


def lines(
    engine: Engine, agent_id: str, since_us: int = 0, until_us: int | None = None
) -> list[Line]:
    """Every lead sold to the agent by orders of [since, until), oldest first."""
    bounds = [orders.c.agent_id == agent_id, orders.c.created_us >= since_us]
    if until_us is not None:
        bounds.append(orders.c.created_us < until_us)
    return _lines(engine, *bounds)


def line(engine: Engine, agent_id: str, order_id: str, lead_id: str) -> Line | None:
    """One lead of an order as it was sold to the agent; None where it was not."""
    mine = (orders.c.agent_id == agent_id, orders.c.order_id == order_id)
    return next(iter(_lines(engine, *mine, order_item.c.lead_id == lead_id)), None)


def days_us(since: date | None, until: date | None) -> tuple[int, int | None]:
    """[since, until) in microseconds of two days (UTC), the second one included."""
    first, after = (None if day is None else midnight_us(day) for day in (since, until))
    return first or 0, None if after is None else after + US_PER_DAY


def _lines(engine: Engine, *bounds: Any) -> list[Line]:
    of_item = and_(
        hold_item.c.lead_id == order_item.c.lead_id,
        hold_item.c.slot == order_item.c.slot,
        hold_item.c.token == order_item.c.token,
    )
    of_return = and_(
        lead_return.c.order_id == order_item.c.order_id,
        lead_return.c.lead_id == order_item.c.lead_id,
    )
    query = (
        select(
            orders.c.order_id,
            orders.c.created_us,
            orders.c.state,
            orders.c.pay_with,
            order_item.c.lead_id,
            order_item.c.price_cents,
            orders.c.currency,
            lead_return.c.state.label("returned"),
            hold_item.c.price_lines,
        )
        .select_from(
            orders.join(order_item, order_item.c.order_id == orders.c.order_id)
            .outerjoin(hold_item, of_item)
            .outerjoin(lead_return, of_return)
        )
        .where(orders.c.state.in_(SOLD), *bounds)
        .order_by(orders.c.created_us, orders.c.order_id, order_item.c.lead_id)
    )
    with reader(engine).connect() as connection:
        return [
            Line(
                row.order_id,
                row.created_us,
                row.state,
                row.pay_with,
                row.lead_id,
                row.price_cents,
                row.currency,
                row.returned or "",
                tuple(json.loads(row.price_lines or "[]")),
            )
            for row in connection.execute(query)
        ]


def as_csv(found: Sequence[Line]) -> Iterator[str]:
    """The lines as CSV (RFC 4180) with a header, piece by piece; money with two decimals."""
    for row in [COLUMNS, *map(_cells, found)]:
        yield csv_text([row])


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV (RFC 4180). Text that a stranger wrote is never a spreadsheet's formula."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) else text


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.order_id,
        moment(line.created_us),
        line.state,
        line.pay_with,
        line.lead_id,
        f"{line.price_cents / 100:.2f}",
        line.currency,
        line.returned,
        f"{line.credited_cents / 100:.2f}",
    )


def spend(engine: Engine, agent_id: str) -> list[Month]:
    """What the agent bought by calendar month (UTC) and currency, newest first."""
    months: dict[tuple[str, str], list[Line]] = {}
    for line in lines(engine, agent_id):
        key = f"{_moment(line.created_us):%Y-%m}", line.currency
        months.setdefault(key, []).append(line)
    return [
        Month(
            month,
            currency,
            leads=len(found),
            spent_cents=sum(line.price_cents for line in found),
            returned=sum(line.returned == "credited" for line in found),
            credited_cents=sum(line.credited_cents for line in found),
        )
        for (month, currency), found in sorted(months.items(), reverse=True)
    ]


def receipt(engine: Engine, agent_id: str, order_id: str) -> Receipt:
    """A paid order of the agent; UnknownName for another's, Refused `not-paid` 409 before."""
    query = (
        select(orders, agent.c.name)
        .join(agent, agent.c.agent_id == orders.c.agent_id)
        .where(orders.c.order_id == order_id, orders.c.agent_id == agent_id)
    )
    with reader(engine).connect() as connection:
        head = connection.execute(query).one_or_none()
    if head is None:
        raise UnknownName(f"no order {order_id!r}")
    if head.state not in SETTLED:
        raise Refused("not-paid", f"the order is {head.state}: there is no receipt", status=409)
    found = _lines(engine, orders.c.order_id == order_id)
    return Receipt(
        order_id, agent_id, head.name, head.pay_with, head.created_us, head.settled_us, tuple(found)
    )


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // US_PER_SECOND, UTC)
