"""Holds: who gets a slot, for how long, and what a refusal tells."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select

from aiqleads.commerce import availability, slots
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.holds import cart, place, release
from aiqleads.domain import ENTITLEMENTS, Tier
from aiqleads.errors import AIQLeadsError, InvalidInput, Refused, UnknownName
from aiqleads.store.tables import hold_item, lead_slot

MINUTE = 60_000_000


def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def test_a_hold_keeps_the_lead_and_its_price(shop) -> None:
    shop.add_leads("L1", "L2")
    held = shop.hold("A1", "L2", "L1", cents=4_200)
    assert [item.lead_id for item in held.items] == ["L1", "L2"]
    assert held.total_cents == 8_400
    assert held.expires_us - shop.now == ENTITLEMENTS[Tier.PRO].hold_minutes * 60_000_000
    kept = cart(shop.engine, "A1", shop.now)
    assert kept.holds == (held,)
    assert kept.total_cents == 8_400
    assert kept.holds[0].items[0].price_lines[0]["name"] == "base"
    assert cart(shop.engine, "A2", shop.now).holds == ()


def test_a_held_lead_is_refused_with_the_seconds_to_wait(shop) -> None:
    shop.add_leads("L1")
    shop.hold("A1", "L1")
    shop.later(10)
    no = refused(lambda: shop.hold("A2", "L1"))
    assert (no.kind, no.status, no.extra["retry_after"]) == ("lead-already-held", 409, 50 * 60)
    mine = refused(lambda: shop.hold("A1", "L1"))
    assert mine.kind == "lead-already-held"
    assert mine.extra["yours"]


def test_a_lead_has_as_many_places_as_buyers(shop) -> None:
    shop.add_leads("L1", buyers=2)
    shop.add_agent("A3")
    assert shop.hold("A1", "L1").items[0].slot == 1
    assert shop.hold("A2", "L1").items[0].slot == 2
    assert refused(lambda: shop.hold("A3", "L1")).kind == "lead-already-held"
    shop.assert_sound()


def test_slots_are_made_once(shop) -> None:
    assert slots.ensure(shop.engine, [("L1", 2), ("L2", 1)]) == 2
    assert slots.ensure(shop.engine, [("L1", 3), ("L3", 1)]) == 1
    assert availability.slots_left(shop.engine, ["L1", "L2", "L9"], shop.now) == {"L1": 2, "L2": 1}
    with pytest.raises(InvalidInput, match="max_buyers"):
        slots.ensure(shop.engine, [("L4", 0)])


def test_expiry_needs_no_sweeper_and_the_token_rises(shop) -> None:
    shop.add_leads("L1")
    first = shop.hold("A1", "L1")
    shop.now = first.expires_us - 1
    assert refused(lambda: shop.hold("A2", "L1")).extra["retry_after"] == 1
    assert availability.unavailable(shop.engine, None, shop.now, "A2") == {"L1"}
    shop.now = first.expires_us
    assert cart(shop.engine, "A1", shop.now).holds == ()
    assert availability.unavailable(shop.engine, ["L1"], shop.now, "A2") == set()
    second = shop.hold("A2", "L1")
    assert second.items[0].token == first.items[0].token + 1
    with shop.engine.connect() as connection:
        ended = connection.execute(
            select(hold_item.c.ended_how, hold_item.c.ended_us).where(
                hold_item.c.hold_id == first.hold_id
            )
        ).one()
    assert tuple(ended) == ("expired", first.expires_us)
    shop.assert_sound()


def test_an_own_expired_row_is_taken_before_a_free_slot(shop) -> None:
    shop.add_leads("L1", buyers=2)
    other = shop.hold("A2", "L1")
    shop.add_agent("B", "enterprise")
    held = place(
        shop.engine, "B", [shop.line("L1", ends_us=shop.now + 9 * MINUTE)], "all_or_nothing",
        shop.now,
    )  # fmt: skip
    assert held.items[0].slot == 2
    shop.later(45)
    release(shop.engine, "A2", other.hold_id, shop.now)
    assert shop.hold("B", "L1").items[0].slot == 2  # slot 1 is as free, but not its own
    shop.assert_sound()


def test_a_lead_is_let_be_after_a_hold(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    shop.later(10)
    release(shop.engine, "A1", held.hold_id, shop.now)
    shop.later(20)
    no = refused(lambda: shop.hold("A1", "L1"))
    assert (no.kind, no.status, no.extra["retry_after"]) == ("hold-cooldown", 409, 10 * 60)
    assert (no.extra["limit"], no.extra["value"], no.extra["used"]) == ("cool_down_minutes", 30, 20)
    assert availability.unavailable(shop.engine, ["L1"], shop.now, "A1") == {"L1"}
    assert availability.unavailable(shop.engine, ["L1"], shop.now, "A2") == set()
    shop.later(10)
    assert availability.unavailable(shop.engine, ["L1"], shop.now, "A1") == set()
    again = shop.hold("A1", "L1")
    assert again.expires_us - shop.now == 50 * MINUTE  # of the 60, 10 are used
    shop.assert_sound()


def test_a_lead_is_held_no_longer_than_the_tier_allows_in_sum(shop) -> None:
    shop.add_leads("L1")
    shop.hold("A1", "L1")
    shop.later(24 * 60)
    no = refused(lambda: shop.hold("A1", "L1"))
    assert (no.kind, no.status) == ("hold-time-used", 409)
    assert (no.extra["limit"], no.extra["value"], no.extra["used"]) == ("hold_minutes", 60, 60)
    assert "retry_after" not in no.extra
    assert shop.hold("A2", "L1")
    shop.assert_sound()


def test_a_hold_never_outlives_its_lead(shop) -> None:
    shop.add_leads("L1", "L2")
    lines = [shop.line("L1", ends_us=shop.now + 7 * MINUTE), shop.line("L2")]
    held = place(shop.engine, "A1", lines, "all_or_nothing", shop.now)
    assert [item.expires_us - shop.now for item in held.items] == [7 * MINUTE, 60 * MINUTE]
    assert held.expires_us == shop.now + 7 * MINUTE
    shop.later(7)
    assert [i.lead_id for h in cart(shop.engine, "A1", shop.now).holds for i in h.items] == ["L2"]
    over = [shop.line("L1", ends_us=shop.now)]
    no = refused(lambda: place(shop.engine, "A2", over, "all_or_nothing", shop.now))
    assert (no.kind, no.status) == ("lead-expired", 409)
    shop.assert_sound()


def test_a_hold_that_would_be_over_when_it_begins_is_refused(shop) -> None:
    """The slot was given back by a client whose clock is ahead of this one's."""
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    release(shop.engine, "A1", held.hold_id, shop.now + 2 * MINUTE)
    over = [shop.line("L1", ends_us=shop.now + 2 * MINUTE)]
    no = refused(lambda: place(shop.engine, "A2", over, "all_or_nothing", shop.now))
    assert no.kind == "lead-expired"
    lines = [shop.line("L1", ends_us=shop.now + 2 * MINUTE + 1)]
    (item,) = place(shop.engine, "A2", lines, "all_or_nothing", shop.now).items
    assert item.expires_us - item.granted_us == 1


