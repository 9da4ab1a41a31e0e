"""The state of the market at one moment: free slots, who owns what, budgets, demand."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import ENTITLEMENTS, US_PER_DAY, US_PER_SECOND
from aiqleads.market_sim.draws import F64
from aiqleads.market_sim.log import Look
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.world import I64, TIERS, World, shocked

_WEEK_US = 7 * US_PER_DAY
_RIGHTS = tuple(ENTITLEMENTS[tier] for tier in TIERS)


class Floor:
    """Changes with every step; `months` are the local months' starts."""

    def __init__(self, world: World, preset: Preset, months: I64) -> None:
        leads, agents = len(world.leads), len(world.agents)
        self._leads = world.leads
        self._months: list[int] = months.tolist()
        self._rights = [_RIGHTS[tier] for tier in world.agents.tier]
        self.free = world.leads.max_buyers.copy()
        self.owned = np.zeros((agents, leads), dtype=np.bool_)  # held now, or bought
        self.viewed = np.zeros((agents, leads), dtype=np.bool_)
        self._live_holds = [0] * agents
        shock = np.where(
            shocked(months, world.start_us, preset.shock), preset.shock.budget_factor, 1.0
        )
        budget = np.floor(world.agents.monthly_budget_cents[:, None] * shock[None, :])
        self._left: list[list[int]] = budget.astype(np.int64).tolist()
        self._bought_at: list[list[int]] = [[] for _ in range(agents)]
        self._demand = np.zeros(leads)
        self._demand_at = np.zeros(leads, dtype=np.int64)
        self._demand_us = preset.taste.demand_days * US_PER_DAY

    def month(self, at_us: int) -> int:
        """Number of the local month of a moment."""
        return bisect_right(self._months, at_us) - 1

    def budget_left(self, agent: int, at_us: int) -> int:
        """What the agent may still spend in the local month of `at_us`, cents."""
        return self._left[agent][self.month(at_us)]

    def month_left(self, agent: int, month: int) -> int:
        """What the agent may still spend in a month by its number, cents."""
        return self._left[agent][month]

    def spend(self, agent: int, at_us: int, cents: int) -> None:
        """Takes a purchase out of the budget of its own month."""
        self._left[agent][self.month(at_us)] -= cents

    def on_offer(self, agent: int, lead: I64) -> NDArray[np.bool_]:
        """Which leads have a free slot and are not the agent's own already."""
        return np.asarray((self.free[lead] > 0) & ~self.owned[agent, lead])

    def demand_now(self, lead: I64, at_us: int) -> F64:
        """Views of each lead, fading with age, shape of `lead`."""
        faded = np.exp((self._demand_at[lead] - at_us) / self._demand_us)
        return np.asarray(self._demand[lead] * faded)

    def recent_purchases(self, agent: int, at_us: int) -> int:
        """The agent's purchases of the past seven days."""
        times = self._bought_at[agent]
        return len(times) - bisect_right(times, at_us - _WEEK_US)

    def note_view(self, look: Look, at_us: int) -> None:
        """Remembers a view for the demand and for the agent."""
        self._demand[look.lead] = self.demand_now(np.array([look.lead]), at_us)[0] + 1.0
        self._demand_at[look.lead] = at_us
        self.viewed[look.agent, look.lead] = True

    def may_hold(self, look: Look, at_us: int) -> bool:
        """Whether a slot, the tier's limit and the budget allow this hold."""
        return bool(
            at_us < self._leads.expires_us[look.lead]
            and self.free[look.lead] > 0
            and not self.owned[look.agent, look.lead]
            and self._live_holds[look.agent] < self._rights[look.agent].live_holds
            and look.fee_cents <= self.budget_left(look.agent, at_us)
        )

    def take(self, look: Look) -> None:
        """A slot goes to the agent."""
        self.free[look.lead] -= 1
        self.owned[look.agent, look.lead] = True
        self._live_holds[look.agent] += 1

    def give_back(self, look: Look) -> None:
        """A held slot is free again."""
        self.free[look.lead] += 1
        self.owned[look.agent, look.lead] = False
        self._live_holds[look.agent] -= 1

    def buy(self, look: Look, at_us: int) -> None:
        """A held slot is the agent's for good."""
        self._live_holds[look.agent] -= 1
        self._bought_at[look.agent].append(at_us)

    def time_to_decide(self, look: Look, at_us: int) -> int:
        """From hold to purchase or release: within the tier's hold time and the lead's life."""
        hold_us: int = self._rights[look.agent].hold_minutes * 60 * US_PER_SECOND
        left_us = int(self._leads.expires_us[look.lead]) - at_us - 1
        return min(int(look.close_share * hold_us), hold_us, left_us)
