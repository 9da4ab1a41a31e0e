"""What a source is, and what it makes of a part of a payload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import Chunk

Kind = Literal["lead", "listing", "sale", "series"]


@dataclass(frozen=True)
class Parsed:
    """Canonical rows of a chunk, not yet checked against the contract of their kind.

    rows: the contract's columns, indexed by row number (a series row may give several); a
    value that could not be read is missing there and has a row in problems (index, column,
    rule, value). columns: kind of the values (number, text, date, empty) of each column
    that the chunk has.
    """

    rows: pd.DataFrame
    problems: pd.DataFrame
    columns: dict[str, str]


@dataclass(frozen=True)
class Source:
    """What is known of a source before any payload comes; one module each, found by name.

    kind: lead (a person with consent), listing, sale or series. rights: sell, or analyse
    only. cost_cents: of one accepted lead, where the feed file states none. door: how
    payloads mostly come in. proof: how it proves its origin. formats: what payloads may
    be. records: where the rows of a tree are: of JSON the path of its array ('value'), of
    XML the element; '' for the document itself. about: one sentence, with what is
    invented. specification: where the format is written down. tested_on: real samples, or
    fixtures written from the specification. parse: chunk -> canonical rows.
    section: of the market file, where that maps the columns; needed: our columns of it
    without which the feed cannot be read.
    """

    name: str
    kind: Kind
    rights: Literal["sell", "analyse"]
    cost_cents: int
    door: Literal["pull", "push", "mail", "file"]
    proof: Literal["none", "hmac", "meta", "google", "linkedin"]
    formats: tuple[str, ...]
    records: str
    about: str
    specification: str
    tested_on: str
    parse: Callable[[Chunk, Feed], Parsed]
    section: Literal["", "sales", "listings", "people", "series"] = ""
    needed: tuple[str, ...] = ()
