"""When a person may be telephoned: 8:00 to 21:00 where they are (47 CFR 64.1200(c)(1)).

Where the time zone is not certain, the hours are those that are lawful in each that it may be.
Laws of single states may be stricter; they are not in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from aiqleads.domain import US_PER_SECOND

FROM, UNTIL = time(8), time(21)


@dataclass(frozen=True)
class CallingHours:
    """zones: names of the tz database, one where it is certain. open_now: at the time asked.

    opens_us, closes_us: the window that is open, else the next one; wall clock, UTC.
    """

    zones: tuple[str, ...]
    open_now: bool
    opens_us: int
    closes_us: int


def calling_hours(zones: Sequence[str], now_us: int) -> CallingHours:
    """The hours for somebody in any of these zones (at least one), seen from `now_us`."""
    places = [ZoneInfo(name) for name in zones]
    now = datetime.fromtimestamp(now_us / US_PER_SECOND, UTC)
    day = (now - timedelta(days=1)).date()
    while True:
        opens, closes = _window(places, day)
        if opens < closes and now < closes:
            return CallingHours(tuple(zones), opens <= now, _us(opens), _us(closes))
        day += timedelta(days=1)


def _window(places: Sequence[ZoneInfo], day: date) -> tuple[datetime, datetime]:
    """When a calendar day's hours have begun in every zone, and when they first end."""
    opens = max(datetime.combine(day, FROM, place).astimezone(UTC) for place in places)
    closes = min(datetime.combine(day, UNTIL, place).astimezone(UTC) for place in places)
    return opens, closes


def _us(moment: datetime) -> int:
    return round(moment.timestamp()) * US_PER_SECOND
