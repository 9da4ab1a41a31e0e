"""The control: a shop that looks first and changes then, as most shops began.

It answers as the real one does, so that the same soak runs it and must catch it: between what
it has seen and what it writes there is a gap, and no token and no lock closes it. The gap is
a sleep, so that a fast machine shows it too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.exc import IntegrityError

from aiqleads.commerce.caps import check_purchase
from aiqleads.commerce.holds import Hold, HoldLine
from aiqleads.commerce.ids import new_id
from aiqleads.errors import Refused
from aiqleads.store import ledger, orders
from aiqleads.store.database import reader
from aiqleads.store.holds import Item
from aiqleads.store.orders import Order, OrderItem
from aiqleads.store.tables import lead_slot
from aiqleads.store.transactions import writing

_MOST_HOLDS = {"basic": 10}
_HOUR_US = 3_600_000_000
_GAP_S = 0.002


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A transaction in which the table itself refuses an agent a second slot of a lead."""
    try:
        with writing(engine) as connection:
            yield connection
    except IntegrityError:
        raise Refused("lead-already-held", "it is yours", yours=True) from None


class NaiveShop:
    """The part of the shop that the races call, without its guards; one for each process."""

    def __init__(self) -> None:
        self._items: dict[str, Sequence[Item]] = {}

    def place(
        self,
        engine: Engine,
        agent_id: str,
        lines: Sequence[HoldLine],
        mode: str,
        now_us: int,
        *,
        exclusive: bool = False,
    ) -> Hold:
        """Looks for a free slot of each lead, then marks what it found."""
        hold_id = new_id("hld", agent_id, None)
        with reader(engine).connect() as connection:
            self._check_room(connection, agent_id, now_us)
            found = [(line, self._free(connection, line.lead_id, now_us)) for line in lines]
        if any(not slots for _, slots in found):
            raise Refused("lead-already-held", "none is free")
        time.sleep(random.random() * _GAP_S)
        items = self._mark(engine, agent_id, hold_id, found, now_us, exclusive)
        self._items[hold_id] = items
        return Hold(hold_id, agent_id, now_us, tuple(items), exclusive=exclusive)

    def _mark(self, engine, agent_id, hold_id, found, now_us, exclusive) -> list[Item]:
        items = []
        with changing(engine) as connection:
            for line, slots in found:
                until_us = line.ends_us or now_us + _HOUR_US
                token = slots[0].token + 1
                connection.execute(
                    update(lead_slot)
                    .where(lead_slot.c.lead_id == line.lead_id)
                    .where(lead_slot.c.slot == slots[0].slot)
                    .values(state="held", agent_id=agent_id, hold_id=hold_id, order_id=None)
                    .values(held_until_us=until_us, token=token)
                )
                cents, currency = line.price.total_cents, line.price.currency
                where = (hold_id, line.lead_id, slots[0].slot, token)
                items.append(
                    Item(*where, cents, currency, (), now_us, until_us, False, exclusive, True)
                )
        return items

    def _check_room(self, connection, agent_id, now_us) -> None:
        held = select(func.count()).where(
            lead_slot.c.agent_id == agent_id,
            lead_slot.c.state == "held",
            lead_slot.c.held_until_us > now_us,
        )
        if agent_id.startswith("basic") and connection.scalar(held) >= _MOST_HOLDS["basic"]:
            raise Refused("hold-limit-reached", "no room")

    def _free(self, connection, lead_id, now_us):
        query = select(lead_slot).where(lead_slot.c.lead_id == lead_id)
        rows = connection.execute(query.order_by(lead_slot.c.slot)).all()
        return [
            row
            for row in rows
            if row.state == "free" or (row.state == "held" and row.held_until_us <= now_us)
        ]

    def release(self, engine: Engine, agent_id: str, hold_id: str, now_us: int, *, lead_id) -> int:
        """Frees the slot that the hold had, whoever has it now."""
        item = next(item for item in self._items[hold_id] if item.lead_id == lead_id)
        with changing(engine) as connection:
            connection.execute(
                update(lead_slot)
                .where(lead_slot.c.lead_id == lead_id, lead_slot.c.slot == item.slot)
                .values(state="free", agent_id=None, order_id=None)
            )
        return 1

    def pay_by_wallet(
        self, engine: Engine, agent_id: str, hold_ids: Sequence[str], now_us: int
    ) -> Order:
        """Looks whether limits, balance and slots allow it, then sells."""
        items = [item for hold_id in hold_ids for item in self._items[hold_id]]
        total = sum(item.price_cents for item in items)
        wallet = ledger.wallet_of(agent_id)
        with reader(engine).connect() as connection:
            prices = [(item.lead_id, item.price_cents) for item in items]
            check_purchase(connection, agent_id, prices, now_us)
            if ledger.credit_balance(connection, wallet) < total:
                raise Refused("insufficient-credits", "too little", status=402)
            for item in items:
                where = (lead_slot.c.lead_id == item.lead_id, lead_slot.c.slot == item.slot)
                state = connection.scalar(select(lead_slot.c.state).where(*where))
                if state != "held" or item.expires_us <= now_us:
                    raise Refused("hold-expired", "over")
        time.sleep(random.random() * _GAP_S)
        sold = tuple(OrderItem(i.lead_id, i.slot, i.token, i.price_cents) for i in items)
        order_id = new_id("ord", agent_id, None)
        head = (order_id, agent_id, "paid", "wallet", total, "USD", now_us)
        order = Order(*head, settled_us=now_us, items=sold)
        with changing(engine) as connection:
            orders.add(connection, order)
            for item in items:
                connection.execute(
                    update(lead_slot)
                    .where(lead_slot.c.lead_id == item.lead_id, lead_slot.c.slot == item.slot)
                    .values(state="sold", agent_id=agent_id, order_id=order_id)
                )
            legs = [ledger.Leg(wallet, total), ledger.Leg(ledger.REVENUE, -total)]
            ledger.post(connection, f"wallet:{order_id}", "naive", legs, "USD", now_us)
        return order
