"""What a user sees of `ingest`: counts that add up, nothing twice, nothing half stored."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Table, func, select

from aiqleads.contracts.frames import FRAMES
from aiqleads.errors import AIQLeadsError, ContractBroken, InvalidInput, UnknownName
from aiqleads.geo.grid import cells
from aiqleads.ingest import chunks
from aiqleads.ingest.aggregate import IngestReport, ingest
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import Chunk
from aiqleads.ingest.raw import open_raw
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import SOURCES
from aiqleads.settings import Settings
from aiqleads.store.batches import quarantine_counts
from aiqleads.store.database import open_room
from aiqleads.store.frames import read_frame
from aiqleads.store.leads import lead_contact
from aiqleads.store.tables import (
    batch,
    consent,
    lead,
    link,
    match_key,
    quarantine,
    sale,
    submission,
)
from aiqleads.store.vault import Vault

NOW_US = 1_700_000_000_000_000


def _count(home: Settings, table: Table) -> int:
    with open_room(home, "leads").connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _ingest(home: Settings, market: Market, *paths: Path) -> IngestReport:
    return ingest(home, "sales_csv", paths, market, now_us=NOW_US)


def _opened(home: Settings, row: Any) -> tuple[str, str]:
    """What was sealed of a row in quarantine: the row, and the value that broke a rule."""
    with contextlib.closing(Vault.open(home)) as vault:
        name = f"quarantine:{row['key_id'].removeprefix('payload:')}:{row['row_number']}"
        names = [f"{name}:{row['rule']}:{what}" for what in ("row", "value")]
        texts = vault.unseal([row["key_id"]] * 2, names, [row["row"], row["value"]])
    assert None not in texts
    return tuple(str(text, "utf-8") for text in texts if text is not None)


def _adds_up(report: IngestReport) -> None:
    for each in (report, *report.batches):
        total = each.accepted + each.updated + each.duplicates + each.quarantined
        assert each.rows_read == total
        assert each.incomplete <= each.accepted


def test_each_row_becomes_a_lead_or_has_a_reason(home: Settings, lucas: Market, feed: Path) -> None:
    report = _ingest(home, lucas, feed)
    _adds_up(report)
    assert (report.rows_read, report.accepted, report.quarantined) == (600, 590, 10)
    assert list(report.reasons.values()) == [10]
    assert report.schema_changes == ()
    assert _count(home, lead) == sum(b.accepted for b in report.batches)
    assert _count(home, submission) == _count(home, consent)
    assert _count(home, submission) == sum(b.accepted + b.duplicates for b in report.batches)
    assert report.leads == _count(home, lead)
    assert quarantine_counts(open_room(home, "leads")) == report.reasons
    with open_room(home, "leads").connect() as connection:
        row = connection.execute(select(quarantine)).mappings().first()
    assert row is not None
    assert row["column"] == "price_cents"
    given, value = _opened(home, row)
    assert float(value) == float(json.loads(given)["price"]) * 100
    assert given.encode() not in row["row"]
    assert row["contract_version"] == "sale_feed 1"


def test_the_same_payload_again_adds_nothing_and_changes_no_byte(
    home: Settings, lucas: Market, feed: Path
) -> None:
    first = _ingest(home, lucas, feed)
    folder = home.data / "core" / "lucas"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    tables = (lead, submission, consent, link, match_key, sale)
    counted = [_count(home, table) for table in tables]
    again = _ingest(home, lucas, feed)
    _adds_up(again)
    assert (again.accepted, again.updated, again.quarantined) == (0, 0, 10)
    assert [b.duplicates + b.quarantined for b in again.batches] == [
        b.rows_read for b in first.batches
    ]
    assert [_count(home, table) for table in tables] == counted
    assert _count(home, quarantine) == 10
    assert _count(home, batch) == 6
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(list((home.data / "raw").rglob("*.sealed"))) == 1


def test_a_feed_in_parts_and_another_order_and_format_gives_the_same_leads(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame, tmp_path: Path
) -> None:
    _ingest(home, lucas, feed)
    other = Settings(home=tmp_path / "other")
    shuffled = sales.sample(frac=1, random_state=9)
    shuffled.iloc[:250].to_csv(tmp_path / "a.csv.gz", index=False)
    shuffled.iloc[250:].to_parquet(tmp_path / "b.data")
    report = _ingest(other, lucas, tmp_path / "a.csv.gz", tmp_path / "b.data")
    assert report.rows_read == 600
    assert len(report.batches) == 6
    for name in FRAMES:
        one, two = (
            read_frame(each, "lucas", name).drop(columns="batch_id", errors="ignore")
            for each in (home, other)
        )
        pd.testing.assert_frame_equal(one, two)


def test_nothing_of_the_sale_reaches_the_leads(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame
) -> None:
    _ingest(home, lucas, feed)
    leads = read_frame(home, "lucas", "leads")
    assert not {"price", "price_cents", "sdate", "syear", "s1996", "age", "avalue"} & set(leads)
    exact = sales["price"].astype(int) * 100
    sellers = leads[(leads["intent"] == "sell") & (leads["source"] == "sales_csv")]
    assert sellers["ask_price_cents"].isin(exact).mean() < 0.5
    assert not set(leads["lead_id"].str[1:]) & set(
        read_frame(home, "lucas", "sales")["sale_id"].str[1:]
    )


def test_no_lead_is_offered_after_its_sale(home: Settings, lucas: Market, feed: Path) -> None:
    _ingest(home, lucas, feed)
    leads = read_frame(home, "lucas", "leads")
    sales = read_frame(home, "lucas", "sales")
    sellers = leads[leads["intent"] == "sell"]
    at = sellers.merge(sales[["lon", "lat", "sold_market_us"]], on=["lon", "lat"])
    assert len(at) >= 590
    assert (at["expires_market_us"] < at["sold_market_us"]).all()


def test_frames_keep_what_the_contract_promises(home: Settings, lucas: Market, feed: Path) -> None:
    _ingest(home, lucas, feed)
    leads = read_frame(home, "lucas", "leads")
    assert leads["cell"].dtype == np.int64
    np.testing.assert_array_equal(
        leads["cell"], cells(leads["lon"].to_numpy(), leads["lat"].to_numpy())
    )
    assert leads["region"].str.startswith("86").all()
    assert leads["utm_x_m"].between(240_000, 320_000).all()
    submissions = read_frame(home, "lucas", "submissions")
    counted = submissions.groupby("lead_id").size()
    pd.testing.assert_series_equal(
        leads.set_index("lead_id")["submissions"], counted, check_names=False
    )
    assert (leads["submissions"] > 1).any()


def test_a_lead_s_person_is_invented_and_says_so(home: Settings, lucas: Market, feed: Path) -> None:
    _ingest(home, lucas, feed)
    engine = open_room(home, "leads")
    lead_id = read_frame(home, "lucas", "leads")["lead_id"].iloc[0]
    vault = Vault.open(home)
    person = lead_contact(engine, vault, lead_id)
    assert person["invented"] is True
    assert person["name"]
    with engine.connect() as connection:
        assert set(connection.scalars(select(consent.c.channel))) == {"invented"}


def test_the_search_for_repeats_finds_most_of_the_planted_ones_and_nobody_else(
    home: Settings, lucas: Market, feed: Path
) -> None:
    """The plan's labels (the source key names the lead) are read here and nowhere else."""
    market = lucas.model_copy(
        update={"leads": lucas.leads.model_copy(update={"duplicate_share": 0.5})}
    )
    _ingest(home, market, feed)
    with open_room(home, "leads").connect() as connection:
        sent = list(connection.execute(select(submission)).mappings())
    ids = {row["source_key"]: row["lead_id"] for row in sent if not row["rule"]}
    found = [row for row in sent if row["rule"]]
    planted = [key for key in ids if key.endswith(":again")]  # not found: leads of their own
    hits = [row for row in found if row["source"] == "simulated_repeats"]
    right = [
        row for row in hits if ids.get(row["source_key"].removesuffix(":again")) == row["lead_id"]
    ]
    assert len(hits) + len(planted) > 250
    assert len(hits) / (len(hits) + len(planted)) > 0.6
    assert len(planted) > 0  # the plan holds some that nothing can find
    assert len(right) / len(hits) > 0.99
    assert len(hits) == len(found)  # no person of the feed or buyer was taken for another


