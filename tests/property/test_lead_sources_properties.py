"""No record makes a source of leads fail, and each record is a row of the contract."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from xml.etree.ElementTree import Element, SubElement

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.contracts.lead_feed import feed_schema
from aiqleads.contracts.promise import failures
from aiqleads.ingest.feeds import Feed, Options
from aiqleads.ingest.market import load_market
from aiqleads.ingest.people import clean
from aiqleads.ingest.source import Source
from aiqleads.ingest.sources import (
    adf,
    google_leads,
    ihomefinder,
    lead_email,
    linkedin_leads,
    meta_leads,
)
from aiqleads.settings import Settings

_FEED = Feed(
    load_market("lucas", Settings(home=Path("/nowhere"))),
    Options.model_validate(
        {
            "intent": "buy",
            "fields": {"agree": "consent_text", "1": "email"},
            "consent": {"text": "Yes.", "version": "1", "sellers": 1},
        }
    ),
)
_WORDS = (
    "id form_id field_data name values value entry changes leadgen_id custom_disclaimer_responses "
    "checkbox_key is_checked created_time user_column_data column_id string_value lead_id is_test "
    "lead_submit_time formResponse answers questionId answerDetails textQuestionAnswer answer "
    "multipleChoiceAnswer options consentResponses consentId accepted form content questions "
    "versionedLeadGenFormUrn submittedAt budget bedrooms email phone zip agree timeline"
)
_KEYS = st.one_of(st.sampled_from(_WORDS.split()), st.text(max_size=5))
_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "$300k-$400k",
            "3+",
            "asap",
            "yes",
            "rent",
            "a@example.com",
            "419-555-0123",
            "43604",
            "9" * 400,
        ]
    ),
)
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=20,
)
_TAGS = (
    "customer contact name phone email address street city requestdate vehicle price finance "
    "amount make timeframe description Contact Note Name First Email PhoneList Phone Number "
    "Address Zip ThisDataProvider Snapshot Date Time LeadSource"
)


def _element(given_: object, tag: str = "prospect") -> Element:
    made = Element(tag)

    def fill(node: Element, value: object) -> None:
        if isinstance(value, list):
            for name, inner in value:
                fill(SubElement(node, name, {"part": "first", "type": "total"}), inner)
        else:
            node.text = str(value)

    fill(made, given_)
    return made


_TREE = st.recursive(
    _TEXTS,
    lambda inner: st.lists(st.tuples(st.sampled_from(_TAGS.split()), inner), max_size=5),
    max_leaves=20,
)


def _check(source: Source, record: object) -> None:
    rows = pd.DataFrame({"record": pd.Series([record], [9], dtype=object)})
    chunk = SimpleNamespace(rows=rows, first_row=9, ragged=())
    made = source.parse(chunk, _FEED)  # what parsers read of a chunk
    assert made.rows.index.tolist() == [9]
    assert set(made.problems["index"]) <= {9}
    failures(clean(made.rows, _FEED.market), feed_schema())


@pytest.mark.parametrize(
    "source", [meta_leads.SOURCE, google_leads.SOURCE, linkedin_leads.SOURCE], ids=lambda s: s.name
)
@settings(deadline=None, max_examples=25)
@given(record=st.dictionaries(_KEYS, _JSON, max_size=8))
def test_any_object(source: Source, record: object) -> None:
    _check(source, record)


@pytest.mark.parametrize(
    "shape",
    [
        lambda told: {"id": "1", "field_data": told, "custom_disclaimer_responses": told},
        lambda told: {"lead_id": "1", "user_column_data": told},
        lambda told: {"id": "1", "formResponse": {"answers": told, "consentResponses": told}},
    ],
    ids=["meta", "google", "linkedin"],
)
@settings(deadline=None, max_examples=25)
@given(told=st.lists(st.dictionaries(_KEYS, _JSON, max_size=5), max_size=6))
def test_any_answers(shape: Callable[[object], dict[str, object]], told: object) -> None:
    record = shape(told)
    source = {"field_data": meta_leads, "user_column_data": google_leads}.get(
        list(record)[1], linkedin_leads
    )
    _check(source.SOURCE, record)


@pytest.mark.parametrize("source", [adf.SOURCE, ihomefinder.SOURCE], ids=lambda s: s.name)
@settings(deadline=None, max_examples=25)
@given(tree=st.lists(st.tuples(st.sampled_from(_TAGS.split()), _TREE), min_size=1, max_size=6))
def test_any_element(source: Source, tree: object) -> None:
    _check(source, _element(tree))


_LINES = st.one_of(
    st.text(max_size=40),
    st.tuples(
        st.sampled_from(["Name", "E-mail", "Phone", "Message", "Price", "Property Address"]),
        st.sampled_from([": ", ":", " "]),
        _TEXTS,
    ).map("".join),
    st.tuples(
        st.just('<meta name="lead_'), _KEYS, st.just('" content="'), _TEXTS, st.just('">')
    ).map("".join),
)


@settings(deadline=None, max_examples=12)
@given(lines=st.lists(_LINES, max_size=12))
def test_any_page_or_mail(lines: list[str]) -> None:
    body = "\n".join(lines)
    _check(lead_email.SOURCE, body)
    for head in (
        b"",
        b"Content-Type: text/html; charset=utf-8\n\n",
        b"Content-Type: multipart/mixed\n",
    ):
        raw = head + body.encode("utf-8", "replace")
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        _check(lead_email.SOURCE, mail)
        _check(adf.SOURCE, mail)
