"""Leads: from checked rows to what people sent, linked, scored, sealed and stored.

Whoever brings submissions (a feed of leads, or the stand-in) gives one frame with COLUMNS,
in the order in which they came. A submission that was stored before and says the same is
a duplicate; one that says something else is an update of what is stored. A new one that
another lead's person sent is a duplicate, too, and counts among that lead's submissions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Connection

from aiqleads.contracts.lead_feed import PROMISES
from aiqleads.domain import US_PER_DAY
from aiqleads.geo.utm import area_of_use
from aiqleads.ingest import linkage
from aiqleads.ingest.batches import Counts, Open, Run
from aiqleads.ingest.content import Verdict, verdict
from aiqleads.ingest.ids import lead_ids, submission_ids
from aiqleads.ingest.linkage import Plan
from aiqleads.ingest.normalize import PLACE, located, plain
from aiqleads.ingest.people import zip_points
from aiqleads.ingest.prices import usual_prices
from aiqleads.ingest.reach import email_key, email_of, phone_key, phone_of
from aiqleads.ingest.score import score
from aiqleads.store import leads as store
from aiqleads.store import links
from aiqleads.store.tables import lead as lead_table
from aiqleads.store.tables import submission as submission_table

#: facts of the home and of the wish, as table `lead` has them
FACTS = (
    "market",
    "intent",
    "property_type",
    "timeline",
    "financing",
    "received_market_us",
    "expires_market_us",
    "ask_price_cents",
    "currency",
    "beds",
    "baths",
    "living_area_sqft",
    "lot_area_sqft",
    "garage_area_sqft",
    "rooms",
    "year_built",
    "zip",
    "lon",
    "lat",
    "place_precision",
    *PLACE,
    "max_buyers",
    "waits",
    "estimated",
    "invented",
)
PERSON = ("name", "email", "phone", "address", "unit", "city", "state", "answers")
CONSENT = (
    "consent_text",
    "consent_version",
    "consent_channel",
    "consent_us",
    "consent_proof",
    "consent_sellers",
)
#: source, source_key, row_number: of the submission. content: all that it says, as text.
COLUMNS = ("source", "source_key", "row_number", "content", "warnings", *FACTS, *PERSON, *CONSENT)

_MOST_BUYERS = 3
_EARTH_KM = 6371.0088
_ESTIMATED = "price estimated from the area"


# --- a feed's rows ---------------------------------------------------------------------


def normalized(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS from rows that keep the contract of leads, cleaned; indexed by row number."""
    market = run.market
    placed = rows["lon"].notna() & rows["lat"].notna()
    crs = run.crs(rows["lon"], rows["lat"]) if placed.any() else None
    made = rows.drop(columns=["key", "received_us", "test"])
    made["content"] = _said(rows)
    made["source"], made["source_key"] = run.source.name, rows["key"]
    made["row_number"] = rows.index
    made["market"], made["currency"] = market.name, market.currency
    received = rows["received_us"].fillna(market.as_of_us or run.now_us).astype("int64")
    made["received_market_us"] = received
    made["expires_market_us"] = received + market.life_us
    made["garage_area_sqft"] = made["rooms"] = np.nan
    made["ask_price_cents"] = rows["ask_price_cents"].round().astype("Int64")
    made[list(PLACE)] = located(rows, market, crs)
    made["place_precision"] = rows["place_precision"].where(placed, "none")
    sellers = rows["consent_sellers"].fillna(1.0).clip(1, _MOST_BUYERS)
    made["consent_sellers"] = sellers.astype("int64")
    made["max_buyers"] = made["consent_sellers"]
    made["estimated"] = made["invented"] = ""
    for name in ("timeline", "financing"):
        made[name] = rows[name].fillna("")
    made["waits"] = _waits(run, made, crs)
    return made[list(COLUMNS)]


