"""The door of the simulated market: one call plays it and writes its frames.

Real are the sales on which the leads stand; everything an agent is or does here is invented,
and every frame, manifest and report of it says so.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import structlog

from aiqleads.commerce.pricing import PRICES, quote_many
from aiqleads.domain import US_PER_SECOND, InteractionKind
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ingest.market import Market
from aiqleads.market_sim import frames
from aiqleads.market_sim.arrivals import month_starts, schedule
from aiqleads.market_sim.log import Log
from aiqleads.market_sim.marginals import Marginals, implausible, marginals
from aiqleads.market_sim.oracle import OracleFigures, full_oracle
from aiqleads.market_sim.play import Progress, play
from aiqleads.market_sim.presets import BEHAVIOUR_VERSION, Preset, committed_digests, load_preset
from aiqleads.market_sim.world import build_world
from aiqleads.settings import Settings
from aiqleads.store.frames import market_dir, market_lock, read_frame, write_blocks, write_frame

NOTICE = (
    "Simulated: the agents and everything they did are invented. No person, office or "
    "purchase stands behind a row. Only the sales that the leads stand on are real."
)

_BLOCK_ROWS = 250_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SimulationReport:
    """What a simulation made.

    start, until: first and last local day, ISO. events: rows by kind of event (lead, agent,
    ranking, impression, interaction) and by kind of interaction. value_share_at_10: graded
    value of the ten leads ranked first over that of the ten best of all candidates, not only
    of the shown. refused_holds: attempts that found no slot or no budget left. frozen:
    whether the preset's digest is the committed one. implausible: rates outside of the
    preset's own bands, as rate, lowest, highest; the bands are of a whole run at 120 agents.
    seconds: wall time.
    """

    market: str
    preset: str
    digest: str
    frozen: bool
    seed: int
    start: str
    until: str
    events: dict[str, int]
    marginals: Marginals
    implausible: dict[str, tuple[float, float, float]]
    oracle: OracleFigures
    value_share_at_10: float
    refused_holds: int
    directory: str
    seconds: float
    notice: str = NOTICE


def simulate(
    settings: Settings,
    market: Market,
    preset: str | Path,
    agents: int,
    days: int | None,
    seed: int,
    until: dt.date | None = None,
    progress: Progress | None = None,
) -> SimulationReport:
    """Plays a market on its leads and writes agents.parquet and events/ beside them.

    preset: a name that ships, or a TOML file. agents: how many are invented. The period
    begins `train_days` of the preset before the end of the market's training window (with
    the first lead where the market has no split) and ends with the first of: `days` later,
    the local day `until` (included), the last lead's day. progress: called with requests
    done and in all. Raises UnknownName for a preset, InvalidInput for figures that leave
    nothing to simulate, NotReady when the market has no leads yet.
    """
    began = time.perf_counter()
    parameters = load_preset(preset)
    if agents < 1 or seed < 0:
        raise InvalidInput("agents must be at least 1 and seed not negative")
    leads = read_frame(settings, market.name, "leads")
    sales = read_frame(settings, market.name, "sales")
    start, last = _period(market, leads, parameters, days, until)
    start_us, end_us = market.midnight_us(start), market.midnight_us(last + dt.timedelta(days=1))
    world = build_world(
        leads, sales, parameters, crs=market.crs, agents=agents, seed=seed, start_us=start_us
    )
    requests = schedule(
        world.agents, parameters, timezone=market.timezone, start=start, end_us=end_us, seed=seed
    )
    months = month_starts(start, end_us, market.timezone)
    log = play(
        world, parameters, requests, months=months, end_us=end_us, seed=seed,
        quote_many=quote_many, progress=progress,
    )  # fmt: skip
    world = replace(world, pools=())  # nobody asks any more, and they are the largest part
    tables = frames.event_frames(world, requests, log, parameters, until_us=end_us, seed=seed)
    people = frames.agents_frame(world)
    value_share, refused_holds = _value_share(log), log.refused_holds
    del world, log  # as large as the frames
    rates = marginals(
        leads=leads, agents=people, rankings=tables["rankings"],
        impressions=tables["impressions"], interactions=tables["interactions"],
        agents_truth=tables["agents_truth"], months=months, start_us=start_us, end_us=end_us,
    )  # fmt: skip
    report = SimulationReport(
        market=market.name,
        preset=parameters.name,
        digest=parameters.digest,
        frozen=committed_digests().get(parameters.name) == parameters.digest,
        seed=seed,
        start=start.isoformat(),
        until=last.isoformat(),
        events=_events(leads, people, tables, start_us, end_us),
        marginals=rates,
        implausible=implausible(rates, parameters.plausible),
        oracle=full_oracle(tables["impressions"], tables["oracle"]),
        value_share_at_10=value_share,
        refused_holds=refused_holds,
        directory=str(market_dir(settings, market.name) / "events"),
        seconds=time.perf_counter() - began,
    )
    _write(settings, people, tables, report, parameters, (last - start).days + 1)
    _log.info("market simulated", market=market.name, preset=parameters.name, **report.events)
    return report


def _period(
    market: Market, leads: pd.DataFrame, preset: Preset, days: int | None, until: dt.date | None
) -> tuple[dt.date, dt.date]:
    """First and last local day of the log."""
    if leads.empty:
        raise NotReady(f"market {market.name} has no leads: ingest its feed first")
    received = leads["received_market_us"]
    start = _local_day(int(received.min()), market)
    if market.split is not None:
        start = market.split.train_until - dt.timedelta(days=preset.period.train_days - 1)
    last = _local_day(int(received.max()), market)
    if until is not None:
        last = min(last, until)
    if days is not None:
        last = min(last, start + dt.timedelta(days=days - 1))
    if last < start:
        raise InvalidInput(f"nothing to simulate: the log would begin {start} and end {last}")
    return start, last


def _local_day(us: int, market: Market) -> dt.date:
    return dt.datetime.fromtimestamp(us / US_PER_SECOND, ZoneInfo(market.timezone)).date()


def _events(
    leads: pd.DataFrame,
    agents: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    start_us: int,
    end_us: int,
) -> dict[str, int]:
    """Rows by kind of event, then of interaction; leads are those on offer in the period."""
    offered = (leads["received_market_us"] < end_us) & (leads["expires_market_us"] > start_us)
    kinds = tables["interactions"]["kind"].value_counts()
    return {
        "lead": int(offered.sum()),
        "agent": len(agents),
        "ranking": len(tables["rankings"]),
        "impression": len(tables["impressions"]),
        "interaction": len(tables["interactions"]),
        **{str(kind): int(kinds.get(str(kind), 0)) for kind in InteractionKind},
    }


def _value_share(log: Log) -> float:
    best = float(log.slates.answered("best_value").sum())
    return float(log.slates.answered("shown_value").sum()) / best if best else 0.0


def _blocks(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The table in parts, one at least, so that its texts are never copied all at once."""
    for low in range(0, max(len(table), 1), _BLOCK_ROWS):
        yield table.iloc[low : low + _BLOCK_ROWS]


def _write(
    settings: Settings,
    agents: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    report: SimulationReport,
    preset: Preset,
    days: int,
) -> None:
    """Frames first, the manifest last: a manifest stands beside the frames it speaks of."""
    manifest = {
        "notice": NOTICE,
        "market": report.market,
        "preset": report.preset,
        "preset_digest": report.digest,
        "preset_frozen": report.frozen,
        "behaviour_version": BEHAVIOUR_VERSION,
        "price_version": PRICES.version,
        "seed": report.seed,
        "agents": report.events["agent"],
        "start": report.start,
        "until": report.until,
        "days": days,
        "counts": report.events,
        "marginals": asdict(report.marginals),
        "implausible": report.implausible,
        "oracle": asdict(report.oracle),
        "value_share_at_10": report.value_share_at_10,
        "refused_holds": report.refused_holds,
        "parameters": preset.model_dump(mode="json"),
    }
    path = Path(report.directory) / "manifest.json"
    part = path.with_suffix(".part")
    with market_lock(settings, report.market):
        path.unlink(missing_ok=True)
        write_frame(settings, report.market, "agents", agents)
        for name, table in tables.items():
            write_blocks(settings, report.market, f"events/{name}", _blocks(table))
        part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
