"""Ids of holds, orders and payments: random, or derived from a request's idempotency key."""

from __future__ import annotations

import uuid
from hashlib import sha256


def new_id(prefix: str, agent_id: str, key: str | None) -> str:
    """`prefix_` and 32 hex digits; the same for the same prefix, agent and key.

    A derived id is what makes a request that was cut off safe to send again: its second
    run finds what the first one wrote.
    """
    if key is None:
        return f"{prefix}_{uuid.uuid4().hex}"
    return f"{prefix}_{sha256(f'{prefix}|{agent_id}|{key}'.encode()).hexdigest()[:32]}"
