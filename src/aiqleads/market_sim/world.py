"""The simulated world before anybody acts: leads as columns, invented agents, who likes what.

Agents are invented from first to last: no name, no person and no office stands behind one.
Everything that does not change while the market runs is computed here once for each agent
over the leads that the agent could ever be offered. What changes with the calendar alone
(drift of tastes, a shock) is a function of the moment: `taste_at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import h3.api.basic_int as h3
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY, Intent, Tier
from aiqleads.errors import ContractBroken
from aiqleads.geo import grid, utm
from aiqleads.market_sim.draws import F64, U64, Stream, keys_of, normal, pick, uniform
from aiqleads.market_sim.presets import Drift, Preset, Shock

I64 = NDArray[np.int64]

#: a farm area is made of cells of this resolution, market figures of coarser ones
TERRITORY_RESOLUTION, MARKET_RESOLUTION = 8, 7
TIERS = tuple(Tier)
#: parts of the utility that carry a weight of each agent's own
TASTES = ("price", "location", "size", "intent", "quality", "freshness", "overpriced", "trend",
          "fee", "demand")  # fmt: skip

_M_PER_DEGREE = 111_320.0  # of latitude, and of longitude at the equator
_ENOUGH_SALES = 5
_LEAD_COLUMNS = (
    "lead_id", "intent", "received_market_us", "expires_market_us", "ask_price_cents", "beds",
    "living_area_sqft", "lon", "lat", "cell", "utm_x_m", "utm_y_m", "max_buyers", "quality",
)  # fmt: skip


@dataclass(frozen=True)
class Leads:
    """Columns of the leads, shape (n,), sorted by (received_us, id)."""

    ids: NDArray[np.object_]
    key: U64
    intent: NDArray[np.str_]
    received_us: I64
    expires_us: I64
    ask_cents: I64
    beds: F64
    quality: F64  # above or below what is usual for the intent, in scales, within [-2, 2]
    stated_quality: F64  # as the lead carries it, 0 to 1
    max_buyers: I64
    log_ask: F64
    x_m: F64
    y_m: F64
    cell: I64  # H3 res 8, the parent of the stored cell
    price_level: F64  # log of asked price per sqft over the area's past sales, 0 = unknown
    trend: F64  # log of the area's median price, last 90 days over last year, 0 = unknown
    appeal: F64  # hidden: what everybody sees after a click and no column tells

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Agents:
    """Columns of the invented agents, shape (m,); `weights` by name of TASTES.

    price_step, next_x_m, next_y_m: where a wandering taste has moved once the preset's
    drift is over; 0 and the second area itself where an agent's taste stays.
    """

    ids: NDArray[np.object_]
    key: U64
    tier: I64  # Tier.code
    joined_us: I64
    requests_per_day: F64
    monthly_budget_cents: I64
    home_x_m: F64
    home_y_m: F64
    home_cell: I64  # H3 res 10
    territory: tuple[I64, ...]  # H3 res 8
    offered: tuple[I64, ...]  # indices of the leads in territory and ring
    log_price: F64  # latent centre
    low_cents: I64  # declared band
    high_cents: I64
    second_x_m: F64  # the favourite area that nobody declared
    second_y_m: F64
    price_step: F64
    next_x_m: F64
    next_y_m: F64
    home_strength: F64
    second_strength: F64
    reach_m: F64
    beds: F64
    lean: F64  # +1 works with sellers, -1 with buyers, 0 with both
    bot: NDArray[np.bool_]
    weights: Mapping[str, F64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Pool:
    """What one agent could ever be offered: columns over `lead`, sorted by arrival.

    steady: the weighted parts of the card's utility that never change. pair: its hidden
    part. home_pull: strength and kernel of the declared area. near: exp(-distance to home /
    nearness_m). in_band: whether the asked price lies in the declared band.
    """

    lead: I64
    steady: F64
    pair: F64
    home_pull: F64
    near: F64
    in_band: NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """Leads, agents and each agent's pool; start_us: where the period begins."""

    leads: Leads
    agents: Agents
    pools: tuple[Pool, ...]
    start_us: int


