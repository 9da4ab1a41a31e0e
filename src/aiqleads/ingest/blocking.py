"""By which keys submissions of one person find each other without a readable contact.

A submission has up to ten keys, and two are compared where they share one: each key
outlasts some of the ways in which people and sources write differently. Only their keyed
digests are stored.

A key that more than FULL submissions share (an office's phone, a surname of a big
building) stops being one: it makes no pairs any more, and equal e-mails or phones of that
kind speak for nobody. Whether a key is full depends on the set of submissions and not on
their order: when it fills up, links that rest on it are judged again (see `linkage`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import floor, isnan

from sqlalchemy import Connection

from aiqleads.ingest.clusters import Pair, pair
from aiqleads.ingest.identity import Identities, name_sound, sound
from aiqleads.ingest.reach import email_key, phone_key
from aiqleads.store import links as store

#: submissions that may share a key
FULL = 40
#: metres; a person's points of a home lie much closer together
_CELL_M = 500.0
_SHORTEST_LOCAL = 6
_OFFICES = "contact office admin support noemail nobody hello sales enquiries"


def keys_of(people: Identities) -> list[list[str]]:
    """The keys of each submission, none twice.

    e-mail; its local part; phone; how the full name sounds (either order, short forms as
    full ones) with the ZIP, with a cell of 500 m on two grids shifted by half a cell, with
    the first six and with the last four digits of the phone; the door: house number, sound
    of the street, ZIP.
    """
    columns = (people.first, people.last, people.email, people.local, people.phone)
    home = (people.number, people.stem, people.zip, people.x.tolist(), people.y.tolist())
    return [_keys(*row) for row in zip(*columns, *home, strict=True)]


def _keys(
    first: str,
    last: str,
    email: str,
    local: str,
    phone: str,
    number: str,
    stem: str,
    zipcode: str,
    x: float,
    y: float,
) -> list[str]:
    made = [email_key(email), phone_key(phone)]
    if len(local) >= _SHORTEST_LOCAL and local not in _OFFICES.split():
        made.append(f"l|{local}")
    if name := name_sound(first, last):
        if zipcode:
            made.append(f"z|{name}|{zipcode}")
        if not isnan(x):
            made.append(f"g|{name}|{floor(x / _CELL_M)}|{floor(y / _CELL_M)}")
            made.append(f"h|{name}|{floor(x / _CELL_M + 0.5)}|{floor(y / _CELL_M + 0.5)}")
        if phone:
            made.append(f"a|{name}|{phone[:6]}")
            made.append(f"b|{name}|{phone[6:]}")
    if number and stem and zipcode:
        made.append(f"s|{number}|{sound(stem)}|{zipcode}")
    return [key for key in made if key]


@dataclass(frozen=True)
class Candidates:
    """Pairs to judge. again: stored links that hold no more unless they are among the pairs.

    full: keys that make no pairs; an e-mail or phone of such a key speaks for nobody.
    """

    pairs: set[Pair]
    again: set[Pair]
    full: set[bytes]


def candidates(
    connection: Connection,
    keys: Mapping[str, Iterable[bytes]],
    renewed: Mapping[str, Iterable[bytes]],
) -> Candidates:
    """The pairs that fresh submissions make, with each other and with stored ones.

    keys: digests by fresh submission; renewed: those that some of them have in store.
    """
    fresh: dict[bytes, list[str]] = defaultdict(list)
    for who, digests in keys.items():
        for digest in digests:
            fresh[digest].append(who)
    sizes = store.block_sizes(connection, fresh)
    for digests in renewed.values():
        for digest in digests:
            if digest in sizes:
                sizes[digest] -= 1
    full = {digest for digest, new in fresh.items() if len(new) + sizes.get(digest, 0) > FULL}
    filled = {digest for digest in full if sizes.get(digest, 0) <= FULL}
    known = store.block_members(connection, [d for d in sizes if d not in full or d in filled])
    pairs: set[Pair] = set()
    for digest, new in fresh.items():
        if digest in full:
            continue
        old = [who for who in known.get(digest, ()) if who not in keys]
        pairs.update(pair(one, other) for one in new for other in old)
        pairs.update(pair(one, other) for one, other in combinations(new, 2))
    again: set[Pair] = set()
    for digest in filled:
        again |= _linked_within(connection, [x for x in known.get(digest, ()) if x not in keys])
    still, also_full = _still_found(connection, again, full)
    return Candidates(pairs | still, again, full | also_full)


def _still_found(
    connection: Connection, links: set[Pair], full: set[bytes]
) -> tuple[set[Pair], set[bytes]]:
    """The links between stored submissions that share a key yet, and more keys that are full."""
    if not links:
        return set(), set()
    keys = store.keys_of(connection, {end for ends in links for end in ends})
    sizes = store.block_sizes(connection, set().union(*keys.values()))
    also_full = {digest for digest, size in sizes.items() if size > FULL}
    none = full | also_full
    return {(a, b) for a, b in links if (keys[a] & keys[b]) - none}, also_full


def _linked_within(connection: Connection, members: list[str]) -> set[Pair]:
    inside = set(members)
    known = store.known_pairs(connection, members) if len(members) > 1 else {}
    return {ends for ends, each in known.items() if each.holds and inside.issuperset(ends)}