def test_a_corrected_row_updates_its_lead(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame, tmp_path: Path
) -> None:
    _ingest(home, lucas, feed)
    before = read_frame(home, "lucas", "leads").set_index("lead_id")
    changed = sales.copy()
    at = changed.index[0]
    changed.loc[at, "price"] = changed.loc[at, "price"] * 2
    path = tmp_path / "corrected.csv"
    changed.to_csv(path, index=False)
    report = _ingest(home, lucas, path)
    assert (report.accepted, report.updated, report.duplicates) == (0, 1, 589)
    after = read_frame(home, "lucas", "leads").set_index("lead_id")
    moved = after["ask_price_cents"] / before["ask_price_cents"] > 1.9
    assert moved.sum() >= 1
    # Those about which nothing new was said keep the batch that they came with.
    assert (after.loc[moved, "batch_id"] != before.loc[moved, "batch_id"]).all()
    assert (after.loc[~moved, "batch_id"] == before.loc[~moved, "batch_id"]).all()
    assert len(read_frame(home, "lucas", "sales")) == 590


def test_a_row_that_stands_twice_is_one_lead(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame
) -> None:
    pd.concat([sales, sales.iloc[[0, 0, 1]]]).to_csv(feed, index=False)
    for duplicates in (3, 593):
        report = _ingest(home, lucas, feed)
        _adds_up(report)
        assert (report.updated, report.duplicates) == (0, duplicates)
    assert len(read_frame(home, "lucas", "sales")) == 590


