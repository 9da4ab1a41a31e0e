"""What each part of the catalogue and each loss is worth: the rows of docs/tried.md.

    python tests/benchmarks/ablate_features.py [--preset calm] [--seed 11] [--work DIR]

One market, the product's training with all features, then without one part at a time, then
with each of CatBoost's losses. The validate window's NDCG@10 of labels weighed by attention is
what one may choose by; that of true relevance on the test window is shown for interest. Use a
seed that no reported figure stands on. A table in Markdown on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import bench_ranking
import numpy as np
import structlog

from aiqleads.features.catalog import FEATURES, Feature
from aiqleads.ranking.dataset import Dataset, Truth
from aiqleads.ranking.evaluate import ndcg_at
from aiqleads.ranking.train import FUNNEL, LOSSES, train_ranker
from aiqleads.settings import Settings

#: parts of the catalogue, by what a feature is made of
PARTS: dict[str, Callable[[Feature], bool]] = {
    "lead behaviour": lambda f: f.group == "behavior",
    "market context": lambda f: f.group == "market",
    "location of the lead": lambda f: f.group == "location",
    "the agent's own side": lambda f: f.group == "agent",
    "taste in places (distances, centres, looks and lift of a place)": lambda f: (
        (f.group == "cross" and ("_km2" in f.name or f.name.startswith(("place_", "centres_"))))
        or f.name == "engaged_distance_scaled"
    ),
    "taste in prices, sizes and intents": lambda f: (
        f.group == "cross"
        and f.name.startswith(("ask_", "price_", "intent_", "quality_", "beds_", "size_", "fee_"))
    ),
    "what this agent did with this lead": lambda f: (
        f.group == "cross" and ("_you" in f.name or f.name == "passed_over")
    ),
    "recency, trend and fading": lambda f: any(
        word in f.name for word in ("hours_since", "trend", "faded", "lately")
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="calm")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    os.environ["OMP_NUM_THREADS"] = "1"
    work = given.work or Settings().reports / "bench"
    root = work / "ranking" / bench_ranking.state()[:12]
    cell = bench_ranking.Cell(given.preset, given.preset, given.seed)
    windows, truth = market(root, cell)
    print("| what | features | NDCG@10 on validate | on test, true relevance | CPU s |")
    print("|---|---|---|---|---|")
    for what, names, loss in variants():
        began = time.process_time()
        chosen = {
            name: replace(each, X=each.columns(names), features=names)
            for name, each in windows.items()
        }
        ranker = train_ranker(
            chosen["train"], chosen["validate"], loss, {"random_seed": given.seed}
        )
        spent = time.process_time() - began
        test = chosen["test"]
        tie = np.random.default_rng(7).random(len(test))
        reached = ndcg_at(10, truth.relevance, ranker.scorer.score(test.X), test.sizes, tie)
        print(
            f"| {what} | {len(names)} | {ranker.validate_mean:.4f} | "
            f"{np.nanmean(reached):.4f} | {spent:.0f} |",
            flush=True,
        )
    return 0


def market(root: Path, cell: bench_ranking.Cell) -> tuple[dict[str, Dataset], Truth]:
    """Windows of a cell, and the truth of its test window; bots are out of that one."""
    folder = bench_ranking.folder_of(root, cell)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "windows.pkl").is_file():
        bench_ranking.timed(cell, "market", lambda: bench_ranking.prepare(root, cell))
    windows = bench_ranking._load(folder / "windows.pkl")
    human, truths, _ = bench_ranking._load(folder / "truth.pkl")
    return {**windows, "test": human["test"]}, truths["test"]


def variants() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What is left out or changed, the features that stay, and the loss."""
    everything = tuple(feature.name for feature in FEATURES)
    yield "everything", everything, FUNNEL
    for part, holds in PARTS.items():
        names = tuple(feature.name for feature in FEATURES if not holds(feature))
        yield f"without {part}", names, FUNNEL
    for loss in LOSSES:
        if loss != FUNNEL:
            yield f"{loss} instead of the funnel", everything, loss


if __name__ == "__main__":
    sys.exit(main())
