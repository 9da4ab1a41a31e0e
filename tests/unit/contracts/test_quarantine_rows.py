from __future__ import annotations

import json
from email.message import EmailMessage
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from aiqleads.contracts.quarantine import record_text, rejects


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
    assert json.loads(second.row) == {"a": 2, "b": None}


def test_what_json_does_not_know_is_written_as_text() -> None:
    given = pd.DataFrame({"day": [pd.Timestamp("1996-04-23")], "fields": [["a", "b"]]}, index=[1])
    problems = pd.DataFrame(
        [(1, "day", "rule", None)], columns=["index", "column", "rule", "value"]
    )
    (only,) = rejects(problems, given)
    assert json.loads(only.row) == {"day": "1996-04-23 00:00:00", "fields": ["a", "b"]}


def test_lists_and_structs_of_a_parquet_file_are_kept() -> None:
    given = pd.DataFrame({"sizes": [np.array([1, 2])], "at": [{"x": 1.5}]}, index=[1])
    (only,) = rejects(_problems((1, "at", "rule", None)), given)
    assert json.loads(only.row) == {"sizes": [1, 2], "at": {"x": 1.5}}


def test_a_record_of_a_tree_is_kept_as_it_was_written() -> None:
    given = pd.DataFrame({"record": [{"id": 7, "who": {"name": "Ada"}}]}, index=[4])
    (only,) = rejects(_problems((4, "key", "key: present", None)), given)
    assert json.loads(only.row) == {"id": 7, "who": {"name": "Ada"}}
    mail = EmailMessage()
    mail["Subject"] = "New lead"
    mail.set_content("Name: Ada")
    assert "Name: Ada" in record_text(mail)
    assert record_text(ElementTree.fromstring("<adf><id>1</id></adf>")) == "<adf><id>1</id></adf>"
    assert record_text("<html>") == "<html>"


def test_a_rule_that_a_row_breaks_twice_is_told_once() -> None:
    given = pd.DataFrame({"a": [1]}, index=[1])
    long = "a: " + "x" * 200
    found = rejects(_problems((1, "a", long, [1, 2]), (1, "a", long, None)), given)
    assert [(len(each.rule), each.value) for each in found] == [(120, "[1, 2]")]
