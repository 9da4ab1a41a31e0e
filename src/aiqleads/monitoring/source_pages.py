"""Pages of the sources: what each brought over time, what it cost, what became of it.

An index and one page a source, each one file that needs no network and no script. A bar is
a batch, or a day's batches where there are many.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aiqleads.domain import US_PER_DAY
from aiqleads.ingest.sources import SOURCES
from aiqleads.settings import Settings
from aiqleads.store.database import open_room, reader
from aiqleads.store.intake import BatchFigures, SourceFigures, intake
from aiqleads.store.schema import findings_of

#: beyond so many batches a bar is a day; of those the last ones are drawn
_MOST_BARS = 60
_MOST_ROWS, _MOST_FINDINGS, _MOST_REASONS = 40, 60, 10
#: how long a finding is news on the index
_NEWS_US = 30 * US_PER_DAY

#: what can become of a row, in the order of the stack: name, label, colour
PARTS = (
    ("accepted", "accepted", "#2a6f97"),
    ("updated", "updated", "#7fb7d6"),
    ("duplicates", "duplicates", "#b8c4cc"),
    ("quarantined", "quarantined", "#d1495b"),
)


@dataclass(frozen=True)
class Period:
    """Batches that share a bar. label: for people. quality: mean over the leads, or None."""

    label: str
    batches: int
    rows_read: int
    accepted: int
    updated: int
    duplicates: int
    quarantined: int
    incomplete: int
    cost_cents: int
    leads: int
    quality: float | None
    sold: int
    returned: int
    warned: int
    broken: int

    @property
    def quarantined_share(self) -> float | None:
        """Of the rows read."""
        return self.quarantined / self.rows_read if self.rows_read else None

    @property
    def cost_of_a_lead(self) -> float | None:
        """Cents for each accepted row; None where nothing was accepted or paid."""
        return self.cost_cents / self.accepted if self.accepted and self.cost_cents else None

    @property
    def sold_share(self) -> float | None:
        """Sales for each lead brought; above 1 where leads go to several agents."""
        return self.sold / self.leads if self.leads else None

    @property
    def return_rate(self) -> float | None:
        """Of the sales."""
        return self.returned / self.sold if self.sold else None


def write_pages(settings: Settings, out: Path, now_us: int) -> list[Path]:
    """Writes index.html and <source>.html of every source into a directory.

    now_us: wall clock, UTC. Sources that have brought nothing yet stand on the index only.
    Returns the files, the index first.
    """
    leads, commerce = (open_room(settings, room) for room in ("leads", "commerce"))
    try:
        with reader(leads).connect() as first, reader(commerce).connect() as second:
            found = intake(first, second)
            findings = {each.source: findings_of(first, each.source) for each in found}
    finally:
        leads.dispose()
        commerce.dispose()
    out.mkdir(parents=True, exist_ok=True)
    shown = [_shown(each, findings[each.source], now_us) for each in found]
    silent = [each for name, each in SOURCES.items() if name not in {s["name"] for s in shown}]
    index = _rendered("index.html", sources=shown, silent=silent, now=_moment(now_us))
    files = [_written(out / "index.html", index)]
    for each in shown:
        page = _rendered("source.html", now=_moment(now_us), parts=PARTS, **each)
        files.append(_written(out / each["file"], page))
    return files


def _shown(figures: SourceFigures, findings: list[dict[str, Any]], now_us: int) -> dict[str, Any]:
    """All that the templates say of a source."""
    periods = _periods(figures.batches, findings)
    total = _period("all", figures.batches, findings)
    newest = figures.batches[-1] if figures.batches else None
    return {
        "name": figures.source,
        "file": f"{_file_name(figures.source)}.html",
        "about": SOURCES.get(figures.source),
        "standing": figures.standing,
        "since": _moment(figures.standing.changed_us) if figures.standing.changed_us else "",
        "currency": figures.currency,
        "has_leads": total.leads > 0 or _brings_leads(figures.source),
        "markets": sorted({each.market for each in figures.batches}),
        "total": total,
        "newest": _moment(newest.ingested_us) if newest else "never",
        "ago": _ago(now_us - newest.ingested_us) if newest else "",
        "by_day": _by_day(figures.batches),
        "periods": periods,
        "volume": volume_chart(periods),
        "lines": _line_charts(periods, leads=total.leads > 0),
        "spark": spark([period.rows_read for period in periods[-30:]]),
        "rules": _bars(figures.rules),
        "waits": _bars(figures.waits),
        "batches": [_row(each) for each in figures.batches[: -_MOST_ROWS - 1 : -1]],
        "more_batches": max(0, len(figures.batches) - _MOST_ROWS),
        "findings": [_finding(each) for each in findings[:_MOST_FINDINGS]],
        "more_findings": max(0, len(findings) - _MOST_FINDINGS),
        "news": sum(each["at_us"] > now_us - _NEWS_US for each in findings),
    }


def _brings_leads(source: str) -> bool:
    known = SOURCES.get(source)
    return known is not None and known.kind == "lead"


# --- periods -------------------------------------------------------------------------


def _by_day(batches: Sequence[BatchFigures]) -> bool:
    return len(batches) > _MOST_BARS


def _periods(
    batches: Sequence[BatchFigures], findings: Iterable[Mapping[str, Any]]
) -> list[Period]:
    """The last bars, oldest first."""
    groups: dict[str, list[BatchFigures]] = {}
    for each in batches:
        day = _day(each.ingested_us)
        groups.setdefault(day if _by_day(batches) else each.batch_id, []).append(each)
    told = list(findings)
    return [
        _period(_day(group[0].ingested_us), group, told)
        for group in list(groups.values())[-_MOST_BARS:]
    ]


def _period(
    label: str, batches: Sequence[BatchFigures], findings: Iterable[Mapping[str, Any]]
) -> Period:
    names = {each.batch_id for each in batches}
    severities = [each["severity"] for each in findings if each["batch_id"] in names]
    leads = sum(each.leads for each in batches)
    scored = [(each.quality, each.leads) for each in batches if each.quality is not None]
    quality = sum(mean * n for mean, n in scored) / leads if leads else None
    sums = {
        name: sum(getattr(each, name) for each in batches)
        for name in (
            *("rows_read", "accepted", "updated", "duplicates", "quarantined", "incomplete"),
            *("cost_cents", "sold", "returned"),
        )
    }
    return Period(
        label=label,
        batches=len(batches),
        leads=leads,
        quality=quality,
        warned=severities.count("warn"),
        broken=severities.count("break"),
        **sums,
    )


# --- charts --------------------------------------------------------------------------
# Geometry only, in units of an SVG's viewBox; the templates draw.

_WIDTH, _LEFT, _RIGHT, _TOP = 960.0, 56.0, 12.0, 26.0


def volume_chart(periods: Sequence[Period], height: float = 240.0) -> dict[str, Any]:
    """Stacked bars of the rows read, with a mark above a bar whose schema changed."""
    most, ticks = _scale(max((period.rows_read for period in periods), default=0))
    inner = height - _TOP - 30
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(periods), 12)
    bars = []
    for number, period in enumerate(periods):
        x, top = _LEFT + number * step, _TOP + inner
        pieces = []
        for name, label, colour in PARTS:
            count = getattr(period, name)
            size = inner * count / most
            top -= size
            if count:
                pieces.append({"y": top, "height": size, "colour": colour, "label": label})
        bars.append({"x": x + step * 0.12, "width": step * 0.76, "top": top, "pieces": pieces,
                     "period": period, "middle": x + step / 2})  # fmt: skip
    return {
        "width": _WIDTH,
        "height": height,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "base": _TOP + inner,
        "bars": bars,
        "ticks": [{"y": _TOP + inner * (1 - tick / most), "text": _short(tick)} for tick in ticks],
        "labels": _labels(periods, step),
    }


def _labels(periods: Sequence[Period], step: float) -> list[dict[str, Any]]:
    """As many labels below the bars as there is room for; each day once."""
    every = max(1, math.ceil(86 / step))
    return [
        {"x": _LEFT + (number + 0.5) * step, "text": period.label}
        for number, period in enumerate(periods)
        if number % every == 0 and (number < every or periods[number - every].label != period.label)
    ]


def line_chart(
    name: str, about: str, values: Sequence[float | None], labels: Sequence[str], unit: str
) -> dict[str, Any] | None:
    """One figure over the periods; None with fewer than two of it. unit: % or money."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    width, height, left = 340.0, 140.0, 44.0
    most, ticks = _scale(max(known), whole=False)
    step = (width - left - 14) / (len(values) - 1)
    inner = height - 18 - 22
    points = [
        {
            "x": left + number * step,
            "y": 18 + inner * (1 - value / most),
            "text": f"{labels[number]}: {_figure(value, unit)}",
        }
        for number, value in enumerate(values)
        if value is not None
    ]
    return {
        "name": name,
        "about": about,
        "width": width,
        "height": height,
        "left": left,
        "right": width - 14,
        "base": 18 + inner,
        "points": points,
        "last": _figure(known[-1], unit),
        "ticks": [
            {"y": 18 + inner * (1 - tick / most), "text": _figure(tick, unit, short=True)}
            for tick in (ticks[0], ticks[-1])
        ],
        "first_label": labels[0],
        "last_label": labels[-1],
    }


