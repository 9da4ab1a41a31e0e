"""The files of a map: a page that holds its own data, its bundle, and a picture."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from aiqleads import maps
from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.map_picture import static_map_png
from aiqleads.map_survey import survey
from aiqleads.settings import Settings


def _data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_a_page_is_small_and_its_bundle_is_written_once(
    home: Settings, town: dict[str, Any]
) -> None:
    market = town["build"](home)
    page = maps.lead_map_page(home, market, town["AS_OF_US"])
    assert page.path == home.reports / "maps" / "town.html"
    assert page.path.stat().st_size < 1_000_000
    bundle = page.path.parent / maps.BUNDLE
    written = bundle.stat().st_mtime_ns
    again = maps.lead_map_page(home, market, None, page.path.parent / "all.html")
    assert again.path.name == "all.html"
    assert bundle.stat().st_mtime_ns == written
    assert not list(page.path.parent.glob("*.part"))


def test_a_bundle_of_another_release_is_replaced(home: Settings, town: dict[str, Any]) -> None:
    market = town["build"](home)
    bundle = home.reports / "maps" / maps.BUNDLE
    bundle.parent.mkdir(parents=True)
    bundle.write_text("/* keplergl 0.1 */\n")
    maps.lead_map_page(home, market, None)
    text = bundle.read_text()
    assert text.startswith("/* keplergl 0.4")
    assert "globalThis.keplerWidget=" in text
    assert "import.meta" not in text


def test_a_bundle_of_another_shape_is_refused(
    home: Settings, town: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "_static", lambda name: "export {a, b};")
    with pytest.raises(ContractBroken, match="default exports"):
        maps.lead_map_page(home, town["build"](home), None)


def test_the_data_cannot_leave_its_script_element(home: Settings, town: dict[str, Any]) -> None:
    page = maps.lead_map_page(home, town["build"](home), town["AS_OF_US"])
    text = page.path.read_text()
    assert town["TITLE"] not in text
    assert text.count("</script>") == 3
    assert _data(text)["title"].startswith(town["TITLE"])


def test_a_page_holds_zones_and_no_points(home: Settings, town: dict[str, Any]) -> None:
    page = maps.lead_map_page(home, town["build"](home), town["AS_OF_US"])
    data = _data(page.path.read_text())
    assert set(data["data"]) == {"borders", "sellers", "buyers", "sales"}
    features = [f for d in data["data"].values() for f in d["data"]["features"]]
    assert {f["geometry"]["type"] for f in features} <= {"Polygon", "MultiPolygon"}
    assert len(features) - len(data["data"]["borders"]["data"]["features"]) == page.cells
    assert "L1" not in json.dumps(data["data"])
    assert [layer["name"] for layer in data["layers"]] == list(page.layers)
    west, south, east, north = data["bounds"]
    assert west < town["CENTRE"][0] < east
    assert south < town["CENTRE"][1] < north


def test_keplers_layers_read_columns_that_the_data_has(
    home: Settings, town: dict[str, Any]
) -> None:
    page = maps.lead_map_page(home, town["build"](home, events=False), None)
    data = _data(page.path.read_text())
    for layer in data["config"]["config"]["visState"]["layers"]:
        held = data["data"][layer["config"]["dataId"]]["data"]["features"][0]["properties"]
        field = layer["visualChannels"]["colorField"]
        assert field is None or field["name"] in held
    assert data["config"]["config"]["mapStyle"]["styleType"] == "no_map"


def test_a_market_with_nothing_to_show_has_a_page_that_says_so(
    home: Settings, town: dict[str, Any]
) -> None:
    page = maps.lead_map_page(home, town["build"](home), 0)
    assert page.layers == ()
    assert "Nothing to show" in page.path.read_text()
    with pytest.raises(InvalidInput, match="no area holds 5"):
        static_map_png(survey(home, town["build"](home), 0), home.reports / "none.png")


def test_a_picture_is_drawn_of_every_layer(home: Settings, town: dict[str, Any]) -> None:
    seen = survey(home, town["build"](home, regions=True), town["AS_OF_US"])
    path = static_map_png(seen, home.reports / "maps" / "town.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 30_000
