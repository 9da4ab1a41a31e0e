"""The outbox, where it is delivered to, and the do-not-call list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0007_commerce'
down_revision = '0006_commerce'

# What was sold before there was an outbox: it can be sent by hand.
_SOLD_BEFORE = """
insert into outbox (event_id, agent_id, kind, order_id, lead_id, created_us, state, attempts,
                    next_try_us, failure)
select 'evt_' || order_item.order_id || '_' || order_item.lead_id, orders.agent_id, 'lead.sold',
       order_item.order_id, order_item.lead_id, orders.created_us, 'dead', 0,
       orders.created_us, 'before-endpoint'
from order_item join orders on orders.order_id = order_item.order_id
where orders.state in ('committed', 'paid', 'uncollected')
"""


def upgrade() -> None:
    op.create_table('outbox',
    sa.Column('event_id', sa.String(length=120), nullable=False),
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('kind', sa.String(length=60), nullable=False),
    sa.Column('order_id', sa.String(length=40), nullable=True),
    sa.Column('lead_id', sa.String(length=20), nullable=True),
    sa.Column('notice_id', sa.String(length=120), nullable=True),
    sa.Column('created_us', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(length=10), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('next_try_us', sa.BigInteger(), nullable=False),
    sa.Column('last_try_us', sa.BigInteger(), nullable=True),
    sa.Column('last_status', sa.Integer(), nullable=True),
    sa.Column('failure', sa.String(length=60), nullable=True),
    sa.Column('delivered_us', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state in ('waiting','delivered','dead')", name=op.f('ck_outbox_state')),
    sa.CheckConstraint("state <> 'dead' or failure is not null", name=op.f('ck_outbox_reason')),
    sa.CheckConstraint("state <> 'delivered' or delivered_us is not null", name=op.f('ck_outbox_delivered')),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_outbox_agent_id')),
    sa.PrimaryKeyConstraint('event_id', name=op.f('pk_outbox')),
    sa.UniqueConstraint('order_id', 'lead_id', 'kind', name=op.f('uq_outbox_order_id_lead_id_kind'))
    )
    op.create_index('ix_outbox_due', 'outbox', ['agent_id', 'state', 'next_try_us'])
    op.create_index('ix_outbox_agent', 'outbox', ['agent_id', 'created_us'])
    op.create_table('delivery_endpoint',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('channel', sa.String(length=10), nullable=False),
    sa.Column('key_id', sa.String(length=80), nullable=False),
    sa.Column('sealed', sa.LargeBinary(), nullable=False),
    sa.Column('created_us', sa.BigInteger(), nullable=False),
    sa.Column('changed_us', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("channel in ('webhook','email','csv')", name=op.f('ck_delivery_endpoint_channel')),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_delivery_endpoint_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', name=op.f('pk_delivery_endpoint'))
    )
    op.create_table('do_not_call',
    sa.Column('digest', sa.LargeBinary(length=16), nullable=False),
    sa.Column('as_of_us', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_do_not_call'))
    )
    op.execute(_SOLD_BEFORE)


def downgrade() -> None:
    op.drop_table('do_not_call')
    op.drop_table('delivery_endpoint')
    op.drop_table('outbox')
