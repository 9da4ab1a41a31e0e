"""The table of stages, in the order in which `aiqleads run all` takes them."""

from __future__ import annotations

import importlib.util
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from aiqleads.domain import US_PER_SECOND
from aiqleads.errors import InvalidInput, NotReady, UnknownName
from aiqleads.ingest.market import Market
from aiqleads.pipeline import Stage, checkout_path
from aiqleads.settings import Settings


def simulate_market(
    settings: Settings,
    market: str = "lucas",
    preset: str = "calm",
    agents: int = 120,
    days: int | None = None,
    seed: int = 7,
) -> dict[str, Any]:
    """Simulates agents over the stored leads; returns the simulator's report."""
    from aiqleads.ingest.market import load_market
    from aiqleads.market_sim.simulate import simulate

    report = simulate(
        settings, load_market(market, settings), preset, agents=agents, days=days, seed=seed
    )
    return asdict(report)


def publish_snapshot(settings: Settings, market: str = "lucas", as_of: str = "") -> dict[str, Any]:
    """Publishes a serving snapshot; `as_of` (ISO, UTC) defaults to the market's own clock."""
    from aiqleads.ingest.market import load_market
    from aiqleads.recommend.publish import publish

    as_of_us = market_clock_us(load_market(market, settings), as_of)
    version = publish(settings, load_market(market, settings).name, as_of_us)
    return {"snapshot_version": version, "as_of_market_us": as_of_us}


def market_clock_us(market: Market, as_of: str = "") -> int:
    """`as_of` (ISO; UTC where it names no zone) in microseconds, or the market's own now."""
    if not as_of:
        return market.as_of_us or time.time_ns() // 1000
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError as error:
        raise InvalidInput(f"as_of {as_of!r} is not an ISO date and time") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * US_PER_SECOND)


def package_champion(settings: Settings, market: str = "lucas") -> dict[str, Any]:
    """The champion as a built bento; returns tag, path and the champion's version."""
    from aiqleads.ranking.registry import champion

    model = champion(settings)
    tag, path = bento_shell(settings).package(settings, model.path)
    built = {"tag": tag, "path": str(path), "champion": model.card.version}
    record = bento_record(settings)
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(built))
    partial.replace(record)
    return built


def bento_record(settings: Settings) -> Path:
    """The file that names the bento built last, which is the one to serve."""
    return settings.data / "bento.json"


def bento_shell(settings: Settings) -> ModuleType:
    """bentos/marketplace/package.py, which is no part of this package, as a module."""
    path = checkout_path(settings, "bentos/marketplace/package.py")
    spec = importlib.util.spec_from_file_location("aiqleads_bento_package", path)
    if spec is None or spec.loader is None:
        raise NotReady(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_LEADS = tuple(f"data/core/{{market}}/{name}.parquet" for name in ("leads", "sales", "submissions"))
_EVENTS = ("data/core/{market}/agents.parquet", "data/core/{market}/events")
_FEATURES = "data/features/{market}/features.parquet"

STAGES: tuple[Stage, ...] = (
    Stage(
        "ingest_leads",
        "10_ingest_leads",
        "feed -> contract -> quarantine -> leads",
        writes=_LEADS,
    ),
    Stage(
        "simulate",
        simulate_market,
        "simulated agents browse, hold and buy the leads",
        reads=_LEADS,
        writes=_EVENTS,
    ),
    Stage(
        "build_features",
        "20_build_features",
        "features of every ranking, as known at its time",
        reads=(*_LEADS, *_EVENTS),
        writes=(_FEATURES,),
    ),
    Stage(
        "train_ranker",
        "30_train_ranker",
        "rankers as nested MLflow runs",
        reads=(_FEATURES,),
        writes=("mlruns/mlflow.db",),
    ),
    Stage(
        "compare_rankers",
        "40_compare_rankers",
        "rankers against baselines on the held-out window; the gate",
        after=("train_ranker",),
        reads=(_FEATURES,),
        writes=(
            "mlruns/mlflow.db",
            "reports/comparisons/{market}.json",
            "reports/comparisons/{market}.html",
        ),
    ),
    Stage(
        "publish",
        publish_snapshot,
        "a serving snapshot of live leads at the market's clock",
        reads=(*_LEADS, *_EVENTS),
        writes=("data/snapshots/current",),
    ),
    Stage(
        "package",
        package_champion,
        "the champion as a built bento",
        after=("compare_rankers",),
        reads=("mlruns/mlflow.db",),  # promote and rollback change it too
        writes=("data/bento.json",),
    ),
    Stage("map_markets", "50_map_markets", "a map page of the market", reads=(*_LEADS, *_EVENTS)),
    Stage(
        "check_drift",
        "60_check_drift",
        "served rankings against reference ones",
        after=("package", "publish"),
    ),
    Stage(
        "tour",
        "00_tour",
        "what a newcomer reads top to bottom",
        after=("compare_rankers", "check_drift", "map_markets"),
    ),
)


def stage_named(name: str) -> Stage:
    """The stage of that name; UnknownName lists the ones there are."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise UnknownName(f"no stage {name!r}; there are {', '.join(s.name for s in STAGES)}")
