"""What the columns of a part of a feed look like, in figures that can be added up and kept.

A profile holds no person's data. Of text it keeps shapes (every digit a 9, every run of
letters an a), lengths and counts; of numbers rounded quantiles between 1.5 % and 98.5 %,
so no single extreme; of categories digests, and the word itself only where it is short and
common and the column is not about a person. Of a column that is about a person, by its
name or its values, shapes and counts are all that is kept.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Objects = NDArray[np.object_]

#: values of a column that are looked at beyond whether they are there
SAMPLE = 1_024
#: distinct texts of a sample whose kind is looked at, and whose shape is
_KINDS_OF, _SHAPES_OF = 512, 128
#: the probabilities of the quantiles that are kept
PROBABILITIES: Floats = (np.arange(33) + 0.5) / 33
#: categories of an open profile, of a closed one, and rows that a kept category has at least
_MOST_OPEN, _MOST_CLOSED, _FEWEST = 256, 64, 5
_MOST_SHAPES = 16
#: larger numbers are nothing that a column of a feed measures
_LARGEST = 1e15
#: of the columns that are named by a period, the last ones are looked at
_PERIODS = 12
#: a word is kept in clear only in a column with at most so many
_MOST_WORDS, _LONGEST_WORD = 32, 24

#: ways to write nothing, in lower case
_NOTHING = frozenset({"na", "n/a", "nan", "null", "none", "-", "--"})
_MONTH = r"[A-Za-z]{3,9}"
_CLOCK = r"[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp][Mm])?(?:Z| ?[-+]\d{2}:?\d{2})?"
_FORM = re.compile(
    r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)"
    rf"|(?P<date>(?:\d{{4}}[-/]\d{{1,2}}(?:[-/]\d{{1,2}})?|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}"
    rf"|{_MONTH}[- ]\d{{1,2}}(?:,|-)? ?\d{{4}}|{_MONTH} \d{{4}}|\d{{1,2}}[- ]{_MONTH}[- ]\d{{4}})"
    rf"(?:{_CLOCK})?)"
    r"|(?P<amount>[-+]?[$€£]? ?\d[\d,]*(?:\.\d+)? ?(?:[%KMkm])?)"
)
_CLASSES = {
    **dict.fromkeys(map(ord, "0123456789"), "9"),
    **dict.fromkeys(map(ord, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), "a"),
    **dict.fromkeys(map(ord, "\r\n\t\x00"), " "),
}
_LETTERS, _WORDS = re.compile("a+"), re.compile("a(?: a)+")
_LONG, _GROUPS = re.compile("9{6,}"), re.compile(r"9[9+]*(?:,9[9+]*)*")
_PERSON = re.compile(
    r"name|mail|phone|telefon|mobile|fax|contact|addr|street|remark|comment|message|note|descr"
    r"|answer|url|link|photo|image|birth|agent|owner|person|buyer|seller|tenant|token|secret"
    r"|(?:^|[^a-z])(?:tel|cell|ip|dob|ssn)(?:[^a-z]|$)"
)
_TELEPHONE = re.compile(r"\+?[\d(][\d ().-]{8,17}")


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    rows: of the part. nulls: rows without a value. seen: values looked at. kinds: number,
    amount (1,234 or $1.2M), date, text or flag -> values, of as many as were told apart.
    distinct: different ones among the seen, summed over merged parts. whole: of the numbers
    those without a fraction. numbers: as many quantiles as PROBABILITIES, of dates in days
    since 1970, () where there are none; measured: of how many. lengths: quantiles of the
    texts' lengths. shapes: shape -> values, '' for all the rare ones. categories: digest ->
    values; None where there are too many, or the column is about a person. words: digest ->
    the word.
    """

    rows: int
    nulls: int
    seen: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    distinct: int = 0
    whole: int = 0
    measured: int = 0
    numbers: tuple[float, ...] = ()
    lengths: tuple[float, ...] = ()
    shapes: Mapping[str, int] = field(default_factory=dict)
    categories: Mapping[str, int] | None = None
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """A part of a feed. header: whether its columns are those of a table's header.

    columns: in the feed's order. A record of a tree has no field that says nothing, so a
    column that a tree's part does not have is one without values.
    """

    rows: int
    header: bool
    columns: Mapping[str, ColumnProfile]

    def to_json(self) -> dict[str, Any]:
        """The profile as plain values."""
        columns = {name: _plain(column) for name, column in self.columns.items()}
        return {"rows": self.rows, "header": self.header, "columns": columns}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Profile:
        """The profile that `to_json` wrote."""
        columns = {name: _column(plain) for name, plain in given["columns"].items()}
        return cls(given["rows"], given["header"], columns)

    def merged(self, other: Profile) -> Profile:
        """The profile of both parts together; quantiles to about 1/33 in rank."""
        names = list(dict.fromkeys([*self.columns, *other.columns]))
        columns = {
            name: _merged(
                self.columns.get(name, ColumnProfile(self.rows, self.rows)),
                other.columns.get(name, ColumnProfile(other.rows, other.rows)),
            )
            for name in names
        }
        return Profile(self.rows + other.rows, self.header and other.header, columns)

    def closed(self) -> Profile:
        """The profile without its rare categories, which might be one person's."""
        return Profile(
            self.rows,
            self.header,
            {name: _closed(column) for name, column in self.columns.items()},
        )


