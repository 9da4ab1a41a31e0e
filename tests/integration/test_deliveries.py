"""From a purchase over HTTP to the buyer's own system: the worker, its deaths, a real socket."""

from __future__ import annotations

import base64
import hmac
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.receiver import Got, Receiver, receiver

from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.commerce import webhooks
from aiqleads.settings import Settings
from aiqleads.store import agents
from aiqleads.work import Done, Rhythm, work


@dataclass
class World:
    """A served market, an agent that shops in it, and its own system."""

    settings: Settings
    client: TestClient
    hook: Receiver
    sent: int = 0

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.sent += 1
        headers = {"Idempotency-Key": f"k{self.sent}"}
        answer = self.client.request(method, path, json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def buy(self, count: int = 1) -> list[str]:
        found = self.client.get("/v1/leads?limit=50").json()["items"]
        ids = [one["lead_id"] for one in found if one["available"]][:count]
        held = self.ask("POST", "/v1/cart/holds", {"lead_ids": ids})
        self.ask("POST", "/v1/checkout", {"hold_ids": [held["hold_id"]]})
        return ids

    def states(self) -> list[tuple[str, int]]:
        items = self.client.get("/v1/deliveries").json()["items"]
        return [(one["state"], one["attempts"]) for one in items]


@pytest.fixture
def world(served: Settings) -> Iterator[World]:
    settings = Settings(home=served.home, private_webhooks=True)
    state = ServiceState.open(settings, settings.home / "scorer")
    key = agents.create_key(state.commerce, "A0003", agents.AGENT_SCOPES, 0)[0]
    operator = agents.create_key(state.commerce, None, ["ops"], 0)[0]
    client = TestClient(create_app(state), headers={"Authorization": f"Bearer {key}"})
    with receiver() as hook:
        made = World(settings, client, hook)
        body = {"amount_cents": 500_000, "payment_method": "pm_card_visa"}
        made.ask("POST", "/v1/wallet/topups", body)
        yield made
    sound = client.get("/v1/admin/invariants", headers={"Authorization": f"Bearer {operator}"})
    assert sound.json()["ok"] is True, sound.json()
    state.close()


def settled(world: World) -> Done:
    """What a worker does that is asked to do what waits, and nothing later."""
    return work(world.settings, once=True)


def test_what_is_bought_arrives_signed_and_whole(world: World) -> None:
    secret = world.ask("PUT", "/v1/delivery", {"channel": "webhook", "url": world.hook.url()})[
        "secret"
    ]
    ids = world.buy(3)
    assert settled(world).delivered == 3
    key = base64.b64decode(secret.removeprefix("whsec_"))
    for got in world.hook.got:
        said = f"{got.event_id}.{got.headers['webhook-timestamp']}.".encode() + got.body
        mine = base64.b64encode(hmac.digest(key, said, "sha256")).decode()
        assert got.headers["webhook-signature"] == f"v1,{mine}"
        assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 300
        lead = got.said["data"]["lead"]
        seen = world.client.get(f"/v1/leads/{lead['lead_id']}").json()
        assert lead["contact"] == seen["contact"]
        assert lead["contact"]["invented"] is True
    assert {got.said["data"]["lead"]["lead_id"] for got in world.hook.got} == set(ids)
    assert settled(world) == Done()


def test_what_went_back_arrives_signed_and_once(world: World) -> None:
    """A line that its buyer gave back, over HTTP and through the worker."""
    secret = world.ask("PUT", "/v1/delivery", {"channel": "webhook", "url": world.hook.url()})[
        "secret"
    ]
    (lead,) = world.buy(1)
    (order,) = world.client.get("/v1/orders").json()["items"]
    body = {"lead_id": lead, "reason": "disconnected_number", "evidence": "called twice"}
    back = world.ask("POST", f"/v1/orders/{order['order_id']}/returns", body)
    assert settled(world).delivered == 2
    (got,) = [each for each in world.hook.got if each.said["type"] == "refund"]
    assert got.headers["webhook-signature"] == webhooks.signature(
        secret, got.event_id, int(got.headers["webhook-timestamp"]), got.body
    )
    data = got.said["data"]
    assert (data["refund_id"], data["lead_ids"]) == (back["return_id"], [lead])
    assert (data["amount_cents"], data["to"]) == (order["amount_cents"], "wallet")
    notices = world.client.get("/v1/notices").json()["items"]
    assert [(each["kind"], each["lead_id"]) for each in notices] == [("refund", lead)]
    assert settled(world) == Done()


def test_the_worker_goes_on_while_an_endpoint_is_silent(world: World) -> None:
    """One thread waits for the endpoint; the loop, and what it does for others, does not."""
    world.ask("PUT", "/v1/delivery", {"channel": "webhook", "url": world.hook.url()})
    world.buy(1)
    world.hook.script = ["silent"]
    reached, stop, rounds = threading.Event(), threading.Event(), []
    world.hook.before = lambda _got: reached.set()

    def now_us() -> int:
        if reached.is_set():
            rounds.append(1)
            if len(rounds) > 20:
                stop.set()
                world.hook.closing.set()
        return time.time_ns() // 1000

    work(
        world.settings,
        stop=stop,
        rhythm=Rhythm(interval=0.02, deliver_every=0.02, beat_every=0.02),
        now_us=now_us,
    )
    assert len(rounds) > 20
    assert len(world.hook.got) == 1  # it is not begun a second time meanwhile
    assert world.states() == [("waiting", 1)]


def start(world: World) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "AIQLEADS_HOME": str(world.settings.home),
        "AIQLEADS_PRIVATE_WEBHOOKS": "true",
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    }
    command = [sys.executable, "-m", "aiqleads", "work", "--once"]
    return subprocess.Popen(command, env=environment, stdout=-3, stderr=-3)


@pytest.mark.slow
def test_a_worker_killed_before_it_noted_sends_again_under_the_same_id(world: World) -> None:
    world.ask("PUT", "/v1/delivery", {"channel": "webhook", "url": world.hook.url()})
    (lead,) = world.buy(1)
    running: list[subprocess.Popen[bytes]] = []
    known = threading.Event()

    def kill(_got: Got) -> None:
        known.wait(60)
        os.kill(running[0].pid, signal.SIGKILL)
        running[0].wait()

    world.hook.before = kill
    running.append(start(world))
    known.set()
    assert running[0].wait(120) == -signal.SIGKILL
    assert world.states() == [("waiting", 0)]
    world.hook.before = lambda _got: None
    assert settled(world).delivered == 1
    first, second = world.hook.got
    assert first.event_id == second.event_id
    assert second.said["data"]["lead"]["lead_id"] == lead
    assert world.states() == [("delivered", 1)]
