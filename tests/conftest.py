"""Fixtures that every test may use."""

from __future__ import annotations

import os
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from aiqleads.settings import Settings

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings whose data, runs and reports live in a directory of this test alone."""
    return Settings(home=tmp_path)


@pytest.fixture(scope="session")
def serving_world() -> dict[str, Any]:
    """What builds a small synthetic market to serve from: see serving_world.py."""
    return runpy.run_path(str(Path(__file__).with_name("serving_world.py")))


@pytest.fixture(scope="session")
def _served_template(
    serving_world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    home = tmp_path_factory.mktemp("served")
    serving_world["build"](home)
    return home


@pytest.fixture
def served(_served_template: Path, tmp_path: Path) -> Settings:
    """Settings of a home that can be served: rooms, a snapshot, agents, `scorer/`."""
    shutil.copytree(_served_template, tmp_path / "served")
    return Settings(home=tmp_path / "served")
