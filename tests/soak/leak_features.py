"""Features of logged requests, computed again from a log that ends at their moment.

Takes a market's log, makes 5 % of its interactions late and 2 % double where the log has
fewer, and computes runs of requests at moments of the log twice: from all of it and from
files cut to what had arrived. 0 leaks are expected in 10,000 requests. It goes on where it
was ended, and prints one JSON object. Without a home it makes one: the sample's leads and the
simulated market.

    python tests/soak/leak_features.py [--home HOME] [--market lucas] [--requests 10000] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aiqleads.domain import US_PER_HOUR
from aiqleads.features.recheck import Recheck, logged_moments, recheck
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import load_market
from aiqleads.market_sim.simulate import simulate
from aiqleads.settings import Settings

#: requests that are asked about at one moment, and moments of a step that is done whole
RUN, STEP = 100, 5
LATE_SHARE, DOUBLE_SHARE = 0.05, 0.02
_LATE_HOURS = 30.0


def count(
    settings: Settings, market: str, requests: int, seed: int, work: Path | None = None
) -> dict[str, Any]:
    """Leaks by feature in at least `requests` logged requests, each with all that it showed.

    work: a directory for the spoiled log and the steps that are done; by default under the
    home's reports. A finished count is read, not made again.
    """
    folder = work or settings.reports / "leaks" / f"{market}-{seed}-{requests}"
    spoiled, shares = spoil(settings, market, folder / "home", seed)
    spine = logged_moments(spoiled, market, -(-requests // RUN), RUN, seed)
    moments = np.unique(spine["as_of_us"].to_numpy())
    done = folder / "steps.json"
    steps: dict[str, Any] = json.loads(done.read_text()) if done.is_file() else {}
    for first in range(0, len(moments), STEP):
        name = str(moments[first])
        if name in steps:
            continue
        began = time.perf_counter()
        mine = spine[spine["as_of_us"].isin(moments[first : first + STEP])]
        found = recheck(spoiled, market, mine.reset_index(drop=True))
        steps[name] = asdict(found) | {"seconds": round(time.perf_counter() - began, 1)}
        part = done.with_suffix(".part")
        part.write_text(json.dumps(steps))
        part.replace(done)
        print(f"{len(steps) * STEP} moments, leaks {found.leaks}", file=sys.stderr, flush=True)
    whole = Recheck()
    for step in steps.values():
        whole += Recheck(**{name: step[name] for name in ("moments", "requests", "rows", "leaks")})
    seconds = sum(step["seconds"] for step in steps.values())
    enough = whole.requests >= requests
    return {
        "market": market,
        "seed": seed,
        **asdict(whole),
        **shares,
        "seconds": round(seconds, 1),
        "ok": enough and not whole.leaks,
    }


def spoil(
    settings: Settings, market: str, home: Path, seed: int
) -> tuple[Settings, dict[str, float]]:
    """A copy of a market's log with late and double interactions, and the shares it has.

    Late is an arrival more than an hour after the event. What the log has of itself is left.
    """
    source, target = settings.data / "core" / market, home / "data" / "core" / market
    path = target / "events" / "interactions.parquet"
    if not path.is_file():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("interactions.parquet"))
        done = pd.read_parquet(source / "events" / "interactions.parquet")
        rng = np.random.default_rng(seed)
        twice = _with_doubles(_with_late(done, rng), rng)
        part = path.with_suffix(".part")
        twice.to_parquet(part, index=False)
        part.replace(path)
    done = pd.read_parquet(path)
    shares = {
        "late_share": round(float(_is_late(done).mean()), 4),
        "double_share": round(float(done["event_id"].duplicated().mean()), 4),
    }
    return Settings(home=home), shares


def _is_late(done: pd.DataFrame) -> pd.Series[bool]:
    return done["arrived_market_us"] - done["at_market_us"] > US_PER_HOUR


def _with_late(done: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    late = _is_late(done)
    lacking = max(LATE_SHARE - float(late.mean()), 0.0) / max(1.0 - float(late.mean()), 1e-9)
    chosen = ~late & (rng.random(len(done)) < lacking)
    hours = 1.0 + rng.exponential(_LATE_HOURS, len(done))
    moved = done["at_market_us"] + (hours * US_PER_HOUR).astype(np.int64)
    return done.assign(arrived_market_us=done["arrived_market_us"].where(~chosen, moved))


def _with_doubles(done: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    lacking = DOUBLE_SHARE - float(done["event_id"].duplicated().mean())
    if lacking <= 0:
        return done
    again = done[rng.random(len(done)) < lacking / (1.0 - lacking)]
    later = again["arrived_market_us"] + rng.integers(1, 48 * US_PER_HOUR, len(again))
    return pd.concat([done, again.assign(arrived_market_us=later)], ignore_index=True)


def made(settings: Settings, market_name: str, seed: int) -> Settings:
    """A home with the sample's leads and the log of a simulated market, made once."""
    done = settings.home / "done"
    if not done.is_file():
        shutil.rmtree(settings.home, ignore_errors=True)
        market = load_market(market_name, settings)
        ingest(settings, "sales_csv", [], market)
        simulate(settings, market, "calm", agents=120, days=None, seed=seed)
        done.touch()
    return settings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="with leads and a log; by default one is made")
    parser.add_argument("--market", default="lucas")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    own = Settings().reports / "leaks" / f"home-{asked.seed}"
    home = (
        Settings(home=asked.home)
        if asked.home
        else made(Settings(home=own), asked.market, asked.seed)
    )
    result = count(home, asked.market, asked.requests, asked.seed)
    print(json.dumps(result))
    return int(not result["ok"])


if __name__ == "__main__":
    sys.exit(main())
