"""Chance that belongs to an entity: the same key gives the same draw, whatever is around it.

Rows may come in any order and in batches of any size; what is invented for one of them
does not change. A draw is a function of the entity's key and the name of what is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]


def key_of(text: str) -> int:
    """64-bit key of a text: the first 8 bytes of its BLAKE2b digest."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def keys_of(texts: Iterable[str]) -> Keys:
    """Keys of many texts, shape (n,), uint64."""
    return np.fromiter((key_of(text) for text in texts), np.uint64)


def bits(keys: Keys, what: str) -> Keys:
    """64 well-mixed bits for each key, shape (n,); `what` names the stream.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
    number generators") over the key and the stream's own key.
    """
    with np.errstate(over="ignore"):
        z = keys ^ np.uint64(key_of(what))
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(keys: Keys, what: str, low: float = 0.0, high: float = 1.0) -> Floats:
    """Uniform draws in [low, high), shape (n,)."""
    share = (bits(keys, what) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return low + (high - low) * share


def whole(keys: Keys, what: str, low: int, high: int) -> NDArray[np.int64]:
    """Whole numbers low..high, both included, shape (n,)."""
    return np.floor(uniform(keys, what, low, high + 1)).astype(np.int64)


def normal(keys: Keys, what: str) -> Floats:
    """Standard normal draws, shape (n,), by the inverse of the distribution function."""
    # Half a step away from 0, whose quantile is minus infinity.
    return np.asarray(ndtri(uniform(keys, what) + 2.0**-54), np.float64)


def choice(keys: Keys, what: str, shares: Iterable[float]) -> NDArray[np.int64]:
    """Index of one of the shares (they add up to 1), shape (n,)."""
    edges = np.cumsum(np.asarray(list(shares), np.float64))
    drawn = np.searchsorted(edges, uniform(keys, what), side="right")
    return np.minimum(drawn, len(edges) - 1).astype(np.int64)
