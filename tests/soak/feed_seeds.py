"""Small bodies of every source and format to mutate, and what a parser is to do with them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from aiqleads.contracts import lead_feed, listing_feed, sale_feed, series_feed
from aiqleads.contracts.promise import failures, schema
from aiqleads.errors import InvalidInput
from aiqleads.ingest.feeds import Feed, Options
from aiqleads.ingest.market import Market, PeopleFeed, load_market
from aiqleads.ingest.payload import Chunk, Payload, payload_of
from aiqleads.ingest.people import clean
from aiqleads.ingest.source import Source
from aiqleads.ingest.sources import SOURCES
from aiqleads.settings import Settings

TESTS = Path(__file__).resolve().parents[1]
SHARED = TESTS.parents[1] / "shared" / "data"

#: the market each source of tables is tried in; the others need no mapping
MARKETS = {
    "sales_csv": ("ames", "sacramento"),
    "listings_csv": ("renthop",),
    "leads_csv": ("x_education",),
    "series_csv": ("texas",),
    "redfin": ("houston", "los_angeles"),
    "craigslist": ("austin",),
}
#: where the real files are; a few of their lines do
REAL = {
    "sales_csv": ("sales/ames.csv.gz", "sales/sacramento.csv.gz"),
    "listings_csv": ("interest/renthop_b1.csv",),
    "leads_csv": ("leads/x_education_leads.xlsx_named_csv",),
    "series_csv": ("market/txhousing.csv.gz",),
    "redfin": (
        "redfin_export/houston_active_2023-05.csv",
        "redfin_export/los_angeles_sold_2018-02.csv",
        "redfin_export/fort_worth_sold_2020-06-19.csv",
    ),
    "craigslist": ("craigslist/austin_2022-07.csv",),
    "redfin_datacenter": ("market/redfin_datacenter_utf16.csv",),
    "realtor_rdc": ("market/realtor_RDC_state_history.csv",),
    "fhfa": ("market/fhfa_HPI_AT_metro.csv",),
    "zillow_research": ("market/zillow_zori_metro.csv",),
    "adf": ("lead_payloads/adf_1.0_lead.xml",),
    "google_leads": ("lead_payloads/google_ads_lead_form.json",),
    "ihomefinder": ("lead_payloads/ihomefinder_lead.xml",),
    "lead_email": ("lead_payloads/topproducer_lead_email.html",),
    "linkedin_leads": ("lead_payloads/linkedin_lead_form_response.json",),
    "meta_leads": (
        "lead_payloads/meta_lead_retrieve.json",
        "lead_payloads/meta_leadgen_webhook.json",
    ),
    "reso": (
        "reso/payloads/good-property-payload.json",
        "reso/payloads/bad-property-payload-all-collection.json",
    ),
    "simplyrets": ("reso/simplyrets_listings.json",),
}
# Tables in the words of each format, about places that are not there.
WRITTEN = {
    "sales_csv": "Sale_Price,Mo_Sold,Year_Sold,Longitude,Latitude,Bedroom_AbvGr,Full_Bath,"
    "Half_Bath,Gr_Liv_Area,Lot_Area,Garage_Area,TotRms_AbvGrd,Year_Built,Bldg_Type\n"
    "215000,5,2010,-93.619754,42.054035,3,1,0,1656,31770,528,7,1960,OneFam\n"
    "105000,6,2010,-93.61,42.05,2,1,0,896,11622,,5,1961,TwnhsE\n",
    "listings_csv": "listing_id,price,created,street_address,bedrooms,bathrooms,longitude,latitude,"
    "manager_id,interest_level\n"
    '7211212,3000,2016-06-24 07:54:24,"1 Any\rAvenue",3,1.5,-73.9425,40.7145,5ba9,medium\n'
    "7150865,5465,2016-06-12 12:19:27,2 Any Street,2,1,-73.9667,40.7947,7533,low\n",
    "series_csv": "city,year,month,sales,volume,median,listings,inventory,date\n"
    "Abilene,2000,1,72,5380000,71400,701,6.3,2000\nAbilene,2000,2,98,6505000,NA,746,,2000.08\n",
    "redfin": "SALE TYPE,SOLD DATE,PROPERTY TYPE,ADDRESS,CITY,STATE OR PROVINCE,ZIP OR POSTAL CODE,"
    "PRICE,BEDS,BATHS,LOCATION,SQUARE FEET,LOT SIZE,YEAR BUILT,DAYS ON MARKET,$/SQUARE FEET,"
    "HOA/MONTH,STATUS,NEXT OPEN HOUSE START TIME,NEXT OPEN HOUSE END TIME,URL,SOURCE,MLS#,"
    "FAVORITE,INTERESTED,LATITUDE,LONGITUDE\r\n"
    '"In accordance with local MLS rules, some MLS listings are not included in the download"\r\n'
    "PAST SALE,January-31-2020,Single Family Residential,1 Any St,Fort Worth,TX,76244,245000.0,3.0,"
    "2.0,Any Place,1800,6098,2005,1,136,40,Sold,,,https://example.com/1,NTREIS,14222336,N,Y,32.9,"
    "-97.2\r\nMLS Listing,,Vacant Land,Lot 2,Houston,TX,77002,90000,,,,,5000,,12,,,Active,,,"
    "https://example.com/2,HAR,,N,Y,29.7,-95.3\r\n",
    "craigslist": "date_time,town,title,price,beds,sqft,url\n"
    "2022-07-09 12:21, (Hutto),3/2 duplex,1500,3,1200.0,https://example.com/7506739727.html\n"
    "2022-07-09 12:19,,House,$2400,3,,https://example.com/7506738779.html\n",
    "redfin_datacenter": "\ufeffRegion\tMonth of Period End\tMedian Sale Price\t"
    "Median Sale Price MoM \tHomes Sold\t Days on Market\n"
    "Austin, TX metro area\tFebruary 2012\t$160K\t-1.6%\t2,265\t71\n",
    "realtor_rdc": "month_date_yyyymm,state,state_id,median_listing_price,active_listing_count,"
    "quality_flag\n202208,texas,tx,375000,70000,0\nquality_flag: year-over-year figures\n",
    "fhfa": 'MSA,geocode,year,q,hpi,chg\n"Any, TX",10180,1975,1,-,-\n'
    '"Any, TX",10180,2023,4,251.3,2\n',
    "zillow_research": "RegionID,SizeRank,RegionName,RegionType,StateName,2015-01-31,2015-02-28\n"
    '102001,0,United States,country,,1190.5,\n394355,28,"Austin, TX",msa,TX,1301.1,1310.2\n',
}
OPTIONS = {
    "intent": "sell",
    "fields": {
        **{"501": "email", "502": "first_name", "504": "zip"},  # LinkedIn's question ids
        **{"full_name": "name", "email": "email", "budget": "ask_price_cents", "zip": "zip"},
    },
    "consent": {"text": "I agree to be called.", "version": "1", "sellers": 3},
}


@dataclass(frozen=True)
class Seeds:
    """Bodies of one source with the markets they are of."""

    source: Source
    markets: tuple[Market, ...]
    bodies: tuple[bytes, ...]


@cache
def seeds_of(name: str, *, real: bool = True) -> Seeds:
    """The fixtures of a source, a written table, and some lines of real files where they are."""
    settings = Settings(home=TESTS.parent)
    files = [
        TESTS / "data" / "markets" / f"{each}.toml" for each in MARKETS.get(name, ("houston",))
    ]
    markets = tuple(load_market(each, settings) for each in files)
    folder = TESTS / "data" / "feeds" / name
    bodies = [each.read_bytes() for each in sorted(folder.glob("*")) if each.is_file()]
    if name in WRITTEN:
        encoding = "utf-16" if name == "redfin_datacenter" else "utf-8"
        bodies.append(WRITTEN[name].removeprefix("\ufeff").encode(encoding))
    if name == "leads_csv" and markets[0].people is not None:
        bodies.append(_people(markets[0].people))
    for path in REAL.get(name, ()) if real else ():
        if (SHARED / path).is_file():
            bodies.append(some_of((SHARED / path).read_bytes()))
    return Seeds(SOURCES[name], markets, tuple(bodies))


def _people(feed: PeopleFeed) -> bytes:
    """Two enquiries with the columns that a market file names."""
    columns = [*feed.columns.values(), *feed.answers]
    texts = [each if isinstance(each, str) else each[0] for each in columns]
    lines = [texts, [f"7927b2df{at}" for at, _ in enumerate(texts)], ["Select"] * len(texts)]
    return pd.DataFrame(lines[1:], columns=lines[0]).to_csv(index=False).encode()


def some_of(body: bytes) -> bytes:
    """A file's first lines, unpacked: enough to show its kind."""
    if body.startswith(b"\x1f\x8b"):
        body = gzip.decompress(body)
    if body.startswith(b"PK"):
        rows = next(payload_of(body, "x").chunks()).rows.head(5)
        return rows.to_csv(index=False).encode()
    if len(body) < 20_000:
        return body
    encoding = "utf-16" if body.startswith(b"\xff\xfe") else "utf-8"
    lines = body[:200_000].decode(encoding, "ignore").split("\n")
    return "".join(f"{line}\n" for line in lines[:6]).encode(encoding)


