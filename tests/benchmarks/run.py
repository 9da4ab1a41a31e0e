"""`make bench [NAME=group]`: runs bench_<group>.py and keeps their figures.

Each script prints JSON lines {name, value, unit, peer, peer_value, ratio, goal, ok, n};
they replace the lines of the same name in reports/benchmarks.json, with the day and the
machine's size beside them. docs/generate.py makes docs/benchmarks.md from that file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "reports" / "benchmarks.json"
FIELDS = ("name", "value", "unit", "peer", "peer_value", "ratio", "goal", "ok", "n")


def main(names: list[str]) -> int:
    scripts = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    unknown = sorted(set(names) - set(scripts))
    if unknown:
        print(f"no such bench: {unknown[0]}; there are {', '.join(scripts)}", file=sys.stderr)
        return 2
    failed = False
    for name in names or list(scripts):
        failed |= not run(name, scripts[name])
    return int(failed)


def run(group: str, script: Path) -> bool:
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    measured = []
    for line in process.stdout or ():
        print(line, end="", flush=True)
        if line.startswith("{"):
            measured.append({"group": group, **json.loads(line), **_where()})
    if process.wait() == 0:
        keep(measured)
    return process.returncode == 0


def keep(measured: list[dict[str, object]]) -> None:
    for figure in measured:
        missing = [name for name in FIELDS if name not in figure]
        if missing:
            raise ValueError(f"{figure.get('name')}: no {', '.join(missing)}")
    old = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    names = {figure["name"] for figure in measured}
    rows = [row for row in old if row["name"] not in names] + measured
    rows.sort(key=lambda row: str(row["name"]))
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def _where() -> dict[str, object]:
    return {"day": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
