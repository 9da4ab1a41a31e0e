"""Source jsonld: pages of one home by their schema.org data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.contracts.listing_feed import feed_schema
from aiqleads.contracts.promise import failures
from aiqleads.ingest import markup
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import Market
from aiqleads.ingest.markup import same_address
from aiqleads.ingest.payload import open_payload, payload_of
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import jsonld

FEEDS = Path(__file__).resolve().parents[2] / "data" / "feeds" / "jsonld"
FEED = Feed(Market(name="toledo", title="Toledo", timezone="America/New_York"))
OWN = "https://homes.example.com/1"
HOME = {
    "@type": "House",
    "url": OWN,
    "address": {"streetAddress": "1 Elm St", "addressRegion": "OH", "postalCode": "43604"},
}


def parse_html(html: str) -> Parsed:
    (chunk,) = payload_of(html.encode(), "page").chunks()
    return jsonld.parse(chunk, FEED)


def page(*blocks: object, own: str | None = None) -> Parsed:
    scripts = "".join(
        f'<script type="application/ld+json">{json.dumps(each)}</script>' for each in blocks
    )
    link = f'<link rel="canonical" href="{own}">' if own else ""
    return parse_html(f"<!doctype html><html><head>{link}{scripts}</head><body></body></html>")


def fixture(name: str) -> Parsed:
    (chunk,) = open_payload(FEEDS / name).chunks()
    return jsonld.parse(chunk, FEED)


def test_a_graph_of_listing_home_and_offer() -> None:
    parsed = fixture("graph.html")
    row = parsed.rows.iloc[0]
    assert row.key == row.url == "https://byowner.example.com/homes/wren-house"
    assert (row.status, row.offer, row.list_price_cents) == ("Active", "sale", 289_900_00)
    assert row.property_type == "Single Family Residence"
    assert (row.address, row.unit, row.city, row.state, row.zip) == (
        "12 Wren Way",
        "5",
        "Toledo",
        "OH",
        "43615",
    )
    assert (row.beds, row.baths, row.year_built) == (3, 1.5, 1962)
    assert row.living_area_sqft == pytest.approx(150 * 10.7639104167)
    assert row.lot_area_sqft == 21_780
    assert (row.lon, row.lat) == (-83.66, 41.68)
    assert row.listed == pd.Timestamp("2026-03-05")
    assert row.modified_us == 1_772_809_200_000_000
    assert parsed.problems.empty
    assert failures(parsed.rows, feed_schema()).empty


def test_a_messy_page_of_a_home_and_a_yard_sign() -> None:
    parsed = fixture("messy.html")
    row = parsed.rows.iloc[0]
    assert (row.key, row.offer, row.list_price_cents) == ("FS-77", "rent", 1_150_00)
    assert (row.status, row.state, row.zip) == ("Closed", "OH", "43612")
    assert failures(parsed.rows, feed_schema()).empty


def test_microdata_where_there_is_no_json() -> None:
    row = fixture("microdata.html").rows.iloc[0]
    assert (row.address, row.beds, row.list_price_cents) == ("3 Siskin St", 2, 99_000_00)
    assert row.key == "https://byowner.example.com/homes/siskin"


@pytest.mark.parametrize(
    "html",
    [
        "<?xml version='1.0' encoding='utf-16'?><html itemscope itemtype='x:House'><p>",
        "<div itemscope itemtype='x:House' itemprop='offers'>" * 1_500,
        "<div itemscope itemtype='x:Product'>" + "<i itemprop='name'>" * 3_000,
        "<html><head>" + "<!-- -->" * 10,
    ],
    ids=["declaration", "items in each other", "texts in each other", "comments"],
)
def test_microdata_that_no_page_should_have_is_a_problem(html: str) -> None:
    assert jsonld.listing_of(html) is None


def test_microdata_says_its_values_in_many_ways() -> None:
    html = """<p itemprop="name">of no item</p><div itemscope itemtype="https://schema.org/House">
    <time itemprop="datePosted" datetime="2026-03-05">last week</time>
    <data itemprop="numberOfBedrooms" value="3">three</data><a itemprop="url" href="/h/1">x</a>
    <p itemprop="address yearBuilt">1950</p><p><b itemprop="sku" content="K1">?</b></p></div>"""
    facts = jsonld.listing_of(html)
    assert facts is not None
    assert (facts["listed"], facts["beds"], facts["url"]) == ("2026-03-05", "3", "/h/1")
    assert (facts["address"], facts["year_built"], facts["key"]) == ("1950", "1950", "K1")


def test_several_homes_without_saying_which_are_a_problem() -> None:
    parsed = fixture("several.html")
    assert parsed.problems.rule.tolist() == ["key: a page that offers one home"]
    assert parsed.rows.key.isna().all()


def test_of_several_homes_the_one_of_the_pages_address_is_taken() -> None:
    other = HOME | {"url": "https://homes.example.com/2", "offers": {"price": 5_000}}
    parsed = page([other, HOME | {"url": "/1"}], own=OWN + "/?utm=mail")
    assert parsed.rows.address.tolist() == ["1 Elm St"]
    assert parsed.rows.list_price_cents.isna().all()


def test_of_several_homes_the_only_one_with_a_price_is_taken() -> None:
    offered = {"@type": "Apartment", "address": "9 Ash St", "offers": {"price": "1,000"}}
    row = page(HOME, offered).rows.iloc[0]
    assert (row.address, row.property_type) == ("9 Ash St", "Apartment")


def test_things_of_one_address_complete_each_other() -> None:
    product = {"@type": "Product", "url": OWN, "sku": "S1", "offers": {"price": 90_000}}
    row = page(HOME, product).rows.iloc[0]
    assert (row.key, row.list_price_cents, row.address) == ("S1", 90_000_00, "1 Elm St")


def test_a_home_without_an_address_of_its_own_is_the_pages() -> None:
    home = {key: value for key, value in HOME.items() if key != "url"}
    product = {"@type": "Product", "url": OWN, "offers": {"price": 90_000}}
    row = page(home, product, own=OWN).rows.iloc[0]
    assert (row.list_price_cents, row.zip) == (90_000_00, "43604")


def test_an_offer_that_names_what_it_offers() -> None:
    row = page({"@type": "Offer", "price": 70_000, "itemOffered": HOME}).rows.iloc[0]
    assert (row.list_price_cents, row.address) == (70_000_00, "1 Elm St")


@pytest.mark.parametrize(
    "block",
    [
        {"@type": "Product", "name": "Yard sign", "offers": {"price": 19}},
        {"@type": "Organization", "address": {"streetAddress": "1 Office Park"}},
        {"@type": "BreadcrumbList", "itemListElement": [HOME]},
        {"@type": "House", "isSimilarTo": HOME},
        {},
        [],
        "text",
        7,
    ],
)
def test_a_page_without_a_home_is_a_problem(block: object) -> None:
    assert page(block).problems.rule.tolist() == ["key: a page that offers one home"]


@pytest.mark.parametrize(
    ("offer", "column", "expected"),
    [
        ({"price": 1000, "priceCurrency": "USD"}, "list_price_cents", 1000_00),
        ({"@type": "AggregateOffer", "lowPrice": "1,000"}, "list_price_cents", 1000_00),
        ({"businessFunction": "http://purl.org/goodrelations/v1#LeaseOut"}, "offer", "rent"),
        ({"priceSpecification": {"price": 5, "unitCode": "MON"}}, "offer", "rent"),
        ({"price": 5, "availability": "http://schema.org/PreOrder"}, "status", "Coming Soon"),
        ({"price": 5}, "status", "Unknown"),
    ],
)
def test_offers(offer: dict[str, object], column: str, expected: object) -> None:
    parsed = page(HOME | {"offers": {"@type": "Offer", **offer}})
    assert parsed.rows[column].iloc[0] == expected
    assert parsed.problems.empty


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        (
            {"offers": {"price": 5, "priceCurrency": "EUR"}},
            "list_price_cents: an amount in dollars",
        ),
        (
            {"offers": {"price": 5, "availability": "Perhaps"}},
            "status: an ItemAvailability of schema.org",
        ),
        ({"floorSize": {"value": 5, "unitCode": "XXX"}}, "living_area_sqft: an area in"),
        ({"numberOfBedrooms": "three"}, "beds: a number"),
        ({"yearBuilt": True}, "year_built: a number"),
        ({"floorSize": "9" * 300}, "living_area_sqft: an area in a few words"),
    ],
)
def test_what_cannot_be_read_is_a_problem(fields: dict[str, object], rule: str) -> None:
    (found,) = page(HOME | fields).problems.rule.tolist()
    assert found.startswith(rule)


@pytest.mark.parametrize(
    ("fields", "baths"),
    [
        ({"numberOfBathroomsTotal": 3}, 3),
        ({"numberOfFullBathrooms": 1, "numberOfPartialBathrooms": 1}, 1.5),
        ({"numberOfFullBathrooms": 2, "numberOfBathroomsTotal": 3}, 2.5),
    ],
)
def test_baths(fields: dict[str, object], baths: float) -> None:
    assert page(HOME | fields).rows.baths.iloc[0] == baths


@pytest.mark.parametrize(
    "script",
    [
        '{"@type": "House"}',
        '<!-- {"@type": "House"} -->',
        '/*<![CDATA[*/ {"@type": "House"}; /*]]>*/',
        "{&quot;@type&quot;: &quot;House&quot;}",
        '{"@type": "House",}',
        '{"@type":\n"House"\t,\n}',
    ],
)
def test_json_as_pages_write_it(script: str) -> None:
    assert markup.read_json(script) == {"@type": "House"}


@pytest.mark.parametrize("script", ["", "var a = 1", '{"a": ', "[" * 5000, '"' + '\\"' * 3000])
def test_what_is_no_json(script: str) -> None:
    assert markup.read_json(script) is None


def test_a_comma_inside_a_text_stays() -> None:
    assert markup.read_json('{"a": "x, }", "b": [1,],}') == {"a": "x, }", "b": [1]}


def test_things_that_point_at_each_other_end() -> None:
    ring = [
        {"@type": "House", "@id": f"#{at}", "about": {"@id": f"#{(at + 1) % 40}"}, "address": "1 A"}
        for at in range(40)
    ]
    assert len(page({"@graph": ring}).rows) == 1


NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["@type", "@id", "@graph", "url", "offers", "price", "address", "floorSize", "geo"]
            ),
            inner | st.sampled_from(["House", "Offer", "#a", "https://schema.org/Product"]),
        )
    ),
    max_leaves=25,
)


@settings(deadline=None)
@given(st.lists(NODES, max_size=3))
def test_odd_blocks_make_problems_not_crashes(blocks: list[object]) -> None:
    assert len(page(*blocks).rows) == 1


@settings(deadline=None)
@given(st.text())
def test_odd_pages_make_problems_not_crashes(text: str) -> None:
    assert jsonld.listing_of(text) is None
    assert jsonld.listing_of(f"<div itemscope itemtype='House'>{text}") is None


def test_the_readers_of_pages_are_not_loaded_before_there_is_a_page() -> None:
    code = (
        "import sys, aiqleads.ingest.sources.jsonld, aiqleads.ingest.sources.zillow,"
        " aiqleads.ingest.pull; print(sorted({'lxml.html', 'httpx', 'tenacity'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("url", ["http://[x", "//[", "http://[::1/home"])
def test_an_address_that_is_none_compares_with_nothing(url: str) -> None:
    assert same_address(url) == ""
