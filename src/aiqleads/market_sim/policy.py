"""The door through which a market is ranked, and the policy that wrote the log.

Whoever ranks implements `Ranker`: it is given what a shop may know of one request (`Asked`)
and answers with an order. The logging policy, the arms of a closed loop and the oracles all
stand behind this door.

The logging policy is a hand-made score with noise, deliberately imperfect and exactly known:

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

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import US_PER_HOUR
from aiqleads.market_sim.arrivals import Requests
from aiqleads.market_sim.draws import F64, Stream, uniform
from aiqleads.market_sim.presets import Policy, Preset
from aiqleads.market_sim.world import World

Device = Literal["desktop", "mobile"]
Surface = Literal["list", "map"]

#: what stands in rankings.parquet for the two arms of the logging policy
MODEL_VERSION = "hand-1"
HAND, RANDOM = "hand", "random"


@dataclass(frozen=True)
class Asked:
    """One request and its candidates: the leads on offer to the agent and within the budget.

    number: of the request in the schedule. agent: index in world.agents. lead: indices in
    world.leads, shape (n,), rising; lead_ids and fee_cents (the shop's quotes) belong to
    them. budget_left_cents: of the local month. noise: standard Gumbel numbers of this
    request and these leads, for whoever wants to explore.
    """

    number: int
    request_id: str
    agent: int
    agent_id: str
    at_us: int
    device: Device
    surface: Surface
    lead: NDArray[np.int64]
    lead_ids: NDArray[np.object_]
    fee_cents: NDArray[np.int64]
    budget_left_cents: int
    noise: F64


@dataclass(frozen=True)
class Answer:
    """A ranking: positions into the candidates, best first, no more than are shown.

    propensity: chance of each lead at its position given those above it, shape of `order`;
    1.0 where the ranker does not draw.
    """

    order: NDArray[np.int64]
    propensity: F64
    model_version: str
    variant: str


class Ranker(Protocol):
    """Whoever answers requests."""

    def rank(self, asked: Asked) -> Answer:
        """Orders the candidates of one request; there is at least one."""
        ...


class LoggingPolicy:
    """The hand-made score with noise, and the random arm beside it."""

    def __init__(self, world: World, requests: Requests, preset: Preset, seed: int) -> None:
        self._world, self._rule = world, preset.policy
        self._random = uniform(seed, Stream.VARIANT, requests.key) < self._rule.random_share

    def rank(self, asked: Asked) -> Answer:
        """Draws a slate; which arm answers is the request's own luck."""
        random = bool(self._random[asked.number])
        logits = np.zeros(len(asked.lead)) if random else self._logits(asked)
        order, propensity = draw_slate(logits, asked.noise, self._rule.shown)
        return Answer(order, propensity, MODEL_VERSION, RANDOM if random else HAND)

    def _logits(self, asked: Asked) -> F64:
        pool = self._world.pools[asked.agent]
        rows = np.searchsorted(pool.lead, asked.lead)
        age_hours = (asked.at_us - self._world.leads.received_us[asked.lead]) / US_PER_HOUR
        scores = hand_scores(age_hours, pool.near[rows], pool.in_band[rows], self._rule)
        return scores / self._rule.temperature


def hand_scores(age_hours: F64, near: F64, in_band: NDArray[np.bool_], policy: Policy) -> F64:
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
