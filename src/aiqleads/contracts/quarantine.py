"""Rows that broke the contract, kept whole with the reason, so that none is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from xml.etree import ElementTree

import pandas as pd

_RULE, _COLUMN = 120, 60


@dataclass(frozen=True)
class Reject:
    """One row of a payload and one rule that it broke.

    row_number: 1 is the payload's first record. row: the record as it was given, as text.
    value: what stood in the column, None for nothing. All of it may be about a person.
    """

    row_number: int
    column: str
    rule: str
    value: str | None
    row: str


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


def record_text(record: Any) -> str:
    """A record of a tree as text: JSON, XML, a mail or a page."""
    if isinstance(record, str):
        return record
    if isinstance(record, Message):
        return record.as_bytes().decode("utf-8", "replace")
    if isinstance(record, ElementTree.Element):
        return ElementTree.tostring(record, encoding="unicode")
    return json.dumps(record, ensure_ascii=False, default=str)


def rejects(problems: pd.DataFrame, given: pd.DataFrame, record: str = "record") -> list[Reject]:
    """Rejects in the order of the payload; a row breaks each rule once.

    problems: columns index, column, rule, value. given: the payload's rows as they were,
    with the row number as index; record: the only column of trees.
    """
    wanted = given.loc[sorted(problems["index"].unique())]
    if list(given.columns) == [record]:
        texts = [record_text(each) for each in wanted[record]]
    else:
        texts = [row_json(row) for row in wanted.to_dict("records")]
    rows = dict(zip(wanted.index.tolist(), texts, strict=True))
    found: dict[tuple[int, str], Reject] = {}
    columns = problems[["index", "column", "rule", "value"]]
    for number, column, rule, value in columns.itertuples(index=False, name=None):
        said = str(rule)[:_RULE]
        found.setdefault(
            (int(number), said),
            Reject(int(number), str(column)[:_COLUMN], said, _said(value), rows[number]),
        )
    return [found[key] for key in sorted(found)]


def _said(value: Any) -> str | None:
    plain = _plain(value)
    return None if plain is None else str(plain)
