"""Names that follow from what they name: the same row gets the same id in every run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

BUYERS = "simulated_buyers"
REPEATS = "simulated_repeats"
#: sources whose keys are made here, of all that tells a row from any other
_OWN_KEYS = frozenset({"sales_csv", BUYERS, REPEATS})


def named(letter: str, identities: Iterable[str]) -> list[str]:
    """Ids of 17 characters; one letter's ids cannot be told from another's of the same row."""
    digest = hashlib.blake2b
    return [
        letter + digest(f"{letter}|{text}".encode(), digest_size=8).hexdigest()
        for text in identities
    ]


def lead_ids(source: str, source_keys: Iterable[str]) -> list[str]:
    """The lead that each submission of a source makes, if it joins no other."""
    if source in _OWN_KEYS:
        return named("L", source_keys)
    return named("L", [f"{source}|{key}" for key in source_keys])


def submission_ids(source: str, source_keys: Iterable[str]) -> list[str]:
    """The submissions of a source by its keys."""
    return named("U", [f"{source}|{key}" for key in source_keys])
