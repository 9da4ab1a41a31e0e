"""Candidate generators: scores of every user and item from what is known at a cut.

Each takes a `View` and gives a (U, I) matrix, higher is better. All are a product of what a
user rated, weighted by how recently, and of how items go together in all known lines.
Their constants were chosen on earlier cuts; docs/truths.md has the ladder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .movielens import US, Floats, Ints, View

Generator = Callable[[View], Floats]

PENALTY = 300


def recent(view: View, half: float) -> Floats:
    """What each user rated, halved in weight every `half` later ratings, (U, I)."""
    return view.spread(0.5 ** (view.back / half))


def last(view: View, count: int) -> Floats:
    """The last `count` items of each user, (U, I) of 0 and 1."""
    return view.spread((view.back < count).astype(np.float64))


def within(view: View, seconds: float) -> Floats:
    """Pairs of items that one user rated at most so far apart, counted over users, (I, I)."""
    return _pairs(view, lambda at, _: (np.abs(at) <= seconds).astype(float))


def beside(view: View, seconds: float, half: float = 0.0) -> Floats:
    """Pairs of items weighted by exp(-gap / seconds) or halved every `half` ratings, (I, I).

    Either is a positive definite kernel of the gap, so that the sum is a Gram matrix.
    """
    if half:
        return _pairs(view, lambda at, place: 0.5 ** (np.abs(place) / half))
    return _pairs(view, lambda at, place: np.exp(-np.abs(at) / seconds))


def after(view: View, half: float) -> Floats:
    """Pairs (j, i) where i came later in a line, halved every `half` ratings, (I, I)."""
    return _pairs(
        view, lambda at, place: np.where((place > 0) & (at >= 0), 0.5 ** (place / half), 0.0)
    )


def _pairs(view: View, weight: Callable[[Floats, Floats], Floats]) -> Floats:
    """Sum over users of weight(time from j to i, ratings from j to i) at (j, i)."""
    total = np.zeros((view.log.items, view.log.items))
    for user in np.flatnonzero(view.cut.known):
        rows = view.line(int(user))
        items, at, place = view.item[rows], view.at_s[rows], view.place[rows]
        total[np.ix_(items, items)] += weight(_gaps(at), _gaps(place))
    np.fill_diagonal(total, 0.0)
    return total


def _gaps(values: Ints) -> Floats:
    """From each value (row) to each other (column)."""
    return np.asarray(values[None, :] - values[:, None], dtype=np.float64)


def linear(gram: Floats, counts: Floats, penalty: float) -> Floats:
    """Item weights of the shallow autoencoder in closed form (Steck 2019), (I, I).

    gram: pairs without diagonal. counts: (I,) its diagonal.
    """
    inverse = np.linalg.inv(gram + np.diag(counts + penalty))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def popularity(view: View) -> Floats:
    """Ratings that an item has."""
    return np.tile(view.rated.sum(axis=0), (len(view.rated), 1))


def lately(view: View, days: float) -> Floats:
    """Ratings that an item got in the days before each user's request, (U, I)."""
    order = np.argsort(view.at_s, kind="stable")
    at_us, item = view.at_s[order] * US, view.item[order]
    until = np.searchsorted(at_us, view.cut.as_of_us)
    since = np.searchsorted(at_us, view.cut.as_of_us - int(days * 86_400) * US)
    rows = [
        np.bincount(item[a:b], minlength=view.log.items) for a, b in zip(since, until, strict=True)
    ]
    return np.asarray(rows, dtype=np.float64)


def plain_ease(view: View, penalty: float) -> Floats:
    """EASE (Steck 2019) on all that is known, no time in it."""
    return view.rated @ _ease(view, penalty)


def ease(view: View) -> Floats:
    """EASE at the penalty that was best on earlier cuts."""
    return plain_ease(view, PENALTY)


def ease_recent(view: View) -> Floats:
    """EASE asked with the recent items only."""
    return recent(view, 6) @ _ease(view, PENALTY)


def ease_session(view: View) -> Floats:
    """EASE on a Gram matrix of what was rated within minutes of each other."""
    rated = view.rated
    gram = 0.8 * beside(view, 300) + 0.2 * (rated.T @ rated)
    np.fill_diagonal(gram, 0.0)
    return recent(view, 6) @ linear(gram, rated.sum(axis=0), 300)


