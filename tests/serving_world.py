"""A small synthetic market, published, with a tiny model: all that the service needs to start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np
from catboost import CatBoostRegressor

from aiqleads.domain import US_PER_DAY, US_PER_HOUR, Tier
from aiqleads.features.catalog import (
    AGENT_FEATURES,
    AGENT_INGREDIENTS,
    CROSS_FEATURES,
    FEATURE_NAMES,
    LEAD_FEATURES,
    LEAD_INGREDIENTS,
    PAIR_INGREDIENTS,
)
from aiqleads.geo.grid import cells, parent
from aiqleads.geo.privacy import coarsen
from aiqleads.ingest.reach import contact_keys
from aiqleads.ranking.scorer import Card, Scorer
from aiqleads.recommend.cards import shown_price
from aiqleads.recommend.snapshot import Manifest, write
from aiqleads.settings import Settings
from aiqleads.store import agents, batches, leads, links
from aiqleads.store.database import open_room
from aiqleads.store.tables import consent, lead, submission
from aiqleads.store.vault import Vault

#: 1998-01-01 in the market's time zone
AS_OF_US = 883_630_800_000_000
CENTRE = (-83.55, 41.65)
NOTICE = "Sample market: everything in it is invented."
TIERS = (Tier.BASIC, Tier.PRO, Tier.ENTERPRISE)


def build(
    home: Path,
    leads_count: int = 240,
    agents_count: int = 6,
    seed: int = 7,
    max_buyers: int | None = None,
    database_url: str | None = None,
) -> Settings:
    """Fills an empty home with leads, agents, a snapshot and `scorer/`; returns its settings.

    max_buyers: of every lead; None mixes one, two and three.
    """
    settings = Settings(home=home, database_url=database_url)
    rng = np.random.default_rng(seed)
    facts = _facts(rng, leads_count)
    if max_buyers is not None:
        facts["max_buyers"] = np.full(leads_count, max_buyers)
    _store(settings, facts, agents_count)
    publish(settings, facts, agents_count)
    make_scorer(seed).save(home / "scorer")
    return settings


def make_scorer(seed: int = 7, trees: int = 40) -> Scorer:
    """A model over the catalogue's columns, trained on noise with missing values."""
    rng = np.random.default_rng(seed)
    X = feature_rows(600, rng)
    truth = np.nan_to_num(X[:, 0]) - np.nan_to_num(X[:, -3]) + rng.normal(0, 0.3, len(X))
    model = CatBoostRegressor(
        iterations=trees,
        depth=4,
        verbose=False,
        thread_count=1,
        random_seed=seed,
        allow_writing_files=False,
    )
    model.fit(X, truth)
    return Scorer(model, Card("lead_ranker", FEATURE_NAMES, "RMSE", trees - 1, AS_OF_US))