def _line_charts(periods: Sequence[Period], *, leads: bool) -> list[dict[str, Any]]:
    """leads: whether there are any; else only what a feed of anything has."""
    labels = [period.label for period in periods]
    charts = [
        line_chart(
            "Mean quality", "of the leads brought, 0 to 100 %",
            [period.quality for period in periods], labels, "%",
        ),
        line_chart(
            "Quarantined", "of the rows read",
            [period.quarantined_share for period in periods], labels, "%",
        ),
        line_chart(
            "Cost of an accepted lead", "price paid for the batch by accepted rows",
            [period.cost_of_a_lead for period in periods], labels, "money",
        ),
        line_chart(
            "Sales for a lead", "of the leads brought, until now",
            [period.sold_share for period in periods], labels, "%",
        ),
        line_chart(
            "Returned", "of the sales, until now",
            [period.return_rate for period in periods], labels, "%",
        ),
    ]  # fmt: skip
    return [chart for chart in charts if chart and (leads or chart["name"] == "Quarantined")]


def spark(values: Sequence[int]) -> list[dict[str, float]]:
    """Bars of a small chart of 120 x 28."""
    most = max(values, default=0) or 1
    step = 120 / max(len(values), 15)
    return [
        {"x": number * step, "y": 28 - 26 * value / most, "width": step * 0.8,
         "height": 26 * value / most}
        for number, value in enumerate(values)
    ]  # fmt: skip


