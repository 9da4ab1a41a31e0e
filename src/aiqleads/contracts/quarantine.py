"""Rows that broke the contract, kept whole with the reason, so that none is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Reject:
    """One row of a payload and one rule that it broke.

    row_number: 1 is the first row below the header. row_json: the row as it was given.
    row_hash: SHA-256 of row_json. value: what stood in the column, None for nothing.
    """

    row_number: int
    column: str
    rule: str
    value: str | None
    row_json: str
    row_hash: str


def _plain(value: Any) -> Any:
    if not pd.api.types.is_scalar(value):  # a list or a struct, as Parquet may hold
        return value.tolist() if hasattr(value, "tolist") else value
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def row_json(row: Mapping[Any, Any]) -> str:
    """A row as JSON: missing values are null, what JSON does not know is its text."""
    plain = {str(name): _plain(value) for name, value in row.items()}
    return json.dumps(plain, ensure_ascii=False, default=str)


def rejects(problems: pd.DataFrame, given: pd.DataFrame) -> list[Reject]:
    """Rejects in the order of the payload.

    problems: columns index, column, rule, value. given: the payload's rows as they were,
    with the row number as index.
    """
    wanted = given.loc[sorted(problems["index"].unique())]
    numbers = wanted.index.tolist()
    rows = {
        number: row_json(row)
        for number, row in zip(numbers, wanted.to_dict("records"), strict=True)
    }
    found = [
        Reject(
            row_number=int(number),
            column=str(column),
            rule=str(rule),
            value=None if pd.isna(value) else str(value),
            row_json=rows[number],
            row_hash=hashlib.sha256(rows[number].encode()).hexdigest(),
        )
        for number, column, rule, value in problems[
            ["index", "column", "rule", "value"]
        ].itertuples(index=False)
    ]
    return sorted(found, key=lambda each: (each.row_number, each.rule))
