"""What a training is, as tables for people: its windows, its rankers, its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from aiqleads.ranking.dataset import Dataset
from aiqleads.ranking.registry import Training
from aiqleads.ranking.train import Trained


def windows_table(windows: Sequence[Dataset]) -> pd.DataFrame:
    """One column a window: when, how many requests and rows, and what agents did with them."""
    return pd.DataFrame(
        {
            window.name: {
                "first request (UTC)": pd.Timestamp(window.at_market_us.min(), unit="us").date(),
                "last request (UTC)": pd.Timestamp(window.at_market_us.max(), unit="us").date(),
                "requests": len(window.sizes),
                "answered": len(window.answered().sizes),
                "rows": len(window),
                "opened only (%)": round(100 * (window.label == 1).mean(), 2),
                "held only (%)": round(100 * (window.label == 2).mean(), 2),
                "bought and kept (%)": round(100 * (window.label == 3).mean(), 2),
                "digest": window.digest,
            }
            for window in windows
        }
    )


def rankers_table(trained: Sequence[Trained]) -> pd.DataFrame:
    """One line a ranker: trees, NDCG@10 by which rankers are chosen, time, version."""
    lines = [
        {
            "ranker": each.loss,
            "trees kept": each.scorer.card.best_iteration + 1,
            "NDCG@10, validate window, labels weighed by attention": round(each.validate_mean, 4),
            "training (s)": round(each.seconds, 1),
            "version": each.scorer.version,
        }
        for each in trained
    ]
    return pd.DataFrame(lines).set_index("ranker")


def group_shares(importances: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Share of each feature group in percent, one column a ranker."""
    shares = {name: table.groupby("group")["share"].sum() for name, table in importances.items()}
    return (100 * pd.DataFrame(shares)).round(1).rename_axis("share of the score (%)")


def versions_table(training: Training) -> pd.DataFrame:
    """One line a ranker: its version of the registered model, and its run."""
    lines = {
        loss: {"lead_ranker version": model.version, "run": model.run_id}
        for loss, model in training.models.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("ranker")
