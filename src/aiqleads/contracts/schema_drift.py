"""Has a feed's schema changed? A part's profile against those of the batches before it.

Rows of one batch have much in common (a week, a town, a form), so they are no independent
draws, and a two-sample test over rows finds a difference in every batch. Here one part
gives one figure per question (the share without a value, the mean on a robust scale, ..),
and the null is how far such figures lay apart from part to part and from batch to batch:
one-way random effects (Searle, Casella & McCulloch, Variance Components, 1992, ch. 3), the
variance between batches drawn towards a prior while batches are few (Smyth, Stat. Appl.
Genet. Mol. Biol. 3, 2004: the moderated t). A finding needs a p-value that survives
Benjamini-Hochberg (J. R. Stat. Soc. B 57, 1995) over all questions about all columns, and
a difference that matters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz
from scipy.optimize import linear_sum_assignment
from scipy.special import stdtr

from aiqleads.contracts.schema_profile import ColumnProfile, Profile

Floats = NDArray[np.float64]
#: whole numbers are codes where there are no more different ones
_MOST_CODES = 24
Kind = Literal["new", "missing", "renamed", "retyped", "nulls", "range", "categories"]


@dataclass(frozen=True)
class Rules:
    """When to tell.

    false_discovery_rate: of one part's findings, the share that may be chance; as most
    parts have nothing to find, it is also the share of parts with a false alarm. nulls,
    retyped, categories: least change of a share. location: least shift, in half spreads
    (the middle 68 % is two of them), beyond which a logarithm takes over. spread: least
    factor. batches: how many must have been seen before distributions are judged.
    prior_share, prior_location: how far batches of an unchanged feed lie apart, as standard
    deviation of 2 asin sqrt(share) and of location; prior_weight: in batches.
    """

    false_discovery_rate: float = 0.002
    nulls: float = 0.03
    retyped: float = 0.05
    categories: float = 0.1
    location: float = 0.3
    spread: float = 1.6
    batches: int = 3
    prior_share: float = 0.025
    prior_location: float = 0.08
    prior_weight: float = 8.0
    rename: float = 0.4


@dataclass(frozen=True)
class Finding:
    """One change of one column; severity break: the source cannot be read without it.

    p_value: of the change among unchanged batches; None where it is no matter of chance
    (a column of the header is gone). detail: one line for a person, without values.
    """

    column: str
    kind: Kind
    severity: Literal["warn", "break"]
    p_value: float | None
    detail: str


@dataclass(frozen=True)
class Past:
    """The profile of an earlier part. at_us: when it came, wall clock.

    drifted: columns that had changed, whose figures are no baseline. restarts: columns
    whose baseline begins here, because a change was accepted.
    """

    batch_id: str
    at_us: int
    profile: Profile
    drifted: frozenset[str] = frozenset()
    restarts: frozenset[str] = frozenset()


# --- the baseline --------------------------------------------------------------------


@dataclass(frozen=True)
class _Aspect:
    """One question about one column.

    figures, sampling: (k,) answer of each part and its variance by chance alone, NaN where
    it has none. prior: standard deviation between batches before any was seen. needs:
    batches.
    """

    kind: Kind
    label: str
    figures: Floats
    sampling: Floats
    prior: float
    needs: int

    @property
    def family(self) -> str:
        """Questions of one family are one test: null, kind, range, value or shape."""
        if self.kind != "categories":
            return self.kind
        return "shape" if self.label.startswith("shape") else "value"


@dataclass(frozen=True)
class _Reference:
    """One column in the past: parts pooled, and how each answered each question.

    present: share of batches that had it. centre, scale: of its numbers. categories,
    shapes: pooled shares of the common ones.
    """

    pooled: ColumnProfile
    present: float
    latest: bool
    batches: int
    kind: str
    centre: float
    scale: float
    length_centre: float
    length_scale: float
    categories: Mapping[str, float]
    known: frozenset[str]
    shapes: Mapping[str, float]
    rules: Rules
    aspects: tuple[_Aspect, ...] = ()

    def figures_of(self, label: str) -> Floats:
        """The parts' answers to one question."""
        return next(aspect.figures for aspect in self.aspects if aspect.label == label)