def build_world(
    leads: pd.DataFrame,
    sales: pd.DataFrame,
    preset: Preset,
    *,
    crs: str | None,
    agents: int,
    seed: int,
    start_us: int,
) -> World:
    """Invents `agents` agents on the leads and works out who would like which lead.

    leads, sales: frames as stored under data/core. start_us: where the period begins, UTC
    microseconds on the market clock. Raises ContractBroken when a column is missing or no
    lead is there.
    """
    columns = lead_columns(leads, sales, preset, seed)
    lon_lat = leads.sort_values(["received_market_us", "lead_id"])[["lon", "lat"]].to_numpy()
    people = invent_agents(
        columns, lon_lat, preset, crs=crs, agents=agents, seed=seed, start_us=start_us
    )  # fmt: skip
    pools = tuple(_pool(columns, people, number, preset, seed) for number in range(len(people)))
    return World(columns, people, pools, start_us)


def lead_columns(leads: pd.DataFrame, sales: pd.DataFrame, preset: Preset, seed: int) -> Leads:
    """The leads' columns with the market around them as it stood when each came in."""
    if missing := [name for name in _LEAD_COLUMNS if name not in leads]:
        raise ContractBroken(f"the leads lack {', '.join(missing)}")
    if leads.empty:
        raise ContractBroken("there is no lead to simulate with")
    frame = leads.sort_values(["received_market_us", "lead_id"]).reset_index(drop=True)
    key = keys_of(frame["lead_id"])
    level, trend = market_around(frame, sales)
    return Leads(
        ids=frame["lead_id"].to_numpy(dtype=object),
        key=key,
        intent=frame["intent"].to_numpy(dtype=str),
        received_us=frame["received_market_us"].to_numpy(np.int64),
        expires_us=frame["expires_market_us"].to_numpy(np.int64),
        ask_cents=frame["ask_price_cents"].to_numpy(np.int64),
        beds=frame["beds"].to_numpy(np.float64),
        quality=_relative_quality(frame, preset),
        stated_quality=frame["quality"].to_numpy(np.float64),
        max_buyers=frame["max_buyers"].to_numpy(np.int64),
        log_ask=np.log(frame["ask_price_cents"].to_numpy(np.int64)),
        x_m=frame["utm_x_m"].to_numpy(np.float64),
        y_m=frame["utm_y_m"].to_numpy(np.float64),
        cell=grid.parent(frame["cell"].to_numpy(np.int64), TERRITORY_RESOLUTION),
        price_level=level,
        trend=trend,
        appeal=preset.hidden.appeal_sd * normal(seed, Stream.APPEAL, key),
    )


def _relative_quality(frame: pd.DataFrame, preset: Preset) -> F64:
    """Like is compared with like: a buyer's lead never has an exact place, for one."""
    usual = frame.groupby("intent")["quality"].transform("mean")
    above = ((frame["quality"] - usual) / preset.taste.quality_scale).to_numpy(np.float64)
    return np.asarray(np.clip(above, -2.0, 2.0))


