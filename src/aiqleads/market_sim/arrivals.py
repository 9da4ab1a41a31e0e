"""When agents ask for leads, on which device and surface."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import US_PER_SECOND
from aiqleads.market_sim.draws import F64, U64, Stream, keys_of, pick, poisson, uniform
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.world import I64, Agents

_MOST_A_DAY = 40  # beyond, even a bot's chance is negligible


@dataclass(frozen=True)
class Requests:
    """Columns of the requests, shape (n,), sorted by (at_us, id)."""

    ids: NDArray[np.object_]
    key: U64
    agent: I64
    at_us: I64
    mobile: NDArray[np.bool_]
    on_map: NDArray[np.bool_]  # answered on a map, the others as a list

    def __len__(self) -> int:
        return len(self.ids)


def schedule(
    agents: Agents, preset: Preset, *, timezone: str, start: dt.date, end_us: int, seed: int
) -> Requests:
    """Every request from the local midnight of `start` until `end_us` (exclusive).

    An agent's number of requests on a day is a Poisson number of mean
    requests_per_day * weekday factor * season, from the day on which the agent joined; the
    hour follows the preset's pattern of local time, for bots all hours alike.
    """
    zone = ZoneInfo(timezone)
    days = _days(start, end_us, zone)
    weekday = np.array([day.weekday() for day in days], dtype=np.int64)
    number = np.array([day.toordinal() for day in days], dtype=np.uint64)
    factor = np.asarray(preset.requests.weekdays) / np.mean(preset.requests.weekdays)
    mean = agents.requests_per_day[:, None] * (factor[weekday] * _season(days, preset))[None, :]
    luck = uniform(seed, Stream.REQUESTS, agents.key[:, None], number[None, :])
    counts = poisson(mean, luck, _MOST_A_DAY)
    agent, day = (
        np.repeat(part, counts.ravel()) for part in np.indices(counts.shape).reshape(2, -1)
    )
    nth = np.arange(len(agent)) - np.repeat(
        np.cumsum(counts.ravel()) - counts.ravel(), counts.ravel()
    )
    who, when = agents.key[agent], number[day]
    of_day = uniform(seed, Stream.HOUR, who, when, nth.astype(np.uint64))
    awake = pick(preset.requests.hours, of_day)
    hour = np.where(agents.bot[agent], (24 * of_day).astype(np.int64), awake)
    within = uniform(seed, Stream.SECOND_OF_HOUR, who, when, nth.astype(np.uint64))
    at_us = np.array(
        [_utc_us(days[d], int(h), s, zone) for d, h, s in zip(day, hour, within, strict=True)],
        dtype=np.int64,
    )
    ids = np.array(
        [
            f"R-{agents.ids[a]}-{days[d]:%Y%m%d}-{n + 1}"
            for a, d, n in zip(agent, day, nth, strict=True)
        ],
        dtype=object,
    )
    kept = np.flatnonzero((at_us >= agents.joined_us[agent]) & (at_us < end_us))
    order = kept[np.lexsort((ids[kept].astype(str), at_us[kept]))]
    key = keys_of(ids[order])
    return Requests(
        ids=ids[order],
        key=key,
        agent=agent[order],
        at_us=at_us[order],
        mobile=uniform(seed, Stream.DEVICE, key) < preset.requests.mobile_share,
        on_map=uniform(seed, Stream.SURFACE, key) < preset.requests.map_share,
    )


def month_starts(start: dt.date, end_us: int, timezone: str) -> I64:
    """UTC microseconds of each local month's start, from the one that holds `start`.

    The last one lies beyond `end_us`, so that `searchsorted(side="right") - 1` numbers every
    moment of the period.
    """
    zone, month = ZoneInfo(timezone), start.replace(day=1)
    starts = [_utc_us(month, 0, 0.0, zone)]
    while starts[-1] <= end_us:
        month = (month + dt.timedelta(days=31)).replace(day=1)
        starts.append(_utc_us(month, 0, 0.0, zone))
    return np.array(starts, dtype=np.int64)


def _days(start: dt.date, end_us: int, zone: ZoneInfo) -> list[dt.date]:
    last = dt.datetime.fromtimestamp((end_us - 1) / US_PER_SECOND, zone).date()
    return [start + dt.timedelta(days=n) for n in range((last - start).days + 1)]


def _season(days: list[dt.date], preset: Preset) -> F64:
    of_year = np.array([day.timetuple().tm_yday for day in days], dtype=np.float64)
    wave = np.cos(2.0 * np.pi * (of_year - preset.season.peak_day) / 365.25)
    return np.asarray(1.0 + preset.season.amplitude * wave)


def _utc_us(day: dt.date, hour: int, share_of_hour: float, zone: ZoneInfo) -> int:
    local = dt.datetime(day.year, day.month, day.day, hour, tzinfo=zone)
    return int(local.timestamp()) * US_PER_SECOND + int(share_of_hour * 3600 * US_PER_SECOND)
