"""Whatever the bytes: chunks that lose none of them, or InvalidInput."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.soak import feed_seeds

from aiqleads.contracts.quarantine import record_text
from aiqleads.errors import InvalidInput
from aiqleads.ingest import payload_bytes
from aiqleads.ingest.payload import RAGGED, RECORD, Payload, payload_of

SEEDS = [
    feed_seeds.workbook_of(body) if form == "xlsx" else body
    for form, bodies in feed_seeds.format_seeds().items()
    for body in bodies
]
_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=6)
_PIECES = st.sampled_from(
    [
        *(b",", b";", b"\t", b'"', b'""', b"\n", b"\r", b"\r\n", b"a", b"b1", b"\xc3\xa9", b"\x80"),
        *(b"{", b"}", b"[", b"]", b":", b"null", b'"value"', b"1e999", b"\\ud800", b"\0", b" "),
        *(b"<a>", b"</a>", b"<value/>", b"<value>", b"</value>", b"<!--", b"-->", b"<?x?>", b"<!"),
        *(b"From: x\n", b"Subject: y\n", b"\xef\xbb\xbf", b"\xff\xfe", b"PAR1", b"PK\x03\x04"),
    ]
)
_BODIES = st.one_of(
    st.binary(max_size=60),
    st.lists(_PIECES, max_size=40).map(b"".join),
    st.lists(_PIECES, max_size=30).map(lambda some: b'{"value": [' + b"".join(some)),
    st.lists(_PIECES, max_size=30).map(lambda some: b"<a>" + b"".join(some) + b"</a>"),
)


@st.composite
def mutated(draw: Callable[..., int]) -> bytes:
    """A good body with a few of its bytes replaced, removed or put in."""
    body = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 20)))
        body = body[:start] + draw(_BODIES) + body[end:]
    return body


def in_one_line(error: InvalidInput) -> None:
    assert "\n" not in error.detail


def payload_or_none(body: bytes) -> Payload | None:
    try:
        return payload_of(body, "body")
    except InvalidInput as error:
        in_one_line(error)
        return None


@settings(max_examples=80, deadline=None)
@given(st.one_of(_BODIES, mutated()))
@example(b"a\r\r\r\nb\r\rc\n")
@example(b'"a\r"\r\n"b\r\n"\n\n\n')
@example(b'{"value": [{}, {}] , "more": [{}]}\n')
@example(b"{}\n\n{}\n{}")
def test_any_bytes_give_records_that_lose_none_of_them_or_invalid_input(body: bytes) -> None:
    payload = payload_or_none(body)
    if payload is None:
        return
    with payload.open() as stream:
        assert stream.read() == body
    try:
        feed_seeds.read_whole(payload, "value", chunk_rows=2)
    except InvalidInput as error:
        in_one_line(error)


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(st.sampled_from(SEEDS), mutated()), st.integers(1, 9), st.integers(0, 9), st.data()
)
def test_chunks_of_any_size_after_any_skip_hold_the_same_records(
    body: bytes, chunk_rows: int, skip: int, data: st.DataObject
) -> None:
    payload = payload_or_none(body)
    if payload is None:
        return
    try:
        (whole,) = payload.chunks("value") or [None]
    except (InvalidInput, ValueError):
        return
    parts = list(payload.chunks("value", chunk_rows, skip))
    assert all(len(part.rows) <= chunk_rows for part in parts)
    expected, given_ = _said(whole.rows.iloc[skip:]), [row for p in parts for row in _said(p.rows)]
    assert given_ == expected
    assert [at for part in parts for at in part.ragged] == [at for at in whole.ragged if at > skip]
    assert [span for part in parts for span in part.spans.tolist()] == whole.spans[skip:].tolist()


def _said(rows: pd.DataFrame) -> list[str]:
    """Rows as texts; a missing RAGGED is no difference, and an Element is its tag."""
    kept = rows.drop(columns=RAGGED, errors="ignore")
    if RECORD in kept:
        return [record_text(each) for each in kept[RECORD]]
    return [repr(row) for row in kept.itertuples()]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(_CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gzip"]),
    st.booleans(),
)
def test_a_table_that_was_written_is_read(
    rows: list[list[str]], delimiter: str, line_end: str, encoding: str, quoted: bool
) -> None:
    out = io.StringIO()
    frame = pd.DataFrame(rows, columns=["key", "first name", "x"])
    frame.to_csv(
        out, index=False, sep=delimiter, lineterminator=line_end, quoting=1 if quoted else 0
    )
    text = out.getvalue()
    body = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    chunks = list(payload_of(body, "x").chunks(chunk_rows=3))
    read = [row for chunk in chunks for row in chunk.rows[frame.columns].to_numpy().tolist()]
    assert read == rows


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text()), max_size=3
        ),
        min_size=2,
        max_size=6,
    ),
    st.booleans(),
)
def test_records_of_json_come_back_with_their_bytes(
    records: list[dict[str, object]], ascii_only: bool
) -> None:
    def dumped(value: object) -> bytes:
        return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")

    lines = b"".join(dumped(each) + b"\n" for each in records)
    array = dumped({"": 1, "d": {"value": records}, "n": []})
    for body, place in ((lines, ""), (array, "d.value")):
        payload = payload_of(body, "x")
        expected = [json.loads(dumped(each)) for each in records]
        spans = [span for chunk in payload.chunks(place, 2) for span in chunk.spans.tolist()]
        read = [json.loads(body[start:end].lstrip(b", ")) for start, end in spans]
        assert read == expected


@pytest.mark.parametrize(
    ("opening", "unit"),
    [
        (b"", b"\r"),
        (b"a\n", b"\r"),
        (b"a,b\n", b"\r\r\n"),
        (b"a\n", b'"'),
        (b"a,b\n", b'"\n'),
        (b"a,b\n", b'""'),
        (b"a,b\n", b"\n"),
        (b"", b","),
        (b"a,b\n", b","),
        (b"", b"<!-- -->"),
        (b"", b"<?x ?>"),
        (b"", b"<a>"),
        (b"<a>", b"<b/>"),
        (b"<a x='", b"&amp;"),
        (b"", b"[" * 7),
        (b"", b"{}"),
        (b"", b"{}\n"),
        (b"[", b"{},"),
        (b'{"a": "', b"\\u0000"),
        (b'{"a": ', b"9"),
        (b'[{"a": "\\ud800', b"x"),
        (b"From: a@example.com\nSubject: x\n", b" folded\n"),
        (b"From: a@example.com\nSubject: x\n", b"X: y\n"),
        (
            b"From: a@example.com\nSubject: x\nContent-Type: multipart/mixed; boundary=b\n\n",
            b"--b\n",
        ),
        (b"From: ", b"a: b\n"),
    ],
)
@pytest.mark.timeout(60)
def test_no_form_of_body_hangs_its_reader(opening: bytes, unit: bytes) -> None:
    """One that tries the same text again and again would need hours for these."""
    for size in (100_000, 400_000):
        body = opening + unit * (size // len(unit))
        payload = payload_or_none(body)
        if payload is not None:
            try:
                feed_seeds.read_whole(payload, "value", chunk_rows=5_000)
            except InvalidInput as error:
                in_one_line(error)


def test_blocks_may_end_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [body for body in SEEDS if not body.startswith((b"PK", b"PAR1"))]
    expected = [_all_of(body) for body in bodies]
    for block in (1, 2, 3, 5, 64):
        monkeypatch.setattr(payload_bytes, "BLOCK", block)
        monkeypatch.setattr("aiqleads.ingest.read_tree.BLOCK", block)
        # What a body is shows in its first block, so that is left as it was.
        for body, said in zip(bodies, expected, strict=True):
            assert _all_of(body) == said


def _all_of(body: bytes) -> list[str]:
    block = payload_bytes.BLOCK
    payload_bytes.BLOCK = 1 << 20
    payload = payload_of(body, "x")
    payload_bytes.BLOCK = block
    return [row for chunk in payload.chunks("value", 2) for row in _said(chunk.rows)]
