"""Leads that stand in for people: what is invented, by which rule, in one place.

No public feed holds the enquiries of home owners, so each sale stands in for the enquiry
of its seller some weeks earlier:

- received: a whole number of days in `lag_days` (uniform) before the local day of sale, at
  a local time from 8:00 to 22:00 (uniform). Without sale dates: a day in the window
  `received_from`..`received_until` of the market file.
- expires: received + `life_days`. Since the lag is longer by more than the time of day and
  a repeat can take, no lead is offered after its sale, and expiry tells nothing of its day.
- ask price: sale price x exp(`ask_markup` + `ask_noise_sd` x normal), to 100 units.
- max_buyers: 1, 2 or 3 by the market file's shares. Contact: see `contacts`.
- The home (place, rooms, areas, year) is the feed's. The sale's price and day go no
  further than this module.

Simulated buyers are invented as a whole, `buyer_share` of them for each seller's lead:
somebody who looks for a home like that one around the same time (up to 20 days either
way) in the same H3 res-8 cell, whose middle is their place.

Planted repeats, `duplicate_share` of all: the same person writes again one hour to three
days later, a bit differently (see `_VARIANTS`). Their key names the lead they repeat, as
the label for tests; the search for duplicates does not read it.

Everybody invented agrees to be offered, and the record of that says that it is invented.

Every draw belongs to its entity (see `draws`): neither order nor batch size matters.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from aiqleads.domain import US_PER_DAY, US_PER_HOUR, Intent
from aiqleads.geo.grid import centers, parent
from aiqleads.ingest.contacts import contacts, phones
from aiqleads.ingest.draws import Keys, choice, keys_of, normal, uniform, whole
from aiqleads.ingest.ids import BUYERS, REPEATS, named
from aiqleads.ingest.keep_leads import COLUMNS, CONSENT, FACTS, PERSON
from aiqleads.ingest.market import REPEAT_WITHIN_DAYS, Market
from aiqleads.ingest.normalize import clock_us, place, plain

HOME = (
    "property_type",
    "beds",
    "baths",
    "living_area_sqft",
    "lot_area_sqft",
    "garage_area_sqft",
    "rooms",
    "year_built",
    "lon",
    "lat",
    "cell",
    "region",
    "utm_x_m",
    "utm_y_m",
)
_SELLER_INVENTED = "received_market_us,expires_market_us,ask_price_cents,max_buyers,contact"
_CONSENT = "Invented: no person stands behind this lead, and nobody agreed to anything."
_BUYER_AREA_RESOLUTION = 8
_BUYER_AROUND_DAYS = 20
_ROUND_CENTS = 100 * 100
_BUDGET_ROUND_CENTS = 1_000 * 100


def _rounded(cents: np.ndarray, step: int) -> np.ndarray:
    return np.maximum(np.rint(cents / step), 1).astype(np.int64) * step


def invented_leads(homes: pd.DataFrame, market: Market, source: str, crs: str) -> pd.DataFrame:
    """Submissions of sellers, then of buyers, then of those who write again, as COLUMNS.

    homes: rows of `normalize`, one a sale, indexed by row number; whoever is invented
    beside a sale has its row number.
    """
    sellers = seller_leads(homes, market, source)
    buyers = buyer_leads(sellers, market, crs)
    repeats = repeat_leads(pd.concat([sellers, buyers], ignore_index=True), market, crs)
    made = pd.concat([sellers, buyers, repeats], ignore_index=True)
    for name in ("timeline", "financing", "estimated", "warnings"):
        made[name] = ""
    for name in ("zip", "address", "unit", "city", "state", "answers"):
        made[name] = None
    made["waits"] = np.where(made["cell"].isna(), "no place", "")
    made["ask_price_cents"] = made["ask_price_cents"].astype("Int64")
    made["consent_text"], made["consent_version"] = _CONSENT, "1"
    made["consent_channel"], made["consent_proof"] = "invented", ""
    made["consent_us"] = made["received_market_us"]
    made["consent_sellers"] = made["max_buyers"]
    said = [plain(made[name]) for name in (*FACTS, *PERSON, *CONSENT)]
    made["content"] = [repr(row) for row in zip(*said, strict=True)]
    return made[list(COLUMNS)]


def _received(homes: pd.DataFrame, keys: Keys, market: Market) -> pd.Series:
    """Local days and times turned to UTC microseconds, int64."""
    rules = market.leads
    if rules.received_from is not None and rules.received_until is not None:
        window = (rules.received_until - rules.received_from).days
        days = pd.Series(pd.Timestamp(rules.received_from), homes.index)
        days = days + pd.to_timedelta(whole(keys, "received day", 0, window), "D")
    else:
        lag = whole(keys, "lag", *rules.lag_days)
        days = homes["sold"] - pd.to_timedelta(lag, "D")
    minutes = whole(keys, "received minute", 8 * 60, 22 * 60 - 1)
    return clock_us(days + pd.to_timedelta(minutes, "min"), market.timezone).astype("int64")


def _finish(leads: pd.DataFrame, keys: Keys, market: Market, source: str) -> pd.DataFrame:
    """Columns that every lead has, whatever it stands for."""
    people = contacts(keys).set_index(leads.index)
    leads["market"], leads["source"], leads["currency"] = market.name, source, market.currency
    leads["expires_market_us"] = leads["received_market_us"] + market.life_us
    leads["max_buyers"] = choice(keys, "max buyers", market.leads.max_buyers) + 1
    leads["entity"] = keys
    return leads.join(people)


def seller_leads(homes: pd.DataFrame, market: Market, source: str) -> pd.DataFrame:
    """One lead for each sale (rows of `normalize`), same index; see the module's rule."""
    keys = homes["entity"].to_numpy(np.uint64)
    leads = homes[list(HOME)].copy()
    leads["row_number"] = homes.index.to_numpy()
    leads["source_key"] = named("K", homes["identity"])
    leads["intent"] = str(Intent.SELL)
    leads["received_market_us"] = _received(homes, keys, market)
    factor = np.exp(market.leads.ask_markup + market.leads.ask_noise_sd * normal(keys, "ask"))
    leads["ask_price_cents"] = _rounded(homes["price_cents"].to_numpy() * factor, _ROUND_CENTS)
    leads["place_precision"] = np.where(homes["cell"].isna(), "none", "point")
    leads["invented"] = _SELLER_INVENTED
    return _finish(leads, keys, market, source)


