"""The packaged champion on the sample: memory of a worker and of the master, latency.

Serves what the last `make demo` of this checkout made (and makes it where it is missing).
One client asks for ranking after ranking, so the latency is that of an unloaded service.
"""

from __future__ import annotations

import json
import statistics
import time

import httpx
import psutil

from aiqleads.customer import make_keys, serving
from aiqleads.demo import MARKET, run_demo
from aiqleads.settings import Settings

REQUESTS = 400
MB = 2**20


def main() -> None:
    settings = Settings()
    run_demo(settings)
    keys = make_keys(settings, MARKET)
    with serving(settings) as address, httpx.Client(base_url=address, timeout=30) as http:
        bearer = {"Authorization": f"Bearer {keys.operator}"}
        seconds = []
        for number in range(REQUESTS + 40):
            body = {"agent_id": keys.agents[number % len(keys.agents)], "k": 20}
            started = time.perf_counter()
            http.post("/v1/recommendations", json=body, headers=bearer).raise_for_status()
            seconds.append(time.perf_counter() - started)
        seen = http.get("/v1/admin/process", headers=bearer).json()
        worker = psutil.Process(seen["pid"])
        master = worker.parent()
        milliseconds = sorted(1000 * each for each in seconds[40:])
        report("serving.recommendation_p50", statistics.median(milliseconds), "ms", None)
        report("serving.recommendation_p95", milliseconds[int(0.95 * REQUESTS)], "ms", 200)
        report("serving.worker_rss", seen["rss_bytes"] / MB, "MB", 320)
        report("serving.master_rss", (master.memory_info().rss if master else 0) / MB, "MB", None)


def report(name: str, value: float, unit: str, goal: float | None) -> None:
    figure = {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "peer": None,
        "peer_value": None,
        "ratio": None,
        "goal": "" if goal is None else f"<= {goal} {unit}",
        "ok": goal is None or value <= goal,
        "n": REQUESTS if unit == "ms" else 1,
        "headline": goal is not None,
    }
    print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
