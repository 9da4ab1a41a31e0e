"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiqleads.settings import Settings

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings whose data, runs and reports live in a directory of this test alone."""
    return Settings(home=tmp_path)
