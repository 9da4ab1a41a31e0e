"""Finished rounds of a soak, kept so that a run that was killed goes on where it stood."""

from __future__ import annotations

import json
from typing import Any

from run import source_digest

from aiqleads.settings import Settings


class Rounds:
    """Results of rounds, in order, one JSON line each; a change of any source begins anew.

    name: of the soak, its database and the size of a round, in one word.
    """

    def __init__(self, name: str) -> None:
        folder = Settings().reports / "soak-rounds" / source_digest()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{name}.jsonl"
        self.done: list[dict[str, Any]] = []
        if self._file.is_file():
            # What a kill cut off has no line end, and is done again.
            lines = self._file.read_text().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            self.done = [json.loads(line) for line in whole]
            self._file.write_text("".join(whole))

    def add(self, result: dict[str, Any]) -> None:
        """Appends one round's result."""
        with self._file.open("a") as out:
            out.write(json.dumps(result) + "\n")
        self.done.append(result)

    def total(self, name: str) -> int:
        """Sum of a figure over all rounds."""
        return sum(result[name] for result in self.done)
