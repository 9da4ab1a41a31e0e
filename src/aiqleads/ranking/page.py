"""The comparison as one page that a person reads: no network, no script, one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from aiqleads.domain import US_PER_SECOND
from aiqleads.ranking.compare import METRICS, SLICE_PEER, SLICE_REQUESTS, Comparison, Row, Verdict
from aiqleads.ranking.evaluate import Interval
from aiqleads.ranking.evidence import Decile, Evidence
from aiqleads.ranking.exposure import FLOOR
from aiqleads.ranking.slices import FALSE_DISCOVERY_RATE, Judged, judge_slices
from aiqleads.settings import Settings

#: metric -> title, and what it says
METRIC_WORDS = {
    "ndcg10": ("NDCG@10", "how close the first ten come to the best possible first ten"),
    "mrr": ("MRR", "one over the place of the first lead that the agent would buy"),
    "revenue10": ("Revenue@10", "USD a request: expected fees of the first ten"),
}
_HEADLINES = {
    "promoted": "The gate opens",
    "refused": "The gate stays shut",
    "unchanged": "Nothing to decide",
}
_FEATURES_SHOWN = 15
_MOVED_SHOWN = 6
#: names of what a row of slices is
_SLICE_WORDS = {
    "tier": "Tier of the agent",
    "agent": "Agents: cold did nothing in 90 days",
    "device": "Device",
    "surface": "List or map",
    "lead": "Leads: cold ones nobody has opened",
    "intent": "Intent of the lead",
    "region": "Area of the lead",
}


@dataclass(frozen=True)
class Mark:
    """A line of an interval chart; left, width and at are percent of the track."""

    name: str
    kind: str
    left: float
    width: float
    at: float
    value: str
    range: str
    remark: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Chart:
    """Marks on one scale. zero: where 0 lies on the track, None where it does not."""

    title: str
    about: str
    marks: list[Mark]
    zero: float | None
    low: str
    high: str


@dataclass(frozen=True)
class Bar:
    """A bar of a decile, in the units of its SVG."""

    x: float
    y: float
    height: float
    label: str
    value: str


def page_path(settings: Settings, market_name: str) -> Path:
    """Where the page of a market's newest comparison lies."""
    return settings.reports / "comparisons" / f"{market_name}.html"


def write_page(
    settings: Settings, comparison: Comparison, verdict: Verdict, evidence: Evidence, now: datetime
) -> Path:
    """Writes the page whole or not at all; returns its path. now: stands in the footer."""
    path = page_path(settings, comparison.market)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(page(comparison, verdict, evidence, now), encoding="utf-8")
    return partial.replace(path)


