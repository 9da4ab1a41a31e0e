"""Stripe's webhooks over a real socket: nothing forged moves anything, and what is true heals
its payment once, however late and however often it comes. On both databases."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine, create_engine, insert, select

from aiqleads.api.app import create_app
from aiqleads.api.edge import BODY_LIMIT_BYTES
from aiqleads.api.state import ServiceState
from aiqleads.commerce.payments import OutcomeUnknown
from aiqleads.commerce.stripe_standin import StandIn, sign
from aiqleads.settings import Settings
from aiqleads.store import agents
from aiqleads.store.database import upgrade
from aiqleads.store.pool import Pool
from aiqleads.store.tables import commerce_metadata

START_US = 1_767_225_600_000_000
MINUTE_S = 60
PATH = "/v1/stripe/webhook"
AUTHENTICATE, VISA = "pm_card_authenticationRequired", "pm_card_visa"
# What a webhook leaves behind by design, whatever it is about.
INBOX = "webhook_inbox"

Dump = dict[str, list[Any]]


@dataclass
class World:
    """A served market with a clock that tests move, an agent that buys by card, an operator."""

    state: ServiceState
    client: httpx.Client
    now_s: int = START_US // 1_000_000
    sent: int = 0
    agent_key: str = ""
    operator_key: str = ""

    @property
    def standin(self) -> StandIn:
        assert self.state.payments.standin is not None
        return self.state.payments.standin

    def ask(self, method: str, path: str, body: Any = None, *, operator: bool = False) -> Any:
        self.sent += 1
        key = self.operator_key if operator else self.agent_key
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"k{self.sent}"}
        return self.client.request(method, path, json=body, headers=headers)

    def check_out(self, card: str = VISA) -> Any:
        """An order of one lead, by card."""
        held = self.ask("POST", "/v1/cart/holds", {"lead_ids": [self.lead()]}).json()
        return self.ask("POST", "/v1/checkout", {"hold_ids": [held["hold_id"]], "pay_with": card})

    def lead(self) -> str:
        offered = self.ask("GET", "/v1/leads?limit=100").json()["items"]
        return next(str(each["lead_id"]) for each in offered if each["available"])

    def top_up(self, card: str = VISA) -> Any:
        body = {"amount_cents": 5_000, "payment_method": card}
        return self.ask("POST", "/v1/wallet/topups", body)

    def order(self, order_id: str) -> Any:
        return self.ask("GET", f"/v1/orders/{order_id}").json()

    def hook(self, body: bytes, signature: str | None) -> httpx.Response:
        headers = {} if signature is None else {"Stripe-Signature": signature}
        return self.client.post(PATH, content=body, headers=headers)

    def signed(self, body: bytes, shift_s: int = 0, secret: str = "") -> str:
        return sign(body, secret or self.standin.webhook_secret, self.now_s + shift_s)

    def tell(self, event: Any) -> str:
        """Delivers an event as Stripe does: signed now, however old it is."""
        answer = self.hook(*self.standin.webhook(event, self.now_s))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["outcome"])

    def dump(self) -> Dump:
        """Every row of the shop but those of the inbox."""
        with self.state.commerce.connect() as connection:
            return {
                name: sorted(map(repr, connection.execute(select(table))))
                for name, table in commerce_metadata.tables.items()
                if name != INBOX
            }

    def inbox(self) -> list[str]:
        table = commerce_metadata.tables[INBOX]
        with self.state.commerce.connect() as connection:
            return sorted(connection.scalars(select(table.c.event_id)))

    def assert_sold_once(self, order_id: str) -> None:
        """One sale, one posting, one event for the buyer; and the books are right."""
        order, dump = self.order(order_id), self.dump()
        (intent,) = [i for i in self.standin.intents() if i["metadata"].get("order") == order_id]
        assert (order["state"], intent["status"]) == ("paid", "succeeded")
        for name, count in (("order_item", 1), ("outbox", 1), ("lead_slot", 1)):
            assert sum(order_id in row for row in dump[name]) == count, name
        assert sum(intent["id"] in row for row in dump["txn"]) == 1
        assert sum(intent["id"] in row for row in dump["entry"]) == 2
        self.assert_sound()

    def assert_sound(self) -> None:
        found = self.ask("GET", "/v1/admin/invariants", operator=True).json()
        assert found["ok"] is True, found
        assert found["ledger_total_cents"] == 0


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serves an app on a free port of this machine; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as line:
        thread = threading.Thread(target=server.run, args=([line],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{line.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def on_postgres(postgres: Any, template: str, source: Engine) -> Engine:
    """The shop's room as it stands, in a database of PostgreSQL."""
    options: Any = {"poolclass": Pool, "pool_size": 12, "max_overflow": 0}
    engine = create_engine(postgres.create(like=template), **options)
    with source.connect() as there, engine.begin() as here:
        for table in commerce_metadata.sorted_tables:
            for row in there.execute(select(table)).mappings():
                here.execute(insert(table).values(**row))
    return engine