def ease_place(view: View) -> Floats:
    """EASE on a Gram matrix of what was rated within some ratings of each other."""
    return recent(view, 6) @ linear(beside(view, 0, half=10), view.rated.sum(axis=0), 200)


def together_minute(view: View) -> Floats:
    """Items rated within a minute of the recent ones."""
    return recent(view, 5) @ _shares(view, within(view, 60), 0.3)


def together_minutes(view: View) -> Floats:
    """Items rated within five minutes of the recent ones."""
    return recent(view, 5) @ _shares(view, within(view, 300), 0.5)


def together_session(view: View) -> Floats:
    """Items rated within half an hour of the recent ones."""
    return recent(view, 5) @ _shares(view, within(view, 1_800), 0.5)


def with_last(view: View) -> Floats:
    """Items rated within five minutes of the very last one."""
    return last(view, 1) @ _shares(view, within(view, 300), 0.3)


def following(view: View) -> Floats:
    """Items that others rated soon after the recent ones."""
    return recent(view, 5) @ _shares(view, after(view, 8), 0.5)


def cosine(view: View) -> Floats:
    """Item-kNN by cosine, asked with the recent items."""
    rated = view.rated
    norm = np.sqrt(rated.sum(axis=0)) + 1e-9
    alike = (rated.T @ rated) / (np.outer(norm, norm) + 10)
    np.fill_diagonal(alike, 0.0)
    return np.asarray(recent(view, 10) @ alike)


def neighbours(view: View) -> Floats:
    """What the 80 users rated whose recent items are the most alike."""
    mine = recent(view, 20)
    mine /= np.linalg.norm(mine, axis=1, keepdims=True) + 1e-9
    theirs = view.rated / (np.sqrt(view.rated.sum(axis=1, keepdims=True)) + 1)
    alike = mine @ theirs.T
    np.fill_diagonal(alike, 0.0)
    count = min(80, len(alike) - 1)
    floor = -np.partition(-alike, count - 1, axis=1)[:, count - 1 : count]
    return np.asarray(np.where(alike >= floor, alike, 0.0) @ view.rated)


def factors(view: View) -> Floats:
    """Implicit matrix factorisation by alternating least squares (Hu, Koren, Volinsky 2008).

    24 factors, confidence 1 + 8 r, where r falls to 0.2 for a user's oldest ratings.
    """
    confidence = view.spread(8 * (0.2 + 0.8 * 0.5 ** (view.back / 30)))
    wanted = view.rated
    rng = np.random.default_rng(0)
    items = 0.1 * rng.standard_normal((view.log.items, 24))
    for _ in range(8):
        users = _least_squares(confidence, wanted, items)
        items = _least_squares(confidence.T, wanted.T, users)
    return _least_squares(confidence, wanted, items) @ items.T


def _least_squares(confidence: Floats, wanted: Floats, other: Floats) -> Floats:
    base = other.T @ other + 10 * np.eye(other.shape[1])
    found = np.zeros((len(confidence), other.shape[1]))
    for row, weight in enumerate(confidence):
        mine = np.flatnonzero(weight)
        near, extra = other[mine], weight[mine]
        left = base + (near * extra[:, None]).T @ near
        found[row] = np.linalg.solve(left, near.T @ ((1 + extra) * wanted[row, mine]))
    return found


def _ease(view: View, penalty: float) -> Floats:
    rated = view.rated
    gram = rated.T @ rated
    np.fill_diagonal(gram, 0.0)
    return linear(gram, rated.sum(axis=0), penalty)


def _shares(view: View, pairs: Floats, power: float) -> Floats:
    """Pairs as a share of the first item's ratings, less for an item that all have rated."""
    counts = view.rated.sum(axis=0)
    return np.asarray(pairs / (counts[:, None] + 10) / (counts[None, :] + 5) ** power)


GENERATORS: tuple[Generator, ...] = (
    popularity,
    ease,
    ease_recent,
    ease_session,
    ease_place,
    together_minute,
    together_minutes,
    together_session,
    with_last,
    following,
    cosine,
    neighbours,
    factors,
)
