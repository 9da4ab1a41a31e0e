"""What an agent engages with, of what was shown: places, prices, intents, sizes, fees.

Engagement alone says where the pages looked; engagement for the attention that was shown
says what the agent likes. Both are remembered for 120 days and count half after 60, as of
the moment asked about. What an event still counts is a whole number of steps, as its values
are, so the sums are exact and the same whatever stands beside them.

The places of an agent are kept as what fits into a row: up to three centres of engagement,
and the eight areas (H3 resolution 7) that were shown most, each with what was shown and
engaged with there. A cross weighs them by their distance to a lead, so neither a training
frame nor a request needs a table of agents and cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ibis
import ibis.expr.types as ir

from aiqleads.domain import US_PER_DAY
from aiqleads.features.behavior import ENGAGED, PRIOR_ATTENTION, PRIOR_VIEWS, weight_of
from aiqleads.features.catalog import CENTRES, PLACES, PRICE_STEP_LOG, PRICE_STEPS
from aiqleads.features.lead import log_positive
from aiqleads.features.tables import Tables
from aiqleads.features.timeline import faded_weight, known, recalled, whole

MEMORY_DAYS, HALF_LIFE_DAYS = 120, 60.0

#: Two centres lie at least so far apart, metres: about an area's width.
_APART_M = 2_500.0
# What is declared (home, price band) counts like so much engagement.
_PRIOR_WEIGHT = 3.0
_PRIOR_LOG_PRICE2 = 0.35**2

#: Steps of summed values: logarithms in ten thousandths, places in tens of metres, rooms in
#: tenths, attention in thousandths of the first position's, all of it faded in 1024ths.
_LOG_STEP, _PLACE_STEP_M, _ROOM_STEP = 10_000.0, 10.0, 10.0
_ATTENTION_STEP, _FADE_STEP = 1_000.0, 1024.0

_PRICES = tuple(f"price_{step}" for step in range(PRICE_STEPS))
_SHOWN = ("attention", "attention_sell", *(f"attention_{p}" for p in _PRICES), "seen", "seen_fee")
_DONE = (
    "weight",
    "weight_sell",
    *(f"weight_{p}" for p in _PRICES),
    "sell_price",
    "sell_price2",
    "buy_price",
    "buy_price2",
    "rooms_weight",
    "rooms",
    "size_weight",
    "size",
    "fee_weight",
    "fee",
)
_VALUES = (*_SHOWN, *_DONE)
_PLACED = ("attention", "shown_east", "shown_north", "weight", "engaged_east", "engaged_north")


def remembered(tables: Tables, spine: ir.Table) -> ir.Table:
    """Faded sums of what was shown and done, and the places: a row an agent_id, as_of_us."""
    since_us = spine.as_of_us.min().as_scalar() - MEMORY_DAYS * US_PER_DAY
    shown = tables.keep(_shown(tables, spine, since_us))
    done = tables.keep(_done(tables, spine, since_us))
    keys = ["agent_id", "at_us", "known_us"]
    pages = shown.group_by(["request_id", *keys]).agg(**_page(shown))
    sums = _faded(_union(pages, done, keys, _VALUES), spine, ["agent_id"], _VALUES)
    areas = shown.group_by(["request_id", *keys, "area"]).agg(
        attention=shown.attention.sum(),
        shown_east=(shown.attention * shown.east).sum(),
        shown_north=(shown.attention * shown.north).sum(),
    )
    worked = done.mutate(
        engaged_east=done.weight * done.east, engaged_north=done.weight * done.north
    )
    placed = _union(areas, worked, [*keys, "area"], _PLACED)
    places = tables.keep(_faded(placed, spine, ["agent_id"], _PLACED, within="area"))
    asked = spine.select("agent_id", "as_of_us")
    rows = asked
    for part in (sums, _centres(places), _most_shown(places)):
        rows = rows.left_join(tables.keep(part), ["agent_id", "as_of_us"]).drop(
            "agent_id_right", "as_of_us_right"
        )
    rows = rows.mutate(
        **{name: rows[name].fill_null(0.0) for name in rows.columns if name not in asked.columns}
    )
    rows = tables.keep(rows)
    tables.drop(shown, done, places)
    return rows


def _shown(tables: Tables, spine: ir.Table, since_us: ir.IntegerScalar) -> ir.Table:
    asked = known(tables.rankings, "at_market_us", "arrived_market_us")
    asked = asked.filter(asked.at_us >= since_us).semi_join(spine, "agent_id")
    asked = asked.select("request_id", "agent_id", "at_us", "known_us")
    shown = _with_lead(tables, tables.impressions.join(asked, "request_id"))
    return shown.select(
        "request_id",
        "agent_id",
        "at_us",
        "known_us",
        "area",
        "east",
        "north",
        "sells",
        "price_step",
        attention=whole(_ATTENTION_STEP / shown.position),
        fee=whole(log_positive(shown.price_cents / 100.0) * _LOG_STEP),
    )


def _page(shown: ir.Table) -> dict[str, ir.FloatingValue]:
    """Sums of the `_SHOWN` of one page."""
    by_price = {
        f"attention_{price}": (shown.price_step == step).ifelse(shown.attention, 0.0).sum()
        for step, price in enumerate(_PRICES)
    }
    return {
        "attention": shown.attention.sum(),
        "attention_sell": (shown.attention * shown.sells).sum(),
        **by_price,
        "seen": shown.fee.count().cast("float64"),
        "seen_fee": shown.fee.sum().fill_null(0.0),
    }


def _done(tables: Tables, spine: ir.Table, since_us: ir.IntegerScalar) -> ir.Table:
    done = known(tables.interactions, "at_market_us", "arrived_market_us")
    done = done.filter(done.kind.isin(ENGAGED), done.at_us >= since_us)
    done = done.semi_join(spine, "agent_id").select(
        "request_id", "agent_id", "lead_id", "kind", "at_us", "known_us"
    )
    quoted = tables.impressions.select("request_id", "lead_id", "price_cents")
    done = done.left_join(quoted, ["request_id", "lead_id"])
    done = _with_lead(tables, done.drop("request_id_right", "lead_id_right"))
    weight = weight_of(done.kind)
    fee = whole(log_positive(done.price_cents / 100.0) * _LOG_STEP)
    sell, buy = weight * done.sells, weight * (1.0 - done.sells)
    price = done.price_off.fill_null(0.0)
    by_price = {
        f"weight_{name}": (done.price_step == step).ifelse(weight, 0.0)
        for step, name in enumerate(_PRICES)
    }
    return done.mutate(
        weight=weight,
        weight_sell=sell,
        **by_price,
        sell_price=sell * price,
        sell_price2=sell * price * price,
        buy_price=buy * price,
        buy_price2=buy * price * price,
        rooms_weight=done.beds.notnull().ifelse(weight, 0.0),
        rooms=(weight * whole(done.beds * _ROOM_STEP)).fill_null(0.0),
        size_weight=done.size_log.notnull().ifelse(weight, 0.0),
        size=(weight * whole(done.size_log * _LOG_STEP)).fill_null(0.0),
        fee_weight=fee.notnull().ifelse(weight, 0.0),
        fee=(weight * fee).fill_null(0.0),
    )


def _with_lead(tables: Tables, rows: ir.Table) -> ir.Table:
    """Adds the lead's place seen from home, its price seen from the band, beds and size."""
    leads, agents = tables.leads, tables.agents
    about = leads.select(
        "lead_id",
        "area",
        "utm_x_m",
        "utm_y_m",
        "beds",
        log_price=log_positive(leads.ask_price_cents / 100.0),
        size_log=log_positive(leads.living_area_sqft),
        sells=(leads.intent == "sell").ifelse(1.0, 0.0),
    )
    home = agents.select("agent_id", "home_x_m", "home_y_m", mid=band_mid(agents))
    rows = rows.join(about, "lead_id").join(home, "agent_id")
    off = rows.log_price - rows.mid
    half = (PRICE_STEPS - 1) / 2
    step = whole(off / PRICE_STEP_LOG).clip(lower=-half, upper=half) + half
    return rows.mutate(
        east=whole((rows.utm_x_m - rows.home_x_m) / _PLACE_STEP_M),
        north=whole((rows.utm_y_m - rows.home_y_m) / _PLACE_STEP_M),
        price_off=whole(off * _LOG_STEP),
        price_step=off.notnull().ifelse(step, ibis.null("float64")),
    )


