"""The built bento, moved elsewhere and served by an environment that holds only its lock."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest

from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ranking.scorer import Scorer
from aiqleads.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HEAVY = {
    "mlflow", "evidently", "keplergl", "papermill", "geopandas", "pandera", "sklearn", "ibis",
    "duckdb", "pyarrow", "matplotlib", "typer", "IPython",
}  # fmt: skip
WORKER_LIMIT_BYTES = 320 * 2**20
RACES = 1_000


def test_the_environment_has_neither_mlflow_nor_the_repository(
    live: Any, fresh_python: Path, tmp_path: Path
) -> None:
    for name in ("mlflow", "evidently", "duckdb", "aiqleads"):
        code = f"import importlib.util as u; raise SystemExit(u.find_spec('{name}') is not None)"
        assert subprocess.run([fresh_python, "-c", code], cwd=tmp_path, check=False).returncode == 0
    for worker in live.process.children(recursive=True):
        assert not Path(worker.cwd()).is_relative_to(Path(__file__).parents[2])
        assert not any(str(Path(__file__).parents[2]) in one for one in worker.cmdline()[1:])


def test_a_thousand_scores_are_bit_identical(live: Any, serving_world: dict[str, Any]) -> None:
    X = serving_world["feature_rows"](1_000, np.random.default_rng(17))
    assert np.isnan(X).any()
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in X]
    status, body = live.connection(None).ask("POST", "/v1/score", {"rows": rows})
    assert status == 200
    library = Scorer.load(live.settings.home / "scorer").model
    expected = library.predict(X, prediction_type="RawFormulaVal", thread_count=1)
    assert body["scores"] == expected.tolist()


def test_workers_stay_light(live: Any) -> None:
    agent = live.connection("A0003")
    status, ranking = agent.ask("POST", "/v1/recommendations", {"agent_id": "A0003", "k": 5})
    assert status == 200
    credit = {"amount_cents": 50_000, "payment_method": "pm_card_visa"}
    assert agent.ask("POST", "/v1/wallet/topups", credit, once="light-t")[0] == 201
    lead = {"lead_ids": [ranking["items"][0]["lead_id"]]}
    status, held = agent.ask("POST", "/v1/cart/holds", lead, once="light-h")
    assert status == 201
    bought = agent.ask("POST", "/v1/checkout", {"hold_ids": [held["hold_id"]]}, once="light-c")
    assert bought[1]["state"] == "paid"
    workers = live.workers()
    assert len(workers) == 2
    assert any("stripe" in told["modules"] for told in workers.values())
    for told in workers.values():
        assert not HEAVY.intersection(told["modules"])
        assert told["rss_bytes"] <= WORKER_LIMIT_BYTES
    assert live.process.memory_info().rss <= WORKER_LIMIT_BYTES


def test_only_the_probes_are_bentomls(live: Any) -> None:
    connection = live.connection(None)
    for path in ("/livez", "/readyz", "/healthz"):
        assert connection.ask("GET", path) == (200, "\n")
        assert connection.ask("POST", path)[0] == 405
    for path in ("/docs.json", "/schema.json", "/", "/nope", "/static_content/index.css"):
        for method in ("GET", "POST"):
            status, body = connection.ask(method, path)
            assert (status, body["status"]) == (404, 404)
    assert connection.ask("GET", "/openapi.json")[1]["openapi"].startswith("3.1")


def test_metrics_are_of_all_workers(live: Any) -> None:
    for pid in live.workers():
        assert pid
    text = live.connection(None).ask("GET", "/metrics")[1]
    line = next(
        line
        for line in text.splitlines()
        if line.startswith("aiqleads_http_requests_total") and "/v1/admin/process" in line
    )
    assert float(line.rsplit(" ", 1)[1]) >= 2
    assert 'pid="' not in line


def on_both_workers(live: Any, agent_ids: tuple[str, str]) -> list[Any]:
    """A connection for each agent, on different workers (an agent's key may not ask for pids)."""
    found: dict[int, Any] = {}
    keys = [live.key(agent_id) for agent_id in agent_ids]
    operator = live.key(None)
    for _ in range(200):
        connection = live.connection(None)
        connection.key = operator
        found.setdefault(connection.ask("GET", "/v1/admin/process")[1]["pid"], connection)
        if len(found) == 2:
            break
    assert len(found) == 2
    for connection, key in zip(found.values(), keys, strict=True):
        connection.key = key
    return list(found.values())


def test_of_two_agents_exactly_one_wins_each_lead(live: Any) -> None:
    agents = ("A0003", "A0006")  # enterprise: they see every lead
    for agent_id in agents:
        connection = live.connection(agent_id)
        for number in range(15):
            credit = {"amount_cents": 1_000_000, "payment_method": "pm_card_visa"}
            assert connection.ask("POST", "/v1/wallet/topups", credit, once=f"r{number}")[0] == 201
    connections = on_both_workers(live, agents)
    leads = leads_on_offer(connections[0])[:RACES]
    assert len(leads) == RACES
    outcomes: list[dict[str, tuple[int, Any]]] = [{}, {}]
    start = threading.Barrier(2, timeout=60)

    def run(side: int) -> None:
        for number, lead in enumerate(leads):
            start.wait()
            ask = connections[side].ask
            status, held = ask("POST", "/v1/cart/holds", {"lead_ids": [lead]}, once=f"h{number}")
            if status == 201:
                body = {"hold_ids": [held["hold_id"]]}
                status, held = ask("POST", "/v1/checkout", body, once=f"c{number}")
            outcomes[side][lead] = (status, held)

    threads = [threading.Thread(target=run, args=(side,)) for side in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    wins = [0, 0]
    for lead in leads:
        both = [outcomes[side][lead] for side in range(2)]
        won = [side for side in range(2) if both[side][0] == 201]
        assert len(won) == 1, both
        status, order = both[won[0]]
        assert order["state"] == "paid"
        assert [item["lead_id"] for item in order["items"]] == [lead]
        status, refusal = both[1 - won[0]]
        assert status == 409
        kind = refusal["type"].rsplit("/", 1)[1]
        assert kind in ("lead-already-held", "lead-sold")
        assert set(refusal) >= {"type", "title", "status", "detail"}
        wins[won[0]] += 1
    assert sum(wins) == RACES
    status, found = live.connection(None).ask("GET", "/v1/admin/invariants")
    assert status == 200
    assert found["ledger_total_cents"] == 0
    assert found["ok"] is True, found
    for connection, agent_id in zip(connections, agents, strict=True):
        wallet = connection.ask("GET", "/v1/wallet")[1]
        assert wallet["agent_id"] == agent_id
        assert 0 <= wallet["balance_cents"] < 15_000_000


def leads_on_offer(connection: Any) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = connection.ask("GET", f"/v1/leads?limit=100{cursor}")[1]
        found += [item["lead_id"] for item in page["items"] if item["available"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_a_start_without_a_home_ends_with_one_line_and_code_2(
    built: tuple[Settings, Path], fresh_python: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [fresh_python.parent / "bentoml", "serve", built[1], "--port", "0"],
        env={
            "PATH": os.environ["PATH"],
            "AIQLEADS_HOME": str(tmp_path / "nothing"),
            "BENTOML_HOME": str(tmp_path / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "true",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("aiqleads: ")]
    assert "commerce.db" in line
    assert "Traceback" not in done.stderr + done.stdout


def test_serve_starts_what_was_packaged_and_sigterm_leaves_nothing(
    packaging: ModuleType, serving_world: dict[str, Any], tmp_path: Path
) -> None:
    settings = serving_world["build"](tmp_path / "home")
    tag, path = packaging.package(settings, settings.home / "scorer")
    assert packaging.package(settings, settings.home / "scorer") == (tag, path)
    assert (path / "src" / "scorer" / "model.cbm").is_file()
    assert (path / "src" / "requirements-serving.lock").is_file()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"port {port}"):
            packaging.serve(settings, tag, port)
    with pytest.raises(NotReady, match="aiqleads package"):
        packaging.serve(settings, "marketplace:none", port)
    master = psutil.Process(packaging.serve(settings, tag, port, workers=1).pid)
    try:
        answer = _first_answer(port)
        family = [master, *master.children(recursive=True)]
        assert answer == 200
    finally:
        master.terminate()
    _gone, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def _first_answer(port: int) -> int:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            time.sleep(0.2)
    return 0


def test_a_bento_is_not_built_without_its_parts(
    packaging: ModuleType, home: Settings, tmp_path: Path
) -> None:
    with pytest.raises(NotReady, match=r"model\.cbm"):
        packaging.package(home, tmp_path)
