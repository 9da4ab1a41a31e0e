"""Reads values out of records that are trees: JSON objects and XML elements.

One value: `get` finds it, and `text`, `number`, `cents`, `moment_us`, `day` read it. They
give None where nothing stands there and raise ValueError, whose text is a rule such as
'a number', where something stands that cannot be read. A whole chunk: `Records` does the
same column by column and keeps what could not be read as problems.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.contracts.schema_profile import SAMPLE

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: (row number, column of the contract, rule, value as it stood there)
Problem = tuple[int, str, str, object]
T = TypeVar("T")

_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "--"})
# Characters that no text of a listing or a person means: controls, halves of surrogate
# pairs (no database takes them), the byte order mark and the space of no width.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\u200b]")
_NUMBER = re.compile(
    r"[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: what datetime64[ns] holds with room to spare; servers write year 1 for "none"
_YEARS = range(1700, 2201)
# Of a bare number: seconds before the year 5138, above that milliseconds.
_MOST_SECONDS = 10**11
_LABELS = ("name", "column_id", "questionId", "key", "id")
_ANSWERS = ("values", "value", "string_value", "answer", "answerDetails")
_PARTS = ("part", "type", "name")
_TREES = frozenset({dict, list})
_DEEPEST = 64


def _is_element(node: object) -> TypeGuard[Element]:
    return hasattr(node, "tag") and hasattr(node, "attrib")


def _plain(tag: object) -> str:
    """A tag without its namespace; comments and instructions have none at all."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _children(node: Element, name: str) -> list[Element]:
    return [child for child in node if _plain(child.tag) == name]


def every(node: object, path: str) -> list[Any]:
    """All that stands at a dotted path, in order; an empty list where nothing does.

    A name steps into an object or to the children of that tag, a number into a list, and
    a name on a list steps into each of its items. Of XML '@name' is an attribute, and an
    element at the end of the path stays an element. Namespaces are ignored.
    """
    nodes: list[Any] = [node]
    for step in path.split("."):
        found: list[Any] = []
        for each in nodes:
            if isinstance(each, Mapping):
                if step in each:
                    found.append(each[step])
            elif isinstance(each, list):
                if step.isdecimal():
                    found += each[int(step) : int(step) + 1]
                else:
                    found += [x[step] for x in each if isinstance(x, Mapping) and step in x]
            elif _is_element(each):
                if step.startswith("@"):
                    found += [v for k, v in each.attrib.items() if _plain(k) == step[1:]]
                else:
                    found += _children(each, step)
        nodes = found
    return nodes


def get(node: object, path: str) -> Any:
    """The first value at a dotted path that is not null; None where there is none.

    Of an XML element its text, which may be empty.
    """
    if isinstance(node, dict) and "." not in path:
        return node.get(path)
    for found in every(node, path):
        if found is not None:
            return (found.text or "") if _is_element(found) else found
    return None


def text(value: object) -> str | None:
    """One line without control characters and double spaces; None where nothing is left.

    Numbers are written as they are, whole ones without a decimal point.
    """
    if value.__class__ is str and value.isprintable() and "  " not in value:
        return value.strip() or None
    if value is None:
        return None
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("a text")
        if isinstance(value, float):
            if math.isnan(value):
                return None
            if value.is_integer() and abs(value) < 2**53:
                value = int(value)
        return str(value)
    return " ".join(_CONTROL.sub("", value).split()) or None


def prose(value: object) -> str | None:
    """A text of several lines: only what no text means is taken out."""
    if value is None or not isinstance(value, str):
        return text(value)
    return (value if value.isprintable() else _CONTROL.sub("", value)).strip() or None


def number(value: object) -> float | None:
    """A finite number; of a text also '1,234.5' and '1e6', and None for 'N/A' and its like."""
    if value is None:
        return None
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.lower() in _NOTHING:
            return None
        if not _NUMBER.fullmatch(stripped):
            raise ValueError("a number")
        value = float(stripped.replace(",", ""))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    try:
        read = float(value)
    except OverflowError:
        raise ValueError("a number") from None
    if math.isnan(read):
        return None
    if math.isinf(read):
        raise ValueError("a number")
    return read


def cents(value: object) -> float | None:
    """An amount of dollars as cents; of a text also '$1,234.50' and 'USD 1,234'."""
    if isinstance(value, str):
        value = value.strip().removeprefix("USD").removesuffix("USD").strip().removeprefix("$")
    try:
        amount = number(value)
    except ValueError:
        raise ValueError("an amount in dollars") from None
    if amount is None:
        return None
    if math.isinf(amount * 100):
        raise ValueError("an amount in dollars")
    return float(round(amount * 100))


