"""What an agent pays for a lead: seven factors out of `prices.toml`, each explained.

    price = base(intent) x value(ask) x quality x age x demand x exclusivity x tier

in cents, rounded half up, then held between a floor and a cap. The steps are plain
additions and multiplications, so a price is the same for one lead as in an array of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiqleads.domain import ENTITLEMENTS, Intent
from aiqleads.errors import InvalidInput
from aiqleads.shop_files import Table, read

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PriceLine:
    """One step of a price: `factor` multiplies what the lines above it made.

    The first line, `base`, carries cents; all others are plain numbers.
    """

    name: str
    factor: float
    about: str


@dataclass(frozen=True)
class Quote:
    """A price for one agent and one lead, with the lines that explain it.

    total_cents: integer minor units of `currency`. version: of the table it was made with.
    """

    total_cents: int
    currency: str
    lines: tuple[PriceLine, ...]
    version: str = ""


@dataclass(frozen=True)
class Curve:
    """A piecewise linear factor: `factor[i]` at `at[i]`, flat outside the knots."""

    at: FloatArray
    factor: FloatArray
    slope: FloatArray

    @classmethod
    def of(cls, at: Sequence[float], factor: Sequence[float]) -> Curve:
        """Checks the knots: rising positions, positive factors, as many of one as of the other."""
        x, y = np.asarray(at, dtype=np.float64), np.asarray(factor, dtype=np.float64)
        if len(x) != len(y) or len(x) < 2 or (np.diff(x) <= 0).any() or (y <= 0).any():
            raise InvalidInput(f"not a price curve: at={list(at)}, factor={list(factor)}")
        return cls(x, y, np.diff(y) / np.diff(x))

    def __call__(self, values: FloatArray) -> FloatArray:
        """Factors at `values`, same shape."""
        x = np.clip(values, self.at[0], self.at[-1])
        i = np.clip(np.searchsorted(self.at, x, side="right") - 1, 0, len(self.slope) - 1)
        return np.asarray(self.factor[i] + self.slope[i] * (x - self.at[i]), dtype=np.float64)


@dataclass(frozen=True)
class PriceTable:
    """The figures of one version of `prices.toml`, checked."""

    version: str
    currency: str
    floor_cents: int
    cap_cents: int
    base_cents: dict[str, float]
    value: Curve
    quality: Curve
    age: Curve
    demand: Curve
    exclusivity: FloatArray
    extension_share_per_day: float
    extension_least_cents: int

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> PriceTable:
        """Builds the table from TOML; InvalidInput says which figure cannot be."""
        curves = ("value", "quality", "age", "demand")
        figures = ("version", "currency", "floor_cents", "cap_cents")
        parts = ("base_cents", "exclusivity", "extension")
        top = Table("prices.toml", raw, [*figures, *parts, *curves])
        base = top.table("base_cents", Intent)
        extension = top.table("extension", ["share_per_day", "least_cents"])
        table = cls(
            version=top.text("version"),
            currency=top.text("currency"),
            floor_cents=top.whole("floor_cents", 1),
            cap_cents=top.whole("cap_cents", 1),
            base_cents={intent: base.number(intent) for intent in Intent},
            **{name: _curve(top.table(name, ["at", "factor"])) for name in curves},
            exclusivity=np.array(top.table("exclusivity", ["factor"]).numbers("factor")),
            extension_share_per_day=extension.number("share_per_day", 0.0, 1.0),
            extension_least_cents=extension.whole("least_cents", 1),
        )
        if not re.fullmatch("[A-Z]{3}", table.currency):
            raise top.wrong("currency", f"is {table.currency!r}, must be an ISO 4217 code")
        if not 0 < table.floor_cents <= table.cap_cents:
            raise InvalidInput("prices.toml: floor_cents must be positive and <= cap_cents")
        if min(table.base_cents.values()) <= 0 or not (table.exclusivity > 0).all():
            raise InvalidInput("prices.toml: base_cents and exclusivity must be positive")
        return table


def _curve(table: Table) -> Curve:
    try:
        return Curve.of(table.numbers("at"), table.numbers("factor"))
    except InvalidInput as problem:
        if problem.detail.startswith(table.file):
            raise
        raise table.wrong("at", problem.detail) from problem


PRICES = PriceTable.parse(read(Path(__file__).with_name("prices.toml")))
_TIER_FACTOR = {str(tier): rights.price_factor for tier, rights in ENTITLEMENTS.items()}


def extension_cents(held_cents: int, hours: int, table: PriceTable = PRICES) -> int:
    """What it costs to hold leads of `held_cents` in all for `hours` longer, rounded half up."""
    share = held_cents * table.extension_share_per_day * hours / 24.0
    return max(table.extension_least_cents, int(np.floor(share + 0.5)))


def _lookup(table: dict[str, float], keys: NDArray[Any], what: str) -> FloatArray:
    found = np.full(keys.shape, np.nan)
    for key, value in table.items():
        found[keys == key] = value
    if np.isnan(found).any():
        raise InvalidInput(f"unknown {what}: {keys[np.isnan(found)][0]!r}")
    return found


def _checked(values: ArrayLike, what: str, least: float) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if not (np.isfinite(array) & (array >= least)).all():
        raise InvalidInput(f"{what} must be a number >= {least:g}")
    return array


def _factors(
    table: PriceTable,
    intent: Sequence[str] | NDArray[Any] | str,
    ask_price_cents: ArrayLike,
    quality: ArrayLike,
    age_hours: ArrayLike,
    max_buyers: ArrayLike,
    tier: Sequence[str] | NDArray[Any] | str,
    demand: ArrayLike,
) -> dict[str, FloatArray]:
    buyers = _checked(max_buyers, "max_buyers", 1).astype(np.int64)
    return {
        "base": _lookup(table.base_cents, np.atleast_1d(np.asarray(intent)), "intent"),
        "value": table.value(_checked(ask_price_cents, "ask_price_cents", 0) / 100.0),
        "quality": table.quality(_checked(quality, "quality", 0)),
        "age": table.age(_checked(age_hours, "age_hours", 0)),
        "demand": table.demand(np.atleast_1d(_checked(demand, "demand", 0))),
        "exclusivity": table.exclusivity[np.minimum(buyers, len(table.exclusivity)) - 1],
        "tier": _lookup(_TIER_FACTOR, np.atleast_1d(np.asarray(tier)), "tier"),
    }


def _product(factors: dict[str, FloatArray]) -> FloatArray:
    product = factors["base"]
    for name in ("value", "quality", "age", "demand", "exclusivity", "tier"):
        product = product * factors[name]
    return product


def _total(table: PriceTable, product: FloatArray) -> NDArray[np.int64]:
    rounded = np.floor(product + 0.5)
    return np.clip(rounded, table.floor_cents, table.cap_cents).astype(np.int64)


def quote_many(
    *,
    intent: Sequence[str] | NDArray[Any] | str,
    ask_price_cents: ArrayLike,
    quality: ArrayLike,
    age_hours: ArrayLike,
    max_buyers: ArrayLike,
    tier: Sequence[str] | NDArray[Any] | str,
    demand: ArrayLike = 1.0,
    table: PriceTable = PRICES,
) -> NDArray[np.int64]:
    """Prices of n leads in cents, shape (n,); each argument has shape (n,) or is one value.

    Element for element what `quote` says. InvalidInput on an unknown intent or tier, or on
    a figure that is negative or not finite.
    """
    factors = _factors(table, intent, ask_price_cents, quality, age_hours, max_buyers, tier, demand)
    return _total(table, _product(factors))


def quote(
    *,
    intent: str,
    ask_price_cents: int,
    quality: float,
    age_hours: float,
    max_buyers: int,
    tier: str,
    demand: float = 1.0,
    table: PriceTable = PRICES,
) -> Quote:
    """The price of one lead for an agent of `tier`, line by line.

    ask_price_cents: what the seller asks, or the top of the buyer's budget. quality: 0 to 1.
    age_hours: since the lead came in, market clock. max_buyers: agents it may be sold to.
    demand: openings of leads in the area against the market's middle, of all agents together.
    The product of the lines, rounded half up, is the total (with a last line where the
    floor or the cap decided). InvalidInput as in `quote_many`.
    """
    arrays = _factors(table, intent, ask_price_cents, quality, age_hours, max_buyers, tier, demand)
    product = _product(arrays)
    total = int(_total(table, product)[0])
    one = {name: float(np.atleast_1d(values)[0]) for name, values in arrays.items()}
    person = "home seller" if intent == Intent.SELL else "home buyer"
    money = "asks" if intent == Intent.SELL else "has up to"
    about = {
        "base": f"a {person}",
        "value": f"{money} ${ask_price_cents / 100:,.0f}",
        "quality": f"quality {quality:.2f} of 1",
        "age": f"{age_hours:.0f} hours old",
        "demand": f"demand in the area {demand:.1f} times the usual",
        "exclusivity": "yours alone" if max_buyers == 1 else f"shared by up to {max_buyers} agents",
        "tier": f"{tier} subscription",
    }
    lines = [PriceLine(name, one[name], about[name]) for name in one]
    unbounded = float(product[0])
    if total == table.floor_cents and unbounded < total - 0.5:
        lines.append(PriceLine("floor", total / unbounded, "the least a lead costs"))
    if total == table.cap_cents and unbounded >= total + 0.5:
        lines.append(PriceLine("cap", total / unbounded, "the most a lead costs"))
    return Quote(total, table.currency, tuple(lines), table.version)
