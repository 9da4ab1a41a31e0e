from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.market_sim import presets, relevance
from aiqleads.market_sim.marginals import RATES
from aiqleads.market_sim.presets import Preset, committed_digests, load_preset, preset_names


def test_every_preset_that_ships_is_the_one_that_was_frozen() -> None:
    # A preset that changed on purpose needs a new digest here and a line in the CHANGELOG:
    # figures measured on the old one no longer hold.
    assert {name: load_preset(name).digest for name in preset_names()} == committed_digests()


SIX = ("adversarial", "calm", "cold_start", "exhausted_supply", "price_shock",
       "strong_position_bias")  # fmt: skip


def test_six_presets_ship_under_their_own_names() -> None:
    assert preset_names() == SIX
    for name in SIX:
        preset = load_preset(name)
        assert preset.name == name
        assert set(preset.plausible) == set(RATES)


def test_half_of_the_presets_break_the_position_based_model() -> None:
    def breaks(preset: Preset) -> bool:
        rule = preset.examination
        return rule.kind != "position" or rule.trust > 0 or preset.requests.map_share > 0

    broken = [name for name in SIX if breaks(load_preset(name))]
    assert broken == ["adversarial", "cold_start", "strong_position_bias"]


def test_a_file_may_be_like_a_preset_that_ships(tmp_path: Path) -> None:
    path = tmp_path / "storm.toml"
    path.write_text(
        'name = "storm"\nlike = "adversarial"\nabout = "worse"\n[bots]\nshare = 0.5\n'
        "[returns.reasons]\nno_reason = 0.1\n"
    )
    mine, shipped = load_preset(path), load_preset("adversarial")
    assert mine.bots.share == 0.5
    assert mine.bots.opens == shipped.bots.opens
    assert mine.taste == load_preset("calm").taste
    assert set(mine.returns.reasons) == {*shipped.returns.reasons, "no_reason"}
    path.write_text('name = "storm"\nlike = "stormy"\nabout = "?"\n')
    with pytest.raises(InvalidInput, match=r"like: 'stormy' does not ship: name one of"):
        load_preset(path)


def test_mechanisms_that_are_not_named_are_without_effect(
    write_preset: Callable[..., Path],
) -> None:
    mine = load_preset(write_preset("mine"))
    assert mine.rivals.count == mine.bots.share == mine.drift.share == mine.season.amplitude == 0
    assert (mine.shock.price_shift, mine.shock.fee_factor, mine.shock.budget_factor) == (0, 1, 1)


def test_a_comment_leaves_the_digest_alone_and_a_figure_does_not(tmp_path: Path) -> None:
    shipped = Path(presets.__file__).parent / "presets" / "calm.toml"
    commented, changed = tmp_path / "a.toml", tmp_path / "b.toml"
    commented.write_text("# another word\n" + shipped.read_text())
    changed.write_text(shipped.read_text().replace("pair_sd = 0.55", "pair_sd = 0.56"))
    assert load_preset(commented).digest == load_preset("calm").digest
    assert load_preset(changed).digest != load_preset("calm").digest


def test_the_behaviours_version_is_part_of_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_preset("calm").digest
    monkeypatch.setattr(presets, "BEHAVIOUR_VERSION", presets.BEHAVIOUR_VERSION + 1)
    assert load_preset("calm").digest != before


def test_the_definition_of_relevance_is_part_of_the_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = load_preset("calm").digest
    true = relevance.expected_gain
    monkeypatch.setattr(relevance, "expected_gain", lambda *given: 1.001 * true(*given))
    assert load_preset("calm").digest != before


@pytest.mark.parametrize("name", ["stormy", "no/such/file.toml", "calm.json"])
def test_an_unknown_preset_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(UnknownName, match="calm"):
        load_preset(name)


def test_a_file_is_read_by_its_path(write_preset: Callable[..., Path]) -> None:
    path = write_preset("mine", policy={"shown": 7})
    assert load_preset(path).policy.shown == 7
    assert load_preset(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("section", "figures", "where"),
    [
        ("policy", {"temperature": 0.0}, "policy.temperature"),
        ("agents", {"joins_late_share": 1.5}, "agents.joins_late_share"),
        ("requests", {"weekdays": [1.0]}, "requests.weekdays"),
        ("requests", {"hours": [0.0] * 24}, "requests.hours.*at least one must be above 0"),
        ("requests", {"map_share": -0.1}, "requests.map_share"),
        ("taste", {"home_strength": [1.0, 0.5]}, "taste.home_strength.*must not lie above"),
        ("examination", {"kind": "random"}, "examination.kind"),
        ("examination", {"trust": 1.2}, "examination.trust"),
        ("rivals", {"count": -1}, "rivals.count"),
        ("bots", {"requests_per_day": 99.0}, "bots.requests_per_day"),
        ("shock", {"budget_factor": -1.0}, "shock.budget_factor"),
        ("drift", {"over_days": -3}, "drift.over_days"),
        ("season", {"peak_day": 0}, "season.peak_day"),
        ("arrival", {"duplicate_share": 2.0}, "arrival.duplicate_share"),
        ("plausible", {"luck": [0.0, 1.0]}, "plausible.*no such rate"),
        ("plausible", {"late_share": [1.0, 0.0]}, "plausible.late_share"),
        ("hidden", {"magic": 1.0}, "hidden.magic"),
    ],
)
def test_a_wrong_figure_is_named(
    write_preset: Callable[..., Path], section: str, figures: dict[str, object], where: str
) -> None:
    with pytest.raises(InvalidInput, match=where):
        load_preset(write_preset(**{section: figures}))


def test_what_is_not_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("name = = 3")
    with pytest.raises(InvalidInput, match="not TOML"):
        load_preset(path)
