"""Leads of LinkedIn's lead gen forms: responses of its Lead Sync interface.

A response carries question ids only: what they ask is said by the form, so the feed file
maps them under forms.<form id>.fields ('20502584796' = 'email'); where a response was
fetched together with its form (form.content.questions), the predefined fields that it
names (FIRST_NAME, EMAIL ..) are used as well. versionedLeadGenFormUrn names form and
version: 'urn:li:versionedLeadGenForm:(urn:li:leadGenForm:3213,1)'. submittedAt counts
milliseconds. consentResponses say for each consentId whether it was accepted, without its
words. testLead marks a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from aiqleads.ingest.answers import Asked, Forms, Problem, Submission, parsed
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import get, moment_us, prose, shape

_OPTIONS = "questionDetails.multipleChoiceQuestionDetails.options"
_FORM = re.compile(r"leadGenForm:(\d+)(?:,(\d+))?")


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Leads of form responses."""
    submissions: list[Submission] = []
    problems: list[Problem] = []
    records, forms = chunk.rows[RECORD], Forms(feed)
    for row, record in zip(records.index.tolist(), records.tolist(), strict=True):
        if isinstance(record, dict) and isinstance(record.get("formResponse"), dict):
            submissions.append(_submission(row, record, forms))
        elif isinstance(record, dict) and "leadGenFormResponse" in record:
            rule = "answers: to be fetched by leadGenFormResponse"
            problems.append((row, "answers", rule, record["leadGenFormResponse"]))
        else:
            problems.append((row, "answers", "answers: an object formResponse", None))
    seen = shape(records.tolist())
    return parsed(submissions, problems, SOURCE.name, records.index, seen)


def _submission(row: int, record: dict[str, Any], forms: Forms) -> Submission:
    asked = _asked(record, forms)
    key = record.get("id")
    made = Submission(
        row=row,
        key=str(key) if isinstance(key, str | int) else None,
        told=[*_told(record, asked), *_others(record)],
        asked=asked,
        test=record.get("testLead") is True,
        boxes=dict(_boxes(record)),
    )
    try:
        made.received_us = moment_us(record.get("submittedAt"))
    except ValueError:
        made.warnings.append("time not readable")
    return made


def _asked(record: dict[str, Any], forms: Forms) -> Asked:
    """What the feed file says of the form: of this version ('3213,1'), else of any."""
    urn = record.get("versionedLeadGenFormUrn") or record.get("leadGenForm") or ""
    found = _FORM.search(urn) if isinstance(urn, str) else None
    if found is None:
        return forms.of("")
    version = f"{found[1]},{found[2]}"
    return forms.of(version if version in forms else found[1])


def _told(record: dict[str, Any], asked: Asked) -> Iterator[tuple[str, str]]:
    questions = {
        str(each.get("questionId")): each
        for each in _objects(get(record, "form.content.questions"))
    }
    for each in _objects(get(record, "formResponse.answers")):
        if "questionId" not in each:
            continue
        number = str(each["questionId"])
        question = questions.get(number, {})
        field, name = question.get("predefinedField"), question.get("name") or each.get("name")
        label = number if number in asked.mapped else field or name or number
        yield str(label), _answer(each.get("answerDetails"), question)


def _answer(details: object, question: dict[str, Any]) -> str:
    """The text of an answer; of a choice the option's words, where the form is known."""
    text = get(details, "textQuestionAnswer.answer")
    if text is not None:
        return prose(str(text)) or ""
    chosen = get(details, "multipleChoiceAnswer.options")
    words = {
        str(each.get("id")): str(get(each, "text.localized.en_US") or each.get("name") or "")
        for each in _objects(get(question, _OPTIONS))
    }
    picked = chosen if isinstance(chosen, list) else []
    return ", ".join(words.get(str(each)) or str(each) for each in picked)


def _boxes(record: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for each in _objects(get(record, "formResponse.consentResponses")):
        if "consentId" in each:
            yield str(each["consentId"]), each.get("accepted") is True


def _objects(given: object) -> list[dict[str, Any]]:
    """The objects of an array, none where there is no array."""
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _others(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("versionedLeadGenFormUrn", "leadType", "submitter"):
        if isinstance(record.get(name), str):
            yield f"linkedin {name}", record[name]


SOURCE = Source(
    name="linkedin_leads",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="push",
    proof="linkedin",
    formats=("json", "ndjson"),
    records="elements",
    about=(
        "Responses to LinkedIn's lead gen forms, whose question ids the feed file maps form "
        "by form. Consent is what consentResponses say, in the words of the feed file."
    ),
    specification=(
        "https://learn.microsoft.com/en-us/linkedin/marketing/lead-sync/leadsync "
        "(lead form responses)"
    ),
    tested_on=(
        "a published test event (question ids only, no place) and fixtures written from the "
        "specification"
    ),
    parse=parse,
)
