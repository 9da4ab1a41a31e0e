"""`make soak [NAME=group]`: runs every *_<group>.py beside this file, hours in all.

Each script prints one JSON object as its last line, with `ok`; together they are
reports/soak/<group>-<date>.json. A script that was `ok` today with the same sources is not
run again, and those that can go on where they were killed do so themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REPORTS = ROOT / "reports" / "soak"
#: what a script's name begins with; the rest is its group
KINDS = {"fault", "fuzz", "kill", "leak", "machine", "mutant", "parity", "race"}


def main(groups: list[str]) -> int:
    scripts: dict[str, list[Path]] = {}
    for path in sorted(HERE.glob("*_*.py")):
        if path.stem.split("_")[0] in KINDS:
            scripts.setdefault(path.stem.split("_", 1)[1], []).append(path)
    unknown = sorted(set(groups) - set(scripts))
    if unknown:
        print(f"no such soak: {unknown[0]}; there are {', '.join(scripts)}", file=sys.stderr)
        return 2
    results = [soak(group, scripts[group]) for group in groups or scripts]
    return int(not all(results))


def soak(group: str, scripts: list[Path]) -> bool:
    """Runs the scripts of a group that are not done for today; True where all are ok."""
    day = datetime.now(UTC).date().isoformat()
    report, digest = REPORTS / f"{group}-{day}.json", source_digest()
    said: dict[str, Any] = json.loads(report.read_text()) if report.is_file() else {}
    if said.get("sources") != digest:
        said = {"group": group, "day": day, "cores": os.cpu_count(), "sources": digest}
        said["scripts"] = {}
    for script in scripts:
        if said["scripts"].get(script.stem, {}).get("ok"):
            continue
        said["scripts"][script.stem] = run(script)
        said["ok"] = all(said["scripts"].get(each.stem, {}).get("ok") for each in scripts)
        REPORTS.mkdir(parents=True, exist_ok=True)
        part = report.with_suffix(".part")
        part.write_text(json.dumps(said, indent=1) + "\n")
        part.replace(report)
    return bool(said["ok"])


def run(script: Path) -> dict[str, Any]:
    """What a script printed last, or how it ended without a word."""
    print(f"{script.stem} begins", file=sys.stderr, flush=True)
    process = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    lines = process.stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {"ok": False, "ended_with": process.returncode}
    print(lines[-1][:2_000], flush=True)
    result: dict[str, Any] = json.loads(lines[-1])
    return {**result, "ok": bool(result.get("ok")) and process.returncode == 0}


def source_digest() -> str:
    """A change of any module, of a soak or of what it measures with begins anew."""
    digest = hashlib.sha256()
    for path in sorted(
        [*(ROOT / "src").rglob("*.py"), *HERE.glob("*.py"), *HERE.parent.glob("*.py")]
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
