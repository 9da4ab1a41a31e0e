"""Tables: CSV in any of its dialects, Parquet, XLSX -> frames of at most so many rows.

A reader gives (rows, spans, ragged) again and again. rows: indexed by record number from
1. spans: [start, end) of each record in the body; what stands between two records belongs
to the second. ragged: numbers of rows with more or fewer fields than the header.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from python_calamine import CalamineError, CalamineWorkbook

from aiqleads.errors import InvalidInput
from aiqleads.ingest.payload_bytes import (
    BLOCK,
    MAX_COLUMNS,
    MAX_DOCUMENT,
    MAX_FIELD,
    MAX_RECORD,
    Body,
    one_line,
)

#: column that holds the fields of a row with more or fewer fields than the header
RAGGED = "(fields)"
#: cells of a sheet, empty or not
MAX_CELLS = 10_000_000
Part = tuple[pd.DataFrame, NDArray[np.int64], tuple[int, ...]]

# A carriage return inside a line is text, which csv.reader does not know: it reads this in
# its place. No text can hold it, as no encoding gives half of a surrogate pair.
_RETURN = "\udc0d"
_INNER_RETURN = re.compile(r"(?<!\r)\r++(?!\n|\Z)")
_QUOTED = re.compile(r'"[^"]*"')


class _Lines:
    """Lines of a text as csv.reader takes them, and the byte in the body after each."""

    def __init__(self, body: Body) -> None:
        self._newline = body.newline
        self._blocks = body.blocks()
        self._first = next(self._blocks)
        self._ends: list[NDArray[np.int64]] = []
        self._gone = 0  # lines whose ends are no longer kept
        self._altered = False

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self._pieces())

    def delimiter(self) -> str:
        """Whichever of comma, semicolon, tab, pipe is most frequent in the first line."""
        opening = self._first[0].lstrip("\r\n").partition(self._newline)[0]
        return max(",;\t|", key=_QUOTED.sub("", opening).count)

    def ends_of(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Byte after each of these lines (1 is the first, ascending); earlier ones are let go."""
        ends = np.concatenate(self._ends)
        found: NDArray[np.int64] = ends[np.asarray(numbers) - self._gone - 1]
        self._ends, self._gone = [ends[numbers[-1] - self._gone :]], numbers[-1]
        return found

    def restored(self, values: list[str]) -> list[str]:
        """Values with their carriage returns put back."""
        if not self._altered:
            return values
        there = "\n" if self._newline == "\r" else "\r"
        return [value.replace(_RETURN, there) for value in values]

    def _pieces(self) -> Iterator[Iterator[str]]:
        for text, ends in itertools.chain([self._first], self._blocks):
            self._ends.append(ends)
            if self._newline == "\r":
                yield self._old_lines(text)
                continue
            if text.count("\r") != text.count("\r\n"):
                text, altered = _INNER_RETURN.subn(lambda run: _RETURN * len(run[0]), text)
                self._altered |= altered > 0
            yield io.StringIO(text)

    def _old_lines(self, text: str) -> Iterator[str]:
        """Lines that end in a carriage return alone, as old Macs wrote them."""
        self._altered |= "\n" in text
        lines = text.replace("\n", _RETURN).split("\r")
        last = lines.pop()
        yield from (f"{line}\r" for line in lines)
        if last:
            yield last


@dataclass
class _Batch:
    """Rows as one list of values, in which a row of another width is all ''."""

    values: list[str] = field(default_factory=list)
    uneven: dict[int, list[str]] = field(default_factory=dict)
    last_lines: list[int] = field(default_factory=list)


def csv_parts(body: Body, chunk_rows: int, skip: int) -> Iterator[Part]:
    """Rows of texts. InvalidInput names the line of a quote that is broken."""
    lines = _Lines(body)
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(lines, delimiter=lines.delimiter(), strict=True)
    first = 1
    try:
        header = _header(body.name, lines.restored(next(filter(None, reader), [""])))
        end = int(lines.ends_of([reader.line_num])[0])
        for batch in _batches(reader, len(header), chunk_rows, skip):
            ends = lines.ends_of(batch.last_lines)
            spans = np.column_stack([np.concatenate([[end], ends[:-1]]), ends])
            _refuse_long(body, spans, first)
            if first > skip:
                yield _text_rows(header, lines, batch, first, spans)
            first, end = first + len(ends), int(ends[-1])
    except csv.Error as error:
        raise InvalidInput(f"{body.name}, line {reader.line_num}: {error}") from error
    if first == 1:
        raise InvalidInput(f"{body.name} holds no row")