def _said(rows: pd.DataFrame) -> list[str]:
    """All that each submission says, as one text."""
    columns = [plain(rows[each.name]) for each in PROMISES]
    dumps = json.JSONEncoder(separators=(",", ":"), default=str).encode
    return [dumps(row) for row in zip(*columns, strict=True)]


def _waits(run: Run, made: pd.DataFrame, crs: str | None) -> pd.Series:
    """Why a lead is not on offer, '' where nothing is in the way; no price is told later."""
    waits = pd.Series("", made.index, dtype=object)
    if crs is not None:
        west, south, east, north = area_of_use(crs)
        inside = made["lon"].between(west, east) & made["lat"].between(south, north)
        waits = waits.mask(~inside & made["lon"].notna(), "outside the market")
    waits = waits.mask(made["cell"].isna(), "no place")
    waits = waits.mask(made["consent_text"].isna(), "no consent")
    if only_analysed(run):
        waits[:] = "analysis only"
    return waits


def only_analysed(run: Run) -> bool:
    """Whether the rights to the rows forbid to sell them."""
    own = run.market.people if run.source.section == "people" else None
    return run.source.rights == "analyse" or (own is not None and own.rights == "analyse")


# --- one chunk in its transaction ------------------------------------------------------


def keep(connection: Connection, run: Run, opened: Open, leads: pd.DataFrame) -> dict[str, Counts]:
    """Stores a chunk's submissions (COLUMNS) and counts them by source."""
    leads = _named(leads)
    with run.step("digest"):
        content = run.vault.match(leads["content"].tolist())
    with run.step("store"):
        ids = leads["submission_id"].tolist()
        found = verdict(ids, content, store.stored_content(connection, dict.fromkeys(ids)))
    if not len(found.last):
        return _counted(leads, leads.iloc[:0], found, np.zeros(0, dtype=bool))
    leads["digest"] = content
    news = leads.iloc[found.last].set_index("submission_id")
    with run.step("link"):
        plan = linkage.plan(connection, _compared(news), run.vault)
    own, lead_of = news["lead_id"].tolist(), [plan.lead_of[who][0] for who in news.index]
    makes = np.array([one == other for one, other in zip(own, lead_of, strict=True)], dtype=bool)
    with run.step("score"):
        news = _priced(connection, run, news)
        news = news.join(_scored(connection, run, news))
    with run.step("seal"):
        people = [plan.person_of.get(lead_id, lead_id) for lead_id in lead_of]
        sealed = _sealed(run, news, people)
    with run.step("store"):
        batch_of = news["source"].map(opened.ids).tolist()
        news["batch_id"] = batch_of
        _write(connection, run, news, plan, found.fresh, makes, sealed)
    with run.step("link"):
        linkage.save(connection, replace(plan, split={}))
    return _counted(leads, news, found, makes)


def _named(leads: pd.DataFrame) -> pd.DataFrame:
    """With lead_id (the one it makes if it joins no other) and submission_id."""
    made = leads.reset_index(drop=True)
    made["lead_id"] = made["submission_id"] = ""
    for source, rows in made.groupby("source", sort=False).groups.items():
        keys = made.loc[rows, "source_key"].tolist()
        made.loc[rows, "lead_id"] = lead_ids(str(source), keys)
        made.loc[rows, "submission_id"] = submission_ids(str(source), keys)
    return made


_COMPARED = (
    "lead_id",
    "market",
    "intent",
    "name",
    "email",
    "phone",
    "address",
    "unit",
    "zip",
    "utm_x_m",
    "utm_y_m",
    "received_market_us",
    "place_precision",
)


def _compared(news: pd.DataFrame) -> pd.DataFrame:
    return news[list(_COMPARED)]


# --- price and score -------------------------------------------------------------------