@dataclass(frozen=True)
class Baseline:
    """What the profiles of earlier parts, oldest first, say of each column.

    of(): a column that drifted in a part has no say there, and nothing before its last
    restart has any.
    """

    columns: Mapping[str, _Reference]
    batch: NDArray[np.intp]
    order: tuple[str, ...]
    rules: Rules = field(default_factory=Rules)

    @classmethod
    def of(cls, history: Sequence[Past], rules: Rules | None = None) -> Baseline:
        """The baseline of a history; of an empty one nothing will be found."""
        rules = rules or Rules()
        names = {past.batch_id: None for past in history}
        place = {name: number for number, name in enumerate(names)}
        batch = np.array([place[past.batch_id] for past in history], np.intp)
        columns: dict[str, _Reference] = {}
        for name in dict.fromkeys(name for past in history for name in past.profile.columns):
            found = _reference(name, history, batch, rules)
            if found is not None:
                columns[name] = found
        order = tuple(history[-1].profile.columns) if history else ()
        return cls(columns, batch, order, rules)


def _reference(
    name: str, history: Sequence[Past], batch: NDArray[np.intp], rules: Rules
) -> _Reference | None:
    days = [past.at_us / 86_400e6 for past in history]
    start = max((i for i, past in enumerate(history) if name in past.restarts), default=0)
    usable = [i for i, past in enumerate(history) if i >= start and name not in past.drifted]
    if not usable:
        return None
    parts: list[ColumnProfile | None] = [None] * len(history)
    for i in usable:
        whole = history[i].profile
        absent = None if whole.header else ColumnProfile(whole.rows, whole.rows)
        parts[i] = whole.columns.get(name, absent)
    held = [part for part in parts if part is not None]
    if not any(name in history[i].profile.columns for i in usable):
        return None
    batches = len({batch[i] for i in usable})
    having = {batch[i] for i in usable if name in history[i].profile.columns}
    pooled = _pooled(held)
    kind = max(pooled.kinds, key=lambda each: pooled.kinds[each]) if pooled.kinds else ""
    values = [
        _placed(part, kind, day) for part, day in zip(parts, days, strict=True) if part is not None
    ]
    centre, scale = _middle(np.concatenate(values))
    lengths = np.array([q for part in held for q in part.lengths])
    length_centre, length_scale = _middle(lengths)
    categories = _categories(pooled, kind, centre)
    reference = _Reference(
        pooled=pooled,
        present=len(having) / batches,
        latest=name in history[usable[-1]].profile.columns,
        batches=batches,
        kind=kind,
        centre=centre,
        scale=scale,
        length_centre=length_centre,
        length_scale=length_scale,
        categories=categories,
        known=frozenset(pooled.categories or ()),
        shapes=_common(pooled.shapes, sum(pooled.shapes.values())),
        rules=rules,
    )
    answers = [
        None if part is None else _answers(part, reference, day)
        for part, day in zip(parts, days, strict=True)
    ]
    unseen = _unseen(parts, batch) if categories else None
    questions = dict.fromkeys(key for answer in answers for key in answer or ())
    aspects = []
    for key in questions:
        figures = [_ABSENT if answer is None else answer.get(key, _ABSENT) for answer in answers]
        if key == ("categories", "unseen") and unseen is not None:
            figures = unseen
        aspects.append(_aspect(key, np.array(figures), rules))
    return _Reference(**{**vars(reference), "aspects": tuple(aspects)})


_ABSENT = (np.nan, np.nan)


def _aspect(key: tuple[Kind, str], figures: Floats, rules: Rules) -> _Aspect:
    location = key[0] == "range"
    return _Aspect(
        kind=key[0],
        label=key[1],
        figures=figures[:, 0],
        sampling=figures[:, 1],
        prior=rules.prior_location if location else rules.prior_share,
        needs=rules.batches if key[0] in ("range", "categories") else 1,
    )


