"""From what people answered in a form or a mail to the columns of the contract of leads.

A source that brings leads turns each record into a `Submission`: questions and answers as
they were. Here the questions find their columns, first by the feed file's `fields`, then
by the names that forms commonly use, and the answers are read: '$300k-$400k' is a budget
of 400,000 dollars, 'ASAP' a timeline, 'pre-approved' a way to pay. What finds no column,
or cannot be read, stays word for word in the column `answers`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pandas as pd

from aiqleads.contracts.lead_feed import PROMISES
from aiqleads.domain import Intent
from aiqleads.errors import InvalidInput
from aiqleads.ingest.columns import contract_frame, problem_frame
from aiqleads.ingest.feeds import Feed, Form
from aiqleads.ingest.source import Parsed

#: (row number, column of the contract, rule, value as it stood there)
Problem = tuple[int, str, str, object]

# Names of questions, as `question_key` writes them, in order of trust. A name is looked up
# whole, also without 'lead_' before it.
_NAMES: dict[str, str] = {
    "name": "full_name name your_name contact_name customer_name buyer_name",
    "first_name": "first_name firstname given_name fname first",
    "last_name": "last_name lastname surname family_name lname last",
    "email": "email email_address e_mail e_mail_address your_email work_email reply_to",
    "phone": (
        "phone_number phone mobile_phone mobile cell_phone cell telephone phone_no tel "
        "daytime_phone your_phone work_phone work_phone_number home_phone contact_number"
    ),
    "address": "street_address address home_address street address_line_1 mailing_address",
    "unit": "unit apt apartment unit_number apartment_number",
    "city": "city town",
    "state": "state province region state_or_province",
    "zip": "zip_code zip postal_code postcode post_code zipcode primary_zip",
    "property_type": "property_type home_type type_of_home type_of_property house_type",
    "ask_price_cents": (
        "max_price budget price_range price asking_price list_price listing_price home_value "
        "estimated_value estimated_home_value property_value price_limit your_budget "
        "what_is_your_budget whats_your_budget what_is_your_price_range property_price"
    ),
    "beds": (
        "bedrooms beds bed number_of_bedrooms min_bedrooms how_many_bedrooms property_bedrooms"
    ),
    "baths": (
        "bathrooms baths bath number_of_bathrooms min_bathrooms how_many_bathrooms "
        "property_bathrooms"
    ),
    "living_area_sqft": (
        "square_feet sqft sq_ft square_footage living_area floor_area property_square_feet "
        "home_size"
    ),
    "lot_area_sqft": "lot_size lot lot_area",
    "year_built": "year_built built",
    "timeline": (
        "timeline time_frame timeframe when_are_you_looking_to_buy when_are_you_looking_to_sell "
        "when_do_you_want_to_buy when_do_you_want_to_sell when_are_you_looking_to_move "
        "when_do_you_plan_to_buy when_do_you_plan_to_sell when_would_you_like_to_move "
        "move_in_date moving_date how_soon purchase_timeline selling_timeline"
    ),
    "financing": (
        "financing financing_status pre_approved preapproved are_you_pre_approved "
        "are_you_preapproved mortgage_status loan_status how_will_you_pay payment_method "
        "are_you_pre_approved_for_a_mortgage pre_approval_status prequalified pre_qualified"
    ),
    "intent": (
        "lead_type intent buying_or_selling are_you_buying_or_selling i_want_to i_am_looking_to "
        "looking_to buyer_or_seller are_you_looking_to_buy_or_sell interest"
    ),
    "consent_proof": (
        "xxtrustedformcerturl trustedform_cert_url trusted_form_cert_url trustedform_url "
        "universal_leadid jornaya_leadid leadid_token"
    ),
}
# The home asked about, where the same form also asks where the person lives now.
_HOME = {
    "property_address": "address",
    "property_street": "address",
    "property": "address",
    "listing_address": "address",
    "property_unit": "unit",
    "property_city": "city",
    "property_state": "state",
    "property_zip": "zip",
    "property_zip_code": "zip",
    "property_postal_code": "zip",
}
_COLUMN_OF = {name: column for column, names in _NAMES.items() for name in names.split()}
for _known in (_COLUMN_OF, _HOME):
    _known |= {f"lead_{name}": column for name, column in _known.items()}
_PLACE = ("address", "unit", "city", "state", "zip")
#: what the feed file may name for a question; consent_text: its answer is the consent
TARGETS = frozenset(_NAMES) | {"consent_text", "property_type"}
#: of a question or an answer that has to be understood, in characters
_LONGEST = 200
_SPLIT = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Asked:
    """A form, and which of its questions (by `question_key`) fills which column."""

    form: Form
    mapped: dict[str, str]


class Forms:
    """The forms that the feed file tells of, each looked up once for a chunk."""

    def __init__(self, feed: Feed) -> None:
        self.timezone = feed.market.timezone
        self._options = feed.options
        self._known: dict[str, Asked] = {}

    def __contains__(self, form_id: str) -> bool:
        return form_id in self._options.forms

    def of(self, form_id: str) -> Asked:
        """What is asked by a form; InvalidInput where it maps to a column that is none."""
        if form_id not in self._known:
            form = self._options.form(form_id)
            if wrong := sorted(set(form.fields.values()) - TARGETS):
                known = ", ".join(sorted(TARGETS))
                raise InvalidInput(f"feed file: fields: no column {wrong[0]!r}; known: {known}")
            mapped = {question_key(name): to for name, to in form.fields.items()}
            self._known[form_id] = Asked(form, mapped)
        return self._known[form_id]


@dataclass
class Submission:
    """One person's answers, as a source found them.

    row: its number in the payload. told: (question, answer), in the order of the form.
    asked: what the feed file says of its form. intent: what the format itself means, used
    where neither the payload nor the feed file says more. boxes: consent boxes of the
    payload (key -> ticked). columns: values that the source read itself.
    """

    row: int
    key: str | None
    told: list[tuple[str, str]]
    asked: Asked
    received_us: int | None = None
    intent: Intent | None = None
    test: bool = False
    boxes: dict[str, bool] = field(default_factory=dict)
    columns: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@lru_cache(maxsize=4_096)
def question_key(question: str) -> str:
    """A question as it is looked up: 'What is your Budget?' -> what_is_your_budget."""
    return "_".join(part for part in _SPLIT.split(question.lower().replace("'", "")) if part)


def content_key(*parts: str) -> str:
    """Key of a submission that came without one: the same words are the same submission."""
    whole = "\x1f".join(" ".join(part.split()) for part in parts)
    return "sha256:" + hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def parsed(
    submissions: Sequence[Submission],
    problems: Iterable[Problem],
    source: str,
    index: pd.Index,
    columns: dict[str, str],
) -> Parsed:
    """Rows of the contract of leads on `index`; a row without a submission has only problems.

    source: its name, for the proof of consent. columns: kinds of what the chunk has.
    """
    found = list(problems)
    made: dict[str, list[object]] = {each.name: [None] * len(index) for each in PROMISES}
    made["test"] = [False] * len(index)
    made["warnings"] = [""] * len(index)
    made["place_precision"] = ["none"] * len(index)
    made["property_type"] = ["unknown"] * len(index)
    at = {int(row): position for position, row in enumerate(index)}
    for each in submissions:
        for name, value in _row(each, source, found).items():
            made[name][at[each.row]] = value
    rows = contract_frame(PROMISES, dict(made), index)
    return Parsed(rows=rows, problems=problem_frame(found), columns=columns)


def _row(each: Submission, source: str, problems: list[Problem]) -> dict[str, object]:
    answers = _sorted_out(each)
    row: dict[str, object] = {"key": each.key, "received_us": each.received_us}
    row |= _contact(answers) | _place(answers) | _wishes(answers, each)
    row["intent"] = _intent(answers, each, problems)
    row |= _consent(answers, each, source)
    row |= each.columns
    row["answers"] = _rest(answers)
    row["test"] = each.test
    row["warnings"] = "; ".join(dict.fromkeys(each.warnings))
    return row


@dataclass
class _Answers:
    """Answers by column (with the question they came from), and the others."""

    of: dict[str, list[tuple[str, str]]]
    rest: list[tuple[str, str]]

    def take(self, column: str) -> str | None:
        """The first answer of a column; later ones go to the rest."""
        given = self.of.pop(column, [])
        self.rest += given[1:]
        return given[0][1] if given else None

    def read(
        self, column: str, reading: Callable[[str], object | None], warnings: list[str]
    ) -> object | None:
        """The first answer read; one that cannot be stays among the rest, with a warning."""
        given = self.of.pop(column, [])
        self.rest += given[1:]
        if not given:
            return None
        value = reading(given[0][1][:_LONGEST])
        if value is None:
            self.rest.append(given[0])
            warnings.append(f"{column.removesuffix('_cents')} not readable")
        return value


def _sorted_out(each: Submission) -> _Answers:
    mapped = each.asked.mapped
    of: dict[str, list[tuple[str, str]]] = {}
    home: dict[str, list[tuple[str, str]]] = {}
    rest: list[tuple[str, str]] = []
    for question, answer in each.told:
        answer = answer.strip()
        if not answer:
            continue
        key = question_key(question[:_LONGEST])
        if key in mapped:
            of.setdefault(mapped[key], []).insert(0, (question, answer))
        elif column := _HOME.get(key):
            home.setdefault(column, []).append((question, answer))
        elif column := _COLUMN_OF.get(key):
            of.setdefault(column, []).append((question, answer))
        else:
            rest.append((question, answer))
    if home:
        rest += [told for name in _PLACE for told in of.pop(name, [])]
        of |= home
    return _Answers(of, rest)


def _contact(answers: _Answers) -> dict[str, object]:
    parts = [answers.take("first_name"), answers.take("last_name")]
    name = answers.take("name") or " ".join(part for part in parts if part) or None
    return {"name": name, "email": answers.take("email"), "phone": answers.take("phone")}


def _place(answers: _Answers) -> dict[str, object]:
    return {name: answers.take(name) for name in _PLACE}


def _wishes(answers: _Answers, each: Submission) -> dict[str, object]:
    warned = each.warnings
    kind = answers.read("property_type", read_property_type, warned)
    return {
        "property_type": kind or each.asked.form.property_type or "unknown",
        "ask_price_cents": answers.read("ask_price_cents", read_price, warned),
        "beds": answers.read("beds", read_rooms, warned),
        "baths": answers.read("baths", read_rooms, warned),
        "living_area_sqft": answers.read("living_area_sqft", read_area, warned),
        "lot_area_sqft": answers.read("lot_area_sqft", read_area, warned),
        "year_built": answers.read("year_built", read_year, warned),
        "timeline": answers.read("timeline", read_timeline, warned),
        "financing": answers.read("financing", read_financing, warned),
    }


def _rest(answers: _Answers) -> str | None:
    told: dict[str, str] = {}
    for question, answer in answers.rest:
        told[question] = f"{told[question]}, {answer}" if question in told else answer
    return json.dumps(told, ensure_ascii=False) if told else None


# -- intent and consent -----------------------------------------------------------------


@lru_cache(maxsize=4_096)
def read_intent(text: str) -> Intent | None:
    """buy or sell, None where the words say neither, both or something else (to rent)."""
    said = f" {text.lower().replace('_', ' ')} "
    buys = re.search(r"\b(?:buy|buyer|buying|purchase|purchasing)\b", said) is not None
    sells = re.search(r"\b(?:sell|seller|selling|sale of my|list my)\b", said) is not None
    if buys == sells:
        return None
    return Intent.BUY if buys else Intent.SELL


_RENTS = re.compile(r"(?i)\b(?:rent|renter|lease)\b")


def _intent(answers: _Answers, each: Submission, problems: list[Problem]) -> str | None:
    said = answers.of.pop("intent", [])
    answers.rest += said
    texts = [text[:_LONGEST] for _, text in said]
    told = next((found for text in texts if (found := read_intent(text))), None)
    if told is None and any(_RENTS.search(text) for text in texts):
        problems.append((each.row, "intent", "intent: to buy or to sell, not to rent", said[0][1]))
        return None
    intent = told or each.asked.form.intent or each.intent
    if intent is None:
        rule = "intent: stated by the payload or by the feed file"
        problems.append((each.row, "intent", rule, said[0][1] if said else None))
        return None
    return str(intent)


_YES = re.compile(r"(?i)\s*(?:yes\b.*|y|true|1|on|checked|i agree.*|agree.*|accept.*|ok)\s*\Z")


def _consent(answers: _Answers, each: Submission, source: str) -> dict[str, object]:
    """Consent columns: all of them, or none where nothing shows that the person agreed.

    The words come from the feed file: payloads carry keys of boxes, never their text. A
    question or box that the feed file maps to consent_text has to be answered with yes;
    boxes of a payload of which the feed file names none have to be ticked, all of them.
    """
    proof = answers.take("consent_proof")
    asked = answers.of.pop("consent_text", [])
    answers.rest += asked
    answers.rest += [
        (f"consent box {key}", "yes" if on else "no") for key, on in each.boxes.items()
    ]
    named = {name for name, to in each.asked.mapped.items() if to == "consent_text"}
    own = [on for key, on in each.boxes.items() if question_key(key) in named]
    ticked = [
        *(own or ([] if asked else each.boxes.values())),
        *(_agrees(text) for _, text in asked),
    ]
    if named and not own and not asked:
        ticked = [False]
    if not all(ticked):
        each.warnings.append("consent not given")
        return {}
    consent = each.asked.form.consent
    if consent is None:
        if proof:
            answers.rest.append(("consent_proof", proof))
        return {}
    return {
        "consent_text": consent.text,
        "consent_version": consent.version,
        "consent_channel": consent.channel,
        "consent_us": each.received_us,
        "consent_proof": proof or f"{source}:{each.key}",
        "consent_sellers": float(consent.sellers),
    }


def _agrees(text: str) -> bool:
    return _YES.match(text) is not None


# -- words of answers -------------------------------------------------------------------

_AMOUNT = re.compile(
    r"(?P<figure>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)\s?(?P<times>k\b|m\b|mm\b|mil\w*|thousand)?"
)
_TIMES = {"k": 1e3, "t": 1e3, "m": 1e6}
_WORDS = {"studio": 0.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0}
_LEAST_PRICE = 1_000.0
#: square feet of an acre
_ACRE = 43_560.0


def _amounts(text: str) -> list[tuple[float, str]]:
    return [
        (float(found["figure"].replace(",", "")), (found["times"] or "")[:1])
        for found in _AMOUNT.finditer(text.lower().replace("_", " "))
    ]


@lru_cache(maxsize=4_096)
def read_price(text: str) -> float | None:
    """Cents of the highest price that an answer names; '300-400k' means 300k to 400k."""
    found = _amounts(text)
    unit = next((times for _, times in reversed(found) if times), "")
    dollars = [
        figure * _TIMES.get(times or (unit if figure < _LEAST_PRICE else ""), 1.0)
        for figure, times in found
    ]
    top = max(dollars, default=0.0)
    return round(top * 100.0) * 1.0 if top >= _LEAST_PRICE else None


@lru_cache(maxsize=4_096)
def read_rooms(text: str) -> float | None:
    """The first number of an answer: '3+', '3-4 beds', '2 1/2', 'three', 'studio' (0)."""
    said = text.lower().replace("_", " ")
    half = re.match(r"\s*(\d{1,2})\s+(?:and\s+)?(?:a\s+half|1/2|½)|\s*(\d{1,2})½", said)
    if half:
        return float(half[1] or half[2]) + 0.5
    found = re.search(r"(?<!\d)\d{1,2}(?:\.\d+)?(?!\d)", said)
    if found:
        return float(found[0])
    return next((value for word, value in _WORDS.items() if re.search(rf"\b{word}\b", said)), None)


@lru_cache(maxsize=4_096)
def read_area(text: str) -> float | None:
    """Square feet of the first area in an answer, which may be in acres."""
    found = _amounts(text)
    if not found:
        return None
    figure, times = found[0]
    figure *= _TIMES.get(times, 1.0) if times == "k" else 1.0
    return round(figure * _ACRE, 1) if "acre" in text.lower() else figure


@lru_cache(maxsize=4_096)
def read_year(text: str) -> float | None:
    """A year of four digits."""
    found = re.search(r"\b(1[6-9]\d\d|2[01]\d\d)\b", text)
    return float(found[0]) if found else None


_KINDS = (
    ("Townhouse", r"town\s?-?(?:house|home)|row\s?-?house"),
    ("Condominium", r"condo|co-?op\b"),
    ("Multi Family", r"multi|duplex|triplex|fourplex|2-4 unit"),
    ("Mobile Home", r"mobile|manufactured"),
    ("Apartment", r"apartment|\bflat\b|\bapt\b"),
    ("Unimproved Land", r"\bland\b|\blots?\b|acreage"),
    ("Single Family Residence", r"house|single|detached|\bsfr\b|\bhome\b|residential"),
)


@lru_cache(maxsize=4_096)
def read_property_type(text: str) -> str | None:
    """A kind of home in the words of RESO's PropertySubType."""
    said = text.lower().replace("_", " ")
    return next((kind for kind, words in _KINDS if re.search(words, said)), None)


