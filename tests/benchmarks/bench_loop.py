"""The closed loop: what a ranker earns in the market that it changes, against LightGBM's.

    python tests/benchmarks/bench_loop.py [--work DIR] [--seeds 1,2,3,4,5] [--presets ..]
        [--agents 120] [--days 30] [--history-days 365] [--peers PYTHON] [--arms ..]

For each preset and seed: a history under the logging policy, then 30 days of each arm with
daily publications and weekly fits. A cell is (preset, seed, arm), done once for a state of
the source; interrupted, the next call goes on with the next one. LightGBM runs in the peers'
environment (tests/benchmarks/peers), which is made on the first call unless --peers names an
interpreter that has it. JSON lines on stdout, progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from peers.environment import python_of
from scipy import stats

from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import load_market
from aiqleads.market_loop.arms import Arm, Learned, Learner, ours, popular_lately
from aiqleads.market_loop.loop import run_arm
from aiqleads.market_loop.stage import Stage, prepare
from aiqleads.pipeline import source_digest
from aiqleads.ranking.dataset import Dataset
from aiqleads.settings import Settings

HERE = Path(__file__).parent
MARKET = "lucas"
ORACLE, PLAIN = "dynamic oracle", "LightGBM plain"
OURS, PEER = "ours re-ranked", "LightGBM re-ranked"
ARMS = (ORACLE, PLAIN, PEER, "ours plain", OURS, "popular lately")
GOAL_GAP, GOAL_UNBUYABLE, LEVEL = 0.30, 0.005, 0.95
Cell = dict[str, Any]
F64 = NDArray[np.float64]


class LightGBM:
    """A learner and its model, both in another process (lightgbm_worker.py)."""

    def __init__(self, python: Path) -> None:
        command = [str(python), str(HERE / "lightgbm_worker.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, train: Dataset, validate: Dataset) -> Learned:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arrays.npz"
            windows = {"train": train, "validate": validate}
            np.savez(
                path,
                **{f"X_{name}": np.ascontiguousarray(each.X) for name, each in windows.items()},
                **{f"label_{name}": each.label for name, each in windows.items()},
                **{f"sizes_{name}": each.sizes for name, each in windows.items()},
            )
            self._send(json.dumps({"do": "fit", "arrays": str(path)}).encode() + b"\n")
            reply = self._receive().readline()
        if not reply:
            raise RuntimeError("LightGBM's process ended without an answer")
        said = json.loads(reply)
        say(f"LightGBM: {said}")
        models = (LightGBMScores(self, train.features, said["version"], j) for j in (False, True))
        return Learned(*models)

    def score(self, X: NDArray[np.floating[Any]], *, judged: bool) -> F64:
        """Scores of the model that was fitted last, or of the one before its second fit."""
        if not len(X):
            return np.zeros(0)
        head = json.dumps(
            {"do": "score", "rows": X.shape[0], "columns": X.shape[1], "judged": judged}
        )
        rows = np.ascontiguousarray(X, dtype=np.float32)
        self._send(head.encode() + b"\n" + rows.tobytes())
        return np.frombuffer(self._receive().read(8 * len(rows)), dtype=np.float64)

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(content)
        self._process.stdin.flush()

    def _receive(self) -> Any:
        return self._process.stdout


class LightGBMScores:
    """A fitted model as ranking wants it."""

    def __init__(
        self, process: LightGBM, features: tuple[str, ...], version: str, judged: bool
    ) -> None:
        self._process, self._features, self._version = process, features, version
        self._judged = judged

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of X."""
        return self._features

    @property
    def version(self) -> str:
        """Digest of the model."""
        return self._version

    def score(self, X: NDArray[np.floating[Any]]) -> F64:
        """Scores, (n,)."""
        return self._process.score(X, judged=self._judged)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="where cells are kept")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--presets", default="exhausted_supply")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--agents", type=int, default=120)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--history-days", type=int, default=365)
    parser.add_argument("--peers", type=Path, help="an interpreter that has LightGBM")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    bench = Settings().reports / "bench"
    size = f"{given.agents}-{given.history_days}-{given.days}"
    work = (given.work or bench / "loop") / f"{size}-{source_digest()[:12]}"
    python = given.peers or python_of(bench / "peers-venv")
    arms = [name for name in ARMS if name in given.arms.split(",")]
    for preset in given.presets.split(","):
        cells = [
            cell
            for seed in given.seeds.split(",")
            for cell in run_seed(work, preset, int(seed), arms, python, given)
        ]
        for figure in figures(preset, cells):
            print(json.dumps(figure), flush=True)
    return 0


