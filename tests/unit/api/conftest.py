from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient

from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.settings import Settings
from aiqleads.store import agents

START_US = 1_767_225_600_000_000


@dataclass
class Shop:
    """The app over a synthetic market, keys for its agents, and a clock that tests may move."""

    state: ServiceState
    client: TestClient
    now_us: int = START_US
    _keys: dict[str, str] = field(default_factory=dict)
    _sent: int = 0

    def key(self, agent_id: str | None, *scopes: str, expires_us: int | None = None) -> str:
        wanted = scopes or (agents.AGENT_SCOPES if agent_id else tuple(agents.SCOPES))
        return agents.create_key(self.state.commerce, agent_id, wanted, 0, expires_us)[0]

    def ask(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        agent: str | None = "A0003",
        key: str | None = None,
        once: str | None = "new",
        **more: Any,
    ) -> Any:
        """A request of an agent (None: an operator); writes of the shop get a fresh key."""
        name = agent or "ops"
        if key is None:
            key = self._keys.setdefault(name, self.key(agent))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._sent += 1
        if once is not None and method != "GET":
            headers["Idempotency-Key"] = f"k{self._sent}" if once == "new" else once
        headers |= more.pop("headers", {})
        return self.client.request(method, path, json=json, headers=headers, **more)

    def top_up(self, agent: str, cents: int = 100_000) -> None:
        body = {"amount_cents": cents, "payment_method": "pm_card_visa"}
        assert self.ask("POST", "/v1/wallet/topups", body, agent=agent).status_code == 201

    def hold(self, agent: str, *lead_ids: str, **more: Any) -> Any:
        return self.ask("POST", "/v1/cart/holds", {"lead_ids": lead_ids, **more}, agent=agent)

    def buy(self, agent: str, *lead_ids: str) -> Any:
        held = self.hold(agent, *lead_ids)
        assert held.status_code == 201, held.text
        return self.ask("POST", "/v1/checkout", {"hold_ids": [held.json()["hold_id"]]}, agent=agent)

    def lead(self, max_buyers: int = 1, age_hours: float = 24.0) -> str:
        """A lead on offer that so many agents may buy, and every tier sees."""
        columns = self.state.snapshot.columns
        before = self.state.snapshot.manifest.as_of_market_us - age_hours * 3.6e9 / 2
        for row in range(self.state.snapshot.manifest.leads):
            old = columns["received_market_us"][row] < before
            if columns["max_buyers"][row] == max_buyers and old:
                return self.state.snapshot.lead_id(row)
        raise AssertionError("the synthetic market has no such lead")


@pytest.fixture
def shop(served: Settings) -> Iterator[Shop]:
    state = ServiceState.open(served, served.home / "scorer")
    client = TestClient(create_app(state), raise_server_exceptions=False)
    shop = Shop(state, client)
    state.now_us = lambda: shop.now_us
    yield shop
    state.close()


@pytest.fixture
def is_problem() -> Callable[[Any, int, str], dict[str, Any]]:
    """Checks that an answer is a problem document of this status and kind; returns it."""

    def check(answer: Any, status: int, kind: str) -> dict[str, Any]:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = answer.json()
        assert body["type"].endswith(f"/problems/{kind}")
        assert body["status"] == status
        assert body["title"]
        assert body["detail"]
        return body

    return check
