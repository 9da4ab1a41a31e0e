"""The quick look over a contract's columns misses nothing that pandera would find."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandera.pandas as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from aiqleads.contracts.promise import Promise, failures, schema

PROMISES = (
    Promise("key", "str", "", "row", "Key.", True, longest=3),
    Promise("kind", "str", "", "row", "Kind.", among=("a", "b")),
    Promise("size", "float64", "m", "row", "Size.", True, 0, 10),
    Promise("least", "float64", "m", "row", "Least.", low=1),
    Promise("most", "int64", "m", "row", "Most.", True, high=5),
)
TEXTS = st.one_of(st.none(), st.just(float("nan")), st.text("abc", max_size=5))
NUMBERS = st.one_of(st.just(np.nan), st.floats(-3, 13), st.just(np.inf))


def _small(rows: pd.DataFrame) -> pd.Series:
    return rows["size"].fillna(0) + rows["most"] < 12


@settings(deadline=None, max_examples=60)
@given(
    data_frames(
        [
            column("key", elements=TEXTS, dtype=object),
            column("kind", elements=TEXTS, dtype=object),
            column("size", elements=NUMBERS, dtype=float),
            column("least", elements=NUMBERS, dtype=float),
            column("most", elements=st.integers(0, 9), dtype="int64"),
        ],
        index=range_indexes(min_size=1, max_size=12),
    ),
    st.booleans(),
)
def test_the_quick_look_finds_what_pandera_finds(frame: pd.DataFrame, unique: bool) -> None:
    checks = [pa.Check(_small, error="size: small", ignore_na=False)]
    quick = schema(PROMISES, checks, "most" if unique else None)
    slow = schema(PROMISES, checks, "most" if unique else None)
    slow.metadata = None
    found, wanted = (
        sorted(failures(frame, each).astype({"index": float}).itertuples(index=False, name=None))
        for each in (quick, slow)
    )
    assert found == wanted