def run_seed(
    work: Path,
    preset: str,
    seed: int,
    arms: Sequence[str],
    python: Path,
    given: argparse.Namespace,
) -> list[Cell]:
    """All arms of one market; what was done before is read back."""
    name = Path(preset).stem
    paths = {arm: work / f"{name}-{seed}-{arm.replace(' ', '_')}.json" for arm in arms}
    stage: Stage | None = None
    for arm, path in paths.items():
        if path.is_file():
            continue
        if stage is None:
            say(f"{name} seed {seed}: history")
            stage = prepare(
                ingested(work),
                load_market(MARKET, Settings()),
                preset,
                agents=given.agents,
                seed=seed,
                home=work / f"home-{name}-{seed}",
                history_days=given.history_days,
                days=given.days,
            )
        with learner(arm, python) as learn:
            kind = "oracle" if arm == ORACLE else "re-ranked" if "re-ranked" in arm else "plain"
            done = asdict(run_arm(stage, Arm(arm, kind, learn)))
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(done))
        partial.replace(path)
        say(f"{name} seed {seed} {arm}: {done['revenue_usd']:.0f} in {done['seconds']:.0f} s")
    if stage is not None:
        shutil.rmtree(stage.settings.home)
    return [json.loads(path.read_text()) for path in paths.values()]


@contextmanager
def learner(arm: str, python: Path) -> Iterator[Learner | None]:
    """What an arm learns with; LightGBM's process lives as long as the arm."""
    if not arm.startswith("LightGBM"):
        yield {ORACLE: None, "popular lately": popular_lately}.get(arm, ours())
        return
    peer = LightGBM(python)
    try:
        yield peer
    finally:
        peer.close()


def ingested(work: Path) -> Settings:
    """A home with the sample's leads, made once."""
    base = Settings(home=work / "base")
    if not (work / "base" / "done").is_file():
        shutil.rmtree(work / "base", ignore_errors=True)
        market = load_market(MARKET, Settings())
        ingest(base, "sales_csv", [], market)
        (work / "base" / "done").touch()
    return base


