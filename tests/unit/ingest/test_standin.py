from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY, US_PER_HOUR
from aiqleads.geo.grid import centers, parent
from aiqleads.ingest.contacts import contacts
from aiqleads.ingest.draws import keys_of
from aiqleads.ingest.market import Market
from aiqleads.ingest.normalize import clock_us, normalize
from aiqleads.ingest.standin import buyer_leads, invented_leads, repeat_leads, seller_leads

CRS = "EPSG:32617"


def _homes(market: Market, number: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "key": [None] * number,
            "price_cents": rng.uniform(20_000_00, 300_000_00, number).round(-2),
            "sold": pd.Timestamp("1994-01-01")
            + pd.to_timedelta(rng.integers(0, 1000, number), "D"),
            "lon": rng.uniform(-83.8, -83.4, number).round(6),
            "lat": rng.uniform(41.5, 41.7, number).round(6),
            "beds": rng.integers(1, 6, number).astype(float),
            "baths": 1.5,
            "living_area_sqft": rng.uniform(700, 3000, number).round(),
            "lot_area_sqft": 5000.0,
            "garage_area_sqft": 0.0,
            "rooms": 6.0,
            "year_built": 1950.0,
            "property_type": "house",
        },
        index=pd.RangeIndex(1, number + 1),
    )
    return normalize(rows, market, CRS)


@pytest.fixture
def homes(tiny: Market) -> pd.DataFrame:
    return _homes(tiny)


def test_no_lead_is_offered_after_its_sale_nor_too_long_before(
    homes: pd.DataFrame, tiny: Market
) -> None:
    leads = seller_leads(homes, tiny, "sales_csv")
    assert (leads["expires_market_us"] < homes["sold_market_us"]).all()
    days = (homes["sold_market_us"] - leads["received_market_us"]) / US_PER_DAY
    assert 34 < days.min() < 37
    assert 96 < days.max() < 98
    assert (leads["expires_market_us"] - leads["received_market_us"] == 30 * US_PER_DAY).all()


def test_expiry_says_nothing_of_the_day_of_sale(homes: pd.DataFrame, tiny: Market) -> None:
    leads = seller_leads(homes, tiny, "sales_csv")
    lag = (homes["sold_market_us"] - leads["received_market_us"]).astype(float)
    assert lag.std() > 15 * US_PER_DAY
    for column in ("ask_price_cents", "max_buyers", "beds"):
        assert abs(np.corrcoef(lag, leads[column].astype(float))[0, 1]) < 0.1


def test_the_asking_price_is_the_sale_s_with_noise(homes: pd.DataFrame, tiny: Market) -> None:
    leads = seller_leads(homes, tiny, "sales_csv")
    ratio = np.log(leads["ask_price_cents"] / homes["price_cents"])
    assert ratio.mean() == pytest.approx(0.03, abs=0.01)
    assert ratio.std() == pytest.approx(0.07, abs=0.01)
    assert (leads["ask_price_cents"] % 100_00 == 0).all()


def test_people_write_between_eight_and_ten_local_time(homes: pd.DataFrame, tiny: Market) -> None:
    leads = seller_leads(homes, tiny, "sales_csv")
    local = pd.to_datetime(leads["received_market_us"], unit="us", utc=True)
    hours = local.dt.tz_convert(tiny.timezone).dt.hour
    assert hours.between(8, 21).all()
    assert hours.nunique() == 14


def test_neither_order_nor_batch_size_matters(homes: pd.DataFrame, tiny: Market) -> None:
    def made(part: pd.DataFrame) -> list[pd.DataFrame]:
        sellers = seller_leads(part, tiny, "sales_csv")
        buyers = buyer_leads(sellers, tiny, CRS)
        repeats = repeat_leads(pd.concat([sellers, buyers]), tiny, CRS)
        parts = (sellers, buyers, repeats)
        return [each.set_index("source_key").sort_index() for each in parts]

    whole = made(homes)
    shuffled = made(homes.sample(frac=1, random_state=1))
    halves = [made(homes.iloc[:700]), made(homes.iloc[700:])]
    for at in range(3):
        pd.testing.assert_frame_equal(whole[at], shuffled[at])
        joined = pd.concat([half[at] for half in halves]).sort_index()
        pd.testing.assert_frame_equal(whole[at], joined)


def test_everything_invented_says_so(homes: pd.DataFrame, tiny: Market) -> None:
    sellers = seller_leads(homes, tiny, "sales_csv")
    buyers = buyer_leads(sellers, tiny, CRS)
    named = set(sellers["invented"].iloc[0].split(","))
    assert named == {
        "received_market_us",
        "expires_market_us",
        "ask_price_cents",
        "max_buyers",
        "contact",
    }
    assert set(buyers["invented"]) == {"all"}
    assert set(repeat_leads(sellers, tiny, CRS)["invented"]) == {"all"}


