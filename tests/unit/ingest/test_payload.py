from __future__ import annotations

import datetime as dt
import email.message
import gzip
import hashlib
import io
import json
import os
import re
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.conftest import SHARED_DATA

from aiqleads.errors import InvalidInput
from aiqleads.ingest import payload_bytes
from aiqleads.ingest.payload import RAGGED, RECORD, Payload, open_payload, payload_of

CSV = b"price,day\n90000,1995-01-04\n91000,1995-01-11\n"
HOMES = [{"id": 1, "city": "Toledo"}, {"id": 2, "city": "Orégon"}]
MAIL = b"From: a@example.com\nSubject: Lead\nMIME-Version: 1.0\n\nName: Ann Example\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Home</title></head></html>\n"
LEADS = b'<?xml version="1.0"?>\n<leads>\n <lead id="1"/>\n <lead id="2">b</lead>\n</leads>\n'


def rows_of(payload: Payload, records: str = "", chunk_rows: int = 5_000) -> pd.DataFrame:
    return pd.concat([chunk.rows for chunk in payload.chunks(records, chunk_rows)])


def records_of(body: bytes, records: str = "") -> list[object]:
    return rows_of(payload_of(body, "x"), records)[RECORD].tolist()


def pieces_of(payload: Payload, records: str = "") -> list[bytes]:
    """Head, the bytes of each record, tail."""
    head, spans, tail = payload.partition(records)
    with payload.body.open() as stream:
        body = stream.read()
    return [head, *(body[start:end] for start, end in spans), tail]


def workbook(*sheets: list[list[str]], more: dict[str, bytes] | None = None) -> bytes:
    """A workbook of inline texts, numbers (as "=1.5") and dates (as "@44197", days)."""
    names = [f"s{at}" for at, _ in enumerate(sheets)]
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    listed = "".join(
        f'<sheet name="{n}" sheetId="{i + 1}" r:id="r{i}"/>' for i, n in enumerate(names)
    )
    linked = "".join(
        f'<Relationship Id="r{i}" Type="{office}/worksheet" Target="{n}.xml"/>'
        for i, n in enumerate(names)
    )
    styles = f'<Relationship Id="st" Type="{office}/styles" Target="styles.xml"/>'
    files = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="a" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{listed}</sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}">{linked}{styles}'
        "</Relationships>",
        "xl/styles.xml": f'<styleSheet xmlns="{main}"><cellXfs count="2"><xf numFmtId="0"/>'
        '<xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
    }
    for name, table in zip(names, sheets, strict=True):
        body = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in table)
        files[f"xl/{name}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        for path, raw in (more or {}).items():
            archive.writestr(path, raw)
    return packed.getvalue()


def _cell(value: str) -> str:
    if value.startswith(("=", "@")):
        return f'<c s="{int(value[0] == "@")}"><v>{value[1:]}</v></c>'
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>' if value else "<c/>"


# -- tables of text ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("sales.csv", CSV),
        ("sales.parquet", CSV),
        ("sales.xlsx", gzip.compress(CSV, mtime=0)),
        ("sales.txt", CSV.replace(b",", b"\t")),
        ("semicolons.csv", CSV.replace(b",", b";")),
        ("pipes.csv", CSV.replace(b",", b"|")),
        ("bom.csv", b"\xef\xbb\xbf" + CSV),
        ("utf16.csv", CSV.decode().encode("utf-16")),
        ("utf16be.csv", b"\xfe\xff" + CSV.decode().encode("utf-16-be")),
        ("crlf.csv", CSV.replace(b"\n", b"\r\n")),
        ("crcrlf.csv", CSV.replace(b"\n", b"\r\r\n")),
        ("oldmac.csv", CSV.replace(b"\n", b"\r")),
        ("spaces.csv", CSV.replace(b"price,day", b" price , day ")),
        ("blank.csv", b"\n" + CSV.replace(b"-04\n", b"-04\n\n") + b"\n\n"),
        ("unfinished.csv", CSV[:-1]),
        ("oldmac_unfinished.csv", CSV[:-1].replace(b"\n", b"\r")),
        ("quoted.csv", b'"price","day"\n"90000","1995-01-04"\n"91000","1995-01-11"\n'),
    ],
)
@pytest.mark.parametrize("chunk_rows", [1, 5_000])
def test_a_table_is_known_by_its_content(
    tmp_path: Path, name: str, body: bytes, chunk_rows: int
) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    payload = open_payload(path)
    rows = rows_of(payload, chunk_rows=chunk_rows)
    assert rows.to_dict("list") == {
        "price": ["90000", "91000"],
        "day": ["1995-01-04", "1995-01-11"],
    }
    assert rows.index.tolist() == [1, 2]
    assert (payload.format, payload.path, payload.name) == ("csv", path, name)
    assert (payload.sha256, payload.size) == (hashlib.sha256(body).hexdigest(), len(body))
    with payload.open() as stream:
        assert stream.read() == body


