"""RentHop: does a score find the flats that many people asked about, at agents never seen?

569 flats for rent in New York, 2016, each with the inquiries it drew (low, medium, high) and
its agent. They come in by the project's own door (`listings_csv` with a market file) and get
the project's own features of leads, as of the moment they were listed. A ranker learns from
some agents' flats and orders those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import select

from aiqleads.errors import InvalidInput
from aiqleads.features.build import lead_side
from aiqleads.features.catalog import LEAD_FEATURES
from aiqleads.features.tables import LEAD_COLUMNS, NEAR_RES, connect, keep, open_tables
from aiqleads.features.timeline import EVER, Timeline, known, timeline
from aiqleads.geo.grid import parent
from aiqleads.geo.utm import find_crs, project
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import Market, load_market
from aiqleads.ranking.dataset import Dataset, dataset_of
from aiqleads.ranking.evaluate import LEVEL, Interval
from aiqleads.ranking.train import train_ranker
from aiqleads.settings import Settings
from aiqleads.store.database import open_room, reader
from aiqleads.store.frames import frame_path
from aiqleads.store.tables import listing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SOURCE = "listings_csv"
LEVELS = {"low": 0, "medium": 1, "high": 2}
#: few rows: small trees and short steps. Set before any result was seen, and not tuned
PARAMS: dict[str, Any] = {
    "iterations": 400,
    "depth": 4,
    "learning_rate": 0.03,
    "early_stopping_rounds": 50,
}
#: the last part of the training agents' flats, by time, stops the training
JUDGED = 0.25
SPLITS, SEEDS, RESAMPLES = 50, (1, 2, 3, 4, 5), 1_000
#: of the agents, in each split
TRAINED_ON = 0.8
#: a flat's rivals are those that were listed in the same week
WEEK_US = 7 * 86_400_000_000
#: logarithms of prices are summed in whole steps, so that sums are exact
STEP = 10_000


@dataclass(frozen=True)
class Flats:
    """The flats in the order of being listed.

    level: (n,) 0 low, 1 medium, 2 high. agent: (n,) names. listed_us: (n,). price: (n,) cents.
    X: (n, F) columns `features`.
    """

    level: Ints
    agent: NDArray[np.object_]
    listed_us: Ints
    price: Floats
    features: tuple[str, ...]
    X: NDArray[np.float32]

    def dataset(self, name: str, rows: Ints) -> Dataset:
        """Some flats; those of a week are one request."""
        week = self.listed_us[rows] // WEEK_US
        keys = {
            "request_id": [f"{name}-{each:05d}" for each in week],
            "agent_id": "market",
            "lead_id": [f"H{each:05d}" for each in rows],
            "position": pd.Series(rows).groupby(week).cumcount().to_numpy(np.int32) + 1,
            "at_market_us": week * WEEK_US,
            "label": self.level[rows].astype(np.int8),
            "price_cents": self.price[rows].astype(np.int64),
        }
        columns = dict(zip(self.features, self.X[rows].T, strict=True))
        return dataset_of(pd.DataFrame({**keys, **columns}), name, "renthop")


def taken_in(path: Path, market_file: Path, home: Path) -> Flats:
    """The table through intake, feature code and all, in a home of its own.

    Raises InvalidInput when a row was refused: the figures are of all flats or of none.
    """
    settings = Settings(home=home)
    market = load_market(market_file, settings)
    report = ingest(settings, SOURCE, [path], market)
    if report.quarantined or report.accepted != report.rows_read:
        raise InvalidInput(f"{report.quarantined} of {report.rows_read} flats were refused")
    stored = _stored(settings, market)
    leads = _as_leads(stored, market)
    _write(settings, market, leads)
    spine = leads.assign(as_of_us=leads["received_market_us"] + 1)[["lead_id", "as_of_us"]]
    with open_tables(settings, market.name) as tables:
        asked = tables.keep(tables.engine.create_table("asked", spine))
        found = lead_side(tables, asked).select("lead_id", *LEAD_FEATURES).to_pandas()
    frame = found.set_index("lead_id").loc[stored["listing_id"]].reset_index(drop=True)
    parts = [frame, beside_market(stored, market), written(path, stored["source_key"])]
    return flats_of(stored, pd.concat(parts, axis=1))


def flats_of(stored: pd.DataFrame, frame: pd.DataFrame) -> Flats:
    """Flats from the store's columns and a frame of features; constant columns are left out."""
    telling = [str(name) for name in frame if frame[name].nunique(dropna=False) > 1]
    return Flats(
        level=np.asarray(stored["demand"].map(LEVELS), dtype=np.int64),
        agent=stored["agent_key"].to_numpy(object),
        listed_us=stored["modified_us"].to_numpy(np.int64),
        price=stored["list_price_cents"].to_numpy(np.float64),
        features=tuple(telling),
        X=frame[telling].to_numpy(np.float32),
    )


