"""The rankers' figures: titled, with units, readable in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aiqleads.ranking.compare import METRICS, Comparison, Row
from aiqleads.ranking.train import FUNNEL, Trained

_COLOUR = {"model": "#1b6ca8", "champion": "#0b3c5d", "baseline": "#8a8a8a", "oracle": "#c77d0a"}
_GROUPS = ("#1b6ca8", "#2a9d8f", "#c77d0a", "#8a4f9e", "#b23a48", "#6b705c", "#8a8a8a")
_TITLES = {"ndcg10": "NDCG@10", "mrr": "MRR", "revenue10": "Revenue@10"}
_SHOWN = 20


def learning_curves(trained: Sequence[Trained]) -> Figure:
    """NDCG@10 on the validate window after each tree, the kept tree marked.

    The funnel's is of weighed labels, the others' of raw ones (`Trained.curve`): the legend says
    which, since their heights cannot be compared.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for each, colour in zip(trained, _GROUPS * len(trained), strict=False):
        trees = np.arange(1, len(each.curve) + 1)
        labels = "labels weighed by attention" if each.loss == FUNNEL else "raw labels"
        axes.plot(trees, each.curve, color=colour, label=f"{each.loss}, {labels}")
        kept = each.scorer.card.best_iteration
        axes.plot(kept + 1, each.curve[kept], "o", color=colour)
    axes.set_title("Learning curves: observed labels of the validate window (dot: trees kept)")
    axes.set_xlabel("trees")
    axes.set_ylabel("NDCG@10, mean of answered requests")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def importance_bars(table: pd.DataFrame, title: str) -> Figure:
    """The most important features by their share of the mean absolute contribution."""
    top = table.head(_SHOWN).iloc[::-1]
    figure = Figure(figsize=(8, 0.27 * len(top) + 1.4), layout="constrained")
    axes = figure.subplots()
    groups = sorted(set(table["group"]))
    colours = dict(zip(groups, _GROUPS * len(groups), strict=False))
    axes.barh(top["feature"], 100 * top["share"], color=[colours[g] for g in top["group"]])
    axes.set_title(title)
    axes.set_xlabel("share of the mean absolute contribution to the score (%)")
    axes.grid(axis="x", alpha=0.3)
    shown = [group for group in groups if group and group in set(top["group"])]
    handles = [Patch(color=colours[group], label=group) for group in shown]
    if handles:
        axes.legend(handles=handles, frameon=False, loc="lower right", title="group")
    return figure


def comparison_intervals(comparison: Comparison) -> Figure:
    """Every ranker's metrics with 95 % intervals, one panel a metric."""
    rows = sorted(comparison.rows, key=lambda row: row.metrics["ndcg10"].mean)
    figure = Figure(figsize=(11, 0.36 * len(rows) + 1.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(METRICS), sharey=True), METRICS, strict=True):
        for height, row in enumerate(rows):
            _interval(axes, row, metric, height)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_title(_TITLES[metric])
        axes.set_xlabel(METRICS[metric])
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(
        f"Held-out window, {comparison.requests:,} requests of {comparison.agents} "
        f"{'simulated ' if comparison.truth == 'oracle' else ''}agents (bars: 95 % intervals)"
    )
    return figure


def difference_intervals(comparison: Comparison) -> Figure:
    """The models' differences in NDCG@10 to each baseline, with 95 % intervals."""
    rows = [row for row in comparison.rows if row.over]
    peers = list(dict.fromkeys(peer for row in rows for peer in row.over))
    figure = Figure(figsize=(8, 0.3 * len(peers) * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    labels: list[str] = []
    for peer in reversed(peers):
        for row, colour in zip(rows, _GROUPS * len(rows), strict=False):
            if peer not in row.over:
                continue
            interval = row.over[peer]["ndcg10"]
            height = len(labels)
            axes.plot([interval.low, interval.high], [height, height], color=colour, linewidth=2)
            axes.plot(interval.mean, height, "o", color=colour)
            labels.append(f"{row.name} - {peer}")
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_title("What a ranker gains over each baseline (95 % intervals, agents resampled)")
    axes.set_xlabel("difference in NDCG@10, same requests")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _interval(axes: Any, row: Row, metric: str, height: int) -> None:
    interval, colour = row.metrics[metric], _COLOUR[row.kind]
    axes.plot([interval.low, interval.high], [height, height], color=colour, linewidth=2)
    axes.plot(interval.mean, height, "o", color=colour)
