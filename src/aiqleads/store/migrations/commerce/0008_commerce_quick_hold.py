"""A hold of one lead in a single call, on PostgreSQL; live holds are found by their time."""

from __future__ import annotations

from alembic import op

revision = '0008_commerce'
down_revision = '0007_commerce'

# Only for what needs no explanation: as soon as anything stands in the way, or agent and lead
# have met before, no row comes back and nothing is written; `commerce.holds.place` then goes
# the long way and says why. Each statement sees what others committed while it waited for the
# agent's row (read committed), and locks are taken in the order of store/holds.py.
_QUICK_HOLD = """
create function quick_hold(
  p_agent text, p_lead text, p_hold text, p_mode text, p_now bigint,
  p_tiers text[], p_most int[], p_until bigint[],
  p_cents bigint, p_currency text, p_lines text,
  p_consent text, p_proof text, p_sellers int, p_checked bigint
) returns table (given_slot int, given_token bigint, given_us bigint, until_us bigint)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_tier text; v_at int; v_until bigint; v_granted bigint;
  v_slot record; v_free record; v_found boolean := false;
begin
  update agent set version = version + 1 where agent_id = p_agent returning tier into v_tier;
  v_at := array_position(p_tiers, v_tier);
  if v_at is null then return; end if;
  if (select count(*) from lead_slot where agent_id = p_agent and state = 'held'
      and held_until_us > p_now) >= p_most[v_at]
    or exists (select 1 from hold where hold_id = p_hold)
  then return; end if;
  for v_slot in select * from lead_slot where lead_id = p_lead order by slot for update loop
    if v_slot.agent_id = p_agent then return; end if;
    if not v_found and (v_slot.state = 'free'
        or (v_slot.state in ('held', 'blocked') and v_slot.held_until_us <= p_now)) then
      v_free := v_slot;
      v_found := true;
    end if;
  end loop;
  -- By the lead's history, which is short; an agent's is not.
  if not v_found or exists (
      select 1 from hold_item where lead_id = p_lead
      and (select agent_id from hold where hold.hold_id = hold_item.hold_id) = p_agent)
  then return; end if;
  v_until := p_until[v_at];
  v_granted := greatest(p_now, v_free.changed_us);
  if v_until <= v_granted then return; end if;
  if v_free.state = 'held' then
    update hold_item set ended_us = v_free.held_until_us, ended_how = 'expired'
    where lead_id = p_lead and slot = v_free.slot and token = v_free.token and ended_us is null;
  end if;
  update lead_slot set state = 'held', agent_id = p_agent, hold_id = p_hold,
    held_until_us = v_until, token = v_free.token + 1, changed_us = v_granted
  where lead_id = p_lead and slot = v_free.slot;
  insert into hold (hold_id, agent_id, mode, asked, exclusive, created_us, expires_us)
  values (p_hold, p_agent, p_mode, 1, false, p_now, v_until);
  insert into hold_item (hold_id, lead_id, slot, token, price_cents, currency, price_lines,
    granted_us, until_us, consent_id, consent_proof, consent_sellers, consent_checked_us)
  values (p_hold, p_lead, v_free.slot, v_free.token + 1, p_cents, p_currency, p_lines,
    v_granted, v_until, p_consent, p_proof, p_sellers, p_checked);
  return query select v_free.slot, v_free.token + 1, v_granted, v_until;
end $$
"""
_ARGUMENTS = (
    "text, text, text, text, bigint, text[], int[], bigint[], bigint, text, text, "
    "text, text, int, bigint"
)


def upgrade() -> None:
    op.drop_index('ix_lead_slot_agent', 'lead_slot')
    op.create_index('ix_lead_slot_agent', 'lead_slot', ['agent_id', 'state', 'held_until_us'])
    if op.get_bind().dialect.name == 'postgresql':
        op.execute(_QUICK_HOLD)


def downgrade() -> None:
    op.drop_index('ix_lead_slot_agent', 'lead_slot')
    op.create_index('ix_lead_slot_agent', 'lead_slot', ['agent_id', 'state'])
    if op.get_bind().dialect.name == 'postgresql':
        op.execute(f"drop function quick_hold({_ARGUMENTS})")
