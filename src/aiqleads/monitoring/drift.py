"""Do the rankings served now differ from those of the past weeks? Our verdict, with reasons.

Pages of one clock have much in common (the same leads, the same market), so rows are no
independent draws and a two-sample test over rows alarms every day. The null is taken from
the past instead: how far does one clock lie from the others, for the same agents and the
same page length? A column has drifted when the current window lies further than chance
allows (Benjamini-Hochberg over all columns, weighted by the ranker's importances) AND the
distributions differ by an amount that matters. Evidently renders that verdict.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from aiqleads.errors import ContractBroken, InvalidInput

Floats = NDArray[np.float64]

#: what a frame of ranked items has beside the features
ITEM_COLUMNS = ("request_id", "agent_id", "lead_id", "clock_us", "position", "score")
#: with fewer reference clocks than this their spread says too little
MIN_CLOCKS = 8
#: a column with no more distinct values than this is a category
MAX_LEVELS = 8
#: levels rarer than this in the reference are pooled
RARE = 0.05
_OTHER = -1


@dataclass(frozen=True)
class Rules:
    """When to alert.

    false_discovery_rate: of the columns called drifted, the share that may be wrong.
    effect_floor: least distance of two distributions that matters (0 to 1; a shift by half
    a standard deviation is 0.2). importance_floor: an alert needs drifted features that
    carry this share of the ranker's importance, or drifted scores.
    """

    false_discovery_rate: float = 0.05
    effect_floor: float = 0.1
    importance_floor: float = 0.05


@dataclass(frozen=True)
class ColumnDrift:
    """One column's part of the verdict.

    kind: number or category. importance: share of the ranker's, 0 to 1; NaN for the score.
    effect: Kolmogorov-Smirnov distance of numbers, total variation of categories. shift: of
    numbers, in standard deviations, from ranks, so that outliers do not count; NaN for
    categories. p_value, q_value: before and after the correction for many columns.
    """

    column: str
    kind: str
    importance: float
    effect: float
    shift: float
    p_value: float
    q_value: float
    drifted: bool


@dataclass(frozen=True)
class DriftVerdict:
    """Whether to alert, and why; `columns` has the most important ones first.

    clocks: of the reference. matched: whether current pages were compared with pages of the
    same agents (where they are strangers to the reference, with everybody's).
    """

    alert: bool
    columns: tuple[ColumnDrift, ...]
    reasons: tuple[str, ...]
    rows_reference: int
    rows_current: int
    agents: int
    clocks: int
    matched: bool

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the drifted columns."""
        return tuple(c.column for c in self.columns if c.drifted)

    @property
    def table(self) -> pd.DataFrame:
        """One row per column."""
        return pd.DataFrame([asdict(c) for c in self.columns])


def judge(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    importance: Mapping[str, float],
    rules: Rules | None = None,
) -> DriftVerdict:
    """Compares ranked items as served now with those of past clocks.

    reference, current: one row per shown item with ITEM_COLUMNS and every feature that
    `importance` names (any non-negative scale). `clock_us` is the market clock at which a
    page was, or would have been, served; a page is one agent's items at one clock, and
    pages weigh the same. With fewer than MIN_CLOCKS reference clocks each page counts as
    one observation of a two-sample test, which does not know how far clocks differ.
    Raises ContractBroken for a missing column, InvalidInput for an empty frame.
    """
    rules = rules or Rules()
    _check(reference, current, importance)
    reference, current, matched = _comparable(reference, current)
    pages = _Pages.of(reference, current)
    total = sum(importance.values()) or 1.0
    shares = {"score": np.nan, **{name: value / total for name, value in importance.items()}}
    measured = [
        _measure(name, share, reference[name], current[name], pages)
        for name, share in shares.items()
    ]
    columns = tuple(
        sorted(_corrected(measured, rules), key=lambda c: -np.nan_to_num(c.importance, nan=2.0))
    )
    alert, reasons = _conclude(columns, rules)
    return DriftVerdict(
        alert=alert,
        columns=columns,
        reasons=(*reasons, *_remarks(pages, matched)),
        rows_reference=len(reference),
        rows_current=len(current),
        agents=int(current["agent_id"].nunique()),
        clocks=pages.clocks,
        matched=matched,
    )


def report_page(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    verdict: DriftVerdict,
    out: Path,
    title: str = "Drift of served rankings",
    notice: str = "",
    sample: int = 20_000,
) -> Path:
    """Writes Evidently's report of the verdict as one HTML file that needs no network.

    The verdict with its reasons stands on top; every column's test below it is ours, its
    figure the column's q-value. Evidently refuses a column without any value: it is named on
    top and has no chart. notice: what is simulated. sample: rows of each frame that
    are drawn at most (evenly spaced).
    """
    # Evidently takes seconds to import, and only a report needs it.
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    thinned = [_thinned(frame, sample) for frame in (current, reference)]
    filled = [
        c
        for c in verdict.columns
        if all(np.isfinite(frame[c.column].to_numpy(np.float64)).any() for frame in thinned)
    ]
    names = [c.column for c in filled]
    definition = DataDefinition(
        numerical_columns=[c.column for c in filled if c.kind == "number"],
        categorical_columns=[c.column for c in filled if c.kind == "category"],
    )
    frames = [Dataset.from_pandas(frame[names], data_definition=definition) for frame in thinned]
    preset = DataDriftPreset(
        columns=names,
        per_column_method={c.column: _evidently_test(c) for c in filled},
        # Evidently's own verdict is a share of columns: set so that it agrees with ours.
        drift_share=sum(c.drifted for c in filled) / len(names) if verdict.alert else 1.01,
    )
    text = Report([preset]).run(*frames).get_html_str(as_iframe=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    if empty := [c.column for c in verdict.columns if c not in filled]:
        notice = f"{notice} Without any value, so without a chart: {', '.join(empty)}.".strip()
    part.write_text(_headed(text, verdict, title, notice), encoding="utf-8")
    return part.replace(out)


def _headed(page: str, verdict: DriftVerdict, title: str, notice: str) -> str:
    """Evidently's page with a title, our verdict and its reasons on top."""
    word, colour = ("ALERT", "#b3261e") if verdict.alert else ("No alert", "#1b6e3c")
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in verdict.reasons)
    size = (
        f"{verdict.rows_current:,} items shown to {verdict.agents:,} agents, against "
        f"{verdict.rows_reference:,} items at {verdict.clocks:,} past clocks."
    )
    head = (
        '<div style="font-family:sans-serif;max-width:1100px;margin:24px auto 0;padding:0 24px">'
        f"<h1>{html.escape(title)}</h1>"
        f'<p style="font-size:20px;color:{colour}"><b>{word}</b></p><ul>{reasons}</ul>'
        f"<p>{size} {html.escape(notice)} Below, Evidently's charts: the drift score of a "
        "column is our q-value, small is drift.</p></div>"
    )
    # Written by a script's text too, so only the first one is the page's own.
    return page.replace("<body>", f"<body>{head}", 1).replace(
        "</head>", f"<title>{html.escape(title)}</title></head>", 1
    )


def _evidently_test(column: ColumnDrift) -> Any:
    """A test in Evidently's registry that answers with our verdict on one column."""
    from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    test = StatTest(
        name=f"aiqleads_{column.column}",
        display_name="against past clocks, q-value",
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
    )
    register_stattest(test, default_impl=lambda *_: (column.q_value, column.drifted))
    return test


def _thinned(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    step = -(-len(frame) // most)
    return frame.iloc[::step].reset_index(drop=True)


# --- what is compared ----------------------------------------------------------------


def _check(reference: pd.DataFrame, current: pd.DataFrame, importance: Mapping[str, float]) -> None:
    for name, frame in (("reference", reference), ("current", current)):
        missing = [c for c in (*ITEM_COLUMNS, *importance) if c not in frame.columns]
        if missing:
            raise ContractBroken(f"the {name} rankings have no column {', '.join(missing)}")
        if frame.empty:
            raise InvalidInput(f"there are no {name} rankings to compare")


def _comparable(
    reference: pd.DataFrame, current: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, bool]:
    """Both cut to the same page length and, where most are known, to the same agents."""
    length = current.groupby("request_id")["position"].max().median()
    depth = min(float(reference["position"].max()), float(length))
    reference = reference[reference["position"] <= depth]
    current = current[current["position"] <= depth]
    known = current["agent_id"].isin(reference["agent_id"].unique())
    if matched := bool(known.mean() >= 0.5):
        current = current[known]
        reference = reference[reference["agent_id"].isin(current["agent_id"].unique())]
    return reference.reset_index(drop=True), current.reset_index(drop=True), matched


@dataclass(frozen=True)
class _Pages:
    """How rows belong together.

    clock: (n,) each reference row's clock, 0-based in time. reference, current: (n,) and
    (m,) weights that sum to 1 over a page's rows. n_reference, n_current: pages.
    """

    clock: NDArray[np.intp]
    clocks: int
    reference: Floats
    current: Floats
    n_reference: int
    n_current: int

    @classmethod
    def of(cls, reference: pd.DataFrame, current: pd.DataFrame) -> _Pages:
        times, clock = np.unique(reference["clock_us"].to_numpy(np.int64), return_inverse=True)
        weights, counts = [], []
        for frame in (reference, current):
            page = frame.groupby(["agent_id", "clock_us"], sort=False).ngroup().to_numpy()
            size = np.bincount(page)
            weights.append(1.0 / size[page])
            counts.append(len(size))
        return cls(clock, len(times), weights[0], weights[1], counts[0], counts[1])


# --- one column ----------------------------------------------------------------------


def _measure(
    name: str,
    importance: float,
    reference: pd.Series[Any],
    current: pd.Series[Any],
    pages: _Pages,
) -> ColumnDrift:
    """A column without its q-value yet."""
    old, new = reference.to_numpy(np.float64), current.to_numpy(np.float64)
    if len(np.unique(old[~np.isnan(old)])) <= MAX_LEVELS:
        kind, shift = "category", np.nan
        effect, p_value = _categories(old, new, pages)
    else:
        kind = "number"
        effect, shift, p_value = _numbers(old, new, pages)
    return ColumnDrift(name, kind, importance, effect, shift, p_value, np.nan, False)


def _numbers(old: Floats, new: Floats, pages: _Pages) -> tuple[float, float, float]:
    """(effect, shift, p-value) of a numeric column; missing values are a feature of it."""
    known = np.sort(old[~np.isnan(old)])
    u_old, u_new = _rank(known, old), _rank(known, new)
    effect = max(
        _ks_distance(u_old, pages.reference, u_new, pages.current),
        abs(_mean(np.isnan(old), pages.reference) - _mean(np.isnan(new), pages.current)),
    )
    level = _mean(u_new, pages.current * ~np.isnan(u_new))
    shift = float(np.sqrt(2) * stats.norm.ppf(np.clip(level, 1e-3, 1 - 1e-3)))
    if pages.clocks < MIN_CLOCKS:
        n = pages.n_reference * pages.n_current / (pages.n_reference + pages.n_current)
        return effect, shift, float(stats.kstwobign.sf(effect * np.sqrt(n)))
    aspects = [(u_old, u_new, 0.8), (abs(2 * u_old - 1), abs(2 * u_new - 1), 0.1)]
    aspects.append((np.isnan(old).astype(float), np.isnan(new).astype(float), 0.1))
    return effect, shift, _surprise(aspects, pages)


def _categories(old: Floats, new: Floats, pages: _Pages) -> tuple[float, float]:
    """(effect, p-value) of a column with few levels; NaN is a level, rare ones are pooled."""
    levels, where = np.unique(old, return_inverse=True)
    shares = np.bincount(where, pages.reference) / pages.reference.sum()
    kept = levels[shares >= RARE]
    a, b = _pooled(old, kept), _pooled(new, kept)
    names = np.union1d(a, b)
    counts = np.array(
        [
            [pages.reference[a == name].sum(), pages.current[b == name].sum()]
            for name in names.tolist()
        ]
    )
    effect = float(abs(np.diff(counts / counts.sum(axis=0), axis=1)).sum() / 2)
    if len(names) < 2:
        return effect, 1.0
    if pages.clocks < MIN_CLOCKS:
        return effect, float(stats.chi2_contingency(counts)[1])
    aspects = [
        ((a == name).astype(float), (b == name).astype(float), 1 / len(names))
        for name in names.tolist()
    ]
    return effect, _surprise(aspects, pages)


def _pooled(values: Floats, kept: Floats) -> NDArray[np.intp]:
    """Each value's place among the kept levels, or _OTHER; NaN equals NaN."""
    found = np.full(len(values), _OTHER, dtype=np.intp)
    for place, level in enumerate(kept.tolist()):
        found[np.isnan(values) if np.isnan(level) else values == level] = place
    return found


def _surprise(aspects: list[tuple[Floats, Floats, float]], pages: _Pages) -> float:
    """p-value of the current window among the reference's clocks.

    aspects: row values of the reference and of now whose page-weighted mean is one figure
    per clock (the mean rank, say), and the share of the error that the aspect may spend.
    Each figure is put against a prediction interval from those of the clocks; the smallest
    p-value over its share counts (Bonferroni).
    """
    p_values = []
    for old, new, spends in aspects:
        weight = pages.reference * ~np.isnan(old)
        held = np.bincount(pages.clock, weight, minlength=pages.clocks)
        sums = np.bincount(pages.clock, weight * np.nan_to_num(old), minlength=pages.clocks)
        now = _mean(new, pages.current * ~np.isnan(new))
        past = sums[held > 0] / held[held > 0]
        if len(past) >= MIN_CLOCKS and not np.isnan(now):
            p_values.append(_outside(past, now, 0.1 / np.sqrt(len(new))) / spends)
    return min(1.0, min(p_values, default=1.0))


def _outside(past: Floats, now: float, least: float) -> float:
    """Two-sided p-value of the next value of a series, allowing for its wandering.

    past: (c,) in time order. A series that wanders (lag-1 correlation r) tells as much as
    c (1 - r) / (1 + r) independent values, and its variance over a short stretch is too
    small by that; Student's t with as many degrees of freedom. r is taken one standard
    error lower than measured, else chance alone would cost half of the clocks. least: floor
    of the standard deviation, for a series that stands still.
    """
    centred = past - past.mean()
    spread = float((centred**2).sum())
    r = float((centred[1:] * centred[:-1]).sum()) / spread if spread > 0 else 0.0
    r = float(np.clip(r - 1 / np.sqrt(len(past)), 0.0, 0.9))
    told = max(len(past) * (1 - r) / (1 + r), 4.0)
    variance = max(spread / len(past) / (1 - 1 / told), least**2)
    t = (now - float(past.mean())) / np.sqrt(variance * (1 + 1 / told))
    return float(2 * stats.t.sf(abs(t), df=max(told - 1, 6.0)))


def _rank(known: Floats, values: Floats) -> Floats:
    """Mid-ranks of values among sorted reference values, 0 to 1; NaN stays NaN."""
    low = np.searchsorted(known, values, side="left")
    high = np.searchsorted(known, values, side="right")
    return np.where(np.isnan(values), np.nan, (low + high) / (2 * max(len(known), 1)))


def _mean(values: NDArray[Any], weights: Floats) -> float:
    total = float(weights.sum())
    return float((np.nan_to_num(values) * weights).sum() / total) if total > 0 else np.nan


def _ks_distance(a: Floats, a_weight: Floats, b: Floats, b_weight: Floats) -> float:
    """Largest difference of two weighted distribution functions; missing values left out."""
    a_weight, b_weight = a_weight * ~np.isnan(a), b_weight * ~np.isnan(b)
    if a_weight.sum() == 0 or b_weight.sum() == 0:
        return 0.0
    values = np.concatenate([a, b])
    steps = np.concatenate([a_weight / a_weight.sum(), -b_weight / b_weight.sum()])
    order = np.argsort(values, kind="stable")
    climbed = np.cumsum(steps[order])
    last_of_tie = np.append(np.diff(values[order]) > 0, True)
    return float(abs(climbed[last_of_tie]).max())


# --- all columns ---------------------------------------------------------------------


def _corrected(measured: list[ColumnDrift], rules: Rules) -> list[ColumnDrift]:
    """Adds q-values: Benjamini-Hochberg on p / w with weights w of mean 1.

    A column's weight is half its fair share and half its importance (Genovese, Roeder and
    Wasserman 2006); the score counts as an average feature.
    """
    share = np.array([c.importance for c in measured])
    fair = np.nan_to_num(share * (len(share) - 1), nan=1.0)
    weights = 0.5 + 0.5 * fair
    weights /= weights.mean()
    p = np.minimum(np.array([c.p_value for c in measured]) / weights, 1.0)
    q = stats.false_discovery_control(p)
    return [
        ColumnDrift(
            **{
                **asdict(c),
                "q_value": float(q_value),
                "drifted": bool(
                    q_value <= rules.false_discovery_rate and c.effect >= rules.effect_floor
                ),
            }
        )
        for c, q_value in zip(measured, q, strict=True)
    ]


def _conclude(columns: tuple[ColumnDrift, ...], rules: Rules) -> tuple[bool, list[str]]:
    drifted = [c for c in columns if c.drifted]
    carried = sum(c.importance for c in drifted if c.column != "score")
    alert = carried >= rules.importance_floor or any(c.column == "score" for c in drifted)
    reasons = [_sentence(c) for c in drifted]
    if not drifted:
        reasons.append("no column lies further from the past than chance and size allow")
    elif not alert:
        reasons.append(
            f"what drifted carries {carried:.1%} of the importance, "
            f"below the {rules.importance_floor:.0%} that an alert needs"
        )
    return alert, reasons


def _sentence(c: ColumnDrift) -> str:
    weight = "the ranker's output" if c.column == "score" else f"{c.importance:.1%} of importance"
    moved = "its categories moved"
    if c.kind == "number" and np.isnan(c.shift):
        moved = "not one value is left"
    elif c.kind == "number":
        moved = f"{'up' if c.shift > 0 else 'down'} by {abs(c.shift):.2f} sd"
    return f"{c.column} ({weight}): {moved}, distance {c.effect:.2f}, q = {c.q_value:.2g}"


def _remarks(pages: _Pages, matched: bool) -> list[str]:
    remarks = []
    if pages.clocks < MIN_CLOCKS:
        remarks.append(
            f"only {pages.clocks} reference clocks (of {MIN_CLOCKS} needed): "
            "each page counted as one observation"
        )
    if not matched:
        remarks.append("most agents are new to the reference: compared with everybody's pages")
    return remarks
