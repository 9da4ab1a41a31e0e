"""Builds feature frames: a whole log of rankings, any spine, or one moment for serving.

All three go through `lead_side`, `agent_side` and `crosses`, so they cannot differ in a
definition; they differ in the moments and the rows that they ask about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pandas as pd
import structlog

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.features import agent, behavior, lead, location, market, taste
from aiqleads.features.catalog import (
    AGENT_FEATURES,
    AGENT_INGREDIENTS,
    CROSS_FEATURES,
    FEATURE_NAMES,
    FEATURES,
    LEAD_FEATURES,
    LEAD_INGREDIENTS,
    PAIR_INGREDIENTS,
    check,
)
from aiqleads.features.crosses import CROSSES
from aiqleads.features.tables import Tables, open_tables
from aiqleads.features.timeline import Timeline, Windows, at_moment, timeline, worth_laying
from aiqleads.settings import Settings

log = structlog.get_logger(__name__)

#: what happens so long after a ranking still counts to its label
LABEL_DAYS = 14
_LABELS = {"view": 1, "hold": 2, "purchase": 3}

Expression = Callable[[ir.Table], ir.Value]


def _derive(table: ir.Table, functions: Iterable[Expression]) -> ir.Table:
    """The table with a column for each function's name; it may read the columns before it."""
    return table.mutate(**{function.__name__: function(table) for function in functions})


def _asked(spine: ir.Table, *keys: str) -> ir.Table:
    return spine.select(*keys, "as_of_us").distinct()


def _answers(
    tables: Tables,
    events: ir.Table,
    spine: ir.Table,
    keys: Sequence[str],
    windows: Windows,
    functions: Iterable[Callable[[Timeline], ir.Value]],
) -> ir.Table:
    """The functions' columns at each question; only events that it could count are laid out."""
    events = tables.keep(worth_laying(events, spine, keys, windows))
    moment = _one_moment(spine)
    if moment is None:
        line = timeline(events, spine, keys, windows)
    else:
        line = at_moment(events, spine, keys, windows, moment)
    answers = tables.keep(line.answers(functions))
    tables.drop(events)
    return answers


def _one_moment(spine: ir.Table) -> int | None:
    """The moment that a spine asks about, where it is one; an empty spine has none."""
    ends = spine.aggregate(first=spine.as_of_us.min(), last=spine.as_of_us.max()).to_pandas()
    first, last = ends.iloc[0]
    return int(first) if not pd.isna(first) and first == last else None


def lead_side(tables: Tables, spine: ir.Table) -> ir.Table:
    """Adds LEAD_FEATURES (float32) and LEAD_INGREDIENTS (float64) to lead_id, as_of_us.

    spine: no pair of lead_id and as_of_us twice; leads that the market does not have are
    dropped.
    """
    asked = spine.join(tables.leads, "lead_id")
    near, area, moments = (tables.keep(_asked(asked, *keys)) for keys in (["near"], ["area"], []))
    rows = asked.join(lead_counts(tables, spine), ["lead_id", "as_of_us"])
    rows = rows.join(_near_counts(tables, near), ["near", "as_of_us"])
    rows = rows.join(_area_figures(tables, area), ["area", "as_of_us"])
    rows = rows.join(_market_figures(tables, moments), "as_of_us")
    rows = _without_undated(rows)
    # A lead's own columns give way to the features of the same name.
    rows = _derive(rows, lead.DERIVED)
    rows = _derive(rows, (*behavior.DERIVED, *location.DERIVED, *market.DERIVED))
    rows = rows.mutate(
        x_m=rows.utm_x_m,
        y_m=rows.utm_y_m,
        ask_log=rows.log_ask_price,
        seller=rows.is_seller,
        grade=rows.quality,
        rooms=rows.beds,
        size_log=rows.log_living_area,
        fee_log=rows.lead_fee_level,
        fee=rows.lead_fee_level.exp(),
    )
    return _narrow(rows, ("lead_id", "as_of_us"), LEAD_FEATURES, LEAD_INGREDIENTS)


def lead_counts(tables: Tables, spine: ir.Table) -> ir.Table:
    """What happened to each lead before each lead_id, as_of_us of the spine, see `behavior`."""
    shown = behavior.shown_events(tables), behavior.SHOWN_WINDOWS, behavior.SHOWN_COUNTED
    done = behavior.events(tables), behavior.WINDOWS, behavior.COUNTED
    one, other = (
        _answers(tables, events, spine, ["lead_id"], windows, functions)
        for events, windows, functions in (shown, done)
    )
    return one.join(other, ["lead_id", "as_of_us"])


