"""Features of a large log: 10 million events and a million leads, on two cores.

    python tests/benchmarks/bench_features.py [--events 10000000] [--leads 1000000] [--seed 1]

A log in the production schema is drawn from a seed: leads around some centres over a year,
pages of thirty of the leads near an agent's home, openings, holds, purchases, some of them
late and some told twice. Measured are, each in a process of its own,

- a publication's features: of every lead, every agent and every pair that has met, at the
  log's last moment (`build_serving_frames`, `build_serving_pairs`);
- a training frame of 10,000 rankings out of the log, each as of its own time;
- what happened to each lead, which 18 columns of a lead are made of (`lead_counts`), alone;
- the same by plain pandas at that one moment, which is all that a merge and a groupby are
  asked to do. Its columns are compared with the product's.

JSON lines on stdout, progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY
from aiqleads.features.build import (
    build_serving_frames,
    build_serving_pairs,
    build_training_frame,
    lead_counts,
)
from aiqleads.features.tables import open_tables
from aiqleads.geo.grid import cells
from aiqleads.settings import Settings
from aiqleads.store.frames import frame_path

MARKET = "large"
DAYS, START_US = 365, 1_700_000_000_000_000
END_US = START_US + DAYS * US_PER_DAY
PAGE, AGENTS, SALES, CENTRES = 30, 2_000, 200_000, 40
#: of the events, what is done and not only shown; of what is done, how often each is
DONE_SHARE = 0.1
KINDS = {"view": 0.80, "hold": 0.10, "release": 0.05, "purchase": 0.04, "return": 0.01}
LATE, DOUBLE = 0.05, 0.02
TRAINING_RANKINGS = 10_000
GOAL_SECONDS, GOAL_MB = 600.0, 4096.0
LON, LAT = (-84.4, -82.7), (41.2, 41.8)
I64 = NDArray[np.int64]
Rng = np.random.Generator


def draw(settings: Settings, leads: int, events: int, seed: int) -> dict[str, int]:
    """Writes the frames that features read, and says how many rows of each there are."""
    rng = np.random.default_rng(seed)
    done = int(events * DONE_SHARE)
    requests = (events - done) // (PAGE + 1)
    centre = np.column_stack([rng.uniform(*LON, CENTRES), rng.uniform(*LAT, CENTRES)])
    area = rng.integers(0, CENTRES, leads)
    # Leads in the order of receipt, so that a moment's newest of a centre are one slice.
    received = np.sort(rng.integers(START_US, END_US, leads))
    frames = {"leads": _leads(rng, centre, area, received), "agents": _agents(rng, centre)}
    frames["sales"] = _sales(rng, centre)
    frames["submissions"] = _submissions(rng, received)
    log = _log(rng, area, received, requests, done)
    for name, frame in (frames | log).items():
        path = frame_path(settings, MARKET, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path, compression="snappy")
    return {name: len(frame) for name, frame in (frames | log).items()}


def _leads(rng: Rng, centre: NDArray[np.float64], area: I64, received: I64) -> pd.DataFrame:
    n = len(received)
    lon, lat = (centre[area] + rng.normal(0.0, 0.03, (n, 2))).T
    living = rng.normal(1_600, 500, n).clip(400)
    living[rng.random(n) < 0.2] = np.nan
    return pd.DataFrame(
        {
            "lead_id": _names("L", np.arange(n)),
            "intent": np.where(rng.random(n) < 0.6, "sell", "buy"),
            "received_market_us": received,
            "ask_price_cents": np.exp(rng.normal(12.0, 0.5, n)) * 100,
            "beds": rng.integers(1, 6, n).astype(float),
            "living_area_sqft": living,
            "lot_area_sqft": living * 4,
            "year_built": rng.integers(1900, 2024, n).astype(float),
            "quality": rng.random(n),
            "max_buyers": rng.integers(1, 4, n).astype(float),
            "cell": cells(lon, lat),
            "utm_x_m": (lon + 84.0) * 83_000,
            "utm_y_m": lat * 111_000,
        }
    )


def _agents(rng: Rng, centre: NDArray[np.float64]) -> pd.DataFrame:
    home = np.arange(AGENTS) % CENTRES
    lon, lat = (centre[home] + rng.normal(0.0, 0.02, (AGENTS, 2))).T
    low = np.exp(rng.normal(11.7, 0.3, AGENTS)) * 100
    own = cells(lon, lat, 8)
    return pd.DataFrame(
        {
            "agent_id": _names("A", np.arange(AGENTS)),
            "tier": rng.choice(["basic", "pro", "enterprise"], AGENTS),
            "home_x_m": (lon + 84.0) * 83_000,
            "home_y_m": lat * 111_000,
            "territory": [[int(cell)] for cell in own],
            "price_low_cents": low,
            "price_high_cents": low * 2,
            "monthly_budget_cents": rng.uniform(1e5, 1e6, AGENTS),
            "joined_market_us": START_US,
        }
    )


def _sales(rng: Rng, centre: NDArray[np.float64]) -> pd.DataFrame:
    lon, lat = (centre[rng.integers(0, CENTRES, SALES)] + rng.normal(0.0, 0.03, (SALES, 2))).T
    return pd.DataFrame(
        {
            # Registers give the day of a sale.
            "sold_market_us": START_US + rng.integers(0, DAYS, SALES) * US_PER_DAY,
            "price_cents": np.exp(rng.normal(12.0, 0.5, SALES)) * 100,
            "living_area_sqft": rng.normal(1_600, 400, SALES).clip(400),
            "cell": cells(lon, lat),
        }
    )


def _submissions(rng: Rng, received: I64) -> pd.DataFrame:
    again = rng.integers(0, len(received), len(received) // 5)
    lead = np.concatenate([np.arange(len(received)), again])
    later = np.concatenate([np.zeros(len(received)), rng.exponential(5.0, len(again))])
    at_us = received[lead] + (later * US_PER_DAY).astype(np.int64)
    return pd.DataFrame({"lead_id": _names("L", lead), "received_market_us": at_us})


def _log(rng: Rng, area: I64, received: I64, requests: int, done: int) -> dict[str, pd.DataFrame]:
    """Rankings, impressions and interactions: pages of a centre's newest leads of 60 days."""
    agent = rng.integers(0, AGENTS, requests)
    at_us = np.sort(rng.integers(START_US + US_PER_DAY, END_US, requests))
    of_centre = np.argsort(area, kind="stable")
    ends = np.searchsorted(area[of_centre], np.arange(CENTRES + 1))
    shown = np.empty((requests, PAGE), np.int64)
    for number in range(CENTRES):
        rows = of_centre[ends[number] : ends[number + 1]]
        mine = np.flatnonzero(agent % CENTRES == number)
        newest = np.searchsorted(received[rows], at_us[mine])
        oldest = np.searchsorted(received[rows], at_us[mine] - 60 * US_PER_DAY)
        # A stride that has no divisor in common with a stretch of leads names each once.
        many = np.maximum(newest - oldest, PAGE)
        begin = rng.integers(0, 1 << 40, len(mine))
        picked = begin[:, None] + np.arange(PAGE) * np.maximum(many // PAGE, 1)[:, None]
        shown[mine] = rows[np.minimum(oldest[:, None] + picked % many[:, None], len(rows) - 1)]
    request = _names("R", np.arange(requests))
    rankings = pd.DataFrame(
        {
            "request_id": request,
            "agent_id": _names("A", agent),
            "at_market_us": at_us,
            "arrived_market_us": at_us + 1_000_000,
        }
    )
    impressions = pd.DataFrame(
        {
            "request_id": np.repeat(request, PAGE),
            "lead_id": _names("L", shown.ravel()),
            "position": np.tile(np.arange(1, PAGE + 1, dtype=np.int32), requests),
            "price_cents": rng.integers(1_000, 20_000, requests * PAGE),
        }
    )
    asked, place = rng.integers(0, requests, done), rng.integers(0, PAGE, done)
    when = at_us[asked] + rng.integers(1, US_PER_DAY, done)
    wait = np.where(rng.random(done) < LATE, rng.integers(0, 3 * US_PER_DAY, done), 0)
    interactions = pd.DataFrame(
        {
            "event_id": _names("E", np.arange(done)),
            "request_id": request[asked],
            "agent_id": _names("A", agent[asked]),
            "lead_id": _names("L", shown[asked, place]),
            "kind": rng.choice(list(KINDS), done, p=list(KINDS.values())),
            "at_market_us": when,
            "arrived_market_us": when + wait,
            "price_cents": rng.integers(1_000, 20_000, done).astype(float),
        }
    )
    twice = interactions[rng.random(done) < DOUBLE].assign(
        arrived_market_us=lambda rows: rows["arrived_market_us"] + US_PER_DAY
    )
    interactions = pd.concat([interactions, twice], ignore_index=True)
    return {
        "events/rankings": rankings,
        "events/impressions": impressions,
        "events/interactions": interactions,
    }


def _names(letter: str, numbers: I64) -> NDArray[np.object_]:
    """Ids of the product's length: a letter and 25 figures."""
    known = np.array([f"{letter}{number:025d}" for number in range(int(numbers.max()) + 1)], object)
    return known[numbers]


# --- what is measured: each runs in a process of its own ---------------------------------


def publication(settings: Settings) -> dict[str, Any]:
    """Features of every lead, agent and pair at the log's end."""
    lead_ids = pd.read_parquet(frame_path(settings, MARKET, "leads"), columns=["lead_id"])
    lead_frame, agent_frame = build_serving_frames(
        settings, MARKET, END_US, lead_ids["lead_id"].tolist()
    )
    pairs = build_serving_pairs(settings, MARKET, END_US, lead_ids["lead_id"].tolist())
    lead_frame.to_parquet(settings.home / "ours.parquet")
    return {
        "rows": {"leads": len(lead_frame), "agents": len(agent_frame), "pairs": len(pairs)},
        "columns": len(lead_frame.columns) + len(agent_frame.columns) + len(pairs.columns) - 4,
    }


def behaviour(settings: Settings) -> dict[str, Any]:
    """What happened to each lead, at the log's end."""
    with open_tables(settings, MARKET) as tables:
        end = ibis.literal(END_US, "int64")
        spine = tables.keep(tables.leads.select("lead_id", as_of_us=end))
        frame = lead_counts(tables, spine).to_pandas()
    return {"rows": {"leads": len(frame)}, "columns": len(frame.columns) - 2}


def training(settings: Settings) -> dict[str, Any]:
    """A training frame of some of the rankings; the whole log is counted."""
    path = build_training_frame(settings, MARKET, TRAINING_RANKINGS)
    rows = len(pd.read_parquet(path, columns=["label"]))
    return {"rows": {"impressions": rows}, "columns": 100}


def plain_pandas(settings: Settings) -> dict[str, Any]:
    """What happened to each lead, with merges and groupbys, at the log's end."""
    path = frame_path(settings, MARKET, "leads")
    leads = pd.read_parquet(path, columns=["lead_id", "max_buyers"]).set_index("lead_id")
    sums = _shown_by_pandas(settings).join(_done_by_pandas(settings), how="outer")
    sums = sums.reindex(leads.index)
    counts = [name for name in sums if not name.startswith(("hours", "lead_fee"))]
    sums[counts] = sums[counts].fillna(0.0)
    views = sums["lead_views"]
    frame = sums.drop(columns=["lead_views", "lead_holds", "lead_purchases", "attention_faded"])
    frame["lead_view_rate"] = (views + 1) / (sums["lead_attention"] + 5)
    frame["lead_view_trend"] = (sums["lead_views_1d"] + 1) / (sums["lead_views_7d"] / 7 + 1)
    frame["lead_hold_rate"] = (sums["lead_holds"] + 1) / (views + 5)
    frame["lead_places_left"] = (leads["max_buyers"] - sums["lead_purchases"]).clip(lower=0)
    frame["lead_interest_rate"] = (sums["lead_interest_faded"] + 1) / (sums["attention_faded"] + 5)
    frame.astype(np.float32).to_parquet(settings.home / "pandas.parquet")
    return {"rows": {"leads": len(frame)}, "columns": len(frame.columns)}


def _shown_by_pandas(settings: Settings) -> pd.DataFrame:
    impressions = pd.read_parquet(frame_path(settings, MARKET, "events/impressions"))
    rankings = pd.read_parquet(frame_path(settings, MARKET, "events/rankings"))
    shown = impressions.drop_duplicates(["request_id", "lead_id"]).merge(
        rankings.drop_duplicates("request_id"), on="request_id"
    )
    known = np.maximum(shown["at_market_us"], shown["arrived_market_us"])
    shown = shown[known < END_US]
    age = (END_US - shown["at_market_us"]) / US_PER_DAY
    shown = shown.assign(
        attention=1.0 / shown["position"], fee=np.log(shown["price_cents"] / 100.0)
    )
    shown["faded"] = np.where(age <= 30, shown["attention"] * 0.5 ** (age / 7.0), 0.0)
    by = shown.groupby("lead_id")
    return pd.DataFrame(
        {
            "lead_attention": by["attention"].sum(),
            "attention_faded": by["faded"].sum(),
            "lead_fee_level": by["fee"].mean(),
        }
    )


def _done_by_pandas(settings: Settings) -> pd.DataFrame:
    done = pd.read_parquet(frame_path(settings, MARKET, "events/interactions"))
    done = done.sort_values("arrived_market_us").drop_duplicates("event_id")
    known = np.maximum(done["at_market_us"], done["arrived_market_us"])
    done = done[known < END_US]
    age = (END_US - done["at_market_us"]) / US_PER_DAY
    weight = done["kind"].map({"view": 1.0, "hold": 2.0, "purchase": 3.0}).fillna(0.0)
    done = done.assign(
        age=age,
        day=np.where(age <= 7, 0.5**age, 0.0),
        week=np.where(age <= 30, weight * 0.5 ** (age / 7.0), 0.0),
    )
    by = dict(iter(done.groupby("kind")))
    view, hold, bought = (by[kind].groupby("lead_id") for kind in ("view", "hold", "purchase"))
    sent = pd.read_parquet(frame_path(settings, MARKET, "submissions"))
    sent = sent[sent["received_market_us"] < END_US]
    declined = pd.concat([by["release"], by["return"]]).groupby("lead_id").size()
    return pd.DataFrame(
        {
            "lead_submissions": sent.groupby("lead_id").size(),
            "lead_views": view.size(),
            "lead_views_1d": by["view"][by["view"].age <= 1].groupby("lead_id").size(),
            "lead_views_7d": by["view"][by["view"].age <= 7].groupby("lead_id").size(),
            "lead_views_faded": view["day"].sum(),
            "lead_interest_faded": done.groupby("lead_id")["week"].sum(),
            "lead_viewers": view["agent_id"].nunique(),
            "lead_holds": hold.size(),
            "lead_holds_7d": by["hold"][by["hold"].age <= 7].groupby("lead_id").size(),
            "lead_declined": declined,
            "lead_purchases": bought.size(),
            "hours_since_bought": bought["age"].min() * 24,
            "hours_since_viewed": view["age"].min() * 24,
            "hours_since_held": hold["age"].min() * 24,
        }
    )


MEASURED: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "publication": publication,
    "behaviour": behaviour,
    "training": training,
    "pandas": plain_pandas,
}