def test_an_agent_holds_a_lead_again_whichever_slots_it_had(shop) -> None:
    """Its first hold was of the second slot; its exclusive one is held in the first."""
    shop.add_leads("L1", buyers=2)
    for who in ("A2", "A1"):
        short = [shop.line("L1", ends_us=shop.now + MINUTE)]
        place(shop.engine, who, short, "all_or_nothing", shop.now)
    shop.later(40)
    short = [shop.line("L1", ends_us=shop.now + MINUTE)]
    (item,) = place(shop.engine, "A1", short, "all_or_nothing", shop.now, exclusive=True).items
    assert item.slot == 1
    shop.later(40)
    assert len(shop.hold("A1", "L1").items) == 1
    shop.assert_sound()


def states(shop, lead_id: str) -> list[str]:
    with shop.engine.connect() as connection:
        query = select(lead_slot.c.state).where(lead_slot.c.lead_id == lead_id)
        return list(connection.execute(query.order_by(lead_slot.c.slot)).scalars())


def exclusive(shop, who: str, *leads: str):
    lines = [shop.line(lead_id) for lead_id in leads]
    return place(shop.engine, who, lines, "all_or_nothing", shop.now, exclusive=True)


def test_an_exclusive_hold_keeps_every_slot_and_gives_every_slot_back(shop) -> None:
    shop.add_leads("L1", buyers=3)
    held = exclusive(shop, "A1", "L1")
    assert held.exclusive
    assert cart(shop.engine, "A1", shop.now).holds == (held,)
    assert states(shop, "L1") == ["held", "blocked", "blocked"]
    assert refused(lambda: shop.hold("A2", "L1")).extra["retry_after"] == 60 * 60
    assert availability.unavailable(shop.engine, None, shop.now, "A2") == {"L1"}
    assert release(shop.engine, "A1", held.hold_id, shop.now) == 1
    assert states(shop, "L1") == ["free", "free", "free"]
    shop.hold("A2", "L1")
    shop.assert_sound()


