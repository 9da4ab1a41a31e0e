"""What an agent may hold at once; always asked under the agent's locked row."""

from __future__ import annotations

from aiqleads.domain import COOL_DOWN_MINUTES, ENTITLEMENTS, US_PER_SECOND, Tier
from aiqleads.errors import Refused
from aiqleads.store.holds import Past

_US_PER_MINUTE = 60 * US_PER_SECOND


def seconds_until(until_us: int, now_us: int) -> int:
    """Whole seconds from now until a wall-clock time, at least 1: a Retry-After."""
    return max(1, -((now_us - until_us) // US_PER_SECOND))


def check_bulk(tier: Tier, asked: int) -> None:
    """Refuses more leads in one call than the tier allows; `fits` says how many it does."""
    most = ENTITLEMENTS[tier].bulk
    if asked > most:
        raise Refused(
            "hold-limit-reached",
            f"{asked} leads in one call; the {tier} tier holds at most {most} at a time",
            status=403,
            limit="bulk",
            value=most,
            used=0,
            fits=most,
        )


def room_for_holds(tier: Tier, live: int) -> int:
    """How many more leads may be held."""
    return max(0, ENTITLEMENTS[tier].live_holds - live)


def no_room(tier: Tier, live: int, asked: int, frees_us: int | None, now_us: int) -> Refused:
    """The refusal of holds beyond the tier's number of live ones: which limit, what is used,
    how many fit, and, where all that were asked for ever will, in how many seconds."""
    most = ENTITLEMENTS[tier].live_holds
    retry = {} if frees_us is None else {"retry_after": seconds_until(frees_us, now_us)}
    return Refused(
        "hold-limit-reached",
        f"{live} of {most} holds of the {tier} tier are in use; {asked} more do not fit",
        status=403,
        limit="live_holds",
        value=most,
        used=live,
        fits=room_for_holds(tier, live),
        **retry,
    )


def held_too_long(tier: Tier, lead_id: str, past: Past, now_us: int) -> Refused | None:
    """Why an agent may not hold a lead again yet, or for free at all; None where it may.

    Nobody keeps a lead from others by holding it again and again: after each hold it is left
    alone for a while, and all holds of it together last no longer than the tier's one.
    """
    most = ENTITLEMENTS[tier].hold_minutes
    if past.held_us >= most * _US_PER_MINUTE:
        return Refused(
            "hold-time-used",
            f"you have held {lead_id} for the {most} minutes that the {tier} tier has for a lead",
            limit="hold_minutes",
            value=most,
            used=past.held_us // _US_PER_MINUTE,
        )
    again_us = past.ended_us + COOL_DOWN_MINUTES * _US_PER_MINUTE
    if past.ended_us and now_us < again_us:
        return Refused(
            "hold-cooldown",
            f"you held {lead_id} until lately; it can be held again {COOL_DOWN_MINUTES} minutes "
            "after that",
            limit="cool_down_minutes",
            value=COOL_DOWN_MINUTES,
            used=(now_us - past.ended_us) // _US_PER_MINUTE,
            retry_after=seconds_until(again_us, now_us),
        )
    return None


def hold_until(tier: Tier, past: Past, ends_us: int | None, now_us: int) -> int:
    """When a new hold of a lead ends: what is left of the tier's time, within the lead's life."""
    until_us = now_us + ENTITLEMENTS[tier].hold_minutes * _US_PER_MINUTE - past.held_us
    return until_us if ends_us is None else min(until_us, ends_us)
