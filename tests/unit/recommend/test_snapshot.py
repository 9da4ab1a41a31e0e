from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiqleads.errors import NotReady, UnknownName
from aiqleads.recommend import snapshot as snapshots
from aiqleads.recommend.snapshot import Shelf, Snapshot
from aiqleads.settings import Settings

SECOND_US = 1_000_000


@pytest.fixture
def facts(serving_world: dict[str, Any]) -> dict[str, Any]:
    return serving_world["_facts"](np.random.default_rng(3), 60)


def test_nothing_published_says_how_to_publish(home: Settings) -> None:
    with pytest.raises(NotReady, match="aiqleads publish"):
        Snapshot.load(home)


def test_columns_come_back_as_published(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    version = serving_world["publish"](home, facts)
    snapshot = Snapshot.load(home)
    assert snapshot.version == version
    assert (snapshot.manifest.leads, snapshot.manifest.agents) == (60, 6)
    for i, name in enumerate(facts["lead_id"]):
        row = snapshot.lead_row(name.decode())
        assert snapshot.lead_id(row) == name.decode()
        assert snapshot.columns["ask_price_cents"][row] == facts["ask_price_cents"][i]
        assert snapshot.columns["shown_cell"][row] == facts["shown_cell"][i]
    assert snapshot.columns["lead_features"].flags.f_contiguous
    assert snapshot.columns["lead_features"].dtype == np.float32


def test_leads_are_found_by_cell(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    serving_world["publish"](home, facts)
    snapshot = Snapshot.load(home)
    wanted = np.unique(facts["cell"])[:3]
    absent = np.array([1, 613196571542224895, 2**62], dtype=np.int64)
    rows = snapshot.rows_in(np.concatenate([absent, wanted]))
    found = {snapshot.lead_id(row) for row in rows.tolist()}
    expected = {
        name.decode()
        for name, cell in zip(facts["lead_id"], facts["cell"], strict=True)
        if cell in wanted
    }
    assert found == expected
    assert len(rows) == len(set(rows.tolist()))
    assert len(snapshot.rows_in(absent)) == 0


def test_rings_are_disjoint_and_complete(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    h3 = serving_world["h3"]
    serving_world["publish"](home, facts)
    snapshot = Snapshot.load(home)
    agent = snapshot.agent("A0001")
    rings = [set(snapshot.ring(agent, distance).tolist()) for distance in range(4)]
    middle = h3.latlng_to_cell(serving_world["CENTRE"][1], serving_world["CENTRE"][0], 8)
    assert sum(map(len, rings)) == len(set.union(*rings))
    assert set.union(*rings) == set(h3.grid_disk(middle, 4))


def test_history_is_zero_but_for_the_pairs(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    serving_world["publish"](home, facts)
    snapshot = Snapshot.load(home)
    ids = facts["lead_id"]
    rows = np.array([snapshot.lead_row(ids[i].decode()) for i in (2, 5, 7)])
    own = snapshot.history(snapshot.agent("A0001"), rows)
    assert own["own_shown"].tolist() == [2, 1, 0]
    assert own["own_views"].tolist() == [1, 0, 0]
    assert snapshot.history(snapshot.agent("A0002"), rows)["own_holds"].tolist() == [1, 0, 0]
    assert not np.stack(list(snapshot.history(snapshot.agent("A0003"), rows).values())).any()


def test_unknown_names(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    serving_world["publish"](home, facts)
    snapshot = Snapshot.load(home)
    for name in ("", "A0000", "A9999"):
        with pytest.raises(UnknownName):
            snapshot.agent(name)
    for name in ("", "L", "L99999", "zz"):
        with pytest.raises(UnknownName):
            snapshot.lead_row(name)


def test_the_market_clock_stands_or_runs(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    serving_world["publish"](home, facts)
    assert Snapshot.load(home).market_now_us(5) == serving_world["AS_OF_US"]
    serving_world["publish"](home, facts, clock="wall")
    assert Snapshot.load(home).market_now_us(5) == 5


def test_the_same_content_is_the_same_version(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    first = serving_world["publish"](home, facts)
    made = (snapshots.directory(home) / first / "manifest.json").stat().st_mtime_ns
    assert serving_world["publish"](home, facts) == first
    assert (snapshots.directory(home) / first / "manifest.json").stat().st_mtime_ns == made
    assert serving_world["publish"](home, facts, seed=12) != first


def test_workers_follow_the_pointer_within_the_interval(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    first = serving_world["publish"](home, facts)
    shelf = Shelf(home)
    assert shelf.snapshot(SECOND_US).version == first
    second = serving_world["publish"](home, facts, seed=12)
    assert shelf.snapshot(SECOND_US + 1).version == first, "not looked again yet"
    assert shelf.snapshot(2 * SECOND_US).version == second


def test_a_bad_version_leaves_the_one_before_in_force(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    first = serving_world["publish"](home, facts)
    refused: list[str] = []

    def only_first(snapshot: Snapshot) -> None:
        if snapshot.version != first:
            refused.append(snapshot.version)
            raise NotReady("no")

    shelf = Shelf(home, only_first)
    second = serving_world["publish"](home, facts, seed=12)
    assert shelf.snapshot(SECOND_US).version == first
    assert shelf.snapshot(3 * SECOND_US).version == first
    assert refused == [second], "a refused version is not loaded again and again"
    (snapshots.directory(home) / "current").write_text("gone")
    assert shelf.snapshot(5 * SECOND_US).version == first
    (snapshots.directory(home) / "current").unlink()
    assert shelf.snapshot(7 * SECOND_US).version == first


def test_a_crash_in_the_middle_changes_nothing(
    home: Settings,
    serving_world: dict[str, Any],
    facts: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = serving_world["publish"](home, facts)
    steps = 0

    def count(_descriptor: int) -> None:
        nonlocal steps
        steps += 1

    monkeypatch.setattr(snapshots, "_sync", count)
    serving_world["publish"](home, facts, seed=12)
    total = steps
    for crash_at in range(1, total, 4):
        shutil.rmtree(snapshots.directory(home))
        monkeypatch.setattr(snapshots, "_sync", lambda _descriptor: None)
        serving_world["publish"](home, facts)
        steps = 0

        def crash(_descriptor: int, at: int = crash_at) -> None:
            nonlocal steps
            steps += 1
            if steps == at:
                raise KeyboardInterrupt

        monkeypatch.setattr(snapshots, "_sync", crash)
        with pytest.raises(KeyboardInterrupt):
            serving_world["publish"](home, facts, seed=12)
        current = Snapshot.load(home)
        assert current.manifest.leads == 60
        monkeypatch.setattr(snapshots, "_sync", lambda _descriptor: None)
        again = serving_world["publish"](home, facts, seed=12)
        assert Snapshot.load(home).version == again != first


def test_old_versions_are_pruned_but_never_the_current_one(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any]
) -> None:
    first = serving_world["publish"](home, facts, seed=1)
    open_before = Snapshot.load(home)
    versions = [serving_world["publish"](home, facts, seed=seed) for seed in range(2, 6)]
    assert serving_world["publish"](home, facts, seed=1) == first
    gone = snapshots.prune(home, keep=2)
    assert first not in gone
    assert sorted(gone) == sorted(versions[:2])
    assert Snapshot.load(home).version == first
    assert open_before.lead_row(facts["lead_id"][0].decode()) >= 0


def test_a_damaged_directory_is_not_ready(
    home: Settings, serving_world: dict[str, Any], facts: dict[str, Any], tmp_path: Path
) -> None:
    version = serving_world["publish"](home, facts)
    path = snapshots.directory(home) / version
    (path / "lead_id.npy").write_bytes(b"no array")
    with pytest.raises(NotReady, match="publish it again"):
        Snapshot.open(path)
    with pytest.raises(NotReady):
        Snapshot.open(tmp_path)
