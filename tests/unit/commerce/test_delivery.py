"""What was sold reaches its buyer's system at least once, whatever that system does."""

from __future__ import annotations

import base64
import csv
import email
import hmac
import io
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.policy import default
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text
from tests.lead_rows import add_batch, add_lead, add_submission
from tests.receiver import Got, Receiver, receiver

from aiqleads.commerce import delivery, endpoints, events, invariants, letters, refunds, returns
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.delivery import PAUSES_S, Courier, Delivered
from aiqleads.commerce.reconcile import sweep
from aiqleads.commerce.webhooks import Outcome
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.settings import Settings
from aiqleads.store import outbox as rows
from aiqleads.store import returns as notices
from aiqleads.store.database import connect, open_room
from aiqleads.store.outbox import Event
from aiqleads.store.tables import delivery_endpoint, idempotency, outbox
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

ADA = {"name": "Ada Reed", "email": "ada@example.com", "phone": "+14195550123", "zip": "43604"}
DAY_S = 86_400


@dataclass
class Post:
    """A shop whose leads have people, and a courier that is asked to go by the test."""

    shop: Any
    settings: Settings
    leads: Engine
    vault: Vault
    couriers: list[Courier] = field(default_factory=list)

    def courier(self, **more: Any) -> Courier:
        made = Courier(
            self.settings,
            self.leads,
            self.shop.engine,
            self.vault,
            lambda _market: "America/New_York",
            lambda: self.shop.now,
            deadline_s=more.pop("deadline_s", 5.0),
            **more,
        )
        self.couriers.append(made)
        return made

    def go(self, courier: Courier | None = None) -> Delivered:
        """Everything that is due now, by a new courier, who knows of no rests."""
        courier = courier or self.courier()
        while courier.start():
            courier.drain()
        return courier.taken()

    def put(self, agent: str, url: str, channel: Any = "webhook", **more: Any) -> endpoints.View:
        return endpoints.put(
            self.shop.engine,
            self.vault,
            agent,
            channel,
            url,
            self.shop.now,
            private=self.settings.private_webhooks,
            **more,
        )

    def buy(self, agent: str, *leads: str) -> Any:
        held = self.shop.hold(agent, *leads)
        return pay_by_wallet(self.shop.engine, agent, [held.hold_id], self.shop.now)

    def listed(self, agent: str, **more: Any) -> list[Event]:
        return endpoints.listing(self.shop.engine, agent, 100, **more)

    def state(self, event_id: str) -> Event:
        with self.shop.engine.connect() as connection:
            found = rows.find(connection, event_id)
        assert found is not None
        return found


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rooms of leads and keys with three people in them, copied by each test."""
    settings = Settings(home=tmp_path_factory.mktemp("people"))
    engine, vault = open_room(settings, "leads"), Vault.open(settings)
    add_batch(engine)
    for lead in ("L1", "L2", "L3"):
        add_lead(engine, lead)
        add_submission(engine, vault, lead, {**ADA, "name": f"Ada {lead}"})
    engine.dispose()
    vault.close()
    return settings.data


@pytest.fixture
def post(shop, home: Settings, people: Path) -> Iterator[Post]:
    settings = Settings(home=home.home, private_webhooks=True)
    shutil.copytree(people, home.data, dirs_exist_ok=True)
    made = Post(shop, settings, connect(home, "leads"), Vault.open(home))
    shop.add_leads("L1", "L2", "L3", buyers=2)
    for agent in ("A1", "A2"):
        shop.fill_wallet(agent, 50_000)
    yield made
    for courier in made.couriers:
        courier.close()
    made.leads.dispose()
    made.vault.close()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def signed_by(secret: str, got: Got) -> bool:
    """As a receiver checks it, by the standard and with nothing of ours."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    said = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    mine = base64.b64encode(hmac.digest(key, said, "sha256")).decode()
    return f"v1,{mine}" in got.headers["webhook-signature"].split(" ")


# --- the outbox --------------------------------------------------------------------


def test_a_sale_and_its_events_are_one_transaction(post: Post, monkeypatch: Any) -> None:
    held = post.shop.hold("A1", "L1")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(events, "sold", dies)
        with pytest.raises(KeyboardInterrupt):
            pay_by_wallet(post.shop.engine, "A1", [held.hold_id], post.shop.now)
        with pytest.raises(KeyboardInterrupt):
            pay_by_card(
                post.shop.engine,
                post.shop.payments,
                "A1",
                [held.hold_id],
                "pm_card_visa",
                post.shop.now,
            )
    assert post.listed("A1") == []
    post.shop.assert_sound()


