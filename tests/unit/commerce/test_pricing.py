"""The lead's price: its lines explain it, and the table behind it is checked."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest

from aiqleads.commerce.pricing import PRICES, PriceTable, Quote, quote, quote_many
from aiqleads.errors import InvalidInput

LEAD = {
    "intent": "sell",
    "ask_price_cents": 10_000_000,
    "quality": 0.5,
    "age_hours": 24.0,
    "max_buyers": 2,
    "tier": "basic",
}
RAW = {
    "version": "t",
    "currency": "USD",
    "floor_cents": 100,
    "cap_cents": 900,
    "base_cents": {"sell": 200, "buy": 100},
    "value": {"at": [0, 1], "factor": [1, 1]},
    "quality": {"at": [0, 1], "factor": [1, 2]},
    "age": {"at": [0, 10], "factor": [1, 1]},
    "demand": {"at": [0, 10], "factor": [1, 1]},
    "extension": {"share_per_day": 0.1, "least_cents": 10},
    "exclusivity": {"factor": [5, 1]},
}


def priced(**changes: object) -> Quote:
    return quote(**{**LEAD, **changes})  # type: ignore[arg-type]


def test_a_lead_at_every_middle_knot_costs_the_base() -> None:
    assert priced().total_cents == PRICES.base_cents["sell"]
    assert priced().currency == "USD"
    assert priced().version == PRICES.version


@pytest.mark.parametrize(
    ("dearer", "cheaper"),
    [
        ({"intent": "sell"}, {"intent": "buy"}),
        ({"ask_price_cents": 30_000_000}, {"ask_price_cents": 5_000_000}),
        ({"quality": 0.9}, {"quality": 0.1}),
        ({"age_hours": 1.0}, {"age_hours": 500.0}),
        ({"demand": 2.0}, {"demand": 1.0}),
        ({"demand": 1.0}, {"demand": 0.3}),
        ({"max_buyers": 1}, {"max_buyers": 2}),
        ({"max_buyers": 2}, {"max_buyers": 3}),
        ({"tier": "basic"}, {"tier": "enterprise"}),
    ],
)
def test_each_factor_moves_the_price_its_way(
    dearer: dict[str, object], cheaper: dict[str, object]
) -> None:
    assert priced(**dearer).total_cents > priced(**cheaper).total_cents


def test_the_lines_multiply_to_the_total() -> None:
    price = priced(quality=0.8, tier="pro", intent="buy")
    assert abs(math.prod(line.factor for line in price.lines) - price.total_cents) <= 0.5
    assert [line.name for line in price.lines] == [
        "base",
        "value",
        "quality",
        "age",
        "demand",
        "exclusivity",
        "tier",
    ]


@pytest.mark.parametrize(
    ("changes", "name", "cents"),
    [
        ({"intent": "buy", "quality": 0.0, "age_hours": 900.0}, "floor", PRICES.floor_cents),
        ({"ask_price_cents": 10**9, "quality": 1, "max_buyers": 1}, "cap", PRICES.cap_cents),
    ],
)
def test_a_bound_that_decides_is_a_line(changes: dict[str, object], name: str, cents: int) -> None:
    price = priced(**changes)
    assert price.total_cents == cents
    assert price.lines[-1].name == name
    assert math.isclose(math.prod(line.factor for line in price.lines), cents)


def test_half_a_cent_goes_up() -> None:
    table = PriceTable.parse({**RAW, "base_cents": {"sell": 200.5, "buy": 100}})
    bare = {**LEAD, "quality": 0.0}
    assert quote(**bare, table=table).total_cents == 201  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"intent": "rent"},
        {"tier": "gold"},
        {"quality": math.nan},
        {"quality": -0.1},
        {"age_hours": -1.0},
        {"age_hours": math.inf},
        {"ask_price_cents": -1},
        {"max_buyers": 0},
    ],
)
def test_what_cannot_be_priced_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        priced(**changes)


def test_many_prices_take_arrays_and_single_values() -> None:
    many = quote_many(**{**LEAD, "quality": [0.1, 0.5, 0.9], "tier": ["basic", "pro", "basic"]})
    assert many.dtype.name == "int64"
    assert many.tolist() == [
        priced(quality=q, tier=t).total_cents
        for q, t in [(0.1, "basic"), (0.5, "pro"), (0.9, "basic")]
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("floor_cents",), 0),
        (("floor_cents",), 1_000),
        (("version",), ""),
        (("base_cents", "sell"), -5),
        (("value", "at"), [1, 0]),
        (("value", "at"), [1]),
        (("quality", "factor"), [1, 0]),
        (("exclusivity", "factor"), [-1]),
        (("exclusivity", "factor"), []),
        (("age",), {}),
        (("cap_cents",), "much"),
        (("floor_cents",), 2_000.9),
        (("floor_cents",), "2000"),
        (("base_cents", "sell"), float("nan")),
        (("base_cents", "sell"), "6000"),
        (("base_cents", "rent"), 1),
        (("value", "factor"), [1.0, 1.0, 1.0, 1.0, float("inf")]),
        (("exclusivity", "factor"), 1.0),
        (("extension", "colour"), 1),
        (("currency",), ""),
        (("currency",), "dollar"),
        (("colour",), 1),
    ],
)
def test_a_table_with_a_wrong_figure_is_refused(path: tuple[str, ...], value: object) -> None:
    raw = deepcopy(RAW)
    *above, last = path
    inner: dict[str, object] = raw  # type: ignore[assignment]
    for name in above:
        inner = inner[name]  # type: ignore[assignment]
    inner[last] = value
    with pytest.raises(InvalidInput, match=r"prices\.toml: ") as caught:
        PriceTable.parse(raw)
    assert path[0] in caught.value.detail
