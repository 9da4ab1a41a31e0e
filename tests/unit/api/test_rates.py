from __future__ import annotations

from typing import Any

from aiqleads.domain import ENTITLEMENTS, Tier
from aiqleads.store import agents

BASIC = ENTITLEMENTS[Tier.BASIC].requests_per_minute


def of_tier(shop: Any, tier: Tier) -> str:
    return next(
        each.agent_id for each in agents.all_agents(shop.state.commerce) if each.tier is tier
    )


def statuses(shop: Any, count: int, **who: Any) -> list[int]:
    return [shop.ask("GET", "/v1/wallet", **who).status_code for _ in range(count)]


def test_a_key_beyond_its_tiers_requests_a_minute_is_told_when_it_may_again(shop: Any) -> None:
    who = of_tier(shop, Tier.BASIC)
    assert set(statuses(shop, BASIC, agent=who)) == {200}
    told = shop.ask("GET", "/v1/wallet", agent=who)
    assert (told.status_code, told.json()["type"].rsplit("/", 1)[1]) == (429, "rate-limited")
    body = told.json()
    assert (body["limit"], body["value"], body["used"]) == ("requests_per_minute", BASIC, BASIC)
    assert 1 <= body["retry_after"] <= 60
    assert told.headers["Retry-After"] == str(body["retry_after"])


def test_keys_and_tiers_are_counted_apart_and_operators_not_at_all(shop: Any) -> None:
    who = of_tier(shop, Tier.BASIC)
    statuses(shop, BASIC + 1, agent=who)
    assert statuses(shop, 1, agent=who) == [429]
    assert statuses(shop, 1, key=shop.key(who)) == [200]
    assert set(statuses(shop, BASIC + 1, agent=of_tier(shop, Tier.PRO))) == {200}
    asked = [shop.ask("GET", "/v1/admin/audit", agent=None) for _ in range(BASIC + 1)]
    assert {each.status_code for each in asked} == {200}


def test_a_refused_write_does_nothing_and_may_be_sent_again(shop: Any) -> None:
    who = of_tier(shop, Tier.BASIC)
    lead = shop.lead(max_buyers=2)
    statuses(shop, BASIC, agent=who)
    assert shop.hold(who, lead).status_code == 429
    fresh = shop.key(who)
    assert shop.ask("GET", "/v1/cart", key=fresh).json()["holds"] == []


def test_a_load_test_may_switch_it_off(shop: Any) -> None:
    shop.state.settings = shop.state.settings.model_copy(update={"rate_limits": False})
    assert set(statuses(shop, BASIC + 1, agent=of_tier(shop, Tier.BASIC))) == {200}
