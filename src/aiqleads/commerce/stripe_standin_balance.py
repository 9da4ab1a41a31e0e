"""The Stripe stand-in's balance: fees, refunds and disputes, each a balance transaction.

State of its own in the stand-in's file: one table of objects, by kind and in order. Each
behaviour names the page of docs.stripe.com that it follows.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiqleads.commerce.stripe_standin_params import (
    Json,
    created_between,
    integer,
    invalid,
    known,
    page_size,
)

SCHEMA = """
create table if not exists object (
  id text primary key, kind text, seq integer, created integer, parent text, body text);
create index if not exists object_kind on object (kind, seq);
"""
#: "Testing": payment methods whose charges are disputed, or whose refunds fail later
DISPUTED = "pm_card_createDispute"
REFUND_FAILS = "pm_card_refundFail"
#: "Pricing": a card charge in the United States costs 2.9 % and 30 cents
_FEE_PER_MILLE, _FEE_CENTS = 29, 30
#: "How disputes work": the fee of a dispute, USD cents
DISPUTE_FEE_CENTS = 1_500
_REASONS = ("duplicate", "fraudulent", "requested_by_customer")
_OPEN_DISPUTE = ("needs_response", "under_review")


@dataclass(frozen=True)
class Balance:
    """What happened to the money of captured payments, within one transaction of the file.

    say: writes an event of a type about an object. now_s: seconds since the epoch.
    """

    db: sqlite3.Connection
    now_s: int
    say: Callable[[str, Json], None]

    def charge(self, intent: Json) -> None:
        """Books a captured PaymentIntent with its fee ("Balance transaction types: charge")."""
        cents = intent["amount_received"]
        fee = (cents * _FEE_PER_MILLE + 500) // 1_000 + _FEE_CENTS
        charge: Json = {
            "id": intent["latest_charge"],
            "object": "charge",
            "amount": cents,
            "amount_refunded": 0,
            "created": self.now_s,
            "currency": intent["currency"],
            "disputed": False,
            "metadata": intent["metadata"],
            "payment_intent": intent["id"],
            "payment_method": intent["payment_method"],
            "refunded": False,
        }
        self._put(charge, intent["id"])
        self._book("charge", cents, fee, charge)
        if intent["payment_method"] == DISPUTED:
            self._dispute(charge)

    # --- refunds -------------------------------------------------------------------

    def refund(self, params: Mapping[str, str]) -> Json:
        """ "Create a refund": at most what is left of the charge, and not while disputed."""
        known(params, {"payment_intent", "amount", "reason"}, "metadata[")
        if params.get("reason", _REASONS[0]) not in _REASONS:
            raise invalid("Invalid reason", None, "reason")
        charge = self._charge_of(params.get("payment_intent", ""))
        left = charge["amount"] - charge["amount_refunded"]
        if charge["disputed"]:
            message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
            raise invalid(message, "charge_disputed")
        if not left:
            message = f"Charge {charge['id']} has already been refunded."
            raise invalid(message, "charge_already_refunded")
        cents = left
        if "amount" in params:
            cents = integer(params, "amount", 1, "parameter_invalid_integer")
        if cents > left:
            message = (
                f"Refund amount (${cents / 100:.2f}) is greater than unrefunded amount on "
                f"charge (${left / 100:.2f})"
            )
            raise invalid(message, None, "amount")
        made: Json = {
            "id": f"re_{secrets.token_hex(12)}",
            "object": "refund",
            "amount": cents,
            "charge": charge["id"],
            "created": self.now_s,
            "currency": charge["currency"],
            "failure_reason": None,
            "metadata": {n[9:-1]: v for n, v in params.items() if n.startswith("metadata[")},
            "payment_intent": charge["payment_intent"],
            "reason": params.get("reason"),
            "status": "succeeded",
        }
        made["balance_transaction"] = self._book("refund", -cents, 0, made)
        self._put(made, charge["payment_intent"])
        charge["amount_refunded"] += cents
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        self._put(charge, charge["payment_intent"])
        self.say("refund.created", made)
        return made

    def fail_refund(self, refund_id: str) -> Json:
        """ "Failed refunds": a bank sends the money back after the refund had succeeded."""
        made = self.load("refund", refund_id)
        if made["status"] != "succeeded":
            raise invalid(f"The refund is {made['status']}.", None)
        made |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
        booked = self._book("refund_failure", made["amount"], 0, made)
        made["failure_balance_transaction"] = booked
        self._put(made, made["payment_intent"])
        charge = self.load("charge", made["charge"])
        charge["amount_refunded"] -= made["amount"]
        charge["refunded"] = False
        self._put(charge, charge["payment_intent"])
        self.say("refund.failed", made)
        return made

    # --- disputes ------------------------------------------------------------------

    def _dispute(self, charge: Json) -> None:
        """ "How disputes work": the amount and a fee leave the balance at once."""
        made: Json = {
            "id": f"du_{secrets.token_hex(12)}",
            "object": "dispute",
            "amount": charge["amount"],
            "charge": charge["id"],
            "created": self.now_s,
            "currency": charge["currency"],
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "reason": "fraudulent",
            "status": "needs_response",
        }
        self._book("adjustment", -charge["amount"], DISPUTE_FEE_CENTS, made)
        self._put(made, charge["payment_intent"])
        charge["disputed"] = True
        self._put(charge, charge["payment_intent"])
        self.say("charge.dispute.created", made)

    def close_dispute(self, dispute_id: str, *, won: bool) -> Json:
        """The bank's word on a dispute; what was won comes back, the fee does not."""
        made = self.load("dispute", dispute_id)
        if made["status"] not in _OPEN_DISPUTE:
            raise invalid(f"The dispute is {made['status']}.", None)
        made["status"] = "won" if won else "lost"
        if won:
            self._book("adjustment", made["amount"], 0, made)
        self._put(made, made["payment_intent"])
        self.say("charge.dispute.closed", made)
        return made

    # --- objects -------------------------------------------------------------------

    def load(self, kind: str, object_id: str) -> Json:
        """One object; 404 for one that is not there."""
        row = self.db.execute(
            "select body from object where id=? and kind=?", (object_id, kind)
        ).fetchone()
        if row is None:
            raise invalid(f"No such {kind}: '{object_id}'", "resource_missing", "id", status=404)
        found: Json = json.loads(row[0])
        return found

    def page(self, kind: str, params: Mapping[str, str], url: str) -> Json:
        """ "Pagination": objects of a kind, newest first, by cursor."""
        names = {"limit", "starting_after", "created[gte]", "created[lte]"}
        names |= {"expand[0]"} if kind == "balance_transaction" else {"payment_intent"}
        known(params, names)
        if params.get("expand[0]", "data.source") != "data.source":
            raise invalid("This property cannot be expanded.", None, "expand")
        limit, (since, until) = page_size(params), created_between(params)
        before = 1 << 62
        if "starting_after" in params:
            self.load(kind, params["starting_after"])
            found = self.db.execute(
                "select seq from object where id=?", (params["starting_after"],)
            )
            before = found.fetchone()[0]
        rows = self.db.execute(
            "select body from object where kind=? and seq < ? and created between ? and ? "
            "and (? is null or parent=?) order by seq desc limit ?",
            (kind, before, since, until, *[params.get("payment_intent")] * 2, limit + 1),
        ).fetchall()
        data = [json.loads(row[0]) for row in rows[:limit]]
        if "expand[0]" in params:
            data = [each | {"source": self._source(each["source"])} for each in data]
        return {"object": "list", "url": url, "has_more": len(rows) > limit, "data": data}

    def _source(self, object_id: str) -> Json:
        row = self.db.execute("select body from object where id=?", (object_id,)).fetchone()
        found: Json = json.loads(row[0])
        return found

    def _charge_of(self, intent_id: str) -> Json:
        row = self.db.execute(
            "select body from object where kind='charge' and parent=?", (intent_id,)
        ).fetchone()
        if row is None:
            message = "This PaymentIntent does not have a successful charge to refund."
            raise invalid(message, None, "payment_intent")
        found: Json = json.loads(row[0])
        return found

    def _put(self, made: Json, parent: str) -> None:
        self.db.execute(
            "insert into object values (?, ?, coalesce((select max(seq) from object), 0) + 1, "
            "?, ?, ?) on conflict (id) do update set body=excluded.body",
            (made["id"], made["object"], made["created"], parent, json.dumps(made)),
        )

    def _book(self, kind: str, cents: int, fee: int, source: Json) -> str:
        """ "The balance transaction object": what a thing did to the account's balance."""
        booked: Json = {
            "id": f"txn_{secrets.token_hex(12)}",
            "object": "balance_transaction",
            "amount": cents,
            "created": self.now_s,
            "currency": source["currency"],
            "fee": fee,
            "net": cents - fee,
            "source": source["id"],
            "type": kind,
        }
        self._put(booked, source["id"])
        return str(booked["id"])
