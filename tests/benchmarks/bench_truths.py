"""The ranker on data that nobody here made: MovieLens-100k, RentHop, a LETOR sample.

    python tests/benchmarks/bench_truths.py [--work DIR] [--back 0] [--only movielens,renthop,letor]

docs/truths.md says what is asked and by which protocol. Every trained ranker is a cell that
is done once for a state of the source; interrupted, the next call goes on with the next cell.
`--back 1` moves every cut of MovieLens one step into the past: the figures by which choices
are made, without a look at the test. JSON lines on stdout, progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from truths import cells, generators, letor, movielens, renthop, twostage
from truths.movielens import Floats
from truths.twostage import SEEDS, Ladder

from aiqleads.ranking.evaluate import paired_bootstrap
from aiqleads.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "data"
MARKET_FILE = ROOT / "tests" / "data" / "markets" / "renthop.toml"
#: the project's figure is that of its rankers of all seeds together
OURS = "all seeds together"
#: what the product is asked to reach on the protocol by user
GOAL = 0.235
LEARNED = {"lightgbm": "LightGBM lambdarank", "xgboost": "XGBoost rank:ndcg"}
COLLABORATIVE = {"als": "implicit ALS", "bpr": "implicit BPR", "item_knn": "item-kNN"}
WINDOWS_OF = {"user": "each user's last 20 %", "time": "one cut at 80 % of the time line"}
LATELY_DAYS = (1, 7, 14, 30, 60)
#: penalties of plain EASE
PENALTIES = (100, 200, 300, 500, 1_000)

Figure = dict[str, object]
#: NDCG@10 of each user, the mean over seeds
Scored = dict[str, Floats]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="where cells are kept")
    parser.add_argument("--back", type=int, default=0, help="cuts to go back: 1 is the validation")
    parser.add_argument("--only", default="movielens,renthop,letor")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    base = Settings().reports / "bench" / "truths"
    films = given.work or base / f"movielens-{cells.digest()}"
    flats = given.work or base / f"renthop-{cells.digest('features/*.py', 'ingest/**/*.py')}"
    parts = {
        "movielens": lambda: of_movielens(base, films / f"back-{given.back}", given.back),
        "renthop": lambda: of_renthop(flats),
        "letor": lambda: of_letor(),
    }
    for name in given.only.split(","):
        for figure in parts[name]():
            print(json.dumps(figure), flush=True)
    return 0


def of_movielens(base: Path, work: Path, back: int) -> Iterator[Figure]:
    """Both protocols: the project's rankers, and every peer with the difference to it."""
    log = movielens.read(movielens.fetched(base))
    python = cells.peers_python(base)
    for protocol in twostage.PROTOCOLS:
        here = work / protocol

        def make(protocol: str = protocol) -> Ladder:
            return twostage.ladder(log, protocol, back)

        windows = cells.pickled(here / "windows.pickle", make)
        ours, trees = rankers(windows, protocol, here)
        theirs = learned_peers(windows, here, python) | plain_peers(windows, here, python)
        yield from compared(protocol, ours, theirs, back, trees)


def rankers(windows: Ladder, protocol: str, work: Path) -> tuple[Scored, list[int]]:
    """The project's rankers, one seed alone and all together; trees of each seed."""
    made = []
    for seed in SEEDS:

        def make(seed: int = seed) -> Mapping[str, Any]:
            score, trees = twostage.trained(windows, protocol, seed)
            return {"score": score, "trees": trees}

        made.append(cells.arrays(work / f"ranker-{seed}.npz", make))
    scores = [each["score"] for each in made]
    view = windows.test.view
    found = {
        OURS: over_seeds(windows, [twostage.together(scores)]),
        "one seed": over_seeds(windows, scores),
        "no second stage, ease_session": twostage.judged(view, generators.ease_session(view)),
    }
    return found, [int(each["trees"]) for each in made]