def band_mid(agents: ir.Table) -> ir.FloatingValue:
    """Middle of the declared band, ln currency."""
    low, high = (log_positive(agents[f"price_{end}_cents"] / 100.0) for end in ("low", "high"))
    return (low + high) / 2.0


def _union(one: ir.Table, other: ir.Table, keys: Sequence[str], values: Sequence[str]) -> ir.Table:
    """Rows of both; a value that one of them does not have is 0 there."""

    def filled(table: ir.Table) -> ir.Table:
        blank = {name: ibis.literal(0.0) for name in values if name not in table.columns}
        return table.mutate(**blank).select(
            *keys,
            **{name: table[name] if name in table.columns else blank[name] for name in values},
        )

    return ibis.union(filled(one), filled(other))


def _faded(
    events: ir.Table,
    spine: ir.Table,
    keys: Sequence[str],
    values: Sequence[str],
    within: str | None = None,
) -> ir.Table:
    """Sums of the values at each question (and each `within`), faded by age; whole steps."""
    recent = recalled(events, spine, keys, MEMORY_DAYS)
    recent = recent.mutate(faded=whole(faded_weight(recent, HALF_LIFE_DAYS) * _FADE_STEP))
    sums = {name: (recent[name] * recent.faded).sum() for name in values}
    return recent.group_by([*keys, "as_of_us", *([within] if within else [])]).agg(**sums)


