"""The invented town of the browser tests."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def town() -> dict[str, Any]:
    """What builds the town: see tests/browser/town.py."""
    return runpy.run_path(str(Path(__file__).resolve().parents[2] / "browser" / "town.py"))
