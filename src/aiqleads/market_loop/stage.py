"""A market that has run for a while, ready to be continued by one arm after another.

Everything that publishing and learning see is written as frames of what had arrived by then,
into a home of the loop's own: the future is not in the files, so nothing can read it.
"""

from __future__ import annotations

import copy
import datetime as dt
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aiqleads.commerce.pricing import quote_many
from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput
from aiqleads.features.build import build_frame, build_training_frame, labels_of
from aiqleads.features.tables import open_tables
from aiqleads.ingest.market import Market
from aiqleads.market_sim import frames
from aiqleads.market_sim.arrivals import Requests, month_starts, schedule
from aiqleads.market_sim.play import Play, Progress
from aiqleads.market_sim.presets import Preset, load_preset
from aiqleads.market_sim.world import World, build_world
from aiqleads.ranking.dataset import Dataset, dataset_of, features_path
from aiqleads.settings import Settings
from aiqleads.store.frames import read_frame, write_frame

#: leads from so long before the history, and sales from so long before a publication, are
#: all that features look back on, days
_LEADS_BEFORE_DAYS, _SALES_BEFORE_DAYS = 60, 460


@dataclass(frozen=True)
class Known:
    """What a moment of the loop may learn from.

    rows: one a logged impression, with its features as of its own time. Grows by `learned`.
    """

    rows: pd.DataFrame
    until_us: int


@dataclass(frozen=True)
class Stage:
    """A market at the beginning of a loop.

    settings: of the loop's own home. play: has run until start_us under the logging policy.
    known: every impression of the history with its features.
    """

    settings: Settings
    source: Settings
    market: Market
    preset: Preset
    world: World
    requests: Requests
    play: Play
    seed: int
    start_us: int
    end_us: int
    days: int
    known: Known

    def fresh(self) -> Play:
        """The market as it stood at the beginning, for one arm to continue."""
        shared: dict[int, Any] = {
            id(part): part for part in (self.world, self.requests, self.preset, self.play.ranker)
        }
        return copy.deepcopy(self.play, shared)


def prepare(
    settings: Settings,
    market: Market,
    preset: str | Path,
    *,
    agents: int,
    seed: int,
    home: Path,
    history_days: int = 90,
    days: int = 30,
    start: dt.date | None = None,
    progress: Progress | None = None,
) -> Stage:
    """Plays a history under the logging policy and computes the features of its rankings.

    settings, market: where the ingested leads and sales lie. home: a directory for the loop's
    frames; what is there is deleted. start: the loop's first local day, by default the first
    after the market's training window. Raises InvalidInput without either, NotReady without
    leads.
    """
    if start is None and market.split is None:
        raise InvalidInput(f"market {market.name} has no [split]: say when the loop starts")
    if start is None and market.split is not None:
        start = market.split.train_until + dt.timedelta(days=1)
    assert start is not None
    parameters = load_preset(preset)
    first, last = start - dt.timedelta(days=history_days), start + dt.timedelta(days=days)
    begin_us, start_us, end_us = (market.midnight_us(day) for day in (first, start, last))
    leads = read_frame(settings, market.name, "leads")
    sales = read_frame(settings, market.name, "sales")
    world = build_world(
        leads, sales, parameters, crs=market.crs, agents=agents, seed=seed, start_us=begin_us
    )
    requests = schedule(
        world.agents, parameters, timezone=market.timezone, start=first, end_us=end_us, seed=seed
    )
    months = month_starts(first, end_us, market.timezone)
    play = Play(
        world, parameters, requests, months=months, end_us=end_us, seed=seed,
        quote_many=quote_many,
    )  # fmt: skip
    play.run_until(start_us, progress)
    shutil.rmtree(home, ignore_errors=True)
    own = Settings(home=home)
    _copy_market(own, market)
    stage = Stage(
        settings=own, source=settings, market=market, preset=parameters, world=world,
        requests=requests, play=play, seed=seed, start_us=start_us,
        end_us=end_us, days=days, known=Known(pd.DataFrame(), 0),
    )  # fmt: skip
    write_arrived(stage, play, start_us)
    build_training_frame(own, market.name)
    rows = pd.read_parquet(features_path(own, market.name))
    return replace(stage, known=Known(rows, start_us))


