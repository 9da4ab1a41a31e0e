from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from aiqleads.domain import InteractionKind
from aiqleads.settings import Settings
from aiqleads.store.database import open_room, reader
from aiqleads.store.interactions import Interaction, record
from aiqleads.store.tables import interaction

VIEW = Interaction("e1", "A0001", "L1", "r1", InteractionKind.VIEW, 10)


def test_an_event_is_stored_once_per_agent(home: Settings) -> None:
    room = open_room(home, "commerce")
    assert record(room, [], 1) == 0
    assert record(room, [VIEW, replace(VIEW, event_id="e2", request_id=None)], 1) == 2
    assert record(room, [replace(VIEW, lead_id="L9"), replace(VIEW, event_id="e3")], 2) == 1
    assert record(room, [replace(VIEW, agent_id="A0002")], 3) == 1
    with reader(room).connect() as connection:
        rows = connection.execute(select(interaction).order_by(interaction.c.event_id)).all()
    room.dispose()
    assert [(row.event_id, row.lead_id, row.arrived_us) for row in rows] == [
        ("A0001:e1", "L1", 1),
        ("A0001:e2", "L1", 1),
        ("A0001:e3", "L1", 2),
        ("A0002:e1", "L1", 3),
    ]