def test_an_exclusive_hold_ends_with_its_time(shop) -> None:
    shop.add_leads("L1", buyers=2)
    shop.add_agent("A3")
    exclusive(shop, "A1", "L1")
    shop.later(60)
    assert availability.slots_left(shop.engine, ["L1"], shop.now) == {"L1": 2}
    shop.hold("A2", "L1")
    shop.hold("A3", "L1")
    assert states(shop, "L1") == ["held", "held"]
    shop.assert_sound()


def test_an_exclusive_hold_needs_every_slot(shop) -> None:
    shop.add_leads("L1", "L2", buyers=2)
    first = shop.hold("A2", "L1")
    no = refused(lambda: exclusive(shop, "A1", "L1"))
    assert (no.kind, no.extra["retry_after"]) == ("lead-already-held", 60 * 60)
    shop.fill_wallet("A2", 100_000)
    pay_by_wallet(shop.engine, "A2", [first.hold_id], shop.now)
    assert refused(lambda: exclusive(shop, "A1", "L1")).kind == "lead-sold"
    assert shop.hold("A1", "L1").items[0].slot == 2  # it can be shared still
    shop.assert_sound()


def test_an_exclusive_sale_closes_what_it_kept_empty(shop) -> None:
    shop.add_leads("L1", buyers=3)
    shop.fill_wallet("A1", 100_000)
    held = exclusive(shop, "A1", "L1")
    pay_by_wallet(shop.engine, "A1", [held.hold_id], shop.now)
    assert states(shop, "L1") == ["sold", "closed", "closed"]
    assert refused(lambda: shop.hold("A2", "L1")).kind == "lead-sold"
    shop.assert_sound()


def test_a_card_payment_extends_an_exclusive_hold_as_a_whole(shop) -> None:
    shop.add_leads("L1", buyers=2)
    held = exclusive(shop, "A1", "L1")
    shop.later(59)
    order = pay_by_card(
        shop.engine, shop.payments, "A1", [held.hold_id], "pm_card_authenticationRequired", shop.now
    )
    assert order.state == "requires_action"
    shop.later(10)
    assert availability.unavailable(shop.engine, None, shop.now, "A2") == {"L1"}
    shop.assert_sound()


def test_a_lead_that_is_taken_off_the_market_ends_its_holds(shop) -> None:
    shop.add_leads("L1", buyers=3)
    shop.add_agent("A3")
    sold, held = shop.hold("A1", "L1"), shop.hold("A2", "L1")
    shop.fill_wallet("A1", 100_000)
    pay_by_wallet(shop.engine, "A1", [sold.hold_id], shop.now)
    shop.later(3)
    assert slots.close(shop.engine, "L1", shop.now) == ["A2"]
    assert states(shop, "L1") == ["sold", "closed", "closed"]
    assert cart(shop.engine, "A2", shop.now).holds == ()
    assert refused(lambda: shop.hold("A3", "L1")).kind == "lead-sold"
    assert slots.close(shop.engine, "L1", shop.now) == []
    with shop.engine.connect() as connection:
        how = select(hold_item.c.ended_how).where(hold_item.c.hold_id == held.hold_id)
        assert connection.execute(how).scalar_one() == "closed"
    shop.assert_sound()


