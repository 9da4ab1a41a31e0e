"""The logging policy: a hand-made score with noise, deliberately imperfect and exactly known.

    score = recency * exp(-age / recency_hours) + nearness * exp(-distance to home / nearness_m)
          + in_band * (asked price within the declared band)

It knows the declared home and the declared price band and nothing that an agent ever did.
Leads are drawn one after another without putting back, each with a chance in proportion to
exp(score / temperature) among those left: the Plackett-Luce model (Plackett, "The analysis
of permutations", 1975). A small share of requests is answered with all scores equal, which
is a uniformly random order. Either way the logged propensity is the exact chance that the
lead came to this position given what stands above it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiqleads.market_sim.draws import F64
from aiqleads.market_sim.presets import Policy

#: what stands in rankings.parquet for the two arms
MODEL_VERSION = "hand-1"
HAND, RANDOM = "hand", "random"


def hand_scores(age_hours: F64, near: F64, in_band: F64, policy: Policy) -> F64:
    """Scores of the candidates, shape (n,); `near` is exp(-distance / nearness_m)."""
    recent = np.exp(-age_hours / policy.recency_hours)
    return np.asarray(policy.recency * recent + policy.nearness * near + policy.in_band * in_band)


def draw_slate(logits: F64, noise: F64, shown: int) -> tuple[NDArray[np.int64], F64]:
    """Draws an ordered slate from Plackett-Luce: candidate indices and propensities.

    logits: score / temperature, shape (n,). noise: standard Gumbel numbers, shape (n,);
    sorting the sums is a draw from the model (Yellott, 1977). Both results have the shape
    (min(shown, n),).
    """
    order = np.argsort(-(logits + noise), kind="stable")
    weights = np.exp(logits[order] - logits.max())
    left = np.cumsum(weights[::-1])[::-1]  # what each draw chose from, itself included
    # rounding may leave the last draw's weight a hair above its own sum
    return order[:shown], np.minimum(weights[:shown] / left[:shown], 1.0)
