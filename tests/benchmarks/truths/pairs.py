"""Features of a user and an item, from what is known at a cut, as a `Dataset` of the project.

What changes with the calendar (how often an item was rated in the days before the request,
when last) is counted by `aiqleads.features.timeline`, so a window ends at the request and
is half-open. The rest is arithmetic on the generators' scores and on the lines themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis.expr.types as ir
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.features.tables import connect, keep
from aiqleads.features.timeline import EVER, Timeline, known, timeline
from aiqleads.ranking.dataset import Dataset, dataset_of

from .generators import GENERATORS, last, popularity
from .movielens import US, Floats, Ints, View

#: candidates per request, by best rank over the generators. On earlier cuts 60, 100, 150 and
#: 300 gave the same NDCG@10, though they hold 37, 49, 60 and 76 % of what is sought
POOL = 100
DAYS = (1, 7, 30, EVER)
#: a pause that ends a session, seconds
PAUSE_S = 1_800


@dataclass(frozen=True)
class Pairs:
    """The candidates of a cut.

    user, item: (n,) the rows of `data`. sought: (n,) whether the item is to be found.
    """

    view: View
    user: Ints
    item: Ints
    data: Dataset

    def full(self, score: Floats) -> Floats:
        """Scores of the rows as a (U, I) matrix, NaN for what is no candidate."""
        matrix = np.full(self.view.sought.shape, np.nan)
        matrix[self.user, self.item] = score
        return matrix


def candidates(view: View, scores: Mapping[str, Floats], pool: int = POOL) -> tuple[Ints, Ints]:
    """Users and items of the pool: by best rank over the generators, best first."""
    users = view.cut.users
    free = view.rated[users] == 0
    best = np.full(free.shape, np.inf)
    for name, score in scores.items():
        if name != popularity.__name__:
            best = np.minimum(best, _ranks(np.where(free, score[users], -np.inf)))
    best[~free] = np.inf
    chosen = np.argsort(best, axis=1, kind="stable")[:, :pool]
    kept = np.take_along_axis(best, chosen, 1) < np.inf
    return np.repeat(users, pool)[kept.ravel()], chosen[kept]


def pairs_of(view: View, pool: int = POOL) -> Pairs:
    """The candidates of a cut with their features and what they turned out to be."""
    scores = {each.__name__: each(view) for each in GENERATORS}
    user, item = candidates(view, scores, pool)
    columns = _of_scores(scores, user, item)
    columns |= _of_lines(view, user, item)
    columns |= _of_content(view, user, item)
    columns |= _of_calendar(view, user, item)
    sizes = np.bincount(user, minlength=len(view.cut.known))
    position = np.arange(len(user)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    keys = {
        "request_id": [f"{view.cut.name}-{each:05d}" for each in user],
        "agent_id": [f"U{each:05d}" for each in user],
        "lead_id": [f"I{each:05d}" for each in item],
        "position": position.astype(np.int32),
        "at_market_us": view.cut.clock_us[user],
        "label": view.sought[user, item].astype(np.int8),
        "price_cents": np.zeros(len(user), dtype=np.int64),
    }
    data = dataset_of(pd.DataFrame({**keys, **columns}), view.cut.name, "movielens-100k")
    return Pairs(view, user, item, data)


def _of_scores(scores: Mapping[str, Floats], user: Ints, item: Ints) -> dict[str, Floats]:
    """Each generator's score, its share of the user's best, and its rank among candidates."""
    columns = {}
    for name, score in scores.items():
        mine = score[user, item]
        columns[name] = mine
        if name == popularity.__name__:
            continue
        top = pd.Series(mine).groupby(user)
        columns[f"{name}_share"] = mine / (top.transform("max").to_numpy() + 1e-9)
        columns[f"{name}_rank"] = np.log(top.rank(ascending=False, method="min").to_numpy())
    return columns


def _of_lines(view: View, user: Ints, item: Ints) -> dict[str, Floats]:
    """Where in their lines people rate the item, and where in the line the user stands."""
    counts = view.rated.sum(axis=0)
    place = _mean_by_item(view, np.log1p(view.place))
    length = np.log(np.maximum(view.cut.known, 1))
    session = _session(view)
    ten = last(view, 10)
    tens = ten.sum(axis=1) + 1e-9
    popular = ten @ np.log1p(counts) / tens
    early = ten @ np.nan_to_num(place) / tens
    pace = np.array([_pace(view, each) for each in range(len(length))])
    return {
        "known": length[user],
        "session_ratings": session[user],
        "pace_s": pace[user],
        "usual_place": place[item],
        "place_ahead": place[item] - np.log1p(view.cut.known)[user],
        "place_beside_last": place[item] - early[user],
        "popular_beside_last": np.log1p(counts)[item] - popular[user],
        "popular_last": popular[user],
    }


def _of_content(view: View, user: Ints, item: Ints) -> dict[str, Floats]:
    """Genres, years and ratings: the item's, and how far they are the user's."""
    log = view.log
    everyone = view.rating.mean()
    counts = view.rated.sum(axis=0)
    total = view.spread(view.rating).sum(axis=0)
    liked = (total + 5 * everyone) / (counts + 5)
    mine = np.bincount(view.user, weights=view.rating, minlength=len(view.cut.known))
    generous = (mine + 5 * everyone) / (view.cut.known + 5)
    unit = log.genres / (np.linalg.norm(log.genres, axis=1, keepdims=True) + 1e-9)
    ten, five = last(view, 10), last(view, 5)
    year = np.where(np.isnan(log.year), np.nanmean(log.year), log.year)
    above = view.spread(view.rating - everyone)
    genre_sum, genre_count = above @ log.genres, view.rated @ log.genres
    taste = genre_sum / (genre_count + 3)
    kinds = log.genres.sum(axis=1) + 1e-9
    alike = unit @ unit.T
    match_ten, match_all = ten @ alike, view.rated @ alike
    rated_last = (ten * above).sum(axis=1) / (ten.sum(axis=1) + 1e-9)
    item_last = ten @ liked / (ten.sum(axis=1) + 1e-9)
    year_last = five @ year / (five.sum(axis=1) + 1e-9)
    return {
        "item_rating": liked[item],
        "user_rating": generous[user],
        "rating_beside_last": liked[item] - item_last[user],
        "user_rating_last": rated_last[user],
        "year": log.year[item],
        "year_beside_last": log.year[item] - year_last[user],
        "genres_last": match_ten[user, item],
        "genres_all": match_all[user, item] / view.cut.known[user],
        "genre_taste": (taste @ log.genres.T / kinds)[user, item],
    }


def ratings_day(line: Timeline) -> ir.FloatingValue:
    """Ratings of the item in the day before the request."""
    return line.count("rating", days=1)


def ratings_week(line: Timeline) -> ir.FloatingValue:
    """Ratings of the item in the week before the request."""
    return line.count("rating", days=7)


def ratings_month(line: Timeline) -> ir.FloatingValue:
    """Ratings of the item in the 30 days before the request."""
    return line.count("rating", days=30)


def ratings_ever(line: Timeline) -> ir.FloatingValue:
    """Ratings of the item before the request."""
    return line.count("rating", days=EVER)


def hours_since_rated(line: Timeline) -> ir.FloatingValue:
    """Hours since the item's newest rating before the request."""
    return line.hours_since("rating", days=EVER)


