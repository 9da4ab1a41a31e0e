"""Which features a ranker leans on, and how that moved between two rankers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.ranking.scorer import Scorer

#: rows that the mean contributions are taken over, evenly spaced
ROWS = 5_000


def importances(
    scorer: Scorer, X: NDArray[np.float32], groups: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Importances of all features, most important first.

    X: rows to explain, of which at most `ROWS` are taken. groups: feature -> its group in the
    catalogue. Columns: feature, group, mean_abs_contribution (mean of |contribution| in units
    of the score), share (of their sum), prediction_values_change (CatBoost's own, percent).
    """
    step = max(1, len(X) // ROWS)
    size = np.abs(scorer.contributions(X[::step])).mean(axis=0)
    change = scorer.model.get_feature_importance(type="PredictionValuesChange", thread_count=1)
    table = pd.DataFrame(
        {
            "feature": scorer.features,
            "group": [(groups or {}).get(name, "") for name in scorer.features],
            "mean_abs_contribution": size,
            "share": size / max(size.sum(), np.finfo(float).tiny),
            "prediction_values_change": np.asarray(change, dtype=np.float64),
        }
    )
    ordered = table.sort_values(
        ["mean_abs_contribution", "feature"], ascending=[False, True], kind="stable"
    )
    return ordered.reset_index(drop=True)


def importance_shift(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """How shares moved between two importance tables, largest move first.

    Columns: feature, before, after, change (after - before); a feature that only one of the
    rankers reads has the share 0 in the other.
    """
    shares = pd.concat(
        {
            "before": before.set_index("feature")["share"],
            "after": after.set_index("feature")["share"],
        },
        axis=1,
    ).fillna(0.0)
    shares["change"] = shares["after"] - shares["before"]
    order = shares["change"].abs().sort_values(ascending=False, kind="stable").index
    return shares.loc[order].rename_axis("feature").reset_index()