def profile(given: pd.DataFrame, columns: Mapping[str, str], *, header: bool = True) -> Profile:
    """The profile of rows as they were given.

    given: one column per field; texts, numbers, moments or other scalars; None, NaN and ''
    are no value. columns: the kind of each column's values as its source reads them
    (number, text, date, empty). header: False for fields of a tree. Linear in rows, but
    beyond counting nulls at most SAMPLE values of a column are looked at, the same ones
    for the same rows.
    """
    order = np.random.default_rng(len(given)).permutation(len(given))
    found: dict[str, ColumnProfile] = {}
    names = [str(name) for name in given.columns]
    periods = [place for place, name in enumerate(names) if _is_period(name)]
    passed_over = set(periods[:-_PERIODS])
    for place, text in enumerate(names):
        if place in passed_over:
            continue
        column = _profiled(text, given.iloc[:, place], columns.get(text, ""), order)
        key = column_name(text)
        found[key] = _merged(found[key], column) if key in found else column
    return Profile(len(given), header, found)


def column_name(name: str) -> str:
    """The name under which a column is known.

    A period (a wide table has a column a month) is known by its shape, so that next month's
    is no new column; so is what may be a value, as in a table whose header is missing.
    """
    if _is_period(name):
        return shape(name)
    if "@" in name or sum(letter.isdigit() for letter in name) > 8 or len(name) > 100:
        return f"{shape(name)} {_digest(name)[:4]}"
    return name


def _is_period(name: str) -> bool:
    found = _FORM.fullmatch(name)
    return found is not None and found.lastgroup == "date"


def shape(text: str) -> str:
    """The text with 9 for a digit (9+ for six and more) and a for a word, cut at 40."""
    return _collapsed(_ascii(text[:200]).translate(_CLASSES))


@lru_cache(maxsize=8_192)
def _collapsed(classes: str) -> str:
    words = _WORDS.sub("a a", _LETTERS.sub("a", classes))
    return _LONG.sub("9+", words)[:40]


@lru_cache(maxsize=8_192)
def _ungrouped(classes: str) -> str:
    """Without the count of digits and of groups of them."""
    return _GROUPS.sub("9", _collapsed(classes))


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    return "".join(c if c.isascii() else "a" if c.isalpha() else "?" for c in text)


def about_person(name: str) -> bool:
    """Whether a column's name says that it may tell who somebody is."""
    return _PERSON.search(name.lower()) is not None


# --- one column ----------------------------------------------------------------------