def test_a_lead_without_a_place_waits_as_incomplete(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame
) -> None:
    sales = sales.copy()
    sales.iloc[:5, [sales.columns.get_loc("lon"), sales.columns.get_loc("lat")]] = np.nan
    sales.iloc[5, sales.columns.get_loc("lon")] = np.nan
    sales.to_csv(feed, index=False)
    report = _ingest(home, lucas, feed)
    _adds_up(report)
    assert (report.incomplete, report.accepted) == (5, 589)
    assert report.reasons["lon: lon and lat, or neither"] == 1
    leads = read_frame(home, "lucas", "leads")
    assert len(leads) == report.leads == _count(home, lead) - 5
    np.testing.assert_array_equal(
        leads["cell"], cells(leads["lon"].to_numpy(), leads["lat"].to_numpy())
    )


def test_swapped_coordinates_are_put_into_quarantine(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame
) -> None:
    sales = sales.copy()
    first = sales.index[:20]
    sales.loc[first, ["lon", "lat"]] = sales.loc[first, ["lat", "lon"]].to_numpy()
    sales.to_csv(feed, index=False)
    assert _ingest(home, lucas, feed).reasons["lat: within the zone of lucas"] == 20


def test_a_ragged_row_is_kept_with_its_fields(home: Settings, lucas: Market, feed: Path) -> None:
    with feed.open("a") as file:
        file.write("1,2,3\n")
    report = _ingest(home, lucas, feed)
    _adds_up(report)
    assert report.quarantined == 11
    with open_room(home, "leads").connect() as connection:
        row = connection.execute(select(quarantine).where(quarantine.c.row_number == 601)).one()
    with contextlib.closing(Vault.open(home)) as vault:
        name = f"quarantine:{row.key_id.removeprefix('payload:')}:601:{row.rule}:row"
        (text,) = vault.unseal([row.key_id], [name], [row.row])
    assert json.loads(text or b"")["(fields)"] == ["1", "2", "3"]


def test_changed_columns_are_reported(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame
) -> None:
    _ingest(home, lucas, feed)
    changed = sales.drop(columns="wall").assign(stories=1, agent="x")
    changed.to_csv(feed, index=False)
    changes = _ingest(home, lucas, feed).schema_changes
    assert {each.split(":")[0] for each in changes} >= {"agent", "wall", "stories"}


