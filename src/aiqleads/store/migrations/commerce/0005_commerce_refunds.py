"""Refunds, disputes, seats, the audit log, wallets that fill themselves, bought time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0005_commerce'
down_revision = '0004_commerce'

# The function append_only of PostgreSQL was made with the ledger.
_GUARDS = {
    'sqlite': [
        f"create trigger audit_no_{verb} before {verb} on audit "
        "begin select raise(abort, 'audit is append-only'); end"
        for verb in ('update', 'delete')
    ],
    'postgresql': [
        f"create trigger audit_no_{verb} before {verb} on audit "
        "for each statement execute function append_only()"
        for verb in ('update', 'delete', 'truncate')
    ],
}


def upgrade() -> None:
    op.create_table('audit',
    sa.Column('audit_id', sa.String(length=40), nullable=False),
    sa.Column('at_us', sa.BigInteger(), nullable=False),
    sa.Column('agent_id', sa.String(length=20), nullable=True),
    sa.Column('member_id', sa.String(length=40), nullable=True),
    sa.Column('key_id', sa.String(length=20), nullable=False),
    sa.Column('action', sa.String(length=200), nullable=False),
    sa.Column('status', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('audit_id', name=op.f('pk_audit'))
    )
    with op.batch_alter_table('audit', schema=None) as batch_op:
        batch_op.create_index('ix_audit_agent', ['agent_id', 'at_us'], unique=False)
        batch_op.create_index('ix_audit_at', ['at_us'], unique=False)

    op.create_table('bookmark',
    sa.Column('name', sa.String(length=40), nullable=False),
    sa.Column('at_us', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_bookmark'))
    )
    op.create_table('auto_recharge',
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('below_cents', sa.BigInteger(), nullable=False),
    sa.Column('amount_cents', sa.BigInteger(), nullable=False),
    sa.Column('daily_most_cents', sa.BigInteger(), nullable=False),
    sa.Column('payment_method', sa.String(length=60), nullable=False),
    sa.Column('paused', sa.String(length=60), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_auto_recharge_agent_id')),
    sa.PrimaryKeyConstraint('agent_id', name=op.f('pk_auto_recharge'))
    )
    op.create_table('member',
    sa.Column('member_id', sa.String(length=40), nullable=False),
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('name', sa.String(length=120), nullable=False),
    sa.Column('role', sa.String(length=10), nullable=False),
    sa.Column('created_us', sa.BigInteger(), nullable=False),
    sa.Column('removed_us', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("role in ('admin','buyer','viewer')", name=op.f('ck_member_role')),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_member_agent_id')),
    sa.PrimaryKeyConstraint('member_id', name=op.f('pk_member'))
    )
    with op.batch_alter_table('member', schema=None) as batch_op:
        batch_op.create_index('ix_member_agent', ['agent_id'], unique=False)

    op.create_table('hold_extension',
    sa.Column('extension_id', sa.String(length=40), nullable=False),
    sa.Column('hold_id', sa.String(length=40), nullable=False),
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('hours', sa.Integer(), nullable=False),
    sa.Column('price_cents', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.String(length=3), nullable=False),
    sa.Column('until_us', sa.BigInteger(), nullable=False),
    sa.Column('created_us', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_hold_extension_agent_id')),
    sa.ForeignKeyConstraint(['hold_id'], ['hold.hold_id'], name=op.f('fk_hold_extension_hold_id')),
    sa.PrimaryKeyConstraint('extension_id', name=op.f('pk_hold_extension'))
    )
    with op.batch_alter_table('hold_extension', schema=None) as batch_op:
        batch_op.create_index('ix_hold_extension_hold', ['hold_id'], unique=False)

    op.create_table('dispute',
    sa.Column('dispute_id', sa.String(length=60), nullable=False),
    sa.Column('attempt_id', sa.String(length=40), nullable=False),
    sa.Column('order_id', sa.String(length=40), nullable=True),
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('amount_cents', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.String(length=3), nullable=False),
    sa.Column('state', sa.String(length=6), nullable=False),
    sa.Column('reason', sa.String(length=60), nullable=False),
    sa.Column('opened_us', sa.BigInteger(), nullable=False),
    sa.Column('closed_us', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state in ('open','won','lost')", name=op.f('ck_dispute_state')),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_dispute_agent_id')),
    sa.ForeignKeyConstraint(['attempt_id'], ['payment_attempt.attempt_id'], name=op.f('fk_dispute_attempt_id')),
    sa.ForeignKeyConstraint(['order_id'], ['orders.order_id'], name=op.f('fk_dispute_order_id')),
    sa.PrimaryKeyConstraint('dispute_id', name=op.f('pk_dispute'))
    )
    with op.batch_alter_table('dispute', schema=None) as batch_op:
        batch_op.create_index('ix_dispute_state', ['state'], unique=False)

    op.create_table('refund',
    sa.Column('refund_id', sa.String(length=60), nullable=False),
    sa.Column('order_id', sa.String(length=40), nullable=True),
    sa.Column('attempt_id', sa.String(length=40), nullable=True),
    sa.Column('agent_id', sa.String(length=20), nullable=False),
    sa.Column('amount_cents', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.String(length=3), nullable=False),
    sa.Column('state', sa.String(length=10), nullable=False),
    sa.Column('stripe_id', sa.String(length=60), nullable=True),
    sa.Column('tries', sa.Integer(), server_default='0', nullable=False),
    sa.Column('asked_by', sa.String(length=60), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('failure', sa.Text(), nullable=True),
    sa.Column('created_us', sa.BigInteger(), nullable=False),
    sa.Column('settled_us', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state in ('open','succeeded','failed')", name=op.f('ck_refund_state')),
    sa.CheckConstraint('amount_cents > 0', name=op.f('ck_refund_amount')),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_refund_agent_id')),
    sa.ForeignKeyConstraint(['attempt_id'], ['payment_attempt.attempt_id'], name=op.f('fk_refund_attempt_id')),
    sa.ForeignKeyConstraint(['order_id'], ['orders.order_id'], name=op.f('fk_refund_order_id')),
    sa.PrimaryKeyConstraint('refund_id', name=op.f('pk_refund')),
    sa.UniqueConstraint('stripe_id', name=op.f('uq_refund_stripe_id'))
    )
    with op.batch_alter_table('refund', schema=None) as batch_op:
        batch_op.create_index('ix_refund_order', ['order_id'], unique=False)
        batch_op.create_index('ix_refund_state', ['state'], unique=False)

    with op.batch_alter_table('api_key', schema=None) as batch_op:
        batch_op.add_column(sa.Column('member_id', sa.String(length=40), nullable=True))
        batch_op.create_foreign_key(batch_op.f('fk_api_key_member_id'), 'member', ['member_id'], ['member_id'])
    with op.batch_alter_table('payment_attempt', schema=None) as batch_op:
        batch_op.add_column(sa.Column('tries', sa.Integer(), server_default='0', nullable=False))
    for guard in _GUARDS[op.get_bind().dialect.name]:
        op.execute(guard)


def downgrade() -> None:
    with op.batch_alter_table('payment_attempt', schema=None) as batch_op:
        batch_op.drop_column('tries')
    with op.batch_alter_table('api_key', schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f('fk_api_key_member_id'), type_='foreignkey')
        batch_op.drop_column('member_id')
    for name in ('refund', 'dispute', 'hold_extension', 'member', 'auto_recharge', 'bookmark', 'audit'):
        op.drop_table(name)
