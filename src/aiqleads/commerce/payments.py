"""The Stripe door: the only module that knows Stripe's SDK.

Every answer becomes a `CardIntent`, or one of three refusals: `CardDeclined` (the bank said
no), `NotAccepted` (Stripe refused the request as such, nothing changed), `OutcomeUnknown`
(no answer, or none that can be trusted: only asking again later tells).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import stripe
from stripe import StripeClient

from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.errors import InvalidInput, NotReady, Refused
from aiqleads.settings import Settings

# Request timings are nobody else's business.
stripe.enable_telemetry = False

#: how far a webhook's timestamp may lie from now, either way
WEBHOOK_TOLERANCE_SECONDS = 300
_STANDIN_KEY = "sk_test_standin"
_NETWORK_RETRIES = 2
_TOO_MANY_RETRIES = 3
#: of an event's id and type, and of a PaymentIntent's id, as the inbox keeps them
_LONGEST_NAME, _LONGEST_INTENT = 80, 60

_T = TypeVar("_T")


class CardDeclined(Refused):
    """The card's bank refused; `decline_code` says why, `intent_id` names the PaymentIntent."""

    def __init__(self, detail: str, decline_code: str, intent_id: str | None) -> None:
        super().__init__("card-declined", detail, status=402, decline_code=decline_code)
        self.intent_id = intent_id


class OutcomeUnknown(Refused):
    """Nobody can tell yet whether the payment happened; reconcile finds out. HTTP 202.

    is_over: Stripe repeats an error that it keeps under the request's key. That request will
    not happen any more; whether it did, a listing tells.
    """

    def __init__(self, detail: str, *, is_over: bool = False, **extra: Any) -> None:
        super().__init__("payment-outcome-unknown", detail, status=202, **extra)
        self.is_over = is_over


#: refusals after which a payment that was begun may have happened or not
UNSETTLED = ("payment-outcome-unknown", "busy", "payment-refused")


class NotAccepted(InvalidInput):
    """Stripe refused the request as such (unknown payment method, unfit state)."""

    kind = "payment-refused"


@dataclass(frozen=True)
class CardIntent:
    """What Stripe says of a PaymentIntent now.

    received_cents: money captured. error_code: decline code, or error code, of the last
    failure. attempt_id: ours, from its metadata, None for one that we did not make.
    """

    intent_id: str
    status: str
    amount_cents: int
    received_cents: int
    currency: str
    attempt_id: str | None
    order_id: str | None
    client_secret: str | None
    error_code: str | None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> CardIntent:
        """Reads the fields of Stripe's PaymentIntent object."""
        metadata = raw.get("metadata") or {}
        error = raw.get("last_payment_error") or {}
        return cls(
            raw["id"],
            raw["status"],
            raw["amount"],
            raw.get("amount_received") or 0,
            raw["currency"].upper(),
            metadata.get("attempt"),
            metadata.get("order"),
            raw.get("client_secret"),
            error.get("decline_code") or error.get("code"),
        )


@dataclass(frozen=True)
class CardRefund:
    """What Stripe says of a refund. refund_id: ours, None for one that somebody else made.

    status: pending, requires_action, succeeded, failed or canceled.
    """

    stripe_id: str
    intent_id: str | None
    amount_cents: int
    status: str
    refund_id: str | None
    created_s: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> CardRefund:
        """Reads the fields of Stripe's refund object."""
        return cls(
            raw["id"],
            raw.get("payment_intent"),
            raw["amount"],
            raw["status"],
            (raw.get("metadata") or {}).get("refund"),
            raw["created"],
        )


@dataclass(frozen=True)
class CardDispute:
    """What Stripe says of a dispute. state: open, won or lost."""

    dispute_id: str
    intent_id: str | None
    amount_cents: int
    state: str
    reason: str
    created_s: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> CardDispute:
        """Reads the fields of Stripe's dispute object."""
        status = raw["status"]
        return cls(
            raw["id"],
            raw.get("payment_intent"),
            raw["amount"],
            status if status in ("won", "lost") else "open",
            raw.get("reason") or "",
            raw["created"],
        )


