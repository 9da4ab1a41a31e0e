"""Kills a worker with SIGKILL before each of its commits in turn, then lets another go on.

    crashing_worker.py <home with pushes> <scratch folder> [every]

Run by test_worker_crashes.py in a process of its own, as it forks. every: of the commits
(default 1: all). Prints one JSON object: rounds, killed (how many of them died), differing
(steps after which the store is not that of an undisturbed run), left (pushes that were not
done in the end).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, event

from aiqleads.settings import Settings
from aiqleads.work import work

MOST_STEPS = 200
#: what people told and what was made of it; sealed columns and times of the wall clock apart
STORE = {
    "lead": "lead_id, person_id, source_key, batch_id, ask_price_cents, zip, lon, lat,"
    " submissions, quality, waits, merged_into",
    "submission": "submission_id, lead_id, source_key, batch_id, row_number",
    "consent": "submission_id, text, sellers",
    "match_key": "digest, submission_id",
    "link": "a, b",
    "quarantine": "row_number, rule, source",
}


def main(template: Path, scratch: Path, every: int = 1) -> None:
    clean = scratch / "clean"
    shutil.copytree(template, clean)
    assert round_of(clean, 0) == 0
    wanted = store_of(clean)
    rounds, killed, differing, left = 0, 0, [], 0
    for step in range(1, MOST_STEPS, every):
        rounds += 1
        home = scratch / f"step{step}"
        shutil.copytree(template, home)
        died = round_of(home, step) == -signal.SIGKILL
        killed += died
        assert round_of(home, 0) == 0
        if store_of(home) != wanted:
            differing.append(step)
        left += waiting_in(home)
        shutil.rmtree(home)
        if not died:
            break
    told = {"rounds": rounds, "killed": killed, "differing": differing, "left": left}
    print(json.dumps(told | {"leads": len(wanted["lead"])}))


def round_of(home: Path, kill_at: int) -> int:
    """One round of a worker in a process of its own; how it ended, -9 where it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            kill_before_commit(kill_at)
            work(Settings(home=home), once=True)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_before_commit(number: int) -> None:
    """Plants the kill before the number-th commit to any room; 0 plants none."""
    seen = 0

    @event.listens_for(Engine, "commit")
    def _count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)


def store_of(home: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(home / "data" / "leads.db") as connection:
        return {
            table: sorted(map(repr, connection.execute(f"select {columns} from {table}")))
            for table, columns in STORE.items()
        }


def waiting_in(home: Path) -> int:
    with sqlite3.connect(home / "data" / "vault.db") as connection:
        query = "select count(*) from pushed where state <> 'done'"
        return int(connection.execute(query).fetchone()[0])


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
