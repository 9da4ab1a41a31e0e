"""The consent that each sale rests on; the people whom an agent knows already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0006_commerce'
down_revision = '0005_commerce'

_NOTED = ('hold_item', 'order_item')


def upgrade() -> None:
    for name in _NOTED:
        with op.batch_alter_table(name) as batch_op:
            batch_op.add_column(sa.Column('consent_id', sa.String(length=20), nullable=True))
            batch_op.add_column(sa.Column('consent_proof', sa.String(length=200), nullable=True))
            batch_op.add_column(sa.Column('consent_sellers', sa.Integer(), nullable=True))
            batch_op.add_column(sa.Column('consent_checked_us', sa.BigInteger(), nullable=True))
    # Sold before consents were noted with a sale: nothing is made up for it.
    op.execute("update order_item set consent_id = ''")
    op.create_index('ix_order_item_consent', 'order_item', ['consent_id'])
    op.create_table('agent_contact',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('digest', sa.LargeBinary(length=16), nullable=False),
    sa.Column('uploaded_us', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_agent_contact_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', 'digest', name=op.f('pk_agent_contact'))
    )
    op.create_table('contact_day',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('day_us', sa.BigInteger(), nullable=False),
    sa.Column('uploaded', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_contact_day_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', 'day_us', name=op.f('pk_contact_day'))
    )
    op.create_table('duplicate_answer',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('lead_id', sa.String(length=20), nullable=False),
    sa.Column('answered_us', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_duplicate_answer_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', 'lead_id', name=op.f('pk_duplicate_answer'))
    )
    op.create_index('ix_duplicate_answer_time', 'duplicate_answer', ['agent_id', 'answered_us'])


def downgrade() -> None:
    op.drop_table('duplicate_answer')
    op.drop_table('contact_day')
    op.drop_table('agent_contact')
    op.drop_index('ix_order_item_consent', 'order_item')
    for name in _NOTED:
        with op.batch_alter_table(name) as batch_op:
            for column in ('consent_checked_us', 'consent_sellers', 'consent_proof', 'consent_id'):
                batch_op.drop_column(column)
