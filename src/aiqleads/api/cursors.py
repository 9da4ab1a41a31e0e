"""Opaque cursors: where the last page of a listing ended, as a time and an id."""

from __future__ import annotations

import base64
import json

from aiqleads.errors import InvalidInput


def encode(at_us: int, name: str) -> str:
    """The cursor after the item with this time and id."""
    return base64.urlsafe_b64encode(json.dumps([at_us, name]).encode()).decode()


def decode(cursor: str) -> tuple[int, str]:
    """Time and id of the last item seen; InvalidInput for what `encode` never made."""
    try:
        at_us, name = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError) as error:
        raise InvalidInput("the cursor is not one that a page gave out") from error
    is_time = type(at_us) is int and abs(at_us) < 2**63  # true is an int as well
    if not is_time or not isinstance(name, str) or not (name.isascii() and name.isprintable()):
        raise InvalidInput("the cursor is not one that a page gave out")
    return at_us, name
