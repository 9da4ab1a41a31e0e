from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pandas as pd
import pytest

from aiqleads.errors import InvalidInput
from aiqleads.ingest.payload import RAGGED, read_payload

CSV = b"price,day\n90000,1995-01-04\n91000,1995-01-11\n"


def _written(tmp_path: Path, name: str, body: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(body)
    return path


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("sales.csv", CSV),
        ("sales.parquet", CSV),
        ("sales.xlsx", gzip.compress(CSV, mtime=0)),
        ("sales.txt", CSV.replace(b",", b"\t")),
        ("bom.csv", b"\xef\xbb\xbf" + CSV),
        ("utf16.csv", CSV.decode().encode("utf-16")),
        ("crlf.csv", CSV.replace(b"\n", b"\r\n")),
        ("spaces.csv", CSV.replace(b"price,day", b" price , day ")),
        ("blank.csv", b"\n" + CSV + b"\n\n"),
    ],
)
def test_a_table_is_known_by_its_content(tmp_path: Path, name: str, body: bytes) -> None:
    payload = read_payload(_written(tmp_path, name, body))
    assert payload.rows.to_dict("list") == {
        "price": ["90000", "91000"],
        "day": ["1995-01-04", "1995-01-11"],
    }
    assert payload.rows.index.tolist() == [1, 2]
    assert payload.sha256 == hashlib.sha256(body).hexdigest()
    assert payload.body == body


def test_parquet_keeps_its_types_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    pd.DataFrame({"price": [1, 2]}).to_parquet(path)
    assert read_payload(path).rows["price"].dtype == "int64"


def test_quoted_fields_keep_commas_and_line_ends(tmp_path: Path) -> None:
    payload = read_payload(_written(tmp_path, "a.csv", b'a,b\n"x, y","1\n2"\n'))
    assert payload.rows.to_dict("list") == {"a": ["x, y"], "b": ["1\n2"]}


def test_a_row_of_another_width_is_kept_and_known(tmp_path: Path) -> None:
    payload = read_payload(_written(tmp_path, "a.csv", b"a,b\n1,2\n3\n4,5,6\n"))
    assert payload.ragged == (2, 3)
    assert payload.rows["a"].tolist() == ["1", None, None]
    assert payload.rows[RAGGED].tolist() == [None, ["3"], ["4", "5", "6"]]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (b"  \n ", "is empty"),
        (b"a,b\n", "holds no row"),
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"%PDF-1.7", "a PDF"),
        (b"PAR1 and then nothing", "broken Parquet"),
        (b"\x1f\x8bnot gzip", "broken gzip"),
        (b"\x1f\x8b\x08\x00garbagegarbage", "broken gzip"),
        (b"a,b\n\xe9,2\n", "nor text in utf-8"),
        (b"a,b\n\x00,2\n", "NUL"),
        (b'a,b\n"1,2\n', "line"),
        (b"a,a\n1,2\n", "repeats 'a'"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, body: bytes, said: str) -> None:
    path = _written(tmp_path, "a.csv", body)
    with pytest.raises(InvalidInput, match=said) as caught:
        read_payload(path)
    assert "\n" not in caught.value.detail
    assert str(path) in caught.value.detail


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_payload(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_payload(tmp_path)
