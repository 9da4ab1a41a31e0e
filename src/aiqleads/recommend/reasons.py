"""Why a lead stands where it stands: three reason codes in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiqleads.features.catalog import FEATURES

REASONS = 3
_WORDS = {feature.name: feature.reason for feature in FEATURES}


@dataclass(frozen=True)
class Reason:
    """One feature that moved a lead's score, which way, and words that are true either way.

    The feature's value is left out on purpose: three exact distances would give away
    where a lead is. contribution: in the units of the score.
    """

    feature: str
    direction: Literal["up", "down"]
    text: str
    contribution: float


#: why a lead stands higher than its score alone would put it; it adds nothing to a score
FEW_ARE_OFFERED = Reason("allocation", "up", "few agents are offered this lead", 0.0)


def reasons(names: tuple[str, ...], contributions: NDArray[np.float64]) -> list[tuple[Reason, ...]]:
    """Three reasons for each row: what spoke most for it, then what spoke most against it.

    names: of the F features. contributions: (n, F) of the shown page. A feature without words
    is none: what is the same for every lead is no reason for one of them.
    """
    columns = np.array([column for column, name in enumerate(names) if _WORDS.get(name)])
    parts = contributions[:, columns]
    # Positive parts come first, largest first; then negative ones, largest first.
    order = columns[np.lexsort((-np.abs(parts), parts <= 0), axis=1)]
    return [
        _three(names, order[row].tolist(), contributions[row]) for row in range(len(contributions))
    ]


def _three(
    names: tuple[str, ...], order: list[int], contributions: NDArray[np.float64]
) -> tuple[Reason, ...]:
    """The first three of `order` that read differently."""
    chosen: dict[str, Reason] = {}
    for column in order:
        words = _WORDS[names[column]]
        if words not in chosen:
            amount = float(contributions[column])
            chosen[words] = Reason(names[column], "up" if amount > 0 else "down", words, amount)
        if len(chosen) == REASONS:
            break
    return tuple(chosen.values())