def _priced(connection: Connection, run: Run, news: pd.DataFrame) -> pd.DataFrame:
    """A usual price of the area where the person gave none; without one the lead waits."""
    lacks = news["ask_price_cents"].isna().to_numpy()
    if not lacks.any():
        return news
    if run.prices is None:
        run.prices = usual_prices(connection, run.market.name)
    found = [
        run.prices.of(region, code)
        for region, code in zip(news["region"][lacks], news["zip"][lacks], strict=True)
    ]
    price, where = news["ask_price_cents"].copy(), np.flatnonzero(lacks)
    price.iloc[where] = pd.array(found, dtype="Int64")
    filled = where[[each is not None for each in found]]
    rest = where[[each is None for each in found]]
    news = news.assign(ask_price_cents=price)
    for at, name, text in ((filled, "estimated", "ask_price_cents"), (rest, "waits", "no price")):
        column = news[name].to_numpy(copy=True)
        column[at] = [text if not each or name == "estimated" else each for each in column[at]]
        news[name] = column
    warnings = news["warnings"].to_numpy(copy=True)
    warnings[filled] = [
        f"{each}; {_ESTIMATED}" if each else _ESTIMATED for each in warnings[filled]
    ]
    news["warnings"] = warnings
    return news


def _scored(connection: Connection, run: Run, news: pd.DataFrame) -> pd.DataFrame:
    wanted = news.copy()
    wanted["zip_distance_km"] = _from_zip(news)
    wanted["same_contact_in_a_day"] = _velocity(connection, run, news)
    return score(wanted)


def _from_zip(news: pd.DataFrame) -> NDArray[np.float64]:
    """Kilometres of each point from the middle of its ZIP (haversine), NaN where unknown."""
    if not news["zip"].notna().any():
        return np.full(len(news), np.nan)
    centres = zip_points()
    nowhere = (np.nan, np.nan)
    middle = np.array([centres.get(code, nowhere) for code in news["zip"]], np.float64)
    lon, lat = (np.radians(news[name].to_numpy(np.float64)) for name in ("lon", "lat"))
    other_lon, other_lat = np.radians(middle.reshape(-1, 2)).T
    a = (
        np.sin((lat - other_lat) / 2) ** 2
        + np.cos(lat) * np.cos(other_lat) * np.sin((lon - other_lon) / 2) ** 2
    )
    return np.asarray(2 * _EARTH_KM * np.arcsin(np.sqrt(a)), np.float64)


def _velocity(connection: Connection, run: Run, news: pd.DataFrame) -> NDArray[np.int64]:
    """How often the same e-mail or phone wrote in the 24 hours before, itself left out."""
    times = news["received_market_us"].to_numpy(np.int64)
    real = np.flatnonzero((news["invented"] == "").to_numpy())
    made = np.zeros(len(news), np.int64)
    if not len(real):
        return made
    ids = news.index.to_numpy()
    own: dict[int, list[bytes]] = {}
    for name, read, key in (("email", email_of, email_key), ("phone", phone_of, phone_key)):
        texts: list[str | None] = news[name].tolist()
        given = [(at, text) for at in real.tolist() if (text := texts[at])]
        digests = run.vault.match(key(read(text)) for _, text in given)
        for (at, _), digest in zip(given, digests, strict=True):
            own.setdefault(at, []).append(digest)
    keys = {digest for digests in own.values() for digest in digests}
    first, until = int(times[real].min()) - US_PER_DAY, int(times[real].max())
    known = store.key_times(connection, keys, first, until)
    inside = set(ids.tolist())
    seen = {
        digest: [(at_us, who) for at_us, who in rows if who not in inside]
        for digest, rows in known.items()
    }
    for at, digests in own.items():
        for digest in digests:
            seen.setdefault(digest, []).append((int(times[at]), str(ids[at])))
    for at, digests in own.items():
        since, now = int(times[at]) - US_PER_DAY, int(times[at])
        others = {
            who
            for digest in digests
            for at_us, who in seen[digest]
            if since < at_us <= now and who != ids[at]
        }
        made[at] = len(others)
    return made


# --- writing ---------------------------------------------------------------------------


