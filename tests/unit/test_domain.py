"""Tiers are configuration: read at import, and refused where they cannot be."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from aiqleads import domain
from aiqleads.domain import ENTITLEMENTS, TIERS, Tier, Tiers
from aiqleads.errors import InvalidInput

PATH = Path(domain.__file__).with_name("tiers.toml")


@pytest.fixture
def raw() -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(PATH.read_text(encoding="utf-8")))


def test_the_file_is_what_is_in_force(raw: dict[str, Any]) -> None:
    assert Tiers.parse(raw) == TIERS
    assert list(ENTITLEMENTS) == list(Tier)


@pytest.mark.parametrize(
    ("tier", "name", "value", "told"),
    [
        ("basic", "hold_minutes", 0, "hold_minutes"),
        ("basic", "bulk", 2.5, "bulk"),
        ("pro", "live_holds", True, "live_holds"),
        ("basic", "new_lead_delay_minutes", -1, "new_lead_delay_minutes"),
        ("enterprise", "price_factor", 0.0, "price_factor"),
        ("pro", "live_holds", 9, "bulk of pro is more than its live_holds"),
        ("basic", "seats", 6, "worse seats"),
        ("pro", "price_factor", 1.0, None),
        ("enterprise", "price_factor", 0.95, "worse price_factor"),
        ("pro", "new_lead_delay_minutes", 90, "worse new_lead_delay_minutes"),
        ("basic", "colour", 1, "colour"),
        ("basic", "price_factor", "1", "basic.price_factor"),
        ("basic", "price_factor", True, "basic.price_factor"),
    ],
)
def test_a_figure_that_cannot_be_is_named(
    raw: dict[str, Any], tier: str, name: str, value: Any, told: str | None
) -> None:
    raw[tier][name] = value
    if told is None:
        assert Tiers.parse(raw).entitlements[Tier.PRO].price_factor == 1.0
        return
    with pytest.raises(InvalidInput, match=told):
        Tiers.parse(raw)


@pytest.mark.parametrize("gone", ["basic", "version", "cool_down_minutes"])
def test_nothing_may_be_missing(raw: dict[str, Any], gone: str) -> None:
    del raw[gone]
    with pytest.raises(InvalidInput, match=gone):
        Tiers.parse(raw)


@pytest.mark.parametrize("value", [-5, 1.9, True, "30"])
def test_a_cool_down_is_no_time_travel(raw: dict[str, Any], value: Any) -> None:
    with pytest.raises(InvalidInput, match="cool_down"):
        Tiers.parse({**raw, "cool_down_minutes": value})


@pytest.mark.parametrize("key", ["colour", "platinum"])
def test_a_key_that_nobody_reads_is_refused(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput, match=f"tiers.toml: {key}"):
        Tiers.parse({**raw, key: raw["pro"]})
