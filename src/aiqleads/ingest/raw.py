"""Payloads as they came, kept for ever under data/raw/<source>/<date>/."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from aiqleads.domain import US_PER_SECOND
from aiqleads.ingest.payload import Payload
from aiqleads.settings import Settings


def keep_raw(settings: Settings, source: str, payload: Payload, now_us: int) -> Path:
    """Copies a payload to its place, read-only; a copy that is there stays as it is.

    The name starts with the digest, so that another content never takes its place; a
    payload that came before, on whatever day, is not copied again.
    """
    root = settings.data / "raw" / source
    name = f"{payload.sha256[:16]}-{payload.path.name}"
    for kept in sorted(root.glob(f"*/{payload.sha256[:16]}-*")):
        if kept.suffix != ".part":
            return kept
    day = dt.datetime.fromtimestamp(now_us // US_PER_SECOND, dt.UTC).date().isoformat()
    place = root / day / name
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(name + ".part")
    part.write_bytes(payload.body)
    part.chmod(0o444)
    return part.replace(place)
