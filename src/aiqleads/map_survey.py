"""What a map of a market shows: leads, demand and prices by zone, in words and figures."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY, US_PER_SECOND, Intent
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.geo.grid import REGION_RESOLUTION, parent
from aiqleads.geo.zones import Zone, outline, zones
from aiqleads.ingest.market import Market
from aiqleads.settings import Settings

#: no figure covers fewer leads or sales than this
K = 5
#: leads received and homes sold in so many days before the market's clock are shown
WINDOW_DAYS = 365
BACKGROUND = "#eceff0"

_GREENS = ("#edf8e9", "#c7e9c0", "#a1d99b", "#74c476", "#31a354", "#006d2c")
_BLUES = ("#eff3ff", "#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c")
_PURPLES = ("#f2f0f7", "#dadaeb", "#bcbddc", "#9e9ac8", "#756bb1", "#54278f")
_REDS = ("#feedde", "#fdd0a2", "#fdae6b", "#fd8d3c", "#e6550d", "#a63603")


@dataclass(frozen=True)
class Theme:
    """What one layer of a map tells.

    group: whose zones it colours (sellers, buyers, sales). column: the property of a zone,
    as tooltips name it. unit: what the legend says of it. Words in braces are the market's.
    """

    name: str
    group: str
    column: str
    title: str
    unit: str
    about: str
    colours: tuple[str, ...]


THEMES = (
    Theme(
        "seller_density",
        "sellers",
        "Seller leads per km²",
        "Seller leads",
        "leads per km², {window}",
        "Where owners asked to sell. A lead stands in for a recorded sale.",
        _GREENS,
    ),
    Theme(
        "buyer_density",
        "buyers",
        "Buyer leads per km²",
        "Buyer leads",
        "leads per km², {window}",
        "Where simulated buyers look for a home.",
        _BLUES,
    ),
    Theme(
        "ask_price",
        "sellers",
        "Median asking price, thousand {currency}",
        "Asking price",
        "median, thousand {currency}, {window}",
        "Of seller leads. The asking price is the recorded price with noise.",
        _PURPLES,
    ),
    Theme(
        "demand",
        "sellers",
        "Agent actions per lead",
        "Demand",
        "agents' actions per seller lead, {window}",
        "Views, holds, releases, purchases and returns. Simulated.",
        _REDS,
    ),
    Theme(
        "sale_price",
        "sales",
        "Median sale price, thousand {currency}",
        "Past sale price",
        "median, thousand {currency}, {sales_window}",
        "Recorded sales before the data date, not adjusted for inflation.",
        _PURPLES,
    ),
)


@dataclass(frozen=True)
class Layer:
    """A theme with the market's figures.

    zones and values: one value per zone, in the unit of the theme. breaks: rising bounds
    between classes, one fewer than colours.
    """

    theme: Theme
    zones: tuple[Zone, ...]
    values: NDArray[np.float64]
    breaks: tuple[float, ...]

    @property
    def colours(self) -> tuple[str, ...]:
        """One colour per class, from few to many."""
        picked = np.linspace(0, len(self.theme.colours) - 1, len(self.breaks) + 1).round()
        return tuple(self.theme.colours[int(i)] for i in picked)

    @property
    def classes(self) -> NDArray[np.intp]:
        """The class of each zone, 0-based; a value on a bound is in the upper class."""
        return np.searchsorted(self.breaks, self.values, side="right")

    @property
    def steps(self) -> list[tuple[str, str]]:
        """(colour, text) of each class, for the legend."""
        low, high = float(self.values.min()), float(self.values.max())
        bounds = [_plain(b) for b in (low, *self.breaks, high)]
        return [
            (colour, f"{bounds[i]} to {bounds[i + 1]}") for i, colour in enumerate(self.colours)
        ]


@dataclass(frozen=True)
class MarketMap:
    """All that a map of a market shows.

    layers: only those that the market has figures for. properties: per group one mapping
    of tooltip names per zone. withheld: rows per group in no zone, since fewer than K of
    them share even the coarsest cell. borders: GeoJSON features with a property `Region`.
    """

    market: Market
    subtitle: str
    notice: str
    layers: tuple[Layer, ...]
    zones: dict[str, list[Zone]]
    properties: dict[str, list[dict[str, Any]]]
    withheld: dict[str, int]
    borders: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """What the map is of."""
        wanted = any(layer.theme.name == "demand" for layer in self.layers)
        return f"{self.market.title}: leads{', demand' if wanted else ''} and prices"

    @property
    def table(self) -> pd.DataFrame:
        """One row per layer: zones, lowest, median and highest value, unit."""
        return pd.DataFrame(
            {
                "zones": len(layer.zones),
                "lowest": layer.values.min(),
                "median": float(np.median(layer.values)),
                "highest": layer.values.max(),
                "unit": layer.theme.unit,
            }
            for layer in self.layers
        ).set_axis([layer.theme.title for layer in self.layers], axis="index")


def survey(settings: Settings, market: Market, as_of_us: int | None) -> MarketMap:
    """Counts a market's leads, sales and demand by zone; see `lead_map_page`."""
    leads = _before(_frame(settings, market, "leads"), "received_market_us", as_of_us)
    sales = _before(_frame(settings, market, "sales"), "sold_market_us", as_of_us)
    leads = leads.assign(actions=_actions(settings, market, as_of_us, leads["lead_id"]))
    groups = {
        "sellers": leads[leads["intent"] == Intent.SELL].reset_index(drop=True),
        "buyers": leads[leads["intent"] == Intent.BUY].reset_index(drop=True),
        "sales": sales.reset_index(drop=True),
    }
    areas, withheld = {}, {}
    for name, frame in groups.items():
        areas[name], withheld[name] = zones(frame["cell"].to_numpy(np.int64), K)
    words = _words(market, as_of_us, dated=bool(sales["sold_market_us"].notna().any()))
    properties = {
        name: [_properties(name, frame.iloc[zone.rows], zone, words) for zone in areas[name]]
        for name, frame in groups.items()
    }
    return MarketMap(
        market,
        _subtitle(market, as_of_us, groups, withheld),
        _notice(leads, sales),
        tuple(_layers(areas, properties, words)),
        areas,
        properties,
        withheld,
        _borders(market, np.concatenate([f["cell"].to_numpy(np.int64) for f in groups.values()])),
    )


