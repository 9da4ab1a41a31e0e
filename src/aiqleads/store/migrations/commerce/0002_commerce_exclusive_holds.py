"""Exclusive holds: slots kept empty for one agent, slots that are closed; ends by lead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002_commerce'
down_revision = '0001_commerce'

_OWNED = sa.text("state in ('held','sold')")


def upgrade() -> None:
    with op.batch_alter_table('hold') as batch_op:
        batch_op.add_column(
            sa.Column('exclusive', sa.Boolean(), nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table('hold_item') as batch_op:
        batch_op.add_column(
            sa.Column('until_us', sa.BigInteger(), nullable=False, server_default='0')
        )
    op.execute(
        "update hold_item set until_us = "
        "(select expires_us from hold where hold.hold_id = hold_item.hold_id)"
    )
    with op.batch_alter_table('lead_slot') as batch_op:
        for name in ('ck_lead_slot_state', 'ck_lead_slot_owner'):
            batch_op.drop_constraint(batch_op.f(name), type_='check')
        batch_op.drop_constraint(batch_op.f('uq_lead_slot_lead_id_agent_id'), type_='unique')
        batch_op.create_check_constraint(
            batch_op.f('ck_lead_slot_state'),
            "state in ('free','held','blocked','sold','closed')",
        )
        batch_op.create_check_constraint(
            batch_op.f('ck_lead_slot_owner'),
            "(state in ('held','blocked','sold')) = (agent_id is not null)",
        )
    op.create_index(
        'uq_lead_slot_owner', 'lead_slot', ['lead_id', 'agent_id'], unique=True,
        sqlite_where=_OWNED, postgresql_where=_OWNED,
    )


def downgrade() -> None:
    op.execute("update lead_slot set state = 'free', agent_id = null, hold_id = null, "
               "held_until_us = null where state = 'blocked'")
    op.drop_index('uq_lead_slot_owner', 'lead_slot')
    with op.batch_alter_table('lead_slot') as batch_op:
        for name in ('ck_lead_slot_state', 'ck_lead_slot_owner'):
            batch_op.drop_constraint(batch_op.f(name), type_='check')
        batch_op.create_check_constraint(
            batch_op.f('ck_lead_slot_state'), "state in ('free','held','sold','closed')"
        )
        batch_op.create_check_constraint(
            batch_op.f('ck_lead_slot_owner'),
            "(state in ('held','sold')) = (agent_id is not null)",
        )
        batch_op.create_unique_constraint(
            batch_op.f('uq_lead_slot_lead_id_agent_id'), ['lead_id', 'agent_id']
        )
    with op.batch_alter_table('hold_item') as batch_op:
        batch_op.drop_column('until_us')
    with op.batch_alter_table('hold') as batch_op:
        batch_op.drop_column('exclusive')
