"""What an arm of a closed loop earned, showed and lost, day by day."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY
from aiqleads.market_sim import attention
from aiqleads.market_sim.log import Kind
from aiqleads.market_sim.play import Play
from aiqleads.market_sim.policy import Answer, Asked, Ranker

F64 = NDArray[np.float64]
_CENTS = 100.0


@dataclass(frozen=True)
class LoopReport:
    """Figures of one arm; money in units of the currency; lists have one entry a day.

    revenue_usd: fees of purchases in the loop that are not returned, whenever the return
    comes. expected_usd: fees of all pages (lists only) at true chances and true attention, as
    things stood at each request: what revenue is on average, without the luck of the single
    purchase. unbuyable: share of impressions that the agent could not have bought when they were
    shown. refused: holds that found the place gone, the limit reached or the money spent, of
    all that were tried. regret: expected fees of a page (all of it, at true chances and true
    attention, lists only) below those of the best page at the same moment, as a share of the
    latter, 0 on a day on which no page could have earned anything. exposure_gini: of attention
    over the leads on offer, 0 even. never_shown: share of the leads on offer in the loop. drawn:
    share of the requests. seconds: of the loop alone; parts: CPU seconds by what was done.
    """

    arm: str
    preset: str
    seed: int
    days: int
    agents: int
    requests: int
    purchases: int
    returned: int
    revenue_usd: float
    expected_usd: float
    impressions: int
    unbuyable: float
    refused: float
    revenue_by_day: list[float]
    regret_by_day: list[float]
    exposure_gini: float
    never_shown: float
    drawn: float
    trainings: int
    publications: int
    seconds: float
    cpu_seconds: float
    parts: dict[str, float] = field(default_factory=dict)


class Witness:
    """Stands before a ranker and notes what its pages are worth; nothing is changed.

    Truth is asked after the ranker has answered.
    """

    def __init__(self, ranker: Ranker, play: Play) -> None:
        self.ranker, self._play = ranker, play
        self.number: list[int] = []
        self.shown = self.unbuyable = self.drawn = 0
        self.page_cents: list[float] = []
        self.best_cents: list[float] = []
        self.attention = np.zeros(len(play.world.leads))
        self._looks = {
            device: attention.by_position(play.preset.policy.shown, device, play.preset.examination)
            for device in ("desktop", "mobile")
        }

    def rank(self, asked: Asked) -> Answer:
        """The ranker's answer."""
        answer = self.ranker.rank(asked)
        play, lead = self._play, asked.lead[answer.order]
        floor, agent = play.floor, asked.agent
        buyable = floor.on_offer(agent, lead) & (play.world.leads.expires_us[lead] > asked.at_us)
        buyable &= asked.fee_cents[answer.order] <= floor.budget_left(agent, asked.at_us)
        self.shown += len(lead)
        self.unbuyable += int((~buyable).sum())
        self.drawn += answer.variant == "drawn"
        looks = self._looks[asked.device]
        self.attention[lead] += looks[: len(lead)]
        if asked.surface == "list" and not play.world.agents.bot[agent]:
            chance = play.truth(asked)
            cents = chance.purchase * (1.0 - chance.back) * asked.fee_cents
            best = np.sort(cents)[::-1][: len(looks)]
            self.number.append(asked.number)
            self.page_cents.append(float(cents[answer.order] @ looks[: len(lead)]))
            self.best_cents.append(float(best @ looks[: len(best)]))
        return answer


def report(
    witness: Witness,
    play: Play,
    *,
    arm: str,
    seed: int,
    start_us: int,
    days: int,
    trainings: int,
    publications: int,
    seconds: float,
    cpu_seconds: float,
    parts: dict[str, float],
) -> LoopReport:
    """Figures of what happened in a played market from `start_us` on for `days`."""
    end_us = start_us + days * US_PER_DAY
    steps = [step for step in play.log.steps if start_us <= step[0] < end_us]
    bought = [(at, look) for at, kind, look in steps if kind is Kind.PURCHASE]
    holds = sum(kind is Kind.HOLD for _, kind, _ in steps)
    day = [int((at - start_us) // US_PER_DAY) for at, look in bought if not look.would_return]
    fees = [look.fee_cents / _CENTS for _, look in bought if not look.would_return]
    by_day = np.bincount(day, fees, days) if day else np.zeros(days)
    asked_day = (play.requests.at_us[witness.number] - start_us) // US_PER_DAY
    page = np.bincount(asked_day, witness.page_cents, days)
    best = np.bincount(asked_day, witness.best_cents, days)
    leads, requests = play.world.leads, play.requests.at_us
    live = (leads.received_us < end_us) & (leads.expires_us > start_us)
    asked = int(((requests >= start_us) & (requests < end_us)).sum())
    return LoopReport(
        arm=arm,
        preset=play.preset.name,
        seed=seed,
        days=days,
        agents=len(play.world.agents),
        requests=asked,
        purchases=len(bought),
        returned=len(bought) - len(fees),
        revenue_usd=float(by_day.sum()),
        expected_usd=float(page.sum()) / _CENTS,
        impressions=witness.shown,
        unbuyable=witness.unbuyable / max(witness.shown, 1),
        refused=play.log.refused_holds / max(holds + play.log.refused_holds, 1),
        revenue_by_day=by_day.tolist(),
        regret_by_day=np.where(best > 0, 1.0 - page / np.maximum(best, 1e-9), 0.0).tolist(),
        exposure_gini=gini(witness.attention[live]),
        never_shown=float((witness.attention[live] == 0).mean()),
        drawn=witness.drawn / max(asked, 1),
        trainings=trainings,
        publications=publications,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        parts={name: round(value, 2) for name, value in parts.items()},
    )


def gini(values: F64) -> float:
    """Gini coefficient of values that are not negative: 0 all equal, towards 1 all in one."""
    ordered = np.sort(values)
    total = ordered.sum()
    if not len(ordered) or total <= 0:
        return 0.0
    rank = np.arange(1, len(ordered) + 1)
    return float(
        2.0 * (rank * ordered).sum() / (len(ordered) * total) - (len(ordered) + 1) / len(ordered)
    )
