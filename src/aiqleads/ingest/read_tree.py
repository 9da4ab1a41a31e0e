"""Trees and documents: JSON, NDJSON, XML, HTML, mail -> frames of one column RECORD.

A reader gives (rows, spans, ()) again and again, as those of tables do (read_table.py).
A record is a dict (JSON), an Element (XML), a text (HTML) or an EmailMessage.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import gc
import json
import re
import xml.etree.ElementTree as ET  # its builder only: defusedxml parses
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from aiqleads.errors import InvalidInput
from aiqleads.ingest.payload_bytes import BLOCK, MAX_DEPTH, MAX_RECORD, Body, one_line
from aiqleads.ingest.read_table import Part

#: the one column of a tree's rows
RECORD = "record"
#: a record and its [start, end) in the body
Found = tuple[object, int, int]

_SPACE = re.compile(r"[ \t\r\n]*")
# \ud800 and the like escape half of a pair, which no database takes; nor does it take NUL.
_ODD_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_ODD = re.compile("[\x00\ud800-\udfff]")


def in_parts(found: Iterator[Found], chunk_rows: int, skip: int) -> Iterator[Part]:
    """Gathers records; what stands between two belongs to the second."""
    end, first = -1, skip + 1
    for skipped in islice(found, skip):
        end = skipped[2]
    while some := _gathered(found, chunk_rows):
        ends = np.array([each[2] for each in some], dtype=np.int64)
        starts = np.concatenate([[some[0][1] if end < 0 else end], ends[:-1]])
        # An Element is a sequence, which any other way of making an array would unfold.
        column = np.fromiter((each[0] for each in some), dtype=object, count=len(some))
        rows = pd.DataFrame({RECORD: column}, pd.RangeIndex(first, first + len(some)))
        yield rows, np.column_stack([starts, ends]), ()
        first, end = first + len(some), int(ends[-1])


def _gathered(found: Iterator[Found], size: int) -> list[Found]:
    """The next records, made without the garbage collector.

    It would go through all the dicts of a chunk time and again, which takes three times as
    long as making them, and finds nothing: a tree of values has no cycles.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return list(islice(found, size))
    finally:
        if collecting:
            gc.enable()


# -- JSON -------------------------------------------------------------------------------

# Control characters inside texts are common, and NaN is what Python's writers make of
# a missing number.
_DECODER = json.JSONDecoder(strict=False, parse_constant=lambda _: None)


def ndjson_records(body: Body) -> Iterator[Found]:
    """An object in each line that is not blank."""
    number, start = 0, body.start
    for text, ends in body.blocks():
        for line, end in zip(text.split("\n"), ends.tolist(), strict=False):
            number += 1
            if line and not line.isspace():
                yield _object(_line_value(body.name, number, line), line, body.name), start, end
                start = end


def _line_value(name: str, number: int, line: str) -> object:
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name}, line {number}: {_json_fault(error)}") from error


def json_records(body: Body, records: str) -> Iterator[Found]:
    """The objects of an array: the document, or where `records` ("a.b") leads in it.

    A document that has no such place is one record by itself.
    """
    text = body.text()
    plain = body.unit == 1 and (body.encoding != "utf-8" or text.isascii())
    at, byte = 0, body.start
    try:
        for value, start, end in _document(text, [each for each in records.split(".") if each]):
            record = _object(value, text[start:end], body.name)
            if plain:
                yield record, body.start + start, body.start + end
                continue
            first = byte + body.width(text[at:start])
            at, byte = end, first + body.width(text[start:end])
            yield record, first, byte
    except (ValueError, RecursionError, IndexError) as error:
        raise InvalidInput(f"{body.name} is broken JSON: {_json_fault(error)}") from error


def _document(text: str, path: list[str]) -> Iterator[Found]:
    begin = _past_space(text, 0)
    end, found = yield from _walk(text, begin, path)
    if _past_space(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    if not found:
        yield _DECODER.raw_decode(text, begin)[0], begin, end


def _walk(text: str, at: int, path: list[str]) -> Generator[Found, None, tuple[int, bool]]:
    """Records of the value at a place; the place after it, and whether the path was there.

    All that is not a record is read too: a document that was cut does not pass.
    """
    if text[at] == "[":
        return (yield from _array(text, at)), True
    if text[at] != "{" or not path:
        value, end = _DECODER.raw_decode(text, at)
        if value is not None:
            yield value, at, end
        return end, True
    at, found = _past_space(text, at + 1), False
    while text[at] != "}":
        if text[at] != '"':
            raise json.JSONDecodeError("Expecting a property name", text, at)
        key, at = _DECODER.raw_decode(text, at)
        at = _past_space(text, _expected(text, _past_space(text, at), ":"))
        if key == path[0] and not found:
            at, found = yield from _walk(text, at, path[1:])
        else:
            _, at = _DECODER.raw_decode(text, at)
        at = _past_space(text, at)
        if text[at] != "}":
            at = _past_space(text, _expected(text, at, ","))
    return at + 1, found


def _array(text: str, at: int) -> Generator[Found, None, int]:
    at = _past_space(text, at + 1)
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield value, at, end
        at = _past_space(text, end)
        if text[at] != "]":
            at = _past_space(text, _expected(text, at, ","))
    return at + 1


def _past_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _expected(text: str, at: int, sign: str) -> int:
    if text[at] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, at)
    return at + 1


