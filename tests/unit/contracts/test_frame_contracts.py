from __future__ import annotations

import pandas as pd
import pytest

from aiqleads.contracts.frames import FRAMES, check_frame
from aiqleads.errors import ContractBroken
from aiqleads.store.tables import lead


def test_the_leads_frame_has_the_columns_of_the_table_and_nothing_of_the_sale() -> None:
    names = [promise.name for promise in FRAMES["leads"]]
    assert names == [column.name for column in lead.columns if column.name in names]
    assert not {"sold_market_us", "price_cents", "sale_id", "avalue", "age"} & set(names)


def test_every_column_has_a_meaning_and_a_grain() -> None:
    for promises in FRAMES.values():
        assert all(each.about and each.grain for each in promises)


def test_a_frame_that_breaks_its_contract_names_the_rule() -> None:
    sales = pd.DataFrame(
        {
            "sale_id": ["S1", "S1"],
            "sold_market_us": pd.array([1, None], "Int64"),
            "price_cents": [0, 5],
            "living_area_sqft": [900.0, None],
            "lon": [-83.5, -83.5],
            "lat": [41.6, 41.6],
            "cell": [622245847195844607] * 2,
            "region": ["r", "r"],
            "utm_x_m": [1.0, 1.0],
            "utm_y_m": [1.0, 1.0],
        }
    )
    with pytest.raises(ContractBroken, match="price_cents: from 1 cents"):
        check_frame("sales", sales)
    with pytest.raises(ContractBroken):
        check_frame("sales", sales.assign(price_cents=5))  # the same sale_id twice
    check_frame("sales", sales.iloc[:1].assign(price_cents=5))