def _near_counts(tables: Tables, spine: ir.Table) -> ir.Table:
    events = location.events(tables)
    return _answers(tables, events, spine, ["near"], location.WINDOWS, location.COUNTED)


def _area_figures(tables: Tables, spine: ir.Table) -> ir.Table:
    counts = _answers(
        tables,
        market.sale_events(tables),
        spine,
        ["area"],
        market.SALE_WINDOWS,
        market.SALE_COUNTED,
    )
    supply = _answers(
        tables,
        market.area_events(tables),
        spine,
        ["area"],
        market.AREA_WINDOWS,
        market.AREA_COUNTED,
    )
    prices = tables.keep(market.medians(tables, spine, ("area",)))
    counts = counts.join(supply, ["area", "as_of_us"])
    return counts.join(prices, ["area", "as_of_us"])


def _market_figures(tables: Tables, spine: ir.Table) -> ir.Table:
    events = market.market_events(tables)
    counts = _answers(tables, events, spine, [], market.MARKET_WINDOWS, market.MARKET_COUNTED)
    prices = tables.keep(market.medians(tables, spine, ()))
    prices = prices.rename({f"market_{name}": name for name in ("p90", "p365", "sqft365")})
    return counts.join(prices, "as_of_us")


def _without_undated(rows: ir.Table) -> ir.Table:
    """No dated sale in the market for a year: counts of sales are missing, not zero."""
    dated = rows.market_sales_365d > 0
    counts = ("area_sales_90d", "area_sales_365d", "near_sales_365d")
    return rows.mutate(**{name: dated.ifelse(rows[name], ibis.null("float64")) for name in counts})


def agent_side(tables: Tables, spine: ir.Table) -> ir.Table:
    """Adds AGENT_FEATURES (float32) and AGENT_INGREDIENTS (float64) to agent_id, as_of_us.

    spine: no pair of agent_id and as_of_us twice; unknown agents are dropped.
    """
    functions = (*agent.COUNTED, *agent.TASTE)
    events = agent.events(tables)
    counts = _answers(tables, events, spine, ["agent_id"], agent.WINDOWS, functions)
    counts = counts.join(_agent_months(tables, spine), ["agent_id", "as_of_us"])
    known = tables.keep(spine.semi_join(tables.agents, "agent_id"))
    counts = counts.join(taste.remembered(tables, known), ["agent_id", "as_of_us"])
    rows = known.join(tables.agents, "agent_id").join(counts, ["agent_id", "as_of_us"])
    rows = tables.keep(rows)
    rows = rows.rename(home_east_m="home_x_m", home_north_m="home_y_m")
    rows = _derive(_derive(rows, agent.DERIVED), agent.INGREDIENTS)
    return _narrow(rows, ("agent_id", "as_of_us"), AGENT_FEATURES, AGENT_INGREDIENTS)


def _agent_months(tables: Tables, spine: ir.Table) -> ir.Table:
    spine = tables.keep(agent.months(spine, "as_of_us"))
    events, keys = agent.month_events(tables), ["agent_id", "month"]
    counts = _answers(tables, events, spine, keys, agent.MONTH_WINDOWS, agent.MONTH_COUNTED)
    return counts.drop("month")


def pair_side(tables: Tables, spine: ir.Table) -> ir.Table:
    """Adds PAIR_INGREDIENTS (float64) to agent_id, lead_id, as_of_us; no row twice."""
    told = behavior.pair_events(tables)
    told = tables.keep(told.semi_join(spine, ["agent_id", "lead_id"]))
    counts = tables.keep(behavior.pair_counts(told, spine))
    tables.drop(told)
    return counts.select("agent_id", "lead_id", "as_of_us", *PAIR_INGREDIENTS)


def _narrow(
    rows: ir.Table, keys: Sequence[str], features: Sequence[str], ingredients: Sequence[str]
) -> ir.Table:
    return rows.select(
        *keys,
        **{name: rows[name].cast("float32") for name in features},
        **{name: rows[name].cast("float64") for name in ingredients},
    )


