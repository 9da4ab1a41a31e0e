from __future__ import annotations

import hashlib
import runpy
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "data" / "sample"
CSV = ROOT.parent / "shared" / "data" / "sales" / "lucas_house_sales.csv.gz"


def test_the_sample_is_small_and_the_one_that_its_readme_describes() -> None:
    body = (FOLDER / "lucas_sales.parquet").read_bytes()
    assert len(body) < 2_000_000
    readme = (FOLDER / "README.md").read_text()
    assert hashlib.sha256(body).hexdigest() in readme
    table = pd.read_parquet(FOLDER / "lucas_sales.parquet")
    assert f"{len(table):,} sales" in readme
    assert all(f"`{name}`" in readme or name.startswith("s199") for name in table.columns)


@pytest.mark.shared_data
def test_the_script_makes_the_sample(tmp_path: Path) -> None:
    made = tmp_path / "made.parquet"
    digest = runpy.run_path(str(FOLDER / "make_sample.py"))["make"](CSV, made)
    assert digest == hashlib.sha256(made.read_bytes()).hexdigest()
    pd.testing.assert_frame_equal(
        pd.read_parquet(made), pd.read_parquet(FOLDER / "lucas_sales.parquet")
    )
