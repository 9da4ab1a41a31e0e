"""Counts what was known: events on two clocks, asked about at many moments in one pass.

An event has the time at which it happened (`at_us`) and the time from which it was known
(`known_us`, the later of happening and arriving). Asked at `as_of`, it counts in a window
of w days when it was known before `as_of` and happened in `[as_of - w, as_of)`. That is
the same as saying that it counts for every `as_of` in the interval `(known_us, at_us + w]`,
so each event becomes two edges, one that opens its interval and one that closes it, and a
count is a running sum over the edges before `as_of`: a RANGE frame over an int64 in which
a question stands before the edges of its own microsecond, so that windows are half-open.

Sums run over whole numbers held in float64. Below 2**53 they are exact in any order, so
one request answered alone, a million answered together, and another engine agree bit by
bit. A value with decimals is therefore rounded to a fixed step before it is summed.

A window may fade (`Fade`): an event then counts half as much after each half-life. Powers
of two of an event's age differ for every question, so time is cut into blocks as long as
the window: what an event weighs against the start of its block is one whole number for
good, and a question takes the sums of its own block and of the one before, each times one
factor.

Where all questions are of one moment, nothing closes before it and no order matters: the
same functions are then plain sums by key (`at_moment`), a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput

#: the window of everything that is known
EVER = 0

_ASKED, _OPENED = -1, 0

#: Faded weights are kept in whole numbers of this step.
_FADE_STEP = 1024.0


@dataclass(frozen=True)
class Fade:
    """A window of `days` in which an event counts half after each `half_life` days.

    Weights of a block grow to 2**(days / half_life) * 1024: with whole values of v digits in
    base two, sums of 2**(43 - days / half_life - v) events stay exact.
    """

    half_life: float
    days: int

    @property
    def code(self) -> int:
        """Number of the edge that ends an event's block, apart from every window's."""
        return 10_000 + self.days

    @property
    def block_us(self) -> int:
        """Length of a block, us."""
        return self.days * US_PER_DAY

    def weight(self, at_us: ir.IntegerValue) -> ir.FloatingValue:
        """What an event weighs against the start of its block, whole-numbered."""
        return whole(self._grown(at_us % self.block_us) * _FADE_STEP)

    def since(self, asked_us: ir.IntegerValue) -> ir.FloatingValue:
        """The weight of the start of a question's block; a question ends a block, not begins."""
        return 1.0 / (self._grown((asked_us - 1) % self.block_us + 1) * _FADE_STEP)

    @property
    def before(self) -> float:
        """What a block weighs against the next."""
        return float(2.0 ** (-self.days / self.half_life))

    def _grown(self, us: ir.IntegerValue) -> ir.FloatingValue:
        return ibis.literal(2.0) ** (us.cast("float64") / (self.half_life * US_PER_DAY))


Window = int | Fade
Windows = Mapping[str, tuple[Window, ...]]


