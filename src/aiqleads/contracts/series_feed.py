"""The contract of a feed of market series, in long form.

Grain: one row is one metric of one region in one period; a row of the payload gives as
many of them as it has filled metrics or months.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandera.pandas as pa

from aiqleads.contracts.promise import Promise, schema

CONTRACT_VERSION = "series_feed 1"

_POINT = "metric, region, period"
PROMISES: tuple[Promise, ...] = (
    Promise("region_type", "str", "", _POINT, "country, state, metro, county, zip, ..", True),
    Promise("region", "str", "", _POINT, "The region's name, as the source has it.", True),
    Promise("metric", "str", "", _POINT, "What is measured, in our words.", True, longest=60),
    Promise("period", "datetime64[ns]", "day", _POINT, "First day of the period.", True),
    Promise(
        "frequency",
        "str",
        "",
        _POINT,
        "Length of the period.",
        True,
        among=("week", "month", "quarter", "year"),
    ),
    Promise("value", "float64", "as `unit` says", _POINT, "The figure.", True),
    Promise(
        "unit",
        "str",
        "",
        _POINT,
        "Unit of the value.",
        True,
        among=("usd", "homes", "days", "share", "index", "usd_per_sqft", "sqft", "months", "ratio"),
    ),
)


def feed_schema() -> pa.DataFrameSchema:
    """The promises; a value is finite."""

    def finite(rows: pd.DataFrame) -> pd.Series:
        return pd.Series(np.isfinite(rows["value"]), rows.index)

    return schema(PROMISES, [pa.Check(finite, error="value: a finite number", ignore_na=False)])
