"""A stand-in for the part of Stripe's API that the shop uses, for tests and offline demos.

One core, `StandIn.handle(method, path, headers, body) -> (status, headers, body)`, with its
state in one SQLite file that several processes may share; two transports lead to it
(`payments`, `stripe_server`). No card network is behind it and no money moves. What it does not
know, it refuses loudly, as Stripe would. Each behaviour names the page of docs.stripe.com
that it follows.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from aiqleads.commerce.stripe_standin_balance import DISPUTED, REFUND_FAILS, Balance
from aiqleads.commerce.stripe_standin_balance import SCHEMA as BALANCE_SCHEMA
from aiqleads.commerce.stripe_standin_params import (
    Json,
    Problem,
    created_between,
    integer,
    invalid,
    known,
    page_size,
)

Response = tuple[int, dict[str, str], bytes]

#: "Testing": what each test payment method does when it is confirmed
PAYMENT_METHODS: dict[str, tuple[str, str | None]] = {
    "pm_card_visa": ("approve", None),
    "pm_card_authenticationRequired": ("authenticate", None),
    "pm_card_chargeDeclined": ("decline", "generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": ("decline", "insufficient_funds"),
    DISPUTED: ("approve", None),
    REFUND_FAILS: ("approve", None),
}
#: "Place a hold on a payment method": a card authorisation lasts seven days
AUTHORISATION_SECONDS = 7 * 86_400
#: "Cancel a PaymentIntent" (API reference)
_CANCELABLE = ("requires_payment_method", "requires_confirmation", "requires_action",
               "requires_capture", "processing")  # fmt: skip
_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
_CREATE = {"amount", "currency", "capture_method", "confirm", "payment_method",
           "payment_method_types[0]", "description", "off_session"}  # fmt: skip
_LEAST_CENTS = 50  # "Supported currencies": least charge in USD

_SCHEMA = """
create table if not exists intent (id text primary key, seq integer, created integer, body text);
create table if not exists idempotency (
  key text primary key, sha256 text, status integer, body blob);
