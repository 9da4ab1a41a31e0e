"""Bugs are planted, and the tests must notice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mutants.planted import BUGS, Bug

#: planted at each run: quick ones, one of each part
SAMPLE = (
    "a transaction need not balance",
    "a price has no cap",
    "a key answers another request",
    "two recharges at once",
)


def test_every_bug_can_be_planted_today() -> None:
    for bug in BUGS:
        assert bug.path.read_text().count(bug.old) == 1, bug.name
        assert bug.new not in bug.old or bug.new != bug.old, bug.name
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 30


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name in SAMPLE], ids=lambda b: b.name)
def test_a_planted_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    code, said = bug.outcome(bug.planted(tmp_path))
    assert code == 1, said
    assert "error" not in said.splitlines()[-1], said
