from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.errors import ContractBroken
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.meta_leads_csv import SOURCE

Read = Callable[..., Parsed]
FILE = Path(__file__).resolve().parents[2] / "data" / "feeds" / "meta_leads_csv" / "leads.csv"
AGREED = {"text": "Agents may call me.", "version": "2026-01", "sellers": 3}
FORMS = {"444": {"intent": "buy", "consent": AGREED}}


def _with(old: str, new: str) -> bytes:
    return FILE.read_bytes().decode("utf-16").replace(old, new).encode("utf-16")


def test_a_row_is_a_submission_with_its_consent(read_leads: Read) -> None:
    made = read_leads(SOURCE, FILE, forms=FORMS)
    assert made.problems.empty
    row = made.rows.loc[1]
    assert (row["key"], row["intent"], row["name"]) == ("1234567890123456", "buy", "Ada Reed")
    assert (row["email"], row["phone"]) == ("ada.reed@example.com", "+14195550142")
    assert (row["address"], row["city"], row["state"]) == ("812 Oak St", "Toledo", "OH")
    assert (row["zip"], row["place_precision"]) == ("43604", "zip")
    assert row["ask_price_cents"] == 400_000_00
    assert row["received_us"] == 1_772_460_900_000_000  # 14:15 UTC
    assert (row["consent_text"], row["consent_sellers"]) == ("Agents may call me.", 3)
    assert "1234567890123456" in row["consent_proof"]


def test_what_a_row_leaves_out_is_missing(read_leads: Read) -> None:
    row = read_leads(SOURCE, FILE, forms=FORMS).rows.loc[2]
    assert row[["phone", "address", "zip", "ask_price_cents"]].isna().all()
    assert (row["email"], row["place_precision"]) == ("bert.lark@example.com", "none")


def test_a_table_that_was_saved_as_csv_says_the_same(read_leads: Read) -> None:
    text = FILE.read_bytes().decode("utf-16").replace("\t", ",")
    ours = read_leads(SOURCE, FILE, forms=FORMS).rows
    assert read_leads(SOURCE, text.encode(), forms=FORMS).rows.equals(ours)


def test_a_test_lead_is_none(read_leads: Read) -> None:
    body = _with("Ada Reed", "<test lead: dummy data for full_name>")
    made = read_leads(SOURCE, body, forms=FORMS)
    assert made.problems[["index", "rule"]].values.tolist() == [[1, "test: a real submission"]]


def test_a_form_that_nobody_told_of_has_no_intent_and_no_consent(read_leads: Read) -> None:
    made = read_leads(SOURCE, FILE)
    assert made.problems["index"].tolist() == [1, 2]
    assert made.problems["column"].unique().tolist() == ["intent"]
    assert made.rows["consent_text"].isna().all()


def test_a_time_that_cannot_be_read_is_a_warning(read_leads: Read) -> None:
    made = read_leads(SOURCE, _with("2026-03-02T09:15:00-05:00", "last week"), forms=FORMS)
    assert made.problems.empty
    assert "time not readable" in made.rows.loc[1, "warnings"]


def test_a_row_with_other_fields_is_its_own_problem(read_leads: Read) -> None:
    made = read_leads(SOURCE, _with("bert.lark@example.com\t", ""), forms=FORMS)
    assert made.problems["index"].unique().tolist() == [2]
    assert made.rows.loc[1, "name"] == "Ada Reed"


def test_a_table_without_its_ids_is_refused(read_leads: Read) -> None:
    with pytest.raises(ContractBroken, match="'id'"):
        read_leads(SOURCE, _with("id\tcreated", "lead\tcreated"), forms=FORMS)


def test_the_same_payload_again_gives_the_same_keys(read_leads: Read) -> None:
    first, again = (read_leads(SOURCE, FILE, forms=FORMS).rows["key"] for _ in range(2))
    assert first.equals(again)
    assert first.tolist() == ["1234567890123456", "1234567890123457"]


def test_an_answer_of_ones_own_stays_word_for_word(read_leads: Read) -> None:
    body = _with("what_is_your_budget", "anything_else?").decode("utf-16")
    for said in ("p:lease call after 5", "None"):
        made = read_leads(SOURCE, body.replace("$300k - $400k", said).encode(), forms=FORMS)
        assert json.loads(made.rows.loc[1, "answers"])["anything_else?"] == said