def _profiled(
    name: str, values: pd.Series[Any], given: str, order: NDArray[np.intp]
) -> ColumnProfile:
    array = values.to_numpy()
    null = _nothing(array, order)
    rows, nulls = len(array), int(null.sum())
    if nulls == rows:
        return ColumnProfile(rows, nulls)
    picked = array[order[~null[order]][:SAMPLE]]
    secret = about_person(name) and given != "date"
    if picked.dtype == object:
        return _of_objects(rows, nulls, picked, secret, given)
    if picked.dtype.kind == "M":
        days = picked.astype("datetime64[s]").astype(np.int64) / 86_400
        return ColumnProfile(
            rows, nulls, len(days), {"date": len(days)}, len(np.unique(days)), 0,
            len(days), quantiles(days), shapes={"date": len(days)},
        )  # fmt: skip
    kind = "flag" if picked.dtype.kind == "b" else "number"
    return _of_objects(rows, nulls, picked.astype(object), secret, given, kind)


def _nothing(array: NDArray[Any], order: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Where there is no value; a word for none counts where a sample has it."""
    if array.dtype != object:
        return np.asarray(pd.isna(array))
    # Telling that all are texts is much cheaper than telling which are missing.
    texts = pd.api.types.infer_dtype(array, skipna=False) == "string"
    null = np.zeros(len(array), dtype=bool) if texts else np.asarray(pd.isna(array))
    words = array[order[:SAMPLE]].tolist()
    words = set(words if texts else [each for each in words if isinstance(each, str)])
    for word in {"", *(each for each in words if len(each) <= 4 and each.lower() in _NOTHING)}:
        null |= np.asarray(array == word, dtype=bool)
    return null


def _of_objects(
    rows: int, nulls: int, picked: Objects, secret: bool, given: str, typed: str = ""
) -> ColumnProfile:
    """Of texts, and of what JSON or a workbook holds."""
    values = picked.tolist()
    typed = typed or _type_of(values)
    texts = values if typed == "text" else [_text(value) for value in values]
    counts = Counter(texts)
    seen, distinct = len(texts), len(counts)
    kinds_of = _kinds(counts, typed)
    if given == "date":
        # Days written as whole numbers, which only the source can know.
        kinds_of = {
            text: "date" if kind == "number" and _packed(text) else kind
            for text, kind in kinds_of.items()
        }
    kinds = Counter[str]()
    for text, each in kinds_of.items():
        kinds[each] += counts[text]
    main = kinds.most_common(1)[0][0]
    secret = secret or _looks_personal(kinds_of)
    shapes = Counter[str]()
    for text, each in _first(kinds_of.items(), _SHAPES_OF):
        shapes[_form(text, each, typed)] += counts[text]
    numbers = np.empty(0) if secret else _numbers(kinds_of, counts)
    lengths = np.fromiter(map(len, counts), np.float64, distinct)
    categories = None if secret or distinct > _MOST_OPEN else _hashed(counts)
    return ColumnProfile(
        rows=rows,
        nulls=nulls,
        seen=seen,
        kinds=dict(kinds),
        distinct=distinct,
        whole=int((numbers == np.floor(numbers)).sum()) if len(numbers) else 0,
        measured=len(numbers),
        numbers=quantiles(numbers) if len(numbers) else (),
        lengths=quantiles(np.repeat(lengths, list(counts.values()))) if main == "text" else (),
        shapes=_most_common(shapes),
        categories=categories,
        words=_clear(counts, kinds_of) if categories else {},
    )


def _type_of(values: Sequence[Any]) -> str:
    """'text' where all are str, 'flag' or 'number' where all are of that type, else ''."""
    types = set(map(type, values))
    if types == {str}:
        return "text"
    if types <= {bool, np.bool_}:
        return "flag"
    return "number" if types <= {int, float, np.int64, np.float64} else ""


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.0f}"
    return str(value)


def _kinds(counts: Counter[str], typed: str) -> dict[str, str]:
    """The kind of up to _KINDS_OF of the distinct texts."""
    if typed in ("flag", "number"):
        return dict.fromkeys(counts, typed)
    return {text: _kind(text) for text in _first(counts, _KINDS_OF)}


def _kind(text: str) -> str:
    # What most columns hold is known without the expression.
    if text.replace(".", "", 1).isdecimal():
        return "number"
    found = _FORM.fullmatch(text.strip())
    return found.lastgroup or "text" if found else "text"


def _most_common(shapes: Counter[str]) -> dict[str, int]:
    """The commonest shapes, and under '' how many values have another one."""
    kept = dict(Counter({name: n for name, n in shapes.items() if name}).most_common(_MOST_SHAPES))
    rest = shapes.total() - sum(kept.values())
    return {**kept, "": rest} if rest else kept


def _first(items: Iterable[Any], most: int) -> Iterable[Any]:
    return (item for item, _ in zip(items, range(most), strict=False))


def _packed(text: str) -> bool:
    return text.isdigit() and len(text) in (6, 8, 10, 13)


def _form(text: str, kind: str, typed: str) -> str:
    """The shape; of a number, an amount or a date without the count of its digits."""
    if typed in ("flag", "number"):
        return kind
    if kind == "text":
        return shape(text)
    return _ungrouped(_ascii(text[:200]).translate(_CLASSES))


def _looks_personal(kinds_of: Mapping[str, str]) -> bool:
    """Whether more than a tenth of the texts are e-mail addresses or telephone numbers."""
    texts = [text for text, kind in kinds_of.items() if kind == "text"]
    odd = sum("@" in text or _TELEPHONE.fullmatch(text) is not None for text in texts)
    return odd > len(kinds_of) / 10


def _numbers(kinds_of: Mapping[str, str], counts: Counter[str]) -> Floats:
    """The numbers and days among the texts, each as often as it came."""
    dates = [text for text, kind in kinds_of.items() if kind == "date"]
    plain = [text for text, kind in kinds_of.items() if kind == "number"]
    amounts = [text for text, kind in kinds_of.items() if kind == "amount"]
    # Days among numbers would be another scale: the commoner of the two counts.
    if len(dates) > len(plain) + len(amounts):
        texts, values = dates, _days(dates)
    else:
        texts = plain + amounts
        values = np.array([*map(float, plain), *map(_amount, amounts)])
    often = np.fromiter((counts[text] for text in texts), np.int64, len(texts))
    known = np.isfinite(values)
    return np.repeat(values[known], often[known])


def _amount(text: str) -> float:
    scale = {"K": 1e3, "M": 1e6}.get(text.strip()[-1].upper(), 1.0)
    digits = "".join(letter for letter in text if letter in "-.0123456789")
    return float(digits) * scale


def _days(texts: Sequence[str]) -> Floats:
    """Days since 1970 of dates as texts, NaN for one that is none in the first one's form."""
    day = texts[0].strip()
    if day.isdigit() and len(day) >= 10:
        unit = 1_000.0 if len(day) == 13 else 1.0
        return np.array([float(text) / unit if _packed(text) else np.nan for text in texts]) / (
            86_400
        )
    if re.match(r"\d{4}-\d{2}-\d{2}", day):
        parsed = pd.to_datetime(
            pd.Series([text.strip()[:10] for text in texts]), format="%Y-%m-%d", errors="coerce"
        )
    else:
        form = next((form for shaped, form in _DAY_FORMS if re.fullmatch(shaped, day)), "%Y-%m")
        parsed = pd.to_datetime(pd.Series(texts).str.strip(), format=form, errors="coerce")
    seconds = parsed.to_numpy("datetime64[s]")
    return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) / 86_400)


