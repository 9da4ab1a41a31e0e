"""A receipt as a page that its buyer can keep or print; nothing is loaded from elsewhere."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from aiqleads.commerce.reports import Receipt
from aiqleads.domain import moment


@lru_cache
def _pages() -> Environment:
    environment = Environment(
        loader=PackageLoader("aiqleads.api", "pages"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["money"] = lambda cents: f"{cents / 100:,.2f}"
    environment.filters["moment"] = lambda us: moment(us).replace("T", " ").rstrip("Z") + " UTC"
    return environment


def receipt_page(receipt: Receipt, notices: list[str]) -> str:
    """The page. notices: what of it is invented, said on top."""
    return _pages().get_template("receipt.html").render(receipt=receipt, notices=notices)
