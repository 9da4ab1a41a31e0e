"""Pages that people open: without network they draw something, and nothing goes wrong."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.maps import lead_map_page
from aiqleads.monitoring.drift import judge, report_page
from aiqleads.settings import Settings

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="chromium is not installed"),
]
#: colours in the picture of the map's element, and how many pixels have the commonest one
COUNT_COLOURS = """async (png) => {
  const image = new Image();
  image.src = "data:image/png;base64," + png;
  await image.decode();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width: image.width, height: image.height});
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  const counts = new Map();
  pixels.forEach((p) => counts.set(p, (counts.get(p) || 0) + 1));
  const hex = (p) => [p & 255, (p >> 8) & 255, (p >> 16) & 255]
    .map((v) => v.toString(16).padStart(2, "0")).join("");
  return Object.fromEntries([...counts].map(([p, n]) => ["#" + hex(p), n]));
}"""


@pytest.fixture(scope="module")
def town() -> dict[str, Any]:
    """What builds the invented town."""
    return runpy.run_path(str(Path(__file__).with_name("town.py")))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A fresh headless Chromium."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A tab that notes errors and addresses asked for, and fails the test for either."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if _leaves(asked.url) else None)
    yield page
    page.close()
    assert wrong == []


def _leaves(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def _colours(tab: Any) -> dict[str, int]:
    """Pixels of each colour in the map, without what floats above it."""
    picture = tab.locator("#map").screenshot(style=".card { visibility: hidden }")
    import base64

    counted: dict[str, int] = tab.evaluate(COUNT_COLOURS, base64.b64encode(picture).decode())
    return counted


def _near(counted: dict[str, int], colour: str) -> int:
    """Pixels within a few steps of a colour: areas are a little transparent."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    found = {c: np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in counted}
    return sum(n for c, n in counted.items() if abs(found[c] - wanted).max() <= 14)


def test_the_map_draws_its_layers_and_the_legend_tells_the_truth(
    home: Settings, town: dict[str, Any], tab: Any
) -> None:
    page = lead_map_page(home, town["build"](home), town["AS_OF_US"])
    tab.goto(page.path.as_uri())
    tab.wait_for_selector("#map canvas")
    assert tab.title().startswith("Town </script>")
    assert tab.locator("#layers input").count() == len(page.layers) == 5
    for name, words in (("seller_density", "leads per km²"), ("sale_price", "thousand USD")):
        tab.check(f"input[value={name}]")
        tab.wait_for_timeout(3500)
        assert words in tab.inner_text("#key")
        counted = _colours(tab)
        shown = tab.eval_on_selector_all("#key i", "all => all.map(e => e.style.background)")
        steps = ["#" + "".join(f"{int(v):02x}" for v in c[4:-1].split(",")) for c in shown]
        assert len(steps) >= 3
        assert all(_near(counted, step) > 150 for step in steps), (name, steps)


def test_pointing_at_an_area_tells_its_figures(
    home: Settings, town: dict[str, Any], tab: Any
) -> None:
    page = lead_map_page(home, town["build"](home), town["AS_OF_US"])
    tab.goto(page.path.as_uri())
    tab.wait_for_selector("#map canvas")
    tab.wait_for_timeout(3500)
    box = tab.locator("#map").bounding_box()
    for share in (0.5, 0.48, 0.52, 0.45):
        tab.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] * share)
        tab.wait_for_timeout(700)
        if tab.get_by_text("Median asking price, thousand USD").count():
            break
    text = tab.inner_text("#map")
    assert "Seller leads per km²" in text
    assert "Agent actions per lead" in text


def test_a_map_of_nothing_says_so(home: Settings, town: dict[str, Any], tab: Any) -> None:
    page = lead_map_page(home, town["build"](home), 0)
    tab.goto(page.path.as_uri())
    assert "Nothing to show" in tab.inner_text("#map")


def test_the_drift_report_opens_with_the_verdict(tmp_path: Path, tab: Any) -> None:
    rng = np.random.default_rng(1)
    clock = np.repeat(np.arange(13), 100)
    items = pd.DataFrame({"price": rng.normal(size=1300), "age": rng.normal(size=1300)}).assign(
        clock_us=clock,
        agent_id=np.tile(np.repeat([f"A{i}" for i in range(10)], 10), 13),
        request_id=np.repeat(np.arange(130), 10).astype(str),
        lead_id="L1",
        position=np.tile(np.arange(1, 11), 130),
        score=rng.normal(size=1300),
    )
    now = items[clock == 12].assign(price=lambda frame: frame["price"] + 2)
    verdict = judge(items[clock < 12], now, {"price": 3.0, "age": 1.0})
    path = report_page(items[clock < 12], now, verdict, tmp_path / "drift.html", "Drift <here>")
    tab.goto(path.as_uri())
    tab.wait_for_selector("text=Data Drift Summary")
    assert tab.title() == "Drift <here>"
    text = tab.inner_text("body")
    assert "ALERT" in text
    assert "price (75.0% of importance): up by" in text
    assert "Dataset Drift is detected" in text
