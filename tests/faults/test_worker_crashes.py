"""The worker is killed with SIGKILL: nothing that was answered 202 is lost or taken twice."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiqleads.ingest.market import load_market, remember_market
from aiqleads.settings import Settings
from aiqleads.store import inbox
from aiqleads.store.vault import Vault

HERE = Path(__file__).parent
LIVE = runpy.run_path(str(HERE.parent / "live_market.py"))
TOWN = """
name = "live"
title = "A town without sales"
timezone = "America/New_York"
crs = "EPSG:32617"
"""
COMMAND = "import sys; from aiqleads.cli import main; sys.argv[0] = 'aiqleads'; main()"


@pytest.fixture
def town(home: Settings) -> Settings:
    home.data.mkdir(parents=True)
    file = home.home / "town.toml"
    file.write_text(TOWN)
    remember_market(home, load_market(file, home))
    home.feeds_file.write_text(LIVE["feeds"]())
    return home


def put(settings: Settings, *numbers: int) -> None:
    vault = Vault.open(settings)
    for number in numbers:
        body = LIVE["google_lead"](number)
        name = f"push-{number}"
        inbox.put(vault, inbox.Push("google_leads", name, "live", 1_000 + number, "", body))
    vault.close()


def start(settings: Settings, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "work", *words],
        env={**os.environ, "AIQLEADS_HOME": str(settings.home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def column(settings: Settings, room: str, query: str) -> list[str]:
    file = settings.data / f"{room}.db"
    if not file.is_file():
        return []
    with sqlite3.connect(file) as connection:
        return [str(row[0]) for row in connection.execute(query)]


def test_killed_before_any_commit_the_next_worker_ends_with_the_same_store(
    town: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    put(town, 1, 2)
    vault = Vault.open(town)
    inbox.put(vault, inbox.Push("google_leads", "test", "live", 5_000, "", b'{"is_test": true}'))
    vault.close()
    scratch = tmp_path_factory.mktemp("scratch")
    ran = subprocess.run(
        [sys.executable, HERE / "crashing_worker.py", town.home, scratch, "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["killed"] == told["rounds"] - 1 >= 5
    assert (told["leads"], told["differing"], told["left"]) == (2, [], 0)


def test_a_worker_killed_again_and_again_takes_everything_in_once(town: Settings) -> None:
    draw = random.Random(11)
    for number in range(0, 12, 4):
        put(town, *range(number, number + 4))
        worker = start(town)
        # From before its first look at the inbox until it has parsed some of it.
        until = time.monotonic() + draw.uniform(2.0, 6.0)
        while time.monotonic() < until and worker.poll() is None:
            time.sleep(0.05)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    last = start(town, "--once")
    assert last.wait() in (0, 3)
    assert set(column(town, "vault", "select state from pushed")) == {"done"}
    keys = column(town, "leads", "select source_key from submission")
    assert sorted(keys) == sorted(f"push-{number}" for number in range(12))


def test_sigterm_ends_a_worker_after_its_step(town: Settings) -> None:
    put(town, 1)
    worker = start(town, "--interval", "0.1")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if column(town, "vault", "select state from pushed") == ["done"]:
            break
        time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert column(town, "vault", "select worker from heartbeat") == ["work"]
    assert column(town, "leads", "select source_key from lead") == ["push-1"]