@pytest.fixture(scope="module")
def empty_postgres(postgres: Any) -> str:
    address = str(postgres.create())
    engine = create_engine(address)
    upgrade(engine, "commerce")
    engine.dispose()
    return address


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, served: Settings) -> Iterator[World]:
    state = ServiceState.open(served, served.home / "scorer")
    if request.param == "postgresql":
        template = request.getfixturevalue("empty_postgres")
        room = on_postgres(request.getfixturevalue("postgres"), template, state.commerce)
        state.commerce.dispose()
        state.commerce = room
    with serving(create_app(state)) as address, httpx.Client(base_url=address) as client:
        made = World(state, client)
        state.now_us = lambda: made.now_s * 1_000_000
        made.standin.clock = lambda: made.now_s
        made.agent_key = agents.create_key(state.commerce, "A0003", agents.AGENT_SCOPES, 0)[0]
        made.operator_key = agents.create_key(state.commerce, None, ["ops"], 0)[0]
        yield made
    state.close()


@pytest.fixture
def deaf(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Within it Stripe does what it is asked, and no answer comes back."""

    def silent(*_args: Any, **_more: Any) -> Any:
        raise OutcomeUnknown("no answer")

    @contextmanager
    def while_it_lasts() -> Iterator[None]:
        with monkeypatch.context() as broken:
            broken.setattr(world.state.payments, "retrieve", silent)
            yield

    return while_it_lasts


# --- what is not Stripe's ----------------------------------------------------------


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and problem of an answer, once it is seen to be a problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["title"]
    assert body["detail"]
    return answer.status_code, body["type"].rpartition("/")[2]


def event_about(about: Any, **more: Any) -> bytes:
    event = {"id": "evt_made", "type": "payment_intent.succeeded", "data": {"object": about}}
    return json.dumps({**event, **more}).encode()


def unsigned(world: World, body: bytes) -> dict[str, httpx.Response]:
    """Ways to pass a webhook off as Stripe's without its secret; `body` is a genuine one."""
    good, old = world.signed(body), world.signed(body, -301)
    changed = body.replace(b"requires_action", b"succeeded")
    assert changed != body
    return {
        "forged": world.hook(body, f"t={world.now_s},v1={'0' * 64}"),
        "no header": world.hook(body, None),
        "an empty header": world.hook(body, ""),
        "another secret": world.hook(body, world.signed(body, 0, "whsec_of_somebody")),
        "another scheme": world.hook(body, good.replace("v1=", "v0=")),
        "a changed body": world.hook(changed, good),
        "one byte more": world.hook(body + b"\n", good),
        "stale": world.hook(body, old),
        "stale, a time before it": world.hook(body, f"xt={world.now_s},{old}"),
        "stale, a time after it": world.hook(body, f"{old},t={world.now_s}"),
        "stale, its time replaced": world.hook(body, f"t={world.now_s},{old.partition(',')[2]}"),
        "ahead": world.hook(body, world.signed(body, 301)),
        "not UTF-8": world.hook(b"\xff\xfe", world.signed(b"\xff\xfe")),
    }


def test_what_is_not_signed_by_stripe_just_now_changes_nothing(world: World) -> None:
    """An order waits for its bank: each of these, believed, would finish it."""
    assert world.check_out(AUTHENTICATE).status_code == 202
    (intent,) = world.standin.intents()
    body, _ = world.standin.webhook(world.standin.events()[-1])
    world.standin.authenticate(intent["id"], succeed=True)
    before = world.dump()
    answers = {name: said(answer) for name, answer in unsigned(world, body).items()}
    assert answers == dict.fromkeys(answers, (400, "webhook-signature"))
    assert (world.dump(), world.inbox()) == (before, [])
    # The very same bytes, signed now, do finish it: the answers above were not for their body.
    assert world.hook(body, world.signed(body, -299)).json() == {"outcome": "driven"}
    assert world.dump() != before


def test_a_body_that_is_too_large_is_not_read(world: World) -> None:
    before = world.dump()
    body = event_about({"object": "payment_intent"}, more="x" * BODY_LIMIT_BYTES)
    for announced in (True, False):
        refuses_large(world, body[: BODY_LIMIT_BYTES + 1], announced=announced)
    assert (world.dump(), world.inbox()) == (before, [])


def refuses_large(world: World, body: bytes, *, announced: bool) -> None:
    line = http.client.HTTPConnection(world.client.base_url.netloc.decode(), timeout=30)
    line.putrequest("POST", PATH)
    line.putheader("Stripe-Signature", world.signed(body))
    if announced:  # refused by its length alone: none of it is sent
        line.putheader("Content-Length", str(len(body)))
        line.endheaders()
    else:
        line.putheader("Transfer-Encoding", "chunked")
        line.endheaders()
        line.send(b"%x\r\n%s\r\n" % (len(body), body))
    answer = line.getresponse()
    assert answer.status == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.read())["type"].endswith("/body-too-large")
    line.close()