def _sealed(run: Run, news: pd.DataFrame, people: list[str]) -> dict[str, list[Any]]:
    """key_id and contact of each submission: everything that tells who somebody is."""
    columns = {name: plain(news[name]) for name in store.CONTACT}
    dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
    texts = [
        dumps({name: value for name, value in zip(columns, row, strict=True) if value is not None})
        for row in zip(*columns.values(), strict=True)
    ]
    key_ids = [f"person:{person}" for person in people]
    bodies = [text.encode("utf-8", "surrogatepass") for text in texts]
    return {"key_id": key_ids, "contact": run.vault.seal(key_ids, news.index.tolist(), bodies)}


def _write(
    connection: Connection,
    run: Run,
    news: pd.DataFrame,
    plan: Plan,
    fresh: NDArray[np.bool_],
    makes: NDArray[np.bool_],
    sealed: Mapping[str, list[Any]],
) -> None:
    """Leads first, as submissions point at them, then consents; the linkage comes after."""
    links.split_off(connection, plan.split)
    news = news.assign(**sealed, arrived_us=run.now_us, content=news["digest"])
    news["person_id"] = [plan.person_of.get(lead_id, lead_id) for lead_id in news["lead_id"]]
    news["submissions"], news["merged_into"] = 1, None
    news["rule"] = [plan.lead_of[who][1] for who in news.index]
    makers = news[makes | ~fresh]
    there = store.stored_leads(connection, makers["lead_id"])
    stands = makers["lead_id"].isin(list(there)).to_numpy()
    store.add_leads(connection, _columns(makers[~stands & makes[makes | ~fresh]], lead_table))
    store.renew_leads(connection, _columns(makers[stands], lead_table))
    sent = news.reset_index()
    sent["lead_id"] = [plan.lead_of[who][0] for who in news.index]
    sent["invented"] = [text == "all" or "contact" in text for text in sent["invented"]]
    store.add_submissions(connection, _columns(sent[fresh], submission_table))
    store.renew_submissions(connection, _columns(sent[~fresh], submission_table))
    agreed = news["consent_text"].notna().to_numpy()
    store.drop_consents(connection, news.index[~agreed & ~fresh])
    store.put_consents(connection, _consents(news[agreed]))


def _columns(rows: pd.DataFrame, table: Any) -> dict[str, list[Any]]:
    return {each.name: plain(rows[each.name]) for each in table.columns}


def _consents(news: pd.DataFrame) -> dict[str, list[Any]]:
    given = news["consent_us"].astype("Int64").fillna(news["received_market_us"])
    return {
        "submission_id": news.index.tolist(),
        "text": news["consent_text"].tolist(),
        "text_version": news["consent_version"].fillna("").tolist(),
        "channel": news["consent_channel"].fillna("").tolist(),
        "given_us": plain(given),
        "source": news["source"].tolist(),
        "proof": news["consent_proof"].fillna("").tolist(),
        "sellers": plain(news["consent_sellers"]),
        "revoked_us": [None] * len(news),
    }


def _counted(
    leads: pd.DataFrame,
    news: pd.DataFrame,
    found: Verdict,
    makes: NDArray[np.bool_],
) -> dict[str, Counts]:
    """By source; a submission that is new in the chunk and then told anew is both."""
    waits = dict(zip(news.index.tolist(), news["waits"].tolist(), strict=True))
    joined = {who for who, own in zip(news.index, makes, strict=True) if not own}
    made: dict[str, list[int]] = {}
    rows = zip(
        leads["source"], leads["submission_id"], found.updated, found.duplicates, strict=True
    )
    for source, who, updated, duplicate in rows:
        counts = made.setdefault(source, [0, 0, 0, 0])
        if updated:
            counts[2] += 1
        elif duplicate or who in joined:
            counts[3] += 1
        else:
            counts[0] += 1
            counts[1] += waits[who] != ""
    return {source: Counts(*counts) for source, counts in made.items()}
