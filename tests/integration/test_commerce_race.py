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