def format_seeds() -> dict[str, list[bytes]]:
    """Bodies by format, for the readers alone."""
    table = WRITTEN["redfin"].encode()
    homes = [{"id": 1, "city": "Öst", "n": [1, {"a": None}]}, {"id": 2, "x": "\ud83d\ude00"}]
    parquet = io.BytesIO()
    pd.DataFrame({"a": np.arange(5), "b": list("vwxyz")}).to_parquet(parquet)
    return {
        "csv": [
            table,
            WRITTEN["listings_csv"].encode(),
            table.replace(b"\r\n", b"\r"),
            WRITTEN["fhfa"].replace(",", ";").encode("utf-16"),
            b'a,b\n"x\n""y",2\n3\n\n4,5,6\n',
            "é\tb\n1\t€\n".encode("cp1252"),
        ],
        "json": [json.dumps({"@odata.context": "x", "value": homes}).encode(), b"[{}, {}]"],
        "ndjson": [b"".join(json.dumps(each).encode() + b"\n" for each in homes * 3)],
        "xml": [
            b'<?xml version="1.0"?><a><value x="1">t<![CDATA[<]]></value><value/></a>',
            '<a xmlns="urn:x"><value>é</value></a>'.encode("utf-16"),
        ],
        "html": [b"<!DOCTYPE html><html><body>x</body></html>"],
        "email": [
            b"From: a@example.com\nSubject: =?utf-8?q?a?=\nMIME-Version: 1.0\n"
            b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\nhello\n--b--\n'
        ],
        "xlsx": [SHEET],
        "parquet": [parquet.getvalue()],
        "gzip": [gzip.compress(table, mtime=0)],
    }