# --- places --------------------------------------------------------------------------


def _centres(places: ir.Table) -> ir.Table:
    """Up to CENTRES centres of engagement of each question, the heaviest area's first.

    The heaviest area begins the first centre, the heaviest that lies `_APART_M` from it the
    second, the heaviest that lies so far from both the third; every area then goes to the
    nearest of them. Sums of whole numbers: sums of the areas give the same in any order.
    """
    engaged = places.filter(places.weight > 0)
    east, north = engaged.engaged_east / engaged.weight, engaged.engaged_north / engaged.weight
    rows = engaged.mutate(x=east, y=north, nearest=ibis.literal(float("inf")), number=-1)
    apart2 = (_APART_M / _PLACE_STEP_M) ** 2
    for number in range(CENTRES):
        # The seed: the heaviest area that no earlier centre is near to, if there is one.
        free = rows.nearest > apart2
        first = ibis.window(
            group_by=["agent_id", "as_of_us"],
            order_by=[free.ifelse(0, 1), rows.weight.desc(), rows.area],
        )
        rows = rows.mutate(
            seed_x=rows.x.first().over(first),
            seed_y=rows.y.first().over(first),
            seeded=free.first().over(first),
        )
        away = (rows.x - rows.seed_x) * (rows.x - rows.seed_x) + (rows.y - rows.seed_y) * (
            rows.y - rows.seed_y
        )
        closer = rows.seeded & (away < rows.nearest)
        rows = rows.mutate(
            nearest=closer.ifelse(away, rows.nearest), number=closer.ifelse(number, rows.number)
        )
    parts = {
        f"centre_{number + 1}_{name}": (rows.number == number).ifelse(rows[column], 0.0).sum()
        for number in range(CENTRES)
        for name, column in (
            ("weight", "weight"),
            ("east", "engaged_east"),
            ("north", "engaged_north"),
        )
    }
    return rows.group_by(["agent_id", "as_of_us"]).agg(**parts)


def _most_shown(places: ir.Table) -> ir.Table:
    """The PLACES areas of each question that got most attention, side by side."""
    order = ibis.window(
        group_by=["agent_id", "as_of_us"],
        order_by=[places.attention.desc(), places.weight.desc(), places.area],
    )
    turn = places.mutate(turn=ibis.row_number().over(order))
    turn = turn.filter(turn.turn < PLACES)
    parts = {
        f"place_{number + 1}_{name}": (turn.turn == number).ifelse(turn[name], 0.0).sum()
        for number in range(PLACES)
        for name in _PLACED
    }
    return turn.group_by(["agent_id", "as_of_us"]).agg(**parts)