def test_a_release_frees_the_slot_at_once(shop) -> None:
    shop.add_leads("L1", "L2")
    held = shop.hold("A1", "L1", "L2")
    assert release(shop.engine, "A1", held.hold_id, shop.now, lead_id="L1") == 1
    assert [i.lead_id for h in cart(shop.engine, "A1", shop.now).holds for i in h.items] == ["L2"]
    assert shop.hold("A2", "L1")
    # Who asks again, because no answer came, is told the same.
    assert [release(shop.engine, "A1", held.hold_id, shop.now) for _ in range(2)] == [2, 2]
    assert release(shop.engine, "A1", held.hold_id, shop.now, lead_id="L1") == 1
    shop.assert_sound()


def test_what_was_bought_or_ran_out_was_not_given_back(shop) -> None:
    shop.fill_wallet("A1", 20_000)
    shop.add_leads("L1", "L2", "L3")
    bought, over = shop.hold("A1", "L1"), shop.hold("A1", "L2", "L3")
    pay_by_wallet(shop.engine, "A1", [bought.hold_id], shop.now)
    assert release(shop.engine, "A1", over.hold_id, shop.now, lead_id="L3") == 1
    shop.later(61)
    assert release(shop.engine, "A1", bought.hold_id, shop.now) == 0
    assert release(shop.engine, "A1", over.hold_id, shop.now) == 1
    assert release(shop.engine, "A1", over.hold_id, shop.now, lead_id="L2") == 0