def test_what_is_signed_and_no_event_is_bad_input(world: World) -> None:
    """Also what the databases would choke on: names that are none, too long or unseen."""
    intent: dict[str, Any] = {"object": "payment_intent", "id": "pi_1"}
    bodies = {
        "no JSON": b"not json",
        "half of it": event_about(intent)[:-2],
        "a list": b"[]",
        "nothing": b"{}",
        "deep": b"[" * 100_000,
        "no object": event_about(3),
        "an id that is a number": event_about(intent, id=7),
        "an id that is long": event_about(intent, id="e" * 81),
        "a type with a zero in it": event_about(intent, type="a\0b"),
        "a payment without an id": event_about({"object": "payment_intent"}),
        "a payment that is an object": event_about({"object": "refund", "payment_intent": {}}),
        "a payment with a long id": event_about({**intent, "id": "p" * 61}),
    }
    before = world.dump()
    answers = {name: said(world.hook(body, world.signed(body))) for name, body in bodies.items()}
    assert answers == dict.fromkeys(bodies, (422, "invalid-input"))
    assert (world.dump(), world.inbox()) == (before, [])


def test_what_is_none_of_ours_is_taken_and_changes_nothing(world: World) -> None:
    """Stripe sends all that an account does; what is not a payment of the shop's is a 200."""
    assert world.check_out(AUTHENTICATE).status_code == 202
    assert world.top_up().status_code == 201
    world.state.payments.pay(
        key="foreign",
        amount_cents=5_000,
        currency="USD",
        payment_method=VISA,
        attempt_id="somebody_elses",
        order_id="ord_of_another_shop",
        capture=True,
    )
    foreign = world.standin.intents()[-1]["id"]
    mine = world.standin.intents()[0]
    told = {
        "a kind that nobody knows": ({"object": "customer", "id": "cus_1"}, "ignored"),
        "another account's payment": ({"object": "payment_intent", "id": "pi_there"}, "ignored"),
        "another account's refund": ({"object": "refund", "payment_intent": "pi_x"}, "ignored"),
        "another shop's payment": ({"object": "payment_intent", "id": foreign}, "ignored"),
        "a dispute of no payment": ({"object": "dispute", "id": "du_1"}, "ignored"),
        # What it says is not believed: the bank still waits for the buyer.
        "a lie": ({**mine, "status": "succeeded", "amount_received": 1}, "driven"),
    }
    before = world.dump()
    for name, (about, outcome) in told.items():
        body = event_about(about, id=f"evt_{name.replace(' ', '_')}", type="something.new")
        answer = world.hook(body, world.signed(body))
        assert (answer.status_code, answer.json()) == (200, {"outcome": outcome}), name
        assert world.dump() == before, name
    assert len(world.inbox()) == len(told)
    world.assert_sound()


