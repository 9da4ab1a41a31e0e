from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from aiqleads.contracts import series_feed
from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.ingest.market import Market, Unit, load_market, remember_market, remembered_crs
from aiqleads.settings import Settings

Make = Callable[[str], Market]


def test_the_sample_is_a_market_like_any_other(home: Settings) -> None:
    lucas = load_market("lucas", home)
    assert lucas.sales is not None
    assert lucas.sales.path is not None
    assert lucas.sales.path.is_file()
    # 1998-01-01 00:00 in New York is 05:00 UTC.
    assert lucas.as_of_us == 883_630_800_000_000
    read = {lucas.sales.columns[name] for name in lucas.sales.columns}
    assert not read & {"avalue", "age", "syear", "s1993", "s1998"}


def test_an_unknown_name_lists_the_known_ones(home: Settings) -> None:
    with pytest.raises(UnknownName, match=r"no market 'atlantis'; known: .*lucas"):
        load_market("atlantis", home)


def test_a_market_of_the_home_comes_before_the_checkout_s(home: Settings, tiny_toml: str) -> None:
    folder = home.data / "sample"
    folder.mkdir(parents=True)
    (folder / "lucas.toml").write_text(tiny_toml.replace("tiny", "lucas"))
    assert load_market("lucas", home).title == "A small town"


def test_an_ingested_market_is_known_by_its_name(home: Settings, tiny: Market) -> None:
    assert remembered_crs(home, "tiny") is None
    remember_market(home, tiny)
    assert load_market("tiny", home) == tiny
    assert remembered_crs(home, "tiny") == "EPSG:32617"
    with pytest.raises(UnknownName, match="tiny"):
        load_market("other", home)


def test_paths_are_seen_from_the_file(make_market: Make, tiny_toml: str, tmp_path: Path) -> None:
    text = tiny_toml.replace("[sales]", '[sales]\npath = "feed/a.csv"')
    market = make_market(text + '[regions]\npath = "zips.geojson"\nid = "zip"\n')
    assert market.sales is not None
    assert market.sales.path == tmp_path / "feed" / "a.csv"
    assert market.regions is not None
    assert market.regions.path == tmp_path / "zips.geojson"


def test_a_live_market_has_no_clock_of_its_own(tiny: Market) -> None:
    assert tiny.clock == "wall"
    assert tiny.as_of_us is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('timezone = "America/New_York"', 'timezone = "Mars/Olympus"', "unknown timezone"),
        ('name = "tiny"', 'name = "Tiny Town"', "name: "),
        ('name = "tiny"', 'name = "tiny"\nclock = "frozen"', r"needs \[split\]"),
        ('price = "price"', 'cost = "price"', "knows no cost"),
        ('lon = "x"\n', "", "needs lon"),
        ('date_format = "%Y-%m-%d"', "", "come together"),
        ('sold = "day"\n', "", "come together"),
        ("[sales.missing]\nbeds", "[sales.missing]\nbedrooms", "knows no bedrooms"),
        ("[sales.missing]", '[sales.units]\nliving_area = "ells"\n[sales.missing]', "'ells'"),
        ("[sales.missing]", '[sales.units]\nbeds = "sqm"\n[sales.missing]', "known: none"),
        ("[sales.missing]", "[leads]\nlag_days = [20, 90]\n[sales.missing]", "after its sale"),
        ("[sales.missing]", "[leads]\nmax_buyers = [1, 1, 1]\n[sales.missing]", "add up to 1"),
        ("[sales.missing]", "[leads]\nbuyer_share = 2\n[sales.missing]", "leads.buyer_share"),
        ("[sales.missing]", "[colour]\nred = 1\n[sales.missing]", "colour"),
        (
            "[sales.missing]",
            "[split]\ntrain_until = 1996-12-31\nvalidate_until = 1996-12-31\n[sales.missing]",
            "before validate_until",
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_fault(
    make_market: Make, tiny_toml: str, old: str, new: str, said: str
) -> None:
    assert old in tiny_toml
    with pytest.raises(InvalidInput, match=said) as caught:
        make_market(tiny_toml.replace(old, new))
    assert "\n" not in caught.value.detail


def test_a_feed_without_dates_needs_a_window(make_market: Make, tiny_toml: str) -> None:
    text = tiny_toml.replace('date_format = "%Y-%m-%d"', "").replace('sold = "day"\n', "")
    with pytest.raises(InvalidInput, match="received_from"):
        make_market(text)


@pytest.mark.parametrize("body", [b"name = ", b"\xff\xfe"])
def test_what_is_no_toml_is_refused(tmp_path: Path, home: Settings, body: bytes) -> None:
    path = tmp_path / "market.toml"
    path.write_bytes(body)
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_market(path, home)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, home: Settings) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_market(tmp_path / "none.toml", home)


