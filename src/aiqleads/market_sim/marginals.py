"""Plain rates of a simulated log, by which its plausibility is judged before anything learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Marginals:
    """Rates of a log. Each event counts once, and rivals' purchases only where it says so.

    views_per_impression, holds_per_view, purchases_per_hold, purchases_per_request,
    returns_per_purchase: of counts. late_share: of the interactions, arrived more than ten
    minutes after the event. sold_out_share: of the leads that were shown and have expired,
    those with no slot left, rivals included. budget_use: money spent over declared budgets,
    whole agent-months only. tight_months_share: of those months, more than 80 % spent.
    mean_fee_cents: of purchases. duplicate_share: second deliveries over events. map_share
    and bot_request_share: of the rankings. rival_purchase_share: of all purchases.
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
    duplicate_share: float
    map_share: float
    bot_request_share: float
    rival_purchase_share: float


RATES = tuple(each.name for each in fields(Marginals))


def marginals(
    *,
    leads: pd.DataFrame,
    agents: pd.DataFrame,
    rankings: pd.DataFrame,
    impressions: pd.DataFrame,
    interactions: pd.DataFrame,
    agents_truth: pd.DataFrame,
    months: I64,
    start_us: int,
    end_us: int,
) -> Marginals:
    """Counts the rates of a log that covers [start_us, end_us); months as in `month_starts`."""
    events = interactions.drop_duplicates("event_id")
    steps = events[events["request_id"] != ""]
    count = steps["kind"].value_counts()
    views, holds, purchases, returns = (
        int(count.get(kind, 0)) for kind in ("view", "hold", "purchase", "return")
    )
    waited = events["arrived_market_us"] - events["at_market_us"]
    bought, sold = steps[steps["kind"] == "purchase"], events[events["kind"] == "purchase"]
    bots = agents_truth.loc[agents_truth["bot"], "agent_id"]
    use, tight = _budgets(agents, bought, months, start_us, end_us)
    return Marginals(
        views_per_impression=_ratio(views, len(impressions)),
        holds_per_view=_ratio(holds, views),
        purchases_per_hold=_ratio(purchases, holds),
        purchases_per_request=_ratio(purchases, len(rankings)),
        returns_per_purchase=_ratio(returns, purchases),
        late_share=_ratio(int((waited > 600_000_000).sum()), len(events)),
        sold_out_share=_sold_out(leads, impressions, sold, end_us),
        budget_use=use,
        tight_months_share=tight,
        mean_fee_cents=_ratio(int(bought["price_cents"].sum()), purchases),
        duplicate_share=_ratio(len(interactions) - len(events), len(events)),
        map_share=_ratio(int((rankings["surface"] == "map").sum()), len(rankings)),
        bot_request_share=_ratio(int(rankings["agent_id"].isin(bots).sum()), len(rankings)),
        rival_purchase_share=_ratio(len(sold) - purchases, len(sold)),
    )


def implausible(
    found: Marginals, bands: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float, float]]:
    """Rates outside of their bands: rate, lowest, highest.

    bands: what `Preset.plausible` states, of which a short log or few agents may rightly
    fall out.
    """
    rates = asdict(found)
    return {
        name: (rates[name], low, high)
        for name, (low, high) in bands.items()
        if not low <= rates[name] <= high
    }


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
