"""Bought leads with their people as CSV (RFC 4180), for an agent's own system."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiqleads.commerce.disclosure import CONTACT, FACTS, Disclosure, as_json
from aiqleads.commerce.reports import Line, csv_text
from aiqleads.domain import moment

_CALLING = ("time_zones", "calling_from", "calling_until")
_CONSENT = ("consent_text", "consent_version", "consent_channel", "consent_given_at")
COLUMNS = (
    "lead_id",
    "order_id",
    "ordered_at",
    "price",
    "currency",
    *CONTACT,
    "do_not_call",
    *_CALLING,
    *(name for name in FACTS if name != "currency"),
    "lon",
    "lat",
    "place_precision",
    "answers",
    *_CONSENT,
    "consent_proof",
    "consent_sellers",
    "consent_revoked_at",
    "invented_columns",
)
_AT_ONCE = 500


def as_csv(
    lines: Iterable[Line], disclose: Callable[[Sequence[str]], Mapping[str, Disclosure]]
) -> Iterator[str]:
    """A header and a line a lead, piece by piece; money with two decimals, times in UTC.

    disclose: the people of some leads by lead_id; a lead without one keeps its order alone.
    """
    yield csv_text([COLUMNS])
    for some in _batches(lines):
        found = disclose([line.lead_id for line in some])
        for line in some:
            yield csv_text([_cells(line, found.get(line.lead_id))])


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    every = list(lines)
    return (every[at : at + _AT_ONCE] for at in range(0, len(every), _AT_ONCE))


def _cells(line: Line, made: Disclosure | None) -> list[Any]:
    known: dict[str, Any] = {
        "lead_id": line.lead_id,
        "order_id": line.order_id,
        "ordered_at": moment(line.created_us),
        "price": f"{line.price_cents / 100:.2f}",
        "currency": line.currency,
    }
    if made is not None:
        known = _flat(as_json(made)) | known
    return [known.get(name) for name in COLUMNS]


def _flat(said: Mapping[str, Any]) -> dict[str, Any]:
    consent: Mapping[str, Any] = next(iter(said["consents"]), {})
    place, calling = said["place"], said["calling"]
    return {
        **said["facts"],
        **said["contact"],
        "lon": place["lon"],
        "lat": place["lat"],
        "place_precision": place["precision"],
        "time_zones": " ".join(calling["time_zones"]),
        "calling_from": calling["from"],
        "calling_until": calling["until"],
        "answers": json.dumps(said["answers"], ensure_ascii=False) if said["answers"] else "",
        "consent_text": consent.get("text"),
        "consent_version": consent.get("text_version"),
        "consent_channel": consent.get("channel"),
        "consent_given_at": consent.get("given_at"),
        "consent_proof": consent.get("proof"),
        "consent_sellers": consent.get("sellers"),
        "consent_revoked_at": consent.get("revoked_at"),
        "invented_columns": said["invented"],
    }