def test_without_a_secret_no_webhook_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, so that Stripe sends it again once the secret is set."""
    body = event_about({"object": "payment_intent", "id": "pi_1"})
    signature, before = world.signed(body), world.dump()
    monkeypatch.setattr(world.state.payments, "_webhook_secret", None)
    assert said(world.hook(body, signature)) == (503, "not-ready")
    assert (world.dump(), world.inbox()) == (before, [])


# --- what is true, late and again --------------------------------------------------


def test_an_event_heals_an_order_whose_client_gave_up(world: World, deaf: Any) -> None:
    with deaf():
        unsure = world.check_out()
    assert said(unsure) == (202, "payment-outcome-unknown")
    order_id = unsure.json()["order_id"]
    assert world.order(order_id)["state"] == "pending"
    event = next(e for e in world.standin.events() if "capturable" in e["type"])
    world.now_s += 10 * MINUTE_S
    assert world.tell(event) == "driven"
    world.assert_sold_once(order_id)
    healed = world.dump()
    world.now_s += 3 * 24 * 60 * MINUTE_S  # so long Stripe goes on sending
    assert world.tell(event) == "driven"
    assert world.dump() == healed
    assert world.inbox() == [event["id"]]


def test_events_after_the_sweep_find_nothing_to_do(world: World, deaf: Any) -> None:
    """Each event of the payment, in the wrong order, a day after the sweep settled it."""
    with deaf():
        order_id = world.check_out().json()["order_id"]
    world.now_s += MINUTE_S
    swept = world.ask("POST", "/v1/admin/reconcile", operator=True)
    assert swept.status_code == 200, swept.text
    world.assert_sold_once(order_id)
    settled = world.dump()
    world.now_s += 24 * 60 * MINUTE_S
    events = world.standin.events()[::-1]
    assert {world.tell(event) for event in events} == {"driven"}
    assert len(events) >= 3
    assert world.dump() == settled
    assert len(world.inbox()) == len(events)


def test_an_event_beyond_the_deadline_sells_nothing_and_charges_nobody(world: World) -> None:
    order = world.check_out(AUTHENTICATE).json()
    (intent,) = world.standin.intents()
    world.now_s += 25 * 60 * MINUTE_S
    world.standin.authenticate(intent["id"], succeed=True)
    for _ in range(2):
        assert world.tell(world.standin.events()[-1]) == "driven"
    assert world.order(order["order_id"])["state"] in ("expired", "canceled")
    (intent,) = world.standin.intents()
    assert (intent["status"], intent["amount_received"]) == ("canceled", 0)
    dump = world.dump()
    assert (dump["txn"], dump["outbox"]) == ([], [])
    world.assert_sound()


def at_once(world: World, event: Any, times: int = 2) -> list[tuple[int, str]]:
    """Delivers one event so many times at the same moment, each from a line of its own."""
    body, signature = world.standin.webhook(event, world.now_s)
    gate, answers = threading.Barrier(times), []

    def deliver() -> None:
        with httpx.Client(base_url=world.client.base_url, timeout=60) as line:
            gate.wait(30)
            answer = line.post(PATH, content=body, headers={"Stripe-Signature": signature})
            answers.append((answer.status_code, answer.json().get("outcome", answer.text)))

    threads = [threading.Thread(target=deliver) for _ in range(times)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return answers


def test_one_event_at_the_same_time_sells_once(world: World) -> None:
    for times in (2, 2, 6):
        order_id = world.check_out(AUTHENTICATE).json()["order_id"]
        world.standin.authenticate(world.standin.intents()[-1]["id"], succeed=True)
        answers = at_once(world, world.standin.events()[-1], times)
        assert answers == [(200, "driven")] * times
        world.assert_sold_once(order_id)


def test_one_event_at_the_same_time_credits_a_top_up_once(world: World, deaf: Any) -> None:
    for count in range(1, 4):
        with deaf():
            assert said(world.top_up()) == (202, "payment-outcome-unknown")
        event = [e for e in world.standin.events() if e["type"] == "payment_intent.succeeded"][-1]
        assert at_once(world, event) == [(200, "driven")] * 2
        wallet = world.ask("GET", "/v1/wallet").json()
        assert wallet["balance_cents"] == 5_000 * count
        assert len(wallet["postings"]) == count
    world.assert_sound()


def test_one_event_at_the_same_time_records_a_refund_once(world: World) -> None:
    """Made in Stripe's own dashboard: its webhook is all that tells the shop of it."""
    order_id = world.check_out().json()["order_id"]
    (intent,) = world.standin.intents()
    for count in range(1, 4):
        about = {"intent_id": intent["id"], "refund_id": "by hand"}
        world.state.payments.refund(key=f"r{count}", amount_cents=100, **about)
        event = [e for e in world.standin.events() if e["type"] == "refund.created"][-1]
        assert at_once(world, event, 3) == [(200, "driven")] * 3
        refunds = world.ask("GET", f"/v1/orders/{order_id}/refunds").json()["items"]
        assert [each["amount_cents"] for each in refunds] == [100] * count
        told = world.ask("GET", "/v1/deliveries").json()["items"]
        assert [each["kind"] for each in told].count("refund") == count
        assert len(world.ask("GET", "/v1/notices").json()["items"]) == count
    assert world.order(order_id)["state"] == "partially_refunded"
    world.assert_sound()