_DAY_FORMS = (
    (r"\d{6}", "%y%m%d"),
    (r"\d{8}", "%Y%m%d"),
    (r"\d{1,2}/\d{1,2}/\d{4}", "%m/%d/%Y"),
    (r"\d{4}/\d{1,2}/\d{1,2}", "%Y/%m/%d"),
    (r"[A-Za-z]{4,9}-\d{1,2}-\d{4}", "%B-%d-%Y"),
    (r"[A-Za-z]{4,9} \d{1,2}, \d{4}", "%B %d, %Y"),
    (r"[A-Za-z]{4,9} \d{4}", "%B %Y"),
    (r"\d{1,2}/\d{1,2}/\d{2}", "%m/%d/%y"),
)


def quantiles(values: Floats) -> tuple[float, ...]:
    """The values at PROBABILITIES (inverse of the distribution), rounded.

    Rounded to a power of ten at most a hundredth of the spread of their middle 68 %: what
    one row said is not given away exactly.
    """
    ordered = np.sort(np.clip(values, -_LARGEST, _LARGEST))
    at = np.minimum((PROBABILITIES * len(ordered)).astype(np.intp), len(ordered) - 1)
    kept = ordered[at]
    spread = float(kept[27] - kept[5]) or float(kept[-1] - kept[0])
    if spread > 0:
        places = 2 - math.floor(math.log10(spread))
        kept = np.round(kept, min(places, 12))
    return tuple(kept.tolist())


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()