MAPPED = """
name = "town"
title = "A town"
timezone = "America/New_York"
state = "NY"
[leads]
stand_in = false
[listings]
path = "listings.csv"
[listings.columns]
key = "id"
price = "price"
[listings.constants]
offer = "rent"
[people]
rights = "analyse"
nothing = ["Select"]
[people.columns]
key = ["office", "id"]
[people.constants]
intent = "buy"
[series]
path = "series.csv"
region = "city"
region_type = "metro"
period = ["year", "month"]
date_format = "%Y %m"
frequency = "month"
[series.metrics]
sales = { metric = "homes_sold", unit = "homes" }
"""


def test_a_market_may_map_tables_of_other_kinds(
    make_market: Make, home: Settings, tmp_path: Path
) -> None:
    market = make_market(MAPPED)
    assert market.sales is None
    assert not market.leads.stand_in
    assert market.listings is not None
    assert market.listings.path == tmp_path / "listings.csv"
    assert market.people is not None
    assert market.people.rights == "analyse"
    assert market.series is not None
    assert market.series.path == tmp_path / "series.csv"
    remember_market(home, market)
    assert load_market("town", home) == market


def test_sales_without_dates_need_no_window_when_nothing_is_invented(
    make_market: Make, tiny_toml: str
) -> None:
    text = tiny_toml.replace('date_format = "%Y-%m-%d"', "").replace('sold = "day"\n', "")
    market = make_market(text + "[leads]\nstand_in = false\n")
    assert market.leads.stand_in is False


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('price = "price"', 'cost = "price"', r"\[listings.columns\] knows no cost"),
        ('key = "id"\n', "", r"\[listings.columns\] needs key"),
        ('offer = "rent"', 'price = 1\noffer = "rent"', "price as column and as constant"),
        ('intent = "buy"', 'mood = "good"', r"\[people.constants\] knows no mood"),
        ('intent = "buy"', "", r"\[people.columns\] needs intent"),
        ("[people]", '[listings.units]\nprice = "eur"\n[people]', "unknown unit 'eur'"),
        ("[people]", "[listings.values.mood]\na = 'b'\n[people]", "values. knows no mood"),
        ('"analyse"', '"resell"', "people.rights"),
        ('frequency = "month"', 'frequency = "moon"', "series.frequency"),
        ('unit = "homes"', 'unit = "ells"', "series.metrics.sales.unit"),
        ('sales = { metric = "homes_sold", unit = "homes" }', "", "series.metrics"),
        ('state = "NY"', 'state = "New York"', "state: "),
    ],
)
def test_a_wrong_map_is_one_line_that_names_the_fault(
    make_market: Make, old: str, new: str, said: str
) -> None:
    assert old in MAPPED
    with pytest.raises(InvalidInput, match=said) as caught:
        make_market(MAPPED.replace(old, new, 1))
    assert "\n" not in caught.value.detail


def test_units_of_series_are_those_of_their_contract() -> None:
    (unit,) = (each for each in series_feed.PROMISES if each.name == "unit")
    assert get_args(Unit) == unit.among


@pytest.mark.parametrize(
    "name",
    ["austin", "fort_worth", "houston", "los_angeles", "renthop", "texas", "x_education"],
)
def test_every_market_of_the_tests_can_be_loaded(
    named_market: Callable[[str], Market], name: str
) -> None:
    assert named_market(name).name == name