def _pooled(parts: Sequence[ColumnProfile]) -> ColumnProfile:
    """The parts' counts added up (their quantiles are not needed)."""
    kinds, shapes, categories = Counter[str](), Counter[str](), Counter[str]()
    words: dict[str, str] = {}
    countable = True
    for part in parts:
        kinds.update(part.kinds)
        shapes.update(part.shapes)
        words.update(part.words)
        categories.update(part.categories or {})
        countable &= part.categories is not None or not part.seen
    total = [
        sum(getattr(part, name) for part in parts)
        for name in ("rows", "nulls", "seen", "distinct", "whole", "measured")
    ]
    rows, nulls, seen, distinct, whole, measured = total
    return ColumnProfile(
        rows, nulls, seen, kinds, distinct, whole, measured,
        shapes=shapes, categories=categories if countable else None, words=words,
    )  # fmt: skip


def _middle(values: Floats) -> tuple[float, float]:
    """Median and half the width of the middle 68 %; wider where that is nothing."""
    if not len(values):
        return 0.0, 1.0
    low, centre, high = np.quantile(values, [0.16, 0.5, 0.84])
    scale = (high - low) / 2 or (values.max() - values.min()) / 2 or abs(centre) / 20 or 1.0
    # Next year is one more than this year, and no other world.
    return float(centre), float(max(scale, abs(centre) / 500))


def _categories(column: ColumnProfile, kind: str, centre: float) -> dict[str, float]:
    """Shares of its common values, if it has categories: words, or few whole numbers.

    Years and days are none: every new one was never seen before.
    """
    if kind == "date" or _identifies(column) or not column.categories:
        return {}
    if kind != "text" and kind != "flag":
        few = len(column.categories) <= _MOST_CODES and column.whole == column.measured
        if not few or 1900 <= centre <= 2100:
            return {}
    shares = _common(column.categories, column.seen)
    return shares if sum(shares.values()) >= 0.5 else {}


def _identifies(column: ColumnProfile) -> bool:
    """Whether its values are a row's own name: all different, whole numbers or texts."""
    return column.distinct > 0.98 * column.seen and (
        not column.measured or column.whole > 0.98 * column.measured
    )


def _common(counts: Mapping[str, int], seen: int, most: int = 24) -> dict[str, float]:
    """Shares of the commonest, of at least 1 %."""
    ranked = Counter(counts).most_common(most)
    return {name: count / seen for name, count in ranked if count >= seen / 100}


# --- questions -----------------------------------------------------------------------


def _placed(part: ColumnProfile, kind: str, day: float) -> Floats:
    """The quantiles; of days those of their age, as days pass by themselves."""
    values = np.array(part.numbers)
    return day - values if kind == "date" else values


def _answers(
    part: ColumnProfile, reference: _Reference, day: float
) -> dict[tuple[Kind, str], tuple[float, float]]:
    """Question -> figure and its sampling variance, as far as the part can tell."""
    found: dict[tuple[Kind, str], tuple[float, float]] = {}
    if part.rows:
        found["nulls", "share"] = _share(part.nulls, part.rows)
    if part.seen < 20:
        return found
    told = sum(part.kinds.values())
    found["retyped", "share"] = _share(part.kinds.get(reference.kind, 0), told)
    shaped = sum(part.shapes.values())
    for name in reference.shapes:
        found["categories", f"shape {name}"] = _share(part.shapes.get(name, 0), shaped)
    if part.numbers and part.measured >= 20 and not _identifies(reference.pooled):
        placed = _placed(part, reference.kind, day)
        mean, spread = _moments(placed, reference.centre, reference.scale)
        found["range", "location"] = (mean, spread**2 / part.measured)
        found["range", "spread"] = (math.log(spread), 1 / part.measured)
    if part.lengths:
        lengths = np.array(part.lengths)
        mean, spread = _moments(lengths, reference.length_centre, reference.length_scale)
        found["range", "length"] = (mean, spread**2 / part.seen)
    if reference.categories and part.categories is not None:
        for name in reference.categories:
            share = _share(part.categories.get(name, 0), part.seen)
            found["categories", f"value {name}"] = share
        known = sum(part.categories.get(name, 0) for name in reference.known)
        found["categories", "unseen"] = _share(max(part.seen - known, 0), part.seen)
    return found