def _batches(reader: Any, width: int, chunk_rows: int, skip: int) -> Iterator[_Batch]:
    """Rows that are not blank; one batch ends with row `skip`."""
    nothing = [""] * width
    batch, done, size = _Batch(), 0, min(chunk_rows, skip or chunk_rows)
    for row in reader:
        # One list of all values, not one for each row: thousands of live lists would set
        # the garbage collector to work time and again.
        if len(row) == width:
            batch.values += row
        elif row:
            batch.uneven[len(batch.last_lines)] = row
            batch.values += nothing
        else:
            continue
        batch.last_lines.append(reader.line_num)
        if len(batch.last_lines) == size:
            yield batch
            done += size
            batch, size = _Batch(), min(chunk_rows, skip - done) if done < skip else chunk_rows
    if batch.last_lines:
        yield batch


def _text_rows(
    header: list[str], lines: _Lines, batch: _Batch, first: int, spans: NDArray[np.int64]
) -> Part:
    """One object column for each name; a row of another width holds nothing but RAGGED."""
    index = pd.RangeIndex(first, first + len(spans))
    cells = np.fromiter(lines.restored(batch.values), dtype=object, count=len(batch.values))
    # Columns by rows is how pandas keeps a block: it takes it as it is.
    block = np.ascontiguousarray(cells.reshape(len(spans), len(header)).T)
    block[:, list(batch.uneven)] = None
    rows = pd.DataFrame(block.T, index=index, columns=header, copy=False)
    if batch.uneven:
        fields = np.full(len(spans), None, dtype=object)
        for at, row in batch.uneven.items():
            fields[at] = lines.restored(row)
        rows[RAGGED] = fields
    return rows, spans, tuple(first + at for at in batch.uneven)


def _header(name: str, names: Sequence[object]) -> list[str]:
    header = ["" if each is None else str(each).strip() for each in names]
    if len(header) > MAX_COLUMNS:
        raise InvalidInput(f"{name} has {len(header):,} columns; {MAX_COLUMNS:,} are allowed")
    repeated = sorted(each for each, times in Counter(header).items() if times > 1)
    if repeated:
        raise InvalidInput(f"{name}: the header repeats {', '.join(map(repr, repeated[:5]))}")
    return header


def _refuse_long(body: Body, spans: NDArray[np.int64], first: int) -> None:
    sizes = spans[:, 1] - spans[:, 0]
    if sizes.max() > MAX_RECORD * body.unit:
        at = first + int(sizes.argmax())
        raise InvalidInput(f"{body.name}: record {at} has more than {MAX_RECORD:,} characters")


# -- tables that are no text ------------------------------------------------------------


def parquet_parts(body: Body, chunk_rows: int, skip: int) -> Iterator[Part]:
    """Rows with the types of the file."""
    number = 1
    try:
        with _seekable(body) as stream, pq.ParquetFile(stream) as file:
            _header(body.name, file.schema_arrow.names)
            groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
            unpacked = sum(group.total_byte_size for group in groups)
            if unpacked > 64 * MAX_DOCUMENT or any(g.total_byte_size > 1 << 32 for g in groups):
                raise InvalidInput(f"{body.name} unpacks to {unpacked:,} bytes, which is too much")
            for batch in _arrow_batches(file, chunk_rows):
                rows = pd.DataFrame(batch.to_pandas())
                kept = rows.iloc[max(0, skip + 1 - number) :]
                start = number + len(rows) - len(kept)
                number += len(rows)
                if len(kept):
                    yield _typed_rows(body, kept, start)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise InvalidInput(f"{body.name} is a broken Parquet file: {one_line(error)}") from error
    if number == 1:
        raise InvalidInput(f"{body.name} holds no row")


def _seekable(body: Body) -> Any:
    stream = body.open()
    return stream if stream.seekable() else io.BytesIO(body.whole())


def _arrow_batches(file: Any, chunk_rows: int) -> Iterator[Any]:
    return (batch for batch in file.iter_batches(batch_size=chunk_rows) if batch.num_rows)


