"""Leads of Meta's lead ads (Facebook and Instagram instant forms).

A webhook only says that a lead exists: object 'page', in each entry's changes one of field
'leadgen' with its leadgen_id. The answers are retrieved by that id: an object with id,
created_time ('2015-02-28T08:49:14+0000'), form_id and field_data, a list of names with
values; of a form read in bulk it is a page {"data": [...]}. Standard questions have fixed
names (full_name, email, phone_number, street_address, city, state, zip_code ..), custom
ones the names that the advertiser gave, mapped by the feed file's forms.<form_id>.fields.
Consent boxes come as custom_disclaimer_responses: a key and whether it was ticked, never
their words. The testing tool fills in values like '<test lead: dummy data for email>'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aiqleads.ingest.answers import Forms, Problem, Submission, parsed
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import moment_us, prose, shape

TO_FETCH = "answers: to be fetched by leadgen_id"
_TEST = "<test lead:"


def leadgen_ids(body: bytes) -> list[str]:
    """The leads that a webhook's body announces, each once, in order; [] for anything else."""
    try:
        told = json.loads(body)
    except ValueError:
        return []
    return list(dict.fromkeys(_announced(told)))


def _announced(told: object) -> Iterator[str]:
    entries = told.get("entry") if isinstance(told, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        for change in changes if isinstance(changes, list) else []:
            value = change.get("value") if isinstance(change, dict) else None
            if not isinstance(value, dict) or change.get("field") != "leadgen":
                continue
            if isinstance(value.get("leadgen_id"), str | int):
                yield str(value["leadgen_id"])


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Leads of retrieved objects; of a webhook a row that says what to fetch."""
    submissions: list[Submission] = []
    problems: list[Problem] = []
    records, forms = chunk.rows[RECORD], Forms(feed)
    for row, record in zip(records.index.tolist(), records.tolist(), strict=True):
        if not isinstance(record, dict):
            problems.append((row, "key", "key: a lead object", None))
        elif "field_data" in record:
            submissions.append(_submission(row, record, forms))
        elif "entry" in record:
            ids = ", ".join(dict.fromkeys(_announced(record)))
            problems.append((row, "answers", TO_FETCH, ids))
        else:
            problems.append((row, "answers", "answers: field_data or a webhook's entry", None))
    seen = shape(records.tolist())
    return parsed(submissions, problems, SOURCE.name, records.index, seen)


def _submission(row: int, record: dict[str, Any], forms: Forms) -> Submission:
    told = list(_told(record.get("field_data")))
    key, form_id = record.get("id"), record.get("form_id")
    made = Submission(
        row=row,
        key=str(key) if isinstance(key, str | int) else None,
        told=told,
        asked=forms.of(str(form_id) if form_id is not None else ""),
        test=any(_TEST in answer for _, answer in told),
        boxes=dict(_boxes(record.get("custom_disclaimer_responses"))),
    )
    try:
        made.received_us = moment_us(record.get("created_time"))
    except ValueError:
        made.warnings.append("time not readable")
    for name in ("form_id", "ad_id", "campaign_id", "platform", "retailer_item_id"):
        if isinstance(record.get(name), str | int):
            made.told.append((name, str(record[name])))
    return made


def _told(given: object) -> Iterator[tuple[str, str]]:
    for each in given if isinstance(given, list) else []:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            continue
        values = each.get("values", each.get("value"))
        texts = map(_text, values if isinstance(values, list) else [values])
        yield each["name"], ", ".join(filter(None, texts))


def _text(value: object) -> str | None:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return prose(str(value)) if value is not None else None


def _boxes(given: object) -> Iterator[tuple[str, bool]]:
    for each in given if isinstance(given, list) else []:
        if isinstance(each, dict) and isinstance(each.get("checkbox_key"), str):
            yield each["checkbox_key"], each.get("is_checked") in (True, 1, "1", "true", "True")


SOURCE = Source(
    name="meta_leads",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="push",
    proof="meta",
    formats=("json", "ndjson"),
    records="data",
    about=(
        "Lead ads of Facebook and Instagram: a signed webhook names the lead, its answers are "
        "retrieved by leadgen_id. Consent is what the form's boxes say, in the words that the "
        "feed file has; forms say buy or sell there as well."
    ),
    specification=(
        "https://developers.facebook.com/docs/marketing-api/guides/lead-ads/retrieving and "
        "https://developers.facebook.com/docs/marketing-api/reference/user-lead-gen-info"
    ),
    tested_on=(
        "the samples of that documentation (about a car, without a place) and fixtures "
        "written from the specification"
    ),
    parse=parse,
)