def _stored(settings: Settings, market: Market) -> pd.DataFrame:
    with reader(open_room(settings, "leads")).connect() as connection:
        rows = pd.read_sql(select(listing).where(listing.c.market == market.name), connection)
    return rows.sort_values(["modified_us", "listing_id"], ignore_index=True)


def _as_leads(stored: pd.DataFrame, market: Market) -> pd.DataFrame:
    """A flat as the feature code reads a lead: on offer from the moment it was listed."""
    lon, lat = stored["lon"].to_numpy(), stored["lat"].to_numpy()
    x_m, y_m = project(lon, lat, market.crs or find_crs(lon, lat))
    columns = {
        "lead_id": stored["listing_id"],
        "intent": "sell",
        "received_market_us": stored["modified_us"],
        "ask_price_cents": stored["list_price_cents"].astype(float),
        "cell": stored["cell"].astype("int64"),
        "utm_x_m": x_m,
        "utm_y_m": y_m,
    }
    rest = {name: stored.get(name, np.nan) for name in LEAD_COLUMNS}
    return pd.DataFrame({**rest, **columns})


def _write(settings: Settings, market: Market, leads: pd.DataFrame) -> None:
    """The two frames that feature code cannot do without; nobody has bought anything yet."""
    agents = {"agent_id": ["nobody"], "territory": [[0]], "joined_market_us": [0]}
    numbers = ("home_x_m", "home_y_m", "price_low_cents", "price_high_cents")
    agents |= {name: [0.0] for name in (*numbers, "monthly_budget_cents")}
    frames = {"leads": leads, "agents": pd.DataFrame({**agents, "tier": ["basic"]})}
    for name, frame in frames.items():
        path = frame_path(settings, market.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path, index=False)


def flats_before(line: Timeline) -> ir.FloatingValue:
    """Flats listed before."""
    return line.count("flat", days=EVER)


def price_before(line: Timeline) -> ir.FloatingValue:
    """Sum of the logarithms of their prices, in steps."""
    return line.total("price", "flat", days=EVER)


def beside_market(stored: pd.DataFrame, market: Market) -> pd.DataFrame:
    """How dear a flat is beside those listed before it, and what its row says besides.

    Gaps are of logarithms of the price, to the mean of flats with as many bedrooms, and to
    that of the neighbourhood's (seven in the mean count as much as the whole market's).
    """
    price = np.rint(np.log(stored["list_price_cents"] / 100.0) * STEP)
    near = parent(stored["cell"].to_numpy(np.int64), NEAR_RES)
    asked = pd.DataFrame(
        {
            "all": 0,
            "beds": stored["beds"].fillna(-1).to_numpy(np.int64),
            "near": near,
            "as_of_us": stored["modified_us"],
        }
    )
    events = asked.rename(columns={"as_of_us": "listed_us"}).assign(kind="flat", price=price)
    means = _mean_before(events, asked, ["all"], np.full(len(asked), np.nan))
    like = _mean_before(events, asked, ["beds"], means)
    around = _mean_before(events, asked, ["beds", "near"], like)
    local = pd.to_datetime(stored["modified_us"], unit="us", utc=True).dt.tz_convert(
        market.timezone
    )
    return pd.DataFrame(
        {
            "baths": stored["baths"],
            "log_price_per_room": price / STEP - np.log(stored["beds"].fillna(1) + 1),
            "price_beside_beds": price / STEP - like,
            "price_beside_near": price / STEP - around,
            "posted_hour": local.dt.hour,
            "posted_weekday": local.dt.weekday,
        }
    )


def written(path: Path, keys: pd.Series[str]) -> pd.DataFrame:
    """How much the offer shows, which no contract keeps: photos, amenities, words; by key."""
    table = pd.read_csv(path, lineterminator="\n", dtype=str, keep_default_na=False)
    table = table.set_index("listing_id").loc[keys.tolist()].reset_index(drop=True)
    return pd.DataFrame(
        {
            "photos": table["photos"].str.count("http"),
            "amenities": (table["features"].str.count("'") / 2).round(),
            "words": [len(text.split()) for text in table["description"]],
        }
    )


