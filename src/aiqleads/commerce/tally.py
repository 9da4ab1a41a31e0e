"""Many payments one after another: one that cannot be driven keeps no other from its turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from aiqleads.commerce.payments import UNSETTLED
from aiqleads.errors import AIQLeadsError, why

log = structlog.get_logger(__name__)


@dataclass
class Tally:
    """What did not end. waiting: Stripe or the database gave no answer; failed: a fault.

    Either is tried again by the next sweep.
    """

    waiting: int = 0
    failed: int = 0

    @contextmanager
    def one(self, about: str, name: str) -> Iterator[None]:
        """One of them, by kind and id; whatever fails in it is counted, logged and over."""
        try:
            yield
        except Exception as problem:
            if _waits(problem):
                self.waiting += 1
                log.warning("waits", about=about, name=name, why=why(problem))
            else:
                self.failed += 1
                log.error("not_settled", about=about, name=name, why=why(problem))


def _waits(problem: Exception) -> bool:
    """Whether somebody else's answer is all that is missing."""
    return isinstance(problem, AIQLeadsError) and problem.kind in UNSETTLED
