"""The bytes of a payload: unpacked, measured, told apart by what is in them.

A body may be larger than memory: it is read in blocks, once to learn what it is
(`surveyed`), and then once for each time that its records are read.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from aiqleads.errors import InvalidInput

Format = Literal["csv", "parquet", "xlsx", "json", "ndjson", "xml", "html", "email"]

BLOCK = 1 << 20
#: what one field, one record (both in characters), one document that cannot be read in
#: blocks, and any body may hold (both in bytes, unpacked)
MAX_FIELD, MAX_RECORD = 2_000_000, 16_000_000
MAX_DOCUMENT, MAX_BODY = 256 << 20, 16 << 30
#: how deep a tree may be nested, and how many columns a table may have
MAX_DEPTH, MAX_COLUMNS = 64, 5_000
#: a larger ratio of unpacked to packed bytes, past the first 64 MiB, is an attack
MAX_RATIO, _RATIO_FREE = 200, 64 << 20

_GZIP = b"\x1f\x8b"
_BINARY: dict[bytes, Format] = {b"PAR1": "parquet", b"PK\x03\x04": "xlsx"}
_NOT_WESTERN = b"\x81\x8d\x8f\x90\x9d"  # what Windows-1252 leaves undefined
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_STRANGERS = {
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"\x1f\x9d": "a compressed file of an unknown kind",
    b"\x28\xb5\x2f\xfd": "a compressed file (Zstandard)",
    b"BZh": "a compressed file (bzip2)",
    b"\xfd7zXZ": "a compressed file (xz)",
}
# RFC 5322: a mail begins with fields "Name: value", and these are among the first.
_FIELD = re.compile(r"[!-9;-~]+:(?:[ \t].*)?")
_MAIL_FIELDS = {
    *("received", "return-path", "delivered-to", "from", "to", "subject", "date"),
    *("message-id", "mime-version", "content-type", "reply-to", "sender"),
}
# The first element after comments and instructions; atomic groups, so that no input makes
# the search try the same text twice.
_MARKUP = re.compile(
    r"(?>\s*(?:<!--.*?-->|<\?.*?\?>))*+\s*<(!doctype\s+)?([a-z][\w:.-]*)", re.IGNORECASE | re.DOTALL
)
# Pages, and what fragments of them begin with; names that XML uses as well are left out.
_HTML_TAGS = {
    *("html", "head", "body", "meta", "style", "script", "div", "p", "span", "table", "tr", "td"),
    *("br", "center", "font", "h1", "h2", "h3", "ul", "ol", "img"),
}


@dataclass(frozen=True)
class Body:
    """A payload unpacked. name: for errors. size: bytes. start: of the text (past a BOM).

    encoding: of text; "" where the format is binary. newline: what ends a line.
    """

    name: str
    size: int
    format: Format
    open: Callable[[], BinaryIO] = field(repr=False)
    encoding: str = ""
    start: int = 0
    newline: Literal["\n", "\r"] = "\n"

    @property
    def unit(self) -> int:
        """Bytes of a code unit."""
        return 2 if self.encoding.startswith("utf-16") else 1

    def width(self, text: str) -> int:
        """How many bytes a piece of the text takes up in the body."""
        if self.unit == 1 and (self.encoding != "utf-8" or text.isascii()):
            return len(text)
        return len(text.encode(self.encoding))

    def whole(self) -> bytes:
        """All of it in memory, for what cannot be read in blocks."""
        if self.size > MAX_DOCUMENT:
            raise InvalidInput(
                f"{self.name} is a document of {self.size:,} bytes; {MAX_DOCUMENT:,} are allowed"
            )
        with self.open() as stream:
            return stream.read()

    def text(self) -> str:
        """All of its text in memory, without the BOM."""
        return self.whole()[self.start :].decode(self.encoding)

    def blocks(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Text in whole lines, and the byte in the body after each of them.

        InvalidInput for a line longer than a record may be.
        """
        with self.open() as stream:
            stream.read(self.start)
            at, rest = self.start, b""
            while more := stream.read(BLOCK):
                block = rest + more
                ends = self._line_ends(block)
                cut = int(ends[-1]) if ends.size else 0
                if cut:
                    yield block[:cut].decode(self.encoding), ends + at
                at, rest = at + cut, block[cut:]
                if len(rest) > MAX_RECORD * self.unit:
                    raise InvalidInput(
                        f"{self.name}: a line from byte {at:,} on is longer than {MAX_RECORD:,}"
                    )
            if rest:
                yield rest.decode(self.encoding), np.array([at + len(rest)])

    def _line_ends(self, block: bytes) -> NDArray[np.int64]:
        kind = {"utf-16-le": "<u2", "utf-16-be": ">u2"}.get(self.encoding, "u1")
        units = np.frombuffer(block, kind, len(block) // self.unit)
        return (np.flatnonzero(units == ord(self.newline)) + 1) * self.unit


def one_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def surveyed(name: str, raw: Callable[[], BinaryIO]) -> tuple[str, int, Body]:
    """SHA-256 and size of the bytes as they came, and what they are.

    One pass over the file. raw: opens the bytes as they came, as often as asked.
    InvalidInput in one line for what is empty, broken or of no known kind.
    """
    digest, packed = _digest(raw)
    with raw() as stream:
        zipped = stream.read(2) == _GZIP
    opened = partial(_unpacked, name, raw, packed) if zipped else raw
    with opened() as stream:
        first = stream.read(BLOCK)
        if not first.strip():
            raise InvalidInput(f"{name} is empty")
        form = next((form for magic, form in _BINARY.items() if first.startswith(magic)), None)
        if form is not None:
            size = len(first) + sum(map(len, _blocks(stream)))
            return digest, packed, Body(name, size, form, opened)
        _refuse_strangers(name, first)
        text = _text_survey(name, first, stream)
    opening = first[text.start :].decode(text.encoding, "ignore")
    newline: Literal["\n", "\r"] = "\n" if text.has_line_feed or "\r" not in opening else "\r"
    form = _text_format(opening)
    body = Body(name, text.size, form, opened, text.encoding, text.start, newline)
    return digest, packed, body


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: stream.read(BLOCK), b"")