def test_the_payload_is_kept_as_it_came_and_cannot_be_written(
    home: Settings, lucas: Market, feed: Path
) -> None:
    _ingest(home, lucas, feed)
    (kept,) = (home.data / "raw" / "sales_csv" / "2023-11-14").iterdir()
    assert feed.read_bytes()[:100] not in kept.read_bytes()
    assert kept.stat().st_mode & 0o222 == 0
    with (
        open_room(home, "leads").connect() as connection,
        contextlib.closing(Vault.open(home)) as vault,
    ):
        sha256 = hashlib.sha256(feed.read_bytes()).hexdigest()
        with open_raw(home, vault, connection, sha256, "sales_csv").open() as body:
            assert body.read() == feed.read_bytes()


def _broken(tmp_path: Path, sales: pd.DataFrame, how: str) -> Path:
    path = tmp_path / "broken.csv"
    if how == "empty":
        path.write_bytes(b"")
    elif how == "no rows":
        sales.iloc[:0].to_csv(path, index=False)
    elif how == "workbook":
        path.write_bytes(b"PK\x03\x04....")
    elif how == "missing column":
        sales.drop(columns="price").to_csv(path, index=False)
    elif how == "wrong dtype":
        sales.assign(price="dear").to_csv(path, index=False)
    elif how == "no place":
        sales.assign(lon=None, lat=None).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("absent", InvalidInput, "cannot be read"),
        ("empty", InvalidInput, "is empty"),
        ("no rows", InvalidInput, "holds no row"),
        ("workbook", InvalidInput, "Excel"),
        ("missing column", ContractBroken, "needs the column 'price'"),
        ("wrong dtype", ContractBroken, "600 of 600 values of 'price'"),
    ],
)
def test_a_payload_that_is_not_the_feed_is_one_line_and_stores_nothing(
    home: Settings,
    lucas: Market,
    sales: pd.DataFrame,
    tmp_path: Path,
    how: str,
    error: type[AIQLeadsError],
    said: str,
) -> None:
    with pytest.raises(error, match=said) as caught:
        _ingest(home, lucas, _broken(tmp_path, sales, how))
    assert "\n" not in caught.value.detail
    assert _count(home, batch) == _count(home, lead) == _count(home, quarantine) == 0
    assert not list(home.data.rglob("*.parquet"))
    assert not (home.data / "raw").exists()


def test_a_payload_of_which_no_row_holds_is_all_in_quarantine(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame
) -> None:
    sales.assign(price=5).to_csv(feed, index=False)
    report = _ingest(home, lucas, feed)
    _adds_up(report)
    assert (report.rows_read, report.quarantined) == (600, 600)
    with open_room(home, "leads").connect() as connection:
        assert set(connection.scalars(select(batch.c.state))) == {"done"}