def _hashed(counts: Counter[str]) -> dict[str, int]:
    return {_digest(text): count for text, count in counts.items()}


def _clear(counts: Counter[str], kinds_of: Mapping[str, str]) -> dict[str, str]:
    """The words that may be kept: common, short, of letters, in a column of few."""
    if len(counts) > _MOST_WORDS:
        return {}
    return {
        _digest(text): text
        for text, count in counts.items()
        if count >= _FEWEST
        and len(text) <= _LONGEST_WORD
        and (kinds_of.get(text) != "text" or sum(letter.isdigit() for letter in text) <= 2)
    }


# --- together ------------------------------------------------------------------------


def _merged(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    shapes = Counter(a.shapes)
    shapes.update(b.shapes)
    kinds = Counter(a.kinds)
    kinds.update(b.kinds)
    return ColumnProfile(
        rows=a.rows + b.rows,
        nulls=a.nulls + b.nulls,
        seen=a.seen + b.seen,
        kinds=dict(kinds),
        distinct=a.distinct + b.distinct,
        whole=a.whole + b.whole,
        measured=a.measured + b.measured,
        numbers=_mixed(a.numbers, a.measured, b.numbers, b.measured),
        lengths=_mixed(a.lengths, a.seen, b.lengths, b.seen),
        shapes=_most_common(shapes),
        categories=_added(a, b),
        words={**a.words, **b.words},
    )


def _added(a: ColumnProfile, b: ColumnProfile) -> dict[str, int] | None:
    """Categories of both; a part without any value has no say."""
    if (a.seen and a.categories is None) or (b.seen and b.categories is None):
        return None
    both = Counter(a.categories or {})
    both.update(b.categories or {})
    return dict(both) if len(both) <= _MOST_OPEN else None


def _mixed(a: tuple[float, ...], n_a: int, b: tuple[float, ...], n_b: int) -> tuple[float, ...]:
    """Quantiles of the mixture of two samples of the given sizes."""
    if not a or not b:
        return a or b
    values = np.array(a + b)
    weights = np.repeat([n_a / len(a), n_b / len(b)], [len(a), len(b)])
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order])
    at = np.searchsorted(mass, PROBABILITIES * mass[-1])
    return tuple(values[order][np.minimum(at, len(values) - 1)].tolist())


def _closed(column: ColumnProfile) -> ColumnProfile:
    if column.categories is None:
        return column
    ranked = sorted(column.categories.items(), key=lambda pair: (-pair[1], pair[0]))
    kept = {name: count for name, count in ranked[:_MOST_CLOSED] if count >= _FEWEST}
    words = {name: word for name, word in column.words.items() if name in kept}
    if len(words) > _MOST_WORDS:
        words = {}
    return ColumnProfile(**{**vars(column), "categories": kept, "words": words})


# --- kept as JSON --------------------------------------------------------------------


def _plain(column: ColumnProfile) -> dict[str, Any]:
    """Its fields, without those that say nothing."""
    return {
        name: value for name, value in vars(column).items() if value or name in ("rows", "nulls")
    } | ({"categories": {}} if column.categories == {} else {})


def _column(plain: Mapping[str, Any]) -> ColumnProfile:
    given = dict(plain)
    for name in ("numbers", "lengths"):
        if name in given:
            given[name] = tuple(given[name])
    return ColumnProfile(**given)


def dumped(profile: Profile) -> str:
    """The profile as JSON text."""
    return json.dumps(profile.to_json(), separators=(",", ":"))
