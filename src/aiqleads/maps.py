"""The map page of a market: kepler.gl, without network.

It shows areas of at least `K` leads or sales (map_survey.py), never points. The page uses
the widget that kepler.gl's wheel carries, written once beside the maps as a plain script.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiqleads.errors import ContractBroken
from aiqleads.ingest.market import Market
from aiqleads.map_survey import BACKGROUND, Layer, MarketMap, bounds, feature, survey
from aiqleads.settings import Settings

BUNDLE = "kepler-widget.js"


@dataclass(frozen=True)
class MapPage:
    """A written page: where, how many areas it shows, and the names of its layers."""

    path: Path
    cells: int
    layers: tuple[str, ...]


def lead_map_page(
    settings: Settings, market: Market, as_of_us: int | None, out: Path | None = None
) -> MapPage:
    """Writes the market's map as one HTML page that opens without network.

    as_of_us: the market's clock; the page knows nothing after it. None for a market without
    one: then all that is stored is shown. out: where to, by default reports/maps/<market>.html;
    kepler.gl's bundle (12 MB) is written once into the same folder. Raises NotReady when
    the market was not ingested.
    """
    seen = survey(settings, market, as_of_us)
    path = out or settings.reports / "maps" / f"{market.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_bundle(path.parent / BUNDLE)
    _replace(path, _page(seen))
    cells = sum(len(zones) for zones in seen.zones.values())
    return MapPage(path, cells, tuple(layer.theme.name for layer in seen.layers))


def _page(seen: MarketMap) -> str:
    datasets = {
        group: [
            feature(zone.geometry, held)
            for zone, held in zip(seen.zones[group], seen.properties[group], strict=True)
        ]
        for group in {layer.theme.group for layer in seen.layers}
    }
    everything = [*seen.borders, *(f for features in datasets.values() for f in features)]
    page = {
        "title": seen.title,
        "bounds": bounds(everything),
        "data": {
            name: _dataset(name, features)
            for name, features in {"borders": seen.borders, **datasets}.items()
            if features
        },
        "config": _config(seen),
        "layers": [
            {
                "name": layer.theme.name,
                "title": layer.theme.title,
                "unit": layer.theme.unit,
                "about": layer.theme.about,
                "steps": [{"colour": colour, "text": text} for colour, text in layer.steps],
            }
            for layer in seen.layers
        ],
    }
    text = files("aiqleads").joinpath("map_page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(seen.title),
        "SUBTITLE": html.escape(seen.subtitle),
        "NOTICE": html.escape(seen.notice),
        "BACKGROUND": BACKGROUND,
        "BUNDLE": BUNDLE,
        "WIDGET_CSS": _static("widget.css"),
        "PAGE": _embedded(page),
    }
    return re.sub(r"@@([A-Z_]+)@@", lambda found: parts[found[1]], text)


def _embedded(value: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever the data holds."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("</", "<\\/").replace("<!--", "<\\u0021--")


def _dataset(name: str, features: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": name,
        "format": "geojson",
        "data": {"type": "FeatureCollection", "features": features},
    }


def _config(seen: MarketMap) -> dict[str, Any]:
    """A kepler.gl configuration: our layers, the borders on top, no base map."""
    borders = [_kepler_layer("borders", "borders", "Regions", _LINES, None)] if seen.borders else []
    coloured = [
        _kepler_layer(
            layer.theme.name,
            layer.theme.group,
            f"{layer.theme.title}, {layer.theme.unit}",
            _filled(layer),
            layer.theme.column,
        )
        for layer in seen.layers
    ]
    tooltips = {
        group: [{"name": name, "format": None} for name in held[0]]
        for group, held in seen.properties.items()
        if held
    }
    return {
        "version": "v1",
        "config": {
            "visState": {
                "filters": [],
                "layers": [*borders, *coloured],
                "interactionConfig": {
                    "tooltip": {"fieldsToShow": {"borders": [], **tooltips}, "enabled": True},
                    "brush": {"enabled": False},
                    "geocoder": {"enabled": False},
                    "coordinate": {"enabled": False},
                },
                "layerBlending": "normal",
            },
            "mapStyle": {"styleType": "no_map", "backgroundColor": _rgb(BACKGROUND)},
        },
    }


_LINES = {
    "opacity": 1,
    "strokeOpacity": 0.7,
    "thickness": 0.6,
    "strokeColor": [70, 84, 92],
    "filled": False,
    "stroked": True,
}


def _filled(layer: Layer) -> dict[str, Any]:
    bounds = [*layer.breaks, None]
    return {
        "opacity": 0.95,
        "strokeOpacity": 0.5,
        "thickness": 0.2,
        "strokeColor": [120, 130, 136],
        "colorRange": {
            "name": layer.theme.name,
            "type": "custom",
            "category": "Custom",
            "colors": list(layer.colours),
            "colorMap": [list(pair) for pair in zip(bounds, layer.colours, strict=True)],
        },
        "filled": True,
        "stroked": True,
    }


def _kepler_layer(
    name: str, dataset: str, label: str, look: dict[str, Any], column: str | None
) -> dict[str, Any]:
    channels: dict[str, Any] = {"colorField": None, "colorScale": "quantile"}
    if column is not None:
        channels = {
            "colorField": {"name": column, "type": "real"},
            "colorScale": "custom",
        }
    return {
        "id": name,
        "type": "geojson",
        "config": {
            "dataId": dataset,
            "label": label,
            "columns": {"geojson": "_geojson"},
            "isVisible": True,
            "visConfig": look,
        },
        "visualChannels": channels,
    }


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _static(name: str) -> str:
    """A file of the widget that kepler.gl's wheel carries."""
    import keplergl  # brings geopandas along, and only a page needs it

    return (Path(keplergl.__file__).parent / "static" / name).read_text(encoding="utf-8")


def _write_bundle(path: Path) -> None:
    """Writes kepler.gl's widget as a plain script that sets `keplerWidget`, once a version.

    A page opened from a file may not import modules, so the wheel's module becomes the body
    of a function. Raises ContractBroken when the wheel's file has another shape than that.
    """
    mark = f"/* keplergl {version('keplergl')}, https://kepler.gl, MIT licence */\n"
    if path.is_file():
        with path.open(encoding="utf-8") as written:
            if written.readline() == mark:
                return
    source, exports = re.subn(
        r"export\s*\{\s*([\w$]+) as default\s*\};?",
        r"globalThis.keplerWidget=\1;",
        _static("widget.js"),
    )
    if exports != 1:
        raise ContractBroken(f"keplergl's widget.js has {exports} default exports, not one")
    source = source.replace("import.meta.url", "document.baseURI")
    # Before it reads a configuration it would ask a public server for its default base map.
    source = source.replace('="dark-matter"', '="no_map"')
    _replace(path, f'{mark}(function(){{"use strict";\n{source}\n}})();\n')


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