def _json_fault(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH}"
    return "it ends too early" if isinstance(error, IndexError) else one_line(error)


def _object(value: object, source: str, name: str) -> dict[str, Any]:
    """A record that is an object, not too large or deep, with texts that any store takes."""
    if not isinstance(value, dict):
        kind = {"list": "an array", "NoneType": "null"}.get(type(value).__name__, "a bare value")
        raise InvalidInput(f"{name}: a record is {kind}, not an object")
    if len(source) > MAX_RECORD:
        raise InvalidInput(f"{name}: a record has more than {MAX_RECORD:,} characters")
    if source.count("{") + source.count("[") > MAX_DEPTH and _too_deep(value):
        raise InvalidInput(f"{name}: a record is nested deeper than {MAX_DEPTH}")
    return _mended(value) if _ODD_ESCAPE.search(source) else value


def _too_deep(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for some in inner for each in some if isinstance(each, dict | list)]
    return bool(level)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _ODD.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {_mended(name): _mended(inner) for name, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list) else value


# -- XML --------------------------------------------------------------------------------


class _Records:
    """Builds one Element for each record, and knows where in the body it stood."""

    def __init__(self, body: bytes, tag: str, unit: str) -> None:
        self.parser: Any = None  # set as soon as there is one, which needs this object
        self.done: list[Found] = []
        self._body, self._tag, self._unit = body, tag, unit
        self._builder: ET.TreeBuilder | None = None
        self._depth = self._outer = self._start = 0
        self._bare = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        if self._builder is None and (not self._tag or tag.rpartition("}")[2] == self._tag):
            self._builder, self._outer = ET.TreeBuilder(), self._depth
            self._start = self._index()
        self._bare = True
        if self._builder is not None:
            self._builder.start(tag, attributes)

    def data(self, text: str) -> None:
        self._bare = False
        if self._builder is not None:
            self._builder.data(text)

    def end(self, tag: str) -> None:
        if self._builder is not None:
            self._builder.end(tag)
            if self._depth == self._outer:
                self.done.append((self._builder.close(), self._start, self._end()))
                self._builder = None
        self._depth -= 1
        self._bare = False

    def close(self) -> None:
        """Called by the parser at the end of the document."""

    def _index(self) -> int:
        return int(self.parser.parser.CurrentByteIndex)

    def _end(self) -> int:
        """Byte after the end tag that the parser stands at, or after the empty element."""
        at, closes = self._index(), "/>".encode(self._unit)
        if self._bare and self._body[at - len(closes) : at] == closes:
            return at
        sign = ">".encode(self._unit)
        found = self._body.find(sign, at)
        while (found - at) % len(sign):
            found = self._body.find(sign, found + 1)
        return found + len(sign)


def xml_records(body: Body, records: str) -> Iterator[Found]:
    """Elements of that name wherever they stand, or the root; namespaces do not matter.

    DTDs with entities and references to other files are refused.
    """
    whole = body.whole()
    skipped = 0 if body.unit == 2 else len(whole) - len(whole[body.start :].lstrip())
    document = whole[skipped:]  # some senders put blank lines before the declaration
    target = _Records(document, records, body.encoding if body.unit == 2 else "ascii")
    target.parser = DefusedXMLParser(target=target)
    none = True
    try:
        for at in range(0, len(document), BLOCK):
            target.parser.feed(document[at : at + BLOCK])
            some, target.done = target.done, []
            none = none and not some
            for record, start, end in some:
                yield record, skipped + start, skipped + end
        target.parser.close()
    except (ET.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise InvalidInput(f"{body.name} is broken XML: {one_line(error)}") from error
    if none:
        raise InvalidInput(f"{body.name} holds no element {records!r}")


# -- documents --------------------------------------------------------------------------


def html_records(body: Body) -> Iterator[Found]:
    """The page as one text; what reads it is to be as forgiving as browsers are."""
    text = body.text()
    if len(text) > MAX_RECORD:
        raise InvalidInput(f"{body.name} is a page of more than {MAX_RECORD:,} characters")
    yield text, 0, body.size


def mail_records(body: Body) -> Iterator[Found]:
    """One mail with its parts."""
    whole = body.whole()
    if len(whole) > 2 * MAX_RECORD:
        raise InvalidInput(f"{body.name} is a mail of {len(whole):,} bytes")
    if whole.lower().count(b"boundary") > MAX_DEPTH:
        raise InvalidInput(f"{body.name} is a mail with more than {MAX_DEPTH} parts in parts")
    try:
        # Of the newer rules a hostile header of 100 kB takes the better part of a minute.
        mail = email.message_from_bytes(
            whole[body.start :], _class=email.message.EmailMessage, policy=email.policy.compat32
        )
    except (ValueError, LookupError, RecursionError, AttributeError, TypeError) as error:
        raise InvalidInput(f"{body.name} is a broken mail: {one_line(error)}") from error
    yield mail, 0, body.size
