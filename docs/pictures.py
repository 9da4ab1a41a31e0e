"""Draws the README's pictures from the artefacts of the last `make demo`: map and closing table.

Needs Chromium. A finished demo is not run again; only the service is started and asked.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from aiqleads.demo import run_demo, show
from aiqleads.settings import Settings

IMAGES = Path(__file__).resolve().parent / "images"
WIDTH = 112


def main() -> int:
    """Writes docs/images/map.png and docs/images/demo.png."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is missing", file=sys.stderr)
        return 2
    settings = Settings()
    IMAGES.mkdir(exist_ok=True)
    report = run_demo(settings)
    console = Console(record=True, width=WIDTH, file=sys.stderr)
    show(report, console)
    table = settings.reports / "demo.html"
    table.write_text(console.export_html(inline_styles=True))
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto((settings.home / report.paths["map"]).as_uri())
        page.wait_for_timeout(6000)
        page.screenshot(path=IMAGES / "map.png")
        page.goto(table.as_uri())
        page.locator("pre").screenshot(path=IMAGES / "demo.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
