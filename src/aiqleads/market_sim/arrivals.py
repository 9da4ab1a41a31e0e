"""When agents ask for leads, on which device, and which arm of the policy answers."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import US_PER_SECOND
from aiqleads.market_sim.draws import F64, U64, Stream, keys_of, pick, uniform
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.world import I64, Agents

_MOST_A_DAY = 12


@dataclass(frozen=True)
class Requests:
    """Columns of the requests, shape (n,), sorted by (at_us, id)."""

    ids: NDArray[np.object_]
    key: U64
    agent: I64
    at_us: I64
    mobile: NDArray[np.bool_]
    random: NDArray[np.bool_]  # answered in random order

    def __len__(self) -> int:
        return len(self.ids)


def schedule(
    agents: Agents, preset: Preset, *, timezone: str, start: dt.date, end_us: int, seed: int
) -> Requests:
    """Every request from the local midnight of `start` until `end_us` (exclusive).

    An agent's number of requests on a day is a Poisson number of mean
    requests_per_day * weekday factor, from the day on which the agent joined; the hour
    follows the preset's pattern of local time.
    """
    zone = ZoneInfo(timezone)
    days = _days(start, end_us, zone)
    weekday = np.array([day.weekday() for day in days], dtype=np.int64)
    number = np.array([day.toordinal() for day in days], dtype=np.uint64)
    factor = np.asarray(preset.requests.weekdays) / np.mean(preset.requests.weekdays)
    mean = agents.requests_per_day[:, None] * factor[weekday][None, :]
    luck = uniform(seed, Stream.REQUESTS, agents.key[:, None], number[None, :])
    counts = _poisson(mean, luck)
    agent, day = (
        np.repeat(part, counts.ravel()) for part in np.indices(counts.shape).reshape(2, -1)
    )
    nth = np.arange(len(agent)) - np.repeat(
        np.cumsum(counts.ravel()) - counts.ravel(), counts.ravel()
    )
    who, when = agents.key[agent], number[day]
    hour = pick(preset.requests.hours, uniform(seed, Stream.HOUR, who, when, nth.astype(np.uint64)))
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
        random=uniform(seed, Stream.VARIANT, key) < preset.policy.random_share,
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


def _poisson(mean: F64, luck: F64) -> I64:
    """Poisson numbers by inversion, at most twelve (beyond, the chance is negligible)."""
    term = np.exp(-mean)
    below, counts = term.copy(), np.zeros(mean.shape, dtype=np.int64)
    for n in range(1, _MOST_A_DAY + 1):
        counts += luck > below
        term = term * mean / n
        below = below + term
    return counts


def _utc_us(day: dt.date, hour: int, share_of_hour: float, zone: ZoneInfo) -> int:
    local = dt.datetime(day.year, day.month, day.day, hour, tzinfo=zone)
    return int(local.timestamp()) * US_PER_SECOND + int(share_of_hour * 3600 * US_PER_SECOND)