@lru_cache(maxsize=4_096)
def read_timeline(text: str) -> str | None:
    """now, 1-3 months, 3-6 months, 6-12 months, over 12 months; other words as they are."""
    said = text.lower().replace("_", " ")
    if re.search(r"asap|as soon as|immediate|right away|right now|\bnow\b|this month|ready", said):
        return "now"
    figures = [float(each) for each in re.findall(r"\d+(?:\.\d+)?", said)]
    unit = next(
        (
            days
            for word, days in (("day", 1), ("week", 7), ("month", 30.4), ("year", 365))
            if word in said
        ),
        None,
    )
    if figures and unit and max(figures) * unit < 20_000:
        months = max(figures) * unit / 30.4
        if re.search(r"\+|over|more than|after|>|longer", said):
            months += 0.5
        for top, words in (
            (1, "now"),
            (3, "1-3 months"),
            (6, "3-6 months"),
            (12.05, "6-12 months"),
        ):
            if months <= top + 0.05:
                return words
        return "over 12 months"
    plain = " ".join(said.split())
    return plain if len(plain) <= 40 else None


@lru_cache(maxsize=4_096)
def read_financing(text: str) -> str | None:
    """cash, pre-approved, pre-qualified, loan needed; other words as they are.

    A bare yes or no answers the usual question, whether the buyer is pre-approved.
    """
    said = text.lower().replace("_", " ")
    if re.fullmatch(r"\s*(?:no|n|false|not yet|none)\b.*", said) or re.search(
        r"\bnot\b|\bneed", said
    ):
        return "loan needed"
    if re.search(r"\bcash\b", said):
        return "cash"
    if re.search(r"qualif", said):
        return "pre-qualified"
    if re.search(r"approv", said) or re.fullmatch(r"\s*(?:yes|y|true)\b.*", said):
        return "pre-approved"
    if re.search(r"loan|mortgage|financ|lender|\bfha\b|\bva\b|conventional", said):
        return "loan needed"
    plain = " ".join(said.split())
    return plain if len(plain) <= 40 else None
