"""A hold of one lead in a single call, on PostgreSQL, in fewer statements than before."""

from __future__ import annotations

from importlib import import_module

from alembic import op

revision = '0010_commerce'
down_revision = '0009_commerce'

# Only for what needs no explanation: as soon as anything stands in the way, or agent and lead
# have met before, nothing comes back and nothing is written; `commerce.holds.place` then goes
# the long way and says why. Each statement sees what others committed while it waited for the
# agent's row (read committed), and locks are taken in the order of store/holds.py: whoever
# waited for a slot reads it anew, and the agent's own holds cannot change under its row's lock.
_QUICK_HOLD = """
create function quick_hold(
  p_agent text, p_lead text, p_hold text, p_mode text, p_now bigint, p_ends bigint,
  p_tiers text[], p_most int[], p_spans bigint[],
  p_cents bigint, p_currency text, p_lines text,
  p_consent text, p_proof text, p_sellers int, p_checked bigint,
  out given_slot int, out given_token bigint, out given_us bigint, out until_us bigint
) language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_tier text; v_at int; v_until bigint; v_granted bigint; v_stop boolean;
  v_slot int; v_token bigint; v_state text; v_held_until bigint; v_changed bigint;
begin
  update agent set version = version + 1 where agent_id = p_agent returning tier into v_tier;
  v_at := array_position(p_tiers, v_tier);
  if v_at is null then return; end if;
  with locked as materialized (
    select * from lead_slot where lead_id = p_lead order by slot for update
  )
  select slot, token, state, held_until_us, changed_us,
    exists (select 1 from locked where agent_id = p_agent)
    or exists (select 1 from hold where hold_id = p_hold)
    or (select count(*) from lead_slot where agent_id = p_agent and state = 'held'
      and held_until_us > p_now) >= p_most[v_at]
    -- By the lead's history, which is short; an agent's is not.
    or exists (select 1 from hold_item where lead_id = p_lead
      and (select agent_id from hold where hold.hold_id = hold_item.hold_id) = p_agent)
  into v_slot, v_token, v_state, v_held_until, v_changed, v_stop
  from locked
  where state = 'free' or (state in ('held', 'blocked') and held_until_us <= p_now)
  order by slot limit 1;
  if v_slot is null or v_stop then return; end if;
  v_until := least(p_now + p_spans[v_at], p_ends);
  v_granted := greatest(p_now, v_changed);
  if v_until <= v_granted then return; end if;
  if v_state = 'held' then
    update hold_item set ended_us = v_held_until, ended_how = 'expired'
    where lead_id = p_lead and slot = v_slot and token = v_token and ended_us is null;
  end if;
  update lead_slot set state = 'held', agent_id = p_agent, hold_id = p_hold,
    held_until_us = v_until, token = v_token + 1, changed_us = v_granted
  where lead_id = p_lead and slot = v_slot;
  with head as (
    insert into hold (hold_id, agent_id, mode, asked, exclusive, created_us, expires_us)
    values (p_hold, p_agent, p_mode, 1, false, p_now, v_until)
  )
  insert into hold_item (hold_id, lead_id, slot, token, price_cents, currency, price_lines,
    granted_us, until_us, consent_id, consent_proof, consent_sellers, consent_checked_us)
  values (p_hold, p_lead, v_slot, v_token + 1, p_cents, p_currency, p_lines,
    v_granted, v_until, p_consent, p_proof, p_sellers, p_checked);
  given_slot := v_slot;
  given_token := v_token + 1;
  given_us := v_granted;
  until_us := v_until;
end $$
"""
_ARGUMENTS = (
    "text, text, text, text, bigint, bigint, text[], int[], bigint[], bigint, text, text, "
    "text, text, int, bigint"
)
_BEFORE = (
    "text, text, text, text, bigint, text[], int[], bigint[], bigint, text, text, "
    "text, text, int, bigint"
)


def upgrade() -> None:
    if op.get_bind().dialect.name == 'postgresql':
        op.execute(f"drop function quick_hold({_BEFORE})")
        op.execute(_QUICK_HOLD)


def downgrade() -> None:
    if op.get_bind().dialect.name == 'postgresql':
        op.execute(f"drop function quick_hold({_ARGUMENTS})")
        before = import_module('aiqleads.store.migrations.commerce.0008_commerce_quick_hold')
        op.execute(before._QUICK_HOLD)
