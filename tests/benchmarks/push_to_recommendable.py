"""How long a pushed lead takes from its 202 until it is recommended to an agent.

The whole sample as a live market (tests/live_market.py), the service under uvicorn and
`aiqleads work`, each a process of its own. Leads with a ZIP and no address are pushed one by
one and asked for through POST /v1/recommendations by the operator's key, for an agent of the
highest tier whose territory holds the ZIP's centroid, until they are in the answer.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from aiqleads.domain import Tier
from aiqleads.geo.grid import cells, parent
from aiqleads.ingest.people import zip_points
from aiqleads.settings import Settings
from aiqleads.store import agents
from aiqleads.store.database import open_room
from aiqleads.store.frames import read_frame

HERE = Path(__file__).resolve().parent
LIVE = runpy.run_path(str(HERE.parent / "live_market.py"))
AGENTS, PUSHES, GOAL_S, GIVE_UP_S = 40, 5, 60.0, 180.0
RESOLUTION = 8
SERVE = """
import sys, uvicorn
from pathlib import Path
from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.settings import Settings
settings = Settings()
app = create_app(ServiceState.open(settings, settings.home / "scorer"))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""
WORK = "import sys; from aiqleads.cli import main; sys.argv[0] = 'aiqleads'; main()"


def main(rows: int | None = None) -> None:
    """Prints the figure; rows: of the sample, all of them where not given."""
    with tempfile.TemporaryDirectory(prefix="aiqleads-push-") as folder:
        settings = LIVE["build"](Path(folder), dt.datetime.now(dt.UTC), rows, AGENTS)
        agent_id, zip_code = buyer(settings)
        engine = open_room(settings, "commerce")
        key = agents.create_key(engine, None, tuple(agents.SCOPES), 0)[0]
        engine.dispose()
        with running(settings) as http:
            http.headers["Authorization"] = f"Bearer {key}"
            seconds = [pushed(http, each, agent_id, zip_code) for each in range(PUSHES)]
            leads = len(read_frame(settings, LIVE["NAME"], "leads", ["lead_id"]))
    report(seconds, leads)


def buyer(settings: Settings) -> tuple[str, str]:
    """An agent whose leads show at once, and a ZIP whose centroid is in its territory."""
    people = read_frame(settings, LIVE["NAME"], "agents")
    codes, places = zip(*zip_points().items(), strict=True)
    lon, lat = np.array(places, dtype=float).T
    around = parent(cells(lon, lat), RESOLUTION)
    for agent in people[people["tier"] == str(Tier.ENTERPRISE)].itertuples():
        mine = {int(cell) for cell in agent.territory}
        found = [code for code, cell in zip(codes, around.tolist(), strict=True) if cell in mine]
        if found:
            return str(agent.agent_id), str(found[0])
    raise LookupError("no agent of the highest tier has a ZIP's centroid in its territory")


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[httpx.Client]:
    """The service and the worker; a client of the service."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "AIQLEADS_HOME": str(settings.home), "OMP_NUM_THREADS": "1"}
    commands = ([SERVE, str(port)], [WORK, "work"])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", *each],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in commands
    ]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            wait_for_both(http, processes)
            yield http
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)


def wait_for_both(http: httpx.Client, processes: list[subprocess.Popen[bytes]]) -> None:
    """Until the service answers and the worker was seen."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("the service or the worker ended at its start")
        with contextlib.suppress(httpx.TransportError):
            text = http.get("/metrics").text
            if "heartbeat_age_seconds" in text and "heartbeat_age_seconds +Inf" not in text:
                return
        time.sleep(0.5)
    raise TimeoutError("the service or the worker did not start")


def pushed(http: httpx.Client, number: int, agent_id: str, zip_code: str) -> float:
    """Seconds from the 202 of one lead until it is recommended.

    Each has a price that no home of the sample is near to, so that the answer to a ranking
    within that price is this lead or nothing.
    """
    dollars = (20 + number) * 1_000_000
    body: bytes = LIVE["google_lead"](number, zip_code, dollars)
    answer = http.post("/v1/feeds/google_leads", content=body)
    accepted = time.perf_counter()
    if answer.status_code != 202 or recommended(http, agent_id, dollars):
        raise RuntimeError(f"the push was answered {answer.status_code}, or was there before")
    while time.perf_counter() - accepted < GIVE_UP_S:
        if recommended(http, agent_id, dollars):
            return time.perf_counter() - accepted
        time.sleep(0.2)
    raise TimeoutError("the lead was not recommended")


def recommended(http: httpx.Client, agent_id: str, dollars: int) -> bool:
    """Whether a lead of about this price is recommended to the agent now."""
    between = {
        "min_price_cents": dollars * 100 - 10_000_000,
        "max_price_cents": dollars * 100 + 10_000_000,
    }
    body: dict[str, Any] = {"agent_id": agent_id, "k": 10, "filters": between}
    answer = http.post("/v1/recommendations", json=body).raise_for_status().json()
    return bool(answer["items"])


def report(seconds: list[float], leads: int) -> None:
    for name, value in (("p50", statistics.median(seconds)), ("max", max(seconds))):
        figure = {
            "name": f"feeds.push_to_recommendable_{name}",
            "value": round(value, 1),
            "unit": "s",
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "goal": f"<= {GOAL_S:g} s",
            "ok": value <= GOAL_S,
            "n": len(seconds),
            "leads": leads,
            "headline": name == "max",
        }
        print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
