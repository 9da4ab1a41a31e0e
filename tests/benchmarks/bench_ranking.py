"""How much of what the features tell the rankers find, on every committed simulated market.

    python tests/benchmarks/bench_ranking.py [--quick] [--seeds 1,2,3,4,5] [--preset NAME ..]
        [--preset-file FILE ..] [--work DIR] [--jobs 2]

A cell is a preset and a seed: simulate -> features -> windows, then each arm: ours (the
product's training), LightGBM lambdarank and XGBoost rank:ndcg as usual and fitted again on both
windows, collaborative recommenders, the product's baselines, and three oracles. An arm is done
once for a state of the source; interrupted, the next call goes on with the next arm. All arms
have the same features, labels and windows; the peers' configurations are chosen at the first
seed of a preset by the validate window's observed labels (`peers/run.py`), and nobody but the
oracles reads the truth.

What is measured is NDCG@10 of true expected relevance on the held-out window, requests of bots
left out. The share of the gap closed is (ours - peer) / (information oracle - peer), with the
better of the two LightGBMs as the peer. JSON lines on stdout, progress on stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from peers.arrays import write_arrays
from peers.environment import HERE as PEERS
from peers.environment import run_peers
from peers.information import information_oracle
from scipy import stats

from aiqleads.features.build import build_training_frame
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import load_market
from aiqleads.market_sim.presets import committed_digests, load_preset, preset_names
from aiqleads.market_sim.simulate import simulate
from aiqleads.pipeline import source_digest
from aiqleads.ranking import slices
from aiqleads.ranking.baselines import BASELINES
from aiqleads.ranking.compare import SLICE_PEER, Slice
from aiqleads.ranking.dataset import WINDOWS, Dataset, Truth, load_dataset, load_truth, without_bots
from aiqleads.ranking.evaluate import ndcg_at, paired_bootstrap
from aiqleads.ranking.train import FUNNEL, train_ranker
from aiqleads.settings import Settings

MARKET, AGENTS, TOP = "lucas", 120, 10
#: rankings of a cell, evenly spaced in time where a market has more: the same for all arms
MOST_RANKINGS = 8_000
#: presets that no ranker was tuned on, given as files
UNSEEN = Path(__file__).resolve().parents[1] / "data" / "presets"
OURS, LIGHTGBM, INFORMATION = "ours", ("LightGBM", "LightGBM, all windows"), "information oracle"
#: arm of peers/run.py -> its name here
PEER_ARMS = {
    "lightgbm": "LightGBM",
    "lightgbm_all": "LightGBM, all windows",
    "xgboost": "XGBoost",
    "xgboost_all": "XGBoost, all windows",
    "als": "implicit ALS",
    "bpr": "BPR",
    "item_knn": "item kNN",
    "ease": "EASE",
}
ORACLES = (INFORMATION, "taste oracle", "full oracle")
RESAMPLES = 2_000
GOAL_MEAN, GOAL_WORST = 0.50, 0.25

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A market to play: a preset's name or file, and the seed."""

    preset: str
    path: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.preset}-{self.seed}"


