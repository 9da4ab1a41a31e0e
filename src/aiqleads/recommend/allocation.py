"""What a place on a page is worth when a lead sells only a few times and budgets are bounded.

A page of one agent's k best is blind to the others: a lead that may be sold twice is put
before everybody who likes it, and sells to whoever comes first, while leads that two agents
would have liked next best lie unseen. The market's problem is an assignment of attention:

    maximise    sum over agents a, leads l, places k of   R_al * look_k * p_al * f_al * X_alk
    subject to  sales of each lead <= its places left     (price of a place: slot_l, cents)
                fees of each agent <= its budget left     (price of budget:  budget_a, 0..1)
                X_a is a page: each lead once, each place once

R_al: requests that agent a is expected to make while lead l is on offer; look_k: P(looks at
place k); p_al: P(keeps a purchase | looks); f_al: the fee. Given the prices, the best page of
each agent sorts by p * (f * (1 - budget_a) - slot_l), because attention falls with the place
(rearrangement inequality). So the dual is minimised by projected subgradient steps whose
oracle is a sort, and the same sort at request time is the policy: bid prices in the sense of
Talluri and van Ryzin ("An analysis of bid-price controls for network revenue management",
Management Science, 1998), resolved at every publication as in Agrawal, Wang and Ye ("A
dynamic near-optimal algorithm for online linear programming", Operations Research, 2014);
the factor 1 - budget_a is how AdWords discounts a spender (Mehta, Saberi, Vazirani and
Vazirani, "AdWords and generalized online matching", J. ACM, 2007).

A lead is bought once by an agent, so the sales that a forecast counts are saturating:
1 - exp(-R * look * p). Nothing here knows more than a log of impressions and the snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

#: of the worth of a lead, what is its own money's and not an average lead's; each other share was
#: worth less where the true chances are known (docs/tried.md)
SHARE = 1.0
#: of the prices, how much is believed: a plan knows neither who else comes nor how leads age
TRUST = 0.25
#: places of a page that count when it is told to how many agents a lead is offered
OFFERED_PLACES = 10
_ROUNDS = 50
_MOST_BUDGET_PRICE = 0.95
_LEAST_WORTH_CENTS = 1e-9
_HALF = 2
_STEPS, _SMALLEST_STEP = 50, 1e-4

# What is believed before any impression: in a thousand looks at an average lead twenty
# purchases, a unit of score is a unit of the logarithm, and attention falls like 1/sqrt(k).
_PRIOR_CHANCE, _PRIOR_SLOPE, _PRIOR_ATTENTION = 0.02, 1.0, 0.5
_PRIOR_PRECISION = 4.0


@dataclass(frozen=True)
class Chances:
    """From scores to chances: P(keeps a purchase | looks) = 1 - exp(-exp(intercept + slope s)).

    attention: P(looks at place k) = k ** -attention. The complementary log-log keeps the
    order of the scores, ties apart, which a step function (isotonic) would not.
    """

    intercept: float
    slope: float
    attention: float

    def of(self, scores: F64) -> F64:
        """Chances of a purchase by scores, same shape."""
        return np.asarray(-np.expm1(-np.exp(np.minimum(self.intercept + self.slope * scores, 3.0))))

    def looks(self, places: NDArray[np.integer]) -> F64:
        """Chances that places (from 1) are looked at, same shape."""
        return np.asarray(places.astype(np.float64) ** -self.attention)


def fit_chances(
    scores: F64, places: NDArray[np.integer], opened: NDArray[np.bool_], bought: NDArray[np.bool_]
) -> Chances:
    """Fits `Chances` to observed impressions: (n,) each, places from 1.

    A Poisson regression of openings on score and log place (log link) gives the attention;
    with that known, purchases are fitted on the score as P(look) * (1 - exp(-exp(line))) by
    Fisher scoring (McCullagh and Nelder, "Generalized linear models", 1989). Both lean to a
    prior that counts like a few events, so an empty log gives the prior. The slope is never
    below a twentieth: the order of the scores stays.
    """
    depth = np.log(places.astype(np.float64))
    mean = float(scores.mean()) if len(scores) else 0.0
    unit = (float(scores.std()) if len(scores) else 0.0) or 1.0
    z = (scores - mean) / unit
    ones = np.ones(len(z))
    prior = np.array([np.log(_PRIOR_CHANCE), _PRIOR_SLOPE * unit, -_PRIOR_ATTENTION])
    views = _fitted(np.column_stack([ones, z, depth]), opened, None, prior)
    attention = float(np.clip(-views[2], 0.0, 2.0))
    looks = np.exp(-attention * depth)
    level, slope = _fitted(np.column_stack([ones, z]), bought, looks, prior[:2])
    slope = max(slope / unit, 0.05)
    return Chances(float(level - slope * mean), float(slope), attention)


def _fitted(X: F64, y: NDArray[np.bool_], looks: F64 | None, prior: F64) -> F64:
    """Coefficients that maximise the penalised likelihood; Fisher scoring with halved steps.

    Without `looks` counts of rate exp(line); with them events of chance
    looks * (1 - exp(-exp(line))).
    """
    penalty = np.full(X.shape[1], _PRIOR_PRECISION)
    penalty[0] = 1.0

    def mean_of(beta: F64) -> tuple[F64, F64, F64]:
        """Means, their slopes by the line, and their variances."""
        rate = np.exp(np.clip(X @ beta, -30.0, 3.0 if looks is not None else 10.0))
        if looks is None:
            return rate, rate, rate
        mean = np.minimum(looks * -np.expm1(-rate), 1.0 - 1e-9)
        return mean, looks * rate * np.exp(-rate), mean * (1.0 - mean)

    def loss(beta: F64) -> float:
        mean, _, _ = mean_of(beta)
        rest = mean.sum() if looks is None else -np.log1p(-mean[~y]).sum()
        apart = beta - prior
        return float(rest - np.log(mean[y]).sum() + 0.5 * (penalty * apart * apart).sum())

    beta, now = prior.copy(), loss(prior)
    for _ in range(_STEPS):
        mean, slope, spread = mean_of(beta)
        gradient = X.T @ (slope * (mean - y) / spread) + penalty * (beta - prior)
        weight = slope * slope / spread
        step = np.linalg.solve((X * weight[:, None]).T @ X + np.diag(penalty), gradient)
        size = 1.0
        while size > _SMALLEST_STEP and not loss(beta - size * step) <= now:
            size /= _HALF
        before, beta = now, beta - size * step
        now = loss(beta)
        if size <= _SMALLEST_STEP or before - now < 1e-9 * (1.0 + abs(now)):
            break
    return beta


@dataclass(frozen=True)
class Demand:
    """Who could be shown what: one entry for each lead of each page, (e,).

    page: numbers of pages, rising; an agent's requests are all alike unless somebody knows
    better, so a page usually stands for an agent. agent, lead: of m agents and n leads.
    requests: that are expected to show the page while the lead is on offer. chance: of a kept
    purchase when looked at. places: (n,) that are left of each lead. budget_cents: (m,) left
    for those requests. pair: (e,) numbers of the pairs of agent and lead, where several pages
    are one agent's; None where each entry is a pair of its own.
    """

    page: I64
    agent: I64
    lead: I64
    chance: F64
    fee_cents: F64
    requests: F64
    places: F64
    budget_cents: F64
    pair: I64 | None = None


@dataclass(frozen=True)
class Prices:
    """The duals, and what they were found to lead to.

    slot_cents: (n,) what a place of each lead is worth to others. budget: (m,) in [0, 1),
    what a cent of each agent's budget is worth to itself later. offered: (n,) agents who have
    the lead among their first ten. sold: (n,) forecast sales.
    """

    slot_cents: F64
    budget: F64
    offered: I64
    sold: F64


def worth(
    chance: F64,
    fee_cents: F64 | I64,
    slot_cents: F64,
    budget: F64 | float,
    usual_fee_cents: float,
    share: float = SHARE,
) -> F64:
    """Expected cents of a look at each lead, net of what its place and the money cost others.

        p * ((1 - share) * usual fee + share * (fee * (1 - budget) - slot))

    With share 0 this is the order of the scores (relevance), with share 1 the pure bid price.
    All (n,), or as they broadcast.
    """
    own = fee_cents * (1.0 - budget) - slot_cents
    return np.asarray(chance * ((1.0 - share) * usual_fee_cents + share * own))


def as_score(worth_cents: F64) -> F64:
    """Worth on the scale of scores (its logarithm), which a draw's temperature divides."""
    return np.asarray(np.log(np.maximum(worth_cents, _LEAST_WORTH_CENTS)))


