"""Who is asking, and whether the key may: every route but the public ones names its scope."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from aiqleads.api.rates import Rates
from aiqleads.api.state import ServiceState, State
from aiqleads.domain import US_PER_SECOND
from aiqleads.errors import AccessDenied
from aiqleads.store import agents
from aiqleads.store.audit import Actor

#: a revoked key is refused by every worker within this time
REVOKED_WITHIN_US = 5 * US_PER_SECOND
_REMEMBERED = 10_000

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key: `Authorization: Bearer aiq_...`, made by `aiqleads keys create`.",
)


@dataclass(frozen=True)
class Caller:
    """Who holds the key; `agent_id` is None for an operator's key."""

    key_id: str
    agent_id: str | None
    scopes: frozenset[str]
    member_id: str | None = None

    @property
    def actor(self) -> Actor:
        """Who this is to the audit log."""
        return Actor(self.key_id, self.agent_id, self.member_id)

    @property
    def agent(self) -> str:
        """The agent that this key belongs to; AccessDenied (403) for an operator's key."""
        if self.agent_id is None:
            raise AccessDenied("this key belongs to no agent, who could buy", status=403)
        return self.agent_id

    def acts_for(self, agent_id: str) -> str:
        """The agent asked for: an agent's key acts for its own agent only (403 otherwise)."""
        if self.agent_id not in (None, agent_id):
            raise AccessDenied("this key may act for its own agent only", status=403)
        return agent_id


class KeyRing:
    """Keys looked up lately, so that a ranking does not wait for the database.

    An unknown key is never remembered, and expiry is compared at every use.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, agents.Key]] = {}

    def find(self, state: ServiceState, text: str) -> agents.Key:
        """The live key with this text; AccessDenied (401) when there is none."""
        now = state.now_us()
        name = hashlib.sha256(text.encode()).digest()  # keys are not kept in memory as they are
        read_us, key = self._known.get(name, (0, None))
        if key is None or abs(now - read_us) >= REVOKED_WITHIN_US:  # clocks may be set back
            key = agents.find_key(state.commerce, text)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[name] = (now, key)
        agents.check_live(key, now)
        return key


def caller_with(scope: str) -> Callable[..., Awaitable[Caller]]:
    """The dependency of a route that asks for this scope."""

    async def caller(
        request: Request,
        state: State,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> Caller:
        if credentials is None:
            raise AccessDenied("an API key is needed: Authorization: Bearer aiq_...")
        ring: KeyRing = request.app.state.keys
        key = ring.find(state, credentials.credentials)
        if key.tier is not None and state.settings.rate_limits:
            rates: Rates = request.app.state.rates
            rates.count(key.key_id, key.tier)
        if scope not in key.scopes:
            raise AccessDenied(f"this key lacks the scope '{scope}'", status=403)
        found = Caller(key.key_id, key.agent_id, key.scopes, key.member_id)
        request.state.caller = found
        return found

    caller.scope = scope  # type: ignore[attr-defined]
    return caller


def _needs(scope: str) -> Any:
    return Depends(caller_with(scope))


Reader = Annotated[Caller, _needs("leads:read")]
Holder = Annotated[Caller, _needs("cart:write")]
OrderReader = Annotated[Caller, _needs("orders:read")]
Depositor = Annotated[Caller, _needs("wallet:write")]
Receiver = Annotated[Caller, _needs("delivery:write")]
Teller = Annotated[Caller, _needs("events:write")]
Operator = Annotated[Caller, _needs("ops")]
