"""Ranked items with their features: as served lately, and as they would have been before.

Both are read out of snapshots through the code that serves (recommend), so that they can
only differ in what the market did, not in how a feature is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import NotReady
from aiqleads.features.behavior import pair_events
from aiqleads.features.build import agent_side, lead_side, pair_side
from aiqleads.features.tables import open_tables
from aiqleads.ingest.market import Market, load_market
from aiqleads.ranking.scorer import Scorer
from aiqleads.recommend.candidates import Filters, near
from aiqleads.recommend.publish import columns_of, manifest_of
from aiqleads.recommend.recommend import POOL, check_features, feature_matrix
from aiqleads.recommend.snapshot import Snapshot, directory, write
from aiqleads.settings import Settings
from aiqleads.store.journal import read

_WEEK_US = 7 * US_PER_DAY
_FOREVER_US = 2**62


@dataclass(frozen=True)
class Served:
    """Rankings read back from the journal.

    items: one row per shown item: drift.ITEM_COLUMNS and every feature. rankings: how many.
    left_out: reason -> rankings that could not be used.
    """

    items: pd.DataFrame
    rankings: int
    left_out: dict[str, int]


def served_rankings(
    settings: Settings, market: str, scorer: Scorer, since_us: int = 0, until_us: int = 0
) -> Served:
    """What the service showed from `since_us` (included) to `until_us` (excluded; 0: now).

    Both wall clock, UTC microseconds. Rankings of another market or model and those that an
    agent filtered are left out, as are those whose snapshot is gone; each reason is counted.
    """
    last = until_us or _FOREVER_US
    left_out: Counter[str] = Counter()
    snapshots: dict[str, Snapshot | None] = {}
    pages = []
    for line in read(settings.data / "journal"):
        if not since_us <= line["at_us"] < last:
            continue
        snapshot = _snapshot_of(settings, line["snapshot_version"], snapshots)
        reason = _unusable(line, snapshot, market, scorer)
        if reason or snapshot is None:
            left_out[reason] += 1
            continue
        pages.append(_as_served(line, snapshot, scorer.features))
    items = _joined(pages) if pages else pd.DataFrame()
    return Served(items, len(pages), dict(left_out))


def weekly_clocks(as_of_us: int, weeks: int) -> list[int]:
    """The market clock at the same hour of each of the `weeks` weeks before, oldest first."""
    return [as_of_us - week * _WEEK_US for week in range(weeks, 0, -1)]


def reference_rankings(
    settings: Settings,
    market: str,
    scorer: Scorer,
    clocks: Sequence[int],
    k: int = 20,
    agents: Iterable[str] | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> pd.DataFrame:
    """What the service would have shown each agent at past market clocks.

    For each clock a snapshot is made as it would have been published then, and ranked like
    a live one. agents: by default all. progress: wraps the
    clocks, tqdm for example. Returns one row per item: drift.ITEM_COLUMNS and every
    feature. Clocks at which nothing was on offer are passed over; NotReady when that is all.
    """
    place = load_market(market, settings)
    wanted = None if agents is None else set(agents)
    past = _Past.of(settings, place, clocks)
    pages: list[_Page] = []
    for clock in progress(past.clocks):
        snapshot = past.snapshot(clock)
        check_features(scorer, snapshot)
        names = [name.decode() for name in snapshot.columns["agent_id"].tolist()]
        asked = [name for name in names if wanted is None or name in wanted]
        pages += [_replayed(snapshot, scorer, name, k) for name in asked]
    if not pages:
        raise NotReady(f"{market} had nothing on offer at any of the {len(clocks)} past clocks")
    return _joined(pages)


def importance_of(scorer: Scorer) -> dict[str, float]:
    """The ranker's own importance of each feature; they add up to 100."""
    values = scorer.model.get_feature_importance(type="PredictionValuesChange")
    return dict(zip(scorer.features, map(float, values), strict=True))


def _snapshot_of(
    settings: Settings, version: str, known: dict[str, Snapshot | None]
) -> Snapshot | None:
    """The snapshot of a version, kept open; None when it is gone."""
    if version not in known:
        try:
            known[version] = Snapshot.open(directory(settings) / version)
        except NotReady:
            known[version] = None
    return known[version]


def _unusable(
    line: Mapping[str, Any], snapshot: Snapshot | None, market: str, scorer: Scorer
) -> str:
    """Why a line of the journal cannot be compared; empty when it can."""
    if snapshot is None:
        return "snapshot is gone"
    if snapshot.manifest.market != market:
        return "another market"
    if line["model_version"] != scorer.version or not (
        set(scorer.features) <= set(snapshot.manifest.features)
    ):
        return "another model"
    if any(line["filters"].values()):
        return "filtered by the agent"
    return "" if line["items"] else "empty"


@dataclass(frozen=True)
class _Page:
    """One ranking: its request, and (k, F) features, lead ids, positions, scores of its items."""

    request_id: str
    agent_id: str
    clock_us: int
    features: tuple[str, ...]
    matrix: NDArray[np.float32]
    lead_ids: list[str]
    positions: list[int]
    scores: list[float]