def test_every_way_to_buy_writes_an_event_for_each_lead(post: Post) -> None:
    wallet = post.buy("A1", "L1", "L2")
    held = post.shop.hold("A2", "L1")
    card = pay_by_card(
        post.shop.engine,
        post.shop.payments,
        "A2",
        [held.hold_id],
        "pm_card_visa",
        post.shop.now,
    )
    made = {(e.order_id, e.lead_id, e.kind, e.state) for e in post.listed("A1")}
    assert made == {(wallet.order_id, lead, "lead.sold", "waiting") for lead in ("L1", "L2")}
    (other,) = post.listed("A2")
    assert (other.order_id, other.lead_id, other.attempts) == (card.order_id, "L1", 0)
    declined = post.shop.hold("A2", "L3")
    with pytest.raises(Refused):
        pay_by_card(
            post.shop.engine,
            post.shop.payments,
            "A2",
            [declined.hold_id],
            "pm_card_chargeDeclined",
            post.shop.now,
        )
    assert len(post.listed("A2")) == 1
    post.shop.assert_sound()


def test_the_outbox_holds_no_contact(post: Post, hook: Receiver) -> None:
    secret = post.put("A1", hook.url("/hook?token=hush")).secret
    post.buy("A1", "L1")
    hook.script = [500]
    post.go()
    with post.shop.engine.connect() as connection:
        kept = [
            str(row)
            for table in (outbox, delivery_endpoint, idempotency)
            for row in connection.execute(select(table))
        ]
    assert secret
    for word in ("Ada", "ada@", "4195550123", "hush", secret, secret.removeprefix("whsec_")):
        assert word not in "".join(kept)


# --- webhooks ----------------------------------------------------------------------


