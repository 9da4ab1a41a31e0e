"""A small invented town whose frames a map can be made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aiqleads.domain import US_PER_DAY
from aiqleads.geo.grid import cells
from aiqleads.ingest.market import Market
from aiqleads.settings import Settings

#: 1998-01-01 00:00 in New York
AS_OF_US = 883_630_800_000_000
CENTRE = (-83.55, 41.65)
#: a title that would break out of a page which does not escape it
TITLE = 'Town </script><script>document.title="broken"</script>'


def build(
    settings: Settings, *, dated: bool = True, events: bool = True, regions: bool = False
) -> Market:
    """Writes leads, sales and perhaps events and regions; returns the market."""
    rng = np.random.default_rng(3)
    core = settings.data / "core" / "town"
    (core / "events").mkdir(parents=True, exist_ok=True)
    leads = _leads(rng)
    leads.to_parquet(core / "leads.parquet")
    _sales(rng, dated).to_parquet(core / "sales.parquet")
    if events:
        _interactions(leads).to_parquet(core / "events" / "interactions.parquet")
    fields: dict[str, Any] = {
        "name": "town",
        "title": TITLE,
        "timezone": "America/New_York",
        "sales": {
            "columns": {"price": "p", "lon": "x", "lat": "y", "sold": "s"},
            "date_format": "%Y",
        },
    }
    if regions:
        fields["regions"] = {"path": _regions(core), "id": "name"}
    return Market.model_validate(fields)


def _places(rng: np.random.Generator, n: int) -> dict[str, Any]:
    lon, lat = CENTRE[0] + rng.normal(0, 0.03, n), CENTRE[1] + rng.normal(0, 0.02, n)
    lon[:2] += 1.5  # two alone, far from everybody
    return {"lon": lon, "lat": lat, "cell": cells(lon, lat)}


def _leads(rng: np.random.Generator, n: int = 900) -> pd.DataFrame:
    received = AS_OF_US - rng.integers(1, 300, n) * US_PER_DAY
    received[-20:] = AS_OF_US + US_PER_DAY  # not known yet at the clock
    buyer = np.arange(n) % 4 == 3
    return pd.DataFrame(
        {
            "lead_id": [f"L{i}" for i in range(n)],
            "intent": np.where(buyer, "buy", "sell"),
            "received_market_us": received,
            "ask_price_cents": np.rint(np.exp(rng.normal(11.5, 0.4, n))).astype(np.int64) * 100,
            "invented": np.where(buyer, "all", "received_market_us,contact"),
            **_places(rng, n),
        }
    )


def _sales(rng: np.random.Generator, dated: bool, n: int = 700) -> pd.DataFrame:
    sold = pd.Series(AS_OF_US - rng.integers(1, 300, n) * US_PER_DAY, dtype="Int64")
    return pd.DataFrame(
        {
            "sale_id": [f"S{i}" for i in range(n)],
            "sold_market_us": sold if dated else pd.Series([None] * n, dtype="Int64"),
            "price_cents": np.rint(np.exp(rng.normal(11.5, 0.4, n))).astype(np.int64) * 100,
            **_places(rng, n),
        }
    )


def _interactions(leads: pd.DataFrame) -> pd.DataFrame:
    """Two actions on every lead that arrived by the clock, and one after it."""
    early = leads["received_market_us"] + 1000
    return pd.DataFrame(
        {
            "lead_id": np.tile(leads["lead_id"], 3),
            "arrived_market_us": np.concatenate([early, early, early * 0 + AS_OF_US + 1]),
        }
    )


def _regions(core: Path) -> Path:
    west, south = CENTRE[0] - 0.2, CENTRE[1] - 0.1
    ring = [[west, south], [west + 0.4, south], [west + 0.4, south + 0.2], [west, south]]
    feature = {
        "type": "Feature",
        "properties": {"name": "43604"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    path = core / "regions.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path
