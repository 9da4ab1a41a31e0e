"""A picture of a market's map, for notebooks and the README.

The page itself, shown in an executed notebook, would store 12 MB in it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from aiqleads.errors import InvalidInput
from aiqleads.map_survey import BACKGROUND, K, Layer, MarketMap, bounds, feature, rings


def static_map_png(seen: MarketMap, out: Path, columns: int = 2) -> Path:
    """Draws every layer of a map side by side, axes in km east and north of its centre.

    For notebooks and the README: the page itself, shown in an executed notebook, would
    store 12 MB in it.
    """
    if not seen.layers:
        raise InvalidInput(f"{seen.market.title}: no area holds {K} leads or sales")
    rows = -(-len(seen.layers) // columns)
    figure = Figure(figsize=(6.6 * columns, 1.1 + 3.9 * rows), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(f"{seen.title}\n{seen.subtitle}", fontsize=11)
    plane = _Plane.around(seen)
    for index, layer in enumerate(seen.layers):
        _draw(figure.add_subplot(rows, columns, index + 1), layer, seen.borders, plane)
    figure.supxlabel(_wrapped(seen.notice), fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return out


@dataclass(frozen=True)
class _Plane:
    """Degrees to km from a centre; over one metro the error is far below a line's width."""

    lon: float
    lat: float
    half_width_km: float
    half_height_km: float

    @classmethod
    def around(cls, seen: MarketMap) -> _Plane:
        features = [feature(z.geometry, {}) for layer in seen.layers for z in layer.zones]
        west, south, east, north = bounds([*seen.borders, *features])
        middle = cls((west + east) / 2, (south + north) / 2, 0, 0)
        x, y = middle.km(np.array([[east, north]]))[0]
        return cls(middle.lon, middle.lat, float(x) * 1.03, float(y) * 1.03)

    def km(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) lon/lat to (n, 2) km east and north of the centre."""
        per_degree = 6371.0088 * np.pi / 180
        scale = np.array([per_degree * np.cos(np.radians(self.lat)), per_degree])
        return np.asarray((points - np.array([self.lon, self.lat])) * scale)


def _draw(axes: Axes, layer: Layer, borders: list[dict[str, Any]], plane: _Plane) -> None:
    axes.set_facecolor(BACKGROUND)
    shapes = [_path(zone.geometry, plane) for zone in layer.zones]
    fills = [layer.colours[i] for i in layer.classes]
    axes.add_collection(
        PatchCollection(shapes, facecolors=fills, edgecolors="#78828899", linewidths=0.3)
    )
    outlines = [_path(feature["geometry"], plane) for feature in borders]
    axes.add_collection(
        PatchCollection(outlines, facecolors="none", edgecolors="#46545c", linewidths=0.7)
    )
    axes.set(
        xlim=(-plane.half_width_km, plane.half_width_km),
        ylim=(-plane.half_height_km, plane.half_height_km),
        aspect="equal",
        xlabel="km east",
        ylabel="km north",
    )
    axes.set_title(f"{layer.theme.title}\n{layer.theme.unit}", fontsize=10)
    keys = [Patch(facecolor=c, edgecolor="#8b979d", label=text) for c, text in layer.steps]
    axes.legend(handles=keys, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)


def _path(geometry: Mapping[str, Any], plane: _Plane) -> PathPatch:
    outlines = [Outline(plane.km(np.asarray(r)[:, :2]), closed=True) for r in rings(geometry)]
    return PathPatch(Outline.make_compound_path(*outlines))


def _wrapped(text: str, width: int = 150) -> str:
    return "\n".join(textwrap.wrap(text, width))
