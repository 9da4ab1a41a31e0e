"""Which features a ranker leans on, and how that moved between two rankers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.ranking.scorer import Scorer

#: so many rows at least, evenly spaced, are taken of more
ROWS = 5_000
#: a share that moved by less than this did not move
STEADY = 0.001


def importances(
    scorer: Scorer, X: NDArray[np.float32], groups: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Importances of all features, most important first.

    X: rows to explain, of which fewer than twice `ROWS` are taken. groups: feature -> its group
    in the catalogue. Columns: feature, group, mean_abs_contribution (mean of |contribution| in
    units of the score), share (of their sum), prediction_values_change (CatBoost's own, percent).
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


def importance_shift(before: pd.DataFrame | None, after: pd.DataFrame) -> pd.DataFrame:
    """How shares moved between two importance tables, largest move first.

    Columns: feature, group, before, after, change (after - before), moved: "rose", "fell" or
    "steady", "new" or "gone" for a feature that only one of the rankers reads (its share in
    the other is 0). Without a table before, `before` and `change` are NaN, `moved` is empty
    and the most important feature comes first.
    """
    if before is None:
        return pd.DataFrame(
            {
                "feature": after["feature"],
                "group": after["group"],
                "before": np.nan,
                "after": after["share"],
                "change": np.nan,
                "moved": "",
            }
        )
    known = pd.concat([after, before]).drop_duplicates("feature").set_index("feature")
    old, new = (table.set_index("feature")["share"] for table in (before, after))
    shift = pd.DataFrame({"group": known["group"], "before": old, "after": new})
    gone, fresh = shift["after"].isna(), shift["before"].isna()
    shift = shift.fillna({"group": "", "before": 0.0, "after": 0.0})
    shift["change"] = shift["after"] - shift["before"]
    told = [gone, fresh, shift["change"] > STEADY, shift["change"] < -STEADY]
    shift["moved"] = np.select(told, ["gone", "new", "rose", "fell"], "steady")
    order = shift["change"].abs().sort_values(ascending=False, kind="stable").index
    return shift.loc[order].rename_axis("feature").reset_index()
