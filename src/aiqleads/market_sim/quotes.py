"""The price list as the simulated market asks for it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class QuoteMany(Protocol):
    """What `commerce.pricing.quote_many` promises."""

    def __call__(
        self,
        *,
        intent: NDArray[np.str_],
        ask_price_cents: ArrayLike,
        quality: ArrayLike,
        age_hours: ArrayLike,
        max_buyers: ArrayLike,
        tier: NDArray[np.str_],
    ) -> NDArray[np.int64]:
        """Lead fees in cents, shape (n,)."""
        ...