def _digest(raw: Callable[[], BinaryIO]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with raw() as stream:
        for block in _blocks(stream):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def _refuse_strangers(name: str, first: bytes) -> None:
    if first.startswith(_GZIP):
        raise InvalidInput(f"{name} is gzip within gzip")
    for magic, what in _STRANGERS.items():
        if first.startswith(magic):
            raise InvalidInput(f"{name} is {what}, which no feed is read from")


@dataclass(frozen=True)
class _Text:
    encoding: str
    start: int
    size: int
    has_line_feed: bool


def _text_survey(name: str, first: bytes, rest: BinaryIO) -> _Text:
    """Reads all of a text: its encoding is what its BOM says, else UTF-8, else Windows-1252."""
    bom = next((bom for bom in _BOMS if first.startswith(bom)), b"")
    encoding = _BOMS.get(bom, "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)()
    size, blank, line_feed, broken, western = len(bom), True, False, "", not bom
    for block in itertools.chain([first[len(bom) :]], _blocks(rest), [b""]):
        if not broken:
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                broken = f"{error.reason} near byte {size + error.start:,}"
        # Looked at from the start: what ends in the middle of a character shows late.
        western = western and len(block.translate(None, _NOT_WESTERN)) == len(block)
        if broken:
            text = block.decode("latin-1")
        if broken and not western:
            known = f"not text in {encoding}" if bom else "neither text in utf-8 nor Windows-1252"
            raise InvalidInput(f"{name} is {known}: {broken}")
        if "\0" in text:
            raise InvalidInput(f"{name} holds NUL bytes: neither text nor a known binary format")
        size += len(block)
        line_feed = line_feed or "\n" in text
        blank = blank and not text.strip()
    if blank:
        raise InvalidInput(f"{name} is empty")
    return _Text("cp1252" if broken else encoding, len(bom), size, line_feed)


def _text_format(opening: str) -> Format:
    """What the first megabyte of a text is; a table where it is nothing else."""
    inner = opening.lstrip()
    if inner[:1] in {"{", "["}:
        return _json_format(inner)
    if markup := _MARKUP.match(inner):
        doctype, tag = markup.groups()
        is_html = tag.lower() in _HTML_TAGS if not doctype else tag.lower() == "html"
        return "html" if is_html else "xml"
    if inner.startswith("<"):
        return "xml"
    return "email" if _is_mail(inner) else "csv"


def _json_format(opening: str) -> Format:
    """ndjson where a line is a value of its own and another one begins in the next."""
    line, _, rest = opening.partition("\n")
    following = rest.lstrip()[:1]
    if following not in {"{", "["}:
        return "json"
    try:
        json.loads(line, strict=False)
    except (ValueError, RecursionError):
        return "json"
    return "ndjson"


def _is_mail(opening: str) -> bool:
    lines = re.split(r"\r\n|\n|\r", opening[:20_000])
    if lines[0].startswith("From "):  # as mail boxes put before each mail
        lines = lines[1:]
    names: list[str] = []
    for line in lines:
        if not line:
            break
        if line[0] in " \t" and names:
            continue
        if not _FIELD.fullmatch(line):
            return False
        names.append(line.partition(":")[0].lower())
    return len(names) > 1 and len(_MAIL_FIELDS & set(names)) > 1


class _Unpacked(io.RawIOBase):
    """Bytes out of a gzip stream, no more than a payload may hold."""

    def __init__(self, name: str, packed: BinaryIO, packed_size: int) -> None:
        self._name, self._packed, self._stream = name, packed, gzip.GzipFile(fileobj=packed)
        self._most = min(MAX_BODY, max(_RATIO_FREE, MAX_RATIO * packed_size))
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        view = memoryview(into)
        try:
            some = self._stream.read(len(view))
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(f"{self._name} is a broken gzip file: {one_line(error)}") from error
        self._size += len(some)
        if self._size > self._most:
            raise InvalidInput(f"{self._name} unpacks to more than {self._most:,} bytes")
        view[: len(some)] = some
        return len(some)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._packed.close()
        super().close()


def _unpacked(name: str, raw: Callable[[], BinaryIO], packed_size: int) -> BinaryIO:
    return io.BufferedReader(_Unpacked(name, raw(), packed_size), BLOCK)