def _mean_before(
    events: pd.DataFrame, asked: pd.DataFrame, keys: Sequence[str], prior: Floats
) -> Floats:
    """Mean logarithm of the price at the keys before each moment, drawn to `prior` by seven."""
    columns = [*keys, "kind", "listed_us", "price"]
    with connect() as engine:
        laid = known(engine.create_table("events", events[columns]), "listed_us", "listed_us")
        laid = keep(engine, laid.drop("listed_us"))
        spine = keep(engine, engine.create_table("asked", asked[[*keys, "as_of_us"]]).distinct())
        line = timeline(laid, spine, keys, {"flat": (EVER,)})
        told = line.answers((flats_before, price_before)).to_pandas()
    found = asked[[*keys, "as_of_us"]].merge(told, on=[*keys, "as_of_us"], how="left")
    count, total = (found[each].to_numpy() for each in ("flats_before", "price_before"))
    if np.isnan(prior).all():
        return np.asarray(total / STEP / np.where(count > 0, count, np.nan))
    return np.asarray((total / STEP + 7 * prior) / (count + 7))


def learned(flats: Flats, rows: Ints, test: Ints) -> Floats:
    """Scores of the test rows, the mean over seeds of rankers trained on `rows`.

    The last quarter of the weeks of `rows` stops the training.
    """
    week = flats.listed_us[rows] // WEEK_US
    late = week >= np.quantile(week, 1 - JUDGED, method="lower")
    train = flats.dataset("train", rows[~late])
    validate = flats.dataset("validate", rows[late])
    each = []
    for seed in SEEDS:
        found = train_ranker(train, validate, "QueryRMSE", {**PARAMS, "random_seed": seed})
        each.append(found.scorer.score(flats.X[test]))
    return np.asarray(np.mean(each, axis=0))


def baselines(flats: Flats) -> dict[str, Floats]:
    """Orders that need no learning, as scores (n,)."""
    return {
        "price ascending": -flats.price,
        "price descending": flats.price,
        "newest": flats.listed_us.astype(np.float64),
    }


@dataclass(frozen=True)
class Concordance:
    """Pairs of flats with unequal demand, summed by the two agents they belong to.

    right: (A, A) pairs in the right order, half for a tie. pairs: (A, A) of all.
    """

    right: Floats
    pairs: Floats

    @property
    def value(self) -> float:
        """Harrell's C: the share of pairs in the right order (Harrell et al. 1982)."""
        return float(self.right.sum() / self.pairs.sum())

    def weighed(self, weights: Floats) -> Floats:
        """C of each resample of agents, (R,); weights: (R, A) how often each was drawn."""
        right = ((weights @ self.right) * weights).sum(axis=1)
        pairs = ((weights @ self.pairs) * weights).sum(axis=1)
        return np.asarray(right / pairs)


def concordance(level: Ints, score: Floats, agent: Ints, agents: int) -> Concordance:
    """Pairs of a score with the level; agent: (n,) numbers below `agents`."""
    higher = level[:, None] > level[None, :]
    right = np.where(score[:, None] > score[None, :], 1.0, 0.0)
    right[score[:, None] == score[None, :]] = 0.5
    member = np.zeros((len(level), agents))
    member[np.arange(len(level)), agent] = 1.0
    return Concordance(member.T @ (right * higher) @ member, member.T @ higher @ member)


def splits(flats: Flats, count: int = SPLITS) -> list[tuple[Ints, Ints]]:
    """Rows to train and to test on, no agent in both; agents are drawn anew for each split."""
    _, agent = np.unique(flats.agent, return_inverse=True)
    found = []
    for seed in range(count):
        drawn = np.random.default_rng(seed).permutation(agent.max() + 1)
        mine = np.isin(agent, drawn[: int(len(drawn) * TRAINED_ON)])
        found.append((np.flatnonzero(mine), np.flatnonzero(~mine)))
    return found


def compared(flats: Flats, scores: Sequence[Floats], tests: Sequence[Ints]) -> Mapping[str, Any]:
    """C of the ranker and of each baseline, the mean over splits, with the differences.

    The interval of a difference draws agents with replacement, the same in every split, and
    an agent counts wherever it was tested.
    """
    names, agent = np.unique(flats.agent, return_inverse=True)
    orders = baselines(flats)
    draws = np.random.default_rng(0).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )
    weights = draws.astype(np.float64)
    told: dict[str, list[Floats]] = {name: [] for name in ("ranker", *orders)}
    means: dict[str, list[float]] = {name: [] for name in told}
    for score, rows in zip(scores, tests, strict=True):
        for name in told:
            mine = score if name == "ranker" else orders[name][rows]
            c = concordance(flats.level[rows], mine, agent[rows], len(names))
            told[name].append(c.weighed(weights))
            means[name].append(c.value)
    found: dict[str, Any] = {"C": {name: float(np.mean(each)) for name, each in means.items()}}
    for name in orders:
        drawn = np.mean(told["ranker"], axis=0) - np.mean(told[name], axis=0)
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(drawn, (tail, 1 - tail))
        mean = found["C"]["ranker"] - found["C"][name]
        found[name] = Interval(mean, float(low), float(high), len(names))
    return found
