"""Every source that leads come from: a row in a dictionary, not a class to inherit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiqleads.errors import UnknownName
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import Payload
from aiqleads.ingest.sources import sales_csv
from aiqleads.ingest.sources.parsed import Parsed


@dataclass(frozen=True)
class Source:
    """What is known of a source before any payload comes.

    kind: lead (a person with consent), listing, sale or series. rights: sell, or analyse
    only. cost_cents: of one accepted lead. door: how payloads come in. formats: what they
    may be. about: one sentence, with what is invented. parse: payload -> canonical rows.
    """

    name: str
    kind: Literal["lead", "listing", "sale", "series"]
    rights: Literal["sell", "analyse"]
    cost_cents: int
    door: Literal["pull", "push", "mail", "file"]
    formats: tuple[str, ...]
    about: str
    parse: Callable[[Payload, Market], Parsed]


SOURCES: dict[str, Source] = {
    "sales_csv": Source(
        name="sales_csv",
        kind="sale",
        rights="sell",
        cost_cents=0,
        door="file",
        formats=("csv", "csv.gz", "parquet"),
        about=(
            "Sales of homes, as a market file maps their columns; each stands in for the "
            "seller's enquiry some weeks before it, with an invented date, price and contact."
        ),
        parse=sales_csv.parse,
    ),
}


def source_named(name: str) -> Source:
    """The source of that name; UnknownName says which there are."""
    if name not in SOURCES:
        raise UnknownName(f"no source {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]
