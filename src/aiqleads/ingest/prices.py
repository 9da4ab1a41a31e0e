"""What homes usually cost in an area, for leads whose person named no price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from aiqleads.store.homes import asked_prices, sale_prices

#: prices that make a median of an area
ENOUGH = 5


@dataclass(frozen=True)
class UsualPrices:
    """Medians in cents: of the sales of a region, of the homes for sale in a ZIP, of all sales."""

    by_region: Mapping[str, int]
    by_zip: Mapping[str, int]
    everywhere: int | None

    def of(self, region: str | None, zipcode: str | None) -> int | None:
        """The nearest one that is known."""
        if region in self.by_region:
            return self.by_region[str(region)]
        if zipcode in self.by_zip:
            return self.by_zip[str(zipcode)]
        return self.everywhere


def usual_prices(connection: Connection, market: str) -> UsualPrices:
    """The medians of a market as it is stored; an area of fewer than ENOUGH has none."""
    sold = _gathered(sale_prices(connection, market))
    asked = _gathered(asked_prices(connection, market))
    prices = sold if len(sold) else asked
    return UsualPrices(
        _medians(sold),
        _medians(asked),
        int(prices["cents"].median()) if len(prices) >= ENOUGH else None,
    )


def _gathered(blocks: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Columns area (coded) and cents of many blocks of rows, in little memory."""
    codes: dict[str, int] = {}
    areas, cents = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for rows in blocks:
        found = [-1 if row[0] is None else codes.setdefault(row[0], len(codes)) for row in rows]
        areas.append(np.array(found, np.int32))
        cents.append(np.array([row[1] for row in rows], np.int64))
    names = pd.Index(list(codes), dtype=object)
    area = pd.Categorical.from_codes(np.concatenate(areas), categories=names)
    return pd.DataFrame({"area": area, "cents": np.concatenate(cents)})


def _medians(prices: pd.DataFrame) -> dict[str, int]:
    grouped = prices.groupby("area", observed=True)["cents"].agg(["median", "size"])
    enough = grouped[grouped["size"] >= ENOUGH]
    return {str(area): int(cents) for area, cents in enough["median"].items()}
