"""What a ranker that knew the true model would know, and how far the logged one is from it.

`relevance.py` has the definition of relevance. Nothing of this may be read by a feature or
a training: it exists to tell what rankings are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.market_sim.behavior import Chances, chances
from aiqleads.market_sim.draws import F64
from aiqleads.market_sim.presets import Gains, Preset
from aiqleads.market_sim.relevance import expected_gain


def graded_value(chance: Chances, gains: Gains) -> F64:
    """Relevance of each lead, shape (n,), at most gains.purchase."""
    return expected_gain(chance.view, chance.hold, chance.buy, chance.back, gains.in_order)


def without_hidden(known: F64, quality: F64, preset: Preset) -> F64:
    """Expected relevance for somebody who knows all tastes and none of the hidden draws.

    known: the card's utility without the (agent, lead) pair's own part, shape (n,). The
    pair's and the lead's hidden parts are integrated out by Gauss-Hermite quadrature.
    """
    pair_at, pair_weight = _nodes(preset.hidden.pair_sd, 5)
    lead_at, lead_weight = _nodes(preset.hidden.appeal_sd, 3)
    card = known[:, None, None] + pair_at[None, :, None]
    appeal = np.broadcast_to(lead_at[None, None, :], (1, len(pair_at), len(lead_at)))
    chance = chances(card, appeal, quality[:, None, None], preset)
    values = graded_value(chance, preset.gains)
    return np.asarray(np.einsum("npl,p,l->n", values, pair_weight, lead_weight))


@cache
def _nodes(sd: float, count: int) -> tuple[F64, F64]:
    at, weight = hermegauss(count)
    return sd * at, weight / weight.sum()


_TOGETHER = 10_000  # requests that are measured at a time


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
    oracle frame. Requests without any truth (bots') are left out; ContractBroken when the
    truth is of other leads than those shown.
    """
    if k < 1:
        raise InvalidInput(f"k must be at least 1, not {k}")
    rows = _with_truth(impressions, oracle)
    ends = np.append(np.flatnonzero(_begins(rows["request_id"])), len(rows["request_id"]))
    parts = [
        _of_requests({name: column[low:high] for name, column in rows.items()}, k)
        for low, high in pairwise(np.unique(np.append(ends[::_TOGETHER], ends[-1])))
    ]
    ideal, logged, random, known, full, earned, possible = (
        np.concatenate(parts, axis=1) if parts else np.zeros((7, 0))
    )
    with_value = ideal > 0

    def ndcg(dcg: F64) -> float:
        return _mean(dcg[with_value] / ideal[with_value])

    return OracleFigures(
        k=k,
        requests=int(with_value.sum()),
        ndcg_logged=ndcg(logged),
        ndcg_random=ndcg(random),
        ndcg_known=ndcg(known),
        ndcg_full=ndcg(full),
        revenue_logged_cents=_mean(earned),
        revenue_full_cents=_mean(possible),
    )


def _of_requests(rows: dict[str, NDArray[Any]], k: int) -> F64:
    """By request: gain of the ideal, logged, random, known and full order, and fees; (7, n).

    The two last rows are the expected fees of the first k as logged and of the full oracle.
    """
    starts = np.flatnonzero(_begins(rows["request_id"]))
    value = _padded(rows["relevance"], starts)
    kept = rows["p_purchase"] * (1.0 - rows["p_return"])
    money = _padded(kept * rows["price_cents"], starts)
    full = _order(_padded(rows["score_full"], starts, -np.inf))
    known = _order(_padded(rows["score_known"], starts, -np.inf))
    counts = np.diff(np.append(starts, len(rows["request_id"])))
    discount = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    return np.stack(
        [
            _dcg(np.sort(value, axis=1)[:, ::-1], k),
            _dcg(value, k),
            value.sum(axis=1) / counts * discount[np.minimum(counts, k) - 1],
            _dcg(np.take_along_axis(value, known, axis=1), k),
            _dcg(np.take_along_axis(value, full, axis=1), k),
            money[:, :k].sum(axis=1),
            np.take_along_axis(money, full, axis=1)[:, :k].sum(axis=1),
        ]
    )


def _with_truth(impressions: pd.DataFrame, oracle: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Columns of both, of the requests that have a truth, by request and position."""
    keys, given = ["request_id", "lead_id"], ["position", "price_cents"]
    truths = ["relevance", "p_purchase", "p_return", "score_full", "score_known"]
    shown = impressions
    if len(oracle) < len(shown):
        shown = shown[shown["request_id"].isin(oracle["request_id"])]
    if not _alike(shown, oracle, keys):
        # Anything but what the simulator itself wrote, in its own order.
        rows = shown[[*keys, *given]].merge(oracle, on=keys, how="inner", validate="one_to_one")
        if len(rows) != len(shown) or len(rows) != len(oracle):
            raise ContractBroken("impressions and oracle are not of the same requests and leads")
        shown = oracle = rows.sort_values(["request_id", "position"])
    columns = {name: shown[name].to_numpy() for name in ("request_id", *given)}
    return columns | {name: oracle[name].to_numpy(np.float64) for name in truths}


def _alike(shown: pd.DataFrame, oracle: pd.DataFrame, keys: list[str]) -> bool:
    """Whether both have the same pairs row for row, each request's together and by position."""
    if len(shown) != len(oracle) or shown.empty:
        return False
    begins = _begins(shown["request_id"].to_numpy())
    return bool(
        all((shown[key].to_numpy() == oracle[key].to_numpy()).all() for key in keys)
        and begins.sum() == shown["request_id"].nunique()
        and (begins[1:] | (np.diff(shown["position"].to_numpy()) > 0)).all()
    )


def _begins(request: NDArray[Any]) -> NDArray[np.bool_]:
    """Where another request begins, shape (n,)."""
    begins = np.ones(len(request), dtype=np.bool_)
    begins[1:] = request[1:] != request[:-1]
    return begins


def _mean(values: F64) -> float:
    return float(values.mean()) if len(values) else 0.0


def _padded(flat: F64, starts: NDArray[np.int64], fill: float = 0.0) -> F64:
    """One row for each request, in the order of positions, filled up at the end."""
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