SHEET = (
    b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    b'<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="B1" t="str"><v>b</v></c></row>'
    b'<row r="2"><c r="A2"><v>1.5</v></c><c r="B2" s="1"><v>44197</v></c></row>'
    b'<row r="3"><c r="A3" t="b"><v>1</v></c><c r="B3" t="e"><v>#N/A</v></c></row>'
    b"</sheetData></worksheet>"
)


def workbook_of(sheet: bytes) -> bytes:
    """A workbook around the XML of its one sheet: no mutation gets through a zip's checksums."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="a" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="s" sheetId="1" r:id="b"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}"><Relationship Id="b" '
        f'Type="{office}/worksheet" Target="s.xml"/><Relationship Id="c" Type="{office}/styles" '
        'Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}"><cellXfs><xf numFmtId="0"/>'
        '<xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in parts.items():
            archive.writestr(path, text)
        archive.writestr("xl/s.xml", sheet)
    return packed.getvalue()


def read_whole(payload: Payload, records: str, chunk_rows: int = 7) -> int:
    """Reads every record and checks that nothing is lost on the way; how many there were."""
    head, spans, tail = payload.partition(records)
    with payload.body.open() as stream:
        body = stream.read()
    pieces = [body[start:end] for start, end in spans]
    assert head + b"".join(pieces) + tail == body, "the spans are not the body"
    count = 0
    for chunk in payload.chunks(records, chunk_rows):
        assert chunk.rows.index.tolist() == list(range(count + 1, count + 1 + len(chunk.rows)))
        assert np.array_equal(chunk.spans, spans[count : count + len(chunk.rows)])
        count += len(chunk.rows)
    assert count == len(spans), "another chunk size gives other records"
    return count


def take_in(seeds: Seeds, body: bytes, *, contract: bool = True) -> int:
    """What intake does with a body before any store: parse, clean, contract; rows that hold.

    Without `contract`, which takes longest, all rows hold that have no problem.
    """
    source, good_rows = seeds.source, 0
    payload = payload_of(body, "body")
    if payload.format not in source.formats:
        raise InvalidInput(f"{source.name} does not come as {payload.format}")
    for market in seeds.markets:
        feed = Feed(market, Options.model_validate(OPTIONS), 1_700_000_000_000_000)
        reachable = market.people is None or market.people.rights == "sell"
        promised = _contract(source.kind, reachable=reachable) if contract else None
        try:
            for chunk in payload.chunks(source.records):
                made = source.parse(chunk, feed)
                rows = clean(made.rows, market) if source.kind == "lead" else made.rows
                good_rows += _rows_that_hold(rows, made.problems, chunk, promised)
        except InvalidInput:
            continue  # as a whole it is of another market, or broken
    return good_rows


def _rows_that_hold(
    rows: pd.DataFrame, problems: pd.DataFrame, chunk: Chunk, contract: pa.DataFrameSchema | None
) -> int:
    numbers = set(chunk.rows.index)
    assert set(problems["index"]) <= numbers, "problems of rows that are not there"
    assert set(rows.index) <= numbers, "rows that are not there"
    good = rows.drop(index=problems["index"].unique().tolist(), errors="ignore")
    if contract is None:
        return len(good)
    broken = failures(good, contract)
    assert broken["index"].notna().all(), f"columns: {broken['rule'].tolist()[:3]}"
    return len(good) - broken["index"].nunique()


@cache
def _contract(kind: str, *, reachable: bool) -> pa.DataFrameSchema:
    if kind == "lead":
        return lead_feed.feed_schema(reachable=reachable)
    if kind == "sale":
        return schema(sale_feed.PROMISES)
    return listing_feed.feed_schema() if kind == "listing" else series_feed.feed_schema()
