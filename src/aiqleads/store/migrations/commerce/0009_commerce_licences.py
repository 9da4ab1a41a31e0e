"""Licences of agents, as an operator looked them up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0009_commerce'
down_revision = '0008_commerce'


def upgrade() -> None:
    op.create_table('agent_licence',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('state', sa.String(length=2), nullable=False),
    sa.Column('number', sa.String(length=40), nullable=False),
    sa.Column('expires_us', sa.BigInteger(), nullable=True),
    sa.Column('noted_by', sa.String(length=80), nullable=False),
    sa.Column('noted_us', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_agent_licence_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', 'state', name=op.f('pk_agent_licence'))
    )


def downgrade() -> None:
    op.drop_table('agent_licence')
