"""No body makes a source's parser fail: it gives rows and problems, or InvalidInput."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import feed_seeds

from aiqleads.errors import InvalidInput
from aiqleads.ingest.sources import SOURCES

_ODD = [
    *(
        b"",
        b"0",
        b"-1",
        b"1e999",
        b"-inf",
        b"nan",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"9" * 400,
    ),
    *(
        b"2020-02-30",
        b"0001-01-01",
        b"9999-12-31T23:59:59Z",
        b"1582-10-04",
        b"\xc3\xa9",
        b"\xe2\x80\xae",
    ),
    *(
        b"$1.2M",
        b"1/0/2020",
        b"00000",
        b"z95838",
        b"\\u0000",
        b"\\ud800",
        b"'",
        b'"',
        b"<",
        b"&#0;",
    ),
    *(b",", b"\n", b"\r", b"\t", b"@", b"+1 419 555 0123", b"a@b", b"x" * 5_000, b"{'a': 1}"),
]
_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([0, 1, 4, 30, 400]),
        st.one_of(st.sampled_from(_ODD), st.binary(max_size=8)),
    ),
    max_size=6,
)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_reads_its_own_seeds(name: str) -> None:
    seeds = feed_seeds.seeds_of(name, real=False)
    assert seeds.bodies, "a source needs a fixture under tests/data/feeds"
    assert sum(feed_seeds.take_in(seeds, body) for body in seeds.bodies) > 0


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_mutated_body_gives_rows_and_problems_or_invalid_input(
    name: str, data: st.DataObject
) -> None:
    seeds = feed_seeds.seeds_of(name)
    body = data.draw(st.sampled_from(seeds.bodies))
    for place, cut, put in data.draw(_EDITS):
        at = int(place * len(body))
        body = body[:at] + put + body[at + cut :]
    _take_in(seeds, body)


@pytest.mark.parametrize("name", SOURCES)
def test_values_of_other_kinds_and_places_are_survived(name: str) -> None:
    """Whole values replaced, so that more bodies stay of their format than by single bytes."""
    seeds = feed_seeds.seeds_of(name)
    draw = random.Random(name)
    for body in seeds.bodies:
        text = body.decode("utf-16" if body.startswith(b"\xff\xfe") else "utf-8", "replace")
        for _ in range(8):
            words = [word for word in set(_words(text)) if word]
            chosen = draw.sample(sorted(words), min(3, len(words)))
            changed = text
            for word in chosen:
                changed = changed.replace(word, draw.choice(_ODD).decode("utf-8"))
            _take_in(seeds, changed.encode("utf-16" if body[:2] == b"\xff\xfe" else "utf-8"))


def _words(text: str) -> list[str]:
    for sign in '",;\t\n<>:=|{}[]':
        text = text.replace(sign, "\x00")
    return [word.strip() for word in text.split("\x00")]


def _take_in(seeds: feed_seeds.Seeds, body: bytes) -> None:
    try:
        feed_seeds.take_in(seeds, body)
    except InvalidInput as error:
        _in_one_line(error)


def _in_one_line(error: InvalidInput) -> None:
    assert "\n" not in error.detail
