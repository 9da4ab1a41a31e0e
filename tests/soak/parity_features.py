"""Served scores against offline scores, bit by bit, for a million pairs of agent and lead.

A market is simulated and a ranker trained on it. At moments after its training every agent is
paired with every lead on offer: once as the service does it (publication, snapshot read back
from disk, crosses computed in numpy, the scorer loaded from its file), once offline (the same
pairs as a spine for the feature frames, the training library on the trained model). Scores are
compared as 64 bits. Leads, areas and agents that the training never saw and missing values are
among them, and counted; besides, a part of the rows is scored again with codes that no training
row had and with further values missing. Goes on where it was ended; prints one JSON object.

    python tests/soak/parity_features.py [--rows 1000000] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from catboost import CatBoost, Pool
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY
from aiqleads.features.build import build_frame, build_training_frame
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import load_market
from aiqleads.market_sim.simulate import simulate
from aiqleads.ranking.dataset import load_dataset, split_by_time
from aiqleads.ranking.scorer import Scorer
from aiqleads.ranking.train import FUNNEL, train_ranker
from aiqleads.recommend.publish import publish
from aiqleads.recommend.recommend import feature_matrix
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.settings import Settings

MARKET, AGENTS = "lucas", 120
#: days between two moments, and the share of the rows that is scored again, spoiled
EVERY_DAYS, SPOILED = 13, 0.1
UNSEEN_CODE = 987_654.0


def made(settings: Settings, seed: int) -> None:
    """Leads, a log, features and a trained scorer in a home, once."""
    if (settings.home / "done").is_file():
        return
    shutil.rmtree(settings.home, ignore_errors=True)
    market = load_market(MARKET, settings)
    ingest(settings, "sales_csv", [], market)
    simulate(settings, market, "calm", agents=AGENTS, days=None, seed=seed)
    build_training_frame(settings, MARKET)
    train, validate = (load_dataset(settings, market, name) for name in ("train", "validate"))
    ranker = train_ranker(train, validate, FUNNEL, {"random_seed": seed})
    ranker.scorer.model.save_model(str(settings.home / "trained.cbm"))
    ranker.scorer.save(settings.home / "scorer")
    seen = {"leads": sorted(set(train.lead_id)), "agents": sorted(set(train.agent_id))}
    (settings.home / "seen.json").write_text(json.dumps(seen))
    (settings.home / "done").touch()


def moment(settings: Settings, as_of_us: int, seed: int) -> dict[str, int]:
    """Rows compared at one moment, and how many of their scores differ."""
    publish(settings, MARKET, as_of_us)
    snapshot, scorer = Snapshot.load(settings), Scorer.load(settings.home / "scorer")
    trained = CatBoost().load_model(str(settings.home / "trained.cbm"))
    seen = json.loads((settings.home / "seen.json").read_text())
    agents = [bytes(name).decode() for name in snapshot.columns["agent_id"]]
    rows = np.arange(snapshot.manifest.leads)
    leads = [snapshot.lead_id(int(row)) for row in rows]
    served = [
        feature_matrix(snapshot, snapshot.agent(agent), rows, scorer.features) for agent in agents
    ]
    spine = pd.DataFrame(
        {
            "request_id": "",
            "agent_id": np.repeat(agents, len(leads)),
            "lead_id": np.tile(leads, len(agents)),
            "as_of_us": as_of_us,
        }
    )
    offline = build_frame(settings, MARKET, spine)[list(scorer.features)].to_numpy(np.float32)
    own = np.concatenate([scorer.score(X) for X in served])
    theirs = library(trained, offline)
    spoilt = spoil(offline, np.random.default_rng([seed, as_of_us % 2**32]))
    again, library_again = scorer.score(spoilt), library(trained, spoilt)
    return {
        "rows": len(own) + len(again),
        "differing": differing(own, theirs) + differing(again, library_again),
        "rows_with_missing": int(np.isnan(offline).any(axis=1).sum()) + len(again),
        "rows_of_unseen_leads": int((~spine["lead_id"].isin(seen["leads"])).sum()),
        "rows_of_unseen_agents": int((~spine["agent_id"].isin(seen["agents"])).sum()),
        "rows_with_unseen_codes": len(again),
    }


def library(model: CatBoost, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores of the training library, all rows at once through a pool."""
    return np.asarray(model.predict(Pool(X), prediction_type="RawFormulaVal"), dtype=np.float64)


def spoil(X: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Some of the rows with a code that no row had in one column and nothing in another."""
    some = X[rng.random(len(X)) < SPOILED].copy()
    at = np.arange(len(some))
    some[at, rng.integers(0, X.shape[1], len(some))] = UNSEEN_CODE
    some[at, rng.integers(0, X.shape[1], len(some))] = np.nan
    return some


def differing(left: NDArray[np.float64], right: NDArray[np.float64]) -> int:
    """Scores that differ in a bit."""
    return int((left.view(np.uint64) != right.view(np.uint64)).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.perf_counter()
    settings = Settings(home=Settings().reports / "parity" / f"home-{asked.seed}")
    made(settings, asked.seed)
    market = load_market(MARKET, settings)
    first, last = split_by_time(market)["test"]
    path: Path = settings.home / "moments.json"
    done: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.is_file() else {}
    as_of_us = first
    while sum(each["rows"] for each in done.values()) < asked.rows and as_of_us < last:
        if str(as_of_us) not in done:
            done[str(as_of_us)] = moment(settings, as_of_us, asked.seed)
            path.write_text(json.dumps(done))
            print(f"{len(done)} moments: {done[str(as_of_us)]}", file=sys.stderr, flush=True)
        as_of_us += EVERY_DAYS * US_PER_DAY
    total: dict[str, Any] = {
        name: sum(each[name] for each in done.values()) for name in next(iter(done.values()))
    }
    ok = total["rows"] >= asked.rows and total["differing"] == 0
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"moments": len(done), **total, "seconds": seconds, "ok": ok}))
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
