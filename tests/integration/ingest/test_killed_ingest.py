"""Killed at any point, a run goes on where it stood and ends as one that was not killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select

from aiqleads.errors import InvalidInput
from aiqleads.ingest import aggregate, batches
from aiqleads.ingest.aggregate import IngestReport, ingest
from aiqleads.ingest.market import Market, load_market
from aiqleads.settings import Settings
from aiqleads.store.database import open_room
from aiqleads.store.frames import read_frame
from aiqleads.store.tables import batch, leads_metadata, submission
from aiqleads.store.vault import Vault

NOW_US = 1_700_000_000_000_000
CHUNK = 150
#: what is sealed under random nonces
SEALED = {"contact", "value", "row", "kept_at"}

# Runs an ingest that is killed at the n-th call of a function of the intake.
_CHILD = """
import os, signal, sys
from pathlib import Path
from aiqleads.ingest import aggregate, batches, chunks
from aiqleads.ingest.market import load_market
from aiqleads.settings import Settings

home, feed, where, at, size, now = sys.argv[1:]
aggregate.CHUNK_ROWS = int(size)
module, name = where.split(":")
module = {"aggregate": aggregate, "batches": batches, "chunks": chunks}[module]
real, left = getattr(module, name), [int(at)]

def counted(*given, **named):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **named)

setattr(module, name, counted)
settings = Settings(home=Path(home))
market = load_market("lucas", settings)
aggregate.ingest(settings, "sales_csv", [Path(feed)], market, now_us=int(now))
"""


def _store(home: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the room, contacts opened, and every frame."""
    engine, vault = open_room(home, "leads"), Vault.open(home)
    made: dict[str, list[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        for table in leads_metadata.sorted_tables:
            columns = [each for each in table.columns if each.name not in SEALED]
            rows = connection.execute(select(*columns).order_by(*table.primary_key.columns))
            made[table.name] = [tuple(row) for row in rows]
        sent = select(submission.c.key_id, submission.c.submission_id, submission.c.contact)
        rows = list(connection.execute(sent.order_by(submission.c.submission_id)))
    names = [row.submission_id for row in rows]
    opened = vault.unseal([row.key_id for row in rows], names, [row.contact for row in rows])
    made["contacts"] = [(text,) for text in opened]
    # Matching goes by keyed digests, and every home has keys of its own.
    made["match_key"] = [(who,) for _, who in made["match_key"]]
    for name in ("leads", "submissions", "sales"):
        frame = read_frame(home, "lucas", name)
        made[f"frame {name}"] = list(frame.astype(str).itertuples(index=False, name=None))
    vault.close()
    engine.dispose()
    return made


def _ingest(home: Settings, market: Market, path: Path) -> IngestReport:
    return ingest(home, "sales_csv", [path], market, now_us=NOW_US)


@pytest.fixture
def keyed(tmp_path: Path) -> Settings:
    """A home that shares its two keys with others."""
    home = Settings(home=tmp_path / "clean")
    Vault.open(home).close()
    return home


def _with_keys_of(home: Settings, other: Path) -> Settings:
    made = Settings(home=other)
    shutil.copytree(home.data / "keys", made.data / "keys")
    return made


@pytest.mark.slow
def test_a_killed_run_ends_as_a_clean_one(
    keyed: Settings, feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "CHUNK_ROWS", CHUNK)
    market = load_market("lucas", keyed)
    report = _ingest(keyed, market, feed)
    clean = _store(keyed)
    kills = ("chunks:count 3", "batches:store_frame 2")  # tests/soak kills at random times
    for number, kill in enumerate(kills):
        home = _with_keys_of(keyed, tmp_path / f"killed{number}")
        where, at = kill.split()
        child = subprocess.run(
            [
                sys.executable,
                "-c",
                _CHILD,
                str(home.home),
                feed,
                where,
                at,
                str(CHUNK),
                str(NOW_US),
            ],
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert child.returncode == -signal.SIGKILL
        again = _ingest(home, market, feed)
        assert (again.rows_read, again.accepted) == (report.rows_read, report.accepted)
        assert _store(home) == clean, kill


def test_chunks_make_the_same_store_as_the_whole(
    keyed: Settings, feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = load_market("lucas", keyed)
    _ingest(keyed, market, feed)
    other = _with_keys_of(keyed, tmp_path / "parts")
    monkeypatch.setattr(aggregate, "CHUNK_ROWS", CHUNK)
    report = _ingest(other, market, feed)
    assert report.rows_read == 600
    one, two = _store(keyed), _store(other)
    for name in ("lead", "sale", "consent", "contacts", "batch", "frame leads", "frame sales"):
        assert one[name] == two[name], name


def test_a_payload_that_breaks_in_the_middle_leaves_a_stopped_batch(
    home: Settings, lucas: Market, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "CHUNK_ROWS", CHUNK)
    whole = feed.read_bytes()
    lines = whole.splitlines(keepends=True)
    feed.write_bytes(b"".join([*lines[:400], b'"never closed,1,2\n']))
    for _ in range(2):
        with pytest.raises(InvalidInput):
            _ingest(home, lucas, feed)
        with open_room(home, "leads").connect() as connection:
            rows = list(connection.execute(select(batch.c.state, batch.c.rows_read)))
        assert {state for state, _ in rows} == {"stopped"}
        assert max(read for _, read in rows) == 300
    assert len(read_frame(home, "lucas", "sales")) > 0


def test_what_a_killed_run_left_behind_is_known_by_name(home: Settings, lucas: Market) -> None:
    folder = home.data / "core" / "lucas"
    folder.mkdir(parents=True)
    batches.Unfinished(home, "lucas").add(["b-1"], ["sales"])
    left = batches.Unfinished(home, "lucas")
    assert left.before == {"b-1"}
    assert left.frames == ["sales"]
    left.add(["b-2"], ["leads", "sales"])
    kept = json.loads((folder / "unfinished.json").read_text())
    assert kept == {"batches": ["b-1", "b-2"], "frames": ["sales", "leads"]}


def test_frames_of_a_killed_run_are_made_by_the_next_of_any_feed(
    home: Settings, lucas: Market, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(batches, "store_frame", fail)
        with pytest.raises(KeyboardInterrupt):
            _ingest(home, lucas, feed)
    assert not (home.data / "core" / "lucas" / "sales.parquet").exists()
    index = feed.with_name("hpi.csv")
    index.write_text('MSA,geocode,year,q,hpi,chg\n"Toledo, OH",45780,2015,1,100.0,-\n')
    ingest(home, "fhfa", [index], lucas, now_us=NOW_US)
    assert isinstance(read_frame(home, "lucas", "sales"), pd.DataFrame)
    assert not (home.data / "core" / "lucas" / "unfinished.json").exists()