def _mean(total: ir.FloatingValue, weight: ir.FloatingValue) -> ir.FloatingValue:
    """total / weight; 0 where nothing weighs."""
    return (total / weight.nullif(0.0)).fill_null(0.0)


# --- features and ingredients of the row ------------------------------------------------


def _steps(value: ir.FloatingValue) -> ir.FloatingValue:
    return value / _FADE_STEP


def _attention(value: ir.FloatingValue) -> ir.FloatingValue:
    return value / (_FADE_STEP * _ATTENTION_STEP)


def agent_engaged_rate(row: ir.Table) -> ir.FloatingValue:
    """(faded engagement + 1) / (faded attention + 5): how readily the agent engages."""
    return (_steps(row.weight) + PRIOR_VIEWS) / (_attention(row.attention) + PRIOR_ATTENTION)


def agent_focus(row: ir.Table) -> ir.FloatingValue:
    """Share of the heaviest centre in the engagement, which 3 of home are added to."""
    return _steps(row.centre_1_weight) / (_steps(row.weight) + _PRIOR_WEIGHT)


def agent_fee_level(row: ir.Table) -> ir.FloatingValue:
    """Mean ln fee engaged with, drawn to that of what was shown; missing before the first."""
    usual = row.seen_fee / row.seen.nullif(0.0)
    mean = (_steps(row.fee) + _PRIOR_WEIGHT * usual) / (_steps(row.fee_weight) + _PRIOR_WEIGHT)
    return mean / _LOG_STEP


DERIVED = (agent_engaged_rate, agent_focus, agent_fee_level)


def _lift(row: ir.Table, attention: ir.FloatingValue, weight: ir.FloatingValue) -> ir.FloatingValue:
    """Engagement for attention over the agent's own usual, drawn to 1 as by 5 of attention."""
    usual = agent_engaged_rate(row)
    rate = (_steps(weight) + PRIOR_ATTENTION * usual) / (_attention(attention) + PRIOR_ATTENTION)
    return rate / usual


def engaged_rate(row: ir.Table) -> ir.FloatingValue:
    """How readily the agent engages."""
    return agent_engaged_rate(row)


def lift_sell(row: ir.Table) -> ir.FloatingValue:
    """Engagement with sellers for their attention, over the usual."""
    return _lift(row, row.attention_sell, row.weight_sell)


def lift_buy(row: ir.Table) -> ir.FloatingValue:
    """Engagement with buyers for their attention, over the usual."""
    return _lift(row, row.attention - row.attention_sell, row.weight - row.weight_sell)


def engaged_log_price_sell(row: ir.Table) -> ir.FloatingValue:
    """Mean ln asking price of the sellers engaged with, drawn to that of all engagement."""
    return _price_mean(row, row.sell_price, row.weight_sell)


def engaged_log_price_sell_spread2(row: ir.Table) -> ir.FloatingValue:
    """Variance of the same, from 0.35^2 on."""
    return _price_spread2(row.sell_price, row.sell_price2, row.weight_sell)


def engaged_log_price_buy(row: ir.Table) -> ir.FloatingValue:
    """Mean ln asking price of the buyers engaged with, drawn to that of all engagement."""
    return _price_mean(row, row.buy_price, row.weight - row.weight_sell)


def engaged_log_price_buy_spread2(row: ir.Table) -> ir.FloatingValue:
    """Variance of the same, from 0.35^2 on."""
    return _price_spread2(row.buy_price, row.buy_price2, row.weight - row.weight_sell)


def _price_mean(
    row: ir.Table, price: ir.FloatingValue, weight: ir.FloatingValue
) -> ir.FloatingValue:
    every = _steps(row.sell_price + row.buy_price) / (_steps(row.weight) + _PRIOR_WEIGHT)
    mean = (_steps(price) + _PRIOR_WEIGHT * every) / (_steps(weight) + _PRIOR_WEIGHT)
    return band_mid(row) + mean / _LOG_STEP