def page(comparison: Comparison, verdict: Verdict, evidence: Evidence, now: datetime) -> str:
    """The page as HTML, everything in it escaped."""
    judged = judge_slices(comparison.slices)
    return (
        _environment()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            verdict=verdict,
            headline=_HEADLINES[verdict.outcome],
            simulated=comparison.truth == "oracle",
            since=_day(comparison.since_market_us),
            until=_day(comparison.until_market_us - 1),
            tiles=_tiles(comparison, verdict),
            metrics=[_metric_chart(comparison, metric) for metric in METRICS],
            table=_table(comparison),
            differences=_difference_chart(comparison),
            slices=_slice_charts(judged),
            counted=sum(each.counts for each in judged),
            slice_requests=SLICE_REQUESTS,
            slice_peer=SLICE_PEER,
            false_discovery_rate=FALSE_DISCOVERY_RATE,
            deciles=_decile_charts(evidence.calibration),
            found=evidence.found,
            features=_features(evidence.importance),
            moved=_moved(evidence.importance),
            against=evidence.against,
            correlations=_records(evidence.correlations),
            misses=evidence.misses,
            lucky=[m for m in evidence.misses if (m.worth_taken or 0) < (m.worth_on_top or 0)],
            exposure=_exposure(evidence),
            floor=evidence.floor,
            floor_share=FLOOR,
            day=_day,
            now=f"{now:%Y-%m-%d %H:%M} UTC",
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("aiqleads.ranking", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _tiles(comparison: Comparison, verdict: Verdict) -> list[tuple[str, str, str]]:
    """Figure, what it is, its interval or remark."""
    mine = comparison.row(comparison.challenger)
    ndcg, money = mine.metrics["ndcg10"], mine.metrics["revenue10"]
    tiles = [
        (f"{ndcg.mean:.3f}", f"NDCG@10 of {comparison.challenger}", _span(ndcg)),
        (
            f"{verdict.difference.mean:+.3f}",
            f"NDCG@10 against {verdict.reference}",
            _span(verdict.difference, sign=True),
        ),
        (f"${money.mean:.2f}", "expected fees of its first ten", _span(money, 2)),
    ]
    if oracles := [row for row in comparison.rows if row.kind == "oracle"]:
        best = max(row.metrics["ndcg10"].mean for row in comparison.baselines)
        ceiling = min(oracles, key=lambda row: row.metrics["ndcg10"].mean)
        gap = ceiling.metrics["ndcg10"].mean - best
        if gap > 0:
            share = (ndcg.mean - best) / gap
            tiles.append(
                (f"{share:.0%}", f"of the way from the best baseline to the {ceiling.name}", "")
            )
    return tiles


def _metric_chart(comparison: Comparison, metric: str) -> Chart:
    rows = sorted(comparison.rows, key=lambda row: -row.metrics[metric].mean)
    title, about = METRIC_WORDS[metric]
    places = 2 if metric == "revenue10" else 3
    lines = [(_named(row, comparison), row.kind, row.metrics[metric], "", "") for row in rows]
    return _chart(title, about, lines, places=places, from_zero=True)


def _difference_chart(comparison: Comparison) -> Chart:
    over = comparison.row(comparison.challenger).over
    order = sorted(over, key=lambda peer: over[peer]["ndcg10"].mean)
    lines = [
        (f"against {'the champion' if peer == 'champion' else peer}", "model", i, "", _tone(i))
        for peer in order
        for i in (over[peer]["ndcg10"],)
    ]
    return _chart("What the challenger gains", "difference in NDCG@10, same requests", lines)


def _slice_charts(judged: Iterable[Judged]) -> list[Chart]:
    """One chart a kind of slice, all on one scale."""
    found: dict[str, list[Judged]] = {}
    for each in judged:
        found.setdefault(each.slice.name, []).append(each)
    every = [each.slice.difference for many in found.values() for each in many]
    return [
        _chart(
            _SLICE_WORDS.get(name, name),
            "",
            [_slice_line(each) for each in sorted(many, key=lambda e: -e.slice.n)],
            scale=every,
        )
        for name, many in found.items()
    ]


def _slice_line(each: Judged) -> tuple[str, str, Interval, str, str]:
    it = each.slice
    adjusted = "< 0.0001" if each.q_value < 0.0001 else f"{each.q_value:.4f}"
    p = f"adjusted p {adjusted}" if each.counts else "too few to count"
    remark = f"n = {it.n:,} · {it.challenger:.3f} to {it.peer:.3f} · {p}"
    tone = "bad" if each.worse else "" if each.counts else "faint"
    return it.value, "model", it.difference, remark, tone


def _chart(
    title: str,
    about: str,
    lines: Iterable[tuple[str, str, Interval, str, str]],
    *,
    places: int = 3,
    from_zero: bool = False,
    scale: Iterable[Interval] = (),
) -> Chart:
    """lines: name, kind, interval, remark, tone. scale: intervals that must fit as well."""
    held = list(lines)
    every = [*scale, *(interval for _, _, interval, _, _ in held)]
    low, high = min(0.0, *(i.low for i in every)), max(0.0, *(i.high for i in every))
    if not from_zero:
        low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    width = (high - low) or 1.0

    def percent(value: float) -> float:
        return round(100 * (value - low) / width, 2)

    marks = [
        Mark(
            name=name,
            kind=kind,
            left=percent(i.low),
            width=max(round(100 * (i.high - i.low) / width, 2), 0.3),
            at=percent(i.mean),
            value=f"{i.mean:.{places}f}" if from_zero else f"{i.mean:+.{places}f}",
            range=_span(i, places, sign=not from_zero),
            remark=remark,
            tone=tone,
        )
        for name, kind, i, remark, tone in held
    ]
    zero = None if from_zero else percent(0.0)
    return Chart(title, about, marks, zero, f"{low:.2f}", f"{high:.2f}")


def _table(comparison: Comparison) -> list[dict[str, str]]:
    rows = sorted(comparison.rows, key=lambda row: -row.metrics["ndcg10"].mean)
    return [
        {"name": _named(row, comparison), "kind": row.kind}
        | {
            metric: f"{i.mean:.{2 if metric == 'revenue10' else 4}f} "
            f"[{_span(i, 2 if metric == 'revenue10' else 4)}]"
            for metric, i in row.metrics.items()
        }
        for row in rows
    ]


def _decile_charts(deciles: list[Decile]) -> list[tuple[str, str, list[Bar]]]:
    """Title, remark and bars of each small chart; the viewBox is 300 x 150."""
    kinds: list[tuple[str, str, Any, str]] = [
        ("Opened", "observed", lambda d: d.view, "{:.1%}"),
        ("Held", "observed", lambda d: d.hold, "{:.1%}"),
        ("Bought and kept", "observed", lambda d: d.purchase, "{:.2%}"),
    ]
    if deciles and deciles[0].relevance is not None:
        kinds.insert(0, ("True relevance", "simulated truth", lambda d: d.relevance, "{:.2f}"))
    charts = []
    for title, source, value, form in kinds:
        values = [float(value(each)) for each in deciles]
        top = max(values) or 1.0
        bars = [
            Bar(
                x=12 + 28 * (each.decile - 1),
                y=round(128 - 104 * v / top, 1),
                height=round(104 * v / top, 1),
                label=str(each.decile),
                value=form.format(v),
            )
            for each, v in zip(deciles, values, strict=True)
        ]
        charts.append((title, f"{source}; {_steps(values)}", bars))
    return charts


def _steps(values: list[float]) -> str:
    """Whether figures fall from each to the next, in words."""
    steps = [b - a for a, b in pairwise(values)]
    if not steps:
        return "one part only"
    if rises := sum(step > 0 for step in steps):
        return f"rises at {rises} of {len(steps)}"
    return "falls at every step" if all(step < 0 for step in steps) else "never rises"


def _features(shift: pd.DataFrame) -> list[dict[str, Any]]:
    """The most important features now, with the change since the ranker before."""
    now = shift.sort_values("after", ascending=False, kind="stable").head(_FEATURES_SHOWN)
    top = max(float(shift["after"].max()), float(shift["before"].fillna(0).max()), 1e-9)
    return [
        {
            "name": row["feature"],
            "group": row["group"],
            "share": f"{100 * row['after']:.1f} %",
            "width": round(100 * row["after"] / top, 2),
            "before": None if pd.isna(row["before"]) else round(100 * row["before"] / top, 2),
            "moved": row["moved"],
            "change": "" if pd.isna(row["change"]) else f"{100 * row['change']:+.1f}",
        }
        for row in now.to_dict("records")
    ]


def _moved(shift: pd.DataFrame) -> list[dict[str, Any]]:
    """What moved most, features that came and went included."""
    told = shift[shift["moved"].isin(["rose", "fell", "new", "gone"])].head(_MOVED_SHOWN)
    return [
        {
            "name": row["feature"],
            "moved": row["moved"],
            "before": f"{100 * row['before']:.1f} %",
            "after": f"{100 * row['after']:.1f} %",
        }
        for row in told.to_dict("records")
    ]


def _exposure(evidence: Evidence) -> list[dict[str, Any]]:
    top = max((max(e.share, e.merit_share) for e in evidence.exposure), default=1.0)
    return [
        {
            "name": each.group,
            "offered": f"{each.offered:,}",
            "share": f"{each.share:.1%}",
            "merit": f"{each.merit_share:.1%}",
            "ratio": f"{each.ratio:.0%}" if each.merit_share > 0 else "-",
            "share_width": round(100 * each.share / top, 2),
            "merit_width": round(100 * each.merit_share / top, 2),
            "below": each.below(),
        }
        for each in evidence.exposure
    ]


def _records(table: pd.DataFrame) -> Mapping[str, Any]:
    """Head and cells of a table of any columns, figures with three places."""
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    return {"head": [str(column) for column in table.columns], "rows": cells}


def _named(row: Row, comparison: Comparison) -> str:
    return f"{row.name} (challenger)" if row.name == comparison.challenger else row.name


def _tone(interval: Interval) -> str:
    return "good" if interval.low > 0 else "bad" if interval.high < 0 else ""


def _span(interval: Interval, places: int = 3, *, sign: bool = False) -> str:
    form = f"{'+' if sign else ''}.{places}f"
    return f"{interval.low:{form}} to {interval.high:{form}}"


def _day(market_us: int) -> str:
    return f"{datetime.fromtimestamp(market_us / US_PER_SECOND, UTC):%d %b %Y}"