@lru_cache(maxsize=16)
def _zone(timezone: str) -> ZoneInfo:
    return ZoneInfo(timezone)


def _moment(value: object, timezone: str) -> datetime | None:
    """A point in time with a zone."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            stripped = value.strip()
            if stripped.lower() in _NOTHING:
                return None
            if stripped.isdecimal() and len(stripped) > 8:
                return _moment(int(stripped), timezone)
            if stripped[0].isalpha():
                read = parsedate_to_datetime(stripped)
            else:
                read = datetime.fromisoformat(stripped)
            if read.tzinfo is None:
                read = read.replace(tzinfo=_zone(timezone))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value if abs(value) < _MOST_SECONDS else value / 1000
            read = _EPOCH + timedelta(seconds=seconds)
        else:
            raise ValueError
        if read.year not in _YEARS:
            raise ValueError
    except (ValueError, OverflowError, TypeError, IndexError):
        raise ValueError("a date and time") from None
    return read


def moment_us(value: object, timezone: str = "UTC") -> int | None:
    """Microseconds since the epoch, UTC.

    ISO 8601, RFC 5322 ('Tue, 03 Mar 2026 ..'), or seconds or milliseconds since the epoch;
    a time without a zone is one of `timezone`.
    """
    read = _moment(value, timezone)
    return None if read is None else (read - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=16_384)
def _written_day(written: str) -> date | None:
    """The day of 'YYYY-MM-DD' and 'M/D/YYYY'; None of anything else."""
    month = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", written)
    try:
        if month:
            return date(int(month[3]), int(month[1]), int(month[2]))
        return date.fromisoformat(written)
    except ValueError:
        return None


def day(value: object, timezone: str = "UTC") -> date | None:
    """A local day; a time with a zone is brought to `timezone` first."""
    if isinstance(value, str):
        found = _written_day(value.strip())
        if found is not None and found.year in _YEARS:
            return found
    try:
        read = _moment(value, timezone)
    except ValueError:
        raise ValueError("a date") from None
    return None if read is None else read.astimezone(_zone(timezone)).date()


class Records:
    """The records of a chunk, read column by column.

    index: the row numbers. problems: what stood there but could not be read; the value is
    missing then. Each reading takes the first of the paths at which a record holds
    something.
    """

    def __init__(self, records: Sequence[Any], index: pd.Index) -> None:
        self.records = list(records)
        self.index = index
        self._objects = all(each.__class__ is dict for each in self.records)
        self.problems: list[Problem] = []

    def raw(self, *paths: str) -> list[Any]:
        """The values as they stand there, None where nothing does."""
        found = self._values(paths[0])
        for path in paths[1:]:
            holes = [at for at, value in enumerate(found) if value is None or value == ""]
            if len(holes) == len(found):
                found = self._values(path)
                continue
            for at in holes:
                found[at] = get(self.records[at], path)
        return found

    def _values(self, path: str) -> list[Any]:
        if self._objects and "." not in path:
            return [each.get(path) for each in self.records]
        return [get(each, path) for each in self.records]

    def read(
        self, column: str, values: Iterable[object], reading: Callable[[object], T | None]
    ) -> list[T | None]:
        """Each value read; one that cannot be is None and a problem of that column."""
        made: list[T | None] = []
        for at, value in enumerate(values):
            try:
                made.append(None if value is None else reading(value))
            except ValueError as error:
                made.append(None)
                self.problem(int(self.index[at]), column, str(error), value)
        return made

    def problem(self, row: int, column: str, rule: str, value: object) -> None:
        """Notes that `value` of a row does not fit: its rule reads 'column: rule'."""
        self.problems.append((row, column, f"{column}: {rule}", value))

    def texts(self, column: str, *paths: str) -> list[str | None]:
        """Texts in one line."""
        return self.read(column, self.raw(*paths), text)

    def numbers(self, column: str, *paths: str) -> NDArray[np.float64]:
        """Numbers, NaN where there is none."""
        return self._floats(column, self.raw(*paths), number)

    def cents(self, column: str, *paths: str) -> NDArray[np.float64]:
        """Amounts of dollars in cents, NaN where there is none."""
        return self._floats(column, self.raw(*paths), cents)

    def _floats(
        self, column: str, values: list[Any], reading: Callable[[object], float | None]
    ) -> NDArray[np.float64]:
        kinds = set(map(type, values))
        # A float may be infinite or no number at all; a bool is not one of these types.
        if kinds <= {int, float, type(None)}:
            try:
                plain = np.array(values, dtype=np.float64)
            except OverflowError:
                plain = np.array([np.inf])
            if reading is cents:
                plain = np.round(plain * 100)
            if not np.isinf(plain).any():
                return plain
        return np.array(self.read(column, values, reading), dtype=np.float64)

    def days(self, column: str, *paths: str, timezone: str) -> pd.Series:
        """Local days at midnight, datetime64[ns]."""
        made = self.read(column, self.raw(*paths), lambda value: day(value, timezone))
        held = np.array(made, dtype="datetime64[D]").astype("datetime64[ns]")
        return pd.Series(held, self.index)

    def moments(self, column: str, *paths: str, timezone: str) -> pd.Series:
        """Microseconds since the epoch, Int64."""
        made = self.read(column, self.raw(*paths), lambda value: moment_us(value, timezone))
        return pd.Series(pd.array(made, dtype="Int64"), self.index)

    def frame(self) -> pd.DataFrame:
        """The problems as a table: index, column, rule, value."""
        return pd.DataFrame(self.problems, columns=["index", "column", "rule", "value"])


def kinds(flat: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Kind of the values of each field of flattened records: number, text, date or empty."""
    records = list(flat)
    made = {}
    for name in dict.fromkeys(chain.from_iterable(records)):
        values = [each.get(name) for each in records]
        types = set(map(type, values))
        sample = (
            next((each for each in values if isinstance(each, str)), "") if str in types else ""
        )
        made[name] = _kind(types, sample)
    return made