def over_seeds(windows: Ladder, scores: list[Floats]) -> Floats:
    """NDCG@10 of each user, the mean over seeds."""
    view, full = windows.test.view, windows.test.full
    return np.asarray(np.mean([twostage.judged(view, full(each)) for each in scores], axis=0))


def learned_peers(windows: Ladder, work: Path, python: Path) -> Scored:
    """Boosted trees of other libraries on the same rows and features, treated as ours."""
    found = {}
    for arm, name in LEARNED.items():
        made = run_peer(python, arm, work, lambda: feature_arrays(windows))
        cells.say(f"{name}: {made['said']}")
        scores = list(made["test"])
        found[name] = over_seeds(windows, scores)
        found[f"{name}, {OURS}"] = over_seeds(windows, [twostage.together(scores)])
    return found


def plain_peers(windows: Ladder, work: Path, python: Path) -> Scored:
    """Recommenders of one stage; where there is a choice, the best on the validate window."""
    validate, test = windows.validate.view, windows.test.view
    found = {
        "popularity": twostage.judged(test, generators.popularity(test)),
        "popular lately": best_of(
            windows,
            [generators.lately(validate, days) for days in LATELY_DAYS],
            [generators.lately(test, days) for days in LATELY_DAYS],
        ),
        "EASE": best_of(
            windows,
            [generators.plain_ease(validate, penalty) for penalty in PENALTIES],
            [generators.plain_ease(test, penalty) for penalty in PENALTIES],
        ),
    }
    known = {"known_validate": validate.rated, "known_test": test.rated}
    for arm, name in COLLABORATIVE.items():
        made = run_peer(python, arm, work, lambda: known)
        found[name] = best_of(windows, list(made["validate"]), list(made["test"]))
    return found


def best_of(windows: Ladder, validate: list[Floats], test: list[Floats]) -> Floats:
    """NDCG@10 on the test of the configuration that is best on the validate window."""
    means = [float(np.nanmean(twostage.judged(windows.validate.view, each))) for each in validate]
    return twostage.judged(windows.test.view, test[int(np.argmax(means))])


def feature_arrays(windows: Ladder) -> dict[str, Any]:
    """What a peer of two stages is given."""
    arrays: dict[str, Any] = {}
    three = {"train": windows.train, "validate": windows.validate.data, "test": windows.test.data}
    for name, data in three.items():
        arrays |= {f"X_{name}": data.X, f"label_{name}": data.label}
        arrays |= {f"position_{name}": data.position, f"sizes_{name}": data.sizes}
    return arrays


def run_peer(python: Path, arm: str, work: Path, arrays: Any) -> dict[str, Any]:
    """Scores of a peer from its own environment, made once."""
    out = work / f"{arm}.npz"
    if not out.is_file():
        cells.say(f"{arm}: running")
        given = work / f"{arm}-arrays.npz"
        np.savez(given, **arrays())
        script = HERE / "truths" / "peers_run.py"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        subprocess.run(
            [str(python), str(script), str(given), str(out), arm],
            check=True,
            env=environment,
            stdout=sys.stderr,
        )
        given.unlink()
    with np.load(out) as file:
        return dict(file)