def child(what: str, home: Path) -> dict[str, Any]:
    """Seconds, peak memory and size of one measure, in its own process on two cores."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")
    found = subprocess.run(
        [sys.executable, __file__, "--only", what, "--home", str(home)],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads},
    )  # fmt: skip
    said: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    print(f"{what}: {said}", file=sys.stderr, flush=True)
    return said


def only(what: str, home: Path) -> None:
    began = time.perf_counter()
    found = MEASURED[what](Settings(home=home))
    seconds = time.perf_counter() - began
    print(json.dumps({**found, "seconds": seconds, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Most memory that this process has had resident; `ru_maxrss` would count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kb = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kb) / 1024


def differing(home: Path) -> int:
    """Values of the columns of plain pandas that are not the product's, by more than rounding."""
    theirs = pd.read_parquet(home / "pandas.parquet")
    ours = pd.read_parquet(home / "ours.parquet", columns=["lead_id", *theirs.columns])
    ours = ours.set_index("lead_id").loc[theirs.index]
    # The product sums attention in millionths and faded weights in 1024ths.
    same = np.isclose(ours, theirs, rtol=2e-3, atol=2e-2, equal_nan=True)
    return int((~same).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--leads", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        only(given.only, given.home)
        return 0
    with tempfile.TemporaryDirectory(prefix="aiqleads-features-") as folder:
        home = Path(folder)
        rows = draw(Settings(home=home), given.leads, given.events, given.seed)
        print(f"drawn: {rows}", file=sys.stderr, flush=True)
        found = {what: child(what, home) for what in MEASURED}
        wrong = differing(home)
    events = sum(n for name, n in rows.items() if name.startswith("events/"))
    for what in ("publication", "behaviour", "training"):
        own, other = found[what], found["pandas"] if what == "behaviour" else None
        size = ", ".join(f"{count} {name}" for name, count in own["rows"].items())
        for name, key, unit, goal in (
            ("seconds", "seconds", "s", GOAL_SECONDS),
            ("memory", "peak_mb", "MB", GOAL_MB),
        ):
            line = {
                "name": f"features.{what}.{name}",
                "value": round(own[key], 1),
                "unit": f"{unit} ({size}, {own['columns']} columns)",
                "peer": "plain pandas" if other else "",
                "peer_value": round(other[key], 1) if other else None,
                "ratio": round(other[key] / own[key], 3) if other else None,
                "goal": f"<= {goal:g}",
                "ok": own[key] <= goal,
                "n": events,
            }
            print(json.dumps(line), flush=True)
    if wrong:
        print(f"{wrong} values differ from plain pandas", file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