def _moments(values: Floats, centre: float, scale: float) -> tuple[float, float]:
    """Mean and deviation (0.05 at least) on a scale that is straight within and log beyond."""
    scaled = np.arcsinh((values - centre) / scale)
    mean = float(scaled.sum()) / len(scaled)
    scaled -= mean
    return mean, max(math.sqrt(float(scaled @ scaled) / len(scaled)), 0.05)


def _share(count: float, of: float) -> tuple[float, float]:
    """2 asin sqrt of a share, and the variance by chance (Anscombe, Biometrika 35, 1948)."""
    return 2 * math.asin(math.sqrt((count + 0.375) / (of + 0.75))), 1 / (of + 0.5)


def _unseen(
    parts: Sequence[ColumnProfile | None], batch: NDArray[np.intp]
) -> list[tuple[float, float]]:
    """Of each part the share of values that no other batch has."""
    batches_of: dict[str, set[int]] = {}
    for part, number in zip(parts, batch.tolist(), strict=True):
        for name in (part.categories or ()) if part else ():
            batches_of.setdefault(name, set()).add(number)
    alone = {name for name, numbers in batches_of.items() if len(numbers) == 1}
    several = len(set(batch.tolist())) > 1
    shares = []
    for part in parts:
        if part is None or part.categories is None or not part.seen or not several:
            shares.append(_ABSENT)
            continue
        known = sum(count for name, count in part.categories.items() if name not in alone)
        shares.append(_share(part.seen - known, part.seen))
    return shares


# --- the comparison ------------------------------------------------------------------


@dataclass(frozen=True)
class _Test:
    """One family of questions put to the part; label: the most surprising answer's."""

    column: str
    kind: Kind
    label: str
    p_value: float
    past: _Reference


def compare(
    baseline: Baseline,
    profile: Profile,
    required: Collection[str] = (),
    at_us: int = 0,
    *,
    statistics: bool = True,
) -> list[Finding]:
    """What changed in a part's columns, the certain changes first.

    required: columns without which the source cannot be read. at_us: when the part came.
    statistics: whether the part is large enough for figures, not only for its header.
    """
    gone, added = _structure(baseline, profile)
    found = _renamed(baseline, profile, gone, added, at_us / 86_400e6)
    tests = _tests(baseline, profile, at_us) if statistics else []
    found += _statistical(profile, tests, baseline.rules.false_discovery_rate)
    severe = [
        Finding(f.column, f.kind, "break", f.p_value, f.detail)
        if f.column in required and f.kind in ("missing", "renamed", "retyped")
        else f
        for f in found
    ]
    return sorted(severe, key=lambda f: (f.severity != "break", f.p_value or 0.0, f.column))


def _structure(baseline: Baseline, profile: Profile) -> tuple[list[str], list[str]]:
    """Columns that are gone and columns that are new."""
    if not baseline.columns:
        return [], []
    gone = [
        name
        for name, past in baseline.columns.items()
        if name not in profile.columns and past.latest and past.present >= 0.9
    ]
    if not profile.header:
        # A field that few records have may well be absent from a part.
        gone = [name for name in gone if _certain_to_be_there(baseline.columns[name], profile)]
    added = [
        name
        for name, column in profile.columns.items()
        if name not in baseline.columns
        and (profile.header or column.rows - column.nulls >= max(5, column.rows / 100))
    ]
    return gone, added


