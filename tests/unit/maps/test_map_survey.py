"""What a map of a market may and must show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.map_survey import WINDOW_DAYS, K, MarketMap, survey
from aiqleads.settings import Settings

THEMES = ("seller_density", "buyer_density", "ask_price", "demand", "sale_price")


def _names(seen: MarketMap) -> tuple[str, ...]:
    return tuple(layer.theme.name for layer in seen.layers)


def test_every_figure_covers_k_rows_and_every_row_is_counted(
    home: Settings, town: dict[str, Any]
) -> None:
    seen = survey(home, town["build"](home), town["AS_OF_US"])
    assert _names(seen) == THEMES
    counted = {"sellers": "Seller leads", "buyers": "Buyer leads", "sales": "Sales"}
    for group, column in counted.items():
        counts = [figures[column] for figures in seen.properties[group]]
        assert min(counts) >= K
        assert sum(counts) + seen.withheld[group] == {"sellers": 660, "buyers": 220}.get(group, 700)


def test_nothing_after_the_clock_and_nothing_too_old_is_counted(
    home: Settings, town: dict[str, Any]
) -> None:
    market = town["build"](home)
    late = survey(home, market, town["AS_OF_US"])
    assert "880" not in late.subtitle
    assert "660 seller leads, 220 buyer leads, 700 sales" in late.subtitle
    demand = next(layer for layer in late.layers if layer.theme.name == "demand")
    assert demand.values == pytest.approx(2.0)  # the third action arrived after the clock
    old = survey(home, market, town["AS_OF_US"] + (WINDOW_DAYS + 400) * US_PER_DAY)
    assert old.layers == ()


def test_densities_are_counts_over_the_zones_own_area(home: Settings, town: dict[str, Any]) -> None:
    seen = survey(home, town["build"](home), town["AS_OF_US"])
    layer = seen.layers[0]
    for zone, figures, value in zip(
        layer.zones, seen.properties["sellers"], layer.values, strict=True
    ):
        assert figures["Seller leads"] == len(zone.rows)
        assert value == pytest.approx(len(zone.rows) / zone.area_km2, abs=0.006)


def test_prices_are_the_medians_of_the_zones_rows(home: Settings, town: dict[str, Any]) -> None:
    seen = survey(home, town["build"](home), None)
    sales = pd.read_parquet(home.data / "core" / "town" / "sales.parquet")
    layer = seen.layers[-1]
    expected = [sales["price_cents"].iloc[zone.rows].median() / 100_000 for zone in layer.zones]
    assert layer.values == pytest.approx(np.array(expected), abs=0.051)
    assert "thousand USD" in layer.theme.unit


def test_a_market_without_dates_and_events_has_a_map(home: Settings, town: dict[str, Any]) -> None:
    seen = survey(home, town["build"](home, dated=False, events=False), None)
    assert _names(seen) == tuple(name for name in THEMES if name != "demand")
    assert "all dates" in seen.subtitle
    assert "no dates" in seen.notice
    assert seen.layers[-1].theme.unit.endswith("no sale dates known")


def test_the_notice_says_what_is_simulated_and_invented(
    home: Settings, town: dict[str, Any]
) -> None:
    notice = survey(home, town["build"](home), town["AS_OF_US"]).notice
    for word in ("simulated", "stand in for recorded sales", "contact", "time received", "Buyer"):
        assert word in notice


def test_classes_agree_with_the_legend(home: Settings, town: dict[str, Any]) -> None:
    for layer in survey(home, town["build"](home), town["AS_OF_US"]).layers:
        assert list(layer.breaks) == sorted(set(layer.breaks))
        assert len(layer.colours) == len(layer.steps) == len(layer.breaks) + 1
        assert len(set(layer.colours)) == len(layer.colours)
        bounds = [-np.inf, *layer.breaks, np.inf]
        for value, place in zip(layer.values, layer.classes, strict=True):
            assert bounds[place] <= value < bounds[place + 1]


def test_a_value_that_never_changes_has_one_class(home: Settings, town: dict[str, Any]) -> None:
    layers = survey(home, town["build"](home), town["AS_OF_US"]).layers
    demand = next(layer for layer in layers if layer.theme.name == "demand")
    assert demand.steps[0][1] == "2 to 2"
    assert len(demand.steps) == 1


def test_borders_are_the_regions_given_or_h3_cells(home: Settings, town: dict[str, Any]) -> None:
    cells = survey(home, town["build"](home), None).borders
    assert all(len(f["properties"]["Region"]) == 15 for f in cells)
    given = survey(home, town["build"](home, regions=True), None).borders
    assert [f["properties"]["Region"] for f in given] == ["43604"]


def test_a_regions_file_that_is_none_is_refused(home: Settings, town: dict[str, Any]) -> None:
    market = town["build"](home, regions=True)
    market.regions.path.write_text("[]")
    with pytest.raises(InvalidInput, match=r"regions.*geojson"):
        survey(home, market, None)


def test_a_market_that_was_not_ingested_is_not_ready(home: Settings, town: dict[str, Any]) -> None:
    market = town["build"](home)
    (home.data / "core" / "town" / "leads.parquet").unlink()
    with pytest.raises(NotReady, match="ingest_leads"):
        survey(home, market, None)


def test_the_table_has_a_row_for_each_layer(home: Settings, town: dict[str, Any]) -> None:
    table = survey(home, town["build"](home), town["AS_OF_US"]).table
    assert list(table.columns) == ["zones", "lowest", "median", "highest", "unit"]
    assert len(table) == len(THEMES)
