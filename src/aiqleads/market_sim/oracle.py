"""What a ranker that knew the true model would know, and how far the logged one is from it.

Relevance is the graded value of a lead in this request, were it looked at:

    P(view, no hold) * gain(view) + P(hold, no purchase) * gain(hold)
    + P(purchase, no return) * gain(purchase)

under the true model, everything hidden included except the coins of the steps themselves.
It does not depend on the position, nor on the rest of the slate. Nothing of this may be
read by a feature or a training: it exists to tell what rankings are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.market_sim.behavior import Chances, chances
from aiqleads.market_sim.draws import F64
from aiqleads.market_sim.presets import Gains, Preset


def graded_value(chance: Chances, gains: Gains) -> F64:
    """Relevance of each lead, shape (n,), at most gains.purchase."""
    kept = chance.purchase * (1.0 - chance.back)
    held = chance.view * chance.hold * (1.0 - chance.buy)
    viewed = chance.view * (1.0 - chance.hold)
    return np.asarray(gains.view * viewed + gains.hold * held + gains.purchase * kept)


def without_hidden(known: F64, quality: F64, affordable: NDArray[np.bool_], preset: Preset) -> F64:
    """Expected relevance for somebody who knows all tastes and none of the hidden draws.

    known: the card's utility without the (agent, lead) pair's own part, shape (n,). The
    pair's and the lead's hidden parts are integrated out by Gauss-Hermite quadrature.
    """
    pair_at, pair_weight = _nodes(preset.hidden.pair_sd, 5)
    lead_at, lead_weight = _nodes(preset.hidden.appeal_sd, 3)
    card = known[:, None, None] + pair_at[None, :, None]
    appeal = np.broadcast_to(lead_at[None, None, :], (1, len(pair_at), len(lead_at)))
    chance = chances(card, appeal, quality[:, None, None], affordable[:, None, None], preset)
    values = graded_value(chance, preset.gains)
    return np.asarray(np.einsum("npl,p,l->n", values, pair_weight, lead_weight))


@cache
def _nodes(sd: float, count: int) -> tuple[F64, F64]:
    at, weight = hermegauss(count)
    return sd * at, weight / weight.sum()


@dataclass(frozen=True)
class OracleFigures:
    """Means over the requests, of the first `k` positions of what was shown.

    ndcg_*: of the logged order, of a uniformly random one (expected), of one that knows
    every taste but no hidden draw, and of the full oracle. revenue_*_cents: expected fee of
    kept purchases for each request were all k positions looked at, in the logged order and
    in the full oracle's. requests: how many count; those without any value are left out.
    """

    k: int
    requests: int
    ndcg_logged: float
    ndcg_random: float
    ndcg_known: float
    ndcg_full: float
    revenue_logged_cents: float
    revenue_full_cents: float


def full_oracle(impressions: pd.DataFrame, oracle: pd.DataFrame, k: int = 10) -> OracleFigures:
    """Compares the logged rankings with the full oracle on the leads that were shown.

    impressions: request_id, lead_id, position, price_cents. oracle: the simulator's
    oracle frame, row for row of the same pairs. Raises ContractBroken when they are not.
    """
    if k < 1:
        raise InvalidInput(f"k must be at least 1, not {k}")
    keys = ["request_id", "lead_id"]
    rows = impressions[[*keys, "position", "price_cents"]].merge(
        oracle, on=keys, how="inner", validate="one_to_one"
    )
    if len(rows) != len(impressions) or len(rows) != len(oracle):
        raise ContractBroken("impressions and oracle are not of the same requests and leads")
    rows = rows.sort_values(["request_id", "position"])
    starts = np.flatnonzero(rows["request_id"].ne(rows["request_id"].shift()).to_numpy())
    value = _padded(rows["relevance"], starts)
    money = _padded(rows["p_purchase"] * (1.0 - rows["p_return"]) * rows["price_cents"], starts)
    full = _order(_padded(rows["score_full"], starts, -np.inf))
    known = _order(_padded(rows["score_known"], starts, -np.inf))
    counts = np.diff(np.append(starts, len(rows)))
    ideal = _dcg(np.sort(value, axis=1)[:, ::-1], k)
    with_value = ideal > 0
    discount = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    random = value.sum(axis=1) / counts * discount[np.minimum(counts, k) - 1]

    def ndcg(dcg: F64) -> float:
        return _mean(dcg[with_value] / ideal[with_value])

    return OracleFigures(
        k=k,
        requests=int(with_value.sum()),
        ndcg_logged=ndcg(_dcg(value, k)),
        ndcg_random=ndcg(random),
        ndcg_known=ndcg(_dcg(np.take_along_axis(value, known, axis=1), k)),
        ndcg_full=ndcg(_dcg(np.take_along_axis(value, full, axis=1), k)),
        revenue_logged_cents=_mean(money[:, :k].sum(axis=1)),
        revenue_full_cents=_mean(np.take_along_axis(money, full, axis=1)[:, :k].sum(axis=1)),
    )


def _mean(values: F64) -> float:
    return float(values.mean()) if len(values) else 0.0


def _padded(values: pd.Series[float], starts: NDArray[np.int64], fill: float = 0.0) -> F64:
    """One row for each request, in the order of positions, filled up at the end."""
    flat = values.to_numpy(np.float64)
    counts = np.diff(np.append(starts, len(flat)))
    table = np.full((len(starts), int(counts.max(initial=0))), fill)
    table[np.arange(table.shape[1])[None, :] < counts[:, None]] = flat
    return table


def _order(scores: F64) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")


def _dcg(gains: F64, k: int) -> F64:
    """Discounted cumulative gain, linear in the gain (Järvelin and Kekäläinen, 2002)."""
    top = gains[:, :k]
    return np.asarray((top / np.log2(np.arange(2, top.shape[1] + 2))).sum(axis=1))
