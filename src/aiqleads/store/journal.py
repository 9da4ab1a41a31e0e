"""The journal of served rankings: one JSON line each, one file per process and day.

It is the service's memory of what was shown, by which model and snapshot, and serves
monitoring and training alike. Fields of a line:

    request_id, agent_id, at_us (wall), at_market_us, model_version, snapshot_version,
    variant, k, filters, candidates (after the filters), withheld (ranked high enough but
    not available), items [{lead_id, position, score, price_cents}]
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiqleads.domain import US_PER_SECOND


class Journal:
    """Appends lines for one process; a line is one `write`, so readers see it whole or not yet."""

    def __init__(self, directory: Path, started_us: int) -> None:
        self._directory = directory
        self._name = f"{os.getpid()}-{started_us}.jsonl"
        self._day = ""
        self._file = -1

    def append(self, line: dict[str, Any], at_us: int) -> None:
        """Writes one line into the file of the UTC day of `at_us` (wall clock)."""
        day = datetime.fromtimestamp(at_us / US_PER_SECOND, UTC).strftime("%Y-%m-%d")
        if day != self._day:
            self._open(day)
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Closes the file; the next line opens one again."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = -1, ""

    def _open(self, day: str) -> None:
        self.close()
        path = self._directory / day / self._name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._day = day


def read(directory: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a journal directory, by day and file.

    The unfinished last line of a process that was killed is left out; a damaged line
    elsewhere raises ValueError.
    """
    for path in sorted(directory.glob("*/*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield json.loads(line)