def buyer_leads(sellers: pd.DataFrame, market: Market, crs: str) -> pd.DataFrame:
    """Simulated buyers beside some of the sellers' leads, a new index from 1."""
    drawn = uniform(sellers["entity"].to_numpy(np.uint64), "buyer") < market.leads.buyer_share
    beside = sellers[drawn & sellers["cell"].notna().to_numpy()]
    beside = beside.set_axis(pd.RangeIndex(1, len(beside) + 1))
    leads = beside[["row_number", "property_type", "beds", "baths", "rooms"]].copy()
    leads["source_key"] = named("B", beside["source_key"])
    keys = keys_of(leads["source_key"])
    leads["intent"] = str(Intent.BUY)
    leads["beds"] = np.maximum(beside["beds"].to_numpy() + whole(keys, "beds", -1, 1), 1)
    size = beside["living_area_sqft"].to_numpy() * uniform(keys, "size", 0.85, 1.15)
    leads["living_area_sqft"] = np.maximum(np.rint(size / 50) * 50, 100)
    for unknown in ("lot_area_sqft", "garage_area_sqft", "year_built"):
        leads[unknown] = np.nan
    budget = beside["ask_price_cents"].to_numpy() * np.exp(0.05 + 0.18 * normal(keys, "budget"))
    leads["ask_price_cents"] = _rounded(budget, _BUDGET_ROUND_CENTS)
    apart = uniform(keys, "when", -_BUYER_AROUND_DAYS, _BUYER_AROUND_DAYS) * US_PER_DAY
    leads["received_market_us"] = beside["received_market_us"] + apart.astype(np.int64)
    lon, lat = centers(parent(beside["cell"].to_numpy(np.int64), _BUYER_AREA_RESOLUTION))
    leads["lon"], leads["lat"] = lon, lat
    leads = leads.join(place(leads["lon"], leads["lat"], market, crs))
    leads["place_precision"] = "area"
    leads["invented"] = "all"
    return _finish(leads, keys, market, BUYERS)


#: share and kind of the ways in which people write again
_VARIANTS = {
    "same e-mail, written in capitals with a tag, no phone": 0.45,
    "another e-mail, same phone without its country code, initial for the first name": 0.35,
    "another e-mail and phone, same name in capitals, place 20 m away": 0.15,
    "somebody else of the household: nothing in common but the home": 0.05,
}


def repeat_leads(leads: pd.DataFrame, market: Market, crs: str) -> pd.DataFrame:
    """Planted repeats of some of the leads, a new index from 1; labelled by their key."""
    drawn = uniform(leads["entity"].to_numpy(np.uint64), "repeats") < market.leads.duplicate_share
    of = leads[drawn & leads["cell"].notna().to_numpy()]
    again = of.set_axis(pd.RangeIndex(1, len(of) + 1)).drop(columns=["name", "email", "phone"])
    again["source_key"] = [f"{key}:again" for key in again["source_key"]]
    keys = keys_of(again["source_key"])
    variant = choice(keys, "variant", _VARIANTS.values())
    hours = np.exp(uniform(keys, "delay", 0.0, np.log(24 * REPEAT_WITHIN_DAYS)))
    again["received_market_us"] += (hours * US_PER_HOUR).astype(np.int64)
    price = again["ask_price_cents"].to_numpy() * uniform(keys, "price again", 0.97, 1.03)
    again["ask_price_cents"] = _rounded(price, _ROUND_CENTS)
    again["lat"] += np.where(variant == 2, 20 / 111_320, 0.0)  # metres to degrees of latitude
    again[["cell", "region", "utm_x_m", "utm_y_m"]] = place(again["lon"], again["lat"], market, crs)
    before = of[["name", "email", "phone"]].set_axis(again.index)
    again["invented"] = "all"
    again = _finish(again, keys, market, REPEATS)
    again[["name", "email", "phone"]] = _written_again(before, variant, keys)
    return again


def _written_again(before: pd.DataFrame, variant: np.ndarray, keys: Keys) -> pd.DataFrame:
    """Contacts of the repeats: `before` as the variant alters it, one row each."""
    other = contacts(keys).set_axis(before.index)
    other["phone"] = phones(keys, "other line")
    made = other.copy()
    tagged = before["email"].str.replace("@", "+home@").str.upper()
    first, last = before["name"].str[0], before["name"].str.split().str[-1]
    work = last.str.lower() + "." + other["email"].str.split(".").str[-2]
    work = work.str.split("@").str[0].fillna("office") + "@example.org"
    made.loc[variant == 0, "name"] = before["name"]
    made.loc[variant == 0, "email"] = tagged
    made.loc[variant == 0, "phone"] = before["phone"].where(before["email"] == "", "")
    made.loc[variant == 1, "name"] = first + ". " + last
    made.loc[variant == 1, "email"] = work
    made.loc[variant == 1, "phone"] = before["phone"].str.removeprefix("+1-")
    made.loc[variant == 2, "name"] = before["name"].str.upper()
    made.loc[variant == 2, "email"] = work
    return made
