"""What a lead in a request is worth: the one definition that rankings are measured by.

    relevance = P(view, no hold) * gain(view) + P(hold, no purchase) * gain(hold)
              + P(purchase, no return) * gain(purchase)

under the true model, were the lead looked at. The digest of a preset covers this definition
too: its words and its values on a few fixed chances, so that a changed line is noticed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

DEFINITION = (
    "expected gain of the furthest step, were the lead looked at: view without hold, hold"
    " without purchase, purchase that is not returned; free of position and of the slate"
)


def expected_gain(
    view: F64, hold: F64, buy: F64, back: F64, gains: tuple[float, float, float]
) -> F64:
    """Relevance of each lead, shape of the chances.

    view, hold, buy, back: chances given looked at, viewed, held and bought. gains: of a
    view, a hold and a purchase that is kept.
    """
    held = view * hold
    kept = held * buy * (1.0 - back)
    return np.asarray(gains[0] * (view - held) + gains[1] * (held - held * buy) + gains[2] * kept)


def fingerprint(gains: tuple[float, float, float]) -> dict[str, object]:
    """The definition as it goes into a digest: in words, and as figures on a small grid."""
    grid = np.array([0.1, 0.5, 0.9])
    view, hold, buy, back = np.meshgrid(grid, grid, grid, grid, indexing="ij")
    values = expected_gain(view, hold, buy, back, gains).ravel()
    return {"definition": DEFINITION, "values": [f"{value:.9f}" for value in values]}
