"""Fixtures that every test may use."""

from __future__ import annotations

import os
import resource
import runpy
import shutil
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aiqleads.settings import Settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
# One process runs hundreds of tests with their databases; many systems start it with 1,024.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
_files = 20_000 if _most == resource.RLIM_INFINITY else _most
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _most))
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what reads the shared data where that folder is absent."""
    if SHARED_DATA.is_dir():
        return
    absent = [item for item in items if item.get_closest_marker("shared_data")]
    items[:] = [item for item in items if item not in absent]
    config.hook.pytest_deselected(items=absent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skip is a failure: there, everything that a test needs is installed."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI counts as a failure: {report.longrepr}"
    return report


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings whose data, runs and reports live in a directory of this test alone."""
    return Settings(home=tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Generator[Any]:
    """A PostgreSQL server of this session alone, see private_postgres.py."""
    made = runpy.run_path(str(Path(__file__).with_name("private_postgres.py")))
    with ExitStack() as stack:
        try:
            yield stack.enter_context(made["server"]())
        except made["Missing"] as missing:
            pytest.skip(str(missing))


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
