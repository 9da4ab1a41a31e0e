"""A fixed-seed sample of the races and kills that `make soak NAME=commerce` runs in full.

Each script also runs a control that is wrong in the way it looks for, and must catch it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.soak.commerce_recorder import End, Grant, Told, judge, most_at_once

from aiqleads.settings import Settings

SOAK = Path(__file__).resolve().parents[1] / "soak"
DATABASES = ("sqlite", "postgresql")


def run(home: Settings, script: str, *counts: int) -> dict[str, Any]:
    """What a soak says in the end; its finished rounds are kept in the test's own home."""
    done = subprocess.run(
        [sys.executable, SOAK / script, *map(str, counts)],
        env={**os.environ, "AIQLEADS_HOME": str(home.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-3_000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.slow
def test_no_lead_has_two_holders_or_too_many_buyers_and_no_limit_is_overrun(
    home: Settings, postgres: object
) -> None:
    told = run(home, "race_commerce.py", 700, 20)
    for database in DATABASES:
        hot, limits = told[database]["hot"], told[database]["limits"]
        assert (hot["double_holds"], hot["double_sales"], hot["contradictions"]) == (0, 0, 0), hot
        assert limits["overruns"] == 0, limits
        assert hot["broken"] == limits["broken"] == []
        assert hot["attempts"] >= 700
        assert limits["races"] >= 20
        assert min(hot["held"], hot["sold"]) > 3
        assert set(limits["by_limit"]) == {"live_holds", "leads", "spend", "wallet"}
        for caught in ("double_holds", "double_sales", "overruns"):
            assert told[database]["control"][caught] > 0, "the harness would not have seen it"
    assert told["ok"]


@pytest.mark.slow
def test_what_was_acknowledged_outlives_a_kill(home: Settings, postgres: object) -> None:
    told = run(home, "kill_commerce.py", 12)
    for database in DATABASES:
        part = told[database]
        assert (part["lost"], part["half"], part["broken"]) == (0, 0, 0), part["offenders"]
        assert part["kills"] >= 6
        assert set(part["by"]) == {"wallet", "card"}
        assert part["control"]["lost"] > 0, "the harness would not have seen it"
    assert told["ok"]


def grant(token: int, at: int, until: int, who: str = "A1", slot: int = 1, **more: Any) -> Grant:
    """Calls take 5 ns and begin at 10 ns for each us of the shop's clock."""
    times = {"asked_us": at, "granted_us": at, "until_us": until}
    calls = {"began_ns": 10 * at, "done_ns": 10 * at + 5}
    return Grant("L1", slot, token, who, **{"exclusive": False, **times, **calls, **more})


def end(token: int, at: int, how: str, who: str = "A1", slot: int = 1) -> End:
    return End(("L1", slot, token), who, how, at, 10 * at, 10 * at + 5, f"o{token}{who}{slot}")


SOUND = [
    ("expired", [grant(1, 0, 9), grant(2, 9, 20, "A2")], []),
    ("released", [grant(1, 0, 9), grant(2, 5, 20, "A2")], [end(1, 4, "released")]),
    ("bought", [grant(1, 0, 9)], [end(1, 8, "sold")]),
    ("two slots", [grant(1, 0, 9), grant(1, 1, 9, "A2", 2)], [end(1, 3, "sold")]),
]
FALSE = [
    ("double_holds", [grant(1, 0, 9), grant(2, 8, 20, "A2")], []),
    ("double_holds", [grant(1, 0, 9), grant(1, 9, 20, "A2")], []),
    ("double_holds", [grant(1, 0, 9), grant(2, 20, 30, "A2")], [end(1, 3, "sold")]),
    ("double_holds", [grant(2, 0, 9), grant(1, 20, 30, "A2")], []),
    ("double_holds", [grant(1, 0, 9), grant(2, 5, 20, "A2")], [end(1, 7, "released")]),
    ("double_holds", [grant(1, 0, 9), grant(1, 2, 9, slot=2)], []),
    ("double_holds", [grant(1, 0, 9, exclusive=True), grant(2, 2, 9, "A2", 2)], []),
    (
        "double_sales",
        [grant(1, 0, 9), grant(1, 0, 9, "A2")],
        [end(1, 1, "sold"), end(1, 1, "sold", "A2")],
    ),
    (
        "double_sales",
        [grant(1, 0, 9, exclusive=True), grant(2, 20, 30, "A2", 2)],
        [end(1, 1, "sold"), end(2, 21, "sold", "A2", 2)],
    ),
    ("contradictions", [grant(1, 0, 9)], [end(1, 9, "sold")]),
    ("contradictions", [grant(1, 0, 9)], [end(1, 1, "sold"), end(1, 2, "released")]),
    ("contradictions", [grant(1, 0, 9)], [end(1, 1, "sold", "A2")]),
    ("contradictions", [grant(1, 0, 0)], []),
    ("contradictions", [grant(1, 0, 9, slot=3)], []),
]


@pytest.mark.parametrize(("name", "grants", "ends"), SOUND, ids=[case[0] for case in SOUND])
def test_the_judge_accuses_nobody_of_what_can_be(name, grants, ends) -> None:
    assert judge(Told(grants, ends), {"L1": 2}) == {
        "double_holds": [],
        "double_sales": [],
        "contradictions": [],
    }


@pytest.mark.parametrize(("offence", "grants", "ends"), FALSE)
def test_the_judge_sees_what_cannot_be(offence: str, grants, ends) -> None:
    assert judge(Told(grants, ends), {"L1": 2})[offence]


def test_spans_that_only_touch_do_not_overlap() -> None:
    assert most_at_once([(0, 5), (5, 9), (2, 2)]) == 1
    assert most_at_once([(0, 5), (4, 9), (4, 6)]) == 3
