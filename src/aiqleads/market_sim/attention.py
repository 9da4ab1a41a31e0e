"""What of a ranking an agent looks at: three models, of which the preset chooses.

**Position** (the position-based model: Richardson, Dominowska and Ragno, "Predicting
clicks", WWW 2007): P(look) = position ** -exponent of the device, whatever stands there.

**Cascade** (the dependent click model: Guo, Liu and Wang, "Efficient multiple-click models
in web search", WSDM 2009): the agent goes from the top down and stops at some lead for
good. After a lead that was opened it goes on with another chance than after one that was
not. Here the second chance may be below 1 as well, so that long lists tire.

**Map** (after Haldar et al., "Learning to rank for maps at Airbnb", KDD 2024: attention on
a map is no matter of position): P(look) = exp(-distance from the map's centre / reach)
/ (1 + neighbours) ** exponent, with the agent's home as the centre and as neighbours the
other leads of the same ranking within a few hundred metres.

On lists **trust** (Agarwal, Wang, Li, Bendersky and Najork, "Addressing trust bias for
unbiased learning-to-rank", WWW 2019) opens what stands on top, given a look, also where the
card does not please: with chance trust * position ** -trust_exponent. Who opened out of
trust alone goes no further, so trust moves clicks and no relevance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiqleads.market_sim.draws import F64
from aiqleads.market_sim.policy import Device
from aiqleads.market_sim.presets import Examination

Bools = NDArray[np.bool_]


def by_position(shown: int, device: Device, rule: Examination) -> F64:
    """P(look) of positions 1 to `shown` under the position-based model."""
    exponent = rule.desktop_exponent if device == "desktop" else rule.mobile_exponent
    return np.asarray(np.arange(1, shown + 1, dtype=np.float64) ** -exponent)


def trusted(shown: int, rule: Examination) -> F64:
    """P(opened because of the place | looked at) of positions 1 to `shown` of a list."""
    return np.asarray(rule.trust * np.arange(1, shown + 1) ** -rule.trust_exponent)


def cascade(luck: F64, opens: Bools, device: Device, rule: Examination) -> Bools:
    """Which leads of a list are looked at, top down; shape (n,).

    luck: a uniform number for each lead. opens: what would be opened, were it looked at.
    """
    after_skip = rule.desktop_go_on if device == "desktop" else rule.mobile_go_on
    goes_on = luck < np.where(opens, rule.go_on_after_click, after_skip)
    looks = np.ones(len(luck), dtype=np.bool_)
    looks[1:] = np.logical_and.accumulate(goes_on[:-1])
    return looks


def on_map(x_m: F64, y_m: F64, centre: tuple[float, float], rule: Examination) -> F64:
    """P(look) of each lead of a map, shape (n,); places in metres."""
    from_centre = np.hypot(x_m - centre[0], y_m - centre[1])
    apart = np.hypot(x_m[:, None] - x_m[None, :], y_m[:, None] - y_m[None, :])
    neighbours = (apart <= rule.map_clutter_m).sum(axis=1) - 1
    crowding = (1.0 + neighbours) ** -rule.map_clutter_exponent
    return np.asarray(np.exp(-from_centre / rule.map_reach_m) * crowding)


def usual(shown: int, device: Device, opens: float, rule: Examination) -> F64:
    """P(look) of positions 1 to `shown` of a list, where each lead is opened with chance `opens`.

    Exact for the position-based model; for the cascade, a mean over what may stand above.
    """
    if rule.kind == "position":
        return by_position(shown, device, rule)
    after_skip = rule.desktop_go_on if device == "desktop" else rule.mobile_go_on
    goes_on = opens * rule.go_on_after_click + (1.0 - opens) * after_skip
    return np.asarray(goes_on ** np.arange(shown, dtype=np.float64))
