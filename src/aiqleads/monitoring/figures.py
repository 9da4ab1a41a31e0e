"""Figures of a drift verdict, for the notebook that checks drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aiqleads.monitoring.drift import ColumnDrift, DriftVerdict, Rules

_CALM, _DRIFTED, _PAST = "#6b8ba4", "#b3261e", "#1b6e3c"


def verdict_figure(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    verdict: DriftVerdict,
    rules: Rules | None = None,
    most: int = 15,
) -> Figure:
    """Left, how far each important column lies from the past; right, the most surprising one.

    The left side has the score and the `most` most important features. The right side has,
    of the columns at least `rules.effect_floor` away, the one with the smallest q-value: its
    mean at each reference clock, and now.
    """
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    floor = (rules or Rules()).effect_floor
    _distances(left, verdict.columns[: most + 1], floor)
    large = [c for c in verdict.columns if c.effect >= floor] or verdict.columns
    _past(right, reference, current, min(large, key=lambda c: c.q_value))
    figure.suptitle("ALERT" if verdict.alert else "No alert", color=_colour(verdict.alert))
    return figure


def _colour(drifted: bool) -> str:
    return _DRIFTED if drifted else _CALM


def _distances(axes: Axes, columns: Sequence[ColumnDrift], floor: float) -> None:
    names = [
        c.column if np.isnan(c.importance) else f"{c.column} ({c.importance:.1%})" for c in columns
    ]
    places = np.arange(len(columns))[::-1]
    axes.barh(places, [c.effect for c in columns], color=[_colour(c.drifted) for c in columns])
    axes.axvline(floor, color="black", linestyle="--", linewidth=1)
    axes.text(floor, len(columns) - 0.4, " smallest that matters", fontsize=8, va="bottom")
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("distance of now from the past (0 the same, 1 nothing in common)")
    axes.set_title("Columns by importance; red: drifted", fontsize=10, pad=14)


def _past(axes: Axes, reference: pd.DataFrame, current: pd.DataFrame, column: ColumnDrift) -> None:
    name = column.column
    mine = reference[reference["agent_id"].isin(current["agent_id"])]
    past = mine.groupby("clock_us")[name].mean()
    now = current.groupby("clock_us")[name].mean()
    axes.plot(pd.to_datetime(past.index, unit="us"), past, "o-", color=_PAST, label="past clocks")
    axes.plot(
        pd.to_datetime(now.index, unit="us"), now, "D", color=_colour(column.drifted), label="now"
    )
    axes.set_title(f"{name}: q = {column.q_value:.2g}", fontsize=10)
    axes.set_xlabel("market clock (UTC)")
    axes.set_ylabel("mean over the items shown")
    axes.tick_params(axis="x", rotation=30, labelsize=8)
    axes.legend(fontsize=8)
