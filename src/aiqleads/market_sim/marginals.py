"""Plain rates of a simulated log, by which its plausibility is judged before anything learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from aiqleads.market_sim.world import I64


@dataclass(frozen=True)
class Marginals:
    """Rates of a log.

    views_per_impression, holds_per_view, purchases_per_hold, purchases_per_request,
    returns_per_purchase: of counts. late_share: of the interactions, arrived more than ten
    minutes after the event. sold_out_share: of the leads that were shown and have expired,
    those with no slot left. budget_use: money spent over budgets, whole agent-months only.
    tight_months_share: of those months, more than 80 % spent. mean_fee_cents: of purchases.
    """

    views_per_impression: float
    holds_per_view: float
    purchases_per_hold: float
    purchases_per_request: float
    returns_per_purchase: float
    late_share: float
    sold_out_share: float
    budget_use: float
    tight_months_share: float
    mean_fee_cents: float


def marginals(
    *,
    leads: pd.DataFrame,
    agents: pd.DataFrame,
    rankings: pd.DataFrame,
    impressions: pd.DataFrame,
    interactions: pd.DataFrame,
    months: I64,
    start_us: int,
    end_us: int,
) -> Marginals:
    """Counts the rates of a log that covers [start_us, end_us); months as in `month_starts`."""
    count = interactions["kind"].value_counts()
    views, holds, purchases, returns = (
        int(count.get(kind, 0)) for kind in ("view", "hold", "purchase", "return")
    )
    waited = interactions["arrived_market_us"] - interactions["at_market_us"]
    bought = interactions[interactions["kind"] == "purchase"]
    use, tight = _budgets(agents, bought, months, start_us, end_us)
    return Marginals(
        views_per_impression=_ratio(views, len(impressions)),
        holds_per_view=_ratio(holds, views),
        purchases_per_hold=_ratio(purchases, holds),
        purchases_per_request=_ratio(purchases, len(rankings)),
        returns_per_purchase=_ratio(returns, purchases),
        late_share=_ratio(int((waited > 600_000_000).sum()), len(interactions)),
        sold_out_share=_sold_out(leads, impressions, bought, end_us),
        budget_use=use,
        tight_months_share=tight,
        mean_fee_cents=_ratio(int(bought["price_cents"].sum()), purchases),
    )


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0


def _sold_out(
    leads: pd.DataFrame, impressions: pd.DataFrame, bought: pd.DataFrame, end_us: int
) -> float:
    over = leads[
        leads["lead_id"].isin(impressions["lead_id"].unique())
        & (leads["expires_market_us"] <= end_us)
    ]
    sold = bought["lead_id"].value_counts().reindex(over["lead_id"]).fillna(0).to_numpy()
    return _ratio(int((sold >= over["max_buyers"].to_numpy()).sum()), len(over))


def _budgets(
    agents: pd.DataFrame, bought: pd.DataFrame, months: I64, start_us: int, end_us: int
) -> tuple[float, float]:
    """Share of all budgets that was spent, and share of agent-months that were tight."""
    number = {name: n for n, name in enumerate(agents["agent_id"])}
    spent = np.zeros((len(agents), len(months)))
    month = np.searchsorted(months, bought["at_market_us"].to_numpy(), side="right") - 1
    np.add.at(spent, (bought["agent_id"].map(number).to_numpy(np.int64), month),
              bought["price_cents"].to_numpy(np.float64))  # fmt: skip
    joined = agents["joined_market_us"].to_numpy()[:, None]
    whole = (np.maximum(joined, start_us) <= months[None, :-1]) & (months[None, 1:] <= end_us)
    budget = np.broadcast_to(agents["monthly_budget_cents"].to_numpy()[:, None], whole.shape)
    use = spent[:, :-1][whole] / budget[whole]
    return (
        _ratio(float(spent[:, :-1][whole].sum()), float(budget[whole].sum())),
        float((use > 0.8).mean()) if len(use) else 0.0,
    )
