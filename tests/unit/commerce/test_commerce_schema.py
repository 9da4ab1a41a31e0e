"""The migrated schema is the one in store/tables.py, and guards the ledger by itself."""

from __future__ import annotations

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aiqleads.commerce import endpoints, invariants
from aiqleads.errors import ContractBroken
from aiqleads.settings import Settings
from aiqleads.store import ledger
from aiqleads.store.database import _config as alembic_config
from aiqleads.store.database import connect, upgrade
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


def test_what_was_sold_before_the_outbox_can_be_sent_by_hand(home: Settings) -> None:
    engine = connect(home, "commerce")
    at = {"agent": "'A1', 'A1', 'pro', 'm', 1, 0", "paid": "'A1', 'paid', 'wallet', 5, 'USD', 1"}
    with engine.connect() as connection:
        config = alembic_config("commerce")
        config.attributes |= {"connection": connection, "room": "commerce"}
        alembic.command.upgrade(config, "0004_commerce")
        connection.commit()
    with engine.begin() as connection:
        for statement in (
            f"insert into agent values ({at['agent']})",
            f"insert into orders values ('o1', {at['paid']}, null, 1, null)",
            f"insert into orders values ('o2', {at['paid'].replace('paid', 'failed')}, "
            "null, 1, null)",
            "insert into order_item values ('o1', 'L1', 1, 1, 5), ('o2', 'L2', 1, 1, 5)",
        ):
            connection.execute(text(statement))
    upgrade(engine, "commerce")
    (event,) = endpoints.listing(engine, "A1", 9)
    assert (event.order_id, event.lead_id, event.kind) == ("o1", "L1", "lead.sold")
    assert (event.state, event.failure) == ("dead", "before-endpoint")
    found = invariants.check(engine, None, 1)
    assert (found["D1"].ok, found["D2"].ok) == (True, True)
    engine.dispose()
