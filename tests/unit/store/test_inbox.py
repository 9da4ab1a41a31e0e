"""The inbox: kept once, sealed, tried again with pauses, wiped when parsed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select

from aiqleads.errors import InvalidInput
from aiqleads.settings import Settings
from aiqleads.store import inbox
from aiqleads.store.inbox import Push, Waiting
from aiqleads.store.tables import data_key, pushed
from aiqleads.store.vault import Vault

PUSH = Push("google_leads", "d1", "town", 1_000, "application/json", b'{"name": "Nora"}')
SECOND_US = 1_000_000


@pytest.fixture
def vault(home: Settings) -> Iterator[Vault]:
    opened = Vault.open(home)
    yield opened
    opened.close()


def row_of(vault: Vault, delivery: str = "d1") -> object:
    with vault.engine.connect() as connection:
        return connection.execute(select(pushed).where(pushed.c.delivery == delivery)).one()


def test_a_push_is_kept_once_and_comes_back_as_it_came(vault: Vault) -> None:
    assert inbox.put(vault, PUSH) is True
    assert inbox.put(vault, PUSH) is False
    assert inbox.waiting(vault, 2_000) == [PUSH]


def test_of_many_at_once_one_is_kept(vault: Vault) -> None:
    with ThreadPoolExecutor(8) as pool:
        fresh = list(pool.map(lambda _: inbox.put(vault, PUSH), range(16)))
    assert sum(fresh) == 1
    assert len(inbox.waiting(vault, 2_000)) == 1


def test_the_same_name_of_another_source_is_another_push(vault: Vault) -> None:
    assert inbox.put(vault, PUSH)
    assert inbox.put(vault, replace(PUSH, source="meta_leads"))


def test_nothing_of_a_body_is_readable_on_disk(vault: Vault, home: Settings) -> None:
    inbox.put(vault, PUSH)
    for file in home.data.glob("vault.db*"):
        assert b"Nora" not in file.read_bytes()


def test_pushes_come_oldest_first_and_some_at_a_time(vault: Vault) -> None:
    for number, received_us in enumerate((30, 10, 20)):
        inbox.put(vault, replace(PUSH, delivery=f"d{number}", received_us=received_us))
    assert [push.received_us for push in inbox.waiting(vault, 99, limit=2)] == [10, 20]
    assert inbox.waiting(vault, 99, without=["google_leads"]) == []


def test_a_parsed_push_is_wiped_and_never_taken_again(vault: Vault) -> None:
    inbox.put(vault, PUSH)
    inbox.done(vault, PUSH, "b1", 5_000)
    assert inbox.waiting(vault, 9_000) == []
    assert inbox.put(vault, PUSH) is False
    row = row_of(vault)
    assert (row.state, row.body, row.batch_id, row.done_us) == ("done", b"", "b1", 5_000)
    with vault.engine.connect() as connection:
        assert connection.execute(select(data_key.c.wrapped)).scalars().all() == [None]


def test_a_push_that_fails_has_its_turn_later_and_later(vault: Vault) -> None:
    inbox.put(vault, PUSH)
    now_us, pauses = 10 * SECOND_US, []
    for _ in range(4):
        (push,) = inbox.waiting(vault, now_us)
        assert inbox.failed(vault, push, "no market", now_us) == "waiting"
        assert inbox.waiting(vault, now_us) == []
        pause_us = row_of(vault).not_before_us - now_us
        pauses.append(pause_us // SECOND_US)
        now_us += pause_us
    assert pauses == [5, 10, 20, 40]


def test_after_many_tries_a_push_has_failed_with_its_reason(vault: Vault) -> None:
    inbox.put(vault, PUSH)
    states = []
    for attempt in range(inbox.ATTEMPTS):
        push = replace(PUSH, attempts=attempt)
        states.append(inbox.failed(vault, push, "x" * 999, 0))
    assert states == ["waiting"] * (inbox.ATTEMPTS - 1) + ["failed"]
    assert inbox.waiting(vault, 10**18) == []
    assert row_of(vault).failure == "x" * 300
    assert inbox.counts(vault.engine) == {"google_leads": Waiting(0, 1, None)}


def test_a_failed_push_can_be_tried_again_with_its_body(vault: Vault) -> None:
    inbox.put(vault, PUSH)
    inbox.failed(vault, replace(PUSH, attempts=inbox.ATTEMPTS), "no market", 0)
    assert inbox.try_again(vault, "meta_leads") == 0
    assert inbox.try_again(vault, "google_leads") == 1
    assert inbox.waiting(vault, 2_000) == [PUSH]
    assert inbox.try_again(vault, "google_leads") == 0


def test_what_is_done_stays_done(vault: Vault) -> None:
    inbox.put(vault, PUSH)
    inbox.done(vault, PUSH, "b1", 5_000)
    inbox.failed(vault, PUSH, "late", 6_000)
    inbox.done(vault, PUSH, "b2", 7_000)
    assert (row_of(vault).state, row_of(vault).batch_id) == ("done", "b1")
    assert inbox.try_again(vault, "google_leads") == 0


def test_a_body_whose_key_is_gone_is_said_to_be_so(vault: Vault) -> None:
    inbox.put(vault, PUSH)
    vault.destroy([row_of(vault).key_id], 1)
    with pytest.raises(InvalidInput, match="google_leads/d1 was destroyed"):
        inbox.waiting(vault, 2_000)


def test_counts_say_what_waits_since_when(vault: Vault) -> None:
    assert inbox.counts(vault.engine) == {}
    for number in range(3):
        inbox.put(vault, replace(PUSH, delivery=f"d{number}", received_us=50 - number))
    inbox.failed(vault, replace(PUSH, attempts=inbox.ATTEMPTS), "x", 0)  # d1
    assert inbox.counts(vault.engine) == {"google_leads": Waiting(2, 1, 48)}


def test_a_duty_is_seen_when_it_was_last(vault: Vault) -> None:
    assert inbox.last_beat(vault.engine, inbox.WORKER) is None
    inbox.beat(vault, inbox.WORKER, 5)
    inbox.beat(vault, inbox.WORKER, 9, "round 2")
    assert inbox.last_beat(vault.engine, inbox.WORKER) == (9, "round 2")
