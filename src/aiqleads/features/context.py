"""How the market around leads moves with itself and with what agents do: rank correlations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aiqleads.errors import InvalidInput
from aiqleads.features.catalog import FEATURES

#: what describes a lead's surroundings at the moment of a request
CONTEXT_FEATURES = tuple(
    feature.name for feature in FEATURES if feature.group in ("location", "market")
)
_LABEL = "label"


def context_correlations(
    frame: pd.DataFrame,
    *,
    window: str = "Q",
    features: Sequence[str] = CONTEXT_FEATURES,
    least: int = 200,
) -> pd.DataFrame:
    """Spearman's rank correlations of market context with itself and with labels, by window.

    frame: a training frame, one row an impression, with at_market_us, label, request_id and
    the features. window: a pandas period ("M", "Q", "Y") on the market clock, UTC. Returns
    window, left, right, rho, n: each pair of features once, and each feature with `label`,
    which is ranked within its request, since a label compares leads of one page. n counts
    rows in which both are there; rho is missing below `least` of them, or where one does not
    vary. Correlations of rows, whose leads and areas repeat: figures to look at, not tests.
    """
    lacking = [
        n for n in ("at_market_us", "request_id", _LABEL, *features) if n not in frame.columns
    ]
    if lacking:
        raise InvalidInput(f"the frame has no {', '.join(lacking)}")
    when = pd.to_datetime(frame["at_market_us"], unit="us").dt.to_period(window)
    parts = [
        _pairs(rows, str(period), list(features), least)
        for period, rows in frame.groupby(when.to_numpy())
    ]
    columns = ["window", "left", "right", "rho", "n"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _pairs(rows: pd.DataFrame, window: str, features: list[str], least: int) -> pd.DataFrame:
    inner = rows.groupby("request_id")[[_LABEL, *features]].rank(pct=True)
    within = inner.corr(min_periods=least)[_LABEL]
    among = rows[features].corr(method="spearman", min_periods=least)
    there = rows[features].notna().to_numpy(np.int64)
    both = there.T @ there
    found = [
        (window, left, right, among.iloc[i, i + 1 + j], both[i, i + 1 + j])
        for i, left in enumerate(features)
        for j, right in enumerate(features[i + 1 :])
    ]
    found += [(window, name, _LABEL, within[name], both[i, i]) for i, name in enumerate(features)]
    return pd.DataFrame(found, columns=["window", "left", "right", "rho", "n"])
