"""Reads a table from a file by what is in it, not by what the file is called."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aiqleads.errors import InvalidInput

#: column that holds the fields of a row with more or fewer fields than the header
RAGGED = "(fields)"

_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_STRANGERS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"\x1f\x9d": "a compressed file of an unknown kind",
}
_FIELD_LIMIT = 10_000_000


@dataclass(frozen=True)
class Payload:
    """A file as it came (its bytes in `body`) and the table in it.

    rows: indexed by row number (1 is the first below the header). Of CSV every value is
    text; of Parquet the types are kept. ragged: row numbers whose count of fields is not
    the header's; they hold nothing but RAGGED, a list of what was there.
    """

    path: Path
    sha256: str
    rows: pd.DataFrame
    body: bytes = field(repr=False)
    ragged: tuple[int, ...] = ()


def read_payload(path: Path) -> Payload:
    """Parquet, CSV or gzipped CSV, told apart by the first bytes.

    InvalidInput in one line for a file that is missing, empty, or none of these.
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(body).hexdigest()
    ragged: tuple[int, ...] = ()
    if body[:4] == b"PAR1":
        rows = _parquet(path, body)
    else:
        rows, ragged = _csv(path, _text(path, body))
    if rows.empty:
        raise InvalidInput(f"{path} holds no row")
    rows.index = pd.RangeIndex(1, len(rows) + 1)
    return Payload(path, digest, rows, body, ragged)


def _parquet(path: Path, body: bytes) -> pd.DataFrame:
    try:
        return pd.DataFrame(pq.read_table(io.BytesIO(body)).to_pandas())
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise InvalidInput(f"{path} is a broken Parquet file: {first}") from error


def _text(path: Path, body: bytes) -> str:
    if body[:2] == b"\x1f\x8b":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(f"{path} is a broken gzip file: {error}") from error
    for magic, what in _STRANGERS.items():
        if body.startswith(magic):
            raise InvalidInput(f"{path} is {what}, not a CSV or Parquet file")
    encoding = next((name for bom, name in _BOMS.items() if body.startswith(bom)), "utf-8")
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is neither Parquet nor text in {encoding}: {error}") from error
    if "\x00" in text:
        raise InvalidInput(f"{path} is neither Parquet nor text: it holds NUL bytes")
    if not text.strip():
        raise InvalidInput(f"{path} is empty")
    return text


def _csv(path: Path, text: str) -> tuple[pd.DataFrame, tuple[int, ...]]:
    """A table of texts; the delimiter is whichever of comma, semicolon, tab, pipe is
    most frequent in the first line."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    csv.field_size_limit(_FIELD_LIMIT)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {reader.line_num}: {error}") from error
    header = [name.strip() for name in lines[0]]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InvalidInput(f"{path}: the header repeats {', '.join(map(repr, repeated))}")
    width = len(header)
    blank: list[str | None] = [None] * width
    body = [line if len(line) == width else blank for line in lines[1:]]
    rows = pd.DataFrame(body, columns=header, dtype=object)
    uneven = tuple(number for number, line in enumerate(lines[1:], 1) if len(line) != width)
    if uneven:
        fields = [None if len(line) == width else line for line in lines[1:]]
        rows[RAGGED] = pd.Series(fields, rows.index, dtype=object)
    return rows, uneven
