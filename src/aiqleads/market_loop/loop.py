"""The closed loop: a ranker publishes, sells and learns in the market that it changes.

Each local midnight a snapshot is published from what had arrived by then, and the day's leads
enter it as they come; requests are answered from it through the product's own path; every few
days the model is fitted again on the rankings so far, its own among them. All arms but the
oracle publish alike. Figures are of the whole loop.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from aiqleads.commerce.pricing import quote_many
from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput
from aiqleads.ingest.market import Market
from aiqleads.market_loop.arms import Arm, Drawing, ServedRanker
from aiqleads.market_loop.figures import LoopReport, Witness, report
from aiqleads.market_loop.stage import (
    Known,
    Stage,
    learned,
    prepare,
    windows,
    write_arrived,
    write_supply,
)
from aiqleads.market_sim.oracle_rankers import DynamicOracle
from aiqleads.market_sim.policy import LoggingPolicy
from aiqleads.recommend.allocation import SHARE, TRUST, Chances, fit_chances
from aiqleads.recommend.publish import RATE_DAYS, Offering, publish
from aiqleads.recommend.recommend import Scores
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.settings import Settings

log = structlog.get_logger(__name__)

_DRAWING = Drawing(share=0.02, temperature=0.5)


@dataclass(frozen=True)
class Rhythm:
    """How often things happen in a loop, and how much is drawn.

    retrain_days: between two fits. validate_days: of the newest rankings, that stop a fit.
    drawing: of the re-ranked arms. share, trust, horizon_days: of allocation, see `Offering`.
    """

    retrain_days: int = 7
    validate_days: int = 14
    drawing: Drawing = _DRAWING
    share: float = SHARE
    trust: float = TRUST
    horizon_days: float = 7.0


@dataclass
class _Model:
    scorer: Scores
    chances: Chances
    keenness: dict[str, float]


@dataclass
class _Clock:
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.parts[part] += time.process_time() - began


def run_loop(
    settings: Settings,
    market: Market,
    preset: str | Path,
    arm: Arm,
    *,
    home: Path,
    days: int = 30,
    seed: int = 1,
    agents: int = 120,
    history_days: int = 90,
    rhythm: Rhythm | None = None,
) -> LoopReport:
    """One arm from the ingested leads on: history, then the loop. See `run_arm`, `prepare`."""
    stage = prepare(
        settings, market, preset, agents=agents, seed=seed, home=home,
        history_days=history_days, days=days,
    )  # fmt: skip
    return run_arm(stage, arm, rhythm or Rhythm())


def run_arm(stage: Stage, arm: Arm, rhythm: Rhythm | None = None) -> LoopReport:
    """Continues a prepared market with one arm; the stage itself stays as it was.

    Publications and frames go to the stage's home, so one arm runs at a time. Raises
    InvalidInput for an arm that neither learns nor is the oracle.
    """
    rhythm, began, clock = rhythm or Rhythm(), time.perf_counter(), _Clock()
    spent = time.process_time()
    play = stage.fresh()
    oracle = DynamicOracle(play, until_us=stage.end_us) if arm.kind == "oracle" else None
    if oracle is None and arm.learner is None:
        raise InvalidInput(f"arm {arm.name!r} has nothing to rank with")
    witness = Witness(
        oracle or LoggingPolicy(stage.world, stage.requests, stage.preset, stage.seed), play
    )
    play.ranker = witness
    known, model, trainings = stage.known, None, 0
    for day in range(stage.days):
        now_us = stage.start_us + day * US_PER_DAY
        if oracle is None:
            with clock.of("write"):
                write_arrived(stage, play, now_us)
            if model is None or day % rhythm.retrain_days == 0:
                if day:
                    with clock.of("features"):
                        known = learned(stage, known, now_us)
                with clock.of("train"):
                    model = _fit(arm, known, rhythm)
                trainings += 1
            with clock.of("publish"):
                snapshot = _publish(stage, arm, model, now_us, rhythm)
            witness.ranker = ServedRanker(
                snapshot,
                model.scorer,
                stage.preset.policy.shown,
                priced=arm.kind == "re-ranked",
                drawing=rhythm.drawing,
            )
        with clock.of("serve"):
            play.run_until(now_us + US_PER_DAY)
        log.info("loop_day", arm=arm.name, day=day + 1, shown=witness.shown)
    return report(
        witness,
        play,
        arm=arm.name,
        seed=stage.seed,
        start_us=stage.start_us,
        days=stage.days,
        trainings=trainings,
        publications=0 if oracle else stage.days,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - spent,
        parts=dict(clock.parts),
    )


def _fit(arm: Arm, known: Known, rhythm: Rhythm) -> _Model:
    """A fitted model, and what its scores mean in purchases: by the last weeks' impressions.

    The chances are fitted on the validate window, what is particular to an agent on the last
    `RATE_DAYS`. A single loss has seen all of these but the validate window, the funnel, fitted
    again on both windows, has seen that too: what this flatters is the slope, alike for all.
    """
    assert arm.learner is not None
    train, validate = windows(known, rhythm.validate_days)
    scorer = arm.learner(train, validate)
    if arm.kind != "re-ranked":
        return _Model(scorer, Chances(0.0, 1.0, 0.5), {})
    recent = known.rows[known.rows["at_market_us"] >= known.until_us - RATE_DAYS * US_PER_DAY]
    X = np.asfortranarray(recent[list(scorer.features)].to_numpy(np.float32))
    scores = scorer.score(X)
    late = recent["at_market_us"].to_numpy() >= known.until_us - rhythm.validate_days * US_PER_DAY
    places, label = recent["position"].to_numpy(np.int64), recent["label"].to_numpy()
    chances = fit_chances(scores[late], places[late], label[late] > 0, label[late] == 3)
    expected = chances.of(scores) * chances.looks(places)
    return _Model(scorer, chances, keenness(recent["agent_id"], expected, label == 3))


def keenness(
    agent_id: pd.Series[str],
    expected: NDArray[np.float64],
    bought: NDArray[np.bool_],
    prior: float = 3.0,
) -> dict[str, float]:
    """What each agent buys over what was expected, leaning to 1 like `prior` purchases."""
    sums = pd.DataFrame({"agent_id": agent_id, "expected": expected, "bought": bought})
    of = sums.groupby("agent_id")[["expected", "bought"]].sum()
    ratio = (of["bought"] + prior) / (of["expected"] + prior)
    return {str(name): float(value) for name, value in ratio.items()}


def _publish(stage: Stage, arm: Arm, model: _Model, now_us: int, rhythm: Rhythm) -> Snapshot:
    offering = None
    if arm.kind == "re-ranked":
        offering = Offering(
            scorer=model.scorer,
            chances=model.chances,
            quote=quote_many,
            shown=stage.preset.policy.shown,
            rings=stage.preset.agents.ring_cells,
            horizon_days=rhythm.horizon_days,
            share=rhythm.share,
            trust=rhythm.trust,
            keenness=model.keenness,
        )
    # The day's leads enter as they come: a service adds each when it arrives, from its own facts
    # and the figures of the last publication. Nothing else of the day is in the files.
    until_us = now_us + US_PER_DAY
    write_supply(stage, until_us)
    publish(stage.settings, stage.market.name, now_us, offering, until_us)
    return Snapshot.load(stage.settings)