def _typed_rows(body: Body, rows: pd.DataFrame, first: int) -> Part:
    """Rows of a file in which a record has no bytes of its own: the first one has them all."""
    rows.index = pd.RangeIndex(first, first + len(rows))
    rows.columns = pd.Index([str(name).strip() for name in rows.columns])
    spans = np.full((len(rows), 2), body.size, dtype=np.int64)
    if first == 1:
        spans[0, 0] = 0
    return rows, spans, ()


def xlsx_parts(body: Body, chunk_rows: int, skip: int) -> Iterator[Part]:
    """Rows of the first sheet that has any: texts, numbers, dates; an empty cell is ''."""
    packed = body.whole()
    _refuse_other_zip(body.name, packed)
    table = _cells(body.name, packed)
    header = _header(body.name, table[0])
    if len(table) == 1:
        raise InvalidInput(f"{body.name} holds no row")
    for at in range(1 + skip, len(table), chunk_rows):
        block = np.array(list(zip(*table[at : at + chunk_rows], strict=True)), dtype=object)
        yield _typed_rows(body, pd.DataFrame(block.T, columns=header), at)


# Where a row or a cell of a sheet says that it stands.
_PLACE = re.compile(rb"""\sr\s*=\s*["']([A-Za-z]*)(\d*)["']""")
_ZIP_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError),
    *(ValueError, NotImplementedError, RuntimeError),
)


def _refuse_other_zip(name: str, packed: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            parts = archive.infolist()
            names = {part.filename.lower() for part in parts}
            if "xl/workbook.xml" not in names or names & {"xl/workbook.bin", "content.xml"}:
                raise InvalidInput(f"{name} is a zip archive, not an Excel workbook (.xlsx)")
            unpacked = sum(part.file_size for part in parts)
            if unpacked > 4 * MAX_DOCUMENT:
                raise InvalidInput(f"{name} unpacks to {unpacked:,} bytes, which is too much")
            for part in parts:
                with archive.open(part) as sheet:
                    _refuse_wide_sheet(name, sheet)
    except _ZIP_FAULTS as error:
        raise InvalidInput(f"{name} is a broken Excel workbook: {one_line(error)}") from error


def _refuse_wide_sheet(name: str, sheet: IO[bytes]) -> None:
    """InvalidInput for a sheet whose rectangle of cells, empty or not, is too large to hold.

    One cell in the far corner makes 17 thousand million of them, for which the reader of
    workbooks would end the whole process.
    """
    letters: set[bytes] = set()
    last, rest, is_sheet = 1, b"", False
    while more := sheet.read(BLOCK):
        block = rest + more
        is_sheet = is_sheet or b"sheetData" in block
        for column, row in _PLACE.findall(block):
            letters.add(column)
            last = max(last, int(row[:9] or 0))
        rest = block[block.rfind(b"<") :]  # a place that is cut here lies within the last tag
        if len(rest) > MAX_FIELD:
            raise InvalidInput(f"{name} is a workbook with a value of more than {MAX_FIELD:,}")
    if not is_sheet:
        return
    width = max((_column_number(each) for each in letters), default=1)
    if width * last > MAX_CELLS:
        raise InvalidInput(
            f"{name}: a sheet spans {width:,} columns and {last:,} rows, which is too much"
        )


def _column_number(letters: bytes) -> int:
    """1 for A, 27 for AA; any column past the last one of Excel is as good as another."""
    number = 0
    for letter in letters[:8].upper():
        number = number * 26 + letter - ord("A") + 1
    return number


def _cells(name: str, packed: bytes) -> list[list[object]]:
    """Rows of cells, all of one width, without those that are wholly empty."""
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(packed))
        sheets = (book.get_sheet_by_name(each).to_python() for each in book.sheet_names)
        filled = ([row for row in sheet if any(cell != "" for cell in row)] for sheet in sheets)
        table = next((sheet for sheet in filled if sheet), None)
    except (CalamineError, OSError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{name} is a broken Excel workbook: {one_line(error)}") from error
    except BaseException as error:
        # The reader is written in Rust, whose panics are no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise InvalidInput(f"{name} is a broken Excel workbook") from error
    if table is None:
        raise InvalidInput(f"{name} is empty")
    # Sheets are often formatted beyond their last column.
    kept = [at for at, title in enumerate(table[0]) if title or any(row[at] != "" for row in table)]
    return [[_cell(row[at]) for at in kept] for row in table]


def _cell(value: object) -> object:
    return pd.Timestamp(value) if isinstance(value, dt.date) else value