create table if not exists event (id text primary key, seq integer, body text);
create table if not exists secret (name text primary key, value text);
"""


class StandIn:
    """The stand-in's core over one SQLite file; threads and processes may share it.

    path: of the file, made on first use. clock: seconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        self._local = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection().executescript(_SCHEMA + BALANCE_SCHEMA)
        with self._transaction() as db:
            fresh = f"whsec_{secrets.token_hex(16)}"
            db.execute("insert or ignore into secret values ('webhook', ?)", (fresh,))

    def _connection(self) -> sqlite3.Connection:
        if getattr(self._local, "db", None) is None:
            self._local.db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            self._local.db.execute("pragma journal_mode=wal")
            self._local.db.execute("pragma synchronous=normal")
        connection: sqlite3.Connection = self._local.db
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connection()
        db.execute("begin immediate")
        try:
            yield db
        except BaseException:
            db.execute("rollback")
            raise
        db.execute("commit")

    @property
    def webhook_secret(self) -> str:
        """Signing secret of this stand-in's webhooks, made with its file."""
        row = self._connection().execute("select value from secret where name='webhook'")
        return str(row.fetchone()[0])

    # --- requests ------------------------------------------------------------------

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answers one request; `path` may carry a query string, `body` is form encoded."""
        given = {name.lower(): value for name, value in headers.items()}
        request_id = f"req_{secrets.token_hex(7)}"
        answered = {"Content-Type": "application/json", "Request-Id": request_id}
        try:
            self._authenticate(given)
            url = urlsplit(path)
            encoded = url.query if method == "GET" else body.decode()
            params = dict(parse_qsl(encoded, keep_blank_values=True, strict_parsing=bool(encoded)))
            key = given.get("idempotency-key") if method == "POST" else None
            with self._transaction() as db:
                status, payload, replayed = self._answer(db, method, url.path, params, key)
        except Problem as problem:
            status, payload, replayed = problem.status, _bytes(problem.body()), False
        except (UnicodeDecodeError, ValueError):
            garbled = invalid("Invalid request: the body is not form encoded.", None)
            status, payload, replayed = garbled.status, _bytes(garbled.body()), False
        if replayed:
            answered["Idempotent-Replayed"] = "true"
        return status, answered, payload

    def _authenticate(self, headers: Mapping[str, str]) -> None:
        """ "Authentication": a secret test key as bearer token."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key.startswith(("sk_test_", "rk_test_")):
            raise Problem(401, "invalid_request_error", "You did not provide a test API key.")

    def _answer(
        self,
        db: sqlite3.Connection,
        method: str,
        path: str,
        params: dict[str, str],
        key: str | None,
    ) -> tuple[int, bytes, bool]:
        """ "Idempotent requests": the first answer under a key is saved, whatever it was,
        and given again; other parameters under it are an error."""
        digest = sha256(json.dumps([path, params], sort_keys=True).encode()).hexdigest()
        if key is not None:
            row = db.execute("select * from idempotency where key=?", (key,)).fetchone()
            if row is not None and row[1] != digest:
                message = (
                    "Keys for idempotent requests can only be used with the same parameters "
                    "they were first used with."
                )
                raise Problem(400, "idempotency_error", message, unsaved=True)
            if row is not None:
                return row[2], row[3], True
        try:
            status, payload = 200, _bytes(self._route(db, method, path, params))
        except Problem as problem:
            if problem.unsaved:
                raise
            status, payload = problem.status, _bytes(problem.body())
        if key is not None:
            db.execute("insert into idempotency values (?,?,?,?)", (key, digest, status, payload))
        return status, payload, False

    def _route(
        self, db: sqlite3.Connection, method: str, path: str, params: dict[str, str]
    ) -> Json:
        parts = path.strip("/").split("/")
        if parts[:2] == ["v1", "payment_intents"]:
            match method, parts[2:]:
                case "POST", []:
                    return self._create(db, params)
                case "GET", []:
                    return self._list(db, params)
                case "GET", [intent_id]:
                    known(params, set())
                    return self._load(db, intent_id)
                case "POST", [intent_id, "confirm"]:
                    return self._confirm(db, self._load(db, intent_id), params)
                case "POST", [intent_id, "capture"]:
                    return self._capture(db, self._load(db, intent_id), params)
                case "POST", [intent_id, "cancel"]:
                    return self._cancel(db, self._load(db, intent_id), params)
        balance = self._balance(db)
        match method, parts:
            case "POST", ["v1", "refunds"]:
                return balance.refund(params)
            case "GET", ["v1", ("refunds" | "disputes" | "balance_transactions") as kinds]:
                return balance.page(kinds[:-1], params, path)
            case "GET", ["v1", ("refunds" | "disputes") as kinds, object_id]:
                known(params, set())
                return balance.load(kinds[:-1], object_id)
        message = f"Unrecognized request URL ({method}: {path})."
        raise invalid(message, None, status=404)

    # --- PaymentIntents ------------------------------------------------------------

    def _create(self, db: sqlite3.Connection, params: dict[str, str]) -> Json:
        """ "Create a PaymentIntent"; with confirm=true it is confirmed in the same call."""
        known(params, _CREATE, "metadata[")
        amount = integer(params, "amount", least=_LEAST_CENTS, code="amount_too_small")
        if params.get("currency") != "usd":
            raise invalid(f"Invalid currency: {params.get('currency')}", None, "currency")
        capture_method = params.get("capture_method", "automatic")
        if capture_method not in ("automatic", "manual"):
            raise invalid("Invalid capture_method", None, "capture_method")
        if params.get("payment_method_types[0]", "card") != "card":
            raise invalid("Only card is known here", None, "payment_method_types")
        method = params.get("payment_method")
        _method(method)
        intent_id = f"pi_{secrets.token_hex(12)}"
        intent: Json = {
            "id": intent_id,
            "object": "payment_intent",
            "amount": amount,
            "amount_capturable": 0,
            "amount_received": 0,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": capture_method,
            "client_secret": f"{intent_id}_secret_{secrets.token_hex(12)}",
            "created": int(self.clock()),
            "currency": "usd",
            "description": params.get("description"),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": {n[9:-1]: v for n, v in params.items() if n.startswith("metadata[")},
            "next_action": None,
            "payment_method": method,
            "payment_method_types": ["card"],
            "status": "requires_confirmation" if method else "requires_payment_method",
        }
        self._save(db, intent, "payment_intent.created")
        if params.get("confirm") == "true":
            return self._confirm(db, intent, {}, off_session=params.get("off_session") == "true")
        return intent

    def _confirm(
        self,
        db: sqlite3.Connection,
        intent: Json,
        params: dict[str, str],
        *,
        off_session: bool = False,
    ) -> Json:
        """ "Confirm a PaymentIntent"; the outcome is the test card's ("Testing")."""
        known(params, {"payment_method"})
        if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
            raise _unexpected(intent, "confirm")
        _method(params.get("payment_method"))
        intent["payment_method"] = params.get("payment_method", intent["payment_method"])
        if intent["payment_method"] is None:
            raise invalid("The PaymentIntent has no payment method.", None, "payment_method")
        behaviour, decline_code = PAYMENT_METHODS[intent["payment_method"]]
        if behaviour == "authenticate" and off_session:
            # "Charge a saved payment method later": nobody is there to be asked
            code, message = "authentication_required", "The payment requires authentication."
            return self._fail(db, intent, code, code, message)
        if behaviour == "authenticate":
            # "3D Secure authentication"
            intent["status"], intent["next_action"] = "requires_action", {"type": "use_stripe_sdk"}
            self._save(db, intent, "payment_intent.requires_action")
            return intent
        if behaviour == "decline":
            message = "Your card was declined."
            return self._fail(db, intent, "card_declined", decline_code, message)
        return self._approve(db, intent)

    def _approve(self, db: sqlite3.Connection, intent: Json) -> Json:
        """ "Place a hold on a payment method": manual capture stops at requires_capture."""
        intent["next_action"] = intent["last_payment_error"] = None
        intent["latest_charge"] = f"ch_{secrets.token_hex(12)}"
        if intent["capture_method"] == "manual":
            intent["status"], intent["amount_capturable"] = "requires_capture", intent["amount"]
            self._save(db, intent, "payment_intent.amount_capturable_updated")
        else:
            intent["status"], intent["amount_received"] = "succeeded", intent["amount"]
            self._captured(db, intent)
        return intent

    def _fail(
        self, db: sqlite3.Connection, intent: Json, code: str, decline_code: str | None, why: str
    ) -> Json:
        """ "Declines": 402 card_error, the intent asks for another payment method."""
        error: Json = {"type": "card_error", "code": code, "message": why}
        if decline_code is not None:
            error["decline_code"] = decline_code
        intent["status"], intent["next_action"] = "requires_payment_method", None
        intent["last_payment_error"] = error
        intent["payment_method"] = None
        self._save(db, intent, "payment_intent.payment_failed")
        raise Problem(402, "card_error", why, code, None, decline_code, intent)

    def _capture(self, db: sqlite3.Connection, intent: Json, params: dict[str, str]) -> Json:
        """ "Capture a PaymentIntent": once, and at most what was authorised."""
        known(params, {"amount_to_capture"})
        if intent["status"] != "requires_capture":
            raise _unexpected(intent, "capture")
        amount = intent["amount_capturable"]
        if "amount_to_capture" in params:
            amount = integer(params, "amount_to_capture", least=1, code=None)
        if amount > intent["amount_capturable"]:
            raise invalid("The amount is greater than what can be captured.", "amount_too_large")
        intent |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}
        self._captured(db, intent)
        return intent

    def _captured(self, db: sqlite3.Connection, intent: Json) -> None:
        self._save(db, intent, "payment_intent.succeeded")
        self._balance(db).charge(intent)

    def _balance(self, db: sqlite3.Connection) -> Balance:
        return Balance(db, int(self.clock()), lambda kind, about: self._say(db, kind, about))

    def _cancel(self, db: sqlite3.Connection, intent: Json, params: dict[str, str]) -> Json:
        """ "Cancel a PaymentIntent": an authorisation is given back, a capture is not."""
        known(params, {"cancellation_reason"})
        reason = params.get("cancellation_reason")
        if reason is not None and reason not in _REASONS:
            raise invalid("Invalid cancellation_reason", None, "cancellation_reason")
        if intent["status"] not in _CANCELABLE:
            raise _unexpected(intent, "cancel")
        return self._canceled(db, intent, reason)

    def _canceled(self, db: sqlite3.Connection, intent: Json, reason: str | None) -> Json:
        intent |= {"status": "canceled", "amount_capturable": 0, "next_action": None}
        intent |= {"canceled_at": int(self.clock()), "cancellation_reason": reason}
        self._save(db, intent, "payment_intent.canceled")
        return intent

    def _list(self, db: sqlite3.Connection, params: dict[str, str]) -> Json:
        """ "List all PaymentIntents" and "Pagination": newest first, by cursor."""
        known(params, {"limit", "starting_after", "created[gte]", "created[lte]"})
        limit = page_size(params)
        before = 1 << 62
        if "starting_after" in params:
            self._load(db, params["starting_after"])
            found = db.execute("select seq from intent where id=?", (params["starting_after"],))
            before = found.fetchone()[0]
        since, until = created_between(params)
        rows = db.execute(
            "select id from intent where seq < ? and created between ? and ? "
            "order by seq desc limit ?",
            (before, since, until, limit + 1),
        ).fetchall()
        data = [self._load(db, row[0]) for row in rows[:limit]]
        more = len(rows) > limit
        return {"object": "list", "url": "/v1/payment_intents", "has_more": more, "data": data}

    def _load(self, db: sqlite3.Connection, intent_id: str) -> Json:
        row = db.execute("select body from intent where id=?", (intent_id,)).fetchone()
        if row is None:
            message = f"No such payment_intent: '{intent_id}'"
            raise invalid(message, "resource_missing", "intent", status=404)
        intent: Json = json.loads(row[0])
        age = self.clock() - intent["created"]
        if intent["status"] == "requires_capture" and age > AUTHORISATION_SECONDS:
            # "Place a hold on a payment method": an authorisation not captured in time is void
            return self._canceled(db, intent, "automatic")
        return intent

    def _save(self, db: sqlite3.Connection, intent: Json, event_type: str) -> None:
        db.execute(
            "insert into intent values (?, coalesce((select max(seq) from intent), 0) + 1, ?, ?) "
            "on conflict (id) do update set body=excluded.body",
            (intent["id"], intent["created"], json.dumps(intent)),
        )
        self._say(db, event_type, intent)

    def _say(self, db: sqlite3.Connection, event_type: str, about: Json) -> None:
        event = {
            "id": f"evt_{secrets.token_hex(12)}",
            "object": "event",
            "type": event_type,
            "created": int(self.clock()),
            "livemode": False,
            "data": {"object": about},
        }
        db.execute(
            "insert into event values (?, coalesce((select max(seq) from event), 0) + 1, ?)",
            (event["id"], json.dumps(event)),
        )

    # --- what happens outside the API ----------------------------------------------

    def authenticate(self, intent_id: str, *, succeed: bool) -> Json:
        """What the buyer does in the browser: passes or fails the bank's 3D Secure step.

        "3D Secure authentication": a failed one leaves `requires_payment_method` with the
        error `payment_intent_authentication_failure`. Returns the PaymentIntent.
        """
        with self._transaction() as db:
            intent = self._load(db, intent_id)
            if intent["status"] != "requires_action":
                raise _unexpected(intent, "authenticate")
            if succeed:
                return self._approve(db, intent)
            code = "payment_intent_authentication_failure"
            try:
                return self._fail(db, intent, code, None, "The buyer could not be authenticated.")
            except Problem as problem:
                return problem.intent or intent

    def fail_refund(self, refund_id: str) -> Json:
        """What a bank does when it cannot take a refund; returns the refund."""
        with self._transaction() as db:
            return self._balance(db).fail_refund(refund_id)

    def close_dispute(self, dispute_id: str, *, won: bool) -> Json:
        """What the cardholder's bank decides; returns the dispute."""
        with self._transaction() as db:
            return self._balance(db).close_dispute(dispute_id, won=won)

    def disputes(self) -> list[Json]:
        """Disputes, newest first, at most a page."""
        with self._transaction() as db:
            found: list[Json] = self._balance(db).page("dispute", {"limit": "100"}, "")["data"]
            return found

    def intents(self) -> list[Json]:
        """Every PaymentIntent, oldest first."""
        with self._transaction() as db:
            ids = db.execute("select id from intent order by seq").fetchall()
            return [self._load(db, row[0]) for row in ids]

    def events(self) -> list[Json]:
        """Every event, oldest first ("Types of events")."""
        rows = self._connection().execute("select body from event order by seq")
        return [json.loads(row[0]) for row in rows]

    def webhook(self, event: Json, timestamp: int | None = None) -> tuple[bytes, str]:
        """Body and `Stripe-Signature` header with which Stripe would deliver an event."""
        body = json.dumps(event, indent=2).encode()
        return body, sign(body, self.webhook_secret, timestamp or int(self.clock()))


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """A `Stripe-Signature` header ("Verify webhook signatures manually"): HMAC-SHA256 of
    `timestamp.body` under the endpoint's secret, scheme v1."""
    signed = f"{timestamp}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, sha256).hexdigest()}"


def _bytes(payload: Json) -> bytes:
    return json.dumps(payload).encode()


def _method(name: str | None) -> None:
    if name is not None and name not in PAYMENT_METHODS:
        message = f"No such PaymentMethod: '{name}'"
        raise invalid(message, "resource_missing", "payment_method")


def _unexpected(intent: Json, verb: str) -> Problem:
    """ "Error codes": payment_intent_unexpected_state."""
    message = f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}."
    code = "payment_intent_unexpected_state"
    return Problem(400, "invalid_request_error", message, code, None, None, intent)