def feature_rows(count: int, rng: np.random.Generator) -> Any:
    """Random rows of the model's width, float32, a tenth of the values missing."""
    X = rng.normal(size=(count, len(FEATURE_NAMES))).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def publish(
    settings: Settings,
    facts: Mapping[str, Any],
    agents_count: int = 6,
    as_of_us: int = AS_OF_US,
    clock: str = "frozen",
    seed: int = 11,
) -> str:
    """Publishes these leads with random features; returns the version."""
    rng = np.random.default_rng(seed)
    n, m = len(facts["lead_id"]), agents_count
    names = [f"A{i + 1:04d}" for i in range(m)]
    home = h3.latlng_to_cell(CENTRE[1], CENTRE[0], 8)
    territories = np.empty(m, dtype=object)
    for i in range(m):
        territories[i] = list(h3.grid_disk(home, 1 + i % 3))
    lead_features = rng.normal(size=(n, len(LEAD_FEATURES)))
    lead_features[rng.random(lead_features.shape) < 0.1] = np.nan
    manifest = Manifest(
        market="testville",
        title="Testville",
        timezone="America/New_York",
        currency="USD",
        clock=clock,
        as_of_market_us=as_of_us,
        lead_features=LEAD_FEATURES,
        agent_features=AGENT_FEATURES,
        cross_features=CROSS_FEATURES,
        lead_ingredients=LEAD_INGREDIENTS,
        agent_ingredients=AGENT_INGREDIENTS,
        pair_ingredients=PAIR_INGREDIENTS,
        intents=("sell", "buy"),
        property_types=("condo", "house"),
        leads=n,
        agents=m,
        notice=NOTICE,
    )
    columns = {
        **facts,
        "lead_features": lead_features,
        "lead_ingredients": rng.normal(size=(n, len(LEAD_INGREDIENTS))),
        "agent_id": np.array(names, dtype=np.bytes_),
        "agent_tier": np.array([TIERS[i % 3].code for i in range(m)]),
        "agent_features": rng.normal(size=(m, len(AGENT_FEATURES))),
        "agent_ingredients": 1 + rng.random((m, len(AGENT_INGREDIENTS))),
        "territories": territories,
        "pair_agent_id": np.array(["A0001", "A0001", "A0002"], dtype=np.bytes_),
        "pair_lead_id": np.asarray(facts["lead_id"])[[5, 2, 2]],
        "pair_ingredients": np.array(
            [[1, 1, 0, 0, 0, 1, 0], [2, 0.7, 1, 0, 0, 0.5, 0.3], [9, 3, 2, 1, 1, 2, 1.5]]
        ),
    }
    return write(settings, manifest, columns)


