"""The rankers on five simulated markets: does the champion beat every baseline, each time?

    python tests/benchmarks/bench_ranking.py [--work DIR] [--seeds 1,2,3,4,5]

For each seed, in a fresh home: simulate -> features -> train -> compare -> promote, all with
the defaults of the pipeline. A seed is a cell that is done once for a state of the source;
interrupted, the next call goes on with the next cell. JSON lines on stdout, progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from scipy import stats

from aiqleads.features.build import build_training_frame
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import load_market
from aiqleads.market_sim.simulate import simulate
from aiqleads.pipeline import source_digest
from aiqleads.ranking.compare import METRICS, Comparison
from aiqleads.ranking.dataset import load_dataset
from aiqleads.ranking.importance import importances
from aiqleads.ranking.promote import compare_market, promote_run
from aiqleads.ranking.registry import log_training
from aiqleads.ranking.train import LOSSES, train_ranker
from aiqleads.settings import Settings

MARKET, PRESET, AGENTS = "lucas", "calm", 120
Cell = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="where cells are kept")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    work = given.work or Settings().reports / "bench" / "ranking"
    work /= f"{PRESET}-{AGENTS}-{source_digest()[:12]}"
    cells = [cell(work, int(seed), given.threads) for seed in given.seeds.split(",")]
    for figure in figures(cells):
        print(json.dumps(figure), flush=True)
    return 0


def cell(work: Path, seed: int, threads: int) -> Cell:
    """One simulated market from events to champion; read back when it was done before."""
    done, comparison = work / f"seed-{seed}.json", work / f"seed-{seed}-comparison.json"
    if not done.is_file():
        say(f"seed {seed}: running")
        home = work / f"home-{seed}"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(ingested(work) / "data" / "core", home / "data" / "core")
        settings = Settings(home=home)
        result = run(settings, seed, threads)
        Comparison.load(settings.reports / "comparisons" / f"{MARKET}.json").save(comparison)
        partial = done.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.replace(done)
        shutil.rmtree(home)
        say(f"seed {seed}: {result['outcome']} {result['reason']} {result['seconds']}")
    return {**json.loads(done.read_text()), "comparison": Comparison.load(comparison)}


def ingested(work: Path) -> Path:
    """A home with the sample's leads, made once for all seeds."""
    base = work / "base"
    if not (base / "done").is_file():
        shutil.rmtree(base, ignore_errors=True)
        settings = Settings(home=base)
        ingest(settings, "sales_csv", [], load_market(MARKET, settings))
        (base / "done").touch()
    return base


def run(settings: Settings, seed: int, threads: int) -> Cell:
    market = load_market(MARKET, settings)
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(name: str) -> None:
        seconds[name] = round(time.perf_counter() - started - sum(seconds.values()), 1)

    simulate(settings, market, PRESET, agents=AGENTS, days=None, seed=seed)
    lap("simulate")
    build_training_frame(settings, MARKET)
    lap("features")
    train, validate = (load_dataset(settings, market, w) for w in ("train", "validate"))
    trained = [
        train_ranker(train, validate, loss, {"random_seed": seed}, threads) for loss in LOSSES
    ]
    lap("train")
    tables = {each.loss: importances(each.scorer, validate.X) for each in trained}
    log_training(settings, MARKET, trained, (train, validate), importances=tables)
    compare_market(settings, MARKET)
    verdict = promote_run(settings, market=MARKET)
    lap("compare")
    return {
        "seed": seed,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "train_requests": len(train.sizes),
        "seconds": seconds,
    }


def figures(cells: Sequence[Cell]) -> list[dict[str, object]]:
    """The champion against each baseline and each oracle, and every ranker's own mean."""
    found = [
        against(cells, metric, peer.name)
        for metric in METRICS
        for peer in cells[0]["comparison"].baselines
    ]
    found += [
        reached(cells, metric, row.name)
        for metric in METRICS
        for row in cells[0]["comparison"].rows
        if row.kind in {"model", "oracle"}
    ]
    return found


def against(cells: Sequence[Cell], metric: str, peer: str) -> dict[str, object]:
    """The mean difference over seeds with its t interval, and each seed's own interval."""
    each = [champion(c).over[peer][metric] for c in cells]
    low, high = over_seeds([interval.mean for interval in each])
    mean = float(np.mean([interval.mean for interval in each]))
    theirs = average(cells, metric, peer)
    return {
        "name": f"ranking.{metric}.champion_vs_{peer.replace(' ', '_')}",
        "value": round(mean, 4),
        "unit": f"difference in {metric}, {METRICS[metric]}",
        "peer": peer,
        "peer_value": round(theirs, 4),
        "ratio": round((theirs + mean) / theirs, 3),
        "goal": "promoted, and the 95 % intervals over seeds and of each seed above 0",
        "ok": all(c["outcome"] == "promoted" for c in cells)
        and low > 0
        and all(interval.low > 0 for interval in each),
        "n": len(cells),
        "interval": [round(low, 4), round(high, 4)],
        "per_seed": {
            str(c["seed"]): [round(i.mean, 4), round(i.low, 4), round(i.high, 4)]
            for c, i in zip(cells, each, strict=True)
        },
        "requests": [c["comparison"].requests for c in cells],
        "champions": [c["comparison"].challenger for c in cells],
        "simulated": True,
    }


def reached(cells: Sequence[Cell], metric: str, name: str) -> dict[str, object]:
    """A ranker's or an oracle's own mean over seeds beside the full oracle's."""
    value, oracle = average(cells, metric, name), average(cells, metric, "full oracle")
    low, high = over_seeds([c["comparison"].row(name).metrics[metric].mean for c in cells])
    return {
        "name": f"ranking.{metric}.{name.replace(' ', '_')}",
        "value": round(value, 4),
        "unit": METRICS[metric],
        "peer": "full oracle",
        "peer_value": round(oracle, 4),
        "ratio": round(value / oracle, 3),
        "goal": "for information",
        "ok": True,
        "n": len(cells),
        "interval": [round(low, 4), round(high, 4)],
        "simulated": True,
    }


def champion(cell: Cell) -> Any:
    return cell["comparison"].row(cell["comparison"].challenger)


def average(cells: Sequence[Cell], metric: str, name: str) -> float:
    return float(np.mean([c["comparison"].row(name).metrics[metric].mean for c in cells]))


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """95 % t interval of the mean over seeds; unbounded for a single one."""
    if len(values) < 2:
        return float("-inf"), float("inf")
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - reach), float(np.mean(values) + reach)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