# --- figures by zone -----------------------------------------------------------------


def _frame(settings: Settings, market: Market, name: str) -> pd.DataFrame:
    path = settings.data / "core" / market.name / f"{name}.parquet"
    if not path.is_file():
        raise NotReady(f"{market.name} has no {name} yet: run the ingest_leads stage")
    return pd.read_parquet(path)


def _before(frame: pd.DataFrame, column: str, as_of_us: int | None) -> pd.DataFrame:
    """Rows of the window that ends at the clock; rows without a date are all kept."""
    if as_of_us is None:
        return frame
    at = frame[column]
    return frame[at.isna() | ((at < as_of_us) & (at >= as_of_us - WINDOW_DAYS * US_PER_DAY))]


def _actions(
    settings: Settings, market: Market, as_of_us: int | None, lead_ids: pd.Series[Any]
) -> pd.Series[Any]:
    """How many actions of agents each lead had before the clock; NaN where none were kept."""
    path = settings.data / "core" / market.name / "events" / "interactions.parquet"
    if not path.is_file():
        return pd.Series(np.nan, index=lead_ids.index)
    events = pd.read_parquet(path, columns=["lead_id", "arrived_market_us"])
    if as_of_us is not None:
        events = events[events["arrived_market_us"] < as_of_us]
    return lead_ids.map(events["lead_id"].value_counts()).fillna(0.0)


def _properties(
    group: str, rows: pd.DataFrame, zone: Zone, words: Mapping[str, str]
) -> dict[str, Any]:
    """The figures of a zone under the names that tooltips show; prices in thousands."""
    area = zone.area_km2
    money = f", thousand {words['currency']}"
    common = {"Area, km²": round(area, 2), "H3 cell": f"{zone.cell:x}"}
    if group == "sales":
        middle = round(float(rows["price_cents"].median()) / 100_000, 1)
        return {"Sales": len(rows), "Median sale price" + money: middle, **common}
    who = "Seller" if group == "sellers" else "Buyer"
    figures: dict[str, Any] = {
        f"{who} leads": len(rows),
        f"{who} leads per km²": round(len(rows) / area, 2),
    }
    price = "Median asking price" if group == "sellers" else "Median top of budget"
    figures[price + money] = round(float(rows["ask_price_cents"].median()) / 100_000, 1)
    if rows["actions"].notna().all():
        figures["Agent actions per lead"] = round(float(rows["actions"].mean()), 2)
    return {**figures, **common}


