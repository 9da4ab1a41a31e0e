"""Leads with people in store, as short as a test can say them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine

from aiqleads.store import batches, leads
from aiqleads.store.tables import lead, submission
from aiqleads.store.vault import Vault

_BATCH = {
    "batch_id": "b-1",
    "source": "meta_leads",
    "market": "tiny",
    "path": "feed.csv",
    "payload_sha256": "0" * 64,
    "contract_version": "lead_feed 1",
    "ingested_us": 1,
}
_SAME = {
    "market": "tiny",
    "source": "meta_leads",
    "batch_id": "b-1",
    "intent": "sell",
    "property_type": "house",
    "received_market_us": 100,
    "expires_market_us": 200,
    "ask_price_cents": 9_000_000,
    "currency": "USD",
    "lon": -83.5,
    "lat": 41.6,
    "place_precision": "point",
    "cell": 622245847195844607,
    "region": "r",
    "utm_x_m": 1.0,
    "utm_y_m": 2.0,
    "max_buyers": 1,
    "submissions": 1,
    "quality": 0.5,
    "fraud": 0.0,
    "waits": "",
    "estimated": "",
    "invented": "",
    "timeline": "3 months",
    "financing": "",
    "quality_reasons": "",
    "fraud_reasons": "",
}
CONSENT = {
    "text": "Agents may call me.",
    "text_version": "7",
    "channel": "web form",
    "given_us": 1_700_000_000_000_000,
    "source": "meta_leads",
    "proof": "cert-9",
    "sellers": 1,
    "revoked_us": None,
}


def add_batch(engine: Engine) -> None:
    """The batch that the leads are of."""
    with engine.begin() as connection:
        batches.begin(connection, [_BATCH])


def add_lead(engine: Engine, lead_id: str, **other: Any) -> None:
    """A lead on offer; `other` are columns that differ."""
    row = {each.name: _SAME.get(each.name) for each in lead.columns}
    row |= {"lead_id": lead_id, "person_id": lead_id, "source_key": lead_id, **other}
    with engine.begin() as connection:
        leads.add_leads(connection, {name: [value] for name, value in row.items()})


def add_submission(
    engine: Engine,
    vault: Vault,
    lead_id: str,
    person: dict[str, Any],
    *,
    number: int = 1,
    consent: dict[str, Any] | None = CONSENT,
    invented: bool = False,
) -> str:
    """What a person sent, `number` orders them in time; returns its id."""
    who, key = f"U{number}{lead_id}", f"person:{lead_id}"
    row = {each.name: _SAME.get(each.name) for each in submission.columns} | {
        "submission_id": who,
        "lead_id": lead_id,
        "source_key": who,
        "row_number": number,
        "received_market_us": 100 + number,
        "arrived_us": 5,
        "key_id": key,
        "contact": vault.seal([key], [who], [json.dumps(person).encode()])[0],
        "content": b"said",
        "invented": invented,
        "rule": "",
    }
    with engine.begin() as connection:
        leads.add_submissions(connection, {name: [value] for name, value in row.items()})
        if consent is not None:
            agreed = {"submission_id": who, **consent}
            leads.put_consents(connection, {name: [value] for name, value in agreed.items()})
    return who