def _price_spread2(
    price: ir.FloatingValue, squared: ir.FloatingValue, weight: ir.FloatingValue
) -> ir.FloatingValue:
    n = _steps(weight) + _PRIOR_WEIGHT
    mean = _steps(price) / n / _LOG_STEP
    spread = (_steps(squared) / _LOG_STEP / _LOG_STEP + _PRIOR_WEIGHT * _PRIOR_LOG_PRICE2) / n
    return spread - mean * mean


def engaged_beds(row: ir.Table) -> ir.FloatingValue:
    """Mean number of bedrooms engaged with; missing before the first."""
    return row.rooms / row.rooms_weight.nullif(0.0) / _ROOM_STEP


def engaged_log_size(row: ir.Table) -> ir.FloatingValue:
    """Mean ln living area engaged with; missing before the first."""
    return row["size"] / row.size_weight.nullif(0.0) / _LOG_STEP


def engaged_log_fee(row: ir.Table) -> ir.FloatingValue:
    """Mean ln fee engaged with."""
    return agent_fee_level(row)


def budget_left(row: ir.Table) -> ir.FloatingValue:
    """What is left of the month's budget, currency units."""
    return row.agent_budget_left


def _made(
    name: str, function: Callable[[ir.Table], ir.FloatingValue], about: str
) -> Callable[[ir.Table], ir.FloatingValue]:
    function.__name__, function.__doc__ = name, about
    return function


def _price_lift(step: int) -> Callable[[ir.Table], ir.FloatingValue]:
    price = _PRICES[step]
    return _made(
        f"lift_{price}",
        lambda row: _lift(row, row[f"attention_{price}"], row[f"weight_{price}"]),
        f"Engagement with prices of step {step} of {PRICE_STEPS} around the band, over the usual.",
    )


def _seen_from_home(
    name: str, axis: str, total: str, weight: str, about: str
) -> Callable[[ir.Table], ir.FloatingValue]:
    return _made(
        name,
        lambda row: row[f"home_{axis}_m"] + _mean(row[total], row[weight]) * _PLACE_STEP_M,
        about,
    )


def _centre(number: int) -> list[Callable[[ir.Table], ir.FloatingValue]]:
    centre = f"centre_{number}"
    place = [
        _seen_from_home(
            f"{centre}_{xy}_m",
            axis,
            f"{centre}_{axis}",
            f"{centre}_weight",
            "Weighted mean of a centre's engagement, metres; home where there is none.",
        )
        for xy, axis in (("x", "east"), ("y", "north"))
    ]
    weight = _made(
        f"{centre}_weighs", lambda row: _steps(row[f"{centre}_weight"]), "Engagement of a centre."
    )
    return [*place, weight]


def _place(number: int) -> list[Callable[[ir.Table], ir.FloatingValue]]:
    place = f"place_{number}"
    means = [
        _seen_from_home(
            f"{place}_{done}_{xy}_m",
            axis,
            f"{place}_{done}_{axis}",
            f"{place}_{weight}",
            f"Mean of what was {done} in an area, metres; home where there is none.",
        )
        for done, weight in (("shown", "attention"), ("engaged", "weight"))
        for xy, axis in (("x", "east"), ("y", "north"))
    ]
    return [
        *means,
        _made(
            f"{place}_looks",
            lambda row: _attention(row[f"{place}_attention"]),
            "Attention shown in an area.",
        ),
        _made(
            f"{place}_weighs", lambda row: _steps(row[f"{place}_weight"]), "Engagement in an area."
        ),
    ]


INGREDIENTS = (
    engaged_rate,
    lift_sell,
    lift_buy,
    *(_price_lift(step) for step in range(PRICE_STEPS)),
    engaged_log_price_sell,
    engaged_log_price_sell_spread2,
    engaged_log_price_buy,
    engaged_log_price_buy_spread2,
    engaged_beds,
    engaged_log_size,
    engaged_log_fee,
    budget_left,
    *(function for number in range(1, CENTRES + 1) for function in _centre(number)),
    *(function for number in range(1, PLACES + 1) for function in _place(number)),
)
