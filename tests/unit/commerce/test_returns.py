"""Returns: which leads may be given back, how many, and what comes of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from aiqleads.commerce import holds, invariants, returns, wallet
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.returns import Rules
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store.tables import entry, lead_slot

DAY = 24 * 60


def buy(shop: Any, who: str, *leads: str) -> str:
    held = shop.hold(who, *leads)
    return pay_by_wallet(shop.engine, who, [held.hold_id], shop.now).order_id


def give_back(shop: Any, who: str, order: str, lead: str, reason: str = "disconnected_number",
              **more: Any) -> Any:  # fmt: skip
    return returns.ask(shop.engine, who, order, lead, reason, "called twice", shop.now, **more)


def refused(call: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


@pytest.fixture
def rich(shop: Any) -> Iterator[Any]:
    shop.add_leads(*(f"L{n}" for n in range(12)), buyers=3)
    for who in ("A1", "A2"):
        shop.fill_wallet(who, 200_000)
    yield shop
    shop.assert_sound()


def test_a_dead_number_is_credited_at_once(rich: Any) -> None:
    order = buy(rich, "A1", "L0")
    made = give_back(rich, "A1", order, "L0")
    assert (made.state, made.credit_cents, made.decided_by) == ("credited", 5_000, "rule")
    assert wallet.balance(rich.engine, "A1") == 200_000
    assert returns.of_order(rich.engine, "A1", order) == [made]


def test_a_returned_lead_is_sold_to_nobody_else_and_its_buyers_are_told(rich: Any) -> None:
    rich.add_agent("A3")
    order = buy(rich, "A1", "L0")
    buy(rich, "A2", "L0")
    rich.hold("A3", "L0")
    give_back(rich, "A1", order, "L0", "denies_enquiring")
    with rich.engine.connect() as connection:
        states = connection.execute(
            select(lead_slot.c.state).where(lead_slot.c.lead_id == "L0").order_by(lead_slot.c.slot)
        ).scalars()
        assert list(states) == ["sold", "sold", "closed"]
    assert holds.cart(rich.engine, "A3", rich.now).holds == ()
    assert [each.kind for each in returns.notices(rich.engine, "A2")] == ["lead-reported"]
    assert [each.kind for each in returns.notices(rich.engine, "A3")] == ["hold-ended"]
    assert [each.kind for each in returns.notices(rich.engine, "A1")] == ["refund"]


def test_what_an_operator_decides_waits_for_one(rich: Any) -> None:
    order = buy(rich, "A1", "L0", "L1")
    made = give_back(rich, "A1", order, "L0", "duplicate")
    assert made.state == "waiting"
    assert returns.waiting(rich.engine) == [made]
    assert wallet.balance(rich.engine, "A1") == 190_000
    by = {"by": "key_1", "now_us": rich.now}
    done = returns.decide(rich.engine, made.return_id, credit=True, note="so it is", **by)
    assert (done.state, done.decided_by, done.note) == ("credited", "key_1", "so it is")
    assert wallet.balance(rich.engine, "A1") == 195_000
    assert rich.hold("A2", "L0")  # a duplicate for one is a lead for others
    again = refused(
        lambda: returns.decide(rich.engine, made.return_id, credit=False, note="no", **by)
    )
    assert (again.kind, again.extra["state"]) == ("already-decided", "credited")
    assert returns.waiting(rich.engine) == []


def test_a_refused_return_is_told_why_and_moves_no_money(rich: Any) -> None:
    order = buy(rich, "A1", "L0")
    made = give_back(rich, "A1", order, "L0", "not_the_person")
    returns.decide(
        rich.engine, made.return_id, credit=False, by="key_1", note="she answered", now_us=rich.now
    )
    assert wallet.balance(rich.engine, "A1") == 195_000
    told = returns.notices(rich.engine, "A1")
    assert [each.kind for each in told] == ["return-refused"]
    assert told[0].detail.endswith("she answered")
    with pytest.raises(UnknownName):
        returns.decide(rich.engine, "ret_none", credit=True, by="x", note="n", now_us=rich.now)


def test_a_lead_comes_back_once(rich: Any) -> None:
    order = buy(rich, "A1", *(f"L{n}" for n in range(10)))
    made = give_back(rich, "A1", order, "L0", key="k")
    assert give_back(rich, "A1", order, "L0", key="k") == made
    no = refused(lambda: give_back(rich, "A1", order, "L0"))
    assert (no.kind, no.extra["return_id"]) == ("already-returned", made.return_id)
    assert wallet.balance(rich.engine, "A1") == 155_000


def test_the_window_closes(rich: Any) -> None:
    order = buy(rich, "A1", "L0")
    rich.later(7 * DAY)
    no = refused(lambda: give_back(rich, "A1", order, "L0"))
    assert (no.kind, no.status) == ("return-window-over", 409)
    assert (no.extra["limit"], no.extra["value"], no.extra["used"]) == ("return_window_days", 7, 7)
    assert wallet.balance(rich.engine, "A1") == 195_000


def test_a_fifth_of_a_month_comes_back_at_most(rich: Any) -> None:
    order = buy(rich, "A1", *(f"L{n}" for n in range(10)))
    give_back(rich, "A1", order, "L0")
    give_back(rich, "A1", order, "L1", "duplicate")  # what waits counts
    no = refused(lambda: give_back(rich, "A1", order, "L2"))
    assert (no.kind, no.status) == ("return-limit-reached", 403)
    assert {k: no.extra[k] for k in ("limit", "value", "used")} == {
        "limit": "returns_per_month",
        "value": 2,
        "used": 2,
    }
    assert no.extra["retry_after"] > 0


def test_one_may_always_come_back(rich: Any) -> None:
    order = buy(rich, "A1", "L0", "L1")
    assert give_back(rich, "A1", order, "L0").state == "credited"
    assert refused(lambda: give_back(rich, "A1", order, "L1")).extra["value"] == 1


def test_only_what_was_paid_comes_back_and_only_to_its_buyer(rich: Any) -> None:
    order = buy(rich, "A1", "L0")
    held = rich.hold("A1", "L1")
    waits = pay_by_card(
        rich.engine, rich.payments, "A1", [held.hold_id], "pm_card_authenticationRequired", rich.now
    )
    assert refused(lambda: give_back(rich, "A1", waits.order_id, "L1")).kind == "not-paid"
    for who, which, lead in (("A2", order, "L0"), ("A1", order, "L5"), ("A1", "ord_x", "L0")):
        with pytest.raises(UnknownName):
            give_back(rich, who, which, lead)
    with pytest.raises(UnknownName):
        returns.of_order(rich.engine, "A2", order)


@pytest.mark.parametrize(("reason", "evidence"), [("too dear", "x"), ("duplicate", "  ")])
def test_a_return_needs_a_reason_of_the_list_and_a_word(
    rich: Any, reason: str, evidence: str
) -> None:
    order = buy(rich, "A1", "L0")
    with pytest.raises(InvalidInput):
        returns.ask(rich.engine, "A1", order, "L0", reason, evidence, rich.now)


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_a_credit_that_is_missing_is_found(shop: Any) -> None:
    shop.add_leads("L0")
    shop.fill_wallet("A1", 50_000)
    made = give_back(shop, "A1", buy(shop, "A1", "L0"), "L0")
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("drop trigger entry_no_delete")
        connection.execute(delete(entry).where(entry.c.txn_id == f"return:{made.return_id}"))
    assert invariants.check(shop.engine)["S5"].offenders == (made.return_id,)


@pytest.mark.parametrize(
    "change",
    [
        {"window_days": 0},
        {"share_per_month": 1.5},
        {"most_per_month": "many"},
        {"reasons": {}},
        {"reasons": {"x": {"about": "", "decide": "nobody", "ends_lead": False}}},
        {"reasons": {"x": {"about": "y", "decide": "rule", "ends_lead": "false"}}},
        {"reasons": {"x": {"about": "y", "decide": "rule", "ends_lead": True, "colour": 1}}},
        {"window_days": 7.9},
        {"window_days": "7"},
        {"most_per_month": True},
        {"colour": 1},
    ],
)
def test_rules_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    path = Path(returns.__file__).with_name("returns.toml")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(InvalidInput, match=r"returns\.toml"):
        Rules.parse({**raw, **change})