def test_quoted_fields_keep_delimiters_and_line_ends() -> None:
    body = b'a,b\r\n"x, y","1\r\n2"\r\n"q""q",""\r\n'
    assert rows_of(payload_of(body, "a")).to_dict("list") == {
        "a": ["x, y", 'q"q'],
        "b": ["1\r\n2", ""],
    }


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_bare_carriage_return_is_text(line_end: bytes) -> None:
    lines = [b"a,b", b"x\ry,1", b'"p\rq\r\r",\r2', b"\r3,4"]
    rows = rows_of(payload_of(line_end.join(lines), "a"))
    assert rows.to_dict("list") == {"a": ["x\ry", "p\rq\r\r", "\r3"], "b": ["1", "\r2", "4"]}


def test_a_line_feed_is_text_where_carriage_returns_end_lines() -> None:
    filler = b"a" * payload_bytes.BLOCK  # line feeds show up late in such a file, or never
    rows = rows_of(payload_of(b"a,b\r1," + filler + b'\r"2\r3",4\r', "a"))
    assert rows["a"].tolist() == ["1", "2\r3"]
    rows = rows_of(payload_of(b"a,b\r1,2\r", "a"))
    assert rows.to_dict("list") == {"a": ["1"], "b": ["2"]}


def test_text_that_is_not_utf_8_is_windows_1252() -> None:
    late = "naïve,1\n" * (payload_bytes.BLOCK // 8) + "€,é\n"
    rows = rows_of(payload_of(b"a,b\n" + late.encode("cp1252"), "a"))
    assert rows.iloc[-1].tolist() == ["€", "é"]
    assert rows["a"].iloc[0] == "naïve"
    utf8 = rows_of(payload_of(b"a,b\n" + late.encode(), "a"))
    assert utf8.equals(rows)


def test_a_row_of_another_width_is_kept_and_known() -> None:
    (chunk,) = payload_of(b"a,b\n1,2\n3\n4,\r5,6\n", "a").chunks()
    assert chunk.ragged == (2, 3)
    assert chunk.rows["a"].tolist() == ["1", None, None]
    assert chunk.rows[RAGGED].tolist() == [None, ["3"], ["4", "\r5", "6"]]
    first, second, third = payload_of(b"a,b\n1,2\n3\n4,5\n", "a").chunks(chunk_rows=1)
    assert (first.ragged, second.ragged, third.ragged) == ((), (2,), ())
    assert RAGGED not in third.rows


def test_records_are_skipped_without_being_counted_anew() -> None:
    body = b"n\n" + b"".join(b"%d\n" % n for n in range(1, 101))
    for skip in (0, 1, 7, 99, 100, 200):
        chunks = list(payload_of(body, "a").chunks(chunk_rows=8, skip=skip))
        read = [value for chunk in chunks for value in chunk.rows["n"]]
        assert read == [str(n) for n in range(skip + 1, 101)]
        assert [chunk.first_row for chunk in chunks] == list(range(skip + 1, 101, 8))


# -- tables with types ------------------------------------------------------------------


def test_parquet_keeps_its_types_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    pd.DataFrame({"price": range(10), "when": pd.Timestamp("2020-01-01")}).to_parquet(path)
    for payload in (open_payload(path), payload_of(gzip.compress(path.read_bytes()), "z")):
        chunks = list(payload.chunks(chunk_rows=4, skip=3))
        assert [chunk.rows["price"].tolist() for chunk in chunks] == [[3], [4, 5, 6, 7], [8, 9]]
        assert [chunk.first_row for chunk in chunks] == [4, 5, 9]
        assert str(chunks[0].rows.dtypes["price"]) == "int64"
        assert chunks[0].rows["when"].iloc[0] == pd.Timestamp("2020-01-01")
        assert b"".join(pieces_of(payload)) == payload.body.whole()


def test_a_workbook_is_read_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    table = [["name", " n ", "day"], ["Ann", "=1.5", "@44197"], ["", "", ""], ["Ben", "=2", ""]]
    table = [[*row, "", ""] for row in table]  # formatted beyond the last column
    path.write_bytes(workbook([["", ""]], table))
    payload = open_payload(path)
    rows = rows_of(payload, chunk_rows=1)
    assert payload.format == "xlsx"
    assert rows["name"].tolist() == ["Ann", "Ben"]
    assert rows["n"].tolist() == [1.5, 2.0]
    assert rows["day"].tolist() == [pd.Timestamp(dt.date(2021, 1, 1)), ""]
    assert rows.index.tolist() == [1, 2]
    assert pieces_of(payload) == [b"", path.read_bytes(), b"", b""]


# -- trees ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("indent", [None, 2])
def test_records_of_json_are_found_by_their_path(encoding: str, indent: int | None) -> None:
    said: dict[str, object] = {"@odata.context": "é", "d": {"more": [], "value": HOMES}, "n": 2}
    body = json.dumps(said, ensure_ascii=False, indent=indent).encode(encoding)
    payload = payload_of(body, "x")
    assert payload.format == "json"
    assert rows_of(payload, "d.value", 1)[RECORD].tolist() == HOMES
    (last,) = payload.chunks("d.value", skip=1)
    assert (last.first_row, last.rows[RECORD].tolist()) == (2, HOMES[1:])
    pieces = pieces_of(payload, "d.value")
    assert b"".join(pieces) == body
    codec = "utf-16-le" if encoding == "utf-16" else encoding.removesuffix("-sig")
    assert [json.loads(piece.decode(codec).lstrip(", \n")) for piece in pieces[1:3]] == HOMES


def test_a_document_of_json_may_be_one_record_or_an_array() -> None:
    assert records_of(b'{"a": 1}') == [{"a": 1}]
    assert records_of(b'{"a": 1}', "value") == [{"a": 1}]
    assert records_of(b'{"value": {"a": 1}}', "value") == [{"a": 1}]
    assert records_of(b'[{"a": 1}, {"a": 2}]', "value") == [{"a": 1}, {"a": 2}]
    assert list(payload_of(b'{"value": [], "x": {}}', "x").chunks("value")) == []
    assert list(payload_of(b'{"value": null}', "x").chunks("value")) == []
    assert pieces_of(payload_of(b" [ ] ", "x")) == [b" [ ] ", b""]


def test_lines_of_json_are_records() -> None:
    body = b'\xef\xbb\xbf{"a": "\xc3\xa9"}\r\n\n{"a": [1,\r2]}\n{"a": NaN}'
    payload = payload_of(body, "x")
    assert payload.format == "ndjson"
    assert rows_of(payload, "value", 2)[RECORD].tolist() == [{"a": "é"}, {"a": [1, 2]}, {"a": None}]
    assert b"".join(pieces_of(payload)) == body


def test_texts_of_json_are_such_as_a_database_takes() -> None:
    body = b'{"a": "\\ud83d\\ude00\x01", "b\\u0000": ["\\ud83d", 1, {"c": "\\uDC00x\\u0000"}]}'
    assert records_of(body) == [{"a": "😀\x01", "b\ufffd": ["\ufffd", 1, {"c": "\ufffdx\ufffd"}]}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_elements_of_xml_are_records(encoding: str) -> None:
    text = (
        '<a xmlns="urn:x"><é/>\n<lead n="1>0"/> <lead>b<!-- > -->c<lead/></lead >'
        "<lead></lead><lead/>é</a>\n"
    )
    body = ("\n" * (encoding == "utf-8") + text).encode(encoding)
    payload = payload_of(body, "x")
    found = rows_of(payload, "lead", 1)[RECORD].tolist()
    assert [ET.tostring(each, "unicode").count("lead") for each in found] == [1, 3, 1, 1]
    assert found[0].get("n") == "1>0"
    assert found[1].text == "bc"
    pieces = pieces_of(payload, "lead")
    assert b"".join(pieces) == body
    codec = "utf-16-le" if encoding == "utf-16" else "utf-8"
    assert [piece.decode(codec).strip() for piece in pieces[1:]] == [
        '<lead n="1>0"/>',
        "<lead>b<!-- > -->c<lead/></lead >",
        "<lead></lead>",
        "<lead/>",
        "é</a>",
    ]


def test_xml_in_an_encoding_of_its_own() -> None:
    body = '<?xml version="1.0" encoding="ISO-8859-1"?><a><b>é</b></a>'.encode("latin-1")
    (record,) = records_of(body)
    assert isinstance(record, ET.Element)
    assert record.findtext("b") == "é"


def test_a_doctype_that_defines_nothing_passes() -> None:
    assert len(records_of(b'<?xml version="1.0"?><!DOCTYPE adf SYSTEM "adf.dtd"><adf/>')) == 1


@pytest.mark.parametrize("body", [PAGE, b"<!-- x --> <div>a</div>", b"\n<html><p>", b"<BODY>"])
def test_a_page_is_one_text(body: bytes) -> None:
    payload = payload_of(body, "x")
    assert payload.format == "html"
    assert records_of(body) == [body.decode()]
    assert pieces_of(payload) == [b"", body, b""]


@pytest.mark.parametrize("opening", [b"", b"From a@example.com Mon\r\n", b"Received: by\r\n x\r\n"])
def test_a_mail_is_one_message(opening: bytes) -> None:
    body = opening + MAIL
    payload = payload_of(body, "x")
    (mail,) = records_of(body)
    assert payload.format == "email"
    assert isinstance(mail, email.message.EmailMessage)
    assert mail["subject"] == "Lead"
    assert pieces_of(payload) == [b"", body, b""]


def test_a_table_may_look_a_little_like_something_else() -> None:
    for body in (b"From: x,b\n1: y,1\n", b"Date: a\n1,2\n", b"a<b>,c\n1,2\n"):
        assert payload_of(body, "x").format == "csv"


# -- what is refused --------------------------------------------------------------------


def _bomb(size: int) -> bytes:
    return gzip.compress(b"a,b\n" + b"1,2\n" * (size // 4), mtime=0)


def _parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


ENTITIES = b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
EXTERNAL = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
DEEP = b'{"a":' * 70 + b"1" + b"}" * 70


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (b"  \n ", "is empty"),
        (" \n".encode("utf-16"), "is empty"),
        (b"\xff\xfe", "is empty"),
        (b"a,b\n", "holds no row"),
        (b"PK\x03\x04rest", "broken Excel workbook"),
        (workbook([["a"], ["b"]]).replace(b"xl/", b"xx/"), "zip archive"),
        (workbook([["a"], ["b"]], more={"content.xml": b"<a/>"}), "zip archive"),
        (workbook([["a"], ["b"]])[:-40], "broken Excel workbook"),
        (workbook([["a"], ["b"]]).replace(b"xl/workbook", b"xl/workbQQk"), "zip archive"),
        (workbook([[""]]), "is empty"),
        (workbook([["a"]]), "holds no row"),
        (workbook([["a", "a"], ["b", "c"]]), "repeats 'a'"),
        (b"%PDF-1.7", "a PDF"),
        (b"\x28\xb5\x2f\xfdxx", "Zstandard"),
        (b"PAR1 and then nothing", "broken Parquet"),
        (_parquet(pd.DataFrame({"a": []})), "holds no row"),
        (b"\x1f\x8bnot gzip", "broken gzip"),
        (b"\x1f\x8b\x08\x00garbagegarbage", "broken gzip"),
        (gzip.compress(CSV)[:-9], "broken gzip"),
        (gzip.compress(gzip.compress(CSV)), "gzip within gzip"),
        (b"a,b\n\xe9\x81,2\n", "neither text in utf-8 nor Windows-1252"),
        (b"\xef\xbb\xbfa,b\n\xe9,2\n", "not text in utf-8"),
        (b"\xff\xfea\x00\x00\xd8", "not text in utf-16"),
        (b"a,b\n\x00,2\n", "NUL"),
        (b"a\x00,\x00b\x00", "NUL"),
        (b'a,b\n"1,2\n', "line 2"),
        (b'a,b\n1,2\n"1"x,2\n', "line 3"),
        (b"a,a\n1,2\n", "repeats 'a'"),
        (b",".join(b"%d" % n for n in range(6_000)) + b"\n1", "6,000 columns"),
        (b"a,b\n1," + b"x" * 3_000_000, "field larger than field limit"),
        (b"a\n" + b"x" * 17_000_000, "longer than"),
        (b"a\n" + b'"' + b"1,\n" * 800_000 + b'"', "field larger"),
        (b"a\n" + (b'"' + b"1\n" * 900_000 + b'",') * 10, "record 1 has more than"),
        (b'{"a": 1', "broken JSON"),
        (b'{"a": 1} x', "Extra data"),
        (b'{"a": 1}{"a": 2}', "Extra data"),
        (b'{"a": 1,}', "property name"),
        (b'{"a" 1}', "Expecting ':'"),
        (b'{"value": [{}] "b": 2}', "Expecting ','"),
        (b'{"value": [{} {}]}', "Expecting ','"),
        (b'{"value": [{}], "b": ', "broken JSON"),
        (b'{"value": [{}]', "ends too early"),
        (b'{"value": 7}', "bare value"),
        (b"[1, 2]", "bare value"),
        (b"[null]", "null"),
        (b"[[1]]", "an array"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "broken JSON"),
        (DEEP, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a": 1}\n' + DEEP + b"\n", "nested deeper"),
        (b'{"a": 1}\n{"a": \n', "line 2"),
        (b'{"a": 1}\n' + b"[" * 100_000, "line 2"),
        (b'[{"a": "' + b"x" * 16_000_001 + b'"}]', "more than"),
        (b"<a><b></a>", "broken XML"),
        (b"<a>", "broken XML"),
        (b"<a/>trailing", "broken XML"),
        (b"<a>&undefined;</a>", "broken XML"),
        (b'<?xml version="1.0" encoding="none-such"?><a/>', "broken XML"),
        (b"<!ELEMENT adf (prospect+)>", "broken XML"),
        (ENTITIES, "broken XML: EntitiesForbidden"),
        (EXTERNAL, "broken XML: EntitiesForbidden"),
        (b"<a>" * 100 + b"</a>" * 100, "nested deeper"),
        (b"<other/>", "no element 'value'"),
        (b"&<\xe2\x9d", "neither text in utf-8 nor Windows-1252"),
        (b"{\xdb\x81]\xc5", "neither text in utf-8 nor Windows-1252"),
        (b"<html>" + b"x" * 17_000_000, "more than"),
        (MAIL + b"boundary=x\n" * 100, "parts in parts"),
        (MAIL + b"x" * 33_000_000, "is a mail of"),
    ],
    ids=lambda value: "" if type(value) is bytes else None,  # zipped bytes hold the time
)
def test_another_body_is_refused_in_one_line(tmp_path: Path, body: bytes, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(body)
    with pytest.raises(InvalidInput, match=re.escape(said)) as caught:
        list(open_payload(path).chunks("value"))
    assert "\n" not in caught.value.detail
    assert str(path) in caught.value.detail


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payload_bytes, "_RATIO_FREE", 1_000_000)
    assert payload_of(_bomb(900_000), "x").format == "csv"
    with pytest.raises(InvalidInput, match="unpacks to more than"):
        payload_of(_bomb(1_200_000), "x")
    zeros = {"xl/media/zeros": bytes(2_000_000)}
    monkeypatch.setattr("aiqleads.ingest.read_table.MAX_DOCUMENT", 400_000)
    with pytest.raises(InvalidInput, match="unpacks to"):
        list(payload_of(workbook([["a"], ["b"]], more=zeros), "x").chunks())
    parquet = _parquet(pd.DataFrame({"a": np.arange(4_000_000)}))
    with pytest.raises(InvalidInput, match="unpacks to"):
        list(payload_of(parquet, "x").chunks())


@pytest.mark.parametrize("place", ["XFD1048576", "A999999999", "ZZZZZZZZZZZZZZZ1"])
def test_a_sheet_with_a_cell_far_out_is_refused(place: str) -> None:
    body = workbook([["a"], ["b"]])
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    far = files["xl/s0.xml"].replace("<c t", f"<c  r = '{place}' t", 1)
    filler = "<!--" + "x" * payload_bytes.BLOCK + "-->"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, filler + far if name == "xl/s0.xml" else text)
    with pytest.raises(InvalidInput, match=r"spans [0-9,]+ columns"):
        list(payload_of(out.getvalue(), "x").chunks())
    with pytest.raises(InvalidInput, match="with a value of more than"):
        list(payload_of(workbook([["a"], ["b" * 3_000_000]]), "x").chunks())


def test_a_document_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_bytes, "MAX_DOCUMENT", 10)
    for body in (b'{"a": "bcdefghi"}', LEADS, PAGE, MAIL, workbook([["a"], ["b"]])):
        with pytest.raises(InvalidInput, match="10 are allowed"):
            list(payload_of(body, "x").chunks())


def test_a_panic_of_the_workbook_reader_is_a_broken_workbook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class PanicException(BaseException):
        pass

    class Reader:
        fault: BaseException = PanicException()

        @classmethod
        def from_filelike(cls, _stream: object) -> None:
            raise cls.fault

    monkeypatch.setattr("aiqleads.ingest.read_table.CalamineWorkbook", Reader)
    payload = payload_of(workbook([["a"], ["b"]]), "x")
    with pytest.raises(InvalidInput, match="broken Excel workbook"):
        list(payload.chunks())
    Reader.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        list(payload.chunks())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        open_payload(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="cannot be read"):
        open_payload(tmp_path)


def test_a_file_that_changes_or_goes_away_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV)
    payload = open_payload(path)
    path.write_bytes(CSV + b"92000,1995-01-12\n")
    os.utime(path, (0, 0))
    with pytest.raises(InvalidInput, match="changed while it was read"):
        list(payload.chunks())
    path.unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(payload.chunks())


@pytest.mark.shared_data
def test_counts_of_real_files() -> None:
    counts = {
        "interest/renthop_b1.csv": 569,
        "redfin_export/houston_active_2023-05.csv": 623,
        "leads/x_education_leads.xlsx_named_csv": 9_240,
        "craigslist/austin_2022-07.csv": 2_658,
        "sales/lucas_house_sales.csv.gz": 25_357,
        "areas/uszipcode_zip.csv.gz": 33_120,
        "reso/dd-2.0-fields.csv": 1_745,
    }
    for name, expected in counts.items():
        payload = open_payload(SHARED_DATA / name)
        chunks = list(payload.chunks())
        assert sum(len(chunk.rows) for chunk in chunks) == expected
        assert not any(chunk.ragged for chunk in chunks)
        assert b"".join(pieces_of(payload)) == payload.body.whole()
