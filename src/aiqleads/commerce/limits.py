"""What an agent may hold at once; always asked under the agent's locked row."""

from __future__ import annotations

from aiqleads.domain import ENTITLEMENTS, US_PER_SECOND, Tier
from aiqleads.errors import Refused


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
    how many fit, and in how many seconds the first place is free again."""
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