def _cross(rows: ir.Table) -> ir.Table:
    """Adds CROSS_FEATURES (float32) to rows that hold all ingredients."""
    own = {name: rows[name] for name in AGENT_INGREDIENTS}
    theirs = {name: rows[name] for name in (*LEAD_INGREDIENTS, *PAIR_INGREDIENTS)}
    made = {cross.__name__: cross(own, theirs).cast("float32") for cross in CROSSES}
    return rows.mutate(**{name: made[name] for name in CROSS_FEATURES})


def _whole(tables: Tables, spine: ir.Table) -> ir.Table:
    """Adds FEATURE_NAMES to a spine with agent_id, lead_id and as_of_us."""
    check(FEATURES)
    leads = tables.keep(lead_side(tables, tables.keep(_asked(spine, "lead_id"))))
    agents = tables.keep(agent_side(tables, tables.keep(_asked(spine, "agent_id"))))
    pairs = tables.keep(pair_side(tables, tables.keep(_asked(spine, "agent_id", "lead_id"))))
    rows = spine.join(leads, ["lead_id", "as_of_us"]).join(agents, ["agent_id", "as_of_us"])
    rows = _cross(rows.join(pairs, ["agent_id", "lead_id", "as_of_us"]))
    return rows.select(*spine.columns, *FEATURE_NAMES)


def labels_of(tables: Tables) -> ir.Table:
    """What came of each impression: 0 nothing, 1 view, 2 hold, 3 purchase (int8).

    The furthest step that happened within LABEL_DAYS after the ranking, whenever it
    arrived. A purchase that was returned within that time makes 0: it was not wanted.
    """
    asked = tables.rankings.select("request_id", asked_us="at_market_us")
    done = tables.interactions.join(asked, "request_id")
    done = done.filter(
        done.at_market_us >= done.asked_us,
        done.at_market_us < done.asked_us + LABEL_DAYS * US_PER_DAY,
    )
    steps = ibis.cases(*((done.kind == kind, step) for kind, step in _LABELS.items()), else_=0)
    steps = done.mutate(step=steps, returned=(done.kind == "return").cast("int8"))
    best = steps.group_by(["request_id", "lead_id"]).agg(
        step=steps.step.max(), returned=steps.returned.max()
    )
    label = (best.returned > 0).ifelse(0, best.step).cast("int8")
    return best.select("request_id", "lead_id", label=label)


def _impressions(tables: Tables, most: int | None) -> ir.Table:
    """Every impression with its ranking's agent and time, its label and the quoted fee.

    most: of more rankings than that, so many are kept, evenly spaced in time.
    """
    rankings = tables.rankings
    if most is not None:
        everything = rankings.count()
        number = ibis.row_number().over(order_by=[rankings.at_market_us, rankings.request_id])
        ranked = rankings.mutate(number=number, everything=everything.as_scalar())
        step = ((ranked.number + 1) * most // ranked.everything) - (
            ranked.number * most // ranked.everything
        )
        rankings = ranked.filter(step > 0).drop("number", "everything")
    shown = tables.impressions.join(rankings, "request_id")
    shown = shown.left_join(labels_of(tables), ["request_id", "lead_id"])
    return shown.select(
        "request_id",
        "agent_id",
        "lead_id",
        "position",
        "at_market_us",
        label=shown.label.fill_null(0).cast("int8"),
        price_cents=shown.price_cents,
        as_of_us=shown.at_market_us,
    )


def build_training_frame(settings: Settings, market_name: str, most: int | None = None) -> Path:
    """Writes data/features/<market>/features.parquet from every logged ranking.

    most: of more rankings than that, so many are written, evenly spaced in time; what their
    features count is the whole log all the same.

    One row an impression, ordered by time, request and position: request_id, agent_id,
    lead_id, position (int32), at_market_us, label (int8, see `labels_of`), price_cents, then
    FEATURE_NAMES (float32), each as of the request's own time. Raises NotReady where leads,
    agents or rankings are missing.
    """
    path = settings.data / "features" / market_name / "features.parquet"
    with open_tables(settings, market_name) as tables:
        spine = tables.keep(_impressions(tables, most))
        rows = int(spine.count().execute())
        if not rows:
            raise NotReady(f"{market_name!r} has no rankings yet: run the simulated market first")
        frame = _whole(tables, spine).drop("as_of_us")
        frame = frame.order_by("at_market_us", "request_id", "position")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".parquet.tmp")
        frame.to_parquet(unfinished, compression="snappy")
        unfinished.replace(path)
    log.info("training frame built", market=market_name, rows=rows, path=str(path))
    return path