def figures(preset: str, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """What the cells of one preset say, as the lines of a bench."""
    name = Path(preset).stem
    by = {arm: [cell for cell in cells if cell["arm"] == arm] for arm in ARMS}
    for arm, found in by.items():
        if found:
            money = [cell["revenue_usd"] for cell in found]
            yield line(name, f"revenue.{slug(arm)}", float(np.mean(money)), "USD", n=len(money))
            money = [cell["expected_usd"] for cell in found]
            yield line(name, f"expected.{slug(arm)}", float(np.mean(money)), "USD", n=len(money))
    if by[ORACLE] and by[PLAIN]:
        for arm in (PEER, "ours plain", OURS):
            if by[arm]:
                for figure in ("revenue", "expected"):
                    yield gap(name, arm, figure, by[arm], by[PLAIN], by[ORACLE])
    for arm in (OURS, PEER):
        if by[arm]:
            worst = max(cell["unbuyable"] for cell in by[arm])
            yield line(
                name, f"unbuyable_impressions.{slug(arm)}", worst, "share",
                goal=f"< {GOAL_UNBUYABLE}", ok=worst < GOAL_UNBUYABLE, n=len(by[arm]),
            )  # fmt: skip
    if by[OURS]:
        yield regret_slope(name, by[OURS])


def gap(
    preset: str,
    arm: str,
    figure: str,
    ours: Sequence[Cell],
    plain: Sequence[Cell],
    oracle: Sequence[Cell],
) -> dict[str, Any]:
    """Share of the gap in a figure, LightGBM plain -> dynamic oracle, that an arm closes.

    figure: "revenue" is what was sold, some hundred purchases; "expected" the fees of the same
    pages at true chances, which differs from it by luck only (`figures.LoopReport`).
    The ratio of mean differences over seeds; its interval is Fieller's ("Some problems in
    interval estimation", JRSS B, 1954) over the seeds' pairs: closed = share in the interval
    where the mean of gain - share * gap is not significantly other than 0.
    """
    by_seed = [{cell["seed"]: cell[f"{figure}_usd"] for cell in c} for c in (ours, plain, oracle)]
    seeds = sorted(set.intersection(*map(set, by_seed)))
    money = [np.array([each[seed] for seed in seeds]) for each in by_seed]
    gain, whole = money[0] - money[1], money[2] - money[1]
    share = float(gain.mean() / whole.mean())
    low, high = fieller(gain, whole)
    is_ours = arm == OURS and figure == "revenue"
    return line(
        preset, f"{figure}_gap_closed.{slug(arm)}", share,
        f"share of the gap to the oracle [{low:.3f}, {high:.3f}]",
        peer=PLAIN, peer_value=float(money[1].mean()),
        ratio=float(money[0].mean() / money[1].mean()), n=len(gain),
        goal=f">= {GOAL_GAP}, interval above 0" if is_ours else "",
        ok=bool(share >= GOAL_GAP and low > 0) if is_ours else None,
    )  # fmt: skip


def fieller(gain: F64, whole: F64) -> tuple[float, float]:
    """Limits of mean(gain) / mean(whole), paired; infinite where nothing can be said."""
    n = len(gain)
    if n < 2:
        return float("-inf"), float("inf")
    t2 = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) ** 2 / n
    a, b = float(gain.mean()), float(whole.mean())
    va, vb, vab = (
        float(np.cov(one, other)[0, 1])
        for one, other in ((gain, gain), (whole, whole), (gain, whole))
    )
    square, cross, free = b * b - t2 * vb, a * b - t2 * vab, a * a - t2 * va
    inside = cross * cross - square * free
    if square <= 0 or inside < 0:
        return float("-inf"), float("inf")
    half = float(np.sqrt(inside))
    return (cross - half) / square, (cross + half) / square


def regret_slope(preset: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """Change of the regret a day, by a line through the days; t interval over the seeds."""
    days = np.arange(len(cells[0]["regret_by_day"]))
    slopes = np.array([np.polyfit(days, cell["regret_by_day"], 1)[0] for cell in cells])
    half = 0.0
    if len(slopes) > 1:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, len(slopes) - 1) * stats.sem(slopes))
    mean = float(slopes.mean())
    unit = f"share a day [{mean - half:.5f}, {mean + half:.5f}]"
    return line(
        preset, f"regret_a_day.{slug(OURS)}", mean, unit,
        goal="< 0", ok=mean < 0, n=len(slopes),
    )  # fmt: skip


def line(
    preset: str,
    name: str,
    value: float,
    unit: str,
    *,
    peer: str = "",
    peer_value: float | None = None,
    ratio: float | None = None,
    goal: str = "",
    ok: bool | None = None,
    n: int = 0,
) -> dict[str, Any]:
    """One line of a bench."""
    return {
        "name": f"loop.{preset}.{name}", "value": value, "unit": unit, "peer": peer,
        "peer_value": peer_value, "ratio": ratio, "goal": goal, "ok": ok, "n": n,
        "simulated": True,
    }  # fmt: skip


def slug(arm: str) -> str:
    """An arm's name as a part of a figure's."""
    return arm.replace(" ", "_").replace("-", "_")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
