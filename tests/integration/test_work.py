"""The background process: pushes become leads once, whatever happens; snapshots follow."""

from __future__ import annotations

import datetime as dt
import json
import runpy
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from aiqleads import work as worker
from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.commerce import recharge
from aiqleads.commerce.payments import OutcomeUnknown, open_payments
from aiqleads.commerce.wallet import balance, topup
from aiqleads.domain import Tier
from aiqleads.errors import InvalidInput, Refused
from aiqleads.ingest import watch
from aiqleads.ingest.market import load_market, remember_market
from aiqleads.recommend.snapshot import Snapshot, current_version
from aiqleads.settings import Settings
from aiqleads.store import agents, inbox, sources
from aiqleads.store.database import open_room
from aiqleads.store.tables import batch, lead, pushed, quarantine, schema_profile, submission
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault
from aiqleads.work import Done, Rhythm, work

LIVE = runpy.run_path(str(Path(__file__).parents[1] / "live_market.py"))
TABLES = (lead, submission, quarantine)
TOWN = """
name = "live"
title = "A town without sales"
timezone = "America/New_York"
crs = "EPSG:32617"
"""


def push(
    settings: Settings, body: bytes, source: str = "google_leads", delivery: str = "", **more: Any
) -> inbox.Push:
    vault = Vault.open(settings)
    name = delivery or f"d{abs(hash(body))}"
    made = inbox.Push(source, name, more.pop("market", "live"), 1_000, "", body, **more)
    inbox.put(vault, made)
    vault.close()
    return made


def google(settings: Settings, number: int, **more: Any) -> inbox.Push:
    return push(settings, LIVE["google_lead"](number, **more), delivery=f"push-{number}")


def rows_of(settings: Settings, table: Any, *columns: str) -> list[Any]:
    room = "vault" if table is pushed else "leads"
    engine = open_room(settings, room)
    chosen = [table.c[name] for name in columns] or [table]
    with engine.connect() as connection:
        rows = connection.execute(select(*chosen).order_by(*table.primary_key)).all()
    engine.dispose()
    return list(rows)


def counted(settings: Settings) -> dict[str, int]:
    engine = open_room(settings, "leads")
    with engine.connect() as connection:
        found = {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in TABLES
        }
    engine.dispose()
    return found


@pytest.fixture
def town(home: Settings) -> Settings:
    """A market without leads, agents or snapshot, and its feed file."""
    home.data.mkdir(parents=True)
    file = home.home / "town.toml"
    file.write_text(TOWN)
    remember_market(home, load_market(file, home))
    home.feeds_file.write_text(LIVE["feeds"]())
    return home


@pytest.fixture(scope="module")
def live_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home: Path = tmp_path_factory.mktemp("live")
    LIVE["build"](home, dt.datetime.now(dt.UTC), rows=300)
    return home


@pytest.fixture
def live(live_template: Path, tmp_path: Path) -> Settings:
    """A small live market with agents and a snapshot."""
    shutil.copytree(live_template, tmp_path / "live")
    return Settings(home=tmp_path / "live")


# --- from a push to a snapshot -----------------------------------------------------


def test_a_pushed_lead_is_on_offer_after_one_round(live: Settings) -> None:
    before = Snapshot.load(live)
    google(live, 1)
    done = work(live, once=True)
    assert (done.pushes, done.put_off, done.failed) == (1, 0, 0)
    snapshot = Snapshot.load(live)
    assert done.published == (snapshot.version,)
    assert snapshot.manifest.leads == before.manifest.leads + 1
    ((lead_id, precision, waits),) = [
        row[:3]
        for row in rows_of(live, lead, "lead_id", "place_precision", "waits", "source")
        if row.source == "google_leads"
    ]
    assert (precision, waits) == ("zip", "")
    assert snapshot.lead_row(lead_id) >= 0


def test_nothing_changed_means_nothing_is_published(live: Settings) -> None:
    google(live, 1)
    assert len(work(live, once=True).published) == 1
    assert work(live, once=True) == Done()
    google(live, 2)
    assert len(work(live, once=True).published) == 1


