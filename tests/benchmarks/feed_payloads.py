"""Payloads of any length for benches and soaks: the sample's homes, written as feeds.

Rows repeat the homes of data/sample with other keys, prices and places a few metres off;
the people of the lead forms are invented, under reserved domains and numbers.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data" / "sample"
_HEADER = """
SALE TYPE,SOLD DATE,PROPERTY TYPE,ADDRESS,CITY,STATE OR PROVINCE,ZIP OR POSTAL CODE,PRICE,BEDS,
BATHS,LOCATION,SQUARE FEET,LOT SIZE,YEAR BUILT,DAYS ON MARKET,$/SQUARE FEET,HOA/MONTH,STATUS,
NEXT OPEN HOUSE START TIME,NEXT OPEN HOUSE END TIME,
URL (SEE https://www.redfin.com/buy-a-home/comparative-market-analysis FOR INFO ON PRICING),
SOURCE,MLS#,FAVORITE,INTERESTED,LATITUDE,LONGITUDE
"""
REDFIN = [name.strip() for name in _HEADER.split(",")]
STREETS = [
    f"{name} {kind}"
    for name in ("Oak", "Elm", "Main", "Lake", "Hill")
    for kind in ("St", "Ave", "Rd", "Dr", "Ln", "Ct")
]
_PEOPLE = """
Ada Bert Cora Dale Edna Ford Gail Hugo Ida Joel Kit Lena Mae Neil Olga Paul
Abbey Birch Crane Dover Elder Frost Grove Heath Ivory Juniper Lark Moss Otter Pine Quarry Reed
"""
FIRST, LAST = (line.split() for line in _PEOPLE.strip().splitlines())
PART = 20_000


def homes(rows: int, seed: int = 1) -> pd.DataFrame:
    """`rows` homes drawn from the sample with places jittered by some metres."""
    frame = pd.read_parquet(next(SAMPLE.glob("*.parquet")))
    draw = np.random.default_rng(seed)
    made = frame.iloc[draw.integers(0, len(frame), rows)].reset_index(drop=True)
    for name in ("lon", "lat"):
        made[name] = (made[name] + draw.normal(0, 1e-4, rows)).round(6)
    return made


def redfin(path: Path, rows: int) -> Path:
    """An export of active listings as Redfin's "Download All" writes it."""
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(REDFIN)
        for start in range(0, rows, PART):
            part = homes(min(PART, rows - start), seed=start + 1)
            for number, home in enumerate(part.itertuples(), start):
                writer.writerow(_listing(number, home))
    return path


def _listing(number: int, home: object) -> list[object]:
    price, area = int(home.price), int(home.TLA)
    of = number // 2 if number % 20 == 0 else number  # one in twenty offers a home again
    address = f"{of % 9_000 + 100} {STREETS[of // 9_000 % len(STREETS)]}"
    url = f"https://www.redfin.com/OH/Toledo/home/{number}"
    return [
        "MLS Listing",
        "",
        "Single Family Residential",
        address,
        "Toledo",
        "OH",
        43604 + of // (9_000 * len(STREETS)),
        price,
        float(home.beds),
        float(home.baths),
        "Old West End",
        area,
        home.lotsize,
        home.yrbuilt,
        number % 90,
        price // max(area, 1),
        "",
        "Active",
        "",
        "",
        url,
        "MLS",
        f"{6_000_000 + number}",
        "N",
        "Y",
        home.lat,
        home.lon,
    ]


def sales(path: Path, rows: int) -> tuple[Path, Path]:
    """A CSV of sales and its market file, which invents no leads from them."""
    import tomllib

    market = tomllib.loads((SAMPLE / "lucas.toml").read_text())
    for start in range(0, rows, PART):
        part = homes(min(PART, rows - start), seed=start + 2)
        part["sale_number"] = [f"S{number:08d}" for number in range(start, start + len(part))]
        part.to_csv(path, index=False, mode="a" if start else "w", header=not start)
    columns = {**market["sales"]["columns"], "key": "sale_number"}
    lines = [
        'name = "bench"',
        'title = "Bench"',
        f'timezone = "{market["timezone"]}"',
        f'crs = "{market["crs"]}"',
        "[leads]",
        "stand_in = false",
        "[sales]",
        f'path = "{path.name}"',
        f'date_format = "{market["sales"]["date_format"]}"',
        "[sales.columns]",
        *(f"{ours} = {json.dumps(theirs)}" for ours, theirs in columns.items()),
    ]
    for section in ("units", "missing"):
        if given := market["sales"].get(section):
            lines += [f"[sales.{section}]", *(f"{k} = {json.dumps(v)}" for k, v in given.items())]
    toml = path.with_suffix(".toml")
    toml.write_text("\n".join(lines) + "\n")
    return path, toml


def meta_leads(path: Path, rows: int, again: float = 0.05) -> Path:
    """Answers of a Meta lead form as NDJSON; `again` of them from people who wrote before."""
    draw = np.random.default_rng(3)
    with path.open("w") as out:
        for number in range(rows):
            of = int(draw.integers(0, number)) if number and draw.random() < again else number
            out.write(json.dumps(_answers(number, of)) + "\n")
    return path


def _answers(number: int, of: int) -> dict[str, object]:
    draw = np.random.default_rng((5, of))
    first, last = FIRST[draw.integers(len(FIRST))], LAST[draw.integers(len(LAST))]
    area, line = draw.integers(200, 980), draw.integers(0, 10_000)
    street = STREETS[draw.integers(len(STREETS))]
    said = {
        "full_name": f"{first} {last}",
        "email": f"{first}.{last}.{of}@example.com".lower(),
        "phone_number": f"({area}) {200 + of % 700}-{line:04d}",
        "street_address": f"{of % 9_000 + 100} {street}, Toledo, OH 43604",
        "when_do_you_want_to_sell": "within 3 months",
        "price": f"${int(draw.integers(80, 600))},000",
    }
    return {
        "id": f"{10**15 + number}",
        "form_id": "1",
        "created_time": f"2026-11-{1 + number % 20:02d}T{number % 24:02d}:10:00+0000",
        "field_data": [{"name": name, "values": [value]} for name, value in said.items()],
    }


FEEDS = """[meta_leads]
secret = "bench"
intent = "sell"
[meta_leads.consent]
text = "I agree to be called by up to three agents."
version = "1"
sellers = 3
"""
