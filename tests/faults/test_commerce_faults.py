"""A fixed sample of the fault sweep; `make soak NAME=commerce` runs all of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.commerce_faults import (
    SCENARIOS,
    SERVER_FAULTS,
    Case,
    Worlds,
    postgres_engines,
)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return Worlds(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_fault_is_healed_within_a_sweep(worlds: Worlds, scenario: str) -> None:
    draw = random.Random(scenario)
    crossings = worlds.crossings(scenario)
    for at in draw.sample(range(1, len(crossings) + 1), 2):
        case = Case(scenario, ((at, draw.choice(worlds.faults_at(crossings[at - 1]))),))
        assert worlds.run(case) == [], case.name


@pytest.mark.parametrize("scenario", ["by_card", "refunded"])
def test_a_fault_is_healed_on_postgresql(tmp_path: Path, postgres: Any, scenario: str) -> None:
    worlds = Worlds(tmp_path, postgres_engines(postgres))
    for at, fault in ((3, "dies after"), (4, "lost after, for long")):
        case = Case(scenario, ((at, fault),))
        assert worlds.run(case) == [], case.name


@pytest.mark.parametrize("scenario", ["by_card", "topped_up"])
def test_a_session_that_ends_around_a_commit_is_healed(
    tmp_path: Path, postgres: Any, scenario: str
) -> None:
    worlds = Worlds(tmp_path, postgres_engines(postgres))
    commits = [at for at, name in enumerate(worlds.crossings(scenario), 1) if name == "commit"]
    for number, at in enumerate(commits):
        case = Case(scenario, ((at, SERVER_FAULTS[number % 2]),))
        assert worlds.run(case) == [], case.name