def test_the_buyer_gets_the_person_and_nobody_else_does(post: Post, hook: Receiver) -> None:
    with receiver() as other:
        secret = post.put("A1", hook.url()).secret
        post.put("A2", other.url())
        order = post.buy("A1", "L1")
        post.shop.hold("A2", "L1")
        assert post.go() == Delivered(arrived=1)
        assert other.got == []
    (got,) = hook.got
    (event,) = post.listed("A1")
    assert secret is not None
    assert signed_by(secret, got)
    assert not signed_by("whsec_" + base64.b64encode(b"x" * 32).decode(), got)
    assert got.event_id == event.event_id
    assert got.headers["webhook-timestamp"] == str(post.shop.now // 1_000_000)
    assert got.said["type"] == "lead.sold"
    lead = got.said["data"]["lead"]
    assert lead["contact"]["name"] == "Ada L1"
    assert lead["consents"][0]["proof"] == "cert-9"
    assert lead["calling"]["time_zones"] == ["America/New_York"]
    assert got.said["data"]["order"] == {
        "order_id": order.order_id,
        "ordered_at": got.said["timestamp"],
        "price_cents": 5_000,
        "currency": "USD",
    }
    done = post.state(event.event_id)
    assert (done.state, done.attempts, done.last_status) == ("delivered", 1, 200)
    assert post.go() == Delivered()
    post.shop.assert_sound()


def test_a_failure_is_tried_again_under_the_same_id(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")
    hook.script = [500, "hangup", (302, {"Location": hook.url("/elsewhere")}), 200]
    reasons = []
    for _ in range(4):
        post.go()
        (event,) = post.listed("A1")
        reasons.append((event.failure, event.last_status))
        post.shop.now = max(event.next_try_us, post.shop.now)
    assert reasons == [
        ("http-500", 500),
        ("unreachable", None),
        ("http-302", 302),
        (None, 200),
    ]
    assert {got.event_id for got in hook.got} == {event.event_id}
    assert [got.path for got in hook.got] == ["/hook"] * 4
    assert (event.state, event.attempts) == ("delivered", 4)
    post.shop.assert_sound()


def test_a_silent_endpoint_fails_by_the_deadline(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")
    hook.script = ["silent"]
    assert post.go(post.courier(deadline_s=0.3)) == Delivered(failed=1)
    (event,) = post.listed("A1")
    assert (event.failure, event.last_status, event.state) == ("timeout", None, "waiting")


def test_pauses_grow_and_then_it_is_dead_and_the_agent_is_told_once(
    post: Post, hook: Receiver
) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1", "L2")
    hook.script = [500] * 99
    pauses: list[float] = []
    while waiting := post.listed("A1", state="waiting"):
        event = min(waiting, key=lambda each: (each.next_try_us, each.event_id))
        post.shop.now = max(event.next_try_us, post.shop.now)
        post.go()
        tried = post.state(event.event_id)
        if tried.state == "waiting":
            pauses.append((tried.next_try_us - post.shop.now) / 1e6 / PAUSES_S[event.attempts])
    assert len(pauses) == 2 * len(PAUSES_S)
    assert all(0.8 <= share <= 1.2 for share in pauses)
    assert len(set(pauses)) > 10
    dead = post.listed("A1")
    assert {(e.state, e.attempts, e.failure) for e in dead} == {("dead", 9, "http-500")}
    assert len(hook.got) == 18
    told = returns.notices(post.shop.engine, "A1")
    assert {each.kind for each in told} == {"delivery-dead"}
    assert len(told) <= 2  # one a day
    assert post.go() == Delivered()
    post.shop.assert_sound()
    hook.script = []
    endpoints.retry(post.shop.engine, "A1", dead[0].event_id, post.shop.now)
    assert post.go() == Delivered(arrived=1)
    assert hook.got[-1].event_id == dead[0].event_id


def test_who_is_gone_is_not_asked_again(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")
    hook.script = [410]
    assert post.go() == Delivered(dead=1)
    (event,) = post.listed("A1")
    assert (event.state, event.failure) == ("dead", "http-410")


def test_a_receiver_that_asks_for_time_gets_it(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")
    for asked, given_s in (("1000", 1_000), ("80000", 3_600)):
        hook.script = [(429, {"Retry-After": asked})]
        post.go()
        (event,) = post.listed("A1")
        assert event.next_try_us == post.shop.now + given_s * 1_000_000
        post.shop.now = event.next_try_us


def test_one_dead_endpoint_holds_up_nobody_and_is_not_hammered(post: Post, hook: Receiver) -> None:
    with receiver() as dead:
        dead.script = ["silent"] * 9
        post.put("A1", dead.url())
        post.put("A2", hook.url())
        post.buy("A1", "L1", "L2", "L3")
        post.buy("A2", "L1", "L2", "L3")
        courier = post.courier(deadline_s=60.0)
        assert courier.start() == 2
        while len(hook.got) < 3:
            pass  # bounded by the test's own timeout
        assert courier.start() in (0, 1)  # the dead one's turn goes on, and is not begun twice
        assert len(dead.got) <= 1
        dead.closing.set()
        courier.drain()
        done = courier.taken()
        assert (done.arrived, done.failed) == (3, 1)
        assert courier.start() == 0  # two are due, but their endpoint rests
        post.shop.now += 5_000_000
        assert courier.start() == 1


def test_an_event_that_always_fails_does_not_hold_up_those_behind_it(
    post: Post, hook: Receiver
) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1", "L2", "L3")
    poison = min(each.event_id for each in post.listed("A1"))

    def refuse(got: Got) -> None:
        hook.script = [400] if got.event_id == poison else []

    hook.before = refuse
    courier = post.courier()
    for _ in range(3):
        post.go(courier)
        post.shop.now += 5_000_000
    states = {each.event_id: each.state for each in post.listed("A1")}
    assert states.pop(poison) == "waiting"
    assert set(states.values()) == {"delivered"}


def test_killed_between_sending_and_noting_it_is_sent_again(
    post: Post, hook: Receiver, monkeypatch: Any
) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")

    def dies(*_: Any) -> Any:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(rows, "delivered", dies)
        courier = post.courier()
        courier.start()
        with pytest.raises(SystemExit):
            courier.drain()
    (event,) = post.listed("A1")
    assert (event.state, event.attempts) == ("waiting", 0)
    assert post.go() == Delivered(arrived=1)
    assert [got.event_id for got in hook.got] == [event.event_id] * 2


def test_a_fault_of_ours_ends_the_turn_and_nothing_else(
    post: Post, hook: Receiver, monkeypatch: Any, capsys: Any
) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Ada Reed, 419 555 0123")

    with monkeypatch.context() as patched:
        patched.setattr(delivery, "disclose", broken)
        assert post.go() == Delivered()
    assert "Ada" not in "".join(capsys.readouterr())
    assert post.go() == Delivered(arrived=1)


def test_a_contact_that_cannot_be_opened_is_tried_again(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1", "L2")
    with post.leads.begin() as connection:
        connection.execute(text("update submission set contact = x'00' where lead_id = 'L1'"))
    assert post.go() == Delivered(arrived=1, failed=1)
    failures = {each.lead_id: each.failure for each in post.listed("A1")}
    assert failures == {"L1": "not-made", "L2": None}


def test_who_did_not_buy_is_never_sent_a_person(post: Post, hook: Receiver) -> None:
    """A row that says otherwise is given up: the order is asked again."""
    order = post.buy("A2", "L1")
    post.put("A1", hook.url())
    forged = Event("evt_x", "A1", "lead.sold", order.order_id, "L1", None, 1, 1)
    gone = Event("evt_y", "A1", "lead.sold", "ord_none", "L1", None, 1, 1)
    untold = Event("evt_z", "A1", "notice.x", None, None, "nobody's", 1, 1)
    with post.shop.engine.begin() as connection:
        connection.execute(outbox.delete())
        rows.add(connection, [forged, gone, untold])
    assert post.go() == Delivered(dead=3)
    assert hook.got == []
    assert {each.failure for each in post.listed("A1")} == {"nothing-to-send"}
    found = invariants.check(post.shop.engine, post.shop.payments, post.shop.now)
    assert found["D2"].ok is False


def test_notices_are_sent_as_well(post: Post, hook: Receiver) -> None:
    post.put("A2", hook.url())
    order = post.buy("A1", "L1")
    held = post.shop.hold("A2", "L1")
    returns.ask(
        post.shop.engine,
        "A1",
        order.order_id,
        "L1",
        "disconnected_number",
        "called twice",
        post.shop.now,
    )
    assert held.hold_id
    assert post.go() == Delivered(arrived=1)
    said = hook.got[0].said
    assert said["type"] == "notice.hold-ended"
    assert said["data"]["lead_id"] == "L1"
    assert "contact" not in json.dumps(said)


# --- refunds -----------------------------------------------------------------------


def refund(post: Post, order: Any, cents: int | None = None, **more: Any) -> Any:
    shop = post.shop
    asked = (order.order_id, cents, "k_ops", "a mistake of ours", shop.now)
    return refunds.ask(shop.engine, shop.payments, *asked, **more)


def by_card(post: Post, *leads: str, card: str = "pm_card_visa") -> Any:
    held = post.shop.hold("A1", *leads)
    return pay_by_card(
        post.shop.engine, post.shop.payments, "A1", [held.hold_id], card, post.shop.now
    )


def told(post: Post, agent: str = "A1") -> list[str]:
    return [each.kind for each in returns.notices(post.shop.engine, agent)]


def heal(post: Post) -> None:
    sweep(post.shop.engine, post.shop.payments, post.shop.now)


def sent_refunds(hook: Receiver) -> list[dict[str, Any]]:
    return [got.said["data"] for got in hook.got if got.said["type"] == "refund"]


@pytest.mark.parametrize("paid_by", ["card", "wallet"])
def test_a_refund_is_sent_signed_once(post: Post, hook: Receiver, paid_by: str) -> None:
    secret = post.put("A1", hook.url()).secret
    order = by_card(post, "L1", "L2") if paid_by == "card" else post.buy("A1", "L1", "L2")
    post.go()
    hook.got.clear()
    made = refund(post, order, 2_000, key="k")
    refund(post, order, 2_000, key="k")
    heal(post)  # finds the refund at Stripe, and in the books
    assert post.go() == Delivered(arrived=1)
    (got,) = hook.got
    assert signed_by(str(secret), got)
    assert got.said["type"] == "refund"
    assert got.said["data"] == {
        "refund_id": made.refund_id,
        "order_id": order.order_id,
        "lead_ids": ["L1", "L2"],
        "amount_cents": 2_000,
        "currency": "USD",
        "to": paid_by,
        "state": "succeeded",
        "reason": "a mistake of ours",
        "refunded_at": got.said["timestamp"],
    }
    assert "contact" not in json.dumps(got.said)
    assert told(post) == ["refund"]
    assert told(post, "A2") == []
    # The rest of it is another refund, and the same one is never sent twice.
    refund(post, order)
    assert post.go() == Delivered(arrived=1)
    assert [each["amount_cents"] for each in sent_refunds(hook)] == [2_000, 8_000]
    assert post.go() == Delivered()
    post.shop.assert_sound()


def test_a_refund_that_was_made_at_stripe_is_sent_too(post: Post, hook: Receiver) -> None:
    order = by_card(post, "L1")
    post.put("A1", hook.url())
    intent = post.shop.standin.intents()[-1]["id"]
    post.shop.payments.refund(key="x", intent_id=intent, amount_cents=700, refund_id="by hand")
    assert sent_refunds(hook) == []
    for _ in range(2):
        heal(post)
        post.go()
    (data,) = sent_refunds(hook)
    assert (data["order_id"], data["amount_cents"], data["to"]) == (order.order_id, 700, "card")
    assert told(post) == ["refund"]


def test_a_line_that_is_given_back_is_a_refund_of_that_line(post: Post, hook: Receiver) -> None:
    for agent in ("A1", "A2"):
        post.put(agent, hook.url())
    mine, theirs = post.buy("A1", "L1", "L2"), post.buy("A2", "L2", "L3")
    engine, now = post.shop.engine, post.shop.now
    returns.ask(engine, "A1", mine.order_id, "L1", "disconnected_number", "called twice", now)
    waits = returns.ask(engine, "A2", theirs.order_id, "L3", "duplicate", "bought in May", now)
    post.go()
    assert [each["lead_ids"] for each in sent_refunds(hook)] == [["L1"]]
    returns.decide(engine, waits.return_id, credit=True, by="k_ops", note="so it is", now_us=now)
    post.go()
    first, second = sent_refunds(hook)
    assert (first["reason"], first["to"], first["amount_cents"]) == (
        "disconnected_number",
        "wallet",
        5_000,
    )
    assert (second["refund_id"], second["lead_ids"]) == (waits.return_id, ["L3"])
    assert (told(post), told(post, "A2")) == (["refund"], ["refund"])
    post.shop.assert_sound()


def test_a_return_that_is_refused_refunds_nothing(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    order = post.buy("A1", "L1")
    engine, now = post.shop.engine, post.shop.now
    waits = returns.ask(engine, "A1", order.order_id, "L1", "duplicate", "bought in May", now)
    returns.decide(engine, waits.return_id, credit=False, by="k_ops", note="no", now_us=now)
    post.go()
    # Both are due at one moment, so either may go first.
    told = sorted(got.said["type"] for got in hook.got)
    assert told == ["lead.sold", "notice.return-refused"]


def test_a_refund_that_comes_to_nothing_is_told_as_it_is(post: Post, hook: Receiver) -> None:
    """Refused by Stripe: nothing. Sent back by the bank: said in a notice of its own, once."""
    post.put("A1", hook.url())
    disputed = by_card(post, "L1", card="pm_card_createDispute")
    assert refund(post, disputed).state == "failed"
    order = by_card(post, "L2", card="pm_card_refundFail")
    post.go()
    hook.got.clear()
    made = refund(post, order)
    post.go()
    post.shop.standin.fail_refund(made.stripe_id)
    for _ in range(2):
        heal(post)
        post.go()
    assert [got.said["type"] for got in hook.got] == ["refund", "notice.refund-failed"]
    assert sorted(told(post)) == ["refund", "refund-failed"]
    # Sent again, it says what has become of it.
    endpoints.retry(post.shop.engine, "A1", hook.got[0].event_id, post.shop.now)
    post.go()
    assert [each["state"] for each in sent_refunds(hook)] == ["succeeded", "failed"]
    assert hook.got[0].event_id == hook.got[-1].event_id


def test_a_refund_and_its_event_are_one_transaction(post: Post, monkeypatch: Any) -> None:
    order = post.buy("A1", "L1")

    def broken(*_args: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as cut:
        cut.setattr(events.outbox, "add", broken)
        with pytest.raises(ZeroDivisionError):
            refund(post, order, key="k")
    assert refunds.listing(post.shop.engine, order.order_id) == []
    assert told(post) == []
    refund(post, order, key="k")
    assert [each.kind for each in post.listed("A1")].count("refund") == 1


def test_a_refund_of_a_top_up_is_nobodys_line(post: Post) -> None:
    intent = post.shop.standin.intents()[0]["id"]
    post.shop.payments.refund(key="x", intent_id=intent, amount_cents=700, refund_id="by hand")
    heal(post)
    assert told(post) == []
    assert post.listed("A1") == []


def test_another_agents_refund_is_never_sent(post: Post, hook: Receiver) -> None:
    made = refund(post, post.buy("A1", "L1"))
    post.put("A2", hook.url())
    order = post.buy("A2", "L2")
    about = f"refund:{made.refund_id}"
    forged = Event("evt_x", "A2", "refund", order.order_id, None, about, 1, 1)
    theirs = Event("evt_y", "A2", "refund", made.order_id, None, about, 1, 1)
    none = Event("evt_z", "A2", "refund", order.order_id, None, "refund:ref_none", 1, 1)
    with writing(post.shop.engine) as connection:
        rows.add(connection, [forged, theirs, none])
    post.go()
    assert sent_refunds(hook) == []
    assert [each.failure for each in post.listed("A2", state="dead")] == ["nothing-to-send"] * 3


@pytest.mark.parametrize("channel", ["email", "csv"])
def test_a_refund_is_a_letter_or_a_file(post: Post, channel: str) -> None:
    post.put("A1", "agent@crm.example" if channel == "email" else "", channel)
    made = refund(post, post.buy("A1", "L1"))
    (event,) = [each for each in post.listed("A1") if each.kind == "refund"]
    post.go()
    folder = "mail" if channel == "email" else "csv/A1"
    (file,) = (post.settings.outgoing / folder / "new").glob(f"{event.event_id}.*")
    text = file.read_text()
    if channel == "email":
        mail = email.message_from_string(text, policy=default)
        assert mail["Subject"] == "Money that went back"
        (part,) = mail.iter_attachments()
        text = part.get_content()
    table = dict(csv.reader(io.StringIO(text)))
    assert (table["type"], table["refund_id"]) == ("refund", made.refund_id)
    assert (table["lead_ids"], table["amount_cents"]) == ("L1", "5000")


# --- the endpoint ------------------------------------------------------------------


def test_the_secret_is_shown_once_and_the_one_before_signs_for_a_day(
    post: Post, hook: Receiver
) -> None:
    first = post.put("A1", hook.url(), key="k1")
    assert first.secret is not None
    again = post.put("A1", hook.url(), key="k1")
    assert again.secret == first.secret  # the same request, which was cut off
    moved = post.put("A1", hook.url("/other"), key="k2")
    assert (moved.secret, moved.address) == (None, hook.url("/other"))
    second = post.put("A1", hook.url(), key="k3", new_secret=True)
    assert second.secret not in (None, first.secret)
    assert second.previous_until_us == post.shop.now + DAY_S * 1_000_000
    view = endpoints.view(post.shop.engine, post.vault, "A1", post.shop.now)
    assert (view.secret, view.channel) == (None, "webhook")
    for later_s, both in ((0, True), (DAY_S - 1, True), (1, False)):
        post.shop.now += later_s * 1_000_000
        endpoints.try_out(post.shop.engine, "A1", post.shop.now)
        post.go()
        assert signed_by(second.secret, hook.got[-1])
        assert signed_by(first.secret, hook.got[-1]) is both
    over = endpoints.view(post.shop.engine, post.vault, "A1", post.shop.now)
    assert over.previous_until_us is None


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("webhook", "http://crm.example/x"),
        ("webhook", "https://10.0.0.1/"),
        ("email", "nobody"),
        ("email", "a@b.example\r\nBcc: c@d.example"),
        ("email", "Ada <a@b.example>"),
        ("csv", "/etc/passwd"),
    ],
)
def test_addresses_that_cannot_be_are_refused(post: Post, channel: Any, address: str) -> None:
    post.settings = Settings(home=post.settings.home)
    with pytest.raises(InvalidInput):
        post.put("A1", address, channel)
    with pytest.raises(UnknownName):
        endpoints.view(post.shop.engine, post.vault, "A1", post.shop.now)


def test_what_was_sold_before_there_was_an_endpoint_is_sent_when_asked_for(
    post: Post, hook: Receiver
) -> None:
    post.buy("A1", "L1")
    post.put("A1", hook.url())
    (early,) = post.listed("A1")
    assert (early.state, early.failure) == ("dead", "before-endpoint")
    assert post.go() == Delivered()
    post.buy("A1", "L2")
    post.put("A1", hook.url(), backlog=True)
    assert post.go() == Delivered(arrived=2)
    post.shop.assert_sound()


def test_without_an_endpoint_nothing_is_sent(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")
    assert endpoints.remove(post.shop.engine, post.vault, "A1", post.shop.now) == 1
    assert endpoints.remove(post.shop.engine, post.vault, "A1", post.shop.now) == 0
    assert post.go() == Delivered()
    (event,) = post.listed("A1")
    assert (event.state, event.failure) == ("dead", "endpoint-removed")
    for tried in (
        lambda: endpoints.try_out(post.shop.engine, "A1", post.shop.now),
        lambda: endpoints.retry(post.shop.engine, "A1", event.event_id, post.shop.now),
    ):
        with pytest.raises(Refused) as no:
            tried()
        assert no.value.kind == "no-delivery-endpoint"
    post.put("A1", hook.url())  # a new one, under keys of its own
    endpoints.retry(post.shop.engine, "A1", event.event_id, post.shop.now)
    assert post.go() == Delivered(arrived=1)


def test_an_endpoint_that_is_removed_or_changed_while_it_is_used(
    post: Post, hook: Receiver
) -> None:
    post.put("A1", hook.url())
    post.buy("A1", "L1")
    hook.before = lambda _got: endpoints.remove(post.shop.engine, post.vault, "A1", 1) and None
    assert post.go() == Delivered()
    (event,) = post.listed("A1")
    assert (event.state, event.failure) == ("dead", "endpoint-removed")
    assert len(hook.got) == 1


def test_two_who_change_an_endpoint_at_once_do_not_mix(
    post: Post, hook: Receiver, monkeypatch: Any
) -> None:
    real = Vault.seal

    def meanwhile(vault: Vault, *given: Any) -> Any:
        monkeypatch.setattr(Vault, "seal", real)
        post.put("A1", hook.url("/theirs"))
        return real(vault, *given)

    monkeypatch.setattr(Vault, "seal", meanwhile)
    with pytest.raises(Refused, match="another request"):
        post.put("A1", hook.url("/mine"))
    view = endpoints.view(post.shop.engine, post.vault, "A1", post.shop.now)
    assert view.address == hook.url("/theirs")


def test_another_agents_delivery_is_not_there(post: Post, hook: Receiver) -> None:
    post.put("A1", hook.url())
    post.put("A2", hook.url())
    post.buy("A1", "L1")
    (event,) = post.listed("A1")
    with pytest.raises(UnknownName):
        endpoints.retry(post.shop.engine, "A2", event.event_id, post.shop.now)
    post.go()
    assert endpoints.retry(post.shop.engine, None, event.event_id, post.shop.now).state == "waiting"
    assert post.go() == Delivered(arrived=1)  # an operator may, also what arrived
    assert [got.event_id for got in hook.got] == [event.event_id] * 2


# --- files and mails ---------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("new/*"))


def test_csv_files_wait_for_their_buyer(post: Post) -> None:
    post.put("A1", "", "csv")
    post.buy("A1", "L1")
    endpoints.try_out(post.shop.engine, "A1", post.shop.now)
    assert post.go() == Delivered(arrived=2)
    folder = post.settings.outgoing / "csv" / "A1"
    by_id = {each.stem: each for each in files(folder)}
    assert by_id.keys() == {each.event_id for each in post.listed("A1")}
    (sold,) = [each for each in post.listed("A1") if each.kind == "lead.sold"]
    (row,) = csv.DictReader(io.StringIO(by_id[sold.event_id].read_text()))
    assert (row["lead_id"], row["name"], row["price"]) == ("L1", "Ada L1", "50.00")
    modes = [
        stat.S_IMODE(each.stat().st_mode)
        for each in (post.settings.outgoing, folder, *folder.glob("new/*"))
    ]
    assert modes == [0o700, 0o700, 0o600, 0o600]
    endpoints.retry(post.shop.engine, "A1", sold.event_id, post.shop.now)
    post.go()
    assert len(files(folder)) == 2  # the same file again
    assert list(folder.glob("tmp/*")) == []


def test_mails_wait_where_there_is_no_mail_server(post: Post) -> None:
    post.put("A1", "agent@crm.example", "email")
    post.buy("A1", "L1")
    assert post.go() == Delivered(arrived=1)
    (event,) = post.listed("A1")
    (file,) = files(post.settings.outgoing / "mail")
    assert file.name == f"{event.event_id}.eml"
    mail = email.message_from_bytes(file.read_bytes(), policy=default)
    assert mail["To"] == "agent@crm.example"
    assert "Ada" not in mail["Subject"]
    assert mail["Message-ID"].startswith(f"<{event.event_id}@")
    body = mail.get_body()
    assert json.loads(body.get_content())["lead"]["contact"]["name"] == "Ada L1"
    (attached,) = mail.iter_attachments()
    assert "Ada L1" in attached.get_content()


def test_a_folder_that_cannot_be_written_is_a_failure(post: Post) -> None:
    post.put("A1", "", "csv")
    post.buy("A1", "L1")
    post.settings.outgoing.write_text("in the way")
    assert post.go() == Delivered(failed=1)
    (event,) = post.listed("A1")
    assert (event.state, event.failure) == ("waiting", "not-written")
    post.settings.outgoing.unlink()
    post.shop.now = event.next_try_us
    assert post.go() == Delivered(arrived=1)


class Server:
    """A mail server as `smtplib` shows it, that does as it is told."""

    log: ClassVar[list[Any]] = []
    fault: ClassVar[Callable[[], Exception] | None] = None

    def __init__(self, *given: Any, **_: Any) -> None:
        self.log.append(given)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def starttls(self, **_: Any) -> None:
        self.log.append("starttls")

    def login(self, user: str, _word: str) -> None:
        self.log.append(user)

    def send_message(self, mail: Any) -> None:
        if (fault := type(self).fault) is not None:
            raise fault()
        self.log.append(mail["To"])


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (None, Outcome()),
        (
            lambda: letters.smtplib.SMTPDataError(451, b"later"),
            Outcome(451, "smtp-451"),
        ),
        (
            lambda: letters.smtplib.SMTPRecipientsRefused({"a": (550, b"no")}),
            Outcome(550, "smtp-550"),
        ),
        (TimeoutError, Outcome(failure="timeout")),
        (OSError, Outcome(failure="mail-server-unreachable")),
        (letters.smtplib.SMTPException, Outcome(failure="mail-server-unreachable")),
    ],
)
def test_a_mail_server_is_used_where_one_is_set(
    post: Post, monkeypatch: Any, fault: Any, outcome: Outcome
) -> None:
    monkeypatch.setattr(Server, "log", [])
    monkeypatch.setattr(Server, "fault", staticmethod(fault) if fault else None)
    monkeypatch.setattr(letters.smtplib, "SMTP", Server)
    post.settings = Settings(
        home=post.settings.home, smtp_host="mail.example", smtp_user="u", smtp_password="w"
    )
    post.put("A1", "agent@crm.example", "email")
    post.buy("A1", "L1")
    post.go()
    (event,) = post.listed("A1")
    assert (event.failure or "", event.last_status) == (outcome.failure, outcome.status)
    assert Server.log[:3] == [("mail.example", 587), "starttls", "u"]
    assert (Server.log[3:] == ["agent@crm.example"]) is outcome.arrived
    assert not (post.settings.outgoing / "mail").exists()


# --- what holds however it goes ----------------------------------------------------


@given(
    attempts=st.integers(0, 12),
    asked=st.one_of(st.none(), st.floats(0, 1e9)),
    status=st.sampled_from([None, 400, 410, 429, 500]),
)
def test_a_try_is_followed_by_a_later_one_or_by_none(
    attempts: int, asked: float | None, status: int | None
) -> None:
    event = Event("e", "A1", "lead.sold", "o", "L1", None, 0, 0, attempts=attempts)
    next_us = delivery._next_try_us(event, Outcome(status, "x", asked), 1_000)
    if status == 410 or attempts >= len(PAUSES_S):
        assert next_us is None
    else:
        assert next_us is not None
        waits_s = (next_us - 1_000) / 1e6
        longest = max(1.2 * PAUSES_S[attempts], 3_600.0)
        assert 0.8 * PAUSES_S[attempts] - 1e-6 <= waits_s <= longest + 1e-6
        if asked is not None:
            assert waits_s >= min(asked, 3_600.0) - 1e-6


def test_a_notice_is_told_once_and_so_is_its_event(post: Post) -> None:
    told = notices.Notice("n1", "A1", "hold-ended", "L1", "it ended", post.shop.now)
    for _ in range(2):
        with post.shop.engine.begin() as connection:
            events.notify(connection, told)
    assert [each.kind for each in post.listed("A1")] == ["notice.hold-ended"]
