"""Returns of leads, and what agents are told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0004_commerce'
down_revision = '0003_commerce'


def upgrade() -> None:
    op.create_table('lead_return',
    sa.Column('return_id', sa.String(length=40), nullable=False),
    sa.Column('order_id', sa.String(length=40), nullable=False),
    sa.Column('lead_id', sa.String(length=20), nullable=False),
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('reason', sa.String(length=30), nullable=False),
    sa.Column('evidence', sa.Text(), nullable=False),
    sa.Column('state', sa.String(length=10), nullable=False),
    sa.Column('credit_cents', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.String(length=3), nullable=False),
    sa.Column('asked_us', sa.BigInteger(), nullable=False),
    sa.Column('decided_us', sa.BigInteger(), nullable=True),
    sa.Column('decided_by', sa.String(length=60), nullable=True),
    sa.Column('note', sa.Text(), nullable=True),
    sa.CheckConstraint("state in ('waiting','credited','refused')", name=op.f('ck_lead_return_state')),
    sa.CheckConstraint("credit_cents > 0", name=op.f('ck_lead_return_credit')),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_lead_return_agent_id')),
    sa.ForeignKeyConstraint(['order_id'], ['orders.order_id'], name=op.f('fk_lead_return_order_id')),
    sa.PrimaryKeyConstraint('return_id', name=op.f('pk_lead_return')),
    sa.UniqueConstraint('order_id', 'lead_id', name=op.f('uq_lead_return_order_id_lead_id'))
    )
    op.create_index('ix_lead_return_agent', 'lead_return', ['agent_id', 'asked_us'])
    op.create_index('ix_lead_return_state', 'lead_return', ['state', 'asked_us'])
    op.create_table('notice',
    sa.Column('notice_id', sa.String(length=120), nullable=False),
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('kind', sa.String(length=40), nullable=False),
    sa.Column('lead_id', sa.String(length=20), nullable=True),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.Column('created_us', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_notice_agent_id')),
    sa.PrimaryKeyConstraint('notice_id', name=op.f('pk_notice'))
    )
    op.create_index('ix_notice_agent', 'notice', ['agent_id', 'created_us'])


def downgrade() -> None:
    op.drop_table('notice')
    op.drop_table('lead_return')
