"""Who answers the contract: the stand-in over real HTTP, or Stripe itself.

Stripe is asked only when `STRIPE_TEST_KEY` is set, by hand:

    STRIPE_TEST_KEY=sk_test_... .venv/bin/pytest tests/contract

It makes payments with Stripe's test cards, so a key that is not one of test mode is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import stripe

from aiqleads.commerce.payments import Payments, client_for
from aiqleads.commerce.stripe_server import serve
from aiqleads.commerce.stripe_standin import StandIn

KEY_NAME, KEY_START = "STRIPE_TEST_KEY", "sk_test_"
STRIPE = "https://api.stripe.com"


class NotATestKey(Exception):
    """The key might move money."""


@dataclass
class Api:
    """Stripe's HTTP API at an address, under the version that the SDK speaks."""

    base: str
    key: str

    @property
    def is_stripe(self) -> bool:
        return self.base == STRIPE

    @property
    def payments(self) -> Payments:
        """The shop's own door to the same address."""
        base = None if self.is_stripe else self.base
        return Payments(client_for(self.key, api_base=base), None)

    def ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        once: str | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """One request; once: its idempotency key; key: to authenticate with, '' for none."""
        key = self.key if key is None else key
        headers = {"Stripe-Version": stripe.api_version}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if once is not None:
            headers["Idempotency-Key"] = once
        given = {"params" if method == "GET" else "data": dict(params or {})}
        # A proxy of the environment is for the network, not for this machine.
        with httpx.Client(base_url=self.base, timeout=60, trust_env=self.is_stripe) as client:
            return client.request(method, path, headers=headers, **given)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.ask("GET", path, params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        answer = self.ask("POST", path, params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay(self, **more: Any) -> Any:
        return self.post("/v1/payment_intents", buying(**more))


def buying(**more: Any) -> dict[str, Any]:
    """A payment that is made and confirmed at once; more: what is different, None for absent."""
    wanted = {
        "amount": 5_000,
        "currency": "usd",
        "capture_method": "automatic",
        "confirm": "true",
        "payment_method": "pm_card_visa",
        "payment_method_types[0]": "card",
        "metadata[attempt]": f"contract_{uuid.uuid4().hex}",
        **more,
    }
    return {name: value for name, value in wanted.items() if value is not None}


@contextmanager
def answering(environment: Mapping[str, str], folder: Path) -> Iterator[Api]:
    """Stripe, where the environment has a key of its test mode; else a stand-in on this machine.

    NotATestKey for a key of any other kind: nothing is sent with it.
    """
    key = environment.get(KEY_NAME, "")
    if not key:
        with serve(StandIn(folder / "stripe.db")) as base:
            yield Api(base, "sk_test_contract")
        return
    if not key.startswith(KEY_START):
        raise NotATestKey(f"{KEY_NAME} must begin with {KEY_START}")
    yield Api(STRIPE, key)
