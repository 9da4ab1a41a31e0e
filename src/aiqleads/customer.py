"""The demo's customer: starts the service, asks it for rankings and buys over HTTP.

Safe to repeat and to interrupt: what is going to be bought is kept, with its idempotency
key, before the request is sent, so a repeat is answered with the same orders.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd

from aiqleads.domain import US_PER_DAY, Tier
from aiqleads.errors import NotReady
from aiqleads.settings import Settings
from aiqleads.store import agents, ledger
from aiqleads.store.database import connect, open_room, reader

#: how long a worker may take to answer for the first time, seconds
START_TIMEOUT = 120
#: leads asked for in each ranking
SHOWN = 20
#: purchases that may be begun anew, after an interruption that outlived a hold
ATTEMPTS = 3
TOP_UP_CENTS = 50_000


@dataclass(frozen=True)
class Shopping:
    """What the demo's agent was recommended and bought over HTTP."""

    agent_id: str
    recommendations: list[dict[str, Any]]
    orders: list[dict[str, Any]]
    invariants: dict[str, Any]
    ledger_sum_cents: int
    payments: str
    served_since_us: int
    served_until_us: int


def serve_and_shop(settings: Settings, market: str) -> Shopping:
    """Starts the service on a free port, asks for rankings, buys by wallet and by card."""
    keys = make_keys(settings, market)
    with serving(settings) as address, httpx.Client(base_url=address, timeout=60) as http:
        kept = Kept(settings)
        traffic = ask_for_everybody(http, kept, keys)
        first = _recommend(http, keys, keys.buyer)
        orders = [
            buy(http, kept, keys, pay_with, place)
            for place, pay_with in enumerate(("wallet", "pm_card_visa"))
        ]
        checks = _answer(http.get("/v1/admin/invariants", headers=_bearer(keys.operator)))
        return Shopping(
            agent_id=keys.buyer,
            recommendations=first["items"],
            orders=orders,
            invariants=checks,
            ledger_sum_cents=_ledger_sum(settings),
            payments=_answer(http.get("/v1/wallet", headers=_bearer(keys.agent)))["payments"],
            served_since_us=traffic["since_us"],
            served_until_us=traffic["until_us"],
        )


@dataclass(frozen=True)
class Keys:
    """Keys of this run, which expire by themselves, and who is who."""

    operator: str
    agent: str
    buyer: str
    agents: tuple[str, ...]


def make_keys(settings: Settings, market: str) -> Keys:
    """Registers the simulated agents with the shop and makes keys for one day."""
    rows = pd.read_parquet(settings.data / "core" / market / "agents.parquet")
    rows = rows.sort_values("agent_id")
    now_us = time.time_ns() // 1000
    engine = open_room(settings, "commerce")
    try:
        agents.add(
            engine,
            [
                agents.Agent(agent_id, name, Tier(tier), market)
                for agent_id, name, tier in zip(rows.agent_id, rows.name, rows.tier, strict=True)
            ],
            now_us,
        )
        buyer = str(rows.loc[rows.tier == Tier.PRO, "agent_id"].iloc[0])
        expires_us = now_us + US_PER_DAY
        operator, _ = agents.create_key(engine, None, agents.SCOPES, now_us, expires_us)
        agent, _ = agents.create_key(engine, buyer, agents.AGENT_SCOPES, now_us, expires_us)
    finally:
        engine.dispose()
    return Keys(operator, agent, buyer, tuple(rows.agent_id))


def ask_for_everybody(http: httpx.Client, kept: Kept, keys: Keys) -> dict[str, int]:
    """One ranking for each agent, once per model and snapshot: the journal's window of it."""
    seen = _recommend(http, keys, keys.buyer)
    name = f"traffic {seen['model_version']} {seen['snapshot_version']}"
    traffic: dict[str, int] | None = kept.get(name)
    if traffic is None:
        since_us = time.time_ns() // 1000
        for agent_id in keys.agents:
            _recommend(http, keys, agent_id)
        traffic = kept.put(name, {"since_us": since_us, "until_us": time.time_ns() // 1000})
    return traffic


def buy(http: httpx.Client, kept: Kept, keys: Keys, pay_with: str, place: int) -> dict[str, Any]:
    """Holds a recommended lead and pays for it; a repeat is answered with the same order.

    The body of each request is kept under its idempotency key before it is sent. Where a
    hold ran out between an interrupted demo and this one, the next attempt has new keys.
    """
    for attempt in range(1, ATTEMPTS + 1):
        name = f"demo-{pay_with}-{attempt}"
        lead_id = kept.get(name)
        if lead_id is None:
            lead_id = kept.put(name, _recommend(http, keys, keys.buyer)["items"][place]["lead_id"])
        if pay_with == "wallet":
            top_up = {"amount_cents": TOP_UP_CENTS, "payment_method": "pm_card_visa"}
            _post(http, keys, "/v1/wallet/topups", top_up, f"{name}-topup")
        held = _post(http, keys, "/v1/cart/holds", {"lead_ids": [lead_id]}, f"{name}-hold")
        if held.is_success:
            bill = {"hold_ids": [held.json()["hold_id"]], "pay_with": pay_with}
            order = _post(http, keys, "/v1/checkout", bill, f"{name}-checkout")
            if order.status_code == httpx.codes.CREATED:
                return _answer(order)
            if order.is_success:  # not settled yet: the same demo, run again, goes on with it
                break
    raise _problem(order if held.is_success else held)


def _recommend(http: httpx.Client, keys: Keys, agent_id: str) -> dict[str, Any]:
    body = {"agent_id": agent_id, "k": SHOWN}
    return _answer(http.post("/v1/recommendations", json=body, headers=_bearer(keys.operator)))


def _post(
    http: httpx.Client, keys: Keys, path: str, body: Mapping[str, Any], key: str
) -> httpx.Response:
    return http.post(path, json=dict(body), headers={**_bearer(keys.agent), "Idempotency-Key": key})


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _answer(response: httpx.Response) -> dict[str, Any]:
    if not response.is_success:
        raise _problem(response)
    answer: dict[str, Any] = response.json()
    return answer


def _ledger_sum(settings: Settings) -> int:
    engine = connect(settings, "commerce")
    try:
        with reader(engine).connect() as connection:
            return ledger.total_cents(connection)
    finally:
        engine.dispose()


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The service in a process of its own, on a free port; stopped at the end."""
    port = free_port()
    log = settings.reports / "demo-service.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiqleads", "serve", "--port", str(port)],
            env={**os.environ, "AIQLEADS_HOME": str(settings.home)},
            stdout=sink,
            stderr=sink,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_ready(address, process, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NotReady(f"the service ended with {process.returncode}: see {log}")
        try:
            if httpx.get(f"{address}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise NotReady(f"the service did not answer within {START_TIMEOUT} s: see {log}")


class Kept:
    """What the demo has decided, kept before it acts on it, so that a repeat does the same."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.data / "demo.json"
        self._facts: dict[str, Any] = (
            json.loads(self._path.read_text()) if self._path.is_file() else {}
        )

    def get(self, name: str) -> Any:
        """What was kept under a name, or None."""
        return self._facts.get(name)

    def put(self, name: str, value: Any) -> Any:
        """Keeps a value on disk and gives it back."""
        self._facts[name] = value
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._facts))
        partial.replace(self._path)
        return value


def _problem(answer: httpx.Response) -> NotReady:
    return NotReady(f"{answer.request.url.path} answered {answer.status_code}: {answer.text}")