@dataclass(frozen=True)
class Movement:
    """A balance transaction: what something did to the money at Stripe, in cents.

    amount_cents: before the fee, negative where it left. about: the refund or dispute that
    caused it. intent_id: the payment that it comes from, None where it comes from none.
    """

    movement_id: str
    kind: str
    amount_cents: int
    fee_cents: int
    created_s: int
    intent_id: str | None
    about: CardRefund | CardDispute | None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Movement:
        """Reads a balance transaction whose source is expanded."""
        source = raw.get("source")
        source = source if isinstance(source, Mapping) else {}
        about: CardRefund | CardDispute | None = None
        if source.get("object") == "refund":
            about = CardRefund.of(source)
        elif source.get("object") == "dispute":
            about = CardDispute.of(source)
        return cls(
            raw["id"],
            raw["type"],
            raw["amount"],
            raw["fee"],
            raw["created"],
            source.get("payment_intent"),
            about,
        )


@dataclass(frozen=True)
class WebhookEvent:
    """A webhook whose signature holds. Its payload's state is never believed: only which
    PaymentIntent it is about, and whether that was captured before (`is_after`: a refund or
    a dispute)."""

    event_id: str
    kind: str
    intent_id: str | None
    is_after: bool = False


class InProcess(stripe.HTTPClient):
    """Carries the SDK's requests to a stand-in in this process."""

    name = "in-process"

    def __init__(self, standin: StandIn) -> None:
        super().__init__()
        self._standin = standin

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[str, int, Mapping[str, str]]:
        """One request; the SDK calls this."""
        path = url.split("://", 1)[1].partition("/")[2]
        body = post_data.encode() if isinstance(post_data, str) else post_data or b""
        try:
            status, answered, payload = self._standin.handle(
                method.upper(), f"/{path}", headers, body
            )
        except (OSError, sqlite3.OperationalError) as problem:
            # What a socket would show of it: no answer.
            raise _no_answer(problem) from problem
        lowered = {name.lower(): value for name, value in answered.items()}
        return payload.decode(), status, lowered

    def close(self) -> None:
        """Nothing is open."""


def _from(created_s: int) -> dict[str, Any]:
    return {"created": {"gte": max(0, created_s)}}


def _no_answer(problem: Exception) -> stripe.APIConnectionError:
    return stripe.APIConnectionError(  # type: ignore[no-untyped-call]
        str(problem), should_retry=True
    )


