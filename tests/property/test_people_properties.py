"""Short cuts read contacts as the libraries do; no text makes cleaning fail."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import usaddress
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.contracts.lead_feed import PROMISES
from aiqleads.ingest.columns import contract_frame
from aiqleads.ingest.market import load_market
from aiqleads.ingest.people import (
    clean,
    read_address,
    tagged,
    tidy_name,
)
from aiqleads.ingest.reach import plain_email, plain_phone, read_email, read_phone
from aiqleads.settings import Settings

_MARKET = load_market("lucas", Settings(home=Path("/nowhere")))
_TEXT = st.one_of(st.none(), st.text(max_size=60))
_COLUMNS = ("name", "email", "phone", "address", "unit", "city", "state", "zip", "answers")
_SIGN = st.sampled_from(["", " ", "-", ".", ") ", "/", "  "])
_PHONES = st.one_of(
    st.from_regex(r"(?:\+?1[-. ]?)?\(?[0-9]{3}\)? ?[-. ]?[0-9]{3}[-. ]?[0-9]{4}", fullmatch=True),
    st.tuples(
        st.sampled_from(["", "1", "+1", "+1 ", "001", "+", "("]),
        st.integers(0, 999).map("{:03d}".format),
        _SIGN,
        st.integers(0, 999).map("{:03d}".format),
        _SIGN,
        st.integers(0, 9999).map("{:04d}".format),
    ).map("".join),
    st.text(alphabet="0123456789+-(). x#ext", max_size=24),
)
_EMAILS = st.one_of(
    st.emails(),
    st.from_regex(r"[A-Za-z0-9._+-]{1,20}@[A-Za-z0-9.-]{1,30}", fullmatch=True),
    st.tuples(
        st.text(alphabet="aB9.+_-", min_size=1, max_size=70),
        st.just("@"),
        st.sampled_from(
            ["example.com", "EXAMPLE.com", "a.test", "x.local", "b--c.com", "xn--a.com"]
        ),
    ).map("".join),
)


@settings(deadline=None, max_examples=150)
@given(_PHONES)
def test_phones_are_read_as_the_library_reads_them(text: str) -> None:
    assert read_phone(text) == plain_phone(text)


@settings(deadline=None, max_examples=150)
@given(_EMAILS)
def test_emails_are_read_as_the_library_reads_them(text: str) -> None:
    assert read_email(text) == plain_email(text)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_what_is_clean_stays_as_it_is(text: str) -> None:
    once, _ = read_phone(text)
    if once is not None:
        assert read_phone(once)[0] == once
    email = read_email(text)
    if email is not None:
        assert read_email(email) == email
    name = tidy_name(" ".join(text.split()))
    if name is not None:
        assert tidy_name(name) == name


_WORDS = (
    "12 40th Main Oak St. Ave, Dr N SW Apt Unit #5 # 4B, Toledo, Columbus OH Ohio 43604 Jr. "
    "43604-1234 PO Box 7 and & corner of Fl. 2nd Building C ½ ; c/o Ada (rear) St Paul, 100"
)
_ADDRESSES = st.one_of(
    st.lists(st.sampled_from(_WORDS.split()), max_size=10).map(" ".join), st.text(max_size=40)
)


@settings(deadline=None, max_examples=150)
@given(_ADDRESSES)
def test_addresses_are_tagged_as_the_library_tags_them(text: str) -> None:
    try:
        told = usaddress.tag(text)[0]
    except usaddress.RepeatedLabelError:
        told = None
    assert tagged(text) == told


@settings(deadline=None, max_examples=80)
@given(st.text(alphabet=st.sampled_from("aA1 ,;#.-\n'stOHTX"), max_size=60))
def test_an_address_is_read_or_left(text: str) -> None:
    told = read_address(text)
    assert list(told) == ["address", "unit", "city", "state", "zip"]
    assert told["zip"] is None or (len(told["zip"]) == 5 and told["zip"].isdigit())
    assert told["state"] is None or len(told["state"]) == 2


@settings(deadline=None, max_examples=60)
@given(st.fixed_dictionaries(dict.fromkeys(_COLUMNS, _TEXT)))
def test_no_text_makes_it_fail(given_: dict[str, str | None]) -> None:
    columns: dict[str, object] = {name: [value] for name, value in given_.items()}
    fixed = {"place_precision": ["none"], "warnings": [""], "property_type": ["unknown"]}
    rows = contract_frame(PROMISES, {**columns, **fixed}, pd.RangeIndex(1))
    once = clean(rows, _MARKET)
    assert once.loc[0, "place_precision"] in ("zip", "city", "none")
    for value in (once.loc[0, "email"], once.loc[0, "phone"]):
        assert value is None or value not in once.loc[0, "warnings"]
