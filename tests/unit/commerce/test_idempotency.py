"""One key, one request, one answer."""

from __future__ import annotations

import pytest

from aiqleads.commerce.idempotency import TAKEOVER_US, Answer, begin, finish, forget
from aiqleads.errors import InvalidInput, Refused

SHA, OTHER = "a" * 64, "b" * 64


def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def test_the_stored_answer_comes_again(shop) -> None:
    assert begin(shop.engine, "A1", "k", SHA, shop.now) is None
    finish(shop.engine, "A1", "k", Answer(201, "application/json", b'{"a": 1}'), 1)
    finish(shop.engine, "A1", "k", Answer(409, "application/json", b"a later one"), 2)
    again = begin(shop.engine, "A1", "k", SHA, shop.now)
    assert again == Answer(201, "application/json", b'{"a": 1}')
    assert begin(shop.engine, "A2", "k", SHA, shop.now) is None  # keys are each agent's own


def test_while_the_first_runs_the_second_waits(shop) -> None:
    begin(shop.engine, "A1", "k", SHA, shop.now)
    no = refused(lambda: begin(shop.engine, "A1", "k", SHA, shop.now + TAKEOVER_US - 1))
    assert (no.kind, no.status, no.extra["retry_after"]) == ("idempotency-in-progress", 409, 1)


def test_another_request_under_the_key_is_refused(shop) -> None:
    begin(shop.engine, "A1", "k", SHA, shop.now)
    no = refused(lambda: begin(shop.engine, "A1", "k", OTHER, shop.now))
    assert (no.kind, no.status) == ("idempotency-mismatch", 422)
    finish(shop.engine, "A1", "k", Answer(200, "application/json", b""), 1)
    assert refused(lambda: begin(shop.engine, "A1", "k", OTHER, shop.now)).status == 422


def test_a_request_whose_worker_died_may_run_again(shop) -> None:
    begin(shop.engine, "A1", "k", SHA, shop.now)
    assert begin(shop.engine, "A1", "k", SHA, shop.now + TAKEOVER_US) is None
    assert refused(lambda: begin(shop.engine, "A1", "k", SHA, shop.now + TAKEOVER_US)).status == 409


def test_a_fault_of_ours_is_forgotten_and_an_answer_is_not(shop) -> None:
    begin(shop.engine, "A1", "k", SHA, shop.now)
    forget(shop.engine, "A1", "k")
    assert begin(shop.engine, "A1", "k", SHA, shop.now) is None
    finish(shop.engine, "A1", "k", Answer(200, "application/json", b"x"), 1)
    forget(shop.engine, "A1", "k")
    assert begin(shop.engine, "A1", "k", SHA, shop.now) is not None


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_length(shop, key: str) -> None:
    with pytest.raises(InvalidInput):
        begin(shop.engine, "A1", key, SHA, shop.now)
