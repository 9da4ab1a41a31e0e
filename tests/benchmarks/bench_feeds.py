"""Intake on one core: rows a second and microseconds a step, memory, linkage, schema drift.

Each measure runs in a process of its own that is bound to one core. A peer stands beside
it where there is one: pandas.read_csv reads the same file and does nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
SMALL, LARGE, PEOPLE, REPEATS = 100_000, 1_000_000, 30_000, 3
#: the work that the goals are about; the rest (linkage, score, drift, frames) is printed too
NAMED = ("read", "parse", "contract", "normalise", "store", "seal")
MB = 2**20


def main() -> None:
    import drift_quality
    import feed_payloads
    import linkage_quality
    import push_to_recommendable

    with tempfile.TemporaryDirectory(prefix="aiqleads-feeds-") as folder:
        root = Path(folder)
        listings = feed_payloads.redfin(root / "listings.csv", SMALL)
        many = feed_payloads.redfin(root / "many.csv", LARGE)
        sold, market = feed_payloads.sales(root / "sales.csv", SMALL)
        people = feed_payloads.meta_leads(root / "people.ndjson", PEOPLE)
        speed("listings", "redfin", listings, "lucas", root, 10_000)
        speed("sales", "sales_csv", sold, str(market), root, 10_000)
        speed("contact_leads", "meta_leads", people, "lucas", root, 3_000)
        small = child("redfin", listings, "lucas", root)["peak_rss"]
        large = child("redfin", many, "lucas", root)
        figure(
            "feeds.memory.1m_rows",
            large["peak_rss"] / MB,
            "MB",
            "<= 1.25 x that of 100k rows",
            large["peak_rss"] <= 1.25 * small,
            1,
            "100k rows",
            small / MB,
        )
        rate = LARGE / sum(large["steps"].get(step, 0.0) for step in NAMED)
        figure("feeds.listings.1m_rows", rate, "rows/s", ">= 10000", rate >= 10_000, 1)
    for part in (linkage_quality, drift_quality, push_to_recommendable):
        part.main()


def speed(name: str, source: str, path: Path, market: str, root: Path, goal: float) -> None:
    """Rows a second of the named steps, of all but linkage, and microseconds of each step.

    Medians of REPEATS runs of ingest().
    """
    runs = [child(source, path, market, root) for _ in range(REPEATS)]
    rows = runs[0]["rows_read"]
    named = [sum(run["steps"].get(step, 0.0) for step in NAMED) for run in runs]
    rate = rows / statistics.median(named)
    apart = [run["seconds"] - run["steps"].get("link", 0.0) for run in runs]
    peer = None
    if path.suffix == ".csv":
        peer = rows / statistics.median(read_csv(path) for _ in range(REPEATS))
    figure(
        f"feeds.{name}",
        rate,
        "rows/s",
        f">= {goal:.0f}",
        rate >= goal,
        REPEATS,
        "pandas.read_csv alone" if peer else None,
        peer,
    )
    whole = rows / statistics.median(apart)
    figure(f"feeds.{name}.all_but_linkage", whole, "rows/s", "", True, REPEATS)
    for step in runs[0]["steps"]:
        each = statistics.median(run["steps"][step] for run in runs) / rows * 1e6
        figure(f"feeds.{name}.{step}", each, "us/row", "", True, REPEATS, headline=False)


def read_csv(path: Path) -> float:
    """Seconds of pandas.read_csv in a process of its own, on one core."""
    code = (
        "import os, sys, time; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import pandas; started = time.perf_counter(); pandas.read_csv(sys.argv[1]);"
        "print(time.perf_counter() - started)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def child(source: str, path: Path, market: str, root: Path) -> dict[str, object]:
    """One ingest into a fresh home, in a process of its own on one core."""
    with tempfile.TemporaryDirectory(dir=root) as home:
        done = subprocess.run(
            [sys.executable, __file__, source, str(path), market, home],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def ingest_here(source: str, path: str, market: str, home: str) -> None:
    """The child: ingests and prints what it took."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import feed_payloads

    from aiqleads.ingest.aggregate import ingest
    from aiqleads.ingest.market import load_market
    from aiqleads.ingest.sources import source_named
    from aiqleads.settings import Settings

    settings = Settings(home=Path(home))
    settings.feeds_file.parent.mkdir(parents=True, exist_ok=True)
    settings.feeds_file.write_text(feed_payloads.FEEDS)
    source_named(source)  # imports are not what is measured
    place = load_market(market, settings)
    steps: dict[str, float] = {}
    started = time.perf_counter()
    report = ingest(settings, source, [Path(path)], place, seconds_by_step=steps)
    seconds = time.perf_counter() - started
    if report.accepted + report.duplicates < 0.99 * report.rows_read:
        raise SystemExit(f"unexpected: {report}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "rows_read": report.rows_read,
                "seconds": seconds,
                "steps": steps,
                "peak_rss": peak,
            }
        )
    )


def figure(
    name: str,
    value: float,
    unit: str,
    goal: str,
    ok: bool,
    n: int,
    peer: str | None = None,
    peer_value: float | None = None,
    headline: bool = True,
) -> None:
    made = {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "peer": peer,
        "peer_value": None if peer_value is None else round(peer_value, 1),
        "ratio": round(value / peer_value, 3) if peer_value else None,
        "goal": goal,
        "ok": bool(ok),
        "n": n,
        "headline": headline,
    }
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    ingest_here(*sys.argv[1:]) if len(sys.argv) > 1 else main()
