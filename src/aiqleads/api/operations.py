"""Routes for operators: metrics, invariants, the process itself."""

from __future__ import annotations

import math
import os
import resource
import sys
from pathlib import Path

from fastapi import APIRouter, Response

from aiqleads.api import schemas
from aiqleads.api.auth import Operator
from aiqleads.api.state import State
from aiqleads.commerce import invariants
from aiqleads.domain import US_PER_SECOND
from aiqleads.monitoring import metrics
from aiqleads.store import inbox, ledger
from aiqleads.store.database import reader

router = APIRouter(tags=["operations"])


@router.get("/metrics", response_class=Response)
def prometheus(state: State) -> Response:
    """Metrics of all workers in Prometheus' text format."""
    _look_at_the_inbox(state)
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)


def _look_at_the_inbox(state: State) -> None:
    now_us, engine = state.now_us(), state.vault.engine
    found = inbox.counts(engine).values()
    oldest = [each.oldest_us for each in found if each.oldest_us is not None]
    seen = inbox.last_beat(engine, inbox.WORKER)
    metrics.intake(
        waiting=sum(each.waiting for each in found),
        failed=sum(each.failed for each in found),
        oldest_age_s=max(0.0, (now_us - min(oldest)) / US_PER_SECOND) if oldest else 0.0,
        worker_age_s=max(0.0, (now_us - seen[0]) / US_PER_SECOND) if seen else math.inf,
    )


@router.get("/v1/admin/invariants")
def check_invariants(state: State, _caller: Operator) -> schemas.InvariantsAnswer:
    """Checks every invariant of the shop on the live data."""
    found = invariants.check(state.commerce, state.payments, state.now_us(), leads=state.leads)
    with reader(state.commerce).connect() as connection:
        total = ledger.total_cents(connection)
    return schemas.InvariantsAnswer(
        ok=total == 0 and all(one.ok is not False for one in found.values()),
        ledger_total_cents=total,
        invariants={name: schemas.Finding.model_validate(one) for name, one in found.items()},
    )


@router.get("/v1/admin/process")
async def process(state: State, _caller: Operator) -> schemas.ProcessAnswer:
    """The worker that answers: its memory and what it has loaded."""
    return schemas.ProcessAnswer(
        pid=os.getpid(),
        rss_bytes=_resident_bytes(),
        model_version=state.scorer.version,
        snapshot_version=state.snapshot.version,
        modules=sorted({name.partition(".")[0] for name in sys.modules}),
    )


def _resident_bytes() -> int:
    """Resident memory now; where /proc is not there, the largest it ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()