def test_only_its_holder_releases_a_hold(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    with pytest.raises(UnknownName):
        release(shop.engine, "A2", held.hold_id, shop.now)
    with pytest.raises(UnknownName):
        release(shop.engine, "A1", held.hold_id, shop.now, lead_id="L7")
    with pytest.raises(UnknownName):
        release(shop.engine, "A1", "hld_none", shop.now)


def test_a_clock_that_is_behind_does_not_make_grants_overlap(shop) -> None:
    shop.add_leads("L1")
    held = shop.hold("A1", "L1")
    shop.later(5)
    release(shop.engine, "A1", held.hold_id, shop.now)
    released_at = shop.now
    shop.later(-2)  # another worker, whose request waited for the lock
    assert shop.hold("A2", "L1").items[0].granted_us == released_at
    shop.assert_sound()


def test_all_or_nothing_holds_nothing_on_a_conflict(shop) -> None:
    shop.add_leads("L1", "L2", "L3")
    shop.hold("A2", "L2")
    no = refused(lambda: shop.hold("A1", "L1", "L2", "L9"))
    assert no.kind == "bulk-conflict"
    assert [(i["lead_id"], i["kind"]) for i in no.extra["items"]] == [
        ("L2", "lead-already-held"),
        ("L9", "not-found"),
    ]
    assert cart(shop.engine, "A1", shop.now).holds == ()
    shop.assert_sound()


def test_best_effort_holds_what_it_can(shop) -> None:
    shop.add_leads("L1", "L2", "L3")
    shop.hold("A2", "L2")
    held = shop.hold("A1", "L1", "L2", "L3", mode="best_effort")
    assert [item.lead_id for item in held.items] == ["L1", "L3"]
    assert [(r["lead_id"], r["kind"]) for r in held.refused] == [("L2", "lead-already-held")]
    no = refused(lambda: shop.hold("A1", "L2", "L1", mode="best_effort"))
    assert no.kind == "bulk-conflict"
    assert refused(lambda: shop.hold("A1", "L2", mode="best_effort")).kind == "lead-already-held"


def test_the_tier_limits_live_holds_and_the_refusal_says_what_fits(shop) -> None:
    shop.add_agent("B", tier="basic")
    leads = [f"L{i:02}" for i in range(14)]
    shop.add_leads(*leads)
    shop.hold("B", *leads[:4])
    shop.later(1)
    shop.hold("B", *leads[4:8])
    no = refused(lambda: shop.hold("B", *leads[8:12]))
    assert (no.kind, no.status) == ("hold-limit-reached", 403)
    assert {k: no.extra[k] for k in ("limit", "value", "used", "fits", "retry_after")} == {
        "limit": "live_holds",
        "value": 10,
        "used": 8,
        "fits": 2,
        "retry_after": 14 * 60,
    }
    part = shop.hold("B", *leads[8:12], mode="best_effort")
    assert len(part.items) == 2
    assert {(r["kind"], r["retry_after"]) for r in part.refused} == {
        ("hold-limit-reached", 14 * 60)
    }
    # Five more fit when not only the first four have ended, which is a minute later.
    assert refused(lambda: shop.hold("B", *leads[9:14])).extra["retry_after"] == 15 * 60
    assert refused(lambda: shop.hold("B", "L13", mode="best_effort")).kind == "hold-limit-reached"
    shop.assert_sound()
    shop.later(14)  # the first four have expired
    assert len(shop.hold("B", *leads[11:13]).items) == 2


def test_the_tier_limits_leads_per_call(shop) -> None:
    shop.add_agent("B", tier="basic")
    leads = [f"L{i}" for i in range(6)]
    shop.add_leads(*leads)
    no = refused(lambda: shop.hold("B", *leads))
    assert (no.extra["limit"], no.extra["fits"]) == ("bulk", 5)


def test_the_same_key_is_the_same_hold(shop) -> None:
    shop.add_leads("L1")
    lines = [shop.line("L1")]
    first = place(shop.engine, "A1", lines, "all_or_nothing", shop.now, key="k")
    shop.later(1)
    assert place(shop.engine, "A1", lines, "all_or_nothing", shop.now, key="k") == first
    assert (
        refused(lambda: place(shop.engine, "A2", lines, "all_or_nothing", shop.now, key="k")).kind
        == "lead-already-held"
    )


@pytest.mark.parametrize(
    ("leads", "mode", "cents"),
    [([], "all_or_nothing", 1), (["L1", "L1"], "all_or_nothing", 1), (["L1"], "some", 1),
     (["L1"], "all_or_nothing", 0)],
)  # fmt: skip
def test_an_unusable_request_is_refused(shop, leads: list[str], mode: str, cents: int) -> None:
    shop.add_leads("L1")
    with pytest.raises(InvalidInput):
        shop.hold("A1", *leads, mode=mode, cents=cents)


def test_strangers_and_unknown_leads(shop) -> None:
    shop.add_leads("L1")
    with pytest.raises(UnknownName, match="no agent"):
        shop.hold("Z9", "L1")
    with pytest.raises(UnknownName, match="no lead"):
        shop.hold("A1", "L404")


def test_a_closed_lead_is_sold_to_nobody(shop) -> None:
    shop.add_leads("L1")
    with shop.engine.begin() as connection:
        connection.execute(lead_slot.update().values(state="closed"))
    assert refused(lambda: shop.hold("A1", "L1")).kind == "lead-sold"
    assert availability.unavailable(shop.engine, None, shop.now) == {"L1"}


def test_availability_leaves_out_what_the_agent_has(shop) -> None:
    shop.add_leads("L1", "L2", buyers=3)
    shop.hold("A1", "L1")
    assert availability.unavailable(shop.engine, ["L1", "L2"], shop.now, "A1") == {"L1"}
    assert availability.unavailable(shop.engine, ["L2"], shop.now, "A1") == set()
    assert availability.unavailable(shop.engine, None, shop.now, "A2") == set()


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_a_busy_database_is_a_503(shop) -> None:
    shop.add_leads("L1")

    @event.listens_for(shop.engine, "checkout")
    def _impatient(connection, _record, _proxy) -> None:
        connection.execute("pragma busy_timeout=20")

    with shop.engine.begin(), pytest.raises(AIQLeadsError) as caught:
        shop.hold("A1", "L1")
    assert (caught.value.kind, caught.value.status) == ("busy", 503)
    assert caught.value.extra["retry_after"] == 1
    assert shop.hold("A1", "L1")


def test_a_call_may_name_as_many_leads_as_the_tier_says(shop) -> None:
    shop.add_agent("B1", "basic")
    names = [f"L{n}" for n in range(ENTITLEMENTS[Tier.BASIC].bulk)]
    shop.add_leads(*names)
    assert len(shop.hold("B1", *names).items) == len(names)
