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

Windows = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Timeline:
    """Edges of events and the moments at which they are asked about, side by side.

    table: one row an edge or a question, with the columns `keys`, `t_us` (time of the edge
    or of the question), `edge` (-1 a question, 0 opens, n closes the window of n days),
    `kind` (its number in `windows`), `at_us`, `known_us` and the values of the events.
    keys: what a question is about (a lead, an agent, a cell); none asks about the market.
    windows: the kinds, and for each the windows in days that may be asked for.
    """

    table: ir.Table
    keys: tuple[str, ...]
    windows: Windows

    def count(self, *kinds: str, days: int = EVER) -> ir.FloatingValue:
        """Events of these kinds in the window."""
        return self.total("", *kinds, days=days)

    def total(self, value: str, *kinds: str, days: int = EVER) -> ir.FloatingValue:
        """Sum of a whole-numbered column over these kinds; an empty name counts events."""
        table, mine = self.table, self._are(kinds, days)
        amount = table[value] if value else ibis.literal(1.0)
        opens = mine & (table.edge == _OPENED)
        if days == EVER:
            step = opens.ifelse(amount, 0.0)
        else:
            opens &= table.known_us < table.at_us + days * US_PER_DAY
            closes = mine & (table.edge == days)
            step = ibis.cases((opens, amount), (closes, -amount), else_=0.0)
        return step.sum().over(self._before).fill_null(0.0)

    def hours_since(self, *kinds: str, days: int = EVER) -> ir.FloatingValue:
        """Hours since the newest event of these kinds; missing where the window has none."""
        table = self.table
        told = self._are(kinds, days) & (table.edge == _OPENED)
        newest = told.ifelse(table.at_us, ibis.null("int64")).max().over(self._before)
        since = table.t_us - newest
        if days != EVER:
            since = (since <= days * US_PER_DAY).ifelse(since, ibis.null("int64"))
        return since.cast("float64") / 3.6e9

    def _are(self, kinds: Sequence[str], days: int) -> ir.BooleanValue:
        for kind in kinds:
            if days not in self.windows.get(kind, ()):
                raise InvalidInput(f"{kind!r} is not laid out for a window of {days} days")
        return self.table.kind.isin([list(self.windows).index(kind) for kind in kinds])

    @property
    def _before(self) -> Any:
        # Ending at the current row, the frame costs an engine a quarter of one that ends
        # "1 preceding"; doubling the time makes room for questions to come first.
        table = self.table
        moment = table.t_us * 2 + (table.edge != _ASKED).cast("int64")
        return ibis.range_window(
            group_by=list(self.keys) or None, order_by=moment, preceding=None, following=0
        )

    def answers(self, functions: Iterable[Callable[[Timeline], ir.Value]]) -> ir.Table:
        """One row a question: the keys, `as_of_us` and a column for each function's name."""
        columns = {function.__name__: function(self) for function in functions}
        told = self.table.mutate(**columns)
        return told.filter(told.edge == _ASKED).select(*self.keys, *columns, as_of_us=told.t_us)


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
    columns = [*keys, "kind", "at_us", "known_us", *_values(events, keys)]
    codes = {kind: code for code, kind in enumerate(windows)}
    events = events.mutate(
        kind=ibis.cases(*((events.kind == kind, code) for kind, code in codes.items())).cast("int8")
    )
    lines = [events.mutate(t_us=events.known_us, edge=ibis.literal(_OPENED, "int16"))]
    for days in sorted({days for each in windows.values() for days in each} - {EVER}):
        kinds = [codes[kind] for kind, each in windows.items() if days in each]
        end = events.at_us + days * US_PER_DAY
        counted = events.kind.isin(kinds) & (events.known_us < end)
        lines.append(events.mutate(t_us=end, edge=ibis.literal(days, "int16")).filter(counted))
    schema = events.schema()
    blank = {name: ibis.null(schema[name]) for name in columns if name not in keys}
    lines.append(spine.mutate(t_us=spine.as_of_us, edge=ibis.literal(_ASKED, "int16"), **blank))
    order = [*columns, "t_us", "edge"]
    return Timeline(ibis.union(*[line.select(order) for line in lines]), tuple(keys), windows)


def worth_laying(
    events: ir.Table, spine: ir.Table, keys: Sequence[str], windows: Windows
) -> ir.Table:
    """The events that a question of the spine could count: its keys, kinds and times."""
    if keys:
        events = events.semi_join(spine, list(keys))
    lasting = [kind for kind, days in windows.items() if EVER in days]
    longest = ((kind, max(days)) for kind, days in windows.items() if EVER not in days)
    first, last = spine.as_of_us.min().as_scalar(), spine.as_of_us.max().as_scalar()
    live = events.kind.isin(lasting)
    for kind, days in longest:
        live |= (events.kind == kind) & (events.at_us + days * US_PER_DAY >= first)
    return events.filter(live & (events.known_us < last))


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


def _values(events: ir.Table, keys: Sequence[str]) -> list[str]:
    fixed = {*keys, "kind", "at_us", "known_us"}
    return [name for name in events.columns if name not in fixed]
