"""A Hypothesis machine of all that money and holds can do, which counts the ends it reached.

It knows no model of its own: after each step every named invariant must hold, no client may have
seen a fault of ours, and what was told sold must be sold.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import func, select
from tests.commerce_faults import MINUTE, World, Worlds, line_of

from aiqleads.commerce import (
    debts,
    extensions,
    holds,
    invariants,
    recharge,
    refunds,
    returns,
    slots,
)
from aiqleads.commerce import orders as bought
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.stripe_standin import AUTHORISATION_SECONDS
from aiqleads.commerce.stripe_standin_params import Problem
from aiqleads.commerce.wallet import topup
from aiqleads.store.database import reader
from aiqleads.store.tables import (
    dispute,
    hold_item,
    lead_return,
    orders,
    payment_attempt,
    refund,
)

#: ends of each thing; none of these is left by itself
ENDS: dict[str, tuple[str, ...]] = {
    "order": (
        "paid", "failed", "canceled", "expired", "partially_refunded", "refunded", "won", "lost",
        "uncollected", "written_off",
    ),
    "hold": ("released", "expired", "sold", "closed"),
    "payment": ("captured", "voided", "uncollected"),
    "return": ("credited", "refused"),
    "refund": ("succeeded", "failed"),
    "dispute": ("won", "lost"),
}  # fmt: skip
_COLUMNS: dict[str, Any] = {
    "order": orders.c.state,
    "hold": hold_item.c.ended_how,
    "payment": payment_attempt.c.state,
    "return": lead_return.c.state,
    "refund": refund.c.state,
    "dispute": dispute.c.state,
}
AGENTS = st.sampled_from(("A1", "A2"))
CARDS = st.sampled_from(
    ("pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired",
     "pm_card_createDispute", "pm_card_refundFail")
)  # fmt: skip
NUMBERS = st.integers(0, 59)  # of a thing among those that there are
#: an operator decides about a lead that is given back for one of these
DOUBTED = sorted(name for name, each in returns.RULES.reasons.items() if not each.by_rule)
LINES = ("", "", "", "/capture", "/confirm", "/refunds", "/cancel")


class Money(RuleBasedStateMachine):
    """Two agents, leads as they are asked for, a card network, and a line that may be dead."""

    worlds: ClassVar[Worlds]
    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.w: World = self.worlds.make()
        self.held: list[tuple[str, str]] = []
        self.count = 0

    def ask(self, call: Any) -> Any:
        """A request under a key of its own; a refusal is an answer, a fault of ours is not."""
        self.count += 1
        key = f"request {self.count}"
        return self.w.ask(key, lambda: call(key))

    def take(self, who: str, names: list[str], *, alone: bool = False) -> str | None:
        """Holds leads; the hold's id, or None."""
        slots.ensure(self.w.engine, [(name, 2) for name in names])
        lines = [line_of(name, self.w.now) for name in names]
        w = self.w
        made = self.ask(
            lambda key: holds.place(
                w.engine, who, lines, "all_or_nothing", w.now, key=key, exclusive=alone
            )
        )
        if made is None:
            return None
        self.held.append((who, made.hold_id))
        return str(made.hold_id)

    def pay(self, who: str, hold_id: str | None, card: str | None, line: str = "") -> Any:
        """Buys a hold by card, or out of the wallet, over a line on which one path is dead."""
        w = self.w
        if hold_id is None:
            return None
        w.dead = line
        if card is None:
            return self.ask(lambda key: pay_by_wallet(w.engine, who, [hold_id], w.now, key=key))
        return self.ask(
            lambda key: pay_by_card(w.engine, w.payments, who, [hold_id], card, w.now, key=key)
        )

    def fresh(self) -> str:
        """A lead that nobody has touched."""
        return f"L{self.count}"

    @rule(who=AGENTS, numbers=st.sets(st.integers(0, 9), min_size=1, max_size=3),
          alone=st.booleans())  # fmt: skip
    def hold(self, who: str, numbers: set[int], alone: bool) -> None:
        self.take(who, [f"shared{number}" for number in sorted(numbers)], alone=alone)

    @rule(number=NUMBERS, how=st.sampled_from(["wallet", "card", "card", "release", "longer"]),
          card=CARDS, line=st.sampled_from(LINES))  # fmt: skip
    def use(self, number: int, how: str, card: str, line: str) -> None:
        if not self.held:
            return
        who, hold_id = self.held[number % len(self.held)]
        w = self.w
        match how:
            case "wallet":
                self.pay(who, hold_id, None)
            case "card":
                self.pay(who, hold_id, card, line)
            case "release":
                self.ask(lambda key: holds.release(w.engine, who, hold_id, w.now))
            case "longer":
                self.ask(
                    lambda key: extensions.extend(w.engine, who, hold_id, 24, {}, w.now, key=key)
                )

    @rule(who=AGENTS, card=CARDS, by_card=st.booleans(), line=st.sampled_from(LINES))
    def buy(self, who: str, card: str, by_card: bool, line: str) -> None:
        self.pay(who, self.take(who, [self.fresh()]), card if by_card else None, line)

    @rule(who=AGENTS)
    def buy_and_lapse(self, who: str) -> None:
        """The sale is committed, and its money cannot be taken until it is too late."""
        self.pay(who, self.take(who, [self.fresh()]), "pm_card_visa", "/capture")
        self.lapse()

    @rule(who=AGENTS, lose=st.booleans())
    def walk_away(self, who: str, lose: bool) -> None:
        """The bank asks, and the buyer goes, or gives the hold back and then says yes."""
        hold_id = self.take(who, [self.fresh()])
        self.pay(who, hold_id, "pm_card_authenticationRequired")
        if lose and hold_id is not None:
            self.ask(lambda key: holds.release(self.w.engine, who, hold_id, self.w.now))
            self.bank(succeed=True)
        else:
            self.wait(61)
        self.heal()

    @rule(who=AGENTS)
    def forget(self, who: str) -> None:
        """A hold runs out, and the other agent takes the whole lead."""
        lead = self.fresh()
        self.take(who, [lead])
        self.wait(61)
        self.take("A2" if who == "A1" else "A1", [lead], alone=True)

    @rule(who=AGENTS, won=st.booleans())
    def contest(self, who: str, won: bool) -> None:
        """The buyer's bank takes the payment back, and a decision ends it."""
        self.pay(who, self.take(who, [self.fresh()]), "pm_card_createDispute")
        self.court(won)

    @rule(who=AGENTS, cents=st.sampled_from([None, 1_000]), bounces=st.booleans())
    def regret(self, who: str, cents: int | None, bounces: bool) -> None:
        """An operator sends money back, to a card that may not take it."""
        card = "pm_card_refundFail" if bounces else "pm_card_visa"
        made = self.pay(who, self.take(who, [self.fresh()]), card)
        if made is not None:
            self.send_money_back(made.order_id, cents)
        self.heal()

    @rule(who=AGENTS, reason=st.sampled_from(DOUBTED))
    def complain_in_vain(self, who: str, reason: str) -> None:
        """A buyer gives a lead back for a reason that the operator does not believe."""
        lead = self.fresh()
        made = self.pay(who, self.take(who, [lead]), "pm_card_visa")
        if made is not None:
            self.give(made, lead, reason, credit=False)

    @rule(who=AGENTS)
    def spoil(self, who: str) -> None:
        """A lead that is none is given back while the other agent holds it."""
        lead, other = self.fresh(), "A2" if who == "A1" else "A1"
        made = self.pay(who, self.take(who, [lead]), "pm_card_visa")
        self.take(other, [lead])
        if made is not None:
            self.give(made, lead, "disconnected_number", credit=True)

    @rule(who=AGENTS, card=CARDS, cents=st.sampled_from([500, 7_000, 30_000]))
    def fill(self, who: str, card: str, cents: int) -> None:
        w = self.w
        self.ask(lambda key: topup(w.engine, w.payments, who, cents, card, w.now, key=key))

    @rule(who=AGENTS, card=CARDS)
    def recharge(self, who: str, card: str) -> None:
        w = self.w
        rule_ = recharge.Rule(3_000, 6_000, 12_000, card)
        self.ask(lambda key: recharge.put(w.engine, who, rule_))
        self.ask(lambda key: recharge.run(w.engine, w.payments, w.now))

    @rule(succeed=st.booleans())
    def bank(self, succeed: bool) -> None:
        self.w.authenticate(succeed=succeed)

    @rule(won=st.booleans())
    def court(self, won: bool) -> None:
        self.heal()
        for each in self.w.standin.disputes():
            if each["status"] == "needs_response":
                self.w.standin.close_dispute(each["id"], won=won)
        self.heal()

    @rule(last=st.integers(1, 6), backwards=st.booleans())
    def webhooks(self, last: int, backwards: bool) -> None:
        events = self.w.standin.events()[-last:]
        self.w.deliver(events[::-1] if backwards else events)

    @rule(minutes=st.sampled_from([1, 1, 16, 61]))
    def wait(self, minutes: int) -> None:
        self.w.now += minutes * MINUTE

    @rule()
    def heal(self) -> None:
        self.w.dead = ""
        self.w.sweep()

    @rule()
    def lapse(self) -> None:
        """So long that an authorisation is gone, and the line is back."""
        self.w.now += (AUTHORISATION_SECONDS + 60) * 1_000_000
        self.heal()

    def order(self, number: int, *states: str) -> Any:
        """One of the orders, rather one in these states, or None."""
        with reader(self.w.engine).connect() as connection:
            ids = connection.execute(select(orders).order_by(orders.c.order_id)).all()
        fitting = [each for each in ids if each.state in states] or ids
        return fitting[number % len(fitting)] if fitting else None

    @rule(number=NUMBERS, reason=st.sampled_from(sorted(returns.RULES.reasons)),
          credit=st.booleans())  # fmt: skip
    def give_back(self, number: int, reason: str, credit: bool) -> None:
        w, chosen = self.w, self.order(number, "paid")
        if chosen is None:
            return
        lead = bought.get(w.engine, chosen.agent_id, chosen.order_id).items[0].lead_id
        self.give(chosen, lead, reason, credit=credit)

    def give(self, order: Any, lead: str, reason: str, *, credit: bool) -> None:
        """Gives a lead of an order back, and lets an operator decide where one must."""
        w = self.w
        made = self.ask(
            lambda key: returns.ask(
                w.engine, order.agent_id, order.order_id, lead, reason, "x", w.now, key=key
            )
        )
        if made is not None and made.state == "waiting":
            self.ask(
                lambda key: returns.decide(
                    w.engine, made.return_id, credit=credit, by="ops", note="x", now_us=w.now
                )
            )

    @rule(number=NUMBERS, cents=st.sampled_from([None, None, 1_000]))
    def refund(self, number: int, cents: int | None) -> None:
        chosen = self.order(number, "paid", "partially_refunded")
        if chosen is not None:
            self.send_money_back(chosen.order_id, cents)

    def send_money_back(self, order_id: str, cents: int | None) -> None:
        """Refunds some cents of an order, or all that came."""
        w = self.w
        self.ask(
            lambda key: refunds.ask(
                w.engine, w.payments, order_id, cents, "ops", "x", w.now, key=key
            )
        )

    @rule(number=NUMBERS)
    def write_off(self, number: int) -> None:
        chosen = self.order(number, "uncollected")
        if chosen is not None:
            self.ask(lambda key: debts.write_off(self.w.engine, chosen.order_id, self.w.now))

    @rule(number=NUMBERS)
    def send_back(self, number: int) -> None:
        """The bank cannot take a refund."""
        with reader(self.w.engine).connect() as connection:
            sent = (refund.c.state == "succeeded", refund.c.stripe_id.is_not(None))
            query = select(refund.c.stripe_id).where(*sent).order_by(refund.c.refund_id)
            made = list(connection.execute(query).scalars())
        if made:
            # It may have done so already, and the shop has not looked since.
            with suppress(Problem):
                self.w.standin.fail_refund(made[number % len(made)])

    @invariant()
    def every_invariant_holds(self) -> None:
        w = self.w
        w.is_healing, line, w.dead = True, w.dead, ""
        found = invariants.check(w.engine, w.payments, w.now)
        w.is_healing, w.dead = False, line
        # P5 asks whether the worker sweeps, and here it does only when it is told to.
        broken = {name: f.offenders for name, f in found.items() if not f.ok and name != "P5"}
        assert broken == {}
        assert w.faults_of_ours == []

    def teardown(self) -> None:
        self.w.dead = ""
        self.w.heal()
        wrong = self.w.verdict()
        assert wrong == [], wrong
        self.reached.update(self.ends())
        self.worlds.remove(self.w)

    def ends(self) -> Counter[str]:
        """How often each end of `ENDS` was reached."""
        found: Counter[str] = Counter()
        with reader(self.w.engine).connect() as connection:
            for thing, column in _COLUMNS.items():
                rows = connection.execute(select(column, func.count()).group_by(column))
                found.update({f"{thing} {end}": n for end, n in rows if end in ENDS[thing]})
        return found


def all_ends() -> list[str]:
    """The names that `Money.reached` counts."""
    return [f"{thing} {end}" for thing, ends in ENDS.items() for end in ends]


def sqlite_worlds() -> Worlds:
    """Worlds in a directory of their own."""
    return Worlds(Path(tempfile.mkdtemp(prefix="aiqleads-machine-")))
