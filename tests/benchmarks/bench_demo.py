"""`make demo` as a newcomer runs it: a fresh clone without an environment, then once more.

Peak memory is the sum of the proportional set sizes (PSS) of all processes of the run, so
that shared pages count once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
MB = 2**20


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="aiqleads-demo-"))
    clone = folder / "aiqleads"
    try:
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIQLEADS_")}
        environment.pop("VIRTUAL_ENV", None)
        install, _ = measure(["make", "install"], clone, environment)
        first, peak = measure(["make", "demo"], clone, environment)
        second, _ = measure(["make", "demo"], clone, environment)
        report("demo.first_run_with_installation", install + first, "s", 600)
        report("demo.first_run", first, "s", 240)
        report("demo.second_run", second, "s", 60)
        report("demo.peak_pss", peak / MB, "MB", 2500)
    finally:
        shutil.rmtree(folder)


def measure(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, int]:
    """Seconds of a command and the largest sum of PSS (bytes) seen over its processes."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=sys.stderr, stderr=sys.stderr
    )
    while process.poll() is None:
        peak = max(peak, total_pss(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, peak


def total_pss(pid: int) -> int:
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def report(name: str, value: float, unit: str, goal: float) -> None:
    figure = {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "peer": None,
        "peer_value": None,
        "ratio": None,
        "goal": f"<= {goal} {unit}",
        "ok": value <= goal,
        "n": 1,
        "headline": True,
    }
    print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