def _layers(
    areas: Mapping[str, list[Zone]],
    properties: Mapping[str, list[dict[str, Any]]],
    words: Mapping[str, str],
) -> list[Layer]:
    layers = []
    for template in THEMES:
        unit, column = template.unit.format(**words), template.column.format(**words)
        theme = replace(template, unit=unit, column=column)
        held = properties[theme.group]
        if held and column in held[0]:
            values = np.asarray([figures[column] for figures in held], dtype=np.float64)
            breaks = _breaks(values, len(theme.colours))
            layers.append(Layer(theme, tuple(areas[theme.group]), values, breaks))
    return layers


def _breaks(values: NDArray[np.float64], classes: int) -> tuple[float, ...]:
    """Quantiles to two digits: at most `classes` - 1 rising bounds inside the values."""
    raw = np.quantile(values, np.arange(1, classes) / classes)
    rounded = {float(f"{bound:.2g}") for bound in raw}
    return tuple(sorted(b for b in rounded if values.min() < b < values.max()))


def _borders(market: Market, cells: NDArray[np.int64]) -> list[dict[str, Any]]:
    if market.regions is not None:
        return _region_features(market.regions.path, market.regions.id)
    regions, counts = np.unique(parent(cells, REGION_RESOLUTION), return_counts=True)
    return [
        feature(outline((region,)), {"Region": format(region, "x")})
        for region in regions[counts >= K].tolist()
    ]


def _region_features(path: Path, name: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [
            feature(f["geometry"], {"Region": str(f["properties"][name])})
            for f in content["features"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"regions {path} cannot be read: {error!r}") from error


# --- words ---------------------------------------------------------------------------


def _words(market: Market, as_of_us: int | None, dated: bool) -> dict[str, str]:
    window = "all dates" if as_of_us is None else f"last {WINDOW_DAYS} days"
    return {
        "currency": market.currency,
        "window": window,
        "sales_window": window if dated else "no sale dates known",
    }


def _subtitle(
    market: Market,
    as_of_us: int | None,
    groups: Mapping[str, pd.DataFrame],
    withheld: Mapping[str, int],
) -> str:
    counts = ", ".join(
        f"{len(frame):,} {'sales' if name == 'sales' else name[:-1] + ' leads'}"
        for name, frame in groups.items()
    )
    clock = "all dates"
    if as_of_us is not None:
        when = dt.datetime.fromtimestamp(as_of_us / US_PER_SECOND, ZoneInfo(market.timezone))
        clock = f"data up to {when:%Y-%m-%d %H:%M} {market.timezone}"
    hidden = sum(withheld.values())
    return (
        f"{counts}; {clock}. Each area holds {K} or more; {hidden} in thinner places are left out."
    )


def _notice(leads: pd.DataFrame, sales: pd.DataFrame) -> str:
    invented = sorted({field for text in leads["invented"].unique() for field in _fields(text)})
    parts = ["Agents and their actions are simulated."]
    if invented:
        parts.append(f"Seller leads stand in for recorded sales; invented: {', '.join(invented)}.")
    if (leads["invented"] == "all").any():
        parts.append("Buyer leads are simulated.")
    if sales["sold_market_us"].isna().all():
        parts.append("The sales carry no dates.")
    return " ".join(parts)


def _fields(text: str) -> list[str]:
    names = {
        "received_market_us": "time received",
        "ask_price_cents": "asking price",
        "max_buyers": "number of buyers",
        "expires_market_us": "expiry",
    }
    words = [word.strip() for word in re.split(r"[,;]", text) if word.strip() not in ("", "all")]
    return [names.get(word, word.replace("_", " ")) for word in words]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- shapes -------------------------------------------------------------------------


def feature(geometry: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """A GeoJSON feature, its coordinates rounded to about a metre."""
    coordinates = _rounded(geometry["coordinates"])
    return {
        "type": "Feature",
        "geometry": {"type": geometry["type"], "coordinates": coordinates},
        "properties": dict(properties),
    }


def _rounded(part: Any) -> Any:
    """Coordinates to five decimals of a degree, about a metre."""
    return round(part, 5) if isinstance(part, float) else [_rounded(p) for p in part]


def bounds(features: list[dict[str, Any]]) -> list[float]:
    """West, south, east, north of the features; the whole world when there are none."""
    points = np.vstack([_corners(f["geometry"]) for f in features]) if features else _WORLD
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


_WORLD = np.array([[-180.0, -80.0], [180.0, 80.0]])


def rings(geometry: Mapping[str, Any]) -> list[list[list[float]]]:
    """The rings of a Polygon or MultiPolygon, holes included."""
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    return [ring for polygon in polygons for ring in polygon]


def _corners(geometry: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.vstack([np.asarray(ring)[:, :2] for ring in rings(geometry)])
