"""Whether a feature stands in for something protected: a check of data, not of names.

`catalog.check` refuses a feature that says what it is. A feature can also carry a protected
attribute under any other name; that shows only beside the attribute itself, which no frame
of this project holds. Whoever has it for a test (a census table, invented figures) can ask
here which features foretell it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.errors import InvalidInput

F64 = NDArray[np.float64]

#: A feature that explains more of the attribute than this, beyond chance, is reported: a
#: tenth of the variance is a correlation of about 0.3.
BOUND = 0.1
#: Expected share of false reports among all (Benjamini and Hochberg 1995).
FALSE_DISCOVERY_RATE = 0.05
_BINS = 16


@dataclass(frozen=True)
class Proxy:
    """A feature that foretells a protected attribute.

    explained: share of the attribute's variance that the feature's bins explain (the squared
    correlation ratio), less what a shuffled attribute would show, 0 to 1. p_value: of
    permutations; adjusted: after Benjamini and Hochberg over all features.
    """

    feature: str
    explained: float
    p_value: float
    adjusted: float


def proxies(
    features: pd.DataFrame,
    protected: pd.Series,
    units: Sequence[object] | pd.Series,
    *,
    seed: int,
    bound: float = BOUND,
    permutations: int = 4_999,
) -> list[Proxy]:
    """Features whose association with a protected attribute is neither small nor chance.

    features: (n, F) numbers, NaN where missing. protected: (n,) a number, or 0 and 1, of
    whatever the attribute belongs to. units: (n,) what that is (an area, a surname): the
    attribute is one value a unit, and permutations move it between units, so that a feature
    that merely tells units apart is no finding. Any shape of association counts, since a
    feature is cut into bins by its quantiles. Strongest first. Raises InvalidInput where
    the attribute differs within a unit or is the same everywhere, or where the permutations
    are too few to tell anything of so many features.
    """
    codes, values = _by_unit(protected, units)
    if permutations + 1 < features.shape[1] / FALSE_DISCOVERY_RATE:
        raise InvalidInput(f"{permutations} permutations are too few for {features.shape[1]}")
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(values) for _ in range(permutations)], axis=1)
    together = np.concatenate([values[:, None], shuffled], axis=1)
    rows = np.bincount(codes, minlength=len(values)).astype(np.float64)
    found = []
    for name in features.columns:
        explained = _explained(_bins(features[name].to_numpy(np.float64)), codes, rows, together)
        found.append(_judged(str(name), explained))
    p_values = np.array([each.p_value for each in found])
    adjusted = benjamini_hochberg(p_values)
    judged = [
        Proxy(each.feature, each.explained, each.p_value, float(p))
        for each, p in zip(found, adjusted, strict=True)
    ]
    told = [p for p in judged if p.explained > bound and p.adjusted <= FALSE_DISCOVERY_RATE]
    return sorted(told, key=lambda each: -each.explained)


def benjamini_hochberg(p_values: F64) -> F64:
    """Adjusted p-values: the smallest false discovery rate at which each would be found."""
    order = np.argsort(p_values)
    ranks = np.arange(1, len(p_values) + 1)
    scaled = p_values[order] * len(p_values) / ranks
    adjusted = np.empty_like(scaled)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _by_unit(
    protected: pd.Series, units: Sequence[object] | pd.Series
) -> tuple[NDArray[np.int64], F64]:
    """Each row's unit as a number, and the attribute of each unit."""
    codes = pd.factorize(pd.Series(units).to_numpy())[0].astype(np.int64)
    values = pd.Series(protected.to_numpy(np.float64)).groupby(codes)
    if (values.nunique(dropna=False) > 1).any():
        raise InvalidInput("the attribute has more than one value in a unit")
    of_unit = values.first().to_numpy(np.float64)
    if not np.isfinite(of_unit).all() or np.ptp(of_unit) == 0:
        raise InvalidInput("the attribute is missing somewhere, or the same everywhere")
    return codes, of_unit


def _bins(values: F64) -> NDArray[np.int64]:
    """Bins by quantiles, what is missing in one of its own."""
    bins = np.full(len(values), _BINS, dtype=np.int64)
    there = ~np.isnan(values)
    if there.any():
        edges = np.unique(np.quantile(values[there], np.arange(1, _BINS) / _BINS))
        bins[there] = np.searchsorted(edges, values[there], side="left")
    return bins


def _explained(bins: NDArray[np.int64], codes: NDArray[np.int64], rows: F64, values: F64) -> F64:
    """Squared correlation ratio of each column of values (units, R) given the bins, (R,)."""
    counts = np.zeros((_BINS + 1, len(rows)))
    np.add.at(counts, (bins, codes), 1.0)
    counts = counts[counts.sum(axis=1) > 0]
    size = counts.sum(axis=1, keepdims=True)
    total = rows.sum()
    mean = rows @ values / total
    between = (size * (counts @ values / size - mean) ** 2).sum(axis=0)
    within = rows @ (values - mean) ** 2
    return np.asarray(between / within)


def _judged(name: str, explained: F64) -> Proxy:
    """The first column is the attribute, the others are shuffled."""
    own, chance = explained[0], explained[1:]
    usual = float(chance.mean())
    p_value = float((1 + (chance >= own * (1 - 1e-12)).sum()) / len(explained))
    beyond = (own - usual) / (1.0 - usual) if usual < 1.0 else 0.0
    return Proxy(name, max(float(beyond), 0.0), p_value, p_value)