def test_a_refused_payload_leaves_those_before_it_in_the_frames(
    home: Settings, lucas: Market, feed: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(InvalidInput, match="is empty"):
        _ingest(home, lucas, feed, empty)
    assert len(read_frame(home, "lucas", "leads")) == _count(home, lead) > 0
    assert len(read_frame(home, "lucas", "submissions")) >= _count(home, lead)


def test_a_source_that_breaks_its_word_is_refused_whole(
    home: Settings, lucas: Market, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = SOURCES["sales_csv"]

    def parse(chunk: Chunk, feed: Feed) -> Parsed:
        parsed = honest.parse(chunk, feed)
        return replace(parsed, rows=parsed.rows.astype({"beds": str}))

    monkeypatch.setitem(SOURCES, "sales_csv", replace(honest, parse=parse))
    with pytest.raises(ContractBroken, match="nothing was stored"):
        _ingest(home, lucas, feed)
    assert _count(home, batch) == 0


def test_a_market_without_any_place_has_no_zone(
    home: Settings, lucas: Market, sales: pd.DataFrame, tmp_path: Path
) -> None:
    market = lucas.model_copy(update={"crs": None})
    with pytest.raises(InvalidInput, match="no place is known"):
        _ingest(home, market, _broken(tmp_path, sales, "no place"))


def test_unknown_sources_and_a_market_without_a_path(home: Settings, lucas: Market) -> None:
    with pytest.raises(UnknownName, match="sales_csv"):
        ingest(home, "fax", [], lucas)
    assert lucas.sales is not None
    without = lucas.model_copy(update={"sales": lucas.sales.model_copy(update={"path": None})})
    with pytest.raises(InvalidInput, match="name a file"):
        ingest(home, "sales_csv", [], without)


def test_a_fault_in_the_middle_leaves_no_half_of_a_batch(
    home: Settings, lucas: Market, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(chunks.rejected, "keep_rejects", fail)
        with pytest.raises(RuntimeError):
            _ingest(home, lucas, feed)
    assert _count(home, lead) == _count(home, submission) == _count(home, quarantine) == 0
    # After the last chunk: the frames are made by the next run, which is the same batch.
    with monkeypatch.context() as patched:
        patched.setattr("aiqleads.ingest.batches.store_frame", fail)
        with pytest.raises(RuntimeError):
            _ingest(home, lucas, feed)
    report = _ingest(home, lucas, feed)
    assert (report.rows_read, report.accepted, report.duplicates) == (600, 590, 0)
    assert _count(home, batch) == 3
    assert len(read_frame(home, "lucas", "sales")) == 590


def test_a_zone_is_found_once_and_kept(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame, tmp_path: Path
) -> None:
    market = lucas.model_copy(update={"crs": None, "name": "toledo"})
    _ingest(home, market, feed)
    west = tmp_path / "west.csv"
    # A later batch of the same market that lies wholly in the neighbouring zone.
    sales.assign(lon=sales["lon"] - 0.9).head(50).to_csv(west, index=False)
    assert _ingest(home, market, west).accepted == 50
    leads = read_frame(home, "toledo", "leads")
    assert leads["utm_x_m"].min() < 240_000
    with pytest.raises(InvalidInput, match="stored in EPSG:32617"):
        _ingest(home, market.model_copy(update={"crs": "EPSG:32616"}), feed)


def test_regions_may_be_polygons(home: Settings, lucas: Market, feed: Path, tmp_path: Path) -> None:
    ring = [[-84, 41], [-83.6, 41], [-83.6, 42], [-84, 42], [-84, 41]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    features = [{"type": "Feature", "properties": {"zip": "west"}, "geometry": shape}]
    path = tmp_path / "zips.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    regions = {"path": path, "id": "zip"}
    market = Market.model_validate({**lucas.model_dump(), "regions": regions})
    _ingest(home, market, feed)
    found = read_frame(home, "lucas", "leads")
    assert set(found["region"]) == {"west", "outside"}
    assert (found.loc[found["lon"] < -83.6, "region"] == "west").all()


def test_progress_is_told(home: Settings, lucas: Market, feed: Path) -> None:
    told: list[tuple[str, int, int]] = []
    ingest(home, "sales_csv", [feed], lucas, lambda *step: told.append(step), now_us=NOW_US)
    assert [step for step, _, _ in told] == [
        "read",
        "check",
        "normalise",
        "leads",
        "store",
        "frames",
    ]
    assert [done for _, done, _ in told] == list(range(6))
    assert {total for _, _, total in told} == {6}


def test_one_sale_alone_can_be_ingested(
    home: Settings, lucas: Market, feed: Path, sales: pd.DataFrame
) -> None:
    sales.head(1).to_csv(feed, index=False)
    report = _ingest(home, lucas, feed)
    _adds_up(report)
    assert report.accepted == 1


@pytest.mark.slow
def test_the_whole_sample_by_name(home: Settings, lucas: Market) -> None:
    report = _ingest(home, lucas)
    _adds_up(report)
    assert (report.rows_read, report.accepted, report.quarantined) == (25_357, 24_742, 615)
    assert report.reasons == {
        "price_cents: an open-market price, from 10,000 USD": 608,
        "year_built: at most 2 years after the sale": 7,
    }
    _, buyers, repeats = report.batches
    assert buyers.rows_read == buyers.accepted == 6_136
    assert repeats.rows_read == 1_553
    assert repeats.duplicates > 1_000
    assert report.leads == 24_742 + 6_136 + repeats.accepted