def compared(
    protocol: str, ours: Scored, theirs: Scored, back: int, trees: list[int]
) -> Iterator[Figure]:
    """The project's figure against the best peer, then against each of them."""
    best = max(theirs, key=lambda name: float(np.nanmean(theirs[name])))
    name = f"truths.movielens_{protocol}" + (f"_back_{back}" if back else "")
    goal = f">= {GOAL}" if protocol == "user" else "for information"
    mean = paired_bootstrap(ours[OURS])
    reached = protocol != "user" or back > 0 or mean.mean >= GOAL
    shared = {"protocol": WINDOWS_OF[protocol], "simulated": False, "seeds": len(SEEDS)}
    peer = float(np.nanmean(theirs[best]))
    yield {
        "name": f"{name}.ndcg10",
        "value": round(mean.mean, 4),
        "unit": "NDCG@10",
        "peer": best,
        "peer_value": round(peer, 4),
        "ratio": round(mean.mean / peer, 3),
        "goal": goal,
        "ok": reached,
        "n": mean.n,
        "interval": [round(mean.low, 4), round(mean.high, 4)],
        "alone": {each: round(float(np.nanmean(value)), 4) for each, value in ours.items()},
        "trees": trees,
        **shared,
    }
    for each, value in theirs.items():
        gap = paired_bootstrap(ours[OURS], value)
        theirs_mean = float(np.nanmean(value))
        # with rows and features in common, boosted trees are asked not to be worse, no more
        same_rows = each.startswith(tuple(LEARNED.values()))
        reached = gap.high >= 0 if same_rows else gap.low > 0
        needed = protocol == "user" and not back
        wanted = "not below by its interval" if same_rows else "interval above 0"
        yield {
            "name": f"{name}.over_{each.lower().translate(_SLUG)}",
            "value": round(gap.mean, 4),
            "unit": "difference in NDCG@10",
            "peer": each,
            "peer_value": round(theirs_mean, 4),
            "ratio": round(mean.mean / theirs_mean, 3),
            "goal": wanted if needed else "for information",
            "ok": reached or not needed,
            "n": gap.n,
            "interval": [round(gap.low, 4), round(gap.high, 4)],
            **shared,
        }


_SLUG = str.maketrans({" ": "_", ":": "_", ",": None, "-": "_"})


def of_renthop(work: Path) -> Iterator[Figure]:
    """Concordance of the score with the inquiries, at agents that were not trained on."""
    table = SHARED / "interest" / "renthop_b1.csv"
    if not table.is_file():
        cells.say(f"renthop: left out, {table} is not here")
        return

    def taken_in() -> renthop.Flats:
        with tempfile.TemporaryDirectory(prefix="aiqleads-renthop-") as home:
            return renthop.taken_in(table, MARKET_FILE, Path(home))

    flats = cells.pickled(work / "renthop.pickle", taken_in)
    splits = renthop.splits(flats)
    made = []
    for number, (train, test) in enumerate(splits):

        def make(train: Any = train, test: Any = test) -> Mapping[str, Any]:
            return {"score": renthop.learned(flats, train, test)}

        made.append(cells.arrays(work / "renthop" / f"{number}.npz", make)["score"])
    found = renthop.compared(flats, made, [test for _, test in splits])
    value = found["C"]["ranker"]
    for peer in renthop.baselines(flats):
        gap = found[peer]
        yield {
            "name": f"truths.renthop.over_{peer.translate(_SLUG)}",
            "value": round(gap.mean, 4),
            "unit": "difference in concordance with the level of inquiries",
            "peer": peer,
            "peer_value": round(found["C"][peer], 4),
            "ratio": round(value / found["C"][peer], 3),
            "goal": "interval above 0",
            "ok": gap.low > 0,
            "n": len(flats.level),
            "interval": [round(gap.low, 4), round(gap.high, 4)],
            "concordance": round(value, 4),
            "agents": gap.n,
            "splits": len(splits),
            "simulated": False,
        }


def of_letor() -> Iterator[Figure]:
    """Whether the ranker learns anything from a foreign file."""
    folder = SHARED / "ltr"
    if not folder.is_dir():
        cells.say(f"letor: left out, {folder} is not here")
        return
    ours, chance = letor.measured(folder)
    gap = paired_bootstrap(ours, chance)
    yield {
        "name": "truths.letor.ndcg10",
        "value": round(float(np.nanmean(ours)), 4),
        "unit": "NDCG@10",
        "peer": "random order",
        "peer_value": round(float(np.nanmean(chance)), 4),
        "ratio": round(float(np.nanmean(ours) / np.nanmean(chance)), 3),
        "goal": "interval of the difference above 0",
        "ok": gap.low > 0,
        "n": gap.n,
        "interval": [round(gap.low, 4), round(gap.high, 4)],
        "simulated": False,
    }


if __name__ == "__main__":
    sys.exit(main())
