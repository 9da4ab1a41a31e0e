"""The database goes away: 503 with Retry-After, nothing half done, and back to work after it."""

from __future__ import annotations

import runpy
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.commerce.payments import OutcomeUnknown, open_payments
from aiqleads.commerce.wallet import balance, topup
from aiqleads.settings import Settings
from aiqleads.store import agents, inbox
from aiqleads.work import Done, Rhythm, work

HERE = Path(__file__).parent
MINUTE_US = 60_000_000
TOPUP = {"amount_cents": 5_000, "payment_method": "pm_card_visa"}


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A PostgreSQL that this module may stop and start."""
    made = runpy.run_path(str(HERE.parent / "private_postgres.py"))
    try:
        with made["server"]() as started:
            yield started
    except made["Missing"] as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def template(
    server: Any, serving_world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A home that can be served, and its database."""
    home, address = tmp_path_factory.mktemp("outages"), server.create()
    serving_world["build"](home, database_url=address)
    return home, address


@dataclass
class Town:
    """The service on PostgreSQL, whose sessions and server a test may end."""

    server: Any
    settings: Settings
    state: ServiceState
    client: TestClient
    now_us: int = 1_767_225_600_000_000
    #: statements and commits on its database, and at which of them the session ends
    steps: int = 0
    doomed: int = 0
    told_busy: int = 0
    _keys: dict[str | None, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, json: Any = None, *, once: str = "", agent: Any = "A0003"
    ) -> Any:
        scopes = agents.AGENT_SCOPES if agent else tuple(agents.SCOPES)
        if agent not in self._keys:
            self._keys[agent] = agents.create_key(self.state.commerce, agent, scopes, 0)[0]
        headers = {"Authorization": f"Bearer {self._keys[agent]}", "Idempotency-Key": once}
        return self.client.request(method, path, json=json, headers=headers)

    def until_told(self, *request: Any, once: str) -> Any:
        """Sends a request again until it is not told to come back; no answer may be a fault."""
        self.told_busy = 0
        for _ in range(5):
            answer = self.ask(*request, once=once)
            assert answer.status_code != 500, answer.text
            self.told_busy += answer.status_code == 503
            if "Retry-After" not in answer.headers:
                return answer
            self.now_us += MINUTE_US
        raise AssertionError(f"never told: {answer.text}")

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Counts what is asked of the driver, and ends the session around the doomed step."""
        execute, many = psycopg.Cursor.execute, psycopg.Cursor.executemany
        commit = psycopg.Connection.commit

        def executed(cursor: Any, *given: Any, **more: Any) -> Any:
            self._step(cursor.connection)
            made = execute(cursor, *given, **more)
            if cursor.connection.autocommit and self._step(cursor.connection):
                execute(cursor, "select 'the answer was lost'")
            return made

        def executed_many(cursor: Any, *given: Any, **more: Any) -> None:
            self._step(cursor.connection)
            many(cursor, *given, **more)

        def committed(connection: Any) -> None:
            self._step(connection)
            commit(connection)
            if self._step(connection):
                execute(connection.cursor(), "select 'the answer was lost'")

        patch.setattr(psycopg.Cursor, "execute", executed)
        patch.setattr(psycopg.Cursor, "executemany", executed_many)
        patch.setattr(psycopg.Connection, "commit", committed)

    def _step(self, driver: Any) -> bool:
        if driver.info.dbname != self.database:
            return False
        self.steps += 1
        if self.steps == self.doomed:
            self.server.end_session(driver.info.backend_pid)
        return self.steps == self.doomed

    @property
    def database(self) -> str:
        return str(self.settings.database_url).rpartition("/")[2]


@pytest.fixture
def town(
    server: Any, template: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Town]:
    home, address = template
    shutil.copytree(home, tmp_path / "home")
    settings = Settings(home=tmp_path / "home", database_url=server.create(like=address))
    state = ServiceState.open(settings, settings.home / "scorer")
    made = Town(
        server, settings, state, TestClient(create_app(state), raise_server_exceptions=False)
    )
    state.now_us = lambda: made.now_us
    made.watch(monkeypatch)
    yield made
    state.close()


# --- sessions that end ---------------------------------------------------------------


def _hold(town: Town, number: int) -> tuple[Any, ...]:
    return "POST", "/v1/cart/holds", {"lead_ids": [town.state.snapshot.lead_id(number)]}


def _held(town: Town, number: int) -> str:
    held = town.ask(*_hold(town, number), once=f"h{number}")
    assert held.status_code == 201, held.text
    return str(held.json()["hold_id"])


def _release(town: Town, number: int) -> tuple[Any, ...]:
    return "DELETE", f"/v1/cart/holds/{_held(town, number)}"


def _by_wallet(town: Town, number: int) -> tuple[Any, ...]:
    return "POST", "/v1/checkout", {"hold_ids": [_held(town, number)]}


def _by_card(town: Town, number: int) -> tuple[Any, ...]:
    body = {"hold_ids": [_held(town, number)], "pay_with": "pm_card_visa"}
    return "POST", "/v1/checkout", body


def _topup(_town: Town, _number: int) -> tuple[Any, ...]:
    return "POST", "/v1/wallet/topups", TOPUP


#: one step in so many is doomed, to save time
@pytest.mark.parametrize(
    ("asked", "stride"),
    [(_hold, 2), (_release, 2), (_by_wallet, 3), (_by_card, 4), (_topup, 2)],
)
def test_a_session_that_ends_at_any_statement_or_commit_is_no_fault(
    town: Town, asked: Callable[[Town, int], tuple[Any, ...]], stride: int
) -> None:
    first = town.ask("POST", "/v1/wallet/topups", {**TOPUP, "amount_cents": 900_000}, once="first")
    assert first.status_code == 201, first.text
    busy = number = 0
    while town.steps >= town.doomed:
        number += 1
        town.doomed = 0
        request = asked(town, number)
        town.steps, town.doomed = 0, number * stride - stride // 2
        told = town.until_told(*request, once=f"k{number}")
        assert told.status_code in (200, 201), told.text
        if asked is _release:
            assert told.json()["released"] == 1
        busy += town.told_busy
    town.doomed = 0
    assert busy >= 3
    found = town.ask("GET", "/v1/admin/invariants", agent=None).json()
    assert found["ok"] is True, found
    if asked is _topup:
        wallet = town.ask("GET", "/v1/wallet").json()
        assert wallet["balance_cents"] == 900_000 + number * TOPUP["amount_cents"]


def test_sessions_that_ended_while_nobody_asked_are_not_noticed(town: Town) -> None:
    for method, path, body in (("GET", "/v1/cart", None), _hold(town, 1)):
        town.ask("GET", "/v1/wallet")
        for pid in town.server.backends():
            town.server.end_session(pid)
        assert town.ask(method, path, body, once="k").status_code in (200, 201)


# --- the server is away --------------------------------------------------------------

READS = ("/v1/cart", "/v1/orders", "/v1/orders.csv", "/v1/wallet", "/v1/limits", "/v1/notices",
         "/v1/spend", "/v1/deliveries", "/v1/members", "/v1/audit")  # fmt: skip


@contextmanager
def _away(server: Any) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def test_while_the_server_is_away_everything_is_503_and_then_works(town: Town) -> None:
    hold_id = _held(town, 1)
    writes = [
        _hold(town, 2),
        ("DELETE", f"/v1/cart/holds/{hold_id}"),
        ("POST", "/v1/checkout", {"hold_ids": [hold_id]}),
        ("POST", "/v1/wallet/topups", TOPUP),
        ("PUT", "/v1/limits", {"caps": []}),
    ]
    requests = [*writes, *(("GET", path) for path in READS)]
    with _away(town.server):
        for request in requests:
            answer = town.ask(*request, once="away")
            assert answer.status_code == 503, (request, answer.text)
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"].endswith("/problems/busy")
        assert town.client.get("/livez").status_code == 200
    assert town.ask("GET", "/v1/wallet").json()["balance_cents"] == 0
    assert town.until_told(*writes[3], once="away").status_code == 201
    assert town.until_told(*writes[1], once="release").json()["released"] == 1
    for path in READS:
        assert town.ask("GET", path).status_code == 200, path


# --- the worker ----------------------------------------------------------------------


def test_the_worker_goes_on_when_the_server_is_back(town: Town) -> None:
    """A top-up that was captured, and of which nobody knows, is credited after the outage."""
    engine, rhythm = town.state.commerce, Rhythm(interval=0.05, sweep_every=0.2, beat_every=0.1)
    done: list[Done] = []
    stop = threading.Event()
    worker = threading.Thread(
        target=lambda: done.append(work(town.settings, stop=stop, rhythm=rhythm))
    )
    worker.start()
    try:
        _until(lambda: inbox.last_beat(town.state.vault.engine, inbox.WORKER) is not None)
        with _away(town.server):
            time.sleep(1.0)
            assert worker.is_alive()
        _lose_a_topup(town)
        _until(lambda: balance(engine, "A0003") == TOPUP["amount_cents"])
    finally:
        stop.set()
        worker.join(60)
    assert done[0].payments == 1
    assert done[0].faults > 0


def _lose_a_topup(town: Town) -> None:
    """Captured at Stripe; the answer never came, and its client is gone."""
    payments = open_payments(town.settings)

    def silent(_intent_id: str) -> Any:
        raise OutcomeUnknown("no answer")

    payments.retrieve = silent  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown):
        topup(town.state.commerce, payments, "A0003", 5_000, "pm_card_visa", _wall_us())


def _wall_us() -> int:
    return time.time_ns() // 1_000


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