def _certain_to_be_there(past: _Reference, profile: Profile) -> bool:
    filled = 1 - past.pooled.nulls / past.pooled.rows
    return filled >= 0.1 and filled * profile.rows >= 20


def _renamed(
    baseline: Baseline, profile: Profile, gone: list[str], added: list[str], day: float
) -> list[Finding]:
    """Pairs of a gone and a new column that are one, and what is left of both."""
    pairs: dict[str, str] = {}
    if gone and added:
        likeness = np.array(
            [[_likeness(baseline, profile, old, new, day) for new in added] for old in gone]
        )
        for row, column in zip(*linear_sum_assignment(-likeness), strict=True):
            if likeness[row, column] >= baseline.rules.rename:
                pairs[gone[row]] = added[column]
    findings = [
        Finding(old, "renamed", "warn", None, f"{old} is now called {new}")
        for old, new in pairs.items()
    ]
    findings += [
        Finding(name, "missing", "warn", None, f"{name} is no longer there")
        for name in gone
        if name not in pairs
    ]
    taken = set(pairs.values())
    findings += [
        Finding(name, "new", "warn", None, f"{name} was not there before")
        for name in added
        if name not in taken
    ]
    return findings


def _likeness(baseline: Baseline, profile: Profile, old: str, new: str, day: float) -> float:
    """0 to 1: likeness of the names (or the same place in the header) x of the values."""
    names = name_likeness(old, new)
    if profile.header and _same_place(baseline.order, old, tuple(profile.columns), new):
        names = max(names, 0.6)
    return names * _values_alike(baseline.columns[old], profile.columns[new], day)


def name_likeness(a: str, b: str) -> float:
    """0 to 1, whatever the case, the order of the words and the marks between them."""
    words_a, words_b = _words(a), _words(b)
    if words_a.replace(" ", "") == words_b.replace(" ", ""):
        return 1.0
    return (
        max(
            fuzz.token_sort_ratio(words_a, words_b),
            0.9 * fuzz.token_set_ratio(words_a, words_b),
            0.8 * fuzz.WRatio(words_a, words_b),
        )
        / 100
    )


def _words(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.findall(r"[a-z0-9]+", spaced.lower())) or name.lower()


def _same_place(before: Sequence[str], old: str, now: Sequence[str], new: str) -> bool:
    """Whether one header has a column where the other has the other column."""
    if old not in before or new not in now:
        return False
    at_old, at_new = before.index(old), now.index(new)
    if len(before) == len(now) and at_old == at_new:
        return True
    around_old = [*before[:at_old][-1:], *before[at_old + 1 :][:1]]
    return around_old == [*now[:at_new][-1:], *now[at_new + 1 :][:1]]


def _values_alike(past: _Reference, now: ColumnProfile, day: float) -> float:
    """0 to 1: what two columns' values have in common, aspect times aspect."""
    before = past.pooled
    empty = abs(before.nulls / max(before.rows, 1) - now.nulls / max(now.rows, 1))
    alike = 1 - empty
    if not before.seen or not now.seen:
        return alike if before.seen == now.seen else 0.3 * alike
    alike *= _overlap(before.kinds, now.kinds)
    if past.kind == "text":
        alike *= 0.3 + 0.7 * _overlap(before.shapes, now.shapes)
    if past.categories and now.categories is not None:
        alike *= 1 - _total_variation(past.categories, now.categories, now.seen)
    if now.numbers and before.measured:
        far = abs(_moments(_placed(now, past.kind, day), past.centre, past.scale)[0])
        alike *= math.exp(-max(far - 0.2, 0.0))
    return alike


