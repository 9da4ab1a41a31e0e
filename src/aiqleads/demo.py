"""The main job in one go, on the sample: from a feed to a lead sold and a drift report.

Safe to repeat and to interrupt: finished stages are not run again, and the purchases are
the same ones, since each request's body and idempotency key are kept before it is sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aiqleads.customer import Shopping, serve_and_shop
from aiqleads.pipeline import Run, run_stage
from aiqleads.settings import Settings
from aiqleads.stages import stage_named

MARKET = "lucas"
STAGES_BEFORE_SERVING = (
    "ingest_leads",
    "simulate",
    "build_features",
    "train_ranker",
    "compare_rankers",
    "publish",
    "package",
)
STAGES_AFTER_SERVING = ("check_drift", "map_markets", "tour")


@dataclass(frozen=True)
class DemoReport:
    """All that the demo's closing table shows."""

    stages: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]
    shopping: Shopping
    paths: dict[str, str]
    seconds: float = 0.0
    notice: str = field(
        default="Sales are real (Lucas County, Ohio, 1993-98). Leads, contacts, agents, their "
        "behaviour and every payment are invented."
    )


def run_demo(
    settings: Settings,
    market: str = MARKET,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> DemoReport:
    """Runs every stage, serves the packaged champion, buys two leads, checks drift, draws maps.

    parameters: stage -> parameters other than the stage's own defaults.
    """
    started, given = time.monotonic(), parameters or {}
    runs: dict[str, Run] = {}
    seconds: dict[str, float] = {}
    names = [*STAGES_BEFORE_SERVING, "serve and shop", *STAGES_AFTER_SERVING]
    shopping: Shopping | None = None
    with _progress() as bar:
        task = bar.add_task("demo", total=len(names))
        for name in names:
            bar.update(task, description=f"{name:<16}")
            since = time.monotonic()
            if name == "serve and shop":
                shopping = serve_and_shop(settings, market)
            else:
                runs[name] = run_stage(
                    settings,
                    stage_named(name),
                    {"market": market, **given.get(name, {}), **_window(name, shopping)},
                    progress=False,
                )
            seconds[name] = round(time.monotonic() - since, 1)
            bar.advance(task)
    if shopping is None:
        raise AssertionError("the demo always shops")
    return DemoReport(
        stages=[_row(name, runs.get(name), seconds[name]) for name in names],
        results={name: run.results for name, run in runs.items()},
        shopping=shopping,
        paths=_paths(settings, runs),
        seconds=round(time.monotonic() - started, 1),
    )


def _window(stage: str, shopping: Shopping | None) -> dict[str, Any]:
    """The journal's window that the drift check reads: this demo's own traffic."""
    if stage != "check_drift" or shopping is None:
        return {}
    return {"since_us": shopping.served_since_us, "until_us": shopping.served_until_us}


def _row(name: str, run: Run | None, seconds: float) -> dict[str, Any]:
    how = "ran" if run is None or run.fresh else "finished before"
    code = 0 if run is None else run.exit_code
    return {"stage": name, "seconds": seconds, "how": how, "exit_code": code}


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _paths(settings: Settings, runs: Mapping[str, Run]) -> dict[str, str]:
    """What a person may want to open, relative to HOME."""
    drift, maps = runs["check_drift"].results, runs["map_markets"].results
    return {
        "map": str(maps.get("page", "")),
        "drift report": str(drift.get("report", "")),
        "tour": runs["tour"].notebook or "",
        "rankers": runs["compare_rankers"].notebook or "",
        "experiments": str(settings.mlruns.relative_to(settings.home) / "mlflow.db"),
    }


def show(report: DemoReport, console: Console | None = None) -> None:
    """The closing table, for people; by default on stdout."""
    console = console or Console()
    console.print(f"\n[bold]AIQLeads demo[/bold]  {report.notice}\n", highlight=False)
    for table in (_facts(report), _rankers(report), _offers(report), _stages(report)):
        console.print(table)
    for name, path in report.paths.items():
        console.print(f"{name:<13} {path}")
    console.print(
        f"\n{report.seconds} s in all. Serve it yourself: [bold]make serve[/bold]", highlight=False
    )


def _facts(report: DemoReport) -> Table:
    table = Table("what", "figure", box=box.SIMPLE, title="From feed to sale")
    leads, features = report.results["ingest_leads"], report.results["build_features"]
    verdict, drift = report.results["compare_rankers"], report.results["check_drift"]
    shopping = report.shopping
    table.add_row(
        "sales read -> leads",
        f"{leads['rows_read']:,} -> {leads['leads']:,} ({leads['buyers']:,} simulated buyers)",
    )
    table.add_row("quarantined, repeats folded", _counts(leads))
    table.add_row("features", f"{features['features']} of {features['rows']:,} offers")
    table.add_row("champion", f"{verdict['champion']} ({verdict['champion_version']})")
    for order in shopping.orders:
        items = ", ".join(item["lead_id"] for item in order["items"])
        money = f"{order['amount_cents'] / 100:.2f} {order['currency']}"
        table.add_row(
            f"bought by {shopping.agent_id}",
            f"{items}, {money} by {order['pay_with']}: {order['state']}",
        )
    broken = [name for name, one in shopping.invariants["invariants"].items() if not one["ok"]]
    table.add_row(
        "ledger",
        f"sums to {shopping.ledger_sum_cents} cents; {len(shopping.invariants['invariants'])} "
        f"invariants checked, {len(broken)} broken",
    )
    table.add_row("payments", shopping.payments)
    table.add_row("drift", _verdict(drift))
    return table


def _counts(leads: Mapping[str, Any]) -> str:
    return f"{leads['quarantined']:,}, {leads['repeats_found']:,} of {leads['repeats_planted']:,}"


def _verdict(drift: Mapping[str, Any]) -> str:
    if drift.get("skipped"):
        return f"not judged: {drift['reason']}"
    return f"{'ALERT' if drift['alert'] else 'no alert'}: {'; '.join(drift['reasons'])}"


def _rankers(report: DemoReport) -> Table:
    """Held-out NDCG@10 of each ranker, best first, with its 95 % interval."""
    results = report.results["compare_rankers"]
    table = Table(
        "ranker",
        "NDCG@10",
        "95 % interval",
        "revenue@10, USD",
        box=box.SIMPLE,
        title=f"Held-out window: {results['requests']:,} rankings of a simulated market",
    )
    for name, score in sorted(results["ndcg10"].items(), key=lambda row: -row[1]["mean"]):
        money = results["revenue10_usd"][name]["mean"]
        table.add_row(
            name,
            f"{score['mean']:.4f}",
            f"{score['low']:.4f} to {score['high']:.4f}",
            f"{money:.2f}",
        )
    return table


def _offers(report: DemoReport) -> Table:
    table = Table(
        "",
        "lead",
        "wants to",
        "asks about, USD",
        "fee, USD",
        "because",
        box=box.SIMPLE,
        title=f"First recommendations for {report.shopping.agent_id}",
    )
    for item in report.shopping.recommendations[:5]:
        table.add_row(
            str(item["position"]),
            item["lead_id"],
            item["intent"],
            f"{item['ask_price_about_cents'] / 100:,.0f}",
            f"{item['price']['total_cents'] / 100:.2f}",
            "; ".join(_reason(reason) for reason in item["reasons"]),
        )
    return table


def _reason(reason: Mapping[str, str]) -> str:
    """What speaks for a lead with a plus, what speaks against it with a minus."""
    return f"{'+' if reason['direction'] == 'up' else '-'} {reason['text']}"


def _stages(report: DemoReport) -> Table:
    table = Table("stage", "seconds", "how", box=box.SIMPLE, title="Stages")
    words = {0: "", 3: ", nothing to do", 4: ", ALERT"}
    for row in report.stages:
        table.add_row(row["stage"], f"{row['seconds']:.1f}", row["how"] + words[row["exit_code"]])
    return table