def build_frame(settings: Settings, market_name: str, spine: pd.DataFrame) -> pd.DataFrame:
    """Features for any spine: request_id, agent_id, lead_id, as_of_us and FEATURE_NAMES.

    spine: pandas with the first four columns; rows come back in its order. Raises
    InvalidInput where a column is missing or a lead or an agent is not known.
    """
    columns = dict.fromkeys(("request_id", "agent_id", "lead_id"), "string")
    columns |= {"as_of_us": "int64"}
    missing = [name for name in columns if name not in spine.columns]
    if missing:
        raise InvalidInput(f"the spine has no {', '.join(missing)}")
    numbered = spine[list(columns)].assign(row=range(len(spine)))
    with open_tables(settings, market_name) as tables:
        asked = tables.keep(_memtable(numbered, columns | {"row": "int64"}))
        rows = _whole(tables, asked).order_by("row").drop("row")
        frame: pd.DataFrame = rows.to_pandas()
    if len(frame) < len(spine):
        lost = len(spine) - len(frame)
        raise InvalidInput(f"{lost} rows of the spine name a lead or an agent that is not known")
    return frame


def build_serving_frames(
    settings: Settings, market_name: str, as_of_us: int, lead_ids: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a snapshot holds at one moment: a frame of these leads and one of all agents.

    Leads: lead_id, LEAD_FEATURES (float32), LEAD_INGREDIENTS (float64), in the order of
    `lead_ids`; agents: agent_id, AGENT_FEATURES, AGENT_INGREDIENTS, ordered by agent_id.
    Raises InvalidInput for a lead that is not known or is named twice.
    """
    check(FEATURES)
    with open_tables(settings, market_name) as tables:
        leads = tables.keep(_named(lead_ids, as_of_us))
        moment = ibis.literal(as_of_us, "int64")
        agents = tables.keep(tables.agents.select("agent_id", as_of_us=moment))
        lead_frame = lead_side(tables, leads).drop("as_of_us").to_pandas()
        agent_frame = agent_side(tables, agents).drop("as_of_us").to_pandas()
    strange = set(lead_ids) - set(lead_frame["lead_id"])
    if strange:
        raise InvalidInput(f"{len(strange)} leads are not known, {min(strange)!r} among them")
    rows = pd.Index(lead_frame["lead_id"]).get_indexer(pd.Index(lead_ids))
    lead_frame = lead_frame.take(rows).reset_index(drop=True)
    return lead_frame, agent_frame.sort_values("agent_id", ignore_index=True)


def build_serving_pairs(
    settings: Settings, market_name: str, as_of_us: int, lead_ids: Sequence[str]
) -> pd.DataFrame:
    """Agents and leads that have a history at one moment: agent_id, lead_id, PAIR_INGREDIENTS.

    A pair that is not in the frame has none (all 0). Ordered by agent_id, lead_id; both are
    categories, since millions of pairs share some thousands of names.
    """
    with open_tables(settings, market_name) as tables:
        told = behavior.pair_events(tables).filter(ibis._.known_us < as_of_us)
        met = told.semi_join(_named(lead_ids, as_of_us), "lead_id")
        met = met.select("agent_id", "lead_id").distinct()
        spine = tables.keep(met.mutate(as_of_us=ibis.literal(as_of_us, "int64")))
        rows = pair_side(tables, spine).drop("as_of_us").order_by("agent_id", "lead_id")
        made = rows.to_pyarrow()
    frame: pd.DataFrame = made.to_pandas(
        strings_to_categorical=True, split_blocks=True, self_destruct=True
    )
    return frame


def _named(lead_ids: Sequence[str], as_of_us: int) -> ir.Table:
    if len(set(lead_ids)) < len(lead_ids):
        raise InvalidInput("a lead is named twice")
    frame = pd.DataFrame({"lead_id": list(lead_ids)}).assign(as_of_us=as_of_us)
    return _memtable(frame, {"lead_id": "string", "as_of_us": "int64"})


def _memtable(frame: pd.DataFrame, schema: Mapping[str, str]) -> ir.Table:
    return ibis.memtable(frame[list(schema)], schema=ibis.schema(schema))