def solve(
    demand: Demand,
    attention: float,
    shown: int,
    *,
    usual_fee_cents: float,
    share: float = SHARE,
    rounds: int = _ROUNDS,
    start: Prices | None = None,
) -> Prices:
    """Prices at which forecast sales fit the places left and forecast fees the budgets left.

    attention: exponent of `Chances.looks`. shown: leads on a page. start: prices to begin
    with, of the same leads and agents. Projected subgradient
    with steps that fall like 1/sqrt(round), averaged over the second half of the rounds
    (Nemirovski and Yudin, 1983). A round costs one sort of the pairs.
    """
    n, m = len(demand.places), len(demand.budget_cents)
    slot = np.zeros(n) if start is None else start.slot_cents.copy()
    budget = np.zeros(m) if start is None else start.budget.copy()
    slots, budgets = np.zeros(n), np.zeros(m)
    pages = partial(
        _pages,
        demand,
        # Pages stand in rising order, so a sort leaves each where it was.
        first=np.searchsorted(demand.page, demand.page),
        looks=np.append(0.0, np.arange(1.0, shown + 1.0) ** -attention),
        usual_fee_cents=usual_fee_cents,
        share=share,
    )
    for turn in range(rounds):
        _, sold, spent = pages(slot, budget)
        step = 1.0 / np.sqrt(turn + 1.0)
        slot += step * usual_fee_cents * np.clip(sold - demand.places, -1.0, 2.0)
        slot = np.clip(slot, 0.0, 10.0 * usual_fee_cents)
        over = (spent - demand.budget_cents) / np.maximum(demand.budget_cents, usual_fee_cents)
        budget = np.clip(budget + 0.5 * step * np.clip(over, -1.0, 1.0), 0.0, _MOST_BUDGET_PRICE)
        if turn >= rounds // _HALF:
            slots += slot
            budgets += budget
    kept = max(rounds - rounds // _HALF, 1)
    slot, budget = slots / kept, budgets / kept
    place, sold, _ = pages(slot, budget)
    offered = np.bincount(demand.lead[place <= OFFERED_PLACES], minlength=n)
    return Prices(slot, budget, offered.astype(np.int64), sold)


def _pages(
    demand: Demand,
    slot: F64,
    budget: F64,
    *,
    first: I64,
    looks: F64,
    usual_fee_cents: float,
    share: float,
) -> tuple[I64, F64, F64]:
    """Each pair's place on its agent's page (e,), sales of leads (n,), fees of agents (m,)."""
    value = worth(
        demand.chance,
        demand.fee_cents,
        slot[demand.lead],
        budget[demand.agent],
        usual_fee_cents,
        share,
    )
    # One key for page and worth sorts in half the time of two.
    width = 1.0 + float(np.ptp(value)) if len(value) else 1.0
    order = np.argsort(demand.page * width - value)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - first + 1
    look = looks[np.where(place < len(looks), place, 0)]
    sales = _once(demand.requests * look * demand.chance, demand.pair)
    sold = np.bincount(demand.lead, sales, len(slot)).astype(np.float64)
    spent = np.bincount(demand.agent, sales * demand.fee_cents, len(budget)).astype(np.float64)
    return place, sold, spent


def _once(wanted: F64, pair: I64 | None) -> F64:
    """Sales by what would be bought if one could buy again and again: once a pair at most."""
    if pair is None:
        return np.asarray(-np.expm1(-wanted))
    whole = np.bincount(pair, wanted)
    share = np.where(whole > 0, -np.expm1(-whole) / np.maximum(whole, 1e-300), 0.0)
    return np.asarray(wanted * share[pair])
