"""Random numbers by name instead of by turn: a counter hash over the entities they belong to.

A draw is a function of (seed, stream, entity, entity, ...) and of nothing else, so an agent,
a request or an (agent, lead) pair has the same luck whatever else is simulated before it.
The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable
pseudorandom number generators", OOPSLA 2014), chained once for each entity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import IntEnum, auto
from functools import cache

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ODD = 0x2545F4914F6CDD1D
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """What a number is for; a new use is appended, so that the others keep their numbers."""

    HOME = auto()
    HOME_EAST = auto()
    HOME_NORTH = auto()
    TIER = auto()
    JOINED = auto()
    RATE = auto()
    BUDGET = auto()
    PRICE_CENTRE = auto()
    PRICE_DECLARED = auto()
    SECOND_AREA = auto()
    AREA_STRENGTH = auto()
    AREA_REACH = auto()
    BEDS = auto()
    INTENT = auto()
    TASTE = auto()
    APPEAL = auto()
    PAIR = auto()
    REQUESTS = auto()
    HOUR = auto()
    SECOND_OF_HOUR = auto()
    DEVICE = auto()
    MOOD = auto()
    VARIANT = auto()
    SLATE = auto()
    EXAMINE = auto()
    VIEW = auto()
    HOLD = auto()
    BUY = auto()
    RETURN = auto()
    REASON = auto()
    VIEW_DELAY = auto()
    HOLD_DELAY = auto()
    CLOSE_DELAY = auto()
    RETURN_DELAY = auto()
    LATE = auto()
    ARRIVAL = auto()
    SURFACE = auto()
    TRUST = auto()
    BOT = auto()
    MOVES = auto()
    NEXT_PRICE = auto()
    NEXT_AREA = auto()
    RIVAL_COUNT = auto()
    RIVAL_TIME = auto()
    RIVAL = auto()
    DUPLICATE = auto()
    DUPLICATE_DELAY = auto()


def _mix(z: U64) -> U64:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@cache
def _root(seed: int, stream: Stream) -> U64:
    # arrays of one number, since numpy warns of the wanted overflow for scalars only
    return _mix(np.array([(seed * _ODD + int(stream)) % 2**64], dtype=np.uint64) + _GAMMA)


def keys_of(names: Iterable[str]) -> U64:
    """64-bit keys of names, shape (n,): an entity's identity for `uniform`."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def uniform(seed: int, stream: Stream, *entities: U64 | int) -> F64:
    """Numbers in the open interval (0, 1), of the shape to which the entities broadcast.

    Entities are keys (`keys_of`) or small integers such as a day's number; the result has
    at least one axis.
    """
    return _chain(_root(seed, stream), entities)


def uniforms(seed: int, streams: tuple[Stream, ...], *entities: U64 | int) -> F64:
    """`uniform` of several streams at once: one row for each, shape (len(streams), ...).

    Row for row the numbers of `uniform`, for much less overhead on short arrays.
    """
    shape = np.broadcast_shapes(*(np.shape(entity) for entity in entities)) or (1,)
    return _chain(_roots(seed, streams).reshape(-1, *(1 for _ in shape)), entities)


@cache
def _roots(seed: int, streams: tuple[Stream, ...]) -> U64:
    return np.concatenate([_root(seed, stream) for stream in streams])


def _chain(state: U64, entities: tuple[U64 | int, ...]) -> F64:
    for entity in entities:
        state = _mix((state ^ np.asarray(entity, dtype=np.uint64)) + _GAMMA)
    # 52 bits and a half step, so that neither 0 nor 1 can come out and logarithms are finite
    return ((state >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def normal(seed: int, stream: Stream, *entities: U64 | int) -> F64:
    """Standard normal numbers of the entities' shape, by Box and Muller's transform."""
    radius = np.sqrt(-2.0 * np.log(uniform(seed, stream, *entities, 1)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(seed, stream, *entities, 2)))


def exponential(seed: int, stream: Stream, *entities: U64 | int) -> F64:
    """Exponential numbers of mean 1 and of the entities' shape."""
    return np.asarray(-np.log(uniform(seed, stream, *entities)))


def gumbel(seed: int, stream: Stream, *entities: U64 | int) -> F64:
    """Standard Gumbel numbers of the entities' shape."""
    return np.asarray(-np.log(-np.log(uniform(seed, stream, *entities))))


def pick(shares: Iterable[float], uniforms: F64) -> NDArray[np.int64]:
    """Index of the class into which each uniform number falls; shares need not sum to 1."""
    edges = np.cumsum(np.asarray(list(shares), dtype=np.float64))
    found = np.searchsorted(edges / edges[-1], uniforms, side="right")
    return np.minimum(found, len(edges) - 1).astype(np.int64)


def poisson(mean: F64, luck: F64, most: int) -> NDArray[np.int64]:
    """Poisson numbers by inversion of the uniform numbers `luck`, at most `most`."""
    term = np.exp(-mean)
    below, counts = term.copy(), np.zeros(np.shape(mean), dtype=np.int64)
    for n in range(1, most + 1):
        counts += luck > below
        term = term * mean / n
        below = below + term
    return counts