def market_around(leads: pd.DataFrame, sales: pd.DataFrame) -> tuple[F64, F64]:
    """Price level and trend around each lead, from sales strictly before it came in.

    Level: log of the asked price per square foot over the median of the past 365 days in
    the H3 res-7 cell, for sellers only, held within [-1, 1]. Trend: log of the median price
    of the past 90 days over that of 365, held within [-0.3, 0.3]. Both are 0 where fewer
    than five sales are known. Shapes (len(leads),).
    """
    level, trend = np.zeros(len(leads)), np.zeros(len(leads))
    dated = sales[sales["sold_market_us"].notna()].sort_values("sold_market_us", kind="stable")
    if dated.empty:
        return level, trend
    lead_cell = grid.parent(leads["cell"].to_numpy(np.int64), MARKET_RESOLUTION)
    lead_at = leads["received_market_us"].to_numpy(np.int64)
    area = leads["living_area_sqft"].to_numpy(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        asked = np.log(leads["ask_price_cents"].to_numpy(np.float64) / area)
    asked[~np.isfinite(asked) | (leads["intent"].to_numpy() != Intent.SELL)] = np.nan
    sale_cell = grid.parent(dated["cell"].to_numpy(np.int64), MARKET_RESOLUTION)
    sold_at = dated["sold_market_us"].to_numpy(dtype=np.int64)
    price = np.log(dated["price_cents"].to_numpy(np.float64))
    per_sqft = price - np.log(dated["living_area_sqft"].to_numpy(np.float64))
    sales_of = {int(cell): np.flatnonzero(sale_cell == cell) for cell in np.unique(sale_cell)}
    for row, cell in enumerate(lead_cell.tolist()):
        rows = sales_of.get(cell)
        if rows is None:
            continue
        times = sold_at[rows]
        now = int(np.searchsorted(times, lead_at[row]))
        year, quarter = np.searchsorted(times, lead_at[row] - US_PER_DAY * np.array([365, 90]))
        if now - year >= _ENOUGH_SALES:
            level[row] = asked[row] - _median(per_sqft[rows[year:now]])
        if now - quarter >= _ENOUGH_SALES:
            trend[row] = _median(price[rows[quarter:now]]) - _median(price[rows[year:now]])
    return (
        np.clip(np.nan_to_num(level), -1.0, 1.0),
        np.clip(np.nan_to_num(trend), -0.3, 0.3),
    )


def _median(values: F64) -> float:
    """Median of what is known, NaN where nothing is; faster than numpy's on short slices."""
    ordered = np.sort(values[~np.isnan(values)])
    middle = len(ordered) // 2
    if not len(ordered):
        return float("nan")
    return float(ordered[middle] if len(ordered) % 2 else ordered[middle - 1 : middle + 1].mean())


def invent_agents(
    leads: Leads,
    lon_lat: F64,
    preset: Preset,
    *,
    crs: str | None,
    agents: int,
    seed: int,
    start_us: int,
) -> Agents:
    """Agents A0001, A0002, ...: the same agent under the same seed, however many there are.

    lon_lat: shape (len(leads), 2), degrees, in the order of `leads`.
    """
    rule, taste = preset.agents, preset.taste
    ids = np.array([f"A{number:04d}" for number in range(1, agents + 1)], dtype=object)
    key = keys_of(ids)
    tier = pick(rule.tier_shares, uniform(seed, Stream.TIER, key))
    lon, lat = _homes(key, lon_lat, rule.home_scatter_m, seed)
    crs = crs or utm.find_crs(lon_lat[:, 0], lon_lat[:, 1])
    home_x, home_y = utm.project(lon, lat, crs)
    home_cell = grid.cells(lon, lat)
    centre_cell = grid.parent(home_cell, TERRITORY_RESOLUTION).tolist()
    rings = [rule.territory_rings[code] for code in tier]
    territory = tuple(_disk(c, r) for c, r in zip(centre_cell, rings, strict=True))
    offered = tuple(
        np.flatnonzero(np.isin(leads.cell, _disk(c, r + rule.ring_cells)))
        for c, r in zip(centre_cell, rings, strict=True)
    )
    local = np.array([_local_log_price(leads, rows, start_us) for rows in offered])
    centre = local + taste.price_centre_sd * normal(seed, Stream.PRICE_CENTRE, key)
    declared = centre + taste.declared_noise_sd * normal(seed, Stream.PRICE_DECLARED, key)
    away = [
        _away(leads, rows, x, y, taste.second_area_min_m)
        for rows, x, y in zip(offered, home_x, home_y, strict=True)
    ]
    homes = list(zip(home_x, home_y, strict=True))
    second = _one_of(leads, away, homes, uniform(seed, Stream.SECOND_AREA, key))
    moves = uniform(seed, Stream.MOVES, key) < preset.drift.share
    wandered = _one_of(leads, away, homes, uniform(seed, Stream.NEXT_AREA, key))
    following = np.where(moves[:, None], wandered, second)
    bot = uniform(seed, Stream.BOT, key) < preset.bots.share
    beds = 3.0 + 0.8 * (centre - np.median(leads.log_ask))
    return Agents(
        ids=ids,
        key=key,
        tier=tier,
        joined_us=_joined(key, preset, seed, start_us),
        requests_per_day=np.where(
            bot, preset.bots.requests_per_day, _requests_per_day(key, tier, preset, seed)
        ),
        monthly_budget_cents=_budgets(key, tier, preset, seed),
        home_x_m=home_x,
        home_y_m=home_y,
        home_cell=home_cell,
        territory=territory,
        offered=offered,
        log_price=centre,
        low_cents=_whole_thousands(np.exp(declared - taste.declared_width)),
        high_cents=_whole_thousands(np.exp(declared + taste.declared_width)),
        second_x_m=second[:, 0],
        second_y_m=second[:, 1],
        price_step=moves * preset.drift.price_sd * normal(seed, Stream.NEXT_PRICE, key),
        next_x_m=following[:, 0],
        next_y_m=following[:, 1],
        home_strength=_between(taste.home_strength, uniform(seed, Stream.AREA_STRENGTH, key, 0)),
        second_strength=_between(
            taste.second_strength, uniform(seed, Stream.AREA_STRENGTH, key, 1)
        ),
        reach_m=taste.area_reach_m * np.exp(0.2 * normal(seed, Stream.AREA_REACH, key)),
        beds=beds + taste.beds_sd * normal(seed, Stream.BEDS, key),
        lean=np.array([1.0, -1.0, 0.0])[pick(taste.specialists, uniform(seed, Stream.INTENT, key))],
        bot=bot,
        weights={
            name: getattr(taste, name)
            * np.exp(taste.spread_sd * normal(seed, Stream.TASTE, key, number))
            for number, name in enumerate(TASTES)
        },
    )


def _homes(key: U64, lon_lat: F64, scatter_m: float, seed: int) -> tuple[F64, F64]:
    """Longitude and latitude of homes: a lead's point, moved by a normal step on each axis."""
    near = lon_lat[(uniform(seed, Stream.HOME, key) * len(lon_lat)).astype(np.int64)]
    east = scatter_m * normal(seed, Stream.HOME_EAST, key)
    north = scatter_m * normal(seed, Stream.HOME_NORTH, key)
    lat = near[:, 1] + north / _M_PER_DEGREE
    return near[:, 0] + east / (_M_PER_DEGREE * np.cos(np.radians(near[:, 1]))), lat


def _disk(cell: int, rings: int) -> I64:
    return np.array(sorted(h3.grid_disk(cell, rings)), dtype=np.int64)


def _local_log_price(leads: Leads, rows: I64, start_us: int) -> float:
    """Median log price of the area's leads before the period, or of all when few are."""
    past = rows[leads.received_us[rows] < start_us]
    chosen = past if len(past) >= _ENOUGH_SALES else rows
    return float(np.median(leads.log_ask[chosen] if len(chosen) else leads.log_ask))


def _away(leads: Leads, rows: I64, x: float, y: float, least_m: float) -> I64:
    """The leads at least `least_m` from home."""
    return rows[np.hypot(leads.x_m[rows] - x, leads.y_m[rows] - y) >= least_m]


def _one_of(
    leads: Leads, away: Sequence[I64], homes: Sequence[tuple[float, float]], luck: F64
) -> F64:
    """Place of one lead of each list, shape (m, 2); home itself where there is none."""
    chosen = [rows[int(share * len(rows))] if len(rows) else -1
              for rows, share in zip(away, luck, strict=True)]  # fmt: skip
    return np.array(
        [
            (leads.x_m[row], leads.y_m[row]) if row >= 0 else home
            for row, home in zip(chosen, homes, strict=True)
        ]
    ).reshape(len(chosen), 2)


def _joined(key: U64, preset: Preset, seed: int, start_us: int) -> I64:
    rule = preset.agents
    luck = uniform(seed, Stream.JOINED, key, 1)
    before = start_us - luck * rule.earlier_days * US_PER_DAY
    during = start_us + luck * rule.joins_within_days * US_PER_DAY
    late = uniform(seed, Stream.JOINED, key, 0) < rule.joins_late_share
    return np.where(late, during, before).astype(np.int64)


def _requests_per_day(key: U64, tier: I64, preset: Preset, seed: int) -> F64:
    sd = preset.requests.spread_sd
    spread = np.exp(sd * normal(seed, Stream.RATE, key) - sd**2 / 2)  # of mean 1
    return np.asarray(preset.requests.per_day)[tier] * spread


def _budgets(key: U64, tier: I64, preset: Preset, seed: int) -> I64:
    spread = np.exp(preset.agents.budget_spread_sd * normal(seed, Stream.BUDGET, key))
    whole_tens = np.rint(np.asarray(preset.agents.monthly_budget_cents)[tier] * spread / 1000)
    return (whole_tens * 1000).astype(np.int64)


def _whole_thousands(cents: F64) -> I64:
    return (np.rint(cents / 100_000) * 100_000).astype(np.int64)


def _between(limits: tuple[float, float], luck: F64) -> F64:
    return limits[0] + (limits[1] - limits[0]) * luck


def _pool(leads: Leads, agents: Agents, number: int, preset: Preset, seed: int) -> Pool:
    """One agent's leads with what time does not change."""
    rows = agents.offered[number]
    parts = lasting_parts(leads, rows, agents, number)
    steady = sum(agents.weights[name][number] * part for name, part in parts.items())
    home_m = np.hypot(
        leads.x_m[rows] - agents.home_x_m[number], leads.y_m[rows] - agents.home_y_m[number]
    )
    ask = leads.ask_cents[rows]
    in_band = (ask >= agents.low_cents[number]) & (ask <= agents.high_cents[number])
    hidden = normal(seed, Stream.PAIR, agents.key[number], leads.key[rows])
    return Pool(
        lead=rows,
        steady=np.asarray(steady, dtype=np.float64),
        pair=preset.hidden.pair_sd * hidden,
        home_pull=agents.home_strength[number]
        * np.exp(-0.5 * (home_m / agents.reach_m[number]) ** 2),
        near=np.exp(-home_m / preset.policy.nearness_m),
        in_band=in_band,
    )


def lasting_parts(leads: Leads, rows: I64, agents: Agents, number: int) -> dict[str, F64]:
    """Parts of one agent's utility that never change, each about within [-1, 1], unweighted."""
    sells = np.where(leads.intent[rows] == Intent.SELL, 1.0, -1.0)
    size = 1.0 - np.minimum(np.abs(leads.beds[rows] - agents.beds[number]), 2.0)
    return {
        "size": np.nan_to_num(size),  # unknown beds neither please nor put off
        "intent": agents.lean[number] * sells,
        "quality": leads.quality[rows],
        "overpriced": -overpriced(leads)[rows],
        "trend": leads.trend[rows] / 0.15,
    }


def overpriced(leads: Leads) -> F64:
    """How far each lead's asked price lies above the area's, in steps of 0.3 of the log."""
    return np.asarray(np.maximum(leads.price_level, 0.0) / 0.3)


def taste_at(
    world: World, agent: I64, lead: I64, home_pull: F64, at_us: I64, preset: Preset
) -> F64:
    """Weighted price and location parts of rows of (agent, lead, moment); shape (n,).

    The price centre and the second area of an agent that drifts move along a straight line;
    a shock moves every centre at once.
    """
    agents, leads, taste = world.agents, world.leads, preset.taste
    moved = drifted(at_us, world.start_us, preset.drift)
    centre = agents.log_price[agent] + moved * agents.price_step[agent]
    centre = centre + preset.shock.price_shift * shocked(at_us, world.start_us, preset.shock)
    gap = (leads.log_ask[lead] - centre) / taste.price_width
    step_x, step_y = agents.next_x_m - agents.second_x_m, agents.next_y_m - agents.second_y_m
    x = agents.second_x_m[agent] + moved * step_x[agent]
    y = agents.second_y_m[agent] + moved * step_y[agent]
    away = ((leads.x_m[lead] - x) ** 2 + (leads.y_m[lead] - y) ** 2) / agents.reach_m[agent] ** 2
    pull = np.maximum(home_pull, agents.second_strength[agent] * np.exp(-0.5 * away))
    price = 2.0 * np.exp(-0.5 * gap**2) - 1.0
    return np.asarray(
        agents.weights["price"][agent] * price
        + agents.weights["location"][agent] * (2.0 * pull - 1.0)
    )


def drifted(at_us: I64, start_us: int, drift: Drift) -> F64:
    """How much of the way wandering tastes have gone at each moment, 0 to 1."""
    gone_days = (at_us - start_us) / US_PER_DAY - drift.from_day
    return np.asarray(np.clip(gone_days / max(drift.over_days, 1e-9), 0.0, 1.0))


def shocked(at_us: I64, start_us: int, shock: Shock) -> NDArray[np.bool_]:
    """Whether each moment lies after the shock."""
    return np.asarray(at_us >= start_us + shock.from_day * US_PER_DAY)