class Payments:
    """Card payments through Stripe's SDK, real or against the stand-in.

    standin: the stand-in that answers, None when it is Stripe. sleep: waits between tries
    of a rate-limited call, which the SDK does not repeat by itself.
    """

    def __init__(
        self,
        client: StripeClient,
        webhook_secret: str | None,
        *,
        standin: StandIn | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._intents = client.v1.payment_intents
        self._refunds = client.v1.refunds
        self._disputes = client.v1.disputes
        self._movements = client.v1.balance_transactions
        self._webhook_secret = webhook_secret
        self.standin = standin
        self._sleep = sleep

    def pay(
        self,
        *,
        key: str,
        amount_cents: int,
        currency: str,
        payment_method: str,
        attempt_id: str,
        order_id: str | None,
        capture: bool,
        off_session: bool = False,
    ) -> CardIntent:
        """Creates and confirms a PaymentIntent; without `capture` the money is only reserved.

        key: the idempotency key, stored by the caller before this call: the same key is the
        same PaymentIntent, after a crash too. off_session: nobody is there whom the bank
        could ask, so a card that asks is declined.
        """
        params: Any = {
            "amount": amount_cents,
            "currency": currency.lower(),
            "capture_method": "automatic" if capture else "manual",
            "confirm": True,
            "payment_method": payment_method,
            "payment_method_types": ["card"],
            "metadata": {"attempt": attempt_id, **({"order": order_id} if order_id else {})},
            **({"off_session": True} if off_session else {}),
        }
        return self._ask(lambda: self._intents.create(params, {"idempotency_key": key}))

    def retrieve(self, intent_id: str) -> CardIntent:
        """What Stripe says of a PaymentIntent now."""
        return self._ask(lambda: self._intents.retrieve(intent_id))

    def capture(self, intent_id: str) -> CardIntent:
        """Takes the reserved money.

        A PaymentIntent is captured once by its own state, so no key of ours is needed, and
        a saved 500 under one cannot stand in the way for ever. The same goes for `cancel`.
        """
        return self._ask(lambda: self._intents.capture(intent_id))

    def cancel(self, intent_id: str) -> CardIntent:
        """Gives the reserved money back; nothing was taken."""
        return self._ask(lambda: self._intents.cancel(intent_id))

    def since(self, created_s: int) -> Iterator[CardIntent]:
        """PaymentIntents created at or after a time (seconds since the epoch), newest first."""
        yield from self._listed(CardIntent.of, self._intents.list, _from(created_s))

    def refund(self, *, key: str, intent_id: str, amount_cents: int, refund_id: str) -> CardRefund:
        """Sends captured money back to its card. key: as in `pay`.

        NotAccepted when Stripe refuses: it is disputed, or less is left than this.
        """
        params: Any = {
            "payment_intent": intent_id,
            "amount": amount_cents,
            "metadata": {"refund": refund_id},
        }
        made = self._guarded(lambda: self._refunds.create(params, {"idempotency_key": key}))
        return _read(CardRefund.of, made)

    def refunds_of(self, intent_id: str) -> list[CardRefund]:
        """Every refund of a PaymentIntent, newest first."""
        of_it = {"payment_intent": intent_id}
        return list(self._listed(CardRefund.of, self._refunds.list, of_it))

    def dispute(self, dispute_id: str) -> CardDispute:
        """What Stripe says of a dispute now."""
        found = self._guarded(lambda: self._disputes.retrieve(dispute_id))
        return _read(CardDispute.of, found)

    def movements(self, created_s: int) -> Iterator[Movement]:
        """Balance transactions created at or after a time (seconds), newest first."""
        expanded = {"expand": ["data.source"], **_from(created_s)}
        yield from self._listed(Movement.of, self._movements.list, expanded)

    def _listed(
        self, of: Callable[[Mapping[str, Any]], _T], ask: Callable[[Any], Any], params: Any
    ) -> Iterator[_T]:
        """Every object of a listing, page by page."""
        cursor: dict[str, str] = {}
        while True:
            given = {"limit": 100, **params, **cursor}
            page = self._guarded(lambda given=given: ask(given))  # type: ignore[misc]
            made, last_id = _read(lambda raw: _page(of, raw), page)
            yield from made
            if last_id is None:
                return
            cursor = {"starting_after": last_id}

    def find(self, attempt_id: str, created_s: int) -> CardIntent | None:
        """The PaymentIntent that an attempt made, by its metadata; None if there is none.

        A listing, which Stripe keeps current, unlike its search.
        """
        return next((i for i in self.since(created_s) if i.attempt_id == attempt_id), None)

    def verify(self, body: bytes, signature: str | None, now_s: float) -> WebhookEvent:
        """Checks a webhook over its raw body; Refused `webhook-signature` 400 when it is not
        Stripe's, or was signed more than 300 s ago or ahead (the SDK lets the future pass).
        """
        if not self._webhook_secret:
            raise NotReady("no webhook secret is set (AIQLEADS_STRIPE_WEBHOOK_SECRET)")
        try:
            text = body.decode()
            stripe.WebhookSignature.verify_header(text, signature, self._webhook_secret)
            signed_s = _signed_s(str(signature))
        except (stripe.SignatureVerificationError, ValueError, TypeError) as problem:
            # TypeError: hmac compares no text beyond ASCII
            raise Refused(
                "webhook-signature", "the signature does not hold", status=400
            ) from problem
        if abs(now_s - signed_s) > WEBHOOK_TOLERANCE_SECONDS:
            raise Refused("webhook-signature", "signed too long ago or ahead", status=400)
        try:
            event = json.loads(text)
            about = event["data"]["object"]
            is_after = about.get("object") in ("refund", "dispute", "charge")
            is_intent = about.get("object") == "payment_intent"
            intent_id = about["id"] if is_intent else about.get("payment_intent")
            is_ours = intent_id is not None and (is_after or is_intent)
            return WebhookEvent(
                _name(event["id"]),
                _name(event["type"]),
                _name(intent_id, _LONGEST_INTENT) if is_ours else None,
                is_after,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise InvalidInput("the webhook's body is not a Stripe event") from problem

    def _ask(self, call: Callable[[], stripe.PaymentIntent]) -> CardIntent:
        return _read(CardIntent.of, self._guarded(call))

    def _guarded(self, call: Callable[[], _T]) -> _T:
        """Runs a call of the SDK; its errors become ours."""
        for attempt in range(_TOO_MANY_RETRIES):
            try:
                return call()
            except stripe.RateLimitError as problem:
                if attempt + 1 == _TOO_MANY_RETRIES:
                    raise OutcomeUnknown("the payment service is overloaded") from problem
                self._sleep(0.2 * 2**attempt)
            except stripe.CardError as problem:
                raise _declined(problem) from problem
            except stripe.InvalidRequestError as problem:
                raise NotAccepted(str(problem.user_message), code=problem.code) from problem
            except stripe.StripeError as problem:
                detail = "the payment service gave no clear answer"
                raise OutcomeUnknown(detail, is_over=_is_replayed(problem)) from problem
        raise AssertionError("unreachable")


def _read(of: Callable[[Mapping[str, Any]], _T], answer: stripe.StripeObject) -> _T:
    """What an answer says; one that makes no sense tells nothing."""
    try:
        return of(answer.to_dict())
    except (KeyError, AttributeError, TypeError, ValueError) as problem:
        raise OutcomeUnknown("the payment service's answer makes no sense") from problem


def _page(
    of: Callable[[Mapping[str, Any]], _T], raw: Mapping[str, Any]
) -> tuple[list[_T], str | None]:
    """The objects of a page, and the id after which the next one begins, if there is one."""
    listed = raw["data"]
    return [of(each) for each in listed], listed[-1]["id"] if listed and raw["has_more"] else None


def _signed_s(signature: str) -> int:
    """The `t` that a signature was checked with (seconds), picked as the SDK picks it.

    Not whatever stands behind the first `t=`: `xt=<now>` before it, which nobody signed,
    would pass an old webhook off as a new one.
    """
    return int(next(item[2:] for item in signature.split(",") if item.startswith("t=")))


def _name(given: Any, longest: int = _LONGEST_NAME) -> str:
    """A name as Stripe gives them, which every database takes; ValueError for anything else."""
    is_visible = isinstance(given, str) and given.isascii() and given.isprintable()
    if not is_visible or not 0 < len(given) <= longest:
        raise ValueError("that is no name of Stripe's")
    return str(given)


def _is_replayed(problem: stripe.StripeError) -> bool:
    """ "Idempotent requests": an answer that Stripe had kept says so in a header."""
    headers = {str(name).lower(): value for name, value in (problem.headers or {}).items()}
    return headers.get("idempotent-replayed") == "true"


def _declined(problem: stripe.CardError) -> CardDeclined:
    body: Any = problem.json_body or {}
    error = body.get("error") or {}
    intent = error.get("payment_intent") or {}
    code = error.get("decline_code") or error.get("code") or "card_declined"
    return CardDeclined(error.get("message") or "the card was declined", code, intent.get("id"))


def client_for(
    key: str, *, http_client: stripe.HTTPClient | None = None, api_base: str | None = None
) -> StripeClient:
    """The SDK's client, which repeats a call twice when the network fails."""
    addresses: Any = {"api": api_base} if api_base else {}
    return StripeClient(
        key,
        http_client=http_client,
        base_addresses=addresses,
        max_network_retries=_NETWORK_RETRIES,
    )


def open_payments(settings: Settings) -> Payments:
    """The door that the settings name: Stripe with a key, else the offline stand-in.

    The stand-in keeps its state in data/stripe_standin.db, shared by all workers; it signs
    webhooks with a secret of its own.
    """
    if settings.stripe_secret_key is None and settings.stripe_api_base is None:
        return offline_payments(StandIn(settings.data / "stripe_standin.db"))
    if settings.stripe_secret_key is None:
        raise NotReady("AIQLEADS_STRIPE_API_BASE is set but AIQLEADS_STRIPE_SECRET_KEY is not")
    secret = settings.stripe_webhook_secret
    return Payments(
        client_for(
            settings.stripe_secret_key.get_secret_value(), api_base=settings.stripe_api_base
        ),
        secret.get_secret_value() if secret else None,
    )


def offline_payments(standin: StandIn) -> Payments:
    """The door to a stand-in in this process."""
    client = client_for(_STANDIN_KEY, http_client=InProcess(standin))
    return Payments(client, standin.webhook_secret, standin=standin)
