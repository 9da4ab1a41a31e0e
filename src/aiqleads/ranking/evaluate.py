"""How good an order is: metrics per request, and what their differences are worth.

Rows of one request lie together; `sizes` gives the rows of each request in turn. Ties in a
score are broken by `tie` (lower first), which callers draw at random: the rows' own order
is that of the policy which showed them, and must not leak into a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiqleads.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]

RESAMPLES = 2_000
LEVEL = 0.95
#: draws of one bootstrap held in memory at once
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over n requests with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


def ranks(score: ArrayLike, sizes: Ints, tie: ArrayLike | None = None) -> NDArray[np.int64]:
    """Position of each row within its request when sorted by score, best first, from 1.

    score: (n,), NaN goes last. sizes: rows per request, summing to n. tie: (n,), lower first;
    without it ties keep the rows' order. Raises InvalidInput when the sizes do not fit.
    """
    values = np.asarray(score, dtype=np.float64)
    if int(np.sum(sizes)) != len(values) or np.any(np.asarray(sizes) < 1):
        raise InvalidInput(f"sizes of requests add up to {int(np.sum(sizes))}, not {len(values)}")
    request = np.repeat(np.arange(len(sizes)), sizes)
    keys = (-values, request) if tie is None else (np.asarray(tie), -values, request)
    order = np.lexsort(keys)
    position = np.empty(len(values), dtype=np.int64)
    position[order] = np.arange(len(values)) - np.repeat(_starts(sizes), sizes) + 1
    return position


def ndcg_at(
    k: int, relevance: ArrayLike, score: ArrayLike, sizes: Ints, tie: ArrayLike | None = None
) -> Floats:
    """NDCG@k of each request, with linear gain: DCG = sum of relevance / log2(rank + 1).

    Jaervelin and Kekaelaeinen 2002. relevance: (n,), not negative. Returns one value a
    request in [0, 1]; NaN where no row has a positive relevance, since any order is then as
    good as any other (counting such requests as 1, as some libraries do, flatters everybody).
    """
    gain = np.asarray(relevance, dtype=np.float64)
    ideal = _dcg(k, gain, ranks(gain, sizes), sizes)
    reached = _dcg(k, gain, ranks(score, sizes, tie), sizes)
    with np.errstate(invalid="ignore"):
        return np.where(ideal > 0, reached / ideal, np.nan)


def weighed_ndcg_at(
    k: int, gain: ArrayLike, score: ArrayLike, sizes: Ints, tie: ArrayLike | None = None
) -> Floats:
    """DCG@k of each request over the mean ideal DCG@k, for gains weighed by attention.

    A label divided by the chance that it could come about is right on average, and so is a sum
    of such labels; its ratio to the same request's ideal is not, and still favours the order
    that was shown (Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased
    feedback", WSDM 2017, weigh sums too). So all requests share one normaliser: a value may
    exceed 1, their mean may not. gain: (n,), not negative. NaN for requests without any.
    """
    worth = np.asarray(gain, dtype=np.float64)
    ideal = _dcg(k, worth, ranks(worth, sizes), sizes)
    told = ideal > 0
    if not told.any():
        return np.full(len(ideal), np.nan)
    reached = _dcg(k, worth, ranks(score, sizes, tie), sizes)
    return np.where(told, reached / ideal[told].mean(), np.nan)


def mrr(hit: ArrayLike, score: ArrayLike, sizes: Ints, tie: ArrayLike | None = None) -> Floats:
    """Reciprocal rank of each request's first hit; NaN for a request without one.

    hit: (n,), true where the row is what the agent was after.
    """
    wanted = np.asarray(hit, dtype=bool)
    rank = np.where(wanted, ranks(score, sizes, tie), np.iinfo(np.int64).max)
    first = np.minimum.reduceat(rank, _starts(sizes)).astype(np.float64)
    return np.where(first < np.iinfo(np.int64).max, 1.0 / first, np.nan)


def revenue_at(
    k: int, revenue: ArrayLike, score: ArrayLike, sizes: Ints, tie: ArrayLike | None = None
) -> Floats:
    """Revenue of each request's first k rows, in the unit of `revenue` (n,)."""
    shown = ranks(score, sizes, tie) <= k
    worth = np.asarray(revenue, dtype=np.float64)
    return np.add.reduceat(np.where(shown, worth, 0.0), _starts(sizes))


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike | float = 0.0,
    clusters: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of a - b over requests with its percentile interval (Efron 1979), paired by request.

    a, b: one value a request; a request where either is NaN is left out. clusters: (requests,)
    labels; whole clusters are drawn, because the requests of one agent resemble each other
    (Field and Welsh 2007); without them each request is drawn by itself. With equal seed,
    clusters and missing requests two calls draw the same resamples. Raises InvalidInput when
    no request is left.
    """
    values = np.asarray(a, dtype=np.float64)
    difference = values - np.broadcast_to(np.asarray(b, dtype=np.float64), values.shape)
    kept = ~np.isnan(difference)
    if not kept.any():
        raise InvalidInput("no request has a value: nothing to compare")
    labels = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    _, cluster = np.unique(labels[kept], return_inverse=True)
    total = np.asarray(np.bincount(cluster, weights=difference[kept]), dtype=np.float64)
    count = np.asarray(np.bincount(cluster), dtype=np.float64)
    means = _resampled_means(total, count, resamples, np.random.default_rng(seed))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(
        mean=float(total.sum() / count.sum()), low=float(low), high=float(high), n=int(kept.sum())
    )


def _resampled_means(
    total: Floats, count: Floats, resamples: int, rng: np.random.Generator
) -> Floats:
    """Mean per request of each resample: clusters drawn with replacement, ratio of sums."""
    clusters = len(total)
    parts = []
    for start in range(0, resamples, step := max(1, _CHUNK // clusters)):
        drawn = rng.integers(0, clusters, size=(min(step, resamples - start), clusters))
        parts.append(total[drawn].sum(axis=1) / count[drawn].sum(axis=1))
    return np.concatenate(parts)


def _dcg(k: int, gain: Floats, rank: NDArray[np.int64], sizes: Ints) -> Floats:
    discounted = np.where(rank <= k, gain / np.log2(rank + 1.0), 0.0)
    return np.add.reduceat(discounted, _starts(sizes))


def _starts(sizes: Ints) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.cumsum(sizes, dtype=np.int64)
    return ends - np.asarray(sizes, dtype=np.int64)
