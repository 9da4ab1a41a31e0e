from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine, select

from aiqleads.domain import Tier
from aiqleads.errors import AccessDenied, InvalidInput, UnknownName
from aiqleads.settings import Settings
from aiqleads.store import agents
from aiqleads.store.agents import Agent
from aiqleads.store.database import open_room, reader
from aiqleads.store.tables import api_key

ANN = Agent("A0001", "Ann", Tier.BASIC, "lucas")
BOB = Agent("A0002", "Bob", Tier.PRO, "lucas")


@pytest.fixture
def room(home: Settings) -> Iterator[Engine]:
    engine = open_room(home, "commerce")
    yield engine
    engine.dispose()


def test_agents_are_added_once_and_renewed(room: Engine) -> None:
    assert agents.add(room, [ANN, BOB], 5) == 2
    promoted = Agent("A0001", "Ann", Tier.ENTERPRISE, "lucas")
    assert agents.add(room, [promoted], 6) == 0
    assert agents.all_agents(room) == [promoted, BOB]
    assert agents.get(room, "A0002") == BOB
    with pytest.raises(UnknownName, match="A0003"):
        agents.get(room, "A0003")


def test_a_key_is_found_by_its_text_and_kept_only_as_a_hash(room: Engine) -> None:
    agents.add(room, [ANN], 0)
    text, key = agents.create_key(room, "A0001", ["leads:read", "cart:write"], 7, 100)
    assert text.startswith("aiq_")
    assert len(text) > 40
    assert agents.find_key(room, text) == replace(key, tier=ANN.tier)
    assert key.scopes == {"leads:read", "cart:write"}
    with reader(room).connect() as connection:
        (row,) = connection.execute(select(api_key)).mappings()
    assert not any(text in str(value) or text[4:] in str(value) for value in row.values())
    with pytest.raises(AccessDenied):
        agents.find_key(room, text + "x")
    with pytest.raises(AccessDenied):
        agents.find_key(room, key.key_id)


def test_a_key_dies_by_time_or_by_hand(room: Engine) -> None:
    agents.add(room, [ANN], 0)
    text, key = agents.create_key(room, "A0001", ["leads:read"], 0, 100)
    agents.check_live(key, 99)
    with pytest.raises(AccessDenied, match="expired"):
        agents.check_live(key, 100)
    agents.revoke_key(room, key.key_id, 50)
    agents.revoke_key(room, key.key_id, 60)
    revoked = agents.find_key(room, text)
    assert revoked.revoked_us == 50
    with pytest.raises(AccessDenied, match="revoked"):
        agents.check_live(revoked, 51)
    with pytest.raises(UnknownName):
        agents.revoke_key(room, "k_none", 50)


def test_keys_are_listed_without_their_text(room: Engine) -> None:
    agents.add(room, [ANN, BOB], 0)
    first = agents.create_key(room, "A0001", agents.AGENT_SCOPES, 1)[1]
    second = agents.create_key(room, "A0001", ["leads:read"], 2)[1]
    operator = agents.create_key(room, None, ["ops"], 3)[1]
    assert agents.keys_of(room, "A0001") == [first, second]
    assert agents.keys_of(room, "A0002") == []
    assert agents.keys_of(room, None) == [operator]


def test_what_a_key_may_not_be(room: Engine) -> None:
    agents.add(room, [ANN], 0)
    with pytest.raises(InvalidInput, match="leads:write"):
        agents.create_key(room, "A0001", ["leads:write"], 0)
    with pytest.raises(InvalidInput):
        agents.create_key(room, "A0001", [], 0)
    with pytest.raises(InvalidInput, match="operators"):
        agents.create_key(room, "A0001", ["ops"], 0)
    with pytest.raises(UnknownName):
        agents.create_key(room, "A0009", ["leads:read"], 0)