def write_arrived(stage: Stage, play: Play, until_us: int) -> None:
    """Writes every frame that features read, of what had arrived before `until_us`."""
    name, settings = stage.market.name, stage.settings
    for frame, make in (
        ("rankings", frames.rankings_frame),
        ("impressions", frames.impressions_frame),
        ("interactions", frames.interactions_frame),
    ):
        rows = make(
            stage.world, stage.requests, play.log, stage.preset, until_us=until_us, seed=stage.seed
        )
        write_frame(settings, name, f"events/{frame}", rows)
    write_frame(settings, name, "agents", frames.agents_frame(stage.world))
    write_supply(stage, until_us)


def write_supply(stage: Stage, until_us: int) -> None:
    """Writes the leads, submissions and sales that had come before `until_us`."""
    name, settings = stage.market.name, stage.settings
    source = stage.source.data / "core" / name
    target = settings.data / "core" / name
    leads_from = stage.world.start_us - _LEADS_BEFORE_DAYS * US_PER_DAY
    for frame, column, since in (
        ("leads", "received_market_us", leads_from),
        ("submissions", "received_market_us", leads_from),
        ("sales", "sold_market_us", until_us - _SALES_BEFORE_DAYS * US_PER_DAY),
    ):
        if (source / f"{frame}.parquet").is_file():
            kept = pd.read_parquet(
                source / f"{frame}.parquet",
                filters=[(column, ">=", since), (column, "<", until_us)],
            )
            kept.to_parquet(target / f"{frame}.parquet")


def learned(stage: Stage, known: Known, until_us: int) -> Known:
    """`known` with the rankings that have arrived since, and all labels as they stand now.

    Call after `write_arrived` for the same moment. Features are as of each request's own
    time, so those computed before stay as they are.
    """
    name, settings = stage.market.name, stage.settings
    core = settings.data / "core" / name / "events"
    asked = pd.read_parquet(core / "rankings.parquet")
    fresh = asked[~asked.request_id.isin(known.rows.request_id.unique())]
    shown = pd.read_parquet(core / "impressions.parquet")
    shown = shown.merge(fresh[["request_id", "agent_id", "at_market_us"]], on="request_id")
    parts = [known.rows]
    if len(shown):
        spine = shown[["request_id", "agent_id", "lead_id"]].assign(as_of_us=shown.at_market_us)
        made = build_frame(settings, name, spine).drop(columns="as_of_us")
        keys = shown[["position", "at_market_us", "price_cents"]].assign(label=np.int8(0))
        parts.append(pd.concat([made, keys], axis=1)[known.rows.columns.tolist()])
    rows = pd.concat(parts, ignore_index=True)
    with open_tables(settings, name) as tables:
        labels = labels_of(tables).to_pandas()
    label = rows[["request_id", "lead_id"]].merge(
        labels, on=["request_id", "lead_id"], how="left", validate="1:1"
    )
    rows["label"] = label["label"].fillna(0).to_numpy(np.int8)
    return Known(rows, until_us)


def windows(known: Known, validate_days: int) -> tuple[Dataset, Dataset]:
    """Train and validate windows: the last `validate_days` validate, a day between is left out.

    A purchase comes within a day of its ranking; what is returned later is corrected at the
    next training. Raises InvalidInput where a window has no ranking.
    """
    cut = known.until_us - validate_days * US_PER_DAY
    at = known.rows["at_market_us"]
    parts = {"train": known.rows[at < cut - US_PER_DAY], "validate": known.rows[at >= cut]}
    for name, rows in parts.items():
        if rows.empty:
            raise InvalidInput(
                f"no ranking for the {name} window: {validate_days} of the days that are known "
                "validate, those more than a day before train"
            )
    return dataset_of(parts["train"], "train"), dataset_of(parts["validate"], "validate")


def _copy_market(target: Settings, market: Market) -> None:
    """The market's own file, so that publishing finds it in the loop's home."""
    core = target.data / "core" / market.name
    (core / "events").mkdir(parents=True)
    (core / "market.json").write_text(market.model_dump_json(), encoding="utf-8")
