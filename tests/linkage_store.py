"""A store that takes submissions as the aggregator does, for tests of the linkage."""

from __future__ import annotations

import json
from pathlib import Path
from time import process_time
from typing import Any

import pandas as pd
from sqlalchemy import bindparam, insert, select, update

from aiqleads.ingest import linkage
from aiqleads.settings import Settings
from aiqleads.store import links, tables
from aiqleads.store.database import open_room, reader
from aiqleads.store.leads import CONTACT
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

_LEAD = {
    "source": "test",
    "batch_id": "batch",
    "property_type": "house",
    "timeline": "",
    "financing": "",
    "expires_market_us": 0,
    "ask_price_cents": 1,
    "currency": "USD",
    "place_precision": "area",
    "cell": 1,
    "max_buyers": 1,
    "submissions": 1,
    "quality": 1.0,
    "quality_reasons": "",
    "fraud": 0.0,
    "fraud_reasons": "",
    "waits": "",
    "estimated": "",
    "invented": "",
}
_SUBMISSION = {
    "source": "test",
    "batch_id": "batch",
    "row_number": 1,
    "arrived_us": 0,
    "key_id": "key",
    "contact": b"",
    "content": b"",
    "invented": True,
}
_BATCH = {
    "batch_id": "batch",
    "source": "test",
    "market": "toledo",
    "path": "",
    "payload_sha256": "",
    "contract_version": "",
    "state": "open",
    "rows_read": 0,
    "accepted": 0,
    "incomplete": 0,
    "updated": 0,
    "duplicates": 0,
    "quarantined": 0,
    "cost_cents": 0,
    "ingested_us": 0,
}
_CONSENT = {
    "text": "",
    "text_version": "",
    "channel": "",
    "given_us": 0,
    "source": "test",
    "proof": "",
    "sellers": 1,
}


class LinkageStore:
    """Rooms of its own under a directory; contacts are sealed as the aggregator seals them."""

    def __init__(self, home: Path) -> None:
        settings = Settings(home=home)
        self.engine = open_room(settings, "leads")
        self.vault = Vault.open(settings)
        self.stored: set[str] = set()
        self.seconds = 0.0  # CPU, of plan and save
        with writing(self.engine) as connection:
            connection.execute(insert(tables.batch), [_BATCH])

    def close(self) -> None:
        self.engine.dispose()
        self.vault.close()

    def take(self, fresh: pd.DataFrame) -> linkage.Plan:
        """One chunk: planned, stored, saved."""
        with writing(self.engine) as connection:
            started = process_time()
            made = linkage.plan(connection, fresh, self.vault)
            self.seconds += process_time() - started
            links.split_off(connection, made.split)
            self._insert(connection, fresh, made)
            started = process_time()
            linkage.save(connection, made)
            self.seconds += process_time() - started
        self.stored |= set(fresh.index)
        return made

    def _insert(self, connection: Any, fresh: pd.DataFrame, made: linkage.Plan) -> None:
        rows = [
            {"submission_id": who, **row}
            for who, row in zip(
                fresh.index,
                fresh.astype(object).where(fresh.notna(), None).to_dict("records"),
                strict=True,
            )
        ]
        names = [name for name in CONTACT if name in fresh]
        key_ids = [f"person:{made.lead_of[row['submission_id']][0]}" for row in rows]
        sealed = self.vault.seal(
            key_ids,
            [row["submission_id"] for row in rows],
            [json.dumps({name: row[name] for name in names}).encode() for row in rows],
        )
        new_leads, new, known = [], [], []
        for row, key_id, contact in zip(rows, key_ids, sealed, strict=True):
            lead_id, rule = made.lead_of[row["submission_id"]]
            said = {
                "submission_id": row["submission_id"],
                "source_key": row["lead_id"],
                "received_market_us": row["received_market_us"],
                "key_id": key_id,
                "contact": contact,
            }
            if row["submission_id"] in self.stored:
                known.append({"of": row["submission_id"], "said": contact, "by": key_id})
                continue
            new.append({**_SUBMISSION, **said, "lead_id": lead_id, "rule": rule})
            if lead_id == row["lead_id"]:
                about = {name: row[name] for name in ("market", "intent", "received_market_us")}
                about |= {"source_key": row["lead_id"], "person_id": made.person_of[lead_id]}
                new_leads.append({**_LEAD, **about, "lead_id": lead_id})
        if new_leads:
            connection.execute(insert(tables.lead), new_leads)
        if new:
            connection.execute(insert(tables.submission), new)
            connection.execute(
                insert(tables.consent),
                [{**_CONSENT, "submission_id": each["submission_id"]} for each in new],
            )
        if known:
            renew = update(tables.submission).where(
                tables.submission.c.submission_id == bindparam("of")
            )
            connection.execute(
                renew.values(contact=bindparam("said"), key_id=bindparam("by")), known
            )

    def undo(self, a: str, b: str, now_us: int = 1) -> None:
        with writing(self.engine) as connection:
            linkage.undo(connection, a, b, now_us)

    def explain(self, lead_id: str) -> list[dict[str, Any]]:
        with reader(self.engine).connect() as connection:
            return linkage.explain(connection, lead_id)

    def rows(self, table: str) -> pd.DataFrame:
        query = select(tables.leads_metadata.tables[table])
        with reader(self.engine).connect() as connection:
            return pd.DataFrame([dict(row) for row in connection.execute(query).mappings()])

    def lead_of(self) -> dict[str, str]:
        rows = self.rows("submission")
        return dict(zip(rows["submission_id"], rows["lead_id"], strict=True))

    def person_of(self) -> dict[str, str]:
        """submission -> person, by its lead."""
        leads = self.rows("lead").set_index("lead_id")["person_id"]
        return {who: leads[lead_id] for who, lead_id in self.lead_of().items()}

    def groups(self, of: dict[str, str]) -> list[list[str]]:
        """Members of each value, for comparing partitions."""
        made: dict[str, list[str]] = {}
        for member, group in of.items():
            made.setdefault(group, []).append(member)
        return sorted(sorted(each) for each in made.values())
