from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.ingest.market import Market
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.leads_csv import SOURCE

Read = Callable[..., Parsed]
Make = Callable[[str], Market]
LEADS = Path(__file__).resolve().parents[4] / "shared" / "data" / "leads"
TOML = """
name = "town"
title = "A town"
timezone = "America/New_York"
[people]
answers = ["why", "when"]
[people.columns]
key = "id"
received = "at"
intent = "wants"
name = ["first", "last"]
email = "mail"
phone = "tel"
zip = "post"
price = "budget"
lon = "x"
lat = "y"
[people.values.intent]
buying = "buy"
selling = "sell"
"""
HEADER = "id,at,wants,first,last,mail,tel,post,budget,x,y,why,when\n"
ANN = (
    "1,2024-05-01T10:00:00-04:00,selling,Ann,Example,ann@example.com,212-555-0101,43604,350000,,,"
    "new job,soon\n"
)
BOB = "2,2024-05-01 10:00,buying,Bob,,,212-555-0102,,,-83.6,41.6,,\n"
CONSENT = {"text": "Agents may call me.", "version": "v1", "sellers": 2}


@pytest.fixture
def town(make_market: Make) -> Market:
    return make_market(TOML)


def test_enquiries_come_in_the_contract_s_columns(read_table: Read, town: Market) -> None:
    read = read_table(SOURCE, HEADER + ANN + BOB, town, consent=CONSENT)
    assert read.problems.empty
    ann, bob = read.rows.loc[1], read.rows.loc[2]
    assert (ann["intent"], ann["name"], bob["intent"]) == ("sell", "Ann Example", "buy")
    assert ann["received_us"] == bob["received_us"] == 1_714_572_000_000_000
    assert ann["ask_price_cents"] == 35_000_000
    assert (ann["place_precision"], bob["place_precision"]) == ("none", "point")
    assert json.loads(str(ann["answers"])) == {"why": "new job", "when": "soon"}
    assert json.loads(str(bob["answers"])) == {}
    assert bob["name"] == "Bob"
    assert not read.rows["test"].any()


def test_consent_is_the_feed_file_s_where_a_row_has_none(read_table: Read, town: Market) -> None:
    rows = read_table(SOURCE, HEADER + ANN, town, consent=CONSENT).rows
    assert rows.at[1, "consent_text"] == "Agents may call me."
    assert rows.at[1, "consent_sellers"] == 2
    assert rows["consent_us"].tolist() == rows["received_us"].tolist()
    assert read_table(SOURCE, HEADER + ANN, town).rows["consent_text"].isna().all()


def test_consent_of_the_row_itself_stays(read_table: Read, make_market: Make) -> None:
    own = 'consent_text = "agreed"\nconsented = "agreed at"\nconsent_sellers = "to"\n'
    market = make_market(TOML.replace("[people.values", own + "[people.values"))
    header = HEADER.replace("\n", ",agreed,agreed at,to\n")
    with_own = ANN.replace("\n", ",My own words.,2024-05-02T00:00:00Z,1\n")
    rows = read_table(
        SOURCE, header + with_own + BOB.replace("\n", ",,,\n"), market, consent=CONSENT
    )
    ann, bob = rows.rows.loc[1], rows.rows.loc[2]
    assert (ann["consent_text"], ann["consent_sellers"]) == ("My own words.", 1)
    assert ann["consent_us"] == 1_714_608_000_000_000
    assert ann["consent_version"] is None  # the feed file's words are not this row's
    assert (bob["consent_text"], bob["consent_version"]) == ("Agents may call me.", "v1")


def test_the_feed_file_says_the_intent_where_a_row_does_not(read_table: Read, town: Market) -> None:
    silent = ANN.replace("selling", "")
    assert read_table(SOURCE, HEADER + silent, town, intent="buy").rows.at[1, "intent"] == "buy"
    broken = read_table(SOURCE, HEADER + silent, town).problems
    assert broken["rule"].tolist() == ["intent: present"]


def test_who_cannot_be_reached_is_refused_unless_for_analysis(
    read_table: Read, make_market: Make, town: Market
) -> None:
    mute = ANN.replace("ann@example.com", "").replace("212-555-0101", "")
    said = read_table(SOURCE, HEADER + mute, town).problems["rule"].tolist()
    assert said == ["email: an e-mail or a phone number that can be used"]
    analysed = make_market(TOML.replace("[people]", '[people]\nrights = "analyse"'))
    read = read_table(SOURCE, HEADER + mute, analysed, consent=CONSENT)
    assert read.problems.empty
    assert read.rows["consent_text"].isna().all()


def test_a_table_without_its_columns_is_refused(read_table: Read, town: Market) -> None:
    with pytest.raises(ContractBroken, match=r"'why' \(our answers\)"):
        read_table(SOURCE, HEADER.replace("why", "cause") + ANN, town)
    with pytest.raises(ContractBroken, match=r"'mail' \(our email\)"):
        read_table(SOURCE, HEADER.replace("mail", "post box") + ANN, town)


def test_a_market_without_the_section_is_refused(read_table: Read, tiny: Market) -> None:
    with pytest.raises(InvalidInput, match=r"tiny has no \[people\]"):
        read_table(SOURCE, HEADER + ANN, tiny)


def test_a_workbook_reads_like_text(
    read_table: Read, make_market: Make, workbook: Callable[[pd.DataFrame], Path]
) -> None:
    table = pd.DataFrame({"id": [7.0, 8.0], "wants": ["buying", "Select"], "why": ["Select", "x"]})
    text = TOML[: TOML.index("received")] + 'intent = "wants"\n[people.values.intent]\n'
    market = make_market(
        text.replace('["why", "when"]', '["why"]\nnothing = ["Select"]\nrights = "analyse"')
        + 'buying = "buy"\n'
    )
    read = read_table(SOURCE, workbook(table), market)
    assert read.rows["key"].tolist() == ["7"]
    assert json.loads(str(read.rows.at[1, "answers"])) == {}
    assert read.problems["rule"].tolist() == ["intent: present"]


@pytest.mark.shared_data
def test_real_leads_of_a_school(read_table: Read, named_market: Make) -> None:
    read = read_table(
        SOURCE, LEADS / "x_education_leads.xlsx_named_csv", named_market("x_education")
    )
    assert read.problems.empty
    assert len(read.rows) == read.rows["key"].nunique() == 9_240
    assert not read.rows["answers"].str.contains('"Select"').any()
    assert not read.rows["city"].eq("Select").any()
    assert read.rows[["name", "email", "phone", "consent_text"]].isna().all(axis=None)
    converted = read.rows["answers"].map(lambda said: json.loads(said)["Converted"])
    assert converted.value_counts().to_dict() == {"0": 5_679, "1": 3_561}
