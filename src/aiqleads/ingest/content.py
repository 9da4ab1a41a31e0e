"""Has a row said the same before? Digests of rows, and what they say of a chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Verdict:
    """What is new in a chunk, against the store and against its own rows before.

    last: positions of the last row of each thing that is new or says something new.
    fresh: which of those are not stored yet. updated, duplicates: flags by row, (n,).
    """

    last: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    updated: NDArray[np.bool_]
    duplicates: NDArray[np.bool_]


def verdict(ids: Sequence[str], content: Sequence[bytes], stored: Mapping[str, bytes]) -> Verdict:
    """ids: what each row is about. content: digest of what it says. stored: id -> digest."""
    said = dict(stored)
    last: dict[str, int] = {}
    updated, duplicates = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
    for at, (who, now) in enumerate(zip(ids, content, strict=True)):
        before = said.get(who)
        if before is not None:
            duplicates[at] = before == now
            updated[at] = before != now
        said[who] = now
        last[who] = at
    news = [at for who, at in last.items() if stored.get(who) != content[at]]
    fresh = np.array([ids[at] not in stored for at in news], dtype=bool)
    return Verdict(np.array(news, dtype=np.int64), fresh, updated, duplicates)


def digests(rows: pd.DataFrame) -> list[bytes]:
    """A digest of 8 bytes of each row (pandas' hash of its values): equal rows, equal digests."""
    hashed = pd.util.hash_pandas_object(rows, index=False).to_numpy(np.uint64)
    whole = hashed.astype(">u8").tobytes()
    return [whole[at : at + 8] for at in range(0, len(whole), 8)]