def _scale(most: float, *, whole: bool = True) -> tuple[float, list[float]]:
    """The end of an axis from 0 on, and round ticks."""
    if most <= 0:
        return 1.0, [0.0, 1.0]
    rough = most / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    if whole:
        step = max(1.0, math.ceil(step))
    count = math.ceil(most / step - 1e-9)
    return step * count, [step * number for number in range(count + 1)]


# --- words ---------------------------------------------------------------------------


def _bars(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    most = max(counts.values(), default=1)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_REASONS]
    return [{"text": text, "count": count, "share": count / most} for text, count in ranked]


def _row(batch: BatchFigures) -> dict[str, Any]:
    return {"batch": batch, "at": _moment(batch.ingested_us)}


def _finding(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "at": _moment(row["at_us"])}


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _day(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d")


def _ago(us: int) -> str:
    """'3 hours ago' and the like."""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        count = int(us / 1e6 // size)
        if count >= 1:
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"


def _short(number: float) -> str:
    for size, mark in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{mark}"
    return f"{number:g}"


def _figure(value: float, unit: str, *, short: bool = False) -> str:
    if unit == "%":
        return f"{value:.0%}" if short or value >= 0.1 else f"{value:.1%}"
    return f"{value / 100:,.2f}"


def _share(part: float | None) -> str:
    return "–" if part is None else _figure(part, "%")


def _money(cents: float | None) -> str:
    return "–" if cents is None else _figure(cents, "money")


def _p_value(value: float | None) -> str:
    if value is None:
        return "certain"
    return "< 1e-12" if value < 1e-12 else f"{value:.1g}"


def _file_name(source: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", source)


# --- files ---------------------------------------------------------------------------


def _rendered(template: str, **said: Any) -> str:
    environment = Environment(
        loader=PackageLoader("aiqleads.monitoring", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(share=_share, money=_money, p_value=_p_value)
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment.get_template(template).render(**said)


def _written(path: Path, text: str) -> Path:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)
