"""Leads of lead form assets in Google Ads, as its webhook posts them.

One JSON object a lead: lead_id (unique over all forms), form_id, campaign_id, gcl_id,
is_test, lead_submit_time, and user_column_data, a list of column_id, column_name and
string_value. Column ids are FULL_NAME, FIRST_NAME, LAST_NAME, EMAIL, PHONE_NUMBER,
POSTAL_CODE, STREET_ADDRESS, CITY, REGION, COUNTRY and more; of a custom question the id is
its own, and the feed file's forms.<form_id>.fields maps either its id or its name. The
documentation asks receivers to bear fields they do not know: those stay among the answers.
The key that proves the origin, google_key, is read here by nobody and kept in no column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiqleads.ingest.answers import Asked, Forms, Problem, Submission, parsed, question_key
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import moment_us, prose, shape

KEY_FIELD = "google_key"
_READ = (KEY_FIELD, "lead_id", "user_column_data", "is_test", "lead_submit_time")


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Leads of the webhook's bodies."""
    submissions: list[Submission] = []
    problems: list[Problem] = []
    records, forms = chunk.rows[RECORD], Forms(feed)
    for row, record in zip(records.index.tolist(), records.tolist(), strict=True):
        if isinstance(record, dict) and isinstance(record.get("user_column_data"), list):
            submissions.append(_submission(row, record, forms))
        else:
            problems.append((row, "answers", "answers: a list user_column_data", None))
    seen = shape(records.tolist())
    seen.pop(KEY_FIELD, None)
    return parsed(submissions, problems, SOURCE.name, records.index, seen)


def _submission(row: int, record: dict[str, Any], forms: Forms) -> Submission:
    key, form_id = record.get("lead_id"), record.get("form_id")
    asked = forms.of(str(form_id) if form_id is not None else "")
    made = Submission(
        row=row,
        key=str(key) if isinstance(key, str | int) else None,
        told=[*_told(record["user_column_data"], asked), *_others(record)],
        asked=asked,
        test=record.get("is_test") in (True, "true", 1),
    )
    try:
        made.received_us = moment_us(record.get("lead_submit_time"))
    except ValueError:
        made.warnings.append("time not readable")
    return made


def _told(given: list[Any], asked: Asked) -> Iterator[tuple[str, str]]:
    for each in given:
        if not isinstance(each, dict):
            continue
        ids = [each.get(name) for name in ("column_id", "column_name")]
        names = [name for name in ids if isinstance(name, str) and name]
        value = each.get("string_value")
        if names and value is not None:
            # A custom question's id may be no words at all, so its name may be mapped too.
            own = next((name for name in names if question_key(name) in asked.mapped), names[0])
            yield own, prose(str(value)) or ""


def _others(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields beside the answers, also those that no documentation names yet."""
    for name, value in record.items():
        if name not in _READ and isinstance(value, str | int | float) and value is not False:
            yield name, str(value)


SOURCE = Source(
    name="google_leads",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="push",
    proof="google",
    formats=("json", "ndjson"),
    records="",
    about=(
        "Lead form assets of Google Ads by webhook, proved by the key in the body, which is "
        "kept in no column. Consent and intent are the form's, from the feed file."
    ),
    specification="https://developers.google.com/google-ads/webhook/docs/implementation",
    tested_on=(
        "the sample of that documentation (without a place) and fixtures written from the "
        "specification"
    ),
    parse=parse,
)