@dataclass(frozen=True)
class Measured:
    """A cell's test window and what each arm reached in it, NDCG@10 a request."""

    cell: Cell
    test: Dataset
    truth: Truth
    scores: Mapping[str, Floats]
    of_requests: Mapping[str, NDArray[np.object_]]
    of_leads: Mapping[str, NDArray[np.object_]]

    @cached_property
    def ndcg(self) -> dict[str, Floats]:
        tie = np.random.default_rng(7).random(len(self.test))
        return {
            name: ndcg_at(TOP, self.truth.relevance, score, self.test.sizes, tie)
            for name, score in self.scores.items()
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="where cells are kept")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--preset", action="append", default=[], help="only these of those shipped")
    parser.add_argument("--preset-file", action="append", default=[], type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, one thread each")
    parser.add_argument("--quick", action="store_true", help="calm and seed 1 only")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    whole = not (given.preset or given.preset_file or given.quick)
    names = given.preset or ([] if given.preset_file else list(preset_names()))
    files = given.preset_file or (sorted(UNSEEN.glob("*.toml")) if whole else [])
    seeds = [int(seed) for seed in given.seeds.split(",")]
    if given.quick:
        names, seeds = names[:1] or [], seeds[:1]
        names = names if given.preset or given.preset_file else ["calm"]
    presets = {name: name for name in names} | {path.stem: str(path.resolve()) for path in files}
    if changed := sorted(
        name for name in names if load_preset(name).digest != committed_digests()[name]
    ):
        print(f"not the committed preset any more: {', '.join(changed)}", file=sys.stderr)
        return 2
    root = (given.work or Settings().reports / "bench") / "ranking" / state()[:12]
    cells = [Cell(name, path, seed) for seed in seeds for name, path in presets.items()]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    ingested(root)
    spawned = multiprocessing.get_context("spawn")
    tuned = [cell for cell in cells if cell.seed == seeds[0]]
    with ProcessPoolExecutor(given.jobs, mp_context=spawned) as pool:
        list(pool.map(partial(play, root, seeds[0]), tuned))
        list(pool.map(partial(play, root, seeds[0]), cells))
    for line in lines([measured(root, cell) for cell in cells], names, list(presets)):
        print(json.dumps(line), flush=True)
    return 0


def state() -> str:
    """Digest of all that a cell depends on."""
    digest = hashlib.sha256(source_digest().encode())
    for path in [*sorted(PEERS.glob("*.py")), PEERS / "requirements.lock", Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def ingested(root: Path) -> Path:
    """A home with the sample's leads, made once for all cells."""
    base = root / "base"
    if not (base / "done").is_file():
        shutil.rmtree(base, ignore_errors=True)
        settings = Settings(home=base)
        ingest(settings, "sales_csv", [], load_market(MARKET, settings))
        (base / "done").touch()
    return base


def play(root: Path, tuned_seed: int, cell: Cell) -> None:
    """All arms of a cell; what was done before is left as it is.

    tuned_seed: peers choose their configuration at this seed of a preset, for all its seeds.
    """
    folder = folder_of(root, cell)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "windows.pkl").is_file():
        timed(cell, "market and features", partial(prepare, root, cell))
    windows: dict[str, Dataset] = _load(folder / "windows.pkl")
    arms: dict[str, Callable[[], Floats]] = {
        OURS: partial(ours, folder, windows, cell.seed),
        INFORMATION: partial(information, folder, windows, cell.seed),
    }
    for arm, score in arms.items():
        if not (folder / f"{arm}.npy").is_file():
            found = timed(cell, arm, score)
            np.save(folder / f"{arm}.partial.npy", found)
            (folder / f"{arm}.partial.npy").rename(folder / f"{arm}.npy")
    groups = [["lightgbm"], ["xgboost"]]
    if cell.seed == tuned_seed:  # they are far behind: one seed shows it
        groups.append(["als", "bpr", "item_knn", "ease"])
    for group in groups:
        out = folder / "peers" / group[0]
        if not (out / "peers.json").is_file():
            tuned = folder_of(root, replace(cell, seed=tuned_seed)) / "peers" / group[0]
            chosen = None if cell.seed == tuned_seed else tuned / "peers.json"
            timed(cell, ", ".join(group), partial(peers, folder, out, group, cell.seed, chosen))


def folder_of(root: Path, cell: Cell) -> Path:
    """A preset's parameters are part of the name: a changed file is another market."""
    return root / f"{cell.name}-{load_preset(_preset(cell)).digest[:8]}"


def prepare(root: Path, cell: Cell) -> None:
    """Plays the market in a home of its own and keeps windows, truth, slices and arrays."""
    folder = folder_of(root, cell)
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(ingested(root) / "data" / "core", home / "data" / "core")
    settings = Settings(home=home)
    market = load_market(MARKET, settings)
    simulate(settings, market, _preset(cell), agents=AGENTS, days=None, seed=cell.seed)
    build_training_frame(settings, MARKET, MOST_RANKINGS)
    windows = {name: load_dataset(settings, market, name) for name in WINDOWS}
    # The rankers' windows keep the bots: nobody tells them who is one.
    windows["test"] = without_bots(settings, market, windows["test"])
    human = {name: without_bots(settings, market, each) for name, each in windows.items()}
    truths = {name: load_truth(settings, market, each) for name, each in human.items()}
    write_arrays(settings, MARKET, list(windows.values()), folder / "arrays.npz")
    test = windows["test"]
    cut = (slices.of_requests(settings, market, test), slices.of_leads(settings, market, test))
    _dump(folder / "truth.pkl", (human, truths, cut))
    _dump(folder / "windows.pkl", windows)
    shutil.rmtree(home)


def ours(folder: Path, windows: Mapping[str, Dataset], seed: int) -> Floats:
    """The product's training, as `aiqleads run train_ranker` calls it."""
    ranker = train_ranker(windows["train"], windows["validate"], FUNNEL, {"random_seed": seed})
    attention = dict(ranker.examination.shelves)
    (folder / "ours.json").write_text(
        json.dumps({"trees": int(ranker.scorer.model.tree_count_), "attention": attention})
    )
    return ranker.scorer.score(windows["test"].X)


def information(folder: Path, windows: Mapping[str, Dataset], seed: int) -> Floats:
    human, truths, _ = _load(folder / "truth.pkl")
    relevance = [truths[name].relevance for name in WINDOWS]
    return information_oracle([human[name] for name in WINDOWS], relevance, seed=seed)


def peers(folder: Path, out: Path, arms: Sequence[str], seed: int, chosen: Path | None) -> None:
    venv = Settings().reports / "bench" / "peers-venv"
    run_peers(venv, folder / "arrays.npz", out, arms, seed=seed, chosen=chosen)


def measured(root: Path, cell: Cell) -> Measured:
    """What the arms of a finished cell reached."""
    folder = folder_of(root, cell)
    human, truths, (of_requests, of_leads) = _load(folder / "truth.pkl")
    test, truth = human["test"], truths["test"]
    scores = {OURS: np.load(folder / f"{OURS}.npy")}
    for path in sorted((folder / "peers").glob("*/*.npy")):
        scores[PEER_ARMS[path.stem]] = np.load(path).astype(np.float64)
    scores |= {name: baseline(test) for name, baseline in BASELINES.items()}
    scores[INFORMATION] = np.load(folder / f"{INFORMATION}.npy")
    scores |= truth.oracles
    bare = replace(test, X=np.zeros((len(test), 0), dtype=np.float32), features=())
    return Measured(cell, bare, truth, scores, of_requests, of_leads)


def lines(
    cells: Sequence[Measured], shipped: Sequence[str], presets: Sequence[str]
) -> list[dict[str, object]]:
    """The bench's lines: each preset's, then over those shipped and over those from files."""
    by_preset = {name: [c for c in cells if c.cell.preset == name] for name in presets}
    gaps = {name: Gap.of(mine) for name, mine in by_preset.items()}
    found = [gap_line(name, gap, by_preset[name]) for name, gap in gaps.items()]
    found += [peers_line(name, mine) for name, mine in by_preset.items()]
    found += oracle_lines(by_preset)
    found.append(slices_line(by_preset))
    for title, chosen in (
        ("gap_closed", shipped),
        ("unseen.gap_closed", [name for name in presets if name not in shipped]),
    ):
        if len(chosen) > 1:
            found += over_presets(title, {name: gaps[name] for name in chosen})
    return found


@dataclass(frozen=True)
class Gap:
    """(ours - peer) / (information oracle - peer) of a preset.

    share: of the means over seeds. by_seed: of each seed. drawn: of resamples, agents drawn
    within each seed.
    """

    peer: str
    share: float
    by_seed: Floats
    drawn: Floats

    @classmethod
    def of(cls, cells: Sequence[Measured], seed: int = 7) -> Gap:
        ndcg = [cell.ndcg for cell in cells]
        mean = {name: mean_of(ndcg, name) for name in ndcg[0]}
        peer = max((name for name in LIGHTGBM if name in mean), key=lambda name: mean[name])
        names = (OURS, peer, INFORMATION)
        means = np.array([[np.nanmean(each[name]) for name in names] for each in ndcg])
        rng = np.random.default_rng(seed)
        drawn = np.mean(
            [agents_drawn(each, cell.test.agent_id, names, rng)
             for each, cell in zip(ndcg, cells, strict=True)], axis=0
        )  # fmt: skip
        return cls(peer, float(_share(means.mean(axis=0))), _share(means), _share(drawn))

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, agents drawn within each seed."""
        low, high = np.quantile(self.drawn, (0.025, 0.975))
        return float(low), float(high)


def mean_of(ndcg: Sequence[Mapping[str, Floats]], arm: str) -> float:
    """Mean over the cells that have the arm."""
    return float(np.mean([np.nanmean(each[arm]) for each in ndcg if arm in each]))


def agents_drawn(
    ndcg: Mapping[str, Floats],
    agents: NDArray[np.object_],
    names: Sequence[str],
    rng: np.random.Generator,
) -> Floats:
    """Means of each arm over the requests of agents drawn with replacement: (RESAMPLES, arms)."""
    values = np.column_stack([ndcg[name] for name in names])
    kept = ~np.isnan(values).any(axis=1)
    _, who = np.unique(agents[kept].astype(str), return_inverse=True)
    count = np.bincount(who)
    total = np.column_stack([np.bincount(who, weights=each) for each in values[kept].T])
    drawn = rng.integers(0, len(count), size=(RESAMPLES, len(count)))
    return np.asarray(total[drawn].sum(axis=1) / count[drawn].sum(axis=1)[:, None])


def gap_line(name: str, gap: Gap, cells: Sequence[Measured]) -> dict[str, object]:
    """One preset: who reached what, and the share of the gap that ours closes."""
    reached = {
        arm: round(mean_of([cell.ndcg for cell in cells], arm), 4) for arm in cells[0].scores
    }
    return {
        "name": f"ranking.{name}.gap_closed",
        "value": round(gap.share, 3),
        "unit": "share of NDCG@10 between LightGBM and the information oracle",
        "peer": gap.peer,
        "peer_value": 0.0,
        "ratio": None,
        "goal": f">= {GOAL_WORST} in each preset",
        "ok": gap.share >= GOAL_WORST,
        "n": len(cells),
        "interval": _rounded(gap.interval),
        "interval_over_seeds": over_seeds(gap.by_seed),
        "per_seed": _rounded(gap.by_seed),
        "ndcg10": reached,
        "requests": [int((~np.isnan(cell.ndcg[OURS])).sum()) for cell in cells],
        "simulated": True,
    }


def peers_line(name: str, cells: Sequence[Measured]) -> dict[str, object]:
    """Ours against every peer and baseline of a preset; the value is of the nearest one."""
    ndcg = [cell.ndcg for cell in cells]
    differences = {}
    for peer in (arm for arm in ndcg[0] if arm not in (OURS, *ORACLES)):
        both = [cell for cell in cells if peer in cell.scores]
        a, b = (np.concatenate([cell.ndcg[arm] for cell in both]) for arm in (OURS, peer))
        interval = paired_bootstrap(a, b, _agents(both), resamples=RESAMPLES)
        differences[peer] = (interval.mean, interval.low, interval.high)
    nearest = min(differences, key=lambda peer: differences[peer][0])
    theirs = mean_of(ndcg, nearest)
    value = differences[nearest][0]
    return {
        "name": f"ranking.{name}.over_nearest_peer",
        "value": round(value, 4),
        "unit": "difference in NDCG@10",
        "peer": nearest,
        "peer_value": round(theirs, 4),
        "ratio": round((theirs + value) / theirs, 3),
        "goal": "below no peer by its 95 % interval",
        "ok": all(high >= 0 for _, _, high in differences.values()),
        "n": len(cells),
        "interval": _rounded(differences[nearest][1:]),
        "over": {peer: _rounded(each) for peer, each in differences.items()},
        "simulated": True,
    }


def oracle_lines(by_preset: Mapping[str, Sequence[Measured]]) -> list[dict[str, object]]:
    """Whether the information oracle lies above every ranker and below who knows tastes."""
    found = []
    for name, cells in by_preset.items():
        ndcg = [cell.ndcg for cell in cells]
        mean = {arm: mean_of(ndcg, arm) for arm in ndcg[0]}
        best = max((arm for arm in mean if arm not in ORACLES), key=lambda arm: mean[arm])
        found.append(
            {
                "name": f"ranking.{name}.information_oracle",
                "value": round(mean[INFORMATION], 4),
                "unit": "NDCG@10",
                "peer": f"best ranker: {best}",
                "peer_value": round(mean[best], 4),
                "ratio": round(mean[INFORMATION] / mean[best], 3),
                "goal": "above every ranker, below the taste oracle and the full one",
                "ok": mean[best] < mean[INFORMATION] < min(mean[each] for each in ORACLES[1:]),
                "n": len(cells),
                "simulated": True,
            }
        )
    return found


def slices_line(by_preset: Mapping[str, Sequence[Measured]]) -> dict[str, object]:
    """Ours against "popular lately" in every slice of every preset, corrected over them all."""
    found: list[tuple[str, Slice]] = []
    for name, cells in by_preset.items():
        pooled, truth = _pooled(cells)
        ndcg = [cell.ndcg for cell in cells]
        a, b = (np.concatenate([each[arm] for each in ndcg]) for arm in (OURS, SLICE_PEER))
        for kind in cells[0].of_requests:
            values = np.concatenate([cell.of_requests[kind] for cell in cells])
            for value in sorted(set(values.tolist())):
                kept = values == value
                if np.isnan(a[kept]).all():
                    continue
                interval = paired_bootstrap(a[kept], b[kept], pooled.agent_id[kept])
                means = float(np.nanmean(a[kept])), float(np.nanmean(b[kept]))
                found.append((name, Slice(kind, str(value), interval.n, *means, interval)))
        by_lead = {
            kind: np.concatenate([cell.of_leads[kind] for cell in cells])
            for kind in cells[0].of_leads
        }
        mine, theirs = (
            np.concatenate([cell.scores[arm] for cell in cells]) for arm in (OURS, SLICE_PEER)
        )
        found += [(name, each) for each in slices.among_leads(by_lead, mine, theirs, pooled, truth)]
    judged = slices.judge_slices([each for _, each in found])
    counted = [(n, j) for (n, _), j in zip(found, judged, strict=True) if j.counts]
    worse = [f"{n}: {j.slice.name} = {j.slice.value}" for n, j in counted if j.worse]
    lowest = min(counted, key=lambda each: each[1].slice.difference.mean)
    return {
        "name": "ranking.slices_below_popular_lately",
        "value": len(worse),
        "unit": "slices significantly below, Benjamini-Hochberg at 5 %",
        "peer": SLICE_PEER,
        "peer_value": 0,
        "ratio": None,
        "goal": "0 of the slices of at least 200 requests",
        "ok": not worse,
        "n": len(counted),
        "worse": worse,
        "lowest": {
            "slice": f"{lowest[0]}: {lowest[1].slice.name} = {lowest[1].slice.value}",
            "difference": round(lowest[1].slice.difference.mean, 4),
            "q": round(lowest[1].q_value, 4),
        },
        "simulated": True,
    }


def over_presets(title: str, gaps: Mapping[str, Gap]) -> list[dict[str, object]]:
    """The mean over presets, and the worst of them."""
    mean = float(np.mean([gap.share for gap in gaps.values()]))
    drawn = np.mean([gap.drawn for gap in gaps.values()], axis=0)
    by_seed = np.mean([gap.by_seed for gap in gaps.values()], axis=0)
    worst = min(gaps, key=lambda name: gaps[name].share)
    common = {
        "unit": "share of NDCG@10 between LightGBM and the information oracle",
        "peer_value": 0.0,
        "ratio": None,
        "n": len(by_seed),
        "simulated": True,
    }
    return [
        {
            "name": f"ranking.{title}.mean",
            "value": round(mean, 3),
            "peer": "LightGBM, the better of two on each preset",
            "goal": f">= {GOAL_MEAN} on average over the presets",
            "ok": mean >= GOAL_MEAN,
            "interval": _rounded(np.quantile(drawn, (0.025, 0.975))),
            "interval_over_seeds": over_seeds(by_seed),
            "presets": {name: round(gap.share, 3) for name, gap in gaps.items()},
            **common,
        },
        {
            "name": f"ranking.{title}.worst",
            "value": round(gaps[worst].share, 3),
            "peer": f"{gaps[worst].peer}, preset {worst}",
            "goal": f">= {GOAL_WORST} in the worst preset",
            "ok": gaps[worst].share >= GOAL_WORST,
            "interval": _rounded(gaps[worst].interval),
            "interval_over_seeds": over_seeds(gaps[worst].by_seed),
            **common,
        },
    ]


def over_seeds(values: Sequence[float] | Floats) -> list[float] | None:
    """95 % t interval of the mean over seeds; None for a single one."""
    if len(values) < 2:
        return None
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return _rounded([float(np.mean(values) - reach), float(np.mean(values) + reach)])


def _share(means: Floats) -> Floats:
    """(ours - peer) / (information - peer) of means in the last axis."""
    return np.asarray((means[..., 0] - means[..., 1]) / (means[..., 2] - means[..., 1]))


def _agents(cells: Sequence[Measured]) -> NDArray[np.object_]:
    """Agents of all cells' requests, those of each seed apart."""
    names = [f"{cell.cell.seed}/{agent}" for cell in cells for agent in cell.test.agent_id]
    return np.array(names, dtype=object)


def _pooled(cells: Sequence[Measured]) -> tuple[Dataset, Truth]:
    """The cells' test windows one after the other, without features."""
    first, truth = cells[0].test, cells[0].truth

    def put(name: str) -> Any:
        return np.concatenate([getattr(cell.test, name) for cell in cells])

    rows = ("X", "label", "lead_id", "position", "price_cents")
    requests = ("sizes", "request_id", "at_market_us", "shelf")
    pooled = replace(
        first, **{name: put(name) for name in rows + requests}, agent_id=_agents(cells)
    )
    relevance = np.concatenate([cell.truth.relevance for cell in cells])
    return pooled, replace(truth, relevance=relevance)


def _rounded(values: Sequence[float] | Floats) -> list[float]:
    return [round(float(value), 4) for value in values]


def _preset(cell: Cell) -> str | Path:
    return cell.path if cell.path == cell.preset else Path(cell.path)


def timed(cell: Cell, what: str, act: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    found = act()
    print(
        f"{cell.name}: {what}, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
    )
    return found


def _dump(path: Path, content: object) -> None:
    with path.with_suffix(".partial").open("wb") as file:
        pickle.dump(content, file)
    path.with_suffix(".partial").rename(path)


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)


if __name__ == "__main__":
    sys.exit(main())
