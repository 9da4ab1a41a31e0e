"""How many requests a minute a key may make: its agent's tier says it."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from aiqleads.domain import ENTITLEMENTS, Tier
from aiqleads.errors import Refused


class Rates:
    """Counts the requests of each key over the last minute.

    Each worker counts for itself: a key whose connections end at several workers may make as
    many requests at each. A count is lost when the worker ends.
    """

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._most = {
            tier: RateLimitItemPerMinute(rights.requests_per_minute)
            for tier, rights in ENTITLEMENTS.items()
        }

    def count(self, key_id: str, tier: Tier) -> None:
        """Counts one request; refuses (`rate-limited`, 429) one beyond the tier's number.

        A refused request does not count, so whoever waits for `retry_after` is served.
        """
        most = self._most[tier]
        if self._window.hit(most, key_id):
            return
        frees = self._window.get_window_stats(most, key_id).reset_time
        raise Refused(
            "rate-limited",
            f"a key of {tier} makes at most {most.amount} requests a minute",
            status=429,
            limit="requests_per_minute",
            value=most.amount,
            used=most.amount,
            retry_after=max(1, math.ceil(frees - time.time())),
        )