def test_whoever_is_invented_has_a_row_a_consent_that_says_so_and_a_reason_to_wait(
    homes: pd.DataFrame, tiny: Market
) -> None:
    homes.iloc[:3, homes.columns.get_indexer(["lon", "lat", "cell", "region"])] = None
    made = invented_leads(homes, tiny, "sales_csv", CRS)
    assert set(made["source"]) == {"sales_csv", "simulated_buyers", "simulated_repeats"}
    assert made["row_number"].isin(homes.index).all()
    assert made["consent_text"].str.startswith("Invented").all()
    assert (made["consent_sellers"] == made["max_buyers"]).all()
    sellers = made[made["source"] == "sales_csv"].set_index("row_number")
    assert sellers["waits"].iloc[:3].tolist() == ["no place"] * 3
    assert set(sellers["waits"].iloc[3:]) == {""}
    beside = made[made["source"] == "simulated_buyers"]
    years = beside["row_number"].map(homes["sold"].dt.year)
    received = pd.to_datetime(beside["received_market_us"], unit="us").dt.year
    assert ((years - received).abs() <= 1).all()
    assert made["content"].is_unique


def test_buyers_want_a_home_like_one_of_theirs_in_an_area(
    homes: pd.DataFrame, tiny: Market
) -> None:
    sellers = seller_leads(homes, tiny, "sales_csv")
    buyers = buyer_leads(sellers, tiny, CRS)
    assert len(buyers) / len(sellers) == pytest.approx(0.25, abs=0.04)
    assert set(buyers["place_precision"]) == {"area"}
    assert buyers["beds"].min() >= 1
    areas = set(zip(*centers(parent(sellers["cell"].to_numpy(np.int64), 8)), strict=True))
    assert set(zip(buyers["lon"], buyers["lat"], strict=True)) <= areas
    assert buyers["year_built"].isna().all()


def test_repeats_come_within_three_days_and_before_the_sale(
    homes: pd.DataFrame, tiny: Market
) -> None:
    sellers = seller_leads(homes, tiny, "sales_csv")
    repeats = repeat_leads(sellers, tiny, CRS)
    of = sellers.set_index("source_key").loc[repeats["source_key"].str.removesuffix(":again")]
    later = repeats["received_market_us"].to_numpy() - of["received_market_us"].to_numpy()
    assert later.min() >= US_PER_HOUR
    assert later.max() <= 3 * US_PER_DAY
    sold = homes["sold_market_us"].set_axis(sellers["source_key"]).loc[of.index]
    assert (repeats["expires_market_us"].to_numpy() < sold.to_numpy()).all()
    assert len(repeats) / len(sellers) == pytest.approx(0.05, abs=0.02)


def test_a_feed_without_dates_gets_days_in_the_window(
    make_market: Callable[[str], Market], tiny_toml: str, homes: pd.DataFrame
) -> None:
    text = tiny_toml.replace('date_format = "%Y-%m-%d"', "").replace('sold = "day"\n', "")
    window = "[leads]\nreceived_from = 2008-05-01\nreceived_until = 2008-05-31\n"
    market = make_market(text + window)
    leads = seller_leads(homes.assign(sold=pd.NaT), market, "sales_csv")
    local = pd.to_datetime(leads["received_market_us"], unit="us", utc=True)
    days = local.dt.tz_convert(market.timezone).dt.strftime("%Y-%m-%d")
    assert (days.min(), days.max()) == ("2008-05-01", "2008-05-31")


def test_nobody_real_can_be_reached() -> None:
    people = contacts(keys_of(str(at) for at in range(5000)))
    phone = re.compile(r"\+1-[2-9]\d\d-555-01\d\d")
    assert all(each == "" or phone.fullmatch(each) for each in people["phone"])
    assert all(each == "" or each.endswith("@example.com") for each in people["email"])
    assert ((people["phone"] != "") | (people["email"] != "")).all()
    assert people["email"][people["email"] != ""].is_unique
    codes = people["phone"].str[3:6]
    assert not codes[codes != ""].str.endswith("11").any()


def test_local_times_that_the_clocks_skip_or_repeat_have_one_meaning() -> None:
    local = pd.Series(pd.to_datetime(["1996-04-07 02:30", "1996-10-27 01:30", None]))
    at = clock_us(local, "America/New_York")
    utc = pd.to_datetime(at.dropna().astype("int64"), unit="us", utc=True)
    assert [str(each) for each in utc] == ["1996-04-07 07:00:00+00:00", "1996-10-27 05:30:00+00:00"]
    assert at.isna().tolist() == [False, False, True]


def test_a_corrected_price_is_the_same_sale_and_another_floor_area_is_not(
    homes: pd.DataFrame, tiny: Market
) -> None:
    rows = homes.drop(columns=["identity", "entity", "sold_market_us"])
    price = normalize(rows.assign(price_cents=1e7), tiny, CRS)
    assert (price["identity"] == homes["identity"]).all()
    area = normalize(rows.assign(living_area_sqft=rows["living_area_sqft"] + 1), tiny, CRS)
    assert not (area["identity"] == homes["identity"]).any()
    keyed = normalize(rows.assign(key=[str(at) for at in rows.index]), tiny, CRS)
    assert keyed["identity"].iloc[0] == "tiny|key:1"