def _of_calendar(view: View, user: Ints, item: Ints) -> dict[str, Floats]:
    """What the project's timeline counts at each request."""
    as_of = view.cut.as_of_us[user]
    told = counted(view, item, as_of)
    columns = {name: told[name].to_numpy(dtype=np.float64) for name in _COUNTED_NAMES}
    columns["month_share"] = columns["ratings_month"] / (columns["ratings_ever"] + 10)
    return columns


_COUNTED = (ratings_day, ratings_week, ratings_month, ratings_ever, hours_since_rated)
_COUNTED_NAMES = tuple(each.__name__ for each in _COUNTED)


def counted(view: View, item: Ints, as_of_us: Ints) -> pd.DataFrame:
    """The timeline's columns for each pair of item and moment, (n,) rows in the order given."""
    asked = pd.DataFrame({"item": item, "as_of_us": as_of_us})
    events = pd.DataFrame({"item": view.item, "rated_us": view.at_s * US, "kind": "rating"})
    with connect() as engine:
        laid = known(engine.create_table("events", events), "rated_us", "rated_us")
        laid = keep(engine, laid.drop("rated_us"))
        spine = engine.create_table("spine", asked.drop_duplicates())
        line = timeline(laid, spine, ["item"], {"rating": DAYS})
        told = line.answers(_COUNTED).to_pandas()
    return asked.merge(told, on=["item", "as_of_us"], how="left", validate="m:1")


def _ranks(score: Floats) -> Floats:
    """Rank of each column within its row, best first, from 0."""
    order = np.argsort(-score, axis=1, kind="stable")
    ranks = np.empty_like(score)
    np.put_along_axis(ranks, order, np.arange(score.shape[1], dtype=float)[None, :], axis=1)
    return ranks


def _mean_by_item(view: View, value: Floats) -> Floats:
    """Mean of a value over an item's known ratings, NaN without one."""
    total = np.bincount(view.item, weights=value, minlength=view.log.items)
    count = np.bincount(view.item, minlength=view.log.items)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)


def _session(view: View) -> Floats:
    """Logarithm of the ratings since the user's last pause."""
    found = np.zeros(len(view.cut.known))
    for user in np.flatnonzero(view.cut.known):
        pauses = np.flatnonzero(np.diff(view.at_s[view.line(int(user))]) > PAUSE_S)
        found[user] = view.cut.known[user] - (pauses[-1] + 1 if len(pauses) else 0)
    return np.log1p(found)


def _pace(view: View, user: int) -> float:
    """Seconds a rating over the user's last ten, NaN for fewer than two."""
    at = view.at_s[view.line(user)][-10:]
    return float(at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else float("nan")


def everything(view: View) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """All candidates of the protocol: what each user has not rated, with what is sought."""
    users = view.cut.users
    row, item = np.nonzero(view.rated[users] == 0)
    user = users[row]
    return user, item, view.sought[user, item]