def _kind(types: set[type], sample: str) -> str:
    if str in types:
        return "date" if re.match(r"\d{4}-\d\d-\d\d(?:$|T)", sample) else "text"
    if types & {int, float, bool}:
        return "number"
    return "empty"


def sampled(records: Sequence[T]) -> list[T]:
    """At most SAMPLE of the records, the same ones each time: enough to know their shape."""
    if len(records) <= SAMPLE:
        return list(records)
    picked = np.random.default_rng(len(records)).permutation(len(records))[:SAMPLE]
    return [records[at] for at in picked.tolist()]


def shape(records: Sequence[object]) -> dict[str, str]:
    """`kinds` of the scalar fields of a chunk's records, by a sample of them."""
    return kinds(flatten(record) for record in sampled(records))


def flatten(record: object) -> dict[str, Any]:
    """The scalar fields of a record under dotted names, for the watch over its shape.

    Lists: of scalars, one text with ', ' between; of answers ({"name": .., "values": ..} and
    their like), a field for each name; of other objects, how many there are. Repeated XML
    elements are told apart by what their attribute `part` or `type` says. Anything else
    (a page, a mail) has no fields. A flat record is given back as it is: do not change it.
    """
    flat: dict[str, Any] = {}
    if isinstance(record, dict):
        if not any(each.__class__ in _TREES for each in record.values()):
            return record
        _flatten_object(record, "", flat, 0)
    elif _is_element(record):
        _flatten_element(record, "", flat, 0)
    return flat


def _flatten_object(
    record: Mapping[str, Any], prefix: str, flat: dict[str, Any], depth: int
) -> None:
    for name, value in record.items():
        if value.__class__ not in _TREES:
            flat[prefix + name] = value
        elif isinstance(value, dict):
            if depth < _DEEPEST:
                _flatten_object(value, f"{prefix}{name}.", flat, depth + 1)
        else:
            flat.update(_flatten_list(value, f"{prefix}{name}"))


def _flatten_list(values: list[Any], name: str) -> Iterator[tuple[str, Any]]:
    if not any(isinstance(each, dict | list) for each in values):
        yield name, ", ".join(map(str, values)) if values else None
        return
    answers = [_answer(each) for each in values]
    for answer in answers:
        if answer is not None:
            yield f"{name}.{answer[0]}", answer[1]
    if None in answers:
        yield f"{name}.count", len(values)


def _answer(item: object) -> tuple[str, Any] | None:
    """(label, value) of a list's item that is one labelled answer."""
    if not isinstance(item, dict):
        return None
    label = next((item[key] for key in _LABELS if isinstance(item.get(key), str | int)), None)
    held = next((key for key in _ANSWERS if key in item), None)
    if label is None or held is None:
        return None
    value = item[held]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return str(label), None if isinstance(value, dict) else value


def _flatten_element(node: Element, prefix: str, flat: dict[str, Any], depth: int) -> None:
    for name, value in node.attrib.items():
        flat[f"{prefix}@{_plain(name)}"] = value
    for child in node:
        tag = _plain(child.tag)
        if not tag:
            continue
        part = next((child.attrib[key] for key in _PARTS if key in child.attrib), "")
        name = f"{prefix}{tag}.{part}" if part else prefix + tag
        if len(child) and depth < _DEEPEST:
            _flatten_element(child, f"{name}.", flat, depth + 1)
        else:
            flat.setdefault(name, (child.text or "").strip() or None)