@dataclass(frozen=True)
class Timeline:
    """Edges of events and the moments at which they are asked about, side by side.

    table: one row an edge or a question, with the columns `keys`, `t_us` (time of the edge
    or of the question), `edge` (-1 a question, 0 opens, n closes the window of n days, see
    `Fade.code` for blocks), `kind` (its number in `windows`), `at_us`, `known_us` and the
    values of the events.
    keys: what a question is about (a lead, an agent, a cell); none asks about the market.
    windows: the kinds, and for each the windows in days that may be asked for.
    moment_us: the one moment of all questions; None where they differ.
    """

    table: ir.Table
    keys: tuple[str, ...]
    windows: Windows
    moment_us: int | None = None

    @property
    def asked_us(self) -> ir.IntegerValue:
        """The moment of a question."""
        if self.moment_us is None:
            return self.table.t_us
        return ibis.literal(self.moment_us, "int64")

    def count(self, *kinds: str, days: int = EVER) -> ir.FloatingValue:
        """Events of these kinds in the window."""
        return self.total("", *kinds, days=days)

    def total(self, value: str, *kinds: str, days: int = EVER) -> ir.FloatingValue:
        """Sum of a whole-numbered column over these kinds; an empty name counts events."""
        return self._sum(self._amount(value), self._are(kinds, days), days)

    def faded(self, value: str, *kinds: str, fade: Fade) -> ir.FloatingValue:
        """The same sum, an event counting half after each half-life."""
        amount = self._amount(value) * fade.weight(self.table.at_us)
        mine = self._are(kinds, fade)
        every = self._sum(amount, mine, fade.days)
        own = self._own_block(amount, mine, fade)
        return (own + (every - own) * fade.before) * fade.since(self.asked_us)

    def hours_since(self, *kinds: str, days: int = EVER) -> ir.FloatingValue:
        """Hours since the newest event of these kinds; missing where the window has none."""
        table = self.table
        told = self._are(kinds, days) & (table.edge == _OPENED)
        newest = self._upto(told.ifelse(table.at_us, ibis.null("int64")).max())
        since = self.asked_us - newest
        if days != EVER:
            since = (since <= days * US_PER_DAY).ifelse(since, ibis.null("int64"))
        return since.cast("float64") / 3.6e9

    def _amount(self, value: str) -> ir.FloatingValue:
        return self.table[value] if value else ibis.literal(1.0)

    def _sum(self, amount: ir.FloatingValue, mine: ir.BooleanValue, days: int) -> ir.FloatingValue:
        table = self.table
        opens = mine & (table.edge == _OPENED)
        if days == EVER:
            return self._stepped((opens, amount))
        if self.moment_us is not None:
            return self._stepped((opens & (table.at_us >= self._since(days)), amount))
        opens &= table.known_us < table.at_us + days * US_PER_DAY
        return self._stepped((opens, amount), (mine & (table.edge == days), -amount))

    def _own_block(
        self, amount: ir.FloatingValue, mine: ir.BooleanValue, fade: Fade
    ) -> ir.FloatingValue:
        table = self.table
        opens = mine & (table.edge == _OPENED)
        if self.moment_us is not None:
            first = (self.moment_us - 1) // fade.block_us * fade.block_us
            fresh = (table.at_us >= self._since(fade.days)) & (table.at_us >= first)
            return self._stepped((opens & fresh, amount))
        opens &= table.known_us < _block_end(table.at_us, fade)
        return self._stepped((opens, amount), (mine & (table.edge == fade.code), -amount))

    def _since(self, days: int) -> int:
        return (self.moment_us or 0) - days * US_PER_DAY

    def _stepped(self, *steps: tuple[ir.BooleanValue, ir.FloatingValue]) -> ir.FloatingValue:
        return self._upto(ibis.cases(*steps, else_=0.0).sum()).fill_null(0.0)

    def _are(self, kinds: Sequence[str], window: Window) -> ir.BooleanValue:
        for kind in kinds:
            if window not in self.windows.get(kind, ()):
                asked = f"{window} days" if isinstance(window, int) else str(window)
                raise InvalidInput(f"{kind!r} is not laid out for a window of {asked}")
        return self.table.kind.isin([list(self.windows).index(kind) for kind in kinds])

    def _upto(self, summary: Any) -> Any:
        """A sum or an extreme of what stands before each question."""
        if self.moment_us is not None:
            return summary
        # Ending at the current row, the frame costs an engine a quarter of one that ends
        # "1 preceding"; doubling the time makes room for questions to come first.
        table = self.table
        moment = table.t_us * 2 + (table.edge != _ASKED).cast("int64")
        frame = ibis.range_window(
            group_by=list(self.keys) or None, order_by=moment, preceding=None, following=0
        )
        return summary.over(frame)

    def answers(self, functions: Iterable[Callable[[Timeline], ir.Value]]) -> ir.Table:
        """One row a question: the keys, `as_of_us` and a column for each function's name."""
        columns = {function.__name__: function(self) for function in functions}
        if self.moment_us is not None:
            asked = (self.table.edge == _ASKED).cast("int8").max()
            by_key = self.table.group_by(list(self.keys)) if self.keys else self.table
            told = by_key.agg(**columns, asked=asked)
            told = told.filter(told.asked == 1)
            return told.select(*self.keys, *columns, as_of_us=self.asked_us)
        told = self.table.mutate(**columns)
        return told.filter(told.edge == _ASKED).select(*self.keys, *columns, as_of_us=told.t_us)


def _block_end(at_us: ir.IntegerValue, fade: Fade) -> ir.IntegerValue:
    return at_us - at_us % fade.block_us + fade.block_us


def whole(value: ir.NumericValue) -> ir.FloatingValue:
    """The nearest whole number, as float64."""
    return value.round().cast("float64")


