"""Wallets that top themselves up."""

from __future__ import annotations

import pytest

from aiqleads.commerce import recharge, returns, wallet
from aiqleads.commerce.reconcile import sweep
from aiqleads.errors import InvalidInput, UnknownName

DAY = 24 * 60


def rule(below=1_000, amount=5_000, most=10_000, card="pm_card_visa") -> recharge.Rule:
    return recharge.Rule(below, amount, most, card)


def run(shop) -> int:
    return recharge.run(shop.engine, shop.payments, shop.now)


def test_a_low_wallet_is_filled_once(shop) -> None:
    recharge.put(shop.engine, "A1", rule())
    assert run(shop) == 1
    assert wallet.balance(shop.engine, "A1") == 5_000
    assert run(shop) == 0
    assert wallet.balance(shop.engine, "A2") == 0
    shop.assert_sound()


def test_a_purchase_may_need_more_than_the_level(shop) -> None:
    recharge.put(shop.engine, "A1", rule())
    shop.fill_wallet("A1", 2_000)
    ask = lambda cents: recharge.recharge(  # noqa: E731
        shop.engine, shop.payments, "A1", shop.now, needed_cents=cents
    )
    assert not ask(2_000)
    assert ask(2_001)
    assert wallet.balance(shop.engine, "A1") == 7_000


def test_a_day_has_a_ceiling_that_moves_on(shop) -> None:
    recharge.put(shop.engine, "A1", rule(below=100_000))
    assert [run(shop) for _ in range(4)] == [1, 1, 0, 0]
    assert wallet.balance(shop.engine, "A1") == 10_000
    back = recharge.held_back(shop.engine, "A1", shop.now)
    assert back == {
        "limit": "recharge_daily_cents",
        "value": 10_000,
        "used": 10_000,
        "retry_after": 24 * 3600,
    }
    shop.later(DAY - 1)
    assert run(shop) == 0
    shop.now += recharge.held_back(shop.engine, "A1", shop.now)["retry_after"] * 1_000_000
    assert recharge.held_back(shop.engine, "A1", shop.now) == {}
    assert run(shop) == 1


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_authenticationRequired", "authentication_required"),
    ],
)
def test_a_refused_card_pauses_the_rule_and_tells_the_agent(shop, card: str, why: str) -> None:
    recharge.put(shop.engine, "A1", rule(card=card))
    assert run(shop) == 0
    assert recharge.get(shop.engine, "A1").paused == why
    assert recharge.held_back(shop.engine, "A1", shop.now) == {"paused": why}
    told = returns.notices(shop.engine, "A1")
    assert [(each.kind, why in each.detail) for each in told] == [("recharge-paused", True)]
    seen = len(shop.standin.intents())
    assert run(shop) == 0
    assert len(shop.standin.intents()) == seen
    recharge.put(shop.engine, "A1", rule())
    assert run(shop) == 1
    shop.assert_sound()


def test_an_unknown_outcome_is_not_asked_for_twice(shop, line) -> None:
    recharge.put(shop.engine, "A1", rule())
    line.faults = ["lost after"] * 30
    assert run(shop) == 0
    assert run(shop) == 0
    line.faults = []
    sweep(shop.engine, shop.payments, shop.now)
    assert wallet.balance(shop.engine, "A1") == 5_000
    assert len(shop.standin.intents()) == 1
    shop.assert_sound()


def test_a_rule_can_be_read_dropped_and_must_make_sense(shop) -> None:
    with pytest.raises(UnknownName):
        recharge.get(shop.engine, "A1")
    recharge.put(shop.engine, "A1", rule())
    assert recharge.get(shop.engine, "A1") == rule()
    recharge.drop(shop.engine, "A1")
    recharge.drop(shop.engine, "A1")
    assert run(shop) == 0
    for wrong in (rule(below=0), rule(amount=499), rule(most=4_999)):
        with pytest.raises(InvalidInput):
            recharge.put(shop.engine, "A1", wrong)
