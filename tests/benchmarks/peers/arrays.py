"""What the peers are given: the windows and the log as arrays, written by the core's Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h3
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aiqleads.ranking.dataset import Dataset
from aiqleads.settings import Settings

_LABELS = {"view": 1, "hold": 2, "purchase": 3}
_AREA_RESOLUTION = 8
_PRICE_BUCKETS = 10


def write_arrays(settings: Settings, market: str, windows: Sequence[Dataset], path: Path) -> Path:
    """Writes what `run.py` reads: no names and no truth, ids as integers.

    For each window w: X_w (n, F) float32, label_w, position_w, lead_w (n,), sizes_w, agent_w,
    at_w (G,). Of the log, one entry a view, hold or purchase by its first arrival: log_agent,
    log_lead, log_label, log_known (microseconds on the market clock when it arrived). tokens:
    (leads, 4) area, price decile of its intent, intent, bedrooms; agents: how many there are.
    """
    core = settings.data / "core" / market
    leads = pq.read_table(
        core / "leads.parquet", columns=["lead_id", "cell", "ask_price_cents", "intent", "beds"]
    ).to_pandas()
    agents = pq.read_table(core / "agents.parquet", columns=["agent_id"]).to_pandas()
    lead_of, agent_of = pd.Index(leads["lead_id"]), pd.Index(agents["agent_id"])
    arrays: dict[str, NDArray[Any]] = {
        "tokens": _tokens(leads),
        "agents": np.int64(len(agents)),  # type: ignore[dict-item]
    }
    for each in windows:
        arrays |= {
            f"X_{each.name}": each.X,
            f"label_{each.name}": each.label,
            f"position_{each.name}": each.position,
            f"lead_{each.name}": lead_of.get_indexer(pd.Index(each.lead_id)),
            f"sizes_{each.name}": each.sizes,
            f"agent_{each.name}": agent_of.get_indexer(pd.Index(each.agent_id)),
            f"at_{each.name}": each.at_market_us,
        }
    log = pq.read_table(
        core / "events" / "interactions.parquet",
        columns=["event_id", "agent_id", "lead_id", "kind", "arrived_market_us"],
        filters=[("kind", "in", list(_LABELS))],
    ).to_pandas()
    log = log.sort_values("arrived_market_us", kind="stable").drop_duplicates("event_id")
    log = log[log["agent_id"].isin(agent_of)]  # rivals are in no ranking
    arrays |= {
        "log_agent": agent_of.get_indexer(pd.Index(log["agent_id"])),
        "log_lead": lead_of.get_indexer(pd.Index(log["lead_id"])),
        "log_label": log["kind"].map(_LABELS).to_numpy(dtype=np.int64),
        "log_known": log["arrived_market_us"].to_numpy(dtype=np.int64),
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def _tokens(leads: pd.DataFrame) -> NDArray[np.int64]:
    """Numbers of each lead's pseudo-items (leads, 4), no number in two columns."""
    cells = leads["cell"].unique()
    area = {cell: h3.cell_to_parent(h3.int_to_str(int(cell)), _AREA_RESOLUTION) for cell in cells}
    rank = leads.groupby("intent")["ask_price_cents"].rank(pct=True, method="first")
    bucket = np.ceil(rank * _PRICE_BUCKETS).fillna(0).astype(int).astype(str)
    columns = [
        leads["cell"].map(area),
        leads["intent"] + bucket,
        leads["intent"],
        leads["beds"].fillna(-1).astype(int).astype(str),
    ]
    codes, first = [], 0
    for column in columns:
        code, known = pd.factorize(column)
        codes.append(code + first)
        first += len(known)
    return np.column_stack(codes).astype(np.int64)
