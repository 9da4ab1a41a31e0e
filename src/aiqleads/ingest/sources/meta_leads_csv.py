"""Source `meta_leads_csv`: the table of a form's leads that Meta lets its advertiser download.

Columns id, created_time (ISO 8601 with an offset), ad_id .. platform, then one a question
under the form's names for it, which are those of `meta_leads`. Ids, phones and ZIPs stand
behind a letter and a colon (`l:`, `p:`, `z:`), so that a spreadsheet leaves them alone;
the table is tab separated UTF-16, or CSV where it was saved again. The testing tool's
answers read `<test lead: dummy data for ..>`. Consent boxes are no part of the table: the
words and the consent are the feed file's, the lead's id is the proof.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiqleads.ingest import columns
from aiqleads.ingest.answers import Forms, Submission, parsed
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import moment_us

_WANTED = {"id": "key", "created_time": "received_us", "form_id": "consent of the form"}
#: what the table says of the advertisement, not of the person
_OWN = frozenset(
    [
        "id",
        "created_time",
        "ad_id",
        "ad_name",
        "adset_id",
        "adset_name",
        "campaign_id",
        "campaign_name",
        "form_id",
        "form_name",
        "is_organic",
        "platform",
    ]
)
_KEPT = ("form_id", "ad_id", "campaign_id", "platform")
#: what stands before a value, by column; a phone's and a ZIP's question may have any name
_PREFIXES = {
    "id": "l:",
    "ad_id": "ag:",
    "adset_id": "as:",
    "campaign_id": "c:",
    "form_id": "f:",
}
_PREFIXED = re.compile(r"^(?:p:(?=\+?[\d(])|z:(?=\d))")
_TEST = "<test lead:"


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Rows as submissions; ContractBroken where a column that every table has is missing."""
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    columns.require_columns(chunk.payload.name, given.columns, _WANTED, "Meta's table of leads")
    problems = columns.ragged_problems(chunk.rows, chunk.ragged)
    ragged, forms = set(chunk.ragged), Forms(feed)
    submissions = [
        _submission(int(row), said, forms)
        for row, said in zip(given.index, given.to_dict("records"), strict=True)
        if row not in ragged
    ]
    return parsed(submissions, problems, SOURCE.name, given.index, columns.kinds(given))


def _submission(row: int, said: Mapping[Any, object], forms: Forms) -> Submission:
    read = ((str(name), _plain(str(name), str(value))) for name, value in said.items())
    filled = {name: value for name, value in read if value}
    questions = [(name, value) for name, value in filled.items() if name not in _OWN]
    made = Submission(
        row=row,
        key=filled.get("id"),
        told=[*questions, *((name, filled[name]) for name in _KEPT if name in filled)],
        asked=forms.of(filled.get("form_id", "")),
        test=any(_TEST in answer for _, answer in questions),
    )
    try:
        made.received_us = moment_us(filled.get("created_time"))
    except ValueError:
        made.warnings.append("time not readable")
    return made


def _plain(name: str, value: str) -> str:
    """A value without the letter before it; the person's other words stay as they are."""
    value = value.strip()
    if name in _OWN:
        return value.removeprefix(_PREFIXES.get(name, ""))
    return _PREFIXED.sub("", value)


SOURCE = Source(
    name="meta_leads_csv",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv",),
    records="",
    about=(
        "The table of a form's leads as downloaded from Meta's Leads Center or Ads Manager, "
        "for the leads from before a webhook was set up. Ids are those of `meta_leads`, "
        "consent is what the feed file says of the form."
    ),
    specification="https://www.facebook.com/business/help/1526849577577186",
    tested_on="fixtures written from the description of the download",
    parse=parse,
)
