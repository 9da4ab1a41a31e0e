"""Limits that agents set themselves: caps by number and by spend, and filters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0003_commerce'
down_revision = '0002_commerce'


def upgrade() -> None:
    op.create_table('agent_cap',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('measure', sa.String(length=8), nullable=False),
    sa.Column('per', sa.String(length=8), nullable=False),
    sa.Column('most', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("measure in ('leads','spend')", name=op.f('ck_agent_cap_measure')),
    sa.CheckConstraint("per in ('hour','day','week','month')", name=op.f('ck_agent_cap_per')),
    sa.CheckConstraint("most >= 0", name=op.f('ck_agent_cap_most')),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_agent_cap_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', 'measure', 'per', name=op.f('pk_agent_cap'))
    )
    op.create_table('agent_filter',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('content', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_agent_filter_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', name=op.f('pk_agent_filter'))
    )


def downgrade() -> None:
    op.drop_table('agent_filter')
    op.drop_table('agent_cap')
