from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.market_sim import presets
from aiqleads.market_sim.presets import committed_digests, load_preset, preset_names


def test_every_preset_that_ships_is_the_one_that_was_frozen() -> None:
    # A preset that changed on purpose needs a new digest here and a line in the CHANGELOG:
    # figures measured on the old one no longer hold.
    assert {name: load_preset(name).digest for name in preset_names()} == committed_digests()


def test_calm_ships() -> None:
    assert "calm" in preset_names()
    assert load_preset("calm").name == "calm"


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
