"""A small feed and its market, made anew for each test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape
from zipfile import ZipFile

import pandas as pd
import pytest

from aiqleads.contracts import listing_feed, sale_feed, series_feed
from aiqleads.contracts.lead_feed import feed_schema
from aiqleads.contracts.promise import failures, schema
from aiqleads.ingest.feeds import Feed, Options
from aiqleads.ingest.market import Market, load_market
from aiqleads.ingest.payload import open_payload, payload_of
from aiqleads.ingest.people import clean
from aiqleads.ingest.source import Parsed, Source
from aiqleads.settings import Settings

TOML = """
name = "tiny"
title = "A small town"
timezone = "America/New_York"
crs = "EPSG:32617"
[sales]
date_format = "%Y-%m-%d"
[sales.columns]
price = "price"
sold = "day"
lon = "x"
lat = "y"
beds = "beds"
living_area = "area"
[sales.missing]
beds = [0]
"""

_OPEN = "http://schemas.openxmlformats.org"
_MAIN = f"{_OPEN}/spreadsheetml/2006/main"
_LINKS = f"{_OPEN}/officeDocument/2006/relationships"
_RELATIONS = f'<Relationships xmlns="{_OPEN}/package/2006/relationships">'
_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml"
WORKBOOK = {
    "[Content_Types].xml": f'<Types xmlns="{_OPEN}/package/2006/content-types">'
    '<Default Extension="rels" ContentType='
    '"application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_SHEET}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_SHEET}.styles+xml"/>'
    f'<Override PartName="/xl/sheet1.xml" ContentType="{_SHEET}.worksheet+xml"/></Types>',
    "_rels/.rels": f'{_RELATIONS}<Relationship Id="a" Type="{_LINKS}/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets>'
    '<sheet name="Sheet1" sheetId="1" r:id="b"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'{_RELATIONS}<Relationship Id="b" '
    f'Type="{_LINKS}/worksheet" Target="sheet1.xml"/>'
    f'<Relationship Id="c" Type="{_LINKS}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs><xf numFmtId="0"/>'
    '<xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
    "xl/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>ROWS</sheetData></worksheet>',
}


@pytest.fixture
def tiny_toml() -> str:
    return TOML


@pytest.fixture
def make_market(tmp_path: Path) -> Callable[[str], Market]:
    """Turns the text of a market file into a market."""

    def make(text: str) -> Market:
        path = tmp_path / "market.toml"
        path.write_text(text)
        return load_market(path, Settings(home=tmp_path))

    return make


@pytest.fixture
def tiny(make_market: Callable[[str], Market]) -> Market:
    return make_market(TOML)


@pytest.fixture
def feed() -> pd.DataFrame:
    """40 sales on a grid of about 100 m, one a week, as the feed writes them."""
    return pd.DataFrame(
        {
            "price": [90_000 + 1_000 * at for at in range(40)],
            "day": pd.date_range("1995-01-04", periods=40, freq="7D").strftime("%Y-%m-%d"),
            "x": [round(-83.60 + 0.0012 * (at % 8), 6) for at in range(40)],
            "y": [round(41.60 + 0.0009 * (at // 8), 6) for at in range(40)],
            "beds": [at % 5 for at in range(40)],
            "area": [1000 + 10 * at for at in range(40)],
        }
    )


@pytest.fixture
def read_leads(tiny: Market) -> Callable[..., Parsed]:
    """Takes a body in as intake does: records, parse, clean; options: of the feed file.

    problems: with what the contract of leads says of the other rows.
    """

    def read(source: Source, body: Path | bytes, **options: object) -> Parsed:
        payload = payload_of(body, "body") if isinstance(body, bytes) else open_payload(body)
        assert payload.format in source.formats
        (chunk,) = payload.chunks(source.records)
        made = source.parse(chunk, Feed(tiny, Options.model_validate(options)))
        assert made.rows.index.equals(chunk.rows.index)
        rows = clean(made.rows, tiny)
        good = rows.drop(index=made.problems["index"].unique())
        broken = failures(good, feed_schema()).assign(value=None)
        return replace(made, rows=rows, problems=pd.concat([made.problems, broken]))

    return read


@pytest.fixture
def named_market(tmp_path: Path) -> Callable[[str], Market]:
    """A market of tests/data/markets, by its name."""
    folder = Path(__file__).resolve().parents[2] / "data" / "markets"
    return lambda name: load_market(folder / f"{name}.toml", Settings(home=tmp_path))


@pytest.fixture
def read_table() -> Callable[..., Parsed]:
    """Takes a whole table in, chunk by chunk, as intake does: parse, then the contract.

    rows: those that hold. problems: with what the contract of listings, series or (with
    rights `sell`) leads says of the rows without any.
    """

    def read(source: Source, body: Path | bytes | str, market: Market, **options: object) -> Parsed:
        body = body.encode() if isinstance(body, str) else body
        payload = payload_of(body, "body") if isinstance(body, bytes) else open_payload(body)
        assert payload.format in source.formats
        rows: list[pd.DataFrame] = []
        problems: list[pd.DataFrame] = []
        columns: dict[str, str] = {}
        feed = Feed(market, Options.model_validate(options))
        reachable = market.people is None or market.people.rights == "sell"
        for chunk in payload.chunks(source.records):
            made = source.parse(chunk, feed)
            good = made.rows[~made.rows.index.isin(made.problems["index"])]
            match source.kind:
                case "listing":
                    broken = failures(good, listing_feed.feed_schema())
                case "series":
                    broken = failures(good, series_feed.feed_schema())
                case "lead":
                    broken = failures(good, feed_schema(reachable=reachable))
                case "sale":
                    broken = failures(good, schema(sale_feed.PROMISES))
            assert broken["index"].notna().all(), broken["rule"].tolist()
            rows.append(good.drop(index=broken["index"].unique().tolist()))
            problems += [made.problems, broken.assign(value=None)]
            columns |= made.columns
        found = [each for each in problems if len(each)] or problems[:1]
        return Parsed(pd.concat(rows), pd.concat(found, ignore_index=True), columns)

    return read


@pytest.fixture
def workbook(tmp_path: Path) -> Callable[[pd.DataFrame], Path]:
    """Writes a table as an Excel workbook, with cells as numbers, texts and dates.

    The parts are those that ISO/IEC 29500 asks of a spreadsheet, and no more.
    """

    def cell(value: object) -> str:
        if isinstance(value, pd.Timestamp):
            return f'<c s="1"><v>{(value - pd.Timestamp("1899-12-30")).days}</v></c>'
        if isinstance(value, int | float):
            return "<c/>" if value != value else f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'

    def write(table: pd.DataFrame) -> Path:
        lines = [list(table.columns), *table.astype(object).to_numpy().tolist()]
        rows = "".join(f"<row>{''.join(map(cell, line))}</row>" for line in lines)
        path = tmp_path / "table.csv"  # as people do
        with ZipFile(path, "w") as archive:
            for name, text in WORKBOOK.items():
                archive.writestr(name, text.replace("ROWS", rows))
        return path

    return write
