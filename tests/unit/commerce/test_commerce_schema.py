"""The migrated schema is the one in store/tables.py, and guards the ledger by itself."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aiqleads.errors import ContractBroken
from aiqleads.store import ledger
from aiqleads.store.tables import commerce_metadata


def test_migrations_make_the_tables_that_the_code_knows(shop) -> None:
    with shop.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "alembic_version_commerce", "compare_type": True}
        )
        assert compare_metadata(context, commerce_metadata) == []


@pytest.mark.parametrize(
    "change",
    [
        "update entry set amount_cents = 1",
        "delete from entry",
        "update txn set about = ''",
        "delete from txn",
    ],
)
def test_the_ledger_cannot_be_changed(shop, change: str) -> None:
    shop.fill_wallet("A1", 1_000)
    with pytest.raises(DBAPIError, match="append-only"), shop.engine.begin() as connection:
        connection.execute(text(change))


def test_a_posting_must_balance_and_happens_once(shop) -> None:
    legs = [ledger.Leg("revenue", -5), ledger.Leg("stripe_clearing", 5)]
    with shop.engine.begin() as connection:
        assert ledger.post(connection, "t:1", "test", legs, "USD", 1)
        assert not ledger.post(connection, "t:1", "test", legs, "USD", 2)
        assert ledger.total_cents(connection) == 0
        assert ledger.debit_balance(connection, "stripe_clearing") == 5
        for wrong in ([], legs[:1], [ledger.Leg("revenue", 0), ledger.Leg("x", 0)]):
            with pytest.raises(ContractBroken):
                ledger.post(connection, "t:2", "test", wrong, "USD", 1)
