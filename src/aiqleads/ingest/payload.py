"""A payload: what a source sent, as it came, and the records in it.

What it is shows in its bytes, never in its name: CSV in any dialect, Parquet, XLSX, JSON,
NDJSON, XML, HTML or a mail, gzipped or not. Tables and lines are read in blocks, so that a
file may be larger than memory. Nothing is lost on the way: the head, the span of each
record and the tail are the whole body, byte for byte.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.errors import InvalidInput
from aiqleads.ingest.payload_bytes import Body, Format, surveyed
from aiqleads.ingest.read_table import RAGGED, Part, csv_parts, parquet_parts, xlsx_parts
from aiqleads.ingest.read_tree import (
    RECORD,
    html_records,
    in_parts,
    json_records,
    mail_records,
    ndjson_records,
    xml_records,
)

__all__ = ["CHUNK_ROWS", "RAGGED", "RECORD", "Chunk", "Payload", "open_payload", "payload_of"]

#: most records in a chunk, which is stored in one transaction
CHUNK_ROWS = 5_000


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of a payload.

    first_row: number of the first one; 1 is the payload's first. rows: indexed by record
    number. A table has a column for each of its own: of CSV every value is text ('' where
    there is none), of Parquet and XLSX the types are kept. A tree has the one column
    RECORD: a dict (JSON), an Element (XML), an EmailMessage, or a text (HTML).
    spans: [start, end) of each record in the unpacked body; each begins where the one
    before ends. In Parquet and XLSX no record has bytes of its own: the first one's span
    is the whole body. ragged: numbers of rows with more or fewer fields than the header;
    they hold nothing but RAGGED, a list of what was there.
    """

    first_row: int
    rows: pd.DataFrame
    spans: NDArray[np.int64]
    ragged: tuple[int, ...]
    payload: Payload = field(repr=False)


@dataclass(frozen=True)
class Payload:
    """Bytes as they came. path: None for what came by network. size: bytes.

    name: of the file or address. sha256, size: of the bytes as they came; `body` is them
    unpacked.
    """

    path: Path | None
    name: str
    sha256: str
    size: int
    format: Format
    body: Body = field(repr=False)
    open: Callable[[], BinaryIO] = field(repr=False)

    def chunks(
        self, records: str = "", chunk_rows: int = CHUNK_ROWS, skip: int = 0
    ) -> Iterator[Chunk]:
        """All records but the first `skip`, at most so many at a time.

        records: where they are in a tree (of JSON the path of the array, of XML the
        element's name). An empty array gives no chunk. InvalidInput in one line where the
        payload is broken, which may show only after some chunks.
        """
        for rows, spans, ragged in self._parts(records, chunk_rows, skip):
            yield Chunk(int(rows.index[0]), rows, spans, ragged, self)

    def partition(self, records: str = "") -> tuple[bytes, NDArray[np.int64], bytes]:
        """What stands before the first record, the spans of all, what stands after the last."""
        found = [chunk.spans for chunk in self.chunks(records)]
        spans = np.concatenate(found) if found else np.empty((0, 2), np.int64)
        with self.body.open() as stream:
            if not len(spans):
                return stream.read(), spans, b""
            head = stream.read(int(spans[0, 0]))
            left = int(spans[-1, 1] - spans[0, 0])
            while left:
                left -= len(stream.read(min(left, 1 << 20)))
            return head, spans, stream.read()

    def _parts(self, records: str, chunk_rows: int, skip: int) -> Iterator[Part]:
        body = self.body
        match self.format:
            case "csv":
                return csv_parts(body, chunk_rows, skip)
            case "parquet":
                return parquet_parts(body, chunk_rows, skip)
            case "xlsx":
                return xlsx_parts(body, chunk_rows, skip)
            case "json":
                found = json_records(body, records)
            case "ndjson":
                found = ndjson_records(body)
            case "xml":
                found = xml_records(body, records)
            case "html":
                found = html_records(body)
            case "email":
                found = mail_records(body)
        return in_parts(found, chunk_rows, skip)


def open_payload(path: Path) -> Payload:
    """A file, told by its content. It is read twice at least and must not change meanwhile.

    InvalidInput in one line for a file that is missing, empty, broken or of no known kind.
    """
    try:
        stamp = _stamp(path)
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error

    def opened() -> BinaryIO:
        try:
            if _stamp(path) != stamp:
                raise InvalidInput(f"{path} changed while it was read")
            return path.open("rb")
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error

    return payload_from(opened, str(path), path)


def payload_of(body: bytes, name: str) -> Payload:
    """Bytes that came by network; `name` is for errors and for the name they are kept under."""
    return payload_from(lambda: io.BytesIO(body), name)


def payload_from(opened: Callable[[], BinaryIO], name: str, path: Path | None = None) -> Payload:
    """Whatever can be opened again and again and gives the same bytes each time."""
    sha256, size, body = surveyed(name, opened)
    shown = path.name if path else name
    return Payload(path, shown, sha256, size, body.format, body, opened)


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns
