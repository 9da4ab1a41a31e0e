"""People who are not to be sold; consents that were taken back are found by when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0003_leads'
down_revision = '0002_leads'


def upgrade() -> None:
    op.create_table('suppression',
    sa.Column('digest', sa.LargeBinary(length=16), nullable=False),
    sa.Column('kind', sa.String(length=10), nullable=False),
    sa.Column('since_us', sa.BigInteger(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('noted_by', sa.String(length=60), nullable=False),
    sa.Column('lifted_us', sa.BigInteger(), nullable=True),
    sa.Column('lifted_by', sa.String(length=60), nullable=True),
    sa.CheckConstraint("kind in ('suppressed','revoked')", name=op.f('ck_suppression_kind')),
    sa.PrimaryKeyConstraint('digest', 'kind', name=op.f('pk_suppression'))
    )
    op.create_index('ix_suppression_since', 'suppression', ['since_us'])
    op.create_index('ix_suppression_lifted', 'suppression', ['lifted_us'])
    op.create_index('ix_consent_revoked', 'consent', ['revoked_us'])


def downgrade() -> None:
    op.drop_index('ix_consent_revoked', 'consent')
    op.drop_table('suppression')