def known(table: ir.Table, at: str, arrived: str) -> ir.Table:
    """The table with `at_us` and `known_us`, the time from which a row may be known."""
    return table.mutate(at_us=table[at], known_us=ibis.greatest(table[at], table[arrived]))


def timeline(events: ir.Table, spine: ir.Table, keys: Sequence[str], windows: Windows) -> Timeline:
    """Lays events and questions on one line.

    events: keys, kind, at_us, known_us (int64 microseconds) and whole-numbered float64 values.
    spine: keys and as_of_us, no row twice. Both are read several times: keep them first.
    windows: the kinds to lay out, and for each the windows in days that are going to be
    asked for, EVER among them where all that is known counts.
    """
    events = _coded(events, windows)
    lines = [events.mutate(t_us=events.known_us, edge=ibis.literal(_OPENED, "int16"))]
    for (block, days), kinds in _laid_out(windows).items():
        fade = Fade(1.0, days)
        end = _block_end(events.at_us, fade) if block else events.at_us + days * US_PER_DAY
        counted = events.kind.isin(kinds) & (events.known_us < end)
        if "last_us" in events.columns:  # nobody asks any more
            counted &= end < events.last_us
        code = ibis.literal(fade.code if block else days, "int16")
        lines.append(events.mutate(t_us=end, edge=code).filter(counted))
    lines.append(_questions(events, spine, keys))
    return Timeline(_united(lines, events, keys), tuple(keys), windows)


def at_moment(
    events: ir.Table, spine: ir.Table, keys: Sequence[str], windows: Windows, moment_us: int
) -> Timeline:
    """The same line for a spine whose every `as_of_us` is `moment_us`: what is known then.

    Functions of it give the same bits as those of `timeline`.
    """
    events = _coded(events, windows)
    opened = events.mutate(t_us=events.known_us, edge=ibis.literal(_OPENED, "int16"))
    lines = [opened.filter(opened.known_us < moment_us), _questions(events, spine, keys)]
    return Timeline(_united(lines, events, keys), tuple(keys), windows, moment_us)


def _coded(events: ir.Table, windows: Windows) -> ir.Table:
    numbered = ((events.kind == kind, code) for code, kind in enumerate(windows))
    return events.mutate(kind=ibis.cases(*numbered).cast("int8"))


def _laid_out(windows: Windows) -> dict[tuple[bool, int], list[int]]:
    """What closes: whether a block's end, days, and the numbers of the kinds that it closes."""
    closing: dict[tuple[bool, int], list[int]] = {}
    for code, each in enumerate(windows.values()):
        ends = {(False, w.days if isinstance(w, Fade) else w) for w in each if w != EVER}
        blocks = {(True, w.days) for w in each if isinstance(w, Fade)}
        for end in sorted(ends | blocks):
            closing.setdefault(end, []).append(code)
    return closing


def _questions(events: ir.Table, spine: ir.Table, keys: Sequence[str]) -> ir.Table:
    schema = events.schema()
    blank = {name: ibis.null(schema[name]) for name in _columns(events, keys) if name not in keys}
    return spine.mutate(t_us=spine.as_of_us, edge=ibis.literal(_ASKED, "int16"), **blank)


def _united(lines: Sequence[ir.Table], events: ir.Table, keys: Sequence[str]) -> ir.Table:
    order = [*_columns(events, keys), "t_us", "edge"]
    return ibis.union(*[line.select(order) for line in lines])


def worth_laying(
    events: ir.Table, spine: ir.Table, keys: Sequence[str], windows: Windows
) -> ir.Table:
    """The events that a question could count: of its key, kinds and times; adds `last_us`.

    last_us: the last question about the event's key.
    """
    span = {"first_us": spine.as_of_us.min(), "last_us": spine.as_of_us.max()}
    if keys:
        events = events.join(spine.group_by(list(keys)).agg(**span), list(keys))
    else:
        events = events.cross_join(spine.aggregate(**span))
    lasting = [kind for kind, each in windows.items() if EVER in each]
    live = events.kind.isin(lasting)
    for kind, each in windows.items():
        if kind not in lasting:
            days = max(w.days if isinstance(w, Fade) else w for w in each)
            live |= (events.kind == kind) & (events.at_us + days * US_PER_DAY >= events.first_us)
    return events.filter(live & (events.known_us < events.last_us)).drop("first_us")