def test_a_paused_source_leaves_with_the_next_snapshot(live: Settings) -> None:
    google(live, 1)
    work(live, once=True)
    with_it = Snapshot.load(live).manifest.leads
    engine = open_room(live, "leads")
    with writing(engine) as connection:
        sources.pause(connection, "google_leads", "", 5)
    assert len(work(live, once=True).published) == 1
    assert Snapshot.load(live).manifest.leads == with_it - 1
    with writing(engine) as connection:
        sources.resume(connection, "google_leads", 6)
    engine.dispose()
    assert len(work(live, once=True).published) == 1
    assert Snapshot.load(live).manifest.leads == with_it


def test_when_every_source_is_paused_nothing_is_recommended(
    live: Settings,
) -> None:
    engine = open_room(live, "leads")
    with writing(engine) as connection:
        for source in sources.held(connection):
            sources.pause(connection, source, "", 5)
    engine.dispose()
    assert len(work(live, once=True).published) == 1
    state = ServiceState.open(live, live.home / "scorer")
    key = agents.create_key(state.commerce, None, tuple(agents.SCOPES), 0)[0]
    with TestClient(create_app(state)) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        ranked = client.post("/v1/recommendations", json={"agent_id": "A0001"})
        found = client.get("/v1/leads")
    state.close()
    assert (ranked.status_code, found.status_code) == (200, 200)
    assert ranked.json()["items"] == found.json()["items"] == []


def test_a_push_into_another_market_leaves_the_served_one_alone(live: Settings) -> None:
    other = live.home / "other.toml"
    other.write_text(TOWN.replace('"live"', '"other"'))
    remember_market(live, load_market(other, live))
    work(live, once=True)
    served = current_version(live)
    push(live, LIVE["google_lead"](5), market="other")
    done = work(live, once=True)
    assert (done.pushes, done.published) == (1, ())
    assert current_version(live) == served


def test_before_the_first_snapshot_the_market_of_the_pushes_is_published(live: Settings) -> None:
    shutil.rmtree(live.data / "snapshots")
    google(live, 1)
    assert len(work(live, once=True).published) == 1
    assert Snapshot.load(live).manifest.market == "live"