def _overlap(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    n_a, n_b = sum(a.values()), sum(b.values())
    return sum(min(a[name] / n_a, b[name] / n_b) for name in a.keys() & b.keys())


def _tests(baseline: Baseline, profile: Profile, at_us: int) -> list[_Test]:
    """Every question that both sides can answer, with its p-value."""
    asked: list[tuple[str, _Reference, _Aspect, float, float]] = []
    for name, now in profile.columns.items():
        past = baseline.columns.get(name)
        if past is None:
            continue
        answers = _answers(now, past, at_us / 86_400e6)
        asked += [
            (name, past, aspect, *answers[aspect.kind, aspect.label])
            for aspect in past.aspects
            if past.batches >= aspect.needs and (aspect.kind, aspect.label) in answers
        ]
    if not asked:
        return []
    return _joined(asked, _surprise(baseline, asked), profile)


def _surprise(
    baseline: Baseline, asked: Sequence[tuple[str, _Reference, _Aspect, float, float]]
) -> Floats:
    """p-value of each figure by the level of the past or by its trend, whichever forgives.

    Values that move with time (a day, a running number, a price in season) are far from
    their level in every batch, but no farther from the last one than batches are used to
    be. Shares without a value and of a kind have no such excuse.
    """
    past = _Parts.of(
        np.array([aspect.figures for _, _, aspect, _, _ in asked]),
        np.array([aspect.sampling for _, _, aspect, _, _ in asked]),
        baseline.batch,
    )
    now = np.array([figure for *_, figure, _ in asked])
    noise = np.array([variance for *_, variance in asked])
    prior = np.array([aspect.prior for _, _, aspect, _, _ in asked])
    weight = baseline.rules.prior_weight
    moves = np.array([aspect.kind in ("range", "categories") for _, _, aspect, _, _ in asked])
    level = past.by_level(now, noise, prior, weight)
    trend = past.by_trend(now, noise, prior, weight)
    p_values: Floats = np.where(moves, np.maximum(level, trend), level)
    return p_values


@dataclass(frozen=True)
class _Parts:
    """Figures of the parts, (a, k), summed up for each of a questions.

    means: (a, B) of each batch, 0 where `there` is not. batches: (a,) how many are there.
    per_batch: parts of one. chance, within: variance of a part by sampling, and between
    the parts of a batch beyond that.
    """

    means: Floats
    there: NDArray[np.bool_]
    batches: Floats
    per_batch: Floats
    chance: Floats
    within: Floats

    @classmethod
    def of(cls, figures: Floats, sampling: Floats, groups: NDArray[np.intp]) -> _Parts:
        known = ~np.isnan(figures)
        member = np.zeros((len(groups), int(groups.max()) + 1))
        member[np.arange(len(groups)), groups] = 1.0
        parts = known.astype(np.float64) @ member
        there = parts > 0
        sums = np.where(known, figures, 0.0) @ member
        means = np.divide(sums, parts, out=np.zeros_like(parts), where=there)
        held = known.sum(axis=1)
        chance = np.where(known, np.nan_to_num(sampling), 0.0).sum(axis=1) / held
        inside = np.where(known, figures - means @ member.T, 0.0)
        freedom = (parts - 1).clip(min=0).sum(axis=1)
        square = (inside**2).sum(axis=1) / np.maximum(freedom, 1)
        within = np.where(freedom > 0, (square - chance).clip(min=0), 0.0)
        batches = there.sum(axis=1).astype(np.float64)
        return cls(means, there, batches, held / batches, chance, within)

    def by_level(self, now: Floats, noise: Floats, prior: Floats, weight: float) -> Floats:
        """Two-sided p-values of new figures under one-way random effects.

        With B batches, W the variance of parts within a batch and T that between batches,
        both beyond what sampling explains, and T drawn towards the prior's t0 by
        T' = (w t0^2 + (B - 1) T) / (w + B - 1), a new part lies around the mean of the
        batches with variance (T' + W) (1 + 1/B) + noise + sampling / k, as Student's t with
        w + B - 1 degrees of freedom.
        """
        centre = (self.means * self.there).sum(axis=1) / self.batches
        apart = np.where(self.there, self.means - centre[:, None], 0.0)
        extra = self.batches - 1
        between = (apart**2).sum(axis=1) / np.maximum(extra, 1)
        between = (between - self._of_means).clip(min=0)
        drawn = (weight * prior**2 + extra * between) / (weight + extra)
        variance = (drawn + self.within) * (1 + 1 / self.batches) + noise
        variance += self.chance / (self.per_batch * self.batches)
        return _two_sided((now - centre) / np.sqrt(variance), weight + extra)

    def by_trend(self, now: Floats, noise: Floats, prior: Floats, weight: float) -> Floats:
        """The same around the last batch and the mean step of the batches before it.

        Steps have the variance S (2 T for batches that only scatter, drawn likewise towards
        2 t0^2). 0 where a batch has no figure, or there are fewer than 4.
        """
        p_values = np.zeros(len(now))
        whole = self.there.all(axis=1) & (self.batches >= 4)
        if not whole.any():
            return p_values
        steps = np.diff(self.means[whole], axis=1)
        step = steps.mean(axis=1)
        extra = steps.shape[1] - 1.0
        square = ((steps - step[:, None]) ** 2).sum(axis=1) / extra
        square = (square - 2 * self._of_means[whole]).clip(min=0)
        drawn = (weight * 2 * prior[whole] ** 2 + extra * square) / (weight + extra)
        variance = (drawn + self.within[whole]) * (1 + 1 / steps.shape[1])
        variance += noise[whole] + self.chance[whole]
        far = now[whole] - self.means[whole, -1] - step
        p_values[whole] = _two_sided(far / np.sqrt(variance), weight + extra)
        return p_values

    @property
    def _of_means(self) -> Floats:
        """Variance of a batch's mean that its parts explain."""
        explained: Floats = (self.chance + self.within) / self.per_batch
        return explained


def _two_sided(t: Floats, freedom: Floats | float) -> Floats:
    p_values: Floats = 2 * stdtr(freedom, -abs(t))
    return p_values


def _joined(
    asked: Sequence[tuple[str, _Reference, _Aspect, float, float]],
    p_values: Floats,
    profile: Profile,
) -> list[_Test]:
    """One test a column and family: its smallest p-value times how many there were.

    Answers that lie too near to matter have no say (p = 1), which can only hide findings.
    """
    families: dict[tuple[str, str], list[tuple[float, str, Kind, _Reference]]] = {}
    for (name, past, aspect, figure, _), p_value in zip(asked, p_values.tolist(), strict=True):
        far = _far(past, profile.columns[name], aspect, figure)
        answer = (p_value if far else 1.0, aspect.label, aspect.kind, past)
        families.setdefault((name, aspect.family), []).append(answer)
    return [
        _Test(name, kind, label, min(1.0, p_value * len(answers)), past)
        for (name, _), answers in families.items()
        for p_value, label, kind, past in [min(answers, key=lambda answer: answer[0])]
    ]


def _far(past: _Reference, now: ColumnProfile, aspect: _Aspect, figure: float) -> bool:
    """Whether the part lies so far from the pooled past that it matters."""
    before, rules = past.pooled, past.rules
    if aspect.kind == "nulls":
        return abs(now.nulls / now.rows - before.nulls / before.rows) >= rules.nulls
    if aspect.kind == "retyped":
        return _kind_share(before, past.kind) - _kind_share(now, past.kind) >= rules.retyped
    if aspect.family == "value":
        return _total_variation(past.categories, now.categories or {}, now.seen) >= (
            rules.categories
        )
    if aspect.family == "shape":
        shaped = sum(now.shapes.values())
        return _total_variation(past.shapes, now.shapes, shaped) >= rules.categories
    moved = abs(figure - float(np.nanmean(aspect.figures)))
    return moved >= (np.log(rules.spread) if aspect.label == "spread" else rules.location)


def _kind_share(column: ColumnProfile, kind: str) -> float:
    return column.kinds.get(kind, 0) / sum(column.kinds.values())


def _total_variation(shares: Mapping[str, float], counts: Mapping[str, int], seen: int) -> float:
    """Half the sum of what shares changed by, all others taken together."""
    now = [counts.get(name, 0) / seen for name in shares]
    moved = sum(abs(a - b) for a, b in zip(now, shares.values(), strict=True))
    return (moved + abs(sum(now) - sum(shares.values()))) / 2


def _statistical(profile: Profile, tests: Sequence[_Test], rate: float) -> list[Finding]:
    """What Benjamini-Hochberg lets through, in words; of a column only what tells most."""
    kept = _discoveries([test.p_value for test in tests], rate)
    found: dict[tuple[str, Kind], _Test] = {}
    for test, passed in zip(tests, kept, strict=True):
        key = (test.column, test.kind)
        if passed and (key not in found or test.p_value < found[key].p_value):
            found[key] = test
    return [
        Finding(name, kind, "warn", test.p_value, _said(test, profile.columns[name]))
        for (name, kind), test in found.items()
        if not _follows(test, {other for column, other in found if column == name})
    ]


def _follows(test: _Test, found: Collection[Kind]) -> bool:
    """Whether a change is but a consequence of another one of the same column."""
    if test.label == "length":
        return "retyped" in found or "categories" in found
    if test.kind == "range":
        return "retyped" in found
    return test.kind == "categories" and (
        "retyped" in found or ("range" in found and test.past.kind != "text")
    )


def _discoveries(p_values: Sequence[float], rate: float) -> NDArray[np.bool_]:
    """Which null hypotheses Benjamini-Hochberg rejects at the false discovery rate."""
    values = np.array(p_values)
    order = np.argsort(values)
    passed = values[order] <= rate * (np.arange(len(values)) + 1) / max(len(values), 1)
    rejected = np.zeros(len(values), dtype=bool)
    if passed.any():
        rejected[order[: int(np.flatnonzero(passed).max()) + 1]] = True
    return rejected


def _said(test: _Test, now: ColumnProfile) -> str:
    past, before = test.past, test.past.pooled
    if test.kind == "nulls":
        share = before.nulls / before.rows
        return f"{now.nulls / now.rows:.1%} of the rows have no value, before {share:.1%}"
    if test.kind == "retyped":
        other = max(now.kinds, key=lambda kind: (kind != past.kind) * now.kinds[kind])
        return (
            f"{_kind_share(now, other):.1%} of the values are of kind {other}, "
            f"before {_kind_share(before, past.kind):.1%} were of kind {past.kind}"
        )
    if test.kind == "range":
        return _said_of_range(test, now)
    what, _, name = test.label.partition(" ")
    if what == "unseen":
        known = sum((now.categories or {}).get(each, 0) for each in past.known)
        return f"{1 - known / now.seen:.1%} of the values were never seen before"
    if what == "shape":
        share = now.shapes.get(name, 0) / sum(now.shapes.values())
        return f"{share:.1%} are written like {name!r}, before {past.shapes[name]:.1%}"
    share, count = past.categories[name], (now.categories or {}).get(name, 0)
    word = before.words.get(name)
    said = repr(word) if word else "one value"
    return f"{said} is {count / now.seen:.1%} of the values, before {share:.1%}"


def _said_of_range(test: _Test, now: ColumnProfile) -> str:
    past = test.past
    if test.label == "length":
        length = now.lengths[len(now.lengths) // 2]
        return f"texts of typically {length:,.0f} characters, before {past.length_centre:,.0f}"
    if test.label == "spread":
        before = float(np.exp(np.nanmean(test.past.figures_of("spread"))))
        wider = _moments(np.array(now.numbers), past.centre, past.scale)[1] / before
        return f"the values spread {wider:.2g} times as wide as before"
    if past.kind == "date":
        return "the days lie elsewhere than before, as seen from the day they came"
    middle = now.numbers[len(now.numbers) // 2]
    said = f"typically {middle:,.6g}, before {past.centre:,.6g}"
    times = middle / past.centre if past.centre else 0.0
    if times >= 5 or 0 < times <= 0.2:
        return f"{said} ({'about ' if times != round(times) else ''}{times:.3g} times)"
    return said