def recalled(events: ir.Table, spine: ir.Table, keys: Sequence[str], days: int) -> ir.Table:
    """Each question beside each event that it knows of the last `days` (EVER: of all).

    For keys with few events a question, such as an agent and a lead; the rows are as many as
    questions times events. Adds `as_of_us` to the events' columns.
    """
    asked = spine.select(*keys, "as_of_us")
    known_then = events.known_us < asked.as_of_us
    if days != EVER:
        known_then &= events.at_us >= asked.as_of_us - days * US_PER_DAY
    same = [asked[key] == events[key] for key in keys]
    return asked.join(events, [*same, known_then]).select(*events.columns, "as_of_us")


def faded_weight(table: ir.Table, half_life: float) -> ir.FloatingValue:
    """2**-(age / half-life) of the rows of `recalled`, half_life in days."""
    age = (table.as_of_us - table.at_us).cast("float64") / (half_life * US_PER_DAY)
    return ibis.literal(2.0) ** -age


def first_of_each(events: ir.Table, keys: Sequence[str], who: str, kind: str) -> ir.Table:
    """The first known event of each `who` at each key, as events of a kind of their own."""
    first = events.group_by([*keys, who]).agg(known_us=events.known_us.min())
    return first.select(*keys, kind=ibis.literal(kind), at_us=first.known_us, known_us="known_us")


def presence(events: ir.Table, keys: Sequence[str], who: str, kind: str, days: int) -> ir.Table:
    """Events of a kind of their own whose count in `days` is the number of distinct `who`.

    Each event is an interval `(known_us, at_us + days]`; intervals of one `who` at one key
    that touch are merged, so that nobody counts twice.
    """
    spans = events.mutate(end_us=events.at_us + days * US_PER_DAY)
    spans = spans.filter(spans.known_us < spans.end_us)
    one = [*keys, who]
    earlier = ibis.window(group_by=one, order_by=["known_us", "end_us"], preceding=(None, 1))
    spans = spans.mutate(reach_us=spans.end_us.max().over(earlier))
    spans = spans.mutate(
        fresh=(spans.reach_us.isnull() | (spans.known_us > spans.reach_us)).cast("int64")
    )
    upto = ibis.window(group_by=one, order_by=["known_us", "end_us"], preceding=None, following=0)
    spans = spans.mutate(island=spans.fresh.sum().over(upto))
    merged = spans.group_by([*one, "island"]).agg(
        known_us=spans.known_us.min(), end_us=spans.end_us.max()
    )
    return merged.select(
        *keys,
        kind=ibis.literal(kind),
        at_us=merged.end_us - days * US_PER_DAY,
        known_us="known_us",
    )


def squares(events: ir.Table, keys: Sequence[str], who: str, kind: str, days: int) -> ir.Table:
    """Events of a kind of their own whose `steps` add up to the squared counts of each `who`.

    The sum over all that is known of `steps` at a key is the sum over `who` of the squared
    number of their events in the window of `days`: a count that goes from n to n + 1 adds
    2n + 1, and one that falls from n takes 2n - 1 away.
    """
    end_us = events.at_us + days * US_PER_DAY
    lasting = events.filter(events.known_us < end_us)
    opens = lasting.select(*keys, who, t_us=lasting.known_us, step=ibis.literal(1, "int64"))
    closes = lasting.select(
        *keys, who, t_us=lasting.at_us + days * US_PER_DAY, step=ibis.literal(-1, "int64")
    )
    edges = ibis.union(opens, closes)
    # Edges of one microsecond are taken together, so that none stands before another.
    edges = edges.group_by([*keys, who, "t_us"]).agg(step=edges.step.sum())
    upto = ibis.window(group_by=[*keys, who], order_by="t_us", preceding=None, following=0)
    after = edges.step.sum().over(upto)
    grown = (after * after - (after - edges.step) * (after - edges.step)).cast("float64")
    edges = edges.mutate(steps=grown)
    return edges.select(
        *keys, "steps", kind=ibis.literal(kind), at_us=edges.t_us, known_us=edges.t_us
    )


def _columns(events: ir.Table, keys: Sequence[str]) -> list[str]:
    fixed = [*keys, "kind", "at_us", "known_us"]
    return fixed + [
        name for name in events.columns if name not in {*fixed, "t_us", "edge", "last_us"}
    ]
