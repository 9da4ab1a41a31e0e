"""The do-not-call list that the operator took in: digests of numbers, and of which day it is.

The list's own rules (16 CFR 310.4(b)(3)(iv)) ask for one that is at most 31 days old: an older
one tells nothing any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from sqlalchemy import Connection, Engine, delete, insert, select

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput
from aiqleads.store.bulk import MANY, parts
from aiqleads.store.database import reader
from aiqleads.store.tables import do_not_call
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

#: how long a list may be relied upon
LASTS_US = 31 * US_PER_DAY
_DIGITS = 10
# The row that says of which day the list is.
_HEAD = b""
_OTHER = re.compile(r"\D")


def _digits(number: str) -> str:
    """The ten digits of a number of North America, '' for any other."""
    digits = _OTHER.sub("", number)
    digits = digits.removeprefix("1") if len(digits) == _DIGITS + 1 else digits
    return digits if len(digits) == _DIGITS else ""


def _digests(vault: Vault, numbers: Iterable[str]) -> list[bytes]:
    return vault.match(f"dnc|{each}" for each in numbers)


def replace(engine: Engine, vault: Vault, numbers: Iterable[str], as_of_us: int) -> int:
    """Takes in a list as of a day, in the place of the one before; how many numbers it has.

    numbers: in any writing; what is no number of North America is left out. as_of_us: when
    the list was drawn, wall clock. It is written piece by piece, so that the shop goes on, and
    counts when all of it is there: until then who is in either list is listed. InvalidInput
    for a list that is older than the one before.
    """
    known = sorted({digits for each in numbers if (digits := _digits(each))})
    with reader(engine).connect() as connection:
        before_us = _as_of_us(connection)
    if before_us is not None and as_of_us < before_us:
        raise InvalidInput("the list that is there is newer")
    mark_us = as_of_us if as_of_us != before_us else as_of_us + 1
    for some in parts(known):
        _write(engine, _digests(vault, some), mark_us)
    _write(engine, [_HEAD], mark_us)
    while _drop_some(engine, mark_us):
        pass
    return len(known)


def _write(engine: Engine, digests: Sequence[bytes], as_of_us: int) -> None:
    with writing(engine) as connection:
        connection.execute(delete(do_not_call).where(do_not_call.c.digest.in_(digests)))
        rows = [{"digest": each, "as_of_us": as_of_us} for each in digests]
        connection.execute(insert(do_not_call), rows)


def _drop_some(engine: Engine, mark_us: int) -> int:
    older = do_not_call.c.as_of_us != mark_us
    some = select(do_not_call.c.digest).where(older).limit(MANY)
    with writing(engine) as connection:
        gone = connection.execute(delete(do_not_call).where(do_not_call.c.digest.in_(some)))
        return gone.rowcount


def listed(
    engine: Engine, vault: Vault, phones: Iterable[str], now_us: int
) -> dict[str, Literal["listed", "not_listed"]]:
    """Which of the numbers are in the list; without one that is fresh enough, none is told."""
    digits = {each: _digits(each) for each in phones if _digits(each)}
    if not digits:
        return {}
    with reader(engine).connect() as connection:
        if not _is_fresh(connection, now_us):
            return {}
        digests = dict(zip(digits, _digests(vault, digits.values()), strict=True))
        found: set[bytes] = set()
        for some in parts(set(digests.values())):
            query = select(do_not_call.c.digest).where(do_not_call.c.digest.in_(some))
            found.update(bytes(each) for each in connection.scalars(query))
    return {each: "listed" if digest in found else "not_listed" for each, digest in digests.items()}


def _is_fresh(connection: Connection, now_us: int) -> bool:
    as_of_us = _as_of_us(connection)
    return as_of_us is not None and now_us - as_of_us <= LASTS_US


def _as_of_us(connection: Connection) -> int | None:
    """Of which day the list in force is, None where there is none."""
    query = select(do_not_call.c.as_of_us).where(do_not_call.c.digest == _HEAD)
    return connection.scalar(query)