def _facts(rng: np.random.Generator, n: int) -> dict[str, Any]:
    # Most leads lie close together; a handful lies alone, far from everybody.
    lon = CENTRE[0] + rng.normal(0, 0.02, n)
    lat = CENTRE[1] + rng.normal(0, 0.015, n)
    lon[:3] += (1.0, 1.3, 1.6)
    price = np.rint(np.exp(rng.normal(11.8, 0.4, n)) * 100).astype(np.int64)
    stored = cells(lon, lat)
    # Twenty minutes and less: the tiers' windows (60, 15 and 0 minutes) cut through these.
    age_us = np.where(np.arange(n) % 12 == 0, 20 * US_PER_HOUR // 60, US_PER_DAY)
    age_us = age_us + rng.integers(0, US_PER_HOUR // 20, n)
    received = AS_OF_US - age_us
    return {
        "lead_id": np.array([f"L{i:05d}" for i in rng.permutation(n)], dtype=np.bytes_),
        "lon": lon,
        "lat": lat,
        "stored_cell": stored,
        "cell": parent(stored, 8),
        "shown_cell": coarsen(stored),
        "intent": (rng.random(n) < 0.25).astype(np.int8),
        "property_type": (rng.random(n) < 0.7).astype(np.int16),
        "ask_price_cents": price,
        "shown_price_cents": shown_price(price),
        "beds": np.where(rng.random(n) < 0.1, np.nan, rng.integers(1, 6, n)),
        "baths": rng.integers(2, 7, n) / 2,
        "living_area_sqft": rng.integers(600, 4000, n).astype(float),
        "year_built": rng.integers(1890, 1997, n).astype(float),
        "max_buyers": rng.integers(1, 4, n),
        "quality": rng.random(n).round(3),
        "received_market_us": received,
        "expires_market_us": received + 30 * US_PER_DAY,
    }


def _store(settings: Settings, facts: Mapping[str, Any], agents_count: int) -> None:
    """The same leads, with invented people, and the agents in their rooms."""
    rooms = open_room(settings, "leads"), open_room(settings, "commerce")
    columns = _lead_columns(facts)
    vault = Vault.open(settings)
    with rooms[0].begin() as connection:
        batches.begin(connection, [BATCH])
        counted = {"rows_read": len(facts["lead_id"]), "accepted": len(facts["lead_id"])}
        batches.count(connection, BATCH["batch_id"], counted)
        batches.end(connection, [BATCH["batch_id"]], "done")
        leads.add_leads(connection, columns)
        leads.add_submissions(connection, _submissions(vault, columns))
        leads.put_consents(connection, _consents(columns))
        links.put_keys(connection, _keys(vault, columns))
    vault.close()
    agents.add(
        rooms[1],
        [
            agents.Agent(f"A{i + 1:04d}", f"Agent {i + 1}", TIERS[i % 3], "testville")
            for i in range(agents_count)
        ],
        0,
    )
    for room in rooms:
        room.dispose()


BATCH = {
    "batch_id": "b1",
    "source": "synthetic",
    "market": "testville",
    "path": "none",
    "payload_sha256": "0" * 64,
    "contract_version": "1",
    "ingested_us": 0,
}


def _lead_columns(facts: Mapping[str, Any]) -> dict[str, list[Any]]:
    n = len(facts["lead_id"])
    ids = [lead_id.decode() for lead_id in facts["lead_id"]]
    given = {
        "lead_id": ids,
        "person_id": ids,
        "source_key": [f"row {i}" for i in range(n)],
        "intent": [("sell", "buy")[code] for code in facts["intent"]],
        "property_type": [("condo", "house")[code] for code in facts["property_type"]],
        "cell": facts["stored_cell"].tolist(),
        "beds": [None if np.isnan(beds) else float(beds) for beds in facts["beds"]],
    }
    for name in (
        "received_market_us",
        "expires_market_us",
        "ask_price_cents",
        "baths",
        "living_area_sqft",
        "year_built",
        "lon",
        "lat",
        "max_buyers",
        "quality",
    ):
        given[name] = facts[name].tolist()
    same = {
        "market": "testville",
        "source": "synthetic",
        "batch_id": "b1",
        "currency": "USD",
        "place_precision": "point",
        "region": "r",
        "utm_x_m": 0.0,
        "utm_y_m": 0.0,
        "submissions": 1,
        "fraud": 0.0,
        "invented": "all",
        **dict.fromkeys(
            ("timeline", "financing", "quality_reasons", "fraud_reasons", "waits", "estimated"), ""
        ),
    }
    return {
        column.name: given.get(column.name, [same.get(column.name)] * n) for column in lead.columns
    }


def _submissions(vault: Vault, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    n = len(columns["lead_id"])
    ids = [f"U{lead_id}" for lead_id in columns["lead_id"]]
    people = [{"name": f"Person {i}", **contact_of(i)} for i in range(n)]
    keys = [f"person:{lead_id}" for lead_id in columns["lead_id"]]
    sealed = vault.seal(keys, ids, [json.dumps(person).encode() for person in people])
    given = {
        "submission_id": ids,
        "key_id": keys,
        "contact": sealed,
        "content": vault.match(ids),
        "row_number": list(range(1, n + 1)),
        "arrived_us": [0] * n,
        "invented": [True] * n,
        "rule": [""] * n,
    }
    return {
        column.name: given.get(column.name, columns.get(column.name))
        for column in submission.columns
    }


def contact_of(i: int) -> dict[str, str]:
    """E-mail and phone of the i-th lead's person."""
    return {"email": f"person{i}@example.com", "phone": f"+1 419 555 01{i % 100:02d}"}


def _consents(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    n = len(columns["lead_id"])
    ids = [f"U{lead_id}" for lead_id in columns["lead_id"]]
    same = {
        "text": "Invented.",
        "text_version": "1",
        "channel": "form",
        "given_us": 0,
        "source": "synthetic",
        "revoked_us": None,
    }
    given = {
        "submission_id": ids,
        "proof": [f"certificate {lead_id}" for lead_id in columns["lead_id"]],
        "sellers": columns["max_buyers"],
    }
    return {each.name: given.get(each.name, [same.get(each.name)] * n) for each in consent.columns}


def _keys(vault: Vault, columns: Mapping[str, list[Any]]) -> dict[str, list[bytes]]:
    """By submission; a phone is shared by every hundredth person, so the e-mail alone."""
    return {
        f"U{lead_id}": vault.match(contact_keys(contact_of(i)["email"]))
        for i, lead_id in enumerate(columns["lead_id"])
    }
