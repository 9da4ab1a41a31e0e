"""What the embedded default cannot show: the statements are PostgreSQL's too, and lock."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, OperationalError

from aiqleads.errors import Refused
from aiqleads.store import holds
from aiqleads.store.prepared import Prepared
from aiqleads.store.transactions import writing


def postgres(prepared: Prepared) -> str:
    return prepared.text(postgresql.dialect(), {"leads": ["L1"], "holds": ["h"]})


def test_slots_are_locked_where_the_database_can() -> None:
    assert postgres(holds._slots).endswith("FOR UPDATE")
    assert postgres(holds._locked_items).endswith("FOR UPDATE OF lead_slot")
    assert "RETURNING agent.tier" in postgres(holds._lock_agent)


class Driver(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize("sqlstate", ["55P03", "40P01", "40001"])
def test_contention_is_busy_on_postgresql_too(shop, sqlstate: str) -> None:
    with pytest.raises(Refused, match="busy"), writing(shop.engine):
        raise DBAPIError("update", {}, Driver(sqlstate))


def test_another_database_error_is_not_hidden(shop) -> None:
    with pytest.raises(OperationalError), writing(shop.engine):
        raise OperationalError("select", {}, Exception("disk I/O error"))


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_a_thread_whose_turn_does_not_come_is_told(shop, monkeypatch) -> None:
    monkeypatch.setattr("aiqleads.store.transactions._TURN_SECONDS", 0.02)
    with writing(shop.engine), pytest.raises(Refused, match="busy"), writing(shop.engine):
        pass
    with writing(shop.engine):
        pass
