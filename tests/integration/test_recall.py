"""A bad batch that was sold: who bought, what is owed, and what happens to the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient
from sqlalchemy import insert, update

from aiqleads import cli
from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.commerce.recall import Recall, recall
from aiqleads.errors import UnknownName
from aiqleads.settings import Settings
from aiqleads.store import agents
from aiqleads.store.sources import withheld_leads
from aiqleads.store.tables import batch, lead, orders
from aiqleads.store.transactions import writing

NOW_US = 1_767_225_600_000_000


class Market:
    """The shop over a synthetic market whose first leads came in a second batch, `b2`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = ServiceState.open(settings, settings.home / "scorer")
        self.state.now_us = lambda: NOW_US
        self._client = TestClient(create_app(self.state), raise_server_exceptions=False)
        self._sent = 0
        columns = self.state.snapshot.columns
        old = columns["received_market_us"] < self.state.snapshot.manifest.as_of_market_us - 10**10
        rows = [row for row in range(240) if old[row] and columns["max_buyers"][row] == 3]
        self.bad = [self.state.snapshot.lead_id(row) for row in rows[:6]]
        self.good = self.state.snapshot.lead_id(rows[6])
        with writing(self.state.leads) as connection:
            first = connection.execute(batch.select()).mappings().one()
            second = {**first, "batch_id": "b2", "payload_sha256": "1" * 64, "ingested_us": 100}
            connection.execute(insert(batch), second)
            moved = update(lead).where(lead.c.lead_id.in_(self.bad))
            connection.execute(moved.values(batch_id="b2"))

    def ask(self, agent: str, method: str, path: str, body: Any) -> Any:
        self._sent += 1
        key = agents.create_key(self.state.commerce, agent, agents.AGENT_SCOPES, 0)[0]
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"k{self._sent}"}
        return self._client.request(method, path, json=body, headers=headers)

    def hold(self, agent: str, *lead_ids: str) -> Any:
        return self.ask(agent, "POST", "/v1/cart/holds", {"lead_ids": lead_ids})

    def buy(self, agent: str, *lead_ids: str, pay_with: str = "pm_card_visa") -> dict[str, Any]:
        held = self.hold(agent, *lead_ids).json()
        body = {"hold_ids": [held["hold_id"]], "pay_with": pay_with}
        answer = self.ask(agent, "POST", "/v1/checkout", body)
        assert answer.status_code == 201, answer.text
        sold: dict[str, Any] = answer.json()
        return sold

    def recall(self, **more: Any) -> Recall:
        given = {"batch_id": "b2", **more}
        state = self.state
        return recall(state.leads, state.commerce, "synthetic", "scraped", NOW_US, **given)


@pytest.fixture
def market(served: Settings) -> Iterator[Market]:
    made = Market(served)
    yield made
    made.state.close()


def test_every_sale_of_the_batch_is_listed_with_its_price(market: Market) -> None:
    first = market.buy("A0003", market.bad[0], market.bad[1], market.good)
    second = market.buy("A0002", market.bad[0])
    found = market.recall()
    paid = {
        (item["lead_id"], order["order_id"]): item["price_cents"]
        for order in (first, second)
        for item in order["items"]
        if item["lead_id"] != market.good
    }
    assert {(s.lead_id, s.order_id): s.price_cents for s in found.sold} == paid
    assert {(s.agent_id, s.buyer) for s in found.sold} == {
        ("A0003", "Agent 3"),
        ("A0002", "Agent 2"),
    }
    assert {s.order_state for s in found.sold} == {"paid"}
    assert (found.leads, found.unsold) == (6, 4)
    by_agent = {
        agent: sum(s.price_cents for s in found.sold if s.agent_id == agent)
        for agent in ("A0002", "A0003")
    }
    assert found.credit_cents == {agent: {"USD": cents} for agent, cents in by_agent.items()}
    assert found.total_cents == {"USD": sum(paid.values())}


def test_the_rest_of_the_batch_cannot_be_held(market: Market) -> None:
    market.buy("A0003", market.bad[0])
    market.recall()
    assert market.hold("A0002", market.bad[1]).status_code == 409
    assert market.hold("A0002", market.good).status_code == 201


def test_a_buyer_keeps_what_was_bought(market: Market) -> None:
    market.buy("A0003", market.bad[0])
    market.recall()
    answer = market.ask("A0003", "GET", f"/v1/leads/{market.bad[0]}", None).json()
    assert answer["purchased"]
    assert answer["contact"]["email"].endswith("@example.com")


def test_a_recall_again_lists_the_same(market: Market) -> None:
    market.buy("A0003", market.bad[0])
    assert market.recall() == market.recall()


@pytest.mark.parametrize(
    ("state", "listed"),
    [("uncollected", True), ("committed", True), ("canceled", False), ("pending", False)],
)
def test_only_what_was_sold_is_credited(market: Market, state: str, listed: bool) -> None:
    order_id = market.buy("A0003", market.bad[0])["order_id"]
    with writing(market.state.commerce) as connection:
        mine = update(orders).where(orders.c.order_id == order_id)
        connection.execute(mine.values(state=state))
    assert [sale.order_state for sale in market.recall().sold] == [state] * listed


def test_batches_are_taken_back_by_when_they_came(market: Market) -> None:
    assert market.recall(batch_id=None, since_us=50).batches == ("b2",)
    with market.state.leads.connect() as connection:
        assert withheld_leads(connection) == set(market.bad)
    assert market.recall(batch_id=None).batches == ("b1", "b2")


def test_a_batch_that_is_not_there_is_said(market: Market) -> None:
    with pytest.raises(UnknownName, match="b9"):
        market.recall(batch_id="b9")


# --- by the command line -----------------------------------------------------------


@pytest.fixture
def say(
    market: Market, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Any]]:
    """Runs `aiqleads source ..`; its answer, or its exit code."""
    monkeypatch.setenv("AIQLEADS_HOME", str(market.settings.home))

    def run(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["aiqleads", "source", *words, "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().out
        return json.loads(said) if said else ended.value.code

    yield run
    structlog.reset_defaults()  # the command line logs to a stream that ends with this test


def test_the_command_lists_sales_and_credits(market: Market, say: Any) -> None:
    order = market.buy("A0003", market.bad[0])
    found = say("recall", "synthetic", "--batch", "b2", "--reason", "scraped")
    assert [sale["order_id"] for sale in found["sold"]] == [order["order_id"]]
    assert found["total_cents"] == {"USD": order["amount_cents"]}
    assert say("recall", "synthetic", "--batch", "b9") == 2
    assert say("recall", "synthetic", "--since", "2026-01-01") == 2
    both = say("recall", "synthetic", "--since", "1970-01-01", "--until", "2026-01-01")
    assert both["batches"] == ["b1", "b2"]


def test_the_command_pauses_and_resumes(market: Market, say: Any) -> None:
    paused = say("pause", "synthetic", "--reason", "bad phones")
    assert (paused["state"], paused["reason"]) == ("paused", "bad phones")
    row = say("list")["sources"]["synthetic"]
    assert (row["state"], row["batches"], row["leads"]) == ("paused", 2, 240)
    assert market.hold("A0003", market.good).status_code == 409
    assert say("resume", "synthetic")["pushes_tried_again"] == 0
    assert market.hold("A0003", market.good).status_code == 201
    assert say("pause", "adf")["state"] == "paused"
    assert say("pause", "nobody") == 2


def test_the_command_writes_a_page_a_source(market: Market, say: Any) -> None:
    pages = say("report")["pages"]
    assert {page.rpartition("/")[2] for page in pages} >= {"index.html", "synthetic.html"}
