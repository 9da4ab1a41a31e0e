from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd

from aiqleads.contracts.quarantine import rejects


def _problems(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["index", "column", "rule", "value"])


def test_a_reject_keeps_the_whole_row_and_says_where_it_was() -> None:
    given = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[1, 2])
    columns = ["index", "column", "rule", "value"]
    problems = pd.DataFrame(
        [(2, "b", "b: present", None), (1, "a", "a: odd", 1.5)], columns=columns
    )
    first, second = rejects(problems, given)
    assert (first.row_number, first.column, first.rule, first.value) == (1, "a", "a: odd", "1.5")
    assert (second.row_number, second.value) == (2, None)
    assert json.loads(second.row_json) == {"a": 2, "b": None}
    assert first.row_hash == hashlib.sha256(first.row_json.encode()).hexdigest()


def test_what_json_does_not_know_is_written_as_text() -> None:
    given = pd.DataFrame({"day": [pd.Timestamp("1996-04-23")], "fields": [["a", "b"]]}, index=[1])
    problems = pd.DataFrame(
        [(1, "day", "rule", None)], columns=["index", "column", "rule", "value"]
    )
    (only,) = rejects(problems, given)
    assert json.loads(only.row_json) == {"day": "1996-04-23 00:00:00", "fields": ["a", "b"]}


def test_lists_and_structs_of_a_parquet_file_are_kept() -> None:
    given = pd.DataFrame({"sizes": [np.array([1, 2])], "at": [{"x": 1.5}]}, index=[1])
    (only,) = rejects(_problems((1, "at", "rule", None)), given)
    assert json.loads(only.row_json) == {"sizes": [1, 2], "at": {"x": 1.5}}