def _as_served(line: Mapping[str, Any], snapshot: Snapshot, features: tuple[str, ...]) -> _Page:
    items = line["items"]
    rows = np.array([snapshot.lead_row(item["lead_id"]) for item in items], np.int64)
    return _Page(
        line["request_id"],
        line["agent_id"],
        line["at_market_us"],
        features,
        feature_matrix(snapshot, snapshot.agent(line["agent_id"]), rows, features),
        [item["lead_id"] for item in items],
        [item["position"] for item in items],
        [item["score"] for item in items],
    )


def _replayed(snapshot: Snapshot, scorer: Scorer, agent_id: str, k: int) -> _Page:
    """An agent's best k of what was on offer, as `recommend` orders them."""
    clock = snapshot.manifest.as_of_market_us
    agent = snapshot.agent(agent_id)
    rows = near(snapshot, agent, k * POOL, Filters(), clock).rows
    matrix = feature_matrix(snapshot, agent, rows, scorer.features)
    scores = scorer.score(matrix)
    best = np.lexsort((snapshot.lead_rank[rows], -scores))[:k]
    return _Page(
        f"replay-{clock}-{agent_id}",
        agent_id,
        clock,
        scorer.features,
        matrix[best],
        [snapshot.lead_id(int(row)) for row in rows[best]],
        list(range(1, len(best) + 1)),
        scores[best].tolist(),
    )


def _joined(pages: Sequence[_Page]) -> pd.DataFrame:
    """One row per item of the pages, which have the same features."""
    sizes = [len(page.lead_ids) for page in pages]
    frame = pd.DataFrame(
        np.concatenate([page.matrix for page in pages]), columns=list(pages[0].features)
    )
    return frame.assign(
        request_id=np.repeat([page.request_id for page in pages], sizes),
        agent_id=np.repeat([page.agent_id for page in pages], sizes),
        clock_us=np.repeat([page.clock_us for page in pages], sizes),
        lead_id=list(chain.from_iterable(page.lead_ids for page in pages)),
        position=list(chain.from_iterable(page.positions for page in pages)),
        score=list(chain.from_iterable(page.scores for page in pages)),
    )


@dataclass(frozen=True)
class _Past:
    """Stored rows and features at several market clocks, read in one go: see `publish`.

    leads: rows on offer, with the clock in as_of_us. lead_frame, agent_frame, pairs: as
    the feature functions give them, with as_of_us.
    """

    market: Market
    leads: pd.DataFrame
    agents: pd.DataFrame
    lead_frame: pd.DataFrame
    agent_frame: pd.DataFrame
    pairs: pd.DataFrame

    @classmethod
    def of(cls, settings: Settings, market: Market, clocks: Sequence[int]) -> _Past:
        core = settings.data / "core" / market.name
        stored = pd.read_parquet(core / "leads.parquet")
        agents = pd.read_parquet(core / "agents.parquet").sort_values("agent_id")
        leads = pd.concat([_on_offer(stored, clock) for clock in clocks], ignore_index=True)
        if leads.empty:
            raise NotReady(f"{market.name} had nothing on offer at any of {len(clocks)} clocks")
        with open_tables(settings, market.name) as tables:
            asked = tables.keep(ibis.memtable(leads[["lead_id", "as_of_us"]]))
            moments = asked.select("as_of_us").distinct()
            spine = tables.keep(tables.agents.select("agent_id").cross_join(moments))
            met = pair_events(tables).join(asked, "lead_id")
            met = met.filter(met.known_us < met.as_of_us)
            pairs = tables.keep(met.select("agent_id", "lead_id", "as_of_us").distinct())
            return cls(
                market,
                leads,
                agents.reset_index(drop=True),
                lead_side(tables, asked).to_pandas(),
                agent_side(tables, spine).to_pandas(),
                pair_side(tables, pairs).to_pandas(),
            )

    @property
    def clocks(self) -> list[int]:
        """The clocks at which something was on offer, in time."""
        return sorted(self.leads["as_of_us"].unique().tolist())

    def snapshot(self, clock: int) -> Snapshot:
        """What would have been served at a clock."""
        leads, lead_frame, agent_frame, pairs = (
            frame[frame["as_of_us"] == clock].reset_index(drop=True)
            for frame in (self.leads, self.lead_frame, self.agent_frame, self.pairs)
        )
        lead_frame = lead_frame.set_index("lead_id").loc[leads["lead_id"]].reset_index()
        with TemporaryDirectory(prefix="aiqleads-past-") as scratch:
            home = Settings(home=Path(scratch))
            manifest = manifest_of(self.market, clock, leads, self.agents)
            write(home, manifest, columns_of(leads, self.agents, lead_frame, agent_frame, pairs))
            # The files go, what is mapped of them stays until the snapshot is dropped.
            return Snapshot.load(home)


def _on_offer(leads: pd.DataFrame, clock: int) -> pd.DataFrame:
    alive = (leads["received_market_us"] < clock) & (leads["expires_market_us"] > clock)
    return leads[alive].sort_values("lead_id").assign(as_of_us=clock)