def test_a_market_that_cannot_be_published_is_not_tried_for_ever(
    live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refused(*_: Any) -> str:
        tries.append(1)
        raise InvalidInput("no")

    monkeypatch.setattr(worker, "publish", refused)
    stop = threading.Event()
    threading.Timer(2.0, stop.set).start()
    google(live, 1)
    done = work(live, stop=stop, rhythm=Rhythm(interval=0.05, publish_every=0.1))
    assert done.published == ()
    assert 1 <= len(tries) <= 2  # once for what was there, once with the push


def test_a_fault_of_publishing_stops_nothing_else(
    live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(worker, "publish", broken)
    monkeypatch.setattr(worker, "sweep", broken)
    google(live, 1)
    assert work(live, once=True).pushes == 1


def test_a_fault_of_recharging_loses_nothing_of_the_sweep(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A top-up was captured, its answer was lost, and nobody came back for it."""
    now_us, engine = time.time_ns() // 1000, open_room(home, "commerce")
    payments = open_payments(home)
    agents.add(engine, [agents.Agent("A1", "Ann", Tier.PRO, "live")], now_us)
    monkeypatch.setattr(payments, "retrieve", _silent)
    with pytest.raises(OutcomeUnknown):
        topup(engine, payments, "A1", 5_000, "pm_card_visa", now_us)

    def broken(*_: Any) -> int:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(recharge, "run", broken)
        done = work(home, once=True)
    assert (done.payments, done.faults) == (1, 1)
    assert balance(engine, "A1") == 5_000
    assert work(home, once=True) == Done()
    engine.dispose()


def _silent(*_: Any) -> Any:
    raise OutcomeUnknown("no answer")


@pytest.mark.parametrize("duty", ["_parse", "_watch", "_settle", "_publish", "_heal", "_deliver"])
def test_a_duty_that_fails_is_counted_and_keeps_no_other_from_its_turn(
    home: Settings, monkeypatch: pytest.MonkeyPatch, duty: str
) -> None:
    did: list[str] = []

    def busy(*_: Any, **__: Any) -> Done:
        raise Refused("busy", "the database is away", status=503)

    for name in ("_parse", "_watch", "_settle", "_publish", "_heal", "_recharge", "_deliver"):
        monkeypatch.setattr(
            worker, name, lambda *_, _name=name, **__: did.append(_name) or Done(payments=1)
        )
    monkeypatch.setattr(worker, duty, busy)
    monkeypatch.setattr(inbox, "beat", busy)
    assert work(home, once=True) == Done(payments=6, faults=1)
    assert len(did) == 6


# --- once, whatever happens --------------------------------------------------------


def test_a_push_taken_in_twice_changes_nothing(
    town: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    google(town, 1)
    with monkeypatch.context() as patched:
        patched.setattr(inbox, "done", _dies)
        with pytest.raises(KeyboardInterrupt):
            work(town, once=True)
    before, leads = counted(town), rows_of(town, lead)
    assert before["lead"] == 1
    assert work(town, once=True).pushes == 1
    assert counted(town) == before
    assert rows_of(town, lead) == leads
    ((state, body),) = rows_of(town, pushed, "state", "body")
    assert (state, body) == ("done", b"")


def _dies(*_: Any) -> None:
    raise KeyboardInterrupt


def test_many_pushes_are_taken_in_together(town: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = worker.ingest

    def watched(settings: Settings, source: str, payloads: Any, *rest: Any, **more: Any) -> Any:
        calls.append((source, len(payloads)))
        return real(settings, source, payloads, *rest, **more)

    monkeypatch.setattr(worker, "ingest", watched)
    for number in range(5):
        google(town, number)
    assert work(town, once=True).pushes == 5
    assert calls == [("google_leads", 5)]
    assert counted(town)["submission"] == 5


def test_one_bad_push_holds_up_no_other(town: Settings) -> None:
    google(town, 1)
    push(town, b"\x00 not json: Nora Brook", delivery="bad")
    google(town, 2)
    done = work(town, once=True)
    assert (done.pushes, done.put_off) == (2, 1)
    rows = {row.delivery: row for row in rows_of(town, pushed)}
    assert [rows[f"push-{n}"].state for n in (1, 2)] == ["done", "done"]
    assert (rows["bad"].state, rows["bad"].attempts) == ("waiting", 1)
    assert rows["bad"].failure
    assert "Nora" not in rows["bad"].failure


def test_what_can_never_be_parsed_fails_in_the_end_and_keeps_its_body(town: Settings) -> None:
    bad = push(town, b"\x00", delivery="bad")
    vault = Vault.open(town)
    for attempt in range(inbox.ATTEMPTS - 1):
        inbox.failed(vault, replace(bad, attempts=attempt), "x", 0)
    vault.close()
    far = time.time_ns() // 1000 + 10**12
    assert work(town, once=True, now_us=lambda: far).failed == 1
    ((state, body),) = rows_of(town, pushed, "state", "body")
    assert state == "failed"
    assert body
    assert work(town, once=True, now_us=lambda: far) == Done()


def test_a_fault_of_ours_is_kept_without_any_value(
    town: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("Nora Brook, 419 555 0103")

    monkeypatch.setattr(worker, "ingest", broken)
    google(town, 1)
    assert work(town, once=True).put_off == 1
    (row,) = rows_of(town, pushed)
    assert row.failure.startswith("ValueError at test_work.py:")


@pytest.mark.parametrize("kind", ["busy", "source-paused"])
def test_a_push_that_comes_at_a_bad_time_waits_without_a_mark(
    town: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise Refused(kind, "not now")

    google(town, 1)
    with monkeypatch.context() as patched:
        patched.setattr(worker, "ingest", refused)
        assert work(town, once=True) == Done()
    (row,) = rows_of(town, pushed)
    assert (row.state, row.attempts, row.not_before_us) == ("waiting", 0, 0)
    assert work(town, once=True).pushes == 1


def test_pushes_of_a_paused_source_wait_until_it_is_resumed(town: Settings) -> None:
    google(town, 1)
    engine = open_room(town, "leads")
    with writing(engine) as connection:
        sources.pause(connection, "google_leads", "", 5)
    assert work(town, once=True) == Done()
    with writing(engine) as connection:
        sources.resume(connection, "google_leads", 6)
    engine.dispose()
    assert work(town, once=True).pushes == 1


def test_a_push_of_a_source_that_is_stopped_meanwhile_waits(
    town: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "ingest", lambda *_, **__: None)  # stored no batch
    google(town, 1)
    assert work(town, once=True) == Done()
    assert rows_of(town, pushed, "state") == [("waiting",)]


@pytest.mark.parametrize(
    ("market", "source", "said"),
    [("nowhere", "google_leads", "no market 'nowhere'"), ("live", "nobody", "no source 'nobody'")],
)
def test_what_the_operator_got_wrong_is_said(
    town: Settings, market: str, source: str, said: str
) -> None:
    push(town, LIVE["google_lead"](1), source, market=market)
    assert work(town, once=True).put_off == 1
    (row,) = rows_of(town, pushed)
    assert said in row.failure


def test_rows_that_break_the_contract_are_in_quarantine_and_the_push_is_done(
    town: Settings,
) -> None:
    google(town, 1, is_test=True)
    assert work(town, once=True).pushes == 1
    assert counted(town) == {"lead": 0, "submission": 0, "quarantine": 1}
    assert rows_of(town, batch, "quarantined", "state") == [(1, "done")]


def test_one_worker_runs_under_a_home(town: Settings) -> None:
    stop, seen = threading.Event(), threading.Event()

    def now_us() -> int:
        seen.set()
        return time.time_ns() // 1000

    def run() -> None:
        work(town, stop=stop, rhythm=Rhythm(interval=0.05), now_us=now_us)

    first = threading.Thread(target=run)
    first.start()
    try:
        assert seen.wait(60)
        with pytest.raises(Refused, match="another `aiqleads work`"):
            work(town, once=True)
    finally:
        stop.set()
        first.join()
    vault = Vault.open(town)
    assert inbox.last_beat(vault.engine, inbox.WORKER) is not None
    vault.close()
    assert work(town, once=True) == Done()


# --- Meta: what a notification only names ------------------------------------------


class Graph:
    """A host that answers for leads as it is told to: status and body by leadgen_id."""

    def __init__(self) -> None:
        self.script: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""


@pytest.fixture
def graph() -> Iterator[Graph]:
    told = Graph()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            leadgen_id = self.path.split("?")[0].rpartition("/")[2]
            told.asked.append((self.path, dict(self.headers)))
            script = told.script.get(leadgen_id, [])
            status, answer = script.pop(0) if script else (200, lead_object(leadgen_id))
            if status == 0:  # hangs up
                self.close_connection = True
                return
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            cut = status == 299
            self.send_header("Content-Length", str(len(body) + (9 if cut else 0)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/v24.0"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


def lead_object(leadgen_id: str) -> dict[str, Any]:
    number = int(leadgen_id)
    answers = {
        "full_name": f"Person {LIVE['_word'](number)}",
        "email": f"meta.{number}@example.com",
        "zip_code": "43604",
    }
    return {
        "id": leadgen_id,
        "created_time": "2026-03-01T15:04:05+0000",
        "form_id": "7",
        "field_data": [{"name": name, "values": [value]} for name, value in answers.items()],
    }


def notification(*ids: int) -> bytes:
    changes = [{"field": "leadgen", "value": {"leadgen_id": str(each)}} for each in ids]
    return json.dumps({"object": "page", "entry": [{"changes": changes}]}).encode()


@pytest.fixture
def notify(town: Settings, graph: Graph) -> Callable[..., None]:
    lines = f'url = "{graph.url}"\naccess_token = "EAAtoken"\nrequests_per_second = 100'
    town.feeds_file.write_text(LIVE["feeds"](meta_leads=lines))

    def send(*ids: int) -> None:
        push(town, notification(*ids), "meta_leads", delivery=f"leadgen:{ids}")

    return send


def later(minutes: int) -> Callable[[], int]:
    return lambda: time.time_ns() // 1000 + minutes * 60_000_000


def test_the_answers_of_a_notification_are_fetched(
    town: Settings, graph: Graph, notify: Callable[..., None]
) -> None:
    notify(11, 12)
    assert work(town, once=True).pushes == 1
    assert counted(town)["submission"] == 2
    path, headers = graph.asked[0]
    assert path.startswith("/v24.0/11?fields=id%2Ccreated_time")
    assert "appsecret_proof=" in path
    assert "EAAtoken" not in path
    assert headers["Authorization"] == "Bearer EAAtoken"


@pytest.mark.parametrize(
    "failure",
    [
        (500, b"oops"),
        (429, {"error": {"code": 4}}),
        (0, b""),
        (299, b'{"id"'),
        (200, b"<html>"),
        (200, {"id": "11"}),
        (302, b""),
        (200, b" " * (2**20 + 1)),
    ],
)
def test_a_host_that_fails_is_asked_again_later(
    town: Settings, graph: Graph, notify: Callable[..., None], failure: tuple[int, Any]
) -> None:
    graph.script = {"11": [failure]}
    notify(11)
    assert work(town, once=True).put_off == 1
    assert counted(town)["submission"] == 0
    assert work(town, once=True) == Done()  # not before its pause is over
    assert work(town, once=True, now_us=later(5)).pushes == 1
    assert counted(town)["submission"] == 1


def test_what_could_be_fetched_goes_in_and_the_rest_is_asked_for_again(
    town: Settings, graph: Graph, notify: Callable[..., None]
) -> None:
    graph.script = {"12": [(400, {"error": {"code": 100, "message": "Nora Brook"}})]}
    notify(11, 12, 13)
    assert work(town, once=True).put_off == 1
    assert counted(town)["submission"] == 2
    (row,) = rows_of(town, pushed)
    assert row.failure == "not all leads could be fetched: HTTP 400, Graph error 100"
    assert work(town, once=True, now_us=later(5)).pushes == 1
    assert counted(town)["submission"] == 3


def test_a_token_that_is_refused_is_not_tried_on_every_lead(
    town: Settings, graph: Graph, notify: Callable[..., None]
) -> None:
    graph.script = {"11": [(401, {"error": {"code": 190}})]}
    notify(11, 12)
    assert work(town, once=True).put_off == 1
    assert len(graph.asked) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "no access_token"),
        ('access_token = "t"\nurl = "http://example.com"', "only https"),
    ],
)
def test_a_feed_file_that_cannot_fetch_says_so(
    town: Settings, notify: Callable[..., None], lines: str, said: str
) -> None:
    town.feeds_file.write_text(LIVE["feeds"](meta_leads=lines))
    notify(11)
    assert work(town, once=True).put_off == 1
    assert said in rows_of(town, pushed)[0].failure


def test_a_body_of_metas_that_names_no_lead_is_parsed_as_it_is(
    town: Settings, notify: Callable[..., None]
) -> None:
    push(town, json.dumps({"data": [lead_object("21")]}).encode(), "meta_leads")
    assert work(town, once=True).pushes == 1
    assert counted(town)["submission"] == 1


def test_the_schema_of_small_pushes_is_judged_when_it_has_gathered_long_enough(
    home: Settings,
) -> None:
    engine = open_room(home, "leads")
    rows = pd.DataFrame({"price": [str(each) for each in range(60)]})
    came_us, minute_us = 1_700_000_000_000_000, 60_000_000
    with writing(engine) as connection:
        watch.check(connection, "town", "feed", "b1", 1, rows, {"price": "number"}, came_us)
    closed = select(schema_profile.c.closed)
    for minutes, expected in ((14, False), (16, True)):
        work(home, once=True, now_us=lambda now=came_us + minutes * minute_us: now)
        with engine.connect() as connection:
            assert connection.execute(closed).scalar_one() is expected
    engine.dispose()
