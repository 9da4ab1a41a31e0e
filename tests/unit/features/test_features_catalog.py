"""What the catalogue promises: names, order, words, lightness, and its written copy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from ibis.common.exceptions import IbisTypeError

from aiqleads.errors import ContractBroken
from aiqleads.features import agent, behavior, lead, location, market, tables
from aiqleads.features.catalog import (
    AGENT_FEATURES,
    AGENT_INGREDIENTS,
    CROSS_FEATURES,
    FAMILIES,
    FEATURE_NAMES,
    FEATURES,
    LEAD_FEATURES,
    LEAD_INGREDIENTS,
    PAIR_INGREDIENTS,
    check,
    data_dictionary,
)
from aiqleads.features.crosses import CROSSES
from aiqleads.settings import Settings

REPO = Path(__file__).resolve().parents[3]
LAKE = (
    *lead.DERIVED,
    *behavior.SHOWN_COUNTED,
    *behavior.COUNTED,
    *behavior.DERIVED,
    *location.COUNTED,
    *location.DERIVED,
    *market.SALE_COUNTED,
    *market.AREA_COUNTED,
    *market.DERIVED,
    *agent.COUNTED,
    *agent.MONTH_COUNTED,
    *agent.DERIVED,
)


def test_the_order_is_leads_then_agent_then_crosses() -> None:
    assert (*LEAD_FEATURES, *AGENT_FEATURES, *CROSS_FEATURES) == FEATURE_NAMES
    assert tuple(feature.name for feature in FEATURES) == FEATURE_NAMES
    assert tuple(cross.__name__ for cross in CROSSES) == CROSS_FEATURES


def test_every_lake_feature_is_a_documented_function_of_its_name() -> None:
    made = {function.__name__: function for function in LAKE}
    for name in (*LEAD_FEATURES, *AGENT_FEATURES):
        assert made[name].__doc__, name
    for cross in CROSSES:
        assert cross.__doc__


def test_no_ingredient_is_called_like_a_feature() -> None:
    ingredients = (*LEAD_INGREDIENTS, *AGENT_INGREDIENTS, *PAIR_INGREDIENTS)
    assert len(set(ingredients)) == len(ingredients)
    assert not set(ingredients) & set(FEATURE_NAMES)
    assert tuple(function.__name__ for function in agent.INGREDIENTS) == AGENT_INGREDIENTS
    assert tuple(behavior.PAIR_COUNTED) == PAIR_INGREDIENTS


def test_what_differs_between_leads_has_a_reason_to_show() -> None:
    for feature in FEATURES:
        assert bool(feature.reason) == (feature.group != "agent"), feature.name
        assert not feature.reason.endswith(".")
        assert len(feature.reason) <= 70


def test_no_feature_is_forbidden() -> None:
    check(FEATURES)


@pytest.mark.parametrize(
    ("planted", "about"),
    [
        ("household_income", "Income of the neighbourhood."),
        ("lead_id", "The lead itself."),
        ("sold_for", "What the home will bring."),
        ("hours_to_end", "Hours until the lead expires."),
        ("share_spanish", "Share of people who speak it."),
        ("owner_surname", "Code of a person's surname."),
        ("median_age", "Median age of the block's people."),
        ("score", "The oracle's own score."),
    ],
)
def test_a_planted_forbidden_feature_is_caught(planted: str, about: str) -> None:
    with pytest.raises(ContractBroken, match=planted):
        check((*FEATURES, replace(FEATURES[0], name=planted, about=about)))


def test_two_features_of_one_name_are_caught() -> None:
    with pytest.raises(ContractBroken, match="two features"):
        check((*FEATURES, FEATURES[0]))


def test_expressions_cannot_reach_a_sale_an_expiry_or_a_contact() -> None:
    opened = set(tables.LEAD_COLUMNS) | set(tables.AGENT_COLUMNS)
    for column in ("expires_market_us", "source_key", "region", "name", "invented", "lon", "lat"):
        assert column not in opened
    assert "sale_id" not in tables.SALE_COLUMNS
    assert "reason" not in tables.INTERACTION_COLUMNS
    assert "propensity" not in tables.IMPRESSION_COLUMNS


def test_no_table_holds_a_column_that_is_not_listed(
    frames: dict[str, pd.DataFrame], tmp_path: Path, put: Callable[..., Settings]
) -> None:
    """Other columns of the files are not merely unused: an expression cannot name them."""
    spoiled = {
        name: frame.assign(surname="Doe", median_income=1.0) for name, frame in frames.items()
    }
    extra = {"leads": {"area", "near"}, "sales": {"area", "near"}}
    listed = {
        "leads": tables.LEAD_COLUMNS,
        "sales": tables.SALE_COLUMNS,
        "agents": tables.AGENT_COLUMNS,
        "rankings": tables.RANKING_COLUMNS,
        "impressions": tables.IMPRESSION_COLUMNS,
        "interactions": tables.INTERACTION_COLUMNS,
        "submissions": tables.SUBMISSION_COLUMNS,
    }
    with tables.open_tables(put(tmp_path, spoiled), "made") as opened:
        for name, columns in listed.items():
            table = getattr(opened, name)
            assert set(table.columns) == set(columns) | extra.get(name, set()), name
            for column in ("surname", "median_income", "lon"):
                with pytest.raises((AttributeError, IbisTypeError)):
                    table[column]
                with pytest.raises(AttributeError):
                    getattr(table, column)
        held = {
            c for name in opened.engine.list_tables() for c in opened.engine.table(name).columns
        }
    assert not held & {"surname", "median_income", "lon", "expires_market_us", "reason"}
    assert "touched" in held


def test_families_name_features_once() -> None:
    named = [name for names in FAMILIES.values() for name in names]
    assert len(set(named)) == len(named)
    assert set(named) < set(FEATURE_NAMES)


def test_the_data_dictionary_is_not_stale() -> None:
    written = REPO / "docs" / "data-dictionary.md"
    assert written.read_text(encoding="utf-8") == data_dictionary(), (
        "write it anew: python -m aiqleads.features.catalog > docs/data-dictionary.md"
    )


def test_the_data_dictionary_names_every_feature_once() -> None:
    lines = data_dictionary().splitlines()
    for name in FEATURE_NAMES:
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1


def test_serving_gets_the_crosses_without_an_engine() -> None:
    heavy = ("ibis", "duckdb", "pandas", "pyarrow", "sklearn", "mlflow")
    code = (
        "import sys, aiqleads.features.crosses, aiqleads.features.catalog\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
